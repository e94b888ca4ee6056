"""NSynth as published: its notes one by one out of the tar archives, which are never unpacked, or out of folders.

Engel et al., "Neural audio synthesis of musical notes with WaveNet autoencoders", ICML 2017: 305,979 notes in
nsynth-train (289,205), nsynth-valid (12,678) and nsynth-test (4,096), each an archive of `nsynth-X/examples.json`
and `nsynth-X/audio/NAME.wav`. No instrument of train plays in valid or test.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import functools
import gzip
import io
import json
import re
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from train.notes import Take, held_out_note, note_name, parse_note_name

SAMPLE_RATE_HZ = 16_000
SAMPLES = 64_000  # 4 s: the key is held for three
SOURCES = ("acoustic", "electronic", "synthetic")
FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip
SPLITS = ("instrument", "paper", "published")

# Bytes that a note takes in an archive: all three .tar.gz together 25,233,566,634 for 305,979 notes; in a .tar
# a header of 512, then 44 + 128,000 of WAV, padded to the next multiple of 512.
GZIP_BYTES, TAR_BYTES, WAV_BYTES = 82_468, 512 + 128_512, 128_044
KEYS = 88  # NSynth plays MIDI 21 to 108; most instruments have most of them
FLAC_BYTES_A_SAMPLE = 1.2  # 1.11 measured on the first 1.1 s of 60 real notes, and room to spare

_PUBLISHED = re.compile(r"nsynth-(train|valid|test)(?![a-z])")
_AGAIN = "download it again; what was done so far is kept"

# One pair of the object in examples.json: what stands before it, and its name. An entry is about 600 bytes.
_PAIR = re.compile(r'\s*([{,])\s*("(?:[^"\\]|\\.){1,200}")\s*:\s*')
_LONGEST_ENTRY = 1 << 16
_CHUNK = 1 << 20
_LONGEST_WAV = 4 * WAV_BYTES  # whatever is longer is none of NSynth's


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which notes are taken, by MIDI pitch, source and family; how many seconds of each; which split they get."""

    pitches: tuple[int, ...]
    seconds: float
    sources: tuple[str, ...]
    families: tuple[str, ...]
    split: str

    def takes(self, pitch: int, source: str, family: str) -> bool:
        """Whether such a note is one of them."""
        return pitch in self.pitches and source in self.sources and family in self.families

    def part(self, note_str: str, published: str | None) -> str:
        """What the note is for, as in notes.csv; ``published`` is train, valid or test.

        ``instrument``: empty, so `train.notes.split` goes by the names. ``paper``: one note in ten unseen,
        whatever plays it (DarkGAN, section 4: 90/10). ``published``: the instruments of valid and test unseen,
        and one note in twenty of train.
        """
        if self.split == "instrument":
            return ""
        if self.split == "paper":
            return held_out_note(note_str, 0.10)
        return held_out_note(note_str, 0.05) if published == "train" else "unseen_instruments"


@dataclasses.dataclass(frozen=True)
class Source:
    """An archive, zipped or not, or an unpacked folder with its ``wavs``.

    ``size_bytes`` is what reading it advances by.
    """

    path: Path
    size_bytes: int
    zipped: bool = False
    wavs: tuple[Path, ...] | None = None

    def notes(self, choice: Choice) -> float:
        """How many notes it may give: counted in a folder, guessed from the size of an archive."""
        if self.wavs is None:
            note_bytes = GZIP_BYTES if self.zipped else TAR_BYTES
            return self.size_bytes / note_bytes * min(len(choice.pitches) / KEYS, 1.0)
        names = [parse_note_name(path.stem) for path in self.wavs]
        return sum(choice.takes(name[1], name[0].source, name[0].family) for name in names if name)


def find(path: Path) -> Source:
    """What ``path`` is; DarkrackError where it is no file and no folder with examples.json and audio/*.wav."""
    expected = "an archive of NSynth (nsynth-train.jsonwav.tar.gz) or a folder as unpacked from it"
    if path.is_dir():
        wavs = tuple(sorted(path.glob("audio/[!.]*.wav")))
        if wavs and (path / "examples.json").is_file():
            return Source(path, len(wavs) * WAV_BYTES, wavs=wavs)
        lacking = "examples.json" if wavs else "audio/*.wav"
        hint = "give the folder itself, as in nsynth-train"
        raise DarkrackError(str(path), expected, f"a folder without {lacking}", hint)
    try:
        with path.open("rb") as archive:
            zipped = archive.read(2) == b"\x1f\x8b"
            return Source(path, archive.seek(0, io.SEEK_END), zipped)
    except OSError as error:
        raise DarkrackError(str(path), expected, error.strerror or str(error)) from error


def takes(
    source: Source,
    choice: Choice,
    done: set[str],
    tags: dict[str, str],
    advance: Callable[[int], object],
) -> Iterator[Take]:
    """The chosen notes of a source in its own order, in one pass; those ``done`` are passed over, others added to it.

    ``tags`` is filled with the qualities of every chosen note by its note_str, wherever examples.json comes in
    the archive: it is whole at the end of the iteration. ``advance`` is told bytes read. Raises DarkrackError,
    naming the member, for what is damaged, is not as published, or disagrees with examples.json.
    """
    listed: dict[str, str] = {}
    seen: set[str] = set()
    reading = str(source.path)
    try:
        for name, opened in _members(source, advance):
            reading = f"{source.path}: {name}"
            member = PurePosixPath(name)
            if member.name == "examples.json":
                with opened() as content:
                    listed |= _qualities(content, choice, reading)
            elif member.suffix == ".wav" and not member.name.startswith("."):  # as Macs leave beside files
                parsed = parse_note_name(member.stem)
                if parsed is None or max(parsed[1:]) > 127:
                    raise DarkrackError(reading, "a name as in bass_synthetic_033-022-050.wav", member.name)
                instrument, pitch, velocity = parsed
                if not choice.takes(pitch, instrument.source, instrument.family):
                    continue
                seen.add(member.stem)
                if member.stem in done:
                    continue
                published = _PUBLISHED.search(name) or _PUBLISHED.search(source.path.name)
                if choice.split == "published" and not published:
                    expected = "nsynth-train, nsynth-valid or nsynth-test as the folder"
                    raise DarkrackError(reading, expected, "another", "--split instrument needs none")
                part = choice.part(member.stem, published and published[1])
                with opened() as content:
                    audio = _decoded(content.read(_LONGEST_WAV), choice.seconds, reading)
                done.add(member.stem)
                yield Take(pitch, velocity, audio, instrument=instrument, part=part)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DarkrackError(reading, "a whole archive of NSynth", str(error), _AGAIN) from error
    tags |= listed
    for names, what in ((listed.keys() - seen, "audio"), (seen - listed.keys(), "an entry in examples.json")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise DarkrackError(
                str(source.path), f"{what} of every note", f"none of {min(names)}{more}", _AGAIN
            )


def _members(
    source: Source, advance: Callable[[int], object]
) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Path and opener of each file, in order; a member of an archive can be opened until the next is asked for."""
    if source.wavs is not None:
        top = source.path.resolve().name
        yield f"{top}/examples.json", functools.partial(_opened, source.path / "examples.json")
        for path in source.wavs:
            yield f"{top}/audio/{path.name}", functools.partial(_opened, path)
            advance(WAV_BYTES)
        return
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(source.path.open("rb"))
        # gzip and not tarfile's own decompression, which takes the end of a file that was cut short for its end.
        plain = stack.enter_context(gzip.open(raw)) if source.zipped else raw
        tar = stack.enter_context(tarfile.open(fileobj=plain, mode="r|", bufsize=_CHUNK))
        at = 0
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # or it keeps 300,000 of them
            if member.isfile():
                yield member.name, functools.partial(_extracted, tar, member)
            advance(raw.tell() - at)
            at = raw.tell()
        while plain.read(_CHUNK):  # to the end, where the checksum is
            pass


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None, "a regular file"
    return content


def _decoded(content: bytes, seconds: float, where: str) -> npt.NDArray[np.float32]:
    """The first ``seconds`` of a WAV; DarkrackError where it is not as all of NSynth's are."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as wav:
            facts = (wav.samplerate, wav.channels, wav.frames)
            audio: npt.NDArray[np.float32] = wav.read(round(seconds * SAMPLE_RATE_HZ), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise DarkrackError(where, "a WAV", str(error), _AGAIN) from error
    if facts != (SAMPLE_RATE_HZ, 1, SAMPLES):
        got = "{} Hz, {} channel(s), {} samples".format(*facts)
        raise DarkrackError(where, f"{SAMPLE_RATE_HZ} Hz, mono, {SAMPLES} samples, as all of NSynth", got)
    if not np.isfinite(audio).all():
        raise DarkrackError(where, "finite samples", "infinity or what is not a number")
    return audio


def _qualities(content: IO[bytes], choice: Choice, where: str) -> dict[str, str]:
    """The qualities of the chosen notes, words separated by spaces.

    Raises DarkrackError where an entry, chosen or not, contradicts its name.
    """
    found: dict[str, str] = {}
    for name, entry in entries(content, where):
        parsed = parse_note_name(name)
        if parsed is None:
            raise DarkrackError(where, "names as in bass_synthetic_033-022-050", repr(name))
        instrument, pitch, velocity = parsed
        facts = {
            "note_str": note_name(instrument.instrument_str, pitch, velocity),
            "instrument_str": instrument.instrument_str,
            "instrument_family_str": instrument.family,
            "instrument_source_str": instrument.source,
            "pitch": pitch,
            "velocity": velocity,
            "sample_rate": SAMPLE_RATE_HZ,
        }
        for field, value in facts.items():
            if entry.get(field) != value:
                raise DarkrackError(f"{where}, {name}", f"{field} {value}", repr(entry.get(field)))
        words = entry.get("qualities_str")
        if not isinstance(words, list) or not all(
            isinstance(word, str) and word.split() == [word] for word in words
        ):
            raise DarkrackError(f"{where}, {name}", "qualities_str as a list of words", repr(words))
        if choice.takes(pitch, instrument.source, instrument.family):
            found[name] = sys.intern(" ".join(words))
    return found


def entries(content: IO[bytes], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pairs of one JSON object of objects, one by one: that of nsynth-train would take a gigabyte as a whole.

    Raises DarkrackError, naming the last entry that could be read, where it is anything else.
    """
    text = codecs.getreader("utf-8")(content)  # io.TextIOWrapper asks more of a file than tarfile gives
    decoder = json.JSONDecoder()
    buffer, at, before, name = "", 0, "{", "its beginning"
    try:
        while True:
            if len(buffer) - at < _LONGEST_ENTRY:
                buffer, at = buffer[at:] + text.read(_CHUNK), 0
            pair = _PAIR.match(buffer, at)
            if not pair or pair[1] != before:
                break
            name, before = json.loads(pair[2]), ","
            entry, at = decoder.raw_decode(buffer, pair.end())
            if not isinstance(entry, dict):
                raise ValueError("an entry that is no object")
            yield name, entry
        if before == "{" or buffer[at:].strip() != "}" or text.read(1):
            raise ValueError("neither another entry nor the end")
    except (ValueError, RecursionError) as error:
        raise DarkrackError(
            where, "JSON: an object with an entry a note", f"{error}, after {name}", _AGAIN
        ) from error
