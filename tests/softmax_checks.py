"""What the tests of softmax and log_softmax share: cases, torch's answers, error bounds.

S of the bound 8 u S, with t = input - greatest: t is rounded (u |t|), and exp turns that into a
relative error; so do the parts of the sum. `spread` bounds |t|.
"""

from __future__ import annotations

import numpy as np
import torch

from tests.kernel_checks import tensor
from tests.kernel_inputs import laid_out, normal

CASES = {
    "vector": ((7,), 0),
    "no dimensions": ((), -1),
    "few classes": ((37, 10), 1),
    "many short rows": ((900, 5), -1),
    "one class": ((5, 1), 1),
    "many classes": ((5, 133), 1),
    "more than a block": ((3, 4500), 1),
    "first dimension": ((9, 130), 0),
    "channels": ((2, 21, 9, 13), 1),
    "rows of images": ((2, 3, 50, 3), -2),
    "columns of images": ((2, 3, 4, 70), 3),
}
"""Shape and dim."""

ODD_ROWS = np.array(
    [
        [0.0, 1e4, -1e4, 9999.0],
        [-1e4, -1e4, -1e4, -1e4],
        [np.inf, 0.0, 1.0, 2.0],
        [-np.inf, 0.0, -np.inf, 1.0],
        [-np.inf, -np.inf, -np.inf, -np.inf],
        [np.nan, 0.0, 1.0, 2.0],
        [0.0, 1.0, 2.0, -np.nan],
        [np.inf, np.inf, -np.inf, 0.0],
        [-88.0, 0.0, -103.5, -120.0],
        [-0.0, 0.0, -0.0, 0.0],
    ]
)

FAR_APART = np.array([[3e38, -3e38, 0.0], [-3e38, 1.0, 2.0]], np.float32)
"""Logits whose differences are infinite in float32; NumPy warns of such (warnings are errors)."""


def drawn(shape, dtype, memory="contiguous"):
    """An input with logits some units apart, and a gradient of the output."""
    rng = np.random.default_rng(len(shape))
    return [laid_out(np.asarray(factor * normal(rng, shape, "float64"), dtype), memory)
            for factor in (4, 1)]  # fmt: skip


def by_torch(name, x, dim, grad_output):
    """Output and gradient of the input, by autograd in float64."""
    given = tensor(x).double().requires_grad_()
    output = getattr(torch, name)(given, dim)
    (grad,) = torch.autograd.grad(output, given, tensor(grad_output).double())
    return output.detach().numpy(), grad.numpy()


def spread(x, dim):
    """How far the logits lie apart, and one."""
    x = np.atleast_1d(x.astype(np.float64))
    return np.ptp(x, dim, keepdims=True).reshape(-1).max() + 1


def as_rows(width):
    """ODD_ROWS, repeated behind themselves to that many classes."""
    return np.tile(ODD_ROWS, (1, width // ODD_ROWS.shape[1]))
