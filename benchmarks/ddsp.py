"""DDSP's decoder and synthesisers by their published sizes, with random weights: pitch and loudness in, sound out.

Source: Engel, Hantrakul, Gu and Roberts, "DDSP: Differentiable Digital Signal Processing", ICLR 2020, and the
configurations that its repository publishes (magenta/ddsp, ddsp/training/gin: models/ae, models/vst/vst and
papers/iclr2020/tiny_instrument): stacks of dense layers with layer normalisation for each input, a GRU, a stack more,
and a dense layer to one level, the shares of harmonics and 65 levels of noise, 250 times a second (vst: 50) at 16 kHz.
The reverberation that follows is left out, and so is what a frame's noise rings on into the next: less work, not more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rave import filtered_noise, rectified

RATE_HZ = 16_000
NOISE_BANDS = 65
QUIET = 5.0  # what the noise's levels begin under (ddsp.synths.FilteredNoise)
F0_HZ = 130.8  # of every voice that is timed: MIDI 48, where 61 of 100 harmonics lie under 8 kHz


@dataclass(frozen=True)
class Shape:
    """What the configurations set. ``inputs``: how wide each of the decoder's inputs is: pitch, loudness (and z)."""

    inputs: tuple[int, ...]
    layers: int
    width: int
    memory: int
    harmonics: int
    frame_rate_hz: int = 250

    @property
    def frame_samples(self) -> int:
        """Samples between two frames: 64 at 250 frames a second."""
        return RATE_HZ // self.frame_rate_hz


AUTOENCODER = Shape((1, 1, 16), layers=3, width=512, memory=512, harmonics=100)
VST = Shape((1, 1), layers=1, width=256, memory=512, harmonics=60, frame_rate_hz=50)
TINY = Shape((1, 1), layers=0, width=0, memory=256, harmonics=60)


class Stack(nn.Sequential):
    """Dense layers, each with layer normalisation and a leaky ReLU."""

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        made: list[nn.Module] = []
        for n in range(layers):
            made += [nn.Linear(width if n else inputs, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)]
        super().__init__(*made)
        self.outputs = width if layers else inputs


class Decoder(nn.Module):
    """Frames of pitch, loudness (and z) to sound, B voices at once, going on where the last call ended.

    Inputs (B, N, width) in the order of the shape; returns (B, N * frame_samples).
    """

    memory: Tensor | None = None
    turn: Tensor | None = None

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.stacks = nn.ModuleList(Stack(width, shape.width, shape.layers) for width in shape.inputs)
        joined = sum(stack.outputs for stack in self.stacks if isinstance(stack, Stack))
        self.gru = nn.GRU(joined, shape.memory, batch_first=True)
        self.last = Stack(joined + shape.memory, shape.width, shape.layers)
        self.out = nn.Linear(self.last.outputs, 1 + shape.harmonics + NOISE_BANDS)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """See the class."""
        read = torch.cat([stack(x) for stack, x in zip(self.stacks, inputs, strict=True)], dim=2)
        remembered = self.memory if self.memory is not None and self.memory.shape[1] == len(read) else None
        x, self.memory = self.gru(read, remembered)
        x = self.out(self.last(torch.cat([read, x], dim=2)))
        level, shares, noise = x.split([1, self.shape.harmonics, NOISE_BANDS], dim=2)
        return self._harmonics(rectified(level), rectified(shares)) + self._noise(rectified(noise - QUIET))

    def _harmonics(self, level: Tensor, shares: Tensor) -> Tensor:
        """An oscillator for every harmonic, its level in straight lines between frames: (B, N * frame_samples)."""
        samples = self.shape.frame_samples
        number = torch.arange(1, self.shape.harmonics + 1)
        audible = (number * F0_HZ < RATE_HZ / 2).to(level.dtype)
        shares = shares * audible
        amplitude = level * shares / shares.sum(2, keepdim=True)
        amplitude = F.interpolate(amplitude.transpose(1, 2), scale_factor=float(samples), mode="linear")
        step = level.new_full((len(level), amplitude.shape[2]), F0_HZ / RATE_HZ)  # in turns; it may glide
        turns = step.cumsum(1)
        if self.turn is not None and len(self.turn) == len(turns):
            turns = turns + self.turn
        self.turn = turns[:, -1:] % 1
        return (amplitude * torch.sin(2 * math.pi * number[:, None] * turns[:, None])).sum(1)

    def _noise(self, level: Tensor) -> Tensor:
        """(B, N, NOISE_BANDS) to (B, N * frame_samples)."""
        return filtered_noise(level, self.shape.frame_samples).reshape(len(level), -1)


def frames(shape: Shape, voices: int, count: int) -> list[Tensor]:
    """Inputs of ``count`` frames for as many voices, as they come while something moves: random ones."""
    source = torch.Generator().manual_seed(0)
    return [torch.rand(voices, count, width, generator=source) for width in shape.inputs]
