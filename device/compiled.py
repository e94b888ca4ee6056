"""How Darkrack compiles what must run without Python: numba, cached on disk where that is possible.

And what compiled code needs from below numba: memory at an address, the order of writes, a clock, a call by address.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import sigutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

_normalized: Any = sigutils.normalize_signature  # numba has types, but not for all of itself

# Fast where order and contraction are concerned, but never assuming that NaN does not exist: what comes in
# from a network is checked with isfinite, and that check must not be optimised away.
FAST = {"reassoc", "contract", "arcp", "nsz"}
# What is compiled here calls one another across modules, and numba's cache looks at one file only: a change of
# any of these makes all of them be compiled again. `partials` has no compiled code, but constants that go into it.
SOURCES = (
    "audio",
    "compiled",
    "decibels",
    "decoding",
    "engine",
    "envelope",
    "partials",
    "samples",
    "voices",
)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """numba.njit with a cache on disk, and without one where no folder for it can be written.

    A division by zero gives infinity, as in numpy: an exception could not leave an audio callback.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        given: dict[str, Any] = {"nogil": True, "error_model": "numpy", **options}
        try:
            made = numba.njit(cache=True, **given)(function)
        except RuntimeError:  # "no locator available": a read-only root without NUMBA_CACHE_DIR
            return numba.njit(**given)(function)  # type: ignore[no-any-return]
        _stamp(made)
        return made  # type: ignore[no-any-return]

    return decorate


def c_function(signature: Any, function: Callable[..., Any]) -> Any:
    """A function that C can call, with its ``address``; compiled now, or taken from the cache on disk.

    ``function`` may not raise. The object has to be kept as long as anybody may call the address.
    """
    made: Any = CFunc(function, _normalized(signature), {}, {"error_model": "numpy"})
    with contextlib.suppress(RuntimeError):  # see `compiled`
        made.enable_caching()
        _stamp(made)
    made.compile()
    return made


def _stamp(made: Any) -> None:
    """Tie the cache of something that numba made to the state of all SOURCES."""
    here = Path(__file__).parent
    states = [(here / f"{name}.py").stat() for name in SOURCES if (here / f"{name}.py").exists()]
    made._cache._cache_file._source_stamp = tuple((state.st_mtime_ns, state.st_size) for state in states)


def _fence(_context: Any) -> Any:
    def generate(target: Any, builder: ir.IRBuilder, _signature: Any, _values: Any) -> Any:
        builder.fence("seq_cst")
        return target.get_dummy_value()

    return types.void(), generate


def _pointer(_context: Any, _address: Any) -> Any:
    def generate(target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], target.get_value_type(types.voidptr))

    return types.voidptr(types.intp), generate


def _call_back(_context: Any, _address: Any, _output: Any, _frames: Any, _times: Any, _memory: Any) -> Any:
    def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        address, output, frames, times, memory = values
        whole, word = ir.IntType(64), ir.IntType(32)
        function = builder.inttoptr(address, ir.FunctionType(word, [whole] * 6).as_pointer())
        nothing = ir.Constant(whole, 0)
        return builder.call(function, [nothing, output, frames, times, nothing, memory])

    return types.int32(types.intp, types.intp, types.intp, types.intp, types.intp), generate


# What was written before it is there, for every process, before what is written after it; on ARM as well.
fence: Any = intrinsic(_fence)
# An address as a pointer, and an array of a shape and kind at one.
pointer: Any = intrinsic(_pointer)
array_at: Any = numba.carray  # type: ignore[attr-defined]
# Call a PaStreamCallback at an address: (address, output, frames, times, memory), no input and no flags.
call_back: Any = intrinsic(_call_back)
# Those of time.h, by the address of a struct timespec (two int64).
clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
clock_nanosleep: Any = types.ExternalFunction(
    "clock_nanosleep", types.int32(types.int32, types.int32, types.intp, types.intp)
)
CLOCK_MONOTONIC, TIMER_ABSTIME = 1, 1  # Linux, time.h
