"""Arrays in memory that several processes see, which leaves nothing behind however they end.

The memory is a file without a name, in RAM where the system has such a folder. Its descriptor goes
to another process through their pipe, and the memory is gone with the last process that has it:
no name in /dev/shm, no temporary file, nothing to clean up after a kill.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models import InputError

ALIGNMENT = 64
"""Bytes; what torch's own allocator gives, and vector instructions like."""
IN_RAM = Path("/dev/shm")


@dataclass(frozen=True)
class Place:
    """Where one array lies in the memory."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        """Without the gap behind it."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


Forms = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> dtype, shape."""


class SharedArrays(AbstractContextManager["SharedArrays"]):
    """Arrays by name, zero at first; `send` them, and the other process sees every change.

    They can be sent until the exit, and stay until nobody has a view of them. Raises InputError
    where there is no room for them.
    """

    def __init__(self, forms: Forms) -> None:
        places, size = {}, 0
        for name, (dtype, shape) in forms.items():
            places[name] = Place(dtype, shape, size)
            size += -(-places[name].bytes // ALIGNMENT) * ALIGNMENT
        self._file = _reserved(max(size, 1))
        self._places = places
        self.arrays = _views(self._file.fileno(), places)

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def send(self, connection: Connection) -> None:
        """To the process at the pipe's other end, which has to call `receive`."""
        connection.send(self._places)
        send_handle(connection, self._file.fileno(), None)


def _reserved(size: int) -> IO[bytes]:
    """A file without a name, in RAM if it fits there.

    Its bytes are taken now: where they are missing later, a process that writes there is killed.
    """
    for folder in (IN_RAM, Path(tempfile.gettempdir())):
        try:
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by its owner
        except OSError as error:
            reason = error.strerror
            continue
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return file
        except OSError as error:
            reason = error.strerror
            file.close()
    raise InputError(
        f"{size / 1e6:.0f} MB that worker processes share fit neither into {IN_RAM} nor into "
        f"{tempfile.gettempdir()} ({reason}); make room, or set TMPDIR to a folder that has it"
    )


def receive(connection: Connection) -> dict[str, NDArray]:
    """The arrays that were sent, in the sender's memory."""
    places = connection.recv()
    descriptor = recv_handle(connection)
    try:
        return _views(descriptor, places)
    finally:
        os.close(descriptor)  # the mapping stays


def _views(descriptor: int, places: Mapping[str, Place]) -> dict[str, NDArray]:
    memory = mmap.mmap(descriptor, 0)
    return {
        name: np.ndarray(place.shape, place.dtype, memory, place.start)
        for name, place in places.items()
    }
