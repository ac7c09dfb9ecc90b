"""The one exception of bad input; it stands apart so that every module may raise it."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Something asked for cannot be had; one line with the value, what is allowed, the remedy."""


def first_line(error: BaseException) -> str:
    """What an error says first, with its type: fit for the end of a one-line message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def unreadable(path: Path, *, folder: bool = False) -> str | None:
    """Why `path` is not a file, or a folder, that can be read; None where it is."""
    try:
        if folder:
            next(path.iterdir(), None)
            return None
        if path.is_dir():
            return "is a folder"
        if not path.is_file():
            return "is no file" if path.exists() else "no such file"
        with path.open("rb"):
            return None
    except FileNotFoundError:
        return "no such folder"
    except NotADirectoryError:
        return "is a file"
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"cannot be read ({reason})"
