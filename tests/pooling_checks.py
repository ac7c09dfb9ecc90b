"""What the tests of the three pooling operators share: torch beside ours, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels
from tests.fresh_python import run_python
from tests.kernel_checks import tensor


def by_torch(name, x, draw, arguments):
    """torch's output, a gradient for it, and torch's gradient of the input."""
    given = tensor(x).requires_grad_()
    output = getattr(F, name)(given, **arguments)
    grad_output = draw(np.random.default_rng(1), output.shape, x.dtype)
    (grad_input,) = torch.autograd.grad(output, given, torch.from_numpy(grad_output))
    return output.detach(), grad_output, grad_input


ON_MORE_THREADS_THAN_CPUS = """
import kernels
from kernels import pooling
from tests.kernel_inputs import normal
from tests.pooling_cases import images, results

pooling.GRAIN = 4
for shape, arguments in {calls}:
    for memory in ("contiguous", "channels_last"):
        x = images(normal, shape, "float32", memory)
        one, *others = (
            sum(results({name!r}, kernels.get({name!r}, *how), x, arguments), [])
            for how in (("numba", None), *(("numba_threads", count) for count in (1, 2, 3, 5)))
        )
        for other in others:
            assert [a.tobytes() for a in one] == [a.tobytes() for a in other]
print("equal")
"""


def assert_same_bits_for_all_threads(name, calls):
    """In tasks so small that every call has many, and that the threads do not divide."""
    code = ON_MORE_THREADS_THAN_CPUS.format(name=name, calls=calls)
    assert run_python(code, NUMBA_NUM_THREADS="5") == "equal"


def assert_refused(name, error, x, arguments, message):
    """By torch as RuntimeError or by that error, by ours as that error, in both directions."""
    with pytest.raises((error, RuntimeError)):
        getattr(F, name)(tensor(x), **arguments)
    ours = kernels.get(name, "loops")
    with pytest.raises(error, match=message):
        ours.forward(x, **arguments)
    with pytest.raises(error, match=message):
        ours.backward(x, x, **arguments)
