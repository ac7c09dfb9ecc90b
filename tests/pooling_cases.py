"""On what the pooling operators are tested, and all that comes of it. Loads no torch either."""

from __future__ import annotations

import numpy as np

from tests.kernel_inputs import laid_out

MAX = {
    "2x2": ((2, 3, 6, 5), {"kernel_size": 2}),
    "3x3 s2 p1": ((2, 17, 9, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "3x3 s1, more than a vector": ((1, 35, 6, 7), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "5x5 s1": ((2, 16, 7, 6), {"kernel_size": 5, "stride": 1, "padding": 2}),
    "1x1": ((1, 3, 4, 5), {"kernel_size": 1}),
    "kernel = image": ((2, 9, 4, 5), {"kernel_size": (4, 5)}),
    "stride > kernel": ((2, 10, 9, 8), {"kernel_size": 2, "stride": (3, 4)}),
    "ceil": ((2, 11, 8, 6), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil, padded": (
        (2, 8, 7, 9),
        {"kernel_size": (2, 3), "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil, last window left out": (
        (1, 8, 5, 5),
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil, kernel > image": ((1, 8, 4, 5), {"kernel_size": 6, "stride": 6, "ceil_mode": True}),
    "dilated": (
        (2, 9, 9, 10),
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1, "dilation": (2, 3)},
    ),
    "dilated, not dividing": ((1, 12, 8, 9), {"kernel_size": 2, "stride": 1, "dilation": (3, 2)}),
    "empty windows": (
        (1, 9, 3, 2),
        {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": (3, 3)},
    ),
    "stride []": ((2, 3, 6, 5), {"kernel_size": [3], "stride": []}),
}

AVG = {
    "2x2": ((2, 3, 6, 5), {"kernel_size": 2}),
    "3x3 s2 p1": ((2, 17, 9, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "3x3 s2 p1, padding left out": (
        (2, 17, 9, 8),
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    "5x5 s1": ((2, 35, 7, 6), {"kernel_size": 5, "stride": 1, "padding": 2}),
    "1x1": ((1, 3, 4, 5), {"kernel_size": 1}),
    "kernel = image": ((2, 9, 4, 5), {"kernel_size": (4, 5)}),
    "stride > kernel": ((2, 16, 9, 8), {"kernel_size": 2, "stride": (3, 4)}),
    "ceil": ((2, 11, 8, 6), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil, padded": (
        (2, 8, 7, 9),
        {"kernel_size": (2, 3), "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil, padding left out": (
        (1, 8, 6, 6),
        {
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
    ),
    "ceil, last window left out": (
        (1, 8, 5, 5),
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil, kernel > image": ((1, 8, 4, 5), {"kernel_size": 6, "stride": 6, "ceil_mode": True}),
    "divisor 4": ((2, 9, 7, 8), {"kernel_size": 3, "stride": 1, "divisor_override": 4}),
    "divisor -2": ((2, 3, 6, 5), {"kernel_size": (3, 2), "padding": 1, "divisor_override": -2}),
}

ADAPTIVE = {
    "all": ((2, 35, 7, 7), {"output_size": 1}),
    "all, of powers of two": ((2, 9, 4, 8), {"output_size": 1}),
    "dividing": ((2, 17, 8, 12), {"output_size": (4, 6)}),
    "overlapping": ((2, 17, 7, 9), {"output_size": (3, 4)}),
    "as it is": ((2, 9, 5, 6), {"output_size": (None, None)}),
    "rows alone": ((1, 3, 7, 6), {"output_size": (4, None)}),
    "columns alone": ((1, 8, 5, 6), {"output_size": [None, 3]}),
    "larger": ((1, 9, 4, 3), {"output_size": (7, 8)}),
    "one pixel": ((2, 16, 1, 1), {"output_size": 3}),
}

CASES = {"max_pool2d": MAX, "avg_pool2d": AVG, "adaptive_avg_pool2d": ADAPTIVE}
"""Operator -> case -> the input's shape, and the arguments after the input."""


def images(draw, shape, dtype, memory="contiguous", seed=0):
    return laid_out(draw(np.random.default_rng(seed), shape, dtype), memory)


def results(name, op, x, arguments, grad_output=None):
    """Outputs, gradients, indices: one, one and none; of max_pool2d again with its indices."""
    output = op.forward(x, **arguments)
    grad_output = output if grad_output is None else grad_output
    grad = op.backward(grad_output, x, **arguments)
    if name != "max_pool2d":
        return [output], [grad], []
    values, indices = op.forward(x, **arguments, return_indices=True)
    by_indices = op.backward(grad_output, x, **arguments, indices=indices)
    return [output, values], [grad, by_indices], [indices]
