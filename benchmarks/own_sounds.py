"""`python -m benchmarks.own_sounds`: docs/your-own-sounds.md from a folder of WAVs to a bundle, every step timed.

The folder is made here, from a SoundFont: twelve programs, each note a file of its own, with a table that tags them.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import darkrack
from device.files import atomic_path, write_json
from device.machine import processor

# General MIDI programs and what one would write beside them.
TAGGED = {
    8: "struck metal",  # celesta
    11: "struck metal",  # vibraphone
    12: "struck wood",  # marimba
    14: "struck metal",  # tubular bells
    24: "plucked wood",  # nylon guitar
    42: "bowed wood",  # cello
    45: "plucked wood",  # pizzicato
    46: "plucked",  # harp
    73: "blown metal",  # flute
    75: "blown",  # pan flute
    107: "plucked wood",  # koto
    108: "plucked metal",  # kalimba
}


def write_samples(notes: Path, samples: Path) -> int:
    """Each note of a rendered set as a WAV of its own in ``samples``, and table.csv with their tags; how many."""
    import soundfile

    from train.notes import read_audio, read_notes

    samples.mkdir(parents=True)
    rows = []
    for note in read_notes(notes):
        program = int(note.instrument_str.split("_")[1])
        file = f"{note.note_str}.wav"
        audio = read_audio(notes, note, note.samples / note.sample_rate)
        soundfile.write(samples / file, audio, note.sample_rate, subtype="PCM_24")
        rows.append((file, note.pitch, note.velocity, note.instrument_str, TAGGED.get(program, "")))
    with atomic_path(samples / "table.csv") as temporary, temporary.open("w", newline="") as file_:
        writer = csv.writer(file_)
        writer.writerow(("file", "pitch", "velocity", "instrument", "tags"))
        writer.writerows(rows)
    return len(rows)


def steps(out: Path, recipe: Path, mn04: Path | None) -> list[tuple[str, list[str]]]:
    """What docs/your-own-sounds.md tells one to type, as titles and words after `darkrack`."""
    data, run, rack = str(out / "notes"), str(out / "run"), str(out / "mine.rack")
    samples, tags = out / "samples", f"tags={out / 'notes' / 'tags.json'}"
    hears = "mn04" if mn04 else "descriptors"
    weights = ["--weights", str(mn04)] if mn04 else []
    label = ["label", "--data", data]
    labels = [("Label: descriptors", [*label, "--teacher", "descriptors"])]
    if mn04:
        labels.append(("Label: mn04", [*label, "--teacher", "mn04", *weights]))
    return [
        ("Notes", ["data", "folder", str(samples), "--table", str(samples / "table.csv"), "--out", data]),
        *labels,
        ("Label: your words", [*label, "--teacher", "tags", "--hears", hears, *weights]),
        ("Train", ["train", str(recipe), "--data", data, "--run", run, "--ear", tags, "--threads", "1"]),
        ("Export", ["export", run, "--out", rack, "--name", "Mine"]),
        (
            "Judge",
            [
                "evaluate",
                rack,
                "--data",
                data,
                "--ear",
                tags,
                "--ear",
                "descriptors",
                "--quick",
                "--update-card",
            ],
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder, run the steps, print how long each took; exit status of the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_sounds", description=__doc__)
    parser.add_argument("font", type=Path, help="the SoundFont that the samples are made from (.sf2)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is not there")
    parser.add_argument("--mn04", type=Path, metavar="PATH", help="mn04's weights; without, descriptors hear")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/own.toml"))
    parser.add_argument("--pitches", default="36-84:2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    args = parser.parse_args(argv)
    programs = ",".join(map(str, TAGGED))
    words = ["data", "soundfont", str(args.font), "--out", str(args.out / "rendered"), "--programs", programs]
    status = darkrack.main([*words, "--pitches", args.pitches, "--velocities", "60,110"])
    if status:
        return status
    count = write_samples(args.out / "rendered", args.out / "samples")
    took: list[dict[str, str | float]] = []
    for title, line in steps(args.out, args.recipe, args.mn04):
        print(f"\ndarkrack {' '.join(line)}", flush=True)
        before = time.perf_counter()
        status = darkrack.main(line)
        if status:
            return status
        took.append({"step": title, "minutes": (time.perf_counter() - before) / 60})
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"\n{count} files; {machine}, {datetime.date.today().isoformat()}, load {os.getloadavg()[2]:.1f}\n")
    print("| step | minutes |\n|---|---|")
    for one in took:
        print(f"| {one['step']} | {one['minutes']:.1f} |")
    if args.json:
        write_json(args.json, {"files": count, "machine": machine, "steps": took})
    return 0


if __name__ == "__main__":
    sys.exit(main())
