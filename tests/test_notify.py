"""What systemd is told: the protocol on a fake notify socket, the watchdog's rule, and the real program under both."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live import ROOT, reported, started

from device.bundle import Bundle
from device.engine import Desk, N, make, memory_size
from device.notify import (
    PATIENCE_S,
    PINGS,
    SILENT_S,
    STATUS_S,
    Notifier,
    Service,
    Signs,
    Vigil,
    process_age_s,
    watchdog_s,
)

LONGEST_S = 240.0  # for a start that compiles on a machine that does something else


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self, seconds: float) -> list[str]:
        """Every assignment of the messages that came, the first of them within so long; none: nothing came."""
        found: list[str] = []
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while True:
                found += self._socket.recv(4096).decode().split("\n")
                self._socket.setblocking(False)
        return found

    def wait_for(self, start: str) -> list[str]:
        """Everything up to the message with an assignment that begins so."""
        found: list[str] = []
        until_s = time.monotonic() + LONGEST_S
        while not any(line.startswith(start) for line in found):
            assert time.monotonic() < until_s, f"no {start}; {found}"
            found += self.heard(1.0)
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    other = Systemd(f"@darkrack-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield other
    other.close()


# ---- the protocol ----


def test_a_message_is_one_datagram_of_lines(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
    assert notifier.say("READY=1", "STATUS=two\nlines")
    assert systemd.heard(5.0) == ["READY=1", "STATUS=two lines"]
    notifier.close()
    assert not notifier.say("READY=1")
    assert systemd.heard(0.05) == []


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_elsewhere_nothing_is_said(environment: dict[str, str]) -> None:
    assert not Notifier(environment).say("READY=1")


def test_a_socket_that_is_gone_or_full_stops_nobody(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert not notifier.say("READY=1")
    other = Systemd(address)
    said = [notifier.say("WATCHDOG=1") for _ in range(10_000)]  # nobody reads
    assert said[0]
    assert not said[-1]
    other.close()
    assert not notifier.say("WATCHDOG=1")
    notifier.close()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_long_systemd_waits(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_s(environment) == seconds


# ---- the rule ----


def test_what_is_missing_is_named() -> None:
    vigil = Vigil()
    assert vigil.missing(Signs(0, 0, 0), 10**9) == "audio has not begun"
    assert vigil.missing(Signs(1, 0, 0), 2 * 10**9) == "worker has not begun"
    assert vigil.missing(Signs(2, 2 * 10**9, 0), 2 * 10**9) == "front has not begun"
    assert vigil.missing(Signs(3, 2 * 10**9, 2 * 10**9), 3 * 10**9) == ""
    late_ns = round((4 + SILENT_S) * 1e9)
    assert vigil.missing(Signs(3, late_ns, late_ns), late_ns).startswith("audio shows no life for 6 s")
    late_ns += 10**9
    assert vigil.missing(Signs(4, late_ns, late_ns), late_ns) == "", "it came back"


@given(
    st.lists(
        st.tuples(st.floats(0.01, 60), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30
    )
)
def test_alive_is_said_exactly_while_all_three_are_fresh(
    rounds: list[tuple[float, bool, bool, bool]],
) -> None:
    vigil, now_ns, blocks = Vigil(), 10**12, 0
    last = [0, 0, 0]
    for wait_s, *moved in rounds:
        now_ns += round(wait_s * 1e9)
        last = [now_ns if move else before for move, before in zip(moved, last, strict=True)]
        blocks += moved[0]
        fresh = all(
            seen_ns and now_ns - seen_ns <= limit_s * 1e9
            for seen_ns, limit_s in zip(last, (SILENT_S, PATIENCE_S, PATIENCE_S), strict=True)
        )
        assert (vigil.missing(Signs(blocks, last[1], last[2]), now_ns) == "") == fresh


def _desk() -> Desk:
    return make(np.zeros(memory_size(1), np.uint8), 1)


def _beat(desk: Desk, now_ns: int, *names: str) -> None:
    for name in names or ("blocks", "worker_beat_ns", "control_beat_ns"):
        desk.counts[N[name]] = desk.counts[N[name]] + 1 if name == "blocks" else now_ns


def test_ready_once_then_pings_while_everything_lives(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    service = Service({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "4000000"})
    desk, now_ns = _desk(), 10**12

    def play(seconds: float, *names: str) -> list[str]:
        nonlocal now_ns
        found: list[str] = []
        for _ in range(round(seconds / 0.05)):
            now_ns += 50_000_000
            _beat(desk, now_ns, *names)
            service.look(desk, now_ns)
            found += systemd.heard(0.001)
        return found

    assert play(3, "blocks", "worker_beat_ns") == [], "nobody looks at the jacks yet"
    assert service.ready_after_s is None
    assert play(0.05)[0] == "READY=1"
    assert service.ready_after_s is not None
    assert service.ready_after_s > 0
    found = play(8)
    assert "READY=1" not in found
    assert 8 <= found.count("WATCHDOG=1") <= 9  # one each second
    play(PATIENCE_S + STATUS_S, "blocks", "worker_beat_ns")  # the front hangs, and nothing helps
    found = play(10, "blocks", "worker_beat_ns")
    assert "WATCHDOG=1" not in found
    assert any(line.startswith("STATUS=not well: front shows no life") for line in found)
    assert "WATCHDOG=1" in play(1), "it is back"
    play(SILENT_S + 0.1, "worker_beat_ns", "control_beat_ns")
    assert "WATCHDOG=1" not in play(5, "worker_beat_ns", "control_beat_ns"), "no sound"
    service.stop()
    assert systemd.heard(1.0) == ["STOPPING=1", "STATUS=fading out"]
    systemd.close()


def test_nothing_is_pinged_that_nobody_waits_for(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    service = Service({"NOTIFY_SOCKET": systemd.address})
    desk = _desk()
    for second in range(1, 30):
        _beat(desk, second * 10**9)
        service.look(desk, second * 10**9)
    said = systemd.heard(1.0)
    assert said[0] == "READY=1"
    assert "WATCHDOG=1" not in said
    service.stop()
    systemd.close()


# ---- since the process began ----


def test_the_age_of_a_process_is_read_past_any_name(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    fields = ["S", *map(str, range(4, 22)), "4572020", "3133440"]
    stat.write_text("77 (a ) b) 7) " + " ".join(fields) + "\n")
    ticks = os.sysconf("SC_CLK_TCK")
    assert process_age_s(stat, 4572020 / ticks + 1.5) == pytest.approx(1.5)
    stat.write_text("77 (cut off")
    assert process_age_s(stat, 5.0) == 0.0
    assert process_age_s(tmp_path / "none") == 0.0


def test_this_process_has_an_age_that_grows() -> None:
    before_s = process_age_s()
    time.sleep(0.05)
    assert 0 < before_s < process_age_s()


# ---- the real program ----


def test_the_real_program_is_ready_lives_and_stops(
    systemd: Systemd, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    words = ("play", tiny_bundle.path, "--script", "hello", "--audio", "null", "--json", tmp_path / "json")
    process = started(*words, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="800000")
    try:
        said = systemd.wait_for("READY=1")
        assert said[0] == "READY=1", "nothing is said before a gate would sound"
        pings = 0
        while pings < 3 * PINGS:
            pings += systemd.wait_for("WATCHDOG=1").count("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in systemd.wait_for("STOPPING=1")
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert systemd.heard(0.1) == [], "it was the last word"
    report = reported(tmp_path / "json")
    assert 0 < report["ready_after_s"] < LONGEST_S


# The supervisor revives nobody, and is impatient; everything else is the real thing.
HELPLESS = """
import sys
import darkrack
if __name__ == "__main__":
    import device.notify, device.play
    device.notify.PATIENCE_S = 1.0
    device.notify.STATUS_S = 0.2
    device.play.Supervisor.watch = lambda *_: None
    sys.exit(darkrack.main(sys.argv[1:]))
"""


def _children(of: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == of:
                found.append(int(stat.parent.name))
    return found


def test_pings_stop_when_what_hangs_is_not_revived(tiny_bundle: Bundle, tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    environment = {"OMP_NUM_THREADS": "1", "NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "400000"}
    words = ["play", str(tiny_bundle.path), "--script", "hello", "--audio", "null"]
    process = subprocess.Popen(
        [sys.executable, "-c", HELPLESS, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        systemd.wait_for("WATCHDOG=1")
        children = _children(process.pid)
        assert children
        for child in children:
            os.kill(child, signal.SIGSTOP)
        said = systemd.wait_for("STATUS=not well: ")
        assert "WATCHDOG=1" not in systemd.heard(1.5)
        assert any("shows no life" in line for line in said)
        for child in children:
            os.kill(child, signal.SIGCONT)
        systemd.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)  # and when the supervisor itself hangs
        time.sleep(0.2)
        systemd.heard(0.01)
        assert systemd.heard(1.5) == []
        process.send_signal(signal.SIGCONT)
        systemd.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(10)
        systemd.close()
