"""The one command that runs the whole GPU part: what it types, what it judges, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from bench.kernels import gpu


def test_an_older_file_is_not_judged(tmp_path, capsys, monkeypatch):
    """The run that should have written it was refused."""
    monkeypatch.setattr(gpu, "absence", lambda _: None)
    monkeypatch.setattr(gpu, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(4)"])
    older = tmp_path / "older.json"
    older.write_text("{}")
    assert gpu.main(["--out", str(older)]) == 4
    assert capsys.readouterr().err == ""


def test_what_a_run_wrote_is_judged(tmp_path, capsys, monkeypatch):
    out = tmp_path / "new.json"
    write = f"open({str(out)!r}, 'w').write('{{}}')"
    monkeypatch.setattr(gpu, "absence", lambda _: None)
    monkeypatch.setattr(gpu, "command", lambda *_: [sys.executable, "-c", write])
    assert gpu.main(["--out", str(out)]) == 4
    assert "new.json" in capsys.readouterr().err


def test_ctrl_c_waits_for_what_pytest_saves():
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(0.8); raise SystemExit(7)"]
    )
    here = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, [here, signal.SIGINT]).start()
    assert gpu._waited_for(child) == 7


def test_the_one_command_says_what_it_lacks(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "absence", lambda _: "no CUDA device that torch can use")
    assert gpu.main(["--device", "cuda"]) == gpu.NO_GPU
    told = capsys.readouterr().err
    assert told == ("gpu: --device cuda: no CUDA device that torch can use; nothing was measured\n")


def test_the_one_command_is_pytest_on_all_parts(tmp_path):
    typed = gpu.command("cuda", "all", 6, tmp_path / "out.json", threads=2)
    assert typed[3:6] == list(gpu.TESTS)
    assert "--device=cuda" in typed
    assert any("conv2d_lenet_conv1_b32-threads=2" in word for word in typed)
