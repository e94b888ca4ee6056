"""Quantising: every variant is played by the runtime it is for, and what is wrong with one is found."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given
from hypothesis import strategies as st
from training import write_recipe

from compress import quantize
from compress.export import compact, to_onnx, to_tflite
from compress.quantize import FLOAT32, Margins, Measured, choose
from device.errors import DarkrackError
from device.generator import OUTPUT, Network, snr_db
from train.networks import Generator
from train.recipe import read_recipe

FloatArray = npt.NDArray[np.float32]
Inputs = dict[str, FloatArray]

ATTRIBUTES = 3
SHAPES = {
    "z": (1, 4),
    "attributes": (1, ATTRIBUTES),
    "pitch": (1, 1),
    "velocity": (1, 1),
    "noise": (1, 4, 32),
}
FRAMES = (1, 2, 12, 32)
FIRST_DENSE = (
    16,
    4 + ATTRIBUTES + 7 + 1,
)  # the embedding by z, attributes, hats from 48 to 72 by 4, velocity
HEAD = (2 * 12, 1, 1, 8)  # level and deviation of each row by the last scale's channels
INTEGERS = {schema.TensorType.INT8}


def notes(count: int, seed: int) -> Inputs:
    random = np.random.default_rng(seed)
    return {
        "z": random.standard_normal((count, 4), np.float32),
        "attributes": random.random((count, ATTRIBUTES), np.float32),
        "pitch": random.uniform(48, 72, (count, 1)).astype(np.float32),
        "velocity": random.random((count, 1), np.float32),
        "noise": random.standard_normal((count, 4, 32), np.float32),
    }


def made(generator: Generator, asked: Mapping[str, FloatArray]) -> FloatArray:
    with torch.no_grad():
        return generator(*(torch.from_numpy(asked[name]) for name in SHAPES)).numpy()


def played(model: bytes, asked: Mapping[str, FloatArray]) -> FloatArray:
    network = Network(model, "model", SHAPES, FRAMES)
    count = len(asked["z"])
    return np.concatenate([network({key: asked[key][n : n + 1] for key in SHAPES}) for n in range(count)])


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """As wide as the tests' recipe says, with every path open, as training leaves them."""
    torch.manual_seed(0)
    recipe = read_recipe(write_recipe(tmp_path_factory.mktemp("recipe")))[0]
    network = Generator(recipe.generator, recipe.grid, ATTRIBUTES, recipe.pitch_range_midi)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def float32(generator: Generator) -> bytes:
    return to_tflite(generator, SHAPES)


@pytest.fixture(scope="module")
def float_onnx(generator: Generator) -> bytes:
    return to_onnx(generator, SHAPES)


LAYERS = 2 + 1 + 3 + 3 * 2 + 2 * 2 + 1  # embedding, start, FiLM, convolutions, noise, head
PROOF = notes(12, 1)
CALIBRATION = notes(quantize.LEAST_CALIBRATION_NOTES, 2)

# ---- TFLite ----


def layers(model: bytes) -> list[tuple[tuple[int, ...], int, int]]:
    """Of every convolution and dense layer: shape and type of its weights, type of what goes in."""
    whole = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    graph = whole.subgraphs[0]
    weighted = {schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED}
    found = []
    for operation in graph.operators:
        code = whole.operatorCodes[operation.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) in weighted:
            given_, weights = (graph.tensors[n] for n in operation.inputs[:2])
            found.append((tuple(int(size) for size in weights.shape), weights.type, given_.type))
    return found


@pytest.mark.parametrize(
    ("variant", "least_db"), [("float16", 50), ("dynamic_int8", 25), ("static_int8", 20), ("mixed", 25)]
)
def test_a_variant_sounds_like_float32_and_is_smaller(
    generator: Generator, float32: bytes, variant: str, least_db: float
) -> None:
    model = quantize.quantized(float32, variant, CALIBRATION)
    assert snr_db(made(generator, PROOF), played(model, PROOF)) > least_db
    assert len(compact(model)) < len(compact(float32))


def test_static_layers_compute_in_int8_and_what_lies_between_does_not(float32: bytes) -> None:
    static = quantize.quantized(float32, "static_int8", CALIBRATION)
    assert len(layers(static)) == len(layers(float32)) == LAYERS
    assert {kinds for _, *kinds_ in layers(static) for kinds in kinds_} == INTEGERS
    whole = flatbuffer_utils.read_model_from_bytearray(bytearray(static))
    graph = whole.subgraphs[0]
    for operation in graph.operators:
        if whole.operatorCodes[operation.opcodeIndex].builtinCode == schema.BuiltinOperator.LEAKY_RELU:
            assert graph.tensors[operation.inputs[0]].type == schema.TensorType.FLOAT32


def test_static_ranges_come_from_the_notes(generator: Generator, float32: bytes) -> None:
    silent = {name: np.zeros_like(values) for name, values in CALIBRATION.items()}
    wanted = made(generator, PROOF)
    blind = snr_db(wanted, played(quantize.quantized(float32, "static_int8", silent), PROOF))
    heard = snr_db(wanted, played(quantize.quantized(float32, "static_int8", CALIBRATION), PROOF))
    assert heard > blind + 6


def test_one_wild_note_does_not_coarsen_the_rest(generator: Generator, float32: bytes) -> None:
    wild = {name: values.copy() for name, values in CALIBRATION.items()}
    wild["z"][7] *= 30
    wanted = made(generator, PROOF)
    heard = [
        snr_db(wanted, played(quantize.quantized(float32, "static_int8", one), PROOF))
        for one in (CALIBRATION, wild)
    ]
    assert heard[1] > heard[0] - 3


@pytest.mark.parametrize("variant", ["static_int8", "onnx_int8"])
@pytest.mark.parametrize("count", [0, 63])
def test_too_few_notes_to_calibrate_on(float32: bytes, float_onnx: bytes, variant: str, count: int) -> None:
    few = {name: values[:count] for name, values in CALIBRATION.items()}
    makers = {
        "static_int8": lambda: quantize.quantized(float32, "static_int8", few),
        "onnx_int8": lambda: quantize.onnx_int8(float_onnx, few),
    }
    with pytest.raises(DarkrackError, match=rf"{variant}: expected at least 64 notes .* got {count}"):
        makers[variant]()


def test_an_unknown_variant(float32: bytes) -> None:
    with pytest.raises(DarkrackError, match=r"expected one of float16, .* got int4"):
        quantize.quantized(float32, "int4")


def test_mixed_keeps_the_first_dense_layer_and_the_head(float32: bytes) -> None:
    assert len(quantize.outer_layers(float32)) == 2
    kinds = collections.defaultdict(set)
    for shape, weights, _ in layers(quantize.quantized(float32, "mixed")):
        kinds[shape].add(weights)
    assert kinds.pop(FIRST_DENSE) == kinds.pop(HEAD) == {schema.TensorType.FLOAT32}
    assert set().union(*kinds.values()) == INTEGERS


# ---- ONNX ----


def run_onnx(model: bytes, asked: Mapping[str, FloatArray]) -> FloatArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    count = len(asked["z"])
    return np.concatenate(
        [session.run([OUTPUT], {key: asked[key][n : n + 1] for key in SHAPES})[0] for n in range(count)]
    )


def test_onnx_int8_sounds_like_float32_and_is_for_tensorrt(generator: Generator, float_onnx: bytes) -> None:
    model = quantize.onnx_int8(float_onnx, CALIBRATION)
    assert snr_db(made(generator, PROOF), run_onnx(model, PROOF)) > 18
    counts = quantize.check_tensorrt(model, "x.onnx")
    before = quantize.check_tensorrt(float_onnx, "x.onnx")
    assert before["Conv"] + before["Gemm"] == LAYERS
    assert {name: counts[name] for name in before} == before, "only pairs of Q and DQ are added"
    # A pair for what goes into a layer; weights are int8 already.
    assert counts.keys() - before.keys() == {"QuantizeLinear", "DequantizeLinear"}
    assert counts["DequantizeLinear"] == LAYERS + counts["QuantizeLinear"]


def broken(model: bytes, how: str) -> bytes:
    loaded = onnx.load_from_string(model)
    graph: Any = loaded.graph
    if how == "sequence":
        graph.node.add(op_type="SequenceAt", name="planted")
    elif how == "domain":
        graph.node.add(op_type="Conv", domain="com.microsoft", name="planted")
    elif how == "opset":
        loaded.opset_import[0].version = 18
    else:
        named = {one.name: one for one in graph.initializer}
        pair = next(node for node in graph.node if node.op_type == "QuantizeLinear")
        kind = np.uint8 if how == "unsigned" else np.int8
        named[pair.input[2]].CopyFrom(
            onnx.numpy_helper.from_array(np.array(0 if how == "unsigned" else 3, kind), pair.input[2])
        )
    return loaded.SerializeToString()


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("sequence", "SequenceAt (planted)"),
        ("domain", "com.microsoft.Conv (planted)"),
        ("opset", "opset 17 at most, for TensorRT, got opset 18"),
        ("shifted", "another in QuantizeLinear"),
        ("unsigned", "another in QuantizeLinear"),
    ],
)
def test_what_tensorrt_does_not_take_is_named(float_onnx: bytes, how: str, named: str) -> None:
    model = broken(quantize.onnx_int8(float_onnx, CALIBRATION), how)
    with pytest.raises(DarkrackError) as caught:
        quantize.check_tensorrt(model, "x.onnx")
    assert caught.value.where == "x.onnx"
    assert named in str(caught.value)


# ---- Fine-tuning ----


def test_fine_tuning_wins_back_what_int8_lost(generator: Generator, float32: bytes) -> None:
    def batches() -> Iterator[list[torch.Tensor]]:
        for step in range(1000):
            yield [torch.from_numpy(notes(8, 100 + step)[name]) for name in SHAPES]

    before = {name: value.clone() for name, value in generator.state_dict().items()}
    tuned = quantize.fine_tuned(generator, batches(), steps=100)

    wanted, asked = made(generator, PROOF), PROOF
    int8_db = [
        snr_db(wanted, played(quantize.quantized(model, "dynamic_int8"), asked))
        for model in (float32, to_tflite(tuned, SHAPES))
    ]
    assert int8_db[1] > int8_db[0]

    assert type(tuned) is Generator
    assert tuned.state_dict().keys() == before.keys()
    for name, module in tuned.named_modules():
        assert not module._forward_pre_hooks, name
        assert not module._forward_hooks, name
        assert not hasattr(module, "parametrizations"), name
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in tuned.parameters())
    assert not tuned.training
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of the given generator was changed"
    moved = [not torch.equal(value, before[name]) for name, value in tuned.state_dict().items()]
    assert any(moved)


def test_a_fine_tuned_generator_leaves_what_breaks_off_clean(generator: Generator) -> None:
    def batches() -> Iterator[list[torch.Tensor]]:
        yield [torch.from_numpy(notes(2, 0)[name]) for name in SHAPES]
        raise OSError("no more notes")

    with pytest.raises(OSError, match="no more notes"):
        quantize.fine_tuned(generator, batches(), steps=3)
    assert not any(module._forward_pre_hooks for module in generator.modules())
    assert not any(parameter.requires_grad for parameter in generator.parameters())


# ---- Which variant ships ----

MEASURED = st.builds(
    Measured,
    ms_per_note=st.floats(0.01, 10),
    size_bytes=st.integers(1, 10**7),
    fad=st.floats(0, 20) | st.just(math.nan),
    pitch_cents=st.floats(0, 50) | st.just(math.nan),
    correlation=st.floats(-1, 1) | st.just(math.nan),
)
VARIANTS = st.dictionaries(st.sampled_from(["float16", "dynamic_int8", "static_int8", "mixed"]), MEASURED)
MARGINS = st.builds(Margins, st.floats(0, 1), st.floats(0, 1), st.floats(0, 5), st.floats(0, 0.5))


@given(MEASURED, VARIANTS, MARGINS)
def test_the_choice_never_breaks_a_margin_and_is_never_slower(
    float32: Measured, others: dict[str, Measured], margins: Margins
) -> None:
    measured = {FLOAT32: float32, **others}
    chosen = choose(measured, margins)
    one = measured[chosen]
    if chosen != FLOAT32:
        assert (
            one.fad <= max(1.0, 1 + margins.fad_share) * float32.fad or one.fad <= float32.fad + margins.fad
        )
        assert one.pitch_cents - float32.pitch_cents <= margins.pitch_cents + 1e-9
        assert float32.correlation - one.correlation <= margins.correlation + 1e-9
    assert one.ms_per_note <= float32.ms_per_note
    for name, other in measured.items():
        if margins.hold(other, float32):
            assert (one.ms_per_note, one.size_bytes) <= (other.ms_per_note, other.size_bytes), name


@given(MEASURED, VARIANTS, MEASURED)
def test_a_slower_variant_changes_nothing(
    float32: Measured, others: dict[str, Measured], another: Measured
) -> None:
    measured = {FLOAT32: float32, **others}
    chosen = choose(measured)
    slower = dataclasses.replace(another, ms_per_note=measured[chosen].ms_per_note + another.ms_per_note)
    assert choose({**measured, "slower": slower}) == chosen


@given(MEASURED, VARIANTS)
def test_the_order_of_variants_changes_nothing(float32: Measured, others: dict[str, Measured]) -> None:
    measured = {FLOAT32: float32, **others}
    assert choose(dict(reversed(measured.items()))) == choose(measured)


@given(MEASURED, VARIANTS, MARGINS)
def test_wider_margins_never_choose_a_slower_one(
    float32: Measured, others: dict[str, Measured], margins: Margins
) -> None:
    measured = {FLOAT32: float32, **others}
    wider = Margins(
        *(value + 0.1 for value in (margins.fad_share, margins.fad, margins.pitch_cents, margins.correlation))
    )
    slow, fast = measured[choose(measured, margins)], measured[choose(measured, wider)]
    assert fast.ms_per_note <= slow.ms_per_note


FLOAT = Measured(ms_per_note=0.2, size_bytes=3_000_000, fad=6.0, pitch_cents=0.3, correlation=0.5)
INT8 = Measured(ms_per_note=0.08, size_bytes=800_000, fad=6.5, pitch_cents=1.2, correlation=0.49)


@pytest.mark.parametrize(
    ("float32", "change", "chosen"),
    [
        (FLOAT, {}, "int8"),
        (FLOAT, {"fad": 6.61}, FLOAT32),  # 10 % of 6
        (FLOAT, {"pitch_cents": 1.31}, FLOAT32),
        (FLOAT, {"correlation": 0.479}, FLOAT32),
        (FLOAT, {"fad": math.nan}, FLOAT32),
        (FLOAT, {"ms_per_note": 0.21}, FLOAT32),
        (FLOAT, {"ms_per_note": 0.2}, "int8"),  # the smaller file
        (dataclasses.replace(FLOAT, fad=1.0), {"fad": 1.19}, "int8"),  # .2 is more than 10 %
        (dataclasses.replace(FLOAT, fad=1.0), {"fad": 1.21}, FLOAT32),
    ],
)
def test_choices_by_hand(float32: Measured, change: dict[str, float], chosen: str) -> None:
    assert choose({FLOAT32: float32, "int8": dataclasses.replace(INT8, **change)}) == chosen


def test_there_is_no_choice_without_float32() -> None:
    with pytest.raises(DarkrackError, match="expected float32 among them, got int8"):
        choose({"int8": INT8})


def test_timing_side_by_side(float32: bytes) -> None:
    models = {FLOAT32: float32, "dynamic_int8": quantize.quantized(float32, "dynamic_int8")}
    timings = quantize.time_variants(models, notes(1, 3), FRAMES, rounds=4, notes=3)
    assert timings.keys() == models.keys()
    assert timings[FLOAT32].ratio == 1
    for timing in timings.values():
        assert 0 < timing.median_us <= timing.p90_us
        assert timing.ratio > 0


def test_what_does_not_work_has_no_speed(float32: bytes) -> None:
    asked = notes(1, 3)
    with pytest.raises(DarkrackError, match="expected float32 among them"):
        quantize.time_variants({"mixed": float32}, asked, FRAMES)
    with pytest.raises(
        DarkrackError, match=r"variant float32: expected finite frames of shape \(1, 2, 12, 33\)"
    ):
        quantize.time_variants({FLOAT32: float32}, asked, (1, 2, 12, 33))
    asked["velocity"][:] = np.nan
    with pytest.raises(DarkrackError, match=r"768 not finite"):
        quantize.time_variants({FLOAT32: float32}, asked, FRAMES)
