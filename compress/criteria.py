"""What a channel is worth: the criteria by which trimming chooses, behind one interface.

Each gives every channel of every group a score of at least 0; only shares within a group count, see
`compress.prune.choose`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from compress.prune import IN, OUT, Group, Part, parts_of, weight_of
from device.errors import DarkrackError

Floats = npt.NDArray[np.float64]
Loss = Callable[[nn.Module], Tensor]  # of a network like the one that is scored, on one batch

CRITERIA = ("mi", "magnitude", "taylor", "activation", "random")
POSITIONS = 16  # of each note that activations are looked at: neighbours say the same
# Wide maps are 10 MB of activations a note in the smallest recipe on `stft`, 100 in the paper's.
NOTES_AT_ONCE = 16
SAMPLES_AN_INPUT = (
    4  # notes; the estimate wants more samples than inputs, and of more inputs a random part is read
)
# The least share of a unit's spread that its inputs leave open: a unit that is a linear function of them would have
# infinite information. ln(1e3) / 2 = 3.5 nats.
LEAST_OPEN = 1e-3


def score(  # noqa: PLR0917
    criterion: str,
    network: nn.Module,
    groups: Sequence[Group],
    batch: Sequence[Tensor],
    losses: Sequence[Loss],
    seed: int = 0,
) -> dict[str, Floats]:
    """Scores (channels,) of each group.

    - ``mi``: mutual information in nats between what the layer that makes the channels reads and what each unit hands
      on, on ``batch`` (the network's inputs, some hundred notes); `copula_information`. Esling et al. 2020 score by
      mutual information; the estimator is ours to choose.
    - ``magnitude``: squared weights of a channel, wherever it is made or read, each layer's as shares of its own.
    - ``taylor``: what the loss would change by without the channel, to first order, squared (Molchanov et al. 2019):
      the sum of weight times gradient over each of ``losses``.
    - ``activation``: the mean square of what a unit hands on, on ``batch``.
    - ``random``: uniform; what every other criterion has to beat.

    Raises DarkrackError that names a layer whose units all stand still.
    """
    if criterion == "random":
        random = np.random.default_rng(seed)
        return {group.name: random.uniform(0.5, 1.0, group.channels) for group in groups}
    if criterion == "magnitude":
        return {group.name: _magnitude(network, group) for group in groups}
    if criterion == "taylor":
        return _taylor(network, groups, losses)
    if criterion not in CRITERIA:
        raise DarkrackError("criterion", f"one of {', '.join(CRITERIA)}", criterion)
    notes = len(batch[0])
    draws = {group.name: np.random.default_rng([seed, n]) for n, group in enumerate(groups)}
    squares = {group.name: np.zeros(group.channels) for group in groups}
    pairs: dict[str, list[tuple[Floats, Floats]]] = {group.name: [] for group in groups}
    for first in range(0, notes, NOTES_AT_ONCE):
        with torch.no_grad(), listening(network, groups) as heard:
            network(*(one[first : first + NOTES_AT_ONCE] for one in batch))
        for name, (read, units) in heard.items():
            squares[name] += units.double().square().flatten(2).mean(2).sum(0).numpy()
            pairs[name].append(_pairs(read.numpy(), units.numpy(), draws[name]))
    scores = {}
    for group in groups:
        inputs, handed_on = (np.concatenate(side) for side in zip(*pairs[group.name], strict=True))
        if not handed_on.var(axis=0).any():
            raise DarkrackError(
                group.name, "units that move", "none does", "the layer has collapsed: go back a round"
            )
        if criterion == "activation":
            scores[group.name] = squares[group.name] / notes
            continue
        most = max(notes // SAMPLES_AN_INPUT, 1)
        if inputs.shape[1] > most:
            inputs = inputs[:, draws[group.name].choice(inputs.shape[1], most, replace=False)]
        scores[group.name] = copula_information(inputs, handed_on)
    return scores


@contextmanager
def listening(network: nn.Module, groups: Sequence[Group]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """While open, each pass leaves by group: what its first maker read (B, D, *positions), what it handed on.

    The latter (B, channels, *positions) as the first layer reads it that reads the group: after the activation, with
    noise and all. A channel that is several inputs there is their mean. Positions are those of the maps, or one.
    Gradients flow through both.
    """
    modules = dict(network.named_modules())
    read: dict[str, Tensor] = {}
    heard: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []

    def hear_maker(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            read[name] = inputs[0] if inputs[0].dim() > 2 else inputs[0][:, :, None]

        return hook

    def hear_reader(name: str, part: Part) -> Callable[..., None]:
        index = torch.from_numpy(part.index)

        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            maps = inputs[0] if inputs[0].dim() > 2 else inputs[0][:, :, None]
            heard[name] = read[name], maps[:, index].mean(2)

        return hook

    for group in groups:
        maker = next(part for part in group.side(OUT))
        outside = [
            part for part in group.side(IN) if part.layer not in {one.layer for one in group.side(OUT)}
        ]
        reader = (outside or group.side(IN))[0]
        hooks.append(modules[maker.layer].register_forward_pre_hook(hear_maker(group.name)))
        hooks.append(modules[reader.layer].register_forward_pre_hook(hear_reader(group.name, reader)))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _pairs(
    read: npt.NDArray[np.float32], units: npt.NDArray[np.float32], random: np.random.Generator
) -> tuple[Floats, Floats]:
    """(N, D) and (N, channels): both sides of a layer at the same moments of the same notes, POSITIONS of each note.

    Where one side has more positions than the other (maps are enlarged between two layers, a note's condition has one),
    the moments are matched by their share of the way along each side of the map; what has one is looked at once a note,
    because its repetition is no further sample.
    """
    if read.ndim != units.ndim:  # a dense layer on one side
        read, units = (one.reshape(*one.shape[:2], -1) for one in (read, units))
    count = 1 if read[0, 0].size == 1 else min(POSITIONS, units[0, 0].size)
    places = np.stack([random.choice(units[0, 0].size, count, replace=False) for _ in range(len(units))])
    notes = np.arange(len(units))[:, None]
    at = np.unravel_index(places, units.shape[2:])
    there = [axis * has // of for axis, has, of in zip(at, read.shape[2:], units.shape[2:], strict=True)]
    inputs = np.moveaxis(read, 1, -1)[(notes, *there)]
    handed_on = np.moveaxis(units, 1, -1)[(notes, *at)]
    return (
        inputs.reshape(-1, read.shape[1]).astype(np.float64),
        handed_on.reshape(-1, units.shape[1]).astype(np.float64),
    )


def copula_information(inputs: Floats, units: Floats) -> Floats:
    """Mutual information in nats between ``inputs`` (N, D) together and each of ``units`` (N, U), by Gaussian copula.

    Each column is replaced by the normal scores of its ranks; then the information is that of a Gaussian,
    -ln(1 - R^2) / 2, less its bias with N samples (Ince et al. 2017). A lower bound for any marginals; exact where
    they are tied by a Gaussian copula. At most -ln(LEAST_OPEN) / 2, at least 0. Wants N well above D.
    """
    from scipy.special import ndtri, psi
    from scipy.stats import rankdata

    samples = len(inputs)

    def normal(columns: Floats) -> Floats:
        scores: Floats = ndtri(rankdata(columns, axis=0) / (samples + 1))
        scores -= scores.mean(0)
        return scores

    x, y = normal(inputs), normal(units)
    basis, strength, _ = np.linalg.svd(x, full_matrices=False)
    dimensions = int((strength > 1e-6 * max(strength.max(initial=0.0), 1e-30)).sum())
    spread = (y**2).sum(0)
    explained = ((basis[:, :dimensions].T @ y) ** 2).sum(0) / np.maximum(spread, 1e-30)
    # The entropy of a Gaussian in d dimensions, estimated from N samples, is off by half the sum of
    # psi((N - i) / 2) + ln(2 / (N - 1)) over i = 1 .. d; of the three entropies all but one term of the sum cancel.
    last = samples - np.arange(1, dimensions + 2)
    if last[-1] <= 0:
        raise DarkrackError(
            "mutual information", f"more than {dimensions + 1} samples", str(samples), "score more notes"
        )
    bias = -0.5 * (psi(last[-1] / 2) - psi(last[0] / 2))
    plain = -0.5 * np.log(np.maximum(1 - explained, LEAST_OPEN))
    information: Floats = np.maximum(plain - bias, 0.0)
    information[spread <= 1e-12 * samples] = 0.0
    return information


def _magnitude(network: nn.Module, group: Group) -> Floats:
    """Squared weights of each channel; each layer's share of the group counts the same."""
    modules = parts_of(network)
    total = np.zeros(group.channels)
    for part in group.parts:
        squares = weight_of(modules[part.layer]).detach().double().square()
        if part.side == IN and squares.dim() > 1:
            squares = squares.transpose(0, 1)
        # A loose parameter may have its channels elsewhere than in front.
        rows = part.index.size if part.side == OUT else len(squares)
        channels = squares.reshape(rows, -1).sum(1).numpy()[part.index].sum(1)
        total += channels / max(channels.mean(), 1e-30)
    return total


def _taylor(network: nn.Module, groups: Sequence[Group], losses: Sequence[Loss]) -> dict[str, Floats]:
    required = [parameter.requires_grad for parameter in network.parameters()]
    network.requires_grad_(True)
    scores = {group.name: np.zeros(group.channels) for group in groups}
    modules = parts_of(network)
    for loss in losses:
        network.zero_grad()
        loss(network).backward()  # type: ignore[no-untyped-call]
        for group in groups:
            # To take a channel is to take what makes it; what reads it says the same again.
            gone = np.zeros(group.channels)
            for part in group.side(OUT):
                weight = weight_of(modules[part.layer])
                if weight.grad is not None:
                    change = (weight.detach() * weight.grad).reshape(part.index.size, -1).sum(1)
                    gone += change.double().numpy()[part.index].sum(1)
            scores[group.name] += gone**2
    network.zero_grad()
    for parameter, once in zip(network.parameters(), required, strict=True):
        parameter.requires_grad_(once)
    return scores
