"""The whole instrument on a clock of its own: the same twice, and through everything that can go wrong at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import pytest
from bundles import tiny_files, tiny_manifest

from device import bundle as bundles
from device.bundle import Bundle
from device.engine import SAMPLE_RATE_HZ, counted
from device.instrument import Plan, read_parts
from device.modulation import Sound
from device.offline import FRAMES_S, LOST_S, Offline
from device.play import delay_ns
from device.recording import clicks, level
from device.script import FAULT_KEYS, SCRIPTS, read_script
from device.sounds import Kept, Memory

RATE_HZ = SAMPLE_RATE_HZ
LIMIT_HZ = 16_000.0
# Pots, pitch and gate are looked at a tenth as often as on the module: most of the time goes into the simulated wires.
SLOW = "sim-slow"


@pytest.fixture(scope="module")
def racks(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles with another preset first, so that going over to the other one is heard."""
    manifest = tiny_manifest()
    manifest["presets"].reverse()
    path = tmp_path_factory.mktemp("second") / "second.rack"
    bundles.write(path, manifest, tiny_files(tiny_bundle.model()))
    return tiny_bundle.path, path


def offline(  # noqa: PLR0917
    racks: tuple[Path, ...],
    script: Path,
    block: int = 128,
    profile: str = "sim",
    seed: int = 0,
    frames_s: float = FRAMES_S,
) -> Offline:
    plan = Plan(racks, profile=profile, script=str(script), seed=seed)
    scan_hz = 100.0 if profile == SLOW else 1000.0
    return Offline(plan, read_parts(plan, 8), block, delay_ns(block, scan_hz), read_script(script), frames_s)


def heard(blocks: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([block.copy() for block in blocks])


@pytest.fixture(scope="module")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scripts/stress.toml with its faults seven times as often, so that 20 s have all of them."""
    text = (SCRIPTS / "stress.toml").read_text(encoding="utf-8")
    often, changed = re.subn(
        r"every_s = ([\d.]+)", lambda found: f"every_s = {float(found[1]) / 7:.3f}", text
    )
    assert changed == len(FAULT_KEYS)
    path = tmp_path_factory.mktemp("script") / "often.toml"
    path.write_text(often, encoding="utf-8")
    return path


@dataclass
class Stressed:
    """What was heard and counted in 20 s of stress and the silence after it."""

    instrument: Offline
    audio: np.ndarray
    after: np.ndarray  # begins when everything was let go
    counts: dict[str, int]


SECONDS, SILENCE_S = 20.0, 1.0


@pytest.fixture(scope="module")
def stressed(racks: tuple[Path, Path], stress: Path) -> Stressed:
    instrument = offline(racks, stress, profile=SLOW)
    audio = heard(instrument.blocks(SECONDS))
    instrument.let_go()
    after = heard(instrument.blocks(SILENCE_S))
    return Stressed(instrument, audio, after, counted(instrument.desk))


def test_every_fault_of_the_stress_script_happens_and_is_counted(stressed: Stressed, stress: Path) -> None:
    planned: dict[str, int] = {}
    for fault in read_script(stress).faults(0.0, SECONDS + SILENCE_S):
        planned[fault.kind] = planned.get(fault.kind, 0) + 1
    assert set(planned) == set(FAULT_KEYS)
    assert stressed.instrument.faults == planned
    counts = stressed.counts
    # Two frames each; what was planted in a worker that is killed before it makes them dies with it.
    assert 2 * (planned["nan"] - planned["kill worker"]) <= counts["network_faults"] <= 2 * planned["nan"]
    assert counts["worker_starts"] == 1 + planned["kill worker"]
    assert counts["adc_faults"] > 0
    # Half a second without a block, once; the clock says so.
    assert counts["jumps"] == planned["audio lost"]
    played = SECONDS + SILENCE_S - LOST_S * planned["audio lost"]
    assert counts["samples"] / RATE_HZ == pytest.approx(played, abs=0.1)


def test_stress_does_not_click(stressed: Stressed) -> None:
    sound = np.concatenate([stressed.audio, stressed.after])
    assert clicks(sound, RATE_HZ, LIMIT_HZ) == []
    # The planted fault: a hole of a millisecond in the same sound is found.
    torn = sound.copy()
    torn[5 * RATE_HZ : 5 * RATE_HZ + 48] = 0
    assert clicks(torn, RATE_HZ, LIMIT_HZ)


def test_stress_leaves_no_note_behind(stressed: Stressed) -> None:
    assert not stressed.instrument.desk.state.voice["active"].any()
    assert not stressed.after[-RATE_HZ // 10 :].any()
    assert stressed.counts["notes"] > 300
    assert stressed.counts["lost_events"] == stressed.counts["lost_edges"] == 0


def test_stress_is_loud_finite_and_never_silent_for_long(stressed: Stressed) -> None:
    assert np.isfinite(stressed.audio).all()
    assert np.abs(stressed.audio).max() < 1
    assert stressed.counts["not_finite"] == 0
    assert stressed.counts["without_table"] == 0
    quarters = len(stressed.audio) // (RATE_HZ // 4)
    for quarter in range(quarters):
        part = stressed.audio[quarter * RATE_HZ // 4 : (quarter + 1) * RATE_HZ // 4]
        assert level(part).rms_dbfs > -60, quarter / 4


def test_only_what_was_planted_is_muted_and_late(stressed: Stressed) -> None:
    assert stressed.counts["muted"] <= stressed.counts["network_faults"]
    # Frames wait while the worker hangs, is away or works for another bundle, and not otherwise.
    assert stressed.counts["late_frames"] < stressed.counts["notes"] / 5
    # Keys and gates that came while no block was asked for are played when the next one is.
    assert stressed.counts["late_events"] < 2 * LOST_S * stressed.counts["events"] / SECONDS
    assert stressed.counts["latest_ns"] < LOST_S * 1e9
    assert stressed.counts["slots_short"] > 0, "for then no slot comes free either"


def test_the_same_script_and_seed_give_the_same_samples(racks: tuple[Path, Path], stress: Path) -> None:
    first, again, other = (
        heard(offline(racks, stress, profile=SLOW, seed=seed).blocks(2.5)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other[: len(first)]).max() > 1e-3


def test_asking_for_the_blocks_in_pieces_changes_nothing(racks: tuple[Path, Path], stress: Path) -> None:
    whole = heard(offline(racks, stress, profile=SLOW).blocks(0.96))
    in_pieces = offline(racks, stress, profile=SLOW)
    pieces = [heard(in_pieces.blocks(0.32)) for _ in range(3)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


GATES = """
seconds = 2
[pitch]
notes = [48, 55, 60, 67]
[gate]
pulses = [[0.1003, 0.15], [0.3001, 0.5], [0.6009, 0.61], [0.75, 1.1]]
"""


@pytest.mark.parametrize("block", [32, 64, 128, 256, 512])
def test_a_gate_sounds_at_its_time_plus_the_constant_in_blocks_of_any_size(
    racks: tuple[Path, Path], tmp_path: Path, block: int
) -> None:
    script = tmp_path / "gates.toml"
    script.write_text(GATES)
    instrument = offline(racks, script, block)
    audio = heard(instrument.blocks(1.5))
    counts = counted(instrument.desk)
    assert (counts["notes"], counts["late_events"], counts["without_table"]) == (4, 0, 0)
    first = int(np.flatnonzero(audio.any(axis=1))[0])
    # The offline clock asks for a block when it is full; the first sample of a note is at the zero of its swell.
    due = (0.1003 + delay_ns(block, 1000.0) * 1e-9) * RATE_HZ - block
    assert first - due == pytest.approx(0.0, abs=3)
    instrument.let_go()
    ending = heard(instrument.blocks(0.5))
    assert clicks(np.concatenate([audio, ending]), RATE_HZ, LIMIT_HZ) == []


def test_a_worker_that_is_too_slow_is_counted_and_the_shelf_plays(
    racks: tuple[Path, Path], tmp_path: Path
) -> None:
    script = tmp_path / "gates.toml"
    script.write_text(GATES)
    instrument = offline(racks, script, frames_s=0.4)  # longer than a note
    audio = heard(instrument.blocks(1.5))
    counts = counted(instrument.desk)
    assert counts["notes"] == 4
    assert counts["from_shelf"] >= 3
    assert counts["late_frames"] >= 2
    assert level(audio).rms_dbfs > -50


def test_two_blocks_are_two_arrays_only_if_they_are_copied(racks: tuple[Path, Path], stress: Path) -> None:
    blocks = offline(racks, stress, profile=SLOW).blocks(0.1)
    assert next(blocks) is next(blocks)


# Everything that a patch may turn, and sounds recalled, while notes are held.

LIVELY = """
[voice]
glide_ms = 30
level_db = -30  # so that the limiter, whose harmonics are another matter, stays out of it
[[route]]
from = "lfo.1"
to = "level"
depth = 9
[[route]]
from = "lfo.2"
to = "pitch"
depth = 0.5
[[route]]
from = "random.1"
to = "Trumpet"
depth = 0.5
[[route]]
from = "envelope.1"
to = "z.1"
depth = 3
[[route]]
from = "lfo.3"
to = "z.2"
depth = 3
[lfo.1]
shape = "square"
rate_hz = 4
[lfo.2]
rate_hz = 6
[lfo.3]
shape = "steps"
rate_hz = 9
[envelope.1]
attack_ms = 0
[random.1]
rate_hz = 10
[latent]
drift = 0.5
drift_s = 1
"""
HELD = """
seconds = 9
[[keys]]
notes = [[0.1, 5.5, 48, 100], [0.4, 4.5, 60, 80], [0.7, 3.9, 67, 90], [2.0, 2.0, 72, 127]]
"""


def test_nothing_that_a_patch_turns_clicks_and_no_sound_that_is_recalled(
    racks: tuple[Path, Path], tmp_path: Path
) -> None:
    patch, script = tmp_path / "lively.toml", tmp_path / "held.toml"
    patch.write_text(LIVELY)
    script.write_text(HELD)
    plan = Plan(racks, patch=patch, script=str(script))
    played = Offline(plan, read_parts(plan, 8), 128, delay_ns(128, 1000.0), read_script(script))
    pieces = []
    for number in range(24):
        pieces.append(heard(played.blocks(0.25)))
        # Programs 65 on are the bundle's presets.
        played._front.play(played.now_ns, mido.Message("program_change", program=64 + number % 2), 60)
    played.let_go()
    pieces.append(heard(played.blocks(1.0)))
    sound = np.concatenate(pieces)
    assert clicks(sound, RATE_HZ, LIMIT_HZ) == []
    counts = counted(played.desk)
    assert counts["morphs"] > 100
    assert counts["lost_events"] == counts["muted"] == counts["not_finite"] == 0
    loud = [
        level(sound[begin : begin + RATE_HZ // 20]).rms_dbfs
        for begin in range(RATE_HZ, 5 * RATE_HZ, RATE_HZ // 20)
    ]
    assert np.ptp(loud) > 12, "the level is turned by 18 dB, so all of this was at work"
    assert not played.desk.state.voice["active"].any()


def test_a_kept_sound_of_another_bundle_takes_it_along(racks: tuple[Path, Path], tmp_path: Path) -> None:
    script = tmp_path / "held.toml"
    script.write_text(HELD)
    plan = Plan(racks, script=str(script))
    parts = read_parts(plan, 8)
    parts[1] = dataclasses.replace(parts[1], layout=dataclasses.replace(parts[1].layout, name="Second"))
    preset = parts[1].layout.presets[1]
    kept = Kept("Dusk", "Second", Sound(preset.name, tuple(map(float, preset.z)), {}))
    names = tuple(part.layout.name for part in parts)
    plan = dataclasses.replace(plan, names=names, memory=Memory((kept,)))
    played = Offline(plan, parts, 128, delay_ns(128, 1000.0), read_script(script))
    pieces = [heard(played.blocks(1.0))]
    played._front.play(played.now_ns, mido.Message("program_change", program=0), 60)
    pieces.append(heard(played.blocks(2.0)))
    np.testing.assert_allclose(played.desk.base[: len(preset.attributes)], preset.attributes)
    assert played._part.layout.name == "Second"
    found = clicks(np.concatenate(pieces), RATE_HZ, LIMIT_HZ)
    assert [at for at in found if at < 2.95] == [], "but where the recording ends"
