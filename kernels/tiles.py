# ruff: noqa: ARG001 - Numba reads an intrinsic's signature; the arguments come as `values`
"""The register tile's arithmetic as LLVM vector code, for Numba kernels to call.

    multiply_tile    sums of products of gathered points with packed vectors: the heart of
                     convolutions and matrix products
    transpose_block  lanes x lanes numbers, transposed in registers
    copy_panel       as many numbers as a tile has columns
    copy_numbers     memcpy: Numba's assignment of slices is a tenth as fast

LLVM does not find such code by itself: over a loop nest it keeps no tile of sums in registers.
Emitted are plain vector loads, stores, shuffles and `llvm.fma`, so that they run on whatever LLVM
compiles for, fast where the tile fits the host's registers.

Nothing here checks bounds: the callers own that.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.emitter import INDEX, Emitter
from kernels.simd import class_of


@intrinsic
def multiply_tile(
    typing, tile, shape, x, origins, first, base, taps, run, w, w_at, start, start_at,
    least, count, out, places, out_at,
):  # fmt: skip
    """For gathered points q and neighbouring columns k, as many as the tile's `shape` has:

        out[places[first + q] + out_at + k] = max(least, start[start_at + k]
            + sum over t, i < run of x[origins[first + q] + base + taps[t] + i] w[w_at + row, k])

    where row = t run + i counts the rows of w, each `tile.vectors` vectors wide. `shape` indexes
    `simd.shapes(tile)`; of the columns, `count` are written. All arrays are flat and contiguous.
    """
    signature = types.void(
        tile, types.intp, x, origins, types.intp, types.intp, taps, types.intp, w, types.intp,
        start, types.intp, x.dtype, types.intp, out, places, types.intp,
    )  # fmt: skip
    kind = class_of(tile)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        done = builder.append_basic_block("done")
        chosen = builder.switch(values[1], done)
        for number, (points, vectors) in enumerate(kind.shapes()):
            block = builder.append_basic_block(f"tile_{points}_{vectors}")
            chosen.add_case(INDEX(number), block)
            builder.position_at_end(block)
            code = Emitter(context, builder, kind, x.dtype)
            _multiply(code, signature.args, values, points, vectors)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit


def _multiply(code: Emitter, kinds: Any, values: Any, points: int, vectors: int) -> None:
    first, base, taps, run = values[4:8]
    w_at, start_at, least, count, out_at = (values[i] for i in (9, 11, 12, 13, 16))
    at = {i: code.data(kinds[i], values[i]) for i in (2, 3, 6, 8, 10, 14, 15)}
    builder, lanes = code.builder, code.lanes
    origins = code.at_index(at[3], first)
    places = code.at_index(at[15], first)
    x = code.at(at[2], base)
    rows = [code.at(x, code.load_index(code.at_index(origins, q))) for q in range(points)]
    out = code.at(at[14], out_at)
    # Lines that come from memory are on their way while the sums grow.
    for q in range(points):
        target = code.at(out, code.load_index(code.at_index(places, q)))
        for v in range(vectors):
            code.prefetch_for_write(code.at(target, v * lanes))
    start = code.at(at[10], start_at)
    begins = [code.load(code.at(start, v * lanes)) for v in range(vectors)]
    sums = [[code.variable(begins[v]) for v in range(vectors)] for _ in range(points)]
    w = code.variable(code.at(at[8], w_at))
    with code.loop(INDEX(0), code.size(kinds[6], taps)) as t:
        tap = code.load_index(code.at_index(at[6], t))
        # One index into all points, so that a register holds it and an address mode adds it.
        with code.loop(tap, builder.add(tap, run), plain=True) as i:
            row = builder.load(w)
            factors = [code.load(code.at(row, v * lanes)) for v in range(vectors)]
            for q in range(points):
                number = code.spread(code.load_scalar(code.at(rows[q], i)))
                for v in range(vectors):
                    total = code.fma(number, factors[v], builder.load(sums[q][v]))
                    builder.store(total, sums[q][v])
            builder.store(code.at(row, code.kind.vectors * lanes), w)
    floor = code.spread(least)
    targets = [code.at(out, code.load_index(code.at_index(places, q))) for q in range(points)]
    results = [[code.at_least(builder.load(total), floor) for total in row] for row in sums]
    whole = builder.icmp_signed(">=", count, INDEX(vectors * lanes))
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            for q in range(points):
                for v in range(vectors):
                    code.store_some(results[q][v], code.at(targets[q], v * lanes))
        with otherwise:
            masks = [code.first_lanes(builder.sub(count, INDEX(v * lanes))) for v in range(vectors)]
            for q in range(points):
                for v in range(vectors):
                    code.store_some(results[q][v], code.at(targets[q], v * lanes), masks[v])


@intrinsic
def transpose_block(typing, tile, source, source_at, step, target, target_at, places, first):
    """target[target_at + places[first + j] + i] = source[source_at + i step + j], i, j < lanes."""
    signature = types.void(
        tile, source, types.intp, types.intp, target, types.intp, places, types.intp
    )

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, class_of(tile), source.dtype)
        origin = code.at(code.data(source, values[1]), values[2])
        end = code.at(code.data(target, values[4]), values[5])
        places_at = code.at_index(code.data(places, values[6]), values[7])
        rows = []
        for _row in range(code.lanes):
            rows.append(code.load(origin))
            origin = code.at(origin, values[3])
        for j, column in enumerate(code.transposed(rows)):
            place = code.load_index(code.at_index(places_at, j))
            code.store(column, code.at(end, place))
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def copy_numbers(typing, source, source_at, target, target_at, count):
    """target[target_at + i] = source[source_at + i] for i < count; the arrays do not overlap."""
    signature = types.void(source, types.intp, target, types.intp, types.intp)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        begin = context.make_array(source)(context, builder, values[0]).data
        end = context.make_array(target)(context, builder, values[2]).data
        cgutils.raw_memcpy(
            builder,
            builder.gep(end, [values[3]]),
            builder.gep(begin, [values[1]]),
            values[4],
            source.dtype.bitwidth // 8,
        )
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def copy_panel(typing, tile, source, source_at, target, target_at):
    """target[target_at + i] = source[source_at + i] for the tile's columns i."""
    signature = types.void(tile, source, types.intp, target, types.intp)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        kind = class_of(tile)
        code = Emitter(context, builder, kind, source.dtype)
        begin = code.at(code.data(source, values[1]), values[2])
        end = code.at(code.data(target, values[3]), values[4])
        vectors = [code.load(code.at(begin, v * code.lanes)) for v in range(kind.vectors)]
        for v, vector in enumerate(vectors):
            code.store(vector, code.at(end, v * code.lanes))
        return context.get_dummy_value()

    return signature, emit
