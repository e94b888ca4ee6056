"""The teachers: taggers whose soft labels the generator learns and whose ears judge it, each with its own.

A tagger is a network that takes a spectrogram; the front end before it is ours. The networks see the
logarithm of very small powers, so what lies 80 dB under full scale still moves their logits: a front end has
to be the right one, not a similar one. The descriptors are heard through the same door (train.descriptors).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import read_bytes

Floats = npt.NDArray[np.float32]
Infer = Callable[[Floats], tuple[Floats, Floats]]  # logits and embeddings of what a front end made

HEARD_S = 1.0  # of every note; the paper's length too
LISTENING_DBFS = -15.0  # NSynth's notes, most of them normalised to peaks near 1, have a median of about this
# Laid under notes that are compared. On 60 NSynth and 200 FluidR3 notes it leaves .97 to .99 of each class's
# correlation and a third of what 16-bit dither moves logits by (mn04 on NSynth: two thirds); 5 dB more cost up to .04.
BED_DBFS = -90.0
BATCH_NOTES = 8  # 3 MB of frames a batch stay in the second-level cache


@dataclass(frozen=True)
class Teacher:
    """A tagger that hears notes.

    ``classes`` are the names of its outputs in order. ``weights_sha256`` is over all that decides what it
    says: of an ONNX network the file and the ``.data`` file beside it, of the descriptors their version and
    calibration. ``official`` says that this is the one we know.

    ``front_end`` makes of a second (B, sample_rate_hz) at listening level what ``infer`` takes; ``infer``
    makes of that logits (B, C) and embeddings (B, E), float32. Both are safe to call from several threads.
    """

    name: str
    classes: tuple[str, ...]
    sample_rate_hz: int
    embedding_size: int
    weights_sha256: str
    official: bool
    front_end: Callable[[Floats], Floats] = field(repr=False)
    infer: Infer = field(repr=False)

    def hear(
        self, audio: Floats, sample_rate_hz: int, bed_dbfs: float | None = None
    ) -> tuple[Floats, Floats]:
        """Logits (B, C) and embeddings (B, E), float32, of the first second of ``audio`` (B, samples).

        Shorter audio is followed by silence. The first second is cut, brought to the listening level and then
        resampled (soxr, HQ), so neither what follows it nor its level changes anything. ``bed_dbfs`` then lays
        the noise of ``noise_bed`` under every note, whatever rate it came at: for comparing kinds of notes,
        never for labels. Safe to call from several threads.

        Raises DarkrackError for audio that is not (B, samples), not finite, or of an impossible rate, for a
        bed that is no level below 0 dBFS, and for a network that does not answer in numbers.
        """
        check_audio(audio, sample_rate_hz)
        logits = np.empty((len(audio), len(self.classes)), np.float32)
        embeddings = np.empty((len(audio), self.embedding_size), np.float32)
        for begin in range(0, len(audio), BATCH_NOTES):
            batch = slice(begin, begin + BATCH_NOTES)
            second = heard_second(audio[batch], sample_rate_hz, self.sample_rate_hz)
            if bed_dbfs is not None:
                second += noise_bed(self.sample_rate_hz, bed_dbfs)
            logits[batch], embeddings[batch] = self.infer(self.front_end(second))
        if not (np.isfinite(logits).all() and np.isfinite(embeddings).all()):
            raise DarkrackError(f"the teacher {self.name}", "finite logits and embeddings", "NaN or infinity")
        return logits, embeddings


def load_teacher(name: str, weights_path: Path | None = None, classes_path: Path | None = None) -> Teacher:
    """The teacher ``name``, one of ``TEACHERS``, with its weights.

    ``weights_path`` is the network's file; the descriptors have none, of tags it is their tags.json.
    ``classes_path`` is a CSV with a column ``display_name``; by default the list of the teacher's classes beside the
    weights, ``audioset_527.csv`` or ``yamnet_521.csv``. An ONNX network runs in one thread, CNN14 in torch's.

    Raises DarkrackError for an unknown name, weights or classes that a teacher does not take, files that are
    missing or unreadable, a network with other inputs or outputs, or another number of classes.
    """
    if name == "descriptors":
        for option, path in (("--weights", weights_path), ("--classes", classes_path)):
            if path is not None:
                raise DarkrackError(option, "none: descriptors are computed, not learned", str(path))
        from train import descriptors

        return descriptors.load()
    if name == "tags":
        if weights_path is None or classes_path is not None:
            raise DarkrackError(name, "their tags.json, and no classes", f"{weights_path}, {classes_path}")
        from train import tags

        return tags.load(weights_path)
    if name not in KINDS:
        raise DarkrackError("--teacher", " or ".join(TEACHERS), name)
    kind = KINDS[name]
    if weights_path is None:
        raise DarkrackError("--weights", f"the network of {name}", "none", kind.where_to_get)
    digest, official = _weights_digest(weights_path, kind)
    classes = _read_classes(classes_path or weights_path.with_name(kind.classes_file), kind)
    infer = kind.open(weights_path, kind)
    embedding_size = _embedding_size(infer, kind, weights_path)
    return Teacher(
        name, classes, kind.sample_rate_hz, embedding_size, digest, official, kind.front_end, infer
    )


def check_audio(audio: Floats, sample_rate_hz: int) -> None:
    """Raise DarkrackError unless ``audio`` is (B, samples), neither of them 0, finite, at 1 to 384 kHz."""
    if audio.ndim != 2 or audio.size == 0:
        raise DarkrackError("audio", "an array (notes, samples)", f"shape {audio.shape}")
    if not np.isfinite(audio).all():
        row = int(np.flatnonzero(~np.isfinite(audio).all(axis=1))[0])
        raise DarkrackError(f"audio of note {row} of the batch", "finite samples", "NaN or infinity")
    if not 1000 <= sample_rate_hz <= 384_000:
        raise DarkrackError("audio", "a sample rate of 1000 to 384000 Hz", f"{sample_rate_hz} Hz")


def at_listening_level(audio: Floats, sample_rate_hz: int) -> Floats:
    """``audio`` (B, samples) scaled so that the loudest 50 ms of each note have an RMS of -15 dBFS.

    Taggers hear level and what lies under -80 dBFS, so that real, resynthesised and generated notes can only
    be compared at one level; and a label should not depend on how loud a SoundFont's maker liked an
    instrument. On 2400 FluidR3 notes 12 dB alone leave a correlation of logits of .89; at one level the mean
    AUC of instrument recognition stays (.86), the nearest neighbour in embeddings is the same instrument more
    often (.918 as rendered, .945 so) and velocity hardly moves the labels (mean |r| .09, .02).
    Silence stays silence.
    """
    width = max(1, round(0.05 * sample_rate_hz))
    whole = audio.shape[1] // width * width
    power = (audio[:, :whole].reshape(len(audio), -1, width) ** 2).mean(axis=2).max(axis=1, initial=0.0)
    gain = 10 ** (LISTENING_DBFS / 20) / np.sqrt(np.maximum(power, 1e-14))
    return np.asarray(audio * gain[:, None], np.float32)


@lru_cache(maxsize=8)
def noise_bed(sample_rate_hz: int, level_dbfs: float) -> Floats:
    """One second of white Gaussian noise (sample_rate_hz,) with an RMS of ``level_dbfs``, always the same.

    The taggers hear what lies under -80 dBFS, where a real note has its room, a resynthesis little and a
    generated note nothing: the same bed under all of them leaves the notes to be told apart, not their floors.
    ``BED_DBFS`` is the level to use. Raises DarkrackError for a level that is not finite or not below 0 dBFS.
    """
    if not (np.isfinite(level_dbfs) and level_dbfs < 0.0):
        raise DarkrackError("the noise bed", "a level below 0 dBFS", f"{level_dbfs} dBFS")
    noise = np.random.default_rng(80).standard_normal(round(HEARD_S * sample_rate_hz))
    return np.asarray(noise * (10 ** (level_dbfs / 20) / np.sqrt(np.mean(noise**2))), np.float32)


def heard_second(audio: Floats, from_hz: int, to_hz: int) -> Floats:
    """The first second of ``audio`` (B, samples) at listening level and at ``to_hz``: exactly (B, to_hz)."""
    import soxr

    cut = np.zeros((len(audio), round(HEARD_S * from_hz)), np.float32)
    kept = min(cut.shape[1], audio.shape[1])
    cut[:, :kept] = audio[:, :kept]
    cut = at_listening_level(cut, from_hz)
    if from_hz == to_hz:
        return cut
    second = np.zeros((len(audio), round(HEARD_S * to_hz)), np.float32)
    for row, samples in enumerate(cut):
        resampled = soxr.resample(samples, from_hz, to_hz, quality="HQ")[: second.shape[1]]
        second[row, : len(resampled)] = resampled
    return second


# --- mn04: EfficientAT's AugmentMelSTFT (Schmid et al. 2023), at evaluation ----------------------------

MN04_RATE_HZ = 32_000
_MN04_FFT = 1024
_MN04_WINDOW = 800  # 25 ms
_MN04_HOP = 320  # 10 ms
_MN04_BANDS = 128
_MN04_TOP_HZ = 15_000.0


def mn04_spectrogram(audio: Floats) -> Floats:
    """Log mel bands (B, 128, 1 + (samples - 1) // 320) of ``audio`` (B, samples) at 32 kHz.

    Pre-emphasis y[n] = x[n+1] - 0.97 x[n]; centred STFT (reflected at the ends) of 1024 points, symmetric
    Hann of 800 points in its middle, hop 320; power; 128 Kaldi mel bands from 0 to 15 kHz;
    (ln(power + 1e-5) + 4.5) / 5.
    """
    emphasised = audio[:, 1:] - np.float32(0.97) * audio[:, :-1]
    padded = np.pad(emphasised, ((0, 0), (_MN04_FFT // 2, _MN04_FFT // 2)), mode="reflect")
    # The window is zero for 112 points on either side; power knows no phase: the frame may begin after them.
    padded = padded[:, (_MN04_FFT - _MN04_WINDOW) // 2 :]
    frames = 1 + emphasised.shape[1] // _MN04_HOP
    power = power_spectra(padded, frames, _MN04_HOP, _mn04_window(), _MN04_FFT)
    bands = power @ _mn04_mel()
    return np.ascontiguousarray(
        ((np.log(bands + np.float32(1e-5)) + np.float32(4.5)) / np.float32(5)).swapaxes(1, 2)
    )


def mn04_spectrogram_of_tiled(second: Floats) -> Floats:
    """``mn04_spectrogram`` of ``second`` (B, 32000) heard three times: (B, 128, 300).

    Three times in a row raised the mean AUC of instrument recognition from .89 to .91.
    A second is 100 hops, so the frames repeat after 100 but for those that see an end: frames 0 and 1 reach
    over the beginning (they reflect), frame 299 over the end. 103 frames stand for 300.
    """
    once = MN04_RATE_HZ // _MN04_HOP  # 100 frames a second
    edge = 2 * _MN04_FFT  # more than one frame sees; whole seconds before the last samples keep the phase
    head = mn04_spectrogram(np.concatenate([second, second[:, :edge]], axis=1))[:, :, : once + 2]
    tail = mn04_spectrogram(second[:, MN04_RATE_HZ - 10 * _MN04_HOP :])[:, :, -1:]
    return np.concatenate([head, head[:, :, 2:], head[:, :, 2:-3], tail], axis=2)


@lru_cache(maxsize=1)
def _mn04_window() -> Floats:
    turn = np.arange(_MN04_WINDOW) / (_MN04_WINDOW - 1)
    return (0.5 - 0.5 * np.cos(2 * np.pi * turn)).astype(np.float32)


@lru_cache(maxsize=1)
def _mn04_mel() -> Floats:
    bins_hz = np.arange(_MN04_FFT // 2 + 1) * MN04_RATE_HZ / _MN04_FFT
    mel = mel_triangles(bins_hz, _MN04_BANDS, 0.0, _MN04_TOP_HZ)
    mel[-1] = 0.0  # Kaldi leaves the Nyquist bin out
    return mel


# --- YAMNet (Plakal & Ellis, TensorFlow model garden) --------------------------------------------------

YAMNET_RATE_HZ = 16_000
_YAMNET_FFT = 512
_YAMNET_WINDOW = 400  # 25 ms
_YAMNET_HOP = 160  # 10 ms
_YAMNET_FRAMES = 96  # .96 s


def yamnet_spectrogram(audio: Floats) -> Floats:
    """Log mel bands (B, 96, 64) of the first 96 frames of ``audio`` (B, samples >= 15600) at 16 kHz.

    Frames of 25 ms every 10 ms, not centred, periodic Hann, 512-point magnitude, 64 mel bands from 125 to
    7500 Hz, ln(magnitude + 0.001).
    """
    power = power_spectra(audio, _YAMNET_FRAMES, _YAMNET_HOP, yamnet_window(), _YAMNET_FFT)
    bands: Floats = np.sqrt(power) @ yamnet_mel()
    log_bands: Floats = np.log(bands + np.float32(0.001))
    return log_bands


@lru_cache(maxsize=1)
def yamnet_window() -> Floats:
    """Periodic Hann (400,) to the last bit of the published model, whose float32 cosine is TensorFlow's own.

    It is one or two units in the last place off the true one: enough to leak into the quiet bands and, behind
    the logarithm, to move logits by .0008. The angle is brought to a quarter turn around a multiple of pi / 2,
    where two minimax polynomials stand for cosine and sine (Eigen's ``pcos`` for float32, without FMA).
    """
    angle = np.float32(2 * np.pi) * np.arange(_YAMNET_WINDOW, dtype=np.float32) / np.float32(_YAMNET_WINDOW)
    quarter = np.rint(angle * np.float32(2 / np.pi))
    rest = (angle - quarter * np.float64(np.pi / 2)).astype(np.float32)
    square = rest * rest
    cosine = np.polyval(np.array([2.4372266e-05, -0.0013886520, 0.041666619, -0.5, 1.0], np.float32), square)
    sine = np.polyval(np.array([-0.00019592341, 0.0083326874, -0.16666662, 0.0], np.float32), square)
    sine = sine * rest + rest
    turned = np.choose(quarter.astype(int) % 4, (cosine, -sine, -cosine, sine))
    return np.asarray(np.float32(0.5) - np.float32(0.5) * turned, np.float32)


@lru_cache(maxsize=1)
def yamnet_mel() -> Floats:
    """YAMNet's 64 mel bands as a matrix (257, 64)."""
    mel = mel_triangles(np.arange(_YAMNET_FFT // 2 + 1) * YAMNET_RATE_HZ / _YAMNET_FFT, 64, 125.0, 7500.0)
    mel[0] = 0.0  # TensorFlow leaves DC out
    return mel


# --- all of them -------------------------------------------------------------------------------------


def power_spectra(audio: Floats, frames: int, hop: int, window: Floats, fft: int) -> Floats:
    """Power spectra (B, frames, fft // 2 + 1) of windowed frames, one every ``hop`` samples of ``audio``.

    The transform is torch's, in float32: YAMNet hears the floor of rounding under a loud partial (numpy's
    other one moves its logits by .0008), and torch's is the one that the reference figures were made with.
    It is also the faster.
    """
    import torch

    cut = np.lib.stride_tricks.sliding_window_view(audio, len(window), axis=1)[:, ::hop][:, :frames]
    spectrum = torch.fft.rfft(torch.from_numpy(cut * window), n=fft).numpy()
    power: Floats = spectrum.real**2 + spectrum.imag**2
    return power


def mel_triangles(bins_hz: npt.NDArray[np.float64], bands: int, low_hz: float, high_hz: float) -> Floats:
    """Matrix (bins, bands) of triangles that are straight on the mel axis, mel = 1127 ln(1 + f / 700)."""
    mel = 1127.0 * np.log1p(bins_hz / 700.0)[:, None]
    corners = np.linspace(1127.0 * np.log1p(low_hz / 700.0), 1127.0 * np.log1p(high_hz / 700.0), bands + 2)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    slopes = np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre))
    triangles: Floats = np.maximum(slopes, 0.0).astype(np.float32)
    return triangles


@dataclass(frozen=True)
class _Kind:
    """What is known of a teacher before its weights are read."""

    sample_rate_hz: int
    classes: int
    classes_file: str
    official: tuple[str, str]  # the hash that is known of its file, and its name
    where_to_get: str
    front_end: Callable[[Floats], Floats]
    open: Callable[[Path, _Kind], Infer]


def _open_onnx(
    path: Path, kind: _Kind, seen: str, outputs: tuple[str, str], shape: Callable[[Floats], Floats]
) -> Infer:
    """The ONNX network in ``path``: its input ``seen`` takes what ``shape`` makes of the front end's frames."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said by our error
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise DarkrackError(
            str(path), "the teacher's network in ONNX", first_line(error), kind.where_to_get
        ) from error
    inputs = [item.name for item in session.get_inputs()]
    declared = [item.name for item in session.get_outputs()]
    if inputs != [seen] or not set(outputs) <= set(declared):
        raise DarkrackError(
            str(path),
            f"the input {seen!r} and the outputs {outputs}",
            f"{inputs} and {declared}",
            kind.where_to_get,
        )

    def infer(frames: Floats) -> tuple[Floats, Floats]:
        logits, embeddings = session.run(list(outputs), {seen: shape(frames)})
        return logits, embeddings

    return infer


def _cnn14_log_mel_of_tiled(second: Floats) -> Floats:
    """CNN14's bands of ``second`` (B, 32000) heard three times: (B, 301, 64).

    It was trained on ten seconds, and of one its poolings leave three frames. That three help it as they help
    mn04 is a guess: there was no checkpoint to measure with.
    """
    from train import cnn14

    return cnn14.log_mel(np.tile(second, 3))


def _open_cnn14(path: Path, kind: _Kind) -> Infer:
    from train import cnn14

    return partial(cnn14.hear, cnn14.load(path, kind.where_to_get))


KINDS = {
    "mn04": _Kind(
        sample_rate_hz=MN04_RATE_HZ,
        classes=527,
        classes_file="audioset_527.csv",
        # mn04_as.onnx, then mn04_as.onnx.data
        official=("576dbb37162eb369d537e8579bb4354d8cd80ebdae2c665c144980a80f4406a3", "sha256"),
        where_to_get="mn04_as is in the releases of github.com/fschmid56/EfficientAT (MIT): export it to "
        "ONNX with the input 'spec' and the outputs 'logits' and 'features', keep the .data file beside it",
        front_end=mn04_spectrogram_of_tiled,
        open=partial(
            _open_onnx, seen="spec", outputs=("logits", "features"), shape=lambda frames: frames[:, None]
        ),
    ),
    "yamnet": _Kind(
        sample_rate_hz=YAMNET_RATE_HZ,
        classes=521,
        classes_file="yamnet_521.csv",
        official=("85f344864cb453d029b9efef5adcc39874ed16890f253a5941dd3f89f3f9c3e5", "sha256"),
        where_to_get="YAMNet is on TensorFlow Hub (google/yamnet, Apache-2.0): convert it to ONNX with the "
        "input 'log_mel' and the outputs 'logits' and 'embedding'",
        front_end=yamnet_spectrogram,
        open=partial(
            _open_onnx, seen="log_mel", outputs=("logits", "embedding"), shape=lambda frames: frames
        ),
    ),
    "cnn14": _Kind(
        sample_rate_hz=32_000,
        classes=527,
        classes_file="audioset_527.csv",
        official=("541141fa2ee191a88f24a3219fff024e", "md5"),  # as Zenodo publishes it
        where_to_get="Cnn14_mAP=0.431.pth is in Zenodo's record 3987831 (PANNs, Kong et al.)",
        front_end=_cnn14_log_mel_of_tiled,
        open=_open_cnn14,
    ),
}
TEACHERS = (*KINDS, "descriptors", "tags")


def _weights_digest(path: Path, kind: _Kind) -> tuple[str, bool]:
    """SHA-256 over the network's file and the external data beside it, if any; whether they are official."""
    content = read_bytes(path, "the teacher's weights", kind.where_to_get)
    data = path.with_name(path.name + ".data")
    if data.exists():
        content += read_bytes(data, "the weights' external data", kind.where_to_get)
    known, hash_name = kind.official
    official = hashlib.new(hash_name, content, usedforsecurity=False).hexdigest() == known
    return hashlib.sha256(content).hexdigest(), official


def _embedding_size(infer: Infer, kind: _Kind, path: Path) -> int:
    """The length of the embedding, found by hearing silence; DarkrackError where that does not work out."""
    frames = kind.front_end(np.zeros((1, kind.sample_rate_hz), np.float32))
    try:
        logits, embeddings = infer(frames)
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise DarkrackError(
            str(path),
            f"a network that takes frames of shape {frames.shape}",
            first_line(error),
            kind.where_to_get,
        ) from error
    if logits.shape != (1, kind.classes):
        raise DarkrackError(
            str(path), f"{kind.classes} classes", f"logits of shape {logits.shape}", kind.where_to_get
        )
    if embeddings.ndim != 2:
        raise DarkrackError(str(path), "one embedding a note", f"shape {embeddings.shape}", kind.where_to_get)
    size: int = embeddings.shape[1]
    return size


def first_line(error: Exception) -> str:
    """What another's exception says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_classes(path: Path, kind: _Kind) -> tuple[str, ...]:
    raw = read_bytes(path, "a CSV of the teacher's classes", "name it with --classes")
    try:
        rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DarkrackError(str(path), "a CSV in UTF-8", str(error)) from error
    names = tuple((row.get("display_name") or "").strip() for row in rows)
    if len(names) != kind.classes:
        raise DarkrackError(str(path), f"{kind.classes} classes", f"{len(names)}")
    if "" in names or len(set(names)) != len(names):
        raise DarkrackError(
            str(path), "a different display_name in every row", "one that is empty or there twice"
        )
    return names
