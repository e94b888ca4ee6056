"""Knobs: along the quantiles and back, the copula's carrying, solo, over-emphasis."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import ATTRIBUTES
from hypothesis import given, settings
from hypothesis import strategies as st

from device.bundle import QUANTILES, Attribute, Bundle
from device.errors import DarkrackError
from device.knobs import Knobs, choose_attributes

COUNT = 5
NAMES = ("Trumpet", "Brass instrument", "Singing bowl", "Guitar", "Hum")

# Tables as they come: rounded to four digits, so that rare attributes have flat stretches.
tables = st.lists(st.integers(0, 10_000), min_size=QUANTILES, max_size=QUANTILES).map(
    lambda values: np.sort(np.array(values)) / 10_000
)
labels = st.lists(st.floats(0.0, 1.0), min_size=COUNT, max_size=COUNT).map(np.array)
positions = st.floats(0.0, 1.0)


@st.composite
def knob_sets(draw: st.DrawFn, correlated: bool = True) -> Knobs:
    attributes = []
    for name in NAMES:
        table = draw(tables.filter(lambda table: table[0] < table[-1]))
        attributes.append(Attribute(name, table, None))
    if not correlated:
        return Knobs(attributes, np.eye(COUNT))
    mixing = np.random.default_rng(draw(st.integers(0, 1000))).standard_normal((COUNT, COUNT + 3))
    return Knobs(attributes, np.corrcoef(mixing))


def straight(copula: np.ndarray) -> Knobs:
    """Knobs whose position is their soft label."""
    attributes = [Attribute(name, np.linspace(0.0, 1.0, QUANTILES), None) for name in NAMES[: len(copula)]]
    return Knobs(attributes, copula)


@given(knobs=knob_sets(), position=positions)
def test_label_survives_the_way_to_a_position_and_back(knobs: Knobs, position: float) -> None:
    for index in range(COUNT):
        label = knobs.label(index, position)
        found = knobs.position(index, label)
        assert 0.0 <= found <= 1.0
        assert knobs.label(index, found) == pytest.approx(label, abs=1e-9)


@given(position=positions, steps=st.lists(st.integers(1, 50), min_size=QUANTILES, max_size=QUANTILES))
def test_position_survives_where_the_table_rises(position: float, steps: list[int]) -> None:
    rising = Attribute("Hum", np.cumsum(steps) / 2000.0, None)
    knobs = Knobs([rising], np.eye(1))
    assert knobs.position(0, knobs.label(0, position)) == pytest.approx(position, abs=1e-9)


def test_position_is_the_middle_of_a_flat_stretch() -> None:
    table = np.concatenate([np.full(9, 0.1), np.linspace(0.2, 0.8, 15), np.full(9, 0.9)])
    knobs = Knobs([Attribute("Hum", table, None)], np.eye(1))
    assert knobs.position(0, 0.1) == pytest.approx(4 / 32)
    assert knobs.position(0, 0.9) == pytest.approx(28 / 32)
    assert knobs.position(0, 0.0) == 0.0
    assert knobs.position(0, 1.0) == 1.0


@given(knobs=knob_sets(), base=labels, carry=st.booleans(), two=st.tuples(st.floats(0, 2), st.floats(0, 2)))
def test_a_knob_turned_up_never_turns_its_attribute_down(
    knobs: Knobs, base: np.ndarray, carry: bool, two: tuple[float, float]
) -> None:
    low, high = sorted(two)
    below, above = (knobs.vector(base, {"Guitar": setting}, carry)[3] for setting in (low, high))
    assert below <= above


@given(knobs=knob_sets(), base=labels, beyond=st.floats(1.0, 2.0))
def test_over_emphasis_goes_beyond_the_highest_quantile(
    knobs: Knobs, base: np.ndarray, beyond: float
) -> None:
    highest = knobs.vector(base, {"Guitar": 1.0})
    over = knobs.vector(base, {"Guitar": beyond})
    assert highest[3] <= over[3] <= 1.0
    rest = [0, 1, 2, 4]
    np.testing.assert_array_equal(over[rest], highest[rest])  # what the data never had carries nothing along


def test_over_emphasis_is_as_far_again_as_the_highest_from_the_median() -> None:
    table = np.linspace(0.1, 0.5, QUANTILES)
    knobs = Knobs([Attribute("Hum", table, None)], np.eye(1))
    assert knobs.label(0, 1.5) == pytest.approx(0.5 + 0.5 * (0.5 - 0.3))
    assert knobs.label(0, 2.0) == pytest.approx(0.7)


@given(knobs=knob_sets(), base=labels, values=st.lists(st.floats(0, 2), min_size=3, max_size=3))
def test_order_of_settings_does_not_matter(knobs: Knobs, base: np.ndarray, values: list[float]) -> None:
    asked = dict(zip(("Hum", "Trumpet", "Guitar"), values, strict=True))
    backwards = dict(reversed(asked.items()))
    np.testing.assert_array_equal(knobs.vector(base, asked), knobs.vector(base, backwards))


@given(knobs=knob_sets(correlated=False), base=labels, setting=st.floats(0, 2))
def test_carry_without_correlation_is_solo(knobs: Knobs, base: np.ndarray, setting: float) -> None:
    carried = knobs.vector(base, {"Trumpet": setting}, carry=True)
    np.testing.assert_allclose(carried, knobs.vector(base, {"Trumpet": setting}, carry=False), atol=1e-6)


@given(knobs=knob_sets(), base=labels, setting=st.floats(0, 2))
def test_solo_moves_nothing_else(knobs: Knobs, base: np.ndarray, setting: float) -> None:
    vector = knobs.vector(base, {"singing BOWL": setting}, carry=False)
    assert vector.dtype == np.float32
    assert vector[2] == np.float32(knobs.label(2, setting))
    np.testing.assert_array_equal(np.delete(vector, 2), np.delete(base, 2).astype(np.float32))


@given(knobs=knob_sets(), base=labels)
def test_no_setting_and_a_knob_that_stays_change_nothing(knobs: Knobs, base: np.ndarray) -> None:
    np.testing.assert_array_equal(knobs.vector(base, {}), base.astype(np.float32))
    stays = knobs.position(0, base[0])
    moved = knobs.vector(base, {"Trumpet": stays})
    np.testing.assert_allclose(moved[1:], base[1:], atol=1e-5)


@settings(max_examples=50)
@given(knobs=knob_sets(), base=labels, values=st.lists(st.floats(0, 2), min_size=COUNT, max_size=COUNT))
def test_result_is_a_vector_of_soft_labels(knobs: Knobs, base: np.ndarray, values: list[float]) -> None:
    for count in range(COUNT + 1):
        vector = knobs.vector(base, dict(zip(NAMES[:count], values[:count], strict=True)))
        assert vector.shape == (COUNT,)
        assert ((vector >= 0) & (vector <= 1)).all()


def test_carry_is_the_conditional_mean_of_a_gaussian() -> None:
    """On straight tables by hand: s2' = s2 + r (t1 - s1), with s = Phi^-1(.005 + .99 position)."""
    knobs = straight(np.array([[1.0, 0.6], [0.6, 1.0]]))
    # base at both medians (score 0); Phi(1) = .841345 is position (.841345 - .005) / .99 = .844793
    vector = knobs.vector(np.array([0.5, 0.5]), {"Trumpet": 0.844793})
    # Phi(.6) = .725747; position (.725747 - .005) / .99 = .728027
    assert vector[1] == pytest.approx(0.728027, abs=1e-5)
    against = straight(np.array([[1.0, -0.6], [-0.6, 1.0]])).vector(
        np.array([0.5, 0.5]), {"Trumpet": 0.844793}
    )
    assert against[1] == pytest.approx(1.0 - vector[1], abs=1e-6)


def test_carry_agrees_with_a_population() -> None:
    """Among 400,000 correlated notes, those near the asked place have the rest where carry puts it."""
    r = 0.7
    copula = np.array([[1.0, r], [r, 1.0]])
    scores = np.random.default_rng(0).multivariate_normal([0.0, 0.0], copula, 400_000)
    lasting = 1.0 / (1.0 + np.exp(-scores))  # soft labels
    probability = 0.005 + 0.99 * np.linspace(0.0, 1.0, QUANTILES)
    attributes = [
        Attribute(name, np.quantile(column, probability), None)
        for name, column in zip(NAMES, lasting.T, strict=False)
    ]
    vector = Knobs(attributes, copula).vector(np.median(lasting, axis=0), {"Trumpet": 0.9})
    near = np.abs(lasting[:, 0] - vector[0]) < 0.005
    assert vector[1] == pytest.approx(np.median(lasting[near, 1]), abs=0.01)


def test_two_knobs_move_the_rest_jointly() -> None:
    """Two attributes that are almost one do not count twice."""
    copula = np.array([[1.0, 0.999, 0.6], [0.999, 1.0, 0.6], [0.6, 0.6, 1.0]])
    base = np.full(3, 0.5)
    one = straight(copula).vector(base, {"Trumpet": 0.8})
    both = straight(copula).vector(base, {"Trumpet": 0.8, "Brass instrument": 0.8})
    assert one[1] == pytest.approx(0.8, abs=0.01)
    assert both[2] == pytest.approx(one[2], abs=0.01)


@settings(max_examples=50)
@given(first=st.floats(0, 1), second=st.floats(0, 1))
def test_knobs_turned_against_each_other_stay_among_notes(first: float, second: float) -> None:
    """Two attributes that are almost one, one up and one down: what follows goes no further than they did."""
    copula = np.array([[1.0, 0.98, 0.6], [0.98, 1.0, 0.4], [0.6, 0.4, 1.0]])
    vector = straight(copula).vector(np.full(3, 0.5), {"Trumpet": first, "Brass instrument": second})
    reach = max(abs(first - 0.5), abs(second - 0.5))
    assert abs(vector[2] - 0.5) <= reach + 1e-6
    # Without shrinkage 0.4 up against 0.4 down already gave the end of the table.
    opposed = straight(copula).vector(np.full(3, 0.5), {"Trumpet": 0.7, "Brass instrument": 0.3})
    assert vector[2] <= 1
    assert opposed[2] < 0.9


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"Trumpt": 0.5}, ["'Trumpt'", "did you mean 'Trumpet'?"]),
        ({"Trumpet": 2.01}, ["'Trumpet'", "0 to 2", "2.01"]),
        ({"Trumpet": -0.1}, ["0 to 2"]),
        ({"Trumpet": float("nan")}, ["nan"]),
        ({"Trumpet": 0.1, "trumpet": 0.2}, ["one setting, got two"]),
    ],
)
def test_settings_that_are_refused(tiny_bundle: Bundle, asked: dict[str, float], words: list[str]) -> None:
    manifest = tiny_bundle.manifest
    with pytest.raises(DarkrackError) as caught:
        Knobs(manifest.attributes, manifest.copula).vector(manifest.presets[0].attributes, asked)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("base", [np.zeros(3), np.full(4, 1.5), np.full(4, np.nan), np.zeros((1, 4))])
def test_base_that_is_refused(tiny_bundle: Bundle, base: np.ndarray) -> None:
    manifest = tiny_bundle.manifest
    with pytest.raises(DarkrackError, match="expected 4 soft labels from 0 to 1"):
        Knobs(manifest.attributes, manifest.copula).vector(base, {"Trumpet": 0.5})


def test_names_are_found_whatever_their_case(tiny_bundle: Bundle) -> None:
    knobs = Knobs(tiny_bundle.manifest.attributes, tiny_bundle.manifest.copula)
    assert knobs.names == ATTRIBUTES
    assert [knobs.index(name.upper()) for name in ATTRIBUTES] == [0, 1, 2, 3]


def attribute(name: str, correlation: float | None) -> Attribute:
    return Attribute(name, np.linspace(0, 1, QUANTILES), correlation)


def test_pots_take_the_most_obedient_attributes() -> None:
    measured = [
        attribute(name, value) for name, value in zip("abcdef", (0.1, None, 0.6, -0.2, 0.6, 0.3), strict=True)
    ]
    apart = np.eye(6)
    assert choose_attributes(measured, apart, 4) == ["c", "e", "f", "a"]
    assert choose_attributes([attribute(name, None) for name in "abcdef"], apart, 4) == ["a", "b", "c", "d"]
    assert choose_attributes([measured[1], *measured[2:5]], apart[:4, :4], 4) == ["c", "e", "d", "b"]
    assert choose_attributes(measured[:3], apart[:3, :3], 4) == ["c", "a", "b"]


def test_no_two_pots_say_the_same() -> None:
    obedience = zip("abcdef", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True)
    measured = [attribute(name, value) for name, value in obedience]
    copula = np.eye(6)
    copula[0, 1] = copula[1, 0] = 0.98
    copula[2, 3] = copula[3, 2] = -0.7
    assert choose_attributes(measured, copula, 4) == ["a", "c", "e", "f"]
    assert choose_attributes(measured, np.ones((6, 6)), 4) == ["a", "b", "c", "d"]
    # What moved the teacher alone comes first.
    assert choose_attributes(measured, copula, 4, ["f", "b"]) == ["b", "f", "c", "e"]
