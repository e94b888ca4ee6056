"""What a run's folder says of the notes; training itself is in test_stages.py."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from training import TWO_TEACHERS, label_descriptors, train_run, write_recipe, write_set

from device.errors import DarkrackError
from train import train
from train.dataset import load_training_set
from train.notes import read_notes, write_notes
from train.recipe import read_recipe
from train.stages import load_checkpoint


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
    assert facts["teachers"] == ["mn04"] * 3
    assert facts["sources"][0]["licence"] == "CC0"
    assert sum(facts["notes"].values()) == len(notes.notes)


def test_no_player_starts_from_an_instrument_that_is_off_its_key(tmp_path: Path) -> None:
    recipe, digest = read_recipe(write_recipe(tmp_path))
    data = write_set(tmp_path / "set")
    usual = train.run_facts(recipe, digest, load_training_set(data, recipe, 1))
    central = load_training_set(data, recipe, 1).notes[usual["presets"][0]["row"]].instrument_str
    marked = [
        dataclasses.replace(note, check="octave")
        if note.instrument_str == central and note.pitch < 66
        else note
        for note in read_notes(data)
    ]
    write_notes(data, marked)
    notes = load_training_set(data, recipe, 1)
    assert notes.astray == {central}
    assert central in {note.instrument_str for note in notes.notes}, "two of five are in tune, and taught"
    presets = train.run_facts(recipe, digest, notes)["presets"]
    assert len(presets) == recipe.presets
    assert central not in {notes.notes[preset["row"]].instrument_str for preset in presets}
    # Where there is no other, it serves.
    only = [
        note if note.instrument_str == central else dataclasses.replace(note, check="detuned")
        for note in marked
    ]
    write_notes(data, [dataclasses.replace(note, part="train") for note in only])
    alone = dataclasses.replace(recipe, batch=1)
    some = train.run_facts(alone, digest, load_training_set(data, alone, 1))["presets"]
    assert len(some) == 1


def test_a_run_of_two_teachers_starts_and_goes_on(tmp_path: Path) -> None:
    data = label_descriptors(write_set(tmp_path / "set"))
    run = train_run(tmp_path, data, TWO_TEACHERS)
    facts = json.loads((run / "run.json").read_text())
    assert facts["teachers"] == ["mn04"] * 3 + ["descriptors"] * 4
    assert len(facts["quantiles"]) == len(facts["copula"]) == len(facts["attributes"]) == 7
    first = load_checkpoint(run)
    again = load_checkpoint(train_run(tmp_path, data, TWO_TEACHERS))  # at its end: nothing is left to train
    assert first["step"] == again["step"] == 12
    for name, weights in first["average_generator"].items():
        assert weights.equal(again["average_generator"][name])
    with np.load(data / "labels-descriptors.npz") as stored:
        heard = dict(stored)
    heard["logits"] += np.float32(0.1)  # now the other teacher says something else
    np.savez(data / "labels-descriptors.npz", **heard)
    with pytest.raises(DarkrackError, match="these notes"):
        train_run(tmp_path, data, TWO_TEACHERS)
