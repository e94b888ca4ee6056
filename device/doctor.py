"""`darkrack doctor`: looks at everything that an instrument needs of its machine, and says what to do about the rest.

A line is `ok`, `warn` (it plays, perhaps not as well, or something was not found out) or `fail` (it will not play, or
not for long). All facts are read below one folder, `/` on a real machine, so that a made-up tree is any board. Only
what no file tells (whether a thread may be made real-time, what PortAudio sees) is tried, and only on the real machine.
A check that raises is a warning with what was raised: whoever looks for a fault needs the other lines.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from device.errors import DarkrackError
from device.files import write_json
from device.process import AUDIO_PRIORITY, be_prompt

if TYPE_CHECKING:
    from device.profile import Profile

OK, WARN, FAIL = "ok", "warn", "fail"
CONF = "/etc/darkrack/darkrack.conf"
INSTALLED, STATE, CACHE = "/opt/darkrack", "/var/lib/darkrack", "/var/cache/darkrack"
FREE_WARN_BYTES, FREE_FAIL_BYTES = 500 << 20, 20 << 20  # an update needs 400 MB beside the old one
MEMLOCK_BYTES = 64 << 20  # what PortAudio, JACK and the desk hold
WARM_C, HOT_C = 70.0, 80.0  # a Pi slows down from 80 on, and no Jetson is meant for more for long
PYTHON = (3, 10)
# Bits of a Raspberry Pi's get_throttled word, as its documentation of vcgencmd has them; 16 above: since the start.
UNDERVOLTED, CAPPED, THROTTLED, SOFT_LIMIT = 0, 1, 2, 3
PINS_OF_THE_KERNEL = {"CE0": 8, "CE1": 7, "D8": 8, "D7": 7}  # of a Raspberry Pi's SPI 0


@dataclass(frozen=True)
class Line:
    """One finding: what was looked at, ``verdict`` ok, warn or fail, what was found, what to do (empty where ok)."""

    check: str
    verdict: str
    found: str
    to_do: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:<5} {self.check:<10} {self.found}"
        return f"{line}\n{'':<17}{self.to_do}" if self.to_do else line


@dataclass(frozen=True)
class Machine:
    """What is looked at: the tree below ``root`` and the environment; ``profile`` and ``bundles`` as asked for."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    profile: str | None = None
    bundles: tuple[Path, ...] = ()

    @property
    def real(self) -> bool:
        """Whether this is the machine itself, where things can be tried."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        """A path of the machine."""
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str | None:
        """The file's text without NUL and ends of lines at its end; None where there is none."""
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace").replace("\0", "").strip()
        except OSError:
            return None

    def found(self, pattern: str) -> list[str]:
        """Names, sorted, that match a pattern below the root."""
        return sorted(f"/{path.relative_to(self.root)}" for path in self.root.glob(pattern.lstrip("/")))

    def conf(self) -> dict[str, str]:
        """The service's settings, name to value; empty where it is not installed."""
        lines = (self.text(CONF) or "").splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
        return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}

    def packages(self) -> dict[str, str]:
        """Names in lower case, with `-` for `_` and `.`, and versions of the Python packages that are installed."""
        places = [str(self.at(place)) for place in sys.path if place.startswith("/")]
        found = importlib.metadata.distributions(path=places)
        return {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(): one.version for one in found}

    @property
    def board(self) -> str:
        """`raspberry-pi`, `jetson`, or empty: no board that can be told."""
        model = self.text("/proc/device-tree/model") or ""
        if model.startswith("Raspberry Pi"):
            return "raspberry-pi"
        return "jetson" if "Jetson" in model or self.at("/etc/nv_tegra_release").exists() else ""

    def module(self) -> Profile | None:
        """The profile that was asked for, else the service's; None without one, or where it is only simulated."""
        from device.profile import read_profile

        name = self.profile or self.conf().get("PROFILE")
        profile = None
        with contextlib.suppress(DarkrackError):  # `_board` says so
            profile = read_profile(name) if name else None
        return None if profile is None or profile.board == "simulated" else profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack doctor`."""
    parser.add_argument(
        "--profile", metavar="NAME", help="the module whose needs are checked (default: the service's)"
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        default=[],
        metavar="X.rack",
        help="look at this bundle; may be repeated (default: the service's)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the lines to FILE")


def run(args: argparse.Namespace) -> None:
    """Look around and print; DarkrackError where a line fails, and for a profile that cannot be read."""
    if args.profile:
        from device.profile import read_profile

        read_profile(args.profile)
    lines = look_around(Machine(profile=args.profile, bundles=tuple(args.bundle)))
    print("\n".join(map(str, lines)))
    failed = [line.check for line in lines if line.verdict == FAIL]
    if args.json:
        write_json(args.json, {"failed": failed, "lines": [asdict(line) for line in lines]})
    if failed:
        got = f"{len(failed)} ({', '.join(dict.fromkeys(failed))})"
        raise DarkrackError(
            "darkrack doctor", "no line with fail", got, "do what these lines say, and look again"
        )


def look_around(machine: Machine) -> list[Line]:
    """Every check, in order; one that raises becomes a warning, whatever it was."""
    lines: list[Line] = []
    for name, check in CHECKS.items():
        try:
            lines += check(machine)
        except Exception as error:
            said = " ".join(str(error).split())
            lines.append(Line(name, WARN, f"not found out: {type(error).__name__}: {said}"))
    return lines


# ---- the checks: each yields its lines ----


def _board(machine: Machine) -> Iterator[Line]:
    model = machine.text("/proc/device-tree/model")
    if not model:
        yield Line("board", OK, "a computer; jacks are simulated")
    elif re.match(r"Raspberry Pi (4|5|Compute Module [45])", model):  # 400 and 500 as well
        yield Line("board", OK, model)
    elif "Jetson Nano" in model:  # "Jetson Orin Nano" is another
        to_do = "JetPack 6 does not run on it; take a Jetson Orin Nano or a Raspberry Pi 4 or 5"
        yield Line("board", FAIL, f"{model}, which is not supported", to_do)
    elif "Orin" in model:
        yield Line("board", OK, model)
    else:
        to_do = "Raspberry Pi 4 and 5 and Jetson Orin are what it is made for; `darkrack bench` says how fast this is"
        yield Line("board", WARN, f"{model}, not tried", to_do)
    name = machine.profile or machine.conf().get("PROFILE")
    if not name:
        return
    from device.profile import read_profile

    try:
        wanted = read_profile(name)
    except DarkrackError as error:
        got = f"{error.where}: expected {error.expected}, got {error.got}"
        yield Line("profile", FAIL, got, error.hint or f"PROFILE= in {CONF}")
        return
    if wanted.board in {"simulated", machine.board}:
        yield Line("profile", OK, f"{wanted.name}, for a {wanted.board} board")
    else:
        to_do = f"--profile with this board's, or PROFILE= in {CONF}"
        yield Line("profile", FAIL, f"{wanted.name} is for another board, a {wanted.board}", to_do)


def _bits(machine: Machine) -> Iterator[Line]:
    header = machine.at("/proc/self/exe").read_bytes()[:5]
    if header[:4] == b"\x7fELF" and header[4] != 2:  # EI_CLASS: ELFCLASS64
        to_do = "install the 64-bit system: LiteRT has no packages for 32-bit ARM"
        yield Line("64 bit", FAIL, "a 32-bit Python", to_do)
    else:
        yield Line("64 bit", OK, "yes")


def _system(machine: Machine) -> Iterator[Line]:
    release = machine.text("/etc/os-release") or ""
    named = re.search(r'^PRETTY_NAME="?(.*?)"?$', release, re.MULTILINE)
    system = named[1] if named else "unknown"
    tegra = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", machine.text("/etc/nv_tegra_release") or "")
    if tegra and int(tegra[1]) < 36:
        yield Line("system", FAIL, f"{system}, L4T {tegra[1]}.{tegra[2]}", "flash JetPack 6 (L4T 36)")
    else:
        yield Line("system", OK, f"{system}, L4T {tegra[1]}.{tegra[2]}" if tegra else system)
    version = sys.version_info[:3]
    told = ".".join(map(str, version))
    if version < PYTHON:
        yield Line("python", FAIL, told, "Python 3.10 or later is needed")
    else:
        yield Line("python", OK, told)


def _service(machine: Machine) -> Iterator[Line]:
    current, previous = machine.at(INSTALLED + "/current"), machine.at(INSTALLED + "/previous")
    if not current.is_symlink():
        yield Line("service", OK, "not installed")
        return
    before = f"; rollback goes to {previous.readlink().name}" if previous.is_symlink() else ""
    if machine.at("/etc/systemd/system/darkrack.service").exists():
        yield Line("service", OK, f"version {current.readlink().name}{before}")
    else:
        to_do = "sudo service/install.sh install"
        yield Line("service", WARN, f"version {current.readlink().name}, but no unit", to_do)


def _governor(machine: Machine) -> Iterator[Line]:
    where = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"
    governors = {machine.text(path) or "?" for path in machine.found(where)}
    if not governors:
        yield Line("governor", OK, "the processor's clock is not the system's to change")
    elif governors == {"performance"}:
        yield Line("governor", OK, "performance")
    else:
        to_do = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Line(
            "governor", WARN, f"{', '.join(sorted(governors))}: the clock rises after it is needed", to_do
        )


def _audio(machine: Machine) -> Iterator[Line]:
    places = ("usr/lib", "usr/lib/*", "usr/local/lib", "lib", "lib/*")
    libraries = [name for place in places for name in machine.found(f"{place}/libportaudio.so*")]
    if not libraries:
        yield Line("audio", FAIL, "PortAudio is not installed", "sudo apt install libportaudio2")
    cards = re.findall(r"^ *\d+ \[(\S+) *\]: (.*)$", machine.text("/proc/asound/cards") or "", re.MULTILINE)
    told = "; ".join(f"{name} ({what})" for name, what in cards)
    if cards:
        yield Line("audio", OK, told)
    else:
        to_do = "plug one in"
        if machine.board == "raspberry-pi":
            to_do += ", or add its overlay (dtoverlay=hifiberry-dac) to /boot/firmware/config.txt"
        yield Line("audio", WARN, "no sound card", to_do)
    servers = {machine.text(path) for path in machine.found("/proc/[0-9]*/comm")} & {"jackd", "jackdbus"}
    if servers:
        yield Line("audio", OK, "a JACK server runs; --audio JACK plays through it")
    if machine.real and libraries:
        yield from _portaudio()


def _portaudio() -> Iterator[Line]:
    """Which outputs PortAudio sees; in a process of its own, for it may hang on a device that has gone."""
    script = (
        "import sounddevice\n"
        "for one in sounddevice.query_devices():\n"
        "    if one['max_output_channels'] >= 2: print(one['name'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    names = done.stdout.split("\n")[:-1]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["ended"])[-1]
        yield Line("audio", FAIL, f"PortAudio: {last}", "pip install . in the clone; reinstall libportaudio2")
    elif names:
        yield Line("audio", OK, f"PortAudio plays on: {'; '.join(names)}")
    else:
        yield Line("audio", WARN, "PortAudio sees no output", "is a card in use by another program?")


def _spi(machine: Machine) -> Iterator[Line]:
    nodes = machine.found("/dev/spidev*")
    wanted = machine.module()
    if nodes:
        closed = [node for node in nodes if not os.access(machine.at(node), os.R_OK | os.W_OK)]
        if closed:
            to_do = "sudo adduser $USER spi (on a Jetson: gpio), then log in again"
            yield Line("spi", WARN, f"{closed[0]} is not yours to open", to_do)
        else:
            yield Line("spi", OK, ", ".join(nodes))
    elif wanted is None and not machine.board:
        yield Line("spi", OK, "none, and no board")
    else:
        on_a_pi = "dtparam=spi=on in /boot/firmware/config.txt, then start again"
        on_a_jetson = "sudo /opt/nvidia/jetson-io/jetson-io.py: spi1 (19,21,23,24,26), then start again"
        to_do = on_a_jetson if machine.board == "jetson" else on_a_pi
        yield Line("spi", FAIL if wanted else WARN, "no /dev/spidev*: the converters are out of reach", to_do)
    if wanted is None or machine.board != "raspberry-pi":
        return
    chips = (wanted.knob_chip, wanted.cv_chip, wanted.pitch_chip)
    held = [chip.chip_select for chip in chips if chip and chip.chip_select in PINS_OF_THE_KERNEL]
    if held and nodes:
        to_do = "take another pin (D5, D6), or dtoverlay=spi0-0cs in /boot/firmware/config.txt"
        yield Line(
            "spi", WARN, f"{', '.join(held)} selects a chip, but is the kernel's while SPI is on", to_do
        )


def _gpio(machine: Machine) -> Iterator[Line]:
    packages, model = machine.packages(), machine.text("/proc/device-tree/model") or ""
    real, replacement, jetson = (name in packages for name in ("rpi-gpio", "rpi-lgpio", "jetson-gpio"))
    board = machine.board
    put_right = "pip uninstall -y RPi.GPIO rpi-lgpio, then pip install rpi-lgpio; install.sh does it"
    if real and replacement:
        yield Line("gpio", FAIL, "RPi.GPIO and rpi-lgpio overwrite each other", put_right)
    elif real and model.startswith("Raspberry Pi 5"):
        yield Line("gpio", FAIL, "RPi.GPIO does not run on a Raspberry Pi 5", put_right)
    elif replacement and jetson:
        to_do = "pip uninstall -y Jetson.GPIO rpi-lgpio, then pip install '.[pi]' or '.[jetson]'"
        yield Line("gpio", FAIL, "Jetson.GPIO and rpi-lgpio overwrite each other", to_do)
    elif board == "raspberry-pi" and not (real or replacement):
        yield Line("gpio", FAIL, "no rpi-lgpio: gates are out of reach", "pip install '.[pi]' in the clone")
    elif board == "jetson" and not jetson:
        yield Line(
            "gpio", FAIL, "no Jetson.GPIO: gates are out of reach", "pip install '.[jetson]' in the clone"
        )
    elif replacement and packages.get("lgpio", "").startswith("0.0."):  # a name that was reserved
        to_do = "sudo apt install swig g++ python3-dev; PYPI=1 pip install 'lgpio>=0.2'"
        yield Line("gpio", FAIL, "lgpio is an empty package", to_do)
    else:
        name = next((one for one in ("rpi-lgpio", "jetson-gpio", "rpi-gpio") if one in packages), "none")
        yield Line(
            "gpio", OK, f"{name} {packages.get(name, '')}".strip() + ("" if board else ", and no board")
        )
    nodes = machine.found("/dev/gpiochip*")
    if board and not nodes:
        yield Line("gpio", FAIL, "no /dev/gpiochip*", "is this the board's own kernel?")
    elif nodes and not any(os.access(machine.at(node), os.R_OK | os.W_OK) for node in nodes):
        yield Line(
            "gpio", WARN, f"{nodes[0]} is not yours to open", "sudo adduser $USER gpio, then log in again"
        )


def _midi(machine: Machine) -> Iterator[Line]:
    if "python-rtmidi" in machine.packages():
        ports = [machine.text(path) or path for path in machine.found("/proc/asound/card*/midi*")]
        names = "; ".join(text.splitlines()[0] for text in ports)
        yield Line("midi", OK, names or "rtmidi; no device is plugged in")
    else:
        to_do = "sudo apt install g++ pkg-config python3-dev libasound2-dev; pip install python-rtmidi"
        yield Line("midi", WARN, "no python-rtmidi: USB MIDI is out of reach", to_do)
    wanted = machine.module()
    serial = None
    if wanted is not None and wanted.midi_serial:
        serial = wanted.midi_serial.partition(":")[0]  # without its rate
    if serial is None:
        return
    console = re.search(r"console=(serial0|ttyAMA0|ttyS0|ttyTHS\d)\b", machine.text("/proc/cmdline") or "")
    if not machine.at(serial).exists():
        to_do = (
            "sudo systemctl disable --now nvgetty; pins 8 and 10 are its UART"
            if machine.board == "jetson"
            else "dtoverlay=midi-uart0 in /boot/firmware/config.txt; docs/service.md"
        )
        yield Line("midi", WARN, f"no {serial}: DIN MIDI is out of reach", to_do)
    elif console and machine.at("/dev/" + console[1]).resolve() == machine.at(serial).resolve():
        to_do = f"take console={console[1]},... out of /boot/firmware/cmdline.txt"
        yield Line("midi", WARN, f"the kernel talks on {serial}", to_do)
    else:
        yield Line("midi", OK, f"DIN on {serial}")


def _limits(machine: Machine) -> Iterator[Line]:
    limits = machine.text("/proc/self/limits") or ""
    priority, locked = (
        re.search(rf"^Max {name} +(\w+)", limits, re.MULTILINE)
        for name in ("realtime priority", "locked memory")
    )
    to_do = "the service has them; for yourself: @audio - rtprio 95 and @audio - memlock unlimited in "
    to_do += "/etc/security/limits.d/audio.conf, and your user in the group audio"
    most = _number(priority)
    if machine.real:
        allowed = _tried()
        found = f"a thread {'may' if allowed else 'may not'} be real-time (limit {most:.0f})"
        yield Line("realtime", OK if allowed else WARN, found, "" if allowed else to_do)
    else:
        enough = most >= AUDIO_PRIORITY
        yield Line("realtime", OK if enough else WARN, f"limit {most:.0f}", "" if enough else to_do)
    memory = _number(locked)
    enough = memory >= MEMLOCK_BYTES
    found = "unlimited" if memory == float("inf") else f"{memory / (1 << 20):.0f} MiB may be locked"
    yield Line("memlock", OK if enough else WARN, found, "" if enough else to_do)


def _number(match: re.Match[str] | None) -> float:
    if match is None:
        raise ValueError("no such line in /proc/self/limits")
    return float("inf") if match[1] == "unlimited" else float(match[1])


def _tried() -> bool:
    """Whether a thread may have the audio's priority; tried in one that ends with it."""
    allowed: list[bool] = []
    thread = threading.Thread(target=lambda: allowed.append(be_prompt(AUDIO_PRIORITY)))
    thread.start()
    thread.join()
    return allowed == [True]


def _thermal(machine: Machine) -> Iterator[Line]:
    zones = [machine.text(path) or "" for path in machine.found("/sys/class/thermal/thermal_zone*/temp")]
    degrees = [int(zone) / 1000 for zone in zones if re.fullmatch(r"-?\d+", zone)]  # a zone may be asleep
    if not degrees:
        yield Line("heat", OK, "no thermometer")
        return
    hottest = max(degrees)
    if hottest >= HOT_C:
        yield Line("heat", FAIL, f"{hottest:.0f} °C: the processor slows down", "a heat sink, a fan, air")
    elif hottest >= WARM_C:
        yield Line(
            "heat", WARN, f"{hottest:.0f} °C, and it slows down at {HOT_C:.0f}", "a heat sink, a fan, air"
        )
    else:
        yield Line("heat", OK, f"{hottest:.0f} °C")


def _power(machine: Machine) -> Iterator[Line]:
    word = _throttled(machine)
    alarms = [
        machine.text(f"{Path(path).parent}/in0_lcrit_alarm")
        for path in machine.found("/sys/class/hwmon/hwmon*/name")
        if machine.text(path) == "rpi_volt"
    ]
    if word is None and not alarms:
        yield Line("power", OK, "this machine does not say")
        return
    bits = {bit for bit in range(20) if (word or 0) >> bit & 1}
    to_do = "the board's own supply and a short cable: 5.1 V 3 A for a Pi 4, 5 A for a Pi 5"
    if UNDERVOLTED in bits or "1" in alarms:
        yield Line("power", FAIL, "the voltage is too low now", to_do)
    elif UNDERVOLTED + 16 in bits:
        yield Line("power", WARN, "the voltage was too low since the start", to_do)
    else:
        yield Line("power", OK, "the voltage was never too low")
    if bits & {CAPPED, THROTTLED, SOFT_LIMIT}:
        yield Line("power", FAIL, "the processor is slowed down now", "see heat and power above")
    elif bits & {CAPPED + 16, THROTTLED + 16, SOFT_LIMIT + 16}:
        yield Line("power", WARN, "the processor was slowed down since the start", "see heat and power above")


def _throttled(machine: Machine) -> int | None:
    """The firmware's word: as a file where the kernel has it, else asked for."""
    for path in machine.found("/sys/devices/platform/soc*/soc*firmware/get_throttled"):
        return int(machine.text(path) or "0", 16)
    if machine.real and machine.board == "raspberry-pi" and shutil.which("vcgencmd"):
        done = subprocess.run(
            ["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5, check=True
        )
        return int(done.stdout.strip().partition("=")[2], 16)
    return None


def _disk(machine: Machine) -> Iterator[Line]:
    installed = machine.at(CONF).exists()
    name = STATE if installed else machine.environment.get("HOME", "/")
    place = machine.at(name)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free"
    if free < FREE_FAIL_BYTES:
        yield Line("space", FAIL, found, "settings cannot be kept: delete something")
    elif free < FREE_WARN_BYTES:
        yield Line("space", WARN, found, "an update needs half a gigabyte")
    else:
        yield Line("space", OK, found)


def _folders(machine: Machine) -> Iterator[Line]:
    from device.state import folder

    installed = machine.at(CONF).exists()
    state = Path(STATE) if installed else folder()
    yield _writable(machine, "settings", state, "what is saved is lost when the power goes")
    cache = machine.environment.get("NUMBA_CACHE_DIR") or (CACHE if installed else None)
    if cache is None:  # numba's own choice
        beside = Path(__file__).parent / "__pycache__"
        cache = str(
            beside if os.access(machine.at(str(beside)), os.W_OK) else Path.home() / ".cache" / "numba"
        )
    yield _writable(machine, "cache", Path(cache), "every start compiles anew: a minute and more")


def _writable(machine: Machine, name: str, path: Path, otherwise: str) -> Line:
    place = machine.at(str(path))
    above = place
    while not above.exists() and above != machine.root:
        above = above.parent
    to_do = "a read-only root needs a writable place there: docs/service.md"
    if not above.is_dir():
        return Line(
            name,
            FAIL,
            f"{path} is not a folder: {otherwise}",
            f"move /{above.relative_to(machine.root)} away",
        )
    if above.stat().st_uid != os.geteuid() and os.geteuid() and not os.access(above, os.W_OK):
        return Line(
            name, OK, f"{path}, another user's (sudo -u darkrack darkrack doctor looks as the service does)"
        )
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        return Line(name, FAIL, f"{path}: {error.strerror}: {otherwise}", to_do)
    return Line(name, OK, str(path) if above == place else f"{path}, still to be made")


def _bundles(machine: Machine) -> Iterator[Line]:
    from device.bundle import read

    set_up = [machine.at(name) for name in machine.conf().get("BUNDLE", "").split()]
    paths = machine.bundles or tuple(set_up)
    if not paths and machine.at(CONF).exists():
        yield Line("bundle", FAIL, "the service has nothing to play", f"BUNDLE= in {CONF}")
    for path in paths:
        try:
            bundle = read(path, replay=False)
        except DarkrackError as error:
            got = f"{error.where}: expected {error.expected}, got {error.got}"
            yield Line("bundle", FAIL, got, error.hint or "darkrack bundle verify FILE says more")
        else:
            yield Line("bundle", OK, f"{bundle.manifest.name}, whole ({path.name})")


CHECKS: Mapping[str, Callable[[Machine], Iterator[Line]]] = {
    "board": _board,
    "64 bit": _bits,
    "system": _system,
    "service": _service,
    "governor": _governor,
    "audio": _audio,
    "spi": _spi,
    "gpio": _gpio,
    "midi": _midi,
    "realtime": _limits,
    "heat": _thermal,
    "power": _power,
    "space": _disk,
    "settings": _folders,
    "bundle": _bundles,
}
