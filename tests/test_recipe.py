"""Recipes: what is written is what is read, and every wrong key has its own error."""

from __future__ import annotations

from pathlib import Path

import pytest
from training import RECIPE, write_recipe

from device.errors import DarkrackError
from train.recipe import read_recipe

SHIPPED = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_whole(path: Path) -> None:
    recipe, digest = read_recipe(path)
    assert (
        recipe.grid.frames >> (len(recipe.generator.channels) - 1) << (len(recipe.generator.channels) - 1)
        == recipe.grid.frames
    )
    assert len(digest) == 64


def test_values_arrive(tmp_path: Path) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path))
    assert recipe.pitch_range_midi == (48, 72)
    assert recipe.generator.channels == (8, 8, 8)
    assert recipe.data[0].licence == "CC0"
    assert recipe.adversarial.class_weight == 1.0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 3", "sead = 3", "did you mean seed"),
        ("seed = 3", "", "seed: expected a value, got nothing"),
        ("batch = 8", "batch = 8.5", "batch: expected a value of type int"),
        ("batch = 8", "batch = true", "batch: expected a value of type int"),
        ("[48, 72]", "[48]", "expected 2 values, got 1"),
        ("[8, 8, 8]", '[8, "x", 8]', "channels[1]"),
        ("[critic]", "[[critic]]", "critic: expected a table"),
        ("channels = [8, 8, 8]", "channels = 8", "expected a list"),
        ("temperature = 2.0", "temperature = ", "TOML"),
    ],
)
def test_wrong_keys(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "wrong.toml"
    assert old in RECIPE
    path.write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(DarkrackError) as caught:
        read_recipe(path)
    assert says in str(caught.value)
    assert "wrong.toml" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match="No such file"):
        read_recipe(tmp_path / "none.toml")
