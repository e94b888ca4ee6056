"""The computer's keyboard over a real pseudo-terminal: what is typed, what is played, what the terminal gets back."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import select
import termios
from collections.abc import Iterator
from typing import Any

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.keyboard import (
    AGAIN_S,
    HOLD_S,
    PIANO,
    TURN,
    VELOCITY,
    GateEdge,
    KeyboardInput,
    Played,
    PotTurn,
    Quit,
    parse_keys,
)


class Desk:
    """A terminal with somebody at it, and a clock that stands still in between."""

    def __init__(self) -> None:
        self.person, self.terminal = pty.openpty()
        self.now_s = 100.0

    def keyboard(self) -> KeyboardInput:
        return KeyboardInput(self.terminal, now_s=lambda: self.now_s)

    def type(self, keyboard: KeyboardInput, typed: bytes) -> list[Played]:
        os.write(self.person, typed)
        assert select.select([self.terminal], [], [], 10)[0], "it goes through the kernel"
        return keyboard.poll()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    for descriptor in (desk.person, desk.terminal):
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(descriptor)


def note(key: int) -> mido.Message:
    return mido.Message("note_on", note=key, velocity=VELOCITY)


def end(key: int) -> mido.Message:
    return mido.Message("note_off", note=key, velocity=0)


def test_an_octave_and_a_note_from_c4(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, PIANO.encode()) == [note(key) for key in range(60, 73)]
        assert keyboard.poll() == []
        desk.now_s += HOLD_S
        assert keyboard.poll() == [end(key) for key in range(60, 73)]


def test_octaves_go_from_0_to_8_and_no_note_is_lost_on_the_way(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, b"axa") == [note(60), note(72)]
        assert keyboard.key == 72
        assert desk.type(keyboard, b"x" * 20 + b"k") == [note(120)]
        assert desk.type(keyboard, b"z" * 20 + b"a") == [note(12)]
        desk.now_s += HOLD_S
        assert sorted(message.note for message in keyboard.poll()) == [12, 60, 72, 120]


def test_a_held_key_sounds_on_without_a_break_and_ends_soon_after(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, b"a") == [note(60)]
        desk.now_s += 0.66  # the longest wait before a key begins to repeat
        for _ in range(30):
            assert desk.type(keyboard, b"a") == []
            desk.now_s += 0.1
        desk.now_s += AGAIN_S - 0.1 + 1e-6
        assert keyboard.poll() == [end(60)]
        assert desk.type(keyboard, b"a") == [note(60)]


def test_a_repetition_never_makes_a_note_shorter(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        desk.type(keyboard, b"aa")
        desk.now_s += HOLD_S - 0.01
        assert keyboard.poll() == []


def test_pots_are_chosen_and_turned_between_their_ends(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, b"\x1b[A") == [PotTurn(1, 0.5 + TURN)]
        assert desk.type(keyboard, b"8\x1bOB\x1b[B") == [PotTurn(8, 0.5 - TURN), PotTurn(8, 0.5 - 2 * TURN)]
        assert keyboard.positions == [0.5 + TURN, *[0.5] * 6, 0.5 - 2 * TURN]
        assert desk.type(keyboard, b"\x1b[A" * 40)[-1] == PotTurn(8, 1.0)
        assert desk.type(keyboard, b"\x1b[B" * 70)[-1] == PotTurn(8, 0.0)


def test_an_arrow_may_come_in_pieces(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, b"\x1b") == []
        assert desk.type(keyboard, b"[") == []
        assert desk.type(keyboard, b"Aa") == [PotTurn(1, 0.5 + TURN), note(60)]


def test_space_is_a_pulse(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, b" a") == [GateEdge(1), note(60)]
        desk.now_s += HOLD_S
        assert keyboard.poll() == [GateEdge(0), end(60)]


def test_q_ends_and_leaves_nothing_sounding(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, b"a qd") == [note(60), GateEdge(1), end(60), GateEdge(0), Quit()]


def test_a_terminal_that_goes_away_ends_it(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        desk.type(keyboard, b"s")
        os.close(desk.person)
        assert keyboard.poll() == [end(62), Quit()]


def test_keys_that_mean_nothing_do_nothing(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        assert desk.type(keyboard, "09pö\t\n\x04\x1b[15~\x1b[1;5A\x1b[C\x1b[M".encode()) == []


def test_what_is_typed_is_neither_shown_nor_kept_for_the_shell(desk: Desk) -> None:
    with desk.keyboard() as keyboard:
        desk.type(keyboard, b"a")
        os.write(desk.person, b"rest")
        assert select.select([desk.terminal], [], [], 10)[0]
    assert select.select([desk.person, desk.terminal], [], [], 0) == ([], [], [])


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_terminal_gets_its_settings_back(desk: Desk, error: type[BaseException] | None) -> None:
    def settings() -> list[Any]:
        return termios.tcgetattr(desk.terminal)

    def play() -> None:
        with desk.keyboard():
            played = settings()
            assert not played[3] & (termios.ECHO | termios.ICANON)
            assert played[3] & termios.ISIG, "Ctrl-C still interrupts"
            if error is not None:
                raise error

    before = settings()
    assert before[3] & termios.ECHO
    with contextlib.nullcontext() if error is None else pytest.raises(error):
        play()
    assert settings() == before


def test_what_is_no_terminal_is_refused() -> None:
    reader, writer = os.pipe()
    with pytest.raises(DarkrackError, match="a terminal to play on, got none"):
        KeyboardInput(reader)
    os.close(reader)
    os.close(writer)


# The bytes.

# Mostly what matters: escape, its introducers, parameters, finals, keys.
BYTES = st.lists(st.one_of(st.sampled_from(b"\x1b\x1b[O1;AB~aq "), st.integers(0, 255)), max_size=60).map(
    bytes
)


@given(BYTES, st.lists(st.integers(0, 60), max_size=5))
def test_however_the_bytes_arrive_the_keys_are_the_same(typed: bytes, cuts: list[int]) -> None:
    names, rest = parse_keys(typed)
    pieces: list[str] = []
    unread = b""
    for begin, finish in itertools.pairwise([0, *sorted(cuts), 60]):
        more, unread = parse_keys(unread + typed[begin:finish])
        pieces += more
    assert (pieces, unread) == (names, rest)
    assert typed.endswith(rest)
    assert all(len(name) == 1 or name in {"up", "down"} for name in names)


def test_escape_sequences() -> None:
    assert parse_keys(b"\x1b[A\x1bOB") == (["up", "down"], b"")
    assert parse_keys(b"\x1b[1;2A\x1b[15~\x1bx7") == (["7"], b"")
    assert parse_keys(b"\x1b\x1b[A") == (["up"], b"")
    assert parse_keys(b"a\x1b[3") == (["a"], b"\x1b[3")
