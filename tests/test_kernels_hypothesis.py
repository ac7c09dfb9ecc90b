"""Every operator in every implementation against torch, on shapes, memory and arguments drawn.

What torch refuses has to be refused, in kind; the rest has to have torch's shape, dtype, memory
order and values, forward and backward. Values are small whole numbers, where ties and zeros are
common and sums of products exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

import kernels
from kernels.pytorch import torch_threads
from tests.kernel_checks import (
    DTYPES,
    FORMATS,
    about,
    assert_equal,
    assert_order,
    integers,
    laid_out,
    tensor,
)

# torch says so of its own padding "same"; ours pads alike, and says nothing.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")

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


@pytest.fixture(autouse=True, scope="module")
def _torch_on_one_thread():
    """On shapes as small as these, threads cost more than they save."""
    with torch_threads(1):
        yield


@dataclass(frozen=True)
class Kind:
    """How one operator is drawn and judged."""

    torch: Callable[..., Any]
    call: Callable[[Any], dict[str, Any]]
    """Draws the arguments by name; a tuple of sizes stands for an array of that shape."""
    gradients: tuple[str, ...] = ("input",)
    factor: int = 0
    """|ours - torch| <= factor u max(1, |largest|); 0: equal."""
    examples: int = 40


@dataclass(frozen=True)
class Shape:
    """Stands for an array of floats that has yet to be filled."""

    sizes: tuple[int, ...]


def some(draw, least, most):
    return draw(st.integers(least, most))


def one_or_two(draw, least, most):
    number = st.integers(least, most)
    return draw(st.one_of(number, st.tuples(number, number)))


def images(draw, channels=None):
    """[N, C, H, W] or [C, H, W], now and then of no images."""
    sizes = [some(draw, 1, 5) if channels is None else channels, some(draw, 1, 9), some(draw, 1, 9)]
    batch = draw(st.sampled_from([2, 1, None, 3, 0]))
    return Shape(tuple(sizes if batch is None else [batch, *sizes]))


def conv2d(draw):
    groups, depth, filters = some(draw, 1, 3), some(draw, 1, 6), some(draw, 1, 6)
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 2), (1, 4), (5, 2)]))
    padding = draw(st.sampled_from([0, 1, 2, 3, (2, 0), (0, 5), "valid", "same", "same"]))
    strides = [1, 1, 2, 3, (2, 1), (1, 4)] if padding != "same" else [1, 1, 1, 2]
    return {
        "input": images(draw, groups * depth),
        "weight": Shape((groups * filters, depth, *kernel)),
        "bias": Shape((groups * filters,)) if draw(st.booleans()) else None,
        "stride": draw(st.sampled_from(strides)),
        "padding": padding,
        "dilation": draw(st.sampled_from([1, 1, 2, 3, (1, 2)])),
        "groups": groups,
    }


def linear(draw):
    features, results = some(draw, 1, 40), some(draw, 1, 20)
    before = draw(st.lists(st.integers(0, 5), max_size=3))
    return {
        "input": Shape((*before, features)),
        "weight": Shape((results, features)),
        "bias": Shape((results,)) if draw(st.booleans()) else None,
    }


def pooling(draw):
    return {
        "input": images(draw),
        "kernel_size": one_or_two(draw, 1, 4),
        "stride": draw(st.one_of(st.none(), st.integers(1, 4), st.just((3, 1)))),
        "padding": one_or_two(draw, 0, 2),
        "ceil_mode": draw(st.booleans()),
    }


def max_pool2d(draw):
    return {**pooling(draw), "dilation": one_or_two(draw, 1, 2)}


def avg_pool2d(draw):
    return {
        **pooling(draw),
        "count_include_pad": draw(st.booleans()),
        "divisor_override": draw(st.one_of(st.none(), st.integers(1, 5))),
    }


def adaptive_avg_pool2d(draw):
    size = st.one_of(st.none(), st.integers(1, 6))
    return {
        "input": images(draw),
        "output_size": draw(st.one_of(st.integers(1, 6), st.tuples(size, size))),
    }


def any_shape(draw, least=0):
    return Shape(tuple(draw(st.lists(st.integers(0, 6), min_size=least, max_size=4))))


def relu(draw):
    return {"input": any_shape(draw)}


def softmax(draw):
    shape = any_shape(draw)
    return {"input": shape, "dim": some(draw, -len(shape.sizes) - 1, len(shape.sizes))}


def cross_entropy(draw):
    classes, smoothing = some(draw, 1, 7), draw(st.sampled_from([0.0, 0.25]))
    places = draw(st.lists(st.integers(1, 4), max_size=3))
    if draw(st.booleans()):
        target: Any = Shape((*places[:1], classes, *places[1:]))
    else:
        seed, room = some(draw, 0, 999), int(np.prod(places))
        target = np.random.default_rng(seed).integers(-1, classes, room).reshape(places)
    return {
        "input": Shape((*places[:1], classes, *places[1:])),
        "target": target,
        "weight": Shape((classes,)) if draw(st.booleans()) else None,
        "ignore_index": -1,
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": smoothing,
    }


def batch_norm(draw):
    sizes = [some(draw, 0, 3), some(draw, 1, 5), *draw(st.lists(st.integers(1, 6), max_size=2))]
    each = Shape((sizes[1],))
    training = draw(st.booleans())
    running = draw(st.booleans()) or not training
    return {
        "input": Shape(tuple(sizes)),
        "running_mean": each if running else None,
        "running_var": np.full(sizes[1], 1.75) if running else None,
        "weight": each if draw(st.booleans()) else None,
        "bias": each if draw(st.booleans()) else None,
        "training": training,
        "momentum": draw(st.sampled_from([0.1, 0.5])),
        "eps": draw(st.sampled_from([1e-5, 1.0])),
    }


def add(draw):
    sizes = any_shape(draw).sizes
    other = [1 if draw(st.integers(0, 3)) == 0 else size for size in sizes]
    return {
        "input": Shape(sizes),
        "other": Shape(tuple(other[some(draw, 0, len(other)) :])),
        "alpha": draw(st.sampled_from([1, -2, 0.5])),
    }


KINDS = {
    "conv2d": Kind(F.conv2d, conv2d, ("input", "weight", "bias"), examples=200),
    "linear": Kind(F.linear, linear, ("input", "weight", "bias")),
    "max_pool2d": Kind(F.max_pool2d, max_pool2d),
    "avg_pool2d": Kind(F.avg_pool2d, avg_pool2d, factor=8),
    "adaptive_avg_pool2d": Kind(F.adaptive_avg_pool2d, adaptive_avg_pool2d, factor=8),
    "relu": Kind(F.relu, relu),
    "softmax": Kind(F.softmax, softmax, factor=16),
    "log_softmax": Kind(F.log_softmax, softmax, factor=16),
    "cross_entropy": Kind(F.cross_entropy, cross_entropy, factor=64),
    # Where a channel hardly varies, rounding is multiplied by 1 / sqrt(eps) = 316.
    "batch_norm": Kind(F.batch_norm, batch_norm, ("input", "weight", "bias"), factor=4096),
    "add": Kind(torch.add, add, ("input", "other")),
}


@st.composite
def calls(draw, operator):
    """Arguments by name, arrays in some memory, of either dtype."""
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(some(draw, 0, 999))
    call = {}
    for name, value in KINDS[operator].call(draw).items():
        if isinstance(value, Shape):
            array = integers(rng, value.sizes, dtype)
            call[name] = laid_out(array, draw(st.sampled_from(FORMATS)))
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            call[name] = value.astype(dtype)
        else:
            call[name] = value
    return call, draw(st.sampled_from(FORMATS))


def by_torch(kind, call, memory):
    """Output, its gradient in some memory, and the arguments' gradients."""
    given = {
        name: tensor(value.copy("K") if name.startswith("running") else value)
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
