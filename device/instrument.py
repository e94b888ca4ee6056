"""What plays, and the two bodies that make it play: the front (jacks to events) and the worker (knobs to frames).

`device.play` runs each in a process of its own beside the audio callback, `device.offline` all three in turn.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import mido
import numpy as np

from device import bundle as bundles
from device import osc
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
from device.knobs import panel
from device.midi import Receiver
from device.midi_ports import MidiInputs
from device.modulation import Modulation, Sound, presets_of
from device.partials import Partials
from device.patch import SOURCES, Patch, nearest, read_patch
from device.process import FRONT_PRIORITY, surroundings
from device.profile import Profile, read_profile
from device.scan import Scan, Tuned
from device.script import Script, SimulatedJacks, read_script, wire
from device.simulation import Clock
from device.sounds import MOST_SOUNDS, Kept, Memory, shortened
from device.stft import Stft
from device.timbre import Timbre
from device.toml_table import suggestion
from device.voct import Quantizer
from device.worker import Setup, Worker

log = logging.getLogger(__name__)

OSC_CHANNEL = 17  # apart from MIDI's and from the gate's
PROGRAMS = 128
LAST_NAME, BEFORE = "as it was", "before"
LAST_NS = 3_000_000_000  # between two looks whether the sound has changed
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
    midi: tuple[str, ...] | None = ()  # parts of names of ports; None: every keyboard there is
    serial: tuple[str, ...] = ()  # DIN lines beside the profile's own
    osc_port: int | None = None
    names: tuple[str, ...] = ()  # of the bundles
    memory: Memory = field(default_factory=Memory)
    resume: bool = False  # begin with the sound of the last time


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
            preset = nearest(plan.preset, presets, "--preset", "a preset of the bundle")
            patch = replace(patch, preset=preset)
        Timbre(bundle, patch)  # what is wrong with either is said now, not by the worker
        parts.append(
            Part(
                # The patch's knobs are the front's to set, as all others are: one place knows where they stand.
                Setup(number, path, replace(patch, attributes={}), plan.variant),
                Layout(
                    number,
                    patch,
                    tuple(attributes),
                    manifest.pitch_range_midi,
                    manifest.name,
                    presets_of(bundle),
                ),
                tuple(panel(manifest, pots)),
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
        got = f"{grid.rows} rows x {grid.frames} frames"
    if not fits:
        expected = f"notes of at most {ROWS} rows x {SLOT_CELLS // 2 // ROWS} frames, or {SLOT_CELLS} samples"
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
        self._waiting: Kept | None = None  # to be recalled when its bundle is there
        self._control = Control(desk, part.layout, plan.seed)
        self._profile = profile
        self._plan, self._part = plan, part
        self._memory = plan.memory
        self.told: list[tuple[Any, ...]] = []  # for the supervisor
        self._modulation = Modulation(
            self._control,
            part.layout.patch,
            part.layout.attributes,
            part.layout.presets,
            part.knobs,
            plan.memory.learned,
            plan.seed,
        )
        self._receiver = Receiver(self._control, part.layout.patch, listener=self)
        self._midi = open_midi(plan, profile)
        self._osc = None if plan.osc_port is None else _open_osc(plan.osc_port)
        self._wires: SimulatedJacks | None = None
        if profile.board == "simulated":
            self._wires = wire(script, profile, self._clock, origin_ns)
            self._jacks = self._simulated(self._wires, script)
        else:
            self._jacks = open_board(profile, self._played)
        self._tuned = tuned(profile)
        turn, quantized = self._modulation.turn, self._quantized(part.layout.patch)
        # Simulated pots that nobody turns would all pull their attributes to the middle.
        pots = range(len(profile.knob_channels)) if profile.board == "simulated" else ()
        quiet = [pot for pot in pots if pot + 1 not in script.pots]
        hear = self._hear
        self._scan = Scan(desk, self._jacks, self._control, hear, turn, profile, quantized, quiet)
        self._undo: Kept | None = None
        self.pass_ns = round(1e9 / profile.pitch_scan_hz)
        self._last_sound: Sound | None = None
        self._last_told_ns = origin_ns
        if plan.resume and plan.memory.last is not None:
            self._try(plan.memory.last)

    def step(self, now_ns: int) -> None:
        """One pass."""
        if not self._ended:
            self._clock.now_s = (now_ns - self._origin_ns) * 1e-9
            if self._garbage_until_s and self._clock.now_s >= self._garbage_until_s:
                self._garbage_until_s = 0.0
                if self._wires is not None:
                    self._wires.plant_garbage(None)
            self._scan.step(now_ns)
            self._control.at_ns = now_ns
            if self._osc is not None:
                for _, heard, sender in self._osc.poll(now_ns):
                    self._answer(self._osc, heard, sender)
            self._modulation.step(now_ns)
            self._tell_last(now_ns)
        self._desk.counts[N["control_beat_ns"]] = now_ns

    def set_up(self, part: Part, now_ns: int) -> None:
        """Go over to another bundle; what sounds rings out."""
        self._control.at_ns = now_ns
        layout = part.layout
        self._part = part
        self._control.set_up(layout)
        self._receiver.set_up(layout.patch)
        self._modulation.set_up(layout.patch, layout.attributes, layout.presets, part.knobs)
        self._scan.set_up(self._quantized(layout.patch))
        self._scan.turn_all()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            before = self._undo  # of the bundle that was left
            self._try(waiting)
            self._undo = before

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
        self._remember(replace(self._memory, last=self._kept(LAST_NAME)))

    def close(self) -> None:
        """Let go of jacks, ports and sockets."""
        self._jacks.close()
        if self._midi is not None:
            self._midi.close()
        if self._osc is not None:
            self._osc.close()

    def _hear(self, message: mido.Message, at_ns: int) -> None:
        """Obey a MIDI message; one that brings something down costs itself, and not all keys that are held."""
        try:
            self._receiver.hear(message, at_ns)
        except Exception:
            log.exception("%s was not obeyed", message)

    # ---- What the receiver tells of (device.midi.Listener) ----

    def turn(self, source: str, value: float) -> None:
        """A modulation source has moved."""
        self._modulation.turn(source, value)
        if source.startswith("cc.") and self._modulation.learned != self._memory.learned:
            self._memory = replace(self._memory, learned=dict(self._modulation.learned))
            self.told.append(("memory", self._memory))

    def program(self, number: int) -> bool:
        """A program change: the lower half are kept sounds, the upper half the bundle's presets."""
        try:
            self._program(number, 0.0)
        except ValueError as error:
            log.warning("program %d: %s", number + 1, error)
            return False
        return True

    def _program(self, number: int, morph_s: float) -> str:
        """Go over to what is at a program (from 0); its name. ValueError where that cannot be."""
        presets = self._part.layout.presets
        if number < len(self._memory.sounds):
            kept = self._memory.sounds[number]
            self._recall(kept, morph_s)
            return kept.name
        if MOST_SOUNDS <= number < MOST_SOUNDS + len(presets):
            name = presets[number - MOST_SOUNDS].name
            self._remember_before()
            self._modulation.recall_preset(name, morph_s)
            return name
        raise ValueError(f"nothing is at program {number + 1}")

    def transport(self, kind: str, at_ns: int) -> None:
        """The MIDI clock."""
        self._modulation.transport(kind, at_ns)

    # ---- What others ask for ----

    def _answer(self, line: osc.OscInput, heard: osc.Heard, sender: osc.Address) -> None:
        """Do what came by OSC, and say what was done; what cannot be done is said and logged."""
        try:
            done, said = True, self._obey(heard)
        except ValueError as error:
            done, said = False, str(error)
            log.info("%s: %s", heard, error)  # whoever asked is told; a fader asks a hundred times a second
        except Exception:  # one message may cost itself, and not all keys that are held
            done, said = False, "it cannot be done"
            log.exception("%s was not obeyed", heard)
        if not isinstance(heard, osc.Source | osc.Note):
            line.answer(sender, done, said)

    def _obey(self, heard: osc.Heard) -> str:
        """Do what was asked for, say what it was; ValueError where it cannot be done."""
        modulation = self._modulation
        if isinstance(heard, osc.Knob):
            name = self._attribute(heard.name)
            modulation.set_knob(name, heard.setting)
            return f"{name} stands at {heard.setting:g}"
        if isinstance(heard, osc.Source):
            if heard.name not in SOURCES or heard.name.startswith(("lfo.", "envelope.", "random.")):
                raise ValueError(f"no source from outside is called {heard.name!r}")
            self.turn(heard.name, heard.value)
        elif isinstance(heard, osc.Note):
            if heard.velocity > 0:
                self._control.note_on(heard.key, float(heard.key), heard.velocity, OSC_CHANNEL)
            else:
                self._control.note_off(heard.key, OSC_CHANNEL)
        elif isinstance(heard, osc.Panic):
            self._receiver.panic()
            return "everything is off"
        elif isinstance(heard, osc.Preset):
            return self._preset(heard.which, heard.morph_s)
        elif isinstance(heard, osc.Keep):
            kept = self._kept(heard.name)
            self._remember(self._memory.with_sound(kept))
            return f"kept as {kept.name!r}, program {self._memory.sounds.index(kept) + 1}"
        elif isinstance(heard, osc.Drop):
            if self._memory.find(heard.name) is None:
                raise ValueError(f"no kept sound is called {heard.name!r}")
            self._remember(self._memory.without(heard.name))
            return f"{heard.name!r} is forgotten"
        elif isinstance(heard, osc.Learn):
            modulation.learning = self._attribute(heard.name)
            return f"the next controller that moves turns {modulation.learning}"
        elif isinstance(heard, osc.Forget):
            modulation.forget()
            self._remember(replace(self._memory, learned={}))
            return "controllers turn what the patch says"
        elif isinstance(heard, osc.Choose):
            self._remember_before()
            modulation.choose(heard.seed)
            return "another specimen"
        elif isinstance(heard, osc.Undo):
            return self._go_back()
        elif isinstance(heard, osc.Bundle):
            if not any(osc.same_name(name, heard.name) for name in self._plan.names):
                raise ValueError(f"no bundle called {heard.name!r} is loaded")
            self.told.append(("bundle", next(n for n in self._plan.names if osc.same_name(n, heard.name))))
            return f"going over to {heard.name}"
        else:
            return self._list()
        return ""

    def _list(self) -> str:
        """What there is to recall, with the MIDI programs (from 1) that recall it."""
        lines = [f"{self._part.layout.name}"]
        for number, kept in enumerate(self._memory.sounds, start=1):
            lines.append(f"{number:>4}  {kept.name}  (kept, of {kept.bundle})")
        for number, preset in enumerate(self._part.layout.presets, start=MOST_SOUNDS + 1):
            lines.append(f"{number:>4}  {preset.name}" if number <= PROGRAMS else f"      {preset.name}")
        for number, knob in sorted(self._modulation.learned.items()):
            lines.append(f"CC {number} turns {knob.attribute}")
        return "\n".join(lines)

    def _attribute(self, name: str) -> str:
        """The attribute that a name from elsewhere means; ValueError where there is none."""
        for known in self._part.layout.attributes:
            if osc.same_name(known, name):
                return known
        raise ValueError(
            f"the bundle has no attribute {name!r}; {suggestion(name, self._part.layout.attributes)}"
        )

    def _preset(self, which: str | int, morph_s: float) -> str:
        """Go over to a kept sound or one of the bundle's presets, by name; by number as a program."""
        if isinstance(which, int):
            return self._program(which, morph_s)
        kept = self._memory.find(which)
        if kept is not None:
            self._recall(kept, morph_s)
            return kept.name
        for preset in self._part.layout.presets:
            if osc.same_name(preset.name, which):
                self._remember_before()
                self._modulation.recall_preset(preset.name, morph_s)
                return preset.name
        known = [*(one.name for one in self._memory.sounds), *(one.name for one in self._part.layout.presets)]
        hint = suggestion(which, known)
        raise ValueError(f"neither a kept sound nor a preset of the bundle is called {which!r}; {hint}")

    def _recall(self, kept: Kept, morph_s: float) -> None:
        """Go over to a kept sound; one of another bundle waits until that is there. ValueError: that is not loaded."""
        if kept.bundle == self._part.layout.name:
            before = self._kept(BEFORE)
            self._modulation.recall(kept.sound, morph_s, unlocked=kept.name == BEFORE)
            self._undo = before
        elif kept.bundle in self._plan.names:
            self._undo, self._waiting = self._kept(BEFORE), kept
            self.told.append(("bundle", kept.bundle))
        else:
            raise ValueError(f"{kept.name!r} is of {kept.bundle!r}, which is not loaded")

    def _remember_before(self) -> None:
        """What `undo` goes back to."""
        self._undo = self._kept(BEFORE)

    def _go_back(self) -> str:
        """Back to the sound before, with its bundle; the next time forth again. ValueError where there is none."""
        if self._undo is None:
            raise ValueError("nothing was changed yet")
        self._recall(self._undo, 0.0)
        return "back to the sound before"

    def _try(self, kept: Kept) -> None:
        """Recall it if that can be done."""
        try:
            self._recall(kept, 0.0)
        except ValueError as error:
            log.warning("%s: %s", kept.name, error)

    def _kept(self, name: str) -> Kept:
        return Kept(shortened(name), self._part.layout.name, self._modulation.kept())

    def _remember(self, memory: Memory) -> None:
        self._memory = memory
        self.told.append(("memory", memory))

    def _tell_last(self, now_ns: int) -> None:
        """Every few seconds, what would be resumed, where it has changed."""
        if now_ns - self._last_told_ns < LAST_NS:
            return
        self._last_told_ns = now_ns
        sound = self._modulation.kept()
        if sound is not self._last_sound:
            self._last_sound = sound
            self._remember(replace(self._memory, last=self._kept(LAST_NAME)))

    def _quantized(self, patch: Patch) -> Tuned:
        return replace(self._tuned, quantizer=Quantizer(patch.scale, patch.root))

    def _played(self, now_ns: int) -> list[tuple[int, mido.Message]]:
        """What came from MIDI ports and the computer's keyboard since the last time."""
        found, self._messages = self._messages, []
        if self._midi is not None:
            found += self._midi.poll(now_ns)
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

        def messages(now_ns: int) -> list[tuple[int, mido.Message]]:
            found = self._played(now_ns)
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
                _hand_up(front, orders)
                while orders.poll():
                    kind, *rest = orders.recv()
                    if kind == "stop":
                        front.finish(time.monotonic_ns())
                        _hand_up(front, orders)
                        front.close()
                        return
                    if kind == "part":
                        front.set_up(rest[0], time.monotonic_ns())
                    elif kind == "garbage":
                        front.spoil(rest[0])
                    elif kind == "played":
                        front.play(*rest)
            next_ns = max(next_ns + pass_ns, now_ns)
            time.sleep(max(next_ns - time.monotonic_ns(), 0) * 1e-9)


def _hand_up(front: Front, orders: Connection) -> None:
    """Send the supervisor what the front has to say."""
    told, front.told = front.told, []
    for word in told:
        orders.send(word)


def open_midi(plan: Plan, profile: Profile) -> MidiInputs | None:
    """The MIDI inputs of a plan, and of its profile; None where there are to be none."""
    serial = plan.serial
    if profile.midi_serial and profile.board != "simulated":
        serial = (profile.midi_serial, *serial)
    if plan.midi == () and not serial:
        return None
    return MidiInputs(plan.midi, serial)


def _open_osc(port: int) -> osc.OscInput | None:
    """OSC at this port; None, and a line in the log, where somebody else has it: an instrument has to play."""
    try:
        return osc.OscInput(port)
    except DarkrackError as error:
        log.warning("%s", error)
        return None


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
