"""The base: one image after another, in the calling thread, nothing loaded ahead."""

from collections.abc import Iterator

import pytest

from bench.loading.epoch import Batch, Epoch, tensors
from bench.loading.photos import Photos, load_files


def loop(photos: Photos) -> Iterator[Batch]:
    """Each batch when it is asked for."""
    for batch in photos.batches():
        yield tensors(load_files(photos.files[batch], photos.labels[batch], photos.size))


@pytest.mark.speedup
def test_loop(speedup, photos, epoch, file_cache):
    load = Epoch(lambda: loop(photos))
    speedup(load, expected=epoch, work=len(photos), setup=file_cache, cpus=1)
