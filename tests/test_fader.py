"""The fader: what it asks for by hand, that leakage which is there goes, and that it stays out of runs without it."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training import FADER, RECIPE, TWO_STAGE, train_run, write_set

from train import fader, growing, measures, stages
from train.fader import Adversary
from train.recipe import Reconstruction

DEVIATION = "deviation_weight = 0.5\n"


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


def test_what_it_asks_for_by_hand() -> None:
    """Labels 1 and 5 are -.7071 and .7071 standard deviations (2 sqrt 2, of N - 1) off; it begins by guessing 0."""
    labels = torch.tensor([[1.0], [5.0]])
    adversary = Adversary(2, labels)
    z = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    assert adversary.missed(z, labels).item() == pytest.approx(0.5)
    nn.init.constant_(adversary.out.bias, 0.5)
    # Guesses .5 of -.7071 and .7071: (1.2071^2 + .2071^2) / 2 missed, so a quarter is explained.
    assert adversary.missed(z, labels).item() == pytest.approx(0.75, abs=1e-4)
    asked: list[Tensor] = []
    told, explained = fader.given_away(adversary, z.requires_grad_(), labels, 1, asked.append)
    assert told.item() == pytest.approx(0.25)
    assert explained == pytest.approx(0.25, abs=1e-4)
    assert asked[0].item() == pytest.approx(0.75, abs=1e-4)
    asked[0].backward()  # type: ignore[no-untyped-call]
    assert z.grad is None, "the adversary's step is not the encoder's"
    assert adversary.out.bias.grad is not None
    assert all(parameter.requires_grad for parameter in adversary.parameters())
    nn.init.constant_(adversary.out.bias, 2.0)  # worse than guessing the mean: nothing to gain by that
    told, explained = fader.given_away(adversary, z, labels, 1, asked.append)
    assert explained < 0
    assert told.item() == 0


def test_it_has_as_many_lessons_as_asked_and_tells_what_it_knew_before_them() -> None:
    labels = torch.randn(32, 2)
    adversary = Adversary(2, labels)
    rival = torch.optim.Adam(adversary.parameters(), 2e-3)
    missed: list[float] = []

    def descend(loss: Tensor) -> None:
        missed.append(loss.item())
        rival.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        rival.step()

    told, explained = fader.given_away(adversary, labels + 1, labels, 4, descend)
    assert len(missed) == 4
    assert missed == sorted(missed, reverse=True)
    assert explained == pytest.approx(1 - missed[0])
    assert told.item() > 1 - missed[-1]


def test_a_whisper_is_read_as_well() -> None:
    """z in other units is the same z: an encoder gains nothing by speaking low."""
    adversary = Adversary(3, torch.rand(9, 2))
    nn.init.normal_(adversary.out.weight)
    z = torch.randn(16, 3)
    assert torch.allclose(adversary(z), adversary(0.1 * z + 5), rtol=1e-2, atol=1e-2)


def test_its_weight_comes_up_on_a_line() -> None:
    options = Reconstruction(100, 1e-3, 1e-3, 0.5, fader_weight=0.4, fader_steps=10)
    assert [fader.weight_at(options, step) for step in (0, 5, 10, 99)] == pytest.approx([0, 0.2, 0.4, 0.4])
    at_once = Reconstruction(100, 1e-3, 1e-3, 0.5, fader_weight=0.4)
    assert fader.weight_at(at_once, 0) == 0.4


def leakage_of_an_encoder(weight: float) -> float:
    """Notes are attributes and something else, 8 numbers; an encoder of 4 may keep either, and the decoder is told one.

    It begins by keeping attributes; reconstruction alone has no reason to let go of all of them.
    """
    torch.manual_seed(1)
    count = 600
    labels, rest = torch.randn(count, 3), torch.randn(count, 5)
    notes = torch.cat([labels, rest], dim=1)
    encoder, decoder = nn.Linear(8, 4), nn.Linear(4 + 3, 8)
    with torch.no_grad():
        encoder.weight[:3] = torch.eye(3, 8)
    adversary = Adversary(4, labels)
    both = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 5e-3)
    rival = torch.optim.Adam(adversary.parameters(), 2e-3, (0.5, 0.999))

    def descend(loss: Tensor) -> None:
        rival.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        rival.step()

    for step in range(400):
        rows = torch.randperm(count)[:64]
        z = encoder(notes[rows])
        missed = (decoder(torch.cat([z, labels[rows]], dim=1)) - notes[rows]).square().mean()
        told, _ = fader.given_away(adversary, z, labels[rows], 4, descend)
        both.zero_grad()
        (missed + weight * min(1.0, step / 100) * told).backward()
        both.step()
    with torch.no_grad():
        z = encoder(notes)
    return measures.leakage(
        z.double().numpy(), labels.double().numpy(), np.random.default_rng(1), draws=10
    ).value


def test_leakage_that_is_planted_goes() -> None:
    assert leakage_of_an_encoder(0.0) > 0.4
    assert leakage_of_an_encoder(1.0) < 0.1


def leakage_of_a_run(run: Path, notes_folder: Path) -> float:
    from train.dataset import load_training_set

    _, encoder, recipe, _ = stages.load_generator(run)
    notes = load_training_set(notes_folder, recipe, 1)
    rows = np.arange(len(notes.notes))
    batch = stages.batch_of(recipe, notes, rows)
    z, _ = encoder(batch.frames, batch.condition)
    logits = notes.logits.astype(np.float64)
    return measures.leakage(z.double().numpy(), logits, np.random.default_rng(1), draws=10).value


def test_a_run_with_it_leaks_less(notes_folder: Path, tmp_path: Path) -> None:
    longer = RECIPE.replace("steps = 6", "steps = 300", 1).replace("steps = 6", "steps = 0", 1)
    longer = longer.replace("every_steps = 4", "every_steps = 300").replace(
        "kl_weight = 3e-4", "kl_weight = 1e-6"
    )
    found = []
    for name, more in (("off", ""), ("on", "fader_weight = 1.0\nfader_steps = 50\n")):
        (tmp_path / name).mkdir()
        run = train_run(tmp_path / name, notes_folder, longer.replace(DEVIATION, DEVIATION + more))
        found.append(leakage_of_a_run(run, notes_folder))
        with (run / "log.csv").open() as log:
            assert ("fader" in next(csv.DictReader(log))) == bool(more)
    assert found[1] < found[0] - 0.1


@pytest.mark.parametrize("text", [RECIPE, TWO_STAGE], ids=["partials", "stft"])
def test_it_is_in_the_checkpoint_where_there_is_one_and_goes_on_exactly(
    notes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    room = growing if text is TWO_STAGE else stages
    text = text.replace("every_steps = 4", "every_steps = 100")
    for name in ("off", "whole", "halves"):
        (tmp_path / name).mkdir()
    without = stages.load_checkpoint(train_run(tmp_path / "off", notes_folder, text))
    assert "adversary" not in {*without, *without["optimisers"]}
    faded = text.replace(DEVIATION, DEVIATION + FADER)
    whole = stages.load_checkpoint(train_run(tmp_path / "whole", notes_folder, faded))
    original, done = room.reconstruction_step, 0

    def stop_in_time(*args: object) -> dict[str, float]:
        nonlocal done
        done += 1
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "reconstruction_step", stop_in_time)
    with pytest.raises(KeyboardInterrupt):
        train_run(tmp_path / "halves", notes_folder, faded)
    half = stages.load_checkpoint(tmp_path / "halves" / "run")
    assert half["step"] == 3
    assert "adversary" in half["optimisers"]
    monkeypatch.setattr(room, "reconstruction_step", original)
    halves = stages.load_checkpoint(train_run(tmp_path / "halves", notes_folder, faded))
    for part in ("generator", "encoder", "adversary"):
        assert whole[part].keys() == halves[part].keys()
        assert all(torch.equal(value, halves[part][key]) for key, value in whole[part].items()), part
    assert any(not torch.equal(value, half["adversary"][key]) for key, value in whole["adversary"].items())
    assert not torch.equal(whole["encoder"]["out.weight"], without["encoder"]["out.weight"])
