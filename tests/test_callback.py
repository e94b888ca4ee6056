"""The audio callback's object code without any Python around it: no allocation, and a bound on its instructions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from device.engine import BEND, START, Desk, advance, hand_over, make, memory_size, push
from device.partials import NoteFrames, Partials
from device.voices import fill

pytestmark = pytest.mark.program("gcc", "objcopy", "valgrind")

HARNESS = Path(__file__).with_name("callback.c")
# One machine for all: what the compiler makes of the kernel then does not depend on where the test runs.
TARGET = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
FRAMES, VOICES, ROWS = 128, 8, 80
# Measured 2026-11-21, numba 0.65, LLVM 20: 394,200 for 8 held voices of 80 partials, 4.8 for a partial and sample;
# 490,800 while all of them glide. The bound leaves a tenth for another LLVM.
HELD_INSTRUCTIONS, GLIDING_INSTRUCTIONS = 430_000, 535_000

# A callback that comes out of numba's cache has lost its object code: this one is linked anew.
OBJECT = """
import sys
from numba.core.ccallback import CFunc
import device.compiled
CFunc.enable_caching = device.compiled._stamp = lambda made: None
from device.engine import callback
kind, form, (code, _) = (made := callback())._library.serialize_using_object_code()
open(sys.argv[1], "wb").write(code)
print(made.native_name)
"""


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The callback linked with its harness and nothing else of ours."""
    folder = tmp_path_factory.mktemp("callback")
    # A cache of its own, or functions that were compiled for this before would bring what they called then.
    environment = {**os.environ, **TARGET, "NUMBA_CACHE_DIR": str(folder / "cache")}
    words = [sys.executable, "-c", OBJECT, str(folder / "made.o")]
    name = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout.strip()
    for command in (
        ["objcopy", "--redefine-sym", f"{name}=CALLBACK", "made.o", "callback.o"],
        ["gcc", "-O1", "-no-pie", str(HARNESS), "callback.o", "-lm", "-o", "callback"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "callback"


@pytest.fixture
def memory() -> np.ndarray:
    return np.zeros(memory_size(VOICES), np.uint8)


def full_desk(memory: np.ndarray) -> Desk:
    """All voices hold a note of as many partials as the bundles that ship have, all of them sounding."""
    desk = make(memory, VOICES)
    note = NoteFrames(
        level_db=np.full((ROWS, 128), -40, np.float32),
        ratio=np.repeat(np.arange(1, ROWS + 1, dtype=np.float32)[:, None], 128, axis=1),
        decay_db_per_s=np.zeros(ROWS, np.float32),
        loop_start=50,
        loop_end=124,
    )
    fill(desk.state, 0, note, 190.0, Partials())  # 190 Hz * 80 = 15.2 kHz, just below the limit
    hand_over(desk.shelf, 0, 1)
    for voice in range(VOICES):
        push(desk, 0, START, voice, 1 + voice, 190.0, 0.1, 0.0, 0.1, voice)
    advance(desk, np.zeros((FRAMES, 2), np.float32), 0)
    return desk


def run(program: Path, memory: np.ndarray, blocks: int, *before: str) -> tuple[str, np.ndarray]:
    """What the harness said, and the sound."""
    (program.parent / "desk").write_bytes(memory.tobytes())
    words = [*before, str(program), "desk", str(blocks), str(FRAMES), "out"]
    done = subprocess.run(words, cwd=program.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sound = np.fromfile(program.parent / "out", np.float32).reshape(-1, 2)
    return done.stdout + done.stderr, sound


def test_the_callback_needs_neither_python_nor_memory(alone: Path, memory: np.ndarray) -> None:
    desk = full_desk(memory)
    push(desk, 0, BEND, 3, 4, 300.0, 0.0, 0.0, 0.2, 0)
    push(desk, 0, START, 2, 20, 220.0, 0.1, 0.0, 0.1, 3)  # steals
    said, sound = run(alone, memory, 50)
    assert "0 allocations" in said
    assert len(sound) == 50 * FRAMES
    assert 0.03 < np.abs(sound).max() < 1


def test_alone_it_makes_the_same_sound(alone: Path, memory: np.ndarray) -> None:
    desk = full_desk(memory)
    _, sound = run(alone, memory, 20)
    here = np.zeros((FRAMES, 2), np.float32)
    for block in range(20):
        advance(desk, here, 0)
        # Another machine code, so other roundings; the sum of 640 sines at phases that are the same integers.
        np.testing.assert_allclose(sound[block * FRAMES : (block + 1) * FRAMES], here, atol=2e-5)


def instructions(program: Path, memory: np.ndarray) -> float:
    """Per block, the start of the program taken off."""
    counted = []
    for blocks in (20, 60):
        said, _ = run(
            program, memory, blocks, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"
        )
        found = re.search(r"Collected : (\d+)", said)
        assert found, said
        counted.append(int(found[1]))
    return (counted[1] - counted[0]) / 40


def test_a_block_of_held_voices_takes_no_more_instructions(alone: Path, memory: np.ndarray) -> None:
    full_desk(memory)
    count = instructions(alone, memory)
    print(f"{count:,.0f} instructions a block, {count / FRAMES / VOICES / ROWS:.2f} a partial and sample")
    assert HELD_INSTRUCTIONS / 2 < count < HELD_INSTRUCTIONS


def test_a_block_of_gliding_voices_takes_no_more_instructions(alone: Path, memory: np.ndarray) -> None:
    desk = full_desk(memory)
    for voice in range(VOICES):
        push(desk, 0, BEND, voice, 1 + voice, 95.0, 0.0, 0.0, 60 * FRAMES / 48_000, 0)
    count = instructions(alone, memory)
    print(f"{count:,.0f} instructions a block")
    assert GLIDING_INSTRUCTIONS / 2 < count < GLIDING_INSTRUCTIONS
