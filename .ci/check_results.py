"""What .ci/run's steps left behind is what they should have: each check exits with a line if not.

Usage: check_results.py tests JUNIT FOLDER... | run RUN.json PASSES | plots FOLDER | wheel FILE.whl
"""

from __future__ import annotations

import json
import math
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

STRATEGIES = {"serial", "default", "intra_op", "thread_pool", "process_pool", "batched"}
"""Those of bench/inference/ that run everywhere."""


def check_tests(junit: str, *folders: str) -> str:
    """Tests passed in each of the folders, and none failed."""
    cases = list(ElementTree.parse(junit).getroot().iter("testcase"))
    kinds = ("failure", "error")
    bad = [c.get("name") for c in cases if any(c.find(kind) is not None for kind in kinds)]
    require(not bad, f"{junit}: failed: {bad}")
    passed = [str(c.get("classname")) for c in cases if c.find("skipped") is None]
    counts = {f: sum(name.split(".")[0] == f for name in passed) for f in folders}
    require(all(counts.values()), f"{junit}: tests passed: {counts}; some in each are wanted")
    return f"passed: {counts}, skipped: {len(cases) - len(passed)}"


def check_run(file: str, passes: str) -> str:
    """A whole run: every arm proved, and timed in each pass; pictures beside it."""
    saved = json.loads(Path(file).read_text())
    run = saved["speedup"]
    require(run["incomplete"] is None, f"{file}: incomplete: {run['incomplete']}")
    require(run["passes_done"] == int(passes), f"{file}: {run['passes_done']} passes, not {passes}")
    failed = [n["fullname"] for n in run["not_run"] if n["kind"] != "skipped"]
    require(not failed, f"{file}: did not run: {failed}")
    usable = saved["machine_info"]["speedup"]["usable_cpus"]
    require(usable >= 1, f"{file}: {usable} usable CPUs")
    arms = {
        b["fullname"]: b["extra_info"]["speedup"]
        for b in saved["benchmarks"]
        if "speedup" in b["extra_info"]
    }
    missing = STRATEGIES - {arm["strategy"] for arm in arms.values()}
    require(not missing, f"{file}: no arm of {sorted(missing)}")
    for name, arm in arms.items():
        require(arm["verified"] is not None, f"{file}: {name} has a time without a proof")
        times = [seconds for block in arm["blocks"] for seconds in block]
        require(all(arm["blocks"]), f"{file}: {name} has an empty block")
        require(len(arm["blocks"]) == int(passes), f"{file}: {name}: {len(arm['blocks'])} blocks")
        require(all(0 < t < math.inf for t in times), f"{file}: {name} has impossible times")
    return f"{len(arms)} arms, {passes} passes each; {check_plots(str(Path(file).parent))}"


def check_plots(folder: str) -> str:
    """At least one PNG and one SVG, and each of them is one."""
    pictures = {suffix: sorted(Path(folder).rglob(f"*.{suffix}")) for suffix in ("png", "svg")}
    for suffix, files in pictures.items():
        require(bool(files), f"{folder}: no {suffix} was drawn")
    for file in pictures["png"]:
        require(file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n"), f"{file} is no PNG")
    for file in pictures["svg"]:
        tag = ElementTree.parse(file).getroot().tag
        require(tag == "{http://www.w3.org/2000/svg}svg", f"{file} is no SVG but {tag}")
    return ", ".join(f"{len(files)} {suffix}" for suffix, files in pictures.items())


def check_wheel(file: str) -> str:
    """Our package alone, typed, with its entry points."""
    with zipfile.ZipFile(file) as wheel:
        names = wheel.namelist()
        (entry_points,) = (n for n in names if n.endswith(".dist-info/entry_points.txt"))
        entries = wheel.read(entry_points).decode()
    tops = {name.split("/")[0] for name in names}
    strangers = {t for t in tops if t != "pytest_speedup" and not t.endswith(".dist-info")}
    require(not strangers, f"{file} ships {sorted(strangers)} besides the package")
    wanted = {"pytest_speedup/plugin.py", "pytest_speedup/cli.py", "pytest_speedup/py.typed"}
    require(wanted <= set(names), f"{file} lacks {sorted(wanted - set(names))}")
    for line in ("speedup = pytest_speedup.plugin", "pytest-speedup = pytest_speedup.cli:main"):
        require(line in entries, f"{file} lacks the entry point {line}")
    return f"{Path(file).name}: {len(names)} files"


def require(holds: bool, otherwise: str) -> None:
    """Exit with `otherwise` unless it holds."""
    if not holds:
        sys.exit(f"check_results: {otherwise}")


CHECKS = {"tests": check_tests, "run": check_run, "plots": check_plots, "wheel": check_wheel}

if __name__ == "__main__":
    print(CHECKS[sys.argv[1]](*sys.argv[2:]))
