"""The register tiles of matrix products, as LLVM vector code for Numba kernels to call.

    dot_tile      both matrices lie along the sum: vectors run along it, and are summed at the end
    outer_tile    the second matrix lies across the sum: its vectors times broadcast numbers

Neither wants its matrices packed. Nothing here checks bounds: the callers own that.
"""

# Numba takes an intrinsic's parameters from its signature, and their values elsewhere.
# ruff: noqa: ARG001

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.arrays import Array
from kernels.emitter import INDEX, LANE, Emitter
from kernels.simd import class_of

DOT_SHAPES = {32: ((8, 3), (4, 6), (2, 8), (1, 8)), 16: ((4, 3), (2, 5), (1, 8))}
"""(rows, columns) of a dot tile's sums, most rows first, by the number of vector registers."""

OUTER_SHAPES = {
    32: ((14, 2), (8, 2), (4, 2), (2, 2), (1, 2), (8, 2), (4, 4), (2, 8), (1, 16)),
    16: ((6, 2), (4, 2), (4, 2), (2, 2), (1, 2), (4, 2), (4, 2), (2, 4), (1, 8)),
}
"""(rows, vectors) of an outer tile's sums: NARROW for many rows, then those that read far along."""

NARROW = 5


def registers(kind: Any) -> int:
    """How many vector registers a tile's processor has, from the tile's class or object."""
    return 32 if kind.points[0] > 8 else 16


@functools.cache
def dot_shapes(tile: Any) -> Array:
    """DOT_SHAPES of the tile's processor."""
    return np.array(DOT_SHAPES[registers(tile)])


@functools.cache
def outer_shapes(tile: Any) -> Array:
    """OUTER_SHAPES of the tile's processor."""
    return np.array(OUTER_SHAPES[registers(tile)])


@intrinsic
def dot_tile(typing, tile, shape, x, x_at, x_step, w, w_at, w_step, depth, y, y_at, y_step):
    """y[q, r] += sum over i < depth of x[q, i] w[r, i].

    For rows q and columns r of DOT_SHAPES[...][shape // 2]; one column where `shape` is odd.
    x, w and y are flat: rows begin at `x_at` and so on, `x_step` and so on apart.
    """
    index = types.intp
    signature = types.void(tile, index, x, index, index, w, index, index, index, y, index, index)
    kind = class_of(tile)
    shapes = [(rows, each) for rows, most in DOT_SHAPES[registers(kind)] for each in (most, 1)]

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, kind, x.dtype)
        x_at = code.at(code.data(x, values[2]), values[3])
        w_at = code.at(code.data(w, values[5]), values[6])
        y_at = code.at(code.data(y, values[9]), values[10])
        zero = code.spread(context.get_constant(x.dtype, 0))
        places = (x_at, values[4], w_at, values[7], values[8], y_at, values[11])
        with _each(code, values[1], shapes) as sizes:
            for rows, columns in sizes:
                _dot(code, rows, columns, zero, *places)
        return context.get_dummy_value()

    return signature, emit


def _dot(
    code: Emitter, rows: int, columns: int, zero: Any, x: Any, x_step: Any, w: Any, w_step: Any,
    depth: Any, y: Any, y_step: Any,
) -> None:  # fmt: skip
    builder, lanes = code.builder, code.lanes
    xs, ws = _rows(code, x, x_step, rows), _rows(code, w, w_step, columns)
    sums = [[code.variable(zero) for _ in ws] for _ in xs]

    def add(i: Any, mask: Any) -> None:
        factors = [code.load_some(code.at(row, i), mask) for row in ws]
        for row, totals in zip(xs, sums, strict=True):
            numbers = code.load_some(code.at(row, i), mask)
            for factor, total in zip(factors, totals, strict=True):
                builder.store(code.fma(numbers, factor, builder.load(total)), total)

    blocks = builder.sdiv(depth, INDEX(lanes))
    whole = builder.mul(blocks, INDEX(lanes))
    with code.loop(INDEX(0), blocks) as block:
        add(builder.mul(block, INDEX(lanes)), None)
    with builder.if_then(builder.icmp_signed("<", whole, depth)):
        add(whole, code.first_lanes(builder.sub(depth, whole)))
    for row, totals in zip(_rows(code, y, y_step, rows), sums, strict=True):
        for first in range(0, columns, lanes):
            some = [builder.load(total) for total in totals[first : first + lanes]]
            mask = code.first_lanes(INDEX(len(some)))
            place = code.at(row, first)
            code.store_some(
                builder.fadd(code.load_some(place, mask), _sums(code, some)), place, mask
            )


@intrinsic
def outer_tile(
    typing, tile, shape, a, a_at, a_row, a_step, b, b_at, b_step, ahead, depth, fresh, y, y_at,
    y_step, count,
):  # fmt: skip
    """y[q, k] += sum over p < depth of a[q, p] b[p, k]; where `fresh`, = and not +=.

    For rows q and columns k < count of OUTER_SHAPES[...][shape]. a, b and y are flat: a[q, p] is
    a[a_at + q a_row + p a_step], rows of b begin at `b_at`, `b_step` apart, those of y alike. The
    shapes behind NARROW ask for the numbers `ahead` of those of b that they read.
    """
    index = types.intp
    signature = types.void(
        tile, index, a, index, index, index, b, index, index, index, index, types.boolean, y,
        index, index, index,
    )  # fmt: skip
    kind = class_of(tile)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, kind, a.dtype)
        zero = code.spread(context.get_constant(a.dtype, 0))
        a_at = code.at(code.data(a, values[2]), values[3])
        b_at = code.at(code.data(b, values[6]), values[7])
        y_at = code.at(code.data(y, values[12]), values[13])
        ahead, depth, fresh, count = values[9], values[10], values[11], values[15]
        matrix, result = (a_at, values[4], values[5]), (y_at, values[14])
        with _each(code, values[1], OUTER_SHAPES[registers(kind)]) as sizes:
            for number, (rows, vectors) in enumerate(sizes):
                # One row's vectors follow each other: processors foresee that.
                fetch = ahead if number >= NARROW and rows >= 4 else None
                lefts = [builder.sub(count, INDEX(v * code.lanes)) for v in range(vectors)]
                whole = builder.icmp_signed(">=", count, INDEX(vectors * code.lanes))
                with builder.if_else(whole, likely=True) as branches:
                    for branch, cut in zip(branches, (False, True), strict=True):
                        with branch:
                            masks = [code.first_lanes(left) if cut else None for left in lefts]
                            second = (b_at, values[8], fetch)
                            _outer(code, rows, masks, zero, matrix, second, depth, fresh, result)
        return context.get_dummy_value()

    return signature, emit


def _outer(
    code: Emitter, rows: int, masks: list[Any], zero: Any, a: Any, b: Any, depth: Any, fresh: Any,
    y: Any,
) -> None:  # fmt: skip
    builder, lanes = code.builder, code.lanes
    numbers, targets = _rows(code, a[0], a[1], rows), _rows(code, y[0], y[1], rows)
    sums = [[code.variable(zero) for _ in masks] for _ in targets]
    with builder.if_then(builder.not_(fresh)):
        for target, totals in zip(targets, sums, strict=True):
            for v, (total, mask) in enumerate(zip(totals, masks, strict=True)):
                builder.store(code.load_some(code.at(target, v * lanes), mask), total)
    place = code.variable(b[0])
    with code.loop(INDEX(0), depth) as p:
        row = builder.load(place)
        factors = [code.load_some(code.at(row, v * lanes), mask) for v, mask in enumerate(masks)]
        if b[2] is not None:
            _fetch(code, row, b[2], len(masks))
        offset = builder.mul(p, a[2])
        for own, totals in zip(numbers, sums, strict=True):
            number = code.spread(code.load_scalar(code.at(own, offset)))
            for factor, total in zip(factors, totals, strict=True):
                builder.store(code.fma(number, factor, builder.load(total)), total)
        builder.store(code.at(row, b[1]), place)
    for target, totals in zip(targets, sums, strict=True):
        for v, (total, mask) in enumerate(zip(totals, masks, strict=True)):
            code.store_some(builder.load(total), code.at(target, v * lanes), mask)


def _fetch(code: Emitter, row: Any, ahead: Any, vectors: int) -> None:
    """Ask for the numbers `ahead` of a row: processors do not foresee steps of a page."""
    kinds = [ir.PointerType(), LANE, LANE, LANE]
    function = cgutils.get_or_insert_function(
        code.builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
    )
    place = code.at(row, ahead)
    for v in range(vectors):
        code.builder.call(function, [code.at(place, v * code.lanes), LANE(0), LANE(2), LANE(1)])


@intrinsic
def pack_rows(typing, tile, b, b_at, step, length, packed, count):
    """packed[c, p, k] = b[b_at + p step + c panel + k] for p < length and c panel + k < count.

    A panel, c, is two vectors wide; behind `count` there are zeros.
    """
    index = types.intp
    signature = types.void(tile, b, index, index, index, packed, index)
    kind = class_of(tile)

    def emit(context: Any, builder: Any, _: Any, values: Any) -> Any:
        code = Emitter(context, builder, kind, b.dtype)
        panel = INDEX(2 * code.lanes)
        row = code.variable(code.at(code.data(b, values[1]), values[2]))
        target = code.data(packed, values[5])
        panels = builder.sdiv(values[6], panel)
        whole = builder.mul(panels, panel)
        left = builder.sub(values[6], whole)
        masks = [code.first_lanes(builder.sub(left, INDEX(v * code.lanes))) for v in range(2)]
        rest = builder.icmp_signed(">", left, INDEX(0))
        with code.loop(INDEX(0), values[4]) as p:
            source = builder.load(row)

            def copy(c: Any, kinds: list[Any]) -> None:
                end = builder.mul(builder.add(builder.mul(c, values[4]), p), panel)
                for v, mask in enumerate(kinds):
                    at = code.at(source, builder.add(builder.mul(c, panel), INDEX(v * code.lanes)))
                    end_at = code.at(code.at(target, end), v * code.lanes)
                    code.store(code.load_some(at, mask), end_at)

            with code.loop(INDEX(0), panels) as c:
                copy(c, [None, None])
            with builder.if_then(rest):
                copy(panels, masks)
            builder.store(code.at(source, values[3]), row)
        return context.get_dummy_value()

    return signature, emit


def _rows(code: Emitter, first: Any, step: Any, count: int) -> list[Any]:
    """The addresses of so many rows, `step` numbers apart."""
    rows = [first]
    while len(rows) < count:
        rows.append(code.at(rows[-1], step))
    return rows


def _sums(code: Emitter, vectors: list[Any]) -> Any:
    """The sum of each vector's lanes, in the lane of its number: halves are added
    until one is left.

    Two vectors' halves go into one: that is half the work of adding up vector after vector.
    """
    width = code.lanes
    while width > 1:
        width //= 2
        pairs = zip(vectors[::2], vectors[1::2] + vectors[-1:], strict=False)
        low = [at for at in range(2 * code.lanes) if at // width % 2 == 0]
        masks = [
            ir.Constant(ir.VectorType(LANE, code.lanes), [at + half for at in low])
            for half in (0, width)
        ]
        vectors = [
            code.builder.fadd(*(code.builder.shuffle_vector(*pair, mask) for mask in masks))
            for pair in pairs
        ]
    return vectors[0]


@contextmanager
def _each(code: Emitter, shape: Any, sizes: Sequence[Any]) -> Iterator[Iterator[Any]]:
    """`with` statement: iterates over the sizes, each within its own case of a switch."""
    builder = code.builder
    done = builder.append_basic_block("done")
    chosen = builder.switch(shape, done)

    def cases() -> Iterator[Any]:
        for number, size in enumerate(sizes):
            block = builder.append_basic_block(f"tile_{number}")
            chosen.add_case(INDEX(number), block)
            builder.position_at_end(block)
            yield size
            builder.branch(done)

    yield cases()
    builder.position_at_end(done)
