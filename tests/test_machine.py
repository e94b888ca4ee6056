"""The machine's sensors, on files of the kernel laid out for it, and its noise, planted and real."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device import machine
from device.machine import Timer

QUIET = Timer(50, 60.0, 200.0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    return tmp_path


def lay(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_machine_is_named() -> None:
    assert machine.processor().strip()
    assert machine.versions()["numpy"]


def test_a_board_names_itself_and_a_processor_where_there_is_no_board(root: Path) -> None:
    lay(root / "proc/cpuinfo", "processor\t: 0\nmodel name\t: A processor\n")
    assert machine.processor() == "A processor"
    lay(root / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    assert machine.processor() == "Raspberry Pi 5 Model B Rev 1.0"


def test_sensors_that_are_there_are_read_and_others_are_none(root: Path) -> None:
    assert machine.temperature_c() is None
    assert machine.clock_mhz() is None
    assert machine.meter() is None
    assert machine._jiffies() is None
    lay(root / "sys/class/thermal/thermal_zone0/temp", "48312\n")
    lay(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n")
    assert machine.temperature_c() == pytest.approx(48.312)
    assert machine.clock_mhz() == pytest.approx(1500.0)


def counter(path: Path, text: str) -> Callable[[], None]:
    def work() -> None:
        path.write_text(text)

    return work


def test_rapl_counts_all_packages_and_begins_again_at_its_range(root: Path) -> None:
    powercap = root / "sys/class/powercap"
    one = lay(powercap / "intel-rapl:0/energy_uj", "900000\n")
    lay(powercap / "intel-rapl:0/max_energy_range_uj", "1000000\n")
    other = lay(powercap / "intel-rapl:1/energy_uj", "100000\n")
    lay(powercap / "intel-rapl:0:0/energy_uj", "5\n")  # a part of the first
    found = machine.meter()
    assert found is not None
    assert found.name == "RAPL"

    def work() -> None:
        one.write_text("400000\n")  # beyond its end: 0.5 J
        other.write_text("350000\n")

    assert found.spent_j(work) == pytest.approx(0.75)


def test_watts_are_added_up_over_time(root: Path) -> None:
    lay(root / "sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
    lay(root / "sys/class/hwmon/hwmon1/name", "ina226\n")
    lay(root / "sys/class/hwmon/hwmon1/power1_input", "5000000\n")
    found = machine.meter()
    assert found is not None
    assert found.name == "ina226"
    began_s = time.monotonic()
    spent_j = found.spent_j(lambda: time.sleep(0.2))
    assert 5.0 * 0.2 * 0.99 <= spent_j <= 5.0 * (time.monotonic() - began_s)


def test_a_jetsons_whole_board_is_the_rail_that_is_called_so(root: Path) -> None:
    folder = root / "sys/class/hwmon/hwmon3"
    lay(folder / "name", "ina3221\n")
    for n, (label, mv, ma) in enumerate([("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 400)], 1):
        lay(folder / f"in{n}_label", f"{label}\n")
        lay(folder / f"in{n}_input", f"{mv}\n")
        lay(folder / f"curr{n}_input", f"{ma}\n")
    found = machine.meter()
    assert found is not None
    assert found.watts is not None
    assert found.watts() == pytest.approx(6.0)
    assert found.name == "ina3221 VDD_IN"
    for n in (1, 2):
        (folder / f"in{n}_label").unlink()
    found = machine.meter()
    assert found is not None
    assert found.watts is not None
    assert found.watts() == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("spread", "steal", "others", "load", "clock", "told"),
    [
        (1.05, 0.0, 0.02, 0.1, QUIET, None),
        (1.05, None, None, None, QUIET, None),
        (1.5, 0.0, 0.0, 0.0, QUIET, "equal loops differ 1.50 times"),
        (1.0, 0.03, 0.0, 0.0, QUIET, "3.0 % of the time went to other guests"),
        (1.0, 0.0, 1.02, 0.0, QUIET, "other programs used 1.02 of"),
        (1.0, 0.0, 0.0, 64.0, QUIET, "a load of 64.00"),
        (1.0, 0.0, 0.0, 0.0, Timer(50, 60.0, 4000.0), "4.0 ms late"),
    ],
)
def test_noise_is_said(  # noqa: PLR0917
    spread: float,
    steal: float | None,
    others: float | None,
    load: float | None,
    clock: Timer,
    told: str | None,
) -> None:
    said = machine.noises(spread, steal, others, load, clock)
    assert len(said) == (told is not None)
    assert told is None or told in said[0]


def test_seconds_of_all_cores_are_read_by_what_they_went_to(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sysconf", lambda _name: 100)
    lay(root / "proc/stat", "cpu  100 200 300 4000 500 60 70 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    busy, steal, whole = machine._jiffies() or (0.0, 0.0, 0.0)
    assert (busy, steal, whole) == pytest.approx((7.3, 0.8, 53.1))


def test_this_machine_is_looked_at() -> None:
    watch = machine.Watch()
    total = sum(n * n for n in range(200_000))
    assert total
    watch.beat()
    assert len(watch.speed_ms) == len(watch.share_ms) == 1
    assert min(watch.speed_ms[0], watch.share_ms[0]) > 0
    quiet = watch.end()
    assert watch.timer.resolution_ns >= 1
    assert watch.timer.wake_p50_us <= watch.timer.wake_p99_us
    assert quiet.spin_ms > 0
    assert quiet.spin_spread >= 1
    assert quiet.others_cores is None or quiet.others_cores >= 0
    assert quiet.steal is None or 0 <= quiet.steal <= 1
