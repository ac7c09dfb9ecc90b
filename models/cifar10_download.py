"""Fetching CIFAR-10, by torchvision's own downloader and its MD5 of the archive.

It all happens in a hidden folder beside the place where the set shall be, and is renamed once it is
whole: a download that fails leaves nothing, and no reader ever sees half a set.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from models.errors import InputError, first_line

SECONDS = 20
"""Without an answer, until a connection is given up; torchvision would wait for ever."""


def download_cifar10(folder: Path) -> Path:
    """Fetch the python version into `folder`, made if need be; returns the folder of its files.

    Raises InputError, with the address, where there is no network, no room, or another archive than
    the true one. Of several processes that fetch at once, the first one's set stays.
    """
    # Here, because it brings torch.
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    ready = folder / CIFAR10.base_folder
    try:
        with _made(folder), TemporaryDirectory(prefix=".cifar-10-", dir=folder) as beside:
            with _patience(SECONDS):
                download_and_extract_archive(
                    CIFAR10.url, beside, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
                )
            _rename(Path(beside) / CIFAR10.base_folder, ready)
    except Exception as error:  # network, archive and disk have kinds of their own each
        raise InputError(
            f"--download: CIFAR-10 could not be fetched ({first_line(error)}); try again where "
            f"there is a network and 400 MB of room, or fetch {CIFAR10.url} by hand, unpack it in "
            f"{folder} and leave --download out"
        ) from error
    return ready


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder and those above it, taken away again where what follows fails."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in new:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """For sockets that are opened within; torchvision does not let its callers set it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _rename(whole: Path, ready: Path) -> None:
    try:
        whole.rename(ready)
    except OSError:
        if not ready.is_dir():  # no other process was faster
            raise
