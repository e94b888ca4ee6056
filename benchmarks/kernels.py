r"""Each kernel on its own, with a history: run by pytest-benchmark (`make kernels`), each alone with -k.

    python -m pytest benchmarks/kernels.py -k voice              # one of them
    python -m pytest benchmarks/kernels.py --benchmark-timer time.process_time --benchmark-autosave \
        --benchmark-storage out/kernels
    PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 pytest-benchmark --storage out/kernels compare --group-by name

docs/scaling.md says how to read the history. `tests/test_kernels.py` runs every one of them once, untimed.
"""

from __future__ import annotations

import itertools
from typing import Any

import mido
import numpy as np
import pytest

from benchmarks.ours import Callback, converted, full_hz, full_note
from device.bundle import Attribute
from device.control import Control, Layout
from device.engine import make, memory_size
from device.envelope import envelope
from device.generator import Network, _noise
from device.jacks import Jacks
from device.knobs import Knobs
from device.midi_stream import MidiStream
from device.partials import Partials, decode, nominal_hz
from device.patch import Patch
from device.profile import read_profile
from device.scan import Scan, untuned
from device.stft import Stft, decode_samples
from device.voices import fill, morph, start

GRID = Partials()
WIDTH, SLICE_FRAMES = 96, 16  # 17 MMAC a note: as large as what ships
ATTRIBUTES = 128
NAMES = tuple(f"attribute {n}" for n in range(ATTRIBUTES))


@pytest.fixture(scope="session")
def networks() -> dict[str, tuple[Network, dict[str, np.ndarray]]]:
    """A network of the flagship's form with random weights, by variant, and what it is asked."""
    models, _ = converted(WIDTH, ATTRIBUTES, SLICE_FRAMES)
    inputs: dict[str, tuple[int, ...]] = {
        "z": (1, 24),
        "attributes": (1, ATTRIBUTES),
        "pitch": (1, 1),
        "velocity": (1, 1),
        "noise": (1, 64, GRID.frames),
    }
    random = np.random.default_rng(0)
    asked = {name: random.uniform(0, 1, shape).astype(np.float32) for name, shape in inputs.items()}
    asked["pitch"][:] = 60
    shape = (1, 2, GRID.rows, GRID.frames)
    return {
        variant: (Network(model, variant, inputs, shape, slice_frames=SLICE_FRAMES), asked)
        for variant, model in models.items()
    }


@pytest.fixture(scope="session")
def planes() -> np.ndarray:
    """A note as a network puts it out: (2, rows, frames), levels that fall with the row and in time, and texture."""
    random = np.random.default_rng(0)
    row, frame = np.arange(GRID.rows)[:, None], np.arange(GRID.frames)
    level = 0.9 - 0.006 * row - 0.001 * frame + 0.02 * random.standard_normal((GRID.rows, GRID.frames))
    deviation = 0.1 * random.standard_normal((GRID.rows, GRID.frames))
    return np.stack([level, deviation]).astype(np.float32)


@pytest.mark.parametrize("variant", ["float32", "dynamic_int8"])
def test_note_inferred(benchmark: Any, networks: dict[str, Any], variant: str) -> None:
    """A whole note through LiteRT, one thread."""
    network, asked = networks[variant]
    assert benchmark(network, asked).shape == (1, 2, GRID.rows, GRID.frames)


@pytest.mark.parametrize("variant", ["float32", "dynamic_int8"])
def test_slice_inferred(benchmark: Any, networks: dict[str, Any], variant: str) -> None:
    """Some frames of it."""
    network, asked = networks[variant]
    assert benchmark(network.slice, asked, 40).shape == (1, 2, GRID.rows, SLICE_FRAMES)


@pytest.mark.parametrize("block", [32, 128, 1024])
@pytest.mark.parametrize("voices", [1, 8])
def test_voice_kernel(benchmark: Any, voices: int, block: int) -> None:
    """One block of the whole callback, every partial sounding."""
    playing = Callback(voices, GRID.rows)
    assert np.abs(benchmark(playing.render, block, block)).max() > 0


def test_frames_decoded(benchmark: Any, planes: np.ndarray) -> None:
    """Network's output to frames that can be held."""
    note = benchmark(decode, planes, GRID)
    assert note.level_db.shape == (GRID.rows, GRID.frames)


def test_samples_decoded(benchmark: Any) -> None:
    """A note on DarkGAN's grid, inverted, tuned and looped."""
    grid = Stft()
    planes = np.full((2, grid.bins, grid.frames), -10.0, np.float32)
    planes[1] = 0.0
    for partial in range(1, 8):
        at = round(partial * 440 * grid.fft_samples / grid.sample_rate_hz) - 1
        planes[0, at] = 4.0 - partial
        planes[1, at, 1:] = 2 * np.pi * partial * 440 * grid.hop_samples / grid.sample_rate_hz % (2 * np.pi)
    assert len(benchmark(decode_samples, planes, grid, 69).samples) > 4000


def test_envelope_found(benchmark: Any, planes: np.ndarray) -> None:
    """The spectral envelope that keeps formants in Hz."""
    assert len(benchmark(envelope, decode(planes, GRID))) == GRID.rows


def test_slot_filled(benchmark: Any, planes: np.ndarray) -> None:
    """Frames written to where a voice reads them."""
    desk = make(np.zeros(memory_size(1), np.uint8), 1)
    note = decode(planes, GRID)
    benchmark(fill, desk.state, 0, note, nominal_hz(60), GRID)
    assert desk.state.table[0]["rows"] == GRID.rows


def test_morph_begun(benchmark: Any) -> None:
    """What the callback does at an offer of new frames."""
    desk = make(np.zeros(memory_size(1), np.uint8), 1)
    hz = full_hz(GRID.rows, GRID)
    for slot in (0, 1):
        fill(desk.state, slot, full_note(GRID.rows, GRID), hz, GRID)
    start(desk.state, 0, 0, 1, hz, 1.0, 0.0, 0.3, 1)
    benchmark(morph, desk.state, 0, 1, 0.02)
    assert desk.state.voice[0]["slot"] == 1


def test_noise_drawn(benchmark: Any) -> None:
    """Of one note; drawn anew for each that is struck."""
    assert benchmark(_noise.__wrapped__, 1, (1, 64, GRID.frames)).shape == (1, 64, GRID.frames)


@pytest.mark.parametrize("turned", [1, 8])
def test_knobs_vector(benchmark: Any, turned: int) -> None:
    """Soft labels from knobs that stand elsewhere each time."""
    random = np.random.default_rng(0)
    tables = np.sort(random.uniform(0, 1, (ATTRIBUTES, 33)), axis=1)
    knobs = Knobs(
        [Attribute(name, table, None) for name, table in zip(NAMES, tables, strict=True)],
        np.corrcoef(random.standard_normal((ATTRIBUTES, 400))),
    )
    base = tables[:, 16]
    places = itertools.cycle(np.linspace(0, 1, 1000))

    def turn() -> np.ndarray:
        return knobs.vector(base, {NAMES[n]: float(next(places)) for n in range(turned)})

    assert benchmark(turn).shape == (ATTRIBUTES,)


def test_midi_parsed(benchmark: Any) -> None:
    """A thousand messages, with running status and clocks among them."""
    messages = [mido.Message("note_on", note=n % 128, velocity=1 + n % 127) for n in range(1000)]
    data = b"\x90" + b"".join(
        bytes(message.bytes()[1:]) + b"\xf8" * (n % 2) for n, message in enumerate(messages)
    )
    parsed = benchmark(lambda: MidiStream().feed(data, 0))
    assert sum(message.type == "note_on" for _, message in parsed) == 1000


def test_scan_pass(benchmark: Any) -> None:
    """One look at all jacks, without the wires: pots and voltages that stand still but for their noise."""
    profile = read_profile("sim")
    desk = make(np.zeros(memory_size(8), np.uint8), 8)
    player = Control(desk, Layout(0, Patch(), NAMES[:8], (36.0, 84.0)))
    noise = itertools.cycle(np.random.default_rng(0).integers(-1, 2, 10_007))
    jacks = Jacks(
        pot=lambda n: 500 + int(next(noise)),
        pitch=lambda: 2000 + int(next(noise)),
        pitch_codes=4096,
        cv=lambda n: 2000 + int(next(noise)),
        edges=lambda _: [],
        messages=lambda _: [],
        lost=lambda: 0,
        close=lambda: None,
    )
    turned: list[str] = []
    scan = Scan(
        desk,
        jacks,
        player,
        lambda *_: None,
        lambda source, _: turned.append(source),
        profile,
        untuned(profile),
    )
    now = iter(range(1_000_000_000, 10**18, round(1e9 / profile.pitch_scan_hz)))

    def step() -> None:
        scan.step(next(now))

    for _ in range(2000):  # two seconds: what lies at the jacks is known
        step()
    benchmark(step)
    assert set(turned) >= {"knob.1"}
