"""Scripts: read strictly, the same at any hour and in any order, and nothing left hanging."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from places import unnumbered

from device import adc
from device.errors import DarkrackError
from device.profile import read_profile
from device.script import FAULT_KEYS, SCRIPTS, Script, draw, read_script, wire
from device.simulation import Clock

UNHURRIED = trials(deadline=None)  # the machine may be busy
DAY_S = 24 * 3600.0


def script_of(tmp_path: Path, text: str) -> Script:
    path = tmp_path / "written.toml"
    path.write_text(text)
    return read_script(path)


def held_after(messages: Iterable[tuple[float, mido.Message]]) -> set[tuple[int, int]]:
    """What sounds in the end; on the way, no key is struck that is down and none let go that is up."""
    held: set[tuple[int, int]] = set()
    for _, message in messages:
        key = (message.channel, message.note)
        if message.type == "note_on":
            assert message.velocity > 0
            assert key not in held
            held.add(key)
        else:
            held.remove(key)
    return held


def begins(edges: list[tuple[float, int]]) -> list[float]:
    return [time_s for time_s, level in edges if level]


# Signals.


def test_pots_stand_move_straight_and_come_round_again(tmp_path: Path) -> None:
    text = "seconds = 4\nloop = true\n[pot]\n1 = {at = 0.3}\n2 = {points = [[1, 0], [3, 1]]}"
    script = script_of(tmp_path, text)
    assert script.pot(8)(1.0) == 0.5, "one that is not named stands in the middle"
    assert script.pot(1)(DAY_S) == 0.3
    for lap_s in (0.0, 4.0, DAY_S):
        seen = [script.pot(2)(lap_s + t_s) for t_s in (0, 1, 1.5, 2, 3, 3.999)]
        assert seen == pytest.approx([0, 0, 0.25, 0.5, 1, 1], abs=1e-9)
    once = script_of(tmp_path, text.replace("loop = true", ""))
    assert once.pot(2)(100.0) == 1.0, "at the end everything stays as it is"


def test_waves_have_their_shape(tmp_path: Path) -> None:
    text = "seconds = 8\n[pot]\n"
    for number, shape in enumerate(("triangle", "sine", "steps", "walk"), start=1):
        text += f"{number} = {{wave = '{shape}', period_s = 2, low = 0.2, high = 0.8, seed = 1}}\n"
    script = script_of(tmp_path, text + "5 = {wave = 'triangle', period_s = 2, phase = 0.25}\n")
    assert [script.pot(1)(t) for t in (0, 0.5, 1, 1.5)] == pytest.approx([0.2, 0.5, 0.8, 0.5])
    assert [script.pot(2)(t) for t in (0, 0.5, 1, 1.5)] == pytest.approx([0.2, 0.5, 0.8, 0.5])
    assert script.pot(2)(0.25) < script.pot(1)(0.25)
    assert script.pot(3)(0.0) == script.pot(3)(1.999) != script.pot(3)(2.0)
    assert script.pot(4)(1.0) == pytest.approx((script.pot(4)(0.0) + script.pot(4)(2.0)) / 2)
    assert script.pot(5)(0.0) == pytest.approx(0.5)
    assert script.pot(5)(0.5) == pytest.approx(1.0)
    assert script.pot(1)(8.0) == script.pot(1)(9.0), "it ends"


@UNHURRIED
@given(st.floats(0, 2 * DAY_S), st.sampled_from(range(1, 9)))
def test_a_position_is_one_and_the_same_whenever_it_is_asked_for(now_s: float, number: int) -> None:
    position = read_script("stress").pot(number)(now_s)
    assert 0 <= position <= 1
    assert read_script("stress").pot(number)(now_s) == position


def test_no_wave_jumps_where_the_script_begins_again() -> None:
    script = read_script("stress")
    for number in (1, 2, 3, 4, 7, 8):  # the others are made of steps
        for seam_s in (60.0, 120.0, DAY_S):
            moved = abs(script.pot(number)(seam_s + 1e-6) - script.pot(number)(seam_s - 1e-6))
            assert moved < 1e-4, number


@given(st.integers(0, 2**32 - 1), st.integers(0, 400), st.integers(0, 2**40))
def test_draws_lie_from_0_to_1(seed: int, stream: int, number: int) -> None:
    assert 0 <= draw(seed, stream, number) < 1


def test_draws_are_even_and_their_streams_have_nothing_in_common() -> None:
    first = [draw(1, 2, number) for number in range(4000)]
    for other in (
        [draw(1, 3, number) for number in range(4000)],
        [draw(2, 2, n) for n in range(4000)],
        first[1:],
    ):
        mean = sum((a - 0.5) * (b - 0.5) for a, b in zip(first, other, strict=False)) / 4000
        assert abs(mean) < 4 * (1 / 12) / 4000**0.5, "four standard errors of two independent draws"
    counts = [sum(int(10 * x) == tenth for x in first) for tenth in range(10)]
    assert min(counts) > 320
    # The same on every machine and in every version: a soak is repeated from its seed.
    assert [draw(0, 0, 0), draw(5, 200, 86_400_000)] == [0.13870941014555427, 0.5504171934489646]


# Pitch and gate.


def test_pitch_is_a_volt_per_octave_from_c2(tmp_path: Path) -> None:
    script = script_of(tmp_path, "seconds = 9\nloop = true\n[pitch]\nnotes = [36, 48, 24.5]\nstep_s = 0.5")
    seen = [script.pitch_v(t) for t in (0, 0.499, 0.5, 1.0, 1.5, DAY_S)]
    assert seen == pytest.approx([0, 0, 1, -11.5 / 12, 0, 0])
    glide = script_of(tmp_path, "seconds = 4\n[pitch]\npoints = [[0, 36], [2, 60]]").pitch_v
    assert [glide(t) for t in (0, 1, 2, 9)] == pytest.approx([0, 1, 2, 2])
    assert script_of(tmp_path, "seconds = 1").pitch_v(0.5) == 0.0


@pytest.mark.parametrize("lag_ms", [-0.4, 0.0, 0.4])
@pytest.mark.parametrize(
    "gate", ["rate_hz = 20\njitter = 0.3\nswing = 0.1\nseed = 4", "pulses = [[0.01, 0.05], [0.07, 0.1]]"]
)
def test_pitch_changes_with_the_gate(tmp_path: Path, gate: str, lag_ms: float) -> None:
    text = f"seconds = 0.2\nloop = true\n[pitch]\nnotes = [40, 45, 50]\nlag_ms = {lag_ms}\n[gate]\n{gate}"
    script = script_of(tmp_path, text)
    for begin_s in (0.0, 86_000.0):
        rises_s = begins(script.gate_edges(begin_s + 1, begin_s + 2))
        assert len(rises_s) in {10, 19, 20, 21}
        for rise_s in rises_s:
            change_s = rise_s + lag_ms / 1000
            before_v, after_v = script.pitch_v(change_s - 1e-8), script.pitch_v(change_s + 1e-8)
            assert (after_v - before_v) * 12 == pytest.approx(5) or (
                after_v - before_v
            ) * 12 == pytest.approx(-10)


def test_random_notes_are_whole_and_reach_both_ends(tmp_path: Path) -> None:
    script = script_of(tmp_path, "seconds = 60\n[pitch]\nrandom = [40, 43]\nstep_s = 0.1\nseed = 8")
    notes = {round(36 + 12 * script.pitch_v(0.1 * n + 0.05), 6) for n in range(200)}
    assert notes == {40, 41, 42, 43}


def test_a_regular_gate(tmp_path: Path) -> None:
    script = script_of(tmp_path, "seconds = 1\n[gate]\nrate_hz = 4\nduty = 0.2\nswing = 0.5")
    edges = script.gate_edges(0, 2)
    assert [level for _, level in edges] == [1, 0] * 4
    assert [time_s for time_s, _ in edges] == pytest.approx([0, 0.05, 0.375, 0.425, 0.5, 0.55, 0.875, 0.925])


def test_a_gate_that_is_high_at_the_end_falls_there(tmp_path: Path) -> None:
    script = script_of(tmp_path, "seconds = 0.6\n[gate]\nrate_hz = 2\nduty = 0.5")
    assert script.gate_edges(0, 9) == [(0.0, 1), (0.25, 0), (0.5, 1), (0.6, 0)]
    assert script.gate_edges(0.6, 9) == [(0.6, 0)]
    assert script_of(tmp_path, "seconds = 1").gate_edges(0, 9) == []


def test_written_pulses_come_again_and_fall_before_they_rise(tmp_path: Path) -> None:
    text = "seconds = 1\nloop = true\n[gate]\npulses = [[0, 0.25], [0.5, 1]]"
    script = script_of(tmp_path, text)
    lap = [(0.0, 0), (0.0, 1), (0.25, 0), (0.5, 1)]
    for begin_s in (1.0, DAY_S):
        assert script.gate_edges(begin_s, begin_s + 1) == [(begin_s + t, level) for t, level in lap]
    assert script_of(tmp_path, text.replace("loop = true", "")).gate_edges(0.5, 9) == [(0.5, 1), (1.0, 0)]


# Intervals.


def cut(begin_s: float, lengths_s: list[float]) -> list[float]:
    times_s = [begin_s]
    for length_s in lengths_s:
        times_s.append(times_s[-1] + length_s)
    return times_s


@UNHURRIED
@given(
    st.sampled_from(["hello", "stress"]),
    st.one_of(st.just(0.0), st.floats(0, 200), st.floats(DAY_S, DAY_S + 200)),
    st.lists(
        st.one_of(st.sampled_from([0.0, 0.001, 0.25, 0.3125]), st.floats(0, 3)), min_size=1, max_size=12
    ),
)
def test_however_time_is_cut_everything_comes_once_and_in_order(
    name: str, begin_s: float, lengths_s: list[float]
) -> None:
    script = read_script(name)
    times_s = cut(begin_s, lengths_s)
    for events in (script.gate_edges, script.messages, script.faults):
        whole = events(times_s[0], times_s[-1])
        pieces = [event for a, b in pairwise(times_s) for event in events(a, b)]
        assert pieces == whole
    edges = script.gate_edges(times_s[0], times_s[-1])
    assert edges == sorted(edges)
    assert all(a[1] != b[1] for a, b in pairwise(edges)), "up and down by turns"
    assert all(times_s[0] - 1e-9 <= t <= times_s[-1] for t, _ in edges)


def test_an_event_belongs_to_the_interval_that_begins_with_it() -> None:
    script = read_script("stress")
    for time_s, level in script.gate_edges(DAY_S, DAY_S + 2):
        assert (time_s, level) in script.gate_edges(time_s, time_s + 1e-9)
        assert (time_s, level) not in script.gate_edges(time_s - 1e-9, time_s)


def test_a_day_later_the_times_are_still_exact() -> None:
    """20 s go into a day 4320 times, so hello is where it was; float seconds would be off by their own steps."""
    script = read_script("hello")
    early = script.gate_edges(0, 20)
    late = script.gate_edges(DAY_S, DAY_S + 20)
    assert len(early) == len(late) == 128
    for (early_s, level), (late_s, late_level) in zip(early, late, strict=True):
        assert level == late_level
        assert round(late_s * 1e9) == round(early_s * 1e9) + 86_400 * 10**9


# Keys.


def test_written_notes_are_played_and_let_go_at_the_seam(tmp_path: Path) -> None:
    text = "seconds = 2\nloop = true\n[[keys]]\nchannel = 3\nnotes = [[0, 2, 60, 80], [0.5, 0.5, 64, 127]]"
    script = script_of(tmp_path, text)
    told = [(t, m.type, m.channel, m.note, m.velocity) for t, m in script.messages(2, 4)]
    assert told == [
        (2.0, "note_off", 2, 60, 0),
        (2.0, "note_on", 2, 60, 80),
        (2.5, "note_on", 2, 64, 127),
        (3.0, "note_off", 2, 64, 0),
    ]
    once = script_of(tmp_path, text.replace("loop = true", ""))
    assert held_after(once.messages(0, 2.001)) == set()
    assert [t for t, _ in once.messages(0, 99)] == [0.0, 0.5, 1.0, 2.0]


def test_random_chords_strike_no_key_twice_and_end(tmp_path: Path) -> None:
    text = (
        "seconds = 20.3\n[[keys]]\nvoices = 4\nrate_hz = 3\nlength_s = 1.2\nrange = [40, 70]\nvelocity = [9, 11]\n"
        "[[keys]]\nvoices = 1\nrate_hz = 5\nlength_s = 0.2\n"
    )
    messages = script_of(tmp_path, text).messages(0, 21)
    assert held_after(messages) == set()
    assert messages[-1][0] == 20.3
    first = [message for _, message in messages if message.channel == 0 and message.type == "note_on"]
    assert len(first) == 4 * 61
    assert {message.velocity for message in first} == {9, 10, 11}
    assert {message.note for message in first} <= {*range(40, 71)}
    assert len({message.note for message in first}) == 31


def test_stress_keeps_eight_voices_busy() -> None:
    script = read_script("stress")
    held: set[tuple[int, int]] = set()
    fewest = 99
    for now_ms in range(0, 120_000, 100):
        for _, message in script.messages(now_ms / 1000, (now_ms + 100) / 1000):
            (held.add if message.type == "note_on" else held.remove)((message.channel, message.note))
        fewest = min(fewest, len(held)) if now_ms > 3000 else fewest
    assert fewest >= 8


# Faults.


def test_faults_come_when_they_should(tmp_path: Path) -> None:
    text = """
    seconds = 10
    loop = true
    [[fault]]
    kind = "nan"
    every_s = 4
    count = 7
    [[fault]]
    kind = "audio lost"
    at_s = 3
    seconds = 2.5
    [[fault]]
    kind = "bundle"
    at_s = 1
    every_s = 8
    bundles = ["a.rack", "more/b.rack"]
    """
    faults = script_of(tmp_path, text).faults(0, 20)
    told = [(fault.time_s, fault.kind, fault.number) for fault in faults]
    assert told == [
        (1.0, "bundle", 0), (3.0, "audio lost", 0), (4.0, "nan", 0), (8.0, "nan", 1), (9.0, "bundle", 1),
        (12.0, "nan", 2), (13.0, "audio lost", 1), (16.0, "nan", 3), (17.0, "bundle", 2),
    ]  # fmt: skip
    assert [fault.bundle for fault in faults if fault.kind == "bundle"] == [
        tmp_path / "a.rack", tmp_path / "more" / "b.rack", tmp_path / "a.rack",
    ]  # fmt: skip
    assert {fault.count for fault in faults if fault.kind == "nan"} == {7}
    assert {fault.seconds for fault in faults if fault.kind == "audio lost"} == {2.5}
    once = script_of(tmp_path, text.replace("loop = true", ""))
    assert [fault.time_s for fault in once.faults(0, 99)] == [1.0, 3.0, 4.0, 8.0, 9.0]


def test_stress_has_every_kind_of_fault_and_hello_none() -> None:
    assert {fault.kind for fault in read_script("stress").faults(DAY_S, DAY_S + 300)} == set(FAULT_KEYS)
    assert read_script("hello").faults(0, DAY_S) == []


# Reading.


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.toml")), ids=lambda path: path.stem)
def test_what_comes_with_the_program_can_be_read_by_name_and_sent_to_a_process(path: Path) -> None:
    script = read_script(path.stem)
    assert script == read_script(path)
    sent = pickle.loads(pickle.dumps(script))
    assert sent.messages(5, 9) == script.messages(5, 9)
    held_after(script.messages(0, 3 * script.seconds))  # no key struck twice, none let go that is up


def test_hello_leaves_nothing_hanging_at_its_seam() -> None:
    script = read_script("hello")
    for laps in (1, 2, 5):
        assert held_after(script.messages(0, laps * script.seconds)) == set()
    assert len({message.note for _, message in script.messages(0, 20)}) > 6


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("", "written.toml: seconds", "a number from 0.01 to 86400, got none"),
        ("seconds = 1\nlop = true", "written.toml: lop", "a key of a script, got unknown key 'lop'\nhint: did"),
        ("seconds = 1\n[pots]", "written.toml: pots", "did you mean 'pot'?"),
        ("seconds = 1\n[pot]\n9 = {at = 1}", "written.toml: pot.9", "a number from 1 to 8"),
        ("seconds = 1\n[cv]\n8 = {at = 1}", "written.toml: cv.8", "a number from 1 to 7"),
        ("seconds = 1\n[pot]\n1 = {}", "written.toml: pot.1", "one of at or points or wave, got none"),
        ("seconds = 1\n[pot]\n1 = {at = 0, wave = 'sine'}", "pot.1", "got at and wave"),
        ("seconds = 1\n[pot]\n1 = {at = 0, period_s = 3}", "pot.1.period_s", "a key that goes with at"),
        ("seconds = 1\n[pot]\n1 = {pionts = [[0, 1]]}", "pot.1.pionts", "did you mean 'points'?"),
        ("seconds = 1\n[pot]\n1 = {points = []}", "pot.1.points", "rows of [t_s, level], got none"),
        ("seconds = 1\n[pot]\n1 = {points = [[0, 1, 2]]}", "pot.1.points: row 1", "[t_s, level], got [0, 1, 2]"),
        ("seconds = 1\n[pot]\n1 = {points = [[0, 1], [0, 0]]}", "pot.1.points", "rise from row to row, got 0 after 0"),
        ("seconds = 1\n[pot]\n1 = {points = [[0, 2]]}", "pot.1.points: row 1: level", "from 0 to 1, got 2"),
        ("seconds = 1\n[pot]\n1 = {points = [[2, 1]]}", "pot.1.points: row 1: t_s", "from 0 to 1, got 2"),
        ("seconds = 1\n[pot]\n1 = {wave = 'sinus', period_s = 1}", "pot.1.wave", "did you mean 'sine'?"),
        ("seconds = 1\n[pot]\n1 = {wave = 'sine'}", "pot.1.period_s", "got none"),
        ("seconds = 1\n[pitch]\nnotes = [36]", "pitch.step_s", "or a [gate] to follow"),
        ("seconds = 1\n[pitch]\nnotes = []\nstep_s = 1", "pitch.notes", "numbers in brackets, got none"),
        ("seconds = 1\n[pitch]\nrandom = [50, 40]\nstep_s = 1", "pitch.random", "the lower first"),
        ("seconds = 1\n[pitch]\nrandom = [50.2, 50.8]\nstep_s = 1", "pitch.random", "two whole numbers"),
        ("seconds = 1\n[gate]\nrate_hz = 2\nduty = 0.9\njitter = 0.2", "written.toml: gate", "shorter"),
        ("seconds = 1\n[gate]\npulses = [[0, 0.5], [0.5, 1]]", "gate.pulses", "rise from row to row"),
        ("seconds = 1\n[gate]\npulses = [[0, 1.5]]", "gate.pulses: row 1: off_s", "from 0 to 1, got 1.5"),
        ("seconds = 1\nkeys = 3", "written.toml: keys", "tables, each under [[keys]]"),
        ("seconds = 1\n[[keys]]\nnotes = [[0.5, 0.6, 60, 1]]", "keys[1].notes: row 1", "ends by 1 s, got 0.5 to 1.1 s"),
        ("seconds = 1\n[[keys]]\nnotes = [[0, 0, 60, 1]]", "keys[1].notes: row 1", "a note that sounds"),
        ("seconds = 1\n[[keys]]\nnotes = [[0, 1, 60.5, 1]]", "keys[1].notes: row 1", "a whole key"),
        ("seconds = 1\n[[keys]]\nnotes = [[0.5, 0.1, 60, 1], [0, 0.1, 61, 1]]", "keys[1].notes", "rise"),
        ("seconds = 1\n[[keys]]\nnotes = [[0, 0.5, 60, 1], [0.4, 0.1, 60, 1]]", "row 2", "still held"),
        ("seconds = 1\n[[keys]]\nvoices = 2\nrate_hz = 4\nlength_s = 1\nrange = [60, 66]", "keys[1].voices", "most 1,"),
        ("seconds = 1\n[[keys]]\nvoices = 2\nrate_hz = 4\nlength_s = 1\nrange = [66, 60]", "keys[1].range", "lower"),
        ("seconds = 1\n" + 2 * "[[keys]]\nchannel = 2\nnotes = [[0, 1, 60, 1]]\n", "keys[2].channel", "a channel"),
        ("seconds = 1\n[[fault]]\nkind = 'nans'\nat_s = 1", "fault[1].kind", "did you mean 'nan'?"),
        ("seconds = 1\n[[fault]]\nkind = 'nan'", "fault[1]", "at_s or every_s, got neither"),
        ("seconds = 1\n[[fault]]\nat_s = 1", "fault[1].kind", "one of nan, kill worker, "),
        ("seconds = 1\n[[fault]]\nkind = 'nan'\nat_s = 0\nseconds = 3", "fault[1].seconds", "unknown key"),
        ("seconds = 1\n[[fault]]\nkind = 'hang worker'\nat_s = 0", "fault[1].seconds", "got none"),
        ("seconds = 1\n[[fault]]\nkind = 'bundle'\nat_s = 0\nbundles = [3]", "fault[1].bundles", "strings"),
        ("seconds = 1\nx = = 3", "written.toml", "line 2"),
    ],
)  # fmt: skip
def test_errors_name_the_key(tmp_path: Path, text: str, where: str, told: str) -> None:
    with pytest.raises(DarkrackError) as refusal:
        script_of(tmp_path, text)
    assert unnumbered(refusal.value.where).endswith(where)
    assert told in str(refusal.value)


def test_a_name_that_is_no_script_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DarkrackError, match=r"error: strss: expected a script by name or path, got neither\n.*'stress'"
    ):
        read_script("strss")
    with pytest.raises(DarkrackError, match=r"gone\.toml: expected a script, got No such file"):
        read_script("gone.toml")
    (tmp_path / "hello.toml").write_text("seconds = 3")
    assert read_script("hello").seconds == 20, "a bare name is the program's own"
    assert read_script("./hello.toml").seconds == 3


# On the wires.


def test_the_real_drivers_read_what_the_script_says() -> None:
    script, profile, clock = read_script("stress"), read_profile("sim"), Clock()
    jacks = wire(script, profile, clock, origin_ns=5 * 10**9)
    knobs, voltages = adc.open_knobs(8, jacks.knob_chip), adc.open_voltages("MCP3208", jacks.cv_chip)
    for now_s in (0.0, 7.77, DAY_S):
        for pot in range(1, 9):
            clock.now_s = now_s
            # 13 clocks at 1 MHz until the sample is held.
            position = script.pot(pot)(now_s + 13e-6)
            assert knobs.read_code(pot - 1) == pytest.approx(1024 * position, abs=1)
        clock.now_s = now_s
        midi = profile.pitch_midi(voltages.read_v(profile.pitch.channel))
        played = 36 + 12 * script.pitch_v(now_s + 13e-6)
        assert midi == pytest.approx(played, abs=0.011), "half a code is one cent"
        clock.now_s = now_s
        jack_v = profile.cvs[1].jack_v(voltages.read_v(profile.cvs[1].channel))
        assert jack_v == pytest.approx(script.cv(1)(now_s + 13e-6), abs=0.002)
    clock.now_s = 0.2
    edges = wire(script, profile, clock, origin_ns=5 * 10**9).gate.read()
    assert [(edge.time_ns, edge.level) for edge in edges] == [
        (5 * 10**9 + round(time_s * 1e9), level) for time_s, level in script.gate_edges(0, 0.2)
    ]


def test_garbage_is_planted_and_taken_back() -> None:
    jacks = wire(read_script("hello"), read_profile("sim"), Clock())
    knobs, voltages = adc.open_knobs(8, jacks.knob_chip), adc.open_voltages("MCP3208", jacks.cv_chip)
    right = (knobs.read_code(4), voltages.read_code(2))
    assert right == (512, 2048)
    jacks.plant_garbage(seed=1)
    read = [(knobs.read_code(4), voltages.read_code(2)) for _ in range(100)]
    for codes, full_scale in zip(zip(*read, strict=True), (1023, 4095), strict=True):
        assert len(set(codes)) > 60
        assert {0, full_scale} <= set(codes), "and a broken wire among them"
        assert max(codes) == full_scale
    jacks.plant_garbage(None)
    assert (knobs.read_code(4), voltages.read_code(2)) == right
