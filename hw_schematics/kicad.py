"""KiCad's command line: where it is, how it gets here, and what it is asked.

KiCad 9 is in Debian 13; on an older one it runs in a Debian 13 of its own, a folder in the user's cache (1.4 GB, two
minutes). That takes root, as `chroot` does; whoever has ``kicad-cli`` 9 in the path needs neither.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device.errors import DarkrackError

LEAST = 9  # the first version whose command line has all of this
RELEASE = "trixie"
PACKAGES = ("kicad", "kicad-symbols", "kicad-footprints")
LIMIT_S = 300.0
# Where KiCad puts its libraries on Linux and on macOS.
INSTALLED = (
    "/usr/share/kicad",
    "/usr/local/share/kicad",
    "/Applications/KiCad/KiCad.app/Contents/SharedSupport",
)


def cache() -> Path:
    """The folder with the Debian that holds KiCad."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "darkrack" / "kicad9"


@functools.cache
def _path_version() -> int:
    """The version of the ``kicad-cli`` in the path, 0 where there is none."""
    program = shutil.which("kicad-cli")
    if program is None:
        return 0
    done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.match(r"(\d+)\.", done.stdout.strip())
    return int(found[1]) if found else 0


def is_there() -> bool:
    """Whether KiCad 9 can be called, and its libraries read."""
    own = cache() / "usr"
    return _path_version() >= LEAST or (
        os.geteuid() == 0 and (own / "bin/kicad-cli").is_file() and (own / "share/kicad/footprints").is_dir()
    )


def share(kind: str) -> Path:
    """The folder of KiCad's own libraries, ``kind`` "symbols" or "footprints". DarkrackError where there is none."""
    variable = f"KICAD9_{kind.removesuffix('s').upper()}_DIR"  # as KiCad calls it
    bases = (*INSTALLED, str(cache() / "usr/share/kicad"))
    folders = (
        [Path(os.environ[variable])] if variable in os.environ else [Path(base) / kind for base in bases]
    )
    for folder in folders:
        if folder.is_dir():
            return folder
    hint = f"install KiCad's libraries, or set {variable}; 'make hardware' brings them where it brings KiCad"
    raise DarkrackError(f"KiCad's {kind}", "a folder", ", ".join(map(str, folders)), hint)


def install() -> None:
    """Make the Debian with KiCad in the cache, whole or not at all. DarkrackError where that is not possible."""
    if is_there():
        return
    hint = "install KiCad 9 (kicad.org) so that kicad-cli is in the path, or run this as root on Debian"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise DarkrackError("kicad-cli", "KiCad 9, or root on Debian to install it", "neither", hint)
    cache().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kicad9.", dir=cache().parent) as made:
        root = Path(made) / "root"
        steps: tuple[tuple[str, ...], ...] = (
            ("debootstrap", "--variant=minbase", RELEASE, str(root)),
            ("chroot", str(root), "apt-get", "install", "-q", "-y", "--no-install-recommends", *PACKAGES),
            ("chroot", str(root), "apt-get", "clean"),
        )
        if shutil.which("debootstrap") is None:
            steps = (("apt-get", "update", "-q"), ("apt-get", "install", "-q", "-y", "debootstrap"), *steps)
        for step in steps:
            done = subprocess.run(
                step,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                said = (done.stderr.strip() or done.stdout.strip()).splitlines()
                raise DarkrackError(
                    " ".join(step[:4]), "a step that ends well", said[-1] if said else "none", hint
                )
        if cache().exists():
            shutil.rmtree(cache())
        root.rename(cache())


@contextmanager
def _room() -> Iterator[tuple[Path, str, list[str]]]:
    """A folder that KiCad sees: its path here, its path there, and the words before ``kicad-cli``."""
    if _path_version() >= LEAST:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder), folder, []
        return
    if not is_there():
        raise DarkrackError("kicad-cli", "KiCad 9", "none", "make hardware")
    inside = cache() / "tmp"
    with tempfile.TemporaryDirectory(dir=inside) as folder:
        yield Path(folder), f"/tmp{folder.removeprefix(str(inside))}", ["chroot", str(cache())]


class Kicad:
    """One folder of schematics, open for questions; `open_kicad` makes one."""

    def __init__(self, here: Path, there: str, before: list[str], root: str) -> None:
        self.folder = here
        self._there, self._before, self._root = there, before, root

    def _ask(self, *words: str) -> None:
        where = f"{self._there}/{self._root}.kicad_sch"
        command = [*self._before, "env", f"HOME={self._there}", "kicad-cli", "sch", *words, where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise DarkrackError(f"kicad-cli sch {' '.join(words[:2])}", "an answer", said[-300:] or "none")

    def violations(self) -> list[str]:
        """Every error and warning of the electrical rules check, a line each."""
        self._ask("erc", "--format", "json", "--severity-all", "-o", f"{self._there}/erc.json")
        report = json.loads((self.folder / "erc.json").read_text(encoding="utf-8"))
        return [
            f"{sheet['path']}: {one['severity']}: {one['type']}: "
            + "; ".join(item["description"] for item in one["items"])
            for sheet in report["sheets"]
            for one in sheet["violations"]
        ]

    def netlist(self) -> Path:
        """The exported netlist; the file lasts as long as this folder."""
        self._ask("export", "netlist", "-o", f"{self._there}/exported.net")
        return self.folder / "exported.net"

    def svg(self) -> dict[str, str]:
        """Every sheet as SVG, by the name of the file."""
        self._ask("export", "svg", "--no-background-color", "-o", f"{self._there}/svg")
        return {path.name: path.read_text(encoding="utf-8") for path in (self.folder / "svg").glob("*.svg")}


@contextmanager
def open_kicad(files: dict[str, str], root: str) -> Iterator[Kicad]:
    """Write ``files`` (name -> text) where KiCad sees them; ``root`` is the name of the uppermost sheet."""
    with _room() as (here, there, before):
        for name, text in files.items():
            (here / name).write_text(text, encoding="utf-8")
        yield Kicad(here, there, before, root)
