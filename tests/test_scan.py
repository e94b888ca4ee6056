"""The scan on simulated chips and the real drivers: pitch with its gate, pots, and readings that cannot be true."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import mido
import numpy as np
import pytest

from device.control import Control, Layout
from device.engine import (
    BEND,
    DELAY_NS,
    EVENTS,
    RELEASE,
    SAMPLE_RATE_HZ,
    SETTINGS,
    START,
    WRITTEN,
    Desk,
    advance,
    counted,
    hand_over,
    make,
    memory_size,
)
from device.instrument import Front, Part, Plan
from device.jacks import Jacks, open_inputs
from device.partials import NoteFrames, Partials, nominal_hz
from device.patch import Patch
from device.play import delay_ns
from device.profile import CvInput, Gate, Profile, read_profile
from device.recording import clicks
from device.scan import (
    FOLLOW_NOISES,
    GATE_CHANNEL,
    GATE_VELOCITY,
    JUMP_POT_CODES,
    SETTLE_NS,
    Scan,
    Tuned,
    untuned,
)
from device.simulation import Clock, EdgeQueue, Mcp3x08
from device.voct import AGREE_SHARE, NOISE_CODES, SCALES, Quantizer, Scale
from device.voices import fill
from device.worker import Setup

RATE_HZ = SAMPLE_RATE_HZ
MS = 1_000_000
ORIGIN_NS = 1_000_000_000
PROFILE = read_profile("sim")
PASS_NS = round(1e9 / PROFILE.pitch_scan_hz)
SHORT = Patch(release_s=0.05)
CODE_SEMITONES = 12 * 3.3 / 4096 / 0.5  # of a code of the pitch converter
FOLLOW_SEMITONES = FOLLOW_NOISES * NOISE_CODES[4096] * CODE_SEMITONES
AGREE_PITCH_CODES = AGREE_SHARE * 4096
NEAR = CODE_SEMITONES / 2 + FOLLOW_SEMITONES  # quantization, and what is not worth following
NAMES = ("A", "B", "C", "D", "E", "F", "G", "H")


def layout(patch: Patch = SHORT) -> Layout:
    return Layout(0, patch, NAMES, (36.0, 84.0))


@dataclass
class Module:
    """A module on a bench: what lies at its jacks is set by hand, or follows a function of time in seconds."""

    desk: Desk
    profile: Profile = PROFILE
    tuned: Tuned | None = None
    cv_v: list[float] = field(default_factory=lambda: [0.0] * 8)  # at the jacks; CV 1 is [1]
    gates: dict[int, list[tuple[float, int]]] = field(default_factory=dict)  # beside the first
    clock: Clock = field(default_factory=Clock)
    positions: list[float] = field(default_factory=lambda: [0.5] * 8)
    pitch: Callable[[float], float] = lambda _now_s: 60.0
    edges: list[tuple[float, int]] = field(default_factory=list)
    heard: list[tuple[int, mido.Message]] = field(default_factory=list)
    messages: list[tuple[int, mido.Message]] = field(default_factory=list)
    turned: list[tuple[str, float]] = field(default_factory=list)
    fails: int = 0  # so many exchanges with the converters that are to fail

    def __post_init__(self) -> None:
        pots = [partial(self._pot_v, number) for number in range(8)]
        self.knob_chip = Mcp3x08(self.clock, pots)
        self.cv_chip = Mcp3x08(
            self.clock,
            [lambda now_s: PROFILE.pitch.pin_v((self.pitch(now_s) - PROFILE.pitch_zero_midi) / 12)]
            + [partial(self._cv_v, number) for number in range(1, 4)],
            bits=12,
        )
        inputs = open_inputs(self.profile, self.knob_chip, self.cv_chip)
        queue = EdgeQueue(self.clock, self._edges_between, ORIGIN_NS)
        self.player = Control(self.desk, layout())
        jacks = Jacks(
            pot=lambda n: self._exchange(lambda: inputs.pot(n)),
            pitch=lambda: self._exchange(inputs.pitch),
            pitch_codes=inputs.pitch_codes,
            cv=lambda n: self._exchange(lambda: inputs.cv(n)),
            edges=lambda _now_ns: [
                *((edge.time_ns, 1, edge.level > 0) for edge in queue.read()),
                *self._other_edges(),
            ],
            messages=self._messages,
            lost=lambda: 0,
            close=lambda: None,
        )
        tuned = self.tuned or untuned(self.profile)
        self.scan = Scan(self.desk, jacks, self.player, self._hear, self._turn, self.profile, tuned)
        self.now_ns = ORIGIN_NS

    def run(self, seconds: float) -> None:
        """Passes at the profile's pace."""
        for _ in range(round(seconds * 1e9 / PASS_NS)):
            self.now_ns += PASS_NS
            self.clock.now_s = (self.now_ns - ORIGIN_NS) * 1e-9
            self.scan.step(self.now_ns)

    def count(self, name: str) -> int:
        return counted(self.desk)[name]

    def events(self, *kinds: int) -> list[np.void]:
        written = int(self.desk.cursor[WRITTEN])
        assert written <= EVENTS
        return [event for event in self.desk.events[:written] if not kinds or event["kind"] in kinds]

    def _pot_v(self, number: int, _now_s: float) -> float:
        return self.positions[number] * 3.3

    def _edges_between(self, begin_s: float, end_s: float) -> Sequence[tuple[float, int]]:
        return [edge for edge in self.edges if begin_s <= edge[0] < end_s]

    def _messages(self, _now_ns: int) -> list[tuple[int, mido.Message]]:
        found, self.messages = self.messages, []
        return found

    def _cv_v(self, number: int, _now_s: float) -> float:
        return self.profile.cvs[number].pin_v(self.cv_v[number])

    def _other_edges(self) -> list[tuple[int, int, bool]]:
        found = [
            (ORIGIN_NS + round(at_s * 1e9), gate, high > 0)
            for gate, edges in self.gates.items()
            for at_s, high in edges
            if at_s <= self.clock.now_s
        ]
        for gate in self.gates:
            self.gates[gate] = [edge for edge in self.gates[gate] if edge[0] > self.clock.now_s]
        return found

    def told(self, source: str) -> list[float]:
        return [value for name, value in self.turned if name == source]

    def _turn(self, source: str, value: float) -> None:
        if source.startswith("knob."):
            self.player.set_attribute(NAMES[int(source[5:]) - 1], value)
        self.turned.append((source, value))

    def _hear(self, message: mido.Message, at_ns: int) -> None:
        assert at_ns == self.player.at_ns
        self.heard.append((at_ns, message))

    def _exchange(self, read: Callable[[], int]) -> int:
        if self.fails:
            self.fails -= 1
            raise OSError(5, "the bus")
        return read()


@pytest.fixture
def module() -> Module:
    return Module(make(np.zeros(memory_size(4), np.uint8), 4))


def semitones(hz: float) -> float:
    return 69 + 12 * float(np.log2(hz / 440))


# CV and gate.

K = np.arange(1.0, 21.0)[:, None]
TONE = NoteFrames(
    np.broadcast_to(-20 * np.log10(K) - 3, (20, 128)).astype(np.float32),
    np.broadcast_to(K, (20, 128)).astype(np.float32),
    np.zeros(20, np.float32),
    50,
    124,
)
NEW_MIDI = 61.2  # as near to the one table as the old 60: nothing but pitch differs


@dataclass
class Heard:
    """What came of a note whose CV changed so much later than its gate."""

    audio: np.ndarray
    first_midi: float  # of the voice after the first sample that could be heard
    counts: dict[str, int]


def struck(tmp_path: Path, lag_ms: float, rise_s: float, block: int, new_midi: float = NEW_MIDI) -> Heard:
    """Play 60 and then ``new_midi`` through scripted jacks, real drivers, the scan, the hands and the callback."""
    script = tmp_path / "lag.toml"
    script.write_text(
        f"seconds = 1\n[pitch]\nnotes = [60, {new_midi}]\nlag_ms = {lag_ms}\n"
        f"[gate]\npulses = [[0.01, 0.03], [{rise_s}, {rise_s + 0.06}]]\n"
    )
    desk = make(np.zeros(memory_size(4), np.uint8), 4)
    desk.clock[DELAY_NS] = delay_ns(block, PROFILE.pitch_scan_hz)
    fill(desk.state, 0, TONE, nominal_hz(60), Partials())
    hand_over(desk.shelf, 0, 1)
    nowhere = Path("nowhere.rack")
    part = Part(Setup(0, nowhere, SHORT), layout(), (None,) * 8, 16_000.0)
    front = Front(desk, Plan((nowhere,), script=str(script)), part, ORIGIN_NS)
    pieces, samples, passed_ns, first_midi = [], 0, ORIGIN_NS, 0.0
    while samples < 0.2 * RATE_HZ:
        samples += block
        now_ns = ORIGIN_NS + samples * 1_000_000_000 // RATE_HZ
        while passed_ns + front.pass_ns <= now_ns:
            passed_ns += front.pass_ns
            front.step(passed_ns)
        pieces.append(np.zeros((block, 2), np.float32))
        advance(desk, pieces[-1], now_ns)
        sounding = [voice for voice in desk.state.voice if voice["active"] and voice["age_samples"] < block]
        if counted(desk)["notes"] == 2 and sounding and not first_midi:
            first_midi = semitones(max(sounding, key=lambda voice: voice["note"])["f0_hz"])
    return Heard(np.concatenate(pieces)[: RATE_HZ // 5 - 600], first_midi, counted(desk))


@pytest.mark.parametrize("block", [32, 128, 256])
def test_a_note_never_begins_at_the_old_pitch_when_cv_and_gate_change_together(
    tmp_path: Path, block: int
) -> None:
    for rise_ms in (60.0, 60.3, 60.6, 60.9):  # between two passes
        rise_s = rise_ms * 1e-3
        wanted = struck(tmp_path, -5.0, rise_s, block)  # the CV was there long before
        assert np.abs(wanted.audio[round(0.1 * RATE_HZ) :]).max() > 0.05
        for lag_ms in (-2.0, -1.5, -1.0, -0.5, -0.2, -0.05, 0.0, 0.05, 0.2, 0.4, 0.5, 0.75, 1.0):
            heard = struck(tmp_path, lag_ms, rise_s, block)
            assert heard.first_midi == pytest.approx(NEW_MIDI, abs=NEAR), (rise_ms, lag_ms)
            # The place in the stereo picture goes with the key, of which the hands knew the old pitch: 0.5 % of width.
            np.testing.assert_allclose(heard.audio, wanted.audio, atol=2e-3)
            assert (heard.counts["late_events"], heard.counts["notes"]) == (0, 2)


@pytest.mark.parametrize("lag_ms", [1.25, 2.0, 3.0])
def test_a_cv_that_settles_later_than_there_is_room_for_is_followed_without_a_click(
    tmp_path: Path, lag_ms: float
) -> None:
    wanted = struck(tmp_path, -5.0, 0.0609, 128)
    heard = struck(tmp_path, lag_ms, 0.0609, 128)
    # And the planted fault of the test above: this is what the old pitch looks like there.
    assert heard.first_midi < NEW_MIDI - 5 * FOLLOW_SEMITONES
    assert np.abs(heard.audio - wanted.audio).max() > 0.05
    for new_midi in (72.5, 48.0):
        sound = struck(tmp_path, lag_ms, 0.0609, 128, new_midi).audio
        assert [at for at in clicks(sound, RATE_HZ, 16_000) if at < 0.15] == [], (
            "but where the recording ends"
        )


def test_an_edge_keeps_its_own_time_and_reads_its_own_pitch(module: Module) -> None:
    module.pitch = lambda now_s: 48.0 if now_s < 0.0502 else 67.0
    module.edges = [(0.0203, 1), (0.0307, 0), (0.0503, 1), (0.0511, 0)]
    module.run(0.1)
    events = module.events(START, RELEASE)
    assert [int(event["time_ns"]) - ORIGIN_NS for event in events] == [
        20_300_000,
        30_700_000,
        50_300_000,
        51_100_000,
    ]
    assert [event["kind"] for event in events] == [START, RELEASE, START, RELEASE]
    assert semitones(events[0]["f0_hz"]) == pytest.approx(48, abs=NEAR)
    assert semitones(events[2]["f0_hz"]) == pytest.approx(67, abs=NEAR)
    wish = module.desk.wish[1]
    assert (wish["velocity"], wish["pitch_midi"]) == (
        GATE_VELOCITY,
        pytest.approx(67, abs=NEAR),
    )


def test_a_pulse_shorter_than_a_pass_is_played(module: Module) -> None:
    module.edges = [(0.0201, 1), (0.0203, 0), (0.0206, 1), (0.0208, 0)]
    module.run(0.05)
    assert [event["kind"] for event in module.events()] == [START, RELEASE, START, RELEASE]


def test_a_level_that_comes_twice_is_one_edge(module: Module) -> None:
    module.edges = [(0.02, 1), (0.03, 1), (0.04, 0), (0.05, 0)]
    module.run(0.1)
    assert [event["kind"] for event in module.events()] == [START, RELEASE]


def test_a_held_note_follows_the_cv_and_a_resting_one_is_left_alone(module: Module) -> None:
    module.pitch = lambda now_s: 60.0 + 10.0 * max(now_s - 0.1, 0.0)
    module.edges = [(0.02, 1), (0.3, 0)]
    module.run(0.1)
    assert not module.events(BEND)
    module.run(0.4)
    bends = module.events(BEND)
    pitches = [60.0, *(semitones(bend["f0_hz"]) for bend in bends)]
    steps = np.diff(pitches)
    assert steps.min() > 0
    assert steps.max() < 1.5 * CODE_SEMITONES
    # A ramp of .52 codes a reading lags by sqrt(.52 * 8) = 2 codes.
    assert pitches[-1] == pytest.approx(62.0, abs=3 * CODE_SEMITONES)
    assert bends[-1]["time_ns"] - ORIGIN_NS <= 301 * MS
    assert module.desk.expected[0] == pytest.approx(64.0, abs=0.1), "what a gate would ask for now"


def test_the_last_bit_does_not_warble(module: Module) -> None:
    code_semitones = 12 * 3.3 / 4096 / 0.5
    rng = np.random.default_rng(1)
    module.pitch = lambda _now_s: 60.0 + rng.choice([-1, 0, 1]) * code_semitones
    module.edges = [(0.005, 1)]
    module.run(0.5)
    bends = [semitones(event["f0_hz"]) for event in module.events(BEND)]
    # Two codes apart is more than it follows; one code is not.
    assert all(abs(bend - 60) <= 2.5 * code_semitones for bend in bends)
    module.pitch = lambda _now_s: 60.0 + rng.choice([0, 1]) * code_semitones
    module.run(0.01)
    before = len(module.events(BEND))
    module.run(0.5)
    assert len(module.events(BEND)) <= before + 1
    assert module.count("adc_faults") == 0


def test_settling_takes_the_two_passes_that_the_profile_has(module: Module) -> None:
    assert 2 * PASS_NS <= SETTLE_NS
    module.edges = [(0.0205, 1)]
    module.pitch = lambda now_s: 60.0 if now_s < 0.0215 else 66.0  # a millisecond late
    module.run(0.05)
    start, bend = module.events(START, BEND)
    assert bend["time_ns"] == start["time_ns"]
    assert semitones(bend["f0_hz"]) == pytest.approx(66, abs=NEAR)


# Readings that cannot be true.


def test_pitch_that_two_reads_do_not_agree_on_is_not_believed(module: Module) -> None:
    module.edges = [(0.02, 1)]
    module.run(0.05)
    rng = np.random.default_rng(2)
    module.cv_chip.garbage = lambda _code: int(rng.integers(0, 4096))
    module.run(0.1)
    believed = module.events(BEND)
    assert module.count("adc_faults") > 50
    # Two random codes agree by chance in (2 * 6 + 1) of 4096 pairs, and a pass has three pairs.
    assert len(believed) <= 100 * 3 * (2 * AGREE_PITCH_CODES + 1) / 4096 * 4
    module.cv_chip.garbage = None
    module.run(0.05)
    assert semitones(module.events()[-1]["f0_hz"]) == pytest.approx(60, abs=NEAR)


def test_one_wrong_read_is_never_heard(module: Module) -> None:
    module.edges = [(0.0201, 1)]
    module.run(0.05)
    reads = iter([4000, *[None] * 1000])

    def garbage(code: int) -> int:
        wrong = next(reads)
        return code if wrong is None else wrong

    module.cv_chip.garbage = garbage
    module.run(0.05)
    assert not module.events(BEND)


def test_a_gate_while_the_converter_is_mad_plays_the_last_good_pitch(module: Module) -> None:
    module.pitch = lambda _now_s: 55.0
    module.run(0.02)
    alternating = iter(range(10_000))
    module.cv_chip.garbage = lambda _code: 4095 * (next(alternating) % 2)
    module.edges = [(0.0305, 1)]
    module.run(0.05)
    (start,) = module.events(START)
    assert semitones(start["f0_hz"]) == pytest.approx(55, abs=NEAR)
    assert not module.events(BEND)
    assert module.count("adc_faults") > 0


def test_a_bus_that_fails_is_counted_and_the_gate_still_plays(module: Module) -> None:
    module.pitch = lambda _now_s: 55.0
    module.run(0.05)
    module.fails = 10**6
    module.edges = [(0.0605, 1)]
    module.run(0.05)
    (start,) = module.events(START)
    assert semitones(start["f0_hz"]) == pytest.approx(55, abs=NEAR)
    assert module.count("adc_faults") > 50
    module.fails = 0
    before = module.count("adc_faults")
    module.run(0.05)
    assert module.count("adc_faults") == before


def test_garbage_on_the_pots_turns_no_knob_far(module: Module) -> None:
    module.run(0.1)
    before = module.desk.settings[: len(NAMES)].copy()
    np.testing.assert_allclose(before, 0.5, atol=0.01)
    rng = np.random.default_rng(4)
    # One exchange in ten is wrong; that two in a row are wrong alike is a chance of 17 in 1024 of a hundredth.
    module.knob_chip.garbage = lambda code: int(rng.integers(0, 1024)) if rng.random() < 0.1 else code
    module.run(0.5)
    np.testing.assert_allclose(module.desk.settings[: len(NAMES)], 0.5, atol=2 * JUMP_POT_CODES / 1023)
    assert module.count("adc_faults") > 5


# Pots and messages.


def test_every_pot_turns_its_knob_over_all_of_its_travel(module: Module) -> None:
    module.run(0.05)
    for number in range(8):
        for position in (0.0, 1.0, 0.25):
            module.positions[number] = position
            module.run(0.15)
            assert module.desk.settings[number] == pytest.approx(position, abs=0.01)
    assert module.count("adc_faults") == 0


def test_pots_are_read_as_often_as_the_profile_says_and_one_after_the_other(module: Module) -> None:
    reads: list[float] = []

    def note_the_time(code: int) -> int:
        reads.append(module.clock.now_s)
        return code

    module.knob_chip.garbage = note_the_time
    module.run(1.0)
    assert len(reads) == pytest.approx(8 * PROFILE.knob_scan_hz, rel=0.02)
    per_pass = np.histogram(reads, bins=1000, range=(0, 1))[0]
    assert per_pass.max() <= 3, "no pass has all of them to read"


def test_a_knob_that_rests_says_nothing(module: Module) -> None:
    module.run(0.1)
    version = int(module.desk.version[SETTINGS])
    module.run(0.5)
    assert module.desk.version[SETTINGS] == version
    module.scan.turn_all()
    module.desk.settings[:] = np.nan  # another bundle
    module.run(0.05)
    np.testing.assert_allclose(module.desk.settings[:8], 0.5, atol=0.01)


def test_messages_are_heard_at_their_own_time(module: Module) -> None:
    message = mido.Message("note_on", note=64, velocity=80)
    module.messages = [(ORIGIN_NS + 123_456, message)]
    module.run(0.003)
    assert module.heard == [(ORIGIN_NS + 123_456, message)]


def test_an_edge_and_a_message_of_one_pass_are_played_in_the_order_of_their_times(module: Module) -> None:
    module.edges = [(0.0201, 1)]
    module.run(0.02)
    module.messages = [(ORIGIN_NS + 20_900_000, mido.Message("note_on", note=72, velocity=80))]
    module.scan._hear = lambda message, _at_ns: module.player.note_on(message.note, message.note, 0.8)
    module.run(0.001)
    times_ns = [int(event["time_ns"]) - ORIGIN_NS for event in module.events(START)]
    assert times_ns == [20_100_000, 20_900_000]
    # The callback plays one event after the other, so what is behind a later one would sound with it.
    fill(module.desk.state, 0, TONE, nominal_hz(60), Partials())
    hand_over(module.desk.shelf, 0, 1)
    out = np.zeros((96, 2), np.float32)
    advance(module.desk, out, ORIGIN_NS + 20_000_000)
    ages = module.desk.state.voice["age_samples"][:2].tolist()
    assert ages == [96 - 5, 96 - 44], "0.1 and 0.9 ms at 48 kHz, rounded up"


def test_the_gate_has_a_channel_that_no_keyboard_can_have_by_default(module: Module) -> None:
    module.edges = [(0.0203, 1)]
    module.run(0.05)
    module.player.at_ns = module.now_ns
    module.player.release_all(channel=0)
    assert not module.events(RELEASE)
    module.player.release_all(channel=GATE_CHANNEL)
    assert len(module.events(RELEASE)) == 1


# Control voltages, other gates, scales.


def wired(**changes: object) -> Module:
    profile = dataclasses.replace(PROFILE, **changes)  # type: ignore[arg-type]
    return Module(make(np.zeros(memory_size(4), np.uint8), 4), profile)


def test_a_control_voltage_is_a_source_of_minus_one_to_one(module: Module) -> None:
    for volts, value in ((0.0, 0.0), (2.5, 0.5), (-5.0, -1.0), (5.0, 1.0)):
        module.cv_v[2] = volts
        module.run(0.05)
        assert module.told("cv.2")[-1] == pytest.approx(value, abs=2e-3)
    assert module.told("cv.1")[-1] == pytest.approx(0.0, abs=2e-3), "the others are read as well"
    told = len(module.turned)
    module.run(0.3)
    assert len(module.turned) == told, "one that rests says nothing"


def test_a_control_voltage_follows_a_step_within_its_turn(module: Module) -> None:
    module.run(0.05)
    module.cv_v[1] = 4.0
    module.run(0.005)
    assert module.told("cv.1")[-1] == pytest.approx(0.8, abs=2e-3)


def test_one_wrong_read_of_a_control_voltage_is_not_heard(module: Module) -> None:
    module.run(0.05)
    told = len(module.turned)
    wrong = iter([0, 4095] * 2)
    module.cv_chip.garbage = lambda code: next(wrong, code)
    module.run(0.05)
    assert len(module.turned) == told
    assert not module.events()


def test_an_attenuverter_scales_its_voltage_and_turns_nothing_else() -> None:
    module = wired(cvs={**PROFILE.cvs, 1: CvInput(1, 0.32, 1.65, attenuverter=8)})
    module.cv_v[1] = 4.0
    for position, value in ((1.0, 0.8), (0.5, 0.0), (0.52, 0.0), (0.0, -0.8)):
        module.positions[7] = position
        module.run(0.3)
        assert module.told("cv.1")[-1] == pytest.approx(value, abs=0.01), position
    assert not module.told("knob.8")
    assert module.told("knob.7")


def test_another_gate_is_a_source_with_its_own_edges() -> None:
    module = wired(gates={1: Gate(17), 2: Gate(22)})
    module.gates[2] = [(0.0203, 1), (0.0307, 0)]
    module.run(0.05)
    assert module.told("gate.2") == [1.0, 0.0]
    assert not module.events(), "it plays nothing by itself"


def test_a_control_voltage_can_be_the_gate_with_thresholds_of_its_own() -> None:
    module = wired(gates={1: Gate(cv=3, on_v=2.0, off_v=1.0)})
    heights = [0.0, 1.5, 5.0, 1.5, 2.5, 0.5, 1.5]
    for volts in heights:
        module.cv_v[3] = volts
        module.run(0.02)
    assert module.told("gate.1") == [1.0, 0.0], "between the thresholds it stays what it was"
    assert [event["kind"] for event in module.events()] == [START, RELEASE]


def test_a_gate_waits_for_a_slow_cv_to_settle_and_keeps_its_rhythm() -> None:
    module = wired(settle_ms=5.0)
    module.pitch = lambda now_s: 60.0 if now_s < 0.0235 else 67.0
    module.edges = [(0.0203, 1), (0.0213, 0), (0.0603, 1), (0.0703, 0)]
    module.run(0.1)
    events = module.events(START, RELEASE)
    assert [int(event["time_ns"]) - ORIGIN_NS for event in events] == [
        25_300_000,
        26_300_000,
        65_300_000,
        75_300_000,
    ]
    assert semitones(events[0]["f0_hz"]) == pytest.approx(67, abs=NEAR)
    assert not module.events(BEND)


def test_a_quantizer_makes_notes_of_a_scale() -> None:
    plain = untuned(PROFILE)
    major = Quantizer(Scale("major", tuple(map(float, SCALES["major"]))), 0.0)
    tuned = dataclasses.replace(plain, quantizer=major)
    module = Module(make(np.zeros(memory_size(4), np.uint8), 4), tuned=tuned)
    module.pitch = lambda now_s: 60.0 + 12.0 * min(max(now_s - 0.05, 0.0), 1.0)
    module.edges = [(0.02, 1)]
    module.run(1.1)
    played = [round(semitones(event["f0_hz"]), 3) for event in module.events(START, BEND)]
    assert played == [60, 62, 64, 65, 67, 69, 71, 72]


def test_ends_of_knobs_that_were_learned() -> None:
    plain = untuned(PROFILE)
    tuned = dataclasses.replace(plain, knob_ends=[(100.0, 900.0)] * 7 + [(900.0, 100.0)])
    module = Module(make(np.zeros(memory_size(4), np.uint8), 4), tuned=tuned)
    for position, value in ((100 / 1023, 0.0), (500 / 1023, 0.5), (900 / 1023, 1.0)):
        module.positions = [position] * 8
        module.run(0.4)
        assert module.told("knob.1")[-1] == pytest.approx(value, abs=0.01)
        assert module.told("knob.8")[-1] == pytest.approx(1 - value, abs=0.01), "wired the other way round"


def test_who_listens_anew_is_told_of_everything(module: Module) -> None:
    module.run(0.1)
    module.turned.clear()
    module.scan.turn_all()
    module.run(0.1)
    assert {name for name, _ in module.turned} == {
        *(f"knob.{n}" for n in range(1, 9)),
        "cv.1",
        "cv.2",
        "cv.3",
    }
