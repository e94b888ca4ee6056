"""GANSynth's generator by its published sizes, with random weights: z and pitch to a note of four seconds.

Source: Engel, Agrawal, Chen, Gulrajani, Donahue and Roberts, "GANSynth: Adversarial Neural Audio Synthesis", ICLR
2019, and the configuration `mel_prog_hires`, its best, that its repository publishes (magenta/magenta, in
models/gansynth): z of 256 and 61 pitches pixel-normalised, a map of 2 x 16 (time x frequency), seven scales with 256,
256, 256, 256, 128, 64 and 32 channels, two 3 x 3 convolutions each (one on the first, after the layer that makes the
map), leaky ReLU and pixel norm after each, tanh at the end: 128 x 1024 cells, log magnitude and instantaneous
frequency, 2048/512 at 16 kHz.

DarkGAN's generator (`train.darkgan`) comes from this one. Here frequency stands before time, as there. The mel scale is
left out on the way back to audio.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from device.stft import Stft
from train.networks import PixelNorm

LATENT, PITCHES = 256, 61
START = (16, 2)
CHANNELS = (256, 256, 256, 256, 128, 64, 32)  # 4096 / 2^n, 256 at most
SLOPE = 0.2
NOTE_S = 4.0
# 2048/512 at 16 kHz in 128 frames: 65,536 samples, of which NSynth's notes fill 64,000.
GRID = Stft(fft_samples=2048, hop_samples=512, frames=128, sample_rate_hz=16_000)


class Generator(nn.Module):
    """z (B, LATENT) and pitch (B, PITCHES), one of them 1, to (B, 2, 1024, 128)."""

    def __init__(self) -> None:
        super().__init__()
        inputs, first = LATENT + PITCHES, CHANNELS[0]
        self.norm = PixelNorm(inputs)
        # A dense layer: the published one is a convolution of the vector among zeros, which is the same for 31 times
        # the work (a test of `train.darkgan` shows that of its own).
        self.start = nn.Linear(inputs, first * START[0] * START[1], bias=False)
        self.start_bias = nn.Parameter(torch.zeros(1, first, 1, 1))
        self.layers = nn.ModuleList([nn.Conv2d(first, first, 3, padding=1)])
        for before, after in itertools.pairwise(CHANNELS):
            self.layers.append(nn.Conv2d(before, after, 3, padding=1))
            self.layers.append(nn.Conv2d(after, after, 3, padding=1))
        self.norms = nn.ModuleList(PixelNorm(width) for width in CHANNELS)
        self.to_planes = nn.Conv2d(CHANNELS[-1], 2, 1)

    def forward(self, z: Tensor, pitch: Tensor) -> Tensor:
        """See the class."""
        x = self.start(self.norm(torch.cat([z, pitch], dim=1)))
        x = x.reshape(len(z), CHANNELS[0], *START) + self.start_bias
        x = self.norms[0](F.leaky_relu(x, SLOPE))
        for n, layer in enumerate(self.layers):
            if n % 2:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.norms[(n + 1) // 2](F.leaky_relu(layer(x), SLOPE))
        return torch.tanh(self.to_planes(x))
