"""Calibration that believes only what can be true, a follower without lag on steps, scales and Scala files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.profile import CvInput
from device.voct import (
    HYSTERESIS_SEMITONES,
    NOISE_CODES,
    SCALES,
    STEP_NOISES,
    Calibration,
    Follower,
    Point,
    Quantizer,
    Scale,
    calibrate,
    nominal,
    parse_note,
    parse_scala,
    read_scale,
    residual_cents,
    schmitt,
)

STAGE = CvInput(0, 0.5, 0.15)
CODES = 4096
PROMISED = nominal(STAGE, 3.3, CODES)
HERE = Path("scale.scl")


def code_at(volts: float, gain: float = 1.0, offset_v: float = 0.0) -> float:
    return (STAGE.pin_v(volts) * gain + offset_v) / 3.3 * CODES - 0.5


def points(*volts: float, gain: float = 1.0, offset_v: float = 0.0, noise: float = 0.3) -> list[Point]:
    return [Point(v, code_at(v, gain, offset_v), noise) for v in volts]


# Calibration.


def test_without_a_measurement_the_profile_is_believed() -> None:
    for volts in (-0.2, 0.0, 1.0, 5.5):
        assert PROMISED.jack_v(code_at(volts)) == pytest.approx(volts, abs=1e-9)


@given(
    st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True).filter(
        lambda v: max(v) - min(v) >= 10
    ),
    st.floats(0.95, 1.05),
    st.floats(-0.03, 0.03),
    st.floats(0.0, 6.0),
)
def test_any_straight_board_is_learned_from_any_points(
    tenths: list[int], gain: float, offset_v: float, volts: float
) -> None:
    measured = points(*(v / 10 for v in tenths), gain=gain, offset_v=offset_v)
    if not all(
        1.0 < point.code < CODES - 2.0 for point in measured
    ):  # 6 V on a board whose gain is .5 % high
        with pytest.raises(DarkrackError, match="a reading within the converter's range"):
            calibrate(measured, PROMISED, CODES, "here")
        return
    found = calibrate(measured, PROMISED, CODES, "here")
    assert found.jack_v(code_at(volts, gain, offset_v)) == pytest.approx(volts, abs=1e-6)
    assert list(found.codes) == sorted(found.codes)


def test_a_bent_board_is_followed_from_point_to_point() -> None:
    bent = [Point(v, code_at(v) + 3 * math.sin(v), 0.1) for v in range(6)]
    found = calibrate(bent, PROMISED, CODES, "here")
    for point in bent:
        assert found.jack_v(point.code) == pytest.approx(point.jack_v, abs=1e-9)
    assert max(map(abs, residual_cents(bent))) > 2, "which a straight line would have been off by"


def test_an_inverting_stage_is_learned_too() -> None:
    stage = CvInput(0, -0.5, 3.0)
    promised = nominal(stage, 3.3, CODES)
    found = calibrate(
        [Point(v, stage.pin_v(v) / 3.3 * CODES - 0.5 + 4, 0.1) for v in (0, 1, 4)], promised, CODES, "here"
    )
    assert found.jack_v(stage.pin_v(2.5) / 3.3 * CODES - 0.5 + 4) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ([], "two voltages or more, 0.05 V apart or more, over 1 V or more, got none"),
        (points(1.0), "got 1 V"),
        (points(1.0, 1.0), "got 1 V, 1 V"),
        (points(1.0, 1.5), "got 1 V, 1.5 V"),
        (points(1.0, 1.0001, 3.0), "0.05 V apart or more"),
        (points(0.0, 7.0), "7 V: expected a reading within the converter's range"),
        ([*points(0.0), Point(3.0, 0.5, 0.1)], "3 V: expected a reading within"),
        (points(0.0, 3.0, noise=5.0), "0 V: expected a steady voltage (under 4 mV rms), got 8.1 mV"),
        (points(0.0, 3.0, gain=1.2), "codes a volt within 10%, as the profile promises"),
        (points(0.0, 3.0, offset_v=0.2), "about what the profile promises, got +0.40 V beside it"),
        ([*points(0.0, 1.0, 3.0), Point(2.0, code_at(2.06), 0.1)], "cents of what the other points say"),
    ],
)
def test_what_cannot_be_true_is_refused(measured: list[Point], told: str) -> None:
    with pytest.raises(DarkrackError) as refusal:
        calibrate(measured, PROMISED, CODES, "V/oct")
    assert told in str(refusal.value)
    assert refusal.value.where.startswith("V/oct")


def test_swapped_voltages_are_refused() -> None:
    swapped = [Point(0.0, code_at(5.0), 0.1), Point(5.0, code_at(0.0), 0.1)]
    with pytest.raises(DarkrackError, match="codes a volt"):
        calibrate(swapped, PROMISED, CODES, "V/oct")


@pytest.mark.parametrize(
    ("codes", "volts"), [((1.0,), (1.0,)), ((1.0, 1.0), (0.0, 1.0)), ((2.0, 1.0), (0.0, 1.0))]
)
def test_a_calibration_rises(codes: tuple[float, ...], volts: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"points|rise"):
        Calibration(codes, volts)


# The follower.


@pytest.mark.parametrize("codes", NOISE_CODES)
def test_a_step_passes_with_its_first_reading_and_noise_is_averaged(codes: int) -> None:
    noise = NOISE_CODES[codes]
    follower, chance = Follower(codes, 1e-3), np.random.default_rng(0)

    def read(level: float) -> float:
        return follower.hear(int(level + noise * chance.standard_normal() + 0.5))

    for level in (codes / 4, codes / 2):
        assert abs(read(level) - level) < 5 * noise, "at once"
        settled = [read(level) for _ in range(2000)][100:]
        assert np.std(settled) < 0.4 * noise
        assert np.mean(settled) == pytest.approx(level, abs=0.2 * noise + 0.05)


@given(st.floats(0.01, 4.0))
def test_a_ramp_is_followed_as_closely_as_it_is_said(codes_a_reading: float) -> None:
    follower = Follower(4096, 1e-3)
    step = STEP_NOISES * NOISE_CODES[4096]
    level, lag = 100.0, 0.0
    for _ in range(400):
        level += codes_a_reading
        lag = level - follower.hear(int(level))
    assert -1 <= lag <= max(math.sqrt(codes_a_reading * step), codes_a_reading) + 2.5, (
        "and a code of rounding"
    )


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=200))
def test_it_never_leaves_the_range_of_what_it_heard(heard: list[int]) -> None:
    follower = Follower(65536, 1e-3)
    for code in heard:
        assert min(heard) - 1e-6 <= follower.hear(code) <= max(heard) + 1e-6


@given(st.lists(st.floats(-10, 10), max_size=50))
def test_a_schmitt_trigger_holds_between_its_thresholds(volts: list[float]) -> None:
    high = False
    for value in volts:
        before, high = high, schmitt(high, value, 2.0, 1.0)
        assert high == (True if value > 2 else False if value <= 1 else before)


# Scales.


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_rises_to_its_period_and_quantizes_its_own_notes_to_themselves(name: str) -> None:
    scale = read_scale(name, Path(), "here")
    assert scale is not None
    assert list(scale.semitones) == sorted(set(scale.semitones))
    for turn in (-2, 0, 3):
        for note in (0.0, *scale.semitones):
            midi = 2 + turn * scale.semitones[-1] + note
            assert scale.nearest(midi, 2.0) == pytest.approx(midi, abs=1e-9)


@given(st.sampled_from(sorted(SCALES)), st.floats(0, 127), st.integers(0, 11))
def test_the_nearest_note_is_a_note_of_the_scale_and_none_is_nearer(
    name: str, midi: float, root: int
) -> None:
    scale = Scale(name, tuple(map(float, SCALES[name])))
    found = scale.nearest(midi, root)
    period = scale.semitones[-1]
    every = [root + turn * period + note for turn in range(-30, 31) for note in scale.semitones]
    assert min(abs(found - note) for note in every) < 1e-9
    assert abs(found - midi) <= min(abs(note - midi) for note in every) + 1e-9


@given(st.lists(st.floats(36, 84), min_size=1, max_size=60))
def test_a_quantizer_gives_notes_of_its_scale_near_what_it_heard(heard: list[float]) -> None:
    quantizer = Quantizer(read_scale("major", Path(), "here"), 0.0)
    for midi in heard:
        note = quantizer.hear(midi)
        assert note % 12 in {0, 2, 4, 5, 7, 9, 11}
        assert abs(note - midi) <= 1.0 + HYSTERESIS_SEMITONES + 1e-9


def test_a_quantizer_does_not_flutter_between_two_notes() -> None:
    quantizer = Quantizer(read_scale("semitones", Path(), "here"))
    chance = np.random.default_rng(0)
    heard = {quantizer.hear(60.5 + 0.09 * chance.uniform(-1, 1)) for _ in range(1000)}
    assert len(heard) == 1
    assert quantizer.hear(60.5 + 0.11) != quantizer.hear(60.5 - 0.11)


def test_without_a_scale_everything_passes() -> None:
    assert Quantizer(read_scale("OFF ", Path(), "here")).hear(60.37) == 60.37


def test_a_scale_that_nobody_knows() -> None:
    with pytest.raises(DarkrackError, match="did you mean 'dorian'") as refusal:
        read_scale("dorain", Path(), "p.toml: pitch.quantize")
    assert refusal.value.where == "p.toml: pitch.quantize"


MEANTONE = """! meanquar.scl
!
1/4-comma meantone scale. Pietro Aaron's temperament (1523)
 5
!
 193.15686  whole tone
 5/4
 ! a remark among the notes
 3/2
 996.57843 cents
 2
"""


def test_a_scala_file(tmp_path: Path) -> None:
    (tmp_path / "Mean.scl").write_text(MEANTONE)
    scale = read_scale("Mean.scl", tmp_path, "here")
    assert scale is not None
    third, fifth = 12 * math.log2(5 / 4), 12 * math.log2(3 / 2)
    assert scale.semitones == pytest.approx((1.9315686, third, fifth, 9.9657843, 12.0))
    assert Quantizer(scale, 60.0).hear(76.1) == pytest.approx(72 + third)


@given(st.lists(st.floats(0.1, 1199.9), min_size=0, max_size=30, unique=True), st.floats(1200, 2400))
def test_any_cents_come_back_in_order(cents: list[float], period: float) -> None:
    lines = ["any", str(len(cents) + 1), *(f"{value:.6f}" for value in [*cents, period])]
    scale = parse_scala("\n".join(lines), HERE)
    expected = sorted({round(value / 100, 6) for value in cents})
    assert (
        np.allclose([round(note, 6) for note in scale.semitones[:-1]], expected, atol=2e-6)
        or len(scale.semitones) <= len(cents) + 1
    )
    assert scale.semitones[-1] == pytest.approx(period / 100, abs=1e-6)
    assert list(scale.semitones) == sorted(scale.semitones)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a description and a number of notes, got 0 lines"),
        ("one\ntwo", "scale.scl: line 2: expected a number of notes from 1 to 1024, got 'two'"),
        ("one\n0", "got '0'"),
        ("one\n3\n100.0\n2/1", "3 notes, got 2"),
        ("one\n1\n", "1 notes, got 0"),
        ("one\n1\nx", "line 3: expected cents with a period, or a ratio, got 'x'"),
        ("one\n1\n3/", "got '3/'"),
        ("one\n1\n3/0", "got '3/0'"),
        ("one\n1\n0/3", "got '0/3'"),
        ("one\n1\n-3/2", "got '-3/2'"),
        ("one\n1\nnan.", "got 'nan.'"),
        ("one\n1\n1e300.", "got '1e300.'"),
        ("one\n1\n0.0", "a last note above the first"),
    ],
)
def test_a_broken_scala_file_is_refused_at_its_line(text: str, told: str) -> None:
    with pytest.raises(DarkrackError) as refusal:
        parse_scala(text, HERE)
    assert told in str(refusal.value)


@given(st.text(max_size=200))
def test_no_text_makes_it_fall_over(text: str) -> None:
    try:
        scale = parse_scala(text, HERE)
    except DarkrackError:
        return
    assert scale.semitones[-1] > 0


def test_a_scala_file_that_is_not_there_or_far_too_long(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match="a Scala file"):
        read_scale("none.scl", tmp_path, "here")
    (tmp_path / "long.scl").write_text("!\n" * 40_000)
    with pytest.raises(DarkrackError, match="of at most 65536 bytes"):
        read_scale("long.scl", tmp_path, "here")


def test_names_of_notes() -> None:
    assert [parse_note(name, "here") for name in ("C", "f#", " Bb ", "B")] == [0, 6, 10, 11]
    with pytest.raises(DarkrackError, match="the name of a note"):
        parse_note("H", "here")
