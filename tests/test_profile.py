"""Profiles: read strictly, and the way from jack to note and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import unnumbered

from device import demo
from device.errors import DarkrackError
from device.profile import PROFILES, Chip, CvInput, Gate, Profile, read_profile
from device.simulation import Flaws

SIXTEEN = '[chip.pitch]\nmodel = "ADS8325"\nchip_select = "D13"\nreference_v = 3.3\n'
SIM = (PROFILES / "sim.toml").read_text(encoding="utf-8")


def profile_of(tmp_path: Path, text: str) -> Profile:
    path = tmp_path / "module.toml"
    path.write_text(text)
    return read_profile(path)


def test_the_simulated_module() -> None:
    profile = read_profile("sim")
    assert profile.name == "sim"
    assert profile.knob_chip == Chip("MCP3008", 10, "D5", 3.3)
    assert profile.cv_chip == Chip("MCP3208", 12, "D6", 3.3)
    assert profile.knob_channels == (0, 1, 2, 3, 4, 5, 6, 7)
    assert (profile.knob_scan_hz, profile.pitch_scan_hz) == (100, 1000)
    assert profile.pitch == CvInput(channel=0, gain=demo.CV_V_PER_OCTAVE, offset_v=0.0)
    assert profile.pitch_zero_midi == demo.CV_ZERO_MIDI
    assert (*profile.cvs, *profile.gates) == (1, 2, 3, 1)


def test_every_jack_of_the_simulated_module_keeps_within_its_converter() -> None:
    profile = read_profile("sim")
    for cv in profile.cvs.values():
        assert 0 < cv.pin_v(-5) < cv.pin_v(5) < profile.cv_chip.reference_v
    assert profile.pitch.pin_v(5.5) < profile.cv_chip.reference_v


@given(st.floats(-12, 12), st.one_of(st.floats(0.01, 10), st.floats(-10, -0.01)), st.floats(-10, 10))
def test_there_and_back(jack_v: float, gain: float, offset_v: float) -> None:
    stage = CvInput(0, gain, offset_v)
    assert stage.jack_v(stage.pin_v(jack_v)) == pytest.approx(jack_v, abs=1e-9)


def test_an_octave_is_half_a_volt_at_the_pin() -> None:
    assert [read_profile("sim").pitch_midi(pin_v) for pin_v in (0, 0.5, 2.25)] == pytest.approx([36, 48, 90])


@pytest.mark.parametrize(
    ("old", "new", "where", "told"),
    [
        ("[knobs]", "[knops]", "module.toml: knops", "a key of a profile, got unknown key"),
        ("scan_hz = 100\n", "scan = 100\n", "knobs.scan_hz", "a number from 1 to 10000, got none"),
        ("scan_hz = 1000", "scan_hz = 1000\nscale = 2", "pitch.scale", "a key of [pitch]"),
        ('model = "MCP3008"', 'model = "MCP3009"', "chip.knobs.model", "did you mean 'MCP3008'?"),
        ('model = "MCP3208"', "", "chip.cv.model", "one of MCP3208, got none"),
        ('chip_select = "D6"', 'chip_select = "D5"', "chip.cv.chip_select", "as the knobs have"),
        ('chip_select = "D6"', "", "chip.cv.chip_select", "the name of a pin, got none"),
        ("[chip.cv]", "[chip.adc]\n[chip.cv]", "chip.adc", "unknown key 'adc'"),
        ("channels = [0,", "channels = [1,", "knobs.channels", "different whole numbers"),
        ("channels = [0,", "channels = [0.5,", "knobs.channels", "different whole numbers"),
        ("channels = [0,", "channels = [8,", "knobs.channels", "from 0 to 7, got 8"),
        (
            "channel = 3",
            "channel = 0",
            "cv.3.channel",
            "a free channel (3, 4, 5, 6, 7), got 0, which is [pitch]'s",
        ),
        ("channel = 0\n", "", "pitch.channel", "got none"),
        ("gain = 0.5", "gain = 0.0", "pitch.gain", "at least 0.01 either way, got 0"),
        ("[cv.3]", "[cv.8]", "module.toml: cv.8", "a number from 1 to 7"),
        ("[gate.1]\nline = 17", "", "gate.1", "the line of the first gate, got none"),
        ("line = 17", "", "gate.1.line", "a line of the header, got none"),
        ("line = 17", "line = 17\n[gate.2]\nline = 17", "module.toml: gate", "one that is shared"),
        ("line = 17", "line = 17\n[led]\nline = 17", "module.toml: gate", "one that is shared"),
        ("line = 17", "line = 5", "gate.1.line", "a line of its own, got 5, which is the knobs'"),
        ("line = 17", "line = 17\n[led]\nline = 11", "led.line", "a line of its own, got 11, which is SPI's"),
        ("line = 17", "line = 28", "gate.1.line", "a whole number from 0 to 27"),
        ("line = 17", "line = 17\ncv = 1", "module.toml: gate.1", "line or cv, got both"),
        ("line = 17", "cv = 4", "gate.1.cv", "a control voltage (1, 2, 3), got 4"),
        ("line = 17", "cv = 1\non_v = 1.0", "gate.1.off_v", "less than on_v (1), got 1"),
        ("line = 17", "cv = 1\ninverted = true", "gate.1.inverted", "a key of [gate.1]"),
        ('board = "simulated"', "", "module.toml: board", "one of simulated, raspberry-pi, jetson, got none"),
        ('board = "simulated"', 'board = "raspberry-pie"', "board", "did you mean 'raspberry-pi'?"),
        ("gain = 0.32", "gain = 0.32\nattenuverter = 9", "cv.1.attenuverter", "from 1 to 8, got 9"),
        ("[gate.1]", "[flaws]\ninl = 1\n[gate.1]", "flaws.inl", "did you mean 'inl_lsb'?"),
        (
            "[knobs]",
            SIXTEEN.replace("D13", "D6") + "[knobs]",
            "chip.pitch.chip_select",
            "as the control voltages have",
        ),
        ("[knobs]", SIXTEEN.replace("ADS8325", "ADS1115") + "[knobs]", "chip.pitch.model", "one of ADS8325"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, old: str, new: str, where: str, told: str) -> None:
    assert old in SIM
    with pytest.raises(DarkrackError) as refusal:
        profile_of(tmp_path, SIM.replace(old, new, 1))
    assert unnumbered(refusal.value.where).endswith(where)
    assert told in str(refusal.value)


def test_other_wiring_is_read(tmp_path: Path) -> None:
    text = SIM.replace("channels = [0, 1, 2, 3, 4, 5, 6, 7]", "channels = [6, 2]")
    text = text[: text.index("[cv.1]")] + "[gate.1]\nline = 4\n[gate.3]\nline = 25\n"
    profile = profile_of(tmp_path, text)
    assert profile.knob_channels == (6, 2)
    assert profile.cvs == {}
    assert profile.gates == {1: Gate(4), 3: Gate(25)}


def test_a_name_that_is_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DarkrackError, match=r"simm: expected a profile by name or path, got neither\n.*'sim'"
    ):
        read_profile("simm")


@pytest.mark.parametrize("name", ["pi4", "pi5", "jetson-orin"])
def test_the_modules_of_real_boards_are_wired_alike(name: str) -> None:
    profile = read_profile(name)
    assert profile.board == ("jetson" if name == "jetson-orin" else "raspberry-pi")
    assert profile.chip_of_pitch == Chip("ADS8325", 16, "D13", 3.3)
    assert dataclasses.replace(profile, name="", board="", midi_serial=None) == dataclasses.replace(
        read_profile("pi4"), name="", board="", midi_serial=None
    )
    assert 0.1 < profile.pitch.pin_v(0) < profile.pitch.pin_v(6) < profile.cv_chip.reference_v
    # Lines that the header's buses have: I2C, SPI with both of the kernel's selects, UART, I2S.
    taken = {2, 3, 7, 8, 9, 10, 11, 14, 15, 18, 19, 20, 21}
    selects = {
        int(chip.chip_select[1:]) for chip in (profile.knob_chip, profile.cv_chip, profile.chip_of_pitch)
    }
    mine = [*selects, *(gate.line for gate in profile.gates.values()), profile.led_line]
    assert len(set(mine)) == len(mine)
    assert not taken & set(mine)


def test_a_board_that_is_not_simulated_has_flaws_of_its_own(tmp_path: Path) -> None:
    text = (PROFILES / "pi4.toml").read_text() + "[flaws]\ninl_lsb = 1\n"
    with pytest.raises(DarkrackError, match="flaws of a simulated board, got a raspberry-pi"):
        profile_of(tmp_path, text)


def test_what_is_optional(tmp_path: Path) -> None:
    text = SIM.replace("gain = 0.32", "gain = 0.32\nattenuverter = 8", 1)
    text = text.replace("scan_hz = 1000", "scan_hz = 1000\nsettle_ms = 3")
    text += "[gate.2]\ncv = 3\n[cv]\nscan_hz = 500\n[led]\nline = 4\n[midi]\nserial = '/dev/x'\n"
    text += "[flaws]\ninl_lsb = 1\nseed = 7\n"
    profile = profile_of(tmp_path, text)
    assert profile.cvs[1].attenuverter == 8
    assert (profile.settle_ms, profile.cv_scan_hz) == (3, 500)
    assert profile.gates == {1: Gate(17), 2: Gate(cv=3, on_v=2.0, off_v=1.0)}
    assert (profile.led_line, profile.midi_serial) == (4, "/dev/x")
    assert profile.flaws == Flaws(inl_lsb=1.0, seed=7)
