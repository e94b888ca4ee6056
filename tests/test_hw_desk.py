"""The build on the desk: its wires against the pin table, the profile and what parts stand; the profile is accepted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import darkrack
from device.errors import DarkrackError
from device.jacks import open_inputs
from device.profile import Profile, read_profile
from device.script import read_script, wire
from device.simulation import Clock
from hw_schematics import desk_drawing
from hw_schematics.desk import DESK, Desk, budget, faults, gate_on_v, idle_v, netlist, read_desk, ways
from hw_schematics.netlist import LINE_PINS, Intended, read_intended

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "device" / "profiles" / "desk.toml"


@pytest.fixture(scope="module")
def desk() -> Desk:
    return read_desk()


@pytest.fixture(scope="module")
def profile() -> Profile:
    return read_profile("desk")


@pytest.fixture(scope="module")
def intended() -> Intended:
    return read_intended()


def test_a_person_may_wire_it(desk: Desk, profile: Profile, intended: Intended) -> None:
    assert desk.profile == profile.name == "desk"
    assert faults(desk, profile, intended) == []


def test_lines_are_those_of_the_module(desk: Desk, profile: Profile) -> None:
    """Who builds the module later keeps cables and profile habits: the same lines select and switch."""
    module = read_profile("pi4")
    assert profile.knob_chip == module.knob_chip
    assert profile.cv_chip == module.cv_chip
    assert profile.gates[1].line == module.gates[1].line
    assert profile.led_line == module.led_line
    assert profile.pitch_chip is None


def test_every_pin_of_the_header_that_is_used_is_named_as_its_line(desk: Desk) -> None:
    lines = {int(pin): f"GPIO{line}" for line, pin in LINE_PINS.items()}
    nets = netlist(desk)
    used = {n for n in range(1, 41) if len(nets.nets[nets.net_of(f"PI.{n}")]) > 1}
    assert used == {*desk_drawing.WORDS}
    for number, words in desk_drawing.WORDS.items():
        assert words == lines.get(number, {1: "3.3 V", 2: "5 V"}.get(number, "GND"))


# ---- planted faults ----


def _wire(desk: Desk, begin: str, end: str, new: str) -> Desk:
    """The wire from ``begin`` to ``end`` begins elsewhere."""
    assert any((one.begin, one.end) == (begin, end) for one in desk.wires)
    wires = tuple(
        dataclasses.replace(one, begin=new) if (one.begin, one.end) == (begin, end) else one
        for one in desk.wires
    )
    return dataclasses.replace(desk, wires=wires)


def _value(desk: Desk, reference: str, value: str) -> Desk:
    smalls = tuple(
        dataclasses.replace(one, value=value) if one.reference == reference else one for one in desk.smalls
    )
    return dataclasses.replace(desk, smalls=smalls)


def _rail(desk: Desk, pin: str, rail: str) -> Desk:
    rails = {name: tuple(one for one in pins if one != pin) for name, pins in desk.rails.items()}
    return dataclasses.replace(desk, rails={**rails, rail: (*rails[rail], pin)})


PLANTED: dict[str, tuple[Callable[[Desk], Desk], str]] = {
    "select of the knobs on another pin": (lambda d: _wire(d, "PI.29", "U1.10", "PI.32"), "U1.10"),
    "clock and data exchanged": (
        lambda d: _wire(_wire(d, "PI.23", "U2.13", "PI.19"), "PI.19", "U2.11", "PI.23"),
        "CLK",
    ),
    "gate on another line": (lambda d: _wire(d, "PI.11", "Q1.3", "PI.13"), "gate"),
    "word clock on another pin": (lambda d: _wire(d, "PI.35", "U4.3", "PI.38"), "LCK"),
    "a chip at 5 V": (lambda d: _rail(d, "U1.16", "5 V"), "U1.16"),
    "a pot at 5 V": (lambda d: _rail(d, "RV2.3", "5 V"), "RV2.3"),
    "a pot the wrong way round": (lambda d: _rail(_rail(d, "RV1.1", "3.3 V"), "RV1.3", "GND"), "KNOB 1"),
    "two pots exchanged": (
        lambda d: _wire(_wire(d, "U1.1", "RV1.2", "U1.2"), "U1.2", "RV2.2", "U1.1"),
        "KNOB",
    ),
    "a jack wired to the chip": (
        lambda d: (
            dataclasses.replace(
                d, wires=(*d.wires, dataclasses.replace(d.wires[0], begin="J1.T", end="U2.3"))
            )
            if "U2.3" in d.pins()
            else _wire(d, "U3.3", "R1.1", "J1.T")
        ),
        "without a resistor|V/OCT",
    ),
    "a resistor too small for 12 V": (lambda d: _value(d, "R4", "1k"), "mA through"),
    "another gain than the profile's": (lambda d: _value(d, "R1", "120k"), "V/OCT: gain"),
    "another offset than the profile's": (lambda d: _value(d, "R5", "120k"), "CV 1: gain"),
    "a gate that never switches": (lambda d: _value(d, "R8", "1M"), "gate 1: on above"),
    "no diode at the transistor": (lambda d: _rail(d, "D1.2", "3.3 V"), "holds its base"),
    "sound board without its clock's ground": (lambda d: _rail(d, "U4.6", "3.3 V"), "SCK"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, desk: Desk, profile: Profile, intended: Intended) -> None:
    plant, expected = PLANTED[name]
    assert [line for line in faults(plant(desk), profile, intended) if re.search(expected, line)]


@pytest.mark.parametrize(
    "change",
    [
        ('chip_select = "D5"', 'chip_select = "D12"'),
        ("inverted = true", "inverted = false"),
        ("[0, 1, 2, 3]", "[1, 0, 2, 3]"),
        ("gain = 0.476", "gain = 0.5"),
        ("offset_v = 1.62", "offset_v = 1.65"),
        ("[led]\nline = 27", "[led]\nline = 26"),
        ("channel = 1", "channel = 2"),
    ],
)
def test_what_moves_in_the_profile_only_is_found(
    change: tuple[str, str], desk: Desk, intended: Intended, tmp_path: Path
) -> None:
    text = PROFILE.read_text(encoding="utf-8")
    assert change[0] in text
    path = tmp_path / "desk.toml"
    path.write_text(text.replace(*change), encoding="utf-8")
    assert faults(desk, read_profile(path), intended) != []


def test_what_moves_in_the_pin_table_only_is_found(desk: Desk, profile: Profile, intended: Intended) -> None:
    header = {**intended.header, 29: intended.header[31], 31: intended.header[29]}
    assert len(faults(desk, profile, dataclasses.replace(intended, header=header))) == 2


def test_a_pin_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(
        DESK.read_text(encoding="utf-8").replace('to = "U1.10"', 'to = "U1.17"'), encoding="utf-8"
    )
    with pytest.raises(DarkrackError, match=r"U1\.17"):
        read_desk(path)


# ---- what a jack does to what is behind it ----


def test_levels_follow_from_the_resistors(desk: Desk) -> None:
    """By hand: conductances share."""
    jack, supply, ground = 1 / 100e3, 1 / 1e6, 1 / 100e3
    total = jack + supply + ground
    assert ways(desk)["V/OCT"] == pytest.approx((jack / total, 3.3 * supply / total), rel=1e-6)
    assert idle_v(desk)["CV 1"] == pytest.approx(1.62, abs=0.001)
    assert all(milliamperes < 0.2 for milliamperes in budget(desk).values())
    assert gate_on_v(desk) == pytest.approx(0.65 + 100e3 * (3.3 / 10e3 / 50 + 6.5e-6), abs=1e-3)


# ---- the program takes it ----


def test_darkrack_reads_the_profile_and_hears_the_desk(profile: Profile, desk: Desk) -> None:
    """The real drivers on simulated chips: 2 V at the resistors' jack are two octaves over C2."""
    simulated = dataclasses.replace(profile, board="simulated")
    wires = wire(read_script("nobody"), simulated, Clock())
    inputs = open_inputs(simulated, wires.knob_chip, wires.cv_chip, wires.pitch_chip)
    gain, offset_v = ways(desk)["V/OCT"]
    for jack_v in (0.0, 2.0, 5.0):
        pin_v = offset_v + gain * jack_v
        wires.cv_chip.inputs[0] = lambda _now_s, pin_v=pin_v: pin_v
        code = inputs.pitch()
        assert profile.pitch_midi(code / inputs.pitch_codes * 3.3) == pytest.approx(
            36 + 12 * jack_v, abs=0.05
        )


@pytest.mark.parametrize("name", ["desk", str(PROFILE)])
def test_doctor_takes_the_profile(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine that is no Raspberry Pi it says so, and nothing else of the profile."""
    darkrack.main(["doctor", "--profile", name])
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if " profile " in line)
    assert line.endswith(("desk, for a raspberry-pi board", "desk is for another board, a raspberry-pi"))


def test_play_takes_the_profile(tmp_path: Path) -> None:
    """On simulated chips instead of the board's, and nothing else changed: it plays to the end."""
    path = tmp_path / "desk.toml"
    text = PROFILE.read_text(encoding="utf-8")
    path.write_text(text.replace('board = "raspberry-pi"', 'board = "simulated"'), encoding="utf-8")
    bundle, wav = ROOT / "models" / "flagship.rack", tmp_path / "desk.wav"
    words = [
        "play",
        bundle,
        "--profile",
        path,
        "--script",
        "hello",
        "--offline",
        "--seconds",
        "2",
        "--wav",
        wav,
    ]
    assert darkrack.main([str(word) for word in words]) == 0
    import soundfile

    samples, _ = soundfile.read(wav)
    assert abs(samples).max() > 0.01  # the script's gate is heard through the inverted line


# ---- the picture and the page ----


def test_the_picture_is_of_this_table(desk: Desk) -> None:
    assert desk_drawing.PICTURE.read_text(encoding="utf-8") == desk_drawing.picture(desk), "make schematic"


def test_no_wire_lies_on_another_or_goes_through_a_chip(desk: Desk) -> None:
    assert desk_drawing.crossings(desk) == []
    first = next(wire for wire in desk.wires if wire.begin == "PI.31")
    moved = tuple(
        dataclasses.replace(wire, by=(82.0,)) if wire is first else wire for wire in desk.wires
    )  # onto the other select
    assert desk_drawing.crossings(dataclasses.replace(desk, wires=moved)) != []


def test_every_wire_begins_and_ends_at_its_pins(desk: Desk) -> None:
    for one in desk.wires:
        points = desk_drawing.route(desk, one.begin, one.end, one.by)
        assert points[0] == desk_drawing.place(desk, one.begin)[0]
        assert points[-1] == desk_drawing.place(desk, one.end)[0]
        for (ax, ay), (bx, by) in pairwise(points):
            assert ax == bx or ay == by


def test_the_page_has_the_voltages_of_the_desk(desk: Desk) -> None:
    """What a meter shows at the converter with nothing plugged in, and with 5 V at V/OCT."""
    page = (ROOT / "docs" / "build.md").read_text(encoding="utf-8")
    idle = idle_v(desk)
    assert f"{idle['V/OCT']:.2f} V at pin 1 of U2, {idle['CV 1']:.2f} V at pin 2" in page
    gain, offset_v = ways(desk)["V/OCT"]
    assert f"desk: {offset_v:.2f} and {offset_v + 5 * gain:.2f} V" in page
    assert f"{offset_v:.3f} V + {gain:.3f} x jack" in page
    assert f"15 V at a jack push {max(budget(desk).values()):.2f} mA" in page
    assert f"on above about {gate_on_v(desk):.0f} V" in page


def test_the_page_has_the_wires_and_the_values_of_the_table(desk: Desk) -> None:
    page = (ROOT / "docs" / "build.md").read_text(encoding="utf-8")
    assert desk_drawing.wiring_table(desk) in page
    for one in desk.smalls:
        if one.reference[0] in "RCD" and not one.reference.startswith("RV"):
            assert re.search(rf"\b{one.reference}\b", page), one.reference
    for chip in desk.chips:
        assert chip.name.partition("-")[0] in page
