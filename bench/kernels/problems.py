"""A case's arrays, its result, and how far a right result may be from that.

The truth is torch's in float64. An error of 8 u S is allowed, where u is float32's unit roundoff
and S the same operator on absolute values (Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd ed., section 3.1, with a constant that random signs make ample). What is no sum of
products has its roundings counted one by one (`_scale`). What only selects is exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bench.kernels.cases import CASES, Case

Array = NDArray[Any]
FACTOR = 8
UNIT = float(np.finfo(np.float32).eps) / 2


@dataclass(frozen=True)
class Problem:
    """What goes in, and what has to come out."""

    arguments: Mapping[str, Any]
    """By torch's names; arrays in channels-last memory where they have four dimensions."""
    grad_output: Array | None
    """Of a case that is a gradient."""
    expected: Array
    """float32, the truth rounded."""
    allowed: Array
    """The largest |actual - expected|, element by element."""

    def rounding(self, expected: Array) -> Array:  # noqa: ARG002 - it is made for this one
        """8 u S."""
        return self.allowed

    def torchs_rounding(self, expected: Array) -> Array:
        """8 u S, for statistics of a batch sqrt(n) u S."""
        if not self.arguments.get("training"):
            return self.rounding(expected)
        # torch adds n squares, all of one sign, one after another in float32
        count = expected.size // expected.shape[1]
        return self.allowed * np.float32(max(1.0, math.sqrt(count) / FACTOR))


@functools.lru_cache(maxsize=len(CASES))
def problem_of(case_name: str) -> Problem:
    """Made once a process, for every pass measures every case."""
    case = CASES[case_name]
    rng = np.random.default_rng(1)
    arrays = {name: _made(rng, case, name, shape) for name, shape in case.shapes.items()}
    grad_output = _made(rng, case, "grad_output", case.output) if case.gradient else None
    wide = {name: torch.from_numpy(array) for name, array in arrays.items()}
    wide |= {name: t.double() for name, t in wide.items() if t.is_floating_point()}
    wide_grad = None if grad_output is None else torch.from_numpy(grad_output).double()
    with torch.inference_mode():
        exact = torch_call(case, wide, wide_grad)()
        scale = _scale(case, wide, wide_grad, exact)
        expected = exact.float()
        allowed = FACTOR * UNIT * scale - (expected - exact).abs()
    return Problem(
        arguments=arrays | dict(case.arguments),
        grad_output=grad_output,
        expected=expected.numpy(),
        allowed=allowed.clamp(min=0).float().numpy(),
    )


def torch_call(
    case: Case, tensors: Mapping[str, Tensor], grad_output: Tensor | None
) -> Callable[[], Tensor]:
    """torch's own function of these tensors, or the gradient as its autograd computes it."""
    if case.gradient is None:
        function = torch.add if case.operator == "add" else getattr(F, case.operator)
        return functools.partial(function, **tensors, **case.arguments)
    place = ("input", "weight").index(case.gradient)
    stride, padding = case.arguments["stride"], case.arguments["padding"]
    arguments = (
        *(grad_output, tensors["input"], tensors["weight"], None),
        *([stride, stride], [padding, padding], [1, 1], False, [0, 0], 1),
        [place == 0, place == 1, False],
    )

    def gradient() -> Tensor:
        wanted: Tensor = torch.ops.aten.convolution_backward(*arguments)[place]
        return wanted

    return gradient


def _made(rng: np.random.Generator, case: Case, name: str, shape: tuple[int, ...]) -> Array:
    if name == "target":
        return rng.integers(0, case.shapes["input"][1], shape)
    array = rng.standard_normal(shape, np.float32)
    if name == "running_var":
        return array**2 + np.float32(0.5)
    if array.ndim != 4:
        return array
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _scale(
    case: Case, given: Mapping[str, Tensor], grad_output: Tensor | None, exact: Tensor
) -> Tensor:
    """S, of the result's shape and in float64."""
    if case.operator in ("relu", "max_pool2d"):
        return torch.zeros_like(exact)
    if case.operator == "batch_norm":
        return _batch_norm_scale(case, given)
    if case.operator in ("softmax", "log_softmax", "cross_entropy"):
        return _softmax_scale(case, given)
    absolute = {name: tensor.abs() for name, tensor in given.items()}
    return torch_call(case, absolute, None if grad_output is None else grad_output.abs())()


def _batch_norm_scale(case: Case, given: Mapping[str, Tensor]) -> Tensor:
    """(|x| + |mean|) f + |bias| with f = |weight| / sqrt(var + eps), in whichever order.

    In training the mean, off by its own 8 u mean(|x|), and the variance, off by 8 u of itself and
    half as much under the root, add mean(|x|) f + |x - mean| f / 2.
    """
    x = given["input"]
    mean, var = given["running_mean"], given["running_var"]
    training = case.arguments["training"]
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    factor = given["weight"].abs() / (var + 1e-5).sqrt()
    columns = (slice(None), None, None)
    sums = x.abs() + mean.abs()[columns]
    if training:
        means = x.abs().mean((0, 2, 3))[columns]
        sums = x.abs() + 2 * means + (x - mean[columns]).abs() / 2
    return sums * factor[columns] + given["bias"].abs()[columns]


def _softmax_scale(case: Case, given: Mapping[str, Tensor]) -> Tensor:
    """d = x - max is rounded, and so is the exponential of it and the sum of those.

    exp(d) is off by u (1 + |d|) of itself, the sum by the mean of that, weighted by the terms.
    """
    x = given["input"]
    distance = x.max(1, keepdim=True).values - x
    share = x.softmax(1)
    of_sum = 1 + (share * distance).sum(1, keepdim=True)
    if case.operator == "softmax":
        return share * (1 + distance + of_sum)
    logarithm = distance + of_sum + (x.logsumexp(1, keepdim=True) - x.max(1, keepdim=True).values)
    if case.operator == "log_softmax":
        return logarithm
    return logarithm.gather(1, given["target"][:, None]).mean()
