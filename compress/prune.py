"""Which channels of a network go together, what they cost, which to take, and taking them out.

torch-pruning's dependency graph (Fang et al. 2023) knows what must go together and cuts it; what is here chooses,
counts before it cuts, and checks afterwards that nothing else happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from device.errors import DarkrackError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)
OUT, IN = "out", "in"
BLOCK = 8  # kernels work on 8 or 16 channels at once: 9 cost what 16 do
# A layer, or a parameter that no layer has, as a bias of maps beside a dense layer.
Weighty = nn.Module | nn.Parameter


@dataclass(frozen=True, eq=False)
class Part:
    """A layer's share of a group: ``index`` (channels, k), the outputs or inputs (``side``) that each channel is there.

    A loose parameter is one too. k is 1, or more where a channel is several of them: a dense layer whose outputs are
    reshaped to channels and frames, or a gain and an offset side by side.
    """

    layer: str
    side: str
    index: Indices


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that go only together, named after the first layer that makes them."""

    name: str
    channels: int
    parts: tuple[Part, ...]

    def side(self, side: str) -> list[Part]:
        """The layers that make the channels (OUT) or read them (IN), in the network's order."""
        return [part for part in self.parts if part.side == side]


@dataclass(frozen=True)
class Layer:
    """What one layer costs: ``outputs`` x ``inputs`` x ``macs`` or x ``weights``, and ``biases`` an output."""

    outputs: int
    inputs: int
    macs: float
    weights: float
    biases: int


@dataclass(frozen=True, eq=False)
class Structure:
    """A network's layers with weights and its groups, both in the network's order; see `structure_of`."""

    layers: Mapping[str, Layer]
    groups: tuple[Group, ...]
    norms: Mapping[str, int]  # parameters of each part that is none of these, for each of its channels
    rest: int  # parameters of everything else

    def widths(self) -> dict[str, int]:
        """Channels of each group as they are."""
        return {group.name: group.channels for group in self.groups}

    def cost(self, widths: Mapping[str, int], per: str = "macs") -> float:
        """Multiply-accumulates of one pass, or ``per`` "weights" all parameters, with these channels in each group."""
        outputs = {name: layer.outputs for name, layer in self.layers.items()}
        inputs = {name: layer.inputs for name, layer in self.layers.items()}
        norms = 0
        for group in self.groups:
            gone = group.channels - widths[group.name]
            for part in group.parts:
                if part.layer in self.layers:
                    (outputs if part.side == OUT else inputs)[part.layer] -= gone * part.index.shape[1]
                else:
                    norms -= gone * self.norms.get(part.layer, 0)
        if per == "macs":
            return sum(layer.macs * outputs[name] * inputs[name] for name, layer in self.layers.items())
        return (
            self.rest
            + norms
            + sum(
                outputs[name] * (layer.weights * inputs[name] + layer.biases)
                for name, layer in self.layers.items()
            )
        )


def count_macs(network: Callable[..., Any], example: Sequence[Tensor]) -> int:
    """Multiply-accumulates of one pass for the first note of ``example``: convolutions and products of matrices."""
    from torch.utils.flop_counter import FlopCounterMode

    mode = _evaluated(network) if isinstance(network, nn.Module) else nullcontext()
    with torch.no_grad(), mode, FlopCounterMode(display=False) as counter:
        network(*(one[:1] for one in example))
    return int(counter.get_total_flops()) // 2  # it counts both


def _macs_by_layer(network: nn.Module, example: Sequence[Tensor]) -> dict[str, int]:
    total: dict[str, int] = {}

    def counting(name: str) -> Callable[..., None]:
        def count(module: nn.Module, _: object, output: Tensor) -> None:
            # One output costs one row of weights; only the first note of a batch counts.
            total[name] = total.get(name, 0) + output[0].numel() * weight_of(module)[0].numel()

        return count

    hooks = [
        module.register_forward_hook(counting(name))
        for name, module in network.named_modules()
        if isinstance(module, WEIGHTED)
    ]
    try:
        with torch.no_grad(), _evaluated(network):
            network(*example)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def weight_of(module: Weighty) -> Tensor:
    """The weights of a layer that has some, or a loose parameter itself."""
    weight = module if isinstance(module, nn.Parameter) else module.weight
    assert isinstance(weight, Tensor)
    return weight


def parts_of(network: nn.Module) -> dict[str, Weighty]:
    """What a `Part` may name, in the network's order, parameters behind layers."""
    return {**dict(network.named_modules()), **dict(network.named_parameters())}


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Batch statistics and dropout off, and as it was afterwards."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def structure_of(network: nn.Module, example: Sequence[Tensor], fixed: Sequence[str]) -> Structure:
    """What can be taken from a network, and what each part of it costs.

    ``example``: inputs of one pass. ``fixed``: the layers whose outputs must stay, because they are the network's.
    Raises DarkrackError that names a layer that the dependency graph skipped, or that it cannot treat.
    """
    macs = _macs_by_layer(network, example)
    layers = {}
    for name, module in network.named_modules():
        if isinstance(module, WEIGHTED):
            weight = weight_of(module)
            if isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups != 1:
                raise DarkrackError(name, "a convolution of one group", f"{module.groups} groups")
            outputs, inputs = weight.shape[:2]
            kernel = weight[0, 0].numel()
            layers[name] = Layer(
                outputs, inputs, macs.get(name, 0) / (outputs * inputs), kernel, int(module.bias is not None)
            )
    weighted = sum(
        p.numel() for m in network.modules() if isinstance(m, WEIGHTED) for p in m.parameters(recurse=False)
    )
    rest = sum(parameter.numel() for parameter in network.parameters()) - weighted
    groups = tuple(_groups(network, example, fixed, layers))
    made = {part.layer for group in groups for part in group.side(OUT)}
    for name in layers:
        if name not in made and name not in fixed:
            raise DarkrackError(
                name,
                "channels that can be taken",
                "a layer that the dependency graph skipped",
                "name it as fixed",
            )
    modules = parts_of(network)

    def parameters(of: Weighty) -> int:
        return of.numel() if isinstance(of, nn.Parameter) else sum(one.numel() for one in of.parameters())

    norms = {
        part.layer: parameters(modules[part.layer]) // group.channels
        for group in groups
        for part in group.parts
        if part.layer not in layers
    }
    return Structure(layers, groups, norms, rest)


def _graph(network: nn.Module, example: Sequence[Tensor]) -> Any:
    import torch_pruning  # type: ignore[import-untyped]

    graph = torch_pruning.DependencyGraph()
    required = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    network.requires_grad_(True)  # the graph is that of autograd
    try:
        with _evaluated(network), torch.enable_grad():
            return graph.build_dependency(network, example_inputs=tuple(example), verbose=False)
    finally:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(required[name])


def _groups(
    network: nn.Module, example: Sequence[Tensor], fixed: Sequence[str], layers: Mapping[str, Layer]
) -> Iterator[Group]:
    graph = _graph(network, example)
    modules = parts_of(network)
    names = {module: name for name, module in modules.items()}
    order = {name: place for place, name in enumerate(modules)}
    seen: set[tuple[str, str]] = set()
    for name in layers:
        if name in fixed or (name, OUT) in seen:
            continue
        whole = _entries(
            graph, graph.get_pruning_group(modules[name], _cutter(graph, modules[name], OUT), [0]), names
        )
        if any(side == OUT and layer in fixed for layer, side, _ in whole):
            raise DarkrackError(
                name, "outputs that may go", f"outputs tied to {', '.join(fixed)}", "name it as fixed"
            )
        # A channel is one entry of the part that has the fewest; asked for one by one, because the graph alone knows
        # which outputs of a dense layer become which channel.
        fewest, side = min(
            ((layer, side) for layer, side, _ in whole), key=lambda one: _size(modules[one[0]], one[1])
        )
        count = _size(modules[fewest], side)
        index: dict[tuple[str, str], list[list[int]]] = {}
        cutter = _cutter(graph, modules[fewest], side)
        for channel in range(count):
            for layer, where, places in _entries(
                graph, graph.get_pruning_group(modules[fewest], cutter, [channel]), names
            ):
                index.setdefault((layer, where), [[] for _ in range(count)])[channel] += places
        parts = [
            Part(layer, where, np.array([sorted(set(row)) for row in rows], np.int64))
            for (layer, where), rows in sorted(index.items(), key=lambda item: order[item[0][0]])
        ]
        for part in parts:
            size = _size(modules[part.layer], OUT)
            if part.side == OUT and sorted(part.index.ravel().tolist()) != list(range(size)):
                raise DarkrackError(
                    part.layer,
                    f"all of its {size} outputs in one group",
                    f"{np.unique(part.index).size} tied to {fewest}",
                    "the dependency graph lost its way (two flattened maps side by side?); name it as fixed",
                )
        seen.update((part.layer, part.side) for part in parts)
        makers = [part.layer for part in parts if part.side == OUT]
        yield Group(makers[0], count, tuple(parts))


def _entries(graph: Any, group: Any, names: Mapping[Weighty, str]) -> list[tuple[str, str, list[int]]]:
    """(layer, side, places) of what has parameters or a count of channels in a group of torch-pruning."""
    found = []
    for dependency, places in group:
        module = dependency.target.module
        if names.get(module):
            side = OUT if graph.is_out_channel_pruning_fn(dependency.handler) else IN
            found.append((names[module], side, [int(place) for place in places]))
    return found


def _cutter(graph: Any, module: Weighty, side: str) -> Any:
    cutter = graph.get_pruner_of_module(module)
    return cutter.prune_out_channels if side == OUT else cutter.prune_in_channels


def _size(module: Weighty, side: str) -> int:
    if isinstance(module, WEIGHTED):
        return int(weight_of(module).shape[0 if side == OUT else 1])
    return weight_of(module).numel()  # a norm, or a loose parameter


def choose(
    structure: Structure,
    scores: Mapping[str, Floats],
    budget_macs: float,
    per: str = "macs",
    floor: int = BLOCK,
) -> dict[str, Indices]:
    """Channels to take from each group so that a pass costs at most ``budget_macs``: all layers at once.

    ``scores`` (channels,) >= 0: what each channel is worth beside the others of its group; only their shares count, so
    that a group with large scores is not spared whole. Blocks of BLOCK go one after another, each time the one that
    loses the least of what is left in its group for what it saves (``per``: "macs" or "weights"). That spares a group
    the more, the less is left of it. No group falls below ``floor`` channels, nor below what it has; where that is less
    than a block, the last block of a group goes channel by channel.
    Raises DarkrackError where scores are missing or all zero (a collapsed layer), or the budget cannot be met.
    """
    for group in structure.groups:
        score = scores[group.name]
        if (
            score.shape != (group.channels,)
            or not np.isfinite(score).all()
            or not score.min() >= 0
            or not score.any()
        ):
            raise DarkrackError(
                group.name,
                f"{group.channels} scores, finite, none below 0 and not all 0",
                f"{np.count_nonzero(np.isfinite(score) & (score > 0))} of them above 0",
                "the layer has collapsed: go back a round, or take less at a time",
            )
    widths = structure.widths()
    order = {name: np.argsort(score, kind="stable") for name, score in scores.items()}
    left = {name: float(score.sum()) for name, score in scores.items()}
    taken = dict.fromkeys(widths, 0)
    while structure.cost(widths) > budget_macs:
        cost = structure.cost(widths, per)
        best = None
        for group in structure.groups:
            name, width = group.name, widths[group.name]
            count = 1 if width <= BLOCK else width % BLOCK or BLOCK
            if width - count < floor:
                continue
            lost = float(scores[name][order[name][taken[name] : taken[name] + count]].sum())
            saved = cost - structure.cost({**widths, name: width - count}, per)
            # Of a product of shares, each group's is what remains of its score: log(1 - share lost) for what is saved.
            share = min(lost / left[name], 1 - 1e-9) if left[name] > 0 else 0.0
            price = -math.log1p(-share) / max(saved, 1e-9)
            if best is None or price < best[0]:
                best = price, name, count, lost
        if best is None:
            raise DarkrackError(
                "the budget",
                f"at least {structure.cost(widths):.4g} MACs, as small as it gets",
                f"{budget_macs:.4g}",
                f"no layer may have fewer than {floor} channels: --floor",
            )
        _, name, count, lost = best
        widths[name] -= count
        taken[name] += count
        left[name] -= lost
    return {name: np.sort(order[name][:count]) for name, count in taken.items() if count}


def take(
    network: nn.Module, example: Sequence[Tensor], structure: Structure, channels: Mapping[str, Indices]
) -> Structure:
    """Take these channels of each group out of a network, in place, and return its structure afterwards.

    Raises DarkrackError where the network then is not what was counted: a group that was skipped, or one too many.
    """
    wanted = {group.name: group.channels - len(channels.get(group.name, ())) for group in structure.groups}
    modules = parts_of(network)
    graph = _graph(network, example)
    for group in structure.groups:
        gone = channels.get(group.name)
        if gone is None or not len(gone):
            continue
        part = min(group.parts, key=lambda one: one.index.shape[1])
        module = modules[part.layer]
        places = part.index[gone].ravel().tolist()
        graph.get_pruning_group(module, _cutter(graph, module, part.side), places).prune()
    fixed = [
        name
        for name in structure.layers
        if name not in {p.layer for g in structure.groups for p in g.side(OUT)}
    ]
    after = structure_of(network, example, fixed)
    for name, width in wanted.items():
        found = after.widths().get(name)
        if found != width:
            raise DarkrackError(
                name, f"{width} channels after trimming", str(found), "torch-pruning skipped it"
            )
    counted, predicted = count_macs(network, example), structure.cost(wanted)
    if counted != round(predicted):
        raise DarkrackError(
            "the trimmed network", f"{predicted:.0f} MACs", str(counted), "please report this"
        )
    return after
