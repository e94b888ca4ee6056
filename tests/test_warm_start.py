"""Weights of one run for another: taken by names of attributes, left small, and nothing taken that does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_ear import LISTENED
from training import RECIPE, label_descriptors, train_run, write_recipe, write_set

import darkrack
from device.errors import DarkrackError
from train import stages, warm_start
from train.cost import spent
from train.dataset import load_training_set
from train.recipe import read_recipe
from train.runs import open_run


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


def command(recipe: Path, data: Path, run: Path, *more: str) -> None:
    words = ["train", str(recipe), "--data", str(data), "--run", str(run), "--threads", "1", *more]
    assert darkrack.main(words) == 0


def test_a_warm_start_takes_weights_by_the_names_of_attributes(notes_folder: Path, tmp_path: Path) -> None:
    command(write_recipe(tmp_path), notes_folder, tmp_path / "first")
    narrower = RECIPE.replace("attributes = 3", "attributes = 2")
    (tmp_path / "narrower.toml").write_text(narrower)
    recipe, _ = read_recipe(tmp_path / "narrower.toml")
    notes = load_training_set(notes_folder, recipe, 1)
    state = stages.start_state(recipe, notes)
    names = ("Organ", "Siren")  # one that the earlier run had, as its last, and one that it had not
    began = warm_start.take(state, tmp_path / "first", names)
    assert began["step"] == 12
    old = stages.load_checkpoint(tmp_path / "first")
    first, new = old["generator"]["condition.first.weight"], state.generator.condition.first.weight
    # z 4, attributes 3 or 2, hats and velocity after them
    assert torch.equal(new[:, :4], first[:, :4])
    assert torch.equal(new[:, 4], first[:, 6])
    assert torch.equal(new[:, 6:], first[:, 7:])
    assert torch.equal(state.critic.attributes.weight[0], old["critic"]["attributes.weight"][2])
    assert torch.equal(state.average_generator.start.weight, old["average_generator"]["start.weight"])
    # The soft labels' means are those of the notes at hand.
    mean = notes.soft_labels[notes.parts["train"]].mean(axis=0)
    assert state.generator.condition.attribute_mean[0].numpy() == pytest.approx(mean, abs=1e-5)

    # Other layers, and layers that would be left behind.
    for changed in ("[8, 16, 8]", '[8, 8, 8]\nconditioning = "concatenated"'):
        other = tmp_path / "other.toml"
        other.write_text(narrower.replace("[8, 8, 8]", changed))
        recipe, _ = read_recipe(other)
        with pytest.raises(DarkrackError, match="only attributes may differ"):
            warm_start.take(stages.start_state(recipe, notes), tmp_path / "first", names)


def test_the_command_says_what_a_run_started_from(notes_folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    command(recipe, notes_folder, tmp_path / "first")
    for _ in range(2):  # the second call finds it finished, and must not forget
        command(recipe, notes_folder, tmp_path / "second", "--start-from", str(tmp_path / "first"))
        began = stages.load_generator(tmp_path / "second")[3]["started_from"]
        cost = began.pop("cost")
        assert began == {"recipe_sha256": read_recipe(recipe)[1], "step": 12}
        assert cost == spent(tmp_path / "first")
    command(recipe, notes_folder, tmp_path / "third", "--start-from", str(tmp_path / "second"))
    assert spent(tmp_path / "third")["steps"] == 36  # with all that it rests on
    assert spent(tmp_path / "third")["joules"] > spent(tmp_path / "second")["joules"] > cost["joules"] > 0


def test_what_is_left_of_a_run_is_small_and_begins_another(
    notes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path)
    command(recipe, notes_folder, tmp_path / "run")
    words = ["warm-start", str(tmp_path / "run"), "--out", str(tmp_path / "warm")]
    assert darkrack.main(words) == 0
    assert "to begin with: darkrack train --start-from" in capsys.readouterr().out
    whole, left = (tmp_path / name / stages.CHECKPOINT for name in ("run", "warm"))
    assert left.stat().st_size < 0.3 * whole.stat().st_size

    # It sounds as the run does, and what begins with it begins with what the run sounded like.
    run, warm = (open_run(tmp_path / name) for name in ("run", "warm"))
    tensors = [torch.full(size, 0.5) for size in run.inputs.values()]
    torch.testing.assert_close(warm.generator(*tensors), run.generator(*tensors), rtol=1e-2, atol=1e-2)
    command(recipe, notes_folder, tmp_path / "next", "--start-from", str(tmp_path / "warm"), "--until", "1")
    content = stages.load_checkpoint(tmp_path / "next")
    began = (
        content["generator"]["start.weight"]
        - stages.load_checkpoint(tmp_path / "run")["average_generator"]["start.weight"]
    )
    assert began.abs().max() < 0.01  # one step of Adam, and half precision
    assert spent(tmp_path / "next")["steps"] == spent(tmp_path / "run")["steps"] + 1

    assert darkrack.main(words) == 0  # again, over the older one
    capsys.readouterr()
    for wrong, said in (
        ([*words[:3], str(tmp_path / "next")], "expected a new folder, or an older warm start, got a run"),
        (
            ["train", str(recipe), "--data", str(notes_folder), "--run", str(tmp_path / "warm")],
            "a warm start",
        ),
        (["warm-start", str(tmp_path / "none"), "--out", str(tmp_path / "x")], "recipe.toml"),
    ):
        assert darkrack.main(wrong) == 1
        assert said in capsys.readouterr().err


def test_trimming_by_ear_begins_with_a_warm_start(tmp_path: Path) -> None:
    data = label_descriptors(write_set(tmp_path / "set"))
    run = train_run(tmp_path, data, LISTENED.replace("[8, 8, 8]", "[16, 16, 16]"), "--ear", "descriptors")
    warm_start.leave(run, tmp_path / "warm")
    out = tmp_path / "out"
    words = [
        "trim",
        str(tmp_path / "warm"),
        "--data",
        str(data),
        "--out",
        str(out),
        "--to",
        "70%",
        "--last-steps",
        "2",
    ]
    assert darkrack.main([*words, "--batch", "8", "--learn", "task", "ear", "--ear", "descriptors"]) == 0
    assert spent(out / "70")["steps"] == spent(run)["steps"] + 2
