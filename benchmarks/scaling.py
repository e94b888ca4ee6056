"""`python -m benchmarks.scaling`: what voices, partials, blocks, networks cost as they grow; where a machine ends.

All through what plays: the compiled audio callback on a desk, and LiteRT on one thread. Times are processor time, taken
in turns (`benchmarks.turns`). Voices are full ones: every partial of every voice sounds all the time, and few notes
have as many. Other boards are worked out from ratios that are named in a TOML file, each with its source; without one,
none are.

    [[board]]
    name = "Raspberry Pi 4"
    callback = [4.0, 7.0]       # how many times longer than here the callback takes there, from and to
    inference = [5.0, 9.0]      # and a note's frames
    source = "docs/arm64.md"
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command, turns
from device import bundle as bundles
from device.bundle import Bundle
from device.errors import DarkrackError
from device.files import atomic_path, read_toml, write_json

FORMAT = 1
SCHEMA = Path(__file__).with_name("scaling.schema.json")
ROUNDS, QUICK_ROUNDS = 30, 3
RATE_HZ = 48_000
VOICES = (1, 2, 4, 8, 16, 32)
ROWS = (8, 16, 32, 48, 64, 80, 96, 128)  # a slot of the desk holds 128
BLOCKS = (32, 64, 128, 256, 512, 1024)
USUAL_VOICES, USUAL_ROWS, USUAL_BLOCK = 8, 80, 128
WIDTHS, QUICK_WIDTHS = (16, 32, 64, 96, 128), (16,)
PIECE_SAMPLES = 12_288  # a turn's sound: twelve blocks of 1024
REFRESH_HZ = 50  # notes a second of a voice whose knobs turn (device.worker.REFRESH_HZ)
# Of a core: what the callback may take at most, so that a block that takes twice as long is still in time; and what
# frames may take of another core, where nothing waits for them by the block.
CALLBACK_SHARE, INFERENCE_SHARE = 0.5, 0.9
BOARD_KEYS = {"name", "callback", "inference", "source"}
HERE = "this machine"


@dataclass(frozen=True)
class Board:
    """How many times longer than here things take there, from and to, and who says so."""

    name: str
    callback: tuple[float, float]
    inference: tuple[float, float]
    source: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "bundle", nargs="+", type=Path, metavar="BUNDLE", help="bundles whose networks are timed, *.rack"
    )
    parser.add_argument(
        "--widths",
        nargs="*",
        type=command.count,
        metavar="N",
        help=f"channels of networks with random weights (default {' '.join(map(str, WIDTHS))})",
    )
    parser.add_argument("--boards", type=Path, metavar="TOML", help="ratios of other boards to this machine")
    parser.add_argument("--rounds", type=command.count, metavar="N", help=f"turns of each (default {ROUNDS})")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds, one width; for a first look"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument(
        "--out", type=Path, metavar="PAGE", help="write a page, and beside it the picture PAGE.png"
    )


def run(args: argparse.Namespace) -> None:
    """Measure, print, and write what is asked for."""
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    widths = args.widths if args.widths is not None else (QUICK_WIDTHS if args.quick else WIDTHS)
    boards = read_boards(args.boards) if args.boards is not None else []
    read = [bundles.read(path) for path in args.bundle]
    facts = command.machine(["ai-edge-litert", "numba", "numpy"])
    content = {
        "format": FORMAT,
        "command": _command(args),
        "machine": facts,
        "rounds": rounds,
        "confidence": turns.CONFIDENCE,
        **measure(read, widths, rounds),
    }
    content["boards"] = [_board(board, content) for board in [_here(), *counted_boards(content), *boards]]
    print(markdown(content))
    if args.json is not None:
        write_json(args.json, content)
    if args.out is not None:
        picture = args.out.with_suffix(".png")
        draw(content, picture)
        with atomic_path(args.out) as temporary:
            temporary.write_text(page(content, picture.name), encoding="utf-8")


def read_boards(path: Path) -> list[Board]:
    """The ratios that a person wrote down; DarkrackError names what is wrong, or whose source is missing."""
    table = read_toml(path, "ratios of boards")
    found = table.get("board")
    if set(table) != {"board"} or not isinstance(found, list):
        raise DarkrackError(str(path), "tables [[board]] and nothing else", ", ".join(table) or "nothing")
    boards = []
    for number, one in enumerate(found, 1):
        where = f"{path}: board {number}"
        if set(one) != BOARD_KEYS:
            raise DarkrackError(
                where, f"the keys {', '.join(sorted(BOARD_KEYS))}", ", ".join(sorted(one)) or "none"
            )
        for key in ("name", "source"):
            if not isinstance(one[key], str) or not one[key].strip():
                raise DarkrackError(f"{where}: {key}", "a text", repr(one[key]))
        callback, inference = (_range(one[key], f"{where}: {key}") for key in ("callback", "inference"))
        boards.append(Board(one["name"], callback, inference, one["source"]))
    return boards


def _range(value: Any, where: str) -> tuple[float, float]:
    numbers = (
        [one for one in value if isinstance(one, int | float) and not isinstance(one, bool)]
        if isinstance(value, list)
        else []
    )
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] < math.inf:
        raise DarkrackError(where, "two numbers above 0, from and to, as [4.0, 7.0]", repr(value))
    return float(numbers[0]), float(numbers[1])


def measure(read: Sequence[Bundle], widths: Sequence[int], rounds: int) -> dict[str, Any]:
    """All figures: milliseconds of processor time, each with its interval."""
    from benchmarks.ours import Callback, converted
    from compress.quantize import quietly

    callbacks: dict[tuple[int, int], Callback] = {}
    tasks: dict[str, Callable[[], object]] = {}
    for voices, rows, block in _points():
        made = callbacks.setdefault((voices, rows), Callback(voices, rows))
        tasks[_key(voices, rows, block)] = partial(made.render, PIECE_SAMPLES, block)
    networks: list[dict[str, Any]] = []
    with quietly():
        for bundle in read:
            for variant in bundle.manifest.variants:
                name = f"{bundle.path.name}, {variant}"
                networks.append(
                    _network(name, bundle.path.name, variant, bundle.manifest.macs, bundle.model(variant))
                )
                tasks[f"frames: {name}"] = _frames(bundle, variant)
        for width in widths:
            models, macs = converted(width)
            for variant, model in models.items():
                name = f"random weights, {width} channels, {variant}"
                networks.append(_network(name, None, variant, macs, model))
    for network in networks:
        tasks[network["name"]] = network.pop("task")
    taken = turns.taken_s(tasks, rounds)

    def points(axis: str, values: Sequence[int]) -> list[dict[str, Any]]:
        usual = {"voices": USUAL_VOICES, "rows": USUAL_ROWS, "block": USUAL_BLOCK}
        return [
            {**at, "ms_per_second": list(turns.summary(1e3 * RATE_HZ / PIECE_SAMPLES * taken[_key(**at)]))}
            for value in values
            for at in [{**usual, axis: value}]
        ]

    return {
        "voices": points("voices", VOICES),
        "partials": points("rows", ROWS),
        "blocks": points("block", BLOCKS),
        "networks": [
            {
                **network,
                "ms": list(turns.summary(1e3 * taken[network["name"]])),
                "frames_ms": list(turns.summary(1e3 * taken[f"frames: {network['name']}"]))
                if network["bundle"] is not None
                else None,
            }
            for network in networks
        ],
    }


def _points() -> list[tuple[int, int, int]]:
    """(voices, rows, block) of all that the callback is timed at, each once."""
    points = [(voices, USUAL_ROWS, USUAL_BLOCK) for voices in VOICES]
    points += [(USUAL_VOICES, rows, USUAL_BLOCK) for rows in ROWS]
    points += [(USUAL_VOICES, USUAL_ROWS, block) for block in BLOCKS]
    return list(dict.fromkeys(points))


def _key(voices: int, rows: int, block: int) -> str:
    return f"{voices} voices, {rows} rows, {block} samples"


def _frames(bundle: Bundle, variant: str) -> Callable[[], object]:
    """A note's frames as a voice gets them: network, decoding, level; the noise is kept, as that of a held note is."""
    from device.maker import Maker

    manifest = bundle.manifest
    maker = Maker(bundle, variant)
    z = np.zeros(manifest.latent_size, np.float32)
    middle = np.array(
        [attribute.quantiles[len(attribute.quantiles) // 2] for attribute in manifest.attributes]
    )
    return lambda: maker.note(z, middle, 60.0, 0.8, 1)


def _network(name: str, bundle: str | None, variant: str, macs: int, model: bytes) -> dict[str, Any]:
    """One TFLite model, and the task that runs it on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    from device.generator import SIGNATURE

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(SIGNATURE)
    places = [(one["index"], one["shape"]) for one in runner.get_input_details().values()]
    del runner  # the interpreter does not run while something else holds its insides
    random = np.random.default_rng(0)
    for place, shape in places:
        interpreter.set_tensor(place, random.uniform(0, 1, shape).astype(np.float32))
    return {
        "name": name,
        "bundle": bundle,
        "variant": variant,
        "macs": macs,
        "bytes": len(model),
        "task": interpreter.invoke,
    }


# ---- Where a machine ends ----


def _here() -> Board:
    return Board(HERE, (1.0, 1.0), (1.0, 1.0), f"a line through what {VOICES[0]} to {VOICES[-1]} voices took")


def counted_boards(content: Mapping[str, Any]) -> list[Board]:
    """A Pi 4 and a Pi 5, where `benchmarks.arm64` counted a bundle of this run: estimates over what it took here."""
    from benchmarks.arm64 import page as counted
    from benchmarks.arm64.cost import MACHINES, estimate
    from benchmarks.arm64.counts import Piece

    bundles_counted = counted.kept()["bundles"]
    network = next((one for one in content["networks"] if one["bundle"] in bundles_counted), None)
    eight = next((one for one in content["voices"] if one["voices"] == 8), None)
    if network is None or eight is None:
        return []
    here_ms = {
        "block": eight["ms_per_second"][0] * USUAL_BLOCK / RATE_HZ,  # 8 voices, as there
        f"note {network['variant']}": network["ms"][0],
    }
    boards = []
    for name, one in bundles_counted[network["bundle"]]["boards"].items():
        made = [estimate(Piece.of(one["counts"][work]).counts, MACHINES[name]) for work in here_ms]
        callback, inference = (
            (each.low_ms / ms, each.high_ms / ms) for each, ms in zip(made, here_ms.values(), strict=True)
        )
        boards.append(
            Board(MACHINES[name].name, callback, inference, "instructions counted, [arm64.md](arm64.md)")
        )
    return boards


def _board(board: Board, content: Mapping[str, Any]) -> dict[str, Any]:
    """How far a board goes: full voices held at blocks of USUAL_BLOCK, and of each network how many of them morph.

    Lines through the callback's points say what a voice costs and what the rest does. [least, most], as the ratios go.
    """
    counts = np.array([point["voices"] for point in content["voices"]], float)
    ms = np.array([point["ms_per_second"][0] for point in content["voices"]])
    each_ms, rest_ms = np.polyfit(counts, ms, 1)
    budget_ms = 1e3 * CALLBACK_SHARE
    held = [max(int((budget_ms / ratio - rest_ms) / each_ms), 0) for ratio in reversed(board.callback)]
    morphing = {
        network["name"]: [
            max(int(1e3 * INFERENCE_SHARE / (REFRESH_HZ * network["frames_ms"][0] * ratio)), 0)
            for ratio in reversed(board.inference)
        ]
        for network in content["networks"]
        if network["bundle"] is not None
    }
    return {
        "name": board.name,
        "source": board.source,
        "callback": list(board.callback),
        "inference": list(board.inference),
        "held_voices": held,
        "morphing_voices": morphing,
    }


# ---- Page and picture ----


def markdown(content: Mapping[str, Any]) -> str:
    """All figures as tables."""
    parts = [
        f"{command.said(content['machine'])}; one thread, {content['rounds']} rounds in turns; medians of processor "
        "time, "
        f"with {100 * content['confidence']:g} % intervals."
    ]
    for head, axis, points in (
        (f"Voices ({USUAL_ROWS} partials each, blocks of {USUAL_BLOCK})", "voices", content["voices"]),
        (f"Partials ({USUAL_VOICES} voices, blocks of {USUAL_BLOCK})", "rows", content["partials"]),
        (f"Samples in a block ({USUAL_VOICES} voices of {USUAL_ROWS} partials)", "block", content["blocks"]),
    ):
        rows = [[head, "ms for a second of sound", "of a core"]]
        rows += [
            [
                str(point[axis]),
                command.interval(point["ms_per_second"]),
                f"{point['ms_per_second'][0] / 10:.2f} %",
            ]
            for point in points
        ]
        parts.append(command.table(rows))
    rows = [
        ["network", "MMAC", "kB", "inference, ms a note", "MMAC a ms", "with decoding and level, ms a note"]
    ]
    for network in sorted(content["networks"], key=lambda one: (one["variant"], one["macs"])):
        ms = network["ms"][0]
        rows.append([
            network["name"], f"{network['macs'] / 1e6:.1f}", f"{network['bytes'] / 1e3:.0f}",
            command.interval(network["ms"]),
            f"{network['macs'] / 1e6 / ms:.0f}",
            "–" if network["frames_ms"] is None else command.interval(network["frames_ms"]),
        ])  # fmt: skip
    parts.append(command.table(rows))
    rows = [["where it ends", f"full voices held, blocks of {USUAL_BLOCK}", "of them morphing", "source"]]
    for board in content["boards"]:
        morphing = "<br>".join(
            f"{name}: {_span(most)}" for name, most in sorted(board["morphing_voices"].items())
        )
        held = _span(board["held_voices"])
        estimate = "" if board["name"] == HERE else " (estimate)"
        rows.append([board["name"] + estimate, held, morphing or "–", board["source"]])
    for name in ("Raspberry Pi 4", "Raspberry Pi 5"):
        if len(content["boards"]) == 1:
            rows.append([name, "not measured", "not measured", "–"])
    parts.append(command.table(rows))
    return "\n\n".join(parts)


def page(content: Mapping[str, Any], picture: str) -> str:
    """docs/scaling.md."""
    from device.engine import VOICES as LIVE_VOICES

    tables = markdown(content)
    return f"""# Scaling

Made by `{content["command"]}` on {content["machine"]["date"]}. Run it on your machine; `--boards FILE.toml` works
out another one from ratios that somebody measured or estimated there (`benchmarks/scaling.py` shows the form).

What is timed is what plays: the compiled callback on a desk with full voices (every partial of every voice sounds all
the time; few notes have as many), LiteRT's inference of a whole note, and of bundles all that a voice's frames take;
one thread. Times are processor time: what else the machine did is not in them, but for what it took of caches and
memory.

![Cost against voices, partials, block and network]({picture})

**Where it ends.** The callback may take {CALLBACK_SHARE:.0%} of a core, so that a block that takes twice its usual
time is still ready. A voice whose knobs turn is given new frames {REFRESH_HZ} times a second, on another core, of which
that may take {INFERENCE_SHARE:.0%}; where there is no time for it, frames come less often, and nothing else happens
([realtime.md](realtime.md)). The live instrument itself stops at {LIVE_VOICES} voices.

{tables}

## Kernels

`make kernels` times each kernel alone (`benchmarks/kernels.py`), by processor time, keeps the figures in `out/kernels`
and puts them beside those of the times before. A single one, and any two of the past:

    python -m pytest benchmarks/kernels.py -k voice --benchmark-timer time.process_time
    pytest-benchmark --storage out/kernels list
    export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
    pytest-benchmark --storage out/kernels compare 0001 0004 --group-by name --columns median,iqr,rounds

(The variable keeps out a plugin that comes with the converter and stops pytest 9.) Each file there names machine,
commit and date, and is JSON. `make test` runs every kernel once and times none.
"""


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Four panels: the callback against voices, partials and block, and notes against the network's size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (voices, partials), (blocks, networks) = figure.subplots(2, 2)
    for axis, what, key, points in (
        (voices, f"voices of {USUAL_ROWS} partials, blocks of {USUAL_BLOCK}", "voices", content["voices"]),
        (
            partials,
            f"partials of each of {USUAL_VOICES} voices, blocks of {USUAL_BLOCK}",
            "rows",
            content["partials"],
        ),
        (
            blocks,
            f"samples in a block, {USUAL_VOICES} voices of {USUAL_ROWS} partials",
            "block",
            content["blocks"],
        ),
    ):
        at = [point[key] for point in points]
        ms, low, high = np.array([point["ms_per_second"] for point in points]).T
        axis.fill_between(at, low, high, color="#4c78a8", alpha=0.25, linewidth=0)
        axis.plot(at, ms, "o-", color="#4c78a8")
        axis.set_xlabel(what)
        axis.set_ylabel("ms for a second of sound")
        axis.set_ylim(bottom=0)
        if key == "block":
            axis.set_xscale("log", base=2)
        axis.set_xticks(at, ["" if one == 2 else str(one) for one in at])  # 1 and 2 voices would overlap
    colours = {"float32": "#e45756", "dynamic_int8": "#4c78a8"}
    for variant in dict.fromkeys(network["variant"] for network in content["networks"]):
        colour = colours.get(variant, "#72b7b2")
        random = sorted(
            (one for one in content["networks"] if one["variant"] == variant and one["bundle"] is None),
            key=lambda one: float(one["macs"]),
        )
        shipped = [
            one for one in content["networks"] if one["variant"] == variant and one["bundle"] is not None
        ]
        if random:
            networks.plot(
                [one["macs"] / 1e6 for one in random], [one["ms"][0] for one in random], "o-", color=colour,
                label=f"random weights, {variant}",
            )  # fmt: skip
        for one, marker in zip(shipped, "s^Dv<>" * len(shipped), strict=False):
            networks.plot(
                one["macs"] / 1e6, one["ms"][0], marker, color=colour, markersize=9, markeredgecolor="black",
                label=one["name"],
            )  # fmt: skip
    networks.set_xlim(left=0)
    networks.set_ylim(bottom=0)
    networks.set_xlabel("million MACs a note")
    networks.set_ylabel("ms a note")
    networks.legend(fontsize=9, frameon=False)
    for axis in (voices, partials, blocks, networks):
        axis.grid(color="#dddddd", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
    machine = content["machine"]
    figure.suptitle(
        f"Cost on one core of {machine['processor']}, {machine['date']} (processor time, medians)",
        fontsize=12,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _command(args: argparse.Namespace) -> str:
    words = ["python -m benchmarks.scaling", *(f"models/{path.name}" for path in args.bundle)]
    if args.widths is not None:
        words += ["--widths", *map(str, args.widths)]
    if args.boards is not None:
        words += ["--boards", args.boards.name]
    if args.rounds:
        words += ["--rounds", str(args.rounds)]
    return " ".join([*words, "--quick"] if args.quick else words)


def _span(ends: Sequence[int]) -> str:
    least, most = ends
    return str(least) if least == most else f"{least} to {most}"


def main(words: Sequence[str] | None = None) -> int:
    """The command; see `command.main`."""
    return command.main("scaling", (__doc__ or "").splitlines()[0], add_arguments, run, words)


if __name__ == "__main__":
    sys.exit(main())
