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

    [attributes]
    Trumpet = 0.8              # where the knob stands: 0..1 along what the data have, up to 2 beyond it

    [cc]
    1 = { attribute = "Vibraphone", range = [0.2, 0.9], curve = 2, carry = false }
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.errors import DarkrackError
from device.files import read_toml

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


def read_patch(path: Path, attributes: Sequence[str], presets: Sequence[str]) -> Patch:
    """Read a TOML patch for a bundle with these ``attributes`` and ``presets``.

    Strict: DarkrackError names the file and the key for an unknown key, attribute or preset (and suggests the
    nearest), a wrong type and a value out of range. Names are matched without regard to case.
    """
    page = _Table(str(path), "", read_toml(path, "a patch"))
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
    )
    voice.refuse_unknown()
    page.refuse_unknown()
    return patch


def nearest(name: str, known: Sequence[str], where: str, what: str) -> str:
    """The one of ``known`` that equals ``name`` but for case; else a DarkrackError with the closest."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    if name.strip().casefold() in by_folded:
        return by_folded[name.strip().casefold()]
    raise DarkrackError(where, what, repr(name), _suggestion(name, known))


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


def _settings(table: _Table, attributes: Sequence[str]) -> dict[str, float]:
    settings: dict[str, float] = {}
    for key in table.content:
        name = nearest(key, attributes, table.at(key), "an attribute of the bundle")
        if name in settings:
            raise DarkrackError(table.at(key), f"one setting of {name!r}", "a second one")
        settings[name] = table.number(key, 0.0, SETTING_MAX)
    return settings


def _ccs(table: _Table, attributes: Sequence[str], carry: bool) -> dict[int, CcKnob]:
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


class _Table:
    """One table of the file; remembers what was asked for, so that the rest can be refused."""

    def __init__(self, file: str, name: str, content: dict[str, Any]) -> None:
        self.file = file
        self.name = name
        self.content = content
        self.known: list[str] = []

    def at(self, key: str) -> str:
        return f"{self.file}: {self.name}.{key}" if self.name else f"{self.file}: {key}"

    def refuse_unknown(self) -> None:
        for key in self.content:
            if key not in self.known:
                where = f"[{self.name}]" if self.name else "a patch"
                raise DarkrackError(
                    self.at(key), f"a key of {where}", f"unknown key {key!r}", _suggestion(key, self.known)
                )

    def table(self, key: str) -> _Table:
        return _Table(
            self.file, f"{self.name}.{key}" if self.name else key, self._get(key, dict, "a table", {})
        )

    def text(self, key: str) -> str | None:
        found: str | None = self._get(key, str, "a string", None)
        return found

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._get(key, bool, "true or false", default))

    def whole(self, key: str, low: int, high: int) -> int | None:
        found: int | None = self._get(key, int, f"a whole number from {low} to {high}", None)
        if found is not None and (isinstance(found, bool) or not low <= found <= high):
            raise DarkrackError(self.at(key), f"a whole number from {low} to {high}", str(found))
        return found

    def number(self, key: str, low: float, high: float, default: float = math.nan) -> float:
        return self._in_range(key, self._get(key, (int, float), "a number", default), low, high)

    def pair(self, key: str, low: float, high: float, default: tuple[float, float]) -> tuple[float, float]:
        found = self._get(key, list, "two numbers in brackets", list(default))
        if len(found) != 2:
            raise DarkrackError(self.at(key), "two numbers in brackets", f"{len(found)} of them")
        first, second = (self._in_range(key, value, low, high) for value in found)
        return first, second

    def _in_range(self, key: str, value: object, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise DarkrackError(self.at(key), f"a number from {low:g} to {high:g}", repr(value))
        return float(value)

    def _get(self, key: str, kind: type | tuple[type, ...], what: str, default: Any) -> Any:
        self.known.append(key)
        value = self.content.get(key, default)
        if key in self.content and not isinstance(value, kind):
            raise DarkrackError(self.at(key), what, repr(value))
        return value


def _suggestion(name: str, known: Iterable[str]) -> str:
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().casefold(), by_folded, n=1, cutoff=0.5)
    if close:
        return f"did you mean {by_folded[close[0]]!r}?"
    return f"one of: {', '.join(sorted(by_folded.values()))}" if 0 < len(by_folded) <= 20 else ""
