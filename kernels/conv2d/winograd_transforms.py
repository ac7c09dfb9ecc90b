"""Winograd's transforms and products as LLVM vector code, for Numba kernels to call.

    transform_input     4 x 4 pixels -> 16 planes            V = B' d B
    transform_weights   3 x 3 taps -> 16 planes              U = G g G'
    multiply_rows       one plane's products                 M = V U
    transform_output    16 planes -> 2 x 2 outputs           y = A' M A + bias

and for the weight's gradient, each of these transposed:

    transform_gradient  gradients of 2 x 2 outputs -> 16 planes
    multiply_columns    one plane's products, added up over the tiles
    transform_products  16 planes -> gradients of 3 x 3 taps

All of F(2x2, 3x3): Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016,
section 4.1. A' here is the transpose of A. Each transform works on vectors of neighbouring
channels; arrays are flat, places count elements, and nothing checks bounds: the callers own that.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from kernels.emitter import INDEX, Emitter
from kernels.simd import class_of

INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
"""B'."""
WEIGHT = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
"""G."""
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))
"""A'."""
PLANES = 16
UNROLLED = 4


@intrinsic
def transform_input(
    typing, tile, x, x_at, row_step, column_step, inside, v, v_at, v_chunk, v_plane, chunks
):  # fmt: skip  # noqa: ARG001 - Numba's signature
    """v[v_at + plane v_plane + chunk v_chunk + lane] from pixels i, j < 4 of x, at

        x_at + i row_step + j column_step + chunk lanes + lane

    but for those outside of the image, which are zero: `inside` is the first row and the first
    column that lie within, and the first two behind them that do not.
    """
    return _from_pixels(INPUT, tile, x, inside, v)


@intrinsic
def transform_gradient(
    typing, tile, x, x_at, row_step, column_step, inside, v, v_at, v_chunk, v_plane, chunks
):  # fmt: skip  # noqa: ARG001 - Numba's signature
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
):  # fmt: skip  # noqa: ARG001 - Numba's signature
    """u[u_at + c u_channel + plane u_plane + lane] from g[g_at + c g_channel + tap g_tap + lane].

    For c < lanes.
    """
    return _from_rows(WEIGHT, tile, g, u)


@intrinsic
def transform_products(
    typing, tile, u, u_at, u_channel, u_plane, g, g_at, g_channel, g_tap
):  # fmt: skip  # noqa: ARG001 - Numba's signature
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
def multiply_rows(
    typing, tile, a, a_at, a_chunk, b, b_at, out, out_at, rows, chunks, more
):  # fmt: skip  # noqa: ARG001 - Numba's signature
    """out[row, k] = sum over c of a[row, c] b[c, k] for 1 to tile.points rows, or `more` by that.

    a[row, c] lies at a_at + chunk a_chunk + row lanes + lane, where c = chunk lanes + lane; b and
    out are tile.vectors x lanes wide, without gaps.
    """
    index = types.intp
    signature = types.void(
        tile, a, index, index, b, index, out, index, index, index, types.boolean
    )

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, class_of(tile), a.dtype)
        a_pointer = code.at(code.data(a, values[1]), values[2])
        b_pointer = code.at(code.data(b, values[4]), values[5])
        out_pointer = code.at(code.data(out, values[6]), values[7])
        where = a_pointer, values[3], b_pointer, out_pointer, values[9], values[10]
        zero = _zeros(context, code, a.dtype)
        after = builder.append_basic_block("multiplied")
        choice = builder.switch(values[8], after)
        for rows in range(1, code.kind.points[0] + 1):
            block = builder.append_basic_block(f"rows{rows}")
            choice.add_case(INDEX(rows), block)
            builder.position_at_end(block)
            _product(code, rows, zero, where)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def multiply_columns(
    typing, tile, a, a_at, b, b_at, out, out_at, steps
):  # fmt: skip  # noqa: ARG001 - Numba's signature
    """Add to out[i, k] the sum over t < steps of a[t, i] b[t, k], where i < lanes.

    No gaps: a is lanes wide, b and out are tile.vectors x lanes wide.
    """
    index = types.intp
    signature = types.void(tile, a, index, b, index, out, index, index)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, class_of(tile), a.dtype)
        a_at = code.at(code.data(a, values[1]), values[2])
        b_at = code.at(code.data(b, values[3]), values[4])
        out_at = code.at(code.data(out, values[5]), values[6])
        lanes, width = code.lanes, code.kind.vectors * code.lanes
        rows = max(n for n in range(1, lanes + 1) if lanes % n == 0 and n <= code.kind.points[0])
        for first in range(0, lanes, rows):
            target = code.at(out_at, first * width)
            sums = _sums(code, rows, lambda place, at=target: code.load(code.at(at, place)))
            with code.loop(INDEX(0), values[7]) as t:
                numbers = code.at(code.at(a_at, first), builder.mul(t, INDEX(lanes)))
                _add(code, sums, numbers, 1, code.at(b_at, builder.mul(t, INDEX(width))))
            _store(code, sums, target)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def transform_output(
    typing, tile, m, m_at, m_plane, bias, bias_at, y, y_at, row_step, column_step, rows, columns,
    vectors,
):  # fmt: skip  # noqa: ARG001 - Numba's signature
    """y[y_at + i row_step + j column_step + k] from m[m_at + plane m_plane + k] plus bias[bias_at + k].

    For the outputs i < rows (at most 2), j < columns (at most 2), and k < vectors lanes.
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
    columns = [
        [_sum(code, row, grid[column::size]) for row in matrix] for column in range(size)
    ]
    return [
        _sum(code, row, [column[i] for column in columns])
        for i in range(len(matrix))
        for row in matrix
    ]


def _sum(code: Emitter, factors: Any, vectors: list[Any]) -> Any:
    """Sum of vectors times 0, 1, -1, 1/2 or -1/2."""
    total = None
    for size in (0.5, 1):
        terms = [(factors[i] < 0, i % 2, vectors[i]) for i, f in enumerate(factors) if abs(f) == size]
        # What is added before what is not, the even before the odd: two rows of G share a sum.
        for negative, _, vector in sorted(terms, key=lambda term: term[:2]):
            if total is not None:
                total = (code.builder.fsub if negative else code.builder.fadd)(total, vector)
            else:
                total = code.builder.fneg(vector) if negative else vector
        if size < 1 and total is not None:
            total = code.builder.fmul(total, ir.Constant(total.type, [size] * code.lanes))
    return total


def _product(code: Emitter, rows: int, zero: Any, where: Any) -> None:
    """Rows times a panel, a vector of channels at a time."""
    a_at, a_chunk, b_at, out_at, chunks, more = where
    builder, lanes, width = code.builder, code.lanes, code.kind.vectors * code.lanes
    sums = _sums(code, rows, lambda _: zero)
    with builder.if_then(more):
        for place, total in enumerate(total for row in sums for total in row):
            builder.store(code.load(code.at(out_at, place * lanes)), total)
    steps = min(UNROLLED, lanes)
    with code.loop(INDEX(0), chunks) as chunk:
        a_chunk_at = code.at(a_at, builder.mul(chunk, a_chunk))
        b_chunk_at = code.at(b_at, builder.mul(chunk, INDEX(lanes * width)))
        with code.loop(INDEX(0), INDEX(lanes // steps)) as part:
            numbers = code.at(a_chunk_at, builder.mul(part, INDEX(steps)))
            vectors = code.at(b_chunk_at, builder.mul(part, INDEX(steps * width)))
            for step in range(steps):
                _add(code, sums, code.at(numbers, step), lanes, code.at(vectors, step * width))
    _store(code, sums, out_at)


def _sums(code: Emitter, rows: int, begin: Any) -> list[list[Any]]:
    """Variables for rows x a panel; `begin` gives each one's first value, by its place."""
    places = [[row * code.kind.vectors + v for v in range(code.kind.vectors)] for row in range(rows)]
    return [[code.variable(begin(place * code.lanes)) for place in row] for row in places]


def _add(code: Emitter, sums: list[list[Any]], numbers: Any, apart: int, vectors: Any) -> None:
    """Add to each row's sums its number times the vectors."""
    factors = [code.load(code.at(vectors, v * code.lanes)) for v in range(code.kind.vectors)]
    for row, totals in enumerate(sums):
        number = code.spread(code.load_scalar(code.at(numbers, row * apart)))
        for factor, total in zip(factors, totals, strict=True):
            code.builder.store(code.fma(number, factor, code.builder.load(total)), total)


def _store(code: Emitter, sums: list[list[Any]], target: Any) -> None:
    for place, total in enumerate(total for row in sums for total in row):
        code.store(code.builder.load(total), code.at(target, place * code.lanes))
