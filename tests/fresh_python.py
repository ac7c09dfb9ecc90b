"""Code in an interpreter of its own, for what is settled once a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_python(code, *arguments, **variables):
    """What a fresh interpreter prints; it may have a lot to compile, but has to end."""
    inherited = {k: v for k, v in os.environ.items() if k != "NUMBA_THREADING_LAYER"}
    told = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**inherited, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()
