"""exp and log that LLVM vectorises, for Numba loops over float32 and float64.

    exp             at most 1.08 ulp off in float32 (all numbers), 0.98 in float64 (12 million)
    exp_to_add      the same of x <= 0, for a sum that has 1 in it: never less than 2^-126, 2^-1022
    log             at most 0.84 ulp off in float32 (all numbers), 0.83 in float64 (10 million)
    rank, unrank    whole numbers in the order of the floats, for a maximum that vectorises
    any_order       a sum whose order the compiler may choose
    widest_vectors  how long the vectors are

Numba calls the C library for each number unless Intel's SVML is installed. Here each function is
straight-line arithmetic, without a branch or a table, so that a loop over it becomes vector code.
Overflow, underflow through the subnormals, infinity and NaN come out as in C.

exp(x) = 2^n exp(r), where n = round(x / ln 2), and exp(r) = 1 + r + r^2 p(r) for |r| <= ln 2 / 2.
log(x) = n ln 2 + log(1 + f), where sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f) and
log(1 + f) = 2 s + s^3 q(s^2). In both ln 2 is a sum of two numbers, of which the first has so few
digits that n times it is exact (Cody and Waite, "Software Manual for the Elementary Functions",
1980); the arrangement of log's sum is fdlibm's (e_log.c). p and q are the polynomials through the
Chebyshev points of their intervals, solved for with 60 digits: 2^-26.6 and 2^-61.9 off for exp,
2^-35.8 and 2^-64.8 for log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


@dataclass(frozen=True)
class _Format:
    """A float's bit pattern, and the constants that belong to its precision."""

    bits: int
    fraction: int
    """Bits behind the point; as many as `bits` leaves after these and the sign are the exponent."""
    ln2: tuple[float, float]
    limits: tuple[float, float]
    """Below the first exp is 0, above the second infinity; both keep n small."""
    root: int
    """The square root of 1/2, as bits."""
    p: tuple[float, ...]
    q: tuple[float, ...]

    @property
    def bias(self) -> int:
        return 2 ** (self.bits - self.fraction - 2) - 1


FORMATS = {
    types.float32: _Format(
        bits=32,
        fraction=23,
        ln2=(0.693145751953125, 1.4286068203094173e-06),
        limits=(-104.0, 89.0),
        root=0x3F3504F3,
        p=(
            0.5,
            0.1666657702559799,
            0.041666554662050534,
            0.008363173074513711,
            0.001392617611993558,
        ),
        q=(0.6666666655449709, 0.40000121839806124, 0.28550820815960665, 0.23330467216303835),
    ),
    types.float64: _Format(
        bits=64,
        fraction=52,
        ln2=(0.6931471805598903, 5.497923018708371e-14),
        limits=(-746.0, 710.0),
        root=0x3FE6A09E667F3BCD,
        p=(
            0.5,
            0.1666666666666667,
            0.04166666666666667,
            0.008333333333326141,
            0.0013888888888883752,
            0.00019841269874800493,
            2.4801587325533363e-05,
            2.7557255425746435e-06,
            2.7557273661348637e-07,
            2.510520637395701e-08,
            2.0914679376583935e-09,
        ),
        q=(
            0.6666666666666666,
            0.4000000000000088,
            0.28571428570803614,
            0.22222222391713917,
            0.18181795640132906,
            0.15386239702814658,
            0.13268773138656886,
            0.13086626147840102,
        ),
    ),
}


@intrinsic
def exp(typing, x):  # noqa: ARG001
    """e to the power of x."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return _Code(builder, x).exp(values[0])

    return x(x), emit


@intrinsic
def exp_to_add(typing, x):  # noqa: ARG001
    """e to the power of x <= 0, in three quarters of exp's time, for a sum of 1 and more.

    What is too small to change such a sum, zero too, is some normal number just as small.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return _Code(builder, x).exp_to_add(values[0])

    return x(x), emit


@intrinsic
def log(typing, x):  # noqa: ARG001
    """The natural logarithm; -inf for zeros, NaN below."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return _Code(builder, x).log(values[0])

    return x(x), emit


@intrinsic
def rank(typing, x):  # noqa: ARG001
    """A whole number of as many bits, in the order of the floats; NaN lies beyond an infinity."""
    whole = types.int32 if x == types.float32 else types.int64

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        code = _Code(builder, x)
        return code.mirrored(code.to_bits(values[0]))

    return whole(x), emit


@intrinsic
def unrank(typing, number):  # noqa: ARG001
    """The float of that rank."""
    real = types.float32 if number == types.int32 else types.float64

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        code = _Code(builder, real)
        return code.to_float(code.mirrored(values[0]))

    return real(number), emit


@intrinsic
def any_order(typing, total, x):  # noqa: ARG001
    """total + x, where a loop of such sums may take its terms in any order."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return builder.fadd(*values, flags=("reassoc",))

    return total(total, total), emit


@intrinsic
def widest_vectors(typing):  # noqa: ARG001
    """Have the calling function's loops use the longest vectors that there are.

    LLVM by itself takes half of AVX-512's on processors whose clock falls with long ones; here
    the arithmetic outweighs that.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        # llvmlite's own `add` knows only attributes that are one word.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), emit


class _Code:
    """LLVM code for one float."""

    def __init__(self, builder: Any, kind: Any) -> None:
        self._builder = builder
        self._format = FORMATS[kind]
        self._float = ir.FloatType() if self._format.bits == 32 else ir.DoubleType()
        self._whole = ir.IntType(self._format.bits)

    def to_bits(self, x: Any) -> Any:
        return self._builder.bitcast(x, self._whole)

    def to_float(self, bits: Any) -> Any:
        return self._builder.bitcast(bits, self._float)

    def mirrored(self, bits: Any) -> Any:
        """Negative floats have their order turned round; its own inverse."""
        builder, whole = self._builder, self._whole
        sign = builder.ashr(bits, whole(self._format.bits - 1))
        return builder.xor(bits, builder.lshr(sign, whole(1)))

    def exp(self, x: Any) -> Any:
        builder, of, real, whole = self._builder, self._format, self._float, self._whole
        # Comparisons with NaN fail, so it passes both limits.
        x = self._if(builder.fcmp_ordered("<", x, real(of.limits[0])), real(of.limits[0]), x)
        x = self._if(builder.fcmp_ordered(">", x, real(of.limits[1])), real(of.limits[1]), x)
        sum_, fraction = self._power_and_fraction(x)
        n = builder.sub(sum_, self.to_bits(self._large()))
        # 2^n in two factors: itself it may lie outside of the normal numbers.
        half = builder.ashr(n, whole(1))
        scaled = builder.fmul(fraction, self._power(half))
        return builder.fmul(scaled, self._power(builder.sub(n, half)))

    def exp_to_add(self, x: Any) -> Any:
        builder, of = self._builder, self._format
        # The last power of two that is a normal number, and one less for the fraction.
        least = self._float((2 - of.bias) * math.log(2))
        x = self._if(builder.fcmp_ordered("<", x, least), least, x)
        sum_, fraction = self._power_and_fraction(x)
        # What the sum has above n is shifted out. A product, for NaN has to stay NaN.
        return builder.fmul(fraction, self._power(sum_))

    def _power_and_fraction(self, x: Any) -> tuple[Any, Any]:
        """A whole number that ends in the bits of n, and exp(r)."""
        builder, of, real = self._builder, self._format, self._float
        # Added to so large a number, x / ln 2 is rounded, and n stands in the last bits of the sum.
        sum_ = self._fma(x, real(1 / math.log(2)), self._large())
        number = builder.fsub(sum_, self._large())
        r = self._fma(number, real(-of.ln2[0]), x)
        r = self._fma(number, real(-of.ln2[1]), r)
        tail = self._fma(builder.fmul(r, r), self._polynomial(of.p, r), r)
        return self.to_bits(sum_), builder.fadd(tail, real(1))

    def _large(self) -> Any:
        return self._float(1.5 * 2.0**self._format.fraction)

    def log(self, x: Any) -> Any:
        builder, of, real, whole = self._builder, self._format, self._float, self._whole
        tiny = builder.fcmp_ordered("<", x, real(2.0 ** (1 - of.bias)))
        normal = self._if(tiny, builder.fmul(x, real(2.0**of.fraction)), x)
        above = builder.sub(self.to_bits(normal), whole(of.root))
        n = builder.ashr(above, whole(of.fraction))
        n = builder.sub(n, self._if(tiny, whole(of.fraction), whole(0)))
        fraction = builder.and_(above, whole(2**of.fraction - 1))
        f = builder.fsub(self.to_float(builder.add(fraction, whole(of.root))), real(1))
        s = builder.fdiv(f, builder.fadd(f, real(2)))
        z = builder.fmul(s, s)
        half = builder.fmul(builder.fmul(f, real(0.5)), f)
        number = builder.sitofp(n, self._float)
        tail = self._fma(z, self._polynomial(of.q, z), half)
        tail = self._fma(s, tail, builder.fmul(number, real(of.ln2[1])))
        tail = builder.fsub(builder.fsub(half, tail), f)
        result = self._fma(number, real(of.ln2[0]), builder.fneg(tail))
        result = self._if(builder.fcmp_unordered("<", x, real(0)), real(math.nan), result)
        result = self._if(builder.fcmp_ordered("==", x, real(0)), real(-math.inf), result)
        return self._if(builder.fcmp_ordered("==", x, real(math.inf)), x, result)

    def _polynomial(self, coefficients: tuple[float, ...], x: Any) -> Any:
        value = self._float(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self._fma(value, x, self._float(coefficient))
        return value

    def _power(self, n: Any) -> Any:
        """2^n, for n of normal numbers."""
        biased = self._builder.add(n, self._whole(self._format.bias))
        return self.to_float(self._builder.shl(biased, self._whole(self._format.fraction)))

    def _fma(self, a: Any, b: Any, c: Any) -> Any:
        return self._builder.fma(a, b, c)

    def _if(self, condition: Any, yes: Any, no: Any) -> Any:
        return self._builder.select(condition, yes, no)
