"""`darkrack train`: notes and a recipe to a run, a folder from which training goes on and export starts.

recipe.toml, run.json, presets.npz   what was asked for and what the notes are: attributes, presets, sources
checkpoint.pt, log.*, sheet-*.png    where training stands (`train.stages`; `train.growing` on the `stft` grid)
early.pt                             the generator at its first checkpoint, for `darkrack trim`
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from device.errors import DarkrackError
from device.files import atomic_path, read_bytes, write_json
from train.dataset import TrainingSet, load_training_set, spread_out
from train.recipe import GrowingRecipe, Recipe, read_recipe

if TYPE_CHECKING:
    from train.ranks import Ranks
    from train.teacher import Teacher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack train`."""
    parser.add_argument("recipe", type=Path, help="recipe in TOML, for example recipes/own.toml")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="labelled notes (darkrack data, label)"
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="where checkpoints, log and pictures go"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="RUN",
        help="begin with the weights of this run, made by another recipe or trimmed, or of a warm start",
    )
    parser.add_argument(
        "--remember",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="let the ear learn from what was heard in these runs too, of the same notes and stopped before their end",
    )
    parser.add_argument(
        "--ear",
        metavar="NAME=PATH",
        help="the tagger that listens in stage three, for recipes with an [ear], with its weights as for "
        "darkrack evaluate; it must be the one that labelled the notes",
    )
    parser.add_argument(
        "--until",
        type=int,
        metavar="STEP",
        help="stop at this step as Ctrl-C does; without it the run goes to the recipe's last, now or later",
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="CPU threads of torch, in each process (default 2)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where steps are computed (default auto: on a GPU where there is one; a recipe with an [ear] on the CPU)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the networks' forward passes; losses, gradient penalty and weights are float32 (default float32)",
    )


def run(args: argparse.Namespace) -> None:
    """Train to the recipe's last step, or go on from the run's checkpoint; one of several processes under torchrun."""
    import torch

    from train.ranks import open_ranks

    recipe, recipe_sha256 = read_recipe(args.recipe)
    if args.until is not None and not 1 <= args.until <= recipe.steps:
        raise DarkrackError("--until", f"1 to {recipe.steps}, the recipe's last step", str(args.until))
    torch.set_num_threads(args.threads)
    alone = isinstance(recipe, Recipe) and recipe.ear is not None and args.device == "auto"
    with open_ranks("cpu" if alone else args.device, args.precision) as ranks:
        _run(args, ranks, recipe, recipe_sha256)


def _run(args: argparse.Namespace, ranks: Ranks, recipe: Recipe | GrowingRecipe, recipe_sha256: str) -> None:
    from train import growing, stages
    from train.cost import spent
    from train.ear import Hearing
    from train.warm_start import remember, take

    with ranks.first_goes_ahead():
        notes = load_training_set(args.data, recipe, args.threads)
    identity = {"this recipe": recipe_sha256, "these notes": notes.sha256()}
    facts = run_facts(recipe, recipe_sha256, notes)
    if isinstance(recipe, GrowingRecipe):
        for option, given in (("--start-from", args.start_from), ("--remember", args.remember)):
            if given:
                raise DarkrackError(option, "a recipe on the partials grid", f"{recipe.name}, on stft")
        grown = growing.resume(args.run, identity, recipe, notes, ranks)
        grown = grown or growing.start_state(recipe, notes, ranks)
        if ranks.first:
            _write_facts(args, facts)
            if recipe.reconstruction is not None:
                _write_presets(args.run, facts, notes)
        growing.train(grown, recipe, notes, args.run, identity, args.until)
        return
    listen = None
    if recipe.ear is not None:
        listen = partial(Hearing, recipe, args.data, notes, listening(args.ear, recipe.ear.teacher))
    state = stages.resume(args.run, identity, recipe, notes, listen, ranks=ranks)
    if state is not None:
        known = json.loads(read_bytes(args.run / "run.json", "the facts of a run"))
        facts |= {key: known[key] for key in ("started_from", "remembered") if key in known}
    else:
        widths = stages.widths_of(stages.load_checkpoint(args.start_from)) if args.start_from else None
        state = stages.start_state(recipe, notes, listen, ranks, widths)
        if args.remember:
            facts["remembered"] = remember(state, args.remember, identity["these notes"])
        if args.start_from:
            began = take(state, args.start_from, notes.attributes.names, identity["these notes"])
            facts["started_from"] = {**began, "cost": spent(args.start_from)}
    if ranks.first:
        _write_facts(args, facts)
        _write_presets(args.run, facts, notes)
    stages.train(state, recipe, notes, args.run, identity, args.until)


def listening(option: str | None, name: str) -> Teacher:
    """The tagger that stage three asks; DarkrackError where it was not given, or is another."""
    from train.evaluate import open_ears

    word = option or name
    if word.partition("=")[0] != name:
        raise DarkrackError("--ear", f"{name}=PATH, as the recipe's [ear] says", str(option))
    return open_ears([word])[0]


def _write_facts(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    """The recipe as it was, and what `run_facts` found."""
    args.run.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.run / "recipe.toml") as temporary:
        temporary.write_bytes(read_bytes(args.recipe, "a training recipe"))
    write_json(args.run / "run.json", facts)


def _write_presets(run: Path, facts: dict[str, Any], notes: TrainingSet) -> None:
    """What an encoder needs of the notes that a player starts from, once the data are gone."""
    presets = np.array([preset["row"] for preset in facts["presets"]])
    with atomic_path(run / "presets.npz") as temporary:
        np.savez(
            temporary,
            frames=notes.frames(presets),
            pitch=notes.pitch[presets],
            velocity=notes.velocity[presets],
        )


def run_facts(recipe: Recipe | GrowingRecipe, recipe_sha256: str, notes: TrainingSet) -> dict[str, Any]:
    """What export needs to know of the data once they are gone: attributes, presets, sources, counts."""
    # One note of each instrument: the one nearest to middle C, and the loudest of these. What a player starts from
    # should sound at the key that is pressed.
    best: dict[str, int] = {}
    for row in sorted(notes.parts["train"], key=lambda n: (abs(notes.pitch[n] - 60), -notes.velocity[n])):
        best.setdefault(notes.notes[row].instrument_str, int(row))
    candidates = [row for name, row in best.items() if name not in notes.astray] or list(best.values())
    spread = notes.logits[candidates]
    scaled = (spread - spread.mean(0)) / np.maximum(spread.std(0), 1e-6)
    presets = [candidates[i] for i in spread_out(scaled.astype(np.float32), recipe.presets)]
    called = [preset_name(notes.notes[row].instrument_str) for row in presets]
    if len({name.casefold() for name in called}) < len(
        called
    ):  # two fonts with a "Piano": full names tell them apart
        called = [notes.notes[row].instrument_str for row in presets]
    found: list[dict[str, Any]] = [
        {"name": name, "row": row, "attributes": notes.soft_labels[row].tolist()}
        for name, row in zip(called, presets, strict=True)
    ]
    if isinstance(recipe, GrowingRecipe) and recipe.reconstruction is None:
        # Without an encoder to say what z a note has any will do.
        drawn = np.random.default_rng(recipe.seed).standard_normal((len(found), recipe.generator.latent))
        for preset, z in zip(found, drawn.round(3).tolist(), strict=True):
            preset["z"] = z
    return {
        "recipe_sha256": recipe_sha256,
        "attributes": list(notes.attributes.names),
        "teachers": list(notes.attributes.teachers),
        "quantiles": notes.attributes.quantiles.tolist(),
        "copula": notes.attributes.copula.tolist(),
        "presets": found,
        "sources": [dataclasses.asdict(source) for source in recipe.data],
        "notes": {part: len(rows) for part, rows in notes.parts.items()},
    }


def preset_name(instrument_str: str) -> str:
    """What a player calls it: "fluidr3_024_nylon_string_guitar" becomes "Nylon string guitar"."""
    words = re.sub(r"^[A-Za-z0-9]+_(?=\d{3}_)", "", instrument_str)
    words = re.sub(r"^\d{3}_(?=[A-Za-z])", "", words).replace("_", " ").strip()
    return (words[:1].upper() + words[1:]) or instrument_str
