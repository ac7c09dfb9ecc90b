"""Short vectors as values of Numba code: neighbouring numbers of an array, kept in registers.

LLVM makes vectors of a loop's body only where it can prove that nothing overlaps, and keeps none
of them across an inner loop. These functions say outright what is meant. A vector is 64 bytes of
floats, or as many integers as go with those; LLVM cuts it up for processors with shorter registers.

Loads and stores touch the first `count` numbers alone: no depth needs a loop for what is left over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numpy.typing import DTypeLike

BYTES = 64
"""Of a vector of floats."""
I32, I64 = ir.IntType(32), ir.IntType(64)


def lanes_of(dtype: DTypeLike) -> int:
    """How many numbers of a float dtype a vector holds."""
    return BYTES // np.dtype(dtype).itemsize


class Lanes(types.Type):
    """Numba's type of a vector of `count` numbers or truths."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype = dtype
        self.count = count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        truth = fe_type.dtype == types.boolean
        lane = ir.IntType(1) if truth else dmm[fe_type.dtype].get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(lane, fe_type.count))


@intrinsic
def load(typingctx, array, index, count):  # noqa: ARG001
    """`count` numbers of a flat float array from `index` on, zeros behind them."""
    lanes = Lanes(array.dtype, BYTES * 8 // array.dtype.bitwidth)
    return lanes(array, types.intp, types.intp), _load


@intrinsic
def load_integers(typingctx, array, index, count, like):  # noqa: ARG001
    """The same of a flat array of integers, as many lanes as `like` has, and -1 behind them."""
    return Lanes(array.dtype, like.count)(array, types.intp, types.intp, like), _load


@intrinsic
def store(typingctx, array, index, count, vector):  # noqa: ARG001
    """Write the first `count` numbers of a vector to a flat array, from `index` on."""
    return types.void(array, types.intp, types.intp, vector), _store


@intrinsic
def prefetch_for_write(typingctx, array, index):  # noqa: ARG001
    """Ask for the cache line of a flat array's number, which may lie behind its end."""

    def generate(context, builder, signature, args):
        pointer, _ = _address(context, builder, signature.args[0], args, inbounds=False)
        arguments = [builder.bitcast(pointer, ir.IntType(8).as_pointer()), I32(1), I32(3), I32(1)]
        kinds = [argument.type for argument in arguments]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def fill(typingctx, array, number):  # noqa: ARG001
    """A vector of one number, in a float array's dtype."""
    lanes = Lanes(array.dtype, BYTES * 8 // array.dtype.bitwidth)

    def generate(context, builder, signature, args):
        lane = context.cast(builder, args[1], signature.args[1], array.dtype)
        return _spread(builder, lane, lanes.count)

    return lanes(array, number), generate


@intrinsic
def fill_integers(typingctx, number, like):  # noqa: ARG001
    """A vector of one integer, as many lanes as the vector `like` has."""

    def generate(context, builder, signature, args):  # noqa: ARG001
        return _spread(builder, args[0], like.count)

    return Lanes(types.int64, like.count)(types.int64, like), generate


@intrinsic
def plus(typingctx, a, b):  # noqa: ARG001
    """a + b, of floats."""
    return a(a, a), lambda context, builder, signature, args: builder.fadd(*args)  # noqa: ARG005


@intrinsic
def minus(typingctx, a, b):  # noqa: ARG001
    """a - b, of floats."""
    return a(a, a), lambda context, builder, signature, args: builder.fsub(*args)  # noqa: ARG005


@intrinsic
def times(typingctx, a, b):  # noqa: ARG001
    """a b, of floats."""
    return a(a, a), lambda context, builder, signature, args: builder.fmul(*args)  # noqa: ARG005


@intrinsic
def multiply_add(typingctx, a, b, c):  # noqa: ARG001
    """a b + c, of floats; rounded once where the processor can do both in one."""

    def generate(context, builder, signature, args):  # noqa: ARG001
        product = builder.fmul(args[0], args[1], flags=("contract",))
        return builder.fadd(product, args[2], flags=("contract",))

    return a(a, a, a), generate


@intrinsic
def over(typingctx, a, b):  # noqa: ARG001
    """a / b, of floats."""
    return a(a, a), lambda context, builder, signature, args: builder.fdiv(*args)  # noqa: ARG005


@intrinsic
def total_of(typingctx, vector):  # noqa: ARG001
    """The sum of all lanes, halves added to halves."""

    def generate(context, builder, signature, args):  # noqa: ARG001
        part = args[0]
        while part.type.count > 1:
            half = part.type.count // 2
            low, high = (
                ir.Constant(ir.VectorType(I32, half), list(range(first, first + half)))
                for first in (0, half)
            )
            part = builder.fadd(
                builder.shuffle_vector(part, part, low), builder.shuffle_vector(part, part, high)
            )
        return builder.extract_element(part, I32(0))

    return vector.dtype(vector), generate


@intrinsic
def exceeds(typingctx, value, best):  # noqa: ARG001
    """Where `value` is greater than `best`, or NaN."""

    def generate(context, builder, signature, args):  # noqa: ARG001
        greater = builder.fcmp_ordered(">", *args)
        return builder.or_(greater, builder.fcmp_unordered("uno", args[0], args[0]))

    return Lanes(types.boolean, value.count)(value, value), generate


@intrinsic
def equals(typingctx, a, b):  # noqa: ARG001
    """Where two vectors of integers are equal."""

    def generate(context, builder, signature, args):  # noqa: ARG001
        return builder.icmp_signed("==", *args)

    return Lanes(types.boolean, a.count)(a, a), generate


@intrinsic
def choose(typingctx, truth, yes, no):  # noqa: ARG001
    """`yes` where `truth`, else `no`."""

    def generate(context, builder, signature, args):  # noqa: ARG001
        return builder.select(*args)

    return yes(truth, yes, yes), generate


@intrinsic
def how_many(typingctx, truth):  # noqa: ARG001
    """How many lanes are true."""

    def generate(context, builder, signature, args):  # noqa: ARG001
        bits = builder.bitcast(args[0], ir.IntType(truth.count))
        return builder.zext(builder.ctpop(bits), I64)

    return types.int64(truth), generate


def _load(context, builder, signature, args):
    pointer, align = _address(context, builder, signature.args[0], args)
    lanes = signature.return_type
    kind = context.get_value_type(lanes)
    pointer = builder.bitcast(pointer, kind.as_pointer())
    with builder.if_else(_whole(builder, args[2], lanes)) as (then, otherwise):
        with then:
            whole = builder.load(pointer, align=align)
            after_whole = builder.block
        with otherwise:
            mask = _first(builder, args[2], lanes.count)
            behind = [-1 if isinstance(kind.element, ir.IntType) else 0.0] * lanes.count
            arguments = [pointer, I32(align), mask, ir.Constant(kind, behind)]
            part = _call(builder, "load", kind, kind, arguments)
            after_part = builder.block
    result = builder.phi(kind)
    result.add_incoming(whole, after_whole)
    result.add_incoming(part, after_part)
    return result


def _store(context, builder, signature, args):
    pointer, align = _address(context, builder, signature.args[0], args)
    lanes, vector = signature.args[3], args[3]
    pointer = builder.bitcast(pointer, vector.type.as_pointer())
    with builder.if_else(_whole(builder, args[2], lanes)) as (then, otherwise):
        with then:
            builder.store(vector, pointer, align=align)
        with otherwise:
            mask = _first(builder, args[2], lanes.count)
            arguments = [vector, pointer, I32(align), mask]
            _call(builder, "store", vector.type, ir.VoidType(), arguments)
    return context.get_dummy_value()


def _call(builder, name, kind, result, arguments):
    lane = {"float": "f32", "double": "f64", "i64": "i64"}[str(kind.element)]
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [argument.type for argument in arguments]),
        f"llvm.masked.{name}.v{kind.count}{lane}.p0",
    )
    return builder.call(function, arguments)


def _address(context, builder, kind, args, inbounds=True):
    """Where a flat array has the number of an index, and to how many bytes that is aligned."""
    array = context.make_array(kind)(context, builder, args[0])
    return builder.gep(array.data, [args[1]], inbounds=inbounds), kind.dtype.bitwidth // 8


def _whole(builder, count, lanes):
    return builder.icmp_signed(">=", count, I64(lanes.count))


def _first(builder, count, lanes):
    """A mask of the first `count` lanes."""
    steps = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    return builder.icmp_signed("<", steps, _spread(builder, count, lanes))


def _spread(builder, number, lanes):
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    one = builder.insert_element(nothing, number, I32(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))
