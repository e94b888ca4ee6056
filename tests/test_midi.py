"""MIDI messages obeyed by a real performance, measured in what it renders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device.bundle import Bundle
from device.midi import Receiver
from device.modulation import Modulation, presets_of
from device.patch import Knob, Patch
from device.performance import SAMPLE_RATE_HZ, Performance
from device.recording import level, pitch_cents

SECOND = SAMPLE_RATE_HZ
C4_HZ = 440.0 * 2.0 ** (-9 / 12)
STEADY = Patch(
    attributes={"Wind noise, breath": 0.0, "Plucked string instrument": 0.0},
    cc={1: Knob("Trumpet", low=0.2, high=0.9, curve=2.0, carry=False)},
)


def _on(note: int, velocity: int = 100, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def _cc(control: int, value: int, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", control=control, value=value, channel=channel)


def _wheel(position: int, channel: int = 0) -> mido.Message:
    return mido.Message("pitchwheel", pitch=position, channel=channel)


def _program(number: int, channel: int = 0) -> mido.Message:
    return mido.Message("program_change", program=number, channel=channel)


def _pressure(value: int, channel: int = 0) -> mido.Message:
    return mido.Message("aftertouch", value=value, channel=channel)


def _off(note: int, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=note, channel=channel)


def _members(count: int, channel: int = 0) -> list[mido.Message]:
    """An MPE configuration message: RPN 6."""
    return [_cc(101, 0, channel), _cc(100, 6, channel), _cc(6, count, channel)]


class Heard:
    """A listener that writes down what it is told, and what of it sounded already."""

    def __init__(self) -> None:
        self.also: Modulation | None = None
        self.turns: list[tuple[str, float]] = []
        self.programs: list[int] = []
        self.transports: list[tuple[str, int]] = []

    def turn(self, source: str, value: float) -> None:
        self.turns.append((source, value))
        if self.also is not None:
            self.also.turn(source, value)

    def program(self, number: int) -> bool:
        self.programs.append(number)
        return True

    def transport(self, kind: str, at_ns: int) -> None:
        self.transports.append((kind, at_ns))

    def told(self) -> list[tuple[str, float]]:
        """The turns since the last call, rounded for comparison."""
        turns, self.turns = self.turns, []
        return [(source, round(value, 4)) for source, value in turns]


class Stage:
    """A performance with a receiver in front of it."""

    def __init__(
        self,
        rack: Bundle,
        patch: Patch = STEADY,
        *,
        transpose: float = 0.0,
        drums: bool = False,
        mpe: str = "off",
    ) -> None:
        self.performance = Performance(rack, patch)
        self.heard = Heard()
        names = [attribute.name for attribute in rack.manifest.attributes]
        self.heard.also = Modulation(self.performance, patch, names, presets_of(rack))
        self.receiver = Receiver(
            self.performance,
            patch,
            transpose_semitones=transpose,
            drums=drums,
            listener=self.heard,
            mpe=mpe,
        )

    def hear(self, messages: Iterable[mido.Message]) -> NDArray[np.float32]:
        """Obey, let 100 ms pass, and return the second after that."""
        for message in messages:
            self.receiver.hear(message)
        self.performance.render(SECOND // 10)
        return self.performance.render(SECOND)

    def cents(self, messages: Iterable[mido.Message]) -> float:
        """Cents above middle C of what sounds after the messages."""
        return pitch_cents(self.hear(messages), SAMPLE_RATE_HZ, C4_HZ)


@pytest.mark.parametrize(
    ("messages", "cents"),
    [
        ([_wheel(2048)], 50.0),
        ([_wheel(-4096)], -100.0),
        ([_cc(101, 0), _cc(100, 0), _cc(6, 1), _wheel(4096)], 50.0),
        (
            [_wheel(4096), _cc(101, 0), _cc(100, 0), _cc(6, 1)],
            50.0,
        ),  # the range counts for where it stands, too
        ([_cc(101, 0), _cc(100, 0), _cc(6, 0), _cc(38, 50), _wheel(-8192)], -50.0),
        ([_cc(101, 0), _cc(100, 0), _cc(101, 127), _cc(100, 127), _cc(6, 12), _wheel(2048)], 50.0),  # null
        ([_cc(101, 0), _cc(100, 0), _cc(99, 1), _cc(98, 8), _cc(6, 12), _wheel(2048)], 50.0),  # an NRPN
        ([_cc(101, 0), _cc(100, 1), _cc(6, 12), _wheel(2048)], 50.0),  # fine tuning, which is another RPN
        ([_wheel(4096), _cc(121, 0)], 0.0),
        ([_wheel(4096, channel=1)], 0.0),
    ],
)
def test_bends_in_cents(tiny_bundle: Bundle, messages: list[mido.Message], cents: float) -> None:
    assert Stage(tiny_bundle).cents([*messages, _on(60)]) == pytest.approx(cents, abs=1.0)
    assert Stage(tiny_bundle).cents([_on(60), *messages]) == pytest.approx(cents, abs=1.0)


def test_bend_range_and_transposition(tiny_bundle: Bundle) -> None:
    patch = Patch(attributes=STEADY.attributes, bend_range_semitones=0.5)
    assert Stage(tiny_bundle, patch).cents([_wheel(8191), _on(60)]) == pytest.approx(50.0, abs=1.0)
    assert Stage(tiny_bundle, transpose=-11.75).cents([_on(72)]) == pytest.approx(25.0, abs=1.0)


def test_volume_and_expression(tiny_bundle: Bundle) -> None:
    def loudness_db(*messages: mido.Message) -> float:
        return level(Stage(tiny_bundle).hear(messages)).rms_dbfs

    usual_db = loudness_db(_on(60))
    assert loudness_db(_cc(7, 100), _cc(11, 127), _on(60)) == pytest.approx(usual_db, abs=0.01)
    assert loudness_db(_cc(7, 50), _on(60)) == pytest.approx(usual_db - 12.04, abs=0.05)
    assert loudness_db(_on(60), _cc(11, 64)) == pytest.approx(usual_db + 40 * np.log10(64 / 127), abs=0.05)
    assert loudness_db(_on(60), _cc(11, 64), _cc(121, 0)) == pytest.approx(usual_db, abs=0.05)
    assert loudness_db(_on(60), _cc(7, 0)) < -100.0


def test_sustain_all_notes_off_and_all_sound_off(tiny_bundle: Bundle) -> None:
    def sounds(*messages: mido.Message) -> bool:
        stage = Stage(tiny_bundle)
        stage.hear(messages)
        return stage.performance.sounding

    off = mido.Message("note_off", note=60)
    assert sounds(_on(60))
    assert not sounds(_on(60), off)
    assert not sounds(_on(60), _on(60, velocity=0))
    assert sounds(_cc(64, 127), _on(60), off)
    assert sounds(_on(60), _cc(64, 64), off)
    assert not sounds(_cc(64, 63), _on(60), off)
    assert not sounds(_cc(64, 127), _on(60), off, _cc(64, 0))
    assert not sounds(_cc(64, 127), _on(60), off, _cc(121, 0))
    assert not sounds(_on(60), _cc(123, 0))
    assert sounds(_cc(64, 127), _on(60), _cc(123, 0))  # MIDI 1.0: the pedal holds against all notes off
    assert not sounds(_cc(64, 127), _on(60), _cc(120, 0))
    assert sounds(_on(60), _cc(120, 0, channel=5))


def test_a_cc_turns_its_knob_alone_or_not(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    trumpet = stage.performance.vector.copy()
    stage.receiver.hear(_cc(1, 127, channel=7))  # any channel: there is one instrument
    assert np.flatnonzero(stage.performance.vector != trumpet).tolist() == [0]
    table = tiny_bundle.manifest.attributes[0].quantiles
    along = np.linspace(0.0, 1.0, len(table))
    assert stage.performance.vector[0] == pytest.approx(np.interp(0.9, along, table), abs=1e-6)
    stage.receiver.hear(_cc(1, 64))
    setting = 0.2 + 0.7 * (64 / 127) ** 2
    assert stage.performance.vector[0] == pytest.approx(np.interp(setting, along, table), abs=1e-6)


def test_drums_and_programs_are_left_out_and_said_so(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    stage.hear([_on(36, channel=9), _on(38, channel=9), _cc(7, 0, channel=9)])
    assert stage.performance.counts.notes == 0
    assert stage.heard.told() == []
    silent = Receiver(stage.performance, STEADY)
    for message in [_on(36, channel=9), _on(38, channel=9), *map(_program, (56, 0, 0))]:
        silent.hear(message)
    assert silent.remarks() == [
        "channel 10 (drums) left out: 2 notes; --drums plays them",
        "program changes ignored (to 1, 57): a bundle is one instrument",
    ]
    stage = Stage(tiny_bundle, drums=True)
    stage.hear([_on(36, channel=9)])
    assert stage.performance.counts.notes == 1
    assert stage.receiver.remarks() == []


# ---- what a listener is told ----


def test_sources_are_told_as_they_move(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    for message, told in (
        (_cc(74, 127), [("cc.74", 1.0)]),
        (_cc(1, 64, channel=5), [("cc.1", 0.5039)]),  # bound by the patch, and a source all the same
        (_cc(7, 0), [("cc.7", 0.0)]),
        (_cc(64, 127), [("cc.64", 1.0)]),
        (_pressure(127), [("pressure", 1.0)]),
        (mido.Message("polytouch", note=60, value=127), [("key_pressure", 1.0)]),
        (_wheel(8191), [("bend", 1.0)]),
        (_wheel(-8192), [("bend", -1.0)]),
        (_wheel(0), [("bend", 0.0)]),
        (_on(61, 127), [("velocity", 1.0), ("note", 61.0)]),
        (_on(61, 0), []),
        (_cc(101, 0), []),
        (_cc(6, 12), []),
        (_cc(96, 0), []),
        (_cc(123, 0), []),
    ):
        stage.receiver.hear(message)
        assert stage.heard.told() == told, message


def test_a_note_begins_with_its_own_sources(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    begun: list[int] = []
    stage.heard.turn = lambda source, value: begun.append(stage.performance.counts.notes)  # type: ignore[method-assign]
    stage.receiver.hear(_on(60))
    assert begun == [0, 0]
    assert stage.performance.counts.notes == 1


def test_fourteen_bits_once_the_lower_ones_come(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)

    def told(*messages: mido.Message) -> list[tuple[str, float]]:
        for message in messages:
            stage.receiver.hear(message)
        return stage.heard.told()

    assert told(_cc(36, 5)) == [("cc.36", round(5 / 127, 4))]  # nothing above it: a knob by itself
    assert told(_cc(4, 127)) == [("cc.4", 1.0)]
    assert told(_cc(36, 127)) == [("cc.36", 1.0), ("cc.4", 1.0)]
    assert told(_cc(36, 64)) == [("cc.36", 0.5039), ("cc.4", round((127 * 128 + 64) / 16383, 4))]
    # Upper bits set the lower ones to 0, so that a sender may leave them out.
    assert told(_cc(4, 64)) == [("cc.4", round(64 * 128 / 16383, 4))]
    assert told(_cc(4, 64, channel=3)) == [("cc.4", 0.5039)]  # each channel by itself


def test_a_bound_controller_has_fourteen_bits_too(tiny_bundle: Bundle) -> None:
    def setting(patch: Patch, *messages: mido.Message) -> float:
        stage = Stage(tiny_bundle, patch)
        for message in messages:
            stage.receiver.hear(message)
        return float(stage.performance.vector[0])

    alone = {1: Knob("Trumpet", carry=False)}
    table = tiny_bundle.manifest.attributes[0].quantiles
    along = np.linspace(0.0, 1.0, len(table))
    fine = setting(Patch(cc=alone), _cc(1, 64), _cc(33, 100))
    assert fine == pytest.approx(np.interp((64 * 128 + 100) / 16383, along, table), abs=1e-6)
    own = Patch(cc={**alone, 33: Knob("Clarinet", carry=False)})
    assert setting(own, _cc(1, 64), _cc(33, 100)) == pytest.approx(
        np.interp(64 / 127, along, table), abs=1e-6
    )


def test_reset_all_controllers_tells_what_goes_back(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    for message in (
        _cc(1, 90),
        _cc(7, 20),
        _cc(11, 30),
        _cc(64, 127),
        _cc(74, 9),
        _wheel(4096),
        _pressure(9),
    ):
        stage.receiver.hear(message)
    stage.heard.told()
    stage.receiver.hear(_cc(121, 0))
    # RP-015: neither volume nor the sound controllers 70 to 79.
    assert sorted(stage.heard.told()) == [
        ("bend", 0.0),
        ("cc.1", 0.0),
        ("cc.11", 1.0),
        ("cc.64", 0.0),
        ("key_pressure", 0.0),
        ("pressure", 0.0),
    ]


def test_programs_and_the_transport_go_to_the_listener(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    stage.receiver.hear(_program(7))
    for at_ns, kind in enumerate(["start", "clock", "clock", "stop", "continue"]):
        stage.receiver.hear(mido.Message(kind), at_ns)
    assert stage.heard.programs == [7]
    assert stage.heard.transports == [("start", 0), ("clock", 1), ("clock", 2), ("stop", 3), ("continue", 4)]
    assert stage.receiver.remarks() == []


@pytest.mark.parametrize(
    "message",
    [
        mido.Message("active_sensing"),
        mido.Message("sysex", data=(1, 2)),
        mido.Message("songpos", pos=3),
        mido.Message("tune_request"),
        mido.Message("quarter_frame"),
        mido.Message("clock"),
    ],
)
def test_what_means_nothing_is_passed_over(tiny_bundle: Bundle, message: mido.Message) -> None:
    performance = Performance(tiny_bundle, STEADY)
    Receiver(performance, STEADY).hear(message)
    assert not performance.sounding


@pytest.mark.parametrize("how", ["panic", "reset"])
@pytest.mark.parametrize(
    "patch", [replace(STEADY, release_s=0.9, mono=mono) for mono in (False, True)], ids=["poly", "mono"]
)
def test_panic_leaves_nothing_behind(tiny_bundle: Bundle, how: str, patch: Patch) -> None:
    stage = Stage(tiny_bundle, patch, mpe="upper")
    for channel in range(16):
        for message in (
            _cc(64, 127, channel),
            _cc(11, 90, channel),
            _wheel(8191, channel),
            _pressure(9, channel),
        ):
            stage.receiver.hear(message)
        stage.receiver.hear(_on(50 + channel, 90, channel))
        stage.receiver.hear(_on(30 + channel, 90, channel))
    stage.performance.render(SECOND // 10)
    assert stage.performance.sounding
    if how == "panic":
        stage.receiver.panic()
    else:
        stage.receiver.hear(mido.Message("reset"))
    stage.performance.render(SECOND // 10)
    assert not stage.performance.sounding
    # Pedal up, wheel centred, expression back, and no key comes back from before.
    assert stage.cents([_on(60)]) == pytest.approx(0.0, abs=1.0)
    stage.hear([_off(60)])
    assert not stage.performance.sounding


# ---- MPE ----


@pytest.mark.parametrize(
    ("messages", "cents"),
    [
        ([_wheel(512, 1)], 300.0),  # 48 semitones of a member
        ([_wheel(4096, 0)], 100.0),  # 2 of the master
        ([_wheel(-4096, 0), _wheel(512, 1)], 200.0),
        ([_wheel(512, 2)], 0.0),  # another note's
        ([_wheel(512, 9), _wheel(512, 15)], 0.0),
        (
            [_cc(101, 0, 5), _cc(100, 0, 5), _cc(6, 12, 5), _wheel(2048, 1)],
            300.0,
        ),  # one member's range is all's
        ([_wheel(2048, 1), _cc(101, 0, 5), _cc(100, 0, 5), _cc(6, 12, 5), _cc(38, 50, 5)], 312.5),
        (
            [_cc(101, 0), _cc(100, 0), _cc(6, 12), _wheel(4096), _wheel(512, 1)],
            900.0,
        ),  # the master has its own
        ([_wheel(4096, 0), _wheel(512, 1), _cc(121, 0)], 0.0),
        ([_wheel(4096, 0), _wheel(512, 1), _cc(121, 0, 1)], 100.0),
    ],
)
def test_members_are_bent_by_themselves_and_by_their_master(
    tiny_bundle: Bundle, messages: list[mido.Message], cents: float
) -> None:
    semitones, rest = divmod(cents, 100)
    note = _on(60 - round(semitones), channel=1)  # bent up to where the ear looks
    assert Stage(tiny_bundle, mpe="lower").cents([*messages, note]) == pytest.approx(rest, abs=1.0)
    assert Stage(tiny_bundle, mpe="lower").cents([note, *messages]) == pytest.approx(rest, abs=1.0)


def _bends(tiny_bundle: Bundle, *messages: mido.Message, mpe: str = "off") -> str:
    """Of each of the 16 channels how it is bent by its wheel at a quarter: by 48 semitones, 2, or otherwise."""
    stage = Stage(tiny_bundle, mpe=mpe)
    for message in messages:
        stage.receiver.hear(message)
    letters = {12.0: "m", 0.5: "."}
    told = ""
    for channel in range(16):
        stage.receiver.hear(_wheel(2048, channel))
        told += letters.get(stage.performance._channel(channel).bend_semitones, "+")
        stage.receiver.hear(_wheel(0, channel))
    return told


def test_zones_are_laid_out_as_asked(tiny_bundle: Bundle) -> None:
    assert _bends(tiny_bundle).count(".") == 15  # channel 10, which is left out, does not count its bends
    for mpe, messages, channels in (
        ("lower", [], ".mmmmmmmmmmmmmmm"),
        ("upper", [], "mmmmmmmmmmmmmmm."),
        ("off", _members(15), ".mmmmmmmmmmmmmmm"),
        ("off", _members(3), ".mmm.....+......"),
        ("off", _members(3, 15), ".........+..mmm."),
        ("off", [*_members(3), *_members(5, 15)], ".mmm.....+mmmmm."),
        (
            "off",
            [*_members(10), *_members(9, 15)],
            ".mmmmmmmmmmmmmm.",
        ),  # the later one wins: 5 and 9 are left
        ("off", [*_members(3, 15), *_members(15)], ".mmmmmmmmmmmmmmm"),
        ("lower", _members(15, 15), "mmmmmmmmmmmmmmm."),
        ("lower", _members(0), ".........+......"),
        ("off", _members(5, 7), ".........+......"),  # only 1 and 16 can be masters
        ("off", _members(16), ".........+......"),
    ):
        assert _bends(tiny_bundle, *messages, mpe=mpe) == channels, messages
    with pytest.raises(ValueError, match="middle"):
        Stage(tiny_bundle, mpe="middle")


def test_the_patch_says_which_zone_there_is(tiny_bundle: Bundle) -> None:
    def range_semitones(receiver: Receiver) -> float:
        receiver.hear(_wheel(4096, 3))
        return performance._channel(3).bend_semitones

    lower = Patch(mpe="lower")
    performance = Performance(tiny_bundle, STEADY)
    assert range_semitones(Receiver(performance, lower)) == 24.0
    assert range_semitones(Receiver(performance, lower, mpe="off")) == 1.0
    receiver = Receiver(performance, STEADY)
    assert range_semitones(receiver) == 1.0
    receiver.set_up(lower)
    assert range_semitones(receiver) == 24.0
    for message in _members(0):
        receiver.hear(message)
    receiver.set_up(
        Patch(mpe="lower", mono=True)
    )  # a controller's own zone stays while the patch's is the same
    assert range_semitones(receiver) == 1.0


def test_the_later_zone_takes_members_of_the_other(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    for message in [*_members(10), *_members(9, 15), _wheel(4096, 0)]:
        stage.receiver.hear(message)
    for channel in (1, 5, 6, 14):
        stage.receiver.hear(_on(60, channel=channel))
    bent = [stage.performance._channel(channel).bend_semitones for channel in (1, 5, 6, 14)]
    assert bent == [1.0, 1.0, 0.0, 0.0]


def test_pedal_and_volume_of_the_master_are_the_zones(tiny_bundle: Bundle) -> None:
    def sounds(*messages: mido.Message) -> bool:
        stage = Stage(tiny_bundle, mpe="lower")
        stage.hear(messages)
        return stage.performance.sounding

    note = (_on(60, channel=3), _off(60, 3))
    assert not sounds(*note)
    assert sounds(_cc(64, 127), *note)
    assert sounds(_on(60, channel=3), _cc(64, 127), _off(60, 3))
    assert not sounds(_cc(64, 127), *note, _cc(64, 0))
    assert sounds(_cc(64, 127, 3), _cc(64, 127), *note, _cc(64, 0))  # the member's own holds on
    assert not sounds(_on(60, channel=3), _cc(123, 0))
    assert not sounds(_cc(64, 127), _on(60, channel=3), _cc(120, 0))
    assert sounds(_on(60, channel=3), _cc(120, 0, 4))

    def loudness_db(*messages: mido.Message) -> float:
        return level(Stage(tiny_bundle, mpe="lower").hear(messages)).rms_dbfs

    usual_db = loudness_db(_on(60, channel=3))
    assert loudness_db(_cc(7, 50), _on(60, channel=3)) == pytest.approx(usual_db - 12.04, abs=0.05)
    assert loudness_db(_on(60, channel=3), _cc(7, 50), _cc(7, 50, 3)) == pytest.approx(
        usual_db - 24.08, abs=0.05
    )


def test_a_zone_laid_out_anew_lets_its_notes_go(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle)
    stage.hear([_on(60, channel=2), _cc(64, 127, 2), _wheel(4096, 2), *_members(4)])
    assert not stage.performance.sounding
    assert stage.performance._channel(2).bend_semitones == 0.0
    stage.hear([_on(60, channel=12), *_members(5)])
    assert stage.performance.sounding  # outside of it
    stage.receiver.mpe("off")
    assert _bends(tiny_bundle, *_members(4), *_members(0)) == ".........+......"


def test_sources_of_a_zone_are_those_of_the_newest_note(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle, mpe="lower")

    def told(*messages: mido.Message) -> list[tuple[str, float]]:
        for message in messages:
            stage.receiver.hear(message)
        return stage.heard.told()

    assert told(_pressure(0, 1), _cc(74, 127, 1), _wheel(0, 1)) == []  # sent ahead of its note
    assert told(_on(60, 127, 1)) == [
        ("pressure", 0.0),
        ("cc.74", 1.0),
        ("bend", 0.0),
        ("velocity", 1.0),
        ("note", 60.0),
    ]
    assert told(_pressure(127, 1)) == [("pressure", 1.0)]
    assert told(_pressure(0, 2), _on(64, 127, 2)) == [("pressure", 0.0), ("velocity", 1.0), ("note", 64.0)]
    assert told(_pressure(64, 1), _cc(74, 0, 1)) == []
    assert told(_pressure(127, 0), _cc(1, 127, 0)) == [
        ("pressure", 1.0),
        ("cc.1", 1.0),
    ]  # the master is heard
    assert told(_off(64, 2)) == [
        ("pressure", 0.5039),
        ("cc.74", 0.0),
        ("bend", 0.0),
    ]  # back to the other finger
    assert told(_off(60, 1), _pressure(3, 1)) == []
    assert told(_program(3, 2)) == []
    assert stage.heard.programs == []
    told(_program(4, 0))
    assert stage.heard.programs == [4]


_DATA = st.integers(0, 127)
_CHANNEL = st.integers(0, 15)
_MESSAGES = st.one_of(
    st.builds(_on, _DATA, _DATA, _CHANNEL),
    st.builds(_cc, _DATA, _DATA, _CHANNEL),
    st.builds(_cc, st.sampled_from([1, 6, 38, 98, 100, 101, 120, 121, 123]), st.sampled_from([0, 1, 127])),
    st.builds(_wheel, st.integers(-8192, 8191), _CHANNEL),
    st.builds(mido.Message, st.just("note_off"), note=_DATA),
    st.builds(mido.Message, st.just("aftertouch"), value=_DATA),
    st.builds(mido.Message, st.just("polytouch"), note=_DATA, value=_DATA),
    st.builds(mido.Message, st.just("program_change"), program=_DATA),
    st.builds(
        mido.Message, st.sampled_from(["clock", "start", "continue", "stop", "reset", "active_sensing"])
    ),
    st.builds(_cc, st.just(6), _DATA, st.sampled_from([0, 15])),
    st.builds(_cc, st.just(100), st.sampled_from([0, 6, 127]), st.sampled_from([0, 1, 15])),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_MESSAGES, max_size=60), st.sampled_from(["off", "lower", "upper"]))
def test_any_messages_make_finite_sound_that_ends(
    tiny_bundle: Bundle, messages: list[mido.Message], mpe: str
) -> None:
    stage = Stage(tiny_bundle, mpe=mpe)
    for message in messages:
        stage.receiver.hear(message)
        assert np.isfinite(stage.performance.render(100)).all()
    stage.performance.finish()
    stage.performance.render(SECOND)
    assert not stage.performance.sounding
