"""Photographs, good and bad ones."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from models import Choice, InputError
from models.images import input_of, load_images, photographs, random_crop, read_photograph

GREY = 128 / 255


def load(folder, n=1, model="resnet18", size=16):
    return load_images(Choice(model, images=folder, image_size=size, num_inferences=n))


def two_colours(width=40, height=20):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


def test_the_default_photograph_is_there_without_a_network_connection():
    images = load(None, n=3, size=64)
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert images.std() > 0.3


def test_no_image_comes_twice_and_every_session_has_the_same():
    images = load(None, n=8)
    assert len(torch.unique(images, dim=0)) == 8
    assert torch.equal(images, load(None, n=8))
    assert torch.equal(images[:4], load(None, n=4))


def test_images_are_normalised_as_the_weights_ask(tmp_path):
    Image.new("RGB", (30, 30), (128, 128, 128)).save(tmp_path / "grey.png")
    asked = input_of(Choice("resnet18"))
    channels = load(tmp_path)[0].mean((1, 2))
    expected = [(GREY - m) / s for m, s in zip(asked.mean, asked.std, strict=True)]
    assert channels.tolist() == pytest.approx(expected, abs=1e-6)


def test_files_come_in_the_order_of_their_names_and_then_as_crops(tmp_path):
    for name, level in [("b.png", 200), ("a.png", 10)]:
        Image.new("L", (20, 20), level).save(tmp_path / name)
    (tmp_path / ".hidden").write_text("not an image")
    levels = load(tmp_path, n=4, model="lenet").mean((1, 2, 3)) * 127.5 + 127.5
    assert levels.tolist() == pytest.approx([10, 200, 10, 200], abs=0.01)


def test_only_as_many_files_as_images_are_read(tmp_path):
    two_colours().save(tmp_path / "a.png")
    (tmp_path / "z.png").write_bytes(b"broken")
    assert len(load(tmp_path, n=1)) == 1
    with pytest.raises(InputError, match=r"z\.png"):
        load(tmp_path, n=2)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_kind_of_photograph_becomes_colour(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 128 * 257, np.uint16))
    else:
        image = Image.new("RGB", (20, 20), (128, 128, 128)).convert(mode)
    image.save(tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"))
    photo = read_photograph(next(tmp_path.iterdir()))
    assert photo.mode == "RGB"
    if mode != "1":
        assert np.asarray(photo).mean() == pytest.approx(128, abs=4)


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "rgba.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=bytes([0]))
    for file in photographs(tmp_path):
        assert read_photograph(file).getpixel((0, 0)) == (255, 255, 255)


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the top is on the right
    two_colours(40, 20).save(tmp_path / "turned.png", exif=exif)
    upright = read_photograph(tmp_path / "turned.png")
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 1)) == (255, 0, 0)


def test_a_crop_is_a_square_of_at_least_half_the_shorter_side():
    rng = random.Random(1)
    for _ in range(50):
        width, height = random_crop(two_colours(40, 21), rng).size
        assert width == height
        assert 11 <= width <= 21


def test_a_photograph_of_one_pixel_is_enough(tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    assert load(tmp_path, n=2).shape == (2, 3, 16, 16)


def test_a_photograph_of_a_hundred_megapixels_is_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    two_colours().save(tmp_path / "large.png")  # 800 pixels: Pillow warns
    assert load(tmp_path).shape == (1, 3, 16, 16)
    two_colours(height=40).save(tmp_path / "large.png")  # 1600, over twice as many: it refuses
    with pytest.raises(InputError, match=r"large\.png cannot be read .*pixels.*or smaller"):
        load(tmp_path)


def test_more_images_than_memory_holds_are_refused_at_once(tmp_path):
    two_colours().save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"--num-inferences 999999999: .*do not fit"):
        load(tmp_path, n=999_999_999, size=1000)


def cut_jpeg(path):
    two_colours(200, 200).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:600])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("empty.jpg", lambda p: p.write_bytes(b""), "is empty"),
        ("notes.txt", lambda p: p.write_text("no image"), "is no image"),
        ("cut.jpg", cut_jpeg, "is broken"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, make, message):
    two_colours().save(tmp_path / "a.png")
    make(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} {message}") as caught:
        load(tmp_path, n=2)
    assert "\n" not in str(caught.value)


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no files"):
        photographs(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        photographs(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        photographs(tmp_path / "file")


@pytest.mark.parametrize("name", ["x" * 5000, "null\0"])
def test_a_folder_that_no_system_can_open_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"--images .*cannot be read"):
        photographs(tmp_path / name)


def test_a_folder_that_is_not_ones_own_is_refused(tmp_path, monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", forbidden)  # root may read everything
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        photographs(tmp_path)
