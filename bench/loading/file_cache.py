"""Files in the system's cache, or out of it: the two states in which an epoch may find them.

A file is put out of the cache by POSIX_FADV_DONTNEED, which is advice: some file systems take it,
and some, such as those that live in memory, have nowhere to put a file. So it is tried: a read that
may not wait (RWF_NOWAIT, Linux) fails for what is not in memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path


def forget(files: Sequence[Path]) -> None:
    """Put files out of the system's cache, after writing what is not on the disk yet."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)  # what is not written yet stays in memory
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def remember(files: Sequence[Path]) -> None:
    """Read files, so that they are in the cache."""
    for file in files:
        file.read_bytes()


def cold_is_impossible(files: Sequence[Path]) -> str | None:
    """Why these files cannot be put out of the cache; None where they can and are."""
    if not (hasattr(os, "posix_fadvise") and hasattr(os, "RWF_NOWAIT")):
        return "this system has no way to put files out of its cache, or to see whether they are"
    forget(files)
    try:
        cached = sum(_is_cached(file) for file in files)
    except OSError as error:
        return f"the file system of {files[0].parent} does not tell what is cached ({error})"
    if cached > len(files) // 10:
        return f"{cached} of {len(files)} files stay in the cache, whatever one advises"
    return None


def _is_cached(file: Path) -> bool:
    """Whether the file's first byte is in memory; OSError where nobody can tell."""
    handle = os.open(file, os.O_RDONLY)
    try:
        return os.preadv(handle, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        raise
    finally:
        os.close(handle)
