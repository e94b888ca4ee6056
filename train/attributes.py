"""Which of a teacher's classes become knobs, over which range each is swept, and how they move together.

All of it works on logits. A soft label is sigmoid(logit / T) and that is monotone: ranks, quantiles and
normal scores of logits are those of soft labels at any temperature, while the labels themselves crowd near
zero (of 527 classes only a handful has a 90th percentile over .1).
"""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import read_bytes

Array = npt.NDArray[np.float64]

EXCLUDED = Path(__file__).with_name("attributes_excluded.txt")

QUANTILES = 33  # 32 steps: a quarter of the 7 bits of a MIDI controller, interpolated between
TAIL = 0.005  # a knob's ends are the .005 and .995 quantiles: the extremes of a set are its oddities
LEAST_STEP = 1e-4  # between two entries of a table; in logits, so that soft labels differ in float32 too
LEAST_EIGENVALUE = 1e-3  # of the copula: ridge enough to invert any block of it


@dataclass(frozen=True)
class Attribute:
    """A class of the teacher that may become a knob: its index there, its name, what it was ranked by."""

    index: int
    name: str
    rank_score: float
    p90: float


def rank(
    logits: npt.NDArray[np.floating],
    classes: tuple[str, ...],
    excluded: frozenset[str],
    accuracy: dict[str, float] | None = None,
) -> list[Attribute]:
    """The classes that are not ``excluded``, most useful first.

    ``logits`` is (N, C). The score is p90, the 90th percentile over the notes of the teacher's probability
    sigmoid(logit); with ``accuracy``, the teacher's published figure per class in 0..1, it is
    sqrt(p90 * accuracy) (Nistal et al. 2021). Ties keep the teacher's order. Raises DarkrackError for an
    empty set and for classes without an accuracy.
    """
    _check_values(logits, 1)
    missing = [name for name in classes if accuracy is not None and name not in excluded | accuracy.keys()]
    if missing:
        raise DarkrackError(
            "the per-class accuracies", f"one for {missing[0]!r}", f"none, nor for {len(missing) - 1} more"
        )
    p90 = 1.0 / (1.0 + np.exp(-np.quantile(np.asarray(logits, np.float64), 0.9, axis=0)))
    candidates = []
    for index, name in enumerate(classes):
        if name not in excluded:
            score = p90[index] if accuracy is None else np.sqrt(p90[index] * accuracy[name])
            candidates.append(Attribute(index, name, float(score), float(p90[index])))
    return sorted(candidates, key=lambda attribute: -attribute.rank_score)


def quantile_table(values: npt.NDArray[np.floating]) -> Array:
    """The range of each column: (A, 33) quantiles of ``values`` (N, A), strictly increasing along each row.

    Entry u of linspace(0, 1, 33) is the quantile at probability .005 + .99 u. Where values tie, each entry is
    at least 1e-4 above the one before, so that the table can be inverted; a constant column becomes such a
    staircase. Meant for logits: soft labels at temperature T are sigmoid(table / T). Raises DarkrackError for
    an empty set.
    """
    _check_values(values, 1)
    probability = TAIL + (1.0 - 2.0 * TAIL) * np.linspace(0.0, 1.0, QUANTILES)
    table = np.quantile(np.asarray(values, np.float64), probability, axis=0).T
    staircase = LEAST_STEP * np.arange(QUANTILES)
    strict: Array = np.maximum.accumulate(table - staircase, axis=1) + staircase
    return strict


def copula(values: npt.NDArray[np.floating]) -> Array:
    """Correlation (A, A) of the columns of ``values`` (N, A) as a Gaussian copula has it; positive definite.

    Each column becomes its van der Waerden scores Phi^-1(rank / (N + 1)), ties sharing their mean rank, so
    nothing but the order matters; then the ordinary correlation. A constant column correlates with nothing.

    Few notes, or columns that say the same, make the matrix singular. It is then shrunk towards the identity,
    by the least weight w that brings the smallest eigenvalue to 1e-3: R <- (1 - w) R + w I. That keeps the
    ones on the diagonal and every sign, and leaves a matrix that is healthy as it is. Raises DarkrackError
    below two notes.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    _check_values(values, 2)
    scores = ndtri(rankdata(values, axis=0) / (len(values) + 1.0))
    scores -= scores.mean(axis=0)
    length = np.sqrt((scores**2).sum(axis=0))
    scores /= np.where(length > 1e-9, length, np.inf)
    correlation = scores.T @ scores
    correlation = 0.5 * (correlation + correlation.T)
    np.fill_diagonal(correlation, 1.0)
    least = float(np.linalg.eigvalsh(correlation)[0])
    if least < LEAST_EIGENVALUE:
        weight = (LEAST_EIGENVALUE - least) / (1.0 - least)
        correlation *= 1.0 - weight
        np.fill_diagonal(correlation, 1.0)
    healthy: Array = correlation
    return healthy


def read_excluded(path: Path, classes: tuple[str, ...]) -> frozenset[str]:
    """Names in a list of classes to leave out: one a line, ``#`` begins a comment, empty lines are nothing.

    Raises DarkrackError with the line of a name that the teacher does not have, and the nearest that it has.
    """
    try:
        text = read_bytes(path, "a list of class names, one a line", "--excluded names it").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DarkrackError(str(path), "text in UTF-8", str(error)) from error
    names = set()
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.split("#")[0].strip()
        if name and name not in classes:
            near = difflib.get_close_matches(name, classes, 1)
            raise DarkrackError(
                f"{path}, line {number}",
                "a class of the teacher",
                name,
                f"did you mean {near[0]!r}?" if near else "",
            )
        names.add(name)
    return frozenset(names - {""})


def read_accuracy(path: Path) -> dict[str, float]:
    """A table of accuracies per class: a CSV with the columns ``display_name`` and ``accuracy`` (0..1).

    Raises DarkrackError with the line of what is no number in 0..1, and for a table without these columns.
    """
    raw = read_bytes(path, "a CSV with the columns display_name and accuracy")
    table = {}
    try:
        reader = csv.DictReader(io.StringIO(raw.decode("utf-8-sig")))
        if not {"display_name", "accuracy"} <= set(reader.fieldnames or ()):
            raise DarkrackError(str(path), "the columns display_name and accuracy", str(reader.fieldnames))
        for row in reader:
            table[str(row["display_name"]).strip()] = _accuracy(
                row["accuracy"], f"{path}, line {reader.line_num}"
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise DarkrackError(str(path), "a CSV in UTF-8", str(error)) from error
    return table


def _accuracy(word: str | None, where: str) -> float:
    try:
        value = float(word or "")
    except ValueError:
        value = np.nan
    if not 0.0 <= value <= 1.0:
        raise DarkrackError(where, "an accuracy in 0..1", repr(word))
    return value


def _check_values(values: npt.NDArray[np.floating], least: int) -> None:
    if values.ndim != 2 or len(values) < least:
        raise DarkrackError("labels", f"at least {least} labelled notes", f"an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise DarkrackError("labels", "finite logits", "NaN or infinity", "label the data set again")
