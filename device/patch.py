"""A patch: how a bundle is set up as an instrument, and what turns what.

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
    mpe = "off"                # "lower" or "upper": a zone of 15 channels from the start (MPE 1.0)

    [pitch]
    a4_hz = 440                # what every note is tuned to
    transpose = 0              # semitones, of every note
    quantize = "off"           # of the V/oct jack: "semitones", "major", ... (device/voct.py), or a Scala file beside
    root = "C"                 # the patch: "my.scl"; where its scale begins

    [attributes]
    Trumpet = 0.8              # where the knob stands: 0..1 along what the data have, up to 2 beyond it

    [knob]                     # the panel's knobs, 1 to 8; without this table they turn the bundle's most obedient
    1 = "Trumpet"              # attributes, one after the other. Either a name, or all of it:
    2 = { attribute = "Vibraphone", range = [0.2, 0.9], curve = 2, carry = false }

    [cc]                       # MIDI controllers likewise
    1 = "Vibraphone"

    [[route]]                  # what is added to where a knob stands; as many as you like
    from = "cv.1"              # cv.N, knob.N, gate.N, cc.N, bend, pressure, velocity, note, lfo.N, envelope.N, random.N
    to = "Trumpet"             # an attribute; "level" (dB), "pitch" (semitones), "release" (octaves: 1 takes twice as
                               # long), "z.1" to "z.8" (directions of the latent, in standard deviations), "walk" (along
                               # latent.walk)
    depth = 0.5                # in the unit of ``to``, for a full source
    curve = 1                  # the source to this power, its sign kept
    polarity = "bipolar"       # "bipolar" makes -1..1 of a source of 0..1, "unipolar" 0..1 of one of -1..1
    carry = true               # of an attribute

    [lfo.1]                    # 1 to 4
    shape = "sine"             # sine, triangle, saw, square, steps (a new random one), walk (straight to the next one)
    rate_hz = 0.5              # or, of a clock that comes by MIDI: beats = 4, so many for a period
    phase = 0.0                # where it begins, in periods
    restart = false            # with every note

    [envelope.1]               # 1 to 4, begins with a note, is released with the last key
    attack_ms = 10
    decay_ms = 200
    sustain = 0.5
    release_ms = 300

    [random.1]                 # 1 to 4: a new value with every note
    [random.2]
    rate_hz = 2                # or so often

    [latent]
    lock = false               # presets that are recalled leave the latent as it is
    drift = 0.0                # how far it wanders by itself, in standard deviations
    drift_s = 10               # and how slowly
    walk = [3, 7]              # between the latents of two seeds; "walk" says where: 0 the first, 1 the second
    new = false                # every note is another specimen
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device.errors import DarkrackError
from device.toml_table import Table, read_page, suggestion
from device.voct import A4_HZ, OFF, Scale, parse_note, read_scale

# A knob runs from the lower to the upper end of the data (0..1) and on into over-emphasis (to 2).
SETTING_MAX = 2.0
# These CCs already mean something to the performance: data entry, volume, expression, sustain, (N)RPN and
# everything from 120 up, which MIDI 1.0 reserves for channel mode messages.
RESERVED_CCS = frozenset({6, 7, 11, 38, 64, 98, 99, 100, 101, *range(120, 128)})
CC_KEYS = frozenset(str(number) for number in range(120))
KNOBS, CVS, GATES, GENERATORS, DIRECTIONS = 8, 7, 8, 4, 8
MPE = ("off", "lower", "upper")
SHAPES = ("sine", "triangle", "saw", "square", "steps", "walk")
# Sources whose full range is -1 to 1; the others go from 0 to 1.
BIPOLAR = ("cv", "bend", "lfo", "note", "random")
SOURCES = (
    *(f"cv.{n}" for n in range(1, CVS + 1)),
    *(f"knob.{n}" for n in range(1, KNOBS + 1)),
    *(f"gate.{n}" for n in range(1, GATES + 1)),
    *(f"cc.{n}" for n in range(120) if n not in RESERVED_CCS),
    *("bend", "pressure", "key_pressure", "velocity", "note"),
    *(f"{kind}.{n}" for kind in ("lfo", "envelope", "random") for n in range(1, GENERATORS + 1)),
)
LEVEL, PITCH, RELEASE, WALK = "level", "pitch", "release", "walk"
LATENTS = tuple(f"z.{n}" for n in range(1, DIRECTIONS + 1))
# Largest depth of each kind of destination.
DEPTHS = {LEVEL: 60.0, PITCH: 48.0, RELEASE: 8.0, WALK: 1.0}
LATENT_DEPTH, SETTING_DEPTH = 8.0, SETTING_MAX


@dataclass(frozen=True)
class Knob:
    """What a knob or controller turns: ``attribute`` moves from ``low`` to ``high`` as it goes from 0 to 1."""

    attribute: str
    low: float = 0.0
    high: float = 1.0
    curve: float = 1.0
    carry: bool = True

    def setting(self, position: float) -> float:
        """The setting (0..2) of the attribute with the knob at ``position`` (0..1)."""
        return self.low + (self.high - self.low) * math.pow(position, self.curve)


@dataclass(frozen=True)
class Route:
    """What a source adds to a destination: ``depth`` of its unit where the source is full."""

    source: str
    to: str
    depth: float
    curve: float = 1.0
    bipolar: bool | None = None  # None: as the source is
    carry: bool = True

    def amount(self, value: float) -> float:
        """What is added for a source at ``value``."""
        natural = self.source.partition(".")[0] in BIPOLAR
        if self.bipolar is True and not natural:
            value = 2.0 * value - 1.0
        elif self.bipolar is False and natural:
            value = (value + 1.0) / 2.0
        return self.depth * math.copysign(math.pow(abs(value), self.curve), value)


@dataclass(frozen=True)
class Lfo:
    """A slow wave: ``rate_hz``, or ``beats`` of the MIDI clock to a period."""

    shape: str = "sine"
    rate_hz: float = 1.0
    beats: float | None = None
    phase: float = 0.0
    restart: bool = False


@dataclass(frozen=True)
class Envelope:
    """Up, down to ``sustain``, and away when the last key is let go; straight lines."""

    attack_s: float = 0.01
    decay_s: float = 0.2
    sustain: float = 0.5
    release_s: float = 0.3


@dataclass(frozen=True)
class Latent:
    """What happens to the latent besides being chosen; the module's docstring says what each field means."""

    lock: bool = False
    drift: float = 0.0
    drift_s: float = 10.0
    walk: tuple[int, int] | None = None
    new: bool = False


@dataclass(frozen=True)
class Patch:
    """One set-up of a bundle; the module's docstring says what each field means."""

    attributes: Mapping[str, float] = field(default_factory=dict)
    knobs: Mapping[int, Knob] | None = None  # None: the bundle's most obedient attributes
    cc: Mapping[int, Knob] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    lfos: Mapping[int, Lfo] = field(default_factory=dict)
    envelopes: Mapping[int, Envelope] = field(default_factory=dict)
    randoms: Mapping[int, float] = field(default_factory=dict)  # how often a second; 0: with every note
    latent: Latent = field(default_factory=Latent)
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
    mpe: str = "off"
    tuning_semitones: float = 0.0  # transposition, and A4 against 440 Hz
    scale: Scale | None = None
    root: float = 0.0


def read_patch(path: Path, attributes: Sequence[str], presets: Sequence[str]) -> Patch:
    """Read a TOML patch for a bundle with these ``attributes`` and ``presets``.

    Strict: DarkrackError names the file, the line and the key for an unknown key, attribute or preset (and suggests the
    nearest), a wrong type and a value out of range. Names are matched without regard to case.
    """
    page = read_page(path, "a patch")
    voice, pitch, latent = page.table("voice"), page.table("pitch"), page.table("latent")
    carry = voice.flag("carry", default=True)
    preset = voice.text("preset")
    lfos = {number: _lfo(table) for number, table in page.table("lfo").numbered(GENERATORS)}
    envelopes = {number: _envelope(table) for number, table in page.table("envelope").numbered(GENERATORS)}
    randoms = {number: _random(table) for number, table in page.table("random").numbered(GENERATORS)}
    made = {
        *(f"lfo.{n}" for n in lfos),
        *(f"envelope.{n}" for n in envelopes),
        *(f"random.{n}" for n in randoms),
    }
    patch = Patch(
        attributes=_settings(page.table("attributes"), attributes),
        knobs=_knobs(page.table("knob"), attributes, carry) if "knob" in page.content else None,
        cc=_ccs(page.table("cc"), attributes, carry),
        lfos=lfos,
        envelopes=envelopes,
        randoms=randoms,
        latent=_latent(latent),
        routes=tuple(_route(table, attributes, made, carry) for table in page.tables("route")),
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
        mpe=voice.choice("mpe", MPE) if "mpe" in voice.content else "off",
        tuning_semitones=pitch.number("transpose", -60.0, 60.0, default=0.0)
        + 12.0 * math.log2(pitch.number("a4_hz", 400.0, 480.0, default=A4_HZ) / A4_HZ),
        scale=read_scale(pitch.text("quantize") or OFF, path.parent, pitch.at("quantize")),
        root=parse_note(pitch.text("root") or "C", pitch.at("root")),
    )
    for table in (voice, pitch, latent):
        table.refuse_unknown()
    page.known += ["voice", "knob"]
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


def _knobs(table: Table, attributes: Sequence[str], carry: bool) -> dict[int, Knob]:
    knobs = {}
    for key in table.content:
        if key not in map(str, range(1, KNOBS + 1)):
            raise DarkrackError(table.at(key), f"a knob's number from 1 to {KNOBS}", repr(key))
        knobs[int(key)] = _knob(table, key, attributes, carry)
    return knobs


def _ccs(table: Table, attributes: Sequence[str], carry: bool) -> dict[int, Knob]:
    knobs: dict[int, Knob] = {}
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
        knobs[int(key)] = _knob(table, key, attributes, carry)
    return knobs


def _knob(table: Table, key: str, attributes: Sequence[str], carry: bool) -> Knob:
    """A knob that is the name of an attribute, or a table."""
    what = "an attribute of the bundle"
    if isinstance(table.content[key], str):
        return Knob(nearest(table.text(key) or "", attributes, table.at(key), what), carry=carry)
    entry = table.table(key)
    name = entry.text("attribute")
    if name is None:
        raise DarkrackError(entry.at("attribute"), "the name of an attribute", "none")
    low, high = entry.pair("range", 0.0, SETTING_MAX, default=(0.0, 1.0))
    knob = Knob(
        attribute=nearest(name, attributes, entry.at("attribute"), what),
        low=low,
        high=high,
        curve=entry.number("curve", 0.1, 10.0, default=1.0),
        carry=entry.flag("carry", default=carry),
    )
    entry.refuse_unknown()
    return knob


def _route(table: Table, attributes: Sequence[str], made: set[str], carry: bool) -> Route:
    source, to = table.text("from"), table.text("to")
    if source is None or source.casefold() not in SOURCES:
        expected = "cv.N, knob.N, gate.N, cc.N, bend, pressure, velocity, note, lfo.N, envelope.N or random.N"
        hint = suggestion(source, SOURCES) if source else ""
        raise DarkrackError(table.at("from"), expected, "none" if source is None else repr(source), hint)
    source = source.casefold()
    kind = source.partition(".")[0]
    if kind in {"lfo", "envelope", "random"} and source not in made:
        raise DarkrackError(table.at("from"), f"a table [{source}] in this patch", "none")
    if to is None:
        raise DarkrackError(table.at("to"), "an attribute, level, pitch, release, walk or z.N", "none")
    others = (LEVEL, PITCH, RELEASE, WALK, *LATENTS)
    to = nearest(
        to,
        [*attributes, *others],
        table.at("to"),
        "an attribute of the bundle, level, pitch, release, walk or z.N",
    )
    most = LATENT_DEPTH if to in LATENTS else DEPTHS.get(to, SETTING_DEPTH)
    polarity = table.choice("polarity", ("bipolar", "unipolar")) if "polarity" in table.content else None
    route = Route(
        source,
        to,
        depth=table.number("depth", -most, most),
        curve=table.number("curve", 0.1, 10.0, default=1.0),
        bipolar=None if polarity is None else polarity == "bipolar",
        carry=table.flag("carry", default=carry),
    )
    table.refuse_unknown()
    return route


def _lfo(table: Table) -> Lfo:
    beats = table.number("beats", 0.0625, 256.0) if "beats" in table.content else None
    if beats is not None and "rate_hz" in table.content:
        raise DarkrackError(table.at(), "rate_hz or beats", "both")
    lfo = Lfo(
        shape=table.choice("shape", SHAPES) if "shape" in table.content else "sine",
        rate_hz=table.number("rate_hz", 0.001, 20.0, default=1.0),
        beats=beats,
        phase=table.number("phase", 0.0, 1.0, default=0.0),
        restart=table.flag("restart", default=False),
    )
    table.refuse_unknown()
    return lfo


def _envelope(table: Table) -> Envelope:
    envelope = Envelope(
        attack_s=table.number("attack_ms", 0.0, 60_000.0, default=10.0) / 1000.0,
        decay_s=table.number("decay_ms", 0.0, 60_000.0, default=200.0) / 1000.0,
        sustain=table.number("sustain", 0.0, 1.0, default=0.5),
        release_s=table.number("release_ms", 0.0, 60_000.0, default=300.0) / 1000.0,
    )
    table.refuse_unknown()
    return envelope


def _random(table: Table) -> float:
    rate_hz = table.number("rate_hz", 0.01, 50.0) if "rate_hz" in table.content else 0.0
    table.refuse_unknown()
    return rate_hz


def _latent(table: Table) -> Latent:
    walk = None
    if "walk" in table.content:
        first, second = table.pair("walk", 0, 2**32 - 1, default=(0, 0))
        if first != int(first) or second != int(second):
            raise DarkrackError(
                table.at("walk"), "two whole numbers, seeds of latents", str(table.content["walk"])
            )
        walk = (int(first), int(second))
    return Latent(
        lock=table.flag("lock", default=False),
        drift=table.number("drift", 0.0, 3.0, default=0.0),
        drift_s=table.number("drift_s", 0.1, 3600.0, default=10.0),
        walk=walk,
        new=table.flag("new", default=False),
    )
