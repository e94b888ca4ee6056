from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from teachers import RATE_HZ, write_classes, write_network, write_set

import darkrack
import train.label
from device.errors import DarkrackError
from train.label import label, labels_path, read_labels
from train.notes import write_notes
from train.teacher import Teacher, load_teacher

PITCHES = range(48, 58)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network with mn04's shape, its classes and an empty list of excluded ones beside it."""
    write_network(tmp_path / "tiny.onnx")
    write_classes(tmp_path / "audioset_527.csv", 527)
    (tmp_path / "excluded.txt").write_text("Sound 3, invented\n")
    return tmp_path / "tiny.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path / "set", PITCHES)
    return tmp_path / "set"


def _command(folder: Path, weights: Path, *more: str) -> int:
    excluded = weights.with_name("excluded.txt")
    words = ["label", "--data", str(folder), "--weights", str(weights), "--excluded", str(excluded)]
    return darkrack.main([*words, *more])


@pytest.mark.data
def test_the_real_teacher_labels_a_set(
    tmp_path: Path, darkrack_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path, PITCHES)
    path = darkrack_data / "teachers" / "mn04_as.onnx"
    assert darkrack.main(["label", "--data", str(tmp_path), "--weights", str(path), "--threads", "2"]) == 0
    printed = capsys.readouterr()
    assert "10 notes labelled, 10 of them heard now" in printed.out
    assert printed.err == ""
    labels = read_labels(tmp_path)
    assert labels.classes[140] == "Guitar"
    content = json.loads((tmp_path / "attributes-mn04.json").read_text())
    names = [attribute["name"] for attribute in content["attributes"]]
    assert (
        len(names)
        == 527 - len(content["excluded"])
        == content["classes_considered"] - len(content["excluded"])
    )
    assert "Music" not in names
    assert "Synthesizer" in names[:10]  # which it is
    p90 = [attribute["p90"] for attribute in content["attributes"]]
    assert p90 == sorted(p90, reverse=True)
    first = content["attributes"][0]
    expected = np.quantile(1 / (1 + np.exp(-labels.logits[:, first["index"]].astype(np.float64))), 0.9)
    assert first["p90"] == pytest.approx(expected, rel=0.05)


def test_labels_are_written_in_the_order_of_the_notes(folder: Path, weights: Path) -> None:
    labels, heard = label(folder, load_teacher("mn04", weights))
    assert heard == 10
    assert labels.note_str == tuple(f"pluck-{pitch:03d}-100" for pitch in PITCHES)
    read = read_labels(folder)
    assert (read.note_str, read.key, read.classes) == (labels.note_str, labels.key, labels.classes)
    assert read.weights_sha256 == load_teacher("mn04", weights).weights_sha256
    np.testing.assert_array_equal(read.logits, labels.logits)
    np.testing.assert_array_equal(read.embeddings, labels.embeddings)
    assert read.logits.shape == (10, 527)
    assert read.embeddings.shape == (10, 384)
    assert read.rows(["pluck-050-100", "pluck-048-100"]).tolist() == [2, 0]
    with pytest.raises(DarkrackError, match="pluck-001-100"):
        read.rows(["pluck-001-100"])


def test_one_thread_and_three_hear_the_same(folder: Path, weights: Path) -> None:
    teacher = load_teacher("mn04", weights)
    one, _ = label(folder, teacher, threads=1)
    labels_path(folder, "mn04").unlink()
    three, _ = label(folder, teacher, threads=3)
    assert one.note_str == three.note_str
    np.testing.assert_array_equal(one.logits, three.logits)


def test_only_notes_near_a_pitch_are_labelled(tmp_path: Path, weights: Path) -> None:
    checks = {48: "silent", 50: "octave", 51: "detuned", 52: "unpitched"}
    write_set(tmp_path / "set", PITCHES, checks)
    labels, _ = label(tmp_path / "set", load_teacher("mn04", weights))
    assert [int(name.split("-")[1]) for name in labels.note_str] == [49, 50, 53, 54, 55, 56, 57]


def test_an_extended_set_hears_only_the_new_notes(folder: Path, weights: Path) -> None:
    teacher = load_teacher("mn04", weights)
    before, _ = label(folder, teacher)
    assert label(folder, teacher)[1] == 0
    write_set(folder, range(46, 60))  # two below and two above; the same audio elsewhere in the file
    after, heard = label(folder, teacher)
    assert heard == 4
    np.testing.assert_array_equal(after.logits[after.rows(list(before.note_str))], before.logits)
    write_set(folder, range(50, 52))
    assert label(folder, teacher)[0].note_str == ("pluck-050-100", "pluck-051-100")


def test_changed_audio_is_heard_again_and_a_new_name_is_not(folder: Path, weights: Path) -> None:
    import dataclasses

    teacher = load_teacher("mn04", weights)
    label(folder, teacher)
    notes = write_set(folder, PITCHES)
    audio, _ = soundfile.read(folder / notes[0].file, dtype="float32")
    audio[notes[4].start : notes[4].start + 2000] = 0.0
    soundfile.write(folder / notes[0].file, audio, RATE_HZ, subtype="PCM_24")
    write_notes(folder, [dataclasses.replace(note, note_str=f"again-{note.pitch:03d}-100") for note in notes])
    assert label(folder, teacher)[1] == 1


def test_other_weights_hear_everything(folder: Path, weights: Path) -> None:
    label(folder, load_teacher("mn04", weights))
    write_network(weights, embedding=16)
    labels, heard = label(folder, load_teacher("mn04", weights))
    assert heard == 10
    assert labels.embeddings.shape == (10, 16)


def test_an_interruption_loses_little(folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(folder, range(40, 76))
    teacher = load_teacher("mn04", weights)
    whole, calls = Teacher.hear, 0

    def interrupted(
        self: Teacher, audio: npt.NDArray[np.float32], sample_rate_hz: int, bed_dbfs: float | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return whole(self, audio, sample_rate_hz, bed_dbfs)

    monkeypatch.setattr(train.label, "CHECKPOINT_NOTES", 10)
    monkeypatch.setattr(Teacher, "hear", interrupted)
    with pytest.raises(KeyboardInterrupt):
        label(folder, teacher)
    assert read_labels(folder).note_str == tuple(f"pluck-{pitch:03d}-100" for pitch in range(40, 56))
    monkeypatch.undo()
    labels, heard = label(folder, teacher)
    assert heard == 36 - 16
    labels_path(folder, "mn04").unlink()
    np.testing.assert_array_equal(labels.logits, label(folder, teacher)[0].logits)


def test_room_for_labels_is_looked_for_after_the_first_notes(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder)
    row_bytes = 64 + 4 * (527 + 384)  # the key, logits, embedding
    needed = 2 * len(PITCHES) * row_bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    assert _command(folder, weights) == 1
    assert "GB free, got 0.000 GB" in capsys.readouterr().err
    assert not labels_path(folder, "mn04").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert _command(folder, weights) == 0


def test_notes_of_several_rates_share_a_set(folder: Path, weights: Path) -> None:
    import dataclasses

    notes = write_set(folder, PITCHES)
    audio, _ = soundfile.read(folder / notes[0].file, dtype="float32")
    soundfile.write(folder / "audio" / "slow.flac", audio[: notes[0].samples : 2], RATE_HZ // 2)
    half = dataclasses.replace(
        notes[0], note_str="half-048-100", file="audio/slow.flac", sample_rate=24_000, start=0, samples=28_800
    )
    write_notes(folder, [*notes, half])
    labels, _ = label(folder, load_teacher("mn04", weights))
    whole, halved = labels.logits[labels.rows(["pluck-048-100", "half-048-100"])]
    assert np.corrcoef(whole, halved)[0, 1] > 0.95


def test_unknown_weights_are_used_and_said(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(folder, weights) == 0
    printed = capsys.readouterr()
    assert "is not the mn04 that we know (SHA-256" in printed.err
    content = json.loads((folder / "attributes-mn04.json").read_text())
    assert content["excluded"] == ["Sound 3, invented"]
    assert len(content["attributes"]) == 526


def test_a_table_of_accuracies_changes_the_order(folder: Path, weights: Path) -> None:
    table = weights.with_name("accuracy.csv")
    names = [f"Sound {number}, invented" for number in range(527)]
    table.write_text(
        "display_name,accuracy\n" + "".join(f'"{name}",{0.5 if name != names[9] else 1}\n' for name in names)
    )
    assert _command(folder, weights, "--per-class-accuracy", str(table)) == 0
    content = json.loads((folder / "attributes-mn04.json").read_text())
    by_name = {attribute["name"]: attribute for attribute in content["attributes"]}
    for name in names[8:10]:
        accuracy = 1.0 if name == names[9] else 0.5
        assert by_name[name]["rank_score"] == pytest.approx(np.sqrt(by_name[name]["p90"] * accuracy))


def test_errors_leave_by_the_front_door(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(folder, weights.with_name("none.onnx")) == 1
    assert "hint: mn04_as is in the releases" in capsys.readouterr().err
    assert darkrack.main(["label", "--data", str(folder)]) == 1
    printed = capsys.readouterr().err
    assert "--weights: expected the network of mn04" in printed
    assert "hint: mn04_as is in the releases" in printed
    assert _command(folder, weights, "--teacher", "descriptors") == 1
    assert "--weights: expected none" in capsys.readouterr().err
    assert _command(folder, weights, "--threads", "0") == 1
    assert "--threads: expected at least 1" in capsys.readouterr().err
    assert _command(folder.with_name("nowhere"), weights) == 1
    assert "notes.csv" in capsys.readouterr().err


def test_a_set_without_usable_notes_is_refused(tmp_path: Path, weights: Path) -> None:
    write_set(tmp_path / "set", PITCHES, dict.fromkeys(PITCHES, "silent"))
    with pytest.raises(DarkrackError, match="a note whose check is ok or octave"):
        label(tmp_path / "set", load_teacher("mn04", weights))


def test_audio_that_is_not_finite_is_named(folder: Path, weights: Path) -> None:
    import dataclasses

    notes = write_set(folder, PITCHES)
    audio, _ = soundfile.read(folder / notes[0].file, dtype="float32")
    audio[notes[3].start + 5] = np.nan
    soundfile.write(folder / "audio" / "pluck.wav", audio, RATE_HZ, subtype="FLOAT")
    write_notes(folder, [dataclasses.replace(note, file="audio/pluck.wav") for note in notes])
    with pytest.raises(DarkrackError, match="pluck-051-100: expected finite samples"):
        label(folder, load_teacher("mn04", weights))


def test_missing_and_damaged_labels(folder: Path, weights: Path) -> None:
    with pytest.raises(DarkrackError, match="run darkrack label"):
        read_labels(folder)
    label(folder, load_teacher("mn04", weights))
    path = labels_path(folder, "mn04")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a zip"):
        path.write_bytes(damaged)
        with pytest.raises(DarkrackError, match="delete it and label again"):
            read_labels(folder)
    with np.load(_restored(path, whole)) as stored:
        arrays = dict(stored)
    for name, content in (("logits", arrays["logits"][:5]), ("embeddings", arrays["embeddings"][:5])):
        np.savez(path, **(arrays | {name: content}))
        with pytest.raises(DarkrackError, match="10 rows in every array"):
            read_labels(folder)
    del arrays["key"]
    np.savez(path, **arrays)
    with pytest.raises(DarkrackError, match="key"):
        read_labels(folder)


def _restored(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_descriptors_label_a_set_without_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["label", "--data", str(folder), "--teacher", "descriptors"]
    assert darkrack.main(words) == 0
    printed = capsys.readouterr()
    assert "10 notes labelled, 10 of them heard now" in printed.out
    assert printed.err == ""
    labels = read_labels(folder, "descriptors")
    assert "Brightness" in labels.classes
    assert np.isfinite(labels.logits).all()
    content = json.loads((folder / "attributes-descriptors.json").read_text())
    assert {attribute["name"] for attribute in content["attributes"]} == set(labels.classes)
    assert content["excluded"] == []
    assert darkrack.main(words) == 0
    assert "10 notes labelled, 0 of them heard now" in capsys.readouterr().out


@pytest.mark.data
def test_the_second_ear_labels_a_set(folder: Path, darkrack_data: Path) -> None:
    """The default list leaves out only classes that both taggers have."""
    words = ["label", "--data", str(folder), "--teacher", "yamnet"]
    assert darkrack.main([*words, "--weights", str(darkrack_data / "teachers" / "yamnet_float.onnx")]) == 0
    content = json.loads((folder / "attributes-yamnet.json").read_text())
    assert len(content["attributes"]) + len(content["excluded"]) == 521
