"""The networks: shapes, what noise and conditions reach, and how far the critic sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training import write_recipe

from device.partials import Partials
from train import networks
from train.networks import Condition, ConditionEmbedding, Critic, Encoder, Generator, Widths
from train.recipe import CONCATENATED, FILM, GeneratorShape, Recipe, read_recipe
from train.stages import class_loss

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


@pytest.mark.parametrize("conditioning", [FILM, CONCATENATED])
@pytest.mark.parametrize("which", range(5), ids=["z", "attributes", "pitch", "velocity", "noise"])
def test_every_input_is_heard(recipe: Recipe, which: int, conditioning: str) -> None:
    shape = dataclasses.replace(recipe.generator, conditioning=conditioning)
    generator = awake(Generator(shape, recipe.grid, ATTRIBUTES, recipe.pitch_range_midi))
    inputs = [torch.randn(2, 4), *condition(2), torch.randn(2, 4, 32)]
    before = generator(*inputs)
    inputs[which] = inputs[which] + 0.3
    assert (generator(*inputs) - before).abs().max() > 1e-4


def test_a_baseline_is_told_and_names_no_attributes(recipe: Recipe) -> None:
    shape = dataclasses.replace(recipe.generator, attributes=False)
    sizes = (recipe.grid, ATTRIBUTES, recipe.pitch_range_midi)
    asked, z, noise = condition(2), torch.randn(2, 4), torch.randn(2, 4, 32)
    other = asked._replace(attributes=1 - asked.attributes)
    generator, encoder = awake(Generator(shape, *sizes)), Encoder(shape, *sizes)
    frames = generator(z, *asked, noise)
    assert torch.equal(frames, generator(z, *other, noise))
    assert torch.equal(encoder(frames, asked)[0], encoder(frames, other)[0])
    named = Critic(recipe.critic, recipe.grid, shape.told(ATTRIBUTES), recipe.pitch_range_midi)(frames, asked)
    pitch = torch.nn.functional.cross_entropy(
        named.pitch, asked.pitch[:, 0].long() - recipe.pitch_range_midi[0]
    )
    assert torch.equal(class_loss(named, asked, recipe.pitch_range_midi, 2.0), pitch)


def test_concatenated_conditions_enter_the_first_dense_layer_alone(recipe: Recipe) -> None:
    """No scale has a layer that reads them; with FiLM all have."""
    sizes = (recipe.grid, ATTRIBUTES, recipe.pitch_range_midi)
    shape = dataclasses.replace(recipe.generator, conditioning=CONCATENATED)
    told, once = Generator(recipe.generator, *sizes), Generator(shape, *sizes)
    film = {name for name, _ in told.named_parameters()} - {name for name, _ in once.named_parameters()}
    assert film == {f"scales.{n}.film.{kind}" for n in range(3) for kind in ("weight", "bias")}
    x, noise = torch.randn(1, 8, 1, 16), torch.randn(1, 4, 1, 32)
    for generator, deaf in ((awake(told), False), (awake(once), True)):
        made = [generator.scales[1](x, torch.randn(1, 16), noise) for _ in range(2)]
        assert torch.equal(*made) == deaf


def generator_of(
    channels: tuple[int, ...], frames: int, noise_scales: int, conditioning: str = FILM
) -> Generator:
    """One whose layers all have other widths than its recipe says, as a trimmed one has, drawn by a fixed seed."""
    torch.manual_seed(0)
    shape = GeneratorShape(4, (8,) * len(channels), 16, 2, noise_scales, conditioning=conditioning)
    widths = Widths(hidden=7, embedding=5, start=3, channels=channels)
    return awake(Generator(shape, Partials(rows=12, frames=frames), ATTRIBUTES, (48, 72), widths))


def worst_of_slices(generator: Generator, frames: int, length: int, begins: list[int]) -> float:
    """The largest difference between slices and the same frames of the whole."""
    z, noise, asked = torch.randn(2, 4), torch.randn(2, 4, frames), condition(2)
    with torch.no_grad():
        whole = generator(z, *asked, noise)
        made = [generator.slice(z, asked, noise, torch.full((1, 1), float(b)), length) for b in begins]
    assert {frames.shape for frames in made} == {(2, 2, 12, length)}
    pairs = zip(begins, made, strict=True)
    return max(float((frames - whole[..., b : b + length]).abs().max()) for b, frames in pairs)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_slice_is_those_frames_of_the_whole(data: st.DataObject) -> None:
    channels = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)))
    frames = data.draw(st.integers(1, 12)) << (len(channels) - 1)
    noise_scales = data.draw(st.integers(0, len(channels)))
    length = data.draw(st.integers(1, frames))
    begin = data.draw(st.integers(0, frames - length))
    generator = generator_of(channels, frames, noise_scales, data.draw(st.sampled_from([FILM, CONCATENATED])))
    ends = [0, begin, frames - length]
    assert worst_of_slices(generator, frames, length, ends) < 1e-5


def test_a_halo_too_small_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = generator_of((9, 7, 5, 3), 128, 2)
    assert worst_of_slices(generator, 128, 16, list(range(113))) < 1e-5
    monkeypatch.setattr(networks, "HALO", 1)
    assert worst_of_slices(generator, 128, 16, [50]) > 1e-3


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
