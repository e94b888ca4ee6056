"""Knobs through an MCP3008, control voltages through an MCP3208, pitch where it counts through an ADS8325.

Adafruit's drivers run on a board's SPI or the simulated one. Their ``AnalogIn.value`` and ``.voltage`` stretch a code
to sixteen bits; here it is the chip's own. The ADS8325 has no driver of theirs, so its three bytes are read here.
What keeps a resting knob still is here as well.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.simulation import CHANNELS, Chip, open_spi

FULL_SCALE = 1023  # 2**10 - 1, the highest code of ten bits
BITS: Mapping[str, int] = {"MCP3008": 10, "MCP3208": 12, "ADS8325": 16}
# Under DS21295's 1.35 MHz and DS21298's 1.0 MHz at 2.7 V; the driver's own default is a tenth of it.
BAUDRATE_HZ = 1_000_000
NULL_BIT = 1 << 18  # of 24: after five clocks of sampling

# Three constants of the smoothing, in the 0..1 of a knob's travel.
POLE_S = 0.02  # settles within a twentieth of a second, faster than a hand notices
STEP = 0.05  # a difference this big is a hand, not noise: followed at once
# Noise of a code either way moves the pole by two codes at most; the half keeps rounding from deciding.
STILL = 2.5 / FULL_SCALE
END = 4 / FULL_SCALE  # the last codes at both ends read as the end, or a knob might never say 0 or 1

Array = npt.NDArray[np.float32]


class KnobInputs:
    """Knobs on the first channels of one MCP3008."""

    def __init__(self, driver: Any, knobs: int) -> None:
        self._driver = driver
        self._knobs = knobs

    def read_code(self, channel: int) -> int:
        """One channel's code, 0 to 1023."""
        return int(self._driver.read(channel))

    def read_knobs(self) -> Array:
        """All knobs as they stand, unsmoothed: (knobs,) float32, 0 to 1."""
        codes = [self.read_code(channel) for channel in range(self._knobs)]
        return np.array(codes, np.float32) / np.float32(FULL_SCALE)


def open_knobs(knobs: int, chip: Chip | None = None, chip_select: str = "D5") -> KnobInputs:
    """Open an MCP3008 with ``knobs`` potentiometers (1 to 8) on its first channels.

    With ``chip`` it is simulated and no hardware is touched. Without, it hangs on the board's SPI, and
    ``chip_select`` names its pin in Blinka's ``board`` (not CE0 on a Raspberry Pi: the kernel keeps it).
    Raises DarkrackError where there is no such board, bus or pin.
    """
    if not 1 <= knobs <= CHANNELS:
        raise DarkrackError("knobs", f"1 to {CHANNELS} of them on one MCP3008", str(knobs))
    spi, select = _open_board_spi("knobs", chip_select) if chip is None else open_spi(chip)
    return KnobInputs(driver("MCP3008", spi, select), knobs)


class VoltageInputs:
    """The inputs of one converter: pitch and other control voltages, as they lie at the chip's pins.

    ``codes`` is how many it tells apart.
    """

    def __init__(self, driver: Any, bits: int, reference_v: float) -> None:
        self._driver = driver
        self.codes = 1 << bits
        self._lsb_v = reference_v / self.codes

    def read_code(self, channel: int) -> int:
        """One channel's code, 0 to ``codes`` - 1. OSError where the chip does not answer."""
        return int(self._driver.read(channel))

    def volts(self, code: float) -> float:
        """Volts at a pin: the middle of those that have this code.

        A code is its voltage rounded down (DS21298, equation 4-1), so its lower edge would be half a code flat. A code
        of twelve bits is 3.3 V / 4096 = 0.8 mV, at 0.5 V per octave 1.9 cents; of sixteen bits 0.12 cents.
        """
        return (code + 0.5) * self._lsb_v

    def read_v(self, channel: int) -> float:
        """Volts at one channel's pin."""
        return self.volts(self.read_code(channel))


def open_voltages(
    model: str, chip: Chip | None = None, chip_select: str = "D6", reference_v: float = 3.3
) -> VoltageInputs:
    """Open the converter (MCP3208 or ADS8325) that measures control voltages against ``reference_v``.

    ``chip`` and ``chip_select`` as for open_knobs; on a board all chips share the SPI, and must be read by one
    thread, since each has a lock of its own. Raises DarkrackError where there is no such board, bus or pin.
    """
    spi, select = _open_board_spi("control voltages", chip_select) if chip is None else open_spi(chip)
    return VoltageInputs(driver(model, spi, select), BITS[model], reference_v)


def driver(model: str, spi: Any, chip_select: Any) -> Any:
    """The driver of a chip on Blinka's SPI: Adafruit's, or ours for the ADS8325; ``read(channel)`` gives a code."""
    bus = _SettledBus(spi)
    if model == "ADS8325":
        return _Ads8325(bus, chip_select)
    if model == "MCP3208":
        from adafruit_mcp3xxx.mcp3208 import MCP3208 as Driver  # noqa: N811
    else:
        from adafruit_mcp3xxx.mcp3008 import MCP3008 as Driver  # noqa: N811
    return Driver(bus, chip_select, baudrate=BAUDRATE_HZ)


class _Ads8325:
    """The driver of the 16-bit chip: three bytes, see device.simulation for what is in them."""

    def __init__(self, bus: Any, chip_select: Any) -> None:
        from adafruit_bus_device.spi_device import SPIDevice

        self._device = SPIDevice(bus, chip_select, baudrate=BAUDRATE_HZ)
        self._out, self._in = bytearray(3), bytearray(3)

    def read(self, _channel: int) -> int:
        """The code. OSError where the null bit before it is not one: nobody drives the line."""
        with self._device as spi:
            spi.write_readinto(self._out, self._in)
        word = int.from_bytes(self._in, "big")
        if word & NULL_BIT:
            raise OSError(errno.EIO, "the ADS8325 does not answer")
        return word >> 2 & 0xFFFF  # 5 clocks of nothing, the null bit, 16 bits, 2 that repeat


class _SettledBus:
    """Blinka's ``busio.SPI`` that is configured when its settings change, not before every exchange.

    The driver configures at every reading, and Blinka then asks itself once more, some twenty times over, what board
    it is on: half of the time that a reading takes. Both keep the settings with the object, so once does.
    """

    def __init__(self, spi: Any) -> None:
        self._spi = spi
        self._settings: dict[str, int] = {}
        self.try_lock = spi.try_lock
        self.unlock = spi.unlock
        self.write_readinto = spi.write_readinto

    def configure(self, **settings: int) -> None:
        """Pass on settings that are new."""
        if settings != self._settings:
            self._spi.configure(**settings)
            self._settings = settings


def _open_board_spi(what: str, chip_select: str) -> tuple[Any, Any]:
    """The board's SPI bus and the pin that selects the chip; ``what`` hangs there, for the error."""
    try:
        import board
        import busio
        import digitalio

        spi = busio.SPI(board.SCK, MOSI=board.MOSI, MISO=board.MISO)
        return spi, digitalio.DigitalInOut(getattr(board, chip_select))
    except (AttributeError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise DarkrackError(
            what,
            f"a board with SPI and a pin {chip_select}",
            " ".join(str(error).split()),
            "enable SPI (raspi-config on a Raspberry Pi), or use the simulated ones",
        ) from error


@dataclass(frozen=True)
class Smoothing:
    """Where the smoothing of some knobs stands: both (knobs,) float32, 0 to 1 of the travel."""

    pole: Array  # the filtered position
    held: Array  # the position last given out


def begin_smoothing(read: Array) -> Smoothing:
    """Start at what is read first, without a glide from elsewhere."""
    return Smoothing(read, read)


def smooth(state: Smoothing, read: Array, period_s: float) -> Smoothing:
    """One scan: ``read`` (knobs,) in 0..1, taken ``period_s`` after the last one.

    A one-pole low pass whose coefficient grows with the difference, so that a big step passes at once and
    noise does not; then hysteresis: what is given out moves only when the pole is more than STILL away.
    """
    slowest = 1 - math.exp(-period_s / POLE_S)
    difference = read - state.pole
    coefficient = np.clip(np.abs(difference) / STEP, slowest, 1)
    pole = (state.pole + coefficient * difference).astype(np.float32)
    held = np.where(np.abs(pole - state.held) > STILL, pole, state.held)
    return Smoothing(pole, held)


def settings(state: Smoothing) -> Array:
    """The smoothed knobs: (knobs,) float32, 0 to 1, both ends reached."""
    stretched: Array = ((state.held - END) / (1 - 2 * END)).astype(np.float32)
    return stretched.clip(0, 1)
