"""The suite's command line: what is swept, and bad input ends the run before it begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.sweeps import Sweeps, parse_counts, parse_sweeps, powers_of_two
from bench.training.settings import Settings
from models import InputError
from models.choice import DataChoice, parse_choice

ROOT = Path(__file__).parent.parent


def sweep(name, *, cpus=2, images=16, is_axis=True, ends=False, **asked):
    return Sweeps(**asked).values(
        name, usable_cpus=cpus, num_inferences=images, is_axis=is_axis, ends=ends
    )


def run(*arguments, select="test_serial.py"):
    """pytest on the inference benchmarks, in a process of its own: exit code, output, errors."""
    target = f"bench/inference/{select}"
    told = subprocess.run(
        [sys.executable, "-m", "pytest", target, "-q", "--benchmark-disable", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return told.returncode, told.stdout, told.stderr


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_workers_are_swept_to_twice_the_usable_cpus(name):
    assert sweep(name, cpus=1) == (1, 2)
    assert sweep(name, cpus=6) == (1, 2, 4, 8)


def test_one_and_all_are_enough_where_a_test_says_so():
    assert sweep("threads", cpus=6, ends=True) == (1, 6)
    assert sweep("threads", cpus=1, ends=True) == (1,)
    assert sweep("threads", ends=True, threads=(2, 3)) == (2, 3)


def test_batches_are_never_larger_than_the_images():
    assert sweep("batch_size", images=100) == (1, 2, 4, 8, 16, 32)
    assert sweep("batch_size", images=5) == (1, 2, 4)
    assert sweep("batch_size", images=1) == (1,)


def test_a_grid_has_the_largest_batch_and_a_quarter_of_it():
    assert sweep("batch_size", is_axis=False) == (4, 16)
    assert sweep("batch_size", images=1, is_axis=False) == (1,)
    assert sweep("batch_size", is_axis=False, batch_sizes=(3,)) == (3,)


def test_lists_are_read_once_each_and_in_their_order():
    assert parse_counts("--threads", "1, 8,2,8") == (1, 8, 2)
    assert parse_counts("--threads", None) is None
    assert powers_of_two(8) == (1, 2, 4, 8)


@pytest.mark.parametrize("text", ["0", "-1", "abc", "", ",", "1,,2", "1.5", "1e3", "²", "1 2"])
def test_a_list_of_anything_but_counts_is_refused(text):
    with pytest.raises(InputError, match="--threads must be whole numbers of at least 1"):
        parse_counts("--threads", text)


def test_a_batch_larger_than_the_images_is_refused():
    with pytest.raises(InputError, match=r"--batch-sizes 17.*the 16 images.*--num-inferences 17"):
        parse_sweeps(None, None, "1,17", None, num_inferences=16)


@pytest.mark.parametrize("text", ["", "gpu", "cpu,", "cuda:0", "all,cpu"])
def test_an_unknown_device_is_refused(text):
    with pytest.raises(InputError, match="--device must be all, or some of cpu, cuda, mps"):
        parse_sweeps(None, None, None, text, num_inferences=16)


@pytest.mark.parametrize(
    ("size", "number", "option"),
    [("0", "4", "--image-size"), ("x", "4", "--image-size"), (None, "0", "--num-inferences")],
)
def test_a_number_that_is_no_count_is_refused(size, number, option):
    with pytest.raises(InputError, match=f"{option} must be a whole number of at least 1"):
        parse_choice("lenet", None, None, size, number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threads", "0"), "--threads must be whole numbers"),
        (("--threads", "1,999999"), "--threads 999999: too many for this machine; allowed: 1 to"),
        (("--model", "lenet5"), "--model lenet5: no such network; did you mean lenet"),
        (("--model", "le\x1b[2J\nnet"), r"--model le\x1b[2J\nnet: no such network"),
        (("--model", "lenet", "--images", "pytest_speedup"), "__init__.py is no image"),
        (("--model", "lenet", "--num-inferences", "9" * 5000), "must have at most 9 digits"),
        (("--lr", "nan"), "--lr must be a number above 0"),
        (("--download",), "--download: say with --data-dir DIR where to put CIFAR-10"),
        (("--checkpoint-dir", ""), "--checkpoint-dir must name a folder, got ''"),
    ],
)
def test_bad_input_is_a_usage_error_of_one_line(arguments, message):
    code, told, errors = run(*arguments)
    assert code == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in told + errors


def told_suite(pytester, *options):
    """What a run of its own, with the suite's conftest, made of its options."""
    (pytester.path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    pytester.makepyfile(
        """
        from bench import suite

        def test_it(request):
            asked = suite.suite_of(request.config)
            print(asked.training, asked.data, asked.checkpoint_dir, asked.resume, sep="|")
            print(asked.sweeps.batch_sizes)
        """
    )
    pytester.syspathinsert(ROOT)
    result = pytester.runpytest_inprocess("-s", "-q", *options)
    assert result.ret == 0
    return result.outlines


def test_training_has_the_defaults_that_its_settings_have(pytester):
    line = f"{Settings()}|{DataChoice()}|None|False"
    assert any(line in told for told in told_suite(pytester))


def test_a_training_run_that_was_asked_for_is_kept_in_checkpoints(pytester):
    line = f"{Settings(epochs=2)}|{DataChoice()}|checkpoints|False"
    assert any(line in told for told in told_suite(pytester, "--epochs", "2"))


def test_training_gets_what_was_asked_for(pytester):
    asked = "--epochs 2 --batch-size 8 --batch-sizes 1,2 --lr 0.1 --optimizer adam --resume"
    data = "--data-dir there --subset 5 --download --checkpoint-dir kept"
    told = told_suite(pytester, *asked.split(), *data.split())
    settings = Settings(epochs=2, batch_size=8, lr=0.1, optimizer="adam")
    line = f"{settings}|{DataChoice(Path('there'), 5, True)}|kept|True"
    assert any(line in each for each in told)
    assert "(1, 2)" in told  # --batch-size is no abbreviation of --batch-sizes


def test_a_device_that_is_asked_for_by_name_has_to_be_there():
    import torch

    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    code, _, errors = run("--model", "lenet", "--device", f"cpu,{absent}", select="test_device.py")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: --device {absent}: " in errors


def test_a_device_that_is_merely_absent_is_skipped_with_its_reason():
    code, told, _ = run("--model", "lenet", "-rs", select="test_device.py")
    assert code == 0
    assert "SKIPPED" in told
    assert "MPS" in told or "CUDA" in told


def test_a_list_that_is_asked_for_is_the_sweep():
    code, told, _ = run("--collect-only", "--threads", "3,5", "--processes", "7", select="")
    assert code == 0
    assert "test_thread_pool[threads=3]" in told
    assert "test_intra_op[threads=5]" in told
    assert "test_process_pool[processes=7]" in told
    assert "threads=1]" not in told


def test_collecting_other_tests_loads_no_torch():
    code = (
        "import sys, pytest; pytest.main(['--collect-only', '-q', 'tests/test_imports.py']);"
        "sys.exit(sorted({'torch', 'matplotlib', 'mpi4py'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "[]" in told.stderr
    assert "test_every_package_keeps_the_import_rules" in told.stdout
