"""Darkrack's own side of the comparison: a bundle's float32 twin, and networks of any width with random weights."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np

from compress.quantize import DYNAMIC_INT8, FLOAT32, quantized
from device import bundle as bundles
from device.bundle import Bundle
from device.generator import SLICE
from device.partials import NoteFrames, Partials, nominal_hz

RATE_HZ = SECOND_SAMPLES = 48_000
LEVEL_DB = -40.0  # of every partial of a full note


def with_float32(bundle: Bundle, path: Path) -> Bundle:
    """The bundle, with a variant float32 where it ships none: its default's weights, written out as they are.

    The same layers compute the same note in float32 then, without rounding its activations. Written to ``path``.
    """
    if FLOAT32 in bundle.manifest.variants:
        return bundle
    manifest: dict[str, Any] = json.loads(bundle.files[bundles.MANIFEST])
    files = {name: content for name, content in bundle.files.items() if name != bundles.MANIFEST}
    member = f"generator.{FLOAT32}.tflite"
    manifest["variants"][FLOAT32] = {"file": member}
    files[member] = widened(bundle.model())
    for name, variant in manifest["variants"].items():
        manifest["variants"][name] = {"file": variant["file"]}
    return bundles.write(path, manifest, files)


def widened(model: bytes) -> bytes:
    """A TFLite model whose int8 weights are float32: each is its scale times what it is over its zero point."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    content = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    plain: dict[int, np.ndarray] = {}  # by buffer: two signatures share them
    for graph in content.subgraphs:
        for tensor in graph.tensors:
            scale = None if tensor.quantization is None else tensor.quantization.scale
            if tensor.type != schema.TensorType.INT8 or scale is None or not len(scale):
                continue
            if tensor.buffer not in plain:
                data = np.asarray(content.buffers[tensor.buffer].data, np.uint8)
                weights = data.view(np.int8).reshape(tensor.shape).astype(np.float32)
                along = [1] * len(tensor.shape)
                along[tensor.quantization.quantizedDimension if len(scale) > 1 else 0] = len(scale)
                zero = np.asarray(tensor.quantization.zeroPoint, np.float32).reshape(along)
                plain[tensor.buffer] = (weights - zero) * np.asarray(scale, np.float32).reshape(along)
            tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    for number, weights in plain.items():
        content.buffers[number].data = np.frombuffer(weights.astype("<f4").tobytes(), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))


def full_note(rows: int, grid: Partials) -> NoteFrames:
    """A held note of which ``rows`` partials sound all the time: the most work that a voice can be."""
    shape = (rows, grid.frames)
    return NoteFrames(
        level_db=np.full(shape, LEVEL_DB, np.float32),
        ratio=np.repeat(np.arange(1, rows + 1, dtype=np.float32)[:, None], grid.frames, axis=1),
        decay_db_per_s=np.zeros(rows, np.float32),
        loop_start=grid.frames // 2,
        loop_end=grid.frames - 1,
    )


def full_hz(rows: int, grid: Partials) -> float:
    """A pitch at which all rows lie under the soft edge of the limit, so that all of them are computed."""
    return min(0.8 * grid.limit_hz / rows, nominal_hz(108))


def converted(
    width: int, attributes: int = 128, slice_frames: int | None = None
) -> tuple[dict[str, bytes], int]:
    """The flagship's network with ``width`` channels throughout and random weights: TFLite by variant, and its MACs.

    float32 and dynamic int8. With ``slice_frames`` they have the signature `slice` as well.
    """
    import torch

    from compress.export import compact, to_tflite
    from compress.prune import count_macs
    from train.networks import Generator
    from train.recipe import GeneratorShape

    shape = GeneratorShape(
        latent=24, channels=(width,) * 5, embedding=width, noise_channels=32, noise_scales=3
    )
    torch.manual_seed(0)
    generator = Generator(shape, Partials(), attributes, (36, 84)).eval().requires_grad_(False)
    inputs = {
        "z": (1, shape.latent),
        "attributes": (1, attributes),
        "pitch": (1, 1),
        "velocity": (1, 1),
        "noise": (1, 2 * shape.noise_channels, Partials().frames),
    }
    for module in generator.modules():  # no layer rests at the zeros that training begins with
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, a=0.2)
    macs = count_macs(generator, [torch.zeros(size) for size in inputs.values()])
    float32 = to_tflite(generator, inputs, slice_frames)
    models = {FLOAT32: compact(float32), DYNAMIC_INT8: compact(quantized(float32, DYNAMIC_INT8))}
    assert slice_frames is None or SLICE.encode() in models[FLOAT32]
    return models, macs


class Callback:
    """The compiled audio callback, as PortAudio calls it, with ``voices`` held that are `full_note` of ``rows``."""

    def __init__(self, voices: int, rows: int) -> None:
        from device.engine import START, address, callback, hand_over, make, memory_size, push
        from device.voices import fill

        self._memory = np.zeros(memory_size(voices), np.uint8)
        desk = make(self._memory, voices)
        grid = Partials(rows=rows)
        f0_hz = full_hz(rows, grid)
        fill(desk.state, 0, full_note(rows, grid), f0_hz, grid)
        hand_over(desk.shelf, 0, 1)
        for voice in range(voices):
            push(desk, 0, START, voice, voice + 1, f0_hz, 1 / voices, 0.0, 0.1, voice)
        pointer, whole = ctypes.c_void_p, ctypes.c_ulong
        kind: Any = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, whole, pointer, whole, pointer)
        self._kept = callback()
        self._call = kind(self._kept.address)
        self._desk_at = address(self._memory)
        self._out = np.zeros((SECOND_SAMPLES, 2), np.float32)
        self._out_at = self._out.ctypes.data
        self.render(SECOND_SAMPLES, SECOND_SAMPLES)
        sounding = int(np.count_nonzero(desk.state.voice["active"]))
        assert sounding == voices, f"{sounding} of {voices} voices sound"

    def render(self, samples: int, block: int) -> np.ndarray:
        """``samples`` of sound, block by block into the same place: the last block (block, 2)."""
        for _ in range(samples // block):
            self._call(None, self._out_at, block, None, 0, self._desk_at)
        return self._out[:block]
