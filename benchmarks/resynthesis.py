"""`python -m benchmarks.resynthesis`: what the `partials` grid loses of real notes, way by way and program by program.

Every way analyses the same notes of a data set, plays what it found through the device's own decoder and voice, and is
heard by the same ears beside the notes themselves. It is the ceiling of whatever learns on that grid, before anything
learned. Ways differ in one thing from the grid that ships: window, hop, how far up rows go, rows at halves of f0
too, or noise in NOISE_BANDS bands beside the partials (Serra & Smith 1990: what is not sinusoid is filtered noise).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks import command
from device.errors import DarkrackError
from device.files import write_json
from device.partials import Partials
from train.partials import WINDOW_PERIODS, encode

if TYPE_CHECKING:
    from train.listener import Held, Listener

FloatArray = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

GRID = Partials()  # the one that ships
FINER = dataclasses.replace(GRID, frames=2 * GRID.frames, frame_rate_hz=2 * GRID.frame_rate_hz)
HALVES = dataclasses.replace(GRID, rows=2 * GRID.rows, rows_a_partial=2)
PACKAGES = ("numpy", "onnxruntime")
WORST = 12  # programs that are printed

NOISE_BANDS = 20
LOWEST_HZ, HIGHEST_HZ = 60.0, 16_000.0
FFT, HOP = 1024, 256  # in which noise is laid in: 21 and 5 ms at 48 kHz
LONG_FFT = 4096  # in which partials stand apart from what lies between them: 12 Hz a bin
LOBE_BINS = 2.5  # on either side of a partial: Hann's main lobe, and a little


@dataclass(frozen=True)
class Way:
    """How a note is analysed; ``noise`` lays noise in between."""

    name: str
    grid: Partials = GRID
    window_periods: float = WINDOW_PERIODS
    noise: bool = False


WAYS = (
    Way("as it ships"),
    Way("window of 2 periods", window_periods=2.0),
    Way("window of 3 periods", window_periods=3.0),
    Way("window of 6 periods", window_periods=6.0),
    Way("hop of 4 ms", FINER),
    Way("hop of 4 ms, window of 2 periods", FINER, 2.0),
    Way("rows to 16 kHz", dataclasses.replace(GRID, rows=256)),
    Way("half rows", HALVES),
    Way("half rows, window of 2 periods", HALVES, 2.0),
    Way("half rows, window of 8 periods", HALVES, 8.0),
    Way(
        "half rows, hop of 4 ms",
        dataclasses.replace(HALVES, frames=FINER.frames, frame_rate_hz=FINER.frame_rate_hz),
    ),
    Way("noise bands", noise=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    names = [way.name for way in WAYS]
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="labelled notes")
    parser.add_argument(
        "--ear", action="append", required=True, metavar="NAME=PATH", help="who listens; may be given twice"
    )
    parser.add_argument(
        "--each", type=command.count, default=3, metavar="N", help="notes of each instrument (default 3)"
    )
    parser.add_argument(
        "--ways", nargs="+", choices=names, default=names, metavar="WAY", help=", ".join(names)
    )
    parser.add_argument(
        "--octaves",
        action="store_true",
        help="notes whose fundamental lies whole octaves from their key instead",
    )
    parser.add_argument("--seed", type=int, default=1, help="which notes (default 1)")
    parser.add_argument("--threads", type=command.count, default=1, help="threads (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")


def run(args: argparse.Namespace) -> None:
    """Hear the notes, then every way of making them again, and print what it keeps."""
    from train import measures
    from train.evaluate import open_ears
    from train.listener import Listener

    facts = command.machine(PACKAGES)
    listener = Listener(open_ears(args.ear), None, args.threads)
    notes, others = chosen(args.data, listener, args.each, args.seed, "octave" if args.octaves else "ok")
    names = sorted({held.note.instrument_str for held in (*notes, *others)})
    groups, groups_of_others = (
        np.array([names.index(held.note.instrument_str) for held in some]) for some in (notes, others)
    )
    real = listener.hear(notes, listener.real, "real")
    reference = listener.hear(others, listener.real, "to compare with")
    found: dict[str, Any] = {}
    likeness: dict[str, dict[str, Doubles]] = {}
    by_name = {way.name: way for way in WAYS}
    for way in (by_name[name] for name in args.ways):
        heard = listener.hear(notes, partial(again, listener, way), way.name)
        likeness[way.name] = {
            ear: measures.cosine(real.embeddings[ear], heard.embeddings[ear]) for ear in listener.ears
        }
        first = likeness[args.ways[0]]
        found[way.name] = {
            ear: {
                "fad": list(
                    measures.frechet_unbounded(
                        reference.embeddings[ear],
                        heard.embeddings[ear],
                        np.random.default_rng(args.seed),
                        groups=groups,
                        groups_a=groups_of_others,
                    )
                ),
                "cosine": estimate(likeness[way.name][ear], groups, args.seed),
                "more": estimate(likeness[way.name][ear] - first[ear], groups, args.seed),
            }
            for ear in listener.ears
        }
    programs = {
        names[group]: {
            way: {ear: float(one[ear][groups == group].mean()) for ear in listener.ears}
            for way, one in likeness.items()
        }
        for group in np.unique(groups)
    }
    print(text(found, programs, list(listener.ears)))
    print(f"\n{len(notes)} notes of {len(programs)} instruments of {args.data.name}; {command.said(facts)}")
    if args.json:
        write_json(args.json, {"machine": facts, "notes": len(notes), "ways": found, "programs": programs})


def chosen(
    data: Path, listener: Listener, each: int, seed: int, check: str = "ok"
) -> tuple[list[Held], list[Held]]:
    """Notes of every instrument with that ``check``, and as many others; DarkrackError where there are too few."""
    from train.listener import LEAST_NOTES, labelled

    by_instrument: dict[str, list[Held]] = {}
    for held in labelled(data, list(listener.ears.values())[:1], (0.0, 127.0), check):
        by_instrument.setdefault(held.note.instrument_str, []).append(held)
    random = np.random.default_rng(seed)
    notes: list[Held] = []
    others: list[Held] = []
    for _, some in sorted(by_instrument.items()):
        order = random.permutation(len(some))
        if len(some) >= 2 * each:
            notes += [some[n] for n in order[:each]]
            others += [some[n] for n in order[each : 2 * each]]
    if len(notes) < LEAST_NOTES:
        raise DarkrackError(
            str(data),
            f"{LEAST_NOTES} notes, {2 * each} of an instrument",
            str(len(notes)),
            "give fewer with --each",
        )
    return notes, others


def again(listener: Listener, way: Way, held: Held) -> FloatArray:
    """(samples,) mono at 48 kHz: a note analysed and made again."""
    from train.listener import HEARD_S
    from train.notes import read_audio

    grid, note = way.grid, held.note
    audio = read_audio(held.folder, note, (grid.frames + 4) / grid.frame_rate_hz)
    f0_hz = note.key_hz
    frames = encode(audio, note.sample_rate, f0_hz, grid, way.window_periods)
    made = listener.play(frames, grid, note.pitch, HEARD_S)
    return with_noise(made, listener.real(held), f0_hz) if way.noise else made


def with_noise(made: FloatArray, real: FloatArray, f0_hz: float, sample_rate_hz: int = 48_000) -> FloatArray:
    """What was ``made`` (samples,) with that share of each band as noise that is noise in the ``real`` note.

    Bands are NOISE_BANDS of equal width in octaves from LOWEST_HZ. The whole has the level of the real note in each
    band and frame where there is noise; where there is none it is what it was.
    """
    from scipy.signal import istft, stft

    count = min(len(made), len(real))
    made, real = made[:count], real[:count]
    share = noise_share(real, f0_hz, sample_rate_hz)  # (bands, frames of LONG_FFT / 4)
    options: dict[str, Any] = {"fs": sample_rate_hz, "nperseg": FFT, "noverlap": FFT - HOP}
    hiss = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    (hz, at_s, ours), (*_, noise) = (stft(one, **options) for one in (made, hiss))
    band = _band(hz)
    column = np.clip(np.round(at_s * sample_rate_hz / (LONG_FFT // 4)).astype(int), 0, share.shape[1] - 1)
    for number in range(NOISE_BANDS):
        here = band == number
        if not here.any():
            continue
        noisy = share[number, column]
        level = np.sqrt(
            (np.abs(ours[here]) ** 2).sum(0) / np.maximum((np.abs(noise[here]) ** 2).sum(0), 1e-20)
        )
        ours[here] = ours[here] * np.sqrt(1 - noisy) + noise[here] * (np.sqrt(noisy) * level)
    mixed = istft(ours, **options)[1]
    return np.asarray(mixed[:count], np.float32)


def noise_share(real: FloatArray, f0_hz: float, sample_rate_hz: int) -> Doubles:
    """(NOISE_BANDS, frames) in 0..1: how much of the energy of a note is as dense between its partials as noise is.

    What lies between partials is taken for noise that goes on under them. Where partials are too close to leave
    anything between them, there is none to be seen: 0.
    """
    from scipy.signal import stft

    hz, _, spectrum = stft(real, fs=sample_rate_hz, nperseg=LONG_FFT, noverlap=LONG_FFT - LONG_FFT // 4)
    power = np.abs(spectrum) ** 2
    bin_hz = sample_rate_hz / LONG_FFT
    apart = np.abs(hz - np.maximum(np.round(hz / f0_hz), 1) * f0_hz)
    # Strings are stiff: high partials lie further from their places.
    between = apart > np.maximum(LOBE_BINS * bin_hz, 0.25 * f0_hz)
    band = _band(hz)
    share = np.zeros((NOISE_BANDS, power.shape[1]))
    for number in range(NOISE_BANDS):
        here = band == number
        gaps = here & between
        if gaps.any():
            total = power[here].sum(0)
            share[number] = np.median(power[gaps], axis=0) / np.log(2) * here.sum() / np.maximum(total, 1e-20)
    return np.minimum(share, 1.0)


def _band(hz: Doubles) -> npt.NDArray[np.int64]:
    """Which band each frequency is in, -1 for none."""
    octaves = np.log2(np.maximum(hz, 1e-9) / LOWEST_HZ) / np.log2(HIGHEST_HZ / LOWEST_HZ)
    return np.where((octaves >= 0) & (octaves < 1), np.floor(octaves * NOISE_BANDS), -1).astype(np.int64)


def estimate(values: Doubles, groups: npt.NDArray[np.int64], seed: int) -> list[float]:
    """Mean and its interval over instruments."""
    from train import measures

    return [float(one) for one in measures.bootstrap(values, np.random.default_rng(seed), groups)]


def text(found: dict[str, Any], programs: dict[str, Any], ears: Sequence[str]) -> str:
    """Ways in a table, then the programs that come back worst the first way."""
    head = ["way"]
    for ear in ears:
        head += [f"FAD by {ear}", "cosine", "more than the first"]
    rows = [head]
    for way, by_ear in found.items():
        cells = [way]
        for ear in ears:
            for key, shape in (("fad", "{:.2f}"), ("cosine", "{:.3f}"), ("more", "{:+.3f}")):
                value, low, high = (shape.format(one) for one in by_ear[ear][key])
                cells.append(f"{value} ({low} to {high})")
        rows.append(cells)
    first = next(iter(found))

    def worth(name: str, way: str) -> float:
        return float(min(programs[name][way].values()))

    worst = sorted(programs, key=lambda name: worth(name, first))[:WORST]
    listed = [["instrument", *(f"cosine by {ear}" for ear in ears), "best way"]]
    for name in worst:
        best = max(programs[name], key=partial(worth, name))
        listed.append(
            [
                name,
                *(f"{programs[name][first][ear]:.2f}" for ear in ears),
                f"{best} ({', '.join(f'{programs[name][best][ear]:.2f}' for ear in ears)})",
            ]
        )
    return f"{command.table(rows)}\n\n{command.table(listed)}"


def main(words: Sequence[str] | None = None) -> int:
    """See `benchmarks.command.main`."""
    line = "what the partials grid loses of real notes, way by way and program by program"
    return command.main("resynthesis", line, add_arguments, run, words)


if __name__ == "__main__":
    sys.exit(main())
