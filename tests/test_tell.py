"""docs/playing.md with the real program: a keyboard, a sound that is kept, a controller that learns."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from live import jack_server, keyboard_called, line_with, reported, started

from darkrack import main
from device import state
from device.bundle import Bundle
from device.errors import DarkrackError
from device.recording import clicks
from device.sounds import read_memory
from device.tell import VERBS, ask, message

LONGEST_S = 60.0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        return int(end.getsockname()[1])


@contextlib.contextmanager
def playing(*words: str | Path, port: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`darkrack play`, until it listens; then it is told to stop."""
    process = started("play", *words, "--osc", str(port), **environment)
    try:
        assert "playing" in line_with("playing", process)
        until_s = time.monotonic() + LONGEST_S
        while True:  # the front opens its port a moment later
            try:
                ask("sounds", [], port)
                break
            except DarkrackError:
                assert time.monotonic() < until_s
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            _, errors = process.communicate(timeout=LONGEST_S)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def told(capsys: pytest.CaptureFixture[str], port: int, *words: str) -> str:
    status = main(["tell", *words, "--port", str(port)])
    said = capsys.readouterr()
    return said.out.strip() if status == 0 else said.err.strip()


def test_a_sound_that_is_kept_is_there_after_a_restart(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    port, words = free_port(), (tiny_bundle.path, "--audio", "null", "--midi", "none", "--resume")
    with playing(*words, port=port):
        assert told(capsys, port, "knob", "trumpet", "0.8") == "Trumpet stands at 0.8"
        assert told(capsys, port, "recall", "Harp") == "Harp"
        assert told(capsys, port, "undo") == "back to the sound before"
        assert told(capsys, port, "new", "--seed", "7") == "another specimen"
        assert told(capsys, port, "keep", "Early", "morning") == "kept as 'Early morning', program 1"
        assert told(capsys, port, "recall", "Harp", "--morph", "0.2") == "Harp"
        assert told(capsys, port, "keep", "Late") == "kept as 'Late', program 2"
        refused = told(capsys, port, "knob", "Trumpit", "1")
        assert refused.startswith(
            "error: tell knob: expected something that can be done, got the bundle has no attribute"
        )
        assert "did you mean 'Trumpet'?" in refused
        assert "no bundle called 'Other' is loaded" in told(capsys, port, "bundle", "Other")
        assert told(capsys, port, "drop", "Late") == "'Late' is forgotten"
        assert "no kept sound is called 'Late'" in told(capsys, port, "drop", "Late")
    kept = read_memory(state.folder())
    assert [one.name for one in kept.sounds] == ["Early morning"]
    assert kept.sounds[0].sound.settings["Trumpet"] == (pytest.approx(0.8), True)
    assert kept.last is not None
    assert kept.last.sound.preset == "Harp", "as it was when the power went"
    with playing(*words, port=port):
        assert "   1  Early morning" in told(capsys, port, "sounds")
        assert told(capsys, port, "keep", "As it was") == "kept as 'As it was', program 2"
        assert told(capsys, port, "recall", "early MORNING") == "Early morning"
    kept = read_memory(state.folder())
    was, last = kept.sounds[1].sound, kept.last
    assert was.preset == "Harp", "it was resumed"
    assert last is not None
    assert last.sound == kept.sounds[0].sound


@pytest.mark.program("jackd")
def test_a_keyboard_is_plugged_in_and_plays_and_teaches_a_knob(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port, wav, json = free_port(), tmp_path / "out.wav", tmp_path / "out.json"
    with jack_server(tmp_path, patient=True) as server:
        environment = server.environment
        words = (tiny_bundle.path, "--audio", "null", "--wav", wav, "--json", json)
        with pytest.MonkeyPatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            with playing(*words, port=port, **environment), keyboard_called("Keystation") as keyboard:
                assert (
                    told(capsys, port, "learn", "Trumpet") == "the next controller that moves turns Trumpet"
                )
                until_s = time.monotonic() + LONGEST_S
                while not read_memory(state.folder()).learned and time.monotonic() < until_s:
                    keyboard.send("B0 4A 40")  # heard as soon as the port is open
                    time.sleep(0.1)
                keyboard.send("90 3C 64")
                time.sleep(0.5)
                keyboard.send("90 40 64")
                time.sleep(0.3)
                keyboard.unplug()  # with both keys down
                time.sleep(1.5)
                assert "CC 74 turns Trumpet" in told(capsys, port, "sounds")
                assert told(capsys, port, "panic") == "everything is off"
    assert read_memory(state.folder()).learned[74].attribute == "Trumpet"
    report = reported(json)
    assert report["counts"]["notes"] == 2
    assert report["stuck_voices"] == report["clicks"] == 0
    audio, rate_hz = soundfile.read(wav)
    loud = np.flatnonzero(np.abs(audio).max(axis=1) > 1e-3)
    assert 0.7 < (loud[-1] - loud[0]) / rate_hz < 1.6, "the cable that is pulled lets its keys go"
    assert clicks(audio.astype(np.float32), rate_hz, 16_000) == []


def test_nobody_there() -> None:
    with pytest.raises(
        DarkrackError, match=r"an instrument at port \d+: expected it to listen|expected an answer"
    ):
        ask("sounds", [], free_port())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("keep",), "tell keep: expected NAME, got nothing"),
        (("undo", "it"), "tell undo it: expected nothing more, got it"),
        (
            ("knob", "Trumpet"),
            "tell knob Trumpet: expected ATTRIBUTE VALUE, a number at the end, got 'Trumpet'",
        ),
        (("knob", "0.5"), "tell knob 0.5: expected ATTRIBUTE VALUE, got nothing"),
        (("recall", "x", "--morph", "-1"), "--morph: expected 0 to 3600 seconds, got -1"),
        (("new", "--seed", "-1"), "--seed: expected 0 to 2147483647, got -1"),
    ],
)
def test_words_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    assert main(["tell", *words]) == 1
    assert capsys.readouterr().err.startswith(f"error: {expected}")


def test_every_verb_has_its_message() -> None:
    for verb, (address, takes, _) in VERBS.items():
        words = ["Singing", "bowl", "0.5"] if "VALUE" in takes else ["Singing", "bowl"] if takes else []
        said = message(verb, words)
        assert said[0] == address
        assert said[1][: len(takes)] == (["Singing bowl", 0.5][: len(takes)])
