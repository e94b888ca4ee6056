"""The judge: figures of real notes, their resynthesis and voices, as one JSON document.

Every figure comes with a 95 % interval, and most with the control that says what it would be by chance. What each
measure is stands in docs/judging.md; `train.measures` has the mathematics, `train/evaluation.schema.json` the form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device.errors import DarkrackError
from device.generator import Asked
from device.knobs import Knobs
from device.partials import Partials, nominal_hz
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
INCREMENT_TO = 5.0  # (DarkGAN, figure 3: k / 5 up to k = 25)

# Bounds of the verdict: docs/judging.md shows how far a healthy voice is from each, and a planted fault beyond it.
LEAST_DIVERSITY = 0.3  # share of what real notes of the same attributes and pitch differ by
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


def judge(
    listener: Listener,
    parts: Sequence[Part],
    everything: Sequence[Held],
    voices: Sequence[Voice],
    *,
    attributes: Sequence[tuple[str, str]],
    grid: Partials,
    effort: Effort,
    seed: int,
) -> dict[str, Any]:
    """``parts`` and ``subjects`` of the document: real, resynthesis and each voice on every held-out part.

    ``everything`` are all held-out notes, whose labels are asked where a measure is of attributes; ``attributes``
    (name, teacher) are those whose ceiling real and resynthesised notes show.
    """
    names = [REAL, RESYNTHESIS, *(voice.name for voice in voices)]
    by_part: dict[str, dict[str, Any]] = {name: {} for name in names}
    ceiling: dict[str, list[Heard]] = {REAL: [], RESYNTHESIS: []}
    for part in parts:
        random = np.random.default_rng(seed + 1)
        reference = listener.hear(part.reference, listener.real, f"{part.name}: to compare with")
        real = listener.hear(part.notes, listener.real, f"{part.name}: real")
        once = listener.hear(
            part.notes, lambda held: listener.resynthesis(held, grid), f"{part.name}: resynthesis"
        )
        heard = {REAL: real, RESYNTHESIS: once}
        for kind, one in ceiling.items():
            one.append(heard[kind])
        for voice in voices:
            asked = asked_for(listener, voice, part.notes, np.random.default_rng(seed + 2))
            heard[voice.name] = listener.hear_voice(voice, asked, part.name)
        groups = _groups([*part.notes, *part.reference])  # numbered alike
        for name, found in heard.items():
            by_part[name][part.name] = _part_figures(
                found, real, reference, groups=groups, is_real=name == REAL, random=random
            )
    subjects = [
        _real_subject(
            kind, by_part[kind], parts, ceiling[kind], listener=listener, attributes=attributes, seed=seed
        )
        for kind in (REAL, RESYNTHESIS)
    ]
    spread = {
        ear: np.concatenate([one.logits[ear] for one in ceiling[REAL]]).std(axis=0) for ear in listener.ears
    }
    for voice in voices:
        parent = next((one for one in voices if one.recipe_sha256 == voice.recipe_sha256), voice)
        subjects.append(
            {
                **_subject(voice.name, voice.kind, by_part[voice.name]),
                "path": str(voice.path),
                "fault": voice.fault,
                "trained_by": ", ".join(sorted(set(voice.trained_by))),
                **_voice_figures(
                    listener, voice, parent, everything, spread=spread, effort=effort, seed=seed
                ),
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


def _part_figures(
    heard: Heard,
    real: Heard,
    reference: Heard,
    *,
    groups: npt.NDArray[np.int64],
    is_real: bool,
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
        likeness[ear] = list(measures.bootstrap(_cosine(real.embeddings[ear], embeddings), random, groups))
    return {
        "frechet": frechet,
        "frechet_at_n": plain,
        "kernel": kernel,
        "pis": None if heard.pitch is None else list(measures.inception_score(heard.pitch, random, groups)),
        "iis": None if heard.family is None else list(measures.inception_score(heard.family, random, groups)),
        "likeness": None if is_real else likeness,
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


def _real_subject(
    kind: str,
    figures: dict[str, Any],
    parts: Sequence[Part],
    heard: Sequence[Heard],
    *,
    listener: Listener,
    attributes: Sequence[tuple[str, str]],
    seed: int,
) -> dict[str, Any]:
    """Real or resynthesised notes: the most that an ear could find of the labels that a voice is asked for."""
    random = np.random.default_rng(seed + 3)
    # Of the set itself, as voices are asked for.
    own = [n for n, part in enumerate(parts) if part.name != "another_set"]
    notes = [held for n in own for held in parts[n].notes]
    logits = {ear: np.concatenate([heard[n].logits[ear] for n in own]) for ear in listener.ears}
    groups = _groups(notes)
    return {
        **_subject(kind, kind, figures),
        "attributes": _correlations(
            listener,
            attributes,
            np.stack([listener.asked_logits(held, attributes) for held in notes]),
            logits,
            groups=groups,
            random=random,
        ),
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
    listener: Listener,
    voice: Voice,
    parent: Voice,
    everything: Sequence[Held],
    *,
    spread: dict[str, FloatArray],
    effort: Effort,
    seed: int,
) -> dict[str, Any]:
    """What is measured of a voice on its own; ``spread`` is the s.d. (C,) of each ear's logits of real notes."""
    random = np.random.default_rng(seed + 4)
    drawn = [everything[n] for n in random.permutation(len(everything))]

    def some(count: int) -> list[Held]:
        return [drawn[n % len(drawn)] for n in range(count)]

    notes = []
    attributes = _asked_and_heard(listener, voice, some(effort.asked), random)
    best = sorted(range(len(attributes)), key=lambda n: -attributes[n]["logit"][0])
    figures: dict[str, Any] = {
        "attributes": attributes,
        "pitch": _pitch(listener, voice, effort.held, random),
        "diversity": None,
        "hop": None if parent is voice else _hop(voice, parent, listener, some(50), random),
    }
    try:
        figures["diversity"] = _diversity(listener, voice, some(effort.twins), everything, random)
    except DarkrackError as error:
        if error.where != "diversity":
            raise
        notes.append(f"diversity: needs {error.expected}, there are {error.got}")
    if voice.latent is None:
        notes.append("leakage: needs a run, a bundle has no encoder")
    else:
        figures["leakage"] = _leakage(listener, voice, some(min(effort.encoded, len(drawn))), random)
    for name, what, counts in (
        ("out_of_distribution", _beyond, effort.beyond),
        ("increments", _raised, effort.raised),
    ):
        if counts[0]:
            figures[name] = what(
                listener, voice, best[: counts[0]], some(counts[1]), steps=counts[2], random=random
            )
        else:
            notes.append(f"{name.replace('_', ' ')}: not measured with --{effort.name}")
    if effort.pairs:
        figures["knobs"] = turn_knobs(listener, voice, some(effort.pairs), spread, random)
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
    listener: Listener,
    voice: Voice,
    notes: Sequence[Held],
    everything: Sequence[Held],
    random: np.random.Generator,
) -> dict[str, Any]:
    """How far two notes of the same attributes and pitch are apart, beside real ones. By an ear that did not train."""
    ear = next((name for name in listener.ears if name not in voice.trained_by), next(iter(listener.ears)))
    first = asked_for(listener, voice, notes, random)
    second = [
        dataclasses.replace(
            one, z=random.standard_normal(voice.latent_size, np.float32), noise_seed=10_000 + n
        )
        for n, one in enumerate(first)
    ]
    both = [
        listener.hear_voice(voice, asked, "diversity", [ear]).embeddings[ear] for asked in (first, second)
    ]
    real = listener.hear(everything, listener.real, "real: diversity", [ear]).embeddings[ear]
    scores = np.stack([listener.asked_logits(held, voice.named()) for held in everything])
    found = measures.diversity(
        both[0],
        both[1],
        real,
        np.array([held.note.pitch for held in everything]),
        scores,
        random,
        groups=_groups(everything),
    )
    return {"ear": ear, **{name: list(getattr(found, name)) for name in ("generated", "real", "share")}}


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
    voice: Voice, parent: Voice, listener: Listener, notes: Sequence[Held], random: np.random.Generator
) -> dict[str, Any]:
    """How far the levels of sounding rows are from those of the same notes by the voice it was made from, in dB."""
    lost = []
    for asked in asked_for(listener, voice, notes, random):
        mine, theirs = voice.note(asked)[0], parent.note(asked)[0]
        sounding = theirs > 0.4  # 60 dB under full scale, where a floor of -100 dB is level 0
        lost.append(np.sqrt(np.mean((mine - theirs)[sounding] ** 2)) * -voice.grid.floor_db)
    return {"parent": parent.name, "log_spectral_db": list(measures.bootstrap(np.array(lost), random))}


def _beyond(
    listener: Listener,
    voice: Voice,
    which: Sequence[int],
    notes: Sequence[Held],
    *,
    steps: int,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Out-of-distribution correlation: each attribute's soft label plus delta, against what its teacher hears.

    The mean over attributes of Pearson's correlation with the logit heard (DarkGAN, section 5, figure 2).
    """
    deltas = np.geomspace(DELTA_FROM, DELTA_TO, steps)
    base = asked_for(listener, voice, notes, random)
    groups = _groups(notes)
    curves = np.zeros((len(which), steps, 3))
    for row, a in enumerate(which):
        name, teacher = voice.named()[a]
        asked = [_with(one, a, one.attributes[a] + delta) for delta in deltas for one in base]
        heard = listener.hear_voice(voice, asked, f"beyond, {name}", [teacher])
        own = heard.logits[teacher][:, listener.column(teacher, name)].reshape(steps, len(base))
        want = np.array(
            [[held.logits[teacher][listener.column(teacher, name)]] for held in notes], np.float32
        )
        curves[row] = measures.correlation_estimates(np.tile(want, steps), own.T, random, groups)
    mean = curves[:, :, 0]
    spread = np.array([measures.bootstrap(mean[:, n], random) for n in range(steps)])
    return {
        "delta": deltas.tolist(),
        "correlation": spread[:, 0].tolist(),
        "low": spread[:, 1].tolist(),
        "high": spread[:, 2].tolist(),
        "attributes": len(which),
        "notes": len(notes),
    }


def _raised(
    listener: Listener,
    voice: Voice,
    which: Sequence[int],
    notes: Sequence[Held],
    *,
    steps: int,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Increment consistency: how far the teacher's logit moves when a soft label is raised by delta.

    In standard deviations of its logits without increment, mean over attributes (DarkGAN, section 5, figure 3).
    """
    deltas = np.linspace(0.0, INCREMENT_TO, steps)
    base = asked_for(listener, voice, notes, random)
    moved = np.zeros((len(which), steps, len(base)))
    for row, a in enumerate(which):
        name, teacher = voice.named()[a]
        asked = [_with(one, a, one.attributes[a] + delta) for delta in deltas for one in base]
        heard = listener.hear_voice(voice, asked, f"raised, {name}", [teacher])
        own = heard.logits[teacher][:, listener.column(teacher, name)].reshape(steps, len(base))
        moved[row] = (own - own[0]) / max(float(own[0].std()), 1e-6)
    spread = np.array([measures.bootstrap(moved[:, n].mean(axis=1), random) for n in range(steps)])
    return {
        "delta": deltas.tolist(),
        "change": spread[:, 0].tolist(),
        "low": spread[:, 1].tolist(),
        "high": spread[:, 2].tolist(),
        "attributes": len(which),
        "notes": len(notes),
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


def _cosine(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Doubles:
    """Row by row."""
    return np.asarray((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)), np.float64)


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
