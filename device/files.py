"""Files that are written whole or not at all (audio, JSON), their hashes, and TOML with our errors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place only when the block ends well.

    The suffix is kept, because soundfile and matplotlib choose the format by it. The file is flushed to the
    disk before it is renamed, so a power cut leaves the old file or the new one. Raises DarkrackError where
    the folder cannot be written or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        temporary = Path(name)
        os.fchmod(descriptor, 0o644)  # mkstemp makes files that only their owner reads
        os.close(descriptor)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DarkrackError(
            str(path),
            "a file that can be written",
            error.strerror or str(error),
            "check free space and permissions",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_space(folder: Path, needed_bytes: float, hint: str = "choose another disk, or make room") -> None:
    """DarkrackError where the disk that ``folder`` lies on, or will lie on, has no room for so many bytes more."""
    there = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
    free_bytes = shutil.disk_usage(there).free
    if needed_bytes > free_bytes:
        raise DarkrackError(
            str(folder), f"{needed_bytes / 1e9:.3f} GB free", f"{free_bytes / 1e9:.3f} GB", hint
        )


def write_audio(path: Path, samples: npt.NDArray[np.floating], sample_rate_hz: int, subtype: str) -> None:
    """Write (n,) or (n, channels) samples within full scale, atomically: FLAC where the suffix says so, otherwise WAV.

    ``subtype`` as libsndfile names it: PCM_16, PCM_24. Raises DarkrackError where the file cannot be written.
    """
    import soundfile

    with atomic_path(path) as temporary:
        try:
            kind = "FLAC" if path.suffix.lower() == ".flac" else "WAV"
            soundfile.write(temporary, samples, sample_rate_hz, subtype=subtype, format=kind)
        except soundfile.LibsndfileError as error:  # a RuntimeError, also where the disk is full
            raise OSError(str(error)) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while piece := source.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON with sorted keys, atomically; NaN is refused by ValueError."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_bytes(path: Path, what: str, hint: str = "") -> bytes:
    """The bytes of the file that a person named; ``what`` says what it should have been, for the error."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DarkrackError(str(path), what, error.strerror or str(error), hint) from error


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Parse a TOML file; DarkrackError names the file and the line of a syntax error."""
    return parse_toml(read_bytes(path, what), path, what)


def parse_toml(data: bytes, path: Path, what: str) -> dict[str, Any]:
    """The same of bytes that were read already."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DarkrackError(str(path), f"{what} in TOML", str(error)) from error
