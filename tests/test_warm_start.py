"""Weights of one run for another: taken by names of attributes, left small, and nothing taken that does not fit."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from test_ear import LISTENED
from training import RECIPE, label_descriptors, train_run, write_recipe, write_set

import darkrack
from compress import export
from device.errors import DarkrackError
from train import stages, warm_start
from train.cost import own_cost, spent
from train.dataset import load_training_set
from train.ear import ANSWERS
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


def test_an_ear_and_its_memory_go_along_with_the_same_notes(tmp_path: Path) -> None:
    data = label_descriptors(write_set(tmp_path / "set"))
    recipe = write_recipe(tmp_path, LISTENED)
    total = read_recipe(recipe)[0].steps
    by_ear = ("--ear", "descriptors")
    command(recipe, data, tmp_path / "first", *by_ear, "--until", str(total - 1))
    before = stages.load_checkpoint(tmp_path / "first")["hearing"]
    heard = np.load(tmp_path / "first" / ANSWERS)[: before["heard"]]
    assert len(heard) == before["heard"], "the ring has not come round"

    longer = write_recipe(tmp_path, LISTENED.replace("remembered = 48", "remembered = 400"))
    start = ("--start-from", str(tmp_path / "first"))
    command(longer, data, tmp_path / "second", *by_ear, *start, "--until", str(total - 1))
    after = stages.load_checkpoint(tmp_path / "second")["hearing"]
    assert after["heard"] > before["heard"]
    remembered = np.load(tmp_path / "second" / ANSWERS)
    np.testing.assert_array_equal(remembered[: len(heard)], heard)

    # Stopped before anybody listens, it still knows whose memory goes on.
    first_ear = total - 12
    for until in (first_ear, total - 1):
        command(longer, data, tmp_path / "third", *by_ear, *start, "--until", str(until))
        if until == first_ear:
            ear = stages.load_checkpoint(tmp_path / "third")["hearing"]["ear"]
            assert all(torch.equal(value, before["ear"][name]) for name, value in ear.items())
    again = stages.load_checkpoint(tmp_path / "third")["hearing"]["ear"]
    assert all(torch.equal(value, after["ear"][name]) for name, value in again.items())

    # Other notes: answers are counted otherwise, so nothing is taken. An ear of another size has the memory alone.
    other = label_descriptors(write_set(tmp_path / "other", 20))
    command(longer, other, tmp_path / "fourth", *by_ear, *start, "--until", str(first_ear))
    wide = write_recipe(tmp_path, LISTENED.replace("channels = 8\nlearning", "channels = 12\nlearning"))
    command(wide, data, tmp_path / "fifth", *by_ear, *start, "--until", str(first_ear))
    for run, remembers in (("fourth", 0), ("fifth", 1)):
        content = stages.load_checkpoint(tmp_path / run)["hearing"]
        assert len(content["earlier"]) == remembers
        assert not torch.equal(content["ear"]["pitch.weight"][:8], before["ear"]["pitch.weight"])


def test_an_ear_remembers_what_several_runs_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = label_descriptors(write_set(tmp_path / "set"))
    recipe = write_recipe(tmp_path, LISTENED)
    total = read_recipe(recipe)[0].steps
    runs = [tmp_path / "one", tmp_path / "two"]
    by_ear = ("--ear", "descriptors")
    for run in runs:
        command(recipe, data, run, *by_ear, "--until", str(total - 2))
    words = [*by_ear, "--remember", *map(str, runs), "--until", str(total - 1)]
    command(recipe, data, tmp_path / "third", *words)
    content = stages.load_checkpoint(tmp_path / "third")["hearing"]
    assert [Path(run) for run, _ in content["earlier"]] == runs
    # The ring is shared between them, and the newest of each are kept, in their order.
    remembered = [np.load(run / ANSWERS) for run in (*runs, tmp_path / "third")]
    each = len(remembered[2]) // 2
    heard = [stages.load_checkpoint(run)["hearing"]["heard"] for run in runs]
    first, second = (
        answers[np.arange(max(count - each, 0), count) % len(answers)]
        for answers, count in zip(remembered, heard, strict=False)
    )
    filled = len(first) + len(second)
    later = content["heard"] - filled  # written over the oldest once the ring is full
    over = max(content["heard"] - len(remembered[2]), 0)
    assert later > 0
    np.testing.assert_array_equal(remembered[2][over:filled], np.concatenate([first, second])[over:])
    facts = stages.load_generator(tmp_path / "third")[3]["remembered"]
    assert [one["cost"] for one in facts] == [own_cost(run) for run in runs]
    command(recipe, data, tmp_path / "third", *by_ear)  # to its end: whose memory it was is not forgotten
    assert stages.load_generator(tmp_path / "third")[3]["remembered"] == facts

    other = label_descriptors(write_set(tmp_path / "other", 20))
    plain = write_recipe(tmp_path / "other", RECIPE)
    capsys.readouterr()
    for path, folder, run, said in (
        (
            recipe,
            data,
            tmp_path / "third",
            "expected a run by ear on this grid that was stopped before its end",
        ),
        (recipe, other, runs[0], "expected a run of these notes and labels, got one of others"),
        (plain, data, runs[0], "--remember: expected a recipe with an [ear], got one without"),
    ):
        line = [
            "train",
            str(path),
            "--data",
            str(folder),
            "--run",
            str(tmp_path / "x"),
            "--remember",
            str(run),
        ]
        assert darkrack.main([*line, *(by_ear if path == recipe else ())]) == 1
        assert said in capsys.readouterr().err


def card_of(path: Path) -> str:
    with zipfile.ZipFile(path) as file:
        return file.read("CARD.md").decode()


def test_a_trimmed_network_goes_on_learning(tmp_path: Path) -> None:
    data = label_descriptors(write_set(tmp_path / "set"))
    run = train_run(tmp_path, data, LISTENED.replace("[8, 8, 8]", "[16, 16, 16]"), "--ear", "descriptors")
    words = ["trim", str(run), "--data", str(data), "--out", str(tmp_path / "out"), "--to", "60%"]
    assert darkrack.main([*words, "--learn", "task", "--batch", "8", "--last-steps", "2"]) == 0
    less = tmp_path / "out" / "60"
    recipe, longer = run / "recipe.toml", tmp_path / "longer"
    start = ("--ear", "descriptors", "--start-from", str(less))
    command(recipe, data, longer, *start, "--until", "2")
    command(recipe, data, longer, "--ear", "descriptors")  # it goes on with the size that it has
    before, after = (open_run(one).generator for one in (less, longer))
    assert after.widths() == before.widths() != open_run(run).generator.widths()
    assert not torch.equal(after.start.weight, before.start.weight)
    assert spent(longer)["steps"] == spent(less)["steps"] + read_recipe(recipe)[0].steps
    bundle = export.export(longer, tmp_path / "longer.rack", None, ())
    assert bundle.manifest.macs == export.export(less, tmp_path / "less.rack", None, ()).manifest.macs
    assert "Before that it was trimmed to " in card_of(tmp_path / "longer.rack")
    words[1], words[5], words[7] = str(longer), str(tmp_path / "again"), "70%"
    assert darkrack.main([*words, "--learn", "task", "--batch", "8", "--last-steps", "2"]) == 0
    export.export(tmp_path / "again" / "70", tmp_path / "again.rack", None, ())
    assert "\nTrimmed to " in card_of(tmp_path / "again.rack"), (
        "after what it began with, which was trimmed too"
    )
    with pytest.raises(DarkrackError, match="expected a run that was trained, got a trimmed one"):
        warm_start.leave(longer, tmp_path / "warm")
