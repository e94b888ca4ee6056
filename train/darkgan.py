"""DarkGAN's networks on the `stft` grid: a generator and a discriminator that grow together, scale by scale.

Source: Nistal, Lattner and Richard, "DarkGAN", ISMIR 2021, and where it says less than one needs the authors' released
code: one more convolution in the first block, slopes of the leaky ReLU, 155 outputs, groups of the minibatch standard
deviation. The first layer is dense, as what it computes is: the code pads the input vector with zeros to a map and
convolves it with a kernel as large as the map, 130 times the multiply-accumulates for the same numbers. Progressive
growing, the equalised learning rate and pixel norm: Karras et al. 2018.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.networks import Condition, PixelNorm, Verdict, nn_bias
from train.ranks import ALONE, Ranks
from train.recipe import FILM, GrowingShape

FIRST_SLOPE, SLOPE = (
    0.2,
    0.02,
)  # of the generator's leaky ReLU: in its first block, in the others (released code)
CRITIC_SLOPE = 0.2  # of the discriminator's
GROUP = 4  # notes over which the discriminator sees the standard deviation
DEVIATION_EPSILON = 1e-8
PLANES = 2  # log magnitude and instantaneous frequency


@dataclass(frozen=True)
class Widths:
    """Feature maps of a generator's layers: what trimming changes and a recipe does not say.

    ``first``: those of the dense layer; ``channels``: of each scale those of its two convolutions.
    """

    first: int
    channels: tuple[tuple[int, int], ...]

    @staticmethod
    def of(shape: GrowingShape) -> Widths:
        """Those that a recipe asks for."""
        return Widths(shape.channels[0], tuple((width, width) for width in shape.channels))


class EqualisedConv(nn.Conv2d):
    """A convolution that keeps the size, whose weights are N(0, 1) and scaled by sqrt(2 / fan in) when they are used.

    So Adam's steps are as large beside every layer's weights (Karras et al. 2018, section 4.1).
    """

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__(inputs, outputs, width, padding=width // 2)
        self.gain = math.sqrt(2 / (inputs * width * width))
        nn.init.normal_(self.weight)
        nn.init.zeros_(nn_bias(self))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=self.padding)

    def plain(self) -> nn.Conv2d:
        """The same numbers from a layer of torch's own: the gain is in its weights."""
        inputs, outputs, width = self.in_channels, self.out_channels, self.kernel_size[0]
        layer = nn.Conv2d(inputs, outputs, width, padding=width // 2)
        layer.weight = nn.Parameter((self.weight * self.gain).detach())
        layer.bias = nn.Parameter(nn_bias(self).detach().clone())
        return layer


class EqualisedLinear(nn.Linear):
    """The same of a dense layer."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.gain = math.sqrt(2 / inputs)
        nn.init.normal_(self.weight)
        if bias:
            nn.init.zeros_(nn_bias(self))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        return F.linear(x, self.weight * self.gain, self.bias)

    def plain(self) -> nn.Linear:
        """The same numbers from a layer of torch's own."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        layer.weight = nn.Parameter((self.weight * self.gain).detach())
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer


class Block(nn.Module):
    """Two 3 x 3 convolutions, leaky ReLU and pixel norm after each; with FiLM between where there is any.

    ``widths``: maps of the two; ``normed``: those that the norms take the mean over, see `PixelNorm`.
    """

    def __init__(self, inputs: int, widths: tuple[int, int], normed: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.first = EqualisedConv(inputs, widths[0], 3)
        self.second = EqualisedConv(widths[0], widths[1], 3)
        self.norm = PixelNorm(normed)

    def forward(self, x: Tensor, film: Sequence[Tensor] = ()) -> Tensor:
        """(B, inputs, H, W) to (B, widths[1], H, W).

        ``film``: for each convolution (B, 2 * its maps), gains less 1 and offsets.
        """
        for n, layer in enumerate((self.first, self.second)):
            x = layer(x)
            if film:
                gain, offset = film[n][:, :, None, None].chunk(2, dim=1)
                x = x * (1 + gain) + offset
            x = self.norm(F.leaky_relu(x, self.slope))
        return x


class Generator(nn.Module):
    """z, attributes and pitch to the planes of a note, as far as it has grown.

    z (B, latent), attributes (B, A) soft labels, pitch (B, 1) MIDI, a whole number, which becomes one of the range's
    classes. All of them together are pixel-normalised, so one attribute raised lowers the rest; with FiLM z and the
    rest are so apart. Returns (B, 2, bins,
    frames) of ``scale``, which is blended with the scale before while ``fade`` is under 1; both are set from outside.
    ``widths``: of a trimmed one (default: the recipe's); its norms take their means over as many maps as the recipe's.
    """

    anchors: Tensor

    def __init__(
        self,
        shape: GrowingShape,
        attributes: int,
        pitch_range_midi: tuple[int, int],
        widths: Widths | None = None,
    ) -> None:
        super().__init__()
        widths = Widths.of(shape) if widths is None else widths
        low, high = pitch_range_midi
        self.register_buffer("anchors", torch.arange(low, high + 1.0)[None])
        self.sizes = shape.scales
        self.told = shape.told(attributes)
        self.scale, self.fade = len(shape.scales) - 1, 1.0
        condition, first = self.told + high - low + 1, widths.first
        inputs = shape.latent
        if shape.conditioning == FILM:
            self.condition_norm = PixelNorm(condition)
        else:
            inputs += condition
        self.norm = PixelNorm(inputs)
        self.first = EqualisedLinear(inputs, first * math.prod(shape.scales[0]), bias=False)
        self.first_bias = nn.Parameter(torch.zeros(1, first, 1, 1))  # one a feature map, as a convolution has
        self.first_norm = PixelNorm(shape.channels[0])
        made = [last for _, last in widths.channels]
        self.blocks = nn.ModuleList(
            Block(before, pair, normed, SLOPE if n else FIRST_SLOPE)
            for n, (before, pair, normed) in enumerate(
                zip((first, *made[:-1]), widths.channels, shape.channels, strict=True)
            )
        )
        self.film = nn.ModuleList()
        if shape.conditioning == FILM:
            self.film = nn.ModuleList(
                nn.ModuleList(EqualisedLinear(condition, 2 * width) for width in pair)
                for pair in widths.channels
            )
            for parameter in self.film.parameters():
                nn.init.zeros_(parameter)  # it begins as if it were not there
        self.to_planes = nn.ModuleList(EqualisedConv(width, PLANES, 1) for width in made)

    def widths(self) -> Widths:
        """As its layers are."""
        pairs = ((b.first.out_channels, b.second.out_channels) for b in self.blocks if isinstance(b, Block))
        return Widths(self.first_bias.shape[1], tuple(pairs))

    def forward(self, z: Tensor, attributes: Tensor, pitch: Tensor) -> Tensor:
        """See the class."""
        classes = pitch_classes(pitch, self.anchors)
        told = torch.cat([attributes, classes], dim=1) if self.told else classes
        asked = z if self.film else torch.cat([z, told], dim=1)
        if self.film:
            told = self.condition_norm(told)
        x = self.first(self.norm(asked)).reshape(len(z), -1, *self.sizes[0]) + self.first_bias
        before = x = self.first_norm(F.leaky_relu(x, FIRST_SLOPE))
        for n in range(self.scale + 1):
            if n:
                before = x
                x = self._enlarged(x, n)
            x = self.blocks[n](x, self._gains(n, told) if self.film else ())
        planes: Tensor = self.to_planes[self.scale](x)
        if self.fade < 1:
            coarse = self._enlarged(self.to_planes[self.scale - 1](before), self.scale)
            planes = torch.lerp(coarse, planes, self.fade)
        for n in range(self.scale + 1, len(self.sizes)) if self.whole else ():
            planes = self._enlarged(planes, n)
        return planes

    def _gains(self, scale: int, told: Tensor) -> list[Tensor]:
        """What FiLM makes of the condition for each convolution of a scale."""
        pair = self.film[scale]
        assert isinstance(pair, nn.ModuleList)
        return [layer(told) for layer in pair]

    whole = False  # whether what has not grown yet is made up for, by repeating what there is

    def _enlarged(self, x: Tensor, scale: int) -> Tensor:
        """From the scale before to this one."""
        ratio = [float(a // b) for a, b in zip(self.sizes[scale], self.sizes[scale - 1], strict=True)]
        return F.interpolate(x, scale_factor=ratio, mode="nearest")

    @torch.no_grad()
    def finished(self, mean: Tensor, spread: Tensor) -> Generator:
        """A copy that plays: of the grid's size, in its units, of torch's own layers, without what it does not need.

        ``mean`` and ``spread`` (2,) are those that its training took out of the planes.
        """
        made = copy.deepcopy(self).eval().requires_grad_(False)
        made.whole = True
        for module in list(made.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, EqualisedConv | EqualisedLinear):
                    setattr(module, name, child.plain().requires_grad_(False))
        made.blocks, made.film = made.blocks[: self.scale + 1], made.film[: self.scale + 1]
        for n, layer in enumerate(made.to_planes):
            assert isinstance(layer, nn.Conv2d)
            layer.weight.mul_(spread[:, None, None, None])
            nn_bias(layer).mul_(spread).add_(mean)
            if n != self.scale and (n != self.scale - 1 or self.fade >= 1):
                made.to_planes[n] = nn.Identity()
        return made


class Mirror(nn.Module):
    """The generator's mirror image down to its coarsest maps: what reads planes.

    ``scale`` and ``fade`` as there.
    """

    def __init__(self, shape: GrowingShape) -> None:
        super().__init__()
        self.sizes = shape.scales
        self.scale, self.fade = len(shape.scales) - 1, 1.0
        self.from_planes = nn.ModuleList(EqualisedConv(PLANES, width, 1) for width in shape.channels)
        self.blocks = nn.ModuleList(
            nn.ModuleList([EqualisedConv(width, width, 3), EqualisedConv(width, narrower, 3)])
            for width, narrower in zip(shape.channels[1:], shape.channels[:-1], strict=True)
        )

    def coarsest(self, planes: Tensor) -> Tensor:
        """Planes (B, 2, bins, frames) of that scale to the maps of the first (B, channels[0], *scales[0])."""
        x = self._read(planes, self.scale)
        for n in range(self.scale, 0, -1):
            pair = self.blocks[n - 1]
            assert isinstance(pair, nn.ModuleList)
            for layer in pair:
                x = F.leaky_relu(layer(x), CRITIC_SLOPE)
            x = reduced(x, self.sizes[n - 1])
            if n == self.scale and self.fade < 1:
                x = torch.lerp(self._read(reduced(planes, self.sizes[n - 1]), n - 1), x, self.fade)
        return x

    def _read(self, planes: Tensor, scale: int) -> Tensor:
        return F.leaky_relu(self.from_planes[scale](planes), CRITIC_SLOPE)


class Discriminator(Mirror):
    """How real a note is, which pitch and which attributes it has.

    `Verdict` of planes (B, 2, bins, frames) of its scale: score (B, 1). ``ranks``: who have the rest of the batch.
    """

    ranks: Ranks = ALONE

    def __init__(self, shape: GrowingShape, attributes: int, pitch_range_midi: tuple[int, int]) -> None:
        super().__init__(shape)
        self.pitches = pitch_range_midi[1] - pitch_range_midi[0] + 1
        self.named = shape.told(attributes)
        first = shape.channels[0]
        self.last = EqualisedConv(first + 1, first, 3)
        self.dense = EqualisedLinear(first * math.prod(shape.scales[0]), first)
        self.out = EqualisedLinear(first, self.named + self.pitches + 1)

    def forward(self, planes: Tensor) -> Verdict:
        """See the class."""
        x = F.leaky_relu(self.last(with_deviation(self.coarsest(planes), self.ranks)), CRITIC_SLOPE)
        x = self.out(F.leaky_relu(self.dense(x.flatten(1)), CRITIC_SLOPE))
        attributes, pitch, score = x.split([self.named, self.pitches, 1], dim=1)
        return Verdict(score, pitch, attributes)


class Encoder(Mirror):
    """Planes (B, 2, bins, frames) of a note and its condition to mean and log variance of z, each (B, latent).

    It is told what the generator is told, so z need only hold what that leaves open, velocity too.
    """

    anchors: Tensor

    def __init__(self, shape: GrowingShape, attributes: int, pitch_range_midi: tuple[int, int]) -> None:
        super().__init__(shape)
        low, high = pitch_range_midi
        self.register_buffer("anchors", torch.arange(low, high + 1.0)[None])
        self.told = shape.told(attributes)
        first, condition = shape.channels[0], self.told + high - low + 1
        self.last = EqualisedConv(first, first, 3)
        self.dense = EqualisedLinear(first * math.prod(shape.scales[0]) + condition, 2 * first)
        self.out = nn.Linear(2 * first, 2 * shape.latent)
        nn.init.normal_(self.out.weight, std=0.01)

    def forward(self, planes: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """See the class."""
        x = F.leaky_relu(self.last(self.coarsest(planes)), CRITIC_SLOPE).flatten(1)
        told = [condition.attributes] if self.told else []
        x = torch.cat([x, *told, pitch_classes(condition.pitch, self.anchors)], dim=1)
        mean, log_variance = self.out(F.leaky_relu(self.dense(x), CRITIC_SLOPE)).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)

    @torch.no_grad()
    def finished(self, mean: Tensor, spread: Tensor) -> Encoder:
        """A copy that reads planes in the grid's units; as `Generator.finished`."""
        made = copy.deepcopy(self).eval().requires_grad_(False)
        for layer in made.from_planes:
            assert isinstance(layer, EqualisedConv)
            layer.weight.div_(spread[:, None, None])
            nn_bias(layer).sub_((layer.weight * layer.gain * mean[:, None, None]).sum((1, 2, 3)))
        return made


def pitch_classes(pitch: Tensor, anchors: Tensor) -> Tensor:
    """MIDI (B, 1), a whole number, as one of the classes ``anchors`` (1, P)."""
    return F.relu(1 - (pitch - anchors).abs())


def reduced(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean of every cell of a coarser grid: (B, C, H, W) to (B, C, *size)."""
    return F.avg_pool2d(x, (x.shape[2] // size[0], x.shape[3] // size[1]))


def with_deviation(x: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """(B, C, H, W) with one map more: how far the notes of a group differ, on average over the map.

    Groups of GROUP notes, n and n + B / GROUP and so on (Karras et al. 2018); all notes are one group where they do not
    come in fours, as in the released code. The groups are those of the whole batch, whoever else has a part of it.
    """
    whole = ranks.whole(x.float())
    count = len(whole)
    group = GROUP if count % GROUP == 0 else count
    apart = whole.reshape(group, -1, *x.shape[1:])
    deviation = (apart.var(dim=0, unbiased=False) + DEVIATION_EPSILON).sqrt().mean((1, 2, 3))
    added = ranks.own(deviation.repeat(group))[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, added.to(x.dtype)], dim=1)
