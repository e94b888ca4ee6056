"""What is listened to and by whom: the notes that were held out, and the ears that they are played to."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device.errors import DarkrackError
from device.generator import Asked, trained_pitch
from device.maker import decoded
from device.partials import Partials, nominal_hz
from device.recording import centroid_hz, level
from device.stft import Stft
from train.dataset import encode_note
from train.label import Labels, labels_path, read_labels
from train.notes import Note, read_audio, read_notes, split
from train.teacher import Teacher
from train.voice import Voice

if TYPE_CHECKING:
    from device.voices import VoiceBank
    from train.classifier import Classifier

FloatArray = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 48_000
HEARD_S = 1.0
CHUNK = 32
LEAST_NOTES = 20  # of a part; fewer decide nothing
BED_DBFS = -90.0


@dataclass(frozen=True, eq=False)
class Held:
    """A real note that no voice has seen, where it lies, and what each teacher said of it: logits (C,)."""

    folder: Path
    note: Note
    logits: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Part:
    """Notes held out for one reason, and other real notes of the same instruments to compare them with."""

    name: str
    title: str
    compared_with: str
    notes: list[Held]
    reference: list[Held]


def held_out(
    data: Path,
    unseen: Path | None,
    ears: Sequence[Teacher],
    *,
    pitch_range_midi: tuple[float, float],
    most: int,
    seed: int,
) -> tuple[list[Part], list[Held]]:
    """The parts that are judged, each of at most ``most`` notes and as many to compare with; and all of their notes.

    Notes of instruments that were trained on are compared with notes that were; of instruments never seen, one half is
    compared with the other. Raises DarkrackError for sets without labels or with too few notes.
    """
    random = np.random.default_rng(seed)
    known = labelled(data, ears, pitch_range_midi)
    rows = split([held.note for held in known])
    unseen_notes, unseen_instruments, trained = (
        [known[n] for n in rows[part]] for part in ("unseen_notes", "unseen_instruments", "train")
    )
    same = "other notes of the same instruments"
    found = [
        (
            "unseen_notes",
            "unseen notes of seen instruments",
            "notes that were trained on",
            unseen_notes,
            trained,
        ),
        ("unseen_instruments", "instruments never seen", same, unseen_instruments, None),
    ]
    if unseen:
        others = labelled(unseen, ears, pitch_range_midi)
        found.append(("another_set", f"instruments of another set ({unseen.name})", same, others, None))
    # A set that is split by note alone, as the paper's is, has no instruments never seen.
    found = [one for one in found if one[3] or one[0] == "unseen_notes"]
    for name, title, _, notes, _ in found:
        if len(notes) < LEAST_NOTES:
            where = unseen if name == "another_set" else data
            raise DarkrackError(
                str(where),
                f"at least {LEAST_NOTES} notes: {title}",
                str(len(notes)),
                "evaluate on a larger set",
            )
    parts = [
        Part(name, title, words, *_drawn(notes, others, most, random))
        for name, title, words, notes, others in found
    ]
    return parts, [*unseen_notes, *unseen_instruments]


def _drawn(
    notes: list[Held], others: list[Held] | None, most: int, random: np.random.Generator
) -> tuple[list[Held], list[Held]]:
    """``most`` of ``notes`` and as many of ``others``; without others one half of the notes and the other."""
    order = [notes[n] for n in random.permutation(len(notes))]
    if others is None:
        half = len(order) // 2
        order, others = order[:half], order[half:]
    count = min(len(order), len(others), most)
    return order[:count], [others[n] for n in random.permutation(len(others))[:count]]


def labelled(
    folder: Path, ears: Sequence[Teacher], pitch_range_midi: tuple[float, float], check: str = "ok"
) -> list[Held]:
    """The notes in tune and range that each of ``ears`` has labelled, by the same classes as it has now.

    ``check``: another of the findings of `train.notes.CHECKS`.
    """
    labels: dict[str, Labels] = {ear.name: read_labels(folder, ear.name) for ear in ears}
    for ear in ears:
        if labels[ear.name].classes != ear.classes:
            raise DarkrackError(
                str(labels_path(folder, ear.name)),
                f"the {len(ear.classes)} classes of the {ear.name} that listens",
                f"{len(labels[ear.name].classes)} others",
                f"label again: darkrack label --data {folder} --teacher {ear.name}",
            )
    row_of = {
        teacher: {name: row for row, name in enumerate(one.note_str)} for teacher, one in labels.items()
    }
    low, high = pitch_range_midi
    return [
        Held(
            folder,
            note,
            {teacher: one.logits[row_of[teacher][note.note_str]] for teacher, one in labels.items()},
        )
        for note in read_notes(folder)
        if note.check == check
        and low <= note.pitch <= high
        and all(note.note_str in rows for rows in row_of.values())
    ]


@dataclass(frozen=True, eq=False)
class Heard:
    """What became of some notes in the ears: logits and embeddings (N, ...) by ear, and figures (N,).

    ``pitch`` and ``family`` are the classifier's probabilities (N, classes), or None where there is none.
    """

    logits: dict[str, FloatArray]
    embeddings: dict[str, FloatArray]
    centroid_hz: Doubles
    level_dbfs: Doubles
    pitch: FloatArray | None
    family: FloatArray | None


class Listener:
    """The ears, the classifier, and what it takes to play notes to them with several threads."""

    def __init__(self, ears: Sequence[Teacher], classifier: Classifier | None, threads: int) -> None:
        self.ears = {ear.name: ear for ear in ears}
        self._columns = {ear.name: {name: n for n, name in enumerate(ear.classes)} for ear in ears}
        self.classifier = classifier
        self.threads = threads
        self._local = threading.local()

    def column(self, ear: str, name: str) -> int:
        """Which of an ear's outputs is the class of this name; DarkrackError where that ear does not listen."""
        if ear not in self.ears:
            raise DarkrackError(
                "--ear",
                f"{ear}, which labelled the attribute {name!r}",
                ", ".join(self.ears) or "none",
                f"add --ear {ear}=PATH",
            )
        if name not in self._columns[ear]:
            raise DarkrackError(
                f"{ear}",
                f"a class for the attribute {name!r}",
                "none",
                "use the teacher that labelled the voice's notes",
            )
        return self._columns[ear][name]

    def knows(self, ear: str, name: str) -> bool:
        """Whether an ear has a class of this name."""
        return name in self._columns[ear]

    def asked_logits(self, held: Held, attributes: Sequence[tuple[str, str]]) -> FloatArray:
        """(A,) what each attribute's teacher said of a real note; ``attributes`` are (name, teacher)."""
        return np.array(
            [held.logits[teacher][self.column(teacher, name)] for name, teacher in attributes], np.float32
        )

    def play(
        self,
        frames: npt.NDArray[np.floating],
        grid: Partials | Stft,
        pitch_midi: float,
        seconds: float,
        made_for_midi: float | None = None,
    ) -> FloatArray:
        """(samples,) mono at 48 kHz: frames (2, rows, frames) through the device's decoder and a voice.

        ``made_for_midi``: the pitch that the frames were made for (default: the one that sounds).
        """
        bank = self._bank(grid)
        note, f0_hz = decoded(frames, grid, pitch_midi if made_for_midi is None else made_for_midi)
        # Phases of the note's own: the same note sounds the same whichever thread plays it after whatever other.
        phases = zlib.crc32(np.ascontiguousarray(frames).tobytes())
        bank.start(0, note, nominal_hz(pitch_midi), phases=phases, made_for_hz=f0_hz)
        audio = np.zeros((round(seconds * SAMPLE_RATE_HZ), 2), np.float32)
        bank.render(audio)
        bank.kill(0)
        bank.render(np.zeros((SAMPLE_RATE_HZ // 50, 2), np.float32))  # 20 ms: what was killed fades in 4
        return np.asarray(audio[:, 0] * np.sqrt(2), np.float32)  # equal-power pan in the middle: -3 dB a side

    def _bank(self, grid: Partials | Stft) -> VoiceBank:
        """This thread's one voice for a grid."""
        banks: dict[Partials | Stft, VoiceBank] = self._local.__dict__.setdefault("banks", {})
        if grid not in banks:
            from device.voices import bank_for

            banks[grid] = bank_for(grid, SAMPLE_RATE_HZ)
        return banks[grid]

    def sing(self, voice: Voice, asked: Asked, seconds: float = HEARD_S) -> FloatArray:
        """(samples,) mono at 48 kHz: one generated note."""
        sounding_midi = asked.pitch_midi + voice.detuned_cents / 100
        made_for_midi = trained_pitch(asked.pitch_midi, voice.pitch_range_midi, voice.grid)
        return self.play(
            voice.note(asked),
            voice.grid,
            sounding_midi,
            seconds,
            made_for_midi if isinstance(voice.grid, Stft) else None,
        )

    def real(self, held: Held) -> FloatArray:
        """The first second of a real note at 48 kHz, resampled where the set has another rate."""
        audio = read_audio(held.folder, held.note, HEARD_S)
        if not np.isfinite(audio).all():
            raise DarkrackError(
                f"{held.folder / held.note.file}, {held.note.note_str}", "finite samples", "NaN or infinity"
            )
        if held.note.sample_rate == SAMPLE_RATE_HZ:
            return audio
        import soxr

        resampled: FloatArray = soxr.resample(audio, held.note.sample_rate, SAMPLE_RATE_HZ)
        return resampled

    def resynthesis(self, held: Held, grid: Partials | Stft) -> FloatArray:
        """The same note once through the grid: the best that a generator could do on it."""
        return self.play(encode_note(held.folder, held.note, grid), grid, held.note.pitch, HEARD_S)

    def hear_voice(
        self, voice: Voice, asked: Sequence[Asked], what: str, ears: Sequence[str] | None = None
    ) -> Heard:
        """What becomes of generated notes; see `hear`."""
        return self.hear(asked, partial(self.sing, voice), f"{voice.name}: {what}", ears)

    def hear(
        self,
        work: Sequence[Any],
        make: Callable[[Any], FloatArray],
        what: str,
        ears: Sequence[str] | None = None,
    ) -> Heard:
        """``make(item)`` to audio for every item of ``work``, heard in chunks; in order, with a progress bar.

        ``ears`` are those that listen, all by default; the classifier listens only where all do.
        """
        names = list(self.ears) if ears is None else list(ears)
        classifier = self.classifier if ears is None else None

        def chunk(begin: int) -> Heard:
            audio = [make(item) for item in work[begin : begin + CHUNK]]
            both = {name: self.ears[name].hear(np.stack(audio), SAMPLE_RATE_HZ, BED_DBFS) for name in names}
            guess = classifier.probabilities(np.stack(audio), SAMPLE_RATE_HZ) if classifier else (None, None)
            return Heard(
                {name: one[0] for name, one in both.items()},
                {name: one[1] for name, one in both.items()},
                np.array([centroid_hz(one, SAMPLE_RATE_HZ) for one in audio]),
                np.array([level(one).rms_dbfs for one in audio]),
                *guess,
            )

        begins = range(0, len(work), CHUNK)
        with ThreadPoolExecutor(self.threads) as pool:
            chunks = list(tqdm(pool.map(chunk, begins), what, len(begins), unit="chunk", disable=None))

        def joined(parts: list[Any]) -> Any:
            return None if parts[0] is None else np.concatenate(parts)

        return Heard(
            {name: np.concatenate([one.logits[name] for one in chunks]) for name in names},
            {name: np.concatenate([one.embeddings[name] for one in chunks]) for name in names},
            np.concatenate([one.centroid_hz for one in chunks]),
            np.concatenate([one.level_dbfs for one in chunks]),
            joined([one.pitch for one in chunks]),
            joined([one.family for one in chunks]),
        )
