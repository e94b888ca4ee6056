"""A data set of a few synthetic notes, and networks of the right shapes that are no real teachers."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from device.partials import nominal_hz
from train.notes import Note, note_name, write_notes

RATE_HZ = 48_000


def plucked(pitch: int, brightness: float, seconds: float = 1.2) -> npt.NDArray[np.float32]:
    """Twelve decaying harmonics; ``brightness`` 0..1 slows their fall over frequency."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    note = np.zeros(len(t))
    for k in range(1, 13):
        note += np.exp(-3 * t) * k ** (brightness - 2) * np.sin(2 * np.pi * k * nominal_hz(pitch) * t)
    return np.asarray(0.3 * note / np.abs(note).max(), np.float32)


def write_set(folder: Path, pitches: range, checks: dict[int, str] | None = None) -> list[Note]:
    """A data set with one note a pitch, all in one FLAC; ``checks`` gives some another check than ok."""
    audio = [plucked(pitch, (pitch % 5) / 5) for pitch in pitches]
    starts = np.cumsum([0, *map(len, audio)])
    notes = [
        Note(
            note_str=note_name("pluck", pitch, 100),
            instrument_str="pluck",
            instrument_family_str="guitar",
            instrument_source_str="synthetic",
            pitch=pitch,
            velocity=100,
            sample_rate=RATE_HZ,
            file="audio/pluck.flac",
            start=int(start),
            samples=len(samples),
            f0_hz=nominal_hz(pitch),
            cents=0.0,
            check=(checks or {}).get(pitch, "ok"),
            tags="",
        )
        for pitch, samples, start in zip(pitches, audio, starts, strict=False)
    ]
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "audio" / "pluck.flac", np.concatenate(audio), RATE_HZ, subtype="PCM_24")
    write_notes(folder, notes)
    return notes


def write_classes(path: Path, count: int) -> tuple[str, ...]:
    """A list of ``count`` classes, the names with a comma in them, as AudioSet has some."""
    names = tuple(f"Sound {number}, invented" for number in range(count))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("index", "mid", "display_name"))
        writer.writerows((number, f"/m/{number}", name) for number, name in enumerate(names))
    return names


def write_network(
    path: Path,
    *,
    outputs: int = 527,
    embedding: int = 384,
    seen: str = "spec",
    bands: int = 128,
    gain: float = 1,
) -> None:
    """An ONNX network with mn04's names: random projections of the mean over time."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(4)
    weights: dict[str, npt.NDArray[Any]] = {
        "to_logits": (gain * generator.normal(size=(bands, outputs))).astype(np.float32),
        "to_features": generator.normal(size=(bands, embedding)).astype(np.float32),
        "over": np.array([1, 3], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", [seen, "over"], ["bands"], keepdims=0),
            helper.make_node("MatMul", ["bands", "to_logits"], ["logits"]),
            helper.make_node("MatMul", ["bands", "to_features"], ["features"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(seen, TensorProto.FLOAT, ["batch", 1, bands, "frames"])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "classes"]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "features"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)


def cnn14_state() -> dict[str, Any]:
    """A state dict with the names and shapes of PANN's CNN14 as published (Zenodo 3987831), the values ours.

    Written out here from the published listing, not taken from the network under test. Kernels are random over
    what goes out and alike over what comes in, which a file stores once: 25 MB instead of 327.
    """
    import librosa
    import torch

    generator = torch.Generator().manual_seed(14)
    state: dict[str, Any] = {}
    bins, samples = np.arange(513)[:, None], np.arange(1024)[None]
    wave = np.exp(-2j * np.pi * bins * samples / 1024) * _hann(1024)
    state["spectrogram_extractor.stft.conv_real.weight"] = torch.tensor(wave.real[:, None]).float()
    state["spectrogram_extractor.stft.conv_imag.weight"] = torch.tensor(wave.imag[:, None]).float()
    bands = librosa.filters.mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000)
    state["logmel_extractor.melW"] = torch.tensor(bands.T.copy())

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = torch.ones(channels)
        state[f"{name}.bias"] = torch.zeros(channels)
        state[f"{name}.running_mean"] = torch.zeros(channels)
        state[f"{name}.running_var"] = torch.ones(channels)
        state[f"{name}.num_batches_tracked"] = torch.tensor(600_000)

    norm("bn0", 64)
    for block, (inputs, outputs) in enumerate(
        itertools.pairwise((1, 64, 128, 256, 512, 1024, 2048)), start=1
    ):
        for conv, seen in ((1, inputs), (2, outputs)):
            kernel = torch.randn((outputs, 1, 3, 3), generator=generator) / (3 * seen)
            state[f"conv_block{block}.conv{conv}.weight"] = kernel.expand(outputs, seen, 3, 3)
        norm(f"conv_block{block}.bn1", outputs)
        norm(f"conv_block{block}.bn2", outputs)
    for name, outputs in (("fc1", 2048), ("fc_audioset", 527)):
        state[f"{name}.weight"] = torch.randn((outputs, 2048), generator=generator) / 2048**0.5
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator)
    return state


def _hann(width: int) -> npt.NDArray[np.float64]:
    """The periodic Hann window that torchlibrosa takes, through librosa, from scipy."""
    from scipy.signal import get_window

    return np.asarray(get_window("hann", width, fftbins=True))
