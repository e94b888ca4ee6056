"""A data set of synthetic notes with made-up labels, and a recipe small enough to train on it in seconds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE_HZ = 48_000
CLASSES = ("Brass instrument", "Plucked string instrument", "Organ", "Siren")  # bright, plucked, odd, idle

RECIPE = """
name = "tiny"
seed = 3
batch = 8
ema = 0.9
checkpoint_every_steps = 4
pitch_range_midi = [48, 72]
presets = 3

[[data]]
name = "synthetic"
licence = "CC0"
source = "tests/training.py"

[labels]
teacher = "mn04"
attributes = 3
distinct = 1.0
temperature = 2.0

[grid]
rows = 12
frames = 32
frame_rate_hz = 125.0
floor_db = -100.0
limit_hz = 16000.0

[generator]
latent = 4
channels = [8, 8, 8]
embedding = 16
noise_channels = 2
noise_scales = 2

[critic]
channels = 8

[reconstruction]
steps = 6
learning_rate = 1e-3
kl_weight = 3e-4
deviation_weight = 0.5

[adversarial]
steps = 6
learning_rate = 4e-4
critic_learning_rate = 4e-4
r1_weight = 1.0
r1_every = 2
smooth_frames = 5
attack_frames = 2
texture_weight = 1.0
reconstruction_weight = 10.0
class_weight = 1.0
augment = 0.5
"""

# DarkGAN's way, on a grid with an eighth of the paper's cells: 3 scales of 4 steps, the later ones faded in over 2.
GROWING = (
    RECIPE[: RECIPE.index("[grid]")].replace("batch = 8\n", "")
    + """
[grid]
fft_samples = 512
hop_samples = 128
frames = 32
sample_rate_hz = 16000

[generator]
latent = 4
scales = [[16, 2], [64, 8], [256, 32]]
channels = [8, 8, 4]
attributes = true

[growth]
steps = [4, 4, 4]
fade_steps = [0, 2, 2]
batch = [8, 6, 4]
learning_rate = 1e-3
penalty_weight = 10.0
drift_weight = 1e-3
class_weight = 10.0
augment = 0.5
standardised = true
"""
)

# Two stages on that grid: 6 steps of the autoencoder, 4 of the adversary at the last scale.
TWO_STAGE = (
    GROWING.replace("steps = [4, 4, 4]", "steps = [0, 0, 4]").replace(
        "fade_steps = [0, 2, 2]", "fade_steps = [0, 0, 0]"
    )
    + """reconstruction_weight = 10.0

[reconstruction]
steps = 6
learning_rate = 1e-3
kl_weight = 3e-3
deviation_weight = 0.5
"""
)

ONE_TEACHER = RECIPE[RECIPE.index("[labels]") : RECIPE.index("[grid]")]
DESCRIPTORS = """[[labels]]
teacher = "descriptors"
attributes = 4
distinct = 1.0
temperature = 2.0

"""
EAR = """
[ear]
teacher = "descriptors"
steps = 12
first_steps = 4
first_notes = 32
every = 2
remembered = 48
channels = 8
learning_rate = 1e-3
ear_learning_rate = 2e-3
embedding_weight = 0.2
label_weight = 0.1
spread_weight = 0.3
alone_weight = 8.0
others_weight = 0.25
"""
FADER = "fader_weight = 0.5\nfader_steps = 4\n"  # of a [reconstruction]
TWO_TEACHERS = RECIPE.replace(ONE_TEACHER, f"[{ONE_TEACHER.replace(']', ']]')}{DESCRIPTORS}")


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """The recipe as a file."""
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def label_descriptors(folder: Path) -> Path:
    """The set labelled by the descriptors too, as the command does it."""
    import darkrack

    assert darkrack.main(["label", "--data", str(folder), "--teacher", "descriptors"]) == 0
    return folder


def write_set(folder: Path, instruments: int = 24, velocities: Sequence[int] = (100,)) -> Path:
    """Notes of instruments that differ in slope and decay, labelled by what they were made from; soft ones are dull."""
    random = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    header = "note_str,instrument_str,instrument_family_str,instrument_source_str,pitch,velocity,sample_rate,file,start"
    lines = [header + ",samples,f0_hz,cents,check,tags"]
    names, logits = [], []
    seconds = np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
    for instrument in range(instruments):
        steepness_db, decay_db, odd = random.uniform(4, 14), random.uniform(0, 60), instrument % 2
        pieces = []
        for pitch, velocity in itertools.product(range(48, 73, 6), velocities):
            f0_hz, slope_db = 440 * 2 ** ((pitch - 69) / 12), steepness_db + (100 - velocity) / 10
            audio = np.zeros_like(seconds)
            for k in range(1, 13):
                if odd and k % 2 == 0:
                    continue
                level_db = -slope_db * np.log2(k) - decay_db * seconds - 12
                audio += 10 ** (level_db / 20) * np.sin(2 * np.pi * k * f0_hz * seconds + k)
            name = f"synthetic_{instrument:03d}-{pitch:03d}-{velocity:03d}"
            start = len(pieces) * len(seconds)
            who = f"{name},synthetic_{instrument:03d},keyboard,synthetic,{pitch},{velocity}"
            lines.append(
                f"{who},{SAMPLE_RATE_HZ},audio/{instrument}.flac,{start},{len(seconds)},{f0_hz:.4f},0.0,ok,"
            )
            pieces.append(audio)
            names.append(name)
            logits.append(
                [-slope_db / 2, decay_db / 20 - 4, 4.0 * odd - 3, -6 + 0.1 * random.standard_normal()]
            )
        soundfile.write(
            folder / f"audio/{instrument}.flac", np.concatenate(pieces) / 4, SAMPLE_RATE_HZ, "PCM_24"
        )
    (folder / "notes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    values = np.array(logits, np.float32)
    values += 0.05 * random.standard_normal(values.shape, np.float32)
    np.savez(
        folder / "labels-mn04.npz",
        note_str=np.array(names),
        key=np.array(names),
        logits=values,
        embeddings=values,
        classes=np.array(CLASSES),
        weights_sha256=np.array("0" * 64),
    )
    ranked = [{"index": n, "name": name, "rank_score": 0.5, "p90": 0.5} for n, name in enumerate(CLASSES)]
    content = {"teacher": "mn04", "classes_considered": 4, "excluded": [], "attributes": ranked}
    (folder / "attributes-mn04.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def train_run(folder: Path, data: Path, text: str = RECIPE, *more: str) -> Path:
    """A run of the recipe to its last step."""
    import argparse

    from train import train

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    recipe, run = write_recipe(folder, text), folder / "run"
    words = [str(recipe), "--data", str(data), "--run", str(run), "--threads", "1", *more]
    train.run(parser.parse_args(words))
    return run
