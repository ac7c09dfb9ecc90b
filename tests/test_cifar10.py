"""CIFAR-10's two formats, on small true files, and every kind of damage to them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from models import InputError
from models.cifar10 import find_cifar10, read_cifar10
from tests.cifar_files import CLASSES, NAMES, pickled, pictures, write_binary, write_python

WRITERS = pytest.mark.parametrize("write", [write_python, write_binary])


def entry(**changed):
    pixels, labels = pictures(0)
    return {"data": pixels, "labels": labels} | changed


def refused(folder, match):
    """The one line that refuses the folder."""
    with pytest.raises(InputError, match=match) as caught:
        read_cifar10(folder)
    assert "\n" not in str(caught.value)
    assert "--download" in str(caught.value)
    return str(caught.value)


@WRITERS
def test_every_picture_and_label_is_read(tmp_path, write):
    data = read_cifar10(write(tmp_path))
    assert data.classes == tuple(CLASSES)
    for batch, seeds in [(data.training, range(5)), (data.test, [5])]:
        wanted = [pictures(seed) for seed in seeds]
        assert batch.images.dtype == np.uint8
        assert batch.images.flags.c_contiguous
        assert batch.labels.dtype == np.int64
        np.testing.assert_array_equal(
            batch.images, np.concatenate([pixels for pixels, _ in wanted]).reshape(-1, 3, 32, 32)
        )
        assert batch.labels.tolist() == [label for _, labels in wanted for label in labels]


def test_a_picture_is_rows_of_red_then_green_then_blue(tmp_path):
    folder = write_binary(tmp_path)
    file = folder / "data_batch_1.bin"
    content = bytearray(file.read_bytes())
    content[: 1 + 3072] = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1024
    content[1 + 5] = 9  # in the first row
    file.write_bytes(content)
    read = read_cifar10(folder)
    image = read.training.images[0]
    assert read.training.labels[0] == 7
    assert image[:, 31, 31].tolist() == [1, 2, 3]
    assert image[0, 0, 5] == 9


@WRITERS
def test_it_is_found_in_the_folder_and_below_it(tmp_path, write):
    folder = write(tmp_path)
    assert find_cifar10(tmp_path) == folder
    assert find_cifar10(folder) == folder
    assert find_cifar10(tmp_path.parent / "elsewhere") is None


def test_pickles_that_python_3_wrote_are_read_as_well(tmp_path):
    folder = write_python(tmp_path)
    before = read_cifar10(folder)
    for file in folder.iterdir():
        with file.open("rb") as stream:
            content = pickle.load(stream, encoding="latin1")
        file.write_bytes(pickle.dumps(content, protocol=4))
    np.testing.assert_array_equal(read_cifar10(folder).training.images, before.training.images)


@WRITERS
@pytest.mark.parametrize("name", [*NAMES, "batches.meta"])
def test_a_missing_file_is_named(tmp_path, write, name):
    folder = write(tmp_path)
    (file,) = (f for f in folder.iterdir() if f.name.split(".bin")[0].split(".txt")[0] == name)
    file.unlink()
    told = refused(folder, "no such file")
    assert str(file) in told


def test_a_folder_that_holds_none_of_the_files_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    found = find_cifar10(tmp_path)
    assert found is not None
    refused(found, r"cifar-10-batches-py: none of CIFAR-10's batches is there")


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_that_is_cut_off_is_named(tmp_path, name, share):
    file = write_python(tmp_path) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(file.parent, rf"{name} is cut off or broken \(")


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 * 3 - 1, 3073 * 19 + 5])
def test_records_that_are_cut_off_are_named(tmp_path, size):
    file = write_binary(tmp_path) / "data_batch_4.bin"
    os.truncate(file, size)
    refused(file.parent, rf"data_batch_4\.bin should hold records of 3073 bytes, got {size} bytes")


def test_records_that_are_cut_off_between_two_are_seen_by_their_number(tmp_path):
    file = write_binary(tmp_path) / "test_batch.bin"
    os.truncate(file, 3073 * 19)
    refused(file.parent, r"test_batch\.bin should hold 20 pictures, as many as data_b.*, got 19;")


@pytest.mark.parametrize("content", [b"no pickle at all", b"\x00" * 100, b"\x80\x63", b"\x1f\x8b."])
def test_a_file_of_something_else_is_named(tmp_path, content):
    file = write_python(tmp_path) / "data_batch_2"
    file.write_bytes(content)
    refused(file.parent, "data_batch_2 is cut off or broken")


def test_a_changed_byte_in_a_pickles_frame_is_named(tmp_path):
    file = write_python(tmp_path) / "data_batch_2"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"_reconstruct", b"_reconstrukt"))
    refused(file.parent, "data_batch_2 asks for 'numpy.core.multiarray._reconstrukt'")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "a dictionary with data and labels, got a list"),
        ({"fine_labels": 1}, "a dictionary with data and labels, got one with fine_labels"),
        (entry(data=np.zeros((20, 1024), np.uint8)), r"uint8 \[n, 3072\], got uint8 \[20, 1024\]"),
        (entry(data=np.zeros(3072, np.uint8)), r"uint8 \[n, 3072\], got uint8 \[3072\]"),
        (entry(data=np.zeros((0, 3072), np.uint8)), r"uint8 \[n, 3072\], got uint8 \[0, 3072\]"),
        (entry(data=np.zeros((20, 3072), "f4")), r"uint8 \[n, 3072\], got float32 \[20, 3072\]"),
        (entry(data="text"), r"uint8 \[n, 3072\], got a str"),
        (entry(labels="text"), "labels in a list of whole numbers, got a str"),
        (entry(labels=[0.5] * 20), "labels in a list of whole numbers, got a list"),
        (entry(labels=[1] * 19), "20 labels, one for each picture, got 19"),
        (entry(labels=[1] * 19 + [10]), "labels from 0 to 9, got 10"),
        (entry(labels=[1] * 19 + [-1]), "labels from 0 to 9, got -1"),
        (entry(labels=[1] * 19 + [10**30]), "labels that are small numbers, got 1000"),
    ],
)
def test_wrong_content_is_told_with_what_came(tmp_path, content, told):
    file = write_python(tmp_path) / "data_batch_5"
    pickled(content, file)
    refused(file.parent, f"data_batch_5 should hold .*{told}")


def test_a_label_that_is_no_class_is_named_in_records_too(tmp_path):
    file = write_binary(tmp_path) / "data_batch_1.bin"
    content = file.read_bytes()
    file.write_bytes(bytes([255]) + content[1:])
    refused(file.parent, r"data_batch_1\.bin should hold labels from 0 to 9, got 255")


@pytest.mark.parametrize("content", [{}, {"label_names": []}, {"label_names": [1]}, "cat"])
def test_classes_without_names_are_refused(tmp_path, content):
    file = write_python(tmp_path) / "batches.meta"
    pickled(content, file)
    refused(file.parent, r"batches\.meta should hold a dictionary with label_names")


def test_an_empty_list_of_classes_is_refused(tmp_path):
    file = write_binary(tmp_path) / "batches.meta.txt"
    file.write_text("\n\n")
    refused(file.parent, r"batches\.meta\.txt should hold the names of the classes.*, got nothing")


class Evil:
    """A pickle of it makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_a_pickle_that_would_run_code_is_refused_without_running_it(tmp_path, name, protocol):
    file = write_python(tmp_path) / name
    harm = tmp_path / "harm"
    file.write_bytes(pickle.dumps(entry(more=Evil(harm)), protocol))
    refused(file.parent, f"{name} asks for .*could run any code")
    assert not harm.exists()
    with file.open("rb") as stream:
        pickle.load(stream)  # as torchvision would
    assert harm.exists()


@pytest.mark.parametrize(
    "asked", ["builtins\neval", "os\nsystem", "numpy\nload", "numpy.core.multiarray\nfromfile"]
)
def test_no_other_name_is_let_through_not_even_numpys(tmp_path, asked):
    file = write_python(tmp_path) / "test_batch"
    file.write_bytes(f"c{asked}\n(S'x'\ntR.".encode())
    refused(file.parent, "test_batch asks for '" + asked.replace("\n", r"\."))
