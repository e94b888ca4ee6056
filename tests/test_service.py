"""The service: its unit; and install.sh in a Debian of its own: twice, updated, gone back, and off without a trace."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import reported
from test_notify import Systemd

from device import play
from device.notify import PATIENCE_S, SILENT_S

ROOT = Path(__file__).resolve().parent.parent
UNIT, INSTALL = ROOT / "service" / "darkrack.service", ROOT / "service" / "install.sh"
CLONE = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "darkrack.py",
    "device",
    "train",
    "compress",
    "models",
    "service",
)
CONFIG = "dtparam=audio=on\n\n[cm4]\notg_mode=1\n# no newline at the end"
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=4242-02 rootwait quiet\n"


def _said(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*map(str, words)], capture_output=True, text=True, timeout=600, check=False, **options
    )


def _settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


# ---- the unit ----


def _verified(folder: Path, text: str) -> str:
    """What systemd-analyze has to say, with a program in place of ours, which is not installed here."""
    program = shutil.which("true")
    (folder / "darkrack.service").write_text(
        text.replace("/opt/darkrack/current/bin/darkrack", program or "")
    )
    done = _said("systemd-analyze", "verify", folder / "darkrack.service")
    return done.stdout + done.stderr + (f"exit {done.returncode}" if done.returncode else "")


@pytest.mark.program("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert _verified(tmp_path, text) == ""
    for wrong in (text.replace("WatchdogSec", "WatchDogSec"), text.replace("Restart=always", "Restart=ever")):
        assert _verified(tmp_path, wrong) != "", "a fault that is planted is found"


def _words_of(unit: str, conf: str) -> list[str]:
    """The command line as systemd makes it: ${NAME} is one word, $NAME falls into words."""
    values = dict(line.split("=", 1) for line in conf.splitlines() if "=" in line and line[0] != "#")
    words: list[str] = []
    for word in _settings(unit)["ExecStart"][0].split():
        if word.startswith("${"):
            words.append(values[word[2:-1]])
        elif word.startswith("$"):
            words += values[word[1:]].split()
        else:
            words.append(word)
    return words


def _check_command(conf: str) -> argparse.Namespace:
    program, command, *words = _words_of(UNIT.read_text(), conf)
    assert (program, command) == ("/opt/darkrack/current/bin/darkrack", "play")
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    return parser.parse_args(words)


def test_the_command_of_the_unit_is_one_that_play_understands() -> None:
    conf = "BUNDLE=/a.rack /b.rack\nPROFILE=pi5\nAUDIO=USB Audio\nBLOCK=64\nOPTIONS=--voices 4 --log info\n"
    options = _check_command(conf)
    assert [str(path) for path in options.bundle] == ["/a.rack", "/b.rack"]
    assert (options.audio, options.block, options.voices, options.log) == ("USB Audio", 64, 4, "info")


def test_the_unit_fits_the_program() -> None:
    unit = _settings(UNIT.read_text())
    watchdog_s = int(unit["WatchdogSec"][0])
    # The supervisor waits for a new front, up to as long as it may take to start from a cache.
    assert SILENT_S < watchdog_s < PATIENCE_S
    assert unit["StartLimitIntervalSec"] == ["0"], "it never gives up"
    assert (unit["Type"], unit["Restart"], unit["KillMode"]) == (["notify"], ["always"], ["mixed"])
    groups = unit["SupplementaryGroups"][0].split()
    assert f"for name in {' '.join(groups)}; do" in INSTALL.read_text()
    environment = dict(shlex.split(line)[0].split("=") for line in unit["Environment"])
    assert environment["NUMBA_CACHE_DIR"] == f"/var/cache/{unit['CacheDirectory'][0]}"
    assert environment["LG_WD"] == f"/run/{unit['RuntimeDirectory'][0]}"
    assert unit["WorkingDirectory"] == [f"/var/lib/{unit['StateDirectory'][0]}"]


# ---- install.sh, outside ----


@pytest.mark.program("shellcheck")
def test_shellcheck_finds_nothing() -> None:
    done = _said("shellcheck", INSTALL)
    assert (done.returncode, done.stdout) == (0, "")


def test_without_an_action_it_says_what_there_is() -> None:
    done = _said(INSTALL)
    assert done.returncode == 2
    assert {"install", "update", "rollback", "uninstall", "--wheels", "--any-board"} <= {*done.stdout.split()}
    done = _said(INSTALL, "install", "--nonsense")
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown option --nonsense")
    assert _said(INSTALL, "disinstall").returncode == 2


# ---- install.sh, in a Debian of its own ----


class Debian:
    """A Debian in a folder, with the clone and the wheels in it; what the kernel would say of a board is a file."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        done = _said(
            "debootstrap",
            "--variant=minbase",
            "--include=python3,python3-venv,libportaudio2,systemd",
            "bookworm",
            self.root,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        for name in CLONE:
            source, place = ROOT / name, self.root / "clone" / name
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                place.parent.mkdir(exist_ok=True)
                shutil.copy(source, place)
        self._fetch_wheels()
        self.write("/boot/firmware/config.txt", CONFIG)
        self.write("/boot/firmware/cmdline.txt", CMDLINE)

    def _fetch_wheels(self) -> None:
        """What the base and [pi] need, for this Debian's Python 3.11; our own wheel; and one of RPi.GPIO's name."""
        wheels = self.root / "wheels"
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        clone = shutil.copytree(self.root / "clone", self.root / "built")  # pip builds in place
        done = _said(*pip, "wheel", "-q", "--no-deps", "-w", wheels, clone)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(clone)
        platforms = [
            f"--platform=manylinux{tag}_{platform.machine()}" for tag in ("2014", "_2_27", "_2_28", "_2_34")
        ]
        where = (
            "--only-binary=:all:",
            "--python-version=3.11",
            "--implementation=cp",
            "--find-links",
            wheels,
        )
        asked = ("darkrack[pi]", "lgpio>=0.2", "python-rtmidi")
        done = _said(*pip, "download", "-q", "-d", wheels, *where, *platforms, *asked)
        assert done.returncode == 0, done.stderr
        with zipfile.ZipFile(wheels / "RPi.GPIO-0.7.1-py3-none-any.whl", "w") as wheel:
            info = "RPi.GPIO-0.7.1.dist-info"
            wheel.writestr("RPi/__init__.py", "")
            wheel.writestr("RPi/GPIO/__init__.py", "raise RuntimeError('RPi.GPIO itself')\n")
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: RPi.GPIO\nVersion: 0.7.1\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            files = (
                "RPi/__init__.py",
                "RPi/GPIO/__init__.py",
                f"{info}/METADATA",
                f"{info}/WHEEL",
                f"{info}/RECORD",
            )
            wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin",
            "LC_ALL": "C.UTF-8",
            "HOME": "/root",
        }
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "RPI_LGPIO_REVISION": "d04170", "LG_WD": "/tmp"}
        return _said("chroot", self.root, *words, env=environment, stdin=subprocess.DEVNULL)

    def install(self, action: str, *options: str) -> str:
        wheels = ("--wheels", "/wheels") if action in {"install", "update"} else ()
        done = self.run("/clone/service/install.sh", action, *wheels, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def files(self) -> dict[str, tuple[int, str]]:
        """Every path that is the system's -> mode, and content or target; but for what changes by itself."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            inside = "/" + str(Path(folder).relative_to(self.root)).removeprefix(".")
            if inside == "/":
                folders[:] = [
                    name for name in folders if name not in {"clone", "wheels", "proc", "dev", "tmp"}
                ]
            folders[:] = [name for name in folders if name not in {"__pycache__", "log"}]
            for name in (*names, *folders):
                path = Path(folder) / name
                mode = path.lstat().st_mode
                content = ""
                if stat.S_ISLNK(mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(mode):
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                found[f"{inside.rstrip('/')}/{name}"] = (mode, content)
        # Locks and the copies that useradd keeps of what it changes.
        volatile = re.compile(r"^/etc/(\.pwd\.lock|(passwd|shadow|group|gshadow|subuid|subgid)-)$")
        return {path: what for path, what in found.items() if not volatile.match(path)}


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Debian]:
    folder = tmp_path / "debian"
    yield Debian(folder)
    shutil.rmtree(folder)


def _differences(before: dict[str, tuple[int, str]], after: dict[str, tuple[int, str]]) -> list[str]:
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.program("debootstrap", "chroot", "unshare")
def test_install_sh_and_what_it_installs(debian: Debian, tmp_path: Path) -> None:
    """One test, because a Debian takes a minute to make, and processes of pytest-xdist share none."""
    _check_install_update_rollback_uninstall(debian)
    _check_that_boot_settings_changed_since_are_kept(debian)
    _check_that_it_plays_on_a_read_only_root(debian, tmp_path)


def _check_install_update_rollback_uninstall(debian: Debian) -> None:
    before = debian.files()
    model = "/proc/device-tree/model"

    # What it refuses, in one line, and without having changed anything.
    for board, word in (("", "--any-board"), ("NVIDIA Jetson Nano Developer Kit\0", "not supported")):
        debian.write(model, board)
        done = debian.run("/clone/service/install.sh", "install")
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert word in done.stderr
        assert done.stderr.count("\n") == 1
    assert _differences(before, debian.files()) == []

    # Nobody answers the questions: the boot settings stay.
    debian.write(model, "Raspberry Pi 5 Model B Rev 1.0\0")
    said = debian.install("install")
    assert "systemd does not run here" in said
    assert debian.at("/boot/firmware/config.txt").read_text() == CONFIG
    conf = debian.at("/etc/darkrack/darkrack.conf").read_text()
    options = _check_command(conf)
    assert (options.profile, options.audio) == ("pi5", "default")
    assert debian.at("/etc/systemd/system/multi-user.target.wants/darkrack.service").is_symlink()
    assert debian.run("id", "-nG", "darkrack").stdout.split() == [
        "darkrack",
        "dialout",
        "audio",
        "spi",
        "gpio",
    ]
    first = debian.at("/opt/darkrack/current").readlink()
    assert re.fullmatch(r"/opt/darkrack/versions/[\d.]+-\d{8}-\d{6}", str(first))
    assert debian.run("darkrack", "bundle", "verify", *map(str, options.bundle)).returncode == 0

    # Again, with --yes: the boot settings, once; nothing else changes, what is yours last of all.
    debian.write("/etc/darkrack/darkrack.conf", conf.replace("BLOCK=128", "BLOCK=64"))
    debian.write("/var/lib/darkrack/presets.json", "mine")
    installed = debian.files()
    debian.install("install", "--yes")
    boot = {
        f"/boot/firmware/{name}{end}"
        for name in ("config.txt", "cmdline.txt")
        for end in ("", ".before-darkrack")
    }
    assert {*_differences(installed, debian.files())} == boot
    lines = debian.at("/boot/firmware/config.txt").read_text().splitlines()
    ours = [
        "[all]",
        "dtparam=spi=on",
        "dtoverlay=hifiberry-dac",
        "dtoverlay=midi-uart0",
        "dtoverlay=uart0-pi5",
    ]
    assert lines == [*CONFIG.splitlines(), "# darkrack: begin", *ours, "# darkrack: end"]
    assert debian.at("/boot/firmware/cmdline.txt").read_text() == CMDLINE.removeprefix(
        "console=serial0,115200 "
    )
    third = debian.files()
    debian.install("install", "--yes")
    assert _differences(third, debian.files()) == []

    # What Blinka did for years: RPi.GPIO beside rpi-lgpio. Removing it alone would take both.
    planted = debian.run(
        f"{first}/bin/pip", "install", "-q", "--no-index", "--find-links=/wheels", "RPi.GPIO"
    )
    assert planted.returncode == 0, planted.stderr
    gpio = (f"{first}/bin/python", "-c", "import RPi.GPIO as g; print(g.RPI_INFO['TYPE'], g.__file__)")
    assert "RPi.GPIO itself" in debian.run(*gpio).stderr
    asked = debian.run("darkrack", "doctor")
    assert asked.returncode == 1
    assert f"version {first.name}" in asked.stdout
    assert "RPi.GPIO and rpi-lgpio overwrite each other" in asked.stdout
    assert "removing RPi.GPIO" in debian.install("install")
    done = debian.run(*gpio)
    assert done.stdout.startswith("Pi 5 Model B"), done.stderr
    asked = debian.run("darkrack", "doctor")
    assert re.search(r"^ok    gpio +rpi-lgpio 0", asked.stdout, re.MULTILINE), asked.stdout
    assert re.search(r"^ok    bundle", asked.stdout, re.MULTILINE), asked.stdout

    # A newer version beside it, and back.
    time.sleep(1.1)  # versions are named by the second
    debian.install("update")
    second = debian.at("/opt/darkrack/current").readlink()
    assert (second != first, debian.at("/opt/darkrack/previous").readlink()) == (True, first)
    assert debian.run("darkrack", "--help").returncode in {0, 2}
    debian.install("rollback")
    assert debian.at("/opt/darkrack/current").readlink() == first
    assert debian.at("/opt/darkrack/previous").readlink() == second
    assert "BLOCK=64" in debian.at("/etc/darkrack/darkrack.conf").read_text()
    assert debian.at("/var/lib/darkrack/presets.json").read_text() == "mine"

    # Off again. What is yours stays until you say otherwise; then nothing is left.
    debian.at("/usr/bin/systemctl").rename(debian.at("/usr/bin/systemctl.away"))
    assert "there is no systemctl" in debian.install("install")
    debian.at("/usr/bin/systemctl.away").rename(debian.at("/usr/bin/systemctl"))
    assert "your files are still in" in debian.install("uninstall")
    mine = {
        "/etc/darkrack",
        "/etc/darkrack/darkrack.conf",
        "/var/lib/darkrack",
        "/var/lib/darkrack/presets.json",
    }
    assert {*_differences(before, debian.files())} == mine
    debian.install("uninstall", "--purge")
    assert _differences(before, debian.files()) == []


def _check_that_boot_settings_changed_since_are_kept(debian: Debian) -> None:
    """The functions of the script alone, on the same Debian."""
    text = INSTALL.read_text()
    functions = text[: text.index("\naction=")]
    debian.write("/functions.sh", functions.replace("set -euo pipefail", "set -euo pipefail; yes=1"))
    debian.write("/boot/firmware/config.txt", CONFIG)
    debian.write("/boot/firmware/cmdline.txt", CMDLINE)
    there = "sed -i 's/^yes=.. /yes=1 /' /functions.sh; . /functions.sh; board=pi profile=pi4; boot_settings"
    done = debian.run("bash", "-c", there)
    assert done.returncode == 0, done.stderr
    config, cmdline = (debian.at(f"/boot/firmware/{name}.txt") for name in ("config", "cmdline"))
    assert "dtoverlay=disable-bt" in config.read_text()
    config.write_text(config.read_text() + "arm_boost=1\n")
    cmdline.write_text(cmdline.read_text().replace("quiet", "quiet isolcpus=3"))
    done = debian.run("bash", "-c", ". /functions.sh; boot_settings_back")
    assert done.returncode == 0, done.stderr
    assert "note: see" in done.stdout
    assert config.read_text() == CONFIG + "\narm_boost=1\n"
    assert "isolcpus=3" in cmdline.read_text()
    debian.at("/functions.sh").unlink()


# As systemd would with ProtectSystem=strict, and sterner: nothing at all can be written but what is mounted here.
READ_ONLY = """
set -e
mount --bind {root} {root} && mount -o remount,ro,bind {root}
mount -t tmpfs none {root}/dev && mkdir -m 1777 {root}/dev/shm
for node in null urandom; do touch {root}/dev/$node && mount --bind /dev/$node {root}/dev/$node; done
mount -t proc none {root}/proc
mount -t tmpfs -o mode=1777 none {root}/tmp
mount --bind {run} {root}/run
mount -t tmpfs -o mode=777 none {root}/var/cache/darkrack
mount --bind {state} {root}/var/lib/darkrack
! touch {root}/srv/written 2>/dev/null
exec chroot --userspec=darkrack {root} env -i PATH=/usr/bin {environment} {words}
"""


def _check_that_it_plays_on_a_read_only_root(debian: Debian, tmp_path: Path) -> None:
    """The unit's command and environment, as its user."""
    debian.write("/proc/device-tree/model", "")
    debian.install("install", "--any-board")
    debian.at("/var/cache/darkrack").mkdir()  # systemd makes it
    places = {"root": debian.root, "run": tmp_path / "run", "state": tmp_path / "state"}
    for name in ("run", "state"):
        places[name].mkdir()
        places[name].chmod(0o777)
    (tmp_path / "run" / "darkrack").mkdir(mode=0o777)
    systemd = Systemd(str(tmp_path / "run" / "notify"))
    (tmp_path / "run" / "notify").chmod(0o777)
    unit = UNIT.read_text()
    environment = [*_settings(unit)["Environment"], "STATE_DIRECTORY=/var/lib/darkrack"]
    environment += ["NOTIFY_SOCKET=/run/notify", "WATCHDOG_USEC=2000000"]
    words = _words_of(unit, debian.at("/etc/darkrack/darkrack.conf").read_text())
    words += ["--json", "/var/lib/darkrack/report.json"]
    script = READ_ONLY.format(environment=" ".join(environment), words=shlex.join(words), **places)
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        systemd.wait_for("READY=1")
        systemd.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        systemd.wait_for("STOPPING=1")
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        systemd.close()
    assert process.returncode == 0, errors
    assert reported(tmp_path / "state" / "report.json")["counts"]["notes"] > 0
    debian.install("uninstall", "--purge")
