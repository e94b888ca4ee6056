"""Runs a bundle's network: latent, soft labels, pitch, velocity and noise in; frames of one note out.

Two doors to the same kernels. `Network` is a model's bytes and the shapes it promised: what export uses to
measure parity and what the reader uses to replay golden. `Generator` is a bundle with one of its variants:
what plays.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.partials import Partials, nominal_hz, sounding_rows
from device.stft import Stft

if TYPE_CHECKING:
    from device.bundle import Bundle

FloatArray = npt.NDArray[np.float32]
Shape = tuple[int, ...]

SIGNATURE = "note"  # the TFLite signature that makes one whole note
SLICE = "slice"  # the one that makes some frames of it, where the model has it: the same inputs, and
BEGIN = "begin"  # the number of the first of them, (1, 1) float32
OUTPUT = "frames"  # the only output of both
LOWEST_MIDI, HIGHEST_MIDI = 0.0, 127.0
NOISES = 64  # that are kept: a sounding note keeps its own through all of its frames, the shelf has one


class Network:
    """One TFLite model behind named float32 tensors. Not for two threads at once: give each its own.

    ``inputs`` maps names to shapes and ``output`` is the shape of `frames`, batch of 1 included; ``where``
    names the model in errors. ``reference`` leaves the default delegate (XNNPACK) out: those kernels agree
    between x86 and ARM to about 1e-7, where XNNPACK's int8 differ by some 3 %; play with the delegate, prove
    without. ``slice_frames``: how many a slice has, None for a model without the signature `slice`. Raises
    DarkrackError where the bytes are no TFLite model or the signatures are others.
    """

    def __init__(
        self,
        model: bytes,
        where: str,
        inputs: Mapping[str, Shape],
        output: Shape,
        *,
        threads: int = 1,
        reference: bool = False,
        slice_frames: int | None = None,
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._where = where
        self._inputs = dict(inputs)
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if reference else OpResolverType.AUTO
        try:
            interpreter = Interpreter(
                model_content=model, num_threads=threads, experimental_op_resolver_type=kernels
            )
            signatures = interpreter.get_signature_list()
        except (ValueError, RuntimeError) as error:
            hint = "export the bundle again, with this release's ai-edge-litert"
            raise DarkrackError(where, "a TFLite model that LiteRT can load", str(error), hint) from error

        def runner(signature: str, inputs: Mapping[str, Shape], output: Shape) -> Any:
            if signature not in signatures:
                found = ", ".join(signatures) or "none"
                raise DarkrackError(
                    where, f"a TFLite signature '{signature}'", found, "name it when converting"
                )
            # The runner copies inputs in and the output out: no view of the arena is left to block the next call.
            run = interpreter.get_signature_runner(signature)
            _same_tensors(where, "inputs", inputs, run.get_input_details())
            _same_tensors(where, "output", {OUTPUT: output}, run.get_output_details())
            return run

        self._run = runner(SIGNATURE, self._inputs, output)
        self._run_slice: Any = None
        self._latest = -1  # frame that a slice may begin at
        if slice_frames is not None:
            self._run_slice = runner(SLICE, {**self._inputs, BEGIN: (1, 1)}, (*output[:-1], slice_frames))
            self._latest = output[-1] - slice_frames

    def __call__(self, tensors: Mapping[str, FloatArray]) -> FloatArray:
        """Frames, in the promised shape, for one set of inputs; DarkrackError where any is not finite."""
        return self._frames(self._run, self._named(tensors))

    def slice(self, tensors: Mapping[str, FloatArray], begin: int) -> FloatArray:
        """``slice_frames`` frames of that, from frame ``begin`` on; and refused like it.

        Of a float32 model they are the whole note's, bit by bit; without the delegate only where channels come in
        eights, else to 3e-7 (a remainder is added up in another order). int8 quantises activations by the range
        that they have, which in a slice is another: they differ from the whole by half as much as int8 does from
        float32 (35 dB against 29; the manifest's parity has each bundle's own).
        """
        if self._run_slice is None:
            hint = "`darkrack export` puts it into new bundles"
            raise DarkrackError(
                self._where, f"a model with the signature '{SLICE}'", "whole notes only", hint
            )
        if not (float(begin).is_integer() and 0 <= begin <= self._latest):
            expected = f"a whole number from 0 to {self._latest}"
            raise DarkrackError(
                f"{self._where}: {BEGIN}", expected, f"{begin:g}", "see the bundle's slice_frames"
            )
        named = self._named(tensors)
        return self._frames(self._run_slice, {**named, BEGIN: np.full((1, 1), begin, np.float32)})

    def _named(self, tensors: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        for name, shape in self._inputs.items():
            _check(f"{self._where}: input '{name}'", tensors[name], shape)
        return {name: np.asarray(tensors[name], np.float32) for name in self._inputs}

    def _frames(self, run: Any, tensors: Mapping[str, FloatArray]) -> FloatArray:
        try:
            frames: FloatArray = run(**tensors)[OUTPUT]
        except (ValueError, RuntimeError) as error:
            raise DarkrackError(
                self._where, "a model that runs", str(error), "export the bundle again"
            ) from error
        wrong = int(np.count_nonzero(~np.isfinite(frames)))
        if wrong:
            hint = "darkrack bundle verify FILE; try another variant"
            raise DarkrackError(
                self._where, "finite frames", f"{wrong} of {frames.size} NaN or infinite", hint
            )
        return frames


def snr_db(wanted: FloatArray, got: FloatArray) -> float:
    """Signal-to-noise ratio of frames beside those wanted, -200 (also where some are not finite) to 200 dB."""
    noise = float(((wanted.astype(np.float64) - got) ** 2).sum())
    signal = float((wanted.astype(np.float64) ** 2).sum())
    if not math.isfinite(noise):
        return -200.0
    return max(-200.0, min(10 * math.log10(max(signal, 1e-30) / max(noise, 1e-30)), 200.0))


@dataclass(frozen=True, eq=False)
class Asked:
    """One note asked of a network: latent (Z,), soft labels (A,), pitch MIDI, velocity 0..1, the noise's seed."""

    z: FloatArray
    attributes: FloatArray
    pitch_midi: float
    velocity: float
    noise_seed: int


class Generator:
    """A bundle's network, ready to make notes; ``variant`` None is the bundle's default.

    Raises DarkrackError naming bundle and variant: unknown variant, a model that does not load or does not
    have the manifest's tensors. Not for two threads at once.
    """

    def __init__(
        self, bundle: Bundle, variant: str | None = None, threads: int = 1, reference: bool = False
    ) -> None:
        manifest = bundle.manifest
        self.variant = manifest.default_variant if variant is None else variant
        where = f"{bundle.path}: variant {self.variant}"
        model = bundle.model(self.variant)
        self.slice_frames = None if manifest.slice is None else manifest.slice.frames
        self._network = Network(
            model,
            where,
            manifest.inputs,
            manifest.output,
            threads=threads,
            reference=reference,
            slice_frames=self.slice_frames,
        )
        self._asker = Asker(
            self._network, where, manifest.inputs, manifest.pitch_range_midi, manifest.representation
        )

    def note(
        self, z: npt.ArrayLike, attributes: npt.ArrayLike, pitch_midi: float, velocity: float, noise_seed: int
    ) -> FloatArray:
        """Make one note: (2, rows, frames) float32, for `partials.decode` or `stft.decode_samples`.

        ``z`` (Z,) latent, standard normal; ``attributes`` (A,) soft labels 0..1, as `Knobs.vector` gives
        them; ``pitch_midi`` 0..127 with fractions: beyond the trained range the network hears the nearest
        trained pitch (the timbre stays, the voice still plays the pitch asked for); ``velocity`` 0..1. The
        same ``noise_seed`` gives the same note. Partials above ``limit_hz`` at that pitch are silent. A network that
        takes neither velocity nor noise makes the same note for all of them.
        Raises DarkrackError for a wrong shape or range, and for output that is not finite.
        """
        return self._asker.note(_asked(z, attributes, pitch_midi, velocity, noise_seed))

    def slice(
        self,
        z: npt.ArrayLike,
        attributes: npt.ArrayLike,
        pitch_midi: float,
        velocity: float,
        noise_seed: int,
        *,
        begin: int,
    ) -> FloatArray:
        """Frames ``begin`` to ``begin + slice_frames`` of that note, sooner: (2, rows, slice_frames).

        How close to it and what is refused: `Network.slice`. ``self.slice_frames`` is None where a bundle has no
        slices: the first ones, and those of samples.
        """
        network = functools.partial(self._network.slice, begin=begin)
        asker = dataclasses.replace(self._asker, network=network)
        return asker.note(_asked(z, attributes, pitch_midi, velocity, noise_seed))


@dataclass(frozen=True, eq=False)
class Asker:
    """What turns a note that is asked for into a network's inputs, and its output into frames.

    ``network`` takes tensors of the shapes ``inputs`` by name: a bundle's `Network`, or torch where the judge
    listens to a run. ``where`` names it in errors.
    """

    network: Callable[[Mapping[str, FloatArray]], FloatArray]
    where: str
    inputs: Mapping[str, Shape]
    pitch_range_midi: tuple[float, float]
    grid: Partials | Stft

    def note(self, asked: Asked) -> FloatArray:
        """(2, rows, frames); see `Generator.note`."""
        _in_range(f"{self.where}: pitch", asked.pitch_midi, LOWEST_MIDI, HIGHEST_MIDI)
        _in_range(f"{self.where}: velocity", asked.velocity, 0.0, 1.0)
        _check(f"{self.where}: z", asked.z, self.inputs["z"][1:])
        _check(f"{self.where}: attributes", asked.attributes, self.inputs["attributes"][1:])
        heard_midi = trained_pitch(asked.pitch_midi, self.pitch_range_midi, self.grid)
        tensors = {
            "z": asked.z[np.newaxis],
            "attributes": asked.attributes[np.newaxis],
            "pitch": np.full((1, 1), heard_midi, np.float32),
        }
        if "velocity" in self.inputs:
            tensors["velocity"] = np.full((1, 1), asked.velocity, np.float32)
        if "noise" in self.inputs:
            tensors["noise"] = _noise(asked.noise_seed, self.inputs["noise"])
        frames: FloatArray = self.network(tensors)[0]
        if isinstance(self.grid, Partials):
            # Training never looked at rows above the limit, so what the network says there means nothing.
            frames[0, sounding_rows(nominal_hz(heard_midi), self.grid) :] = 0.0
        return frames


def trained_pitch(pitch_midi: float, pitch_range_midi: tuple[float, float], grid: Partials | Stft) -> float:
    """What a network is asked for where ``pitch_midi`` is to sound: the nearest pitch that it has learned.

    On partials any between two ends; on `stft` a whole number, because the network has heard no others.
    """
    lowest, highest = pitch_range_midi
    if isinstance(grid, Stft):
        return float(min(max(round(pitch_midi), math.ceil(lowest)), math.floor(highest)))
    return min(max(pitch_midi, lowest), highest)


def _asked(
    z: npt.ArrayLike, attributes: npt.ArrayLike, pitch_midi: float, velocity: float, noise_seed: int
) -> Asked:
    return Asked(
        np.asarray(z, np.float32), np.asarray(attributes, np.float32), pitch_midi, velocity, noise_seed
    )


@functools.lru_cache(maxsize=NOISES)
def _noise(seed: int, shape: Shape) -> FloatArray:
    """Standard normal; drawing it takes half as long as the network that ships takes for a note."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _check(where: str, values: FloatArray, shape: Shape) -> None:
    if values.shape != shape:
        raise DarkrackError(
            where, f"shape {shape}", str(values.shape), "take the sizes from the bundle's manifest"
        )
    if not np.isfinite(values).all():
        raise DarkrackError(where, "finite values", "NaN or infinity", "check what computed them")


def _in_range(where: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN fails it too
        raise DarkrackError(where, f"{low:g} to {high:g}", f"{value:g}", "clip it before asking for a note")


def _same_tensors(where: str, what: str, promised: Mapping[str, Shape], details: Mapping[str, Any]) -> None:
    """The model's own tensors must be those of the manifest: names, shapes, float32."""
    found = {
        name: (tuple(int(size) for size in d["shape"]), np.dtype(d["dtype"])) for name, d in details.items()
    }
    wanted = {name: (shape, np.dtype(np.float32)) for name, shape in promised.items()}
    if found != wanted:

        def text(tensors: Mapping[str, tuple[Shape, Any]]) -> str:
            return ", ".join(
                f"{name} {dtype} {list(shape)}" for name, (shape, dtype) in sorted(tensors.items())
            )

        hint = "model and manifest come from different exports; export again"
        raise DarkrackError(where, f"{what} {text(wanted)}", text(found), hint)
