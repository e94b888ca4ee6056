"""The stages of training on the partials grid: reconstruct first, adversarial second, and then by ear.

Stage one is a conditional variational autoencoder. It learns envelopes and which attribute means what, but a
regression smooths away the texture of the amplitudes. Stage two freezes the encoder (as RAVE does), adds noise to
the generator and a local critic with DarkGAN's heads, and compares only smoothed levels and how rough the texture
is with the real note, so that the texture's grain is the critic's affair. Stage three compares as stage two does,
without a critic: what shall be heard is learned from the tagger, which listens to what is made (`train.ear`). Any of
them may have no steps.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import atomic_path, read_bytes
from device.partials import Partials, nominal_hz, sounding_rows
from train.cost import Cost, said
from train.dataset import TrainingSet
from train.fader import Adversary, adversary_of, leak, optimiser_of
from train.networks import Condition, ConditionEmbedding, Critic, Encoder, Generator, Verdict, Widths, nn_bias
from train.ranks import ALONE, Ranks
from train.recipe import EarStage, Recipe, read_partials_recipe

if TYPE_CHECKING:
    from train.ear import Hearing

Rows = npt.NDArray[np.int64]  # of a set: which notes

CHECKPOINT = "checkpoint.pt"
LOG_EVERY_STEPS = 50
WARM_STEPS = 500  # of stage three, in which Adam gets to know gradients of another size
EARLY = "early.pt"  # the generator at its first checkpoint: what trimming rewinds survivors to


@dataclass
class State:
    """All that a step changes: networks, their averages, optimisers, step, and torch's random state.

    ``ranks``: who makes the steps. ``widths``: of a generator that was trimmed before.
    """

    step: int
    generator: Generator
    encoder: Encoder
    critic: Critic
    average_generator: Generator
    average_encoder: Encoder
    optimisers: dict[str, torch.optim.Optimizer]
    hearing: Hearing | None = None
    ranks: Ranks = ALONE
    adversary: Adversary | None = None
    widths: Widths | None = None

    def modules(self) -> dict[str, torch.nn.Module]:
        """All networks that make or judge, by name."""
        names = ("generator", "encoder", "critic", "average_generator", "average_encoder", "adversary")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def start_state(
    recipe: Recipe,
    notes: TrainingSet,
    listen: Callable[[], Hearing] | None = None,
    ranks: Ranks = ALONE,
    widths: Widths | None = None,
) -> State:
    """Fresh networks that know the data's means: levels per row, soft labels' mean and spread.

    On the device of ``ranks``; the generator has these ``widths`` (default: the recipe's). ``listen`` opens who listens
    in stage three, for recipes that have one; it does so on the CPU, alone: DarkrackError for other ``ranks``.
    """
    if recipe.ear is not None and (ranks.count > 1 or ranks.device.type != "cpu"):
        raise DarkrackError(
            f"recipe {recipe.name}: [ear]",
            "one process, on the CPU",
            f"{ranks.count} on {ranks.device.type}",
            "without torchrun: --device cpu",
        )
    torch.manual_seed(recipe.seed)
    sizes = (recipe.grid, len(notes.attributes.names), recipe.pitch_range_midi)
    generator = Generator(recipe.generator, *sizes, widths)
    encoder = Encoder(recipe.generator, *sizes)
    named = recipe.generator.told(len(notes.attributes.names))
    critic = Critic(recipe.critic, recipe.grid, named, recipe.pitch_range_midi)
    know_the_data(generator, notes, recipe.grid)
    for network in (encoder, critic):
        _know_labels(network.condition, notes)
    generator, encoder, critic = (
        generator.to(ranks.device),
        encoder.to(ranks.device),
        critic.to(ranks.device),
    )
    optimisers = _optimisers(recipe, generator, encoder, critic)
    if recipe.ear is not None:
        # Half the usual momentum: what the ear says moves, if more slowly than a critic.
        optimisers["by ear"] = torch.optim.Adam(generator.parameters(), recipe.ear.learning_rate, (0.5, 0.99))
    state = State(
        0,
        generator,
        encoder,
        critic,
        copy.deepcopy(generator).requires_grad_(False),
        copy.deepcopy(encoder).requires_grad_(False),
        optimisers,
        listen() if listen else None,
        ranks,
    )
    state.widths = widths
    state.adversary = adversary_of(recipe.reconstruction, recipe.generator.latent, notes)
    if state.adversary is not None:
        ranks.refuse_others(f"recipe {recipe.name}: [reconstruction] fader_weight")
        state.adversary.to(ranks.device)
        optimisers["adversary"] = optimiser_of(state.adversary, recipe.reconstruction)
    return state


@torch.no_grad()
def know_the_data(generator: Generator, notes: TrainingSet, grid: Partials) -> None:
    """Tell a fresh generator what it need not learn: soft labels' mean and spread, the mean level of each row."""
    seen = notes.parts["train"]
    _know_labels(generator.condition, notes)
    sample = notes.frames(seen[:: max(1, len(seen) // 256)])
    nn_bias(generator.to_frames)[: grid.rows] = torch.from_numpy(sample[:, 0].mean((0, 2)))


def _know_labels(condition: ConditionEmbedding, notes: TrainingSet) -> None:
    labels = condition.told(torch.from_numpy(notes.soft_labels[notes.parts["train"]]))
    if labels.shape[1]:  # a baseline is told none
        condition.attribute_mean.copy_(labels.mean(0, keepdim=True))
        condition.attribute_scale.copy_(labels.std(0, keepdim=True).clamp(min=1e-4))


def _optimisers(
    recipe: Recipe, generator: Generator, encoder: Encoder, critic: Critic
) -> dict[str, torch.optim.Optimizer]:
    both = [*generator.parameters(), *encoder.parameters()]
    first, second = recipe.reconstruction, recipe.adversarial
    return {
        "reconstruction": torch.optim.Adam(both, first.learning_rate, (0.9, 0.99)),
        # No momentum against a moving opponent (as in DarkGAN and StyleGAN).
        "adversarial": torch.optim.Adam(generator.parameters(), second.learning_rate, (0.0, 0.99)),
        "critic": torch.optim.Adam(critic.parameters(), second.critic_learning_rate, (0.0, 0.99)),
    }


@dataclass(frozen=True)
class Batch:
    """Notes as tensors: frames (B, 2, rows, frames), their condition, and which rows sound (B, 1, rows, 1).

    ``notes`` (B,): which of the set they are. ``touched``: notes of the same instruments and keys, some of them played
    harder or softer, where z and labels are taken from those.
    """

    frames: Tensor
    condition: Condition
    mask: Tensor
    notes: Rows
    touched: Batch | None = None

    @property
    def source(self) -> Batch:
        """What the encoder sees: the notes themselves, or the touched ones."""
        return self.touched or self

    @property
    def told(self) -> Condition:
        """What the generator is told to make them again: labels of the source, pitch and velocity of their own."""
        return Condition(self.source.condition.attributes, *self.condition[1:])

    def to(self, ranks: Ranks) -> Batch:
        """The same on the device of ``ranks``."""
        condition = Condition(*(ranks.sent(one) for one in self.condition))
        touched = self.touched and self.touched.to(ranks)
        return Batch(ranks.sent(self.frames), condition, ranks.sent(self.mask), self.notes, touched)

    def first(self, count: int) -> Batch:
        """The first ``count`` of them."""
        condition = Condition(*(one[:count] for one in self.condition))
        touched = self.touched and self.touched.first(count)
        return Batch(self.frames[:count], condition, self.mask[:count], self.notes[:count], touched)


def batches(recipe: Recipe, notes: TrainingSet, step: int, ranks: Ranks) -> Iterator[Batch]:
    """This rank's share of the batches from ``step`` on, a new order each epoch, which depends on the seed alone."""
    seen = notes.parts["train"]
    per_epoch = len(seen) // recipe.batch
    while True:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([recipe.seed, epoch]).permutation(seen)
        for first in range(position * recipe.batch, per_epoch * recipe.batch, recipe.batch):
            rows = order[first : first + recipe.batch]
            sources = touched(recipe, notes, rows, np.random.default_rng([recipe.seed, epoch, first]))
            yield batch_of(recipe, notes, ranks.share(rows), ranks.share(sources)).to(ranks)
            step += 1


def touched(recipe: Recipe, notes: TrainingSet, rows: Rows, random: np.random.Generator) -> Rows:
    """For the recipe's share of ``rows`` another note of the same instrument and key, where there is one; or itself."""
    if not recipe.touch_share:
        return rows
    others = rows.copy()
    for n, drawn in enumerate(random.random(len(rows)) < recipe.touch_share):
        siblings = notes.siblings[rows[n]]
        if drawn and len(siblings):
            others[n] = random.choice(siblings)
    return others


def batch_of(recipe: Recipe, notes: TrainingSet, rows: Rows, sources: Rows | None = None) -> Batch:
    """The notes of these rows of the set, with z and labels from those of ``sources``, see `touched`, or their own."""
    pitch = notes.pitch[rows]
    mask = sounding_mask(pitch, recipe.grid)
    condition = Condition(
        torch.from_numpy(notes.soft_labels[rows]),
        torch.from_numpy(pitch[:, None]),
        torch.from_numpy(notes.velocity[rows, None]),
    )
    own = Batch(torch.from_numpy(notes.frames(rows)) * mask, condition, mask, rows)
    if sources is None or np.array_equal(rows, sources):
        return own
    return replace(own, touched=batch_of(recipe, notes, sources))


def sounding_mask(pitch_midi: np.ndarray[Any, np.dtype[np.float32]], grid: Partials) -> Tensor:
    """(B, 1, rows, 1): 1 for rows that sound at these pitches (B,), 0 for those over the limit."""
    sounding = np.array([sounding_rows(nominal_hz(float(p)), grid) for p in pitch_midi])
    mask = (np.arange(grid.rows)[None] < sounding[:, None]).astype(np.float32)
    return torch.from_numpy(mask)[:, None, :, None]


def train(  # noqa: PLR0917
    state: State,
    recipe: Recipe,
    notes: TrainingSet,
    folder: Path,
    identity: Mapping[str, str],
    until: int | None = None,
) -> None:
    """All stages to the end; checkpoint, log and contact sheet every so many steps, and on Ctrl-C or SIGTERM.

    ``until``: the step to stop at, as if it were interrupted there; None for the recipe's last.

    Raises DarkrackError on a loss that is not finite and where another rank has gone (the last checkpoint stays), and
    KeyboardInterrupt after saving when it was interrupted.
    """
    ranks = state.ranks
    ranks.divides(f"recipe {recipe.name}: batch", [recipe.batch])
    columns = COLUMNS if state.adversary is None else (*COLUMNS, "fader")
    total, by_ear_from = recipe.steps, recipe.reconstruction.steps + recipe.adversarial.steps
    if state.hearing is not None and by_ear_from < state.step < total:
        state.hearing.go_on(folder)
    levels, knobs = torch.from_numpy(notes.attributes.quantiles), lone_knobs(recipe, notes)
    log: list[dict[str, float]] = []
    cost = Cost(folder, ranks)

    def save() -> str:
        taken = cost.so_far()
        if not ranks.first:
            return ""
        save_checkpoint(folder, state, identity)
        if state.step == recipe.checkpoint_every_steps:
            write_early(folder, state.step, state.generator, identity)
        cost.write(taken)
        append_log(folder / "log.csv", log, columns)
        draw_log(folder)
        contact_sheet(folder / f"sheet-{state.step:06d}.png", state, recipe, notes)
        log.clear()
        return said(taken)

    with (
        stop_requested() as stop,
        tqdm(total=total, initial=state.step, unit="step", disable=None if ranks.first else True) as bar,
    ):
        began_s, began_step, stopped = time.monotonic(), state.step, False
        for batch in batches(recipe, notes, state.step, ranks):
            if state.step >= (total if until is None else until) or stopped:
                break
            penalised = state.step % recipe.adversarial.r1_every == 0
            heard = state.hearing is not None and state.hearing.prepared
            kind = (state.step < recipe.reconstruction.steps, state.step < by_ear_from, penalised, heard)
            if state.hearing is not None and state.step == by_ear_from:
                state.hearing.begin(
                    folder,
                    lambda rows: played(
                        state.generator,
                        asked_by_ear(state.encoder, recipe, batch_of(recipe, notes, rows), levels, knobs),
                    ),
                )
            with cost.step(kind, len(batch.frames)):
                if state.step < recipe.reconstruction.steps:
                    losses = reconstruction_step(state, recipe, batch)
                elif state.step < by_ear_from:
                    losses = adversarial_step(state, recipe, batch, levels)
                else:
                    losses = by_ear_step(state, recipe, batch, levels, knobs)
            losses, stopped = ranks.agreed(losses, stop())
            refuse_infinite(losses, state.step + 1)
            _follow(state, recipe.ema)
            state.step += 1
            bar.update()
            if state.step % LOG_EVERY_STEPS == 0:
                speed = (state.step - began_step) * recipe.batch / (time.monotonic() - began_s)
                log.append({"step": state.step, **losses, "notes_per_s": speed})
                bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
            if state.step % recipe.checkpoint_every_steps == 0:
                save()
        took = save()
        if ranks.first:
            print(took)
        if state.step < total:
            if ranks.first:
                print(stopped_at(state.step, total, until))
            if stopped:
                raise KeyboardInterrupt
            return
    if state.hearing is not None:
        state.hearing.forget(folder)


def stopped_at(step: int, total: int, until: int | None) -> str:
    """What is said of a run that was left before its last step."""
    command = "the same command" if until is None or step < until else "a later --until, or none,"
    return f"stopped at step {step} of {total}; {command} goes on from there"


def refuse_infinite(losses: Mapping[str, float], step: int) -> None:
    """DarkrackError where a loss of a step is not finite, before anything of it is kept."""
    if not all(math.isfinite(value) for value in losses.values()):
        raise DarkrackError(
            f"step {step}",
            "finite losses",
            str(dict(losses)),
            "lower the learning rate; the last checkpoint stands",
        )


def reconstruction_step(state: State, recipe: Recipe, batch: Batch) -> dict[str, float]:
    """One step of the autoencoder: L1 on levels, L1 on deviations where a row is loud, KL to N(0, I).

    Where there is an adversary, of what it reads off z too.
    """
    options, ranks = recipe.reconstruction, state.ranks
    with ranks.cast():
        encoded = state.encoder(batch.source.frames, batch.source.condition)
    mean, log_variance = (one.float() for one in encoded)
    z = mean + ranks.normal(*mean.shape) * (log_variance / 2).exp()
    silent = z.new_zeros(len(z), 2 * recipe.generator.noise_channels, recipe.grid.frames)
    with ranks.cast():
        made = state.generator(z, *batch.told, silent)
    frames = made.float() * batch.mask
    level = masked_mean((frames[:, :1] - batch.frames[:, :1]).abs(), batch.mask, ranks)
    deviation = deviation_loss(frames - batch.frames, batch.frames, ranks)
    kl = kl_loss(mean, log_variance)
    loss = level + options.deviation_weight * deviation + options.kl_weight * kl
    losses = {"level": level.item(), "deviation": deviation.item(), "kl": kl.item()}
    if state.adversary is not None:

        def descend(missed: Tensor) -> None:
            _descend(state.optimisers["adversary"], missed, ranks=ranks)

        leaked, losses["fader"] = leak(
            state.adversary, mean, batch.told.attributes, options, step=state.step, descend=descend
        )
        loss = loss + leaked
    _descend(state.optimisers["reconstruction"], loss, ranks=ranks)
    return losses


def adversarial_step(state: State, recipe: Recipe, batch: Batch, quantiles: Tensor) -> dict[str, float]:
    """One step of critic and generator.

    The generator is asked twice: with z of the encoder, for notes that exist (reconstruction on smoothed levels),
    and with z of the prior and attributes that are pushed about, for notes that do not. Both face the critic.
    """
    options, temperature, ranks = recipe.adversarial, recipe.labels.temperature, state.ranks
    count = len(batch.frames)
    with torch.no_grad(), ranks.cast():
        encoded = state.encoder(batch.source.frames, batch.source.condition)
    mean, log_variance = (one.float() for one in encoded)
    drawn = ranks.normal(*mean.shape), ranks.normal(*mean.shape)
    z = torch.cat([mean + drawn[0] * (log_variance / 2).exp(), drawn[1]])
    noise = ranks.normal(count, 2 * recipe.generator.noise_channels, recipe.grid.frames, times=2)
    everybody = ranks.whole(batch.condition.attributes).cpu()  # where every other note is pushed further
    pushed = ranks.own(push_attributes(everybody, quantiles, options.augment)[0])
    asked = Condition(
        torch.cat([batch.told.attributes, pushed]),
        batch.condition.pitch.repeat(2, 1),
        batch.condition.velocity.repeat(2, 1),
    )
    with ranks.cast():
        made = state.generator(z, *asked, noise)
    fakes = made.float() * batch.mask.repeat(2, 1, 1, 1)

    # The critic: half of its fakes from each z. It is told the note's own attributes, never the pushed ones:
    # no real note ever has those, so they alone would give a fake away.
    encoded_z = ranks.own(torch.arange(count * ranks.count) < count * ranks.count // 2)[:, None, None, None]
    some = torch.where(encoded_z, fakes[:count], fakes[count:]).detach()
    penalised = state.step % options.r1_every == 0
    critic_loss, classes = critic_step(
        state.critic, state.optimisers["critic"], recipe, batch, some, penalised=penalised, ranks=ranks
    )

    # The generator.
    own = Condition(*(one.repeat(2, 1) for one in batch.condition))
    state.critic.requires_grad_(False)
    with ranks.cast():
        judged = state.critic(fakes, own).float()
    state.critic.requires_grad_(True)
    score = F.softplus(-judged.score).mean()
    imagined = Condition(pushed, batch.condition.pitch, batch.condition.velocity)
    wish = class_loss(
        Verdict(*(one[count:] for one in judged)), imagined, recipe.pitch_range_midi, temperature
    )
    kept, smooth, rough = resemblance(fakes[:count], batch, recipe, ranks)
    loss = score + options.class_weight * wish + options.reconstruction_weight * kept
    _descend(state.optimisers["adversarial"], loss, ranks=ranks)
    return {
        "level": smooth.item(),
        "texture": rough.item(),
        "critic": critic_loss.item(),
        "score": score.item(),
        "real_classes": classes.item(),
        "fake_classes": wish.item(),
        "fooled": (judged.score > 0).float().mean().item(),
    }


class Asked(NamedTuple):
    """What stage three asks of the generator: its inputs, which rows sound, and how much each label matters (n, A)."""

    z: Tensor
    condition: Condition
    noise: Tensor
    mask: Tensor
    weight: Tensor


@torch.no_grad()
def asked_by_ear(encoder: Encoder, recipe: Recipe, batch: Batch, quantiles: Tensor, knobs: Tensor) -> Asked:
    """The notes of a batch, with z of the encoder; and as many that do not exist, with z of the prior.

    Half of these have the pitch of another note, and half of the latter pushed attributes too: that is what a player
    asks for, and the judge. Training that asks only for what the data have together loses a third of the obedience.
    In the rest of the latter one of ``knobs`` (K,), see `lone_knobs`, is set alone where the recipe asks for it. With a
    ``spread_weight`` follow twins of those whose pitch is their own, who differ in z and noise: see `twins`.
    """
    assert recipe.ear is not None
    count, half = len(batch.frames), len(batch.frames) // 2
    again = 2 * count + (half if recipe.ear.spread_weight else 0)
    rows = torch.arange(again) % count
    mean, log_variance = encoder(batch.source.frames, batch.source.condition)
    z = torch.cat(
        [mean + torch.randn_like(mean) * (log_variance / 2).exp(), torch.randn(again - count, mean.shape[1])]
    )
    noise = torch.randn(again, 2 * recipe.generator.noise_channels, recipe.grid.frames)
    attributes, pitch, velocity = (one[rows] for one in batch.condition)
    attributes[:count] = batch.told.attributes
    mask = batch.mask[rows]
    other = slice(count + half, 2 * count)
    pitch[other], mask[other] = (
        pitch[other].roll(1, 0),
        mask[other].roll(1, 0),
    )  # the order is drawn, so is this
    alone = torch.zeros_like(attributes)
    middle = other.start + (count - half) // 2
    plain, pushed = slice(other.start, middle), slice(middle, other.stop)
    attributes[pushed], alone[pushed] = push_attributes(
        attributes[pushed], quantiles, recipe.adversarial.augment
    )
    if len(knobs):
        attributes[plain], alone[plain] = turn_alone(attributes[plain], quantiles, knobs)
    elif recipe.ear.alone_weight:
        attributes[plain], alone[plain] = set_alone(attributes[plain], quantiles)
    beside = alone.any(1, keepdim=True) & (alone == 0)
    weight = torch.where(beside, recipe.ear.others_weight, 1 + recipe.ear.alone_weight * alone)
    # A touched note's labels are not what is wanted where the touch is another.
    weight[:count] *= torch.from_numpy(batch.notes == batch.source.notes)[:, None]
    return Asked(z, Condition(attributes, pitch, velocity), noise, mask, weight)


def twins(frames: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Of what was made as `asked_by_ear` asked for ``batch`` notes, those that differ in z and noise alone: n and n."""
    half = batch // 2
    return frames[batch : batch + half], frames[2 * batch : 2 * batch + half]


@torch.no_grad()
def played(generator: torch.nn.Module, asked: Asked) -> tuple[Tensor, Condition]:
    """What a generator makes of it."""
    return generator(asked.z, *asked.condition, asked.noise) * asked.mask, asked.condition


def by_ear_step(
    state: State, recipe: Recipe, batch: Batch, quantiles: Tensor, knobs: Tensor
) -> dict[str, float]:
    """One step of the ear, and of the generator once the ear has had its first lessons; see `EarStage`."""
    stage, hearing = recipe.ear, state.hearing
    assert stage is not None
    assert hearing is not None
    prepared = hearing.prepared
    losses = hearing.learn(state.ranks)
    if not prepared:
        return losses
    with state.ranks.cast():
        asked = asked_by_ear(state.encoder, recipe, batch, quantiles, knobs)
        made = state.generator(asked.z, *asked.condition, asked.noise)
    frames = made.float() * asked.mask
    kept, smooth, rough = resemblance(frames[: len(batch.frames)], batch, recipe)
    labels, embedding, spread = hearing.missed(frames, asked, batch.notes, state.ranks)
    # Up from nothing at the start, and down to nothing over the last third.
    left, steps = recipe.steps - state.step, stage.steps - stage.first_steps
    share = min((steps - left + 1) / WARM_STEPS, left / (steps / 3), 1.0)
    _descend(
        state.optimisers["by ear"],
        kept + weighed(stage, labels, embedding, spread),
        share * stage.learning_rate,
    )
    by_ear = {"labels": labels.item(), "embedding": embedding.item(), "spread": spread.item()}
    by_tagger = hearing.listen(frames, asked, batch.notes)
    return {**losses, "level": smooth.item(), "texture": rough.item(), **by_ear, **by_tagger}


def weighed(stage: EarStage, labels: Tensor, embedding: Tensor, spread: Tensor) -> Tensor:
    """What `Hearing.missed` says was missed, as one loss."""
    return stage.label_weight * labels + stage.embedding_weight * embedding + stage.spread_weight * spread


def resemblance(
    again: Tensor, batch: Batch, recipe: Recipe, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor, Tensor]:
    """How unlike notes that were made ``again`` are, up to the grain of their texture: all of it, levels, texture.

    Smoothed levels and deviations, the attack as it is, and how rough the texture is.
    """
    options = recipe.adversarial
    drift = moving_mean(again - batch.frames, options.smooth_frames)
    smooth = masked_mean(drift[:, :1].abs(), batch.mask, ranks)
    attack = slice(0, options.attack_frames)
    start = masked_mean((again[:, :1, :, attack] - batch.frames[:, :1, :, attack]).abs(), batch.mask, ranks)
    rough = texture(again, options.smooth_frames) - texture(batch.frames, options.smooth_frames)
    kept = (
        smooth
        + options.attack_frames / recipe.grid.frames * start
        + options.texture_weight * masked_mean(rough.abs(), batch.mask, ranks)
        + recipe.reconstruction.deviation_weight * deviation_loss(drift, batch.frames, ranks)
    )
    return kept, smooth, rough.abs().mean()


def critic_step(
    critic: Critic,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    batch: Batch,
    fakes: Tensor,
    *,
    penalised: bool,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Tensor]:
    """One step of the critic on a batch and ``fakes`` like it, with R1 where ``penalised``: its loss and class loss."""
    options = recipe.adversarial
    real_frames = batch.frames.detach()
    real_frames.requires_grad_(penalised)
    with nullcontext() if penalised else ranks.cast():
        real = critic(real_frames, batch.condition).float()
    with ranks.cast():
        false = critic(fakes, batch.condition).float()
    classes = class_loss(real, batch.condition, recipe.pitch_range_midi, recipe.labels.temperature)
    loss = F.softplus(-real.score).mean() + F.softplus(false.score).mean() + options.class_weight * classes
    if penalised:
        (gradient,) = torch.autograd.grad(real.score.mean(1).sum(), real_frames, create_graph=True)
        r1 = gradient.square().sum((1, 2, 3)).mean()
        loss = loss + options.r1_every * options.r1_weight / 2 * r1
    _descend(optimiser, loss, ranks=ranks)
    return loss, classes


def push_attributes(attributes: Tensor, quantiles: Tensor, augment: float) -> tuple[Tensor, Tensor]:
    """Soft labels (B, A) as a player turns them: the strong ones stronger, and one knob anywhere in its range.

    DarkGAN raises attributes over their 80th percentile by |N(0, sigma)|; sigma is here ``augment`` times the
    distance from that percentile to the top of the quantile table (A, 33). Then as `set_alone`, and returned as there.
    """
    strong, top = quantiles[:, 26], quantiles[:, 32]  # table at 0 .. 1 in 32 steps: 26 / 32 = .81
    pushed = attributes + (attributes > strong) * torch.randn_like(attributes).abs() * augment * (
        top - strong
    )
    return set_alone(pushed, quantiles)


def lone_knobs(recipe: Recipe, notes: TrainingSet) -> Tensor:
    """Which attributes stage three sets alone, (K,); DarkrackError for a name that is none of the run's."""
    asked, names = recipe.ear.alone if recipe.ear else (), notes.attributes.names
    unknown = next((name for name in asked if name not in names), None)
    if unknown is not None:
        raise DarkrackError(
            f"recipe {recipe.name}: [ear] alone",
            "names of the run's attributes",
            repr(unknown),
            ", ".join(names),
        )
    return torch.tensor([names.index(name) for name in asked], dtype=torch.int64)


def turn_alone(attributes: Tensor, quantiles: Tensor, knobs: Tensor) -> tuple[Tensor, Tensor]:
    """Soft labels (B, A) with one of ``knobs`` (K,) at an end of its quantiles (A, 33); which: 1 there, or 0.

    The ends: that is what the judge asks for, and between them the way is short and tells little.
    """
    knob = knobs[torch.randint(len(knobs), (len(attributes),))]
    end = (quantiles.shape[1] - 1) * torch.randint(2, (len(attributes),))
    return _moved_alone(attributes, quantiles, torch.arange(len(attributes)), knob, end)


def set_alone(attributes: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor]:
    """Soft labels (B, A) with one of every other note at a random point of its quantiles (A, 33); which: 1 there, or 0.

    A knob that is moved alone asks for labels that no note of the data has.
    """
    knob = torch.randint(attributes.shape[1], (len(attributes),))
    place = torch.randint(quantiles.shape[1], (len(attributes),))
    return _moved_alone(attributes, quantiles, torch.arange(0, len(attributes), 2), knob, place)


def _moved_alone(
    attributes: Tensor, quantiles: Tensor, rows: Tensor, knob: Tensor, place: Tensor
) -> tuple[Tensor, Tensor]:
    """Each of ``rows`` with its ``knob`` (B,) at its ``place`` (B,) of the table."""
    changed, alone = attributes.clone(), torch.zeros_like(attributes)
    changed[rows, knob[rows]] = quantiles[knob[rows], place[rows]]
    alone[rows, knob[rows]] = 1
    return changed.clamp(0, 1), alone


def class_loss(
    verdict: Verdict, condition: Condition, pitch_range_midi: tuple[int, int], temperature: float
) -> Tensor:
    """Categorical cross-entropy on pitch plus binary cross-entropy on soft labels (DarkGAN, eq. 2).

    The student's logits are divided by the same T as the teacher's. Summed over attributes, not averaged: the mean
    leaves each knob a gradient too small to be heard beside the critic's. A pitch between two semitones counts as
    the nearest. A baseline's critic has no attributes to name.
    """
    pitch = (condition.pitch[:, 0].round() - pitch_range_midi[0]).long()
    attributes = F.binary_cross_entropy_with_logits(
        verdict.attributes / temperature,
        condition.attributes[:, : verdict.attributes.shape[1]],
        reduction="none",
    )
    return F.cross_entropy(verdict.pitch, pitch) + attributes.sum(1).mean()


def masked_mean(values: Tensor, mask: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Mean over the sounding rows of (B, C, rows, frames), of which others of ``ranks`` may have more than this one."""
    return (values * mask).sum() / (ranks.mean(mask.sum()) * values.shape[1] * values.shape[3])


def deviation_loss(difference: Tensor, frames: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Mean error of the deviation, weighted from 0 at -70 dB to 1 at 0 dB: a silent row's frequency means nothing.

    ``difference`` (B, 2, rows, frames) of what was made from the ``frames`` that were wanted; ``ranks`` as in
    `masked_mean`.
    """
    weight = F.relu(frames[:, :1] - 0.3) / 0.7
    return (weight * difference[:, 1:].abs()).sum() / (ranks.mean(weight.sum()) + 1 / ranks.count)


def moving_mean(values: Tensor, width: int) -> Tensor:
    """Moving mean of (B, C, rows, frames) over ``width`` frames (odd), shorter at both ends.

    By differences of a running sum, which takes a quarter of the time of pooling 17 frames at a time.
    """
    frames, half = values.shape[3], width // 2
    total = F.pad(values.cumsum(3), (1, 0))
    behind = total[..., :1].expand(*total.shape[:3], half)
    ahead = total[..., -1:].expand(*total.shape[:3], half)
    place = torch.arange(frames, device=values.device)
    count = (place + half + 1).clamp(max=frames) - (place - half).clamp(min=0)
    ends = torch.cat([total[..., half + 1 :], ahead], dim=3)[..., :frames]
    begins = torch.cat([behind, total], dim=3)[..., :frames]
    return (ends - begins) / count


def texture(frames: Tensor, width: int) -> Tensor:
    """How rough levels and deviations are around each moment: (B, 2, rows, frames) to (B, 4, rows, frames).

    The moving mean of the distance from the moving mean (how far they wander) and of the step from frame to
    frame (how fast), both over ``width`` frames. A regression on these two fixes the size and the correlation of
    the noise in every row, which the critic alone let grow until steady tones were rough.
    """
    spread = moving_mean((frames - moving_mean(frames, width)).abs(), width)
    steps = moving_mean(F.pad(frames.diff(dim=3).abs(), (1, 0)), width)
    return torch.cat([spread, steps], dim=1)


def kl_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, variance) from N(0, I), nats per note."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def _descend(
    optimiser: torch.optim.Optimizer, loss: Tensor, rate: float | None = None, ranks: Ranks = ALONE
) -> None:
    for group in optimiser.param_groups if rate is not None else ():
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimiser.param_groups:
        ranks.average_gradients(group["params"])
        torch.nn.utils.clip_grad_norm_(group["params"], 10.0)
    optimiser.step()


@torch.no_grad()
def _follow(state: State, decay: float) -> None:
    """Move the averages towards the weights; quickly at first, so that early checkpoints can be looked at."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for average, network in (
        (state.average_generator, state.generator),
        (state.average_encoder, state.encoder),
    ):
        for kept, new in zip(average.parameters(), network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for a stop between two steps instead of tearing one apart."""
    asked = []
    previous = {
        number: signal.signal(number, lambda *_: asked.append(True))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def save_checkpoint(folder: Path, state: State, identity: Mapping[str, str]) -> None:
    """Everything an exact resume needs, in one file that replaces the last one only when it is whole.

    ``identity``: the SHA-256 of the recipe and of the labelled notes, which must be the same on resume.
    """
    content = {
        "identity": dict(identity),
        "step": state.step,
        "random": torch.get_rng_state(),
        **{name: module.state_dict() for name, module in state.modules().items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in state.optimisers.items()},
        **({"hearing": state.hearing.state_dict()} if state.hearing else {}),
        **({"widths": asdict(state.widths)} if state.widths else {}),
    }
    write_checkpoint(folder, content)


def write_checkpoint(folder: Path, content: Mapping[str, Any]) -> None:
    """Put ``content`` in the place of the run's last checkpoint when it is whole; DarkrackError on a full disk."""
    with atomic_path(folder / CHECKPOINT) as temporary:
        try:
            torch.save(dict(content), temporary)
        except RuntimeError as error:  # of torch's own writer, also where the disk is full
            raise OSError(str(error).split("\n", maxsplit=1)[0]) from error


def write_early(folder: Path, step: int, generator: torch.nn.Module, identity: Mapping[str, str]) -> None:
    """Keep the generator as it is at the run's first checkpoint, for `darkrack trim --survivors early`."""
    early = {"identity": dict(identity), "step": step, "generator": generator.state_dict()}
    with atomic_path(folder / EARLY) as temporary:
        torch.save(early, temporary)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """A run's checkpoint; DarkrackError where there is none or it is damaged. Nothing in it is executed."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise DarkrackError(str(folder), f"a run with a {CHECKPOINT}", "none", "darkrack train makes one")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DarkrackError(
            str(path), "a whole checkpoint", f"{type(error).__name__}", "delete it to start the run again"
        ) from error
    return content


def widths_of(content: Mapping[str, Any]) -> Widths | None:
    """Those of the generator in a checkpoint, where it was trimmed; None for the recipe's."""
    return Widths(**content["widths"]) if "widths" in content else None


def refuse_trimmed(folder: Path, content: Mapping[str, Any]) -> None:
    """DarkrackError where a checkpoint is of a trimmed network."""
    if "widths" in content:
        raise DarkrackError(
            str(folder),
            "a run that was trained",
            "a trimmed one",
            "darkrack trim goes on with it, darkrack train --start-from, or export",
        )


def check_identity(folder: Path, content: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """DarkrackError where a checkpoint is of another recipe or of other notes than ``identity`` says."""
    for what, sha256 in identity.items():
        if content["identity"][what] != sha256:
            raise DarkrackError(
                str(folder),
                f"a run with {what}",
                "a run with others",
                "give a new --run, or put the old one back",
            )


def resume(
    folder: Path,
    identity: Mapping[str, str],
    recipe: Recipe,
    notes: TrainingSet,
    listen: Callable[[], Hearing] | None = None,
    *,
    ranks: Ranks = ALONE,
) -> State | None:
    """The run's state at its checkpoint, or None where it has not begun; ``listen``, ``ranks`` as for `start_state`."""
    if not (folder / CHECKPOINT).exists():
        return None
    content = load_checkpoint(folder)
    if "optimisers" not in content:
        refuse_trimmed(folder, content)
        raise DarkrackError(
            str(folder), "a run of its own", "a warm start", "a new --run, and --start-from it"
        )
    check_identity(folder, content, identity)
    state = start_state(recipe, notes, listen, ranks, widths_of(content))
    for name, module in state.modules().items():
        module.load_state_dict(content[name])
    for name, optimiser in state.optimisers.items():
        optimiser.load_state_dict(content["optimisers"][name])
    if state.hearing is not None:
        state.hearing.load_state_dict(content["hearing"])
    state.step = content["step"]
    torch.set_rng_state(content["random"])
    return state


COLUMNS = (  # of the log: those of all stages, empty where a stage has none
    "step",
    "level",
    "deviation",
    "kl",
    "texture",
    "critic",
    "score",
    "real_classes",
    "fake_classes",
    "fooled",
    "ear_labels",
    "ear_embedding",
    "labels",
    "embedding",
    "spread",
    "heard_labels",
    "heard_embedding",
    "notes_per_s",
)


def append_log(path: Path, rows: list[dict[str, float]], columns: Sequence[str]) -> None:
    """Add rows to the CSV log."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow({key: round(value, 5) for key, value in row.items()})


def draw_log(folder: Path) -> None:
    """log.png: every column of the run's log.csv against the step, a panel each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = {
        key: [(int(row["step"]), float(row[key])) for row in rows if row[key]] for key in (rows or [{}])[0]
    }
    names = [key for key, points in drawn.items() if points and key != "step"]
    if not names:
        return
    columns = min(4, len(names))
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.1 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes[len(names) :]:
        axis.remove()
    for axis, name in zip(axes, names, strict=False):
        axis.plot(*zip(*drawn[name], strict=True), linewidth=1)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(color="#dddddd", linewidth=0.5)
    with atomic_path(folder / "log.png") as temporary:
        figure.savefig(temporary, dpi=80)


@torch.no_grad()
def contact_sheet(path: Path, state: State, recipe: Recipe, notes: TrainingSet, count: int = 8) -> None:
    """A PNG with real notes (held-out instruments where there are any) over their twins from the prior.

    Levels as a picture: rows upwards, time to the right, 100 dB from black to white.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    held_out = notes.parts["unseen_instruments"]
    rows = held_out if len(held_out) >= count else notes.parts["train"]
    chosen = rows[:: max(1, len(rows) // count)][:count]
    batch = batch_of(recipe, notes, chosen).to(state.ranks)
    fixed = torch.Generator().manual_seed(recipe.seed)
    z = torch.randn(len(chosen), recipe.generator.latent, generator=fixed)
    noise = torch.randn(len(chosen), 2 * recipe.generator.noise_channels, recipe.grid.frames, generator=fixed)
    if state.step <= recipe.reconstruction.steps:
        noise = torch.zeros_like(noise)
    z, noise = state.ranks.sent(z), state.ranks.sent(noise)
    mean, _ = state.average_encoder(batch.frames, batch.condition)
    prior = state.average_generator(z, *batch.condition, noise) * batch.mask
    posterior = state.average_generator(mean, *batch.condition, noise) * batch.mask
    figure, axes = plt.subplots(
        3, len(chosen), figsize=(2 * len(chosen), 6), layout="constrained", squeeze=False
    )
    for line, (name, frames) in enumerate(
        (("real", batch.frames), ("encoder's z", posterior), ("drawn z", prior))
    ):
        for column, row in enumerate(chosen):
            axis = axes[line, column]
            axis.imshow(
                frames[column, 0].cpu().numpy(), origin="lower", aspect="auto", vmin=0, vmax=1, cmap="magma"
            )
            axis.set_xticks([])
            axis.set_yticks([])
            if line == 0:
                note = notes.notes[row]
                axis.set_title(f"{note.instrument_str[-20:]}\n{note.pitch}", fontsize=7)
        axes[line, 0].set_ylabel(name)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)


def load_generator(folder: Path) -> tuple[Generator, Encoder, Recipe, dict[str, Any]]:
    """The averaged generator and encoder of a run, its recipe, and the facts of `run_facts`."""
    recipe, recipe_sha256 = read_partials_recipe(folder / "recipe.toml")
    facts: dict[str, Any] = json.loads(
        read_bytes(folder / "run.json", "the facts of a run", "darkrack train makes one")
    )
    content = load_checkpoint(folder)
    if content["identity"]["this recipe"] != recipe_sha256:
        raise DarkrackError(
            str(folder / CHECKPOINT),
            "a checkpoint of the recipe beside it",
            "one of another recipe",
            "put back the recipe.toml that the run was trained by",
        )
    sizes = (recipe.grid, len(facts["attributes"]), recipe.pitch_range_midi)
    generator = Generator(recipe.generator, *sizes, widths_of(content))
    encoder = Encoder(recipe.generator, *sizes)
    generator.load_state_dict(content["average_generator"])
    encoder.load_state_dict(content["average_encoder"])
    facts["step"] = content["step"]
    # A run from before there could be several teachers says it by its recipe.
    facts.setdefault("teachers", [recipe.labels.teachers[0].teacher] * len(facts["attributes"]))
    return generator.eval().requires_grad_(False), encoder.eval().requires_grad_(False), recipe, facts


def input_shapes(recipe: Recipe, attributes: int) -> dict[str, tuple[int, ...]]:
    """The generator's inputs for one note, by name and in order; the signature of a bundle."""
    return {
        "z": (1, recipe.generator.latent),
        "attributes": (1, attributes),
        "pitch": (1, 1),
        "velocity": (1, 1),
        "noise": (1, 2 * recipe.generator.noise_channels, recipe.grid.frames),
    }


def preset_latents(
    folder: Path, encoder: torch.nn.Module, facts: Mapping[str, Any]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(P, Z): the encoder's z of the notes that the run chose as sounds to start from."""
    with np.load(folder / "presets.npz") as notes, torch.no_grad():
        attributes = np.array([preset["attributes"] for preset in facts["presets"]], np.float32)
        condition = Condition(
            torch.from_numpy(attributes),
            torch.from_numpy(notes["pitch"][:, None]),
            torch.from_numpy(notes["velocity"][:, None]),
        )
        z, _ = encoder(torch.from_numpy(notes["frames"]), condition)
    latents: np.ndarray[Any, np.dtype[np.float32]] = z.numpy()
    return latents
