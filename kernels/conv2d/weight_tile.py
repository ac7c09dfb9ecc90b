# ruff: noqa: ARG001 - Numba reads an intrinsic's signature; the arguments come as `values`
"""The register tile of a weight's gradient, as LLVM vector code for Numba kernels to call.

Sums over pixels: at each, a few numbers are broadcast and multiplied with a row of vectors. Nothing
here checks bounds: the callers own that.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from kernels.emitter import INDEX, Emitter
from kernels.simd import class_of


@intrinsic
def pixel_tile(
    typing, tile, shape, a, a_rows, a_at, a_step, points, point, b, b_rows, b_at, b_step, first,
    last, length, fresh, sums, sums_at, sums_step, count,
):  # fmt: skip
    """For points q of `a` and columns k of `b`, as many as the tile's `shape` has:

        sums[sums_at + q sums_step + k] += sum over first <= row < last, j < length of
            a[a_rows[row] + a_at + points[point + q] + j a_step]
            b[b_rows[row] + b_at + k + j b_step]

    Where `fresh`, = and not +=. `points` may be None: they are neighbours then, from `point` on.
    Of the columns, the first `count` are written; b has all of them.
    """
    signature = types.void(
        tile, types.intp, a, a_rows, types.intp, types.intp, points, types.intp, b, b_rows,
        types.intp, types.intp, types.intp, types.intp, types.intp, types.boolean, sums,
        types.intp, types.intp, types.intp,
    )  # fmt: skip
    kind = class_of(tile)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        done = builder.append_basic_block("done")
        chosen = builder.switch(values[1], done)
        for number, (many, vectors) in enumerate(kind.shapes()):
            block = builder.append_basic_block(f"tile_{many}_{vectors}")
            chosen.add_case(INDEX(number), block)
            builder.position_at_end(block)
            code = Emitter(context, builder, kind, a.dtype)
            zero = code.spread(context.get_constant(a.dtype, 0))
            totals = [[code.variable(zero) for _ in range(vectors)] for _ in range(many)]
            _add_up(code, signature.args, values, totals)
            _write(code, signature.args, values, totals)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit


def _add_up(code: Emitter, kinds: Any, values: Any, totals: list[list[Any]]) -> None:
    a_at, a_step, point, b_at, b_step, first, last, length = (
        values[i] for i in (4, 5, 7, 10, 11, 12, 13, 14)
    )
    builder = code.builder
    a, a_rows, b, b_rows = (code.data(kinds[i], values[i]) for i in (2, 3, 8, 9))
    a, b = code.at(a, a_at), code.at(b, b_at)
    if isinstance(kinds[6], types.NoneType):
        a = code.at(a, point)
        places: list[Any] = list(range(len(totals)))
    else:
        points = code.at_index(code.data(kinds[6], values[6]), point)
        places = [code.load_index(code.at_index(points, q)) for q in range(len(totals))]
    with code.loop(first, last) as row:
        a_here = code.variable(code.at(a, code.load_index(code.at_index(a_rows, row))))
        b_here = code.variable(code.at(b, code.load_index(code.at_index(b_rows, row))))
        with code.loop(INDEX(0), length):
            numbers, columns = builder.load(a_here), builder.load(b_here)
            factors = [code.load(code.at(columns, v * code.lanes)) for v in range(len(totals[0]))]
            for place, sums in zip(places, totals, strict=True):
                number = code.spread(code.load_scalar(code.at(numbers, place)))
                for factor, total in zip(factors, sums, strict=True):
                    builder.store(code.fma(number, factor, builder.load(total)), total)
            builder.store(code.at(numbers, a_step), a_here)
            builder.store(code.at(columns, b_step), b_here)


def _write(code: Emitter, kinds: Any, values: Any, totals: list[list[Any]]) -> None:
    fresh, _, sums_at, sums_step, count = values[15:]
    builder, lanes = code.builder, code.lanes
    row = code.at(code.data(kinds[16], values[16]), sums_at)
    places = []
    for sums in totals:
        places += [(code.at(row, v * lanes), total, v) for v, total in enumerate(sums)]
        row = code.at(row, sums_step)
    vectors = len(totals[0])
    whole = builder.icmp_signed(">=", count, INDEX(vectors * lanes))
    with builder.if_else(whole, likely=True) as branches:
        for branch, cut in zip(branches, (False, True), strict=True):
            with branch:
                masks = [
                    code.first_lanes(builder.sub(count, INDEX(v * lanes))) if cut else None
                    for v in range(vectors)
                ]
                with builder.if_then(builder.not_(fresh)):
                    for place, total, v in places:
                        own = code.load_some(place, masks[v])
                        builder.store(builder.fadd(own, builder.load(total)), total)
                for place, total, v in places:
                    code.store_some(builder.load(total), place, masks[v])


@intrinsic
def copy_columns(typing, tile, source, at, step, target, to, width, vectors, pixels):
    """target[to + j width + i] = source[at + j step + i] for j < pixels and i < vectors x lanes.

    `vectors` are as many as a tile has points or columns. What j + 1 writes covers what j wrote.
    """
    index = types.intp
    signature = types.void(tile, source, index, index, target, index, index, index, index)
    kind = class_of(tile)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, kind, source.dtype)
        begin = code.at(code.data(source, values[1]), values[2])
        end = code.at(code.data(target, values[4]), values[5])
        done = builder.append_basic_block("done")
        chosen = builder.switch(values[7], done)
        for vectors in sorted({1, kind.vectors, -(-kind.points[0] // code.lanes)}):
            block = builder.append_basic_block(f"copy_{vectors}")
            chosen.add_case(INDEX(vectors), block)
            builder.position_at_end(block)
            read, write = code.variable(begin), code.variable(end)
            with code.loop(INDEX(0), values[8]):
                here, there = builder.load(read), builder.load(write)
                row = [code.load(code.at(here, v * code.lanes)) for v in range(vectors)]
                for v, vector in enumerate(row):
                    code.store(vector, code.at(there, v * code.lanes))
                builder.store(code.at(here, values[3]), read)
                builder.store(code.at(there, values[6]), write)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit
