"""What the judge can listen to that generates: a bundle through LiteRT, a run through torch, and either with a fault.

All of them play through the device's decoder and voices, so the judge hears what the instrument plays.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device import bundle as bundles
from device.bundle import Attribute, Preset
from device.errors import DarkrackError
from device.generator import Asked, Asker, Generator
from device.partials import Partials
from device.stft import NEPER_DB, Stft, full_scale_log
from train.stft import LEAST_MAGNITUDE

FloatArray = npt.NDArray[np.float32]
MakeNote = Callable[[Asked], FloatArray]  # to frames (2, rows, frames)

DETUNED_CENTS = 20.0
LEAST_LOG = float(np.log(LEAST_MAGNITUDE))
# A calibration set of quiet, dull notes would have seen levels up to here; real ones reach 1.06 (LOUDEST_DB).
MISCALIBRATED_LEVEL = 0.6
MISCALIBRATED_DB = -40.0  # the same on the `stft` grid, under the magnitude of a sine of full scale


@dataclasses.dataclass(frozen=True, eq=False)
class Voice:
    """Something that generates notes, and what one must know to ask it for them.

    ``kind`` is ``bundle`` or ``run``; ``trained_by`` names each attribute's teacher; ``latent`` (runs with an encoder)
    gives its z (N, Z) of frames (N, 2, rows, frames) with soft labels (N, A), pitch (N,), velocity (N,).
    ``detuned_cents`` is a planted fault of the player, not of the network.
    """

    name: str
    kind: str
    path: Path
    recipe_sha256: str
    parameters: int
    attributes: tuple[Attribute, ...]
    trained_by: tuple[str, ...]
    copula: npt.NDArray[np.float64]
    temperature: float
    presets: tuple[Preset, ...]
    latent_size: int
    pitch_range_midi: tuple[float, float]
    grid: Partials | Stft
    open: Callable[[], MakeNote]
    latent: Callable[..., FloatArray] | None = None
    fault: str | None = None
    detuned_cents: float = 0.0
    _threads: threading.local = dataclasses.field(default_factory=threading.local)

    def named(self) -> list[tuple[str, str]]:
        """(name, teacher) of each attribute."""
        return [(one.name, teacher) for one, teacher in zip(self.attributes, self.trained_by, strict=True)]

    def note(self, asked: Asked) -> FloatArray:
        """Frames (2, rows, frames) of one note; safe from several threads, each gets its own network."""
        if not hasattr(self._threads, "make"):
            self._threads.make = self.open()
        frames: FloatArray = self._threads.make(asked)
        return frames


def open_voice(path: Path, variant: str | None = None) -> Voice:
    """The voice at ``path``: a bundle (``X.rack``), the folder of a run, or the checkpoint in it.

    Raises DarkrackError where it is none of these, damaged, or a checkpoint of another recipe than its run's.
    """
    if path.is_dir():
        return _run(path)
    if path.suffix == ".pt":
        return _run(path.parent)
    if not path.exists():
        raise DarkrackError(
            str(path), "real, resynthesis, a bundle (X.rack) or the folder of a run", "no such file"
        )
    bundle = bundles.read(path)
    manifest = bundle.manifest
    return Voice(
        name=manifest.name,
        kind="bundle",
        path=path,
        recipe_sha256=manifest.recipe_sha256,
        parameters=manifest.parameters,
        attributes=manifest.attributes,
        trained_by=tuple(one.teacher or "mn04" for one in manifest.attributes),
        copula=manifest.copula,
        temperature=manifest.temperature,
        presets=manifest.presets,
        latent_size=manifest.latent_size,
        pitch_range_midi=manifest.pitch_range_midi,
        grid=manifest.representation,
        open=lambda: _asking(Generator(bundle, variant)),
    )


def _asking(generator: Generator) -> MakeNote:
    return lambda asked: generator.note(
        asked.z, asked.attributes, asked.pitch_midi, asked.velocity, asked.noise_seed
    )


def _named(name: str, facts: Mapping[str, Any]) -> str:
    """A run as tables call it: by its recipe, how far it was trained, and what trimming left."""
    trimmed = facts.get("trimmed")
    left = f", trimmed by {trimmed['criterion']} to {trimmed['macs_share']:.1%}" if trimmed else ""
    return f"{name} ({facts['step']} steps{left})"


def _run(folder: Path) -> Voice:
    import torch

    from train.networks import Condition
    from train.runs import open_run

    opened = open_run(folder)
    recipe, facts, encoder = opened.recipe, opened.facts, opened.encoder

    def network(tensors: Any) -> FloatArray:
        with torch.inference_mode():
            frames: FloatArray = opened.generator(
                *(torch.from_numpy(tensors[name]) for name in opened.inputs)
            ).numpy()
        return frames

    def latent(
        frames: FloatArray, labels: FloatArray, pitch: npt.ArrayLike, velocity: npt.ArrayLike
    ) -> FloatArray:
        asked = [torch.from_numpy(np.asarray(one, np.float32)) for one in (labels, pitch, velocity)]
        assert encoder is not None
        with torch.inference_mode():
            mean, _ = encoder(
                torch.from_numpy(frames), Condition(asked[0], asked[1][:, None], asked[2][:, None])
            )
        z: FloatArray = mean.numpy()
        return z

    asker = Asker(network, str(folder), opened.inputs, recipe.pitch_range_midi, recipe.grid)
    return Voice(
        name=_named(recipe.name, facts),
        kind="run",
        path=folder,
        recipe_sha256=facts["recipe_sha256"],
        parameters=sum(parameter.numel() for parameter in opened.generator.parameters()),
        attributes=tuple(
            Attribute(name, np.array(table, np.float64), None, teacher)
            for name, table, teacher in zip(
                facts["attributes"], facts["quantiles"], facts["teachers"], strict=True
            )
        ),
        trained_by=tuple(facts["teachers"]),
        copula=np.array(facts["copula"]),
        temperature=recipe.labels.temperature,
        presets=tuple(
            Preset(one["name"], np.array(one["attributes"]), z)
            for one, z in zip(facts["presets"], opened.latents, strict=True)
        ),
        latent_size=recipe.generator.latent,
        pitch_range_midi=(float(recipe.pitch_range_midi[0]), float(recipe.pitch_range_midi[1])),
        grid=recipe.grid,
        open=lambda: asker.note,
        latent=latent if encoder is not None else None,
    )


def planted(voice: Voice, fault: str) -> Voice:
    """``voice`` with one of FAULTS, for proving the judge: each must move the measure that is there to catch it."""
    change, words = FAULTS[fault]

    def opened() -> MakeNote:
        make = voice.open()
        return lambda asked: change(voice, make, asked)

    return dataclasses.replace(
        voice,
        name=f"{voice.name}, {words}",
        fault=fault,
        open=opened,
        detuned_cents=DETUNED_CENTS if fault == "detuned" else 0.0,
        _threads=threading.local(),
    )


def _z_ignored(voice: Voice, make: MakeNote, asked: Asked) -> FloatArray:
    """Always the same z and noise, as from a generator that has collapsed."""
    return make(dataclasses.replace(asked, z=np.zeros(voice.latent_size, np.float32), noise_seed=0))


def _permuted(voice: Voice, make: MakeNote, asked: Asked) -> FloatArray:
    """Every knob's wire on the next knob: each attribute stands where its neighbour should."""
    tables = np.stack([one.quantiles for one in voice.attributes])
    grid = np.linspace(0.0, 1.0, tables.shape[1])
    places = [np.interp(label, table, grid) for label, table in zip(asked.attributes, tables, strict=True)]
    swapped = [np.interp(place, grid, table) for place, table in zip(np.roll(places, 1), tables, strict=True)]
    return make(dataclasses.replace(asked, attributes=np.array(swapped, np.float32)))


def _detuned(voice: Voice, make: MakeNote, asked: Asked) -> FloatArray:
    return make(asked)  # the network is innocent: the player is off


def _miscalibrated(voice: Voice, make: MakeNote, asked: Asked) -> FloatArray:
    """The output as static int8 leaves it whose range was calibrated on quiet notes: clipped, in 256 steps."""
    frames = make(asked).copy()
    low, high = 0.0, MISCALIBRATED_LEVEL
    if isinstance(voice.grid, Stft):
        low, high = LEAST_LOG, full_scale_log(voice.grid) + MISCALIBRATED_DB / NEPER_DB
    step = (high - low) / 255
    frames[0] = np.round((np.clip(frames[0], low, high) - low) / step) * step + low
    return frames


def _still(voice: Voice, make: MakeNote, asked: Asked) -> FloatArray:
    """Every row at its own frequency, whatever the network says of it."""
    frames = make(asked).copy()
    frames[1] = 0
    return frames


FAULTS: dict[str, tuple[Callable[[Voice, MakeNote, Asked], FloatArray], str]] = {
    "z_ignored": (_z_ignored, "z ignored"),
    "permuted": (_permuted, "attributes permuted"),
    "detuned": (_detuned, f"detuned by {DETUNED_CENTS:g} cents"),
    "miscalibrated": (_miscalibrated, "int8 badly calibrated"),
    "still": (_still, "frequencies zeroed"),
}
# No rule of the verdict names it: what the second channel is worth is a voice's own affair.
UNNAMED = {"still"}
