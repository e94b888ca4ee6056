"""`darkrack bench --loopback`: delays that are known are found, over a simulated cable and over JACK's own."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live import JackServer, jack_server, started

import darkrack
from device import loopback
from device.bundle import Bundle
from device.errors import DarkrackError
from device.loopback import Array, Duplex


def cable(delay: float, gain: float = 0.5, noise: float = 0.0, lost: bool = False) -> Duplex:
    """A device and a cable that delay by ``delay`` samples, exactly: by the phase of the spectrum."""

    def duplex(played: Array) -> tuple[Array, bool]:
        size = 2 * len(played)
        turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * delay)
        heard = gain * np.fft.irfft(np.fft.rfft(played, size) * turn, size)[: len(played)]
        heard += noise * np.random.default_rng(1).standard_normal(len(played))
        return heard.astype(np.float32), lost

    return duplex


@settings(max_examples=10)
@given(st.floats(0, 20_000), st.sampled_from([0.9, 0.01, -0.5]))
def test_any_delay_is_found_to_a_hundredth_of_a_sample(delay: float, gain: float) -> None:
    found = loopback.heard("a cable", 128, 5.0, cable(delay, gain))
    assert found.round_trips == pytest.approx([delay] * loopback.SWEEPS, abs=0.01)
    assert (found.missed, found.inverted) == (0, gain < 0)
    assert found.level_db == pytest.approx(20 * np.log10(abs(gain)), abs=0.3)


def test_it_is_found_in_noise_as_loud_as_itself_to_a_tenth() -> None:
    level = float(np.sqrt(np.mean(loopback.sweep() ** 2)))
    found = loopback.heard("a cable", 128, None, cable(517.37, 1.0, level))
    assert found.round_trips == pytest.approx([517.37] * loopback.SWEEPS, abs=0.1)


def test_a_filter_does_not_move_it_but_by_its_own_delay() -> None:
    """A converter's: symmetric, 41 samples, so 20 late."""
    taps = np.hanning(43)[1:-1] * np.sinc(0.8 * (np.arange(41) - 20))

    def duplex(played: Array) -> tuple[Array, bool]:
        heard, _ = cable(300.25)(played)
        return np.convolve(heard, taps / taps.sum())[: len(played)].astype(np.float32), False

    found = loopback.heard("a converter", 128, None, duplex)
    assert found.round_trips == pytest.approx([320.25] * loopback.SWEEPS, abs=0.02)


@pytest.mark.parametrize(("noise", "got"), [(0.0, "silence"), (0.1, "something else")])
def test_without_a_cable_nothing_is_measured(noise: float, got: str) -> None:
    with pytest.raises(DarkrackError) as caught:
        loopback.heard("a device", 128, None, cable(100.0, 0.0, noise))
    assert caught.value.got == got
    assert "cable" in caught.value.hint


def test_the_table_says_what_was_found() -> None:
    said = loopback.table(loopback.heard("a cable", 64, 5.0, cable(480.0, -0.5, lost=True)))
    assert "480.000 samples, 10.0000 ms" in said
    assert "measured is +5.0000 ms on that" in said
    assert "upside down" in said
    assert "samples were lost" in said
    jumps = iter([480.0, 483.0, 480.0, 480.0, 480.0, 480.0, 480.0, 480.0])

    def unsteady(played: Array) -> tuple[Array, bool]:
        every, lead = round(loopback.EVERY_S * 48_000), round(loopback.LEAD_S * 48_000)
        pieces = [played[:lead] * 0]
        for n, jump in enumerate(jumps):
            pieces.append(cable(jump)(played[lead + n * every : lead + (n + 1) * every])[0])
        return np.concatenate(pieces), False

    assert "not a figure to rely on" in loopback.table(loopback.heard("a cable", 64, None, unsteady))


@pytest.mark.program("portaudio")
def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert darkrack.main(["bench", "--loopback", "--audio", "Wunderlitzer"]) == 1
    assert "'Wunderlitzer'" in capsys.readouterr().err


# ---- over JACK ----


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JackServer]:
    with jack_server(tmp_path) as one:
        for name, value in one.environment.items():
            monkeypatch.setenv(name, value)
        yield one


def loopback_of(server: JackServer, *words: str | Path) -> tuple[int, str, str]:
    """The command in a process of its own: PortAudio knows the devices that were there when it was first asked."""
    process = started("bench", "--loopback", "--audio", "system", *words, **server.environment)
    said, errors = process.communicate(timeout=120)
    return process.returncode, said, errors


def connect_until(ended: threading.Event) -> None:
    """The cable: a program that connects our output with our input, whenever they appear."""
    while not ended.wait(0.05):
        listed = subprocess.run(["jack_lsp"], capture_output=True, text=True, check=False).stdout.split()
        outs = [port for port in listed if port.startswith("PortAudio") and "out" in port]
        ins = [port for port in listed if port.startswith("PortAudio") and "in" in port]
        for out, into in zip(outs[:1], ins[:1], strict=False):
            subprocess.run(["jack_connect", out, into], capture_output=True, check=False)


@pytest.mark.program("jackd", "portaudio", "jack_connect")
def test_jacks_own_cable_takes_whole_blocks(server: JackServer, tmp_path: Path) -> None:
    """JACK hands what a client plays to its input a period of 128 frames later, and PortAudio keeps whole periods."""
    ended = threading.Event()
    plug = threading.Thread(target=connect_until, args=(ended,), daemon=True)
    plug.start()
    out = tmp_path / "loopback.json"
    try:
        status, said, errors = loopback_of(server, "--json", out)
    finally:
        ended.set()
        plug.join(10)
    assert status == 0, errors
    assert "round trip" in said
    found = json.loads(out.read_text())
    steady = [trip for trip in found["round_trips"] if abs(trip - round(trip)) < 0.01]
    assert len(steady) >= 4  # where a period was missed in the middle of a sweep, nothing is promised
    assert {round(trip) % 128 for trip in steady} == {0}
    assert 128 <= min(steady) <= 20 * 128
    assert found["inverted"] is False
    assert found["level_db"] == pytest.approx(0, abs=1.5)


@pytest.mark.program("jackd", "portaudio")
def test_without_a_cable_jack_is_silent(server: JackServer) -> None:
    status, _, errors = loopback_of(server)
    assert status == 1
    assert "got silence" in errors


@pytest.mark.program("jackd", "portaudio")
def test_what_a_device_says_that_it_buffers_is_stated(
    server: JackServer, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "bench.json"
    words = ["bench", tiny_bundle.path, "--quick", "--parts", "voices", "--audio", "system", "--json", out]
    process = started(*words, **server.environment)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found = json.loads(out.read_text())["output"]
    assert (found["device"], found["block_frames"]) == ("system", 128)
    assert found["stated_ms"] >= 0
