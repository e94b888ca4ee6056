"""`darkrack play` as a user runs it: all of its processes, real time, signals, faults; and what it refuses."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from header import on_a_header
from live import jack_server, line_with, played, reported, started

from darkrack import main
from device import play
from device.bundle import Bundle
from device.play import SAMPLE_RATE_HZ, WATCHED_S, Watch
from device.recording import clicks, level

LIMIT_HZ = 16_000.0
FAULTS = """
seconds = 9
[gate]
rate_hz = 5
[pitch]
random = [48, 72]
[[keys]]
notes = [[0, 8.5, 43, 90], [0, 8.5, 50, 90]]
[pot.1]
wave = "sine"
period_s = 1.5
[[fault]]
kind = "kill worker"
at_s = 1
[[fault]]
kind = "audio lost"
at_s = 2.5
seconds = 0.8
[[fault]]
kind = "nan"
at_s = 4.2
count = 3
[[fault]]
kind = "hang worker"
at_s = 5
seconds = 0.7
[[fault]]
kind = "adc garbage"
at_s = 6
seconds = 0.3
[[fault]]
kind = "bundle"
at_s = 7
"""


def sound_of(path: Path) -> np.ndarray:
    audio, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    assert audio.shape[1] == 2
    assert np.isfinite(audio).all()
    return np.asarray(audio)


def test_it_plays_a_script_live_and_says_what_happened(tiny_bundle: Bundle, tmp_path: Path) -> None:
    wav, json = tmp_path / "out.wav", tmp_path / "out.json"
    words = (
        tiny_bundle.path,
        "--script",
        "hello",
        "--audio",
        "null",
        "--seconds",
        "4",
        "--wav",
        wav,
        "--json",
        json,
    )
    status, said, errors = played(*words)
    assert status == 0, errors
    report = reported(json)
    counts = report["counts"]
    assert counts["notes"] >= 10
    assert counts["generated"] > counts["notes"]
    assert counts["morphs"] > 0  # the pots move
    assert report["stuck_voices"] == report["clicks"] == counts["not_finite"] == counts["network_faults"] == 0
    assert counts["worker_starts"] == counts["control_starts"] == 1
    assert report["callback"]["p50_ms"] > 0
    sound = sound_of(wav)
    assert len(sound) > 4 * SAMPLE_RATE_HZ
    assert -40 < level(sound).rms_dbfs < -6
    assert clicks(sound, SAMPLE_RATE_HZ, LIMIT_HZ) == []
    assert "notes" in said
    assert str(wav) in said


def test_faults_are_survived_and_counted_while_sound_goes_on(tiny_bundle: Bundle, tmp_path: Path) -> None:
    script, wav, json = tmp_path / "faults.toml", tmp_path / "out.wav", tmp_path / "out.json"
    script.write_text(FAULTS)
    words = ("--script", script, "--audio", "null", "--wav", wav, "--json", json, "--log", "error")
    status, _, errors = played(tiny_bundle.path, tiny_bundle.path, *words)
    assert status == 0, errors
    report = reported(json)
    counts, planted = report["counts"], report["planted"]
    assert planted == dict.fromkeys(
        ("kill worker", "audio lost", "nan", "hang worker", "adc garbage", "bundle"), 1
    )
    assert counts["worker_starts"] == 2
    assert counts["network_faults"] == 3
    assert counts["adc_faults"] > 0
    assert (report["audio"]["lost"], report["audio"]["found"]) == (1, 1)
    assert report["stuck_voices"] == report["clicks"] == 0
    sound = sound_of(wav)
    # The held notes sound in every half second but where nobody asked for samples.
    halves = [level(sound[at : at + 24_000]).rms_dbfs for at in range(12_000, len(sound) - 84_000, 24_000)]
    assert min(halves) > -45


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_fades_out_and_keeps_what_was_played(
    tiny_bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    script, wav, json = tmp_path / "held.toml", tmp_path / "out.wav", tmp_path / "out.json"
    script.write_text("seconds = 600\n[[keys]]\nnotes = [[0, 599, 57, 100]]\n")
    process = started(
        "play", tiny_bundle.path, "--script", script, "--audio", "null", "--wav", wav, "--json", json
    )
    try:
        assert "playing" in line_with("playing", process)
        time.sleep(2.0)
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    sound = sound_of(wav)
    assert level(sound[SAMPLE_RATE_HZ // 2 : SAMPLE_RATE_HZ]).rms_dbfs > -40
    assert np.abs(sound[-256:]).max() == 0
    assert clicks(sound, SAMPLE_RATE_HZ, LIMIT_HZ) == []
    assert reported(json)["clicks"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_offline_clock_with_a_report(
    tiny_bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    wav, json = tmp_path / "out.wav", tmp_path / "out.json"
    words = ("--script", "hello", "--offline", "--seconds", "500000", "--wav", wav, "--json", json)
    process = started("play", tiny_bundle.path, *words)
    try:
        until_s = time.monotonic() + 60
        while not any(tmp_path.glob(".out.*")) and time.monotonic() < until_s:
            time.sleep(0.1)
        time.sleep(3.0)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    report = reported(json)
    assert 0 < report["seconds"] < 500_000
    assert report["stuck_voices"] == 0
    assert len(sound_of(wav)) >= report["seconds"] * SAMPLE_RATE_HZ


def test_the_computers_keyboard_plays(tiny_bundle: Bundle, tmp_path: Path) -> None:
    wav, json = tmp_path / "out.wav", tmp_path / "out.json"
    person, terminal = pty.openpty()
    words = ("--keys", "--audio", "null", "--wav", wav, "--json", json)
    process = started("play", tiny_bundle.path, *words, stdin=terminal)
    try:
        assert "null" in line_with("playing", process)
        time.sleep(0.5)
        for key in (b"a", b"d", b"g"):
            os.write(person, key)
            time.sleep(0.3)
        os.write(person, b"q")
        process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(person)
        os.close(terminal)
    assert process.returncode == 0
    report = reported(json)
    assert report["counts"]["notes"] == 3
    assert report["stuck_voices"] == report["clicks"] == 0
    assert level(sound_of(wav)).rms_dbfs > -50


def test_partials_and_samples_follow_each_other_offline(
    tiny_bundle: Bundle, tiny_samples_bundle: Bundle, tmp_path: Path
) -> None:
    """Half a minute of everything at once on each, on the clock that needs no real time."""
    wav, json = tmp_path / "out.wav", tmp_path / "out.json"
    words = ["--script", "stress", "--seconds", "45", "--offline", "--wav", str(wav), "--json", str(json)]
    paths = [str(tiny_bundle.path), str(tiny_samples_bundle.path)]
    assert main(["play", *paths, *words]) == 0
    report = reported(json)
    counts = report["counts"]
    assert report["planted"] == {"nan": 6, "adc garbage": 1, "bundle": 1, "hang worker": 1}
    assert counts["network_faults"] == 12
    assert counts["adc_faults"] > 0
    assert counts["notes"] > 45 * 20
    assert report["stuck_voices"] == report["clicks"] == counts["not_finite"] == counts["lost_events"] == 0
    sound = sound_of(wav)
    for second in range(1, 45):
        assert level(sound[second * SAMPLE_RATE_HZ : (second + 1) * SAMPLE_RATE_HZ]).rms_dbfs > -45


@pytest.mark.program("jackd", "portaudio")
def test_a_sound_card_that_goes_and_comes_back_needs_no_restart(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Through PortAudio and JACK, whose server is killed as a cable is pulled: without a word."""
    script, json = tmp_path / "held.toml", tmp_path / "out.json"
    script.write_text("seconds = 20\n[gate]\nrate_hz = 4\n[pitch]\nrandom = [48, 60]\n")
    with jack_server(tmp_path) as server:
        words = ("--script", script, "--audio", "system", "--json", json)
        process = started("play", tiny_bundle.path, *words, **server.environment)
        try:
            assert "system" in line_with("playing", process)
            time.sleep(3.0)
            server.die()
            time.sleep(3.0)
            server.start()
            said, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    report = reported(json)
    assert report["audio"]["device"] == "system"
    assert report["audio"]["latency_ms"] > 0
    assert (report["audio"]["lost"], report["audio"]["found"]) == (1, 1)
    assert report["clicks"] == report["stuck_voices"] == 0
    assert report["counts"]["notes"] >= 70
    assert "found again 1" in said


@pytest.mark.parametrize(
    ("words", "where", "hint"),
    [
        (["--script", "hello", "--seconds", "0"], "--seconds: expected 0.1 to", ""),
        (["--script", "hello", "--offline"], "--offline: expected --seconds", "--seconds 60"),
        (["--keys", "--offline", "--seconds", "3"], "--keys: expected a clock", "leave one"),
        (
            ["--script", "hello", "--offline", "--seconds", "3", "--frames-ms", "0"],
            "--frames-ms: expected 0.01",
            "",
        ),
        (["--script", "hello", "--voices", "17"], "--voices: expected 1 to 16", ""),
        (["--script", "hello", "--wav", "x.mp3"], "--wav x.mp3: expected a name that ends in .wav", ""),
        (
            ["--midi", "none", "--osc", "0"],
            "--profile sim: expected --script, --keys, --midi or --osc",
            "hello",
        ),
        (["--midi", "Nobody's"], 'MIDI port "Nobody\'s": expected a port that is there', "plug it in"),
        (["--osc", "70000"], "--osc: expected a port from 1 to 65535, or 0, got 70000", ""),
        (
            ["--profile", "pi4", "--script", "hello"],
            "--profile pi4: expected a simulated module for it",
            "sim",
        ),
        (["--script", "nothing-of-the-kind"], "nothing-of-the-kind", "stress"),
        (["--script", "hello", "--profile", "eurorack"], "eurorack", "sim"),
        (["--script", "hello", "--preset", "Rede"], "Rede", "Reed"),
        (["--script", "hello", "--variant", "int3", "--audio", "null"], "int3", "--variants"),
    ],
)
def test_it_refuses_what_cannot_be_played(
    tiny_bundle: Bundle,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    where: str,
    hint: str,
) -> None:
    assert main(["play", str(tiny_bundle.path), *words]) == 1
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert where in said
    assert hint in said
    assert "Traceback" not in said


@pytest.mark.program("portaudio")
def test_a_device_that_is_not_there_is_refused_by_name(tiny_bundle: Bundle) -> None:
    status, _, errors = played(tiny_bundle.path, "--script", "hello", "--audio", "Wunderlitzer")
    assert status == 1
    assert "error: audio device: expected 'Wunderlitzer'" in errors
    assert "hint: --audio null" in errors
    assert "Traceback" not in errors


def test_the_watch_finds_a_click_wherever_a_minute_ends() -> None:
    """It looks at a minute at a time; what lies at the seam is counted once."""
    rate = SAMPLE_RATE_HZ
    seconds = 2 * WATCHED_S + 3
    sound = np.zeros((seconds * rate, 2), np.float32)
    sound += 0.1 * np.sin(2 * np.pi * 330 * np.arange(len(sound)) / rate)[:, np.newaxis].astype(np.float32)
    places = [
        5 * rate,
        WATCHED_S * rate - 3,
        WATCHED_S * rate + 4800,
        2 * WATCHED_S * rate - rate // 5,
        len(sound) - 4800,
    ]
    sound[places] += 0.3
    watch = Watch(LIMIT_HZ)
    for begin in range(0, len(sound), 4096):
        watch.hear(sound[begin : begin + 4096])
    watch.finish()
    found = clicks(sound, rate, LIMIT_HZ)
    assert watch.clicks == len(found) >= len(places)
    assert watch.clicks_s == pytest.approx(found, abs=1e-3)
    assert watch.listened_s == pytest.approx(seconds, abs=1 / rate)
    assert watch.peak == pytest.approx(np.abs(sound).max())


def test_a_board_says_by_its_light_that_there_is_nothing_to_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    header = on_a_header(monkeypatch, "c03115")
    shown: list[tuple[int, int]] = []
    write = header._write
    sys.modules["lgpio"].__dict__["gpio_write"] = lambda chip, line, level: (
        shown.append((line, int(level))) or write(chip, line, level)
    )
    monkeypatch.setattr(play, "NOTHING_TO_PLAY_S", 1.2)
    try:
        assert main(["play", str(tmp_path / "none.rack"), "--profile", "pi4", "--midi", "none"]) == 1
    finally:
        header.end()
    assert "none.rack" in capfd.readouterr().err
    assert shown[:4] == [(27, 1), (27, 0), (27, 1), (27, 0)], "it blinks"
    assert (header.levels[27], header.modes[27]) == (0, 0), "dark, and given back"
