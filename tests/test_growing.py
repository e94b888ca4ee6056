"""Growing training: each loss by hand, the schedule, exact resume across a growth, and every way to be stopped."""

from __future__ import annotations

import copy
import csv
import math
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training import GROWING, TWO_STAGE, train_run, write_recipe, write_set

import darkrack
from compress import export
from device.errors import DarkrackError
from device.stft import NEPER_DB
from train import growing, stages
from train.darkgan import Generator
from train.dataset import load_training_set
from train.growing import Batch, Moment, Units, moment_at
from train.networks import Verdict
from train.recipe import GrowingRecipe, Growth, read_recipe
from train.runs import open_run
from train.voice import open_voice


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture
def recipe(tmp_path: Path) -> GrowingRecipe:
    torch.manual_seed(0)
    found, _ = read_recipe(write_recipe(tmp_path, GROWING))
    assert isinstance(found, GrowingRecipe)
    return found


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    """Everything a step changes, flat."""
    content = stages.load_checkpoint(run)
    found = {
        f"{part}.{name}": value
        for part in ("generator", "discriminator", "average")
        for name, value in content[part].items()
    }
    for part, optimiser in content["optimisers"].items():
        for n, one in optimiser["state"].items():
            found |= {f"{part}.{n}.{key}": torch.as_tensor(value) for key, value in one.items()}
    return {**found, "random": content["random"], "step": torch.tensor(content["step"])}


# ---- the schedule ----


def test_moments_of_the_published_schedule() -> None:
    recipe, _ = read_recipe(Path(__file__).parent.parent / "recipes" / "darkgan.toml")
    assert isinstance(recipe, GrowingRecipe)
    growth = recipe.growth
    assert sum(growth.steps) == 1_228_000
    assert moment_at(growth, 0) == Moment(0, 0, 1.0, 30)
    assert moment_at(growth, 127_999) == Moment(0, 127_999, 1.0, 30)
    assert moment_at(growth, 128_000) == Moment(1, 0, 1 / 19_200, 30)
    assert moment_at(growth, 128_000 + 9_599) == Moment(1, 9_599, 0.5, 30)
    assert moment_at(growth, 128_000 + 19_199).fade == 1.0
    assert moment_at(growth, 928_000) == Moment(5, 0, 1 / 38_400, 10)
    assert moment_at(growth, 928_000 + 38_399).fade == 1.0
    assert moment_at(growth, 1_227_999) == Moment(5, 299_999, 1.0, 10)


def test_every_note_once_an_epoch(recipe: GrowingRecipe) -> None:
    seen = np.arange(20)
    drawn = [growing.rows_at(recipe, seen, Moment(1, step, 1.0, 4)) for step in range(10)]
    first, second = np.concatenate(drawn[:5]), np.concatenate(drawn[5:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()
    other = [growing.rows_at(recipe, seen, Moment(2, step, 1.0, 4)) for step in range(5)]
    assert np.concatenate(other).tolist() != first.tolist()


def test_real_notes_are_blended_as_fakes_are(recipe: GrowingRecipe) -> None:
    planes = torch.randn(2, 2, 256, 32)
    whole = growing.seen_at(planes, recipe, Moment(1, 0, 1.0, 2))
    assert torch.allclose(whole, planes.reshape(2, 2, 64, 4, 8, 4).mean((3, 5)), atol=1e-5)
    coarse = planes.reshape(2, 2, 16, 16, 2, 16).mean((3, 5)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    blended = growing.seen_at(planes, recipe, Moment(1, 0, 0.25, 2))
    assert torch.allclose(blended, 0.25 * whole + 0.75 * coarse, atol=1e-5)


# ---- losses by hand ----


class Linear(nn.Module):
    """A discriminator whose score is a known linear function: its gradient is the same everywhere."""

    def __init__(self, slope: torch.Tensor) -> None:
        super().__init__()
        self.slope = nn.Parameter(slope)

    def forward(self, planes: torch.Tensor) -> Verdict:
        score = (planes * self.slope).sum((1, 2, 3))[:, None]
        nothing = torch.zeros(len(planes), 0)
        return Verdict(score, nothing, nothing)


def test_gradient_penalty_by_hand() -> None:
    slope = torch.zeros(2, 2, 3)
    slope[0, 0, 0], slope[1, 1, 2] = 3.0, 4.0  # |gradient| = 5, so (5 - 1)^2 = 16 for every note
    critic = Linear(slope)
    penalty = growing.gradient_penalty(critic, torch.randn(6, 2, 2, 3))
    assert penalty.item() == pytest.approx(16.0, rel=1e-5)
    penalty.backward()  # type: ignore[no-untyped-call]
    # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w| = 8 w / 5
    assert critic.slope.grad is not None
    assert critic.slope.grad[0, 0, 0].item() == pytest.approx(4.8, rel=1e-5)
    assert critic.slope.grad[1, 1, 2].item() == pytest.approx(6.4, rel=1e-5)


def test_class_losses_by_hand(recipe: GrowingRecipe) -> None:
    """Two notes, pitch 50 and 70 of 48..72, three attributes, T = 2."""
    assert recipe.labels.temperature == 2.0
    logits = torch.zeros(2, 25)
    logits[0, 2], logits[1, 22] = math.log(24.0), 0.0  # right with p = 1/2, and with 1/25
    attributes = torch.tensor([[0.0, 2.0, -4.0], [0.0, 0.0, 0.0]])
    labels = torch.tensor([[0.5, 0.9, 0.1], [1.0, 0.0, 0.5]])
    verdict = Verdict(torch.zeros(2, 1), logits, attributes)
    pitch, named = growing.class_losses(verdict, torch.tensor([[50.0], [70.0]]), labels, recipe)
    assert pitch.item() == pytest.approx((math.log(2) + math.log(25)) / 2, rel=1e-6)

    def cross_entropy(logit: float, label: float) -> float:
        student = 1 / (1 + math.exp(-logit / 2))
        return -label * math.log(student) - (1 - label) * math.log(1 - student)

    by_hand = cross_entropy(0, 0.5) + cross_entropy(2, 0.9) + cross_entropy(-4, 0.1) + 3 * math.log(2)
    assert named.item() == pytest.approx(by_hand / 6, rel=1e-6)


def test_a_student_that_agrees_at_the_same_temperature_is_best(recipe: GrowingRecipe) -> None:
    teacher = torch.tensor([[3.0, -1.0, 0.5]], requires_grad=True)
    labels = torch.sigmoid(teacher.detach() / 2.0)
    verdict = Verdict(torch.zeros(1, 1), torch.zeros(1, 25), teacher)
    _, named = growing.class_losses(verdict, torch.tensor([[50.0]]), labels, recipe)
    named.backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is not None
    assert teacher.grad.abs().max() < 1e-6


class Scripted(nn.Module):
    """A discriminator that says what a table says of notes, by their first cell, and keeps what it was shown."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.shown: list[torch.Tensor] = []

    def forward(self, planes: torch.Tensor) -> Verdict:
        self.shown.append(planes.detach().clone())
        score = self.weight * planes[:, 0, 0, 0][:, None]
        return Verdict(score, torch.zeros(len(planes), 25), torch.zeros(len(planes), 3))


class Constant(nn.Module):
    """A generator that makes notes of one value, a parameter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.asked: list[torch.Tensor] = []

    def forward(self, z: torch.Tensor, attributes: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
        self.asked.append(attributes.clone())
        return self.value.expand(len(z), 2, 1, 1)


class Recorded(torch.optim.SGD):
    """Plain descent with rate 1: a step is the gradient."""


def scripted_state(weight: float, value: float) -> growing.State:
    generator, critic = Constant(value), Scripted(weight)
    optimisers: dict[str, torch.optim.Optimizer] = {
        "generator": Recorded(generator.parameters(), lr=1.0),
        "discriminator": Recorded(critic.parameters(), lr=1.0),
    }
    units = Units(torch.zeros(2), torch.ones(2))
    return growing.State(0, generator, critic, generator, optimisers, units)  # type: ignore[arg-type]


def test_one_step_of_the_discriminator_by_hand(recipe: GrowingRecipe) -> None:
    """Score w x; real notes x = 2 and 4, fakes 1: distance 2w, drift 10 w^2, penalty (w - 1)^2, w = 3."""
    state = scripted_state(3.0, 1.0)
    planes = torch.zeros(2, 2, 1, 1)
    planes[:, 0, 0, 0] = torch.tensor([2.0, 4.0])
    batch = Batch(planes, torch.full((2, 3), 0.25), torch.tensor([[50.0], [51.0]]))
    losses = growing.discriminator_step(state, recipe, batch)
    assert losses["distance"] == pytest.approx(3 * 3 - 3 * 1)
    assert losses["drift"] == pytest.approx((6**2 + 12**2) / 2)
    assert losses["penalty"] == pytest.approx((3 - 1) ** 2, rel=1e-5)
    assert losses["real_pitch"] == pytest.approx(math.log(25), rel=1e-5)
    assert losses["real_attributes"] == pytest.approx(math.log(2), rel=1e-5)
    # d loss / dw = -(3 - 1) + 10 * 2 (w - 1) + 1e-3 * 2 w (4 + 16) / 2 = -2 + 40 + .06
    assert isinstance(state.discriminator, Scripted)
    assert state.discriminator.weight.item() == pytest.approx(3 - (-2 + 40 + 0.06), rel=1e-5)
    real, fake, between = state.discriminator.shown
    assert torch.equal(real, planes)
    assert (fake == 1).all()
    share = (between[:, 0, 0, 0] - 1) / (planes[:, 0, 0, 0] - 1)
    assert ((share >= 0) & (share <= 1)).all()  # on the line between a real note and a fake


def test_one_step_of_the_generator_by_hand(recipe: GrowingRecipe) -> None:
    """Loss -w g plus ten times the classes; it is asked for raised attributes, and D's weights stay."""
    state = scripted_state(3.0, 1.0)
    labels = torch.tensor([[0.2, 0.6, 0.2], [0.2, 0.2, 0.7]])
    batch = Batch(torch.zeros(2, 2, 1, 1), labels, torch.tensor([[50.0], [51.0]]))
    strong = torch.full((3,), 0.5)
    losses = growing.generator_step(state, recipe, batch, strong, torch.full((3,), 0.1))
    assert losses["score"] == pytest.approx(3.0)
    assert losses["fake_pitch"] == pytest.approx(math.log(25), rel=1e-5)
    assert isinstance(state.generator, Constant)
    assert isinstance(state.discriminator, Scripted)
    assert state.generator.value.item() == pytest.approx(1 + 3)  # down the slope of -w g
    assert state.discriminator.weight.item() == 3.0
    asked = state.generator.asked[0]
    assert torch.equal(asked[labels < 0.5], labels[labels < 0.5])
    assert (asked[labels > 0.5] > labels[labels > 0.5]).all()


def test_attributes_are_raised_by_the_formula() -> None:
    """|N(0, .5 min(q) / q)|: the mean of |N(0, s)| is s sqrt(2 / pi)."""
    torch.manual_seed(1)
    q = torch.tensor([0.1, 0.4])
    raised = growing.raised(torch.tensor([[0.11, 0.41]]).repeat(20_000, 1), q, 0.5 * q.min() / q)
    more = raised - torch.tensor([[0.11, 0.41]])
    assert more.min() >= 0
    assert raised.max() <= 1
    assert more[:, 1].mean().item() == pytest.approx(0.125 * math.sqrt(2 / math.pi), rel=0.02)


def test_units_are_those_of_the_notes(notes_folder: Path, recipe: GrowingRecipe) -> None:
    notes = load_training_set(notes_folder, recipe, 1)
    assert notes.frames(np.array([0])).shape == (1, 2, 256, 32)
    units = growing.units_of(recipe, notes)
    planes = units.taken_out(torch.from_numpy(notes.frames(notes.parts["train"])))
    assert planes.mean((0, 2, 3)).abs().max() < 1e-3
    assert (planes.square().mean((0, 2, 3)) - 1).abs().max() < 1e-3


# ---- a run ----


def test_a_run_grows_logs_and_leaves_what_export_needs(notes_folder: Path, tmp_path: Path) -> None:
    longer = GROWING.replace("steps = [4, 4, 4]", "steps = [60, 50, 50]").replace(
        "every_steps = 4", "every_steps = 60"
    )
    run = train_run(tmp_path, notes_folder, longer)
    with (run / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert [row["step"] for row in rows] == ["50", "100", "150"]
    assert [row["scale"] for row in rows] == ["0", "1", "2"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    assert sorted(path.name for path in run.glob("sheet-*.png")) == [
        f"sheet-{n:06d}.png" for n in (60, 120, 160)
    ]
    generator, encoder, recipe, facts = growing.load_generator(run)
    assert encoder is None
    assert recipe.name == "tiny"
    assert facts["step"] == 160
    assert len(facts["presets"]) == 3
    assert all(len(preset["z"]) == 4 for preset in facts["presets"])
    with torch.no_grad():
        planes = generator(torch.randn(2, 4), torch.rand(2, 3), torch.tensor([[48.0], [60.0]]))
    assert planes.shape == (2, 2, 256, 32)
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_it_learns_to_name_pitch(notes_folder: Path, tmp_path: Path) -> None:
    longer = GROWING.replace("steps = [4, 4, 4]", "steps = [200, 4, 4]").replace(
        "every_steps = 4", "every_steps = 500"
    )
    run = train_run(tmp_path, notes_folder, longer)
    with (run / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    last = rows[3]  # of the first scale: a fresh one begins worse
    assert float(last["real_pitch"]) < 0.8 * float(rows[0]["real_pitch"])


@pytest.mark.parametrize(
    ("text", "stopped_at"),
    [
        # Before a scale is added, just when it is, within its fade, and in the last one.
        *((GROWING, step) for step in (3, 4, 6, 9)),
        # Within stage one, between the two, and within the other.
        *((TWO_STAGE, step) for step in (3, 6, 8)),
    ],
)
def test_resume_is_exact(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, stopped_at: int
) -> None:
    """Bit by bit."""
    text = text.replace("every_steps = 4", "every_steps = 100")
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()
    whole = train_run(tmp_path / "whole", notes_folder, text)
    original, done = growing.rows_at, 0

    def stop_in_time(*args: object) -> object:
        nonlocal done
        done += 1
        if done == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C in the middle of a step
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(growing, "rows_at", stop_in_time)
    with pytest.raises(KeyboardInterrupt):
        train_run(tmp_path / "halves", notes_folder, text)
    assert stages.load_checkpoint(tmp_path / "halves" / "run")["step"] == stopped_at
    monkeypatch.setattr(growing, "rows_at", original)
    halves = train_run(tmp_path / "halves", notes_folder, text)
    one, other = checkpoint(whole), checkpoint(halves)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_new_scale_starts_average_and_optimisers_again(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: list[tuple[int, bool, int]] = []
    original = growing.discriminator_step

    def look(state: growing.State, *rest: object) -> dict[str, float]:
        both = zip(state.average.parameters(), state.generator.parameters(), strict=True)
        same = all(torch.equal(kept, new) for kept, new in both)
        moments = state.optimisers["generator"].state_dict()["state"]
        apart.append((state.step, same, max((int(one["step"]) for one in moments.values()), default=0)))
        return original(state, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(growing, "discriminator_step", look)
    train_run(tmp_path, notes_folder, GROWING)
    assert [step for step, same, _ in apart if same] == [0, 4, 8]
    assert [steps for *_, steps in apart] == [0, 1, 2, 3] * 3


def test_the_average_follows_by_its_decay(recipe: GrowingRecipe) -> None:
    state = scripted_state(1.0, 4.0)
    state.average = Constant(2.0)  # type: ignore[assignment]
    growing._follow(state, 0.9)
    assert state.average.value.item() == pytest.approx(0.9 * 2 + 0.1 * 4)


# ---- two stages ----


@pytest.fixture
def staged(tmp_path: Path) -> GrowingRecipe:
    found, _ = read_recipe(write_recipe(tmp_path, TWO_STAGE))
    assert isinstance(found, GrowingRecipe)
    return found


def test_stage_one_has_the_last_scale_whole_and_stage_two_goes_on_there(staged: GrowingRecipe) -> None:
    assert (staged.encoded_steps, staged.steps) == (6, 10)
    moments = [growing.moment_of(staged, step) for step in (0, 5, 6, 9)]
    assert moments == [Moment(2, 0, 1.0, 4), Moment(2, 5, 1.0, 4), Moment(2, 0, 1.0, 4), Moment(2, 3, 1.0, 4)]


def test_unlike_by_hand(staged: GrowingRecipe) -> None:
    """Full scale is ln 128 on a transform of 512: 120 dB under it lies the floor, 70 dB under it what is heard."""
    units = Units(torch.tensor([-6.0, 0.5]), torch.tensor([4.0, 2.0]))
    loudest, db = math.log(128), 1 / NEPER_DB
    real, made = torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4)
    real[0, 0, 0] = torch.tensor([loudest, loudest - 35 * db, loudest - 140 * db, loudest - 130 * db])
    made[0, 0, 0] = torch.tensor([loudest - 2.0, loudest - 150 * db, loudest - 160 * db, loudest - 100 * db])
    real[0, 1, 0] = torch.tensor([3.0, 1.0, 0.0, 0.0])
    made[0, 1, 0] = torch.tensor([-3.0, 1.5, 3.0, 3.0])
    level, deviation = growing.unlike(units.taken_out(made), units.taken_out(real), staged, units)
    # 2 nepers; 115 dB although it is under the floor; both under it: nothing; 20 dB over it.
    assert level.item() == pytest.approx((2 + 115 * db + 0 + 20 * db) / 4 / 4, rel=1e-5)
    # 6 radians are 2 pi - 6 the other way; half weight 35 dB down.
    assert deviation.item() == pytest.approx((2 * math.pi - 6 + 0.5 * 0.5) / (1.5 + 1), rel=1e-4)


def test_half_of_the_fakes_have_z_of_the_encoder(notes_folder: Path, staged: GrowingRecipe) -> None:
    notes = load_training_set(notes_folder, staged, 1)
    state = growing.start_state(staged, notes)
    moment = growing.moment_of(staged, 6)
    batch = growing.batch_of(staged, notes, state.units, moment, notes.parts["train"][:4])
    assert state.encoder is not None
    mean = torch.full((4,), 7.0)
    with torch.no_grad():
        state.encoder.out.weight.zero_()
        state.encoder.out.bias.copy_(torch.cat([mean, torch.full((4,), -20.0)]))
    torch.manual_seed(5)
    z = growing.latent(state, staged, batch)
    torch.manual_seed(5)
    drawn = torch.randn(4, 4)
    assert torch.equal(z[2:], drawn[2:])
    assert torch.allclose(z[:2], 7 + drawn[:2] * math.exp(-4), atol=1e-6)  # no less than e^-8


def test_two_stages_learn_and_the_encoder_rests_in_the_second(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TWO_STAGE.replace("steps = 6", "steps = 150").replace("every_steps = 4", "every_steps = 50")
    seen: list[dict[str, torch.Tensor]] = []
    original = growing.discriminator_step

    def look(state: growing.State, *rest: object) -> dict[str, float]:
        assert state.encoder is not None
        seen.append(copy.deepcopy(state.encoder.state_dict()))
        assert set(state.optimisers) == {"generator", "discriminator"}
        return original(state, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(growing, "discriminator_step", look)
    run = train_run(tmp_path, notes_folder, text.replace("steps = [0, 0, 4]", "steps = [0, 0, 50]"))
    monkeypatch.undo()
    with (run / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert (run / "log.png").read_bytes().startswith(b"\x89PNG")
    assert [row["step"] for row in rows] == ["50", "100", "150", "200"]
    assert float(rows[2]["level"]) < 0.8 * float(rows[0]["level"])
    assert [bool(row["kl"]) for row in rows] == [True, True, True, False]
    assert [bool(row["distance"]) for row in rows] == [False, False, False, True]
    assert rows[3]["level"], "the likeness is asked for in stage two as well"
    last = stages.load_checkpoint(run)["encoder"]
    for state in (seen[0], seen[-1]):
        assert all(torch.equal(value, last[key]) for key, value in state.items())

    opened = open_run(run)
    assert opened.encoder is not None
    notes = load_training_set(notes_folder, opened.recipe, 1)
    rows_of = np.array([preset["row"] for preset in opened.facts["presets"]])
    state = growing.resume(run, stages.load_checkpoint(run)["identity"], opened.recipe, notes)  # type: ignore[arg-type]
    assert state is not None
    assert state.encoder is not None
    batch = growing.batch_of(opened.recipe, notes, state.units, moment_at(opened.recipe.growth, 0), rows_of)  # type: ignore[arg-type,union-attr]
    with torch.no_grad():
        z, _ = state.encoder(batch.planes, batch.condition)
    assert opened.latents == pytest.approx(z.numpy(), abs=1e-3), "what plays reads the grid's own units"
    assert opened.latents.std(0).max() > 1e-3
    voice = open_voice(run)
    assert voice.latent is not None
    heard = voice.latent(
        notes.frames(rows_of), notes.soft_labels[rows_of], notes.pitch[rows_of], notes.velocity[rows_of]
    )
    assert heard == pytest.approx(opened.latents, abs=1e-3)

    # The instrument is one that had grown: it carries the generator alone, and the encoder's z of its presets.
    made = export.export(run, tmp_path / "x.rack", None, ())
    assert np.array([preset.z for preset in made.manifest.presets]) == pytest.approx(opened.latents, abs=1e-3)
    (tmp_path / "grown").mkdir()
    grown = open_run(train_run(tmp_path / "grown", notes_folder, GROWING))
    assert (made.manifest.parameters, set(made.manifest.inputs)) == (
        sum(parameter.numel() for parameter in grown.generator.parameters()),
        set(grown.inputs),
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps = [0, 0, 4]", "steps = [4, 0, 4]", "steps: expected 0 of every scale but the last"),
        ("fade_steps = [0, 0, 0]", "fade_steps = [0, 0, 2]", "fade_steps[2]: expected at most 0"),
        ("[reconstruction]", "[recontruction]", "did you mean reconstruction?"),
        (TWO_STAGE[TWO_STAGE.index("[reconstruction]") :], "", "growth: steps: expected 3 numbers from 1 on"),
        ("kl_weight = 3e-3\n", "", "reconstruction: kl_weight: expected a value, got nothing"),
    ],
)
def test_two_stages_that_do_not_fit(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in TWO_STAGE
    with pytest.raises(DarkrackError) as error:
        read_recipe(write_recipe(tmp_path, TWO_STAGE.replace(old, new)))
    assert says in str(error.value)


def test_likeness_needs_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match="reconstruction_weight: expected 0 without a"):
        read_recipe(write_recipe(tmp_path, GROWING + "reconstruction_weight = 1.0\n"))


# ---- what goes wrong ----


@pytest.mark.parametrize("step", ["discriminator_step", "generator_step"])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original, done = getattr(growing, step), 0

    def breaks(*args: object) -> dict[str, float]:
        nonlocal done
        done += 1
        losses: dict[str, float] = original(*args)
        return {**losses, "distance": math.nan} if done == 8 else losses  # the very step that would be saved

    monkeypatch.setattr(growing, step, breaks)
    with pytest.raises(DarkrackError, match="step 8: expected finite losses"):
        train_run(tmp_path, notes_folder, GROWING)
    content = stages.load_checkpoint(tmp_path / "run")
    assert content["step"] == 4
    assert all(value.isfinite().all() for value in content["generator"].values())


def test_real_notes_that_are_not_finite_end_it_too(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a planted figure but a planted cause: an infinite gradient penalty."""
    original = growing.batch_of

    def broken(*args: object, **more: object) -> Batch:
        batch: Batch = original(*args, **more)  # type: ignore[arg-type]
        batch.planes[0, 0, 0, 0] = math.inf
        return batch

    monkeypatch.setattr(growing, "batch_of", broken)
    with pytest.raises(DarkrackError, match="finite losses"):
        train_run(tmp_path, notes_folder, GROWING)
    assert not (tmp_path / "run" / stages.CHECKPOINT).exists()


def test_other_recipe_other_notes_damaged_checkpoint(notes_folder: Path, tmp_path: Path) -> None:
    run = train_run(tmp_path, notes_folder, GROWING)
    with pytest.raises(DarkrackError, match="a run with this recipe"):
        train_run(tmp_path, notes_folder, GROWING.replace("seed = 3", "seed = 4"))
    with pytest.raises(DarkrackError, match="a run with these notes"):
        train_run(tmp_path, write_set(tmp_path / "other", instruments=20), GROWING)
    whole = (run / stages.CHECKPOINT).read_bytes()
    for damaged in (b"no checkpoint", whole[: len(whole) // 2], b""):
        (run / stages.CHECKPOINT).write_bytes(damaged)
        with pytest.raises(DarkrackError, match="a whole checkpoint"):
            train_run(tmp_path, notes_folder, GROWING)
        assert (run / stages.CHECKPOINT).read_bytes() == damaged, "what is there is left to a person"


def test_a_run_of_another_kind_is_refused(
    notes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(tmp_path, GROWING)
    words = [
        "train",
        str(tmp_path / "tiny.toml"),
        "--data",
        str(notes_folder),
        "--run",
        str(tmp_path / "run"),
    ]
    for option in ("--start-from", "--remember"):
        assert darkrack.main([*words, option, str(tmp_path)]) == 1
        assert f"{option}: expected a recipe on the partials grid" in capsys.readouterr().err
    run = train_run(tmp_path, notes_folder, GROWING)
    with pytest.raises(DarkrackError, match="a recipe on the partials grid"):
        stages.load_generator(run)


@pytest.mark.root
def test_a_full_disk_is_our_error_and_loses_nothing(notes_folder: Path, tmp_path: Path) -> None:
    """A file system of our own, with room for one checkpoint and no second beside it."""
    (tmp_path / "free").mkdir()
    free = train_run(tmp_path / "free", notes_folder, GROWING)
    size = (free / stages.CHECKPOINT).stat().st_size
    disk = tmp_path / "disk"
    disk.mkdir()
    room = size + size // 2
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(DarkrackError, match=r"checkpoint\.pt: expected a file that can be written"):
            train_run(disk, notes_folder, GROWING)
        assert stages.load_checkpoint(disk / "run")["step"] == 4
        assert not list((disk / "run").glob(".checkpoint*")), "what was half written is gone"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[256, 32]]", "[256, 16]]", "generator: scales: expected [256, 32] as the last"),
        ("[64, 8]", "[60, 8]", "generator: scales[1]: expected whole multiples of [16, 2]"),
        ("channels = [8, 8, 4]", "channels = [8, 8]", "generator: channels: expected 3 numbers"),
        ("batch = [8, 6, 4]", "batch = [8, 6, 1]", "growth: batch: expected 3 numbers from 2 on"),
        ("fade_steps = [0, 2, 2]", "fade_steps = [1, 2, 2]", "fade_steps[0]: expected at most 0"),
        ("fade_steps = [0, 2, 2]", "fade_steps = [0, 5, 2]", "fade_steps[1]: expected at most 4"),
        (
            "attributes = true",
            'attributes = true\nconditioning = "none"',
            "conditioning: expected concatenated or film",
        ),
        ("standardised = true", "", "growth: standardised: expected a value, got nothing"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GROWING
    with pytest.raises(DarkrackError) as error:
        read_recipe(write_recipe(tmp_path, GROWING.replace(old, new)))
    assert says in str(error.value)


def test_the_smaller_recipes_are_the_published_one_but_for_what_they_say() -> None:
    """The baseline differs in attributes alone; the small one in what its comments say."""
    folder = Path(__file__).parent.parent / "recipes"

    def read(name: str) -> GrowingRecipe:
        found, _ = read_recipe(folder / f"{name}.toml")
        assert isinstance(found, GrowingRecipe)
        return found

    def without(growth: Growth) -> tuple[float, ...]:
        return (growth.penalty_weight, growth.drift_weight, growth.augment)

    whole, small, baseline = read("darkgan"), read("darkgan-small"), read("darkgan-baseline")
    assert baseline.growth == whole.growth
    assert (baseline.generator.channels, baseline.generator.scales) == (
        whole.generator.channels,
        whole.generator.scales,
    )
    assert not baseline.generator.attributes
    assert (small.grid, small.generator.scales, small.generator.latent, small.pitch_range_midi) == (
        whole.grid,
        whole.generator.scales,
        32,
        (44, 69),
    )
    assert without(small.growth) == without(whole.growth) == (10.0, 1e-3, 0.5)
    assert (whole.growth.learning_rate, whole.growth.class_weight) == (1e-3, 10.0)
    assert Generator(small.generator, 128, (44, 69)).norm.channels == 186
