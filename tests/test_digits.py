"""The handwritten digits: their shape, their split, and that labels belong to images."""

from __future__ import annotations

import numpy as np
import pytest

from models import InputError
from models.digits import enlarged, load_digits


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def nearest_neighbour_accuracy(images, labels, test_images, test_labels):
    """Share of test images whose most similar training image has their label."""
    flat, tested = (each[:, 0].reshape(len(each), -1) for each in (images, test_images))
    distances = (flat**2).sum(1) - 2 * tested @ flat.T
    return (labels[distances.argmin(1)] == test_labels).mean()


def test_they_have_the_shape_that_a_cnn_for_cifar_10_wants(digits):
    images, labels, test_images, test_labels = digits
    assert images.shape == (1437, 3, 32, 32)
    assert test_images.shape == (360, 3, 32, 32)
    assert labels.shape == (1437,)
    assert test_labels.shape == (360,)
    assert {a.dtype for a in (images, test_images)} == {np.dtype(np.float32)}
    assert {a.dtype for a in (labels, test_labels)} == {np.dtype(np.int64)}
    assert images.flags.c_contiguous
    assert test_images.flags.c_contiguous


def test_they_are_normalised_over_the_training_images_and_grey(digits):
    images, _, test_images, _ = digits
    assert images.mean() == pytest.approx(0, abs=1e-4)
    assert images.std() == pytest.approx(1, abs=1e-4)
    for each in (images, test_images):
        np.testing.assert_array_equal(each[:, 0], each[:, 1])
        np.testing.assert_array_equal(each[:, 0], each[:, 2])


def test_every_call_gives_the_same_bits(digits):
    for first, again in zip(digits, load_digits(), strict=True):
        np.testing.assert_array_equal(first, again)


def test_every_digit_is_in_exactly_one_part(digits):
    images, _, test_images, _ = digits
    training, test = ({image.tobytes() for image in part} for part in (images, test_images))
    assert not training & test
    assert len(training | test) == 1797  # no two of scikit-learn's are alike


def test_both_parts_have_the_same_share_of_each_digit(digits):
    _, labels, _, test_labels = digits
    counts, test_counts = np.bincount(labels), np.bincount(test_labels)
    assert len(counts) == len(test_counts) == 10
    wanted = (counts + test_counts) * 360 / 1797
    assert np.abs(test_counts - wanted).max() < 1


def test_the_labels_are_those_of_the_images(digits):
    images, labels, test_images, test_labels = digits
    assert nearest_neighbour_accuracy(images, labels, test_images, test_labels) > 0.97
    shifted = np.roll(labels, 1)
    assert nearest_neighbour_accuracy(images, shifted, test_images, test_labels) < 0.2


@pytest.mark.parametrize(("old", "new"), [(8, 32), (8, 20), (32, 224), (5, 5), (1, 4)])
def test_enlarging_is_torchs_bilinear_interpolation(rng, old, new):
    import torch

    images = rng.random((2, 3, old, old))
    theirs = torch.nn.functional.interpolate(torch.from_numpy(images), new, mode="bilinear")
    np.testing.assert_allclose(enlarged(images, new), theirs.numpy(), rtol=0, atol=1e-14)


def test_a_smaller_size_is_refused():
    with pytest.raises(InputError, match="have 8 px a side, and 7 are asked for"):
        load_digits(7)
