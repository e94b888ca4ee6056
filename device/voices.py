"""Voices that hold, glide and morph: additive synthesis of note frames, and samples, compiled by numba.

A voice is a place in a table. Tables lie in slots that are filled outside the audio callback: a slot holds either
note frames (amplitude and frequency ratio per partial, `device.partials`) or a sample (`device.stft`). Every SEGMENT
samples a voice on frames looks up where each partial should be by the end of the segment, and synthesises the
segment with amplitude and frequency going there in a straight line. Phase is a 32-bit integer that counts 2^-32
turns: it wraps for free, never drifts, and cannot become NaN.

The loop over samples is the inner one. With the phase in closed form (quadratic in n) it has no recurrence,
so it runs on SIMD lanes, needs no sum across lanes, and a silent partial costs nothing; a complex rotation
per sample would have to put the partials inside.

Everything below VoiceBank is a plain compiled function on the arrays of `State`: the audio callback of
`device.engine`, which must not run Python, calls the same ones.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from device.compiled import FAST, compiled
from device.envelope import envelope, envelope_gain
from device.partials import HEARD_SHARE, NoteFrames, Partials
from device.samples import read_samples
from device.stft import NoteSamples, Stft

Array = npt.NDArray[np.float32]
Note: TypeAlias = NoteFrames | NoteSamples

# Samples: 1.3 ms at 48 kHz, six of them between two frames at 125 Hz. Against interpolation at every sample the error
# was 64 to 67 dB down on five FluidR3 notes (before `_limit` made it late); half the length costs 1.6 times as much for
# 6 dB.
SEGMENT = 64
FADE_S = 0.004  # of a voice that is stolen or killed
ONSET_S = 0.002  # half-way at 1 ms; takes the step out of a note that begins loud
# A bright note bent by more than an octave within GLIDE_S would sweep its partials so fast that they spread over the
# limit: such a leap fades into the new pitch instead.
LARGEST_SLIDE = 2.0 * (1 + 1e-6)
GLIDE_S = 0.005  # each of two time constants of pitch and gain on their way to where they were sent
CORNER_S = 0.002  # time constant that rounds the corner where a release begins
SHORTEST_RELEASE_S = 0.02
SHORTEST_MORPH_S = 0.02
GONE = 10 ** (-90 / 20)  # amplitude below which a released voice is over
INAUDIBLE = 10 ** (-130 / 20)  # amplitude below which a partial is not computed; keeps denormals out, too
LOUDEST = 100.0  # the largest amplitude a cell may have (+40 dB)
# Partials fade over this share of the band below the limit, squared. What a loud partial near the limit does within
# milliseconds spreads beyond it: of 90 minutes of stress 17 ms were clicks at .05 (not squared), 3 at .1, none at .15.
LIMIT_SOFTNESS = 0.15
# A held note turns back somewhere in the outer quarter of its loop, so that it never repeats itself exactly.
WANDER = 0.25
SAME_PITCH = 1e-4  # relative: nearer than that (0.2 cents) to the pitch of its table a voice needs no tilt
TURN = 2.0**32

EMPTY, FRAMES, SAMPLES = 0, 1, 2  # what a slot holds

TABLE = np.dtype(
    [
        ("kind", np.int64),
        ("rows", np.int64),
        ("frames", np.int64),  # or samples
        ("rate_hz", np.float64),  # frames or samples a second
        ("loop_start", np.float64),  # frames or samples
        ("loop_end", np.float64),
        ("f0_hz", np.float64),  # what it was made for
        ("limit_hz", np.float64),
        ("decay_per_s", np.float64),  # nepers, of a sample; frames have a decay for each row
    ],
    align=True,
)

VOICE = np.dtype(
    [
        ("active", np.bool_),
        ("released", np.bool_),
        ("rms", np.float64),  # of the segment being played, both channels together, full scale = 1
        ("age_samples", np.int64),  # played
        ("onset_at_samples", np.int64),  # the age at which it began to swell
        (
            "made_samples",
            np.int64,
        ),  # synthesised: a multiple of SEGMENT, up to SEGMENT ahead of what is played
        ("note", np.int64),  # who started it; the engine's events name it, so that a late one finds nobody
        ("slot", np.int64),  # of its table
        ("rows", np.int64),  # that may sound
        ("place", np.float64),  # in the table: frames or samples
        ("way", np.float64),  # +1 or -1
        ("turn", np.float64),  # the place at which the way changes
        ("random", np.uint64),
        ("sample_gain", np.float64),  # what a looped sample has decayed to
        ("tilted", np.float64),  # pitch, relative to the table's, that `tilt` was made for
        ("f0_hz", np.float64),
        ("f0_leader_hz", np.float64),  # on its way to the goal; f0 follows it, so that a glide begins softly
        ("f0_goal_hz", np.float64),
        ("glide", np.float64),  # factor on the leader per segment; 1: it goes there by itself
        ("gain", np.float64),
        ("gain_leader", np.float64),
        ("gain_goal", np.float64),
        ("left", np.float64),  # equal power: left^2 + right^2 = 1
        ("right", np.float64),
        ("release_gain", np.float64),
        ("release_leader", np.float64),  # falls exponentially, by release_step per sample
        ("release_step", np.float64),
        ("morph", np.float64),  # 1 when a morph begins, 0 when it is over
        ("morph_step", np.float64),  # per segment
    ],
    align=True,
)


class State(NamedTuple):
    """All that sounds, in preallocated arrays; V voices, S slots, R rows.

    ``cells`` (S, size): of frames, amplitude (frames, rows) and then ratio (frames, rows), a row's neighbours
    adjacent because a segment needs all rows of two frames; of a sample, its samples. ``shift_*``: what the
    spectrum had beyond its new table when a morph began. ``tilt``: what keeps formants in place at a pitch
    that the table was not made for.
    """

    voice: Any  # (V,) VOICE
    table: Any  # (S,) TABLE
    cells: Array
    decay: Array  # (S, R) nepers per second
    decay_step: Array  # (S, R) factor per segment
    envelope: Array  # (S, R)
    decay_gain: Array  # (V, R) and so on down to `to_step`
    shift_amplitude: Array
    shift_ratio: Array
    tilt: Array
    below_limit: Array  # 1, or less for a partial on its way to or from silence at the limit
    from_amplitude: Array
    to_amplitude: Array
    to_ratio: Array
    phase: npt.NDArray[np.int32]  # 2^-32 turns
    step: npt.NDArray[np.int32]  # 2^-32 turns per sample
    to_step: npt.NDArray[np.int32]
    mono: Array  # (V, SEGMENT)
    triangle: npt.NDArray[np.int32]  # (SEGMENT,) n (n - 1) / 2
    tail: Array  # (fade samples, 2), a ring: what stolen voices still have to say
    cut: Array  # (fade samples, 2), scratch
    tail_at: npt.NDArray[np.int64]  # (1,)
    muted: npt.NDArray[np.int64]  # (1,) voices that were silenced because a sample was not finite
    rate_hz: npt.NDArray[np.float64]  # (1,) samples a second


def state_shapes(
    voices: int, slots: int, rows: int, size: int, sample_rate_hz: float
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array of a `State`, in its order: for whoever brings the memory."""
    fade_samples = max(round(FADE_S * sample_rate_hz), 1)
    real, whole = np.dtype(np.float32), np.dtype(np.int32)
    per_row: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        **{name: ((voices, rows), real) for name in _PER_ROW},
        **{name: ((voices, rows), whole) for name in ("phase", "step", "to_step")},
    }
    return {
        "voice": ((voices,), VOICE),
        "table": ((slots,), TABLE),
        "cells": ((slots, size), real),
        "decay": ((slots, rows), real),
        "decay_step": ((slots, rows), real),
        "envelope": ((slots, rows), real),
        **per_row,
        "mono": ((voices, SEGMENT), real),
        "triangle": ((SEGMENT,), whole),
        "tail": ((fade_samples, 2), real),
        "cut": ((fade_samples, 2), real),
        "tail_at": ((1,), np.dtype(np.int64)),
        "muted": ((1,), np.dtype(np.int64)),
        "rate_hz": ((1,), np.dtype(np.float64)),
    }


_PER_ROW = (
    "decay_gain",
    "shift_amplitude",
    "shift_ratio",
    "tilt",
    "below_limit",
    "from_amplitude",
    "to_amplitude",
    "to_ratio",
)


def prepare(state: State, sample_rate_hz: float) -> None:
    """Write the constants into the zeroed arrays of a state."""
    state.rate_hz[0] = sample_rate_hz
    n = np.arange(SEGMENT)
    state.triangle[:] = n * (n - 1) // 2


def fill(state: State, slot: int, note: Note, f0_hz: float, grid: Partials | None) -> None:
    """Write a note made for ``f0_hz`` into a slot that no voice plays; not for the audio callback.

    ``grid`` is that of note frames (None for a sample). Cells that are not finite are silent. Raises ValueError
    for a note larger than the slot.
    """
    size, rows = state.cells.shape[1], state.decay.shape[1]
    if isinstance(note, NoteSamples):
        if len(note.samples) > size:
            raise ValueError(f"{len(note.samples)} samples in a slot for {size}")
        fill_samples(
            state,
            slot,
            note.samples,
            float(note.sample_rate_hz),
            float(note.loop_start),
            float(note.loop_end),
            float(note.decay_db_per_s),
            float(f0_hz),
        )
        return
    if grid is None or note.level_db.shape[0] > rows or 2 * note.level_db.size > size:
        raise ValueError(
            f"a note of {note.level_db.shape} rows and frames in a slot for {rows} rows, {size} cells"
        )
    fill_frames(
        state,
        slot,
        note.level_db,
        note.ratio,
        note.decay_db_per_s,
        note.loop_start,
        note.loop_end,
        envelope(note),
        float(f0_hz),
        float(grid.frame_rate_hz),
        float(grid.limit_hz),
    )


class VoiceBank:
    """A fixed number of voices on note frames or samples that render into one stereo block, in one process.

    Events (start, release, morph, bend, level, kill) take effect at the next sample rendered; split the block
    for an event inside it. Pitch, gain and spectrum follow at the next segment (SEGMENT samples). ``active``
    (V,) bool and ``rms`` (V,), full scale 1, are live views. How blocks are split does not change the sound.
    Nothing is allocated after construction.

    ``rows`` and ``frames`` are the most that a note of frames may have, ``samples`` of samples. ``limit_hz``: partials
    above it, or above 0.45 sample_rate_hz, are silent. Constructing a bank compiles the kernel (seconds the first
    time; cached).
    """

    def __init__(  # noqa: PLR0917 (its sizes and rates)
        self,
        voices: int,
        rows: int,
        frames: int,
        sample_rate_hz: float,
        frame_rate_hz: float = 125.0,
        limit_hz: float = 16_000.0,
        samples: int = 0,
    ) -> None:
        if min(voices, rows, frames) < 1 or not (sample_rate_hz > 0 and frame_rate_hz > 0 and limit_hz > 0):
            raise ValueError("a voice bank needs at least one voice, row and frame, and rates above zero")
        # Two slots a voice: while one is played, the next note or morph is written into the other.
        shapes = state_shapes(voices, 2 * voices, rows, max(2 * rows * frames, samples), sample_rate_hz)
        self._state = State(**{name: np.zeros(shape, kind) for name, (shape, kind) in shapes.items()})
        prepare(self._state, sample_rate_hz)
        self._grid = Partials(rows, frames, frame_rate_hz, limit_hz=limit_hz)
        self._starts = 0
        self.active: npt.NDArray[np.bool_] = self._state.voice["active"]
        self.rms: npt.NDArray[np.float64] = self._state.voice["rms"]
        self._warm_up()

    def start(  # noqa: PLR0917 (what a note is)
        self,
        voice: int,
        note: Note,
        f0_hz: float,
        gain: float = 1.0,
        pan: float = 0.0,
        release_s: float = 0.3,
        phases: int | None = None,
        made_for_hz: float | None = None,
    ) -> None:
        """Begin a note; what the voice was playing fades within FADE_S.

        ``f0_hz`` in Hz; ``gain`` linear; ``pan`` -1 (left) .. 1 (right), equal power; ``release_s`` the time
        to -60 dB after `release`, at least SHORTEST_RELEASE_S. A note with an f0 or gain that is not finite
        and above zero is not started. Its partials begin at free phases, others for each note that the bank starts;
        the same ``phases`` (0 to 2^32 - 1) are the same ones. ``made_for_hz``: the pitch that the frames were made
        for (default: this one); at another the envelope stays where it is in Hz. Raises ValueError for a note
        larger than the bank.
        """
        self._starts += 1
        slot = self._fill(voice, note, f0_hz if made_for_hz is None else made_for_hz)
        seed = self._starts if phases is None else phases
        start(
            self._state,
            voice,
            slot,
            self._starts,
            float(f0_hz),
            float(gain),
            float(pan),
            float(release_s),
            seed,
        )

    def release(self, voice: int) -> None:
        """Let a note go: it falls exponentially, and the voice is inactive below -90 dB."""
        release(self._state, voice)

    def morph(self, voice: int, note: Note, seconds: float, made_for_hz: float | None = None) -> None:
        """Turn a sounding note into another within ``seconds``, at the place where it is.

        At least SHORTEST_MORPH_S. A silent voice stays silent. ``made_for_hz`` as in `start`; default: the pitch
        that sounds. Raises ValueError for a note larger than the bank.
        """
        f0_hz = float(self._state.voice[voice]["f0_hz"])
        slot = self._fill(voice, note, f0_hz if made_for_hz is None else made_for_hz)
        morph(self._state, voice, slot, float(seconds))

    def bend(self, voice: int, f0_hz: float, glide_s: float = 0.0) -> None:
        """Move a sounding note's pitch to ``f0_hz``, evenly in semitones within ``glide_s``.

        A note of which nothing was rendered yet begins there instead; without a glide, one that leaps by more than an
        octave fades into its new pitch. A value that is not finite and above zero is ignored.
        """
        bend(self._state, voice, float(f0_hz), float(glide_s))

    def level(self, voice: int, gain: float) -> None:
        """Move a sounding note to another linear gain; a value that is not finite and >= 0 is ignored."""
        level(self._state, voice, float(gain))

    def kill(self, voice: int) -> None:
        """Silence a voice within FADE_S; it is free at once."""
        cut(self._state, voice)

    def render(self, out: Array) -> None:
        """Fill ``out`` (n, 2) float32 with the next n samples of all voices."""
        render(self._state, out)

    def _fill(self, voice: int, note: Note, made_for_hz: float) -> int:
        """Write a note into the slot of the voice that it does not play."""
        slot = 2 * voice + (int(self._state.voice[voice]["slot"]) == 2 * voice)
        fill(self._state, slot, note, made_for_hz, self._grid)
        return slot

    def _warm_up(self) -> None:
        """Compile every path now, so that the first note does not wait."""
        silent = np.zeros((1, 1), np.float32)
        note = NoteFrames(silent, silent, np.zeros(1, np.float32), 0, 0)
        self.start(0, note, 1.0)
        self.morph(0, note, 0.0)
        self.bend(0, 1.0)
        self.level(0, 1.0)
        self.release(0)
        self.kill(0)
        self.render(np.zeros((0, 2), np.float32))
        self._state.tail[:] = 0
        self._starts = 0


def bank_for(grid: Partials | Stft, sample_rate_hz: float) -> VoiceBank:
    """One voice that plays notes of a grid."""
    if isinstance(grid, Stft):
        return VoiceBank(1, 1, 1, sample_rate_hz, samples=grid.samples)
    return VoiceBank(1, grid.rows, grid.frames, sample_rate_hz, grid.frame_rate_hz, grid.limit_hz)


# sin(pi x) = x (1 - x^2) P(x^2) on [-1, 1], P fitted for the least maximal error: 1e-7, 140 dB down.
_P0, _P1, _P2, _P3, _P4 = (
    np.float32(c) for c in (3.1415913, -2.02608378, 0.52378045, -0.07445937, 0.00597329)
)
_HALF_TURN = np.float32(2.0**-31)
_DB = math.log(10.0) / 20  # nepers


@compiled(fastmath=FAST)
def _smooth(x):  # type: ignore[no-untyped-def]
    """From 0 at x = 0 to 1 at x = 1 with two continuous derivatives: a fade that is not heard as a click."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (10 + x * (6 * x - 15))


@compiled(fastmath=FAST)
def fill_frames(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    s, slot, level_db, ratio, decay_db_per_s, loop_start, loop_end, envelope, f0_hz, frame_rate_hz, limit_hz
):
    """Write note frames into a slot; a cell that is not finite is silent."""
    table = s.table[slot]
    rows, frames = level_db.shape
    sample_rate_hz = s.rate_hz[0]
    table.kind, table.rows, table.frames = FRAMES, rows, frames
    table.rate_hz, table.f0_hz = frame_rate_hz, f0_hz
    table.limit_hz = min(limit_hz, HEARD_SHARE * sample_rate_hz)
    table.loop_end = min(max(loop_end, 0), frames - 1)
    table.loop_start = min(max(loop_start, 0), table.loop_end)
    table.decay_per_s = 0.0
    cells = s.cells[slot]
    for r in range(rows):
        decay = 0.0
        if np.isfinite(decay_db_per_s[r]):
            decay = min(decay_db_per_s[r], 0.0) * _DB
        s.decay[slot, r] = decay
        s.decay_step[slot, r] = math.exp(decay * SEGMENT / sample_rate_hz)
        s.envelope[slot, r] = envelope[r]
        for t in range(frames):
            amplitude, multiple = np.float32(0), np.float32(r + 1)
            level_here, given = level_db[r, t], ratio[r, t]
            if np.isfinite(level_here) and np.isfinite(given) and given > 0:
                amplitude = min(np.float32(math.exp(level_here * np.float32(_DB))), np.float32(LOUDEST))
                multiple = given
            cells[t * rows + r] = amplitude
            cells[(frames + t) * rows + r] = multiple


@compiled(fastmath=FAST)
def fill_samples(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    s, slot, samples, rate_hz, loop_start, loop_end, decay_db_per_s, f0_hz
):
    """Write a sample into a slot; what is not finite is silent."""
    table = s.table[slot]
    table.kind, table.rows, table.frames = SAMPLES, 0, len(samples)
    table.rate_hz, table.f0_hz, table.limit_hz = rate_hz, f0_hz, rate_hz / 2
    table.loop_start, table.loop_end = loop_start, loop_end
    table.decay_per_s = min(decay_db_per_s, 0.0) * _DB if np.isfinite(decay_db_per_s) else 0.0
    cells = s.cells[slot]
    for n in range(len(samples)):
        cells[n] = samples[n] if np.isfinite(samples[n]) else np.float32(0)


@compiled(fastmath=FAST)
def _random(s, v):  # type: ignore[no-untyped-def]
    """The voice's next number, 0 to 1 (a 64-bit linear congruential generator, Knuth's constants)."""
    voice = s.voice[v]
    voice.random = voice.random * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return np.float64(voice.random >> np.uint64(40)) * 2.0**-24


@compiled(fastmath=FAST)
def _move(s, v):  # type: ignore[no-untyped-def]
    """Move a voice on frames on by a segment: through the note once, then to and fro inside the loop."""
    voice = s.voice[v]
    table = s.table[voice.slot]
    width = table.loop_end - table.loop_start
    voice.place += voice.way * SEGMENT * table.rate_hz / s.rate_hz[0]
    if voice.way > 0 and voice.place >= voice.turn:
        voice.place = max(2 * voice.turn - voice.place, table.loop_start)
        voice.way = -1.0
        voice.turn = table.loop_start + WANDER * width * _random(s, v)
    elif voice.way < 0 and voice.place <= voice.turn:
        voice.place = min(2 * voice.turn - voice.place, table.loop_end)
        voice.way = 1.0
        voice.turn = table.loop_end - WANDER * width * _random(s, v)


@compiled(fastmath=FAST)
def _spectrum(s, v):  # type: ignore[no-untyped-def]
    """Write the voice's spectrum at its place to `to_amplitude` and `to_ratio`, before the limit."""
    voice = s.voice[v]
    table = s.table[voice.slot]
    rows, frames = table.rows, table.frames
    cells = s.cells[voice.slot]
    frame = min(max(int(voice.place), 0), frames - 1)
    other = min(frame + 1, frames - 1)
    weight = np.float32(voice.place - frame)
    amplitude_0, amplitude_1 = (
        cells[frame * rows : (frame + 1) * rows],
        cells[other * rows : (other + 1) * rows],
    )
    frame += frames
    other += frames
    ratio_0, ratio_1 = cells[frame * rows : (frame + 1) * rows], cells[other * rows : (other + 1) * rows]
    to_amplitude, to_ratio, decay_gain, tilt = s.to_amplitude[v], s.to_ratio[v], s.decay_gain[v], s.tilt[v]
    pitch = voice.f0_hz / table.f0_hz
    if abs(pitch - voice.tilted) > SAME_PITCH:
        if abs(pitch - 1) > SAME_PITCH:
            envelope_gain(s.envelope[voice.slot], rows, pitch, tilt)
        else:
            pitch = 1.0
        voice.tilted = pitch
    for r in range(rows):
        to_amplitude[r] = (amplitude_0[r] + weight * (amplitude_1[r] - amplitude_0[r])) * decay_gain[r]
        to_ratio[r] = ratio_0[r] + weight * (ratio_1[r] - ratio_0[r])
    if voice.tilted != 1:
        # At the level it had: notes are equally loud at every pitch, and an envelope holds more partials of a low one.
        before = after = np.float32(1e-30)
        for r in range(rows):
            before += to_amplitude[r] * to_amplitude[r]
            to_amplitude[r] *= tilt[r]
            after += to_amplitude[r] * to_amplitude[r]
        same = np.sqrt(before / after)
        for r in range(rows):
            to_amplitude[r] *= same
    for r in range(rows, voice.rows):
        to_amplitude[r] = 0
        to_ratio[r] = r + 1
    if voice.morph > 0:
        morphing = np.float32(_smooth(voice.morph))
        shift_amplitude, shift_ratio = s.shift_amplitude[v], s.shift_ratio[v]
        for r in range(voice.rows):
            to_amplitude[r] = max(to_amplitude[r] + morphing * shift_amplitude[r], np.float32(0))
            to_ratio[r] += morphing * shift_ratio[r]


@compiled(fastmath=FAST)
def _limit(s, v, glide, step):  # type: ignore[no-untyped-def]
    """Silence what lies over the limit or is too weak to matter, and turn ratios into phase steps.

    ``glide``: how much of its way there a partial goes that crosses the limit, so that bending by an octave
    does not switch forty of them on at once. They stay on the limit until they are silent. The nearer a partial is
    to the limit, the less of its way its level goes at once, down to ``glide``: what a note does from one frame to
    the next would be heard beyond the limit. At half of it a level is 1.8 ms late, at three quarters 3.4.
    """
    voice = s.voice[v]
    f0_hz = np.float32(voice.f0_hz)
    limit_hz = np.float32(s.table[voice.slot].limit_hz)
    per_limit, per_softness = 1 / limit_hz, np.float32(1 / LIMIT_SOFTNESS) / limit_hz
    turns_per_hz = np.float32(TURN / s.rate_hz[0])
    to_amplitude, to_ratio, below_limit = s.to_amplitude[v], s.to_ratio[v], s.below_limit[v]
    from_amplitude = s.from_amplitude[v]
    for r in range(voice.rows):
        frequency_hz = min(to_ratio[r] * f0_hz, limit_hz)
        below = min((limit_hz - frequency_hz) * per_softness, np.float32(1))
        below_limit[r] += (below - below_limit[r]) * np.float32(glide)
        # At most 1: halfway from a ratio of 1e30 to another, rounding leaves frequencies far below 0.
        free = min((limit_hz - frequency_hz) * per_limit, np.float32(1))
        reach = np.float32(glide) + (np.float32(1) - np.float32(glide)) * free * free
        goal = to_amplitude[r] * below_limit[r] * below_limit[r]
        amplitude = from_amplitude[r] + (goal - from_amplitude[r]) * reach
        to_amplitude[r] = amplitude if amplitude > np.float32(INAUDIBLE) else np.float32(0)
        step[r] = np.int32(frequency_hz * turns_per_hz)


@compiled(fastmath=FAST)
def _segment(s, v):  # type: ignore[no-untyped-def]
    """Synthesise the next SEGMENT samples of a voice into its `mono`."""
    voice = s.voice[v]
    voice.made_samples += SEGMENT
    glide = 1 - math.exp(-SEGMENT / (GLIDE_S * s.rate_hz[0]))
    if voice.glide != 1.0:
        voice.f0_leader_hz *= voice.glide
        if (voice.f0_leader_hz >= voice.f0_goal_hz) == (voice.glide > 1):  # there
            voice.f0_leader_hz, voice.glide = voice.f0_goal_hz, 1.0
    else:
        voice.f0_leader_hz += (voice.f0_goal_hz - voice.f0_leader_hz) * glide
    before_hz = voice.f0_hz
    voice.f0_hz += (voice.f0_leader_hz - voice.f0_hz) * glide
    voice.gain_leader += (voice.gain_goal - voice.gain_leader) * glide
    gain_change = (voice.gain_leader - voice.gain) * glide
    mono = s.mono[v]
    sample = s.table[voice.slot].kind == SAMPLES
    energy = _sampled(s, v, before_hz) if sample else _added(s, v, glide)
    gain, gain_slope = np.float32(voice.gain), np.float32(gain_change / SEGMENT)
    for n in range(SEGMENT):
        mono[n] *= gain + gain_slope * np.float32(n)
    voice.gain += gain_change
    voice.rms = math.sqrt(energy) * voice.gain * voice.release_gain
    total = np.float32(0)
    for n in range(SEGMENT):
        total += mono[n]
    # Tables are checked when they are filled; this is for broken memory. Not isfinite, which is total - total to the
    # compiler: of a sum that it may reassociate, it takes that for 0.
    if not abs(total) < np.float32(np.inf):
        for n in range(SEGMENT):
            mono[n] = 0
        voice.active, voice.rms = False, 0.0
        s.muted[0] += 1


@compiled(fastmath=FAST)
def _added(s, v, glide):  # type: ignore[no-untyped-def]
    """A segment of partials, added up; returns the mean square at its end."""
    voice = s.voice[v]
    voice.morph = max(voice.morph - voice.morph_step, 0.0)
    table = s.table[voice.slot]
    if voice.made_samples * table.rate_hz > table.loop_start * s.rate_hz[0]:
        decay_gain, decay_step = s.decay_gain[v], s.decay_step[voice.slot]
        for r in range(table.rows):
            decay_gain[r] = max(decay_gain[r] * decay_step[r], np.float32(1e-20))
    _move(s, v)
    _spectrum(s, v)
    _limit(s, v, glide, s.to_step[v])

    mono, goal = s.mono[v], s.to_step[v]
    for n in range(SEGMENT):
        mono[n] = 0
    energy = 0.0
    for r in range(voice.rows):
        begin, end = s.from_amplitude[v, r], s.to_amplitude[v, r]
        phase, step = s.phase[v, r], s.step[v, r]
        change = np.int32((goal[r] - step) // SEGMENT)
        s.phase[v, r] = np.int32(phase + SEGMENT * step + SEGMENT * (SEGMENT - 1) // 2 * change)
        s.step[v, r] = goal[r]
        s.from_amplitude[v, r] = end
        if begin > 0 or end > 0:
            slope = (end - begin) * np.float32(1 / SEGMENT)
            for n in range(SEGMENT):
                turn = np.int32(phase + np.int32(np.int32(n) * step) + np.int32(s.triangle[n] * change))
                x = np.float32(turn) * _HALF_TURN
                q = x * x
                sine = (x - x * q) * (_P0 + q * (_P1 + q * (_P2 + q * (_P3 + q * _P4))))
                mono[n] += (begin + slope * np.float32(n)) * sine
            energy += end * end
    return energy / 2


@compiled(fastmath=FAST)
def _sampled(s, v, before_hz):  # type: ignore[no-untyped-def]
    """A segment read from a sample, looped and decaying; returns its mean square."""
    voice = s.voice[v]
    table = s.table[voice.slot]
    per_hz = table.rate_hz / (s.rate_hz[0] * table.f0_hz)
    step, change = before_hz * per_hz, (voice.f0_hz - before_hz) * per_hz / SEGMENT
    mono = s.mono[v]
    voice.place = read_samples(
        s.cells[voice.slot], table.frames, table.loop_start, table.loop_end, voice.place, step, change, mono
    )
    begin = voice.sample_gain
    if voice.place > table.loop_start:  # by place, not by time: a bent note comes there sooner or later
        voice.sample_gain = max(begin * math.exp(table.decay_per_s * SEGMENT / s.rate_hz[0]), 1e-20)
    gain, slope = np.float32(begin), np.float32((voice.sample_gain - begin) / SEGMENT)
    energy = 0.0
    for n in range(SEGMENT):
        mono[n] *= gain + slope * np.float32(n)
        energy += mono[n] * mono[n]
    return energy / SEGMENT


@compiled(fastmath=FAST)
def _play(s, v, out):  # type: ignore[no-untyped-def]
    """Add the next len(out) samples of a voice to ``out``; a voice that is over becomes inactive."""
    voice = s.voice[v]
    onset_samples = (ONSET_S if voice.onset_at_samples == 0 else FADE_S) * s.rate_hz[0]
    corner = 1 - math.exp(-1 / (CORNER_S * s.rate_hz[0]))
    done = 0
    while done < out.shape[0]:
        if voice.age_samples == voice.made_samples:
            table = s.table[voice.slot]
            at_loop = voice.made_samples * table.rate_hz >= table.loop_start * s.rate_hz[0]
            if voice.released and (voice.release_gain * voice.gain < GONE or (at_loop and voice.rms < GONE)):
                voice.active = False
                voice.rms = 0
            else:
                _segment(s, v)
            if not voice.active:
                return
        cursor = voice.age_samples - (voice.made_samples - SEGMENT)
        count = min(SEGMENT - cursor, out.shape[0] - done)
        played, heard = s.mono[v, cursor : cursor + count], out[done : done + count]
        left, right = np.float32(voice.left), np.float32(voice.right)
        swelling = voice.age_samples - voice.onset_at_samples
        if voice.released or swelling < onset_samples:
            for i in range(count):
                played[i] *= _smooth((swelling + i) / onset_samples) * voice.release_gain
                if voice.released:
                    voice.release_leader *= voice.release_step
                    voice.release_gain += (voice.release_leader - voice.release_gain) * corner
        for i in range(count):
            heard[i, 0] += played[i] * left
            heard[i, 1] += played[i] * right
        voice.age_samples += count
        done += count


@compiled(fastmath=FAST)
def _fade_out(s, v):  # type: ignore[no-untyped-def]
    """Render the next FADE_S of a voice, fading, into the tail."""
    fade_samples = s.tail.shape[0]
    for i in range(fade_samples):
        s.cut[i, 0] = 0
        s.cut[i, 1] = 0
    _play(s, v, s.cut)
    for i in range(fade_samples):
        fade = np.float32(1 - _smooth((i + 0.5) / fade_samples))
        at = (s.tail_at[0] + i) % fade_samples
        s.tail[at, 0] += s.cut[i, 0] * fade
        s.tail[at, 1] += s.cut[i, 1] * fade


@compiled(fastmath=FAST)
def cut(s, v):  # type: ignore[no-untyped-def]
    """Free a voice; the fade of what it was playing is rendered now and waits in the tail."""
    if s.voice[v].active:
        _fade_out(s, v)
        s.voice[v].active = False
        s.voice[v].rms = 0


@compiled(fastmath=FAST)
def start(s, v, slot, note, f0_hz, gain, pan, release_s, seed):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Begin the note in ``slot`` on a voice; see `VoiceBank.start`."""
    cut(s, v)
    voice = s.voice[v]
    voice.note = note
    if not (0 < f0_hz < np.inf and 0 < gain < np.inf and np.isfinite(pan)):
        return
    table = s.table[slot]
    voice.active, voice.released = True, False
    voice.slot, voice.rows = slot, table.rows
    voice.place, voice.way, voice.turn = 0.0, 1.0, table.loop_end
    voice.sample_gain, voice.tilted = 1.0, 0.0
    voice.age_samples, voice.made_samples, voice.onset_at_samples = 0, 0, 0
    voice.f0_hz, voice.f0_leader_hz, voice.f0_goal_hz, voice.glide = f0_hz, f0_hz, f0_hz, 1.0
    angle = (min(max(pan, -1.0), 1.0) + 1) * (math.pi / 4)
    voice.left, voice.right = math.cos(angle), math.sin(angle)
    voice.gain, voice.gain_leader, voice.gain_goal = gain, gain, gain
    seconds = release_s if SHORTEST_RELEASE_S < release_s < np.inf else SHORTEST_RELEASE_S
    voice.release_gain, voice.release_leader = 1.0, 1.0
    # The rounded corner delays the fall by about its time constant.
    voice.release_step = 10 ** (-60 / 20 / ((seconds - CORNER_S) * s.rate_hz[0]))
    voice.morph, voice.morph_step = 0.0, 0.0
    voice.random = np.uint64(seed)
    for r in range(s.phase.shape[1]):
        s.below_limit[v, r] = 0
        s.from_amplitude[v, r] = 0
        s.decay_gain[v, r] = 1
        # Free phases, the same on every run: all zero, the peak would be the sum of the amplitudes.
        mixed = (np.uint64(seed) << np.uint64(32)) ^ np.uint64(r + 1)
        for _ in range(2):
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
        s.phase[v, r] = np.int32(np.uint32(mixed >> np.uint64(32)))
    _begin(s, v)


@compiled(fastmath=FAST)
def begin_from(s, v, slot):  # type: ignore[no-untyped-def]
    """Have a voice of which nothing was rendered yet begin from another table; not for one that sounds."""
    voice = s.voice[v]
    if voice.active and voice.age_samples == 0:
        voice.slot, voice.rows = slot, s.table[slot].rows
        voice.turn, voice.tilted = s.table[slot].loop_end, 0.0
        _begin(s, v)


@compiled(fastmath=FAST)
def _begin(s, v):  # type: ignore[no-untyped-def]
    """Put the partials of a voice that has not sounded yet where they are at its pitch."""
    voice = s.voice[v]
    if s.table[voice.slot].kind == FRAMES:
        _spectrum(s, v)
        _limit(s, v, 1.0, s.step[v])
        for r in range(voice.rows):
            s.from_amplitude[v, r] = s.to_amplitude[v, r]


@compiled(fastmath=FAST)
def release(s, v):  # type: ignore[no-untyped-def]
    """Let a note go; see `VoiceBank.release`."""
    s.voice[v].released = True


@compiled(fastmath=FAST)
def bend(s, v, f0_hz, glide_s):  # type: ignore[no-untyped-def]
    """Send a voice to another pitch; see `VoiceBank.bend`."""
    voice = s.voice[v]
    if not 0 < f0_hz < np.inf:
        return
    voice.glide = 1.0
    segments = glide_s * s.rate_hz[0] / SEGMENT
    if segments > 1:
        voice.f0_goal_hz = f0_hz
        if voice.f0_leader_hz != f0_hz:
            voice.glide = (f0_hz / voice.f0_leader_hz) ** (1 / segments)
        return
    begins = voice.age_samples == 0
    leap = max(f0_hz / voice.f0_hz, voice.f0_hz / f0_hz) > LARGEST_SLIDE
    if leap and voice.active and not begins:
        _fade_out(s, v)
        voice.age_samples = voice.made_samples  # the rest of the segment has the old pitch
        voice.onset_at_samples = voice.age_samples
    voice.f0_goal_hz = f0_hz
    if leap or begins:
        voice.f0_hz, voice.f0_leader_hz = f0_hz, f0_hz
        _begin(s, v)


@compiled(fastmath=FAST)
def level(s, v, gain):  # type: ignore[no-untyped-def]
    """Send a voice to another gain; see `VoiceBank.level`."""
    if 0 <= gain < np.inf:
        s.voice[v].gain_goal = gain


@compiled(fastmath=FAST)
def morph(s, v, slot, seconds):  # type: ignore[no-untyped-def]
    """Give the voice another table, and let what the old spectrum had beyond it fade.

    A shift that fades, not two tables side by side: the new attack and vibrato are heard at once, a morph in
    the middle of a morph is continuous, and a segment reads one table. Samples do not morph.
    """
    voice = s.voice[v]
    table = s.table[slot]
    if not voice.active or table.kind != FRAMES or s.table[voice.slot].kind != FRAMES:
        return
    _spectrum(s, v)
    for r in range(voice.rows):
        s.shift_amplitude[v, r] = s.to_amplitude[v, r]
        s.shift_ratio[v, r] = s.to_ratio[v, r]
    for r in range(voice.rows, table.rows):
        multiple = s.cells[slot][table.frames * table.rows + r]
        s.shift_amplitude[v, r] = 0
        s.shift_ratio[v, r] = multiple
        s.step[v, r] = np.int32(min(multiple * voice.f0_hz, table.limit_hz) * (TURN / s.rate_hz[0]))
    voice.slot, voice.rows = slot, max(voice.rows, table.rows)
    voice.place = min(voice.place, table.loop_end)
    voice.turn = min(voice.turn, table.loop_end) if voice.way > 0 else max(voice.turn, table.loop_start)
    voice.tilted = 0.0
    in_loop_s = max(voice.made_samples / s.rate_hz[0] - table.loop_start / table.rate_hz, 0.0)
    for r in range(table.rows):
        s.decay_gain[v, r] = math.exp(s.decay[slot, r] * in_loop_s)
    voice.morph = 0.0
    _spectrum(s, v)
    for r in range(voice.rows):
        s.shift_amplitude[v, r] -= s.to_amplitude[v, r]
        s.shift_ratio[v, r] -= s.to_ratio[v, r]
    segments = max(seconds if seconds < np.inf else 0.0, SHORTEST_MORPH_S) * s.rate_hz[0] / SEGMENT
    voice.morph, voice.morph_step = 1.0, 1 / segments


@compiled(fastmath=FAST)
def render(s, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n, 2) with the next n samples of all voices."""
    fade_samples = s.tail.shape[0]
    for i in range(out.shape[0]):
        at = s.tail_at[0]
        out[i, 0], out[i, 1] = s.tail[at, 0], s.tail[at, 1]
        s.tail[at, 0] = 0
        s.tail[at, 1] = 0
        s.tail_at[0] = (at + 1) % fade_samples
    for v in range(s.voice.shape[0]):
        if s.voice[v].active:
            _play(s, v, out)
