"""The block that the audio callback renders, compiled, and the memory in which it meets the other processes.

    control process --events, wishes, settings-->  +--------+  --samples--> DAC, capture
    worker process  --tables, shelf, offers------>  | memory |  --counts, what sounds--> whoever looks
    supervisor      --master gain---------------->  +--------+

One writer for each array, and nothing is ever locked. A note is started by an event that carries the time of its
edge, and sounds at that time plus a constant, at its sample. Its table is the one offered to that note if it is
there already; else the nearest on the shelf, until the offer comes. A slot is written only while nobody can play it:
it is not on the shelf, not offered, not under a voice, and the callback has begun two blocks since it was
(`free_slots`).

All arrays lie behind one another in one piece of memory whose first page tells where: the callback gets its address
from PortAudio, and finds everything from there. It runs no Python, allocates nothing, waits for nobody.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from device.compiled import (
    CLOCK_MONOTONIC,
    FAST,
    array_at,
    c_function,
    clock_gettime,
    compiled,
    fence,
    pointer,
)
from device.voices import (
    EMPTY,
    TABLE,
    VOICE,
    State,
    begin_from,
    bend,
    cut,
    level,
    morph,
    prepare,
    release,
    render,
    start,
    state_shapes,
)

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 48_000
VOICES = 8
ROWS = 160  # most rows of a note's frames: 80 partials and the halves between; 80 in what ships
# A note of 128 rows and 128 frames, level and ratio; a second of sample at 16 kHz fits in as well.
SLOT_CELLS = 2 * ROWS * 128
# 17 tables on the shelf from MIDI 36 to 84, each with its successor; per voice one that plays, one that is offered and
# one being written.
SHELF = 24
SLOTS = 96
EVENTS = 1024  # of 64 bytes; a second of the densest MIDI is 1,000
CAPTURE_SAMPLES = 1 << 17  # 2.7 s in which somebody has to fetch what was captured
ATTRIBUTES = 512  # most attributes of a bundle; AudioSet has 527 classes, of which a bundle takes 128

LATENT = 256  # longest latent of a bundle

START, RELEASE, BEND, LEVEL, KILL = 1, 2, 3, 4, 5
EVENT = np.dtype(
    [
        ("time_ns", np.int64),  # of the edge; CLOCK_MONOTONIC
        ("kind", np.int32),
        ("voice", np.int32),
        ("note", np.int64),
        ("f0_hz", np.float64),
        ("gain", np.float64),
        ("pan", np.float64),
        ("seconds", np.float64),  # of the release, or of a glide
        ("seed", np.int64),
    ],
    align=True,
)
WISH = np.dtype(
    [
        ("note", np.int64),  # 0: nobody; written last
        ("pitch_midi", np.float64),
        ("velocity", np.float64),
        ("seed", np.int64),
        ("latent", np.int64),  # device.timbre.latent_word
        ("epoch", np.int64),  # of the setup that it belongs to
        ("time_ns", np.int64),
    ],
    align=True,
)

# What is counted, and where. One writer each: those of the callback, then those of the worker, then the control's.
COUNTS = (
    "blocks",
    "samples",
    "events",
    "late_events",  # their sample had passed: played at once
    "latest_ns",
    "notes",
    "without_table",  # no table on the shelf: silent
    "from_shelf",  # began from the nearest table on the shelf
    "from_offer",  # began from their own frames
    "morphs",
    "muted",  # voices silenced because the network gave NaN
    "not_finite",  # samples
    "overloads",  # blocks in which the limiter worked
    "jumps",  # blocks that came at another time than the sample clock says
    "underruns",  # said by the backend
    "capture_lost_samples",
    "callback_ns",
    "callback_max_ns",
    "generated",
    "refreshed",  # of them for notes that were sounding
    "generation_ns",
    "late_frames",  # wishes that waited longer than device.worker.LATE_S
    "latest_frames_ns",
    "network_faults",
    "slots_short",
    "worker_starts",
    "worker_beat_ns",
    "control_starts",
    "control_beat_ns",
    "control_late_scans",
    "adc_faults",
    "lost_events",  # the ring was full
    "lost_edges",  # the kernel's queue was full
    "stolen",
    "stolen_held",
)
N = {name: place for place, name in enumerate(COUNTS)}
(
    _BLOCKS,
    _SAMPLES,
    _EVENTS,
    _LATE_EVENTS,
    _LATEST_NS,
    _NOTES,
    _WITHOUT_TABLE,
    _FROM_SHELF,
    _FROM_OFFER,
    _MORPHS,
    _MUTED,
    _NOT_FINITE,
    _OVERLOADS,
    _JUMPS,
    _UNDERRUNS,
    _CAPTURE_LOST,
    _CALLBACK_NS,
    _CALLBACK_MAX_NS,
) = range(18)
DURATION_BINS = 256  # of the callback's time, in 1/128 of its block; the last takes all that is longer
BINS_PER_BLOCK = 128

BEGIN_NS, NEXT_NS, DELAY_NS = 0, 1, 2  # in Desk.clock
GAIN, GAIN_GOAL, GAIN_STEP, MORPH_S, CAPTURING = 0, 1, 2, 3, 4  # in Desk.master
WRITTEN, READ = 0, 8  # in a cursor, a cache line (64 bytes) apart
# In Desk.version: of the settings; the epoch that the worker makes frames of, that the settings are of; whether a
# gate at any pitch finds a table.
SETTINGS, EPOCH, SETTINGS_EPOCH, READY = 0, 1, 2, 3
MUTE = 255  # offered in place of a slot: silence this note
# The sample clock follows the wall clock by this share of the difference per block: its jitter is averaged over 50
# blocks, and a sound card that is 100 ppm off is followed 13 us behind (2.7 ms * 1e-4 / .02).
CLOCK_FOLLOWS = 0.02
JUMP_NS = 20_000_000  # further off than that, blocks were lost
KNEE = 0.7  # the limiter leaves -3 dBFS and less alone
OUTPUT_UNDERFLOW = 4  # paOutputUnderflow, portaudio.h


class Desk(NamedTuple):
    """All that the processes share; V voices."""

    state: State
    events: Any  # (EVENTS,) EVENT, a ring: control -> callback
    cursor: Ints  # (16,) how many events were WRITTEN and READ
    offer: Ints  # (V,) note << 8 | slot + 1 (or MUTE): worker -> callback
    seen: Ints  # (V,) offers that the callback has taken
    shelf: Ints  # (SHELF,) slot + 1 of tables that a gate may start from, 0: none; worker -> callback
    clock: npt.NDArray[np.float64]  # (8,)
    master: npt.NDArray[np.float64]  # (8,) supervisor -> callback
    counts: Ints
    durations: Ints  # (DURATION_BINS,)
    moment: Ints  # (4,) timespec, twice
    capture: Array  # (CAPTURE_SAMPLES, 2), a ring: callback -> supervisor
    captured: Ints  # (16,) samples WRITTEN and READ
    wish: Any  # (V,) WISH: control -> worker
    expected: npt.NDArray[np.float64]  # (8,) pitches (MIDI) that a gate is likely to ask for, 0: none
    base: Array  # (ATTRIBUTES,) soft labels under the knobs; NaN first: as the patch has them
    latent: Array  # (2, LATENT) the latent, NaN first: the patch's; and what is added to every latent
    settings: Array  # (ATTRIBUTES,) of the knobs, NaN: as the patch has it
    carries: Ints  # (ATTRIBUTES,) 1: takes the related attributes along
    version: Ints  # (8,) of the settings; of the setup (epoch)


def desk_shapes(voices: int, sample_rate_hz: float) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array of a desk, those of its state first."""
    real, whole = np.dtype(np.float64), np.dtype(np.int64)
    return {
        **state_shapes(voices, SLOTS, ROWS, SLOT_CELLS, sample_rate_hz),
        "events": ((EVENTS,), EVENT),
        "cursor": ((16,), whole),
        "offer": ((voices,), whole),
        "seen": ((voices,), whole),
        "shelf": ((SHELF,), whole),
        "clock": ((8,), real),
        "master": ((8,), real),
        "counts": ((64,), whole),
        "durations": ((DURATION_BINS,), whole),
        "moment": ((4,), whole),
        "capture": ((CAPTURE_SAMPLES, 2), np.dtype(np.float32)),
        "captured": ((16,), whole),
        "wish": ((voices,), WISH),
        "expected": ((8,), real),
        "base": ((ATTRIBUTES,), np.dtype(np.float32)),
        "latent": ((2, LATENT), np.dtype(np.float32)),
        "settings": ((ATTRIBUTES,), np.dtype(np.float32)),
        "carries": ((ATTRIBUTES,), whole),
        "version": ((8,), whole),
    }


PAGE = 4096
ALIGN = 64  # a cache line, so that no two arrays share one


def memory_size(voices: int = VOICES) -> int:
    """Bytes that a desk of this many voices takes (17 MB, most of it the slots' cells)."""
    return _layout(voices)[1]


def _layout(voices: int) -> tuple[dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]], int]:
    at, places = PAGE, {}
    for name, (shape, kind) in desk_shapes(voices, SAMPLE_RATE_HZ).items():
        places[name] = (at, shape, kind)
        at += -(-int(np.prod(shape)) * kind.itemsize // ALIGN) * ALIGN
    return places, at


def lay_out(memory: Any, voices: int = VOICES) -> Desk:
    """The desk in ``memory``, a zeroed or shared buffer of `memory_size` bytes; what is in it stays."""
    places, _ = _layout(voices)
    arrays = {name: np.ndarray(shape, kind, memory, at) for name, (at, shape, kind) in places.items()}
    parts = len(State._fields)
    names = list(places)
    state = State(**{name: arrays[name] for name in names[:parts]})
    return Desk(state, **{name: arrays[name] for name in names[parts:]})


def make(memory: Any, voices: int = VOICES) -> Desk:
    """A new desk in zeroed ``memory``: nothing sounds, no table is there."""
    places, _ = _layout(voices)
    page = np.ndarray((PAGE // 8,), np.int64, memory)
    for number, (at, shape, _) in enumerate(places.values()):
        page[3 * number : 3 * number + 3] = at, shape[0], shape[1] if len(shape) > 1 else 0
    desk = lay_out(memory, voices)
    prepare(desk.state, SAMPLE_RATE_HZ)
    desk.settings[:] = desk.base[:] = desk.latent[0] = np.nan
    desk.master[GAIN] = desk.master[GAIN_GOAL] = 1.0
    desk.master[MORPH_S] = 1 / 50
    return desk


def address(memory: Any) -> int:
    """Where ``memory`` lies, for `callback`'s user data."""
    return int(np.ndarray((1,), np.int64, memory).ctypes.data)


def counted(desk: Desk) -> dict[str, int]:
    """All counters by name."""
    return {name: int(desk.counts[place]) for name, place in N.items()}


def free_slots(desk: Desk, retired: dict[int, int]) -> list[int]:
    """Slots that may be written now.

    ``retired`` (slot -> count of blocks when it left shelf or offer) is the worker's memory; slots that came free are
    taken out of it.
    """
    taken = {int(slot) - 1 for slot in desk.shelf if slot}
    taken |= {(int(word) & 255) - 1 for word in desk.offer if word}
    # A copy: the callback plays on, and numpy counts a mask before it fills what it made room for. Read with the live
    # one, a voice that began in between was written past the end (once in half a million notes; free() found it).
    voices = desk.state.voice.copy()
    taken |= {int(slot) for slot in voices["slot"][voices["active"]]}
    blocks = int(desk.counts[_BLOCKS])
    for slot in [slot for slot, block in retired.items() if block + 2 <= blocks]:
        del retired[slot]
    return [slot for slot in range(SLOTS) if slot not in taken and slot not in retired]


@compiled(fastmath=FAST)
def push(desk, time_ns, kind, voice, note, f0_hz, gain, pan, seconds, seed):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write an event for the callback; False where the ring is full. For one process at a time."""
    written = desk.cursor[WRITTEN]
    if written - desk.cursor[READ] >= EVENTS:
        return False
    event = desk.events[written % EVENTS]
    event.time_ns, event.kind, event.voice, event.note = time_ns, kind, voice, note
    event.f0_hz, event.gain, event.pan, event.seconds, event.seed = f0_hz, gain, pan, seconds, seed
    fence()
    desk.cursor[WRITTEN] = written + 1
    return True


@compiled(fastmath=FAST)
def hand_over(words, place, word):  # type: ignore[no-untyped-def]
    """Write one word of the shelf, of the offers or of a version, after all that was written before."""
    fence()
    words[place] = word


@compiled(fastmath=FAST)
def wish(desk, voice, note, pitch_midi, velocity, seed, latent, epoch, time_ns):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Say what note a voice should have the frames of."""
    entry = desk.wish[voice]
    entry.note = 0
    fence()
    entry.pitch_midi, entry.velocity, entry.seed = pitch_midi, velocity, seed
    entry.latent, entry.epoch, entry.time_ns = latent, epoch, time_ns
    fence()
    entry.note = note


@compiled(fastmath=FAST)
def _nearest(desk, f0_hz, slot):  # type: ignore[no-untyped-def]
    """Slot of the table that is nearest in pitch: ``slot`` (-1: none) or one on the shelf."""
    best = np.inf
    if slot >= 0:
        ratio = desk.state.table[slot].f0_hz / f0_hz
        best = max(ratio, 1 / ratio)
    for place in range(desk.shelf.shape[0]):
        on = desk.shelf[place] - 1
        if on >= 0 and desk.state.table[on].kind != EMPTY:
            ratio = desk.state.table[on].f0_hz / f0_hz
            apart = max(ratio, 1 / ratio)
            if apart < best:
                best, slot = apart, on
    return slot


@compiled(fastmath=FAST)
def _obey(desk, event):  # type: ignore[no-untyped-def]
    """Do what an event says, now."""
    state, counts = desk.state, desk.counts
    v = event.voice
    counts[_EVENTS] += 1
    if event.kind == START:
        counts[_NOTES] += 1
        word = desk.offer[v]
        fence()
        slot = (word & 255) - 1
        if word >> 8 == event.note:
            desk.seen[v] = word
            counts[_FROM_OFFER] += 1
        else:
            slot = _nearest(desk, event.f0_hz, -1)
            counts[_FROM_SHELF] += slot >= 0
        if slot < 0 or slot == MUTE - 1:
            counts[_WITHOUT_TABLE if slot < 0 else _MUTED] += 1
            cut(state, v)
            state.voice[v].note = event.note
            return
        start(state, v, slot, event.note, event.f0_hz, event.gain, event.pan, event.seconds, event.seed)
    elif state.voice[v].note == event.note:
        if event.kind == RELEASE:
            release(state, v)
        elif event.kind == BEND:
            voice = state.voice[v]
            if (
                voice.active and voice.age_samples == 0 and 0 < event.f0_hz < np.inf
            ):  # the pitch came after the gate
                begin_from(state, v, _nearest(desk, event.f0_hz, voice.slot))
            bend(state, v, event.f0_hz, event.seconds)
        elif event.kind == LEVEL:
            level(state, v, event.gain)
        elif event.kind == KILL:
            cut(state, v)


@compiled(fastmath=FAST)
def _take_offers(desk):  # type: ignore[no-untyped-def]
    """Crossfade sounding notes to the frames that the worker made for them."""
    state = desk.state
    for v in range(desk.offer.shape[0]):
        word = desk.offer[v]
        fence()
        voice = state.voice[v]
        if word != desk.seen[v] and word >> 8 == voice.note:
            desk.seen[v] = word
            slot = (word & 255) - 1
            if voice.active and word & 255 == MUTE:
                cut(state, v)
                desk.counts[_MUTED] += 1
            elif voice.active and slot >= 0 and slot != voice.slot:
                morph(state, v, slot, desk.master[MORPH_S])
                desk.counts[_MORPHS] += 1


@compiled(fastmath=FAST)
def _limited(x):  # type: ignore[no-untyped-def]
    """Soft limiter: straight up to the knee, then ever flatter towards 1; value, slope and curvature are continuous."""
    over = abs(x) - np.float32(KNEE)
    if over <= 0:
        return x
    # Of tanh the curvature is 0 at 0: one peak a little over the knee is no click.
    y = np.float32(KNEE) + np.float32(1 - KNEE) * np.tanh(over / np.float32(1 - KNEE))
    return y if x > 0 else -y


@compiled(fastmath=FAST)
def _finish(desk, out):  # type: ignore[no-untyped-def]
    """Master gain, limiter, capture; nothing that is not finite leaves."""
    master, counts = desk.master, desk.counts
    overload = False
    for i in range(out.shape[0]):
        gain, goal = master[GAIN], master[GAIN_GOAL]
        if gain != goal:
            gain = min(gain + master[GAIN_STEP], goal) if gain < goal else max(gain - master[GAIN_STEP], goal)
            master[GAIN] = gain
        for channel in range(2):
            x = out[i, channel] * np.float32(gain)
            if not np.isfinite(x):
                x = np.float32(0)
                counts[_NOT_FINITE] += 1
            overload |= abs(x) > np.float32(KNEE)
            out[i, channel] = _limited(x)
    counts[_OVERLOADS] += overload
    if master[CAPTURING] > 0:
        written, size = desk.captured[WRITTEN], desk.capture.shape[0]
        if written + out.shape[0] - desk.captured[READ] > size:
            counts[_CAPTURE_LOST] += out.shape[0]
        else:
            for i in range(out.shape[0]):
                at = (written + i) % size
                desk.capture[at, 0], desk.capture[at, 1] = out[i, 0], out[i, 1]
            fence()
            desk.captured[WRITTEN] = written + out.shape[0]


@compiled(fastmath=FAST)
def advance(desk, out, now_ns):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n, 2) with the next block; ``now_ns`` is when it was asked for."""
    clock, counts, frames = desk.clock, desk.counts, out.shape[0]
    rate_hz = desk.state.rate_hz[0]
    begin_ns = clock[NEXT_NS]
    off_ns = now_ns - begin_ns
    if abs(off_ns) > JUMP_NS:
        counts[_JUMPS] += counts[_BLOCKS] > 0
        begin_ns = np.float64(now_ns)
    else:
        begin_ns += CLOCK_FOLLOWS * off_ns
    clock[BEGIN_NS] = begin_ns
    clock[NEXT_NS] = begin_ns + frames * (1e9 / rate_hz)

    _take_offers(desk)
    done = 0
    taken = desk.cursor[READ]
    while taken < desk.cursor[WRITTEN]:
        fence()
        event = desk.events[taken % EVENTS]
        due_ns = event.time_ns + clock[DELAY_NS] - begin_ns
        at = max(int(np.ceil(due_ns * rate_hz * 1e-9)), -1)
        if at >= frames:
            break
        if at < 0:
            counts[_LATE_EVENTS] += 1
            counts[_LATEST_NS] = max(counts[_LATEST_NS], np.int64(-due_ns))
        if at > done:
            render(desk.state, out[done:at])
            done = at
        _obey(desk, event)
        taken += 1
        fence()
        desk.cursor[READ] = taken
    render(desk.state, out[done:])
    counts[_MUTED] += desk.state.muted[0]
    desk.state.muted[0] = 0
    _finish(desk, out)
    counts[_SAMPLES] += frames
    fence()
    counts[_BLOCKS] += 1


@compiled(fastmath=FAST)
def _now_ns(moment):  # type: ignore[no-untyped-def]
    """CLOCK_MONOTONIC, by way of ``moment``, which is a struct timespec."""
    clock_gettime(np.int32(CLOCK_MONOTONIC), moment.ctypes.data)
    return moment[0] * 1_000_000_000 + moment[1]


@compiled(fastmath=FAST)
def _line(base, where, number, kind):  # type: ignore[no-untyped-def]
    """The array with this number, of one dimension."""
    return array_at(pointer(base + where[number, 0]), (where[number, 1],), kind)


@compiled(fastmath=FAST)
def _plane(base, where, number, kind):  # type: ignore[no-untyped-def]
    """The array with this number, of two dimensions."""
    return array_at(pointer(base + where[number, 0]), (where[number, 1], where[number, 2]), kind)


@compiled(fastmath=FAST)
def open_desk(base):  # type: ignore[no-untyped-def]
    """The desk whose memory begins at address ``base``; the numbers are those of `desk_shapes`."""
    where = array_at(pointer(base), (PAGE // 24, 3), np.int64)
    state = State(
        _line(base, where, 0, VOICE),  # voice
        _line(base, where, 1, TABLE),  # table
        _plane(base, where, 2, np.float32),  # cells
        _plane(base, where, 3, np.float32),  # decay
        _plane(base, where, 4, np.float32),  # decay_step
        _plane(base, where, 5, np.float32),  # envelope
        _plane(base, where, 6, np.float32),  # decay_gain
        _plane(base, where, 7, np.float32),  # shift_amplitude
        _plane(base, where, 8, np.float32),  # shift_ratio
        _plane(base, where, 9, np.float32),  # tilt
        _plane(base, where, 10, np.float32),  # below_limit
        _plane(base, where, 11, np.float32),  # from_amplitude
        _plane(base, where, 12, np.float32),  # to_amplitude
        _plane(base, where, 13, np.float32),  # to_ratio
        _plane(base, where, 14, np.int32),  # phase
        _plane(base, where, 15, np.int32),  # step
        _plane(base, where, 16, np.int32),  # to_step
        _plane(base, where, 17, np.float32),  # mono
        _line(base, where, 18, np.int32),  # triangle
        _plane(base, where, 19, np.float32),  # tail
        _plane(base, where, 20, np.float32),  # cut
        _line(base, where, 21, np.int64),  # tail_at
        _line(base, where, 22, np.int64),  # muted
        _line(base, where, 23, np.float64),  # rate_hz
    )
    return Desk(
        state,
        _line(base, where, 24, EVENT),  # events
        _line(base, where, 25, np.int64),  # cursor
        _line(base, where, 26, np.int64),  # offer
        _line(base, where, 27, np.int64),  # seen
        _line(base, where, 28, np.int64),  # shelf
        _line(base, where, 29, np.float64),  # clock
        _line(base, where, 30, np.float64),  # master
        _line(base, where, 31, np.int64),  # counts
        _line(base, where, 32, np.int64),  # durations
        _line(base, where, 33, np.int64),  # moment
        _plane(base, where, 34, np.float32),  # capture
        _line(base, where, 35, np.int64),  # captured
        _line(base, where, 36, WISH),  # wish
        _line(base, where, 37, np.float64),  # expected
        _line(base, where, 38, np.float32),  # base
        _plane(base, where, 39, np.float32),  # latent
        _line(base, where, 40, np.float32),  # settings
        _line(base, where, 41, np.int64),  # carries
        _line(base, where, 42, np.int64),  # version
    )


@compiled(fastmath=FAST)
def _call_back(output, frames, flags, memory):  # type: ignore[no-untyped-def]
    """What PortAudio's callback does."""
    desk = open_desk(memory)
    before_ns = _now_ns(desk.moment)
    advance(desk, array_at(pointer(output), (frames, 2), np.float32), before_ns)
    took_ns = _now_ns(desk.moment) - before_ns
    counts, durations = desk.counts, desk.durations
    counts[_UNDERRUNS] += (flags & OUTPUT_UNDERFLOW) > 0
    counts[_CALLBACK_NS] += took_ns
    counts[_CALLBACK_MAX_NS] = max(counts[_CALLBACK_MAX_NS], took_ns)
    share = took_ns * desk.state.rate_hz[0] * 1e-9 / frames
    durations[min(int(share * BINS_PER_BLOCK), DURATION_BINS - 1)] += 1


@functools.cache
def callback() -> Any:
    """The callback, compiled now or taken from the cache; its ``address`` is what PortAudio gets.

    As PaStreamCallback in portaudio.h: float32, two channels interleaved; the user data is the desk's `address`.
    """

    def call_back(_input, output, frames, _time, flags, memory):  # type: ignore[no-untyped-def]
        _call_back(output, frames, flags, memory)
        return np.int32(0)

    at, whole = types.intp, types.uint64
    return c_function(types.int32(at, at, whole, at, whole, at), call_back)
