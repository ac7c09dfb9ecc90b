"""Winograd's transforms as LLVM vector code, for Numba kernels to call.

    transform_input     4 x 4 pixels -> 16 planes              V = B' d B
    transform_weights   3 x 3 taps -> 16 planes                U = G g G'
    transform_output    16 planes -> 2 x 2 outputs             y = A' M A + bias
    transform_gradient  2 x 2 outputs' gradients -> 16 planes  A dy A'
    transform_products  16 planes -> 3 x 3 taps' gradients     G' dU G

In each plane M = V U is a matrix product. All are of F(2x2, 3x3), section 4.1 of Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", CVPR 2016; A' is the transpose of A. They work
on vectors of neighbouring channels. Arrays are flat, places count elements, and nothing checks
bounds: the callers own that.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are types, of which it reads a few

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from kernels.conv2d.winograd_shape import PLANES
from kernels.emitter import INDEX, Emitter
from kernels.simd import class_of

INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
"""B'."""
WEIGHT = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
"""G."""
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))
"""A'."""


@intrinsic
def transform_input(
    typing, tile, x, x_at, row_step, column_step, inside, v, v_at, v_chunk, v_plane, chunks
):  # fmt: skip
    """v[v_at + plane v_plane + chunk v_chunk + lane] from pixels i, j < 4 of x, at

        x_at + i row_step + j column_step + chunk lanes + lane

    but for those outside of the image, which are zero: `inside` is the first row and the first
    column that lie within, and the first two behind them that do not.
    """
    return _from_pixels(INPUT, tile, x, inside, v)


@intrinsic
def transform_gradient(
    typing, tile, x, x_at, row_step, column_step, inside, v, v_at, v_chunk, v_plane, chunks
):  # fmt: skip
    """As `transform_input`, from i, j < 2 of the output's gradient."""
    return _from_pixels(_transposed(OUTPUT), tile, x, inside, v)


def _from_pixels(matrix: Any, tile: Any, x: Any, inside: Any, v: Any) -> Any:
    size = len(matrix[0])
    index = types.intp
    signature = types.void(tile, x, index, index, index, inside, v, index, index, index, index)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, class_of(tile), x.dtype)
        x_at, row_step, column_step = values[2:5]
        v_at, v_chunk, v_plane, chunks = values[7:]
        bounds = [builder.extract_value(values[5], i) for i in range(4)]
        targets = _spaced(code, code.at(code.data(v, values[6]), v_at), v_plane, PLANES)
        zero = _zeros(context, code, x.dtype)

        def between(i: int, first: Any, end: Any) -> Any:
            low = builder.icmp_signed("<=", first, INDEX(i))
            return builder.and_(low, builder.icmp_signed("<", INDEX(i), end))

        rows = [between(i, bounds[0], bounds[2]) for i in range(size)]
        columns = [between(i, bounds[1], bounds[3]) for i in range(size)]
        there = [builder.and_(row, column) for row in rows for column in columns]
        places = [
            builder.add(builder.mul(row_step, INDEX(i)), builder.mul(column_step, INDEX(j)))
            for i in range(size)
            for j in range(size)
        ]
        whole = functools.reduce(builder.and_, there)
        origin = code.at(code.data(x, values[1]), INDEX(0))

        def body(known: bool) -> None:
            sources = [builder.add(x_at, place) for place in places]
            if not known:
                sources = [
                    builder.select(inner, place, INDEX(0))
                    for inner, place in zip(there, sources, strict=True)
                ]
            sources = [code.at(origin, source) for source in sources]
            with code.loop(INDEX(0), chunks) as chunk:
                pixel = builder.mul(chunk, INDEX(code.lanes))
                pixels = [code.load(code.at(source, pixel)) for source in sources]
                if not known:
                    pixels = [
                        builder.select(inner, vector, zero)
                        for inner, vector in zip(there, pixels, strict=True)
                    ]
                place = builder.mul(chunk, v_chunk)
                for vector, target in zip(_twice(code, matrix, pixels), targets, strict=True):
                    code.store(vector, code.at(target, place))

        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                body(known=True)
            with otherwise:
                body(known=False)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def transform_weights(
    typing, tile, g, g_at, g_channel, g_tap, u, u_at, u_channel, u_plane
):  # fmt: skip
    """u[u_at + c u_channel + plane u_plane + lane] from g[g_at + c g_channel + tap g_tap + lane].

    For c < lanes.
    """
    return _from_rows(WEIGHT, tile, g, u)


@intrinsic
def transform_products(
    typing, tile, u, u_at, u_channel, u_plane, g, g_at, g_channel, g_tap
):  # fmt: skip
    """g[g_at + c g_channel + tap g_tap + lane] from u[u_at + c u_channel + plane u_plane + lane].

    For c < lanes.
    """
    return _from_rows(_transposed(WEIGHT), tile, u, g)


def _from_rows(matrix: Any, tile: Any, source: Any, target: Any) -> Any:
    index = (types.intp,) * 3
    signature = types.void(tile, source, *index, target, *index)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, class_of(tile), source.dtype)
        first = code.at(code.data(source, values[1]), values[2])
        end = code.at(code.data(target, values[5]), values[6])
        sources = _spaced(code, first, values[4], len(matrix[0]) ** 2)
        targets = _spaced(code, end, values[8], len(matrix) ** 2)
        with code.loop(INDEX(0), INDEX(code.lanes)) as channel:
            place = builder.mul(channel, values[3])
            grid = [code.load(code.at(pointer, place)) for pointer in sources]
            place = builder.mul(channel, values[7])
            for vector, pointer in zip(_twice(code, matrix, grid), targets, strict=True):
                code.store(vector, code.at(pointer, place))
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def transform_output(
    typing, tile, m, m_at, m_plane, bias, bias_at, y, y_at, row_step, column_step, rows, columns,
    vectors,
):  # fmt: skip
    """y[y_at + i row_step + j column_step + k] from m[m_at + plane m_plane + k], bias[bias_at + k].

    For the 2 x 2 outputs with i < rows and j < columns, and k < vectors lanes.
    """
    index = types.intp
    signature = types.void(tile, m, index, index, bias, index, y, *(index,) * 6)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, class_of(tile), m.dtype)
        m_at, m_plane = values[2:4]
        y_at, row_step, column_step, rows, columns, vectors = values[7:]
        sources = _spaced(code, code.at(code.data(m, values[1]), m_at), m_plane, PLANES)
        bias_at = code.at(code.data(bias, values[4]), values[5])
        first = code.at(code.data(y, values[6]), y_at)
        below = builder.icmp_signed(">", rows, INDEX(1))
        right = builder.icmp_signed(">", columns, INDEX(1))
        wanted = [None, right, below, builder.and_(below, right)]
        targets = [
            first,
            code.at(first, column_step),
            code.at(first, row_step),
            code.at(first, builder.add(row_step, column_step)),
        ]
        with code.loop(INDEX(0), vectors) as number:
            k = builder.mul(number, INDEX(code.lanes))
            planes = [code.load(code.at(source, k)) for source in sources]
            start = code.load(code.at(bias_at, k))
            results = [builder.fadd(vector, start) for vector in _twice(code, OUTPUT, planes)]
            for result, target, condition in zip(results, targets, wanted, strict=True):
                if condition is None:
                    code.store(result, code.at(target, k))
                else:
                    with builder.if_then(condition, likely=True):
                        code.store(result, code.at(target, k))
        return context.get_dummy_value()

    return signature, emit


def _zeros(context: Any, code: Emitter, dtype: Any) -> Any:
    kind = ir.VectorType(context.get_value_type(dtype), code.lanes)
    return ir.Constant(kind, [0.0] * code.lanes)


def _spaced(code: Emitter, base: Any, step: Any, count: int) -> list[Any]:
    return [code.at(base, code.builder.mul(step, INDEX(i))) for i in range(count)]


def _transposed(matrix: Any) -> Any:
    return tuple(zip(*matrix, strict=True))


def _twice(code: Emitter, matrix: Any, grid: list[Any]) -> list[Any]:
    """matrix grid matrix', of vectors; the grid is a list of its rows, one behind the other."""
    size = len(matrix[0])
    columns = [[_sum(code, row, grid[column::size]) for row in matrix] for column in range(size)]
    return [
        _sum(code, row, [column[i] for column in columns])
        for i in range(len(matrix))
        for row in matrix
    ]


def _sum(code: Emitter, factors: Any, vectors: list[Any]) -> Any:
    """Sum of vectors times 0, 1, -1, 1/2 or -1/2."""
    total = None
    for size in (0.5, 1):
        terms = [
            (factors[i] < 0, i % 2, vectors[i]) for i, f in enumerate(factors) if abs(f) == size
        ]
        # What is added before what is not, the even before the odd: two rows of G share a sum.
        for negative, _, vector in sorted(terms, key=lambda term: term[:2]):
            if total is not None:
                total = (code.builder.fsub if negative else code.builder.fadd)(total, vector)
            else:
                total = code.builder.fneg(vector) if negative else vector
        if size < 1 and total is not None:
            total = code.builder.fmul(total, ir.Constant(total.type, [size] * code.lanes))
    return total
