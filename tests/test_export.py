"""Export: what torch computes is what the bundle plays, or there is no bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training import TWO_TEACHERS, label_descriptors, train_run, write_set

import darkrack
from compress import export
from compress.quantize import Inputs, quantized
from device import bundle
from device.errors import DarkrackError
from device.generator import Generator
from train.descriptors import CLASSES as DESCRIPTORS
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
    assert hops.keys() == {
        "torch-onnxruntime",
        "torch-onnxruntime-onnx_int8",
        *(
            f"torch-litert-{variant}-{kernels}"
            for variant in variants
            for kernels in ("xnnpack", "reference")
        ),
    }
    assert hops["torch-onnxruntime"] > 80
    assert min(value for hop, value in hops.items() if "float32" in hop) > 80
    assert json.loads((run_folder / "x.json").read_text())["parity_db"] == dict(hops)


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
    assert len(plain.manifest.parity_db) == 7
    assert {name for name in plain.files if name.startswith("generator")} == {"generator.dynamic_int8.tflite"}


def test_calibration_and_proof_share_no_note(run_folder: Path) -> None:
    _, encoder, recipe, facts = load_generator(run_folder)
    presets, knobs = export._presets(run_folder, encoder, facts), export._knobs(facts)
    inputs = input_shapes(recipe, len(facts["attributes"]))
    proof = export.proof_inputs(inputs, presets, recipe.pitch_range_midi)
    calibration = export.calibration_inputs(inputs, presets, recipe.pitch_range_midi, knobs)
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
    generator, *_ = load_generator(run_folder)
    assert exported.manifest.parameters == sum(parameter.numel() for parameter in generator.parameters())


def test_the_model_keeps_no_paths_of_our_modules(exported: bundle.Bundle) -> None:
    assert b"train.networks" not in exported.model("float32")


def test_a_missed_margin_writes_nothing(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(export.MARGINS_DB, "dynamic_int8", 190.0)
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
