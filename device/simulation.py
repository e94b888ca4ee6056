r"""A bench without hardware: an ADC chip on an SPI bus; pots, voltages and gates as functions of time.

Wires are swapped, drivers are not. Blinka's ``busio.SPI`` and ``digitalio.DigitalInOut`` and Adafruit's
driver run as they do on a board; only the object at the end of the wire, which moves bits or reads a level,
is ours. One exchange with the 10-bit chip in SPI mode 0,0, the sample held at (*):

    CS   \_______________________________________________________________________ ... ___________/
    CLK  __/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\ ... __/\__/\__/\
    DIN  | 1 |S/D| D2| D1| D0|                     don't care
    DOUT      high impedance     * 0 | B9| B8| B7| B6| B5| B4| B3| B2| B1| B0| B1 ... | B9| 0 | 0

The chip latches DIN on rising edges and changes DOUT on falling ones. The line is pulled up while nobody
drives it, so a driver whose result mask is too wide reads ones where it should not have looked.

Source: Microchip DS21295 (MCP3004/3008), section 5.0 "Serial communication", figures 5-1 and 5-2, table 5-2;
DS21298 (MCP3204/3208) says the same of 12 bits. Not modelled: analog settling, the droop of the held sample
below 10 kHz, and the limits of supply and clock.

The 16-bit chip has one input and wants no configuration; in mode 0,0, the sample held at (*):

    CS   \_______________________________________________________________ ... ___________/
    CLK  __/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\__/\ ... __/\__/\__/\
    DOUT  high impedance     * 0 |B15|B14|B13|B12|B11|B10| B9| B8| B7| B6 ... | B0| B1| B2

Source: Texas Instruments SBAS226 (ADS8325), "Serial interface" and its timing table: 4.5 to 5 clocks of sampling, a
null bit, 16 bits MSB first, then again LSB first.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError

Signal = Callable[[float], float]  # seconds -> volts (an ADC input) or level (a gate: high above a half)

CHANNELS = 8
CONFIGURATION_CLOCKS = 4  # SGL/DIFF, D2, D1, D0 follow the start bit
BIT_PLACES = (7, 6, 5, 4, 3, 2, 1, 0)  # of a byte, in the order they go over the wire
SAMPLE_CLOCKS = 5  # of the ADS8325, from CS on
HOLD_CLOCK = 5  # clocks after the start bit; at its falling edge the sample is held and the null bit appears


class Clock:
    """The time that everything simulated shares, in seconds: whoever plays sets it, the bus advances it."""

    def __init__(self) -> None:
        self.now_s = 0.0


def code_of(input_v: float, reference_v: float, bits: int) -> int:
    """Output code of an ideal converter: 2**bits * input / reference, rounded down and held within the range.

    Source: DS21295, equation 4-2, and 4.1 for an input outside the range (below 0 V reads 0, from one LSB below the
    reference on reads all ones).
    """
    return max(0, min((1 << bits) - 1, int((1 << bits) * input_v / reference_v)))


@dataclass(frozen=True)
class Flaws:
    """What a real converter and what stands before it do wrong; an LSB is the converter's own.

    ``inl_lsb`` and ``dnl_lsb`` are the most that any code is off, integrally and differentially: the nonlinearity is
    drawn from ``seed`` and brought to whichever limit it meets first. ``noise_lsb`` is the rms noise of a reading.
    ``gain`` and ``offset_v`` are how far the input stage is from its nominal one: what arrives is
    input * (1 + gain) + offset_v. ``reference`` is how far the reference voltage is from its nominal one, as a share.
    """

    inl_lsb: float = 0.0
    dnl_lsb: float = 1.0
    noise_lsb: float = 0.0
    gain: float = 0.0
    offset_v: float = 0.0
    reference: float = 0.0
    seed: int = 0


class Converter:
    """Volts to codes: ideal, or with ``flaws``, whose noise is drawn in turn: the same calls give the same codes."""

    def __init__(self, reference_v: float, bits: int, flaws: Flaws | None = None) -> None:
        self.flaws = flaws
        self._reference_v, self._bits = reference_v, bits
        self._transitions: npt.NDArray[np.float64] | None = None
        self._chance = random.Random(flaws.seed if flaws else 0)
        if flaws is not None and flaws.inl_lsb:
            # Where code n begins is n LSB for an ideal one.
            self._transitions = np.arange(1 << bits) + nonlinearity(flaws, bits)

    def code(self, input_v: float) -> int:
        """The code of one sample."""
        if self.flaws is None:
            return code_of(input_v, self._reference_v, self._bits)
        flaws = self.flaws
        arrives_v = input_v * (1.0 + flaws.gain) + flaws.offset_v
        lsb = arrives_v / (self._reference_v * (1.0 + flaws.reference)) * (1 << self._bits)
        if flaws.noise_lsb:
            lsb += self._chance.gauss(0.0, flaws.noise_lsb)
        if self._transitions is None:
            return max(0, min((1 << self._bits) - 1, int(lsb)))
        return max(0, int(np.searchsorted(self._transitions, lsb, side="right")) - 1)


def nonlinearity(flaws: Flaws, bits: int) -> npt.NDArray[np.float64]:
    """How far the beginning of each code is from its ideal place: (2**bits,) float64 in LSB, 0 at both ends.

    A successive-approximation converter weighs its input against capacitors of 1, 2, 4 ... units; what these are off
    by jumps where a large one takes over from all smaller ones. A bow, of the input stage or of the capacitors
    themselves, is laid under it.
    """
    chance = np.random.default_rng(flaws.seed)
    weights = 2.0 ** np.arange(bits)
    errors = chance.standard_normal(bits) * np.sqrt(weights)  # of so many equal units each
    codes = np.arange(1 << bits)
    steps = sum(error * (codes >> place & 1) for place, error in enumerate(errors))
    along = codes / codes[-1]
    bow = np.sin(np.pi * chance.integers(1, 4) * along)
    curve = steps - steps[0] - (steps[-1] - steps[0]) * along
    curve = curve / np.abs(curve).max() + chance.uniform(-1, 1) * bow
    curve -= curve[-1] * along
    limits = (flaws.inl_lsb / np.abs(curve).max(), flaws.dnl_lsb / np.abs(np.diff(curve)).max())
    found: npt.NDArray[np.float64] = curve * min(limits)
    return found


class Mcp3x08:
    """MCP3008 (``bits=10``) or MCP3208 (``bits=12``): CS, CLK and DIN in, DOUT out, one edge at a time.

    ``inputs`` are up to eight signals in volts, CH0 first; inputs that are not given lie at 0 V. ``garbage`` plants a
    fault: while it is set, it is given the code that was converted, and what it returns goes onto the wire instead,
    cut to ``bits``. ``dout`` is the level on the DOUT line, 0 or 1: nobody driving it reads 1, for the line is
    pulled up.
    """

    def __init__(
        self,
        clock: Clock,
        inputs: Sequence[Signal],
        reference_v: float = 3.3,
        bits: int = 10,
        flaws: Flaws | None = None,
    ) -> None:
        if len(inputs) > CHANNELS:
            raise ValueError(f"the chip has {CHANNELS} inputs, not {len(inputs)}")
        self.clock = clock
        self.inputs = [*inputs, *([_ground] * (CHANNELS - len(inputs)))]
        self.reference_v = reference_v
        self.bits = bits
        self.garbage: Callable[[int], int] | None = None
        self._converter = Converter(reference_v, bits, flaws)
        # Powered up with CS low it stays silent until CS was high once (section 5.0).
        self._cs_level = False
        self._selected = False
        self._deselect()

    def _deselect(self) -> None:
        self._clocks_after_start: int | None = None  # None: no start bit yet
        self._configuration = 0
        self._stream: list[int] = []  # what DOUT says from the held sample on
        self.dout = 1

    def set_chip_select(self, level: bool) -> None:
        """Move the CS line: its falling edge opens an exchange, high ends it and releases DOUT."""
        if level:
            self._deselect()
        self._selected = not level and (self._cs_level or self._selected)
        self._cs_level = level

    def rising_edge(self, din: int) -> None:
        """CLK rises: take DIN as start bit (zeros before it are skipped), configuration or nothing."""
        if not self._selected:
            return
        clocks = self._clocks_after_start
        if clocks is None:
            if din:
                self._clocks_after_start = 0
            return
        self._clocks_after_start = clocks + 1
        if clocks < CONFIGURATION_CLOCKS:
            self._configuration = self._configuration << 1 | din

    def falling_edge(self) -> None:
        """CLK falls: hold the sample when its time has come, put out the next bit."""
        clocks = self._clocks_after_start
        if clocks is None or clocks < HOLD_CLOCK:
            return
        if clocks == HOLD_CLOCK:
            code = self._convert()
            self._stream = _spelt(code, self.bits)
        place = clocks - HOLD_CLOCK
        self.dout = self._stream[place] if place < len(self._stream) else 0

    def _convert(self) -> int:
        """Sample the selected input or pair now (table 5-2: D0 tells which one of a pair is IN+)."""
        single_ended, channel = self._configuration >> 3, self._configuration & 0b111
        input_v = self.inputs[channel](self.clock.now_s)
        if not single_ended:
            input_v -= self.inputs[channel ^ 1](self.clock.now_s)
        return _told(self._converter.code(input_v), self.bits, self.garbage)


class Ads8325:
    """ADS8325: CS and CLK in, DOUT out, one edge at a time; one input, 16 bits, no configuration.

    ``inputs`` has that one signal in volts; ``garbage`` and ``dout`` as those of `Mcp3x08`.
    """

    BITS = 16

    def __init__(
        self, clock: Clock, inputs: Sequence[Signal], reference_v: float = 3.3, flaws: Flaws | None = None
    ) -> None:
        if len(inputs) != 1:
            raise ValueError(f"the chip has one input, not {len(inputs)}")
        self.clock = clock
        self.inputs = [*inputs]
        self.reference_v = reference_v
        self.garbage: Callable[[int], int] | None = None
        self._converter = Converter(reference_v, self.BITS, flaws)
        self.set_chip_select(True)

    def set_chip_select(self, level: bool) -> None:
        """Move the CS line: its falling edge wakes the chip, high puts it to sleep and releases DOUT."""
        self._selected = not level
        self._clocks = 0
        self._stream: list[int] = []
        self.dout = 1

    def rising_edge(self, din: int) -> None:
        """CLK rises: nothing happens on this edge, and nothing is listened to."""

    def falling_edge(self) -> None:
        """CLK falls: hold the sample at the fifth, put out the next bit from there on."""
        if not self._selected:
            return
        self._clocks += 1
        if self._clocks < SAMPLE_CLOCKS:
            return
        if self._clocks == SAMPLE_CLOCKS:
            code = _told(self._converter.code(self.inputs[0](self.clock.now_s)), self.BITS, self.garbage)
            self._stream = _spelt(code, self.BITS)
        place = self._clocks - SAMPLE_CLOCKS
        self.dout = self._stream[place] if place < len(self._stream) else 0


def _spelt(code: int, bits: int) -> list[int]:
    """What DOUT says of a code: the null bit, MSB first, then again LSB first; both share B0 (DS21295, figure 5-2)."""
    msb_first = f"{code:0{bits}b}"
    return [*map(int, f"0{msb_first}{msb_first[-2::-1]}")]


def _told(code: int, bits: int, garbage: Callable[[int], int] | None) -> int:
    """What goes onto the wire for a code."""
    return code if garbage is None else garbage(code) & (1 << bits) - 1


def _ground(_now_s: float) -> float:
    return 0.0


Chip: TypeAlias = Mcp3x08 | Ads8325


class SpiBus:
    """The controller's end of the wires, with the methods that Blinka calls on a board's SPI peripheral.

    All four SPI modes toggle the lines as they should; the chip understands 0,0 and 1,1. The shared clock
    advances by half a bit per edge.
    """

    MSB = 0

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._polarity = 0
        self._phase = 0
        self.frequency = 100_000

    def init(self, baudrate: int, polarity: int, phase: int, bits: int, firstbit: int) -> None:
        """Take the settings of the next exchange; words other than 8 bits MSB first are refused."""
        if bits != 8 or firstbit != self.MSB:
            raise ValueError("this bus moves bytes, MSB first")
        self.frequency, self._polarity, self._phase = baudrate, polarity, phase

    def write(self, buf: Sequence[int], start: int = 0, end: int | None = None) -> None:
        """Send bytes, drop what comes back."""
        for byte in buf[start:end]:
            self._exchange(byte)

    def readinto(self, buf: bytearray, start: int = 0, end: int | None = None, write_value: int = 0) -> None:
        """Fill ``buf[start:end]`` while sending ``write_value``."""
        for place in range(*slice(start, end).indices(len(buf))):
            buf[place] = self._exchange(write_value)

    def write_readinto(  # noqa: PLR0917 - Blinka's order, and Blinka passes them by position
        self,
        buffer_out: Sequence[int],
        buffer_in: bytearray,
        out_start: int = 0,
        out_end: int | None = None,
        in_start: int = 0,
        in_end: int | None = None,
    ) -> None:
        """Send and fill two slices of equal length at the same time."""
        outgoing = buffer_out[out_start:out_end]
        places = range(*slice(in_start, in_end).indices(len(buffer_in)))
        for byte, place in zip(outgoing, places, strict=True):
            buffer_in[place] = self._exchange(byte)

    def _exchange(self, byte: int) -> int:
        """One byte each way. Phase 0 samples on the leading edge and shifts on the trailing; 1 swaps them."""
        # 48 edges for every reading of a control loop in real time: names looked up once are half of the cost.
        chip, clock, half_bit_s = self._chip, self._chip.clock, 0.5 / self.frequency
        rising, falling = chip.rising_edge, chip.falling_edge
        rises_first, samples_first = not self._polarity, not self._phase
        received = din = 0
        for place in BIT_PLACES:
            if samples_first:
                din = byte >> place & 1
                received = received << 1 | chip.dout
            clock.now_s += half_bit_s
            if rises_first:
                rising(din)
            else:
                falling()
            if not samples_first:
                din = byte >> place & 1
                received = received << 1 | chip.dout
            clock.now_s += half_bit_s
            if rises_first:
                falling()
            else:
                rising(din)
        return received


class ChipSelectLine:
    """What stands behind Blinka's ``DigitalInOut`` for the CS pin."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._level = 0

    def init(self, mode: int = 0, pull: int | None = None) -> None:
        """Direction, drive and pull make no difference to this wire."""

    def value(self, level: int | None = None) -> int:
        """Drive the line, or with no level read back what was driven."""
        if level is not None:
            self._level = level
            self._chip.set_chip_select(bool(level))
        return self._level


class InputLine:
    """What stands behind Blinka's ``DigitalInOut`` for an input: a signal, high above a half."""

    def __init__(self, clock: Clock, level: Signal) -> None:
        self._clock = clock
        self._level = level

    def init(self, mode: int = 0, pull: int | None = None) -> None:
        """The line is always driven, so direction and pull make no difference."""

    def value(self) -> int:
        """The level now, 0 or 1."""
        return int(self._level(self._clock.now_s) > 0.5)


class Edge(NamedTuple):
    """One edge of a line, as the kernel tells it; ``number`` counts the line's edges from 1, so a gap shows a loss."""

    time_ns: int
    level: int
    number: int


class EdgeQueue:
    """What Linux's GPIO character device keeps of one line: its edges since the last read, each with its own time.

    ``edges_between(begin_s, end_s)`` gives the line's edges as (time_s, level) in a half-open interval of the shared
    clock, in order. ``origin_ns`` is the time (CLOCK_MONOTONIC, as the kernel stamps) at which that clock read zero.
    Only the newest ``capacity`` edges are kept, the oldest are lost, as in the kernel. Source: Linux,
    include/uapi/linux/gpio.h: struct gpio_v2_line_event (timestamp_ns, line_seqno) and event_buffer_size, by default
    16 edges a line.
    """

    def __init__(
        self,
        clock: Clock,
        edges_between: Callable[[float, float], Sequence[tuple[float, int]]],
        origin_ns: int = 0,
        capacity: int = 16,
    ) -> None:
        self._clock = clock
        self._edges_between = edges_between
        self._origin_ns = origin_ns
        self._capacity = capacity
        self._read_until_s = 0.0
        self._number = 0
        self._level = 0

    @property
    def level(self) -> int:
        """The level that the last read edge left."""
        return self._level

    def read(self) -> list[Edge]:
        """The edges before the clock's present that were not read yet, oldest first."""
        now_s = self._clock.now_s
        if now_s <= self._read_until_s:  # the bus runs ahead of whoever sets the clock
            return []
        found = self._edges_between(self._read_until_s, now_s)
        self._read_until_s = now_s
        edges = []
        for time_s, level in found:
            self._number += 1
            edges.append(Edge(self._origin_ns + round(time_s * 1e9), level, self._number))
        if edges:
            self._level = edges[-1].level
        return edges[-self._capacity :]


def open_spi(chip: Chip) -> tuple[Any, Any]:
    """Blinka's ``busio.SPI`` and the chip-select ``DigitalInOut``, wired to the simulated chip.

    Blinka looks for a board once per process, at its first import, which Adafruit's drivers do as well: open
    this first. Raises DarkrackError where Blinka has already looked without us.
    """
    board, busio, digitalio = _blinka_without_a_board()
    spi = busio.SPI(board.SCK, MOSI=board.MOSI, MISO=board.MISO)
    spi._spi = SpiBus(chip)
    chip_select = digitalio.DigitalInOut(board.CS)
    chip_select._pin = ChipSelectLine(chip)
    return spi, chip_select


def open_input(clock: Clock, level: Signal) -> Any:
    """Blinka's ``DigitalInOut`` as an input that follows ``level``, say a gate; errors as open_spi."""
    board, _, digitalio = _blinka_without_a_board()
    pin = digitalio.DigitalInOut(board.Dx_INPUT_FALSE)
    pin._pin = InputLine(clock, level)
    return pin


def _blinka_without_a_board() -> tuple[Any, Any, Any]:
    """Import Blinka so that it looks for no hardware: it decides at its first import and keeps to that."""
    variable = "BLINKA_OS_AGNOSTIC"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        import board
        import busio
        import digitalio
        from adafruit_blinka.agnostic import detector
    finally:
        # Processes that we start decide for themselves.
        with contextlib.suppress(KeyError):
            del os.environ[variable]
        if before is not None:
            os.environ[variable] = before
    if not detector.board.os_agnostic_board:
        raise DarkrackError(
            "simulated bench",
            "to be opened before Blinka looks for a board",
            f"Blinka set up for {detector.board.id}",
            "open it before importing a driver, in a process that uses no real board",
        )
    return board, busio, digitalio
