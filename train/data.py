"""The command `darkrack data`: a data set of notes from a SoundFont or from a folder of samples.

A set is made part by part, one instrument a part, several at a time in processes of their own. A finished part
is two files, `audio/NAME.flac` and then `parts/NAME.json`; `set.json` says what the whole was made from. So a run that
was stopped goes on where it was, and never mixes two ways of rendering. `notes.csv` is written when all parts stand.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import re
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import atomic_path, sha256_of, write_json
from train import pitch as pitch_finder
from train import soundfont
from train.notes import CHECKS, Note, note_name, write_notes

FORMAT = 1  # raised when parts made by older code must not be kept
SAMPLE_RATE_HZ = soundfont.SAMPLE_RATE_HZ
# What is quieter at the end is cut: 20 dB under what the teachers were seen to hear (-80 dBFS). The step of 24 bits
# lies at -138 dBFS; 16 bits (-90 dBFS) would put their floor into the quietest notes.
TRIM_DB = -100.0
SUBTYPE = "PCM_24"
FADE_S = 0.005


@dataclasses.dataclass(frozen=True)
class Take:
    """One recorded or rendered note: MIDI ``pitch`` and ``velocity``, ``audio`` mono at SAMPLE_RATE_HZ."""

    pitch: int
    velocity: int
    audio: npt.NDArray[np.float64]
    tags: str = ""


class Part(Protocol):
    """One instrument's notes, still to be made; pickled into the process that makes them."""

    @property
    def instrument_str(self) -> str:
        """Its name, also the name of its files."""

    @property
    def family_and_source(self) -> tuple[str, str]:
        """instrument_family_str and instrument_source_str."""

    @property
    def key(self) -> str:
        """Changes when the part must be made again though the set's options are the same."""

    @property
    def count(self) -> int:
        """How many notes it will hold."""

    def takes(self) -> Iterator[Take]:
        """Make the notes."""


@dataclasses.dataclass(frozen=True)
class ProgramPart:
    """One program of a SoundFont."""

    font: Path
    preset: soundfont.Preset
    keys: soundfont.Keys
    key: str = ""

    @property
    def instrument_str(self) -> str:
        """As in ``fluidr3_000_yamaha_grand_piano``."""
        return soundfont.instrument_name(self.font, self.preset)

    @property
    def family_and_source(self) -> tuple[str, str]:
        """By General MIDI program number."""
        return soundfont.family(self.preset.program)

    @property
    def count(self) -> int:
        """Pitches times velocities."""
        return len(self.keys.pitches) * len(self.keys.velocities)

    def takes(self) -> Iterator[Take]:
        """Rendered by fluidsynth."""
        for pitch, velocity, audio in soundfont.render(self.font, self.preset.program, self.keys):
            yield Take(pitch, velocity, audio)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two subcommands and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="soundfont|folder")
    font = kinds.add_parser("soundfont", help="render a SoundFont's programs with fluidsynth")
    font.add_argument("font", type=Path, help="the SoundFont (.sf2)")
    font.add_argument(
        "--programs",
        default="0-95",
        help="General MIDI programs from 0, as in 0-95,108 (default %(default)s)",
    )
    font.add_argument(
        "--pitches", default="36-84:2", help="MIDI notes, first-last:step (default %(default)s)"
    )
    font.add_argument("--velocities", default="60,90,120", help="MIDI velocities (default %(default)s)")
    font.add_argument(
        "--hold-s", type=float, default=1.6, help="seconds that the key is held (default %(default)s)"
    )
    font.add_argument(
        "--tail-s", type=float, default=0.4, help="seconds kept after it is let go (default %(default)s)"
    )
    for kind in (font,):
        kind.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="the data set to write, or to go on with"
        )
        kind.add_argument(
            "--jobs",
            type=int,
            default=os.cpu_count() or 1,
            help="instruments at a time (default: one a core)",
        )


def run(args: argparse.Namespace) -> None:
    """Make the set, print what the notes were found to sound like."""
    if args.jobs < 1:
        raise DarkrackError("--jobs", "1 or more", str(args.jobs))
    _soundfont(args)


def _soundfont(args: argparse.Namespace) -> None:
    soundfont.fluidsynth_path()
    presets = {preset.program: preset for preset in soundfont.read_presets(args.font) if preset.bank == 0}
    programs = numbers(args.programs, "--programs", 0, 127)
    for program in programs:
        if program not in presets:
            raise DarkrackError(
                "--programs", f"a program in bank 0 of {args.font.name}", f"{program}", "leave it out"
            )
    for option, seconds in (("--hold-s", args.hold_s), ("--tail-s", args.tail_s)):
        if not 0.01 <= seconds <= 60.0:
            raise DarkrackError(option, "0.01 to 60 seconds", f"{seconds:g}")
    keys = soundfont.Keys(
        pitches=numbers(args.pitches, "--pitches", 0, 127),
        velocities=numbers(args.velocities, "--velocities", 1, 127),
        hold_ms=round(args.hold_s * 1000),
        tail_ms=round(args.tail_s * 1000),
    )
    recipe = {"kind": "soundfont", "font": args.font.name, "font_sha256": sha256_of(args.font)}
    recipe |= {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(keys).items()}
    make_set(
        args.out, recipe, [ProgramPart(args.font, presets[program], keys) for program in programs], args.jobs
    )


def numbers(text: str, option: str, low: int, high: int) -> tuple[int, ...]:
    """The integers that ``text`` names, ascending, each once: "0-7,12,36-84:2" (a range includes its end).

    Raises DarkrackError, naming ``option``, for anything else and for numbers outside low..high.
    """
    found: set[int] = set()
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3})(?::(\d{1,3}))?)?\s*", piece)
        first, last, step = (
            (int(group or fallback) for group, fallback in zip(match.groups(), (0, 0, 1), strict=True))
            if match
            else (0, 0, 0)
        )
        if match and match[2] is None:
            last = first
        if not match or step < 1 or not low <= first <= last <= high:
            raise DarkrackError(option, f"numbers of {low} to {high}, as in 36,48-60:2", repr(piece.strip()))
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def make_set(folder: Path, recipe: dict[str, Any], parts: Sequence[Part], jobs: int) -> None:
    """Make the parts that are not there yet, then notes.csv from all that are, and print the summary.

    ``recipe`` is everything that must be the same for all notes of the set: DarkrackError where the folder was
    begun with another.
    """
    from tqdm import tqdm

    _claim(folder, recipe | {"format": FORMAT})
    todo = [part for part in parts if _finished(folder, part) is None]
    with tqdm(total=sum(part.count for part in parts), unit="note", disable=None) as bar:
        bar.update(sum(part.count for part in parts if part not in todo))
        _each(todo, folder, jobs, lambda part: bar.update(part.count))
    notes: list[Note] = []
    for path in sorted((folder / "parts").glob("*.json")):
        notes += [Note(**note) for note in json.loads(path.read_text(encoding="utf-8"))["notes"]]
    write_notes(folder, notes)
    print(summary(notes))


def _claim(folder: Path, recipe: dict[str, Any]) -> None:
    """Write set.json, or hold it against what is there."""
    path = folder / "set.json"
    if not path.exists():
        write_json(path, recipe)
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    for name in sorted(recipe.keys() | there.keys()):
        if recipe.get(name) != there.get(name):
            raise DarkrackError(
                str(path),
                f"{name} as this set was begun with: {there.get(name)}",
                f"{recipe.get(name)}",
                "choose another --out, or delete this one",
            )


def _finished(folder: Path, part: Part) -> list[Note] | None:
    """The notes of a part that is there and up to date."""
    path = folder / "parts" / f"{part.instrument_str}.json"
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return [Note(**note) for note in there["notes"]] if there["key"] == part.key else None


def _each(parts: Sequence[Part], folder: Path, jobs: int, done: Callable[[Part], object]) -> None:
    """Finish every part, ``jobs`` at a time; Ctrl-C lets those in work finish and drops the rest."""
    if jobs == 1 or len(parts) <= 1:
        for part in parts:
            finish(folder, part)
            done(part)
        return
    # spawn: a fork of a process with threads (tqdm has one) may hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        min(jobs, len(parts)), context, initializer=_ignore_interrupt
    ) as pool:
        futures = {pool.submit(finish, folder, part): part for part in parts}
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                done(futures[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def finish(folder: Path, part: Part) -> None:
    """Make one part: its notes trimmed, measured, in one FLAC; then the list that says it is finished."""
    import soundfile

    name = part.instrument_str
    family, source = part.family_and_source
    notes: list[Note] = []
    audio: list[npt.NDArray[np.float64]] = []
    start = 0
    for take in part.takes():
        sound = trimmed(take.audio)
        heard = pitch_finder.measure(sound, SAMPLE_RATE_HZ, take.pitch)
        notes.append(
            Note(
                note_str=note_name(name, take.pitch, take.velocity),
                instrument_str=name,
                instrument_family_str=family,
                instrument_source_str=source,
                pitch=take.pitch,
                velocity=take.velocity,
                sample_rate=SAMPLE_RATE_HZ,
                file=f"audio/{name}.flac",
                start=start,
                samples=len(sound),
                f0_hz=heard.f0_hz,
                cents=heard.cents,
                check=heard.check,
                tags=take.tags,
            )
        )
        audio.append(sound)
        start += len(sound)
    whole = np.concatenate(audio)
    peak = float(np.max(np.abs(whole)))
    if peak > 1.0:
        whole /= peak  # the instrument as a whole, so that its velocities keep their distance
    with atomic_path(folder / "audio" / f"{name}.flac") as temporary:
        soundfile.write(temporary, whole, SAMPLE_RATE_HZ, subtype=SUBTYPE)
    write_json(
        folder / "parts" / f"{name}.json", {"key": part.key, "notes": [dataclasses.asdict(n) for n in notes]}
    )


def trimmed(audio: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The note without the silence at its end, faded out over FADE_S; the start stays where it is, at least one sample."""
    loud = np.flatnonzero(np.abs(audio) > 10 ** (TRIM_DB / 20))
    end = int(loud[-1]) + 1 if len(loud) else 1
    out = audio[:end].copy()
    fade = min(round(FADE_S * SAMPLE_RATE_HZ), end)
    out[end - fade :] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, fade + 1) / fade)
    return out


def summary(notes: Sequence[Note]) -> str:
    """How many notes of each check, and for all but ok the instruments concerned, most first."""
    lines = [f"{len(notes)} notes of {len({note.instrument_str for note in notes})} instruments"]
    for check in CHECKS:
        by: dict[str, int] = defaultdict(int)
        for note in notes:
            if note.check == check:
                by[note.instrument_str] += 1
        if by:
            lines.append(f"{check:<10}{sum(by.values()):>6}")
            if check != "ok":
                lines += [
                    f"{count:>16}  {name}"
                    for name, count in sorted(by.items(), key=lambda item: (-item[1], item[0]))
                ]
    return "\n".join(lines)
