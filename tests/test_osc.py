"""OSC over a real socket: what means something, what does not, and what was sent to do harm."""

from __future__ import annotations

import logging
import math
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from device.errors import DarkrackError
from device.osc import (
    MOST_BYTES,
    MOST_DATAGRAMS,
    Heard,
    Knob,
    Note,
    OscInput,
    Panic,
    Preset,
    Source,
    same_name,
)

LONGEST_S = 30.0
BUNDLE = b"#bundle\0" + bytes(7) + b"\1"


@pytest.fixture
def osc() -> Iterator[OscInput]:
    with OscInput(0) as one:
        yield one


def _message(address: str, *words: object) -> bytes:
    builder = OscMessageBuilder(address)
    for word in words:
        builder.add_arg(word)
    return bytes(builder.build().dgram)


def _bundle(*elements: bytes) -> bytes:
    return BUNDLE + b"".join(struct.pack(">i", len(element)) + element for element in elements)


def _heard(osc: OscInput, *datagrams: bytes) -> list[Heard]:
    """What comes of these; a last message says when they are through."""
    end = Source("end", 1.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for datagram in (*datagrams, _message("/darkrack/source/end", 1.0)):
            line.sendto(datagram, ("127.0.0.1", osc.port))
    heard: list[Heard] = []
    until_s = time.monotonic() + LONGEST_S
    while end not in heard and time.monotonic() < until_s:
        heard += [one for _, one, _ in osc.poll(7)]
    assert heard.pop() == end
    return heard


@pytest.mark.parametrize(
    ("address", "words", "meant"),
    [
        ("/darkrack/knob/Trumpet", [0.5], Knob("Trumpet", 0.5)),
        ("/darkrack/knob/Trumpet", [1], Knob("Trumpet", 1.0)),
        ("/darkrack/knob/Trumpet", [True], Knob("Trumpet", 1.0)),
        ("/darkrack/knob/Trumpet", [3.0], Knob("Trumpet", 2.0)),
        ("/darkrack/knob/Trumpet", [-0.1], Knob("Trumpet", 0.0)),
        ("/darkrack/knob", ["Wind noise, breath", 0.25], Knob("Wind noise, breath", 0.25)),
        ("/darkrack/knob/Wind noise, breath", [0.25], Knob("Wind noise, breath", 0.25)),
        ("/darkrack/source/lfo.1", [-0.5], Source("lfo.1", -0.5)),
        ("/darkrack/source/note", [60], Source("note", 60.0)),
        ("/darkrack/note", [60, 0.5], Note(60, 0.5)),
        ("/darkrack/note", [60.0, 2], Note(60, 1.0)),
        ("/darkrack/note", [127, 0], Note(127, 0.0)),
        ("/darkrack/panic", [], Panic()),
        ("/darkrack/panic", [1.0], Panic()),
        ("/darkrack/preset", ["Trumpet 60"], Preset("Trumpet 60")),
        ("/darkrack/preset", [3], Preset(3)),
        ("/darkrack/preset", [3.0], Preset(3)),
    ],
)
def test_what_is_understood(osc: OscInput, address: str, words: list[object], meant: Heard) -> None:
    assert _heard(osc, _message(address, *words)) == [meant]
    assert osc.malformed == 0


def test_zeros_at_the_end_may_be_left_out(osc: OscInput) -> None:
    """Reaktor does so, says python-osc, which takes them for there."""
    assert _heard(osc, _message("/darkrack/knob/Trumpet", 0.0)[:-4]) == [Knob("Trumpet", 0.0)]


def test_a_button_let_go_is_no_panic(osc: OscInput) -> None:
    assert _heard(osc, _message("/darkrack/panic", 0.0)) == []
    assert osc.malformed == 0


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0",
        b"darkrack",
        b"/darkrack/panic",  # whose string does not end
        _message("/other/knob/Trumpet", 0.5),
        _message("/darkrack"),
        _message("/darkrack/"),
        _message("/darkrack/fader/1", 0.5),
        _message("/darkrack/knob/Trumpet"),
        _message("/darkrack/knob/Trumpet", "loud"),
        _message("/darkrack/knob/Trumpet", math.nan),
        _message("/darkrack/knob/Trumpet", math.inf),
        _message("/darkrack/knob/Trumpet", 0.5, 0.5),
        _message("/darkrack/knob/a/b", 0.5),
        _message("/darkrack/knob//", 0.5),
        _message("/darkrack/knob/Trumpet", b"\0\0\0\5"),  # a blob
        _message("/darkrack/knob/Trumpet", [0.5]),
        _message("/darkrack/note", 60),
        _message("/darkrack/note", 60.5, 1.0),
        _message("/darkrack/note", 128, 1.0),
        _message("/darkrack/note", -1, 1.0),
        _message("/darkrack/note", 60, math.nan),
        _message("/darkrack/preset", -1),
        _message("/darkrack/preset", 1.5),
        _message("/darkrack/preset", ""),
        _message("/darkrack/preset"),
        b"/darkrack/knob/\xff\0,f\0\0\0\0\0\0",
        b"/darkrack/panic\0i\0\0\0",  # types without their comma
        b"/darkrack/panic\0,Q\0\0",
        BUNDLE[:12],
        _bundle(b"/\0\0"),
        b"/" * (MOST_BYTES + 1),
    ],
)
def test_what_is_not_understood_is_counted(osc: OscInput, datagram: bytes) -> None:
    panic = _message("/darkrack/panic")
    assert _heard(osc, datagram, panic) == [Panic()]
    assert osc.malformed == 1


def test_bundles_are_taken_apart_in_their_order(osc: OscInput) -> None:
    builder = OscBundleBuilder(IMMEDIATELY)
    inner = OscBundleBuilder(time.time() + 3600)  # an hour ahead, by the sender's clock
    for key in (60, 64):
        message = OscMessageBuilder("/darkrack/note")
        message.add_arg(key)
        message.add_arg(1.0)
        inner.add_content(message.build())
    builder.add_content(inner.build())
    builder.add_content(OscMessageBuilder("/darkrack/panic").build())
    assert _heard(osc, bytes(builder.build().dgram)) == [Note(60, 1.0), Note(64, 1.0), Panic()]
    assert _heard(osc, BUNDLE) == []
    assert osc.malformed == 0


def test_what_is_whole_in_a_broken_bundle_is_played(osc: OscInput) -> None:
    panic = _message("/darkrack/panic")
    assert _heard(osc, _bundle(panic, b"nonsense", panic)) == [Panic(), Panic()]
    assert osc.malformed == 1
    assert _heard(osc, _bundle(panic) + b"\0\0\0\x40/a") == [Panic()]
    assert osc.malformed == 2


@pytest.mark.parametrize("size", [-4, -20, 0, 3, 1000, -(2**31), 2**31 - 1])
def test_sizes_that_cannot_be_end_a_bundle(osc: OscInput, size: int) -> None:
    """With a size of -4, python-osc itself reads the same four bytes for ever."""
    assert _heard(osc, BUNDLE + struct.pack(">i", size) + _message("/darkrack/panic")) == []
    assert osc.malformed == 1


def test_bundles_in_bundles_end_somewhere(osc: OscInput) -> None:
    nested = _message("/darkrack/panic")
    for _ in range(60):
        nested = _bundle(nested)
    assert len(nested) < MOST_BYTES
    assert _heard(osc, nested) == []
    assert osc.malformed == 1


def test_nothing_is_logged_of_what_strangers_send(osc: OscInput, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        _heard(osc, _bundle(b"what is this"), b"/darkrack/panic\0,Q\0\0")
    assert caplog.records == []


_ADDRESSES = st.sampled_from(
    [f"/darkrack/{word}" for word in ("knob/A", "source/b", "note", "panic", "preset", "")]
)
_WORDS = st.one_of(
    st.floats(width=32),
    st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
    st.text("aA ,/\u00e9", max_size=5),
    st.binary(min_size=1, max_size=5),
)
_SENSE = st.builds(lambda address, words: _message(address, *words), _ADDRESSES, st.lists(_WORDS, max_size=3))
_DAMAGED = st.builds(
    lambda data, at, byte: data[: at % (len(data) + 1)] + bytes([byte]) + data[at % (len(data) + 1) + 1 :],
    st.one_of(_SENSE, st.lists(_SENSE, max_size=4).map(lambda some: _bundle(*some))),
    st.integers(0, 200),
    st.integers(0, 255),
)


@given(st.lists(st.one_of(st.binary(max_size=100), _SENSE, _DAMAGED), max_size=20))
@example([BUNDLE + b"\xff\xff\xff\xfc" * 4])
def test_any_datagrams(datagrams: list[bytes]) -> None:
    with OscInput(0) as osc:
        for one in _heard(osc, *datagrams):
            if isinstance(one, Knob):
                assert 0.0 <= one.setting <= 2.0
            elif isinstance(one, Note):
                assert 0 <= one.key < 128
                assert 0.0 <= one.velocity <= 1.0
            elif isinstance(one, Source):
                assert math.isfinite(one.value)


def test_a_flood_is_spread_over_the_passes(osc: OscInput) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for key in range(100):
            line.sendto(_message("/darkrack/note", key, 1.0), ("127.0.0.1", osc.port))
    keys: list[int] = []
    until_s = time.monotonic() + LONGEST_S
    while len(keys) < 100 and time.monotonic() < until_s:
        heard = osc.poll(3)
        assert len(heard) <= MOST_DATAGRAMS
        assert {at_ns for at_ns, _, _ in heard} <= {3}
        keys += [one.key for _, one, _ in heard if isinstance(one, Note)]
    assert keys == list(range(100))
    assert osc.poll(4) == []


def test_an_address_that_is_taken_or_nobodys(osc: OscInput) -> None:
    for port, host in ((osc.port, "127.0.0.1"), (0, "192.0.2.1"), (70_000, "127.0.0.1")):
        with pytest.raises(DarkrackError, match=f"OSC at {host}:{port}"):
            OscInput(port, host)


def test_only_this_machine_is_heard_unless_told_otherwise(osc: OscInput) -> None:
    assert osc._socket.getsockname()[0] == "127.0.0.1"
    with OscInput(0, "0.0.0.0") as everybody:
        assert _heard(everybody, _message("/darkrack/panic")) == [Panic()]


def test_names_are_the_same_by_letters_and_digits() -> None:
    assert same_name("wind_noise_breath", "Wind noise, breath")
    assert same_name("Trumpet60", "trumpet 60")
    assert not same_name("Trumpet 60", "Trumpet 61")
