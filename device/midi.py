"""MIDI messages into what a performance does: the same for a file, the demo and a live port.

One bundle is one instrument, so all channels turn the same knobs; level, bend, pedal and notes belong to their
channel, or to their zone: MPE gives every note a channel of its own, and one channel more for what they share.
What a patch may use beside that, from the mod wheel to the clock, goes to a `Listener`.

Sources: MIDI 1.0 Detailed Specification 4.2; General MIDI 1 (volume starts at 100, bend range at 2 semitones,
channel 10 is drums); RP-015 (what Reset All Controllers resets); M1-100-UM (MPE).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import mido

from device.hands import Hands
from device.patch import Patch

DRUM_CHANNEL = 9  # counted from 0; musicians call it 10
DATA_ENTRY, VOLUME, EXPRESSION, DATA_ENTRY_FINE, SUSTAIN = 6, 7, 11, 38, 64
NRPN_FINE, NRPN, RPN_FINE, RPN = 98, 99, 100, 101
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123
# What sets parameters (data entry, its increment and decrement, their numbers) or modes is nobody's source.
NO_SOURCES = frozenset({DATA_ENTRY, DATA_ENTRY_FINE, 96, 97, 98, 99, 100, 101, *range(120, 128)})
FINE = 32  # controllers 32 to 63 are the lower seven bits of 0 to 31
VOLUME_START = 100
BEND_CENTRE = 8192
# RP-015: where Reset All Controllers puts what it resets: modulation, expression, and the pedals 64 to 67.
RESET_TO = {1: 0, EXPRESSION: 127, SUSTAIN: 0, 65: 0, 66: 0, 67: 0}
TRANSPORT = frozenset({"clock", "start", "continue", "stop"})
CHANNEL_KINDS = frozenset(
    {"note_on", "note_off", "polytouch", "control_change", "program_change", "aftertouch", "pitchwheel"}
)

# Registered parameters (MSB, LSB).
NO_PARAMETER, BEND_RANGE, MPE_CONFIGURATION = (127, 127), (0, 0), (0, 6)
LOWER_MASTER, UPPER_MASTER = 0, 15
MOST_MEMBERS = 15
MEMBER_RANGE_SEMITONES = 48  # until the controller sets its own (M1-100-UM, "Pitch Bend Sensitivity")
# What every note of a zone has of its own; as sources they are those of the newest note that is held.
OF_A_NOTE = frozenset({"bend", "pressure", "cc.74"})


class Listener(Protocol):
    """Hears what a patch may use beside notes and bound controllers."""

    def turn(self, source: str, value: float) -> None:
        """A modulation source has moved.

        ``cc.N`` 0..1 (N < 32 with the lower bits of N + 32 once any came); ``pressure`` (of the channel) and
        ``key_pressure`` 0..1; ``bend`` -1..1; ``velocity`` 0..1 and ``note`` (key, 60 = middle C) of the last
        note-on, told before it begins.
        """

    def program(self, number: int) -> bool:
        """A program change, counted from 0; whether it means anything here."""

    def transport(self, kind: str, at_ns: int) -> None:
        """``clock`` (24 a quarter note), ``start``, ``continue`` or ``stop``, and when it came."""


@dataclass
class _Controllers:
    """Where the controllers of one channel stand."""

    bend_range_semitones: int
    bend_range_cents: int
    volume: int = VOLUME_START
    expression: int = 127
    pedal: bool = False
    bend: int = 0
    parameter: tuple[int, int] = NO_PARAMETER
    coarse: dict[int, int] = field(default_factory=dict)  # controllers that came, as seven bits
    fine: dict[int, int] = field(default_factory=dict)  # the lower bits of those that have them
    of_a_note: dict[str, float] = field(default_factory=dict)


@dataclass
class _Zone:
    """An MPE zone: ``size`` member channels next to the master's; with none there is no zone."""

    master: int
    size: int = 0
    bend_range_semitones: int = MEMBER_RANGE_SEMITONES
    bend_range_cents: int = 0
    held: dict[tuple[int, int], None] = field(default_factory=dict)  # (channel, key), the newest last

    @property
    def members(self) -> range:
        """Their channels."""
        return (
            range(1, 1 + self.size)
            if self.master == LOWER_MASTER
            else range(UPPER_MASTER - self.size, UPPER_MASTER)
        )

    @property
    def newest(self) -> int | None:
        """Channel of the newest note that is held."""
        return next(reversed(self.held))[0] if self.held else None


class Receiver:
    """Plays ``performance`` by MIDI, set up by ``patch``.

    ``transpose_semitones`` shifts every note; ``drums`` plays channel 10 as well, which a melodic instrument otherwise
    leaves out. ``listener`` hears of everything else that moves and turns what it likes: `device.modulation.Modulation`
    the patch's knobs. ``mpe``: the zone that there is before a controller sets its own, see `mpe`; None: the patch's.
    """

    def __init__(
        self,
        performance: Hands,
        patch: Patch,
        *,
        transpose_semitones: float = 0.0,
        drums: bool = False,
        listener: Listener | None = None,
        mpe: str | None = None,
    ) -> None:
        self._performance = performance
        self._patch = patch
        self._transpose = transpose_semitones
        self._drums = drums
        self._listener = listener
        self._channels: dict[int, _Controllers] = {}
        self._zones = (_Zone(LOWER_MASTER), _Zone(UPPER_MASTER))
        self._zone_led: dict[int, _Zone] = {}  # by the master's channel
        self._zone_joined: dict[int, _Zone] = {}  # by a member's channel
        self._drum_notes = 0
        self._programs: Counter[int] = Counter()
        self.mpe(patch.mpe if mpe is None else mpe)

    def set_up(self, patch: Patch) -> None:
        """Go over to another patch; controllers stay where they stand, but for pedals: the hands let go of them."""
        before, self._patch = self._patch, patch
        if patch.mpe != before.mpe:
            self.mpe(patch.mpe)
        for at in self._channels.values():
            at.pedal = False
        for zone in self._zones:
            zone.held.clear()

    def mpe(self, zone: str) -> None:
        """Lay out MPE: ``lower`` (master channel 1, members 2 to 16), ``upper`` (16, and 15 to 1), or ``off``.

        A controller may set zones of another size at any time (RPN 6). ValueError for another word.
        """
        masters = {"off": (), "lower": (LOWER_MASTER,), "upper": (UPPER_MASTER,)}
        if zone not in masters:
            raise ValueError(f"no MPE zone is called {zone!r}")
        wanted = masters[zone]
        for one in self._zones:
            if one.master not in wanted and one.size:
                self._lay_out(one, 0)
        for one in self._zones:
            if one.master in wanted and one.size != MOST_MEMBERS:
                self._lay_out(one, MOST_MEMBERS)

    def hear(self, message: mido.Message, at_ns: int = 0) -> None:
        """Obey one message, which came at ``at_ns``; those that mean nothing here are passed over."""
        kind = message.type
        if kind in CHANNEL_KINDS:
            self._hear_channel(kind, message)
        elif kind in TRANSPORT:
            if self._listener is not None:
                self._listener.transport(kind, at_ns)
        elif kind == "reset":
            self.panic()

    def panic(self) -> None:
        """Stop everything on every channel at once; pedals up, bends and other passing controllers back at rest."""
        self._performance.finish()
        self._performance.silence()
        for zone in self._zones:
            zone.held.clear()
        for channel in tuple(self._channels):
            self._reset(channel)

    def remarks(self) -> list[str]:
        """What was left out so far, one sentence each."""
        lines = []
        if self._drum_notes:
            lines.append(f"channel 10 (drums) left out: {self._drum_notes} notes; --drums plays them")
        if self._programs:
            asked = ", ".join(str(program) for program in sorted(self._programs))
            lines.append(f"program changes ignored (to {asked}): a bundle is one instrument")
        return lines

    def _hear_channel(self, kind: str, message: mido.Message) -> None:
        channel = message.channel
        if kind == "program_change":
            self._program(channel, message.program)
        elif channel == DRUM_CHANNEL and not (self._drums or channel in self._zone_joined):
            self._drum_notes += kind == "note_on" and message.velocity > 0
        elif kind == "note_on" and message.velocity > 0:
            self._note_on(channel, message.note, message.velocity / 127.0)
        elif kind in {"note_on", "note_off"}:  # a note-on of velocity 0 is a note-off
            self._note_off(channel, message.note)
        elif kind == "pitchwheel":
            self._at(channel).bend = message.pitch
            # The wheel has a step less upwards; as a source it ends at 1 all the same.
            self._turn(channel, "bend", message.pitch / (BEND_CENTRE - (message.pitch > 0)))
            self._bend(channel)
        elif kind == "control_change":
            self._control(channel, message.control, message.value)
        elif kind == "aftertouch":
            self._turn(channel, "pressure", message.value / 127.0)
        else:
            self._turn(channel, "key_pressure", message.value / 127.0)

    def _program(self, channel: int, program: int) -> None:
        if channel in self._zone_joined:  # a zone has one program, and its master says which
            return
        if self._listener is None or not self._listener.program(program):
            self._programs[program + 1] += 1

    def _note_on(self, channel: int, key: int, velocity: float) -> None:
        """Sources first, so that the note begins with them."""
        self._at(channel)  # a member's bend, level and pedal are its master's from the first note on
        zone = self._zone_joined.get(channel)
        if zone is not None:
            zone.held.pop((channel, key), None)
            zone.held[channel, key] = None
            self._turn_to_newest(zone)
        self._turn(channel, "velocity", velocity)
        self._turn(channel, "note", float(key))
        self._performance.note_on(key, key + self._transpose, velocity, channel)

    def _note_off(self, channel: int, key: int) -> None:
        zone = self._zone_joined.get(channel)
        if zone is not None:
            newest = zone.newest
            zone.held.pop((channel, key), None)
            if zone.newest != newest:
                self._turn_to_newest(zone)
        self._performance.note_off(key, channel)

    def _control(self, channel: int, control: int, value: int) -> None:
        at = self._at(channel)
        moved, position = self._moved(at, control, value)
        if control not in NO_SOURCES:
            self._turn(channel, f"cc.{control}", value / 127.0 if moved != control else position)
            if moved != control:
                self._turn(channel, f"cc.{moved}", position)
        if control in {VOLUME, EXPRESSION}:
            if control == VOLUME:
                at.volume = value
            else:
                at.expression = value
            self._level(channel)
        elif control == SUSTAIN:
            at.pedal = value >= 64
            self._pedal(channel)
        elif control in {RPN, RPN_FINE}:
            msb, lsb = at.parameter
            at.parameter = (value, lsb) if control == RPN else (msb, value)
        elif control in {NRPN, NRPN_FINE}:  # data entry is for that one now, and none of them concerns us
            at.parameter = NO_PARAMETER
        elif control in {DATA_ENTRY, DATA_ENTRY_FINE}:
            self._enter(channel, control == DATA_ENTRY, value)
        elif control == ALL_SOUND_OFF:
            for one in self._reached(channel):
                self._performance.release_all(one)  # in mono, keys that do not sound must not come back
                self._performance.silence(one)
                self._forget_held(one)
        elif control == RESET_CONTROLLERS:
            for one in self._reached(channel):
                self._reset(one)
        elif control >= ALL_NOTES_OFF:  # 124 to 127 change the mode, and begin with all notes off
            for one in self._reached(channel):
                self._performance.release_all(one)
                self._forget_held(one)

    def _moved(self, at: _Controllers, control: int, value: int) -> tuple[int, float]:
        """Which controller this one moves, and to where (0..1): itself, or the one whose lower bits it is.

        Lower bits count from when the first of them comes after its upper ones, so that a cheap controller whose knobs
        are sent as any number stays what it is; upper bits set the lower ones to 0 (MIDI 1.0, "Control Change").
        """
        upper = control - FINE
        if 0 <= upper < FINE and upper in at.coarse and control not in self._patch.cc:
            at.fine[upper] = value
            control = upper
        else:
            at.coarse[control] = value
            if control in at.fine:
                at.fine[control] = 0
        if control in at.fine:
            return control, (at.coarse[control] << 7 | at.fine[control]) / 16383.0
        return control, value / 127.0

    def _enter(self, channel: int, coarse: bool, value: int) -> None:
        """Data entry, for the registered parameter that was chosen."""
        at = self._at(channel)
        zone = self._zone_joined.get(channel)
        if at.parameter == BEND_RANGE:
            of = at if zone is None else zone  # set for one member, it is set for all
            if coarse:
                of.bend_range_semitones, of.bend_range_cents = value, 0
            else:
                of.bend_range_cents = value
            for one in (channel,) if zone is None else zone.members:
                self._bend(one)
        elif at.parameter == MPE_CONFIGURATION and coarse and value <= MOST_MEMBERS:
            for led in self._zones:
                if led.master == channel:
                    self._lay_out(led, value)

    def _lay_out(self, zone: _Zone, size: int) -> None:
        """Give a zone so many members, the other one what is left; channels of either begin anew."""
        other = self._zones[zone is self._zones[0]]
        affected = {zone.master, *zone.members}
        if size:
            affected |= {other.master, *other.members} if other.size + size > MOST_MEMBERS - 1 else set()
            other.size = max(0, min(other.size, MOST_MEMBERS - 1 - size))
        zone.size = size
        zone.bend_range_semitones, zone.bend_range_cents = MEMBER_RANGE_SEMITONES, 0
        affected |= {zone.master, *zone.members}
        active = [one for one in self._zones if one.size]
        self._zone_led = {one.master: one for one in active}
        self._zone_joined = {channel: one for one in active for channel in one.members}
        for channel in sorted(affected):
            self._performance.release_all(channel)
            self._forget_held(channel)
            if self._channels.pop(channel, None) is not None:
                self._settle(channel)

    def _reset(self, channel: int) -> None:
        """Reset All Controllers (RP-015): what passes goes back to rest; volume and bend range stay."""
        at = self._at(channel)
        for control, value in RESET_TO.items():
            if at.coarse.get(control, value) != value or at.fine.get(control):
                at.coarse[control] = value
                at.fine.pop(control, None)
                self._turn(channel, f"cc.{control}", value / 127.0)
        at.expression, at.bend, at.parameter, at.pedal = 127, 0, NO_PARAMETER, False
        for source in ("bend", "pressure", "key_pressure"):
            self._turn(channel, source, 0.0)
        self._settle(channel)

    def _settle(self, channel: int) -> None:
        """Bring the hands to where the controllers of the channel stand."""
        self._pedal(channel)
        self._bend(channel)
        self._level(channel)

    def _pedal(self, channel: int) -> None:
        for one in self._reached(channel):
            zone = self._zone_joined.get(one)
            held = zone is not None and self._at(zone.master).pedal
            self._performance.pedal(held or self._at(one).pedal, one)

    def _bend(self, channel: int) -> None:
        """A member is bent by its own wheel and by its master's."""
        for one in self._reached(channel):
            zone = self._zone_joined.get(one)
            at = self._at(one)
            semitones = _bent(at.bend, at if zone is None else zone)
            if zone is not None:
                master = self._at(zone.master)
                semitones += _bent(master.bend, master)
            self._performance.bend(semitones, one)

    def _level(self, channel: int) -> None:
        """Gain goes with the square of both (General MIDI 2: 40 log10) and is 1 where they start."""
        for one in self._reached(channel):
            zone = self._zone_joined.get(one)
            self._performance.level(self._gain(one) * (1.0 if zone is None else self._gain(zone.master)), one)

    def _gain(self, channel: int) -> float:
        at = self._at(channel)
        return (at.volume / VOLUME_START * at.expression / 127.0) ** 2

    def _reached(self, channel: int) -> Iterable[int]:
        """The channel itself; of a zone's master, those members too that were heard of."""
        zone = self._zone_led.get(channel)
        if zone is None:
            return (channel,)
        return (channel, *(one for one in zone.members if one in self._channels))

    def _turn(self, channel: int, source: str, value: float) -> None:
        """Tell the listener; what is a note's own only of the newest one."""
        zone = self._zone_joined.get(channel)
        if zone is not None and source in OF_A_NOTE:
            self._at(channel).of_a_note[source] = value
            if zone.newest != channel:
                return
        if self._listener is not None:
            self._listener.turn(source, value)

    def _turn_to_newest(self, zone: _Zone) -> None:
        if zone.newest is not None and self._listener is not None:
            for source, value in self._at(zone.newest).of_a_note.items():
                self._listener.turn(source, value)

    def _forget_held(self, channel: int) -> None:
        for zone in self._zones:
            for held in [held for held in zone.held if held[0] == channel]:
                del zone.held[held]

    def _at(self, channel: int) -> _Controllers:
        if channel not in self._channels:
            cents = round(self._patch.bend_range_semitones * 100)
            self._channels[channel] = _Controllers(cents // 100, cents % 100)
            if channel in self._zone_joined:  # whose master may have moved before
                self._settle(channel)
        return self._channels[channel]


def _bent(position: int, of: _Controllers | _Zone) -> float:
    """Semitones at this position of the wheel."""
    return (of.bend_range_semitones + of.bend_range_cents / 100.0) * position / BEND_CENTRE
