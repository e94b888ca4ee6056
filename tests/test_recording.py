"""What a recording sounds like: checked on sounds whose level, clicks, pitch and brightness are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.recording import NOTHING_DBFS, centroid_hz, clicks, level, pitch_cents

RATE_HZ = 48_000


def tone(frequency_hz: float, seconds: float, amplitude: float = 0.5) -> np.ndarray:
    """A sine that fades in and out over 20 ms."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    fade = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(t, t[-1] - t) / 0.02, 0, 1))
    return (amplitude * fade * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)


def test_level_of_a_full_scale_sine() -> None:
    t = np.arange(RATE_HZ)
    measured = level(np.sin(2 * np.pi * 1000 * t / RATE_HZ))
    assert measured.peak_dbfs == pytest.approx(0, abs=0.01)
    assert measured.rms_dbfs == pytest.approx(-3.01, abs=0.01)


def test_level_looks_at_all_channels() -> None:
    measured = level(np.array([[0.0, 0.5], [0.0, 0.0]], np.float32))
    assert measured.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert measured.rms_dbfs == pytest.approx(-12.04, abs=0.01)


@pytest.mark.parametrize("silence", [np.zeros(100, np.float32), np.zeros((0, 2), np.float32)])
def test_level_of_silence_is_finite(silence: np.ndarray) -> None:
    assert level(silence).peak_dbfs == level(silence).rms_dbfs == NOTHING_DBFS


@settings(deadline=None, max_examples=25)
@given(at=st.integers(RATE_HZ // 10, RATE_HZ * 9 // 10), stereo=st.booleans())
def test_planted_click_is_found_where_it_was_planted(at: int, stereo: bool) -> None:
    audio = tone(440, 1.0)
    audio[at] += 0.02
    if stereo:
        audio = np.stack([tone(440, 1.0), audio], axis=1)
    found = clicks(audio, RATE_HZ, 5000)
    assert found
    assert all(abs(when - at / RATE_HZ) < 0.002 for when in found)


def test_a_step_is_a_click() -> None:
    audio = tone(440, 1.0)
    audio[: RATE_HZ // 2 + 27] = 0  # 440 * 24027 / 48000 turns: a quarter past a zero
    assert clicks(audio, RATE_HZ, 5000)


def test_sound_without_clicks_has_none() -> None:
    assert clicks(tone(440, 1.0), RATE_HZ, 440) == []
    assert clicks(np.zeros(RATE_HZ, np.float32), RATE_HZ, 440) == []
    assert clicks(np.zeros((0, 2), np.float32), RATE_HZ, 440) == []
    assert clicks(np.full(100, 1e-4), RATE_HZ, 440) == []


def test_full_scale_partials_up_to_the_highest_are_no_click() -> None:
    audio = np.concatenate([np.zeros(RATE_HZ // 2, np.float32), tone(16_000, 0.5, 1.0)])
    assert clicks(audio, RATE_HZ, 16_000) == []


def test_rounding_to_16_bits_after_silence_is_no_click() -> None:
    audio = np.concatenate([np.zeros(RATE_HZ // 2), tone(440, 0.5, 0.01)])
    assert clicks(np.round(audio * 32767) / 32767, RATE_HZ, 5000) == []


def test_steady_noise_hides_what_is_20_db_over_less() -> None:
    rng = np.random.default_rng(1)
    audio = tone(440, 1.0) + 0.001 * rng.standard_normal(RATE_HZ)
    assert clicks(audio, RATE_HZ, 5000) == []
    audio[RATE_HZ // 2] += 0.2  # 0.2^2 / 48 samples is 29 dB over 0.001^2
    assert clicks(audio, RATE_HZ, 5000)


def test_no_band_above_the_highest_partial_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no band"):
        clicks(tone(440, 0.1), RATE_HZ, 23_000)


@settings(deadline=None, max_examples=25)
@given(nominal_hz=st.floats(40, 2000), cents=st.floats(-60, 60))
def test_pitch_of_a_harmonic_note(nominal_hz: float, cents: float) -> None:
    f0_hz = nominal_hz * 2 ** (cents / 1200)
    audio = np.sum([tone(k * f0_hz, 1.5, 0.3 / k) for k in range(1, 11) if k * f0_hz < 20_000], axis=0)
    assert pitch_cents(audio, RATE_HZ, nominal_hz) == pytest.approx(cents, abs=0.3)


def test_pitch_under_vibrato_is_its_middle() -> None:
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    phase = 2 * np.pi * (440 * t - 440 * 0.01 / (2 * np.pi * 6) * np.cos(2 * np.pi * 6 * t))
    assert pitch_cents(np.sin(phase), RATE_HZ, 440) == pytest.approx(0, abs=0.5)


def test_pitch_of_silence_is_nan() -> None:
    assert math.isnan(pitch_cents(np.zeros(RATE_HZ), RATE_HZ, 440))


def test_centroid_of_a_tone_and_of_two() -> None:
    assert centroid_hz(tone(1000, 1.0), RATE_HZ) == pytest.approx(1000, rel=0.01)
    two = tone(1000, 1.0, 0.2) + tone(3000, 1.0, 0.2)
    assert centroid_hz(two, RATE_HZ) == pytest.approx(2000, rel=0.01)


def test_centroid_does_not_depend_on_level() -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(RATE_HZ)
    assert centroid_hz(noise * 1e-4, RATE_HZ) == pytest.approx(centroid_hz(noise, RATE_HZ), rel=1e-9)
    assert math.isnan(centroid_hz(np.zeros(RATE_HZ), RATE_HZ))
