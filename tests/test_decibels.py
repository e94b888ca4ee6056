"""Powers and logarithms in float32, against those of numpy in float64."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device.decibels import amplitude_of, exp2, log2, power_of

FLOAT = np.float32


@given(st.floats(-126, 127, width=32))
def test_powers_of_two(x: float) -> None:
    assert abs(exp2(FLOAT(x)) / 2.0 ** float(FLOAT(x)) - 1) < 2.5e-7


@given(st.floats(2.0**-125, 2.0**125, width=32))
def test_their_logarithm(x: float) -> None:
    wanted = np.log2(float(FLOAT(x)))
    assert abs(log2(FLOAT(x)) - wanted) < 3e-7 + 6e-8 * abs(wanted)


@given(st.floats(-200, 40, width=32))
def test_decibels(level_db: float) -> None:
    assert abs(10 * np.log10(float(power_of(FLOAT(level_db)))) - level_db) < 2e-5
    assert abs(20 * np.log10(float(amplitude_of(FLOAT(level_db)))) - level_db) < 4e-5


def test_what_is_out_of_range_is_held() -> None:
    with np.errstate(over="ignore"):
        assert exp2(FLOAT(-np.inf)) == exp2(FLOAT(-1e9)) == FLOAT(2.0**-126)
        assert exp2(FLOAT(np.inf)) == exp2(FLOAT(1e9)) == FLOAT(2.0**127)
    assert exp2(FLOAT(0)) == 1
    assert log2(FLOAT(1)) == 0
