"""`darkrack evaluate`: what a bundle sounds like beside notes it never saw, heard as the instrument plays it.

Everything generated goes through LiteRT, `device.partials.decode` and the device's voices; the teacher hears real,
resynthesised and generated notes at one level. Figures come with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device import bundle as bundles
from device.bundle import Bundle
from device.errors import DarkrackError
from device.files import write_json
from device.generator import Generator
from device.knobs import Knobs
from device.partials import decode, nominal_hz
from device.recording import centroid_hz, level, pitch_cents
from train.dataset import encode_note, soft_label
from train.notes import Note, read_audio, read_notes, split
from train.teacher import Teacher, load_teacher

if TYPE_CHECKING:
    from device.voices import VoiceBank

FloatArray = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 48_000
HEARD_S = 1.0
HELD_S = 2.0  # long enough for a pitch to a tenth of a cent, and past the note's own frames into the loop
CHUNK = 32
KNOB_MOVES_SD = 0.5  # what a knob must do to count: half a standard deviation of the teacher's logit


@dataclass(frozen=True)
class Asked:
    """One note asked of a bundle: latent (Z,), soft labels (A,), pitch MIDI, velocity 0..1, seed of its noise."""

    z: FloatArray
    attributes: FloatArray
    pitch_midi: float
    velocity: float
    noise_seed: int


@dataclass(frozen=True)
class Heard:
    """What the teacher made of some notes: logits (N, C), embeddings (N, E), and the centroid (N,) in Hz."""

    logits: FloatArray
    embeddings: FloatArray
    centroid_hz: Doubles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack evaluate`."""
    parser.add_argument("bundle", type=Path, metavar="X.rack", help="the bundle to measure")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the notes it was trained on")
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="PATH", help="the teacher's network in ONNX"
    )
    parser.add_argument("--teacher", default="mn04", help="who listens: mn04 (default) or yamnet")
    parser.add_argument("--notes", type=int, default=600, help="held-out notes to compare with (default 600)")
    parser.add_argument(
        "--pairs", type=int, default=200, help="(z, pitch) pairs of the knob test (default 200)"
    )
    parser.add_argument("--variant", help="which variant plays (default: the bundle's own)")
    parser.add_argument(
        "--threads", type=int, default=2, help="notes generated and heard at a time (default 2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    parser.add_argument(
        "--update-card", action="store_true", help="put the figures into the bundle's card and manifest"
    )


def run(args: argparse.Namespace) -> None:
    """Measure a bundle and print its tables."""
    if args.notes < 50 or args.pairs < 20:
        raise DarkrackError(
            "--notes, --pairs",
            "at least 50 notes and 20 pairs",
            f"{args.notes} and {args.pairs}",
            "fewer decide nothing",
        )
    bundle = bundles.read(args.bundle)
    teacher = load_teacher(args.teacher, args.weights)
    listener = Listener(bundle, teacher, args.variant, args.threads)
    figures: dict[str, Any] = {
        "bundle": bundle.manifest.name,
        "teacher": teacher.name,
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "held_out": [compare(listener, args.data, part, args.notes, args.seed) for part in PARTS],
        **tune_and_level(listener, 200, args.seed),
        "knobs": turn_knobs(listener, args.data, args.pairs, args.seed),
    }
    text = report(figures)
    print(text)
    if args.json:
        write_json(args.json, figures)
    if args.update_card:
        update_card(bundle, figures, text)
        print(f"{args.bundle}: card and manifest updated")


class Listener:
    """A bundle, a teacher, and what it takes to play one to the other with several threads."""

    def __init__(self, bundle: Bundle, teacher: Teacher, variant: str | None, threads: int) -> None:
        names = {name: n for n, name in enumerate(teacher.classes)}
        missing = [one.name for one in bundle.manifest.attributes if one.name not in names]
        if missing:
            raise DarkrackError(
                f"{teacher.name}",
                f"a class for each attribute of {bundle.path}",
                f"none for {missing[0]}",
                "use its teacher",
            )
        self.bundle = bundle
        self.teacher = teacher
        self.classes = np.array([names[one.name] for one in bundle.manifest.attributes])
        self._variant = variant
        self._threads = threads
        self._local = threading.local()
        self.player()  # compile once, before threads do

    def player(self) -> tuple[Generator, VoiceBank]:
        """This thread's network and its one voice."""
        if not hasattr(self._local, "player"):
            from device.voices import VoiceBank

            grid = self.bundle.manifest.representation
            bank = VoiceBank(1, grid.rows, grid.frames, SAMPLE_RATE_HZ, grid.frame_rate_hz, grid.limit_hz)
            self._local.player = Generator(self.bundle, self._variant), bank
        player: tuple[Generator, VoiceBank] = self._local.player
        return player

    def play(self, frames: npt.NDArray[np.floating], pitch_midi: float, seconds: float) -> FloatArray:
        """(samples,) mono at 48 kHz: frames (2, rows, frames) through the device's decoder and a voice."""
        _, bank = self.player()
        bank.start(0, decode(frames, self.bundle.manifest.representation), nominal_hz(pitch_midi))
        audio = np.zeros((round(seconds * SAMPLE_RATE_HZ), 2), np.float32)
        bank.render(audio)
        bank.kill(0)
        bank.render(np.zeros((SAMPLE_RATE_HZ // 50, 2), np.float32))  # 20 ms: what was killed fades in 4
        return np.asarray(audio[:, 0] * np.sqrt(2), np.float32)  # equal-power pan in the middle: -3 dB a side

    def sing(self, asked: Asked, seconds: float) -> FloatArray:
        """(samples,) mono at 48 kHz: one generated note."""
        generator, _ = self.player()
        frames = generator.note(asked.z, asked.attributes, asked.pitch_midi, asked.velocity, asked.noise_seed)
        return self.play(frames, asked.pitch_midi, seconds)

    def hear(self, audio: Sequence[FloatArray], sample_rate_hz: int = SAMPLE_RATE_HZ) -> Heard:
        """What the teacher makes of these notes."""
        logits, embeddings = self.teacher.hear(np.stack(audio), sample_rate_hz)
        return Heard(logits, embeddings, np.array([centroid_hz(one, sample_rate_hz) for one in audio]))

    def hear_all(self, work: Sequence[Any], make: Any, what: str) -> Heard:
        """``make(item)`` to audio for every item of ``work``, heard in chunks; in order, with a progress bar."""
        chunks = [work[n : n + CHUNK] for n in range(0, len(work), CHUNK)]
        with ThreadPoolExecutor(self._threads) as pool:
            heard = list(
                tqdm(
                    pool.map(lambda chunk: self.hear([make(item) for item in chunk]), chunks),
                    what,
                    len(chunks),
                    unit="chunk",
                    disable=None,
                )
            )
        return Heard(
            np.concatenate([one.logits for one in heard]),
            np.concatenate([one.embeddings for one in heard]),
            np.concatenate([one.centroid_hz for one in heard]),
        )


PARTS = {"unseen_notes": "unseen notes of seen instruments", "unseen_instruments": "instruments never seen"}


def compare(listener: Listener, folder: Path, part: str, count: int, seed: int) -> dict[str, Any]:
    """Notes of one held-out part beside their resynthesis and beside notes generated for their labels.

    The Fréchet distances are between the teacher's embeddings of training notes and as many of each kind (notes
    of other instruments are far from the training notes even when real: compare within a row); attribute
    correlation is Pearson's between the soft label asked for and the one heard.
    """
    manifest = listener.bundle.manifest
    grid = manifest.representation
    random = np.random.default_rng(seed)
    notes, reference = _held_out(listener, folder, (part,), count, random)

    def real(note: Note) -> FloatArray:
        return _real(folder, note)

    def resynthesis(note: Note) -> FloatArray:
        return listener.play(encode_note(folder, note, grid), note.pitch, HEARD_S)

    heard = {
        "real": listener.hear_all(notes, real, "real"),
        "resynthesis": listener.hear_all(notes, resynthesis, "resynthesis"),
    }
    labels = soft_label(heard["real"].logits[:, listener.classes], manifest.temperature)
    asked = [
        Asked(
            random.standard_normal(manifest.latent_size, np.float32),
            labels[n],
            float(note.pitch),
            note.velocity / 127,
            n,
        )
        for n, note in enumerate(notes)
    ]
    heard["generated"] = listener.hear_all(asked, lambda one: listener.sing(one, HEARD_S), "generated")
    trained_on = listener.hear_all(reference, real, "training notes").embeddings

    distances = {kind: frechet_distance(trained_on, one.embeddings) for kind, one in heard.items()}
    likeness = {
        kind: interval(_cosine(heard["real"].embeddings, heard[kind].embeddings), random)
        for kind in ("resynthesis", "generated")
    }
    answers = {
        kind: soft_label(one.logits[:, listener.classes], manifest.temperature) for kind, one in heard.items()
    }
    shuffled = random.permutation(len(labels))
    correlations = {
        "generated": _correlation(labels, answers["generated"]),
        "resynthesis": _correlation(labels, answers["resynthesis"]),
        "permuted": _correlation(labels[shuffled], answers["generated"]),
    }
    return {
        "part": part,
        "notes": len(notes),
        "instruments": len({note.instrument_str for note in notes}),
        "frechet_distance": distances,
        "likeness": likeness,
        "correlation": {
            "attributes": [one.name for one in manifest.attributes],
            **{kind: [round(float(value), 4) for value in values] for kind, values in correlations.items()},
        },
    }


def tune_and_level(listener: Listener, count: int, seed: int) -> dict[str, Any]:
    """Cents off and level of generated notes at pitches between semitones, held past the end of their frames.

    From the bundle's own sounds with other z: what a player meets. Level is the RMS of the first second.
    """
    manifest = listener.bundle.manifest
    random = np.random.default_rng(seed)
    cents, levels = [], []
    for n in tqdm(range(count), "pitch", unit="note", disable=None):
        asked = Asked(
            random.standard_normal(manifest.latent_size, np.float32),
            np.asarray(manifest.presets[n % len(manifest.presets)].attributes, np.float32),
            float(random.uniform(*manifest.pitch_range_midi)),
            float(random.uniform(0.3, 1)),
            n,
        )
        audio = listener.sing(asked, HELD_S)
        cents.append(abs(pitch_cents(audio, SAMPLE_RATE_HZ, nominal_hz(asked.pitch_midi))))
        levels.append(level(audio[: round(HEARD_S * SAMPLE_RATE_HZ)]).rms_dbfs)
    off = np.array(cents)
    return {
        "pitch_cents": {
            "notes": count,
            "median": float(np.median(off)),
            "p95": float(np.quantile(off, 0.95)),
            "within_5": float((off <= 5).mean()),
        },
        "level_dbfs": dict(
            zip(("p5", "median", "p95"), map(float, np.quantile(levels, (0.05, 0.5, 0.95))), strict=True)
        ),
    }


def turn_knobs(listener: Listener, folder: Path, pairs: int, seed: int) -> dict[str, Any]:
    """Each attribute alone from 0 to 1 on ``pairs`` (z, pitch): how far the teacher's logit for it moves.

    In standard deviations of that logit over the held-out notes. Attributes are chosen on one half of the pairs
    (mean at least 0.5, 95 % interval above zero) and confirmed by the same rule on the other half. The control
    permutes which of the two notes of each pair counts as turned up: it must find none. The brightness column
    is the move of the spectral centroid at equal loudness, in octaves.
    """
    manifest = listener.bundle.manifest
    random = np.random.default_rng(seed + 1)
    notes, _ = _held_out(listener, folder, tuple(PARTS), pairs, random)
    notes = [notes[n % len(notes)] for n in range(pairs)]
    real = listener.hear_all(notes, lambda note: _real(folder, note), "labels").logits[:, listener.classes]
    spread = real.std(axis=0)
    labels = soft_label(real, manifest.temperature)
    z = random.standard_normal((pairs, manifest.latent_size), np.float32)
    knobs = Knobs(manifest.attributes, manifest.copula)
    names = [one.name for one in manifest.attributes]

    def moves(rows: range, which: Sequence[int], carry: bool, what: str) -> tuple[Doubles, Doubles]:
        """Logit moves in standard deviations and centroid moves in octaves, both (rows, attributes)."""
        asked = [
            Asked(
                z[row],
                knobs.vector(labels[row], {names[a]: setting}, carry),
                float(notes[row].pitch),
                notes[row].velocity / 127,
                row,
            )
            for row in rows
            for a in which
            for setting in (0.0, 1.0)
        ]
        heard = listener.hear_all(asked, lambda one: listener.sing(one, HEARD_S), what)
        shape = (len(rows), len(which), 2)
        columns = np.tile(np.repeat(listener.classes[list(which)], 2), len(rows))
        own = heard.logits[np.arange(len(asked)), columns].reshape(shape)
        centroid = np.log2(np.maximum(heard.centroid_hz, 1.0)).reshape(shape)
        return (own[..., 1] - own[..., 0]) / spread[list(which)], centroid[..., 1] - centroid[..., 0]

    first, second = range(pairs // 2), range(pairs // 2, pairs)
    found, _ = moves(first, range(len(names)), False, "choosing knobs")
    chosen = [a for a in range(len(names)) if _moved(found[:, a], random)]
    flipped = found * random.choice([-1.0, 1.0], found.shape)
    by_chance = [names[a] for a in range(len(names)) if _moved(flipped[:, a], random)]
    table: list[dict[str, Any]] = []
    if chosen:
        alone, brightness = moves(second, chosen, False, "confirming knobs")
        carried, _ = moves(second, chosen, True, "with the others carried")
        for column, a in enumerate(chosen):
            table.append(
                {
                    "name": names[a],
                    "chosen_on": interval(found[:, a], random),
                    "confirmed_on": interval(alone[:, column], random),
                    "confirmed": _moved(alone[:, column], random),
                    "carried": interval(carried[:, column], random),
                    "brightness_octaves": interval(brightness[:, column], random),
                }
            )
    table.sort(key=lambda row: -row["confirmed_on"][0])
    return {
        "pairs": pairs,
        "attributes": len(names),
        "chosen": len(chosen),
        "by_chance": by_chance,
        "table": table,
    }


def _moved(values: Doubles, random: np.random.Generator) -> bool:
    mean, low, _ = interval(values, random)
    return mean >= KNOB_MOVES_SD and low > 0


def interval(values: Doubles, random: np.random.Generator, draws: int = 2000) -> tuple[float, float, float]:
    """Mean of ``values`` (N,) and its 95 % bootstrap interval (percentiles of resampled means)."""
    means = values[random.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def frechet_distance(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Fréchet distance of two Gaussians fitted to embeddings (N, E) (Heusel et al. 2017; FAD: Kilgour et al. 2019).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)). Biased upwards at small N, so only distances of equal N compare.
    """
    mean = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The product of two covariances has real eigenvalues >= 0; rounding leaves specks of the rest.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0)).sum()
    return float(mean @ mean + np.trace(one) + np.trace(other) - 2 * roots)


def _held_out(
    listener: Listener, folder: Path, parts: Sequence[str], count: int, random: np.random.Generator
) -> tuple[list[Note], list[Note]]:
    """``count`` notes (or as many as there are) of these held-out parts, and as many that were trained on."""
    low, high = listener.bundle.manifest.pitch_range_midi
    notes = [note for note in read_notes(folder) if note.check == "ok" and low <= note.pitch <= high]
    rows = split(notes)
    unseen = [row for part in parts for row in rows[part]]
    if len(unseen) < 20:
        what = " or ".join(PARTS[part] for part in parts)
        raise DarkrackError(
            str(folder), f"at least 20 notes: {what}", str(len(unseen)), "evaluate on a larger set"
        )
    count = min(count, len(unseen), len(rows["train"]))
    unseen_notes, train = (
        [notes[row] for row in random.permutation(one)[:count]] for one in (unseen, rows["train"])
    )
    return unseen_notes, train


def _real(folder: Path, note: Note) -> FloatArray:
    """The first second of a real note at 48 kHz, resampled where the set has another rate."""
    audio = read_audio(folder, note, HEARD_S)
    if note.sample_rate == SAMPLE_RATE_HZ:
        return audio
    import soxr

    resampled: FloatArray = soxr.resample(audio, note.sample_rate, SAMPLE_RATE_HZ)
    return resampled


def _cosine(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Doubles:
    """Row by row."""
    return np.asarray((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)), np.float64)


def _correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Doubles:
    """Pearson's, column by column; 0 where a column does not vary."""
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.asarray(np.where(size > 0, (a * b).sum(0) / np.maximum(size, 1e-20), 0), np.float64)


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    knobs = figures["knobs"]
    yield f"{figures['teacher']} listens; {figures['date']}, {figures['machine']}."
    yield ""
    yield "| held out | measure | real | resynthesis | generated |"
    yield "|---|---|---|---|---|"
    for part in figures["held_out"]:
        name = f"{part['notes']} {PARTS[part['part']]} ({part['instruments']})"
        kinds = ("real", "resynthesis", "generated")
        distances = " | ".join(f"{part['frechet_distance'][kind]:.2f}" for kind in kinds)
        yield f"| {name} | Fréchet distance to as many training notes (the teacher's embedding) | {distances} |"
        cosines = " | ".join(_with_interval(part["likeness"][kind]) for kind in kinds[1:])
        yield f"| | cosine to the real note (mean, 95 %) | 1 | {cosines} |"
        means = {
            kind: np.array(part["correlation"][kind]) for kind in ("resynthesis", "generated", "permuted")
        }
        cells = " | ".join(
            f"{means[kind].mean():.2f}, {int((means[kind] > 0.3).sum())} of {len(means[kind])}"
            for kind in kinds[1:]
        )
        yield f"| | attribute correlation: mean, attributes over .3 | 1 | {cells} |"
        permuted = means["permuted"]
        yield f"| | the same with labels permuted | | | {permuted.mean():.2f}, {int((permuted > 0.3).sum())} |"
    pitch, levels = figures["pitch_cents"], figures["level_dbfs"]
    yield ""
    yield (
        f"Pitch of {pitch['notes']} notes held {HELD_S:g} s, asked anywhere in the range: median {pitch['median']:.2f} "
        f"cents off, 95 % within {pitch['p95']:.2f}, {100 * pitch['within_5']:.1f} % within 5 cents."
    )
    yield ""
    yield (
        f"Level (RMS of the first second): median {levels['median']:.1f} dBFS, "
        f"5 to 95 %: {levels['p5']:.1f} to {levels['p95']:.1f}."
    )
    yield ""
    yield (
        f"Knobs, each alone from 0 to 1 on {knobs['pairs']} held-out (z, pitch): {knobs['chosen']} of "
        f"{knobs['attributes']} move the teacher's logit by half a standard deviation on one half of the pairs, "
        f"{sum(row['confirmed'] for row in knobs['table'])} of these again on the other. "
        f"With turns permuted: {len(knobs['by_chance'])}."
    )
    yield ""
    yield "| knob | correlation | alone (s.d., 95 %) | others carried | brightness (octaves) | confirmed |"
    yield "|---|---|---|---|---|---|"
    measured = figures["held_out"][0]["correlation"]
    by_name = dict(zip(measured["attributes"], measured["generated"], strict=True))
    for row in knobs["table"]:
        moved = " | ".join(
            _with_interval(row[key]) for key in ("confirmed_on", "carried", "brightness_octaves")
        )
        confirmed = "yes" if row["confirmed"] else "no"
        yield f"| {row['name']} | {by_name[row['name']]:.2f} | {moved} | {confirmed} |"


def _with_interval(values: Sequence[float]) -> str:
    return f"{values[0]:.2f} ({values[1]:.2f} to {values[2]:.2f})"


def report(figures: dict[str, Any]) -> str:
    """The figures as Markdown, as they are printed and as they stand in a card."""
    return "\n".join(_lines(figures))


def update_card(bundle: Bundle, figures: dict[str, Any], text: str) -> None:
    """Rewrite the bundle with what was measured: the card's last section, each attribute's correlation, quality."""
    manifest = json.loads(bundle.files[bundles.MANIFEST])
    measured = figures["held_out"][0]["correlation"]
    for attribute, value in zip(manifest["attributes"], measured["generated"], strict=True):
        attribute["correlation"] = round(max(-1.0, min(1.0, value)), 3)
    manifest["quality"]["evaluation"] = {
        **{key: figures[key] for key in ("teacher", "date", "machine", "pitch_cents", "level_dbfs")},
        "frechet_distance": {one["part"]: one["frechet_distance"] for one in figures["held_out"]},
        "confirmed_knobs": [row["name"] for row in figures["knobs"]["table"] if row["confirmed"]],
    }
    head = bundle.card.split("## Measured")[0]
    how = f"By `darkrack evaluate`, through LiteRT ({manifest['default_variant']}) and the device's voices."
    card = f"{head}## Measured\n\n{how}\n\n{text}\n"
    files = {name: content for name, content in bundle.files.items() if name != bundles.MANIFEST}
    bundles.write(bundle.path, manifest, {**files, bundles.CARD: card.encode("utf-8")})
