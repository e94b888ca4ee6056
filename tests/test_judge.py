"""The judge on real notes and voices whose faults are planted; what it says of each, by name."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training
from training import write_set

import darkrack
from compress import export
from device import bundle as bundles
from device import knobs
from device.bundle import Bundle
from device.errors import DarkrackError
from device.generator import Asked
from train import evaluate, judge, listening
from train.judge import Kept, verdict
from train.label import read_labels
from train.listener import Held, Listener, held_out
from train.notes import read_notes
from train.teacher import load_teacher
from train.voice import FAULTS, UNNAMED, open_voice

FLAGSHIP = Path(__file__).parent.parent / "models" / "flagship.rack"


def subject(**figures: Any) -> dict[str, Any]:
    """A healthy voice's figures, but for what is given."""
    healthy = {
        "name": "X",
        "kind": "bundle",
        "diversity": {"share": [0.7, 0.6, 0.8]},
        "attributes": [{"logit": [0.4, 0.3, 0.5], "permuted": [0.0, -0.1, 0.1]}] * 3,
        "pitch": {"median_cents": [0.5, 0.4, 0.6]},
        "hop": {"parent": "Y", "log_spectral_db": [0.3, 0.2, 0.4]},
    }
    return {**healthy, **figures}


class TestVerdict:
    def test_a_healthy_voice_has_none(self) -> None:
        assert verdict([subject()]) == []

    def test_what_was_not_measured_accuses_nobody(self) -> None:
        assert verdict([subject(diversity=None, attributes=None, pitch=None, hop=None)]) == []

    @pytest.mark.parametrize(
        ("figures", "fault"),
        [
            ({"diversity": {"share": [0.1, 0.0, 0.2]}}, "z changes nothing"),
            (
                {"attributes": [{"logit": [0.03, -0.1, 0.1], "permuted": [0.0, -0.1, 0.1]}]},
                "attributes do not",
            ),
            ({"pitch": {"median_cents": [19.0, 18.0, 20.0]}}, "out of tune"),
            ({"hop": {"parent": "Y", "log_spectral_db": [9.0, 8.0, 10.0]}}, "lost on the way"),
        ],
    )
    def test_each_fault_by_its_measure(self, figures: dict[str, Any], fault: str) -> None:
        found = verdict([subject(), subject(name="Z", **figures)])
        assert [one["subject"] for one in found] == ["Z"]
        assert found[0]["fault"].startswith(fault)

    def test_an_interval_that_reaches_over_the_bound_does_not_accuse(self) -> None:
        assert verdict([subject(diversity={"share": [0.25, 0.1, 0.4]})]) == []
        assert verdict([subject(pitch={"median_cents": [6.0, 4.0, 8.0]})]) == []

    def test_another_fault_explains_the_hop(self) -> None:
        found = verdict(
            [subject(diversity={"share": [0, 0, 0]}, hop={"parent": "Y", "log_spectral_db": [9, 8, 10]})]
        )
        assert [one["fault"] for one in found] == ["z changes nothing"]


class TestKept:
    def test_what_was_found_is_not_looked_for_again(self, tmp_path: Path) -> None:
        path = tmp_path / "kept.json"
        first = Kept(path, 3)
        found = first("A", "pitch", lambda random: float(random.random()))
        assert first.has("A", "pitch")
        assert not first.has("B", "pitch")

        def never(_: np.random.Generator) -> float:
            raise AssertionError("looked for again")

        assert Kept(path, 3)("A", "pitch", never) == found
        first.finish()
        assert not path.exists()

    def test_voices_are_asked_alike_whatever_came_before(self) -> None:
        one, other = Kept(None, 3), Kept(None, 3)
        one("A", "knobs", lambda random: float(random.random()))
        pitch = [
            kept(whose, "pitch", lambda random: float(random.random()))
            for kept in (one, other)
            for whose in "AB"
        ]
        assert len(set(pitch)) == 1
        assert Kept(None, 4)("A", "pitch", lambda random: float(random.random())) != pitch[0]

    def test_damage_is_our_error(self, tmp_path: Path) -> None:
        (tmp_path / "kept.json").write_text("{")
        with pytest.raises(DarkrackError, match="delete it to start again"):
            Kept(tmp_path / "kept.json", 0)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """800 synthetic notes of 160 instruments."""
    folder = write_set(tmp_path_factory.mktemp("judge") / "set", instruments=160)
    (folder / "labels-mn04.npz").unlink()  # made up: the ears here are real
    return folder


@pytest.fixture
def labelled(unlabelled: Path, darkrack_data: Path) -> Path:
    """The same, labelled by the real mn04 (once: it remembers)."""
    weights = darkrack_data / "teachers" / "mn04_as.onnx"
    assert darkrack.main(["label", "--data", str(unlabelled), "--weights", str(weights)]) == 0
    return unlabelled


def words(data: Path, darkrack_data: Path, *more: str) -> list[str]:
    teachers = darkrack_data / "teachers"
    ears = ["--ear", f"mn04={teachers / 'mn04_as.onnx'}", "--ear", f"yamnet={teachers / 'yamnet_float.onnx'}"]
    return ["evaluate", "--data", str(data), *ears, "--quick", *more]


@pytest.mark.data
@pytest.mark.slow
def test_planted_faults_move_the_measure_that_catches_them(
    labelled: Path, darkrack_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    assert (
        darkrack.main([*words(labelled, darkrack_data, "--json", str(out), "--plant", "all"), str(FLAGSHIP)])
        == 0
    )
    figures = json.loads(out.read_text())
    subjects = {one["name"]: one for one in figures["subjects"]}
    healthy = next(one for one in figures["subjects"] if one["kind"] == "bundle" and not one["fault"])
    by_fault = {one["fault"]: one for one in figures["subjects"] if one["fault"]}
    assert set(by_fault) == set(FAULTS) - UNNAMED

    def correlation(one: dict[str, Any]) -> float:
        return float(np.mean([row["logit"][0] for row in one["attributes"]]))

    # Real notes are nearer to real notes than resynthesis, and that is nearer than what is generated: by both ears.
    for part in ("unseen_notes", "unseen_instruments"):
        for ear in ("mn04", "yamnet"):
            real, once, generated = (
                subjects[name]["parts"][part]["frechet_at_n"][ear]
                for name in ("real", "resynthesis", healthy["name"])
            )
            assert real <= once <= generated
    # Each planted fault moves its own measure ...
    assert by_fault["z_ignored"]["diversity"]["share"][2] < 0.01 < healthy["diversity"]["share"][1]
    assert correlation(by_fault["permuted"]) < 0.5 * correlation(healthy)
    assert by_fault["detuned"]["pitch"]["median_cents"][0] == pytest.approx(20, abs=2)
    assert healthy["pitch"]["median_cents"][0] < 5
    assert by_fault["miscalibrated"]["hop"]["log_spectral_db"][1] > 3
    assert (
        by_fault["miscalibrated"]["parts"]["unseen_notes"]["frechet_at_n"]["yamnet"]
        > healthy["parts"]["unseen_notes"]["frechet_at_n"]["yamnet"]
    )
    # ... and is named, and the healthy voice is not accused.
    named = {one["subject"]: one["fault"] for one in figures["verdict"]}
    assert named == {
        by_fault["z_ignored"]["name"]: "z changes nothing",
        by_fault["permuted"]["name"]: "attributes do not do what they say",
        by_fault["detuned"]["name"]: "out of tune",
        by_fault["miscalibrated"]["name"]: "lost on the way from its parent (quantization)",
    }


@pytest.mark.data
@pytest.mark.slow
def test_every_measure_of_a_run_beside_its_bundle(
    labelled: Path,
    darkrack_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twelve steps are not music, but everything is measured, written, printed again, and stands in the card."""
    run = training.train_run(tmp_path, labelled)
    rack = tmp_path / "x.rack"
    export.export(run, rack, "Tin", ())
    effort = judge.Effort("standard", 60, 60, 10, 40, 30, 60, (2, 20, 3), (2, 20, 3))
    monkeypatch.setitem(judge.EFFORTS, "standard", effort)
    monkeypatch.setattr("train.classifier.EPOCHS", 1)
    asked = [word for word in words(labelled, darkrack_data) if word != "--quick"]
    out = tmp_path / "judged"
    assert darkrack.main([*asked, "--out", str(out), "--update-card", str(run), str(rack)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((out / "figures.json").read_text())
    of_run, of_bundle = figures["subjects"][2:]
    assert [of_run["kind"], of_bundle["kind"]] == ["run", "bundle"]
    assert of_run["leakage"] is not None
    assert of_bundle["leakage"] is None
    assert any("leakage" in note for note in of_bundle["notes"])
    assert of_bundle["hop"]["parent"] == of_run["name"]
    assert of_bundle["hop"]["log_spectral_db"][0] < 3
    for one in (of_run, of_bundle):
        assert one["velocity"] is None
        assert "velocity: needs 10 notes held out both soft and hard, there are 0" in one["notes"]
        assert len(one["out_of_distribution"]["delta"]) == len(one["increments"]["delta"]) == 3
        assert one["increments"]["change"][0] == 0
        assert one["knobs"]["attributes"] == 3
        assert one["knobs"]["by_chance"] == []
    assert figures["classifier"]["notes"] > 500
    assert not figures["classifier"]["publishes_iis"]  # one family alone: there is nothing to tell apart
    assert {path.name for path in out.iterdir()} >= {"report.md", "figures.json", "listen.html"}
    assert len(list(out.glob("*.png"))) == 2
    assert (out / "report.md").read_text().strip() in printed
    after = bundles.read(rack)
    assert "Not yet" not in after.card
    assert "Fréchet" in after.card or "FAD" in after.card
    assert all(one.correlation is not None for one in after.manifest.attributes)
    assert after.manifest.quality["evaluation"]["ears"] == ["mn04", "yamnet"]
    named = after.manifest.quality["evaluation"]["panel"]
    assert sorted(named) == sorted(one.name for one in after.manifest.attributes)  # three for eight pots
    assert knobs.panel(after.manifest, 2) == named[:2]
    assert f"no two of which say the same: {', '.join(named)}." in after.card

    assert darkrack.main(["evaluate", "--from", str(out / "figures.json")]) == 0
    assert capsys.readouterr().out.strip() == (out / "report.md").read_text().strip()


@pytest.mark.data
def test_velocity_is_measured_on_notes_held_out_soft_and_hard(labelled: Path, darkrack_data: Path) -> None:
    ear = load_teacher("mn04", darkrack_data / "teachers" / "mn04_as.onnx")
    listener, voice = Listener([ear], None, 1), open_voice(FLAGSHIP)
    labels = read_labels(labelled)
    held = [
        Held(labelled, dataclasses.replace(note, velocity=velocity), {"mn04": logits})
        for note, logits in zip(read_notes(labelled)[:3], labels.logits, strict=False)
        for velocity in (60, 20, 100)
    ]
    held.append(dataclasses.replace(held[0], note=dataclasses.replace(held[0].note, pitch=37)))
    known = judge.Known(held, listener.hear(held, listener.real, "real"), {})
    pairs = judge.touched(known)
    assert pairs == [(1, 2), (4, 5), (7, 8)]  # and not the one that is there only once
    found = judge._velocity(listener, voice, known, pairs, np.random.default_rng(0))
    assert found["pairs"] == 3
    assert found["real"] == [0, 0, 0]  # one recording, said to be of three velocities
    assert found["generated"][0] != 0


@pytest.mark.data
def test_the_bed_lies_under_every_kind_of_note(labelled: Path, darkrack_data: Path) -> None:
    """A short note with digital silence after it, and with a converter's noise at -100 dBFS."""
    ear = load_teacher("yamnet", darkrack_data / "teachers" / "yamnet_float.onnx")
    listener = Listener([ear], None, 1)
    note = np.zeros(48_000, np.float32)
    note[:4800] = 0.3 * np.sin(np.arange(4800) * 0.05)
    dirt = 1e-5 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    heard = listener.hear([note, note + dirt], lambda one: one, "notes")
    bare, _ = ear.hear(np.stack([note, note + dirt]), 48_000)
    assert np.abs(np.diff(heard.logits["yamnet"], axis=0)).mean() < 0.5 * np.abs(np.diff(bare, axis=0)).mean()


@pytest.mark.data
@pytest.mark.slow
def test_a_stopped_judgement_goes_on_and_ends_alike(
    labelled: Path, darkrack_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*words(labelled, darkrack_data, "--notes", "50"), str(FLAGSHIP), "--json"]
    assert darkrack.main([*asked, str(tmp_path / "once.json")]) == 0
    real = judge._pitch

    def stop(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "_pitch", stop)
    assert darkrack.main([*asked, str(tmp_path / "again.json")]) == 130
    assert len(list(labelled.glob("judging-*.json"))) == 1
    monkeypatch.setattr(judge, "_pitch", real)
    with monkeypatch.context() as making_the_page:
        making_the_page.setattr(listening, "page", stop)
        assert darkrack.main([*asked, str(tmp_path / "again.json"), "--out", str(tmp_path / "page")]) == 130
    assert len(list(labelled.glob("judging-*.json"))) == 1
    monkeypatch.setattr(judge, "_pitch", stop)  # these are there already
    monkeypatch.setattr(judge, "_part_figures", stop)
    assert darkrack.main([*asked, str(tmp_path / "again.json")]) == 0
    assert not list(labelled.glob("judging-*.json"))
    once, again = (json.loads((tmp_path / name).read_text()) for name in ("once.json", "again.json"))
    assert once == again


@pytest.mark.data
def test_threads_change_nothing(tiny_bundle: Bundle, darkrack_data: Path) -> None:
    """The same notes in the same chunks, whoever plays them and after whatever other."""
    ear = load_teacher("mn04", darkrack_data / "teachers" / "mn04_as.onnx")
    voice = open_voice(tiny_bundle.path)
    random = np.random.default_rng(0)
    labels = np.array([one.quantiles[16] for one in voice.attributes], np.float32)
    asked = [
        Asked(
            random.standard_normal(voice.latent_size, np.float32),
            labels,
            float(random.uniform(40, 80)),
            0.7,
            n,
        )
        for n in range(100)
    ]
    one, two = (Listener([ear], None, threads).hear_voice(voice, asked, "notes") for threads in (1, 2))
    np.testing.assert_array_equal(one.logits["mn04"], two.logits["mn04"])
    np.testing.assert_array_equal(one.level_dbfs, two.level_dbfs)


class TestRefused:
    def error(self, capsys: pytest.CaptureFixture[str], asked: list[str]) -> str:
        capsys.readouterr()
        assert darkrack.main(asked) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        return said

    @pytest.mark.data
    def test_what_is_asked(
        self, labelled: Path, darkrack_data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        right = words(labelled, darkrack_data)
        assert "at least one ear" in self.error(capsys, ["evaluate", "--data", str(labelled)])
        assert "a labelled data set" in self.error(capsys, ["evaluate"])
        assert "fewer decide nothing" in self.error(capsys, [*right, "--notes", "5"])
        assert "a bundle or run to plant faults in" in self.error(capsys, [*right, "--plant", "all"])
        assert "no such file" in self.error(capsys, [*right, "none.rack"])
        assert "one of mn04, yamnet" in self.error(capsys, [*right, "--ear", "bat=x.onnx"])
        assert "at least 1" in self.error(capsys, [*right, "--threads", "0"])
        assert "another data set" in self.error(capsys, [*right, "--unseen", str(labelled)])
        assert "a folder that can be written" in self.error(capsys, [*right, "--out", str(FLAGSHIP)])
        assert "each ear once" in self.error(capsys, [*right, *right[3:5]])

    @pytest.mark.data
    def test_an_empty_set_and_too_small_a_one(
        self, darkrack_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        nothing = tmp_path / "nothing"
        nothing.mkdir()
        assert "darkrack label" in self.error(capsys, words(nothing, darkrack_data))
        few = write_set(tmp_path / "few", instruments=6)
        (few / "labels-mn04.npz").unlink()
        weights = darkrack_data / "teachers" / "mn04_as.onnx"
        assert darkrack.main(["label", "--data", str(few), "--weights", str(weights)]) == 0
        assert "at least 20 notes" in self.error(capsys, words(few, darkrack_data))

    @pytest.mark.data
    def test_a_voice_of_another_teacher(
        self, labelled: Path, darkrack_data: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = self.error(capsys, [*words(labelled, darkrack_data), str(tiny_bundle.path)])
        assert "a class for the attribute" in said
        only_yamnet = [
            *words(labelled, darkrack_data)[:3],
            "--ear",
            words(labelled, darkrack_data)[6],
            str(FLAGSHIP),
        ]
        assert "add --ear mn04=PATH" in self.error(capsys, only_yamnet)

    @pytest.mark.data
    def test_labels_of_another_class_count(
        self, darkrack_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made_up = write_set(tmp_path / "set", instruments=60)  # labelled with four classes
        said = self.error(capsys, [*words(made_up, darkrack_data), str(FLAGSHIP)])
        assert "the 527 classes of the mn04 that listens" in said

    @pytest.mark.data
    def test_notes_that_are_not_finite(
        self, labelled: Path, darkrack_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import shutil

        import soundfile

        broken = tmp_path / "set"
        shutil.copytree(labelled, broken)
        for path in (broken / "audio").iterdir():
            audio, rate = soundfile.read(path, dtype="float32")
            audio[100] = np.nan
            soundfile.write(path, audio, rate, format="WAV", subtype="FLOAT")
        assert "NaN or infinity" in self.error(capsys, words(broken, darkrack_data))

    def test_figures_that_are_none(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "x.json").write_text("{")
        assert "JSON" in self.error(capsys, ["evaluate", "--from", str(tmp_path / "x.json")])
        (tmp_path / "x.json").write_text("[]")
        assert "the figures of darkrack evaluate" in self.error(
            capsys, ["evaluate", "--from", str(tmp_path / "x.json")]
        )


@pytest.mark.data
def test_one_half_is_compared_with_the_other(labelled: Path, darkrack_data: Path) -> None:
    ear = load_teacher("mn04", darkrack_data / "teachers" / "mn04_as.onnx")
    parts, everything = held_out(labelled, labelled, [ear], pitch_range_midi=(36.0, 84.0), most=1000, seed=0)
    assert [part.name for part in parts] == ["unseen_notes", "unseen_instruments", "another_set"]
    for part in parts:
        asked, other = ({held.note.note_str for held in notes} for notes in (part.notes, part.reference))
        assert not asked & other
        assert len(part.notes) == len(part.reference)
    seen, unseen, _ = parts
    held = {one.note.instrument_str for one in unseen.notes}
    assert held == {one.note.instrument_str for one in unseen.reference} or len(held) > 3
    assert not held & {one.note.instrument_str for one in [*seen.notes, *seen.reference]}
    assert {held.note.note_str for part in parts[:2] for held in part.notes} <= {
        one.note.note_str for one in everything
    }


def test_asked_words_name_no_folders(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    asked = [
        str(FLAGSHIP),
        "--data",
        "/somewhere/notes",
        "--ear",
        "mn04=/else/where/w.onnx",
        "--ear",
        "descriptors",
        "--quick",
    ]
    words = " ".join(evaluate._words(parser.parse_args(asked)))
    assert words == "flagship.rack --data notes --ear mn04=w.onnx --ear descriptors --quick --seed 0"
