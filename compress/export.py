"""`darkrack export`: a run to a bundle, with the signal-to-noise ratio of every hop on the way.

torch -> ONNX -> ONNX Runtime, and torch -> float32 TFLite -> float16 and dynamic int8 -> LiteRT with and without
its delegate, and there from whole notes to slices; the other variants of `compress.quantize` where they are asked for.
Hops are compared in the network's output and in audio (`compress.prove`). The bundle is written only if every hop holds
its margin.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import io
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.prove import Hop, Jury, compare, hold, judged, summon
from compress.quantize import (
    DYNAMIC_INT8,
    FLOAT16,
    FLOAT32,
    MIXED,
    ONNX_INT8,
    STATIC_INT8,
    TENSORRT_OPSET,
    FloatArray,
    check_tensorrt,
    fine_tuned,
    onnx_int8,
    quantized,
    quietly,
    time_variants,
)
from device import bundle
from device.errors import DarkrackError
from device.generator import BEGIN, OUTPUT, SIGNATURE, SLICE, Network, snr_db
from device.knobs import Knobs
from device.partials import Partials
from device.stft import Stft

VARIANTS = (FLOAT32, FLOAT16, DYNAMIC_INT8, STATIC_INT8, MIXED)  # of TFLite
ALWAYS_PROVED = (FLOAT32, FLOAT16, DYNAMIC_INT8)
ONNX = "onnx"
CALIBRATION_NOTES = 128  # eight for each of 16 presets; more changed no variant by .3 dB
TUNED_NOTES = 32  # a step of fine-tuning
PROOF_NOTES = 24  # the first of them is golden
GOLDEN_NOTES = (
    1  # of 115 kB each: 64 x 128 noise in, 2 x 80 x 128 frames out; the bundle must stay under 1 MB
)

# Of a slice: 128 ms, which is six refreshes of a held note. Half as many would save another sixth: what is left are the
# dense layers and the coarse scales, which every slice needs.
SLICE_FRAMES = 16
PROOF_BEGINS = 6  # slices of each proof note, both ends of the note among them

# The least signal-to-noise ratio of each hop against torch, in dB. float32 hops only reorder sums: 80 is far below
# what they reach and far above what a wrong graph gives. float16 keeps 11 bits, 6.02 * 11 = 66 dB a weight, less
# what layers add up. int8 weights: 6.02 * 8 = 48 dB, less activations quantised on the way; mixed must not give less
# than dynamic_int8. Ranges that are fixed beforehand are up to twice those of a note, which is a bit: 18 - 6 = 12.
# Where they are symmetric as well, a leaky ReLU leaves .4 of them empty (it gives -.2 to 1 of -1 to 1):
# 12 + 20 * lg .6 = 7.6. Three trained runs have dynamic_int8 28 to 33, mixed 33 to 40, static_int8 24 to 29,
# onnx_int8 24 to 28.
# Audio after them: medians of 24 notes were under 1e-4 dB and cents for float32, .006 and .0003 for float16, .5 and .04
# for dynamic int8; the margins leave room for what another network loses on the way to the same ear.
MARGINS = {
    FLOAT32: Hop(80.0, 0.01, 0.01),
    FLOAT16: Hop(45.0, 0.1, 0.1),
    DYNAMIC_INT8: Hop(18.0, 3.0, 1.0),
    MIXED: Hop(18.0, 3.0, 1.0),
    STATIC_INT8: Hop(12.0, 4.0, 1.0),
    ONNX_INT8: Hop(7.6, 5.0, 2.0),
    ONNX: Hop(80.0, 0.01, 0.01),  # after onnx_int8: a hop goes by the first name that is in it
}
# On stft a phase that is a little off changes what bins add up to, most where there is little.
STFT_MARGINS = {**MARGINS, FLOAT16: Hop(40.0, 3.0, 3.0)}
# A slice is held against the same model's whole note: levels lie around .4, so 1e-6 is 20 log10(.4 / 1e-6) = 112 dB.
# With int8 the activations of a slice have ranges of their own.
SLICE_MARGINS_DB = {FLOAT32: 112.0, FLOAT16: 112.0, DYNAMIC_INT8: 18.0, MIXED: 18.0, STATIC_INT8: 12.0}


def plays_by_default(grid: Partials | Stft) -> str:
    """The variant that a bundle on this grid plays unless a jury chose: dynamic int8, on stft float16.

    There the phase is a running sum of what the network says: int8's errors add up.
    """
    return FLOAT16 if isinstance(grid, Stft) else DYNAMIC_INT8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack export`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that darkrack train filled")
    parser.add_argument("--out", type=Path, required=True, metavar="X.rack", help="the bundle to write")
    parser.add_argument("--name", help="what the instrument is called (default: the recipe's name)")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=[*VARIANTS, ONNX, ONNX_INT8],
        default=[],
        metavar="VARIANT",
        help="also ship these: float32, float16, static_int8, mixed, onnx, onnx_int8 (dynamic_int8, which plays by "
        "default, is always there; on the stft grid float16)",
    )
    parser.add_argument(
        "--fine-tune",
        type=int,
        default=0,
        metavar="STEPS",
        help="first train int8's weights that many steps against their own rounding (300 gave 3 to 4 dB)",
    )
    parser.add_argument(
        "--prove",
        type=Path,
        metavar="DIR",
        help="have every variant heard on these labelled notes: the fastest that sounds as float32 plays by default, "
        "and a bundle that sounds worse than its run is not written",
    )
    parser.add_argument(
        "--ear", action="append", default=[], metavar="NAME=PATH", help="who hears it, as darkrack evaluate"
    )
    parser.add_argument(
        "--against", type=Path, metavar="RUN", help="it must not sound worse than this run, either"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what the jury hears (default 0)")
    parser.add_argument(
        "--threads", type=int, default=1, help="notes generated and heard at a time (default 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the parity of every hop")


def run(args: argparse.Namespace) -> None:
    """Export a run; prints the hops and writes the bundle."""
    from device.files import write_json

    if args.fine_tune < 0:
        raise DarkrackError("--fine-tune", "0 or more steps", str(args.fine_tune))
    if args.against and not args.prove:
        raise DarkrackError("--against", "--prove DIR with it", "nothing to hear it on")
    if args.ear and not args.prove:
        raise DarkrackError("--ear", "--prove DIR with it", "nothing to hear")
    jury = Jury(args.prove, tuple(args.ear), args.against, args.seed, args.threads) if args.prove else None
    made = export(args.run, args.out, args.name, tuple(args.variants), fine_tune=args.fine_tune, jury=jury)
    manifest, parity = made.manifest, made.manifest.parity_db
    for hop, db in parity.items():
        print(f"{hop:<36}{db:7.1f} dB")
    size = args.out.stat().st_size
    sliced = (
        f", {manifest.slice.macs / 1e6:.1f} a slice of {manifest.slice.frames} frames"
        if manifest.slice
        else ""
    )
    print(
        f"{args.out}: {size} bytes, {manifest.parameters} parameters, {manifest.macs / 1e6:.1f} MMAC a note{sliced}"
    )
    proof = json.loads(made.files[bundle.MANIFEST])["quality"].get("proof")
    if proof:
        print(f"plays {manifest.default_variant} by default; FAD by {proof['ear']}, cents, correlation:")
        for name, one in proof["heard"].items():
            fad = one["fad"][proof["ear"]][0]
            print(f"{name:<16}{fad:8.2f}{one['pitch_cents']:8.2f}{one['correlation']:8.3f}")
    if args.json:
        slices = dataclasses.asdict(manifest.slice) if manifest.slice else None
        content = {
            "parity_db": dict(parity),
            "bytes": size,
            "macs": manifest.macs,
            "slice": slices,
            "proof": proof,
        }
        write_json(args.json, content)


def export(
    run_folder: Path,
    out: Path,
    name: str | None,
    extra: tuple[str, ...],
    *,
    fine_tune: int = 0,
    jury: Jury | None = None,
) -> bundle.Bundle:
    """Convert, prove and write; returns the bundle as read back.

    ``extra``: variants to ship besides. ``fine_tune``: steps that int8's weights are trained against their rounding.
    With a ``jury`` what plays by default is chosen, of these and float32. DarkrackError where a hop misses its margin,
    or the jury hears that something was lost.
    """
    import torch

    from compress.prune import count_macs
    from train.cost import spent
    from train.recipe import GrowingRecipe
    from train.runs import open_run, trimming

    opened = open_run(run_folder)
    generator, recipe, facts, inputs, shape = (
        opened.generator,
        opened.recipe,
        opened.facts,
        opened.inputs,
        opened.output,
    )
    grows = isinstance(recipe, GrowingRecipe)
    plays = plays_by_default(opened.grid)
    proved = {FLOAT32, plays, *extra} if grows else {*ALWAYS_PROVED, *extra}
    if not recipe.generator.attributes:
        raise DarkrackError(
            str(run_folder),
            "a run that was told attributes",
            "the baseline",
            "an instrument's knobs turn them",
        )
    presets = _presets(opened.latents, facts)
    proof = _whole_pitches(proof_inputs(inputs, presets, recipe.pitch_range_midi), whole=grows)
    with torch.no_grad():
        wanted = generator(*(torch.from_numpy(proof[key]) for key in inputs)).numpy()

    sample = [torch.zeros(size) for size in inputs.values()]
    if jury:
        summon(jury)

    def played(notes: int, seed: int) -> dict[str, FloatArray]:
        made = played_inputs(inputs, presets, recipe.pitch_range_midi, _knobs(facts), notes=notes, seed=seed)
        return _whole_pitches(made, whole=grows)

    calibration = played(CALIBRATION_NOTES, 1) if {STATIC_INT8, ONNX_INT8} & {*extra} else None
    slice_frames = None if grows else min(SLICE_FRAMES, recipe.grid.frames)
    float32 = to_tflite(generator, inputs, slice_frames)
    for_int8, onnx = float32, {ONNX: to_onnx(generator, inputs)}
    onnx_for_int8 = onnx[ONNX]
    if fine_tune:
        lessons = (played(TUNED_NOTES, 3 + step) for step in range(fine_tune))
        tensors = ([torch.from_numpy(lesson[key]) for key in inputs] for lesson in lessons)
        tuned = fine_tuned(generator, tensors, fine_tune)
        for_int8, onnx_for_int8 = to_tflite(tuned, inputs, slice_frames), to_onnx(tuned, inputs)
    models = {FLOAT32: compact(float32)}
    for variant in VARIANTS:
        if variant != FLOAT32 and variant in proved:
            source = for_int8 if variant in {DYNAMIC_INT8, STATIC_INT8} else float32
            models[variant] = compact(quantized(source, variant, calibration))
    if ONNX_INT8 in extra and calibration is not None:
        onnx[ONNX_INT8] = onnx_int8(onnx_for_int8, calibration)

    def against_torch(made: FloatArray) -> Hop:
        return compare(wanted, made, proof["pitch"][:, 0].tolist(), recipe.grid)

    names = {ONNX: "torch-onnxruntime", ONNX_INT8: f"torch-onnxruntime-{ONNX_INT8}"}
    hops = {names[kind]: against_torch(_run_onnx(model, proof)) for kind, model in onnx.items()}
    slices: dict[str, float] = {}
    reference: dict[str, FloatArray] = {}
    notes = [{key: proof[key][n : n + 1] for key in inputs} for n in range(PROOF_NOTES)]
    begins = np.linspace(0, recipe.grid.frames - (slice_frames or 0), PROOF_BEGINS).astype(int)
    for variant, model in models.items():
        for delegate, is_reference in (("xnnpack", False), ("reference", True)):
            where = f"{out}: variant {variant}"
            network = Network(model, where, inputs, shape, reference=is_reference, slice_frames=slice_frames)
            made = np.concatenate([network(note) for note in notes])
            hops[f"torch-litert-{variant}-{delegate}"] = against_torch(made)
            if slice_frames is not None:
                whole = np.concatenate([made[..., begin : begin + slice_frames] for begin in begins])
                parts = np.concatenate([network.slice(note, begin) for begin in begins for note in notes])
                slices[f"whole-slice-{variant}-{delegate}"] = snr_db(whole, parts)
            if is_reference:
                reference[variant] = made
    hold(str(out), hops, STFT_MARGINS if grows else MARGINS)
    for hop, db in slices.items():
        margin = next(least for key, least in SLICE_MARGINS_DB.items() if key in hop)
        if not db >= margin:
            expected = f"at least {margin:g} dB against the whole note"
            raise DarkrackError(f"{out}: {hop}", expected, f"{db:.1f} dB", "no bundle was written")

    asked = [plays, *(v for v in VARIANTS if v in extra and v != plays)]
    manifest: dict[str, Any] = {
        "name": name or recipe.name,
        "created": datetime.date.today().isoformat(),
        "representation": {"name": "stft" if grows else "partials", **dataclasses.asdict(recipe.grid)},
        "signature": {
            "inputs": {key: list(size) for key, size in inputs.items()},
            "output": {OUTPUT: list(shape)},
        },
        "pitch_range_midi": list(recipe.pitch_range_midi),
        "latent_size": recipe.generator.latent,
        "temperature": recipe.labels.temperature,
        "attributes": [
            {
                "name": attribute,
                "teacher": teacher,
                "quantiles": [round(value, 4) for value in table],
                "correlation": None,
            }
            for attribute, teacher, table in zip(
                facts["attributes"], facts["teachers"], facts["quantiles"], strict=True
            )
        ],
        "copula": [[round(value, 3) for value in row] for row in facts["copula"]],
        "presets": presets,
        "data": facts["sources"],
        "commit": _commit(),
        "recipe_sha256": facts["recipe_sha256"],
        "quality": {
            "trained_on": facts["notes"],
            "steps": facts["step"],
            "started_from": _began(facts),
            "remembered": facts.get("remembered", []),
            "trimmed": trimming(facts),
            "cost": spent(run_folder),
        },
        "macs": count_macs(generator, sample),
        "slice": None
        if slice_frames is None
        else {
            "frames": slice_frames,
            "macs": count_macs(_sliced(generator, slice_frames), [*sample, torch.zeros(1, 1)]),
        },
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "parity": {
            **{
                name: {
                    "snr_db": round(hop.snr_db, 2),
                    "lsd_db": round(hop.lsd_db, 4),
                    "cents": round(hop.cents, 4),
                }
                for name, hop in hops.items()
            },
            **{name: {"snr_db": round(db, 2)} for name, db in slices.items()},
        },
    }
    onnx_files = {}
    for kind, member in ((ONNX, bundle.ONNX), (ONNX_INT8, bundle.ONNX_INT8)):
        if kind in extra:
            check_tensorrt(onnx[kind], f"{out}: {member}")
            onnx_files[member] = onnx[kind]

    def write(
        path: Path, shipped: list[str], default: str, judgement: dict[str, Any] | None = None
    ) -> bundle.Bundle:
        golden = {key: values[:GOLDEN_NOTES] for key, values in proof.items()}
        golden[OUTPUT] = reference[default][:GOLDEN_NOTES]
        variants = {variant: {"file": f"generator.{variant}.tflite"} for variant in shipped}
        facts_of_it = {**manifest, "default_variant": default, "variants": variants}
        facts_of_it["quality"] = {**manifest["quality"], **({"proof": judgement} if judgement else {})}
        files = {f"generator.{variant}.tflite": models[variant] for variant in shipped} | onnx_files
        files[bundle.GOLDEN] = bundle.golden_npz(golden)
        files[bundle.CARD] = card(facts_of_it).encode("utf-8")
        return bundle.write(path, facts_of_it, files)

    if jury is None:
        return write(out, asked, plays)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / "candidate.rack"
        heard = {variant: models[variant] for variant in dict.fromkeys([*asked, FLOAT32])}
        write(candidate, list(heard), plays)
        times = time_variants(heard, notes[0], shape)
        sizes = {variant: len(model) for variant, model in heard.items()}
        default, judgement = judged(jury, run_folder, candidate, times=times, sizes=sizes, where=str(out))
    return write(out, list(dict.fromkeys([*asked, default])), default, judgement)


def proof_inputs(
    inputs: Mapping[str, tuple[int, ...]],
    presets: list[dict[str, Any]],
    pitch_range_midi: tuple[int, int],
    notes: int = PROOF_NOTES,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """Inputs as they are played: presets' attributes, z of the prior and of the presets, pitches between semitones."""
    random = np.random.default_rng(seed)
    attributes = np.array([presets[n % len(presets)]["attributes"] for n in range(notes)], np.float32)
    z = random.standard_normal((notes, inputs["z"][1]), np.float32)
    z[::2] = [presets[n % len(presets)]["z"] for n in range(0, notes, 2)]
    made = {
        "z": z,
        "attributes": attributes,
        "pitch": random.uniform(*pitch_range_midi, (notes, 1)).astype(np.float32),
        "velocity": random.uniform(0.2, 1, (notes, 1)).astype(np.float32),
    }
    if "noise" in inputs:
        made["noise"] = random.standard_normal((notes, *inputs["noise"][1:]), np.float32)
    return {name: made[name] for name in inputs}


def _whole_pitches(made: dict[str, FloatArray], *, whole: bool) -> dict[str, FloatArray]:
    """The same inputs, with the pitches that a network on `stft` is asked for."""
    return {**made, "pitch": np.rint(made["pitch"])} if whole else made


def played_inputs(
    inputs: Mapping[str, tuple[int, ...]],
    presets: list[dict[str, Any]],
    pitch_range_midi: tuple[int, int],
    knobs: Knobs,
    *,
    notes: int,
    seed: int,
) -> dict[str, FloatArray]:
    """Other notes than the proof's (``seed`` above 0), every second one with a knob turned, as the device turns it."""
    played = proof_inputs(inputs, presets, pitch_range_midi, notes, seed)
    random = np.random.default_rng([seed, 1])
    for note in random.permutation(notes)[::2]:
        turned = {str(random.choice(knobs.names)): random.uniform(0, 1)}
        played["attributes"][note] = knobs.vector(played["attributes"][note], turned)
    return played


def _knobs(facts: Mapping[str, Any]) -> Knobs:
    """The knobs that the bundle of this run will have."""
    tables = zip(facts["attributes"], facts["quantiles"], strict=True)
    return Knobs([bundle.Attribute(name, np.array(table), None) for name, table in tables], facts["copula"])


def _sliced(generator: Any, slice_frames: int) -> Callable[..., Any]:
    """The generator's slice behind the signature's names."""
    from train.networks import Condition

    def sliced(  # noqa: PLR0917 (the signature's)
        z: Any, attributes: Any, pitch: Any, velocity: Any, noise: Any, begin: Any
    ) -> Any:
        return generator.slice(z, Condition(attributes, pitch, velocity), noise, begin, slice_frames)

    return sliced


def to_tflite(
    generator: Any, inputs: Mapping[str, tuple[int, ...]], slice_frames: int | None = None
) -> bytes:
    """The generator as float32 TFLite, tensors named as the manifest names them.

    It has the signature `note`, and over the same weights `slice` (``slice_frames`` of its frames, from the input
    `begin` on), but for None.
    """
    with quietly():
        import litert_torch
        import torch

        class Signature(torch.nn.Module):
            def __init__(self, frames: Callable[..., Any]) -> None:
                super().__init__()
                self.generator = generator  # whose parameters the frames are made with
                self.frames = frames

            def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
                return {OUTPUT: self.frames(**tensors)}

        note = {key: torch.zeros(size) for key, size in inputs.items()}
        work = litert_torch.signature(SIGNATURE, Signature(generator).eval(), sample_kwargs=note)
        if slice_frames is not None:
            work = work.signature(
                SLICE,
                Signature(_sliced(generator, slice_frames)).eval(),
                sample_kwargs={**note, BEGIN: torch.zeros(1, 1)},
            )
        return bytes(work.convert().model_content())


def compact(model: bytes) -> bytes:
    """The same model without what nothing reads, and with what tensors have in common written once.

    The converter names every inner tensor by the path of its module: 20 kB of names in 800 kB of weights. The two
    signatures share weights, but each has its own tensors that name them, and with int8 their scales: 23 kB.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    class Once:
        """A table that is packed by whoever comes first; the others refer to it."""

        def __init__(self, table: Any) -> None:
            self.table, self.offset = table, None

        def Pack(self, builder: Any) -> Any:  # noqa: N802 (flatbuffers' name)
            if self.offset is None:
                self.offset = self.table.Pack(builder)
            return self.offset

    content = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    scales: dict[tuple[bytes, bytes, int], Once] = {}
    for graph in content.subgraphs:
        outer = {*graph.inputs, *graph.outputs}
        for number, tensor in enumerate(graph.tensors):
            if number not in outer:
                tensor.name = None
            found = tensor.quantization
            if found is None or found.scale is None:
                tensor.quantization = None
            else:
                key = found.scale.tobytes(), found.zeroPoint.tobytes(), found.quantizedDimension
                tensor.quantization = scales.setdefault(key, Once(found))
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))


def to_onnx(generator: Any, inputs: Mapping[str, tuple[int, ...]]) -> bytes:
    """The generator as one ONNX file, checked by onnx's own checker."""
    with quietly():
        import onnx
        import torch

        sample = tuple(torch.zeros(size) for size in inputs.values())
        # The default optimisation folds constants and leaves no sequences, which TensorRT does not take. It drops an
        # epsilon as small as 1e-8, too: the hop through ONNX Runtime would show it.
        program = torch.onnx.export(
            generator,
            sample,
            input_names=list(inputs),
            output_names=[OUTPUT],
            opset_version=TENSORRT_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        for node in model.graph.node:
            # The exporter writes opset 18 and steps down, but forgets this one: before 18 the parts of an even split
            # are counted by the outputs.
            if node.op_type == "Split":
                for attribute in [one for one in node.attribute if one.name == "num_outputs"]:
                    node.attribute.remove(attribute)
        onnx.checker.check_model(model, full_check=True)
        stream = io.BytesIO()
        onnx.save_model(model, stream)
        return stream.getvalue()


def _run_onnx(model: bytes, proof: Mapping[str, FloatArray]) -> FloatArray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    notes = len(next(iter(proof.values())))
    made = [
        session.run([OUTPUT], {key: value[n : n + 1] for key, value in proof.items()})[0]
        for n in range(notes)
    ]
    frames: FloatArray = np.concatenate(made)
    return frames


def _presets(latents: FloatArray, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, soft labels and z (P, Z) of the sounds to start from, rounded to what a knob can tell apart."""
    return [
        {
            "name": preset["name"],
            "attributes": [round(float(value), 4) for value in preset["attributes"]],
            "z": [round(float(value), 3) for value in z],
        }
        for preset, z in zip(facts["presets"], latents, strict=True)
    ]


def _began(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a run began with, and whether it is that which was trimmed, or the run itself."""
    started_from = facts.get("started_from")
    if not started_from:
        return None
    return {**started_from, "trimmed": "trimmed" in started_from and "trimmed" not in facts}


def _commit() -> str:
    """The commit this code stands at, with a + where files differ from it; "unknown" outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def card(manifest: Mapping[str, Any]) -> str:
    """CARD.md as export can write it: what it is, from what, how; the measured part is added by evaluate."""
    sources = "\n".join(f"- {s['name']} ({s['licence']}): {s['source']}" for s in manifest["data"])
    presets = ", ".join(preset["name"] for preset in manifest["presets"])
    knobs: dict[str, list[str]] = {}
    for attribute in manifest["attributes"]:
        knobs.setdefault(attribute["teacher"], []).append(attribute["name"])
    attributes = "\n".join(f"- of {teacher}: {', '.join(names)}" for teacher, names in knobs.items())
    parity = "\n".join(
        f"| {hop} | {value['snr_db']:.1f} | {value.get('lsd_db', '')} | {value.get('cents', '')} |"
        for hop, value in manifest["parity"].items()
    )
    grid, (low, high) = manifest["representation"], manifest["pitch_range_midi"]
    stands_on = (
        f"the partials grid ({grid['rows']} rows, {grid['frames']} frames at {grid['frame_rate_hz']:g} Hz)"
        if grid["name"] == "partials"
        else f"the stft grid ({grid['fft_samples']}/{grid['hop_samples']}, {grid['frames']} frames at "
        f"{grid['sample_rate_hz']} Hz)"
    )
    quality = manifest["quality"]
    trained_on, started_from = quality["trained_on"], quality["started_from"]
    began = (
        f" It began with the weights of {started_from['step']} steps by recipe {started_from['recipe_sha256']}."
        if started_from
        else ""
    )
    trimmed = quality["trimmed"]
    if trimmed:
        macs, weights = (manifest[key] / trimmed["parent"][key] for key in ("macs", "parameters"))
        before = "Before that it was trimmed" if started_from and started_from["trimmed"] else "Trimmed"
        began += (
            f"\n{before} to {macs:.1%} of its parent's MACs and {weights:.1%} of its weights "
            f"by {trimmed['criterion']}, in {trimmed['rounds']} rounds of {trimmed['steps']} steps together."
        )
    remembered = quality["remembered"]
    if remembered:
        hours = sum(one["cost"].get("core_seconds", 0.0) for one in remembered) / 3600
        began += (
            f"\nIts ear learned from what {len(remembered)} runs had heard, in {hours:.2g} hours of a core."
        )
    cost = quality["cost"]
    if cost:
        began += (
            f"\nTraining, with what it started from, took {cost['steps']:.0f} steps, {cost['core_seconds'] / 3600:.2g} "
            f"hours of a core and {cost['joules'] / 3.6e6:.2g} kWh ({'; '.join(cost['joules_from'])})."
        )
    return f"""# {manifest["name"]}

A Darkrack voice on {stands_on},
trained on MIDI {low} to {high}. {manifest["parameters"]} parameters, {manifest["macs"] / 1e6:.1f} MMAC a note.
Made on {manifest["created"]} from commit {manifest["commit"]}, recipe SHA-256 {manifest["recipe_sha256"]},
{quality["steps"]} steps on {trained_on["train"]} notes; {trained_on["unseen_notes"]} notes of the same instruments and
all {trained_on["unseen_instruments"]} notes of held-out instruments were never seen.{began}

## Data and licence

{sources}

The weights are Darkrack's own, Apache-2.0.

## Knobs

Soft labels at temperature {manifest["temperature"]:g}:

{attributes}

Sounds to start from: {presets}.

## Parity

On {PROOF_NOTES} notes (`darkrack export`): signal-to-noise ratio of the network's output against torch (of slices
against whole notes) in dB; of the notes played, log-spectral distance in dB and difference of pitch in cents, medians.

| hop | signal to noise | spectral distance | cents |
|---|---|---|---|
{parity}

## Measured

Not yet: `darkrack evaluate {manifest["name"]}.rack --data DIR --weights mn04_as.onnx --update-card`.
"""
