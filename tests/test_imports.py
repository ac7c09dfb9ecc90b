"""Who may import whom, held over the whole tree; the checkers are shown to fail on made-up ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FORBIDDEN = {
    "pytest_speedup": {"models", "kernels", "bench", "tests"},
    "models": {"bench", "pytest_speedup", "tests"},
    "kernels": {"bench", "pytest_speedup", "models", "tests"},
    "bench": {"tests"},
}
"""Package -> those of ours that it may not import, wherever in its code."""

HEAVY = {"torch", "torchvision", "matplotlib", "mpi4py", "numba"}
"""What `pytest_speedup` may import inside the functions that need it, and nowhere else."""


def imports(source: str, *, inside_functions: bool) -> Iterator[tuple[int, str]]:
    """(line, name) of every module that `source` imports by its absolute name.

    A relative import cannot leave its own package, so it cannot break a rule. With
    `inside_functions` False, those imports alone that importing the module runs: not the bodies of
    functions, nor what stands under `if TYPE_CHECKING`.
    """
    for node in _nodes(ast.parse(source), inside_functions):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).split(".")[-1]
            if called in {"import_module", "__import__"}:
                yield from ((node.lineno, ast.unparse(name).strip("'")) for name in node.args[:1])


def _nodes(node: ast.AST, inside_functions: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if inside_functions or not _is_not_run(child):
            yield child
            yield from _nodes(child, inside_functions)


def _is_not_run(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def broken_rules(root: Path) -> list[str]:
    """One line for every import under `root` that the rules forbid."""
    broken = []
    for name, forbidden in FORBIDDEN.items():
        for file in sorted((root / name).rglob("*.py")):
            source = file.read_text()
            found = [
                (line, module)
                for line, module in imports(source, inside_functions=True)
                if module.split(".")[0] in forbidden
            ]
            if name == "pytest_speedup":
                found += [
                    (line, module)
                    for line, module in imports(source, inside_functions=False)
                    if module.split(".")[0] in HEAVY
                ]
            broken += [f"{file.relative_to(root)}:{line} imports {m}" for line, m in sorted(found)]
    return broken


def loaded_by(module: str, folder: Path) -> set[str]:
    """Names of all modules that a fresh interpreter holds once `module` is imported."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import {module}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return set(told.stdout.split())


def test_every_package_keeps_the_import_rules():
    assert broken_rules(ROOT) == []


@pytest.mark.parametrize("package", ["pytest_speedup", "models", "kernels", "bench"])
def test_the_rules_are_held_over_files_that_exist(package):
    assert list((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize(
    ("file", "source", "line"),
    [
        ("pytest_speedup/a.py", "import models", "1 imports models"),
        ("pytest_speedup/a.py", "def f():\n    from kernels.b import g", "2 imports kernels.b"),
        ("pytest_speedup/a.py", "import torch.nn", "1 imports torch.nn"),
        ("pytest_speedup/a.py", "try: import mpi4py\nexcept OSError: ...", "1 imports mpi4py"),
        ("pytest_speedup/a.py", "class A:\n    import matplotlib", "2 imports matplotlib"),
        ("pytest_speedup/b/a.py", "importlib.import_module('bench')", "1 imports bench"),
        ("models/a.py", "from pytest_speedup import machine", "1 imports pytest_speedup"),
        ("models/zoo/a.py", "import torch, bench", "1 imports bench"),
        ("kernels/conv2d/a.py", "import models.zoo as zoo", "1 imports models.zoo"),
        ("bench/a.py", "import tests.helpers", "1 imports tests.helpers"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, source, line):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(source)
    assert [text.removeprefix(f"{file}:") for text in broken_rules(tmp_path)] == [line]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("pytest_speedup/a.py", "def f():\n    import torch"),
        ("pytest_speedup/a.py", "class A:\n    def f(self):\n        from mpi4py import MPI"),
        ("pytest_speedup/a.py", "if TYPE_CHECKING:\n    import torch"),
        ("pytest_speedup/sub/a.py", "from .models import b\nfrom . import bench"),
        ("models/a.py", "import torch, kernels.conv2d"),
        ("bench/a.py", "import models, kernels, pytest_speedup, torch"),
    ],
)
def test_an_allowed_import_is_let_be(tmp_path, file, source):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(source)
    assert broken_rules(tmp_path) == []


def test_importing_the_plugin_loads_nothing_heavy():
    loaded = loaded_by("pytest_speedup.plugin", ROOT)
    assert "pytest_speedup" in loaded
    assert loaded & HEAVY == set()


def test_importing_the_plugin_loads_few_of_its_own_modules():
    """What measures is loaded once there are arms: a suite without them starts as fast as ever."""
    ours = {name for name in loaded_by("pytest_speedup.plugin", ROOT) if "pytest_speedup." in name}
    light = {"plugin", "options", "mpi", "measuring"}
    assert ours == {f"pytest_speedup.{name}" for name in light}


def test_importing_the_operators_loads_no_torch():
    loaded = loaded_by("kernels", ROOT)
    assert "kernels.conv2d.reference" in loaded
    assert loaded & {"torch", "torchvision", "matplotlib", "mpi4py"} == set()


def test_a_plugin_that_loads_something_heavy_is_found(tmp_path):
    (tmp_path / "other.py").write_text("import matplotlib\n")
    (tmp_path / "offender.py").write_text("import other\n")
    assert loaded_by("offender", tmp_path) & HEAVY == {"matplotlib"}
