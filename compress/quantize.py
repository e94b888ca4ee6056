"""The generator in fewer bits: TFLite and ONNX variants, fine-tuning against the loss, and which variant ships.

Every TFLite variant keeps float32 inputs and outputs of the same names, so the device cannot tell them apart but by
their sound and speed. Inputs are mappings of the generator's input names to float32 arrays, notes first.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.generator import BEGIN, OUTPUT, SIGNATURE, SLICE

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

FloatArray = npt.NDArray[np.float32]
Inputs = Mapping[str, FloatArray]

FLOAT32, FLOAT16, DYNAMIC_INT8 = "float32", "float16", "dynamic_int8"
STATIC_INT8, MIXED, ONNX_INT8 = "static_int8", "mixed", "onnx_int8"
LEAST_CALIBRATION_NOTES = 64  # fewer leave the ranges of static activations to chance
# The part of notes whose extremes a static range covers (TFLite), and the part of values (ONNX Runtime, in percent).
# One turned knob in 128 notes of the first voice drove a layer to 14 where the others stay under 6, and coarsened all
# of them: static_int8 gave 20 dB with all of it, 24 so (23 with .99, 24 with .95, 22 with .9); onnx_int8 17, 25 so (21
# with 99.9). Of the voice kl1e-3, with other labels: 29 and 30; 27 and 29.
COVERED_NOTES = 0.98
COVERED_VALUES_PERCENT = 99.99

# What TensorRT's parser takes of ONNX, by onnx-tensorrt's docs/operators.md: marked Y both for TensorRT 8.5 and for
# 10.15, so for every version of JetPack 6 between them. Its lists end at opset 17 (8.5 and 8.6) and 24 (10.15).
TENSORRT_OPSET = 17
TENSORRT_OPERATORS = {
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
    "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "Cos", "Cosh", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Einsum",
    "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual",
    "GridSample", "GRU", "HardSigmoid", "HardSwish", "Identity", "If", "InstanceNormalization", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "Loop", "LpNormalization", "LpPool", "LRN", "LSTM",
    "MatMul", "Max", "MaxPool", "Mean", "MeanVarianceNormalization", "Min", "Mod", "Mul", "Neg",
    "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "Pad", "ParametricSoftplus", "Pow", "PRelu",
    "QuantizeLinear", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "ReverseSequence",
    "RNN", "RoiAlign", "Round", "ScaledTanh", "Scan", "Scatter", "ScatterElements", "ScatterND", "Selu",
    "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign",
    "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK",
    "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor",
}  # fmt: skip


@contextlib.contextmanager
def quietly() -> Iterator[None]:
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
            for number, copied in zip((1, 2), kept, strict=True):
                os.dup2(copied, number)
                os.close(copied)
            if failed:
                chatter.seek(0)
                print(chatter.read(), file=sys.stderr)


# ---- TFLite ----


def quantized(float32: bytes, variant: str, calibration: Inputs | None = None) -> bytes:
    """One variant of a float32 TFLite generator, as TFLite.

    - ``float16``: weights of 16 bits, computed in float32.
    - ``dynamic_int8``: int8 weights, activations quantised as they come.
    - ``static_int8``: int8 weights; activations into and out of convolutions and dense layers by ranges that are
      measured beforehand on ``calibration`` (64 notes at least). All between them stays float32: the quantiser does
      not take leaky ReLU, and with all that it does take, inputs would be int8.
    - ``mixed``: dynamic int8, but the layers that hear the attributes first and make the frames last compute in
      float32, with weights of 16 bits. With the rest static it gave 31 dB instead of 39, and took 1 % less time.

    int8 convolutions have a scale for each channel, dense layers one each: theirs are 2,000 outputs at 12 bytes of
    scale and zero point, and gave 0.5 dB in 40. Raises DarkrackError for another variant, or too few notes.
    """
    with quietly():
        from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
        from ai_edge_quantizer.algorithm_manager import AlgorithmName

        manager = recipe_manager.RecipeManager()
        operations, granularity = qtyping.TFLOperationName, qtyping.QuantGranularity
        half = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        ranges = None
        if variant == FLOAT16:
            manager.add_quantization_config(".*", operations.ALL_SUPPORTED, half, AlgorithmName.FLOAT_CASTING)
        elif variant in (DYNAMIC_INT8, MIXED):
            manager.add_dynamic_config(".*", operations.ALL_SUPPORTED, 8)
            manager.add_dynamic_config(".*", operations.FULLY_CONNECTED, 8, granularity.TENSORWISE)
            for name in outer_layers(float32) if variant == MIXED else ():
                # A layer goes by the names of its outputs, each with a semicolon.
                for operation in (operations.CONV_2D, operations.FULLY_CONNECTED):
                    manager.add_quantization_config(
                        f"^{re.escape(name)};?$", operation, half, AlgorithmName.FLOAT_CASTING
                    )
        elif variant == STATIC_INT8:
            manager.add_static_config(".*", operations.CONV_2D, 8, 8)
            manager.add_static_config(".*", operations.FULLY_CONNECTED, 8, 8, granularity.TENSORWISE)
            # The quantiser's own moving average cuts off what half of the notes reach, and gave 18 dB instead of 30:
            # so every note's extremes are kept, and the ranges drawn from all of them.
            reader = calibrator.Calibrator(
                float32,
                num_threads=1,
                qsv_update_func=lambda kept, new: {
                    end: np.concatenate([kept[end], new[end]]) for end in ("min", "max")
                },
            )
            notes = list(_notes(variant, calibration))
            heard = {SIGNATURE: notes}
            frames = {key: int(graph.tensors[made].shape[-1]) for key, graph, _, made in _signatures(float32)}
            if SLICE in frames:
                # From everywhere in the notes, so that the ranges are those of the whole.
                begins = np.linspace(0, frames[SIGNATURE] - frames[SLICE], len(notes)).round()
                heard[SLICE] = [
                    {**note, BEGIN: np.full((1, 1), begin, np.float32)}
                    for note, begin in zip(notes, begins, strict=True)
                ]
            reader.calibrate(heard, manager)
            ranges = {
                name: {
                    "min": np.quantile(ends["min"], 1 - COVERED_NOTES, axis=0, keepdims=True),
                    "max": np.quantile(ends["max"], COVERED_NOTES, axis=0, keepdims=True),
                }
                for name, ends in reader.get_model_qsvs().items()
            }
        else:
            wanted = ", ".join((FLOAT16, DYNAMIC_INT8, STATIC_INT8, MIXED))
            raise DarkrackError("variant", f"one of {wanted}", variant)
        work = quantizer.Quantizer(float32, manager.get_quantization_recipe())
        return bytes(work.quantize(ranges, enable_progress_report=False).quantized_model)


def _signatures(tflite: bytes) -> Iterator[tuple[str, Any, int, int]]:
    """A model's signatures: name, graph, and the tensors that are `attributes` and `frames` in it."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    for one in model.signatureDefs:
        graph = model.subgraphs[one.subgraphIndex]
        for operation in graph.operators:
            code = model.operatorCodes[operation.opcodeIndex]
            operation.code = max(code.builtinCode, code.deprecatedBuiltinCode)
        ends = {end.name.decode(): int(end.tensorIndex) for end in (*one.inputs, *one.outputs)}
        yield one.signatureKey.decode(), graph, ends["attributes"], ends[OUTPUT]


def outer_layers(tflite: bytes) -> set[str]:
    """The layers between which a generator's other layers lie, by the names of their output tensors.

    Of each signature the weighted operations that `attributes` reaches through no other one, and those that reach
    `frames` so. Found by walking the graph, because its order and its inner names are the converter's affair.
    """
    from ai_edge_litert import schema_py_generated as schema

    weighted = {schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED}

    def nearest(graph: Any, tensor: int, *, onwards: bool) -> Iterator[str]:
        steps: dict[int, list[Any]] = collections.defaultdict(list)
        for operation in graph.operators:
            for number in operation.inputs if onwards else operation.outputs:
                steps[int(number)].append(operation)
        reached, waiting = {tensor}, [tensor]
        while waiting:
            for operation in steps.get(waiting.pop(), ()):
                if operation.code in weighted:
                    yield graph.tensors[operation.outputs[0]].name.decode()
                else:
                    ends = operation.outputs if onwards else operation.inputs
                    fresh = {int(number) for number in ends} - reached
                    reached |= fresh
                    waiting += fresh

    return {
        name
        for _, graph, heard, made in _signatures(tflite)
        for end, onwards in ((heard, True), (made, False))
        for name in nearest(graph, end, onwards=onwards)
    }


def _notes(variant: str, calibration: Inputs | None) -> Iterator[dict[str, FloatArray]]:
    """The notes of ``calibration`` one by one, as inputs with a batch of 1."""
    count = min(map(len, calibration.values())) if calibration else 0
    if calibration is None or count < LEAST_CALIBRATION_NOTES:
        expected = f"at least {LEAST_CALIBRATION_NOTES} notes to calibrate on"
        raise DarkrackError(f"variant {variant}", expected, str(count))
    for note in range(count):
        yield {name: values[note : note + 1] for name, values in calibration.items()}


# ---- ONNX ----


def onnx_int8(model: bytes, calibration: Inputs) -> bytes:
    """A float32 ONNX generator with its convolutions and dense layers in int8, for TensorRT (QDQ form).

    Weights by channel; activations symmetric around zero, which is all that TensorRT has; biases stay float32 and
    outputs of layers are not quantised, as NVIDIA advises (TensorRT documentation, "Explicit quantization"). The CPU of
    ONNX Runtime computes it too, but no faster than float32. ``calibration`` as in `quantized`, whose errors it has.
    """
    with quietly():
        import onnx
        from onnxruntime import quantization

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.notes = _notes(ONNX_INT8, calibration)

            def get_next(self) -> dict[str, FloatArray] | None:
                return next(self.notes, None)

        layers = ["Conv", "Gemm"]
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "int8.onnx"
            quantization.quantize_static(
                onnx.load_from_string(model),
                target,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=layers,
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                extra_options={
                    "CalibPercentile": COVERED_VALUES_PERCENT,
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                    "OpTypesToExcludeOutputQuantization": layers,
                },
            )
            return target.read_bytes()


def check_tensorrt(model: bytes, where: str) -> Mapping[str, int]:
    """How often each operator stands in an ONNX model, all of which TensorRT's parser takes.

    Raises DarkrackError naming ``where`` and the operator (or opset, or zero point) that it does not take; ONNX
    Runtime would then cut the graph up, and compute the rest on the CPU. Source: TENSORRT_OPERATORS.
    """
    import onnx

    loaded = onnx.load_from_string(model)
    opset = max((one.version for one in loaded.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset > TENSORRT_OPSET:
        raise DarkrackError(where, f"opset {TENSORRT_OPSET} at most, for TensorRT", f"opset {opset}")
    constants = {one.name: one for one in loaded.graph.initializer}
    counts: collections.Counter[str] = collections.Counter()
    for node in loaded.graph.node:
        name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        counts[name] += 1
        if name not in TENSORRT_OPERATORS:
            hint = "write that part of the network with other operations"
            raise DarkrackError(where, "operators that TensorRT takes", f"{name} ({node.name})", hint)
        if name in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = constants.get(node.input[2])
            if (
                zero is None
                or zero.data_type != onnx.TensorProto.INT8
                or onnx.numpy_helper.to_array(zero).any()
            ):
                got = f"another in {name} ({node.name})"
                raise DarkrackError(where, "int8 zero points that are 0, for TensorRT", got)
    return dict(counts)


# ---- Fine-tuning ----


def fine_tuned(
    generator: Module, batches: Iterable[Sequence[Tensor]], steps: int, learning_rate: float = 3e-5
) -> Module:
    """A copy of a generator whose weights lose less when they become int8: quantisation-aware, without data.

    Each of ``batches`` is one step: the generator's inputs, as it takes them. The copy computes with weights and
    activations rounded as `dynamic_int8` rounds them (weights of convolutions by channel, of dense layers by layer;
    activations by note), and learns by L1 to give the levels and deviations that the float generator gives for the
    same inputs; rounding passes gradients straight through (Bengio et al. 2013). Returns a plain generator, in
    evaluation mode and without gradients. The given one is not changed.
    """
    import torch
    from torch import nn

    student = copy.deepcopy(generator).eval().requires_grad_(True)
    layers = {
        name: layer for name, layer in student.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    }

    def rounded(values: Tensor, scale: Tensor, least: Tensor, steps: int) -> Tensor:
        scale = scale.clamp(min=1e-12)  # of what is all zeros
        whole = torch.clamp(torch.round(values / scale), least, least + steps) * scale
        return values + (whole - values).detach()

    def weight(layer: nn.Conv2d | nn.Linear) -> Tensor:
        axes = (1, 2, 3) if isinstance(layer, nn.Conv2d) else (0, 1)
        largest = layer.weight.detach().abs().amax(axes, keepdim=True)
        return rounded(layer.weight, largest / 127, torch.tensor(-127.0), 254)

    def activations(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        values = given[0]
        axes = tuple(range(1, values.dim()))
        low = values.detach().amin(axes, keepdim=True).clamp(max=0)
        high = values.detach().amax(axes, keepdim=True).clamp(min=0)
        scale = (high - low) / 255
        return (rounded(values, scale, torch.round(low / scale.clamp(min=1e-12)), 255),)

    hooks = [layer.register_forward_pre_hook(activations) for layer in layers.values()]
    optimiser = torch.optim.Adam(student.parameters(), learning_rate)
    try:
        for step, asked in zip(range(steps), batches, strict=False):
            optimiser.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            with torch.no_grad():
                wanted = generator(*asked)
            int8 = {f"{name}.weight": weight(layer) for name, layer in layers.items()}
            # The rounded weights are lent for the call, so the student itself stays a plain generator.
            got = torch.func.functional_call(student, int8, tuple(asked))
            optimiser.zero_grad()
            (got - wanted).abs().mean().backward()
            optimiser.step()
    finally:
        for hook in hooks:
            hook.remove()
    student.zero_grad(set_to_none=True)
    return student.requires_grad_(False)


# ---- Which variant ships ----


@dataclass(frozen=True)
class Measured:
    """What counts of one variant: speed, size, and what the judge heard (`darkrack evaluate`)."""

    ms_per_note: float
    size_bytes: int
    fad: float  # Fréchet distance to real notes; the lower the better
    pitch_cents: float  # median distance of the pitch that sounds from the one asked for
    correlation: float  # mean, between attributes asked for and heard; the higher the better


@dataclass(frozen=True)
class Margins:
    """How much worse than float32 a variant may be and still ship."""

    fad_share: float = 0.1  # of float32's; or, where that is more,
    fad: float = 0.2
    pitch_cents: float = 1.0
    correlation: float = 0.02

    def hold(self, variant: Measured, float32: Measured) -> bool:
        """Whether ``variant`` stays within them; what is NaN does not."""
        return (
            variant.fad <= float32.fad + max(self.fad_share * float32.fad, self.fad)
            and variant.pitch_cents <= float32.pitch_cents + self.pitch_cents
            and variant.correlation >= float32.correlation - self.correlation
        )


def choose(measured: Mapping[str, Measured], margins: Margins = Margins()) -> str:
    """The name of the variant that plays by default: the fastest that stays within the margins of float32.

    float32 itself always may; of equally fast ones the smallest file, then the first name. DarkrackError without
    float32, because there is nothing to compare with then.
    """
    if FLOAT32 not in measured:
        raise DarkrackError("variants", f"{FLOAT32} among them", ", ".join(measured) or "none")
    fit = {
        name: one for name, one in measured.items() if name == FLOAT32 or margins.hold(one, measured[FLOAT32])
    }
    return min(fit, key=lambda name: (fit[name].ms_per_note, fit[name].size_bytes, name))


@dataclass(frozen=True)
class Timing:
    """How long one variant takes for a note on this machine, in microseconds, and relative to float32."""

    median_us: float
    p90_us: float
    ratio: float  # median over the rounds of a round's median by float32's in that round


def time_variants(
    models: Mapping[str, bytes],
    inputs: Inputs,
    output: tuple[int, ...],
    *,
    yardstick: str = FLOAT32,
    rounds: int = 30,
    notes: int = 10,
) -> dict[str, Timing]:
    """Time TFLite variants side by side: in one process, on one thread, in turns, so that what else the machine does
    falls on all of them.

    ``inputs`` holds one note (a batch of 1), ``output`` is the shape of its frames. Only LiteRT's invoke is timed,
    ``notes`` times a round after two that are not; ratios are to ``yardstick``. DarkrackError without it, or where
    frames have another shape or are not finite: a variant that does not work has no speed.
    """
    from ai_edge_litert.interpreter import Interpreter

    if yardstick not in models:
        raise DarkrackError("variants", f"{yardstick} among them", ", ".join(models) or "none")
    interpreters: dict[str, Any] = {}
    places: dict[str, dict[str, int]] = {}
    for name, model in models.items():
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner(SIGNATURE)
        places[name] = {key: one["index"] for key, one in runner.get_input_details().items()}
        target = runner.get_output_details()[OUTPUT]["index"]
        del runner  # the interpreter does not run while something else holds its insides
        interpreters[name] = interpreter
        for key, place in places[name].items():
            interpreter.set_tensor(place, inputs[key])
        interpreter.invoke()
        frames = interpreter.get_tensor(target)
        if frames.shape != output or not np.isfinite(frames).all():
            got = f"shape {frames.shape}, {np.count_nonzero(~np.isfinite(frames))} not finite"
            raise DarkrackError(f"variant {name}", f"finite frames of shape {output}", got)
    taken_us: dict[str, list[list[float]]] = {name: [] for name in models}
    order = list(models)
    for _ in range(rounds):
        for name in order:
            interpreter = interpreters[name]
            for key, place in places[name].items():
                interpreter.set_tensor(place, inputs[key])
            for _ in range(2):  # the caches hold another variant's weights
                interpreter.invoke()
            taken_us[name].append([])
            for _ in range(notes):
                began_ns = time.perf_counter_ns()
                interpreter.invoke()
                taken_us[name][-1].append((time.perf_counter_ns() - began_ns) / 1e3)
        order.append(order.pop(0))
    medians = {name: np.median(taken, axis=1) for name, taken in taken_us.items()}
    return {
        name: Timing(
            float(np.median(taken)),
            float(np.quantile(taken, 0.9)),
            float(np.median(medians[name] / medians[yardstick])),
        )
        for name, taken in taken_us.items()
    }
