"""`darkrack evaluate`: what voices sound like beside notes they never saw, heard as the instrument plays them.

`train.listener` has the held-out notes and the ears, `train.judge` the figures, `train.report` tables and pictures,
`train.listening` the page to listen to.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device import bundle as bundles
from device.errors import DarkrackError
from device.files import atomic_path, read_bytes, sha256_of, write_json
from device.knobs import PANEL, choose_attributes
from device.partials import Partials
from train.teacher import TEACHERS, Teacher, load_teacher
from train.voice import FAULTS, UNNAMED, Voice, open_voice, planted

if TYPE_CHECKING:
    from train.classifier import Classifier
    from train.judge import Effort

FORMAT = 2  # 2: velocity
ALWAYS = ("real", "resynthesis")
ALONE_ATTRIBUTES = 32  # of the ranking, where only real notes are judged and no voice says which
ALONE_RANGE_MIDI = (36.0, 84.0)
# Under this accuracy on held-out instruments a score would say more of the classifier than of the notes.
PIS_ACCURACY, IIS_ACCURACY = 0.95, 0.70


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack evaluate`."""
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="X",
        help="bundles (X.rack), folders of runs or their checkpoints; real and resynthesis are always beside them",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the notes the voices were trained on, labelled"
    )
    parser.add_argument(
        "--unseen",
        type=Path,
        metavar="DIR",
        help="another labelled set, of instruments that no voice was trained on: a table of its own",
    )
    parser.add_argument(
        "--ear",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help=f"who listens ({', '.join(TEACHERS)}) and its weights; repeat it for a second, independent ear",
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument(
        "--quick", action="store_true", help="under two minutes: fewer measures, wider intervals"
    )
    effort.add_argument("--paper", action="store_true", help="as many notes as the paper: hours")
    parser.add_argument(
        "--notes", type=int, metavar="N", help="notes of each part and kind (default: the effort's)"
    )
    parser.add_argument(
        "--plant",
        action="append",
        choices=[*FAULTS, "all"],
        default=[],
        metavar="FAULT",
        help=f"prove the judge: the first voice again with a fault ({', '.join(FAULTS)}, or all but still)",
    )
    parser.add_argument("--variant", help="which variant of a bundle plays (default: its own)")
    parser.add_argument(
        "--threads", type=int, default=2, help="notes generated and heard at a time (default 2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write report.md, figures.json, two pictures and listen.html",
    )
    parser.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="FILE",
        help="print the tables of an earlier --json again",
    )
    parser.add_argument(
        "--update-card", action="store_true", help="put the figures into each bundle's card and manifest"
    )


def run(args: argparse.Namespace) -> None:
    """Judge, and print the tables."""
    from train import report

    if args.out:  # said before hours are spent
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DarkrackError(
                str(args.out), "a folder that can be written", error.strerror or str(error)
            ) from error
    figures = report.read(args.earlier) if args.earlier else _judge(args)
    # Before they are looked at: hours of listening are not lost to a slip in what follows.
    if args.json:
        write_json(args.json, figures)
    if args.out:
        write_json(args.out / "figures.json", figures)
    report.check(figures)
    text = report.markdown(figures)
    print(text)
    if args.out:
        with atomic_path(args.out / "report.md") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        report.draw(figures, args.out)
    if args.update_card:
        for subject in figures["subjects"]:
            if subject["kind"] == "bundle" and not subject["fault"]:
                update_card(Path(subject["path"]), figures, subject)
                print(f"{subject['path']}: card and manifest updated")


def _judge(args: argparse.Namespace) -> dict[str, Any]:
    return judge_voices(
        args, _voices([Path(one) for one in args.subjects if one not in ALWAYS], args.variant, args.plant)
    )


def judge_voices(
    args: argparse.Namespace, voices: Sequence[Voice], effort: Effort | None = None
) -> dict[str, Any]:
    """The figures of ``voices``, as the options ``args`` of the command say; they must have different names.

    ``effort``: another than those that the command offers.
    """
    from train import judge
    from train.listener import BED_DBFS, Listener, held_out

    effort = effort or judge.EFFORTS["quick" if args.quick else "paper" if args.paper else "standard"]
    if args.notes is not None:
        effort = dataclasses.replace(effort, notes=args.notes)
    if effort.notes < judge.LEAST_COMPARED:
        raise DarkrackError(
            "--notes", f"at least {judge.LEAST_COMPARED}", str(effort.notes), "fewer decide nothing"
        )
    if args.data is None:
        raise DarkrackError(
            "--data", "a labelled data set", "none", "darkrack data makes notes, darkrack label labels them"
        )
    ears = open_ears(args.ear)
    if args.threads < 1:
        raise DarkrackError("--threads", "at least 1", str(args.threads))
    if args.unseen and args.unseen.resolve() == args.data.resolve():
        raise DarkrackError("--unseen", "another data set than --data", str(args.unseen))
    attributes = list(dict.fromkeys(pair for voice in voices for pair in voice.named()))
    attributes = attributes or _ranked(args.data, ears[0].name)
    grid = voices[0].grid if voices else Partials()
    pitch_range = voices[0].pitch_range_midi if voices else ALONE_RANGE_MIDI
    folders = [args.data, *([args.unseen] if args.unseen else [])]

    from train.classifier import prepare  # torch

    classifier = prepare(folders, pitch_range, train=not args.quick)
    listener = Listener(ears, classifier, args.threads)
    for name, teacher in attributes:
        listener.column(teacher, name)  # an ear that is missing is said before hours are spent
    teachers = [ear for ear in ears if ear.name in {teacher for _, teacher in attributes}]
    parts, everything = held_out(
        args.data, args.unseen, teachers, pitch_range_midi=pitch_range, most=effort.notes, seed=args.seed
    )
    kept = judge.Kept(args.data / f"judging-{_identity(args, effort, ears, voices)}.json", args.seed)
    judged = judge.judge(
        listener, parts, everything, voices, attributes=attributes, grid=grid, effort=effort, kept=kept
    )
    notes = judged["subjects"][0]["notes"]
    if classifier is None:
        notes.append("PIS and IIS: no classifier was trained on these notes yet; run once without --quick")
    figures = {
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "command": shlex.join(["darkrack", "evaluate", *_words(args)]),
        "seed": args.seed,
        "effort": dataclasses.asdict(effort),
        "bed_dbfs": BED_DBFS,
        "ears": [
            {"name": ear.name, "weights_sha256": ear.weights_sha256, "official": ear.official} for ear in ears
        ],
        "classifier": classifier and _classifier_figures(classifier),
        **judged,
        "verdict": judge.verdict(judged["subjects"]),
    }
    if args.out:
        from train import listening
        from train.demonstration import sections

        title = ", ".join(voice.name for voice in voices if not voice.fault) or "Real notes"
        listening.page(args.out / "listen.html", title, sections(listener, voices, parts, grid, figures))
    kept.finish()  # after the page: what ends in making it has not lost what was heard
    return figures


def _identity(
    args: argparse.Namespace, effort: Effort, ears: Sequence[Teacher], voices: Sequence[Voice]
) -> str:
    """What figures of a stopped judgement are known by: everything that decides them."""
    files = [args.data / "notes.csv", *([args.unseen / "notes.csv"] if args.unseen else [])]
    files += [voice.path / "checkpoint.pt" if voice.kind == "run" else voice.path for voice in voices]
    facts = [
        FORMAT,
        dataclasses.asdict(effort),
        args.seed,
        args.variant,
        [(ear.name, ear.weights_sha256) for ear in ears],
        [(voice.name, voice.fault) for voice in voices],
        [sha256_of(path) for path in files],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def open_ears(options: Sequence[str]) -> list[Teacher]:
    """Who listens, from words like ``mn04=PATH``; a teacher without weights needs no path."""
    ears = []
    for word in options:
        name, _, path = word.partition("=")
        if name not in TEACHERS:
            raise DarkrackError("--ear", f"NAME=PATH with one of {', '.join(TEACHERS)}", word)
        ears.append(load_teacher(name, Path(path) if path else None))
    if not ears:
        raise DarkrackError(
            "--ear", "at least one ear", "none", "--ear mn04=PATH, the weights that labelled the notes"
        )
    if len({ear.name for ear in ears}) < len(ears):
        raise DarkrackError("--ear", "each ear once", "one twice")
    return ears


def _voices(paths: Sequence[Path], variant: str | None, faults: Sequence[str]) -> list[Voice]:
    """The voices, each under a name of its own, and the first of them with the faults asked for."""
    voices = [open_voice(path, variant) for path in paths]
    for n, voice in enumerate(voices):
        if voice.name in [other.name for other in voices[:n]]:
            voices[n] = dataclasses.replace(voice, name=f"{voice.name} [{voice.path}]")
    if faults and not voices:
        raise DarkrackError("--plant", "a bundle or run to plant faults in", "none")
    named = [fault for fault in FAULTS if fault not in UNNAMED] if "all" in faults else []
    chosen = dict.fromkeys([*named, *(fault for fault in faults if fault != "all")])
    return [*voices, *(planted(voices[0], fault) for fault in chosen)]


def _ranked(folder: Path, teacher: str) -> list[tuple[str, str]]:
    """The first attributes of a data set's own ranking, for judging real notes without a voice."""
    path = folder / f"attributes-{teacher}.json"
    ranked = json.loads(read_bytes(path, "ranked attributes", "darkrack label writes them"))["attributes"]
    return [(str(one["name"]), teacher) for one in ranked[:ALONE_ATTRIBUTES]]


def _words(args: argparse.Namespace) -> list[str]:
    """What was asked, to be printed with the figures: names of files without this machine's folders."""
    words = [Path(one).name for one in args.subjects]
    for option in ("data", "unseen"):
        if getattr(args, option):
            words += [f"--{option}", getattr(args, option).name]
    words += [
        word
        for ear in args.ear
        for word in ("--ear", f"{ear.partition('=')[0]}={Path(ear.partition('=')[2]).name}".rstrip("=."))
    ]
    words += [f"--{option}" for option in ("quick", "paper") if getattr(args, option)]
    for option in ("notes", "variant"):
        if getattr(args, option) is not None:
            words += [f"--{option}", str(getattr(args, option))]
    words += [word for fault in args.plant for word in ("--plant", fault)]
    return [*words, "--seed", str(args.seed)]


def _classifier_figures(classifier: Classifier) -> dict[str, Any]:
    from train.classifier import FAMILIES

    def reached(what: str, least: float) -> bool:
        shares = classifier.accuracy[what]
        return (
            "unseen_instruments" in shares
            and (what == "pitch" or classifier.families > 1)
            and shares["unseen_instruments"].value >= least
        )

    return {
        "instruments": classifier.instruments,
        "notes": classifier.notes,
        **{
            f"{what}_accuracy": {part: list(one) for part, one in shares.items()}
            for what, shares in classifier.accuracy.items()
        },
        "families": list(FAMILIES),
        "publishes_pis": reached("pitch", PIS_ACCURACY),
        "publishes_iis": reached("family", IIS_ACCURACY),
    }


def update_card(path: Path, figures: dict[str, Any], subject: dict[str, Any]) -> None:
    """Rewrite a bundle with what was measured: the card's last section, each attribute's correlation, quality."""
    from train import report

    bundle = bundles.read(path)
    manifest = json.loads(bundle.files[bundles.MANIFEST])
    names = [attribute["name"] for attribute in manifest["attributes"]]
    if names != [one["name"] for one in subject["attributes"]]:
        raise DarkrackError(
            str(path), "the bundle that was judged", "one with other attributes", "judge it again"
        )
    for attribute, measured in zip(manifest["attributes"], subject["attributes"], strict=True):
        attribute["correlation"] = round(max(-1.0, min(1.0, measured["logit"][0])), 3)
    knobs = subject["knobs"]["table"] if subject["knobs"] else []
    confirmed = [row["name"] for row in knobs if row["confirmed"]]
    measured = [
        dataclasses.replace(one, correlation=row["logit"][0])
        for one, row in zip(bundle.manifest.attributes, subject["attributes"], strict=True)
    ]
    panel = choose_attributes(measured, bundle.manifest.copula, PANEL, confirmed)
    manifest["quality"]["evaluation"] = {
        "date": figures["date"],
        "machine": figures["machine"],
        "command": figures["command"],
        "ears": [ear["name"] for ear in figures["ears"]],
        "pitch": subject["pitch"],
        "frechet": {
            part["part"]: {
                kind["name"]: kind["parts"][part["part"]]["frechet"]
                for kind in figures["subjects"]
                if kind["name"] in (*ALWAYS, subject["name"])
            }
            for part in figures["parts"]
        },
        "confirmed_knobs": confirmed,
        "panel": panel,
    }
    head = bundle.card.split("## Measured")[0]
    pots = (
        f"The panel's knobs, those confirmed alone first, then by correlation, no two of which say the same: "
        f"{', '.join(panel)}."
    )
    card = f"{head}## Measured\n\n{pots}\n\n{report.card_section(figures, subject['name'])}\n"
    files = {member: content for member, content in bundle.files.items() if member != bundles.MANIFEST}
    bundles.write(bundle.path, manifest, {**files, bundles.CARD: card.encode("utf-8")})
