"""Knobs through the real driver, and the smoothing's promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from device.adc import (
    BAUDRATE_HZ,
    END,
    FULL_SCALE,
    STEP,
    STILL,
    Array,
    begin_smoothing,
    open_knobs,
    open_voltages,
    settings,
    smooth,
)
from device.errors import DarkrackError
from device.simulation import Ads8325, Clock, Mcp3x08

UNHURRIED = trials(deadline=None)  # the machine may be busy
PERIOD_S = 0.01
END_CODES = round((END - STILL) * FULL_SCALE)
codes = st.integers(0, FULL_SCALE)
periods_s = st.floats(1e-4, 0.1)


def held_at(reads: list[int], period_s: float = PERIOD_S) -> Array:
    """What is given out, in 0..1 of the travel, after each of these codes."""
    state = begin_smoothing(travel(reads[0]))
    given_out = [state.held]
    for read in reads[1:]:
        state = smooth(state, travel(read), period_s)
        given_out.append(state.held)
    return np.concatenate(given_out)


def travel(code: int) -> Array:
    return np.array([code / FULL_SCALE], np.float32)


def test_knobs_are_the_chips_codes_over_full_scale() -> None:
    clock = Clock()
    chip = Mcp3x08(clock, [lambda _now_s: 0.0, lambda _now_s: 3.3, lambda now_s: 3.3 * now_s])
    knobs = open_knobs(3, chip)
    for clock.now_s in (0.0, 0.25, 0.5):
        now_s = clock.now_s
        read = knobs.read_knobs()
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, [0, 1, math.floor(1024 * (now_s + 61e-6)) / 1023], atol=1e-6)
    assert knobs.read_code(1) == FULL_SCALE


@pytest.mark.parametrize("knobs", [0, 9])
def test_a_chip_has_eight_inputs(knobs: int) -> None:
    with pytest.raises(DarkrackError, match=f"1 to 8 of them on one MCP3008, got {knobs}"):
        open_knobs(knobs, Mcp3x08(Clock(), []))


@UNHURRIED
@given(st.floats(0, 127), st.floats(2, 5))
def test_pitch_is_right_to_half_a_code_of_twelve_bits(midi: float, reference_v: float) -> None:
    """Half a volt per octave at the pin, 0 V at MIDI 36; outside the converter's range it stays at the end."""
    chip = Mcp3x08(Clock(), [lambda _now_s: (midi - 36) / 24], reference_v, bits=12)
    read_v = open_voltages("MCP3208", chip, reference_v=reference_v).read_v(0)
    within = min(max((midi - 36) / 24, 0.0), reference_v)
    assert abs(read_v - within) <= 0.501 * reference_v / 4096


def test_all_eight_voltages_are_read_beside_the_knobs() -> None:
    clock = Clock()
    levels_v = [0.4 * channel for channel in range(8)]
    voltages = open_voltages("MCP3208", Mcp3x08(clock, [lambda _now_s, v=v: v for v in levels_v], bits=12))
    knobs = open_knobs(8, Mcp3x08(clock, [lambda _now_s, v=v: v for v in levels_v]))
    for channel, level_v in enumerate(levels_v):
        assert voltages.read_code(channel) == int(level_v / 3.3 * 4096)
        assert knobs.read_code(channel) == int(level_v / 3.3 * 1024)
    # 24 bits for each of 16 readings, at the speed that was asked for and not the driver's own tenth of it.
    assert clock.now_s == pytest.approx(16 * 24 / BAUDRATE_HZ)


def test_no_such_pin_on_the_board_is_our_error() -> None:
    open_knobs(1, Mcp3x08(Clock(), []))  # from here on this process has a board without a D5
    with pytest.raises(DarkrackError, match="a board with SPI and a pin D5"):
        open_knobs(1)
    with pytest.raises(DarkrackError, match="control voltages: expected a board with SPI and a pin D6"):
        open_voltages("MCP3208")


@UNHURRIED
@given(st.lists(codes, min_size=1, max_size=60), periods_s)
def test_never_outside_what_was_read(reads: list[int], period_s: float) -> None:
    held = held_at(reads, period_s) * FULL_SCALE
    for number, value in enumerate(held):
        seen = reads[: number + 1]
        assert min(seen) - 1e-3 <= value <= max(seen) + 1e-3


@UNHURRIED
@given(codes, codes)
def test_a_still_pot_is_approached_and_then_exactly_still(start: int, target: int) -> None:
    held = held_at([start] + [target] * 100)
    assert abs(held[-1] - target / FULL_SCALE) <= STILL
    assert np.all(held[40:] == held[-1])


@UNHURRIED
@given(codes, st.integers(1, FULL_SCALE - 1), st.lists(st.integers(-1, 1), min_size=400, max_size=400))
def test_noise_of_a_code_around_a_still_pot_is_silent(start: int, target: int, noise: list[int]) -> None:
    """Once there, at most one correction while the noise finds its far side; then nothing."""
    held = held_at([start, *[target + error for error in noise]])[40:]
    assert np.count_nonzero(np.diff(held)) <= 1
    assert np.all(np.abs(held - target / FULL_SCALE) <= STILL + 1 / FULL_SCALE)


@UNHURRIED
@given(st.lists(codes, min_size=1, max_size=20), codes, periods_s)
def test_a_big_step_passes_at_once(reads: list[int], target: int, period_s: float) -> None:
    state = begin_smoothing(travel(reads[0]))
    for read in reads[1:]:
        state = smooth(state, travel(read), period_s)
    if abs(target / FULL_SCALE - state.pole[0]) < STEP:
        return
    after = smooth(state, travel(target), period_s)
    np.testing.assert_allclose(after.held, travel(target), atol=1e-6)


@UNHURRIED
@given(st.lists(codes, min_size=2, max_size=100).map(sorted), st.booleans(), periods_s)
def test_a_knob_turned_one_way_moves_one_way(reads: list[int], down: bool, period_s: float) -> None:
    held = held_at(reads[::-1] if down else reads, period_s)
    assert all(b <= a if down else b >= a for a, b in itertools.pairwise(held))


@UNHURRIED
@given(st.floats(0.2, 5))
def test_a_steady_turn_is_followed_closely(turn_s: float) -> None:
    scans = math.ceil(turn_s / PERIOD_S)
    reads = [round(FULL_SCALE * scan / scans) for scan in range(scans + 1)]
    lag = np.array(reads) / FULL_SCALE - held_at(reads)
    assert np.max(lag) < STEP / 2


def test_both_ends_are_reached() -> None:
    for reads, end in (([512] * 3 + [END_CODES] * 60, 0.0), ([512] * 3 + [FULL_SCALE - END_CODES] * 60, 1.0)):
        state = begin_smoothing(travel(reads[0]))
        for read in reads[1:]:
            state = smooth(state, travel(read), PERIOD_S)
        assert settings(state)[0] == end
        assert settings(state).dtype == np.float32


@UNHURRIED
@given(st.lists(codes, min_size=1, max_size=8))
def test_settings_lie_in_range_and_in_order(reads: list[int]) -> None:
    ordered = np.concatenate([travel(read) for read in sorted(reads)])
    out = settings(begin_smoothing(ordered))
    assert np.all((out >= 0) & (out <= 1))
    assert np.all(np.diff(out) >= 0)


# The 16-bit chip.


@given(st.integers(0, 65535))
@trials(deadline=None, max_examples=50)
def test_three_bytes_are_sixteen_bits(code: int) -> None:
    chip = Ads8325(Clock(), [lambda _now_s: (code + 0.5) * 3.3 / 65536])
    inputs = open_voltages("ADS8325", chip)
    assert inputs.codes == 65536
    assert inputs.read_code(0) == code
    assert inputs.read_v(0) == pytest.approx((code + 0.5) * 3.3 / 65536)


def test_a_chip_that_is_not_there_is_no_reading() -> None:
    chip = Ads8325(Clock(), [lambda _now_s: 1.0])
    inputs = open_voltages("ADS8325", chip)
    chip.set_chip_select = lambda _level: None  # type: ignore[method-assign]
    with pytest.raises(OSError, match="does not answer"):
        inputs.read_code(0)
