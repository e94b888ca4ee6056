"""Live MIDI inputs: keyboards at USB, by name and at any time plugged in, and DIN lines at serial ports.

The ports are held by a process of their own, which stamps what arrives and writes it into a pipe; `MidiInputs` reads
that pipe, without ever waiting. Not a thread, because rtmidi keeps Python's lock while it opens a client (measured over
JACK: 36 ms the first, 18 the next), opens a port (5), closes it (3), deletes the client (7) or lists ports (.3): a plug
would stop the front, whose pass takes one. And what hangs or crashes with a sound server can be killed.

A record in the pipe: time in ns, kind, number of the port, length (little-endian, 13 bytes), then so many bytes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mido

from device.errors import DarkrackError
from device.midi_stream import BYTE_NS, Dropped, MidiStream
from device.process import FRONT_PRIORITY, be_prompt, log_to_stderr

log = logging.getLogger(__name__)

DIN_BAUD = 31_250
RECORD = struct.Struct("<qBHH")
BEAT, OPENED_USB, OPENED_DIN, BYTES, LOST, GONE = range(6)
PIPE_BYTES = 1 << 18  # 16,000 messages; the system may grant less
# What one poll reads: 16 USB messages (.06 ms of work on an x86-64), or at the very most 110 of DIN (.34 ms); the rest
# waits for the next pass, with the time that it has.
READ_BYTES = 256
PIECE_BYTES = 64  # the most of a line in one record
NAME_BYTES = 1_000
# A cable takes longer than this to be out and in again: USB debounces it for 100 ms, then asks what it is, and the
# driver has to begin. To list the ports takes .3 ms.
LOOK_S = 0.2
RETRY_S = 1.0  # between two tries to open what is not there, or to start a process that has ended
HUNG_NS = 5_000_000_000  # without a sign of life
SERIAL_WAIT_S = 0.2
CLIENT = "darkrack"
# ALSA ends its names with client:port. Clients up to 127 are the kernel's, which is to say hardware; programs follow.
ALSA_ADDRESS = re.compile(r" (\d+):\d+$")
FIRST_PROGRAM = 128
ALSA_SEQUENCER = Path("/dev/snd/seq")
SUSTAIN, ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 64, 120, 121, 123
MOST_KEYS = 16  # of a channel that are let go one by one; more than hands have fingers

START = "import sys; sys.path.insert(0, sys.argv[1]); from device.midi_ports import {0}; {0}(sys.argv[2])"
# Whoever is prompt passes it on to what he starts; listing ports is no haste.
GENTLY = (
    "import os\nif hasattr(os, 'sched_setscheduler'):\n"
    "    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\n"
)
NO_DRIVER = 3  # exit status of the process that lists ports
ASK_S = 5.0  # between two questions whether a JACK server is still there
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Counts:
    """What happened at all ports so far.

    ``messages`` handed on; ``stray``, ``cut_short`` and ``undefined`` as in `device.midi_stream.Dropped`; ``lost``:
    times that a port's messages found the pipe full; ``fell_silent``: lines whose active sensing stopped; ``plugged``
    and ``gone`` ports; ``restarts`` of the process that holds them.
    """

    messages: int = 0
    stray: int = 0
    cut_short: int = 0
    undefined: int = 0
    lost: int = 0
    fell_silent: int = 0
    plugged: int = 0
    gone: int = 0
    restarts: int = 0

    def add(self, dropped: Dropped) -> None:
        """Count what a line made no message of."""
        self.stray += dropped.stray
        self.cut_short += dropped.cut_short
        self.undefined += dropped.undefined


@dataclass
class _Port:
    """An open port: its bytes' parser, and what it holds down."""

    name: str
    stream: MidiStream
    keys: dict[tuple[int, int], int] = field(default_factory=dict)  # (channel, key): how many times
    pedals: set[int] = field(default_factory=set)  # channels
    bent: set[int] = field(default_factory=set)

    def note(self, message: mido.Message) -> None:
        """Keep the books on what the message presses or lets go."""
        kind = message.type
        if kind in {"note_on", "note_off"}:
            key = message.channel, message.note
            if kind == "note_on" and message.velocity:
                self.keys[key] = min(self.keys.get(key, 0) + 1, MOST_KEYS)
            elif self.keys.get(key, 0) > 1:
                self.keys[key] -= 1
            else:
                self.keys.pop(key, None)
        elif kind == "pitchwheel":
            (self.bent.add if message.pitch else self.bent.discard)(message.channel)
        elif kind == "control_change":
            control, channel = message.control, message.channel
            if control == SUSTAIN:
                (self.pedals.add if message.value >= 64 else self.pedals.discard)(channel)
            elif control == RESET_CONTROLLERS:
                self.pedals.discard(channel)
                self.bent.discard(channel)
            elif control == ALL_SOUND_OFF or control >= ALL_NOTES_OFF:
                for key in [key for key in self.keys if key[0] == channel]:
                    del self.keys[key]


class MidiInputs:
    """The inputs of an instrument; `close` it, or use it as a context.

    ``names``: parts of the names of USB ports, regardless of case; empty for none; None for all hardware, which is what
    the driver calls neither Midi Through nor a program's. ``serial``: DIN lines, ``"/dev/serial0"`` or
    ``"/dev/serial0:38400"`` where the system makes 31250 baud of another number (dtoverlay=midi-uart0 does of 38400).
    ``api``: ``"alsa"`` or ``"jack"``, or None for what this machine has. What is not there is waited for, and what goes
    has its keys, pedals and bends let go.

    DarkrackError where ``names`` or ``serial`` ask for what needs a package that is not installed, or for no port.
    """

    def __init__(
        self, names: Sequence[str] | None = None, serial: Sequence[str] = (), *, api: str | None = None
    ) -> None:
        if names and importlib.util.find_spec("rtmidi") is None:
            raise _missing("python-rtmidi", f"MIDI port {names[0]!r}")
        if serial and importlib.util.find_spec("serial") is None:
            raise _missing("pyserial", f"serial port {serial[0]!r}")
        usb = importlib.util.find_spec("rtmidi") is not None and (names is None or bool(names))
        if names is None and not usb:
            log.info("no USB MIDI: python-rtmidi is not installed")
        lines = [_line(text) for text in serial]
        self._counts = Counts()
        self._asked = json.dumps(
            {
                "usb": usb,
                "names": None if names is None else list(names),
                "lines": lines,
                "api": api,
                "level": logging.getLogger().getEffectiveLevel(),
            }
        )
        self._ports: dict[int, _Port] = {}
        self._unread = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._heard_ns = self._next_start_ns = 0
        self._wanted = usb or bool(lines)
        if self._wanted:
            self._start(time.monotonic_ns())

    def __enter__(self) -> MidiInputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all ports; nothing is heard after that. Takes a tenth of a second."""
        self._wanted = False
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        self._end()
        self._ports.clear()

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the ports that are open now."""
        return tuple(port.name for port in self._ports.values())

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        counts = replace(self._counts)
        for port in self._ports.values():
            counts.add(port.stream.dropped)
        return counts

    def poll(self, now_ns: int) -> list[tuple[int, mido.Message]]:
        """What has arrived since the last call: (CLOCK_MONOTONIC in ns, message). Never waits.

        Channel messages, clock, start, continue and stop. Active sensing and system reset stay here: a port that fell
        silent, was reset, lost bytes or went away gives the ends of what it held instead. To be called each pass: takes
        1.2 us where nothing came, 6 a message, and some ms once where the ports' process has to be started again.
        """
        if self._process is None:
            if self._wanted and now_ns >= self._next_start_ns:
                self._counts.restarts += 1
                self._start(now_ns)
            return []
        heard: list[tuple[int, mido.Message]] = []
        try:
            read = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            read = None
        if read:
            self._heard_ns = now_ns
            self._take(read, heard)
        elif read == b"" or now_ns - self._heard_ns > HUNG_NS:
            log.warning("the process of the MIDI ports %s", "ended" if read == b"" else "hangs")
            self._end()
            self._next_start_ns = now_ns + round(RETRY_S * 1e9)
            for number in tuple(self._ports):
                self._close_port(number, now_ns, heard)
        if (
            read is None or len(read) < READ_BYTES
        ):  # otherwise what would break the silence may still be unread
            for port in self._ports.values():
                if port.stream.silent(now_ns):
                    self._counts.fell_silent += 1
                    self._let_go(port, now_ns, heard)
        return heard

    def _start(self, now_ns: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", START.format("hold_ports"), str(ROOT), self._asked],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        with contextlib.suppress(OSError, AttributeError, ImportError):
            import fcntl

            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._heard_ns = now_ns + HUNG_NS  # Python and the drivers have to be loaded first
        self._unread = b""

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _take(self, read: bytes, heard: list[tuple[int, mido.Message]]) -> None:
        """Records, of which the last may be half."""
        self._unread += read
        at = 0
        while at + RECORD.size <= len(self._unread):
            time_ns, kind, number, length = RECORD.unpack_from(self._unread, at)
            end = at + RECORD.size + length
            if end > len(self._unread):
                break
            self._obey(time_ns, kind, number, self._unread[at + RECORD.size : end], heard)
            at = end
        self._unread = self._unread[at:]

    def _obey(
        self, time_ns: int, kind: int, number: int, data: bytes, heard: list[tuple[int, mido.Message]]
    ) -> None:
        if kind in {OPENED_USB, OPENED_DIN}:
            if number in self._ports:
                return
            self._counts.plugged += 1
            stream = MidiStream(BYTE_NS if kind == OPENED_DIN else 0)
            self._ports[number] = _Port(data.decode("utf-8", "replace"), stream)
        elif number not in self._ports:
            return
        elif kind == BYTES:
            port = self._ports[number]
            for at_ns, message in port.stream.feed(data, time_ns):
                if message.type == "reset":
                    self._let_go(port, at_ns, heard)
                elif message.type != "active_sensing":
                    port.note(message)
                    heard.append((at_ns, message))
                    self._counts.messages += 1
        elif kind == LOST:
            self._counts.lost += 1
            self._ports[number].stream.break_off()
            self._let_go(self._ports[number], time_ns, heard)
        elif kind == GONE:
            self._close_port(number, time_ns, heard)

    def _close_port(self, number: int, at_ns: int, heard: list[tuple[int, mido.Message]]) -> None:
        port = self._ports.pop(number)
        port.stream.break_off()
        self._counts.gone += 1
        self._counts.add(port.stream.dropped)
        self._let_go(port, at_ns, heard)

    def _let_go(self, port: _Port, at_ns: int, heard: list[tuple[int, mido.Message]]) -> None:
        """End what this port holds, and what no other one holds as well."""
        others = [other for other in self._ports.values() if other is not port]
        for channel in sorted({channel for channel, _ in port.keys}):
            keys = [(key, times) for (at, key), times in port.keys.items() if at == channel]
            if len(keys) > MOST_KEYS:
                off = mido.Message("control_change", channel=channel, control=ALL_NOTES_OFF)
                heard.append((at_ns, off))
                continue
            for key, times in keys:
                heard += [(at_ns, mido.Message("note_off", channel=channel, note=key))] * times
        for channel in sorted(port.pedals):
            if not any(channel in other.pedals for other in others):
                up = mido.Message("control_change", channel=channel, control=SUSTAIN, value=0)
                heard.append((at_ns, up))
        for channel in sorted(port.bent):
            if not any(channel in other.bent for other in others):
                heard.append((at_ns, mido.Message("pitchwheel", channel=channel, pitch=0)))
        for books in (port.keys, port.pedals, port.bent):
            books.clear()


def inputs_there(api: str | None = None) -> tuple[str, ...]:
    """Names of the USB MIDI inputs that there are now, Midi Through and programs' included; takes .3 s.

    DarkrackError where python-rtmidi is not installed.
    """
    if importlib.util.find_spec("rtmidi") is None:
        raise _missing("python-rtmidi", "USB MIDI")
    try:  # in a process of its own, for the reasons at the top
        said = subprocess.run(
            _listing(api), stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True
        )
        return tuple(json.loads(said.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def _listing(api: str | None) -> list[str]:
    """The words that start a process which lists ports."""
    return [sys.executable, "-c", GENTLY + START.format("list_ports"), str(ROOT), json.dumps({"api": api})]


def require_inputs(names: Sequence[str], api: str | None = None) -> None:
    """DarkrackError for the first of ``names`` that no port has now, with those that there are."""
    there = inputs_there(api)
    for name in names:
        if not chosen(there, [name]):
            known = ", ".join(repr(one) for one in there) or "none"
            raise DarkrackError(
                f"MIDI port {name!r}",
                "a port that is there, or part of its name",
                f"none of {known}" if there else "no port at all",
                "plug it in, or leave the name out: then every keyboard plays, whenever it comes",
            )


def chosen(there: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """Those of the ports that are ``there`` which ``names`` asks for; None: all hardware."""
    if names is None:
        return [name for name in there if _is_hardware(name)]
    parts = [name.casefold() for name in names]
    return [name for name in there if any(part in name.casefold() for part in parts)]


def _is_hardware(name: str) -> bool:
    address = ALSA_ADDRESS.search(name)
    program = address is not None and int(address[1]) >= FIRST_PROGRAM
    return not (program or "midi through" in name.casefold() or name.casefold().startswith(CLIENT))


def _line(text: str) -> tuple[str, int]:
    """A serial port and its rate; DarkrackError for a rate that no UART has."""
    device, colon, rate = text.rpartition(":")
    if not colon or not rate.isdecimal():
        device, rate = text, str(DIN_BAUD)
    if not device or not 1_000 <= int(rate) <= 4_000_000:
        raise DarkrackError(
            f"serial port {text!r}", "a device, and after a colon its rate, 1000 to 4000000", repr(rate)
        )
    return device, int(rate)


def _missing(package: str, where: str) -> DarkrackError:
    hint = f"pip install {package}"
    if package == "python-rtmidi" and sys.version_info >= (3, 13):
        hint += " (it is compiled there), or use Python 3.12"
    return DarkrackError(where, f"the package {package}", "none installed", hint)


# ---- the process that holds the ports ----


class _Pipe:
    """Where the records go, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self._lock = threading.Lock()
        self._owed: list[tuple[int, int, bytes]] = []  # what found no place and must not be lost
        self.closed = False  # nobody reads it any more

    def send(self, kind: int, number: int = 0, data: bytes = b"") -> None:
        """Write a record of now; where the pipe is full, its port is said to have lost something as soon as it goes."""
        with self._lock:
            now_ns = time.monotonic_ns()
            while self._owed and self._write(now_ns, *self._owed[0]):
                del self._owed[0]
            if self._owed or not self._write(now_ns, kind, number, data):
                owed = (LOST, number, b"") if kind == BYTES else (kind, number, data)
                if kind != BEAT and owed not in self._owed:
                    self._owed.append(owed)

    def _write(self, now_ns: int, kind: int, number: int, data: bytes) -> bool:
        """Whether it went; a record is smaller than what the system takes whole or not at all (PIPE_BUF)."""
        try:
            os.write(self._descriptor, RECORD.pack(now_ns, kind, number, len(data)) + data)
        except BlockingIOError:
            return False
        except OSError:
            self.closed = True
        return True


class _Usb:
    """The ports of rtmidi: opened as they come, closed when they go."""

    def __init__(
        self, pipe: _Pipe, numbers: Iterator[int], names: Sequence[str] | None, api: str | None
    ) -> None:
        self._pipe, self._numbers, self._names, self._api = pipe, numbers, names, api
        self._finder: Any = None
        self._finder_s = 0.0  # when to look for a driver again
        self._open: dict[str, tuple[int, Any]] = {}
        self._asked: subprocess.Popen[bytes] | None = None
        self._ask_s = 0.0

    def look(self) -> None:
        """Open what is there and is asked for, close what is not there any more."""
        there = self._there()
        for name in [name for name in self._open if name not in there]:
            log.info("MIDI port %s: gone", name)
            self._close(name)
        for name in chosen(there, self._names):
            if name not in self._open:
                try:
                    self._open[name] = self._opened(name)
                except Exception:  # it has just gone, or another program keeps it for itself: tried again
                    log.debug("MIDI port %s", name, exc_info=True)

    def _there(self) -> list[str]:
        now_s = time.monotonic()
        try:
            if self._finder is None:
                if now_s < self._finder_s:
                    return []
                self._finder_s = now_s + RETRY_S
                self._finder = _midi_in(self._api)
            names: list[str] = self._finder.get_ports()
        except Exception:  # rtmidi has errors of its own for each driver: without a driver there are no ports
            log.debug("no MIDI driver", exc_info=True)
            self._finder = None
            return []
        if self._api == "jack" and self._open and now_s >= self._ask_s:
            self._ask_s = now_s + ASK_S
            self._ask()
        return names

    def _ask(self) -> None:
        """End this process where the JACK server has: its clients list its ports for ever, only a new one is told."""
        quiet = subprocess.DEVNULL
        if self._asked is not None and self._asked.poll() == NO_DRIVER:
            log.warning("the JACK server has ended")
            os._exit(1)
        if self._asked is None or self._asked.poll() is not None:
            self._asked = subprocess.Popen(_listing(self._api), stdin=quiet, stdout=quiet, stderr=quiet)

    def close(self) -> None:
        """Close all of them."""
        for name in tuple(self._open):
            self._close(name)

    def _close(self, name: str) -> None:
        number, port = self._open.pop(name)
        self._pipe.send(GONE, number)
        with contextlib.suppress(Exception):  # whatever a driver says of a port that is not there
            port.close_port()
            port.delete()

    def _opened(self, name: str) -> tuple[int, Any]:
        number, port = next(self._numbers), _midi_in(self._api)

        def announce() -> None:
            self._pipe.send(OPENED_USB, number, name.encode()[:NAME_BYTES])

        announced = False

        def arrived(event: tuple[list[int], float], _data: object = None) -> None:
            nonlocal announced
            if not announced:  # something comes at once, before open_port is back: said twice is said
                announced = True
                announce()
            message = bytes(event[0])
            for begin in range(0, len(message), PIECE_BYTES):
                self._pipe.send(BYTES, number, message[begin : begin + PIECE_BYTES])

        port.ignore_types(sysex=True, timing=False, active_sense=False)
        try:
            port.set_callback(arrived)
            port.open_port(port.get_ports().index(name), "in")
        except BaseException:
            self._pipe.send(GONE, number)
            port.delete()
            raise
        announce()
        log.info("MIDI port %s: open", name)
        return number, port


def _midi_in(api: str | None) -> Any:
    """A client of rtmidi; its errors where there is no driver."""
    import rtmidi

    known = {"alsa": rtmidi.API_LINUX_ALSA, "jack": rtmidi.API_UNIX_JACK}
    return rtmidi.MidiIn(known[api] if api else rtmidi.get_compiled_api()[0], name=CLIENT)


def _driver() -> str | None:
    """What there is on Linux; elsewhere rtmidi has one of its own."""
    if not sys.platform.startswith("linux"):
        return None
    return "alsa" if ALSA_SEQUENCER.exists() else "jack"  # without the sequencer, ALSA only complains


class _Serial:
    """A DIN line: opened when it is there, read by a thread, opened again when it has gone."""

    def __init__(self, pipe: _Pipe, numbers: Iterator[int], device: str, baud: int) -> None:
        self._pipe, self._numbers, self._device, self._baud = pipe, numbers, device, baud
        self._reader: threading.Thread | None = None
        self._next_s = 0.0

    def look(self) -> None:
        """Open the port if it is not open, once a second."""
        if (self._reader is not None and self._reader.is_alive()) or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + RETRY_S
        import serial

        try:
            port = serial.Serial(self._device, self._baud, timeout=SERIAL_WAIT_S, exclusive=True)
        except (serial.SerialException, OSError, ValueError):
            log.debug("serial port %s", self._device, exc_info=True)
            return
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            port.set_low_latency_mode(True)  # an FTDI chip otherwise keeps bytes for 16 ms
        self._reader = threading.Thread(target=self._read, args=(port,), daemon=True)
        self._reader.start()

    def _read(self, port: Any) -> None:
        number = next(self._numbers)
        self._pipe.send(OPENED_DIN, number, self._device.encode()[:NAME_BYTES])
        log.info("serial port %s: open", self._device)
        with contextlib.suppress(OSError), port:  # pyserial's own error is an OSError
            while True:
                data = port.read(1)
                if data:
                    data += port.read(min(port.in_waiting, PIECE_BYTES - 1))
                    self._pipe.send(BYTES, number, data)
        self._pipe.send(GONE, number)
        log.info("serial port %s: gone", self._device)


def hold_ports(asked: str) -> None:
    """Body of the process: hold the ports that are asked for (JSON) until nobody reads the pipe any more."""
    wanted = json.loads(asked)
    pipe = _Pipe(_apart(wanted["level"]))
    be_prompt(FRONT_PRIORITY)  # the drivers' threads have it from this one
    numbers = _numbers()
    usb = _Usb(pipe, numbers, wanted["names"], wanted["api"] or _driver())
    looks: list[Callable[[], None]] = [usb.look] if wanted["usb"] else []
    looks += [_Serial(pipe, numbers, device, baud).look for device, baud in wanted["lines"]]
    try:
        while not pipe.closed:
            pipe.send(BEAT)
            for look in looks:
                look()
            time.sleep(LOOK_S)
    finally:
        usb.close()  # a JACK server waits for clients that end without a word


def list_ports(asked: str) -> None:
    """Body of another: print the names of all ports (JSON)."""
    out = _apart(logging.WARNING)
    try:
        there = _midi_in(json.loads(asked)["api"] or _driver()).get_ports()
    except Exception:  # as in `_Usb`
        os._exit(NO_DRIVER)
    os.write(out, json.dumps(there).encode())
    os._exit(0)  # some drivers do not like to be taken down


def _apart(level: int) -> int:
    """The descriptor of the pipe, which drivers that print do not write to; their complaints go nowhere."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ["JACK_NO_START_SERVER"] = "1"  # a server is started by whoever wants one
    out, errors = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.stderr = os.fdopen(errors, "w", buffering=1)
    log_to_stderr(level)
    return out


def _numbers() -> Iterator[int]:
    """Of ports; one comes again after 65,536 others."""
    while True:
        yield from range(1 << 16)
