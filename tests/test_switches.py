"""Switches beside each other: what an arm changes and what it does not, and that a switch is measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from training import GROWING, RECIPE, write_recipe, write_set

from benchmarks import switches
from train.recipe import read_partials_recipe


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), instruments=32)


@pytest.mark.parametrize("arm", switches.ARMS)
def test_an_arm_changes_its_keys_alone(tmp_path: Path, arm: str) -> None:
    recipe, _ = read_partials_recipe(write_recipe(tmp_path))
    changed = switches.switched(recipe, arm, 40)
    keys = {
        "as it is": set(),
        "fader": {"fader_weight", "fader_steps"},
        "fader, one lesson a step": {"fader_weight", "fader_steps", "fader_lessons"},
        "concatenated": {"conditioning"},
    }[arm]

    def differ(one: object, other: object) -> set[str]:
        fields = [field.name for field in dataclasses.fields(one)]  # type: ignore[arg-type]
        return {name for name in fields if getattr(one, name) != getattr(other, name)}

    found = differ(recipe.reconstruction, changed.reconstruction) | differ(
        recipe.generator, changed.generator
    )
    assert found == keys | {"steps"}
    assert changed.adversarial == recipe.adversarial


def test_arms_are_trained_measured_and_printed(
    notes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = write_recipe(tmp_path, RECIPE), tmp_path / "found.json"
    words = [str(recipe), "--data", str(notes_folder), "--steps", "3", "--json", str(out)]
    assert switches.main([*words, "--arms", "as it is", "fader"]) == 0
    found = json.loads(out.read_text())
    assert list(found["arms"]) == ["as it is", "fader"]
    plain, faded = found["arms"].values()
    assert plain != faded
    assert all(0 < one[key] < 1 for one in (plain, faded) for key in ("level", "prior"))
    assert len(plain["leakage"]) == 3
    printed = capsys.readouterr().out
    assert "| fader |" in printed
    assert "3 steps of tiny.toml" in printed


def test_a_recipe_that_grows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert switches.main([str(write_recipe(tmp_path, GROWING)), "--data", str(tmp_path)]) == 1
    assert "a recipe on the partials grid" in capsys.readouterr().err
