"""DarkGAN's networks: every size the reference states, every layer, growth, and what export makes of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.prune import count_macs
from train.darkgan import (
    Block,
    Discriminator,
    EqualisedConv,
    EqualisedLinear,
    Generator,
    reduced,
    with_deviation,
)
from train.recipe import FILM, GrowingRecipe, GrowingShape, read_recipe

RECIPES = Path(__file__).parent.parent / "recipes"
PITCHES = (44, 69)
ATTRIBUTES = 128
SCALES = ((4, 2), (8, 4), (16, 4))
SMALL = GrowingShape(latent=5, scales=SCALES, channels=(8, 6, 4), attributes=True)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def published() -> GrowingShape:
    recipe, _ = read_recipe(RECIPES / "darkgan.toml")
    assert isinstance(recipe, GrowingRecipe)
    return recipe.generator


def asked(count: int, attributes: int = 3) -> tuple[torch.Tensor, ...]:
    pitch = torch.arange(44.0, 44 + count)[:, None]
    return torch.randn(count, 5), torch.rand(count, attributes), pitch


def awake(network: nn.Module) -> None:
    """Biases as training leaves them, not zero."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "bias" in name:
                parameter.normal_()


def test_every_layer_of_the_published_generator() -> None:
    shape = published()
    assert shape.scales == ((32, 4), (64, 8), (128, 16), (256, 32), (512, 32), (1024, 32))
    assert shape.channels == (256, 128, 128, 128, 128, 64)
    generator = Generator(shape, ATTRIBUTES, PITCHES)
    assert isinstance(generator.first, EqualisedLinear)  # dense, not a convolution over padding
    assert generator.first.weight.shape == (256 * 32 * 4, 32 + 128 + 26)
    wide = {
        n: (block.first.weight.shape, block.second.weight.shape) for n, block in enumerate(generator.blocks)
    }  # type: ignore[union-attr]
    assert wide == {
        0: ((256, 256, 3, 3), (256, 256, 3, 3)),
        1: ((128, 256, 3, 3), (128, 128, 3, 3)),
        2: ((128, 128, 3, 3), (128, 128, 3, 3)),
        3: ((128, 128, 3, 3), (128, 128, 3, 3)),
        4: ((128, 128, 3, 3), (128, 128, 3, 3)),
        5: ((64, 128, 3, 3), (64, 64, 3, 3)),
    }
    assert [layer.weight.shape for layer in generator.to_planes] == [
        (2, width, 1, 1) for width in shape.channels
    ]


def test_parameters_and_macs_are_the_reference() -> None:
    """8.71 M and 11.86 GMAC; 70 % and .05 % in the first layer, 8 % and 92 % in the last three scales."""
    generator = Generator(published(), ATTRIBUTES, PITCHES).finished(torch.zeros(2), torch.ones(2))
    dense = 186 * 256 * 128
    pairs = [(256, 256), (256, 128), (128, 128), (128, 128), (128, 128), (128, 64)]
    areas = [32 * 4, 64 * 8, 128 * 16, 256 * 32, 512 * 32, 1024 * 32]
    weights = [9 * (before * after + after * after) for before, after in pairs]
    biases = [2 * after for _, after in pairs]
    parameters = dense + 256 + sum(weights) + sum(biases) + 64 * 2 + 2
    assert sum(one.numel() for one in generator.parameters()) == parameters == 8_714_242
    macs = [weight * area for weight, area in zip(weights, areas, strict=True)]
    total = dense + sum(macs) + 64 * 2 * 1024 * 32
    example = (torch.zeros(1, 32), torch.zeros(1, 128), torch.full((1, 1), 60.0))
    assert count_macs(generator, example) == total
    assert total / 1e9 == pytest.approx(11.86, abs=0.005)
    assert dense / parameters == pytest.approx(0.70, abs=0.005)
    assert dense / total == pytest.approx(0.0005, abs=5e-5)
    assert sum(weights[3:]) / parameters == pytest.approx(0.08, abs=0.005)
    assert sum(macs[3:]) / total == pytest.approx(0.92, abs=0.005)
    # The released code's padded convolution does the dense layer once for every place of its 32 x 4 output.
    assert dense * 128 / 1e9 == pytest.approx(0.78, abs=0.005)
    with torch.no_grad():
        assert generator(*example).shape == (1, 2, 1024, 32)


def test_a_padded_convolution_is_that_dense_layer() -> None:
    """A column in the middle of a zero map, through a kernel as large as the map: each place picks its own weights."""
    column, kernel = torch.randn(1, 6), torch.randn(5, 6, 4, 2)
    padded = F.pad(column[:, :, None, None], (1, 1, 3, 3))
    convolved = F.conv2d(padded, kernel)
    dense = kernel.flip(2, 3).permute(0, 2, 3, 1).reshape(5 * 8, 6)
    assert torch.allclose(convolved.flatten(1), column @ dense.T, atol=1e-5)


def test_the_published_discriminator_mirrors_it() -> None:
    critic = Discriminator(published(), ATTRIBUTES, PITCHES)
    widths = [tuple(layer.weight.shape[:2] for layer in block) for block in critic.blocks]  # type: ignore[union-attr]
    assert widths == [
        ((128, 128), (256, 128)),
        ((128, 128), (128, 128)),
        ((128, 128), (128, 128)),
        ((128, 128), (128, 128)),
        ((64, 64), (128, 64)),
    ]
    assert critic.last.weight.shape == (256, 257, 3, 3)  # one map more: the minibatch's deviation
    assert critic.dense.weight.shape == (256, 256 * 32 * 4)
    assert critic.out.weight.shape == (128 + 26 + 1, 256)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_shapes_of_every_scale(scale: int) -> None:
    generator, critic = Generator(SMALL, 3, PITCHES), Discriminator(SMALL, 3, PITCHES)
    for network in (generator, critic):
        network.scale, network.fade = scale, 0.5 if scale else 1.0
    planes = generator(*asked(8))
    assert planes.shape == (8, 2, *SCALES[scale])
    verdict = critic(planes)
    assert (verdict.score.shape, verdict.pitch.shape, verdict.attributes.shape) == ((8, 1), (8, 26), (8, 3))


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_film_tells_every_scale_and_only_z_enters_below(scale: int) -> None:
    shape = dataclasses.replace(SMALL, conditioning=FILM)
    generator = Generator(shape, 3, PITCHES)
    assert generator.norm.channels == generator.first.in_features == 5
    generator.scale = scale
    z, attributes, pitch = asked(4)
    with torch.no_grad():
        before = generator(z, attributes, pitch)
        assert torch.equal(before, generator(z, 1 - attributes, pitch + 1)), "as if it were not there"
        for layer in generator.film[scale]:  # type: ignore[union-attr]
            layer.weight.normal_()
        made = generator(z, attributes, pitch)
        assert not torch.allclose(made, before)
        assert not torch.allclose(made, generator(z, 1 - attributes, pitch))
        assert not torch.allclose(made, generator(z, attributes, pitch + 1))
        awake(generator)
        folded = generator.finished(torch.zeros(2), torch.ones(2))
        enlarged = F.interpolate(generator(z, attributes, pitch), size=SCALES[-1], mode="nearest")
        assert torch.equal(folded(z, attributes, pitch), enlarged)


def test_film_by_hand() -> None:
    """(x * (1 + gain) + offset) behind each convolution, before the leaky ReLU."""
    block = Block(2, (3, 3), 3, 0.2)
    x, film = torch.randn(1, 2, 4, 4), torch.randn(1, 12)
    g1, o1, g2, o2 = film.reshape(4, 3, 1, 1)

    def normed(y: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(y, 0.2)
        return y / (y.square().mean(1, keepdim=True) + 1e-6).sqrt()

    y = normed(block.first(x) * (1 + g1) + o1)
    y = normed(block.second(y) * (1 + g2) + o2)
    assert torch.allclose(block(x, film.chunk(2, dim=1)), y, atol=1e-5)


def test_a_baseline_hears_and_names_no_attributes() -> None:
    shape = GrowingShape(5, SCALES, (8, 6, 4), attributes=False)
    generator, critic = Generator(shape, 3, PITCHES), Discriminator(shape, 3, PITCHES)
    z, attributes, pitch = asked(4)
    assert torch.equal(generator(z, attributes, pitch), generator(z, 1 - attributes, pitch))
    assert not torch.equal(generator(z, attributes, pitch), generator(z, attributes, pitch + 1))
    assert critic(generator(z, attributes, pitch)).attributes.shape == (4, 0)


@pytest.mark.parametrize("which", range(3), ids=["z", "attributes", "pitch"])
def test_every_input_is_heard(which: int) -> None:
    generator = Generator(SMALL, 3, PITCHES)
    inputs = list(asked(2))
    before = generator(*inputs)
    inputs[which] = inputs[which] + 1
    assert (generator(*inputs) - before).abs().max() > 1e-4


def test_the_whole_input_is_pixel_normalised() -> None:
    """[z, alpha, pitch] as one vector: raising an attribute lowers the rest, and its length is that of ones."""
    generator = Generator(SMALL, 3, PITCHES)
    seen: list[torch.Tensor] = []
    generator.first.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    z, attributes, pitch = asked(1)
    generator(z, attributes, pitch)
    plain = torch.cat([z, attributes, F.one_hot(pitch[:, 0].long() - 44, 26).float()], dim=1)
    wanted = plain / plain.square().mean(1, keepdim=True).sqrt()
    assert torch.allclose(seen[0], wanted, atol=1e-5)
    generator(z, attributes + torch.tensor([[5.0, 0.0, 0.0]]), pitch)
    assert (seen[1][0, :5].abs() < seen[0][0, :5].abs()).all()


def test_a_fade_begins_with_the_scale_before_and_ends_with_this_one() -> None:
    generator, critic = Generator(SMALL, 3, PITCHES), Discriminator(SMALL, 3, PITCHES)
    awake(generator)
    awake(critic)
    inputs = asked(4)
    with torch.no_grad():
        for network in (generator, critic):
            network.scale, network.fade = 1, 1.0
        coarse = F.interpolate(generator(*inputs), size=SCALES[2], mode="nearest")
        judged = critic(reduced(coarse, SCALES[1]))
        for network in (generator, critic):
            network.scale, network.fade = 2, 1e-7
        assert torch.allclose(generator(*inputs), coarse, atol=1e-4)
        for one, other in zip(critic(coarse), judged, strict=True):
            assert torch.allclose(one, other, atol=1e-4)
        for network in (generator, critic):
            network.fade = 1.0
        whole = generator(*inputs)
        verdict = critic(whole)
        for network in (generator, critic):
            network.fade = 1 - 1e-7
        assert torch.allclose(generator(*inputs), whole, atol=1e-4)
        for one, other in zip(critic(whole), verdict, strict=True):
            assert torch.allclose(one, other, atol=1e-4)
        generator.fade = 0.5
        assert torch.allclose(generator(*inputs), (coarse + whole) / 2, atol=1e-5)


def test_the_equalised_learning_rate_by_hand() -> None:
    layer, dense = EqualisedConv(3, 4, 3), EqualisedLinear(7, 2)
    assert layer.gain == math.sqrt(2 / 27)
    assert dense.gain == math.sqrt(2 / 7)
    x = torch.randn(1, 3, 5, 5)
    assert torch.allclose(layer(x), math.sqrt(2 / 27) * F.conv2d(x, layer.weight, padding=1), atol=1e-6)
    # Drawn from N(0, 1), so that unit input gives unit output after He's constant.
    many = EqualisedConv(64, 64, 3).weight
    assert (many.mean().abs().item(), many.std().item()) == (
        pytest.approx(0, abs=0.02),
        pytest.approx(1, abs=0.02),
    )


@pytest.mark.parametrize(("scale", "fade"), [(2, 1.0), (2, 0.3), (1, 1.0), (0, 1.0)])
def test_what_plays_is_what_was_trained(scale: int, fade: float) -> None:
    """Gains are in plain weights, exactly; the planes' units in the last layer; an unfinished one is enlarged."""
    generator = Generator(SMALL, 3, PITCHES)
    awake(generator)
    generator.scale, generator.fade = scale, fade
    inputs = asked(4)
    with torch.no_grad():
        trained = generator(*inputs)
        folded = generator.finished(torch.zeros(2), torch.ones(2))
        size = (trained.shape[2], trained.shape[3])
        enlarged = F.interpolate(trained, size=SCALES[-1], mode="nearest")
        assert torch.equal(folded(*inputs), enlarged)
        mean, spread = torch.tensor([-8.0, 0.1]), torch.tensor([5.0, 1.5])
        made = generator.finished(mean, spread)(*inputs)
    assert size == SCALES[scale]
    assert torch.allclose(made, enlarged * spread[:, None, None] + mean[:, None, None], atol=1e-5)
    kinds = {type(module) for module in folded.modules()}
    assert not kinds & {EqualisedConv, EqualisedLinear}
    assert isinstance(generator.first, EqualisedLinear), "the trained one stays as it was"


def test_minibatch_deviation_by_hand() -> None:
    """Eight notes are two groups: 0, 2, 4, 6 and 1, 3, 5, 7."""
    x = torch.zeros(8, 1, 1, 2)
    x[2, 0, 0, 0], x[4, 0, 0, 0] = 4.0, 4.0  # 0 4 4 0: deviation 2 in one of two places
    added = with_deviation(x)[:, 1, 0, 0]
    assert added[::2].tolist() == pytest.approx([1.0] * 4, abs=1e-3)
    assert added[1::2].tolist() == pytest.approx([0.0] * 4, abs=1e-3)
    # Six do not come in fours: one group, of which two notes are 4; deviation sqrt(32 / 6 - (8 / 6)^2), halved.
    added = with_deviation(x[:6])[:, 1, 0, 0]
    assert added.tolist() == pytest.approx([math.sqrt(32 / 6 - (8 / 6) ** 2) / 2] * 6, abs=1e-3)
