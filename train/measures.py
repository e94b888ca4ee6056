"""The mathematics of the judge: distances, scores and correlations of arrays, each with its 95 % interval.

Nothing here knows of notes or voices. ``groups`` (N,) are whole numbers that say which instrument a row belongs to:
notes of one instrument are alike, so where they are given, intervals leave out or redraw whole instruments. Where
there is only one, its notes are redrawn, and the interval speaks of that instrument alone. Wherever something is
empty, NaN or of the wrong shape, DarkrackError names the measure.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.recording import pitch_cents

Numbers = npt.NDArray[np.floating] | npt.NDArray[np.bool_] | npt.NDArray[np.integer]
Groups = npt.NDArray[np.integer]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ENDS = (0.025, 0.975)  # of a 95 % interval
LEAST_ROWS = 20  # of whatever is split into folds or subsets


class Estimate(NamedTuple):
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Diversity(NamedTuple):
    """Mean embedding distance of generated pairs, of real pairs, and the first as a share of the second."""

    generated: Estimate
    real: Estimate
    share: Estimate


# --- means and medians -----------------------------------------------------------------------------------


def bootstrap(
    values: Numbers, random: np.random.Generator, groups: Groups | None = None, draws: int = 2000
) -> Estimate:
    """Mean of ``values`` (N,), and the percentiles of means of as many values (or groups) redrawn."""
    values = _doubles("mean", values, 1)
    units = _units("mean", groups, len(values))
    counts = _redrawn(units, random, draws)
    means = counts @ np.bincount(units, values) / (counts @ np.bincount(units))
    return Estimate(float(values.mean()), *_ends(means))


def bootstrap_median(
    values: Numbers, random: np.random.Generator, groups: Groups | None = None, draws: int = 2000
) -> Estimate:
    """Median of ``values`` (N,), and the percentiles of medians of as many values (or groups) redrawn."""
    values = _doubles("median", values, 1)
    units = _units("median", groups, len(values))
    order = np.argsort(values)
    upto = np.cumsum(_redrawn(units, random, draws)[:, units[order]], axis=1)
    middle = np.argmax(upto >= upto[:, -1:] / 2, axis=1)
    return Estimate(float(np.median(values)), *_ends(values[order][middle]))


# --- distances of distributions --------------------------------------------------------------------------


def frechet_distance(a: Numbers, b: Numbers) -> float:
    """Fréchet distance of two Gaussians fitted to embeddings (N, E) (Heusel et al. 2017; FAD: Kilgour et al. 2019).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)), in double precision. Biased upwards at small N (``frechet_unbounded``
    is not), so only distances of equal N compare.
    """
    return _frechet(*_embeddings("Fréchet distance", a, b))


def frechet_unbounded(
    a: Numbers,
    b: Numbers,
    random: np.random.Generator,
    *,
    groups: Groups | None = None,
    groups_a: Groups | None = None,
    folds: int = 10,
) -> Estimate:
    """The Fréchet distance that infinitely many notes would have; ``a`` (N, E) and ``b`` (M, E), 20 rows or more.

    Chong & Forsyth (CVPR 2020) and Gui et al. (ICASSP 2024) fit a line in 1/N to distances of random subsets, and
    take its value at 1/N = 0. Here the subsets are everything, and everything but each of ten random folds, on both
    sides at once; that is also the jackknife's correction of bias, and its error is two thirds of that with halves
    (mn04's embeddings of 8,000 notes). The line holds from N = E on. Below, the bias bends, and the value is that of a
    parabola through N/2 as well. Left over with mn04 (E = 384; two draws of one set, so the truth is 0): .5 of
    3.4 at 100 notes, .1 of 2.0 at 200, under .06 from 300 on. May be negative.

    The interval is that of the delete-a-group jackknife (Student's t): one of ``folds`` parts is left out at a time, on
    both sides at once. Where a parabola was needed, what it changed is added (root of the sum of squares).
    ``groups`` are the instruments of ``b``, ``groups_a`` those of ``a``, numbered alike: parts are then whole
    instruments, one that is on both sides leaves both, and a side without groups is parted at random. So the
    extrapolation asks what more notes of these instruments would give, the interval what other instruments would.
    """
    first, second = _embeddings("Fréchet distance", a, b, LEAST_ROWS)

    def without_each(count: int) -> Doubles:
        return _left_out(
            first,
            second,
            _folds(np.arange(len(first)), count, random),
            _folds(np.arange(len(second)), count, random),
        )

    without = without_each(folds)
    shares, distances = [1.0, 1 - 1 / folds], [_frechet(first, second), float(without.mean())]
    value, bent = _at_infinity(shares, distances), 0.0
    if min(len(first), len(second)) < first.shape[1]:
        halves = np.concatenate([without_each(2), without_each(2)])
        line, value = value, _at_infinity([*shares, 0.5], [*distances, float(halves.mean())])
        bent = value - line
    if groups is not None or groups_a is not None:
        both = _folds_of_both((groups_a, groups), (len(first), len(second)), folds, random)
        without = _left_out(first, second, *both)
    from scipy.stats import t

    count = len(without)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    reach = math.hypot(float(t.ppf(ENDS[1], count - 1)) * error, bent)
    return Estimate(value, value - reach, value + reach)


def kernel_distance(
    a: Numbers, b: Numbers, random: np.random.Generator, subsets: int = 50, largest: int = 500
) -> Estimate:
    """Kernel distance (KID, Binkowski et al. 2018) of embeddings (N, E) and (M, E), by torchmetrics; 20 rows or more.

    Unbiased squared MMD with the kernel (x y / E + 1)^3, mean of ``subsets`` random subsets of half the notes
    (``largest`` at most). May be negative. The interval is the mean and 1.96 standard errors. With subsets of half
    the notes the spread of the subsets is itself the error at N (delete-half jackknife, Shao & Wu 1989);
    subsets of m have sqrt((N - m) / m) times that. Of notes, not of instruments: with other instruments it
    would be wider.
    """
    import torch

    first, second = _embeddings("kernel distance", a, b, LEAST_ROWS)
    fewest = min(len(first), len(second))
    size = min(fewest // 2, largest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all embeddings in memory
        from torchmetrics.image.kid import KernelInceptionDistance

        metric = KernelInceptionDistance(torch.nn.Identity(), subsets, size, degree=3, gamma=None, coef=1.0)
    metric.update(torch.tensor(first), real=True)
    metric.update(torch.tensor(second), real=False)
    with torch.random.fork_rng(devices=[]):  # its subsets come from torch's own generator
        torch.manual_seed(int(random.integers(2**31)))
        mean, spread = (float(one) for one in metric.compute())
    reach = 1.96 * spread * math.sqrt(size / (fewest - size) + 1 / subsets)
    return Estimate(mean, mean - reach, mean + reach)


# --- scores of a classifier ------------------------------------------------------------------------------


def inception_score(
    probabilities: Numbers, random: np.random.Generator, groups: Groups | None = None, draws: int = 2000
) -> Estimate:
    """exp of the mean KL divergence from each row of ``probabilities`` (N, C) to their mean (Salimans et al. 2016).

    1 where all rows are alike, C where they are sure and even over the classes. Over all rows at once, without splits.
    The interval is 1.96 bootstrap standard errors of the logarithm either way: redrawn rows have fewer kinds
    than the rows themselves, so percentiles of redrawn scores would lie below the score.
    """
    measure = "inception score"
    rows = _doubles(measure, probabilities, 2)
    if (rows < 0).any() or not np.allclose(rows.sum(axis=1), 1.0, atol=1e-3):
        raise DarkrackError(measure, "probabilities that sum to 1 in each row", "others")
    from scipy.special import xlogy

    units = _units(measure, groups, len(rows))
    # Mean KL to the mean = mean of sum p ln p, less sum of mean p ln mean p.
    sure = xlogy(rows, rows).sum(axis=1)
    marginal = rows.mean(axis=0)
    score = float(sure.mean() - xlogy(marginal, marginal).sum())
    counts = _redrawn(units, random, draws)
    size = counts @ np.bincount(units)
    marginals = counts @ _by_unit(rows, units) / size[:, None]
    spread = float(np.std(counts @ np.bincount(units, sure) / size - xlogy(marginals, marginals).sum(axis=1)))
    return Estimate(*(math.exp(score + side * 1.96 * spread) for side in (0, -1, 1)))


# --- attributes ------------------------------------------------------------------------------------------


def cosine(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Doubles:
    """Of embeddings (N, E) and (N, E), row by row: (N,)."""
    return np.asarray((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)), np.float64)


def correlation(a: Numbers, b: Numbers) -> Doubles:
    """Pearson's (A,) of ``a`` and ``b`` (N, A), column by column; 0 where a column does not vary."""
    a, b = _same_shape("correlation", a, b)
    varies = (np.ptp(a, axis=0) > 0) & (np.ptp(b, axis=0) > 0)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(varies, (a * b).sum(axis=0) / np.where(varies, size, 1.0), 0.0)


def correlation_estimates(
    a: Numbers, b: Numbers, random: np.random.Generator, groups: Groups | None = None, draws: int = 500
) -> Doubles:
    """(A, 3): ``correlation`` of each column and the percentiles of those of redrawn rows (or groups)."""
    value = correlation(a, b)
    one, other = (_doubles("correlation", values, 2) for values in (a, b))
    units = _units("correlation", groups, len(one))
    counts = _redrawn(units, random, draws)
    size = (counts @ np.bincount(units))[:, None]

    def means(values: Doubles) -> Doubles:
        return np.asarray(counts @ _by_unit(values, units) / size, np.float64)

    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    mean, other_mean = means(one), means(other)
    variance = np.maximum(means(one**2) - mean**2, 0) * np.maximum(means(other**2) - other_mean**2, 0)
    # What rounding leaves of the variance where a redrawn column does not vary.
    varies = variance > 1e-24 * one.var(axis=0) * other.var(axis=0)
    found = np.where(
        varies, (means(one * other) - mean * other_mean) / np.sqrt(np.where(varies, variance, 1.0)), 0.0
    )
    return np.column_stack([value, *np.quantile(found, ENDS, axis=0)])


def monotonicity(curves: Numbers) -> tuple[Doubles, Doubles]:
    """How steadily answers rise along S settings, for each of ``curves`` (P, S): two arrays (P,).

    Spearman's correlation of setting and answer (0 where nothing moves), and the share of steps that rise.
    """
    curves = _doubles("monotonicity", curves, 2)
    if curves.shape[1] < 2:
        raise DarkrackError("monotonicity", "at least two settings", "one")
    from scipy.stats import rankdata

    ranks = rankdata(curves, axis=1).T
    settings = np.arange(len(ranks), dtype=np.float64)[:, None]
    return correlation(ranks, np.broadcast_to(settings, ranks.shape)), (np.diff(curves, axis=1) > 0).mean(
        axis=1
    )


# --- what z does, and what it should not -----------------------------------------------------------------

LEAST_PAIRS = 20


def diversity(  # noqa: PLR0917 (what is compared)
    generated_a: Numbers,
    generated_b: Numbers,
    real: Numbers,
    pitch: Numbers,
    scores: Numbers,
    random: np.random.Generator,
    *,
    nearest: float = 0.01,
    groups: Groups | None = None,
    draws: int = 2000,
) -> Diversity:
    """How far notes of the same attributes and pitch lie apart, generated beside real: Euclidean, in embeddings.

    ``generated_a`` and ``generated_b`` (P, E) are pairs that were asked for alike and differ in z. Real pairs are of
    ``real`` (N, E) with the same ``pitch`` (N,), and of all these pairs the share ``nearest`` (20 pairs at least)
    whose attribute ``scores`` (N, A), each in standard deviations, are closest. ``groups`` are the instruments of
    the real notes, and then both notes of a pair are of different ones: at one pitch two notes of one
    instrument differ in velocity, which is asked for too and so is not what z has to supply. Of 800 real notes
    (mn04, 32 attributes) they are 1 % of all pairs of one pitch, but 72 % of the nearest, and would bring the real
    distance from 1.9 down to .4. Pairs of different instruments still differ in attributes, by a third of what any
    two notes of one pitch do, so the real distance is on the high side and the share on the low one.

    Intervals redraw generated pairs, and real notes (or instruments), whose pairs count as often as both were drawn.
    """
    measure = "diversity"
    first, second = _same_shape(measure, generated_a, generated_b)
    real, scores = _doubles(measure, real, 2), _doubles(measure, scores, 2)
    pitch = _doubles(measure, pitch, 1)
    if not len(real) == len(pitch) == len(scores) or real.shape[1] != first.shape[1]:
        raise DarkrackError(
            measure,
            "an embedding like the generated ones', a pitch and attribute scores for each real note",
            f"{first.shape[1]} dimensions generated, real {real.shape}, {pitch.shape} and {scores.shape}",
        )
    units = _units(measure, groups, len(real))
    spread = scores.std(axis=0)
    pairs, apart = _same_pitch_pairs(scores / np.where(spread > 0, spread, 1.0), pitch, units)
    if len(apart) < LEAST_PAIRS:
        raise DarkrackError(
            measure,
            f"at least {LEAST_PAIRS} real pairs of one pitch",
            str(len(apart)),
            "compare with more notes",
        )
    kept = max(LEAST_PAIRS, math.ceil(nearest * len(apart)))
    one, other = pairs[:, np.argpartition(apart, kept - 1)[:kept]]

    generated = np.linalg.norm(first - second, axis=1)
    real_apart = np.linalg.norm(real[one] - real[other], axis=1)
    if not real_apart.any():
        raise DarkrackError(measure, "real notes that differ", "the same embedding for all that compare")
    made = _redrawn(np.arange(len(generated)), random, draws) @ generated / len(generated)
    found = np.full(draws, np.nan)  # stays so where a draw has no pair
    for n, counts in enumerate(_redrawn(units, random, draws)):
        weights = counts[units[one]] * counts[units[other]]
        if weights.any():
            found[n] = weights @ real_apart / weights.sum()
    values = float(generated.mean()), float(real_apart.mean())
    return Diversity(
        Estimate(values[0], *_ends(made)),
        Estimate(values[1], *_ends(found)),
        Estimate(values[0] / values[1], *_ends(made / np.where(found > 0, found, np.nan))),
    )


def _same_pitch_pairs(scores: Doubles, pitch: Doubles, units: Ints) -> tuple[Ints, Doubles]:
    """Rows (2, pairs) of different units and the same pitch, and how far apart their scores are (pairs,)."""
    from scipy.spatial.distance import pdist

    rows, distances = [np.empty((2, 0), np.int64)], [np.empty(0)]
    for one in np.unique(pitch):
        at = np.flatnonzero(pitch == one)
        both = at[np.stack(np.triu_indices(len(at), 1))]
        differ = units[both[0]] != units[both[1]]
        rows.append(both[:, differ])
        distances.append(pdist(scores[at])[differ])
    return np.concatenate(rows, axis=1), np.concatenate(distances)


PROBE_FOLDS, PROBE_INNER_FOLDS = 5, 3


def leakage(
    z: Numbers,
    scores: Numbers,
    random: np.random.Generator,
    groups: Groups | None = None,
    draws: int = 2000,
) -> Estimate:
    """How much of the attributes a probe reads off z: cross-validated R^2, mean over attributes, not clipped.

    ``z`` (N, Z), ``scores`` (N, A). The probes are kernel ridge regressions (linear; squares and products;
    Gaussian), and for each attribute the one that does best inside the training folds predicts the fifth that is left
    out, whole groups at a time. R^2 is 1 less squared error over that of guessing the training folds' mean, so 0 is
    knowing nothing; it may be slightly negative. Attributes that do not vary are left out. The interval redraws notes
    (or groups) with their predictions as they are. 3 s for 1,000 notes on one core, two minutes for 5,000.
    """
    measure = "leakage"
    latent, asked = _doubles(measure, z, 2), _doubles(measure, scores, 2)
    if len(latent) != len(asked):
        raise DarkrackError(
            measure, "a z and attribute scores for each note", f"{len(latent)} and {len(asked)}"
        )
    if len(latent) < LEAST_ROWS:
        raise DarkrackError(measure, f"at least {LEAST_ROWS} notes", str(len(latent)), "encode more notes")
    asked = asked[:, np.ptp(asked, axis=0) > 0]
    if not asked.shape[1]:
        raise DarkrackError(measure, "attributes that vary", "none does")
    from sklearn.kernel_ridge import KernelRidge

    spread = latent.std(axis=0)
    latent = (latent - latent.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    asked = (asked - asked.mean(axis=0)) / asked.std(axis=0)
    units = _units(measure, groups, len(latent))
    probes = [KernelRidge(**one) for one in _probes(latent.shape[1])]

    def errors(probe: Any, train: Ints, test: Ints) -> Doubles:
        mean = asked[train].mean(axis=0)
        guess = mean + probe.fit(latent[train], asked[train] - mean).predict(latent[test])
        return np.asarray((asked[test] - guess) ** 2, np.float64)

    missed, guessed = np.zeros_like(asked), np.zeros_like(asked)
    for train, test in _splits(units, np.arange(len(latent)), PROBE_FOLDS, random):
        inner = _splits(units, train, PROBE_INNER_FOLDS, random)
        inside = [np.concatenate([errors(probe, *split) for split in inner]).sum(axis=0) for probe in probes]
        best = np.argmin(inside, axis=0)
        for n in np.unique(best):
            mine = best == n
            missed[np.ix_(test, mine)] = errors(probes[n], train, test)[:, mine]
        guessed[test] = (asked[test] - asked[train].mean(axis=0)) ** 2

    counts = _redrawn(units, random, draws)
    left = counts @ _by_unit(missed, units) / np.maximum(counts @ _by_unit(guessed, units), 1e-12)
    value = float(np.mean(1 - missed.sum(axis=0) / guessed.sum(axis=0)))
    return Estimate(value, *_ends(1 - left.mean(axis=1)))


def _probes(latent_size: int) -> list[dict[str, Any]]:
    """Kernels and how much they are held back, for z in standard deviations: its products are of the order of Z."""
    per = 1 / latent_size
    linear = [{"kernel": "linear", "alpha": alpha} for alpha in (10.0, 100.0, 1000.0, 10_000.0)]
    square = [
        {"kernel": "poly", "degree": 2, "gamma": per, "alpha": alpha} for alpha in (0.1, 1.0, 10.0, 100.0)
    ]
    smooth = [
        {"kernel": "rbf", "gamma": width * per, "alpha": alpha}
        for width in (0.25, 1.0)
        for alpha in (0.03, 0.3, 3.0)
    ]
    return [*linear, *square, *smooth]


# --- pitch -----------------------------------------------------------------------------------------------

SOUNDS = 1e-6  # peak, -120 dBFS
# At 48 kHz a period of MIDI 84 is 46 samples: too coarse, 3 of 17 bright notes came out an octave low.
YIN_OVERSAMPLING = 4
YIN_REACH = 4.5  # times the nominal and a part of it: two octaves and a little
YIN_LOWEST_HZ = 14.0  # two octaves under MIDI 34
YIN_FRAMES = 8
YIN_RANGE_DB = 40.0  # under the loudest frame: what has faded further has no say


def pitch_errors(
    audio: Numbers, sample_rate_hz: int, nominal_hz: Numbers
) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """How far held notes ``audio`` (N, samples), 1 s or more, are from ``nominal_hz`` (N,): cents and octave errors.

    ``cents`` (N,) is signed and within half an octave, the octave taken off; ``octave_errors`` (N,) says where there
    was one to take off. A note without sound or without pitch has 600 cents and an octave error: the worst of both.

    librosa's YIN (de Cheveigné & Kawahara 2002) says which octave and semitone: median, at four times the rate, of
    the frames that are less than YIN_RANGE_DB under the loudest. `device.recording.pitch_cents` around *that*, not
    around the nominal, says the cents: YIN alone is up to 7 cents off on dark notes. On 153 synthetic notes of nine
    spectra, MIDI 36 to 84, both together are within .01 cent and miss no octave; of 250 real notes that are in tune 4
    seem an octave off (bells, fifths).
    """
    measure = "pitch"
    audio, nominal = _doubles(measure, audio, 2), _doubles(measure, nominal_hz, 1)
    if len(audio) != len(nominal) or (nominal <= 0).any():
        raise DarkrackError(
            measure, "a pitch over 0 Hz for each note", f"{len(audio)} notes, {len(nominal)} pitches"
        )
    if audio.shape[1] < sample_rate_hz:
        raise DarkrackError(measure, "notes of 1 s or more", f"{audio.shape[1] / sample_rate_hz:.2f} s")
    cents, octaves = np.full(len(audio), 600.0), np.ones(len(audio), np.bool_)
    for n, (note, asked_hz) in enumerate(zip(audio, nominal, strict=True)):
        if np.abs(note).max() < SOUNDS:
            continue
        near_hz = _yin_hz(note, sample_rate_hz, float(asked_hz))
        off = pitch_cents(note, sample_rate_hz, near_hz) + 1200 * math.log2(near_hz / asked_hz)
        if math.isfinite(off):
            octave = round(off / 1200)
            cents[n], octaves[n] = off - 1200 * octave, octave != 0
    return cents, octaves


def _yin_hz(note: Doubles, sample_rate_hz: int, asked_hz: float) -> float:
    import librosa
    import soxr

    rate_hz = YIN_OVERSAMPLING * sample_rate_hz
    note = soxr.resample(note, sample_rate_hz, rate_hz)
    low_hz = max(asked_hz / YIN_REACH, YIN_LOWEST_HZ)
    high_hz = min(asked_hz * YIN_REACH, 0.4 * sample_rate_hz)
    frame = 1 << math.ceil(math.log2(2 * rate_hz / low_hz + 4))  # two of the longest periods
    hop = max((len(note) - frame) // YIN_FRAMES, 1)
    found = librosa.yin(
        note, fmin=low_hz, fmax=high_hz, sr=rate_hz, frame_length=frame, hop_length=hop, center=False
    )
    # A struck note is over long before it is let go: what is left of it by then has no pitch.
    level = librosa.feature.rms(y=note, frame_length=frame, hop_length=hop, center=False)[0]
    return float(np.median(found[level >= level.max() * 10 ** (-YIN_RANGE_DB / 20)]))


# --- Gaussians -------------------------------------------------------------------------------------------


class _Gaussian(NamedTuple):
    mean: Doubles  # (E,)
    covariance: Doubles  # (E, E)


class _Moments(NamedTuple):
    """Sums over rows, so that a fold is taken out without going through the others again."""

    size: int
    total: Doubles
    products: Doubles

    def gaussian(self) -> _Gaussian:
        mean = self.total / self.size
        return _Gaussian(mean, (self.products - self.size * np.outer(mean, mean)) / (self.size - 1))

    def without(self, other: _Moments) -> _Moments:
        return _Moments(self.size - other.size, self.total - other.total, self.products - other.products)


def _moments(rows: Doubles) -> _Moments:
    return _Moments(len(rows), rows.sum(axis=0), rows.T @ rows)


def _frechet(a: Doubles, b: Doubles) -> float:
    centre = a.mean(axis=0)  # far from 0, squares would lose digits
    a, b = a - centre, b - centre
    if min(len(a), len(b)) > a.shape[1]:
        return _between(_moments(a).gaussian(), _moments(b).gaussian())
    # With X'X = A and Y'Y = B the eigenvalues of A B are the squared singular values of X Y', which is small here.
    mean = a.mean(axis=0) - b.mean(axis=0)
    a, b = ((one - one.mean(axis=0)) / math.sqrt(len(one) - 1) for one in (a, b))
    roots = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(mean @ mean + (a**2).sum() + (b**2).sum() - 2 * roots)


def _between(a: _Gaussian, b: _Gaussian) -> float:
    mean = a.mean - b.mean
    try:
        factor = np.linalg.cholesky(a.covariance)
    except np.linalg.LinAlgError:  # a dimension that says nothing, or says what others say
        values, vectors = np.linalg.eigh(a.covariance)
        factor = vectors * np.sqrt(np.maximum(values, 0))
    # A = L L', and L' B L has the eigenvalues of A B, but is symmetric.
    values = np.linalg.eigvalsh(factor.T @ b.covariance @ factor)
    roots = np.sqrt(np.maximum(values, 0)).sum()
    return float(mean @ mean + np.trace(a.covariance) + np.trace(b.covariance) - 2 * roots)


def _left_out(a: Doubles, b: Doubles, folds_a: Ints, folds_b: Ints) -> Doubles:
    """Distances without each fold in turn, on both sides at once."""
    count = 1 + int(max(folds_a.max(), folds_b.max()))
    largest = max(np.bincount(folds).max() / len(folds) for folds in (folds_a, folds_b))
    if min(len(a), len(b)) * (1 - largest) <= a.shape[1] + 1:
        return np.array([_frechet(a[folds_a != n], b[folds_b != n]) for n in range(count)])
    centre = a.mean(axis=0)
    a, b = a - centre, b - centre
    one, other = _moments(a), _moments(b)
    return np.array(
        [
            _between(
                one.without(_moments(a[folds_a == n])).gaussian(),
                other.without(_moments(b[folds_b == n])).gaussian(),
            )
            for n in range(count)
        ]
    )


def _at_infinity(shares: Sequence[float], distances: Sequence[float]) -> float:
    """The polynomial in 1/N through distances at these shares of N, at 1/N = 0 (Lagrange)."""
    at = [1 / share for share in shares]
    weights = [math.prod(x / (x - mine) for x in at if x != mine) for mine in at]
    return float(np.dot(weights, distances))


# --- what is redrawn and left out ------------------------------------------------------------------------


def _units(measure: str, groups: Groups | None, count: int) -> Ints:
    """What is redrawn as one: the number from 0 of each row's group, or of the row itself."""
    if groups is not None:
        if len(groups) != count:
            raise DarkrackError(measure, f"a group for each of {count} notes", f"{len(groups)} groups")
        units = np.unique(groups, return_inverse=True)[1].reshape(-1).astype(np.int64)
        if units.max() > 0:
            return units
    return np.arange(count)


def _redrawn(units: Ints, random: np.random.Generator, draws: int) -> Doubles:
    """(draws, units): how often each unit is drawn when as many as there are are drawn again."""
    count = int(units.max()) + 1
    return random.multinomial(count, np.full(count, 1 / count), draws).astype(np.float64)


def _by_unit(values: Doubles, units: Ints) -> Doubles:
    """(units, columns): sums of the rows of each unit."""
    return np.stack([np.bincount(units, column) for column in values.T], axis=1)


def _ends(draws: Doubles) -> tuple[float, float]:
    low, high = np.nanquantile(draws, ENDS)
    return float(low), float(high)


def _folds(units: Ints, folds: int, random: np.random.Generator) -> Ints:
    """A fold for each row, whole units in one, all about as large; no more folds than units."""
    sizes = np.bincount(units)
    held = np.zeros(min(folds, len(sizes)))
    fold = np.zeros(len(sizes), np.int64)
    shuffled = random.permutation(len(sizes))
    # The largest first, as long as there is room to even them out.
    for unit in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold[unit] = held.argmin()
        held[fold[unit]] += sizes[unit]
    return fold[units]


def _folds_of_both(
    groups: tuple[Groups | None, Groups | None],
    counts: tuple[int, int],
    folds: int,
    random: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Folds of the two sides of a distance; groups that both sides have are in one fold.

    Unless a side would then have no two notes left: its own groups are parted instead, or its notes.
    """
    measure = "Fréchet distance"
    units = [_units(measure, *side) for side in zip(groups, counts, strict=True)]
    if groups[0] is not None and groups[1] is not None:
        both = _folds(_units(measure, np.concatenate([groups[0], groups[1]]), sum(counts)), folds, random)
        parted = both[: counts[0]], both[counts[0] :]
        if all(_leaves_two(side) for side in parted):
            return parted
    units = [one if _leaves_two(one) else np.arange(len(one)) for one in units]
    folds = min(folds, *(int(one.max()) + 1 for one in units))
    return _folds(units[0], folds, random), _folds(units[1], folds, random)


def _leaves_two(parts: Ints) -> bool:
    return int(np.bincount(parts).max()) <= len(parts) - 2


def _splits(units: Ints, rows: Ints, folds: int, random: np.random.Generator) -> list[tuple[Ints, Ints]]:
    """(train, test) of each fold of ``rows``."""
    mine = _folds(np.unique(units[rows], return_inverse=True)[1].reshape(-1), folds, random)
    if mine.max() == 0:  # one group: nothing would be left to train on
        mine = _folds(np.arange(len(rows)), folds, random)
    return [(rows[mine != n], rows[mine == n]) for n in range(int(mine.max()) + 1)]


# --- what is refused -------------------------------------------------------------------------------------


def _doubles(measure: str, values: Numbers, axes: int) -> Doubles:
    array = np.asarray(values, np.float64)
    if array.ndim != axes or not array.size:
        raise DarkrackError(measure, f"numbers along {axes} axes", f"an array of shape {array.shape}")
    wrong = array.size - int(np.isfinite(array).sum())
    if wrong:
        raise DarkrackError(measure, "finite numbers", f"NaN or infinity, {wrong} of {array.size}")
    return array


def _same_shape(measure: str, a: Numbers, b: Numbers) -> tuple[Doubles, Doubles]:
    one, other = _doubles(measure, a, 2), _doubles(measure, b, 2)
    if one.shape != other.shape:
        raise DarkrackError(measure, "two arrays of one shape", f"{one.shape} and {other.shape}")
    return one, other


def _embeddings(measure: str, a: Numbers, b: Numbers, least: int = 2) -> tuple[Doubles, Doubles]:
    one, other = _doubles(measure, a, 2), _doubles(measure, b, 2)
    if one.shape[1] != other.shape[1]:
        raise DarkrackError(measure, "embeddings of one size", f"{one.shape[1]} and {other.shape[1]}")
    if min(len(one), len(other)) < least:
        got = f"{len(one)} and {len(other)}"
        raise DarkrackError(measure, f"at least {least} notes on each side", got, "listen to more notes")
    return one, other
