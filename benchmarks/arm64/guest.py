"""What runs on the emulated core to be counted: pieces of work between marks that the plugin sees (count.c).

    python3 guest.py bundle X.rack [voices]      every variant's notes and slices; with the word voices, blocks too
    python3 guest.py tflite MODEL                one model through LiteRT as it is played, zeros in
    python3 guest.py ncnn NETWORK.param          one network through ncnn, zeros in, weights of zero

One thread. Mark 100 * k begins the k-th piece after it has been warmed up, 100 * k + n ends its n-th repetition; what
the pieces are called is printed as JSON. The first piece is no work at all: what a mark itself costs.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

MARK = 1_000_000_000  # no process has so high a number
WARM, REPETITIONS = 3, 5
LARGE_WARM, LARGE_REPETITIONS = 1, 2  # of networks that take minutes here
BLOCK_FRAMES, VOICES, BLOCKS = 128, 8, 20  # as `darkrack play` does by itself; blocks in one repetition

Piece = tuple[str, int, Callable[[], object]]  # name, how many of what is counted it holds, work


def mark(number: int) -> None:
    """Tell the plugin."""
    with suppress(ProcessLookupError):
        os.getpgid(MARK + number)


def nothing() -> None:
    """No work."""


def main(kind: str, path: str, *also: str) -> None:
    """Run the pieces of one kind of work."""
    pieces: list[Piece] = [("mark", 1, nothing)]
    pieces += {"bundle": bundle_pieces, "tflite": tflite_pieces, "ncnn": ncnn_pieces}[kind](Path(path), *also)
    warm, repetitions = (WARM, REPETITIONS) if kind == "bundle" else (LARGE_WARM, LARGE_REPETITIONS)
    gc.collect()
    gc.disable()
    for k, (_, _, work) in enumerate(pieces):
        for _ in range(warm):
            work()
        mark(100 * k)
        for n in range(repetitions):
            work()
            mark(100 * k + n + 1)
    print(json.dumps([(name, each) for name, each, _ in pieces]))


def bundle_pieces(path: Path, voices: str = "") -> Iterator[Piece]:
    """A held note made again, its noise kept, as when a knob turns; a slice of it; a block of eight full voices."""
    from device.bundle import read
    from device.generator import Generator
    from device.partials import Partials

    rack = read(path, replay=False)
    manifest = rack.manifest
    middle = len(manifest.attributes[0].quantiles) // 2 if manifest.attributes else 0
    asked = (
        np.zeros(manifest.latent_size),
        [attribute.quantiles[middle] for attribute in manifest.attributes],
        float(np.mean(manifest.pitch_range_midi)),
        0.8,
        1,
    )
    for variant in manifest.variants:
        generator = Generator(rack, variant)

        def note(generator: Generator = generator) -> None:
            generator.note(*asked)

        def piece(generator: Generator = generator) -> None:
            generator.slice(*asked, begin=8)

        yield f"note {variant}", 1, note
        if generator.slice_frames is not None:
            yield f"slice {variant}", 1, piece
    if voices and isinstance(manifest.representation, Partials):
        yield from block_pieces(manifest.representation)


def block_pieces(grid: object) -> Iterator[Piece]:
    """Blocks by the callback's `advance`: of VOICES held notes, all rows of the grid sounding; and of silence."""
    from device import bench, engine
    from device.partials import NoteFrames, Partials, nominal_hz
    from device.voices import fill

    assert isinstance(grid, Partials)
    key_midi = bench.highest_full_key(grid)
    note = NoteFrames(
        level_db=np.full((grid.rows, grid.frames), -40, np.float32),
        ratio=np.repeat(np.arange(1, grid.rows + 1, dtype=np.float32)[:, None], grid.frames, axis=1),
        decay_db_per_s=np.zeros(grid.rows, np.float32),
        loop_start=grid.frames // 2,
        loop_end=grid.frames - 1,
    )
    for name, voices in (("block", VOICES), ("block of silence", 0)):
        desk = engine.make(np.zeros(engine.memory_size(VOICES), np.uint8), VOICES)
        fill(desk.state, 0, note, nominal_hz(key_midi), grid)
        engine.hand_over(desk.shelf, 0, 1)
        for voice in range(voices):
            engine.push(desk, 0, engine.START, voice, 1 + voice, nominal_hz(key_midi), 0.1, 0.0, 0.1, voice)
        out = np.zeros((BLOCK_FRAMES, 2), np.float32)

        def blocks(desk: engine.Desk = desk, out: np.ndarray = out) -> None:
            for _ in range(BLOCKS):
                engine.advance(desk, out, 0)

        blocks()
        if bool(np.abs(out).max() > 0.01) != bool(voices):
            raise SystemExit(f"{name}: not what it says")
        yield name, BLOCKS, blocks


def tflite_pieces(path: Path) -> Iterator[Piece]:
    """One inference, with the default delegate."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    yield "inference", 1, interpreter.invoke


def ncnn_pieces(path: Path) -> Iterator[Piece]:
    """One inference, with the options that ncnn's own benchmark sets; it, too, has weights of zero."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_winograd_convolution = net.opt.use_sgemm_convolution = net.opt.use_packing_layout = True
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = True
    net.load_param(str(path))
    net.load_model(ncnn.DataReaderFromEmpty())
    image = ncnn.Mat(np.zeros((3, 224, 224), np.float32)).clone()

    def inference() -> None:
        extractor = net.create_extractor()
        extractor.input("data", image)
        failed, _ = extractor.extract("output")
        if failed:
            raise SystemExit("ncnn: no output")

    yield "inference", 1, inference


if __name__ == "__main__":
    main(*sys.argv[1:])
