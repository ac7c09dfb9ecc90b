"""What the tests of the three pooling operators share: torch beside ours, threads, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from tests.kernel_checks import laid_out, tensor

NO_FLOATS = {
    "list": (lambda array: array.tolist(), "list"),
    "tensor": (tensor, "Tensor"),
    "masked": (np.ma.masked_array, "MaskedArray"),
    "int64": (lambda array: array.astype(np.int64), "int64"),
    "half": (lambda array: array.astype(np.float16), "float16"),
    "bool": (lambda array: array.astype(bool), "bool"),
    "big-endian": (lambda array: array.astype(">f4"), ">f4"),
}


def images(draw, shape, dtype, memory="contiguous", seed=0):
    return laid_out(draw(np.random.default_rng(seed), shape, dtype), memory)


def by_torch(operator, x, draw, arguments):
    """torch's output, a gradient for it, and torch's gradient of the input."""
    given = tensor(x).requires_grad_()
    output = getattr(F, operator)(given, **arguments)
    grad_output = draw(np.random.default_rng(1), output.shape, x.dtype)
    (grad_input,) = torch.autograd.grad(output, given, torch.from_numpy(grad_output))
    return output.detach(), grad_output, grad_input


def gradcheck(operator, implementation, shape, **arguments):
    """Whether the gradient is that of finite differences, in float64."""
    ours = kernels.get(operator, implementation)

    class Pooling(torch.autograd.Function):
        @staticmethod
        def forward(ctx, given):
            ctx.save_for_backward(given)
            return torch.from_numpy(ours.forward(given.numpy(), **arguments))

        @staticmethod
        def backward(ctx, grad_output):
            (given,) = ctx.saved_tensors
            grad_output = grad_output.contiguous().numpy()
            return torch.from_numpy(ours.backward(grad_output, given.numpy(), **arguments))

    numbers = np.random.default_rng(2).permutation(np.prod(shape)).reshape(shape) / 7
    return torch.autograd.gradcheck(Pooling.apply, [torch.from_numpy(numbers).requires_grad_()])


def results(operator, implementation, threads, x, arguments):
    """Output and gradient, of a max_pool2d also indices and the gradient by those."""
    ours = kernels.get(operator, implementation, threads)
    output = ours.forward(x, **arguments)
    found = [output, ours.backward(output, x, **arguments)]
    if operator == "max_pool2d":
        values, indices = ours.forward(x, **arguments, return_indices=True)
        found += [values, indices, ours.backward(output, x, **arguments, indices=indices)]
    return found


ON_MORE_THREADS_THAN_CPUS = """
import numpy as np

from kernels import pooling
from tests import kernel_checks, pooling_checks

pooling.GRAIN = {grain}
for shape, arguments in {calls}:
    for memory in ("contiguous", "channels_last"):
        x = pooling_checks.images(kernel_checks.normal, shape, "float32", memory)
        one, *others = (
            pooling_checks.results({operator!r}, "numba_threads", threads, x, arguments)
            for threads in (1, 2, 3, 5)
        )
        one_thread = pooling_checks.results({operator!r}, "numba", None, x, arguments)
        for other in (*others, one_thread):
            assert [a.tobytes() for a in one] == [a.tobytes() for a in other]
print("equal")
"""


def assert_same_bits_for_all_threads(operator, calls):
    """In tasks so small that every call has many, and that the threads do not divide."""
    code = ON_MORE_THREADS_THAN_CPUS.format(operator=operator, calls=calls, grain=4)
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_NUM_THREADS": "5"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout == "equal\n", told.stderr


def assert_refused(operator, error, x, arguments, message):
    """By torch as RuntimeError or by that error, by ours as that error, in both directions."""
    with pytest.raises((error, RuntimeError)):
        getattr(F, operator)(tensor(x), **arguments)
    ours = kernels.get(operator, "loops")
    with pytest.raises(error, match=message):
        ours.forward(x, **arguments)
    with pytest.raises(error, match=message):
        ours.backward(x, x, **arguments)
