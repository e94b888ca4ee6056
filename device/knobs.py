"""Turns knobs into the vector of soft labels that the network hears.

A condition is a whole vector, and its entries are strongly correlated: a note that is more "Trumpet" is also
more "Brass instrument". So a knob that is turned moves its own attribute to the place asked for, and carries
the others along as the training notes do: in normal scores (a Gaussian copula) the rest moves by its
conditional mean. "Solo" leaves the rest where it was, as the paper does (DarkGAN, Nistal et al. 2021).

Three scales for one attribute: the soft label 0..1 that the network hears; the position 0..1 of a knob, along
the 33 quantiles of the training notes; and the normal score, Phi^-1 of the probability at that position.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from device.bundle import Attribute, Manifest
from device.errors import DarkrackError
from device.patch import SETTING_MAX, nearest

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

TAIL = 0.005  # the quantile tables end at the .005 and .995 quantiles
# How far correlations among the knobs that are turned are drawn towards none. Guitar and Plucked string correlate by
# .98: turned against each other, their difference counted 1 / (1 - .98) = 50 times and threw the other attributes to
# the ends of their tables, where the network had never been. One knob alone is untouched by this.
SHRINKAGE = 0.1

PANEL = 8  # pots of the module
SAME = 0.6  # correlation over which two attributes are one to the ear (Guitar and Plucked string: .98)

_NORMAL = statistics.NormalDist()


class Knobs:
    """The knobs of one bundle: its attributes and how they hang together (copula (A, A))."""

    def __init__(self, attributes: Sequence[Attribute], copula: npt.ArrayLike) -> None:
        self.names = tuple(attribute.name for attribute in attributes)
        self._tables = np.stack([attribute.quantiles for attribute in attributes])  # (A, 33)
        self._copula: DoubleArray = np.asarray(copula, np.float64)
        self._grid = np.linspace(0.0, 1.0, self._tables.shape[1])
        self._last_base: tuple[DoubleArray, DoubleArray, DoubleArray] | None = None

    def vector(self, base: npt.ArrayLike, settings: Mapping[str, float], carry: bool = True) -> FloatArray:
        """Soft labels (A,) float32 in 0..1: a preset's soft labels ``base`` (A,) with some knobs set.

        A setting of 0..1 is a position along the attribute's quantiles; above 1, to 2, it is over-emphasis:
        as far again beyond the highest quantile as that is from the median, and no further than 1. ``carry``
        moves the attributes that are not set along with those that are; without it they stay. Names count
        without their case. Raises DarkrackError for an unknown or doubled name, a setting outside 0..2, a
        base of another size.
        """
        labels = np.array(base, np.float64)
        if labels.shape != (len(self.names),) or not ((labels >= 0) & (labels <= 1)).all():
            expected, got = f"{len(self.names)} soft labels from 0 to 1", f"shape {labels.shape}"
            raise DarkrackError("attributes", expected, got, "start from one of the presets")
        asked: dict[int, float] = {}
        for name, setting in settings.items():
            index = self.index(name)
            if index in asked:
                raise DarkrackError(f"knob {name!r}", "one setting", "two", "leave one out")
            if not 0.0 <= setting <= SETTING_MAX:
                hint = "0 to 1 is the range of the training notes, above it over-emphasis"
                raise DarkrackError(f"knob {name!r}", f"0 to {SETTING_MAX:g}", f"{setting:g}", hint)
            asked[index] = setting
        moved = sorted(asked)
        if carry and moved:
            self._carry(labels, moved, [asked[index] for index in moved])
        for index in moved:
            labels[index] = self.label(index, asked[index])
        return labels.astype(np.float32)

    def index(self, name: str) -> int:
        """Where in the vector the attribute of this name is; DarkrackError suggests the nearest name."""
        return self.names.index(nearest(name, self.names, "knob", "an attribute of the bundle"))

    def label(self, index: int, setting: float) -> float:
        """The soft label of one attribute at a setting of 0..2."""
        table = self._tables[index]
        if setting <= 1.0:
            return float(np.interp(setting, self._grid, table))
        highest, median = table[-1], table[len(table) // 2]
        return float(min(highest + (setting - 1.0) * (highest - median), 1.0))

    def position(self, index: int, label: float) -> float:
        """The setting 0..1 that gives an attribute this soft label; the middle where its table is flat."""
        table = self._tables[index]
        # interp gives the right end of a flat stretch; of the table read backwards it gives the left one.
        last = float(np.interp(label, table, self._grid))
        first = 1.0 - float(np.interp(-label, -table[::-1], self._grid))
        return (first + last) / 2.0

    def _carry(self, labels: DoubleArray, moved: list[int], settings: list[float]) -> None:
        """Move all but ``moved`` by the conditional mean of their normal scores, in place; bounded."""
        scores, beyond = self._scored(labels)
        rest = np.setdiff1d(np.arange(len(self.names)), moved)
        shift = np.array([_score(setting) for setting in settings]) - scores[moved]  # (K,)
        within = (1 - SHRINKAGE) * self._copula[np.ix_(moved, moved)] + SHRINKAGE * np.eye(
            len(moved)
        )  # (K, K)
        across = self._copula[rest][:, moved]  # (A - K, K)
        # And what follows never goes further than what was turned.
        reach = np.abs(shift).max()
        steps = np.clip(across @ np.linalg.solve(within, shift), -reach, reach)
        # Along the tables, which have their quantiles at equal distances.
        along = np.array([_position(score) for score in scores[rest] + steps]) * (len(self._grid) - 1)
        below = np.minimum(along.astype(np.int64), len(self._grid) - 2)
        low, high = self._tables[rest, below], self._tables[rest, below + 1]
        labels[rest] = np.clip(low + (along - below) * (high - low) + beyond[rest], 0.0, 1.0)

    def _scored(self, labels: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Normal scores (A,) of a base, and how far it lies beyond the ends of its tables (A,); kept for the next time.

        A base beyond the ends keeps its distance, so that a knob that is not moved changes nothing.
        """
        if self._last_base is None or not np.array_equal(labels, self._last_base[0]):
            places = [self.position(index, label) for index, label in enumerate(labels)]
            scores = np.array([_score(place) for place in places])
            beyond = labels - [self.label(index, place) for index, place in enumerate(places)]
            self._last_base = (labels.copy(), scores, beyond)
        return self._last_base[1], self._last_base[2]


def choose_attributes(
    attributes: Sequence[Attribute], copula: npt.ArrayLike, pots: int, proved: Sequence[str] = ()
) -> list[str]:
    """Names for so many pots (or all there are): those that were measured to obey best, no two that say the same.

    ``proved`` names those that moved the teacher when they were moved alone (`darkrack evaluate`): they come first.
    Two say the same where their normal scores correlate by more than SAME; what is equal goes by the bundle's order.
    """
    alike = np.abs(np.asarray(copula)) > SAME
    measured = [-1.0 if one.correlation is None else one.correlation for one in attributes]
    obedient = sorted(
        range(len(attributes)), key=lambda n: (attributes[n].name in proved, measured[n]), reverse=True
    )
    chosen: list[int] = []
    for n in obedient:
        if len(chosen) < pots and not alike[n, chosen].any():
            chosen.append(n)
    chosen += [n for n in obedient if n not in chosen][: pots - len(chosen)]  # a bundle of look-alikes
    return [attributes[n].name for n in chosen]


def panel(manifest: Manifest, pots: int) -> list[str]:
    """Names for so many pots (or all there are): the panel that the bundle names, and after it what the rule adds.

    `darkrack evaluate --update-card` names PANEL of them, by `choose_attributes` on what it measured; a bundle that
    was never judged names none.
    """
    evaluation = manifest.quality.get("evaluation", {})
    known = [attribute.name for attribute in manifest.attributes]
    named = [name for name in evaluation.get("panel", []) if name in known]
    proved = evaluation.get("confirmed_knobs", [])
    rest = choose_attributes(manifest.attributes, manifest.copula, len(known), proved)
    return list(dict.fromkeys([*named, *rest]))[:pots]


def _score(setting: float) -> float:
    """Normal score at a position: 0 and 1 are the .005 and .995 quantiles, +-2.58; beyond 1 counts as 1."""
    return _NORMAL.inv_cdf(TAIL + (1.0 - 2.0 * TAIL) * min(max(setting, 0.0), 1.0))


def _position(score: float) -> float:
    """The position 0..1 of a normal score; the inverse of `_score`."""
    probability = 0.5 * math.erfc(-score / math.sqrt(2.0))
    return min(max((probability - TAIL) / (1.0 - 2.0 * TAIL), 0.0), 1.0)
