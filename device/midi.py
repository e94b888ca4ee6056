"""MIDI channel messages into what a performance does: the same for a file, the demo and a live port.

One bundle is one instrument, so program changes mean nothing, and all channels turn the same knobs; level,
bend, pedal and notes belong to their channel. Sources: MIDI 1.0 Detailed Specification; General MIDI 1
(volume starts at 100, bend range at 2 semitones, channel 10 is drums); RP-015 (what Reset All Controllers
resets).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import mido

from device.hands import Hands
from device.patch import Patch

DRUM_CHANNEL = 9  # counted from 0; musicians call it 10
DATA_ENTRY, VOLUME, EXPRESSION, DATA_ENTRY_FINE, SUSTAIN = 6, 7, 11, 38, 64
NRPN_FINE, NRPN, RPN_FINE, RPN = 98, 99, 100, 101
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123
VOLUME_START = 100
NO_PARAMETER = 0x7F
BEND_CENTRE = 8192


@dataclass
class _Controllers:
    """Where the controllers of one channel stand."""

    bend_range_semitones: int
    bend_range_cents: int
    volume: int = VOLUME_START
    expression: int = 127
    bend: int = 0
    parameter: tuple[int, int] = (NO_PARAMETER, NO_PARAMETER)


class Receiver:
    """Plays ``performance`` by MIDI, with the CC knobs of ``patch``.

    ``transpose_semitones`` shifts every note; ``drums`` plays channel 10 as well, which a melodic instrument
    otherwise leaves out.
    """

    def __init__(
        self, performance: Hands, patch: Patch, *, transpose_semitones: float = 0.0, drums: bool = False
    ) -> None:
        self._performance = performance
        self._patch = patch
        self._transpose = transpose_semitones
        self._drums = drums
        self._channels: dict[int, _Controllers] = {}
        self._drum_notes = 0
        self._programs: Counter[int] = Counter()

    def set_up(self, patch: Patch) -> None:
        """Go over to another patch; controllers stay where they stand."""
        self._patch = patch

    def hear(self, message: mido.Message) -> None:
        """Obey one channel message now; others, and controllers that mean nothing here, are passed over."""
        kind = message.type
        if kind == "program_change":
            self._programs[message.program + 1] += 1
        elif message.channel == DRUM_CHANNEL and not self._drums:
            self._drum_notes += kind == "note_on" and message.velocity > 0
        elif kind == "note_on" and message.velocity > 0:
            pitch = message.note + self._transpose
            self._performance.note_on(message.note, pitch, message.velocity / 127.0, message.channel)
        elif kind in {"note_on", "note_off"}:  # a note-on of velocity 0 is a note-off
            self._performance.note_off(message.note, message.channel)
        elif kind == "pitchwheel":
            self._at(message.channel).bend = message.pitch
            self._bend(message.channel)
        elif kind == "control_change":
            self._control(message.channel, message.control, message.value)

    def remarks(self) -> list[str]:
        """What was left out so far, one sentence each."""
        lines = []
        if self._drum_notes:
            lines.append(f"channel 10 (drums) left out: {self._drum_notes} notes; --drums plays them")
        if self._programs:
            asked = ", ".join(str(program) for program in sorted(self._programs))
            lines.append(f"program changes ignored (to {asked}): a bundle is one instrument")
        return lines

    def _control(self, channel: int, control: int, value: int) -> None:
        at = self._at(channel)
        if control in self._patch.cc:
            knob = self._patch.cc[control]
            self._performance.set_attribute(knob.attribute, knob.setting(value / 127.0), knob.carry)
        elif control in {VOLUME, EXPRESSION}:
            if control == VOLUME:
                at.volume = value
            else:
                at.expression = value
            self._level(channel)
        elif control == SUSTAIN:
            self._performance.pedal(value >= 64, channel)
        elif control in {RPN, RPN_FINE}:
            msb, lsb = at.parameter
            at.parameter = (value, lsb) if control == RPN else (msb, value)
        elif control in {NRPN, NRPN_FINE}:  # data entry is for that one now, and none of them concerns us
            at.parameter = (NO_PARAMETER, NO_PARAMETER)
        elif control in {DATA_ENTRY, DATA_ENTRY_FINE} and at.parameter == (0, 0):
            if control == DATA_ENTRY:
                at.bend_range_semitones, at.bend_range_cents = value, 0
            else:
                at.bend_range_cents = value
            self._bend(channel)
        elif control == ALL_SOUND_OFF:
            self._performance.silence(channel)
        elif control == RESET_CONTROLLERS:
            at.expression, at.bend, at.parameter = 127, 0, (NO_PARAMETER, NO_PARAMETER)
            self._performance.pedal(False, channel)
            self._bend(channel)
            self._level(channel)
        elif control >= ALL_NOTES_OFF:  # 124 to 127 change the mode, and begin with all notes off
            self._performance.release_all(channel)

    def _bend(self, channel: int) -> None:
        at = self._at(channel)
        span = at.bend_range_semitones + at.bend_range_cents / 100.0
        self._performance.bend(span * at.bend / BEND_CENTRE, channel)

    def _level(self, channel: int) -> None:
        """Gain goes with the square of both (General MIDI 2: 40 log10) and is 1 where they start."""
        at = self._at(channel)
        self._performance.level((at.volume / VOLUME_START * at.expression / 127.0) ** 2, channel)

    def _at(self, channel: int) -> _Controllers:
        if channel not in self._channels:
            cents = round(self._patch.bend_range_semitones * 100)
            self._channels[channel] = _Controllers(cents // 100, cents % 100)
        return self._channels[channel]
