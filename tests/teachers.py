"""A data set of a few synthetic notes, and a network of the right shape that is no real teacher."""

from __future__ import annotations

import csv
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


def write_network(path: Path, outputs: int = 527, embedding: int = 384, seen: str = "spec") -> None:
    """An ONNX network with mn04's names: random projections of the mean over time."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(4)
    weights: dict[str, npt.NDArray[Any]] = {
        "to_logits": generator.normal(size=(128, outputs)).astype(np.float32),
        "to_features": generator.normal(size=(128, embedding)).astype(np.float32),
        "over": np.array([1, 3], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", [seen, "over"], ["bands"], keepdims=0),
            helper.make_node("MatMul", ["bands", "to_logits"], ["logits"]),
            helper.make_node("MatMul", ["bands", "to_features"], ["features"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(seen, TensorProto.FLOAT, ["batch", 1, 128, "frames"])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", embedding]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
