"""A profile: which jack of a module hangs on which channel of which chip, and how often it is looked at.

A TOML file, strict; everything in it is required but [cv.N], of which there may be none:

    [chip.knobs]               # pots between ground and the reference
    model = "MCP3008"
    chip_select = "D5"         # the pin's name in Blinka's ``board``
    reference_v = 3.3

    [chip.cv]                  # pitch and other control voltages
    model = "MCP3208"
    chip_select = "D6"
    reference_v = 3.3

    [knobs]
    channels = [0, 1, 2, 3]    # pot 1 first
    scan_hz = 100              # how often each of them is read; one after the other, evenly spread

    [pitch]                    # the V/oct jack. At the pin lie offset_v + gain * (volts at the jack, 1 V per octave)
    channel = 0
    gain = 0.5
    offset_v = 0.0
    zero_midi = 36             # the note at 0 V
    scan_hz = 1000

    [cv.1]                     # 1 to 7: another control voltage, through an input stage of the same kind
    channel = 1
    gain = 0.32
    offset_v = 1.65

    [gate.1]                   # 1 to 8; the first is the V/oct jack's
    line = 17                  # of the GPIO chip
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from device.errors import DarkrackError
from device.files import read_toml
from device.simulation import CHANNELS
from device.toml_table import Table, packaged

PROFILES = Path(__file__).with_name("profiles")
BITS: Mapping[str, int] = {"MCP3008": 10, "MCP3208": 12}
SCAN_MAX_HZ = 10_000.0  # ten times what an instrument needs
GAIN_MIN = 0.01  # 1 V per octave would be 12 codes of the MCP3208: under this no note is told from the next
GATES = 8


@dataclass(frozen=True)
class Chip:
    """One converter: ``model`` as its maker calls it, ``bits`` of a code, where it is selected, what it compares to."""

    model: str
    bits: int
    chip_select: str
    reference_v: float


@dataclass(frozen=True)
class CvInput:
    """The way from a jack to a pin: ``offset_v`` + ``gain`` * volts at the jack."""

    channel: int
    gain: float
    offset_v: float

    def pin_v(self, jack_v: float) -> float:
        """Volts at the pin for volts at the jack, before the chip clips them to its reference."""
        return self.offset_v + self.gain * jack_v

    def jack_v(self, pin_v: float) -> float:
        """Volts at the jack for volts at the pin."""
        return (pin_v - self.offset_v) / self.gain


@dataclass(frozen=True)
class Profile:
    """One module, field by field as the module's docstring says; ``knob_channels[0]`` is pot 1."""

    name: str
    knob_chip: Chip
    cv_chip: Chip
    knob_channels: tuple[int, ...]
    knob_scan_hz: float
    pitch: CvInput
    pitch_zero_midi: float
    pitch_scan_hz: float
    cvs: Mapping[int, CvInput]
    gate_lines: Mapping[int, int]

    def pitch_midi(self, pin_v: float) -> float:
        """The MIDI note, with its fraction, for volts at the pin of the V/oct input."""
        return self.pitch_zero_midi + 12.0 * self.pitch.jack_v(pin_v)


def read_profile(name: str | Path) -> Profile:
    """Read a profile: one that comes with the program by its bare name ("sim"), any other by its path.

    DarkrackError names file and key of what is unknown (with the nearest), missing, of the wrong type, out of range,
    or given away twice.
    """
    path = packaged(name, PROFILES, "a profile")
    page = Table(str(path), "", read_toml(path, "a profile"), "a profile")
    chips, knobs, pitch = page.table("chip"), page.table("knobs"), page.table("pitch")
    cvs, gates = page.table("cv"), page.table("gate")
    page.refuse_unknown()
    taken: dict[int, str] = {}
    profile = Profile(
        name=path.stem,
        knob_chip=_chip(chips.table("knobs"), "MCP3008"),
        cv_chip=_chip(chips.table("cv"), "MCP3208"),
        knob_channels=knobs.wholes("channels", 0, CHANNELS - 1),
        knob_scan_hz=knobs.number("scan_hz", 1.0, SCAN_MAX_HZ),
        pitch=_input(pitch, taken),
        pitch_zero_midi=pitch.number("zero_midi", 0.0, 127.0),
        pitch_scan_hz=pitch.number("scan_hz", 1.0, SCAN_MAX_HZ),
        cvs={number: _input(table, taken, alone=True) for number, table in cvs.numbered(CHANNELS - 1)},
        gate_lines={number: _line(table) for number, table in gates.numbered(GATES)},
    )
    for table in (chips, knobs, pitch):
        table.refuse_unknown()
    if profile.knob_chip.chip_select == profile.cv_chip.chip_select:
        raise DarkrackError(
            chips.at("cv.chip_select"),
            "a pin of its own",
            f"{profile.cv_chip.chip_select!r}, as the knobs have",
        )
    if 1 not in profile.gate_lines:
        raise DarkrackError(gates.at("1"), "the line of the first gate", "none")
    if len(set(profile.gate_lines.values())) < len(profile.gate_lines):
        raise DarkrackError(f"{path}: gate", "a line of its own for every gate", "one that is shared")
    return profile


def _chip(table: Table, model: str) -> Chip:
    chip = Chip(
        model=table.choice("model", (model,)),
        bits=BITS[model],
        chip_select=table.text("chip_select") or "",
        reference_v=table.number("reference_v", 0.5, 5.5),
    )
    if not chip.chip_select:
        raise DarkrackError(table.at("chip_select"), "the name of a pin", "none")
    table.refuse_unknown()
    return chip


def _input(table: Table, taken: dict[int, str], alone: bool = False) -> CvInput:
    """An input stage; ``taken`` remembers whose channel is whose, ``alone``: nothing else stands in the table."""
    found = table.whole("channel", 0, CHANNELS - 1)
    if found is None or found in taken:
        free = ", ".join(str(channel) for channel in range(CHANNELS) if channel not in taken)
        got = "none" if found is None else f"{found}, which is {taken[found]}'s"
        raise DarkrackError(table.at("channel"), f"a free channel ({free})", got)
    taken[found] = f"[{table.name}]"
    gain = table.number("gain", -10.0, 10.0)
    if abs(gain) < GAIN_MIN:
        raise DarkrackError(table.at("gain"), f"a gain of at least {GAIN_MIN:g} either way", f"{gain:g}")
    stage = CvInput(found, gain, table.number("offset_v", -10.0, 10.0))
    if alone:
        table.refuse_unknown()
    return stage


def _line(table: Table) -> int:
    line = table.whole("line", 0, 1023)
    if line is None:
        raise DarkrackError(table.at("line"), "a line of the GPIO chip", "none")
    table.refuse_unknown()
    return line
