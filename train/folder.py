"""Notes from a folder of one's own samples: which pitch a file holds, and its audio as a set wants it."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from device.errors import DarkrackError
from train.notes import SAMPLE_RATE_HZ, Take, parse_note_name, slug

VELOCITY = 100  # where neither the name nor the table gives one
LONGEST_S = 10.0  # a note is cut here; NSynth's last 4 s
ONSET_DB = -50.0  # under the peak: what comes before is silence, and a note begins at its first sample
ONSET_FADE_S = 0.002

_WORD = r"(?<![A-Za-z0-9#])%s(?![A-Za-z0-9#])"  # set off by anything that is neither letter nor digit
_MIDI = re.compile(_WORD % r"midi[ _-]?(\d{1,3})", re.IGNORECASE)
_NOTE = re.compile(_WORD % r"([A-Ga-g])([#♯s]|[b♭])?(-1|\d)")
_NUMBER = re.compile(_WORD % r"(\d{3})")
_VELOCITY = re.compile(_WORD % r"v(?:el)?[ _-]?(\d{2,3})", re.IGNORECASE)
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_COLUMNS = ("file", "pitch", "velocity", "instrument", "family", "tags")
_TABLE_HINT = (
    "name pitches in a table: --table FILE.csv with the columns file,pitch[,velocity,instrument,family,tags]"
)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One file and what it holds; fields as in notes.csv."""

    file: Path
    pitch: int
    velocity: int
    instrument_str: str
    family: str = "unknown"
    source: str = "unknown"
    tags: str = ""


def seconds(sample: Sample) -> float:
    """How long its note will be, at most; a file that cannot be read is told of when its turn comes."""
    import soundfile

    try:
        return min(float(soundfile.info(sample.file).duration), LONGEST_S)
    except (OSError, RuntimeError):  # libsndfile's are RuntimeErrors
        return LONGEST_S


def note_number(text: str) -> int | None:
    """MIDI number of a note's name (C4 = 60, A4 = 69, C-1 = 0; #, s or b), or None where it is none."""
    match = _NOTE.fullmatch(text)
    if not match:
        return None
    letter, sign, octave = match.groups()
    number = 12 * (int(octave) + 1) + _STEPS[letter.lower()] + (0 if not sign else -1 if sign in "b♭" else 1)
    return number if 0 <= number <= 127 else None


def pitch_and_velocity(stem: str) -> tuple[int, int | None] | None:
    """MIDI pitch and velocity that a file's name gives, or None where it gives no pitch or more than one.

    In this order: NSynth's ending ``-060-100``; ``midi60``; a note's name as in ``C4``, ``Bb2``, ``f#3``; a
    number of three digits as in ``_060_``. The velocity is ``v90``, ``vel90`` or a number of three digits
    after the pitch.
    """
    numbers = [found for found in _NUMBER.finditer(stem) if int(found[1]) <= 127]
    names = {
        found.end(): number for found in _NOTE.finditer(stem) if (number := note_number(found[0])) is not None
    }
    nsynth, midi = parse_note_name(stem), _MIDI.search(stem)
    if nsynth:
        pitch, end = nsynth[1], len(stem) - len("-100")
    elif midi:
        pitch, end = int(midi[1]), midi.end()
    elif len(set(names.values())) == 1:
        end, pitch = max(names.items())
    elif not names and 1 <= len(numbers) <= 2:
        pitch, end = int(numbers[0][1]), numbers[0].end()
    else:
        return None
    spelled = _VELOCITY.search(stem)
    after = [found for found in numbers if found.start() >= end]
    velocity = int(spelled[1]) if spelled else int(after[0][1]) if after else None
    if pitch > 127 or (velocity is not None and not 1 <= velocity <= 127):
        return None
    return pitch, velocity


def samples_by_name(folder: Path) -> list[Sample]:
    """Every audio file under ``folder``, understood by its name.

    One folder is one instrument, named after its path below ``folder`` (or after ``folder`` itself); a name
    as NSynth's (``guitar_acoustic_010-060-100``) brings instrument, family and source along. Raises
    DarkrackError where there is no audio, or a name gives no pitch.
    """
    import soundfile

    if not folder.is_dir():
        raise DarkrackError(str(folder), "a folder of samples", "no such folder")
    endings = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"} | {
        ".aif",
        ".aifc",
        ".oga",
    }
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        raise DarkrackError(str(folder), "audio files", "none", "give the folder that holds your samples")
    samples, without = [], []
    for file in files:
        found = pitch_and_velocity(file.stem)
        if found is None:
            without.append(file)
            continue
        pitch, velocity = found
        sample = Sample(file, pitch, velocity or VELOCITY, _instrument(file, folder))
        if nsynth := parse_note_name(file.stem):
            sample = dataclasses.replace(sample, **dataclasses.asdict(nsynth[0]))
        samples.append(sample)
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise DarkrackError(
            str(folder),
            "one pitch in every file's name",
            f"none or several in {without[0].name!r}{more}",
            _TABLE_HINT,
        )
    return samples


def _instrument(file: Path, folder: Path) -> str:
    """instrument_str of a file: the folder that it lies in."""
    below = file.parent.relative_to(folder).as_posix()
    return slug(folder.resolve().name if below == "." else below)


def samples_by_table(folder: Path, table: Path) -> list[Sample]:
    """The files that a CSV names, relative to ``folder``.

    Columns file,pitch[,velocity,instrument,family,tags], in any order.
    ``pitch`` is a MIDI number or a note's name. Raises DarkrackError with the line of what cannot be.
    """
    samples: list[Sample] = []
    try:
        with table.open(
            encoding="utf-8-sig", newline=""
        ) as source:  # spreadsheets begin with a byte order mark
            reader = csv.DictReader(source, strict=True)
            columns = reader.fieldnames or []
            for name in columns:
                if name not in _COLUMNS:
                    raise DarkrackError(f"{table}, line 1", "the columns " + ",".join(_COLUMNS), repr(name))
            for name in _COLUMNS[:2]:
                if name not in columns:
                    raise DarkrackError(
                        f"{table}, line 1", f"a column {name}", ",".join(columns) or "an empty file"
                    )
            for row in reader:
                where = f"{table}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DarkrackError(where, f"{len(columns)} fields", "another number")
                samples.append(_row({name: text.strip() for name, text in row.items()}, folder, where))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DarkrackError(str(table), "a table of samples (CSV, UTF-8)", str(error)) from error
    if not samples:
        raise DarkrackError(str(table), "at least one sample", "none")
    return samples


def _row(row: dict[str, str], folder: Path, where: str) -> Sample:
    file = folder / row["file"]
    if not row["file"] or not file.is_file():
        raise DarkrackError(where, f"a file in {folder}", repr(row["file"]))
    pitch = int(row["pitch"]) if re.fullmatch(r"\d{1,3}", row["pitch"]) else note_number(row["pitch"])
    if pitch is None or pitch > 127:
        raise DarkrackError(where, "pitch as 0 to 127 or as in C4, Bb2", repr(row["pitch"]))
    velocity = row.get("velocity") or str(VELOCITY)
    if not re.fullmatch(r"\d{1,3}", velocity) or not 1 <= int(velocity) <= 127:
        raise DarkrackError(where, "velocity of 1 to 127", repr(velocity))
    return Sample(
        file=file,
        pitch=pitch,
        velocity=int(velocity),
        instrument_str=slug(row["instrument"]) if row.get("instrument") else slug(file.parent.resolve().name),
        family=row.get("family") or "unknown",
        tags=" ".join(row.get("tags", "").split()),
    )


def instruments(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples by instrument_str, each list by pitch, velocity and file."""
    by: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by[sample.instrument_str].append(sample)
    return {
        name: sorted(of, key=lambda s: (s.pitch, s.velocity, str(s.file))) for name, of in sorted(by.items())
    }


def key(samples: Sequence[Sample]) -> str:
    """SHA-256 that changes when a file is replaced or understood otherwise."""
    digest = hashlib.sha256()
    for sample in samples:
        stat = os.stat(sample.file)
        digest.update(
            repr((dataclasses.astuple(sample)[1:], sample.file.name, stat.st_size, stat.st_mtime_ns)).encode()
        )
    return digest.hexdigest()


def takes(samples: Sequence[Sample]) -> Iterator[Take]:
    """Read the samples: mean of the channels, at SAMPLE_RATE_HZ, without the silence before the onset."""
    for sample in samples:
        yield Take(sample.pitch, sample.velocity, _from_onset(read_sample(sample.file)), sample.tags)


def read_sample(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The first LONGEST_S of a file of any format that libsndfile reads: float64, mono, SAMPLE_RATE_HZ.

    Raises DarkrackError where it is no audio, empty, or holds what is no number.
    """
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as source:
            rate_hz = source.samplerate
            audio = source.read(round(LONGEST_S * rate_hz), dtype="float64", always_2d=True).mean(axis=1)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DarkrackError(str(path), "audio that libsndfile reads", str(error)) from error
    if not len(audio):
        raise DarkrackError(str(path), "audio", "an empty file")
    if not np.isfinite(audio).all():
        raise DarkrackError(str(path), "finite samples", "infinity or what is not a number")
    return np.asarray(soxr.resample(audio, rate_hz, SAMPLE_RATE_HZ, quality="VHQ"))


def _from_onset(
    audio: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Begin ONSET_FADE_S before the level first reaches ONSET_DB under the peak, faded in."""
    level = np.abs(audio)
    fade = round(ONSET_FADE_S * SAMPLE_RATE_HZ)
    onset = int(np.argmax(level >= level.max() * 10 ** (ONSET_DB / 20)))
    if onset <= fade:
        return audio
    out = audio[onset - fade :].copy()
    out[:fade] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(fade) / fade)
    return out
