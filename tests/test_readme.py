"""What README.md shows is what the program prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pytest_speedup.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_shown_output_is_the_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)  # a worker of pytest-xdist has it
    shown = re.findall(
        r"<!-- output: pytest-speedup (.*?) -->\n```\n(.*?)\n```\n", README, re.DOTALL
    )
    assert shown
    for command, text in shown:
        assert main(shlex.split(command)) == 0
        assert capsys.readouterr().out.rstrip("\n") == text


def test_every_option_is_told(pytestconfig: pytest.Config) -> None:
    ours = [
        name
        for group in pytestconfig._parser._groups
        if group.name in {"speedup", "suite"}
        for option in group.options
        for name in option.names()
    ]
    assert len(ours) > 10
    assert [name for name in ours if name not in README] == []


def test_every_linked_file_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
