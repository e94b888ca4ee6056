"""What a finished recording sounds like, in numbers: level, clicks, pitch of a held note, brightness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]

NOTHING_DBFS = -200.0  # the level of digital silence, so that no figure is minus infinity

CLICK_DB = 20.0
CLICK_FRAME_S = 0.001
CLICK_SIDE_FRAMES = 50
# Mean square of the rounding error of 16 bits, (2^-15)^2 / 12: -101 dBFS. Nothing is called quieter than
# that, or the first sound after digital silence would be infinitely louder than it.
CLICK_FLOOR = 2.0**-30 / 12
HIGH_PASS_HZ = 1000.0  # width of the transition between the highest partial and the band that is watched
HIGH_PASS_DB = 120.0  # how far partials are kept out of it: under the floor even at full scale

PITCH_PARTIALS = 6
PITCH_SEMITONES = 1.0  # how far to either side of its nominal place a partial is looked for
PITCH_RANGE_DB = 40.0  # bins further under the strongest one are noise and would pull towards the nominal

EQUAL_LOUDNESS_DBFS = -23.0  # A-weighted; the usual programme level
INAUDIBLE_DBFS = -96.0  # per bin, at that loudness


@dataclass(frozen=True)
class Level:
    """Peak and root mean square over all channels, dB relative to full scale (amplitude 1)."""

    peak_dbfs: float
    rms_dbfs: float


def level(audio: Audio) -> Level:
    """Peak and RMS of ``audio`` (n,) or (n, channels), full scale 1; NOTHING_DBFS for silence."""
    samples = audio.astype(np.float64)
    if not samples.size:
        return Level(NOTHING_DBFS, NOTHING_DBFS)
    return Level(_dbfs(float(np.abs(samples).max())), _dbfs(float(np.sqrt(np.mean(samples**2)))))


def clicks(audio: Audio, sample_rate_hz: float, highest_partial_hz: float) -> list[float]:
    """Where ``audio`` (n,) or (n, channels) clicks: times in seconds, in order.

    A click is a 1 ms frame whose energy above the highest partial exceeds the median of the 50 ms on either
    side (taken together) by 20 dB. ``highest_partial_hz``: the highest that anything in the recording has.
    Raises ValueError where less than HIGH_PASS_HZ of band is left to watch above it.
    """
    if not 0 <= highest_partial_hz < sample_rate_hz / 2 - 2 * HIGH_PASS_HZ:
        raise ValueError(f"no band to watch between {highest_partial_hz} Hz and half of {sample_rate_hz} Hz")
    frame_samples = round(CLICK_FRAME_S * sample_rate_hz)
    response = _high_pass(sample_rate_hz, highest_partial_hz)
    channels = np.atleast_2d(audio.astype(np.float64).T)
    found: set[int] = set()
    for channel in channels:
        above = _filter(channel, response)
        above = np.pad(above, (0, -len(above) % frame_samples))
        energy = np.maximum((above.reshape(-1, frame_samples) ** 2).mean(axis=1), CLICK_FLOOR)
        loud = energy > _median_around(energy) * 10 ** (CLICK_DB / 10)
        found.update(int(frame) for frame in np.flatnonzero(loud))
    return [frame * frame_samples / sample_rate_hz for frame in sorted(found)]


def pitch_cents(audio: Audio, sample_rate_hz: float, nominal_hz: float) -> float:
    """How far a held note is from ``nominal_hz``, in cents; ``audio`` (n,) or (n, channels), 1 s or more.

    The mean frequency of each of the low partials, weighted by its energy in a long Hann window, and the
    harmonic series that fits them best (least squares, weighted by energy). Looks PITCH_SEMITONES to either
    side. NaN where there is no sound at those places.
    """
    mono = _mono(audio)
    size = 4 * len(mono)  # zero padding, so that the centre of a lobe is found between bins
    power = np.abs(np.fft.rfft(mono * np.hanning(len(mono)), size)) ** 2
    bin_hz = sample_rate_hz / size
    fitted = weight = 0.0
    for k in range(1, PITCH_PARTIALS + 1):
        half_width_hz = min(k * (2 ** (PITCH_SEMITONES / 12) - 1), 0.5) * nominal_hz
        first = int(np.ceil((k * nominal_hz - half_width_hz) / bin_hz))
        band = power[first : int((k * nominal_hz + half_width_hz) / bin_hz) + 1]
        if not band.size:
            break
        strong = np.where(band > band.max() * 10 ** (-PITCH_RANGE_DB / 10), band, 0.0)
        energy = float(strong.sum())
        if energy > 0:
            centre_hz = float((strong * np.arange(first, first + len(band))).sum()) / energy * bin_hz
            fitted += energy * k * centre_hz / nominal_hz
            weight += energy * k * k
    return float(1200 * np.log2(fitted / weight)) if weight > 0 else float("nan")


def centroid_hz(audio: Audio, sample_rate_hz: float) -> float:
    """Brightness: mean frequency of the amplitude spectrum at equal loudness.

    ``audio`` (n,) or (n, channels) is brought to EQUAL_LOUDNESS_DBFS (A-weighted) first, and what is
    inaudible there is left out, so that two sounds compare as they do when a listener has matched their
    levels. NaN for silence.
    """
    mono = _mono(audio)
    window = np.hanning(len(mono))
    amplitude = np.abs(np.fft.rfft(mono * window)) * (2 / max(float(window.sum()), 1e-9))
    frequency_hz = np.arange(len(amplitude), dtype=np.float64) * (sample_rate_hz / len(mono))
    # A Hann window spreads a tone's power over 1.5 bins.
    loudness = np.sqrt(np.sum((amplitude * _a_weight(frequency_hz)) ** 2) / 2 / 1.5)
    if not loudness > 0:
        return float("nan")
    amplitude *= 10 ** (EQUAL_LOUDNESS_DBFS / 20) / loudness
    amplitude[amplitude < 10 ** (INAUDIBLE_DBFS / 20)] = 0
    return float((amplitude * frequency_hz).sum() / amplitude.sum())


def _dbfs(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 10 ** (NOTHING_DBFS / 20))))


def _mono(audio: Audio) -> Floats:
    return np.asarray(np.atleast_2d(audio.astype(np.float64).T).mean(axis=0), np.float64)


def _high_pass(sample_rate_hz: float, highest_partial_hz: float) -> Floats:
    """Linear-phase FIR, stop band up to the highest partial, pass band HIGH_PASS_HZ above (Kaiser 1974)."""
    width = 2 * np.pi * HIGH_PASS_HZ / sample_rate_hz
    half = int(np.ceil((HIGH_PASS_DB - 7.95) / (2.285 * width) / 2))
    n = np.arange(-half, half + 1)
    cutoff = 2 * (highest_partial_hz + HIGH_PASS_HZ / 2) / sample_rate_hz
    low_pass = cutoff * np.sinc(cutoff * n) * np.kaiser(2 * half + 1, 0.1102 * (HIGH_PASS_DB - 8.7))
    return np.asarray((n == 0) - low_pass / low_pass.sum(), np.float64)


def _filter(channel: Floats, response: Floats) -> Floats:
    """Convolve without delay, in blocks, so that an hour of sound needs no hour-long transform."""
    size = 1 << 16
    step = size - len(response) + 1
    spectrum = np.fft.rfft(response, size)
    filtered = np.zeros(len(channel) + len(response) - 1)
    for begin in range(0, len(channel), step):
        block = channel[begin : begin + step]
        part = np.fft.irfft(np.fft.rfft(block, size) * spectrum, size)[: len(block) + len(response) - 1]
        filtered[begin : begin + len(part)] += part
    half = len(response) // 2
    return filtered[half : half + len(channel)]


def _median_around(energy: Floats) -> Floats:
    """Median of the frames on either side of each one, itself left out; of what there is at the ends."""
    side, median = CLICK_SIDE_FRAMES, energy.copy()  # a frame that is alone is no click
    for at in range(len(energy)):
        if at < side or at >= len(energy) - side:
            around = np.delete(energy[max(at - side, 0) : at + side + 1], min(at, side))
            median[at] = np.median(around) if around.size else energy[at]
    for begin in range(side, len(energy) - side, 10_000):  # 8 MB at a time
        windows = np.lib.stride_tricks.sliding_window_view(
            energy[begin - side : begin + 10_000 + side], 2 * side + 1
        )
        median[begin : begin + len(windows)] = np.median(np.delete(windows, side, axis=1), axis=1)
    return median


def _a_weight(frequency_hz: Floats) -> Floats:
    """Gain of the A curve, IEC 61672-1 annex E, 1 at 1 kHz."""
    f = frequency_hz**2
    gain = (
        f**2
        * 12194.217**2
        / ((f + 20.598997**2) * np.sqrt((f + 107.65265**2) * (f + 737.86223**2)) * (f + 12194.217**2))
    )
    return np.asarray(gain * 10 ** (2.0 / 20), np.float64)
