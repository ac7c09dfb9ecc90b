"""The laws of scaling, against worked examples and against each other."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_speedup.scaling import amdahl_fit, amdahl_speedup, efficiency, karp_flatt

WORKERS = (1, 2, 4, 8)


def amdahl_times(serial_fraction, workers=WORKERS, passes=5, noise=0.0):
    rng = np.random.default_rng(7)
    speed = np.linspace(1, 1.3, passes)
    return {
        p: (
            speed / amdahl_speedup(serial_fraction, p) * np.exp(noise * rng.normal(size=passes))
        ).tolist()
        for p in workers
    }


def test_ideal_speedup_has_full_efficiency_and_no_serial_part():
    assert efficiency(8, 8) == 1
    assert karp_flatt(8, 8) == 0


def test_no_speedup_is_all_serial():
    assert karp_flatt(1, 4) == 1
    assert efficiency(1, 4) == 0.25


def test_superlinear_speedup_has_a_negative_serial_part():
    assert karp_flatt(5, 4) < 0


@pytest.mark.parametrize("workers", [1, 0])
def test_karp_flatt_needs_two_workers(workers):
    with pytest.raises(ValueError, match="two or more workers"):
        karp_flatt(1, workers)


def test_amdahl_gives_the_textbook_speedups():
    assert amdahl_speedup(0.05, 20) == pytest.approx(10.256, abs=1e-3)
    assert amdahl_speedup(0.5, 10**9) == pytest.approx(2)
    assert amdahl_speedup(0.3, 1) == 1


@pytest.mark.parametrize("serial_fraction", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("workers", [2, 3, 64])
def test_karp_flatt_undoes_amdahl(serial_fraction, workers):
    speedup = amdahl_speedup(serial_fraction, workers)
    assert karp_flatt(speedup, workers) == pytest.approx(serial_fraction)


@pytest.mark.parametrize("serial_fraction", [0.0, 0.1, 0.5])
def test_fit_recovers_the_fraction_from_a_drifting_machine(serial_fraction):
    fit = amdahl_fit(amdahl_times(serial_fraction))
    assert fit.value == pytest.approx(serial_fraction, abs=1e-12)
    assert fit.n == 5


@pytest.mark.parametrize("serial_fraction", [0.0, 0.1, 0.5])
def test_fit_from_noisy_times_is_close_and_has_an_interval(serial_fraction):
    fit = amdahl_fit(amdahl_times(serial_fraction, noise=0.01))
    assert fit.value == pytest.approx(serial_fraction, abs=0.02)
    assert fit.low < fit.value < fit.high


def test_fit_is_the_least_squares_slope():
    times = {1: [1.0], 2: [0.7], 8: [0.2]}
    x = np.array([1 - 1 / p for p in times])
    y = np.array([seconds[0] - 1 / p for p, seconds in times.items()])
    (slope,) = np.linalg.lstsq(x[:, None], y, rcond=None)[0]
    assert amdahl_fit(times).value == pytest.approx(slope)


def test_two_points_are_no_fit():
    assert amdahl_fit(amdahl_times(0.1, workers=(1, 2))) is None


def test_points_without_one_worker_are_no_fit():
    assert amdahl_fit(amdahl_times(0.1, workers=(2, 4, 8))) is None


def test_fit_takes_the_passes_that_all_points_have():
    times = amdahl_times(0.1)
    del times[4][2:]
    assert amdahl_fit(times).n == 2
    assert amdahl_fit(times | {4: []}) is None
