"""What the pictures show, read back from matplotlib's figures and from the files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from pytest_speedup.analysis import Analysis, analyse
from pytest_speedup.plots import FolderError, draw, plan
from pytest_speedup.reading import run_from_json
from pytest_speedup.records import RecordError
from pytest_speedup.sheet import style
from tests.run_files import arm_json, make_run_json, run_json

HOSTILE = "a<b>|/c $x$ ..\\[bold]\x1b[31m\x00\u202e\n ]]> --> & 漢字 \ud800"
PNG = b"\x89PNG\r\n\x1a\n"


def read(saved: Mapping[str, Any], source: str = "run.json") -> Analysis:
    return analyse(run_from_json(saved, source))


def on(machine: str, usable_cpus: int, **given: Any) -> dict[str, Any]:
    saved = make_run_json(usable_cpus=usable_cpus, **given)
    saved["machine_info"]["speedup"]["cpu_model"] = machine
    return saved


def figure(kind: str, *analyses: Analysis, page: int = 1) -> Figure:
    """One of the pictures, drawn and not written."""
    (picture,) = (p for p in plan(analyses)[0] if p.kind == kind and p.page == page)
    with style():
        drawn = picture.figure([])
        drawn.draw_without_rendering()
    return drawn


def words(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.findobj(Text) if text.get_text()]


def markers(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    """By marker and filling, such as "o" and "o hollow", the points that are drawn with it."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in ax.lines:
        if line.get_marker() in "os^" and len(line.get_xdata()):
            hollow = " hollow" if line.get_markerfacecolor() == "white" else ""
            found[line.get_marker() + hollow] = list(
                zip(line.get_xdata(), line.get_ydata(), strict=True)
            )
    return found


def svg_words(paths: Sequence[Path]) -> str:
    """The comments of all SVG files, in which matplotlib keeps what its glyphs say."""
    return "\n".join(p.read_text(encoding="utf-8") for p in paths if p.suffix == ".svg")


def test_a_run_becomes_pictures_each_as_png_and_svg(tmp_path: Path) -> None:
    written = draw([read(make_run_json())], tmp_path / "new" / "folder", "run")
    assert [path.name.removeprefix("run-resnet18-16x3x224x224-") for path in written] == [
        *("run-all-cases-devices.png", "run-all-cases-devices.svg"),
        *("speedup.png", "speedup.svg", "throughput.png", "throughput.svg"),
        *("strategies.png", "strategies.svg"),
    ]
    assert sorted(written) == sorted((tmp_path / "new" / "folder").iterdir())
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(PNG)
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_speedup_is_drawn_at_its_workers_and_hollow_where_oversubscribed() -> None:
    ax, efficiency = figure("speedup", read(make_run_json(noise=0, drift=0))).axes
    assert markers(ax)["o"] == [(1, pytest.approx(1)), (2, pytest.approx(1 / 0.55))]
    assert markers(ax)["o hollow"] == [(4, pytest.approx(1 / 0.55)), (8, pytest.approx(1 / 0.55))]
    assert markers(efficiency)["o"] == [(1, pytest.approx(1)), (2, pytest.approx(0.5 / 0.55))]
    assert "o hollow" not in markers(efficiency)


def test_ideal_line_and_usable_cpus_are_marked() -> None:
    drawn = figure("speedup", read(make_run_json(usable_cpus=4)))
    assert {"ideal", "4 usable CPUs"} <= set(words(drawn))
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in drawn.axes[0].lines]
    assert ([4, 4], [0, 1]) in lines
    assert any(xs == ys and len(xs) == 2 and xs[0] == 1 for xs, ys in lines)


def test_amdahls_curve_is_dashed_and_only_where_it_was_fitted() -> None:
    def dashed(usable_cpus: int) -> int:
        ax = figure("speedup", read(make_run_json(usable_cpus=usable_cpus))).axes[0]
        return sum(line.get_linestyle() == "--" and len(line.get_xdata()) == 8 for line in ax.lines)

    assert dashed(2) == 0
    assert dashed(8) == 2


def test_ticks_are_the_plain_numbers_that_were_measured() -> None:
    for kind, where in (("speedup", -1), ("throughput", 0)):
        drawn = figure(kind, read(make_run_json()))
        labels = [label.get_text() for label in drawn.axes[where].get_xticklabels()]
        assert labels == ["1", "2", "4", "8"]


def test_many_workers_make_both_axes_logarithmic() -> None:
    pool = {
        p: arm_json(
            f"test_pool[threads={p}]",
            [[1 / p]] * 5,
            params={"threads": p},
            axis="threads",
            workers=p,
            usable_cpus=64,
            base="bench/inference/test_made_up.py::test_pool[threads=1]",
        )
        for p in (1, 8, 64)
    }
    ax = figure("speedup", read(run_json(list(pool.values())))).axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_bars_stand_in_the_order_of_the_table_with_their_speedups() -> None:
    drawn = figure("strategies", read(make_run_json(noise=0, drift=0)))
    names = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert names[:3] == ["serial", "bfloat16", "compiled"]
    swept = [name for name in names if name.startswith("thread_pool")]
    assert swept == [f"thread_pool threads={n}" for n in (1, 2, 4, 8)]
    told = [text.get_text() for text in drawn.axes[0].texts]
    assert told[names.index("batched batch_size=8")] == "base"
    assert told[names.index("thread_pool threads=2")] == "1.59× [1.59, 1.59]"
    assert any("Base: batched batch_size=8, 700 ms" in text for text in words(drawn))
    widths = [patch.get_width() for patch in drawn.axes[0].patches]
    assert widths[names.index("thread_pool threads=2")] == pytest.approx(16 / 0.44)


def test_the_machines_peak_stands_below_the_bars() -> None:
    arms = [arm_json("test_a", [[0.5]] * 5, work=1e9, unit="B", peak=2.5e10)]
    drawn = figure("strategies", read(run_json(arms)))
    assert any("The machine's peak: 25.0 GB/s on 1 CPU." in text for text in words(drawn))


def test_oversubscribed_bars_are_hatched() -> None:
    ax = figure("strategies", read(make_run_json())).axes[0]
    hatched = [
        label.get_text()
        for label, patch in zip(ax.get_yticklabels(), ax.patches, strict=True)
        if patch.get_hatch()
    ]
    assert hatched == [f"{name}={p}" for name in ("thread_pool threads", "ranks") for p in (4, 8)]


def test_other_devices_stand_apart_on_a_scale_of_their_own() -> None:
    cpu, other = figure("strategies", read(make_run_json())).axes
    assert [label.get_text() for label in other.get_yticklabels()] == ["device=cuda"]
    assert "device=cuda" not in [label.get_text() for label in cpu.get_yticklabels()]
    assert "a ratio, not a parallel speedup" in other.get_title(loc="left")


def test_arms_without_work_are_drawn_as_times() -> None:
    arms = [arm_json(f"test_{name}", [[0.2]] * 5, work=None) for name in "ab"]
    ax = figure("strategies", read(run_json(arms))).axes[0]
    assert ax.get_xlabel() == "time per call, ms (shorter is better)"
    assert [patch.get_width() for patch in ax.patches] == pytest.approx([200, 200])


def test_an_arm_that_cannot_be_drawn_is_named() -> None:
    arms = [arm_json("test_a", [[0.2]] * 5), arm_json("test_b", [[0.2]] * 5, work=None)]
    text = " ".join(words(figure("strategies", read(run_json(arms)))))
    assert "Not drawn, no work in images: b." in text
    lost = " ".join(words(figure("speedup", read(make_run_json()))))
    assert "No relative speedup: process_pool processes=2: its base" in lost


def test_title_machine_date_confidence_and_the_missing_passes_are_told() -> None:
    saved = on("Some(R) CPU", 4)
    saved["speedup"] |= {"incomplete": "interrupted", "passes_done": 4}
    text = words(figure("strategies", read(saved)))
    assert "resnet18 16x3x224x224" in text
    assert "Some, 4 usable CPUs, 2000-01-01 00:00" in text
    assert "INCOMPLETE RUN: interrupted (4 of 5 passes done)" in text
    assert any("93.8 % intervals, 4 of 5 passes" in line for line in text)


def test_the_model_joins_the_title_where_the_group_does_not_tell_it() -> None:
    arms = [arm_json(f"test_{n}", [[1.0]] * 5, group="g", params={"model": "vgg"}) for n in "ab"]
    assert "g, vgg" in words(figure("strategies", read(run_json(arms))))


def test_letters_are_large_enough_to_print() -> None:
    for kind in ("speedup", "throughput", "strategies"):
        drawn = figure(kind, read(make_run_json()))
        assert min(t.get_fontsize() for t in drawn.findobj(Text) if t.get_text()) >= 8


@pytest.mark.parametrize("kind", ["speedup", "throughput", "strategies"])
def test_no_words_leave_the_paper(kind: str) -> None:
    saved = make_run_json(usable_cpus=8)
    for benchmark in saved["benchmarks"]:
        benchmark["extra_info"]["speedup"]["strategy"] += "_with_a_long_name" * 4
        benchmark["group"] = "a group with a name that is longer than the paper is wide " * 4
    saved["speedup"]["incomplete"] = "interrupted by somebody who had a long reason " * 4
    drawn = figure(kind, read(saved))
    taken, (width, height) = drawn.get_tightbbox(), drawn.get_size_inches()
    assert taken.x0 >= 0
    assert taken.y0 >= 0
    assert taken.x1 <= width
    assert taken.y1 <= height


def test_names_of_curves_do_not_overlap() -> None:
    arms = [
        arm_json(
            f"test_s{i}[threads={p}]",
            [[1 / p]] * 5,
            params={"threads": p},
            axis="threads",
            workers=p,
            base=f"bench/inference/test_made_up.py::test_s{i}[threads=1]",
        )
        for i in range(7)
        for p in (1, 2)
    ]
    drawn = figure("speedup", read(run_json(arms)))
    names = [t for t in drawn.axes[0].texts if re.fullmatch(r"s\d", t.get_text())]
    extents = [Text.get_window_extent(name) for name in names]  # without an annotation's line
    boxes = sorted((box.y0, box.y1) for box in extents)
    assert len(boxes) == 7
    assert all(below[1] <= above[0] for below, above in pairwise(boxes))


def test_hostile_names_reach_neither_paths_nor_xml_nor_mathtext(tmp_path: Path) -> None:
    saved = make_run_json()
    for benchmark in saved["benchmarks"]:
        benchmark["group"] = HOSTILE
        benchmark["extra_info"]["speedup"]["strategy"] += HOSTILE
        benchmark["extra_info"]["speedup"]["unit"] = HOSTILE
    saved["machine_info"]["speedup"]["cpu_model"] = HOSTILE
    saved["speedup"]["incomplete"] = HOSTILE
    out = tmp_path / "out"
    written = draw([read(saved)], out, HOSTILE)
    assert len(written) == 8
    for path in written:
        assert path.parent == out
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)
        if path.suffix == ".svg":
            ElementTree.parse(path)
    assert "$x$" in svg_words(written)
    assert r"\u6f22\u5b57" in svg_words(written)


def test_dollar_signs_are_letters_and_no_formulas() -> None:
    saved = run_json([arm_json("test_a", [[1.0]] * 5, group="$x$ $y", strategy="$z$")])
    drawn = figure("strategies", read(saved))
    assert {"$x$ $y", "$z$"} <= set(words(drawn))
    assert not any(text.get_parse_math() for text in drawn.findobj(Text))


def test_groups_with_the_same_letters_keep_their_own_files(tmp_path: Path) -> None:
    arms = [
        arm_json(f"test_{i}", [[1.0]] * 5, group=group) for i, group in enumerate(["a/b", "A|b"])
    ]
    written = draw([read(run_json(arms))], tmp_path, "x")
    assert len({path.name.lower() for path in written}) == len(written) == 4


def test_drawing_twice_gives_the_same_files(tmp_path: Path) -> None:
    def digests(folder: str) -> list[str]:
        paths = draw([read(make_run_json())], tmp_path / folder, "x")
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    assert digests("one") == digests("two")


def test_two_machines_are_told_apart_by_their_names() -> None:
    drawn = figure("speedup", read(on("Xeon", 2)), read(on("Epyc", 8, seed=2)))
    text = words(drawn)
    assert {"thread_pool\nXeon", "thread_pool\nEpyc"} <= set(text)
    assert {"2 usable CPUs (Xeon)", "8 usable CPUs (Epyc)"} <= set(text)


def test_two_runs_of_one_machine_are_kept_apart_by_file_and_never_averaged() -> None:
    runs = read(make_run_json(seed=1), "a.json"), read(make_run_json(seed=2), "b.json")
    drawn = figure("throughput", *runs)
    assert {"batched\na", "batched\nb"} <= set(words(drawn))
    rates = [run.groups[0].results[8].throughput for run in runs]
    ends = [
        float(line.get_ydata()[-1])
        for line in drawn.axes[0].lines
        if line.get_marker() == "o" and len(line.get_ydata()) == 4
    ]
    assert sorted(ends) == pytest.approx(sorted(rate.value for rate in rates if rate))


def test_the_same_run_given_twice_is_refused_whatever_its_file_and_date(tmp_path: Path) -> None:
    again = make_run_json()
    again["datetime"] = "2000-01-01T00:00:01+00:00"
    with pytest.raises(RecordError, match=r"b\.json: holds the same run as a\.json"):
        draw([read(make_run_json(), "a.json"), read(again, "b.json")], tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"file/out: no picture can be written there \(.+\)") as e:
        draw([read(make_run_json())], tmp_path / "file" / "out", "x")
    assert "\n" not in str(e.value)


def test_a_file_that_cannot_be_replaced_leaves_no_half_file(tmp_path: Path) -> None:
    (first, *_) = draw([read(make_run_json())], tmp_path / "probe", "x")
    out = tmp_path / "out"
    (out / first.name).mkdir(parents=True)
    with pytest.raises(FolderError, match="cannot be written"):
        draw([read(make_run_json())], out, "x")
    assert [path.name for path in out.iterdir()] == [first.name]


def test_what_is_left_out_of_a_large_run_is_said_on_every_picture(tmp_path: Path) -> None:
    arms = [arm_json(f"test_{i}", [[1.0]] * 5, group=f"group {i}") for i in range(30)]
    run = read(run_json(arms))
    chosen, left_out = plan([run], 2)
    assert [picture.group for picture in chosen] == ["group 0", "group 1"]
    assert left_out is not None
    assert left_out.startswith("Only 2 of 30 pictures are drawn;")
    written = draw([run], tmp_path, "x", most=2)
    assert len(written) == 4
    assert svg_words(written).count("Only 2 of 30 pictures are drawn") == 2


def test_many_arms_are_spread_over_pages_without_losing_one() -> None:
    arms = [arm_json(f"test_s{i}", [[1.0]] * 5) for i in range(100)]
    run = read(run_json(arms))
    names = [
        label.get_text()
        for page in (1, 2, 3)
        for label in figure("strategies", run, page=page).axes[0].get_yticklabels()
    ]
    assert names == [f"s{i}" for i in range(100)]
    assert "(page 3 of 3)" in " ".join(words(figure("strategies", run, page=3)))


def test_a_run_without_times_gives_no_picture(tmp_path: Path) -> None:
    assert draw([read(run_json([]))], tmp_path, "x") == []


def test_drawing_leaves_matplotlibs_settings_and_pyplot_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw([read(run_json([arm_json("test_a", [[1.0]] * 5)]))], tmp_path, "x")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("size", [1e308, 10**400, float("nan"), float("inf")])
def test_batches_of_no_drawable_size_have_no_curve(size: float) -> None:
    arms = [
        arm_json(f"test_a[n={n}]", [[1.0]] * 5, axis="batch_size", params={"batch_size": n})
        for n in (1, size)
    ]
    assert [picture.kind for picture in plan([read(run_json(arms))])[0]] == ["strategies"]
