"""What a note's frames cost: every variant of a bundle in every runtime that is here, each in processes of its own.

A fresh process for each round: the time to the first note is then that of a start, the peak of memory means something,
and where the system happens to put the weights, which alone can make a tenth of a difference, is drawn anew.
"""

from __future__ import annotations

import importlib.util
import math
import re
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device import bundle as bundles
from device.bundle import ONNX, ONNX_INT8, Bundle
from device.errors import DarkrackError
from device.generator import OUTPUT, Asked, Asker, Generator, Shape, trained_pitch

FloatArray = npt.NDArray[np.float32]

LITERT = "LiteRT"
# As ONNX Runtime calls them, and as people do.
PROVIDERS = {
    "CPUExecutionProvider": "ONNX Runtime CPU",
    "CUDAExecutionProvider": "ONNX Runtime CUDA",
    "TensorrtExecutionProvider": "ONNX Runtime TensorRT",
}
ONNX_MEMBERS = {"onnx": ONNX, "onnx_int8": ONNX_INT8}
REFERENCE = "float32"
VELOCITY = 0.8
WARM_NOTES = (
    5  # after the first, before those that are counted: caches fill, the clock of a sleeping core rises
)
QUALITY_NOTES = 8
MORPH_NOTES = 30
AGAIN_NOTES = 40
ENERGY_S = 1.0  # of notes, and of rest before them
WAIT_S = 600.0  # for a round's answer
BIN = 1.01  # of the histogram: each bin ends 1 % later than it begins


@dataclass(frozen=True)
class Subject:
    """One variant of a bundle in one runtime. ``member``: the file that holds it."""

    path: Path
    variant: str
    runtime: str
    threads: int
    member: str
    size_bytes: int


@dataclass(frozen=True)
class Budget:
    """How long a round goes on: so many notes, or so many seconds where they are slow."""

    notes: int
    seconds: float


@dataclass(frozen=True)
class Round:
    """What one process measured. All times in ms; ``frames`` of QUALITY_NOTES notes where they were asked for.

    ``import_ms``: the runtime's code; ``load_ms``: model to interpreter; ``first_ms``: the first note after that.
    ``again_ms``: a held note once more, whose noise is kept; ``slice_ms``: some frames of it; ``morph_ms``: a held note
    as the worker makes it, up to the table that a voice plays (None but for LiteRT). ``base_bytes``: resident memory
    before the runtime was imported; ``peak_bytes``: the most it ever was. ``energy_j`` a note, idle power taken off.
    """

    import_ms: float
    load_ms: float
    first_ms: float
    notes_ms: tuple[float, ...]
    again_ms: float
    slice_ms: float | None
    morph_ms: float | None
    base_bytes: int | None
    peak_bytes: int | None
    energy_j: float | None = None
    frames: FloatArray | None = field(default=None, repr=False)


def runtimes() -> tuple[list[str], list[str]]:
    """The providers of ONNX Runtime that are here (its own names), and in words what is not."""
    if importlib.util.find_spec("onnxruntime") is None:
        return [], ["ONNX Runtime: not present (no package onnxruntime)"]
    import onnxruntime

    there = onnxruntime.get_available_providers()
    absent = [f"{told}: not present" for name, told in PROVIDERS.items() if name not in there]
    return [name for name in PROVIDERS if name in there], absent


def subjects(
    read: Sequence[Bundle], threads: Sequence[int], variants: Sequence[str] | None, providers: Sequence[str]
) -> list[Subject]:
    """What there is to measure; DarkrackError for a variant that no bundle has."""
    found = []
    for bundle in read:
        manifest = bundle.manifest
        for count in threads:
            for name, variant in manifest.variants.items():
                found.append(Subject(bundle.path, name, LITERT, count, variant.file, variant.size_bytes))
            for name, member in ONNX_MEMBERS.items():
                if member in bundle.files:
                    size = len(bundle.files[member])
                    found += [
                        Subject(bundle.path, name, PROVIDERS[one], count, member, size)
                        for one in providers
                        if one == "CPUExecutionProvider"
                        or count == threads[0]  # a GPU has no threads of ours
                    ]
    if variants:
        for name in variants:
            if not any(one.variant == name for one in found):
                there = ", ".join(dict.fromkeys(one.variant for one in found))
                raise DarkrackError("--variant", f"one of {there}", name, "export more with --variants")
        found = [one for one in found if one.variant in variants]
    return found


def has_onnx(bundle: Bundle) -> bool:
    """Whether there is anything in it for ONNX Runtime."""
    return any(member in bundle.files for member in ONNX_MEMBERS.values())


def measure(subject: Subject, budget: Budget, frames: bool) -> Round | str:
    """One round in a process of its own; in words why not, where a runtime is there but cannot be used."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=run_inference, args=(subject, budget, frames, theirs), daemon=True, name="inference"
    )
    # Ctrl-C goes to the whole group, and is this process's to answer: a child is born with what is blocked here.
    resource_tracker.ensure_running()  # or the first start would begin it, which unblocks
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    try:
        said = ours.recv() if ours.poll(WAIT_S) else None
    except EOFError:
        said = None
    finally:
        process.join(1.0)
        if process.is_alive():
            process.kill()
            process.join()
    if isinstance(said, DarkrackError):
        raise said
    if said is None:
        where = f"{subject.path}: variant {subject.variant} in {subject.runtime}"
        raise DarkrackError(where, "a process that answers", f"one that ended (exit {process.exitcode})")
    answer: Round | str = said
    return answer


def run_inference(subject: Subject, budget: Budget, frames: bool, answer: Connection) -> None:
    """Body of that process."""
    try:
        answer.send(_round(subject, budget, frames))
    except _NotPresentError as error:
        answer.send(str(error))
    except DarkrackError as error:
        answer.send(error)


class _NotPresentError(Exception):
    """A runtime that says it is there and does not run."""


def _round(subject: Subject, budget: Budget, frames: bool) -> Round:
    bundle = bundles.read(subject.path, replay=False)  # the parent has replayed it
    manifest = bundle.manifest
    z, labels, pitch_midi = controls(bundle)
    base_bytes = _status_bytes("VmRSS")
    before = time.perf_counter()
    if subject.runtime == LITERT:
        from ai_edge_litert.interpreter import Interpreter  # noqa: F401
    else:
        import onnxruntime  # noqa: F401
    import_ms = (time.perf_counter() - before) * 1e3
    before = time.perf_counter()
    made = _maker_of_notes(bundle, subject)
    load_ms = (time.perf_counter() - before) * 1e3

    def note_ms(seed: int) -> float:
        before = time.perf_counter()
        made(Asked(z, labels, pitch_midi, VELOCITY, seed))
        return (time.perf_counter() - before) * 1e3

    first_ms = note_ms(0)
    for seed in range(1, 1 + WARM_NOTES):
        note_ms(seed)
    notes_ms: list[float] = []
    until_s = time.perf_counter() + budget.seconds
    while len(notes_ms) < 3 or (len(notes_ms) < budget.notes and time.perf_counter() < until_s):
        notes_ms.append(note_ms(1 + WARM_NOTES + len(notes_ms)))
    few = min(AGAIN_NOTES, len(notes_ms))
    again_ms = statistics.median([note_ms(0) for _ in range(few + 1)][1:])
    # What it took until here; what follows is not the runtime's.
    peak_bytes = _status_bytes("VmHWM")
    slice_ms = morph_ms = None
    if subject.runtime == LITERT and manifest.slice is not None:
        slice_ms = _slice_ms(bundle, subject, few)
    spent = _energy_j(lambda: note_ms(0))
    heard = None
    if frames:
        heard = np.stack([made(asked) for asked in quality_notes(bundle)])
    if subject.runtime == LITERT:
        morph_ms = _morph_ms(bundle, made, min(MORPH_NOTES, few))
    return Round(
        import_ms=import_ms,
        load_ms=load_ms,
        first_ms=first_ms,
        notes_ms=tuple(notes_ms),
        again_ms=again_ms,
        slice_ms=slice_ms,
        morph_ms=morph_ms,
        base_bytes=base_bytes,
        peak_bytes=peak_bytes,
        energy_j=spent,
        frames=heard,
    )


def controls(bundle: Bundle) -> tuple[FloatArray, FloatArray, float]:
    """Latent, soft labels and pitch that stand for a bundle: the middle of all."""
    manifest = bundle.manifest
    middle = [attribute.quantiles[len(attribute.quantiles) // 2] for attribute in manifest.attributes]
    latent = np.zeros(manifest.latent_size, np.float32)
    return latent, np.asarray(middle, np.float32), statistics.fmean(manifest.pitch_range_midi)


def quality_notes(bundle: Bundle) -> list[Asked]:
    """Notes across latent, knobs and pitch, the same for all variants."""
    manifest = bundle.manifest
    rng = np.random.default_rng(1)
    low, high = manifest.pitch_range_midi
    notes = []
    for n in range(QUALITY_NOTES):
        z = rng.standard_normal(manifest.latent_size, dtype=np.float32)
        labels = [one.quantiles[rng.integers(len(one.quantiles))] for one in manifest.attributes]
        pitch_midi = low + (high - low) * n / (QUALITY_NOTES - 1)
        notes.append(Asked(z, np.asarray(labels, np.float32), pitch_midi, VELOCITY, n))
    return notes


def exported_quality_db(bundle: Bundle, subject: Subject) -> float | None:
    """What export measured against torch in float32, with the kernels that play; None where the bundle does not say."""
    name = f"torch-litert-{subject.variant}-xnnpack"
    if subject.runtime != LITERT:
        name = "torch-onnxruntime" if subject.variant == "onnx" else f"torch-onnxruntime-{subject.member}"
    found = bundle.manifest.parity_db.get(name)
    return None if found is None else float(found)


def histogram(notes_ms: Sequence[float]) -> dict[str, Any]:
    """Counts of times in bins of 1 %: ``counts[n]`` lie from ``first_ms`` * BIN ** n on."""
    first = math.floor(math.log(min(notes_ms)) / math.log(BIN))
    places = np.floor(np.log(np.asarray(notes_ms)) / math.log(BIN)).astype(int) - first
    counts = np.bincount(places)
    return {"first_ms": float(f"{BIN**first:.6g}"), "ratio": BIN, "counts": [int(count) for count in counts]}


def _maker_of_notes(bundle: Bundle, subject: Subject) -> Callable[[Asked], FloatArray]:
    """What makes notes by this runtime."""
    manifest = bundle.manifest
    if subject.runtime == LITERT:
        generator = Generator(bundle, subject.variant, subject.threads)
        return lambda asked: generator.note(
            asked.z, asked.attributes, asked.pitch_midi, asked.velocity, asked.noise_seed
        )
    where = f"{bundle.path}: {subject.member}"
    provider = next(name for name, told in PROVIDERS.items() if told == subject.runtime)
    network = _onnx_network(bundle.files[subject.member], where, provider, subject.threads, manifest.output)
    grid = manifest.representation
    return Asker(network, where, manifest.inputs, manifest.pitch_range_midi, grid).note


def _onnx_network(
    model: bytes, where: str, provider: str, threads: int, output: Shape
) -> Callable[[Mapping[str, FloatArray]], FloatArray]:
    """An ONNX model by one provider of ONNX Runtime's, and by no other."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; that a provider is not there is said below
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # each provider has errors of its own
        if provider != "CPUExecutionProvider":
            raise _NotPresentError(f"{PROVIDERS[provider]}: not present ({str(error)[:200]})") from error
        raise DarkrackError(
            where, "an ONNX model that ONNX Runtime loads", str(error), "export the bundle again"
        ) from error
    if session.get_providers()[0] != provider:  # it falls back to the CPU without a word
        raise _NotPresentError(f"{PROVIDERS[provider]}: not present (its libraries do not load)")

    def run(tensors: Mapping[str, FloatArray]) -> FloatArray:
        frames: FloatArray = session.run([OUTPUT], dict(tensors))[0]
        if frames.shape != output:
            raise DarkrackError(where, f"frames of {output}", str(frames.shape), "export the bundle again")
        return frames

    return run


def _slice_ms(bundle: Bundle, subject: Subject, times: int) -> float:
    generator = Generator(bundle, subject.variant, subject.threads)
    z, labels, pitch_midi = controls(bundle)
    latest = bundle.manifest.representation.frames - (generator.slice_frames or 0)
    found = []
    for n in range(times + 1):
        before = time.perf_counter()
        generator.slice(z, labels, pitch_midi, VELOCITY, 0, begin=n % (latest + 1))
        found.append((time.perf_counter() - before) * 1e3)
    return statistics.median(found[1:])


def _morph_ms(bundle: Bundle, made: Callable[[Asked], FloatArray], times: int) -> float:
    """A held note once more, up to the table that a voice plays: what the worker does for a morph."""
    from device.maker import decoded

    z, labels, pitch_midi = controls(bundle)
    grid = bundle.manifest.representation
    made_for = trained_pitch(pitch_midi, bundle.manifest.pitch_range_midi, grid)
    found = []
    for _ in range(times + 1):  # the first compiles
        before = time.perf_counter()
        decoded(made(Asked(z, labels, made_for, VELOCITY, 0)), grid, made_for)
        found.append((time.perf_counter() - before) * 1e3)
    return statistics.median(found[1:])


def _energy_j(note: Callable[[], object]) -> float | None:
    """Joules a note, what the board spends at rest taken off; None without a sensor. Takes twice ENERGY_S."""
    from device.machine import meter

    sensor = meter()
    if sensor is None:
        return None
    done = 0

    def work() -> None:
        nonlocal done
        until_s = time.perf_counter() + ENERGY_S
        while time.perf_counter() < until_s:
            note()
            done += 1

    began_s = time.perf_counter()
    rest_j = sensor.spent_j(lambda: time.sleep(ENERGY_S))
    rest_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    busy_j = sensor.spent_j(work)
    return max(busy_j - rest_j / rest_s * (time.perf_counter() - began_s), 0.0) / max(done, 1)


def _status_bytes(name: str) -> int | None:
    """Of this process, from /proc: VmRSS now, VmHWM the most since it began (getrusage's would be the parent's too)."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
