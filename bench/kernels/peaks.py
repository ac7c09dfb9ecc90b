"""What this machine gives: float32 arithmetic and copies, on a number of threads.

    FLOP   multiply-adds on vectors that never leave the registers, 2 FLOP a lane; enough of them
           are independent of each other to fill the pipelines
    B      a copy between arrays that no cache holds; a byte that is read and written counts twice

Both are the best of several rounds. An operator whose arrays stay in the caches may pass the
second, and one that needs fewer multiplications than its definition (Winograd) the first.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.arrays import Array
from kernels.simd import aligned_empty, host_tile

ROUNDS = 7
ROUND_SECONDS = 0.05
COPIED = 2**27
"""Bytes of each of the two arrays, and none of those written is left in a cache."""
PAGE, STREAMS = 1024, 4
"""Floats of a page of memory, and pages that are copied side by side: one alone keeps too few lines
on their way from memory."""


@functools.cache
def peak(unit: str, threads: int) -> float:
    """FLOP/s or B/s of `threads` threads together; measured once a process."""
    return {"FLOP": multiply_adds, "B": copies}[unit](threads)


def multiply_adds(threads: int) -> float:
    """The best rate of float32 multiply-adds, in FLOP/s."""
    lanes, chains = vectors()
    steps = 1 << 16
    spent = _best(1, lambda _: _chains(steps, 0.5, 1.0))
    steps = round(steps * ROUND_SECONDS / spent)
    return 2 * lanes * chains * steps * threads / _best(threads, lambda _: _chains(steps, 0.5, 1.0))


def copies(threads: int) -> float:
    """The best rate of a copy, in bytes per second, those read and those written."""
    lanes, _ = vectors()
    share = COPIED // 4 // threads // (STREAMS * PAGE) * (STREAMS * PAGE)
    source, target = (aligned_empty(share * threads, np.float32) for _ in range(2))
    source.fill(1)
    spent = _best(threads, lambda i: _copy(source, target, i * share, (i + 1) * share, lanes))
    return 2 * source.nbytes / spent


def _best(threads: int, task: Callable[[int], object]) -> float:
    """Seconds of the fastest round in which each thread does its task."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(task, range(threads)))  # starts threads, compiles, touches memory
        rounds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            list(pool.map(task, range(threads)))
            rounds.append(time.perf_counter() - start)
    return min(rounds)


def vectors() -> tuple[int, int]:
    """(floats in one of the host's vectors, how many of them to keep in registers).

    x86 has two results a cycle, of 4 or 5 cycles each: 10 chains keep it busy, and 12 fit into the
    16 registers of AVX. The largest ARM cores have four a cycle; they have 32 registers.
    """
    width = host_tile().width
    return width // 4, 16 if width != 32 and host_tile().fused else 12


@intrinsic
def _vector_chains(typing: Any, steps: Any, factor: Any, term: Any) -> Any:
    """`steps` times x <- x * factor + term for every lane of every chain; the lanes' sum."""
    return types.float32(types.int64, types.float32, types.float32), _emit


def _emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    lanes, chains = vectors()
    vector = ir.VectorType(ir.FloatType(), lanes)
    steps, factor, term = arguments

    def spread(scalar: ir.Value) -> ir.Value:
        value = ir.Constant(vector, ir.Undefined)
        for lane in range(lanes):
            value = builder.insert_element(value, scalar, ir.IntType(32)(lane))
        return value

    factors, terms = spread(factor), spread(term)
    # one instruction where the host has it, else a product and a sum
    name, kind = f"llvm.fmuladd.v{lanes}f32", ir.FunctionType(vector, [vector] * 3)
    fmuladd = cgutils.get_or_insert_function(builder.module, kind, name)
    before = builder.block
    loop = builder.append_basic_block("chains")
    after = builder.append_basic_block("sum")
    builder.branch(loop)

    builder.position_at_end(loop)
    count = builder.phi(steps.type)
    values = [builder.phi(vector) for _ in range(chains)]
    stepped = [builder.call(fmuladd, [value, factors, terms]) for value in values]
    counted = builder.add(count, steps.type(1))
    count.add_incoming(steps.type(0), before)
    count.add_incoming(counted, loop)
    for i, (value, new) in enumerate(zip(values, stepped, strict=True)):
        # chains that begin alike would be one chain to the compiler
        value.add_incoming(ir.Constant(vector, [float(i)] * lanes), before)
        value.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", counted, steps), loop, after)

    builder.position_at_end(after)
    total = functools.reduce(builder.fadd, stepped)
    scalars = [builder.extract_element(total, ir.IntType(32)(lane)) for lane in range(lanes)]
    return functools.reduce(builder.fadd, scalars)


@intrinsic
def _copy_vector(typing: Any, source: Any, target: Any, place: Any) -> Any:
    """target[place:] = source[place:], one vector, written past the caches."""
    return types.void(source, target, types.intp), _emit_copy


def _emit_copy(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    vector = ir.VectorType(ir.FloatType(), vectors()[0])
    pointers = []
    for kind, value in zip(signature.args[:2], arguments[:2], strict=True):
        data = context.make_array(kind)(context, builder, value).data
        pointers.append(builder.bitcast(builder.gep(data, [arguments[2]]), vector.as_pointer()))
    aligned = vector.count * 4
    stored = builder.store(builder.load(pointers[0], align=aligned), pointers[1], align=aligned)
    # a plain store would read the line first, as no copy that large does
    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
    return context.get_dummy_value()


@numba.njit(nogil=True)
def _chains(steps: int, factor: float, term: float) -> float:
    return _vector_chains(steps, numba.float32(factor), numba.float32(term))


@numba.njit(nogil=True)
def _copy(source: Array, target: Array, first: int, end: int, lanes: int) -> None:
    for block in range(first, end, STREAMS * PAGE):
        for line in range(block, block + PAGE, lanes):
            for page in range(STREAMS):
                _copy_vector(source, target, line + page * PAGE)
