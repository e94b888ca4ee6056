"""The inverse of the `stft` grid, DarkGAN's own: what the generator put out becomes a sample that a voice can loop.

Channel 0 is the natural logarithm of the magnitude, channel 1 the instantaneous frequency in radians a hop (the phase,
unwrapped along time and differenced; the first frame has the phase itself); bin 0 is left out. The transform is
centred, its window a Hann. Source: Nistal, Lattner and Richard, ISMIR 2021. The forward grid is `train.stft`.

A training note is faded out over its last 30 %, so what is held is looped before that, at matched phase: the two ends
of the loop are where the waveform resembles itself most, and the last moments of the loop fade into what comes before
its beginning, so that the jump back is not heard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.partials import HEARD_SHARE, MOST_RAISED_DB, nominal_hz
from device.recording import pitch_cents

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

NEPER_DB = 20 / math.log(10)  # of one unit of channel 0
# ln: no bin of a note within full scale has more than the sum of the window, fft_samples / 2, and the rest is room for
# error; it keeps exp from overflowing.
LARGEST_LOG = 20.0
VOICES_RATE_HZ = 48_000
FADED_SHARE = 0.3  # of a training note, at its end, that is faded out
SILENCE = 10 ** (-180 / 20)
LOUDEST_S = 0.03  # how long the loudest moment is, which is brought to RMS 1
# Training notes keep the level they were recorded at. The loudest 30 ms of the 60 NSynth notes have RMS -13 to -4 dB,
# the median -8; what is MOST_RAISED_DB fainter than that is meant to be faint.
USUAL_DB = -8.0
MOST_GAIN_DB = MOST_RAISED_DB - USUAL_DB

SWOLLEN_DB = 3.0  # a note has swollen when it is this far under its loudest moment
GUARD_SAMPLES = 64  # that go on after the loop's end as they do after its beginning; a reader needs 16
# Before the end of the loop: from here on it is the beginning that is heard, for a reader's taps look back as well.
LOOK_BACK_SAMPLES = 32
EARLIEST = 0.25  # of the note: where a loop may begin; the attack is over
LATEST = 0.45  # and where it may in any case, if the note swells until then
# One window of the transform reaches over the point where the fade begins, and is half as loud half-way.
FADE_MARGIN = 0.25  # of the window
ENDS = 6  # places that are tried as the loop's end
ENDS_FROM = 0.7  # of the way from the earliest beginning to the last end: where these places begin
MATCHED_S, MATCHED_PERIODS = 0.03, 4.0  # what has to look alike at both ends, the longer of the two
CROSSFADE_S = 0.04
# Of a loop, the longer of the two where there is room; a shorter one is a still picture of the note.
SHORTEST_S, SHORTEST_PERIODS = 0.1, 8
# How much worse a match may be for a loop of twice the length. On the 60 NSynth notes, six bands of a note vary by
# 1.05 dB; held, by 1.02. With .02, one flutters by 2.6 dB more than it did; with .1, all do, by .3.
LONGER = 0.03
# Of a period: how far from a whole number of them a loop may be long, as vibrato sways (27 periods 12 cents sharp are
# .19 more). Correlation has the rest to say; of a note with a strong octave, it says little about the fundamental.
WHOLE = 0.25
SLOPE_POINTS = 32  # through which a slope is laid
# What is struck still falls when the attack has been over for a while, by this share of its slope or more; after an
# accent, or on a beat, it does not. Of the 60 notes, the struck ones have a third or more, the others rise.
STILL_FALLS = 0.25
MOST_LEVELLED_DB = 24.0  # more would be noise
TUNED_CENTS = 50.0  # further from the pitch asked for, the note is not that pitch


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
    def samples(self) -> int:
        """Length of a note: 16383 for the paper's grid; a looped sample is never longer."""
        return self.frames * self.hop_samples - 1

    @property
    def limit_hz(self) -> float:
        """No partial is above it."""
        return self.sample_rate_hz / 2

    @property
    def heard_hz(self) -> float:
        """What nothing is above that is played at any pitch: samples go up with it, as far as voices let them."""
        return HEARD_SHARE * VOICES_RATE_HZ


@dataclass(frozen=True)
class _Loop:
    """A stretch of a note whose two ends look alike."""

    end: int
    samples: float  # its length
    alike: float  # correlation of the waveform at both ends, 1 for the same


@dataclass(frozen=True)
class NoteSamples:
    """One note, ready to be held for any time.

    ``samples`` (n,) float32, mono, RMS 1 in the loudest 30 ms; played once up to ``loop_end`` and then from
    ``loop_start`` on, round and round (both in samples, ``loop_end`` with fractions), falling by ``decay_db_per_s``
    (<= 0, taken out of the samples) from ``loop_start`` on. GUARD_SAMPLES follow ``loop_end`` as they follow
    ``loop_start``. ``f0_hz`` is what it sounds at, played at ``sample_rate_hz``. A note that cannot be looped (silent,
    or shorter than a few periods) has both ends of the loop at n and is over there.
    """

    samples: Array
    sample_rate_hz: float
    f0_hz: float
    loop_start: float
    loop_end: float
    decay_db_per_s: float


def decode_samples(output: npt.NDArray[np.floating], grid: Stft, pitch_midi: float) -> NoteSamples:
    """Turn the generator's output for a pitch into a sample that can be held.

    ``output``: (2, bins, frames) or (1, 2, bins, frames), [0] ln magnitude, clipped to LARGEST_LOG, [1] radians a hop.
    ``pitch_midi``: what it was asked for; the pitch that it came out with is measured within TUNED_CENTS of that.
    Raises DarkrackError where the shape is another or a value is not finite.
    """
    audio = invert(output, grid)
    rate_hz = float(grid.sample_rate_hz)
    f0_hz = nominal_hz(pitch_midi)
    if np.abs(audio).max() > SILENCE:
        f0_hz = _tuned_hz(audio[round(EARLIEST * len(audio)) : _last_end(grid)], rate_hz, f0_hz)
        loop = _best_loop(audio, grid, rate_hz / f0_hz)
        if loop is not None:
            return _looped(audio, grid, loop, f0_hz)
    whole = (audio * _gain(audio, rate_hz)).astype(np.float32)
    return NoteSamples(whole, rate_hz, f0_hz, float(len(whole)), float(len(whole)), 0.0)


def invert(output: npt.NDArray[np.floating], grid: Stft) -> Floats:
    """The audio of a grid, (grid.samples,) float64, as loud as it is; arguments and errors as `decode_samples`."""
    shape = (2, grid.bins, grid.frames)
    where = "bundle output 'frames'"
    if output.shape not in (shape, (1, *shape)):
        raise DarkrackError(where, f"shape {shape}", str(output.shape), "export the bundle again")
    planes = output.reshape(shape).astype(np.float64)
    wrong = np.argwhere(~np.isfinite(planes))
    if len(wrong):
        channel, row, frame = wrong[0]
        raise DarkrackError(
            where,
            f"finite {('log magnitude', 'frequency')[channel]}",
            f"{planes[channel, row, frame]} in row {row}, frame {frame} ({len(wrong)} in all)",
            "run `darkrack bundle verify` on the bundle",
        )
    phase = np.cumsum(planes[1], axis=1)
    spectrum = np.zeros((grid.frames, grid.bins + 1), np.complex128)  # bin 0 stays 0
    spectrum[:, 1:] = (np.exp(np.minimum(planes[0], LARGEST_LOG)) * np.exp(1j * phase)).T
    window = hann(grid.fft_samples)
    pieces = np.fft.irfft(spectrum, grid.fft_samples) * window
    # Weighted overlap and add (Griffin and Lim 1984): the least squares estimate, exact for a grid of real audio.
    total = np.zeros(grid.frames * grid.hop_samples + grid.fft_samples)
    weight = np.zeros_like(total)
    for frame, piece in enumerate(pieces):
        begin = frame * grid.hop_samples
        total[begin : begin + grid.fft_samples] += piece
        weight[begin : begin + grid.fft_samples] += window**2
    half = grid.fft_samples // 2
    audio: Floats = total[half : half + grid.samples] / np.maximum(weight[half : half + grid.samples], 1e-3)
    return audio


def full_scale_log(grid: Stft) -> float:
    """Channel 0 of a sine of full scale in the middle of a bin: half of the window's sum, ln."""
    return math.log(grid.fft_samples / 4)


def hann(samples: int) -> Floats:
    """The window of the grid, periodic."""
    window: Floats = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    return window


def _tuned_hz(audio: Floats, rate_hz: float, expected_hz: float) -> float:
    """The pitch of a stretch, where it is near what is expected; else that."""
    cents = pitch_cents(audio, rate_hz, expected_hz) if len(audio) else math.nan
    return expected_hz * 2 ** (cents / 1200) if abs(cents) <= TUNED_CENTS else expected_hz


def _gain(played: Floats, rate_hz: float) -> float:
    """What brings the loudest moment of what is played to RMS 1, or as near as a faint note may come."""
    energy = np.concatenate([[0.0], np.cumsum(played**2)])
    moment = min(max(round(LOUDEST_S * rate_hz), 1), len(played))
    loudest = math.sqrt(max(float((energy[moment:] - energy[:-moment]).max()) / moment, 0.0))
    return min(1 / max(loudest, SILENCE), 10 ** (MOST_GAIN_DB / 20))


def _last_end(grid: Stft) -> int:
    """The last sample that a loop may use: so far before the fade that none of it is heard."""
    return max(int((1 - FADED_SHARE) * grid.samples - FADE_MARGIN * grid.fft_samples), 0)


def _settled(audio: Floats, grid: Stft) -> int:
    """Where the note has swollen to its level, and a loop may begin."""
    moment = max(round(LOUDEST_S * grid.sample_rate_hz), 1)
    power = np.convolve(audio[: _last_end(grid)] ** 2, np.ones(moment), "same")
    swollen = int(np.argmax(power > power.max() * 10 ** (-SWOLLEN_DB / 10))) if len(power) else 0
    return min(max(swollen, round(EARLIEST * len(audio))), round(LATEST * len(audio)))


def _best_loop(audio: Floats, grid: Stft, period: float) -> _Loop | None:
    """The two ends at which the waveform looks most alike, periods apart; None if there is no room."""
    half = round(max(MATCHED_S * grid.sample_rate_hz, MATCHED_PERIODS * period) / 2)
    last = _last_end(grid) - half
    if last < half:
        return None
    earliest = _settled(audio, grid)
    shortest = round(max(SHORTEST_PERIODS * period, SHORTEST_S * grid.sample_rate_hz))
    first = max(round(earliest + ENDS_FROM * (last - earliest)), earliest + shortest)
    if first > last or earliest < max(half, LOOK_BACK_SAMPLES):
        return None
    energy = np.concatenate([[0.0], np.cumsum(audio**2)])
    best, best_score = None, -math.inf
    for end in np.unique(np.linspace(first, last, ENDS).astype(np.int64)):
        piece = audio[end - half : end + half]
        lags = np.arange(shortest, end - earliest + 1)
        begins = end - half - lags
        # Correlation with everything before it: one transform in place of thousands of products.
        past = audio[begins[-1] : end + half]
        size = 1 << (len(past) + len(piece) - 1).bit_length()
        product = np.fft.irfft(np.fft.rfft(past, size) * np.conj(np.fft.rfft(piece, size)), size)
        power = (energy[begins + 2 * half] - energy[begins]) * float(piece @ piece)
        alike = product[begins - begins[-1]] / np.sqrt(np.maximum(power, 1e-20))
        turns = lags / period
        whole = np.abs(turns - np.rint(turns)) <= max(WHOLE, 0.75 / period)
        score = np.where(whole, alike + LONGER * np.log2(lags / shortest), -np.inf)
        at = int(np.argmax(score))
        if score[at] > best_score:
            best_score = float(score[at])
            best = _Loop(int(end), float(lags[at]) + _beyond(alike, at), float(alike[at]))
    return best


def _beyond(curve: Floats, peak: int) -> float:
    """How far beyond a point the curve has its maximum: that of the parabola through three."""
    if not 0 < peak < len(curve) - 1:
        return 0.0
    left, middle, right = curve[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _looped(audio: Floats, grid: Stft, loop: _Loop, f0_hz: float) -> NoteSamples:
    """Level the loop, fade its end into what comes before its beginning, and cut the note after the guard."""
    begin, rate_hz = loop.end - round(loop.samples), float(grid.sample_rate_hz)
    level, decay = _levelled(audio, grid, begin, loop.end)
    loop_end = begin + loop.samples
    stop = math.ceil(loop_end) + GUARD_SAMPLES
    level, earlier = (
        np.pad(level, (0, max(stop - len(level), 0)))[:stop],
        _delayed(level, loop.samples)[:stop],
    )
    fade = min(CROSSFADE_S * rate_hz, loop.samples - 2 * LOOK_BACK_SAMPLES, begin - LOOK_BACK_SAMPLES)
    way = (np.arange(stop) - (loop_end - LOOK_BACK_SAMPLES - fade)) / max(fade, 1.0)
    into = 0.5 - 0.5 * np.cos(np.pi * np.clip(way, 0.0, 1.0))
    # As loud all along as the two sound together: waveforms that are alike add up, others only their powers do.
    together = np.sqrt((1 - into) ** 2 + into**2 + 2 * max(loop.alike, 0.0) * into * (1 - into))
    samples = ((1 - into) * level + into * earlier) / together
    since_s = np.maximum(np.arange(stop) - begin, 0) / rate_hz
    samples *= _gain(samples * 10 ** (decay * since_s / 20), rate_hz)
    # Vibrato sways, and a loop may hold a moment of it: the pitch is that of a second of the loop.
    second = np.interp(begin + np.arange(rate_hz) % loop.samples, np.arange(stop), samples)
    f0_hz = _tuned_hz(second, rate_hz, f0_hz)
    return NoteSamples(samples.astype(np.float32), rate_hz, f0_hz, float(begin), float(loop_end), decay)


def _delayed(audio: Floats, samples: float) -> Floats:
    """The audio so many samples later, with fractions: a straight phase, exact for what is band-limited."""
    size = 1 << (2 * len(audio)).bit_length()
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * samples)
    delayed: Floats = np.fft.irfft(np.fft.rfft(audio, size) * turn, size)
    return delayed


def _levelled(audio: Floats, grid: Stft, begin: int, end: int) -> tuple[Floats, float]:
    """The audio with a loop of one level, and what a held note keeps falling by, dB / s.

    A slow curve is taken out of the loop: the jump back is level, and tremolo stays. Struck or held by the rule for
    note frames (`device.decoding`), over all that may be looped, because a short loop can sit on a beat; but a note
    that no longer falls at the end is not struck, and one that falls ever slower goes on as slowly. So the levels of
    the 60 NSynth notes after 1.5 s are 4.7 dB from what they were on average, in place of 5.6.
    """
    # numba, for which whoever only reads a manifest need not wait
    from device.decoding import FADED_DB, STEEPEST_DB_PER_S, STRUCK_BEGIN_S, STRUCK_END_S, SUSTAINED_DB_PER_S

    rate_hz = grid.sample_rate_hz
    moment = max(round(LOUDEST_S * rate_hz), 2)
    energy = np.concatenate([[0.0], np.cumsum(audio**2)])

    def level_db(first: float, last: float) -> Floats:
        """Of SLOPE_POINTS moments between two samples."""
        centres = np.linspace(first, last, SLOPE_POINTS).astype(np.int64)
        low = np.clip(centres - moment // 2, 0, len(audio) - moment)
        decibels: Floats = 10 * np.log10(np.maximum((energy[low + moment] - energy[low]) / moment, 1e-20))
        return decibels

    def slope_db_per_s(first: float, last: float) -> float:
        return float(
            np.polyfit(np.linspace(first, last, SLOPE_POINTS) / rate_hz, level_db(first, last), 1)[0]
        )

    curve = np.polynomial.Polynomial.fit(np.linspace(-1, 1, SLOPE_POINTS), level_db(begin, end), 3)
    at = np.clip(2 * (np.arange(len(audio)) - begin) / (end - begin) - 1, -1, 1)
    trend_db = np.clip(curve(at) - curve(-1.0), -MOST_LEVELLED_DB, MOST_LEVELLED_DB)
    level = audio * 10 ** (-trend_db / 20)

    settled, last = EARLIEST * len(audio), float(_last_end(grid))
    whole, late = slope_db_per_s(STRUCK_BEGIN_S * rate_hz, last), slope_db_per_s(settled, last)
    ending = slope_db_per_s(settled + (last - settled) / 3, last)
    struck_db = level_db(STRUCK_BEGIN_S * rate_hz, min(STRUCK_END_S * rate_hz, settled)).mean()
    faded = struck_db - level_db(last - (last - settled) / 3, last).mean() > FADED_DB
    decay = max(whole, late)
    if faded:
        decay = max(decay, ending)
        decay = decay if decay < SUSTAINED_DB_PER_S else whole
    elif decay > SUSTAINED_DB_PER_S or ending > STILL_FALLS * decay:
        return level, 0.0
    return level, min(max(decay, STEEPEST_DB_PER_S), 0.0)
