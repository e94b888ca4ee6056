"""The compiled decoder against the same thing in numpy, on a real bundle's notes and on made-up ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from device import bundle
from device.decoding import (
    CENTRE_PARTIALS,
    CENTRE_RANGE_DB,
    FADED_DB,
    HARMONIC_CENTS,
    LOOP_EARLIEST,
    LOOP_LATEST,
    LOOP_MARGIN_FRAMES,
    STEEPEST_DB_PER_S,
    STRAY_CENTS,
    STRUCK_BEGIN_S,
    STRUCK_END_S,
    SUSTAINED_DB_PER_S,
    SWOLLEN_DB,
)
from device.generator import Generator
from device.partials import (
    LOUDEST_DB,
    MOST_RAISED_DB,
    SILENCE_DB,
    SILENT_LEVEL,
    NoteFrames,
    Partials,
    decode,
)

FLAGSHIP = Path(__file__).parent.parent / "models" / "flagship.rack"
Floats = npt.NDArray[np.float64]


def by_numpy(output: np.ndarray, partials: Partials) -> NoteFrames:
    """What `decode` was before it was compiled, in float64: the oracle."""
    network_level, deviation = output
    level_db = np.minimum(partials.floor_db * (1.0 - network_level.astype(np.float64)), LOUDEST_DB)
    level_db[network_level <= SILENT_LEVEL] = SILENCE_DB
    # Training notes have RMS 1 in their loudest frame (half the sum of squares is 1). A generated one is brought there,
    # so that a knob changes the sound and leaves the level to whoever plays; what is nearly silent stays nearly so.
    total_db = 10 * np.log10((10 ** (level_db / 10)).sum(axis=0) / 2)
    raised_db = min(-float(total_db.max()), MOST_RAISED_DB)
    level_db[level_db > SILENCE_DB] += raised_db
    total_db += raised_db
    k = np.arange(1.0, partials.rows + 1)[:, None]
    ratio = k + np.clip(deviation.astype(np.float64), -1.0, 1.0) / 2

    loop_start, loop_end = _loop(total_db)
    heard = slice(loop_start, loop_end + 1) if level_db[:, loop_start:].max() > SILENCE_DB else slice(None)
    ratio *= _centring(level_db[:, heard], ratio[:, heard], partials.rows_a_partial)
    ratio /= partials.rows_a_partial
    trend, decay = _slopes(level_db, total_db, loop_start, loop_end, partials.frame_rate_hz)
    seconds_in_loop = (np.arange(partials.frames) - loop_start) / partials.frame_rate_hz
    silent = level_db <= SILENCE_DB
    level_db -= trend[:, None] * np.maximum(seconds_in_loop, 0)
    if not decay.any():
        # What is held is held at the mean level of the loop, and comes there on the second half of the way to it.
        to_mean_db = trend * (loop_end - loop_start) / 2 / partials.frame_rate_hz
        way = np.clip(1 + (np.arange(partials.frames) - loop_start) / max(loop_start / 2, 1), 0, 1)
        level_db += to_mean_db[:, None] * way
    level_db[silent] = SILENCE_DB
    return NoteFrames(
        level_db.astype(np.float32),
        ratio.astype(np.float32),
        decay.astype(np.float32),
        loop_start,
        loop_end,
    )


def _loop(total_db: Floats) -> tuple[int, int]:
    """First and last frame of the loop: as long as it can be once the note has swollen to its level."""
    frames = len(total_db)
    loop_end = max(frames - 1 - LOOP_MARGIN_FRAMES, 0)
    swollen = int((total_db > total_db.max() - SWOLLEN_DB).argmax())
    earliest, latest = (round(share * frames) for share in (LOOP_EARLIEST, LOOP_LATEST))
    return min(max(swollen, earliest), latest, loop_end), loop_end


def _centring(level_db: Floats, ratio: Floats, rows_a_partial: int) -> Floats:
    """Factor (rows, 1) that brings the strong low partials onto the harmonic series of the f0 asked for.

    ``ratio``: to the first row. One factor for all rows, by least squares: sum a^2 (factor ratio - k)^2 over the
    partials is smallest, so that stretch and vibrato stay. On top of it, what a harmonic low row strays from its place
    beyond STRAY_CENTS.
    """
    factor = np.ones((len(ratio), 1))
    partials = slice(rows_a_partial - 1, CENTRE_PARTIALS * rows_a_partial, rows_a_partial)
    energy = 10 ** (level_db[partials] / 10) * (level_db[partials] > SILENCE_DB)
    row_energy = energy.sum(axis=1, keepdims=True)
    energy *= row_energy >= row_energy.max() * 10 ** (-CENTRE_RANGE_DB / 10)
    if not energy.any():
        return factor
    low = ratio[partials]
    k = np.arange(1.0, len(ratio) + 1)[partials, None]
    factor *= (energy * k * k).sum() / (energy * k * low).sum()
    mean = (energy * low * factor[partials]).sum(axis=1, keepdims=True)
    stray_cents = 1200 * np.log2(
        np.where(mean > 0, mean / np.maximum(k * energy.sum(axis=1, keepdims=True), 1e-30), 1)
    )
    excess_cents = stray_cents - np.clip(stray_cents, -STRAY_CENTS, STRAY_CENTS)
    factor[partials] *= np.where(np.abs(stray_cents) < HARMONIC_CENTS, 2 ** (-excess_cents / 1200), 1)
    return factor


def test_what_lies_between_partials_has_no_say_in_the_pitch() -> None:
    halves = Partials(24, 32, 125.0, -100.0, rows_a_partial=2)
    output = np.zeros((2, 24, 32), np.float32)
    # Partials, 20 cents flat: .0115 of a row of f0, twice that in half bands of a half row.
    output[0, 1::2] = 0.8
    k = np.arange(1, 13)
    output[1, 1::2] = (2 * 2 * k * (2 ** (-20 / 1200) - 1))[:, None].clip(-1, 1)
    alone = decode(output, halves).ratio
    assert alone[1:6:2, 20] == pytest.approx([1, 2, 3], rel=5e-4)
    output[0, ::2], output[1, ::2] = 0.95, 0.9  # loud, and far from the middle of its band
    beside = decode(output, halves).ratio
    assert np.array_equal(beside[1::2], alone[1::2])
    assert beside[0, 20] == pytest.approx((1 + 0.45) / 2 * 2 ** (20 / 1200), rel=1e-3)


def _slopes(
    level_db: Floats, total_db: Floats, loop_start: int, loop_end: int, frame_rate_hz: float
) -> tuple[Floats, Floats]:
    """Slope of every row inside the loop, and the slope that it keeps for as long as it is held; dB / s.

    The second is all zeros for a note that is held, else below zero in every row.
    """
    rows = len(level_db)
    seconds = np.arange(loop_start, loop_end + 1) / frame_rate_hz
    if len(seconds) < 2:
        return np.zeros(rows), np.zeros(rows)
    inside = level_db[:, loop_start : loop_end + 1]
    weight = (inside > SILENCE_DB).astype(np.float64)
    centred = seconds - (weight * seconds).sum(axis=1, keepdims=True) / np.maximum(
        weight.sum(axis=1, keepdims=True), 1
    )
    trend = (weight * centred * inside).sum(axis=1) / np.maximum((weight * centred**2).sum(axis=1), 1e-3)

    early, early_end = (round(s * frame_rate_hz) for s in (STRUCK_BEGIN_S, STRUCK_END_S))
    whole = _slope_db(total_db[early : loop_end + 1]) * frame_rate_hz
    loop = _slope_db(total_db[loop_start : loop_end + 1]) * frame_rate_hz
    late = loop_end - (loop_end - loop_start) // 3
    drop_db = 0.0
    if early_end < loop_start:
        drop_db = float(total_db[early : early_end + 1].mean() - total_db[late : loop_end + 1].mean())
    if drop_db > FADED_DB:
        loop = min(loop, whole)
    elif max(loop, whole) > SUSTAINED_DB_PER_S:
        return np.clip(trend, STEEPEST_DB_PER_S, -STEEPEST_DB_PER_S), np.zeros(rows)
    # A row's own slope is a noisy estimate: one that came out flat must not ring on when the note is over.
    decay = np.clip(trend, max(3 * loop, STEEPEST_DB_PER_S), max(loop / 2, STEEPEST_DB_PER_S))
    return decay, decay


def _slope_db(total_db: Floats) -> float:
    """Slope of the straight line through these frames, dB per frame."""
    if len(total_db) < 2:
        return 0.0
    centred = np.arange(len(total_db)) - (len(total_db) - 1) / 2
    return float(centred @ total_db / (centred @ centred))


def same(got: NoteFrames, wanted: NoteFrames) -> bool:
    return (
        (got.loop_start, got.loop_end) == (wanted.loop_start, wanted.loop_end)
        and np.allclose(got.level_db, wanted.level_db, rtol=0, atol=1e-3)
        and np.array_equal(got.level_db == SILENCE_DB, wanted.level_db == SILENCE_DB)
        and np.allclose(got.ratio, wanted.ratio, rtol=1e-6, atol=0)
        and np.allclose(got.decay_db_per_s, wanted.decay_db_per_s, rtol=0, atol=1e-3)
    )


def on_an_edge(output: np.ndarray, grid: Partials) -> bool:
    """Whether rounding decides this note (where its loop begins, whether it is struck): both sides are right then."""
    wanted = by_numpy(output, grid)
    nudge = 1e-6 * np.random.default_rng(0).normal(size=output.shape)
    return not all(
        same(by_numpy((output + sign * nudge).astype(np.float32), grid), wanted) for sign in (1, -1)
    )


def test_notes_of_the_shipped_voice() -> None:
    rack = bundle.read(FLAGSHIP)
    generator, grid = Generator(rack), rack.manifest.representation
    held = []
    for seed, preset in enumerate(rack.manifest.presets):
        for pitch_midi in (24.0, 41.3, 60.0, 77.7, 100.0):
            frames = generator.note(preset.z, preset.attributes, pitch_midi, 0.8, noise_seed=seed)
            note = decode(frames, grid)
            assert same(note, by_numpy(frames, grid))
            held.append(not note.decay_db_per_s.any())
    assert 0 < sum(held) < len(held), "notes of both kinds"


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 140)),
    seed=st.integers(0, 2**32 - 1),
    slope=st.floats(-1.5, 0.5),
    roughness=st.sampled_from([0.003, 0.03, 0.3, 3.0, 1e4]),
    frame_rate_hz=st.sampled_from([50.0, 125.0, 200.0]),
    floor_db=st.sampled_from([-60.0, -100.0, -190.0, -300.0]),
    rows_a_partial=st.sampled_from([1, 2]),
)
def test_made_up_notes(  # noqa: PLR0917
    shape: tuple[int, int],
    seed: int,
    slope: float,
    roughness: float,
    frame_rate_hz: float,
    floor_db: float,
    rows_a_partial: int,
) -> None:
    shape = rows, frames = shape[0] * rows_a_partial, shape[1]
    rng = np.random.default_rng(seed)
    line = rng.uniform(0, 1.1, (rows, 1)) + slope * np.arange(frames) / frame_rate_hz
    level = line + roughness * rng.normal(size=shape)
    level *= rng.random(shape) > rng.choice([0.0, 0.0, 0.2, 0.9])
    deviation = rng.normal(0, 0.3, (rows, 1)) * rng.choice([0.01, 0.1, 5.0]) + rng.normal(0, 0.02, shape)
    grid = Partials(rows, frames, frame_rate_hz, floor_db, rows_a_partial=rows_a_partial)
    output = np.stack([level, deviation]).astype(np.float32)
    assume(not on_an_edge(output, grid))
    assert same(decode(output, grid), by_numpy(output, grid))


@given(arrays(np.float32, (2, 4, 20), elements=st.floats(-2, 2, width=32)), st.booleans())
def test_whatever_hypothesis_thinks_of(output: np.ndarray, in_tune: bool) -> None:
    grid = Partials(4, 20)
    if in_tune:
        output[1] /= 100
    assume(not on_an_edge(output, grid))
    assert same(decode(output, grid), by_numpy(output, grid))


def test_a_planted_difference_is_found() -> None:
    output = np.random.default_rng(0).uniform(0.3, 1, (2, 8, 128)).astype(np.float32)
    grid = Partials(8, 128)
    wanted = by_numpy(output, grid)
    assert same(decode(output, grid), wanted)
    output[0, 3, 60] += 0.001
    assert not same(decode(output, grid), wanted)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_any_float_and_memory_that_may_not_be_written(kind: type) -> None:
    output = np.random.default_rng(1).uniform(0.3, 1, (2, 128, 8)).astype(kind).swapaxes(1, 2)
    output.flags.writeable = False
    kept = output.copy()
    assert same(decode(output, Partials(8, 128)), by_numpy(output.astype(np.float32), Partials(8, 128)))
    np.testing.assert_array_equal(output, kept)
