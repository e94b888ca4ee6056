"""The ear: a small network that learns from the tagger what frames sound like, so that its answer has a gradient.

DarkGAN's critic learns what real notes are called, and a generator that follows the gradient of that fools it: the
tagger, asked, hears no difference. So the tagger goes on listening. Every few steps it hears notes that the generator
makes by then, played by the instrument's own decoder and voices, and the ear learns from its answers: whatever fools
the ear is its next lesson. The generator, taught by the ear, is asked for real notes, which shall be heard as those
are, and for labels, pitches and z that no note has together, which shall be heard as asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import atomic_path
from device.partials import LOUDEST_DB, Partials
from train.label import labels_of
from train.networks import PITCH_STEP, SLOPE, Condition, convolution
from train.ranks import ALONE, Ranks
from train.recipe import Recipe

if TYPE_CHECKING:
    from train.dataset import TrainingSet
    from train.stages import Asked
    from train.teacher import Teacher

FloatArray = npt.NDArray[np.float32]

BANDS = 96  # 37 mel apart: a semitone at 1 kHz
LOWEST_HZ, HIGHEST_HZ = 30.0, 16_000.0
UNDER_DB = -80.0  # of the loudest moment: where taggers stop, for most of what they hear
EMBEDDING = 64  # principal components of the tagger's embedding: 88 % of the variance of mn04's on FluidR3
FARTHEST = 5.0  # an answer from 0: real notes stay within it, and what does not need not be known better
GAIN_JITTER = 0.1  # nepers of power, each row's own, while the ear learns: 0.4 dB
LATE = 2000  # generated notes, the newest, which half of a lesson comes from
REAL, LEVELS, ANSWERS = "ear-real.npy", "ear-levels.npy", "ear-answers.npy"  # the memory


class Ear(nn.Module):
    """Levels (B, rows, frames) and pitch (B, 1) MIDI to what a tagger would answer (B, answers), see `Wanted`.

    It begins as the tagger does, with energy in mel bands, here straight from the partials' levels, relative to the
    loudest moment. It is not told the deviations: with all of them zeroed the tagger hears hardly a difference.
    """

    anchors: Tensor

    def __init__(self, width: int, grid: Partials, answers: int, pitch_range_midi: tuple[int, int]) -> None:
        super().__init__()
        self._grid = grid
        low, high = pitch_range_midi
        self.register_buffer("anchors", torch.arange(low, high + PITCH_STEP, PITCH_STEP)[None])
        halvings = min(4, int(math.log2(grid.frames)) - 2)
        self.first = convolution(BANDS, width, 3)
        self.layers = nn.ModuleList(
            convolution(width, width, 5 if n < halvings - 1 else 3, 2) for n in range(halvings)
        )
        self.pitch = nn.Linear(self.anchors.shape[1], width)
        self.hidden = nn.Linear(3 * width, 2 * width)
        self.out = nn.Linear(2 * width, answers)
        nn.init.normal_(self.out.weight, std=0.01)

    def forward(self, level: Tensor, pitch: Tensor) -> Tensor:
        """See the class."""
        with torch.autocast(level.device.type, enabled=False):  # powers of levels 80 dB apart
            x = self._bands(level, pitch)[:, :, None]
        x = F.leaky_relu(self.first(x), SLOPE)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        x = F.dropout(x[:, :, 0], 0.1, self.training)
        hats = F.relu(1 - (pitch - self.anchors).abs() / PITCH_STEP)
        heard = [x.mean(2), x.amax(2), F.leaky_relu(self.pitch(hats), SLOPE)]
        answers: Tensor = self.out(F.leaky_relu(self.hidden(torch.cat(heard, 1)), SLOPE))
        return answers

    def _bands(self, level: Tensor, pitch: Tensor) -> Tensor:
        """Levels (B, rows, frames) as the decoder takes them to (B, BANDS, frames) of about unit variance."""
        floor_db = self._grid.floor_db
        level_db = (1 - level.clamp(0, 1 - LOUDEST_DB / floor_db)) * floor_db
        power = torch.exp(level_db * (math.log(10) / 10)) * (level > 0)
        if self.training:
            power = power * torch.exp(GAIN_JITTER * torch.randn_like(power[:, :, :1]))
        row = torch.arange(1, level.shape[1] + 1, dtype=level.dtype, device=level.device)
        place = _mel(440 * torch.exp2((pitch - 69) / 12) * (row / self._grid.rows_a_partial))  # (B, rows)
        centres = torch.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS, device=level.device)
        share = F.relu(1 - (place[:, None] - centres[:, None]).abs() / (centres[1] - centres[0]))
        energy = torch.matmul(share, power)  # (B, BANDS, frames)
        loudest = power.sum(1).amax(1)[:, None, None]
        return (10 * torch.log10(energy / (loudest + 1e-12) + 10 ** (UNDER_DB / 10)) + 45) / 20


def _mel(hz: Any) -> Any:
    return 1127 * (torch.log1p(hz / 700) if isinstance(hz, Tensor) else math.log1p(hz / 700))


@dataclass(frozen=True, eq=False)
class Wanted:
    """What the tagger said of the notes of a set, and how answers are counted.

    ``attributes``: which of the set's attributes are this tagger's. An answer is their logits in standard deviations
    of the training notes, then EMBEDDING coordinates of an embedding whose variance is 1 in all. ``answers`` (N, ...)
    are those of the real notes as they are, not as they come back from the grid: what a generated one shall sound like.
    """

    attributes: tuple[int, ...]
    classes: tuple[int, ...]
    mean: FloatArray
    scale: FloatArray
    centre: FloatArray
    axes: FloatArray
    answers: FloatArray

    def standard(self, logits: npt.NDArray[Any], embeddings: npt.NDArray[Any]) -> FloatArray:
        """Answers of logits (n, classes of the tagger) and embeddings (n, E)."""
        found = [self.of_logits(logits[:, self.classes]), (embeddings - self.centre) @ self.axes]
        return np.concatenate(found, axis=1).clip(-FARTHEST, FARTHEST).astype(np.float32)

    def of_logits(self, logits: FloatArray) -> FloatArray:
        """Logits (n, len(attributes)) in standard deviations of the training notes."""
        return (logits - self.mean) / self.scale

    def apart(self, said: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """How far the ear's answers (n, answers) are from the tagger's: labels in the mean square, embeddings."""
        difference, labels = (said - true).square(), len(self.attributes)
        return difference[:, :labels].mean(), difference[:, labels:].sum(1).mean()

    def missed(
        self,
        said: Tensor,
        attributes: Tensor,
        weight: Tensor,
        notes: npt.NDArray[np.int64],
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        """How far what was heard is from what was asked: labels of all, embeddings of those that shall be ``notes``.

        ``said`` (n, answers) of notes asked for with soft labels (n, A) of some ``weight`` (n, A), the first of which
        are real ones made again. An outlier among the labels pulls like one two standard deviations away (Huber).
        """
        asked = torch.logit(attributes[:, self.attributes].double(), eps=1e-7) * temperature
        wanted = torch.from_numpy(self.of_logits(asked.float().numpy()))
        labels = len(self.attributes)
        real = torch.from_numpy(self.answers[notes][:, labels:])
        return (
            (F.huber_loss(said[:, :labels], wanted, "none", 2.0) * weight[:, self.attributes]).mean(),
            (said[: len(notes), labels:] - real).square().sum(1).mean(),
        )

    def spread(self, one: Tensor, other: Tensor, notes: npt.NDArray[np.int64]) -> Tensor:
        """The energy score of pairs that were asked for alike: answers (n, answers) and (n, answers), ``notes`` (n,).

        The mean distance of both from the real note, less half of their distance from each other: as small as can be
        where what is made for a condition is spread as real notes are (Gneiting & Raftery 2007, section 4.2).
        """
        labels = len(self.attributes)
        real = torch.from_numpy(self.answers[notes])

        def apart(a: Tensor, b: Tensor) -> Tensor:
            return ((a - b)[:, labels:].square().sum(1) + 1e-4).sqrt().mean()

        return (apart(one, real) + apart(other, real) - apart(one, other)) / 2


def wanted_of(folder: Path, notes: TrainingSet, teacher: Teacher) -> Wanted:
    """What ``teacher`` said of the notes of ``folder``; DarkrackError where the labels are another network's."""
    labels = labels_of(folder, teacher, "--ear")
    rows = labels.rows([note.note_str for note in notes.notes])
    mine = tuple(n for n, name in enumerate(notes.attributes.teachers) if name == teacher.name)
    classes = tuple(notes.attributes.classes[n] for n in mine)
    seen = notes.parts["train"]
    logits, embeddings = labels.logits[rows], labels.embeddings[rows].astype(np.float64)
    centre = embeddings[seen].mean(0)
    _, spread, axes = np.linalg.svd(embeddings[seen] - centre, full_matrices=False)
    total = math.sqrt((spread**2).sum() / len(seen))
    known = logits[seen][:, classes]
    found = Wanted(
        mine,
        classes,
        known.mean(0).astype(np.float32),
        np.maximum(known.std(0), 0.3).astype(np.float32),  # a class that never stirs is no reason to shout
        centre.astype(np.float32),
        (axes[:EMBEDDING].T / max(total, 1e-12)).astype(np.float32),
        np.empty(0, np.float32),
    )
    answers = found.standard(logits, embeddings)
    return Wanted(**{**vars(found), "answers": answers})


class Hearing:
    """The tagger at work, and the ear that learns from it.

    What was heard lies in a folder: some real notes, and a ring of generated ones. A lesson comes from what was heard
    before it and would still be there a whole interval between checkpoints later, so whoever goes on from a checkpoint
    has the same lessons again, though the ring was written further. `begin` or `go_on` comes first.

    ``batch``: notes of a lesson, and half of what is heard at a time. Raises DarkrackError where the labels of ``data``
    are not this teacher's.
    """

    def __init__(
        self, recipe: Recipe, data: Path, notes: TrainingSet, teacher: Teacher, batch: int | None = None
    ) -> None:
        from train.listener import Listener

        assert recipe.ear is not None
        self._recipe, self._stage, self._notes, self._teacher = recipe, recipe.ear, notes, teacher
        self._wanted = wanted_of(data, notes, teacher)
        self._listener = Listener([teacher], None, 1)
        self._batch = recipe.batch if batch is None else batch
        self._each = 2 * self._batch  # notes that are heard at a time
        rate, width = self._stage.ear_learning_rate, self._wanted.answers.shape[1]
        self.ear = Ear(self._stage.channels, recipe.grid, width, recipe.pitch_range_midi)
        self._optimiser = torch.optim.Adam(self.ear.parameters(), rate, (0.9, 0.99))
        self._ring = self._stage.remembered + self._each * math.ceil(
            recipe.checkpoint_every_steps / self._stage.every
        )
        seen = np.random.default_rng([recipe.seed, 11]).permutation(notes.parts["train"])
        self._real = seen[: max(self._stage.first_notes // self._each, 1) * self._each]
        self._levels: Any = None
        self._answers: Any = None
        # Runs whose memory goes on, and how many notes each had heard.
        self._earlier: list[tuple[str, int]] = []
        self._lessons = 0  # that the ear has had
        self._heard = 0  # generated notes

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, the memory aside, which is written down first."""
        if self.open:
            self._levels.flush()
            self._answers.flush()
        counts = {"lessons": self._lessons, "heard": self._heard, "earlier": self._earlier}
        return {"ear": self.ear.state_dict(), "optimiser": self._optimiser.state_dict(), **counts}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Stand where a checkpoint stood."""
        self.ear.load_state_dict(content["ear"])
        self._optimiser.load_state_dict(content["optimiser"])
        self._lessons, self._heard = content["lessons"], content["heard"]
        self._earlier = list(content.get("earlier", []))

    def take_over(self, content: Mapping[str, Any]) -> None:
        """Begin with the ear of another's `state_dict`, prepared, and with nothing heard."""
        self.ear.load_state_dict(content["ear"])
        self._lessons = self._stage.first_steps

    def inherit(self, earlier: Path, content: Mapping[str, Any]) -> None:
        """Begin with the ear of a run that was taught by the same labels, and remember what it remembers.

        ``content`` is its `state_dict`, or what a warm start left of it. An ear of another shape is left.
        """
        shapes = {name: value.shape for name, value in self.ear.state_dict().items()}
        if shapes == {name: value.shape for name, value in content["ear"].items()}:
            self.ear.load_state_dict(content["ear"])
        self.remember_too(earlier, content)

    def remember_too(self, earlier: Path, content: Mapping[str, Any]) -> bool:
        """Remember what a run remembers that was taught by the same labels; whether there is anything.

        There is nothing where it was taught to its end, which deletes it, or on another grid.
        """
        kept = "heard" in content and all((earlier / name).exists() for name in (LEVELS, ANSWERS))
        grid = self._recipe.grid
        if kept and np.load(earlier / LEVELS, mmap_mode="r").shape[1:] == (grid.rows, grid.frames):
            self._earlier.append((str(earlier), content["heard"]))
            return True
        return False

    @property
    def began(self) -> bool:
        """Whether anything generated was heard, now or by the time of the checkpoint."""
        return self._heard > 0

    @property
    def open(self) -> bool:
        """Whether the memory has been begun or found."""
        return self._answers is not None

    @property
    def prepared(self) -> bool:
        """Whether the ear has had its first lessons, those before anybody listens to it."""
        return self._lessons >= self._stage.first_steps

    def learn(self, ranks: Ranks = ALONE) -> dict[str, float]:
        """One lesson of the ear, and how wrong it was; its pass in the precision of ``ranks``."""
        level, pitch, answers = self.lesson()
        first = self._stage.first_steps
        for group in self._optimiser.param_groups:
            group["lr"] = self._stage.ear_learning_rate * (1 - 0.8 * min(self._lessons / max(first, 1), 1.0))
        self.ear.train().requires_grad_(True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._recipe.seed + 1000 * self._lessons)
            with ranks.cast():
                said = self.ear(level, pitch)
            labels, embedding = self._wanted.apart(said.float(), answers)
        self._optimiser.zero_grad(set_to_none=True)
        (labels + embedding).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.ear.parameters(), 10.0)
        self._optimiser.step()
        self._lessons += 1
        return {"ear_labels": labels.item(), "ear_embedding": embedding.item()}

    def missed(
        self, frames: Tensor, asked: Asked, notes: npt.NDArray[np.int64], ranks: Ranks = ALONE
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How far ``frames`` (n, 2, rows, frames) sound from what was asked, by the ear: labels, embeddings, spread.

        The first of them are the ``notes`` of the set made again. The last is 0 where no twins are asked for. With a
        gradient.
        """
        from train.stages import twins

        self.ear.eval().requires_grad_(False)
        with ranks.cast():
            said = self.ear(frames[:, 0], asked.condition.pitch)
        said = said.float()
        labels, embedding = self._wanted.missed(
            said, asked.condition.attributes, asked.weight, notes, self._recipe.labels.temperature
        )
        if not self._stage.spread_weight:
            return labels, embedding, torch.zeros(())
        one, other = twins(said, len(notes))
        return labels, embedding, self._wanted.spread(one, other, notes[: len(one)])

    def listen(self, frames: Tensor, asked: Asked, notes: npt.NDArray[np.int64]) -> dict[str, float]:
        """Have the tagger hear what `missed` was asked about, every so many times: what it says was missed.

        Twins it does not hear: they are like notes that it does.
        """
        if (self._lessons - self._stage.first_steps) % self._stage.every:
            return {}
        heard = slice(0, 2 * len(notes))
        said = torch.from_numpy(
            self.remember(frames[heard].detach().numpy(), asked.condition.pitch[heard, 0].numpy())
        )
        labels, embedding = self._wanted.missed(
            said,
            asked.condition.attributes[heard],
            asked.weight[heard],
            notes,
            self._recipe.labels.temperature,
        )
        return {"heard_labels": labels.item(), "heard_embedding": embedding.item()}

    def answers(self, frames: FloatArray, pitch: FloatArray) -> FloatArray:
        """What the tagger says of frames (n, 2, rows, frames) played at ``pitch`` (n,) MIDI: (n, answers)."""
        from train.listener import BED_DBFS, SAMPLE_RATE_HZ
        from train.teacher import HEARD_S

        grid = self._recipe.grid
        audio = [
            self._listener.play(one, grid, float(midi), HEARD_S)
            for one, midi in zip(frames, pitch, strict=True)
        ]
        return self._wanted.standard(*self._teacher.hear(np.stack(audio), SAMPLE_RATE_HZ, BED_DBFS))

    def begin(self, folder: Path, make: Callable[[npt.NDArray[np.int64]], tuple[Tensor, Condition]]) -> None:
        """Hear the first notes: real ones, and as many that ``make(rows of the set)`` makes, two for each row."""
        from train.stages import sounding_mask

        grid = self._recipe.grid
        folder.mkdir(parents=True, exist_ok=True)
        chunks = [self._real[n : n + self._each] for n in range(0, len(self._real), self._each)]
        with tqdm(
            total=2 * len(self._real), unit="note", desc=f"{self._teacher.name} hears", disable=None
        ) as progress:
            real = []
            for rows in chunks:
                pitch = self._notes.pitch[rows]
                real.append(
                    self.answers(self._notes.frames(rows) * sounding_mask(pitch, grid).numpy(), pitch)
                )
                progress.update(len(rows))
            with atomic_path(folder / REAL) as temporary, temporary.open("wb") as file:
                np.save(file, np.concatenate(real))
            self._open(folder, "w+")
            self._remember_earlier()
            random = np.random.default_rng([self._recipe.seed, 12])
            for rows in chunks:
                frames, asked = make(random.choice(self._notes.parts["train"], self._batch))
                self.remember(frames[: self._each].numpy(), asked.pitch[: self._each, 0].numpy())
                progress.update(len(rows))

    def _remember_earlier(self) -> None:
        """Copy what earlier runs remember, as much of each, the oldest first."""
        for folder, heard in self._earlier:
            levels, answers = (np.load(Path(folder) / name, mmap_mode="r") for name in (LEVELS, ANSWERS))
            kept = min(heard, len(answers), self._ring // len(self._earlier))
            places = np.arange(heard - kept, heard) % len(answers)
            for begin in range(0, kept, self._each):
                some = places[begin : begin + self._each]
                self._levels[self._heard : self._heard + len(some)] = levels[some]
                self._answers[self._heard : self._heard + len(some)] = answers[some]
                self._heard += len(some)

    def go_on(self, folder: Path) -> None:
        """Find the memory that was left in ``folder``; DarkrackError where it is not there."""
        for name in (REAL, LEVELS, ANSWERS):
            if not (folder / name).exists():
                raise DarkrackError(
                    str(folder / name),
                    "what the ear has heard",
                    "no such file",
                    "put it back, or begin again without the checkpoint",
                )
        self._open(folder, "r+")

    def _open(self, folder: Path, mode: str) -> None:
        grid = self._recipe.grid
        self._real_answers = np.load(folder / REAL)
        width = 1 + self._wanted.answers.shape[1]  # the pitch, and what was said
        self._levels = open_memmap(folder / LEVELS, mode, np.float16, (self._ring, grid.rows, grid.frames))
        self._answers = open_memmap(folder / ANSWERS, mode, np.float32, (self._ring, width))

    def remember(self, frames: FloatArray, pitch: FloatArray) -> FloatArray:
        """Hear generated notes and keep them; see `answers`, which are returned."""
        answers = self.answers(frames, pitch)
        places = (self._heard + np.arange(len(frames))) % self._ring
        # As the decoder takes them: asked for labels that no note has, levels go to 20 times full scale.
        self._levels[places] = frames[:, 0].clip(0, 1 - LOUDEST_DB / self._recipe.grid.floor_db)
        self._answers[places] = np.concatenate([pitch[:, None], answers], axis=1)
        self._heard += len(frames)
        return answers

    def lesson(self) -> tuple[Tensor, Tensor, Tensor]:
        """Levels (n, rows, frames), pitch (n, 1) and answers (n, answers), for the ear: the next lesson.

        One half are any that are remembered, the real ones among them, the other half those of late: what the
        generator makes now is what the ear is asked about.
        """
        from train.stages import sounding_mask

        random = np.random.default_rng([self._recipe.seed, 13, self._lessons])
        known, count = min(self._heard, self._stage.remembered), self._batch
        real = random.integers(
            0, len(self._real), max(count // 2 * len(self._real) // (known + len(self._real)), 1)
        )
        late = random.integers(0, max(min(known // 4, LATE), 1), count - count // 2)
        any_made = random.integers(0, known, count - len(late) - len(real))
        made = (self._heard - 1 - np.concatenate([any_made, late])) % self._ring
        rows = self._real[real]
        pitch = np.concatenate([self._notes.pitch[rows], self._answers[made, 0]])
        level = np.concatenate([self._notes.frames(rows)[:, 0], self._levels[made].astype(np.float32)])
        level *= sounding_mask(pitch, self._recipe.grid)[:, 0].numpy()
        answers = np.concatenate([self._real_answers[real], self._answers[made, 1:]])
        return torch.from_numpy(level), torch.from_numpy(pitch[:, None]), torch.from_numpy(answers)

    def forget(self, folder: Path) -> None:
        """Delete the memory, which nobody needs once training is over."""
        self._answers = self._levels = None
        for name in (REAL, LEVELS, ANSWERS):
            (folder / name).unlink(missing_ok=True)
