"""`python -m benchmarks.temperature`: DarkGAN's experiment, one training at each temperature and without attributes.

An arm is a recipe of which nothing changes but the temperature of the soft labels, the seed, and whether the networks
are told attributes at all. Each is trained by `darkrack train` and judged by `darkrack evaluate`'s judge; what was
found goes into a table (JSON) that grows from call to call, so that the arms can be spread over days, and from the
table into the page. An arm that stands there is not run again; one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import darkrack
from benchmarks import command
from device.errors import DarkrackError
from device.files import atomic_path, read_bytes, write_json

FORMAT = 1
TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 5.0)  # DarkGAN, tables 1 and 2
BASELINE = "baseline"
# Notes of each part, for correlation, pitch, knobs, diversity, leakage; attributes, notes, steps of figures 2 and 3.
EFFORT = (400, 1000, 50, 0, 100, 400, (12, 30, 8), (12, 30, 6))
QUICK_EFFORT = (300, 400, 50, 0, 50, 100, (4, 20, 4), (4, 20, 3))
BEGIN, END = "<!-- made by python -m benchmarks.temperature -->", "<!-- as far as that -->"


@dataclass(frozen=True)
class Arm:
    """One training: the temperature of its labels, or None for the baseline, and its seed."""

    temperature: float | None
    seed: int

    @property
    def name(self) -> str:
        """As the paper's tables call it."""
        return "without attributes" if self.temperature is None else f"T = {self.temperature:g}"

    @property
    def folder(self) -> str:
        """Of its run, after the recipe's name."""
        return f"{BASELINE if self.temperature is None else f't{self.temperature:g}'}-{self.seed}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--recipe", type=Path, default=Path("recipes/temperature.toml"), metavar="TOML")
    parser.add_argument("--data", type=Path, metavar="DIR", help="labelled notes to train on and to judge by")
    parser.add_argument("--unseen", type=Path, metavar="DIR", help="another labelled set, for judging")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where the arms' runs go")
    parser.add_argument("--ear", action="append", default=[], metavar="NAME=PATH", help="who listens; repeat")
    parser.add_argument(
        "--arms",
        nargs="+",
        type=_temperature,
        default=[*TEMPERATURES, None],
        metavar="T",
        help=f"temperatures, or {BASELINE} (default: those of the paper, and it)",
    )
    parser.add_argument("--seeds", nargs="+", type=command.count, default=[1], metavar="N")
    parser.add_argument("--threads", type=command.count, default=1, metavar="N")
    parser.add_argument("--train-only", action="store_true", help="leave judging to another call")
    parser.add_argument(
        "--quick", action="store_true", help="listen to less, and train no classifier; for a first look"
    )
    parser.add_argument("--table", type=Path, default=Path("docs/results/figures.json"), metavar="JSON")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"), metavar="MD")


def _temperature(word: str) -> float | None:
    if word == BASELINE:
        return None
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number over 0 or {BASELINE}, got {word!r}")
    return value


def run(args: argparse.Namespace) -> None:
    """Train and judge the arms that are missing, and write the table and the page again."""
    table = read_table(args.table)
    arms = [Arm(temperature, seed) for seed in args.seeds for temperature in args.arms]
    if args.data is not None:
        for option in ("runs", "ear"):
            if not getattr(args, option):
                raise DarkrackError(f"--{option}", "a value, as --data has one", "nothing")
        todo = [(arm, _train(args, arm)) for arm in arms if find(table, _name(args.recipe), arm) is None]
        if todo and not args.train_only:
            _judge(args, todo, table)
            write_json(args.table, table)
    if not args.train_only:
        write_page(args.page, table, args.table.parent)
        print("\n".join(sections(table)))


def arm_recipe(text: str, arm: Arm, where: str = "recipe") -> str:
    """The recipe ``text`` as an arm's: temperature, seed and whether attributes are told; nothing else is touched.

    Raises DarkrackError where it does not have each of these keys on one line of its own.
    """
    values = {"seed": (r"\d+", str(arm.seed))}
    if arm.temperature is None:
        values["attributes"] = ("true|false", "false")
    else:
        values["temperature"] = (r"[\d.]+", f"{arm.temperature:.1f}")
        values["attributes"] = ("true|false", "true")
    for key, (old, new) in values.items():
        text, count = re.subn(rf"(?m)^({key} = )(?:{old})\b", rf"\g<1>{new}", text)
        if count != 1:
            raise DarkrackError(where, f"one line '{key} = ...'", str(count))
    return text


def _name(recipe: Path) -> str:
    from train.recipe import read_recipe

    return read_recipe(recipe)[0].name


def _train(args: argparse.Namespace, arm: Arm) -> Path:
    """Train an arm to its end, from where it was stopped; its run."""
    from train.recipe import read_recipe
    from train.stages import CHECKPOINT, load_checkpoint

    name = f"{_name(args.recipe)}-{arm.folder}"
    text = read_bytes(args.recipe, "a training recipe").decode("utf-8")
    recipe = args.runs / f"{name}.toml"
    with atomic_path(recipe) as temporary:
        temporary.write_text(arm_recipe(text, arm, str(args.recipe)), encoding="utf-8")
    run_: Path = args.runs / name
    if (run_ / CHECKPOINT).is_file() and load_checkpoint(run_)["step"] == read_recipe(recipe)[0].steps:
        return run_  # judging, which reads its recipe too, says if it is of another one
    words = ["train", str(recipe), "--data", str(args.data), "--run", str(run_)]
    words += ["--threads", str(args.threads)]
    print(f"\ndarkrack {shlex.join(words)}", flush=True)
    status = darkrack.main(words)
    if status:
        sys.exit(status)
    return run_


def _judge(args: argparse.Namespace, todo: Sequence[tuple[Arm, Path]], table: dict[str, Any]) -> None:
    """Judge runs side by side, and put what was found into the table."""
    from train import evaluate
    from train.judge import Effort
    from train.recipe import read_recipe
    from train.voice import open_voice

    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    words = [str(folder) for _, folder in todo] + ["--data", str(args.data)]
    words += ["--unseen", str(args.unseen)] if args.unseen else []
    words += [word for ear in args.ear for word in ("--ear", ear)]
    words += ["--quick"] if args.quick else []
    options = parser.parse_args([*words, "--threads", str(args.threads), "--seed", "1"])
    voices = [
        dataclasses.replace(open_voice(folder), name=f"{arm.name}, seed {arm.seed}") for arm, folder in todo
    ]
    figures = evaluate.judge_voices(
        options, voices, Effort("temperature", *(QUICK_EFFORT if args.quick else EFFORT))
    )
    found = {one["name"]: one for one in figures["subjects"]}
    recipe = _name(args.recipe)
    beside = {name: _kept(found[name], figures) for name in ("real", "resynthesis")}
    table["beside"][recipe] = {
        **beside,
        "parts": {
            part["part"]: {"title": part["title"], "notes": part["notes"]} for part in figures["parts"]
        },
    }
    for (arm, folder), voice in zip(todo, voices, strict=True):
        trained, digest = read_recipe(folder / "recipe.toml")
        table["arms"].append(
            {
                "recipe": recipe,
                "recipe_sha256": digest,
                "temperature": arm.temperature,
                "seed": arm.seed,
                "steps": trained.steps,
                "date": figures["date"],
                "machine": figures["machine"],
                "command": _command(args, arm),
                **_kept(found[voice.name], figures),
            }
        )


def _command(args: argparse.Namespace, arm: Arm) -> str:
    """What trains and judges this arm, with names of files instead of this machine's folders."""
    words = ["python", "-m", "benchmarks.temperature", "--recipe", f"recipes/{args.recipe.name}"]
    words += ["--data", args.data.name, *(["--unseen", args.unseen.name] if args.unseen else [])]
    for ear in args.ear:
        name, _, path = ear.partition("=")
        words += ["--ear", f"{name}={Path(path).name}" if path else name]
    words += ["--quick"] if args.quick else []
    asked = BASELINE if arm.temperature is None else f"{arm.temperature:g}"
    return shlex.join([*words, "--runs", "runs", "--arms", asked, "--seeds", str(arm.seed)])


def _kept(subject: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Of what the judge found, what the tables and pictures need, to four digits."""
    classifier = figures["classifier"] or {}
    parts = {}
    for name, part in subject["parts"].items():
        parts[name] = {
            "frechet": {ear: one["estimate"] for ear, one in part["frechet"].items()},
            "kernel": part["kernel"],
            **{key: part[key] if classifier.get(f"publishes_{key}") else None for key in ("pis", "iis")},
        }
    attributes = {
        one["name"]: {key: one[key] for key in ("logit", "probability")} for one in subject["attributes"]
    }
    curves = {key: subject[key] for key in ("out_of_distribution", "increments")}
    kept: dict[str, Any] = _rounded({"parts": parts, "attributes": attributes, **curves})
    return kept


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


# ---- The table ----


def read_table(path: Path) -> dict[str, Any]:
    """What was found so far; an empty table where there is none. DarkrackError for another file."""
    if not path.exists():
        return {"format": FORMAT, "beside": {}, "arms": []}
    try:
        table: dict[str, Any] = json.loads(read_bytes(path, "the table of arms"))
        known = table["format"] == FORMAT and isinstance(table["arms"], list)
    except (ValueError, KeyError, TypeError) as error:
        raise DarkrackError(str(path), "the table of arms", repr(error)) from error
    if not known:
        raise DarkrackError(str(path), f"a table of format {FORMAT}", repr(table["format"]))
    return table


def find(table: Mapping[str, Any], recipe: str, arm: Arm) -> dict[str, Any] | None:
    """An arm's entry, or None where it was not run."""
    return next(
        (
            one
            for one in table["arms"]
            if (one["recipe"], one["temperature"], one["seed"]) == (recipe, arm.temperature, arm.seed)
        ),
        None,
    )


# ---- The page ----


def write_page(path: Path, table: Mapping[str, Any], pictures: Path) -> None:
    """Put the tables into the page between its marks, and draw the pictures; the words around them are people's."""
    text = read_bytes(path, "the page").decode("utf-8") if path.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise DarkrackError(str(path), f"one line {BEGIN!r} and one {END!r}", "others")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    with atomic_path(path) as temporary:
        made = "\n".join(sections(table))
        temporary.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")
    from train import report

    for recipe in table["beside"]:
        subjects = [
            {
                "name": name,
                "kind": "run",
                "fault": None,
                **{key: _mean_curve([one[key] for one in arms]) for key in _CURVES},
            }
            for name, arms in _by_name(table, recipe).items()
            if arms
        ]
        folder = pictures / recipe
        folder.mkdir(parents=True, exist_ok=True)
        report.draw({"subjects": subjects}, folder)


_CURVES = {"out_of_distribution": "correlation", "increments": "change"}


def _mean_curve(curves: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over seeds of one of figures 2 and 3, and of the ends of its intervals."""
    mean = dict(curves[0])
    for key in (*_CURVES.values(), "low", "high"):
        if key in mean:
            mean[key] = np.mean([curve[key] for curve in curves], axis=0).tolist()
    mean["notes"] = sum(curve["notes"] for curve in curves)
    return mean


def _by_name(table: Mapping[str, Any], recipe: str) -> dict[str, list[dict[str, Any]]]:
    """The arms of one recipe by what they are called, seeds together, in the paper's order."""
    names = [Arm(temperature, 1).name for temperature in (None, *TEMPERATURES)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for one in sorted(table["arms"], key=lambda one: one["seed"]):
        if one["recipe"] == recipe:
            found.setdefault(Arm(one["temperature"], 1).name, []).append(one)
    return found


def sections(table: Mapping[str, Any]) -> Iterable[str]:
    """The tables of every recipe as lines of Markdown."""
    for recipe, beside in table["beside"].items():
        arms = _by_name(table, recipe)
        run_ = [one for found in arms.values() for one in found]
        yield f"## `recipes/{recipe}.toml`"
        yield ""
        dates = sorted({one["date"] for one in run_})
        yield (
            f"Arms: {len(run_)}, of {run_[0]['steps']} steps each, judged {' and '.join(dates)}, "
            f"{run_[0]['machine']}. Each by a line like"
        )
        yield ""
        yield f"    {run_[0]['command']}"
        yield ""
        seeds = {name: len(found) for name, found in arms.items()}
        missing = [name for name, count in seeds.items() if not count]
        if missing:
            yield f"Not run: {', '.join(missing)}."
        if max(seeds.values()) > 1:
            yield "Means over seeds; in brackets the lowest and the highest, or the interval where there is one seed."
        else:
            yield "One seed each; 95 % intervals over instruments in brackets."
        yield ""
        yield from _scores(beside, arms)
        yield ""
        yield from _correlations(beside, arms)
        yield ""
        yield f"![Out-of-distribution correlation](results/{recipe}/out_of_distribution.png)"
        yield ""
        yield f"![Increment consistency](results/{recipe}/increments.png)"
        yield ""


def _scores(beside: Mapping[str, Any], arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterable[str]:
    """The project's Table 1: a row for each subject, and what the paper has there."""
    from train.report import PAPER_SCORES

    paper = {row[0]: row for row in PAPER_SCORES}
    parts, ears = beside["parts"], list(next(iter(beside["real"]["parts"].values()))["frechet"])
    first = next(iter(parts))
    head = ["", "seeds", "PIS", "IIS", *(f"KID {ear}" for ear in ears)]
    head += [f"FAD {ear}, {part['title']}" for part in parts.values() for ear in ears]
    rows = [[*head, "paper: PIS, IIS, KID, FAD"]]
    subjects = [("real", [beside["real"]]), ("resynthesis", [beside["resynthesis"]]), *arms.items()]
    for name, found in subjects:
        if not found:
            continue
        row = [name, str(len(found)) if name in arms else ""]
        row += [_said([one["parts"][first][key] for one in found]) for key in ("pis", "iis")]
        row += [_said([one["parts"][first]["kernel"][ear] for one in found]) for ear in ears]
        row += [
            _said([one["parts"][part]["frechet"][ear] for one in found]) for part in parts for ear in ears
        ]
        published = paper.get({"real": "real data"}.get(name, name))
        rows.append([*row, ", ".join(map(str, published[1:])) if published else ""])
    yield from command.table(rows).split("\n")
    yield ""
    counts = ", ".join(f"{part['notes']} ({part['title']})" for part in parts.values())
    yield (
        f"PIS, IIS and KID are of the {parts[first]['title']}. Notes heard: {counts}. The paper's figures are of "
        "other data, FAD by VGGish, another kernel on its own classifier: only the order of rows compares."
    )


def _correlations(
    beside: Mapping[str, Any], arms: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterable[str]:
    """The project's Table 2: means first, then the paper's attributes, with the paper's figures in brackets."""
    from train.report import OVER, PAPER_CORRELATIONS, PAPER_TEMPERATURES

    ran = {name: found for name, found in arms.items() if found}
    rows = [["attribute", "resynthesis", *ran]]
    names = list(beside["real"]["attributes"])
    shared = [name for name in PAPER_CORRELATIONS if name in names]
    ceiling = [beside["resynthesis"]]

    def means(which: Sequence[str], key: str) -> list[str]:
        return [_mean_of(found, which, key) for found in (ceiling, *ran.values())]

    rows.append([f"mean of {len(names)}, logits", *means(names, "logit")])
    rows.append([f"mean of {len(names)}, probabilities", *means(names, "probability")])
    if shared:
        rows.append([f"mean of the {len(shared)} below, probabilities", *means(shared, "probability")])
    over = [
        f"{np.mean([sum(a['logit'][1] > OVER for a in one['attributes'].values()) for one in found]):.0f}"
        for found in (ceiling, *ran.values())
    ]
    rows.append([f"over {OVER:g} by the interval's low end, logits", *over])
    for name in shared:
        row = [name, _mean_of(ceiling, [name], "probability")]
        for arm, found in ran.items():
            ours = _mean_of(found, [name], "probability")
            at = [n for n, one in enumerate(PAPER_TEMPERATURES) if Arm(one, 1).name == arm]
            row.append(f"{ours} ({PAPER_CORRELATIONS[name][at[0]]:.2f})" if at else ours)
        rows.append(row)
    yield from command.table(rows).split("\n")
    yield ""
    yield (
        "Pearson's correlation of what was asked with what the teacher hears, pitch drawn independently; in brackets "
        "the paper's (table 2: probabilities, other data, another teacher)."
    )


def _mean_of(found: Sequence[Mapping[str, Any]], names: Sequence[str], key: str) -> str:
    return f"{np.mean([one['attributes'][name][key][0] for one in found for name in names]):.2f}"


def _said(estimates: Sequence[Sequence[float] | None]) -> str:
    """One estimate with its interval, or the mean of several with their lowest and highest."""
    known = [one for one in estimates if one is not None]
    if not known:
        return "–"
    if len(known) == 1:
        return command.interval(known[0])
    values = [one[0] for one in known]
    return command.interval((float(np.mean(values)), min(values), max(values)))


def main(words: Sequence[str] | None = None) -> int:
    """The command; see `command.main`."""
    return command.main("temperature", (__doc__ or "").splitlines()[0], add_arguments, run, words)


if __name__ == "__main__":
    sys.exit(main())
