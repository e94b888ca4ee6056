"""What the commands of this folder have in common: their errors, and what they say of the machine."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from device.errors import DarkrackError
from device.machine import processor


def main(
    name: str,
    line: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], None],
    words: Sequence[str] | None,
) -> int:
    """Run one command as `darkrack` runs its own: 0, 1 for our errors (printed here), 2 for usage."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=line)
    add_arguments(parser)
    args = parser.parse_args(words)
    try:
        run(args)
    except DarkrackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Processor, cores, load before anything ran, Python, ``packages`` with their versions, and the date."""
    import importlib.metadata

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "date": datetime.date.today().isoformat(),
    }


def said(facts: dict[str, Any]) -> str:
    """`machine` in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, load {facts['load_before']:g} before, "
        f"Python {facts['python']}, {versions}, {facts['date']}"
    )


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in Markdown, the first of them the head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *body])


def digits(value: float) -> str:
    """Three digits that count, and no exponent."""
    return str(np.format_float_positional(value, precision=3, fractional=False, trim="-"))


def interval(numbers: Sequence[float]) -> str:
    """A median and, where they differ from it, the ends of its interval."""
    median, low, high = (digits(one) for one in numbers)
    return median if median == low == high else f"{median} ({low} to {high})"
