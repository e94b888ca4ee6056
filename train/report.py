"""What the judge found, as Markdown, as pictures, and held to a schema: functions of the figures alone."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from device.errors import DarkrackError
from device.files import atomic_path, read_bytes

Figures = dict[str, Any]

SCHEMA = Path(__file__).with_name("evaluation.schema.json")
MOST_ATTRIBUTES = 40  # rows of a table; the rest is in the JSON
OVER = 0.3  # a correlation that counts as one

# The paper's own figures: Nistal, Lattner and Richard, "DarkGAN", ISMIR 2021, tables 1 (validation) and 2.
PAPER_SCORES = (  # PIS, IIS, KID, FAD (VGGish); KID as it is printed there
    ("real data", "17.7", "5.7", "6.7e-4", 0.1),
    ("GANSynth", "19.6", "4.0", "6.7", 4.5),
    ("without attributes", "18.5", "4.3", "6.7", 0.8),
    ("T = 1", "18.3", "4.0", "6.8", 0.7),
    ("T = 1.5", "19.0", "4.5", "6.7", 0.7),
    ("T = 2", "19.0", "4.1", "6.8", 0.6),
    ("T = 3", "19.1", "4.1", "6.8", 0.8),
    ("T = 5", "19.1", "4.0", "6.8", 0.8),
)
PAPER_TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 5.0)
PAPER_CORRELATIONS = {  # AudioSet's name: at each of these T
    "Acoustic guitar": (0.20, 0.36, 0.39, 0.23, 0.10),
    "Bass guitar": (0.30, 0.38, 0.46, 0.38, 0.19),
    "Brass instrument": (0.28, 0.49, 0.38, 0.26, 0.00),
    "Cat": (-0.01, -0.01, -0.01, -0.01, 0.00),
    "Cello": (0.24, 0.29, 0.26, 0.17, 0.00),
    "Chicken, rooster": (0.00, -0.06, -0.02, -0.01, -0.01),
    "Chime": (0.15, 0.33, 0.39, 0.31, 0.03),
    "Didgeridoo": (0.06, 0.16, 0.21, 0.20, 0.08),
    "Domestic animals, pets": (-0.01, -0.02, -0.02, 0.00, 0.00),
    "Drum": (0.05, 0.21, 0.24, 0.12, 0.01),
    "Electronic tuner": (0.35, 0.44, 0.50, 0.29, 0.13),
    "Frog": (0.00, 0.03, 0.07, 0.06, -0.03),
    "Guitar": (0.28, 0.37, 0.42, 0.34, 0.13),
    "Insect": (0.00, -0.02, -0.02, -0.02, -0.01),
    "Percussion": (0.04, 0.19, 0.30, 0.14, 0.08),
    "Plucked string instrument": (0.27, 0.37, 0.42, 0.32, 0.11),
    "Saxophone": (0.25, 0.41, 0.41, 0.41, 0.03),
    "Sine wave": (0.28, 0.32, 0.27, 0.17, 0.10),
    "Singing bowl": (0.08, 0.20, 0.24, 0.21, 0.03),
    "Siren": (0.13, 0.19, 0.24, 0.10, 0.08),
    "Speech": (-0.04, -0.10, -0.07, -0.05, 0.01),
    "Trombone": (0.18, 0.41, 0.29, 0.16, 0.00),
    "Trumpet": (0.16, 0.46, 0.36, 0.25, 0.00),
    "Tuning fork": (0.22, 0.29, 0.35, 0.29, 0.10),
    "Zither": (0.03, 0.18, 0.19, 0.07, -0.01),
}
# Where the curves are read for a table; at 10^-0.8 the paper's T = 1 begins to fall.
DELTAS_BEYOND = (1e-3, 10**-0.8, 1.0, 10**0.6)
DELTAS_RAISED = (1.0, 2.0, 5.0)

# Okabe and Ito's colours ("Color universal design", 2008), yellow left out because it is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
DASHES = ("-", "--", "-.", ":")


# --- the document ----------------------------------------------------------------------------------------


def markdown(figures: Figures) -> str:
    """The figures as one Markdown document, the paper's own rows beside ours."""
    names = ", ".join(subject["name"] for subject in _voices(figures) if not subject["fault"])
    return "\n".join([f"# Judged: {names or 'real notes'}", "", *_sections(figures, "##", paper=True)])


def card_section(figures: Figures, name: str) -> str:
    """What belongs into the card of the bundle ``name``: its figures beside real and resynthesised notes.

    Raises DarkrackError where it was not judged.
    """
    if name not in [subject["name"] for subject in _voices(figures)]:
        raise DarkrackError("figures.subjects", name, "no such voice", "judge it first")
    alone = {
        **figures,
        "subjects": [one for one in figures["subjects"] if one["name"] == name or one["kind"] in _ALWAYS],
        "verdict": [one for one in figures["verdict"] if one["subject"] == name],
    }
    return "\n".join(_sections(alone, "###", paper=False))


_ALWAYS = ("real", "resynthesis")


def _sections(figures: Figures, heading: str, *, paper: bool) -> Iterator[str]:
    yield from _headline(figures)
    for title, section in (
        ("Verdict", _verdict(figures)),
        ("Distances and scores", _scores(figures, paper=paper)),
        ("Attributes", _attributes(figures)),
        ("Knobs", _knobs(figures)),
        ("Pitch", _pitch(figures)),
        ("Likeness and level", _likeness(figures)),
        ("Diversity and leakage", _spread(figures)),
        ("Velocity", _velocity(figures)),
        ("Beyond the range of the labels", _curves(figures)),
        ("Not measured", _not_measured(figures)),
    ):
        lines = list(section)
        if lines:
            yield from ("", f"{heading} {title}", "", *lines)


def _headline(figures: Figures) -> Iterator[str]:
    voices = _voices(figures)
    yield f"{figures['date']}, {figures['machine']}, effort {figures['effort']['name']}, seed {figures['seed']}:"
    yield f"`{figures['command']}`"
    yield ""
    for part in figures["parts"]:
        yield (
            f"- {part['notes']} {part['title']} ({part['instruments']} instruments), compared with "
            f"{part['reference_notes']}: {part['reference']}."
        )
    yield f"- Under everything that is heard lies noise at {figures['bed_dbfs']:g} dBFS."
    for ear in _ears(figures):
        trained = [voice["name"] for voice in voices if ear in _trainers(voice) and not voice["fault"]]
        role = f"trained {', '.join(trained)} (†)" if trained else "trained none of them"
        official = next(one["official"] for one in figures["ears"] if one["name"] == ear)
        yield f"- {ear} listens: {role if voices else 'one of the ears'}{'' if official else '; weights unknown'}."
    yield f"- {_classifier(figures)}"
    for voice in voices:
        if voice["fault"]:
            continue
        independent = [ear for ear in _ears(figures) if ear not in _trainers(voice)]
        if not independent:
            yield f"- **{voice['name']}**: only ears that trained it listened; nothing here proves how it sounds."
            continue
        distances = "; ".join(
            f"{_distance(voice, part, independent[0])} where real notes have "
            f"{_distance(_real(figures), part, independent[0])} and resynthesis "
            f"{_distance(_real(figures, 'resynthesis'), part, independent[0])} ({part['title']})"
            for part in figures["parts"]
        )
        yield f"- **{voice['name']}**: FAD by {independent[0]} {distances}."


def _classifier(figures: Figures) -> str:
    found = figures["classifier"]
    if found is None:
        return "No classifier: PIS and IIS are not measured."
    shares = "; ".join(
        f"{what} of "
        + ", ".join(
            f"{_percent(share)} in {part.replace('_', ' ')}"
            for part, share in found[f"{what}_accuracy"].items()
        )
        for what in ("pitch", "family")
    )
    return (
        f"The classifier of PIS and IIS, trained on {found['notes']} notes of {found['instruments']} instruments, "
        f"is right about the {shares}."
    )


def _verdict(figures: Figures) -> Iterator[str]:
    if not figures["verdict"]:
        yield "None of the planted-fault rules fires."
    for one in figures["verdict"]:
        yield f"- **{one['subject']}**: {one['fault']} ({one['measure']})"
    named = {one["subject"] for one in figures["verdict"]}
    missed = [one["name"] for one in _voices(figures) if one["fault"] and one["name"] not in named]
    if missed:
        yield f"- Planted and not found: **{', '.join(missed)}**"


def _scores(figures: Figures, *, paper: bool) -> Iterator[str]:
    """Table 1: a row for each subject in each held-out part, and the paper's rows."""
    ears = _ears(figures)
    head = ["held out", "subject", "N", "PIS", "IIS", *(f"KID {ear}" for ear in ears)]
    head += itertools.chain.from_iterable((f"FAD {ear}", f"to real, {ear}") for ear in ears)
    rows = []
    for part in figures["parts"]:
        for n, subject in enumerate(figures["subjects"]):
            found = subject["parts"][part["part"]]
            row = [part["title"] if n == 0 else "", subject["name"], str(part["notes"])]
            row += [_published(figures, found, which) for which in ("pis", "iis")]
            row += [_interval(found["kernel"].get(ear)) + _dagger(subject, ear) for ear in ears]
            for ear in ears:
                distance = found["frechet"].get(ear)
                infinite = " ∞" if distance and distance["unbounded"] else ""
                row.append(_interval(distance and distance["estimate"]) + infinite + _dagger(subject, ear))
                row.append("" if subject["kind"] == "real" else _to_real(figures, subject, part, ear))
            rows.append(row)
    if paper:
        blank = [""] * (len(ears) - 1)
        for n, (name, pis, iis, kid, fad) in enumerate(PAPER_SCORES):
            ratio = f"{fad / PAPER_SCORES[0][4]:.1f}" if n else ""
            row = ["the paper, validation" if n == 0 else "", name, "", pis, iis, kid, *blank]
            rows.append([*row, f"{fad:g} (VGGish)", ratio])
    yield from _table(head, rows)
    yield ""
    yield "95 % intervals in brackets. KID is polynomial, on each ear's embedding, as FAD is."
    if any(
        found["unbounded"]
        for subject in figures["subjects"]
        for part in subject["parts"].values()
        for found in part["frechet"].values()
    ):
        yield "∞: too few notes for FAD as it is, so extrapolated to infinitely many; the plain one is in the JSON."
    if any(_trainers(voice) & set(ears) for voice in _voices(figures)):
        yield "†: this ear's labels trained the voice; what counts is the other ear."
    if paper:
        yield (
            "The paper's rows (DarkGAN, table 1): other data, FAD by VGGish, another kernel on its own classifier: "
            "only ratios to real compare."
        )


def _published(figures: Figures, found: dict[str, Any], which: str) -> str:
    """A score, or why it is kept back; it would say more of the classifier than of the notes."""
    classifier = figures["classifier"]
    if classifier is None or found[which] is None:
        return "not measured"
    if classifier[f"publishes_{which}"]:
        return _interval(found[which])
    accuracy = classifier["pitch_accuracy" if which == "pis" else "family_accuracy"].get("unseen_instruments")
    return f"not published (accuracy {_number(100 * accuracy[0], 0) if accuracy else '?'} %)"


def _to_real(figures: Figures, subject: dict[str, Any], part: dict[str, Any], ear: str) -> str:
    """How many times as far as real notes; only a bound where real notes are as good as not off at all."""
    ours, real = (
        one["parts"][part["part"]]["frechet"].get(ear, {}).get("estimate")
        for one in (subject, _real(figures))
    )
    if ours is None or real is None or real[2] <= 0:
        return ""
    if real[1] > 0:
        return f"{ours[0] / real[0]:.1f}"
    return f"over {ours[1] / real[2]:.1f}" if ours[1] > real[2] else ""


def _attributes(figures: Figures) -> Iterator[str]:
    """Table 2: correlation of what was asked with what was heard, first in the mean, then by attribute."""
    ears = _ears(figures)
    subjects = [subject for subject in figures["subjects"] if subject["attributes"]]
    if not subjects:
        return
    head = ["subject", "attributes", *(f"by {ear}" for ear in ears), "logit, own teacher"]
    rows = []
    for subject in subjects:
        found = subject["attributes"]
        mark = " †" if subject["trained_by"] else ""
        rows.append(
            [
                subject["name"],
                str(len(found)),
                *(_mean([one["other_ear"][ear] for one in found if ear in one["other_ear"]]) for ear in ears),
                *(_mean([one[kind] for one in found]) + mark for kind in ("logit", "probability")),
                _mean([one["permuted"] for one in found]),
            ]
        )
    yield f"Pearson's correlation: mean over attributes (how many are over {OVER:g} by their interval's low end)."
    yield ""
    yield from _table([*head, "probability", "permuted"], rows)

    voices = [subject for subject in subjects if subject["kind"] not in _ALWAYS and not subject["fault"]]
    by_key = {subject["name"]: {_key(one): one for one in subject["attributes"]} for subject in subjects}
    best: dict[tuple[str, str], float] = {}
    for subject in voices or subjects:
        for key, one in by_key[subject["name"]].items():
            best[key] = max(one["logit"][0], best.get(key, -1.0))
    ranked = sorted(best, key=lambda key: -best[key])
    shown = [
        key for n, key in enumerate(ranked) if n < MOST_ATTRIBUTES or _paper_row(key[0], key[1]) is not None
    ]
    several = len({teacher for _, teacher in ranked}) > 1
    head = ["attribute", "teacher" if several else "", "resynthesis", *(f"real by {ear}" for ear in ears)]
    for voice in voices:
        name = voice["name"]
        head += [f"{name}: by {ear}" for ear in ears]
        head += [f"{name}: logit †", f"{name}: probability †", f"{name}: permuted"]
    head += ["paper, T = 2", "T = 1.5"]
    rows = []
    for key in shown:
        real, once = (by_key.get(kind, {}).get(key) for kind in _ALWAYS)
        row = [key[0], key[1] if several else "", _number(once["logit"][0], 2) if once else ""]
        row += [
            _number(real["other_ear"][ear][0], 2) if real and ear in real["other_ear"] else "" for ear in ears
        ]
        for voice in voices:
            one = by_key[voice["name"]].get(key)
            row += [_interval(one and one["other_ear"].get(ear), 2) for ear in ears]
            row += [_interval(one and one[kind], 2) for kind in ("logit", "probability")]
            row.append(_number(one["permuted"][0], 2) if one else "")
        rows.append([*row, *(f"{one:.2f}" for one in _paper_row(*key) or ())])
    yield ""
    yield from _table(head, rows)
    yield ""
    yield (
        "Resynthesis and real are the most that can be had. Permuted: the same notes against labels that were asked "
        "of others. The paper's columns (DarkGAN, table 2): other data and another teacher."
    )
    if len(ranked) > len(shown):
        yield f"{len(ranked) - len(shown)} more attributes, below these, are in the JSON."


def _paper_row(name: str, teacher: str) -> tuple[float, float] | None:
    """Of an AudioSet class, at T = 2 and at T = 1.5."""
    row = None if teacher == "descriptors" else PAPER_CORRELATIONS.get(name)
    return None if row is None else (row[2], row[1])


def _key(attribute: dict[str, Any]) -> tuple[str, str]:
    return attribute["name"], attribute["teacher"]


def _mean(estimates: Sequence[Sequence[float]]) -> str:
    if not estimates:
        return ""
    mean = math.fsum(one[0] for one in estimates) / len(estimates)
    return f"{_number(mean, 2)} ({sum(one[1] > OVER for one in estimates)} of {len(estimates)})"


def _knobs(figures: Figures) -> Iterator[str]:
    ears = _ears(figures)
    for n, voice in enumerate(voice for voice in _voices(figures) if voice["knobs"]):
        knobs = voice["knobs"]
        if n:
            yield ""
        confirmed = sum(row["confirmed"] for row in knobs["table"])
        yield (
            f"{voice['name']}, each knob alone from 0 to 1 on {knobs['pairs']} held-out (z, pitch): {knobs['chosen']} "
            f"of {knobs['attributes']} move their teacher's logit by half a standard deviation on one half of the "
            f"pairs, {confirmed} of these again on the other. With turns permuted: {len(knobs['by_chance'])}"
            + (f" ({', '.join(knobs['by_chance'])})." if knobs["by_chance"] else ".")
        )
        if voice["fault"] or not knobs["table"]:
            continue
        yield ""
        correlation = {one["name"]: one["logit"][0] for one in voice["attributes"] or []}
        head = ["knob", "confirmed", "alone (s.d.)", *(f"by {ear}" for ear in ears), "others carried"]
        head += ["brightness (octaves)", "order kept (Spearman)", "steps that rise", "correlation"]
        rows = [
            [
                row["name"],
                "yes" if row["confirmed"] else "no",
                _interval(row["confirmed_on"]),
                *(_interval(row["other_ear"].get(ear)) for ear in ears),
                *(_interval(row[key]) for key in ("carried", "brightness_octaves", "monotonicity")),
                _percent(row["rising"]),
                _number(correlation[row["name"]], 2) if row["name"] in correlation else "",
            ]
            for row in knobs["table"]
        ]
        yield from _table(head, rows)


def _pitch(figures: Figures) -> Iterator[str]:
    head = ["voice", "notes", "median off (cents)", "95 % within", "within 5 cents", "within 10 cents"]
    rows = [
        [
            voice["name"],
            str(found["notes"]),
            _interval(found["median_cents"]),
            _number(found["p95_cents"]),
            _percent(found["within_5"]),
            _percent(found["within_10"]),
            str(found["octave_errors"]),
        ]
        for voice in _voices(figures)
        if (found := voice["pitch"])
    ]
    if rows:
        yield from _table([*head, "octave errors"], rows)


def _likeness(figures: Figures) -> Iterator[str]:
    ears = _ears(figures)
    rows = []
    for part in figures["parts"]:
        for n, subject in enumerate(figures["subjects"]):
            found = subject["parts"][part["part"]]
            low, median, high = found["level_dbfs"]
            row = [
                part["title"] if n == 0 else "",
                subject["name"],
                f"{median:.1f} ({low:.1f} to {high:.1f})",
            ]
            alike = found["likeness"] or {}
            rows.append(
                [*row, *(_interval(alike[e]) + _dagger(subject, e) if e in alike else "" for e in ears)]
            )
    head = ["held out", "subject", "level in dBFS (5 to 95 %)", *(f"cosine to real, {ear}" for ear in ears)]
    yield from _table(head, rows)
    yield ""
    yield "Cosine to the real note whose labels were asked for. Level is the RMS of the first second."


def _spread(figures: Figures) -> Iterator[str]:
    rows = []
    for voice in _voices(figures):
        found, hop = voice["diversity"], voice["hop"]
        if not (found or hop or voice["leakage"]):
            continue
        rows.append(
            [
                voice["name"],
                found["ear"] + _dagger(voice, found["ear"]) if found else "",
                *(_interval(found and found[key]) for key in ("generated", "real", "share")),
                _interval(voice["leakage"]),
                f"{_interval(hop['log_spectral_db'])} ({hop['parent']})" if hop else "",
            ]
        )
    if not rows:
        return
    head = ["voice", "ear", "twins apart", "real pairs apart", "share", "leakage (R²)", "dB off its parent"]
    yield from _table(head, rows)
    yield ""
    yield (
        "Twins: two notes of the same attributes and pitch with another z, beside real pairs of the same pitch "
        "and nearly the same attributes. Leakage: how much of the attributes can be read from z."
    )


def _velocity(figures: Figures) -> Iterator[str]:
    measured = [
        (voice["name"], voice.get("velocity")) for voice in _voices(figures)
    ]  # older figures have none
    rows = [
        [name, str(found["pairs"]), *(_interval(found[key]) for key in ("generated", "real"))]
        for name, found in measured
        if found
    ]
    if rows:
        yield from _table(["voice", "pairs", "generated (octaves)", "real (octaves)"], rows)
        yield ""
        yield (
            "How far the spectral centroid goes up from a soft touch of a note to a hard one; attributes and z stay, "
            "so it is velocity alone that changes the timbre."
        )


def _curves(figures: Figures) -> Iterator[str]:
    """Figures 2 and 3 read at a few places."""
    rows = []
    for voice in _voices(figures):
        beyond, raised = voice["out_of_distribution"], voice["increments"]
        if beyond or raised:
            rows.append(
                [
                    voice["name"],
                    *(_read(beyond, "correlation", delta) for delta in DELTAS_BEYOND),
                    *(_read(raised, "change", delta) for delta in DELTAS_RAISED),
                ]
            )
    if not rows:
        return
    head = [f"correlation at {_number(delta)}" for delta in DELTAS_BEYOND]
    head += [f"change (s.d.) at {_number(delta)}" for delta in DELTAS_RAISED]
    yield from _table(["voice", *head], rows)
    yield ""
    yield (
        "The label of one attribute is raised by this much: does what is heard still follow (the paper's figure 2), "
        "and how far does it move (figure 3)? The nearest step that was measured, its size where it differs."
    )


def _read(curve: dict[str, Any] | None, key: str, delta: float) -> str:
    if curve is None:
        return ""
    n = min(range(len(curve["delta"])), key=lambda n: abs(curve["delta"][n] - delta))
    at = curve["delta"][n]
    where = "" if math.isclose(at, delta, rel_tol=0.05) else f" at {_number(at)}"
    return _interval([curve[key][n], curve["low"][n], curve["high"][n]]) + where


def _not_measured(figures: Figures) -> Iterator[str]:
    by_note: dict[str, list[str]] = {}
    for subject in figures["subjects"]:
        for note in subject["notes"]:
            by_note.setdefault(note, []).append(subject["name"])
    voices = [voice["name"] for voice in _voices(figures)]
    for note, names in by_note.items():
        whose = "every voice" if len(voices) > 1 and names == voices else "; ".join(names)
        yield f"- {note} ({whose})"


# --- what every table needs ------------------------------------------------------------------------------


def _voices(figures: Figures) -> list[dict[str, Any]]:
    return [subject for subject in figures["subjects"] if subject["kind"] not in _ALWAYS]


def _real(figures: Figures, kind: str = "real") -> dict[str, Any]:
    found: dict[str, Any] = next(subject for subject in figures["subjects"] if subject["kind"] == kind)
    return found


def _trainers(subject: dict[str, Any]) -> set[str]:
    return set((subject["trained_by"] or "").split(", ")) - {""}


def _ears(figures: Figures) -> list[str]:
    """Names, those first that trained nobody."""
    trainers = set().union(*(_trainers(subject) for subject in figures["subjects"]))
    return sorted((ear["name"] for ear in figures["ears"]), key=lambda name: name in trainers)


def _dagger(subject: dict[str, Any], ear: str) -> str:
    return " †" if ear in _trainers(subject) else ""


def _distance(subject: dict[str, Any], part: dict[str, Any], ear: str) -> str:
    found = subject["parts"][part["part"]]["frechet"].get(ear)
    return _interval(found["estimate"]).split()[0] if found else "not measured"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; short rows are filled up, and a column in which nothing stands is left out."""
    rows = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    kept = [n for n in range(len(head)) if any(row[n] for row in rows)]
    for row in (head, ["---"] * len(head), *rows):
        cells = " | ".join(str(row[n]).replace("|", "\\|").replace("\n", " ") for n in kept)
        yield f"| {cells} |"


def _number(value: float, places: int | None = None) -> str:
    """With three digits or so; an exponent where it is tiny; no minus before a zero."""
    places = _places(abs(value)) if places is None else places
    if places > 5:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+00", "")
    text = f"{value:.{places}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _places(size: float) -> int:
    """Decimals for numbers of this size."""
    return 2 if size == 0 or 0.1 <= size < 10 else max(2 - math.floor(math.log10(size)), 0)


def _interval(values: Sequence[float] | None, places: int | None = None) -> str:
    if not values:
        return ""
    places = _places(max(map(abs, values))) if places is None else places
    value, low, high = (_number(one, places) for one in values)
    return f"{value} ({low} to {high})"


def _percent(values: Sequence[float]) -> str:
    value, low, high = (_number(100 * one, 1).removesuffix(".0") for one in values)
    return f"{value} % ({low} to {high})"


# --- pictures --------------------------------------------------------------------------------------------


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Write the paper's figures 2 and 3 of what was judged as PNG, a line for each voice; the paths written."""
    pictures = (
        (
            "out_of_distribution",
            "correlation",
            "log",
            "How long do attributes follow? (out-of-distribution correlation)",
            "added to the soft label of one attribute",
            "correlation with what is heard",
        ),
        (
            "increments",
            "change",
            "linear",
            "How far does raising an attribute move it? (increment consistency)",
            "added to the soft label of one attribute",
            "change of the teacher's logit (s.d.)",
        ),
    )
    written = []
    for which, key, scale, *words in pictures:
        curves = [(one["name"], one[which]) for one in _voices(figures) if one[which]]
        if curves:
            written.append(folder / f"{which}.png")
            _draw(written[-1], curves, key=key, scale=scale, words=words)
    return written


def _draw(
    path: Path, curves: Sequence[tuple[str, dict[str, Any]]], *, key: str, scale: str, words: Sequence[str]
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = [
        f"{name} ({curve['attributes']} attributes, {curve['notes']} notes each)" for name, curve in curves
    ]
    columns = 2 if max(map(len, labels)) < 60 else 1  # what 1000 pixels hold
    figure = Figure(figsize=(10, 5.6 + 0.26 * math.ceil(len(curves) / columns)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for n, (_, curve) in enumerate(curves):
        colour, dash = COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)]
        axis.plot(
            curve["delta"],
            curve[key],
            color=colour,
            linestyle=dash,
            marker="o",
            markersize=4,
            linewidth=2,
            label=labels[n],
        )
        axis.fill_between(curve["delta"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
    axis.axhline(0, color="#666666", linewidth=0.8)
    axis.set_xscale(scale)
    title, across, up = words
    axis.set_title(title, fontsize=14, loc="left")
    axis.set_xlabel(across, fontsize=12)
    axis.set_ylabel(up, fontsize=12)
    axis.tick_params(labelsize=11)
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", ncols=columns, fontsize=11, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


# --- the schema ------------------------------------------------------------------------------------------


def read(path: Path) -> Figures:
    """The figures that `darkrack evaluate --json` wrote, checked; DarkrackError for a file that is something else."""
    raw = read_bytes(path, "figures of the judge", "darkrack evaluate --json writes them")
    try:
        figures = json.loads(raw)
    except ValueError as error:
        raise DarkrackError(str(path), "JSON", str(error)) from error
    if not isinstance(figures, dict):
        raise DarkrackError(str(path), "the figures of darkrack evaluate", f"a {type(figures).__name__}")
    check(figures)
    return figures


def check(figures: Figures, where: str = "figures") -> None:
    """Hold the figures to ``evaluation.schema.json``, and to what a schema cannot say.

    Raises DarkrackError that names the place in the document, as ``figures.subjects[2].pitch.notes``.
    """
    import jsonschema

    plain = _plain(figures, where)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validators: Any = jsonschema.validators
    strict = validators.extend(
        jsonschema.Draft202012Validator, {"estimate": _refuse_estimate, "ascending": _refuse_order}
    )
    error = jsonschema.exceptions.best_match(strict(schema).iter_errors(plain))
    if error is not None:
        raise _refusal(where, error)
    _agree(plain, where)


def _plain(value: Any, where: str) -> Any:
    """The value as JSON gives it back; what JSON does not have is refused by place."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise DarkrackError(where, "names in text", repr(key))
        return {key: _plain(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{where}[{n}]") for n, one in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise DarkrackError(where, "a finite number", str(value))
    if value is None or isinstance(value, str | int | float):
        return value
    raise DarkrackError(where, "text, a number, true, false or null", type(value).__name__)


def _refuse_estimate(_: Any, wanted: Any, value: Any, __: Any) -> Iterator[Any]:
    import jsonschema

    if wanted and _numbers(value) and len(value) == 3 and not value[1] <= value[0] <= value[2]:
        yield jsonschema.ValidationError("not within its interval")


def _refuse_order(_: Any, wanted: Any, value: Any, __: Any) -> Iterator[Any]:
    import jsonschema

    if wanted and _numbers(value) and any(b < a for a, b in itertools.pairwise(value)):
        yield jsonschema.ValidationError("not ascending")


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int | float) for one in value)


def _refusal(where: str, error: Any) -> DarkrackError:
    place = where + error.json_path.removeprefix("$")
    kind, wanted, value = error.validator, error.validator_value, error.instance
    hint = "train/evaluation.schema.json says what belongs there"
    if kind == "required":
        missing = next(name for name in wanted if name not in value)
        return DarkrackError(f"{place}.{missing}", "something", "nothing", hint)
    if kind == "additionalProperties":
        extra = next(name for name in value if name not in error.schema["properties"])
        return DarkrackError(f"{place}.{extra}", "no such field", "one", hint)
    if kind == "estimate":
        return DarkrackError(place, "[value, low, high] with low <= value <= high", str(value), hint)
    words = {"type": "JSON of type", "const": "exactly", "enum": "one of", "pattern": "text like"}
    words |= {"minItems": "at least as many items:", "maxItems": "at most as many items:"}
    words |= {"minimum": "at least", "maximum": "at most", "minLength": "letters, at least"}
    kinds = " or ".join(wanted) if kind == "type" and isinstance(wanted, list) else wanted
    expected = "numbers in ascending order" if kind == "ascending" else f"{words.get(kind, kind)} {kinds}"
    return DarkrackError(place, expected, json.dumps(value)[:80], hint)


def _agree(figures: Figures, where: str) -> None:
    """Subjects are told apart by name, stand on the parts there are, and have curves of one length."""
    parts = [part["part"] for part in figures["parts"]]
    names = [subject["name"] for subject in figures["subjects"]]
    ears = {ear["name"] for ear in figures["ears"]}
    for kind in _ALWAYS:
        if [subject["kind"] for subject in figures["subjects"]].count(kind) != 1:
            raise DarkrackError(f"{where}.subjects", f"{kind} notes, once", "none or several")
    for n, subject in enumerate(figures["subjects"]):
        place = f"{where}.subjects[{n}]"
        if names.index(subject["name"]) != n:
            raise DarkrackError(f"{place}.name", "a name of its own", repr(subject["name"]))
        if sorted(subject["parts"]) != sorted(parts):
            raise DarkrackError(f"{place}.parts", ", ".join(parts), ", ".join(subject["parts"]))
        for part, found in subject["parts"].items():
            for key in ("frechet", "frechet_at_n", "kernel", "likeness"):
                if unknown := set(found[key] or ()) - ears:
                    raise DarkrackError(
                        f"{place}.parts.{part}.{key}", f"ears that listen ({', '.join(ears)})", min(unknown)
                    )
        for which, key in (("out_of_distribution", "correlation"), ("increments", "change")):
            curve = subject[which]
            if curve is None:
                continue
            lines = [curve[one] for one in ("delta", key, "low", "high")]
            if len({len(line) for line in lines}) > 1:
                raise DarkrackError(f"{place}.{which}", "as many values as deltas", "other lengths")
            for at, (value, low, high) in enumerate(zip(*lines[1:], strict=True)):
                if not low <= value <= high:
                    raise DarkrackError(f"{place}.{which}.{key}[{at}]", f"within {low} to {high}", str(value))
    for n, one in enumerate(figures["verdict"]):
        if one["subject"] not in names:
            raise DarkrackError(f"{where}.verdict[{n}].subject", "one of the subjects", one["subject"])
