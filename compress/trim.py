"""`darkrack trim`: structured lottery-ticket trimming, in rounds that can be stopped and gone on with anywhere.

A round scores every channel (`compress.criteria`), takes the cheapest loss out of all layers at once
(`compress.prune`), sets the survivors back to an early checkpoint or leaves them as they are, and trains them by
the notes, by the network as it was, or by both and more (`--learn`).
Frankle & Carbin 2019; structured and for generative models of sound: Esling et al. 2020.

The trimmer takes any module and a loss, a `Subject`: a generator (`compress.subjects`), or the judge's classifier.

OUT/trim.pt, rounds.json, log.csv   where trimming stands, what each round did
OUT/cost.json                       what it took so far, beyond its parent's training (`train.cost`)
OUT/25, OUT/1.3M, OUT/0.1ms         the network at each budget asked for: for a generator a run, ready for export
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from device.errors import DarkrackError
from device.files import atomic_path, write_json
from device.machine import CORE_W

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.prune import Indices, Structure
    from train.ranks import Ranks

FORMAT = 2  # of trim.pt; raised with every change of what is in it
STATE = "trim.pt"
ROUNDS = "rounds.json"
LOG = "log.csv"
LEARN = ("outputs", "features", "task", "critic", "ear")
SCORED_NOTES = 1024
SCORED_LOSSES = 8  # batches whose gradients Taylor's criterion sees
SAVE_EVERY_STEPS = 200
LOG_EVERY_STEPS = 50


@dataclass(frozen=True)
class Budget:
    """What a trimmed network may cost: ``value`` as a share of the parent's MACs, in MACs, or in ms a note here."""

    label: str
    value: float
    unit: str  # "share", "macs" or "ms"


@dataclass(frozen=True)
class Plan:
    """How to trim; a change makes another run of it. See the command's options."""

    budgets: tuple[Budget, ...]
    criterion: str
    per: str
    round_share: float
    survivors: str
    learn: tuple[str, ...]
    steps: int
    last_steps: int
    batch: int
    learning_rate: float
    floor: int
    seed: int


@dataclass(frozen=True, eq=False)
class Lesson:
    """Inputs for one pass, and what to make of it.

    ``losses``: of the terms "outputs" (against the teacher's), "task", "critic" and "ear" those that there are, of what
    student and teacher made; ``after`` is what else learns from what was made, once the student has: a critic, an ear.
    It is told at which share of a round's first rate the student did.
    """

    inputs: tuple[Tensor, ...]
    losses: Mapping[str, Callable[[Any, Any], Tensor]]
    after: Callable[[Any, float], None] = lambda made, share: None


class Subject(Protocol):
    """A trained network and what trimming must know of it.

    ``example``: inputs of one pass; ``fixed``: layers whose outputs stay.
    """

    network: nn.Module
    example: tuple[Tensor, ...]
    fixed: tuple[str, ...]
    identity: str  # changes with the weights and the data
    ranks: Ranks  # that compute lessons, and in which precision

    def early(self) -> nn.Module:
        """The same network early in its training; DarkrackError where that was not kept."""

    def fresh(self, like: nn.Module) -> nn.Module:
        """A network of the shape of ``like`` before any training."""

    def lesson(self, step: int, count: int) -> Lesson:
        """The lesson of a step; the same step gives the same one, and nothing else is drawn from by it."""

    def opponents(self) -> dict[str, Any]:
        """Modules and optimisers that lessons change besides the student, by name."""

    def measure_ms(self, network: nn.Module) -> float:
        """Milliseconds a pass of it takes on this machine as it would be played."""

    def keep(self, folder: Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
        """Write the network where others can use it, whole or not at all."""

    def finish(self) -> None:
        """Leave nothing behind that only trimming needed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack trim`."""
    parser.add_argument(
        "run",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="the folder that darkrack train filled; or the word classifier (the judge's)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the notes it was trained on, labelled")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where rounds and trimmed networks (or the report) go",
    )
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="instead of trimming: quality against cost of the runs in these figures (darkrack evaluate --json), "
        "parent, trimmed and from scratch, as a table and a picture; and of trimmed classifiers (accuracy.json)",
    )
    parser.add_argument(
        "--watts",
        type=float,
        default=CORE_W,
        help="of one busy core, for energy where no meter can be read (default %(default)g; marked as derived)",
    )
    parser.add_argument(
        "--to",
        nargs="+",
        type=budget,
        default=[budget(one) for one in ("50%", "25%", "12.5%", "5%", "2.5%")],
        metavar="B",
        help="budgets, largest first: 25%% of the parent's MACs, 1.3M (MACs), 0.1ms (a note through LiteRT as it "
        "plays by default, one thread, this machine); default 50%% 25%% 12.5%% 5%% 2.5%%",
    )
    parser.add_argument(
        "--criterion",
        default="mi",
        choices=("mi", "magnitude", "taylor", "activation", "random"),
        help="what a channel is worth (default mi: mutual information, as Esling et al. 2020)",
    )
    parser.add_argument(
        "--per",
        default="macs",
        choices=("macs", "weights"),
        help="for what a loss is taken (default: MACs saved)",
    )
    parser.add_argument(
        "--round-share",
        type=float,
        default=0.7,
        metavar="S",
        help="about what a round leaves of the MACs (default 0.7)",
    )
    parser.add_argument(
        "--survivors",
        choices=("go-on", "early", "fresh"),
        default="go-on",
        help="each round they go on as they are, are set back to RUN/early.pt (the lottery ticket), or to fresh "
        "weights (a network of that shape that owes the parent nothing but its lessons); default go-on",
    )
    parser.add_argument(
        "--learn",
        nargs="+",
        choices=LEARN,
        default=["task"],
        help="what it learns from: the notes (task; default, for a run with an encoder: what grew on stft has none), "
        "the parent's outputs and features, the trained critic, "
        "the tagger that listens (ear; for a run with that stage, best with task)",
    )
    parser.add_argument(
        "--ear",
        metavar="NAME=PATH",
        help="with --learn ear: the tagger that labelled the notes, with its weights",
    )
    parser.add_argument("--steps", type=int, default=1000, help="of a round (default 1000)")
    parser.add_argument(
        "--last-steps", type=int, default=3000, help="of a round that meets a budget (default 3000)"
    )
    parser.add_argument("--batch", type=int, default=32, help="notes a step (default 32)")
    parser.add_argument(
        "--learning-rate", type=float, default=1e-3, help="at the start of a round (default 1e-3)"
    )
    parser.add_argument(
        "--floor",
        type=int,
        default=8,
        help="channels that every layer keeps (default 8; under that they go one by one)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default 1)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of passes while it learns; losses and weights are float32 (default float32)",
    )


def run(args: argparse.Namespace) -> None:
    """Trim to the last budget, or go on where it was stopped, and print a line a round; or report."""
    if args.report:
        from compress import pareto

        pareto.report(args.report, args.out, args.watts)
        print((args.out / "report.md").read_text(encoding="utf-8"))
        return
    for option, value in (("RUN", args.run), ("--data", args.data)):
        if value is None:
            raise DarkrackError(
                option, "what to trim and the notes it learned from", "nothing", "or --report FILE ..."
            )

    import torch

    from compress.subjects import open_subject
    from train.ranks import open_ranks

    plan = Plan(
        budgets=tuple(args.to),
        criterion=args.criterion,
        per=args.per,
        round_share=args.round_share,
        survivors=args.survivors,
        learn=tuple(name for name in LEARN if name in args.learn),
        steps=args.steps,
        last_steps=args.last_steps,
        batch=args.batch,
        learning_rate=args.learning_rate,
        floor=args.floor,
        seed=args.seed,
    )
    _check(plan)
    if args.threads < 1:
        raise DarkrackError("--threads", "at least 1", str(args.threads))
    torch.set_num_threads(args.threads)
    with open_ranks("cpu", args.precision, {}) as ranks:
        subject = open_subject(
            args.run,
            args.data,
            plan.learn,
            batch=plan.batch,
            seed=plan.seed,
            threads=args.threads,
            ear=args.ear,
            memory=args.out,
            ranks=ranks,
        )
        trim(subject, plan, args.out)


def budget(text: str) -> Budget:
    """``12.5%``, ``1.3M`` or ``0.1ms`` as a Budget; the label names its folder. ArgumentTypeError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)(%|M|ms)", text)
    value = float(match[1]) if match else 0.0
    if match is None or not 0 < value < 1e6 or (match[2] == "%" and value >= 100):
        raise argparse.ArgumentTypeError(
            f"expected a share under 100%, MACs like 1.3M or a time like 0.1ms, got {text!r}"
        )
    scale, unit = {"%": (1 / 100, "share"), "M": (1e6, "macs"), "ms": (1.0, "ms")}[match[2]]
    return Budget(text.rstrip("%"), value * scale, unit)


def _check(plan: Plan) -> None:
    if not 0.1 <= plan.round_share < 1:
        raise DarkrackError("--round-share", "0.1 to under 1", f"{plan.round_share:g}")
    for option, value, least in (
        ("--steps", plan.steps, 1),
        ("--last-steps", plan.last_steps, 1),
        ("--batch", plan.batch, 2),
        ("--floor", plan.floor, 1),
        ("--seed", plan.seed, 0),
    ):
        if value < least:
            raise DarkrackError(option, f"at least {least}", str(value))
    if not 0 < plan.learning_rate < 1:
        raise DarkrackError("--learning-rate", "above 0 and under 1", f"{plan.learning_rate:g}")
    if len({one.label for one in plan.budgets}) < len(plan.budgets):
        raise DarkrackError("--to", "each budget once", ", ".join(one.label for one in plan.budgets))
    for one, next_one in itertools.pairwise(plan.budgets):
        if one.unit == next_one.unit and next_one.value > one.value:
            raise DarkrackError(
                "--to", "budgets from the largest to the smallest", f"{one.label} before {next_one.label}"
            )


def rounds(share: float, goal: float, round_share: float) -> list[float]:
    """Costs from ``share`` down to ``goal``, in even steps of which none leaves less than ``round_share``."""
    if goal >= share:
        return [goal]
    count = max(1, math.ceil(math.log(goal / share) / math.log(round_share) - 1e-9))
    return [share * (goal / share) ** (n / count) for n in range(1, count)] + [goal]


@dataclass
class Standing:
    """Where trimming stands: what is left of each group, the network, and the steps done in this round."""

    network: nn.Module
    structure: Structure
    kept: dict[str, Indices]  # of each group's channels, those of the parent that are left
    at: int  # which budget is worked on
    pending: list[float]  # MACs of the rounds up to it that are not done; the first is worked on
    step: int  # of this round
    losses: dict[str, float]  # of the last step
    done: list[dict[str, Any]]
    optimiser: Any = None


def trim(subject: Subject, plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """All rounds; returns what each did. Goes on where ``folder`` stands.

    Raises DarkrackError where a layer collapsed, a budget cannot be met or a loss is not finite (the last checkpoint
    stays), KeyboardInterrupt after saving when it was interrupted.
    """
    import torch
    from tqdm import tqdm

    from compress.prune import choose, count_macs, structure_of
    from train.cost import FILE, Cost
    from train.ranks import ALONE
    from train.stages import refuse_infinite, stop_requested

    early = subject.early() if plan.survivors == "early" else None
    identity = hashlib.sha256(
        json.dumps([FORMAT, subject.identity, dataclasses.asdict(plan)]).encode()
    ).hexdigest()
    whole = structure_of(subject.network, subject.example, subject.fixed)
    parent = {
        "macs": count_macs(subject.network, subject.example),
        "parameters": whole.cost(whole.widths(), "weights"),
    }
    standing = _resume(folder, identity, subject, plan, whole)
    log: list[dict[str, float]] = []

    def save() -> None:
        _save(folder, identity, standing, subject)
        cost.write(cost.so_far())
        _append(folder / LOG, log)
        log.clear()
        content = {"parent": parent, "plan": dataclasses.asdict(plan), "rounds": standing.done}
        write_json(folder / ROUNDS, content)

    if not (folder / STATE).exists():
        for file in (LOG, FILE):
            (folder / file).unlink(missing_ok=True)  # of one that was deleted to start again
    cost = Cost(folder, ALONE)

    with stop_requested() as stop:
        while standing.at < len(plan.budgets):
            goal = plan.budgets[standing.at]
            if standing.optimiser is None:
                scored = _scores(subject, plan, standing)
                if not standing.pending:
                    macs = _macs(goal, parent["macs"], subject, standing, scored, plan)
                    standing.pending = rounds(
                        standing.structure.cost(standing.structure.widths()), macs, plan.round_share
                    )
                channels = choose(standing.structure, scored, standing.pending[0], plan.per, plan.floor)
                _remove(standing, subject, channels)
                if early is not None:
                    standing.network = _cut(early, subject, whole, standing.kept)[0]
                elif plan.survivors == "fresh":
                    standing.network = subject.fresh(standing.network)
                standing.network.requires_grad_(True)
                standing.optimiser = torch.optim.Adam(
                    standing.network.parameters(), plan.learning_rate, (0.9, 0.99)
                )
                standing.step = 0
                save()
            meets = len(standing.pending) == 1
            steps = plan.last_steps if meets else plan.steps
            macs_left = count_macs(standing.network, subject.example)
            share = macs_left / parent["macs"]
            with tqdm(
                total=steps, initial=standing.step, desc=f"{share:.1%} of the MACs", unit="step", disable=None
            ) as bar:
                while standing.step < steps and not stop():
                    with cost.step(len(standing.done), plan.batch):
                        losses = _step(subject, plan, standing, whole, steps)
                    refuse_infinite(losses, standing.step + 1)
                    standing.losses = losses
                    standing.step += 1
                    bar.update()
                    if standing.step % LOG_EVERY_STEPS == 0 or standing.step == steps:
                        log.append({"round": len(standing.done), "step": standing.step, **losses})
                        bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
                    if standing.step % SAVE_EVERY_STEPS == 0:
                        save()
            if standing.step < steps:
                save()
                print("stopped; the same command goes on from there")
                raise KeyboardInterrupt
            facts: dict[str, Any] = {
                "round": len(standing.done),
                "macs": macs_left,
                "macs_share": round(share, 5),
                "parameters": sum(p.numel() for p in standing.network.parameters()),
                "widths": standing.structure.widths(),
                "steps": steps,
                "losses": {name: round(value, 5) for name, value in standing.losses.items()},
                "budget": goal.label if meets else None,
            }
            if meets and goal.unit == "ms":
                facts["ms"] = round(subject.measure_ms(standing.network), 4)
                print(f"{goal.label}: {facts['ms']} ms measured")
            weights = facts["parameters"] / parent["parameters"]
            means = ", ".join(f"{name} {value:.4f}" for name, value in standing.losses.items())
            print(f"round {facts['round']}: {share:.1%} of the MACs, {weights:.1%} of the weights; {means}")
            standing.done.append(facts)
            standing.pending.pop(0)
            standing.optimiser = None
            if meets:
                account = {**_account(plan, parent, standing, goal), "cost": cost.so_far()}
                subject.keep(folder / goal.label, standing.network, account)
                standing.at += 1
            save()
    subject.finish()
    return standing.done


def _account(plan: Plan, parent: Mapping[str, Any], standing: Standing, goal: Budget) -> dict[str, Any]:
    """What stands beside trimmed weights: where they come from and how, and the channel list."""
    return {
        "parent": dict(parent),
        "budget": goal.label,
        "macs_share": standing.done[-1]["macs_share"],
        "parameters": standing.done[-1]["parameters"],
        "criterion": plan.criterion,
        "per": plan.per,
        "survivors": plan.survivors,
        "learned_from": list(plan.learn),
        "rounds": len(standing.done),
        "steps": sum(one["steps"] for one in standing.done),
        "seed": plan.seed,
        "kept": {name: kept.tolist() for name, kept in standing.kept.items()},
    }


def _scores(subject: Subject, plan: Plan, standing: Standing) -> dict[str, Any]:
    """Each channel's worth to the network as it stands."""
    from compress.criteria import score

    def loss_of(step: int) -> Callable[[nn.Module], Tensor]:
        lesson = subject.lesson(step, plan.batch)

        # Not the outputs': before anything was taken they equal the teacher's, and every gradient is 0.
        term = next((lesson.losses[name] for name in ("task", "critic") if name in lesson.losses), None)
        if term is None:
            raise DarkrackError(
                "--criterion taylor",
                "a run with an encoder or a trained critic, whose loss it looks at",
                "one with neither",
                "another criterion",
            )
        return lambda network: term(network(*lesson.inputs), None)

    # Lessons that no step of this round has: negative ones.
    first = -1 - SCORED_LOSSES * (1 + len(standing.done))
    network = standing.network.eval()
    losses = [loss_of(first + n) for n in range(SCORED_LOSSES)] if plan.criterion == "taylor" else []
    heard = plan.criterion in {"mi", "activation"}  # the others look at weights or losses alone
    batch = subject.lesson(first - 1, SCORED_NOTES).inputs if heard else ()
    return score(
        plan.criterion, network, standing.structure.groups, batch, losses, plan.seed + len(standing.done)
    )


def _macs(  # noqa: PLR0917
    goal: Budget, parent: float, subject: Subject, standing: Standing, scored: Mapping[str, Any], plan: Plan
) -> float:
    """The budget in MACs; one in milliseconds is tried out, by halving, on networks cut to size and not yet trained."""
    from compress.prune import choose, take

    if goal.unit == "share":
        return goal.value * parent
    if goal.unit == "macs":
        return goal.value
    low, high = 0.0, standing.structure.cost(standing.structure.widths())
    if subject.measure_ms(standing.network) <= goal.value:
        return high
    fits = 0.0
    for _ in range(6):  # to 1/64 of the way
        middle = (low + high) / 2
        tried = copy.deepcopy(standing.network)
        try:
            channels = choose(standing.structure, scored, middle, plan.per, plan.floor)
        except DarkrackError:
            low = middle
            continue
        take(tried, subject.example, standing.structure, channels)
        if subject.measure_ms(tried) <= goal.value:
            low = fits = middle
        else:
            high = middle
    if not fits:
        raise DarkrackError(
            "--to", f"a time that a network with {plan.floor} channels a layer holds", goal.label
        )
    return fits


def _remove(standing: Standing, subject: Subject, channels: Mapping[str, Indices]) -> None:
    from compress.prune import take

    standing.structure = take(standing.network, subject.example, standing.structure, channels)
    for name, gone in channels.items():
        standing.kept[name] = np.delete(standing.kept[name], gone)


def _cut(
    network: nn.Module, subject: Subject, whole: Structure, kept: Mapping[str, Indices]
) -> tuple[Any, Any]:
    """A copy of the parent (or of its origin) with these channels alone, and its structure."""
    from compress.prune import take

    cut = copy.deepcopy(network)
    gone = {
        group.name: np.setdiff1d(np.arange(group.channels), kept[group.name])
        for group in whole.groups
        if len(kept[group.name]) < group.channels
    }
    return cut, take(cut, subject.example, whole, gone)


def _step(subject: Subject, plan: Plan, standing: Standing, whole: Structure, steps: int) -> dict[str, float]:
    """One step of what is left, taught by the parent; the rate falls to nothing along the round."""
    import torch

    from compress.criteria import listening

    number = len(standing.done) * 1_000_000 + standing.step  # no two steps of all rounds share a lesson
    lesson = subject.lesson(number, plan.batch)

    def played(network: nn.Module) -> Any:
        with subject.ranks.cast():
            made = network(*lesson.inputs)
        return made.float() if isinstance(made, torch.Tensor) else tuple(one.float() for one in made)

    share = 1 - standing.step / steps
    for group in standing.optimiser.param_groups:
        group["lr"] = plan.learning_rate * share
    standing.network.eval()  # statistics of norms stay the parent's, as the teacher has them; no dropout
    if "features" in plan.learn:
        with torch.no_grad(), listening(subject.network, whole.groups) as taught_features:
            taught = played(subject.network)
        with listening(standing.network, standing.structure.groups) as features:
            made = played(standing.network)
        distances = []
        for name, kept in standing.kept.items():
            wanted = taught_features[name][1][:, torch.from_numpy(kept)].float()
            places = (0, *range(2, wanted.dim()))
            spread = wanted.std(places, keepdim=True).clamp(min=1e-3)
            distances.append(((features[name][1] - wanted) / spread).abs().mean())
        feature_loss = torch.stack(distances).mean()
    else:
        with torch.no_grad():
            taught = played(subject.network) if "outputs" in plan.learn else None
        made = played(standing.network)
    terms = {name: term(made, taught) for name, term in lesson.losses.items() if name in plan.learn}
    if "features" in plan.learn:
        terms["features"] = FEATURE_WEIGHT * feature_loss
    standing.optimiser.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(standing.network.parameters(), 10.0)
    standing.optimiser.step()
    lesson.after(made, share)
    return {name: float(term.detach()) for name, term in terms.items()}


# Features lie about half a standard deviation apart where outputs differ by .05: so much that both pull alike.
FEATURE_WEIGHT = 0.05


def _save(folder: Path, identity: str, standing: Standing, subject: Subject) -> None:
    import torch

    content = {
        "identity": identity,
        "kept": {name: torch.from_numpy(kept) for name, kept in standing.kept.items()},
        "network": standing.network.state_dict(),
        "at": standing.at,
        "pending": standing.pending,
        "step": standing.step,
        "losses": standing.losses,
        "done": json.dumps(standing.done),
        "optimiser": standing.optimiser.state_dict() if standing.optimiser else None,
        "opponents": {name: one.state_dict() for name, one in subject.opponents().items()},
    }
    with atomic_path(folder / STATE) as temporary:
        torch.save(content, temporary)


def _resume(folder: Path, identity: str, subject: Subject, plan: Plan, whole: Structure) -> Standing:
    import torch

    path = folder / STATE
    if not path.exists():
        kept = {group.name: np.arange(group.channels) for group in whole.groups}
        network = copy.deepcopy(subject.network).requires_grad_(True)
        return Standing(network, whole, kept, 0, [], 0, {}, [])
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DarkrackError(
            str(path), "a whole checkpoint", type(error).__name__, "delete it to start trimming again"
        ) from error
    if content["identity"] != identity:
        raise DarkrackError(
            str(folder), "a folder trimmed by the same plan from the same run", "another", "give a new --out"
        )
    kept = {name: value.numpy() for name, value in content["kept"].items()}
    network, structure = _cut(subject.network, subject, whole, kept)
    network.requires_grad_(True)
    network.load_state_dict(content["network"])
    standing = Standing(
        network,
        structure,
        kept,
        content["at"],
        content["pending"],
        content["step"],
        content["losses"],
        json.loads(content["done"]),
    )
    if content["optimiser"] is not None:
        standing.optimiser = torch.optim.Adam(network.parameters(), plan.learning_rate, (0.9, 0.99))
        standing.optimiser.load_state_dict(content["optimiser"])
    for name, one in subject.opponents().items():
        one.load_state_dict(content["opponents"][name])
    return standing


def _append(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    columns = ["round", "step", *LEARN]
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        writer.writerows({key: round(value, 5) for key, value in row.items()} for row in rows)
