"""Stage three: the ear hears as its tagger does, remembers exactly, and what it teaches is heard by the tagger."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import DESCRIPTORS, EAR, ONE_TEACHER, RECIPE, label_descriptors, write_recipe, write_set

import darkrack
from device.errors import DarkrackError
from device.partials import Partials
from train import ear, stages
from train.dataset import load_training_set
from train.ear import Ear, Hearing
from train.networks import Condition
from train.ranks import Ranks
from train.recipe import read_recipe
from train.teacher import load_teacher

GRID = Partials(rows=12, frames=32, frame_rate_hz=125.0, floor_db=-100.0, limit_hz=16000.0)
LISTENED = (RECIPE + EAR).replace(ONE_TEACHER, DESCRIPTORS.replace("[[labels]]", "[labels]"))


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_descriptors(write_set(tmp_path_factory.mktemp("set")))


def command(recipe: Path, data: Path, run: Path, *more: str) -> int:
    words = ["train", str(recipe), "--data", str(data), "--run", str(run), "--threads", "1"]
    return darkrack.main([*words, *(more or ("--ear", "descriptors"))])


def hearing_of(tmp_path: Path, notes_folder: Path, text: str = LISTENED) -> Hearing:
    recipe, _ = read_recipe(write_recipe(tmp_path, text))
    return Hearing(
        recipe, notes_folder, load_training_set(notes_folder, recipe, 1), load_teacher("descriptors")
    )


def test_an_ear_hears_no_level_and_no_row_that_is_silent() -> None:
    network = Ear(8, GRID, 5, (48, 72)).eval()
    random = torch.Generator().manual_seed(0)
    level = 0.5 + 0.3 * torch.rand(3, 12, 32, generator=random)
    level[:, 8:] = 0
    pitch = torch.tensor([[48.0], [60.5], [72.0]])
    # The tagger hears notes at one level: 10 dB less is a tenth of the floor's 100 dB.
    quieter = torch.where(level > 0, level - 0.1, level)
    torch.testing.assert_close(network(level, pitch), network(quieter, pitch), rtol=1e-3, atol=1e-4)
    brighter = level.clone()
    brighter[:, 7] = 0.9
    assert (network(level, pitch) - network(brighter, pitch)).abs().max() > 1e-3
    assert torch.equal(network(level * 0 + 30, pitch), network(level * 0 + 1.06, pitch)), (
        "beyond what is decoded"
    )


@given(st.floats(48, 72), st.integers(0, 11), st.floats(0.2, 1.0))
def test_the_energy_of_a_partial_is_shared_between_the_two_bands_it_lies_between(
    pitch: float, row: int, loud: float
) -> None:
    network = Ear(8, GRID, 5, (48, 72)).eval()
    level = torch.zeros(1, 12, 32)
    level[0, row] = loud
    bands_db = network._bands(level, torch.tensor([[pitch]]))[0, :, 0] * 20 - 45
    heard = 10 ** (bands_db / 10) - 10 ** (ear.UNDER_DB / 10)
    assert heard.sum() == pytest.approx(1.0, rel=1e-2)  # of the loudest moment, which is this partial
    assert (heard > 1e-3).sum() <= 2


def test_half_rows_are_heard_where_they_lie() -> None:
    whole, halves = Ear(8, GRID, 5, (48, 72)), Ear(8, replace(GRID, rows=24, rows_a_partial=2), 5, (48, 72))
    level = 0.5 + 0.3 * torch.rand(2, 12, 32, generator=torch.Generator().manual_seed(0))
    apart = torch.zeros(2, 24, 32)
    apart[:, 1::2] = level
    pitch = torch.tensor([[48.0], [65.5]])
    torch.testing.assert_close(halves.eval()._bands(apart, pitch), whole.eval()._bands(level, pitch))


def test_what_is_wanted_is_what_the_tagger_said_of_the_notes(tmp_path: Path, notes_folder: Path) -> None:
    hearing = hearing_of(tmp_path, notes_folder)
    recipe, _ = read_recipe(tmp_path / "tiny.toml")
    notes = load_training_set(notes_folder, recipe, 1)
    seen = notes.parts["train"]
    labels = len(hearing._wanted.attributes)
    assert labels == 4
    answers = hearing._wanted.answers
    np.testing.assert_allclose(answers[seen, :labels].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(answers[seen, labels:].var(0).sum(), 1, rtol=1e-2)
    # Asked for what the note is, and heard as the note is: nothing is missed.
    rows = seen[:6]
    asked = torch.from_numpy(notes.soft_labels[rows])
    evenly = torch.ones_like(asked)
    missed = hearing._wanted.missed(torch.from_numpy(answers[rows]), asked, evenly, rows, 2.0)
    assert missed[0] < 1e-5
    assert missed[1] == 0
    swapped = torch.from_numpy(answers[rows[::-1]].copy())
    elsewhere = hearing._wanted.missed(swapped, asked, evenly, rows, 2.0)
    assert elsewhere[0] > 0.1
    assert elsewhere[1] > 0.1
    # Real notes come back from the grid about as they were (it holds the first quarter of a second of them).
    rows, bright = seen[::4], notes.attributes.names.index("Brightness")
    again = hearing.answers(notes.frames(rows), notes.pitch[rows])
    assert np.corrcoef(again[:, bright], answers[rows, bright])[0, 1] > 0.5


def test_what_is_made_for_a_condition_is_best_spread_as_real_notes_are(
    tmp_path: Path, notes_folder: Path
) -> None:
    hearing = hearing_of(tmp_path, notes_folder)
    labels, random = len(hearing._wanted.attributes), torch.Generator().manual_seed(0)
    notes = np.arange(100)
    real = torch.from_numpy(hearing._wanted.answers[notes])
    middle, size = real.mean(0), real[:, labels:].std(0).mean()

    def score(wide: float) -> float:
        one, other = (
            middle + wide * size * torch.randn(len(notes), real.shape[1], generator=random) for _ in range(2)
        )
        return float(hearing._wanted.spread(one, other, notes))

    assert score(1.0) < score(0.05), "always the same note"
    assert score(1.0) < score(4.0), "any note at all"


def test_twins_differ_in_z_and_noise_alone_and_what_is_set_alone_weighs_more(
    tmp_path: Path, notes_folder: Path
) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, LISTENED))
    notes = load_training_set(notes_folder, recipe, 1)
    state = stages.start_state(recipe, notes, lambda: hearing_of(tmp_path, notes_folder))
    batch = stages.batch_of(recipe, notes, notes.parts["train"][:8])
    levels = torch.from_numpy(notes.attributes.quantiles).float()
    nobody = stages.lone_knobs(recipe, notes)
    assert len(nobody) == 0
    asked = stages.asked_by_ear(state.encoder, recipe, batch, levels, nobody)
    for same in (*asked.condition, asked.mask):
        one, other = stages.twins(same, 8)
        assert len(one) == 4
        torch.testing.assert_close(one, other)
    for differs in (asked.z, asked.noise):
        one, other = stages.twins(differs, 8)
        assert (one != other).all()
    # Again, own pitch, another's pitch, pushed, twins: 8, 4, 2, 2, 4; of the third and fourth every other is set alone.
    assert (asked.weight == 9).sum(1).tolist() == [0] * 12 + [1, 0, 1, 0] + [0] * 4
    assert (asked.weight[12:16:2] == 0.25).sum(1).tolist() == [3, 3], "the others there"
    assert (asked.weight[[*range(12), 13, 15, *range(16, 20)]] == 1).all()
    moved = asked.condition.attributes[12] != batch.condition.attributes[4]
    assert (asked.weight[12][moved] == 9).all()


def test_labels_of_another_touch_are_not_what_is_wanted(tmp_path: Path, notes_folder: Path) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, LISTENED))
    notes = load_training_set(notes_folder, recipe, 1)
    state = stages.start_state(recipe, notes, lambda: hearing_of(tmp_path, notes_folder))
    rows = notes.parts["train"][:8]
    sources = np.concatenate([rows[:6], notes.parts["train"][8:10]])
    batch = stages.batch_of(recipe, notes, rows, sources)
    asked = stages.asked_by_ear(
        state.encoder,
        recipe,
        batch,
        torch.from_numpy(notes.attributes.quantiles),
        stages.lone_knobs(recipe, notes),
    )
    assert (asked.weight[:6] == 1).all()
    assert (asked.weight[6:8] == 0).all()
    assert (asked.weight[8:] > 0).all()
    labels = torch.from_numpy(notes.soft_labels)
    torch.testing.assert_close(asked.condition.attributes[:8], labels[sources])
    torch.testing.assert_close(
        asked.condition.attributes[8:12], labels[rows[:4]], msg="what is not made again"
    )


def test_some_knobs_are_asked_for_from_end_to_end(tmp_path: Path, notes_folder: Path) -> None:
    names = load_training_set(
        notes_folder, read_recipe(write_recipe(tmp_path, LISTENED))[0], 1
    ).attributes.names
    recipe, _ = read_recipe(write_recipe(tmp_path, LISTENED + f'alone = ["{names[2]}", "{names[0]}"]\n'))
    notes = load_training_set(notes_folder, recipe, 1)
    knobs = stages.lone_knobs(recipe, notes)
    assert knobs.tolist() == [2, 0]
    state = stages.start_state(recipe, notes, lambda: hearing_of(tmp_path, notes_folder))
    batch = stages.batch_of(recipe, notes, notes.parts["train"][:80])
    levels = torch.from_numpy(notes.attributes.quantiles)
    asked = stages.asked_by_ear(state.encoder, recipe, batch, levels, knobs)
    turned = asked.weight[120:140] == 9  # those with another's pitch that are not pushed
    assert (turned.sum(1) == 1).all()
    assert turned.any(0).tolist() == [True, False, True, False]
    for note, knob in turned.nonzero().tolist():
        label = asked.condition.attributes[120 + note, knob]
        assert label in (levels[knob, 0], levels[knob, 32])
        assert (asked.condition.attributes[120 + note] != batch.condition.attributes[40 + note]).sum() == 1

    wrong, _ = read_recipe(write_recipe(tmp_path, LISTENED + 'alone = ["Brass"]\n'))
    with pytest.raises(DarkrackError, match="names of the run's attributes, got 'Brass'"):
        stages.lone_knobs(wrong, notes)


def test_lessons_are_of_what_was_heard_by_then(tmp_path: Path, notes_folder: Path) -> None:
    hearing = hearing_of(tmp_path, notes_folder)
    random = np.random.default_rng(0)

    def make(rows: np.ndarray) -> tuple[torch.Tensor, Condition]:  # type: ignore[type-arg]
        frames = torch.from_numpy(random.uniform(0.2, 0.9, (2 * len(rows), 2, 12, 32)).astype(np.float32))
        frames[:, 1] = 0
        nothing = torch.zeros(2 * len(rows), 4)
        return frames, Condition(nothing, torch.full((2 * len(rows), 1), 60.0), nothing[:, :1])

    def remember() -> None:
        frames, asked = make(np.arange(8))
        hearing.remember(frames.numpy(), asked.pitch[:, 0].numpy())

    hearing.begin(tmp_path / "run", make)
    before = hearing.lesson()
    for one, other in zip(before, hearing.lesson(), strict=True):
        assert torch.equal(one, other), "not before it has been learned"
    content = hearing.state_dict()
    hearing.learn()
    assert not torch.equal(before[0], hearing.lesson()[0])
    # The same lesson again, although a whole interval between checkpoints has been heard since: 4 steps, every 2.
    remember()
    remember()
    hearing.load_state_dict(content)
    for one, other in zip(before, hearing.lesson(), strict=True):
        assert torch.equal(one, other)
    # Half of a lesson is of late: of the last quarter of what is remembered, or the last LATE.
    for _ in range(3):
        remember()
    known = torch.from_numpy(np.array(hearing._answers[:, 1:]))
    places = {int((known - one).abs().sum(1).argmin()) for one in hearing.lesson()[2][-4:]}
    assert places <= {(hearing._heard - 1 - n) % len(known) for n in range(12)}


def weights(run: Path) -> dict[str, torch.Tensor]:
    content = stages.load_checkpoint(run)
    parts = {**content, **content["hearing"]}
    names = ("generator", "ear", "average_generator")
    return {f"{part}.{name}": value for part in names for name, value in parts[part].items()}


@pytest.mark.parametrize("at", [3, 10])
def test_a_run_goes_on_by_ear_exactly(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    recipe = write_recipe(tmp_path, LISTENED)
    assert command(recipe, notes_folder, tmp_path / "whole") == 0
    assert not list((tmp_path / "whole").glob("ear-*")), "nobody needs the memory any more"
    done = 0
    original = stages.by_ear_step

    def stop(*args: object) -> dict[str, float]:
        nonlocal done
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "by_ear_step", stop)
    assert command(recipe, notes_folder, tmp_path / "halves") == 130
    # Killed later than the checkpoint says: more was heard than it knows of.
    shutil.copytree(tmp_path / "halves", tmp_path / "kept")
    monkeypatch.setattr(stages, "by_ear_step", original)

    def crash(*args: object) -> dict[str, float]:
        if args[0].step == 12 + at + 1:  # type: ignore[attr-defined]
            raise RuntimeError("the power is gone")
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "by_ear_step", crash)
    with pytest.raises(RuntimeError):
        command(recipe, notes_folder, tmp_path / "halves")
    shutil.copy(tmp_path / "kept" / stages.CHECKPOINT, tmp_path / "halves" / stages.CHECKPOINT)
    monkeypatch.setattr(stages, "by_ear_step", original)
    assert command(recipe, notes_folder, tmp_path / "halves") == 0
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "halves")
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.slow
def test_the_tagger_hears_what_the_ear_taught(notes_folder: Path, tmp_path: Path) -> None:
    text = LISTENED.replace("steps = 6", "steps = 300", 1).replace("steps = 6", "steps = 0")
    text = (
        text.replace("batch = 8", "batch = 24")
        .replace("every_steps = 4", "every_steps = 200")
        .replace("ema = 0.9", "ema = 0.98")
    )
    text = text.replace("steps = 12\nfirst_steps = 4", "steps = 700\nfirst_steps = 200")
    text = text.replace("first_notes = 32", "first_notes = 96").replace("every = 2", "every = 5")
    text = text.replace("remembered = 48", "remembered = 512").replace(
        "channels = 8\nlearning", "channels = 32\nlearning"
    )
    text = text.replace("[8, 8, 8]", "[16, 16, 16]").replace(
        "embedding_weight = 0.2", "embedding_weight = 0.5"
    )
    text = text.replace("label_weight = 0.1", "label_weight = 0.2").replace("spread_weight = 0.3", "")
    text = text.replace(
        "learning_rate = 1e-3\near_learning_rate = 2e-3", "learning_rate = 2e-4\near_learning_rate = 4e-3"
    )
    assert command(write_recipe(tmp_path, text), notes_folder, tmp_path / "run") == 0
    with (tmp_path / "run" / "log.csv").open() as log:
        rows = [row for row in csv.DictReader(log) if row["heard_labels"]]
    heard = [float(row["heard_labels"]) for row in rows]
    assert len(heard) >= 8
    assert np.mean(heard[-3:]) < 0.85 * np.mean(heard[:3]), heard


def test_bfloat16_stays_close(notes_folder: Path, tmp_path: Path) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, LISTENED))
    notes = load_training_set(notes_folder, recipe, 1)
    levels, knobs = torch.from_numpy(notes.attributes.quantiles), stages.lone_knobs(recipe, notes)
    first = stages.batch_of(recipe, notes, notes.parts["train"][: recipe.batch])
    losses = {}
    for half in (False, True):
        ranks = Ranks(torch.device("cpu"), bfloat16=half)
        state = stages.start_state(recipe, notes, lambda: hearing_of(tmp_path, notes_folder), ranks)
        assert state.hearing is not None
        state.hearing.begin(
            tmp_path / str(half),
            lambda rows, state=state: stages.played(
                state.generator,
                stages.asked_by_ear(
                    state.encoder, recipe, stages.batch_of(recipe, notes, rows), levels, knobs
                ),
            ),
        )
        while not state.hearing.prepared:
            state.hearing.learn(ranks)
        state.step = recipe.steps - recipe.ear.steps + recipe.ear.first_steps
        losses[half] = stages.by_ear_step(state, recipe, first, levels, knobs)
        assert all(one.dtype == torch.float32 for one in state.generator.parameters())
    assert losses[True] != losses[False], "it was not asked for"
    for key, value in losses[False].items():
        assert losses[True][key] == pytest.approx(value, rel=0.05, abs=0.05), key


def test_bad_input_is_said(notes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, LISTENED)
    assert command(recipe, notes_folder, tmp_path / "run", "--ear", "mn04=x.onnx") == 1
    assert "error: --ear: expected descriptors=PATH" in capsys.readouterr().err
    other = write_recipe(
        tmp_path, LISTENED.replace('teacher = "descriptors"\nsteps', 'teacher = "mn04"\nsteps')
    )
    assert command(other, notes_folder, tmp_path / "run", "--ear", "mn04=x.onnx") == 1
    assert "x.onnx" in capsys.readouterr().err
    recipe = write_recipe(tmp_path, LISTENED)
    assert (
        command(recipe, notes_folder, tmp_path / "run", "--threads", "1") == 0
    )  # descriptors need no weights
    capsys.readouterr()
    for name in (ear.LEVELS, ear.ANSWERS):
        assert not (tmp_path / "run" / name).exists()
