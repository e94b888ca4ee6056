"""Proof: distances are what they say, and a hop that loses something is caught by the figure it shows in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.prove import Hop, compare, hold, log_spectral_distance_db
from device.errors import DarkrackError
from device.generator import snr_db
from device.partials import Partials

GRID = Partials(24, 64)
RATE_HZ = 48_000


def notes(count: int = 3) -> np.ndarray:
    """Organ-like frames: levels fall with the row, the pitch is steady."""
    level = np.clip(0.95 - 0.02 * np.arange(24), 0, 1)[None, :, None] * np.ones((count, 1, 64))
    return np.stack([level, np.zeros_like(level)], axis=1).astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(gain_db=st.floats(-30, 30), seed=st.integers(0, 100))
def test_log_spectral_distance_of_a_gain_is_the_gain(gain_db: float, seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(24_000)
    louder = noise * 10 ** (gain_db / 20)
    distance = log_spectral_distance_db(noise, louder)
    assert distance == pytest.approx(abs(gain_db), rel=0.02, abs=1e-9)
    assert log_spectral_distance_db(louder, noise) == pytest.approx(distance)


def test_log_spectral_distance_of_nothing_is_none() -> None:
    silence, tone = np.zeros(4800), np.sin(np.arange(4800) * 0.1)
    assert log_spectral_distance_db(silence, silence) == 0
    assert log_spectral_distance_db(tone, tone) == 0
    assert log_spectral_distance_db(tone, silence) > 10
    # What lies 80 dB under the rest is not heard.
    assert log_spectral_distance_db(tone, tone + 1e-7 * np.random.default_rng(0).standard_normal(4800)) < 0.01


def test_equal_frames_are_equal_in_everything() -> None:
    assert compare(notes(), notes(), [48, 60, 61.5], GRID) == Hop(200.0, 0.0, 0.0)


def test_what_is_lost_shows_where_it_is_heard() -> None:
    dull = notes()
    dull[:, 0, 8:] -= 0.1  # 10 dB
    dull_hop = compare(notes(), dull, [48, 60, 61.5], GRID)
    assert dull_hop.lsd_db > 3
    assert dull_hop.cents < 0.1
    wavering = notes()
    wavering[:, 1, 0] += 0.02  # one row strays from the others: 17 cents of half a band
    off = compare(notes(), wavering, [48, 60, 61.5], GRID)
    assert off.cents > 0.1
    assert snr_db(notes(), notes() * 1.01) == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize(
    ("hop", "message"),
    [
        (Hop(10, 0, 0), "at least 20 dB of signal to noise against torch, got 10"),
        (Hop(30, 5, 0), "at most 1 dB of log-spectral distance against torch, got 5"),
        (Hop(30, 0, 5), "at most 1 cents against torch, got 5"),
        (Hop(float("nan"), 0, 0), "got nan"),
    ],
)
def test_a_hop_that_misses_its_margin_is_named(hop: Hop, message: str) -> None:
    margins = {"int8": Hop(20, 1, 1), "float": Hop(80, 0.1, 0.1)}
    hold("x.rack", {"torch-int8": Hop(30, 0.5, 0.5), "torch-float": Hop(90, 0, float("nan"))}, margins)
    with pytest.raises(DarkrackError, match=f"x.rack: torch-int8: expected .*{message}"):
        hold("x.rack", {"torch-int8": hop}, margins)
