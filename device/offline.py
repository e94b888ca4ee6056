"""The instrument on a clock of its own: all of its parts in turn, as fast as the machine goes or as slowly.

For emulators, long soaks and tests. The parts are those that `device.play` runs in processes of their own; only the
order in time is fixed here, so that the same script gives the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from device.engine import DELAY_NS, SAMPLE_RATE_HZ, Desk, advance, make, memory_size
from device.instrument import Front, Part, Plan, again
from device.script import Script
from device.worker import Worker

Array = npt.NDArray[np.float32]

ORIGIN_NS = 1_000_000_000  # not 0, which is the time before everything
# What a set of frames takes on this clock: a note of the network that ships takes 20 million MACs, and a Pi 4's core
# does 1.9 thousand million a second or more (device.realtime).
FRAMES_S = 0.01
SUFFER_S = 0.05
RESTART_S = 0.3  # from a worker's end to the next one's first frames
LOST_S = 0.5  # until it is noticed that a device has gone, and the null output goes on


class Offline:
    """Plays ``plan`` block by block; `blocks` gives the sound. ``desk`` and what is counted may be read at any time."""

    def __init__(  # noqa: PLR0917
        self,
        plan: Plan,
        parts: list[Part],
        block_frames: int,
        delay_ns: int,
        script: Script | None,
        frames_s: float = FRAMES_S,
    ) -> None:
        self.desk: Desk = make(np.zeros(memory_size(plan.voices), np.uint8), plan.voices)
        self.desk.clock[DELAY_NS] = delay_ns
        self._plan, self._parts, self._script = plan, parts, script
        self._frames = block_frames
        self._frames_s = frames_s
        self._time_s = 0.0  # that the worker has left
        self._suffered_ns = ORIGIN_NS
        self._part = parts[0]
        self._worker: Worker | None = Worker(self.desk, self._part.setup)
        self._worker_rests_until_ns = 0
        self._lost_until_ns = 0
        self._front = Front(self.desk, plan, self._part, ORIGIN_NS)
        self._scanned_ns = ORIGIN_NS
        self._samples = 0
        self.faults: dict[str, int] = {}
        while not self._worker.ready:
            self._worker.step(0.0)

    @property
    def now_ns(self) -> int:
        """Where this clock stands."""
        return ORIGIN_NS + self._samples * 1_000_000_000 // SAMPLE_RATE_HZ

    def blocks(self, seconds: float) -> Iterator[Array]:
        """The next ``seconds``, a block at a time: (frames, 2) float32, the same array each time."""
        out = np.zeros((self._frames, 2), np.float32)
        end = self._samples + round(seconds * SAMPLE_RATE_HZ)
        while self._samples < end:
            self._samples += self._frames
            now_ns = self.now_ns
            self._scan(now_ns)
            self._work(now_ns)
            self._suffer(now_ns)
            if now_ns >= self._lost_until_ns:
                advance(self.desk, out, now_ns)
                yield out

    def let_go(self) -> None:
        """Let every key go."""
        self._front.finish(self.now_ns)
        self._front.close()

    def _scan(self, now_ns: int) -> None:
        while self._scanned_ns + self._front.pass_ns <= now_ns:
            self._scanned_ns += self._front.pass_ns
            self._front.step(self._scanned_ns)
            self._listen()

    def _listen(self) -> None:
        """What the front has to say: another bundle; what is to be remembered is not, on this clock."""
        told, self._front.told = self._front.told, []
        for kind, what in told:
            if kind == "bundle":
                for part in self._parts:
                    if part.layout.name == what:
                        self._change(part, self._scanned_ns)
                        break

    def _work(self, now_ns: int) -> None:
        """As many sets of frames as there is time for in a block."""
        if now_ns < self._worker_rests_until_ns:
            return
        if self._worker is None:
            self._worker = Worker(self.desk, self._part.setup)
        self._time_s += self._frames / SAMPLE_RATE_HZ
        while self._time_s >= self._frames_s:
            # Frames are there when the time that they take is over; a worker with nothing to do saves none up.
            worked = self._worker.step(now_ns * 1e-9)
            self._time_s = self._time_s - self._frames_s if worked else 0.0

    def _suffer(self, end_ns: int) -> None:
        """The faults that the script has planted since the last time."""
        begin_ns = self._suffered_ns
        if self._script is None or end_ns - begin_ns < SUFFER_S * 1e9:
            return
        self._suffered_ns = end_ns
        for fault in self._script.faults((begin_ns - ORIGIN_NS) * 1e-9, (end_ns - ORIGIN_NS) * 1e-9):
            self.faults[fault.kind] = self.faults.get(fault.kind, 0) + 1
            if fault.kind == "nan" and self._worker is not None:
                self._worker.plant_nan(fault.count)
            elif fault.kind == "kill worker":
                self._worker = None
                self._worker_rests_until_ns = end_ns + round(RESTART_S * 1e9)
            elif fault.kind == "hang worker":
                self._worker_rests_until_ns = end_ns + round(fault.seconds * 1e9)
            elif fault.kind == "audio lost":
                # After that the null output plays on for as long as the device is away.
                self._lost_until_ns = end_ns + round(min(fault.seconds, LOST_S) * 1e9)
            elif fault.kind == "adc garbage":
                self._front.spoil(fault.seconds)
            elif fault.kind == "bundle":
                self._change(self._parts[(self._part.setup.epoch + 1) % len(self._parts)], end_ns)

    def _change(self, part: Part, now_ns: int) -> None:
        """Go over to another bundle."""
        self._part = again(part, self._part.setup.epoch + 1)
        if self._worker is not None:
            self._worker.set_up(self._part.setup)
        self._front.set_up(self._part, now_ns)
