"""Live inputs: the records of the process that holds the ports, DIN lines on pseudo-terminals, rtmidi over JACK."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live import ROOT, JackServer, Keyboard, jack_server, keyboard_called
from test_midi_stream import PATCHES, Patient, nonsense

from device import midi_ports
from device.errors import DarkrackError
from device.midi_ports import (
    BEAT,
    BYTES,
    GONE,
    LOST,
    MOST_KEYS,
    OPENED_DIN,
    OPENED_USB,
    RECORD,
    MidiInputs,
    chosen,
    inputs_there,
    require_inputs,
)
from device.midi_stream import BYTE_NS, SILENCE_NS

LONGEST_S = 30.0  # that anything here may take on a machine under load; nothing waits so long otherwise


class Listening:
    """Inputs that are polled, and what they gave so far."""

    def __init__(self, inputs: MidiInputs) -> None:
        self.inputs = inputs
        self.heard: list[tuple[int, mido.Message]] = []

    def until(self, done: Callable[[], object]) -> bool:
        """Poll each millisecond until it is done; False where it never is."""
        until_s = time.monotonic() + LONGEST_S
        while not done():
            if time.monotonic() > until_s:
                return False
            self.heard += self.inputs.poll(time.monotonic_ns())
            time.sleep(0.001)
        return True

    def plugged(self, *names: str) -> bool:
        """Wait until these ports are open and no other ones."""
        return self.until(lambda: sorted(self.inputs.ports) == sorted(names))

    def told(self, count: int) -> list[str]:
        """The next so many messages, without their times."""
        assert self.until(lambda: len(self.heard) >= count), self.heard
        told, self.heard = self.heard[:count], self.heard[count:]
        return [_short(message) for _, message in told]

    def nothing(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        until_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > until_s)
        return not self.heard


def _short(message: mido.Message) -> str:
    return message.hex() if message.type != "note_off" else f"{0x80 | message.channel:02X} {message.note:02X}"


# ---- by name ----

ALSA = [
    "Midi Through:Midi Through Port-0 14:0",
    "Arturia KeyStep 32:Arturia KeyStep 32 MIDI 1 24:0",
    "nanoKONTROL2:nanoKONTROL2 MIDI 1 28:0",
    "VMPK Output:out 128:0",
    "darkrack:in 129:0",
]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (None, [1, 2]),
        ([], []),
        (["keystep"], [1]),
        (["NANO", "vmpk"], [2, 3]),
        (["Midi Through"], [0]),  # whoever asks for it gets it
        (["KeyStep", "Arturia"], [1]),
        (["Seaboard"], []),
    ],
)
def test_ports_are_chosen_by_part_of_their_name(names: list[str] | None, found: list[int]) -> None:
    assert chosen(ALSA, names) == [ALSA[n] for n in found]


def test_ports_of_another_driver_are_hardware_but_for_our_own() -> None:
    there = [
        "Keystation:out",
        "darkrack:out",
        "a2j:Midi Through [14] (capture): Port-0",
        "system:midi_capture_1",
    ]
    assert chosen(there, None) == ["Keystation:out", "system:midi_capture_1"]


@pytest.mark.parametrize("text", ["", ":38400", "/dev/ttyS0:12", "/dev/ttyS0:9999999"])
def test_a_serial_port_that_cannot_be(text: str) -> None:
    with pytest.raises(DarkrackError, match="serial port"):
        MidiInputs([], [text])


def test_a_serial_port_has_the_rate_of_midi_or_its_own() -> None:
    assert midi_ports._line("/dev/serial0") == ("/dev/serial0", 31_250)
    assert midi_ports._line("/dev/serial0:38400") == ("/dev/serial0", 38_400)
    by_path = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0"
    assert midi_ports._line(by_path) == (by_path, 31_250)


def test_a_package_that_is_missing_is_told_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in {"rtmidi", "serial"} else there(name)
    )
    with MidiInputs() as inputs:  # every keyboard that there is: none, then
        assert inputs.poll(0) == []
        assert inputs.ports == ()
    with pytest.raises(DarkrackError, match="'Keystation': expected the package python-rtmidi"):
        MidiInputs(["Keystation"])
    with pytest.raises(DarkrackError, match="expected the package python-rtmidi"):
        require_inputs(["Keystation"])
    with pytest.raises(DarkrackError, match="expected the package pyserial"):
        MidiInputs([], ["/dev/serial0"])


# ---- records ----


def _record(time_ns: int, kind: int, number: int, data: bytes = b"") -> bytes:
    return RECORD.pack(time_ns, kind, number, len(data)) + data


def _said(*records: bytes) -> tuple[MidiInputs, list[tuple[int, mido.Message]]]:
    """Inputs without ports of their own that take these records."""
    inputs, heard = MidiInputs([]), []
    for record in records:
        inputs._take(record, heard)
    return inputs, heard


def test_records_are_read_however_the_pipe_cuts_them() -> None:
    data = b"".join(
        [
            _record(1, BEAT, 0),
            _record(2, OPENED_USB, 7, b"Keystation"),
            _record(3, BYTES, 7, b"\x90\x3c\x40\x3e\x40"),
            _record(4, BYTES, 9, b"\x90\x3c\x40"),  # of a port that nobody opened
            _record(10 * BYTE_NS, OPENED_DIN, 8, "Gerät".encode()),
            _record(20 * BYTE_NS, BYTES, 8, b"\xc0\x05\x06"),
            _record(30 * BYTE_NS, GONE, 7),
        ]
    )
    for size in (1, 2, 5, 13, 256):
        pieces = [data[begin : begin + size] for begin in range(0, len(data), size)]
        inputs, heard = _said(*pieces)
        assert [(at_ns, _short(message)) for at_ns, message in heard] == [
            (3, "90 3C 40"),
            (3, "90 3E 40"),
            (19 * BYTE_NS, "C0 05"),
            (20 * BYTE_NS, "C0 06"),
            (30 * BYTE_NS, "80 3C"),
            (30 * BYTE_NS, "80 3E"),
        ]
        assert inputs.ports == ("Gerät",)
        assert (inputs.counts.messages, inputs.counts.plugged, inputs.counts.gone) == (4, 2, 1)


@pytest.mark.parametrize(
    ("played", "let_go"),
    [
        ("90 3C 40 90 3C 00", []),
        ("90 3C 40 80 3C 40", []),
        ("90 3C 40 90 3C 40 80 3C 40", ["80 3C"]),
        ("90 3C 40 90 3C 40", ["80 3C", "80 3C"]),
        ("93 3C 40 B3 40 7F", ["83 3C", "B3 40 00"]),
        ("B3 40 7F B3 40 3F", []),
        ("B3 40 7F B3 79 00", []),
        ("E2 00 50", ["E2 00 40"]),
        ("E2 00 50 E2 00 40", []),
        ("E2 00 50 B2 79 00", []),
        ("90 3C 40 B0 7B 00", []),
        ("90 3C 40 B0 78 00", []),
        ("90 3C 40 B1 7B 00", ["80 3C"]),
        ("90 3C 40 90", ["80 3C"]),
    ],
)
@pytest.mark.parametrize("end", [_record(9, GONE, 1), _record(9, LOST, 1), _record(9, BYTES, 1, b"\xff")])
def test_what_a_port_holds_is_let_go_when_it_goes(played: str, let_go: list[str], end: bytes) -> None:
    data = bytes.fromhex(played)
    inputs, heard = _said(_record(1, OPENED_USB, 1, b"A"), _record(2, BYTES, 1, data), end)
    after = [(at_ns, _short(message)) for at_ns, message in heard if at_ns == 9]
    assert after == [(9, message) for message in let_go]
    inputs._take(_record(9, GONE, 1), heard)
    assert [_short(message) for at_ns, message in heard if at_ns == 9] == let_go  # once


def test_behind_a_gap_a_message_begins_anew() -> None:
    opened = _record(1, OPENED_USB, 1, b"A")
    inputs, heard = _said(
        opened, *(_record(2, kind, 1, data) for kind, data in ((BYTES, b"\x90\x3c"), (LOST, b"")))
    )
    inputs._take(_record(3, BYTES, 1, b"\x40\x3c\x40"), heard)
    assert heard == []
    assert (inputs.counts.lost, inputs.counts.cut_short, inputs.counts.stray) == (1, 1, 3)


def test_what_another_port_holds_stays() -> None:
    both = [_record(1, OPENED_USB, n, b"%d" % n) for n in (1, 2)]
    pedal, wheel = b"\xb0\x40\x7f", b"\xe0\x00\x50"
    _, heard = _said(*both, *(_record(2, BYTES, n, pedal + wheel) for n in (1, 2)), _record(9, GONE, 1))
    assert [at_ns for at_ns, _ in heard] == [2, 2, 2, 2]
    _, heard = _said(*both, _record(2, BYTES, 1, pedal + wheel), _record(9, GONE, 1))
    assert [_short(message) for at_ns, message in heard if at_ns == 9] == ["B0 40 00", "E0 00 40"]


def test_more_keys_than_fingers_are_let_go_at_once() -> None:
    keys = b"".join(bytes([0x92, key, 64]) for key in range(MOST_KEYS + 1))
    _, heard = _said(_record(1, OPENED_USB, 1, b"A"), _record(2, BYTES, 1, keys), _record(9, GONE, 1))
    assert [_short(message) for at_ns, message in heard if at_ns == 9] == ["B2 7B 00"]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.binary(max_size=20)), max_size=30))
def test_any_records_leave_nothing_held(said: list[tuple[int, int, bytes]]) -> None:
    inputs, heard = _said(*(_record(at_ns, *record) for at_ns, record in enumerate(said)))
    for number in range(4):
        inputs._take(_record(10**6, GONE, number), heard)
    keys: dict[tuple[int, int], int] = {}
    pedals: dict[int, bool] = {}
    for _, message in heard:
        if message.type == "note_on" and message.velocity:
            keys[message.channel, message.note] = 1
        elif message.type in {"note_on", "note_off"}:
            keys.pop((message.channel, message.note), None)
        elif message.type == "control_change" and message.control == 64:
            pedals[message.channel] = message.value >= 64
        elif message.type == "control_change" and message.control in {120, *range(123, 128)}:
            keys = {key: 1 for key in keys if key[0] != message.channel}
        elif message.type == "control_change" and message.control == 121:
            pedals[message.channel] = False
    assert keys == {}
    assert not any(pedals.values())
    assert inputs.ports == ()


def test_a_full_pipe_is_said_as_soon_as_it_is_not() -> None:
    reads, writes = os.pipe()
    try:
        pipe = midi_ports._Pipe(writes)
        pipe.send(OPENED_USB, 1, b"A")
        sent = 0
        while not pipe._owed:
            pipe.send(BYTES, 1, b"\x90\x3c\x40")
            sent += 1
        pipe.send(GONE, 1)
        pipe.send(BEAT)
        records = os.read(reads, 1 << 20)
        pipe.send(OPENED_USB, 2, b"B")
        inputs, heard = _said(records, os.read(reads, 1 << 20))
    finally:
        os.close(reads)
        os.close(writes)
    assert inputs.counts.lost == 1
    assert len([message for _, message in heard if message.type == "note_on"]) == sent - 1
    assert heard[-1][1].type == "note_off"
    assert inputs.ports == ("B",)


# ---- DIN ----


class Cable:
    """A serial port that a test writes to, under a name that comes and goes as an adapter's does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = -1
        self._kept = -1

    def plug(self) -> None:
        # The far end is held open too, or it would hang up whenever the port is not open.
        self._end, self._kept = os.openpty()
        self.path.symlink_to(os.ttyname(self._kept))

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        for end in (self._end, self._kept):
            os.close(end)
        self._end = self._kept = -1

    def send(self, data: str) -> None:
        os.write(self._end, bytes.fromhex(data))


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    one = Cable(tmp_path / "ttyMIDI")
    yield one
    if one._end >= 0:
        one.unplug()


@contextlib.contextmanager
def _listening(
    names: list[str] | None = None, serial: tuple[Path, ...] = (), api: str | None = None
) -> Iterator[Listening]:
    with MidiInputs(names, [str(path) for path in serial], api=api) as inputs:
        yield Listening(inputs)


def test_a_din_line_is_read_and_may_come_and_go(cable: Cable) -> None:
    with _listening([], (cable.path,)) as midi:
        assert midi.nothing(0.5)  # not there yet
        cable.plug()
        assert midi.plugged(str(cable.path))
        cable.send("FE 90 3C F8 40 3E 40 F0 01 02 F8 F7 C0 05 B0 40 7F")
        assert midi.told(6) == ["F8", "90 3C 40", "90 3E 40", "F8", "C0 05", "B0 40 7F"]
        cable.send("90 3C 00")
        assert midi.told(1) == ["90 3C 00"]
        cable.unplug()
        assert midi.told(2) == ["80 3E", "B0 40 00"]
        assert midi.inputs.ports == ()
        cable.plug()
        assert midi.plugged(str(cable.path))
        cable.send("91 3C 40")
        assert midi.told(1) == ["91 3C 40"]
        counts = midi.inputs.counts
        assert (counts.plugged, counts.gone, counts.restarts, counts.stray) == (2, 1, 0, 0)


def test_times_are_those_of_the_bytes(cable: Cable) -> None:
    cable.plug()
    with _listening([], (cable.path,)) as midi:
        assert midi.plugged(str(cable.path))
        for _ in range(20):
            before_ns = time.monotonic_ns()
            cable.send("90 3C 40 3C 00")
            assert midi.until(lambda: len(midi.heard) == 2)
            (on_ns, _), (off_ns, _) = midi.heard
            midi.heard.clear()
            # A line of 31250 baud takes two bytes' time from one to the other; this one took none at all.
            assert before_ns - 5 * BYTE_NS < on_ns <= off_ns < time.monotonic_ns()
            assert off_ns >= before_ns


def test_a_line_whose_active_sensing_stops_is_let_go(cable: Cable) -> None:
    cable.plug()
    with _listening([], (cable.path,)) as midi:
        assert midi.plugged(str(cable.path))
        cable.send("90 3C 40")
        assert midi.told(1) == ["90 3C 40"]
        assert midi.nothing(2 * SILENCE_NS * 1e-9)  # a line that never sent it may be silent
        cable.send("FE")
        began_ns = time.monotonic_ns()
        assert midi.told(1) == ["80 3C"]
        assert time.monotonic_ns() - began_ns > SILENCE_NS
        assert midi.inputs.counts.fell_silent == 1
        assert midi.inputs.ports == (str(cable.path),)


def test_two_lines_are_two_parsers(tmp_path: Path) -> None:
    one, other = Cable(tmp_path / "one"), Cable(tmp_path / "other")
    one.plug()
    other.plug()
    try:
        with _listening([], (one.path, other.path)) as midi:
            assert midi.plugged(str(one.path), str(other.path))
            one.send("90 3C")
            assert midi.nothing(0.1)
            other.send("91 3E 40")
            assert midi.told(1) == ["91 3E 40"]
            one.send("40")
            assert midi.told(1) == ["90 3C 40"]
    finally:
        one.unplug()
        other.unplug()


def test_the_process_of_the_ports_may_die_or_hang(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    cable.plug()
    with _listening([], (cable.path,)) as midi:
        for restarts, end in ((1, signal.SIGKILL), (2, signal.SIGSTOP)):
            assert midi.plugged(str(cable.path))
            cable.send("90 3C 40")
            assert midi.told(1) == ["90 3C 40"]
            process = midi.inputs._process
            assert process is not None
            with monkeypatch.context() as soon:
                soon.setattr(midi_ports, "HUNG_NS", 1_000_000_000)
                process.send_signal(end)
                assert midi.told(1) == ["80 3C"]
            assert midi.inputs.ports == ()
            assert midi.plugged(str(cable.path))
            assert midi.inputs.counts.restarts == restarts
    assert midi.inputs._process is None


def _gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody buries stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_process_of_the_ports_does_not_outlive_the_front(cable: Cable) -> None:
    cable.plug()
    script = (
        "import sys, time\nfrom device.midi_ports import MidiInputs\n"
        "inputs = MidiInputs([], [sys.argv[1]])\n"
        "while not inputs.ports: inputs.poll(time.monotonic_ns())\n"
        "print(inputs._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    words = [sys.executable, "-c", script, str(cable.path)]
    front = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
    finally:
        front.kill()
        front.communicate()
    until_s = time.monotonic() + LONGEST_S
    while not _gone(pid) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert _gone(pid)


# ---- rtmidi ----


def _connected(midi: Listening, keyboard: Keyboard, channel: int = 0) -> None:
    """Wait until it is heard: JACK connects some cycles after it says so."""
    assert midi.until(lambda: keyboard.port in midi.inputs.ports)
    while not midi.heard:
        keyboard.send(f"D{channel:X} 00")
        midi.nothing(0.05)
    midi.nothing(0.1)
    midi.heard.clear()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JackServer]:
    with jack_server(tmp_path, patient=True) as one:
        for name, value in one.environment.items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.mark.program("jackd")
@pytest.mark.usefixtures("server")
def test_a_keyboard_is_plugged_in_and_plays_and_goes() -> None:
    with _listening(api="jack") as midi:
        assert midi.nothing(0.5)
        with keyboard_called("Keystation") as first, keyboard_called("Seaboard") as second:
            assert midi.plugged(first.port, second.port)
            for keyboard in (first, second):
                _connected(midi, keyboard)
            before_ns = time.monotonic_ns()
            first.send("90 3C 40", "B0 40 7F", "F8", "FE")
            assert midi.told(3) == ["90 3C 40", "B0 40 7F", "F8"]
            second.send("90 40 40", "E0 00 50")
            assert midi.until(lambda: len(midi.heard) == 2)
            assert all(before_ns < at_ns < time.monotonic_ns() for at_ns, _ in midi.heard)
            assert midi.told(2) == ["90 40 40", "E0 00 50"]
            first.unplug()
            assert midi.told(2) == ["80 3C", "B0 40 00"]
            assert midi.inputs.ports == (second.port,)
            second.send("90 40 00")
            assert midi.told(1) == ["90 40 00"]
            with keyboard_called("Keystation") as again:  # the same cable, some time later
                assert midi.plugged(again.port, second.port)
                _connected(midi, again)
                again.send("95 01 02")
                assert midi.told(1) == ["95 01 02"]
        assert midi.until(lambda: not midi.inputs.ports)
        counts = midi.inputs.counts
        assert (counts.plugged, counts.gone, counts.lost, counts.restarts) == (3, 3, 0, 0)


@pytest.mark.program("jackd")
@pytest.mark.usefixtures("server")
def test_only_the_ports_that_are_named_are_opened() -> None:
    with (
        keyboard_called("Keystation") as first,
        keyboard_called("Seaboard"),
        _listening(["keys"], api="jack") as midi,
    ):
        assert midi.plugged(first.port)
        _connected(midi, first)
        assert midi.nothing(0.5)
        assert midi.inputs.ports == (first.port,)
        assert sorted(inputs_there("jack")) == ["Keystation:out", "Seaboard:out"]
        require_inputs(["keys", "SEA"], "jack")
        with pytest.raises(DarkrackError) as refusal:
            require_inputs(["keys", "Linn"], "jack")
    assert "MIDI port 'Linn'" in str(refusal.value)
    assert "'Keystation:out'" in refusal.value.got
    assert "'Seaboard:out'" in refusal.value.got


@pytest.mark.program("jackd")
def test_a_server_that_dies_takes_its_notes_along_and_comes_back(server: JackServer) -> None:
    with _listening(api="jack") as midi:
        with keyboard_called("Keystation") as keyboard:
            _connected(midi, keyboard)
            keyboard.send("90 3C 40")
            assert midi.told(1) == ["90 3C 40"]
            server.die()
            assert midi.told(1) == ["80 3C"]
        server.start()
        with keyboard_called("Keystation") as keyboard:
            _connected(midi, keyboard)
            keyboard.send("90 3E 40")
            assert midi.told(1) == ["90 3E 40"]


def test_without_a_driver_there_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "nobody")
    assert inputs_there("jack") == ()
    with pytest.raises(DarkrackError, match="no port at all"):
        require_inputs(["Keystation"], "jack")
    with _listening(api="jack") as midi:
        assert midi.nothing(2.0)
        assert midi.inputs.counts.restarts == 0


# ---- torture ----


def _pieces(seed: int, count: int) -> list[bytes]:
    """The nonsense of test_midi_stream, without what would be another test's: long silences after active sensing."""
    return [piece.replace(b"\xfe", b"\xf8") for piece in itertools.islice(nonsense(seed), count)]


def _suffer(midi: Listening, patient: Patient, until: Callable[[], object]) -> None:
    """Give the hands what is heard, until something has happened and everything is through."""
    assert midi.until(until)
    midi.nothing(0.3)
    for _, message in midi.heard:
        patient.hear(message)
    midi.heard.clear()


def test_nonsense_on_a_din_line_that_is_then_pulled(cable: Cable) -> None:
    patient = Patient(PATCHES[0])
    cable.plug()
    with _listening([], (cable.path,)) as midi:
        assert midi.plugged(str(cable.path))
        pieces = _pieces(4, 20_000)
        for begin in range(0, len(pieces), 50):
            data = pieces[begin : begin + 50]
            cable.send(b"".join(data).hex())
            midi.heard += midi.inputs.poll(time.monotonic_ns())
        cable.send("F7 90 3C 40 B0 40 7F")
        _suffer(midi, patient, lambda: midi.inputs.counts.messages > 10_000)
        assert patient.sounding
        cable.unplug()
        _suffer(midi, patient, lambda: not midi.inputs.ports)
        assert midi.inputs.counts.cut_short > 100
    patient.pass_time(200)
    assert patient.sounding == 0


@pytest.mark.program("jackd")
@pytest.mark.usefixtures("server")
def test_nonsense_on_a_real_port_that_is_then_pulled() -> None:
    """rtmidi sends whole messages only, so the nonsense here is in what they say and when; then the port goes."""
    patient = Patient(PATCHES[1], mpe="lower")
    parser = mido.Parser()
    parser.feed(b"".join(_pieces(5, 12_000)))
    clock = {"clock", "start", "continue", "stop"}
    messages = [message.hex() for message in parser if hasattr(message, "channel") or message.type in clock]
    with keyboard_called("Keystation") as keyboard, _listening(api="jack") as midi:
        _connected(midi, keyboard)
        assert len(messages) > 3_000
        messages += ["90 3C 40", "B0 40 7F"]
        for begin in range(0, len(messages), 100):  # half of what JACK carries in a cycle
            keyboard.send(*messages[begin : begin + 100])
            assert midi.until(lambda end=begin + 100: len(midi.heard) >= min(end, len(messages)))
        assert [message.hex() for _, message in midi.heard] == messages
        _suffer(midi, patient, lambda: True)
        assert patient.sounding
        keyboard.unplug()
        _suffer(midi, patient, lambda: not midi.inputs.ports)
    patient.pass_time(200)
    assert patient.sounding == 0
