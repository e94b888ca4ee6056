"""The teacher `cnn14`: PANN CNN14 (Kong et al. 2020), our implementation, with the published checkpoint's names.

It was never run on the published checkpoint, `Cnn14_mAP=0.431.pth` of Zenodo record 3987831, which was not at
hand. What is proved is that names and shapes are those (they add up to its size), that the front end is the
tables that it stores, and that the network is what the paper describes.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from device.errors import DarkrackError
from train.teacher import first_line, power_spectra

Floats = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 32_000
CLASSES = 527
EMBEDDING_SIZE = 2048
_FFT = 1024
_HOP = 320  # 10 ms
_BANDS = 64
_LOW_HZ, _TOP_HZ = 50.0, 14_000.0
_LEAST_POWER = 1e-10  # -100 dB
_CHANNELS = (1, 64, 128, 256, 512, 1024, 2048)
_TABLE_TOLERANCE = 1e-4  # of a table's largest entry


def log_mel(audio: Floats) -> Floats:
    """Log mel bands (B, 1 + samples // 320, 64) of ``audio`` (B, samples) at 32 kHz, in dB.

    Centred frames of 1024 points every 320, reflected at the ends, periodic Hann; power; 64 Slaney mel bands
    from 50 to 14000 Hz; 10 log10, not under -100 dB.
    """
    padded = np.pad(audio, ((0, 0), (_FFT // 2, _FFT // 2)), mode="reflect")
    power = power_spectra(padded, 1 + audio.shape[1] // _HOP, _HOP, _window(), _FFT)
    decibels: Floats = np.float32(10) * np.log10(np.maximum(power @ _mel(), np.float32(_LEAST_POWER)))
    return decibels


@lru_cache(maxsize=1)
def _window() -> Floats:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)


@lru_cache(maxsize=1)
def _mel() -> Floats:
    import librosa

    bands = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=_FFT, n_mels=_BANDS, fmin=_LOW_HZ, fmax=_TOP_HZ)
    return np.ascontiguousarray(bands.T, np.float32)


def front_end_tables() -> dict[str, Tensor]:
    """What the checkpoint stores of its front end, by name: windowed cosines and sines, mel bands; float32."""
    turn = np.arange(_FFT // 2 + 1)[:, None] * np.arange(_FFT)[None] % _FFT  # whole turns cost no precision
    angle = 2 * np.pi * turn / _FFT
    tables = {
        "spectrogram_extractor.stft.conv_real.weight": (np.cos(angle) * _window())[:, None],
        "spectrogram_extractor.stft.conv_imag.weight": (-np.sin(angle) * _window())[:, None],
        "logmel_extractor.melW": _mel(),
    }
    return {name: torch.from_numpy(table.astype(np.float32)) for name, table in tables.items()}


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU, then the mean over ``pool`` x ``pool``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, pool: int) -> Tensor:
        """(B, inputs, frames, bands) to (B, outputs, frames // pool, bands // pool)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, pool)


class Cnn14(nn.Module):
    """The network behind the log mel bands; its attributes are called as in the published checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(_BANDS)
        for number, (inputs, outputs) in enumerate(pairwise(_CHANNELS), start=1):
            self.add_module(f"conv_block{number}", ConvBlock(inputs, outputs))
        self.fc1 = nn.Linear(_CHANNELS[-1], EMBEDDING_SIZE)
        self.fc_audioset = nn.Linear(EMBEDDING_SIZE, CLASSES)

    def forward(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 527) and embeddings (B, 2048) of ``bands`` (B, frames >= 32, 64)."""
        x = self.bn0(bands.transpose(1, 2)[..., None]).transpose(1, 3)  # (B, 1, frames, 64): norm by band
        for number in range(1, len(_CHANNELS)):
            x = self.get_submodule(f"conv_block{number}")(x, 2 if number < len(_CHANNELS) - 1 else 1)
        x = x.mean(dim=3)
        embedding = F.relu(self.fc1(x.amax(dim=2) + x.mean(dim=2)))
        return self.fc_audioset(embedding), embedding


def load(path: Path, where_to_get: str) -> Cnn14:
    """The network with the weights in ``path``, ready to run: a dict that holds a state dict as ``model``.

    Raises DarkrackError for a file that torch cannot read, for a name or shape that is missing, other or one
    too many, for values that are not finite, and for tables of a front end that is not ours.
    """
    stored = _read(path, where_to_get)
    with torch.device("meta"):  # no time spent on weights that are replaced
        network = Cnn14().eval()
    tables = front_end_tables()
    expected = network.state_dict() | tables
    problems = [f"no {name}" for name in expected if name not in stored]
    problems += [f"also {name}" for name in stored if name not in expected]
    problems += [
        f"{name} {_described(value)}"
        for name, value in stored.items()
        if name in expected and _described(value) != _described(expected[name])
    ]
    if problems:
        more = f", and {len(problems) - 1} more such" if len(problems) > 1 else ""
        raise DarkrackError(
            str(path), "the names and shapes of Cnn14_mAP=0.431.pth", problems[0] + more, where_to_get
        )
    unfinished = next((name for name, value in stored.items() if not torch.isfinite(value).all()), None)
    if unfinished is not None:
        raise DarkrackError(f"{path}, {unfinished}", "finite weights", "NaN or infinity", where_to_get)
    for name, table in tables.items():
        error = float((stored.pop(name) - table).abs().max() / table.abs().max())
        if error > _TABLE_TOLERANCE:
            raise DarkrackError(
                f"{path}, {name}",
                f"the front end of CNN14 at {SAMPLE_RATE_HZ} Hz, to {_TABLE_TOLERANCE:g}",
                f"one that is {error:.2g} off",
                where_to_get,
            )
    network.load_state_dict(stored, assign=True)
    return network


def hear(network: Cnn14, bands: Floats) -> tuple[Floats, Floats]:
    """Logits (B, 527) and embeddings (B, 2048), float32, of log mel bands (B, frames >= 32, 64)."""
    with torch.inference_mode():
        logits, embeddings = network(torch.from_numpy(bands))
    return logits.numpy(), embeddings.numpy()


def _read(path: Path, where_to_get: str) -> dict[str, Any]:
    """The state dict in a checkpoint, read without running anything that the file says.

    Published PANNs keep the state of their sampler too, arrays of integers, as NumPy 1 pickled them.
    """
    rebuild: Any = np.empty(0).__reduce__()[0]
    integers: list[Any] = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    integers += [np.ndarray, np.dtype, type(np.dtype(np.int64))]
    try:
        with torch.serialization.safe_globals(integers):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load lets through whatever a damaged file provokes
        raise DarkrackError(str(path), "a checkpoint of torch", first_line(error), where_to_get) from error
    stored = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not isinstance(stored, dict):
        raise DarkrackError(str(path), "a checkpoint with a dict 'model'", "none", where_to_get)
    return dict(stored)


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
