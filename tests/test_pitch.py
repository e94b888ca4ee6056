"""The judge of pitch: exact on tones whose f0 is known, and not fooled where YIN is."""

from __future__ import annotations

import librosa
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.partials import nominal_hz
from train.pitch import measure

FS = 48_000


def tone(
    f0_hz: float, amplitudes: list[float], seconds: float = 1.0, decay_per_s: float = 1.0
) -> npt.NDArray[np.float64]:
    t = np.arange(round(seconds * FS)) / FS
    partials = [
        a * np.sin(2 * np.pi * k * f0_hz * t + k * k)
        for k, a in enumerate(amplitudes, 1)
        if k * f0_hz < 20_000
    ]
    return 0.2 * np.sum(partials, axis=0) * np.exp(-decay_per_s * t)


SAW = [1 / k for k in range(1, 30)]
HOLLOW = [1 / k if k % 2 else 0.0 for k in range(1, 30)]
NO_FUNDAMENTAL = [0.0, 1.0, 0.7, 0.5, 0.3]


@settings(deadline=None, max_examples=30)
@given(
    pitch=st.integers(24, 96),
    off=st.floats(-45, 45),
    timbre=st.sampled_from([SAW, HOLLOW, NO_FUNDAMENTAL, [1.0]]),
)
def test_f0_is_right_within_a_tenth_of_a_cent(pitch: int, off: float, timbre: list[float]) -> None:
    found = measure(tone(nominal_hz(pitch + off / 100), timbre), FS, pitch)
    assert found.check == "ok"
    assert found.cents == pytest.approx(off, abs=0.1)
    assert found.f0_hz == pytest.approx(nominal_hz(pitch + off / 100), rel=1e-4)


@pytest.mark.parametrize("octaves", [-2, -1, 1, 2])
@pytest.mark.parametrize("pitch", [40, 60, 80])
def test_a_shift_by_octaves_is_found(pitch: int, octaves: int) -> None:
    found = measure(tone(nominal_hz(pitch + 12 * octaves), SAW), FS, pitch)
    assert found.check == "octave"
    assert found.cents == pytest.approx(1200 * octaves, abs=0.1)


@pytest.mark.parametrize("semitones", [-5, -0.8, 0.7, 4, 7])
def test_another_note_is_detuned(semitones: float) -> None:
    found = measure(tone(nominal_hz(60 + semitones), SAW), FS, 60)
    assert found.check == "detuned"
    assert found.cents == pytest.approx(100 * semitones, abs=0.1)


@pytest.mark.parametrize("wrong_by", [0.25, 0.5, 2.0, 3.0, 4.0])
def test_yin_may_err_by_octaves(monkeypatch: pytest.MonkeyPatch, wrong_by: float) -> None:
    monkeypatch.setattr(librosa, "yin", lambda y, **options: np.full(5, wrong_by * nominal_hz(60)))
    assert measure(tone(nominal_hz(60), SAW), FS, 60).check == "ok"


def test_a_stop_an_octave_under_the_key_is_heard() -> None:
    # A rock organ: the sub-octave 6 dB under the key's own series is what the partials must be counted from.
    sound = tone(nominal_hz(60), [1.0, 0.5, 0.3]) + 0.5 * tone(nominal_hz(48), [1.0, 0.0, 0.4])
    assert measure(sound, FS, 60).check == "octave"


def test_vibrato_counts_with_its_middle() -> None:
    t = np.arange(FS) / FS
    for cents in (10, 30):
        swing = nominal_hz(60) * 2 ** (cents * np.sin(2 * np.pi * 5 * t) / 1200)
        found = measure(0.3 * np.sin(2 * np.pi * np.cumsum(swing) / FS), FS, 60)
        assert found.check == "ok"
        assert abs(found.cents or 99) < 0.2 * cents


def test_noise_bells_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(1).standard_normal(FS) * 0.1
    t = np.arange(FS) / FS
    bell = 0.2 * np.sum([np.sin(2 * np.pi * f * t) for f in (211.0, 347.0, 501.0, 803.0, 1129.0)], axis=0)
    click = np.r_[1.0, np.zeros(FS)]
    for sound, check in [
        (noise, "unpitched"),
        (bell, "unpitched"),
        (click, "unpitched"),
        (np.zeros(FS), "silent"),
    ]:
        found = measure(sound, FS, 60)
        assert (found.check, found.f0_hz, found.cents) == (check, None, None)
    assert measure(np.zeros(0), FS, 60).check == "silent"
    assert measure(noise * 1e-4, FS, 60).check == "silent"


@pytest.mark.parametrize("seconds", [0.06, 0.15, 0.3])
def test_a_short_note_is_enough(seconds: float) -> None:
    found = measure(tone(nominal_hz(60), SAW, seconds), FS, 60)
    assert found.check == "ok"
    assert abs(found.cents or 99) < 5


def test_a_plucked_note_in_noise() -> None:
    noise = np.random.default_rng(2).standard_normal(FS) * 1e-3
    found = measure(tone(nominal_hz(72), SAW, 1.0, decay_per_s=12.0) + noise, FS, 72)
    assert found.check == "ok"
    assert abs(found.cents or 99) < 2


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 127), st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_any_sound_at_any_key_gets_an_answer(pitch: int, samples: int, seed: int) -> None:
    found = measure(np.random.default_rng(seed).uniform(-1, 1, samples), FS, pitch)
    assert (found.f0_hz is None) == (found.check in {"silent", "unpitched"})
