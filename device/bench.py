"""`darkrack bench`: how long this machine takes for a note's frames, and how far ahead its voices are."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import math
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from device import bundle as bundles
from device.bundle import Bundle
from device.files import write_json
from device.generator import Generator
from device.partials import NoteFrames, Partials, nominal_hz

if TYPE_CHECKING:
    from device.voices import VoiceBank

SAMPLE_RATE_HZ = 48_000
BLOCK_SAMPLES = 256  # as an instrument asks for them: 5.3 ms
VOICES = 8
LOWEST_KEY = 36  # the lowest note of the trained range has the most partials
SOFT_EDGE = 0.85  # the voices fade what lies above this share of the limit


@dataclass(frozen=True)
class Inference:
    """One variant of one bundle. ``load_ms`` builds the interpreter; the first note comes after it.

    ``again_p50_ms``: the same note once more, as a held one is made when a knob turns: its noise is there already.
    ``slice_p50_ms``: ``slice_frames`` frames of it, timed in turn with that; None where a bundle has no slices.
    """

    bundle: str
    variant: str
    size_bytes: int
    macs: int
    load_ms: float
    first_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    again_p50_ms: float
    slice_frames: int | None
    slice_macs: int | None
    slice_p50_ms: float | None


@dataclass(frozen=True)
class VoiceSpeed:
    """``times_real_time``: seconds of sound per second of one core, median of the repetitions."""

    voices: int
    rows: int
    key_midi: int
    times_real_time: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack bench`."""
    parser.add_argument("bundle", nargs="+", type=Path, metavar="BUNDLE", help="bundles to measure, *.rack")
    parser.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="threads of the network (default 1)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions; for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")


def run(args: argparse.Namespace) -> None:
    """Measure every variant of the bundles, and the voices on the bundles' grids; print one table."""
    notes, repetitions = (50, 3) if args.quick else (500, 9)
    read = [bundles.read(path) for path in args.bundle]
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "litert": importlib.metadata.version("ai-edge-litert"),
        "threads": args.threads,
        "date": datetime.date.today().isoformat(),
    }
    inferences = [
        measure_inference(bundle, variant, args.threads, notes)
        for bundle in read
        for variant in bundle.manifest.variants
    ]
    representations = dict.fromkeys(bundle.manifest.representation for bundle in read)
    grids = [grid for grid in representations if isinstance(grid, Partials)]  # a sample costs next to nothing
    speeds = [
        measure_voices(grid, key_midi, rows, repetitions)
        for grid in grids
        for key_midi, rows in ((highest_full_key(grid), grid.rows), (LOWEST_KEY, rows_at(grid, LOWEST_KEY)))
    ]

    print("{processor}, {cores} cores, Python {python}, LiteRT {litert}, {date}\n".format(**machine))
    print(f"a note's frames ({notes} notes, threads: {args.threads}; ms)")
    print(f"{'bundle':<20} {'variant':<14} {'kB':>6} {'MMAC':>6}", end="")
    print("".join(f" {head:>7}" for head in ("load", "first", "p50", "p90", "p99", "max")))
    for row in inferences:
        print(f"{row.bundle:<20} {row.variant:<14} {row.size_bytes / 1e3:6.0f} {row.macs / 1e6:6.1f}", end="")
        times_ms = (row.load_ms, row.first_ms, row.p50_ms, row.p90_ms, row.p99_ms, row.max_ms)
        print("".join(f" {time_ms:7.2f}" for time_ms in times_ms))
    print("\nframes of a held note (its noise is kept; us)")
    for row in inferences:
        print(f"{row.bundle:<20} {row.variant:<14} all {1e3 * row.again_p50_ms:.0f}", end="")
        if row.slice_frames is None or row.slice_macs is None or row.slice_p50_ms is None:
            print(", no slices")
            continue
        print(f", {row.slice_frames} of them {1e3 * row.slice_p50_ms:.0f}", end="")
        print(f": {row.slice_p50_ms / row.again_p50_ms:.2f}, and {row.slice_macs / row.macs:.2f} of the MACs")
    if speeds:
        print(f"\nvoices (one core, {SAMPLE_RATE_HZ} Hz; median of {repetitions})")
    for speed in speeds:
        what = f"{speed.voices} voices, {speed.rows} rows each, MIDI {speed.key_midi}"
        print(f"{what:<35} {speed.times_real_time:6.1f} times real time")
    if args.json is not None:
        content = {
            "machine": machine,
            "inference": [dataclasses.asdict(row) for row in inferences],
            "voices": [dataclasses.asdict(speed) for speed in speeds],
        }
        write_json(args.json, content)


def measure_inference(bundle: Bundle, variant: str, threads: int, notes: int) -> Inference:
    """Time one variant: building it, its first note, then ``notes`` more (noise drawn anew for each)."""
    manifest = bundle.manifest
    latent = np.zeros(manifest.latent_size)
    middle = len(manifest.attributes[0].quantiles) // 2 if manifest.attributes else 0
    attributes = [attribute.quantiles[middle] for attribute in manifest.attributes]
    pitch_midi = statistics.fmean(manifest.pitch_range_midi)

    before = time.perf_counter()
    generator = Generator(bundle, variant, threads)
    load_ms = (time.perf_counter() - before) * 1e3

    def note_ms(seed: int) -> float:
        before = time.perf_counter()
        generator.note(latent, attributes, pitch_midi, 0.8, seed)
        return (time.perf_counter() - before) * 1e3

    def slice_ms(seed: int, frames: int) -> float:
        begin = seed % (manifest.representation.frames - frames + 1)
        before = time.perf_counter()
        generator.slice(latent, attributes, pitch_midi, 0.8, seed, begin=begin)
        return (time.perf_counter() - before) * 1e3

    first_ms = note_ms(0)
    notes_ms, again_ms, slices_ms = [], [], []
    for seed in range(1, notes + 1):
        notes_ms.append(note_ms(seed))
        again_ms.append(note_ms(seed))
        if manifest.slice is not None:
            slices_ms.append(slice_ms(seed, manifest.slice.frames))
    p50, p90, p99, largest = np.percentile(notes_ms, (50, 90, 99, 100))
    return Inference(
        bundle=bundle.path.name,
        variant=variant,
        size_bytes=len(bundle.model(variant)),
        macs=manifest.macs,
        load_ms=load_ms,
        first_ms=first_ms,
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        max_ms=float(largest),
        again_p50_ms=statistics.median(again_ms),
        slice_frames=manifest.slice.frames if manifest.slice else None,
        slice_macs=manifest.slice.macs if manifest.slice else None,
        slice_p50_ms=statistics.median(slices_ms) if slices_ms else None,
    )


def measure_voices(grid: Partials, key_midi: int, rows: int, repetitions: int) -> VoiceSpeed:
    """Time VOICES held notes on ``key_midi`` whose ``rows`` all sound: the most work that key can make."""
    bank = full_bank(grid, key_midi, rows)
    block = np.zeros((BLOCK_SAMPLES, 2), np.float32)
    blocks = 2 * SAMPLE_RATE_HZ // BLOCK_SAMPLES
    bank.render(block)
    speeds = []
    for _ in range(repetitions):
        before = time.perf_counter()
        for _ in range(blocks):
            bank.render(block)
        speeds.append(blocks * BLOCK_SAMPLES / SAMPLE_RATE_HZ / (time.perf_counter() - before))
    return VoiceSpeed(VOICES, rows, key_midi, statistics.median(speeds))


def full_bank(grid: Partials, key_midi: int, rows: int) -> VoiceBank:
    """VOICES held notes on ``key_midi``, ``rows`` partials of -40 dB each."""
    from device.voices import VoiceBank

    bank = VoiceBank(VOICES, rows, grid.frames, SAMPLE_RATE_HZ, grid.frame_rate_hz, grid.limit_hz)
    note = NoteFrames(
        level_db=np.full((rows, grid.frames), -40, np.float32),
        ratio=np.repeat(np.arange(1, rows + 1, dtype=np.float32)[:, None], grid.frames, axis=1),
        decay_db_per_s=np.zeros(rows, np.float32),
        loop_start=grid.frames // 2,
        loop_end=grid.frames - 1,
    )
    for voice in range(VOICES):
        bank.start(voice, note, nominal_hz(key_midi), gain=1 / VOICES)
    return bank


def highest_full_key(grid: Partials) -> int:
    """The highest MIDI key whose top row still lies below the soft edge of the limit, at least 0."""
    return max(math.floor(69 + 12 * math.log2(SOFT_EDGE * grid.limit_hz / grid.rows / 440)), 0)


def rows_at(grid: Partials, key_midi: int) -> int:
    """How many partials of a key lie below the limit: 16 kHz / 65.4 Hz = 244 at MIDI 36."""
    return max(math.floor(grid.limit_hz / nominal_hz(key_midi)), 1)


def processor() -> str:
    """The processor's name: a board's own, or the CPU's, or at least its architecture."""
    board = Path("/proc/device-tree/model")  # boards with a device tree: "Raspberry Pi 5 Model B Rev 1.0\0"
    if board.is_file():
        return board.read_text(errors="replace").strip("\0\n ")
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)
