"""A training recipe: strict TOML in, frozen dataclasses out, and the hash that names it."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from device.errors import DarkrackError
from device.files import read_bytes, read_toml
from device.partials import MOST_ROWS_A_PARTIAL, Partials
from device.stft import Stft

CONCATENATED, FILM = "concatenated", "film"  # how a generator is told what to make


@dataclass(frozen=True)
class Source:
    """Where the notes come from, for the bundle's card: name, licence, where anyone gets the same."""

    name: str
    licence: str
    source: str


@dataclass(frozen=True)
class TeacherLabels:
    """What one teacher gives: its name, how many attributes, temperature T (DarkGAN, eq. 2).

    ``distinct``: an attribute whose normal scores correlate by more than this with one of the same teacher ranked
    before it makes no knob (1: all do). A knob moved alone asks for what no note has if another one says the same.
    """

    teacher: str
    attributes: int
    distinct: float
    temperature: float


@dataclass(frozen=True)
class Labels:
    """Which soft labels condition the generator: those of one teacher, ``[labels]``, or of several, ``[[labels]]``.

    The attributes stand in the order of the teachers. All have one temperature.
    """

    teachers: tuple[TeacherLabels, ...]

    @property
    def temperature(self) -> float:
        """The T of every soft label."""
        return self.teachers[0].temperature


class _Shape:
    """What sizes of either kind have in common."""

    attributes: bool

    def told(self, attributes: int) -> int:
        """Of so many attributes of the notes, how many the networks are told."""
        return attributes if self.attributes else 0


@dataclass(frozen=True)
class GeneratorShape(_Shape):
    """Sizes of the generator and its encoder.

    ``channels``: feature maps per scale, low to high; each scale doubles the frames, the last has them all.
    ``embedding``: width of the condition after its two dense layers. ``noise_channels``: Gaussian channels per
    injection; the last ``noise_scales`` scales have two injections each, and both read other channels.
    ``encoder_channels``: of every layer of the encoder, which no instrument carries (0: as the first scale).
    ``attributes``: false for a baseline, where no network is told attributes and the critic has none to name.
    ``conditioning``: "film", z and condition scale and shift every scale (Perez et al. 2018; for timbre Bitton et al.
    2018, MoVE), or "concatenated", they enter the first dense layer alone.
    """

    latent: int
    channels: tuple[int, ...]
    embedding: int
    noise_channels: int
    noise_scales: int
    encoder_channels: int = 0
    attributes: bool = True
    conditioning: str = FILM


@dataclass(frozen=True)
class CriticShape:
    """Sizes of the critic: ``channels`` of its trunk."""

    channels: int


@dataclass(frozen=True)
class Reconstruction:
    """Stage one, a conditional variational autoencoder: steps, Adam's rate, weight of KL and of frequency.

    ``fader_weight``: of what an adversary reads of the attributes in z (`train.fader`), reached on a line after
    ``fader_steps``; ``fader_learning_rate``: the adversary's (Lample et al. 2017), which makes ``fader_lessons`` steps
    for each of the encoder's. Weight 0: there is none.
    """

    steps: int
    learning_rate: float
    kl_weight: float
    deviation_weight: float
    fader_weight: float = 0.0
    fader_steps: int = 0
    fader_learning_rate: float = 2e-3
    fader_lessons: int = 4


@dataclass(frozen=True)
class Adversarial:
    """Stage two: non-saturating loss with R1 every ``r1_every`` steps, reconstruction on smoothed levels.

    ``smooth_frames``: amplitudes are compared after a moving mean of this width, so that the texture is free;
    the first ``attack_frames`` are compared as they are. ``texture_weight``: of how rough the texture is (its
    spread and its steps, each a moving mean of that width), beside the levels' 1. ``class_weight``: of pitch and
    attributes, on D with real data and on G with fakes (DarkGAN: 10). ``augment``: half the width, in soft-label
    quantiles, by which attributes over their 80th percentile are raised in G's step (DarkGAN).
    """

    steps: int
    learning_rate: float
    critic_learning_rate: float
    r1_weight: float
    r1_every: int
    smooth_frames: int
    attack_frames: int
    texture_weight: float
    reconstruction_weight: float
    class_weight: float
    augment: float


@dataclass(frozen=True)
class EarStage:
    """Stage three: the tagger listens to what the generator makes (`train.ear`).

    ``teacher`` is one that labelled the notes. In the first ``first_steps`` of ``steps`` only the ear learns, from
    ``first_notes`` real notes and as many generated ones; then every ``every`` steps the tagger hears the notes of a
    step, two batches, and the last ``remembered`` of these are taught. ``channels``: of the ear's layers.
    ``embedding_weight`` and ``label_weight``: of what the ear says of real notes made again, and of labels that are
    asked, beside resemblance to the notes as in stage two; ``spread_weight``: of the energy score of pairs that differ
    in z alone (0: no pairs are asked for). ``alone_weight``: how much more than elsewhere a label weighs that is set
    alone (0: nothing is set alone beside what is pushed); ``others_weight``: how much the others weigh there, which
    contradict it; ``alone``: the attributes that are set alone, from end to end (none: any of them, anywhere).
    """

    teacher: str
    steps: int
    first_steps: int
    first_notes: int
    every: int
    remembered: int
    channels: int
    learning_rate: float
    ear_learning_rate: float
    embedding_weight: float
    label_weight: float
    spread_weight: float = 0.0
    alone_weight: float = 0.0
    others_weight: float = 1.0
    alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Basics:
    """What recipes of either kind say."""

    name: str
    seed: int
    ema: float
    checkpoint_every_steps: int
    pitch_range_midi: tuple[int, int]
    presets: int
    data: tuple[Source, ...]
    labels: Labels


@dataclass(frozen=True)
class Recipe(Basics):
    """Everything that decides what a run on the partials grid (`train.stages`) learns, besides the notes.

    ``touch_share``: of the notes that are made again, those with z and labels of the same key touched harder or softer,
    so that velocity alone has to say the difference.
    """

    batch: int
    grid: Partials
    generator: GeneratorShape
    critic: CriticShape
    reconstruction: Reconstruction
    adversarial: Adversarial
    ear: EarStage | None = None
    touch_share: float = 0.0

    @property
    def steps(self) -> int:
        """Of all stages."""
        return self.reconstruction.steps + self.adversarial.steps + (self.ear.steps if self.ear else 0)


@dataclass(frozen=True)
class GrowingShape(_Shape):
    """Sizes of DarkGAN's generator and of the discriminator that mirrors it.

    ``scales``: bins and frames of each, low to high, each a whole multiple of the one before, the last the grid's;
    ``channels``: feature maps of each. ``attributes``: false for the paper's baseline, whose generator is told pitch
    alone and whose discriminator has no attributes to name. ``conditioning``: "concatenated" with z, as the paper has
    it, or "film": attributes and pitch scale and shift every convolution's maps (Perez et al. 2018; for timbre Bitton
    et al. 2018, MoVE), and z alone enters the first layer.
    """

    latent: int
    scales: tuple[tuple[int, int], ...]
    channels: tuple[int, ...]
    attributes: bool
    conditioning: str = CONCATENATED


@dataclass(frozen=True)
class Growth:
    """Progressive growing with WGAN-GP: ``steps`` and ``batch`` of each scale, of which ``fade_steps`` fade it in.

    ``penalty_weight`` lambda of the gradient penalty; ``drift_weight`` of the squared score of real notes;
    ``class_weight`` of pitch and attributes, on D with real notes and on G with fakes; ``augment``: in G's step an
    attribute over its 80th percentile q gets |N(0, augment * min(q) / q)| more. ``standardised``: the networks see
    both planes with mean 0 and spread 1 over the notes (folded into the last layer at export) instead of as they
    are, ln magnitude from -23 to 6 and radians, which is how the paper has them. ``reconstruction_weight``: after a
    stage one, of the distance from notes whose z the encoder gives, beside the score.
    """

    steps: tuple[int, ...]
    fade_steps: tuple[int, ...]
    batch: tuple[int, ...]
    learning_rate: float
    penalty_weight: float
    drift_weight: float
    class_weight: float
    augment: float
    standardised: bool
    reconstruction_weight: float = 0.0


@dataclass(frozen=True)
class GrowingRecipe(Basics):
    """The same of a run that grows on the `stft` grid, DarkGAN's own (`train.growing`).

    With a table ``[reconstruction]`` nothing grows: an autoencoder comes first, at the last scale, and what is in
    ``growth`` is stage two, of that scale alone (two stages, as in RAVE: Caillon and Esling 2021).
    """

    grid: Stft
    generator: GrowingShape
    growth: Growth
    reconstruction: Reconstruction | None = None

    @property
    def encoded_steps(self) -> int:
        """Of stage one, where there is one."""
        return self.reconstruction.steps if self.reconstruction else 0

    @property
    def steps(self) -> int:
        """Of all stages and scales."""
        return self.encoded_steps + sum(self.growth.steps)

    @property
    def batch(self) -> int:
        """The most notes of a step."""
        return max(self.growth.batch)


def read_recipe(path: Path) -> tuple[Recipe | GrowingRecipe, str]:
    """Read a recipe and its SHA-256; every missing, unknown or mistyped key is a DarkrackError that names it.

    One with a table ``[growth]`` is a GrowingRecipe.
    """
    table = read_toml(path, "a training recipe")
    recipe: Recipe | GrowingRecipe
    if "growth" in table:
        recipe = _build(GrowingRecipe, table, str(path))
        _check_growth(recipe, str(path))
    else:
        recipe = _build(Recipe, table, str(path))
        if recipe.ear and not recipe.generator.attributes:
            raise DarkrackError(
                f"{path}: ear", "a generator that is told attributes", "one without", "leave [ear] out"
            )
        _check_partials(recipe, str(path))
    _check_switches(recipe, str(path))
    return recipe, hashlib.sha256(read_bytes(path, "a training recipe")).hexdigest()


def read_partials_recipe(path: Path) -> tuple[Recipe, str]:
    """The same where only a recipe on the partials grid will do."""
    recipe, digest = read_recipe(path)
    if not isinstance(recipe, Recipe):
        raise DarkrackError(str(path), "a recipe on the partials grid", "one that grows on stft")
    return recipe, digest


def _check_switches(recipe: Recipe | GrowingRecipe, where: str) -> None:
    """Those that both grids have."""
    if recipe.generator.conditioning not in {CONCATENATED, FILM}:
        raise DarkrackError(
            f"{where}: generator: conditioning",
            f"{CONCATENATED} or {FILM}",
            repr(recipe.generator.conditioning),
        )
    if recipe.reconstruction is not None:
        if recipe.reconstruction.fader_weight and not recipe.generator.attributes:
            raise DarkrackError(
                f"{where}: reconstruction: fader_weight",
                "0 for a generator that is told no attributes",
                "more",
            )
        for key, least in (("fader_weight", 0), ("fader_steps", 0), ("fader_lessons", 1)):
            if (value := getattr(recipe.reconstruction, key)) < least:
                raise DarkrackError(f"{where}: reconstruction: {key}", f"{least} or more", f"{value:g}")


def _check_partials(recipe: Recipe, where: str) -> None:
    """What there is on the partials grid alone."""
    if not 0 <= recipe.touch_share <= 1:
        raise DarkrackError(f"{where}: touch_share", "0 to 1", f"{recipe.touch_share:g}")
    each, rows = recipe.grid.rows_a_partial, recipe.grid.rows
    if not 1 <= each <= MOST_ROWS_A_PARTIAL:
        raise DarkrackError(f"{where}: grid: rows_a_partial", f"1 to {MOST_ROWS_A_PARTIAL}", str(each))
    if rows % each:
        raise DarkrackError(f"{where}: grid: rows", f"a multiple of {each} (rows_a_partial)", str(rows))


def _check_growth(recipe: GrowingRecipe, where: str) -> None:
    """Scales that fit into each other and into the grid, and a number for each of them."""
    shape, growth = recipe.generator, recipe.growth
    scales = shape.scales
    if not scales or scales[-1] != (recipe.grid.bins, recipe.grid.frames):
        raise DarkrackError(
            f"{where}: generator: scales",
            f"[{recipe.grid.bins}, {recipe.grid.frames}] as the last, as the grid has them",
            str(list(scales[-1])) if scales else "none",
        )
    for n, (low, high) in enumerate(itertools.pairwise(scales)):
        if min(low) < 1 or any(big % small for small, big in zip(low, high, strict=True)):
            raise DarkrackError(
                f"{where}: generator: scales[{n + 1}]", f"whole multiples of {list(low)}", str(list(high))
            )
    for key, values, least in (
        ("generator: channels", shape.channels, 1),
        ("growth: steps", growth.steps, 0 if recipe.reconstruction else 1),
        ("growth: fade_steps", growth.fade_steps, 0),
        ("growth: batch", growth.batch, 2),
    ):
        if len(values) != len(scales) or min(values) < least:
            raise DarkrackError(
                f"{where}: {key}", f"{len(scales)} numbers from {least} on, one a scale", str(list(values))
            )
    if recipe.reconstruction and any(growth.steps[:-1]):
        raise DarkrackError(
            f"{where}: growth: steps",
            "0 of every scale but the last, behind a [reconstruction] of all of them",
            str(list(growth.steps)),
        )
    if growth.reconstruction_weight and not recipe.reconstruction:
        raise DarkrackError(
            f"{where}: growth: reconstruction_weight",
            "0 without a [reconstruction]",
            f"{growth.reconstruction_weight:g}",
        )
    for n, (fade, steps) in enumerate(zip(growth.fade_steps, growth.steps, strict=True)):
        most = steps if n and not recipe.reconstruction else 0
        if fade > most:
            raise DarkrackError(
                f"{where}: growth: fade_steps[{n}]", f"at most {most}, as the scale has steps", str(fade)
            )


_T = TypeVar("_T")
_EXAMPLES = dict.fromkeys((GrowingRecipe, GrowingShape, Growth, Stft), "recipes/darkgan.toml")


def _build(kind: type[_T], table: dict[str, Any], where: str) -> _T:
    """A dataclass from a TOML table, checked key by key."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(typing.cast(Any, kind))
    known = [field.name for field in fields]
    optional = {field.name for field in fields if field.default is not dataclasses.MISSING}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise DarkrackError(
                f"{where}: {key}",
                f"one of {', '.join(known)}",
                "an unknown key",
                f"did you mean {near[0]}?" if near else "",
            )
    for key in known:
        if key not in table and key not in optional:
            raise DarkrackError(
                f"{where}: {key}",
                "a value",
                "nothing",
                f"{_EXAMPLES.get(kind, 'recipes/flagship/2-by-ear.toml')} shows every key",
            )
    return kind(**{key: _value(hints[key], table[key], f"{where}: {key}") for key in known if key in table})


def _value(hint: Any, value: Any, where: str) -> Any:
    """One value checked against its type; a whole number may stand for a float."""
    if hint is Labels:
        return _labels(value, where)
    if isinstance(hint, types.UnionType):  # an optional table: what is written is never None
        hint = typing.get_args(hint)[0]
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise DarkrackError(where, "a table", repr(value))
        return _build(typing.cast(type[Any], hint), value, where)
    if isinstance(hint, types.GenericAlias):
        arguments = typing.get_args(hint)
        if not isinstance(value, list):
            raise DarkrackError(where, "a list", repr(value))
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        elif len(arguments) != len(value):
            raise DarkrackError(where, f"{len(arguments)} values", str(len(value)))
        return tuple(
            _value(one, item, f"{where}[{i}]")
            for i, (one, item) in enumerate(zip(arguments, value, strict=True))
        )
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or isinstance(value, bool) != (hint is bool):
        raise DarkrackError(where, f"a value of type {hint.__name__}", repr(value))
    return value


def _labels(value: Any, where: str) -> Labels:
    """One table of labels, or a list of them."""
    if isinstance(value, list):
        places = [f"{where}[{n}]" for n in range(len(value))]
    else:
        value, places = [value], [where]
    teachers = tuple(_value(TeacherLabels, one, place) for one, place in zip(value, places, strict=True))
    if not teachers:
        raise DarkrackError(where, "one teacher at least", "none")
    for n, (one, place) in enumerate(zip(teachers, places, strict=True)):
        if one.attributes < 1:
            raise DarkrackError(f"{place}: attributes", "at least 1", f"{one.attributes}")
        if not (one.temperature > 0 and math.isfinite(one.temperature)):
            raise DarkrackError(f"{place}: temperature", "a number above 0", f"{one.temperature:g}")
        if one.temperature != teachers[0].temperature:
            raise DarkrackError(
                f"{place}: temperature",
                f"{teachers[0].temperature:g}, as of {teachers[0].teacher}",
                f"{one.temperature:g}",
                "a bundle has one temperature for all its attributes",
            )
        if one.teacher in {other.teacher for other in teachers[:n]}:
            raise DarkrackError(f"{place}: teacher", "each teacher once", f"{one.teacher!r} again")
    return Labels(teachers)
