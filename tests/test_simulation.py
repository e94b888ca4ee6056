"""The simulated chip edge by edge against the datasheet, and the real drivers against the simulated chip."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.simulation import (
    CHANNELS,
    Ads8325,
    Clock,
    Converter,
    Edge,
    EdgeQueue,
    Flaws,
    Mcp3x08,
    Signal,
    SpiBus,
    code_of,
    nonlinearity,
    open_input,
    open_spi,
)

UNHURRIED = settings(deadline=None)  # the machine may be busy
REFERENCE_V = 3.3


def lying_at(*codes: int, bits: int = 10) -> Mcp3x08:
    """A chip whose inputs lie in the middle of these codes."""
    return Mcp3x08(Clock(), [steady((code + 0.5) * REFERENCE_V / 2**bits) for code in codes], bits=bits)


def steady(level: float) -> Signal:
    return lambda _now_s: level


def clocked(chip: Mcp3x08, din: list[int]) -> list[int]:
    """DOUT as a controller in mode 0,0 reads it: at each rising edge, while DIN says ``din``."""
    dout = []
    for bit in din:
        dout.append(chip.dout)
        chip.rising_edge(bit)
        chip.falling_edge()
    return dout


def selected(chip: Mcp3x08) -> Mcp3x08:
    chip.set_chip_select(True)
    chip.set_chip_select(False)
    return chip


def request(channel: int, single_ended: int = 1) -> list[int]:
    return [1, single_ended, channel >> 2 & 1, channel >> 1 & 1, channel & 1]


def msb_first(code: int, bits: int = 10) -> list[int]:
    return [code >> place & 1 for place in range(bits - 1, -1, -1)]


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("channel", range(CHANNELS))
def test_every_channel_answers_null_then_msb_first_then_lsb_first_then_zeros(channel: int, bits: int) -> None:
    codes = [0b10_1100_1000 + place for place in range(CHANNELS)]
    chip = selected(lying_at(*codes, bits=bits))
    dout = clocked(chip, request(channel) + [0] * 40)
    code = msb_first(codes[channel], bits)
    assert dout[:6] == [1] * 6, "nobody drives the line before the null bit: pulled up"
    answer = [0, *code, *reversed(code[:-1])]
    assert dout[6:] == answer + [0] * (39 - len(answer))


@pytest.mark.parametrize("channel", range(CHANNELS))
def test_a_differential_pair_reads_the_difference_and_never_below_zero(channel: int) -> None:
    chip = lying_at(900, 250, 101, 700, 1023, 0, 17, 16)
    codes = [900, 250, 101, 700, 1023, 0, 17, 16]
    dout = clocked(selected(chip), [*request(channel, single_ended=0), *[0] * 12])
    expected = max(0, codes[channel] - codes[channel ^ 1])
    # Halves of a code cancel, so a difference lies right on the edge between two codes: either is right.
    read = int("".join(map(str, dout[7:])), 2)
    assert read in {expected, max(0, expected - 1)}


@UNHURRIED
@given(st.integers(0, 30), st.integers(0, 1023), st.integers(0, 1), st.integers(0, 1))
def test_zeros_before_the_start_bit_only_delay(zeros: int, code: int, hold_din: int, rest_din: int) -> None:
    """Configuration aside, what DIN says after D0 is nobody's business."""
    chip = selected(lying_at(0, 0, 0, code))
    dout = clocked(chip, [0] * zeros + request(3) + [hold_din] + [rest_din] * 11)
    assert dout == [1] * (zeros + 6) + [0] + msb_first(code)


def test_high_chip_select_ends_the_exchange_and_releases_the_line() -> None:
    chip = selected(lying_at(0))
    clocked(chip, request(0) + [0] * 4)
    assert chip.dout == 0, "in the middle of a code of zeros"
    chip.set_chip_select(True)
    assert chip.dout == 1
    assert clocked(chip, request(0) + [0] * 20) == [1] * 25, "clocks with CS high go nowhere"
    chip.set_chip_select(False)
    assert clocked(chip, request(0) + [0] * 12) == [1] * 6 + [0] * 11


def test_a_second_start_bit_needs_a_second_falling_chip_select() -> None:
    chip = selected(lying_at(1023))
    first = clocked(chip, request(0) + [0] * 26)
    assert first == [1] * 6 + [0] + [1] * 19 + [0] * 5
    assert clocked(chip, request(0) + [0] * 12) == [0] * 17
    assert clocked(selected(chip), request(0) + [0] * 12) == [1] * 6 + [0] + [1] * 10


def test_powered_up_with_chip_select_low_it_waits_for_a_falling_edge() -> None:
    chip = lying_at(5)
    assert clocked(chip, request(0) + [0] * 12) == [1] * 17
    chip.set_chip_select(False)
    assert clocked(chip, request(0) + [0] * 12) == [1] * 17, "low after low is no edge"
    assert clocked(selected(chip), request(0) + [0] * 12) == [1] * 6 + [0] + msb_first(5)


def test_the_sample_is_held_at_the_falling_edge_of_the_fifth_clock_after_the_start_bit() -> None:
    level = [0.0]
    chip = selected(Mcp3x08(Clock(), [lambda _now_s: level[0]]))
    clocked(chip, request(0))
    chip.rising_edge(0)  # the fifth clock: still tracking
    level[0] = REFERENCE_V
    chip.falling_edge()
    level[0] = 0.0
    assert clocked(chip, [0] * 11) == [0] + [1] * 10


@UNHURRIED
@given(st.floats(-10, 10), st.sampled_from([10, 12]), st.floats(1, 5))
def test_codes_stay_in_range_and_round_down(input_v: float, bits: int, reference_v: float) -> None:
    code = code_of(input_v, reference_v, bits)
    assert 0 <= code < 2**bits
    lsb_v = reference_v / 2**bits
    if 0 < code < 2**bits - 1:
        assert code * lsb_v <= input_v * (1 + 1e-12)
        assert input_v < (code + 1) * lsb_v * (1 + 1e-12)
    assert code == 0 or code_of(input_v - 2 * lsb_v, reference_v, bits) < code or input_v > reference_v


def test_a_ninth_input_is_refused() -> None:
    with pytest.raises(ValueError, match="8 inputs"):
        lying_at(*range(9))


@pytest.mark.parametrize("bits", [10, 12])
def test_planted_garbage_goes_over_the_wire_within_the_bits_there_are(bits: int) -> None:
    chip = lying_at(600, bits=bits)
    converted = []

    def garbage(code: int) -> int:
        converted.append(code)
        return 0b1010_0110_1101_1001

    chip.garbage = garbage
    said = 0b1010_0110_1101_1001 % 2**bits
    assert clocked(selected(chip), request(0) + [0] * (2 + bits))[6:] == [0, *msb_first(said, bits)]
    chip.garbage = None
    assert clocked(selected(chip), request(0) + [0] * (2 + bits))[6:] == [0, *msb_first(600, bits)]
    assert converted == [600]


# The kernel's queue of edges.

SECOND_NS = 10**9


def queue_of(clock: Clock, edges: list[tuple[float, int]], **options: int) -> EdgeQueue:
    def edges_between(begin_s: float, end_s: float) -> list[tuple[float, int]]:
        return [edge for edge in edges if begin_s <= edge[0] < end_s]

    return EdgeQueue(clock, edges_between, **options)


def test_edges_keep_their_own_time_however_late_they_are_read() -> None:
    clock = Clock()
    queue = queue_of(clock, [(0.0, 1), (0.5, 0), (1.0, 1)], origin_ns=7 * SECOND_NS)
    assert (queue.read(), queue.level) == ([], 0)
    clock.now_s = 1.0
    assert queue.read() == [Edge(7 * SECOND_NS, 1, 1), Edge(7 * SECOND_NS + SECOND_NS // 2, 0, 2)]
    assert (queue.read(), queue.level) == ([], 0)
    clock.now_s = 0.4  # the bus had run ahead, and whoever plays set the clock again
    assert queue.read() == []
    clock.now_s = 9.0
    assert queue.read() == [Edge(8 * SECOND_NS, 1, 3)]
    assert queue.level == 1


def test_a_full_queue_loses_the_oldest_edges_and_the_numbers_show_it() -> None:
    clock = Clock()
    queue = queue_of(clock, [(0.1 * n, n % 2) for n in range(1, 11)], capacity=3)
    clock.now_s = 0.75
    assert [(edge.number, edge.level) for edge in queue.read()] == [(5, 1), (6, 0), (7, 1)]
    clock.now_s = 2.0
    assert [edge.number for edge in queue.read()] == [8, 9, 10]


# Bytes on the bus.


@pytest.mark.parametrize(
    ("polarity", "phase", "understood"), [(0, 0, True), (1, 1, True), (0, 1, False), (1, 0, False)]
)
def test_the_chip_understands_the_two_modes_of_its_datasheet_only(
    polarity: int, phase: int, understood: bool
) -> None:
    chip = lying_at(0b10_0110_1101)
    bus = SpiBus(chip)
    bus.init(1_000_000, polarity, phase, 8, SpiBus.MSB)
    answer = bytearray(3)
    bus.write_readinto(b"\x01\x80\x00", answer)
    assert answer == b"\xff\xff\xff", "not selected yet"
    selected(chip)
    bus.write_readinto(b"\x01\x80\x00", answer)
    assert ((answer[1] & 3) << 8 | answer[2] == 0b10_0110_1101) == understood


def test_an_exchange_may_be_written_and_read_in_pieces() -> None:
    chip = selected(lying_at(0, 0b11_0000_1010))
    bus = SpiBus(chip)
    bus.write(b"\xee\x01\xee", 1, 2)
    answer = bytearray(b"\x55" * 4)
    bus.write_readinto(b"\xee\x90", answer, 1, 2, 2, 3)
    bus.readinto(answer, 3)
    assert answer == bytes([0x55, 0x55, 0b1111_1011, 0b0000_1010])
    assert chip.clock.now_s == pytest.approx(24 / bus.frequency)


def test_a_bus_that_would_send_other_words_says_so() -> None:
    with pytest.raises(ValueError, match="MSB first"):
        SpiBus(lying_at(0)).init(100_000, 0, 0, 16, SpiBus.MSB)


# The real drivers.


def driver_of(chip: Mcp3x08, **baudrate: int) -> Any:
    wires = open_spi(chip)  # before the driver, whose import makes Blinka look for a board
    from adafruit_mcp3xxx.mcp3008 import MCP3008
    from adafruit_mcp3xxx.mcp3208 import MCP3208

    return (MCP3008 if chip.bits == 10 else MCP3208)(*wires, **baudrate)


def test_the_real_driver_reads_every_code_on_every_channel() -> None:
    step = [0]
    voltages = [lambda _now_s, channel=channel: place_of(channel) for channel in range(CHANNELS)]

    def place_of(channel: int) -> float:
        return ((step[0] + 129 * channel) % 1024 + 0.5) * REFERENCE_V / 1024

    driver = driver_of(Mcp3x08(Clock(), voltages), baudrate=1_000_000)
    for step[0] in range(1024):
        read = [driver.read(channel) for channel in range(CHANNELS)]
        assert read == [(step[0] + 129 * channel) % 1024 for channel in range(CHANNELS)]


def test_the_real_driver_reads_differential_pairs_both_ways() -> None:
    driver = driver_of(Mcp3x08(Clock(), [steady(volts) for volts in (3.0, 1.0, 0.1, 0.2, 0, 0, 3.3, 0)]))
    read = [driver.read(pair, is_differential=True) for pair in range(CHANNELS)]
    assert read == [int(1024 * 2 / 3.3), 0, 0, int(1024 * 0.1 / 3.3), 0, 0, 1023, 0]


def test_the_real_driver_of_the_12_bit_chip_reads_it() -> None:
    for code in (0, 1, 2047, 2048, 2730, 4094, 4095):
        driver = driver_of(lying_at(*[code ^ channel for channel in range(CHANNELS)], bits=12))
        assert [driver.read(channel) for channel in range(CHANNELS)] == [
            code ^ channel for channel in range(8)
        ]


@pytest.mark.parametrize("mask", [0x0F, 0x1F, 0xFF])
def test_a_too_wide_result_mask_is_caught(mask: int) -> None:
    """The bits above the null bit are undefined; on a quiet line this driver would have passed."""
    spi, chip_select = open_spi(lying_at(300))
    spi.try_lock()
    chip_select.switch_to_output(value=True)
    chip_select.value = False
    answer = bytearray(3)
    spi.write_readinto(b"\x01\x80\x00", answer)
    assert (answer[1] & 0x03) << 8 | answer[2] == 300
    assert (answer[1] & mask) << 8 | answer[2] != 300


def test_pots_and_gates_follow_the_clock() -> None:
    clock = Clock()
    driver = driver_of(Mcp3x08(clock, [lambda now_s: now_s]))
    gate = open_input(clock, lambda now_s: float(1.0 <= now_s < 2.0))
    gate.switch_to_input()
    seen = []
    for clock.now_s in (0.5, 1.0, 1.999, 2.0):
        seen.append((gate.value, driver.read(0)))
    assert [level for level, _ in seen] == [False, True, True, False]
    # 13 clocks of 10 us pass before the sample is held.
    assert [code for _, code in seen] == [int(1024 * (t + 130e-6) / 3.3) for t in (0.5, 1.0, 1.999, 2.0)]


def in_a_fresh_process(program: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BLINKA_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_touches_no_board_and_opening_leaves_the_environment_alone() -> None:
    in_a_fresh_process(
        "import os, sys\n"
        "import device.adc, device.simulation as simulation\n"
        "assert not {'board', 'busio', 'digitalio', 'adafruit_blinka'} & set(sys.modules)\n"
        "simulation.open_input(simulation.Clock(), lambda now_s: 1.0)\n"
        "assert 'BLINKA_OS_AGNOSTIC' not in os.environ\n"
    )


@pytest.mark.parametrize("first", ["adafruit_blinka.agnostic", "adafruit_mcp3xxx.mcp3008"])
def test_a_process_whose_blinka_has_looked_for_a_board_cannot_simulate_one(first: str) -> None:
    said = in_a_fresh_process(
        f"import {first}\n"
        "from device.errors import DarkrackError\n"
        "from device.simulation import Clock, Mcp3x08, open_spi\n"
        "try:\n"
        "    open_spi(Mcp3x08(Clock(), []))\n"
        "except DarkrackError as error:\n"
        "    print(error)\n"
    )
    assert said.startswith(
        "error: simulated bench: expected to be opened before Blinka looks for a board, got "
    )


# The 16-bit chip.


def sixteen(code: int, flaws: Flaws | None = None) -> Ads8325:
    return Ads8325(Clock(), [steady((code + 0.5) * REFERENCE_V / 65536)], REFERENCE_V, flaws)


@given(st.integers(0, 65535))
def test_the_16_bit_chip_answers_after_five_clocks_null_then_msb_first_then_lsb_first(code: int) -> None:
    chip = selected(sixteen(code))
    dout = clocked(chip, [1, 0] * 20)
    msb = msb_first(code, 16)
    assert dout == [1] * 5 + [0, *msb, *reversed(msb[:-1])] + [0] * 3


def test_the_16_bit_chip_samples_at_its_fifth_clock_and_sleeps_unless_selected() -> None:
    clock = Clock()
    chip = Ads8325(clock, [lambda now_s: 1.0 + now_s], REFERENCE_V)
    assert clocked(chip, [0] * 24) == [1] * 24
    selected(chip)
    clocked(chip, [0] * 4)
    clock.now_s = 1.0
    chip.falling_edge()
    clock.now_s = 0.0
    bits = clocked(chip, [0] * 17)[1:]
    assert int("".join(map(str, bits)), 2) == int(2.0 / REFERENCE_V * 65536)
    chip.set_chip_select(True)
    assert chip.dout == 1, "released"


def test_the_16_bit_chip_has_one_input() -> None:
    with pytest.raises(ValueError, match="one input, not 2"):
        Ads8325(Clock(), [steady(0), steady(1)])


# What a converter does wrong.


@given(st.integers(0, 2**32 - 1), st.sampled_from([10, 12, 16]), st.floats(0.1, 8.0))
@settings(deadline=None, max_examples=30)
def test_nonlinearity_meets_a_limit_and_breaks_none(seed: int, bits: int, inl_lsb: float) -> None:
    found = nonlinearity(Flaws(inl_lsb=inl_lsb, seed=seed), bits)
    steps = np.diff(found)
    assert np.abs(found).max() <= inl_lsb + 1e-9
    assert np.abs(steps).max() <= 1.0 + 1e-9
    assert max(np.abs(found).max() / inl_lsb, np.abs(steps).max()) == pytest.approx(1.0)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[-1] == pytest.approx(0, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.lists(st.floats(-0.5, 4.0), min_size=2, max_size=40))
@settings(deadline=None, max_examples=30)
def test_a_bad_converter_is_monotonic_and_about_right(seed: int, volts: list[float]) -> None:
    converter = Converter(REFERENCE_V, 12, Flaws(inl_lsb=1.0, seed=seed))
    codes = [converter.code(value) for value in sorted(volts)]
    assert codes == sorted(codes)
    for value, code in zip(sorted(volts), codes, strict=True):
        assert abs(code - code_of(value, REFERENCE_V, 12)) <= 2


def test_noise_gain_offset_and_reference_are_what_they_say() -> None:
    noisy = Converter(REFERENCE_V, 12, Flaws(noise_lsb=2.0))
    codes = [noisy.code(1.5) for _ in range(4000)]
    assert np.std(codes) == pytest.approx(np.hypot(2.0, 12**-0.5), rel=0.1)
    again = Converter(REFERENCE_V, 12, Flaws(noise_lsb=2.0))
    assert codes[:100] == [again.code(1.5) for _ in range(100)], "the same twice"
    for flaws, volts in (
        (Flaws(gain=0.1), 1.5 * 1.1),
        (Flaws(offset_v=-0.2), 1.3),
        (Flaws(reference=0.05), 1.5 / 1.05),
    ):
        assert Converter(REFERENCE_V, 12, flaws).code(1.5) == code_of(volts, REFERENCE_V, 12)
