"""The forward `stft` grid: what DarkGAN is trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.stft import FADED_SHARE, Stft, invert
from train.stft import LEAST_MAGNITUDE, encode, target

GRID = Stft()


def sine(hz: float, amplitude: float = 0.5, samples: int = GRID.samples) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(samples) / GRID.sample_rate_hz)


def test_the_grid_is_the_papers() -> None:
    assert (GRID.bins, GRID.frames, GRID.samples) == (1024, 32, 16_383)
    planes = encode(sine(440), GRID)
    assert planes.shape == (2, 1024, 32)
    assert planes.dtype == np.float32


@given(st.integers(20, 1000), st.floats(-0.4, 0.4), st.floats(0.01, 1.0))
@settings(max_examples=30)
def test_a_sine_stands_in_its_bin_with_its_level_and_frequency(
    place: int, off: float, amplitude: float
) -> None:
    hz = (place + off) * GRID.sample_rate_hz / GRID.fft_samples
    magnitude, frequency = encode(sine(hz, amplitude), GRID)
    row = place - 1  # bin 0 is left out
    middle = slice(4, 28)
    assert (magnitude[:, middle].argmax(axis=0) == row).all()
    # The window's sum is half its length, and half of a sine is at its negative frequency; up to 1.4 dB less between
    # bins.
    loudest = np.log(amplitude * GRID.fft_samples / 4)
    assert (magnitude[row, middle] <= loudest + 1e-3).all()
    assert (magnitude[row, middle] > loudest - 0.2).all()
    turns = hz * GRID.hop_samples / GRID.sample_rate_hz
    wanted = 2 * np.pi * (turns - round(turns))
    apart = np.angle(np.exp(1j * (frequency[row, middle] - wanted)))
    assert np.abs(apart).max() < 1e-2
    assert np.abs(frequency[:, 1:]).max() <= np.pi + 1e-6


def test_silence_is_the_least_magnitude() -> None:
    magnitude, frequency = encode(np.zeros(100), GRID)
    assert magnitude == pytest.approx(np.log(LEAST_MAGNITUDE))
    assert (frequency == 0).all()


def test_what_is_missing_is_silence_and_what_is_over_is_left() -> None:
    short = sine(440, samples=8000)
    np.testing.assert_array_equal(encode(short, GRID), encode(np.concatenate([short, np.zeros(9000)]), GRID))
    long = sine(440, samples=30_000)
    np.testing.assert_array_equal(encode(long, GRID), encode(long[: GRID.samples], GRID))


def test_a_target_ends_in_the_papers_fade() -> None:
    """The note as it was for 70 %, then along the released code's curve to nothing."""
    whole = sine(440)
    faded = invert(target(whole, GRID), GRID)
    begin = round((1 - FADED_SHARE) * GRID.samples)
    assert faded[2000 : begin - 10] == pytest.approx(whole[2000 : begin - 10], abs=2e-3)
    way = np.arange(GRID.samples - begin) / (GRID.samples - begin - 1)
    curve = (10 ** (1 - way) - 1) / 9
    assert faded[begin:] == pytest.approx(whole[begin:] * curve, abs=5e-3)
    assert np.abs(faded[-50:]).max() < 1e-2


def test_a_target_does_not_change_what_it_was_given() -> None:
    whole = sine(440)
    before = whole.copy()
    target(whole, GRID)
    np.testing.assert_array_equal(whole, before)


@pytest.mark.parametrize(
    ("audio", "got"),
    [
        (np.zeros((100, 2)), r"shape \(100, 2\)"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([np.inf]), "NaN"),
    ],
)
def test_what_is_no_note_is_refused(audio: np.ndarray, got: str) -> None:
    with pytest.raises(DarkrackError, match=rf"expected finite samples \(n,\), got {got}"):
        encode(audio, GRID)
