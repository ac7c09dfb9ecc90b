"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_speedup import cli
from tests.run_files import arm_json, make_run_json, run_json

ROOT = Path(__file__).parent.parent


def save(path: Path, saved: Mapping[str, Any]) -> str:
    path.write_text(json.dumps(saved))
    return str(path)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A saved run of one arm, quick to draw."""
    return save(tmp_path / "small.json", run_json([arm_json("test_a", [[1.0]] * 5)]))


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_speedup", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
    )


def test_table_prints_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["table", save(tmp_path / "run.json", make_run_json())]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^thread_pool threads=2 .*bitwise$", out, re.MULTILINE)
    assert err == ""


def test_table_of_several_runs_names_each_file(
    tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save(tmp_path / "other.json", make_run_json())
    assert cli.main(["table", small, other]) == 0
    assert re.findall(r"^== .*?(\w+\.json)$", capsys.readouterr().out, re.MULTILINE) == [
        *("small.json", "other.json")
    ]


def test_width_and_colour_are_as_asked(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["table", small, "--width", "50", "--color", "always"])
    out = capsys.readouterr().out
    assert "\x1b[1m" in out
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in out.splitlines()) <= 50
    cli.main(["table", small])
    assert "\x1b" not in capsys.readouterr().out


def test_plot_writes_beside_the_first_file_and_prints_the_paths(
    tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plot", small]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.suffix for path in printed] == [".png", ".svg"]
    assert {path.parent for path in printed} == {tmp_path}
    assert all(path.stat().st_size > 1000 for path in printed)


def test_plot_makes_the_folder_that_was_named(tmp_path: Path, small: str) -> None:
    assert cli.main(["plot", small, "--out", str(tmp_path / "a" / "b")]) == 0
    assert len(list((tmp_path / "a" / "b").iterdir())) == 2


def test_plot_says_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = [arm_json(f"test_{i}", [[1.0]] * 5, group=f"group {i}") for i in range(3)]
    assert cli.main(["plot", save(tmp_path / "run.json", run_json(arms)), "--pictures", "1"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err.startswith("Only 1 of 3 pictures are drawn;")


@pytest.mark.parametrize("command", ["plot", "table"])
@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"benchmarks": []}',
        "\x00\x01",
        json.dumps(make_run_json())[:-200],
        json.dumps(run_json([arm_json("test_a", [[0.0]])])),
        json.dumps(run_json([arm_json("test_a", [[-1.0]])])),
        json.dumps(run_json([arm_json("test_a", [[float("nan")]])])),
        json.dumps(run_json([arm_json("test_a", [[1.0]])], schema=99)),
    ],
    ids=[
        *("empty", "cut", "list", "null", "not ours", "binary", "truncated"),
        *("zero", "negative", "nan", "newer"),
    ],
)
def test_a_file_that_is_no_run_is_one_line_and_exit_code_4(
    command: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert cli.main([command, str(path)]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "bad.json" in err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["draw"], "draw"),
        (["table"], "RUN.json"),
        (["table", "/nowhere/run.json"], "/nowhere/run.json"),
        (["table", "x.json", "--width", "39"], '"39" is no whole number from 40 on'),
        (["table", "x.json", "--width", "abc"], '"abc" is no whole number'),
        (["table", "x.json", "--color", "red"], "red"),
        (["plot", "x.json", "--pictures", "0"], '"0" is no whole number from 1 on'),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_4(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_code_4(
    small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plot", small, "--out", f"{small}/out"]) == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "name another folder with --out" in err


def test_the_same_run_twice_is_refused(
    tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.json"
    copy.write_bytes(Path(small).read_bytes())
    assert cli.main(["plot", small, str(copy)]) == 4
    assert "holds the same run as" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_a_run_without_times_has_nothing_to_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plot", save(tmp_path / "run.json", run_json([]))]) == 4
    assert "nothing to draw" in capsys.readouterr().err


def test_help_shows_examples_and_version_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["plot", "--help"], ["table", "--help"]):
        assert cli.main(arguments) == 0
        assert "pytest-speedup plot laptop.json server.json" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pytest-speedup ")


def test_ctrl_c_ends_without_a_traceback(
    small: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "read_run", interrupted)
    assert cli.main(["table", small]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_terminal_can_show_the_table(
    tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = make_run_json()
    saved["benchmarks"][0]["extra_info"]["speedup"]["strategy"] = "漢字"
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    assert cli.main(["table", save(tmp_path / "run.json", saved)]) == 0
    text = shown.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert ("漢字" if encoding == "utf-8" else r"\u6f22\u5b57") in text
    sign = "±" if encoding == "utf-8" else "~"
    assert f"{sign}: as far as the farther end of the interval" in text


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    arms = [arm_json(f"test_{i}", [[1.0]] * 5) for i in range(2000)]
    path = save(tmp_path / "run.json", run_json(arms))
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_speedup", "table", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_the_command_needs_neither_pytest_nor_torch_nor_mpi(small: str) -> None:
    code = (
        "import sys\n"
        "for name in ('pytest', '_pytest', 'torch', 'mpi4py', 'numba'):\n"
        "    sys.modules[name] = None\n"  # importing it raises ImportError
        "from pytest_speedup.cli import main\n"
        "sys.exit(main(sys.argv[1:]) or main(['table', sys.argv[2]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "plot", small],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_works_as_a_module(small: str) -> None:
    done = program("table", small, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"bitwise" in done.stdout
    assert program("table", "nowhere.json").returncode == 4
