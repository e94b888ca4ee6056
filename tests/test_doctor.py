"""`darkrack doctor` on made-up machines: a Pi 4, a Pi 5, a Jetson Orin, an old Nano, a computer; and on this one."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from darkrack import main
from device import doctor
from device.bundle import Bundle
from device.doctor import CHECKS, FAIL, OK, WARN, Line, Machine, look_around

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max locked memory         {locked}            {locked}            bytes
Max realtime priority     {priority}                   {priority}
"""
CARDS = """ 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi
                      vc4-hdmi
 1 [sndrpihifiberry]: HifiberryDac - snd_rpi_hifiberry_dac
"""
CONF = "# what plays\nBUNDLE=/var/lib/darkrack/mine.rack\nPROFILE={profile}\nAUDIO=default\n"
ELF_64, ELF_32 = b"\x7fELF\x02\x01", b"\x7fELF\x01\x01"


class Tree:
    """A machine that is only files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("/proc/self/exe", ELF_64)
        self.write("/proc/self/limits", LIMITS.format(locked="unlimited", priority=95))
        self.write("/usr/lib/aarch64-linux-gnu/libportaudio.so.2")
        self.package("python-rtmidi", "1.5.8")
        self.write("/etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
        for core in range(4):
            self.write(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "performance\n")
        self.write("/sys/class/thermal/thermal_zone0/temp", "48312\n")
        self.write("/sys/class/thermal/thermal_zone1/temp", "")  # one that is asleep
        self.write("/proc/asound/cards", CARDS)

    def write(self, path: str, content: str | bytes = b"") -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())

    def remove(self, path: str) -> None:
        (self.root / path.lstrip("/")).unlink()

    def package(self, name: str, version: str) -> None:
        folder = f"{sysconfig.get_path('purelib')}/{name.replace('-', '_')}-{version}.dist-info"
        self.write(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def installed(self, profile: str, bundle: Path) -> None:
        """As install.sh leaves it."""
        self.write(doctor.CONF, CONF.format(profile=profile))
        self.write("/var/lib/darkrack/mine.rack", bundle.read_bytes())
        self.write("/etc/systemd/system/darkrack.service")
        (self.root / "var/cache/darkrack").mkdir(parents=True)
        (self.root / "opt/darkrack").mkdir(parents=True)
        for name, version in (("current", "0.2.0-1"), ("previous", "0.1.0-1")):
            (self.root / "opt/darkrack" / name).symlink_to(f"versions/{version}")

    def lines(self, **asked: Any) -> list[Line]:
        return look_around(Machine(self.root, {"HOME": "/home"}, **asked))

    def of(self, check: str, **asked: Any) -> list[Line]:
        return [line for line in self.lines(**asked) if line.check == check]

    def verdict(self, check: str, **asked: Any) -> str:
        """The worst of a check."""
        return max((line.verdict for line in self.of(check, **asked)), key=[OK, WARN, FAIL].index)


def _pi(tree: Tree, model: str) -> Tree:
    tree.write("/proc/device-tree/model", f"{model}\0")
    tree.package("rpi-lgpio", "0.6")
    tree.package("lgpio", "0.2.2.0")
    for node in ("spidev0.0", "spidev0.1", "gpiochip0", "ttyAMA0"):
        tree.write(f"/dev/{node}")
    (tree.root / "dev/serial0").symlink_to("ttyAMA0")
    tree.write("/proc/cmdline", "console=tty1 root=PARTUUID=12345678-02 rootfstype=ext4 quiet")
    tree.write("/sys/devices/platform/soc/soc:firmware/get_throttled", "0\n")
    tree.write("/sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    tree.write("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


@pytest.fixture
def pi4(tree: Tree, tiny_bundle: Bundle) -> Tree:
    tree.installed("pi4", tiny_bundle.path)
    return _pi(tree, "Raspberry Pi 4 Model B Rev 1.5")


@pytest.fixture
def pi5(tree: Tree, tiny_bundle: Bundle) -> Tree:
    tree.installed("pi5", tiny_bundle.path)
    return _pi(tree, "Raspberry Pi 5 Model B Rev 1.0")


@pytest.fixture
def orin(tree: Tree, tiny_bundle: Bundle) -> Tree:
    tree.installed("jetson-orin", tiny_bundle.path)
    tree.write(
        "/proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"
    )
    tree.write("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    tree.package("Jetson.GPIO", "2.1.11")
    for node in ("spidev0.0", "gpiochip0", "ttyTHS1"):
        tree.write(f"/dev/{node}")
    return tree


@pytest.mark.parametrize("machine", ["pi4", "pi5", "orin"])
def test_a_machine_that_is_well_has_only_ok(machine: str, request: pytest.FixtureRequest) -> None:
    tree: Tree = request.getfixturevalue(machine)
    lines = tree.lines()
    assert [str(line) for line in lines if line.verdict != OK] == []
    assert {line.check for line in lines} >= {*CHECKS}, "every check says something"
    assert any("DIN on" in line.found for line in lines)
    assert any("rollback goes to 0.1.0-1" in line.found for line in lines)


def test_a_computer_is_well_without_a_board(tree: Tree) -> None:
    lines = tree.lines()
    assert [str(line) for line in lines if line.verdict != OK] == []
    assert tree.of("board")[0].found == "a computer; jacks are simulated"


def test_the_old_nano_is_refused(tree: Tree) -> None:
    tree.write("/proc/device-tree/model", "NVIDIA Jetson Nano Developer Kit\0")
    tree.write("/etc/nv_tegra_release", "# R32 (release), REVISION: 7.1\n")
    assert tree.verdict("board") == FAIL
    assert "not supported" in tree.of("board")[0].found
    assert tree.verdict("system") == FAIL
    assert tree.verdict("gpio") == FAIL


# ---- each fault, planted into a machine that is well ----


def _word(value: int) -> str:
    return f"{value:x}\n"


THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
FAULTS: dict[str, tuple[str, str, str, Any]] = {
    "other board": ("board", WARN, "not tried", ("/proc/device-tree/model", "Raspberry Pi 3 Model B Rev 1.2")),
    "32 bit": ("64 bit", FAIL, "32-bit", ("/proc/self/exe", ELF_32)),
    "unknown profile": ("profile", FAIL, "nowhere", (doctor.CONF, CONF.format(profile="nowhere"))),
    "profile of another board": ("profile", FAIL, "another board", (doctor.CONF, CONF.format(profile="jetson-orin"))),
    "ondemand": ("governor", WARN, "ondemand", ("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "ondemand")),
    "no portaudio": ("audio", FAIL, "PortAudio", "/usr/lib/aarch64-linux-gnu/libportaudio.so.2"),
    "no card": ("audio", WARN, "no sound card", ("/proc/asound/cards", "--- no soundcards ---\n")),
    "no lgpio": ("gpio", FAIL, "empty package", "lgpio 0.0.0.2"),
    "both gpio": ("gpio", FAIL, "overwrite", "RPi.GPIO 0.7.1"),
    "jetson's gpio": ("gpio", FAIL, "overwrite", "Jetson.GPIO 2.1.11"),
    "no uart": ("midi", WARN, "no /dev/serial0", "/dev/serial0"),
    "console on the uart": ("midi", WARN, "kernel talks", ("/proc/cmdline", "console=serial0,115200 console=tty1")),
    "no rtprio": ("realtime", WARN, "limit 0", ("/proc/self/limits", LIMITS.format(locked="unlimited", priority=0))),
    "little memlock": ("memlock", WARN, "8 MiB", ("/proc/self/limits", LIMITS.format(locked=8 << 20, priority=95))),
    "warm": ("heat", WARN, "75 °C", ("/sys/class/thermal/thermal_zone1/temp", "75000")),
    "hot": ("heat", FAIL, "85 °C", ("/sys/class/thermal/thermal_zone1/temp", "85000")),
    "undervoltage now": ("power", FAIL, "too low now", (THROTTLED, _word(1 << 0 | 1 << 16))),
    "undervoltage before": ("power", WARN, "since the start", (THROTTLED, _word(1 << 16))),
    "undervoltage by hwmon": ("power", FAIL, "too low now", ("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1")),
    "throttled now": ("power", FAIL, "slowed down now", (THROTTLED, _word(1 << 2 | 1 << 18))),
    "throttled before": ("power", WARN, "slowed down since", (THROTTLED, _word(1 << 18))),
    "soft limit": ("power", FAIL, "slowed down now", (THROTTLED, _word(1 << 3))),
    "no unit": ("service", WARN, "no unit", "/etc/systemd/system/darkrack.service"),
    "no bundle set": ("bundle", FAIL, "nothing to play", (doctor.CONF, "PROFILE=pi4\n")),
    "bundle is gone": ("bundle", FAIL, "mine.rack", "/var/lib/darkrack/mine.rack"),
    "bundle is cut": ("bundle", FAIL, "mine.rack", ("/var/lib/darkrack/mine.rack", b"PK\3\4")),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_says_what_to_do(fault: str, pi4: Tree) -> None:
    check, verdict, said, planted = FAULTS[fault]
    if isinstance(planted, tuple):
        pi4.write(*planted)
    elif planted.startswith("/"):
        pi4.remove(planted)
    else:
        name, version = planted.split()
        for old in (pi4.root / sysconfig.get_path("purelib")[1:]).glob(f"{name}-*"):
            shutil.rmtree(old)
        pi4.package(name, version)
    found = [line for line in pi4.of(check) if line.verdict == verdict]
    assert any(said in line.found for line in found), pi4.of(check)
    assert all(line.to_do for line in found)


def test_rpi_gpio_alone_does_not_do_on_a_pi_5(pi5: Tree) -> None:
    site = pi5.root / sysconfig.get_path("purelib")[1:]
    shutil.rmtree(site / "rpi_lgpio-0.6.dist-info")
    assert pi5.verdict("gpio") == FAIL
    pi5.package("RPi.GPIO", "0.7.1")
    assert "does not run on a Raspberry Pi 5" in pi5.of("gpio")[0].found


def test_spi_is_switched_on_in_another_way_on_each_board(
    pi4: Tree, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    for node in ("spidev0.0", "spidev0.1"):
        pi4.remove(f"/dev/{node}")
    assert pi4.verdict("spi") == FAIL
    assert "config.txt" in pi4.of("spi")[0].to_do
    other = Tree(tmp_path / "jetson")
    other.write("/proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    assert other.verdict("spi") == WARN, "no profile asks for it"
    assert other.verdict("spi", profile="jetson-orin") == FAIL
    assert "jetson-io" in other.of("spi")[0].to_do


def test_a_chip_on_a_pin_that_the_kernel_holds(pi4: Tree, tmp_path: Path) -> None:
    page = (Path(doctor.__file__).parent / "profiles" / "pi4.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(page.replace('"D5"', '"D8"'))
    assert pi4.verdict("spi") == OK
    assert pi4.verdict("spi", profile=str(mine)) == WARN


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "verdict"), [(1 << 20, FAIL), (100 << 20, WARN), (1 << 32, OK)])
def test_space(free: int, verdict: str, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: Usage(1 << 33, 0, free))
    assert tree.verdict("space") == verdict


def test_folders_that_cannot_be_written(pi4: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {line.verdict for line in pi4.of("settings") + pi4.of("cache")} == {OK}
    (pi4.root / "var/cache/darkrack").rmdir()
    pi4.write("/var/cache/darkrack")
    assert pi4.verdict("cache") == FAIL
    assert "not a folder" in pi4.of("cache")[0].found

    def refuse(dir: Path) -> None:  # noqa: A002
        raise OSError(30, "Read-only file system", str(dir))

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert pi4.verdict("settings") == FAIL
    assert "Read-only" in pi4.of("settings")[0].found


def test_a_check_that_raises_is_a_warning_and_the_others_go_on(
    pi4: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    pi4.write(THROTTLED, "nonsense")
    pi4.remove("/proc/self/limits")
    lines = pi4.lines()
    raised = {line.check: line for line in lines if "not found out" in line.found}
    assert {*raised} == {"power", "realtime"}
    assert raised["power"].verdict == WARN
    assert "ValueError" in raised["power"].found

    def fall_over(_machine: Machine) -> Any:
        raise ZeroDivisionError("planted\nin two lines")

    monkeypatch.setattr(doctor, "CHECKS", dict.fromkeys(CHECKS, fall_over))
    lines = pi4.lines()
    assert len(lines) == len(CHECKS)
    assert {line.found for line in lines} == {"not found out: ZeroDivisionError: planted in two lines"}


def test_an_empty_tree_and_one_of_nonsense_crash_nothing(tmp_path: Path, pi4: Tree) -> None:
    empty = look_around(Machine(tmp_path / "nothing", {}))
    assert {line.check for line in empty} >= {*CHECKS} - {"bundle"}
    for path in [path for path in pi4.root.rglob("*") if path.is_file() and not path.is_symlink()]:
        path.write_bytes(os.urandom(64))
    assert {line.check for line in pi4.lines()} >= {*CHECKS} - {"bundle"}


# ---- the command, on this machine ----


def test_the_command_prints_every_line_and_writes_them(
    tmp_path: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "doctor.json"
    status = main(["doctor", "--bundle", str(tiny_bundle.path), "--json", str(path)])
    said = capsys.readouterr()
    written = json.loads(path.read_text())
    assert status == (1 if written["failed"] else 0)
    assert all(line["found"] in said.out for line in written["lines"])
    assert {line["check"] for line in written["lines"]} >= {*CHECKS}
    assert {line["verdict"] for line in written["lines"]} <= {OK, WARN, FAIL}


def test_a_line_that_fails_is_exit_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--bundle", str(tmp_path / "none.rack")]) == 1
    said = capsys.readouterr()
    assert "fail  bundle" in said.out
    assert "bundle" in said.err
    assert "hint: " in said.err


def test_an_unknown_profile_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--profile", "nowhere"]) == 1
    said = capsys.readouterr()
    assert "nowhere" in said.err
    assert said.out == ""
