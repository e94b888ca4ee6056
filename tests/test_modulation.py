"""Knobs that set, routes that add, slow waves and envelopes, sounds that are kept, recalled and morphed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.hands import Hands, Voice
from device.modulation import (
    CATCH,
    STEP_S,
    Modulation,
    Preset,
    Sound,
    sound_from_json,
    sound_to_json,
)
from device.patch import LATENTS, SETTING_MAX, Envelope, Knob, Latent, Lfo, Patch, Route
from device.timbre import latent_of

NAMES = ("Trumpet", "Bell", "Organ")
SIZE = 16
STEP_NS = round(STEP_S * 1e9)


def preset(name: str, seed: int) -> Preset:
    chance = np.random.default_rng(seed)
    labels, positions = chance.uniform(0.1, 0.9, (2, len(NAMES))).astype(np.float32)
    return Preset(name, labels, chance.standard_normal(SIZE).astype(np.float32), positions)


PRESETS = (preset("Reed", 1), preset("Harp", 2))


class Played(Hands):
    """Hands that only remember what they were told."""

    def __init__(self) -> None:
        super().__init__(Patch(), (36.0, 84.0), 4)
        self.settings: dict[str, tuple[float, bool | None]] = {}
        self.stood: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self.shifts: list[float] = []
        self.trims: list[float] = []
        self.stands = 0

    def set_attribute(self, name: str, setting: float, carry: bool | None = None) -> None:
        assert 0 <= setting <= SETTING_MAX
        self.settings[name] = (setting, carry)

    def unset_attributes(self) -> None:
        self.settings.clear()

    def stand(self, base: object, z: object, shift: object) -> None:
        assert isinstance(base, np.ndarray)
        assert isinstance(z, np.ndarray)
        assert isinstance(shift, np.ndarray)
        self.stood = (base, z, shift)
        self.stands += 1

    def stretch(self, octaves: float) -> None:
        super().stretch(octaves)
        self.release_s = self._release_s

    def shift(self, semitones: float) -> None:
        self.shifts.append(semitones)

    def trim(self, gain: float) -> None:
        self.trims.append(gain)

    def _now_s(self) -> float:
        return 0.0

    def _sounds(self, v: int) -> bool:
        return self._voices[v] is not None

    def _start(self, v: int, voice: Voice, f0_hz: float) -> None: ...

    def _retune(self, v: int, voice: Voice, glide_s: float) -> None: ...

    def _regain(self, v: int, voice: Voice) -> None: ...

    def _release(self, v: int) -> None:
        self._voices[v] = None

    def _kill(self, v: int) -> None:
        self._voices[v] = None


@dataclass
class Rig:
    patch: Patch = field(default_factory=Patch)
    knobs: tuple[str | None, ...] = ("Trumpet", "Bell", None)
    learned: dict[int, Knob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.player = Played()
        self.modulation = Modulation(self.player, self.patch, NAMES, PRESETS, self.knobs, self.learned)
        self.now_ns = 0

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_ns += STEP_NS
            self.modulation.step(self.now_ns)

    def at(self, name: str) -> float:
        return self.player.settings[name][0]


def routed(source: str, to: str, depth: float, **more: object) -> Patch:
    return Patch(routes=(Route(source, to, depth, **more),))  # type: ignore[arg-type]


# Knobs.


def test_a_knob_sets_its_attribute_at_once_and_one_without_sets_nothing() -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", 0.7)
    rig.modulation.turn("knob.3", 0.9)
    rig.modulation.turn("cc.74", 0.9)
    assert rig.player.settings == {"Trumpet": (0.7, True)}


def test_the_patchs_own_table_of_knobs_and_controllers_comes_first() -> None:
    patch = Patch(knobs={2: Knob("Organ", 0.2, 1.2, 2.0, False)}, cc={1: Knob("Bell", 1.0, 0.0)}, carry=False)
    rig = Rig(patch)
    rig.modulation.turn("knob.1", 0.7)
    rig.modulation.turn("knob.2", 0.5)
    rig.modulation.turn("cc.1", 0.25)
    assert rig.player.settings == {"Organ": (pytest.approx(0.45), False), "Bell": (0.75, True)}


def test_what_the_patch_sets_is_said_from_the_start() -> None:
    assert Rig(Patch(attributes={"Organ": 1.5})).player.settings == {"Organ": (1.5, True)}


def test_a_knob_that_stands_elsewhere_catches_its_attribute_when_it_passes() -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", 0.2)
    rig.modulation.recall(Sound("Harp", tuple(PRESETS[1].z), {"Trumpet": (0.8, True)}))
    rig.run(0.01)
    assert rig.at("Trumpet") == 0.8
    for position in (0.25, 0.5, 0.7):
        rig.modulation.turn("knob.1", position)
        assert rig.at("Trumpet") == 0.8, "not yet"
    rig.modulation.turn("knob.1", 0.79)
    assert rig.at("Trumpet") == 0.79
    rig.modulation.turn("knob.1", 0.1)
    assert rig.at("Trumpet") == 0.1, "and from there on it has it"


def test_a_fast_hand_that_jumps_over_the_place_catches_it_too() -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", 0.2)
    rig.modulation.recall(Sound("Harp", tuple(PRESETS[1].z), {"Trumpet": (0.6, True)}))
    rig.modulation.turn("knob.1", 0.95)
    assert rig.at("Trumpet") == 0.95


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_after_a_recall_an_attribute_never_leaps_but_to_where_a_knob_has_passed(
    positions: list[float], first: float, recalled: float
) -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", first)
    rig.modulation.recall(Sound("Harp", tuple(PRESETS[1].z), {"Trumpet": (recalled, True)}))
    rig.run(0.01)
    before = first
    for position in positions:
        rig.modulation.turn("knob.1", position)
        if rig.at("Trumpet") != recalled:
            low, high = min(before, position) - CATCH - 1e-6, max(before, position) + CATCH + 1e-6
            assert low <= recalled <= high
            break
        before = position


def test_a_knob_that_nobody_has_heard_of_has_to_catch_what_is_recalled_too() -> None:
    """At the start of a service that resumes, pots are read after the sound is there."""
    rig = Rig()
    rig.modulation.recall(Sound("Harp", tuple(PRESETS[1].z), {"Trumpet": (0.9, True)}))
    rig.run(0.01)
    rig.modulation.turn("knob.1", 0.1)
    assert rig.at("Trumpet") == 0.9
    rig.modulation.turn("knob.1", 0.88)
    assert rig.at("Trumpet") == 0.88


@pytest.mark.parametrize("stands", [0.1, 1.5])
def test_a_knob_catches_what_stands_beyond_its_own_range_at_its_end(stands: float) -> None:
    rig = Rig(Patch(knobs={1: Knob("Trumpet", 0.2, 0.6)}))
    rig.modulation.turn("knob.1", 0.5)
    rig.modulation.recall(Sound("Harp", tuple(PRESETS[1].z), {"Trumpet": (stands, True)}))
    rig.run(0.01)
    rig.modulation.turn("knob.1", 0.55)
    assert rig.at("Trumpet") == stands
    rig.modulation.turn("knob.1", 0.0 if stands < 0.2 else 1.0)
    assert rig.at("Trumpet") == pytest.approx(0.2 if stands < 0.2 else 0.6)


def test_of_two_knobs_of_one_attribute_the_other_has_to_catch_it() -> None:
    rig = Rig(Patch(cc={74: Knob("Trumpet")}))
    rig.modulation.turn("knob.1", 0.2)
    rig.modulation.turn("cc.74", 0.1)
    assert rig.at("Trumpet") == 0.2, "it has to pass that place first, as a knob"
    rig.modulation.turn("cc.74", 1.0)
    rig.modulation.turn("knob.1", 0.21)
    assert rig.at("Trumpet") == 1.0
    rig.modulation.turn("knob.1", 0.99)
    rig.modulation.turn("knob.1", 0.5)
    assert rig.at("Trumpet") == 0.5


@given(
    st.sampled_from(["cc.1", "cv.1", "note", "bend", "lfo", "knob.99", "", "cc.7", "random.1"]),
    st.floats(-1e6, 1e6),
)
def test_no_source_and_no_value_brings_it_down(source: str, value: float) -> None:
    routes = [
        Route(one, to, depth)
        for one in ("cc.1", "cv.1", "note", "bend")
        for to, depth in (("level", 60.0), ("release", 8.0))
    ]
    rig = Rig(Patch(routes=tuple(routes), cc={1: Knob("Bell")}))
    rig.modulation.turn(source, value)
    rig.run(0.02)
    assert len(rig.modulation._values) < 10


def test_whoever_else_sets_an_attribute_makes_the_knob_catch_it() -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", 0.2)
    rig.modulation.set_knob("Trumpet", 0.9, carry=False)
    assert rig.player.settings["Trumpet"] == (0.9, False)
    rig.modulation.turn("knob.1", 0.25)
    assert rig.at("Trumpet") == 0.9


# Routes.


@pytest.mark.parametrize(
    ("route", "value", "amount"),
    [
        (Route("cv.1", "Bell", 0.5), -1.0, -0.5),
        (Route("cv.1", "Bell", 0.5, bipolar=False), -1.0, 0.0),
        (Route("cv.1", "Bell", 0.5, bipolar=False), 1.0, 0.5),
        (Route("velocity", "Bell", 0.5), 0.5, 0.25),
        (Route("velocity", "Bell", 0.5, bipolar=True), 0.25, -0.25),
        (Route("cv.1", "Bell", -2.0, curve=2.0), -0.5, 0.5),
        (Route("cc.1", "Bell", 1.0, curve=0.5), 0.25, 0.5),
    ],
)
def test_what_a_route_adds(route: Route, value: float, amount: float) -> None:
    assert route.amount(value) == pytest.approx(amount)


def test_a_route_adds_to_where_the_knob_stands_and_two_add_up() -> None:
    rig = Rig(Patch(routes=(Route("cv.1", "Bell", 0.5, carry=False), Route("cv.2", "Bell", 0.25))))
    rig.modulation.turn("knob.2", 0.4)
    rig.modulation.turn("cv.1", 0.5)
    rig.modulation.turn("cv.2", -1.0)
    rig.run(0.02)
    assert rig.at("Bell") == pytest.approx(0.4 + 0.25 - 0.25)
    rig.modulation.turn("knob.2", 0.6)
    rig.run(0.01)
    assert rig.at("Bell") == pytest.approx(0.6)


def test_a_route_to_an_attribute_that_nobody_turned_starts_where_the_preset_has_it() -> None:
    rig = Rig(routed("cv.1", "Organ", 0.1))
    rig.modulation.turn("cv.1", 1.0)
    rig.run(0.01)
    assert rig.at("Organ") == pytest.approx(PRESETS[0].positions[2] + 0.1)


@given(st.floats(-1, 1), st.floats(-2, 2), st.floats(0, 2))
def test_an_attribute_stays_within_its_range(value: float, depth: float, stands: float) -> None:
    rig = Rig(Patch(attributes={"Organ": stands}, routes=(Route("cv.1", "Organ", depth),)))
    rig.modulation.turn("cv.1", value)
    rig.run(0.01)  # Played refuses what is out of range


def test_level_in_decibels_and_pitch_in_semitones() -> None:
    rig = Rig(
        Patch(
            routes=(Route("cc.2", "level", -12.0), Route("lfo.1", "pitch", 0.3)), lfos={1: Lfo(rate_hz=5.0)}
        )
    )
    rig.modulation.turn("cc.2", 0.5)
    rig.run(1.0)
    assert rig.player.trims[-1] == pytest.approx(10 ** (-6 / 20))
    assert max(rig.player.shifts) == pytest.approx(0.3, abs=0.02)
    assert min(rig.player.shifts) == pytest.approx(-0.3, abs=0.02)


def test_release_in_octaves_within_what_a_patch_may_have() -> None:
    rig = Rig(Patch(routes=(Route("cv.1", "release", 8.0),)))
    assert rig.player.release_s == pytest.approx(0.15)
    for value, release_s in ((0.0, 0.15), (0.125, 0.3), (-0.25, 0.0375), (1.0, 20.0), (-1.0, 0.005)):
        rig.modulation.turn("cv.1", value)
        rig.run(0.01)
        assert rig.player.release_s == pytest.approx(release_s)


def test_notes_are_sources() -> None:
    rig = Rig(Patch(routes=(Route("note", "Bell", 1.0), Route("velocity", "Organ", 0.5))))
    rig.modulation.turn("knob.2", 0.5)
    rig.player.note_on(90, 90.0, 0.8)
    rig.run(0.01)
    assert rig.at("Bell") == pytest.approx(1.0)
    assert rig.at("Organ") == pytest.approx(PRESETS[0].positions[2] + 0.4)
    rig.modulation.turn("note", 30.0)
    rig.run(0.01)
    assert rig.at("Bell") == pytest.approx(0.0), "a MIDI note number is brought to the same scale"


def test_a_note_begins_with_what_it_moves() -> None:
    rig = Rig(
        Patch(
            routes=(
                Route("velocity", "level", -40.0),
                Route("note", "pitch", 12.0),
                Route("velocity", "Bell", 0.5),
            )
        )
    )
    begun: list[tuple[float, float, float]] = []
    rig.player._start = lambda v, voice, f0_hz: begun.append(  # type: ignore[method-assign]
        (rig.player.trims[-1], rig.player.shifts[-1], rig.at("Bell"))
    )
    rig.player.note_on(90, 90.0, 0.5)
    stands = float(PRESETS[0].positions[1])
    assert begun == [(pytest.approx(0.1), pytest.approx(6.0), pytest.approx(stands + 0.25))]


def test_without_routes_nothing_is_said_twice() -> None:
    rig = Rig()
    rig.run(0.5)
    assert rig.player.stands == 1
    assert rig.player.settings == {}


# Slow waves, envelopes, chance.


def wave(lfo: Lfo, seconds: float = 2.0) -> np.ndarray:
    rig = Rig(Patch(routes=(Route("lfo.1", "pitch", 1.0),), lfos={1: lfo}))
    rig.run(seconds)
    return np.array(rig.player.shifts)


@pytest.mark.parametrize("shape", ["sine", "triangle", "saw", "square", "steps", "walk"])
def test_every_shape_has_its_period_and_its_range(shape: str) -> None:
    values = wave(Lfo(shape, rate_hz=2.0, phase=0.01), 40.0)
    assert np.abs(values).max() <= 1 + 1e-9
    period = round(0.5 / STEP_S)
    if shape in {"steps", "walk"}:
        turns = values[: len(values) // period * period].reshape(-1, period)
        assert len(set(np.round(turns[:, 5], 6))) > len(turns) - 2, "always another one"
        assert (np.ptp(turns[:, 2:-2], axis=1).max() < 1e-9) == (shape == "steps")
        return
    np.testing.assert_allclose(values[period:], values[:-period], atol=0.05)
    assert np.ptp(values) > 1.9
    assert abs(values.mean()) < 0.05


def test_phase_and_restart() -> None:
    assert wave(Lfo("saw", rate_hz=1.0, phase=0.5))[0] == pytest.approx(0.02, abs=0.03)
    rig = Rig(Patch(routes=(Route("lfo.1", "pitch", 1.0),), lfos={1: Lfo("saw", rate_hz=1.0, restart=True)}))
    rig.run(0.7)
    rig.player.note_on(60, 60.0, 0.8)
    rig.run(0.01)
    assert rig.player.shifts[-1] == pytest.approx(-0.98, abs=0.03)


def test_a_wave_in_beats_follows_the_midi_clock() -> None:
    rig = Rig(Patch(routes=(Route("lfo.1", "pitch", 1.0),), lfos={1: Lfo("saw", beats=2.0)}))
    rig.modulation.transport("start", 0)
    clock_ns = round(60 / 90 / 24 * 1e9)  # 90 beats a minute
    next_ns, heard = clock_ns, []
    for _ in range(1200):
        rig.now_ns += STEP_NS
        while next_ns <= rig.now_ns:
            rig.modulation.transport("clock", next_ns)
            next_ns += clock_ns
        rig.modulation.step(rig.now_ns)
        heard.append(rig.player.shifts[-1])
    falls = np.flatnonzero(np.diff(heard) < -1) * STEP_S
    assert np.diff(falls).mean() == pytest.approx(2 * 60 / 90, abs=0.01)
    rig.modulation.transport("stop", next_ns)
    rig.modulation.transport("clock", next_ns)
    rig.run(0.01)
    still = rig.player.shifts[-1]
    rig.run(0.5)
    assert rig.player.shifts[-1] == still, "stopped"
    rig.run(3.0)
    assert np.ptp(rig.player.shifts[-200:]) > 1, "a cable that is pulled: it goes on at the last tempo"


def test_an_envelope_rises_falls_stays_and_goes() -> None:
    envelope = Envelope(attack_s=0.1, decay_s=0.2, sustain=0.4, release_s=0.1)
    rig = Rig(Patch(routes=(Route("envelope.1", "pitch", 1.0),), envelopes={1: envelope}))
    rig.run(0.05)
    assert rig.player.shifts[-1] == 0
    rig.player.note_on(60, 60.0, 0.8)
    rig.run(0.05)
    assert rig.player.shifts[-1] == pytest.approx(0.5, abs=0.11)
    rig.run(0.05)
    assert max(rig.player.shifts) == pytest.approx(1.0)
    rig.run(0.3)
    assert rig.player.shifts[-1] == pytest.approx(0.4)
    rig.player.note_off(60)
    rig.run(0.2)
    assert rig.player.shifts[-1] == 0.0


def test_a_key_that_is_let_go_while_it_rises_falls() -> None:
    envelope = Envelope(attack_s=2.0, decay_s=0.2, sustain=0.5, release_s=1.0)
    rig = Rig(Patch(routes=(Route("envelope.1", "pitch", 1.0),), envelopes={1: envelope}))
    rig.player.note_on(60, 60.0, 0.8)
    rig.run(0.2)
    rig.player.note_off(60)
    rig.run(0.3)
    assert max(rig.player.shifts) == pytest.approx(0.1, abs=0.02)
    assert rig.player.shifts[-1] == 0.0


def test_a_pulse_that_is_over_at_once_still_has_its_attack() -> None:
    envelope = Envelope(attack_s=0.05, decay_s=0.1, sustain=1.0, release_s=0.1)
    rig = Rig(Patch(routes=(Route("envelope.1", "pitch", 1.0),), envelopes={1: envelope}))
    rig.run(0.02)
    rig.player.note_on(60, 60.0, 0.8)
    rig.player.note_off(60)
    rig.run(0.5)
    assert max(rig.player.shifts) == pytest.approx(1.0)
    assert rig.player.shifts[-1] == 0.0


def test_chance_with_every_note_or_so_often() -> None:
    rig = Rig(
        Patch(
            routes=(Route("random.1", "pitch", 1.0), Route("random.2", "Bell", 0.3)),
            randoms={1: 0.0, 2: 10.0},
            attributes={"Bell": 0.5},
        )
    )
    rig.run(0.5)
    assert len(set(rig.player.shifts)) == 1
    heard = []
    for key in range(40):
        rig.player.note_on(key, float(key), 0.8)
        rig.player.note_off(key)
        rig.run(0.01)
        heard.append(rig.player.shifts[-1])
    assert len(set(heard)) == 40
    assert -1 <= min(heard) < -0.5
    assert 0.5 < max(heard) <= 1


# The latent.


def stood(rig: Rig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert rig.player.stood is not None
    return rig.player.stood


def test_the_latent_is_the_presets_or_the_seeds() -> None:
    rig = Rig()
    rig.run(0.01)
    base, z, shift = stood(rig)
    np.testing.assert_array_equal(base, PRESETS[0].attributes)
    np.testing.assert_array_equal(z, PRESETS[0].z)
    assert not shift.any()
    rig = Rig(Patch(preset="Harp", latent_seed=5))
    rig.run(0.01)
    np.testing.assert_array_equal(stood(rig)[1], latent_of(5, SIZE))
    np.testing.assert_array_equal(stood(rig)[0], PRESETS[1].attributes)


def test_directions_are_square_to_each_other_and_in_standard_deviations() -> None:
    shifts = []
    for name in LATENTS:
        rig = Rig(routed("cv.1", name, 2.0))
        rig.modulation.turn("cv.1", 1.0)
        rig.run(0.01)
        shifts.append(stood(rig)[2])
    np.testing.assert_allclose(np.stack(shifts) @ np.stack(shifts).T, 4 * np.eye(len(LATENTS)), atol=1e-4)


def test_a_walk_between_two_latents() -> None:
    patch = Patch(latent=Latent(walk=(3, 7)), routes=(Route("cc.1", "walk", 1.0),))
    rig = Rig(patch)
    for value in (0.0, 0.5, 1.0):
        rig.modulation.turn("cc.1", value)
        rig.run(0.01)
        wanted = latent_of(3, SIZE) + value * (latent_of(7, SIZE) - latent_of(3, SIZE))
        np.testing.assert_allclose(stood(rig)[1], wanted, atol=1e-5)


def test_drift_wanders_slowly_and_as_far_as_it_was_told() -> None:
    rig = Rig(Patch(latent=Latent(drift=0.5, drift_s=0.2)))
    heard = []
    for _ in range(3000):
        rig.run(STEP_S)
        heard.append(stood(rig)[2])
    wandered = np.stack(heard)
    assert wandered[500:].std() == pytest.approx(0.5, rel=0.15)
    assert np.abs(np.diff(wandered, axis=0)).max() < 1.0, "no leaps"
    assert np.abs(wandered[0]).max() < 0.6


def test_every_note_is_another_specimen_if_the_patch_says_so() -> None:
    for new in (False, True):
        rig = Rig(Patch(latent=Latent(new=new)))
        for key in range(3):
            rig.player.note_on(key, 60.0, 0.8)
        words = {voice.latent for voice in rig.player._voices if voice}
        assert len(words) == (3 if new else 1)


def test_another_specimen() -> None:
    rig = Rig()
    rig.modulation.choose(9)
    rig.run(0.01)
    np.testing.assert_array_equal(stood(rig)[1], latent_of(9, SIZE))
    rig.modulation.choose(None)
    rig.run(0.01)
    assert np.abs(stood(rig)[1] - latent_of(9, SIZE)).max() > 0.1


# Sounds.


def test_a_sound_is_kept_and_comes_back_from_its_json() -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", 0.3)
    rig.modulation.choose(4)
    kept = json.loads(json.dumps(sound_to_json(rig.modulation.kept())))
    rig.modulation.turn("knob.1", 0.9)
    rig.modulation.turn("knob.2", 0.9)
    rig.modulation.recall_preset("Harp")
    rig.run(0.01)
    assert rig.player.settings == {}
    np.testing.assert_array_equal(stood(rig)[1], PRESETS[1].z)
    rig.modulation.recall(sound_from_json(kept))
    assert rig.player.settings == {}, "all of it at the next step"
    rig.run(0.01)
    assert rig.player.settings == {"Trumpet": (pytest.approx(0.3), True)}
    np.testing.assert_allclose(stood(rig)[1], latent_of(4, SIZE), atol=1e-6)
    np.testing.assert_array_equal(stood(rig)[0], PRESETS[0].attributes)


def test_a_recall_can_take_its_time() -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", 0.2)
    rig.run(0.01)
    rig.modulation.recall(
        Sound("Harp", tuple(PRESETS[1].z), {"Trumpet": (0.8, True), "Bell": (1.0, True)}), morph_s=1.0
    )
    rig.run(0.5)
    assert rig.at("Trumpet") == pytest.approx(0.5, abs=0.02)
    bell = float(PRESETS[0].positions[1])
    assert rig.at("Bell") == pytest.approx((bell + 1) / 2, abs=0.02)
    np.testing.assert_allclose(stood(rig)[0], (PRESETS[0].attributes + PRESETS[1].attributes) / 2, atol=0.02)
    np.testing.assert_allclose(stood(rig)[1], (PRESETS[0].z + PRESETS[1].z) / 2, atol=0.05)
    rig.run(0.6)
    assert rig.at("Trumpet") == pytest.approx(0.8)
    assert rig.at("Bell") == pytest.approx(1.0)
    np.testing.assert_array_equal(stood(rig)[1], PRESETS[1].z)
    told = rig.player.stands
    rig.run(0.5)
    assert rig.player.stands == told


def test_a_recall_on_the_way_begins_where_it_is() -> None:
    rig = Rig()
    rig.modulation.turn("knob.1", 0.2)
    rig.modulation.recall(Sound("Harp", tuple(PRESETS[1].z), {"Trumpet": (0.8, True)}), morph_s=1.0)
    rig.run(0.5)
    half, base = rig.at("Trumpet"), stood(rig)[0].copy()
    rig.modulation.recall(Sound("Reed", tuple(PRESETS[0].z), {"Trumpet": (0.2, True)}), morph_s=1.0)
    rig.run(0.02)
    assert rig.at("Trumpet") == pytest.approx(half, abs=0.02)
    np.testing.assert_allclose(stood(rig)[0], base, atol=0.02)
    rig.run(1.1)
    assert rig.at("Trumpet") == pytest.approx(0.2)


def test_settings_of_attributes_that_the_bundle_lacks_are_passed_over() -> None:
    rig = Rig(learned={74: Knob("Trombone")})
    rig.modulation.learning = "Trombone"
    rig.modulation.set_up(rig.patch, NAMES, PRESETS, rig.knobs)
    rig.modulation.turn("cc.74", 0.5)
    rig.modulation.recall(Sound("Harp", tuple(PRESETS[1].z), {"Trombone": (0.8, True)}), morph_s=0.05)
    rig.run(0.2)
    assert rig.player.settings == {}
    assert rig.modulation.learned == {74: Knob("Trombone")}, "it is remembered for the bundle that has it"


def test_a_locked_latent_stays() -> None:
    rig = Rig(Patch(latent=Latent(lock=True)))
    rig.modulation.recall_preset("Harp")
    rig.run(0.01)
    np.testing.assert_array_equal(stood(rig)[1], PRESETS[0].z)
    np.testing.assert_array_equal(stood(rig)[0], PRESETS[1].attributes)
    rig.modulation.recall(Sound("Reed", tuple(PRESETS[1].z)), unlocked=True)
    rig.run(0.01)
    np.testing.assert_array_equal(stood(rig)[1], PRESETS[1].z)


def test_sounds_of_another_bundle_are_refused() -> None:
    rig = Rig()
    for sound in (Sound("Drum", (0.0,) * SIZE), Sound("Harp", (0.0,) * 3)):
        with pytest.raises(ValueError, match="the bundle has no preset"):
            rig.modulation.recall(sound)
    with pytest.raises(ValueError, match="no preset 'Drum'"):
        rig.modulation.recall_preset("Drum")


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"preset": "a", "z": 1, "settings": {}},
        {"preset": "a", "z": ["x"], "settings": {}},
        {"preset": "a", "z": [math.nan], "settings": {}},
        {"preset": "a", "z": [], "settings": {"A": [1]}},
        {"preset": "a", "z": [], "settings": {"A": [math.nan, True]}},
    ],
)
def test_what_is_no_sound_is_refused(content: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        sound_from_json(content)


# Learning.


def test_a_controller_is_taught_and_forgets() -> None:
    rig = Rig(Patch(cc={1: Knob("Bell")}))
    rig.modulation.learning = "Organ"
    rig.modulation.turn("cv.1", 0.5)
    assert rig.modulation.learning == "Organ", "a voltage is no controller"
    rig.modulation.turn("cc.74", 0.25)
    assert rig.modulation.learning is None
    assert rig.modulation.learned == {74: Knob("Organ")}
    assert rig.at("Organ") == 0.25
    rig.modulation.learning = "Trumpet"
    rig.modulation.turn("cc.1", 0.5)
    assert rig.at("Trumpet") == 0.5
    assert "Bell" not in rig.player.settings
    rig.modulation.forget()
    rig.modulation.turn("cc.1", 0.75)
    rig.modulation.turn("cc.74", 0.75)
    assert (rig.at("Bell"), rig.at("Organ")) == (0.75, 0.25)


def test_what_was_learned_before_comes_before_the_patch() -> None:
    rig = Rig(Patch(cc={1: Knob("Bell")}), learned={1: Knob("Organ")})
    rig.modulation.turn("cc.1", 0.5)
    assert rig.player.settings == {"Organ": (0.5, True)}


def test_another_bundle_keeps_sources_and_what_was_learned() -> None:
    rig = Rig(Patch(routes=(Route("cv.1", "pitch", 1.0),)), learned={5: Knob("Organ")})
    rig.modulation.turn("cv.1", 0.5)
    rig.modulation.set_up(rig.patch, NAMES, PRESETS[1:], rig.knobs)
    rig.run(0.01)
    assert rig.player.shifts[-1] == 0.5
    np.testing.assert_array_equal(stood(rig)[0], PRESETS[1].attributes)
    rig.modulation.turn("cc.5", 0.5)
    assert rig.at("Organ") == 0.5
