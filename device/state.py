"""What the instrument remembers when its power goes: calibration, presets, what a controller was taught.

JSON files in one folder. A file is written beside the old one, brought to the disk, and takes its place in one step;
what it replaces stays as NAME.old. A file says what its own content should hash to, so one that is damaged is known,
and the one before it is read instead. So a power cut at any moment leaves the new state or the one before, never none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from device.errors import DarkrackError
from device.files import atomic_path

log = logging.getLogger(__name__)

FORMAT = 1
VARIABLE = "DARKRACK_STATE"
MOST_BYTES = 1 << 22  # a hundred presets of 128 attributes are 300 kB


def folder() -> Path:
    """Where state is kept: $DARKRACK_STATE, else systemd's $STATE_DIRECTORY, else the user's own state folder."""
    for variable in (VARIABLE, "STATE_DIRECTORY"):
        if os.environ.get(variable):
            return Path(os.environ[variable].split(":")[0])
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "darkrack"


def keep(path: Path, content: Any) -> None:
    """Write ``content`` (anything JSON has) so that it is there after a power cut, and the old one with it.

    DarkrackError where the folder cannot be written; then the old one is as it was.
    """
    if read(path) == content:
        return
    page = {"format": FORMAT, "sha256": _digest(content), "content": content}
    text = json.dumps(page, indent=1, sort_keys=True, allow_nan=False) + "\n"
    if _read_one(path) is not None:
        with atomic_path(before_of(path)) as temporary:
            temporary.write_bytes(path.read_bytes())
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _flush_folder(path.parent)


def read(path: Path) -> Any | None:
    """What was kept last and can be read; None where there never was anything."""
    for candidate in (path, before_of(path)):
        found = _read_one(candidate)
        if found is not None:
            if candidate != path and path.exists():
                log.warning("%s is damaged; taking the one before it", path)
            return found[0]
    if path.exists():
        log.warning("%s is damaged, and there is none before it", path)
    return None


def before_of(path: Path) -> Path:
    """Where the one before is kept."""
    return path.with_name(path.name + ".old")


def take_back(path: Path) -> None:
    """Go back to the one before; DarkrackError where there is none."""
    found = _read_one(before_of(path))
    if found is None:
        raise DarkrackError(str(before_of(path)), "what was kept before", "nothing that can be read")
    keep(path, found[0])


def _read_one(path: Path) -> tuple[Any] | None:
    """The content of one file, in a tuple, since it may be None; None where it is missing or damaged."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        page = json.loads(path.read_bytes())
        if page["format"] == FORMAT and page["sha256"] == _digest(page["content"]):
            return (page["content"],)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _flush_folder(path: Path) -> None:
    """Bring the names in a folder to the disk as well; a file system that cannot is left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
