"""Quality against cost, and a bundle that is heard before it is written: real runs, a real ear, real LiteRT."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_prune import WIDER
from training import GROWING, ONE_TEACHER, label_descriptors, train_run, write_set

import darkrack
from compress import pareto, prove
from compress.pareto import Candidate, front, ram_bytes
from compress.prove import worse
from device import bundle
from device.generator import Network
from train import judge

DESCRIPTORS = """[labels]
teacher = "descriptors"
attributes = 4
distinct = 1.0
temperature = 2.0

"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_descriptors(write_set(tmp_path_factory.mktemp("set"), instruments=160))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return train_run(tmp_path_factory.mktemp("parent"), data, WIDER.replace(ONE_TEACHER, DESCRIPTORS))


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory, data: Path, parent: Path) -> Path:
    out = tmp_path_factory.mktemp("trimmed")
    words = ["--to", "60%", "40%", "--steps", "2", "--last-steps", "4", "--batch", "8"]
    assert darkrack.main(["trim", str(parent), "--data", str(data), "--out", str(out), *words]) == 0
    return out


@pytest.fixture(autouse=True)
def _little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = judge.Effort("quick", 60, 60, 10, 0, 30, 60, (0, 0, 0), (0, 0, 0))
    monkeypatch.setitem(judge.EFFORTS, "quick", effort)


@pytest.mark.slow
def test_the_report_has_what_each_network_costs_and_how_it_sounds(
    data: Path, parent: Path, trimmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(parent), str(trimmed / "60"), str(trimmed / "40")]
    figures = tmp_path / "figures.json"
    asked = ["--data", str(data), "--ear", "descriptors", "--quick", "--json", str(figures)]
    assert darkrack.main(["evaluate", *runs, *asked]) == 0
    capsys.readouterr()
    judged = json.loads(figures.read_text())["subjects"][2:]
    assert [one["hop"] for one in judged] == [None] * 3, (
        "what was trimmed was trained on: not to be held to its parent's notes"
    )
    out = tmp_path / "report"
    assert darkrack.main(["trim", "--report", str(figures), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    found = json.loads((out / "report.json").read_text())
    assert (out / "report.md").read_text().strip() in text
    assert (out / "pareto.png").stat().st_size > 10_000
    networks = found["networks"]
    assert [one["arm"] for one in networks] == ["parent", "mi per macs", "mi per macs"]
    assert networks[0]["share"] == networks[0]["weight_share"] == 1
    assert networks[0]["keeps"]
    assert 0.4 >= networks[2]["share"] > 0.2
    for one in networks:
        assert one["note_us"] > 0
        assert one["note_j"] > 0
        assert one["fad"]["descriptors"][0] > 0
        assert one["ram_bytes"] >= 4 * 2 * 12 * 32  # the frames alone
        assert one["arm"] in text
    assert networks[2]["file_bytes"] < networks[0]["file_bytes"]
    assert "Raspberry Pi Zero 2 W" in text
    assert "Estimates, not measured on the boards" in text


@pytest.mark.slow
def test_runs_on_stft_are_reported_as_they_play(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GROWING.replace(ONE_TEACHER, DESCRIPTORS).replace(
        "channels = [8, 8, 4]", "channels = [24, 16, 16]"
    )
    grown, out = train_run(tmp_path, data, text), tmp_path / "trimmed"
    asked = [
        "--learn",
        "outputs",
        "--to",
        "40%",
        "--criterion",
        "magnitude",
        "--steps",
        "2",
        "--last-steps",
        "4",
    ]
    assert darkrack.main(["trim", str(grown), "--data", str(data), "--out", str(out), *asked]) == 0
    figures = tmp_path / "figures.json"
    asked = ["--data", str(data), "--ear", "descriptors", "--quick", "--json", str(figures)]
    assert darkrack.main(["evaluate", str(grown), str(out / "40"), *asked]) == 0
    capsys.readouterr()
    assert darkrack.main(["trim", "--report", str(figures), "--out", str(tmp_path / "report")]) == 0
    told = capsys.readouterr().out
    assert "| us float16 | us float32 | parent's float32 / float16 |" in told
    assert "What fits where" not in told
    parent, trimmed = json.loads((tmp_path / "report" / "report.json").read_text())["networks"]
    assert (parent["played"], trimmed["arm"]) == ("float16", "magnitude per macs")
    assert trimmed["share"] <= 0.4
    assert trimmed["file_bytes"] < parent["file_bytes"]


def test_what_cannot_be_reported_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(content: str) -> str:
        (tmp_path / "f.json").write_text(content)
        words = ["trim", "--report", str(tmp_path / "f.json"), "--out", str(tmp_path / "o")]
        assert darkrack.main(words) == 1
        return capsys.readouterr().err

    assert "expected JSON" in said("{")
    assert "expected the figures of darkrack evaluate, got a list" in said("[]")
    assert "figures" in said(json.dumps({"subjects": []}))


@pytest.mark.slow
def test_a_bundle_is_heard_before_it_is_written(
    data: Path,
    parent: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rack = tmp_path / "x.rack"
    words = ["export", str(parent), "--out", str(rack), "--fine-tune", "2", "--ear", "descriptors"]
    words += ["--prove", str(data), "--against", str(parent), "--json", str(tmp_path / "x.json")]
    with monkeypatch.context() as strict:
        strict.setattr(prove, "LEAST_CORRELATION", -2.0)  # nothing correlates by two more than its parent
        strict.setattr(prove, "TOLERANCE", -100.0)
        assert darkrack.main(words) == 1
    error = capsys.readouterr().err
    assert "what sounds as its parent does" in error
    assert "no bundle was written" in error
    assert not rack.exists()
    assert darkrack.main(words) == 0
    made = bundle.read(rack)
    proof = json.loads(made.files[bundle.MANIFEST])["quality"]["proof"]
    assert proof["default"] == made.manifest.default_variant
    assert set(proof["variants"]) == {"float32", "dynamic_int8"}
    assert set(proof["heard"]) == {"the run", "its parent", "float32", "dynamic_int8"}
    # float32 through LiteRT is what torch is. Descriptors jump (when does an attack begin?), on some processors by .08.
    run, float32 = (proof["heard"][name]["fad"]["descriptors"][0] for name in ("the run", "float32"))
    assert float32 == pytest.approx(run, rel=0.2)
    assert json.loads((tmp_path / "x.json").read_text())["proof"] == proof
    assert "by default" in capsys.readouterr().out


def test_options_that_contradict_are_refused(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["export", str(parent), "--out", str(tmp_path / "x.rack")]
    assert darkrack.main([*words, "--against", str(parent)]) == 1
    assert "--against: expected --prove DIR with it" in capsys.readouterr().err
    assert darkrack.main([*words, "--fine-tune", "-1"]) == 1
    assert "--fine-tune: expected 0 or more steps, got -1" in capsys.readouterr().err
    assert darkrack.main([*words, "--ear", "descriptors"]) == 1
    assert "--ear: expected --prove DIR with it" in capsys.readouterr().err
    monkeypatch.setattr("compress.export.to_tflite", lambda *_: pytest.fail("converted before it was asked"))
    assert darkrack.main([*words, "--prove", str(tmp_path)]) == 1
    assert "--ear: expected at least one ear" in capsys.readouterr().err
    assert darkrack.main([*words, "--prove", str(tmp_path), "--ear", "descriptors"]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def heard(fad: float, cents: float, correlation: float) -> dict[str, Any]:
    return {
        "parts": {"unseen_notes": {"frechet": {"ear": {"estimate": [fad, fad - 1, fad + 1]}}}},
        "attributes": [{"logit": [correlation, 0, 1]}, {"logit": [correlation, 0, 1]}],
        "pitch": {"median_cents": [cents, cents - 0.1, cents + 0.1]},
        "diversity": None,
    }


def test_worse_is_beyond_the_interval_and_beyond_the_tolerance() -> None:
    assert worse(heard(5, 1, 0.3), heard(5, 1, 0.3)) == []
    assert worse(heard(5.9, 1.05, 0.28), heard(5, 1, 0.3)) == []
    assert worse(heard(20.5, 1, 0.3), heard(20, 1, 0.3)) == []
    assert worse(heard(6.1, 1, 0.3), heard(5, 1, 0.3)) == ["FAD by ear 6.10, parent 5.00 (at most 6.00)"]
    assert worse(heard(5, 2, 0.3), heard(5, 1, 0.3)) == ["2.00 cents, parent 1.00 (at most 1.10)"]
    assert worse(heard(5, 1, 0.26), heard(5, 1, 0.3)) == ["attribute correlation 0.260, parent 0.300"]
    assert len(worse(heard(float("nan"), float("nan"), float("nan")), heard(5, 1, 0.3))) == 3


def candidate(macs: int, fad: float) -> Candidate:
    fields: dict[str, Any] = dict.fromkeys(Candidate.__dataclass_fields__, 0)
    return Candidate(**{**fields, "macs": macs, "fad": {"ear": (fad, fad, fad)}})


def test_the_front_is_what_nothing_beats() -> None:
    small, middle, poor, large = candidate(1, 9), candidate(5, 6), candidate(6, 7), candidate(10, 5)
    assert front([large, poor, small, middle], "macs", "ear") == [small, middle, large]


def test_ways_to_trim_are_compared_over_their_seeds() -> None:
    def trimmed(arm: str, budget: str, share: float, fad: float) -> Candidate:
        return replace(candidate(1, fad), arm=arm, budget=budget, share=share, steps=9, correlation=fad / 10)

    ways = [
        replace(candidate(1, 1), budget=""),  # the parent
        trimmed("random", "5", 0.049, 6), trimmed("random", "5", 0.05, 8),
        trimmed("mi", "25", 0.25, 4), trimmed("mi", "5", 0.05, 5.5),
    ]  # fmt: skip
    lines = list(pareto._arms(ways, ["ear"]))
    assert [line for line in lines if line.startswith("| 2") or line.startswith("| 5")] == [
        "| 25 | mi | 9 | 1 | 4.00 | 0.400 |",
        "| 5 | mi | 9 | 1 | 5.50 | 0.550 |",
        "| 5 | random | 9 | 2 | 7.00 (6.00 to 8.00) | 0.700 (0.600 to 0.800) |",
    ]
    assert not list(pareto._arms([ways[0], *ways[2:4]], ["ear"]))  # no way has a second seed


def test_ram_is_what_lives_at_once(tiny_bundle: bundle.Bundle) -> None:
    model = tiny_bundle.model("float32")
    manifest = tiny_bundle.manifest
    assert Network(model, "tiny", manifest.inputs, manifest.output)
    frames = 4 * manifest.output[1] * manifest.output[2] * manifest.output[3]
    assert frames < ram_bytes(model) < 100 * frames
    assert pareto.BOARDS[-1].ram < pareto.BOARDS[0].ram
