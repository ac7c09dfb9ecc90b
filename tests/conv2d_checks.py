"""What the tests of conv2d share: calls, who claims them, torch's answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from tests.kernel_checks import assert_equal, operator, tensor
from tests.kernel_inputs import integers, laid_out

MARKS = [
    pytest.mark.usefixtures("torch_on_one_thread"),
    # torch says so of its own padding "same"; ours pads alike, and says nothing.
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]
"""Of every file that takes CASES."""

IMPLEMENTATIONS = kernels.names("conv2d")
NAMES = ("input", "weight", "bias")


@dataclass(frozen=True)
class Case:
    """Shapes and arguments of one call."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


CASES = {
    "3x3": Case((2, 3, 6, 5), (4, 3, 3, 3), {"padding": 1}),
    "3x3, padding > kernel": Case((1, 3, 4, 5), (4, 3, 3, 3), {"padding": (4, 5)}),
    "3x3 unpadded": Case((1, 5, 7, 6), (3, 5, 3, 3)),
    "3x3, more channels than a vector": Case((1, 19, 5, 9), (37, 19, 3, 3), {"padding": 1}),
    "3x3, full vectors": Case((2, 32, 7, 15), (64, 32, 3, 3), {"padding": 1}),
    "3x3 of stride 2": Case((2, 16, 9, 8), (32, 16, 3, 3), {"stride": 2, "padding": 1}),
    "1x1": Case((2, 6, 5, 4), (7, 6, 1, 1)),
    "1x1 of stride 2": Case((2, 20, 5, 6), (17, 20, 1, 1), {"stride": 2}),
    "7x7 of stride 2": Case((1, 3, 17, 16), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "one channel, 5x5": Case((3, 1, 11, 12), (6, 1, 5, 5), {"padding": 2}),
    "kernel = image": Case((2, 3, 4, 5), (4, 3, 4, 5)),
    "stride > kernel": Case((2, 2, 8, 9), (3, 2, 2, 2), {"stride": 3}),
    "all different": Case(
        (2, 2, 11, 13), (3, 2, 3, 2), {"stride": (2, 1), "padding": (1, 3), "dilation": (1, 3)}
    ),
    "padding > kernel": Case((1, 2, 3, 3), (2, 2, 2, 2), {"padding": 3}),
    "kernel > image": Case((2, 3, 2, 1), (2, 3, 5, 3), {"padding": (2, 1)}),
    "one pixel, 3x3": Case((2, 3, 1, 1), (4, 3, 3, 3), {"padding": 1}),
    "last rows unread": Case((1, 2, 10, 10), (2, 2, 3, 3), {"stride": 4}),
    "2 groups": Case((2, 6, 5, 6), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": Case((2, 20, 6, 5), (20, 1, 3, 3), {"groups": 20, "padding": 1}),
    "depthwise, 2 each": Case((1, 3, 6, 5), (6, 1, 2, 3), {"groups": 3, "stride": 2}),
    "valid": Case((1, 2, 5, 6), (3, 2, 3, 2), {"padding": "valid", "stride": [2, 1]}),
    "same": Case((2, 3, 6, 5), (4, 3, 3, 5), {"padding": "same"}),
    "same, even kernel": Case((2, 3, 5, 6), (4, 3, 4, 2), {"padding": "same"}),
    "same, even kernel, dilated": Case(
        (1, 4, 6, 5), (4, 2, 2, 4), {"padding": "same", "dilation": (3, 1), "groups": 2}
    ),
}


def claims(implementation, case):
    """Whether the implementation says that it does such a call."""
    if implementation != "winograd":
        return True
    given = case.arguments
    plain = all(given.get(name, 1) == 1 for name in ("stride", "dilation", "groups"))
    return plain and case.weight[2:] == (3, 3)


PAIRS = [(name, case) for name in IMPLEMENTATIONS for case in CASES]
CLAIMED = [pair for pair in PAIRS if claims(pair[0], CASES[pair[1]])]
LONG = {
    "3x3, more channels than a vector",
    "3x3, full vectors",
    "7x7 of stride 2",
    "1x1 of stride 2",
    "2 groups",
    "depthwise",
    "same, even kernel, dilated",
}
"""Cases whose sums are long, or take the parts that differ between algorithms."""

each_claimed = pytest.mark.parametrize(("implementation", "case"), CLAIMED)
each_long = pytest.mark.parametrize(
    ("implementation", "case"), [pair for pair in CLAIMED if pair[1] in LONG]
)
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def conv2d(implementation, threads=None):
    return operator("conv2d", implementation, threads)


def drawn(case, draw, dtype, memory="contiguous", seed=0):
    """input, weight, bias and the output's gradient."""
    rng = np.random.default_rng(seed)
    shapes = [case.input, case.weight, case.weight[:1]]
    shapes.append(F.conv2d(*map(torch.zeros, shapes), **case.arguments).shape)
    return [laid_out(draw(rng, tuple(shape), dtype), memory) for shape in shapes]


def by_torch(case, x, weight, bias, grad_output):
    """Output and gradients by torch and its autograd, in the arrays' dtype."""
    given = [tensor(array).requires_grad_() for array in (x, weight, bias)]
    output = F.conv2d(*given, **case.arguments)
    return output.detach(), torch.autograd.grad(output, given, tensor(grad_output))


def float64(arrays):
    return [array.astype(np.float64) for array in arrays]


def draw_call(shape, weight, dtype, draw, memory="channels_last"):
    """input, weight and bias."""
    rng = np.random.default_rng(0)
    given = (draw(rng, shape, dtype), draw(rng, weight, dtype), draw(rng, weight[:1], dtype))
    return tuple(laid_out(array, memory) for array in given)


def exact(given, arguments):
    """torch's output, a gradient for it, and what torch makes of that."""
    leaves = [tensor(array.copy()).requires_grad_() for array in given]
    output = F.conv2d(*leaves, **arguments)
    grad = integers(np.random.default_rng(1), tuple(output.shape), given[0].dtype)
    grads = torch.autograd.grad(output, leaves, torch.from_numpy(grad))
    return output.detach().numpy(), grad, [each.numpy() for each in grads]


def assert_exact(conv, given, arguments):
    """Output and gradients are torch's, of whole numbers."""
    output, grad, grads = exact(given, arguments)
    assert_equal(conv.forward(*given, **arguments), output)
    ours = conv.backward(grad, *given, **arguments)
    for name, actual, expected in zip(NAMES, ours, grads, strict=True):
        assert actual.shape == expected.shape, name
        np.testing.assert_array_equal(actual, expected, err_msg=name)
