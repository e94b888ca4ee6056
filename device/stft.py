"""The inverse of the `stft` grid, DarkGAN's own: what the generator put out becomes a sample that a voice can loop.

Channel 0 is the natural logarithm of the magnitude, channel 1 the instantaneous frequency in radians a hop (the phase,
unwrapped along time and differenced; the first frame has the phase itself). Source: Nistal et al., ISMIR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stft:
    """Constants of the grid, as they stand in a bundle's manifest: the paper's by default."""

    fft_samples: int = 2048
    hop_samples: int = 512
    frames: int = 32
    sample_rate_hz: int = 16_000

    @property
    def bins(self) -> int:
        """Rows of the array: all bins but the one at 0 Hz."""
        return self.fft_samples // 2

    @property
    def limit_hz(self) -> float:
        """No partial is above it."""
        return self.sample_rate_hz / 2


@dataclass(frozen=True)
class NoteSamples:
    """One note, ready to be held for any time.

    ``samples`` (n,) float32, mono; played once up to ``loop_end`` and then from ``loop_start`` on, round and round,
    falling by ``decay_db_per_s`` (<= 0) from ``loop_start`` on. ``f0_hz`` is what it sounds at, played at
    ``sample_rate_hz``.
    """

    samples: Array
    sample_rate_hz: float
    f0_hz: float
    loop_start: float
    loop_end: float
    decay_db_per_s: float


def decode_samples(output: npt.NDArray[np.floating], grid: Stft, pitch_midi: float) -> NoteSamples:
    """Turn the generator's output (2, bins, frames) for a pitch (MIDI) into a sample that can be held."""
    raise NotImplementedError
