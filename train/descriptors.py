"""The descriptors: a teacher that computes what it says of a note's first second, from published definitions.

Seven classes: Brightness, Attack, Warmth, Roughness, Noisiness, Inharmonicity, Boominess. Each is measured in a
unit of its own (`MEASURES`), then mapped to [0, 1] by where that falls among the reference notes of
`descriptors.json`, so that a Brightness of .7 means "brighter than 70 % of these" in every bundle. What the
teacher returns as a logit is the logit of that share: at T = 1 the soft label is the share itself, and all that
works on a tagger's logits works on these. Level changes none of them: every threshold is relative to the note.

`calibrate(folder)` measures a data set and writes that table; labels made with another table count as another
teacher's. The one here is of FluidR3's melodic programs, MIDI 36 to 84, as `darkrack data soundfont` makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import read_bytes, write_json
from train.attributes import QUANTILES, TAIL
from train.notes import SAMPLE_RATE_HZ, read_audio, read_notes
from train.teacher import HEARD_S, Teacher, check_audio

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

NAME = "descriptors"
VERSION = 1  # raised whenever a measure gives another value for the same note
CALIBRATION = Path(__file__).with_name("descriptors.json")

# The partials of MIDI 36 are 65.4 Hz apart, and the noise is seen between them: a main lobe must be narrower.
_WINDOW = SAMPLE_RATE_HZ // 4  # four-term Blackman-Harris: its main lobe reaches 4 / .25 s = 16 Hz either way
_HOP = _WINDOW // 4
_FFT = 16384
_BIN_HZ = SAMPLE_RATE_HZ / _FFT  # 2.93 Hz
_TOP_BIN = round(16_000 / _BIN_HZ)  # the grid and the other teachers hear no higher

_BANDS_CAM = np.arange(1.5, 39.6, 0.5)  # 40 Hz to 15.7 kHz on the ERB-rate scale
_FLOOR = 1e-6  # 60 dB under the loudest band: there masked, and different in every sampler
_PARTIAL_FLOOR = 1e-4  # 40 dB under the strongest
_PARTIALS = 48  # most that are looked at

LEAST_NOTES = 1000  # of a calibration: its outer quantiles are the .005 and .995


@dataclass(frozen=True)
class Sound:
    """A note's first second as the measures see it; `analyse` makes it.

    ``power`` (bins,) is the mean power spectrum up to 16 kHz in bins of 2.93 Hz, the attack included;
    ``steady`` (bins,) the same of the windows that lie wholly within the second, which see no onset at an edge.
    ``partials_hz`` and ``partials`` (P,) are frequencies and amplitudes (the strongest has 1) of its partials,
    ``f0_hz`` its fundamental. ``envelope`` (501,) is the amplitude every 2 ms, from silence on.
    """

    power: Doubles
    steady: Doubles
    partials_hz: Doubles
    partials: Doubles
    f0_hz: float
    envelope: Doubles


def analyse(audio: npt.NDArray[np.floating], sample_rate_hz: int) -> Sound:
    """What the measures need of one note, ``audio`` (samples,) of any level and length: the first second counts.

    Silence has no partials. Raises DarkrackError for audio that is empty, not finite, or of an impossible rate.
    """
    from scipy.fft import rfft

    check_audio(np.asarray(audio)[None], sample_rate_hz)
    if sample_rate_hz != SAMPLE_RATE_HZ:
        import soxr

        audio = soxr.resample(audio[:sample_rate_hz], sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    # The first window is centred on the beginning.
    second = np.zeros(_WINDOW // 2 + SAMPLE_RATE_HZ, np.float32)
    kept = np.asarray(audio[:SAMPLE_RATE_HZ], np.float32)
    second[_WINDOW // 2 :][: len(kept)] = kept / max(float(np.abs(kept).max(initial=0.0)), 1e-30)

    frames = np.lib.stride_tricks.sliding_window_view(second, _WINDOW)[::_HOP]
    spectrum = rfft(frames * _window(), _FFT)
    powers = spectrum.real**2 + spectrum.imag**2
    steady = powers[2:].mean(axis=0, dtype=np.float64)  # two hops are half a window
    partials_hz, partials = _partials(steady[:_TOP_BIN])
    return Sound(
        powers.mean(axis=0, dtype=np.float64)[:_TOP_BIN],
        steady[:_TOP_BIN],
        partials_hz,
        partials,
        _fundamental_hz(steady, partials_hz, partials),
        _envelope(second[_WINDOW // 2 :]),
    )


def brightness(sound: Sound) -> float:
    """How far the spectral centroid lies above f0, both on the ERB-rate scale, in Cams.

    The centroid of the Timbre Toolbox's ERB bands by partial loudness (Peeters, Giordano, Susini, Misdariis &
    McAdams, JASA 130, 2011), less f0: listeners compare the brightness of notes of different pitch so
    (Marozeau & de Cheveigné, JASA 121, 2007, "a corrective factor dependent on F0"). The centroid alone says mostly
    which key was pressed: on FluidR3 its normal scores correlate with pitch by .78, these by -.18.
    """
    loudness = _partial_loudness(sound)
    centroid_cam = (_BANDS_CAM * loudness).sum() / max(loudness.sum(), 1e-30)
    return float(centroid_cam - 21.4 * np.log10(1 + 0.00437 * sound.f0_hz))


def attack(sound: Sound) -> float:
    """Log attack time, log10 of seconds: more is slower, as on a synthesizer's envelope.

    From the envelope's crossings of 10, 20 ... 90 % of its maximum by the weakest-effort method: steps that take
    over three times the mean are no part of the attack (Peeters et al. 2011, who go to 100 %; but the very
    maximum of a held note may come anywhere).
    """
    highest = float(sound.envelope.max())
    if highest <= 0.0:
        return _SWIFTEST_LOG_S
    levels = np.linspace(0.1, 0.9, 9)
    after = np.argmax(sound.envelope >= levels[:, None] * highest, axis=1)
    low, high = sound.envelope[after - 1], sound.envelope[after]  # the envelope begins with silence
    crossed_s = (after - (high - levels * highest) / (high - low)) * _ENVELOPE_STEP / SAMPLE_RATE_HZ
    effort = np.diff(crossed_s)
    swift = np.flatnonzero(effort <= 3 * effort.mean())
    return float(np.log10(crossed_s[swift[-1] + 1] - crossed_s[swift[0]]))


def warmth(sound: Sound) -> float:
    """How far the energy up to 3.5 f0 lies over the energy above, in dB within 60 either way.

    The "warmth region", in which the first three harmonics lie, of the AudioCommons timbral models (Pearce,
    Brookes & Mason, deliverables D5.2 to D5.8, 2017 to 2019), there as a share of all energy.
    """
    edge = min(round(3.5 * sound.f0_hz / _BIN_HZ), _TOP_BIN)
    below, above = float(sound.power[:edge].sum()), float(sound.power[edge:].sum())
    least = _FLOOR * (below + above) + 1e-30
    return float(10 * np.log10((below + least) / (above + least)))


def roughness(sound: Sound) -> float:
    """Vassilakis's roughness of all pairs of partials, those under -40 dB left out; amplitudes from 0 to 1.

    P. N. Vassilakis, "Perceptual and physical properties of amplitude fluctuation and their musical
    significance", dissertation, UCLA 2001: for each pair X^.1 / 2 * Y^3.11 * Z with X = A1 A2,
    Y = 2 A2 / (A1 + A2), A2 the smaller, Z = exp(-3.5 s d) - exp(-5.75 s d), d their distance in Hz and
    s = .24 / (.0207 f1 + 18.96), f1 the lower frequency.
    """
    hz, amplitude = sound.partials_hz, sound.partials
    first, second = np.triu_indices(len(hz), 1)
    weak = np.minimum(amplitude[first], amplitude[second])
    product, fluctuation = (
        amplitude[first] * amplitude[second],
        2 * weak / (amplitude[first] + amplitude[second]),
    )
    apart = 0.24 / (0.0207 * hz[first] + 18.96) * (hz[second] - hz[first])
    pairs = product**0.1 / 2 * fluctuation**3.11 * (np.exp(-3.5 * apart) - np.exp(-5.75 * apart))
    return float(pairs.sum())


def noisiness(sound: Sound) -> float:
    """The share of noise in all energy, in dB (0 is all noise, -80 the least that is told apart).

    The noisiness of Peeters et al. (2011), energy that is in no partial over all energy. Noise is seen between
    the partials: in each band of 200 Hz the quietest fifth of the spectrum says how much there is everywhere
    in it (after R. Martin's minimum statistics, IEEE Trans. Speech and Audio Processing 9, 2001).
    """
    width = round(200 / _BIN_HZ)
    bands = sound.steady[: len(sound.steady) // width * width].reshape(-1, width)
    floor = np.partition(bands, width // 5, axis=1)[:, width // 5]
    # The quietest fifth of an average over so few windows lies at about .6 of its mean.
    noise = float(floor.sum()) * width / 0.6
    return float(10 * np.log10(min(noise / max(float(sound.steady.sum()), 1e-30), 1.0) + 1e-8))


def inharmonicity(sound: Sound) -> float:
    """How far partials lie from multiples of f0, weighted by energy: 0 on them, 1 halfway between.

    Peeters et al. (2011): 2 / f0 * sum(|f_k - k f0| a_k^2) / sum(a_k^2), each partial taken with its nearest k.
    """
    if not len(sound.partials):
        return 0.0
    number = np.maximum(np.round(sound.partials_hz / sound.f0_hz), 1.0)
    off = np.minimum(2 * np.abs(sound.partials_hz / sound.f0_hz - number), 1.0)
    return float((off * sound.partials**2).sum() / (sound.partials**2).sum())


def boominess(sound: Sound) -> float:
    """The booming index: partial loudness under 280 Hz over all loudness, lower bands weighing more.

    S. Hatano & T. Hashimoto, "Booming index as a measure for evaluating booming sensation", Inter-Noise 2000,
    as the AudioCommons timbral models have it: band i of the third octaves from 25 Hz on weighs
    2.13 exp(-.151 i). Here the bands are those of `brightness` and nothing depends on level. A high note cannot
    boom: on FluidR3 the normal scores correlate with pitch by -.77.
    """
    loudness = _partial_loudness(sound)
    hz = _band_hz()
    third_octave = 1 + 3 * np.log2(hz / 25)
    weight = np.where(hz < 280, 2.13 * np.exp(-0.151 * third_octave), 0.0)
    return float((weight * loudness).sum() / max(loudness.sum(), 1e-30))


MEASURES: dict[str, Callable[[Sound], float]] = {
    "Brightness": brightness,
    "Attack": attack,
    "Warmth": warmth,
    "Roughness": roughness,
    "Noisiness": noisiness,
    "Inharmonicity": inharmonicity,
    "Boominess": boominess,
}
CLASSES = tuple(MEASURES)


def measure(audio: npt.NDArray[np.floating], sample_rate_hz: int) -> Doubles:
    """The seven raw values (7,) of one note, each in its measure's own unit, in the order of `CLASSES`."""
    sound = analyse(audio, sample_rate_hz)
    return np.array([one(sound) for one in MEASURES.values()])


# --- what analyse is made of -----------------------------------------------------------------------------

_ENVELOPE_STEP = SAMPLE_RATE_HZ // 500  # 2 ms
_ENVELOPE_SMOOTH = 16  # of these steps: 32 ms of a Hann window, which has a zero at 2 / .032 = 62.5 Hz
_SWIFTEST_LOG_S = -1.9  # what the smoothing makes of a step; silence has it too


def _envelope(second: Floats) -> Doubles:
    """RMS every 2 ms, smoothed by a Hann window of 32 ms that lets no period of MIDI 36 through; 0 at first."""
    hann = np.sin(np.pi * (np.arange(_ENVELOPE_SMOOTH) + 0.5) / _ENVELOPE_SMOOTH) ** 2
    power = (second.reshape(-1, _ENVELOPE_STEP).astype(np.float64) ** 2).mean(axis=1)
    smooth = np.convolve(power, hann / hann.sum())[: len(power)]
    return np.concatenate([[0.0], np.sqrt(smooth)])


def _partials(power: Doubles) -> tuple[Doubles, Doubles]:
    """Frequencies, rising, and amplitudes of the peaks of a power spectrum, the strongest of them 1."""
    from scipy.ndimage import maximum_filter1d

    strongest = power.max()
    if strongest <= 0.0:
        return np.empty(0), np.empty(0)
    # A main lobe is 11 bins wide: of two partials within 4 bins, 12 Hz, there is one peak.
    highest = (power >= maximum_filter1d(power, 9)) & (power > _PARTIAL_FLOOR * strongest)
    peaks = np.flatnonzero(highest[1:-1]) + 1
    peaks = np.sort(peaks[np.argsort(-power[peaks], kind="stable")[:_PARTIALS]])
    left, middle, right = (np.log(np.maximum(power[peaks + n], 1e-30)) for n in (-1, 0, 1))
    bend = left - 2 * middle + right
    offset = np.where(bend < 0, 0.5 * (left - right) / np.minimum(bend, -1e-12), 0.0)
    amplitudes: Doubles = np.sqrt(np.exp(middle - 0.25 * (left - right) * offset))
    partials_hz: Doubles = np.asarray((peaks + offset) * _BIN_HZ, np.float64)
    return partials_hz, amplitudes / max(amplitudes.max(initial=0.0), 1e-30)


_LONGEST_LAG = SAMPLE_RATE_HZ // 40
_SHORTEST_LAG = SAMPLE_RATE_HZ // 2400
_OCTAVE_COST = 0.06  # then 98.8 % of FluidR3's notes have the f0 of notes.csv, .7 % are an octave low
_PITCH_BINS = round(5000 / _BIN_HZ)  # what lies higher has more noise and, in strings, stretched partials


def _fundamental_hz(power: Doubles, partials_hz: Doubles, partials: Doubles) -> float:
    """f0 within 40 and 2400 Hz: the autocorrelation proposes, the ten lowest partials refine.

    P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
    sampled sound", IFA Proceedings 17, 1993: autocorrelation over the window's own, a little off for each octave
    further down.
    """
    from scipy.fft import irfft

    if not len(partials):
        return 40.0
    lags = np.arange(1, _LONGEST_LAG + 2)
    correlation = irfft(np.where(np.arange(len(power)) < _PITCH_BINS, power, 0.0))[: len(lags) + 1]
    similarity = correlation[1:] / correlation[0] / _window_similarity() - _OCTAVE_COST * np.log2(lags)
    left, middle, right = similarity[:-2], similarity[1:-1], similarity[2:]
    peaks = np.flatnonzero((middle >= left) & (middle > right) & (lags[1:-1] >= _SHORTEST_LAG))
    if not len(peaks):
        return float(partials_hz[np.argmax(partials)])
    left, middle, right = left[peaks], middle[peaks], right[peaks]
    offset = 0.5 * (left - right) / (left - 2 * middle + right)
    best = np.argmax(middle - 0.25 * (left - right) * offset)  # between samples a peak is higher
    f0_hz = float(SAMPLE_RATE_HZ / (lags[1:-1][peaks[best]] + offset[best]))
    for _ in range(2):
        number = np.round(partials_hz / f0_hz)
        near = (number >= 1) & (number <= 10) & (np.abs(partials_hz / f0_hz - number) < 0.2)
        weight = partials[near] ** 2
        if not near.any():
            break
        f0_hz = float((weight * partials_hz[near] / number[near]).sum() / weight.sum())
    return f0_hz


@lru_cache(maxsize=1)
def _window() -> Floats:
    from scipy.signal.windows import blackmanharris

    return np.asarray(blackmanharris(_WINDOW, sym=False), np.float32)


@lru_cache(maxsize=1)
def _window_similarity() -> Doubles:
    """The window's own autocorrelation at lags 1 to the longest and one more."""
    window = _window().astype(np.float64)
    lags = range(1, _LONGEST_LAG + 2)
    return np.array([window[lag:] @ window[:-lag] for lag in lags]) / (window @ window)


def _band_hz() -> Doubles:
    """Centres of the bands, by the ERB-rate scale 21.4 log10(1 + .00437 f) of Glasberg & Moore (1990)."""
    hz: Doubles = (10 ** (_BANDS_CAM / 21.4) - 1) / 0.00437
    return hz


@lru_cache(maxsize=1)
def _band_filters() -> Doubles:
    """(bins, bands): rounded-exponential filters, (1 + p g) exp(-p g), g = |f - fc| / fc, p = 4 fc / ERB.

    Glasberg & Moore, "Derivation of auditory filter shapes from notched-noise data", Hearing Research 47, 1990:
    ERB = 24.7 (.00437 f + 1).
    """
    hz = _band_hz()
    slope = 4 * hz / (24.7 * (0.00437 * hz + 1))
    reach = slope * np.abs(np.arange(_TOP_BIN)[:, None] * _BIN_HZ / hz - 1)
    filters: Doubles = (1 + reach) * np.exp(-reach)
    return filters


def _partial_loudness(sound: Sound) -> Doubles:
    """Excitation (bands,) to the power 1/4, the Timbre Toolbox's partial loudness, nothing at the floor."""
    excitation = sound.power @ _band_filters()
    floor = _FLOOR * excitation.max() + 1e-30
    loudness: Doubles = (excitation + floor) ** 0.25 - floor**0.25
    return loudness


# --- from raw values to a teacher ------------------------------------------------------------------------

_OUTER = 4  # steps of the table, an eighth of it: its slope there is how labels go on beyond the end
_BEYOND = 4.0  # logits that they can go on by: from .995 at the end to .9999


def hear_seconds(second: Floats) -> tuple[Floats, Floats]:
    """Logits and embeddings, both (B, 7) float32, of ``second`` (B, 48000) at 48 kHz.

    The sigmoid of a logit is the share of the reference notes that have less. The embedding is the normal score
    Phi^-1(share): each coordinate is standard normal over the reference, as a Fréchet distance takes it to be.
    """
    from scipy.special import expit, ndtri

    raw = np.array([measure(one, SAMPLE_RATE_HZ) for one in second])
    logits = np.stack([_logit_of(raw[:, n], table) for n, table in enumerate(_tables(CALIBRATION))], axis=1)
    return logits.astype(np.float32), ndtri(expit(logits)).astype(np.float32)


def load() -> Teacher:
    """The teacher; DarkrackError where its calibration is missing or damaged."""
    _tables(CALIBRATION)
    digest = hashlib.sha256(f"{NAME} {VERSION} ".encode() + read_bytes(CALIBRATION, _CALIBRATION_IS))
    return Teacher(
        name=NAME,
        classes=CLASSES,
        sample_rate_hz=SAMPLE_RATE_HZ,
        embedding_size=len(CLASSES),
        weights_sha256=digest.hexdigest(),
        official=True,
        front_end=lambda second: second,
        infer=hear_seconds,
    )


def calibrate(folder: Path, path: Path = CALIBRATION) -> None:
    """Measure the notes of a data set that are in tune, MIDI 36 to 84, and write their quantiles to ``path``.

    The 33 probabilities are those of `train.attributes.quantile_table`. Raises DarkrackError below
    1000 notes.
    """
    notes = [note for note in read_notes(folder) if note.check == "ok" and 36 <= note.pitch <= 84]
    if len(notes) < LEAST_NOTES:
        raise DarkrackError(
            str(folder), f"at least {LEAST_NOTES} notes in tune, MIDI 36 to 84", str(len(notes))
        )
    raw = np.array(
        [
            measure(read_audio(folder, note, HEARD_S), note.sample_rate)
            for note in tqdm(notes, "measuring", unit="note", disable=None)
        ]
    )
    table = np.quantile(raw, _probabilities(), axis=0).T
    quantiles = {
        name: [float(f"{value:.6g}") for value in row] for name, row in zip(CLASSES, table, strict=True)
    }
    write_json(path, {"version": VERSION, "notes": len(notes), "quantiles": quantiles})


_CALIBRATION_IS = "the descriptors' calibration, 33 quantiles of each"

# Raw values that rise strictly, and the logit of the share of notes that have less.
_Table = tuple[Doubles, Doubles]


def _logit_of(raw: Doubles, table: _Table) -> Doubles:
    """Straight between the entries; beyond the ends on with the slope there, levelling off after 4 logits."""
    values, logits = table
    outer = min(_OUTER, len(values) - 1)
    slope_below = (logits[outer] - logits[0]) / (values[outer] - values[0])
    slope_above = (logits[-1] - logits[-1 - outer]) / (values[-1] - values[-1 - outer])
    beyond = slope_below * np.minimum(raw - values[0], 0) + slope_above * np.maximum(raw - values[-1], 0)
    logit: Doubles = np.interp(raw, values, logits) + _BEYOND * np.tanh(beyond / _BEYOND)
    return logit


@lru_cache(maxsize=4)
def _tables(path: Path) -> tuple[_Table, ...]:
    """The table of each class; equal quantiles become one entry, in the middle of their probabilities."""
    hint = "get the file back from the repository, or make it again with train.descriptors.calibrate"
    try:
        content = json.loads(read_bytes(path, _CALIBRATION_IS, hint))
        written = np.array([content["quantiles"][name] for name in CLASSES], np.float64)
        version = content["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DarkrackError(str(path), _CALIBRATION_IS, repr(error), hint) from error
    if version != VERSION or written.shape != (len(CLASSES), QUANTILES):
        got = f"version {version}, {written.shape}"
        raise DarkrackError(
            str(path), f"version {VERSION}, {len(CLASSES)} x {QUANTILES} quantiles", got, hint
        )
    tables = []
    for name, row in zip(CLASSES, written, strict=True):
        values, place = np.unique(row, return_inverse=True)
        if not np.isfinite(row).all() or (np.diff(row) < 0).any() or len(values) < 2:
            raise DarkrackError(f"{path}: {name}", "finite quantiles that rise", "others", hint)
        share = np.bincount(place, _probabilities()) / np.bincount(place)
        tables.append((values, np.log(share / (1 - share))))
    return tuple(tables)


def _probabilities() -> Doubles:
    probabilities: Doubles = TAIL + (1 - 2 * TAIL) * np.linspace(0.0, 1.0, QUANTILES)
    return probabilities
