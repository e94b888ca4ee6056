"""The judge's figures as tables, pictures and a document with a schema: what a reader must not be misled about."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DarkrackError
from train import report

EARS = ("mn04", "yamnet")
PARTS = {"unseen_notes": "unseen notes of seen instruments", "unseen_instruments": "instruments never seen"}
NAMES = ("Guitar", "Plucked string instrument", "Organ", "Sine wave", "Buzzer", "Cat")


def estimate(value: float, half: float = 0.1) -> list[float]:
    return [value, value - half, value + half]


def part_figures(frechet: dict[str, float], *, is_real: bool) -> dict[str, Any]:
    return {
        "frechet": {
            ear: {"estimate": estimate(value), "notes": 387, "unbounded": True}
            for ear, value in frechet.items()
        },
        "frechet_at_n": {ear: value + 0.5 for ear, value in frechet.items()},
        "kernel": {ear: estimate(value / 1000, 1e-5) for ear, value in frechet.items()},
        "pis": estimate(30.0, 1.0),
        "iis": estimate(6.0),
        "likeness": None if is_real else {ear: estimate(0.6) for ear in EARS},
        "level_dbfs": [-20.0, -12.0, -6.0],
    }


def attribute(name: str, logit: float) -> dict[str, Any]:
    return {
        "name": name,
        "teacher": "mn04",
        "probability": estimate(logit - 0.05),
        "logit": estimate(logit),
        "permuted": estimate(0.01),
        "other_ear": {"yamnet": estimate(logit / 2)},
    }


def subject(name: str, kind: str, frechet: dict[str, float], logit: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "path": None,
        "fault": None,
        "trained_by": None,
        "parts": {part: part_figures(frechet, is_real=kind == "real") for part in PARTS},
        "attributes": [attribute(one, logit - 0.06 * n) for n, one in enumerate(NAMES)],
        "out_of_distribution": None,
        "increments": None,
        "pitch": None,
        "diversity": None,
        "leakage": None,
        "velocity": None,
        "hop": None,
        "knobs": None,
        "notes": [],
        **more,
    }


def curve(key: str, deltas: Any, values: Any) -> dict[str, Any]:
    return {
        "delta": [float(one) for one in deltas],
        key: [float(one) for one in values],
        "low": [float(one) - 0.05 for one in values],
        "high": [float(one) + 0.07 for one in values],
        "attributes": 12,
        "notes": 60,
    }


def voice(name: str, frechet: dict[str, float], logit: float, **more: Any) -> dict[str, Any]:
    beyond, raised = np.geomspace(1e-3, 10**0.6, 10), np.linspace(0, 5, 11)
    knob = {
        "chosen_on": estimate(1.5),
        "confirmed_on": estimate(1.4),
        "confirmed": True,
        "other_ear": {"yamnet": estimate(0.8)},
        "carried": estimate(0.9),
        "brightness_octaves": estimate(-0.3),
        "monotonicity": estimate(0.95, 0.03),
        "rising": estimate(0.9, 0.05),
    }
    return subject(
        name,
        "bundle",
        frechet,
        logit,
        **{
            "path": "models/flagship.rack",
            "trained_by": "mn04",
            "out_of_distribution": curve("correlation", beyond, logit / (1 + beyond)),
            "increments": curve("change", raised, 2 * np.tanh(raised * logit)),
            "pitch": {
                "notes": 200,
                "median_cents": estimate(0.54),
                "p95_cents": 2.6,
                "within_5": estimate(0.995, 0.004),
                "within_10": estimate(0.996, 0.004),
                "octave_errors": 0,
            },
            "diversity": {
                "ear": "yamnet",
                "generated": estimate(0.4),
                "real": estimate(0.5),
                "share": estimate(0.8),
            },
            "velocity": {"pairs": 31, "generated": estimate(0.21), "real": estimate(0.34)},
            "knobs": {
                "pairs": 200,
                "attributes": 6,
                "chosen": 2,
                "by_chance": [],
                "table": [{"name": "Organ", **knob}, {"name": "Cat", **knob, "confirmed": False}],
            },
            "notes": ["leakage: needs a run, a bundle has no encoder"],
            **more,
        },
    )


@pytest.fixture
def figures() -> dict[str, Any]:
    return {
        "format": 2,
        "date": "2026-11-21",
        "machine": "x86_64, Python 3.11.7",
        "command": "darkrack evaluate flagship.rack --data notes --seed 0",
        "seed": 0,
        "effort": {"name": "standard", "notes": 600, "beyond": (12, 60, 10)},
        "bed_dbfs": -90.0,
        "ears": [{"name": ear, "weights_sha256": "0" * 64, "official": True} for ear in EARS],
        "classifier": {
            "instruments": 90,
            "notes": 6000,
            "pitch_accuracy": {part: estimate(0.97, 0.01) for part in PARTS},
            "family_accuracy": {part: estimate(0.66, 0.05) for part in PARTS},
            "families": ["bass", "brass"],
            "publishes_pis": True,
            "publishes_iis": False,
        },
        "parts": [
            {
                "part": part,
                "title": title,
                "notes": 387,
                "instruments": 100,
                "reference_notes": 387,
                "reference": "other notes of the same instruments",
            }
            for part, title in PARTS.items()
        ],
        "subjects": [
            subject("real", "real", {"mn04": 0.4, "yamnet": 0.05}, 0.98),
            subject("resynthesis", "resynthesis", {"mn04": 0.8, "yamnet": 0.3}, 0.9),
            voice("First", {"mn04": 6.0, "yamnet": 3.0}, 0.6),
            voice("First, z ignored", {"mn04": 9.0, "yamnet": 5.0}, 0.5, fault="z_ignored"),
        ],
        "verdict": [
            {
                "subject": "First, z ignored",
                "fault": "z changes nothing",
                "measure": "diversity share 0.10, bound 0.3",
            }
        ],
    }


def table(text: str, first: str) -> list[dict[str, str]]:
    """Rows of the table whose first heading is ``first``, by their headings; every row must have as many cells."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |"))
    head = [cell.strip() for cell in lines[start].strip("|").split(" | ")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(head, (cell.strip() for cell in line.strip()[1:-1].split(" | ")), strict=True)))
    return rows


# ---- tables ----


def test_table_1_has_every_subject_in_every_part_and_the_papers_rows(figures: dict[str, Any]) -> None:
    rows = table(report.markdown(figures), "held out")
    ours, papers = rows[:8], rows[8:]
    assert [row["subject"] for row in ours] == [one["name"] for one in figures["subjects"]] * 2
    assert [row["held out"] for row in ours if row["held out"]] == list(PARTS.values())
    assert [row["subject"] for row in papers] == [row[0] for row in report.PAPER_SCORES]
    assert papers[0]["held out"].startswith("the paper")
    assert papers[0]["FAD yamnet"] == "0.1 (VGGish)"
    assert papers[5]["PIS"] == "19.0"
    assert "only ratios to real compare" in report.markdown(figures)


def test_the_independent_ear_comes_first_and_the_trainer_is_marked(figures: dict[str, Any]) -> None:
    text = report.markdown(figures)
    row = table(text, "held out")[2]
    heads = list(row)
    assert heads.index("FAD yamnet") < heads.index("FAD mn04")
    assert row["FAD mn04"] == "6.00 (5.90 to 6.10) ∞ †"
    assert row["FAD yamnet"] == "3.00 (2.90 to 3.10) ∞"
    assert "- **First**: FAD by yamnet 3.00 where real notes have 0.05 and resynthesis 0.30" in text


def test_a_voice_that_only_its_trainer_heard_proves_nothing(figures: dict[str, Any]) -> None:
    for one in figures["subjects"]:
        one["trained_by"] = one["trained_by"] and "mn04, yamnet"
    text = report.markdown(figures)
    assert "- **First**: only ears that trained it listened" in text
    assert "FAD by mn04" not in text
    assert "FAD by yamnet" not in text


def test_a_ratio_to_real_is_only_a_bound_where_real_may_be_nothing(figures: dict[str, Any]) -> None:
    row = table(report.markdown(figures), "held out")[2]
    assert row["to real, mn04"] == "15.0"  # 6 / 0.4
    assert row["to real, yamnet"] == "over 19.3"  # real is 0.05 (-0.05 to 0.15): at least 2.9 / 0.15


def test_scores_of_a_classifier_that_is_not_good_enough_are_kept_back(figures: dict[str, Any]) -> None:
    row = table(report.markdown(figures), "held out")[2]
    assert row["PIS"] == "30.0 (29.0 to 31.0)"
    assert row["IIS"] == "not published (accuracy 66 %)"
    figures["classifier"] = None
    row = table(report.markdown(figures), "held out")[2]
    assert row["PIS"] == row["IIS"] == "not measured"


def test_table_2_shows_the_paper_beside_attributes_of_the_same_name(figures: dict[str, Any]) -> None:
    rows = {row["attribute"]: row for row in table(report.markdown(figures), "attribute")}
    assert rows["Guitar"]["First: logit †"] == "0.60 (0.50 to 0.70)"
    assert rows["Guitar"]["First: by yamnet"] == "0.30 (0.20 to 0.40)"
    assert rows["Guitar"]["real by yamnet"] == "0.49"
    assert rows["Guitar"]["resynthesis"] == "0.90"
    assert (rows["Guitar"]["paper, T = 2"], rows["Guitar"]["T = 1.5"]) == ("0.42", "0.37")
    assert rows["Plucked string instrument"]["paper, T = 2"] == "0.42"  # "Plucked string" in the paper
    assert rows["Organ"]["paper, T = 2"] == ""
    assert not any("z ignored" in head for head in rows["Guitar"]), (
        "a planted fault stands in the means alone"
    )


def test_what_counts_as_over_a_third_is_the_low_end(figures: dict[str, Any]) -> None:
    # First's logits are .60, .54, ... .30 with .1 to either side: low ends .50, .44, .38, .32, .26, .20.
    line = next(line for line in report.markdown(figures).splitlines() if line.startswith("| First | 6 |"))
    assert "| 0.45 (4 of 6) † |" in line


def test_of_many_attributes_the_best_and_the_papers_are_shown(figures: dict[str, Any]) -> None:
    many = [attribute(f"Sound {n}", 0.9 - 0.005 * n) for n in range(120)]
    for one in figures["subjects"]:
        one["attributes"] = [*many, attribute("Zither", -0.02)]
    text = report.markdown(figures)
    names = [row["attribute"] for row in table(text, "attribute")]
    assert names == [*(f"Sound {n}" for n in range(report.MOST_ATTRIBUTES)), "Zither"]
    assert "80 more attributes" in text
    assert len(report.card_section(figures, "First").splitlines()) < 300


def test_a_fault_that_was_planted_and_not_found_is_said(figures: dict[str, Any]) -> None:
    assert "**First, z ignored**: z changes nothing" in report.markdown(figures)
    figures["verdict"] = []
    text = report.markdown(figures)
    assert "None of the planted-fault rules fires." in text
    assert "Planted and not found: **First, z ignored**" in text


def test_what_was_not_measured_is_named_once_with_its_subjects(figures: dict[str, Any]) -> None:
    text = report.markdown(figures)
    assert text.count("leakage: needs a run") == 1
    assert "- leakage: needs a run, a bundle has no encoder (every voice)" in text
    figures["subjects"][3]["notes"] = ["hop: none"]
    text = report.markdown(figures)
    assert "- leakage: needs a run, a bundle has no encoder (First)\n- hop: none (First, z ignored)" in text


def test_real_notes_alone_make_a_report(figures: dict[str, Any]) -> None:
    figures["subjects"] = figures["subjects"][:2]
    figures["verdict"] = []
    report.check(figures)
    text = report.markdown(figures)
    assert text.startswith("# Judged: real notes\n")
    assert "## Knobs" not in text
    assert "†" not in text


def test_little_effort_makes_a_report(figures: dict[str, Any], tmp_path: Path) -> None:
    for one in figures["subjects"]:
        one.update(dict.fromkeys(("knobs", "out_of_distribution", "increments", "pitch", "diversity")))
        one["notes"] = ["knobs: not measured with --quick"]
    report.check(figures)
    text = report.markdown(figures)
    assert "| knob |" not in text
    assert "- knobs: not measured with --quick (real; resynthesis; First; First, z ignored)" in text
    assert report.draw(figures, tmp_path) == []


def test_a_card_tells_of_its_own_bundle_alone(figures: dict[str, Any]) -> None:
    text = report.card_section(figures, "First")
    assert "| knob |" in text
    assert "| Organ | yes | 1.40 (1.30 to 1.50) |" in text
    assert "z ignored" not in text
    assert "GANSynth" not in text
    assert [row["subject"] for row in table(text, "held out")] == ["real", "resynthesis", "First"] * 2
    assert not any(line.startswith(("# ", "## ")) for line in text.splitlines())
    with pytest.raises(DarkrackError, match="expected Second, got no such voice"):
        report.card_section(figures, "Second")


def test_velocity_stands_beside_that_of_real_notes(figures: dict[str, Any]) -> None:
    text = report.markdown(figures).split("## Velocity")[1]
    assert table(text, "voice")[0] == {
        "voice": "First",
        "pairs": "31",
        "generated (octaves)": "0.21 (0.11 to 0.31)",
        "real (octaves)": "0.34 (0.24 to 0.44)",
    }
    for subject in figures["subjects"]:
        subject["velocity"] = None
    assert "Velocity" not in report.markdown(figures)


def test_a_name_with_a_bar_does_not_break_a_table(figures: dict[str, Any]) -> None:
    figures["subjects"][2]["name"] = "First|loud"
    assert table(report.markdown(figures), "held out")[2]["subject"] == "First\\|loud"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([3.14159, 3.0, 3.2], "3.14 (3.00 to 3.20)"),
        ([12.34, 11.0, 13.0], "12.3 (11.0 to 13.0)"),
        ([0.00067, 0.00051, 0.00081], "6.7e-4 (5.1e-4 to 8.1e-4)"),
        ([0.0123, -0.001, 0.02], "0.0123 (-0.0010 to 0.0200)"),
        ([-0.001, -0.2, 0.2], "0.00 (-0.20 to 0.20)"),
    ],
)
def test_numbers_are_short(values: list[float], text: str) -> None:
    assert report._interval(values) == text


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_numbers_printed_are_the_numbers(values: list[float]) -> None:
    printed = re.findall(r"-?[0-9.]+(?:e[-+]?[0-9]+)?", report._interval(values))
    assert [float(one) for one in printed] == pytest.approx(values, abs=0.06 * max(map(abs, values)))


# ---- pictures ----


def test_pictures_are_as_wide_as_a_page_and_not_empty(figures: dict[str, Any], tmp_path: Path) -> None:
    paths = report.draw(figures, tmp_path)
    assert [path.name for path in paths] == ["out_of_distribution.png", "increments.png"]
    for path in paths:
        picture = matplotlib.image.imread(path)
        assert picture.shape[1] == 1000
        for colour in report.COLOURS[:2]:  # one line for each of two voices
            wanted = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
            assert (np.abs(picture[..., :3] - wanted).max(axis=2) < 0.02).sum() > 300


# ---- the schema ----


def test_figures_hold_before_and_after_json(figures: dict[str, Any]) -> None:
    report.check(figures)
    again = json.loads(json.dumps(figures))
    report.check(again)
    assert report.markdown(again) == report.markdown(figures)


def test_the_schema_is_one() -> None:
    schema = json.loads(report.SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)

    def objects(node: Any) -> Any:
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for child in node.values():
                yield from objects(child)
        elif isinstance(node, list):
            for child in node:
                yield from objects(child)

    strict = [one for one in objects(schema) if isinstance(one["properties"], dict)]
    assert len(strict) > 15
    assert all("additionalProperties" in one for one in strict)
    assert all(
        set(one["required"]) == set(one["properties"])
        for one in strict
        if one["additionalProperties"] is False
    )


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("seed"), "figures.seed: expected something, got nothing"),
        (lambda f: f.update(mood="good"), "figures.mood: expected no such field"),
        (lambda f: f.update(format=1), "figures.format: expected exactly 2, got 1"),
        (lambda f: f["subjects"][2].pop("pitch"), "figures.subjects[2].pitch: expected something"),
        (
            lambda f: f["subjects"][2]["pitch"].update(notes="many"),
            'figures.subjects[2].pitch.notes: expected JSON of type integer, got "many"',
        ),
        (
            lambda f: f["subjects"][2]["pitch"].update(median_cents=[1.0, 2.0, 3.0]),
            "figures.subjects[2].pitch.median_cents: expected [value, low, high] with low <= value <= high",
        ),
        (
            lambda f: f["subjects"][0]["parts"]["unseen_notes"].update(pis=[1.0, 2.0]),
            "figures.subjects[0].parts.unseen_notes.pis: expected at least as many items: 3",
        ),
        (
            lambda f: f["subjects"][0]["parts"]["unseen_notes"].update(level_dbfs=[-3.0, -9.0, -1.0]),
            "unseen_notes.level_dbfs: expected numbers in ascending order",
        ),
        (
            lambda f: f["subjects"][0]["parts"]["unseen_notes"]["kernel"].update(mn04=float("nan")),
            "figures.subjects[0].parts.unseen_notes.kernel.mn04: expected a finite number, got nan",
        ),
        (
            lambda f: f["subjects"][0]["parts"]["unseen_notes"]["kernel"].update(cat=estimate(1)),
            "unseen_notes.kernel: expected ears that listen",
        ),
        (
            lambda f: f["subjects"][2]["knobs"]["table"][0].update(confirmed=np.bool_(True)),
            "figures.subjects[2].knobs.table[0].confirmed: expected text, a number",
        ),
        (lambda f: f["subjects"][2].update(name="real"), "figures.subjects[2].name: expected a name of"),
        (lambda f: f["subjects"][2].update(kind="tape"), "figures.subjects[2].kind: expected one of"),
        (lambda f: f["subjects"][2]["parts"].popitem(), "figures.subjects[2].parts: expected unseen_notes"),
        (
            lambda f: f["subjects"][2]["increments"]["low"].pop(),
            "figures.subjects[2].increments: expected as many values as deltas",
        ),
        (
            lambda f: f["subjects"][2]["increments"]["low"].__setitem__(3, 99.0),
            "figures.subjects[2].increments.change[3]: expected within 99.0 to",
        ),
        (lambda f: f["subjects"].pop(0), "figures.subjects: expected real notes, once"),
        (lambda f: f["verdict"][0].update(subject="Nobody"), "figures.verdict[0].subject: expected one of"),
        (lambda f: f["ears"][0].update(weights_sha256="?"), "figures.ears[0].weights_sha256: expected text like"),
        (lambda f: f.update({3: 4}), "figures: expected names in text, got 3"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_refused_by_its_place(
    figures: dict[str, Any], change: Change, message: str
) -> None:
    change(figures)
    with pytest.raises(DarkrackError) as refused:
        report.check(figures)
    assert message in str(refused.value)


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the document but those below ``effort``, which is free, and inside maps by ear or part."""
    found = [path] if path else []
    if isinstance(node, dict):
        return found + [one for key, child in node.items() for one in _places(child, (*path, key))]
    if isinstance(node, list):
        return found + [one for n, child in enumerate(node) for one in _places(child, (*path, n))]
    return found


def test_no_field_may_be_of_another_kind(figures: dict[str, Any]) -> None:
    """An object in the place of anything is refused: no place of the document is unguarded."""
    plain = json.loads(json.dumps(figures))
    plain["subjects"] = plain["subjects"][:3]
    plain["verdict"] = []
    places = [path for path in _places(plain) if len(path) < 9]
    random = np.random.default_rng(0)
    for n in random.choice(len(places), 60, replace=False):
        broken = copy.deepcopy(plain)
        node = broken
        for key in places[n][:-1]:
            node = node[key]
        node[places[n][-1]] = {"planted": {"deep": []}}
        with pytest.raises(DarkrackError, match="figures"):
            report.check(broken)
