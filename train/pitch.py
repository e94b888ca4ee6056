"""At which pitch a note really sounds: YIN on its steadiest stretch, confirmed and refined on its partials.

YIN: de Cheveigné & Kawahara, "YIN, a fundamental frequency estimator for speech and music", JASA 111 (2002).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from device.partials import nominal_hz

SILENT_DB = -70.0  # a note whose peak stays under this has no sample behind it
TUNE_CENTS = 50.0  # nearer than half a semitone is the key that was pressed
STRETCH_S = 0.4  # 13 periods of 32.7 Hz, an octave under the lowest usual key
ATTACK_S = 0.06  # left out: transients have no pitch
LOWEST_HZ = 14.0  # two octaves under MIDI 34
HIGHEST_HZ = (
    8000.0  # partials above add noise and no knowledge, except for keys so high that there are no others
)

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Sounding:
    """``f0_hz`` and its deviation from the key in ``cents`` (or None), ``check`` as in notes.csv."""

    f0_hz: float | None
    cents: float | None
    check: str


def measure(audio: npt.NDArray[np.floating], sample_rate_hz: int, pitch: float) -> Sounding:
    """Find the f0 of a note that claims MIDI ``pitch``; ``audio`` mono, full scale 1.

    YIN proposes, the spectrum decides: an octave is believed only where the energy of the partials says so,
    and the key that was pressed is asked first. The f0 is the power-weighted mean of partial frequency over
    partial number: within .01 cent on steady synthetic tones, where YIN alone is 2 to 3 cents off.
    """
    import librosa

    if not len(audio) or np.max(np.abs(audio)) < 10 ** (SILENT_DB / 20):
        return Sounding(None, None, "silent")
    nominal = nominal_hz(pitch)
    stretch = _steadiest(np.asarray(audio, np.float64), sample_rate_hz)

    # Two octaves either way, and a little; YIN needs two of the longest periods in a frame.
    low = max(nominal / 4.5, LOWEST_HZ)
    high = min(nominal * 4.5, 0.4 * sample_rate_hz)
    frame = 1 << math.ceil(math.log2(2.0 * sample_rate_hz / low + 4.0))
    padded = np.pad(stretch, (0, max(0, frame - len(stretch))))
    hop = max((len(padded) - frame) // 4, 1)
    found = librosa.yin(
        padded, fmin=low, fmax=high, sr=sample_rate_hz, frame_length=frame, hop_length=hop, center=False
    )
    proposal = float(np.median(found))

    partials = _Partials(stretch, sample_rate_hz, max(HIGHEST_HZ, 4.0 * nominal))
    if partials.total <= 0.0:  # a click and then nothing
        return Sounding(None, None, "unpitched")
    octave = round(math.log2(proposal / nominal))
    at_key = proposal / 2.0**octave  # the proposal, brought beside the key
    if abs(_cents(at_key, nominal)) > TUNE_CENTS:
        at_key = nominal
    for candidate in (at_key, proposal, 2.0 * proposal, 0.5 * proposal):
        f0_hz = partials.refine(candidate)
        if partials.bear_out(f0_hz, proposal):
            cents = _cents(f0_hz, nominal)
            off_octave = cents - 1200.0 * round(cents / 1200.0)
            check = "octave" if abs(off_octave) <= TUNE_CENTS else "detuned"
            if abs(cents) <= TUNE_CENTS:
                check = "ok"
            return Sounding(f0_hz, cents, check)
    return Sounding(None, None, "unpitched")


def _cents(f_hz: float, reference_hz: float) -> float:
    return 1200.0 * math.log2(f_hz / reference_hz)


def _steadiest(audio: FloatArray, sample_rate_hz: int) -> FloatArray:
    """The stretch after the attack whose quietest 10 ms are loudest: it neither stops nor decays away."""
    block = sample_rate_hz // 100
    blocks = len(audio) // block
    length = round(STRETCH_S * 100)
    if blocks <= length:
        return audio
    level = np.sqrt(np.mean(np.square(audio[: blocks * block].reshape(blocks, block)), axis=1))
    begin = int(np.argmax(level > 0.05 * level.max())) + round(ATTACK_S * 100)
    begin = min(begin, blocks - length)
    windows = np.lib.stride_tricks.sliding_window_view(level[begin:], length)
    at = (begin + int(np.argmax(windows.min(axis=1)))) * block
    return audio[at : at + length * block]


class _Partials:
    """The power spectrum of a stretch, asked how much of it a harmonic series explains."""

    def __init__(self, stretch: FloatArray, sample_rate_hz: int, highest_hz: float) -> None:
        size = 1 << math.ceil(math.log2(2 * len(stretch)))  # zero-padded twofold: bands have finer edges
        power = np.abs(np.fft.rfft(stretch * np.hanning(len(stretch)), size)) ** 2
        self.bin_hz = sample_rate_hz / size
        self.power = power[: int(min(highest_hz, 0.45 * sample_rate_hz) / self.bin_hz)]
        self.power[: int(LOWEST_HZ / self.bin_hz)] = 0.0
        self.total = float(self.power.sum())
        self.lobe = 4 * size / len(stretch) / 2  # bins from the centre of a Hann main lobe to its end

    def explained(self, f0_hz: float) -> float:
        """The share of the energy near multiples of ``f0_hz``, less what a flat spectrum would have there.

        Near is a main lobe, or 2 % of the frequency (strings are stiff, players vibrate) up to .15 of
        ``f0_hz``. A dense series is near everything, so 0 is chance and 1 is all.
        """
        spacing = f0_hz / self.bin_hz
        bins = np.arange(len(self.power))
        nearest = np.maximum(np.round(bins / spacing), 1.0) * spacing
        near = np.abs(bins - nearest) <= np.maximum(self.lobe, np.minimum(0.02 * nearest, 0.15 * spacing))
        chance = float(near.mean())
        return (float(self.power[near].sum()) / self.total - chance) / max(1.0 - chance, 1e-9)

    def bear_out(self, f0_hz: float, rival_hz: float) -> bool:
        """Whether the series of ``f0_hz`` explains the sound, its rival little more, its sub-series less."""
        whole = self.explained(f0_hz)
        if whole < 0.5 or self.explained(rival_hz) - whole > 0.15:
            return False
        return all(whole - self.explained(m * f0_hz) > 0.01 for m in (2, 3, 5))

    def refine(self, f0_hz: float) -> float:
        """The f0 that the ten lowest partials agree on, each weighted by its power.

        The centre of gravity of a partial, not its peak: vibrato and choirs have many peaks.
        """
        for _ in range(3):  # each time the bands sit better around their partials
            weights, values = 0.0, 0.0
            for k in range(1, 11):
                centre = k * f0_hz / self.bin_hz
                reach = max(0.03 * centre, self.lobe)
                first, last = math.ceil(centre - reach), math.floor(centre + reach) + 1
                if first < 1 or last > len(self.power):
                    continue
                band = self.power[first:last]
                weights += float(band.sum())
                values += float(band @ np.arange(first, last)) * self.bin_hz / k
            if weights > 0.0:
                f0_hz = values / weights
        return f0_hz
