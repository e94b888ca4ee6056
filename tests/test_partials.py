"""Decoding of the generator's output: levels, tuning, loop and decay, refusal of what is not a number; loudness."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from device.errors import DarkrackError
from device.partials import (
    K_WEIGHTING,
    LOUDEST_DB,
    MOST_RAISED_DB,
    SILENCE_DB,
    NoteFrames,
    Partials,
    decode,
    loudness_db,
)

GRID = Partials()
SECONDS = np.arange(GRID.frames) / GRID.frame_rate_hz
K = np.arange(1.0, GRID.rows + 1)[:, None]


def output(level_db: np.ndarray, deviation: np.ndarray | float = 0.0) -> np.ndarray:
    """What the generator says for these levels (dB) and deviations (half bands)."""
    shape = (GRID.rows, GRID.frames)
    level = 1 - np.broadcast_to(level_db, shape) / GRID.floor_db
    return np.stack([level, np.broadcast_to(deviation, shape)]).astype(np.float32)


def gain_db(level_db: np.ndarray) -> float:
    """What brings the loudest frame of these levels to RMS 1, or MOST_RAISED_DB if that is less."""
    power = (10 ** (np.broadcast_to(level_db, (GRID.rows, GRID.frames)) / 10)).sum(axis=0) / 2
    return min(-10 * float(np.log10(power.max())), MOST_RAISED_DB)


def played_db(note: NoteFrames, seconds: float, grid: Partials = GRID) -> np.ndarray:
    """Level of every row after ``seconds``, as NoteFrames' docstring says it is played, on whole frames."""
    at = round(seconds * grid.frame_rate_hz)
    place = at
    if at > note.loop_end:
        length = note.loop_end - note.loop_start
        gone = (at - note.loop_start) % (2 * length)
        place = note.loop_start + min(gone, 2 * length - gone)
    in_loop_s = max(at - note.loop_start, 0) / grid.frame_rate_hz
    return note.level_db[:, place] + note.decay_db_per_s * in_loop_s


SAW_DB = -20 * np.log10(K)


def test_levels_and_ratios_of_a_plain_note() -> None:
    note = decode(output(SAW_DB), GRID)
    assert note.level_db.dtype == note.ratio.dtype == note.decay_db_per_s.dtype == np.float32
    assert note.level_db.shape == note.ratio.shape == (GRID.rows, GRID.frames)
    wanted_db = np.broadcast_to(SAW_DB + gain_db(SAW_DB), note.level_db.shape)
    np.testing.assert_allclose(note.level_db, wanted_db, atol=1e-4)
    assert (10 ** (note.level_db / 10)).sum(axis=0) / 2 == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(note.ratio, np.broadcast_to(K, note.ratio.shape), rtol=1e-6)
    assert not note.decay_db_per_s.any()
    assert 0 < note.loop_start < note.loop_end < GRID.frames


def test_a_leading_batch_axis_is_accepted() -> None:
    plain, batched = decode(output(SAW_DB), GRID), decode(output(SAW_DB)[None], GRID)
    np.testing.assert_array_equal(plain.level_db, batched.level_db)


def test_silence_and_overshoot() -> None:
    network = output(SAW_DB)
    network[0, 3] = 0.01
    network[0, 4] = -0.5
    network[0, 5] = 3.0
    network[1, 6] = 7.0
    note = decode(network, GRID)
    assert (note.level_db[3] == SILENCE_DB).all()
    assert (note.level_db[4] == SILENCE_DB).all()
    # Overshoot is cut to LOUDEST_DB, and then all of it brought to RMS 1.
    level = np.array(SAW_DB).reshape(GRID.rows, -1)[:, :1].copy()
    level[3], level[4], level[5] = SILENCE_DB, SILENCE_DB, LOUDEST_DB
    assert note.level_db[5] == pytest.approx(LOUDEST_DB + gain_db(level), abs=1e-4)
    assert abs(note.ratio[6] - 7).max() < 0.6


@pytest.mark.parametrize("shape", [(2, 80, 127), (80, 128), (2, 2, 80, 128), (0,)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DarkrackError, match=r"bundle output 'frames': expected shape \(2, 80, 128\)"):
        decode(np.zeros(shape, np.float32), GRID)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("plane", "name"), [(0, "level"), (1, "deviation")])
def test_what_is_not_finite_is_refused_and_located(value: float, plane: int, name: str) -> None:
    network = output(SAW_DB)
    network[plane, 7, 9] = value
    with pytest.raises(DarkrackError, match=rf"'frames': expected finite {name}, got .* in row 7, frame 9"):
        decode(network, GRID)


@settings(deadline=None)
@given(detune=st.floats(-0.03, 0.03), vibrato=st.floats(0, 0.005))
def test_detune_is_taken_out_and_vibrato_stays(detune: float, vibrato: float) -> None:
    frequency = (1 + detune) * (1 + vibrato * np.sin(2 * np.pi * 5 * SECONDS))
    note = decode(output(SAW_DB, np.clip(2 * K * (frequency - 1), -1, 1)), GRID)
    low = note.ratio[:8, note.loop_start :] / K[:8]
    assert abs(1200 * np.log2(low.mean())) < 1
    assert np.ptp(low) == pytest.approx(2 * vibrato, abs=1e-3)


def test_a_stretched_string_keeps_its_stretch() -> None:
    inharmonicity = 1e-4
    stretch = np.sqrt(1 + inharmonicity * K**2)
    note = decode(output(SAW_DB, np.clip(2 * K * (stretch - 1), -1, 1)), GRID)
    given, low = note.ratio[:12, 0] / K[:12, 0], stretch[:12, 0]
    np.testing.assert_allclose(given / given[0], low / low[0], rtol=1e-5)
    assert abs(1200 * np.log2(given[0])) < 2


def test_low_rows_that_stray_are_brought_back_and_a_bells_are_not() -> None:
    cents = np.zeros((GRID.rows, 1))
    cents[:4, 0] = 0, 15, -15, 70
    level = np.where(K <= 3, -10, -25) - 20 * (K > 4)
    note = decode(output(level, 2 * K * (2 ** (cents / 1200) - 1) + 0 * SECONDS), GRID)
    got = 1200 * np.log2(note.ratio[:4, 60] / K[:4, 0])
    assert abs(got[:3]).max() < 3.1
    assert got[3] == pytest.approx(70, abs=10)


def test_a_swell_is_looped_where_it_has_arrived() -> None:
    swell_s = 0.6
    note = decode(output(SAW_DB - 30 * np.maximum(1 - SECONDS / swell_s, 0)), GRID)
    assert note.loop_start / GRID.frame_rate_hz > swell_s - 0.1
    assert note.level_db[0, note.loop_start : note.loop_end].min() > -3
    assert not note.decay_db_per_s.any()


def test_an_accent_is_not_a_decay_nor_is_half_a_tremolo() -> None:
    accent = decode(output(SAW_DB - 6 * np.minimum(SECONDS / 0.3, 1)), GRID)
    assert not accent.decay_db_per_s.any()
    tremolo = decode(output(SAW_DB - 6 + 3 * np.sin(2 * np.pi * (SECONDS - 0.25))), GRID)
    assert not tremolo.decay_db_per_s.any()


def test_weak_rows_do_not_make_the_pitch() -> None:
    deviation = np.zeros((GRID.rows, GRID.frames))
    deviation[4:] = 0.9
    note = decode(output(np.where(K <= 4, 0, -45), deviation), GRID)
    assert abs(1200 * np.log2(note.ratio[0].mean())) < 0.1


@settings(deadline=None, max_examples=30)
@given(slope=st.floats(-60, -4))
def test_a_decaying_note_keeps_its_slope(slope: float) -> None:
    per_row = slope * (1 + 0.004 * K)
    note = decode(output(np.maximum(SAW_DB + per_row * SECONDS, -98)), GRID)
    first = played_db(note, 0.0)[:4]
    for seconds in (0.2, 0.8, 1.5, 5.0):
        np.testing.assert_allclose(played_db(note, seconds)[:4], first + per_row[:4, 0] * seconds, atol=0.3)


def test_a_row_that_came_out_flat_does_not_ring_on() -> None:
    level = np.broadcast_to(SAW_DB, (GRID.rows, GRID.frames)) - 20 * SECONDS
    level[5] = -40
    note = decode(output(level), GRID)
    assert note.decay_db_per_s[5] <= -9
    assert (note.decay_db_per_s <= 0).all()


def test_the_noise_left_by_a_struck_note_dies_too() -> None:
    level = np.maximum(SAW_DB - 200 * SECONDS, -75)
    note = decode(output(level), GRID)
    assert (note.decay_db_per_s < -15).all()
    assert played_db(note, 3.0).max() < -100


@settings(deadline=None, max_examples=30)
@given(slope=st.floats(-2.5, 20), tremolo_db=st.floats(0, 3))
def test_a_sustained_note_stays(slope: float, tremolo_db: float) -> None:
    level = SAW_DB - 20 + slope * SECONDS + tremolo_db * np.sin(2 * np.pi * 6 * SECONDS)
    note = decode(output(level), GRID)
    assert not note.decay_db_per_s.any()
    held = [played_db(note, seconds)[0] for seconds in np.arange(1.1, 10, 1 / GRID.frame_rate_hz)]
    assert np.ptp(held) < 2 * tremolo_db + 1
    natural = level[0, note.loop_start : note.loop_end + 1].mean() + gain_db(level)
    assert np.mean(held) == pytest.approx(natural, abs=0.5)


def test_silence_decodes_to_silence() -> None:
    note = decode(np.zeros((2, GRID.rows, GRID.frames), np.float32), GRID)
    assert (note.level_db == SILENCE_DB).all()
    assert np.isfinite(note.ratio).all()
    assert not note.decay_db_per_s.any()


@settings(deadline=None)
@given(
    rows=st.integers(1, 6),
    frames=st.integers(1, 9),
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.1, 1, 1e6]),
)
def test_anything_finite_decodes_to_something_that_can_be_played(
    rows: int, frames: int, seed: int, scale: float
) -> None:
    network = np.random.default_rng(seed).normal(0.5, scale, (2, rows, frames)).astype(np.float32)
    note = decode(network, Partials(rows=rows, frames=frames))
    assert np.isfinite(note.level_db).all()
    assert np.isfinite(note.ratio).all()
    assert (note.ratio > 0).all()
    assert (note.decay_db_per_s <= 0).all()
    assert 0 <= note.loop_start <= note.loop_end < frames


def rendered(note: NoteFrames, f0_hz: float, rate_hz: float = 48_000.0) -> np.ndarray:
    """A note's frames as audio, once through: amplitude and frequency on straight lines between frames."""
    at_s = np.arange(int(SECONDS[-1] * rate_hz)) / rate_hz
    audio = np.zeros(len(at_s))
    for row, (level_db, ratio) in enumerate(zip(note.level_db, note.ratio, strict=True)):
        amplitude = np.interp(at_s, SECONDS, 10 ** (level_db / 20))
        frequency_hz = np.interp(at_s, SECONDS, ratio * f0_hz)
        amplitude[frequency_hz > 0.45 * rate_hz] = 0
        audio += amplitude * np.sin(2 * np.pi * (np.cumsum(frequency_hz) / rate_hz + 0.618 * row * row))
    return audio


def loudest_db(audio: np.ndarray, rate_hz: float = 48_000.0) -> float:
    """ITU-R BS.1770: two filters and the mean square, here of the loudest of blocks of 100 ms."""
    for above, below in K_WEIGHTING:
        audio = lfilter(above, below, audio)
    block = round(0.1 * rate_hz)
    steady = audio[block : len(audio) // block * block].reshape(
        -1, block
    )  # the high pass needs time to settle
    return -0.691 + 10 * float(np.log10((steady**2).mean(axis=1).max()))


@pytest.mark.parametrize("f0_hz", [40.0, 110.0, 440.0, 1000.0, 3000.0])
@pytest.mark.parametrize("slope", [-30.0, -20.0, -6.0])
def test_loudness_is_that_of_the_rendered_audio(f0_hz: float, slope: float) -> None:
    level_db = slope * np.log10(K) + 2 * np.sin(2 * np.pi * 2 * SECONDS)
    note = decode(output(level_db, 0.02 * K * np.sin(2 * np.pi * 5 * SECONDS)), GRID)
    assert loudness_db(note, f0_hz) == pytest.approx(loudest_db(rendered(note, f0_hz)), abs=0.3)


def test_loudness_of_sines_and_of_silence() -> None:
    lone = decode(output(np.where(K == 1, 0.0, -120.0) + 0 * SECONDS), GRID)
    assert loudness_db(lone, 997.0) == pytest.approx(
        0.0, abs=0.01
    )  # RMS 1; the recommendation's own calibration
    assert loudness_db(lone, 10_000.0) == pytest.approx(4.0 - 0.69, abs=0.1)
    assert loudness_db(lone, 20.0) < -10
    assert loudness_db(lone, 22_000.0) < -180
    assert loudness_db(decode(output(np.full((GRID.rows, 1), -120.0)), GRID), 440.0) < -180


@given(gain_db=st.floats(-20, 20), f0_hz=st.floats(20, 5000))
def test_loudness_follows_the_gain(gain_db: float, f0_hz: float) -> None:
    plain = decode(output(SAW_DB), GRID)
    louder = NoteFrames(plain.level_db + np.float32(gain_db), plain.ratio, plain.decay_db_per_s, 51, 124)
    assert loudness_db(louder, f0_hz) - loudness_db(plain, f0_hz) == pytest.approx(gain_db, abs=1e-3)


def test_the_loudest_frame_counts() -> None:
    swell = decode(output(SAW_DB - 20 * (1 - SECONDS / SECONDS[-1])), GRID)
    swell.level_db[:, 90] += 6
    plain = NoteFrames(swell.level_db[:, 90:91], swell.ratio[:, 90:91], swell.decay_db_per_s, 0, 0)
    assert loudness_db(swell, 220.0) == pytest.approx(loudness_db(plain, 220.0), abs=1e-9)


def test_reading_a_manifest_does_not_wait_for_the_compiler() -> None:
    script = "import sys, device.partials, device.bundle; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
