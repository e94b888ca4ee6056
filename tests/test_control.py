"""The control process's hands: what is played becomes events, wishes and settings, and then sound."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from device.control import NOTES_PER_START, Control, Layout
from device.engine import (
    BEND,
    EVENTS,
    KILL,
    LEVEL,
    READ,
    RELEASE,
    SAMPLE_RATE_HZ,
    SETTINGS,
    SETTINGS_EPOCH,
    START,
    WRITTEN,
    Desk,
    advance,
    counted,
    hand_over,
    make,
    memory_size,
)
from device.hands import GLIDE_SEMITONES, UNISON_CENTS, UNISON_PAN
from device.partials import NoteFrames, Partials, nominal_hz
from device.patch import Patch
from device.recording import clicks, level, pitch_cents
from device.voices import fill

RATE_HZ = SAMPLE_RATE_HZ
BLOCK = 128
K = np.arange(1.0, 21.0)[:, None]
TONE = NoteFrames(
    np.broadcast_to(-20 * np.log10(K) - 3, (20, 128)).astype(np.float32),
    np.broadcast_to(K, (20, 128)).astype(np.float32),
    np.zeros(20, np.float32),
    50,
    124,
)
PLAIN = Patch(release_s=0.1)
MONO = dataclasses.replace(PLAIN, mono=True)
NAMES = ("Bright", "Breath", "Wood")


class Played:
    """Hands on a desk whose shelf has one table, and a clock that renders what they play."""

    def __init__(self, patch: Patch = PLAIN, voices: int = 4) -> None:
        self.desk: Desk = make(np.zeros(memory_size(voices), np.uint8), voices)
        fill(self.desk.state, 0, TONE, 440.0, Partials())
        hand_over(self.desk.shelf, 0, 1)
        self.layout = Layout(7, patch, NAMES, (36.0, 84.0))
        self.samples = RATE_HZ
        self._seen = 0
        self._hands = Control(self.desk, self.layout)

    @property
    def now_ns(self) -> int:
        return self.samples * 1_000_000_000 // RATE_HZ

    @property
    def hands(self) -> Control:
        """The hands, at the present."""
        self._hands.at_ns = self.now_ns
        return self._hands

    def begin_anew(self) -> None:
        """What a control process that ended is replaced by."""
        self._hands = Control(self.desk, self.layout)

    def sent(self) -> list[np.void]:
        """The events since the last call."""
        first, self._seen = self._seen, int(self.desk.cursor[WRITTEN])
        return [self.desk.events[n % EVENTS].copy() for n in range(first, self._seen)]

    def kinds(self) -> list[tuple[int, int]]:
        return [(int(event["kind"]), int(event["voice"])) for event in self.sent()]

    def render(self, seconds: float = BLOCK / RATE_HZ) -> np.ndarray:
        pieces = []
        for _ in range(max(round(seconds * RATE_HZ / BLOCK), 1)):
            pieces.append(np.zeros((BLOCK, 2), np.float32))
            advance(self.desk, pieces[-1], self.now_ns)
            self.samples += BLOCK
        return np.concatenate(pieces)

    def count(self, name: str) -> int:
        return counted(self.desk)[name]

    def held(self) -> list[float]:
        """Pitches (MIDI) of voices that sound and are not released."""
        return sorted(
            round(69 + 12 * float(np.log2(voice["f0_goal_hz"] / 440)), 2)
            for voice in self.desk.state.voice
            if voice["active"] and not voice["released"]
        )


# Events.


def test_a_key_is_a_start_with_its_time_pitch_and_gain_and_a_wish_for_its_frames() -> None:
    played = Played()
    played.hands.note_on(1, 61.5, 0.5)
    (event,) = played.sent()
    assert (event["kind"], event["voice"], event["time_ns"]) == (START, 0, played.now_ns)
    assert event["f0_hz"] == pytest.approx(nominal_hz(61.5))
    assert event["gain"] == pytest.approx(10 ** (PLAIN.level_db / 20) * 0.5**PLAIN.velocity_curve)
    assert event["seconds"] == PLAIN.release_s
    wish = played.desk.wish[0]
    assert wish["note"] == event["note"] > 0
    assert (wish["pitch_midi"], wish["velocity"], wish["epoch"], wish["latent"]) == (61.5, 0.5, 7, 0)
    assert (wish["seed"], wish["time_ns"]) == (event["seed"], played.now_ns)


def test_keys_pedal_bend_level_and_silence_become_the_events_they_mean() -> None:
    played = Played()
    played.hands.note_on(60, 60.0, 0.8)
    played.hands.note_on(64, 64.0, 0.8)
    played.render()
    assert played.kinds() == [(START, 0), (START, 1)]
    played.hands.pedal(True)
    played.hands.note_off(60)
    assert played.kinds() == []
    played.hands.bend(2.0)
    assert played.kinds() == [(BEND, 0), (BEND, 1)]
    played.hands.level(0.5)
    assert played.kinds() == [(LEVEL, 0), (LEVEL, 1)]
    played.hands.pedal(False)
    assert played.kinds() == [(RELEASE, 0)]
    played.hands.silence()
    assert played.kinds() == [(KILL, 0), (KILL, 1)]
    played.render(0.05)
    assert not played.desk.state.voice["active"].any()


def test_every_event_names_the_note_that_it_is_for() -> None:
    played = Played(voices=1)
    notes = []
    for key in (60, 62, 64):
        played.hands.note_on(key, key, 0.8)
        played.hands.note_off(key)
        start, release = played.sent()[-2:]
        assert start["note"] == release["note"]
        notes.append(int(start["note"]))
    assert notes == sorted(set(notes))


def test_a_small_bend_keeps_the_frames_and_a_large_one_wishes_for_others() -> None:
    played = Played()
    played.hands.note_on(60, 60.0, 0.8)
    played.render()
    first = played.desk.wish[0].copy()
    played.hands.bend(0.9 * GLIDE_SEMITONES)
    assert played.desk.wish[0] == first
    played.hands.bend(1.1 * GLIDE_SEMITONES)
    assert played.desk.wish[0]["pitch_midi"] == pytest.approx(60 + 1.1 * GLIDE_SEMITONES)
    assert played.desk.wish[0]["note"] == first["note"]


def test_a_full_ring_is_counted_and_the_lost_note_leaves_its_voice_free() -> None:
    played = Played()
    played.hands.note_on(60, 60.0, 0.8)
    while not played.count("lost_events"):
        played.hands.bend(0.1)
    assert played.desk.cursor[WRITTEN] - played.desk.cursor[READ] == EVENTS
    for key in range(61, 75):
        played.hands.note_on(key, key, 0.8)
    played.render()
    assert played.held() == [60.1]
    lost = played.count("lost_events")
    for key in (40, 43, 47):
        played.hands.note_on(key, key, 0.8)
    played.render()
    assert played.held() == [40.1, 43.1, 47.1, 60.1]
    assert played.count("lost_events") == lost
    assert played.count("stolen") == 0


def test_a_release_that_the_ring_had_no_place_for_is_sent_again() -> None:
    played = Played()
    played.hands.note_on(60, 60.0, 0.8)
    played.render()
    while not played.count("lost_events"):
        played.hands.bend(0.1)
    played.hands.note_off(60)
    played.hands.catch_up()  # still full
    played.render(0.5)
    assert played.held() == [60.1]
    played.hands.catch_up()
    played.render(0.5)
    assert not played.desk.state.voice["active"].any()
    sent = int(played.desk.cursor[WRITTEN])
    played.hands.catch_up()
    assert played.desk.cursor[WRITTEN] == sent


# Poly, mono, legato, unison.


def test_poly_plays_every_key_at_its_pitch() -> None:
    played = Played()
    for key in (48, 60, 67):
        played.hands.note_on(key, key, 0.8)
    played.render()
    assert played.held() == [48, 60, 67]
    played.hands.note_off(60)
    played.render()
    assert played.held() == [48, 67]


def test_mono_begins_anew_and_legato_bends() -> None:
    for legato, wanted in ((False, [(RELEASE, 0), (START, 1)]), (True, [(BEND, 0)])):
        played = Played(dataclasses.replace(MONO, legato=legato))
        played.hands.note_on(60, 60.0, 0.8)
        sound = [played.render(0.2)]
        played.sent()
        played.hands.note_on(64, 64.0, 0.8)
        assert played.kinds() == wanted
        sound.append(played.render(0.2))
        assert played.held() == [64]
        held = played.render(1.0)
        assert abs(pitch_cents(held, RATE_HZ, nominal_hz(64))) < 2
        played.hands.note_off(64)  # the other key is still down
        sound += [held, played.render(0.3)]
        assert played.held() == [60]
        played.hands.note_off(60)
        sound.append(played.render(0.5))
        assert not played.desk.state.voice["active"].any()
        assert clicks(np.concatenate(sound), RATE_HZ, 16_000) == []


def test_a_glide_begins_at_the_last_pitch_and_arrives() -> None:
    played = Played(dataclasses.replace(MONO, glide_s=0.2))
    played.hands.note_on(60, 60.0, 0.8)
    played.render(0.1)
    played.hands.note_off(60)
    played.render(0.3)
    played.sent()
    played.hands.note_on(67, 67.0, 0.8)
    start, bend = played.sent()
    assert start["f0_hz"] == pytest.approx(nominal_hz(60))
    assert (bend["kind"], bend["seconds"]) == (BEND, 0.2)
    assert bend["f0_hz"] == pytest.approx(nominal_hz(67))
    played.render(0.4)
    assert abs(pitch_cents(played.render(1.0), RATE_HZ, nominal_hz(67))) < 2


def test_unison_is_two_voices_left_and_right() -> None:
    played = Played(dataclasses.replace(PLAIN, unison=True))
    played.hands.note_on(60, 60.0, 0.8)
    left, right = played.sent()
    assert (left["pan"], right["pan"]) == (-UNISON_PAN, UNISON_PAN)
    assert 1200 * np.log2(right["f0_hz"] / left["f0_hz"]) == pytest.approx(2 * UNISON_CENTS)
    assert left["seed"] != right["seed"]
    assert played.desk.wish["latent"][:2].tolist() == [0, 1]
    played.render()
    played.hands.note_off(60)
    played.render(0.5)
    assert not played.desk.state.voice["active"].any()


# Stealing.


def test_the_first_released_is_stolen_then_the_first_pressed_and_both_are_counted() -> None:
    played = Played(dataclasses.replace(PLAIN, release_s=5.0))
    sound = []
    for key in (50, 53, 57, 60):
        played.hands.note_on(key, key, 0.8)
        sound.append(played.render(0.1))
    played.hands.note_off(57)
    played.hands.note_off(50)
    for key, held in ((64, [53, 60, 64]), (67, [53, 60, 64, 67]), (71, [60, 64, 67, 71])):
        played.hands.note_on(key, key, 0.8)
        sound.append(played.render(0.1))
        assert played.held() == held
    assert (played.count("stolen"), played.count("stolen_held")) == (3, 1)
    played.hands.silence()
    sound.append(played.render(0.3))
    assert clicks(np.concatenate(sound), RATE_HZ, 16_000) == []


def test_a_voice_that_has_been_sent_a_note_is_taken_before_it_sounds() -> None:
    played = Played()
    for key in (60, 62, 64, 65):  # all within a block: the callback has seen none of them
        played.hands.note_on(key, key, 0.8)
    assert sorted(voice for _, voice in played.kinds()) == [0, 1, 2, 3]
    played.hands.note_on(67, 67.0, 0.8)
    assert played.count("stolen") == 1
    played.render()
    assert played.held() == [62, 64, 65, 67]


def test_a_voice_is_free_again_when_its_note_has_rung_out() -> None:
    played = Played(voices=1)
    for key in (60, 62, 64):
        played.hands.note_on(key, key, 0.8)
        played.render(0.1)
        played.hands.note_off(key)
        played.render(0.5)
    assert played.count("stolen") == 0
    assert played.count("notes") == 3


# Settings for the worker.


def test_a_knob_is_written_down_and_the_version_says_so() -> None:
    played = Played()
    desk = played.desk
    assert np.isnan(desk.settings).all()
    assert desk.version[SETTINGS_EPOCH] == 7
    version = int(desk.version[SETTINGS])
    played.hands.set_attribute("Breath", 0.25)
    assert (desk.settings[1], desk.carries[1]) == (0.25, PLAIN.carry)
    assert desk.version[SETTINGS] == version + 1
    played.hands.set_attribute("Breath", 0.25)
    assert desk.version[SETTINGS] == version + 1, "nothing moved"
    played.hands.set_attribute("Breath", 0.25, carry=not PLAIN.carry)
    assert (desk.carries[1], desk.version[SETTINGS]) == (not PLAIN.carry, version + 2)
    played.hands.set_attribute("No such knob", 0.5)
    assert desk.version[SETTINGS] == version + 2
    assert np.isnan(desk.settings[[0, 2]]).all()


def test_expected_pitches_are_told() -> None:
    played = Played()
    played.hands.expect((61.25,))
    assert played.desk.expected[0] == 61.25
    assert not played.desk.expected[1:].any()


# Another patch or bundle, another process.


def test_another_bundle_lets_what_sounds_ring_out_and_numbers_its_knobs_anew() -> None:
    played = Played()
    played.hands.pedal(True)
    played.hands.note_on(60, 60.0, 0.8)
    played.hands.set_attribute("Wood", 0.9)
    played.render()
    played.sent()
    played.hands.set_up(Layout(8, MONO, ("Wood",), (48.0, 72.0)))
    assert played.kinds() == [(RELEASE, 0)]
    assert np.isnan(played.desk.settings).all()
    assert played.desk.version[SETTINGS_EPOCH] == 8
    played.hands.set_attribute("Wood", 0.4)
    assert played.desk.settings[0] == np.float32(0.4)
    played.hands.note_on(62, 62.0, 0.8)
    assert played.desk.wish[1]["epoch"] == 8
    played.render()
    played.hands.note_on(64, 64.0, 0.8)
    assert played.kinds()[-1][0] == BEND, "mono now, and legato"


def test_hands_that_are_started_anew_use_no_number_of_the_last_ones() -> None:
    played = Played()
    played.hands.note_on(60, 60.0, 0.8)
    before = int(played.sent()[0]["note"])
    played.render()
    played.begin_anew()
    assert played.count("control_starts") == 2
    played.hands.note_on(62, 62.0, 0.8)
    after = int(played.sent()[0]["note"])
    assert after // NOTES_PER_START > before // NOTES_PER_START
    played.render()
    assert 62 in played.held()
    # Words of the offers hold the number and eight bits of the slot: there is room for two billion starts.
    assert after << 8 < 2**62


@pytest.mark.parametrize("patch", [PLAIN, MONO, dataclasses.replace(PLAIN, unison=True)])
def test_whatever_was_played_finishing_leaves_nothing_sounding(patch: Patch) -> None:
    played = Played(patch)
    rng = np.random.default_rng(5)
    down: list[int] = []
    for _ in range(200):
        chance = rng.random()
        if chance < 0.5:
            down.append(int(rng.integers(40, 90)))
            played.hands.note_on(down[-1], down[-1], float(rng.uniform(0.1, 1)), int(rng.integers(0, 2)))
        elif chance < 0.8 and down:
            played.hands.note_off(down.pop(int(rng.integers(0, len(down)))), int(rng.integers(0, 2)))
        elif chance < 0.9:
            played.hands.pedal(bool(rng.integers(0, 2)), int(rng.integers(0, 2)))
        else:
            played.hands.bend(float(rng.uniform(-2, 2)))
        played.render(float(rng.uniform(0, 0.02)))
    played.hands.finish()
    played.render(0.5)
    assert not played.desk.state.voice["active"].any()
    assert played.count("lost_events") == 0


def test_the_channel_gain_is_heard() -> None:
    played = Played()
    played.hands.note_on(60, 60.0, 1.0)
    played.render(0.2)
    loud_db = level(played.render(0.5)).rms_dbfs
    played.hands.level(0.25)
    played.render(0.2)
    assert level(played.render(0.5)).rms_dbfs == pytest.approx(loud_db - 12.04, abs=0.1)
