"""How calls of every operator are drawn by hypothesis: shapes, memory, arguments.

Values are small whole numbers, where ties and zeros are common and sums of products exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from tests.kernel_inputs import DTYPES, FORMATS, integers, laid_out


@dataclass(frozen=True)
class Kind:
    """How one operator is drawn and judged."""

    torch: Callable[..., Any]
    call: Callable[[Any], dict[str, Any]]
    """Draws the arguments by name; a `Shape` stands for an array."""
    gradients: tuple[str, ...] = ("input",)
    factor: int = 0
    """|ours - torch| <= factor u max(1, |largest|); 0: equal."""
    examples: int = 40
    contiguous: tuple[str, ...] = ()
    """Gradients that are contiguous where torch.autograd.grad's are not."""


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
    # Of a weight with gaps torch.autograd.grad's lies by columns, and a bias' of one row is
    # grad_output itself; what it adds to `.grad` is contiguous too.
    "linear": Kind(F.linear, linear, ("input", "weight", "bias"), contiguous=("weight", "bias")),
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
    memory = st.sampled_from((*FORMATS, "contiguous_gaps"))
    call = {}
    for name, value in KINDS[operator].call(draw).items():
        if isinstance(value, Shape):
            array = integers(rng, value.sizes, dtype)
            call[name] = laid_out(array, draw(memory))
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            call[name] = value.astype(dtype)
        else:
            call[name] = value
    return call, draw(memory)
