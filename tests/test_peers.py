"""The peers' sizes against what is published, what they do to sound, and the command on a real small bundle."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from tiny_font import write_font

from benchmarks import ddsp, gansynth, ours, peers, rave
from device import bundle as bundles
from device.bundle import Bundle
from device.errors import DarkrackError
from device.generator import Generator

ROOT = Path(__file__).resolve().parent.parent


def learned(network: torch.nn.Module) -> int:
    return sum(one.numel() for one in network.parameters() if one.requires_grad)


# ---- RAVE ----


def test_rave_has_the_parameters_that_its_paper_says() -> None:
    """17.6 million with the encoder: a convolution of 7, four that halve the rate (2 r + 1 wide), one of 5 in two
    groups, batch norm before each of the four (configuration v1; Caillon and Esling 2021, table of models)."""
    shape = rave.V1
    widths = [shape.capacity << n for n in range(5)]  # 64 to 1024
    encoder = shape.bands * widths[0] * 7
    for before, after, ratio in zip(widths[:-1], widths[1:], shape.ratios, strict=True):
        encoder += 2 * before + before * after * (2 * ratio + 1)
    encoder += widths[-1] * 2 * shape.latent * 5 // 2
    assert learned(rave.Decoder(shape)) + encoder == pytest.approx(17.6e6, abs=0.05e6)


@pytest.mark.parametrize("shape", [rave.V1, rave.RASPBERRY])
def test_rave_makes_2048_samples_of_a_latent_frame(shape: rave.Shape) -> None:
    network = rave.Decoder(shape).eval()
    with torch.inference_mode():
        assert network(torch.randn(3, 128, 2)).shape == (3, 2 * 2048)
    assert shape.block_samples == 2048


def test_raves_blocks_join_to_what_one_call_makes() -> None:
    """Every convolution keeps what it has to; without the noise, which is drawn anew."""
    shape = dataclasses.replace(rave.RASPBERRY, capacity=4)
    whole, apart = rave.Decoder(shape).eval(), rave.Decoder(shape).eval()
    apart.load_state_dict(whole.state_dict())
    latent = torch.randn(1, 128, 6)
    with torch.inference_mode():
        once = whole(latent)
        joined = torch.cat([apart(latent[:, :, n : n + 2]) for n in (0, 2, 4)], dim=1)
        again = apart(latent)
    torch.testing.assert_close(joined, once, rtol=0, atol=1e-6 * float(once.abs().max()))
    assert not torch.allclose(again, once), "and the next call goes on"


def test_raves_filter_bank_gives_back_what_was_taken_apart() -> None:
    bands = 16
    sound = np.random.default_rng(0).standard_normal(16_000)
    apart = np.stack([np.convolve(sound, one)[::bands] for one in rave.bank(bands, synthesis=False)])
    with torch.inference_mode():
        made = rave.Synthesis(bands)(torch.from_numpy(apart[None].astype(np.float32)))[0].numpy()
    delay = rave.TAPS - 1
    kept = made[delay : delay + 12_000]
    error = kept - sound[: len(kept)]
    assert 10 * math.log10(np.mean(kept**2) / np.mean(error**2)) > 60


def test_a_band_of_the_filter_bank_is_where_it_belongs() -> None:
    one = torch.zeros(1, 16, 400)
    noise = np.random.default_rng(0).standard_normal(360).astype(np.float32)
    one[0, 5, :360] = torch.from_numpy(noise)  # and silence, until the filters have rung out
    with torch.inference_mode():
        power = np.abs(np.fft.rfft(rave.Synthesis(16)(one)[0].numpy())) ** 2
    share = power.reshape(-1)[: 16 * 200].reshape(16, 200).sum(axis=1)
    # The bank's neighbours overlap at the edges; what is further away is 100 dB under.
    assert share.argmax() == 5
    assert share[[*range(4), *range(7, 16)]].sum() < 1e-8 * share.sum()


# ---- DDSP ----


def test_ddsp_has_the_parameters_that_are_published() -> None:
    """About 6 million (Volhejn 2022, of the model as it is published); the tiny one .24 million (DDSP's own page)."""
    assert learned(ddsp.Decoder(ddsp.AUTOENCODER)) == pytest.approx(6e6, rel=0.1)
    assert learned(ddsp.Decoder(ddsp.TINY)) == pytest.approx(0.24e6, rel=0.04)


@pytest.mark.parametrize("shape", [ddsp.AUTOENCODER, ddsp.VST, ddsp.TINY])
def test_ddsp_makes_a_second_of_a_seconds_frames(shape: ddsp.Shape) -> None:
    network = ddsp.Decoder(shape).eval()
    with torch.inference_mode():
        made = network(ddsp.frames(shape, 2, shape.frame_rate_hz))
    assert made.shape == (2, 16_000)
    assert torch.isfinite(made).all()


def test_ddsps_oscillators_stand_at_the_harmonics_and_go_on() -> None:
    network = ddsp.Decoder(ddsp.AUTOENCODER)
    level, shares = torch.ones(1, 250, 1), torch.ones(1, 250, 100)
    first, second = network._harmonics(level, shares), network._harmonics(level, shares)
    sound = torch.cat([first, second], dim=1)[0].numpy()
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    hz = np.fft.rfftfreq(len(sound), 1 / ddsp.RATE_HZ)
    near = np.abs(hz / ddsp.F0_HZ - np.rint(hz / ddsp.F0_HZ)) * ddsp.F0_HZ < 3
    assert (spectrum[near] ** 2).sum() > 0.999 * (spectrum**2).sum()  # a jump of phase would smear it


def test_noise_follows_the_spectrum_that_is_asked_for() -> None:
    level = torch.zeros(400, 65)
    level[:, 16:33] = 1.0  # a quarter to a half of the band
    torch.manual_seed(0)
    power = rave.filtered_noise(level, 1024).numpy()
    spectrum = (np.abs(np.fft.rfft(power)) ** 2).mean(axis=0)
    inside = spectrum[round(0.27 * 512) : round(0.48 * 512)].mean()
    assert inside > 1000 * spectrum[round(0.7 * 512) :].mean()


# ---- GANSynth, DarkGAN ----


def test_gansynth_makes_what_it_is_published_to_make() -> None:
    """No figure of parameters of the generator alone is published; these are the paper's layers added up."""
    channels, inputs = gansynth.CHANNELS, 256 + 61
    assert channels == tuple(min(4096 >> n, 256) for n in range(1, 8))
    expected = inputs * 256 * 2 * 16 + 256 + 256 * 256 * 9 + 256
    for before, after in itertools.pairwise(channels):
        expected += (before + after) * after * 9 + 2 * after
    expected += 32 * 2 + 2
    network = gansynth.Generator().eval()
    assert learned(network) == expected
    with torch.inference_mode():
        made = network(torch.randn(1, 256), torch.eye(61)[:1])
    assert made.shape == (1, 2, 1024, 128)  # 2048/512 at 16 kHz for 4 s
    assert gansynth.GRID.samples >= 4 * 16_000


def test_the_papers_generator_is_the_one_that_train_has() -> None:
    network, recipe, example = peers._darkgan()
    assert sum(one.numel() for one in network.parameters()) == pytest.approx(8.71e6, abs=0.01e6)
    with torch.inference_mode():
        assert network(*example).shape == (1, 2, 1024, 32)
    assert recipe.grid.samples == 16_383
    from compress.prune import count_macs

    assert count_macs(network, example) == pytest.approx(11.86e9, abs=0.01e9)


# ---- Ours ----


def test_the_float32_twin_says_what_the_shipped_one_says(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Of the first bundle that ships: its int8 rounds activations, too, so the two differ by that and no more."""
    shipped = bundles.read(sorted((ROOT / "models").glob("*.rack"))[0])
    twin = ours.with_float32(shipped, tmp_path / "twin.rack")
    assert set(twin.manifest.variants) == {*shipped.manifest.variants, "float32"}
    preset = shipped.manifest.presets[0]
    made = {
        name: Generator(twin, name, reference=True).note(preset.z, preset.attributes, 60, 0.8, 1)
        for name in twin.manifest.variants
    }
    plays = made[shipped.manifest.default_variant]
    error = made["float32"] - plays
    assert 20 < 10 * math.log10(float((plays**2).sum() / (error**2).sum())) < 60
    assert len(twin.model("float32")) > 3 * len(twin.model())
    assert b"INT8" not in twin.model("float32")
    if "float32" in tiny_bundle.manifest.variants:
        assert ours.with_float32(tiny_bundle, tmp_path / "same.rack") is tiny_bundle


# ---- The command ----


@pytest.fixture(scope="module")
def figures(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("peers")
    out = folder / "peers.json"
    words = [
        str(tiny_bundle.path),
        "--only",
        "ddsp-vst",
        "rave-raspberry",
        "--rounds",
        "2",
        "--json",
        str(out),
    ]
    assert peers.main(words) == 0
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def test_what_it_writes_holds_its_schema(figures: dict[str, Any]) -> None:
    schema = json.loads(peers.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(figures)
    for spoilt in ({"rounds": 0}, {"peers": []}, {"more": 1}):
        assert not validator.is_valid({**figures, **spoilt})


def test_the_bundle_comes_first_and_is_its_own_yardstick(figures: dict[str, Any]) -> None:
    first, *others = figures["peers"]
    assert first["peer"] == peers.OURS
    assert {row["peer"] for row in others} == {"ddsp-vst", "rave-raspberry"}
    for kind in peers.KINDS:
        assert first["figures"][kind]["ratio"] == [1.0, 1.0, 1.0]
    for row in others:
        for figure in row["figures"].values():
            assert figure["ms"][1] <= figure["ms"][0] <= figure["ms"][2]
            assert figure["ratio"] is not None


def test_memory_is_of_a_process_of_its_own(figures: dict[str, Any]) -> None:
    mine, raspberry = figures["peers"][0], figures["peers"][1]
    for row in figures["peers"]:
        assert row["memory_peak_bytes"] > row["memory_before_bytes"] > 10 << 20
    assert mine["memory_before_bytes"] < raspberry["memory_before_bytes"], (
        "torch is in this process, not in that one"
    )


def test_the_table_has_a_line_for_each(figures: dict[str, Any]) -> None:
    page = peers.markdown(figures)
    for row in figures["peers"]:
        assert page.count(f"| {row['name']} |") == 3
    assert figures["machine"]["date"] in page


@pytest.mark.program("fluidsynth")
def test_fluidsynth_plays_and_stops(tmp_path: Path) -> None:
    from benchmarks.sampler import Sampler

    sampler = Sampler(write_font(tmp_path / "Tiny_GM.sf2"))
    assert np.abs(sampler.render(4800)).max() == 0
    sampler.start(0, 60)
    sounds = sampler.render(48_000)
    assert np.abs(sounds).max() > 0.01
    found_hz = np.abs(np.fft.rfft(sounds[0])).argmax()
    assert abs(found_hz - 261.6) < 2  # as tests/tiny_font.py made it
    sampler.silence()
    sampler.render(4800)
    assert np.abs(sampler.render(4800)).max() < 1e-6


@pytest.mark.program("fluidsynth")
def test_fluidsynth_is_a_peer_with_a_font(tiny_bundle: Bundle, tmp_path: Path) -> None:
    font = write_font(tmp_path / "Tiny_GM.sf2")
    peer = peers.fluidsynth(peers.Material(tiny_bundle.path, tiny_bundle.path, font))
    for task in peer.tasks.values():
        task()
    assert peer.bytes == font.stat().st_size


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.rack"], "nothing.rack"),
        (["BUNDLE", "--only", "fluidsynth"], "--soundfont"),
        (["BUNDLE", "--soundfont", "nothing.sf2"], "nothing.sf2"),
        (["BUNDLE", "--soundfont", "BUNDLE"], "a SoundFont"),
    ],
)
def test_bad_input_is_our_error(
    words: list[str], said: str, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert peers.main([str(tiny_bundle.path) if word == "BUNDLE" else word for word in words]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told


def test_a_bundle_of_samples_does_not_morph(
    tiny_samples_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert peers.main([str(tiny_samples_bundle.path), "--only", "darkrack", "--rounds", "1"]) == 1
    assert "a bundle on partials" in capsys.readouterr().err


def test_a_number_of_rounds_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        peers.main(["x.rack", "--rounds", "0"])
    assert caught.value.code == 2
    assert "a whole number from 1" in capsys.readouterr().err


@pytest.mark.program("fluidsynth")
def test_a_library_that_is_not_there_is_our_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks import sampler

    monkeypatch.setattr(sampler.ctypes.util, "find_library", lambda _: None)
    with pytest.raises(DarkrackError, match="none that is installed"):
        sampler.Sampler(write_font(tmp_path / "Tiny_GM.sf2"))


def test_the_page_shows_the_figures_that_were_measured() -> None:
    content = json.loads((ROOT / "docs" / "peers.json").read_text())
    jsonschema.validate(content, json.loads(peers.SCHEMA.read_text()))
    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    tables = [part for part in peers.markdown(content).split("\n\n") if part.startswith("|")]
    assert len(tables) == 5
    for table in tables:
        assert table in page, "docs/peers.md and docs/peers.json come from one run"
    assert content["command"] in re.sub(r"\\\n\s*", "", page)
