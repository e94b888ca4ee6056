"""The forward `partials` grid: a note's audio to log magnitude and instantaneous frequency around k * f0.

The inverse that plays lives in `device.partials` and `device.voices`; `synthesize` here is its differentiable
twin for losses and tests. Row r lies at k = (r + 1) / rows_a_partial; columns are frames centred at t / frame_rate_hz.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.partials import Partials, sounding_rows

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]

# A Hann window of P periods has its first zeros at f0 * 2 / P: four periods put them at the middle between partials,
# where half rows lie.
WINDOW_PERIODS = 4.0
# Never shorter than two hops, or the frames of high notes would skip over audio between them.
WINDOW_HOPS = 2.0
HIGHEST_SHARE = 0.45  # of the sample rate: the highest partial that is looked at or played
# Six partials are enough to find the pitch and low enough that an error of 50 cents stays inside its band.
TUNING_PARTIALS = 6


def encode(
    audio: FloatArray,
    sample_rate_hz: int,
    f0_hz: float,
    grid: Partials,
    window_periods: float = WINDOW_PERIODS,
) -> FloatArray:
    """One note on the grid, tuned to itself.

    ``audio``: (samples,) float32, the note begins at sample 0; what is missing at the end counts as silence.
    ``f0_hz``: the measured fundamental; refined here from the low rows, so that deviations centre on zero.
    ``window_periods``: of f0, but never under WINDOW_HOPS hops; everything that learns has the default.
    Returns float32 (2, rows, frames): [0] the level x in [0, about 1.03], dB = floor_db * (1 - x), where 0 dB is
    amplitude 1 after the loudest frame is set to RMS 1; [1] the deviation d in [-1, 1], frequency = (r + 1 + d / 2) *
    f0 / rows_a_partial. Rows above ``limit_hz`` or HIGHEST_SHARE of the sample rate are 0 in both. Raises DarkrackError
    for audio that is silent or not finite.
    """
    if not np.isfinite(audio).all():
        raise DarkrackError(
            "audio of a note", "finite samples", "NaN or infinity", "look at the file it came from"
        )
    f0_hz = _refined_f0(audio, sample_rate_hz, f0_hz, grid, window_periods)
    # What lies over the sample rate's half is a mirror image of what lies under it.
    each = grid.rows_a_partial
    rows = min(sounding_rows(f0_hz, grid), max(1, int(HIGHEST_SHARE * sample_rate_hz * each / f0_hz)))
    times_s = np.arange(grid.frames) / grid.frame_rate_hz
    window_s = max(window_periods / f0_hz, WINDOW_HOPS / grid.frame_rate_hz)
    amplitude, frequency_hz = _analyse(audio, sample_rate_hz, f0_hz / each, rows, times_s, window_s)
    loudest_rms = math.sqrt(float((amplitude**2).sum(axis=1).max()) / 2)
    if loudest_rms < 1e-7:  # -140 dBFS: below 24 bits there is nothing to learn
        raise DarkrackError("audio of a note", "sound", "silence", "leave the note out")
    level_db = 20 * np.log10(np.maximum(amplitude / loudest_rms, 1e-12))
    deviation = 2 * (frequency_hz / (f0_hz / each) - np.arange(1, rows + 1))
    encoded = np.zeros((2, grid.rows, grid.frames), np.float32)
    encoded[0, :rows] = np.maximum(1 - level_db / grid.floor_db, 0).T
    encoded[1, :rows] = np.clip(deviation, -1, 1).T
    return encoded


def _refined_f0(
    audio: FloatArray, sample_rate_hz: int, f0_hz: float, grid: Partials, window_periods: float
) -> float:
    """The fundamental at which the strong low partials deviate by nothing on average (energy-weighted)."""
    times_s = np.arange(2, grid.frames, 4) / grid.frame_rate_hz  # the onset is left out: it has no pitch yet
    rows = min(TUNING_PARTIALS, max(1, sounding_rows(f0_hz, grid) // grid.rows_a_partial))
    window_s = max(window_periods / f0_hz, WINDOW_HOPS / grid.frame_rate_hz)
    amplitude, frequency_hz = _analyse(audio, sample_rate_hz, f0_hz, rows, times_s, window_s)
    partial = np.arange(1, rows + 1)
    # Within a quarter row it is the partial itself, beyond it is a neighbour or noise.
    energy = np.where(np.abs(frequency_hz / f0_hz - partial) < 0.25, amplitude**2, 0)
    total = float(energy.sum())
    if total < 1e-20:
        return f0_hz
    return float((energy * frequency_hz / partial).sum() / total)


def _analyse(  # noqa: PLR0917 (what a note is, and where to look)
    audio: FloatArray,
    sample_rate_hz: int,
    spacing_hz: float,
    rows: int,
    times_s: npt.NDArray[np.float64],
    window_s: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Amplitude and frequency (Hz), both (frames, rows), by a Hann window and its derivative.

    Frequency by the derivative of the window (Auger & Flandrin 1995): w^ = w - Im(X_dh / X_h). It holds at one
    instant, so it is not ambiguous beyond half the frame rate as differences between frames are.
    """
    half = round(window_s * sample_rate_hz / 2)
    offset = np.arange(-half, half + 1)
    window = 0.5 + 0.5 * np.cos(np.pi * offset / half)
    slope = -0.5 * np.pi / half * np.sin(np.pi * offset / half)
    omega = 2 * np.pi * spacing_hz / sample_rate_hz * np.arange(1, rows + 1)
    # e^{-jkwm} by repeated multiplication: one complex exponential per sample instead of one per sample and row.
    turn = np.exp(-1j * np.outer(offset, omega[:1]))
    rotations = np.cumprod(np.broadcast_to(turn, (len(offset), rows)), axis=1)
    kernel = np.concatenate(
        [part * shape[:, None] for shape in (window, slope) for part in (rotations.real, rotations.imag)],
        axis=1,
    ).astype(np.float32)
    centres = np.round(times_s * sample_rate_hz).astype(np.int64)
    padded = np.zeros(half + max(len(audio), int(centres[-1])) + half + 1, np.float32)
    padded[half : half + len(audio)] = audio
    segments = np.lib.stride_tricks.sliding_window_view(padded, len(offset))[centres]
    real, imaginary, slope_real, slope_imaginary = np.split(segments @ kernel, 4, axis=1)
    power = real.astype(np.float64) ** 2 + imaginary.astype(np.float64) ** 2
    amplitude = 2 * np.sqrt(power) / window.sum()
    correction = (slope_imaginary * real - slope_real * imaginary) / np.maximum(power, 1e-30)
    frequency_hz = (omega - correction) * sample_rate_hz / (2 * np.pi)
    return amplitude, frequency_hz


def synthesize(
    frames: torch.Tensor, f0_hz: torch.Tensor, grid: Partials, sample_rate_hz: int
) -> torch.Tensor:
    """Audio of notes on the grid, differentiable: (B, 2, rows, frames) and (B,) Hz to (B, samples).

    Amplitude and frequency run linearly between frames, as the device's voices run them; all phases start at a
    fixed spread (k^2 * golden ratio turns), which keeps the crest factor low. Partials over ``limit_hz`` or over
    HIGHEST_SHARE of the sample rate are silent. Samples = (frames - 1) / frame_rate_hz * sample_rate_hz.
    """
    import torch

    rows = frames.shape[2]
    samples = int((grid.frames - 1) / grid.frame_rate_hz * sample_rate_hz)
    partial = torch.arange(1, rows + 1, dtype=frames.dtype, device=frames.device)[None, :, None]
    frequency_hz = (partial + frames[:, 1] / 2) * (f0_hz[:, None, None] / grid.rows_a_partial)
    level = frames[:, 0]
    audible = (level > 0.01) & (frequency_hz <= min(grid.limit_hz, HIGHEST_SHARE * sample_rate_hz))
    amplitude = torch.where(audible, 10 ** (grid.floor_db * (1 - level) / 20), 0.0)
    position = torch.arange(samples, dtype=frames.dtype, device=frames.device) * (
        grid.frame_rate_hz / sample_rate_hz
    )
    before = position.long().clamp(max=grid.frames - 2)
    fraction = position - before
    amplitude = amplitude[..., before] * (1 - fraction) + amplitude[..., before + 1] * fraction
    frequency_hz = frequency_hz[..., before] * (1 - fraction) + frequency_hz[..., before + 1] * fraction
    # float64: a float32 sum over a second is wrong by a hundredth of a turn.
    turns = (
        torch.cumsum(frequency_hz.double() / sample_rate_hz, dim=-1)
        + (partial.double() ** 2) * 0.6180339887498949
    )
    return (amplitude * torch.sin(2 * math.pi * torch.frac(turns)).to(frames.dtype)).sum(dim=1)
