"""The networks on the partials grid: generator, encoder and critic, rows as channels, frames as width.

Every convolution is a Conv2d of height 1, because LiteRT runs those without the transposes and gathers that
1-D convolutions are converted to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from device.partials import Partials
from train.recipe import FILM, CriticShape, GeneratorShape

SLOPE = 0.2  # of the leaky ReLU
HALO = 2  # columns that a scale reads on either side of what it makes: two convolutions of three taps
PITCH_STEP = (
    4.0  # semitones between the anchors of the pitch input: a third of an octave, the width of a formant
)


@dataclass(frozen=True)
class Widths:
    """Channels of a generator's layers: what trimming changes and a recipe does not say.

    ``hidden`` and ``embedding``: the two dense layers of the condition; ``start``: what the first scale reads;
    ``channels``: of each scale.
    """

    hidden: int
    embedding: int
    start: int
    channels: tuple[int, ...]

    @staticmethod
    def of(shape: GeneratorShape) -> Widths:
        """Those that a recipe asks for."""
        return Widths(shape.embedding, shape.embedding, shape.channels[0], shape.channels)


class PixelNorm(nn.Module):
    """Every position of (B, C, ...) divided by its root mean square over channels (Karras et al. 2018).

    ``channels``: what the mean is over, those that there were when it was trained. It stays when channels are taken
    out, so that a network without them is the network with them silent. A mean over the rest would be another network.
    """

    EPSILON = 1e-6  # torch's ONNX exporter loses 1e-8

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * torch.rsqrt(x.square().sum(1, keepdim=True) / self.channels + self.EPSILON)


class Condition(NamedTuple):
    """What a note is asked to be: attributes (B, A) soft labels, pitch (B, 1) MIDI, velocity (B, 1) in 0..1."""

    attributes: Tensor
    pitch: Tensor
    velocity: Tensor


def convolution(inputs: int, outputs: int, width: int, stride: int = 1) -> nn.Conv2d:
    """A height-1 convolution along time that keeps the length (divided by ``stride``), He initialised.

    He et al. 2015: with PyTorch's default the signal shrinks by half per layer and the critic starts blind.
    """
    layer = nn.Conv2d(inputs, outputs, (1, width), (1, stride), (0, (width - 1) // 2))
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    nn.init.zeros_(nn_bias(layer))
    return layer


def as_features(frames: Tensor) -> Tensor:
    """(B, 2, rows, frames) to (B, 2 * rows, 1, frames) of about unit variance: rows become channels.

    Levels of sounding rows lie around 0.4 with a spread of 0.25, deviations around 0 with 0.5.
    """
    return torch.cat([(frames[:, 0] - 0.4) * 4, frames[:, 1] * 2], dim=1)[:, :, None, :]


def nn_bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """The bias of a layer that has one."""
    assert layer.bias is not None
    return layer.bias


class ConditionEmbedding(nn.Module):
    """Condition to one vector: standardised soft labels, pitch on hat functions, velocity, and z where given.

    The hats (linear interpolation between anchors every PITCH_STEP semitones) make pitch a continuous input:
    a note between two trained ones gets the blend of both. ``attributes`` may be 0 of those that a condition has.
    """

    attribute_mean: Tensor
    attribute_scale: Tensor
    anchors: Tensor

    def __init__(
        self,
        attributes: int,
        extra: int,
        pitch_range_midi: tuple[int, int],
        width: int,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        hidden = width if hidden is None else hidden
        low, high = pitch_range_midi
        self.register_buffer("anchors", torch.arange(low, high + PITCH_STEP, PITCH_STEP)[None])
        self.register_buffer("attribute_mean", torch.zeros(1, attributes))
        self.register_buffer("attribute_scale", torch.ones(1, attributes))
        inputs = extra + attributes + self.anchors.shape[1] + 1
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, width)

    def told(self, attributes: Tensor) -> Tensor:
        """What it is told of the attributes (B, A): all of them, or of a baseline none, (B, 0)."""
        return attributes if self.attribute_mean.shape[1] else attributes[:, :0]

    def forward(self, condition: Condition, extra: Tensor | None = None) -> Tensor:
        """(B, width)."""
        attributes = self.told(condition.attributes)
        attributes = (attributes - self.attribute_mean) / self.attribute_scale
        hats = F.relu(1 - torch.abs(condition.pitch - self.anchors) / PITCH_STEP)
        parts = [attributes, hats, condition.velocity * 2 - 1]
        if extra is not None:
            parts.insert(0, extra)
        hidden = F.leaky_relu(self.first(torch.cat(parts, dim=1)), SLOPE)
        return F.leaky_relu(self.second(hidden), SLOPE)


class Scale(nn.Module):
    """One scale of the generator: convolution, FiLM by the condition, noise; then a residual convolution.

    FiLM: Perez et al. 2018; ``embedding`` 0: none. Noise through a learned 1 x 1 mixing after each convolution (after
    Karras et al. 2019, where it is one map per layer): here rows are channels, so the texture of every row needs its
    own.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, noise_channels: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3)
        self.second = convolution(outputs, outputs, 3)
        nn.init.zeros_(self.second.weight)
        self.film = nn.Linear(embedding, 2 * outputs) if embedding else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(nn_bias(self.film))
        self.noise_channels = noise_channels
        if noise_channels:
            self.mix = nn.ModuleList(nn.Conv2d(noise_channels, outputs, 1, bias=False) for _ in range(2))
            for layer in self.mix:
                assert isinstance(layer, nn.Conv2d)
                nn.init.normal_(layer.weight, std=0.05 / math.sqrt(noise_channels))

    def forward(self, x: Tensor, embedding: Tensor, noise: Tensor) -> Tensor:
        """(B, inputs, 1, T), (B, embedding), (B, 2 * noise_channels, 1, >= T) to (B, outputs, 1, T)."""
        x = self.first(x)
        if self.film is not None:
            gain, offset = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
            x = x * (1 + gain) + offset
        if self.noise_channels:
            x = x + self.mix[0](noise[:, : self.noise_channels, :, : x.shape[3]])
        x = F.leaky_relu(x, SLOPE)
        y = self.second(x)
        if self.noise_channels:
            y = y + self.mix[1](noise[:, self.noise_channels :, :, : x.shape[3]])
        return F.leaky_relu(x + y, SLOPE)


class Window(NamedTuple):
    """A run of columns of one scale: ``begin`` (1, 1) holds the number of the first, ``length`` is how many."""

    begin: Tensor
    length: int

    def of(self, x: Tensor, begin: Tensor | float = 0.0, each: int = 1) -> Tensor:
        """Its columns of x (B, C, 1, N), whose first is number ``begin``: (B, C, 1, length).

        ``each``: 2 where x is of the next coarser scale, so that each of its columns lies under two. A product with
        ones and zeros: exact, and LiteRT's delegate takes it, where an index becomes a gather among bounds checks
        that the delegate leaves out.
        """
        number = self.begin + torch.arange(self.length, dtype=x.dtype, device=x.device)[:, None]
        columns = torch.arange(x.shape[3], dtype=x.dtype, device=x.device)[None]
        middle = each * begin + (each * columns + (each - 1) / 2)  # of what each column of x lies under
        # Its own columns are (each - 1) / 2 from it, and any other at least 1 more.
        chosen = F.relu((each + 1) / 2 - (number - middle).abs())  # (length, N)
        return torch.matmul(chosen, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Generator(nn.Module):
    """z, attributes, pitch, velocity and noise to the frames of a note.

    Shapes: z (B, latent), attributes (B, A), pitch (B, 1) MIDI, velocity (B, 1) in 0..1, noise
    (B, 2 * noise_channels, frames) standard normal (zeros: the smooth note); returns (B, 2, rows, frames):
    level and deviation as `train.partials.encode` makes them. ``widths``: of a trimmed one (default: the recipe's).
    """

    def __init__(
        self,
        shape: GeneratorShape,
        grid: Partials,
        attributes: int,
        pitch_range_midi: tuple[int, int],
        widths: Widths | None = None,
    ) -> None:
        super().__init__()
        widths = Widths.of(shape) if widths is None else widths
        self.rows = grid.rows
        self.start_frames = grid.frames >> (len(widths.channels) - 1)
        self.condition = ConditionEmbedding(
            shape.told(attributes), shape.latent, pitch_range_midi, widths.embedding, widths.hidden
        )
        self.start = nn.Linear(widths.embedding, widths.start * self.start_frames)
        told = widths.embedding if shape.conditioning == FILM else 0
        noisy_from = len(widths.channels) - shape.noise_scales
        inputs = (widths.start, *widths.channels)
        self.scales = nn.ModuleList(
            Scale(inputs[i], outputs, told, shape.noise_channels if i >= noisy_from else 0)
            for i, outputs in enumerate(widths.channels)
        )
        self.to_frames = nn.Conv2d(widths.channels[-1], 2 * grid.rows, 1)
        nn.init.zeros_(nn_bias(self.to_frames))

    def widths(self) -> Widths:
        """As its layers are."""
        return Widths(
            self.condition.first.out_features,
            self.condition.second.out_features,
            self.start.out_features // self.start_frames,
            tuple(scale.first.out_channels for scale in self.scales if isinstance(scale, Scale)),
        )

    def forward(
        self, z: Tensor, attributes: Tensor, pitch: Tensor, velocity: Tensor, noise: Tensor
    ) -> Tensor:
        """See the class."""
        whole: list[Window | None] = [None] * len(self.scales)
        return self._to_grid(self._columns(z, Condition(attributes, pitch, velocity), noise, whole))

    def slice(self, z: Tensor, condition: Condition, noise: Tensor, begin: Tensor, length: int) -> Tensor:
        """Frames ``begin`` to ``begin + length`` of what `forward` makes of the same, for a fraction of its work.

        ``begin`` (1, 1): a whole number from 0 to frames - length, float32 like the other inputs. Returns
        (B, 2, rows, length). Caillon & Esling 2022 (Streamable Neural Audio Synthesis With Non-Causal Convolutions)
        keep what convolutions read from one block to the next; here each scale makes it again, and may begin anywhere.
        """
        windows = self._windows(begin, length)
        columns = self._columns(z, condition, noise, windows)
        made = windows[-1]
        return self._to_grid(Window(begin, length).of(columns, 0.0 if made is None else made.begin))

    def _windows(self, begin: Tensor, length: int) -> list[Window | None]:
        """What each scale has to make for a slice; None for all of it.

        That is what the next scale reads, and HALO more on both sides, but never beyond the note's ends. So at an
        end the padding of the convolutions is what it is in the whole note, and elsewhere it spoils only the halo.
        """
        windows: list[Window | None] = [None] * len(self.scales)
        for i in reversed(range(len(self.scales))):
            total, length = self.start_frames << i, length + 2 * HALO
            if length >= total:
                break
            begin = (begin - HALO).clamp(0, total - length)
            windows[i] = Window(begin, length)
            begin, length = torch.floor(begin / 2), length // 2 + 1  # an odd begin lies over one column more
        return windows

    def _columns(
        self, z: Tensor, condition: Condition, noise: Tensor, windows: Sequence[Window | None]
    ) -> Tensor:
        """What the last scale makes (B, channels, 1, columns), each scale within its window."""
        embedding = self.condition(condition, z)
        x = F.leaky_relu(self.start(embedding), SLOPE)
        x = x.reshape(-1, x.shape[1] // self.start_frames, 1, self.start_frames)
        noise = noise[:, :, None, :]
        begin: Tensor | float = 0.0  # the number of x's first column
        for i, (scale, window) in enumerate(zip(self.scales, windows, strict=True)):
            assert isinstance(scale, Scale)
            heard = noise
            if window is None:
                if i:
                    x = F.interpolate(x, scale_factor=(1.0, 2.0), mode="nearest")
            else:
                x = window.of(x, begin, 2 if i else 1)
                if scale.noise_channels:
                    heard = window.of(noise[:, :, :, : self.start_frames << i])
                begin = window.begin
            x = scale(x, embedding, heard)
        return x

    def _to_grid(self, x: Tensor) -> Tensor:
        """(B, channels, 1, columns) of the last scale to (B, 2, rows, columns)."""
        frames: Tensor = self.to_frames(x)  # (B, 2 * rows, 1, columns)
        return frames.reshape(-1, 2, self.rows, frames.shape[3])


class Encoder(nn.Module):
    """The frames of a note and its condition to mean and log variance of z, each (B, latent).

    It is told the condition, so z need only hold what the condition leaves open.
    """

    def __init__(
        self, shape: GeneratorShape, grid: Partials, attributes: int, pitch_range_midi: tuple[int, int]
    ) -> None:
        super().__init__()
        width = shape.encoder_channels or shape.channels[0]
        halvings = len(shape.channels) - 1
        self.condition = ConditionEmbedding(shape.told(attributes), 0, pitch_range_midi, shape.embedding)
        self.layers = nn.ModuleList(
            [convolution(2 * grid.rows, width, 1)]
            + [convolution(width, width, 4, 2) for _ in range(halvings)]
        )
        features = width * (grid.frames >> halvings)
        self.joined = nn.Linear(features + shape.embedding, 2 * width)
        self.out = nn.Linear(2 * width, 2 * shape.latent)
        nn.init.normal_(self.out.weight, std=0.01)

    def forward(self, frames: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """See the class."""
        x = as_features(frames)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        x = torch.cat([x.flatten(1), self.condition(condition)], dim=1)
        mean, log_variance = self.out(F.leaky_relu(self.joined(x), SLOPE)).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)


class Verdict(NamedTuple):
    """What the critic says: score (B, positions), pitch (B, classes) and attribute (B, A) logits."""

    score: Tensor
    pitch: Tensor
    attributes: Tensor

    def float(self) -> Verdict:
        """In the precision that losses are computed in."""
        return Verdict(*(one.float() for one in self))


class Critic(nn.Module):
    """Real or generated, which pitch, which attributes.

    The score is local: one per four frames, each seeing RECEPTIVE_FRAMES frames, conditioned by projection
    (Miyato & Koyama 2018). A critic of the whole note judged envelopes, which reconstruction already has, and
    lost the texture. The heads of DarkGAN (pitch: categorical, attributes: soft labels) see the whole note.
    """

    # Kernels 5, 5, 5, 3 with strides 1, 2, 2, 1: 1 + 4 + 4 + 2*4 + 4*2
    RECEPTIVE_FRAMES = 25

    def __init__(
        self, shape: CriticShape, grid: Partials, attributes: int, pitch_range_midi: tuple[int, int]
    ) -> None:
        super().__init__()
        width = shape.channels
        low, high = pitch_range_midi
        self.trunk = nn.ModuleList(
            [
                convolution(2 * grid.rows, width, 1),
                convolution(width, width, 5),
                convolution(width, width, 5, 2),
                convolution(width, width, 5, 2),
                convolution(width, width, 3),
            ]
        )
        self.condition = ConditionEmbedding(attributes, 0, pitch_range_midi, width)
        self.project = nn.Linear(width, width)
        self.score = nn.Conv2d(width, 1, 1)
        self.heads = nn.ModuleList([convolution(width, width, 4, 2), convolution(width, width, 4, 2)])
        features = width * (grid.frames >> 4)
        self.pitch = nn.Linear(features, high - low + 1)
        self.attributes = nn.Linear(features, attributes) if attributes else None

    def forward(self, frames: Tensor, condition: Condition) -> Verdict:
        """(B, 2, rows, frames) and its condition; see Verdict."""
        x = as_features(frames)
        for layer in self.trunk:
            x = F.leaky_relu(layer(x), SLOPE)
        fitting = (x * self.project(self.condition(condition))[:, :, None, None]).sum(1, keepdim=True)
        score = self.score(x) + fitting / math.sqrt(x.shape[1])
        for layer in self.heads:
            x = F.leaky_relu(layer(x), SLOPE)
        features = x.flatten(1)
        named = features[:, :0] if self.attributes is None else self.attributes(features)
        return Verdict(score.flatten(1), self.pitch(features), named)
