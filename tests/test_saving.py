"""Claims about what is left of a run: found wanting before it, kept after it, never overwritten."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import FAKED, Measure, timed

ONE = """
    from fake_clock import spend
    def test_x(speedup):
        open("ran", "w")
        speedup(lambda: spend(0.1), expected=None)
"""


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--benchmark-json=nowhere/run.json", "cannot write to the folder nowhere*No such file*"),
        ("--benchmark-json=folder", "is a folder; name a file in it*"),
        ("--benchmark-json=file/run.json", "cannot write to the folder file*Not a directory*"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_run(
    measure: Measure, pytester: pytest.Pytester, option: str, says: str
) -> None:
    pytester.mkdir("folder")
    (pytester.path / "file").touch()
    result, _ = measure(ONE, *FAKED, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --benchmark-json*{says}"])
    assert not (pytester.path / "ran").exists()


def test_a_storage_that_cannot_be_written_is_found_before_the_run(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    (pytester.path / "file").touch()
    result, _ = measure(ONE, *FAKED, "--benchmark-storage=file/deep", "--benchmark-save=x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --benchmark-storage*cannot write to the folder*"])
    assert not (pytester.path / "ran").exists()


def test_a_name_that_no_file_can_have_is_found_before_the_run(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    result, _ = measure(ONE, *FAKED, "--benchmark-save=" + "x" * 300)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --benchmark-save xxx*: no file can have this name*"])
    assert not (pytester.path / "ran").exists()


def test_a_disk_that_fills_up_costs_neither_an_earlier_result_nor_the_table(
    measure: Measure, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    (pytester.path / "run.json").write_text('{"earlier": 1}')
    result, data = measure(ONE, *FAKED)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*strategy*", "--benchmark-json run.json: *not saved (No space*"])
    assert data == {"earlier": 1}
    assert not list(pytester.path.glob(".*.json"))


def test_a_run_is_saved_where_a_link_leads(measure: Measure, pytester: pytest.Pytester) -> None:
    (pytester.path / "run.json").symlink_to(pytester.path / "elsewhere.json")
    _, data = measure(ONE, *FAKED)
    assert timed(data) == timed(json.loads((pytester.path / "elsewhere.json").read_text()))
    assert (pytester.path / "run.json").is_symlink()


def test_a_strict_session_without_a_time_ends_without_a_traceback(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    result, _ = measure("def test_x(speedup): speedup(int, expected=1)", *FAKED, "-W", "error")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["Nothing is saved: no arm has a time."])
    result.assert_outcomes(failed=1)


def test_every_saved_file_gets_its_plots(measure: Measure, pytester: pytest.Pytester) -> None:
    measure(ONE, "--benchmark-timer=fake_clock.now", "--benchmark-save=mine")
    here = pytester.path
    (stored,) = here.glob(".benchmarks/*/0001_mine.json")
    for file in (here / "run.json", stored):
        pictures = {p.suffix for p in file.parent.iterdir() if p.name.startswith(file.stem + "-")}
        assert pictures == {".png", ".svg"}
        assert json.loads(file.read_text())["speedup"]["passes_done"] == 5


def test_no_plots_are_drawn_where_none_are_wanted(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    measure(ONE, *FAKED)
    assert not list(pytester.path.glob("*.png"))


SLOW = """
import time
import pytest
@pytest.mark.parametrize("name", ["a", "b"])
def test_x(speedup, name):
    with open("turns", "a") as file:
        file.write(name)
    speedup(lambda: time.sleep(0.05), expected=None)
"""


def interrupt(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run SLOW as its own process and send it Ctrl-C in its second pass."""
    (folder / "test_slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--speedup-no-plots", *options]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        turns = folder / "turns"
        # two arms and a repeat: the sixth turn is in the second pass
        if turns.exists() and len(turns.read_text()) >= 6:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.02)
    out, _ = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, out)


def test_an_interrupted_run_keeps_what_it_had_and_earlier_results(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("an earlier result")
    done = interrupt(tmp_path, "--benchmark-json=run.json")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert (tmp_path / "run.json").read_text() == "an earlier result"
    data = json.loads((tmp_path / "run.incomplete.json").read_text())
    assert data["speedup"]["incomplete"] == "interrupted in pass 2 of 5"
    assert data["speedup"]["passes_done"] == 1
    assert sorted(timed(data)) == ["test_x[name=a]", "test_x[name=b]"]
    assert "INCOMPLETE" in done.stdout


def test_an_interrupted_run_without_an_earlier_one_has_its_own_name(tmp_path: Path) -> None:
    interrupt(tmp_path, "--benchmark-json=run.json")
    assert json.loads((tmp_path / "run.json").read_text())["speedup"]["incomplete"]


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_a_run_interrupted_before_its_first_block_says_what_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "test_slow.py").write_text(
        "import os, signal\n"
        "def test_x(speedup):\n"
        "    speedup(lambda: os.kill(os.getpid(), signal.SIGINT), expected=None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--benchmark-json=run.json", "-p", "no:randomly"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "interrupted in pass 1 of 5" in done.stdout
    assert not (tmp_path / "run.json").exists()


def test_a_terminal_without_our_signs_keeps_its_columns(
    measure: Measure, pytester: pytest.Pytester
) -> None:
    measure(ONE.replace("0.1", "1e-4"), *FAKED)  # writes the files
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--benchmark-timer=fake_clock.now", "-p", "no:randomly"],
        cwd=pytester.path, capture_output=True, check=False, timeout=60,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"workers        time, us  absolute" in done.stdout
    assert rb"\x" not in done.stdout
