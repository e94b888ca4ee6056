"""Knobs through an MCP3008: Adafruit's driver on a board's SPI or the simulated one, and their smoothing.

The driver's ``AnalogIn.value`` and ``.voltage`` stretch ten bits to sixteen; here it is the chip's own code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.simulation import CHANNELS, Mcp3x08, open_spi

FULL_SCALE = 1023  # 2**10 - 1, the highest code of ten bits
BAUDRATE_HZ = 1_000_000  # under DS21295's 1.35 MHz at 2.7 V; the driver's own default is a tenth of it

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


def open_knobs(knobs: int, chip: Mcp3x08 | None = None, chip_select: str = "D5") -> KnobInputs:
    """Open an MCP3008 with ``knobs`` potentiometers (1 to 8) on its first channels.

    With ``chip`` it is simulated and no hardware is touched. Without, it hangs on the board's SPI, and
    ``chip_select`` names its pin in Blinka's ``board`` (not CE0 on a Raspberry Pi: the kernel keeps it).
    Raises DarkrackError where there is no such board, bus or pin.
    """
    if not 1 <= knobs <= CHANNELS:
        raise DarkrackError("knobs", f"1 to {CHANNELS} of them on one MCP3008", str(knobs))
    spi, select = _open_board_spi(chip_select) if chip is None else open_spi(chip)
    from adafruit_mcp3xxx.mcp3008 import MCP3008

    return KnobInputs(MCP3008(spi, select, baudrate=BAUDRATE_HZ), knobs)


def _open_board_spi(chip_select: str) -> tuple[Any, Any]:
    """The board's SPI bus and the pin that selects the chip."""
    try:
        import board
        import busio
        import digitalio

        spi = busio.SPI(board.SCK, MOSI=board.MOSI, MISO=board.MISO)
        return spi, digitalio.DigitalInOut(getattr(board, chip_select))
    except (AttributeError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise DarkrackError(
            "knobs",
            f"a board with SPI and a pin {chip_select}",
            " ".join(str(error).split()),
            "enable SPI (raspi-config on a Raspberry Pi), or use the simulated knobs",
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
