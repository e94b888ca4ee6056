"""The forward `stft` grid, DarkGAN's: a note's audio to log magnitude and instantaneous frequency on 2048/512 frames.

The inverse that plays lives in `device.stft`. Source: Nistal, Lattner and Richard, ISMIR 2021, and the authors'
released code where it says more: the 30 % fade of a training target, ln(magnitude + 1e-10), bin 0 left out, radians.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.stft import FADED_SHARE, Stft, hann

Array = npt.NDArray[np.float32]

LEAST_MAGNITUDE = 1e-10


def target(audio: npt.NDArray[np.floating], grid: Stft) -> Array:
    """What a generator is trained on: the note faded out over its last 30 %, on the grid; as `encode`."""
    whole = _cut(audio, grid)
    samples = round(FADED_SHARE * grid.samples)
    # The released code's log curve: 10 to 1 in equal ratios, brought to 1 to 0.
    whole[len(whole) - samples :] *= (10 ** (1 - np.linspace(0, 1, samples)) - 1) / 9
    return encode(whole, grid)


def encode(audio: npt.NDArray[np.floating], grid: Stft) -> Array:
    """One note on the grid: float32 (2, bins, frames), [0] ln(magnitude + 1e-10), [1] radians a hop.

    ``audio``: (samples,), mono, at ``grid.sample_rate_hz``, as loud as it was recorded; the note begins at sample 0.
    The first ``grid.samples`` are used, what is missing counts as silence, as does what is before and after. [1] is
    the phase, unwrapped along time and differenced, so within -pi..pi; its first frame is the phase itself. Raises
    DarkrackError for audio that is not (samples,) or not finite.
    """
    whole = _cut(audio, grid)
    half = grid.fft_samples // 2
    padded = np.concatenate([np.zeros(half), whole, np.zeros(grid.fft_samples)])
    begins = np.arange(grid.frames) * grid.hop_samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, grid.fft_samples)[begins]
    spectrum = np.fft.rfft(frames * hann(grid.fft_samples))[:, 1:].T
    encoded = np.empty((2, grid.bins, grid.frames), np.float32)
    encoded[0] = np.log(np.abs(spectrum) + LEAST_MAGNITUDE)
    encoded[1] = np.diff(np.unwrap(np.angle(spectrum), axis=1), axis=1, prepend=0.0)
    return encoded


def _cut(audio: npt.NDArray[np.floating], grid: Stft) -> npt.NDArray[np.float64]:
    """As many samples as the grid has, a copy."""
    if audio.ndim != 1 or not np.isfinite(audio).all():
        got = f"shape {audio.shape}" if audio.ndim != 1 else "NaN or infinity"
        raise DarkrackError("audio of a note", "finite samples (n,)", got, "look at the file it came from")
    whole = np.zeros(grid.samples)
    given = audio[: grid.samples]
    whole[: len(given)] = given
    return whole
