"""Files that hold no run, or half of one: one line each that names the file."""

from __future__ import annotations

import json

import pytest

from pytest_speedup.reading import read_run
from pytest_speedup.records import RecordError
from tests.run_files import arm_json, run_json


def file_refusal(path):
    with pytest.raises(RecordError) as caught:
        read_run(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "0", "-1e-3", "true", "1e999"])
def test_no_impossible_time_is_read_from_a_file(tmp_path, token):
    path = tmp_path / "run.json"
    path.write_text(
        json.dumps(run_json([arm_json("test_a", [[123456.5]])])).replace("123456.5", token)
    )
    assert "blocks[0][0] must be a positive number" in file_refusal(path)


def test_a_missing_file_is_named(tmp_path):
    assert "No such file" in file_refusal(tmp_path / "none.json")


def test_a_folder_is_no_file(tmp_path):
    assert "cannot be read" in file_refusal(tmp_path)


def test_a_path_with_a_null_byte_is_refused():
    with pytest.raises(RecordError, match="cannot be read"):
        read_run("a\0b")


def test_an_empty_file_is_called_empty(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("  \n")
    assert "is empty" in file_refusal(path)


def test_a_file_cut_short_anywhere_is_said_to_break_off(tmp_path):
    text = json.dumps(run_json([arm_json("test_a", [[1.0]])]), indent=1)
    path = tmp_path / "run.json"
    for end in range(1, len(text) - 1, 37):
        path.write_text(text[:end])
        assert "breaks off" in file_refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"speedup: 3", b"\x89PNG\r\n\x1a\n", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1} {"b": 2}'],
)
def test_what_is_not_json_is_refused(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    assert file_refusal(path)
