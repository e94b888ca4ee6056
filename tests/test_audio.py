"""Outputs: the paced one beside a thread that holds the GIL, the one over JACK, and what keeps either going."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from live import jack_server

from device.audio import LOST_S, NULL, Audio, NullOutput
from device.engine import START, Desk, N, address, callback, hand_over, lay_out, make, memory_size, push
from device.errors import DarkrackError
from device.partials import NoteFrames, Partials
from device.voices import fill

RATE_HZ, FRAMES, VOICES = 48_000, 128, 2
LONG_S = 30.0


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    memory = SharedMemory(create=True, size=memory_size(VOICES))
    make(memory.buf, VOICES)
    yield memory
    with contextlib.suppress(BufferError):  # a desk still looks into it
        memory.close()
    memory.unlink()


def blocks(memory: SharedMemory) -> int:
    return int(lay_out(memory.buf, VOICES).counts[N["blocks"]])


def until(holds: Callable[[], bool]) -> bool:
    until_s = time.monotonic() + LONG_S
    while not holds() and time.monotonic() < until_s:
        time.sleep(0.01)
    return holds()


def sounding(desk: Desk) -> None:
    note = NoteFrames(
        level_db=np.full((4, 8), -20, np.float32),
        ratio=np.repeat(np.arange(1, 5, dtype=np.float32)[:, None], 8, axis=1),
        decay_db_per_s=np.zeros(4, np.float32),
        loop_start=2,
        loop_end=6,
    )
    fill(desk.state, 0, note, 220.0, Partials())
    hand_over(desk.shelf, 0, 1)
    push(desk, 0, START, 0, 1, 220.0, 0.1, 0.0, 0.1, 1)


def test_the_paced_output_goes_on_while_another_thread_holds_the_gil(memory: SharedMemory) -> None:
    desk = lay_out(memory.buf, VOICES)
    sounding(desk)
    desk.master[4] = 1.0  # capture
    output = NullOutput(RATE_HZ, FRAMES, callback().address, address(memory.buf))
    output.start()
    try:
        assert until(lambda: blocks(memory) > 3)
        before = blocks(memory)
        ctypes.PyDLL(None).usleep(400_000)  # PyDLL keeps the GIL; no Python runs in this process for .4 s
        during = blocks(memory) - before
    finally:
        output.stop()
    assert not output.running
    assert during > 0.25 * RATE_HZ / FRAMES  # of the 150 that were due; a machine may be busy
    written = int(desk.captured[0])
    assert np.abs(desk.capture[:written]).max() > 0.001
    assert output.finished.sum() == desk.counts[N["blocks"]] == desk.durations.sum()


def test_blocks_come_at_the_rate_and_pause_when_told_to(memory: SharedMemory) -> None:
    output = NullOutput(RATE_HZ, FRAMES, callback().address, address(memory.buf))
    begin_s = time.monotonic()
    output.start()
    time.sleep(0.5)
    assert blocks(memory) <= (time.monotonic() - begin_s) * RATE_HZ / FRAMES + 1
    assert until(lambda: blocks(memory) > 100)
    output.pause(0.4)
    time.sleep(0.05)
    before = blocks(memory)
    time.sleep(0.2)
    assert blocks(memory) == before
    assert until(lambda: blocks(memory) > before)
    output.stop()


def audio_on(memory: SharedMemory, device: str | None) -> Audio:
    return Audio(device, RATE_HZ, FRAMES, memory, lambda: blocks(memory))


def test_null_is_lost_and_found_again_when_it_is_told_to(memory: SharedMemory) -> None:
    audio = audio_on(memory, NULL)
    assert audio.name == NULL
    audio.start()
    try:
        assert until(lambda: blocks(memory) > 10)
        audio.watch(time.monotonic())
        audio.lose(3 * LOST_S)
        until_s = time.monotonic() + LONG_S
        while audio.counts.found == 0 and time.monotonic() < until_s:
            audio.watch(time.monotonic())
            time.sleep(0.02)
        assert (audio.counts.lost, audio.counts.found) == (1, 1)
        before = blocks(memory)
        assert until(lambda: blocks(memory) > before + 10)
    finally:
        audio.stop()


@pytest.mark.program("portaudio")
def test_an_unknown_device_is_refused_with_the_known_ones(memory: SharedMemory) -> None:
    with pytest.raises(DarkrackError) as caught:
        audio_on(memory, "Wunderlitzer")
    assert caught.value.expected == "'Wunderlitzer'"
    assert NULL in caught.value.hint


@pytest.mark.program("jackd", "portaudio")
def test_a_server_that_dies_is_replaced_by_null_until_it_is_back(
    memory: SharedMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jack_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        audio = audio_on(memory, "system")
        assert audio.name == "system"
        assert audio.counts.latency_ms > 0
        audio.start()

        def watched(holds: Callable[[], bool]) -> bool:
            def once() -> bool:
                audio.watch(time.monotonic())
                return holds()

            return until(once)

        try:
            assert watched(lambda: blocks(memory) > 100)
            assert audio.counts.lost == 0
            server.die()
            assert watched(lambda: audio.counts.lost == 1)
            before = blocks(memory)
            assert watched(lambda: blocks(memory) > before + 50)  # null goes on
            server.start()
            assert watched(lambda: audio.counts.found == 1)
            before = blocks(memory)
            assert watched(lambda: blocks(memory) > before + 50)
            assert (audio.counts.lost, audio.counts.found) == (1, 1)
        finally:
            audio.stop()
