"""A profile: which jack of a module hangs on which channel of which chip, and how often it is looked at.

A TOML file, strict; required where nothing else is said:

    board = "raspberry-pi"     # or "jetson"; "simulated": no hardware is touched, a script plays the jacks

    [chip.knobs]               # pots between ground and the reference
    model = "MCP3008"
    chip_select = "D5"         # the pin's name in Blinka's ``board``
    reference_v = 3.3

    [chip.cv]                  # control voltages, and pitch where it has no chip of its own
    model = "MCP3208"
    chip_select = "D6"
    reference_v = 3.3

    [chip.pitch]               # optional: 16 bits for the V/oct jack alone
    model = "ADS8325"
    chip_select = "D13"
    reference_v = 3.3

    [knobs]
    channels = [0, 1, 2, 3]    # pot 1 first
    scan_hz = 100              # how often each of them is read; one after the other, evenly spread

    [pitch]                    # the V/oct jack. At the pin lie offset_v + gain * (volts at the jack, 1 V per octave)
    channel = 0                # of the chip for control voltages; not where [chip.pitch] is
    gain = 0.5
    offset_v = 0.0
    zero_midi = 36             # the note at 0 V
    scan_hz = 1000
    settle_ms = 0              # optional, 0 to 20: a gate waits so long for its CV to settle, and sounds so much later

    [cv]
    scan_hz = 250              # optional (250): how often each of the others is read

    [cv.1]                     # 1 to 7, optional: a control voltage, through an input stage of the same kind
    channel = 1
    gain = 0.32
    offset_v = 1.65
    attenuverter = 8           # optional: this pot scales it, from -1 over 0 in the middle to 1, and turns nothing else

    [gate.1]                   # 1 to 8; the first plays the V/oct jack's note
    line = 17                  # of the header, as RPi.GPIO's BCM counts them; or:
    cv = 3                     # a control voltage is the gate: high above on_v (2), low again below off_v (1); it is
                               # seen when it is read, [cv] scan_hz times a second
    on_v = 2.0
    off_v = 1.0
    inverted = true            # optional: the input stage is a transistor, whose line is low while the gate is high

    [led]                      # optional: the status light
    line = 27

    [midi]                     # optional: DIN MIDI through a UART
    serial = "/dev/serial0"    # "/dev/serial0:38400" where the system makes 31250 baud of another rate

    [flaws]                    # optional, of a simulated board only: see device.simulation.Flaws
    inl_lsb = 1.0
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device.adc import BITS
from device.errors import DarkrackError
from device.simulation import CHANNELS, Flaws
from device.toml_table import Table, packaged, read_page

PROFILES = Path(__file__).with_name("profiles")
BOARDS = ("simulated", "raspberry-pi", "jetson")
SCAN_MAX_HZ = 10_000.0  # ten times what an instrument needs
GAIN_MIN = 0.01  # 1 V per octave would be 12 codes of the MCP3208: under this no note is told from the next
GATES = 8
LINES = 28  # of the 40-pin header, on a Jetson as well
SPI_LINES = (9, 10, 11)  # MISO, MOSI, SCLK
SETTLE_MAX_MS = 20.0  # longer is another note


@dataclass(frozen=True)
class Chip:
    """One converter: ``model`` as its maker calls it, ``bits`` of a code, where it is selected, what it compares to."""

    model: str
    bits: int
    chip_select: str
    reference_v: float


@dataclass(frozen=True)
class CvInput:
    """The way from a jack to a pin: ``offset_v`` + ``gain`` * volts at the jack. ``attenuverter``: its pot, 1 to 8."""

    channel: int
    gain: float
    offset_v: float
    attenuverter: int | None = None

    def pin_v(self, jack_v: float) -> float:
        """Volts at the pin for volts at the jack, before the chip clips them to its reference."""
        return self.offset_v + self.gain * jack_v

    def jack_v(self, pin_v: float) -> float:
        """Volts at the jack for volts at the pin."""
        return (pin_v - self.offset_v) / self.gain


@dataclass(frozen=True)
class Gate:
    """A gate jack: a ``line`` of the header, or control voltage ``cv`` with the thresholds of a Schmitt trigger."""

    line: int | None = None
    inverted: bool = False
    cv: int | None = None
    on_v: float = 2.0
    off_v: float = 1.0


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
    gates: Mapping[int, Gate]
    board: str = "simulated"
    pitch_chip: Chip | None = None  # of its own
    settle_ms: float = 0.0
    cv_scan_hz: float = 250.0
    led_line: int | None = None
    midi_serial: str | None = None
    flaws: Flaws | None = field(default=None)

    @property
    def chip_of_pitch(self) -> Chip:
        """The converter that reads V/oct."""
        return self.pitch_chip or self.cv_chip

    def pitch_midi(self, pin_v: float) -> float:
        """The MIDI note, with its fraction, for volts at the pin of the V/oct input."""
        return self.jack_midi(self.pitch.jack_v(pin_v))

    def jack_midi(self, jack_v: float) -> float:
        """The MIDI note, with its fraction, for volts at the V/oct jack."""
        return self.pitch_zero_midi + 12.0 * jack_v


def read_profile(name: str | Path) -> Profile:
    """Read a profile: one that comes with the program by its bare name ("sim"), any other by its path.

    DarkrackError names file and key of what is unknown (with the nearest), missing, of the wrong type, out of range,
    or given away twice.
    """
    path = packaged(name, PROFILES, "a profile")
    page = read_page(path, "a profile")
    chips, knobs, pitch = page.table("chip"), page.table("knobs"), page.table("pitch")
    cvs, gates, led, midi = page.table("cv"), page.table("gate"), page.table("led"), page.table("midi")
    board = page.choice("board", BOARDS)
    flaws = page.table("flaws") if "flaws" in page.content else None
    page.refuse_unknown()
    taken: dict[int, str] = {}
    pitch_chip = _chip(chips.table("pitch"), ("ADS8325",)) if "pitch" in chips.content else None
    knob_channels = knobs.wholes("channels", 0, CHANNELS - 1)
    profile = Profile(
        name=path.stem,
        board=board,
        knob_chip=_chip(chips.table("knobs"), ("MCP3008",)),
        cv_chip=_chip(chips.table("cv"), ("MCP3208",)),
        pitch_chip=pitch_chip,
        knob_channels=knob_channels,
        knob_scan_hz=knobs.number("scan_hz", 1.0, SCAN_MAX_HZ),
        pitch=_input(pitch, {} if pitch_chip else taken, 0 if pitch_chip else None),
        pitch_zero_midi=pitch.number("zero_midi", 0.0, 127.0),
        pitch_scan_hz=pitch.number("scan_hz", 1.0, SCAN_MAX_HZ),
        settle_ms=pitch.number("settle_ms", 0.0, SETTLE_MAX_MS, default=0.0),
        cv_scan_hz=cvs.number("scan_hz", 1.0, SCAN_MAX_HZ, default=250.0),
        cvs={
            number: _cv(table, taken, len(knob_channels))
            for number, table in cvs.numbered(CHANNELS - 1, beside=("scan_hz",))
        },
        gates={number: _gate(table) for number, table in gates.numbered(GATES)},
        led_line=led.whole("line", 0, LINES - 1),
        midi_serial=midi.text("serial"),
        flaws=None if flaws is None else _flaws(flaws, board),
    )
    for table in (chips, knobs, pitch, led, midi):
        table.refuse_unknown()
    _check_pins(profile, chips, gates)
    _check_gates(profile, gates)
    _check_attenuverters(profile, cvs)
    return profile


def _check_pins(profile: Profile, chips: Table, gates: Table) -> None:
    """Every chip has a select pin of its own, and no gate or light has one of the bus's."""
    taken = {profile.knob_chip.chip_select: "the knobs"}
    for name, chip in (("cv", profile.cv_chip), ("pitch", profile.pitch_chip)):
        if chip is None:
            continue
        if chip.chip_select in taken:
            got = f"{chip.chip_select!r}, as {taken[chip.chip_select]} have"
            raise DarkrackError(chips.at(f"{name}.chip_select"), "a pin of its own", got)
        taken[chip.chip_select] = "the control voltages"
    pins = {
        **{f"D{line}": "SPI's" for line in SPI_LINES},
        **{select: f"{whose}'" for select, whose in taken.items()},
    }
    lines = {f"{number}.line": gate.line for number, gate in profile.gates.items()}
    for where, line in (
        *((gates.at(key), line) for key, line in lines.items()),
        ("led.line", profile.led_line),
    ):
        if line is not None and f"D{line}" in pins:
            raise DarkrackError(where, "a line of its own", f"{line}, which is {pins[f'D{line}']}")


def _check_gates(profile: Profile, gates: Table) -> None:
    """The first gate is there, and no line is used twice, nor a control voltage that is not there."""
    if 1 not in profile.gates:
        raise DarkrackError(gates.at("1"), "the line of the first gate", "none")
    lines = [gate.line for gate in profile.gates.values() if gate.line is not None]
    if len(set(lines)) < len(lines) or profile.led_line in lines:
        raise DarkrackError(gates.at(), "a line of its own for every gate and light", "one that is shared")
    for number, gate in profile.gates.items():
        if gate.cv is not None and gate.cv not in profile.cvs:
            there = ", ".join(map(str, profile.cvs)) or "none"
            raise DarkrackError(gates.at(f"{number}.cv"), f"a control voltage ({there})", str(gate.cv))


def _check_attenuverters(profile: Profile, cvs: Table) -> None:
    """A pot scales one control voltage at most."""
    pots = [cv.attenuverter for cv in profile.cvs.values() if cv.attenuverter is not None]
    if len(set(pots)) < len(pots):
        raise DarkrackError(cvs.at(), "a pot of its own for every attenuverter", "one that is shared")


def _chip(table: Table, models: tuple[str, ...]) -> Chip:
    model = table.choice("model", models)
    chip = Chip(
        model=model,
        bits=BITS[model],
        chip_select=table.text("chip_select") or "",
        reference_v=table.number("reference_v", 0.5, 5.5),
    )
    if not chip.chip_select:
        raise DarkrackError(table.at("chip_select"), "the name of a pin", "none")
    table.refuse_unknown()
    return chip


def _input(table: Table, taken: dict[int, str], only: int | None = None) -> CvInput:
    """An input stage; ``taken`` remembers whose channel is whose, ``only`` is the one there is: it need not be said."""
    found = table.whole("channel", 0, CHANNELS - 1 if only is None else only)
    found = only if found is None else found
    if found is None or found in taken:
        free = ", ".join(str(channel) for channel in range(CHANNELS) if channel not in taken)
        got = "none" if found is None else f"{found}, which is {taken[found]}'s"
        raise DarkrackError(table.at("channel"), f"a free channel ({free})", got)
    taken[found] = f"[{table.name}]"
    gain = table.number("gain", -10.0, 10.0)
    if abs(gain) < GAIN_MIN:
        raise DarkrackError(table.at("gain"), f"a gain of at least {GAIN_MIN:g} either way", f"{gain:g}")
    return CvInput(found, gain, table.number("offset_v", -10.0, 10.0))


def _cv(table: Table, taken: dict[int, str], pots: int) -> CvInput:
    stage = dataclasses.replace(_input(table, taken), attenuverter=table.whole("attenuverter", 1, pots))
    table.refuse_unknown()
    return stage


def _gate(table: Table) -> Gate:
    if "line" in table.content and "cv" in table.content:
        raise DarkrackError(table.at(), "line or cv", "both")
    if "cv" in table.content:
        gate = Gate(
            cv=table.whole("cv", 1, CHANNELS - 1),
            on_v=table.number("on_v", -10.0, 10.0, default=2.0),
            off_v=table.number("off_v", -10.0, 10.0, default=1.0),
        )
        if gate.off_v >= gate.on_v:
            raise DarkrackError(table.at("off_v"), f"less than on_v ({gate.on_v:g})", f"{gate.off_v:g}")
    else:
        gate = Gate(table.whole("line", 0, LINES - 1), table.flag("inverted", default=False))
        if gate.line is None:
            raise DarkrackError(table.at("line"), "a line of the header", "none")
    table.refuse_unknown()
    return gate


def _flaws(table: Table, board: str) -> Flaws:
    if board != "simulated":
        raise DarkrackError(table.at(), "flaws of a simulated board", f"a {board}, which has its own")
    flaws = Flaws(
        inl_lsb=table.number("inl_lsb", 0.0, 1000.0, default=0.0),
        dnl_lsb=table.number("dnl_lsb", 0.0, 1.0, default=1.0),
        noise_lsb=table.number("noise_lsb", 0.0, 100.0, default=0.0),
        gain=table.number("gain", -0.5, 0.5, default=0.0),
        offset_v=table.number("offset_v", -1.0, 1.0, default=0.0),
        reference=table.number("reference", -0.1, 0.1, default=0.0),
        seed=table.whole("seed", 0, 2**32 - 1) or 0,
    )
    table.refuse_unknown()
    return flaws
