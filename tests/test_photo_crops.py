"""The embedded class folders: whole, the same everywhere, or not there."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from models import InputError, photo_crops
from models.class_folders import read_class_folders
from models.photo_crops import PARTS, embedded_folders
from models.photographs import read_photograph


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of one's own; few images, which are quick to write."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(photo_crops, "PER_CLASS", 2)
    return tmp_path / "pytest-speedup"


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*.jpeg"))}


def test_five_classes_of_large_jpegs_are_written_once(cache):
    folder = embedded_folders()
    assert folder.parent == cache
    read = read_class_folders(folder)
    assert read.classes == tuple(PARTS)
    assert len(read.files) == 10
    assert {read_photograph(file).size for file in read.files} == {(768, 768)}
    before = [file.stat().st_mtime_ns for file in read.files]
    assert embedded_folders() == folder
    assert [file.stat().st_mtime_ns for file in read.files] == before


def test_every_machine_has_the_same_images_and_none_twice(cache, tmp_path, monkeypatch):
    first = contents(embedded_folders())
    assert len(set(first.values())) == 10
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert contents(embedded_folders()) == first


def test_several_writers_at_once_leave_one_whole_folder(cache):
    with ThreadPoolExecutor(3) as pool:
        assert len({*pool.map(lambda _: embedded_folders(), range(3))}) == 1
    assert len(contents(embedded_folders())) == 10
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_leaves_nothing_half(cache, monkeypatch, error):
    real = Image.Image.save

    def save(image, file, **options):
        if "flower" in str(file):
            raise error
        real(image, file, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        embedded_folders()
    assert list(cache.iterdir()) == []
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
        assert "set XDG_CACHE_HOME" in str(caught.value)


def test_a_cache_that_cannot_be_written_says_what_to_set(cache):
    cache.write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written .*set XDG_CACHE_HOME"):
        embedded_folders()


def test_a_folder_that_lost_images_is_not_taken_for_whole(cache):
    next(Path(embedded_folders()).rglob("01.jpeg")).unlink()
    with pytest.raises(InputError, match="1 of its 10 images are missing or empty, such as"):
        embedded_folders()
