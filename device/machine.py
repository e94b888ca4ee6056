"""The machine that something is measured on: its name, its sensors, how fine its timer is, and how quiet it is."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path("/")  # of the kernel's files, which tests lay out elsewhere

# What is measured is compared by the hundredth; other work that takes more than these of it is said.
SPIN_STEPS = 20_000  # of pure Python: 0.5 to 1 ms on an x86-64, some 2 on a Raspberry Pi 4
SPINS = 300
BEAT_S = 0.2  # of the same, in every round
SPREAD_LIMIT = 1.25  # 90 % of the loops against 10 % of them
STEAL_LIMIT = 0.01  # of the time, taken by other guests of a virtual machine
OTHERS_LIMIT = 0.1  # of one core, used by programs that are not this one
LOAD_LIMIT = 0.25  # runnable processes a core, in the minute before
WAKE_LIMIT_US = 1000.0  # 99 % of the waits for a timer: more than that is a third of a block of 128 frames
WAKES, WAKE_S = 200, 0.001
CORE_W = 10.0  # of a busy core, where no meter can be read: some 100 to 300 W of a server's package over 16 to 32 cores
METER_S = 0.02  # between two looks at a sensor that says watts


def usable_cores() -> int:
    """Cores that this process may use, which a container or `taskset` may have made fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name: a board's own, or the CPU's, or at least its architecture."""
    board = ROOT / "proc/device-tree/model"  # boards with a device tree: "Raspberry Pi 5 Model B Rev 1.0\0"
    if board.is_file():
        return board.read_text(errors="replace").strip("\0\n ")
    listing = ROOT / "proc/cpuinfo"
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Of what computes; None for what is not installed."""
    return {
        name: _version(package)
        for name, package in (
            ("numpy", "numpy"),
            ("numba", "numba"),
            ("litert", "ai-edge-litert"),
            ("onnxruntime", "onnxruntime"),
        )
    } | {"python": platform.python_version()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---- sensors ----


def temperature_c() -> float | None:
    """Of the processor, where the system tells."""
    try:
        return int((ROOT / "sys/class/thermal/thermal_zone0/temp").read_text()) / 1000
    except (OSError, ValueError):
        return None


def clock_mhz() -> float | None:
    """Of the first core, where the system tells."""
    try:
        return int((ROOT / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").read_text()) / 1000
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Meter:
    """A sensor of energy: ``name``, and either ``joules`` (a counter) or ``watts`` (of the moment)."""

    name: str
    joules: Callable[[], float] | None = None
    watts: Callable[[], float] | None = None

    def spent_j(self, work: Callable[[], object]) -> float:
        """Joules that the whole board, or its processor, spends while ``work`` is done."""
        if self.joules is not None:
            before = self.joules()
            work()
            return self.joules() - before
        assert self.watts is not None
        watts, done = self.watts, threading.Event()
        seen: list[tuple[float, float]] = []

        def look() -> None:
            while True:
                seen.append((time.monotonic(), watts()))
                if done.wait(METER_S):
                    break
            seen.append((time.monotonic(), watts()))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            work()
        finally:
            done.set()
            thread.join()
        return sum(
            (later_s - s) * (w + later_w) / 2 for (s, w), (later_s, later_w) in itertools.pairwise(seen)
        )


def meter() -> Meter | None:
    """The sensor of energy that this machine has and lets be read, or None.

    RAPL (Intel, AMD; root only on most systems): all packages' counters in microjoules, which begin again at
    max_energy_range_uj. Else hwmon: ``power1_input`` in microwatts, or, as on a Jetson, the INA3221's volts and amperes
    of the rail called VDD_IN, which is the whole board, else of all its rails.
    """
    packages = sorted((ROOT / "sys/class/powercap").glob("intel-rapl:[0-9]*"))
    counters = [
        one / "energy_uj" for one in packages if one.name.count(":") == 1 and _read(one / "energy_uj")
    ]
    if counters:
        last = {path: 0 for path in counters}
        turned = {path: 0 for path in counters}

        def joules() -> float:
            for path in counters:
                now = int(_read(path) or 0)
                if now < last[path]:
                    turned[path] += int(_read(path.parent / "max_energy_range_uj") or 0)
                last[path] = now
            return 1e-6 * sum(last[path] + turned[path] for path in counters)

        return Meter("RAPL", joules=joules)
    for folder in sorted((ROOT / "sys/class/hwmon").glob("hwmon*")):
        name = _read(folder / "name") or folder.name
        if _read(folder / "power1_input"):
            return Meter(name, watts=lambda path=folder / "power1_input": 1e-6 * int(_read(path) or 0))  # type: ignore[misc]
        rails = [
            (one, folder / one.name.replace("curr", "in"))
            for one in sorted(folder.glob("curr[0-9]_input"))
            if _read(one) and _read(folder / one.name.replace("curr", "in"))
        ]
        whole = [rail for rail in rails if _read(folder / rail[1].name.replace("input", "label")) == "VDD_IN"]
        if rails:

            def watts(rails: list[tuple[Path, Path]] = whole or rails) -> float:
                return 1e-6 * sum(
                    int(_read(amperes) or 0) * int(_read(volts) or 0) for amperes, volts in rails
                )

            return Meter(f"{name} {'VDD_IN' if whole else 'all rails'}", watts=watts)
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


# ---- timer and noise ----


@dataclass(frozen=True)
class Timer:
    """``resolution_ns``: the smallest step of the clock that is measured with, 1 at least; how late a wait of a

    millisecond ends, in us.
    """

    resolution_ns: int
    wake_p50_us: float
    wake_p99_us: float


def timer() -> Timer:
    """Look at the clock and at waiting; takes a quarter of a second."""
    reads = np.array([time.perf_counter_ns() for _ in range(20_000)])
    steps = np.diff(reads)
    late_us = []
    for _ in range(WAKES):
        before_s = time.perf_counter()
        time.sleep(WAKE_S)
        late_us.append((time.perf_counter() - before_s - WAKE_S) * 1e6)
    p50, p99 = np.percentile(late_us, (50, 99))
    return Timer(max(int(steps[steps > 0].min()), 1), round(float(p50), 1), round(float(p99), 1))


def spin_ms(loops: int = 1) -> list[float]:
    """Milliseconds that a fixed piece of Python takes, ``loops`` times; what differs is the machine."""
    found = []
    for _ in range(loops):
        before = time.perf_counter_ns()
        total = 0
        for n in range(SPIN_STEPS):
            total += n
        found.append((time.perf_counter_ns() - before) * 1e-6)
    return found


@dataclass(frozen=True)
class Quiet:
    """How quiet the machine was while something was measured; ``noise``: what was wrong, in words, or nothing.

    ``spin_spread``: 90 % of equal loops before it began against 10 % of them. ``steal``: share of the time that other
    guests took, ``others_cores``: cores' worth of programs that are not this one's, both over the whole time.
    ``load``: runnable processes in the minute before (`uptime`).
    """

    spin_ms: float
    spin_spread: float
    steal: float | None
    others_cores: float | None
    load: float | None
    noise: tuple[str, ...]


class Watch:
    """Looks at the machine from when it is made until `end`."""

    def __init__(self) -> None:
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self.timer = timer()
        self._spins_ms = spin_ms(SPINS)
        self.speed_ms: list[float] = []
        self.share_ms: list[float] = []
        self._began_s = time.monotonic()
        self._jiffies, self._own_s = _jiffies(), _own_s()

    def beat(self) -> None:
        """To be called in every round: how long a fixed loop takes, at its quickest and on average.

        The quickest tenth is the processor's speed; the average has in it how long others put it off.
        """
        began_s, loops_ms = time.perf_counter(), []
        while (elapsed_s := time.perf_counter() - began_s) < BEAT_S:
            loops_ms += spin_ms(1)
        self.speed_ms.append(float(np.quantile(loops_ms, 0.1)))
        self.share_ms.append(elapsed_s * 1e3 / len(loops_ms))

    def end(self) -> Quiet:
        """What was seen; processes that this one started count as its own once they have ended."""
        p10, p50, p90 = np.percentile(self._spins_ms, (10, 50, 90))
        elapsed_s = time.monotonic() - self._began_s
        steal = others = None
        now = _jiffies()
        if self._jiffies is not None and now is not None:
            busy_s, stolen_s, all_s = (
                after - before for before, after in zip(self._jiffies, now, strict=True)
            )
            steal = round(stolen_s / max(all_s, 1e-9), 4)
            others = round(max(busy_s - (_own_s() - self._own_s), 0.0) / max(elapsed_s, 1e-9), 2)
        spread = float(p90 / p10)
        noise = noises(spread, steal, others, self.load, self.timer)
        return Quiet(round(float(p50), 4), round(spread, 3), steal, others, self.load, tuple(noise))


def noises(
    spread: float, steal: float | None, others_cores: float | None, load: float | None, clock: Timer
) -> list[str]:
    """What keeps a machine from being quiet, in words."""
    cores = os.cpu_count() or 1
    said = []
    if spread > SPREAD_LIMIT:
        said.append(f"equal loops differ {spread:.2f} times")
    if steal is not None and steal > STEAL_LIMIT:
        said.append(f"{100 * steal:.1f} % of the time went to other guests of this machine")
    if others_cores is not None and others_cores > OTHERS_LIMIT:
        said.append(f"other programs used {others_cores:.2f} of {cores} cores")
    if load is not None and load > LOAD_LIMIT * cores:
        said.append(f"a load of {load:.2f} before it began")
    if clock.wake_p99_us > WAKE_LIMIT_US:
        said.append(f"timers came up to {clock.wake_p99_us / 1000:.1f} ms late")
    return said


def _jiffies() -> tuple[float, float, float] | None:
    """Seconds since boot of all cores: busy, stolen, all of it; None where there is no /proc/stat."""
    try:
        ticks = [int(word) for word in (ROOT / "proc/stat").read_text().split("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    per_s = os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, wait, irq, soft, steal = (tick / per_s for tick in ticks)
    busy = user + nice + system + irq + soft
    return busy, steal, busy + idle + wait + steal


def _own_s() -> float:
    """Seconds of a core that this process took, and those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
