"""What a note costs, in real processes: LiteRT, ONNX Runtime on its CPU, and a runtime that is not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import FRAMES_SHAPE, INPUTS, tiny_files, tiny_manifest
from hypothesis import given
from hypothesis import strategies as st

from device import bundle as bundles
from device import inference, machine
from device.bundle import ONNX, Bundle
from device.errors import DarkrackError
from device.generator import snr_db
from device.inference import LITERT, Budget, Round, Subject

FEW = Budget(10, 5.0)
CPU = "CPUExecutionProvider"


def subject_of(bundle: Bundle, runtime: str = LITERT, **changes: Any) -> Subject:
    file = next(iter(bundle.manifest.variants.values())).file
    subject = Subject(bundle.path, "float32", runtime, 1, file, len(bundle.files[file]))
    return dataclasses.replace(subject, **changes)


@pytest.fixture(scope="module")
def onnx_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny one with an ONNX file beside it, whose frames are all the pitch asked for, in hundredths."""
    import onnx
    from onnx import helper

    inputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in INPUTS.items()
    ]
    output = helper.make_tensor_value_info("frames", onnx.TensorProto.FLOAT, FRAMES_SHAPE)
    constants = [
        helper.make_tensor("hundredth", onnx.TensorProto.FLOAT, [1, 1], [0.01]),
        helper.make_tensor("whole", onnx.TensorProto.INT64, [4], list(FRAMES_SHAPE)),
    ]
    nodes = [
        helper.make_node("Mul", ["pitch", "hundredth"], ["scaled"]),
        helper.make_node("Expand", ["scaled", "whole"], ["frames"]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("onnx") / "tiny-onnx.rack"
    files = tiny_files(tiny_bundle.model()) | {ONNX: model.SerializeToString()}
    return bundles.write(path, tiny_manifest(), files)


def measured(subject: Subject, frames: bool = False) -> Round:
    found = inference.measure(subject, FEW, frames=frames)
    assert isinstance(found, Round)
    return found


def test_a_round_is_measured_in_a_process_of_its_own(tiny_bundle: Bundle) -> None:
    found = measured(subject_of(tiny_bundle), frames=True)
    assert len(found.notes_ms) == FEW.notes
    assert min(found.import_ms, found.load_ms, found.first_ms, found.again_ms, *found.notes_ms) > 0
    assert found.morph_ms is not None
    assert found.morph_ms > 0
    assert found.slice_ms is None
    assert found.base_bytes is not None
    assert found.peak_bytes is not None
    # This process has imported torch; what is measured is the other's.
    assert 10e6 < found.base_bytes < found.peak_bytes < 300e6
    assert found.frames is not None
    again = measured(subject_of(tiny_bundle, threads=2), frames=True)
    assert again.frames is not None
    assert snr_db(found.frames, again.frames) > 100


def test_a_slow_network_is_given_its_seconds_and_three_notes_at_least(tiny_bundle: Bundle) -> None:
    found = inference.measure(subject_of(tiny_bundle), Budget(10_000, 0.0), frames=False)
    assert isinstance(found, Round)
    assert len(found.notes_ms) == 3


def test_onnx_runtime_makes_its_own_files_notes(onnx_bundle: Bundle) -> None:
    subject = subject_of(onnx_bundle, inference.PROVIDERS[CPU], variant="onnx", member=ONNX)
    found = measured(subject, frames=True)
    assert found.frames is not None
    low, high = onnx_bundle.manifest.pitch_range_midi
    for n, frames in enumerate(found.frames):
        pitch = low + (high - low) * n / (inference.QUALITY_NOTES - 1)
        assert frames[1].min() == frames[1].max() == pytest.approx(pitch / 100)
    assert found.morph_ms is None


def test_a_runtime_that_is_not_there_is_said_and_no_error(onnx_bundle: Bundle) -> None:
    absent = inference.PROVIDERS["CUDAExecutionProvider"]
    found = inference.measure(subject_of(onnx_bundle, absent, variant="onnx", member=ONNX), FEW, frames=False)
    assert isinstance(found, str)
    assert found.startswith("ONNX Runtime CUDA: not present")


def test_an_onnx_file_that_is_none_is_our_error(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files = tiny_files(tiny_bundle.model()) | {ONNX: b"noise"}
    bad = bundles.write(tmp_path / "bad.rack", tiny_manifest(), files)
    with pytest.raises(DarkrackError) as caught:
        measured(subject_of(bad, inference.PROVIDERS[CPU], variant="onnx", member=ONNX))
    assert ONNX in caught.value.where


def test_a_process_that_ends_is_our_error(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DarkrackError) as caught:
        inference.measure(subject_of(tiny_bundle, path=tmp_path / "gone.rack"), FEW, frames=False)
    assert "gone.rack" in caught.value.where


def test_subjects_are_all_variants_in_all_runtimes_that_have_a_file(
    tiny_bundle: Bundle, onnx_bundle: Bundle
) -> None:
    def named(found: list[Subject]) -> list[tuple[str, str, str, int]]:
        return [(one.path.name, one.variant, one.runtime, one.threads) for one in found]

    both = [tiny_bundle, onnx_bundle]
    assert named(inference.subjects(both, [1, 2], None, [CPU, "CUDAExecutionProvider"])) == [
        ("tiny.rack", "float32", LITERT, 1),
        ("tiny.rack", "float32", LITERT, 2),
        ("tiny-onnx.rack", "float32", LITERT, 1),
        ("tiny-onnx.rack", "onnx", "ONNX Runtime CPU", 1),
        ("tiny-onnx.rack", "onnx", "ONNX Runtime CUDA", 1),
        ("tiny-onnx.rack", "float32", LITERT, 2),
        ("tiny-onnx.rack", "onnx", "ONNX Runtime CPU", 2),
    ]
    assert named(inference.subjects(both, [1], ["onnx"], [CPU])) == [
        ("tiny-onnx.rack", "onnx", "ONNX Runtime CPU", 1)
    ]
    with pytest.raises(DarkrackError) as caught:
        inference.subjects(both, [1], ["int4"], [CPU])
    assert caught.value.expected == "one of float32, onnx"


def test_runtimes_say_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there, absent = inference.runtimes()
    assert CPU in there
    assert len(there) + len(absent) == len(inference.PROVIDERS)
    monkeypatch.setattr(inference.importlib.util, "find_spec", lambda _name: None)
    assert inference.runtimes() == ([], ["ONNX Runtime: not present (no package onnxruntime)"])


def test_quality_of_a_bundle_is_looked_up_as_export_names_it(tiny_bundle: Bundle) -> None:
    assert inference.exported_quality_db(tiny_bundle, subject_of(tiny_bundle)) is None
    told = {"torch-litert-float32-xnnpack": 124.5, "torch-onnxruntime": 130.0}
    manifest = dataclasses.replace(tiny_bundle.manifest, parity_db=told)
    bundle = dataclasses.replace(tiny_bundle, manifest=manifest)
    assert inference.exported_quality_db(bundle, subject_of(bundle)) == 124.5
    onnx = subject_of(bundle, inference.PROVIDERS[CPU], variant="onnx", member=ONNX)
    assert inference.exported_quality_db(bundle, onnx) == 130.0


@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=50))
def test_every_note_is_in_the_histogram_at_its_place(notes_ms: list[float]) -> None:
    found = inference.histogram(notes_ms)
    assert sum(found["counts"]) == len(notes_ms)
    edges = found["first_ms"] * found["ratio"] ** np.arange(len(found["counts"]) + 1)
    assert edges[0] <= min(notes_ms) * 1.0001
    assert edges[-1] >= max(notes_ms) * 0.9999
    below = np.searchsorted(np.sort(notes_ms), edges[len(edges) // 2])
    assert abs(int(np.sum(found["counts"][: len(edges) // 2])) - int(below)) <= sum(
        abs(ms / edges[len(edges) // 2] - 1) < 1e-4 for ms in notes_ms
    )


def test_energy_is_of_the_notes_and_not_of_the_board_at_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board that takes 3 W at rest, and 2 J more for every note."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(inference, "ENERGY_S", 0.2)
    assert inference._energy_j(lambda: None) is None
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    spent_j = 0.0
    real = machine._read

    def read(path: Path) -> str | None:
        if path == counter:
            return str(round(1e6 * (100 + spent_j + 3.0 * inference.time.perf_counter())))
        return real(path)

    def note() -> None:
        nonlocal spent_j
        spent_j += 2.0
        inference.time.sleep(0.01)

    monkeypatch.setattr(machine, "_read", read)
    assert inference._energy_j(note) == pytest.approx(2.0, rel=0.02)
