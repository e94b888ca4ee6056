"""Notes and their labels as training sees them: frames on disk, soft labels, the split, the sounds to start from."""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import multiprocessing
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import atomic_path, check_space, read_bytes
from device.partials import Partials
from device.stft import Stft
from train.attributes import copula, quantile_table
from train.label import LABELLED_CHECKS, Labels, read_labels
from train.notes import Note, read_audio, read_notes, split
from train.partials import encode
from train.recipe import GrowingRecipe, Recipe, TeacherLabels
from train.stft import target

SCREENED = 4  # times as many ranked attributes as are asked for are looked at for distinct ones
ENCODER_VERSION = 2  # raised whenever `train.partials.encode` changes what it returns


@dataclass(frozen=True)
class Attributes:
    """What the knobs are: names, soft-label quantiles (A, 33), copula (A, A); whose class each is, and which."""

    names: tuple[str, ...]
    teachers: tuple[str, ...]
    classes: tuple[int, ...]
    quantiles: npt.NDArray[np.float32]
    copula: npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingSet:
    """Encoded notes, memory-mapped: ``frames(indices)`` reads; the rest are arrays over notes.

    ``soft_labels`` (N, A) float32 at the recipe's temperature, ``logits`` (N, A) before it, ``pitch`` (N,) MIDI,
    ``velocity`` (N,) in 0..1, ``parts`` the split: train, unseen_notes, unseen_instruments. ``astray``: instruments
    that were not in tune in most of their notes, taken or not: bells, timpani, organs that sound octaves off.
    """

    notes: tuple[Note, ...]
    attributes: Attributes
    soft_labels: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    pitch: npt.NDArray[np.float32]
    velocity: npt.NDArray[np.float32]
    parts: dict[str, npt.NDArray[np.int64]]
    maps: tuple[npt.NDArray[np.float16], ...]
    places: npt.NDArray[np.int64]  # (N, 2): which map, which row of it
    astray: frozenset[str]

    def frames(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """(n, 2, rows, frames) float32 of the notes asked for."""
        return np.stack([self.maps[m][r] for m, r in self.places[indices]]).astype(np.float32)

    @functools.cached_property
    def siblings(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Of each note, the notes in training of the same instrument and pitch with another velocity."""
        keys: dict[tuple[str, int], list[int]] = {}
        for n in self.parts["train"]:
            keys.setdefault((self.notes[n].instrument_str, self.notes[n].pitch), []).append(int(n))
        found = []
        for note in self.notes:
            alike = keys.get((note.instrument_str, note.pitch), [])
            others = [n for n in alike if self.notes[n].velocity != note.velocity]
            found.append(np.array(others, np.int64))
        return tuple(found)

    def sha256(self) -> str:
        """What a run was trained on: which notes, what the teacher said of them, which frames."""
        digest = hashlib.sha256("\n".join(note.note_str for note in self.notes).encode())
        digest.update(np.ascontiguousarray(self.logits).tobytes())
        for frames in self.maps:
            digest.update(np.ascontiguousarray(frames[0]).tobytes())
        return digest.hexdigest()


def soft_label(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """sigmoid(logit / T), the teacher's answer softened (DarkGAN, section 3)."""
    labels: npt.NDArray[np.float32] = (1 / (1 + np.exp(-logits / temperature))).astype(np.float32)
    return labels


def load_training_set(folder: Path, recipe: Recipe | GrowingRecipe, jobs: int = 2) -> TrainingSet:
    """Read notes and labels, encode what is not yet encoded (progress bar, resumable), split.

    Only notes that sound at the pitch they claim and lie in the recipe's range are taken; on a grid with rows between
    the partials also those off by whole octaves (an organ's 16-foot stop, a fifth, flageolets), at the key they claim:
    what sounds under it has rows there. Raises DarkrackError where labels are missing, where one teacher heard a note
    that another did not, where two teachers have an attribute of the same name, and where too few notes are left.
    """
    labels = [read_labels(folder, one.teacher) for one in recipe.labels.teachers]
    low, high = recipe.pitch_range_midi
    halves = isinstance(recipe.grid, Partials) and recipe.grid.rows_a_partial > 1
    checks = LABELLED_CHECKS if halves else {"ok"}
    in_range = [n for n in read_notes(folder) if low <= n.pitch <= high]
    notes = _labelled(folder, [n for n in in_range if n.check in checks], recipe, labels)
    if len(notes) < 2 * recipe.batch:
        raise DarkrackError(
            str(folder),
            f"at least {2 * recipe.batch} labelled notes in tune between MIDI {low} and {high}",
            str(len(notes)),
            "darkrack data makes notes, darkrack label labels them",
        )
    notes, maps, places = _encoded(folder, notes, recipe.grid, jobs)
    parts = {name: np.array(rows, np.int64) for name, rows in split(notes).items()}
    heard = [one.logits[one.rows([n.note_str for n in notes])] for one in labels]
    chosen = [
        _chosen(folder, wanted, answers[parts["train"]])
        for wanted, answers in zip(recipe.labels.teachers, heard, strict=True)
    ]
    logits = np.concatenate(
        [answers[:, classes] for answers, classes in zip(heard, chosen, strict=True)], axis=1
    )
    names = [str(one.classes[c]) for one, classes in zip(labels, chosen, strict=True) for c in classes]
    _check_names(names, recipe)
    seen = logits[parts["train"]]
    attributes = Attributes(
        names=tuple(names),
        teachers=tuple(one.teacher for one in recipe.labels.teachers for _ in range(one.attributes)),
        classes=tuple(c for classes in chosen for c in classes),
        quantiles=soft_label(quantile_table(seen).astype(np.float32), recipe.labels.temperature),
        copula=copula(seen).astype(np.float32),
    )
    return TrainingSet(
        notes=tuple(notes),
        attributes=attributes,
        soft_labels=soft_label(logits, recipe.labels.temperature),
        logits=logits.astype(np.float32),
        pitch=np.array([n.pitch for n in notes], np.float32),
        velocity=np.array([n.velocity / 127 for n in notes], np.float32),
        parts=parts,
        maps=tuple(maps),
        places=places,
        astray=_astray(in_range),
    )


def _astray(notes: list[Note]) -> frozenset[str]:
    """Instruments of which fewer than half of these notes sound at the pitch they claim."""
    heard = Counter(note.instrument_str for note in notes)
    in_tune = Counter(note.instrument_str for note in notes if note.check == "ok")
    return frozenset(name for name, count in heard.items() if 2 * in_tune[name] < count)


def _labelled(
    folder: Path, notes: list[Note], recipe: Recipe | GrowingRecipe, labels: list[Labels]
) -> list[Note]:
    """The notes that were labelled; DarkrackError for one that some of the teachers did not hear."""
    known = [frozenset(heard.note_str) for heard in labels]
    kept = [note for note in notes if any(note.note_str in one for one in known)]
    for one, teacher in zip(known, recipe.labels.teachers, strict=True):
        missing = next((note.note_str for note in kept if note.note_str not in one), None)
        if missing is not None:
            raise DarkrackError(
                str(folder),
                f"a label of {teacher.teacher} for {missing}, as of the other teachers",
                "none",
                f"run darkrack label --teacher {teacher.teacher} again",
            )
    return kept


def _chosen(folder: Path, wanted: TeacherLabels, seen: npt.NDArray[np.float32]) -> list[int]:
    """The classes of one teacher that become knobs, by rank; ``seen`` (N, C) are its logits of training notes."""
    ranking_file = folder / f"attributes-{wanted.teacher}.json"
    try:
        ranked = json.loads(read_bytes(ranking_file, "ranked attributes", "darkrack label writes them"))
        ranking = [int(one["index"]) for one in ranked["attributes"][: SCREENED * wanted.attributes]]
    except (ValueError, KeyError, TypeError) as error:
        raise DarkrackError(
            str(ranking_file), "ranked attributes", repr(error), "run darkrack label again"
        ) from error
    if not all(0 <= index < seen.shape[1] for index in ranking):
        raise DarkrackError(
            str(ranking_file),
            f"classes from 0 to {seen.shape[1] - 1}, as {wanted.teacher} has",
            f"{max(ranking, key=abs)}",
            "run darkrack label again",
        )
    kept = distinct(np.abs(copula(seen[:, ranking])), wanted.distinct)[: wanted.attributes] if ranking else []
    if len(kept) < wanted.attributes:
        raise DarkrackError(
            str(ranking_file),
            f"at least {wanted.attributes} attributes that correlate by no more than {wanted.distinct:g}",
            str(len(kept)),
            f"ask for fewer of {wanted.teacher}, or for less distinct ones, in the recipe's labels",
        )
    return [ranking[n] for n in kept]


def _check_names(names: list[str], recipe: Recipe | GrowingRecipe) -> None:
    """A knob is found by its name without regard to case: DarkrackError where two teachers have the same."""
    folded = [name.casefold() for name in names]
    for n, name in enumerate(folded):
        if name in folded[:n]:
            raise DarkrackError(
                f"recipe {recipe.name}: labels",
                "names that differ from teacher to teacher",
                f"{names[n]!r} twice",
                "leave it out of one ranking: darkrack label --excluded",
            )


def distinct(alike: npt.NDArray[np.floating], limit: float) -> list[int]:
    """Which of some ranked attributes to keep: none that is more ``alike`` (A, A) than ``limit`` to one kept before."""
    kept: list[int] = []
    for n in range(len(alike)):
        if not (alike[n, kept] > limit).any():
            kept.append(n)
    return kept


def spread_out(normal_scores: npt.NDArray[np.float32], count: int) -> list[int]:
    """Rows that cover the set: the most central one first, then always the one farthest from those chosen."""
    chosen = [int(np.argmin(((normal_scores - normal_scores.mean(0)) ** 2).sum(1)))]
    distance = ((normal_scores - normal_scores[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(count, len(normal_scores)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, ((normal_scores - normal_scores[chosen[-1]]) ** 2).sum(1))
    return chosen


def _encoded(
    folder: Path, notes: list[Note], grid: Partials | Stft, jobs: int
) -> tuple[list[Note], list[npt.NDArray[np.float16]], npt.NDArray[np.int64]]:
    """The notes' frames, one memory-mapped file per audio file, made where missing; DarkrackError for a full disk."""
    by_file: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        by_file[note.file].append(note)
    paths = {file: _cache_path(folder, file, members, grid) for file, members in by_file.items()}
    missing = [file for file, path in paths.items() if not path.is_file()]
    rows = grid.bins if isinstance(grid, Stft) else grid.rows
    note_bytes = 2 * 2 * rows * grid.frames  # two quantities a cell, float16
    check_space(folder / "frames", note_bytes * sum(len(by_file[file]) for file in missing))
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        started = [pool.submit(_encode_file, folder, by_file[file], grid, paths[file]) for file in missing]
        try:
            for done in tqdm(
                concurrent.futures.as_completed(started), "encoding", len(started), unit="file", disable=None
            ):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    ordered = [note for members in by_file.values() for note in members]
    maps = [np.load(paths[file], mmap_mode="r") for file in by_file]
    places = [(m, r) for m, members in enumerate(by_file.values()) for r in range(len(members))]
    return ordered, maps, np.array(places, np.int64)


def _cache_path(folder: Path, file: str, members: list[Note], grid: Partials | Stft) -> Path:
    """Named by all that decides the content, so that a changed set or grid never meets old frames."""
    facts = json.dumps(
        [ENCODER_VERSION, asdict(grid), [(n.note_str, n.start, n.samples, n.f0_hz) for n in members]]
    )
    return folder / "frames" / f"{Path(file).stem}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.npy"


def encode_note(folder: Path, note: Note, grid: Partials | Stft) -> npt.NDArray[np.float32]:
    """One note of a data set on the grid, (2, rows, frames), as it is trained on.

    On partials from the key's f0, measured where that was possible; on `stft` from audio at the grid's rate.
    """
    if isinstance(grid, Stft):
        audio = read_audio(folder, note, (grid.samples + 1) / grid.sample_rate_hz)
        if note.sample_rate != grid.sample_rate_hz:
            import soxr

            audio = soxr.resample(audio, note.sample_rate, grid.sample_rate_hz)
        return target(audio, grid)
    audio = read_audio(
        folder, note, (grid.frames + 4) / grid.frame_rate_hz
    )  # the last windows reach past the end
    return encode(audio, note.sample_rate, note.key_hz, grid)


def _encode_file(folder: Path, members: list[Note], grid: Partials | Stft, path: Path) -> None:
    # There is a process for each core; BLAS threads on top of them made it 9 times slower.
    with threadpool_limits(1):
        frames = np.stack([encode_note(folder, note, grid) for note in members]).astype(np.float16)
    with atomic_path(path) as temporary:
        np.save(temporary, frames)
