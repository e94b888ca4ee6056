from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from teachers import cnn14_state, plucked, write_classes

from device.errors import DarkrackError
from train import cnn14
from train.teacher import Teacher, load_teacher

PUBLISHED_BYTES = 327_428_481  # Cnn14_mAP=0.431.pth, as those who downloaded it report


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return cnn14_state()


@pytest.fixture(scope="module")
def weights(state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the published names and shapes, and the list of its classes beside it."""
    path = tmp_path_factory.mktemp("cnn14") / "Cnn14.pth"
    torch.save({"iteration": 600_000, "model": state}, path)
    write_classes(path.with_name("audioset_527.csv"), 527)
    return path


@pytest.fixture(scope="module")
def teacher(weights: Path) -> Teacher:
    return load_teacher("cnn14", weights)


def _refused(state: dict[str, Any], path: Path, problem: str) -> DarkrackError:
    torch.save({"model": state}, path)
    with pytest.raises(DarkrackError, match=problem) as caught:
        cnn14.load(path, "Zenodo")
    return caught.value


def test_names_and_shapes_add_up_to_the_published_file(state: dict[str, Any]) -> None:
    stored = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert 0 < PUBLISHED_BYTES - stored < 20_000  # what torch.save writes about 84 tensors


def test_a_checkpoint_is_heard_through(teacher: Teacher) -> None:
    assert (teacher.sample_rate_hz, teacher.embedding_size, len(teacher.classes)) == (32_000, 2048, 527)
    assert not teacher.official
    notes = np.stack([plucked(48, 0.2), plucked(60, 0.9)])
    logits, embeddings = teacher.hear(notes, 48_000)
    assert logits.shape == (2, 527)
    assert embeddings.shape == (2, 2048)
    assert logits.dtype == embeddings.dtype == np.float32
    assert np.isfinite(logits).all()
    assert (embeddings >= 0).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    alone, _ = teacher.hear(notes[1:], 48_000)
    np.testing.assert_allclose(alone[0], logits[1], atol=1e-4)
    quieter, _ = teacher.hear(0.03 * notes, 48_000)
    np.testing.assert_allclose(quieter, logits, atol=2e-3)


def test_silence_is_heard_at_the_floor(teacher: Teacher) -> None:
    np.testing.assert_allclose(cnn14.log_mel(np.zeros((1, 32_000), np.float32)), -100.0, atol=1e-4)
    logits, _ = teacher.hear(np.zeros((1, 100), np.float32), 48_000)
    assert np.isfinite(logits).all()


def test_the_front_end_is_librosa_s() -> None:
    audio = np.stack([plucked(60, 0.5), plucked(40, 0.9)])[:, :32_000]
    ours = cnn14.log_mel(audio)
    assert ours.shape == (2, 101, 64)
    for one, bands in zip(audio, ours, strict=True):
        power = librosa.feature.melspectrogram(
            y=one,
            sr=32_000,
            n_fft=1024,
            hop_length=320,
            window="hann",
            center=True,
            pad_mode="reflect",
            power=2.0,
            n_mels=64,
            fmin=50.0,
            fmax=14_000.0,
        )
        theirs = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T
        # Where a band lies 120 dB under the peak, float32 transforms leave different roundings.
        np.testing.assert_allclose(10 ** (bands / 10), 10 ** (theirs / 10), rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(bands, theirs, atol=0.5)
        assert np.abs(bands - theirs).mean() < 0.005


def test_the_front_end_is_the_stored_matrices() -> None:
    """The same bands by the way of the published code: a convolution with stored cosines and sines."""
    audio = plucked(60, 0.5)[None, :32_000]
    tables = cnn14.front_end_tables()
    padded = torch.nn.functional.pad(torch.from_numpy(audio)[:, None], (512, 512), mode="reflect")
    real, imaginary = (
        torch.nn.functional.conv1d(
            padded, tables[f"spectrogram_extractor.stft.conv_{part}.weight"], stride=320
        )
        for part in ("real", "imag")
    )
    bands = (real**2 + imaginary**2).transpose(1, 2) @ tables["logmel_extractor.melW"]
    np.testing.assert_allclose(10 ** (cnn14.log_mel(audio) / 10), bands, rtol=1e-4, atol=1e-8)


def test_the_network_is_what_the_paper_describes(state: dict[str, Any], tmp_path: Path) -> None:
    """With kernels that only average over channels and dense layers that pass on, it can be worked out.

    Thirteen batch norms divide by sqrt(1 + 1e-5) each; five poolings leave means over 32 frames and 32 bands;
    then the mean over frequency, the maximum plus the mean over time. bn0 silences the upper 32 bands, so the
    mean over frequency is half the lower ones': that it works along the mel axis.
    """
    simple = dict(state)
    for name, value in state.items():
        if value.ndim == 4:
            kernel = torch.zeros(1, 1, 3, 3)
            kernel[..., 1, 1] = 1.0 / value.shape[1]
            simple[name] = kernel.expand(value.shape)
    simple["bn0.weight"] = (torch.arange(64) < 32).float()
    simple["fc1.weight"] = torch.eye(2048)
    simple["fc1.bias"] = torch.zeros(2048)
    simple["fc_audioset.weight"] = 2 * torch.eye(2048)[:527]
    simple["fc_audioset.bias"] = torch.full((527,), -1.0)
    torch.save({"model": simple}, tmp_path / "simple.pth")
    bands = np.random.default_rng(1).uniform(0, 9, (2, 101, 64)).astype(np.float32)
    logits, embeddings = cnn14.hear(cnn14.load(tmp_path / "simple.pth", ""), bands)
    means = bands[:, :96, :32].reshape(2, 3, 32 * 32).mean(axis=2) / 2 * (1 + 1e-5) ** -6.5
    expected = means.max(axis=1) + means.mean(axis=1)
    assert expected[0] != pytest.approx(expected[1], abs=0.01)
    np.testing.assert_allclose(embeddings, np.tile(expected[:, None], 2048), rtol=1e-4)
    np.testing.assert_allclose(logits, np.tile(2 * expected[:, None] - 1, 527), rtol=1e-4)


def test_batch_norm_uses_what_was_learned(state: dict[str, Any], tmp_path: Path) -> None:
    shifted = state | {"bn0.running_mean": torch.full((64,), -50.0)}
    torch.save({"model": state}, tmp_path / "plain.pth")
    torch.save({"model": shifted}, tmp_path / "shifted.pth")
    bands = np.random.default_rng(1).uniform(-90, 0, (1, 101, 64)).astype(np.float32)
    plain, _ = cnn14.hear(cnn14.load(tmp_path / "plain.pth", ""), bands + 50)
    moved, _ = cnn14.hear(cnn14.load(tmp_path / "shifted.pth", ""), bands)
    np.testing.assert_allclose(moved, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("fc1.bias"), "no fc1.bias"),
        (lambda state: state.pop("logmel_extractor.melW"), "no logmel_extractor.melW"),
        (lambda state: state.pop("conv_block3.bn2.running_var"), r"no conv_block3\.bn2\.running_var"),
        (lambda state: state.update({"fc2.weight": torch.zeros(1)}), "also fc2.weight"),
        (
            lambda state: state.update({"fc_audioset.weight": torch.zeros(50, 2048)}),
            r"fc_audioset.weight float32 \(50, 2048\)",
        ),
        (lambda state: state.update({"bn0.bias": torch.zeros(128)}), r"bn0.bias float32 \(128,\)"),
        (lambda state: state.update({"bn0.bias": torch.zeros(64).half()}), r"bn0.bias float16"),
        (lambda state: state.update({"bn0.bias": [0.0] * 64}), "bn0.bias of type list"),
        (lambda state: state.update({"bn0.bias": torch.full((64,), np.nan)}), "finite weights"),
        (
            lambda state: state.update({"logmel_extractor.melW": 1.01 * state["logmel_extractor.melW"]}),
            "the front end of CNN14 at 32000 Hz",
        ),
        (
            lambda state: state.update(
                {
                    "spectrogram_extractor.stft.conv_real.weight": state[
                        "spectrogram_extractor.stft.conv_imag.weight"
                    ]
                }
            ),
            "the front end of CNN14 at 32000 Hz",
        ),
    ],
)
def test_another_state_dict_is_refused(
    state: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    changed = dict(state)
    change(changed)
    error = _refused(changed, tmp_path / "other.pth", problem)
    assert "other.pth" in error.where
    assert error.hint == "Zenodo"


def test_many_problems_are_counted(state: dict[str, Any], tmp_path: Path) -> None:
    few = {name: tensor for name, tensor in state.items() if not name.startswith("conv_block6")}
    _refused(few, tmp_path / "few.pth", "no conv_block6.conv1.weight, and 11 more such")


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"model": 3}, [1, 2], torch.zeros(3)])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(DarkrackError, match="a checkpoint with a dict 'model'"):
        cnn14.load(tmp_path / "other.pth", "")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x02 no pickle", bytes(3000)])
def test_a_file_that_is_no_checkpoint_is_refused(weights: Path, content: bytes) -> None:
    path = weights.with_name("other.pth")
    path.write_bytes(content)
    with pytest.raises(DarkrackError, match="a checkpoint of torch") as caught:
        load_teacher("cnn14", path)
    assert "Zenodo" in caught.value.hint


def test_half_a_download_is_refused(weights: Path) -> None:
    path = weights.with_name("half.pth")
    path.write_bytes(weights.read_bytes()[:-100_000])
    with pytest.raises(DarkrackError, match="a checkpoint of torch"):
        load_teacher("cnn14", path)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"model": _Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"model": _Bomb()}, protocol=2))
    for name in ("bomb.pth", "pickle.pth"):
        with pytest.raises(DarkrackError, match="a checkpoint of torch"):
            cnn14.load(tmp_path / name, "")


def test_the_format_of_2020_with_a_sampler_s_state_is_read(state: dict[str, Any], tmp_path: Path) -> None:
    """PANNs were saved before torch's zip format, some with NumPy 1 arrays of the sampler's."""
    path = tmp_path / "old.pth"
    content = {"iteration": 1, "model": state, "sampler": {"indexes": np.arange(5), "pointer": 3}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    assert b"numpy._core.multiarray" in raw
    path.write_bytes(raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert isinstance(cnn14.load(path, ""), cnn14.Cnn14)


def test_another_list_of_classes_is_refused(weights: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "few.csv", 521)
    with pytest.raises(DarkrackError, match="527 classes, got 521"):
        load_teacher("cnn14", weights, tmp_path / "few.csv")
