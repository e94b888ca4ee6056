"""RAVE's decoder by its published sizes, with random weights: latent frames in, 48 kHz out, block by block.

Sources: Caillon and Esling, "RAVE: A variational autoencoder for fast and high-quality neural audio synthesis", 2021
(arXiv 2111.05011), for the design; the configuration files `v1`, `onnx` and `raspberry` that their repository publishes
(acids-ircam/RAVE, rave/configs) for the sizes: 16 bands, capacity 64 (raspberry: 16), ratios 4, 4, 4, 2, 128 latent
values, stacks of kernel 3 with dilations 1, 3, 5, no biases, 5 noise bands at a 64th of the bands' rate; and, by the
same authors, "Streamable Neural Audio Synthesis With Non-Causal Convolutions", 2022, for what each convolution keeps
from one block to the next. Convolutions look back only, which is their `causal` flavour; it costs what the other does.

The paper gives the whole of v1 17.6 million parameters; decoder and encoder (which an instrument needs only to be told
what to imitate) come to 17.60 million so, which a test adds up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATE_HZ = 48_000
SLOPE = 0.2  # of the leaky ReLU
QUIET = 5.0  # what the noise's levels begin under
ATTENUATION_DB = 100.0  # of the filter bank (configuration v1)
TAPS = 512  # its length: the Kaiser window of 100 dB for 16 bands has about 400, filled up to a power of two


@dataclass(frozen=True)
class Shape:
    """What the configuration files set."""

    capacity: int = 64
    noise: bool = True
    latent: int = 128
    bands: int = 16
    ratios: tuple[int, ...] = (4, 4, 4, 2)
    dilations: tuple[int, ...] = (1, 3, 5)
    noise_ratios: tuple[int, ...] = (4, 4, 4)
    noise_bands: int = 5

    @property
    def block_samples(self) -> int:
        """Samples of one latent frame: 16 * 4 * 4 * 4 * 2 = 2048."""
        return self.bands * math.prod(self.ratios)


V1 = Shape()
RASPBERRY = Shape(capacity=16, noise=False)  # made by its authors to run on a Raspberry Pi 4


class Convolution(nn.Conv1d):
    """One that looks back: what it still has to see of the block before is kept."""

    past: Tensor | None = None

    def __init__(self, inputs: int, outputs: int, width: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__(inputs, outputs, width, stride=stride, dilation=dilation, bias=False)
        self.reach = max((width - 1) * dilation + 1 - stride, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, T / stride)."""
        if self.reach:
            past = self.past
            if past is None or len(past) != len(x):
                past = x.new_zeros(len(x), x.shape[1], self.reach)
            x = torch.cat([past, x], dim=2)
            self.past = x[:, :, -self.reach :]
        return super().forward(x)


class Enlargement(nn.ConvTranspose1d):
    """A transposed convolution of twice its stride: half of each output reaches into the next, and is kept for it."""

    rest: Tensor | None = None

    def __init__(self, inputs: int, outputs: int, ratio: int) -> None:
        super().__init__(inputs, outputs, 2 * ratio, stride=ratio, bias=False)
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, inputs, T) to (B, outputs, ratio * T)."""
        y = super().forward(x)
        if self.rest is not None and len(self.rest) == len(x):
            y[:, :, : self.ratio] += self.rest
        self.rest = y[:, :, -self.ratio :].clone()
        return y[:, :, : -self.ratio]


class Residual(nn.Module):
    """Two convolutions beside what they read; the first one's taps stand ``dilation`` apart."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.far = Convolution(width, width, 3, dilation)
        self.near = Convolution(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        beside: Tensor = self.near(F.leaky_relu(self.far(F.leaky_relu(x, SLOPE)), SLOPE))
        return x + beside


class Noise(nn.Module):
    """Levels of noise bands, and noise of these levels in every one of the filter bank's bands."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        widths = [shape.capacity] * len(shape.noise_ratios) + [shape.bands * shape.noise_bands]
        self.layers = nn.ModuleList(
            Convolution(before, after, 3, stride=stride)
            for before, after, stride in zip(widths[:-1], widths[1:], shape.noise_ratios, strict=True)
        )
        self.bands, self.samples = shape.bands, math.prod(shape.noise_ratios)

    def forward(self, x: Tensor) -> Tensor:
        """(B, capacity, T) to (B, bands, T)."""
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
        level = rectified(self.layers[-1](x) - QUIET).transpose(1, 2)
        made = filtered_noise(level.reshape(*level.shape[:2], self.bands, -1), self.samples)
        return made.transpose(1, 2).reshape(len(x), self.bands, -1)


class Decoder(nn.Module):
    """Latent frames (B, latent, N) to audio (B, N * block_samples), going on where the last call of that B ended."""

    def __init__(self, shape: Shape = V1) -> None:
        super().__init__()
        widths = [shape.capacity << n for n in range(len(shape.ratios), -1, -1)]  # 1024, 512, ..., 64
        self.first = Convolution(shape.latent, widths[0], 7)
        self.larger = nn.ModuleList(
            Enlargement(before, after, ratio)
            for before, after, ratio in zip(widths[:-1], widths[1:], shape.ratios, strict=True)
        )
        self.stacks = nn.ModuleList(
            nn.Sequential(*(Residual(width, dilation) for dilation in shape.dilations))
            for width in widths[1:]
        )
        self.wave = Convolution(widths[-1], shape.bands, 7)
        self.loudness = Convolution(widths[-1], 1, 3)
        self.noise = Noise(shape) if shape.noise else None
        self.synthesis = Synthesis(shape.bands)

    def forward(self, latent: Tensor) -> Tensor:
        """See the class."""
        x = self.first(latent)
        for larger, stack in zip(self.larger, self.stacks, strict=True):
            x = stack(larger(F.leaky_relu(x, SLOPE)))
        bands = torch.tanh(self.wave(x)) * rectified(self.loudness(x))
        if self.noise is not None:
            bands = bands + self.noise(x)
        made: Tensor = self.synthesis(bands)
        return made


class Synthesis(nn.Module):
    """The filter bank's way back: (B, bands, T) to (B, bands * T), in polyphase, a convolution of 32 taps a phase.

    A bank of cosines under one prototype (Nguyen, "Near-perfect-reconstruction pseudo-QMF banks", 1994).
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        # (band, tap) to (phase, band, tap of the phase), turned around because torch correlates.
        filters = bands * bank(bands, synthesis=True)
        phases = filters.reshape(bands, -1, bands).transpose(2, 0, 1)[:, :, ::-1]
        self.filter = Convolution(bands, bands, phases.shape[2])
        self.filter.weight = nn.Parameter(torch.from_numpy(phases.astype(np.float32).copy()), False)

    def forward(self, bands: Tensor) -> Tensor:
        """See the class."""
        made: Tensor = self.filter(bands)
        return made.transpose(1, 2).reshape(len(bands), -1)


def bank(bands: int, *, synthesis: bool) -> np.ndarray:
    """The filters (bands, TAPS) of the analysis, or of the synthesis, which are the same in the other direction."""
    centred = np.arange(TAPS) - (TAPS - 1) / 2
    band = np.arange(bands)[:, None]
    phase = (-1.0) ** band * math.pi / 4 * (-1 if synthesis else 1)
    return 2 * prototype(bands) * np.cos((2 * band + 1) * math.pi / (2 * bands) * centred + phase)


def prototype(bands: int) -> np.ndarray:
    """The low pass (TAPS,) whose copies overlap so that they add up to one.

    A sinc under a Kaiser window, cut off where the power of two neighbours' overlap is flattest (Lin and Vaidyanathan
    1998): where the autocorrelation at even multiples of the bands' spacing vanishes.
    """
    from scipy.optimize import minimize_scalar
    from scipy.signal.windows import kaiser

    beta = 0.1102 * (ATTENUATION_DB - 8.7)  # Kaiser's formula
    window = kaiser(TAPS, beta)

    def filtered(cut_off: float) -> np.ndarray:
        centred = np.arange(TAPS) - (TAPS - 1) / 2
        low: np.ndarray = cut_off * np.sinc(cut_off * centred) * window
        return low

    def unevenness(cut_off: float) -> float:
        both = np.convolve(filtered(cut_off), filtered(cut_off)[::-1])
        return float(np.abs(both[TAPS - 1 :: 2 * bands][1:]).max())

    found = minimize_scalar(unevenness, bounds=(0.5 / bands, 1.0 / bands), method="bounded")
    return filtered(float(found.x))


def rectified(x: Tensor) -> Tensor:
    """RAVE's and DDSP's way to a level: 2 sigmoid(x)^ln 10, and never quite zero (Engel et al. 2020, equation 5)."""
    return 2 * torch.sigmoid(x) ** math.log(10) + 1e-7


def filtered_noise(level: Tensor, samples: int) -> Tensor:
    """Noise of ``samples`` samples for every spectrum of ``level`` (..., bands): (..., samples).

    The spectrum becomes an impulse response, windowed, and white noise is convolved with it (Engel et al. 2020,
    section 3.4).
    """
    response = torch.fft.irfft(level.to(torch.complex64))
    length = response.shape[-1]
    response = torch.roll(response, length // 2, -1) * torch.hann_window(length)
    if length > samples:  # the middle of it
        response = response[..., (length - samples) // 2 :][..., :samples]
    noise = torch.rand(*level.shape[:-1], samples) * 2 - 1
    size = 2 * samples
    made: Tensor = torch.fft.irfft(torch.fft.rfft(noise, size) * torch.fft.rfft(response, size), size)
    return made[..., :samples]
