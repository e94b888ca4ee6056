"""What systemd is told of the instrument: that it plays, that it still does, that it ends; and how long all that took.

The protocol is one datagram of `NAME=value` lines to the socket in NOTIFY_SOCKET (sd_notify(3)), so it needs no
package: python-systemd has to be compiled against libsystemd, and the small ones save no line here. Elsewhere than
under systemd nothing is said.

The watchdog is for what the supervisor cannot put right. It is told that all is well only from the supervisor's own
loop, and only while blocks are rendered and front and worker show signs of life. A thread that says so on its own
would go on when the rest hangs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from device.engine import Desk

log = logging.getLogger(__name__)

# Sound may stop so long: a device that goes is replaced by the paced output within a second.
SILENT_S = 5.0
# And so long front or worker may say nothing: the supervisor gives a new one 30 s to compile, and two to be missed.
PATIENCE_S = 45.0
PINGS = 4  # in the time that systemd waits for one; sd_watchdog_enabled(3) advises two
STATUS_S = 5.0  # between two lines of status, which also go into the journal's index


class Notifier:
    """The socket of NOTIFY_SOCKET, a path or an abstract name that begins with `@`; nothing where there is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = ""
        name = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if name[:1] in {"/", "@"}:
            self._address = "\0" + name[1:] if name[0] == "@" else name
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)  # a full queue may not hold up the supervisor

    def say(self, *assignments: str) -> bool:
        """Send `NAME=value` assignments as one message; False where nobody takes it, which is no reason to stop."""
        if self._socket is None:
            return False
        message = "\n".join(line.replace("\n", " ") for line in assignments)
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            log.info("systemd was not told %r: %s", message, error)
            return False
        return True

    def close(self) -> None:
        """Nothing can be said after that."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Seconds after which systemd misses a ping (WATCHDOG_USEC); None where it waits for none, or for another's."""
    try:
        seconds = int(environment["WATCHDOG_USEC"]) * 1e-6
        meant = int(environment.get("WATCHDOG_PID") or os.getpid())
    except (KeyError, ValueError):
        return None
    return seconds if seconds > 0 and meant == os.getpid() else None


@dataclass(frozen=True)
class Signs:
    """Signs of life on the desk: blocks rendered since the start, last beats in ns of CLOCK_MONOTONIC (0: none yet)."""

    blocks: int
    worker_ns: int
    front_ns: int


class Vigil:
    """The rule of the watchdog, fed with what the desk shows."""

    def __init__(self) -> None:
        self._blocks = 0
        self._advanced_ns = 0

    def missing(self, signs: Signs, now_ns: int) -> str:
        """What is not alive, in words; empty while everything is."""
        if signs.blocks != self._blocks:
            self._blocks, self._advanced_ns = signs.blocks, now_ns
        for name, seen_ns, patience_s in (
            ("audio", self._advanced_ns, SILENT_S),
            ("worker", signs.worker_ns, PATIENCE_S),
            ("front", signs.front_ns, PATIENCE_S),
        ):
            if not seen_ns:
                return f"{name} has not begun"
            if now_ns - seen_ns > patience_s * 1e9:
                return f"{name} shows no life for {(now_ns - seen_ns) * 1e-9:.0f} s"
        return ""


class Service:
    """The supervisor's side: `look` in every round of its loop, `stop` when the loop ends.

    ``ready_after_s`` is None until the first round in which a gate would sound: frames on the shelf, blocks rendered,
    jacks looked at. Then it is the time since the kernel started this process, late by one round at most.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._notifier = Notifier(environment)
        self._vigil = Vigil()
        waits_s = watchdog_s(environment)
        self._ping_s = None if waits_s is None else waits_s / PINGS
        self._pinged_ns = self._told_ns = 0
        self._status = ""
        self.ready_after_s: float | None = None

    def look(self, desk: Desk, now_ns: int) -> None:
        """Tell systemd what can be said at CLOCK_MONOTONIC ``now_ns``: READY once, pings and status from then on."""
        missing = self._vigil.missing(_signs(desk), now_ns)
        if self.ready_after_s is None:
            if missing:
                return
            self.ready_after_s = round(process_age_s(), 3)
            log.info("ready after %.2f s", self.ready_after_s)
            self._notifier.say("READY=1", f"STATUS={_in_short(desk)}")
            self._told_ns = now_ns
        status = f"not well: {missing}" if missing else _in_short(desk)
        if status != self._status and now_ns - self._told_ns >= STATUS_S * 1e9:
            self._notifier.say(f"STATUS={status}")
            self._status, self._told_ns = status, now_ns
        if not missing and self._ping_s is not None and now_ns - self._pinged_ns >= self._ping_s * 1e9:
            self._notifier.say("WATCHDOG=1")
            self._pinged_ns = now_ns

    def stop(self) -> None:
        """Say that the end has begun, and nothing after it."""
        self._notifier.say("STOPPING=1", "STATUS=fading out")
        self._notifier.close()


def process_age_s(stat: Path = Path("/proc/self/stat"), now_s: float | None = None) -> float:
    """Seconds since the kernel started this process, to a hundredth; 0 where /proc does not say.

    Field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)). The name in field 2 may hold spaces and brackets.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(stat.read_text().rpartition(")")[2].split()[22 - 3])
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME) if now_s is None else now_s
        return max(now_s - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    return 0.0


def _signs(desk: Desk) -> Signs:
    from device.engine import N

    counts = desk.counts
    return Signs(
        int(counts[N["blocks"]]), int(counts[N["worker_beat_ns"]]), int(counts[N["control_beat_ns"]])
    )


def _in_short(desk: Desk) -> str:
    """A line for `systemctl status`."""
    from device.engine import N

    counts = desk.counts
    restarts = max(int(counts[N["worker_starts"]]) - 1, 0) + max(int(counts[N["control_starts"]]) - 1, 0)
    late = int(counts[N["underruns"]])
    return f"playing; {int(counts[N['notes']])} notes, {late} late blocks, {restarts} restarts"
