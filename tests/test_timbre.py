"""Timbre: preset and knobs become the vector of soft labels, and a knob that did not move costs nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from bundles import ATTRIBUTES, BRIGHT, HOLLOW, LATENT_SIZE, NOISY, PLUCKED
from hypothesis import given
from hypothesis import strategies as st

from device.bundle import Bundle
from device.errors import DarkrackError
from device.patch import SETTING_MAX, Patch
from device.timbre import Timbre

REED = [0.4, 0.05, 0.6, 0.05]
HARP = [0.2, 0.7, 0.1, 0.02]


def test_a_preset_is_what_plays_and_the_first_one_without_a_name(tiny_bundle: Bundle) -> None:
    for preset, labels in ((None, REED), ("Reed", REED), ("Harp", HARP), ("harp", HARP)):
        np.testing.assert_allclose(Timbre(tiny_bundle, Patch(preset=preset)).stance.vector, labels, atol=1e-6)


def test_a_turned_knob_is_where_its_quantiles_say(tiny_bundle: Bundle) -> None:
    timbre = Timbre(tiny_bundle, Patch())
    table = tiny_bundle.manifest.attributes[BRIGHT].quantiles
    for setting, label in ((0.0, table[0]), (0.5, table[16]), (1.0, table[32])):
        timbre.turn("Trumpet", setting)
        assert timbre.stance.vector[BRIGHT] == pytest.approx(label, abs=1e-6)
    timbre.turn("Trumpet", SETTING_MAX)
    assert timbre.stance.vector[BRIGHT] > table[32]


def test_carry_takes_related_attributes_along_and_solo_leaves_them(tiny_bundle: Bundle) -> None:
    for carry in (True, False):
        timbre = Timbre(tiny_bundle, Patch())
        timbre.turn("Trumpet", 1.0, carry)
        moved = timbre.stance.vector - np.array(REED, np.float32)
        assert moved[BRIGHT] > 0.1
        if carry:  # the copula: Clarinet goes along (.4), plucked strings go away (-.3)
            assert moved[HOLLOW] > 0.01
            assert moved[PLUCKED] < 0
        else:
            np.testing.assert_allclose(np.delete(moved, BRIGHT), 0, atol=1e-6)


def test_the_patch_says_whether_a_knob_carries_unless_the_hand_does(tiny_bundle: Bundle) -> None:
    for patch_carries in (True, False):
        plain, told = (Timbre(tiny_bundle, Patch(carry=carry)) for carry in (patch_carries, True))
        plain.turn("Trumpet", 1.0)
        told.turn("Trumpet", 1.0, patch_carries)
        np.testing.assert_array_equal(plain.stance.vector, told.stance.vector)


def test_a_solo_knob_has_the_last_word_over_those_that_carry(tiny_bundle: Bundle) -> None:
    for order in (("Clarinet", "Trumpet"), ("Trumpet", "Clarinet")):
        timbre = Timbre(tiny_bundle, Patch())
        for name in order:
            timbre.turn(name, 1.0 if name == "Trumpet" else 0.1, carry=name == "Trumpet")
        assert timbre.stance.vector[HOLLOW] == pytest.approx(
            np.interp(0.1, np.linspace(0, 1, 33), tiny_bundle.manifest.attributes[HOLLOW].quantiles), abs=1e-6
        )


def test_the_vector_is_the_same_object_until_a_knob_says_something_else(tiny_bundle: Bundle) -> None:
    timbre = Timbre(tiny_bundle, Patch())
    before = timbre.stance.vector
    assert timbre.stance.vector is before
    assert timbre.turn("Trumpet", 0.7)
    after = timbre.stance.vector
    assert after is not before
    assert not timbre.turn("Trumpet", 0.7), "nothing moved"
    assert timbre.turn("trumpet", 0.7, carry=not Patch().carry), "the same knob, alone now"
    timbre.turn("Trumpet", 0.7)
    np.testing.assert_array_equal(timbre.stance.vector, after)


def test_what_was_handed_out_is_never_written_again(tiny_bundle: Bundle) -> None:
    timbre = Timbre(tiny_bundle, Patch())
    handed_out, copies = [], []
    for setting in np.linspace(0, 1, 9):
        timbre.turn("Trumpet", float(setting))
        timbre.turn("Clarinet", float(1 - setting), carry=False)
        handed_out.append(timbre.stance.vector)
        copies.append(timbre.stance.vector.copy())
    np.testing.assert_array_equal(handed_out, copies)


def test_names_that_the_bundle_lacks_are_refused_with_the_nearest(tiny_bundle: Bundle) -> None:
    timbre = Timbre(tiny_bundle, Patch())
    before = timbre.stance.vector
    for _ in range(2):
        with pytest.raises(DarkrackError, match="did you mean 'Trumpet'"):
            timbre.turn("Trumpets", 0.5)
    assert timbre.stance.vector is before
    with pytest.raises(DarkrackError, match="did you mean 'Harp'"):
        Timbre(tiny_bundle, Patch(preset="Harpp"))
    with pytest.raises(DarkrackError, match="Clarinets"):
        Timbre(tiny_bundle, Patch(attributes={"Clarinets": 0.5}))


@pytest.mark.parametrize("setting", [-0.01, SETTING_MAX + 0.01, float("nan"), float("inf")])
def test_a_setting_out_of_range_is_refused_and_leaves_nothing_behind(
    tiny_bundle: Bundle, setting: float
) -> None:
    timbre = Timbre(tiny_bundle, Patch())
    before = timbre.stance.vector
    with pytest.raises(DarkrackError, match="from 0 to 2"):
        timbre.turn("Trumpet", setting)
    assert timbre.stance.vector is before


def test_a_patch_begins_where_its_attributes_are(tiny_bundle: Bundle) -> None:
    set_up = Timbre(tiny_bundle, Patch(attributes={"Trumpet": 0.9, "Wind noise, breath": 0.2}))
    turned = Timbre(tiny_bundle, Patch())
    turned.turn("Trumpet", 0.9)
    turned.turn("Wind noise, breath", 0.2)
    np.testing.assert_array_equal(set_up.stance.vector, turned.stance.vector)


def test_the_twin_of_a_unison_is_another_specimen_and_always_the_same(tiny_bundle: Bundle) -> None:
    for seed in (None, 3):
        z = Timbre(tiny_bundle, Patch(latent_seed=seed)).stance.z
        assert z.shape == (2, LATENT_SIZE)
        assert z.dtype == np.float32
        assert np.abs(z[0] - z[1]).max() > 0.1
        np.testing.assert_array_equal(z, Timbre(tiny_bundle, Patch(latent_seed=seed)).stance.z)
    preset = Timbre(tiny_bundle, Patch()).stance.z
    np.testing.assert_allclose(preset[0], [0.0, 0.5, -0.5, 0.2], atol=1e-6)
    drawn = [Timbre(tiny_bundle, Patch(latent_seed=seed)).stance.z for seed in (3, 4)]
    assert np.abs(drawn[0][0] - drawn[1][0]).max() > 0.1


@given(
    turns=st.lists(
        st.tuples(st.sampled_from(ATTRIBUTES), st.floats(0, SETTING_MAX), st.booleans()), max_size=12
    )
)
def test_whatever_is_turned_the_labels_are_probabilities(
    tiny_bundle: Bundle, turns: list[tuple[str, float, bool]]
) -> None:
    timbre = Timbre(tiny_bundle, Patch())
    for name, setting, carry in turns:
        timbre.turn(name, setting, carry)
        assert timbre.stance.vector.shape == (len(ATTRIBUTES),)
        assert timbre.stance.vector.dtype == np.float32
        assert ((timbre.stance.vector >= 0) & (timbre.stance.vector <= 1)).all()


def test_the_order_of_turns_does_not_matter(tiny_bundle: Bundle) -> None:
    turns = [("Trumpet", 0.8, True), ("Clarinet", 0.3, True), ("Wind noise, breath", 0.9, False)]
    vectors = []
    for order in (turns, turns[::-1]):
        timbre = Timbre(tiny_bundle, Patch())
        for name, setting, carry in order:
            timbre.turn(name, setting, carry)
        vectors.append(timbre.stance.vector)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert vectors[0][NOISY] > REED[NOISY]


def test_a_bundle_without_presets_is_refused(tiny_bundle: Bundle) -> None:
    bare = dataclasses.replace(tiny_bundle, manifest=dataclasses.replace(tiny_bundle.manifest, presets=()))
    with pytest.raises(DarkrackError, match="presets"):
        Timbre(bare, Patch())
