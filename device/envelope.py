"""The smooth spectral envelope of a note, and what keeps it in place, in Hz, at a pitch that its table is not for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.compiled import FAST, compiled
from device.decibels import exp2, log2, power_of
from device.partials import SILENCE_DB, NoteFrames

Array = npt.NDArray[np.float32]

FLOOR_DB = -90.0  # the least that an envelope holds, under its strongest row
MOST_GAIN_DB = 24.0  # what `envelope_gain` raises or lowers a partial at most

_SILENCE_DB = np.float32(SILENCE_DB)
_FLOOR = np.float32(10 ** (FLOOR_DB / 20))
_LEAST_GAIN, _MOST_GAIN = np.float32(10 ** (-MOST_GAIN_DB / 20)), np.float32(10 ** (MOST_GAIN_DB / 20))
_ONE = np.float32(1)


def envelope(note: NoteFrames) -> Array:
    """The spectral envelope of the held part of a note: linear amplitude per row, (rows,) float32, above zero.

    RMS over the loop; then a row weaker than the geometric mean of its two neighbours is raised to that (a straight
    line in dB), so that a sound of odd harmonics alone, or one with every fifth missing, has a smooth envelope. Peaks
    stay as they are: on vowels moved by 1 to 3 semitones, an average over three rows left 1.4 times the error. Beyond
    the first and the last row that sounds, the spectrum is mirrored. At least FLOOR_DB under its maximum everywhere;
    a silent note has a flat one. Cells that are not finite count as silent.
    """
    rows = note.level_db.shape[0]
    out = np.empty(rows, np.float32)
    _envelope(np.ascontiguousarray(note.level_db, np.float32), note.loop_start, note.loop_end, out)
    return out


@compiled(fastmath=FAST)
def _envelope(level_db, loop_start, loop_end, out):  # type: ignore[no-untyped-def]
    rows, frames = level_db.shape
    end = min(max(loop_end, 0), frames - 1) + 1
    begin = min(max(loop_start, 0), end - 1)
    last = -1
    for r in range(rows):
        power = np.float32(0)
        for t in range(begin, end):
            level = level_db[r, t]
            sounds = level > _SILENCE_DB and level < np.inf
            power += power_of(level) if sounds else np.float32(0)
        out[r] = np.sqrt(power / np.float32(end - begin))
        if power > 0:
            last = r
    below = out[min(1, max(last, 0))]
    loudest = np.float32(0)
    for r in range(last + 1):
        here = out[r]
        above = out[r + 1] if r < last else below
        out[r] = max(here, np.sqrt(below * above))
        below = here
        loudest = max(loudest, out[r])
    if last < 0:
        loudest = _ONE
    for r in range(rows):
        # Above the last row that sounds there is nothing to know: it goes on as it is there.
        out[r] = max(out[min(r, max(last, 0))], loudest * _FLOOR)


@compiled(fastmath=FAST)
def envelope_gain(envelope, rows, pitch_ratio, out):  # type: ignore[no-untyped-def]
    """Write to ``out`` (rows,) float32 what each row is multiplied by so that its envelope stays in Hz.

    ``envelope`` (rows,) float32 as `envelope` gives it; ``pitch_ratio``: the f0 that sounds / the table's f0. Row k
    gets E(k pitch_ratio) / E(k), between rows on straight lines in dB, beyond them the end's value, and never more
    than MOST_GAIN_DB up or down. A ratio that is not above zero changes nothing. No allocation.
    """
    ratio = np.float32(pitch_ratio if pitch_ratio > 0 else 1.0)
    top = np.float32(rows - 1)
    for r in range(rows):
        place = min(max(np.float32(r + 1) * ratio - _ONE, np.float32(0)), top)
        low = np.int32(place)
        high = min(low + 1, rows - 1)
        weight = place - np.float32(low)
        begin, end = envelope[low], envelope[high]
        gain = begin / envelope[r] * exp2(weight * log2(end / begin))
        out[r] = min(max(gain, _LEAST_GAIN), _MOST_GAIN)
