"""What training sees of notes and labels: of one teacher as ever, of several side by side."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import CLASSES, RECIPE, TWO_TEACHERS, label_descriptors, write_recipe, write_set

from device.errors import DarkrackError
from train import descriptors
from train.dataset import TrainingSet, load_training_set, soft_label
from train.label import read_labels
from train.notes import read_notes, write_notes
from train.recipe import read_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that both teachers have labelled; tests that spoil it make a copy."""
    return label_descriptors(write_set(tmp_path_factory.mktemp("dataset") / "set"))


@pytest.fixture
def spoiled(data: Path, tmp_path: Path) -> Path:
    """A set of its own, with what was encoded already."""
    return Path(shutil.copytree(data, tmp_path / "set"))


def load(folder: Path, where: Path, text: str = TWO_TEACHERS) -> TrainingSet:
    recipe, _ = read_recipe(write_recipe(where, text))
    return load_training_set(folder, recipe, 1)


def change_labels(folder: Path, teacher: str, **arrays: Any) -> None:
    path = folder / f"labels-{teacher}.npz"
    with np.load(path) as stored:
        kept = dict(stored)
    np.savez(path, **{**kept, **arrays})


def without(folder: Path, teacher: str, rows: list[int]) -> None:
    """The labels of a teacher that did not hear these notes."""
    labels = read_labels(folder, teacher)
    keep = np.setdiff1d(np.arange(len(labels.note_str)), rows)
    change_labels(
        folder,
        teacher,
        note_str=np.array(labels.note_str)[keep],
        key=np.array(labels.key)[keep],
        logits=labels.logits[keep],
        embeddings=labels.embeddings[keep],
    )


def test_attributes_of_several_teachers_stand_side_by_side(data: Path, tmp_path: Path) -> None:
    both, one = load(data, tmp_path), load(data, tmp_path, RECIPE)
    assert both.attributes.teachers == ("mn04",) * 3 + ("descriptors",) * 4
    assert both.attributes.names[:3] == one.attributes.names == CLASSES[:3]
    assert set(both.attributes.names[3:]) < set(descriptors.CLASSES)
    assert one.attributes.teachers == ("mn04",) * 3
    np.testing.assert_array_equal(both.logits[:, :3], one.logits)
    np.testing.assert_array_equal(both.attributes.quantiles[:3], one.attributes.quantiles)
    assert both.attributes.copula.shape == (7, 7)
    assert np.abs(both.attributes.copula[:3, 3:]).max() > 0.3  # made from the same slopes and decays

    heard = read_labels(data, "descriptors")
    rows = heard.rows([note.note_str for note in both.notes])
    for column in range(3, 7):
        assert heard.classes[both.attributes.classes[column]] == both.attributes.names[column]
        np.testing.assert_array_equal(
            both.logits[:, column], heard.logits[rows, both.attributes.classes[column]]
        )
    np.testing.assert_array_equal(both.soft_labels, soft_label(both.logits, 2.0))


def test_attributes_stand_in_the_order_of_the_recipe(data: Path, tmp_path: Path) -> None:
    begin, middle = TWO_TEACHERS.index("[[labels]]"), TWO_TEACHERS.rindex("[[labels]]")
    end = TWO_TEACHERS.index("[grid]")
    swapped = "".join(
        (TWO_TEACHERS[:begin], TWO_TEACHERS[middle:end], TWO_TEACHERS[begin:middle], TWO_TEACHERS[end:])
    )
    notes = load(data, tmp_path, swapped)
    assert notes.attributes.teachers == ("descriptors",) * 4 + ("mn04",) * 3


def test_what_a_run_of_one_teacher_was_trained_on_has_the_hash_it_had(data: Path, tmp_path: Path) -> None:
    """Runs in progress go on only if this does not change."""
    notes = load(data, tmp_path, RECIPE)
    labels = read_labels(data)
    digest = hashlib.sha256("\n".join(note.note_str for note in notes.notes).encode())
    digest.update(labels.logits[labels.rows([note.note_str for note in notes.notes])][:, :3].tobytes())
    for frames in notes.maps:
        digest.update(frames[0].tobytes())
    assert notes.sha256() == digest.hexdigest()
    assert load(data, tmp_path).sha256() != notes.sha256()


def test_a_note_that_one_teacher_did_not_hear_is_named(spoiled: Path, tmp_path: Path) -> None:
    without(spoiled, "descriptors", [7])
    name = read_labels(spoiled).note_str[7]
    with pytest.raises(DarkrackError, match=f"a label of descriptors for {name}.*\nhint.*--teacher desc"):
        load(spoiled, tmp_path)
    assert len(load(spoiled, tmp_path, RECIPE).notes) == 120
    without(spoiled, "mn04", [7])  # now none of them heard it
    assert len(load(spoiled, tmp_path).notes) == 119


def test_two_knobs_of_one_name_are_refused(spoiled: Path, tmp_path: Path) -> None:
    ranking = json.loads((spoiled / "attributes-descriptors.json").read_text())
    classes = list(descriptors.CLASSES)
    classes[ranking["attributes"][0]["index"]] = "oRGAN"
    change_labels(spoiled, "descriptors", classes=np.array(classes))
    with pytest.raises(DarkrackError, match=r"tiny: labels: .* from teacher to teacher, got 'oRGAN' twice"):
        load(spoiled, tmp_path)


def test_notes_off_by_octaves_are_taken_at_their_key_where_rows_lie_between_partials(
    spoiled: Path, tmp_path: Path
) -> None:
    """An organ's 16-foot stop: what is measured lies an octave under the key; flageolets lie two above it."""
    notes = read_notes(spoiled)
    usual = load(spoiled, tmp_path)
    low, high = 5, 20
    for n, times in ((low, 0.5), (high, 4.0)):
        f0_hz = times * notes[n].key_hz
        notes[n] = dataclasses.replace(notes[n], check="octave", f0_hz=f0_hz, cents=1200 * math.log2(times))
    write_notes(spoiled, notes)
    without_them = load(spoiled, tmp_path)
    assert len(without_them.notes) == len(usual.notes) - 2
    halves = TWO_TEACHERS.replace("rows = 12\n", "rows = 24\nrows_a_partial = 2\n")
    found = load(spoiled, tmp_path, halves)
    assert len(found.notes) == len(usual.notes)
    wanted = {note.note_str: usual.frames(np.array([n]))[0] for n, note in enumerate(usual.notes)}
    for n in (low, high):
        at = [note.note_str for note in found.notes].index(notes[n].note_str)
        whole = found.frames(np.array([at]))[0, :, 1::2]  # the rows at whole partials
        sounds = wanted[notes[n].note_str][0] > 0.5
        assert sounds.mean() > 0.2
        np.testing.assert_allclose(whole[0][sounds], wanted[notes[n].note_str][0][sounds], atol=0.01)


def test_room_for_frames_is_looked_for_before_they_are_made(
    spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(spoiled / "frames", ignore_errors=True)
    needed = 120 * 2 * 12 * 32 * 2  # notes, quantities, rows, frames, bytes
    usage = shutil.disk_usage(spoiled)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DarkrackError, match=r"frames: expected 0\.000 GB free"):
        load(spoiled, tmp_path)
    assert not (spoiled / "frames").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    load(spoiled, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    load(spoiled, tmp_path)  # they are there


def test_a_teacher_without_labels_is_our_error(spoiled: Path, tmp_path: Path) -> None:
    (spoiled / "labels-descriptors.npz").unlink()
    with pytest.raises(DarkrackError, match=r"labels-descriptors\.npz: expected labels"):
        load(spoiled, tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "ranked attributes"),
        ("[]", "ranked attributes"),
        ('{"attributes": [{"name": "Attack"}]}', "KeyError"),
        ('{"attributes": [{"index": 7}]}', "classes from 0 to 6, as descriptors has, got 7"),
        ('{"attributes": [{"index": -1}]}', "classes from 0 to 6"),
        ('{"attributes": [{"index": 0}]}', "at least 4 attributes .*\nhint: ask for fewer of descriptors"),
        ('{"attributes": []}', "at least 4 attributes"),
        (None, "No such file"),
    ],
)
def test_a_wrong_ranking_is_our_error(spoiled: Path, tmp_path: Path, content: str | None, says: str) -> None:
    path = spoiled / "attributes-descriptors.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(DarkrackError, match=says) as caught:
        load(spoiled, tmp_path)
    assert caught.value.where == str(path)


def test_what_is_distinct_is_judged_within_each_teacher(data: Path, tmp_path: Path) -> None:
    """mn04's classes here were made from the notes' slopes, as is what a descriptor hears: it stays all the same."""
    notes = load(
        data,
        tmp_path,
        TWO_TEACHERS.replace("attributes = 4\ndistinct = 1.0", "attributes = 1\ndistinct = 0.05"),
    )
    assert notes.attributes.teachers[3:] == ("descriptors",)
    assert np.abs(notes.attributes.copula[:3, 3]).max() > 0.3
