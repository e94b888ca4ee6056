"""A fader: an adversary reads attributes off z, and the encoder learns to leave it nothing to read.

Lample et al. 2017, "Fader Networks": attributes that z tells as well can contradict those that are asked for. Theirs
are binary, and the encoder asks that each be told as its opposite. Soft labels have no opposite, and a z that tells the
wrong thing tells it. Here the adversary predicts them in standard deviations by least squares, and the encoder asks
that it be as wrong as one that says the mean, and no more. What it explains beyond that is the R^2 that the judge calls
leakage: the encoder's loss, which has its minimum, 0, where nothing leaks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.dataset import TrainingSet
from train.recipe import Reconstruction

WIDTH = 256
SLOPE = 0.2
LEAST_SPREAD = 1e-4  # of a label that all notes share


class Adversary(nn.Module):
    """z (B, latent) to its guess of the soft labels (B, A) in standard deviations, from z and nothing else.

    ``labels`` (N, A): those of the training notes. z comes in standard deviations of the batch, as to the judge's
    probes: what is told in a whisper is told.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, latent: int, labels: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", labels.mean(0, keepdim=True))
        self.register_buffer("scale", labels.std(0, keepdim=True).clamp(min=LEAST_SPREAD))
        self.norm = nn.BatchNorm1d(latent, affine=False, track_running_stats=False)
        self.layers = nn.ModuleList([nn.Linear(latent, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.out = nn.Linear(WIDTH, labels.shape[1])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        x = self.norm(z)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        guess: Tensor = self.out(x)
        return guess

    def missed(self, z: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of its guess of ``labels`` (B, A): 1 where it knows nothing."""
        error: Tensor = self(z) - (labels - self.mean) / self.scale
        return error.square().mean()


def adversary_of(options: Reconstruction | None, latent: int, notes: TrainingSet) -> Adversary | None:
    """The adversary that a recipe asks for, or None; it draws from torch's random state only where there is one."""
    if options is None or not options.fader_weight:
        return None
    return Adversary(latent, torch.from_numpy(notes.soft_labels[notes.parts["train"]]))


def optimiser_of(adversary: Adversary, options: Reconstruction) -> torch.optim.Optimizer:
    """Adam as in the paper: momentum .5."""
    return torch.optim.Adam(adversary.parameters(), options.fader_learning_rate, (0.5, 0.999))


def weight_at(options: Reconstruction, step: int) -> float:
    """Of what leaks, in the encoder's loss: up from 0 on a line, as in the paper."""
    return options.fader_weight * min(1.0, step / options.fader_steps if options.fader_steps else 1.0)


def leak(
    adversary: Adversary,
    z: Tensor,
    labels: Tensor,
    options: Reconstruction,
    *,
    step: int,
    descend: Callable[[Tensor], None],
) -> tuple[Tensor, float]:
    """`given_away` after as many lessons as the recipe asks for, weighed as it is at ``step``; and its share."""
    told, share = given_away(adversary, z, labels, options.fader_lessons, descend)
    return weight_at(options, step) * told, share


def given_away(
    adversary: Adversary,
    z: Tensor,
    labels: Tensor,
    lessons: int,
    descend: Callable[[Tensor], None],
) -> tuple[Tensor, float]:
    """After ``lessons`` of the adversary (``descend`` on its loss), what z gives away, for the encoder to bring to 0.

    And what share of the labels' variance the adversary explained before these, for the log: of notes that it had not
    seen with that z. With one lesson a step the encoder is elsewhere already, and leaks as before.
    """
    first = None
    for _ in range(lessons):
        missed = adversary.missed(z.detach(), labels)
        first = missed.item() if first is None else first
        descend(missed)
    assert first is not None
    adversary.requires_grad_(False)
    told = F.relu(1 - adversary.missed(z, labels))
    adversary.requires_grad_(True)
    return told, 1 - first
