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

from compress.prune import IN, OUT, Group, Part, weight_of
from device.errors import DarkrackError

Floats = npt.NDArray[np.float64]
Loss = Callable[[nn.Module], Tensor]  # of a network like the one that is scored, on one batch

CRITERIA = ("mi", "magnitude", "taylor", "activation", "random")
POSITIONS = 16  # of each note that activations are looked at: neighbours say the same
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
    random = np.random.default_rng(seed)
    scores = {}
    with torch.no_grad(), listening(network, groups) as heard:
        network(*batch)
    for group in groups:
        read, units = heard[group.name]
        handed_on = units.numpy().astype(np.float64)  # (B, channels, positions)
        if criterion == "activation":
            scores[group.name] = (handed_on**2).mean((0, 2))
        else:
            scores[group.name] = copula_information(*_pairs(read.numpy(), handed_on, random))
        if not handed_on.var(axis=(0, 2)).any():
            raise DarkrackError(
                group.name, "units that move", "none does", "the layer has collapsed: go back a round"
            )
    return scores


@contextmanager
def listening(network: nn.Module, groups: Sequence[Group]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """While open, each pass leaves by group: what its first maker read (B, D, positions), what it handed on.

    The latter (B, channels, positions) as the first layer reads it that reads the group: after the activation, with
    noise and all. A channel that is several inputs there is their mean. Gradients flow through both.
    """
    modules = dict(network.named_modules())
    read: dict[str, Tensor] = {}
    heard: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []

    def hear_maker(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            read[name] = inputs[0].flatten(2) if inputs[0].dim() > 2 else inputs[0][:, :, None]

        return hook

    def hear_reader(name: str, part: Part) -> Callable[..., None]:
        index = torch.from_numpy(part.index)

        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].flatten(2) if inputs[0].dim() > 2 else inputs[0][:, :, None]
            heard[name] = read[name], flat[:, index].mean(2)

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
    read: npt.NDArray[np.float32], units: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """(N, D) and (N, channels): both sides of a layer at the same moments of the same notes, POSITIONS of each note.

    Where one side has more positions than the other (a note's condition has one), the moments are matched by their
    share of the way; what has one is looked at once a note, because its repetition is no further sample. Of more than
    notes / SAMPLES_AN_INPUT inputs as many are drawn at random: moments of one note say much the same.
    """
    count = min(POSITIONS, units.shape[2]) if read.shape[2] > 1 else 1
    places = np.stack([random.choice(units.shape[2], count, replace=False) for _ in range(len(units))])
    notes = np.arange(len(units))[:, None]
    there = places * read.shape[2] // units.shape[2]
    inputs = read[notes, :, there].reshape(-1, read.shape[1]).astype(np.float64)
    most = max(len(units) // SAMPLES_AN_INPUT, 1)
    if inputs.shape[1] > most:
        inputs = inputs[:, random.choice(inputs.shape[1], most, replace=False)]
    return inputs, units[notes, :, places].reshape(-1, units.shape[1])


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
    modules = dict(network.named_modules())
    total = np.zeros(group.channels)
    for part in group.parts:
        squares = weight_of(modules[part.layer]).detach().double().square()
        if part.side == IN and squares.dim() > 1:
            squares = squares.transpose(0, 1)
        channels = squares.reshape(len(squares), -1).sum(1).numpy()[part.index].sum(1)
        total += channels / max(channels.mean(), 1e-30)
    return total


def _taylor(network: nn.Module, groups: Sequence[Group], losses: Sequence[Loss]) -> dict[str, Floats]:
    required = [parameter.requires_grad for parameter in network.parameters()]
    network.requires_grad_(True)
    scores = {group.name: np.zeros(group.channels) for group in groups}
    modules = dict(network.named_modules())
    for loss in losses:
        network.zero_grad()
        loss(network).backward()  # type: ignore[no-untyped-call]
        for group in groups:
            # To take a channel is to take what makes it; what reads it says the same again.
            gone = np.zeros(group.channels)
            for part in group.side(OUT):
                weight = weight_of(modules[part.layer])
                if weight.grad is not None:
                    change = (weight.detach() * weight.grad).reshape(len(weight), -1).sum(1).double().numpy()
                    gone += change[part.index].sum(1)
            scores[group.name] += gone**2
    network.zero_grad()
    for parameter, once in zip(network.parameters(), required, strict=True):
        parameter.requires_grad_(once)
    return scores
