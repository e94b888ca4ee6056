"""An arm64 Debian with Darkrack in it, and qemu's user emulation that runs it; no board, no chroot, no binfmt.

Packages are Debian's, wheels are the real ones for aarch64 at the versions that this environment has, and Darkrack is
the clone's own wheel. All of it lies in the user's cache. qemu-aarch64 looks every path up below one folder first (its
option -L). There is one for each board: links into the Debian, and beside them /proc/cpuinfo and /sys as that board's
kernel shows them. That is needed: XNNPACK's cpuinfo reads them, and breaks off where it finds this machine's. Which
kernels it picks is mostly said by the core's features, which qemu tells, and a little by the part number in there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.errors import DarkrackError
from device.files import read_toml

CLONE = Path(__file__).resolve().parents[2]
OURS = ("pyproject.toml", "README.md", "LICENSE", "darkrack.py", "device", "train", "compress")
RELEASE, PYTHON = "bookworm", "3.11"
GLIBC = 36  # 2.36, bookworm's; the oldest that wheels for aarch64 ask for is 2.17
QEMU = "qemu-aarch64"
NEEDED = {
    "debootstrap": "debootstrap",
    "dpkg-deb": "dpkg",
    QEMU: "qemu-user",
    "gcc": "gcc",
    "setarch": "util-linux",
}
LIMIT_S = 1800.0
# What numba compiles, it compiles for this core on both boards: compiling takes minutes under emulation.
COMPILED_FOR = {"NUMBA_CPU_NAME": "cortex-a72", "NUMBA_CPU_FEATURES": "+neon"}


@dataclass(frozen=True)
class Board:
    """What programs see of a board: qemu's name of the core, and what Linux says of it.

    ``features`` as in /proc/cpuinfo; ``part``, ``variant`` and ``revision`` are those of the core's MIDR register.
    """

    name: str
    model: str
    cpu: str
    part: int
    variant: int
    revision: int
    features: str
    khz: int
    cores: int = 4


PI4 = Board(
    "pi4",
    "Raspberry Pi 4 Model B Rev 1.4",
    "cortex-a72",
    0xD08,
    0,
    3,
    "fp asimd evtstrm crc32 cpuid",
    1_800_000,
)
PI5 = Board(
    "pi5",
    "Raspberry Pi 5 Model B Rev 1.0",
    "cortex-a76",
    0xD0B,
    4,
    1,
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    2_400_000,
)
BOARDS = (PI4, PI5)


def cache() -> Path:
    """The folder in which everything lies; delete it to begin again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "darkrack" / "arm64"


@dataclass(frozen=True)
class Root:
    """The Debian, the wheels, Darkrack's own, and where numba keeps what it compiled."""

    debian: Path
    wheels: Path
    own: Path
    code: Path

    def run(
        self,
        board: Board,
        words: Sequence[str],
        *,
        plugin: str | None = None,
        folder: Path,
        also: Sequence[Path] = (),
    ) -> str:
        """What Python says to ``words`` on a board's core, in ``folder``; ``also``: further places of packages.

        ``plugin`` is what qemu's option -plugin takes; then addresses are not drawn at random, so that counts can be
        repeated. DarkrackError where it fails.
        """
        python = str(self.debian / f"usr/bin/python{PYTHON}")
        emulator = [QEMU, "-cpu", board.cpu, "-L", str(self._prefix(board))]
        if plugin is not None:
            emulator = ["setarch", "-R", *emulator, "-plugin", plugin]
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(map(str, (self.own, self.wheels, *also))),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "NUMBA_CACHE_DIR": str(self.code),
            "DARKRACK_STATE": str(folder),
            **COMPILED_FOR,
        }
        return _run([*emulator, python, *words], env=environment, cwd=folder)

    def versions(self) -> dict[str, str]:
        """Which wheels are in there, of those that matter to speed and sound, and qemu."""
        found = {
            name: importlib.metadata.Distribution.at(path).version
            for name in ("ai_edge_litert", "numba", "llvmlite", "numpy")
            for path in self.wheels.glob(f"{name}-*.dist-info")
        }
        said = _run([QEMU, "--version"])
        return {**found, "qemu": re.findall(r"version ([\d.]+)", said)[0]}

    def _prefix(self, board: Board) -> Path:
        def make(place: Path) -> None:
            place.mkdir()
            for path in self.debian.iterdir():
                if path.name not in {"proc", "sys", "tmp", "dev", "run", "root", "home", "var"}:
                    (place / path.name).symlink_to(path)
            for name, text in board_files(board).items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_text(text, encoding="utf-8")

        return kept(f"board-{board.name}", repr((board, self.debian)), make)


def board_files(board: Board) -> dict[str, str]:
    """What Linux shows of a board in /proc and /sys, as far as cpuinfo, LLVM and Darkrack look: path -> text."""
    implementer = 0x41  # Arm
    core = (
        "processor\t: {}\nBogoMIPS\t: 108.00\n"
        f"Features\t: {board.features}\nCPU implementer\t: {implementer:#x}\nCPU architecture: 8\n"
        f"CPU variant\t: {board.variant:#x}\nCPU part\t: {board.part:#x}\nCPU revision\t: {board.revision}\n\n"
    )
    all_cores = f"0-{board.cores - 1}\n"
    files = {
        "proc/cpuinfo": "".join(core.format(n) for n in range(board.cores)) + f"Model\t\t: {board.model}\n"
    }
    system = "sys/devices/system/cpu"
    files |= {f"{system}/{name}": all_cores for name in ("possible", "present", "online")}
    files[f"{system}/kernel_max"] = "255\n"
    for n in range(board.cores):
        files |= {
            f"{system}/cpu{n}/cpufreq/cpuinfo_max_freq": f"{board.khz}\n",
            f"{system}/cpu{n}/cpufreq/cpuinfo_min_freq": "600000\n",
            f"{system}/cpu{n}/topology/physical_package_id": "0\n",
            f"{system}/cpu{n}/topology/core_id": f"{n}\n",
            f"{system}/cpu{n}/topology/core_siblings_list": all_cores,
            f"{system}/cpu{n}/topology/package_cpus_list": all_cores,
            f"{system}/cpu{n}/topology/cluster_cpus_list": all_cores,
        }
    return files


def install() -> Root:
    """Make what is not there yet, each part whole or not at all. DarkrackError says what is missing."""
    _need_programs()
    debian = kept("debian", f"{RELEASE} {PYTHON}", _debian)
    constraints = "\n".join(_constraints())
    wheels = kept("wheels", constraints, lambda place: _wheels(place, constraints, _requirements()))
    with tempfile.TemporaryDirectory(prefix="darkrack-arm64.") as folder:
        wheel, record = _own_wheel(Path(folder))
        # By the content of modules, so that numba's cache, which goes by the times of files, holds until one changes.
        own = kept("own", record, lambda place: zipfile.ZipFile(wheel).extractall(place))
    code = cache() / "code"
    code.mkdir(exist_ok=True)
    return Root(debian, wheels, own, code)


def packages(*requirements: str) -> Path:
    """A folder with further wheels for aarch64, without what they depend on."""
    asked = "\n".join(requirements)
    return kept("packages", asked, lambda place: _wheels(place, "", requirements, "--no-deps"))


def plugin() -> Path:
    """The plugin that counts, compiled for this machine."""
    source = Path(__file__).with_name("count.c")
    flags = ("-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-std=gnu11")

    def make(place: Path) -> None:
        _run(["gcc", *flags, "-o", str(place), str(source)])

    _need_programs()
    return kept("count", source.read_text(encoding="utf-8") + " ".join(flags), make)


def kept(name: str, made_of: str, make: Callable[[Path], object]) -> Path:
    """A file or folder in the cache that ``make`` makes once for what it is ``made_of``, whole or not at all."""
    place = cache() / f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not place.exists():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=cache()) as folder:
            new = Path(folder) / "new"
            make(new)
            try:
                new.rename(place)
            except OSError:  # somebody else was quicker
                if not place.exists():
                    raise
    return place


def _need_programs() -> None:
    missing = sorted({package for program, package in NEEDED.items() if not shutil.which(program)})
    if missing:
        hint = f"sudo apt-get install {' '.join(missing)}"
        raise DarkrackError(
            "arm64", "the Debian packages " + ", ".join(sorted({*NEEDED.values()})), "not all", hint
        )


def _debian(place: Path) -> None:
    """Unpacked and not configured: nothing of it has to run."""
    if os.geteuid() != 0:
        hint = "run this once as root; what it makes, everybody can run"
        raise DarkrackError("debootstrap", "root, to make an arm64 Debian", f"user {os.geteuid()}", hint)
    options = ("--foreign", "--arch=arm64", "--variant=minbase", "--include=python3")
    hint = "it needs the network, and a cache on a file system that takes device nodes (XDG_CACHE_HOME)"
    _run(["debootstrap", *options, RELEASE, str(place)], hint)
    archives = place / "var/cache/apt/archives"
    for package in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(place)])
    shutil.rmtree(archives)


def _requirements() -> list[str]:
    """What the base needs, without what is only for another Python than the Debian's."""
    asked = read_toml(CLONE / "pyproject.toml", "a project")["project"]["dependencies"]
    return [one for one in asked if "python_version < '3.11'" not in one]


def _constraints() -> list[str]:
    """name==version of everything in this environment that the base brings: both machines then run the same."""
    found: dict[str, str] = {}
    names = [_name(one) for one in _requirements()]
    for name in names:  # grows while it is walked
        try:
            there = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # only for another system
        found[name] = there.version
        needed = [_name(one) for one in there.requires or () if "extra ==" not in one]
        names += [one for one in needed if one not in names]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def _wheels(place: Path, constraints: str, requirements: Sequence[str], *options: str) -> None:
    """pip's own answer for an aarch64 machine with the Debian's glibc and Python; wheels only."""
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(GLIBC, 16, -1)]
    where = (
        *platforms,
        "--platform=manylinux2014_aarch64",
        f"--python-version={PYTHON}",
        "--implementation=cp",
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text(constraints, encoding="utf-8")
        pip = (
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-warn-conflicts",
        )
        fixed = ("--only-binary=:all:", "--target", str(place), "--constraint", str(file))
        hint = "it needs the network; a package without a wheel for aarch64 is a finding"
        _run([*pip, *where, *fixed, *options, *requirements], hint)


def _own_wheel(folder: Path) -> tuple[Path, str]:
    """The clone's wheel, built from a copy because pip builds in place, and its list of hashes."""
    copy = folder / "clone"
    for name in OURS:
        if (CLONE / name).is_dir():
            shutil.copytree(CLONE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(CLONE / name, copy / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
    _run([*pip, "--wheel-dir", str(folder), str(copy)], "pip needs the network for setuptools")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        lines = archive.read(record).decode().splitlines()
    return wheel, "\n".join(line for line in lines if ".dist-info/" not in line)


def _run(
    words: Sequence[str], hint: str = "", env: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    """What a program writes to its standard output; DarkrackError with its last words where it fails."""
    done = subprocess.run(
        words,
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        name = Path(words[0]).name
        raise DarkrackError(name, "it to end well", f"exit {done.returncode}: {' / '.join(said[-3:])}", hint)
    return done.stdout
