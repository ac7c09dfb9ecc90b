"""What does having the plugin cost a suite that does not use it?

`pytest --collect-only` on an empty suite, with the plugin switched off and with it loaded, each in
a process of its own. The difference of the two times may be 50 ms.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest


def collect(folder, plugin: str) -> int:
    """Start Python and pytest, collect one test, end; gives the exit code."""
    switch = ["-p", "no:speedup"] if plugin == "off" else []
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *switch]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_one.py").write_text("def test_one(): ...\n")
    return tmp_path


@pytest.mark.benchmark(group="start of pytest")
@pytest.mark.speedup
def test_start_without(speedup, suite):
    speedup(partial(collect, suite, "off"), expected=0, work=1, unit="starts")


@pytest.mark.benchmark(group="start of pytest")
@pytest.mark.speedup(base="start_without")
def test_start_with(speedup, suite):
    speedup(partial(collect, suite, "on"), expected=0, work=1, unit="starts")
