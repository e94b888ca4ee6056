"""The computer's keyboard as keys, pots and gate of a simulated module, read from a terminal.

     w e   t y u        a to k are an octave and a note of a piano from C, the row above its black keys;
    a s d f g h j k     z and x go an octave down and up. 1 to 8 choose a pot, arrows up and down turn it.
                        Space is a pulse at the gate jack, q ends.

A terminal tells when a key goes down, and again while it repeats, but never when it comes up. So a note lasts HOLD_S,
which is longer than it takes until a held key begins to repeat, and every repetition sees to it that it lasts AGAIN_S
more. A key that is struck again while its note still lasts is taken for such a repetition. The same holds for the gate.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias

import mido

from device.errors import DarkrackError

HOLD_S = 0.7  # keys begin to repeat after 0.25 s (Linux console) to 0.66 s (X11)
AGAIN_S = 0.15  # and then at 10 a second or more
TURN = 1 / 32  # of a pot's travel, per press of an arrow
POTS = 8
PIANO = "awsedftgyhujk"  # C to the C above it, in semitones
START_OCTAVE, OCTAVE_MAX = 4, 8  # a is C4, MIDI 60; from C8 on k is still a MIDI note
VELOCITY = 100

ESCAPE = 0x1B


@dataclass(frozen=True)
class PotTurn:
    """Pot 1 to 8 was turned to ``position``, 0 to 1."""

    pot: int
    position: float


@dataclass(frozen=True)
class GateEdge:
    """The gate jack went to ``level``, 0 or 1."""

    level: int


@dataclass(frozen=True)
class Quit:
    """The player has enough, or the terminal is gone."""


Played: TypeAlias = mido.Message | PotTurn | GateEdge | Quit


class KeyboardInput:
    """A terminal that is played on, inside a ``with``: it gets its old settings back however that ends.

    ``poll`` never waits. Ctrl-C still interrupts; Ctrl-Z does not stop the instrument. ``positions`` are the pots as
    they stand, ``key`` is the last one struck: what lies at the pitch jack. ``now_s`` is the clock that notes last by.
    Raises DarkrackError where the descriptor is no terminal.
    """

    def __init__(
        self, descriptor: int = 0, channel: int = 0, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        if not os.isatty(descriptor):
            raise DarkrackError(
                "computer keyboard", "a terminal to play on", "none", "play from a --script instead"
            )
        self.positions = [0.5] * POTS
        self.key = 12 * (START_OCTAVE + 1)
        self._descriptor = descriptor
        self._channel = channel
        self._now_s = now_s
        self._octave = START_OCTAVE
        self._pot = 1
        self._unread = b""  # an escape sequence of which the end has not come yet
        self._ends_s: dict[int | None, float] = {}  # what sounds, until when; None is the gate

    def __enter__(self) -> KeyboardInput:
        import termios

        self._before = termios.tcgetattr(self._descriptor)
        played = termios.tcgetattr(self._descriptor)
        played[0] &= ~termios.IXON  # or Ctrl-S would freeze what is shown
        played[3] &= ~(termios.ICANON | termios.ECHO)
        played[6][termios.VMIN], played[6][termios.VTIME] = 1, 0
        played[6][termios.VSUSP] = b"\0"  # _POSIX_VDISABLE on Linux
        termios.tcsetattr(self._descriptor, termios.TCSANOW, played)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import termios

        with contextlib.suppress(termios.error):  # a terminal that was closed has no settings
            # What was typed and not read shall not go to the shell.
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)

    def poll(self) -> list[Played]:
        """What was played since the last time, in order; notes that have lasted long enough end first."""
        now_s = self._now_s()
        played: list[Played] = []
        for key in [key for key, end_s in self._ends_s.items() if end_s <= now_s]:
            played.append(self._ended(key))
        pressed = self._pressed()
        if pressed is None:
            return [*played, *self._quit()]
        for name in pressed:
            if name == "q":
                return [*played, *self._quit()]
            played += self._press(name, now_s)
        return played

    def _press(self, name: str, now_s: float) -> list[Played]:
        if name in PIANO:
            self.key = 12 * (self._octave + 1) + PIANO.index(name)
            return self._strike(self.key, now_s)
        if name == " ":
            return self._strike(None, now_s)
        if name in {"z", "x"}:
            self._octave = max(0, min(OCTAVE_MAX, self._octave + (1 if name == "x" else -1)))
        elif name in "12345678":
            self._pot = int(name)
        elif name in {"up", "down"}:
            turned = self.positions[self._pot - 1] + (TURN if name == "up" else -TURN)
            self.positions[self._pot - 1] = max(0.0, min(1.0, turned))
            return [PotTurn(self._pot, self.positions[self._pot - 1])]
        return []

    def _strike(self, key: int | None, now_s: float) -> list[Played]:
        if key in self._ends_s:
            self._ends_s[key] = max(self._ends_s[key], now_s + AGAIN_S)
            return []
        self._ends_s[key] = now_s + HOLD_S
        if key is None:
            return [GateEdge(1)]
        return [mido.Message("note_on", channel=self._channel, note=key, velocity=VELOCITY)]

    def _ended(self, key: int | None) -> Played:
        del self._ends_s[key]
        if key is None:
            return GateEdge(0)
        return mido.Message("note_off", channel=self._channel, note=key, velocity=0)

    def _quit(self) -> list[Played]:
        """The end, with nothing left sounding."""
        return [*[self._ended(key) for key in list(self._ends_s)], Quit()]

    def _pressed(self) -> list[str] | None:
        """Names of the keys pressed since the last time: a character, "up" or "down"; None: the terminal is gone."""
        try:
            if not select.select([self._descriptor], [], [], 0)[0]:
                return []
            arrived = os.read(self._descriptor, 4096)
        except OSError:  # EIO from a terminal that was hung up
            return None
        if not arrived:
            return None
        names, self._unread = parse_keys(self._unread + arrived)
        return names


def parse_keys(typed: bytes) -> tuple[list[str], bytes]:
    r"""The keys in what a terminal sent, and the beginning of an escape sequence that may still go on.

    Arrows are ESC [ A or ESC O A (B: down), the latter where a program has left the keypad in application mode. Other
    sequences, ESC [ parameters final and ESC character, are passed over. Source: ECMA-48, 5.4 (control sequences: bytes
    0x20 to 0x3f, then a final one from 0x40 to 0x7e); xterm's ctlseqs, "PC-Style Function Keys".
    """
    names: list[str] = []
    place = 0
    while place < len(typed):
        if typed[place] != ESCAPE:
            names.append(chr(typed[place]))
            place += 1
            continue
        end = place + 1
        if typed[end : end + 1] in {b"[", b"O"}:
            end += 1
            while end < len(typed) and 0x20 <= typed[end] <= 0x3F:
                end += 1
        if end >= len(typed):
            return names, typed[place:]
        if typed[end] == ESCAPE:  # the Escape key itself, or a sequence cut short: what follows is another
            place = end
            continue
        if end == place + 2 and typed[end] in b"AB":
            names.append("up" if typed[end] == ord("A") else "down")
        place = end + 1
    return names, b""
