"""Your own words as a teacher: what a table calls the notes, told from what another teacher hears in them.

A table says which notes are "glassy"; it does not say how glassy, nor what a note is that nobody tagged. So a logistic
regression for each word learns from the tagged notes to tell it by the embedding of a teacher that hears. What it then
says of any note is a soft label like those of every other teacher: it trains knobs, listens while a voice is trained
by ear, and is an ear of the judge. (Esling et al. 2019, "Flow Synthesizer", gave a synthesiser's latent space axes for
its users' tags; there by normalising flows.)

    DIR/tags.json  the words, their regressions, and whose embedding they are told by
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import read_bytes, write_json
from train.label import labels_of
from train.notes import Note, read_notes
from train.teacher import Floats, Teacher, load_teacher

NAME = "tags"
FILE = "tags.json"
FORMAT = 1
LEAST_NOTES = 5  # with the word, and as many without: fewer say nothing about it
# Of the regression. With mn04's embedding of 12 and of 24 instruments of FluidR3 (25 notes each) the mean AUC of six
# words (plucked, bowed, blown, ...) on instruments left out is .76 and .84, and .73 and .83 at 1.
INVERSE_PENALTY = 1e-3
FOLDS = 5

_IT_IS = "the tags that darkrack label --teacher tags learned"


@dataclass(frozen=True)
class Tag:
    """A word: how many notes and instruments have it, and how well it is told where it was not learned.

    ``auc``: on instruments left out, .5 is chance; None where too few instruments have the word, or all have it.
    """

    name: str
    notes: int
    instruments: int
    auc: float | None


def learn(folder: Path, hearing: Teacher, weights: Path | None) -> tuple[list[Tag], list[str]]:
    """Learn the tags in the notes of ``folder`` by the ear of ``hearing``, whose weights are ``weights``; see FILE.

    Returns what was learned, and the words that too few notes have, or too few have not. Raises DarkrackError where
    ``hearing`` has not labelled the notes, and where no word is left.
    """
    labels = labels_of(folder, hearing, "--hears")
    notes_of = {note.note_str: note for note in read_notes(folder)}
    notes = [notes_of[name] for name in labels.note_str if name in notes_of]
    heard = labels.embeddings[labels.rows([note.note_str for note in notes])].astype(np.float64)
    words = sorted({word for note in notes for word in note.tags.split()})
    has = np.array([[word in note.tags.split() for word in words] for note in notes], bool).reshape(
        len(notes), len(words)
    )
    enough = (has.sum(0) >= LEAST_NOTES) & ((~has).sum(0) >= LEAST_NOTES)
    if not enough.any():
        raise DarkrackError(
            str(folder / "notes.csv"),
            f"a tag that at least {LEAST_NOTES} labelled notes have and {LEAST_NOTES} have not",
            f"{len(words)} tags in {len(notes)} notes",
            "darkrack data folder --table FILE.csv takes a column tags: words separated by spaces",
        )
    mean, scale = heard.mean(0), np.maximum(heard.std(0), 1e-6)
    scaled = (heard - mean) / scale
    tags, slopes, offsets = [], [], []
    for column in np.flatnonzero(enough):
        slope, offset = _fit(scaled, has[:, column])
        slopes.append(slope)
        offsets.append(offset)
        with_it = {note.instrument_str for note, one in zip(notes, has[:, column], strict=True) if one}
        auc = _held_out(scaled, has[:, column], notes)
        tags.append(Tag(words[column].replace("_", " "), int(has[:, column].sum()), len(with_it), auc))
    write_json(
        folder / FILE,
        {
            "format": FORMAT,
            "hears": hearing.name,
            "weights": str(weights.resolve()) if weights else None,
            "weights_sha256": hearing.weights_sha256,
            "tags": [vars(tag) for tag in tags],
            "mean": [float(f"{value:.7g}") for value in mean],
            "scale": [float(f"{value:.7g}") for value in scale],
            "slopes": [[float(f"{value:.7g}") for value in slope] for slope in slopes],
            "offsets": [float(f"{value:.7g}") for value in offsets],
        },
    )
    return tags, [word for word, kept in zip(words, enough, strict=True) if not kept]


def load(path: Path) -> Teacher:
    """The teacher that ``path``, a tags.json, describes: it hears with another's network, and says these words.

    Raises DarkrackError where the file is damaged, and where that network is not there or is another.
    """
    raw = read_bytes(path, _IT_IS)
    try:
        content = json.loads(raw)
        if content["format"] != FORMAT:
            raise DarkrackError(str(path), f"format {FORMAT}", str(content["format"]), "label again")
        classes = tuple(str(tag["name"]) for tag in content["tags"])
        mean, scale = (np.array(content[name], np.float64) for name in ("mean", "scale"))
        slopes, offsets = np.array(content["slopes"], np.float64), np.array(content["offsets"], np.float64)
        hears, digest = str(content["hears"]), str(content["weights_sha256"])
        weights = None if content["weights"] is None else Path(content["weights"])
    except (ValueError, KeyError, TypeError) as error:
        raise DarkrackError(str(path), _IT_IS, repr(error), "label again") from error
    again = "darkrack label --teacher tags again, with --weights where the network is now"
    if hears == NAME or (weights is not None and not weights.is_file()):
        raise DarkrackError(str(path), f"the network of {hears}, which hears for it", str(weights), again)
    hearing = load_teacher(hears, weights)
    sizes = (len(classes), hearing.embedding_size)
    whole = mean.shape == scale.shape == (sizes[1],) and slopes.shape == sizes and offsets.shape == sizes[:1]
    finite = all(np.isfinite(one).all() for one in (mean, scale, slopes, offsets))
    if not (classes and whole and finite and (scale > 0).all()):
        raise DarkrackError(str(path), _IT_IS, "arrays of other sizes, or not finite", "label again")
    if hearing.weights_sha256 != digest:
        raise DarkrackError(str(path), f"the {hears} that it was learned with", "another", again)

    def infer(frames: Floats) -> tuple[Floats, Floats]:
        _, embeddings = hearing.infer(frames)
        logits = (embeddings - mean) / scale @ slopes.T + offsets
        return logits.astype(np.float32), embeddings

    return replace(
        hearing, name=NAME, classes=classes, weights_sha256=hashlib.sha256(raw).hexdigest(), infer=infer
    )


def _fit(
    scaled: npt.NDArray[np.float64], has: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], float]:
    """Slope (E,) and offset of the log odds; a word counts as much as its absence, however rare it is."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=2000)
    model.fit(scaled, has)
    return model.coef_[0], float(model.intercept_[0])


def _held_out(
    scaled: npt.NDArray[np.float64], has: npt.NDArray[np.bool_], notes: Sequence[Note]
) -> float | None:
    """The area under the curve on instruments left out, a fifth of those with the word and without at a time."""
    from sklearn.metrics import roc_auc_score

    instruments = np.array([note.instrument_str for note in notes])
    with_it = sorted(set(instruments[has]))
    without = sorted(set(instruments) - set(with_it))
    folds = min(FOLDS, len(with_it))
    fold_of = {name: n % folds for group in (with_it, without) for n, name in enumerate(group)}
    fold = np.array([fold_of[name] for name in instruments])
    said = np.zeros(len(has))
    for left_out in range(folds):
        rest = fold != left_out
        if len(np.unique(has[rest])) < 2:
            return None
        slope, offset = _fit(scaled[rest], has[rest])
        said[~rest] = scaled[~rest] @ slope + offset
    return float(roc_auc_score(has, said))
