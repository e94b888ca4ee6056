"""Ranks: two learn what one learns, one that dies takes nothing along, and no tensor stays behind."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training import EAR, FADER, GROWING, RECIPE, TWO_STAGE, write_recipe, write_set

from device.errors import DarkrackError
from train import growing, stages
from train.dataset import TrainingSet, load_training_set
from train.ranks import ALONE, Ranks, open_ranks
from train.recipe import GrowingRecipe, Recipe, read_recipe

ROOT = Path(__file__).parent.parent
# `darkrack train` as it is, but that every step is logged. PLANTED spoils one of the things that ranks must share.
PROGRAM = """
import os, sys
if __name__ == "__main__":
    import darkrack
    from train import growing, ranks, stages
    growing.LOG_EVERY_STEPS = stages.LOG_EVERY_STEPS = 1
    planted = os.environ.get("PLANTED")
    if planted == "whole":  # the deviation over the notes of a rank alone
        ranks.Ranks.whole = lambda self, own: own.repeat(self.count, *[1] * (own.dim() - 1))
    if planted == "mean":  # masked means over the rows of a rank alone
        ranks.Ranks.mean = lambda self, value: value.detach()
    if planted == "killed" and os.environ["RANK"] == "1":  # in the middle of the sixth step
        import signal
        from itertools import count
        steps, original = count(1), growing.generator_step
        def step(*args):
            if next(steps) == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)
        growing.generator_step = step
    sys.exit(darkrack.main(sys.argv[1:]))
"""
# Six notes a step are one group of the minibatch standard deviation, eight are two; scales fade.
# Adam's first steps are as long where a gradient is 0 but for rounding; slow, they do not add up in so few.
GROWN = GROWING.replace("batch = [8, 6, 4]", "batch = [8, 6, 6]").replace("rate = 1e-3", "rate = 1e-4")
# Rows over 2 kHz are silent: how many sound differs from rank to rank.
STAGED = RECIPE.replace("steps = 6", "steps = 12").replace("limit_hz = 16000.0", "limit_hz = 2000.0")
FADED = ("deviation_weight = 0.5\n", "deviation_weight = 0.5\n" + FADER)  # what to replace, and by what
# Between one process and two, relative or in nats; the log has five decimals.
GROWN_APART, STAGED_APART = 5e-3, 1e-4


@pytest.fixture(scope="module")
def notes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


def words(folder: Path, data: Path, text: str, ranks: int) -> list[str]:
    """The command, under torchrun where there are several ranks."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text(PROGRAM)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--"] if ranks > 1 else []
    command = [str(folder / "program.py"), "train", str(write_recipe(folder, text)), "--data", str(data)]
    return [sys.executable, *torchrun, *command, "--run", str(folder / "run"), "--threads", "1"]


def environment(planted: str = "") -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PLANTED": planted}


def trained(folder: Path, data: Path, text: str, ranks: int, planted: str = "") -> list[dict[str, str]]:
    """The log of a run to its last step."""
    done = subprocess.run(
        words(folder, data, text, ranks),
        env=environment(planted),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with (folder / "run" / "log.csv").open() as log:
        return list(csv.DictReader(log))


def figures(rows: list[dict[str, str]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """All losses of all steps, 0 where a stage has none."""
    return np.array([[float(v or 0) for k, v in row.items() if k != "notes_per_s"] for row in rows])


def steps_apart(one: list[dict[str, str]], other: list[dict[str, str]]) -> float:
    """The largest difference of a loss, over its size or 1."""
    a, b = figures(one), figures(other)
    assert a.shape == b.shape
    return float((np.abs(a - b) / np.maximum(np.abs(a), 1)).max())


# ---- two processes ----


@pytest.mark.parametrize(
    ("text", "limit", "planted"), [(GROWN, GROWN_APART, "whole"), (STAGED, STAGED_APART, "mean")]
)
def test_two_gloo_processes_get_the_losses_of_one(
    notes_folder: Path, tmp_path: Path, text: str, limit: float, planted: str
) -> None:
    alone = trained(tmp_path / "alone", notes_folder, text, 1)
    together = trained(tmp_path / "together", notes_folder, text, 2)
    assert len(alone) == (12 if text is GROWN else 24)
    assert steps_apart(alone, together) < limit
    spoiled = trained(tmp_path / "spoiled", notes_folder, text, 2, planted)
    assert steps_apart(alone, spoiled) > 4 * limit, "what is compared would not see the fault"


def test_a_rank_that_is_killed_is_our_error_and_one_process_goes_on(
    notes_folder: Path, tmp_path: Path
) -> None:
    """The other rank says so, the checkpoint stands, and from it one process gets what it would have got alone."""
    broken = subprocess.run(
        words(tmp_path, notes_folder, GROWN, 2),
        env=environment("killed"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert broken.returncode == 1
    assert "(SIGKILL)" in broken.stderr
    assert "error: rank 0 of 2: expected an answer from the other ranks, got" in broken.stderr
    assert "goes on from the last checkpoint" in broken.stderr
    assert 'File "train/' not in broken.stderr, "a traceback of ours"
    assert stages.load_checkpoint(tmp_path / "run")["step"] == 4
    assert not list((tmp_path / "run").glob(".checkpoint*"))
    resumed = trained(tmp_path, notes_folder, GROWN, 1)
    alone = trained(tmp_path / "alone", notes_folder, GROWN, 1)
    assert [row["step"] for row in resumed] == [str(step) for step in range(1, 13)]
    assert steps_apart(alone, resumed) < GROWN_APART


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_torchrun_that_is_stopped_leaves_a_checkpoint(
    notes_folder: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    """It hands the signal on, and both ranks end after the same step, which one of them saves."""
    text = GROWN.replace("steps = [4, 4, 4]", "steps = [100000, 4, 4]").replace(
        "every_steps = 4", "every_steps = 3"
    )
    process = subprocess.Popen(
        words(tmp_path, notes_folder, text, 2),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / stages.CHECKPOINT).exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(stop)
    said, _ = process.communicate()
    step = stages.load_checkpoint(tmp_path / "run")["step"]
    assert f"stopped at step {step} of 100008" in said


# ---- the rows of a batch ----


def test_shares_make_the_whole_batch() -> None:
    rows, drawn = np.arange(12), torch.arange(24.0).reshape(24, 1)
    ranks = [Ranks(torch.device("cpu"), rank, 3) for rank in range(3)]
    assert np.concatenate([one.share(rows) for one in ranks]).tolist() == rows.tolist()
    assert torch.equal(torch.cat([one.own(drawn) for one in ranks]), drawn)
    twice = torch.stack([one.own(drawn, times=2) for one in ranks])  # of two batches one after the other
    assert twice[:, :4].flatten().tolist() == list(range(12))
    assert twice[:, 4:].flatten().tolist() == list(range(12, 24))


def test_numbers_are_drawn_for_the_whole_batch() -> None:
    torch.manual_seed(1)
    alone = ALONE.normal(4, 3, times=2)
    following = torch.rand(1)
    for rank in (0, 1):
        torch.manual_seed(1)
        found = Ranks(torch.device("cpu"), rank, 2).normal(2, 3, times=2)
        assert torch.equal(found, torch.cat([alone[2 * rank :][:2], alone[4 + 2 * rank :][:2]]))
        assert torch.rand(1) == following


@pytest.mark.parametrize("text", [GROWN, STAGED])
def test_a_batch_that_cannot_be_handed_out_is_refused(notes_folder: Path, tmp_path: Path, text: str) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, text))
    notes = load_training_set(notes_folder, recipe, 1)
    five = Ranks(torch.device("cpu"), 0, 5)
    with pytest.raises(DarkrackError, match="batch: expected multiples of 5"):
        _train(recipe, notes, five, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _train(recipe: Recipe | GrowingRecipe, notes: TrainingSet, ranks: Ranks, run: Path) -> None:
    if isinstance(recipe, GrowingRecipe):
        growing.train(growing.start_state(recipe, notes, ranks), recipe, notes, run, {})
    else:
        stages.train(stages.start_state(recipe, notes, ranks=ranks), recipe, notes, run, {})


def test_stage_three_listens_alone(notes_folder: Path, tmp_path: Path) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, RECIPE + EAR.replace("descriptors", "mn04")))
    assert isinstance(recipe, Recipe)
    notes = load_training_set(notes_folder, recipe, 1)
    for ranks in (Ranks(torch.device("cpu"), 1, 2), Ranks(torch.device("cuda", 0))):
        with pytest.raises(DarkrackError, match=r"\[ear\]: expected one process, on the CPU"):
            stages.start_state(recipe, notes, ranks=ranks)


@pytest.mark.parametrize("text", [RECIPE.replace(*FADED), TWO_STAGE], ids=["fader", "two stages"])
def test_what_takes_whole_batches_is_refused(notes_folder: Path, tmp_path: Path, text: str) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, text))
    notes, two = load_training_set(notes_folder, recipe, 1), Ranks(torch.device("cpu"), 1, 2)
    start: Any = growing.start_state if isinstance(recipe, GrowingRecipe) else stages.start_state
    with pytest.raises(DarkrackError, match=r"\[reconstruction\].*: expected one process, got 2"):
        start(recipe, notes, ranks=two)


def test_alone_without_torchrun_and_no_gpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with open_ranks("auto", "float32", {"WORLD_SIZE": "8", "RANK": "3"}) as ranks:  # as SLURM sets them
        assert ranks == ALONE
    with pytest.raises(DarkrackError, match="a GPU that torch can use"), open_ranks("cuda", "float32", {}):
        pass


# ---- devices ----


class OneDevice(TorchDispatchMode):
    """Notes the operations that meet tensors of several devices; a single number may lie on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor) and one.dim()]
        if len({one.device.type for one in tensors}) > 1:
            self.mixed.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    """A device that is not the CPU: torch's "meta", which computes shapes and no values."""

    item, cpu = torch.Tensor.item, torch.Tensor.cpu

    def number(one: torch.Tensor) -> Any:
        return item(one) if one.device.type == "cpu" else 0.0

    def fetched(one: torch.Tensor) -> torch.Tensor:
        return cpu(one) if one.device.type == "cpu" else torch.zeros(one.shape, dtype=one.dtype)

    monkeypatch.setattr(torch.Tensor, "item", number)
    monkeypatch.setattr(torch.Tensor, "cpu", fetched)
    return Ranks(torch.device("meta"))


@pytest.mark.parametrize("forgotten", [False, True])
def test_no_step_of_growing_mixes_devices(
    notes_folder: Path, tmp_path: Path, elsewhere: Ranks, forgotten: bool
) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, GROWN))
    assert isinstance(recipe, GrowingRecipe)
    notes = load_training_set(notes_folder, recipe, 1)
    state = growing.start_state(recipe, notes, elsewhere)
    strong = torch.ones(3, device="cpu" if forgotten else "meta")
    moment = growing.moment_at(recipe.growth, 4)
    state.set_to(moment)
    mode = OneDevice()
    with mode:
        rows = growing.rows_at(recipe, notes.parts["train"], moment)
        batch = growing.batch_of(recipe, notes, state.units, moment, rows, ranks=elsewhere)
        growing.discriminator_step(state, recipe, batch)
        try:
            growing.generator_step(state, recipe, batch, strong, strong)
        except RuntimeError:
            assert forgotten
        growing._follow(state, 0.9)
    growing.contact_sheet(tmp_path / "sheet.png", state, recipe, notes)
    assert bool(mode.mixed) == forgotten, mode.mixed
    for network in state.modules().values():
        assert {one.device.type for one in network.parameters()} == {"meta"}


def test_no_step_of_two_stages_on_stft_mixes_devices(
    notes_folder: Path, tmp_path: Path, elsewhere: Ranks
) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, TWO_STAGE.replace(*FADED)))
    assert isinstance(recipe, GrowingRecipe)
    notes = load_training_set(notes_folder, recipe, 1)
    state = growing.start_state(recipe, notes, elsewhere)
    strong = torch.ones(3, device="meta")
    with OneDevice() as mode:
        for step in (0, recipe.encoded_steps):
            state.step, moment = step, growing.moment_of(recipe, step)
            growing.begin_scale(state, recipe)
            rows = growing.rows_at(recipe, notes.parts["train"], moment)
            batch = growing.batch_of(recipe, notes, state.units, moment, rows, ranks=elsewhere)
            if not step:
                growing.reconstruction_step(state, recipe, batch)
        growing.discriminator_step(state, recipe, batch)
        growing.generator_step(state, recipe, batch, strong, strong)
    assert not mode.mixed
    growing.contact_sheet(tmp_path / "sheet.png", state, recipe, notes)


@pytest.mark.parametrize("text", [STAGED, STAGED.replace(*FADED)], ids=["plain", "fader"])
def test_no_step_of_the_stages_mixes_devices(
    notes_folder: Path, tmp_path: Path, elsewhere: Ranks, text: str
) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, text))
    assert isinstance(recipe, Recipe)
    notes = load_training_set(notes_folder, recipe, 1)
    state = stages.start_state(recipe, notes, ranks=elsewhere)
    quantiles = torch.from_numpy(notes.attributes.quantiles)
    batch = next(stages.batches(recipe, notes, 0, elsewhere))
    with OneDevice() as mode:
        stages.reconstruction_step(state, recipe, batch)
        stages.adversarial_step(state, recipe, batch, quantiles)
        stages._follow(state, 0.9)
    assert not mode.mixed
    stages.contact_sheet(tmp_path / "sheet.png", state, recipe, notes)


# ---- bfloat16 ----


@pytest.mark.parametrize("text", [GROWN, STAGED])
def test_bfloat16_stays_close_and_leaves_the_penalty_alone(
    notes_folder: Path, tmp_path: Path, text: str
) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path, text))
    notes = load_training_set(notes_folder, recipe, 1)
    losses = {}
    for half in (False, True):
        ranks = Ranks(torch.device("cpu"), bfloat16=half)
        if isinstance(recipe, GrowingRecipe):
            state = growing.start_state(recipe, notes, ranks)
            moment = growing.moment_at(recipe.growth, 0)
            state.set_to(moment)
            batch = growing.batch_of(recipe, notes, state.units, moment, notes.parts["train"][:8])
            strong = torch.full((3,), 0.5)
            losses[half] = growing.discriminator_step(state, recipe, batch)
            assert all(one.dtype == torch.float32 for one in state.discriminator.parameters())
            losses[half] |= growing.generator_step(state, recipe, batch, strong, strong)
        else:
            staged = stages.start_state(recipe, notes, ranks=ranks)
            some = stages.batch_of(recipe, notes, notes.parts["train"][:8])
            losses[half] = stages.reconstruction_step(staged, recipe, some)
            quantiles = torch.from_numpy(notes.attributes.quantiles)
            losses[half] |= stages.adversarial_step(staged, recipe, some, quantiles)
    assert losses[True] != losses[False], "it was not asked for"
    for key, value in losses[False].items():
        assert losses[True][key] == pytest.approx(value, rel=0.05, abs=0.05), key
