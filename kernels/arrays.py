"""What every operator asks of its arguments, and how an array lies in memory.

What torch refuses is refused here too, as TypeError (no array, no float) or ValueError (shape,
number), naming the argument, what was wanted and what came.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
MOST = 2**63 - 1
"""The largest whole number that compiled code takes."""


def float_array(name: str, value: object, ndim: Sequence[int], like: Array | None = None) -> Array:
    """`value` as an aligned plain array, copied only where it is not aligned; see `unlocked`.

    Raises TypeError unless it is a float32 or float64 array, of `like`'s dtype where that is
    given, and ValueError unless the number of its dimensions is one of `ndim`.
    """
    plain = type(value) is np.ndarray
    if not plain and (not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray)):
        raise TypeError(f"{name} must be a NumPy array, got {type(value).__name__}")
    if value.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}")
    if like is not None and value.dtype != like.dtype:
        raise TypeError(f"{name} must be {like.dtype} as the input is, got {value.dtype}")
    check_dimensions(name, value.shape, ndim)
    array = value if plain else np.asarray(value)
    return unlocked(array) if array.flags.aligned else array.copy(order="K")


def check_dimensions(name: str, shape: tuple[int, ...], ndim: Sequence[int]) -> None:
    """Raise ValueError unless the number of `shape`'s dimensions is one of `ndim`."""
    if len(shape) not in ndim:
        wanted = " or ".join(map(str, ndim))
        raise ValueError(f"{name} must have {wanted} dimensions, got shape {shape}")


def unlocked(array: Array) -> Array:
    """A read-only array's memory as an array that says otherwise; any other as it is.

    Read-only arrays are of a type of their own to Numba, which would compile every kernel anew for
    them, for seconds. Nothing may write to the result, nor hand it out.
    """
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


class _Unlocked:
    """What NumPy makes an array of, and keeps as its base."""

    def __init__(self, array: Array) -> None:
        self.array = array
        data = (array.__array_interface__["data"][0], False)
        strides = array.strides  # else those of dimensions of size 1 would be lost
        self.__array_interface__ = {**array.__array_interface__, "data": data, "strides": strides}


def integer(name: str, value: object, least: int) -> int:
    """`value` as an int; raises TypeError for what is none, ValueError outside [least, 2^63)."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > MOST:
        raise ValueError(f"{name} must be at most {MOST}, got {number}")
    return number


def pair(name: str, value: object, least: int) -> tuple[int, int]:
    """An int or two of them -> (vertical, horizontal), each at least `least`."""
    if isinstance(value, (tuple, list)):
        if len(value) == 1:
            value = [value[0], value[0]]
        if len(value) != 2:
            raise ValueError(f"{name} must be a whole number or a pair of them, got {value!r}")
        return integer(name, value[0], least), integer(name, value[1], least)
    number = integer(name, value, least)
    return number, number


def flag(name: str, value: object) -> bool:
    """`value`; raises TypeError for what is neither True nor False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def flags(name: str, value: object, *of: str) -> tuple[bool, ...]:
    """A True or False for each of those named; raises ValueError for more or fewer."""
    if not isinstance(value, (tuple, list)) or len(value) != len(of):
        raise ValueError(
            f"{name} must be {len(of)} of True and False, for {', '.join(of)}; got {value!r}"
        )
    return tuple([bool(each) for each in value])


def is_channels_last(array: Array) -> bool:
    """Whether torch would take a 4-d array to be in channels-last memory, by its strides alone.

    The rule of c10's `is_channels_last_strides_2d`: one-sized dimensions are ambiguous, and count
    as channels-last only where their strides say so.
    """
    if array.ndim != 4 or array.strides[1] == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        size, stride = array.shape[axis], array.strides[axis]
        if size == 0 or stride < least:
            return False
        if axis == 0 and least == array.strides[1]:
            return False
        least = stride * size if size > 1 else stride
    return True


def empty(shape: Sequence[int], dtype: DTypeLike, *, channels_last: bool = False) -> Array:
    """Room for a result, contiguous; [N, C, H, W] in channels-last memory where asked for.

    Every operator makes room through this, so that tests can put canaries around it.
    """
    if not channels_last:
        return np.empty(shape, dtype)
    n, c, h, w = shape
    return np.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def nhwc(array: Array) -> Array:
    """[N, C, H, W] -> C-contiguous [N, H, W, C]; a view where the memory is channels-last."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
