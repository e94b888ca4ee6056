"""Tags: a word that can be heard is told on instruments that were left out, one that cannot is not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from training import label_descriptors, write_set

import darkrack
from device.errors import DarkrackError
from train import tags
from train.attributes import EXCLUDED
from train.evaluate import open_ears
from train.label import read_labels
from train.notes import read_audio, read_notes, write_notes
from train.teacher import HEARD_S, load_teacher


def tag(folder: Path) -> Path:
    """Bright ones by their sound, some instruments by nothing, one note by name, and one word for all."""
    notes = read_notes(folder)
    tagged = []
    for note in notes:
        power = np.abs(np.fft.rfft(read_audio(folder, note, HEARD_S))) ** 2
        overtones = (power * np.arange(len(power))).sum() / power.sum() / note.f0_hz
        number = int(note.instrument_str[-3:])
        words = ["all", *(["bright_one"] * bool(overtones > 1.15)), *(["coin"] * (number % 5 < 2))]
        tagged.append(dataclasses.replace(note, tags=" ".join(words)))
    tagged[0] = dataclasses.replace(tagged[0], tags=tagged[0].tags + " only_me")
    write_notes(folder, tagged)
    return folder


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tag(label_descriptors(write_set(tmp_path_factory.mktemp("tagged") / "set")))
    assert darkrack.main(command(folder)) == 0
    return folder


def command(folder: Path, *more: str) -> list[str]:
    return ["label", "--data", str(folder), "--teacher", "tags", "--hears", "descriptors", *more]


def test_what_can_be_heard_is_told_where_it_was_not_learned(tagged: Path) -> None:
    content = json.loads((tagged / "tags.json").read_text())
    found = {one["name"]: one for one in content["tags"]}
    assert set(found) == {"coin", "bright one"}  # not what all notes have, nor what one has
    assert found["bright one"]["auc"] > 0.9
    assert found["coin"]["auc"] < 0.8
    assert 5 < found["bright one"]["instruments"] < 24
    ranked = json.loads((tagged / "attributes-tags.json").read_text())
    assert {one["name"] for one in ranked["attributes"]} == set(found)


def test_the_words_are_a_teacher_and_an_ear(tagged: Path) -> None:
    (ear,) = open_ears([f"tags={tagged / 'tags.json'}"])
    labels, by_descriptors = read_labels(tagged, "tags"), read_labels(tagged, "descriptors")
    assert ear.classes == labels.classes == ("bright one", "coin")
    np.testing.assert_array_equal(labels.embeddings, by_descriptors.embeddings)
    note = next(one for one in read_notes(tagged) if "bright_one" in one.tags)
    logits, _ = ear.hear(read_audio(tagged, note, HEARD_S)[None].astype(np.float32), note.sample_rate)
    np.testing.assert_allclose(logits[0], labels.logits[labels.rows([note.note_str])[0]], atol=1e-4)
    assert logits[0, 0] > 0


def test_the_table_is_printed(tagged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert darkrack.main(command(tagged)) == 0
    printed = capsys.readouterr().out
    assert "bright one" in printed
    assert "left out, for too few notes have them or have them not: all, only_me" in printed
    assert "120 notes labelled, 0 of them heard now" in printed  # learned again, the same is learned


def test_a_word_of_one_instrument_is_not_told(tmp_path: Path) -> None:
    folder = label_descriptors(write_set(tmp_path / "set", 4))
    notes = read_notes(folder)
    mine = notes[0].instrument_str
    write_notes(folder, [dataclasses.replace(n, tags="mine" * (n.instrument_str == mine)) for n in notes])
    (learned,), left = tags.learn(folder, load_teacher("descriptors"), None)
    assert learned == tags.Tag("mine", 5, 1, None)
    assert not left


def test_bad_input_is_said(tagged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = label_descriptors(write_set(tmp_path / "plain", 4))
    assert darkrack.main(command(plain)) == 1
    assert "a tag that at least 5 labelled notes have and 5 have not, got 0 tags" in capsys.readouterr().err
    assert darkrack.main(["label", "--data", str(plain), "--teacher", "descriptors", "--hears", "mn04"]) == 1
    assert "--hears: expected --teacher tags beside it" in capsys.readouterr().err
    with pytest.raises(DarkrackError, match="got None, None"):
        load_teacher("tags")
    with pytest.raises(DarkrackError, match="and no classes"):
        load_teacher("tags", tagged / "tags.json", EXCLUDED)

    good = json.loads((tagged / "tags.json").read_text())
    for wrong, match in (
        ({"format": 2}, "format 1"),
        ({"slopes": [[1.0]]}, "arrays of other sizes"),
        ({"scale": [0.0] * len(good["scale"])}, "arrays of other sizes, or not finite"),
        ({"mean": "x"}, "the tags that darkrack label"),
        ({"tags": None}, "the tags that darkrack label"),
        ({"weights_sha256": "0"}, "the descriptors that it was learned with, got another"),
        ({"weights": "nowhere.onnx"}, "the network of descriptors, which hears for it"),
        ({"hears": "tags"}, "the network of tags, which hears for it"),
    ):
        (tmp_path / "tags.json").write_text(json.dumps({**good, **wrong}))
        with pytest.raises(DarkrackError, match=match):
            load_teacher("tags", tmp_path / "tags.json")
    with pytest.raises(DarkrackError, match="the tags that darkrack label"):
        load_teacher("tags", tmp_path / "nothing.json")
