"""What a run has that export and the judge need, whichever way it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from device.partials import Partials
from device.stft import Stft
from train import growing, stages
from train.recipe import GrowingRecipe, Recipe, read_recipe

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Run:
    """A run as it plays.

    ``generator``: averaged, takes tensors of the shapes ``inputs`` in that order (batch of 1 included), gives those of
    ``output``. ``latents`` (P, Z): z of the sounds to start from, in the order of the facts' presets. ``encoder``: of
    notes to z, where training had one.
    """

    generator: torch.nn.Module
    recipe: Recipe | GrowingRecipe
    facts: dict[str, Any]
    inputs: dict[str, tuple[int, ...]]
    latents: FloatArray
    encoder: torch.nn.Module | None

    @property
    def grid(self) -> Partials | Stft:
        """What its output stands on."""
        return self.recipe.grid

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of one note's frames."""
        grid = self.recipe.grid
        rows = grid.bins if isinstance(grid, Stft) else grid.rows
        return (1, 2, rows, grid.frames)


def trimming(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the network of a run with these facts was trimmed, by the run or before it, without the list of channels."""
    trimmed = facts.get("trimmed") or (facts.get("started_from") or {}).get("trimmed")
    return {key: value for key, value in trimmed.items() if key != "kept"} if trimmed else None


def open_run(folder: Path) -> Run:
    """The run in a folder that `darkrack train` or `darkrack trim` filled; DarkrackError where it is none."""
    recipe, _ = read_recipe(folder / "recipe.toml")
    if isinstance(recipe, GrowingRecipe):
        grown, reads, recipe, facts = growing.load_generator(folder)
        if reads is not None:
            latents = stages.preset_latents(folder, reads, facts)
        else:
            latents = np.array([preset["z"] for preset in facts["presets"]], np.float32)
        inputs = growing.input_shapes(recipe, len(facts["attributes"]))
        return Run(grown, recipe, facts, inputs, latents, reads)
    generator, encoder, recipe, facts = stages.load_generator(folder)
    latents = stages.preset_latents(folder, encoder, facts)
    inputs = stages.input_shapes(recipe, len(facts["attributes"]))
    return Run(generator, recipe, facts, inputs, latents, encoder)
