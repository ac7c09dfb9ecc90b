"""Pickles that may hold NumPy's arrays, and nothing that runs.

A pickle names functions and has them called: whoever may write the file could run any code. Here
the three names by which NumPy's arrays are made are known, and any other one is refused before
anything of it is imported.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError, first_line

KNOWN = {
    "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy._core.multiarray._reconstruct": np.empty(0).__reduce__()[0],  # so named from NumPy 2 on
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}


def read_pickle(file: Path, remedy: str) -> Any:
    """Numbers, texts, lists, dictionaries and arrays of a file, also of one that Python 2 wrote.

    Raises InputError, with `remedy` at its end, for a file that asks for anything else, or is cut
    off or broken.
    """
    try:
        with file.open("rb") as stream, warnings.catch_warnings():
            # Python 2 wrote 0 and 1 for a dtype's flags, which NumPy 2.4.0 to 2.4.4 warns about.
            warnings.simplefilter("ignore")
            return _ArraysOnly(stream, encoding="latin1").load()
    except _RefusedError as error:
        raise InputError(
            f"--data-dir: {file} asks for {error}, which data have no need of and which could run "
            f"any code; nothing of it was run; {remedy}"
        ) from None
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(
            f"--data-dir: {file} is cut off or broken ({first_line(error)}); {remedy}"
        ) from None


class _RefusedError(Exception):
    pass


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[f"{module}.{name}"]
        except KeyError:
            raise _RefusedError(repr(f"{module}.{name}")) from None
