"""`python -m benchmarks.nsynth_time`: how long docs/own-data.md takes, from the rates of this machine.

Real notes of NSynth are put into a folder as published, several times under other names, and go the way of the page:
made, labelled, encoded. The hours of a whole NSynth follow from these rates; those of training, which are a GPU's, from
the multiply-accumulates of the recipe's steps, counted on networks without values.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import command
from benchmarks.command import digits, said, table
from device.errors import DarkrackError
from device.files import write_json
from device.machine import usable_cores

if TYPE_CHECKING:
    from torch import Tensor

    from train.darkgan import Discriminator, Generator

NOTES = 90_000  # of NSynth at the paper's 26 pitches
TFLOPS = (
    10.0,
    50.0,
    100.0,
)  # sustained; a V100's float32 peak is 15, an A100's TF32 156, an H100's 494 (datasheets)


def as_published(notes: Path, out: Path, copies: int) -> Path:
    """``notes``, a folder with notes.csv (note_str, file, start) and audio, as a folder like nsynth-train; 4 s each."""
    import soundfile

    folder = out / "nsynth-train"
    (folder / "audio").mkdir(parents=True)
    with (notes / "notes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    examples: dict[str, Any] = {}
    for n in range(copies):
        for row in rows:
            # Another instrument each time, and audio that differs by half a step of 16 bits, so that none is known.
            instrument, pitch, velocity = row["note_str"].rsplit("-", 2)
            family, source, number = instrument.rsplit("_", 2)
            name = f"{family}_{source}_{int(number) + 1000 * n:04d}-{pitch}-{velocity}"
            audio, rate_hz = soundfile.read(
                notes / row["file"], frames=64_000, start=int(row["start"]), dtype="int16"
            )
            soundfile.write(folder / "audio" / f"{name}.wav", np.roll(audio, n), rate_hz, subtype="PCM_16")
            examples[name] = {
                "note_str": name,
                "pitch": int(pitch),
                "velocity": int(velocity),
                "instrument_str": name.rsplit("-", 2)[0],
                "instrument_family_str": family,
                "instrument_source_str": source,
                "qualities_str": [],
                "sample_rate": rate_hz,
            }
    (folder / "examples.json").write_text(json.dumps(examples), encoding="utf-8")
    return folder


def step_macs(recipe_path: Path) -> list[tuple[int, float]]:
    """Of each scale of a recipe that grows: its steps, and the multiply-accumulates of one, counted by torch."""
    import torch

    from train.cost import count_macs
    from train.darkgan import Discriminator, Generator
    from train.ranks import Ranks
    from train.recipe import GrowingRecipe, read_recipe

    recipe, _ = read_recipe(recipe_path)
    if not isinstance(recipe, GrowingRecipe):
        raise DarkrackError(str(recipe_path), "a recipe that grows on stft", "another")
    nowhere, told = Ranks(torch.device("meta")), sum(one.attributes for one in recipe.labels.teachers)
    found = []
    for scale, (steps, batch, size) in enumerate(
        zip(recipe.growth.steps, recipe.growth.batch, recipe.generator.scales, strict=True)
    ):
        with nowhere.device:
            generator = Generator(recipe.generator, told, recipe.pitch_range_midi)
            critic = Discriminator(recipe.generator, told, recipe.pitch_range_midi)
            planes, labels = torch.zeros(batch, 2, *size), torch.zeros(batch, told)
            pitch = torch.full((batch, 1), 60.0)
        critic.ranks = nowhere
        for network in (generator, critic):
            network.scale = scale

        found.append((steps, count_macs(partial(_step, generator, critic, planes, labels, pitch))))
    return found


def _step(generator: Generator, critic: Discriminator, planes: Tensor, labels: Tensor, pitch: Tensor) -> None:
    """The passes of `train.growing`'s two steps, without what is done to a score: that has no products."""
    import torch

    from train.growing import gradient_penalty

    z = torch.zeros(len(planes), generator.norm.channels - labels.shape[1] - generator.anchors.shape[1])
    z = z.to(planes.device)
    with torch.no_grad():
        fakes = generator(z, labels, pitch)
    judged = torch.cat([*critic(planes), *critic(fakes)], dim=1)
    (judged.sum() + gradient_penalty(critic, planes)).backward()  # type: ignore[no-untyped-call]
    critic.requires_grad_(False)
    torch.cat(critic(generator(z, labels, pitch)), dim=1).sum().backward()  # type: ignore[no-untyped-call]


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def darkrack_does(words: Sequence[str]) -> None:
    """The command of these words; DarkrackError where it fails."""
    import darkrack

    if darkrack.main(list(words)):
        raise DarkrackError(f"darkrack {words[0]}", "exit 0", "a failure, said above")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m benchmarks.nsynth_time`."""
    parser.add_argument("notes", type=Path, help="a folder of NSynth's notes with notes.csv and their audio")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is not there")
    parser.add_argument(
        "--mn04", type=Path, required=True, metavar="PATH", help="the tagger's weights (ONNX)"
    )
    parser.add_argument("--recipe", type=Path, default=Path("recipes/darkgan.toml"))
    parser.add_argument("--copies", type=int, default=10, help="how often each note is taken (default 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")


def run(args: argparse.Namespace) -> None:
    """Make, label and encode; print rates, and hours for NOTES of them."""
    from train.dataset import encode_note
    from train.label import LABELLED_CHECKS
    from train.notes import read_notes
    from train.recipe import GrowingRecipe, read_recipe

    facts = command.machine(["torch", "onnxruntime"])
    recipe, _ = read_recipe(args.recipe)
    assert isinstance(recipe, GrowingRecipe)
    source, data = as_published(args.notes, args.out, args.copies), args.out / "notes"
    rates: dict[str, float] = {}
    made_s = timed(lambda: darkrack_does(["data", "nsynth", str(source), "--out", str(data)]))
    notes = read_notes(data)
    rates["made (darkrack data nsynth)"] = len(notes) / made_s
    heard = [note for note in notes if note.check in LABELLED_CHECKS]
    labelled_s = timed(lambda: darkrack_does(["label", "--data", str(data), "--weights", str(args.mn04)]))
    rates["labelled by mn04 (darkrack label)"] = len(heard) / labelled_s
    encoded_s = timed(lambda: [encode_note(data, note, recipe.grid) for note in notes])
    rates["encoded, one core (the start of darkrack train)"] = len(notes) / encoded_s
    macs = step_macs(args.recipe)
    total = sum(steps * one for steps, one in macs)
    print(f"\n{len(notes)} notes; {usable_cores()} cores may be used; {said(facts)}\n")
    rows = [["step", "notes/s", f"hours for {NOTES}"]]
    rows += [[name, digits(rate), digits(NOTES / rate / 3600)] for name, rate in rates.items()]
    print(table(rows))
    rows = [["scale", "steps", "GMAC a step"]]
    rows += [[str(n), str(steps), digits(1e-9 * one)] for n, (steps, one) in enumerate(macs)]
    print(f"\n{table(rows)}\n\nin all {total:.3g} multiply-accumulates; derived, not measured:\n")
    print(
        table(
            [["sustained TFLOP/s", "hours"], *([digits(t), digits(2e-12 * total / t / 3600)] for t in TFLOPS)]
        )
    )
    if args.json:
        write_json(args.json, {"machine": facts, "notes_per_s": rates, "macs": total})


def main(words: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.nsynth_time`; returns the exit status."""
    return command.main("nsynth_time", (__doc__ or "").splitlines()[0], add_arguments, run, words)


if __name__ == "__main__":
    sys.exit(main())
