"""The tables of docs/arm64.md, from what is kept beside this module; and the same lines for a terminal."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arm64.cost import MACHINES, Estimate, estimate
from benchmarks.arm64.counts import Piece
from benchmarks.arm64.root import BOARDS, CLONE
from benchmarks.command import table as markdown_table
from device.files import atomic_path, read_toml

HERE = Path(__file__).parent
KEPT, KNOWN, PUBLISHED = HERE / "counts.json", HERE / "known.json", HERE / "published.toml"
DOCUMENT = CLONE / "docs" / "arm64.md"
BEGIN, END = "<!-- {}: made by python -m benchmarks.arm64 page -->", "<!-- end of {} -->"
BLOCK_MS = 128 / 48_000 * 1e3


def kept() -> dict[str, Any]:
    """The report whose counts are the bound."""
    report: dict[str, Any] = _read(KEPT)
    return report


def write() -> Path:
    """Put the tables into the document, where their marks are."""
    text = document(DOCUMENT.read_text(encoding="utf-8"))
    with atomic_path(DOCUMENT) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return DOCUMENT


def document(text: str) -> str:
    """``text`` with every table made anew from what is kept."""
    report = kept()
    tables = {
        "agreement": f"{_made(report)}\n\n{agreement(report)}",
        "counts": counts_table(report),
        "check": check(),
        "estimates": estimates(report),
    }
    for name, table in tables.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def agreement(report: dict[str, Any]) -> str:
    """How far boards are from this machine, a row for each bundle and board."""
    rows = []
    for name, one in report["bundles"].items():
        for board in BOARDS:
            figures = one["boards"][board.name]
            played = ", ".join(
                f"{variant} {value:.2f} ({figures['here_snr_db'][variant]:.2f})"
                for variant, value in figures["played_snr_db"].items()
            )
            sounds = [
                f"{figures[what]:.0f}" if what in figures else "not run" for what in ("render_db", "play_db")
            ]
            rows.append((name, board.cpu, f"{figures['golden_largest_difference']:.2g}", played, *sounds))
    head = (
        "bundle",
        "core",
        "golden, largest difference",
        "as played, dB from golden (here)",
        "`render`, dB",
        "`play`, dB",
    )
    return markdown_table([head, *rows])


def counts_table(report: dict[str, Any]) -> str:
    """Thousands of instructions and of lines missed, a row for each piece of work and core."""
    head = (
        "work",
        "core",
        "instructions",
        "spread",
        "multiply",
        "other SIMD",
        "load, store",
        "integer",
        "branch",
    )
    rows = []
    for name, cpu, piece in _pieces(report):
        c = piece.counts
        parts = (c.vector_multiply, c.vector, c.load_store + c.load_store_vector, c.integer, c.branch)
        misses = f"{_k(c.missed_l1)} / {_k(c.missed_l2)}" + (f" / {_k(c.missed_l3)}" if c.missed_l3 else "")
        rows.append((name, cpu, _k(c.instructions), f"{piece.spread:.2%}", *map(_k, parts), misses))
    return markdown_table([(*head, "lines missed"), *rows])


def estimates(report: dict[str, Any]) -> str:
    """What the model makes of the counts on the boards; every figure of it is an estimate."""
    rows = []
    for name, cpu, piece in _pieces(report):
        for machine in (MACHINES["pi4 1.5"], MACHINES["pi4"], MACHINES["pi5"]):
            if machine.core == cpu:
                made = estimate(piece.counts, machine)
                share = (
                    f"{made.low_ms / BLOCK_MS:.0%} to {made.high_ms / BLOCK_MS:.0%}"
                    if "block" in name
                    else ""
                )
                rows.append((name, machine.name, _range(made), made.bound, share))
    head = ("work", "board", "estimate, ms", "at least, for its", "of a block's time (estimate)")
    return markdown_table([head, *rows])


def check() -> str:
    """The model against published measurements of known networks."""
    known = _read(KNOWN)
    rows = []
    for measured in read_toml(PUBLISHED, "measurements")["measured"]:
        machine = MACHINES[measured["machine"]]
        piece = Piece.of(known[measured["engine"]][machine.core][measured["network"]])
        made = estimate(piece.counts, machine)
        ms = measured["ms"]
        inside = "inside" if made.holds(ms) else "outside"
        rows.append(
            (
                f"{measured['network']}, {measured['engine']}",
                machine.name,
                _k(piece.counts.instructions),
                _range(made),
                f"{ms:.1f}, {inside}",
                f"{ms / made.middle_ms:.2f}",
                measured["source"],
            )
        )
    head = (
        "network",
        "machine",
        "thousand instructions",
        "estimate, ms",
        "published, ms",
        "published / middle",
        "source",
    )
    return markdown_table([head, *rows])


def _made(report: dict[str, Any]) -> str:
    """When, beside what, and with which versions."""
    names = {"ai_edge_litert": "LiteRT"}
    versions = ", ".join(
        f"{names.get(name, name)} {version}" for name, version in sorted(report["versions"].items())
    )
    return f"On {report['date']}, beside this machine: {report['machine']}. {versions}."


def _pieces(report: dict[str, Any]) -> Iterator[tuple[str, str, Piece]]:
    """(bundle and work, core, what was counted), both cores of a piece beside each other."""
    for name, one in report["bundles"].items():
        for work in one["boards"][BOARDS[0].name]["counts"]:
            for board in BOARDS:
                yield f"{name}: {work}", board.cpu, Piece.of(one["boards"][board.name]["counts"][work])


def _k(value: int) -> str:
    """Thousands."""
    return f"{value / 1000:,.0f}" if value >= 10_000 else f"{value / 1000:.1f}"


def _range(made: Estimate) -> str:
    digits = 0 if made.low_ms >= 10 else 2
    return f"{made.low_ms:.{digits}f} to {made.high_ms:.{digits}f}"


@functools.cache
def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
