"""The measures of the judge against closed forms, other packages and planted faults."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from device.errors import DarkrackError
from device.recording import pitch_cents
from train import measures
from train.measures import Estimate, Groups

Doubles = npt.NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)
quickly = settings(max_examples=20, deadline=None)


def random_of(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rotation(size: int, random: np.random.Generator) -> Doubles:
    return np.asarray(np.linalg.qr(random.standard_normal((size, size)))[0], np.float64)


# --- means and medians -----------------------------------------------------------------------------------


@quickly
@given(seeds, st.floats(-3, 3))
def test_an_interval_holds_its_mean(seed: int, shift: float) -> None:
    values = random_of(seed).standard_normal(50)
    mean, low, high = measures.bootstrap(values + shift, random_of())
    assert low <= mean <= high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.35)
    assert measures.bootstrap(values, random_of()) == pytest.approx(
        [one - shift for one in (mean, low, high)]
    )


def test_a_median_is_the_median_and_its_interval_that_of_theory() -> None:
    widths = []
    for values in random_of().standard_normal((20, 401)):
        median, low, high = measures.bootstrap_median(values, random_of())
        assert median == np.median(values)
        assert low <= median <= high
        widths.append(high - low)
    # The standard error of the median of a normal sample: sqrt(pi / 2 N).
    assert np.mean(widths) == pytest.approx(2 * 1.96 * math.sqrt(math.pi / 2 / 401), rel=0.2)


def test_notes_of_one_instrument_count_as_one() -> None:
    random = random_of()
    groups = np.repeat(np.arange(20), 30)
    values = random.standard_normal(20)[groups] + 0.01 * random.standard_normal(600)
    for measure in (measures.bootstrap, measures.bootstrap_median):
        by_note, by_group = measure(values, random), measure(values, random, groups)
        assert by_group.high - by_group.low > 3 * (by_note.high - by_note.low)
    mean = measures.bootstrap(values, random, groups)
    assert mean.high - mean.low == pytest.approx(2 * 1.96 / math.sqrt(20), rel=0.4)
    # An instrument alone has no others to be redrawn: its notes are.
    assert measures.bootstrap(values, random_of(), np.zeros(600, int)) == measures.bootstrap(
        values, random_of()
    )


# --- distances of distributions --------------------------------------------------------------------------


def test_frechet_distance_of_known_gaussians() -> None:
    a = random_of().standard_normal((20_000, 3))
    assert measures.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    # A shift d costs |d|^2; a scale s costs (s - 1)^2 per axis. The estimate is that of the samples drawn.
    assert measures.frechet_distance(a, a + np.array([3.0, 0.0, 4.0])) == pytest.approx(25.0)
    assert measures.frechet_distance(a, 2 * a) == pytest.approx(3.0, rel=0.05)


@quickly
@given(seeds, st.integers(2, 12), st.integers(3, 40), st.integers(3, 40), st.floats(-100, 100))
def test_frechet_distance_does_not_care_how_notes_are_turned(
    seed: int, size: int, count_a: int, count_b: int, shift: float
) -> None:
    random = random_of(seed)
    a, b = random.standard_normal((count_a, size)), 2 * random.standard_normal((count_b, size)) + 1
    distance = measures.frechet_distance(a, b)
    assert measures.frechet_distance(b, a) == pytest.approx(distance, rel=1e-6)
    turn = rotation(size, random)
    turned = measures.frechet_distance(random.permutation(a) @ turn + shift, b @ turn + shift)
    assert turned == pytest.approx(distance, rel=1e-6)
    # Dimensions that say nothing: the other way of computing it, and no covariance that could be inverted.
    wider = [np.concatenate([one, np.zeros((len(one), 50))], axis=1) for one in (a, b)]
    assert measures.frechet_distance(*wider) == pytest.approx(distance, rel=1e-6)


def test_frechet_distance_where_a_dimension_is_dead() -> None:
    random = random_of()
    a, b = random.standard_normal((400, 10)), 1.5 * random.standard_normal((400, 10))
    alive = measures.frechet_distance(a, b)
    a, b = (np.concatenate([one, np.ones((400, 3)), one[:, :1]], axis=1) for one in (a, b))
    with_copy = np.linalg.norm(np.r_[1.0, 1.0]) ** 2  # an axis and its copy are one axis, sqrt(2) as long
    assert measures.frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert alive < measures.frechet_distance(a, b) < with_copy * alive


def test_frechet_distance_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    through = torch.nn.Identity()
    through.num_features = 24
    random = random_of()
    a = random.standard_normal((300, 24)) @ random.standard_normal((24, 24))
    b = random.standard_normal((200, 24)) * 2 + 0.3
    metric = FrechetInceptionDistance(through)
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    assert measures.frechet_distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-6)


def gaussians(
    random: np.random.Generator, count: int, size: int, scale: float, shift: float
) -> tuple[Doubles, Doubles, float]:
    """Two samples and the distance of what they are drawn from."""
    spread = 1 / np.sqrt(np.arange(1, size + 1))
    a = random.standard_normal((count, size)) * spread
    b = random.standard_normal((count, size)) * spread * scale + shift
    return a, b, float(size * shift**2 + ((scale - 1) ** 2 * spread**2).sum())


@pytest.mark.parametrize(
    ("count", "size", "scale", "shift"),
    [
        pytest.param(100, 16, 1.0, 0.0, id="the same"),
        pytest.param(100, 32, 1.4, 0.1, id="different"),
        pytest.param(200, 64, 1.4, 0.0, id="wide"),
        pytest.param(40, 64, 1.0, 0.05, id="fewer notes than dimensions"),
    ],
)
def test_an_extrapolated_distance_is_nearer_and_its_interval_covers(
    count: int, size: int, scale: float, shift: float
) -> None:
    random = random_of()
    nearer = covered = 0
    values = []
    for _ in range(40):
        a, b, truth = gaussians(random, count, size, scale, shift)
        value, low, high = measures.frechet_unbounded(a, b, random)
        nearer += abs(value - truth) < abs(measures.frechet_distance(a, b) - truth)
        covered += low <= truth <= high
        values.append(value)
    plain = measures.frechet_distance(a, b)
    assert nearer >= 39
    assert covered >= 34  # of 38 that 95 % would be
    assert abs(np.mean(values) - truth) < 0.15 * abs(plain - truth)


def test_other_instruments_widen_the_interval_and_more_notes_do_not_change_the_value() -> None:
    random = random_of()
    groups = np.repeat(np.arange(12), 40)
    voices = 0.7 * random.standard_normal((12, 8))
    a, b = (voices[groups] + random.standard_normal((480, 8)) for _ in range(2))
    by_note, by_group, by_both = (
        measures.frechet_unbounded(a, b, random_of(1), **{name: groups for name in names})
        for names in ((), ("groups",), ("groups", "groups_a"))
    )
    width = [one.high - one.low for one in (by_note, by_group, by_both)]
    assert by_note.value == by_group.value == by_both.value
    assert width[1] > 2 * width[0]  # an instrument that only one side has is far from the other side
    assert width[2] < width[1] / 2  # one that both have is no difference between them


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param((np.arange(40) % 8, np.full(40, 9)), id="one instrument on one side"),
        pytest.param((np.arange(40) % 8, np.arange(40) % 2 + 20), id="none on both sides"),
        pytest.param((np.arange(40) % 8, np.r_[np.zeros(39, int), 1]), id="one that is nearly all"),
        pytest.param((np.arange(40) % 3, np.arange(40) % 3), id="few"),
    ],
)
def test_no_split_by_instruments_leaves_a_side_empty(groups: tuple[Groups, Groups]) -> None:
    random = random_of()
    a, b = random.standard_normal((2, 40, 4))
    for seed in range(10):
        one = measures.frechet_unbounded(a, b, random_of(seed), groups=groups[1], groups_a=groups[0])
        assert one.low < one.value < one.high


@quickly
@given(seeds, st.integers(2, 10), st.integers(2, 60))
def test_folds_are_whole_groups_and_about_as_large(seed: int, folds: int, groups: int) -> None:
    random = random_of(seed)
    units = np.concatenate([np.arange(groups), random.integers(0, groups, 100)])
    fold = measures._folds(units, folds, random)
    assert sorted(set(fold.tolist())) == list(range(min(folds, groups)))
    assert all(len(set(fold[units == unit].tolist())) == 1 for unit in range(groups))
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= np.bincount(units).max()


def own_kernel_distance(a: Doubles, b: Doubles) -> float:
    """Unbiased MMD^2 (Gretton et al. 2012, equation 3) with KID's kernel."""

    def kernel(x: Doubles, y: Doubles) -> Doubles:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3, np.float64)

    n, m = len(a), len(b)
    inside = (kernel(a, a).sum() - np.trace(kernel(a, a))) / n / (n - 1)
    inside += (kernel(b, b).sum() - np.trace(kernel(b, b))) / m / (m - 1)
    return float(inside - 2 * kernel(a, b).mean())


def test_kernel_distance_is_the_unbiased_one() -> None:
    random = random_of()
    a, b = random.standard_normal((400, 12)), random.standard_normal((400, 12)) + 0.4
    value, low, high = measures.kernel_distance(a, b, random)
    own = own_kernel_distance(a, b)
    assert low < own < high
    assert value == pytest.approx(own, abs=0.3 * (high - low) / 2)
    again = measures.kernel_distance(a, b, random, subsets=400)
    assert again.value == pytest.approx(own, abs=0.1 * (high - low) / 2)
    # For one dimension and means 0 and d the moments are known: E k(x, y) = E (x y + 1)^3 = 1 + 3 mu nu + 3 s t + u v,
    # with first, second and third moments 0, 1, 0 and d, 1 + d^2, 3 d + d^3.
    x, y = random.standard_normal((5000, 1)), random.standard_normal((5000, 1)) + 0.5
    truth = 3 * 0.5**2 + 3 * (1 - 1.25) ** 2 + 1.625**2
    assert own_kernel_distance(x, y) == pytest.approx(truth, rel=0.2)
    found = measures.kernel_distance(x, y, random)
    assert found.low < truth < found.high


def test_kernel_distance_of_one_distribution_is_none() -> None:
    random = random_of()
    held = 0
    for _ in range(20):
        a, b = random.standard_normal((2, 120, 16))
        before = torch.random.get_rng_state()
        one, again = (measures.kernel_distance(a, b, random_of(4), subsets=30) for _ in range(2))
        assert one == again
        assert torch.equal(before, torch.random.get_rng_state())
        held += one.low <= 0 <= one.high
    assert held >= 17


# --- scores of a classifier ------------------------------------------------------------------------------


def test_inception_scores_that_are_known() -> None:
    random = random_of()
    sure = np.eye(10)[np.arange(200) % 10]
    score = measures.inception_score(sure, random)
    assert score.value == pytest.approx(10)
    assert 9 < score.low < 10 < score.high < 11.2
    assert measures.inception_score(np.full((50, 4), 0.25), random) == pytest.approx((1, 1, 1))
    half = measures.inception_score(np.tile([[1, 0, 0], [0, 0.5, 0.5]], (30, 1)), random)
    assert half.value == pytest.approx(2)
    uneven = measures.inception_score(np.eye(2)[(np.arange(100) < 20).astype(int)], random)
    assert math.log(uneven.value) == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))
    by_instrument = measures.inception_score(sure, random, np.arange(200) % 10)
    assert by_instrument.value == pytest.approx(10)
    assert by_instrument.low < score.low  # whole classes come and go


@quickly
@given(seeds)
def test_an_inception_score_is_between_one_and_the_classes(seed: int) -> None:
    random = random_of(seed)
    rows = random.dirichlet(np.full(6, 0.3), 40)
    score = measures.inception_score(rows, random_of(1))
    assert 1 <= score.value <= 6
    assert score.low <= score.value <= score.high
    assert measures.inception_score(random.permutation(rows), random).value == pytest.approx(score.value)
    assert measures.inception_score(rows[:, ::-1], random).value == pytest.approx(score.value)


# --- attributes ------------------------------------------------------------------------------------------


@quickly
@given(seeds, st.floats(0.01, 100), st.floats(-100, 100))
def test_correlation_is_pearsons(seed: int, scale: float, shift: float) -> None:
    random = random_of(seed)
    a, b = random.standard_normal((2, 60, 3))
    found = measures.correlation(a, b + a)
    assert found == pytest.approx([np.corrcoef(a[:, n], (a + b)[:, n])[0, 1] for n in range(3)])
    assert measures.correlation(scale * a + shift, -b - a) == pytest.approx(-found)
    order = random.permutation(60)
    assert measures.correlation(a[order], (a + b)[order]) == pytest.approx(found)


def test_planted_correlation_is_found_and_a_permuted_one_is_not() -> None:
    random = random_of()
    asked = random.standard_normal((4000, 2))
    heard = np.stack([asked[:, 0] + random.standard_normal(4000), random.standard_normal(4000)], axis=1)
    found = measures.correlation_estimates(asked, heard, random)
    assert found[:, 0] == pytest.approx(measures.correlation(asked, heard))
    assert found[0] == pytest.approx([np.sqrt(0.5)] * 3, abs=0.05)
    # Fisher: atanh of r is normal with standard error 1 / sqrt(N - 3).
    assert np.diff(np.arctanh(found[:, 1:]), axis=1) == pytest.approx(2 * 1.96 / np.sqrt(3997), rel=0.25)
    assert found[1, 1] < 0 < found[1, 2]
    permuted = measures.correlation_estimates(asked[random.permutation(4000)], heard, random)
    assert abs(permuted).max() < 0.1


def test_what_does_not_vary_correlates_with_nothing() -> None:
    random = random_of()
    constant = np.full((9, 1), 0.1, np.float32)
    assert measures.correlation(constant, random.standard_normal((9, 1)))[0] == 0
    assert (measures.correlation_estimates(constant, random.standard_normal((9, 1)), random) == 0).all()
    # Redrawing two instruments gives one of them alone half of the time, and it does not vary.
    groups = np.repeat([0, 1], 5)
    steps = measures.correlation_estimates(groups[:, None], 2.0 * groups[:, None], random, groups)
    assert steps[0].tolist() == pytest.approx([1, 0, 1])


def test_correlation_over_instruments_is_less_sure() -> None:
    random = random_of()
    groups = np.repeat(np.arange(30), 20)
    a, b = (
        random.standard_normal((30, 1))[groups] + 0.1 * random.standard_normal((600, 1)) for _ in range(2)
    )
    by_note = measures.correlation_estimates(a, b, random)
    by_group = measures.correlation_estimates(a, b, random, groups)
    assert by_group[0, 2] - by_group[0, 1] > 2 * (by_note[0, 2] - by_note[0, 1])


def test_monotonicity_of_known_curves() -> None:
    curves = np.array([[0, 1, 2, 3, 9], [4, 3, 2, 1, 0], [0, 2, 1, 3, 4], [1, 1, 1, 1, 1], [0, 0, 1, 1, 2]])
    spearman, rising = measures.monotonicity(curves)
    assert spearman == pytest.approx([1, -1, 0.9, 0, spearmanr(range(5), curves[4]).statistic])
    assert rising.tolist() == [1, 0, 0.75, 0, 0.5]
    noise = random_of().standard_normal((200, 5))
    assert measures.monotonicity(noise)[0] == pytest.approx(
        [spearmanr(range(5), curve).statistic for curve in noise]
    )


@quickly
@given(seeds)
def test_monotonicity_only_sees_order(seed: int) -> None:
    curves = random_of(seed).standard_normal((10, 5))
    for one, other in zip(measures.monotonicity(curves), measures.monotonicity(np.exp(curves)), strict=True):
        assert one == pytest.approx(other)


# --- what z does, and what it should not -----------------------------------------------------------------


def sounds(
    random: np.random.Generator, count: int
) -> tuple[Doubles, Doubles, Doubles, npt.NDArray[np.int64]]:
    """Real notes: embeddings of attributes, pitch and something of their own; pitch; attributes; instruments.

    Four velocities of each instrument at each of its two pitches, which differ by little.
    """
    groups = np.repeat(np.arange(count // 8), 8)
    velocity = np.tile(np.arange(4), count // 4)[:, None]
    pitch = np.repeat(random.integers(36, 42, count // 4), 4).astype(float)
    scores = random.standard_normal((count // 8, 2))[groups] + 0.01 * velocity
    own = random.standard_normal((count // 4, 20)).repeat(4, axis=0)
    return embedded(scores, pitch, own) + 0.05 * velocity, pitch, scores, groups


def embedded(scores: Doubles, pitch: Doubles, own: Doubles) -> Doubles:
    return np.concatenate([3 * scores, pitch[:, None], own], axis=1)


def test_diversity_of_a_voice_that_draws_as_the_notes_are_is_one_and_of_a_collapsed_one_none() -> None:
    random = random_of()
    real, pitch, scores, groups = sounds(random, 2400)

    def generated(of_its_own: float) -> Doubles:
        return embedded(scores[:300], pitch[:300], of_its_own * random.standard_normal((300, 20)))

    good = measures.diversity(generated(1), generated(1), real, pitch, scores, random, groups=groups)
    assert good.share.value == pytest.approx(1, abs=0.1)
    assert good.share.low < good.share.value < good.share.high
    assert good.real.value == pytest.approx(math.sqrt(2 * 20), rel=0.1)
    poor = measures.diversity(generated(0.2), generated(0.2), real, pitch, scores, random, groups=groups)
    assert poor.share.value == pytest.approx(0.2, abs=0.03)
    same = generated(1)
    collapsed = measures.diversity(same, same, real, pitch, scores, random, groups=groups)
    assert collapsed.generated == collapsed.share == (0, 0, 0)
    # Velocities of one instrument are the nearest of all, and nothing like what z has to supply.
    flattered = measures.diversity(generated(0.2), generated(0.2), real, pitch, scores, random)
    assert flattered.share.value > 2 * poor.share.value
    order = random.permutation(len(real))
    mixed = measures.diversity(
        same, same + 1, real[order], pitch[order], scores[order], random, groups=groups[order]
    )
    assert mixed.real.value == pytest.approx(good.real.value)
    assert mixed.generated == pytest.approx([math.sqrt(23)] * 3)


def test_real_pairs_are_the_nearest_of_one_pitch() -> None:
    # Note n of two pitches has attribute n and lies at n^2: neighbours of one pitch are 2 apart.
    at = np.arange(60.0)[:, None]
    found = measures.diversity(at, at + 5, at**2, np.arange(60) % 2, at, random_of(), nearest=58 / 870)
    assert found.real.value == pytest.approx(np.mean(at[2:] ** 2 - at[:-2] ** 2))
    assert found.share.value == pytest.approx(5 / found.real.value)
    assert found.real.low < found.real.value < found.real.high


@pytest.fixture(scope="module")
def latents() -> tuple[Doubles, npt.NDArray[np.int64]]:
    return random_of(3).standard_normal((600, 24)), np.repeat(np.arange(120), 5)


def leak(latents: tuple[Doubles, npt.NDArray[np.int64]], scores: Doubles) -> Estimate:
    return measures.leakage(latents[0], scores, random_of(1), latents[1])


def test_no_leakage_where_z_knows_nothing(latents: tuple[Doubles, npt.NDArray[np.int64]]) -> None:
    found = leak(latents, random_of().standard_normal((600, 16)))
    assert found.value == pytest.approx(0, abs=0.02)
    assert found.low <= found.value <= found.high
    # Instruments that z knows by heart tell nothing of others.
    z = random_of().standard_normal((120, 24))[latents[1]]
    attributes = random_of(2).standard_normal((120, 8))[latents[1]]
    assert measures.leakage(z, attributes, random_of(), latents[1]).value < 0.05
    assert measures.leakage(z, attributes, random_of()).value > 0.5


def test_leakage_that_is_planted_is_found(latents: tuple[Doubles, npt.NDArray[np.int64]]) -> None:
    z, random = latents[0], random_of(5)
    linear = z @ random.standard_normal((24, 8)) / math.sqrt(24)
    noise = random.standard_normal((600, 8))
    found = leak(latents, linear + noise * np.sqrt(linear.var(axis=0)))
    assert found.value == pytest.approx(0.5, abs=0.07)
    assert found.low < found.value < found.high < 0.6
    assert leak(latents, linear).value > 0.99
    assert leak(latents, z[:, :4] ** 2).value > 0.9
    assert leak(latents, z[:, :4] * z[:, 4:8]).value > 0.9
    assert leak(latents, np.abs(z[:, :4])).value > 0.5
    # Each attribute has a probe of its own: three that are noise hide nothing, and count as none.
    assert leak(latents, np.concatenate([linear[:, :1], noise[:, :3]], axis=1)).value == pytest.approx(
        0.25, abs=0.02
    )


@settings(max_examples=3, deadline=None)
@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_leakage_does_not_care_about_units(scale: float, shift: float) -> None:
    random = random_of()
    z = random.standard_normal((100, 3))
    scores = z[:, :2] + random.standard_normal((100, 2))
    whole = measures.leakage(z, scores, random_of(1))
    other = measures.leakage(scale * z + shift, shift - scale * scores, random_of(1))
    assert other == pytest.approx(whole, abs=1e-6)
    constant = np.concatenate([scores, np.ones((100, 1))], axis=1)
    assert measures.leakage(z, constant, random_of(1)) == pytest.approx(whole)


# --- pitch -----------------------------------------------------------------------------------------------

RATE_HZ = 48_000
SPECTRA: dict[str, Callable[[Doubles], Doubles]] = {
    "saw": lambda k: 1 / k,
    "bright": np.ones_like,
    "odd partials": lambda k: (k % 2) / k,
    "weak fundamental": lambda k: np.where(k == 1, 0.01, 1 / k),
    "dark": lambda k: k**-3.0,
    "sine": lambda k: (k == 1).astype(float),
}


def note(f0_hz: float, spectrum: str, seconds: float = 1.5, decay: float = 0.0) -> Doubles:
    """A held harmonic note up to 16 kHz with noise 50 dB under it."""
    random = random_of(round(f0_hz))
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    k = np.arange(1.0, min(int(16_000 / f0_hz), 60) + 1)
    audio = np.zeros_like(t)
    for partial, amplitude in zip(k, SPECTRA[spectrum](k), strict=True):
        phase = random.uniform(0, 2 * np.pi)
        audio += amplitude * np.exp(-decay * partial * t) * np.cos(2 * np.pi * partial * f0_hz * t + phase)
    audio *= 0.5 / np.abs(audio).max()
    noise = random.standard_normal(len(t)) * np.sqrt(np.mean(audio**2)) * 10 ** (-50 / 20)
    return np.asarray(audio + noise, np.float64)


def hertz(pitch_midi: npt.NDArray[np.floating]) -> Doubles:
    return np.asarray(440 * 2 ** ((pitch_midi - 69) / 12), np.float64)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_pitch_of_synthetic_notes(spectrum: str, decay: float) -> None:
    pitch_midi = np.linspace(36, 84, 9) + random_of(1).uniform(-0.5, 0.5, 9)
    played = hertz(pitch_midi)
    audio = np.stack([note(f0_hz, spectrum, decay=decay) for f0_hz in played])
    cents, octaves = measures.pitch_errors(audio, RATE_HZ, played)
    assert not octaves.any()
    assert abs(cents.mean()) < 0.1  # bias
    assert np.quantile(np.abs(cents), 0.95) < 0.5
    # Asked a little beside, and in other octaves: librosa finds the octave, the partials the cents.
    off = np.resize([20.0, -35.0, 180.0], 9)
    octave = np.resize([0, 1, -1, 2, -2], 9)
    asked = played / 2 ** (off / 1200 + octave)
    cents, octaves = measures.pitch_errors(audio, RATE_HZ, asked)
    assert cents == pytest.approx(off, abs=0.5)
    assert octaves.tolist() == (octave != 0).tolist()


def test_a_struck_note_is_over_before_it_is_let_go() -> None:
    played = hertz(np.linspace(40.2, 79.9, 9))
    audio = np.stack([note(f0_hz, "saw", 2.0, decay=8.0) for f0_hz in played])
    cents, octaves = measures.pitch_errors(audio, RATE_HZ, played)
    assert not octaves.any()
    assert np.abs(cents).max() < 2


def test_two_estimators_agree() -> None:
    played = hertz(np.linspace(38.3, 82.7, 7))
    for f0_hz in played:
        audio = note(f0_hz, "bright")
        yin = librosa.yin(audio, fmin=f0_hz / 1.5, fmax=f0_hz * 1.5, sr=RATE_HZ, frame_length=8192)
        alone = 1200 * np.log2(np.median(yin) / f0_hz)
        ours, _ = measures.pitch_errors(audio[None], RATE_HZ, np.array([f0_hz]))
        assert ours[0] == pytest.approx(pitch_cents(audio, RATE_HZ, f0_hz), abs=0.05)
        assert ours[0] == pytest.approx(alone, abs=2)  # what YIN is good for on bright notes


def test_a_note_without_sound_is_as_wrong_as_can_be() -> None:
    audio = np.stack([np.zeros(RATE_HZ), note(440, "saw", seconds=1.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cents, octaves = measures.pitch_errors(audio, RATE_HZ, np.array([440.0, 440.0]))
    assert cents == pytest.approx([600, 0], abs=0.1)
    assert octaves.tolist() == [True, False]


# --- what is refused -------------------------------------------------------------------------------------

ROWS = np.linspace(0, 1, 90).reshape(30, 3)
HOLED = np.where(ROWS == 0, np.nan, ROWS)
NONE = ROWS[:0]
R = random_of()


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("mean", lambda rows: measures.bootstrap(rows[:, 0], R)),
        ("median", lambda rows: measures.bootstrap_median(rows[:, 0], R)),
        ("Fréchet distance", lambda rows: measures.frechet_distance(ROWS, rows)),
        ("Fréchet distance", lambda rows: measures.frechet_unbounded(rows, ROWS, R)),
        ("kernel distance", lambda rows: measures.kernel_distance(rows, ROWS, R)),
        ("inception score", lambda rows: measures.inception_score(rows, R)),
        ("correlation", lambda rows: measures.correlation(rows, rows)),
        ("correlation", lambda rows: measures.correlation_estimates(rows, ROWS, R)),
        ("monotonicity", measures.monotonicity),
        ("diversity", lambda rows: measures.diversity(rows, rows, ROWS, ROWS[:, 0], ROWS, R)),
        ("diversity", lambda rows: measures.diversity(ROWS, ROWS, ROWS, ROWS[:, 0], rows, R)),
        ("leakage", lambda rows: measures.leakage(rows, ROWS, R)),
        ("leakage", lambda rows: measures.leakage(ROWS, rows, R)),
        ("pitch", lambda rows: measures.pitch_errors(rows, 1, np.full(30, 440.0))),
    ],
)
@pytest.mark.parametrize(("rows", "got"), [(HOLED, "NaN or infinity, 1 of"), (NONE, "shape")])
def test_holes_and_nothing_are_refused(
    name: str, measure: Callable[[Doubles], object], rows: Doubles, got: str
) -> None:
    with pytest.raises(DarkrackError, match=got) as caught:
        measure(rows)
    assert caught.value.where == name


@pytest.mark.parametrize(
    ("expected", "measure"),
    [
        ("embeddings of one size", lambda: measures.frechet_distance(ROWS, ROWS[:, :2])),
        ("at least 20 notes on each side", lambda: measures.frechet_unbounded(ROWS, ROWS[:19], R)),
        ("at least 20 notes on each side", lambda: measures.kernel_distance(ROWS[:19], ROWS, R)),
        ("a group for each of 30 notes", lambda: measures.bootstrap(ROWS[:, 0], R, np.zeros(29, int))),
        (
            "a group for each of 30 notes",
            lambda: measures.frechet_unbounded(ROWS, ROWS, R, groups=np.zeros(29, int)),
        ),
        ("sum to 1", lambda: measures.inception_score(ROWS, R)),
        ("two arrays of one shape", lambda: measures.correlation(ROWS, ROWS[:29])),
        ("at least two settings", lambda: measures.monotonicity(ROWS[:, :1])),
        (
            "at least 20 real pairs of one pitch",
            lambda: measures.diversity(ROWS, ROWS, ROWS, ROWS[:, 0], ROWS, R),
        ),
        (
            "real notes that differ",
            lambda: measures.diversity(ROWS, ROWS, 0 * ROWS, np.zeros(30), ROWS, R),
        ),
        ("an embedding like", lambda: measures.diversity(ROWS, ROWS, ROWS[:, :2], np.zeros(30), ROWS, R)),
        ("attribute scores for each note", lambda: measures.leakage(ROWS, ROWS[:29], R)),
        ("at least 20 notes", lambda: measures.leakage(ROWS[:9], ROWS[:9], R)),
        ("attributes that vary", lambda: measures.leakage(ROWS, 0 * ROWS, R)),
        ("notes of 1 s or more", lambda: measures.pitch_errors(ROWS, 48_000, np.full(30, 440.0))),
        ("a pitch over 0 Hz", lambda: measures.pitch_errors(ROWS, 1, np.zeros(30))),
        ("a pitch over 0 Hz", lambda: measures.pitch_errors(ROWS, 1, np.full(29, 440.0))),
    ],
)
def test_what_does_not_fit_is_refused(expected: str, measure: Callable[[], object]) -> None:
    with pytest.raises(DarkrackError) as caught:
        measure()
    assert expected in caught.value.expected
