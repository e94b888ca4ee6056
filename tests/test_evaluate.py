"""The measures against cases whose answer is known, and the whole command on a small trained bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training import train_run, write_set

import darkrack
from compress import export
from device import bundle as bundles
from device.bundle import Bundle
from device.errors import DarkrackError
from train import evaluate
from train.teacher import load_teacher


def test_frechet_distance_of_known_gaussians() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((20_000, 3))
    assert evaluate.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    # A shift d costs |d|^2; a scale s costs (s - 1)^2 per axis. The estimate is that of the samples drawn.
    assert evaluate.frechet_distance(a, a + np.array([3.0, 0.0, 4.0])) == pytest.approx(25.0)
    assert evaluate.frechet_distance(a, 2 * a) == pytest.approx(3.0, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_an_interval_holds_its_mean(seed: int, shift: float) -> None:
    values = np.random.default_rng(seed).standard_normal(50) + shift
    mean, low, high = evaluate.interval(values, np.random.default_rng(0))
    assert low <= mean <= high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.35)


def test_a_knob_counts_only_if_it_moves_enough_and_surely() -> None:
    random = np.random.default_rng(0)
    assert evaluate._moved(0.8 + 0.5 * random.standard_normal(100), random)
    assert not evaluate._moved(0.3 + 0.1 * random.standard_normal(100), random)  # sure but small
    assert not evaluate._moved(0.6 + 20 * random.standard_normal(100), random)  # large but unsure
    assert not evaluate._moved(-0.8 + 0.5 * random.standard_normal(100), random)  # the wrong way


def test_planted_correlation_is_found_and_a_permuted_one_is_not() -> None:
    random = np.random.default_rng(0)
    asked = random.standard_normal((4000, 2))
    heard = np.stack([asked[:, 0] + random.standard_normal(4000), random.standard_normal(4000)], axis=1)
    found = evaluate._correlation(asked, heard)
    assert found[0] == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert abs(found[1]) < 0.05
    assert abs(evaluate._correlation(asked[random.permutation(4000)], heard)).max() < 0.05
    assert evaluate._correlation(np.ones((9, 1)), random.standard_normal((9, 1)))[0] == 0


@pytest.mark.data
def test_a_bundle_of_another_teacher_is_refused(tiny_bundle: Bundle, darkrack_data: Path) -> None:
    teacher = load_teacher("mn04", darkrack_data / "teachers" / "mn04_as.onnx")
    names = {one.name for one in tiny_bundle.manifest.attributes}
    assert names - set(teacher.classes), "the fixture knows an attribute that AudioSet does not"
    with pytest.raises(DarkrackError, match="a class for each attribute"):
        evaluate.Listener(tiny_bundle, teacher, None, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle of twelve steps and its notes: enough of them that both held-out parts have some."""
    folder = tmp_path_factory.mktemp("evaluate")
    data = write_set(folder / "set", instruments=160)
    export.export(train_run(folder, data), folder / "x.rack", "Tin", ())
    return folder / "x.rack", data


@pytest.mark.data
@pytest.mark.slow
def test_the_whole_command(
    trained: tuple[Path, Path], tmp_path: Path, darkrack_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = trained
    before = bundles.read(out)
    weights = darkrack_data / "teachers" / "mn04_as.onnx"
    words = [
        "evaluate",
        str(out),
        "--data",
        str(folder),
        "--weights",
        str(weights),
        "--notes",
        "50",
        "--pairs",
        "20",
    ]
    assert darkrack.main([*words, "--json", str(tmp_path / "x.json"), "--update-card"]) == 0
    figures = json.loads((tmp_path / "x.json").read_text())
    for part in figures["held_out"]:
        distance = part["frechet_distance"]
        assert distance["real"] < distance["generated"]  # twelve steps of training are not music
        assert distance["resynthesis"] < distance["generated"]
        assert part["likeness"]["resynthesis"][0] > part["likeness"]["generated"][0]
    assert figures["knobs"]["by_chance"] == []
    assert "instruments never seen" in capsys.readouterr().out
    after = bundles.read(out)
    assert "Fréchet" in after.card
    assert "Fréchet" not in before.card
    assert all(one.correlation is not None for one in after.manifest.attributes)
    assert after.manifest.quality["evaluation"]["teacher"] == "mn04"
    assert after.model() == before.model()


@pytest.mark.data
@pytest.mark.slow
def test_too_few_notes_decide_nothing(
    trained: tuple[Path, Path], tmp_path: Path, darkrack_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_set(tmp_path / "few", instruments=10)
    weights = darkrack_data / "teachers" / "mn04_as.onnx"
    words = ["evaluate", str(trained[0]), "--data", str(few), "--weights", str(weights)]
    assert darkrack.main([*words, "--pairs", "2"]) == 1
    assert "at least 50 notes and 20 pairs" in capsys.readouterr().err
    assert darkrack.main(words) == 1
    assert "at least 20 notes" in capsys.readouterr().err
