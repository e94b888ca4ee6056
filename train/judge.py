"""The judge: figures of real notes, their resynthesis and voices, as one JSON document.

Every figure comes with a 95 % interval, and most with the control that says what it would be by chance. What each
measure is stands in docs/judging.md; `train.measures` has the mathematics, `train/evaluation.schema.json` the form.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import read_bytes, write_json
from device.generator import Asked
from device.knobs import Knobs
from device.partials import Partials, nominal_hz
from device.stft import NEPER_DB, Stft, full_scale_log
from train import measures
from train.dataset import encode_note, soft_label
from train.listener import SAMPLE_RATE_HZ, Heard, Held, Listener, Part
from train.measures import Estimate
from train.voice import Voice

FloatArray = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

REAL, RESYNTHESIS = "real", "resynthesis"
LEAST_COMPARED = 50  # notes of a part; fewer decide nothing
HELD_S = 2.0  # long enough for a pitch to a tenth of a cent, and past the note's own frames into the loop
KNOB_MOVES_SD = 0.5  # what a knob must do to count: half a standard deviation of the teacher's logit
SETTINGS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a knob whose monotonicity is measured
FAD_NOTES = 5000  # from here on a distance is taken as it is; below, it is extrapolated
DELTA_FROM, DELTA_TO = 1e-3, 10**0.6  # out-of-distribution steps (DarkGAN, figure 2)
CURVE = {"out_of_distribution": "correlation", "increments": "change"}
INCREMENT_TO = 5.0  # (DarkGAN, figure 3: k / 5 up to k = 25)

# Bounds of the verdict: docs/judging.md shows how far a healthy voice is from each, and a planted fault beyond it.
LEAST_DIVERSITY = 0.3  # share of what real notes of the same attributes and pitch differ by
LEAST_PAIRS = 10  # of notes that are held out soft and hard
TOUCH = 40  # of 127 velocities, from the softest to the hardest: a third of the range
LEAST_OVER_CHANCE = 0.05  # mean attribute correlation beyond the permuted control's
MOST_CENTS = 5.0  # median
MOST_LOST_DB = 3.0  # between the frames of a voice and those of its parent


@dataclass(frozen=True)
class Effort:
    """How much is listened to. ``notes``: per part and kind; the other counts are of the measure they name.

    ``asked`` notes for the correlation of attributes, ``held`` for pitch, ``pairs`` of (z, pitch) for knobs,
    ``twins`` for diversity, ``encoded`` for leakage; ``beyond``: out-of-distribution steps, ``raised``: increments
    (attributes, notes of each, steps).
    """

    name: str
    notes: int
    asked: int
    held: int
    pairs: int
    twins: int
    encoded: int
    beyond: tuple[int, int, int]
    raised: tuple[int, int, int]


EFFORTS = {
    "quick": Effort("quick", 300, 400, 100, 0, 100, 400, (0, 0, 0), (0, 0, 0)),
    "standard": Effort("standard", 5000, 1000, 200, 200, 200, 1000, (12, 60, 10), (12, 40, 11)),
    # The paper's own counts (section 5), where it gives them.
    "paper": Effort("paper", 5000, 10_000, 1000, 400, 1000, 5000, (128, 1000, 51), (50, 100, 26)),
}


class Kept:
    """Figures as they are found, on disk in ``path``: a judgement that was stopped goes on where it was.

    What is drawn for a figure depends on the seed and on what is measured, not on which were found before, nor on whose
    figure it is: voices are asked for the same notes.
    """

    def __init__(self, path: Path | None, seed: int) -> None:
        self._path, self._seed = path, seed
        self._found: dict[str, Any] = {}
        if path and path.exists():
            try:
                self._found = json.loads(read_bytes(path, "figures of a judgement that was stopped"))
            except ValueError as error:
                hint = "delete it to start again"
                raise DarkrackError(str(path), "figures that a judgement left", str(error), hint) from error

    def random(self, what: str) -> np.random.Generator:
        """The generator that belongs to a measure."""
        return np.random.default_rng([self._seed, zlib.crc32(what.encode())])

    def has(self, whose: str, what: str) -> bool:
        """Whether it was found before."""
        return f"{whose}: {what}" in self._found

    def __call__(self, whose: str, what: str, find: Callable[[np.random.Generator], Any]) -> Any:
        """``find(random)``, or what it found before."""
        name = f"{whose}: {what}"
        if name not in self._found:
            self._found[name] = find(self.random(what))
            if self._path:
                write_json(self._path, self._found)
        return self._found[name]

    def finish(self) -> None:
        """All was found: nothing is left on disk."""
        if self._path:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Known:
    """Held-out notes whose labels are asked of voices, and how they sound to the ears as they are."""

    notes: list[Held]
    real: Heard
    spread: dict[str, FloatArray]  # s.d. (C,) of each ear's logits

    def some(self, count: int) -> list[Held]:
        """``count`` of the notes, from the first on and round again."""
        return [self.notes[n % len(self.notes)] for n in range(count)]


def judge(
    listener: Listener,
    parts: Sequence[Part],
    everything: Sequence[Held],
    voices: Sequence[Voice],
    *,
    attributes: Sequence[tuple[str, str]],
    grid: Partials | Stft,
    effort: Effort,
    kept: Kept,
) -> dict[str, Any]:
    """``parts`` and ``subjects`` of the document: real, resynthesis and each voice on every held-out part.

    ``everything`` are all held-out notes, whose labels are asked where a measure is of attributes; ``attributes``
    (name, teacher) are those whose ceiling real and resynthesised notes show.
    """

    def resynthesis(held: Held) -> FloatArray:
        return listener.resynthesis(held, grid)

    by_part = {part.name: _on_part(listener, part, voices, resynthesis, kept) for part in parts}
    order = kept.random("held-out notes").permutation(len(everything))
    notes = [everything[n] for n in order[: max(effort.asked, effort.encoded)]]
    real = listener.hear(notes, listener.real, "real", list(listener.ears))
    known = Known(notes, real, {ear: logits.std(axis=0) for ear, logits in real.logits.items()})
    asked = np.stack([listener.asked_logits(held, attributes) for held in notes])

    def ceiling(kind: str) -> Any:
        def find(random: np.random.Generator) -> list[dict[str, Any]]:
            heard = (
                real if kind == REAL else listener.hear(notes, resynthesis, RESYNTHESIS, list(listener.ears))
            )
            return _correlations(
                listener, attributes, asked, heard.logits, groups=_groups(notes), random=random
            )

        return kept(kind, "attributes", find)

    def figures_of(name: str) -> dict[str, Any]:
        return {part: figures[name] for part, figures in by_part.items()}

    subjects = [
        {**_subject(kind, kind, figures_of(kind)), "attributes": ceiling(kind)}
        for kind in (REAL, RESYNTHESIS)
    ]
    for voice in voices:
        # A trimmed network was trained further, so its notes are not its parent's.
        made_from = (voice.recipe_sha256, voice.parameters)
        parent = next(one for one in voices if (one.recipe_sha256, one.parameters) == made_from)
        subjects.append(
            {
                **_subject(voice.name, voice.kind, figures_of(voice.name)),
                "path": str(voice.path),
                "fault": voice.fault,
                "trained_by": ", ".join(sorted(set(voice.trained_by))),
                **_voice_figures(listener, voice, parent, known, effort=effort, kept=kept),
            }
        )
    return {
        "parts": [
            {
                "part": part.name,
                "title": part.title,
                "notes": len(part.notes),
                "instruments": len({held.note.instrument_str for held in part.notes}),
                "reference_notes": len(part.reference),
                "reference": part.compared_with,
            }
            for part in parts
        ],
        "subjects": subjects,
    }


# --- what any subject has --------------------------------------------------------------------------------


def _on_part(
    listener: Listener,
    part: Part,
    voices: Sequence[Voice],
    resynthesis: Callable[[Held], FloatArray],
    kept: Kept,
) -> dict[str, Any]:
    """Figures of real notes, resynthesis and each voice on one part, by name."""
    names = [REAL, RESYNTHESIS, *(voice.name for voice in voices)]
    if not all(kept.has(name, part.name) for name in names):
        reference = listener.hear(part.reference, listener.real, f"{part.name}: to compare with")
        real = listener.hear(part.notes, listener.real, f"{part.name}: real")
        groups = _groups([*part.notes, *part.reference])  # numbered alike

        def figures_of(hear: Callable[[], Heard]) -> Callable[[np.random.Generator], dict[str, Any]]:
            return lambda random: _part_figures(hear(), real, reference, groups=groups, random=random)

        def sing(voice: Voice) -> Callable[[], Heard]:
            asked = asked_for(listener, voice, part.notes, kept.random(f"{part.name}: z"))
            return lambda: listener.hear_voice(voice, asked, part.name)

        kept(REAL, part.name, figures_of(lambda: real))
        again = f"{part.name}: {RESYNTHESIS}"
        kept(RESYNTHESIS, part.name, figures_of(lambda: listener.hear(part.notes, resynthesis, again)))
        for voice in voices:
            kept(voice.name, part.name, figures_of(sing(voice)))
    return {name: kept(name, part.name, lambda _: None) for name in names}


def _part_figures(
    heard: Heard,
    real: Heard,
    reference: Heard,
    *,
    groups: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> dict[str, Any]:
    """Distances, scores, level of one subject on one part; ``groups`` number instruments of notes, then reference."""
    groups, groups_of_reference = groups[: len(heard.level_dbfs)], groups[len(heard.level_dbfs) :]
    frechet, plain, kernel, likeness = {}, {}, {}, {}
    for ear, embeddings in heard.embeddings.items():
        other = reference.embeddings[ear]
        plain[ear] = measures.frechet_distance(other, embeddings)
        estimate = measures.frechet_unbounded(
            other, embeddings, random, groups=groups, groups_a=groups_of_reference
        )
        unbounded = len(embeddings) < FAD_NOTES
        if not unbounded:  # many enough: the distance as it is, with the interval around it
            estimate = Estimate(*(plain[ear] + (end - estimate.value) for end in estimate))
        frechet[ear] = {"estimate": list(estimate), "notes": len(embeddings), "unbounded": unbounded}
        kernel[ear] = list(measures.kernel_distance(other, embeddings, random))
        likeness[ear] = list(
            measures.bootstrap(measures.cosine(real.embeddings[ear], embeddings), random, groups)
        )
    return {
        "frechet": frechet,
        "frechet_at_n": plain,
        "kernel": kernel,
        "pis": None if heard.pitch is None else list(measures.inception_score(heard.pitch, random, groups)),
        "iis": None if heard.family is None else list(measures.inception_score(heard.family, random, groups)),
        "likeness": None if heard is real else likeness,
        "level_dbfs": [float(value) for value in np.quantile(heard.level_dbfs, (0.05, 0.5, 0.95))],
    }


def _subject(name: str, kind: str, parts: dict[str, Any]) -> dict[str, Any]:
    nothing = (
        "attributes",
        "out_of_distribution",
        "increments",
        "pitch",
        "diversity",
        "leakage",
        "velocity",
        "hop",
        "knobs",
    )
    return {
        "name": name,
        "kind": kind,
        "path": None,
        "fault": None,
        "trained_by": None,
        "parts": parts,
        **dict.fromkeys(nothing),
        "notes": [],
    }


def _correlations(
    listener: Listener,
    attributes: Sequence[tuple[str, str]],
    asked: FloatArray,
    logits: dict[str, FloatArray],
    *,
    groups: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> list[dict[str, Any]]:
    """Per attribute: what was asked (N, A, logits) against what its teacher heard, and what another ear heard."""
    own = np.stack(
        [logits[teacher][:, listener.column(teacher, name)] for name, teacher in attributes], axis=1
    )
    found = measures.correlation_estimates(asked, own, random, groups)
    probability = measures.correlation_estimates(soft_label(asked, 1.0), soft_label(own, 1.0), random, groups)
    permuted = measures.correlation_estimates(asked[random.permutation(len(asked))], own, random, groups)
    others: list[dict[str, list[float]]] = [{} for _ in attributes]
    for ear in listener.ears:
        shared = [
            n for n, (name, teacher) in enumerate(attributes) if ear != teacher and listener.knows(ear, name)
        ]
        if shared:
            theirs = logits[ear][:, [listener.column(ear, attributes[n][0]) for n in shared]]
            for n, row in zip(
                shared, measures.correlation_estimates(asked[:, shared], theirs, random, groups), strict=True
            ):
                others[n][ear] = [float(value) for value in row]
    return [
        {
            "name": name,
            "teacher": teacher,
            "probability": [float(value) for value in probability[n]],
            "logit": [float(value) for value in found[n]],
            "permuted": [float(value) for value in permuted[n]],
            "other_ear": others[n],
        }
        for n, (name, teacher) in enumerate(attributes)
    ]


# --- what only a voice has -------------------------------------------------------------------------------


def asked_for(
    listener: Listener,
    voice: Voice,
    notes: Sequence[Held],
    random: np.random.Generator,
    pitch_midi: Doubles | None = None,
) -> list[Asked]:
    """A note for the labels, pitch and velocity of each of ``notes``; z is drawn; ``pitch_midi`` replaces pitch."""
    return [
        Asked(
            random.standard_normal(voice.latent_size, np.float32),
            soft_label(listener.asked_logits(held, voice.named()), voice.temperature),
            float(held.note.pitch if pitch_midi is None else pitch_midi[n]),
            held.note.velocity / 127,
            n,
        )
        for n, held in enumerate(notes)
    ]


def _voice_figures(
    listener: Listener, voice: Voice, parent: Voice, known: Known, *, effort: Effort, kept: Kept
) -> dict[str, Any]:
    """What is measured of a voice on its own."""

    def find(what: str, measure: Callable[..., Any], *asked: Any) -> Any:
        return kept(voice.name, what, lambda random: measure(listener, voice, *asked, random))

    notes = []
    attributes = find("attributes", _asked_and_heard, known.some(effort.asked))
    best = sorted(range(len(attributes)), key=lambda n: -attributes[n]["logit"][0])
    figures: dict[str, Any] = {
        "attributes": attributes,
        "pitch": find("pitch", _pitch, effort.held),
        "hop": None if parent is voice else find("hop", _hop, parent, known.some(50)),
    }
    try:
        figures["diversity"] = find("diversity", _diversity, known, effort.twins)
    except DarkrackError as error:
        if error.where != "diversity":
            raise
        notes.append(f"diversity: needs {error.expected}, there are {error.got}")
    pairs = touched(known)
    if len(pairs) < LEAST_PAIRS:
        notes.append(
            f"velocity: needs {LEAST_PAIRS} notes held out both soft and hard, there are {len(pairs)}"
        )
    else:
        figures["velocity"] = find("velocity", _velocity, known, pairs)
    if voice.latent is None:
        notes.append("leakage: needs a run, a bundle has no encoder")
    else:
        figures["leakage"] = find("leakage", _leakage, known.some(min(effort.encoded, len(known.notes))))
    for name, what, (count, notes_each, steps) in (
        ("out_of_distribution", _beyond, effort.beyond),
        ("increments", _raised, effort.raised),
    ):
        if count:
            each = known.some(notes_each)
            curves = [find(f"{name}: {voice.attributes[a].name}", what, a, each, steps) for a in best[:count]]
            curve = _curve(curves, notes_each, kept.random(name))
            figures[name] = {CURVE[name] if key == "value" else key: one for key, one in curve.items()}
        else:
            notes.append(f"{name.replace('_', ' ')}: not measured with --{effort.name}")
    if effort.pairs:
        figures["knobs"] = find("knobs", turn_knobs, known.some(effort.pairs), known.spread)
    else:
        notes.append(f"knobs: not measured with --{effort.name}")
    return {**figures, "notes": notes}


def _asked_and_heard(
    listener: Listener, voice: Voice, notes: Sequence[Held], random: np.random.Generator
) -> list[dict[str, Any]]:
    """Attribute correlation; the pitch is drawn independently, so that it cannot stand in for the attributes."""
    pitch_midi = random.uniform(*voice.pitch_range_midi, len(notes))
    asked = asked_for(listener, voice, notes, random, pitch_midi)
    heard = listener.hear_voice(voice, asked, "attributes", list(listener.ears))
    logits = np.stack([listener.asked_logits(held, voice.named()) for held in notes])
    return _correlations(listener, voice.named(), logits, heard.logits, groups=_groups(notes), random=random)


def _pitch(listener: Listener, voice: Voice, count: int, random: np.random.Generator) -> dict[str, Any]:
    """Cents off of notes asked anywhere in the range, held past their frames: the bundle's own sounds, other z."""
    asked = [
        Asked(
            random.standard_normal(voice.latent_size, np.float32),
            np.asarray(voice.presets[n % len(voice.presets)].attributes, np.float32),
            float(random.uniform(*voice.pitch_range_midi)),
            float(random.uniform(0.3, 1)),
            n,
        )
        for n in range(count)
    ]
    audio = np.stack(
        [listener.sing(voice, one, HELD_S) for one in tqdm(asked, f"{voice.name}: pitch", disable=None)]
    )
    nominal = np.array([nominal_hz(one.pitch_midi) for one in asked])
    cents, octave = measures.pitch_errors(audio, SAMPLE_RATE_HZ, nominal)
    off = np.abs(cents)
    return {
        "notes": count,
        "median_cents": list(measures.bootstrap_median(off, random)),
        "p95_cents": float(np.quantile(off, 0.95)),
        "within_5": list(measures.bootstrap((off <= 5) & ~octave, random)),
        "within_10": list(measures.bootstrap((off <= 10) & ~octave, random)),
        "octave_errors": int(octave.sum()),
    }


def _diversity(
    listener: Listener, voice: Voice, known: Known, count: int, random: np.random.Generator
) -> dict[str, Any]:
    """How far two notes of the same attributes and pitch are apart, beside real ones. By an ear that did not train."""
    ear = next((name for name in listener.ears if name not in voice.trained_by), next(iter(listener.ears)))
    first = asked_for(listener, voice, known.some(count), random)
    second = [
        dataclasses.replace(
            one, z=random.standard_normal(voice.latent_size, np.float32), noise_seed=10_000 + n
        )
        for n, one in enumerate(first)
    ]
    both = [
        listener.hear_voice(voice, asked, "diversity", [ear]).embeddings[ear] for asked in (first, second)
    ]
    scores = np.stack([listener.asked_logits(held, voice.named()) for held in known.notes])
    found = measures.diversity(
        both[0],
        both[1],
        known.real.embeddings[ear],
        np.array([held.note.pitch for held in known.notes]),
        scores,
        random,
        groups=_groups(known.notes),
    )
    return {"ear": ear, **{name: list(getattr(found, name)) for name in ("generated", "real", "share")}}


def touched(known: Known) -> list[tuple[int, int]]:
    """Of the notes that are held out soft and hard, at least TOUCH apart: which is the softest, which the hardest."""
    by_key: dict[tuple[str, int], list[int]] = {}
    for n, held in enumerate(known.notes):
        by_key.setdefault((held.note.instrument_str, held.note.pitch), []).append(n)
    found = []
    for rows in by_key.values():
        soft, *_, hard = sorted([rows[0], *rows], key=lambda n: known.notes[n].note.velocity)
        if known.notes[hard].note.velocity - known.notes[soft].note.velocity >= TOUCH:
            found.append((soft, hard))
    return found


def _velocity(
    listener: Listener,
    voice: Voice,
    known: Known,
    pairs: Sequence[tuple[int, int]],
    random: np.random.Generator,
) -> dict[str, Any]:
    """How far the spectral centroid goes, in octaves, from a soft touch to a hard one, beside the same notes for real.

    Attributes and z stay: a player who touches harder turns no knob.
    """
    soft = asked_for(listener, voice, [known.notes[n] for n, _ in pairs], random)
    hard = [
        dataclasses.replace(one, velocity=known.notes[n].note.velocity / 127)
        for one, (_, n) in zip(soft, pairs, strict=True)
    ]
    heard = [
        np.log2(np.maximum(listener.hear_voice(voice, asked, "velocity", []).centroid_hz, 1.0))
        for asked in (soft, hard)
    ]
    real = np.log2(np.maximum(known.real.centroid_hz, 1.0))
    places = np.array(pairs)
    groups = _groups([known.notes[n] for n, _ in pairs])
    return {
        "pairs": len(pairs),
        "generated": list(measures.bootstrap(heard[1] - heard[0], random, groups)),
        "real": list(measures.bootstrap(real[places[:, 1]] - real[places[:, 0]], random, groups)),
    }


def _leakage(
    listener: Listener, voice: Voice, notes: Sequence[Held], random: np.random.Generator
) -> list[float]:
    """R^2 of a probe that predicts what attributes a real note has from the encoder's z of it."""
    assert voice.latent is not None
    logits = np.stack([listener.asked_logits(held, voice.named()) for held in notes])
    frames = np.stack([encode_note(held.folder, held.note, voice.grid) for held in notes])
    z = voice.latent(
        frames,
        soft_label(logits, voice.temperature),
        [held.note.pitch for held in notes],
        [held.note.velocity / 127 for held in notes],
    )
    return list(measures.leakage(z, logits, random, groups=_groups(notes)))


def _hop(
    listener: Listener, voice: Voice, parent: Voice, notes: Sequence[Held], random: np.random.Generator
) -> dict[str, Any] | None:
    """How far the levels of sounding rows are from those of the same notes by the voice it was made from, in dB.

    None where that voice is silent.
    """
    lost = []
    for asked in asked_for(listener, voice, notes, random):
        mine, theirs = voice.note(asked)[0], parent.note(asked)[0]
        # 60 dB under full scale, where a floor of -100 dB is level 0
        least, unit_db = 0.4, -voice.grid.floor_db if isinstance(voice.grid, Partials) else NEPER_DB
        if isinstance(voice.grid, Stft):
            least = full_scale_log(voice.grid) - 60 / NEPER_DB
        sounding = theirs > least
        if sounding.any():
            lost.append(np.sqrt(np.mean((mine - theirs)[sounding] ** 2)) * unit_db)
    if not lost:
        return None
    return {"parent": parent.name, "log_spectral_db": list(measures.bootstrap(np.array(lost), random))}


def _beyond(  # noqa: PLR0917 (as every measure: who, what, how much, random)
    listener: Listener,
    voice: Voice,
    attribute: int,
    notes: Sequence[Held],
    steps: int,
    random: np.random.Generator,
) -> dict[str, list[float]]:
    """Out-of-distribution correlation: one attribute's soft label plus delta, against what its teacher hears.

    Pearson's correlation with the logit heard, for each delta (DarkGAN, section 5, figure 2).
    """
    deltas = np.geomspace(DELTA_FROM, DELTA_TO, steps)
    pitch_midi = random.uniform(*voice.pitch_range_midi, len(notes))  # as in `_asked_and_heard`
    base = asked_for(listener, voice, notes, random, pitch_midi)
    heard = _raised_by(listener, voice, attribute, base, deltas)
    want = np.stack([listener.asked_logits(held, [voice.named()[attribute]]) for held in notes])
    return {"delta": deltas.tolist(), "value": measures.correlation(np.tile(want, steps), heard.T).tolist()}


def _raised(  # noqa: PLR0917 (see `_beyond`)
    listener: Listener,
    voice: Voice,
    attribute: int,
    notes: Sequence[Held],
    steps: int,
    random: np.random.Generator,
) -> dict[str, list[float]]:
    """Increment consistency: how far the teacher's logit moves when one soft label is raised by delta.

    In standard deviations of its logits without increment (DarkGAN, section 5, figure 3).
    """
    deltas = np.linspace(0.0, INCREMENT_TO, steps)
    heard = _raised_by(listener, voice, attribute, asked_for(listener, voice, notes, random), deltas)
    moved = (heard - heard[0]).mean(axis=1) / max(float(heard[0].std()), 1e-6)
    return {"delta": deltas.tolist(), "value": moved.tolist()}


def _raised_by(
    listener: Listener, voice: Voice, attribute: int, base: Sequence[Asked], deltas: Doubles
) -> FloatArray:
    """(deltas, notes) logits that an attribute's teacher hears when its soft label is raised."""
    name, teacher = voice.named()[attribute]
    asked = [_with(one, attribute, one.attributes[attribute] + delta) for delta in deltas for one in base]
    heard = listener.hear_voice(voice, asked, f"raised, {name}", [teacher])
    return heard.logits[teacher][:, listener.column(teacher, name)].reshape(len(deltas), len(base))


def _curve(
    curves: Sequence[dict[str, list[float]]], notes: int, random: np.random.Generator
) -> dict[str, Any]:
    """The mean over attributes at each delta; its interval redraws attributes."""
    values = np.array([one["value"] for one in curves])
    spread = np.array([measures.bootstrap(column, random) for column in values.T])
    return {
        "delta": curves[0]["delta"],
        "value": spread[:, 0].tolist(),
        "low": spread[:, 1].tolist(),
        "high": spread[:, 2].tolist(),
        "attributes": len(curves),
        "notes": notes,
    }


def _with(asked: Asked, attribute: int, label: float) -> Asked:
    labels = asked.attributes.copy()
    labels[attribute] = label
    return dataclasses.replace(asked, attributes=labels)


def turn_knobs(
    listener: Listener,
    voice: Voice,
    notes: Sequence[Held],
    spread: dict[str, FloatArray],
    random: np.random.Generator,
) -> dict[str, Any]:
    """Each attribute alone from 0 to 1 on a (z, pitch) for each of ``notes``: how far its teacher's logit moves.

    In standard deviations of that logit over real notes (``spread``, (C,) by ear). Attributes are chosen on one half
    of the notes (mean at least 0.5, 95 % interval above zero) and confirmed by the same rule on the other half. The
    control permutes which of the two notes of each pair counts as turned up: it must find none.
    ``brightness_octaves`` is the move of the spectral centroid at equal loudness; ``other_ear`` the move of another
    ear's class of the same name.
    """
    named = voice.named()
    knobs = Knobs(voice.attributes, voice.copula)
    base = asked_for(listener, voice, notes, random)
    ears = {
        a: [t, *(ear for ear in listener.ears if ear != t and listener.knows(ear, n))]
        for a, (n, t) in enumerate(named)
    }

    def turned(
        rows: range, which: Sequence[int], settings: Sequence[float], carry: bool, what: str
    ) -> dict[Any, Doubles]:
        """Logits in standard deviations by (attribute, ear), and octaves of centroid by attribute: (rows, settings)."""
        asked = [
            dataclasses.replace(
                base[row], attributes=knobs.vector(base[row].attributes, {named[a][0]: setting}, carry)
            )
            for a in which
            for row in rows
            for setting in settings
        ]
        heard = listener.hear_voice(voice, asked, what, list(listener.ears))
        shape = (len(which), len(rows), len(settings))
        centroid = np.log2(np.maximum(heard.centroid_hz, 1.0)).reshape(shape)
        found: dict[Any, Doubles] = {a: centroid[n] for n, a in enumerate(which)}
        for n, a in enumerate(which):
            for ear in ears[a]:
                column = listener.column(ear, named[a][0])
                found[a, ear] = heard.logits[ear][:, column].reshape(shape)[n] / max(
                    float(spread[ear][column]), 1e-6
                )
        return found

    half = len(base) // 2
    first, second = range(half), range(half, len(base))
    tried = turned(first, range(len(named)), (0.0, 1.0), False, "choosing knobs")
    moves = np.stack([_whole(tried[a, named[a][1]]) for a in range(len(named))], axis=1)
    chosen = [a for a in range(len(named)) if _moved(moves[:, a], random)]
    flipped = moves * random.choice([-1.0, 1.0], moves.shape)
    by_chance = [named[a][0] for a in range(len(named)) if _moved(flipped[:, a], random)]
    table: list[dict[str, Any]] = []
    if chosen:
        alone = turned(second, chosen, SETTINGS, False, "confirming knobs")
        carried = turned(second, chosen, (0.0, 1.0), True, "with the others carried")
        for a in chosen:
            name, teacher = named[a]
            spearman, rising = measures.monotonicity(alone[a, teacher])
            move = _whole(alone[a, teacher])
            table.append(
                {
                    "name": name,
                    "chosen_on": list(measures.bootstrap(moves[:, a], random)),
                    "confirmed_on": list(measures.bootstrap(move, random)),
                    "confirmed": _moved(move, random),
                    "other_ear": {
                        ear: list(measures.bootstrap(_whole(alone[a, ear]), random))
                        for ear in ears[a]
                        if ear != teacher
                    },
                    "carried": list(measures.bootstrap(_whole(carried[a, teacher]), random)),
                    "brightness_octaves": list(measures.bootstrap(_whole(alone[a]), random)),
                    "monotonicity": list(measures.bootstrap(spearman, random)),
                    "rising": list(measures.bootstrap(rising, random)),
                }
            )
    table.sort(key=lambda row: -row["confirmed_on"][0])
    return {
        "pairs": len(base),
        "attributes": len(named),
        "chosen": len(chosen),
        "by_chance": by_chance,
        "table": table,
    }


def _whole(curves: Doubles) -> Doubles:
    """(N,) from the first setting to the last."""
    return curves[:, -1] - curves[:, 0]


def _moved(values: Doubles, random: np.random.Generator) -> bool:
    mean, low, _ = measures.bootstrap(values, random)
    return mean >= KNOB_MOVES_SD and low > 0


def _groups(notes: Sequence[Held]) -> npt.NDArray[np.int64]:
    """A number for each note's instrument, for intervals that redraw whole instruments."""
    return np.unique([held.note.instrument_str for held in notes], return_inverse=True)[1].astype(np.int64)


def verdict(subjects: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The faults that the figures give away, each with the measure that does, as a person would name them."""
    found = []

    def name(subject: dict[str, Any], fault: str, measure: str) -> None:
        found.append({"subject": subject["name"], "fault": fault, "measure": measure})

    for subject in subjects:
        before = len(found)
        share = subject["diversity"] and subject["diversity"]["share"]
        if share and share[2] < LEAST_DIVERSITY:
            name(subject, "z changes nothing", f"diversity share {share[0]:.2f}, bound {LEAST_DIVERSITY}")
        if subject["attributes"] and subject["kind"] not in (REAL, RESYNTHESIS):
            logit = np.mean([one["logit"][0] for one in subject["attributes"]])
            chance = np.mean([one["permuted"][0] for one in subject["attributes"]])
            if logit - chance < LEAST_OVER_CHANCE:
                name(
                    subject,
                    "attributes do not do what they say",
                    f"mean attribute correlation {logit:.2f}, permuted {chance:.2f}, bound {LEAST_OVER_CHANCE} apart",
                )
        cents = subject["pitch"] and subject["pitch"]["median_cents"]
        if cents and cents[1] > MOST_CENTS:
            name(subject, "out of tune", f"pitch: median {cents[0]:.1f} cents, bound {MOST_CENTS:g}")
        lost = subject["hop"] and subject["hop"]["log_spectral_db"]
        # What has another fault differs from its parent by that.
        if lost and lost[1] > MOST_LOST_DB and len(found) == before:
            name(
                subject,
                "lost on the way from its parent (quantization)",
                f"levels {lost[0]:.1f} dB off those of {subject['hop']['parent']}, bound {MOST_LOST_DB:g}",
            )
    return found
