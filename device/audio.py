"""Where the sound goes: a PortAudio device, or a paced output for machines without one; both call compiled code.

The callback is an address with PortAudio's signature (`device.engine.callback`): no Python runs between the device and
the voices. A device that goes is closed, the paced output takes over at once so that time and notes go on, and the
device is taken back when it is there again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from device.compiled import (
    CLOCK_MONOTONIC,
    TIMER_ABSTIME,
    call_back,
    clock_gettime,
    clock_nanosleep,
    compiled,
)
from device.engine import BINS_PER_BLOCK, DURATION_BINS, address, callback
from device.errors import DarkrackError
from device.process import AUDIO_PRIORITY, Child, be_prompt, surroundings

log = logging.getLogger(__name__)

NULL = "null"
LOST_S = 0.5  # without a block a device is lost: ninety blocks of 256 frames
RETRY_S = 1.0  # between two looks for a lost device
WATCH_S = 0.1  # between two looks at a stream
OPENING_S = 60.0  # with the callback compiled for the first time on a slow board
FIRST_BLOCK_S = 2.0  # that a device may take to begin
CLOSING_S = 2.0
MOST_BEHIND = 64  # blocks; a machine that slept longer does not play them all at once


@dataclass
class AudioCounts:
    """What plays and what it buffers, as far as it says; how often it was lost and found again."""

    device: str
    latency_ms: float = 0.0
    lost: int = 0
    found: int = 0


class PortAudioOutput:
    """A stream of PortAudio's, two channels of float32; DarkrackError where the device or its rate is not there."""

    def __init__(
        self, device: str | None, rate_hz: int, block_frames: int, callback: int, memory: int
    ) -> None:
        sounddevice = sounddevice_or_error()
        found = find_device(sounddevice, device)
        self.name = str(found["name"])
        ffi = sounddevice._ffi
        try:
            self._stream: Any = sounddevice._StreamBase(
                kind="output",
                samplerate=rate_hz,
                blocksize=block_frames,
                device=found["index"],
                channels=2,
                dtype="float32",
                latency="low",
                callback=ffi.cast("PaStreamCallback *", callback),
                userdata=ffi.cast("void *", memory),
            )
        except sounddevice.PortAudioError as error:
            hint = f"--audio with another device, or {NULL}"
            expected = f"a device that plays two channels at {rate_hz} Hz"
            raise DarkrackError(f"audio device {self.name!r}", expected, str(error), hint) from error
        self.latency_s = float(self._stream.latency)

    def start(self) -> None:
        """Begin to call."""
        self._stream.start()

    def stop(self) -> None:
        """Play what is buffered and close; may hang where the device has gone."""
        self._stream.stop()
        self._stream.close()

    @property
    def running(self) -> bool:
        """Whether PortAudio calls the stream active."""
        return bool(self._stream.active)


class NullOutput:
    """Calls the callback at the pace of a device that is not there, from a thread that needs no GIL for it.

    ``finished`` counts blocks by how long after they were due they were ready, in 1/BINS_PER_BLOCK of a block; a device
    would have heard nothing in those of BINS_PER_BLOCK and more.
    """

    name = NULL
    latency_s = 0.0

    def __init__(self, rate_hz: int, block_frames: int, callback: int, memory: int) -> None:
        self._block = np.zeros((block_frames, 2), np.float32)
        self._times = np.zeros(3, np.float64)  # a PaStreamCallbackTimeInfo
        self._moment = np.zeros(2, np.int64)  # a struct timespec
        self._order = np.zeros(3, np.int64)  # stop; pause until (ns); said back: begun (ns)
        self.finished = np.zeros(DURATION_BINS, np.int64)
        self._arguments = (rate_hz, callback, memory)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to call."""
        self._order[:] = 0
        self._thread = threading.Thread(target=self._run, name="null output", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End with the present block."""
        self._order[0] = 1
        if self._thread is not None:
            self._thread.join(CLOSING_S)

    def pause(self, seconds: float) -> None:
        """Call nobody for so long, as a device that has gone; for tests of what follows."""
        self._order[1] = time.monotonic_ns() + round(seconds * 1e9)

    @property
    def begun_ns(self) -> int:
        """CLOCK_MONOTONIC a block before the first was due."""
        return int(self._order[2])

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        be_prompt(AUDIO_PRIORITY)
        _pace(*self._arguments, self._block, self._times, self._moment, self._order, self.finished)


def run_audio(  # noqa: PLR0917
    memory_name: str, device: str | None, rate_hz: int, block_frames: int, retry: bool, orders: Connection
) -> None:
    """The device's process: opens it (again and again where ``retry``), plays when it is told to, ends with it.

    PortAudio lives apart because it may hang for ever on a device that has gone (seen: Pa_AbortStream and Pa_Terminate
    after the death of a JACK server); a process can be killed.
    """
    with surroundings(memory_name) as memory:
        parent = os.getppid()
        call = callback()
        while True:
            try:
                output = PortAudioOutput(device, rate_hz, block_frames, call.address, address(memory.buf))
                break
            except DarkrackError as error:
                if not retry:
                    orders.send(error)
                    return
            if orders.poll(RETRY_S) or os.getppid() != parent:
                return
            # PortAudio knows the devices that were there when it was initialised.
            sounddevice = sounddevice_or_error()
            sounddevice._terminate()
            sounddevice._initialize()
        orders.send((output.name, output.latency_s))
        if orders.recv() != ("start",):
            return
        output.start()
        while output.running and not orders.poll(WATCH_S) and os.getppid() == parent:
            pass
        if orders.poll():
            output.stop()


class Audio:
    """The output that is wanted, kept alive. ``blocks`` tells how many blocks the callback has rendered."""

    def __init__(
        self,
        device: str | None,
        rate_hz: int,
        block_frames: int,
        memory: SharedMemory,
        blocks: Callable[[], int],
    ) -> None:
        self._device = device
        self._child_arguments = (memory.name, device, rate_hz, block_frames)
        self._callback = callback()  # kept: the null output calls it
        self.null = NullOutput(rate_hz, block_frames, self._callback.address, address(memory.buf))
        self._blocks = blocks
        self._child: Child | None = None
        self.counts = AudioCounts(NULL)
        if device != NULL:
            self._open_first()
        self._away = False  # what was wanted has gone, and the null output plays
        self._hidden_until_s = 0.0  # a planted loss
        self._seen = (0, 0.0)  # blocks, and when they were seen to grow

    @property
    def name(self) -> str:
        """Of the device that was opened."""
        return self.counts.device

    @property
    def away(self) -> bool:
        """Whether the device that was opened is gone, and the paced output plays in its place."""
        return self._away

    def start(self) -> None:
        """Begin to play."""
        if self._child is None:
            self.null.start()
        else:
            self._child.tell(("start",))
        self._seen = (self._blocks(), time.monotonic() + FIRST_BLOCK_S)

    def watch(self, now_s: float) -> None:
        """Look whether sound still goes on; call it some times a second, with the monotonic clock's time."""
        blocks = self._blocks()
        if blocks != self._seen[0]:
            self._seen = (blocks, now_s)
        if not self._away:
            ended = self._child is not None and not self._child.alive
            if ended or now_s - self._seen[1] > LOST_S:
                self._lose(now_s)
        elif now_s >= self._hidden_until_s:
            self._take_back(now_s)

    def lose(self, seconds: float) -> None:
        """Have the device go for so long; for tests of what follows."""
        self._hidden_until_s = time.monotonic() + seconds
        if self._child is None:
            self.null.pause(seconds)
        else:
            self._child.kill()

    def stop(self) -> None:
        """End all output."""
        if self._child is not None:
            self._child.end()
        self.null.stop()

    def _open_first(self) -> None:
        child = Child(run_audio, *self._child_arguments, False)
        said = child.wait(OPENING_S)
        if isinstance(said, DarkrackError):
            child.end()
            if self._device is not None:
                raise said
            log.warning("no audio device (%s); playing to nobody", said.got)
            return
        self._child = child
        self._note(said)

    def _note(self, said: object) -> None:
        assert isinstance(said, tuple)
        self.counts.device, self.counts.latency_ms = str(said[0]), round(float(said[1]) * 1e3, 3)

    def _lose(self, now_s: float) -> None:
        log.warning("audio device %s is lost", self.name)
        self.counts.lost += 1
        self._away = True
        if self._child is not None:
            self._child.kill()
            self._child = None
        self.null.stop()
        self.null.start()
        self._seen = (self._blocks(), now_s)

    def _take_back(self, now_s: float) -> None:
        """Have a process look for the device, and go over to it when it is found."""
        if self.name != NULL:
            if self._child is None or not self._child.alive:
                self._child = Child(run_audio, *self._child_arguments, True)
            said = self._child.heard()
            if said is None:
                return
            self._note(said)
            self.null.stop()  # never two at once
            self._child.tell(("start",))
        self._away = False
        self.counts.found += 1
        self._seen = (self._blocks(), now_s + FIRST_BLOCK_S)
        log.warning("audio device %s is back", self.name)


def sounddevice_or_error() -> Any:
    """The module; DarkrackError where PortAudio is not installed."""
    try:
        import sounddevice
    except OSError as error:
        hint = f"apt install libportaudio2, or --audio {NULL}"
        raise DarkrackError("audio", "the library PortAudio", str(error), hint) from error
    return sounddevice


def find_device(sounddevice: Any, device: str | None, inputs: int = 0) -> dict[str, Any]:
    """The output device of this name, or part of it, or number, with so many ``inputs``; None: the system's default."""
    outputs = [
        one
        for one in sounddevice.query_devices()
        if one["max_output_channels"] >= 2 and one["max_input_channels"] >= inputs
    ]
    apis = [api["name"] for api in sounddevice.query_hostapis()]
    if device is None or device == "default":
        number = sounddevice.default.device[1]
        wanted = [one for one in outputs if one["index"] == number] or outputs[:1]
    else:
        wanted = [one for one in outputs if device == str(one["index"])] or [
            one for one in outputs if device.casefold() in f"{apis[one['hostapi']]}: {one['name']}".casefold()
        ]
    if not wanted:
        names = (
            "; ".join(f"{one['index']} {apis[one['hostapi']]}: {one['name']}" for one in outputs)
            or "none at all"
        )
        plays = "one that plays two channels" + (" and records" if inputs else "")
        hint = "plug in one that records as well" if inputs else f"--audio {NULL}"
        raise DarkrackError("audio device", plays if device is None else repr(device), names, hint)
    return dict(wanted[0])


@compiled()
def _pace(rate_hz, callback, memory, block, times, moment, order, finished):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Call every block / rate seconds, on the monotonic clock, until ``order[0]`` says stop."""
    frames = block.shape[0]
    clock_gettime(np.int32(CLOCK_MONOTONIC), moment.ctypes.data)
    begin_ns = moment[0] * 1_000_000_000 + moment[1]
    order[2] = begin_ns
    number = 0
    while order[0] == 0:
        number += 1
        due_ns = begin_ns + number * frames * 1_000_000_000 // rate_hz
        moment[0], moment[1] = due_ns // 1_000_000_000, due_ns % 1_000_000_000
        clock_nanosleep(np.int32(CLOCK_MONOTONIC), np.int32(TIMER_ABSTIME), moment.ctypes.data, 0)
        clock_gettime(np.int32(CLOCK_MONOTONIC), moment.ctypes.data)
        now_ns = moment[0] * 1_000_000_000 + moment[1]
        if now_ns - due_ns > MOST_BEHIND * frames * 1_000_000_000 // rate_hz:
            begin_ns, number, due_ns = now_ns, 0, now_ns
            order[2] = begin_ns
        if now_ns < order[1]:
            continue
        times[1] = times[2] = now_ns * 1e-9
        call_back(callback, block.ctypes.data, frames, times.ctypes.data, memory)
        clock_gettime(np.int32(CLOCK_MONOTONIC), moment.ctypes.data)
        after_ns = moment[0] * 1_000_000_000 + moment[1] - due_ns
        place = after_ns * BINS_PER_BLOCK * rate_hz // (frames * 1_000_000_000)
        finished[min(max(place, 0), len(finished) - 1)] += 1
