"""All loaders answer one question, so they are one group; training on what they load is another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

import pytest

from bench.loading.photos import Photos, read_photos
from bench.suite import suite_of
from models import InputError
from pytest_speedup.fields import visible

if TYPE_CHECKING:
    from bench.loading.epoch import Batch
    from bench.loading.test_data_loader import DataLoader

PHOTOS = pytest.StashKey[Photos | InputError]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Two series: the files in the system's cache, and out of it."""
    if "file_cache" in metafunc.fixturenames:
        metafunc.parametrize("file_cache", ("warm", "cold"), indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Group what is compared."""
    found = found_photos(item.config)
    if isinstance(found, Photos):
        what = "training from" if "training" in item.fixturenames else "loading"
        item.add_marker(pytest.mark.benchmark(group=f"{what} {found.title}"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is wrong with the folder ends the run in one line, before anything runs."""
    option = session.config.option
    taken = any("photos" in getattr(item, "fixturenames", ()) for item in session.items)
    if taken and not (option.collectonly or option.setupplan):
        found = found_photos(session.config)
        if isinstance(found, InputError):
            raise pytest.UsageError(visible(str(found))) from found


def found_photos(config: pytest.Config) -> Photos | InputError:
    """The epoch that was asked for, read once a session, or what is wrong with it."""
    if PHOTOS not in config.stash:
        suite = suite_of(config)
        data, size = suite.data, suite.choice.image_size
        try:
            found = read_photos(data.data_dir, data.subset, size, suite.training.batch_size)
            config.stash[PHOTOS] = found
        except InputError as error:
            config.stash[PHOTOS] = error
    return config.stash[PHOTOS]


@pytest.fixture(scope="session")
def photos(request: pytest.FixtureRequest) -> Photos:
    """The files of an epoch and their labels, in order."""
    found = found_photos(request.config)
    assert isinstance(found, Photos)
    return found


@pytest.fixture(scope="session")
def epoch(photos: Photos) -> list[Batch]:
    """What every loader has to give: all batches, by the plain loop."""
    from bench.loading.test_loop import loop  # brings torch

    return list(loop(photos))


@pytest.fixture
def file_cache(request: pytest.FixtureRequest, photos: Photos) -> Callable[[], None] | None:
    """Puts the files out of the cache, before every call; None for "warm", after reading them."""
    from bench.loading.file_cache import cold_is_impossible, forget, remember

    if request.param == "warm":
        remember(photos.files)
        return None
    reason = cold_is_impossible(photos.files)
    if reason is not None:
        pytest.skip(reason)
    return lambda: forget(photos.files)


@pytest.fixture(scope="session")
def data_loader(photos: Photos) -> Iterator[Callable[[int], DataLoader]]:
    """Number of workers -> a loader with so many, started once a session."""
    from bench.loading.test_data_loader import DataLoader  # brings torch

    with ExitStack() as started:
        yield cache(lambda workers: started.enter_context(DataLoader(photos, workers)))
