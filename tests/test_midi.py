"""MIDI messages obeyed by a real performance, measured in what it renders."""

from __future__ import annotations

from collections.abc import Iterable

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device.bundle import Bundle
from device.midi import Receiver
from device.patch import CcKnob, Patch
from device.performance import SAMPLE_RATE_HZ, Performance
from device.recording import level, pitch_cents

SECOND = SAMPLE_RATE_HZ
C4_HZ = 440.0 * 2.0 ** (-9 / 12)
STEADY = Patch(
    attributes={"Wind noise, breath": 0.0, "Plucked string instrument": 0.0},
    cc={1: CcKnob("Trumpet", low=0.2, high=0.9, curve=2.0, carry=False)},
)


def _on(note: int, velocity: int = 100, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def _cc(control: int, value: int, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", control=control, value=value, channel=channel)


def _wheel(position: int, channel: int = 0) -> mido.Message:
    return mido.Message("pitchwheel", pitch=position, channel=channel)


class Stage:
    """A performance with a receiver in front of it."""

    def __init__(
        self, rack: Bundle, patch: Patch = STEADY, *, transpose: float = 0.0, drums: bool = False
    ) -> None:
        self.performance = Performance(rack, patch)
        self.receiver = Receiver(self.performance, patch, transpose_semitones=transpose, drums=drums)

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
    stage.hear([mido.Message("program_change", program=program) for program in (56, 0, 0)])
    assert stage.performance.counts.notes == 0
    assert stage.receiver.remarks() == [
        "channel 10 (drums) left out: 2 notes; --drums plays them",
        "program changes ignored (to 1, 57): a bundle is one instrument",
    ]
    stage = Stage(tiny_bundle, drums=True)
    stage.hear([_on(36, channel=9)])
    assert stage.performance.counts.notes == 1
    assert stage.receiver.remarks() == []


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
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_MESSAGES, max_size=60))
def test_any_messages_make_finite_sound_that_ends(tiny_bundle: Bundle, messages: list[mido.Message]) -> None:
    stage = Stage(tiny_bundle)
    for message in messages:
        stage.receiver.hear(message)
        assert np.isfinite(stage.performance.render(100)).all()
    stage.performance.finish()
    stage.performance.render(SECOND)
    assert not stage.performance.sounding
