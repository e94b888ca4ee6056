"""The real program in a process of its own, a JACK server whose sound card is a timer, keyboards at its ports."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def started(*words: str | Path, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[str]:
    """`darkrack` with these words; Ctrl-C reaches it whoever started the tests."""
    program = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import darkrack\nif __name__ == '__main__': sys.exit(darkrack.main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def played(*words: str | Path, **environment: str) -> tuple[int, str, str]:
    """`darkrack play` to its end: exit status, output, errors."""
    process = started("play", *words, **environment)
    try:
        said, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, said, errors


def line_with(word: str, process: subprocess.Popen[str]) -> str:
    """The next line with this word that a program says about itself; empty where it ends without one."""
    assert process.stderr is not None
    return next((line for line in iter(process.stderr.readline, "") if word in line), "")


def reported(path: Path) -> dict[str, Any]:
    """What --json wrote."""
    report: dict[str, Any] = json.loads(path.read_text())
    return report


class JackServer:
    """JACK on its dummy driver; `die` and `start` are a cable pulled and put in again.

    ``patient``: cycles of 85 ms, for what is not about time. On a machine under load a client misses some of 2.7 ms,
    and with them the MIDI that came there: of 600 messages beside two trainings 53, and of as many in long ones none.
    """

    def __init__(self, name: str, folder: Path, *, patient: bool = False) -> None:
        self.environment = {
            "JACK_DEFAULT_SERVER": name,
            "JACK_NO_AUDIO_RESERVATION": "1",
            "JACK_NO_START_SERVER": "1",
        }
        self._patient = patient
        self._log = folder / "jackd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Returns when clients find it."""
        name = self.environment["JACK_DEFAULT_SERVER"]
        frames = "4096" if self._patient else "128"
        words = ["jackd", "-n", name, "-r", "-d", "dummy", "-r", "48000", "-p", frames]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                words, env={**os.environ, **self.environment}, stdout=log, stderr=subprocess.STDOUT
            )
        until_s = time.monotonic() + 20
        while "starting" not in self._log.read_text() and time.monotonic() < until_s:
            time.sleep(0.1)
        time.sleep(1.0)

    def die(self) -> None:
        """At once, and without a word to anybody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        # What a server that was killed leaves lying about keeps the next one from starting.
        for left in Path("/dev/shm").glob("jack*"):
            with contextlib.suppress(OSError):
                left.unlink()


@contextlib.contextmanager
def jack_server(folder: Path, *, patient: bool = False) -> Iterator[JackServer]:
    """A server of its own name, as long as the test runs; one at a time, for what one leaves behind is cleared away."""
    with (Path(tempfile.gettempdir()) / "darkrack-jack.lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        server = JackServer(f"darkrack-{os.getpid()}", folder, patient=patient)
        try:
            yield server
        finally:
            server.die()


KEYBOARD = """
import sys, rtmidi
out = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name=sys.argv[1])
out.open_virtual_port("out")
print("there", flush=True)
for line in sys.stdin:
    for message in line.split(","):
        out.send_message(bytes.fromhex(message))
out.close_port()
out.delete()
"""


class Keyboard:
    """A program with a virtual MIDI port; ``unplug`` ends it."""

    def __init__(self, name: str) -> None:
        self.port = f"{name}:out"
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEYBOARD, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert "there" in self.process.stdout.readline()

    def send(self, *messages: str) -> None:
        """Messages as hexadecimal bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write(",".join(messages) + "\n")
        self.process.stdin.flush()

    def unplug(self) -> None:
        """Pull the cable."""
        self.process.communicate(timeout=30)


@contextlib.contextmanager
def keyboard_called(name: str) -> Iterator[Keyboard]:
    """One that is plugged in, until the test is over."""
    keyboard = Keyboard(name)
    try:
        yield keyboard
    finally:
        keyboard.process.kill()
        keyboard.process.communicate()
