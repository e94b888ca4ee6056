"""Taking channels out: what goes together, what it costs, what remains; removed is the same as silenced."""

from __future__ import annotations

import copy
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training import RECIPE, write_recipe

from compress.prune import IN, Structure, choose, count_macs, structure_of, take
from device.errors import DarkrackError
from train.classifier import Network
from train.networks import Generator, PixelNorm
from train.recipe import CONCATENATED, FILM, read_recipe

ATTRIBUTES = 3
WIDER = RECIPE.replace("channels = [8, 8, 8]", "channels = [32, 24, 16]").replace(
    "embedding = 16", "embedding = 24"
)


@pytest.fixture(scope="module", params=[FILM, CONCATENATED])
def generator(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Generator:
    text = WIDER.replace("noise_scales = 2", f'noise_scales = 2\nconditioning = "{request.param}"')
    recipe, _ = read_recipe(write_recipe(tmp_path_factory.mktemp("recipe"), text))
    torch.manual_seed(0)
    made = Generator(recipe.generator, recipe.grid, ATTRIBUTES, recipe.pitch_range_midi)
    for parameter in made.parameters():  # zeros hide what is wired wrong
        nn.init.normal_(parameter, std=0.2)
    return made.eval()


def asked(notes: int = 1) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(1)
    return (
        torch.randn(notes, 4, generator=random),
        torch.rand(notes, ATTRIBUTES, generator=random),
        48 + 24 * torch.rand(notes, 1, generator=random),
        torch.rand(notes, 1, generator=random),
        torch.randn(notes, 4, 32, generator=random),
    )


def snr_db(wanted: Tensor, got: Tensor) -> float:
    return 10 * math.log10(float(wanted.square().sum() / ((wanted - got).square().sum() + 1e-30)))


def silenced(
    network: nn.Module, structure: Structure, channels: dict[str, np.ndarray], *inputs: Tensor
) -> Tensor:
    """What a network makes with these channels silent wherever they are read."""
    modules, hooks = dict(network.named_modules()), []
    for group in structure.groups:
        for part in group.side(IN):
            gone = torch.from_numpy(part.index[channels[group.name]].ravel())
            hooks.append(
                modules[part.layer].register_forward_pre_hook(
                    lambda _, given, gone=gone: (given[0].index_fill(1, gone, 0.0), *given[1:])
                )
            )
    with torch.no_grad():
        out: Tensor = network(*inputs)
    for hook in hooks:
        hook.remove()
    return out


def test_groups_of_the_generator_are_its_scales_and_its_condition(generator: Generator) -> None:
    structure = structure_of(generator, asked(), ["to_frames"])
    assert structure.widths() == {
        "condition.first": 24,
        "condition.second": 24,
        "start": 32,
        "scales.0.first": 32,
        "scales.1.first": 24,
        "scales.2.first": 16,
    }
    # FiLM makes a gain and an offset for each channel; the dense layer 8 frames of each.
    shapes = {
        (part.layer, part.side): part.index.shape[1] for group in structure.groups for part in group.parts
    }
    if generator.scales[1].film is None:
        assert not any("film" in layer for layer, _ in shapes)
    else:
        assert shapes["scales.1.film", "out"] == 2
    assert shapes["start", "out"] == 8
    assert shapes["scales.1.second", "in"] == shapes["scales.1.mix.1", "out"] == 1


def test_counted_macs_and_parameters_are_those_of_the_network(generator: Generator) -> None:
    structure = structure_of(generator, asked(), ["to_frames"])
    assert structure.cost(structure.widths()) == count_macs(generator, asked(3))
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    assert structure.cost(structure.widths(), "weights") == parameters
    by_hand = nn.Conv1d(3, 5, 7, padding=3)
    assert count_macs(by_hand, [torch.zeros(1, 3, 11)]) == 3 * 5 * 7 * 11


def some_channels(data: st.DataObject, structure: Structure) -> dict[str, npt.NDArray[np.int64]]:
    """Any channels of each group, but not all."""
    return {
        group.name: np.array(
            sorted(data.draw(st.sets(st.integers(0, group.channels - 1), max_size=group.channels - 1))),
            np.int64,
        )
        for group in structure.groups
    }


@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_removed_is_silenced(generator: Generator, data: st.DataObject) -> None:
    structure = structure_of(generator, asked(), ["to_frames"])
    channels = some_channels(data, structure)
    wanted = silenced(generator, structure, channels, *asked(2))
    trimmed = copy.deepcopy(generator)
    after = take(trimmed, asked(), structure, channels)
    with torch.no_grad():
        assert snr_db(wanted, trimmed(*asked(2))) > 80
    left = {name: width - len(channels[name]) for name, width in structure.widths().items()}
    assert after.widths() == left
    assert count_macs(trimmed, asked()) == structure.cost(left)
    assert trimmed.widths().channels == tuple(left[f"scales.{n}.first"] for n in range(3))


class Normed(nn.Module):
    """Pixel norm between two convolutions, as in the paper's networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = (
            nn.Conv2d(2, 24, 3, padding=1),
            PixelNorm(24),
            nn.Conv2d(24, 2, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(F.leaky_relu(self.first(x), 0.2)))


def test_removed_is_silenced_through_pixel_norm() -> None:
    torch.manual_seed(0)
    network, x = Normed(), torch.randn(2, 2, 8, 8)
    structure = structure_of(network, [x], ["second"])
    gone = {"first": np.arange(5, 21)}
    index = torch.arange(5, 21)
    with torch.no_grad():
        hidden = F.leaky_relu(network.first(x), 0.2).index_fill(1, index, 0.0)
        wanted = network.second(network.norm(hidden))
        take(network, [x], structure, gone)
        assert network.first.out_channels == network.second.in_channels == 8
        assert snr_db(wanted, network(x)) > 80
        # A mean over what is left would be another network.
        network.norm.channels = 8
        assert snr_db(wanted, network(x)) < 20


def test_the_judges_classifier_can_be_cut_with_its_flattened_maps_left_alone() -> None:
    torch.manual_seed(0)
    network = Network(36, 84).eval()
    pictures = (torch.rand(2, 288, 32), torch.rand(2, 64, 101))
    with pytest.raises(DarkrackError, match=r"convolutions\.3: expected all of its 96 outputs in one group"):
        structure_of(network, pictures, ["pitch", "family.4"])
    structure = structure_of(network, pictures, ["pitch", "family.4", "convolutions.3", "partials.2"])
    scores = {group.name: np.arange(1.0, group.channels + 1) for group in structure.groups}
    whole = structure.cost(structure.widths())
    before = {name: value.clone() for name, value in network.named_buffers()}
    after = take(network.train(), pictures, structure, choose(structure, scores, whole / 4))
    assert count_macs(network, pictures) <= whole / 4
    assert after.cost(after.widths(), "weights") == sum(
        parameter.numel() for parameter in network.parameters()
    )
    assert network.training
    # Counting is no training: the statistics of what is left are as they were.
    for name, value in network.named_buffers():
        assert set(value.flatten().tolist()) <= set(before[name].flatten().tolist()), name
    assert network(*pictures)[0].shape == (2, 49)


@settings(deadline=None, max_examples=30)
@given(share=st.floats(0.1, 1.0), per=st.sampled_from(["macs", "weights"]), seed=st.integers(0, 100))
def test_a_choice_fits_its_budget_in_whole_blocks_and_takes_the_lowest(
    generator: Generator, share: float, per: str, seed: int
) -> None:
    structure = structure_of(generator, asked(), ["to_frames"])
    random = np.random.default_rng(seed)
    scores = {group.name: random.uniform(0.1, 1, group.channels) for group in structure.groups}
    budget = share * structure.cost(structure.widths())
    smallest = structure.cost(dict.fromkeys(structure.widths(), 8))
    if budget < smallest:
        with pytest.raises(DarkrackError, match="as small as it gets"):
            choose(structure, scores, budget, per)
        return
    channels = choose(structure, scores, budget, per)
    left = {name: width - len(channels.get(name, ())) for name, width in structure.widths().items()}
    assert structure.cost(left) <= budget
    for name, width in left.items():
        assert width % 8 == 0
        assert width >= 8
        gone = channels.get(name, np.zeros(0, np.int64))
        kept = np.setdiff1d(np.arange(len(scores[name])), gone)
        if len(gone):
            assert scores[name][gone].max() <= scores[name][kept].min()


def test_where_the_floor_is_under_a_block_the_last_one_goes_channel_by_channel(generator: Generator) -> None:
    structure = structure_of(generator, asked(), ["to_frames"])
    scores = {name: np.arange(1.0, width + 1) for name, width in structure.widths().items()}
    smallest = structure.cost(dict.fromkeys(structure.widths(), 3))
    channels = choose(structure, scores, smallest, floor=3)
    assert {len(scores[name]) - len(gone) for name, gone in channels.items()} == {3}
    with pytest.raises(DarkrackError, match="fewer than 3 channels: --floor"):
        choose(structure, scores, smallest - 1, floor=3)
    budget = structure.cost(dict.fromkeys(structure.widths(), 8)) - 1
    channels = choose(structure, scores, budget, floor=3)
    left = {name: width - len(channels.get(name, ())) for name, width in structure.widths().items()}
    assert structure.cost(left) <= budget
    assert all(width % 8 == 0 or 3 <= width < 8 for width in left.values())
    assert len(set(left.values()) - {3, 8, 16}), "one at a time"


def test_scores_count_only_beside_those_of_their_group(generator: Generator) -> None:
    structure = structure_of(generator, asked(), ["to_frames"])
    random = np.random.default_rng(5)
    scores = {group.name: random.uniform(0.1, 1, group.channels) for group in structure.groups}
    louder = {name: value * (1000 if name == "start" else 1) for name, value in scores.items()}
    budget = structure.cost(structure.widths()) / 3
    one, other = choose(structure, scores, budget), choose(structure, louder, budget)
    assert {name: gone.tolist() for name, gone in one.items()} == {
        name: gone.tolist() for name, gone in other.items()
    }


@pytest.mark.parametrize("bad", [np.zeros(16), np.full(16, np.nan), np.ones(3), -np.ones(16)])
def test_a_layer_that_collapsed_is_named(generator: Generator, bad: np.ndarray) -> None:
    structure = structure_of(generator, asked(), ["to_frames"])
    scores = {group.name: np.ones(group.channels) for group in structure.groups}
    with pytest.raises(DarkrackError, match=r"scales\.2\.first.*\n.*the layer has collapsed"):
        choose(structure, {**scores, "scales.2.first": bad}, 1e9)


def test_outputs_of_the_network_must_be_named(generator: Generator) -> None:
    with pytest.raises(DarkrackError, match="name it as fixed"):
        structure_of(generator, asked(), ["scales.2.second"])
    with pytest.raises(DarkrackError, match="a convolution of one group, got 2 groups"):
        structure_of(nn.Conv1d(4, 4, 1, groups=2), [torch.zeros(1, 4, 3)], [])
