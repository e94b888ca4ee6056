"""Compiled code: every module that has some invalidates every cache, and what C may call can be called."""

from __future__ import annotations

import ast
import ctypes
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba import types

from device import compiled
from device.compiled import (
    CLOCK_MONOTONIC,
    FAST,
    SOURCES,
    array_at,
    c_function,
    call_back,
    clock_gettime,
    fence,
    pointer,
)

DEVICE = Path(compiled.__file__).parent
CONSTANTS = {"partials"}  # compiled code has its decibels from there; it has none itself
COMPILERS = {"compiled", "c_function", "njit", "jit", "cfunc", "vectorize", "guvectorize", "intrinsic"}


def uses(tree: ast.AST) -> set[str]:
    """What a module calls of that which compiles, by whatever way it came by the name."""
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in {"device.compiled", "numba", "numba.extending"}
        for alias in node.names
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and names.get(node.id) in COMPILERS:
            found.add(names[node.id])
        elif isinstance(node, ast.Attribute) and node.attr in COMPILERS:
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef) and node.name in {"compiled", "c_function"}:
            found.add(node.name)
    return found


def test_every_module_with_compiled_code_is_among_the_sources() -> None:
    """Code compiled in one module contains what it calls of the others; numba's cache looks at the one file only."""
    found = {path.stem for path in DEVICE.glob("*.py") if uses(ast.parse(path.read_text(encoding="utf-8")))}
    assert found == set(SOURCES) - CONSTANTS
    assert list(SOURCES) == sorted(SOURCES)


def test_the_search_finds_every_way_of_compiling() -> None:
    for text in (
        "from device.compiled import compiled\n@compiled()\ndef f(): pass",
        "from device.compiled import compiled as fast\n@fast()\ndef f(): pass",
        "from device.compiled import c_function\nc_function(1, 2)",
        "import numba\nnumba.njit(f)",
        "from device import compiled\n@compiled.compiled()\ndef f(): pass",
    ):
        assert uses(ast.parse(text)), text
    assert not uses(ast.parse("from device.compiled import FAST\nx = FAST"))


def imported(module: str) -> set[str]:
    """Modules of ours that one of them takes something from."""
    tree = ast.parse((DEVICE / f"{module}.py").read_text(encoding="utf-8"))
    return {
        node.module.removeprefix("device.")
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("device.")
    }


def test_compiled_code_has_its_constants_from_the_sources_alone() -> None:
    """A constant is frozen into the code, so a change of it has to invalidate as well.

    What else they import is not compiled: a type of note, errors, the priority of a thread.
    """
    elsewhere = set().union(*(imported(name) for name in SOURCES)) - set(SOURCES)
    assert elsewhere <= {"stft", "errors", "process"}


def test_a_change_of_any_source_gives_the_caches_another_stamp(tmp_path: Path) -> None:
    """Seen from outside: the same function, compiled in two processes, and once more after a source was touched."""
    package = tmp_path / "device"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in SOURCES:
        (package / f"{name}.py").write_text((DEVICE / f"{name}.py").read_text(encoding="utf-8"))
    (package / "samples.py").write_text(
        "from device.compiled import compiled\n@compiled()\ndef two():\n    return 2\n"
    )
    (package / "decibels.py").write_text(
        "from device.compiled import compiled\nfrom device.samples import two\n"
        "@compiled()\ndef four():\n    return two() + two()\n"
    )
    code = (
        "from device.decibels import four; x = four(); "
        "print(x, sum(four.stats.cache_hits.values()), sum(four.stats.cache_misses.values()))"
    )

    def run() -> str:
        words = [sys.executable, "-c", code]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert run() == "4 0 1"
    assert run() == "4 1 0"
    # What `four` was compiled from lies in another file, which numba's own cache does not look at.
    (package / "samples.py").write_text(
        "from device.compiled import compiled\n@compiled()\ndef two():\n    return 3\n"
    )
    assert run() == "6 0 1"


@compiled.compiled(fastmath=FAST)
def _not_finite(values):  # type: ignore[no-untyped-def]
    count = 0
    for value in values:
        count += not np.isfinite(value)
    return count


@compiled.compiled(fastmath=FAST)
def _divided(a, b):  # type: ignore[no-untyped-def]
    return a / b


@compiled.compiled()
def _seconds(moment):  # type: ignore[no-untyped-def]
    clock_gettime(np.int32(CLOCK_MONOTONIC), moment.ctypes.data)
    fence()
    return moment[0] + moment[1] * 1e-9


@compiled.compiled()
def _doubled_at(place, count):  # type: ignore[no-untyped-def]
    values = array_at(pointer(place), (count,), np.float64)
    for n in range(count):
        values[n] *= 2


@compiled.compiled()
def _called(at, output, frames, times, memory):  # type: ignore[no-untyped-def]
    return call_back(at, output, frames, times, memory)


def test_fast_arithmetic_still_knows_what_is_not_a_number() -> None:
    values = np.array([0, 1, np.nan, np.inf, -np.inf, -2], np.float32)
    assert _not_finite(values) == 3


def test_a_division_by_zero_is_infinite_and_raises_nothing() -> None:
    assert _divided(1.0, 0.0) == np.inf
    assert np.isnan(_divided(0.0, 0.0))


def test_the_compiled_clock_is_the_one_that_python_has() -> None:
    moment = np.zeros(2, np.int64)
    before = time.monotonic()
    now = _seconds(moment)
    assert before - 1e-6 <= now <= time.monotonic() + 1e-6


def test_memory_is_reached_by_its_address() -> None:
    values = np.arange(5, dtype=np.float64)
    _doubled_at(values.ctypes.data, 4)
    assert values.tolist() == [0, 2, 4, 6, 4]


def test_c_calls_what_was_compiled_and_compiled_code_calls_an_address() -> None:
    def add(a, b):  # type: ignore[no-untyped-def]
        return a + b

    made = c_function(types.float64(types.float64, types.float64), add)
    call = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_double)(made.address)
    assert call(1.25, 2.5) == 3.75

    seen = []
    whole = ctypes.c_int64

    def note_down(*arguments: int) -> int:
        seen.append(arguments)
        return 7

    portaudio = ctypes.CFUNCTYPE(ctypes.c_int32, *[whole] * 6)(note_down)
    at = ctypes.cast(portaudio, ctypes.c_void_p).value
    # A compiled function lets the interpreter go, and the callback takes it back.
    assert _called(at, 1, 2, 3, 4) == 7
    assert seen == [(0, 1, 2, 3, 0, 4)]


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_there(name: str) -> None:
    assert (DEVICE / f"{name}.py").is_file(), "_stamp passes over what is not"
