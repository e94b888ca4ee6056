"""The command on simulated boards with planted errors, and what it makes of the pitch that is heard."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import darkrack
from device import calibrate, pitch_error, state
from device.bundle import Bundle
from device.calibrate import TRAVEL_MIN_CODES, open_bench, path_of, read_measured, tuned, usual_volts
from device.errors import DarkrackError
from device.partials import nominal_hz
from device.profile import PROFILES, Profile, read_profile
from device.recording import pitch_cents
from device.scan import untuned
from device.simulation import Flaws
from device.voct import Point

SIM = (PROFILES / "sim.toml").read_text(encoding="utf-8")
# A board as bad as the datasheets allow: resistors 1.5 % off, 15 mV at the pin, a reference .2 % off.
FLAWS = "\n[flaws]\ninl_lsb = {inl}\nnoise_lsb = {noise}\ngain = 0.015\noffset_v = 0.015\nreference = 0.002\nseed = 3\n"
SIXTEEN = '[chip.pitch]\nmodel = "ADS8325"\nchip_select = "D13"\nreference_v = 3.3\n\n[knobs]'


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(state.VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


def board(tmp_path: Path, bits: int) -> Path:
    """A profile whose simulated board is bad."""
    text = SIM.replace("gain = 0.5\noffset_v = 0.0", "gain = 0.5\noffset_v = 0.15")
    if bits == 16:
        text = text.replace("[knobs]", SIXTEEN).replace("channel = 0\ngain", "gain")
    path = tmp_path / f"board{bits}.toml"
    path.write_text(
        text + FLAWS.format(**({"inl": 6, "noise": 0.5} if bits == 16 else {"inl": 1, "noise": 0.5}))
    )
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    status = darkrack.main(["calibrate", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def swept(tmp_path: Path, bundle: Bundle, profile: Path) -> np.ndarray:
    """Cents from nominal of notes over five octaves, from the WAV that the DAC would get."""
    notes = [*range(36, 97, 5), 40.37, 52.5, 63.81, 77.25, 88.6]
    script, wav = tmp_path / "sweep.toml", tmp_path / "sweep.wav"
    pulses = ", ".join(f"[{0.6 * n + 0.1}, {0.6 * n + 0.55}]" for n in range(len(notes)))
    length = 0.6 * len(notes) + 0.2
    script.write_text(
        f"seconds = {length}\n[pitch]\nnotes = {notes}\nlag_ms = -2\n[gate]\npulses = [{pulses}]\n"
    )
    words = ["play", bundle.path, "--profile", profile, "--script", script, "--offline", "--seconds", length]
    assert darkrack.main([*map(str, words), "--wav", str(wav), "--log", "error"]) == 0
    audio, rate_hz = soundfile.read(wav)
    found = []
    for n, note in enumerate(notes):
        held = audio[round((0.6 * n + 0.25) * rate_hz) : round((0.6 * n + 0.53) * rate_hz)]
        found.append(pitch_cents(held, rate_hz, nominal_hz(note)))
    return np.array(found)


@pytest.mark.parametrize(("bits", "cents"), [(16, 1.0), (12, 4.0)])
def test_five_octaves_are_in_tune_after_calibration_and_were_not_before(
    tmp_path: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], bits: int, cents: float
) -> None:
    """Twelve bits are what docs/pitch.md says they are: their nonlinearity alone is more than 2 cents."""
    profile = board(tmp_path, bits)
    before = swept(tmp_path, tiny_bundle, profile)
    assert np.abs(before).max() > 20
    assert told(capsys, "--profile", profile)[0] == 0
    after = swept(tmp_path, tiny_bundle, profile)
    assert np.abs(after).max() < cents, after


def test_what_it_prints_and_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    profile = board(tmp_path, 16)
    status, said, _ = told(capsys, "--profile", profile, "--json", tmp_path / "figures.json")
    assert status == 0
    assert [line.split()[0] for line in said.splitlines()[1:-1]] == ["0", "1", "2", "3", "4", "5"]
    assert "from the line through all" in said
    assert said.splitlines()[-1] == str(kept / "calibration-board16.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [point["jack_v"] for point in figures["points"]] == [0, 1, 2, 3, 4, 5]
    assert figures["points"][0]["noise_codes"] == pytest.approx(0.5, abs=0.2), "what was planted"
    shown = told(capsys, "--profile", profile, "--show")
    assert (shown[0], shown[1]) == (0, said)


def test_two_points_and_back_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = read_profile(board(tmp_path, 16))
    path = str(tmp_path / "board16.toml")
    assert told(capsys, "--profile", path, "--volts", "1,4")[0] == 0
    assert "two points say nothing about what is between" in told(capsys, "--profile", path, "--show")[1]
    assert told(capsys, "--profile", path)[0] == 0
    assert len(tuned(profile).calibration.volts) == 6
    assert told(capsys, "--profile", path, "--undo")[0] == 0
    assert tuned(profile).calibration.volts == (1.0, 4.0)


def test_knobs_that_do_not_reach_their_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = board(tmp_path, 12)
    assert told(capsys, "--profile", path)[0] == 0
    status, said, _ = told(capsys, "--profile", path, "--knobs")
    assert status == 0
    assert "knob 8  0 to 1023 of 1023" in said
    assert "5 V" in said, "pitch is kept beside them"
    bench = open_bench(read_profile(path))
    short = calibrate.Bench(bench.profile, bench.inputs, bench.lay, lambda _end: bench.turn(0.3), bench.wait)
    with pytest.raises(DarkrackError, match=f"knob 1: expected {TRAVEL_MIN_CODES:.0f} codes or more"):
        calibrate.measure_knobs(short)


def test_a_board_that_is_not_what_the_profile_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: Path
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(board(tmp_path, 12).read_text().replace("gain = 0.015", "gain = -0.3"))
    status, _, errors = told(capsys, "--profile", path)
    assert status == 1
    assert errors.startswith(
        "error: V/oct of wrong: expected 621 codes a volt within 10%, as the profile promises, got "
    )
    assert "hint: is the cable in" in errors
    assert not kept.exists(), "nothing was kept"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--volts", "1,x"), "--volts: expected numbers with commas between, got '1,x'"),
        (("--volts", "1,13"), "--volts: expected -12 to 12"),
        (("--volts", "1,7"), "--volts: expected voltages that the input takes (0.00 to 6.60 V), got 7"),
        (("--volts", "2"), "two voltages or more"),
        (("--show",), "a calibration, got none"),
        (("--undo",), "what was kept before, got nothing"),
        (("--show", "--undo"), "--show --undo: expected one of them"),
        (("--budget", "--boards", "0"), "--boards: expected 1 to 10000"),
        (("--profile", "pi4"), "a board with SPI and a pin D5"),
    ],
)
def test_errors_say_what_is_wrong(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    status, _, errors = told(capsys, *words)
    assert status == 1
    assert expected in errors
    assert errors.startswith("error: ")


def test_a_converter_that_does_not_answer_or_moves(tmp_path: Path) -> None:
    bench = open_bench(read_profile(board(tmp_path, 16)))
    dead = iter(range(10_000))

    def answers_sometimes() -> int:
        if next(dead) % 2:
            raise OSError(5, "the bus")
        return 30_000

    inputs = calibrate.Inputs(bench.inputs.pot, answers_sometimes, 65536, bench.inputs.cv)
    with pytest.raises(DarkrackError, match=r"500 of 1000 \(500 were not answered at all\)"):
        calibrate.measure_pitch(
            calibrate.Bench(bench.profile, inputs, bench.lay, bench.turn, bench.wait), (1, 2)
        )
    moving = iter(range(0, 65_000, 60))
    inputs = calibrate.Inputs(bench.inputs.pot, lambda: next(moving), 65536, bench.inputs.cv)
    with pytest.raises(DarkrackError, match="750 readings that agree"):
        calibrate.measure_pitch(
            calibrate.Bench(bench.profile, inputs, bench.lay, bench.turn, bench.wait), (1, 2)
        )


def test_what_was_kept_is_not_believed_blindly(tmp_path: Path, kept: Path) -> None:
    profile = read_profile(board(tmp_path, 16))
    assert read_measured(profile) is None
    assert tuned(profile).calibration == untuned(profile).calibration
    good = {"made": "x", "pitch_codes": 65536, "points": [], "knob_ends": []}
    for wrong, expected in (
        ({"made": "x"}, "a calibration, got KeyError"),
        ([1], "a calibration, got TypeError"),
        ({**good, "points": [{"jack_v": 1}]}, "a calibration, got TypeError"),
        ({**good, "points": [vars(Point(1.0, 9.0, 0.0))], "pitch_codes": 4096}, "of 65536 codes, got 4096"),
        ({**good, "knob_ends": [[0, 1023]]}, "the ends of 8 knobs, got 1"),
    ):
        state.keep(path_of(profile), wrong)
        with pytest.raises(DarkrackError, match=r"darkrack calibrate --profile board16") as refusal:
            read_measured(profile)
        assert expected in str(refusal.value)
    state.keep(
        path_of(profile), {**good, "points": [vars(Point(1.0, 9.0, 0.0)), vars(Point(2.0, 900.0, 0.0))]}
    )
    with pytest.raises(DarkrackError, match=r"codes a volt(?s:.*)hint: darkrack calibrate --profile board16"):
        tuned(profile)


def test_another_converter_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = board(tmp_path, 12)
    assert told(capsys, "--profile", path)[0] == 0
    board(tmp_path, 16).rename(path)
    assert "of 65536 codes, got 4096" in told(capsys, "--profile", path, "--show")[2]
    status, said, _ = told(capsys, "--profile", path, "--knobs")
    assert status == 0
    assert "note: " in said
    assert told(capsys, "--profile", path)[0] == 0
    measured = read_measured(read_profile(path))
    assert measured is not None
    assert (measured.pitch_codes, len(measured.points), len(measured.knob_ends)) == (65536, 6, 8)


@pytest.mark.parametrize("name", ["sim", "pi4", "pi5", "jetson-orin"])
def test_the_usual_voltages_are_off_the_rails(name: str) -> None:
    profile = read_profile(name)
    volts = usual_volts(profile)
    assert volts == ((1, 2, 3, 4, 5) if name == "sim" else (0, 1, 2, 3, 4, 5))


# The error budget.


def a_board(model: str) -> tuple[Profile, pitch_error.Source]:
    return pitch_error.profile_with(model), pitch_error.TOGETHER


@pytest.mark.parametrize("model", pitch_error.LIMITS)
def test_a_source_alone_is_not_more_than_all_together_and_calibration_takes_the_straight_ones_out(
    model: str,
) -> None:
    profile, together = a_board(model)
    boards = range(2)
    plain = pitch_error.errors(profile, together, (), boards)
    six = pitch_error.errors(profile, together, pitch_error.WAYS["six points"], boards)
    assert max(plain) > 10 > max(six)
    ideal = pitch_error.errors(profile, pitch_error.SOURCES[0], (), range(1))
    lsb_cents = 3.3 / (1 << profile.chip_of_pitch.bits) / profile.pitch.gain * 1200
    assert 0 < ideal[0] <= lsb_cents / 2 + 0.01, "an ideal converter is half a code off at most"


def test_flaws_of_a_board_are_its_own_and_the_same_twice() -> None:
    first = [pitch_error.flaws_of(pitch_error.TOGETHER, "MCP3208", board) for board in range(5)]
    assert first == [pitch_error.flaws_of(pitch_error.TOGETHER, "MCP3208", board) for board in range(5)]
    assert len(set(first)) == 5
    assert pitch_error.flaws_of(pitch_error.SOURCES[0], "MCP3208", 4) == Flaws(seed=4)


def test_the_page_has_every_source_for_both_converters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        pitch_error, "errors", lambda _p, source, volts, boards: [float(len(volts) + 1)] * len(boards)
    )
    out = tmp_path / "pitch.md"
    status, said, _ = told(
        capsys, "--budget", "--boards", "4", "--out", out, "--json", tmp_path / "pitch.json"
    )
    assert (status, said.strip()) == (0, str(out))
    page = out.read_text()
    for source in pitch_error.SOURCES:
        assert page.count(f"| {source.name} |") == 2
    assert "| boards within 2 cents everywhere | | 100 % | 0 % | 0 % |" in page
    assert json.loads((tmp_path / "pitch.json").read_text())["boards"] == 4


def test_options_have_their_help() -> None:
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    assert "--volts" in parser.format_help()


@pytest.mark.parametrize("model", ["MCP3008", "MCP3208", "ADS8325"])
def test_what_a_reading_costs_is_measured(model: str) -> None:
    assert pitch_error.reading_us(model) > 0


def test_how_much_a_profile_reads() -> None:
    assert pitch_error.readings_a_second(read_profile("pi4")) == {
        "MCP3008": 800,
        "MCP3208": 750,
        "ADS8325": 1000,
    }
    assert pitch_error.readings_a_second(read_profile("sim")) == {"MCP3008": 800, "MCP3208": 1750}
