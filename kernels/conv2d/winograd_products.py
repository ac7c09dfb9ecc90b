"""Products of Winograd's planes as LLVM vector code, for Numba kernels to call.

    multiply_rows     tiles x channels times channels x filters, for outputs
    multiply_columns  channels x tiles times tiles x filters, for the weight's gradient

Both keep a tile of sums in registers. Arrays are flat, places count elements, and nothing checks
bounds: the callers own that.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are types, of which it reads a few

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from kernels.emitter import INDEX, Emitter
from kernels.simd import class_of

UNROLLED = 2
"""How many steps the inner loop does at a time."""


@intrinsic
def multiply_rows(
    typing, tile, a, a_at, a_chunk, b, b_at, out, out_at, rows, chunks, more
):  # fmt: skip
    """out[row, k] = sum over c of a[row, c] b[c, k] for 1 to tile.points rows, or `more` by that.

    a[row, c] lies at a_at + chunk a_chunk + row lanes + lane, where c = chunk lanes + lane; b and
    out are tile.vectors x lanes wide, without gaps.
    """
    index = types.intp
    signature = types.void(tile, a, index, index, b, index, out, index, index, index, types.boolean)

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
):  # fmt: skip
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
def prefetch(typing, tile, x, x_at, count):
    """Ask for x[x_at] to x[x_at + count - 1] ahead of their use."""
    signature = types.void(tile, x, types.intp, types.intp)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, class_of(tile), x.dtype)
        first = code.at(code.data(x, values[1]), values[2])
        line = 64 * 8 // x.dtype.bitwidth
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), word, word, word])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        with code.loop(INDEX(0), builder.sdiv(values[3], INDEX(line))) as i:
            place = code.at(first, builder.mul(i, INDEX(line)))
            # To be read, into the L2 cache, as data.
            builder.call(function, [place, word(0), word(2), word(1)])
        return context.get_dummy_value()

    return signature, emit


def _zeros(context: Any, code: Emitter, dtype: Any) -> Any:
    kind = ir.VectorType(context.get_value_type(dtype), code.lanes)
    return ir.Constant(kind, [0.0] * code.lanes)


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
    places = [
        [row * code.kind.vectors + v for v in range(code.kind.vectors)] for row in range(rows)
    ]
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
