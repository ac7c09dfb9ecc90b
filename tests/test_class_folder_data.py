"""Class folders as data to train on: which images are for testing, and by which labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import InputError
from models.choice import DataChoice
from models.class_folders import load_image
from models.datasets import load_dataset

SHADES = {"cat": 0, "dog": 100, "eel": 200}


def photographs(folder, number, classes=tuple(SHADES)):
    """`number` photographs a class, each of a shade that tells its class and its place."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for place in range(number):
            grey = SHADES.get(name, 50) + 2 * place
            Image.new("RGB", (12, 12), (grey,) * 3).save(folder / name / f"{place:02}.png")


def shades(images):
    """Grey levels, as they were written."""
    return np.rint((images[:, 0].mean((1, 2)) * 0.229 + 0.485) * 255).astype(int)


def test_every_fifth_image_of_a_class_is_kept_to_test(tmp_path):
    photographs(tmp_path, 11)
    data = load_dataset(DataChoice(tmp_path), size=8)
    assert data.name == tmp_path.name
    assert data.classes == ("cat", "dog", "eel")
    assert data.images.shape == (27, 3, 8, 8)
    assert data.images.dtype == np.float32
    assert data.images.flags.c_contiguous
    assert sorted(shades(data.test_images)) == [8, 18, 108, 118, 208, 218]
    assert not set(shades(data.images)) & set(shades(data.test_images))
    assert np.array_equal(shades(data.images) // 100, data.labels)
    assert np.array_equal(shades(data.test_images) // 100, data.test_labels)


def test_an_image_is_what_the_folders_own_loader_makes_of_it(tmp_path):
    photographs(tmp_path, 5)
    data = load_dataset(DataChoice(tmp_path), size=8)
    np.testing.assert_array_equal(data.images[0], load_image(tmp_path / "cat" / "00.png", 8))
    np.testing.assert_array_equal(data.images[1], load_image(tmp_path / "dog" / "00.png", 8))


@pytest.mark.parametrize("apart", ["val", "test"])
def test_a_folder_of_test_images_is_taken(tmp_path, apart):
    photographs(tmp_path / "train", 6)
    photographs(tmp_path / apart, 2, classes=("cat", "eel"))
    data = load_dataset(DataChoice(tmp_path), size=8)
    assert len(data.labels) == 18
    assert sorted(shades(data.test_images)) == [0, 2, 200, 202]
    assert sorted(data.test_labels) == [0, 0, 2, 2]  # by the training classes' numbers


def test_val_goes_before_test_which_imagenet_has_without_classes(tmp_path):
    photographs(tmp_path / "train", 6)
    photographs(tmp_path / "val", 1)
    (tmp_path / "test").mkdir()
    Image.new("RGB", (12, 12)).save(tmp_path / "test" / "one.png")
    assert len(load_dataset(DataChoice(tmp_path), size=8).test_labels) == 3


def test_a_test_folder_without_classes_does_not_count(tmp_path):
    photographs(tmp_path / "train", 6)
    (tmp_path / "test").mkdir()
    Image.new("RGB", (12, 12)).save(tmp_path / "test" / "one.png")
    data = load_dataset(DataChoice(tmp_path), size=8)
    assert (len(data.labels), len(data.test_labels)) == (15, 3)


def test_a_class_that_is_tested_but_not_trained_on_is_refused(tmp_path):
    photographs(tmp_path / "train", 2)
    photographs(tmp_path / "val", 2, classes=("cat", "fox"))
    with pytest.raises(
        InputError, match=r"val has a class fox, which is not trained on; .*cat, dog"
    ):
        load_dataset(DataChoice(tmp_path), size=8)


def test_folders_too_small_to_test_on_are_refused(tmp_path):
    photographs(tmp_path, 4)
    with pytest.raises(InputError, match="no class has 5 images, of which the last is kept"):
        load_dataset(DataChoice(tmp_path), size=8)


def test_a_subset_loads_no_more_than_it_takes(tmp_path):
    photographs(tmp_path, 10)
    (tmp_path / "cat" / "08.png").write_bytes(b"broken")
    data = load_dataset(DataChoice(tmp_path, 7), size=8)
    assert np.bincount(data.labels).tolist() == [3, 2, 2]
    assert len(data.test_labels) == 2
    with pytest.raises(InputError, match="--subset 25: there are 24 training images"):
        load_dataset(DataChoice(tmp_path, 25), size=8)
    with pytest.raises(InputError, match=r"cat.08\.png"):
        load_dataset(DataChoice(tmp_path), size=8)


def test_no_more_is_decoded_than_is_enough(tmp_path):
    photographs(tmp_path, 10)
    (tmp_path / "eel" / "02.png").write_bytes(b"broken")
    data = load_dataset(DataChoice(tmp_path), size=8, most=5)
    assert data.labels.tolist() == [0, 1, 2, 0, 1]
    assert len(data.test_labels) == 5
    assert len(load_dataset(DataChoice(tmp_path, 3), size=8, most=5).labels) == 3


def test_more_classes_than_the_network_tells_apart_are_refused_before_an_image_is_read(tmp_path):
    photographs(tmp_path, 5)
    (tmp_path / "cat" / "00.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="3 classes, and the network tells 2 apart; give"):
        load_dataset(DataChoice(tmp_path), size=8, classes=2)


def test_a_folder_named_by_a_dot_has_its_own_name(tmp_path, monkeypatch):
    photographs(tmp_path, 5)
    monkeypatch.chdir(tmp_path)
    assert load_dataset(DataChoice(Path()), size=8).name == tmp_path.name
