"""What plays, read and checked before anything does; and the front: jacks, keys and orders become notes on a desk."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from bundles import tiny_files, tiny_manifest
from header import on_a_header
from pythonosc.osc_message_builder import OscMessageBuilder

from device import bundle as bundles
from device import jacks, osc
from device.bundle import Bundle
from device.control import Layout
from device.engine import (
    BEND,
    EVENTS,
    RELEASE,
    SAMPLE_RATE_HZ,
    START,
    WRITTEN,
    Desk,
    advance,
    counted,
    hand_over,
    make,
    memory_size,
)
from device.errors import DarkrackError
from device.instrument import Front, Part, Plan, again, read_parts, warm_up
from device.keyboard import GateEdge, PotTurn
from device.modulation import Preset, Sound
from device.partials import NoteFrames, Partials, nominal_hz
from device.patch import Knob, Patch
from device.profile import Profile, read_profile
from device.script import PITCH_ZERO_MIDI
from device.simulation import Ads8325, Clock, Mcp3x08
from device.sounds import MOST_SOUNDS, Kept, Memory
from device.voices import fill
from device.worker import Setup

RATE_HZ = SAMPLE_RATE_HZ
MS = 1_000_000
ORIGIN_NS = 5_000_000_000
NAMES = ("A", "B", "C", "D", "E", "F", "G", "H")
TONE = NoteFrames(
    np.full((1, 128), 3, np.float32), np.ones((1, 128), np.float32), np.zeros(1, np.float32), 50, 124
)


# Reading.


def test_a_plan_becomes_a_part_for_each_bundle_with_numbers_of_their_own(
    tiny_bundle: Bundle, tiny_samples_bundle: Bundle
) -> None:
    plan = Plan((tiny_bundle.path, tiny_samples_bundle.path, tiny_bundle.path), preset="Harp")
    parts = read_parts(plan, 8)
    assert [part.setup.epoch for part in parts] == [0, 1, 2]
    assert [part.layout.epoch for part in parts] == [0, 1, 2]
    assert [part.setup.bundle for part in parts] == list(plan.bundles)
    # The preset is the first one's; the others have their own.
    assert [part.setup.patch.preset for part in parts] == ["Harp", None, None]
    for part in parts:
        manifest = bundles.read(part.setup.bundle).manifest
        assert part.layout.attributes == tuple(one.name for one in manifest.attributes)
        assert part.layout.pitch_range_midi == manifest.pitch_range_midi
        assert part.layout.patch == part.setup.patch


def test_pots_turn_attributes_the_most_obedient_first(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (part,) = read_parts(Plan((tiny_bundle.path,)), 8)
    assert len(part.knobs) == len(part.layout.attributes), "four attributes for eight pots"
    assert part.knobs[-1] == "Wind noise, breath", "which was not measured"
    manifest = tiny_manifest()
    manifest["quality"] = {"evaluation": {"confirmed_knobs": ["Wind noise, breath"]}}
    path = tmp_path / "proved.rack"
    bundles.write(path, manifest, tiny_files(tiny_bundle.model()))
    (part,) = read_parts(Plan((path,)), 2)
    assert part.knobs[0] == "Wind noise, breath"
    assert len(part.knobs) == 2
    named = [attribute.name for attribute in tiny_bundle.manifest.attributes][::-1]
    manifest["quality"]["evaluation"]["panel"] = [*named[1:3], "nobody", named[0]]
    bundles.write(path, manifest, tiny_files(tiny_bundle.model()))
    (part,) = read_parts(Plan((path,)), 8)
    assert part.knobs == (*named[1:3], named[0], named[3]), "as the bundle says, then the rest"


def test_a_patch_is_read_against_every_bundle(tiny_bundle: Bundle, tmp_path: Path) -> None:
    patch = tmp_path / "mine.toml"
    patch.write_text('[voice]\npreset = "Harp"\nrelease_ms = 300\n[attributes]\nTrumpet = 0.5\n')
    (part,) = read_parts(Plan((tiny_bundle.path,), patch=patch), 8)
    assert (part.setup.patch.preset, part.setup.patch.release_s) == ("Harp", 0.3)
    assert part.layout.patch.attributes == {"Trumpet": 0.5}
    assert part.setup.patch.attributes == {}, "the front says where knobs stand, the worker obeys"
    patch.write_text("[attributes]\nTrumpets = 0.5\n")
    with pytest.raises(DarkrackError, match="did you mean 'Trumpet'"):
        read_parts(Plan((tiny_bundle.path,), patch=patch), 8)


def test_what_cannot_be_played_is_refused_before_anything_plays(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match=r"nothing\.rack"):
        read_parts(Plan((tiny_bundle.path, tmp_path / "nothing.rack")), 8)
    with pytest.raises(DarkrackError, match="did you mean 'Reed'"):
        read_parts(Plan((tiny_bundle.path,), preset="Reeds"), 8)
    with pytest.raises(DarkrackError, match="float32"):
        read_parts(Plan((tiny_bundle.path,), variant="int4"), 8)


def test_a_part_set_up_again_differs_in_its_number_alone(tiny_bundle: Bundle) -> None:
    (part,) = read_parts(Plan((tiny_bundle.path,)), 8)
    other = again(part, 9)
    assert (other.setup.epoch, other.layout.epoch) == (9, 9)
    assert again(other, 0) == part


def test_warming_up_leaves_no_trace() -> None:
    warm_up(3)


# The front.


PRESETS = tuple(
    Preset(
        name,
        np.full(len(NAMES), label, np.float32),
        np.full(16, label, np.float32),
        np.full(len(NAMES), label, np.float32),
    )
    for name, label in (("Reed", 0.25), ("Harp", 0.75))
)


class Stage:
    """A front on a desk whose shelf has one table."""

    def __init__(
        self,
        tmp_path: Path,
        script: str,
        profile: str = "sim",
        patch: Patch | None = None,
        **more: Any,
    ) -> None:
        path = tmp_path / "written.toml"
        path.write_text(script)
        self.desk: Desk = make(np.zeros(memory_size(4), np.uint8), 4)
        fill(self.desk.state, 0, TONE, 440.0, Partials())
        hand_over(self.desk.shelf, 0, 1)
        nowhere = Path("nowhere.rack")
        chosen = Patch(release_s=0.05) if patch is None else patch
        layout = Layout(0, chosen, NAMES, (36.0, 84.0), "First", PRESETS)
        self.part = Part(Setup(0, nowhere, chosen), layout, NAMES, 16_000.0)
        plan = Plan((nowhere,), profile=profile, script=str(path), names=("First", "Second"), **more)
        self.front = Front(self.desk, plan, self.part, ORIGIN_NS)
        self.now_ns = ORIGIN_NS

    def run(self, seconds: float) -> None:
        """Passes and blocks in turn, a millisecond each."""
        out = np.zeros((RATE_HZ // 1000, 2), np.float32)
        for _ in range(round(seconds * 1000)):
            self.now_ns += MS
            if (self.now_ns - ORIGIN_NS) % self.front.pass_ns == 0:
                self.front.step(self.now_ns)
            advance(self.desk, out, self.now_ns)

    def count(self, name: str) -> int:
        return counted(self.desk)[name]

    def events(self, *kinds: int) -> list[np.void]:
        written = int(self.desk.cursor[WRITTEN])
        assert written <= EVENTS
        return [event for event in self.desk.events[:written] if not kinds or event["kind"] in kinds]

    def held(self) -> list[float]:
        return sorted(
            round(69 + 12 * float(np.log2(voice["f0_goal_hz"] / 440)), 1)
            for voice in self.desk.state.voice
            if voice["active"] and not voice["released"]
        )


def test_a_script_reaches_the_desk_through_chips_and_drivers(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        """
seconds = 2
[pot.3]
at = 0.9
[pitch]
notes = [48, 62]
[gate]
pulses = [[0.0503, 0.2], [0.3001, 0.5]]
[[keys]]
notes = [[0.1, 0.2, 72, 100]]
""",
    )
    stage.run(0.15)
    assert stage.held() == [48.0, 72.0]
    stage.run(0.25)
    assert stage.held() == [62.0]
    stage.run(0.3)
    assert stage.held() == []
    times_ms = [(int(event["time_ns"]) - ORIGIN_NS) / MS for event in stage.events(START, RELEASE)]
    np.testing.assert_allclose(times_ms, [50.3, 100, 200, 300, 300.1, 500], atol=1e-3)
    settings = stage.desk.settings[: len(NAMES)]
    assert settings[2] == pytest.approx(0.9, abs=0.01)
    assert np.isnan(np.delete(settings, 2)).all(), "pots that nobody turns turn nothing"
    assert stage.count("control_beat_ns") == stage.now_ns


@pytest.mark.parametrize(("profile", "pass_ms"), [("sim", 1), ("sim-slow", 10)])
def test_the_profile_says_how_often_it_looks(tmp_path: Path, profile: str, pass_ms: int) -> None:
    stage = Stage(tmp_path, "seconds = 1\n[gate]\npulses = [[0.0123, 0.05]]\n[pitch]\nnotes = [50]", profile)
    assert stage.front.pass_ns == pass_ms * MS
    stage.run(0.1)
    (start,) = stage.events(START)
    assert start["time_ns"] == ORIGIN_NS + 12_300_000, "whenever it looked, the edge has its own time"


def test_edges_that_came_faster_than_they_were_read_are_counted_and_the_gate_does_not_stick(
    tmp_path: Path,
) -> None:
    pulses = ", ".join(f"[{0.0101 + n * 0.0002:.4f}, {0.0102 + n * 0.0002:.4f}]" for n in range(40))
    stage = Stage(
        tmp_path, f"seconds = 1\n[gate]\npulses = [{pulses}]\n[pitch]\nnotes = [50]\nstep_s = 1", "sim-slow"
    )
    stage.run(0.2)
    # Eighty edges in eight milliseconds, of which the kernel keeps the last sixteen between two passes of ten.
    assert stage.count("lost_edges") == 80 - 16
    assert len(stage.events(START)) == 8
    assert stage.held() == []


def test_garbage_lasts_as_long_as_it_was_planted(tmp_path: Path) -> None:
    pots = "\n".join(f"[pot.{n}]\nat = 0.5" for n in range(1, 9))
    stage = Stage(
        tmp_path, f"seconds = 9\n{pots}\n[pitch]\nnotes = [50]\nstep_s = 9\n[gate]\npulses = [[0.01, 8]]"
    )
    stage.run(0.05)
    stage.front.spoil(0.1)
    stage.run(0.1)
    faults = stage.count("adc_faults")
    assert faults > 30
    stage.run(0.02)
    faults = stage.count("adc_faults")
    stage.run(0.2)
    assert stage.count("adc_faults") == faults
    assert stage.held() == [50.0]
    np.testing.assert_allclose(stage.desk.settings[: len(NAMES)], 0.5, atol=0.02)


def test_the_computers_keyboard_turns_pots_plays_the_gate_and_sends_notes(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "seconds = 1\nloop = true")
    stage.run(0.05)
    stage.front.play(stage.now_ns, PotTurn(pot=3, position=0.75), 60)
    stage.run(0.2)
    assert stage.desk.settings[2] == pytest.approx(0.75, abs=0.01)
    stage.front.play(stage.now_ns + 1, GateEdge(1), 57)
    stage.run(0.01)
    assert stage.held() == [57.0]
    assert stage.events(START)[0]["time_ns"] == stage.now_ns - 10 * MS + 1
    stage.front.play(stage.now_ns, GateEdge(0), 57)
    stage.front.play(stage.now_ns, mido.Message("note_on", note=64, velocity=90), 64)
    stage.run(0.01)
    assert stage.held() == [64.0]
    low = PITCH_ZERO_MIDI + 1
    stage.front.play(stage.now_ns, GateEdge(1), low)
    stage.run(0.01)
    assert stage.held() == [low, 64.0]


def test_going_over_to_another_bundle_rings_out_what_sounds_and_tells_its_knobs(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        "seconds = 9\n[pot.1]\nat = 0.5\n[pitch]\nnotes = [50, 55]\n"
        "[gate]\npulses = [[0.01, 0.2], [0.3, 0.5]]",
    )
    stage.run(0.1)
    assert stage.held() == [50.0]
    layout = dataclasses.replace(stage.part.layout, epoch=4, attributes=("X", "A"))
    stage.front.set_up(dataclasses.replace(stage.part, layout=layout, knobs=("A", None)), stage.now_ns)
    stage.run(0.05)
    assert stage.held() == []
    assert stage.desk.settings[1] == pytest.approx(0.5, abs=0.01)
    assert np.isnan(stage.desk.settings[[0, 2]]).all()
    stage.run(0.2)
    assert stage.held() == [55.0]
    assert 4 in stage.desk.wish["epoch"]


def test_when_it_is_over_everything_is_let_go_and_nothing_begins(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        "seconds = 9\n[pitch]\nnotes = [50, 55]\n[gate]\npulses = [[0.01, 0.2], [0.3, 8]]\n"
        "[[keys]]\nnotes = [[0.05, 8, 72, 100]]",
    )
    stage.run(0.1)
    assert stage.held() == [50.0, 72.0]
    stage.front.finish(stage.now_ns)
    stage.run(0.5)
    assert not stage.desk.state.voice["active"].any()
    assert len(stage.events(START)) == 2
    assert stage.count("control_beat_ns") == stage.now_ns, "it still lives"


CODE_SEMITONES = 12 * 3.3 / 4096 / 0.5  # of a code of the converter


def test_a_volt_is_an_octave_from_end_to_end_of_the_converter(tmp_path: Path) -> None:
    notes = [36, 48, 60, 84, 101, 127]
    pulses = ", ".join(f"[{0.05 * n + 0.01}, {0.05 * n + 0.04}]" for n in range(len(notes)))
    stage = Stage(tmp_path, f"seconds = 1\n[pitch]\nnotes = {notes}\n[gate]\npulses = [{pulses}]")
    stage.run(0.4)
    played = [69 + 12 * float(np.log2(event["f0_hz"] / 440)) for event in stage.events(START)]
    np.testing.assert_allclose(played[:5], notes[:5], atol=CODE_SEMITONES)
    assert played[5] == pytest.approx(36 + 12 * 6.6, abs=0.05), "3.3 V at half a volt an octave is the end"
    assert not stage.events(BEND)
    assert stage.events(START)[0]["f0_hz"] == pytest.approx(nominal_hz(36), rel=2e-3)


# Sounds, programs, other programs.

QUIET = "seconds = 9"


def sound(preset: str = "Harp", **settings: float) -> Sound:
    return Sound(preset, (0.5,) * 16, {name: (value, True) for name, value in settings.items()})


def asked(stage: Stage, address: str, *words: object) -> tuple[bool, str]:
    """What the front answers to OSC."""
    assert stage.front._osc is not None
    builder = OscMessageBuilder(f"/darkrack/{address}")
    for word in words:
        builder.add_arg(word)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.settimeout(10)
        end.connect(("127.0.0.1", stage.front._osc.port))
        end.send(builder.build().dgram)
        stage.run(0.005)
        return osc.answered(end.recv(osc.REPLY_BYTES))


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Stage]:
    memory = Memory((Kept("Dawn", "First", sound(B=0.9)), Kept("Dusk", "Second", sound())))
    stage = Stage(tmp_path, QUIET, osc_port=0, memory=memory)
    stage.run(0.05)
    yield stage
    stage.front.close()


def program(stage: Stage, number: int) -> None:
    stage.front.play(stage.now_ns, mido.Message("program_change", program=number), 60)
    stage.run(0.02)


def test_programs_recall_kept_sounds_and_presets(listening: Stage) -> None:
    program(listening, 0)
    assert listening.desk.settings[1] == pytest.approx(0.9)
    np.testing.assert_array_equal(listening.desk.latent[0, :16], 0.5)
    program(listening, MOST_SOUNDS)
    np.testing.assert_array_equal(listening.desk.base[: len(NAMES)], 0.25)
    assert np.isnan(listening.desk.settings[: len(NAMES)]).all()
    program(listening, MOST_SOUNDS + 1)
    np.testing.assert_array_equal(listening.desk.base[: len(NAMES)], 0.75)
    program(listening, 40)
    np.testing.assert_array_equal(listening.desk.base[: len(NAMES)], 0.75)


def test_a_sound_of_another_bundle_waits_for_it(listening: Stage) -> None:
    program(listening, 1)
    assert ("bundle", "Second") in listening.front.told
    before = listening.desk.latent[0, :16].copy()
    second = dataclasses.replace(listening.part.layout, epoch=1, name="Second")
    listening.front.set_up(dataclasses.replace(listening.part, layout=second), listening.now_ns)
    listening.run(0.02)
    assert (before != 0.5).all()
    np.testing.assert_array_equal(listening.desk.latent[0, :16], 0.5)


def test_everything_that_can_be_asked_for_is_answered(listening: Stage) -> None:
    assert asked(listening, "knob/c", 0.5) == (True, "C stands at 0.5")
    assert asked(listening, "keep", "Noon") == (True, "kept as 'Noon', program 3")
    assert listening.front.told[-1][1].find("noon").sound.settings == {"C": (0.5, True)}
    assert asked(listening, "preset", "harp") == (True, "Harp")
    assert asked(listening, "preset", 0, 0.02) == (True, "Dawn")
    assert asked(listening, "undo") == (True, "back to the sound before")
    listening.run(0.02)
    np.testing.assert_array_equal(listening.desk.base[: len(NAMES)], 0.75)
    assert asked(listening, "undo") == (True, "back to the sound before")
    listening.run(0.02)
    assert listening.desk.settings[1] == pytest.approx(0.9), "and forth again"
    assert asked(listening, "new", 3) == (True, "another specimen")
    assert asked(listening, "learn", "D") == (True, "the next controller that moves turns D")
    listening.front.play(listening.now_ns, mido.Message("control_change", control=20, value=127), 60)
    listening.run(0.02)
    assert listening.desk.settings[3] == 1.0
    assert listening.front.told[-1][1].learned == {20: Knob("D")}
    done, words = asked(listening, "sounds")
    assert done
    assert words.splitlines() == [
        "First",
        "   1  Dawn  (kept, of First)",
        "   2  Dusk  (kept, of Second)",
        "   3  Noon  (kept, of First)",
        "  65  Reed",
        "  66  Harp",
        "CC 20 turns D",
    ]
    assert asked(listening, "forget")[0]
    assert asked(listening, "drop", "Noon") == (True, "'Noon' is forgotten")
    assert asked(listening, "bundle", "second") == (True, "going over to second")
    assert listening.front.told[-1] == ("bundle", "Second")
    assert asked(listening, "panic") == (True, "everything is off")


@pytest.mark.parametrize(
    ("address", "words", "told"),
    [
        ("knob", ("Q", 1.0), "the bundle has no attribute 'Q'"),
        ("preset", ("Reid",), "did you mean 'Reed'?"),
        ("preset", (99,), "nothing is at program 100"),
        ("learn", ("Q",), "no attribute 'Q'"),
        ("drop", ("Noon",), "no kept sound is called 'Noon'"),
        ("bundle", ("Third",), "no bundle called 'Third' is loaded"),
        ("undo", (), "nothing was changed yet"),
    ],
)
def test_what_cannot_be_done_is_said(
    listening: Stage, address: str, words: tuple[object, ...], told: str
) -> None:
    done, said = asked(listening, address, *words)
    assert not done
    assert told in said


def test_a_long_name_is_cut_and_found_again(listening: Stage) -> None:
    name = "x" * 63 + " " + "y" * 40
    done, said = asked(listening, "keep", name)
    assert done
    assert said == f"kept as {'x' * 63!r}, program 3"
    assert asked(listening, "drop", name)[0]


def test_a_source_from_outside_is_one_that_a_patch_knows(listening: Stage) -> None:
    assert listening.front._osc is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        for name, value in (("cc.1", 127.0), ("lfo.1", 1.0), ("nonsense", 1e6), ("note", -1e6)):
            builder = OscMessageBuilder("/darkrack/source")
            builder.add_arg(name)
            builder.add_arg(value)
            end.sendto(builder.build().dgram, ("127.0.0.1", listening.front._osc.port))
    listening.run(0.05)
    assert listening.front._modulation._values["cc.1"] == 1.0
    assert not {"lfo.1", "nonsense"} & set(listening.front._modulation._values)


def test_one_message_costs_itself_and_not_the_keys_that_are_held(
    listening: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listening.front.play(listening.now_ns, mido.Message("note_on", note=60, velocity=90), 60)
    listening.run(0.05)
    monkeypatch.setattr(listening.front._modulation, "turn", lambda *_: 1 / 0)
    listening.front.play(listening.now_ns, mido.Message("control_change", control=1, value=1), 60)
    listening.run(0.05)
    monkeypatch.setattr(listening.front._receiver, "panic", lambda: 1 / 0)
    assert asked(listening, "panic") == (False, "it cannot be done")
    assert listening.held() == [60.0]
    assert caplog.text.count("was not obeyed") == 2


def test_osc_plays_notes(listening: Stage) -> None:
    assert listening.front._osc is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        for velocity in (0.8, 0.0):
            builder = OscMessageBuilder("/darkrack/note")
            builder.add_arg(62)
            builder.add_arg(velocity)
            end.sendto(builder.build().dgram, ("127.0.0.1", listening.front._osc.port))
            listening.run(0.05)
            assert listening.held() == ([62.0] if velocity else [])


def test_a_port_that_is_taken_keeps_nothing_from_playing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with osc.OscInput(0) as other:
        stage = Stage(
            tmp_path,
            "seconds = 9\n[pitch]\nnotes = [50]\nstep_s = 9\n[gate]\npulses = [[0.01, 8]]",
            osc_port=other.port,
        )
        stage.run(0.1)
    assert stage.held() == [50.0]
    assert "another program may have this port" in caplog.text


def test_what_would_be_resumed_is_told_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    memory = Memory(last=Kept("as it was", "First", sound(B=0.4)))
    stage = Stage(tmp_path, QUIET, resume=True, memory=memory)
    stage.run(0.1)
    assert stage.desk.settings[1] == pytest.approx(0.4)
    stage.run(3.5)
    told = len(stage.front.told)
    assert stage.front.told[-1][1].last.sound.settings == {"B": (0.4, True)}
    stage.run(3.5)
    assert len(stage.front.told) == told, "nothing has changed"
    stage.front.play(stage.now_ns, mido.Message("program_change", program=MOST_SOUNDS), 60)
    stage.run(0.01)
    stage.front.finish(stage.now_ns)
    assert stage.front.told[-1][1].last.sound.preset == "Reed"


def test_a_real_module_with_a_real_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile pi4 on a header that is not there, real rpi-lgpio on it; the converters are simulated ones."""
    header = on_a_header(monkeypatch, "c03115")
    profile = read_profile("pi4")
    levels = {"pitch": profile.pitch.pin_v(2.0)}
    clock = Clock()
    chips = (
        Mcp3x08(clock, [lambda _now_s: 1.65] * 8),
        Mcp3x08(clock, [lambda _now_s: 1.65] * 8, bits=12),
        Ads8325(clock, [lambda _now_s: levels["pitch"]]),
    )
    monkeypatch.setattr(jacks, "open_inputs", partial(_opened, jacks.open_inputs, chips))
    try:
        stage = Stage(tmp_path, QUIET, profile="pi4", midi=())
        begin_ns = time.monotonic_ns()
        header.drive(17, 1)
        header.settle()
        stage.now_ns = time.monotonic_ns() // MS * MS
        stage.run(0.05)
        assert stage.held() == [60.0]
        (start,) = stage.events(START)
        assert begin_ns < start["time_ns"] < stage.now_ns
        header.drive(17, 0)
        header.settle()
        stage.now_ns = time.monotonic_ns() // MS * MS
        stage.run(0.1)
        assert stage.held() == []
        assert stage.desk.settings[0] == pytest.approx(0.5, abs=0.01), "real pots are believed from the start"
        stage.front.close()
        assert header.modes[17] == 0, "given back"
    finally:
        header.end()


def _opened(open_inputs: Any, chips: tuple[Any, ...], profile: Profile) -> jacks.Inputs:
    found: jacks.Inputs = open_inputs(profile, *chips)
    return found
