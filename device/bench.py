"""`darkrack bench`: what this machine takes for a note, a block, an answer, a start; and two machines side by side.

All that is measured is measured in rounds, every kind of it in every round, so that what else happens on the machine
falls on all of it; `device.comparison` says what follows from that.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from device import bundle as bundles
from device import comparison, inference, realtime
from device.bundle import Bundle
from device.comparison import FORMAT, KIND, measured, rounded
from device.errors import DarkrackError
from device.files import atomic_path, write_json
from device.generator import snr_db
from device.inference import Budget, Round, Subject
from device.machine import Watch, clock_mhz, meter, processor, temperature_c, versions
from device.partials import NoteFrames, Partials, nominal_hz

if TYPE_CHECKING:
    from device.voices import VoiceBank

SAMPLE_RATE_HZ = 48_000
BLOCKS_FRAMES = (32, 64, 128, 256)
VOICE_BLOCK_FRAMES = 256  # of the voices' kernel alone: 5.3 ms
VOICES = 8
LOWEST_KEY = 36  # the lowest note of the trained range has the most partials
SOFT_EDGE = 0.85  # the voices fade what lies above this share of the limit
# Of the module's converter, PCM5102A with FLT low: 20 / fs (TI, data sheets of the PCM51xx family, normal filter).
CONVERTER_MS = 20 / SAMPLE_RATE_HZ * 1e3
FIT_SHARE = 0.7  # of a core that voices may take; what is left is for what a block takes more than on average
DRAWN_BINS = 4  # of the histogram's 1 % in one that is drawn
STRETCH_S = 5.0  # of the sustained run, between two looks at the sensors

INFERENCE, VOICE, CALLBACK, PROGRAM, START, SUSTAINED = (
    "inference",
    "voices",
    "callback",
    "program",
    "start",
    "sustained",
)
PARTS = (INFERENCE, VOICE, CALLBACK, PROGRAM, START, SUSTAINED)


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds of everything, and how long its parts are.

    What would end after ``limit_s``, by how long it took the last time, is left out of further rounds: what takes up to
    a tenth of that once there are LEAST_ROUNDS of it, anything longer as soon as there is one.
    """

    rounds: int
    limit_s: float
    notes: Budget
    voices_s: float  # of sound
    callback_s: float
    program_blocks: tuple[int, ...]
    program: realtime.Lengths
    sustained_s: float


QUICK = Effort(
    6, 75.0, Budget(200, 1.0), 0.5, 0.3, (128,), realtime.Lengths(1.2, 1.8, 0, 0, midi=1.2), sustained_s=6.0
)
FULL = Effort(
    12,
    math.inf,
    Budget(1000, 10.0),
    2.0,
    2.0,
    BLOCKS_FRAMES,
    realtime.Lengths(6.0, 6.0, 0, 0, midi=6.0),
    sustained_s=600.0,
)
LEAST_ROUNDS = comparison.FEWEST  # of a machine that is too busy for more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack bench`."""
    parser.add_argument("bundle", nargs="*", type=Path, metavar="BUNDLE", help="bundles to measure, *.rack")
    parser.add_argument(
        "--threads",
        type=_count,
        nargs="+",
        default=[1],
        metavar="N",
        help="threads of the network (default 1)",
    )
    parser.add_argument("--variant", nargs="+", metavar="NAME", help="only these variants (default: all)")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
        help=f"only these: {', '.join(PARTS)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="two minutes in place of an hour")
    parser.add_argument(
        "--sustained",
        type=float,
        metavar="S",
        help="seconds of the sustained run (default 600; 6 with --quick)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the times to FILE")
    parser.add_argument(
        "--row", metavar="BOARD", help="print the line of docs/boards.md for the board of this name as well"
    )
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A.json", "B.json"), help="put two runs side by side"
    )
    parser.add_argument(
        "--loopback", action="store_true", help="measure the path from output to input, through a cable"
    )
    parser.add_argument(
        "--audio",
        metavar="DEVICE",
        help="device of --loopback, or part of its name (default: the system's); beside bundles: say what it buffers",
    )
    parser.add_argument(
        "--block", type=int, choices=BLOCKS_FRAMES, default=128, metavar="FRAMES",
        help="frames in a block of --loopback (default 128)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Measure, or compare; print tables; DarkrackError for what is wrong with files, options or the machine."""
    _check_options(args)
    if args.compare:
        a, b = (comparison.read(path) for path in args.compare)
        print(comparison.compared(a, b, (str(args.compare[0]), str(args.compare[1]))))
        return
    if args.loopback:
        from device import loopback

        found = loopback.measure(args.audio, args.block)
        print(loopback.table(found))
        if args.json:
            write_json(args.json, loopback.document(found))
        return
    for path in (args.json, args.png):  # what cannot be written is said before an hour of measuring
        if path is not None and path.is_dir():
            raise DarkrackError(str(path), "the name of a file", "a folder")
    document = measure_all(
        [bundles.read(path) for path in args.bundle],
        args.threads,
        args.variant,
        args.parts,
        QUICK if args.quick else FULL,
        quick=args.quick,
        sustained_s=args.sustained,
        device=args.audio,
    )
    print(table(document))
    if args.row:
        print(f"\n{row(document, args.row)}")
    if args.json is not None:
        write_json(args.json, document)
    if args.png is not None:
        draw(args.png, document)
        print(args.png)


def _check_options(args: argparse.Namespace) -> None:
    """What argparse lets through, before anything is read."""
    asked = [bool(args.bundle), args.compare is not None, args.loopback]
    if sum(asked) != 1:
        expected = "bundles, --compare or --loopback, one of the three"
        got = "none" if not any(asked) else "more than one"
        raise DarkrackError("darkrack bench", expected, got, "darkrack bench models/flagship.rack --quick")
    if args.sustained is not None and not 1 <= args.sustained <= 24 * 3600:
        raise DarkrackError("--sustained", "1 to 86400 seconds", f"{args.sustained:g}")
    if not args.bundle and (args.png or args.row or (args.compare and args.json)):
        raise DarkrackError("--png, --row, --json", "bundles to measure", "none of them", "leave it out")
    if args.png is not None and INFERENCE not in args.parts:
        raise DarkrackError(
            "--png", "times of inference to draw", "--parts without it", "add inference to --parts"
        )
    if args.png is not None and args.png.suffix.lower() != ".png":
        raise DarkrackError(f"--png {args.png}", "a name that ends in .png", args.png.suffix or "no ending")


# ---- Measuring ----


@dataclass
class _Program:
    """What was heard of the whole program at one block size, round by round."""

    block_frames: int
    rounds: list[realtime.Answers] = field(default_factory=list)


def measure_all(
    read: Sequence[Bundle],
    threads: Sequence[int],
    variants: Sequence[str] | None,
    parts: Sequence[str],
    effort: Effort,
    *,
    quick: bool,
    sustained_s: float | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Measure ``parts`` and return the document that --json writes; all but the inference is of the first bundle."""
    from tqdm import tqdm

    output = None if device is None else _output(device)
    providers, absent = inference.runtimes()
    subjects = inference.subjects(read, threads, variants, providers)
    without = [bundle.path.name for bundle in read if not inference.has_onnx(bundle)]
    absent += [f"no ONNX file in {name}" for name in without if providers]
    first = read[0]
    variant = subjects[0].variant if variants and subjects[0].runtime == inference.LITERT else None
    grid = first.manifest.representation
    lengths = effort.program if isinstance(grid, Partials) else dataclasses.replace(effort.program, knob=0)
    loads = voice_loads(grid) if isinstance(grid, Partials) else []  # a sample costs next to nothing

    watch = Watch()
    inferred: dict[Subject, list[Round]] = {subject: [] for subject in subjects}
    speeds: dict[tuple[int, int], list[float]] = {load: [] for load in loads}
    rendered: dict[int, list[realtime.Rendered]] = {frames: [] for frames in BLOCKS_FRAMES}
    programs = [_Program(frames) for frames in effort.program_blocks]
    starts_s: list[float] = []

    def infer(subject: Subject, number: int) -> None:
        if subject not in inferred:  # it turned out that it cannot be used
            return
        found = inference.measure(subject, effort.notes, frames=number == 0)
        if isinstance(found, str):
            absent.append(found)
            del inferred[subject]
        else:
            inferred[subject].append(found)

    def sing(load: tuple[int, int]) -> None:
        assert isinstance(grid, Partials)
        speeds[load].append(voices_speed(grid, *load, effort.voices_s))

    def render(frames: int) -> None:
        rendered[frames].append(realtime.render_full(frames, effort.callback_s))

    def play(one: _Program) -> None:
        one.rounds.append(realtime.answers(first, one.block_frames, realtime.IDLE, lengths, variant))

    def start() -> None:
        starts_s.append(realtime.start_s(first, realtime.BLOCK_FRAMES, variant))

    def tasks(number: int) -> list[tuple[str, Callable[[], None]]]:
        """One round of everything; every other one backwards, so that nothing always follows the same."""
        todo: list[tuple[str, Callable[[], None]]] = []
        if INFERENCE in parts:
            todo += [(str(one), functools.partial(infer, one, number)) for one in subjects]
        if VOICE in parts:
            todo += [(f"voices {load}", functools.partial(sing, load)) for load in loads]
        if CALLBACK in parts:
            todo += [(f"block {frames}", functools.partial(render, frames)) for frames in BLOCKS_FRAMES]
        if PROGRAM in parts:
            todo += [(f"program {one.block_frames}", functools.partial(play, one)) for one in programs]
        if START in parts:
            todo.append((START, start))
        return todo if number % 2 == 0 else todo[::-1]

    whole_s = effort.sustained_s if sustained_s is None else sustained_s
    if CALLBACK in parts or PROGRAM in parts:
        realtime.render_full(realtime.BLOCK_FRAMES, 0.01)  # compiled before anything is timed
    if START in parts and PROGRAM not in parts:
        start()  # compiles, the first time on a machine
        starts_s.clear()
    began_s, rounds = time.monotonic(), 0
    with tqdm(total=effort.rounds * len(tasks(0)), desc="rounds", disable=None) as progress:
        took_s: dict[str, float] = {}
        for number in range(effort.rounds):
            watch.beat()
            done = 0
            for name, task in tasks(number):
                last_s, before_s = took_s.get(name, 0.0), time.monotonic()
                enough = number >= (LEAST_ROUNDS if last_s <= effort.limit_s / 10 else 1)
                progress.update()
                if enough and before_s - began_s + last_s > effort.limit_s:
                    continue
                task()
                took_s[name] = time.monotonic() - before_s
                done += 1
            if not done:
                break
            rounds += 1
    stretches = []
    if SUSTAINED in parts:
        with tqdm(total=round(whole_s), desc="sustained", unit=" s", disable=None) as progress:
            every_s = min(STRETCH_S, whole_s / 4)
            for stretch in realtime.sustain(first, realtime.BLOCK_FRAMES, whole_s, every_s, variant):
                stretches.append(stretch)
                progress.update(round(stretch.end_s) - progress.n)
    quiet = watch.end()
    by_path = {bundle.path: bundle for bundle in read}
    step_ms = watch.timer.resolution_ns * 1e-6
    return {
        "kind": KIND,
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "quick": quick,
        "rounds": rounds,
        "rounds_wanted": effort.rounds,
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "versions": versions(),
            "energy_sensor": sensor.name if (sensor := meter()) else None,
            "temperature_sensor": temperature_c() is not None,
            "clock_sensor": clock_mhz() is not None,
        },
        "timer": dataclasses.asdict(watch.timer),
        "quiet": {
            **dataclasses.asdict(quiet),
            "noise": list(quiet.noise),
            "figures": {
                comparison.LOOPS["speed"]: measured(watch.speed_ms, "ms", step_ms),
                comparison.LOOPS["share"]: measured(watch.share_ms, "ms", step_ms),
            },
        },
        "not_present": list(dict.fromkeys(absent)),
        "inference": [
            _inference_row(by_path[subject.path], subject, rounds, inferred, step_ms)
            for subject, rounds in inferred.items()
            if rounds
        ],
        "voices": [_voices_row(load, rounds) for load, rounds in speeds.items() if rounds],
        "callback": [_callback_row(frames, rounds) for frames, rounds in rendered.items() if rounds],
        "program": [
            *([_start_row(starts_s)] if starts_s else []),
            *(one for program in programs if program.rounds for one in _program_rows(program)),
        ],
        "output": output,
        "sustained": _sustained(stretches) if stretches else None,
    }


def _output(device: str) -> dict[str, Any]:
    """What a real device adds to an answer, as PortAudio states it; DarkrackError where it is not there."""
    from device import loopback

    name, stated_ms = loopback.stated(device, realtime.BLOCK_FRAMES)
    return {"device": name, "block_frames": realtime.BLOCK_FRAMES, "stated_ms": rounded(stated_ms)}


def _inference_row(
    bundle: Bundle,
    subject: Subject,
    rounds: Sequence[Round],
    all_of: Mapping[Subject, list[Round]],
    step_ms: float,
) -> dict[str, Any]:
    manifest = bundle.manifest
    every_ms = [ms for one in rounds for ms in one.notes_ms]

    def quantile(share: float) -> list[float]:
        return [float(np.quantile(one.notes_ms, share)) for one in rounds]

    p50, p90, p99, p999, most = (
        rounded(float(np.quantile(every_ms, share))) for share in (0.5, 0.9, 0.99, 0.999, 1.0)
    )
    figures = {
        "to the first note": measured(
            [one.import_ms + one.load_ms + one.first_ms for one in rounds], "ms", step_ms, moved_by="share"
        ),
        "load": measured([one.load_ms for one in rounds], "ms", step_ms, moved_by="share"),
        "first note": measured([one.first_ms for one in rounds], "ms", step_ms, moved_by="share"),
        # What it takes where nobody interferes; on a busy machine the figure that tells most.
        "p10": measured(quantile(0.1), "ms", step_ms, moved_by="speed"),
        "p50": measured(quantile(0.5), "ms", step_ms, moved_by="speed"),
        "p90": measured(quantile(0.9), "ms", step_ms, moved_by="share"),
        "p99": measured(quantile(0.99), "ms", step_ms, moved_by="share"),
        "held note": measured([one.again_ms for one in rounds], "ms", step_ms, moved_by="speed"),
    }
    slices_ms = [one.slice_ms for one in rounds if one.slice_ms is not None]
    if slices_ms:
        figures["slice"] = measured(slices_ms, "ms", step_ms, moved_by="speed")
    morphs_ms = [one.morph_ms for one in rounds if one.morph_ms is not None]
    if morphs_ms:
        figures["morph"] = measured(morphs_ms, "ms", step_ms, moved_by="speed")
    peaks = [one.peak_bytes / 1e6 for one in rounds if one.peak_bytes is not None]
    if peaks:
        figures["peak memory"] = measured(peaks, "MB", 4096e-6)
    energies = [1e3 * one.energy_j for one in rounds if one.energy_j is not None]
    if energies:
        figures["energy a note"] = measured(energies, "mJ")
    quality_db, quality_from = _quality(bundle, subject, rounds, all_of)
    p50_ms = figures["p50"]["value"]
    bases = [one.base_bytes for one in rounds if one.base_bytes is not None]
    return {
        "bundle": subject.path.name,
        "variant": subject.variant,
        "runtime": subject.runtime,
        "threads": subject.threads,
        "size_bytes": subject.size_bytes,
        "macs": manifest.macs,
        "macs_per_s": rounded(manifest.macs / (p50_ms * 1e-3)),
        "slice_frames": manifest.slice.frames if manifest.slice else None,
        "slice_macs": manifest.slice.macs if manifest.slice else None,
        "notes": len(every_ms),
        # Of fewer than a thousand, 99.9 % are all but the largest, which stands beside it.
        "all_ms": {"p50": p50, "p90": p90, "p99": p99, "p99_9": p999 if len(every_ms) >= 1000 else None, "max": most},
        "base_memory_bytes": round(statistics.median(bases)) if bases else None,
        "quality_db": None if quality_db is None else round(quality_db, 2),
        "quality_from": quality_from,
        "figures": figures,
        "histogram": inference.histogram(every_ms),
    }  # fmt: skip


def _quality(
    bundle: Bundle, subject: Subject, rounds: Sequence[Round], all_of: Mapping[Subject, list[Round]]
) -> tuple[float | None, str]:
    """Signal to noise against float32, and where that is from."""
    for other, theirs in all_of.items():
        same = other.path == subject.path and other.runtime == inference.LITERT
        if same and other.variant == inference.REFERENCE and theirs:
            if other is subject:
                return None, "the reference"
            wanted, got = theirs[0].frames, rounds[0].frames
            if wanted is not None and got is not None:
                return snr_db(wanted, got), f"computed here, {len(got)} notes"
    found = inference.exported_quality_db(bundle, subject)
    return found, "the bundle's own, at its export" if found is not None else "unknown"


def _voices_row(load: tuple[int, int], rounds: Sequence[float]) -> dict[str, Any]:
    key_midi, rows = load
    times = measured(rounds, "x", better="higher", moved_by="share")
    return {
        "what": f"{VOICES} voices of {rows} rows, MIDI {key_midi}",
        "voices": VOICES,
        "rows": rows,
        "key_midi": key_midi,
        "fit": int(VOICES * times["value"] * FIT_SHARE),
        "figures": {"times real time": times},
    }


def _callback_row(block_frames: int, rounds: Sequence[realtime.Rendered]) -> dict[str, Any]:
    from device.engine import BINS_PER_BLOCK

    block_ms = block_frames / SAMPLE_RATE_HZ * 1e3
    bin_ms = block_ms / BINS_PER_BLOCK
    durations = sum((one.durations for one in rounds), np.zeros_like(rounds[0].durations))
    finished = sum((one.finished for one in rounds), np.zeros_like(rounds[0].finished))

    def quantile_ms(bins: realtime.Ints, share: float) -> float:  # the upper end of its bin
        return (int(np.searchsorted(np.cumsum(bins) / max(int(bins.sum()), 1), share)) + 1) * bin_ms

    p99_ms = quantile_ms(durations, 0.99)
    return {
        "what": f"callback of {block_frames} frames",
        "block_frames": block_frames,
        "block_ms": rounded(block_ms),
        "blocks": int(finished.sum()),
        "not_in_time": int(finished[BINS_PER_BLOCK:].sum()),
        "margin": round(1 - p99_ms / block_ms, 4),
        "p99_ms": rounded(p99_ms),
        "max_ms": rounded(max(one.max_ms for one in rounds)),
        "figures": {
            "mean": measured([one.mean_ms for one in rounds], "ms", moved_by="speed"),
            "p99": measured(
                [quantile_ms(one.durations, 0.99) for one in rounds], "ms", 2 * bin_ms, moved_by="share"
            ),
        },
    }


def _start_row(starts_s: Sequence[float]) -> dict[str, Any]:
    return {
        "what": "program start to first sound",
        "block_frames": realtime.BLOCK_FRAMES,
        "answers": len(starts_s),
        "missed": 0,
        "constant_ms": None,
        "all_ms": _spread([1e3 * one for one in starts_s]),
        # The kernel counts a process's age in hundredths of a second, and the sound comes in blocks.
        "figures": {"p50": measured([1e3 * one for one in starts_s], "ms", 20.0, moved_by="share")},
    }


def _program_rows(program: _Program) -> Iterator[dict[str, Any]]:
    """Gate, MIDI and knob at one block size."""
    kinds: list[tuple[str, Callable[[realtime.Answers], tuple[float | None, ...]], float | None, float]] = [
        ("gate to first sample", lambda one: one.gates_ms, program.rounds[0].delay_ms, 1e3 / SAMPLE_RATE_HZ),
        (
            "MIDI note to first sample",
            lambda one: one.midi_ms,
            program.rounds[0].delay_ms,
            1e3 / SAMPLE_RATE_HZ,
        ),
        (
            "knob to changed spectrum",
            lambda one: one.knobs_ms,
            None,
            1e3 * realtime.HOP_SAMPLES / SAMPLE_RATE_HZ,
        ),
    ]
    for what, of, constant_ms, step_ms in kinds:
        rounds = [[ms for ms in of(one) if ms is not None] for one in program.rounds]
        asked = sum(len(of(one)) for one in program.rounds)
        heard = [ms for one in rounds for ms in one]
        some = [one for one in rounds if one]
        if not asked or not some:
            continue
        figures = {"p50": measured([statistics.median(one) for one in some], "ms", step_ms)}
        if constant_ms is not None:  # a knob's is that of the scan and of the network's turn
            figures["jitter"] = measured([max(one) - min(one) for one in some], "ms", 2 * step_ms)
        yield {
            "what": f"{what}, block of {program.block_frames}",
            "block_frames": program.block_frames,
            "answers": len(heard),
            "missed": asked - len(heard),
            "constant_ms": None if constant_ms is None else rounded(constant_ms),
            "all_ms": _spread(heard),
            "figures": figures,
        }


def _spread(heard_ms: Sequence[float]) -> dict[str, float]:
    p50, p99, most = (rounded(float(np.quantile(heard_ms, share))) for share in (0.5, 0.99, 1.0))
    return {"p50": p50, "p99": p99, "max": most}


def _sustained(stretches: Sequence[realtime.Stretch]) -> dict[str, Any]:
    """All stretches, and the last third of them against the first."""
    third = max(len(stretches) // 3, 1)

    def drift(of: Callable[[realtime.Stretch], float | None]) -> float | None:
        first = [value for one in stretches[:third] if (value := of(one)) is not None]
        last = [value for one in stretches[-third:] if (value := of(one)) is not None]
        return round(statistics.median(last) / statistics.median(first), 4) if first and last else None

    warm = [one.temperature_c for one in stretches if one.temperature_c is not None]
    clocks = [one.clock_mhz for one in stretches if one.clock_mhz is not None]
    return {
        "seconds": stretches[-1].end_s,
        "block_frames": realtime.BLOCK_FRAMES,
        "blocks": sum(one.blocks for one in stretches),
        "not_in_time": sum(one.not_in_time for one in stretches),
        "morphs_hz": rounded(statistics.median(one.morphs_hz for one in stretches)),
        "callback_drift": drift(lambda one: one.callback_ms),
        "generation_drift": drift(lambda one: one.generation_ms),
        "hottest_c": max(warm) if warm else None,
        "slowest_mhz": min(clocks) if clocks else None,
        "stretches": [dataclasses.asdict(one) for one in stretches],
    }


# ---- The voices' kernel ----


def voice_loads(grid: Partials) -> list[tuple[int, int]]:
    """Key and rows: the bundle's rows where all of them are heard, and the most that any key has."""
    return [(highest_full_key(grid), grid.rows), (LOWEST_KEY, rows_at(grid, LOWEST_KEY))]


def voices_speed(grid: Partials, key_midi: int, rows: int, seconds: float) -> float:
    """Seconds of sound a second of one core makes: VOICES held notes on ``key_midi`` whose ``rows`` all sound."""
    bank = full_bank(grid, key_midi, rows)
    block = np.zeros((VOICE_BLOCK_FRAMES, 2), np.float32)
    blocks = math.ceil(seconds * SAMPLE_RATE_HZ / VOICE_BLOCK_FRAMES)
    bank.render(block)
    before = time.perf_counter()
    for _ in range(blocks):
        bank.render(block)
    return blocks * VOICE_BLOCK_FRAMES / SAMPLE_RATE_HZ / (time.perf_counter() - before)


def full_bank(grid: Partials, key_midi: int, rows: int) -> VoiceBank:
    """VOICES held notes on ``key_midi``, ``rows`` partials of -40 dB each."""
    from device.voices import VoiceBank

    bank = VoiceBank(VOICES, rows, grid.frames, SAMPLE_RATE_HZ, grid.frame_rate_hz, grid.limit_hz)
    note = NoteFrames(
        level_db=np.full((rows, grid.frames), -40, np.float32),
        ratio=np.repeat(
            np.arange(1, rows + 1, dtype=np.float32)[:, None] / grid.rows_a_partial, grid.frames, axis=1
        ),
        decay_db_per_s=np.zeros(rows, np.float32),
        loop_start=grid.frames // 2,
        loop_end=grid.frames - 1,
    )
    for voice in range(VOICES):
        bank.start(voice, note, nominal_hz(key_midi), gain=1 / VOICES)
    return bank


def highest_full_key(grid: Partials) -> int:
    """The highest MIDI key whose top row still lies below the soft edge of the limit, at least 0."""
    return max(
        math.floor(69 + 12 * math.log2(SOFT_EDGE * grid.limit_hz * grid.rows_a_partial / grid.rows / 440)), 0
    )


def rows_at(grid: Partials, key_midi: int) -> int:
    """How many rows of a key lie below the limit: 16 kHz / 65.4 Hz = 244 at MIDI 36, were there so many."""
    return max(math.floor(grid.limit_hz * grid.rows_a_partial / nominal_hz(key_midi)), 1)


# ---- For people ----


def table(document: comparison.Document) -> str:
    """All figures; a figure's range stands behind it in brackets."""
    return "\n".join(_lines(document))


def _lines(document: comparison.Document) -> Iterator[str]:
    machine, quiet = document["machine"], document["quiet"]
    known = {name: version for name, version in sorted(machine["versions"].items()) if version}
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['architecture']}, {machine['system']}; "
        + ", ".join(f"{name} {version}" for name, version in known.items())
        + f"; {document['date']}"
    )
    clock = document["timer"]
    late = f"a wait ends {clock['wake_p50_us']:.0f} us late, 99 % within {clock['wake_p99_us']:.0f}"
    yield f"timer: steps of {clock['resolution_ns']} ns; {late}"
    if quiet["noise"]:
        yield f"A NOISY MACHINE: {'; '.join(quiet['noise'])}"
    else:
        yield "a quiet machine"
    wanted = document["rounds_wanted"]
    fewest = min([document["rounds"], *(len(one["figures"]["p50"]["rounds"]) for one in document["program"])])
    less = f" (of {wanted}: too busy for more; of the whole program {fewest})" if fewest < wanted else ""
    yield f"{document['rounds']} rounds{less}; in brackets what they range over"
    if document["inference"]:
        yield from _inference_lines(document["inference"])
    yield from document["not_present"]
    sensor = machine["energy_sensor"]
    if sensor is None and document["inference"]:
        yield "energy: no sensor that can be read (RAPL, hwmon)"
    yield from _program_lines(document["program"], document["output"])
    yield from _render_lines(document)
    if document["sustained"]:
        yield from _sustained_lines(document["sustained"])


def _inference_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    head = [
        "model", "variant", "runtime", "threads", "first (ms)", "p50", "p90", "p99", "p99.9", "max", "peak (MB)",
        "float32 (dB)", "GMAC/s", "MMAC", "kB",
    ]  # fmt: skip
    cells = []
    for one in rows:
        figures, whole = one["figures"], one["all_ms"]
        quality = "-" if one["quality_db"] is None else f"{one['quality_db']:.1f}"
        quality += {"the bundle's own, at its export": " *"}.get(one["quality_from"], "")
        cells.append([
            one["bundle"], one["variant"], one["runtime"], str(one["threads"]),
            _ranged(figures["to the first note"]), _ranged(figures["p50"]), f"{whole['p90']:.3g}",
            _ranged(figures["p99"]), "-" if whole["p99_9"] is None else f"{whole['p99_9']:.3g}", f"{whole['max']:.3g}",
            f"{figures['peak memory']['value']:.0f}" if "peak memory" in figures else "-",
            quality, f"{one['macs_per_s'] / 1e9:.1f}", f"{one['macs'] / 1e6:.1f}", f"{one['size_bytes'] / 1e3:.0f}",
        ])  # fmt: skip
    yield f"\na note's frames ({rows[0]['notes']} notes; first: from the runtime's import on, in a new process)"
    yield from _aligned(head, cells, left=3)
    if any(one["quality_from"].startswith("the bundle") for one in rows):
        yield "* the bundle's own figure, against torch in float32, from its export"
    yield "\nof a held note, its noise kept (ms)"
    head = ["model", "variant", "runtime", "all", "some frames", "of the MACs", "a morph", "morphs a second"]
    cells = []
    for one in rows:
        figures = one["figures"]
        share = f"{one['slice_macs'] / one['macs']:.2f}" if "slice" in figures else "-"
        morph = figures.get("morph")
        energy = figures.get("energy a note")
        cells.append([
            one["bundle"], one["variant"], one["runtime"], _ranged(figures["held note"]),
            f"{one['slice_frames']}: {_ranged(figures['slice'])}" if "slice" in figures else "no slices", share,
            _ranged(morph) if morph else "-", f"{1e3 / morph['value']:.0f}" if morph else "-",
        ])  # fmt: skip
        if energy:
            cells[-1].append(f"{energy['value']:.3g} mJ")
    yield from _aligned(head + ["energy"] * (len(cells[0]) - len(head)), cells, left=3)
    yield "a morph: network and decoding, up to what a voice plays; of one core, for all voices together"


def _program_lines(rows: Sequence[Mapping[str, Any]], output: Mapping[str, Any] | None) -> Iterator[str]:
    if not rows:
        return
    yield "\nthe whole program (`darkrack play --profile sim`, on its paced output; what a device buffers comes on top)"
    cells = []
    for one in rows:
        figure, whole = one["figures"]["p50"], one["all_ms"]
        jitter = one["figures"].get("jitter")
        constant = one["constant_ms"]
        cells.append([
            one["what"], f"{_ranged(figure)} {figure['unit']}",
            "-" if jitter is None else f"{_ranged(jitter)} ms",
            "-" if constant is None else f"{constant:.3f}", f"{whole['p99']:.5g}", f"{whole['max']:.5g}",
            f"{one['answers']} ({one['missed']})",
        ])  # fmt: skip
    yield from _aligned(
        ["", "p50", "jitter", "constant", "p99", "max (ms)", "answers (missed)"], cells, left=1
    )
    yield (
        "MIDI: three bytes written to a pair of the kernel's terminals, of which one is the program's DIN line; "
        "31250 baud take 0.96 ms more"
    )
    filtered = f"{CONVERTER_MS:.2f} ms (the filter of a PCM5102A)"
    if output is None:
        yield f"at the jack: what the device buffers (--audio DEVICE says it) and {filtered} later"
        return
    told = f"{output['stated_ms']:.2f} ms (what {output['device']} says that it buffers)"
    for one in rows:
        if one["what"].startswith("gate") and one["block_frames"] == output["block_frames"]:
            ms = one["figures"]["p50"]["value"]
            whole_ms = ms + output["stated_ms"] + CONVERTER_MS
            yield f"gate to jack: {ms:.2f} + {told} + {filtered} = {whole_ms:.2f} ms"


def _render_lines(document: comparison.Document) -> Iterator[str]:
    if document["callback"]:
        yield "\na block of eight full voices (ms)"
        cells = [
            [
                one["what"], _ranged(one["figures"]["mean"]), f"{one['p99_ms']:.3f}", f"{one['max_ms']:.3f}",
                f"{one['block_ms']:.3f}", f"{100 * one['margin']:.0f} %", f"{one['not_in_time']} of {one['blocks']}",
            ]
            for one in document["callback"]
        ]  # fmt: skip
        yield from _aligned(["", "mean", "p99", "max", "of", "margin at p99", "not in time"], cells, left=1)
    if document["voices"]:
        yield "\nvoices (their kernel alone, one core)"
        cells = [
            [one["what"], f"{_ranged(one['figures']['times real time'])} times real time", f"{one['fit']}"]
            for one in document["voices"]
        ]
        yield from _aligned(["", "speed", f"fit in {100 * FIT_SHARE:.0f} % of a core"], cells, left=1)


def _sustained_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"\nsustained: {found['seconds']:.0f} s, eight voices that morph, blocks of {found['block_frames']} frames"
    morphs = f"{found['morphs_hz']:.1f} morphs a second of each voice"
    yield f"not in time: {found['not_in_time']} of {found['blocks']} blocks; {morphs}"
    for name, drift in (("a block", found["callback_drift"]), ("a note's frames", found["generation_drift"])):
        if drift is not None:
            yield f"{name} took {drift:.2f} times as long in the last third as in the first"
    warm, slow = found["hottest_c"], found["slowest_mhz"]
    yield (f"hottest {warm:.1f} C, " if warm is not None else "no sensor of temperature, ") + (
        f"slowest clock {slow:.0f} MHz" if slow is not None else "none of the clock"
    )


def _ranged(figure: Mapping[str, Any]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    digits = max(2 - math.floor(math.log10(max(value, 1e-3))), 0)
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """Columns; the first ``left`` begin in one line, the others end in one."""
    whole = [list(head), *[list(one) + [""] * (len(head) - len(one)) for one in rows]]
    widths = [max(len(line[n]) for line in whole) for n in range(len(head))]
    for line in whole:
        yield "  ".join(
            text.ljust(width) if n < left else text.rjust(width)
            for n, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()


ROW_HEADS = (
    "board", "processor, cores", "bundle, variant", "a note's frames p50; p99, ms", "peak memory, MB",
    "start to first sound, ms", "gate to first sample, ms", "knob, ms", "margin of a block of 128", "voices",
    "morphs a second", "measured",
)  # fmt: skip


def row(document: comparison.Document, board: str) -> str:
    """The line of docs/boards.md; "not measured" for what this run left out."""
    absent = "not measured"

    def of_program(begin: str) -> str:
        for one in document["program"]:
            if one["what"].startswith(begin) and one["block_frames"] == realtime.BLOCK_FRAMES:
                return _ranged(one["figures"]["p50"])
        return absent

    notes = document["inference"][0] if document["inference"] else None
    margin = [one for one in document["callback"] if one["block_frames"] == realtime.BLOCK_FRAMES]
    figures = notes["figures"] if notes else {}
    machine = document["machine"]
    cells = [
        board,
        f"{machine['processor']}, {machine['cores']}",
        f"{notes['bundle']}, {notes['variant']}, {notes['runtime']}" if notes else absent,
        f"{_ranged(figures['p50'])}; {_ranged(figures['p99'])}" if notes else absent,
        f"{figures['peak memory']['value']:.0f}" if "peak memory" in figures else absent,
        of_program("program start"),
        of_program("gate"),
        of_program("knob"),
        f"{100 * margin[0]['margin']:.0f} %" if margin else absent,
        str(document["voices"][0]["fit"]) if document["voices"] else absent,
        f"{1e3 / figures['morph']['value']:.0f}" if "morph" in figures else absent,
        f"{document['date']}, {'noisy' if document['quiet']['noise'] else 'quiet'}"
        + (", `--quick`" if document["quick"] else ""),
    ]
    return f"| {' | '.join(cells)} |"


# ---- The picture ----


def draw(path: Path, document: comparison.Document) -> None:
    """Draw how long notes took, as histogram and cumulative distribution; PNG, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    rows = document["inference"]
    colours = ("#1f77b4", "#d1495b", "#2e933c", "#8a5fbf", "#e08e1b", "#3aa6b9", "#7a7a7a", "#a0522d")
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    shape, along = figure.subplots(1, 2, sharex=True)
    for n, one in enumerate(rows):
        counts = np.asarray(one["histogram"]["counts"], float)
        ratio, first_ms = one["histogram"]["ratio"], one["histogram"]["first_ms"]
        edges = first_ms * ratio ** np.arange(len(counts) + 1)
        wide = np.add.reduceat(counts, np.arange(0, len(counts), DRAWN_BINS)) / counts.sum()
        wide_edges = first_ms * ratio ** (DRAWN_BINS * np.arange(len(wide) + 1))
        threads = f", {one['threads']} threads" if one["threads"] > 1 else ""
        name = f"{one['bundle']}, {one['variant']}, {one['runtime']}{threads}"
        style = {"color": colours[n % len(colours)], "linestyle": ("-", "--", ":")[n // len(colours) % 3]}
        shape.stairs(100 * wide, wide_edges, fill=True, alpha=0.12, color=style["color"])
        shape.stairs(100 * wide, wide_edges, linewidth=1.4, label=name, **style)
        reached = np.concatenate([[0.0], np.cumsum(counts / counts.sum())])
        # Every bin's share is reached at its end; the very last is beyond any end of this axis.
        along.plot(edges, np.clip(reached, 1e-9, 1 - 1e-9), linewidth=1.6, drawstyle="steps-post", **style)
    shape.set_xscale("log")
    shape.set_xlabel("a note's frames (ms)")
    shape.set_ylabel(f"share of the notes, bins of {DRAWN_BINS} % (%)")
    shape.set_title("histogram", loc="left")
    shape.set_ylim(bottom=0)
    along.set_yscale("logit")
    ticks = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
    along.set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    along.yaxis.minorticks_off()
    along.set_ylim(0.005, 0.9995)
    along.set_xlabel("a note's frames (ms)")
    along.set_title("cumulative distribution", loc="left")
    along.set_ylabel("share of the notes that took no longer")
    for axis in (shape, along):
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=1 + (len(rows) > 1), frameon=False, fontsize=9)
    machine = document["machine"]
    noisy = ", a noisy machine" if document["quiet"]["noise"] else ""
    figure.suptitle(
        f"{machine['processor']}, {machine['cores']} cores, {document['date']}{noisy}: "
        f"{rows[0]['notes']} notes of each in {document['rounds']} rounds",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)
