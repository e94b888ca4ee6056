"""The command `darkrack data`: a data set of notes from a SoundFont, from a folder of samples or from NSynth.

A set is made part by part, several at a time in processes of their own: one instrument a part, of NSynth so
many notes as they come. A finished part is two files, `audio/NAME.flac` and then `parts/NAME.json`; `set.json`
says what the whole is made from. So a run that was stopped goes on where it was and never mixes two ways of
making notes. `notes.csv` is written when all parts stand.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import multiprocessing
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import check_space, read_bytes, sha256_of, write_audio, write_json
from device.machine import usable_cores
from train import folder as own
from train import nsynth, pitch, soundfont
from train.notes import CHECKS, SAMPLE_RATE_HZ, Instrument, Note, Take, note_name, write_notes

FORMAT = 1  # raised when parts that older code made must not be kept
# What is quieter at the end is cut: 20 dB under the -80 dBFS that teachers were seen to hear. The step of 24
# bits lies at -138 dBFS; the one of 16 bits (-90 dBFS) would be heard in quiet notes once their level is
# normalised.
TRIM_DB = -100.0
SUBTYPE = "PCM_24"
FLAC_BYTES_A_SAMPLE = 1.6  # of PCM_24: 1.25 and 1.28 over 5,772 and 8,325 notes of FluidR3, and room to spare
FADE_S = 0.005
NAMED = 12  # instruments named for each check in the summary
SHARD = 256  # notes of NSynth in a part: 18 MB on their way to the process that makes it


@dataclasses.dataclass(frozen=True)
class Part:
    """Some notes still to be made, mostly one instrument; pickled into the process that makes them.

    ``name`` is that of its files; ``takes`` makes its ``count`` notes, ``instrument`` plays those that do not
    bring their own. ``key`` changes when it has to be made again though the set's recipe is the same. ``seconds``:
    of all its notes together, at most.
    """

    name: str
    instrument: Instrument
    count: int
    takes: Callable[[], Iterator[Take]]
    key: str = ""
    sample_rate_hz: int = SAMPLE_RATE_HZ
    subtype: str = SUBTYPE
    seconds: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three subcommands and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="soundfont|folder|nsynth")
    line = "render the programs of a SoundFont with fluidsynth; more programs may be added to a set later"
    font = kinds.add_parser("soundfont", help=line, description=line)
    font.add_argument("font", type=Path, help="the SoundFont (.sf2)")
    font.add_argument(
        "--programs", default="0-95", help="General MIDI programs from 0, as in 0-95,108 (%(default)s)"
    )
    font.add_argument("--pitches", default="36-84:2", help="MIDI notes, first-last:step (%(default)s)")
    font.add_argument("--velocities", default="60,90,120", help="MIDI velocities (%(default)s)")
    font.add_argument("--hold-s", type=float, default=1.6, help="seconds that the key is held (%(default)s)")
    font.add_argument(
        "--tail-s", type=float, default=0.4, help="seconds kept after it is let go (%(default)s)"
    )
    line = (
        "gather your own samples, one folder an instrument; a file's name holds the pitch (C4, Bb2, midi60, "
        "_060_ or as NSynth does) or a table does; silence at both ends is cut, and what lies after "
        f"{own.LONGEST_S:g} s"
    )
    folder = kinds.add_parser("folder", help="gather your own samples", description=line)
    folder.add_argument("folder", type=Path, help="the folder with the samples, folders inside it included")
    folder.add_argument(
        "--table",
        type=Path,
        metavar="CSV",
        help="file,pitch[,velocity,instrument,family,tags] instead of file names",
    )
    line = (
        "take NSynth as published; archives are read in one pass and not unpacked; more of them may be added to a "
        "set later"
    )
    published = kinds.add_parser("nsynth", help="take NSynth as published", description=line)
    published.add_argument(
        "source",
        type=Path,
        nargs="+",
        help="nsynth-train.jsonwav.tar.gz, a .tar, or a folder unpacked from one",
    )
    published.add_argument(
        "--pitches", default="44-69", help="MIDI notes, first-last:step (%(default)s, as DarkGAN)"
    )
    published.add_argument(
        "--seconds", type=float, default=1.1,
        help="kept of each of the 4 s (%(default)s: the first second, as DarkGAN, and what the last frame's window "
        "reaches past it)",
    )  # fmt: skip
    published.add_argument("--sources", default=",".join(nsynth.SOURCES), help="which of %(default)s (all)")
    published.add_argument("--families", default=",".join(nsynth.FAMILIES), help="which of %(default)s (all)")
    published.add_argument(
        "--split", choices=nsynth.SPLITS, default=nsynth.SPLITS[0],
        help="what is held out: instrument (as in every set: one instrument in ten, one note in twenty), paper (one "
        "note in ten, as DarkGAN), published (valid and test) (%(default)s)",
    )  # fmt: skip
    for kind in (font, folder, published):
        kind.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="the data set to write or to go on with"
        )
        kind.add_argument("--jobs", type=int, default=usable_cores(), help="processes (one a core)")
        kind.add_argument(
            "--json", type=Path, metavar="FILE", help="write the checks and the time taken to FILE"
        )


def run(args: argparse.Namespace) -> None:
    """Make the set; print and, where asked, write what its notes were found to sound like."""
    if args.jobs < 1:
        raise DarkrackError("--jobs", "1 or more", str(args.jobs))
    started_s = time.monotonic()
    notes, made = {"soundfont": _soundfont, "folder": _folder, "nsynth": _nsynth}[args.kind](args)
    took_s = time.monotonic() - started_s
    checks = {
        check: Counter(note.instrument_str for note in notes if note.check == check) for check in CHECKS
    }
    instruments = len({note.instrument_str for note in notes})
    print(f"{len(notes)} notes of {instruments} instruments; {made} made in {took_s:.0f} s")
    print(_table(checks))
    if args.json:
        write_json(
            args.json, {"notes": len(notes), "made": made, "seconds": round(took_s, 2), "checks": checks}
        )


def _soundfont(args: argparse.Namespace) -> tuple[list[Note], int]:
    soundfont.fluidsynth_path()
    presets = {preset.program: preset for preset in soundfont.read_presets(args.font) if preset.bank == 0}
    programs = numbers(args.programs, "--programs", 0, 127)
    for program in programs:
        if program not in presets:
            raise DarkrackError(
                "--programs", f"programs in bank 0 of {args.font}", str(program), "leave it out"
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
    parts = [
        Part(
            name := soundfont.instrument_name(args.font, presets[program]),
            Instrument(name, *soundfont.family(program)),
            count=len(keys.pitches) * len(keys.velocities),
            takes=functools.partial(soundfont.render, args.font, program, keys),
            seconds=len(keys.pitches) * len(keys.velocities) * (args.hold_s + args.tail_s),
        )
        for program in programs
    ]
    recipe = {"kind": args.kind, "font": args.font.name, "font_sha256": sha256_of(args.font)}
    return make_set(args.out, recipe | dataclasses.asdict(keys), parts, args.jobs)


def _folder(args: argparse.Namespace) -> tuple[list[Note], int]:
    if args.out.resolve().is_relative_to(args.folder.resolve()):
        raise DarkrackError(
            "--out", f"a folder outside {args.folder}", str(args.out), "its files would be samples too"
        )
    samples = (
        own.samples_by_table(args.folder, args.table) if args.table else own.samples_by_name(args.folder)
    )
    parts = [
        Part(
            name,
            Instrument(name, of[0].family, of[0].source),
            len(of),
            functools.partial(own.takes, of),
            own.key(of),
            seconds=sum(map(own.seconds, of)),
        )
        for name, of in own.instruments(samples).items()
    ]
    recipe = {"kind": args.kind, "folder": args.folder.resolve().name}
    return make_set(args.out, recipe, parts, args.jobs, only_these=True)


def _nsynth(args: argparse.Namespace) -> tuple[list[Note], int]:
    from tqdm import tqdm

    if not 0.1 <= args.seconds <= nsynth.SAMPLES / nsynth.SAMPLE_RATE_HZ:
        raise DarkrackError("--seconds", "0.1 to 4", f"{args.seconds:g}")
    choice = nsynth.Choice(
        pitches=numbers(args.pitches, "--pitches", 0, 127),
        seconds=args.seconds,
        sources=_words(args.sources, "--sources", nsynth.SOURCES),
        families=_words(args.families, "--families", nsynth.FAMILIES),
        split=args.split,
    )
    sources = [nsynth.find(path) for path in args.source]
    finished = _finished(args.out)
    done = {note.note_str for notes in finished.values() for note in notes}
    kept = len(done)
    missing = sum(source.notes(choice) for source in sources) - kept
    needed_bytes = missing * choice.seconds * nsynth.SAMPLE_RATE_HZ * nsynth.FLAC_BYTES_A_SAMPLE
    check_space(args.out, needed_bytes, "choose another disk, or fewer --pitches, --families or --seconds")
    _claim(args.out / "set.json", {"kind": args.kind, **dataclasses.asdict(choice)})
    tags: dict[str, str] = {}
    with tqdm(
        total=sum(source.size_bytes for source in sources), unit="B", unit_scale=True, disable=None
    ) as bar:
        found = (nsynth.takes(source, choice, done, tags, bar.update) for source in sources)
        made = 0

        def count(part: Part) -> None:
            nonlocal made
            made += part.count
            bar.set_postfix(notes=kept + made)

        _finish_all(args.out, _shards(itertools.chain.from_iterable(found), finished), args.jobs, count)
    _tag(args.out, tags)
    return _gathered(args.out), made


def _words(text: str, option: str, known: Sequence[str]) -> tuple[str, ...]:
    """The words that ``text`` names, each once and in the order of ``known``; DarkrackError for any other."""
    named = {word.strip() for word in text.split(",")}
    for word in sorted(named.difference(known)):
        raise DarkrackError(option, "some of " + ",".join(known), repr(word))
    return tuple(word for word in known if word in named)


def _shards(takes: Iterator[Take], finished: Container[str]) -> Iterator[Part]:
    """Parts of SHARD notes as they come, under names that are free; an error comes after the notes before it."""
    names = (name for number in itertools.count() if (name := f"nsynth_{number:05d}") not in finished)
    failed: DarkrackError | None = None
    while not failed:
        batch: list[Take] = []
        try:
            for take in itertools.islice(takes, SHARD):
                batch.append(take)
        except DarkrackError as error:
            failed = error
        if batch:
            several = Instrument("several", "unknown", "unknown")
            read = functools.partial(iter, batch)
            yield Part(next(names), several, len(batch), read, "", nsynth.SAMPLE_RATE_HZ, "PCM_16")
        elif not failed:
            return
    raise failed


def _tag(out: Path, tags: Mapping[str, str]) -> None:
    """Write the ``tags`` of notes (by note_str) into the finished parts that hold them."""
    for name, notes in _finished(out).items():
        tagged = [dataclasses.replace(note, tags=tags.get(note.note_str, note.tags)) for note in notes]
        if tagged != notes:
            _write_part(out, name, "", tagged)


def numbers(text: str, option: str, low: int, high: int) -> tuple[int, ...]:
    """The integers that ``text`` names, ascending, each once: "0-7,12,36-84:2" (a range includes its end).

    Raises DarkrackError, naming ``option``, for anything else and for numbers outside ``low`` to ``high``.
    """
    found: set[int] = set()
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3})(?::(\d{1,3}))?)?\s*", piece, re.ASCII)
        if match:
            first = int(match[1])
            last = int(match[2] or first)
            step = int(match[3] or 1)
        if not match or step < 1 or not low <= first <= last <= high:
            raise DarkrackError(option, f"numbers of {low} to {high}, as in 36,48-60:2", repr(piece))
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def make_set(
    out: Path, recipe: Mapping[str, Any], parts: Sequence[Part], jobs: int, only_these: bool = False
) -> tuple[list[Note], int]:
    """Make the parts that are not there yet, then notes.csv from all; returns its notes and how many are new.

    ``recipe`` is all that must be the same for every note of the set: DarkrackError where ``out`` was begun
    with another, and where the disk has no room. With ``only_these``, parts that are there but not asked for are
    deleted.
    """
    from tqdm import tqdm

    todo = [part for part in parts if not _is_finished(out, part)]
    check_space(out, sum(part.seconds * part.sample_rate_hz for part in todo) * FLAC_BYTES_A_SAMPLE)
    _claim(out / "set.json", recipe)
    made = sum(part.count for part in todo)
    total = sum(part.count for part in parts)
    with tqdm(total=total, initial=total - made, unit="note", disable=None) as bar:
        _finish_all(out, todo, min(jobs, len(todo)), lambda part: bar.update(part.count))
    if only_these:
        for name in _finished(out).keys() - {part.name for part in parts}:
            (out / "parts" / f"{name}.json").unlink()
            (out / "audio" / f"{name}.flac").unlink(missing_ok=True)
    return _gathered(out), made


def _finished(out: Path) -> dict[str, list[Note]]:
    """The notes of each finished part by its name, ascending."""
    paths = sorted((out / "parts").glob("[!.]*.json"))
    return {path.stem: [Note(**note) for note in _read_json(path)["notes"]] for path in paths}


def _gathered(out: Path) -> list[Note]:
    """Write notes.csv from the finished parts; its notes."""
    notes = [note for of in _finished(out).values() for note in of]
    write_notes(out, notes)
    return notes


def _claim(path: Path, recipe: Mapping[str, Any]) -> None:
    """Write the set's recipe, or hold it against the one that is there."""
    wanted = json.loads(json.dumps({**recipe, "format": FORMAT}))  # tuples become lists, as in the file
    if not path.exists():
        write_json(path, wanted)
        return
    there = _read_json(path)
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            hint = "choose another --out, or delete this one"
            raise DarkrackError(
                str(path), f"{name} = {there.get(name)}, as this set was begun", f"{wanted.get(name)}", hint
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path, "a file of this data set"))
    except ValueError as error:
        raise DarkrackError(
            str(path), "JSON that darkrack wrote", str(error), "delete it and run again"
        ) from error
    if not isinstance(content, dict):
        raise DarkrackError(
            str(path), "JSON that darkrack wrote", "something else", "delete it and run again"
        )
    return content


def _is_finished(out: Path, part: Part) -> bool:
    path = out / "parts" / f"{part.name}.json"
    return path.exists() and bool(_read_json(path).get("key") == part.key)


def _finish_all(out: Path, parts: Iterable[Part], jobs: int, done: Callable[[Part], object]) -> None:
    """Finish every part, ``jobs`` at a time; on Ctrl-C or an error those in work are finished, no others."""
    if jobs <= 1:
        for part in parts:
            finish(out, part)
            done(part)
        return
    waiting = iter(parts)
    spawn = multiprocessing.get_context(
        "spawn"
    )  # a fork of a process with threads may hang, and tqdm has one
    with concurrent.futures.ProcessPoolExecutor(jobs, spawn, _ignore_interrupt) as pool:
        # No more than are worked on: what lies in the pool's own queue cannot be called back.
        working = {pool.submit(finish, out, part): part for part in itertools.islice(waiting, jobs)}
        try:
            while working:
                for future in concurrent.futures.wait(working, return_when="FIRST_COMPLETED").done:
                    future.result()
                    done(working.pop(future))
                    working |= {pool.submit(finish, out, part): part for part in itertools.islice(waiting, 1)}
        except concurrent.futures.process.BrokenProcessPool as error:
            hint = "it may be short of memory: try --jobs 1"
            raise DarkrackError(
                "darkrack data", "processes that end by themselves", "one that was killed", hint
            ) from error


def _ignore_interrupt() -> None:
    """Ctrl-C reaches all processes of a terminal; only the first shall act. fluidsynth inherits this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def finish(out: Path, part: Part) -> None:
    """Make one part: notes trimmed and measured, all in one FLAC; then the list that says it is finished."""
    file = out / "audio" / f"{part.name}.flac"
    notes: list[Note] = []
    audio: list[npt.NDArray[np.float64]] = []
    same_name: Counter[str] = Counter()
    for take in part.takes():
        sound = trimmed(take.audio, part.sample_rate_hz)
        heard = pitch.measure(sound, part.sample_rate_hz, take.pitch)
        instrument = take.instrument or part.instrument
        note_str = note_name(instrument.instrument_str, take.pitch, take.velocity)
        same_name[note_str] += 1
        if same_name[note_str] > 1:  # samplers alternate between several recordings of a note
            note_str += f"-{same_name[note_str]}"
        notes.append(
            Note(
                note_str=note_str,
                instrument_str=instrument.instrument_str,
                instrument_family_str=instrument.family,
                instrument_source_str=instrument.source,
                pitch=take.pitch,
                velocity=take.velocity,
                sample_rate=part.sample_rate_hz,
                file=file.relative_to(out).as_posix(),
                start=sum(map(len, audio)),
                samples=len(sound),
                f0_hz=heard.f0_hz,
                cents=heard.cents,
                check=heard.check,
                tags=take.tags,
                part=take.part,
            )
        )
        audio.append(sound)
    whole = np.concatenate(audio)
    # Over full scale the instrument is turned down as a whole, so that its velocities keep their distance.
    whole /= max(1.0, float(np.max(np.abs(whole))))
    write_audio(file, whole, part.sample_rate_hz, part.subtype)
    _write_part(out, part.name, part.key, notes)


def _write_part(out: Path, name: str, key: str, notes: Sequence[Note]) -> None:
    content = {"key": key, "notes": [dataclasses.asdict(note) for note in notes]}
    write_json(out / "parts" / f"{name}.json", content)


def trimmed(audio: npt.NDArray[np.floating], sample_rate_hz: int = SAMPLE_RATE_HZ) -> npt.NDArray[np.float64]:
    """The note without the silence at its end, at least a sample, faded out over FADE_S."""
    loud = np.flatnonzero(np.abs(audio) > 10 ** (TRIM_DB / 20))
    end = int(loud[-1]) + 1 if len(loud) else 1
    out = audio[:end].astype(np.float64)
    fade = min(round(FADE_S * sample_rate_hz), end)
    out[end - fade :] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, fade + 1) / fade)
    return out


def _table(checks: Mapping[str, Counter[str]]) -> str:
    """How many notes of each check; for all but ok the instruments concerned, most first."""
    lines = []
    for check, by in checks.items():
        if by:
            lines.append(f"{check:<10}{by.total():>7}")
        if check != "ok":
            lines += [f"{count:>17}  {name}" for name, count in by.most_common(NAMED)]
            if len(by) > NAMED:
                lines.append(f"{'':>17}  and {len(by) - NAMED} more instruments")
    return "\n".join(lines)
