"""A 40-pin header that is not there: what lies below rpi-lgpio, whose own code runs on top of it."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from queue import Queue
from types import ModuleType
from typing import Any

import pytest

INPUT, OUTPUT, ALERT = 0x100, 0x200, 0x400  # of lgpio.gpio_get_mode: claimed by this process as
BUSY = -50  # any negative number is an error to rpi-lgpio


class Header:
    """The module ``lgpio`` for one test: lines with levels, and a thread that tells of edges as the real one has."""

    def __init__(self) -> None:
        self.levels = [0] * 54
        self.modes = [0] * 54
        self.busy: set[int] = set()
        self.untold: set[int] = set()  # lines whose edges the kernel loses
        self._told: dict[int, Callable[[int, int, int, int], None]] = {}
        self._edges: Queue[tuple[int, int] | None] = Queue()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def drive(self, line: int, *levels: int) -> None:
        """Bring a line to these levels, one after the other."""
        for level in levels:
            if level != self.levels[line]:
                self.levels[line] = level
                if line not in self.untold:
                    self._edges.put((line, level))

    def settle(self) -> None:
        """Until everybody has been told."""
        self._edges.join()

    def end(self) -> None:
        """No more edges; whoever imports rpi-lgpio next gets one of their own."""
        self._edges.put(None)
        self._thread.join()
        for name in ("RPi.GPIO", "RPi"):
            sys.modules.pop(name, None)

    def module(self) -> ModuleType:
        """What `import lgpio` gives."""
        lgpio = ModuleType("lgpio")
        names = ("RISING_EDGE", "FALLING_EDGE", "BOTH_EDGES", "SET_PULL_NONE", "SET_PULL_UP", "SET_PULL_DOWN")
        for value, name in enumerate(names, 1):
            setattr(lgpio, name, value)
        lgpio.__dict__.update(
            GPIO_BUSY=BUSY,
            error=OSError,
            error_text=lambda code: f"lgpio says {code}",
            gpiochip_open=lambda _chip: 0,
            gpiochip_close=lambda _chip: 0,
            gpio_get_chip_info=lambda _chip: (0, 54, "pinctrl-bcm2711", ""),
            gpio_get_mode=lambda _chip, line: self.modes[line],
            gpio_claim_input=lambda _chip, line, _flags=0: self._claim(line, INPUT),
            gpio_claim_output=lambda _chip, line, level=0, _flags=0: self._claim(line, OUTPUT, level),
            gpio_claim_alert=lambda _chip, line, _edges, _flags=0: self._claim(line, INPUT | ALERT),
            gpio_free=lambda _chip, line: self._claim(line, 0),
            gpio_read=lambda _chip, line: self.levels[line],
            gpio_write=self._write,
            gpio_set_debounce_micros=lambda _chip, _line, _micros: 0,
            callback=self._callback,
            tx_pwm=lambda *_: 0,
        )
        return lgpio

    def _claim(self, line: int, mode: int, level: int | None = None) -> int:
        if line in self.busy:
            return BUSY
        self.modes[line] = mode
        if level is not None:
            self.levels[line] = level
        return 0

    def _write(self, _chip: int, line: int, level: int) -> int:
        self.levels[line] = int(level)
        return 0

    def _callback(self, _chip: int, line: int, edge: int = 1, func: Any = None) -> Any:
        self._told[line] = func

        class Callback:
            def cancel(_self) -> None:  # noqa: N805
                self._told.pop(line, None)

        return Callback()

    def _tell(self) -> None:
        while (edge := self._edges.get()) is not None:
            line, level = edge
            if line in self._told:
                self._told[line](0, line, level, time.time_ns())
            self._edges.task_done()


def on_a_header(monkeypatch: pytest.MonkeyPatch, revision: str) -> Header:
    """A header on a Raspberry Pi of this revision, as long as the test runs."""
    header = Header()
    monkeypatch.setenv("RPI_LGPIO_REVISION", revision)
    monkeypatch.setenv("RPI_LGPIO_CHIP", "0")
    monkeypatch.setitem(sys.modules, "lgpio", header.module())
    for name in ("RPi.GPIO", "RPi"):
        sys.modules.pop(name, None)
    importlib.import_module("RPi.GPIO")
    return header
