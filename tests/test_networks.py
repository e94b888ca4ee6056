"""The networks: shapes, what noise and conditions reach, and how far the critic sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training import write_recipe

from train.networks import Condition, ConditionEmbedding, Critic, Encoder, Generator
from train.recipe import Recipe, read_recipe

ATTRIBUTES = 3


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    torch.manual_seed(0)
    return read_recipe(write_recipe(tmp_path))[0]


def condition(count: int) -> Condition:
    return Condition(
        torch.rand(count, ATTRIBUTES), torch.linspace(48, 72, count)[:, None], torch.rand(count, 1)
    )


def awake(generator: Generator) -> Generator:
    """With every zero-initialised path open, as training leaves them."""
    for parameter in generator.parameters():
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return generator


def test_shapes(recipe: Recipe) -> None:
    sizes = (recipe.grid, ATTRIBUTES, recipe.pitch_range_midi)
    asked = condition(5)
    noise = torch.randn(5, 2 * recipe.generator.noise_channels, recipe.grid.frames)
    frames = Generator(recipe.generator, *sizes)(torch.randn(5, 4), *asked, noise)
    assert frames.shape == (5, 2, 12, 32)
    mean, log_variance = Encoder(recipe.generator, *sizes)(frames, asked)
    assert mean.shape == log_variance.shape == (5, 4)
    verdict = Critic(recipe.critic, *sizes)(frames, asked)
    assert verdict.score.shape == (5, 8)
    assert verdict.pitch.shape == (5, 25)
    assert verdict.attributes.shape == (5, ATTRIBUTES)


@pytest.mark.parametrize("which", range(5), ids=["z", "attributes", "pitch", "velocity", "noise"])
def test_every_input_is_heard(recipe: Recipe, which: int) -> None:
    generator = awake(Generator(recipe.generator, recipe.grid, ATTRIBUTES, recipe.pitch_range_midi))
    inputs = [torch.randn(2, 4), *condition(2), torch.randn(2, 4, 32)]
    before = generator(*inputs)
    inputs[which] = inputs[which] + 0.3
    assert (generator(*inputs) - before).abs().max() > 1e-4


def test_pitch_is_continuous() -> None:
    embedding = ConditionEmbedding(ATTRIBUTES, 0, (48, 72), 16)
    asked = Condition(torch.zeros(97, ATTRIBUTES), torch.linspace(48, 72, 97)[:, None], torch.zeros(97, 1))
    steps = embedding(asked).diff(dim=0).norm(dim=1)
    assert steps.min() > 0
    assert steps.max() < 6 * steps.mean()  # a quarter tone never jumps


def test_the_critic_sees_its_receptive_field_and_no_more(recipe: Recipe) -> None:
    grid = recipe.grid.__class__(rows=12, frames=128)
    critic = Critic(recipe.critic, grid, ATTRIBUTES, recipe.pitch_range_midi)
    frames = torch.rand(1, 2, 12, 128, requires_grad=True)
    critic(frames, condition(1)).score[0, 16].backward()
    assert frames.grad is not None
    seen = frames.grad.abs().sum((0, 1, 2)).nonzero()
    assert seen.max() - seen.min() + 1 == Critic.RECEPTIVE_FRAMES
