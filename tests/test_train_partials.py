"""The forward grid: known spectra come out as they went in, and forward and inverse agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.partials import Partials, decode, sounding_rows
from device.voices import VoiceBank
from train.partials import encode, synthesize

GRID = Partials(rows=80, frames=128, frame_rate_hz=125.0, floor_db=-100.0, limit_hz=16_000.0)
RATE_HZ = 48_000
SECONDS = np.arange(int(1.1 * RATE_HZ)) / RATE_HZ


def harmonic(f0_hz: float, slope_db: float, decay_db_per_s: float, partials: int) -> np.ndarray:
    audio = np.zeros_like(SECONDS)
    for k in range(1, partials + 1):
        if k * f0_hz < 16_000:
            level_db = -slope_db * np.log2(k) - decay_db_per_s * SECONDS
            audio += 10 ** (level_db / 20) * np.sin(2 * np.pi * k * f0_hz * SECONDS + k * k)
    return audio.astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(st.floats(65.0, 1100.0), st.floats(3.0, 12.0), st.floats(0.0, 30.0), st.floats(-30.0, 30.0))
def test_levels_and_pitch_of_a_known_note(f0_hz: float, slope_db: float, decay: float, cents: float) -> None:
    # The claimed fundamental is off by some cents: the grid tunes itself to the note.
    encoded = encode(harmonic(f0_hz, slope_db, decay, 10), RATE_HZ, f0_hz * 2 ** (cents / 1200), GRID)
    rows = min(10, sounding_rows(f0_hz, GRID))
    # Only differences are known: the note is normalised by its loudest frame.
    level_db = GRID.floor_db * (1 - encoded[0, :rows, 10:120])
    wanted_db = -slope_db * np.log2(np.arange(1, rows + 1))[:, None] - decay * np.arange(10, 120) / 125
    difference = level_db - wanted_db
    assert np.ptp(difference) < 0.6
    assert np.abs(encoded[1, :rows, 10:120]).max() < 0.03


def test_the_loudest_frame_has_rms_one() -> None:
    encoded = encode(harmonic(220, 6, 20, 20), RATE_HZ, 220.0, GRID)
    level_db = GRID.floor_db * (1 - encoded[0])
    assert (10 ** (level_db / 10)).sum(axis=0).max() / 2 == pytest.approx(1.0, abs=1e-3)


def test_rows_above_the_limit_are_empty() -> None:
    encoded = encode(harmonic(1000, 3, 0, 15), RATE_HZ, 1000.0, GRID)
    assert not encoded[:, 16:].any()
    assert encoded[0, :15, 60].min() > 0.7


def test_half_rows_hold_what_lies_between_partials() -> None:
    halves = Partials(160, 128, 125.0, -100.0, 16_000.0, rows_a_partial=2)
    # An organ's drawbar an octave under the key, and a bell's partial at 2.5 f0, 10 and 20 dB under the first.
    plain = harmonic(220, 6, 0, 10)
    audio = plain + 10 ** (-10 / 20) * np.sin(2 * np.pi * 110 * SECONDS)
    audio += 10 ** (-20 / 20) * np.sin(2 * np.pi * 550 * SECONDS + 1)
    encoded = encode(audio.astype(np.float32), RATE_HZ, 220.0, halves)
    level_db = halves.floor_db * (1 - encoded[0, :, 20:110].astype(np.float64)).mean(axis=1)
    relative = level_db[:6] - level_db[1]
    assert relative[[0, 1, 3, 4, 5]] == pytest.approx([-10, 0, -6, -20, -6 * np.log2(3)], abs=0.7)
    assert relative[2] < -35  # nothing at 1.5 f0
    assert np.abs(encoded[1, [0, 1, 3, 4], 20:110]).max() < 0.05
    # Through the decoder and back to sound, by both twins.
    bank = VoiceBank(1, 160, 128, RATE_HZ, halves.frame_rate_hz)
    note = decode(encoded, halves)
    assert note.ratio[[0, 1, 3, 4], 60] == pytest.approx([0.5, 1, 2, 2.5], abs=0.01)
    bank.start(0, note, 220.0)
    played = np.zeros((RATE_HZ, 2), np.float32)
    bank.render(played)
    f0_hz = torch.tensor([220.0])
    twin = synthesize(torch.from_numpy(encoded)[None], f0_hz, halves, RATE_HZ)[0].numpy()
    for made in (played[:, 0], twin):
        power = np.abs(np.fft.rfft(made[9600 : 9600 + 24_000] * np.hanning(24_000)))  # 2 Hz a bin
        found_db = [
            20 * np.log10(power[hz // 2 - 2 : hz // 2 + 3].max() / power[108:113].max()) for hz in (110, 550)
        ]
        assert found_db == pytest.approx([-10, -20], abs=1.0)
    # Without half rows neither is anywhere.
    whole = decode(encode(audio.astype(np.float32), RATE_HZ, 220.0, GRID), GRID)
    assert whole.ratio[:, 60].min() > 0.6


def test_the_sign_of_a_deviation() -> None:
    # One partial a tenth of f0 above its place, among others in place.
    audio = harmonic(300, 3, 0, 6) + 0.3 * np.sin(2 * np.pi * 9.1 * 300 * SECONDS).astype(np.float32)
    encoded = encode(audio, RATE_HZ, 300.0, GRID)
    assert np.median(encoded[1, 8]) == pytest.approx(0.2, abs=0.01)


def test_synthesis_here_and_on_the_device_make_the_same_note() -> None:
    f0_hz = 196.0
    encoded = encode(harmonic(f0_hz, 5, 12, 30), RATE_HZ, f0_hz, GRID)
    here = synthesize(torch.from_numpy(encoded)[None], torch.tensor([f0_hz]), GRID, RATE_HZ)[0].numpy()
    bank = VoiceBank(1, GRID.rows, GRID.frames, RATE_HZ, GRID.frame_rate_hz, GRID.limit_hz)
    bank.start(0, decode(encoded, GRID), f0_hz)
    there = np.zeros((len(here), 2), np.float32)
    bank.render(there)
    mono = there[:, 0] * np.sqrt(2)
    # Start phases differ, so the two are compared on the grid; the last frames differ by the device's loop.
    one, other = (encode(audio.astype(np.float32), RATE_HZ, f0_hz, GRID) for audio in (here, mono))
    assert np.abs(one[0, :30, 4:120] - other[0, :30, 4:120]).max() < 0.01  # 1 dB
    assert np.abs(one[1, :10, 4:120] - other[1, :10, 4:120]).max() < 0.03


def test_gradients_flow_through_synthesis() -> None:
    frames = torch.full((1, 2, 8, 32), 0.8).requires_grad_()
    grid = Partials(rows=8, frames=32, frame_rate_hz=125.0, floor_db=-100.0, limit_hz=16_000.0)
    synthesize(frames, torch.tensor([220.0]), grid, 16_000).square().mean().backward()  # type: ignore[no-untyped-call]
    assert frames.grad is not None
    assert torch.isfinite(frames.grad).all()
    assert frames.grad.abs().sum() > 0


@pytest.mark.data
def test_real_notes_survive_the_grid(darkrack_data: Path) -> None:
    audio, rate_hz = soundfile.read(darkrack_data / "nsynth60" / "nsynth60.flac", dtype="float32")
    for note in range(0, 60, 12):
        original = audio[note * 64_000 : note * 64_000 + int(1.1 * rate_hz)]
        encoded = encode(original, rate_hz, 261.63, GRID)
        assert np.isfinite(encoded).all()
        loud = encoded[0, : sounding_rows(261.63, GRID)].max(axis=0)
        assert loud.max() > 0.9
        rebuilt = synthesize(torch.from_numpy(encoded)[None], torch.tensor([261.63]), GRID, rate_hz)[
            0
        ].numpy()
        again = encode(rebuilt.astype(np.float32), rate_hz, 261.63, GRID)
        # Two analyses in a row smear twice; what is loud must stay where it was.
        strong = encoded[0, :20, 8:110] > 0.75
        assert np.median(np.abs(again[0, :20, 8:110] - encoded[0, :20, 8:110])[strong]) < 0.03


def test_bad_audio_is_refused() -> None:
    with pytest.raises(DarkrackError, match="finite"):
        encode(np.array([0.0, np.nan] * 9000, np.float32), RATE_HZ, 220.0, GRID)
    with pytest.raises(DarkrackError, match="silence"):
        encode(np.zeros(48_000, np.float32), RATE_HZ, 220.0, GRID)


def test_what_lies_over_half_the_rate_is_silent() -> None:
    """A 16 kHz note on a grid that goes to 16 kHz: its upper rows would hold mirror images of the lower ones."""
    grid = Partials(rows=80, frames=64)
    f0_hz, rate_hz = 200.0, 16_000
    seconds = np.arange(rate_hz) / rate_hz
    note = sum(np.sin(2 * np.pi * k * f0_hz * seconds + k) / k for k in range(1, 40))
    level = encode(np.asarray(note, np.float32), rate_hz, f0_hz, grid)[0]
    highest = int(0.45 * rate_hz / f0_hz)
    assert (level[:highest].max(axis=1) > 0.3).all()
    assert not level[highest:].any()
