"""The command `darkrack label`: a teacher hears every note; its soft labels are kept, its classes ranked.

Only notes that sound near a pitch are labelled: those with the check ``ok`` or ``octave`` (an octave away,
where an organ stop or a patch really sounds). Silent ones have nothing to say, and what is out of tune or has
no pitch would be taught at a pitch that it does not have.

    DIR/labels-TEACHER.npz       what was heard; also the cache: a note is heard again only if its audio, or
                                 the teacher's weights, are others than then
    DIR/attributes-TEACHER.json  the classes in rank order, without the excluded ones
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import atomic_path, check_space, write_json
from device.machine import usable_cores
from train.attributes import EXCLUDED, rank, read_accuracy, read_excluded
from train.notes import Note, read_audio, read_notes
from train.teacher import BATCH_NOTES, HEARD_S, KINDS, LISTENING_DBFS, TEACHERS, Teacher, load_teacher

Floats = npt.NDArray[np.float32]

LABELLED_CHECKS = frozenset({"ok", "octave"})
CHECKPOINT_NOTES = 512  # some seconds of work, against writing 3.6 kB a note


@dataclass(frozen=True)
class Labels:
    """What a teacher heard in a data set, a row a note.

    ``logits`` (N, C) and ``embeddings`` (N, E) are float32; ``key`` (N,) is what the cache knows a row by;
    ``classes`` (C,) are the names of the columns.
    """

    note_str: tuple[str, ...]
    key: tuple[str, ...]
    logits: Floats
    embeddings: Floats
    classes: tuple[str, ...]
    weights_sha256: str

    def rows(self, note_strs: list[str]) -> npt.NDArray[np.int64]:
        """The rows of these notes, in their order; DarkrackError for one that was not labelled."""
        row_of = {name: row for row, name in enumerate(self.note_str)}
        missing = next((name for name in note_strs if name not in row_of), None)
        if missing is not None:
            raise DarkrackError("labels", f"one for the note {missing}", "none", "run darkrack label again")
        return np.array([row_of[name] for name in note_strs], np.int64)


def labels_path(folder: Path, teacher: str) -> Path:
    """Where the labels of a data set lie."""
    return folder / f"labels-{teacher}.npz"


def read_labels(folder: Path, teacher: str = "mn04") -> Labels:
    """The labels of a data set, as `darkrack label` left them; DarkrackError for none or damaged ones."""
    path = labels_path(folder, teacher)
    if not path.exists():
        raise DarkrackError(str(path), "labels", "no such file", f"run darkrack label --data {folder}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            labels = Labels(
                tuple(stored["note_str"].tolist()),
                tuple(stored["key"].tolist()),
                stored["logits"],
                stored["embeddings"],
                tuple(stored["classes"].tolist()),
                str(stored["weights_sha256"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DarkrackError(
            str(path),
            "labels as darkrack label writes them",
            str(error) or "a damaged file",
            "delete it and label again",
        ) from error
    notes = len(labels.note_str)
    if (
        labels.logits.shape != (notes, len(labels.classes))
        or not len(labels.embeddings) == len(labels.key) == notes
    ):
        raise DarkrackError(str(path), f"{notes} rows in every array", "others", "delete it and label again")
    return labels


def labels_of(folder: Path, teacher: Teacher, option: str) -> Labels:
    """The labels that this very ``teacher``, given by ``option``, left; DarkrackError where they are another's."""
    labels = read_labels(folder, teacher.name)
    if labels.weights_sha256 != teacher.weights_sha256 or labels.classes != teacher.classes:
        raise DarkrackError(
            f"{option} {teacher.name}",
            f"the network that labelled {folder}",
            "another",
            "label again, or give that one",
        )
    return labels


def label(folder: Path, teacher: Teacher, threads: int = 1) -> tuple[Labels, int]:
    """Hear the notes of ``folder`` not yet known; write and return the labels, and how many were heard.

    Rows are in the order of notes.csv. What was heard is kept every 512 notes and when interrupted. Raises
    DarkrackError for a set without usable notes, for audio that is not finite, and where the disk has no room for what
    will be heard.
    """
    notes = [note for note in read_notes(folder) if note.check in LABELLED_CHECKS]
    if not notes:
        raise DarkrackError(str(folder / "notes.csv"), "a note whose check is ok or octave", "none")
    kept = _kept_rows(folder, teacher)
    known = dict(kept.values())  # by key: a renamed note is known too
    heard = unsaved = 0
    chunks = [notes[begin : begin + BATCH_NOTES] for begin in range(0, len(notes), BATCH_NOTES)]
    pool = ThreadPoolExecutor(threads)  # reading, resampling, transform and network all release the GIL
    progress = tqdm(total=len(notes), unit="note", desc=f"{teacher.name} hears", disable=None)
    try:
        for chunk, (rows, new) in zip(
            chunks, pool.map(lambda c: _hear(folder, c, teacher, known), chunks), strict=True
        ):
            if not kept:
                row_bytes = sum(len(key) + one.nbytes + other.nbytes for key, (one, other) in rows)
                # Twice: what is written takes the place of what is there when it is whole.
                check_space(folder, 2 * row_bytes / len(rows) * len(notes))
            kept.update(zip((note.note_str for note in chunk), rows, strict=True))
            heard += new
            unsaved += new
            progress.update(len(chunk))
            if unsaved >= CHECKPOINT_NOTES:
                _write(folder, teacher, kept)
                unsaved = 0
    except BaseException:
        if unsaved:
            _write(folder, teacher, kept)
        raise
    finally:
        progress.close()
        pool.shutdown(cancel_futures=True)
    return _write(folder, teacher, {note.note_str: kept[note.note_str] for note in notes}), heard


# What one note was labelled: the key, then logits and embedding.
_Row = tuple[str, tuple[Floats, Floats]]


def _hear(
    folder: Path, notes: list[Note], teacher: Teacher, known: dict[str, tuple[Floats, Floats]]
) -> tuple[list[_Row], int]:
    """Rows of ``notes``, from ``known`` where the key is there, and how many of them had to be heard."""
    audio = [read_audio(folder, note, HEARD_S) for note in notes]
    for note, samples in zip(notes, audio, strict=True):
        if not np.isfinite(samples).all():
            raise DarkrackError(f"{folder / note.file}, {note.note_str}", "finite samples", "NaN or infinity")
    keys = [_key(samples, note.sample_rate, teacher) for note, samples in zip(notes, audio, strict=True)]
    found = {key: known[key] for key in keys if key in known}
    new = [row for row, key in enumerate(keys) if key not in found]
    for rate in sorted({notes[row].sample_rate for row in new}):
        same = [row for row in new if notes[row].sample_rate == rate]
        logits, embeddings = teacher.hear(np.stack([audio[row] for row in same]), rate)
        found.update({keys[row]: (logits[i], embeddings[i]) for i, row in enumerate(same)})
    return [(key, found[key]) for key in keys], len(new)


def _key(samples: Floats, sample_rate_hz: int, teacher: Teacher) -> str:
    """What a row of the cache is known by: SHA-256 of the audio, of its rate, of who heard it and how."""
    digest = hashlib.sha256(np.ascontiguousarray(samples, "<f4").tobytes())
    digest.update(f"{sample_rate_hz} {LISTENING_DBFS} {teacher.weights_sha256}".encode())
    return digest.hexdigest()


def _kept_rows(folder: Path, teacher: Teacher) -> dict[str, _Row]:
    """Rows of an earlier run by note, where the same weights heard them."""
    if not labels_path(folder, teacher.name).exists():
        return {}
    earlier = read_labels(folder, teacher.name)
    if earlier.weights_sha256 != teacher.weights_sha256 or earlier.classes != teacher.classes:
        return {}
    rows = zip(earlier.key, zip(earlier.logits, earlier.embeddings, strict=True), strict=True)
    return dict(zip(earlier.note_str, rows, strict=True))


def _write(folder: Path, teacher: Teacher, rows: dict[str, _Row]) -> Labels:
    labels = Labels(
        tuple(rows),
        tuple(key for key, _ in rows.values()),
        np.stack([logits for _, (logits, _) in rows.values()]),
        np.stack([embedding for _, (_, embedding) in rows.values()]),
        teacher.classes,
        teacher.weights_sha256,
    )
    with atomic_path(labels_path(folder, teacher.name)) as temporary:
        arrays: dict[str, Any] = vars(labels)
        np.savez(temporary, **arrays)
    return labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `darkrack label`."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="the data set: notes.csv and audio"
    )
    parser.add_argument(
        "--teacher", choices=TEACHERS, default="mn04", help="who hears the notes (default mn04)"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="the teacher's network; descriptors have none, for tags it is that of who hears",
    )
    parser.add_argument(
        "--hears",
        choices=[*KINDS, "descriptors"],
        help="with --teacher tags: whose embedding the tags of the notes are told by (default mn04)",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="CSV",
        help="names of its classes (default: its list beside the weights)",
    )
    parser.add_argument(
        "--per-class-accuracy",
        type=Path,
        metavar="CSV",
        help="columns display_name and accuracy: rank by sqrt(p90 * accuracy), as the paper does, not by p90",
    )
    parser.add_argument(
        "--excluded",
        type=Path,
        metavar="FILE",
        help="classes that make no knob, one a line (default: train/attributes_excluded.txt for AudioSet's "
        "classes, none of the descriptors)",
    )
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), metavar="N", help="notes heard at a time (one a core)"
    )


def _teacher(options: argparse.Namespace) -> Teacher:
    """Who hears the notes; tags are learned first, by who has heard them already, and a table of them is printed."""
    if options.teacher != "tags":
        if options.hears:
            raise DarkrackError("--hears", "--teacher tags beside it", f"--teacher {options.teacher}")
        return load_teacher(options.teacher, options.weights, options.classes)
    from train import tags

    hearing = load_teacher(options.hears or "mn04", options.weights, options.classes)
    learned, left = tags.learn(options.data, hearing, options.weights)
    print(
        f"{'tag':<24} {'notes':>6} {'instruments':>12}   told on instruments left out (AUC; .5: not at all)"
    )
    for tag in learned:
        told = "too few instruments to tell" if tag.auc is None else f"{tag.auc:.2f}"
        print(f"{tag.name:<24} {tag.notes:>6} {tag.instruments:>12}   {told}")
    if left:
        print(f"left out, for too few notes have them or have them not: {', '.join(left)}")
    return load_teacher("tags", options.data / tags.FILE)


def run(options: argparse.Namespace) -> None:
    """Label a data set and rank its attributes."""
    if options.threads < 1:
        raise DarkrackError("--threads", "at least 1", str(options.threads))
    teacher = _teacher(options)
    if not teacher.official:
        print(
            f"{options.weights} is not the {options.hears or teacher.name} that we know "
            f"(SHA-256 {teacher.weights_sha256}): "
            "used as it is, but labels and figures will differ from published ones",
            file=sys.stderr,
        )
    excluded: frozenset[str] = frozenset()
    if options.excluded or teacher.name in KINDS:
        excluded = read_excluded(options.excluded or EXCLUDED, teacher.classes)
    accuracy = read_accuracy(options.per_class_accuracy) if options.per_class_accuracy else None
    labels, heard = label(options.data, teacher, options.threads)
    attributes = rank(labels.logits, labels.classes, excluded, accuracy)
    ranked = options.data / f"attributes-{teacher.name}.json"
    write_json(
        ranked,
        {
            "teacher": teacher.name,
            "classes_considered": len(teacher.classes),
            "excluded": sorted(excluded),
            "attributes": [asdict(attribute) for attribute in attributes],
        },
    )
    print(
        f"{len(labels.note_str)} notes labelled, {heard} of them heard now: "
        f"{labels_path(options.data, teacher.name)}"
    )
    first = ", ".join(f"{attribute.name} {attribute.p90:.3f}" for attribute in attributes[:8])
    print(f"{len(attributes)} attributes in rank order (90th percentile): {first} ...: {ranked}")
