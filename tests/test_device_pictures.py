"""The picture of several devices, read back from matplotlib's figure."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pytest_speedup.analysis import Analysis, analyse
from pytest_speedup.comparison import compare
from pytest_speedup.device_pictures import device_pictures
from pytest_speedup.reading import read_run, run_from_json
from pytest_speedup.sheet import style
from tests.device_runs import EPYC_START, XEON, XEON_START, made_up_cuda, made_up_metal

H200, M2 = "NVIDIA H200 (made up)", "Apple M2 GPU (made up)"


def read(saved: dict[str, Any], source: str) -> Analysis:
    return analyse(run_from_json(saved, source))


@pytest.fixture(scope="module")
def three() -> list[Analysis]:
    gpus = read(made_up_cuda(), "made_up_cuda.json"), read(made_up_metal(), "made_up_metal.json")
    return [analyse(read_run(XEON)), *gpus]


def figures(analyses: Sequence[Analysis], **given: Any) -> list[Figure]:
    compared = compare(analyses, **given)
    assert compared is not None
    drawn = []
    with style():
        for picture in device_pictures(compared):
            drawn.append(picture.figure([]))
            drawn[-1].draw_without_rendering()
    return drawn


def words(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.findobj(Text) if text.get_text()]


def test_ten_cases_of_three_machines_fit_on_one_page(three: list[Analysis]) -> None:
    (drawn,) = figures(three)
    (ax,) = drawn.axes
    assert ax.get_xscale() == "log"
    assert len(ax.patches) == 30
    assert [label.get_text() for label in ax.get_yticklabels()][:3] == [
        *("winograd threads=2", "cuda", "metal")
    ]


def test_a_bar_ends_at_its_time_and_tells_the_share_of_its_own_peak(three: list[Analysis]) -> None:
    (drawn,) = figures(three)
    comparison = compare(three)
    assert comparison is not None
    rows = [e[0].row for case in comparison.cases for e in case.entries.values()]
    patches = drawn.axes[0].patches
    ends = [patch.get_x() + patch.get_width() for patch in patches]  # type: ignore[attr-defined]
    assert ends == pytest.approx([row.time.value for row in rows])
    told = [text for text in words(drawn) if "of peak" in text and text[0].isdigit()]
    shares = [f"{100 * row.share.value:.0f} % of peak" for row in rows if row.share]
    assert [share in text for share, text in zip(shares, told, strict=True)] == [True] * 27


def test_ratios_stand_apart_under_their_name_and_are_no_speedups(three: list[Analysis]) -> None:
    (drawn,) = figures(three)
    text = words(drawn)
    assert "device ratio" in text
    assert text.count("base") == 10
    assert any("so no parallel speedup" in line for line in text)
    assert any("Runs made apart" in line for line in text)


def test_a_device_without_a_case_has_a_dash_in_its_place(three: list[Analysis]) -> None:
    saved = made_up_metal()
    saved["benchmarks"] = saved["benchmarks"][1:]
    (drawn,) = figures([*three[:2], read(saved, "made_up_metal.json")])
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert labels[2] == "–"
    assert len(drawn.axes[0].patches) == 29


def test_colours_tell_devices_and_stand_above_with_their_names(three: list[Analysis]) -> None:
    (drawn,) = figures(three)
    assert {"■ Intel Xeon (2 CPUs)", f"■ {H200}", f"■ {M2}"} <= set(words(drawn))
    colours = [patch.get_facecolor() for patch in drawn.axes[0].patches]
    assert len(set(colours)) == 3
    assert colours[0::3] == [colours[0]] * 10


def test_many_implementations_are_spread_over_pages(three: list[Analysis]) -> None:
    drawn = figures(three, implementations=True)
    assert len(drawn) > 1
    assert any("page 2 of" in text for text in words(drawn[1]))
    assert sum(text == "base" for each in drawn for text in words(each)) == 10


@pytest.mark.parametrize("long", [False, True])
def test_no_words_leave_the_paper_or_touch(three: list[Analysis], long: bool) -> None:
    saved = made_up_cuda()
    if long:
        saved = copy.deepcopy(saved)
        name = "A GPU with a name that is longer than any " * 4
        saved["machine_info"]["speedup"]["devices"]["cuda:0"]["name"] = name
        for benchmark in saved["benchmarks"]:
            benchmark["extra_info"]["speedup"]["strategy"] += "_with_a_long_name" * 4
    (drawn,) = figures([three[0], read(saved, "made_up_cuda.json"), three[2]])
    taken, (width, height) = drawn.get_tightbbox(), drawn.get_size_inches()
    assert taken.x0 >= 0
    assert taken.y0 >= 0
    assert taken.x1 <= width
    assert taken.y1 <= height
    texts = [Text.get_window_extent(t) for t in drawn.axes[0].texts]
    touching = [
        (a, b)
        for i, a in enumerate(texts)
        for b in texts[i + 1 :]
        if a.shrunk(0.98, 0.7).overlaps(b)
    ]
    assert not touching


def test_an_axis_within_a_decade_has_ticks_too() -> None:
    (drawn,) = figures([analyse(read_run(file)) for file in (EPYC_START, XEON_START)])
    ticks = [label.get_text() for label in drawn.axes[0].get_xticklabels()]
    assert ticks[:2] == ["200 ms", "500 ms"]
    assert not any("of peak" in text for text in words(drawn))
