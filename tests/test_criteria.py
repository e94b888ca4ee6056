"""Scores of channels: information where it is known, and each criterion finds the channel that matters to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.criteria import CRITERIA, LEAST_OPEN, copula_information, score
from compress.prune import structure_of
from device.errors import DarkrackError


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000),
    dimensions=st.integers(1, 40),
    correlation=st.floats(-0.98, 0.98),
)
def test_information_of_a_gaussian_channel_is_what_the_formula_says(
    seed: int, dimensions: int, correlation: float
) -> None:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((4000, dimensions))
    direction = random.standard_normal(dimensions)
    signal = inputs @ (direction / np.linalg.norm(direction))
    unit = correlation * signal + math.sqrt(1 - correlation**2) * random.standard_normal(4000)
    found = copula_information(inputs, np.stack([unit, np.exp(unit), unit**3], axis=1))
    # Whatever rises with the unit says the same as the unit itself.
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0])
    # The standard error of the estimate is about |correlation| / sqrt(N), without a correlation that of chi squared.
    assert found[0] == pytest.approx(-math.log(1 - correlation**2) / 2, abs=5 / math.sqrt(4000))


def test_information_of_nothing_in_common_is_none_however_many_inputs() -> None:
    random = np.random.default_rng(1)
    inputs, units = random.standard_normal((1000, 200)), random.standard_normal((1000, 300))
    # Without the correction it would be 200 / (2 * 1000) = .1 nats.
    assert copula_information(inputs, units).mean() < 0.015


def test_information_is_bounded_where_a_unit_is_its_input() -> None:
    inputs = np.random.default_rng(2).standard_normal((500, 3))
    assert copula_information(inputs, inputs) == pytest.approx(
        np.full(3, -math.log(LEAST_OPEN) / 2), abs=0.01
    )


def test_a_unit_that_stands_still_says_nothing() -> None:
    inputs = np.random.default_rng(3).standard_normal((500, 3))
    assert copula_information(inputs, np.ones((500, 1))).tolist() == [0.0]


def test_more_inputs_than_samples_are_refused() -> None:
    with pytest.raises(DarkrackError, match=r"more than \d+ samples"):
        copula_information(np.random.default_rng(4).standard_normal((9, 9)), np.ones((9, 1)))


class Small(nn.Module):
    """Four hidden channels: 0 is as they come, 1 hardly moves, 2 is hardly read, 3 is mostly noise of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 4, 1)
        self.second = nn.Conv1d(4, 1, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, -1], [0.01, 0.01], [1, 1], [1, 0.5]])[:, :, None])
            nn.init.zeros_(self.first.bias)  # type: ignore[arg-type]
            nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
            self.second.weight.copy_(torch.tensor([[1.0, 1, 0.001, 1]])[:, :, None])

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x) + noise * torch.tensor([0.1, 0.0, 0.0, 5.0])[None, :, None])
        return self.second(hidden)


def scores_of(criterion: str) -> np.ndarray:
    network = Small()
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(64, 2, 32, generator=generator), torch.randn(64, 4, 32, generator=generator))
    structure = structure_of(network, batch, ["second"])
    losses = [
        lambda network, n=n: network(batch[0][8 * n : 8 * n + 8], batch[1][8 * n : 8 * n + 8]).square().mean()
        for n in range(8)
    ]
    return score(criterion, network, structure.groups, batch, losses)["first"]


def test_each_criterion_finds_the_channel_that_is_worth_least_to_it() -> None:
    assert np.argmin(scores_of("magnitude")) == 1
    assert np.argmin(scores_of("activation")) == 1
    assert np.argmin(scores_of("taylor")) == 2
    assert np.argmin(scores_of("mi")) == 3


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_finite_and_repeat(criterion: str) -> None:
    found = scores_of(criterion)
    assert found.shape == (4,)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found == scores_of(criterion)).all()


class Rested(nn.Module):
    """A dense layer whose units become channels of eight moments, as a generator begins; and a norm on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(100, 32), nn.BatchNorm1d(4), nn.Conv1d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x).reshape(-1, 4, 8)))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_networks_with_norms_are_scored(criterion: str) -> None:
    torch.manual_seed(0)
    network, x = Rested().eval(), torch.randn(400, 100)
    groups = structure_of(network, (x,), ["second"]).groups
    found = score(criterion, network, groups, (x,), [lambda net: net(x).square().mean()])["first"]
    assert found.shape == (4,)
    assert np.isfinite(found).all()
    assert found.max() > 0


def test_a_repeated_input_is_no_further_sample() -> None:
    """What a note's units have in common with inputs that they do not depend on is nothing, however many moments."""
    torch.manual_seed(0)
    network = Rested().eval()
    nn.init.zeros_(network.first.weight)
    x = torch.randn(400, 100)
    network.first.register_forward_hook(
        lambda _, __, made: torch.randn(len(made), 4, 1).expand(-1, -1, 8).reshape(len(made), 32)
    )
    groups = structure_of(Rested().eval(), (x,), ["second"]).groups
    assert score("mi", network, groups, (x,), [])["first"].mean() < 0.03


class Enlarged(nn.Module):
    """Maps that are enlarged behind the layer that makes them; its first unit is what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, 0.0])[:, None, None, None])
            nn.init.zeros_(self.first.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        made = self.first(x) + noise * torch.tensor([0.0, 1.0])[:, None, None]
        return self.second(torch.nn.functional.interpolate(made, scale_factor=(2.0, 4.0)))


def test_moments_are_matched_on_both_sides_of_a_map() -> None:
    torch.manual_seed(0)
    batch = (torch.randn(64, 1, 6, 4), torch.randn(64, 1, 6, 4))
    network = Enlarged().eval()
    found = score("mi", network, structure_of(network, batch, ["second"]).groups, batch, [])["first"]
    assert found[0] == pytest.approx(-math.log(LEAST_OPEN) / 2, abs=0.01), "the very same value"
    assert found[1] < 0.01


@pytest.mark.parametrize("criterion", ["mi", "activation"])
def test_how_many_notes_are_looked_at_once_changes_nothing(
    criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = (torch.randn(50, 2, 32), torch.randn(50, 4, 32))
    groups = structure_of(Small(), batch, ["second"]).groups
    whole = score(criterion, Small(), groups, batch, [], seed=4)["first"]
    monkeypatch.setattr("compress.criteria.NOTES_AT_ONCE", 7)
    assert score(criterion, Small(), groups, batch, [], seed=4)["first"] == pytest.approx(whole)
    assert not np.allclose(score("random", Small(), groups, batch, [])["first"], whole)


@pytest.mark.parametrize("criterion", ["mi", "activation"])
def test_a_layer_whose_units_stand_still_is_named(criterion: str) -> None:
    network = Small()
    nn.init.constant_(network.first.bias, -1000.0)  # type: ignore[arg-type]
    batch = (torch.randn(64, 2, 32), torch.randn(64, 4, 32))
    groups = structure_of(network, batch, ["second"]).groups
    with pytest.raises(DarkrackError, match=r"first: expected units that move.*\n.*collapsed"):
        score(criterion, network, groups, batch, [])


def test_an_unknown_criterion_is_named() -> None:
    with pytest.raises(DarkrackError, match="one of mi, magnitude"):
        score("luck", Small(), structure_of(Small(), (torch.zeros(1, 2, 3), torch.zeros(1, 4, 3)), ["second"]).groups,
              (torch.zeros(1, 2, 3), torch.zeros(1, 4, 3)), [])  # fmt: skip
