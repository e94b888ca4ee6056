"""A data set of notes on disk: `notes.csv` with NSynth's field names, and FLAC files with many notes each.

DIR/notes.csv     one line a note, the fields of `Note` in order
DIR/audio/*.flac  mono; `start` and `samples` locate a note in its file
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import atomic_path
from device.partials import nominal_hz

SAMPLE_RATE_HZ = 48_000  # of every set we make but NSynth, which keeps its own; what the device plays at
CHECKS = ("ok", "silent", "octave", "detuned", "unpitched")
PARTS = ("train", "unseen_notes", "unseen_instruments")  # what a note is for: see `split`


@dataclasses.dataclass(frozen=True)
class Note:
    """One note; field names are NSynth's where NSynth has them.

    ``pitch`` and ``velocity`` are MIDI numbers (0..127), ``start`` and ``samples`` count samples of ``file``
    (a path relative to the data set), ``f0_hz`` is measured, ``cents`` its deviation from ``pitch`` (both
    None where no pitch was found), ``check`` one of ``CHECKS``, ``tags`` free words separated by spaces.
    ``part`` is one of ``PARTS`` where the set itself says what the note is for, otherwise empty.
    """

    note_str: str
    instrument_str: str
    instrument_family_str: str
    instrument_source_str: str
    pitch: int
    velocity: int
    sample_rate: int
    file: str
    start: int
    samples: int
    f0_hz: float | None
    cents: float | None
    check: str
    tags: str
    part: str = ""

    @property
    def key_hz(self) -> float:
        """The fundamental of the key: the measured one brought beside it by whole octaves, or the key's nominal one."""
        if self.f0_hz is None:
            return nominal_hz(self.pitch)
        return float(self.f0_hz / 2.0 ** round(math.log2(self.f0_hz / nominal_hz(self.pitch))))


@dataclasses.dataclass(frozen=True)
class Instrument:
    """Who plays: the name of the one instrument, NSynth's family and source of it."""

    instrument_str: str
    family: str
    source: str


@dataclasses.dataclass(frozen=True)
class Take:
    """A note that is not in a set yet: MIDI ``pitch`` and ``velocity``, ``audio`` mono, full scale 1.

    ``instrument`` where the takes of one file have several; ``part`` as in `Note`.
    """

    pitch: int
    velocity: int
    audio: npt.NDArray[np.floating]
    tags: str = ""
    instrument: Instrument | None = None
    part: str = ""


OPTIONAL = "part"  # a column that only those sets have that decide their own split
FIELDS = tuple(field.name for field in dataclasses.fields(Note) if field.name != OPTIONAL)

_NSYNTH = re.compile(
    r"(?P<instrument>(?P<family>[a-z_]+?)_(?P<source>acoustic|electronic|synthetic)_[0-9]+)-([0-9]{3})-([0-9]{3})"
)


def note_name(instrument_str: str, pitch: int, velocity: int) -> str:
    """The note_str as NSynth builds it: instrument, pitch and velocity in three digits each."""
    return f"{instrument_str}-{pitch:03d}-{velocity:03d}"


def parse_note_name(text: str) -> tuple[Instrument, int, int] | None:
    """Instrument, pitch and velocity of one of NSynth's names (``bass_synthetic_033-022-050``), or None.

    The inverse of `note_name`. The numbers are as they stand there: up to 999, which MIDI does not have.
    """
    match = _NSYNTH.fullmatch(text)
    if not match:
        return None
    instrument = Instrument(match["instrument"], match["family"], match["source"])
    return instrument, int(match[4]), int(match[5])


def slug(text: str) -> str:
    """``text`` as the name of an instrument and its files: a-z, 0-9, single underscores; never empty."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "unnamed"


def read_notes(folder: Path) -> list[Note]:
    """The notes of a data set, in the order of its notes.csv.

    Raises DarkrackError with the line number where the CSV is missing, lacks a column or holds a value that
    cannot be, and where two lines carry the same note_str.
    """
    path = folder / "notes.csv"
    hint = "make a data set with `darkrack data soundfont`, `folder` or `nsynth`"
    try:
        with path.open(encoding="utf-8", newline="") as source:
            reader = csv.DictReader(source, strict=True)
            missing = [name for name in FIELDS if name not in (reader.fieldnames or [])]
            if missing:
                raise DarkrackError(
                    f"{path}, line 1", "the columns " + ",".join(FIELDS), f"none named {missing[0]}", hint
                )
            notes: list[Note] = []
            seen: set[str] = set()
            for row in reader:
                note = _parse(row, f"{path}, line {reader.line_num}")
                if note.note_str in seen:
                    raise DarkrackError(
                        f"{path}, line {reader.line_num}", "a note_str of its own", note.note_str
                    )
                seen.add(note.note_str)
                notes.append(note)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DarkrackError(str(path), "the list of a data set's notes", str(error), hint) from error
    if not notes:
        raise DarkrackError(str(path), "at least one note", "none", hint)
    return notes


def _parse(row: dict[str, Any], where: str) -> Note:
    """One line of notes.csv as a Note; ``where`` names the line."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Note):
        text = row.get(field.name, field.default)  # a set without the optional column has its default
        if text is None or None in row:
            raise DarkrackError(where, f"{len(row.keys() - {None})} fields", "another number")
        try:
            if field.type == "int":
                values[field.name] = int(text)
            elif field.type == "float | None":
                values[field.name] = float(text) if text else None
            else:
                values[field.name] = text
        except ValueError as error:
            raise DarkrackError(where, f"a number as {field.name}", repr(text)) from error
    note = Note(**values)
    limits = {
        "pitch": (note.pitch, 0, 127),
        "velocity": (note.velocity, 0, 127),
        "sample_rate": (note.sample_rate, 1, math.inf),
        "start": (note.start, 0, math.inf),
        "samples": (note.samples, 1, math.inf),
        "f0_hz": (note.f0_hz if note.f0_hz is not None else 1.0, 1e-3, note.sample_rate / 2),
        "cents": (note.cents if note.cents is not None else 0.0, -20_000, 20_000),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise DarkrackError(where, f"{name} of {low:g} to {high:g}", f"{value:g}")
    if note.check not in CHECKS:
        raise DarkrackError(where, "check as " + "|".join(CHECKS), repr(note.check))
    if note.part and note.part not in PARTS:
        raise DarkrackError(where, "part as " + "|".join(PARTS), repr(note.part))
    if not note.note_str or not note.file:
        raise DarkrackError(where, "a note_str and a file", "an empty field")
    return note


def write_notes(folder: Path, notes: Iterable[Note]) -> None:
    """Write notes.csv, whole or not at all; f0 to a millihertz, cents to a tenth.

    The column ``part`` only where a note has one.
    """
    notes = list(notes)
    columns = (*FIELDS, OPTIONAL) if any(note.part for note in notes) else FIELDS
    with (
        atomic_path(folder / "notes.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as out,
    ):
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for note in notes:
            values = dataclasses.asdict(note)
            values["f0_hz"] = "" if note.f0_hz is None else f"{note.f0_hz:.3f}"
            values["cents"] = "" if note.cents is None else f"{note.cents:.1f}"
            writer.writerow(values[name] for name in columns)


def read_audio(folder: Path, note: Note, seconds: float) -> npt.NDArray[np.float32]:
    """The first ``seconds`` of a note: float32 mono at ``note.sample_rate``, padded with zeros at its end.

    Raises DarkrackError where the file is missing, damaged, not mono or shorter than notes.csv says.
    """
    import soundfile

    wanted = round(seconds * note.sample_rate)
    out = np.zeros(wanted, np.float32)
    count = min(wanted, note.samples)
    path = folder / note.file
    try:
        with soundfile.SoundFile(path) as source:
            if source.channels != 1 or source.samplerate != note.sample_rate:
                got = f"{source.channels} channel(s) at {source.samplerate} Hz"
                raise DarkrackError(str(path), f"mono at {note.sample_rate} Hz, as notes.csv says", got)
            if note.start + note.samples > source.frames:
                raise DarkrackError(
                    f"{path}, {note.note_str}",
                    f"samples up to {note.start + note.samples}",
                    f"{source.frames} in all",
                )
            source.seek(note.start)
            read = source.read(count, dtype="float32", out=out[:count])
    except (soundfile.LibsndfileError, OSError) as error:
        raise DarkrackError(
            str(path), "the audio of a data set", str(error), "make the data set again"
        ) from error
    if len(read) != count:
        raise DarkrackError(
            f"{path}, {note.note_str}", f"{count} samples", f"{len(read)}", "make the data set again"
        )
    return out


def split(notes: Sequence[Note]) -> dict[str, list[int]]:
    """Indices by use, a list for each of ``PARTS``.

    A note's own ``part`` decides where it has one. Otherwise one instrument in ten is held out whole, and of
    the others one note in twenty. Where a note goes depends on SHA-256 of its names alone, so sets may grow,
    shrink and be reordered and nothing moves across.
    """
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for index, note in enumerate(notes):
        if note.part:
            parts[note.part].append(index)
        elif _fraction(note.instrument_str) < 0.10:
            parts["unseen_instruments"].append(index)
        else:
            parts[held_out_note(note.note_str, 0.05)].append(index)
    return parts


def held_out_note(note_str: str, share: float) -> str:
    """``unseen_notes`` for that share of all names, drawn by hash; ``train`` for the others."""
    return "unseen_notes" if _fraction(note_str) < share else "train"


def _fraction(name: str) -> float:
    """A number of [0, 1) that looks random and depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big") / 2.0**64
