"""The machine is told truly: on made-up trees for every layout, and on the one in front of us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types

import pytest

from pytest_speedup import cpus, machine

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "34 32 0:31 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"


@pytest.fixture
def tree(tmp_path):
    """Writes a made-up file system: {path: text} -> its root."""

    def write(files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        return tmp_path

    return write


def processes(own, *mounts):
    return {"proc/self/cgroup": own, "proc/self/mountinfo": "\n".join(mounts)}


def test_no_cgroup_is_no_quota(tmp_path):
    assert cpus.cpu_quota(tmp_path) is None


def test_version_2_quota_is_quota_over_period(tree):
    root = tree({**processes("0::/job", V2), "sys/fs/cgroup/job/cpu.max": "150000 100000"})
    assert cpus.cpu_quota(root) == 1.5


def test_version_2_max_is_no_quota(tree):
    root = tree({**processes("0::/job", V2), "sys/fs/cgroup/job/cpu.max": "max 100000"})
    assert cpus.cpu_quota(root) is None


@pytest.mark.parametrize("tightest", ["", "slice/", "slice/job/"], ids=["top", "middle", "own"])
def test_the_tightest_ancestor_counts(tree, tightest):
    quotas = {
        f"sys/fs/cgroup/{level}cpu.max": "800000 100000" for level in ("slice/", "slice/job/")
    }
    quotas[f"sys/fs/cgroup/{tightest}cpu.max"] = "250000 50000"
    root = tree({**processes("0::/slice/job", V2), **quotas})
    assert cpus.cpu_quota(root) == 5


def test_an_ancestor_above_the_mount_is_not_looked_for(tree):
    mount = V2.replace("0:28 / ", "0:28 /docker/abc ")
    root = tree({**processes("0::/docker/abc", mount), "sys/fs/cgroup/cpu.max": "200000 100000"})
    assert cpus.cpu_quota(root) == 2


def test_below_a_mounted_subtree_the_rest_of_the_path_counts(tree):
    mount = V2.replace("0:28 / ", "0:28 /docker/abc ")
    files = processes("0::/docker/abc/job", mount)
    root = tree({**files, "sys/fs/cgroup/job/cpu.max": "300000 100000"})
    assert cpus.cpu_quota(root) == 3


def test_a_path_outside_the_namespace_falls_back_to_the_mount(tree):
    files = processes("0::/../../other", V2)
    root = tree({**files, "sys/fs/cgroup/cpu.max": "200000 100000"})
    assert cpus.cpu_quota(root) == 2


def test_a_host_path_that_the_container_does_not_show_falls_back_to_the_mount(tree):
    files = processes("2:cpu,cpuacct:/docker/abc", V1)
    cpu = "sys/fs/cgroup/cpu,cpuacct"
    root = tree(
        {**files, f"{cpu}/cpu.cfs_quota_us": "200000", f"{cpu}/cpu.cfs_period_us": "100000"}
    )
    assert cpus.cpu_quota(root) == 2


def test_version_1_reads_the_cpu_hierarchy_alone(tree):
    cpu, memory = "sys/fs/cgroup/cpu,cpuacct/job", "sys/fs/cgroup/memory/job"
    files = processes("5:memory:/job\n2:cpu,cpuacct:/job", MEMORY, V1)
    files |= {f"{cpu}/cpu.cfs_quota_us": "350000", f"{cpu}/cpu.cfs_period_us": "100000"}
    files |= {f"{memory}/cpu.cfs_quota_us": "100000", f"{memory}/cpu.cfs_period_us": "100000"}
    assert cpus.cpu_quota(tree(files)) == 3.5


def test_version_1_minus_one_is_no_quota(tree):
    cpu = "sys/fs/cgroup/cpu,cpuacct"
    files = processes("2:cpu,cpuacct:/", V1)
    files |= {f"{cpu}/cpu.cfs_quota_us": "-1", f"{cpu}/cpu.cfs_period_us": "100000"}
    assert cpus.cpu_quota(tree(files)) is None


def test_cpuset_is_not_the_cpu_controller(tree):
    files = processes("2:cpuset:/job", V1.replace("cpu,cpuacct", "cpuset"))
    folder = "sys/fs/cgroup/cpuset/job"
    files |= {f"{folder}/cpu.cfs_quota_us": "100000", f"{folder}/cpu.cfs_period_us": "100000"}
    assert cpus.cpu_quota(tree(files)) is None


def test_with_both_versions_mounted_the_tighter_counts(tree):
    unified = V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    files = processes("2:cpu,cpuacct:/a\n0::/b", V1, unified)
    cpu = "sys/fs/cgroup/cpu,cpuacct/a"
    files |= {f"{cpu}/cpu.cfs_quota_us": "400000", f"{cpu}/cpu.cfs_period_us": "100000"}
    root = tree({**files, "sys/fs/cgroup/unified/b/cpu.max": "300000 100000"})
    assert cpus.cpu_quota(root) == 3


def test_a_mountpoint_with_a_space_is_found(tree):
    mount = V2.replace("/sys/fs/cgroup ", r"/sys/my\040groups ")
    root = tree({**processes("0::/", mount), "sys/my groups/cpu.max": "200000 100000"})
    assert cpus.cpu_quota(root) == 2


@pytest.mark.parametrize("text", ["", "nonsense", "100000", "100000 0", "-5 100000", "1e5 1e5"])
def test_an_unreadable_quota_is_no_quota(tree, text):
    root = tree({**processes("0::/", V2), "sys/fs/cgroup/cpu.max": text})
    assert cpus.cpu_quota(root) is None


@pytest.mark.parametrize(
    ("allowed", "quota", "usable"),
    [
        (8, "max 100000", 8),
        (8, "250000 100000", 2),
        (8, "799999 100000", 7),
        (2, "800000 100000", 2),
        (8, "50000 100000", 1),
    ],
)
def test_usable_cpus_are_the_mask_or_the_quota_rounded_down(
    tree, monkeypatch, allowed, quota, usable
):
    monkeypatch.setattr(cpus, "affinity", lambda: allowed)
    root = tree({**processes("0::/", V2), "sys/fs/cgroup/cpu.max": quota})
    assert machine.usable_cpus(root) == usable


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity mask")
def test_the_affinity_mask_counts_not_the_machine():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from pytest_speedup.machine import usable_cpus; print(usable_cpus())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "1\n"


def test_without_affinity_masks_the_machine_counts(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 11)
    assert cpus.affinity() == 11


def topology(siblings):
    """{cpu: its thread siblings} -> the kernel's files."""
    files = {"sys/devices/system/cpu/online": f"0-{len(siblings) - 1}"}
    for cpu, text in siblings.items():
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = text
    return files


INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Gold 6248
flags\t\t: fpu sse sse2 sse4_1 sse4_2 avx avx2 fma avx512f avx512_vnni

processor\t: 1
model name\t: another"""

GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40"""


def test_two_threads_a_core_are_smt(tree):
    siblings = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    told = cpus.linux_cpus(tree({"proc/cpuinfo": INTEL, **topology(siblings)}))
    assert told == cpus.Cpus(
        model="Intel(R) Xeon(R) Gold 6248",
        isa=("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512_vnni"),
        physical_cores=2,
        smt=True,
    )


def test_one_thread_a_core_is_not_smt(tree):
    told = cpus.linux_cpus(tree({"proc/cpuinfo": GRAVITON, **topology({0: "0", 1: "1", 2: "2"})}))
    assert (told.physical_cores, told.smt) == (3, False)


def test_an_arm_core_is_named_by_its_part(tree):
    told = cpus.linux_cpus(tree({"proc/cpuinfo": GRAVITON}))
    assert told.model == "implementer 0x41 part 0xd40"
    assert told.isa == ("neon", "bf16", "i8mm", "sve")


def test_what_is_not_told_is_none(tmp_path):
    assert cpus.linux_cpus(tmp_path) == cpus.Cpus(None, (), None, None)
    assert cpus.governor(tmp_path) is None


def test_a_half_told_topology_is_none_rather_than_wrong(tree):
    files = topology({0: "0", 1: "1"})
    del files["sys/devices/system/cpu/cpu1/topology/thread_siblings_list"]
    told = cpus.linux_cpus(tree(files))
    assert (told.physical_cores, told.smt) == (None, None)


def test_governors_that_differ_are_all_named(tree):
    folder = "sys/devices/system/cpu"
    files = {f"{folder}/cpu{n}/cpufreq/scaling_governor": "powersave" for n in range(3)}
    files[f"{folder}/cpu1/cpufreq/scaling_governor"] = "performance"
    assert cpus.governor(tree(files)) == "performance+powersave"


def test_macos_is_told_by_sysctl():
    intel = """machdep.cpu.brand_string: Intel(R) Core(TM) i7
machdep.cpu.features: FPU SSE4.2 AVX1.0 F16C FMA
machdep.cpu.leaf7_features: AVX2 BMI2
hw.physicalcpu: 4
hw.logicalcpu: 8"""
    apple = """machdep.cpu.brand_string: Apple M2
hw.physicalcpu: 8
hw.logicalcpu: 8
hw.optional.arm64: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_SME: 0"""
    assert cpus.macos_cpus(intel) == cpus.Cpus(
        "Intel(R) Core(TM) i7", ("sse4.2", "avx", "avx2", "fma", "f16c"), 4, True
    )
    assert cpus.macos_cpus(apple) == cpus.Cpus("Apple M2", ("neon", "bf16"), 8, False)
    assert cpus.macos_cpus("") == cpus.Cpus(None, (), None, None)


def test_this_machine_is_described_in_json():
    told = machine.describe()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert 1 <= told["usable_cpus"] <= told["affinity"] <= told["logical_cpus"]
    assert told["gil"] in {"on", "off"}
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["versions"]["pytest"] == pytest.__version__


def test_a_strange_machine_is_described_all_the_same(tmp_path):
    told = machine.describe(tmp_path)
    assert told["usable_cpus"] == told["affinity"]
    assert (told["quota"], told["physical_cores"], told["smt"], told["isa"]) == (
        None,
        None,
        None,
        [],
    )


def test_describing_loads_no_heavy_library():
    code = (
        "import sys; from pytest_speedup import machine;"
        "machine.describe(); machine.pool_threads();"
        "print({'torch', 'numba', 'numpy', 'mpi4py', 'matplotlib', 'psutil'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def test_gpus_are_told_where_torch_sees_them(monkeypatch):
    cuda = types.SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda i: f"GPU {i}"
    )
    torch = types.SimpleNamespace(cuda=cuda, version=types.SimpleNamespace(cuda="13.0"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    told = machine.describe()
    assert told["gpus"] == ["GPU 0", "GPU 1"]
    assert told["versions"]["cuda"] == "13.0"


def test_pool_threads_are_those_that_were_set():
    import torch

    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert machine.pool_threads()["torch"] == threads
    finally:
        torch.set_num_threads(before)


def test_telling_of_numbas_threads_does_not_start_them():
    code = (
        "import numba; from pytest_speedup.machine import pool_threads; print(pool_threads())\n"
        "try: numba.threading_layer()\n"
        "except ValueError: print('not started')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pools, started = told.stdout.splitlines()
    assert "numba" not in pools
    assert started == "not started"


@pytest.mark.parametrize("threads", [1, 2])
def test_numbas_threads_are_told_once_started(monkeypatch, threads):
    numba = types.SimpleNamespace(
        threading_layer=lambda: "workqueue", get_num_threads=lambda: threads
    )
    monkeypatch.setitem(sys.modules, "numba", numba)
    assert machine.pool_threads()["numba"] == threads


def test_free_threaded_python_is_told(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert machine.describe()["gil"] == "off"
