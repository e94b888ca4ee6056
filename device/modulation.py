"""What turns what: knobs, controllers, voltages, slow waves and envelopes into attributes, latent, level and pitch.

A knob or controller *sets* its attribute; a route *adds* to where that stands. Everything is worked out a hundred times
a second (`step`), from the last value of each source. A sound that is kept or recalled is where the knobs stand, and
the latent; a knob that stands elsewhere after a recall turns nothing until it has passed the place of its attribute.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from device.bundle import Bundle
from device.hands import Hands
from device.knobs import Knobs
from device.patch import (
    DIRECTIONS,
    LATENTS,
    LEVEL,
    PITCH,
    RELEASE,
    SETTING_MAX,
    SOURCES,
    WALK,
    Envelope,
    Knob,
    Lfo,
    Patch,
)
from device.timbre import latent_of

Array = npt.NDArray[np.float32]

STEP_S = 0.01
CLOCKS_PER_BEAT = 24  # MIDI 1.0, timing clock
NOTE_MIDDLE, NOTE_SPAN = 60.0, 60.0  # the source "note" is -1 at MIDI 0, 0 at middle C, 1 at 120
# How near a knob must come to where its attribute stands before it takes it over: three codes in a hundred.
CATCH = 0.03
# Between two clocks longer than this the tempo is no tempo: 20 beats a minute are 0.125 s.
CLOCK_MAX_S = 0.15
CLOCK_GONE_NS = 1_000_000_000  # without a clock: slow waves go on at the last tempo
CLOCK_FOLLOWS = 0.2  # share of a new interval in the tempo that is believed
CC = "cc."
KNOB = "knob."
KNOWN = frozenset(SOURCES)


@dataclass(frozen=True)
class Preset:
    """One of the bundle's: soft labels (A,), latent (Z,), and where along the data its labels lie (A,), 0..1."""

    name: str
    attributes: Array
    z: Array
    positions: Array


def presets_of(bundle: Bundle) -> tuple[Preset, ...]:
    """The presets of a bundle, with where along the data each label lies."""
    manifest = bundle.manifest
    knobs = Knobs(manifest.attributes, manifest.copula)
    return tuple(
        Preset(
            preset.name,
            preset.attributes.astype(np.float32),
            preset.z.astype(np.float32),
            np.array([knobs.position(n, label) for n, label in enumerate(preset.attributes)], np.float32),
        )
        for preset in manifest.presets
    )


@dataclass(frozen=True)
class Sound:
    """What can be kept and recalled: the preset that the knobs start from, the latent, the knobs as they stand.

    ``settings``: attribute -> (0..2, does it carry the related ones along).
    """

    preset: str
    z: tuple[float, ...]
    settings: Mapping[str, tuple[float, bool]] = field(default_factory=dict)


def sound_to_json(sound: Sound) -> dict[str, Any]:
    """A sound as JSON keeps it."""
    return {
        "preset": sound.preset,
        "z": list(sound.z),
        "settings": {name: list(turned) for name, turned in sound.settings.items()},
    }


def sound_from_json(content: Any) -> Sound:
    """A sound that was kept; ValueError, KeyError or TypeError for anything else."""
    settings = {
        str(name): (min(max(float(value), 0.0), SETTING_MAX), bool(carry))
        for name, (value, carry) in content["settings"].items()
    }
    z = tuple(float(value) for value in content["z"])
    if not all(map(math.isfinite, z)) or any(math.isnan(value) for value, _ in settings.values()):
        raise ValueError("a number that is none")
    return Sound(str(content["preset"]), z, settings)


@dataclass(frozen=True)
class _Place:
    """Where a timbre stands, or has come on its way to another: labels under the knobs, latent, knobs."""

    base: Array
    z: Array
    settings: Mapping[str, tuple[float, bool]]
    positions: Array


@dataclass
class _Caught:
    """Whether a knob turns its attribute, and on which side of it it was last (0: nobody knows yet)."""

    has: bool = True
    side: float = 0.0


class Modulation:
    """Turns ``player``'s knobs, latent, level and pitch as ``patch`` says.

    ``attributes`` and ``presets`` are the bundle's; the first preset is where the patch starts unless it names one.
    ``knobs`` are the attributes of the panel's knobs where the patch has no table of its own. ``learned`` are
    controllers that were taught: they come before the patch's.
    """

    def __init__(  # noqa: PLR0917
        self,
        player: Hands,
        patch: Patch,
        attributes: Sequence[str],
        presets: Sequence[Preset],
        knobs: Sequence[str | None] = (),
        learned: Mapping[int, Knob] | None = None,
        seed: int = 0,
    ) -> None:
        self._player = player
        self._chance = random.Random(seed)
        self._normal = np.random.default_rng(seed)
        self._values: dict[str, float] = {}
        self._beat_s = 0.5
        self._beats = 0.0  # of the MIDI clock, counted from its start
        self._clocks_run = True
        self._clocked_ns = self._now_ns = 0
        self.learning: str | None = None  # the attribute that the next controller is to turn
        self.learned: dict[int, Knob] = dict(learned or {})
        player.struck = self._struck
        self.set_up(patch, attributes, presets, knobs)

    def set_up(
        self,
        patch: Patch,
        attributes: Sequence[str],
        presets: Sequence[Preset],
        knobs: Sequence[str | None] = (),
    ) -> None:
        """Go over to another patch or bundle; sources keep their values, knobs take effect at once."""
        self._patch, self._presets = patch, {preset.name: preset for preset in presets}
        self._places = {name: place for place, name in enumerate(attributes)}
        self._bound: dict[str, Knob] = {f"{CC}{number}": knob for number, knob in patch.cc.items()}
        panel = patch.knobs
        if panel is None:
            panel = {n: Knob(name, carry=patch.carry) for n, name in enumerate(knobs, 1) if name is not None}
        self._bound |= {f"{KNOB}{number}": knob for number, knob in panel.items()}
        self._bound |= {f"{CC}{number}": knob for number, knob in self.learned.items()}
        # What was learned with another bundle may be an attribute that this one does not have.
        self._bound = {source: knob for source, knob in self._bound.items() if knob.attribute in self._places}
        self.learning = None
        self._caught = {source: _Caught() for source in self._bound}
        start = self._presets[patch.preset] if patch.preset else presets[0]
        size = len(start.z)
        z = start.z if patch.latent_seed is None else latent_of(patch.latent_seed, size)
        settings = {name: (value, patch.carry) for name, value in patch.attributes.items()}
        self._sound = Sound(start.name, tuple(map(float, z)), settings)
        self._morph_from: _Place | None = None
        self._recalled = True  # the player is to hear of all of it at the next step
        self._morph_s = self._morphed_s = 0.0
        self._routes = patch.routes
        # Directions of a latent, each one of length 1 and square to the others, the same for every bundle of that size.
        drawn = np.random.default_rng(size).standard_normal((size, size))
        self._directions = np.linalg.qr(drawn)[0].T[:DIRECTIONS].astype(np.float32)
        self._ends = None
        if patch.latent.walk is not None:
            first, second = patch.latent.walk
            self._ends = (latent_of(first, size), latent_of(second, size))
        self._drift = np.zeros(size, np.float32)
        self._waves = {number: _Wave(lfo, self._chance) for number, lfo in patch.lfos.items()}
        self._envelopes = {number: _Ramp(envelope) for number, envelope in patch.envelopes.items()}
        self._drawn_s = dict.fromkeys(patch.randoms, 0.0)
        for number in patch.randoms:
            self._values[f"random.{number}"] = self._chance.uniform(-1.0, 1.0)
        self._moved: set[str] = set()  # attributes that routes have moved away from where they stand
        self._stood: tuple[Any, ...] = ()
        self._stepped_ns: int | None = None
        self._player.new_latents = patch.latent.new
        self._evaluate(0.0)

    # ---- What comes in ----

    def turn(self, source: str, value: float) -> None:
        """A source has this value now, -1 to 1 ("note": a MIDI note); others than a patch may name are passed over.

        A controller that waits to be learned is learned, a knob turns its attribute.
        """
        if source not in KNOWN:
            return
        if source == "note":
            value = (value - NOTE_MIDDLE) / NOTE_SPAN
        value = min(max(value, -1.0), 1.0)
        self._values[source] = value
        if self.learning is not None and source.startswith(CC):
            knob = Knob(self.learning, carry=self._patch.carry)
            self.learned[int(source.removeprefix(CC))] = knob
            self._bound[source], self._caught[source] = knob, _Caught()
            self.learning = None
        bound = self._bound.get(source)
        if bound is not None:
            self._turn_knob(source, bound, value)

    def forget(self) -> None:
        """Nothing was ever learned: controllers are the patch's again."""
        self.learning = None
        for number in self.learned:
            source = f"{CC}{number}"
            self._bound.pop(source, None)
            if number in self._patch.cc:
                self._bound[source], self._caught[source] = self._patch.cc[number], _Caught()
        self.learned.clear()

    def program(self, number: int) -> bool:
        """A program change means nothing here: a bundle is one instrument."""
        return False

    def transport(self, kind: str, at_ns: int) -> None:
        """A MIDI clock message: "clock", "start", "continue" or "stop"."""
        if kind == "start":
            self._beats, self._clocks_run = 0.0, True
        elif kind == "continue":
            self._clocks_run = True
        elif kind == "stop":
            self._clocks_run = False
        elif kind == "clock":
            interval_s = (at_ns - self._clocked_ns) * 1e-9
            if 0.0 < interval_s < CLOCK_MAX_S:
                self._beat_s += CLOCK_FOLLOWS * (interval_s * CLOCKS_PER_BEAT - self._beat_s)
            self._clocked_ns = at_ns
            if self._clocks_run:
                self._beats += 1 / CLOCKS_PER_BEAT

    def set_knob(self, name: str, setting: float, carry: bool | None = None) -> None:
        """Put an attribute somewhere, whoever asks; knobs that stand elsewhere have to catch it."""
        carries = self._patch.carry if carry is None else carry
        self._set(name, min(max(setting, 0.0), SETTING_MAX), carries)
        self._let_go_of(name)

    # ---- Sounds ----

    def kept(self) -> Sound:
        """The sound as it stands, without what modulations add."""
        return self._sound

    def recall(self, sound: Sound, morph_s: float = 0.0, *, unlocked: bool = False) -> None:
        """Go over to a sound, in so many seconds, at the next step; knobs that stand elsewhere have to catch it.

        A latent that the patch has locked stays, unless ``unlocked``. ValueError for one that is not of this bundle;
        settings of attributes that it does not have are passed over.
        """
        if sound.preset not in self._presets or len(sound.z) != len(self._sound.z):
            raise ValueError(f"the bundle has no preset {sound.preset!r} of this size")
        keeps_latent = self._patch.latent.lock and not unlocked
        settings = {name: turned for name, turned in sound.settings.items() if name in self._places}
        here = self._here()
        self._sound = Sound(sound.preset, self._sound.z if keeps_latent else sound.z, settings)
        self._morph_from = here if morph_s > 0 else None
        self._morph_s, self._morphed_s = morph_s, 0.0
        self._recalled = True
        for source in self._bound:
            self._let_go(source)

    def recall_preset(self, name: str, morph_s: float = 0.0) -> None:
        """Go over to one of the bundle's presets, with the patch's knobs. ValueError where it has none of that name."""
        preset = self._presets.get(name)
        if preset is None:
            raise ValueError(f"the bundle has no preset {name!r}")
        settings = {
            attribute: (value, self._patch.carry) for attribute, value in self._patch.attributes.items()
        }
        self.recall(Sound(name, tuple(map(float, preset.z)), settings), morph_s)

    def choose(self, seed: int | None) -> None:
        """Another specimen: the latent of a seed; None draws one."""
        size = len(self._sound.z)
        z = latent_of(seed, size) if seed is not None else self._normal.standard_normal(size)
        self._sound = Sound(self._sound.preset, tuple(map(float, z)), self._sound.settings)

    # ---- A hundred times a second ----

    @property
    def lively(self) -> bool:
        """Whether anything moves by itself or by routes; without that nobody need call `step`."""
        latent = self._patch.latent
        return bool(self._routes or latent.drift or latent.walk or self._morph_from or self._recalled)

    def step(self, now_ns: int) -> None:
        """Work everything out, if it is time."""
        if self._stepped_ns is None:
            self._stepped_ns = now_ns - round(STEP_S * 1e9)
        elapsed_s = (now_ns - self._stepped_ns) * 1e-9
        if elapsed_s < STEP_S:
            return
        self._stepped_ns = self._now_ns = now_ns
        self._evaluate(elapsed_s)

    def _evaluate(self, elapsed_s: float) -> None:
        """Bring everything that moves on by so much, and tell the player where it stands, all at once."""
        self._generate(elapsed_s)
        added: dict[str, float] = {}
        carries: dict[str, bool] = {}
        for route in self._routes:
            amount = route.amount(self._values.get(route.source, 0.0))
            added[route.to] = added.get(route.to, 0.0) + amount
            carries[route.to] = route.carry
        if self._morph_from is not None:
            self._morphed_s += elapsed_s
        here = self._here()
        with self._player.at_once():
            if self._recalled:
                self._recalled = False
                self._player.unset_attributes()
                for name, (setting, carry) in here.settings.items():
                    self._player.set_attribute(name, setting, carry)
            self._stand(here, added, elapsed_s)
            self._move_attributes(here, added, carries)
        self._player.trim(10.0 ** (added.get(LEVEL, 0.0) / 20.0))
        self._player.shift(added.get(PITCH, 0.0))
        self._player.stretch(added.get(RELEASE, 0.0))
        if self._morph_from is not None and self._morphed_s >= self._morph_s:
            self._morph_from = None

    def _generate(self, elapsed_s: float) -> None:
        """Bring slow waves, envelopes and random values to now."""
        down = self._player.keys_down
        clocked = self._clocked_ns and self._now_ns - self._clocked_ns < CLOCK_GONE_NS
        for number, wave in self._waves.items():
            beats = self._beats if clocked else None  # a clock that has gone is gone on with
            self._values[f"lfo.{number}"] = wave.step(elapsed_s, self._beat_s, beats)
        for number, ramp in self._envelopes.items():
            self._values[f"envelope.{number}"] = ramp.step(elapsed_s, down)
        for number, rate_hz in self._patch.randoms.items():
            if rate_hz:
                self._drawn_s[number] += elapsed_s
                if self._drawn_s[number] >= 1 / rate_hz:
                    self._drawn_s[number] %= 1 / rate_hz
                    self._values[f"random.{number}"] = self._chance.uniform(-1.0, 1.0)

    def _struck(self, pitch_midi: float, velocity: float) -> None:
        """A note is about to begin: it begins with what it moves."""
        self._values["velocity"] = velocity
        self._values["note"] = min(max((pitch_midi - NOTE_MIDDLE) / NOTE_SPAN, -1.0), 1.0)
        for wave in self._waves.values():
            wave.strike()
        for ramp in self._envelopes.values():
            ramp.strike()
        for number, rate_hz in self._patch.randoms.items():
            if not rate_hz:
                self._values[f"random.{number}"] = self._chance.uniform(-1.0, 1.0)
        if self.lively:
            self._evaluate(0.0)

    def _here(self) -> _Place:
        """Where the timbre stands now, which is on the way while it morphs."""
        there, before = self._there(), self._morph_from
        if before is None:
            return there
        share = min(self._morphed_s / self._morph_s, 1.0)
        settings = {}
        for name in {*before.settings, *there.settings}:
            first, (second, carry) = self._stands(before, name)[0], self._stands(there, name)
            settings[name] = (first + share * (second - first), carry)
        if share == 1.0:
            settings = dict(there.settings)
        return _Place(
            before_and_after(before.base, there.base, share),
            before_and_after(before.z, there.z, share),
            settings,
            before_and_after(before.positions, there.positions, share),
        )

    def _there(self) -> _Place:
        """Where the timbre stands once it has come."""
        preset, z = self._presets[self._sound.preset], np.array(self._sound.z, np.float32)
        return _Place(preset.attributes, z, self._sound.settings, preset.positions)

    def _stand(self, here: _Place, added: Mapping[str, float], elapsed_s: float) -> None:
        """Tell the player of labels under the knobs and of the latent, where they have changed."""
        z = here.z
        if self._ends is not None:
            z = before_and_after(*self._ends, min(max(added.get(WALK, 0.0), 0.0), 1.0))
        shift = self._drifted(elapsed_s)
        for place, name in enumerate(LATENTS[: len(self._directions)]):
            if name in added:
                shift = shift + np.float32(added[name]) * self._directions[place]
        stood = (here.base.tobytes(), z.tobytes(), shift.tobytes())
        if stood != self._stood:
            self._stood = stood
            self._player.stand(here.base, z, shift)

    def _drifted(self, elapsed_s: float) -> Array:
        """Where the latent has wandered by now: an Ornstein-Uhlenbeck process, whose spread is ``drift``."""
        latent = self._patch.latent
        if latent.drift and elapsed_s > 0:
            keeps = math.exp(-elapsed_s / latent.drift_s)
            push = latent.drift * math.sqrt(1.0 - keeps * keeps)
            drawn = self._normal.standard_normal(len(self._drift))
            self._drift = (keeps * self._drift + push * drawn).astype(np.float32)
        return self._drift

    def _move_attributes(self, here: _Place, added: Mapping[str, float], carries: Mapping[str, bool]) -> None:
        """Attributes that routes or a morph move: where they stand, and what is added."""
        moves = {name for name in added if name in self._places}
        if self._morph_from is not None:
            moves |= set(here.settings)
        for name in moves | self._moved:
            stands, carry = self._stands(here, name)
            setting = min(max(stands + added.get(name, 0.0), 0.0), SETTING_MAX)
            self._player.set_attribute(name, setting, carries.get(name, carry))
        self._moved = moves

    def _stands(self, place: _Place, name: str) -> tuple[float, bool]:
        """Where an attribute stands, and whether it carries: where the preset has it if nobody turned it."""
        if name in place.settings:
            return place.settings[name]
        return float(place.positions[self._places[name]]), self._patch.carry

    # ---- Knobs ----

    def _turn_knob(self, source: str, knob: Knob, position: float) -> None:
        setting = knob.setting(max(position, 0.0))
        caught = self._caught[source]
        if not caught.has:
            off = setting - self._within(knob)
            # Near enough, or it has just passed.
            if abs(off) > CATCH and off * caught.side >= 0.0:
                caught.side = off
                return
            caught.has = True
        self._set(knob.attribute, setting, knob.carry)
        self._let_go_of(knob.attribute, but=source)

    def _within(self, knob: Knob) -> float:
        """Where a knob's attribute stands, as near to it as the knob can come."""
        low, high = sorted((knob.low, knob.high))
        return min(max(self._stands(self._there(), knob.attribute)[0], low), high)

    def _set(self, name: str, setting: float, carry: bool) -> None:
        settings = {**self._sound.settings, name: (setting, carry)}
        self._sound = Sound(self._sound.preset, self._sound.z, settings)
        if name not in self._moved:
            self._player.set_attribute(name, setting, carry)

    def _let_go_of(self, name: str, but: str = "") -> None:
        """The knobs of an attribute have to catch it again, but for the one that turned it."""
        for source, knob in self._bound.items():
            if knob.attribute == name and source != but:
                self._let_go(source)

    def _let_go(self, source: str) -> None:
        """A knob has to catch its attribute again; one that stands where it is has it at once."""
        knob = self._bound[source]
        if source not in self._values:
            self._caught[source] = _Caught(False)
            return
        off = knob.setting(max(self._values[source], 0.0)) - self._within(knob)
        self._caught[source] = _Caught(abs(off) <= CATCH, off)


def before_and_after(before: Array, after: Array, share: float) -> Array:
    """The place between two, ``share`` of the way."""
    return (before + np.float32(share) * (after - before)).astype(np.float32)


class _Wave:
    """A slow wave, -1 to 1."""

    def __init__(self, lfo: Lfo, chance: random.Random) -> None:
        self._lfo, self._chance = lfo, chance
        self._phase = lfo.phase
        self._turn = 0
        self._from, self._to = chance.uniform(-1.0, 1.0), chance.uniform(-1.0, 1.0)

    def strike(self) -> None:
        """A note begins."""
        if self._lfo.restart:
            self._phase = self._lfo.phase

    def step(self, elapsed_s: float, beat_s: float, beats: float | None) -> float:
        """Its value so much later; ``beats`` of a MIDI clock, None while there is none."""
        lfo = self._lfo
        if lfo.beats is not None and beats is not None and not lfo.restart:
            self._phase = lfo.phase + beats / lfo.beats
        else:
            period_s = 1.0 / lfo.rate_hz if lfo.beats is None else lfo.beats * beat_s
            self._phase += elapsed_s / period_s
        turn, phase = divmod(self._phase, 1.0)
        if turn != self._turn:
            self._turn = int(turn)
            self._from, self._to = self._to, self._chance.uniform(-1.0, 1.0)
        return self._at(phase)

    def _at(self, phase: float) -> float:
        shape = self._lfo.shape
        if shape == "sine":
            return math.sin(2.0 * math.pi * phase)
        if shape == "triangle":
            return 1.0 - abs(4.0 * ((phase + 0.25) % 1.0) - 2.0)
        if shape == "saw":
            return 2.0 * phase - 1.0
        if shape == "square":
            return 1.0 if phase < 0.5 else -1.0
        if shape == "walk":
            return self._from + phase * (self._to - self._from)
        return self._from  # steps


class _Ramp:
    """An envelope, 0 to 1."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._value = 0.0
        self._rising = False
        self._struck = False

    def strike(self) -> None:
        """A note begins."""
        self._rising = self._struck = True

    def step(self, elapsed_s: float, down: bool) -> float:
        """Its value so much later; ``down``: a key is held."""
        envelope = self._envelope
        if down and elapsed_s > 0:
            self._struck = False
        if self._rising:
            self._value = min(self._value + _moved(elapsed_s, envelope.attack_s), 1.0)
            # A pulse that was over before anybody looked still has its attack.
            self._rising = self._value < 1.0 and (down or self._struck)
        elif down:
            falls = _moved(elapsed_s, envelope.decay_s) * (1.0 - envelope.sustain)
            if self._value > envelope.sustain:
                self._value = max(self._value - falls, envelope.sustain)
        else:
            self._value = max(self._value - _moved(elapsed_s, envelope.release_s), 0.0)
        self._struck = self._struck and self._rising
        return self._value


def _moved(elapsed_s: float, whole_s: float) -> float:
    """Which share of a ramp is done in a time."""
    return 1.0 if whole_s <= elapsed_s else elapsed_s / whole_s
