"""The compiled half of `device.partials.decode`: level, tuning, loop and slopes of a note, without Python.

It runs for every refresh of every held voice. What visits all cells is float32 on SIMD lanes; sums over a note's
frames and decisions are float64.
"""

from __future__ import annotations

import math

import numpy as np

from device.compiled import FAST, compiled
from device.decibels import power_of
from device.partials import LOUDEST_DB, MOST_RAISED_DB, SILENCE_DB, SILENT_LEVEL

# Of the note: the loop begins past the attack; the later, the longer a swell takes.
LOOP_EARLIEST, LOOP_LATEST = 0.4, 0.7
LOOP_MARGIN_FRAMES = 3  # the last analysis windows of the training notes reach over the end of the note
SWOLLEN_DB = 3.0  # a swell is over this far under the loudest frame
STRUCK_BEGIN_S, STRUCK_END_S = 0.04, 0.2  # when a struck note is loud
# A note is struck if it falls faster than this both over all of its length and inside the loop (one of the two
# alone is an accent, or a tremolo on its way down), or if it has lost FADED_DB by the end of the loop. On 34
# programs of FluidR3 at 5 pitches, no sustained note falls faster than 2.9 dB/s or loses more than 5 dB so.
SUSTAINED_DB_PER_S = -3.0
FADED_DB = 10.0
STEEPEST_DB_PER_S = -100.0

CENTRE_PARTIALS = 6  # that make the pitch that is heard; what lies between partials has no say
CENTRE_RANGE_DB = 30.0  # and how far under the strongest of them a row still counts
# A low row this close to its harmonic is meant to be there and is brought within STRAY_CENTS of it, so that a
# note is in tune by whichever partial one listens to; a bell's partials are further away and stay.
HARMONIC_CENTS = 25.0
STRAY_CENTS = 3.0

_SILENCE_DB, _LOUDEST_DB = np.float32(SILENCE_DB), np.float32(LOUDEST_DB)
_SILENT_LEVEL = np.float32(SILENT_LEVEL)
_HALF, _ONE = np.float32(0.5), np.float32(1)


@compiled(fastmath=FAST)
def decode_planes(  # type: ignore[no-untyped-def]  # noqa: PLR0917 (a note comes in, a note goes out)
    network_level, deviation, floor_db, frame_rate_hz, rows_a_partial, level_db, ratio, decay_db_per_s
):
    """Write the planes of a `NoteFrames` from those of the network; all (rows, frames) float32, C order.

    ``decay_db_per_s`` (rows,) float32. Returns whether all that came in is finite (if not, nothing was written), and
    the first and last frame of the loop.
    """
    if not (_is_finite(network_level) and _is_finite(deviation)):
        return False, 0, 0
    rows, frames = level_db.shape
    total_db = np.empty(frames, np.float64)
    _levels(network_level, floor_db, level_db, total_db)
    loop_start, loop_end = _loop(total_db)
    _ratios(deviation, level_db, loop_start, loop_end, rows_a_partial, ratio)

    trend = np.empty(rows, np.float64)
    _trends(level_db, loop_start, loop_end, frame_rate_hz, trend)
    held = _decays(total_db, loop_start, loop_end, frame_rate_hz, trend, decay_db_per_s)

    # What is held is held at the mean level of the loop, and comes there on the second half of the way to it.
    way = np.zeros(frames, np.float32)
    in_loop_s = np.zeros(frames, np.float32)
    to_mean_s = (loop_end - loop_start) / 2 / frame_rate_hz if held else 0.0
    for t in range(frames):
        in_loop_s[t] = max(t - loop_start, 0) / frame_rate_hz
        way[t] = to_mean_s * min(max(1 + (t - loop_start) / max(loop_start / 2, 1.0), 0.0), 1.0)
    for t in range(frames):
        in_loop_s[t] -= way[t]
    for r in range(rows):
        slope = np.float32(trend[r])
        for t in range(frames):
            level = level_db[r, t]
            level_db[r, t] = level - slope * in_loop_s[t] if level > _SILENCE_DB else _SILENCE_DB
    return True, loop_start, loop_end


@compiled(fastmath=FAST)
def _is_finite(plane):  # type: ignore[no-untyped-def]
    wrong = np.int32(0)
    for r in range(plane.shape[0]):
        for t in range(plane.shape[1]):
            wrong += np.int32(not np.isfinite(plane[r, t]))
    return wrong == 0


@compiled(fastmath=FAST)
def _levels(network_level, floor_db, level_db, total_db):  # type: ignore[no-untyped-def]
    """Write levels and the power of every frame, with the loudest frame at RMS 1.

    Training notes have RMS 1 in their loudest frame (half the sum of squares is 1). A generated one is brought there,
    so that a knob changes the sound and leaves the level to whoever plays; what is nearly silent stays nearly so.
    """
    rows, frames = level_db.shape
    floor = np.float32(floor_db)
    power = np.zeros(frames, np.float32)
    for r in range(rows):
        for t in range(frames):
            given = network_level[r, t]
            level = min(floor * (_ONE - given), _LOUDEST_DB) if given > _SILENT_LEVEL else _SILENCE_DB
            level_db[r, t] = level
            power[t] += power_of(level)
    loudest_db = -np.inf
    for t in range(frames):
        total_db[t] = 10 * math.log10(power[t] / 2)
        loudest_db = max(loudest_db, total_db[t])
    raised_db = min(-loudest_db, MOST_RAISED_DB)
    raised = np.float32(raised_db)
    for t in range(frames):
        total_db[t] += raised_db
    for r in range(rows):
        for t in range(frames):
            level = level_db[r, t]
            level_db[r, t] = level + raised if level > _SILENCE_DB else _SILENCE_DB


@compiled(fastmath=FAST)
def _loop(total_db):  # type: ignore[no-untyped-def]
    """First and last frame of the loop: as long as it can be once the note has swollen to its level."""
    frames = len(total_db)
    loop_end = max(frames - 1 - LOOP_MARGIN_FRAMES, 0)
    loudest_db = total_db.max()
    swollen = 0
    while total_db[swollen] <= loudest_db - SWOLLEN_DB:
        swollen += 1
    earliest, latest = round(LOOP_EARLIEST * frames), round(LOOP_LATEST * frames)
    return min(max(swollen, earliest), latest, loop_end), loop_end


@compiled(fastmath=FAST)
def _ratios(deviation, level_db, loop_start, loop_end, rows_a_partial, ratio):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write the frequency ratios, with the strong low partials on the harmonic series of the f0 asked for.

    One factor for all rows, by least squares: sum a^2 (factor ratio - k)^2 is smallest over the partials, so that
    stretch and vibrato stay. On top of it, what a harmonic low row strays from its place beyond STRAY_CENTS.
    """
    rows, frames = ratio.shape
    begin, end = loop_start, loop_end + 1
    if level_db[:, loop_start:].max() <= _SILENCE_DB:
        begin, end = 0, frames  # nothing is held: the pitch is that of what is heard
    low_rows = min(rows, CENTRE_PARTIALS * rows_a_partial)
    energy, moment = np.zeros(low_rows), np.zeros(low_rows)  # of a row: sum a^2, sum a^2 ratio
    for r in range(rows_a_partial - 1, low_rows, rows_a_partial):
        row_energy, row_shift = 0.0, 0.0
        for t in range(begin, end):
            level = level_db[r, t]
            power = float(power_of(level)) if level > _SILENCE_DB else 0.0
            row_energy += power
            row_shift += power * (min(max(deviation[r, t], -_ONE), _ONE) * _HALF)
        energy[r], moment[r] = row_energy, (r + 1) * row_energy + row_shift
    least = energy.max() * 10 ** (-CENTRE_RANGE_DB / 10)
    wanted, found = 0.0, 0.0
    for r in range(low_rows):
        if energy[r] < least:
            energy[r] = 0.0
        if energy[r] > 0:
            wanted += energy[r] * (r + 1) ** 2
            found += moment[r] * (r + 1)
    common = wanted / found if found > 0 else 1.0
    for r in range(rows):
        factor = common
        if r < low_rows and energy[r] > 0:
            stray_cents = 1200 * math.log2(common * moment[r] / ((r + 1) * energy[r]))
            excess_cents = stray_cents - min(max(stray_cents, -STRAY_CENTS), STRAY_CENTS)
            if abs(stray_cents) < HARMONIC_CENTS:
                factor *= 2 ** (-excess_cents / 1200)
        factor /= rows_a_partial
        scale, place = np.float32(factor), np.float32((r + 1) * factor)
        scale *= _HALF
        for t in range(frames):
            ratio[r, t] = place + scale * min(max(deviation[r, t], -_ONE), _ONE)


@compiled(fastmath=FAST)
def _trends(level_db, loop_start, loop_end, frame_rate_hz, trend):  # type: ignore[no-untyped-def]
    """Write the slope of every row inside the loop, dB / s, where it is not silent."""
    for r in range(len(trend)):
        # Straight line by sums over whole frames, counted from the middle, where n and level correlate least.
        count, sum_n, sum_nn, sum_level, sum_n_level = 0.0, 0.0, 0.0, 0.0, 0.0
        middle = (loop_start + loop_end) // 2
        for t in range(loop_start, loop_end + 1):
            n = float(t - middle)
            level = float(level_db[r, t])
            sounds = 1.0 if level > SILENCE_DB else 0.0
            count += sounds
            sum_n += sounds * n
            sum_nn += sounds * n * n
            sum_level += sounds * level
            sum_n_level += sounds * n * level
        trend[r] = 0.0
        if count > 1:
            spread_s2 = (sum_nn - sum_n * sum_n / count) / frame_rate_hz**2
            trend[r] = (sum_n_level - sum_n * sum_level / count) / frame_rate_hz / max(spread_s2, 1e-3)


@compiled(fastmath=FAST)
def _decays(total_db, loop_start, loop_end, frame_rate_hz, trend, decay_db_per_s):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write the slope that every row keeps for as long as it is held; returns whether the note is a held one.

    All zeros for that, else below zero in every row. ``trend`` becomes what is to be taken out of the loop.
    """
    rows = len(trend)
    for r in range(rows):
        decay_db_per_s[r] = 0
        trend[r] = min(max(trend[r], STEEPEST_DB_PER_S), -STEEPEST_DB_PER_S)
    if loop_end == loop_start:
        for r in range(rows):
            trend[r] = 0.0
        return True
    early, early_end = round(STRUCK_BEGIN_S * frame_rate_hz), round(STRUCK_END_S * frame_rate_hz)
    whole = _slope_db(total_db[early : loop_end + 1]) * frame_rate_hz
    loop = _slope_db(total_db[loop_start : loop_end + 1]) * frame_rate_hz
    late = loop_end - (loop_end - loop_start) // 3
    drop_db = 0.0
    if early_end < loop_start:
        drop_db = total_db[early : early_end + 1].mean() - total_db[late : loop_end + 1].mean()
    if drop_db > FADED_DB:
        loop = min(loop, whole)
    elif max(loop, whole) > SUSTAINED_DB_PER_S:
        return True
    # A row's own slope is a noisy estimate: one that came out flat must not ring on when the note is over.
    steepest, flattest = max(3 * loop, STEEPEST_DB_PER_S), max(loop / 2, STEEPEST_DB_PER_S)
    for r in range(rows):
        trend[r] = min(max(trend[r], steepest), flattest)
        decay_db_per_s[r] = trend[r]
    return False


@compiled(fastmath=FAST)
def _slope_db(total_db):  # type: ignore[no-untyped-def]
    """Slope of the straight line through these frames, dB per frame."""
    frames = len(total_db)
    if frames < 2:
        return 0.0
    moment, spread = 0.0, 0.0
    for t in range(frames):
        n = t - (frames - 1) / 2
        moment += n * total_db[t]
        spread += n * n
    return moment / spread
