"""`darkrack trim --report`: quality against cost, of every network that the judge has heard.

Quality is the judge's (`darkrack evaluate A B ... --json F`); cost is counted (MACs, parameters, bytes, RAM) and
measured side by side in one run (microseconds a note through LiteRT). Douwes et al. 2021 compare generative models of
sound that way: no figure of quality without what it costs.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.prove import LEAST_CORRELATION, TOLERANCE, quality, worse
from compress.quantize import DYNAMIC_INT8, FLOAT32, quantized, time_variants
from device.errors import DarkrackError
from device.files import atomic_path, read_bytes, write_json
from device.machine import meter
from train.report import read as read_figures

ACCURACY = "accuracy.json"
METERED_S = 1.0  # of notes, one after another, for a reading of energy


@dataclass(frozen=True)
class Board:
    """What a board has for one voice: RAM and flash in bytes, int8 multiply-accumulates a second of one core.

    ``macs_per_s`` is peak: clock times what its widest multiply-accumulate instruction does in a cycle.
    """

    name: str
    ram: float
    flash: float
    macs_per_s: float
    why: str


# Half of RAM at most is the network's; storage of the Pis is a card and has no bound here.
BOARDS = (
    Board("Raspberry Pi 5", 2e9, math.inf, 2.4e9 * 32, "Cortex-A76, 2.4 GHz, two SDOT of 16 a cycle"),
    Board("Raspberry Pi 4", 1e9, math.inf, 1.8e9 * 8, "Cortex-A72, 1.8 GHz, one SMLAL of 8 a cycle"),
    Board("Raspberry Pi Zero 2 W", 512e6, math.inf, 1.0e9 * 8, "Cortex-A53, 1 GHz, one SMLAL of 8 a cycle"),
    Board("Arduino Portenta H7", 1e6, 2e6, 480e6 * 2, "Cortex-M7, 480 MHz, SMLAD: 2 a cycle"),
    Board("Arduino Nano 33 BLE", 256e3, 1e6, 64e6 * 2, "Cortex-M4, 64 MHz, SMLAD: 2 a cycle"),
)
ACHIEVED = (0.1, 0.4)  # of peak: small layers spend their time on moving data


@dataclass(frozen=True)
class Candidate:
    """One network: what it is, what it costs, how it sounds. Estimates are (value, low, high)."""

    name: str
    path: str
    arm: str
    budget: str  # that it was trimmed to; empty where it was not
    share: float  # of the parent's MACs
    weight_share: float
    macs: int
    parameters: int
    file_bytes: int
    ram_bytes: int
    played: str  # the variant that plays by default, of which file, RAM, time and energy are
    note_us: float
    float32_us: float
    against_parent: float  # the parent's float32 time a note over this one's as it plays
    note_j: float
    trained_core_s: float | None  # with all that it started from; None where that was not counted
    trained_j: float | None
    steps: int  # with all that it started from, as the seconds
    fad: dict[str, tuple[float, float, float]]
    correlation: float
    pitch_cents: float
    diversity: float | None
    keeps: bool  # FAD, pitch and correlation within the parent's interval or TOLERANCE


def report(figures_files: Sequence[Path], out: Path, watts: float) -> list[Candidate]:
    """Cost and quality of all runs in these figures; writes report.md, report.json and pareto.png into ``out``.

    The parent is the dearest run that was not trimmed. ``watts``: of one busy core, where no meter can be read. Files
    named accuracy.json are what trimming leaves beside classifiers, and make a table of their own. Raises
    DarkrackError for figures without runs, or of notes or ears that differ.
    """
    accuracies = [_read_accuracy(path) for path in figures_files if path.name == ACCURACY]
    figures = [read_figures(path) for path in figures_files if path.name != ACCURACY]
    if not figures:
        with atomic_path(out / "report.md") as temporary:
            temporary.write_text("\n".join(_classifiers(accuracies)) + "\n", encoding="utf-8")
        return []
    heard = {
        json.dumps([one["parts"], one["seed"], [e["weights_sha256"] for e in one["ears"]]]) for one in figures
    }
    if len(heard) > 1:
        raise DarkrackError(
            ", ".join(map(str, figures_files)),
            "figures of the same notes, ears and seed",
            "others",
            "judge them again",
        )
    subjects: dict[str, dict[str, Any]] = {}
    for one in figures:
        subjects.update(
            {
                str(Path(s["path"]).resolve()): s
                for s in one["subjects"]
                if s["kind"] == "run" and not s["fault"]
            }
        )
    if not subjects:
        raise DarkrackError(
            str(figures_files[0]), "figures of runs", "none", "darkrack evaluate RUN ... --json FILE"
        )
    candidates = _measure(subjects, watts)
    sensor = meter()
    metered = sensor.name if sensor is not None else f"derived: CPU time x {watts:g} W"
    write_json(
        out / "report.json",
        {
            "energy": metered,
            "commands": [one["command"] for one in figures],
            "networks": [vars(c) for c in candidates],
            "classifiers": accuracies,
        },
    )
    ears = list(candidates[0].fad)
    with atomic_path(out / "report.md") as temporary:
        lines = [
            *_text(candidates, figures[0], ears, metered),
            *(_classifiers(accuracies) if accuracies else ()),
        ]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _draw(candidates, ears[-1], out / "pareto.png")
    return candidates


def _read_accuracy(path: Path) -> dict[str, Any]:
    hint = "darkrack trim classifier writes it"
    raw = read_bytes(path, "the accuracy of a trimmed classifier", hint)
    try:
        found = json.loads(raw)
        missing = {"whole", "left", "trimmed"} - set(found)
    except (ValueError, TypeError) as error:
        raise DarkrackError(str(path), "JSON", str(error), hint) from error
    if missing:
        raise DarkrackError(str(path), "the accuracy of a trimmed classifier", "something else", hint)
    return dict(found)


def _classifiers(accuracies: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How often classifiers are right against what they cost; each beside the whole one, as timed with it."""
    asked = [(what, part) for what in ("pitch", "family") for part in ("unseen_notes", "unseen_instruments")]
    yield "# The judge's classifier"
    yield ""
    yield "Right answers in per cent, with the interval; milliseconds for two notes through torch, one thread."
    yield ""
    head = ["from", "MACs", "weights", "ms"]
    head += [f"{what}, {part.replace('_', ' ')}" for what, part in asked]
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"

    def cells(right: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
        return [
            "{:.1f} ({:.1f} to {:.1f})".format(*(100 * share for share in right[what][part]))
            if part in right.get(what, {})
            else ""
            for what, part in asked
        ]

    for n, one in enumerate(sorted(accuracies, key=lambda one: -one["trimmed"]["macs_share"])):
        trimmed, whole, left = one["trimmed"], one["whole"], one["left"]
        if not n:
            first = ["whole", "100.0%", "100.0%", f"{whole['ms']:.2f}", *cells(whole["accuracy"])]
            yield "| " + " | ".join(first) + " |"
        weights = trimmed["parameters"] / trimmed["parent"]["parameters"]
        cost = [
            f"{trimmed['macs_share']:.1%}",
            f"{weights:.1%}",
            f"{left['ms']:.2f} ({left['ms'] / whole['ms']:.2f})",
        ]
        yield "| " + " | ".join([_arm({"trimmed": trimmed}), *cost, *cells(left["accuracy"])]) + " |"


def _measure(subjects: Mapping[str, Mapping[str, Any]], watts: float) -> list[Candidate]:
    import torch

    from compress.export import plays_by_default, to_tflite
    from compress.prune import count_macs
    from train.cost import spent
    from train.runs import open_run

    counted: dict[str, tuple[int, int, dict[str, Any]]] = {}
    models: dict[str, bytes] = {}
    played: dict[str, str] = {}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    outputs: dict[str, tuple[int, ...]] = {}
    for path in subjects:
        opened = open_run(Path(path))
        inputs, generator = opened.inputs, opened.generator
        macs = count_macs(generator, [torch.zeros(size) for size in inputs.values()])
        counted[path] = macs, sum(parameter.numel() for parameter in generator.parameters()), opened.facts
        played[path] = plays_by_default(opened.grid)
        models[f"{path} {FLOAT32}"] = to_tflite(generator, inputs)
        models[f"{path} {played[path]}"] = quantized(models[f"{path} {FLOAT32}"], played[path])
        shapes[path], outputs[path] = inputs, opened.output
    parent = max(
        (p for p in counted if "trimmed" not in counted[p][2]), key=lambda p: counted[p][0], default=None
    )
    if parent is None:
        raise DarkrackError(
            "--report", "the parent among the runs", "only trimmed ones", "judge the parent with them"
        )
    for path, other in shapes.items():
        if other != shapes[parent] or outputs[path] != outputs[parent]:
            raise DarkrackError(
                path, "a network that makes notes as its parent does", "another recipe", "leave it out"
            )
    notes = {name: np.zeros(size, np.float32) for name, size in shapes[parent].items()}
    yardstick = f"{parent} {FLOAT32}"
    times = time_variants(models, notes, outputs[parent], yardstick=yardstick)
    made = []
    for path, subject in subjects.items():
        macs, parameters, facts = counted[path]
        trained = spent(Path(path))
        plays, float32 = f"{path} {played[path]}", f"{path} {FLOAT32}"
        made.append(
            Candidate(
                name=subject["name"],
                path=path,
                arm=_arm(facts, path == parent),
                budget=facts.get("trimmed", {}).get("budget", ""),
                share=macs / counted[parent][0],
                weight_share=parameters / counted[parent][1],
                macs=macs,
                parameters=parameters,
                file_bytes=len(models[plays]),
                ram_bytes=ram_bytes(models[plays]),
                played=played[path],
                note_us=times[plays].median_us,
                float32_us=times[float32].median_us,
                against_parent=1 / times[plays].ratio,
                note_j=_energy_j(models[plays], watts),
                trained_core_s=trained.get("core_seconds"),
                trained_j=trained.get("joules"),
                steps=int(trained.get("steps", facts["step"])),
                keeps=not worse(subject, subjects[parent]),
                **vars(quality(subject)),
            )
        )
    return sorted(made, key=lambda one: (-one.macs, one.arm))


def _arm(facts: Mapping[str, Any], is_parent: bool = False) -> str:
    if "trimmed" not in facts:
        return "parent" if is_parent else "trained from scratch"
    trimmed = facts["trimmed"]
    survivors = {"go-on": "", "early": ", rewound", "fresh": ", fresh weights"}[trimmed["survivors"]]
    return f"{trimmed['criterion']} per {trimmed['per']}{survivors}"


def ram_bytes(model: bytes) -> int:
    """The most that a TFLite model's inner tensors take at once: what an interpreter's arena holds at the least.

    Counted over the operators in their order: a tensor lives from the one that makes it to the last that reads it;
    inputs from the start, outputs to the end. Weights are not in it.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    read = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    most = 0
    sizes = {
        0: 4,
        1: 2,
        2: 4,
        3: 1,
        4: 8,
        6: 1,
        7: 2,
        9: 1,
    }  # float32, float16, int32, uint8, int64, bool, int16, int8
    for graph in read.subgraphs:
        last = len(graph.operators)
        born: dict[int, int] = dict.fromkeys((int(n) for n in graph.inputs), 0)
        dies: dict[int, int] = dict.fromkeys((int(n) for n in graph.outputs), last)
        for place, operator in enumerate(graph.operators):
            for tensor in (int(n) for n in operator.outputs):
                born.setdefault(tensor, place)
                dies.setdefault(tensor, place)
            for tensor in (int(n) for n in operator.inputs if n >= 0):
                if tensor in born:
                    dies[tensor] = max(dies.get(tensor, 0), place)
        for place in range(last):
            live = sum(
                math.prod(int(n) for n in graph.tensors[t].shape) * sizes[graph.tensors[t].type]
                for t in born
                if born[t] <= place <= dies.get(t, place)
            )
            most = max(most, live)
    return most


def _energy_j(model: bytes, watts: float) -> float:
    """Joules a note: by the machine's meter where it can be read, otherwise CPU time times ``watts``."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()
    notes = 0

    def work() -> None:
        nonlocal notes
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < METERED_S:
            interpreter.invoke()
            notes += 1

    sensor, began_cpu_s = meter(), time.process_time()
    if sensor is not None:
        return sensor.spent_j(work) / notes
    work()
    return (time.process_time() - began_cpu_s) * watts / notes


def front(candidates: Sequence[Candidate], cost: str, ear: str) -> list[Candidate]:
    """Those that no other one beats in both ``cost`` and FAD by ``ear``, by rising cost."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (getattr(c, cost), c.fad[ear][0])):
        if not kept or one.fad[ear][0] < kept[-1].fad[ear][0]:
            kept.append(one)
    return kept


def _text(
    candidates: Sequence[Candidate], figures: Mapping[str, Any], ears: Sequence[str], meter: str
) -> Iterator[str]:
    yield "# Quality against cost"
    yield ""
    yield f"{figures['date']}, {figures['machine']}, effort {figures['effort']['name']}, seed {figures['seed']}."
    yield (
        "Microseconds a note: LiteRT with its delegate, one thread, all networks in turn in one run. Energy: "
        f"{meter}. RAM: inner tensors that live at once. FAD on unseen notes of seen instruments, with its interval."
    )
    yield ""
    plays = candidates[0].played.removeprefix("dynamic_")
    head = [
        "network",
        "from",
        "MACs",
        "of the parent's",
        "weights",
        "file kB",
        "RAM kB",
        f"us {plays}",
        "us float32",
    ]
    head += [f"parent's float32 / {plays}", "uJ a note", "training, core s", "Wh", "steps"]
    head += [f"FAD by {ear}" for ear in ears] + ["correlation", "pitch, cents", "diversity", "as the parent"]
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for one in candidates:
        fads = [f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in one.fad.values()]
        cells = [
            "/".join(Path(one.path).parts[-2:]), one.arm, f"{one.macs / 1e6:.2f} M", f"{one.share:.1%}",
            f"{one.weight_share:.1%}",
            f"{one.file_bytes / 1e3:.0f}", f"{one.ram_bytes / 1e3:.0f}", f"{one.note_us:.0f}", f"{one.float32_us:.0f}",
            f"{one.against_parent:.1f}", f"{one.note_j * 1e6:.0f}",
            "" if one.trained_core_s is None else f"{one.trained_core_s:.0f}",
            "" if one.trained_j is None else f"{one.trained_j / 3600:.2g}", str(one.steps),
            *fads, f"{one.correlation:.3f}", f"{one.pitch_cents:.1f}",
            "" if one.diversity is None else f"{one.diversity:.2f}", "yes" if one.keeps else "no",
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"
    yield ""
    rule = (
        f"sounds as the parent does (FAD and pitch within the parent's interval or {TOLERANCE:.0%}, correlation within "
        f"{TOLERANCE:.0%} or {LEAST_CORRELATION:g})"
    )
    kept = [one for one in candidates if one.keeps and one.arm != "parent"]
    if kept:
        least = min(kept, key=lambda one: one.macs)
        yield f"The smallest that {rule}: {least.arm}, {least.share:.1%} of MACs, {least.weight_share:.1%} of weights."
    else:
        yield f"None {rule}."
    yield ""
    yield from _arms(candidates, ears)
    if candidates[0].played != DYNAMIC_INT8:
        return  # the boards' peaks are int8's
    yield "## What fits where"
    yield ""
    smallest = min(kept or candidates, key=lambda one: one.macs)
    largest = max(candidates, key=lambda one: one.macs)
    yield (
        "Estimates, not measured on the boards: notes a second from the MACs and a share of the core's peak "
        f"({ACHIEVED[0]:.0%} to {ACHIEVED[1]:.0%}); RAM and flash as above, half of the board's RAM at most."
    )
    yield ""
    heads = [f"{one.arm} {one.share:.1%}: fits, notes a second" for one in (largest, smallest)]
    yield f"| board | its core | {heads[0]} | {heads[1]} |"
    yield "|---|---|---|---|"
    for board in BOARDS:
        cells = []
        for one in (largest, smallest):
            fits = one.ram_bytes <= board.ram / 2 and one.file_bytes <= board.flash
            low, high = (board.macs_per_s * share / one.macs for share in ACHIEVED)
            cells.append(f"{'yes' if fits else 'no'}, {_two_digits(low)} to {_two_digits(high)}")
        yield f"| {board.name} | {board.why} | {cells[0]} | {cells[1]} |"


def _two_digits(value: float) -> str:
    """A number to two digits, written out: 7700 and not 7.7e+03."""
    return f"{value:.2g}" if value < 10 else f"{float(f'{value:.1e}'):.0f}"


def _arms(candidates: Sequence[Candidate], ears: Sequence[str]) -> Iterator[str]:
    """Ways to trim beside each other at each budget, over their seeds, the best first; nothing where none has two."""
    trimmed: dict[tuple[str, str, int], list[Candidate]] = {}
    for one in candidates:
        if one.budget:
            trimmed.setdefault((one.budget, one.arm, one.steps), []).append(one)
    if all(len(seeds) < 2 for seeds in trimmed.values()):
        return
    yield "## Seeds"
    yield ""
    yield f"Mean over seeds, in brackets the least and the most; at each budget by FAD of {ears[-1]}."
    yield ""
    head = ["budget", "from", "steps", "seeds", *(f"FAD by {ear}" for ear in ears), "correlation"]
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"

    def spread(values: Sequence[float], digits: int) -> str:
        mean, least, most = (
            f"{one:.{digits}f}" for one in (statistics.fmean(values), min(values), max(values))
        )
        return f"{mean} ({least} to {most})" if len(values) > 1 else mean

    largest = {budget: max(one.share for one in candidates if one.budget == budget) for budget, *_ in trimmed}

    def order(way: tuple[str, str, int]) -> tuple[float, float]:
        return -largest[way[0]], statistics.fmean(one.fad[ears[-1]][0] for one in trimmed[way])

    for budget, arm, steps in sorted(trimmed, key=order):
        seeds = trimmed[budget, arm, steps]
        fads = [spread([one.fad[ear][0] for one in seeds], 2) for ear in ears]
        cells = [
            budget,
            arm,
            str(steps),
            str(len(seeds)),
            *fads,
            spread([one.correlation for one in seeds], 3),
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _draw(candidates: Sequence[Candidate], ear: str, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    arms = sorted({one.arm for one in candidates}, key=lambda arm: (arm != "parent", arm))
    for axis, (cost, label) in zip(
        axes,
        (
            ("macs", "MACs a note"),
            ("note_us", f"us a note, {candidates[0].played}"),
            ("parameters", "parameters"),
        ),
        strict=True,
    ):
        for number, arm in enumerate(arms):
            points = [one for one in candidates if one.arm == arm]
            values = np.array([one.fad[ear] for one in points])
            spread = np.abs(values[:, 1:] - values[:, :1]).T
            axis.errorbar(
                [getattr(one, cost) for one in points], values[:, 0], spread, label=arm, color=f"C{number}",
                fmt="*" if arm == "parent" else "o", markersize=12 if arm == "parent" else 5, elinewidth=0.5,
            )  # fmt: skip
        best = front(candidates, cost, ear)
        axis.plot(
            [getattr(one, cost) for one in best],
            [one.fad[ear][0] for one in best],
            "k--",
            lw=1,
            label="front",
        )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(label)
        axis.set_ylabel(f"FAD by {ear}, less is better")
        axis.grid(visible=True, alpha=0.3)
    axes[0].legend()
    figure.suptitle("Quality against cost")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
