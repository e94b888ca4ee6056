"""The module's inputs however they are wired: real converters and lines, or simulated ones that a script plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mido

from device import adc
from device.gpio import GateLines, open_gpio
from device.profile import Profile
from device.simulation import CHANNELS, Chip


@dataclass(frozen=True)
class Jacks:
    """What the scan looks at.

    ``pot(n)``: code 0 to 1023 of pot n, from 0. ``pitch()``: code of the V/oct input, one of ``pitch_codes``.
    ``cv(n)``: code 0 to 4095 of control voltage n. All three raise OSError where the bus fails. ``edges(now_ns)``:
    (time in ns, gate, whether it is high) since the last call; ``messages(now_ns)``: (time in ns, MIDI message)
    likewise. ``lost()``: edges that nobody told of. ``close()`` lets go of everything.
    """

    pot: Callable[[int], int]
    pitch: Callable[[], int]
    pitch_codes: int
    cv: Callable[[int], int]
    edges: Callable[[int], Sequence[tuple[int, int, bool]]]
    messages: Callable[[int], Sequence[tuple[int, mido.Message]]]
    lost: Callable[[], int]
    close: Callable[[], None]


@dataclass(frozen=True)
class Inputs:
    """The three readings of a module, through the real drivers."""

    pot: Callable[[int], int]
    pitch: Callable[[], int]
    pitch_codes: int
    cv: Callable[[int], int]


def open_inputs(
    profile: Profile, knobs: Chip | None = None, cv: Chip | None = None, pitch: Chip | None = None
) -> Inputs:
    """Open the converters of ``profile``: on the board, or where chips are given on these simulated ones.

    DarkrackError where there is no such board, bus or pin.
    """
    pots = adc.open_knobs(CHANNELS, knobs, profile.knob_chip.chip_select)
    voltages = adc.open_voltages(
        profile.cv_chip.model, cv, profile.cv_chip.chip_select, profile.cv_chip.reference_v
    )
    pitches = voltages
    if profile.pitch_chip is not None:
        chip = profile.pitch_chip
        pitches = adc.open_voltages(chip.model, pitch, chip.chip_select, chip.reference_v)
    return Inputs(
        pot=lambda n: pots.read_code(profile.knob_channels[n]),
        pitch=lambda: pitches.read_code(profile.pitch.channel),
        pitch_codes=pitches.codes,
        cv=lambda n: voltages.read_code(profile.cvs[n].channel),
    )


def open_board(profile: Profile, messages: Callable[[int], Sequence[tuple[int, mido.Message]]]) -> Jacks:
    """The jacks of a real module; DarkrackError where board, bus, pins or packages are not there."""
    inputs = open_inputs(profile)
    lines = GateLines(open_gpio(profile.board), profile.gates)
    return Jacks(
        pot=inputs.pot,
        pitch=inputs.pitch,
        pitch_codes=inputs.pitch_codes,
        cv=inputs.cv,
        edges=lines.edges,
        messages=messages,
        lost=lambda: lines.lost,
        close=lines.close,
    )
