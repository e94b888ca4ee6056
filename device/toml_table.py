"""A TOML table read strictly: every value by name, type and range; what nobody asked for is refused."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from device.errors import DarkrackError
from device.files import parse_toml, read_bytes

TABLES = re.compile(r"\s*\[\[\s*([^\]]+?)\s*\]\]")
TABLE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w.-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")

Span = tuple[str, float, float]  # what a column of a row means, its lowest and its highest value


class Table:
    """One table of a file; remembers what was asked for, so that the rest can be refused.

    ``file`` and ``name`` go into every error, ``name`` empty for the page itself; ``page`` is what the whole file is,
    for "a key of ..."; ``lines`` has the line of every table and key. Whatever does not fit raises DarkrackError at its
    key.
    """

    def __init__(
        self,
        file: str,
        name: str,
        content: dict[str, Any],
        page: str,
        lines: Mapping[str, int] | None = None,
    ) -> None:
        self.file = file
        self.name = name
        self.content = content
        self.page = page
        self.lines = lines or {}
        self.known: list[str] = []

    def at(self, key: str = "") -> str:
        """Where ``key`` stands, for an error; without one, where the table does."""
        whole = f"{self.name}.{key}" if self.name and key else self.name or key
        place = whole
        while place and place not in self.lines:  # an inner table of one line stands where the outer one does
            place = place.rpartition(".")[0]
        return f"{self.file}:{self.lines[place]}: {whole}" if place else f"{self.file}: {whole}"

    def refuse_unknown(self) -> None:
        """Refuse the first key that nobody has asked for, and suggest the nearest one that was."""
        for key in self.content:
            if key not in self.known:
                where = f"[{self.name}]" if self.name else self.page
                raise DarkrackError(
                    self.at(key), f"a key of {where}", f"unknown key {key!r}", suggestion(key, self.known)
                )

    def table(self, key: str) -> Table:
        """A table within this one; an empty one where it is missing."""
        name = f"{self.name}.{key}" if self.name else key
        return Table(self.file, name, self._get(key, dict, "a table", {}), self.page, self.lines)

    def tables(self, key: str) -> list[Table]:
        """An array of tables (``[[key]]``), named ``key[1]``, ``key[2]``, ... in errors; empty where it is missing."""
        found = self._get(key, list, f"tables, each under [[{key}]]", [])
        for entry in found:
            if not isinstance(entry, dict):
                raise DarkrackError(self.at(key), f"tables, each under [[{key}]]", repr(entry))
        name = f"{self.name}.{key}" if self.name else key
        return [
            Table(self.file, f"{name}[{n}]", entry, self.page, self.lines)
            for n, entry in enumerate(found, start=1)
        ]

    def form(self, **forms: Sequence[str]) -> str:
        """Which one of several ways to say it was taken.

        ``forms`` has the key that tells each way, and the other keys that may stand beside it. Refuses unknown keys,
        none or two of the ways, and a key that belongs to another way.
        """
        self.known += dict.fromkeys([*forms, *(key for others in forms.values() for key in others)])
        self.refuse_unknown()
        taken = [key for key in forms if key in self.content]
        ways = " or ".join(forms)
        if len(taken) != 1:
            raise DarkrackError(self.at(), f"one of {ways}", " and ".join(taken) or "none")
        for key in self.content:
            if key != taken[0] and key not in forms[taken[0]]:
                raise DarkrackError(self.at(key), f"a key that goes with {taken[0]}", f"{key!r}")
        return taken[0]

    def text(self, key: str) -> str | None:
        """A string, None where it is missing."""
        found: str | None = self._get(key, str, "a string", None)
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty where it is missing."""
        found = self._get(key, list, "strings in brackets", [])
        for entry in found:
            if not isinstance(entry, str):
                raise DarkrackError(self.at(key), "strings in brackets", repr(entry))
        return tuple(found)

    def choice(self, key: str, options: Sequence[str]) -> str:
        """One of ``options``; required."""
        found = self.text(key)
        expected = f"one of {', '.join(options)}"
        if found is None:
            raise DarkrackError(self.at(key), expected, "none")
        if found not in options:
            raise DarkrackError(self.at(key), expected, repr(found), suggestion(found, options))
        return found

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self._get(key, bool, "true or false", default))

    def whole(self, key: str, low: int, high: int) -> int | None:
        """A whole number within its range, None where it is missing."""
        found: int | None = self._get(key, int, f"a whole number from {low} to {high}", None)
        if found is not None and (isinstance(found, bool) or not low <= found <= high):
            raise DarkrackError(self.at(key), f"a whole number from {low} to {high}", str(found))
        return found

    def number(self, key: str, low: float, high: float, default: float = math.nan) -> float:
        """A number within its range; required where there is no ``default``."""
        if key not in self.content and math.isnan(default):
            raise DarkrackError(self.at(key), f"a number from {low:g} to {high:g}", "none")
        return self._in_range(key, self._get(key, (int, float), "a number", default), low, high)

    def pair(self, key: str, low: float, high: float, default: tuple[float, float]) -> tuple[float, float]:
        """Two numbers within one range."""
        found = self._get(key, list, "two numbers in brackets", list(default))
        if len(found) != 2:
            raise DarkrackError(self.at(key), "two numbers in brackets", f"{len(found)} of them")
        first, second = (self._in_range(key, value, low, high) for value in found)
        return first, second

    def numbers(self, key: str, low: float, high: float) -> tuple[float, ...]:
        """At least one number, all within one range; required."""
        found = self._get(key, list, "numbers in brackets", [])
        if not found:
            raise DarkrackError(self.at(key), "numbers in brackets", "none")
        return tuple(self._in_range(key, value, low, high) for value in found)

    def wholes(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """At least one whole number, all different and within one range; required."""
        found = self.numbers(key, low, high)
        wholes = tuple(int(value) for value in found)
        if wholes != found or len(set(wholes)) < len(wholes):
            raise DarkrackError(self.at(key), "different whole numbers", str(self.content[key]))
        return wholes

    def numbered(self, most: int, beside: Sequence[str] = ()) -> Iterator[tuple[int, Table]]:
        """The tables within this one, whose keys are numbers from 1 to ``most``; others ``beside`` them may stand."""
        for key in self.content:
            if key in beside:
                continue
            if key not in map(str, range(1, most + 1)):
                raise DarkrackError(self.at(key), f"a number from 1 to {most}", repr(key))
            yield int(key), self.table(key)

    def rows(self, key: str, *columns: Span) -> list[tuple[float, ...]]:
        """At least one row of numbers, each column with a name and a range of its own; required."""
        names = ", ".join(name for name, _, _ in columns)
        found = self._get(key, list, f"rows of [{names}]", [])
        if not found:
            raise DarkrackError(self.at(key), f"rows of [{names}]", "none")
        rows = []
        for n, row in enumerate(found, start=1):
            if not isinstance(row, list) or len(row) != len(columns):
                raise DarkrackError(f"{self.at(key)}: row {n}", f"[{names}]", repr(row))
            rows.append(
                tuple(
                    self._in_range(f"{key}: row {n}: {name}", value, low, high)
                    for value, (name, low, high) in zip(row, columns, strict=True)
                )
            )
        return rows

    def _in_range(self, key: str, value: object, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise DarkrackError(self.at(key), f"a number from {low:g} to {high:g}", repr(value))
        return float(value)

    def _get(self, key: str, kind: type | tuple[type, ...], what: str, default: Any) -> Any:
        self.known.append(key)
        value = self.content.get(key, default)
        if key in self.content and not isinstance(value, kind):
            raise DarkrackError(self.at(key), what, repr(value))
        return value


def read_page(path: Path, what: str) -> Table:
    """A TOML file as a table that knows the lines of its keys; ``what`` it is, for errors. DarkrackError as `Table`."""
    data = read_bytes(path, what)
    content = parse_toml(data, path, what)
    return Table(str(path), "", content, what, lines_of(data.decode("utf-8")))


def lines_of(text: str) -> dict[str, int]:
    """The line of every table and key of a TOML text, by their dotted names; of one said twice the first.

    Good for hints, not a parser: a line within a string of several lines that looks like a key is taken for one.
    """
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    header = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := TABLES.match(line):
            name = _unquoted(found[1])
            counts[name] = counts.get(name, 0) + 1
            header = f"{name}[{counts[name]}]"
            lines.setdefault(name, number)
            lines.setdefault(header, number)
        elif found := TABLE.match(line):
            header = _unquoted(found[1])
            lines.setdefault(header, number)
        elif found := KEY.match(line):
            key = _unquoted(found[1])
            lines.setdefault(f"{header}.{key}" if header else key, number)
        first, dot, _ = header.partition(".")
        if dot:
            lines.setdefault(first, number)
    return lines


def _unquoted(name: str) -> str:
    """A dotted name without the quotes and spaces around its parts."""
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


def packaged(name: str | Path, folder: Path, what: str) -> Path:
    """The TOML file in ``folder`` that is meant by a bare ``name``, otherwise ``name`` as a path."""
    names = sorted(path.stem for path in folder.glob("*.toml"))
    if str(name) in names:
        return folder / f"{name}.toml"
    path = Path(name)
    if not path.exists() and path.name == str(name) and not path.suffix:
        raise DarkrackError(str(name), f"{what} by name or path", "neither", suggestion(str(name), names))
    return path


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint with the one of ``known`` that ``name`` was probably meant to be, or with all if they are few."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().casefold(), by_folded, n=1, cutoff=0.5)
    if close:
        return f"did you mean {by_folded[close[0]]!r}?"
    return f"one of: {', '.join(sorted(by_folded.values()))}" if 0 < len(by_folded) <= 20 else ""
