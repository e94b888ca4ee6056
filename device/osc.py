"""OSC in: what a phone, a sequencer or another program sends over the network, into what the instrument does.

    /darkrack/knob/NAME f       an attribute by its name, 0..1 (to 2: over-emphasis); or /darkrack/knob ,sf NAME f
    /darkrack/source/NAME f     a source of a patch that comes from outside ("cc.1"); or /darkrack/source ,sf NAME f
    /darkrack/note i f          a key (60 = middle C) and its velocity 0..1; 0 lets it go
    /darkrack/panic             everything off
    /darkrack/preset s|i [f]    a kept sound or a preset by name, or by MIDI program from 0; in so many seconds
    /darkrack/keep s            keep the sound as it stands under a name; /darkrack/drop s forgets it
    /darkrack/undo              back to before the last recall or choice
    /darkrack/new [i]           another specimen: of this seed, or any
    /darkrack/learn s           the next MIDI controller that moves turns this attribute; /darkrack/forget
    /darkrack/bundle s          go over to another bundle that is loaded
    /darkrack/sounds            what there is to recall

Whoever sends one of these but source and note gets an answer: /darkrack/answer, T or F, and words.
An address cannot hold spaces and commas, names of attributes do: in an address, `same_name` compares letters and digits
only ("Wind_noise_breath" is "Wind noise, breath"). Numbers may come as i, f, h, d, T or F. Bundles are taken apart and
played at once: their time tags are of the sender's clock.

Source: Open Sound Control 1.0 (2002). python-osc reads what a message carries; its frame is checked here first, because
python-osc 1.10 reads a bundle whose element has a negative size for ever, and logs what it does not know.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from device.errors import DarkrackError
from device.patch import SETTING_MAX

OSC_PORT = 9010  # where `darkrack play` listens unless told otherwise
ROOT = "/darkrack/"
BUNDLE = b"#bundle\0"
BUNDLE_HEADER_BYTES = 16  # and a time tag
SIZE = struct.Struct(">i")
KNOWN_TYPES = frozenset(b"ifhdsTF")
MOST_BYTES = 1472  # what goes over Ethernet in one piece; larger datagrams are of something else
MOST_NESTED = 4
# What one poll does at most: .5 ms of work on an x86-64. The system keeps some hundred datagrams for the next ones.
MOST_DATAGRAMS, MOST_MESSAGES = 8, 32
LONGEST_MORPH_S = 3600.0
ANSWER = "answer"
MOST_WORDS_BYTES = 8000
REPLY_BYTES = 1 << 16
KEYS = 128


@dataclass(frozen=True)
class Knob:
    """Turn the attribute ``name`` to ``setting``, 0..2."""

    name: str
    setting: float


@dataclass(frozen=True)
class Source:
    """Move the modulation source ``name``; ``value`` is finite."""

    name: str
    value: float


@dataclass(frozen=True)
class Note:
    """Press a key 0..127 with a velocity up to 1, or let it go (velocity 0)."""

    key: int
    velocity: float


@dataclass(frozen=True)
class Panic:
    """Stop everything."""


@dataclass(frozen=True)
class Preset:
    """Recall a sound or preset, by name or by program from 0, in ``morph_s`` seconds."""

    which: str | int
    morph_s: float = 0.0


@dataclass(frozen=True)
class Keep:
    """Keep the sound as it stands."""

    name: str


@dataclass(frozen=True)
class Drop:
    """Forget a kept sound."""

    name: str


@dataclass(frozen=True)
class Undo:
    """Back to before the last recall or choice."""


@dataclass(frozen=True)
class Choose:
    """Another specimen of the same instrument: of a seed, or any."""

    seed: int | None = None


@dataclass(frozen=True)
class Learn:
    """The next MIDI controller that moves is to turn this attribute."""

    name: str


@dataclass(frozen=True)
class Forget:
    """Forget what controllers have learned."""


@dataclass(frozen=True)
class Bundle:
    """Go over to another bundle."""

    name: str


@dataclass(frozen=True)
class Sounds:
    """Say what there is to recall."""


Heard = Knob | Source | Note | Panic | Preset | Keep | Drop | Undo | Choose | Learn | Forget | Bundle | Sounds
Address = tuple[str, int]


class OscInput:
    """A UDP socket that is polled; `close` it, or use it as a context.

    ``host`` is the address to listen at. Without another word that is this machine only: OSC knows no password, so
    on any other address everybody in the network may play. ``port`` 0 takes a free one, see ``port``.

    DarkrackError where the address is not to be had. ``malformed`` counts what was no OSC or none of ours.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        from pythonosc.osc_packet import OscPacket

        self._packet = OscPacket
        where = f"OSC at {host}:{port}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            reason = getattr(error, "strerror", None) or str(error)
            hint = "another program may have this port: try another one"
            raise DarkrackError(where, "an address and port of this machine, free", reason, hint) from error
        self.port: int = self._socket.getsockname()[1]
        self.malformed = 0

    def __enter__(self) -> OscInput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the port; nothing is heard after that."""
        self._socket.close()

    def answer(self, to: Address, done: bool, words: str) -> None:
        """Tell whoever asked what was done, or why not; nobody need listen."""
        from pythonosc.osc_message_builder import OscMessageBuilder

        builder = OscMessageBuilder(ROOT + ANSWER)
        builder.add_arg(done)
        builder.add_arg(words.encode()[:MOST_WORDS_BYTES].decode(errors="ignore"))
        with contextlib.suppress(OSError):
            self._socket.sendto(builder.build().dgram, to)

    def poll(self, now_ns: int) -> list[tuple[int, Heard, Address]]:
        """What has come since the last call, at ``now_ns``, and from where; never waits and never raises.

        To be called each pass: 1 us where nothing came, 7 a message. What is more than a pass has time for waits for
        the next one.
        """
        heard: list[tuple[int, Heard, Address]] = []
        left = MOST_MESSAGES
        for _ in range(MOST_DATAGRAMS):
            try:
                datagram, sender = self._socket.recvfrom(MOST_BYTES + 1)
            except OSError:  # nothing there; or an error of the network, which is nobody's message
                break
            messages = [None] if len(datagram) > MOST_BYTES else list(_taken_apart(datagram))
            for message in messages:
                try:
                    one = self._understood(message)
                except Exception:  # whatever python-osc or we stumble over came from outside
                    self.malformed += 1
                else:
                    heard += [] if one is None else [(now_ns, one, sender)]
            left -= len(messages)
            if left <= 0:
                break
        return heard

    def _understood(self, message: bytes | None) -> Heard | None:
        """What one message asks for, if anything; any exception where it is none of ours, or broken."""
        if message is None or not message.startswith(ROOT.encode()):
            raise ValueError
        types = message[_after_string(message) :]
        if types and not (types.startswith(b",") and KNOWN_TYPES.issuperset(types[1:].partition(b"\0")[0])):
            raise ValueError
        ((_time, read),) = self._packet(message).messages
        meaning, *path = str(read.address).removeprefix(ROOT).split("/")
        return _MEANINGS[meaning]([*path, *read.params])


def answered(datagram: bytes) -> tuple[bool, str]:
    """An answer taken apart: (whether it was done, words)."""
    from pythonosc.osc_message import OscMessage

    done, words = OscMessage(datagram).params
    return bool(done), str(words)


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same to OSC: letters and digits, regardless of case."""
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _taken_apart(datagram: bytes, depth: int = 0) -> Iterator[bytes | None]:
    """The messages in a datagram, out of their bundles; None for each thing that is none."""
    if not datagram.startswith(BUNDLE):
        yield datagram if datagram.startswith(b"/") else None
        return
    at = BUNDLE_HEADER_BYTES
    if depth == MOST_NESTED or len(datagram) < at:
        yield None
        return
    while at < len(datagram):
        size = SIZE.unpack_from(datagram, at)[0] if at + SIZE.size <= len(datagram) else -1
        at += SIZE.size
        if not 0 < size <= len(datagram) - at or size % 4:
            yield None  # and where the next one would begin, nobody knows
            return
        yield from _taken_apart(datagram[at : at + size], depth + 1)
        at += size


def _after_string(message: bytes) -> int:
    """Where what follows the string at the beginning begins: it ends with 1 to 4 zeros, at a multiple of 4."""
    return message.index(b"\0") // 4 * 4 + 4


def _named(words: list[object], low: float, high: float) -> tuple[str, float]:
    """(name, number), of an address or of arguments."""
    name, number = words
    if not isinstance(name, str) or not name:
        raise TypeError
    return name, _number(number, low, high)


def _number(value: object, low: float, high: float) -> float:
    """A finite number, brought into its range: faders overshoot."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return min(max(float(value), low), high)


def _note(words: list[object]) -> Note:
    key, velocity = words
    number = _number(key, -1.0, KEYS)
    if number != int(number) or not 0 <= number < KEYS:
        raise ValueError
    return Note(int(number), _number(velocity, 0.0, 1.0))


def _preset(words: list[object]) -> Preset:
    which, *morph = words
    (morph_s,) = morph or [0.0]
    morph_s = _number(morph_s, 0.0, LONGEST_MORPH_S)
    return Preset(which if isinstance(which, str) and which else _whole(which), morph_s)


def _whole(value: object) -> int:
    """A whole number from 0."""
    number = _number(value, -1.0, 2.0**31)
    if number != int(number) or number < 0:
        raise ValueError
    return int(number)


def _choose(words: list[object]) -> Choose:
    return Choose(_whole(*words)) if words else Choose()


def _name(words: list[object]) -> str:
    """The one name there is."""
    (name,) = words
    if not isinstance(name, str) or not name.strip():
        raise TypeError
    return name.strip()


def _nothing(meant: Heard) -> Callable[[list[object]], Heard | None]:
    """What a button sends along is passed over; but the 0 of letting it go asks for nothing."""
    return lambda words: meant if all(words) else None


_LARGEST = 1e6
_MEANINGS: dict[str, Callable[[list[object]], Heard | None]] = {
    "knob": lambda words: Knob(*_named(words, 0.0, SETTING_MAX)),
    "source": lambda words: Source(*_named(words, -_LARGEST, _LARGEST)),
    "note": _note,
    "panic": _nothing(Panic()),
    "preset": _preset,
    "keep": lambda words: Keep(_name(words)),
    "drop": lambda words: Drop(_name(words)),
    "undo": _nothing(Undo()),
    "new": _choose,
    "learn": lambda words: Learn(_name(words)),
    "forget": _nothing(Forget()),
    "bundle": lambda words: Bundle(_name(words)),
    "sounds": _nothing(Sounds()),
}
