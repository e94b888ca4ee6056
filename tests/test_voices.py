"""Voices: in tune, free of clicks, held, released, morphed and bent; the same however blocks are split."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from device import voices as kernel
from device.partials import NoteFrames, Partials, decode
from device.recording import clicks, level, pitch_cents
from device.voices import GONE, SEGMENT, VoiceBank

RATE_HZ = 48_000
GRID = Partials()
K = np.arange(1.0, GRID.rows + 1)[:, None]
SECONDS = np.arange(GRID.frames) / GRID.frame_rate_hz


def note(
    level_db: np.ndarray,
    frequency: np.ndarray | float = 1.0,
    decay_db_per_s: float = 0.0,
    loop: tuple[int, int] = (51, 124),
) -> NoteFrames:
    """Frames of RMS 1 with these levels, (rows, 1) or (rows, frames); ``frequency`` scales every row."""
    rows = len(level_db)
    levels = np.broadcast_to(level_db, (rows, GRID.frames)).astype(np.float64)
    levels = levels - 10 * np.log10((10 ** (levels / 10)).sum(axis=0).max() / 2)
    return NoteFrames(
        levels.astype(np.float32),
        np.broadcast_to(K[:rows] * frequency, levels.shape).astype(np.float32),
        np.full(rows, decay_db_per_s, np.float32),
        *loop,
    )


ORGAN = note(-20 * np.log10(K))
FLUTE = note(-12.0 * K[:8])
VIBRATO = note(-15 * np.log10(K), 1 + 0.01 * np.sin(2 * np.pi * 5.5 * SECONDS))
PLUCK = note(-20 * np.log10(K), decay_db_per_s=-20.0)
TREMOLO = note(-20 * np.log10(K) + 3 * np.sin(2 * np.pi * 7 * SECONDS + K))


def bank(
    voices: int = 4, rate_hz: float = RATE_HZ, rows: int = GRID.rows, limit_hz: float = GRID.limit_hz
) -> VoiceBank:
    return VoiceBank(voices, rows, GRID.frames, rate_hz, GRID.frame_rate_hz, limit_hz)


def render(voices: VoiceBank, seconds: float, rate_hz: float = RATE_HZ, block: int = 100) -> np.ndarray:
    out = np.zeros((round(seconds * rate_hz), 2), np.float32)
    for begin in range(0, len(out), block):
        voices.render(out[begin : begin + block])
    return out


def level_db(audio: np.ndarray) -> float:
    return level(audio).rms_dbfs


def held(frames: NoteFrames, f0_hz: float, seconds: float, gain: float = 0.2) -> np.ndarray:
    voices = bank(1)
    voices.start(0, frames, f0_hz, gain)
    return render(voices, seconds)


@settings(deadline=None, max_examples=20)
@given(f0_hz=st.floats(30, 3000), detune=st.floats(-0.02, 0.02))
def test_a_held_note_is_in_tune_within_a_cent(f0_hz: float, detune: float) -> None:
    network = np.zeros((2, GRID.rows, GRID.frames), np.float32)
    network[0] = 1 + (-20 * np.log10(K) - 3) / 100
    network[1] = np.clip(2 * K * detune, -1, 1)
    audio = held(decode(network, GRID), f0_hz, 3.0)
    assert abs(pitch_cents(audio[RATE_HZ:], RATE_HZ, f0_hz)) < 1


def test_pitch_does_not_drift_in_a_minute() -> None:
    audio = held(FLUTE, 440.0, 60.0)
    t = np.arange(len(audio)) / RATE_HZ
    turns = [
        np.angle(
            (audio[begin : begin + RATE_HZ, 0] * np.exp(-2j * np.pi * 440 * t[begin : begin + RATE_HZ])).sum()
        )
        for begin in (RATE_HZ, 58 * RATE_HZ)
    ]
    assert abs(math.remainder(turns[1] - turns[0], 2 * math.pi)) < 0.01


def test_vibrato_stays_and_its_middle_is_the_pitch() -> None:
    centred = note(-15 * np.log10(K), 1 + 0.01 * np.sin(2 * np.pi * 5 * (SECONDS - 0.4)), loop=(50, 125))
    audio = held(centred, 440.0, 4.0)
    assert abs(pitch_cents(audio[RATE_HZ // 2 :], RATE_HZ, 440.0)) < 3


@pytest.mark.parametrize("frames", [ORGAN, FLUTE, VIBRATO, TREMOLO])
def test_a_sustained_note_keeps_its_level(frames: NoteFrames) -> None:
    audio = held(frames, 220.0, 11.0)
    whole = [level_db(audio[second * RATE_HZ : (second + 2) * RATE_HZ]) for second in range(1, 9)]
    assert np.ptp(whole) < 1


def test_level_is_what_the_frames_say() -> None:
    audio = held(FLUTE, 220.0, 2.0, gain=0.2)
    assert level_db(audio) == pytest.approx(
        20 * math.log10(0.2) - 3.01, abs=0.1
    )  # each channel has half the power


def test_a_decaying_note_decays_on_past_the_loop() -> None:
    audio = held(PLUCK, 220.0, 6.0)
    at = [level_db(audio[int(t * RATE_HZ) : int((t + 0.1) * RATE_HZ)]) for t in (0.6, 1.6, 2.6, 4.6)]
    np.testing.assert_allclose(np.diff(at), [-20, -20, -40], atol=0.3)


EVENTS: dict[str, Callable[[VoiceBank], None]] = {
    "steal": lambda voices: voices.start(0, VIBRATO, 330.0, 0.3),
    "retrigger": lambda voices: voices.start(0, ORGAN, 440.0, 0.3),
    "kill": lambda voices: voices.kill(0),
    "release": lambda voices: voices.release(0),
    "morph": lambda voices: voices.morph(0, VIBRATO, 0.1),
    "morph at once": lambda voices: voices.morph(0, FLUTE, 0.0),
    "bend": lambda voices: voices.bend(0, 440.0 * 2 ** (2 / 12)),
    "octave": lambda voices: voices.bend(0, 220.0),
    "level": lambda voices: voices.level(0, 0.1),
    "nothing": lambda voices: None,
}


def performance(event: Callable[[VoiceBank], None], frames: NoteFrames, release_s: float = 0.1) -> np.ndarray:
    """0.2 s of silence, a note of 440 Hz that goes round its loop, the event at 2.013 s, release at 2.5 s."""
    voices = bank(1)
    silence = render(voices, 0.2)
    voices.start(0, frames, 440.0, 0.3, 0.0, release_s)
    before = render(voices, 1.813)
    event(voices)
    after = render(voices, 0.487)
    voices.release(0)
    return np.concatenate([silence, before, after, render(voices, 0.5)])


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    "frames", [ORGAN, FLUTE, VIBRATO, PLUCK, TREMOLO], ids=["organ", "flute", "vibrato", "pluck", "tremolo"]
)
def test_nothing_that_happens_to_a_note_clicks(event: str, frames: NoteFrames) -> None:
    audio = performance(EVENTS[event], frames)
    assert clicks(audio, RATE_HZ, GRID.limit_hz) == []
    audio[RATE_HZ + 24] += 0.01
    assert clicks(audio, RATE_HZ, GRID.limit_hz) == [1.0]


@pytest.mark.parametrize("release_s", [0.0, 0.03, 0.3])
def test_no_release_clicks(release_s: float) -> None:
    assert clicks(performance(EVENTS["nothing"], ORGAN, release_s), RATE_HZ, GRID.limit_hz) == []


@pytest.mark.parametrize("gap_s", [0.0, 0.0001, 0.001, 0.0031])
def test_stealing_again_and_again_does_not_click(gap_s: float) -> None:
    voices = bank(2)
    pieces = [render(voices, 0.2)]
    for number in range(40):
        voices.start(number % 2, ORGAN if number % 3 else TREMOLO, 440.0 * 2 ** (number % 12 / 12), 0.15)
        pieces.append(render(voices, gap_s))
    pieces.append(render(voices, 0.5))
    for voice in range(2):
        voices.release(voice)
    audio = np.concatenate([*pieces, render(voices, 0.6)])
    assert np.isfinite(audio).all()
    assert clicks(audio, RATE_HZ, GRID.limit_hz) == []


@pytest.mark.parametrize("f0_hz", [1000.0, 1040.0])
def test_an_attack_whose_partials_collapse_within_a_frame_does_not_click(f0_hz: float) -> None:
    bright = np.where(K * f0_hz < 14_100, -3 * np.log10(K), -80)
    collapsing = note(np.where((SECONDS > 0.02) & (K > 4), -80, bright))
    voices = bank(1)
    before = render(voices, 0.2)
    voices.start(0, collapsing, f0_hz, 1.0, phases=1)
    held = render(voices, 0.3)
    voices.release(0)
    audio = np.concatenate([before, held, render(voices, 0.6)])
    assert clicks(audio, RATE_HZ, GRID.limit_hz) == []


@settings(deadline=None, max_examples=20)
@given(blocks=st.lists(st.integers(0, 700), min_size=1, max_size=40))
def test_how_blocks_are_split_does_not_change_the_sound(blocks: list[int]) -> None:
    def play(split: list[int]) -> np.ndarray:
        voices = bank(2)
        voices.start(0, VIBRATO, 200.0, 0.2)
        voices.start(1, TREMOLO, 300.0, 0.2, 0.5)
        voices.release(1)
        out = np.zeros((sum(split), 2), np.float32)
        begin = 0
        for n in split:
            voices.render(out[begin : begin + n])
            begin += n
        return out

    np.testing.assert_allclose(play(blocks), play([sum(blocks)]), atol=1e-6)


@pytest.mark.parametrize("offset", [1, 17, SEGMENT, 100])
def test_a_note_starts_at_its_sample(offset: int) -> None:
    late = bank(1)
    silence = render(late, offset / RATE_HZ)
    late.start(0, ORGAN, 440.0, 0.2)
    assert not silence.any()
    np.testing.assert_allclose(render(late, 0.1), held(ORGAN, 440.0, 0.1), atol=1e-7)


def test_the_same_performance_sounds_the_same() -> None:
    first, second = (performance(EVENTS["steal"], VIBRATO) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_phases_are_spread() -> None:
    voices = bank(1)
    loudest = (10 ** (ORGAN.level_db[:, 0] / 20)).sum()
    voices.start(0, ORGAN, 100.0, 1.0, -1.0)
    first = render(voices, 0.5)
    voices.start(0, ORGAN, 100.0, 1.0, -1.0)
    render(voices, 0.1)
    assert abs(first).max() < 0.75 * loudest
    assert abs(first - held(ORGAN, 100.0, 0.5, 1.0)).max() > 0.1


def spectrum_db(audio: np.ndarray, rate_hz: float, low_hz: float, high_hz: float) -> float:
    mono = audio[:, 0] * np.hanning(len(audio))
    power = np.abs(np.fft.rfft(mono)) ** 2
    frequency_hz = np.fft.rfftfreq(len(mono), 1 / rate_hz)
    return float(
        10 * np.log10(power[(frequency_hz > low_hz) & (frequency_hz < high_hz)].sum() / power.sum() + 1e-20)
    )


@pytest.mark.parametrize(
    ("rate_hz", "limit_hz", "edge_hz"),
    [(48_000, 16_000, 16_000), (44_100, 22_050, 19_845), (16_000, 16_000, 7_200)],
)
def test_partials_over_the_limit_are_silent(rate_hz: int, limit_hz: float, edge_hz: float) -> None:
    voices = bank(1, rate_hz, limit_hz=limit_hz)
    voices.start(0, note(0 * K), 600.0, 0.2)
    audio = render(voices, 1.5, rate_hz)[rate_hz // 2 :]
    assert spectrum_db(audio, rate_hz, edge_hz, rate_hz) < -80
    assert spectrum_db(audio, rate_hz, edge_hz * 0.85, edge_hz * 0.95) > -25  # and those below are there


def test_a_note_bent_over_the_limit_and_back_returns() -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 1000.0, 0.2)
    before = level_db(render(voices, 0.5)[RATE_HZ // 4 :])
    voices.bend(0, 40_000.0)
    assert level_db(render(voices, 0.5)[RATE_HZ // 4 :]) < -150
    voices.bend(0, 1000.0)
    assert level_db(render(voices, 0.5)[RATE_HZ // 4 :]) == pytest.approx(before, abs=0.1)


@pytest.mark.parametrize("release_s", [0.05, 0.4, 2.0])
def test_release_falls_60_db_in_its_time_and_ends_below_90(release_s: float) -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 1000.0, 1.0, -1.0, release_s)
    held_db = level_db(render(voices, 0.5)[RATE_HZ // 4 :])
    voices.release(0)
    falling = render(voices, release_s)
    last = falling[-round(0.002 * RATE_HZ) :]
    assert level_db(last) - held_db == pytest.approx(-60 + 60 * 0.001 / release_s, abs=1)
    assert voices.active[0]
    rest = render(voices, release_s)
    assert not voices.active[0]
    assert voices.rms[0] == 0
    sounding = np.flatnonzero(rest[:, 0])
    assert abs(rest[sounding[-10:], 0]).max() < 3 * GONE


def test_release_before_the_sound_begins_still_ends() -> None:
    voices = bank(1)
    late = note(np.where(SECONDS > 0.02, 0.0, -200.0) - 20 * np.log10(K))
    voices.start(0, late, 440.0, 0.2, 0.0, 0.2)
    voices.release(0)
    assert abs(render(voices, 0.1)).max() > 0.01
    render(voices, 0.5)
    assert not voices.active[0]


def test_a_pluck_that_has_died_frees_its_voice_on_release() -> None:
    voices = bank(1)
    voices.start(0, PLUCK, 220.0, 0.2, 0.0, 10.0)
    render(voices, 5.0)
    assert voices.active[0]
    voices.release(0)
    render(voices, 0.1)
    assert not voices.active[0]


def test_kill_is_silent_after_four_milliseconds_and_frees_at_once() -> None:
    voices = bank(1)
    voices.start(0, ORGAN, 440.0, 0.2)
    render(voices, 0.5)
    voices.kill(0)
    assert not voices.active[0]
    after = render(voices, 0.01)
    assert after[:96].any()
    assert not after[192:].any()


def test_a_morph_ends_at_the_other_note_where_that_note_would_be() -> None:
    voices = bank(1)
    voices.start(0, ORGAN, 440.0, 0.2)
    render(voices, 0.3)
    voices.morph(0, PLUCK, 0.1)
    render(voices, 0.3)
    morphed = render(voices, 0.4)
    never = held(PLUCK, 440.0, 1.0)[-len(morphed) :]
    assert level_db(morphed) == pytest.approx(level_db(never), abs=0.2)


def test_morphs_in_the_middle_of_morphs_stay_between_the_notes() -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 440.0, 0.2)
    pieces = [render(voices, 0.3)]
    for number in range(30):
        voices.morph(0, (FLUTE, ORGAN, VIBRATO)[number % 3], 0.15)
        pieces.append(render(voices, 0.013))
    voices.release(0)
    audio = np.concatenate([*pieces, render(voices, 0.5)])
    assert clicks(audio, RATE_HZ, GRID.limit_hz) == []
    assert level_db(audio[RATE_HZ // 2 : RATE_HZ // 2 + 4800]) == pytest.approx(
        20 * math.log10(0.2) - 3, abs=3
    )


def test_a_bend_reaches_its_pitch_in_thirty_milliseconds() -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 440.0, 0.2)
    render(voices, 0.5)
    voices.bend(0, 466.1638)
    render(voices, 0.03)
    assert abs(pitch_cents(render(voices, 1.0), RATE_HZ, 466.1638)) < 0.5


@pytest.mark.parametrize("pan", [-1.0, -0.3, 0.0, 0.7, 1.0, 5.0])
def test_pan_keeps_the_power(pan: float) -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 440.0, 0.2, pan)
    power = (render(voices, 1.0)[RATE_HZ // 2 :] ** 2).mean(axis=0)
    assert 10 * math.log10(power.sum()) == pytest.approx(20 * math.log10(0.2), abs=0.1)
    angle = (min(pan, 1.0) + 1) * math.pi / 4
    assert math.sqrt(power[1] / power.sum()) == pytest.approx(math.sin(angle), abs=1e-3)


def test_level_moves_the_gain() -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 440.0, 0.2)
    render(voices, 0.5)
    voices.level(0, 0.05)
    render(voices, 0.05)
    assert level_db(render(voices, 0.5)) == pytest.approx(20 * math.log10(0.05) - 3.01, abs=0.1)


def test_voices_add_up() -> None:
    both, one, two = bank(2), bank(2), bank(2)
    both.start(0, FLUTE, 440.0, 0.2)
    both.start(1, ORGAN, 550.0, 0.1)
    one.start(0, FLUTE, 440.0, 0.2)
    two.start(0, silent_note(), 1.0)  # so that the phases are those of the second start
    two.start(1, ORGAN, 550.0, 0.1)
    np.testing.assert_allclose(render(both, 0.2), render(one, 0.2) + render(two, 0.2), atol=1e-6)


def silent_note() -> NoteFrames:
    return NoteFrames(
        np.full((1, 1), -200, np.float32), np.ones((1, 1), np.float32), np.zeros(1, np.float32), 0, 0
    )


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    poison=st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40]),
    f0_hz=st.floats(0.001, 1e6),
    loop=st.tuples(st.integers(-5, 200), st.integers(-5, 200)),
)
@example(seed=0, poison=1e30, f0_hz=1.0, loop=(0, 2))
def test_whatever_the_frames_hold_the_sound_is_finite(
    seed: int, poison: float, f0_hz: float, loop: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 9)), int(rng.integers(1, 20)))
    arrays = [
        rng.normal(-20, 30, shape).astype(np.float32),
        rng.normal(3, 3, shape).astype(np.float32),
        rng.normal(-10, 30, shape[0]).astype(np.float32),
    ]
    for array in arrays:
        array[rng.random(array.shape) < 0.2] = poison
    frames = NoteFrames(*arrays, *loop)
    voices = bank(2)
    voices.start(0, frames, f0_hz, 0.1)
    voices.start(1, FLUTE, 440.0, 0.1)
    pieces = [render(voices, 0.3)]
    voices.morph(1, frames, 0.02)
    voices.bend(0, f0_hz * 3)
    pieces.append(render(voices, 0.3))
    voices.morph(1, FLUTE, 0.02)
    voices.kill(0)
    pieces.append(render(voices, 0.3))
    audio = np.concatenate(pieces)
    assert np.isfinite(audio).all()
    tiny = np.abs(audio[audio != 0])
    assert not (tiny < np.finfo(np.float32).tiny).any()
    assert level_db(pieces[2][-4800:]) == pytest.approx(20 * math.log10(0.1) - 3.01, abs=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_pitch_or_gain_that_is_none_starts_nothing(bad: float) -> None:
    voices = bank(1)
    voices.start(0, ORGAN, bad, 0.1)
    assert not voices.active[0]
    voices.start(0, ORGAN, 440.0, bad)
    assert not voices.active[0]
    assert not render(voices, 0.1).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_bend_to_no_pitch_is_ignored(bad: float) -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 440.0, 0.1)
    voices.bend(0, bad)
    if bad:
        voices.level(0, bad)
    np.testing.assert_array_equal(render(voices, 0.2), held(FLUTE, 440.0, 0.2, 0.1))


@pytest.mark.parametrize("release_s", [math.nan, math.inf, -1.0])
def test_a_release_time_that_is_none_is_the_shortest(release_s: float) -> None:
    voices = bank(1)
    voices.start(0, FLUTE, 440.0, 0.1, 0.0, release_s)
    voices.release(0)
    render(voices, 0.1)
    assert not voices.active[0]


def test_long_decays_leave_no_denormals() -> None:
    voices = bank(1)
    voices.start(0, note(-20 * np.log10(K), decay_db_per_s=-100.0), 220.0, 0.2)
    audio = render(voices, 20.0)
    assert not audio[-RATE_HZ:].any()
    tiny = np.finfo(np.float32).tiny
    assert not (np.abs(audio[audio != 0]) < tiny).any()
    assert not (np.abs(voices._state.decay_gain) < tiny).any()


def test_events_on_a_free_voice_do_nothing() -> None:
    voices = bank(1)
    voices.release(0)
    voices.kill(0)
    voices.bend(0, 440.0)
    voices.level(0, 1.0)
    voices.morph(0, ORGAN, 0.1)
    assert not render(voices, 0.1).any()
    assert not voices.active[0]


def test_active_and_rms_follow_the_voices() -> None:
    voices = bank(3)
    assert voices.active.tolist() == [False, False, False]
    voices.start(1, FLUTE, 440.0, 0.2)
    render(voices, 0.2)
    assert voices.active.tolist() == [False, True, False]
    assert voices.rms[1] == pytest.approx(0.2, rel=0.01)


def test_a_note_larger_than_the_bank_is_a_programming_error() -> None:
    small = bank(1, rows=8)
    small.start(0, FLUTE, 440.0)
    with pytest.raises(ValueError, match="80"):
        small.start(0, ORGAN, 440.0)
    with pytest.raises(ValueError, match="80"):
        small.morph(0, ORGAN, 0.1)
    with pytest.raises(ValueError, match="at least one"):
        VoiceBank(0, 1, 1, RATE_HZ, 125.0)


@pytest.mark.parametrize("rows", [1, 15, 244, 301])
def test_any_number_of_rows(rows: int) -> None:
    k = np.arange(1.0, rows + 1)[:, None]
    frames = NoteFrames(
        np.repeat(-20 * np.log10(k), 10, axis=1).astype(np.float32),
        np.repeat(k, 10, axis=1).astype(np.float32),
        np.zeros(rows, np.float32),
        4,
        9,
    )
    voices = bank(1, rows=rows)
    voices.start(0, frames, 65.4, 0.2)
    audio = render(voices, 2.0)
    assert abs(pitch_cents(audio[RATE_HZ // 2 :], RATE_HZ, 65.4)) < 1


def test_rendering_allocates_no_arrays() -> None:
    import numba
    from numba.core.runtime import _nrt_python, rtsys

    @numba.njit  # what an audio callback is: no Python at the border, where numba wraps every array
    def callback(state, out, blocks):
        for _ in range(blocks):
            kernel.render(state, out)

    voices = bank(2)
    voices.start(0, ORGAN, 440.0, 0.2)
    voices.start(1, TREMOLO, 440.0, 0.2)
    out = np.zeros((256, 2), np.float32)
    callback(voices._state, out, 1)
    _nrt_python.memsys_enable_stats()
    try:
        allocated = []
        for blocks in (1, 100):
            before = rtsys.get_allocation_stats().alloc
            callback(voices._state, out, blocks)
            allocated.append(rtsys.get_allocation_stats().alloc - before)
    finally:
        _nrt_python.memsys_disable_stats()
    assert allocated[0] == allocated[1]


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.strip()


def test_importing_compiles_nothing() -> None:
    code = """
import numba.core.dispatcher as d
d.Dispatcher.compile = lambda *a, **k: (_ for _ in ()).throw(SystemError("compiled at import"))
import device.voices
print("imported")
"""
    assert run_python(code) == "imported"


@pytest.mark.slow
def test_a_root_where_no_cache_can_be_written_still_plays() -> None:
    code = """
from numba.core import caching
for implementation in (caching.CompileResultCacheImpl, caching.CacheImpl):
    implementation._locator_classes = []
import numpy as np
from device.voices import VoiceBank
voices = VoiceBank(1, 1, 1, 48000.0, 125.0)
voices.render(np.zeros((64, 2), np.float32))
print("played")
"""
    assert run_python(code) == "played"


def test_the_same_phases_make_the_same_note() -> None:
    voices = bank(1)

    def played(phases: int | None) -> np.ndarray:
        voices.start(0, ORGAN, 220.0, phases=phases)
        audio = render(voices, 0.05)
        voices.kill(0)
        render(voices, 0.05)
        return audio

    np.testing.assert_array_equal(played(2**32 - 1), played(2**32 - 1))
    assert np.abs(played(None) - played(None)).max() > 0.01
