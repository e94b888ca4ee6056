"""A Standard MIDI File as one list of messages in seconds, with every broken file refused at its byte.

    "MThd" length=6 format tracks division   format 0: one track, 1: tracks together, 2: one after the other
    "MTrk" length { delta event } ...        delta: 7 bits a byte, the high bit says that more follow
    event: 8n..En data          channel message; without a status byte the last one holds (running status)
           F0|F7 length data    system exclusive
           FF type length data  meta: 2F end of track, 51 tempo in microseconds per quarter note

The bytes are walked here and not by mido.MidiFile, which neither says where a file is broken nor stops at the
end of a track whose length is wrong; mido makes the messages. Source: MIDI 1.0 Detailed Specification,
"Standard MIDI Files 1.0" (RP-001).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import mido

from device.errors import DarkrackError
from device.files import read_bytes

# Until a song says otherwise: 120 quarter notes a minute.
DEFAULT_TEMPO_US = 500_000
# Bytes after the status byte, by its upper four bits.
DATA_BYTES = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
# SMPTE frames a second that the format knows; 29 stands for 30 drop-frame, which runs at 30 / 1.001.
SMPTE_RATES = {24: 24.0, 25: 25.0, 29: 30.0 / 1.001, 30: 30.0}
END_OF_TRACK, SET_TEMPO = 0x2F, 0x51
LARGEST_BYTES = 16 << 20  # a day of dense music is smaller


@dataclass(frozen=True)
class Event:
    """One channel message of the song; ``time_s`` counts from its beginning."""

    time_s: float
    message: mido.Message


@dataclass(frozen=True)
class Score:
    """A song: its channel messages in the order in which they sound, all tracks merged.

    ``remarks`` are oddities that do not change the music, one sentence each.
    """

    events: tuple[Event, ...]
    tracks: int
    remarks: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Time of the last message; what still sounds then rings out after it."""
        return self.events[-1].time_s


@dataclass(frozen=True)
class _Timed:
    """An event at its tick: a channel message, or a tempo in microseconds per quarter note."""

    tick: int
    content: mido.Message | int


def read_score(path: Path) -> Score:
    """Read a MIDI file. Formats 0 and 1, musical or SMPTE time.

    DarkrackError names the file, the byte, and inside a track its number and tick: not a MIDI file,
    truncated, a length or data byte that cannot be, no note at all.
    """
    data = read_bytes(path, "a MIDI file")
    where = str(path)
    if not data:
        raise DarkrackError(where, "a MIDI file", "an empty file")
    if len(data) > LARGEST_BYTES:
        raise DarkrackError(where, f"a MIDI file of at most {LARGEST_BYTES >> 20} MiB", f"{len(data)} bytes")
    tracks_expected, division, begin = _read_header(where, data)
    remarks: list[str] = []
    merged: list[_Timed] = []
    for number, (track_begin, track_end) in enumerate(_chunks(where, data, begin, tracks_expected), start=1):
        track = _Track(where, number, data, track_begin, track_end)
        merged.extend(track.events())
        if track.at < track_end:
            remarks.append(f"track {number}: {track_end - track.at} bytes after its end of track are ignored")
    # Stable: what is simultaneous keeps the order of the tracks and, within a track, of the file.
    merged.sort(key=lambda timed: timed.tick)
    events = tuple(_in_seconds(merged, division))
    if not any(event.message.type == "note_on" and event.message.velocity for event in events):
        raise DarkrackError(where, "a MIDI file with notes", f"{tracks_expected} tracks without any")
    return Score(events, tracks_expected, tuple(remarks))


def _read_header(where: str, data: bytes) -> tuple[int, int, int]:
    """(number of tracks, division, offset of the first chunk after the header)."""
    if data[:4] != b"MThd":
        hint = "unpack the MIDI file from its RIFF wrapper" if data[:4] == b"RIFF" else "is this a .mid file?"
        raise DarkrackError(
            f"{where}: byte 0", "a MIDI file, which begins with MThd", repr(data[:4])[1:], hint
        )
    if len(data) < 14:
        raise DarkrackError(f"{where}: byte {len(data)}", "a header of 14 bytes", "the end of the file")
    length, form, tracks, division = (
        int.from_bytes(data[begin:end], "big") for begin, end in ((4, 8), (8, 10), (10, 12), (12, 14))
    )
    if length < 6 or 8 + length > len(data):
        raise DarkrackError(f"{where}: byte 4", "a header length of 6", str(length))
    if form > 1:
        raise DarkrackError(
            f"{where}: byte 8",
            "MIDI format 0 or 1",
            f"format {form}",
            "format 2 holds songs, not tracks: save each one by itself" if form == 2 else "",
        )
    if tracks == 0:
        raise DarkrackError(f"{where}: byte 10", "at least one track", "none")
    if division & 0x8000:
        rate, ticks_per_frame = 256 - (division >> 8), division & 0xFF
        if rate not in SMPTE_RATES or ticks_per_frame == 0:
            raise DarkrackError(
                f"{where}: byte 12",
                "SMPTE time of 24, 25, 29 or 30 frames a second",
                f"{rate} frames of {ticks_per_frame} ticks",
            )
    elif division == 0:
        raise DarkrackError(f"{where}: byte 12", "at least one tick per quarter note", "0")
    return tracks, division, 8 + length


def _chunks(where: str, data: bytes, at: int, tracks: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of the events of each of the ``tracks`` tracks; chunks of other types are passed over."""
    found = 0
    while found < tracks:
        here = f"{where}: byte {at}: track {found + 1} of {tracks}"
        if at == len(data):
            raise DarkrackError(here, "a chunk MTrk", "the end of the file", "the file is truncated")
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        if len(data) < at + 8 or not (kind.isascii() and kind.decode("ascii").isprintable()):
            hint = "the file is truncated, or the length of the chunk before is wrong"
            raise DarkrackError(here, "a chunk MTrk and its length", repr(data[at : at + 8])[1:], hint)
        at += 8
        if length > len(data) - at:
            hint = "the file is truncated, or the length of this chunk is wrong"
            raise DarkrackError(
                here, f"{length} bytes as its length says", f"{len(data) - at} to the end", hint
            )
        if kind == b"MTrk":
            found += 1
            yield at, at + length
        at += length


class _Track:
    """Walks the events of one track; ``at`` is the offset of the next byte."""

    def __init__(self, where: str, number: int, data: bytes, begin: int, end: int) -> None:
        self.where = where
        self.number = number
        self.data = data
        self.at = begin
        self.end = end
        self.tick = 0

    def events(self) -> Iterator[_Timed]:
        """Channel messages and tempi up to the end of the track; DarkrackError where something cannot be."""
        running = 0
        while True:
            if self.at == self.end:
                hint = "the track's length is wrong, or the file is truncated"
                self.refuse(self.at, "an end of track (FF 2F 00)", "the end of its chunk", hint)
            self.tick += self.number_of_7_bits("a delta time")
            begin = self.at
            status = self.byte("an event")
            if status < 0x80:
                if not running:
                    self.refuse(begin, "a status byte", f"data byte {status:#04x} with no status before it")
                status = running
                self.at = begin
            if status < 0xF0:
                running = status
                data = [self.data_byte() for _ in range(DATA_BYTES[status >> 4])]
                yield _Timed(self.tick, mido.Message.from_bytes([status, *data]))
            elif status in {0xF0, 0xF7}:
                self.pass_over("a system exclusive message")
            elif status == 0xFF:
                kind = self.byte("a meta event")
                content = self.pass_over(f"meta event {kind:#04x}")
                if kind == END_OF_TRACK:
                    return
                if kind == SET_TEMPO:
                    tempo_us = int.from_bytes(content, "big")
                    if len(content) != 3 or tempo_us == 0:
                        self.refuse(begin, "a tempo of three bytes above zero", f"bytes {content.hex(' ')!r}")
                    yield _Timed(self.tick, tempo_us)
            else:
                self.refuse(begin, "an event that a file may hold", f"status byte {status:#04x}")

    def byte(self, what: str) -> int:
        if self.at >= self.end:
            hint = "the track's length is wrong, or the file is truncated"
            self.refuse(self.at, f"the rest of {what}", "the end of the track", hint)
        self.at += 1
        return self.data[self.at - 1]

    def data_byte(self) -> int:
        value = self.byte("a channel message")
        if value > 127:
            self.refuse(self.at - 1, "a data byte from 0 to 127", f"{value} ({value:#04x})")
        return value

    def number_of_7_bits(self, what: str) -> int:
        """A variable-length quantity: at most four bytes, so at most 28 bits."""
        begin, value = self.at, 0
        for _ in range(4):
            byte = self.byte(what)
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        self.refuse(begin, f"{what} of at most four bytes", self.data[begin : begin + 5].hex(" "))

    def pass_over(self, what: str) -> bytes:
        """Read a length and that many bytes."""
        begin = self.at
        length = self.number_of_7_bits(f"the length of {what}")
        if length > self.end - self.at:
            left = f"{self.end - self.at} to the end of the track"
            self.refuse(
                begin, f"{length} bytes of {what}", left, "the length is wrong, or the file is truncated"
            )
        self.at += length
        return self.data[self.at - length : self.at]

    def refuse(self, at: int, expected: str, got: str, hint: str = "") -> NoReturn:
        raise DarkrackError(
            f"{self.where}: byte {at} (track {self.number}, tick {self.tick})", expected, got, hint
        )


def _in_seconds(merged: list[_Timed], division: int) -> Iterator[Event]:
    """Apply the tempo map. With SMPTE time a tick is a fixed part of a second and tempi mean nothing."""
    smpte = bool(division & 0x8000)
    seconds_per_tick = (
        1.0 / (SMPTE_RATES[256 - (division >> 8)] * (division & 0xFF))
        if smpte
        else DEFAULT_TEMPO_US / 1e6 / division
    )
    # Seconds are counted from the last change of tempo, so that rounding does not add up over a long song.
    change_tick, change_s = 0, 0.0
    for timed in merged:
        time_s = change_s + (timed.tick - change_tick) * seconds_per_tick
        if not isinstance(timed.content, int):
            yield Event(time_s, timed.content)
        elif not smpte:
            change_tick, change_s = timed.tick, time_s
            seconds_per_tick = timed.content / 1e6 / division
