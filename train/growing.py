"""Training on the `stft` grid as DarkGAN was: growing scale by scale, WGAN-GP, pitch and attributes named by D.

Source: Nistal, Lattner and Richard, "DarkGAN", ISMIR 2021; Karras et al. 2018 (progressive growing, drift); Gulrajani
et al. 2017 (gradient penalty); Odena et al. 2017 (classes). From the authors' released code, where the paper does not
say: iterations and batch of each scale, that real notes are blended as the generator's are while a scale fades in, that
the average of the generator starts again with each scale, the augmentation. As there, optimisers begin anew with each
scale, and the cross-entropy of attributes is a mean over them. Not as there: the blend moves with every step, where the
code moves it in jumps; raised attributes end at 1, because the cross-entropy of a label above 1 has no minimum.

With a table ``[reconstruction]`` there are two stages instead, as in RAVE (Caillon and Esling 2021): an autoencoder of
the whole planes, then the same adversary at the last scale while the encoder rests. RAVE's are the order, the KL and
the frozen encoder. Not RAVE's: distances on the planes instead of between the audio's spectra, DarkGAN's adversary, and
that half of its fakes have z of the prior, because that is what a player asks for.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import atomic_path, read_bytes
from device.stft import NEPER_DB, full_scale_log
from train.cost import Cost, said
from train.darkgan import Discriminator, Encoder, Generator, Widths, reduced
from train.dataset import TrainingSet
from train.fader import Adversary, adversary_of, leak, optimiser_of
from train.networks import Condition, Verdict
from train.ranks import ALONE, Ranks
from train.recipe import GrowingRecipe, Growth, read_recipe
from train.stages import (
    CHECKPOINT,
    append_log,
    check_identity,
    draw_log,
    kl_loss,
    load_checkpoint,
    refuse_infinite,
    refuse_trimmed,
    stop_requested,
    stopped_at,
    write_checkpoint,
    write_early,
)

LOG_EVERY_STEPS = 50
STRONG = 0.8  # the quantile over which an attribute is raised (released code)
LEAST_SPREAD = 1e-3
MEASURED_NOTES = 512  # through which mean and spread of the planes are taken
SHEET_NOTES = 8
COLUMNS = (
    "step",
    "scale",
    "fade",
    "distance",
    "penalty",
    "drift",
    "real_pitch",
    "real_attributes",
    "score",
    "fake_pitch",
    "fake_attributes",
    "notes_per_s",
)
ENCODED_COLUMNS = ("level", "deviation", "kl", "fader")  # beside these where there is a stage one
# Under a sine of full scale: what lies under it is not compared. A thousand bins there are noise 92 dB under that sine
# (30 dB more, 2 less: neighbours share 1.5 bins), as low as the bed that the judge lays under all notes.
FLOOR_DB = -120.0
HEARD_DB = -70.0  # from where on, up to full scale, frequency counts more and more, as on partials


@dataclass(frozen=True)
class Moment:
    """Where a step lies: which scale, which step of it, how far that scale has faded in, how many notes."""

    scale: int
    step: int
    fade: float
    batch: int


def moment_at(growth: Growth, step: int) -> Moment:
    """Of the step after ``step`` steps. The last step of a fade has it whole, 1."""
    scale = 0
    while scale + 1 < len(growth.steps) and step >= growth.steps[scale]:
        step -= growth.steps[scale]
        scale += 1
    fades = growth.fade_steps[scale]
    return Moment(scale, step, min(1.0, (step + 1) / fades) if fades else 1.0, growth.batch[scale])


def moment_of(recipe: GrowingRecipe, step: int) -> Moment:
    """The same of a whole recipe: stage one, where there is one, has the last scale whole."""
    if step < recipe.encoded_steps:
        return Moment(len(recipe.growth.steps) - 1, step, 1.0, recipe.growth.batch[-1])
    return moment_at(recipe.growth, step - recipe.encoded_steps)


def rows_at(recipe: GrowingRecipe, seen: npt.NDArray[np.int64], moment: Moment) -> npt.NDArray[np.int64]:
    """Which notes a step learns from; a new order each epoch, by seed, scale and step alone."""
    per_epoch = len(seen) // moment.batch
    epoch, place = divmod(moment.step, per_epoch)
    order = np.random.default_rng([recipe.seed, moment.scale, epoch]).permutation(seen)
    rows: npt.NDArray[np.int64] = order[place * moment.batch : (place + 1) * moment.batch]
    return rows


@dataclass(frozen=True)
class Units:
    """What is taken out of both planes before a network sees them: mean and spread, (2,) each."""

    mean: Tensor
    spread: Tensor

    def taken_out(self, planes: Tensor) -> Tensor:
        """(B, 2, bins, frames) of the grid in the networks' units."""
        return (planes - self.mean[:, None, None]) / self.spread[:, None, None]

    def to(self, device: torch.device) -> Units:
        """The same there."""
        return Units(self.mean.to(device), self.spread.to(device))


def units_of(recipe: GrowingRecipe, notes: TrainingSet) -> Units:
    """Of the training notes, or 0 and 1 where the recipe leaves the planes as they are."""
    if not recipe.growth.standardised:
        return Units(torch.zeros(2), torch.ones(2))
    seen = notes.parts["train"]
    sums, count = np.zeros((2, 2)), 0
    for row in seen[:: max(1, len(seen) // MEASURED_NOTES)]:
        planes = notes.frames(np.array([row]))[0].astype(np.float64)
        sums += [planes.mean((1, 2)), (planes**2).mean((1, 2))]
        count += 1
    mean = sums[0] / count
    spread = np.sqrt(np.maximum(sums[1] / count - mean**2, LEAST_SPREAD**2))
    return Units(torch.from_numpy(mean).float(), torch.from_numpy(spread).float())


@dataclass
class State:
    """All that a step changes: networks, the generator's average, optimisers, step, and torch's random state.

    ``ranks``: who makes the steps.
    """

    step: int
    generator: Generator
    discriminator: Discriminator
    average: Generator
    optimisers: dict[str, torch.optim.Optimizer]
    units: Units
    ranks: Ranks = ALONE
    encoder: Encoder | None = None
    adversary: Adversary | None = None

    def modules(self) -> dict[str, torch.nn.Module]:
        """Everything with weights, by name."""
        names = ("generator", "discriminator", "average", "encoder", "adversary")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def set_to(self, moment: Moment) -> None:
        """Let all networks be as far grown as they are at that moment."""
        for network in (self.generator, self.discriminator, self.average):
            network.scale, network.fade = moment.scale, moment.fade


def start_state(recipe: GrowingRecipe, notes: TrainingSet, ranks: Ranks = ALONE) -> State:
    """Fresh networks, all scales at once, on the device of ``ranks``; those that are not there yet wait."""
    if recipe.reconstruction is not None:
        ranks.refuse_others(f"recipe {recipe.name}: [reconstruction]")
    torch.manual_seed(recipe.seed)
    sizes = (recipe.generator, len(notes.attributes.names), recipe.pitch_range_midi)
    generator, discriminator = Generator(*sizes), Discriminator(*sizes)
    encoder = Encoder(*sizes) if recipe.reconstruction else None
    adversary = adversary_of(recipe.reconstruction, recipe.generator.latent, notes)
    # Wide maps of few channels take two thirds of the time so.
    for network in (generator, discriminator, *([encoder] if encoder else [])):
        for parameter in network.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    for part in (generator, discriminator, encoder, adversary):
        if part is not None:
            part.to(ranks.device)
    discriminator.ranks = ranks
    average = copy.deepcopy(generator).requires_grad_(False)
    units = units_of(recipe, notes).to(ranks.device)
    state = State(0, generator, discriminator, average, {}, units, ranks, encoder, adversary)
    begin_scale(state, recipe)
    return state


def begin_scale(state: State, recipe: GrowingRecipe) -> None:
    """What a scale, or stage one, begins with: optimisers without a past, and an average that is the generator."""
    rate = recipe.growth.learning_rate
    options = recipe.reconstruction
    if options is not None and state.encoder is not None and state.step < options.steps:
        both = [*state.generator.parameters(), *state.encoder.parameters()]
        state.optimisers = {"reconstruction": torch.optim.Adam(both, options.learning_rate, (0.9, 0.99))}
        if state.adversary is not None:
            state.optimisers["adversary"] = optimiser_of(state.adversary, options)
        return
    state.optimisers = {
        name: torch.optim.Adam(network.parameters(), rate, (0.0, 0.99))
        for name, network in (("generator", state.generator), ("discriminator", state.discriminator))
    }
    state.average.load_state_dict(state.generator.state_dict())


@dataclass(frozen=True)
class Batch:
    """Notes as tensors: planes (B, 2, bins, frames) of the scale, soft labels (B, A), pitch (B, 1) MIDI."""

    planes: Tensor
    attributes: Tensor
    pitch: Tensor

    @property
    def condition(self) -> Condition:
        """What an encoder is told of them; velocity is none of the generator's inputs here."""
        return Condition(self.attributes, self.pitch, torch.zeros_like(self.pitch))

    def first(self, count: int) -> Batch:
        """The first ``count`` of them."""
        return Batch(self.planes[:count], self.attributes[:count], self.pitch[:count])


def batch_of(
    recipe: GrowingRecipe,
    notes: TrainingSet,
    units: Units,
    moment: Moment,
    rows: npt.NDArray[np.int64],
    *,
    ranks: Ranks = ALONE,
) -> Batch:
    """The notes of these rows, as large as the scale, and blended with the scale before as fakes are."""
    planes = ranks.sent(torch.from_numpy(notes.frames(rows)))
    return Batch(
        units.taken_out(seen_at(planes, recipe, moment)).contiguous(memory_format=torch.channels_last),
        ranks.sent(torch.from_numpy(notes.soft_labels[rows])),
        ranks.sent(torch.from_numpy(notes.pitch[rows, None])),
    )


def seen_at(planes: Tensor, recipe: GrowingRecipe, moment: Moment) -> Tensor:
    """Real notes (B, 2, bins, frames) of the grid as a discriminator sees them at that moment."""
    size = recipe.generator.scales[moment.scale]
    planes = reduced(planes, size)
    if moment.fade < 1:
        coarse = reduced(planes, recipe.generator.scales[moment.scale - 1])
        planes = torch.lerp(F.interpolate(coarse, size=size, mode="nearest"), planes, moment.fade)
    return planes


def train(  # noqa: PLR0917
    state: State,
    recipe: GrowingRecipe,
    notes: TrainingSet,
    folder: Path,
    identity: Mapping[str, str],
    until: int | None = None,
) -> None:
    """All scales to the end; checkpoint, log and contact sheet every so many steps, and on Ctrl-C or SIGTERM.

    ``until`` as in `train.stages.train`.

    Raises DarkrackError on a loss that is not finite and where another rank has gone (the last checkpoint stays), and
    KeyboardInterrupt after saving when it was interrupted.
    """
    growth, ranks = recipe.growth, state.ranks
    ranks.divides(f"recipe {recipe.name}: growth: batch", growth.batch)
    total, seen = recipe.steps, notes.parts["train"]
    columns = (*COLUMNS, *ENCODED_COLUMNS) if recipe.reconstruction else COLUMNS
    quantiles = np.quantile(notes.soft_labels[seen], STRONG, axis=0).astype(np.float32)
    strong = ranks.sent(torch.from_numpy(quantiles))
    raised_by = ranks.sent(torch.from_numpy(growth.augment * quantiles.min() / quantiles))
    log: list[dict[str, float]] = []
    since: list[dict[str, float]] = []
    cost = Cost(folder, ranks)

    def save() -> str:
        taken = cost.so_far()
        if not ranks.first:
            return ""
        write_checkpoint(folder, _content(state, identity))
        if state.step == recipe.checkpoint_every_steps:
            write_early(folder, state.step, state.generator, identity)  # of all scales, those that wait too
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
        began_s, notes_seen, stopped = time.monotonic(), 0, False
        while state.step < (total if until is None else until) and not stopped:
            moment = moment_of(recipe, state.step)
            if moment.step == 0 and state.step:
                begin_scale(state, recipe)
                began_s, notes_seen = time.monotonic(), 0
            state.set_to(moment)
            rows = ranks.share(rows_at(recipe, seen, moment))
            batch = batch_of(recipe, notes, state.units, moment, rows, ranks=ranks)
            encoding = state.step < recipe.encoded_steps
            with cost.step((encoding, moment.scale, moment.fade < 1), len(rows)):
                if encoding:
                    losses = reconstruction_step(state, recipe, batch)
                else:
                    losses = discriminator_step(state, recipe, batch)
                    losses |= generator_step(state, recipe, batch, strong, raised_by)
            losses, stopped = ranks.agreed(losses, stop())
            refuse_infinite(losses, state.step + 1)
            _follow(state, recipe.ema)
            state.step += 1
            notes_seen += moment.batch
            bar.update()
            since.append(losses)
            if state.step % LOG_EVERY_STEPS == 0:
                same = [one for one in since if one.keys() == losses.keys()]  # of the same stage
                means = {key: sum(one[key] for one in same) / len(same) for key in losses}
                speed = notes_seen / (time.monotonic() - began_s)
                place = {"step": state.step, "scale": moment.scale, "fade": moment.fade}
                log.append({**place, **means, "notes_per_s": speed})
                first = next(iter(means))  # the distance, or the level in stage one
                bar.set_postfix({"scale": moment.scale, first: f"{means[first]:.3f}"})
                since.clear()
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


def reconstruction_step(state: State, recipe: GrowingRecipe, batch: Batch) -> dict[str, float]:
    """One step of the autoencoder: levels, frequency, KL to N(0, I), and what the adversary reads off z."""
    options = recipe.reconstruction
    assert options is not None
    assert state.encoder is not None
    ranks = state.ranks
    with ranks.cast():
        encoded = state.encoder(batch.planes, batch.condition)
    mean, log_variance = (one.float() for one in encoded)
    z = mean + ranks.normal(*mean.shape) * (log_variance / 2).exp()
    with ranks.cast():
        made = state.generator(z, batch.attributes, batch.pitch)
    level, deviation = unlike(made.float(), batch.planes, recipe, state.units)
    kl = kl_loss(mean, log_variance)
    loss = level + options.deviation_weight * deviation + options.kl_weight * kl
    losses = {"level": level.item(), "deviation": deviation.item(), "kl": kl.item()}
    if state.adversary is not None:

        def descend(missed: Tensor) -> None:
            _descend(state.optimisers["adversary"], missed, ranks)

        leaked, losses["fader"] = leak(
            state.adversary, mean, batch.attributes, options, step=state.step, descend=descend
        )
        loss = loss + leaked
    _descend(state.optimisers["reconstruction"], loss, ranks)
    return losses


def unlike(made: Tensor, real: Tensor, recipe: GrowingRecipe, units: Units) -> tuple[Tensor, Tensor]:
    """How far planes (B, 2, bins, frames) that were ``made`` are from those that were wanted: levels, frequency.

    Levels: mean distance in the networks' units, where what both have under FLOOR_DB is alike. Frequency: mean distance
    in radians a hop, the short way round, weighted from 0 at HEARD_DB to 1 at full scale: a silent bin has none.
    """
    loudest = full_scale_log(recipe.grid)
    mean, spread = units.mean, units.spread
    floor = ((loudest + FLOOR_DB / NEPER_DB) - mean[0]) / spread[0]
    wanted, level = real[:, 0], made[:, 0]
    apart = torch.where(wanted > floor, (level - wanted).abs(), F.relu(level - floor))
    weight = F.relu(1 + (wanted * spread[0] + mean[0] - loudest) * (NEPER_DB / -HEARD_DB))
    turned = (made[:, 1] - real[:, 1]) * spread[1]
    turned = turned - 2 * math.pi * torch.round(turned.detach() / (2 * math.pi))
    return apart.mean(), (weight * turned.abs()).sum() / (weight.sum() + 1)


def latent(state: State, recipe: GrowingRecipe, batch: Batch) -> Tensor:
    """z of a step's fakes (B, latent): of the prior; where there is an encoder the first half has its notes' own."""
    z = state.ranks.normal(len(batch.planes), recipe.generator.latent)
    if state.encoder is not None:
        known = len(z) // 2
        z[:known] = encoded(state.encoder, batch.first(known), z[:known])
    return z


@torch.no_grad()
def encoded(encoder: Encoder, batch: Batch, drawn: Tensor) -> Tensor:
    """z (B, latent) that an encoder gives notes, by what was ``drawn`` of N(0, 1) for it."""
    mean, log_variance = encoder(batch.planes, batch.condition)
    z: Tensor = mean + drawn * (log_variance / 2).exp()
    return z


def discriminator_step(state: State, recipe: GrowingRecipe, batch: Batch) -> dict[str, float]:
    """One step of D against what G makes for the labels of a batch; see `critic_step`."""
    z = latent(state, recipe, batch)
    with torch.no_grad(), state.ranks.cast():
        fakes = state.generator(z, batch.attributes, batch.pitch).float()
    optimiser = state.optimisers["discriminator"]
    return critic_step(state.discriminator, optimiser, recipe, batch, fakes, ranks=state.ranks)


def critic_step(
    network: Discriminator,
    optimiser: torch.optim.Optimizer,
    recipe: GrowingRecipe,
    batch: Batch,
    fakes: Tensor,
    *,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """One step of D on a batch and ``fakes`` like it: WGAN-GP with drift, and the classes of real notes."""
    growth = recipe.growth
    with ranks.cast():
        real, fake = network(batch.planes).float(), network(fakes).float()
    distance = real.score.mean() - fake.score.mean()
    share = ranks.uniform(len(fakes), 1, 1, 1)
    penalty = gradient_penalty(network, torch.lerp(batch.planes, fakes, share))
    drift = real.score.square().mean()
    pitch, attributes = class_losses(real, batch.pitch, batch.attributes, recipe)
    loss = (
        -distance
        + growth.penalty_weight * penalty
        + growth.drift_weight * drift
        + growth.class_weight * (pitch + attributes)
    )
    _descend(optimiser, loss, ranks)
    return {
        "distance": distance.item(),
        "penalty": penalty.item(),
        "drift": drift.item(),
        "real_pitch": pitch.item(),
        "real_attributes": attributes.item(),
    }


def generator_step(
    state: State, recipe: GrowingRecipe, batch: Batch, strong: Tensor, raised_by: Tensor
) -> dict[str, float]:
    """One step of G: the score, and the classes that it was asked for, attributes raised.

    Where there is an encoder, the notes with its z have their own attributes and should be like the notes.
    """
    ranks = state.ranks
    attributes = raised(batch.attributes, strong, raised_by, ranks)
    z = latent(state, recipe, batch)
    known = len(z) // 2 if state.encoder is not None else 0
    attributes = torch.cat([batch.attributes[:known], attributes[known:]])
    state.discriminator.requires_grad_(False)
    with ranks.cast():
        fakes = state.generator(z, attributes, batch.pitch)
        judged = state.discriminator(fakes).float()
    state.discriminator.requires_grad_(True)
    loss, losses = adversarial_loss(judged, batch.pitch, attributes, recipe)
    if recipe.reconstruction is not None:
        level, deviation = unlike(fakes[:known].float(), batch.planes[:known], recipe, state.units)
        kept = level + recipe.reconstruction.deviation_weight * deviation
        loss = loss + recipe.growth.reconstruction_weight * kept
        losses |= {"level": level.item(), "deviation": deviation.item()}
    _descend(state.optimisers["generator"], loss, ranks)
    return losses


def adversarial_loss(
    judged: Verdict, pitch: Tensor, attributes: Tensor, recipe: GrowingRecipe
) -> tuple[Tensor, dict[str, float]]:
    """What D's verdict on fakes is to G: the score and the classes that were asked for; and its parts."""
    score = judged.score.mean()
    named, wish = class_losses(judged, pitch, attributes, recipe)
    parts = {"score": score.item(), "fake_pitch": named.item(), "fake_attributes": wish.item()}
    return -score + recipe.growth.class_weight * (named + wish), parts


def gradient_penalty(discriminator: torch.nn.Module, planes: Tensor) -> Tensor:
    """Mean of (|gradient of the score| - 1)^2 at these planes (B, 2, bins, frames) (Gulrajani et al. 2017, eq. 3)."""
    between = planes.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(between).score.sum(), between, create_graph=True)
    return (gradient.square().sum((1, 2, 3)).sqrt() - 1).square().mean()


def class_losses(
    verdict: Verdict, pitch: Tensor, attributes: Tensor, recipe: GrowingRecipe
) -> tuple[Tensor, Tensor]:
    """Categorical cross-entropy of pitch (B, 1), and binary cross-entropy of soft labels (B, A) (DarkGAN, eq. 2).

    The student's logits are divided by the T that the teacher's were. A mean over attributes; 0 where the recipe has
    none.
    """
    classes = (pitch[:, 0].round() - recipe.pitch_range_midi[0]).long()
    named = F.cross_entropy(verdict.pitch, classes)
    if not recipe.generator.attributes:
        return named, torch.zeros_like(named)
    softened = verdict.attributes / recipe.labels.temperature
    return named, F.binary_cross_entropy_with_logits(softened, attributes)


def raised(attributes: Tensor, strong: Tensor, raised_by: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Soft labels (B, A) of which those over ``strong`` (A,) get |N(0, raised_by (A,))| more, up to 1."""
    more = ranks.normal(*attributes.shape).abs() * raised_by
    return torch.where(attributes > strong, (attributes + more).clamp(max=1), attributes)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, ranks: Ranks) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimiser.param_groups:
        ranks.average_gradients(group["params"])
    optimiser.step()


@torch.no_grad()
def _follow(state: State, decay: float) -> None:
    """Move the average towards the weights."""
    for kept, new in zip(state.average.parameters(), state.generator.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def _content(state: State, identity: Mapping[str, str]) -> dict[str, Any]:
    """Everything an exact resume needs; ``identity`` as in `train.stages.save_checkpoint`."""
    return {
        "identity": dict(identity),
        "step": state.step,
        "random": torch.get_rng_state(),
        "mean": state.units.mean,
        "spread": state.units.spread,
        **{name: module.state_dict() for name, module in state.modules().items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in state.optimisers.items()},
    }


def resume(
    folder: Path,
    identity: Mapping[str, str],
    recipe: GrowingRecipe,
    notes: TrainingSet,
    ranks: Ranks = ALONE,
) -> State | None:
    """The run's state at its checkpoint, or None where it has not begun."""
    if not (folder / CHECKPOINT).exists():
        return None
    content = load_checkpoint(folder)
    refuse_trimmed(folder, content)
    check_identity(folder, content, identity)
    state = start_state(recipe, notes, ranks)
    state.step = max(content["step"] - 1, 0)  # whose optimisers they are
    begin_scale(state, recipe)
    for name, module in state.modules().items():
        module.load_state_dict(content[name])
    for name, optimiser in state.optimisers.items():
        optimiser.load_state_dict(content["optimisers"][name])
    state.units = Units(content["mean"], content["spread"]).to(ranks.device)
    state.step = content["step"]
    torch.set_rng_state(content["random"])
    return state


def load_generator(folder: Path) -> tuple[Generator, Encoder | None, GrowingRecipe, dict[str, Any]]:
    """The averaged generator and the encoder of a run as they play (`finished`), its recipe, the facts of `run_facts`.

    One that has not grown to its last scale makes notes as coarse as it knows them.
    """
    recipe, recipe_sha256 = read_recipe(folder / "recipe.toml")
    if not isinstance(recipe, GrowingRecipe):
        raise DarkrackError(str(folder), "a run that grows on stft", "one of another recipe")
    facts: dict[str, Any] = json.loads(
        read_bytes(folder / "run.json", "the facts of a run", "darkrack train makes one")
    )
    content = load_checkpoint(folder)
    check_identity(folder, content, {"this recipe": recipe_sha256})
    sizes = (recipe.generator, len(facts["attributes"]), recipe.pitch_range_midi)
    units = (content["mean"], content["spread"])
    # A trimmed one is kept as it plays, in widths of its own.
    trimmed = Widths(**content["widths"]) if "widths" in content else None
    generator = Generator(*sizes, trimmed)
    if trimmed is None:
        generator.load_state_dict(content["average"])
    last = moment_of(recipe, max(content["step"] - 1, 0))
    generator.scale, generator.fade = last.scale, last.fade
    playing = generator.finished(*units)
    if trimmed is not None:
        playing.load_state_dict(content["average"])
    facts["step"] = content["step"]
    encoder = None
    if recipe.reconstruction is not None:
        encoder = Encoder(*sizes)
        encoder.load_state_dict(content["encoder"])
        encoder = encoder.finished(*units)
    return playing, encoder, recipe, facts


def input_shapes(recipe: GrowingRecipe, attributes: int) -> dict[str, tuple[int, ...]]:
    """The generator's inputs for one note, by name and in order; the signature of a bundle."""
    return {"z": (1, recipe.generator.latent), "attributes": (1, attributes), "pitch": (1, 1)}


@torch.no_grad()
def contact_sheet(path: Path, state: State, recipe: GrowingRecipe, notes: TrainingSet) -> None:
    """A PNG with held-out notes as the discriminator sees them over what the average makes of their labels.

    Both planes: ln magnitude from -14 to 4, and radians a hop from -pi to pi. Low frequencies are at the bottom.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    held_out = notes.parts["unseen_instruments"]
    rows = held_out if len(held_out) >= SHEET_NOTES else notes.parts["train"]
    chosen = rows[:: max(1, len(rows) // SHEET_NOTES)][:SHEET_NOTES]
    moment = moment_of(recipe, max(state.step - 1, 0))
    state.set_to(moment)
    batch = batch_of(recipe, notes, state.units, moment, chosen, ranks=state.ranks)
    z = torch.randn(
        len(chosen), recipe.generator.latent, generator=torch.Generator().manual_seed(recipe.seed)
    )
    z = state.ranks.sent(z)
    rows_of = [("real", batch.planes), ("generated", state.average(z, batch.attributes, batch.pitch))]
    if state.encoder is not None:
        mean, _ = state.encoder(batch.planes, batch.condition)
        rows_of.insert(1, ("encoder's z", state.average(mean, batch.attributes, batch.pitch)))
    mean, spread = (one[:, None, None] for one in (state.units.mean, state.units.spread))
    shown: Sequence[tuple[str, Tensor, int]] = [
        (f"{who}, {what}", (planes * spread + mean).cpu(), plane)
        for plane, what in enumerate(("magnitude", "frequency"))
        for who, planes in rows_of
    ]
    figure, axes = plt.subplots(
        len(shown),
        len(chosen),
        figsize=(2 * len(chosen), 2 * len(shown)),
        layout="constrained",
        squeeze=False,
    )
    for line, (name, planes, plane) in enumerate(shown):
        low, high, colours = ((-14.0, 4.0, "magma"), (-math.pi, math.pi, "twilight"))[plane]
        for column, row in enumerate(chosen):
            axis = axes[line, column]
            axis.imshow(
                planes[column, plane].numpy(),
                origin="lower",
                aspect="auto",
                vmin=low,
                vmax=high,
                cmap=colours,
            )
            axis.set_xticks([])
            axis.set_yticks([])
            if line == 0:
                note = notes.notes[row]
                axis.set_title(f"{note.instrument_str[-20:]}\n{note.pitch}", fontsize=7)
        axes[line, 0].set_ylabel(name, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)
