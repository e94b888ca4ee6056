"""The module by ngspice: figures follow the schematic, the page holds, and faults are found that no pin table sees."""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from device.errors import DarkrackError
from hw_schematics import analyses, boards, budget, draw, models, schematic, survival
from hw_schematics.drawing import with_value
from hw_schematics.netlist import Intended, Netlist, differences, read_intended
from hw_schematics.spice import Circuit

pytestmark = pytest.mark.program("kicad-cli", "ngspice")


@pytest.fixture(scope="module")
def intended() -> Intended:
    return read_intended()


@pytest.fixture(scope="module")
def netlist() -> Netlist:
    with schematic.open_kicad(schematic.kicad_files(draw.module()), draw.PROJECT) as kicad:
        return schematic.read_netlist(kicad.netlist())


@pytest.fixture(scope="module")
def linear(netlist: Netlist, intended: Intended) -> analyses.Linear:
    return budget.pitch_linear(netlist, intended)


@pytest.fixture(scope="module")
def kept() -> budget.Figures:
    return budget.read_figures()


# ---- values come from the schematic ----


def test_a_resistor_changed_in_the_schematic_moves_the_result(
    netlist: Netlist, intended: Intended, linear: analyses.Linear
) -> None:
    root = draw.module()
    sheet = next(sheet for sheet in schematic.sheets_of(root) if sheet.name == "pitch")
    with_value(sheet, "R304", "90.9k 0.1%")
    with schematic.open_kicad(schematic.kicad_files(root), draw.PROJECT) as kicad:
        moved = schematic.read_netlist(kicad.netlist())
    conductances = [1 / moved.components[name].number for name in ("R302", "R303", "R304")]
    found = budget.pitch_linear(moved, intended)
    assert linear.gain == pytest.approx(0.5, abs=1e-3)
    assert found.gain == pytest.approx(conductances[0] / sum(conductances), rel=1e-5)
    assert found.gain < linear.gain - 0.02


def test_a_circuit_that_cannot_be_solved_is_an_error(netlist: Netlist) -> None:
    circuit = Circuit(netlist, [])
    circuit.add("X1 a b NOWHERE")
    with pytest.raises(DarkrackError, match="ngspice"):
        circuit.run("tran 1u 1m")


# ---- the linear model of boards is ngspice's ----


def test_the_linear_model_is_ngspice(netlist: Netlist, intended: Intended, linear: analyses.Linear) -> None:
    """Boards by chance at 15 and 40 C: gain and offset within what is a fiftieth of a cent over five octaves."""
    names = [*linear.gain_by]
    circuit = analyses.pitch_circuit(netlist, intended.pitch)
    low, high = 0.0, 6.0
    drawn = [
        (boards.draw_board(netlist, names, 0.5, number), celsius)
        for number in range(6)
        for celsius in (boards.COLD_C, boards.WARM_C)
    ]
    changes = []
    for board, celsius in drawn:
        changes.append([
            *(analyses.alter(circuit, name, off) for name, off in board.at(celsius).items()), f"alter vj dc = {low}",
        ])  # fmt: skip
        changes.append([f"alter vj dc = {high}"])
    found = circuit.points("-".join(analyses.read_of(circuit, intended.pitch)), changes).reshape(-1, 2)
    for (board, celsius), (at_low, at_high) in zip(drawn, found, strict=True):
        stage = boards.stage_of(board, linear, celsius)
        cents = [
            (stage.pin_v(volts) - at) / analyses.PITCH_GAIN * analyses.CENTS_PER_V
            for volts, at in ((low, at_low), (high, at_high))
        ]
        assert np.abs(cents).max() < 0.02
        assert abs(stage.gain - linear.gain) > 1e-6  # the boards do differ


def test_what_a_board_is_off_by_follows_the_parts_list(netlist: Netlist, linear: analyses.Linear) -> None:
    names = [*linear.gain_by]
    drawn = [boards.draw_board(netlist, names, 0.5, number) for number in range(300)]
    for name, share, drift_k in (("R302", 0.001, 10e-6), ("R303", 0.001, 25e-6), ("R411", 0.01, 100e-6)):
        spread = analyses.spread_of(netlist, name)
        assert (spread.tolerance, spread.drift_k) == pytest.approx((share, drift_k))
    assert 0.00095 < max(abs(board.off["R302"]) for board in drawn) <= 0.001
    assert 23e-6 < max(abs(board.off_k["R303"]) for board in drawn) <= 25e-6
    assert drawn[7] == boards.draw_board(netlist, names, 0.5, 7)


def test_readings_at_once_are_those_of_the_bits(netlist: Netlist, linear: analyses.Linear) -> None:
    """Noise apart, which is drawn otherwise: without it, every code is the same."""
    board = boards.draw_board(netlist, [*linear.gain_by], 0.0, 3)
    stage = boards.stage_of(board, linear, boards.WARM_C)
    quick, slow = boards.at_once(stage), boards.bit_by_bit(stage)
    for volts in np.linspace(-0.25, 6.2, 40):
        quick.lay(float(volts))
        slow.lay(float(volts))
        assert quick.code() == slow.code()


# ---- the page is that of this schematic ----


def _close(name: str, now: Any, then: Any) -> list[str]:
    """Where two trees of figures differ by more than another version of ngspice makes."""
    if isinstance(now, dict):
        assert {*now} == {*then}, name
        return [line for key in now for line in _close(f"{name}.{key}", now[key], then[key])]
    if isinstance(now, list):
        return [
            line
            for n, (one, other) in enumerate(zip(now, then, strict=True))
            for line in _close(f"{name}.{n}", one, other)
        ]
    if isinstance(now, str):  # of equal stresses any may come first
        return []
    small = next((size for ending, size in SMALL.items() if name.endswith(ending)), 0.0)
    return [] if now == pytest.approx(then, rel=0.05, abs=small) else [f"{name}: {now:g}, kept {then:g}"]


# What these are off by when ngspice or its step sizes change, and nobody would mind.
SMALL = {
    "acquire_cents": 0.01, "at_20_hz_db": 0.01, "at_20_khz_db": 0.01, "thd_1_khz": 1e-5, "thd_20_khz": 1e-5,
    "bend_cents": 0.1, "offset_v": 1e-4, "_hot_a": 10.0, ".volts": 40.0, ".limit": 1e9, ".value": 1e9,
}  # fmt: skip


@pytest.mark.slow
def test_everything_that_ngspice_says_is_on_the_page(
    netlist: Netlist, intended: Intended, kept: budget.Figures
) -> None:
    now = budget.circuits(netlist, intended)
    assert _close("", now, {name: kept[name] for name in now}) == [], "make budget"
    assert budget.wrong(now) == []


def test_boards_are_those_on_the_page(
    netlist: Netlist, linear: analyses.Linear, kept: budget.Figures
) -> None:
    """The first boards of both kinds, again: bit by bit through the real driver, and without wires."""
    for name, count, bits in (("many", 30, False), ("bits", 6, True)):
        found = budget.drawn(netlist, linear, kept["pitch"]["noise_v"], range(count), bits=bits)
        for figure, values in found["each"].items():
            assert values == pytest.approx(kept[name]["each"][figure][:count], abs=0.1), (
                f"{name}: {figure}: make budget"
            )
        assert found["within"] == 1.0


def test_the_page_says_what_was_found(kept: budget.Figures) -> None:
    assert budget.PAGE.read_text(encoding="utf-8") == budget.render(kept), "make budget"
    assert budget.wrong(kept) == []
    assert kept["bits"]["boards"] == budget.BIT_BOARDS
    assert kept["many"]["within"] == np.mean(np.array(kept["many"]["each"]["after"]) <= budget.AIM_CENTS)


def test_pictures_are_drawn_from_these_figures() -> None:
    digest = budget.digest(budget.FIGURES.read_text(encoding="utf-8"))
    for name in budget.PICTURES:
        data = (budget.DOCS / name).read_bytes()
        place = data.index(b"tEXt")
        assert digest.encode() in data[place : place + 100], f"{name}: make budget"
        length = int.from_bytes(data[place - 4 : place], "big")
        assert zlib.crc32(data[place : place + 4 + length]) == int.from_bytes(
            data[place + 4 + length :][:4], "big"
        )


def test_the_readme_says_the_headline(kept: budget.Figures) -> None:
    words = (budget.DOCS.parent / "README.md").read_text(encoding="utf-8")
    drift, margin = kept["many"]["drift_8_v"], kept["jacks"]["least_12_v"]
    assert f"{100 * kept['bits']['within']:.0f} % of {kept['bits']['boards']} boards" in words
    assert f"{drift:.1f} cents" in words
    assert f"{margin:.2f} times" in words


# ---- planted faults that KiCad's rules pass, and the pin table too ----

Analysis = Callable[[Netlist, Intended], dict[str, Any]]


def _pitch(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    return {"pitch": budget.pitch(netlist, intended)}


def _cv(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    return {"cv": budget.cv(netlist, intended)}


def _gate(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    return {"gates": {"1": budget.gate(netlist, intended, 1)}}


def _audio(netlist: Netlist, _intended: Intended) -> dict[str, Any]:
    return {"audio": {"left": budget.audio(netlist, "left")}}


def _supply(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    return {"supply": budget.supply(netlist, intended)}


def _jack(jack: str) -> Analysis:
    return lambda netlist, _intended: {"jacks": budget.jacks(netlist, ("all on",), (jack,))}


WRONG_VALUES: dict[str, tuple[dict[str, str], Analysis, str]] = {
    "a wrong resistor in the pitch stage": ({"R302": "100k"}, _pitch, "V/oct: gain"),
    "a filter ten times too slow": ({"C304": "10n"}, _pitch, "V/oct: 5 V up or down"),
    "a converter's capacitor a hundred times too large": ({"C306": "10u"}, _pitch, "V/oct: 5 V up or down"),
    "a wrong attenuverter resistor": ({"R414": "180k"}, _cv, "CV: every board reads"),
    "a gate's filter in microfarads": ({"C601": "220n"}, _gate, "gate: late"),
    "a wrong gate divider": ({"R612": "33k"}, _gate, "gate: surely on"),
    "an output filter in the audible": ({"C811": "22n"}, _audio, "OUT: 20 kHz"),
    "a wrong output gain": ({"R812": "10k"}, _audio, "OUT: the most"),
    "no resistor to speak of at V/oct": ({"R302": "470"}, _jack("J301"), "every jack"),
    "an output resistor too small": ({"R814": "100"}, _jack("J801"), "every jack"),
    "a MIDI resistor too small": ({"R701": "220"}, _jack("J701"), "every jack"),
    "output capacitors of the buck too small": (
        {"C205": "2.2u", "C206": "2.2u", "C209": "2.2u"}, _supply, "+5 V: the least"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_a_wrong_value_is_found(name: str, netlist: Netlist, intended: Intended) -> None:
    values, analysis, words = WRONG_VALUES[name]
    faulty = analyses.altered(netlist, values)
    assert differences(faulty, intended) == []  # the pin table has nothing to say
    assert any(line.startswith(words) for line in budget.wrong(analysis(faulty, intended)))


def test_swapped_inputs_put_the_stage_at_a_rail(netlist: Netlist, intended: Intended) -> None:
    faulty = analyses.exchanged(netlist, "U302.3", "U302.4")
    found = budget.pitch(faulty, intended)
    assert abs(found["gain"]) < 0.01
    assert found["offset_v"] < 0.1 or found["offset_v"] > 3.2
    assert any(line.startswith("V/oct: gain") for line in budget.wrong({"pitch": found}))


def test_a_clamp_the_wrong_way_round_is_found(netlist: Netlist, intended: Intended) -> None:
    """D601 with its rails exchanged lies across +3V3: it conducts all the time, and the gate never rises."""
    faulty = analyses.exchanged(netlist, "D601.1", "D601.2")
    with pytest.raises(DarkrackError, match="gate at J601"):
        budget.gate(faulty, intended, 1)


def test_a_clamp_left_out_is_found(netlist: Netlist, intended: Intended) -> None:
    """Without D601 12 V at the gate bring more to U601 than it stands."""
    components = {name: part for name, part in netlist.components.items() if name != "D601"}
    faulty = Netlist(components, netlist.nets)
    assert budget.jacks(netlist, ("all on",), ("J601",))["least_12_v"] > 1
    rows = budget.jacks(faulty, ("all on",), ("J601",))["rows"]
    assert min(row["margin"] for row in rows if row["part"] == "U601") < 1


def test_without_the_diode_across_5_v_midi_out_takes_the_rail_below_ground(netlist: Netlist) -> None:
    components = {name: part for name, part in netlist.components.items() if name != "D203"}
    rows = budget.jacks(Netlist(components, netlist.nets), ("all off",), ("J702",))["rows"]
    least = min(rows, key=lambda row: row["margin"])
    assert least["jack"] == "MIDI OUT (ring)"
    assert least["margin"] < 0.2


# ---- parts ----


def test_a_resistor_stands_what_its_note_or_its_package_says(netlist: Netlist) -> None:
    assert survival.watts_of(netlist.components["R707"]) == 2.0
    assert survival.watts_of(netlist.components["R701"]) == 0.66
    assert survival.watts_of(netlist.components["R302"]) == 0.125


def test_every_part_that_an_analysis_needs_has_figures(netlist: Netlist) -> None:
    """A diode, transistor or amplifier that the drawings take up and the models do not know would be left out."""
    lacking = []
    for name, part in netlist.components.items():
        family = part.symbol.split("_")[0]
        table: Any = {
            "D": models.DIODES,
            "LED": models.DIODES,
            "NMOS": models.TRANSISTORS,
            "PMOS": models.TRANSISTORS,
        }
        if family in table and part.value not in table[family]:
            lacking.append(name)
        if name.startswith("U") and part.symbol not in {*models.CHIPS, "H11L1", *STOOD_IN_FOR}:
            lacking.append(name)
    assert lacking == []


# Chips that an analysis puts a source in the place of, or that no jack reaches.
STOOD_IN_FOR = {"TPS54302", "LM74700", "PCM5102A", "TLV75533"}


def test_every_jack_of_the_panel_is_tried(netlist: Netlist) -> None:
    jacks = {name for name, part in netlist.components.items() if re.fullmatch(r"J[3-8]\d\d", name)}
    assert jacks == {*survival.PANEL}
    assert len(survival.contacts(netlist)) == 11 + 3  # three have a ring


def test_figures_are_kept_as_json_without_a_date() -> None:
    text = budget.FIGURES.read_text(encoding="utf-8")
    assert json.loads(text) == budget.read_figures()
    assert "2026" not in budget.PAGE.read_text(encoding="utf-8")
    assert dataclasses.is_dataclass(models.REFERENCE)
