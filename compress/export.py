"""`darkrack export`: a run to a bundle, with the signal-to-noise ratio of every hop on the way.

torch -> ONNX -> ONNX Runtime, and torch -> float32 TFLite -> float16 and dynamic int8 -> LiteRT with and without
its delegate. The bundle is written only if every hop holds its margin.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import io
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device import bundle
from device.errors import DarkrackError
from device.generator import OUTPUT, SIGNATURE, Network

FloatArray = npt.NDArray[np.float32]

DEFAULT_VARIANT = "dynamic_int8"
VARIANTS = ("float32", "float16", DEFAULT_VARIANT)
PROOF_NOTES = 24  # the first of them is golden
GOLDEN_NOTES = (
    1  # of 115 kB each: 64 x 128 noise in, 2 x 80 x 128 frames out; the bundle must stay under 1 MB
)

# The least signal-to-noise ratio of each hop against torch, in dB. float32 hops only reorder sums: 80 is far below
# what they reach and far above what a wrong graph gives. float16 keeps 11 bits, 6.02 * 11 = 66 dB a weight, less
# what layers add up. int8 weights: 6.02 * 8 = 48 dB, less activations quantised on the way.
MARGINS_DB = {"float32": 80.0, "onnx": 80.0, "float16": 45.0, DEFAULT_VARIANT: 18.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack export`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that darkrack train filled")
    parser.add_argument("--out", type=Path, required=True, metavar="X.rack", help="the bundle to write")
    parser.add_argument("--name", help="what the instrument is called (default: the recipe's name)")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=[*VARIANTS, "onnx"],
        default=[],
        metavar="VARIANT",
        help="also ship these: float32, float16, onnx (dynamic_int8, which plays by default, is always there)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the parity of every hop")


def run(args: argparse.Namespace) -> None:
    """Export a run; prints the hops and writes the bundle."""
    from device.files import write_json

    made = export(args.run, args.out, args.name, tuple(args.variants))
    parity = made.manifest.parity_db
    for hop, snr_db in parity.items():
        print(f"{hop:<32}{snr_db:7.1f} dB")
    size = args.out.stat().st_size
    print(
        f"{args.out}: {size} bytes, {made.manifest.parameters} parameters, {made.manifest.macs / 1e6:.1f} MMAC a note"
    )
    if args.json:
        write_json(args.json, {"parity_db": dict(parity), "bytes": size, "macs": made.manifest.macs})


def export(run_folder: Path, out: Path, name: str | None, extra: tuple[str, ...]) -> bundle.Bundle:
    """Convert, prove and write; returns the bundle as read back. DarkrackError where a hop misses its margin."""
    import torch

    from compress.prune import count_macs
    from train.stages import input_shapes, load_generator

    generator, encoder, recipe, facts = load_generator(run_folder)
    presets = _presets(run_folder, encoder, facts)
    inputs = input_shapes(recipe, len(facts["attributes"]))
    shape = (1, 2, recipe.grid.rows, recipe.grid.frames)
    proof = proof_inputs(inputs, presets, recipe.pitch_range_midi)
    with torch.no_grad():
        wanted = generator(*(torch.from_numpy(proof[key]) for key in inputs)).numpy()

    float32 = to_tflite(generator, inputs)
    models = {
        "float32": float32,
        "float16": quantized(float32, "float16"),
        DEFAULT_VARIANT: quantized(float32, DEFAULT_VARIANT),
    }
    onnx = to_onnx(generator, inputs)
    parity: dict[str, float] = {"torch-onnxruntime": snr_db(wanted, _run_onnx(onnx, proof))}
    reference: dict[str, FloatArray] = {}
    for variant, model in models.items():
        for delegate, is_reference in (("xnnpack", False), ("reference", True)):
            network = Network(model, f"{out}: variant {variant}", inputs, shape, reference=is_reference)
            made = np.concatenate(
                [network({key: proof[key][n : n + 1] for key in inputs}) for n in range(PROOF_NOTES)]
            )
            parity[f"torch-litert-{variant}-{delegate}"] = snr_db(wanted, made)
            if is_reference:
                reference[variant] = made
    _hold(out, parity)

    shipped = [DEFAULT_VARIANT, *(v for v in VARIANTS if v in extra and v != DEFAULT_VARIANT)]
    golden = {key: values[:GOLDEN_NOTES] for key, values in proof.items()}
    golden[OUTPUT] = reference[DEFAULT_VARIANT][:GOLDEN_NOTES]
    manifest: dict[str, Any] = {
        "name": name or recipe.name,
        "created": datetime.date.today().isoformat(),
        "default_variant": DEFAULT_VARIANT,
        "variants": {variant: {"file": f"generator.{variant}.tflite"} for variant in shipped},
        "representation": {"name": "partials", **dataclasses.asdict(recipe.grid)},
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
            "started_from": facts.get("started_from"),
            "trimmed": _origin(facts.get("trimmed")),
        },
        "macs": count_macs(generator, [torch.zeros(size) for size in inputs.values()]),
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "parity": {hop: {"snr_db": round(value, 2)} for hop, value in parity.items()},
    }
    files = {f"generator.{variant}.tflite": models[variant] for variant in shipped}
    files[bundle.GOLDEN] = bundle.golden_npz(golden)
    files[bundle.CARD] = card(manifest).encode("utf-8")
    if "onnx" in extra:
        files[bundle.ONNX] = onnx
    return bundle.write(out, manifest, files)


def proof_inputs(
    inputs: Mapping[str, tuple[int, ...]], presets: list[dict[str, Any]], pitch_range_midi: tuple[int, int]
) -> dict[str, FloatArray]:
    """Inputs as they are played: presets' attributes, z of the prior and of the presets, pitches between semitones."""
    random = np.random.default_rng(0)
    attributes = np.array([presets[n % len(presets)]["attributes"] for n in range(PROOF_NOTES)], np.float32)
    z = random.standard_normal((PROOF_NOTES, inputs["z"][1]), np.float32)
    z[::2] = [presets[n % len(presets)]["z"] for n in range(0, PROOF_NOTES, 2)]
    return {
        "z": z,
        "attributes": attributes,
        "pitch": random.uniform(*pitch_range_midi, (PROOF_NOTES, 1)).astype(np.float32),
        "velocity": random.uniform(0.2, 1, (PROOF_NOTES, 1)).astype(np.float32),
        "noise": random.standard_normal((PROOF_NOTES, *inputs["noise"][1:]), np.float32),
    }


def snr_db(wanted: FloatArray, got: FloatArray) -> float:
    """Signal-to-noise ratio of ``got`` against ``wanted`` in dB, at most 200 (equal)."""
    noise = float(((wanted - got).astype(np.float64) ** 2).sum())
    signal = float((wanted.astype(np.float64) ** 2).sum())
    return min(200.0, 10 * float(np.log10(signal / max(noise, 1e-30))))


def _hold(out: Path, parity: Mapping[str, float]) -> None:
    for hop, value in parity.items():
        margin = next(db for key, db in MARGINS_DB.items() if key in hop)
        if not value >= margin:
            raise DarkrackError(
                f"{out}: {hop}",
                f"at least {margin:g} dB against torch",
                f"{value:.1f} dB",
                "no bundle was written",
            )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep converters' chatter (C++ logs too) off the terminal; where they fail, it is printed after all."""
    with tempfile.TemporaryFile("w+") as chatter, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch and the converter deprecate parts of themselves
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(chatter.fileno(), 1)
        os.dup2(chatter.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            if failed:
                chatter.seek(0)
                print(chatter.read(), file=sys.stderr)


def to_tflite(generator: Any, inputs: Mapping[str, tuple[int, ...]]) -> bytes:
    """The generator as float32 TFLite with the signature `note`, tensors named as the manifest names them."""
    with _quietly():
        import litert_torch
        import torch
        from ai_edge_litert.tools import flatbuffer_utils

        class Note(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.generator = generator

            def forward(
                self,
                z: torch.Tensor,
                attributes: torch.Tensor,
                pitch: torch.Tensor,
                velocity: torch.Tensor,
                noise: torch.Tensor,
            ) -> dict[str, torch.Tensor]:
                return {OUTPUT: self.generator(z, attributes, pitch, velocity, noise)}

        sample = {key: torch.zeros(size) for key, size in inputs.items()}
        edge = litert_torch.signature(SIGNATURE, Note().eval(), sample_kwargs=sample).convert()
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(edge.model_content()))
        # The converter names every inner tensor by the path of its module: 20 kB of names in 800 kB of weights.
        for graph in model.subgraphs:
            outer = {*graph.inputs, *graph.outputs}
            for number, tensor in enumerate(graph.tensors):
                if number not in outer:
                    tensor.name = f"t{number}".encode()
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def quantized(float32: bytes, variant: str) -> bytes:
    """``float16`` weights, or ``dynamic_int8``: int8 weights, activations quantised as they come.

    int8 convolutions have a scale for each channel, dense layers one each: theirs are 2,000 outputs at 12 bytes of
    scale and zero point, and gave 0.5 dB in 40.
    """
    with _quietly():
        from ai_edge_quantizer import qtyping, quantizer, recipe_manager
        from ai_edge_quantizer.algorithm_manager import AlgorithmName

        manager = recipe_manager.RecipeManager()
        operations = qtyping.TFLOperationName
        if variant == DEFAULT_VARIANT:
            manager.add_dynamic_config(".*", operations.ALL_SUPPORTED, 8)
            manager.add_dynamic_config(
                ".*", operations.FULLY_CONNECTED, 8, qtyping.QuantGranularity.TENSORWISE
            )
        else:
            half = qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=16, dtype=qtyping.TensorDataType.FLOAT
                ),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            )
            manager.add_quantization_config(".*", operations.ALL_SUPPORTED, half, AlgorithmName.FLOAT_CASTING)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "float32.tflite"
            source.write_bytes(float32)
            work = quantizer.Quantizer(str(source), manager.get_quantization_recipe())
            return bytes(work.quantize(enable_progress_report=False).quantized_model)


def to_onnx(generator: Any, inputs: Mapping[str, tuple[int, ...]]) -> bytes:
    """The generator as one ONNX file, checked by onnx's own checker."""
    with _quietly():
        import onnx
        import torch

        sample = tuple(torch.zeros(size) for size in inputs.values())
        # Without the default optimisation, which drops small constants such as an epsilon of 1e-8.
        program = torch.onnx.export(
            generator,
            sample,
            input_names=list(inputs),
            output_names=[OUTPUT],
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        onnx.checker.check_model(model)
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


def _presets(run_folder: Path, encoder: Any, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, soft labels and z of the sounds to start from, rounded to what a knob can tell apart."""
    from train.stages import preset_latents

    return [
        {
            "name": preset["name"],
            "attributes": [round(float(value), 4) for value in preset["attributes"]],
            "z": [round(float(value), 3) for value in z],
        }
        for preset, z in zip(facts["presets"], preset_latents(run_folder, encoder, facts), strict=True)
    ]


def _origin(trimmed: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Where a trimmed network comes from, without the list of its channels."""
    return {key: value for key, value in trimmed.items() if key != "kept"} if trimmed else None


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
    parity = "\n".join(f"| {hop} | {value['snr_db']:.1f} |" for hop, value in manifest["parity"].items())
    grid, (low, high) = manifest["representation"], manifest["pitch_range_midi"]
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
        began += (
            f"\nTrimmed to {macs:.1%} of its parent's MACs and {weights:.1%} of its weights by {trimmed['criterion']}, "
            f"in {trimmed['rounds']} rounds of {trimmed['steps']} steps together."
        )
    return f"""# {manifest["name"]}

A Darkrack voice on the partials grid ({grid["rows"]} rows, {grid["frames"]} frames at {grid["frame_rate_hz"]:g} Hz),
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

Signal-to-noise ratio of the network's output against torch, in dB, on {PROOF_NOTES} notes (`darkrack export`):

| hop | dB |
|---|---|
{parity}

## Measured

Not yet: `darkrack evaluate {manifest["name"]}.rack --data DIR --weights mn04_as.onnx --update-card`.
"""
