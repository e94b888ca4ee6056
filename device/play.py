"""`darkrack play`: the instrument, live: jacks and keys in, sound out, until it is told to stop.

Three processes share one piece of memory (`device.engine`): the front looks at jacks and keys a thousand times a second
and writes events; the worker makes frames; this one opens the audio device, whose thread runs the compiled callback,
and sees to it that everything goes on: a worker that ends or hangs is started again, a device that goes is waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from device import state
from device.errors import DarkrackError
from device.files import atomic_path, write_json
from device.machine import temperature_c
from device.notify import Service, process_age_s
from device.osc import OSC_PORT
from device.process import Child, log_to_stderr
from device.recording import CLICK_FRAME_S, clicks
from device.render import aligned
from device.sounds import Memory, read_memory, write_memory

if TYPE_CHECKING:  # they compile, for which whoever only asks for help need not wait
    from device.audio import Audio
    from device.engine import Desk
    from device.instrument import Part, Plan
    from device.profile import Profile
    from device.script import Fault, Script

log = logging.getLogger(__name__)
Array = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 48_000
MOST_VOICES = 16
LONGEST_S = 7 * 24 * 3600.0
BLOCKS_FRAMES = (32, 64, 128, 256, 512)
# Beside its block, an event waits for a pass of the scan, and the front's own work with some jitter.
FRONT_MS = 1.0
NO_MIDI = "none"
KEYS_S = 0.005  # between two looks at the computer's keyboard
WATCH_S = 0.05  # how often the supervisor looks around
HUNG_S = 2.0  # without a sign of life
NOTHING_TO_PLAY_S = 10.0  # three times four blinks, 3.1 s each
LAST_WORDS_S = 1.0  # of the front
FADE_S = 0.05  # at the end
READY_S = 600.0  # longest wait for the first frames: compiling takes minutes on a slow board
BEAT_S = 30.0  # until a child that was started again shows its first sign of life
WATCHED_S = 60
AROUND_SAMPLES = SAMPLE_RATE_HZ // 5  # wider than the median around a click and the filter before it
FRAME_SAMPLES = round(CLICK_FRAME_S * SAMPLE_RATE_HZ)
MOST_CLICKS = 100  # whose times are remembered
RING_OUT_S = 1.0  # after the last key, before the fade


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack play`."""
    parser.add_argument(
        "bundle", type=Path, nargs="+", metavar="X.rack", help="what plays, and what follows it"
    )
    parser.add_argument("--patch", type=Path, metavar="P.toml", help="how it is set up")
    parser.add_argument("--preset", metavar="NAME", help="start from this preset instead of the patch's")
    parser.add_argument("--profile", default="sim", metavar="NAME", help="the module's jacks (default: sim)")
    parser.add_argument(
        "--script", metavar="NAME", help="what the simulated jacks do: hello, stress, or a TOML file"
    )
    parser.add_argument(
        "--keys", action="store_true", help="play the simulated jacks on this computer's keyboard"
    )
    parser.add_argument(
        "--midi",
        action="append",
        metavar="NAME",
        help="a MIDI port, by part of its name; may be repeated; none for none (default: every keyboard)",
    )
    parser.add_argument(
        "--osc",
        type=int,
        default=OSC_PORT,
        metavar="PORT",
        help=f"where OSC and `darkrack tell` are heard, on this machine; 0 for nowhere (default: {OSC_PORT})",
    )
    parser.add_argument("--resume", action="store_true", help="begin with the sound of the last time")
    parser.add_argument(
        "--audio",
        metavar="DEVICE",
        help="name or part of it, null for none (default: the system's, else null)",
    )
    parser.add_argument(
        "--block",
        type=int,
        choices=BLOCKS_FRAMES,
        default=128,
        metavar="FRAMES",
        help="32 to 512 (default: 128)",
    )
    parser.add_argument("--voices", type=int, default=8, metavar="N", help="most voices at once (default: 8)")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after so long (default: at Ctrl-C)")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="write what the DAC gets to FILE")
    parser.add_argument(
        "--offline", action="store_true", help="on a clock of its own, as fast as it goes; needs --seconds"
    )
    parser.add_argument(
        "--frames-ms",
        type=float,
        default=10.0,
        metavar="MS",
        help="offline: what a note's frames take on that clock (default: 10, a Raspberry Pi 4 by its MACs)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, other noise (default: 0)"
    )
    parser.add_argument("--variant", metavar="NAME", help="the bundle's variant (default: the bundle's own)")
    parser.add_argument(
        "--log", choices=("debug", "info", "warning", "error"), default="warning", help="how much is said"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all counters to FILE at the end")


def run(args: argparse.Namespace) -> None:
    """Play until the end, report; DarkrackError for what is wrong with files, options or the machine."""
    _check_options(args)
    log_to_stderr(args.log.upper())
    from device.calibrate import tuned
    from device.instrument import Plan, read_parts
    from device.profile import read_profile
    from device.script import read_script

    plan = Plan(
        bundles=tuple(args.bundle),
        patch=args.patch,
        preset=args.preset,
        variant=args.variant,
        profile=args.profile,
        script=args.script,
        voices=args.voices,
        seed=args.seed,
        midi=() if args.offline else _midi(args.midi),
        osc_port=None if args.offline or not args.osc else args.osc,
        memory=Memory() if args.offline else read_memory(state.folder()),
        resume=args.resume and not args.offline,
    )
    profile = read_profile(plan.profile)
    _check_board(args, profile.board)
    tuned(profile)  # what is wrong with the calibration is said now
    try:
        parts = read_parts(plan, len(profile.knob_channels))
    except DarkrackError:
        _show_nothing_to_play(profile)
        raise
    plan = dataclasses.replace(plan, names=tuple(part.layout.name for part in parts))
    script = read_script(args.script) if args.script else None
    seconds = args.seconds
    if seconds is None and script is not None and not script.loop:
        seconds = script.seconds
    constant_ns = delay_ns(args.block, profile.pitch_scan_hz)
    with _recording(args.wav) as recorder:
        play = _offline if args.offline else _live
        report = play(args, plan, parts, script, seconds, constant_ns, recorder)
    print(table(report))
    if args.wav:
        print(args.wav)
    if args.json:
        write_json(args.json, report)


def delay_ns(block_frames: int, scan_hz: float) -> int:
    """After its edge a gate sounds so much later, always: what it may wait for a block and a pass, and some more."""
    return round((block_frames / SAMPLE_RATE_HZ + 1 / scan_hz + FRONT_MS * 1e-3) * 1e9)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what argparse lets through, before anything is read."""
    if args.seconds is not None and not 0.1 <= args.seconds <= LONGEST_S:
        raise DarkrackError("--seconds", f"0.1 to {LONGEST_S:g}", f"{args.seconds:g}")
    if args.offline and args.seconds is None:
        raise DarkrackError("--offline", "--seconds beside it", "none", "add --seconds 60")
    if args.offline and args.keys:
        raise DarkrackError("--keys", "a clock that runs as people do", "--offline", "leave one of them out")
    if not 0 <= args.osc <= 65535:
        raise DarkrackError("--osc", "a port from 1 to 65535, or 0", str(args.osc))
    if not 0.01 <= args.frames_ms <= 10_000:
        raise DarkrackError("--frames-ms", "0.01 to 10000", f"{args.frames_ms:g}")
    if not 1 <= args.voices <= MOST_VOICES:
        raise DarkrackError("--voices", f"1 to {MOST_VOICES}", str(args.voices))
    if args.wav and args.wav.suffix.lower() != ".wav":
        raise DarkrackError(f"--wav {args.wav}", "a name that ends in .wav", args.wav.suffix or "no ending")


def _midi(names: list[str] | None) -> tuple[str, ...] | None:
    """Ports as `device.instrument.Plan` has them; DarkrackError for a name that is not there now."""
    if names is None:
        return None
    if names == [NO_MIDI]:
        return ()
    from device.midi_ports import require_inputs

    require_inputs(names)
    return tuple(names)


def _check_board(args: argparse.Namespace, board: str) -> None:
    """A simulated module has somebody at its jacks, a real one nobody but people."""
    where = f"--profile {args.profile}"
    heard = args.script or args.keys or (not args.offline and (args.midi != [NO_MIDI] or args.osc))
    if board == "simulated" and not heard:
        expected = "--script, --keys, --midi or --osc, for there is nobody at the jacks"
        raise DarkrackError(where, expected, "none of them", "add --script hello")
    if board != "simulated" and (args.script or args.offline):
        got = "--script" if args.script else "--offline"
        raise DarkrackError(where, "a simulated module for it", got, f"leave {got} out, or --profile sim")


@contextlib.contextmanager
def _recording(path: Path | None) -> Iterator[Callable[[Array], None]]:
    """What takes the sound: writes it to ``path`` as 24 bits, whole or not at all, or does nothing."""
    if path is None:
        yield lambda _block: None
        return
    import soundfile

    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(
            temporary, "w", SAMPLE_RATE_HZ, channels=2, subtype="PCM_24", format="WAV"
        ) as file,
    ):
        yield file.write


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM, in place of what they usually do."""
    asked = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, stop))
        yield asked


def _offline(  # noqa: PLR0917
    args: argparse.Namespace,
    plan: Plan,
    parts: list[Part],
    script: Script | None,
    seconds: float,
    constant_ns: int,
    record: Callable[[Array], None],
) -> dict[str, Any]:
    """Play on the offline clock."""
    from tqdm import tqdm

    from device.offline import Offline

    begin_s = time.monotonic()
    offline = Offline(plan, parts, args.block, constant_ns, script, args.frames_ms * 1e-3)
    watch = Watch(max(part.limit_hz for part in parts))
    played_s = 0.0

    def play(span_s: float) -> None:
        for block in offline.blocks(span_s):
            record(block)
            watch.hear(block)

    with (
        _asked_to_stop() as asked_to_stop,
        tqdm(total=round(seconds), desc="playing", unit=" s", disable=None) as progress,
    ):
        # What was played until somebody says stop is still reported, and kept.
        while played_s < seconds and not asked_to_stop.is_set():
            span_s = min(1.0, seconds - played_s)
            play(span_s)
            played_s += span_s
            progress.update(span_s)
        offline.let_go()
        play(RING_OUT_S)
    watch.finish()
    stuck = int(offline.desk.state.voice["active"].sum())
    report = report_on(offline.desk, plan, args.block, constant_ns, played_s, watch, stuck, offline.faults)
    report["times_real_time"] = round(played_s / (time.monotonic() - begin_s), 2)
    return report


class Watch:
    """Listens to what is played: level and clicks, a minute at a time."""

    def __init__(self, limit_hz: float) -> None:
        self._limit_hz = limit_hz
        self._heard: list[Array] = []
        self._samples = 0
        self._before_samples = (
            0  # of what was heard, that were looked at already and stand there for comparison
        )
        self.peak = 0.0
        self.clicks = 0
        self.clicks_s: list[float] = []  # when, the first of them
        self.listened_s = 0.0

    def hear(self, sound: Array) -> None:
        """Take what was played next, (n, 2)."""
        self.peak = max(self.peak, float(np.abs(sound).max(initial=0.0)))
        self._heard.append(sound.copy())
        self._samples += len(sound)
        if self._samples >= WATCHED_S * SAMPLE_RATE_HZ:
            self._look(AROUND_SAMPLES)

    def finish(self) -> None:
        """Look at the rest; the sound ends here."""
        self._look(0)

    def _look(self, after_samples: int) -> None:
        """Count the clicks in what was heard, but for its last samples, which need what follows."""
        if not self._samples:
            return
        heard = np.concatenate(self._heard)
        end = max(len(heard) - after_samples, self._before_samples)
        if after_samples:  # the frames of the next look are those of this one
            end -= end % FRAME_SAMPLES
        for time_s in clicks(heard, SAMPLE_RATE_HZ, self._limit_hz):
            if self._before_samples <= round(time_s * SAMPLE_RATE_HZ) < end:
                self.clicks += 1
                at_s = self.listened_s - self._before_samples / SAMPLE_RATE_HZ + time_s
                self.clicks_s += [round(at_s, 3)] if len(self.clicks_s) < MOST_CLICKS else []
        self.listened_s += (end - self._before_samples) / SAMPLE_RATE_HZ
        first = max(end - AROUND_SAMPLES, 0)
        self._heard, self._samples = [heard[first:]], len(heard) - first
        self._before_samples = end - first


class Supervisor:
    """The live instrument's main process: starts the others, opens the audio device, keeps all of it going."""

    def __init__(  # noqa: PLR0917
        self,
        plan: Plan,
        parts: list[Part],
        block_frames: int,
        constant_ns: int,
        device: str | None,
        capture: bool,
        asked_to_stop: threading.Event | None = None,
    ) -> None:
        from device import engine

        self._asked_to_stop = asked_to_stop or threading.Event()

        self._plan, self._parts, self._part = plan, parts, parts[0]
        self._before = self._part  # that is known to play
        self._memory, self._unwritten = plan.memory, False
        self._block_frames, self._device = block_frames, device
        self._shared = SharedMemory(create=True, size=engine.memory_size(plan.voices))
        self.desk = engine.make(self._shared.buf, plan.voices)
        self.desk.clock[engine.DELAY_NS] = constant_ns
        self._capture = capture
        self.faults: dict[str, int] = {}
        self.origin_ns = 0  # when the script begins
        self._worker: Child | None = None
        self._front: Child | None = None
        self.audio: Audio | None = None

    def __enter__(self) -> Supervisor:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        for part in (self._front, self._worker):
            if part is not None:
                part.end()
        if self.audio is not None:
            self.audio.stop()
        del self.desk
        gc.collect()  # views of the memory
        with contextlib.suppress(BufferError):  # somebody still looks at the counters
            self._shared.close()
        self._shared.unlink()

    def _start(self) -> None:
        from device import engine
        from device.audio import Audio

        self._worker = self._start_worker()
        self._wait_for_frames(self._worker)
        self.audio = Audio(
            self._device,
            engine.SAMPLE_RATE_HZ,
            self._block_frames,
            self._shared,
            lambda: int(self.desk.counts[engine.N["blocks"]]),
        )
        self.audio.start()
        self._front = self._start_front()
        self.desk.master[engine.CAPTURING] = self._capture  # from where the script begins

    def watch(self, now_ns: int) -> None:
        """Look around: restart what has ended or hangs, wait for a device that has gone."""
        assert self.audio is not None
        assert self._worker is not None
        assert self._front is not None
        self.audio.watch(now_ns * 1e-9)
        self._listen()
        if self._gone(self._worker, "worker_beat_ns", now_ns):
            self._worker = self._start_worker()
        if self._gone(self._front, "control_beat_ns", now_ns):
            self._release_all(now_ns)
            self._front = self._start_front()

    def suffer(self, fault: Fault) -> None:
        """Plant a fault of the script."""
        self.faults[fault.kind] = self.faults.get(fault.kind, 0) + 1
        log.info("planted: %s", fault.kind)
        assert self.audio is not None
        assert self._worker is not None
        assert self._front is not None
        if fault.kind == "nan":
            self._worker.tell(("nan", fault.count))
        elif fault.kind == "kill worker":
            self._worker.kill()
        elif fault.kind == "hang worker":
            self._worker.hang(fault.seconds)
        elif fault.kind == "audio lost":
            self.audio.lose(fault.seconds)
        elif fault.kind == "adc garbage":
            self._front.tell(("garbage", fault.seconds))
        elif fault.kind == "bundle":
            self._go_over(self._parts[(self._part.setup.epoch + 1) % len(self._parts)])

    def _go_over(self, part: Part) -> None:
        """Go over to another bundle; what sounds rings out."""
        from device.instrument import again

        assert self._worker is not None
        assert self._front is not None
        self._before, self._part = self._part, again(part, self._part.setup.epoch + 1)
        self._worker.tell(("part", self._part.setup))
        self._front.tell(("part", self._part))

    def _listen(self) -> None:
        """What the front has to say: another bundle, or what is to be remembered, which waits until nothing sounds."""
        assert self._front is not None
        assert self._worker is not None
        while (refused := self._worker.heard()) is not None:
            log.error("%s; going back to %s", refused, self._before.layout.name)
            self._go_over(self._before)
        while (said := self._front.heard()) is not None:
            kind, what = said
            if kind == "memory":
                asked = (what.sounds, what.learned) != (self._memory.sounds, self._memory.learned)
                self._memory, self._unwritten = what, True
                if asked:  # a drone may sound for ever
                    self._write_memory()
            elif kind == "bundle":
                named = [part for part in self._parts if part.layout.name == what]
                if named:
                    self._go_over(named[0])
                else:
                    log.warning("no bundle called %r is loaded", what)
        if self._unwritten and not self.desk.state.voice["active"].any():
            self._write_memory()

    def _write_memory(self) -> None:
        """Keep what is to be remembered; a folder that cannot be written to is logged once a change."""
        self._unwritten = False
        try:
            write_memory(state.folder(), self._memory)
        except DarkrackError as error:
            log.warning("%s", error)

    def fetch(self) -> Array:
        """What was captured since the last time, (n, 2)."""
        from device.engine import CAPTURE_SAMPLES, READ, WRITTEN

        written, read = int(self.desk.captured[WRITTEN]), int(self.desk.captured[READ])
        places = np.arange(read, written) % CAPTURE_SAMPLES
        sound = self.desk.capture[places]
        self.desk.captured[READ] = written
        return sound

    def let_go(self) -> None:
        """Let every key go; the front ends, and says what is to be remembered."""
        self.tell_front("stop")

    def remember(self) -> None:
        """Keep what is to be remembered, at the end, when nothing sounds any more and the front has said its last."""
        until_s = time.monotonic() + LAST_WORDS_S
        while self._front is not None and self._front.alive and time.monotonic() < until_s:
            self._listen()
            time.sleep(WATCH_S / 10)
        self._listen()
        if self._unwritten:
            self._write_memory()

    def tell_front(self, *order: object) -> None:
        """Give the front an order."""
        if self._front is not None:
            self._front.tell(order)

    def fade_out(self) -> None:
        """Turn the master down; returns when it is silent, or the device does not ask any more."""
        from device.engine import GAIN, GAIN_GOAL, GAIN_STEP

        self.desk.master[GAIN_STEP] = 1 / (FADE_S * SAMPLE_RATE_HZ)
        self.desk.master[GAIN_GOAL] = 0.0
        until_s = time.monotonic() + 4 * FADE_S
        while self.desk.master[GAIN] > 0 and time.monotonic() < until_s:
            time.sleep(WATCH_S / 10)
        time.sleep(WATCH_S)  # for the blocks that the device still has

    def _start_worker(self) -> Child:
        from device.instrument import run_worker

        return Child(run_worker, self._shared.name, self._plan, self._part.setup)

    def _start_front(self) -> Child:
        from device.instrument import run_front

        # One that is started again goes on with the sound as it was.
        last, again = self._memory.last, self.origin_ns > 0
        of_this = last is not None and last.bundle == self._part.layout.name
        resume = of_this if again else self._plan.resume
        plan = dataclasses.replace(self._plan, memory=self._memory, resume=resume)
        child = Child(run_front, self._shared.name, plan, self._part)
        child.wait(READY_S)
        self.origin_ns = self.origin_ns or time.monotonic_ns() + round(WATCH_S * 1e9)
        child.tell(self.origin_ns)
        return child

    def _wait_for_frames(self, worker: Child) -> None:
        """Until a gate at any pitch finds a table; DarkrackError where the worker ends instead."""
        from device.engine import READY

        until_s = time.monotonic() + READY_S
        while not self.desk.version[READY]:
            if self._asked_to_stop.is_set():
                raise KeyboardInterrupt
            if not worker.alive or time.monotonic() > until_s:
                got = "it ended" if not worker.alive else f"nothing in {READY_S:g} s"
                raise DarkrackError(
                    "worker", "the first frames", got, "darkrack bundle verify FILE; --log info"
                )
            time.sleep(0.02)

    def _gone(self, child: Child, beat: str, now_ns: int) -> bool:
        """Whether a child has ended, or hangs and was ended now."""
        from device.engine import N

        if child.alive:
            beat_ns = max(int(self.desk.counts[N[beat]]), child.started_ns + round(BEAT_S * 1e9))
            if now_ns - beat_ns < HUNG_S * 1e9:
                return False
            log.warning("%s hangs", child.process.name)
            child.kill()
        log.warning("%s has ended (%s); starting another", child.process.name, child.process.exitcode)
        child.end()
        return True

    def _release_all(self, now_ns: int) -> None:
        """In place of a front that has ended: nobody else writes events now, and nobody else will let the keys go."""
        from device.engine import RELEASE, push

        for v, voice in enumerate(self.desk.state.voice):
            push(self.desk, now_ns, RELEASE, v, int(voice["note"]), 0.0, 0.0, 0.0, 0.0, 0)


def _live(  # noqa: PLR0917
    args: argparse.Namespace,
    plan: Plan,
    parts: list[Part],
    script: Script | None,
    seconds: float | None,
    constant_ns: int,
    record: Callable[[Array], None],
) -> dict[str, Any]:
    """Play in real time, until ``seconds`` are over, somebody says stop, or the keyboard's player quits."""
    capture = bool(args.wav) or script is not None or args.keys
    watch = Watch(max(part.limit_hz for part in parts))
    with contextlib.ExitStack() as stack:
        asked_to_stop = stack.enter_context(_asked_to_stop())
        supervisor = stack.enter_context(
            Supervisor(plan, parts, args.block, constant_ns, args.audio, capture, asked_to_stop)
        )
        if args.keys:
            stack.enter_context(_played_on_the_keyboard(supervisor, asked_to_stop))
        assert supervisor.audio is not None
        print(f"playing {plan.bundles[0]} on {supervisor.audio.name}; Ctrl-C ends", file=sys.stderr)

        first_sound_after_s = None

        def hear() -> None:
            nonlocal first_sound_after_s
            if capture:
                sound = supervisor.fetch()
                if first_sound_after_s is None and (sounds := sound.any(axis=1)).any():
                    ago_s = (len(sound) - int(sounds.argmax())) / SAMPLE_RATE_HZ
                    first_sound_after_s = round(process_age_s() - ago_s, 3)
                record(sound)
                watch.hear(sound)

        begin_ns = supervisor.origin_ns
        service = Service()
        light = stack.enter_context(_light(plan.profile))
        planted_until_s = 0.0
        while not asked_to_stop.wait(WATCH_S):
            now_ns = time.monotonic_ns()
            elapsed_s = (now_ns - begin_ns) * 1e-9
            if seconds is not None and elapsed_s >= seconds:
                break
            supervisor.watch(now_ns)
            service.look(supervisor.desk, now_ns)
            light(supervisor.desk, service.ready_after_s is not None, supervisor.audio.away, now_ns)
            if script is not None and elapsed_s > planted_until_s:
                for fault in script.faults(planted_until_s, elapsed_s):
                    supervisor.suffer(fault)
                planted_until_s = elapsed_s
            hear()
        service.stop()
        supervisor.let_go()
        until_s = time.monotonic() + (0 if asked_to_stop.is_set() else RING_OUT_S)
        while time.monotonic() < until_s:
            time.sleep(WATCH_S)
            supervisor.audio.watch(time.monotonic())
            hear()
        stuck = 0 if asked_to_stop.is_set() else int(supervisor.desk.state.voice["active"].sum())
        supervisor.fade_out()
        supervisor.remember()
        hear()
        watch.finish()
        took_s = (time.monotonic_ns() - begin_ns) * 1e-9
        report = report_on(
            supervisor.desk, plan, args.block, constant_ns, took_s, watch, stuck, supervisor.faults
        )
        report["audio"] = dataclasses.asdict(supervisor.audio.counts)
        report["ready_after_s"] = service.ready_after_s
        report["first_sound_after_s"] = first_sound_after_s  # of this process, to a hundredth and a block
    return report


def _show_nothing_to_play(profile: Profile) -> None:
    """Say by the light of a real board, for some seconds, why nothing plays: there may be no screen."""
    from device.gpio import open_gpio
    from device.led import Led, State, blink

    if profile.led_line is None or profile.board == "simulated":
        return
    with contextlib.suppress(
        DarkrackError
    ):  # a board that is not one has no light, and the error is said anyway
        led = Led(open_gpio(profile.board), profile.led_line)
        blink(led, State(bundle=False), NOTHING_TO_PLAY_S)
        led.close()


@contextlib.contextmanager
def _light(profile_name: str) -> Iterator[Callable[[Desk, bool, bool, int], None]]:
    """What shows the state of the instrument on the profile's light, if it has one on a real board."""
    from device.engine import counted
    from device.gpio import open_gpio
    from device.led import Led, Seen, lit
    from device.profile import read_profile

    profile = read_profile(profile_name)
    if profile.led_line is None or profile.board == "simulated":
        yield lambda _desk, _ready, _away, _now_ns: None
        return
    led, seen = Led(open_gpio(profile.board), profile.led_line), Seen()

    def show(desk: Desk, ready: bool, away: bool, now_ns: int) -> None:
        now_s = now_ns * 1e-9
        led.show(lit(seen.state(counted(desk), ready, away, now_s), now_s))

    try:
        yield show
    finally:
        led.close()


@contextlib.contextmanager
def _played_on_the_keyboard(supervisor: Supervisor, quit_asked: threading.Event) -> Iterator[None]:
    """A thread that hands on what is typed, until q or the end."""
    from device.keyboard import KeyboardInput, Quit

    ended = threading.Event()

    def hand_on() -> None:
        while not ended.wait(KEYS_S):
            for played in keyboard.poll():
                if isinstance(played, Quit):
                    quit_asked.set()
                else:
                    supervisor.tell_front("played", time.monotonic_ns(), played, keyboard.key)

    with KeyboardInput() as keyboard:
        thread = threading.Thread(target=hand_on, name="keyboard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def report_on(  # noqa: PLR0917
    desk: Desk,
    plan: Plan,
    block_frames: int,
    constant_ns: int,
    seconds: float,
    watch: Watch,
    stuck: int,
    faults: Mapping[str, int],
) -> dict[str, Any]:
    """All that was counted, fit for JSON; units in the names."""
    from device.engine import BINS_PER_BLOCK, N, counted

    counts = counted(desk)
    for name in ("worker_beat_ns", "control_beat_ns"):
        del counts[name]
    block_ms = block_frames / SAMPLE_RATE_HZ * 1e3
    callbacks = int(desk.durations.sum())
    shares = np.cumsum(desk.durations) / max(callbacks, 1)

    def quantile_ms(share: float) -> float:  # the upper end of its bin
        return round((int(np.searchsorted(shares, share)) + 1) / BINS_PER_BLOCK * block_ms, 4)

    measured = None
    if callbacks:  # the offline clock runs no callback
        measured = {
            "p50_ms": quantile_ms(0.5),
            "p99_ms": quantile_ms(0.99),
            "max_ms": round(int(desk.counts[N["callback_max_ns"]]) * 1e-6, 4),
            "mean_ms": round(int(desk.counts[N["callback_ns"]]) * 1e-6 / callbacks, 4),
        }
    return {
        "bundles": [path.name for path in plan.bundles],
        "voices": plan.voices,
        "block_frames": block_frames,
        "delay_ms": constant_ns * 1e-6,
        "seconds": round(seconds, 3),
        "counts": counts,
        "callback": measured,
        "planted": dict(faults),
        "stuck_voices": stuck,
        "clicks": watch.clicks,
        "clicks_s": watch.clicks_s,
        "listened_s": round(watch.listened_s, 3),
        "peak": round(watch.peak, 4),
        "temperature_c": temperature_c(),
    }


def table(report: Mapping[str, Any]) -> str:
    """The report for people, a line each."""
    counts = report["counts"]
    rows = [
        (
            "played",
            f"{report['seconds']:.1f} s, blocks of {report['block_frames']} frames, {report['voices']} voices",
        ),
        ("gate to sound", f"{report['delay_ms']:.2f} ms and what the device buffers"),
        (
            "notes",
            f"{counts['notes']}; {counts['from_shelf']} began from the shelf, {counts['stolen']} took a voice",
        ),
        (
            "frames",
            f"{counts['generated']} made, {counts['morphs']} crossfades, {counts['late_frames']} late",
        ),
    ]
    if report.get("ready_after_s") is not None:
        rows.append(("ready", f"{report['ready_after_s']:.2f} s after the process began"))
    callback = report["callback"]
    if callback:
        block_ms = report["block_frames"] / SAMPLE_RATE_HZ * 1e3
        figures = (
            f"p50 {callback['p50_ms']:.3f}, p99 {callback['p99_ms']:.3f}, max {callback['max_ms']:.3f} ms"
        )
        rows.append(("callback", f"{figures} of {block_ms:.2f}"))
    rows += [
        ("late", f"{counts['late_events']} events, {counts['underruns']} blocks, {counts['jumps']} jumps"),
        ("muted", f"{counts['muted']} voices, {counts['network_faults']} faults of the network"),
        ("restarts", f"worker {counts['worker_starts'] - 1}, front {counts['control_starts'] - 1}"),
    ]
    if report.get("audio"):
        rows.append(
            ("audio device", f"lost {report['audio']['lost']}, found again {report['audio']['found']}")
        )
    rows += [
        ("converters", f"{counts['adc_faults']} readings refused, {counts['lost_edges']} edges lost"),
        (
            "peak",
            f"{20 * np.log10(max(report['peak'], 1e-10)):.1f} dBFS, limiter in {counts['overloads']} blocks",
        ),
        (
            "clicks",
            f"{report['clicks']} in {report['listened_s']:.0f} s; voices left sounding: {report['stuck_voices']}",
        ),
    ]
    return aligned(rows)
