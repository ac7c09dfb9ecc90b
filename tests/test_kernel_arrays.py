"""What operators ask of arrays and numbers, and memory orders as torch sees them."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import as_strided

from kernels.arrays import empty, float_array, integer, is_channels_last, nhwc, pair


def torch_takes_as_channels_last(shape, strides):
    """By the memory of a result: torch makes it in the order that it takes the input to be in."""
    return F.adaptive_avg_pool2d(torch.zeros(4096).as_strided(shape, strides), 2).stride(1) == 1


def test_channels_last_is_what_torch_takes_to_be_so():
    """Over strides in and out of order, with gaps and with repetition."""
    rng = np.random.default_rng(0)
    room = np.zeros(4096, np.float32)
    told = []
    for _ in range(1000):
        shape, strides, least = rng.integers(1, 4, 4).tolist(), [0] * 4, 1
        for axis in (1, 3, 2, 0) if rng.random() < 0.7 else rng.permutation(4):
            strides[axis] = least * int(rng.choice([0, 1, 1, 1, 1, 1, 1, 2]))
            least = strides[axis] * shape[axis] if rng.random() < 0.9 else least
        ours = is_channels_last(as_strided(room, shape, [4 * stride for stride in strides]))
        assert ours == torch_takes_as_channels_last(shape, strides), (shape, strides)
        told.append(ours)
    assert 200 < sum(told) < 800


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1)])
def test_made_memory_is_recognised(shape):
    assert is_channels_last(empty(shape, "f4", channels_last=True))
    assert not is_channels_last(empty(shape, "f4"))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (0, 3, 4, 5), (2, 0, 4, 5)])
def test_other_ranks_and_empty_arrays_are_not_channels_last(shape):
    assert not is_channels_last(np.empty(shape))


def test_room_has_the_shape_and_dtype_asked_for():
    for channels_last in (False, True):
        room = empty((2, 3, 4, 5), np.float64, channels_last=channels_last)
        assert (room.shape, room.dtype) == ((2, 3, 4, 5), np.float64)
    assert empty((2, 3), np.float32).flags.c_contiguous


def test_pixels_first_is_a_view_of_channels_last_memory_and_a_copy_of_other():
    last, first = (empty((2, 3, 4, 5), "f4", channels_last=last) for last in (True, False))
    for array in (last, first):
        array[...] = np.arange(120).reshape(2, 3, 4, 5)
        assert nhwc(array).flags.c_contiguous
        np.testing.assert_array_equal(nhwc(array), array.transpose(0, 2, 3, 1))
    assert np.shares_memory(nhwc(last), last)
    assert not np.shares_memory(nhwc(first), first)


def test_a_fitting_array_is_taken_as_it_is():
    for array in (np.ones((2, 3)), np.ones((6, 4))[::-2, ::2], np.ones((3, 2), order="F")):
        assert float_array("input", array, (1, 2)) is array


def test_an_unaligned_array_is_copied_in_its_own_order():
    packed = np.zeros((2, 4, 5, 3), np.dtype([("pad", "u1"), ("value", "f4")]))["value"]
    packed[...] = np.arange(120).reshape(packed.shape)
    images = packed.transpose(0, 3, 1, 2)
    taken = float_array("input", images, (4,))
    assert taken.flags.aligned
    assert is_channels_last(taken)
    np.testing.assert_array_equal(taken, images)


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 1, 4), (2, 3, 4)])
def test_a_read_only_array_is_taken_in_its_own_memory_and_order(shape):
    for array in (np.ones(shape), np.ones(shape).T, np.broadcast_to(np.ones(shape), (5, *shape))):
        array.flags.writeable = False
        taken = float_array("input", array, range(5))
        assert taken.flags.writeable
        assert not array.flags.writeable
        assert (taken.shape, taken.strides, taken.dtype) == (
            array.shape,
            array.strides,
            array.dtype,
        )
        assert taken.__array_interface__["data"][0] == array.__array_interface__["data"][0]


def test_a_read_only_array_lives_as_long_as_what_was_taken_of_it():
    array = np.ones(3)
    array.flags.writeable = False
    alive = weakref.ref(array)
    taken = float_array("input", array, (1,))
    del array
    assert alive() is not None
    del taken
    assert alive() is None


def test_a_subclass_is_taken_as_a_plain_array():
    assert type(float_array("input", np.ones((2, 3)).view(np.recarray), (2,))) is np.ndarray


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "weight must be a NumPy array, got list"),
        (1.0, "weight must be a NumPy array, got float"),
        (None, "weight must be a NumPy array, got NoneType"),
        (np.float32(1), "weight must be a NumPy array, got float32"),
        (torch.ones(2), "weight must be a NumPy array, got Tensor"),
        (np.ma.ones(2), "weight must be a NumPy array, got MaskedArray"),
        (np.ones(2, np.int32), "weight must be float32 or float64, got int32"),
        (np.ones(2, np.float16), "weight must be float32 or float64, got float16"),
        (np.ones(2, np.longdouble), "weight must be float32 or float64, got"),
        (np.ones(2, ">f8"), "weight must be float32 or float64, got >f8"),
        (np.ones(2, "f8"), "weight must be float32 as the input is, got float64"),
    ],
)
def test_what_is_no_array_of_the_floats_wanted_is_a_type_error(value, message):
    with pytest.raises(TypeError, match=message):
        float_array("weight", value, (1,), like=np.ones(1, np.float32))


def test_another_rank_is_a_value_error():
    with pytest.raises(ValueError, match=r"input must have 3 or 4 dimensions, got shape \(2, 3\)"):
        float_array("input", np.ones((2, 3)), (3, 4))


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_python_and_numpy_are_taken(value):
    taken = integer("groups", value, 1)
    assert (taken, type(taken)) == (3, int)


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.True_, np.float64(3), [3], 1j])
def test_what_is_no_whole_number_is_a_type_error(value):
    with pytest.raises(TypeError, match="groups must be a whole number, got "):
        integer("groups", value, 1)


def test_numbers_out_of_range_are_value_errors():
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        integer("stride", 0, 1)
    with pytest.raises(ValueError, match="stride must be at most 9223372036854775807, got 92233"):
        integer("stride", 2**63, 1)


@pytest.mark.parametrize(
    ("value", "taken"), [(2, (2, 2)), ((1, 2), (1, 2)), ([1, 2], (1, 2)), ((3,), (3, 3))]
)
def test_a_pair_is_one_number_or_two(value, taken):
    assert pair("stride", value, 1) == taken


@pytest.mark.parametrize("value", [(), (1, 2, 3)])
def test_neither_one_number_nor_two_is_a_value_error(value):
    with pytest.raises(ValueError, match="stride must be a whole number or a pair of them, got "):
        pair("stride", value, 1)


def test_each_number_of_a_pair_is_checked():
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        pair("stride", (1, 0), 1)
    with pytest.raises(TypeError, match=r"stride must be a whole number, got 1\.0"):
        pair("stride", (1.0, 1), 1)
