"""Weights of one run for another to begin with: taken, and left in a folder that is small enough to be passed on.

`darkrack train --start-from` takes a run, or what `darkrack warm-start` left of one: the averaged generator and
encoder and, where a tagger listened, the ear, weights in half precision. Optimisers, steps and the random state start
fresh, and whoever began with it says so (``started_from`` in run.json and in the bundle).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.errors import DarkrackError
from device.files import atomic_path, read_bytes, write_json

if TYPE_CHECKING:
    from train.stages import State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack warm-start`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that darkrack train filled")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="what is left of it")


def run(args: argparse.Namespace) -> None:
    """Leave a warm start and print how large it is."""
    leave(args.run, args.out)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{args.out}: {size} bytes, to begin with: darkrack train --start-from {args.out}")


def leave(earlier: Path, out: Path) -> None:
    """Write what another run can begin with, or trimming: recipe, facts, presets, cost, and averaged weights.

    The checkpoint is written last: without it the folder is no run. DarkrackError for a trimmed network, for a run on
    another grid, and where ``out`` is a run itself.
    """
    import numpy as np
    import torch

    from train.cost import FILE, spent
    from train.recipe import read_partials_recipe
    from train.stages import CHECKPOINT, load_checkpoint, refuse_trimmed

    read_partials_recipe(earlier / "recipe.toml")
    content = load_checkpoint(earlier)
    refuse_trimmed(earlier, content)
    if (out / CHECKPOINT).exists() and "optimisers" in load_checkpoint(out):
        raise DarkrackError(str(out), "a new folder, or an older warm start", "a run", "give another --out")

    def halved(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value.half() if name.endswith("weight") else value for name, value in weights.items()}

    facts = json.loads(read_bytes(earlier / "run.json", "the facts of a run", "darkrack train makes one"))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "recipe.toml") as temporary:
        shutil.copyfile(earlier / "recipe.toml", temporary)
    with np.load(earlier / "presets.npz") as presets, atomic_path(out / "presets.npz") as temporary:
        np.savez_compressed(temporary, **presets)
    write_json(out / "run.json", {**facts, "started_from": None})
    if (earlier / FILE).exists():
        write_json(out / FILE, spent(earlier))
    small = {
        "identity": content["identity"],
        "step": content["step"],
        **{name: halved(content[name]) for name in ("average_generator", "average_encoder")},
    }
    if "hearing" in content:
        small["hearing"] = {"ear": halved(content["hearing"]["ear"])}
    with atomic_path(out / CHECKPOINT) as temporary:
        torch.save(small, temporary)


def take(state: State, earlier: Path, names: Sequence[str], notes_sha256: str = "") -> dict[str, Any]:
    """Give a fresh ``state`` the weights of an ``earlier`` run, and return what that run was (recipe, step).

    Attributes are matched by name: what the earlier run had beside these ``names`` is left at its mean, what it had
    not starts fresh. Of what `leave` left the averages are both, and the critic starts fresh. The ear, and what it
    remembers, is taken where the earlier run had the same notes and labels (``notes_sha256``): answers are counted by
    these. DarkrackError where the networks differ.
    """
    from train.runs import trimming
    from train.stages import load_checkpoint

    content = load_checkpoint(earlier)
    if "optimisers" not in content:
        content |= {name: content[f"average_{name}"] for name in ("generator", "encoder")}
    facts = json.loads(read_bytes(earlier / "run.json", "the facts of a run", "darkrack train makes one"))
    old_names = facts["attributes"]
    both = [(new, old_names.index(name)) for new, name in enumerate(names) if name in old_names]
    new_at, old_at = (list(one) for one in zip(*both, strict=True)) if both else ([], [])
    for part, module in state.modules().items():
        if part == "adversary" or part not in content:
            continue  # the adversary has another z to read
        weights = module.state_dict()
        for key in content[part]:
            if key not in weights:
                raise _another_shape(earlier, part, key)
        for key, value in weights.items():
            old = content[part].get(key)
            old = None if old is None else old.to(value.dtype)
            if key in {"condition.attribute_mean", "condition.attribute_scale"}:
                continue  # of these notes, not of those
            if key == "condition.first.weight":  # columns: z where there is one, attributes, pitch, velocity
                after = weights["condition.anchors"].shape[1] + 1
                before = value.shape[1] - len(names) - after
                if old is not None and old.shape[1] == before + len(old_names) + after:
                    value[:, :before] = old[:, :before]
                    value[:, -after:] = old[:, -after:]
                    value[:, [before + n for n in new_at]] = old[:, [before + n for n in old_at]]
                    continue
            elif key in {"attributes.weight", "attributes.bias"} and old is not None:
                value[new_at] = old[old_at]
                continue
            elif old is not None and old.shape == value.shape:
                value.copy_(old)
                continue
            raise _another_shape(earlier, part, key)
        module.load_state_dict(weights)
    same_notes = notes_sha256 == content.get("identity", {}).get("these notes")
    if state.hearing is not None and "hearing" in content and same_notes:
        state.hearing.inherit(earlier, content["hearing"])
    began = {"recipe_sha256": facts["recipe_sha256"], "step": content["step"]}
    if trimmed := trimming(facts):
        began["trimmed"] = trimmed
    return began


def remember(state: State, runs: Sequence[Path], notes_sha256: str) -> list[dict[str, Any]]:
    """Have the ear of a fresh ``state`` remember what the ears of other ``runs`` have heard; what these were.

    An ear that has heard one generator is fooled by the next. Recipe, step and cost of each are returned. DarkrackError
    where nobody listens in this recipe, where a run had other notes, and where it has nothing left.
    """
    from train.cost import own_cost
    from train.stages import load_checkpoint

    found: list[dict[str, Any]] = []
    if state.hearing is None:
        raise DarkrackError("--remember", "a recipe with an [ear]", "one without", "leave it out")
    for run in runs:
        content = load_checkpoint(run)
        if content["identity"]["these notes"] != notes_sha256:
            raise DarkrackError(str(run), "a run of these notes and labels", "one of others")
        if not state.hearing.remember_too(run, content.get("hearing", {})):
            raise DarkrackError(
                str(run),
                "a run by ear on this grid that was stopped before its end",
                "one that remembers nothing",
                "leave it out; a run that comes to its end deletes what it heard",
            )
        facts = json.loads(read_bytes(run / "run.json", "the facts of a run", "darkrack train makes one"))
        one = {"recipe_sha256": facts["recipe_sha256"], "step": content["step"], "cost": own_cost(run)}
        found.append(one)
    return found


def _another_shape(earlier: Path, part: str, key: str) -> DarkrackError:
    return DarkrackError(
        str(earlier), f"a run whose {part} fits this recipe", f"another {key}", "only attributes may differ"
    )
