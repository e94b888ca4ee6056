"""The instrument's processes: started, told what to do, found dead or hanging, ended; and what they say in the log."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from device.errors import DarkrackError

# Above other programs, below the kernel's own threads (50); audio is above the front: it has a deadline.
AUDIO_PRIORITY, FRONT_PRIORITY = 20, 10


class Child:
    """A process that runs ``target(memory_name, *arguments, orders)``, and the pipe to it."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context = get_context(
            "spawn"
        )  # a fork would take PortAudio's and numba's threads along, half of them
        self._orders, theirs = context.Pipe()
        self.started_ns = time.monotonic_ns()
        name = target.__name__.removeprefix("run_")
        level = logging.getLogger().level
        self.process = context.Process(
            target=_run, args=(target, level, *arguments, theirs), name=name, daemon=True
        )
        self.process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it runs, or hangs."""
        return self.process.is_alive()

    def tell(self, order: object) -> None:
        """Give an order; one that has just ended hears nothing."""
        with contextlib.suppress(OSError):
            self._orders.send(order)

    def heard(self) -> Any:
        """What it said, if it said anything; else None."""
        try:
            return self._orders.recv() if self._orders.poll() else None
        except (EOFError, OSError):
            return None

    def wait(self, seconds: float) -> object:
        """What it says next; DarkrackError where it ends instead, or says nothing for so long."""
        where = f"the {self.process.name} process"
        try:
            if self._orders.poll(seconds):
                return self._orders.recv()
        except (EOFError, OSError):
            raise DarkrackError(where, "it to run", "it ended", "play with --log info") from None
        raise DarkrackError(where, f"a sign of life in {seconds:g} s", "none", "play with --log info")

    def hang(self, seconds: float) -> None:
        """Stop the process for so long, as a machine under load might."""
        os.kill(self.process.pid or 0, signal.SIGSTOP)
        timer = threading.Timer(seconds, self._go_on)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join(1.0)

    def end(self) -> None:
        """Ask it to stop, and make it."""
        self._go_on()
        self.tell(("stop",))
        self.process.join(2.0)
        if self.alive:
            self.kill()
        self._orders.close()

    def _go_on(self) -> None:
        if self.alive:
            with contextlib.suppress(OSError):
                os.kill(self.process.pid or 0, signal.SIGCONT)


def log_to_stderr(level: int | str) -> None:
    """Have this process and the children that it starts log to the standard error output, a JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine())
    logging.basicConfig(level=level, handlers=[handler])


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One record: local time, level, process, module, and what was said, with the exception if there was one."""
        line = {
            "time": datetime.datetime.fromtimestamp(record.created).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.processName,
            "where": record.name,
            "said": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _run(target: Callable[..., None], level: int, *arguments: object) -> None:
    """Body of a child."""
    log_to_stderr(level)
    target(*arguments)


@contextlib.contextmanager
def surroundings(memory_name: str, priority: int = 0) -> Iterator[SharedMemory]:
    """What a child works in: the shared memory, signals left to the parent, priority where the system allows it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if priority:
        be_prompt(priority)
    memory = SharedMemory(memory_name)
    try:
        yield memory
    finally:
        with contextlib.suppress(BufferError):  # arrays still look into it; the process is about to end
            memory.close()


def be_prompt(priority: int) -> bool:
    """Real-time scheduling for the calling thread; False where the system does not allow it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError):
        return False
    return True
