"""The command `render`: a MIDI file played through a bundle into a WAV, and what was measured on the way."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from device import bundle
from device.errors import DarkrackError
from device.files import write_audio, write_json
from device.midi import Receiver
from device.modulation import STEP_S, Modulation, presets_of
from device.patch import Patch, nearest, parse_setting, read_patch
from device.recording import clicks, level
from device.score import Score, read_score

if TYPE_CHECKING:  # it compiles voices, for which whoever only asks for help need not wait
    from device.performance import Performance

FloatArray = npt.NDArray[np.float32]

PEAK_LIMIT_DBFS = -1.0  # leaves room for the peaks between samples that a DAC or an MP3 encoder makes
LONGEST_S = 3600.0  # the mix stays in memory until its peak is known: an hour is 1.4 GB
PIECE_S = 0.1  # what is rendered at a time once the last event has been played
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of music [{elapsed}<{remaining}]"
WAV_SUBTYPES = {16: "PCM_16", 24: "PCM_24"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack render`."""
    parser.add_argument("song", type=Path, metavar="SONG.mid", help="the MIDI file to play")
    parser.add_argument("--bundle", type=Path, required=True, metavar="X.rack", help="the instrument")
    parser.add_argument("--out", type=Path, required=True, metavar="SONG.wav", help="the WAV to write")
    parser.add_argument(
        "--patch", type=Path, metavar="P.toml", help="how the instrument is set up and what CCs turn"
    )
    parser.add_argument("--preset", metavar="NAME", help="start from this preset instead of the patch's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help='where a knob starts, 0 to 1 (to 2: over-emphasis), e.g. "Trumpet=0.8"; may be repeated',
    )
    parser.add_argument("--solo", action="store_true", help="knobs move their attribute alone")
    parser.add_argument(
        "--voices", type=int, default=16, metavar="N", help="most notes at once (default: 16)"
    )
    parser.add_argument(
        "--transpose", type=float, default=0.0, metavar="SEMITONES", help="shift every note (default: 0)"
    )
    parser.add_argument("--drums", action="store_true", help="play channel 10, too")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, other noise (default: 0)"
    )
    parser.add_argument("--variant", metavar="NAME", help="the bundle's variant (default: the bundle's own)")
    parser.add_argument(
        "--bits", type=int, choices=WAV_SUBTYPES, default=24, help="of a sample in the WAV (default: 24)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to FILE")


def run(args: argparse.Namespace) -> None:
    """Play, write the WAV, report; DarkrackError for whatever is wrong with the files or options."""
    _check_options(args)
    score = read_score(args.song)
    if score.duration_s > LONGEST_S:
        expected = f"a song of at most {LONGEST_S / 60:g} minutes"
        raise DarkrackError(str(args.song), expected, f"{score.duration_s / 60:.0f}", "split it")
    rack = bundle.read(args.bundle)
    patch = _patch(args, rack)

    from device.performance import SAMPLE_RATE_HZ, Performance

    performance = Performance(rack, patch, voices=args.voices, seed=args.seed, variant=args.variant)
    names = [attribute.name for attribute in rack.manifest.attributes]
    modulation = Modulation(performance, patch, names, presets_of(rack), seed=args.seed)
    receiver = Receiver(
        performance, patch, transpose_semitones=args.transpose, drums=args.drums, listener=modulation
    )
    begin = time.perf_counter()
    mix = play(score, performance, receiver, modulation)
    elapsed_s = time.perf_counter() - begin
    if not performance.counts.notes:
        raise DarkrackError(str(args.song), "notes to play", "; ".join(receiver.remarks()), "try --drums")

    mix, turned_down_db = turned_down(mix)
    write_audio(args.out, mix, SAMPLE_RATE_HZ, WAV_SUBTYPES[args.bits])
    counts = performance.counts
    measured: dict[str, Any] = {
        "duration_s": round(len(mix) / SAMPLE_RATE_HZ, 3),
        "notes": counts.notes,
        "notes_out_of_range": counts.out_of_range,
        "notes_stolen": counts.stolen,
        "notes_stolen_held": counts.stolen_held,
        "morphs": counts.morphs,
        "generation_median_ms": round(statistics.median(counts.generation_ms), 3),
        "render_x_real_time": round(len(mix) / SAMPLE_RATE_HZ / elapsed_s, 2),
        "peak_dbfs": round(level(mix).peak_dbfs, 2),
        "turned_down_db": round(turned_down_db, 2),
        "clicks": count_clicks(mix, SAMPLE_RATE_HZ, rack.manifest.representation.heard_hz),
        "remarks": [*score.remarks, *receiver.remarks()],
    }
    for remark in measured["remarks"]:
        print(f"note: {remark}")
    print(report(measured, rack.manifest.pitch_range_midi))
    print(args.out)
    if args.json:
        write_json(args.json, measured)


def play(score: Score, performance: Performance, receiver: Receiver, modulation: Modulation) -> FloatArray:
    """The whole song with its last release, (n, 2) float32, not limited; every event at its own sample."""
    from tqdm import tqdm

    from device.performance import SAMPLE_RATE_HZ

    pieces: list[FloatArray] = []
    step_samples = round(STEP_S * SAMPLE_RATE_HZ)

    def render(n_samples: int) -> None:
        end = performance.now_samples + n_samples
        while performance.now_samples < end:
            piece = end - performance.now_samples
            if modulation.lively:  # at every whole step of its own
                piece = min(piece, step_samples - performance.now_samples % step_samples)
                modulation.step(round(performance.now_samples / SAMPLE_RATE_HZ * 1e9))
            pieces.append(performance.render(piece))

    with tqdm(total=score.duration_s, desc="playing", disable=None, bar_format=BAR) as progress:
        for event in score.events:
            at_samples = round(event.time_s * SAMPLE_RATE_HZ)
            if at_samples > performance.now_samples:
                piece_samples = at_samples - performance.now_samples
                render(piece_samples)
                progress.update(piece_samples / SAMPLE_RATE_HZ)
            receiver.hear(event.message, round(event.time_s * 1e9))
    performance.finish()
    sounding = True
    while (
        sounding
    ):  # once more after the last voice is free: the fade of a voice that was cut is still to come
        sounding = performance.sounding
        render(round(PIECE_S * SAMPLE_RATE_HZ))
    return np.concatenate(pieces)


def turned_down(mix: FloatArray) -> tuple[FloatArray, float]:
    """The mix with no peak over PEAK_LIMIT_DBFS, and by how many dB it was turned down for that (0: as it was)."""
    over_db = max(0.0, level(mix).peak_dbfs - PEAK_LIMIT_DBFS)
    return mix * np.float32(10.0 ** (-over_db / 20.0)), over_db


def count_clicks(samples: FloatArray, sample_rate_hz: int, highest_partial_hz: float) -> int:
    """How many clicks `recording.clicks` finds in (n, 2) samples of any length, a minute at a time."""
    step = 60 * sample_rate_hz
    margin = (
        sample_rate_hz // 10
    )  # wider than the median around a click; what the cut itself makes stays in it
    found = 0
    for begin in range(0, len(samples), step):
        first = max(0, begin - margin)
        times_s = clicks(samples[first : begin + step + margin], sample_rate_hz, highest_partial_hz)
        found += sum(begin <= first + time_s * sample_rate_hz < begin + step for time_s in times_s)
    return found


def report(measured: dict[str, Any], pitch_range_midi: tuple[float, float]) -> str:
    """The figures for people, one a line."""
    low, high = pitch_range_midi
    rows = [
        ("duration", f"{measured['duration_s']:.1f} s"),
        ("notes", str(measured["notes"])),
        (f"outside MIDI {low:g} to {high:g}", str(measured["notes_out_of_range"])),
        ("cut for want of voices", f"{measured['notes_stolen']}, {measured['notes_stolen_held']} still held"),
        ("regenerated while sounding", str(measured["morphs"])),
        ("generation per note, median", f"{measured['generation_median_ms']:.2f} ms"),
        ("render speed, all included", f"{measured['render_x_real_time']:.1f} x real time"),
    ]
    return aligned([*rows, *level_rows(measured)])


def level_rows(measured: dict[str, Any]) -> list[tuple[str, str]]:
    """The last lines of a report: the peak, and whether anything clicks."""
    down_db = measured["turned_down_db"]
    down = f" (turned down by {down_db:.1f} dB)" if down_db else ""
    return [
        ("peak level", f"{measured['peak_dbfs']:.1f} dBFS{down}"),
        ("clicks", str(measured["clicks"])),
    ]


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two columns, a line each."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what argparse lets through, before anything is read."""
    for option, value, low, high in (
        ("--voices", args.voices, 1, 256),
        ("--transpose", args.transpose, -60, 60),
        ("--seed", args.seed, 0, 2**32 - 1),
    ):
        if not low <= value <= high:
            raise DarkrackError(option, f"{low} to {high}", f"{value:g}")
    if args.out.suffix.lower() != ".wav":
        raise DarkrackError(f"--out {args.out}", "a name that ends in .wav", args.out.suffix or "no ending")


def _patch(args: argparse.Namespace, rack: bundle.Bundle) -> Patch:
    """The patch file, or the default patch, with what the command line says on top."""
    attributes = [attribute.name for attribute in rack.manifest.attributes]
    presets = [preset.name for preset in rack.manifest.presets]
    patch = read_patch(args.patch, attributes, presets) if args.patch else Patch()
    asked = dict(parse_setting(text, attributes) for text in args.set)
    patch = dataclasses.replace(patch, attributes={**patch.attributes, **asked})
    if args.preset is not None:
        preset = nearest(args.preset, presets, f"--preset {args.preset!r}", "a preset of the bundle")
        patch = dataclasses.replace(patch, preset=preset)
    if args.solo:
        alone = {number: dataclasses.replace(knob, carry=False) for number, knob in patch.cc.items()}
        patch = dataclasses.replace(patch, carry=False, cc=alone)
    return patch
