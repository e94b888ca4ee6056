"""Children: heard, told, found dead, stopped and let go on, ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

from device.errors import DarkrackError
from device.process import Child, log_to_stderr, surroundings

LONG_S = 60.0


def run_counter(memory_name: str, orders: Connection) -> None:
    """Counts in shared memory until it is told to stop."""
    with surroundings(memory_name) as memory:
        count = np.ndarray((1,), np.int64, memory.buf)
        orders.send(os.getpid())
        while not orders.poll(0.005):
            count[0] += 1
        orders.send(orders.recv())
        del count


def run_briefly(memory_name: str, orders: Connection) -> None:
    """Ends without a word."""


@pytest.fixture
def memory() -> SharedMemory:
    memory = SharedMemory(create=True, size=4096)
    yield memory  # type: ignore[misc]
    memory.close()
    memory.unlink()


def counted(memory: SharedMemory) -> int:
    return int.from_bytes(bytes(memory.buf[:8]), "little")


def until(holds: object) -> None:
    until_s = time.monotonic() + LONG_S
    while not holds() and time.monotonic() < until_s:  # type: ignore[operator]
        time.sleep(0.01)


def test_a_child_works_is_heard_and_ends_when_it_is_asked_to(memory: SharedMemory) -> None:
    child = Child(run_counter, memory.name)
    assert child.process.name == "counter"
    assert child.wait(LONG_S) == child.process.pid
    until(lambda: counted(memory) > 3)
    assert child.alive
    assert child.heard() is None
    child.tell(("stop", 7))
    assert child.wait(LONG_S) == ("stop", 7)
    child.end()
    assert not child.alive
    child.tell("anybody?")  # nobody hears it, and that is no error


def test_a_child_that_hangs_goes_on_by_itself_and_can_be_ended_before(memory: SharedMemory) -> None:
    child = Child(run_counter, memory.name)
    child.wait(LONG_S)
    child.hang(0.5)
    time.sleep(0.1)
    before = counted(memory)
    time.sleep(0.2)
    assert counted(memory) == before
    assert child.alive
    until(lambda: counted(memory) > before)
    assert counted(memory) > before
    child.hang(LONG_S)
    child.end()
    assert not child.alive


def test_a_child_that_ends_without_a_word_is_an_error(memory: SharedMemory) -> None:
    child = Child(run_briefly, memory.name)
    with pytest.raises(DarkrackError, match="the briefly process: expected it to run, got it ended"):
        child.wait(LONG_S)
    assert child.heard() is None
    child.end()


def test_silence_is_an_error_too_and_a_killed_child_is_dead(memory: SharedMemory) -> None:
    child = Child(run_counter, memory.name)
    child.wait(LONG_S)
    with pytest.raises(DarkrackError, match=r"a sign of life in 0\.05 s, got none"):
        child.wait(0.05)
    child.kill()
    assert not child.alive
    assert child.process.exitcode == -signal.SIGKILL
    child.end()


def run_complainer(memory_name: str, orders: Connection) -> None:
    """Says two things."""
    logging.getLogger("device.worker").info("a small thing")
    logging.getLogger("device.worker").warning('two "lines"\nof it')


def test_what_a_child_says_is_a_line_of_json(memory: SharedMemory, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's
    try:
        log_to_stderr("WARNING")
        child = Child(run_complainer, memory.name)
        child.process.join(LONG_S)
        child.end()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert len(lines) == 1
    said = json.loads(lines[0])
    assert said["said"] == 'two "lines"\nof it'
    assert (said["level"], said["process"], said["where"]) == ("warning", "complainer", "device.worker")


def test_ctrl_c_is_left_to_the_parent(memory: SharedMemory) -> None:
    child = Child(run_counter, memory.name)
    pid = child.wait(LONG_S)
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGINT)
    before = counted(memory)
    until(lambda: counted(memory) > before + 3)
    assert child.alive
    child.end()
