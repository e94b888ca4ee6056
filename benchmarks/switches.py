"""`python -m benchmarks.switches`: what a switch of stage one changes, beside the same recipe without it.

An arm is a recipe on the partials grid, stage one alone, with some keys changed; all have the same notes in the same
order and as many steps. Measured on notes held out of training: the judge's leakage, and how far levels are from the
notes' with z of the encoder and with z of the prior. No ear listens: that is `darkrack evaluate`'s, of a run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import command
from device.files import write_json
from train.recipe import CONCATENATED, Recipe, read_partials_recipe

if TYPE_CHECKING:
    from train.dataset import TrainingSet
    from train.stages import State

FADER_WEIGHT = 0.1
RAMP = 4  # the fader has its whole weight after a quarter of the steps
ARMS = ("as it is", "fader", "fader, one lesson a step", "concatenated")
PACKAGES = ("torch", "numpy", "scikit-learn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("recipe", type=Path, help="a recipe on the partials grid")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="labelled notes")
    parser.add_argument(
        "--steps", type=command.count, default=600, metavar="N", help="of each arm (default 600)"
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")


def run(args: argparse.Namespace) -> None:
    """Train and measure one arm after another; each is printed when it is there."""
    import torch

    from train.dataset import load_training_set

    torch.set_num_threads(1)
    facts = command.machine(PACKAGES)
    recipe, _ = read_partials_recipe(args.recipe)
    notes = load_training_set(args.data, recipe, 1)
    found = {}
    for arm in args.arms:
        state = trained(switched(recipe, arm, args.steps), notes)
        found[arm] = measured(state, recipe, notes)
        print(arm, json.dumps(found[arm]), flush=True)
    head = ["arm", "leakage (R²)", "level, z of the encoder", "level, z of the prior", "KL"]
    rows = [
        [
            arm,
            command.interval(one["leakage"]),
            *(command.digits(one[key]) for key in ("level", "prior", "kl")),
        ]
        for arm, one in found.items()
    ]
    print(command.table([head, *rows]))
    print(f"{args.steps} steps of {args.recipe.name}, {args.data.name}; {command.said(facts)}")
    if args.json:
        write_json(
            args.json, {"machine": facts, "recipe": args.recipe.name, "steps": args.steps, "arms": found}
        )


def switched(recipe: Recipe, arm: str, steps: int) -> Recipe:
    """The recipe with one of ARMS set, and this many steps of stage one."""
    first = dataclasses.replace(recipe.reconstruction, steps=steps)
    if "fader" in arm:
        lessons = 1 if "one lesson" in arm else first.fader_lessons
        first = dataclasses.replace(
            first, fader_weight=FADER_WEIGHT, fader_steps=steps // RAMP, fader_lessons=lessons
        )
    shape = recipe.generator
    if arm == CONCATENATED:
        shape = dataclasses.replace(shape, conditioning=CONCATENATED)
    return dataclasses.replace(recipe, reconstruction=first, generator=shape)


def trained(recipe: Recipe, notes: TrainingSet) -> State:
    """Stage one to its end."""
    from tqdm import tqdm

    from train import stages

    bare = dataclasses.replace(recipe, ear=None)
    state = stages.start_state(bare, notes)
    steps = recipe.reconstruction.steps
    with tqdm(total=steps, unit="step", disable=None) as bar:
        for batch in stages.batches(bare, notes, 0, state.ranks):
            if state.step == steps:
                break
            losses = stages.reconstruction_step(state, bare, batch)
            state.step += 1
            stages.refuse_infinite(losses, state.step)
            bar.update()
    return state


def measured(state: State, recipe: Recipe, notes: TrainingSet) -> dict[str, Any]:
    """Of the notes held out: leakage with its interval, mean distance of levels (1 is the grid's range), KL in nats."""
    import torch

    from train import measures, stages

    rows = np.concatenate([notes.parts["unseen_notes"], notes.parts["unseen_instruments"]])
    batch = stages.batch_of(recipe, notes, rows)
    drawn = torch.Generator().manual_seed(recipe.seed)
    noise = torch.zeros(len(rows), 2 * recipe.generator.noise_channels, recipe.grid.frames)
    with torch.no_grad():
        mean, log_variance = state.encoder(batch.frames, batch.condition)
        prior = torch.randn(mean.shape, generator=drawn)
        apart = [
            state.generator(z, *batch.condition, noise)[:, :1] - batch.frames[:, :1] for z in (mean, prior)
        ]
        level, of_prior = (float(stages.masked_mean(one.abs(), batch.mask)) for one in apart)
    called = [notes.notes[row].instrument_str for row in rows]
    groups = np.array([sorted(set(called)).index(name) for name in called])
    z, logits = mean.double().numpy(), notes.logits[rows].astype(np.float64)
    leaked = measures.leakage(z, logits, np.random.default_rng(recipe.seed), groups)
    return {
        "leakage": [float(one) for one in leaked],
        "level": level,
        "prior": of_prior,
        "kl": float(stages.kl_loss(mean, log_variance)),
    }


def main(words: Sequence[str] | None = None) -> int:
    """The command; see `command.main`."""
    return command.main("switches", (__doc__ or "").splitlines()[0], add_arguments, run, words)


if __name__ == "__main__":
    sys.exit(main())
