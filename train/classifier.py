"""The judge's own classifier: which pitch and which family of instruments a note is, for PIS and IIS.

Trained on the notes that voices are trained on, split by instrument, from the audio alone: it shares nothing with the
teachers. Its accuracy on instruments it never heard says what its scores are worth.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from device.errors import DarkrackError
from device.files import atomic_path
from train.measures import Estimate, bootstrap
from train.notes import Note, read_audio, read_notes, split

FloatArray = npt.NDArray[np.float32]

VERSION = 1  # raised whenever what follows makes another classifier of the same notes
RATE_HZ = 32_000
HEARD_S = 1.0
MOST_NOTES = 20_000  # 31 kB of features each: 620 MB
EPOCHS = 12
BATCH = 32
LEARNING_RATE = 4e-3
RANGE_DB = 80.0  # under the loudest cell; nothing below is seen
# NSynth's families, of acoustic and electronic instruments: a synthesiser's "brass" or "lead" is named after what its
# maker had in mind. Those notes, pads and effects teach and test pitch alone.
FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "vocal")
SYNTHETIC = "synthetic"
NO_FAMILY = -100  # what cross entropy leaves out

# Two pictures of a second: one fine in frequency, on a logarithmic axis where a note moves without changing its shape;
# one fine in time.
LOWEST_MIDI, HIGHEST_MIDI, BINS_A_SEMITONE = 33, 129, 3  # 55 Hz to 14 kHz
LOG_FFT, LOG_HOP = 4096, 1024  # 128 ms
MEL_FFT, MEL_HOP, MEL_BANDS = 1024, 320, 64
MEL_LOW_HZ, MEL_HIGH_HZ = 60.0, 15_500.0
# Semitones from a pitch to its suboctave, itself and its partials 2, 3, 4, 5, 6, 7 (a third of a tone flat), 8.
HARMONICS = (-12, 0, 12, 19, 24, 28, 31, 34, 36)
PARTIALS = 32  # whose levels over time tell families apart


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network and what is known of it.

    ``accuracy`` (share right, with its interval over instruments) of ``pitch`` and ``family`` by held-out part;
    ``notes``, ``instruments`` and ``families`` it was trained on.
    """

    low_midi: int
    notes: int
    instruments: int
    families: int
    accuracy: dict[str, dict[str, Estimate]]
    network: Network

    def probabilities(self, audio: FloatArray, sample_rate_hz: int) -> tuple[FloatArray, FloatArray | None]:
        """Of pitches (B, P) and families (B, F), for the first second of ``audio`` (B, samples).

        None for families where the notes it learned from had fewer than two.
        """
        with torch.inference_mode():
            pitch, family = self.network(*_features(_seconds(audio, sample_rate_hz)))
            return pitch.softmax(1).numpy(), family.softmax(1).numpy() if self.families > 1 else None


class Network(nn.Module):
    """Pitch from the logarithmic picture, family from the mel picture and the partials of the pitch found.

    Pitch: stacked copies of the picture, shifted so that a note's harmonics lie over each other (after Bittner et al.
    2017), then convolutions that look the same at every pitch, so that all instruments teach all pitches.
    """

    def __init__(self, low_midi: int, high_midi: int) -> None:
        super().__init__()
        self.first_bin = BINS_A_SEMITONE * (low_midi - LOWEST_MIDI)
        self.pitches = high_midi - low_midi + 1
        self.across = nn.Conv2d(len(HARMONICS), 24, (5, 1), padding=(2, 0))
        self.both = nn.Conv2d(24, 24, 3, stride=(1, 2), padding=1)
        self.along = nn.Conv1d(48, 32, 3, padding=1)
        self.pitch = nn.Conv1d(32, 1, 1)
        channels = (1, 32, 48, 64, 96)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in channels[1:])
        self.partials = nn.Sequential(
            nn.Conv1d(PARTIALS, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.family = nn.Sequential(
            nn.Dropout(0.3),
            nn.Linear(2 * 96 * MEL_BANDS // 16 + 64, 128),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(128, len(FAMILIES)),
        )
        steps = torch.round(12 * BINS_A_SEMITONE * torch.log2(torch.arange(1, PARTIALS + 1)))
        self.register_buffer("partial_steps", steps.long(), persistent=False)

    def forward(self, log: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, P) and (B, F) of pictures (B, 288, 32) and (B, 64, 101), both 0..1."""
        bins = log.shape[1]
        coarse = F.avg_pool2d(log[:, None], (1, 4))[:, 0]  # a pitch does not move within 128 ms
        shifts = [BINS_A_SEMITONE * semitones for semitones in HARMONICS]
        stacked = [
            F.pad(coarse[:, max(k, 0) : bins + min(k, 0)], (0, 0, max(-k, 0), max(k, 0))) for k in shifts
        ]
        x = F.relu(self.both(F.relu(self.across(torch.stack(stacked, 1)))))
        x = self.pitch(F.relu(self.along(torch.cat([x.mean(3), x.amax(3)], 1))))[:, 0]
        pitch = x[:, self.first_bin :: BINS_A_SEMITONE][:, : self.pitches]
        # The levels of the partials of the pitch that was found.
        steps: Tensor = self.get_buffer("partial_steps")
        at = (pitch.detach().argmax(1) * BINS_A_SEMITONE + self.first_bin)[:, None] + steps
        levels = torch.gather(log, 1, at.clamp(max=bins - 1)[:, :, None].expand(-1, -1, log.shape[2]))
        found = self.partials(levels * (at < bins)[:, :, None]).mean(2)
        y = mel[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = F.relu(norm(convolution(y)))
        y = torch.cat([y.mean(3), y.amax(3)], 1).flatten(1)
        return pitch, self.family(torch.cat([y, found], 1))


def prepare(
    folders: Sequence[Path], pitch_range_midi: tuple[float, float], seed: int = 0, train: bool = True
) -> Classifier | None:
    """The classifier of these data sets, from the first one's folder where it was trained before.

    Trains it otherwise (minutes; a progress bar; goes on where it was stopped), or returns None with ``train`` False.
    Raises DarkrackError for sets with too few notes.
    """
    low, high = (round(value) for value in pitch_range_midi)
    sets = _sets(folders, low, high)
    key = hashlib.sha256(json.dumps([VERSION, low, high, seed]).encode())
    for _, notes in sets:
        for note in notes:
            key.update(f"{note.note_str} {note.start} {note.samples}\n".encode())
    path = folders[0] / f"judge-{key.hexdigest()[:16]}.pt"
    if not path.exists():
        if not train:
            return None
        _train(path, sets, low, high, seed)
    try:
        content = torch.load(path, weights_only=True)
        network = Network(low, high)
        network.load_state_dict(content["network"])
        facts = content["facts"]
        accuracy = {
            what: {part: Estimate(*values) for part, values in parts.items()}
            for what, parts in facts["accuracy"].items()
        }
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DarkrackError(
            str(path),
            "a whole classifier",
            type(error).__name__,
            "delete it; the next evaluation trains it again",
        ) from error
    return Classifier(low, facts["notes"], facts["instruments"], facts["families"], accuracy, network.eval())


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a classifier learns from: the pictures of N notes (float16), their classes, and the notes of each part.

    ``family`` (N,) is NO_FAMILY where a note has none; ``weight`` (families,) makes up for rare ones.
    """

    low_midi: int
    logs: Tensor
    mels: Tensor
    pitch: Tensor
    family: Tensor
    weight: Tensor
    instruments: int
    parts: dict[str, list[tuple[Path, Note]]]

    @property
    def families(self) -> int:
        """How many families there are to tell apart."""
        return int((self.weight > 0).sum())

    def heard(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The pictures of these notes in another room, as `Network` takes them."""
        return _disturbed(self.logs[rows].float(), self.mels[rows].float(), generator)

    def loss(self, answer: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
        """Cross entropy of pitch and of family, for these notes."""
        loss = F.cross_entropy(answer[0], self.pitch[rows])
        family = self.family[rows]
        if self.families > 1 and (family != NO_FAMILY).any():
            loss = loss + F.cross_entropy(answer[1], family, weight=self.weight, label_smoothing=0.1)
        return loss

    def accuracy(self, network: nn.Module, seed: int) -> dict[str, dict[str, list[float]]]:
        """Share of right answers with its interval, by what was asked and held-out part."""
        held_out = {part: self.parts[part] for part in ("unseen_instruments", "unseen_notes")}
        return _accuracy(network, held_out, self.low_midi, np.random.default_rng(seed))


def lessons(folders: Sequence[Path], pitch_range_midi: tuple[float, float], seed: int = 0) -> Lessons:
    """The lessons of these data sets; DarkrackError for sets with too few notes."""
    low, high = (round(value) for value in pitch_range_midi)
    return _lessons(_sets(folders, low, high), low, seed)


def _sets(folders: Sequence[Path], low: int, high: int) -> list[tuple[Path, list[Note]]]:
    return [
        (folder, [note for note in read_notes(folder) if note.check == "ok" and low <= note.pitch <= high])
        for folder in folders
    ]


def _lessons(sets: Sequence[tuple[Path, list[Note]]], low: int, seed: int) -> Lessons:
    parts = {
        part: [(folder, notes[row]) for folder, notes in sets for row in split(notes)[part]]
        for part in ("train", "unseen_notes", "unseen_instruments")
    }
    random = np.random.default_rng(seed)
    seen = [parts["train"][n] for n in random.permutation(len(parts["train"]))[:MOST_NOTES]]
    if len(seen) < 2 * BATCH:
        raise DarkrackError(
            ", ".join(str(folder) for folder, _ in sets),
            f"at least {2 * BATCH} notes to train the judge's classifier on",
            str(len(seen)),
            "--quick leaves PIS and IIS out",
        )
    logs, mels = _pictures(seen, "the classifier reads")
    pitch, family = _answers(seen, low)
    counts = torch.bincount(family[family >= 0], minlength=len(FAMILIES)).float()
    weight = torch.where(counts > 0, counts.clamp(min=1) ** -0.5, 0.0)
    weight /= weight.sum() / (counts > 0).sum()
    instruments = len({(str(folder), note.instrument_str) for folder, note in seen})
    return Lessons(low, logs, mels, pitch, family, weight, instruments, parts)


def _train(path: Path, sets: Sequence[tuple[Path, list[Note]]], low: int, high: int, seed: int) -> None:
    learned = _lessons(sets, low, seed)
    count = len(learned.pitch)
    torch.manual_seed(seed)
    network = Network(low, high)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE / 2, weight_decay=0.02)
    steps = count // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=EPOCHS * steps)
    stopped = path.with_suffix(".part")
    state: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": schedule}
    first = 0
    if stopped.exists():
        kept = torch.load(stopped, weights_only=True)
        first = kept["epoch"]
        for name, one in state.items():
            one.load_state_dict(kept[name])
    network.train()
    with tqdm(
        total=EPOCHS * steps, initial=first * steps, desc="the classifier learns", disable=None
    ) as progress:
        for epoch in range(first, EPOCHS):
            generator = torch.Generator().manual_seed(seed * EPOCHS + epoch)
            order = torch.randperm(count, generator=generator)[: steps * BATCH].reshape(steps, BATCH)
            for rows in order:
                loss = learned.loss(network(*learned.heard(rows, generator)), rows)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                progress.update()
            with atomic_path(stopped) as temporary:
                torch.save(
                    {"epoch": epoch + 1, **{name: one.state_dict() for name, one in state.items()}}, temporary
                )
    network.eval()
    facts = {
        "notes": count,
        "instruments": learned.instruments,
        "families": learned.families,
        "accuracy": learned.accuracy(network, seed),
    }
    with atomic_path(path) as temporary:
        torch.save({"network": network.state_dict(), "facts": facts}, temporary)
    stopped.unlink()


def _accuracy(
    network: nn.Module, parts: dict[str, list[tuple[Path, Note]]], low: int, random: np.random.Generator
) -> dict[str, dict[str, list[float]]]:
    """Share of right answers with its interval, by what was asked and part; parts without notes are left out."""
    shares: dict[str, dict[str, list[float]]] = {"pitch": {}, "family": {}}
    for part, notes in parts.items():
        if not notes:
            continue
        logs, mels = _pictures(notes, f"the classifier is tested: {part}")
        with torch.inference_mode():
            answers = [
                network(logs[n : n + 256].float(), mels[n : n + 256].float())
                for n in range(0, len(notes), 256)
            ]
        instruments = np.unique([note.instrument_str for _, note in notes], return_inverse=True)[1]
        for name, wanted, column in zip(("pitch", "family"), _answers(notes, low), (0, 1), strict=True):
            asked = (wanted != NO_FAMILY).numpy()
            right = (torch.cat([one[column] for one in answers]).argmax(1) == wanted).numpy()
            if asked.any():
                shares[name][part] = list(bootstrap(right[asked].astype(float), random, instruments[asked]))
    return shares


def _answers(notes: Sequence[tuple[Path, Note]], low: int) -> tuple[Tensor, Tensor]:
    """Classes of pitch and of family (NO_FAMILY where there is none), both (N,)."""
    family = [
        FAMILIES.index(note.instrument_family_str) if _has_family(note) else NO_FAMILY for _, note in notes
    ]
    return torch.tensor([note.pitch - low for _, note in notes]), torch.tensor(family)


def _has_family(note: Note) -> bool:
    return note.instrument_family_str in FAMILIES and note.instrument_source_str != SYNTHETIC


def _disturbed(log: Tensor, mel: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Another room, another recording: a random equaliser, a raised floor, a band of the mel picture missing."""
    count = len(log)
    out = []
    for picture in (log, mel):
        # About +-6 dB at five points of the axis, straight between them.
        curve = torch.randn(count, 1, 5, generator=generator) * (6.0 / RANGE_DB)
        bent = F.interpolate(curve, size=picture.shape[1], mode="linear", align_corners=True)[:, 0, :, None]
        out.append((picture + bent * (picture > 0)).clamp(0, 1.2))
    floor = torch.rand(count, 1, 1, generator=generator) * 0.25  # up to 20 dB
    log, mel = (F.relu(picture - floor) / (1 - floor) for picture in out)
    band = torch.arange(MEL_BANDS)[None, :, None]
    begin = torch.randint(0, MEL_BANDS - 12, (count, 1, 1), generator=generator)
    width = torch.randint(0, 12, (count, 1, 1), generator=generator)
    return log, mel * ~((band >= begin) & (band < begin + width))


def _pictures(notes: Sequence[tuple[Path, Note]], what: str) -> tuple[Tensor, Tensor]:
    """Both pictures of each note, float16: (N, 288, 32) and (N, 64, 101)."""
    logs, mels = [], []
    for begin in tqdm(range(0, len(notes), BATCH), what, unit="batch", disable=None):
        seconds = []
        for folder, note in notes[begin : begin + BATCH]:
            audio = read_audio(folder, note, HEARD_S)
            if not np.isfinite(audio).all():
                raise DarkrackError(
                    f"{folder / note.file}, {note.note_str}", "finite samples", "NaN or infinity"
                )
            seconds.append(_seconds(audio[None], note.sample_rate)[0])
        log, mel = _features(np.stack(seconds))
        logs.append(log.half())
        mels.append(mel.half())
    return torch.cat(logs), torch.cat(mels)


def _seconds(audio: FloatArray, sample_rate_hz: int) -> FloatArray:
    """(B, 32000) the first second at 32 kHz, silence after what is shorter."""
    import soxr

    second = np.zeros((len(audio), RATE_HZ), np.float32)
    for row, samples in enumerate(audio):
        cut = samples[: round(HEARD_S * sample_rate_hz)]
        kept = cut if sample_rate_hz == RATE_HZ else soxr.resample(cut, sample_rate_hz, RATE_HZ)
        second[row, : len(kept)] = kept[:RATE_HZ]
    return second


def _features(second: FloatArray) -> tuple[Tensor, Tensor]:
    """Both pictures of (B, 32000): dB under the loudest cell as 0..1."""
    audio = torch.from_numpy(second)
    pictures = []
    for fft, hop, bands in ((LOG_FFT, LOG_HOP, _log_bands()), (MEL_FFT, MEL_HOP, _mel_bands())):
        spectrum = torch.stft(
            audio, fft, hop, window=torch.hann_window(fft), pad_mode="constant", return_complex=True
        )
        power = (spectrum.abs() ** 2).transpose(1, 2) @ bands
        level_db = 10 * torch.log10(power.transpose(1, 2) + 1e-12)
        level_db = level_db - level_db.amax((1, 2), keepdim=True)
        pictures.append((1 + level_db / RANGE_DB).clamp(0, 1))
    return pictures[0], pictures[1]


@lru_cache(maxsize=1)
def _log_bands() -> Tensor:
    """(2049, 288) triangles, three a semitone, never narrower than a bin of the transform."""
    bins_hz = np.arange(LOG_FFT // 2 + 1)[:, None] * RATE_HZ / LOG_FFT
    midi = np.arange(LOWEST_MIDI * BINS_A_SEMITONE, HIGHEST_MIDI * BINS_A_SEMITONE) / BINS_A_SEMITONE
    centre_hz = 440 * 2 ** ((midi - 69) / 12)
    half_width_hz = np.maximum(centre_hz * (2 ** (1 / (12 * BINS_A_SEMITONE)) - 1), RATE_HZ / LOG_FFT)
    bands = np.maximum(0, 1 - np.abs(bins_hz - centre_hz) / half_width_hz)
    return torch.from_numpy((bands / bands.sum(0)).astype(np.float32))


@lru_cache(maxsize=1)
def _mel_bands() -> Tensor:
    from train.teacher import mel_triangles

    bins_hz = np.arange(MEL_FFT // 2 + 1) * RATE_HZ / MEL_FFT
    return torch.from_numpy(mel_triangles(bins_hz, MEL_BANDS, MEL_LOW_HZ, MEL_HIGH_HZ))
