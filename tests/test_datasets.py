"""What is trained on: digits, CIFAR-10, and which images a subset takes."""

from __future__ import annotations

import socket
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest

from models import InputError
from models.choice import DataChoice
from models.cifar10 import read_cifar10
from models.datasets import CIFAR10_MEAN, CIFAR10_STD, load_dataset
from models.subsets import in_turns, picked, place_in_class
from tests.cifar_files import write_binary, write_python


def test_digits_are_the_data_where_none_are_named():
    data = load_dataset(DataChoice())
    assert data.name == "digits"
    assert data.classes == tuple("0123456789")
    assert data.images.shape == (1437, 3, 32, 32)
    assert data.test_images.shape == (360, 3, 32, 32)
    assert data.images.flags.c_contiguous
    assert set(data.labels[:10]) == set(range(10))


def test_digits_come_in_the_size_that_is_asked_for():
    data = load_dataset(DataChoice(subset=3), size=48)
    assert data.images.shape == (3, 3, 48, 48)


@pytest.mark.parametrize("write", [write_python, write_binary])
@pytest.mark.parametrize("below", [True, False])
def test_cifar_10_is_normalised_with_its_labels(tmp_path, write, below):
    folder = write(tmp_path)
    data = load_dataset(DataChoice(tmp_path if below else folder))
    assert data.name == "cifar10"
    assert data.images.dtype == data.test_images.dtype == np.float32
    assert data.images.flags.c_contiguous
    raw = read_cifar10(folder)
    order = in_turns(raw.training.labels)
    mean, std = CIFAR10_MEAN[:, None, None], CIFAR10_STD[:, None, None]
    expected = (raw.training.images[order] / 255.0 - mean) / std
    np.testing.assert_allclose(data.images, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(data.labels, raw.training.labels[order])
    assert len(data.test_labels) == 20


def test_cifar_10_is_enlarged_where_a_network_wants_more(tmp_path):
    data = load_dataset(DataChoice(write_python(tmp_path), subset=4), size=64)
    assert data.images.shape == (4, 3, 64, 64)
    assert data.images.flags.c_contiguous
    with pytest.raises(InputError, match="have 32 px a side, and 16 are asked for"):
        load_dataset(DataChoice(tmp_path), size=16)


@pytest.mark.parametrize("number", [1, 9, 10, 64, 100])
def test_a_subset_is_balanced_and_has_its_share_of_test_images(tmp_path, number):
    data = load_dataset(DataChoice(write_binary(tmp_path), number))
    counts = np.bincount(data.labels, minlength=10)
    assert counts.sum() == len(data.images) == number
    assert np.ptp(counts) <= 1
    assert len(data.test_images) == len(data.test_labels) == max(1, round(number / 5))


def test_a_subset_is_the_beginning_of_a_larger_one():
    small, large = (load_dataset(DataChoice(subset=number)) for number in (30, 70))
    np.testing.assert_array_equal(large.images[:30], small.images)
    np.testing.assert_array_equal(large.labels[:30], small.labels)


def test_a_subset_larger_than_the_data_is_refused():
    assert len(load_dataset(DataChoice(subset=1437)).labels) == 1437
    with pytest.raises(InputError, match=r"--subset 1438: .* 1437 training images; allowed: 1 to"):
        load_dataset(DataChoice(subset=1438))


def test_turns_take_one_of_each_class_until_it_is_used_up():
    labels = np.array([2, 2, 0, 2, 1, 0])
    assert place_in_class(labels).tolist() == [0, 1, 0, 2, 0, 1]
    assert labels[in_turns(labels)].tolist() == [0, 1, 2, 0, 2, 2]
    assert in_turns(labels).tolist() == [2, 4, 0, 5, 1, 3]


def test_a_class_that_is_too_small_leaves_its_part_to_the_others():
    labels = np.repeat([0, 1, 2], [1, 50, 50])
    taken, tested = picked(labels, labels, 21)
    assert np.bincount(labels[taken]).tolist() == [1, 10, 10]
    assert len(tested) == 21


def test_a_missing_folder_is_refused_with_what_is_allowed(tmp_path):
    for name in ("none", "x" * 5000, "null\0"):
        with pytest.raises(InputError, match=r"no such folder|cannot be read") as caught:
            load_dataset(DataChoice(tmp_path / name))
        for allowed in ("cifar-10-batches-py", "cifar-10-batches-bin", "--download", "train"):
            assert allowed in str(caught.value)


def test_a_folder_with_nothing_usable_is_refused_with_what_is_allowed(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(InputError, match="it holds neither; allowed are CIFAR-10, unpacked"):
        load_dataset(DataChoice(tmp_path))
    with pytest.raises(InputError, match="is a file; allowed are"):
        load_dataset(DataChoice(tmp_path / "cifar-10-python.tar.gz"))


def test_what_is_there_is_not_downloaded_again(tmp_path):
    write_python(tmp_path)
    assert len(load_dataset(DataChoice(tmp_path, download=True)).labels) == 100


def test_a_download_without_a_network_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(InputError, match="--download: CIFAR-10 could not be fetched"):
        load_dataset(DataChoice(tmp_path / "data", download=True))
    assert not (tmp_path / "data").exists()


def test_more_images_than_memory_holds_are_refused(monkeypatch):
    def too_large(*_):
        raise MemoryError

    monkeypatch.setattr("models.datasets.load_digits", too_large)
    with pytest.raises(InputError, match=r"do not fit into .* memory.*--subset"):
        load_dataset(DataChoice())


def test_a_disk_that_fails_is_told(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(5, "Input/output error")

    write_binary(tmp_path)
    monkeypatch.setattr(np, "fromfile", failing)
    with pytest.raises(InputError, match=r"--data-dir .*cannot be read .*Input/output error"):
        load_dataset(DataChoice(tmp_path))
