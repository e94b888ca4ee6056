"""A real bundle, small enough to make in a test: a torch module that synthesises plausible notes, converted.

Not a trained instrument, but one that behaves: its partials fall with their number, decay or last as an
attribute says, and stand at their harmonics, so that what renders, plays or measures a bundle has music to
work on. `tiny_bundle` in conftest.py makes it once per session.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from device import bundle
from device.bundle import Bundle
from device.generator import OUTPUT, Network
from device.stft import FADED_SHARE, Stft

ROWS, FRAMES, FRAME_RATE_HZ = 80, 128, 125.0
LATENT_SIZE, NOISE_ROWS = 4, 2
# What the module below makes of each attribute's soft label.
ATTRIBUTES = ("Trumpet", "Plucked string instrument", "Clarinet", "Wind noise, breath")
BRIGHT, PLUCKED, HOLLOW, NOISY = range(4)
INPUTS = {
    "z": (1, LATENT_SIZE),
    "attributes": (1, len(ATTRIBUTES)),
    "pitch": (1, 1),
    "velocity": (1, 1),
    "noise": (1, NOISE_ROWS, FRAMES),
}
FRAMES_SHAPE = (1, 2, ROWS, FRAMES)
PITCHES = (36, 84)
COPULA = [[1.0, -0.3, 0.4, 0.2], [-0.3, 1.0, -0.2, 0.0], [0.4, -0.2, 1.0, 0.1], [0.2, 0.0, 0.1, 1.0]]


GRID = Stft()
# DarkGAN as published knows neither velocity nor noise.
SAMPLES_INPUTS = {name: INPUTS[name] for name in ("z", "attributes", "pitch")}
SAMPLES_SHAPE = (1, 2, GRID.bins, GRID.frames)
SAMPLES_PITCHES = (44, 69)


def tiny_model() -> bytes:
    """TFLite bytes with the whole signature `note`; about 10 s, most of them the import of the converter."""
    with _quietly():
        import torch

        class TinyInstrument(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                number = torch.arange(1, ROWS + 1, dtype=torch.float32)
                seconds = torch.arange(FRAMES, dtype=torch.float32) / FRAME_RATE_HZ
                even = (number % 2 == 0).float()
                # One spectrum (1, ROWS, 1) or envelope (1, 1, FRAMES) in dB for each thing that can be asked
                # for.
                self.octaves = torch.log2(number).reshape(1, ROWS, 1)
                self.even = even.reshape(1, ROWS, 1)
                self.seconds = seconds.reshape(1, 1, FRAMES)
                self.attack_db = (-30.0 * torch.exp(-seconds / 0.010)).reshape(1, 1, FRAMES)
                generator = torch.Generator().manual_seed(1)
                self.formants_db = 2.0 * torch.randn(LATENT_SIZE, ROWS, generator=generator)

            def forward(
                self,
                z: torch.Tensor,  # (1, Z)
                attributes: torch.Tensor,  # (1, A)
                pitch: torch.Tensor,  # (1, 1)
                velocity: torch.Tensor,  # (1, 1)
                noise: torch.Tensor,  # (1, N, F)
            ) -> dict[str, torch.Tensor]:
                asked = [attributes[:, index].reshape(1, 1, 1) for index in range(len(ATTRIBUTES))]
                # 12 dB an octave, 5 for the brightest; a higher note has fewer partials to be bright with.
                tilt_db = 12.0 - 7.0 * asked[BRIGHT] - 2.0 * velocity.unsqueeze(2)
                tilt_db = tilt_db + 0.05 * (pitch.unsqueeze(2) - 60.0)
                level_db = 3.0 + self.attack_db - tilt_db * self.octaves - 20.0 * asked[HOLLOW] * self.even
                # Up to 40 dB/s, the higher partials faster; below label .25 the note does not decay.
                fall_db_per_s = 53.0 * torch.relu(asked[PLUCKED] - 0.25)
                level_db = level_db - fall_db_per_s * self.seconds * (1.0 + 0.2 * self.octaves)
                level_db = level_db + torch.matmul(z, self.formants_db).reshape(1, ROWS, 1)
                level_db = level_db + asked[NOISY] * 3.0 * noise[:, :1, :]
                level = torch.clamp(1.0 + level_db / 100.0, 0.0, 1.2)
                deviation = 0.002 * asked[NOISY] * noise[:, 1:2, :] * torch.ones(1, ROWS, 1)
                return {OUTPUT: torch.stack([level, deviation], dim=1)}  # (1, 2, ROWS, FRAMES)

        return _converted(TinyInstrument(), INPUTS)


def tiny_samples_model() -> bytes:
    """The same for the `stft` grid: harmonic notes as DarkGAN's targets are, faded over their last 30 %."""
    with _quietly():
        import torch

        class TinySampler(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.hz_per_bin = GRID.sample_rate_hz / GRID.fft_samples
                bins = torch.arange(1, GRID.bins + 1, dtype=torch.float32)
                seconds = (
                    torch.arange(GRID.frames, dtype=torch.float32) * GRID.hop_samples / GRID.sample_rate_hz
                )
                whole_s = GRID.samples / GRID.sample_rate_hz
                fade = torch.clamp((whole_s - seconds) / (FADED_SHARE * whole_s), 1e-3, 1.0)
                self.bins = bins.reshape(1, GRID.bins, 1)
                self.seconds = seconds.reshape(1, 1, GRID.frames)
                self.ends = torch.log(fade).reshape(1, 1, GRID.frames)
                self.first = (seconds == 0).float().reshape(1, 1, GRID.frames)
                generator = torch.Generator().manual_seed(1)
                self.formants = 0.2 * torch.randn(LATENT_SIZE, GRID.bins, generator=generator)

            def forward(
                self,
                z: torch.Tensor,  # (1, Z)
                attributes: torch.Tensor,  # (1, A)
                pitch: torch.Tensor,  # (1, 1)
            ) -> dict[str, torch.Tensor]:
                asked = [attributes[:, index].reshape(1, 1, 1) for index in range(len(ATTRIBUTES))]
                f0_hz = 440.0 * torch.exp(math.log(2.0) / 12.0 * (pitch.unsqueeze(2) - 69.0))
                # Every bin shows the partial that is nearest: its frequency, and the window's lobe at its distance.
                number = torch.clamp(torch.round(self.bins * self.hz_per_bin / f0_hz), min=1.0)
                apart = self.bins - number * f0_hz / self.hz_per_bin
                # Half the window's sum for a sine of amplitude 1; half that a bin away, so e^(-0.69 d^2).
                level = math.log(GRID.fft_samples / 4 * 0.3) - 0.69 * torch.clamp(apart * apart, max=16.0)
                level = level - (2.0 - asked[BRIGHT]) * torch.log(number)
                level = level + torch.matmul(z, self.formants).reshape(1, GRID.bins, 1)
                level = level - 6.0 * torch.relu(asked[PLUCKED] - 0.25) * self.seconds + self.ends
                turn = number * f0_hz * (GRID.hop_samples / GRID.sample_rate_hz)  # turns a hop
                steady = 2 * math.pi * (turn - torch.round(turn))
                # The transform counts phase from the window's edge: half a turn more for each bin.
                # Partials begin anywhere (Schroeder's phases): all at zero, the peak would be their sum.
                begin = math.pi * self.bins + math.pi / 40 * number * number
                advance = steady * (1.0 - self.first) + begin * self.first
                return {OUTPUT: torch.stack([level, advance + 0.0 * level], dim=1)}

        return _converted(TinySampler(), SAMPLES_INPUTS)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch and the converter say about parts of themselves that they deprecate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _converted(module: Any, inputs: Mapping[str, tuple[int, ...]]) -> bytes:
    import litert_torch
    import torch

    # Inputs get the names of the keyword arguments, the output that of its key in the returned dict.
    sample = {name: torch.zeros(shape) for name, shape in inputs.items()}
    edge = litert_torch.signature("note", module.eval(), sample_kwargs=sample).convert()
    model: bytes = edge.model_content()
    return model


def golden_tensors(
    model: bytes,
    inputs: Mapping[str, tuple[int, ...]] = INPUTS,
    output: tuple[int, ...] = FRAMES_SHAPE,
    pitches: tuple[int, int] = PITCHES,
    notes: int = 4,
) -> dict[str, np.ndarray]:
    """Inputs drawn by a fixed seed and what the model makes of them, as golden.npz holds them."""
    rng = np.random.default_rng(7)
    drawn = {
        "z": rng.standard_normal((notes, LATENT_SIZE)),
        "attributes": rng.uniform(0.0, 1.0, (notes, len(ATTRIBUTES))),
        "pitch": rng.uniform(*pitches, (notes, 1)),
        "velocity": rng.uniform(0.2, 1.0, (notes, 1)),
        "noise": rng.standard_normal((notes, NOISE_ROWS, FRAMES)),
    }
    tensors = {name: drawn[name].astype(np.float32) for name in inputs}
    network = Network(model, "tiny model", inputs, output, reference=True)
    made = [network({name: values[n : n + 1] for name, values in tensors.items()}) for n in range(notes)]
    return {**tensors, OUTPUT: np.concatenate(made)}


def tiny_manifest() -> dict[str, Any]:
    """What the exporter would pass to `bundle.write`."""
    knob = np.linspace(0.0, 1.0, bundle.QUANTILES)
    # Soft labels as they are: most notes have little of an attribute, few have much.
    tables = [np.round(0.02 + (0.7 + 0.06 * index) * knob**2, 4).tolist() for index in range(len(ATTRIBUTES))]
    return {
        "name": "Tiny",
        "created": "2026-11-21",
        "default_variant": "float32",
        "variants": {"float32": {"file": "generator.float32.tflite"}},
        "representation": {
            "name": "partials",
            "rows": ROWS,
            "frames": FRAMES,
            "frame_rate_hz": FRAME_RATE_HZ,
            "floor_db": -100.0,
            "limit_hz": 16000.0,
        },
        "signature": {
            "inputs": {name: list(shape) for name, shape in INPUTS.items()},
            "output": {OUTPUT: list(FRAMES_SHAPE)},
        },
        "pitch_range_midi": list(PITCHES),
        "latent_size": LATENT_SIZE,
        "temperature": 2.0,
        "attributes": [
            {"name": name, "quantiles": table, "correlation": None if name == ATTRIBUTES[NOISY] else 0.5}
            for name, table in zip(ATTRIBUTES, tables, strict=True)
        ],
        "copula": COPULA,
        "presets": [
            {"name": "Reed", "attributes": [0.4, 0.05, 0.6, 0.05], "z": [0.0, 0.5, -0.5, 0.2]},
            {"name": "Harp", "attributes": [0.2, 0.7, 0.1, 0.02], "z": [0.3, -0.2, 0.1, 0.0]},
        ],
        "data": [{"name": "arithmetic", "licence": "Apache-2.0", "source": "tests/bundles.py"}],
        "commit": "0" * 40,
        "recipe_sha256": "0" * 64,
        "quality": {"fad": {"generated": 3.5}},
        "macs": ROWS * LATENT_SIZE,
        "parameters": ROWS * LATENT_SIZE,
        "parity": {"torch_litert": {"snr_db": round(20.0 * math.log10(1e6), 1)}},
    }


def tiny_files(model: bytes, golden: dict[str, np.ndarray] | None = None) -> dict[str, bytes]:
    """The members beside the manifest."""
    return {
        "generator.float32.tflite": model,
        bundle.GOLDEN: bundle.golden_npz(golden or golden_tensors(model)),
        bundle.CARD: b"# Tiny\n\nMade by arithmetic, for tests.\n",
    }


def write_tiny(path: Path) -> Bundle:
    """Make the whole bundle at ``path``."""
    return bundle.write(path, tiny_manifest(), tiny_files(tiny_model()))


def write_tiny_samples(path: Path) -> Bundle:
    """Make a bundle of samples at ``path``."""
    model = tiny_samples_model()
    golden = golden_tensors(model, SAMPLES_INPUTS, SAMPLES_SHAPE, SAMPLES_PITCHES)
    manifest = {
        **tiny_manifest(),
        "name": "Tiny samples",
        "representation": {"name": "stft", **dataclasses.asdict(GRID)},
        "signature": {
            "inputs": {name: list(shape) for name, shape in SAMPLES_INPUTS.items()},
            "output": {OUTPUT: list(SAMPLES_SHAPE)},
        },
        "pitch_range_midi": list(SAMPLES_PITCHES),
    }
    return bundle.write(path, manifest, tiny_files(model, golden))
