"""Where the steps of a training are computed, and with whom: one process on a CPU or a GPU, or several by torchrun.

A recipe's batch is the whole one. Every rank draws the same random numbers, on the CPU and for the whole batch, and
takes its own rows to its device; gradients are averaged before a step, and what is a mean over the batch is one over
all ranks. So a run learns the same on any number of ranks, up to rounding, and goes on with another number. The
first rank alone writes and shows progress.

torch's DistributedDataParallel is not used: it "doesn't work with torch.autograd.grad", as its documentation says, and
the gradient penalty is made of that.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from device.errors import DarkrackError

# Others wait while the first encodes a data set or draws a contact sheet; a rank that died is noticed at once, as its
# connections close.
WAIT = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """One of ``count`` processes that train together, the device it computes on, and its number on this machine.

    ``bfloat16``: whether convolutions and products of a forward pass are computed in it; losses, the gradient penalty,
    weights and their updates are float32 always.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    bfloat16: bool = False
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and shows progress."""
        return self.rank == 0

    # ---- the rows of a batch ----

    def divides(self, what: str, batches: Sequence[int]) -> None:
        """DarkrackError where a batch of the recipe's, called ``what``, cannot be handed out evenly."""
        if any(batch % self.count for batch in batches):
            raise DarkrackError(
                what,
                f"multiples of {self.count}, as many as there are ranks",
                f"{list(batches)}",
                "another --nproc-per-node",
            )

    def refuse_others(self, what: str) -> None:
        """DarkrackError where there are several, for ``what`` of a recipe takes whole batches."""
        if self.count > 1:
            raise DarkrackError(what, "one process", f"{self.count}", "without torchrun")

    def share(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This rank's of the rows of a batch, (B,) to (B / count,)."""
        each = len(rows) // self.count
        return rows[self.rank * each : (self.rank + 1) * each]

    def own(self, whole: Tensor, times: int = 1) -> Tensor:
        """This rank's of what the whole batch has, on its device: (times * B, ...) to (times * B / count, ...).

        ``times``: of batches that follow each other, of each of which it takes its rows.
        """
        if self.count > 1:
            apart = whole.reshape(times, self.count, -1, *whole.shape[1:])
            whole = apart[:, self.rank].flatten(0, 1)
        return self.sent(whole)

    def whole(self, own: Tensor) -> Tensor:
        """The rows of all ranks, (n, ...) to (count * n, ...); with a gradient, which has one of its own."""
        if self.count == 1:
            return own
        rows = own.new_zeros((self.count, *own.shape))
        rows = torch.cat([rows[: self.rank], own[None], rows[self.rank + 1 :]])
        total: Tensor = _Sum.apply(rows, self)  # type: ignore[no-untyped-call]
        return total.flatten(0, 1)

    def sent(self, values: Tensor) -> Tensor:
        """The same on this rank's device, while the CPU goes on where that can be."""
        if self.device.type == "cuda" and values.device.type == "cpu":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)

    def normal(self, notes: int, *shape: int, times: int = 1) -> Tensor:
        """N(0, 1) for this rank's ``notes``, (times * notes, *shape); ``times`` as in `own`."""
        return self.own(torch.randn(times * notes * self.count, *shape), times)

    def uniform(self, notes: int, *shape: int) -> Tensor:
        """Numbers from 0 to 1 for this rank's ``notes``, (notes, *shape)."""
        return self.own(torch.rand(notes * self.count, *shape))

    # ---- what all ranks agree on ----

    @torch.no_grad()
    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks, without a gradient: of a denominator, of which each rank has a part."""
        return value.detach() if self.count == 1 else self._sum(value.detach().clone()) / self.count

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Put the mean over ranks in the place of every gradient: all of a network in one piece."""
        if self.count == 1:
            return
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = self._sum(torch.cat([one.flatten() for one in gradients])) / self.count
        for one, mean in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
            one.copy_(mean.view(one.shape))

    def agreed(self, losses: Mapping[str, float], stop: bool) -> tuple[dict[str, float], bool]:
        """Means over ranks of a step's ``losses``, and whether any of them was asked to ``stop``."""
        if self.count == 1:
            return dict(losses), stop
        values = torch.tensor([*losses.values(), float(stop)], dtype=torch.float64)
        *means, stops = (self._sum(values) / self.count).tolist()
        return dict(zip(losses, means, strict=True)), stops > 0

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over ranks."""
        return {key: value * self.count for key, value in self.agreed(values, False)[0].items()}

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The others do what is in the block when the first is through with it: they find the files that it made."""
        if not self.first:
            self.agreed({}, False)
        yield
        if self.first:
            self.agreed({}, False)

    def _sum(self, values: Tensor) -> Tensor:
        """In its place; DarkrackError where another rank has gone."""
        try:
            dist.all_reduce(values)
        except RuntimeError as error:  # of several classes, each backend its own
            raise DarkrackError(
                f"rank {self.rank} of {self.count}",
                "an answer from the other ranks",
                re.sub(r"^\[\S*\] ", "", str(error).split("\n", maxsplit=1)[0]).split(". ", maxsplit=1)[0],
                "see what the others say; the same torchrun line goes on from the last checkpoint",
            ) from error
        return values

    # ---- how it is computed ----

    def cast(self) -> AbstractContextManager[Any]:
        """Forward passes in the block are computed in bfloat16 where that was asked for."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


ALONE = Ranks(torch.device("cpu"))


class _Sum(torch.autograd.Function):
    """A sum over ranks of which each has its own loss: the gradient is summed too, and so on."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks._sum(values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradients[0], ctx.ranks), None  # type: ignore[no-untyped-call]


@contextmanager
def open_ranks(device: str, precision: str, environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """This process among those that torchrun started, by its ``environment``, or alone.

    ``device`` and ``precision`` as `darkrack train` takes them (auto: a GPU where there is one). Ranks on GPUs take one
    each, by LOCAL_RANK, and talk through NCCL about gradients, through gloo about the rest. Raises DarkrackError where
    there is no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    together = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys()
    rank, count = (int(environment[key]) for key in ("RANK", "WORLD_SIZE")) if together else (0, 1)
    local = int(environment.get("LOCAL_RANK", "0")) if together else 0
    if device == "cuda" and local >= gpus:
        raise DarkrackError(
            "--device cuda",
            f"a GPU that torch can use for local rank {local}",
            f"{gpus} GPUs",
            "--device cpu",
        )
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    ranks = Ranks(place, rank, count, precision == "bfloat16", local)
    if count == 1:
        yield ranks
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo", timeout=WAIT)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
