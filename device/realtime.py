"""How soon and how steadily the live instrument answers, measured from outside; `darkrack realtime` makes a page of it.

The whole of `darkrack play` runs on its paced output, with real drivers on simulated chips. Hands are a script, so the
time of every edge is known before it enters the program; its answer is looked for in the captured samples, whose times
are those of the paced output's blocks. A device's own buffer comes on top of everything.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import datetime
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from device import bundle as bundles
from device.errors import DarkrackError
from device.files import atomic_path, write_json

if TYPE_CHECKING:
    from device.engine import Desk
    from device.instrument import Part, Plan
    from device.play import Supervisor

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLOCKS_FRAMES = (32, 64, 128, 256)
BLOCK_FRAMES = 128  # as `darkrack play` has it unless told otherwise
VOICES = 8
RATE_HZ = 48_000
SEED = 6

PULSE_EVERY_S, PULSE_S = 0.15, 0.05
RELEASE_MS = 20  # so that the next gate begins in silence: -90 dB in 30 ms
SILENT = 1e-6  # -120 dBFS; a note's first sample is above, the swell of an onset begins there
ANSWERS_S = 0.06  # an edge that was not heard until then has been missed
STEP_EVERY_S = 0.6
KNOB_KEY = 60
WINDOW_SAMPLES = 1024  # 21 ms: the spectrum of a note whose period is 3.8 ms
HOP_SAMPLES = 48
SWEEP_S = 0.5  # of the pot, from end to end
EIGHT_KEYS = (40, 47, 52, 56, 59, 64, 68, 71)
SETTLES_S = 0.3  # between two parts of the script
LEAST_CHANGE = 4.0  # of a spectrum, against how much it changes by itself
NOTE_ON, NOTE_OFF = bytes([0x90, KNOB_KEY, 100]), bytes([0x80, KNOB_KEY, 0])  # channel 1
WARMS_UP_S = 0.5  # of a paced output before its blocks are counted
SCAN_HZ = 1000.0  # of the simulated module's pitch
STARTED_S = 0.3  # that the program plays after its first gate, before it is told to end
START_LIMIT_S = 900.0  # of a start that has to compile everything on a slow board

# What a Raspberry Pi 4 does a second, on one of its four cores. The least: XNNPACK's README of 2020 (float32, four
# threads) has MobileNet v1 at 75 ms; 569 million MACs (Howard et al. 2017) / 75 ms / 4. The most: twice that, what
# eight bits in place of float32 gain at best where a core has no dot product of eight bits (Cortex-A72 has none).
PI4_MACS_PER_S = (569e6 / 0.075 / 4, 2 * 569e6 / 0.075 / 4)

IDLE, BUSY_THREAD, BUSY_PROCESS = "idle", "a busy Python thread in the same process", "a busy Python process"
LITERT_THREAD, WEB_SERVER = "a LiteRT thread in the same process", "a web server in the same process"
LOADS = (IDLE, BUSY_THREAD, BUSY_PROCESS)
COMPILED, APART, PYTHON = "compiled", "compiled, in a process of its own", "Python"


@dataclass(frozen=True)
class Quantiles:
    """Of ``n`` measurements, in ms."""

    n: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Cell:
    """What was measured at one block size beside one load.

    ``gate_ms``: edge to first sample, with the constant ``delay_ms`` in it; ``missed``: edges without an answer.
    ``knob_ms``: a pot's leap to the middle of the change in the spectrum. ``callback_ms`` with eight voices, upper ends
    of bins of 1/128 block; ``not_in_time``: blocks that a device would have played without. ``morphs_hz``: crossfades
    to new frames a second while a pot keeps moving, of one held voice and of each of eight.
    """

    block_frames: int
    load: str
    delay_ms: float
    gate_ms: Quantiles
    missed: int
    knob_ms: Quantiles
    callback_ms: Quantiles
    blocks: int
    not_in_time: int
    late_frames: int
    late_events: int
    morphs_hz: tuple[float, float]


@dataclass(frozen=True)
class Lateness:
    """When blocks were ready, by who renders them and beside what: ms after they were due."""

    callback: str
    load: str
    ready_ms: Quantiles
    not_in_time: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack realtime`."""
    parser.add_argument("bundle", type=Path, metavar="X.rack", help="what plays")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the page to FILE (Markdown) instead of printing it"
    )
    parser.add_argument("--quick", action="store_true", help="one block size, a fifth of the time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")


def run(args: argparse.Namespace) -> None:
    """Measure, write the page; DarkrackError for a bundle that cannot be played, or a machine that stood still."""
    from tqdm import tqdm

    bundle = bundles.read(args.bundle)
    load_before = os.getloadavg()[0]
    lengths_s = Lengths(4.0, 4.0, 2.0, 3.0) if args.quick else Lengths(20.0, 20.0, 5.0, 12.0)
    sizes = (128,) if args.quick else BLOCKS_FRAMES
    kinds = [
        (kind, load)
        for load in (IDLE, BUSY_THREAD, LITERT_THREAD, WEB_SERVER)
        for kind in (COMPILED, APART, PYTHON)
    ]
    cells, lateness = [], []
    with tqdm(total=len(sizes) * len(LOADS) + len(kinds), desc="measuring", disable=None) as progress:
        for block_frames in sizes:
            for load in LOADS:
                cells.append(measure(bundle, block_frames, load, lengths_s))
                progress.update()
        for kind, load in kinds:
            lateness.append(measure_callback(bundle, kind, load, lengths_s.eight))
            progress.update()
    from device.machine import processor

    figures = {
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "load_before": round(load_before, 2),
        "real_time_scheduling": _may_be_prompt(),
        "date": datetime.date.today().isoformat(),
        "bundle": bundle.manifest.name,
        "macs": bundle.manifest.macs,
        "cells": [dataclasses.asdict(cell) for cell in cells],
        "lateness": [dataclasses.asdict(one) for one in lateness],
    }
    text = page(figures, cells, lateness, args.bundle)
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(args.out)
    else:
        print(text)
    if args.json:
        write_json(args.json, figures)


@dataclass(frozen=True)
class Lengths:
    """Seconds of each part of the script; a part of none is left out.

    ``gates``: edges at the gate's jack; ``knob``: a pot that leaps under a held note; ``one`` and ``eight``: as many
    held notes while it is swept; ``midi``: notes on a DIN line.
    """

    gates: float
    knob: float
    one: float
    eight: float
    midi: float = 0.0


@dataclass(frozen=True)
class Answers:
    """What one play of the script gave, before anything is made of it.

    ``gates_ms``, ``midi_ms``: from an edge, or from the moment before a note's three bytes are written to the line, to
    the first sample of its sound, None where none was heard; ``knobs_ms``: see `Cell`. ``durations`` and ``finished``:
    histograms in 1/BINS_PER_BLOCK of a block, of the callback's time and of when blocks were ready, during ``eight``.
    """

    delay_ms: float
    gates_ms: tuple[float | None, ...]
    midi_ms: tuple[float | None, ...]
    knobs_ms: tuple[float | None, ...]
    durations: Ints
    finished: Ints
    late_frames: int
    late_events: int
    morphs_hz: tuple[float, float]


@dataclass(frozen=True)
class _Plot:
    """The script of a measurement, and what it does when."""

    toml: str
    pulses_s: list[float]
    midi_s: list[float]
    steps_s: list[float]
    one_s: tuple[float, float]
    eight_s: tuple[float, float]
    seconds: float


def _plot(lengths_s: Lengths, pot: int) -> _Plot:
    """Gates at no multiple of anything; leaps of a pot under a held note; then that pot swept under one and eight."""
    rng = np.random.default_rng(SEED)

    def pulses(begin_s: float, length_s: float) -> list[float]:
        return [
            round(begin_s + n * PULSE_EVERY_S + 0.03 * float(rng.random()), 6)
            for n in range(int(length_s / PULSE_EVERY_S))
        ]

    pulses_s = pulses(SETTLES_S, lengths_s.gates)
    midi_begin_s = SETTLES_S + lengths_s.gates + SETTLES_S
    midi_s = pulses(midi_begin_s, lengths_s.midi)
    knob_s = midi_begin_s + lengths_s.midi + (SETTLES_S if lengths_s.midi else 0.0)
    steps_s = [
        round(knob_s + (n + 0.5) * STEP_EVERY_S + 0.03 * float(rng.random()), 6)
        for n in range(int(lengths_s.knob / STEP_EVERY_S))
    ]
    one_s = knob_s + lengths_s.knob + SETTLES_S
    eight_s = one_s + lengths_s.one + SETTLES_S
    end_s = eight_s + lengths_s.eight
    points = [(0.0, 0.0)]
    for n, step_s in enumerate(steps_s):
        points += [(step_s, float(n % 2)), (step_s + 1e-6, float((n + 1) % 2))]
    turns = np.arange(one_s, end_s, SWEEP_S)
    points += [(float(turn_s), float(n % 2)) for n, turn_s in enumerate(turns)]
    notes = [(knob_s, lengths_s.knob, KNOB_KEY, 100), (one_s, lengths_s.one, KNOB_KEY, 100)]
    notes += [(eight_s, lengths_s.eight, key, 60) for key in EIGHT_KEYS]
    notes = [note for note in notes if note[1] > 0]
    lines = [
        f"seconds = {end_s + SETTLES_S:.6f}",
        "[pitch]",
        f"random = [48, 72]\nlag_ms = 0.3\nseed = {SEED}",  # pitch and gate change in the same millisecond
        "[gate]",
        f"pulses = [{', '.join(f'[{on:.6f}, {on + PULSE_S:.6f}]' for on in pulses_s)}]",
    ]
    if notes:
        told = ", ".join(
            f"[{on:.6f}, {length:.6f}, {key}, {velocity}]" for on, length, key, velocity in notes
        )
        lines += ["[[keys]]", "channel = 2", f"notes = [{told}]"]
    lines += [
        f"[pot.{pot}]",
        f"points = [{', '.join(f'[{when:.6f}, {position:g}]' for when, position in points)}]",
    ]
    return _Plot(
        "\n".join(lines),
        pulses_s,
        midi_s,
        steps_s,
        (one_s + SETTLES_S, one_s + lengths_s.one - SETTLES_S),
        (eight_s + SETTLES_S, end_s - SETTLES_S),
        end_s + 2 * SETTLES_S,
    )


def measure(bundle: bundles.Bundle, block_frames: int, load: str, lengths_s: Lengths) -> Cell:
    """Play the script at one block size beside one load."""
    from device.engine import BINS_PER_BLOCK

    found = answers(bundle, block_frames, load, lengths_s)
    return Cell(
        block_frames=block_frames,
        load=load,
        delay_ms=found.delay_ms,
        gate_ms=_quantiles([one for one in found.gates_ms if one is not None]),
        missed=sum(one is None for one in found.gates_ms),
        knob_ms=_quantiles([one for one in found.knobs_ms if one is not None]),
        callback_ms=_binned(found.durations, block_frames),
        blocks=int(found.finished.sum()),
        not_in_time=int(found.finished[BINS_PER_BLOCK:].sum()),
        late_frames=found.late_frames,
        late_events=found.late_events,
        morphs_hz=found.morphs_hz,
    )


def answers(
    bundle: bundles.Bundle, block_frames: int, load: str, lengths_s: Lengths, variant: str | None = None
) -> Answers:
    """Play the script, and look for what answers to each of its edges."""
    from device.engine import DURATION_BINS, READ, N
    from device.play import delay_ns

    with contextlib.ExitStack() as stack:
        line = stack.enter_context(_Line()) if lengths_s.midi else None
        plan, parts, script = stack.enter_context(_planned(bundle, variant, line))
        knobs = parts[0].knobs
        moves = lengths_s.knob + lengths_s.one + lengths_s.eight > 0
        plot = _plot(lengths_s, _telling_pot(bundle, knobs) if moves else 1)
        script.write_text(plot.toml)
        supervisor = stack.enter_context(_playing(plan, parts, block_frames))
        assert supervisor.audio is not None
        null, desk = supervisor.audio.null, supervisor.desk
        stack.enter_context(_load(load, bundle))
        if line is not None:
            stack.enter_context(line.played(supervisor.origin_ns, plot.midi_s))

        supervisor.fetch()
        lost, begun_ns = int(desk.counts[N["capture_lost_samples"]]), null.begun_ns
        first_sample = int(desk.captured[READ]) + _not_captured(desk)
        pieces: list[Array] = []
        marks: dict[float, tuple[Ints, Ints, Ints]] = {}
        wanted_s = [*plot.one_s] if lengths_s.one else []
        wanted_s += plot.eight_s if lengths_s.eight else []
        while (elapsed_s := (time.monotonic_ns() - supervisor.origin_ns) * 1e-9) < plot.seconds:
            supervisor.watch(time.monotonic_ns())
            pieces.append(supervisor.fetch())
            if wanted_s and elapsed_s >= wanted_s[0]:
                marks[wanted_s.pop(0)] = (desk.counts.copy(), desk.durations.copy(), null.finished.copy())
            time.sleep(0.01)
        if lost != desk.counts[N["capture_lost_samples"]] or begun_ns != null.begun_ns:
            raise DarkrackError(
                "this machine", "it to keep running", "it stood still for longer than a second", "try again"
            )
        heard = np.concatenate(pieces).sum(axis=1)
        late_frames, late_events = int(desk.counts[N["late_frames"]]), int(desk.counts[N["late_events"]])
        origin_ns = supervisor.origin_ns

        def at(time_ns: float) -> float:
            """Where in ``heard`` a moment is; the first block is due a block after the beginning."""
            return (time_ns - begun_ns) * 1e-9 * RATE_HZ - block_frames - first_sample

        def place(time_s: float) -> float:
            return at(origin_ns + time_s * 1e9)

        gates = tuple(_first_sample(heard, place(pulse_s)) for pulse_s in plot.pulses_s)
        midi = tuple(_first_sample(heard, at(sent_ns)) for sent_ns in (line.sent_ns if line else []))
        leaps = tuple(_half_changed(heard, place(step_s)) for step_s in plot.steps_s)

    def between(span_s: tuple[float, float], which: int) -> Ints:
        if span_s[0] not in marks:  # the part was left out
            return np.zeros(DURATION_BINS if which else len(N), np.int64)
        return marks[span_s[1]][which] - marks[span_s[0]][which]

    morphs_hz = [
        float(between(span_s, 0)[N["morphs"]]) / (span_s[1] - span_s[0]) / voices
        for span_s, voices in ((plot.one_s, 1), (plot.eight_s, VOICES))
    ]
    return Answers(
        delay_ms=delay_ns(block_frames, SCAN_HZ) * 1e-6,
        gates_ms=gates,
        midi_ms=midi,
        knobs_ms=leaps,
        durations=between(plot.eight_s, 1),
        finished=between(plot.eight_s, 2),
        late_frames=late_frames,
        late_events=late_events,
        morphs_hz=(round(morphs_hz[0], 1), round(morphs_hz[1], 1)),
    )


@contextlib.contextmanager
def _planned(
    bundle: bundles.Bundle, variant: str | None = None, line: _Line | None = None
) -> Iterator[tuple[Plan, list[Part], Path]]:
    """What is to be played: plan and parts, and where the script is to be written; a folder for its state."""
    from device import state
    from device.instrument import Plan, read_parts

    with tempfile.TemporaryDirectory() as name, _environment(state.VARIABLE, name):
        folder = Path(name)
        script, patch = folder / "measure.toml", folder / "patch.toml"
        patch.write_text(f"[voice]\nrelease_ms = {RELEASE_MS}\ncarry = false\n")
        serial = () if line is None else (line.path,)
        plan = Plan(
            (bundle.path,), patch=patch, variant=variant, script=str(script), voices=VOICES, serial=serial
        )
        yield plan, read_parts(plan, VOICES), script


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable, for this process and those that it starts: what is measured keeps nothing where a player does."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _playing(plan: Plan, parts: list[Part], block_frames: int) -> Supervisor:
    """The whole program on its paced output, captured."""
    from device.play import Supervisor, delay_ns

    return Supervisor(plan, parts, block_frames, delay_ns(block_frames, SCAN_HZ), "null", True)


class _Line:
    """A DIN cable: a pair of the kernel's terminals, of which the program opens one as its serial port.

    No UART is in between, so what a cable's 31250 baud take for a note's three bytes (0.96 ms) comes on top.
    """

    def __init__(self) -> None:
        self._end, self._kept = os.openpty()  # the far end is held open too, or it would hang up
        self.path = os.ttyname(self._kept)
        self.sent_ns: list[int] = []

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        os.close(self._kept)

    @contextlib.contextmanager
    def played(self, origin_ns: int, times_s: Sequence[float]) -> Iterator[None]:
        """Notes at these times, from a thread; ``sent_ns`` says when each was written."""

        def play(ended: threading.Event) -> None:
            def wait_until(time_s: float) -> bool:
                return ended.wait(max(origin_ns * 1e-9 + time_s - time.monotonic(), 0.0))

            for time_s in times_s:
                if wait_until(time_s):
                    return
                self.sent_ns.append(time.monotonic_ns())
                os.write(self._end, NOTE_ON)
                if wait_until(time_s + PULSE_S):
                    return
                os.write(self._end, NOTE_OFF)

        with _thread(play):
            yield


@dataclass(frozen=True)
class Stretch:
    """Some seconds of a run in which eight notes are held and a pot is swept, the ``end_s`` since it began.

    ``callback_ms`` and ``generation_ms``: means, of a block and of a note's frames; ``not_in_time`` of ``blocks``;
    ``morphs_hz`` of each voice. None where nothing was counted, or the board has no such sensor.
    """

    end_s: float
    blocks: int
    not_in_time: int
    callback_ms: float | None
    generation_ms: float | None
    morphs_hz: float
    temperature_c: float | None
    clock_mhz: float | None


def sustain(
    bundle: bundles.Bundle, block_frames: int, seconds: float, every_s: float, variant: str | None = None
) -> Iterator[Stretch]:
    """Hold eight notes and sweep a pot for ``seconds``; says every ``every_s`` what that took."""
    from device.engine import BINS_PER_BLOCK, N
    from device.machine import clock_mhz, temperature_c
    from device.partials import Partials

    notes = ", ".join(f"[0, {seconds + SETTLES_S:.3f}, {key}, 60]" for key in EIGHT_KEYS)
    names = ("generated", "generation_ns", "morphs", "blocks", "callback_ns")
    with _planned(bundle, variant) as (plan, parts, script):
        morphs = isinstance(bundle.manifest.representation, Partials)
        pot = _telling_pot(bundle, parts[0].knobs) if morphs else 1
        script.write_text(
            f"seconds = {seconds + SETTLES_S:.3f}\n[pitch]\nnotes = [{KNOB_KEY}]\n"
            f"[gate]\npulses = [[0, 0.01]]\n[[keys]]\nchannel = 2\nnotes = [{notes}]\n"
            f'[pot.{pot}]\nwave = "triangle"\nperiod_s = {2 * SWEEP_S}\n'
        )
        with _playing(plan, parts, block_frames) as supervisor:
            assert supervisor.audio is not None
            desk, null = supervisor.desk, supervisor.audio.null

            def seen() -> tuple[dict[str, int], Ints]:
                return {name: int(desk.counts[N[name]]) for name in names}, null.finished.copy()

            before, began_s = seen(), time.monotonic()
            last_s = began_s
            while last_s - began_s < seconds:
                time.sleep(min(0.05, every_s))
                supervisor.watch(time.monotonic_ns())
                supervisor.fetch()
                now_s = time.monotonic()
                if now_s - last_s < every_s and now_s - began_s < seconds:
                    continue
                after = seen()
                more = {name: after[0][name] - before[0][name] for name in names}
                ready = after[1] - before[1]
                yield Stretch(
                    end_s=round(now_s - began_s, 3),
                    blocks=int(ready.sum()),
                    not_in_time=int(ready[BINS_PER_BLOCK:].sum()),
                    callback_ms=more["callback_ns"] / more["blocks"] * 1e-6 if more["blocks"] else None,
                    generation_ms=(
                        more["generation_ns"] / more["generated"] * 1e-6 if more["generated"] else None
                    ),
                    morphs_hz=more["morphs"] / VOICES / (now_s - last_s),
                    temperature_c=temperature_c(),
                    clock_mhz=clock_mhz(),
                )
                before, last_s = after, now_s


PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); import darkrack; sys.exit(darkrack.main(sys.argv[2:]))"
)
ROOT = Path(__file__).resolve().parent.parent


def start_s(bundle: bundles.Bundle, block_frames: int, variant: str | None = None) -> float:
    """Seconds from the beginning of `darkrack play`, a process of its own, to the first sample that is not zero.

    The gate is up from the first moment, so it is the program that is waited for; 50 ms of it are the script's own.
    """
    from device import state

    with tempfile.TemporaryDirectory() as name, _environment(state.VARIABLE, name):
        folder = Path(name)
        script, report = folder / "start.toml", folder / "report.json"
        script.write_text(
            f"seconds = {STARTED_S}\n[pitch]\nnotes = [{KNOB_KEY}]\n[gate]\npulses = [[0, {STARTED_S}]]\n"
        )
        words = ["play", bundle.path.resolve(), "--profile", "sim", "--script", script, "--audio", "null"]
        words += ["--midi", "none", "--osc", "0", "--block", block_frames, "--json", report]
        words += [] if variant is None else ["--variant", variant]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(ROOT), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            check=False,
        )
        where = "darkrack play"
        if done.returncode:
            raise DarkrackError(where, "it to play", done.stderr.strip()[-500:] or f"exit {done.returncode}")
        after_s = json.loads(report.read_text())["first_sound_after_s"]
        if after_s is None:
            raise DarkrackError(where, "sound after its gate", "silence", "darkrack bundle verify FILE")
        return float(after_s)


def _not_captured(desk: Desk) -> int:
    """How many samples were rendered before the capture began, and while its ring was full."""
    from device.engine import WRITTEN, N

    # A block is captured before it is counted: between the two the difference is a block too small.
    seen = []
    for _ in range(5):
        seen.append(int(desk.counts[N["samples"]]) - int(desk.captured[WRITTEN]))
        time.sleep(0.001)
    return max(seen)


def _telling_pot(bundle: bundles.Bundle, knobs: Sequence[str | None]) -> int:
    """The pot (from 1) whose way from end to end changes the spectrum most."""
    from device.maker import Maker
    from device.partials import NoteFrames
    from device.patch import Patch
    from device.timbre import Timbre

    maker = Maker(bundle)

    def spectrum(name: str, setting: float) -> Array:
        timbre = Timbre(bundle, Patch(carry=False))
        timbre.turn(name, setting)
        note, _ = maker.note(timbre.stance.z[0], timbre.stance.vector, KNOB_KEY, 0.8, 0)
        if not isinstance(note, NoteFrames):
            raise DarkrackError(
                str(bundle.path), "a bundle of partials", "one of samples, which do not morph"
            )
        mean: Array = 10 ** (note.level_db[:, note.loop_start :].mean(axis=1) / 20)
        return mean

    changes = [
        0.0 if name is None else float(np.linalg.norm(spectrum(name, 1.0) - spectrum(name, 0.0)))
        for name in knobs
    ]
    return 1 + int(np.argmax(changes))


def _first_sample(heard: Array, edge: float) -> float | None:
    """Milliseconds from an edge (samples, fractions) to the first sample after it that is not silence."""
    begin = int(np.ceil(edge))
    stretch = np.abs(heard[begin : begin + round(ANSWERS_S * RATE_HZ)]) > SILENT
    if not stretch.any() or stretch[0]:
        return None
    return float((begin + int(np.argmax(stretch)) - edge) / RATE_HZ * 1e3)


def _half_changed(heard: Array, leap: float) -> float | None:
    """Milliseconds from a pot's leap to where the spectrum is half-way from what it was to what it becomes."""
    span = round(0.25 * RATE_HZ)
    begins = np.arange(int(leap) - span, int(leap) + span, HOP_SAMPLES)
    if begins[0] < 0 or begins[-1] + WINDOW_SAMPLES > len(heard):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(heard, WINDOW_SAMPLES)[begins]
    spectra = np.abs(np.fft.rfft(windows * np.hanning(WINDOW_SAMPLES)))
    since = (begins + WINDOW_SAMPLES / 2 - leap) / RATE_HZ  # of the middle of each window
    before, after = spectra[since < -0.02], spectra[since > 0.15]
    way = after.mean(axis=0) - before.mean(axis=0)
    along = (spectra - before.mean(axis=0)) @ way / max(float(way @ way), 1e-20)
    if LEAST_CHANGE * along[since < -0.02].std() > 1:
        return None  # the note itself changes as much
    passed = np.flatnonzero((along[1:] >= 0.5) & (along[:-1] < 0.5) & (since[1:] > 0))
    if not len(passed):
        return None
    n = passed[0]
    share = (0.5 - along[n]) / (along[n + 1] - along[n])
    return float(since[n] + share * (since[n + 1] - since[n])) * 1e3


def _quantiles(values_ms: Sequence[float]) -> Quantiles:
    if not values_ms:
        return Quantiles(0, 0.0, 0.0, 0.0)
    p50, p99, most = (float(np.quantile(values_ms, share)) for share in (0.5, 0.99, 1.0))
    return Quantiles(len(values_ms), round(p50, 3), round(p99, 3), round(most, 3))


def _binned(bins: Ints, block_frames: int) -> Quantiles:
    """Quantiles of a histogram in 1/BINS_PER_BLOCK of a block, each the upper end of its bin."""
    from device.engine import BINS_PER_BLOCK

    shares = np.cumsum(bins) / max(int(bins.sum()), 1)
    block_ms = block_frames / RATE_HZ * 1e3

    def at(share: float) -> float:
        return round((int(np.searchsorted(shares, share)) + 1) / BINS_PER_BLOCK * block_ms, 4)

    return Quantiles(int(bins.sum()), at(0.5), at(0.99), at(1.0 - 1e-12))


# Loads


@contextlib.contextmanager
def _load(name: str, bundle: bundles.Bundle) -> Iterator[None]:
    """Keep the machine busy in one way."""
    if name == IDLE:
        yield
    elif name == BUSY_THREAD:
        with _thread(_again_and_again(_reckon)):
            yield
    elif name == LITERT_THREAD:
        with _thread(_again_and_again(_make_notes(bundle))):
            yield
    elif name == BUSY_PROCESS:
        with _process(run_reckoner):
            yield
    else:
        with (
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server,
            _answering(server),
            _process(run_visitor, int(server.server_address[1])),
        ):
            yield


@contextlib.contextmanager
def _thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """A thread that works until it is done, or until the event that it is given says to end."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(2.0)


def _again_and_again(work: Callable[[], object]) -> Callable[[threading.Event], None]:
    """For `_thread`: the same once more until it shall end."""

    def keep_on(ended: threading.Event) -> None:
        while not ended.is_set():
            work()

    return keep_on


@contextlib.contextmanager
def _answering(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(2.0)


@contextlib.contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    context = get_context("spawn")
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    time.sleep(0.5)  # to be started when the measurement is
    try:
        yield
    finally:
        process.kill()
        process.join(2.0)


def _reckon() -> int:
    """Python that never waits: a few milliseconds of it."""
    return sum(n * n for n in range(30_000))


def _make_notes(bundle: bundles.Bundle) -> Callable[[], object]:
    from device.generator import Generator

    generator = Generator(bundle)
    z, labels = np.zeros(bundle.manifest.latent_size), np.full(len(bundle.manifest.attributes), 0.1)
    return lambda: generator.note(z, labels, 60.0, 0.8, 0)


class _Page(http.server.BaseHTTPRequestHandler):
    """A page as a module's own might be: some JSON, made anew."""

    def do_GET(self) -> None:
        body = ("[" + ", ".join(f'{{"knob": {n}, "at": {n / 64:.3f}}}' for n in range(64)) + "]").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def run_reckoner() -> None:
    """A process that only reckons."""
    while os.getppid() != 1:
        _reckon()


def run_visitor(port: int) -> None:
    """A process that asks for the page as fast as it comes."""
    while os.getppid() != 1:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer,
        ):
            answer.read()


# Who renders


def measure_callback(bundle: bundles.Bundle, kind: str, load: str, seconds: float) -> Lateness:
    """When blocks of 128 frames with eight full voices are ready, on the paced output."""
    from device.engine import BINS_PER_BLOCK, make, memory_size

    memory = SharedMemory(create=True, size=memory_size(VOICES))
    try:
        desk = make(memory.buf, VOICES)
        _fill(desk)
        with _load(load, bundle):
            finished = _paced_apart(memory, seconds) if kind == APART else _paced(memory, kind, seconds)
        del desk
    finally:
        with contextlib.suppress(BufferError):
            memory.close()
        memory.unlink()
    ready = _binned(finished, BLOCK_FRAMES)
    return Lateness(kind, load, ready, int(finished[BINS_PER_BLOCK:].sum()))


def _fill(desk: Desk) -> None:
    """Eight held notes whose 80 partials all sound."""
    from device.engine import START, hand_over, push
    from device.partials import NoteFrames, Partials, nominal_hz
    from device.voices import fill

    grid = Partials()
    note = NoteFrames(
        level_db=np.full((grid.rows, grid.frames), -60, np.float32),
        ratio=np.repeat(np.arange(1, grid.rows + 1, dtype=np.float32)[:, None], grid.frames, axis=1),
        decay_db_per_s=np.zeros(grid.rows, np.float32),
        loop_start=grid.frames // 2,
        loop_end=grid.frames - 1,
    )
    f0_hz = nominal_hz(48)
    fill(desk.state, 0, note, f0_hz, grid)
    hand_over(desk.shelf, 0, 1)
    for v in range(VOICES):
        push(desk, 0, START, v, v + 1, f0_hz, 1 / VOICES, 0.0, 0.1, v)


@dataclass(frozen=True)
class Rendered:
    """Blocks of eight full voices: mean and largest time of the callback, and two histograms as in `Answers`."""

    mean_ms: float
    max_ms: float
    durations: Ints
    finished: Ints


def render_full(block_frames: int, seconds: float) -> Rendered:
    """Render eight voices of 80 partials on this process's paced output, by the compiled callback."""
    from device.engine import N, make, memory_size

    memory = SharedMemory(create=True, size=memory_size(VOICES))
    try:
        desk = make(memory.buf, VOICES)
        _fill(desk)
        finished = _paced(memory, COMPILED, seconds, block_frames)
        mean_ns = int(desk.counts[N["callback_ns"]]) / max(int(desk.counts[N["blocks"]]), 1)
        rendered = Rendered(
            mean_ns * 1e-6, int(desk.counts[N["callback_max_ns"]]) * 1e-6, desk.durations.copy(), finished
        )
        del desk
    finally:
        with contextlib.suppress(BufferError):
            memory.close()
        memory.unlink()
    return rendered


def _paced(memory: SharedMemory, kind: str, seconds: float, block_frames: int = BLOCK_FRAMES) -> Ints:
    """Render on this process's paced output for so long."""
    from device.audio import NullOutput
    from device.engine import address, advance, callback, lay_out

    if kind == PYTHON:
        desk = lay_out(memory.buf, VOICES)

        def call_back(_input: int, output: int, frames: int, _time: int, _flags: int, _memory: int) -> int:
            block = (ctypes.c_float * (2 * frames)).from_address(output)
            advance(desk, np.ctypeslib.as_array(block).reshape(frames, 2), time.monotonic_ns())
            return 0

        first = np.zeros(2 * block_frames, np.float32)
        call_back(0, first.ctypes.data, block_frames, 0, 0, 0)  # compiled before it is timed
        pointer, whole = ctypes.c_void_p, ctypes.c_ulong
        made: Any = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, whole, pointer, whole, pointer)(
            call_back
        )
        place = ctypes.cast(made, pointer).value or 0
    else:
        made = callback()
        place = made.address
    output = NullOutput(RATE_HZ, block_frames, place, address(memory.buf))
    output.start()
    time.sleep(WARMS_UP_S)
    before = output.finished.copy()
    time.sleep(seconds)
    after = output.finished.copy()
    output.stop()
    return after - before


def _paced_apart(memory: SharedMemory, seconds: float) -> Ints:
    """The same in a process of its own."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_paced, args=(memory.name, seconds, theirs), daemon=True)
    process.start()
    try:
        finished: Ints = ours.recv()
    finally:
        process.join(2.0)
    return finished


def run_paced(memory_name: str, seconds: float, answer: Connection) -> None:
    """Body of the process of its own."""
    from device.process import surroundings

    with surroundings(memory_name) as memory:
        answer.send(_paced(memory, COMPILED, seconds))


def _may_be_prompt() -> bool:
    """Whether real-time scheduling is allowed; tried on a thread that ends with that."""
    from device.process import AUDIO_PRIORITY, be_prompt

    allowed = []
    thread = threading.Thread(target=lambda: allowed.append(be_prompt(AUDIO_PRIORITY)))
    thread.start()
    thread.join()
    return allowed[0]


# The page

INTRODUCTION = """# In real time

Made by `darkrack realtime {bundle} --out docs/realtime.md` on {date}:
{machine}, {scheduling}, load {load_before} before it began.
Bundle {name}, {voices} voices, 48 kHz. Run it on your machine.

What is measured is all of `darkrack play --profile sim` on its paced output. A script moves pots, pitch and gate of
simulated chips, so the time of each edge stands before it enters the program; the answer is found in the captured
samples. A device's own buffer (for ALSA two or three blocks) and its converter come on top.

## Gate to first sample

A gate sounds at the time of its edge plus a constant, whatever the block's borders: a block, a pass of the scan, and
a millisecond. The pitch changes in the same millisecond, 0.3 ms after the gate. Times in ms.
"""
KNOB = """
## Knob to changed spectrum

A pot leaps from end to end under a held note; the time is that at which the spectrum (windows of 21 ms) is half-way
from what it was to what it becomes. Half of a crossfade of 20 ms is in it, and up to 10 ms until the pot is looked at.
Counted are leaps whose change is clearly larger than what the note does by itself.
"""
CALLBACK = """
## Callback, eight voices held while a pot is swept

Upper ends of bins of 1/128 block, in ms. Not in time: blocks that were ready when the next one was due, or later.
Crossfades: to new frames, a second, of one held voice alone and of each of eight.
"""
PI4 = """
A Raspberry Pi 4, worked out from MACs, not measured: a note takes {macs:.1f} million, and one of its cores does
{least_macs:.1f} to {most_macs:.1f} thousand million a second (XNNPACK's README of 2020: MobileNet v1 in 75 ms on four
cores, float32; twice that at best with int8). That is {least:.0f} to {most:.0f} notes a second: one held voice
crossfades {one_most:.0f} times a second (more is not asked), each of eight {each_least:.0f} to {each_most:.0f} times.
"""
WHO = """
## Who renders the block

Eight voices of 80 partials, blocks of 128 frames (2.667 ms): how long after it was due a block is ready, in ms.
"""


def page(figures: dict[str, Any], cells: list[Cell], lateness: list[Lateness], path: Path) -> str:
    """The figures in Markdown."""
    least, most = (rate / figures["macs"] for rate in PI4_MACS_PER_S)
    scheduling = "real-time scheduling" if figures["real_time_scheduling"] else "without real-time scheduling"
    gates, knobs, callbacks = [], [], []
    for cell in cells:
        which = [str(cell.block_frames), cell.load]
        gate, knob, took = cell.gate_ms, cell.knob_ms, cell.callback_ms
        samples = [f"{ms * RATE_HZ / 1e3:.0f}" for ms in (gate.p50_ms, gate.p99_ms, gate.max_ms)]
        over = f"{gate.p99_ms - cell.delay_ms:+.3f}"
        edges = f"{gate.n} ({cell.missed})"
        gates.append([*which, f"{cell.delay_ms:.3f}", *_times(gate), over, " ".join(samples), edges])
        knobs.append([*which, *_times(knob), str(knob.n)])
        share = f"{100 * took.p99_ms * RATE_HZ / 1e3 / cell.block_frames:.0f} %"
        late = [f"{cell.not_in_time} of {cell.blocks}", str(cell.late_frames), str(cell.late_events)]
        callbacks.append([*which, *_times(took), share, *late, "{:.0f}, {:.0f} Hz".format(*cell.morphs_hz)])
    ready = [
        [one.callback, one.load, *_times(one.ready_ms), f"{one.not_in_time} of {one.ready_ms.n}"]
        for one in lateness
    ]
    times = ["p50", "p99", "max"]
    late_heads = ["p99 of a block", "not in time", "frames late", "events late", "crossfades"]
    return "".join(
        [
            INTRODUCTION.format(
                bundle=path, name=figures["bundle"], voices=VOICES, scheduling=scheduling, **_said(figures)
            ),
            _table(
                ["block", "beside", "constant", *times, "p99 over it", "in samples", "edges (missed)"], gates
            ),
            KNOB,
            _table(["block", "beside", *times, "leaps"], knobs),
            CALLBACK,
            _table(["block", "beside", *times, *late_heads], callbacks),
            PI4.format(
                macs=figures["macs"] / 1e6,
                least_macs=PI4_MACS_PER_S[0] / 1e9,
                most_macs=PI4_MACS_PER_S[1] / 1e9,
                least=least,
                most=most,
                one_most=min(most, 50),
                each_least=min(least / VOICES, 50),
                each_most=min(most / VOICES, 50),
            ),
            WHO,
            _table(["callback", "beside", *times, "not in time"], ready),
        ]
    )


def _said(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in ("date", "machine", "load_before")}


def _times(of: Quantiles) -> list[str]:
    return [f"{ms:.3f}" for ms in (of.p50_ms, of.p99_ms, of.max_ms)] if of.n else ["-", "-", "-"]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
