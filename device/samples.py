"""Samples read at any pitch inside the audio callback: windowed sinc, looped.

The filter is a sinc of TAPS samples under a Kaiser window, tabulated at PHASES places between two samples with straight
lines between them (J. O. Smith, "Digital Audio Resampling", bandlimited interpolation). Its band ends at half of the
table's rate, give or take TRANSITION, so that a table at 16 kHz keeps what is under 7 kHz, and images above 9 kHz are
gone. Read faster, what would lie over HEARD_SHARE of the output's rate is left out by a filter whose band ends sooner.
"""

from __future__ import annotations

import numpy as np

from device.compiled import FAST, compiled
from device.partials import HEARD_SHARE

TAPS = 32
HALF = TAPS // 2
PHASES = 512
BETA = 8.5  # side lobes 85 dB down
TRANSITION = 4.0 / TAPS  # of the half rate, on either side of the cutoff, for that BETA
# Each the one before less TRANSITION; the last one serves steps up to .9 / (.125 + .125) = 3.6.
CUTOFFS = tuple(1 - TRANSITION * n for n in range(8))


def _filters() -> np.ndarray:
    """(CUTOFFS, PHASES + 1, TAPS) float32: row p is the filter for a place p / PHASES after a sample."""
    place = np.arange(PHASES + 1)[:, None] / PHASES
    n = np.arange(TAPS)[None, :] - (HALF - 1) - place
    window = np.i0(BETA * np.sqrt(np.clip(1 - (n / HALF) ** 2, 0, None))) / np.i0(BETA)
    rows = np.stack([cutoff * np.sinc(cutoff * n) * window for cutoff in CUTOFFS])
    return np.asarray(rows / rows.sum(axis=2, keepdims=True), np.float32)


FILTERS = _filters()


@compiled(fastmath=FAST)
def read_samples(table, length, loop_start, loop_end, position, step, step_change, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write len(out) samples of ``table`` from ``position`` on to ``out``, and return the position after them.

    ``position`` in samples, advancing by ``step``, which grows by ``step_change`` each time (a glide). From
    ``loop_end`` it goes back by ``loop_end - loop_start``; the table goes on for HALF samples after loop_end as it does
    after loop_start. Before its beginning and after ``length`` it is silent. A step over 3.6 folds.
    """
    # The highest frequency that is to be heard, as a share of the table's half rate.
    most = 2 * HEARD_SHARE / max(step, step + step_change * out.shape[0], 0.1)
    narrow = min(max(int(np.ceil((1 - most) / TRANSITION)) + 1, 0), len(CUTOFFS) - 1)
    filters = FILTERS[narrow]
    width = loop_end - loop_start
    for i in range(out.shape[0]):
        if position >= loop_end and width > 0:
            position -= width * np.floor((position - loop_start) / width)
        whole = int(np.floor(position))
        place = np.float32((position - whole) * PHASES)
        phase = min(int(place), PHASES - 1)
        between = place - np.float32(phase)
        low, high = filters[phase], filters[phase + 1]
        first = whole - (HALF - 1)
        total = np.float32(0)
        if first >= 0 and first + TAPS <= length:
            for k in range(TAPS):
                total += table[first + k] * (low[k] + between * (high[k] - low[k]))
        else:
            for k in range(TAPS):
                if 0 <= first + k < length:
                    total += table[first + k] * (low[k] + between * (high[k] - low[k]))
        out[i] = total
        position += step
        step += step_change
    return position
