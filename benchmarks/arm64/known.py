"""Networks that others have measured on these cores, built here with random weights, so that they can be counted.

MobileNet v1: Howard et al. 2017 (arXiv 1704.04861), table 1. MobileNet v2: Sandler et al. 2018 (arXiv 1801.04381),
table 2. Both at 224 x 224 and width 1, batch normalisation folded away, as every engine runs them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arm64.cost import MACHINES
from benchmarks.arm64.counts import Piece, count
from benchmarks.arm64.root import BOARDS, Root, packages
from device.files import read_toml

LITERT, NCNN, NCNN_INT8 = "LiteRT", "ncnn", "ncnn int8"  # as published.toml names them
NCNN_WHEEL = "ncnn==1.0.20261020"
SIZE, COLOURS, CLASSES = 224, 3, 1000

# Strides and output channels of the 13 pairs of depthwise and pointwise convolutions after the first one.
V1 = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *5 * ((1, 512),), (2, 1024), (1, 1024))
# Expansion, output channels, repetitions, stride of the first.
V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@dataclass(frozen=True)
class Convolution:
    """One layer: ``groups`` is 1 or all inputs. ``limit`` cuts its output: 0 ReLU, 6 ReLU6, None nothing."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int
    limit: int | None
    adds: bool = False  # what went into the block, two layers before, is added to what comes out


def mobilenet_v1() -> Iterator[Convolution]:
    """28 layers with the dense one; 569 million multiply-accumulates."""
    yield Convolution(COLOURS, 32, 3, 2, 1, 0)
    channels = 32
    for stride, outputs in V1:
        yield Convolution(channels, channels, 3, stride, channels, 0)
        yield Convolution(channels, outputs, 1, 1, 1, 0)
        channels = outputs


def mobilenet_v2() -> Iterator[Convolution]:
    """Inverted residuals; 300 million multiply-accumulates."""
    yield Convolution(COLOURS, 32, 3, 2, 1, 6)
    channels = 32
    for expansion, outputs, repetitions, first_stride in V2:
        for n in range(repetitions):
            stride, wide = first_stride if n == 0 else 1, channels * expansion
            if expansion > 1:
                yield Convolution(channels, wide, 1, 1, 1, 6)
            yield Convolution(wide, wide, 3, stride, wide, 6)
            yield Convolution(wide, outputs, 1, 1, 1, None, adds=stride == 1 and channels == outputs)
            channels = outputs
    yield Convolution(channels, 1280, 1, 1, 1, 6)


NETWORKS = {"MobileNet v1": mobilenet_v1, "MobileNet v2": mobilenet_v2}


def macs(name: str) -> int:
    """Multiply-accumulates of one inference, the dense layer included."""
    size, total, last = SIZE, 0, 0
    for layer in NETWORKS[name]():
        size = -(-size // layer.stride)
        total += size**2 * layer.outputs * layer.inputs // layer.groups * layer.kernel**2
        last = layer.outputs
    return total + last * CLASSES


def ncnn_param(name: str, eight_bits: bool = False) -> str:
    """The network in ncnn's text format, from ``data`` to ``output``: a line a layer, its parameters by number.

    ``eight_bits``: weights and activations of convolutions and of the dense layer, floats between the layers.
    """
    lines: list[str] = [f"Input data 0 1 data 0={SIZE} 1={SIZE} 2={COLOURS}"]
    blobs = 1
    now, block = "data", ""

    def layer(kind: str, inputs: list[str], outputs: list[str], *parameters: str) -> None:
        nonlocal blobs
        at = f"{len(lines)}"
        lines.append(" ".join([kind, at, f"{len(inputs)} {len(outputs)}", *inputs, *outputs, *parameters]))
        blobs += len(outputs)

    plan = list(NETWORKS[name]())
    for n, one in enumerate(plan):
        if n + 2 < len(plan) and plan[n + 2].adds:
            layer("Split", [now], [f"s{n}", f"t{n}"])
            now, block = f"s{n}", f"t{n}"
        weights = one.outputs * one.inputs // one.groups * one.kernel**2
        shape = f"0={one.outputs} 1={one.kernel} 3={one.stride} 4={one.kernel // 2} 5=1 6={weights}"
        cut = {None: "", 0: "9=1", 6: "9=3 -23310=2,0.000000e+00,6.000000e+00"}[one.limit]
        kind, groups = ("Convolution", "") if one.groups == 1 else ("ConvolutionDepthWise", f"7={one.groups}")
        eight = ("8=2" if one.groups == 1 else "8=1") if eight_bits else ""
        layer(kind, [now], [f"b{n}"], *filter(None, (shape, groups, eight, cut)))
        now = f"b{n}"
        if one.adds:
            layer("BinaryOp", [now, block], [f"a{n}"], "0=0")
            now = f"a{n}"
    layer("Pooling", [now], ["pooled"], "0=1 4=1")
    of_dense = f"2={CLASSES * plan[-1].outputs}"
    layer(
        "InnerProduct", ["pooled"], ["dense"], f"0={CLASSES} 1=1", of_dense, *(["8=2"] if eight_bits else [])
    )
    layer("Softmax", ["dense"], ["output"], "0=0")
    return f"7767517\n{len(lines)} {blobs}\n" + "\n".join(lines) + "\n"


def tflite(name: str) -> bytes:
    """The network as float32 TFLite, channels last, by way of torch and the converter that bundles take."""
    from compress.quantize import quietly

    with quietly():
        import litert_torch
        import torch
        from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plan = list(NETWORKS[name]())
            self.layers = nn.ModuleList(
                nn.Conv2d(one.inputs, one.outputs, one.kernel, one.stride, one.kernel // 2, groups=one.groups)
                for one in self.plan
            )
            self.dense = nn.Linear(self.plan[-1].outputs, CLASSES)

        def forward(self, now: Any) -> Any:
            block = now
            for n, (one, convolve) in enumerate(zip(self.plan, self.layers, strict=True)):
                if n + 2 < len(self.plan) and self.plan[n + 2].adds:
                    block = now
                now = convolve(now)
                if one.limit is not None:
                    now = nn.functional.relu6(now) if one.limit else nn.functional.relu(now)
                if one.adds:
                    now = now + block
            return torch.softmax(self.dense(now.mean((2, 3))), 1)

    torch.manual_seed(0)
    network = litert_torch.to_channel_last_io(Network().eval(), args=[0])
    with quietly():
        return bytes(litert_torch.convert(network, (torch.zeros(1, SIZE, SIZE, COLOURS),)).model_content())


def count_all(root: Root, published: Path) -> dict[str, dict[str, dict[str, Piece]]]:
    """One inference of every network that was published: engine -> core -> network -> what was counted."""
    measured = read_toml(published, "measurements")["measured"]
    wanted = {(one["engine"], MACHINES[one["machine"]].core, one["network"]) for one in measured}
    found: dict[str, dict[str, dict[str, Piece]]] = {}
    with tempfile.TemporaryDirectory(prefix="darkrack-arm64.") as folder:
        for engine, cpu, name in sorted(wanted):
            kind = "tflite" if engine == LITERT else "ncnn"
            path = Path(folder) / f"network.{kind}"
            if engine == LITERT:
                path.write_bytes(tflite(name))
            else:
                path.write_text(ncnn_param(name, eight_bits=engine == NCNN_INT8), encoding="utf-8")
            also = () if engine == LITERT else (packages(NCNN_WHEEL, "requests", "portalocker"),)
            (board,) = (board for board in BOARDS if board.cpu == cpu)
            counted = count(root, board, kind, str(path), also=also)
            found.setdefault(engine, {}).setdefault(cpu, {})[name] = counted["inference"]
    return found
