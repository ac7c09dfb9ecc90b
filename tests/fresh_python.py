"""Code in an interpreter of its own, for what is settled once a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_python(code, **variables):
    """What a fresh interpreter prints; it has to end well within a minute."""
    inherited = {k: v for k, v in os.environ.items() if k != "NUMBA_THREADING_LAYER"}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()
