"""What a training takes: time, notes, multiply-accumulates and energy, over all times that it was gone on with.

It stands in the run's folder as cost.json, written with every checkpoint. Energy is what a meter says (RAPL for the
processors, with whatever else they do; NVML for a GPU), or modelled as seconds of a core times CORE_W, and
``joules_from`` says which. Multiply-accumulates are those of the steps: what a tagger hears in between takes time and
energy, and is not among them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from device.errors import DarkrackError
from device.files import read_bytes, write_json
from device.machine import CORE_W, Meter, meter
from train.ranks import Ranks

FILE = "cost.json"
SUMS = ("steps", "notes", "seconds", "core_seconds", "macs", "joules")
MODELLED = f"modelled: seconds of a core x {CORE_W:g} W"
UNKNOWN_GPU = "the GPU's is missing: pip install nvidia-ml-py"


class Cost:
    """Counts from when it is made, on top of what ``folder`` says; DarkrackError where its file is damaged."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._path, self._ranks = folder / FILE, ranks
        self._before = own_cost(folder)
        self._macs: dict[object, float] = {}  # of a step of each kind
        self._steps = self._notes = self._done_macs = 0.0
        processors, gpu = meter(), gpu_meter(ranks.device)
        self._modelled = processors is None or processors.joules is None  # watts of a moment do not add up
        self._unknown_gpu = ranks.device.type == "cuda" and gpu is None
        self._meters = [gpu] if gpu is not None else []
        if processors is not None and not self._modelled and ranks.local == 0:
            self._meters.append(processors)  # of all that the machine does, so one rank reads it
        self._began_j = self._metered_j()
        self._began_s, self._began_core_s = time.monotonic(), time.process_time()

    def _metered_j(self) -> float:
        return sum(one.joules() for one in self._meters if one.joules is not None)

    @contextmanager
    def step(self, kind: object, notes: int) -> Iterator[None]:
        """One step with this rank's ``notes`` is done in the block; all of a ``kind`` compute the same.

        The first of a kind is counted operation by operation: convolutions and products, of the passes back too.
        """
        if kind in self._macs:
            yield
        else:
            with _Counter() as counter:  # type: ignore[no-untyped-call]
                yield
            self._macs[kind] = counter.flops / 2  # a multiply-accumulate is two of them
        self._notes += notes
        self._done_macs += self._macs[kind]
        self._steps += 1

    def so_far(self) -> dict[str, Any]:
        """All of it, over all ranks, which call this together: SUMS, ``joules_from``, notes and GMAC a second."""
        core_s = time.process_time() - self._began_core_s
        spent_j = self._metered_j() - self._began_j + (CORE_W * core_s if self._modelled else 0.0)
        shared = {"notes": self._notes, "core_seconds": core_s, "macs": self._done_macs, "joules": spent_j}
        seconds = time.monotonic() - self._began_s
        now = {"steps": self._steps, "seconds": seconds, **self._ranks.total(shared)}
        found: dict[str, Any] = {key: self._before.get(key, 0.0) + now[key] for key in SUMS}
        sources = {*self._before.get("joules_from", []), *(one.name for one in self._meters)}
        if self._modelled:
            sources.add(MODELLED)
        if self._unknown_gpu:
            sources.add(UNKNOWN_GPU)
        place = f"{self._ranks.count} x {self._ranks.device.type}"
        return {
            **found,
            "joules_from": sorted(sources),
            "computed_on": sorted({*self._before.get("computed_on", []), place}),
            "notes_per_s": found["notes"] / max(found["seconds"], 1e-9),
            "gmac_per_s": 1e-9 * found["macs"] / max(found["seconds"], 1e-9),
        }

    def write(self, found: dict[str, Any]) -> None:
        """Put `so_far`, which the first rank has, into the run's folder."""
        write_json(self._path, found)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up floating-point operations by torch's own formulas; its FlopCounterMode does not bear autograd.grad."""

    flops: float = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=made)
        return made


def count_macs(work: Callable[[], object]) -> float:
    """Multiply-accumulates of convolutions and products in it, passes back included."""
    with _Counter() as counter:  # type: ignore[no-untyped-call]
        work()
    flops: float = counter.flops
    return flops / 2


def said(found: dict[str, Any]) -> str:
    """One line of what `Cost.so_far` found."""
    return (
        f"{found['steps']:.0f} steps, {found['notes']:.0f} notes in {found['seconds'] / 3600:.2f} h: "
        f"{found['notes_per_s']:.3g} notes/s, {found['gmac_per_s']:.3g} GMAC/s, {found['joules'] / 3.6e6:.3g} kWh "
        f"({'; '.join(found['joules_from'])})"
    )


def spent(run: Path) -> dict[str, Any]:
    """SUMS and ``joules_from`` of a run and of what it started from or was trimmed from, as far as these were counted.

    ``{}`` for one whose training was not counted. DarkrackError where a file is damaged.
    """
    own = own_cost(run)
    if not own:
        return {}
    facts = json.loads(read_bytes(run / "run.json", "the facts of a run", "darkrack train makes one"))
    parent = (facts.get("trimmed") or {}).get("parent") or facts.get("started_from") or {}
    before = parent.get("cost") or {}
    sources = sorted({*own["joules_from"], *before.get("joules_from", [])})
    return {**{key: own[key] + before.get(key, 0.0) for key in SUMS}, "joules_from": sources}


def own_cost(run: Path) -> dict[str, Any]:
    """What a run took itself; ``{}`` where it has not begun, or began before this was counted; errors as `spent`."""
    path = run / FILE
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(read_bytes(path, "what a run took"))
        for key in SUMS:
            float(found[key])
    except (ValueError, KeyError, TypeError) as error:
        raise DarkrackError(
            str(path), "what a run took, as darkrack train wrote it", repr(error), "delete it to count anew"
        ) from error
    return found


def gpu_meter(device: torch.device) -> Meter | None:
    """NVML's counter of the GPU that is computed on, where NVIDIA's package for it is installed and it has one."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    except pynvml.NVMLError:
        return None
    return Meter("NVML", joules=lambda: 1e-3 * pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu))  # it says mJ
