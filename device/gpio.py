"""Lines of the header through RPi.GPIO's interface: gates with the times of their edges, and what drives a light.

One interface for all boards: rpi-lgpio provides it on a Raspberry Pi (RPi.GPIO itself does not run on a Pi 5, and the
two must not be installed beside each other), Jetson.GPIO on a Jetson.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from device.errors import DarkrackError
from device.profile import Gate

PACKAGES: Mapping[str, tuple[str, str]] = {
    "raspberry-pi": ("RPi.GPIO", "pip install '.[pi]' in the clone"),
    "jetson": ("Jetson.GPIO", "pip install '.[jetson]' in the clone"),
}
# Between two looks at the lines' levels: an edge that was lost is found after two of them at most.
LOOK_NS = 10_000_000
MOST_EDGES = 4096  # waiting; the front reads them a thousand times a second


def open_gpio(board: str) -> Any:
    """The module with RPi.GPIO's interface on ``board``, counting lines as BCM; DarkrackError where there is none."""
    package, hint = PACKAGES[board]
    try:
        gpio = importlib.import_module(package)
        gpio.setwarnings(False)
        gpio.setmode(gpio.BCM)
    except Exception as error:  # both look at the board when they are imported, and raise what they like
        got = " ".join(str(error).split()) or type(error).__name__
        raise DarkrackError(f"GPIO of a {board}", f"{package} on a board", got, hint) from error
    return gpio


class GateLines:
    """Gate inputs on lines of the header; edges keep the time at which the library's thread told of them.

    The interface tells that there was an edge, not which: a pulse may be over when one looks. So edges are taken to
    alternate. A level that contradicts them at two looks `LOOK_NS` apart, with nothing told in between, is set right,
    which counts as an edge that was ``lost``; one look is not enough, for the thread may just be about to tell.
    """

    def __init__(self, gpio: Any, gates: Mapping[int, Gate]) -> None:
        self.lost = 0
        self._gpio = gpio
        self._gates = {number: gate for number, gate in gates.items() if gate.line is not None}
        self._told: deque[tuple[int, int]] = deque(maxlen=MOST_EDGES)
        self._levels = dict.fromkeys(self._gates, False)
        self._heard = dict.fromkeys(self._gates, False)  # whether anything was ever told of it
        self._odd = dict.fromkeys(self._gates, False)  # contradicted at the last look
        self._numbers = {gate.line: number for number, gate in self._gates.items()}
        self._looked_ns = time.monotonic_ns()
        for number, gate in self._gates.items():
            where = f"gate {number}, line {gate.line}"
            try:
                gpio.setup(gate.line, gpio.IN)
                gpio.add_event_detect(gate.line, gpio.BOTH, callback=self._tell)
            except Exception as error:
                got = " ".join(str(error).split())
                expected = "a line that nobody else uses"
                raise DarkrackError(where, expected, got, "is another program running?") from error

    def edges(self, now_ns: int) -> list[tuple[int, int, bool]]:
        """What happened since the last call, in order: (time in ns, CLOCK_MONOTONIC; gate; whether it is high)."""
        found = []
        while self._told:
            at_ns, line = self._told.popleft()
            number = self._numbers[line]
            self._levels[number] = not self._levels[number]
            self._heard[number], self._odd[number] = True, False
            found.append((at_ns, number, self._levels[number]))
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            for number, gate in self._gates.items():
                level = bool(self._gpio.input(gate.line)) != gate.inverted
                odd, self._odd[number] = self._odd[number], level != self._levels[number]
                if odd and self._odd[number] and not self._told:
                    self.lost += self._heard[number]  # one that is high from the start was never told of
                    self._levels[number], self._odd[number] = level, False
                    found.append((now_ns, number, level))
        return found

    def close(self) -> None:
        """Let go of the lines."""
        for gate in self._gates.values():
            self._gpio.remove_event_detect(gate.line)
            self._gpio.cleanup(gate.line)

    def _tell(self, line: int) -> None:
        """Called by the library, in a thread of its own."""
        self._told.append((time.monotonic_ns(), line))
