"""What a listening page lets one hear of voices: scales, knobs, walks through z, and notes beside the real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from device.generator import Asked
from device.knobs import Knobs
from device.partials import Partials
from device.stft import Stft
from train.judge import SETTINGS, asked_for
from train.listener import SAMPLE_RATE_HZ, Listener, Part
from train.listening import Clip, Row, Section
from train.train import preset_name
from train.voice import Voice

FloatArray = npt.NDArray[np.float32]

SCALE = (0, 2, 4, 5, 7, 9, 11, 12)  # major
STEP_S = 0.35  # of a note in a scale or a walk
NOTE_S = 1.0
FADE_S = 0.01
PRESETS, KNOBS, WALKS, STEPS, NOTES = 5, 6, 3, 8, 10


def sections(
    listener: Listener,
    voices: Sequence[Voice],
    parts: Sequence[Part],
    grid: Partials | Stft,
    figures: dict[str, Any],
) -> list[Section]:
    """Sections of the page; what is heard first is what was never seen in training, beside its resynthesis."""
    beside = [
        Row(
            f"{preset_name(held.note.instrument_str)}, MIDI {held.note.pitch} ({part.title})",
            [
                Clip("real", listener.real(held), SAMPLE_RATE_HZ),
                Clip("resynthesis", listener.resynthesis(held, grid), SAMPLE_RATE_HZ),
                *(
                    Clip(
                        voice.name,
                        listener.sing(voice, asked_for(listener, voice, [held], np.random.default_rng(n))[0]),
                        SAMPLE_RATE_HZ,
                    )
                    for voice in voices
                ),
            ],
        )
        for part in parts
        for n, held in enumerate(part.notes[: NOTES // len(parts)])
    ]
    page = [
        Section(
            "Real beside generated",
            "Notes that no voice was trained on. A voice is asked for their labels, pitch and velocity, with a z of "
            "its own: the same kind of sound is meant, not the same note.",
            beside,
            blind=True,
        )
    ]
    for voice in voices:
        if not voice.fault:
            page += [_scales(listener, voice), _knobs(listener, voice, figures), _walks(listener, voice)]
    return page


def _scales(listener: Listener, voice: Voice) -> Section:
    low, high = voice.pitch_range_midi
    first = min(max(60.0, low), high - SCALE[-1])
    rows = []
    for preset in voice.presets[:PRESETS]:
        notes = [
            Asked(_floats(preset.z), _floats(preset.attributes), first + step, 0.8, n)
            for n, step in enumerate(SCALE)
        ]
        rows.append(
            Row(preset.name, [Clip("scale", _one_after_another(listener, voice, notes), SAMPLE_RATE_HZ)])
        )
    return Section(f"{voice.name}: scales", "The sounds that a player starts from.", rows)


def _knobs(listener: Listener, voice: Voice, figures: dict[str, Any]) -> Section:
    """The knobs that were confirmed first; where none was tested, those with the best correlation."""
    subject = next(one for one in figures["subjects"] if one["name"] == voice.name)
    confirmed = [row["name"] for row in (subject["knobs"] or {"table": []})["table"] if row["confirmed"]]
    by_correlation = [one["name"] for one in sorted(subject["attributes"], key=lambda one: -one["logit"][0])]
    chosen = list(dict.fromkeys([*confirmed, *by_correlation]))[:KNOBS]
    knobs = Knobs(voice.attributes, voice.copula)
    preset = voice.presets[0]
    rows = []
    for name in chosen:
        base = Asked(_floats(preset.z), _floats(preset.attributes), 60.0, 0.8, 0)
        turned = [
            dataclasses.replace(base, attributes=knobs.vector(preset.attributes, {name: setting}, carry=True))
            for setting in SETTINGS
        ]
        clips = [
            Clip(f"{setting:g}", listener.sing(voice, one, NOTE_S), SAMPLE_RATE_HZ)
            for setting, one in zip(SETTINGS, turned, strict=True)
        ]
        rows.append(Row(name + (" (confirmed)" if name in confirmed else ""), clips))
    text = f"One knob of {preset.name} from 0 to 1, the others carried along as they are in real notes."
    return Section(f"{voice.name}: knobs", text, rows)


def _walks(listener: Listener, voice: Voice) -> Section:
    random = np.random.default_rng(0)
    rows = []
    for preset in voice.presets[:WALKS]:
        here, there = random.standard_normal((2, voice.latent_size))
        # Along the great circle: between two draws the straight line passes through quieter ground.
        angle = np.arccos(np.clip(here @ there / np.linalg.norm(here) / np.linalg.norm(there), -1, 1))
        path = [
            (np.sin((1 - t) * angle) * here + np.sin(t * angle) * there) / np.sin(angle)
            for t in np.linspace(0, 1, STEPS)
        ]
        notes = [Asked(_floats(z), _floats(preset.attributes), 60.0, 0.8, 0) for z in path]
        rows.append(
            Row(preset.name, [Clip("walk", _one_after_another(listener, voice, notes), SAMPLE_RATE_HZ)])
        )
    return Section(
        f"{voice.name}: walks through z",
        "The same attributes and pitch; z goes from one draw to another.",
        rows,
    )


def _one_after_another(listener: Listener, voice: Voice, notes: Sequence[Asked]) -> FloatArray:
    fade = np.minimum(np.arange(round(STEP_S * SAMPLE_RATE_HZ))[::-1] / (FADE_S * SAMPLE_RATE_HZ), 1).astype(
        np.float32
    )
    return np.concatenate([listener.sing(voice, one, STEP_S) * fade for one in notes])


def _floats(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, np.float32)
