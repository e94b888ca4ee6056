"""What a core executes for a piece of work: counted by the plugin, kept as a bound."""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arm64.root import Board, Root, plugin
from device.errors import DarkrackError

# In the plugin's order.
KINDS = ("integer", "branch", "load_store", "load_store_vector", "vector", "vector_multiply", "other")
COUNTS = (*KINDS, "loaded_bytes", "stored_bytes", "missed_l1", "missed_l2", "missed_l3")
LINE_BYTES = 64
RISE = 0.05  # of instructions over those kept, that is let pass: another compiler moves them by a few percent

# Data caches as count.c takes them, KiB:ways. Arm, Cortex-A72 TRM (100095), 6.1 and 7.1: L1 32 KB, 2 ways; BCM2711: L2
# 1 MB, 16 ways. Cortex-A76 TRM (100798): L1 64 KB, 4 ways, L2 8 ways; Raspberry Pi's page of the BCM2712: L2 512 KB a
# core, L3 2 MB.
CACHES = {"cortex-a72": "l1=32:2,l2=1024:16", "cortex-a76": "l1=64:4,l2=512:8,l3=2048:16"}


@dataclass(frozen=True)
class Counts:
    """Instructions by kind, bytes to and from registers, and lines of 64 bytes that were not in a cache.

    ``vector_multiply`` is whatever multiplies on vector registers (and scalar fused multiply-add), ``vector`` the other
    SIMD and floating point processing. A core without L3 has ``missed_l3`` 0.
    """

    integer: int
    branch: int
    load_store: int
    load_store_vector: int
    vector: int
    vector_multiply: int
    other: int
    loaded_bytes: int = 0
    stored_bytes: int = 0
    missed_l1: int = 0
    missed_l2: int = 0
    missed_l3: int = 0

    @property
    def instructions(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in KINDS)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(other, name) for name in COUNTS))

    def per(self, each: int) -> Counts:
        """Of one, where these are of ``each``; none where fewer than none.

        What nothing costs has been taken off these, and nothing may by chance miss a line more than little does.
        """
        return Counts(*(max(0, round(getattr(self, name) / each)) for name in COUNTS))


@dataclass(frozen=True)
class Piece:
    """One piece of work: the middle one of some repetitions, and how far instructions differed between them."""

    counts: Counts
    spread: float  # (most - least) / middle

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        counts = dataclasses.asdict(self.counts)
        return {"instructions": self.counts.instructions, "spread": round(self.spread, 5), **counts}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Piece:
        """As it was kept."""
        return cls(Counts(**{name: kept[name] for name in COUNTS}), kept["spread"])


def kind(word: int) -> str:
    """The kind of the A64 instruction with this encoding, as count.c has it."""
    group = word >> 25 & 0b1111
    if group & 0b1110 == 0b1000 or group & 0b0111 == 0b0101:
        return "integer"
    if group & 0b1110 == 0b1010:
        return "branch"
    if group & 0b0101 == 0b0100:
        return "load_store_vector" if group & 0b0010 else "load_store"
    if group & 0b0111 != 0b0111:
        return "other"
    return "vector_multiply" if _multiplies(word) else "vector"


def _multiplies(word: int) -> bool:
    """Of SIMD and floating point: Arm ARM (DDI 0487), C4.1, "Data Processing -- Scalar FP and Advanced SIMD"."""
    if word >> 24 & 0xFF == 0x1F:
        return True  # fmadd and its like
    if word >> 31:
        return False
    shape, operation, unsigned = word >> 24 & 0x1F, word >> 11 & 0x1F, word >> 29 & 1
    if shape == 0x0F:
        return not word >> 10 & 1  # by an element
    if shape != 0x0E:
        return False
    if not word >> 21 & 1:
        return bool(word >> 15 & 1 and word >> 10 & 1) and operation == 0b10010  # sdot, udot
    if word >> 10 & 1:
        # fmla and fmls; fmul (fmulx is the signed one); mla and mls; mul and pmul
        return (operation, unsigned) in {(0b11001, 0), (0b11011, 1)} or operation in {0b10010, 0b10011}
    return word >> 10 & 3 == 0 and word >> 12 & 15 in {8, 10, 12}  # smlal, smlsl, smull, and the unsigned


def parse(text: str) -> list[tuple[int, Counts]]:
    """The plugin's lines: each mark and what had been executed by then."""
    found = []
    for line in text.splitlines():
        try:
            number, *values = map(int, line.split())
            found.append((number, Counts(*values)))
            complete = len(values) == len(COUNTS)
        except (TypeError, ValueError):
            complete = False
        if not complete:
            raise DarkrackError("the plugin's output", f"a mark and {len(COUNTS)} counts", repr(line[:60]))
    return found


def pieces(marks: Sequence[tuple[int, Counts]], names: Sequence[tuple[str, int]]) -> dict[str, Piece]:
    """What lay between the marks, by the names that guest.py printed, without what a mark costs."""

    def repetitions(k: int) -> Iterator[Counts]:
        own = [counts for number, counts in marks if number // 100 == k]
        if len(own) < 2:
            raise DarkrackError("the plugin's output", f"marks of '{names[k][0]}'", f"{len(own)}")
        for before, after in itertools.pairwise(own):
            yield after - before

    def middle(each: Sequence[Counts]) -> Counts:
        return sorted(each, key=lambda one: one.instructions)[len(each) // 2]

    empty = middle(list(repetitions(0)))
    found = {}
    for k, (name, each) in enumerate(names[1:], start=1):
        repeated = list(repetitions(k))
        totals = [one.instructions for one in repeated]
        spread = (max(totals) - min(totals)) / max(statistics.median(totals), 1)
        found[name] = Piece((middle(repeated) - empty).per(each), spread)
    return found


def count(root: Root, board: Board, *words: str, also: Sequence[Path] = ()) -> dict[str, Piece]:
    """Have guest.py do the work that ``words`` say on a board's core."""
    with tempfile.TemporaryDirectory(prefix="darkrack-arm64.") as folder:
        out = Path(folder) / "marks"
        watched = f"{plugin()},out={out},{CACHES[board.cpu]}"
        guest = str(Path(__file__).with_name("guest.py"))
        said = root.run(board, [guest, *words], plugin=watched, folder=Path(folder), also=also)
        return pieces(parse(out.read_text(encoding="utf-8")), json.loads(said.splitlines()[-1]))


def risen(kept: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where a piece takes more instructions than were kept, by more than RISE; and pieces that are gone."""
    found = [f"{name}: not counted any more" for name in kept if name not in now]
    for name in kept.keys() & now.keys():
        before, after = kept[name]["instructions"], now[name]["instructions"]
        if after > before * (1 + RISE):
            found.append(
                f"{name}: {after:,} instructions, {after / before - 1:+.1%} over the {before:,} that are kept"
            )
    return sorted(found)
