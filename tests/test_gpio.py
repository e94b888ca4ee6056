"""Gates on lines of the header, through the real rpi-lgpio on a header that is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from header import Header, on_a_header

from device.errors import DarkrackError
from device.gpio import LOOK_NS, GateLines, open_gpio
from device.profile import Gate

PI4, PI5 = "c03115", "d04170"


@pytest.fixture(params=[PI4, PI5])
def header(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Header]:
    header = on_a_header(monkeypatch, request.param)
    yield header
    header.end()


def lines(gates: dict[int, Gate] | None = None) -> GateLines:
    return GateLines(open_gpio("raspberry-pi"), gates or {1: Gate(17), 2: Gate(22)})


def heard(gates: GateLines, header: Header, looks: int = 0) -> list[tuple[int, bool]]:
    """What is found now, and at so many looks after that."""
    header.settle()
    now_ns = max(time.monotonic_ns(), gates._looked_ns)
    found = [] if looks else gates.edges(now_ns)
    for number in range(1, looks + 1):
        found += gates.edges(now_ns + number * LOOK_NS)
    return [(gate, high) for _, gate, high in found]


def test_edges_come_with_their_times_in_order(header: Header) -> None:
    gates = lines()
    before_ns = time.monotonic_ns()
    header.drive(17, 1)
    header.drive(22, 1)
    header.drive(17, 0)
    header.settle()
    edges = gates.edges(time.monotonic_ns())
    assert [(gate, high) for _, gate, high in edges] == [(1, True), (2, True), (1, False)]
    times_ns = [at_ns for at_ns, _, _ in edges]
    assert before_ns <= times_ns[0] <= times_ns[1] <= times_ns[2] <= time.monotonic_ns()
    assert gates.edges(time.monotonic_ns()) == []
    assert gates.lost == 0


def test_a_pulse_that_is_over_when_one_looks_is_a_pulse(header: Header) -> None:
    gates = lines()
    header.drive(17, 1, 0, 1, 0)
    assert heard(gates, header) == [(1, True), (1, False)] * 2
    assert heard(gates, header, looks=3) == []
    assert gates.lost == 0


def test_an_edge_that_nobody_told_of_is_found(header: Header) -> None:
    gates = lines()
    header.untold.add(17)
    header.drive(17, 1)
    assert heard(gates, header, looks=3) == [(1, True)]
    header.untold.clear()
    header.drive(17, 0)
    assert heard(gates, header) == [(1, False)], "and from there on it is right again"
    assert gates.lost == 0, "it may have been high from the start"
    header.untold.add(17)
    header.drive(17, 1)
    assert heard(gates, header, looks=3) == [(1, True)]
    assert gates.lost == 1


def test_an_edge_that_is_about_to_be_told_is_no_lost_one(header: Header) -> None:
    """The level is there before the library's thread has told of it."""
    gates = lines()
    header.levels[17] = 1
    now_ns = gates._looked_ns + LOOK_NS
    assert gates.edges(now_ns) == []
    gates._tell(17)
    assert [(gate, high) for _, gate, high in gates.edges(now_ns + 1_000_000)] == [(1, True)]
    assert (
        gates.edges(now_ns + LOOK_NS)
        == gates.edges(now_ns + 2 * LOOK_NS)
        == gates.edges(now_ns + 3 * LOOK_NS)
        == []
    )
    assert gates.lost == 0


def test_a_gate_that_is_high_from_the_beginning(header: Header) -> None:
    header.drive(17, 1)
    header.settle()
    gates = lines()
    assert heard(gates, header, looks=3) == [(1, True)]
    assert gates.lost == 0


def test_a_transistor_turns_it_over(header: Header) -> None:
    header.drive(17, 1)
    header.settle()
    gates = lines({1: Gate(17, inverted=True)})
    assert heard(gates, header, looks=3) == []
    header.drive(17, 0, 1)
    assert heard(gates, header) == [(1, True), (1, False)]


def test_a_line_that_somebody_else_has(header: Header) -> None:
    header.busy.add(22)
    with pytest.raises(
        DarkrackError, match="gate 2, line 22: expected a line that nobody else uses"
    ) as refusal:
        lines()
    assert "is another program running?" in str(refusal.value)


def test_what_was_taken_is_given_back(header: Header) -> None:
    gates = lines()
    gates.close()
    assert (header.modes[17], header.modes[22]) == (0, 0)
    header.drive(17, 1)
    header.settle()
    assert gates.edges(time.monotonic_ns()) == []


def test_a_gate_on_a_control_voltage_takes_no_line(header: Header) -> None:
    gates = lines({1: Gate(17), 2: Gate(cv=3)})
    assert heard(gates, header, looks=3) == []
    gates.close()


@pytest.mark.parametrize("board", ["raspberry-pi", "jetson"])
def test_without_a_board_it_says_so(board: str) -> None:
    with pytest.raises(
        DarkrackError, match=f"GPIO of a {board}: expected .*GPIO on a board, got .*\nhint: pip"
    ):
        open_gpio(board)
