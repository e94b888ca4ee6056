"""Powers of two, their logarithm, and decibels in float32, compiled so that a loop over them runs on SIMD lanes.

`math.exp` and `math.log` are calls, one number at a time; these are a polynomial and an integer that goes into the
exponent's bits. Both hold 1e-5 dB over the range of levels that a note has.
"""

from __future__ import annotations

import math

import numpy as np

from device.compiled import FAST, compiled

# 2^f = sum (ln 2)^n / n! f^n. For |f| <= 1/2 the first term left out is (ln 2 / 2)^7 / 7! = 1.2e-7: one rounding.
_E1, _E2, _E3, _E4, _E5, _E6 = (np.float32(math.log(2) ** n / math.factorial(n)) for n in range(1, 7))
# log2 m = 2 / ln 2 atanh s, s = (m - 1) / (m + 1), atanh s = s + s^3 / 3 + s^5 / 5 ...: for m from sqrt(1/2) to sqrt 2
# |s| < 0.172, and the first term left out is 2 / ln 2 s^9 / 9 = 4e-8.
_L1, _L3, _L5, _L7 = (np.float32(2 / math.log(2) / n) for n in (1, 3, 5, 7))
_OCTAVES_PER_DB = np.float32(math.log2(10) / 10)  # of power: 10^(x / 10) = 2^(x log2(10) / 10)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
# float32 is 1 bit sign, 8 bits exponent + 127, 23 bits of the mantissa behind the leading 1.
_MANTISSA_BITS = np.int32(23)
_BIAS = np.int32(127)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)  # float32 sqrt(1/2)
_LEAST, _MOST = np.float32(-126), np.float32(127)  # exponents of normal numbers


@compiled(fastmath=FAST)
def exp2(x):  # type: ignore[no-untyped-def]
    """2^x, float32, relative error 2e-7; x is held within -126..127, and NaN gives some number."""
    x = min(max(x, _LEAST), _MOST)
    whole = np.floor(x + _HALF)
    f = x - whole
    mantissa = _ONE + f * (_E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    return mantissa * np.int32((np.int32(whole) + _BIAS) << _MANTISSA_BITS).view(np.float32)


@compiled(fastmath=FAST)
def log2(x):  # type: ignore[no-untyped-def]
    """The logarithm of a float32 to base 2, absolute error 3e-7 near 1; x must be positive, normal and finite."""
    bits = np.float32(x).view(np.int32)
    whole = np.int32(bits - _SQRT_HALF_BITS) >> _MANTISSA_BITS
    mantissa = np.int32(bits - (whole << _MANTISSA_BITS)).view(np.float32)
    s = (mantissa - _ONE) / (mantissa + _ONE)
    q = s * s
    return np.float32(whole) + s * (_L1 + q * (_L3 + q * (_L5 + q * _L7)))


@compiled(fastmath=FAST)
def power_of(level_db):  # type: ignore[no-untyped-def]
    """10^(level_db / 10) of a float32 level, from -379 to 382 dB."""
    return exp2(level_db * _OCTAVES_PER_DB)


@compiled(fastmath=FAST)
def amplitude_of(level_db):  # type: ignore[no-untyped-def]
    """10^(level_db / 20) of a float32 level."""
    return exp2(level_db * (_OCTAVES_PER_DB * _HALF))
