"""Export: what torch computes is what the bundle plays, or there is no bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training import TWO_TEACHERS, label_descriptors, train_run, write_set

import darkrack
from compress import export
from compress.prove import Hop
from compress.quantize import Inputs, quantized
from device import bundle
from device.errors import DarkrackError
from device.generator import Generator, Network
from device.inference import LITERT
from device.partials import Partials
from train import networks
from train.descriptors import CLASSES as DESCRIPTORS
from train.networks import Widths
from train.recipe import GeneratorShape
from train.runs import open_run
from train.stages import input_shapes, load_generator


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    return train_run(folder, label_descriptors(write_set(folder / "set")), TWO_TEACHERS)


@pytest.fixture(scope="module")
def exported(run_folder: Path) -> bundle.Bundle:
    words = ["export", str(run_folder), "--out", str(run_folder / "x.rack"), "--name", "Tin", "--json"]
    variants = ["float32", "float16", "static_int8", "mixed", "onnx", "onnx_int8"]
    assert darkrack.main([*words, str(run_folder / "x.json"), "--variants", *variants]) == 0
    return bundle.read(run_folder / "x.rack")


def test_the_bundle_plays_what_torch_computes(run_folder: Path, exported: bundle.Bundle) -> None:
    generator, *_ = load_generator(run_folder)
    preset = exported.manifest.presets[1]
    for variant, tolerance in (
        ("float32", 1e-4),
        ("float16", 5e-3),
        ("dynamic_int8", 0.15),
        ("mixed", 0.15),
        ("static_int8", 0.3),
    ):
        made = Generator(exported, variant).note(preset.z, preset.attributes, 59.5, 0.7, 5)
        noise = np.random.default_rng(5).standard_normal((1, 4, 32), np.float32)
        inputs = [
            torch.tensor(np.asarray(value, np.float32)[None])
            for value in (preset.z, preset.attributes, [59.5], [0.7], noise[0])
        ]
        assert np.abs(made - generator(*inputs)[0].numpy()).max() < tolerance, variant


def test_every_hop_is_in_the_manifest(run_folder: Path, exported: bundle.Bundle) -> None:
    hops = exported.manifest.parity_db
    variants = ("float32", "float16", "dynamic_int8", "static_int8", "mixed")
    kernels = ("xnnpack", "reference")
    assert hops.keys() == {
        "torch-onnxruntime",
        "torch-onnxruntime-onnx_int8",
        *(f"torch-litert-{variant}-{kernel}" for variant in variants for kernel in kernels),
        *(f"whole-slice-{variant}-{kernel}" for variant in variants for kernel in kernels),
    }
    assert hops["torch-onnxruntime"] > 80
    assert min(value for hop, value in hops.items() if "float32" in hop) > 80
    assert min(value for hop, value in hops.items() if "slice-float" in hop) > 112
    heard = json.loads(exported.files[bundle.MANIFEST])["parity"]["torch-litert-dynamic_int8-xnnpack"]
    assert 0 < heard["lsd_db"] < 3
    assert 0 <= heard["cents"] < 1
    assert json.loads((run_folder / "x.json").read_text())["parity_db"] == dict(hops)


@pytest.mark.parametrize("reference", [False, True], ids=["xnnpack", "reference"])
@settings(max_examples=20, deadline=None)
@given(begin=st.integers(0, 16), seed=st.integers(0, 1000), pitch_midi=st.floats(40, 80))
def test_a_slice_is_those_frames_of_the_note(
    exported: bundle.Bundle, reference: bool, begin: int, seed: int, pitch_midi: float
) -> None:
    generator = Generator(exported, "float32", reference=reference)
    assert generator.slice_frames == 16
    preset = exported.manifest.presets[seed % len(exported.manifest.presets)]
    asked = (preset.z, preset.attributes, pitch_midi, 0.7, seed)
    whole, made = generator.note(*asked), generator.slice(*asked, begin=begin)
    assert made.shape == (2, 12, 16)
    assert np.abs(made - whole[..., begin : begin + 16]).max() <= (0 if reference else 1e-6)
    moved = generator.slice(*asked, begin=begin + 1 if begin < 16 else 0)
    assert not np.array_equal(made, moved)


def test_slices_of_a_trimmed_network() -> None:
    """Whose widths are odd, so that kernels meet remainders; and a note of which a slice is the larger part."""
    torch.manual_seed(0)
    trimmed = Widths(hidden=7, embedding=5, start=3, channels=(9, 7, 5))
    made = networks.Generator(
        GeneratorShape(4, (8, 8, 8), 16, 2, 2), Partials(rows=12, frames=24), 3, (48, 72), trimmed
    )
    for parameter in made.parameters():
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn_like(parameter))
    inputs = {"z": (1, 4), "attributes": (1, 3), "pitch": (1, 1), "velocity": (1, 1), "noise": (1, 4, 24)}
    random = np.random.default_rng(0)
    asked = {name: random.standard_normal(shape, np.float32) for name, shape in inputs.items()}
    model = export.compact(export.to_tflite(made, inputs, 16))
    for reference in (False, True):
        network = Network(model, "trimmed", inputs, (1, 2, 12, 24), reference=reference, slice_frames=16)
        whole = network(asked)
        for begin in range(9):
            slices = network.slice(asked, begin)
            assert np.abs(slices - whole[..., begin : begin + 16]).max() <= 1e-6


def test_a_quantised_slice_is_near(exported: bundle.Bundle) -> None:
    generator = Generator(exported)
    preset = exported.manifest.presets[0]
    asked = (preset.z, preset.attributes, 60.0, 0.7, 1)
    whole = generator.note(*asked)
    for begin in (0, 7, 16):
        there = whole[..., begin : begin + 16]
        assert (
            export.snr_db(there, generator.slice(*asked, begin=begin))
            > export.SLICE_MARGINS_DB["dynamic_int8"]
        )


@pytest.mark.parametrize("begin", [-1, 17, 3.5, float("nan")])
def test_a_slice_begins_at_a_frame(exported: bundle.Bundle, begin: float) -> None:
    preset = exported.manifest.presets[0]
    with pytest.raises(DarkrackError, match=r"begin: expected a whole number from 0 to 16, got"):
        Generator(exported).slice(preset.z, preset.attributes, 60.0, 0.7, 1, begin=begin)  # type: ignore[arg-type]


def test_both_signatures_share_weights_and_scales(run_folder: Path, exported: bundle.Bundle) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    generator, *_ = load_generator(run_folder)
    model = exported.model("float32")
    for layer in (layer for layer in generator.modules() if isinstance(layer, torch.nn.Conv2d)):
        weights = layer.weight.detach().permute(0, 2, 3, 1).numpy()  # as TFLite has them
        assert model.count(weights.tobytes()) == 1
    model = exported.model("dynamic_int8")
    graphs = flatbuffer_utils.read_model_from_bytearray(bytearray(model)).subgraphs
    assert len(graphs) == 2
    found = [
        {tensor.quantization.scale.tobytes() for tensor in graph.tensors if tensor.quantization is not None}
        for graph in graphs
    ]
    assert found[0] == found[1]
    assert {model.count(scale) for scale in found[0] if len(scale) > 16} == {1}


def test_bench_times_slices(
    run_folder: Path, exported: bundle.Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_folder / "bench.json"
    words = ["bench", str(exported.path), "--quick", "--parts", "inference", "--json", str(out)]
    assert darkrack.main(words) == 0
    printed = capsys.readouterr().out
    rows = [row for row in json.loads(out.read_text())["inference"] if row["runtime"] == LITERT]
    assert rows
    for row in rows:
        assert (row["slice_frames"], row["slice_macs"]) == (16, exported.manifest.slice.macs)
        assert row["figures"]["slice"]["value"] > 0
    assert f"{rows[0]['slice_macs'] / rows[0]['macs']:.2f}" in printed


def test_the_manifest_says_what_was_trained(exported: bundle.Bundle) -> None:
    manifest = exported.manifest
    assert manifest.name == "Tin"
    names = [one.name for one in manifest.attributes]
    assert names[:3] == ["Brass instrument", "Plucked string instrument", "Organ"]
    assert set(names[3:]) < set(DESCRIPTORS)
    assert [one.teacher for one in manifest.attributes] == ["mn04"] * 3 + ["descriptors"] * 4
    assert "- of mn04: Brass instrument, Plucked string instrument, Organ\n" in exported.card
    assert f"- of descriptors: {', '.join(names[3:])}\n" in exported.card
    assert manifest.pitch_range_midi == (48, 72)
    assert manifest.data[0].licence == "CC0"
    assert "CC0" in exported.card
    assert set(exported.files) >= {"generator.float32.tflite", "generator.onnx", "generator.int8.onnx"}


def test_what_was_not_asked_for_is_neither_made_nor_shipped(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def watched(float32: bytes, variant: str, calibration: Inputs | None = None) -> bytes:
        made.append((variant, calibration is None))
        return quantized(float32, variant, calibration)

    monkeypatch.setattr(export, "quantized", watched)
    plain = export.export(run_folder, run_folder / "plain.rack", None, ())
    assert made == [("float16", True), ("dynamic_int8", True)]
    assert len(plain.manifest.parity_db) == 13
    assert {name for name in plain.files if name.startswith("generator")} == {"generator.dynamic_int8.tflite"}


def test_calibration_and_proof_share_no_note(run_folder: Path) -> None:
    run = open_run(run_folder)
    recipe, facts = run.recipe, run.facts
    presets, knobs = export._presets(run.latents, facts), export._knobs(facts)
    inputs = input_shapes(recipe, len(facts["attributes"]))
    proof = export.proof_inputs(inputs, presets, recipe.pitch_range_midi)
    calibration = export.played_inputs(
        inputs, presets, recipe.pitch_range_midi, knobs, notes=export.CALIBRATION_NOTES, seed=1
    )
    assert {name: values.shape[1:] for name, values in calibration.items()} == {
        name: tuple(shape[1:]) for name, shape in inputs.items()
    }
    assert {*proof["pitch"].flat} & {*calibration["pitch"].flat} == set()
    turned = [
        all(not np.allclose(note, preset["attributes"], atol=1e-6) for preset in presets)
        for note in calibration["attributes"]
    ]
    assert sum(turned) == export.CALIBRATION_NOTES // 2, "every second note has a knob turned"


def test_macs_by_hand(run_folder: Path, exported: bundle.Bundle) -> None:
    # Inputs: z 4, attributes 7, hats 48..72 by 4 = 7, velocity 1 = 19. Dense: embedding, start, FiLM of 3 scales.
    dense = 19 * 16 + 16 * 16 + 16 * 64 + 3 * 16 * 16
    convolutions = sum(frames * 2 * 8 * 8 * 3 for frames in (8, 16, 32))
    noise = sum(frames * 2 * 2 * 8 for frames in (16, 32))
    out = 32 * 8 * 24
    assert exported.manifest.macs == dense + convolutions + noise + out
    # A slice: 16 frames and 2 on each side; 15 columns under these at the scale before; all 8 of the first.
    convolutions = sum(columns * 2 * 8 * 8 * 3 for columns in (8, 15, 20))
    noise = sum(columns * 2 * 2 * 8 for columns in (15, 20))
    picked = (
        15 * 8 * 8 + 20 * 15 * 8 + 16 * 20 * 8
    )  # columns of each scale's input, and of the last one's output
    picked_noise = 15 * 16 * 4 + 20 * 32 * 4
    wanted = dense + convolutions + noise + picked + picked_noise + 16 * 8 * 24
    assert exported.manifest.slice == bundle.Slice(16, wanted)
    generator, *_ = load_generator(run_folder)
    assert exported.manifest.parameters == sum(parameter.numel() for parameter in generator.parameters())
    generator, *_ = load_generator(run_folder)
    assert exported.manifest.parameters == sum(parameter.numel() for parameter in generator.parameters())


def test_the_model_keeps_no_paths_of_our_modules(exported: bundle.Bundle) -> None:
    assert b"train.networks" not in exported.model("float32")


def test_a_missed_margin_writes_nothing(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(export.MARGINS, "dynamic_int8", Hop(190.0, 3.0, 1.0))
    out = run_folder / "missed.rack"
    with pytest.raises(DarkrackError, match="at least 190 dB"):
        export.export(run_folder, out, None, ())
    assert not out.exists()
    assert not list(run_folder.glob(".missed*"))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match=r"recipe\.toml"):
        export.export(tmp_path, tmp_path / "x.rack", None, ())


def test_snr_by_hand() -> None:
    signal = np.array([3.0, 4.0], np.float32)
    assert export.snr_db(signal, signal + np.array([0.5, 0.0], np.float32)) == pytest.approx(20.0)
    assert export.snr_db(signal, signal) == 200.0
