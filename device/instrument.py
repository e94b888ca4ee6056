"""What plays, and the two bodies that make it play: the front (jacks to events) and the worker (knobs to frames).

`device.play` runs each in a process of its own beside the audio callback, `device.offline` all three in turn.
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import mido
import numpy as np

from device import bundle as bundles
from device.calibrate import tuned
from device.control import Control, Layout
from device.engine import (
    KILL,
    ROWS,
    SLOT_CELLS,
    Desk,
    N,
    hand_over,
    lay_out,
    make,
    memory_size,
    push,
    wish,
)
from device.errors import DarkrackError
from device.jacks import Jacks, open_board, open_inputs
from device.keyboard import GateEdge, Played, PotTurn
from device.knobs import choose_attributes
from device.midi import Receiver
from device.partials import Partials
from device.patch import Patch, read_patch
from device.process import FRONT_PRIORITY, surroundings
from device.profile import read_profile
from device.scan import Scan
from device.script import Script, SimulatedJacks, read_script, wire
from device.simulation import Clock
from device.stft import Stft
from device.timbre import Timbre
from device.worker import Setup, Worker

NOBODY = "nobody"  # the script that does nothing
PASSES_A_LOOK = 4  # at the pipe, which costs a system call
REST_S = 0.0005  # of a worker with nothing to do; a note waits so long at most before its frames are begun


@dataclass(frozen=True)
class Plan:
    """What was asked for; the first of ``bundles`` plays, the others follow where a script changes them."""

    bundles: tuple[Path, ...]
    patch: Path | None = None
    preset: str | None = None
    variant: str | None = None
    profile: str = "sim"
    script: str | None = None
    voices: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """One bundle as it is to be played: for the worker, for the front, and what the pots turn."""

    setup: Setup
    layout: Layout
    knobs: tuple[str | None, ...]
    limit_hz: float  # nothing that is played is above it


def read_parts(plan: Plan, pots: int) -> list[Part]:
    """The bundles of a plan with its patch on each; DarkrackError for what is wrong with any of them."""
    parts = []
    for number, path in enumerate(plan.bundles):
        bundle = bundles.read(path)
        manifest = bundle.manifest
        _check_size(path, manifest.representation)
        bundle.model(plan.variant)
        attributes = [attribute.name for attribute in manifest.attributes]
        presets = [preset.name for preset in manifest.presets]
        patch = read_patch(plan.patch, attributes, presets) if plan.patch else Patch()
        if plan.preset is not None and number == 0:
            patch = replace(patch, preset=plan.preset)
        Timbre(bundle, patch)  # what is wrong with either is said now, not by the worker
        proved = manifest.quality.get("evaluation", {}).get("confirmed_knobs", [])
        knobs = choose_attributes(manifest.attributes, manifest.copula, pots, proved)
        parts.append(
            Part(
                Setup(number, path, patch, plan.variant),
                Layout(number, patch, tuple(attributes), manifest.pitch_range_midi),
                tuple(knobs),
                manifest.representation.heard_hz,
            )
        )
    return parts


def _check_size(path: Path, grid: Partials | Stft) -> None:
    """Refuse notes that are larger than a slot of the engine."""
    if isinstance(grid, Stft):
        fits, got = grid.samples <= SLOT_CELLS, f"{grid.samples} samples"
    else:
        fits = grid.rows <= ROWS and 2 * grid.rows * grid.frames <= SLOT_CELLS
        got = f"{grid.rows} partials x {grid.frames} frames"
    if not fits:
        expected = (
            f"notes of at most {ROWS} partials x {SLOT_CELLS // 2 // ROWS} frames, or {SLOT_CELLS} samples"
        )
        raise DarkrackError(str(path), expected, got, "train with a smaller grid")


def again(part: Part, epoch: int) -> Part:
    """The same part, set up once more."""
    return replace(part, setup=replace(part.setup, epoch=epoch), layout=replace(part.layout, epoch=epoch))


class Front:
    """Jacks, scan and hands on a desk, with the jacks' own simulation where the profile is simulated."""

    def __init__(self, desk: Desk, plan: Plan, part: Part, origin_ns: int) -> None:
        profile = read_profile(plan.profile)
        script = read_script(plan.script or NOBODY)
        self._desk = desk
        self._origin_ns = origin_ns
        self._clock = Clock()
        self._garbage_until_s = 0.0
        # What the computer's keyboard does in place of the script, or beside it.
        self._edges: list[tuple[int, int, bool]] = []
        self._messages: list[tuple[int, mido.Message]] = []
        self._heard_until_s = 0.0
        self._ended = False
        self._control = Control(desk, part.layout, plan.seed)
        self._profile = profile
        self._wires: SimulatedJacks | None = None
        self._knobs = part.knobs
        if profile.board == "simulated":
            self._wires = wire(script, profile, self._clock, origin_ns)
            self._jacks = self._simulated(self._wires, script)
        else:
            self._jacks = open_board(profile, self._typed)
        self._scan = Scan(desk, self._jacks, self._control, self._hear, self._turn, profile, tuned(profile))
        self.pass_ns = round(1e9 / profile.pitch_scan_hz)
        self._receiver = Receiver(self._control, part.layout.patch)

    def step(self, now_ns: int) -> None:
        """One pass."""
        if not self._ended:
            self._clock.now_s = (now_ns - self._origin_ns) * 1e-9
            if self._garbage_until_s and self._clock.now_s >= self._garbage_until_s:
                self._garbage_until_s = 0.0
                if self._wires is not None:
                    self._wires.plant_garbage(None)
            self._scan.step(now_ns)
        self._desk.counts[N["control_beat_ns"]] = now_ns

    def set_up(self, part: Part, now_ns: int) -> None:
        """Go over to another bundle; what sounds rings out."""
        self._control.at_ns = now_ns
        self._control.set_up(part.layout)
        self._receiver.set_up(part.layout.patch)
        self._knobs = part.knobs
        self._scan.turn_all()

    def spoil(self, seconds: float) -> None:
        """Have simulated converters read nonsense for so long."""
        self._garbage_until_s = self._clock.now_s + seconds
        if self._wires is not None:
            self._wires.plant_garbage(round(self._clock.now_s * 1e3))

    def play(self, at_ns: int, played: Played, key: int) -> None:
        """Something from the computer's keyboard, whose last ``key`` lies at the pitch jack.

        Pots and gate are those of a simulated module; real ones are turned and played by hand.
        """
        if isinstance(played, mido.Message):
            self._messages.append((at_ns, played))
        elif self._wires is None:
            return
        elif isinstance(played, PotTurn) and played.pot <= len(self._profile.knob_channels):
            chip, position = self._wires.knob_chip, played.position
            channel = self._profile.knob_channels[played.pot - 1]
            chip.inputs[channel] = lambda _now_s: position * chip.reference_v
        elif isinstance(played, GateEdge):
            self._wires.put_pitch(self._profile, (key - self._profile.pitch_zero_midi) / 12)
            self._edges.append((at_ns, 1, played.level > 0))

    def finish(self, now_ns: int) -> None:
        """Let everything go; nothing is played after that."""
        self._ended = True
        self._control.at_ns = now_ns
        self._control.finish()
        self._jacks.close()

    def _hear(self, message: mido.Message) -> None:
        self._receiver.hear(message)

    def _turn(self, source: str, value: float) -> None:
        place = int(source.removeprefix("knob.")) - 1 if source.startswith("knob.") else len(self._knobs)
        name = self._knobs[place] if place < len(self._knobs) else None
        if name is not None:
            self._control.set_attribute(name, value)

    def _typed(self) -> list[tuple[int, mido.Message]]:
        """What came from the computer's keyboard since the last time."""
        found, self._messages = self._messages, []
        return found

    def _simulated(self, wires: SimulatedJacks, script: Script) -> Jacks:
        """The jacks of a simulated module: real drivers on chips that follow the script."""
        inputs = open_inputs(self._profile, wires.knob_chip, wires.cv_chip, wires.pitch_chip)
        seen, lost = 0, 0

        def edges(_now_ns: int) -> list[tuple[int, int, bool]]:
            nonlocal seen, lost
            found, self._edges = self._edges, []
            for edge in wires.gate.read():
                lost += edge.number - seen - 1
                seen = edge.number
                found.append((edge.time_ns, 1, edge.level > 0))
            return found

        def messages() -> list[tuple[int, mido.Message]]:
            found = self._typed()
            now_s, since_s = self._clock.now_s, self._heard_until_s
            if now_s > since_s:
                self._heard_until_s = now_s
                scripted = script.messages(since_s, now_s)
                found += [(self._origin_ns + round(time_s * 1e9), message) for time_s, message in scripted]
            return found

        return Jacks(
            pot=inputs.pot,
            pitch=inputs.pitch,
            pitch_codes=inputs.pitch_codes,
            cv=inputs.cv,
            edges=edges,
            messages=messages,
            lost=lambda: lost,
            close=lambda: None,
        )


def attach(memory: SharedMemory, voices: int) -> Desk:
    """The desk in memory that another process made."""
    return lay_out(memory.buf, voices)


def run_front(name: str, plan: Plan, part: Part, orders: Connection) -> None:
    """The front's process: a pass a millisecond, from the moment that it is told to its being told to stop."""
    with surroundings(name, FRONT_PRIORITY) as memory:
        warm_up(plan.voices)
        orders.send("ready")
        origin_ns = int(orders.recv())  # when the script begins, and its jacks
        desk = attach(memory, plan.voices)
        front = Front(desk, plan, part, origin_ns)
        gc.freeze()
        parent, pass_ns = os.getppid(), front.pass_ns
        next_ns = max(time.monotonic_ns(), origin_ns)
        time.sleep(max(next_ns - time.monotonic_ns(), 0) * 1e-9)
        passes = 0
        while True:
            now_ns = time.monotonic_ns()
            desk.counts[N["control_late_scans"]] += now_ns - next_ns > pass_ns
            front.step(now_ns)
            passes += 1
            if passes % PASSES_A_LOOK == 0:
                if os.getppid() != parent:
                    return
                while orders.poll():
                    kind, *rest = orders.recv()
                    if kind == "stop":
                        front.finish(time.monotonic_ns())
                        return
                    if kind == "part":
                        front.set_up(rest[0], time.monotonic_ns())
                    elif kind == "garbage":
                        front.spoil(rest[0])
                    elif kind == "played":
                        front.play(*rest)
            next_ns = max(next_ns + pass_ns, now_ns)
            time.sleep(max(next_ns - time.monotonic_ns(), 0) * 1e-9)


def run_worker(name: str, plan: Plan, setup: Setup, orders: Connection) -> None:
    """The worker's process: frames as long as anything is out of date, a rest when nothing is."""
    with surroundings(name) as memory:
        desk = attach(memory, plan.voices)
        worker = Worker(desk, setup)
        gc.freeze()
        parent = os.getppid()
        while os.getppid() == parent:
            if not worker.step(time.monotonic()):
                time.sleep(REST_S)
            while orders.poll():
                kind, *rest = orders.recv()
                if kind == "stop":
                    return
                if kind == "nan":
                    worker.plant_nan(rest[0])
                elif kind == "part":
                    try:
                        worker.set_up(rest[0])
                    except DarkrackError as error:
                        orders.send(str(error))


def warm_up(voices: int) -> None:
    """Have what the front calls compiled before the first gate, on a desk of its own."""
    desk = make(np.zeros(memory_size(voices), np.uint8), voices)
    push(desk, 0, KILL, 0, 0, 0.0, 0.0, 0.0, 0.0, 0)
    wish(desk, 0, 0, 0.0, 0.0, 0, 0, 0, 0)
    hand_over(desk.version, 0, 0)
