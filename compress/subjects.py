"""What can be trimmed: a run's generator on either grid, taught by itself as it was; and the judge's classifier."""

from __future__ import annotations

import copy
import functools
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.trim import Lesson, Subject
from device.errors import DarkrackError
from device.files import atomic_path, sha256_of, write_json
from device.partials import LOUDEST_DB, Partials
from train import cost, darkgan, growing
from train.networks import Condition, Critic, Encoder, Generator
from train.ranks import ALONE, Ranks
from train.recipe import GrowingRecipe, Recipe, read_recipe
from train.runs import open_run
from train.stages import (
    CHECKPOINT,
    EARLY,
    Asked,
    Batch,
    asked_by_ear,
    batch_of,
    class_loss,
    critic_step,
    deviation_loss,
    know_the_data,
    load_checkpoint,
    lone_knobs,
    masked_mean,
    played,
    push_attributes,
    resemblance,
    sounding_mask,
    texture,
    touched,
    weighed,
)

if TYPE_CHECKING:
    from train.dataset import TrainingSet
    from train.ear import Hearing

CLASSIFIER = "classifier"
CLASSIFIED_MIDI = (36.0, 84.0)  # the range of the voices that the judge has heard so far
TIMED_CALLS = 300
# One in four notes of the prior, so one in eight of a lesson: asked for labels that no note has, networks are three
# times as far apart as for others, and at one in four of a lesson half of the gradient came from there.
PUSHED_SHARE = 4
# On `stft`, of a run that never compared planes: as recipes/darkgan-two-stage.toml weighs frequency beside level, and
# both beside what the discriminator says.
FREQUENCY_WEIGHT, LIKENESS_WEIGHT = 0.5, 10.0


def open_subject(
    run: Path,
    data: Path,
    learn: tuple[str, ...],
    *,
    batch: int,
    seed: int,
    threads: int,
    ear: str | None,
    memory: Path,
    ranks: Ranks = ALONE,
) -> Subject:
    """The generator of a run with the notes it learned from, or the judge's classifier where ``run`` is "classifier".

    ``learn``, ``batch`` and ``seed`` are the plan's; ``ear`` (NAME=PATH) is who listens where that is learned from, and
    ``memory`` the folder for what was heard; ``ranks`` say in which precision passes are computed.
    """
    if str(run) == CLASSIFIER:
        for one in ("critic", "ear"):
            if one in learn:
                raise DarkrackError(f"--learn {one}", "a generator", "the classifier", f"it has no {one}")
        return ClassifierSubject(data, seed, ranks)
    if isinstance(read_recipe(run / "recipe.toml")[0], GrowingRecipe):
        return GrowingSubject(run, data, learn, threads=threads, seed=seed, ranks=ranks)
    return GeneratorSubject(
        run, data, learn, batch=batch, threads=threads, seed=seed, ear=ear, memory=memory, ranks=ranks
    )


class RunSubject:
    """What trimming does alike with runs on both grids: the averaged generator, and the notes that it learned from."""

    fixed: tuple[str, ...]

    def __init__(self, run: Path, data: Path, *, threads: int, seed: int, ranks: Ranks) -> None:
        from train.dataset import load_training_set

        self.ranks, self._opened = ranks, open_run(run)
        self._run, self._seed, self._facts = run, seed, self._opened.facts
        self._content = load_checkpoint(run)
        self._notes: TrainingSet = load_training_set(data, self._opened.recipe, threads)
        if self._notes.sha256() != self._content["identity"]["these notes"]:
            raise DarkrackError(
                str(data), "the notes that the run was trained on", "others", "give their folder"
            )
        self.network: nn.Module = self._opened.generator
        self.example = tuple(torch.zeros(size) for size in self._opened.inputs.values())
        self.identity = hashlib.sha256(
            (sha256_of(run / CHECKPOINT) + self._notes.sha256()).encode()
        ).hexdigest()
        self._quantiles = torch.from_numpy(self._notes.attributes.quantiles)

    def early(self) -> nn.Module:
        """See `Subject.early`."""
        path = self._run / EARLY
        if not path.exists():
            raise DarkrackError(
                str(path), "the run's early weights", "none", "train it again, or let survivors go on"
            )
        content = torch.load(path, weights_only=True)
        if content["identity"] != self._content["identity"]:
            raise DarkrackError(str(path), "early weights of this run", "another's", "train it again")
        return self._begun(content["generator"])

    def _begun(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A network like the run's with weights that it had in training."""
        raise NotImplementedError

    def _imagined(self, condition: Condition, known: int, augment: float, *, anywhere: bool) -> Condition:
        """What a player asks for, behind the first ``known`` notes: attributes of the last of them pushed about.

        ``anywhere``: with any pitch and velocity.
        """
        attributes, pitch, velocity = (one.clone() for one in condition)
        count = len(pitch)
        pushed = count - (count - known) // PUSHED_SHARE
        attributes[pushed:], _ = push_attributes(attributes[pushed:], self._quantiles, augment)
        if anywhere:
            low, high = self._opened.recipe.pitch_range_midi
            pitch[known:] = low + (high - low) * torch.rand(count - known, 1)
            velocity[known:] = velocity[known:].flip(0)
        return Condition(attributes, pitch, velocity)

    def _no_critic(self) -> DarkrackError:
        return DarkrackError(
            str(self._run), "a run with a trained critic", "one without stage two", "--learn without critic"
        )

    def measure_ms(self, network: nn.Module) -> float:
        """Median of what plays by default through LiteRT with its delegate, one thread; see `Subject.measure_ms`."""
        from compress.export import plays_by_default, to_tflite
        from compress.quantize import quantized
        from device.generator import Network

        inputs = self._opened.inputs
        float32 = to_tflite(copy.deepcopy(network).eval(), inputs)
        model = quantized(float32, plays_by_default(self._opened.grid))
        player = Network(model, "the trimmed network", inputs, self._opened.output)
        tensors = {name: np.zeros(size, np.float32) for name, size in inputs.items()}
        return _median_ms(lambda: player(tensors))

    def keep(self, folder: Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
        """A run like its parent, with other widths; see `Subject.keep`."""
        with whole_folder(folder) as new:
            for file in ("recipe.toml", "presets.npz"):
                if (self._run / file).exists():  # what grew has no notes to take presets' z from
                    shutil.copyfile(self._run / file, new / file)
            parent = {
                **facts["parent"],
                "checkpoint_sha256": sha256_of(self._run / CHECKPOINT),
                "cost": cost.spent(self._run),
            }
            stood = {key: value for key, value in self._facts.items() if key != "step"}
            trimmed = {**facts, "parent": parent}
            write_json(new / cost.FILE, trimmed.pop("cost"))
            write_json(new / "run.json", {**stood, "trimmed": trimmed})
            content = {key: self._content[key] for key in ("identity", "step")} | self._weights(network)
            with atomic_path(new / CHECKPOINT) as temporary:
                torch.save(content, temporary)

    def _weights(self, network: nn.Module) -> dict[str, Any]:
        """What a checkpoint holds of a network in widths of its own, and of what plays beside it."""
        raise NotImplementedError


class GeneratorSubject(RunSubject):
    """On the partials grid: asked for notes that exist and for notes that do not, and taught by itself as it was.

    Half of a lesson are notes of the data with z of the encoder, half are z of the prior with any pitch and velocity,
    and the last of these have attributes pushed about: what a player asks for. Teacher and student get the same noise,
    so the texture can be compared like everything else. Where only the notes are learned from, all of it are notes.
    Where an ear is learned from, it asks as stage three does.
    """

    def __init__(
        self,
        run: Path,
        data: Path,
        learn: tuple[str, ...],
        *,
        batch: int = 32,
        threads: int = 1,
        seed: int = 0,
        ear: str | None = None,
        memory: Path | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(run, data, threads=threads, seed=seed, ranks=ranks)
        assert isinstance(self._opened.recipe, Recipe)
        assert isinstance(self._opened.encoder, Encoder)
        self._recipe, self._encoder = self._opened.recipe, self._opened.encoder
        self.fixed = ("to_frames",)
        self._knobs = lone_knobs(self._recipe, self._notes)
        self._critic: Critic | None = None
        self._rival: torch.optim.Optimizer | None = None
        self._notes_alone = learn == ("task",)
        if "critic" in learn:
            if self._content["step"] <= self._recipe.reconstruction.steps or "critic" not in self._content:
                raise self._no_critic()
            self._critic = Critic(
                self._recipe.critic,
                self._recipe.grid,
                self._recipe.generator.told(len(self._facts["attributes"])),
                self._recipe.pitch_range_midi,
            )
            self._critic.load_state_dict(self._content["critic"])
            rate = self._recipe.adversarial.critic_learning_rate
            self._rival = torch.optim.Adam(self._critic.parameters(), rate, (0.0, 0.99))

        self._hearing: Hearing | None = None
        if "ear" in learn:
            if "critic" in learn:
                raise DarkrackError("--learn", "an ear or a critic", "both", "they ask for different notes")
            self._hearing = self._listen(data, batch, ear, memory)

    def _listen(self, data: Path, batch: int, ear: str | None, memory: Path | None) -> Hearing:
        """Who listens, with the ear as the run left it."""
        from train.ear import Hearing
        from train.train import listening

        stage = self._recipe.ear
        if stage is None or "hearing" not in self._content:
            raise DarkrackError(
                str(self._run),
                "a run that was trained by ear",
                "one without that stage",
                "--learn without ear",
            )
        assert memory is not None
        teacher = listening(ear, stage.teacher)
        hearing = Hearing(self._recipe, data, self._notes, teacher, max(batch // 2, 1))
        hearing.take_over(self._content["hearing"])
        self.identity = hashlib.sha256((self.identity + teacher.weights_sha256).encode()).hexdigest()
        self._memory = memory
        return hearing

    def _wake(self, hearing: Hearing) -> None:
        """Find what was heard when trimming was stopped, or hear the first notes."""
        if hearing.began:
            hearing.go_on(self._memory)
            return

        def make(rows: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Tensor, Condition]:
            notes = batch_of(self._recipe, self._notes, rows)
            asked = asked_by_ear(self._encoder, self._recipe, notes, self._quantiles, self._knobs)
            return played(self.network, asked)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            hearing.begin(self._memory, make)

    def _begun(self, weights: Mapping[str, Tensor]) -> nn.Module:
        early = copy.deepcopy(self.network)
        early.load_state_dict(weights)
        return early

    def fresh(self, like: nn.Module) -> nn.Module:
        """As `train.stages.start_state` begins, in the widths of ``like``; see `Subject.fresh`."""
        assert isinstance(like, Generator)
        sizes = (self._recipe.grid, len(self._facts["attributes"]), self._recipe.pitch_range_midi)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            fresh = Generator(self._recipe.generator, *sizes, like.widths())
        know_the_data(fresh, self._notes, self._recipe.grid)
        return fresh

    def lesson(self, step: int, count: int) -> Lesson:
        """See `Subject.lesson`."""
        if self._hearing is not None and not self._hearing.open:
            self._wake(self._hearing)
        random = np.random.default_rng([self._seed, abs(step), step < 0])
        known = count if self._notes_alone else count // 2  # of these, the ones that are notes of the data
        drawn = known if self._hearing else count
        train = self._notes.parts["train"]
        rows = random.choice(train, drawn, replace=drawn > len(train))
        batch = batch_of(self._recipe, self._notes, rows, touched(self._recipe, self._notes, rows, random))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.integers(2**62)))
            if self._hearing:
                asked = asked_by_ear(self._encoder, self._recipe, batch, self._quantiles, self._knobs)
            else:
                asked = self._asked(batch, known)
        options, (z, condition, noise, mask, _) = self._recipe.adversarial, asked
        own = batch.first(known)

        def outputs(made: Tensor, taught: Tensor) -> Tensor:
            heard, wanted = heard_alike(made, taught, self._recipe.grid)
            difference = (heard - wanted) * mask
            loss = masked_mean(difference[:, :1].abs(), mask)
            rough = texture(heard, options.smooth_frames) - texture(wanted, options.smooth_frames)
            return (
                loss
                + self._recipe.reconstruction.deviation_weight * deviation_loss(difference, wanted * mask)
                + options.texture_weight * masked_mean(rough.abs(), mask)
            )

        def task(made: Tensor, _: Tensor) -> Tensor:
            return resemblance((made * mask)[:known], own, self._recipe)[0]

        def critic(made: Tensor, _: Tensor) -> Tensor:
            assert self._critic is not None
            self._critic.requires_grad_(False)
            with self.ranks.cast():
                judged = self._critic(made * mask, batch.condition).float()
            self._critic.requires_grad_(True)
            wish = class_loss(
                judged, condition, self._recipe.pitch_range_midi, self._recipe.labels.temperature
            )
            # As against the levels in stage two.
            return (
                F.softplus(-judged.score).mean() + options.class_weight * wish
            ) / options.reconstruction_weight

        def by_ear(made: Tensor, _: Tensor) -> Tensor:
            assert self._hearing is not None
            assert self._recipe.ear is not None
            return weighed(self._recipe.ear, *self._hearing.missed(made * mask, asked, own.notes, self.ranks))

        def after(made: Tensor, share: float) -> None:
            made = made.detach()
            if self._hearing is not None:
                self._hearing.learn(self.ranks)
                self._hearing.listen(made * mask, asked, own.notes)
            if self._critic is not None and self._rival is not None:
                penalised = step % options.r1_every == 0
                critic_step(
                    self._critic,
                    self._rival,
                    self._recipe,
                    batch,
                    made * mask,
                    penalised=penalised,
                    ranks=self.ranks,
                )

        terms = {"outputs": outputs, "task": task, "critic": critic, "ear": by_ear}
        return Lesson((z, *condition, noise), terms, after)

    @torch.no_grad()
    def _asked(self, batch: Batch, known: int) -> Asked:
        """What a player asks for, behind the first ``known`` notes of a batch; see the class."""
        count, own = len(batch.frames), batch.first(known)
        mean, log_variance = self._encoder(own.source.frames, own.source.condition)
        z = torch.cat(
            [
                mean + torch.randn_like(mean) * (log_variance / 2).exp(),
                torch.randn(count - known, mean.shape[1]),
            ]
        )
        noise = torch.randn(count, 2 * self._recipe.generator.noise_channels, self._recipe.grid.frames)
        # Anywhere but with the critic, which knows only pitches that notes have.
        attributes, pitch, velocity = self._imagined(
            batch.condition, known, self._recipe.adversarial.augment, anywhere=self._critic is None
        )
        attributes[:known] = own.told.attributes
        mask = sounding_mask(pitch[:, 0].numpy(), self._recipe.grid)
        return Asked(z, Condition(attributes, pitch, velocity), noise, mask, torch.ones_like(attributes))

    def opponents(self) -> dict[str, Any]:
        """See `Subject.opponents`."""
        if self._hearing is not None:
            return {"hearing": self._hearing}
        return {} if self._critic is None else {"critic": self._critic, "rival": self._rival}

    def finish(self) -> None:
        """Delete what was heard; see `Subject.finish`."""
        if self._hearing is not None:
            self._hearing.forget(self._memory)

    def _weights(self, network: nn.Module) -> dict[str, Any]:
        assert isinstance(network, Generator)
        return {
            "widths": asdict(network.widths()),
            "average_generator": network.state_dict(),
            "average_encoder": self._content["average_encoder"],
        }


class GrowingSubject(RunSubject):
    """On the `stft` grid: DarkGAN's averaged generator as it plays, taught by itself and by its discriminator.

    Lessons are as those of `GeneratorSubject`, but that z of what grew is of the prior always, and pitches are whole.
    ``outputs`` compares planes in the networks' units, frequency by how loud the teacher's bin is (`growing.unlike`).
    The discriminator and its optimiser go on as the run left them, at a rate that falls with the student's; it sees
    what the student makes in units of its own.
    """

    def __init__(
        self,
        run: Path,
        data: Path,
        learn: tuple[str, ...],
        *,
        threads: int = 1,
        seed: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(run, data, threads=threads, seed=seed, ranks=ranks)
        assert isinstance(self._opened.recipe, GrowingRecipe)
        recipe = self._recipe = self._opened.recipe
        if "ear" in learn:
            raise DarkrackError(
                "--learn ear", "a run on the partials grid", f"{recipe.name}, on stft", "outputs, critic"
            )
        step, last = self._content["step"], len(recipe.generator.scales) - 1
        self._moment = growing.moment_of(recipe, max(step - 1, 0))
        if self._moment.scale < last or self._moment.fade < 1:
            got = f"scale {self._moment.scale + 1} of {last + 1}, {self._moment.fade:.0%} of it"
            raise DarkrackError(str(run), "a run that has grown to its last scale", got, "train it further")
        self.fixed = (f"to_planes.{last}",)
        self._units = growing.Units(self._content["mean"], self._content["spread"])
        self._sizes = (recipe.generator, len(self._facts["attributes"]), recipe.pitch_range_midi)
        self._encoder: darkgan.Encoder | None = None
        if recipe.reconstruction is not None:
            self._encoder = darkgan.Encoder(*self._sizes)
            self._encoder.load_state_dict(self._content["encoder"])
        elif "task" in learn:
            raise DarkrackError(
                "--learn task",
                "a run with an encoder, which says what z a note has",
                f"{recipe.name}, which grew without",
                "--learn outputs",
            )
        self._notes_alone, self._judged = learn == ("task",), "critic" in learn
        self._discriminator: darkgan.Discriminator | None = None
        if step > recipe.encoded_steps and "discriminator" in self._content:
            self._discriminator = darkgan.Discriminator(*self._sizes)
            self._discriminator.load_state_dict(self._content["discriminator"])
            rate = recipe.growth.learning_rate
            self._rival = torch.optim.Adam(self._discriminator.parameters(), rate, (0.0, 0.99))
            self._rival.load_state_dict(self._content["optimisers"]["discriminator"])
        elif self._judged:
            raise self._no_critic()

    def _begun(self, weights: Mapping[str, Tensor]) -> nn.Module:
        early = darkgan.Generator(*self._sizes)
        early.load_state_dict(weights)
        return early.finished(self._units.mean, self._units.spread)

    def fresh(self, like: nn.Module) -> nn.Module:
        """As `train.growing.start_state` begins, in the widths of ``like``; see `Subject.fresh`."""
        assert isinstance(like, darkgan.Generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            fresh = darkgan.Generator(*self._sizes, like.widths())
        return fresh.finished(self._units.mean, self._units.spread)

    def lesson(self, step: int, count: int) -> Lesson:
        """See `Subject.lesson`."""
        random = np.random.default_rng([self._seed, abs(step), step < 0])
        # The first of these are asked for as notes are.
        known = count if self._notes_alone else count // 2
        train, growth = self._notes.parts["train"], self._recipe.growth
        rows = random.choice(train, count, replace=count > len(train))
        labels, midi = (torch.from_numpy(of[rows]) for of in (self._notes.soft_labels, self._notes.pitch))

        @functools.cache  # where nobody looks at them, the notes' planes are not read
        def real() -> growing.Batch:
            return growing.batch_of(self._recipe, self._notes, self._units, self._moment, rows)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.integers(2**62)))
            z = torch.randn(count, self._recipe.generator.latent)
            if self._encoder is not None:
                z[:known] = growing.encoded(self._encoder, real().first(known), z[:known])
            asked = Condition(labels, midi[:, None], torch.zeros(count, 1))
            attributes, pitch, _ = self._imagined(asked, known, growth.augment, anywhere=not self._judged)
            pitch = pitch.round()
        between = int(random.integers(2**62))

        def apart(made: Tensor, wanted: Tensor) -> Tensor:
            level, frequency = growing.unlike(self._units.taken_out(made), wanted, self._recipe, self._units)
            stage = self._recipe.reconstruction
            return level + (stage.deviation_weight if stage else FREQUENCY_WEIGHT) * frequency

        def outputs(made: Tensor, taught: Tensor) -> Tensor:
            return apart(made, self._units.taken_out(taught))

        def task(made: Tensor, taught: Tensor) -> Tensor:
            return apart(made[:known], real().first(known).planes)

        def critic(made: Tensor, taught: Tensor) -> Tensor:
            assert self._discriminator is not None
            self._discriminator.requires_grad_(False)
            with self.ranks.cast():
                judged = self._discriminator(self._units.taken_out(made)).float()
            self._discriminator.requires_grad_(True)
            wish, _parts = growing.adversarial_loss(judged, pitch, attributes, self._recipe)
            return wish / (growth.reconstruction_weight or LIKENESS_WEIGHT)

        def after(made: Tensor, share: float) -> None:
            if not self._judged:
                return
            assert self._discriminator is not None
            # A score has no end: at full rate it leaves a student at rest behind.
            for group in self._rival.param_groups:
                group["lr"] = growth.learning_rate * share
            fakes = self._units.taken_out(made.detach())
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(between)  # where the gradient penalty looks
                growing.critic_step(
                    self._discriminator, self._rival, self._recipe, real(), fakes, ranks=self.ranks
                )

        terms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"outputs": outputs}
        if self._encoder is not None:
            terms["task"] = task
        if self._discriminator is not None:
            terms["critic"] = critic
        return Lesson((z, attributes, pitch), terms, after)

    def opponents(self) -> dict[str, Any]:
        """See `Subject.opponents`."""
        return {"critic": self._discriminator, "rival": self._rival} if self._judged else {}

    def finish(self) -> None:
        """Nothing; see `Subject.finish`."""

    def _weights(self, network: nn.Module) -> dict[str, Any]:
        assert isinstance(network, darkgan.Generator)
        kept = {"widths": asdict(network.widths()), "average": network.state_dict()}
        beside = [key for key in ("mean", "spread", "encoder") if key in self._content]
        return kept | {key: self._content[key] for key in beside}


class ClassifierSubject:
    """The judge's classifier of pitch and family (`train.classifier`), on the notes of ``data``.

    Two maps flattened side by side are more than the dependency graph follows, so the last layers before that stay.
    """

    def __init__(self, data: Path, seed: int, ranks: Ranks = ALONE) -> None:
        from train import classifier

        self.ranks = ranks
        self._range = CLASSIFIED_MIDI
        made = classifier.prepare([data], self._range)
        assert made is not None
        self._lessons = classifier.lessons([data], self._range)
        self.network: nn.Module = made.network.requires_grad_(False)
        self._seed = seed
        self.example: tuple[Tensor, ...] = self._lessons.heard(
            torch.arange(2), torch.Generator().manual_seed(0)
        )
        self.fixed: tuple[str, ...] = ("pitch", "family.4", "convolutions.3", "partials.2")
        weights = np.concatenate(
            [value.double().numpy().ravel() for value in self.network.state_dict().values()]
        )
        self.identity = hashlib.sha256(weights.tobytes() + self._lessons.logs.numpy().tobytes()).hexdigest()

    def early(self) -> nn.Module:
        """Nothing early is kept of it; see `Subject.early`."""
        raise DarkrackError("--survivors early", "early weights", "none of the classifier", "go-on, or fresh")

    def fresh(self, like: nn.Module) -> nn.Module:
        """As torch begins; see `Subject.fresh`."""
        fresh = copy.deepcopy(like)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            for module in fresh.modules():
                if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                    module.reset_parameters()
        return fresh

    def lesson(self, step: int, count: int) -> Lesson:
        """See `Subject.lesson`."""
        generator = torch.Generator().manual_seed(self._seed + 1000 * (2 * abs(step) + (step < 0)))
        rows = torch.randint(len(self._lessons.pitch), (count,), generator=generator)

        def outputs(made: tuple[Tensor, Tensor], taught: tuple[Tensor, Tensor]) -> Tensor:
            apart = [
                F.kl_div(mine.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean")
                for mine, theirs in zip(made, taught, strict=True)
            ]
            return torch.stack(apart).sum()

        def task(made: tuple[Tensor, Tensor], _: object) -> Tensor:
            return self._lessons.loss(made, rows)

        return Lesson(self._lessons.heard(rows, generator), {"outputs": outputs, "task": task})

    def opponents(self) -> dict[str, Any]:
        """None; see `Subject.opponents`."""
        return {}

    def finish(self) -> None:
        """Nothing; see `Subject.finish`."""

    def measure_ms(self, network: nn.Module) -> float:
        """Median of two notes through torch; see `Subject.measure_ms`."""
        with torch.inference_mode():
            return _median_ms(lambda: network(*self.example))

    def keep(self, folder: Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
        """Weights with their channel list, and how often the network is right; see `Subject.keep`."""
        network.eval()
        found = {
            name: {"accuracy": self._lessons.accuracy(one, 0), "ms": self.measure_ms(one)}
            for name, one in (("whole", self.network), ("left", network))
        }
        low, high = self._range
        with whole_folder(folder) as new:
            content = {
                "network": network.state_dict(),
                "kept": facts["kept"],
                "low_midi": low,
                "high_midi": high,
            }
            torch.save(content, new / "classifier.pt")
            write_json(new / "accuracy.json", {**found, "trimmed": dict(facts)})


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``folder`` when the block ends well; what a kill left of one goes first."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        new = Path(name) / folder.name
        new.mkdir()
        yield new
        if folder.exists():
            folder.replace(Path(name) / "old")
        new.replace(folder)


def _median_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMED_CALLS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e3


def heard_alike(made: Tensor, taught: Tensor, grid: Partials) -> tuple[Tensor, Tensor]:
    """Frames (B, 2, rows, frames) of student and teacher as the decoder takes them: the teacher's within its bounds.

    Levels end at silence and at LOUDEST_DB, deviations at a half band. Asked for labels that no note has, a network
    that was not trained on such goes to 20 times that. Where both are beyond a bound they are alike; a student beyond
    it alone keeps its distance, and with it a gradient.
    """
    low = torch.tensor([0.0, -1.0])[None, :, None, None]
    high = torch.tensor([1 - LOUDEST_DB / grid.floor_db, 1.0])[None, :, None, None]
    wanted = taught.clamp(low, high)
    beyond = ((made > high) & (taught > high)) | ((made < low) & (taught < low))
    return torch.where(beyond, wanted, made), wanted
