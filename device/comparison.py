"""Figures that come in rounds, the interval that a run states for each, and two runs of `darkrack bench` side by side.

Everything that is measured is measured in several rounds, and all kinds of it in turn, so that whatever else happens
on the machine falls on all of them alike. A run states a range for each figure, and two runs differ where their ranges
lie apart. The range is that of the rounds, and some more:

- If two runs of n rounds measured the same thing, all 2 n rounds would be in any order with equal chance, and two of
  the C(2 n, n) choices of which are whose lie apart: .2 % for 6 rounds, whatever the distribution. With many rounds the
  outermost are left away as long as that chance stays under CHANCE (`left_away`).
- With fewer rounds than 6 that chance is larger (10 % for 3), and rounds of one run are more alike than those of two,
  for what else the machine does lasts longer than a round. So the range is stretched at both ends by a share of itself,
  on a logarithmic scale (`stretch`). For rounds that are normal, uniform, exponential or of Student's t with 2 degrees
  of freedom, runs of the same thing then lie apart less than once in a hundred times (tests/test_comparison.py).
- What else the machine does may be another thing for all of a run. So every round times a fixed loop, too, and where
  both runs are of one processor, a figure differs only if it does by more than the loop does: by its quickest tenth
  (the processor's speed), or by its mean (the share of a core that is left) where the figure is of something that has
  to wait (``moved_by``).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.errors import DarkrackError
from device.files import read_bytes

FORMAT = 1  # of the JSON; raised when an old reader would misunderstand a new file
KIND = "darkrack bench"
CHANCE = 0.01  # that two runs of the same thing are told apart
FEWEST = 3  # rounds that say anything
STRETCH = {1: 0.0, 2: 0.0, 3: 1.0, 4: 0.5}  # by the number of rounds
STRETCH_MORE = 0.25  # for more of them
LIMIT_BYTES = 64 << 20

Document = Mapping[str, Any]


@functools.cache
def left_away(rounds: int) -> int:
    """How many rounds at either end may be left away: the most for which alike runs seem to differ rarely enough."""
    most = 0
    while 2 * (most + 1) < rounds and mistaken(rounds, most + 1) <= CHANCE:
        most += 1
    return most


def mistaken(rounds: int, away: int = 0) -> float:
    """The chance that two runs of the same thing lie apart, with ``away`` rounds left away at each end of both.

    One lies below where at most ``away`` rounds of the other come before its (rounds - away)th: a negative
    hypergeometric distribution. Twice that, for the other may as well.
    """
    n, k = rounds, away
    ways = sum(math.comb(n - k - 1 + j, j) * math.comb(k + n - j, n - j) for j in range(k + 1))
    return 2 * ways / math.comb(2 * n, n)


def stretch(rounds: int) -> float:
    """How much of the range, in logarithms, it is widened by at either end."""
    return STRETCH.get(rounds, STRETCH_MORE)


def measured(
    rounds: Sequence[float], unit: str, step: float = 0.0, better: str = "lower", moved_by: str = "nothing"
) -> dict[str, Any]:
    """A figure as the JSON has it: the median of its rounds, and the range that the run states for it.

    ``step`` is what the measurement itself cannot tell apart (a sample, a bin, the timer's resolution): each end of the
    range is half of it further out. ``better`` is "lower" or "higher"; ``moved_by`` says what of a busy
    machine moves it: its "speed", the "share" of a core that is left, or "nothing".
    """
    ordered = sorted(float(one) for one in rounds)
    n, away = len(ordered), left_away(len(ordered))
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    low, high = max(ordered[away] - step / 2, 0.0), ordered[n - 1 - away] + step / 2
    wider = (high / low) ** stretch(n) if low > 0 else 1.0
    return {
        "unit": unit,
        "better": better,
        "moved_by": moved_by,
        "value": rounded(middle),
        "low": rounded(low / wider),
        "high": rounded(high * wider),
        "rounds": [rounded(one) for one in rounds],
    }


def rounded(value: float) -> float:
    """To five figures: more is noise, and makes files long."""
    return float(f"{value:.5g}")


# ---- Two runs ----


@dataclass(frozen=True)
class Row:
    """One figure of two runs. ``ratio`` is B / A, with the range that it may have; ``verdict`` says what B is."""

    what: str
    unit: str
    a: float
    b: float
    ratio: float
    low: float
    high: float
    verdict: str


NOISE = "noise"
LOOPS = {"speed": "a fixed loop", "share": "a fixed loop, waiting included"}
NOTHING = "nothing"
MOVED_BY = (NOTHING, *LOOPS)


def compare(a: Document, b: Document) -> list[Row]:
    """Every figure that both runs have, in A's order; those of fewer than FEWEST rounds are noise."""
    theirs = dict(_figures(b))
    allowed = {
        by: (1.0, 1.0) for by in MOVED_BY
    }  # B / A that the machine itself may have made of a time: most, least
    if all(a["machine"][key] == b["machine"][key] for key in ("processor", "cores")):
        for by, loop in LOOPS.items():
            mine, its = a["quiet"]["figures"][loop], theirs[loop]
            allowed[by] = max(its["high"] / mine["low"], 1.0), min(its["low"] / mine["high"], 1.0)
    rows = []
    for what, one in _figures(a):
        other = theirs.get(what)
        if other is None or one["unit"] != other["unit"]:
            continue
        if not (one["value"] > 0 and other["value"] > 0):  # a sensor or a count of nothing has no ratio
            continue
        ratio = other["value"] / one["value"]
        low = other["low"] / one["high"] if one["high"] > 0 else 0.0
        high = other["high"] / one["low"] if one["low"] > 0 else math.inf
        most, least = allowed[one["moved_by"]]
        if one["better"] == "higher":  # a speed: the other way round
            most, least = 1 / least, 1 / most
        low, high = low / most, high / least
        few = min(len(one["rounds"]), len(other["rounds"])) < FEWEST
        rows.append(
            Row(
                what,
                one["unit"],
                one["value"],
                other["value"],
                ratio,
                low,
                high,
                _verdict(one, low, high, few),
            )
        )
    return rows


def _verdict(one: Mapping[str, Any], low: float, high: float, few: bool) -> str:
    if few or low <= 1 <= high:
        return NOISE
    less = {"ms": "faster", "s": "faster"}.get(one["unit"], "less")
    more = {"ms": "slower", "s": "slower"}.get(one["unit"], "more")
    return less if high < 1 else more


def _figures(document: Document) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure by a name that another run has as well."""
    for loop in LOOPS.values():
        yield loop, document["quiet"]["figures"][loop]
    one_bundle = len({row["bundle"] for row in document["inference"]}) == 1
    for row in document["inference"]:
        # Where each run has one bundle, they are compared whatever their names are.
        parts = [] if one_bundle else [row["bundle"]]
        parts += [row["variant"], row["runtime"], f"{row['threads']} thread{'s' * (row['threads'] > 1)}"]
        for name, figure in row["figures"].items():
            yield f"{' '.join(parts)}: {name}", figure
    for section in ("program", "callback", "voices"):
        for row in document[section]:
            for name, figure in row["figures"].items():
                yield f"{row['what']}: {name}", figure


def compared(a: Document, b: Document, names: tuple[str, str]) -> str:
    """The table for people."""
    rows = compare(a, b)
    if {row.what for row in rows} <= {*LOOPS.values()}:
        raise DarkrackError(
            "--compare",
            "two runs with figures in common",
            f"none in {names[0]} and {names[1]}",
            "measure the same parts, variants, runtimes and threads in both",
        )
    lines = [
        f"{letter}: {name}, {document['machine']['processor']}, {document['date']}, "
        + (f"noisy ({'; '.join(document['quiet']['noise'])})" if document["quiet"]["noise"] else "quiet")
        for letter, name, document in zip("AB", names, (a, b), strict=True)
    ]
    bundles = [", ".join(dict.fromkeys(row["bundle"] for row in one["inference"])) for one in (a, b)]
    if bundles[0] != bundles[1]:
        lines.append(f"the bundles are not the same: A {bundles[0]}, B {bundles[1]}")
    if a["quick"] != b["quick"]:
        lines.append("one of them is a --quick run: its parts are shorter")
    width = max(len(row.what) for row in rows)
    lines += ["", f"{'':<{width}} {'A':>10} {'B':>10} {'':<6} {'B / A':>6}  {'from':>6} {'to':>6}  B is"]
    for row in rows:
        lines.append(
            f"{row.what:<{width}} {row.a:>10.5g} {row.b:>10.5g} {row.unit:<6} {row.ratio:>6.3f}  "
            f"{row.low:>6.3f} {row.high:>6.3f}  {row.verdict}"
        )
    told = sum(row.verdict == NOISE for row in rows)
    lines += [
        "",
        f"{told} of {len(rows)} are noise: B / A may be 1 within the ranges that the two runs state. "
        f"Of figures that are the same, fewer than one in {1 / CHANCE:.0f} are taken for different ones.",
    ]
    return "\n".join(lines)


# ---- Reading ----


def read(path: Path) -> Document:
    """What `darkrack bench --json` wrote; DarkrackError for anything else."""
    hint = "darkrack bench BUNDLE --json FILE writes one"
    expected = "the figures of a run of `darkrack bench`"
    data = read_bytes(path, expected, hint)
    if len(data) > LIMIT_BYTES:
        raise DarkrackError(str(path), expected, f"{len(data)} bytes", hint)
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DarkrackError(str(path), f"{expected} (JSON)", str(error), hint) from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise DarkrackError(str(path), expected, "JSON of something else", hint)
    if document.get("format") != FORMAT or isinstance(document.get("format"), bool):
        got = f"format {document.get('format')!r}"
        raise DarkrackError(
            str(path), f"format {FORMAT}", got, "measure again with this release, or compare with that"
        )
    try:
        _check(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        got = f"one that lacks or mixes up {error}"
        raise DarkrackError(str(path), f"{expected}, whole", got, hint) from error
    return document


def _check(document: Document) -> None:
    """That all that is read of it is there, of the right kind; device/bench.schema.json says all of it."""
    (
        str(document["machine"]["processor"]),
        document["machine"]["cores"],
        str(document["date"]),
        document["quick"],
    )
    if not all(document["quiet"]["figures"][loop]["low"] > 0 for loop in LOOPS.values()):
        raise ValueError("times of a fixed loop")
    if not all(isinstance(one, str) for one in document["quiet"]["noise"]):
        raise TypeError("quiet")
    for _, figure in _figures(document):
        numbers = [figure["value"], figure["low"], figure["high"], *figure["rounds"]]
        if not figure["rounds"] or not all(
            isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
            for one in numbers
        ):
            raise TypeError("the numbers of a figure")
        if not isinstance(figure["unit"], str) or figure["moved_by"] not in MOVED_BY or not figure["better"]:
            raise TypeError("a unit")
