"""The wire's parser: by the specification, against mido where mido is right, and under a flood of nonsense."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Iterator

import mido
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_control import BLOCK, Played

from device.engine import EVENTS, N
from device.midi import Receiver
from device.midi_stream import BYTE_NS, SILENCE_NS, MidiStream
from device.patch import Knob, Patch

MS = 1_000_000
# What the instrument has no use for; both parsers read it, and ours keeps it to itself.
UNUSED = {"sysex", "quarter_frame", "songpos", "song_select", "tune_request"}


def _parsed(*pieces: bytes) -> list[str]:
    stream = MidiStream()
    return [str(message) for piece in pieces for _, message in stream.feed(piece, 0)]


def _by_mido(data: bytes) -> list[str]:
    parser = mido.Parser()
    parser.feed(data)
    return [str(message) for message in parser if message.type not in UNUSED]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)


NOTE = str(mido.Message("note_on", note=60, velocity=64))
OFF = str(mido.Message("note_on", note=60, velocity=0))
OTHER = str(mido.Message("note_on", note=62, velocity=64))
CLOCK = str(mido.Message("clock"))


@pytest.mark.parametrize(
    ("data", "messages", "stray", "cut_short", "undefined", "skipped"),
    [
        ("90 3C 40", [NOTE], 0, 0, 0, 0),
        ("90 3C 40 3C 00", [NOTE, OFF], 0, 0, 0, 0),  # running status
        ("90 3C 40 F8 3C F8 00", [NOTE, CLOCK, CLOCK, OFF], 0, 0, 0, 0),  # real time in between
        ("90 3C 40 F9 3C FD 00", [NOTE, OFF], 0, 0, 2, 0),  # ... and undefined real time
        ("F0 7E 7F F8 09 01 F7 90 3C 40", [CLOCK, NOTE], 0, 0, 0, 6),
        ("F0 01 02 90 3C 40", [NOTE], 0, 0, 0, 3),  # whose end was lost
        ("90 3C 40 F0 01 F7 3C 00", [NOTE], 2, 0, 0, 3),  # system exclusive ends running status
        ("90 3C 40 F7 3C 00", [NOTE], 2, 0, 0, 1),  # an end without a beginning, too
        ("90 3C 40 F2 01 02 3C 00", [NOTE], 2, 0, 0, 3),
        ("90 3C 40 F3 01 3C 00", [NOTE], 2, 0, 0, 2),
        ("90 3C 40 F1 01 3C 00", [NOTE], 2, 0, 0, 2),
        ("90 3C 40 F6 3C 00", [NOTE], 2, 0, 0, 1),
        ("90 3C 40 F4 3C 00", [NOTE], 2, 0, 1, 0),  # what follows an undefined status is ignored with it
        ("90 3C F5 40 90 3E 40", [OTHER], 1, 1, 1, 0),
        ("3C 40 90 3C 40", [NOTE], 2, 0, 0, 0),  # plugged in while somebody played
        ("90 3C 90 3C 40", [NOTE], 0, 1, 0, 0),
        ("90 90 3C 40", [NOTE], 0, 0, 0, 0),
        ("F2 01 90 3C 40", [NOTE], 0, 1, 0, 2),
        ("90 3C 40 3E 90 3C 00", [NOTE, OFF], 0, 1, 0, 0),  # one byte too many
        ("F0 F0 01 F7", [], 0, 0, 0, 4),
        ("C3 05 06", [f"program_change channel=3 program={p} time=0" for p in (5, 6)], 0, 0, 0, 0),
        ("FF FE FA FB FC", ["reset time=0", "active_sensing time=0", "start time=0", "continue time=0", "stop time=0"],
         0, 0, 0, 0),
    ],
)  # fmt: skip
def test_by_the_specification(  # noqa: PLR0917
    data: str, messages: list[str], stray: int, cut_short: int, undefined: int, skipped: int
) -> None:
    stream = MidiStream()
    heard = [str(message) for _, message in stream.feed(_bytes(data), 0)]
    assert heard == messages
    dropped = stream.dropped
    assert (dropped.stray, dropped.cut_short, dropped.undefined, dropped.skipped) == (
        stray,
        cut_short,
        undefined,
        skipped,
    )
    assert _parsed(*(bytes([byte]) for byte in _bytes(data))) == messages  # in pieces, the same


# ---- mido ----

_CHANNEL_BYTES = st.one_of(
    st.tuples(st.integers(0x80, 0xBF), st.integers(0, 127), st.integers(0, 127)),
    st.tuples(st.integers(0xC0, 0xDF), st.integers(0, 127)),
    st.tuples(st.integers(0xE0, 0xEF), st.integers(0, 127), st.integers(0, 127)),
)
_MESSAGE_BYTES = st.one_of(
    _CHANNEL_BYTES.map(bytes),
    st.sampled_from([0xF6, 0xF8, 0xFA, 0xFB, 0xFC, 0xFE, 0xFF]).map(lambda byte: bytes([byte])),
    st.integers(0, 127).map(lambda byte: bytes([0xF1, byte])),
    st.integers(0, 127).map(lambda byte: bytes([0xF3, byte])),
    st.tuples(st.integers(0, 127), st.integers(0, 127)).map(lambda two: bytes([0xF2, *two])),
    st.lists(st.integers(0, 127), max_size=20).map(lambda data: bytes([0xF0, *data, 0xF7])),
)


@given(st.lists(_MESSAGE_BYTES, max_size=40))
def test_clean_streams_are_read_as_mido_reads_them(messages: list[bytes]) -> None:
    data = b"".join(messages)
    stream = MidiStream()
    assert [str(message) for _, message in stream.feed(data, 0)] == _by_mido(data)
    assert (stream.dropped.stray, stream.dropped.cut_short, stream.dropped.undefined) == (0, 0, 0)


# What mido 1.3.3 makes of streams that MIDI 1.0 allows, or tells a receiver to ignore: a list of its faults, so that
# whoever brings in a mido without them notices, and may do without a parser of our own.
MIDO_IS_WRONG = {
    "running status is dropped": ("90 3C 40 3E 40", [NOTE], [NOTE, OTHER]),
    "a real-time byte takes the message it falls into": ("90 3C F8 40", [CLOCK], [CLOCK, NOTE]),
    "even where it is right behind the status": ("90 F8 3C 40", [CLOCK], [CLOCK, NOTE]),
    "an undefined one does so, too": ("90 3C F9 40", [], [NOTE]),
    "an undefined status is as if it were not there": ("90 3C F4 40", [NOTE], []),
}


@pytest.mark.parametrize("what", MIDO_IS_WRONG)
def test_where_mido_is_known_to_be_wrong(what: str) -> None:
    data, by_mido, ours = MIDO_IS_WRONG[what]
    assert _by_mido(_bytes(data)) == by_mido
    assert _parsed(_bytes(data)) == ours


def _as_mido_needs_it(data: bytes) -> bytes:
    """The same stream without what mido gets wrong, each change one entry of the list above."""
    out = bytearray()
    unfinished = bytearray()  # a message that has begun: a real-time byte must go before it
    running, wanted = 0, 0
    for byte in data:
        if byte >= 0xF8:
            out += bytes([byte]) if byte not in {0xF9, 0xFD} else b""
        elif byte >= 0x80:
            status = 0xF6 if byte in {0xF4, 0xF5} else byte  # F6 ends running status, and mido knows it
            running = status if status < 0xF0 else 0
            wanted = (
                {0xC: 1, 0xD: 1}.get(status >> 4, 2)
                if running
                else {0xF1: 1, 0xF2: 2, 0xF3: 1}.get(status, 0)
            )
            unfinished = bytearray([status])
            if status in {0xF0, 0xF6, 0xF7}:
                out, unfinished = out + unfinished, bytearray()
        elif not unfinished and not running:
            out.append(byte)  # of system exclusive, or stray
        else:
            unfinished = unfinished or bytearray([running])
            unfinished.append(byte)
            if len(unfinished) > wanted:
                out, unfinished = out + unfinished, bytearray()
    return bytes(out)


_WIRE = st.one_of(
    st.binary(max_size=120),
    # Mostly sense, so that messages come about.
    st.lists(st.one_of(_MESSAGE_BYTES, _MESSAGE_BYTES.map(lambda m: m[1:]), st.binary(max_size=2)), max_size=30).map(
        b"".join
    ),
)  # fmt: skip


@given(_WIRE)
@example(_bytes("90 3C F4 40 3E 40 F0 01 F8 02 80 3C F9 00"))
def test_on_any_bytes_nothing_else_differs_from_mido(data: bytes) -> None:
    assert _parsed(data) == _by_mido(_as_mido_needs_it(data))


# ---- any bytes ----


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(0, 2**62))
def test_any_bytes_in_any_pieces(pieces: list[bytes], at_ns: int) -> None:
    data = b"".join(pieces)
    assert _parsed(*pieces) == _parsed(data)
    stream = MidiStream(BYTE_NS)
    times = [time_ns for piece in pieces for time_ns, _ in stream.feed(piece, at_ns)]
    assert times == sorted(times)
    assert all(time_ns <= at_ns for time_ns in times)


def test_system_exclusive_without_end_takes_no_memory() -> None:
    stream = MidiStream()
    stream.feed(b"\xf0", 0)
    piece = bytes(1000)
    tracemalloc.start()
    try:
        for _ in range(100):
            stream.feed(piece, 0)
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10_000
    assert stream.dropped.skipped == 100_001


# ---- time ----


def test_a_message_is_as_old_as_its_last_byte() -> None:
    at_ns = 1000 * MS
    note = bytes([0x90, 60, 64, 62, 64])
    assert [time_ns for time_ns, _ in MidiStream().feed(note, at_ns)] == [at_ns, at_ns]
    din = MidiStream(BYTE_NS)
    assert [time_ns for time_ns, _ in din.feed(note, at_ns)] == [at_ns - 2 * BYTE_NS, at_ns]
    # What came in one piece soon after another cannot have come before it.
    assert [time_ns for time_ns, _ in din.feed(note, at_ns + BYTE_NS)] == [at_ns, at_ns + BYTE_NS]


def test_silence_after_active_sensing_is_said_once() -> None:
    stream = MidiStream()
    stream.feed(_bytes("90 3C 40"), 0)
    assert not stream.silent(3600 * 1000 * MS)  # a line that never sends it is never missed
    stream.feed(_bytes("FE 90 3E"), 100 * MS)
    assert not stream.silent(100 * MS + SILENCE_NS)
    stream.feed(_bytes("F8"), 400 * MS)  # anything counts
    assert not stream.silent(100 * MS + SILENCE_NS + 1)
    assert stream.silent(400 * MS + SILENCE_NS + 1)
    assert not stream.silent(3600 * 1000 * MS)
    # What begins after that is another cable's: neither the rest of the note nor its status counts.
    assert stream.feed(_bytes("40 3E 40"), 3600 * 1000 * MS) == []
    assert stream.dropped.stray == 3
    assert not stream.silent(7200 * 1000 * MS)


# ---- torture ----


def nonsense(seed: int) -> Iterator[bytes]:
    """A stream for ever: messages cut, run into each other, with anything in between; and real time everywhere."""
    draw = random.Random(seed)
    statuses = [*range(0x80, 0xF0)] * 2 + [0x90, 0x91, 0x80, 0xB0, 0xE0] * 30
    while True:
        kind = draw.random()
        if kind < 0.55:  # what a keyboard sends
            piece = bytes([draw.choice(statuses), draw.randrange(128), draw.randrange(128)])
        elif kind < 0.75:  # running status
            piece = bytes(draw.randrange(128) for _ in range(2 * draw.randrange(4)))
        elif kind < 0.8:  # channel modes, parameters, pedals, on any channel
            control = draw.choice([1, 6, 38, 64, 98, 99, 100, 101, 120, 121, 123, 127])
            piece = bytes([0xB0 | draw.randrange(16), control, draw.choice([0, 1, 6, 15, 64, 127])])
        elif kind < 0.82:  # an MPE zone
            channel = draw.choice([0, 15])
            piece = bytes([0xB0 | channel, 101, 0, 100, 6, 6, draw.randrange(18)])
        elif kind < 0.9:
            piece = bytes([draw.choice([0xF8, 0xF8, 0xFE, 0xFA, 0xFB, 0xFC, 0xF9, 0xFD])])
        else:
            piece = draw.randbytes(draw.randrange(12))
        if draw.random() < 0.05:
            piece = piece[: draw.randrange(len(piece) + 1)]
        yield piece


class Patient:
    """A desk with hands and a receiver, and a clock that runs while they are tortured."""

    def __init__(self, patch: Patch, mpe: str = "off") -> None:
        self.played = Played(patch, voices=8)
        self.told: dict[str, float] = {}
        self.receiver = Receiver(self.played.hands, patch, drums=True, listener=self, mpe=mpe)
        self.messages = 0
        self._until_block = 0

    def turn(self, source: str, value: float) -> None:
        self.told[source] = value
        assert -1.0 <= value <= (127.0 if source == "note" else 1.0)

    def program(self, number: int) -> None:
        assert 0 <= number < 128

    def transport(self, kind: str, at_ns: int) -> None:
        pass

    def hear(self, message: mido.Message) -> None:
        """A message, and after every tenth a block of sound: a line that is always full."""
        hands = self.played.hands
        hands.catch_up()
        self.receiver.hear(message, hands.at_ns)
        self.messages += 1
        if self.messages % 10 == 0:
            self.pass_time(1)

    def pass_time(self, blocks: int) -> None:
        for _ in range(blocks):
            hands = self.played.hands
            hands.catch_up()
            assert np.isfinite(self.played.render(BLOCK / 48_000)).all()

    @property
    def sounding(self) -> int:
        return int(self.played.desk.state.voice["active"].sum())


def tortured(patient: Patient, stream: MidiStream, messages: int, seed: int) -> None:
    """Feed so many messages' worth of nonsense."""
    for piece in nonsense(seed):
        for _, message in stream.feed(piece, patient.played.now_ns):
            patient.hear(message)
        if patient.messages >= messages:
            return


def _by_panic(patient: Patient) -> None:
    patient.receiver.panic()


def _by_all_notes_off(patient: Patient) -> None:
    for channel, control in itertools.product(range(16), (64, 123)):
        patient.hear(mido.Message("control_change", channel=channel, control=control, value=0))


def _by_all_sound_off(patient: Patient) -> None:
    for channel in range(16):
        patient.hear(mido.Message("control_change", channel=channel, control=120))


PATCHES = (
    Patch(release_s=0.05, cc={1: Knob("Bright")}),
    Patch(release_s=0.05, mono=True, glide_s=0.02),
    Patch(release_s=0.05, mono=True, legato=False, unison=True),
)
ENDS = (_by_panic, _by_all_notes_off, _by_all_sound_off)


def _no_note_is_stuck(messages: int, seed: int) -> None:
    for turn, (patch, end, mpe) in enumerate(
        zip(PATCHES, itertools.cycle(ENDS), itertools.cycle(["off", "lower", "upper"]), strict=False)
    ):
        patient, stream = Patient(patch, mpe), MidiStream()
        tortured(patient, stream, messages, seed + turn)
        assert patient.played.desk.counts[N["notes"]] > messages // 20
        assert patient.sounding  # there is something to be stuck
        end(patient)
        patient.pass_time(100)
        assert patient.sounding == 0
        # And it plays on: a note begins where it should and ends when it is told.
        for message in (mido.Message("note_on", note=60), mido.Message("note_off", note=60)):
            patient.hear(mido.Message("control_change", control=121))
            patient.hear(message)
            patient.pass_time(20)
            assert bool(patient.sounding) == (message.type == "note_on")
            patient.pass_time(40)
        assert patient.sounding == 0


def test_nonsense_leaves_no_stuck_note() -> None:
    _no_note_is_stuck(5_000, seed=1)


@pytest.mark.slow
def test_a_million_messages_of_nonsense_leave_no_stuck_note() -> None:
    _no_note_is_stuck(334_000, seed=2)


def test_a_full_ring_leaves_no_stuck_note() -> None:
    """More than the ring to the callback holds, without a block in between."""
    patient = Patient(PATCHES[0])
    stream = MidiStream()
    for piece in itertools.islice(nonsense(3), 2 * EVENTS):
        for _, message in stream.feed(piece, 0):
            patient.receiver.hear(message)
    assert patient.played.desk.counts[N["lost_events"]] > 0
    patient.receiver.panic()
    patient.pass_time(200)
    assert patient.sounding == 0


def test_a_line_that_falls_silent_is_let_go() -> None:
    """The caller's part: panic, or the ends of what this line holds (`device.midi_ports`)."""
    patient = Patient(PATCHES[0])
    stream = MidiStream()
    for _, message in stream.feed(_bytes("FE B0 40 7F 90 3C 40 3E 40 40"), patient.played.now_ns):
        patient.hear(message)
    while not stream.silent(patient.played.now_ns):
        patient.pass_time(1)
        assert patient.played.samples < 10 * 48_000
    assert patient.sounding == 2
    patient.receiver.panic()
    patient.pass_time(50)
    assert patient.sounding == 0
