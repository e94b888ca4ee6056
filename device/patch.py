"""A patch: how a bundle is set up as an instrument.

A TOML file, strict; everything in it is optional:

    [voice]
    preset = "Trumpet 60"      # whose timbre the knobs start from; without it the bundle's first preset
    latent_seed = 3            # another specimen of the same instrument, in place of the preset's own
    release_ms = 150
    level_db = -18             # of one note at full velocity: RMS of its loudest moment against full scale
    velocity_curve = 2         # gain = (velocity / 127) ** curve; 0 makes every note equally loud
    bend_range = 2             # semitones, until the song sets its own (RPN 0)
    carry = true               # a knob carries the related attributes along; false moves it alone
    mono = false               # one note at a time; the key that is still down comes back when the last one is let go
    legato = true              # in mono: a note that overlaps the one before it has no attack of its own
    glide_ms = 0               # how long the pitch takes from the note before, evenly in semitones
    unison = false             # every note by two voices of different latents, left and right

    [attributes]
    Trumpet = 0.8              # where the knob stands: 0..1 along what the data have, up to 2 beyond it

    [cc]
    1 = { attribute = "Vibraphone", range = [0.2, 0.9], curve = 2, carry = false }
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device.errors import DarkrackError
from device.files import read_toml
from device.toml_table import Table, suggestion

# A knob runs from the lower to the upper end of the data (0..1) and on into over-emphasis (to 2).
SETTING_MAX = 2.0
# These CCs already mean something to the performance: data entry, volume, expression, sustain, (N)RPN and
# everything from 120 up, which MIDI 1.0 reserves for channel mode messages.
RESERVED_CCS = frozenset({6, 7, 11, 38, 64, 98, 99, 100, 101, *range(120, 128)})
CC_KEYS = frozenset(str(number) for number in range(120))


@dataclass(frozen=True)
class CcKnob:
    """What one CC turns: ``attribute`` moves from ``low`` to ``high`` as the CC goes from 0 to 127."""

    attribute: str
    low: float = 0.0
    high: float = 1.0
    curve: float = 1.0
    carry: bool = True

    def setting(self, position: float) -> float:
        """The setting (0..2) of the attribute with the controller at ``position`` (0..1)."""
        return self.low + (self.high - self.low) * math.pow(position, self.curve)


@dataclass(frozen=True)
class Patch:
    """One set-up of a bundle; the module's docstring says what each field means."""

    attributes: Mapping[str, float] = field(default_factory=dict)
    cc: Mapping[int, CcKnob] = field(default_factory=dict)
    preset: str | None = None
    latent_seed: int | None = None
    release_s: float = 0.15
    level_db: float = -18.0
    velocity_curve: float = 2.0
    bend_range_semitones: float = 2.0
    carry: bool = True
    mono: bool = False
    legato: bool = True
    glide_s: float = 0.0
    unison: bool = False


def read_patch(path: Path, attributes: Sequence[str], presets: Sequence[str]) -> Patch:
    """Read a TOML patch for a bundle with these ``attributes`` and ``presets``.

    Strict: DarkrackError names the file and the key for an unknown key, attribute or preset (and suggests the
    nearest), a wrong type and a value out of range. Names are matched without regard to case.
    """
    page = Table(str(path), "", read_toml(path, "a patch"), "a patch")
    voice = page.table("voice")
    carry = voice.flag("carry", default=True)
    preset = voice.text("preset")
    patch = Patch(
        attributes=_settings(page.table("attributes"), attributes),
        cc=_ccs(page.table("cc"), attributes, carry),
        preset=None
        if preset is None
        else nearest(preset, presets, voice.at("preset"), "a preset of the bundle"),
        latent_seed=voice.whole("latent_seed", 0, 2**32 - 1),
        release_s=voice.number("release_ms", 5.0, 20_000.0, default=150.0) / 1000.0,
        level_db=voice.number("level_db", -60.0, 0.0, default=-18.0),
        velocity_curve=voice.number("velocity_curve", 0.0, 4.0, default=2.0),
        bend_range_semitones=voice.number("bend_range", 0.0, 96.0, default=2.0),
        carry=carry,
        mono=voice.flag("mono", default=False),
        legato=voice.flag("legato", default=True),
        glide_s=voice.number("glide_ms", 0.0, 10_000.0, default=0.0) / 1000.0,
        unison=voice.flag("unison", default=False),
    )
    voice.refuse_unknown()
    page.refuse_unknown()
    return patch


def nearest(name: str, known: Sequence[str], where: str, what: str) -> str:
    """The one of ``known`` that equals ``name`` but for case; else a DarkrackError with the closest."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    if name.strip().casefold() in by_folded:
        return by_folded[name.strip().casefold()]
    raise DarkrackError(where, what, repr(name), suggestion(name, known))


def parse_setting(text: str, attributes: Sequence[str]) -> tuple[str, float]:
    """``"Trumpet=0.8"`` from the command line as (attribute, setting); DarkrackError otherwise."""
    where = f"--set {text!r}"
    name, equals, value = text.rpartition("=")
    if not equals:
        raise DarkrackError(where, "NAME=VALUE", "no equals sign", 'for example --set "Trumpet=0.8"')
    try:
        setting = float(value)
    except ValueError:
        raise DarkrackError(where, "a number after the equals sign", repr(value)) from None
    if not 0.0 <= setting <= SETTING_MAX:
        raise DarkrackError(where, f"a setting from 0 to {SETTING_MAX:g}", value.strip())
    return nearest(name, attributes, where, "an attribute of the bundle"), setting


def _settings(table: Table, attributes: Sequence[str]) -> dict[str, float]:
    settings: dict[str, float] = {}
    for key in table.content:
        name = nearest(key, attributes, table.at(key), "an attribute of the bundle")
        if name in settings:
            raise DarkrackError(table.at(key), f"one setting of {name!r}", "a second one")
        settings[name] = table.number(key, 0.0, SETTING_MAX)
    return settings


def _ccs(table: Table, attributes: Sequence[str], carry: bool) -> dict[int, CcKnob]:
    knobs: dict[int, CcKnob] = {}
    for key in table.content:
        if key not in CC_KEYS:
            raise DarkrackError(table.at(key), "a controller number from 0 to 119", repr(key))
        if int(key) in RESERVED_CCS:
            raise DarkrackError(
                table.at(key),
                "a controller that is free",
                f"CC {key}, which the player itself obeys",
                "volume 7, expression 11, sustain 64 and parameters 6, 38, 98-101 are taken",
            )
        entry = table.table(key)
        name = entry.text("attribute")
        if name is None:
            raise DarkrackError(entry.at("attribute"), "the name of an attribute", "none")
        low, high = entry.pair("range", 0.0, SETTING_MAX, default=(0.0, 1.0))
        knobs[int(key)] = CcKnob(
            attribute=nearest(name, attributes, entry.at("attribute"), "an attribute of the bundle"),
            low=low,
            high=high,
            curve=entry.number("curve", 0.1, 10.0, default=1.0),
            carry=entry.flag("carry", default=carry),
        )
        entry.refuse_unknown()
    return knobs
