"""Samples at any pitch: measured against the sine that they are samples of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.samples import HALF, read_samples

Array = np.ndarray


def sine(hz: float, rate_hz: float, samples: int) -> Array:
    return np.sin(2 * np.pi * hz * np.arange(samples) / rate_hz).astype(np.float32)


def read(
    table: Array, step: float, count: int, at: float = 0.0, loop: tuple[float, float] | None = None
) -> Array:
    """Steady, in segments of 64 as a voice does."""
    begin, end = loop or (float(len(table)), float(len(table)))
    out = np.zeros(count, np.float32)
    for first in range(0, count, 64):
        at = read_samples(table, len(table), begin, end, at, step, 0.0, out[first : first + 64])
    return out


def snr_db(found: Array, wanted: Array) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((found - wanted) ** 2)))


@pytest.mark.parametrize("hz", [100.0, 440.0, 3000.0, 6500.0])
@pytest.mark.parametrize("ratio", [0.5, 0.943874, 1.0, 1.0594631, 1.99])
def test_a_sine_at_another_pitch_is_that_sine(hz: float, ratio: float) -> None:
    table = sine(hz, 16_000, 16_000)
    found = read(table, ratio / 3, 12_000, at=100.0)
    wanted = np.sin(2 * np.pi * hz * (100 + np.arange(12_000) * ratio / 3) / 16_000)
    assert snr_db(found, wanted) > 80


@pytest.mark.parametrize("step", [1.1, 1.3, 1.59, 2.2, 3.6])
def test_what_the_output_cannot_hold_is_left_out_not_folded(step: float) -> None:
    """At a tenth of the output's band a sine is as loud as it was; one over the band is gone."""
    inside = read(sine(0.1 / step * 8000, 16_000, 40_000), step, 9_000, at=50.0)
    assert 20 * np.log10(np.abs(inside[2000:8000]).max()) == pytest.approx(0.0, abs=0.3)
    above = min(1.0 / step + 0.13, 0.99) * 8000  # Hz in the table, over half of the output's rate
    outside = read(sine(above, 16_000, 40_000), step, 9_000, at=50.0)
    assert above * step > 8000
    assert 20 * np.log10(np.abs(outside[2000:8000]).max()) < -75


def test_a_loop_of_whole_periods_is_read_without_a_seam() -> None:
    period = 16_000 / 261.6256
    width = 40 * period  # not a whole number of samples
    table = sine(261.6256, 16_000, 4000)
    found = read(table, 0.41, 48_000, loop=(1000.0, 1000.0 + width))
    wanted = np.sin(2 * np.pi * 261.6256 * np.arange(48_000) * 0.41 / 16_000)
    assert snr_db(found[200:], wanted[200:]) > 75


def test_before_its_beginning_and_after_its_end_a_table_is_silent() -> None:
    table = np.ones(100, np.float32)
    found = read(table, 1.0, 400, at=-50.0)
    assert np.abs(found[: 50 - HALF]).max() == 0
    assert found[80:110] == pytest.approx(1.0, abs=1e-3)
    assert np.abs(found[150 + HALF :]).max() == 0


def test_a_glide_is_as_long_as_its_steps_add_up_to() -> None:
    table = sine(440.0, 16_000, 16_000)
    out = np.zeros(64, np.float32)
    at = read_samples(table, 16_000, 16_000.0, 16_000.0, 10.0, 0.3, 0.001, out)
    places = 10 + np.cumsum([0.0, *(0.3 + 0.001 * np.arange(63))])
    assert at == pytest.approx(10 + sum(0.3 + 0.001 * np.arange(64)))
    assert (
        snr_db(out, np.sin(2 * np.pi * 440 * places / 16_000)) > 50
    )  # the first taps lie before the beginning


@given(st.floats(-1e4, 1e5), st.floats(0.001, 50), st.floats(0, 900), st.floats(1, 900), st.integers(1, 200))
def test_nothing_is_read_from_outside_the_table(
    at: float, step: float, start: float, width: float, samples: int
) -> None:
    """What lies around it in memory is infinite."""
    memory = np.full(3000, np.inf, np.float32)
    memory[1000:2000] = 0.5
    out = np.zeros(samples, np.float32)
    after = read_samples(memory[1000:2000], 1000, start, min(start + width, 1000.0), at, step, 0.0, out)
    assert np.isfinite(out).all()
    assert np.isfinite(after)
