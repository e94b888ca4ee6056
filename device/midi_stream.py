"""MIDI as bytes on a wire, into messages: what a DIN cable brings, or one port of a driver.

    8n..En data data    channel message; without a status byte the last one holds (running status)
    F0 data ... F7      system exclusive: skipped; ends at any status byte but a real-time one
    F1..F6 data         system common: skipped, and running status with it; F4 and F5 are undefined
    F8..FF              real time: one byte, anywhere, even inside the messages above; F9 and FD are undefined

mido.Parser is not used here: it knows no running status, and loses the message that a real-time byte falls into
(tests/test_midi_stream.py has the whole list). mido makes the messages. Source: MIDI 1.0 Detailed Specification 4.2,
"Data Format", "System Common Messages", "System Real Time Messages", and appendix "Running Status".
"""

from __future__ import annotations

from dataclasses import dataclass

import mido

from device.score import DATA_BYTES

SYSEX, LOWEST_SYSTEM, LOWEST_REAL_TIME = 0xF0, 0xF0, 0xF8
ACTIVE_SENSING = 0xFE
# Data bytes after F1 (time code), F2 (song position) and F3 (song select); the others have none.
COMMON_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}
UNDEFINED = frozenset({0xF4, 0xF5, 0xF9, 0xFD})
# Whoever sends active sensing sends something every 300 ms, give or take the tenth that the specification grants.
SILENCE_NS = 330_000_000
BYTE_NS = 320_000  # of a DIN cable: ten bits at 31250 baud


@dataclass
class Dropped:
    """What made no message.

    ``stray``: data bytes that belong to nothing; ``cut_short``: messages that another status byte, or the end of the
    line, interrupted; ``undefined``: status bytes that MIDI 1.0 does not define; ``skipped``: bytes of system exclusive
    and system common messages, which are no fault.
    """

    stray: int = 0
    cut_short: int = 0
    undefined: int = 0
    skipped: int = 0


class MidiStream:
    """One line's parser. ``byte_ns``: what a byte takes on that line (`BYTE_NS` for DIN, 0 where messages come whole).

    Takes any bytes in any pieces, never raises, and keeps three bytes at most.
    """

    def __init__(self, byte_ns: int = 0) -> None:
        self.dropped = Dropped()
        self._byte_ns = byte_ns
        self._status = 0  # of the channel message that is being read, or would be without another status byte
        self._data: list[int] = []
        self._in_sysex = False
        self._common_left = 0  # data bytes of a system common message that are still to come
        self._sensing = False
        self._heard_ns = 0

    def feed(self, data: bytes, at_ns: int) -> list[tuple[int, mido.Message]]:
        """The messages that these bytes complete, each at the time of its last byte, in ns as ``at_ns`` is.

        ``at_ns`` is when the last of the bytes was there; times never decrease. Given are channel messages, and of real
        time clock, start, continue, stop, active_sensing and reset.
        """
        messages = []
        first_ns = at_ns - (len(data) - 1) * self._byte_ns
        for place, byte in enumerate(data):
            complete = self._take(byte)
            if complete is not None:
                time_ns = max(first_ns + place * self._byte_ns, self._heard_ns)
                messages.append((time_ns, mido.Message.from_bytes(complete)))
                self._heard_ns = time_ns
        if data:
            self._heard_ns = max(self._heard_ns, at_ns)
        return messages

    def silent(self, now_ns: int) -> bool:
        """Whether a line that sends active sensing has fallen silent: said once, then it may begin anew.

        What it played must be let go then: nobody will send the ends of its notes (MIDI 1.0, "Active Sensing").
        """
        if not self._sensing or now_ns - self._heard_ns <= SILENCE_NS:
            return False
        self.break_off()
        return True

    def break_off(self) -> None:
        """Forget what has begun: whatever comes next is from another cable, or from after a gap."""
        self._cut()
        self._status = self._common_left = 0
        self._in_sysex = self._sensing = False

    def _take(self, byte: int) -> list[int] | None:
        """The bytes of a message that this one completes."""
        if byte >= LOWEST_REAL_TIME:
            if byte in UNDEFINED:
                self.dropped.undefined += 1
                return None
            self._sensing |= byte == ACTIVE_SENSING
            return [byte]
        if byte >= 0x80:
            self._begin(byte)
            return None
        if self._in_sysex or self._common_left:
            self._common_left -= not self._in_sysex
            self.dropped.skipped += 1
        elif not self._status:
            self.dropped.stray += 1
        else:
            self._data.append(byte)
            if len(self._data) == DATA_BYTES[self._status >> 4]:
                complete = [self._status, *self._data]
                self._data.clear()
                return complete
        return None

    def _begin(self, status: int) -> None:
        """A status byte that is not real time: what was under way ends here."""
        self._cut()
        self._status = 0
        self._in_sysex = status == SYSEX
        self._common_left = COMMON_DATA_BYTES.get(status, 0)
        if status < LOWEST_SYSTEM:
            self._status = status
        elif status in UNDEFINED:
            self.dropped.undefined += 1
        else:
            self.dropped.skipped += 1

    def _cut(self) -> None:
        self.dropped.cut_short += bool(self._data or self._common_left)
        self._data.clear()
