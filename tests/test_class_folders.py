"""Class folders, whole and broken ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from models import InputError
from models.class_folders import MEAN, STD, load_image, read_class_folders
from tests.fresh_python import run_python


def save(file, colour="red", size=(40, 30), **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file, **options)


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.jpeg", "b/1.jpeg", "a/1.JPG", "a/3.png", "a/2.jpeg", "c/1.jpeg"):
        save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def told(read, root):
    return [(str(f.relative_to(root)), n) for f, n in zip(read.files, read.labels, strict=True)]


def test_files_come_by_class_and_name(folder):
    read = read_class_folders(folder)
    assert read.name == "photos"
    assert read.classes == ("a", "b", "c")
    assert told(read, folder) == [
        ("a/1.JPG", 0), ("a/2.jpeg", 0), ("a/3.png", 0),
        ("b/1.jpeg", 1), ("b/2.jpeg", 1), ("c/1.jpeg", 2),
    ]  # fmt: skip


def test_imagenet_keeps_its_classes_in_train(folder, tmp_path):
    folder.rename(tmp_path / "train")
    save(tmp_path / "val" / "a" / "9.jpeg")
    assert len(read_class_folders(tmp_path).files) == 6


def test_hidden_files_and_notes_are_no_images(folder):
    for name in ("a/.hidden.jpeg", "a/notes.txt", ".cache/1.jpeg", "readme.jpeg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no image")
    assert len(read_class_folders(folder).files) == 6


@pytest.mark.parametrize(
    ("subset", "per_class"), [(1, [1, 0, 0]), (3, [1, 1, 1]), (5, [2, 2, 1]), (6, [3, 2, 1])]
)
def test_a_subset_takes_from_all_classes_as_evenly_as_they_last(folder, subset, per_class):
    read = read_class_folders(folder, subset)
    assert [read.labels.count(label) for label in range(3)] == per_class
    assert list(read.files) == sorted(read.files)


@pytest.mark.parametrize("subset", [0, -1, 7])
def test_a_subset_of_more_files_than_there_are_is_refused(folder, subset):
    with pytest.raises(InputError, match=rf"--subset {subset}: .* 6 images; allowed: 1 to 6"):
        read_class_folders(folder, subset)


def test_a_folder_without_classes_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder; give a folder that holds"):
        read_class_folders(tmp_path / "none")
    with pytest.raises(InputError, match="holds no class folders"):
        read_class_folders(folder / "a")
    with pytest.raises(InputError, match=r"one class alone \(photos\)"):
        read_class_folders(tmp_path)
    (folder / "d").mkdir()
    with pytest.raises(InputError, match="class folder d holds no images"):
        read_class_folders(folder)


def test_an_image_is_normalised_as_imagenet_is(tmp_path):
    save(tmp_path / "grey.png", (128, 0, 255))
    image = load_image(tmp_path / "grey.png", 24)
    assert image.shape == (3, 24, 24)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    expected = (np.array((128, 0, 255)) / 255 - MEAN) / STD
    assert np.abs(image - expected[:, None, None]).max() < 1e-6


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (70, 70), (1, 1), (71, 640)])
def test_every_shape_of_image_becomes_a_square(tmp_path, size):
    save(tmp_path / "a.jpeg", size=size)
    assert load_image(tmp_path / "a.jpeg", 56).shape == (3, 56, 56)


def test_what_is_kept_is_the_centre(tmp_path):
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (100, 0, 200, 100))
    image.save(tmp_path / "a.png")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "upright.png")
    for file in tmp_path.iterdir():
        assert load_image(file, 64)[:, 4:-4, 4:-4].min() > 2


def test_an_image_is_turned_upright(tmp_path):
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (32, 0, 64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is on the right is below
    image.save(tmp_path / "turned.jpeg", exif=exif)
    loaded = load_image(tmp_path / "turned.jpeg", 32)
    assert loaded[0, -4:].min() > 2 > -1.5 > loaded[0, :4].max()


def test_a_jpeg_decoded_at_a_part_of_its_size_is_the_same_picture(tmp_path, rng):
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    coarse.resize((768, 768), Image.Resampling.BICUBIC).save(tmp_path / "a.jpeg", quality=95)
    Image.open(tmp_path / "a.jpeg").save(tmp_path / "a.png")  # which is decoded whole
    difference = np.abs(load_image(tmp_path / "a.jpeg", 64) - load_image(tmp_path / "a.png", 64))
    assert 0 < difference.mean() * 255 * STD.mean() < 1


def cut(file):
    save(file, size=(200, 200))
    file.write_bytes(file.read_bytes()[:500])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "is broken"),
        (lambda file: file.write_bytes(b""), r"is empty \(0 bytes\)"),
        (lambda file: file.write_text("no image"), "is no image"),
        (lambda file: file.unlink(), "is broken .*No such file"),
    ],
)
def test_a_bad_image_is_named(folder, damage, message):
    damage(folder / "a" / "2.jpeg")
    with pytest.raises(InputError, match=rf"a/2\.jpeg {message}") as caught:
        load_image(folder / "a" / "2.jpeg", 16)
    assert "\n" not in str(caught.value)


def test_a_worker_that_decodes_needs_no_torch():
    assert run_python("import sys, models.class_folders; print('torch' in sys.modules)") == "False"
