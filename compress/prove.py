"""Proof that what ships sounds as what was trained: hop by hop in numbers and in audio, then by the judge's ears.

Every hop of an export (torch, ONNX Runtime, LiteRT with and without its delegate, each variant) makes the same notes;
they are played by the device's decoder and a voice, and compared. With data and ears at hand the judge hears parent,
run and bundle, and a bundle that misses a margin is not written.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize import FLOAT32, Measured, Timing, choose
from device.errors import DarkrackError
from device.generator import snr_db
from device.maker import decoded
from device.partials import Partials, nominal_hz
from device.recording import pitch_cents
from device.stft import Stft

FloatArray = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 48_000
HEARD_S = 1.25
ATTACK_S = 0.25  # not looked at for pitch
FFT, HOP = 2048, 512
TOLERANCE = 0.10  # a figure that is this share worse than the parent's is still the parent's
LEAST_CORRELATION = 0.02  # what two judgements of one voice differ by: no less counts as a loss
RANGE_DB = 80.0  # under the loudest bin; what lies below is not heard beside it


@dataclass(frozen=True)
class Hop:
    """How far a hop is from torch: SNR of the network's output in dB; of notes played, medians over notes.

    ``lsd_db``: log-spectral distance. ``cents``: how far apart in pitch.
    """

    snr_db: float
    lsd_db: float
    cents: float


def compare(wanted: FloatArray, made: FloatArray, pitch_midi: Sequence[float], grid: Partials | Stft) -> Hop:
    """One hop: frames (N, 2, rows, frames) of torch and of it, for notes at trained pitches ``pitch_midi`` (N,).

    Raises DarkrackError for frames that are not finite.
    """
    from device.voices import bank_for

    bank = bank_for(grid, SAMPLE_RATE_HZ)

    def play(frames: FloatArray, midi: float) -> npt.NDArray[np.float64]:
        note, f0_hz = decoded(frames, grid, midi)
        bank.start(0, note, nominal_hz(midi), phases=1, made_for_hz=f0_hz)
        audio = np.zeros((round(HEARD_S * SAMPLE_RATE_HZ), 2), np.float32)
        bank.render(audio)
        bank.kill(0)
        bank.render(np.zeros((SAMPLE_RATE_HZ // 50, 2), np.float32))  # 20 ms: what was killed fades in 4
        return audio[:, 0].astype(np.float64)

    distances, cents = [], []
    held = round(ATTACK_S * SAMPLE_RATE_HZ)
    for one, other, midi in zip(wanted, made, pitch_midi, strict=True):
        a, b = play(one, midi), play(other, midi)
        distances.append(log_spectral_distance_db(a, b))
        apart = [pitch_cents(audio[held:], SAMPLE_RATE_HZ, nominal_hz(midi)) for audio in (a, b)]
        cents.append(abs(apart[0] - apart[1]))
    return Hop(snr_db(wanted, made), float(np.median(distances)), float(np.nanmedian(cents)))


def log_spectral_distance_db(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Distance in dB of two recordings (n,) at one rate: root mean square over bins, mean over moments.

    Hann windows of FFT samples every HOP. Bins RANGE_DB under the loudest of both count as that quiet. 0 for silence
    beside silence.
    """
    spectra = []
    for audio in (one, other):
        padded = np.pad(audio, (0, FFT))
        windows = np.lib.stride_tricks.sliding_window_view(padded, FFT)[: len(audio) : HOP] * np.hanning(FFT)
        spectra.append(np.abs(np.fft.rfft(windows, axis=1)) ** 2)
    loudest = max(float(spectrum.max()) for spectrum in spectra)
    if loudest <= 0:
        return 0.0
    floor = loudest * 10 ** (-RANGE_DB / 10)
    apart = 10 * np.log10(np.maximum(spectra[0], floor) / np.maximum(spectra[1], floor))
    return float(np.sqrt((apart**2).mean(1)).mean())


def hold(where: str, hops: Mapping[str, Hop], margins: Mapping[str, Hop]) -> None:
    """Raise DarkrackError for the first hop that misses the margin whose name is part of its own."""
    for name, hop in hops.items():
        margin = next(one for key, one in margins.items() if key in name)
        for what, got, holds, bound in (
            ("dB of signal to noise", hop.snr_db, hop.snr_db >= margin.snr_db, f"at least {margin.snr_db:g}"),
            (
                "dB of log-spectral distance",
                hop.lsd_db,
                hop.lsd_db <= margin.lsd_db,
                f"at most {margin.lsd_db:g}",
            ),
            ("cents", hop.cents, not hop.cents > margin.cents, f"at most {margin.cents:g}"),
        ):
            if not holds:
                raise DarkrackError(
                    f"{where}: {name}", f"{bound} {what} against torch", f"{got:.3g}", "no bundle was written"
                )


@dataclass(frozen=True)
class Jury:
    """Who hears a bundle before it is written: notes and ears of `darkrack evaluate` (``NAME=PATH``), and beside whom.

    ``against``: the run that it must sound like, besides the run that it comes from.
    """

    data: Path
    ears: tuple[str, ...]
    against: Path | None
    seed: int
    threads: int


@dataclass(frozen=True)
class Quality:
    """What the judge says of a voice, in figures that proofs compare: FAD by ear (value, low, high), and the rest."""

    fad: dict[str, tuple[float, float, float]]
    correlation: float  # mean over attributes, on logits
    pitch_cents: float
    diversity: float | None


def quality(subject: Mapping[str, Any]) -> Quality:
    """Of one subject of the judge's figures, on unseen notes of seen instruments."""
    diversity = subject.get("diversity")
    return Quality(
        {ear: tuple(one["estimate"]) for ear, one in subject["parts"]["unseen_notes"]["frechet"].items()},
        statistics.fmean(one["logit"][0] for one in subject["attributes"]),
        float(subject["pitch"]["median_cents"][0]),
        diversity["share"][0] if diversity else None,
    )


def worse(subject: Mapping[str, Any], parent: Mapping[str, Any]) -> list[str]:
    """In what a subject of the judge's figures falls behind its parent; empty where it sounds as it does.

    FAD by every ear and median pitch error, each beyond the parent's interval and beyond TOLERANCE of its figure; mean
    attribute correlation beyond TOLERANCE and LEAST_CORRELATION.
    """
    mine, theirs = quality(subject), quality(parent)
    found = [
        f"FAD by {ear} {mine.fad[ear][0]:.2f}, parent {value:.2f} (at most {high:.2f})"
        for ear, (value, _, high) in theirs.fad.items()
        if not mine.fad[ear][0] <= max(high, (1 + TOLERANCE) * value)
    ]
    most_cents = max(parent["pitch"]["median_cents"][2], (1 + TOLERANCE) * theirs.pitch_cents)
    if not mine.pitch_cents <= most_cents:
        found.append(
            f"{mine.pitch_cents:.2f} cents, parent {theirs.pitch_cents:.2f} (at most {most_cents:.2f})"
        )
    least = theirs.correlation - max(TOLERANCE * abs(theirs.correlation), LEAST_CORRELATION)
    if not mine.correlation >= least:
        found.append(f"attribute correlation {mine.correlation:.3f}, parent {theirs.correlation:.3f}")
    return found


def summon(jury: Jury) -> None:
    """Raise DarkrackError before anything is converted, where ears, notes or the run to compare with are missing."""
    from train import evaluate
    from train.notes import read_notes
    from train.voice import open_voice

    evaluate.open_ears(_asked(jury).ear)
    read_notes(jury.data)
    if jury.threads < 1:
        raise DarkrackError("--threads", "at least 1", str(jury.threads))
    if jury.against:
        open_voice(jury.against)


def _asked(jury: Jury) -> argparse.Namespace:
    """What `darkrack evaluate` is asked."""
    from train import evaluate

    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    ears = [word for ear in jury.ears for word in ("--ear", ear)]
    seed, threads = str(jury.seed), str(jury.threads)
    return parser.parse_args(
        ["--data", str(jury.data), *ears, "--quick", "--seed", seed, "--threads", threads]
    )


def judged(
    jury: Jury,
    run_folder: Path,
    candidate: Path,
    *,
    times: Mapping[str, Timing],
    sizes: Mapping[str, int],
    where: str,
) -> tuple[str, dict[str, Any]]:
    """Have a bundle heard: the variant that is to play by default, and what was measured of each.

    ``candidate``: a bundle with the variants of ``times`` and ``sizes``, float32 among them. The variant is chosen by
    `compress.quantize.choose`. Raises DarkrackError where what was chosen is worse than the run it comes from, or than
    ``jury.against``.
    """
    from train import evaluate
    from train.voice import open_voice

    runs = {"the run": run_folder, **({"its parent": jury.against} if jury.against else {})}
    voices = [dataclasses.replace(open_voice(path), name=name) for name, path in runs.items()]
    voices += [dataclasses.replace(open_voice(candidate, name), name=name) for name in times]
    figures = evaluate.judge_voices(_asked(jury), voices)
    found = {one["name"]: one for one in figures["subjects"]}
    ear = figures["ears"][-1]["name"]
    measured = {}
    for name, timing in times.items():
        one = quality(found[name])
        ms = timing.median_us / 1e3
        measured[name] = Measured(ms, sizes[name], one.fad[ear][0], one.pitch_cents, one.correlation)
    behind = {
        name: [f"{parent}: {what}" for parent in runs for what in worse(found[name], found[parent])]
        for name in times
    }
    chosen = choose({name: one for name, one in measured.items() if name == FLOAT32 or not behind[name]})
    if behind[chosen]:
        raise DarkrackError(
            f"{where}: {chosen}",
            f"what sounds as its parent does, within its interval or {TOLERANCE:.0%}",
            "; ".join(behind[chosen]),
            "no bundle was written; train it longer, or trim it less",
        )
    table = {
        "ear": ear,
        "seed": jury.seed,
        "default": chosen,
        "heard": {name: dataclasses.asdict(quality(found[name])) for name in [*runs, *times]},
        "variants": {
            name: {**dataclasses.asdict(one), "of_float32": round(times[name].ratio, 3)}
            for name, one in measured.items()
        },
    }
    return chosen, table
