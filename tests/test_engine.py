"""The audio callback's block: events at their sample, offers, silence for what is broken, and memory used safely."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.audio import NullOutput
from device.engine import (
    BEGIN_NS,
    BEND,
    CAPTURE_SAMPLES,
    CAPTURING,
    CLOCK_FOLLOWS,
    COUNTS,
    DELAY_NS,
    EVENTS,
    GAIN,
    GAIN_GOAL,
    GAIN_STEP,
    JUMP_NS,
    KILL,
    KNEE,
    LEVEL,
    MUTE,
    NEXT_NS,
    OUTPUT_UNDERFLOW,
    READ,
    RELEASE,
    SAMPLE_RATE_HZ,
    SHELF,
    SLOTS,
    START,
    WRITTEN,
    Desk,
    N,
    address,
    advance,
    callback,
    counted,
    desk_shapes,
    free_slots,
    hand_over,
    lay_out,
    make,
    memory_size,
    open_desk,
    push,
)
from device.partials import NoteFrames, Partials
from device.recording import clicks, level, pitch_cents
from device.voices import fill

RATE_HZ = SAMPLE_RATE_HZ
ORIGIN_NS = 1_000_000_000
GRID = Partials()
K = np.arange(1.0, 41.0)[:, None]
FADE_SAMPLES = round(0.004 * RATE_HZ)


def tone(fall_db: float = 12.0, rows: int = 40) -> NoteFrames:
    """A steady tone of RMS 1 whose partials fall so much an octave."""
    levels = np.broadcast_to(-fall_db * np.log2(K[:rows]), (rows, 128))
    levels = levels - 10 * np.log10((10 ** (levels[:, 0] / 10)).sum() / 2)
    ratio = np.broadcast_to(K[:rows], levels.shape)
    return NoteFrames(
        levels.astype(np.float32), ratio.astype(np.float32), np.zeros(rows, np.float32), 50, 124
    )


DARK, BRIGHT = tone(18.0), tone(6.0)


class Player:
    """A desk, and a clock that asks it for blocks exactly when they are due."""

    def __init__(self, delay_ns: int = 0, voices: int = 4) -> None:
        self.memory = np.zeros(memory_size(voices), np.uint8)
        self.desk: Desk = make(self.memory, voices)
        self.desk.clock[DELAY_NS] = delay_ns
        self.samples = 0

    def count(self, name: str) -> int:
        return counted(self.desk)[name]

    def shelve(self, place: int, slot: int, note: NoteFrames, f0_hz: float = 440.0) -> None:
        fill(self.desk.state, slot, note, f0_hz, GRID)
        hand_over(self.desk.shelf, place, slot + 1)

    def offer(self, voice: int, note: int, slot: int, frames: NoteFrames, f0_hz: float = 440.0) -> None:
        fill(self.desk.state, slot, frames, f0_hz, GRID)
        hand_over(self.desk.offer, voice, note << 8 | slot + 1)

    def at_ns(self, sample: float) -> int:
        """The time at which a sample is played, but for the delay."""
        return ORIGIN_NS + round(sample * 1e9 / RATE_HZ)

    def push(  # noqa: PLR0917
        self, at_ns: int, kind: int, voice: int, note: int, f0_hz: float = 440.0, gain: float = 0.2
    ) -> bool:
        return bool(push(self.desk, at_ns, kind, voice, note, f0_hz, gain, 0.0, 0.1, 7))

    def start(self, voice: int, note: int, f0_hz: float = 440.0, gain: float = 0.2) -> None:
        """Begin a note with the next sample."""
        assert self.push(self.at_ns(self.samples - 0.5), START, voice, note, f0_hz, gain)

    def do(self, kind: int, voice: int, note: int, **values: float) -> None:
        assert self.push(self.at_ns(self.samples - 0.5), kind, voice, note, **values)

    def block(self, frames: int, off_ns: int = 0) -> np.ndarray:
        out = np.full((frames, 2), np.nan, np.float32)  # whatever lies in the device's buffer
        advance(self.desk, out, self.at_ns(self.samples) + off_ns)
        self.samples += frames
        return out

    def play(self, samples: int, block: int = 128) -> np.ndarray:
        return self.split([block] * (samples // block))

    def split(self, blocks: Sequence[int]) -> np.ndarray:
        return np.concatenate([self.block(frames) for frames in blocks])


def with_tone(delay_ns: int = 0, voices: int = 4) -> Player:
    player = Player(delay_ns, voices)
    player.shelve(0, 0, DARK)
    return player


@functools.cache
def from_its_beginning(samples: int) -> np.ndarray:
    """The tone, begun with the first sample of a block."""
    player = with_tone()
    player.start(0, 1)
    return player.block(samples)


# Time.


@settings(max_examples=30)
@given(
    due=st.integers(0, 4999),
    share=st.floats(0.01, 0.99),
    delay_ns=st.integers(0, 12_000_000),
    blocks=st.lists(st.integers(1, 700), min_size=1, max_size=40),
)
def test_an_event_sounds_at_its_time_plus_the_delay_at_its_sample_in_blocks_of_any_size(
    due: int, share: float, delay_ns: int, blocks: list[int]
) -> None:
    player = with_tone(delay_ns)
    # Between two samples: the first one that is not too early is taken.
    assert player.push(player.at_ns(due - share) - delay_ns, START, 0, 1)
    while sum(blocks) < due + 500:
        blocks = [*blocks, 500]
    audio = player.split(blocks)
    assert not audio[:due].any()
    np.testing.assert_allclose(audio[due:], from_its_beginning(len(audio) - due), atol=1e-6)
    # The first block alone may be asked for when the event's time has passed.
    assert player.count("late_events") == (due - share <= -1)


EVENT_KINDS = st.sampled_from([START, RELEASE, BEND, LEVEL, KILL])


@settings(max_examples=30)
@given(
    blocks=st.lists(st.integers(1, 700), min_size=2, max_size=30),
    events=st.lists(
        st.tuples(
            st.integers(0, 6000), EVENT_KINDS, st.integers(0, 3), st.floats(60, 4000), st.floats(0.01, 0.2)
        ),
        max_size=25,
    ),
)
def test_how_time_is_cut_into_blocks_changes_nothing(
    blocks: list[int], events: list[tuple[int, int, int, float, float]]
) -> None:
    sounds = []
    for split in (blocks, [sum(blocks)]):
        player = with_tone()
        player.shelve(1, 1, BRIGHT, 880.0)
        sounding = dict.fromkeys(range(4), 0)
        for number, (sample, kind, voice, f0_hz, gain) in enumerate(sorted(events), 1):
            if kind == START:
                sounding[voice] = number
            assert player.push(player.at_ns(sample - 0.5), kind, voice, sounding[voice], f0_hz, gain)
        sounds.append(player.split(split))
    np.testing.assert_allclose(sounds[0], sounds[1], atol=1e-6)


def test_an_event_in_the_future_waits_and_holds_up_those_behind_it() -> None:
    player = with_tone()
    player.push(player.at_ns(1000 - 0.5), START, 0, 1)
    player.push(player.at_ns(-0.5), START, 1, 2)  # behind it, so played after it
    audio = player.play(1280)
    assert not audio[:1000].any()
    assert audio[1002:].any()
    assert player.count("notes") == 2


def test_a_late_event_is_played_at_once_and_counted() -> None:
    player = with_tone(delay_ns=1_000_000)
    player.play(1024)
    late = 96  # samples: 2 ms
    player.push(player.at_ns(1024 - late) - 1_000_000, START, 0, 1)
    np.testing.assert_allclose(player.play(512), from_its_beginning(512), atol=1e-6)
    assert player.count("late_events") == 1
    assert player.count("latest_ns") == pytest.approx(late * 1e9 / RATE_HZ, abs=10)
    player.push(player.at_ns(player.samples) - 1_000_000, KILL, 0, 1)  # exactly in time
    player.play(128)
    assert player.count("late_events") == 1


def test_a_full_ring_refuses_and_takes_again_when_it_was_read() -> None:
    player = with_tone()
    assert all(player.push(player.at_ns(0), KILL, 0, 9) for _ in range(EVENTS))
    assert not player.push(player.at_ns(0), START, 0, 1)
    player.block(64)
    assert player.count("events") == EVENTS
    assert player.push(player.at_ns(64), START, 0, 1)  # beyond the ring's end
    assert player.play(128).any()
    assert player.count("events") == EVENTS + 1


def test_an_event_for_a_note_that_is_gone_finds_nobody() -> None:
    player = with_tone()
    player.start(0, 2)
    audio = [player.play(512)]
    for kind in (KILL, RELEASE, BEND, LEVEL):
        player.do(kind, 0, 1, f0_hz=880.0, gain=0.0)
    audio.append(player.play(512))
    np.testing.assert_allclose(np.concatenate(audio), from_its_beginning(1024), atol=1e-6)


def test_bend_level_release_and_kill_do_what_they_say() -> None:
    player = with_tone()
    player.start(0, 1)
    player.play(4096)
    player.do(BEND, 0, 1, f0_hz=550.0)
    player.do(LEVEL, 0, 1, gain=0.1)
    player.play(9600)
    held = player.play(RATE_HZ)
    assert abs(pitch_cents(held, RATE_HZ, 550.0)) < 2
    assert level(held).rms_dbfs == pytest.approx(20 * np.log10(0.1) - 3, abs=0.5)
    player.do(RELEASE, 0, 1)
    player.play(RATE_HZ // 2)
    assert not player.desk.state.voice["active"].any()
    player.start(0, 2)
    player.play(4096)
    player.do(KILL, 0, 2)
    assert not player.play(512)[FADE_SAMPLES:].any()


# The sample clock.


def test_the_clock_averages_jitter() -> None:
    rng = np.random.default_rng(1)
    player = Player()
    player.block(128)
    off_ns = []
    for _ in range(2000):
        ideal_ns = player.at_ns(player.samples)
        player.block(128, int(rng.uniform(-2e6, 2e6)))
        off_ns.append(player.desk.clock[BEGIN_NS] - ideal_ns)
    # Of uniform jitter with a standard deviation of 1.15 ms, a one-pole filter leaves sqrt(a / (2 - a)): a tenth.
    left_ns = 4e6 / 12**0.5 * (CLOCK_FOLLOWS / (2 - CLOCK_FOLLOWS)) ** 0.5
    assert np.std(off_ns) < 1.5 * left_ns
    assert np.abs(off_ns).max() < 5 * left_ns
    assert player.count("jumps") == 0


def test_the_clock_follows_a_sound_card_that_is_off() -> None:
    player = Player()
    for block in range(2000):
        player.block(128, round(block * 128 * 1e9 / RATE_HZ * 1e-4))  # 100 ppm slow
    last_ns = ORIGIN_NS + round(1999 * 128 * (1 + 1e-4) * 1e9 / RATE_HZ)
    assert last_ns - player.desk.clock[BEGIN_NS] == pytest.approx(13_000, abs=1000)
    assert player.count("jumps") == 0


@pytest.mark.parametrize("jump_ns", [JUMP_NS + 1_000_000, -JUMP_NS - 1_000_000, 3_600_000_000_000])
def test_a_jump_is_followed_at_once_and_counted(jump_ns: int) -> None:
    player = Player()
    player.play(1024)
    assert player.count("jumps") == 0
    player.block(128, jump_ns)
    assert player.desk.clock[BEGIN_NS] == pytest.approx(player.at_ns(1024) + jump_ns, abs=1)
    assert player.desk.clock[NEXT_NS] == pytest.approx(player.at_ns(1024 + 128) + jump_ns, abs=1)
    player.block(128, jump_ns)
    assert player.count("jumps") == 1


# Offers and the shelf.


def test_a_note_begins_from_the_nearest_table_on_the_shelf() -> None:
    for f0_hz, slot in ((100.0, 0), (300.0, 0), (320.0, 1), (5000.0, 1)):  # sqrt(220 * 440) = 311
        player = Player()
        player.shelve(3, 0, DARK, 220.0)
        player.shelve(1, 1, DARK, 440.0)
        player.start(0, 1, f0_hz)
        player.play(128)
        assert player.desk.state.voice[0]["slot"] == slot
        assert (player.count("from_shelf"), player.count("from_offer")) == (1, 0)


def test_without_a_table_a_note_is_silent_and_counted() -> None:
    player = Player()
    player.start(0, 1)
    assert not player.play(512).any()
    assert player.count("without_table") == 1
    player.shelve(0, 0, DARK)
    player.start(0, 2)
    assert player.play(512).any()


def test_a_note_whose_frames_are_there_begins_with_them() -> None:
    player = with_tone()
    player.offer(1, 5, 3, BRIGHT)
    player.start(1, 5)
    player.play(512)
    assert player.desk.state.voice[1]["slot"] == 3
    assert (player.count("from_shelf"), player.count("from_offer"), player.count("morphs")) == (0, 1, 0)


def test_an_offer_crossfades_once_without_a_click() -> None:
    player = with_tone()
    player.start(0, 1)
    audio = [player.play(RATE_HZ // 4)]
    player.offer(0, 1, 5, BRIGHT)
    audio.append(player.play(RATE_HZ // 2))
    assert player.count("morphs") == 1
    alone = Player()
    alone.shelve(0, 0, BRIGHT)
    alone.start(0, 1)
    wanted = alone.play(RATE_HZ // 4 + RATE_HZ // 2)[-9600:]
    assert level(audio[1][-9600:]).rms_dbfs == pytest.approx(level(wanted).rms_dbfs, abs=0.1)
    player.offer(0, 1, 6, DARK)
    audio.append(player.play(RATE_HZ // 4))
    assert player.count("morphs") == 2
    player.do(RELEASE, 0, 1)
    audio.append(player.play(RATE_HZ // 2))
    assert clicks(np.concatenate(audio), RATE_HZ, GRID.limit_hz) == []


@pytest.mark.parametrize("note", [1, 3])
def test_an_offer_for_another_note_is_left_alone(note: int) -> None:
    player = with_tone()
    player.start(0, 2)
    player.play(512)
    player.offer(0, note, 5, BRIGHT)
    player.play(512)
    assert player.count("morphs") == 0
    assert player.desk.state.voice[0]["slot"] == 0


def test_muting_silences_the_note_that_sounds_and_no_other() -> None:
    player = with_tone()
    player.start(0, 1)
    player.start(1, 2)
    audio = [player.play(RATE_HZ // 4)]
    hand_over(player.desk.offer, 0, 1 << 8 | MUTE)
    audio.append(player.play(RATE_HZ // 4))
    assert player.desk.state.voice["active"].tolist()[:2] == [False, True]
    assert player.count("muted") == 1
    player.do(RELEASE, 1, 2)
    audio.append(player.play(RATE_HZ // 2))
    assert clicks(np.concatenate(audio), RATE_HZ, GRID.limit_hz) == []
    player.start(0, 3)
    assert player.play(512).any()
    assert player.count("muted") == 1


def test_a_note_muted_before_it_begins_never_sounds() -> None:
    player = with_tone()
    hand_over(player.desk.offer, 0, 1 << 8 | MUTE)
    player.start(0, 1)
    assert not player.play(1024).any()
    assert player.count("muted") == 1


# What is broken.


@settings(max_examples=40)
@given(
    field=st.sampled_from(
        ["cells", "rate_hz", "loop_start", "loop_end", "f0_hz", "limit_hz", "decay", "envelope"]
    ),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30]),
    sounding=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_nothing_broken_in_a_table_ever_leaves(field: str, value: float, sounding: bool, seed: int) -> None:
    player = with_tone()
    state = player.desk.state
    fill(state, 1, BRIGHT, 440.0, GRID)
    hand_over(player.desk.offer, 1, 2 << 8 | 2)
    player.start(0, 1)
    pieces = []
    if sounding:
        player.start(1, 2)
        pieces.append(player.play(1024))
    if field == "cells":
        broken = np.random.default_rng(seed).random(state.cells.shape[1]) < 0.1
        state.cells[1, broken] = value
    elif field in {"decay", "envelope"}:
        getattr(state, field)[1, seed % 40] = value
    else:
        state.table[1][field] = value
    if not sounding:
        player.start(1, 2)
    pieces.append(player.play(RATE_HZ // 10))
    player.do(BEND, 1, 2, f0_hz=500.0)
    pieces.append(player.play(4096))
    player.offer(1, 2, 2, DARK)  # the next table is sound
    pieces.append(player.play(4096))
    audio = np.concatenate(pieces)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() <= 1
    # And the voice may be used again.
    player.do(KILL, 0, 1)
    player.do(KILL, 1, 2)
    player.play(512)
    player.start(1, 3)
    np.testing.assert_allclose(player.play(2048), from_its_beginning(2048), atol=1e-5)


def test_a_note_that_is_not_a_number_is_muted_and_the_others_go_on() -> None:
    alone, player = with_tone(), with_tone()
    fill(player.desk.state, 1, BRIGHT, 440.0, GRID)
    hand_over(player.desk.offer, 1, 2 << 8 | 2)
    alone.start(0, 1)
    player.start(0, 1)
    player.start(1, 2)
    player.play(4096)
    alone.play(4096)
    # A pitch that is not a number reaches every sample; a cell would silence its partial alone.
    player.desk.state.voice[1]["gain"] = np.nan
    after, expected = player.play(4096), alone.play(4096)
    np.testing.assert_allclose(after[128:], expected[128:], atol=1e-6)
    assert player.count("muted") == 1
    assert np.isfinite(after).all()
    assert player.desk.state.voice["active"].tolist()[:2] == [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_silent_and_counted(value: float) -> None:
    player = Player()
    player.desk.state.tail[5] = value
    assert not player.block(64).any()
    assert player.count("not_finite") == 2
    player.block(512)
    assert player.count("not_finite") == 2


# The output stage; the tail of stolen voices is the way in for samples of our own.


def through_the_output(samples: np.ndarray, gain: float = 1.0) -> tuple[Player, np.ndarray]:
    player = Player()
    player.desk.master[GAIN] = player.desk.master[GAIN_GOAL] = gain
    player.desk.state.tail[: len(samples)] = samples[:, None]
    return player, player.block(FADE_SAMPLES)[: len(samples), 0]


@given(
    st.lists(
        st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False),
        min_size=2,
        max_size=FADE_SAMPLES,
    )
)
def test_the_limiter_is_monotone_leaves_quiet_alone_and_never_passes_one(values: list[float]) -> None:
    samples = np.sort(np.array(values, np.float32))
    player, out = through_the_output(samples)
    quiet = np.abs(samples) <= np.float32(KNEE)
    np.testing.assert_array_equal(out[quiet], samples[quiet])
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1
    assert (np.diff(out) >= -np.spacing(np.float32(1))).all(), "but for rounding"
    assert (np.sign(out) == np.sign(samples)).all()
    assert player.count("overloads") == (not quiet.all())


def test_the_limiter_bends_softly_at_its_knee() -> None:
    samples = np.linspace(KNEE - 0.05, KNEE + 0.05, FADE_SAMPLES).astype(np.float32)
    _, out = through_the_output(samples)
    slope = np.diff(out) / np.diff(samples)
    assert slope[0] == pytest.approx(1, abs=1e-3)
    assert (np.abs(np.diff(slope)) < 0.01).all(), "no corner"


def test_the_master_gain_walks_to_its_goal_and_no_further() -> None:
    player = Player()
    player.desk.master[GAIN], player.desk.master[GAIN_GOAL], player.desk.master[GAIN_STEP] = 1.0, 0.0, 0.01
    player.desk.state.tail[:] = 0.5
    out = player.block(FADE_SAMPLES)[:, 0]
    np.testing.assert_allclose(out[:99], 0.5 * (1 - 0.01 * np.arange(1, 100)), atol=1e-6)
    assert np.abs(out[101:]).max() == 0
    assert player.desk.master[GAIN] == 0
    player.desk.master[GAIN_GOAL], player.desk.master[GAIN_STEP] = 0.25, 0.1
    player.desk.state.tail[:] = 0.5
    np.testing.assert_allclose(player.block(64)[3:, 0], 0.125, atol=1e-6)


def test_what_is_captured_is_what_left_all_the_way_round_the_ring() -> None:
    player = with_tone()
    player.desk.master[CAPTURING] = 1
    player.start(0, 1)
    fetched, left = [], []
    while player.samples < 2.5 * CAPTURE_SAMPLES:
        left.append(player.play(50 * 500, 500))
        read, written = int(player.desk.captured[READ]), int(player.desk.captured[WRITTEN])
        fetched.append(player.desk.capture[np.arange(read, written) % CAPTURE_SAMPLES].copy())
        player.desk.captured[READ] = written
    np.testing.assert_array_equal(np.concatenate(fetched), np.concatenate(left))
    assert player.count("capture_lost_samples") == 0


def test_what_nobody_fetches_is_lost_and_counted_and_nothing_is_overwritten() -> None:
    player = with_tone()
    player.desk.master[CAPTURING] = 1
    player.start(0, 1)
    blocks = CAPTURE_SAMPLES // 500 + 3
    left = player.play(blocks * 500, 500)
    written = int(player.desk.captured[WRITTEN])
    assert written == (blocks - 3) * 500
    assert player.count("capture_lost_samples") == 3 * 500
    np.testing.assert_array_equal(player.desk.capture[:written], left[:written])
    player.desk.captured[READ] = written
    again = player.play(500, 500)
    np.testing.assert_array_equal(
        player.desk.capture[np.arange(written, written + 500) % CAPTURE_SAMPLES], again
    )
    assert player.count("capture_lost_samples") == 3 * 500


def test_nothing_is_captured_unless_somebody_asked() -> None:
    player = with_tone()
    player.start(0, 1)
    player.play(1024)
    assert player.desk.captured[WRITTEN] == 0
    assert not player.desk.capture.any()


# Slots.


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offer", "shelve", "start", "kill", "block"]),
            st.integers(0, 3),
            st.integers(0, SHELF - 1),
        ),
        max_size=80,
    )
)
def test_a_free_slot_is_never_one_that_could_still_be_heard(steps: list[tuple[str, int, int]]) -> None:
    player = Player()
    desk = player.desk
    silent = NoteFrames(
        np.full((1, 1), -60, np.float32), np.ones((1, 1), np.float32), np.zeros(1, np.float32), 0, 0
    )
    retired: dict[int, int] = {}
    left: dict[int, int] = {}  # slot -> blocks when it left shelf or offer; ours, never forgotten
    note, sent = 0, dict.fromkeys(range(4), 0)
    for what, voice, place in steps:
        free = free_slots(desk, retired)
        blocks = player.count("blocks")
        heard = {int(v["slot"]) for v in desk.state.voice if v["active"]}
        offered = {(int(word) & 255) - 1 for word in desk.offer if word}
        shelved = {int(word) - 1 for word in desk.shelf if word}
        fresh = {slot for slot, at in left.items() if blocks < at + 2}
        assert not set(free) & (heard | offered | shelved | fresh)
        assert set(free) | heard | offered | shelved | fresh == set(range(SLOTS)), "none is lost"
        before = -1
        if what == "offer":
            before = (int(desk.offer[voice]) & 255) - 1
            player.offer(voice, sent[voice], free[0], silent)
        elif what == "shelve":
            before = int(desk.shelf[place]) - 1
            player.shelve(place, free[0], silent)
        elif what == "start":
            note += 1
            sent[voice] = note
            player.start(voice, note)
        elif what == "kill":
            player.do(KILL, voice, sent[voice])
        else:
            player.block(64)
        if before >= 0:
            retired[before] = left[before] = blocks


# Memory and the address that PortAudio calls.


def test_whoever_lays_out_the_same_memory_sees_the_same_desk() -> None:
    player = with_tone()
    player.start(2, 7)
    player.play(256)
    other = lay_out(player.memory, 4)
    assert counted(other) == counted(player.desk)
    assert other.state.voice[2]["note"] == 7
    other.settings[3] = 0.25
    assert player.desk.settings[3] == 0.25


def test_the_callback_finds_every_array_where_it_was_laid() -> None:
    player = Player()
    found = open_desk(address(player.memory))
    mine = [*player.desk.state, *player.desk[1:]]
    theirs = [*found[0], *found[1:]]
    assert len(mine) == len(theirs) == len(desk_shapes(4, RATE_HZ))
    for ours, array in zip(mine, theirs, strict=True):
        assert (ours.ctypes.data, ours.shape, ours.dtype) == (array.ctypes.data, array.shape, array.dtype)


def test_no_two_arrays_share_a_cache_line_and_none_leaves_the_memory() -> None:
    player = Player()
    ends = sorted(
        (array.ctypes.data, array.ctypes.data + array.nbytes)
        for array in [*player.desk.state, *player.desk[1:]]
    )
    base = address(player.memory)
    assert ends[-1][1] <= base + memory_size(4)
    for (_, end), (begin, _) in pairwise(ends):
        assert end <= begin
        assert (begin - base) % 64 == 0


def test_counts_have_a_place_each() -> None:
    assert len(set(COUNTS)) == len(COUNTS) <= 64
    assert [N[name] for name in COUNTS] == list(range(len(COUNTS)))


PaStreamCallback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)


def test_the_address_is_a_portaudio_callback() -> None:
    player = with_tone()
    call = PaStreamCallback(callback().address)
    out = np.full((130, 2), 7.0, np.float32)
    # What lies behind the block is somebody else's.
    assert push(player.desk, 0, START, 0, 1, 440.0, 0.2, 0.0, 0.1, 7)
    heard = []
    for flags in (0, OUTPUT_UNDERFLOW, 0):
        assert call(None, out.ctypes.data, 128, None, flags, address(player.memory)) == 0
        heard.append(out[:128].copy())
        assert (out[128:] == 7.0).all()
    assert np.abs(np.concatenate(heard)).max() > 0.05
    counts = counted(player.desk)
    assert (counts["blocks"], counts["samples"], counts["underruns"]) == (3, 384, 1)
    assert counts["late_events"] == 1  # its time was long ago
    assert player.desk.durations.sum() == 3
    assert 0 < counts["callback_max_ns"] <= counts["callback_ns"]


HOLD_MS = 200


def hold_the_gil(milliseconds: int) -> None:
    """A call into C that keeps the lock, as a careless extension module would."""
    ctypes.PyDLL(None).usleep(milliseconds * 1000)


def test_blocks_go_on_while_another_thread_holds_the_interpreter() -> None:
    player = with_tone()
    output = NullOutput(RATE_HZ, 128, callback().address, address(player.memory))
    assert push(player.desk, 0, START, 0, 1, 440.0, 0.2, 0.0, 0.1, 7)
    counts = player.desk.counts
    output.start()
    try:
        while not counts[N["blocks"]]:
            time.sleep(0.001)
        before = int(counts[N["blocks"]])
        hold_the_gil(HOLD_MS)  # no other thread of ours wants it, so nothing passes between here and there
        during = int(counts[N["blocks"]]) - before
        # The planted fault: whatever is written in Python stands still meanwhile.
        ticks: list[int] = []
        going = threading.Event()

        def tick() -> None:
            while not going.is_set():
                ticks.append(time.monotonic_ns())
                time.sleep(0.001)

        watcher = threading.Thread(target=tick)
        watcher.start()
        while not ticks:
            time.sleep(0.001)
        hold_the_gil(HOLD_MS)
        going.set()
        watcher.join()
    finally:
        output.stop()
    assert max(after - at for at, after in pairwise([*ticks, time.monotonic_ns()])) > 0.9 * HOLD_MS * 1e6
    # 75 were due; a machine under load may hold up any thread.
    assert during > HOLD_MS * RATE_HZ / 128 / 1000 / 4
    assert not output.running


# Clicks.


def test_a_stolen_voice_does_not_click_and_one_that_is_torn_out_does() -> None:
    for torn in (False, True):
        player = with_tone()
        player.start(0, 1, 220.0)
        audio = [player.play(RATE_HZ // 4)]
        if torn:  # so that the ear is known to hear it
            player.desk.state.voice[0]["active"] = False
        for note, f0_hz in enumerate((660.0, 275.0, 2000.0), 2):
            player.start(0, note, f0_hz)
            audio.append(player.play(RATE_HZ // 5 - RATE_HZ // 5 % 128))
        player.do(RELEASE, 0, 4)
        audio.append(player.play(RATE_HZ // 2))
        assert bool(clicks(np.concatenate(audio), RATE_HZ, GRID.limit_hz)) == torn


WHILE_VOICES_COME_AND_GO = """
import threading, time
import numpy as np
from device.compiled import compiled
from device.engine import free_slots, make, memory_size

@compiled(nogil=True)
def play(voice, order):
    while order[0] == 0:
        for v in range(len(voice)):
            voice[v].active = (order[1] >> v) & 1 == 1
        order[1] += 1

desk = make(np.zeros(memory_size(16), np.uint8), 16)
order = np.zeros(2, np.int64)
thread = threading.Thread(target=play, args=(desk.state.voice, order))
thread.start()
while order[1] == 0:
    time.sleep(0.01)
for _ in range(50_000):
    free_slots(desk, {})
order[0] = 1
thread.join()
"""


def test_slots_are_sought_while_voices_come_and_go() -> None:
    """In a process of its own: with a live mask numpy wrote past its end, and the process died within a second."""
    done = subprocess.run(
        [sys.executable, "-c", WHILE_VOICES_COME_AND_GO],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
