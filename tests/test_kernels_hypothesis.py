"""Every operator in every implementation against torch, on shapes, memory and arguments drawn.

What torch refuses has to be refused, in kind; the rest has to have torch's shape, dtype, memory
order and values, forward and backward. How calls are drawn: `tests.drawn_calls`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.configuration import set_hypothesis_home_dir

import kernels
from tests.drawn_calls import KINDS, calls
from tests.kernel_checks import about, assert_equal, assert_order, tensor
from tests.kernel_inputs import integers, laid_out

# torch says so of its own padding "same"; ours pads alike, and says nothing.
pytestmark = [
    pytest.mark.usefixtures("torch_on_one_thread"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]

REFUSALS = (ValueError, TypeError, IndexError)

# The same examples in every run, none kept: a test that fails here fails everywhere.
drawn = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_written_into_the_tree(tmp_path_factory):
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    yield
    set_hypothesis_home_dir(None)


def by_torch(kind, call, memory):
    """Output, its gradient in some memory, and the arguments' gradients."""
    given = {
        # Copies of vectors: running statistics change, and where a weight has gaps, the backward of
        # torch's batch_norm in inference reads what lies between.
        name: tensor(value.copy("K") if value.ndim == 1 else value)
        if isinstance(value, np.ndarray)
        else value
        for name, value in call.items()
    }
    for name in kind.gradients:
        if given[name] is not None:
            given[name].requires_grad_()
    output = kind.torch(**given)
    rng = np.random.default_rng(len(output.shape))
    dtype = str(output.dtype).removeprefix("torch.")
    grad_output = laid_out(integers(rng, tuple(output.shape), dtype), memory)
    wanted = [given[name] for name in kind.gradients if given[name] is not None]
    grads = iter(torch.autograd.grad(output, wanted, tensor(grad_output)))
    grads = [None if given[name] is None else next(grads) for name in kind.gradients]
    running = {name: value for name, value in given.items() if name.startswith("running")}
    return output.detach(), grad_output, grads, running


def assert_as_torch(ours, theirs, factor):
    """Shape, dtype, memory order, and values within `factor`."""
    expected = theirs.numpy()
    if factor == 0:
        assert_equal(ours, expected)
    else:
        assert ours.shape == expected.shape
        assert ours.dtype == expected.dtype
        largest = max(1.0, np.abs(expected[np.isfinite(expected)]).max(initial=0))
        allowed = factor * np.finfo(expected.dtype).eps / 2 * largest
        np.testing.assert_allclose(ours, expected, rtol=0, atol=allowed)
    assert_order(ours, theirs)


def claims(implementation, call):
    """Whether the implementation says that it does such a call."""
    if implementation != "winograd":
        return True
    plain = all(call[name] in (1, (1, 1)) for name in ("stride", "dilation", "groups"))
    return plain and call["weight"].shape[2:] == (3, 3)


def check(operator, implementation, call, memory):
    kind, ours = KINDS[operator], kernels.get(operator, implementation)
    try:
        output, grad_output, grads, running = by_torch(kind, call, memory)
    except (RuntimeError, *REFUSALS):
        with pytest.raises(REFUSALS):
            ours.forward(**call)
        return
    if not claims(implementation, call):
        with pytest.raises(NotImplementedError, match=implementation):
            ours.forward(**call)
        return
    call = {
        name: value.copy("K") if name.startswith("running") and value is not None else value
        for name, value in call.items()
    }
    assert_as_torch(ours.forward(**call), output, kind.factor)
    for name, expected in running.items():
        if expected is not None:
            with about(name):
                assert_as_torch(call[name], expected, kind.factor)
    told = ours.backward(grad_output, **call)
    told = told if isinstance(told, tuple) else (told,)
    for name, grad, expected in zip(kind.gradients, told, grads, strict=True):
        with about(f"gradient of {name}"):
            assert (grad is None) == (expected is None)
            if grad is not None and grad is grad_output:  # handed on as it is
                assert_equal(grad, expected.numpy())
            elif grad is not None:
                expected = expected.contiguous() if name in kind.contiguous else expected
                assert_as_torch(grad, expected, kind.factor)


@pytest.mark.parametrize(
    ("operator", "implementation"),
    [(operator, name) for operator in kernels.operators() for name in kernels.names(operator)],
)
def test_what_is_drawn_is_as_in_torch(operator, implementation):
    reason = kernels.get(operator, implementation).unavailable_reason()
    if reason is not None:
        pytest.skip(reason)

    @settings(drawn, max_examples=KINDS[operator].examples)
    @given(calls(operator))
    def drawn_calls_are_as_in_torch(drawn_call):
        check(operator, implementation, *drawn_call)

    drawn_calls_are_as_in_torch()


def test_every_operator_is_drawn():
    assert list(KINDS) == kernels.operators()
