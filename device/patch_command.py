"""`darkrack patch check|export`: is a patch right for a bundle; a patch as WAV files and SFZ, for any sampler."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device import bundle as bundles
from device.bundle import Bundle
from device.errors import DarkrackError
from device.files import atomic_path, write_audio, write_json
from device.patch import Patch, read_patch
from device.timbre import Timbre

FloatArray = npt.NDArray[np.float32]

VELOCITIES = "40,80,127"
STEP_SEMITONES = 3  # between two samples: a sampler shifts each by one and a half at most
PEAK_DBFS = -1.0  # of the loudest sample
SILENCE_DB = -90.0  # below which a tail is cut
LONGEST_TAIL_S = 20.0
PIECE_S = 0.1


@dataclass(frozen=True)
class Sample:
    """One recording: the key it was played at, the keys and velocities it stands for, its file."""

    key: int
    low_key: int
    high_key: int
    velocity: int
    low_velocity: int
    high_velocity: int
    file: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two actions on a patch and a bundle."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|export")
    for action, line in (
        ("check", "say whether a patch is right for a bundle, and what turns what in it"),
        ("export", "play a patch into WAV files with an SFZ beside them, for any sampler"),
    ):
        command = actions.add_parser(action, help=line, description=line)
        command.add_argument("patch", type=Path, metavar="P.toml", help="the patch")
        command.add_argument(
            "--bundle", type=Path, required=True, metavar="X.rack", help="the bundle it is for"
        )
        command.add_argument("--json", type=Path, metavar="FILE", help="also write it as JSON")
        if action == "export":
            command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
            command.add_argument(
                "--seconds",
                type=float,
                default=4.0,
                metavar="S",
                help="how long each key is held (default: 4)",
            )
            command.add_argument(
                "--velocities",
                default=VELOCITIES,
                metavar="V,V,...",
                help=f"the velocities that are played, 1 to 127 (default: {VELOCITIES})",
            )
            command.add_argument(
                "--step",
                type=int,
                default=STEP_SEMITONES,
                metavar="SEMITONES",
                help=f"from sample to sample (default: {STEP_SEMITONES})",
            )


def run(args: argparse.Namespace) -> None:
    """Check, or export; DarkrackError for what is wrong with patch, bundle or options."""
    bundle = bundles.read(args.bundle)
    manifest = bundle.manifest
    names = [attribute.name for attribute in manifest.attributes]
    patch = read_patch(args.patch, names, [preset.name for preset in manifest.presets])
    Timbre(bundle, patch)
    if args.action == "check":
        lines = summary(patch, bundle)
        print("\n".join(lines))
        content: object = {"patch": str(args.patch), "bundle": manifest.name, "summary": lines}
    else:
        samples = export(
            args.patch.stem,
            bundle,
            patch,
            args.out,
            args.seconds,
            parse_velocities(args.velocities),
            args.step,
        )
        print(args.out / f"{args.patch.stem}.sfz")
        content = {"samples": [vars(sample) for sample in samples]}
    if args.json:
        write_json(args.json, content)


def summary(patch: Patch, bundle: Bundle) -> list[str]:
    """What a patch does, a line each."""
    preset = patch.preset or bundle.manifest.presets[0].name
    specimen = "" if patch.latent_seed is None else f", specimen {patch.latent_seed}"
    ways = [name for name in ("mono", "unison") if getattr(patch, name)]
    lines = [f"starts from {preset}{specimen}" + (f"; {', '.join(ways)}" if ways else "")]
    if patch.tuning_semitones:
        lines.append(f"tuned by {patch.tuning_semitones:+.3f} semitones")
    if patch.scale:
        lines.append(f"V/oct plays {patch.scale.name}, {len(patch.scale.semitones)} notes")
    lines += [f"{name} stands at {setting:g}" for name, setting in patch.attributes.items()]
    for kind, knobs in (("knob", patch.knobs or {}), ("CC", patch.cc)):
        for number, knob in sorted(knobs.items()):
            lines.append(f"{kind} {number} turns {knob.attribute} from {knob.low:g} to {knob.high:g}")
    lines += [f"{route.source} adds {route.depth:+g} to {route.to}" for route in patch.routes]
    return lines


def parse_velocities(text: str) -> tuple[int, ...]:
    """Velocities of an option, rising."""
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise DarkrackError(
            "--velocities", "whole numbers with commas between", repr(text), VELOCITIES
        ) from None
    if not all(1 <= velocity <= 127 for velocity in found):
        raise DarkrackError("--velocities", "1 to 127", repr(text), VELOCITIES)
    return tuple(found)


def layout(
    low_midi: float, high_midi: float, step: int, velocities: Sequence[int], name: str
) -> list[Sample]:
    """Which keys and velocities are played, and which each stands for: together all 128 of both, each once."""
    keys = list(range(math.ceil(low_midi), math.floor(high_midi) + 1, step))
    samples = []
    for n, key in enumerate(keys):
        low = 0 if n == 0 else (keys[n - 1] + key) // 2 + 1
        high = 127 if n == len(keys) - 1 else (key + keys[n + 1]) // 2
        for m, velocity in enumerate(velocities):
            softest = 1 if m == 0 else velocities[m - 1] + 1
            loudest = 127 if m == len(velocities) - 1 else velocity
            file = f"{name}-{key:03}-{velocity:03}.wav"
            samples.append(Sample(key, low, high, velocity, softest, loudest, file))
    return samples


def export(  # noqa: PLR0917
    name: str,
    bundle: Bundle,
    patch: Patch,
    folder: Path,
    seconds: float,
    velocities: Sequence[int],
    step: int,
) -> list[Sample]:
    """Play every key and velocity of `layout` into a WAV (stereo, 48 kHz, 24 bits) in ``folder``, and write the SFZ.

    All get the same gain, which brings the loudest to PEAK_DBFS: what velocity does is in the samples. DarkrackError
    for lengths and steps that make no sense.
    """
    from tqdm import tqdm

    from device.performance import SAMPLE_RATE_HZ

    if not 0.1 <= seconds <= 60.0:
        raise DarkrackError("--seconds", "0.1 to 60", f"{seconds:g}")
    if not 1 <= step <= 24:
        raise DarkrackError("--step", "1 to 24 semitones", str(step))
    samples = layout(*bundle.manifest.pitch_range_midi, step, velocities, name)
    loudest = 0.0
    # Played twice, the same to the sample: kept they might fill the memory, and the loudest is known only at the end.
    for sample in tqdm(samples, desc="listening", disable=None):
        loudest = max(loudest, float(np.abs(played(bundle, patch, sample, seconds)).max()))
    gain = np.float32(10 ** (PEAK_DBFS / 20) / max(loudest, 1e-6))
    for sample in tqdm(samples, desc="writing", disable=None):
        sound = played(bundle, patch, sample, seconds)
        write_audio(folder / sample.file, sound * gain, SAMPLE_RATE_HZ, "PCM_24")
    with atomic_path(folder / f"{name}.sfz") as temporary:
        temporary.write_text("\n".join(sfz(samples, patch, bundle.manifest.name)) + "\n", encoding="utf-8")
    return samples


def played(bundle: Bundle, patch: Patch, sample: Sample, seconds: float) -> FloatArray:
    """One key, held and let go, (n, 2) float32, with its modulations; its tail as far as it can be heard."""
    from device.modulation import STEP_S, Modulation, presets_of
    from device.performance import SAMPLE_RATE_HZ, Performance

    names = [attribute.name for attribute in bundle.manifest.attributes]
    performance = Performance(bundle, patch, voices=2)
    modulation = Modulation(performance, patch, names, presets_of(bundle))
    step_samples = round(STEP_S * SAMPLE_RATE_HZ)

    def advance(n_samples: int) -> Iterator[FloatArray]:
        for _ in range(math.ceil(n_samples / step_samples)):
            modulation.step(round(performance.now_samples / SAMPLE_RATE_HZ * 1e9))
            yield performance.render(step_samples)

    performance.note_on(sample.key, float(sample.key), sample.velocity / 127.0)
    pieces = list(advance(round(seconds * SAMPLE_RATE_HZ)))
    performance.finish()
    silence = 10 ** (SILENCE_DB / 20)
    for _ in range(round(LONGEST_TAIL_S / PIECE_S)):
        pieces += (tail := list(advance(round(PIECE_S * SAMPLE_RATE_HZ))))
        if np.abs(np.concatenate(tail)).max() < silence:
            break
    return np.concatenate(pieces)


def sfz(samples: Sequence[Sample], patch: Patch, bundle_name: str) -> list[str]:
    """The lines of the SFZ. Source: the SFZ format (sfzformat.com), version 1 opcodes only."""
    lines = [
        f"// {bundle_name}, played by Darkrack; velocity is in the samples",
        "<global>",
        f"amp_veltrack=0 ampeg_release={patch.release_s:g} loop_mode=no_loop",
        f"bend_up={round(patch.bend_range_semitones * 100)} bend_down={-round(patch.bend_range_semitones * 100)}",
    ]
    for one in samples:
        lines.append(
            f"<region> sample={one.file} pitch_keycenter={one.key} lokey={one.low_key} hikey={one.high_key} "
            f"lovel={one.low_velocity} hivel={one.high_velocity}"
        )
    return lines
