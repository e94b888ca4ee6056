"""`darkrack trim`: rounds that can be stopped anywhere, budgets that are met, and runs that export."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_ear import LISTENED
from test_prune import WIDER
from training import label_descriptors, train_run, write_set

import darkrack
from compress import trim
from compress.export import export
from compress.prune import count_macs
from compress.subjects import GeneratorSubject, heard_alike
from device.errors import DarkrackError
from train import stages
from train.cost import spent
from train.dataset import load_training_set
from train.networks import Generator
from train.recipe import read_recipe
from train.stages import load_generator

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return train_run(tmp_path_factory.mktemp("trained"), data, WIDER)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Ctrl-C in the middle of these steps of trimming, counted over all calls."""
    counted, original = itertools.count(1), trim._step

    def interrupted(*given: object) -> dict[str, float]:
        if next(counted) in steps:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(trim, "_step", interrupted)


def words(run: Path, data: Path, out: Path, *more: str) -> list[str]:
    short = ["--to", "60%", "30%", "--steps", "3", "--last-steps", "5", "--batch", "8"]
    return ["trim", str(run), "--data", str(data), "--out", str(out), *short, *more]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    network, *_ = load_generator(folder)
    return network.state_dict()


def macs(folder: Path) -> int:
    return macs_of(load_generator(folder)[0])


def macs_of(network: torch.nn.Module) -> int:
    return count_macs(network, [torch.zeros(1, size) for size in (4, 3, 1, 1)] + [torch.zeros(1, 4, 32)])


@given(st.text(alphabet="0123456789.%Mms-e", max_size=8))
def test_a_budget_is_a_share_macs_or_a_time_or_refused(text: str) -> None:
    try:
        got = trim.budget(text)
    except argparse.ArgumentTypeError as error:
        assert "expected a share under 100%" in str(error)  # noqa: PT017 (the other way out is tested too)
        return
    assert got.value > 0
    assert math.isfinite(got.value)
    unit = {"share": "%", "macs": "M", "ms": "ms"}[got.unit]
    assert text.endswith(unit)
    assert float(text.removesuffix(unit)) == pytest.approx(
        got.value * {"share": 100, "macs": 1e-6, "ms": 1}[got.unit]
    )
    assert "/" not in got.label


@given(share=st.floats(0.01, 1), goal=st.floats(0.001, 1), least=st.floats(0.1, 0.95))
def test_rounds_fall_evenly_and_never_faster_than_asked(share: float, goal: float, least: float) -> None:
    steps = trim.rounds(share, goal, least)
    assert steps[-1] == goal
    path = [share, *steps]
    if goal < share:
        ratios = [after / before for before, after in itertools.pairwise(path)]
        assert min(ratios) >= least * (1 - 1e-6) or len(steps) == 1
        assert max(ratios) - min(ratios) < 1e-6


def test_trimmed_runs_meet_their_budgets_and_export(trained: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert darkrack.main(words(trained, data, out)) == 0
    whole = macs(trained)
    for label in ("60", "30"):
        assert macs(out / label) <= float(label) / 100 * whole
    content = json.loads((out / trim.ROUNDS).read_text())
    assert [one["budget"] for one in content["rounds"]] == [None, "60", None, "30"]
    assert content["parent"]["macs"] == whole
    network, _, _, facts = load_generator(out / "30")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    account = facts["trimmed"]
    assert {name: len(kept) for name, kept in account["kept"].items()} == content["rounds"][-1]["widths"]
    assert account["steps"] == 16
    # What is kept are channels of the parent: the first layer's rows began as the parent's (and were trained since).
    kept = torch.tensor(account["kept"]["scales.1.first"])
    columns = torch.tensor(account["kept"]["scales.0.first"])
    own = network.scales[1].first.weight
    parents = load_generator(trained)[0].scales[1].first.weight[kept][:, columns]
    assert float((own - parents).norm() / parents.norm()) < 0.5
    made = export(out / "30", tmp_path / "small.rack", None, ())
    assert made.manifest.macs == macs(out / "30")
    assert "Trimmed" in made.card
    assert "hours of a core" in " ".join(made.card.split())
    with (out / trim.LOG).open() as log:
        assert {row["round"] for row in csv.DictReader(log)} == {"0", "1", "2", "3"}
    # What each took rests on its parent's training: 3 + 5 steps to the first budget, as many to the next.
    before, first, second = (spent(run) for run in (trained, out / "60", out / "30"))
    assert [one["steps"] - before["steps"] for one in (first, second)] == [8, 16]
    assert before["joules"] < first["joules"] < second["joules"]
    assert (
        second["macs"] - first["macs"] < first["macs"] - before["macs"]
    )  # steps of less than half the network


@pytest.fixture(scope="module")
def by_ear(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was trained by ear, and its notes."""
    data = label_descriptors(write_set(tmp_path_factory.mktemp("heard")))
    wider = LISTENED.replace("channels = [8, 8, 8]", "channels = [32, 24, 16]").replace(
        "= 16\nnoise", "= 24\nnoise"
    )
    return train_run(tmp_path_factory.mktemp("by ear"), data, wider, "--ear", "descriptors"), data


@pytest.mark.parametrize("learn", [("outputs", "critic"), ("task", "ear")])
def test_going_on_after_ctrl_c_is_exact(  # noqa: PLR0917
    trained: Path,
    data: Path,
    by_ear: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    learn: tuple[str, str],
) -> None:
    more = ["--learn", *learn]
    if "ear" in learn:
        trained, data = by_ear
        more += ["--ear", "descriptors", "--criterion", "magnitude"]  # which is saved before anybody listens
    assert darkrack.main(words(trained, data, tmp_path / "whole", *more)) == 0
    assert not list((tmp_path / "whole").glob("ear-*"))
    interrupt_at(monkeypatch, 2, 6, 11)
    again = words(trained, data, tmp_path / "parts", *more)
    assert [darkrack.main(again) for _ in range(4)] == [130, 130, 130, 0]
    one, other = weights(tmp_path / "whole" / "30"), weights(tmp_path / "parts" / "30")
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert darkrack.main(again) == 0, "there is nothing left to do, and nothing is asked for"


@pytest.mark.parametrize(
    "learn", [("outputs", "features", "critic"), ("task", "ear"), ("classifier", "task")]
)
def test_passes_in_bfloat16_leave_nearly_the_same_network_in_float32(
    trained: Path, data: Path, by_ear: tuple[Path, Path], tmp_path: Path, learn: tuple[str, ...]
) -> None:
    run, more = trained, ["--criterion", "magnitude", "--to", "60%"]
    if "ear" in learn:
        run, data = by_ear
        more += ["--ear", "descriptors"]
    if "classifier" in learn:
        run, learn = Path("classifier"), ("task",)
    found = []
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        options = [*more, "--learn", *learn, "--precision", precision]
        assert darkrack.main(words(run, data, out, *options)) == 0
        if run == Path("classifier"):
            found.append(torch.load(out / "60" / "classifier.pt", weights_only=True)["network"])
        else:
            found.append(weights(out / "60"))
    one, other = found
    assert {value.dtype for value in other.values()} == {value.dtype for value in one.values()}
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
    whole = {name: value.double() for name, value in one.items() if value.is_floating_point()}
    apart = sum(float((value - other[name].double()).square().sum()) for name, value in whole.items())
    assert apart < 0.1**2 * sum(float(value.square().sum()) for value in whole.values())


def test_who_does_not_listen_is_said(
    trained: Path,
    data: Path,
    by_ear: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for run, notes, more, told in (
        (trained, data, ["ear", "--ear", "descriptors"], "expected a run that was trained by ear"),
        (*by_ear, ["ear", "--ear", "mn04=x"], "expected descriptors=PATH"),
        (*by_ear, ["ear", "critic"], "expected an ear or a critic"),
        (Path("classifier"), data, ["ear"], "expected a generator, got the classifier"),
    ):
        assert darkrack.main(words(run, notes, tmp_path / "out", "--learn", *more)) == 1
        assert told in capsys.readouterr().err


def test_a_killed_trim_goes_on_and_leaves_nothing_half_written(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "darkrack.py"), *words(trained, data, out, "--steps", "40")]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        before = (out / trim.STATE).stat().st_mtime_ns if (out / trim.STATE).exists() else 0
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (out / trim.STATE).exists() and (out / trim.STATE).stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
        for folder in (out / "60", out / "30"):
            if folder.exists():
                assert macs(folder) > 0  # a whole run
    assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert macs(out / "30") <= 0.3 * macs(trained)


def test_rewinding_goes_back_to_early_weights(trained: Path, data: Path, tmp_path: Path) -> None:
    network, *_ = load_generator(trained)
    subject = GeneratorSubject(trained, data, ("outputs",))
    early = subject.early()
    assert not torch.equal(early.to_frames.weight, network.to_frames.weight)  # type: ignore[union-attr, arg-type]
    rewound, going_on = tmp_path / "rewound", tmp_path / "going-on"
    for out, more in ((rewound, ["--survivors", "early"]), (going_on, [])):
        still = ["--learning-rate", "1e-9", "--criterion", "magnitude"]
        assert darkrack.main(words(trained, data, out, *still, *more)) == 0
    for out, source in ((rewound, early), (going_on, network)):
        facts = load_generator(out / "30")[3]["trimmed"]
        kept = torch.tensor(facts["kept"]["scales.2.first"])
        torch.testing.assert_close(
            weights(out / "30")["to_frames.weight"], source.to_frames.weight[:, kept], rtol=1e-4, atol=1e-5
        )


def test_fresh_survivors_begin_as_training_does(trained: Path, data: Path, tmp_path: Path) -> None:
    subject = GeneratorSubject(trained, data, ("outputs",))
    assert isinstance(subject.network, Generator)
    recipe, _ = read_recipe(trained / "recipe.toml")
    fresh = subject.fresh(subject.network).state_dict()
    begun = stages.start_state(recipe, load_training_set(data, recipe, 1)).generator.state_dict()
    for name in (
        "condition.attribute_mean",
        "condition.attribute_scale",
        "condition.anchors",
        "to_frames.bias",
    ):
        assert torch.equal(fresh[name], begun[name]), name
    assert darkrack.main(words(trained, data, tmp_path / "fresh", "--survivors", "fresh")) == 0
    # Initialised for the width that it has, not for the parent's; and a trimmed run can be trimmed again.
    again = words(tmp_path / "fresh" / "60", data, tmp_path / "again", "--survivors", "fresh", "--to", "50%")
    assert darkrack.main(again) == 0
    narrow = subject.fresh(load_generator(tmp_path / "fresh" / "30")[0])
    assert isinstance(narrow, Generator)
    layer = narrow.scales[2].first
    assert float(layer.weight.detach().std()) == pytest.approx(
        np.sqrt(2 / 1.04 / (3 * layer.in_channels)), rel=0.2
    )


def test_seeds_differ(trained: Path, data: Path, tmp_path: Path) -> None:
    made = []
    for seed in ("0", "1"):
        out = tmp_path / seed
        assert (
            darkrack.main(
                words(trained, data, out, "--criterion", "magnitude", "--seed", seed, "--to", "60%")
            )
            == 0
        )
        made.append(weights(out / "60")["to_frames.bias"])
    assert not torch.equal(*made)


@pytest.mark.parametrize(
    "more", [["--criterion", "taylor"], ["--per", "weights"], ["--criterion", "activation"]]
)
def test_every_way_to_choose(trained: Path, data: Path, tmp_path: Path, more: list[str]) -> None:
    assert darkrack.main(words(trained, data, tmp_path / "out", *more)) == 0
    assert macs(tmp_path / "out" / "30") <= 0.3 * macs(trained)


def test_a_trim_that_was_killed_between_its_last_save_and_its_end_goes_on(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert darkrack.main(words(trained, data, tmp_path / "whole")) == 0
    monkeypatch.setattr(trim, "SAVE_EVERY_STEPS", 1)
    out, keep = tmp_path / "out", GeneratorSubject.keep

    def killed(*given: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(GeneratorSubject, "keep", killed)
    with pytest.raises(RuntimeError, match="killed"):
        darkrack.main(words(trained, data, out))
    (out / ".60.left").mkdir()
    (out / ".60.left" / "rubbish").touch()
    monkeypatch.setattr(GeneratorSubject, "keep", keep)
    assert darkrack.main(words(trained, data, out)) == 0
    assert not list(out.glob(".*"))
    rounds, whole = (
        json.loads((folder / trim.ROUNDS).read_text())["rounds"] for folder in (out, tmp_path / "whole")
    )
    assert [one["losses"] for one in rounds] == [one["losses"] for one in whole]
    for name, value in weights(tmp_path / "whole" / "30").items():
        assert torch.equal(value, weights(out / "30")[name]), name


def test_a_trimmed_run_is_trained_on_only_as_another(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert darkrack.main(words(trained, data, tmp_path / "out", "--to", "60%")) == 0
    run = tmp_path / "out" / "60"
    recipe = ["train", str(run / "recipe.toml"), "--data", str(data)]
    assert darkrack.main([*recipe, "--run", str(run)]) == 1
    assert "expected a run that was trained, got a trimmed one" in capsys.readouterr().err
    start = ["--run", str(tmp_path / "new"), "--start-from", str(run), "--until", "1"]
    assert darkrack.main([*recipe, *start]) == 0  # tests/test_warm_start.py has what comes of it
    assert darkrack.main(words(run, data, tmp_path / "critic", "--learn", "critic")) == 1
    assert "expected a run with a trained critic" in capsys.readouterr().err


def test_milliseconds_are_measured_through_litert(
    trained: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = GeneratorSubject(trained, data, ("outputs",))
    took_ms = subject.measure_ms(subject.network)
    assert 0 < took_ms < 1000
    generous = words(trained, data, tmp_path / "out", "--to", f"{1000 * took_ms:.3f}ms")
    assert darkrack.main(generous) == 0
    assert macs(next(path for path in (tmp_path / "out").iterdir() if path.is_dir())) == macs(trained)
    assert json.loads((tmp_path / "out" / trim.ROUNDS).read_text())["rounds"][0]["ms"] > 0
    # Time that rises with MACs, so that the search has something to find; and one that nothing holds.
    monkeypatch.setattr(GeneratorSubject, "measure_ms", lambda _, network: macs_of(network) / 1e6)
    half = macs(trained) / 2e6
    assert darkrack.main(words(trained, data, tmp_path / "half", "--to", f"{half:.6f}ms")) == 0
    found = json.loads((tmp_path / "half" / trim.ROUNDS).read_text())["rounds"][-1]
    assert 0.35 < found["macs_share"] <= 0.5
    assert darkrack.main(words(trained, data, tmp_path / "none", "--to", "0.000001ms")) == 1
    assert "a time that a network with 8 channels a layer holds" in capsys.readouterr().err


def test_lessons_repeat_and_differ_from_step_to_step(trained: Path, data: Path) -> None:
    subject = GeneratorSubject(trained, data, ("outputs",))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = subject.lesson(3, 8), subject.lesson(3, 8), subject.lesson(-3, 8)
    assert torch.equal(torch.get_rng_state(), before)
    for mine, theirs in zip(one.inputs, again.inputs, strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(one.inputs[0], other.inputs[0])
    # The parent differs from itself in nothing.
    made = subject.network(*one.inputs)
    assert one.losses["outputs"](made, made) == 0
    assert one.losses["task"](made, made) > 0


def test_frames_beyond_what_the_decoder_takes_are_alike_there(trained: Path, data: Path) -> None:
    grid = load_generator(trained)[2].grid
    taught = torch.tensor([20.0, 0.5, -3.0, 0.5]).reshape(1, 1, 1, 4).repeat(1, 2, 1, 1)
    made = torch.tensor([9.0, 9.0, -9.0, 0.4]).reshape(1, 1, 1, 4).repeat(1, 2, 1, 1).requires_grad_(True)
    heard, wanted = heard_alike(made, taught, grid)
    apart = (heard - wanted).abs()[0, :, 0]
    np.testing.assert_allclose(apart.detach().numpy(), [[0, 8.5, 0, 0.1]] * 2, atol=1e-6)
    apart.sum().backward()
    assert made.grad is not None
    assert made.grad[0, 0, 0].tolist() == [0, 1, 0, -1]


def test_bad_plans(trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (["--round-share", "0"], "--round-share: expected 0.1 to under 1, got 0"),
        (["--steps", "0"], "--steps: expected at least 1, got 0"),
        (["--to", "50%", "50%"], "--to: expected each budget once"),
        (["--to", "30%", "60%"], "--to: expected budgets from the largest to the smallest, got 30 before 60"),
        (["--floor", "0"], "--floor: expected at least 1, got 0"),
        (["--batch", "1"], "--batch: expected at least 2, got 1"),
        (["--seed", "-1"], "--seed: expected at least 0, got -1"),
        (["--threads", "0"], "--threads: expected at least 1, got 0"),
        (["--learning-rate", "-1"], "--learning-rate: expected above 0 and under 1, got -1"),
        (["--to", "0.1%"], "expected at least .*as small as it gets"),
    ):
        assert darkrack.main([*words(trained, data, tmp_path / "out"), *more]) == 1
        assert re.search(message, capsys.readouterr().err)


def test_what_cannot_go_on_says_so(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / trim.STATE).write_bytes(b"not a checkpoint")
    assert darkrack.main(words(trained, data, out)) == 1
    assert "expected a whole checkpoint" in capsys.readouterr().err
    (out / trim.STATE).unlink()
    assert darkrack.main(words(trained, data, out, "--to", "60%")) == 0
    assert darkrack.main(words(trained, data, out, "--to", "60%", "--seed", "9")) == 1
    assert "a folder trimmed by the same plan from the same run" in capsys.readouterr().err
    (trained / stages.EARLY).rename(tmp_path / "kept")
    try:
        assert darkrack.main(words(trained, data, tmp_path / "other", "--survivors", "early")) == 1
    finally:
        (tmp_path / "kept").rename(trained / stages.EARLY)
    assert "the run's early weights" in capsys.readouterr().err
    assert darkrack.main(words(trained, write_set(tmp_path / "others", 25), tmp_path / "third")) == 1
    assert "the notes that the run was trained on" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trim, "_step", lambda *given: {"outputs": math.nan})
    parser = argparse.ArgumentParser()
    trim.add_arguments(parser)
    with pytest.raises(DarkrackError, match="finite losses"):
        trim.run(parser.parse_args(words(trained, data, tmp_path / "out")[1:]))
    assert torch.load(tmp_path / "out" / trim.STATE, weights_only=True)["step"] == 0


def test_the_judges_classifier_is_trimmed_by_the_same_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    more = ["--learn", "outputs", "task"]
    assert darkrack.main(words(Path("classifier"), data, out, *more)) == 0
    found = json.loads((out / "30" / "accuracy.json").read_text())
    assert found["left"]["accuracy"]["pitch"]
    assert found["trimmed"]["parent"]["macs"] > 3 * 1e6
    content = torch.load(out / "30" / "classifier.pt", weights_only=True)
    assert (content["low_midi"], content["high_midi"]) == (36, 84)
    files = [str(out / label / "accuracy.json") for label in ("60", "30")]
    capsys.readouterr()
    assert darkrack.main(["trim", "--report", *files, "--out", str(tmp_path / "report")]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| whole", "| mi per macs", "| mi per macs"]
    assert all(re.search(r"\| \d+\.\d \(", row) for row in rows)
    (tmp_path / "accuracy.json").write_text("{}")
    assert darkrack.main(["trim", "--report", str(tmp_path / "accuracy.json"), "--out", str(tmp_path)]) == 1
    assert "expected the accuracy of a trimmed classifier, got something else" in capsys.readouterr().err
    assert darkrack.main(words(Path("classifier"), data, tmp_path / "again", *more)) == 0
    again = torch.load(tmp_path / "again" / "30" / "classifier.pt", weights_only=True)["network"]
    for name, value in content["network"].items():
        assert torch.equal(value, again[name]), name
    assert darkrack.main(words(Path("classifier"), data, tmp_path / "no", "--learn", "critic")) == 1
    assert "it has no critic" in capsys.readouterr().err
    assert darkrack.main(words(Path("classifier"), data, tmp_path / "no", "--survivors", "early")) == 1
    assert "none of the classifier" in capsys.readouterr().err
