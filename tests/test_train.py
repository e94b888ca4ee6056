"""What a run's folder says of the notes; training itself is in test_stages.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from training import write_recipe, write_set

from train import train
from train.dataset import load_training_set
from train.recipe import read_recipe


@pytest.mark.parametrize(
    ("instrument", "called"),
    [
        ("fluidr3_024_nylon_string_guitar", "Nylon string guitar"),
        ("synthetic_007", "Synthetic 007"),
        ("my_pan", "My pan"),
        ("organ_electronic_001", "Organ electronic 001"),
    ],
)
def test_presets_are_called_what_a_player_calls_them(instrument: str, called: str) -> None:
    assert train.preset_name(instrument) == called


def test_presets_are_different_instruments_near_middle_c(tmp_path: Path) -> None:
    recipe, digest = read_recipe(write_recipe(tmp_path))
    notes = load_training_set(write_set(tmp_path / "set"), recipe, 1)
    facts = train.run_facts(recipe, digest, notes)
    rows = [preset["row"] for preset in facts["presets"]]
    assert len({notes.notes[row].instrument_str for row in rows}) == len(rows) == recipe.presets
    trained_on = set(notes.parts["train"].tolist())
    assert set(rows) <= trained_on
    for row in rows:
        same = [n for n in trained_on if notes.notes[n].instrument_str == notes.notes[row].instrument_str]
        assert abs(notes.pitch[row] - 60) == min(abs(notes.pitch[n] - 60) for n in same)
    assert facts["sources"][0]["licence"] == "CC0"
    assert sum(facts["notes"].values()) == len(notes.notes)
