"""Training: it learns, it resumes exactly, it stops in one piece, and each loss is what its formula says."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from training import RECIPE, write_recipe, write_set

from device.errors import DarkrackError
from train import stages, train
from train.dataset import distinct, load_training_set, soft_label, spread_out
from train.networks import Condition, Verdict
from train.recipe import read_recipe

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


def command(recipe: Path, data: Path, run: Path, *more: str) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    words = [str(recipe), "--data", str(data), "--run", str(run), "--threads", "1", *more]
    train.run(parser.parse_args(words))


def weights(run: Path) -> dict[str, torch.Tensor]:
    content = stages.load_checkpoint(run)
    return {
        f"{part}.{name}": value
        for part in ("generator", "critic", "average_generator")
        for name, value in content[part].items()
    }


def test_the_set_is_read_encoded_and_split(notes_folder: Path, tmp_path: Path) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path))
    notes = load_training_set(notes_folder, recipe, 1)
    assert len(notes.notes) == 120
    assert sorted(np.concatenate(list(notes.parts.values())).tolist()) == list(range(120))
    frames = notes.frames(np.array([0, 7, 119]))
    assert frames.shape == (3, 2, 12, 32)
    assert np.isfinite(frames).all()
    # A note's labels are its own: odd instruments were labelled odd and lack their second partial.
    level = notes.frames(np.arange(120))[:, 0, 1].mean(axis=1)
    odd = notes.logits[:, notes.attributes.names.index("Organ")] > -1
    assert level[odd].max() < level[~odd].min()
    assert (np.diff(notes.attributes.quantiles, axis=1) >= 0).all()


def test_a_run_learns_and_leaves_what_export_needs(notes_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "longer.toml"
    path.write_text(
        RECIPE.replace("steps = 6", "steps = 200", 1)
        .replace("every_steps = 4", "every_steps = 100")
        .replace("learning_rate = 1e-3", "learning_rate = 5e-3")
    )
    command(path, notes_folder, tmp_path / "run")
    with (tmp_path / "run" / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert float(rows[-1]["level"]) < 0.8 * float(rows[0]["level"])
    generator, encoder, recipe, facts = stages.load_generator(tmp_path / "run")
    assert facts["attributes"] == ["Brass instrument", "Plucked string instrument", "Organ"]
    assert len(facts["presets"]) == 3
    assert recipe.name == "tiny"
    assert not any(parameter.requires_grad for parameter in [*generator.parameters(), *encoder.parameters()])
    assert len(list((tmp_path / "run").glob("sheet-*.png"))) >= 2
    assert (
        torch.load(tmp_path / "run" / stages.EARLY, weights_only=True)["step"] == 100
    )  # the first, and kept


def test_resume_is_exact(notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path)
    command(recipe, notes_folder, tmp_path / "whole")

    done = 0
    original = stages.adversarial_step

    def stop_after_two(*args: object) -> dict[str, float]:
        nonlocal done
        done += 1
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C in the middle of stage two, off the checkpoint grid
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "adversarial_step", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        command(recipe, notes_folder, tmp_path / "halves")
    assert stages.load_checkpoint(tmp_path / "halves")["step"] == 8
    monkeypatch.setattr(stages, "adversarial_step", original)
    command(recipe, notes_folder, tmp_path / "halves")

    one, other = weights(tmp_path / "whole"), weights(tmp_path / "halves")
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_run_stops_where_it_is_told_and_goes_on(
    notes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path)
    command(recipe, notes_folder, tmp_path / "whole")
    for until in ("5", "9"):  # off the checkpoints, in either stage
        command(recipe, notes_folder, tmp_path / "parts", "--until", until)
        assert stages.load_checkpoint(tmp_path / "parts")["step"] == int(until)
        assert f"stopped at step {until} of 12; a later --until" in capsys.readouterr().out
    command(recipe, notes_folder, tmp_path / "parts")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    for wrong in ("0", "13"):
        with pytest.raises(DarkrackError, match="--until: expected 1 to 12, the recipe's last step"):
            command(recipe, notes_folder, tmp_path / "parts", "--until", wrong)


@pytest.fixture(scope="module")
def soft_and_hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("touched"), 12, (40, 100))


def test_a_touched_note_is_another_of_the_same_key(soft_and_hard: Path, tmp_path: Path) -> None:
    recipe, _ = read_recipe(
        write_recipe(tmp_path, RECIPE.replace("batch = 8", "batch = 8\ntouch_share = 0.5"))
    )
    notes = load_training_set(soft_and_hard, recipe, 1)
    seen = notes.parts["train"]
    rows = np.resize(seen, 400)
    sources = stages.touched(recipe, notes, rows, np.random.default_rng(0))
    changed = rows != sources
    alone = np.array([not len(notes.siblings[row]) for row in rows])
    assert 0.35 < changed[~alone].mean() < 0.65
    assert not changed[alone].any()
    assert set(sources) <= set(seen), "no note that is held out"
    for row, source in zip(rows[changed], sources[changed], strict=True):
        one, other = notes.notes[row], notes.notes[source]
        assert (one.instrument_str, one.pitch) == (other.instrument_str, other.pitch)
        assert one.velocity != other.velocity
    batch = stages.batch_of(recipe, notes, rows[:8], sources[:8])
    torch.testing.assert_close(batch.told.attributes, torch.from_numpy(notes.soft_labels[sources[:8]]))
    torch.testing.assert_close(batch.told.velocity[:, 0], torch.from_numpy(notes.velocity[rows[:8]]))
    np.testing.assert_array_equal(batch.first(3).source.notes, sources[:3])
    assert stages.batch_of(recipe, notes, rows[:8], rows[:8]).touched is None
    plain, _ = read_recipe(write_recipe(tmp_path))
    assert stages.touched(plain, notes, rows, np.random.default_rng(0)) is rows


def test_velocity_has_to_say_what_labels_do_not(soft_and_hard: Path, tmp_path: Path) -> None:
    brighter = []
    for share in (0.0, 0.5):
        folder = tmp_path / str(share)
        folder.mkdir()
        path = write_recipe(
            folder,
            RECIPE.replace("batch = 8", f"batch = 8\ntouch_share = {share}")
            .replace("steps = 6", "steps = 400", 1)
            .replace("steps = 6", "steps = 0", 1)
            .replace("every_steps = 4", "every_steps = 400")
            .replace("learning_rate = 1e-3", "learning_rate = 5e-3"),
        )
        command(path, soft_and_hard, folder / "run")
        generator, encoder, recipe, _ = stages.load_generator(folder / "run")
        notes = load_training_set(soft_and_hard, recipe, 1)
        batch = stages.batch_of(recipe, notes, notes.parts["train"])
        with torch.no_grad():
            z, _ = encoder(batch.frames, batch.condition)
            noise = torch.zeros(len(z), 2 * recipe.generator.noise_channels, recipe.grid.frames)
            soft, hard = (
                generator(z, *batch.condition._replace(velocity=torch.full((len(z), 1), v / 127)), noise)
                for v in (40, 100)
            )
        # 6 dB an octave steeper when soft: at the seventh partial 16.8 dB, .168 of a level.
        brighter.append(float(((hard - soft)[:, 0, 6] - (hard - soft)[:, 0, 0]).mean()))
    without, taught = brighter
    assert taught > 0.12
    assert taught > 2 * abs(without)


def test_look_alikes_make_one_knob() -> None:
    alike = np.eye(4)
    alike[0, 1] = alike[1, 0] = 0.9
    alike[1, 2] = alike[2, 1] = 0.9  # like one that is not kept: that does not count
    assert distinct(alike, 0.7) == [0, 2, 3]
    assert distinct(alike, 1.0) == [0, 1, 2, 3]


def test_a_killed_run_keeps_its_last_checkpoint(notes_folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "long.toml"
    recipe.write_text(RECIPE.replace("steps = 6", "steps = 100000", 1))
    words = [
        sys.executable,
        "darkrack.py",
        "train",
        str(recipe),
        "--data",
        str(notes_folder),
        "--run",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(
        [*words, "--threads", "1"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "run" / stages.CHECKPOINT
    for _ in range(1200):
        if checkpoint.exists():
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert stages.load_checkpoint(tmp_path / "run")["step"] >= 4


def test_other_recipe_damaged_and_missing_checkpoints(notes_folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    run = tmp_path / "run"
    command(recipe, notes_folder, run)
    recipe.write_text(RECIPE.replace("seed = 3", "seed = 4"))
    with pytest.raises(DarkrackError, match="a run with this recipe"):
        command(recipe, notes_folder, run)
    write_recipe(tmp_path)
    other = write_set(tmp_path / "other", instruments=20)
    with pytest.raises(DarkrackError, match="a run with these notes"):
        command(recipe, other, run)
    (run / stages.CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(DarkrackError, match="a whole checkpoint"):
        stages.load_checkpoint(run)
    with pytest.raises(DarkrackError, match="a run with a checkpoint"):
        stages.load_checkpoint(tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "long.toml"
    recipe.write_text(RECIPE.replace("steps = 6", "steps = 60", 1))
    original, done = stages.reconstruction_step, 0

    def breaks(*args: object) -> dict[str, float]:
        nonlocal done
        done += 1
        losses = original(*args)  # type: ignore[arg-type]
        return {**losses, "level": math.nan} if done == 8 else losses  # the very step that would be saved

    monkeypatch.setattr(stages, "reconstruction_step", breaks)
    with pytest.raises(DarkrackError, match="step 8: expected finite losses"):
        command(recipe, notes_folder, tmp_path / "run")
    assert stages.load_checkpoint(tmp_path / "run")["step"] == 4


def test_too_few_notes(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "small", instruments=2)
    recipe = write_recipe(tmp_path)
    with pytest.raises(DarkrackError, match="at least 16 labelled notes"):
        command(recipe, folder, tmp_path / "run")


def test_class_loss_by_hand() -> None:
    # Two notes, three pitches, one attribute, T = 2.
    pitch_logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    condition = Condition(torch.tensor([[0.5], [0.25]]), torch.tensor([[48.4], [50.0]]), torch.zeros(2, 1))
    attribute_logits = torch.tensor([[2.0], [0.0]])
    e, e2 = math.e, math.e**2
    pitch = (-math.log(e / (e + 2)) - math.log(e2 / (e2 + 2))) / 2
    student = 1 / (1 + math.exp(-2.0 / 2))
    first = -(0.5 * math.log(student) + 0.5 * math.log(1 - student))
    second = -math.log(0.5)
    verdict = Verdict(torch.zeros(2, 1), pitch_logits, attribute_logits)
    loss = stages.class_loss(verdict, condition, (48, 50), 2.0)
    assert loss.item() == pytest.approx(pitch + (first + second) / 2, rel=1e-6)


def test_soft_labels_by_hand() -> None:
    labels = soft_label(np.array([0.0, 2.0, -4.0], np.float32), 2.0)
    assert labels == pytest.approx([0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))])


def test_kl_by_hand() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)]])
    # 1/2 (1 + 1 - 1 - 0) + 1/2 (0 + 4 - 1 - ln 4)
    assert stages.kl_loss(mean, log_variance).item() == pytest.approx(0.5 + 0.5 * (3 - math.log(4)))


def test_pushed_attributes_stay_labels_and_every_other_note_has_one_knob_turned() -> None:
    torch.manual_seed(1)
    quantiles = torch.linspace(0.1, 0.4, 33).repeat(5, 1)
    attributes = torch.full((400, 5), 0.2)  # under the 80th percentile: nothing to raise
    pushed, alone = stages.push_attributes(attributes, quantiles, 0.5)
    turned = (pushed != attributes).sum(dim=1)
    assert (turned[1::2] == 0).all()
    assert (turned[0::2] <= 1).all()
    assert (turned[0::2] == 1).float().mean() > 0.9
    assert ((pushed >= 0.1 - 1e-6) & (pushed <= 0.4 + 1e-6)).all()
    assert (alone[0::2].sum(1) == 1).all()
    assert alone[1::2].sum() == 0
    assert (alone[pushed != attributes] == 1).all()
    loud, _ = stages.push_attributes(torch.full((400, 5), 0.39), quantiles, 0.5)
    assert (loud[1::2] > 0.39).all()


def test_spread_out_covers_corners() -> None:
    corners = np.array([[0, 0], [0, 10], [10, 0], [10, 10], [5, 5], [5, 5.5]], np.float32)
    assert set(spread_out(corners, 5)) == {0, 1, 2, 3, 4}
    assert len(spread_out(corners, 99)) == 6
