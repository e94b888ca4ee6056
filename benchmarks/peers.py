"""`python -m benchmarks.peers`: a bundle and its peers side by side, in one run, on one thread, in turns.

The peers are rebuilt by their published sizes with random weights, which cost what trained ones cost. Where there is
more than one way to run a peer, all are measured. What each figure is, `docs/peers.md` says as well:

- note: one inference of a network that makes a whole note at once.
- held: all that a second of sound of one note takes that is held and not turned: network, decoding, synthesis.
- morphing: all that a second of 8 voices takes whose timbre is turned all the time. Ours, and what makes whole notes,
  makes frames anew 50 times a second for each voice; the others are steered with every one of their own frames.
- first: what has to be computed before the first sample can sound; step: how much sound a call makes at least.

`worked out` stands for what was not run but multiplied: nobody waits for 400 notes of 0.2 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command, turns
from benchmarks.turns import Floats
from device import bundle as bundles
from device.errors import DarkrackError
from device.files import write_json
from device.partials import Partials

FORMAT = 1
SCHEMA = Path(__file__).with_name("peers.schema.json")
RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "darkgan.toml"
ROUNDS, QUICK_ROUNDS = 40, 5
VOICES = 8
KEY_MIDI = 48.0  # of the held note: 61 partials lie under 8 kHz, 122 under 16
CHORD_MIDI = (48.0, 52.0, 55.0, 59.0, 62.0, 64.0, 67.0, 71.0)
REFRESH_HZ = 50  # of each of our voices while a knob turns (device.worker.REFRESH_HZ, docs/realtime.md)
BLOCK_SAMPLES = 128
CALLBACK_BLOCKS = (128, 1024)
SECOND = 48_000  # samples of ours and RAVE's
AIMS = {"note": 1000.0, "held": 25.0}  # that were set before anything was measured

NOTE, HELD, MORPHING, FIRST = KINDS = ("note", "held", "morphing", "first")
HEADS = {
    NOTE: "a note, inference",
    HELD: "a second of a held note",
    MORPHING: f"a second of {VOICES} morphing voices",
    FIRST: "before the first sample",
}


@dataclass(frozen=True)
class Part:
    """Where a figure comes from: a task's time, times ``factor``; ``worked_out`` if the factor stands for more runs."""

    task: str
    factor: float = 1.0
    worked_out: bool = False


@dataclass(frozen=True, eq=False)
class Peer:
    """One that takes turns. ``step_s``: how much sound its smallest call makes (0: any number of samples).

    ``macs``: of the network, for a second of a held note. ``bytes``: of the weights, as they are shipped. ``says``:
    what else has to be known of the row.
    """

    name: str
    runtime: str
    tasks: Mapping[str, Callable[[], object]]
    parts: Mapping[str, Part]
    step_s: float
    parameters: int | None = None
    macs: int | None = None
    bytes: int | None = None
    says: str = ""


@dataclass(frozen=True)
class Material:
    """Files that the peers are built from; a process of its own builds its peer from the same ones."""

    bundle: Path  # with a variant float32
    shipped: Path  # the one that was named
    font: Path | None = None
    models: Mapping[str, Path] = field(default_factory=dict)  # what was converted


# ---- The contestants ----


def ours(material: Material, variant: str | None) -> Peer:
    """A bundle, as `darkrack render` plays it: knobs, network, decoding, voices."""
    from benchmarks.ours import Callback
    from device.generator import Generator
    from device.maker import Maker
    from device.patch import Patch
    from device.performance import MORPH_SAMPLES, Performance
    from device.voices import bank_for

    bundle = bundles.read(material.bundle, replay=False)
    manifest = bundle.manifest
    grid = manifest.representation
    if not isinstance(grid, Partials) or not manifest.attributes or not manifest.presets:
        raise DarkrackError(
            str(material.shipped),
            "a bundle on partials with knobs and presets",
            "another",
            "name one that morphs",
        )
    variant = manifest.default_variant if variant is None else variant
    generator, maker = Generator(bundle, variant), Maker(bundle, variant)
    preset = manifest.presets[0]
    one = Performance(bundle, Patch(), voices=1, variant=variant)
    eight = Performance(bundle, Patch(), voices=VOICES, variant=variant)
    knob = manifest.attributes[0].name
    bank = bank_for(grid, SECOND)
    callback = Callback(1, grid.rows)
    block = np.zeros((BLOCK_SAMPLES, 2), np.float32)
    ready = maker.note(preset.z, preset.attributes, KEY_MIDI, 0.8, 1)

    def note() -> object:
        return generator.note(preset.z, preset.attributes, KEY_MIDI, 0.8, 1)

    def held() -> None:
        one.silence()
        one.note_on(0, KEY_MIDI, 0.8)
        one.render(SECOND)

    def morphing() -> None:
        eight.silence()
        before = eight.counts.morphs
        for key, pitch_midi in enumerate(CHORD_MIDI):
            eight.note_on(key, pitch_midi, 0.8)
        for n in range(SECOND // MORPH_SAMPLES):
            eight.set_attribute(knob, (n % 20) / 20)
            eight.render(MORPH_SAMPLES)
        done = eight.counts.morphs - before
        assert done == VOICES * REFRESH_HZ, f"{done} morphs in a second"

    def first(made: Callable[[], Any]) -> Callable[[], None]:
        def sounds() -> None:
            frames, made_for_hz = made()
            bank.start(0, frames, made_for_hz)
            bank.render(block)

        return sounds

    tasks: dict[str, Callable[[], object]] = {
        "note": note,
        "held": held,
        "morphing": morphing,
        "shelf": first(lambda: ready),
        "own": first(lambda: maker.note(preset.z, preset.attributes, KEY_MIDI, 0.8, 1)),
        **{f"callback {block}": partial(callback.render, SECOND, block) for block in CALLBACK_BLOCKS},
    }
    parts = {NOTE: Part("note"), HELD: Part("held"), MORPHING: Part("morphing"), FIRST: Part("own")}
    parts["first, from the shelf"] = Part("shelf")
    for samples in CALLBACK_BLOCKS:
        parts[f"a second of the callback, one voice of {grid.rows} partials, blocks of {samples}"] = Part(
            f"callback {samples}"
        )
    if generator.slice_frames is not None:
        tasks["slice"] = lambda: generator.slice(preset.z, preset.attributes, KEY_MIDI, 0.8, 1, begin=0)
        parts[f"a slice of {generator.slice_frames} frames"] = Part("slice")
    shipped = variant in bundles.read(material.shipped, replay=False).manifest.variants
    says = f"{manifest.name}, {variant}" + ("" if shipped else ", its weights written out as float32")
    return Peer(
        f"Darkrack ({variant})",
        "LiteRT",
        tasks,
        parts,
        step_s=0.0,
        parameters=manifest.parameters,
        macs=manifest.macs,
        bytes=len(bundle.model(variant)),
        says=says,
    )


def darkgan(_: Material) -> Peer:
    """The paper's generator, `train.darkgan` by `recipes/darkgan.toml`, in torch."""
    import torch

    network, recipe, example = _darkgan()

    def inferred() -> np.ndarray:
        with torch.inference_mode():
            made: np.ndarray = network(*example).numpy()
        return made

    return _of_notes("DarkGAN", "torch float32", inferred, recipe.grid, network, example)


def darkgan_litert(material: Material) -> Peer:
    """The same through LiteRT."""
    from device.generator import Network
    from train import growing

    _, recipe, _ = _darkgan()
    inputs = growing.input_shapes(recipe, recipe.labels.teachers[0].attributes)
    shape = (1, 2, recipe.grid.bins, recipe.grid.frames)
    model = material.models["darkgan"].read_bytes()
    network = Network(model, "DarkGAN", inputs, shape)
    given = {name: np.full(size, 0.5, np.float32) for name, size in inputs.items()}
    given["pitch"][:] = 60
    peer = _of_notes("DarkGAN", "LiteRT float32", lambda: network(given), recipe.grid, None, ())
    return dataclasses.replace(peer, bytes=len(model))


def _darkgan() -> tuple[Any, Any, list[Any]]:
    """The paper's generator as it plays, its recipe, and what it is asked."""
    import torch

    from train import growing
    from train.darkgan import Generator
    from train.recipe import GrowingRecipe, read_recipe

    recipe, _ = read_recipe(RECIPE)
    assert isinstance(recipe, GrowingRecipe)
    attributes = recipe.labels.teachers[0].attributes
    torch.manual_seed(0)
    network = Generator(recipe.generator, attributes, recipe.pitch_range_midi)
    inputs = growing.input_shapes(recipe, attributes)
    example = [torch.full(size, 60.0 if name == "pitch" else 0.5) for name, size in inputs.items()]
    return network.finished(torch.zeros(2), torch.ones(2)), recipe, example


def gansynth(_: Material) -> Peer:
    """`benchmarks.gansynth` in torch."""
    import torch

    from benchmarks import gansynth as published

    network = published.Generator().eval().requires_grad_(False)
    example = [torch.randn(1, published.LATENT), torch.eye(published.PITCHES)[:1]]

    def inferred() -> np.ndarray:
        with torch.inference_mode():
            made: np.ndarray = network(*example).numpy()
        return made

    return _of_notes("GANSynth", "torch float32", inferred, published.GRID, network, example)


def _of_notes(  # noqa: PLR0917 (what a peer of this kind is)
    name: str,
    runtime: str,
    inferred: Callable[[], np.ndarray],
    grid: Any,
    network: Any,
    example: Sequence[Any],
) -> Peer:
    """One that makes a whole note at once, on a grid that `device.stft` inverts."""
    from device.stft import invert

    note_s = grid.samples / grid.sample_rate_hz
    notes = float(VOICES * REFRESH_HZ)
    macs = None
    if network is not None:
        from compress.prune import count_macs

        macs = round(count_macs(network, example) / note_s)
    return Peer(
        name,
        runtime,
        {"note": inferred, "heard": lambda: invert(inferred(), grid)},
        {
            NOTE: Part("note"),
            HELD: Part("heard", 1 / note_s),
            MORPHING: Part("heard", notes, worked_out=True),
            FIRST: Part("heard"),
        },
        step_s=note_s,
        parameters=None if network is None else _parameters(network),
        macs=macs,
        bytes=None if network is None else _bytes(network),
        says=f"{note_s:.2f} s a note at {grid.sample_rate_hz / 1e3:g} kHz",
    )


def rave(_: Material, *, raspberry: bool = False, whole: bool = False) -> Peer:
    """`benchmarks.rave` in torch: a latent frame a call, as it streams, or a ``whole`` second a call."""
    import torch

    from benchmarks.rave import RASPBERRY, RATE_HZ, V1, Decoder
    from compress.prune import count_macs

    shape = RASPBERRY if raspberry else V1
    frames = round(RATE_HZ / shape.block_samples) if whole else 1
    sound_s = frames * shape.block_samples / RATE_HZ
    networks = {voices: Decoder(shape).eval().requires_grad_(False) for voices in (1, VOICES)}

    def called(voices: int) -> Callable[[], object]:
        latent = torch.randn(voices, shape.latent, frames)

        def call() -> object:
            with torch.inference_mode():
                return networks[voices](latent)

        return call

    macs = count_macs(Decoder(shape), [torch.zeros(1, shape.latent, 24)])
    return Peer(
        f"RAVE {'raspberry' if raspberry else 'v1'} decoder, {'a second' if whole else 'a frame'} a call",
        "torch float32",
        {"one": called(1), "eight": called(VOICES)},
        {
            HELD: Part("one", 1 / sound_s),
            MORPHING: Part("eight", 1 / sound_s),
            **({} if whole else {FIRST: Part("one")}),
        },
        step_s=sound_s,
        parameters=_parameters(networks[1]),
        macs=round(macs / (24 * shape.block_samples / RATE_HZ)),
        bytes=_bytes(networks[1]),
        says=f"48 kHz, {shape.block_samples} samples a latent frame; 8 voices as a batch",
    )


def rave_litert(material: Material) -> Peer:
    """The v1 decoder without its noise through LiteRT, a latent frame a call."""
    from ai_edge_litert.interpreter import Interpreter

    from benchmarks.rave import RATE_HZ, V1

    model = material.models["rave"].read_bytes()
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]
    interpreter.set_tensor(place["index"], np.ones(place["shape"], np.float32))
    sound_s = V1.block_samples / RATE_HZ
    return Peer(
        "RAVE v1 decoder without noise, a frame a call",
        "LiteRT float32",
        {"one": interpreter.invoke},
        {
            HELD: Part("one", 1 / sound_s),
            MORPHING: Part("one", VOICES / sound_s, worked_out=True),
            FIRST: Part("one"),
        },
        step_s=sound_s,
        bytes=len(model),
        says="48 kHz; what a convolution keeps of the frame before is taken for zero, which costs the same",
    )


def ddsp(_: Material, *, vst: bool = False) -> Peer:
    """`benchmarks.ddsp` in torch: decoder, oscillators and noise; a second a call, or a frame for the first sample."""
    import torch

    from benchmarks.ddsp import AUTOENCODER, VST, Decoder, frames
    from compress.prune import count_macs

    shape = VST if vst else AUTOENCODER
    rate = shape.frame_rate_hz
    networks = {key: Decoder(shape).eval().requires_grad_(False) for key in ("one", "eight", "first")}

    def called(key: str, voices: int, count: int) -> Callable[[], object]:
        inputs = frames(shape, voices, count)

        def call() -> object:
            with torch.inference_mode():
                return networks[key](inputs)

        return call

    class Flat(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = networks["first"](inputs)
            return made

    return Peer(
        "DDSP-VST decoder" if vst else "DDSP autoencoder's decoder",
        "torch float32",
        {
            "one": called("one", 1, rate),
            "eight": called("eight", VOICES, rate),
            "first": called("first", 1, 1),
        },
        {HELD: Part("one"), MORPHING: Part("eight"), FIRST: Part("first")},
        step_s=1 / rate,
        parameters=_parameters(networks["one"]),
        macs=count_macs(Flat(), frames(shape, 1, rate)),
        bytes=_bytes(networks["one"]),
        says=f"16 kHz, {rate} frames a second, a second a call; 8 voices as a batch; no reverberation",
    )


def fluidsynth(material: Material) -> Peer:
    """A SoundFont's first program through fluidsynth."""
    from benchmarks.sampler import BLOCK_SAMPLES as STEP
    from benchmarks.sampler import EXPRESSION, MODULATION, RATE_HZ, Sampler

    assert material.font is not None
    one, eight, first = (Sampler(material.font) for _ in range(3))

    def held() -> None:
        one.silence()
        one.start(0, int(KEY_MIDI))
        one.render(RATE_HZ)

    def turned() -> None:
        eight.silence()
        for channel, key in enumerate(CHORD_MIDI):
            eight.start(channel, int(key))
        for n in range(REFRESH_HZ):
            for channel in range(VOICES):
                eight.turn(channel, MODULATION, n % 20)
                eight.turn(channel, EXPRESSION, 100 + n % 20)
            eight.render(RATE_HZ // REFRESH_HZ)

    def sounds() -> None:
        first.start(0, int(KEY_MIDI))
        first.render(STEP)

    return Peer(
        "fluidsynth",
        "its own, C",
        {"held": held, "morphing": turned, "first": sounds},
        {HELD: Part("held"), MORPHING: Part("morphing"), FIRST: Part("first")},
        step_s=STEP / RATE_HZ,
        bytes=material.font.stat().st_size,
        says=f"{material.font.name}, 48 kHz, no reverberation or chorus; its timbre does not morph: expression and "
        "modulation wheel of each voice move 50 times a second instead",
    )


OURS = "darkrack"
RAVES = ("rave", "rave-whole", "rave-litert")  # the ways to run the published size
# What `--only` names: (how it is built, what is imported before its own memory is counted).
BUILDERS: dict[str, tuple[Callable[[Material], Peer], tuple[str, ...]]] = {
    OURS: (lambda material: ours(material, None), ("ai_edge_litert.interpreter", "numba")),
    "darkrack-float32": (lambda material: ours(material, "float32"), ("ai_edge_litert.interpreter", "numba")),
    "darkgan": (darkgan, ("torch",)),
    "darkgan-litert": (darkgan_litert, ("ai_edge_litert.interpreter",)),
    "gansynth": (gansynth, ("torch",)),
    "rave": (rave, ("torch",)),
    "rave-whole": (lambda material: rave(material, whole=True), ("torch",)),
    "rave-litert": (rave_litert, ("ai_edge_litert.interpreter",)),
    "rave-raspberry": (lambda material: rave(material, raspberry=True), ("torch",)),
    "ddsp": (ddsp, ("torch",)),
    "ddsp-vst": (lambda material: ddsp(material, vst=True), ("torch",)),
    "fluidsynth": (fluidsynth, ()),
}


def _parameters(network: Any) -> int:
    return sum(one.numel() for name, one in network.named_parameters() if not name.startswith("synthesis"))


def _bytes(network: Any) -> int:
    """Of the file that torch would ship."""
    import torch

    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    return len(file.getvalue())


# ---- The command ----


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle to compare, *.rack")
    parser.add_argument(
        "--soundfont", type=Path, metavar="SF2", help="what fluidsynth plays; without it, it is left out"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(BUILDERS),
        metavar="PEER",
        help=f"beside {OURS}: {', '.join(BUILDERS)}",
    )
    parser.add_argument("--rounds", type=command.count, metavar="N", help=f"turns of each (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds; for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    names = [name for name in BUILDERS if args.only is None or name == OURS or name in args.only]
    if args.soundfont is None:
        if args.only and "fluidsynth" in args.only:
            raise DarkrackError("--soundfont", "a SoundFont, because fluidsynth is asked for", "none")
        names = [name for name in names if name != "fluidsynth"]
    else:
        from train.soundfont import read_presets

        read_presets(args.soundfont)  # says better than fluidsynth what is wrong with a file
    facts = command.machine(["torch", "ai-edge-litert", "numba", "numpy"])
    with tempfile.TemporaryDirectory() as folder:
        material = _material(args, names, Path(folder))
        peers = {name: BUILDERS[name][0](material) for name in names}
        tasks = {f"{name}: {key}": task for name, peer in peers.items() for key, task in peer.tasks.items()}
        with torch.inference_mode():
            taken = turns.taken_s(tasks, rounds)
        memory = {
            name: _alone(name, material)
            for name in tqdm(names, desc="memory", disable=not sys.stderr.isatty(), leave=False)
        }
    content = {
        "format": FORMAT,
        "command": _command(args),
        "machine": facts,
        "bundle": args.bundle.name,
        "bundle_bytes": args.bundle.stat().st_size,
        "rounds": rounds,
        "voices": VOICES,
        "refresh_hz": REFRESH_HZ,
        "confidence": turns.CONFIDENCE,
        "peers": [_row(name, peer, peers[OURS], taken, memory[name]) for name, peer in peers.items()],
    }
    content["aims"] = list(_aims(content["peers"]))
    print(markdown(content))
    if args.json is not None:
        write_json(args.json, content)


def _material(args: argparse.Namespace, names: Sequence[str], folder: Path) -> Material:
    """What has to be made before any peer is built."""
    bundle = bundles.read(args.bundle)
    models: dict[str, Path] = {}
    if "darkgan-litert" in names:
        from compress.export import to_tflite
        from train import growing

        network, recipe, _ = _darkgan()
        inputs = growing.input_shapes(recipe, recipe.labels.teachers[0].attributes)
        models["darkgan"] = folder / "darkgan.tflite"
        models["darkgan"].write_bytes(to_tflite(network, inputs))
    if "rave-litert" in names:
        models["rave"] = folder / "rave.tflite"
        models["rave"].write_bytes(_rave_tflite())
    path = args.bundle
    if "darkrack-float32" in names:
        from benchmarks.ours import with_float32

        path = with_float32(bundle, folder / "float32.rack").path
    return Material(path, args.bundle, args.soundfont, models)


def _rave_tflite() -> bytes:
    import torch

    from benchmarks.rave import V1, Decoder
    from compress.quantize import quietly

    with quietly():
        import litert_torch

        network = Decoder(dataclasses.replace(V1, noise=False)).eval().requires_grad_(False)
        return bytes(litert_torch.convert(network, (torch.zeros(1, V1.latent, 1),)).model_content())


def _alone(name: str, material: Material) -> tuple[int, int] | None:
    """Memory of a process of its own that builds one peer and calls each of its tasks once.

    Bytes: with no more than the runtime imported, and at the peak. None where the system does not say (it is Linux that
    has /proc). A peak from getrusage would count what this process had when it forked.
    """
    if not Path("/proc/self/status").is_file():
        return None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, material))


def _peak(name: str, material: Material) -> tuple[int, int]:
    build, imports = BUILDERS[name]
    for module in imports:
        importlib.import_module(module)
    if "torch" in imports:
        import torch

        torch.set_num_threads(1)
    before = _status_bytes("VmRSS")
    for task in build(material).tasks.values():
        task()
    return before, _status_bytes("VmHWM")


def _status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{key}:"))


def _command(args: argparse.Namespace) -> str:
    words = ["python -m benchmarks.peers", f"models/{args.bundle.name}"]
    if args.soundfont is not None:
        words += ["--soundfont", args.soundfont.name]
    if args.only:
        words += ["--only", *args.only]
    if args.rounds:
        words += ["--rounds", str(args.rounds)]
    return " ".join([*words, "--quick"] if args.quick else words)


def _seconds(name: str, part: Part, taken: Mapping[str, Floats]) -> Floats:
    return taken[f"{name}: {part.task}"] * part.factor


def _row(
    name: str, peer: Peer, yardstick: Peer, taken: Mapping[str, Floats], memory: tuple[int, int] | None
) -> dict[str, Any]:
    figures = {}
    for kind, part in peer.parts.items():
        seconds = _seconds(name, part, taken)
        same = yardstick.parts.get(kind)
        against = turns.ratio(seconds, _seconds(OURS, same, taken)) if same is not None else None
        figures[kind] = {
            "ms": list(turns.summary(1e3 * seconds)),
            "ratio": None if against is None else list(against),
            "worked_out": part.worked_out,
        }
    return {
        "peer": name,
        "name": peer.name,
        "runtime": peer.runtime,
        "says": peer.says,
        "parameters": peer.parameters,
        "macs_per_second": peer.macs,
        "bytes": peer.bytes,
        "step_ms": 1e3 * peer.step_s,
        "memory_before_bytes": None if memory is None else memory[0],
        "memory_peak_bytes": None if memory is None else memory[1],
        "figures": figures,
    }


def _aims(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What was aimed for beside what it is; of RAVE every way to run it, because one may choose between them."""
    for kind, peers in ((NOTE, ("darkgan",)), (HELD, RAVES), (MORPHING, RAVES)):
        for row in rows:
            if row["peer"] in peers:
                figure = row["figures"][kind]
                yield {
                    "what": f"{row['name']}, {row['runtime']}: {HEADS[kind]}",
                    "aim": AIMS.get(kind),
                    "is": figure["ratio"],
                    "worked_out": figure["worked_out"],
                }


# ---- The tables ----


def markdown(content: Mapping[str, Any]) -> str:
    """All of it as tables."""
    rows = content["peers"]
    cost = [["peer", "runtime", *(HEADS[kind] + ", ms" for kind in KINDS), "step, ms"]]
    for row in rows:
        cells = [_cell(row["figures"].get(kind)) for kind in KINDS]
        cost.append(
            [row["name"], row["runtime"], *cells, command.digits(row["step_ms"]) if row["step_ms"] else "any"]
        )
    against = [["peer", "runtime", *(HEADS[kind] for kind in KINDS)]]
    against += [
        [row["name"], row["runtime"], *(_times(row["figures"].get(kind)) for kind in KINDS)] for row in rows
    ]
    size = [["peer", "runtime", "parameters", "MMAC for a second of a held note", "weights, kB", "peak memory, MB",
             "of it before the model, MB", "what else"]]  # fmt: skip
    for row in rows:
        size.append([
            row["name"], row["runtime"], _scaled(row["parameters"], 1e6, "M"), _scaled(row["macs_per_second"], 1e6),
            _scaled(row["bytes"], 1e3), _scaled(row["memory_peak_bytes"], 1e6),
            _scaled(row["memory_before_bytes"], 1e6),
            row["says"],
        ])  # fmt: skip
    more = [["of ours", "ms"]]
    for row in rows:
        for kind, figure in row["figures"].items():
            if kind not in KINDS:
                more.append([f"{row['name']}: {kind}", _cell(figure)])
    aims = [["peer, as many times as ours takes", "aim", "is"]]
    aims += [
        [
            one["what"],
            "none" if one["aim"] is None else f"{one['aim']:g}",
            _times({"ratio": one["is"], **one}),
        ]
        for one in content["aims"]
    ]
    return "\n\n".join([
        command.said(content["machine"]),
        f"{content['bundle']} ({content['bundle_bytes'] / 1e3:.0f} kB), one thread, "
        f"{content['rounds']} rounds in turns; "
        f"medians of processor "
        f"time, with {100 * content['confidence']:g} % intervals. * worked out, not run.",
        command.table(cost), "As many times as ours takes:", command.table(against),
        *(command.table(rows) for rows in (size, more, aims)),
    ])  # fmt: skip


def _cell(figure: Mapping[str, Any] | None) -> str:
    return "–" if figure is None else command.interval(figure["ms"]) + ("*" if figure["worked_out"] else "")


def _times(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["ratio"] is None:
        return "–"
    return command.interval(figure["ratio"]) + ("*" if figure["worked_out"] else "")


def _scaled(value: float | None, unit: float, after: str = "") -> str:
    return "–" if value is None else command.digits(value / unit) + (f" {after}" if after else "")


def main(words: Sequence[str] | None = None) -> int:
    """The command; see `command.main`."""
    return command.main("peers", (__doc__ or "").splitlines()[0], add_arguments, run, words)


if __name__ == "__main__":
    sys.exit(main())
