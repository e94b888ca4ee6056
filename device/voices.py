"""Voices that hold, glide and morph: additive synthesis of note frames, compiled by numba.

A voice is a table of frames (amplitude and frequency ratio per partial) and a place in it. Every SEGMENT
samples it looks up where each partial should be by the end of the segment, and synthesises the segment with
amplitude and frequency going there in a straight line. Phase is a 32-bit integer that counts 2^-32 turns: it
wraps for free, never drifts, and cannot become NaN.

The loop over samples is the inner one. With the phase in closed form (quadratic in n) it has no recurrence,
so it runs on SIMD lanes, needs no sum across lanes, and a silent partial costs nothing; a complex rotation
per sample would have to put the partials inside.

Everything below VoiceBank is a plain compiled function on the arrays of `State`, so that an audio callback
that must not run Python can call it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from device.partials import NoteFrames

Array = npt.NDArray[np.float32]

# Samples: 1.3 ms at 48 kHz, six of them between two frames at 125 Hz. Against interpolation at every sample the
# error is 64 to 67 dB down on five FluidR3 notes; half the length costs 1.6 times as much for 6 dB.
SEGMENT = 64
FADE_S = 0.004  # of a voice that is stolen or killed
ONSET_S = 0.002  # half-way at 1 ms; takes the step out of a note that begins loud
GLIDE_S = 0.005  # each of two time constants of pitch and gain on their way to where they were sent
CORNER_S = 0.002  # time constant that rounds the corner where a release begins
SHORTEST_RELEASE_S = 0.02
SHORTEST_MORPH_S = 0.02
GONE = 10 ** (-90 / 20)  # amplitude below which a released voice is over
INAUDIBLE = 10 ** (-130 / 20)  # amplitude below which a partial is not computed; keeps denormals out, too
LOUDEST = 100.0  # the largest amplitude a cell may have (+40 dB)
NYQUIST_SHARE = 0.45  # of the sample rate: no partial above
LIMIT_SOFTNESS = 0.05  # partials fade over this share of the band below the limit
TURN = 2.0**32

VOICE = np.dtype(
    [
        ("active", np.bool_),
        ("released", np.bool_),
        ("rms", np.float64),  # of the segment being played, both channels together, full scale = 1
        ("age_samples", np.int64),  # played
        (
            "made_samples",
            np.int64,
        ),  # synthesised: a multiple of SEGMENT, up to SEGMENT ahead of what is played
        ("loop_start_frames", np.float64),
        ("loop_end_frames", np.float64),
        ("f0_hz", np.float64),
        ("f0_leader_hz", np.float64),  # on its way to the goal; f0 follows it, so that a glide begins softly
        ("f0_goal_hz", np.float64),
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
    """All that sounds, in preallocated arrays; V voices, R rows, F frames.

    ``amplitude``, ``ratio``: (V, F, R), a row's neighbours adjacent because a segment needs all rows of two
    frames. ``shift_*``: what the spectrum had beyond its new table when a morph began.
    """

    voice: Any  # (V,) VOICE
    amplitude: Array
    ratio: Array
    decay_gain: Array  # (V, R) and so on down to `to_step`
    decay_step: Array
    shift_amplitude: Array
    shift_ratio: Array
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
    sample_rate_hz: float
    frame_rate_hz: float
    limit_hz: float


class VoiceBank:
    """A fixed number of voices that render into one stereo block; nothing is allocated after construction.

    Events (start, release, morph, bend, level, kill) take effect at the next sample rendered; split the block
    for an event inside it. Pitch, gain and spectrum follow at the next segment (SEGMENT samples). ``active``
    (V,) bool and ``rms`` (V,), full scale 1, are live views. How blocks are split does not change the sound.

    ``rows`` and ``frames`` are the most that a note may have. ``limit_hz``: partials above it, or above
    0.45 sample_rate_hz, are silent. Constructing a bank compiles the kernel (seconds the first time; cached).
    """

    def __init__(  # noqa: PLR0917 (its sizes and rates)
        self,
        voices: int,
        rows: int,
        frames: int,
        sample_rate_hz: float,
        frame_rate_hz: float,
        limit_hz: float = 16_000.0,
    ) -> None:
        if min(voices, rows, frames) < 1 or not (sample_rate_hz > 0 and frame_rate_hz > 0 and limit_hz > 0):
            raise ValueError("a voice bank needs at least one voice, row and frame, and rates above zero")
        fade_samples = max(round(FADE_S * sample_rate_hz), 1)

        def per_row() -> Array:
            return np.zeros((voices, rows), np.float32)

        self._state = State(
            voice=np.zeros(voices, VOICE),
            amplitude=np.zeros((voices, frames, rows), np.float32),
            ratio=np.zeros((voices, frames, rows), np.float32),
            decay_gain=per_row(),
            decay_step=per_row(),
            shift_amplitude=per_row(),
            shift_ratio=per_row(),
            below_limit=per_row(),
            from_amplitude=per_row(),
            to_amplitude=per_row(),
            to_ratio=per_row(),
            phase=np.zeros((voices, rows), np.int32),
            step=np.zeros((voices, rows), np.int32),
            to_step=np.zeros((voices, rows), np.int32),
            mono=np.zeros((voices, SEGMENT), np.float32),
            triangle=(np.arange(SEGMENT) * (np.arange(SEGMENT) - 1) // 2).astype(np.int32),
            tail=np.zeros((fade_samples, 2), np.float32),
            cut=np.zeros((fade_samples, 2), np.float32),
            tail_at=np.zeros(1, np.int64),
            sample_rate_hz=float(sample_rate_hz),
            frame_rate_hz=float(frame_rate_hz),
            limit_hz=float(min(limit_hz, NYQUIST_SHARE * sample_rate_hz)),
        )
        self._starts = 0
        self.active: npt.NDArray[np.bool_] = self._state.voice["active"]
        self.rms: npt.NDArray[np.float64] = self._state.voice["rms"]
        self._warm_up()

    def start(  # noqa: PLR0917 (what a note is)
        self,
        voice: int,
        note: NoteFrames,
        f0_hz: float,
        gain: float = 1.0,
        pan: float = 0.0,
        release_s: float = 0.3,
        phases: int | None = None,
    ) -> None:
        """Begin a note; what the voice was playing fades within FADE_S.

        ``f0_hz`` in Hz; ``gain`` linear; ``pan`` -1 (left) .. 1 (right), equal power; ``release_s`` the time
        to -60 dB after `release`, at least SHORTEST_RELEASE_S. A note with an f0 or gain that is not finite
        and above zero is not started. Its partials begin at free phases, others for each note that the bank starts;
        the same ``phases`` (0 to 2^32 - 1) are the same ones. Raises ValueError for a note larger than the bank.
        """
        self._check(note)
        self._starts += 1
        _start(
            self._state,
            voice,
            _table(note),
            float(f0_hz),
            float(gain),
            float(pan),
            float(release_s),
            self._starts if phases is None else phases,
        )

    def release(self, voice: int) -> None:
        """Let a note go: it falls exponentially, and the voice is inactive below -90 dB."""
        self._state.voice[voice]["released"] = True

    def morph(self, voice: int, note: NoteFrames, seconds: float) -> None:
        """Turn a sounding note into another within ``seconds``, at the place where it is.

        At least SHORTEST_MORPH_S. A silent voice stays silent. Raises ValueError for a note larger than the
        bank.
        """
        self._check(note)
        _morph(self._state, voice, _table(note), float(seconds))

    def bend(self, voice: int, f0_hz: float) -> None:
        """Move a sounding note's pitch to ``f0_hz``; a value that is not finite and above zero is ignored."""
        if 0 < f0_hz < math.inf:
            self._state.voice[voice]["f0_goal_hz"] = f0_hz

    def level(self, voice: int, gain: float) -> None:
        """Move a sounding note to another linear gain; a value that is not finite and >= 0 is ignored."""
        if 0 <= gain < math.inf:
            self._state.voice[voice]["gain_goal"] = gain

    def kill(self, voice: int) -> None:
        """Silence a voice within FADE_S; it is free at once."""
        _cut(self._state, voice)

    def render(self, out: Array) -> None:
        """Fill ``out`` (n, 2) float32 with the next n samples of all voices."""
        _render(self._state, out)

    def _check(self, note: NoteFrames) -> None:
        _, frames, rows = self._state.amplitude.shape
        if note.level_db.shape[0] > rows or note.level_db.shape[1] > frames:
            raise ValueError(
                f"a note of {note.level_db.shape} rows and frames in a bank for {(rows, frames)}"
            )

    def _warm_up(self) -> None:
        """Compile every path now, so that the first note does not wait."""
        silent = np.zeros((1, 1), np.float32)
        note = NoteFrames(silent, silent, np.zeros(1, np.float32), 0, 0)
        self.start(0, note, 1.0)
        self.morph(0, note, 0.0)
        self.kill(0)
        self.render(np.zeros((0, 2), np.float32))
        self._state.tail[:] = 0
        self._starts = 0


def _table(note: NoteFrames) -> tuple[Array, Array, Array, int, int]:
    return note.level_db, note.ratio, note.decay_db_per_s, note.loop_start, note.loop_end


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """numba.njit with a cache on disk, and without one where no folder for it can be written."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # "no locator available": a read-only root without NUMBA_CACHE_DIR
            compiled = numba.njit(nogil=True, **options)(function)
        return compiled

    return decorate


# Fast where order and contraction are concerned, but never assuming that NaN does not exist: what comes in
# from a network is checked with isfinite, and that check must not be optimised away.
_FAST = {"reassoc", "contract", "arcp", "nsz"}

# sin(pi x) = x (1 - x^2) P(x^2) on [-1, 1], P fitted for the least maximal error: 1e-7, 140 dB down.
_P0, _P1, _P2, _P3, _P4 = (
    np.float32(c) for c in (3.1415913, -2.02608378, 0.52378045, -0.07445937, 0.00597329)
)
_HALF_TURN = np.float32(2.0**-31)


@_compiled(fastmath=_FAST)
def _smooth(x):  # type: ignore[no-untyped-def]
    """From 0 at x = 0 to 1 at x = 1 with two continuous derivatives: a fade that is not heard as a click."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (10 + x * (6 * x - 15))


@_compiled(fastmath=_FAST)
def _load(s, v, note):  # type: ignore[no-untyped-def]
    """Copy a note into the voice's table; a cell that is not finite is silent."""
    level_db, ratio, decay_db_per_s, loop_start, loop_end = note
    voice = s.voice[v]
    frames, rows = s.amplitude.shape[1:]
    note_rows, note_frames = level_db.shape
    last = note_frames - 1
    voice.loop_end_frames = min(max(loop_end, 0), last)
    voice.loop_start_frames = min(max(loop_start, 0), voice.loop_end_frames)
    in_loop_s = max(voice.made_samples / s.sample_rate_hz - voice.loop_start_frames / s.frame_rate_hz, 0.0)
    for r in range(rows):
        decay = 0.0
        if r < note_rows and np.isfinite(decay_db_per_s[r]):
            decay = min(decay_db_per_s[r], 0.0) * (math.log(10.0) / 20)
        s.decay_step[v, r] = math.exp(decay * SEGMENT / s.sample_rate_hz)
        s.decay_gain[v, r] = math.exp(decay * in_loop_s)
        for t in range(frames):
            amplitude, multiple = np.float32(0), np.float32(r + 1)
            if r < note_rows:
                level = level_db[r, min(t, last)]
                given = ratio[r, min(t, last)]
                if np.isfinite(level) and np.isfinite(given) and given > 0:
                    amplitude = min(
                        np.float32(math.exp(level * np.float32(math.log(10.0) / 20))), np.float32(LOUDEST)
                    )
                    multiple = given
            s.amplitude[v, t, r] = amplitude
            s.ratio[v, t, r] = multiple


@_compiled(fastmath=_FAST)
def _spectrum(s, v):  # type: ignore[no-untyped-def]
    """Write the voice's spectrum at ``made_samples`` to `to_amplitude` and `to_ratio`, before the limit."""
    voice = s.voice[v]
    at = voice.made_samples / s.sample_rate_hz * s.frame_rate_hz
    if at > voice.loop_end_frames:
        length = voice.loop_end_frames - voice.loop_start_frames
        if length > 0:
            gone = (at - voice.loop_start_frames) % (2 * length)
            at = voice.loop_start_frames + min(gone, 2 * length - gone)
        else:
            at = voice.loop_start_frames
    frame = int(at)
    other = min(frame + 1, s.amplitude.shape[1] - 1)
    weight = np.float32(at - frame)
    morph = np.float32(_smooth(voice.morph))
    amplitude_0, amplitude_1 = s.amplitude[v, frame], s.amplitude[v, other]
    ratio_0, ratio_1 = s.ratio[v, frame], s.ratio[v, other]
    to_amplitude, to_ratio = s.to_amplitude[v], s.to_ratio[v]
    shift_amplitude, shift_ratio = s.shift_amplitude[v], s.shift_ratio[v]
    decay_gain = s.decay_gain[v]
    for r in range(to_amplitude.shape[0]):
        amplitude = (amplitude_0[r] + weight * (amplitude_1[r] - amplitude_0[r])) * decay_gain[r]
        to_amplitude[r] = max(amplitude + morph * shift_amplitude[r], np.float32(0))
        to_ratio[r] = ratio_0[r] + weight * (ratio_1[r] - ratio_0[r]) + morph * shift_ratio[r]


@_compiled(fastmath=_FAST)
def _limit(s, v, glide, step):  # type: ignore[no-untyped-def]
    """Silence what lies over the limit or is too weak to matter, and turn ratios into phase steps.

    ``glide``: how much of its way there a partial goes that crosses the limit, so that bending by an octave
    does not switch forty of them on at once. They stay on the limit until they are silent.
    """
    f0_hz = np.float32(s.voice[v].f0_hz)
    limit_hz = np.float32(s.limit_hz)
    per_softness = np.float32(1 / (LIMIT_SOFTNESS * s.limit_hz))
    turns_per_hz = np.float32(TURN / s.sample_rate_hz)
    to_amplitude, to_ratio, below_limit = s.to_amplitude[v], s.to_ratio[v], s.below_limit[v]
    for r in range(to_amplitude.shape[0]):
        frequency_hz = min(to_ratio[r] * f0_hz, limit_hz)
        below = min((limit_hz - frequency_hz) * per_softness, np.float32(1))
        below_limit[r] += (below - below_limit[r]) * np.float32(glide)
        amplitude = to_amplitude[r] * below_limit[r]
        to_amplitude[r] = amplitude if amplitude > np.float32(INAUDIBLE) else np.float32(0)
        step[r] = np.int32(frequency_hz * turns_per_hz)


@_compiled(fastmath=_FAST)
def _segment(s, v):  # type: ignore[no-untyped-def]
    """Synthesise the next SEGMENT samples of a voice into its `mono`."""
    voice = s.voice[v]
    voice.made_samples += SEGMENT
    glide = 1 - math.exp(-SEGMENT / (GLIDE_S * s.sample_rate_hz))
    voice.f0_leader_hz += (voice.f0_goal_hz - voice.f0_leader_hz) * glide
    voice.f0_hz += (voice.f0_leader_hz - voice.f0_hz) * glide
    voice.gain_leader += (voice.gain_goal - voice.gain_leader) * glide
    gain_change = (voice.gain_leader - voice.gain) * glide
    voice.morph = max(voice.morph - voice.morph_step, 0.0)
    decay_gain, decay_step = s.decay_gain[v], s.decay_step[v]
    if voice.made_samples * s.frame_rate_hz > voice.loop_start_frames * s.sample_rate_hz:
        for r in range(decay_gain.shape[0]):
            decay_gain[r] = max(decay_gain[r] * decay_step[r], np.float32(1e-20))
    _spectrum(s, v)
    _limit(s, v, glide, s.to_step[v])

    mono, goal = s.mono[v], s.to_step[v]
    for n in range(SEGMENT):
        mono[n] = 0
    energy = 0.0
    for r in range(goal.shape[0]):
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
    gain, gain_slope = np.float32(voice.gain), np.float32(gain_change / SEGMENT)
    for n in range(SEGMENT):
        mono[n] *= gain + gain_slope * np.float32(n)
    voice.gain += gain_change
    voice.rms = math.sqrt(energy / 2) * voice.gain * voice.release_gain


@_compiled(fastmath=_FAST)
def _play(s, v, out):  # type: ignore[no-untyped-def]
    """Add the next len(out) samples of a voice to ``out``; a voice that is over becomes inactive."""
    voice = s.voice[v]
    onset_samples = ONSET_S * s.sample_rate_hz
    corner = 1 - math.exp(-1 / (CORNER_S * s.sample_rate_hz))
    done = 0
    while done < out.shape[0]:
        if voice.age_samples == voice.made_samples:
            at_loop = voice.made_samples * s.frame_rate_hz >= voice.loop_start_frames * s.sample_rate_hz
            if voice.released and (voice.release_gain * voice.gain < GONE or (at_loop and voice.rms < GONE)):
                voice.active = False
                voice.rms = 0
                return
            _segment(s, v)
        cursor = voice.age_samples - (voice.made_samples - SEGMENT)
        count = min(SEGMENT - cursor, out.shape[0] - done)
        played, heard = s.mono[v, cursor : cursor + count], out[done : done + count]
        left, right = np.float32(voice.left), np.float32(voice.right)
        if voice.released or voice.age_samples < onset_samples:
            for i in range(count):
                played[i] *= _smooth((voice.age_samples + i) / onset_samples) * voice.release_gain
                if voice.released:
                    voice.release_leader *= voice.release_step
                    voice.release_gain += (voice.release_leader - voice.release_gain) * corner
        for i in range(count):
            heard[i, 0] += played[i] * left
            heard[i, 1] += played[i] * right
        voice.age_samples += count
        done += count


@_compiled(fastmath=_FAST)
def _cut(s, v):  # type: ignore[no-untyped-def]
    """Free a voice; the fade of what it was playing is rendered now and waits in the tail."""
    if not s.voice[v].active:
        return
    fade_samples = s.tail.shape[0]
    s.cut[:] = 0
    _play(s, v, s.cut)
    for i in range(fade_samples):
        fade = np.float32(1 - _smooth((i + 0.5) / fade_samples))
        at = (s.tail_at[0] + i) % fade_samples
        s.tail[at, 0] += s.cut[i, 0] * fade
        s.tail[at, 1] += s.cut[i, 1] * fade
    s.voice[v].active = False
    s.voice[v].rms = 0


@_compiled(fastmath=_FAST)
def _start(s, v, note, f0_hz, gain, pan, release_s, start):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    _cut(s, v)
    if not (0 < f0_hz < np.inf and 0 < gain < np.inf and np.isfinite(pan)):
        return
    voice = s.voice[v]
    voice.active, voice.released = True, False
    voice.age_samples, voice.made_samples = 0, 0
    voice.f0_hz, voice.f0_leader_hz, voice.f0_goal_hz = f0_hz, f0_hz, f0_hz
    angle = (min(max(pan, -1.0), 1.0) + 1) * (math.pi / 4)
    voice.left, voice.right = math.cos(angle), math.sin(angle)
    voice.gain, voice.gain_leader, voice.gain_goal = gain, gain, gain
    seconds = release_s if SHORTEST_RELEASE_S < release_s < np.inf else SHORTEST_RELEASE_S
    voice.release_gain, voice.release_leader = 1.0, 1.0
    # The rounded corner delays the fall by about its time constant.
    voice.release_step = 10 ** (-60 / 20 / ((seconds - CORNER_S) * s.sample_rate_hz))
    voice.morph, voice.morph_step = 0.0, 0.0
    _load(s, v, note)
    _spectrum(s, v)
    s.below_limit[v] = 0
    _limit(s, v, 1.0, s.step[v])
    for r in range(s.phase.shape[1]):
        s.from_amplitude[v, r] = s.to_amplitude[v, r]
        # Free phases, the same on every run: all zero, the peak would be the sum of the amplitudes.
        mixed = (np.uint64(start) << np.uint64(32)) ^ np.uint64(r + 1)
        for _ in range(2):
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
        s.phase[v, r] = np.int32(np.uint32(mixed >> np.uint64(32)))


@_compiled(fastmath=_FAST)
def _morph(s, v, note, seconds):  # type: ignore[no-untyped-def]
    """Give the voice a new table, and let what the old spectrum had beyond it fade.

    A shift that fades, not two tables side by side: the new attack and vibrato are heard at once, a morph in
    the middle of a morph is continuous, and a segment reads one table.
    """
    voice = s.voice[v]
    if not voice.active:
        return
    _spectrum(s, v)
    s.shift_amplitude[v] = s.to_amplitude[v]
    s.shift_ratio[v] = s.to_ratio[v]
    voice.morph = 0.0
    _load(s, v, note)
    _spectrum(s, v)
    s.shift_amplitude[v] -= s.to_amplitude[v]
    s.shift_ratio[v] -= s.to_ratio[v]
    segments = max(seconds if seconds < np.inf else 0.0, SHORTEST_MORPH_S) * s.sample_rate_hz / SEGMENT
    voice.morph, voice.morph_step = 1.0, 1 / segments


@_compiled(fastmath=_FAST)
def _render(s, out):  # type: ignore[no-untyped-def]
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
