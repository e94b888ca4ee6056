"""A page to listen to: one HTML file that holds its sounds, pictures and script, and asks nothing of any network.

Sounds are MP3, because every browser plays it, and about 130 kbit/s: small, and not what one would hear first.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import atomic_path

FloatArray = npt.NDArray[np.float32]

LEVEL_DBFS = -20.0  # of the loudest 400 ms of every clip, or less where one's peaks would not fit
PEAK_DBFS = -1.0  # the encoder may overshoot a little
LOUDEST_S = 0.4  # what a loudness meter calls momentary (EBU Tech 3341)
SILENT_DBFS = -100.0
FADE_S = 0.01  # out, where a clip was cut in the middle of a note
MP3_QUALITY = 0.2  # variable rate, 0 best to 1 smallest
COLUMNS, BANDS, RANGE_DB = 96, 40, 60.0  # of the pictures


@dataclass(frozen=True, eq=False)
class Clip:
    """One sound: audio (samples,), any level, and its rate, one that MP3 has (8000 to 48000 Hz)."""

    label: str
    audio: FloatArray
    sample_rate_hz: int


@dataclass(frozen=True, eq=False)
class Row:
    """Clips to be compared."""

    label: str
    clips: Sequence[Clip]


@dataclass(frozen=True, eq=False)
class Section:
    """Rows under a title and a paragraph; ``blind`` rows can be shuffled and guessed."""

    title: str
    text: str
    rows: Sequence[Row]
    blind: bool = False


def page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page, atomically.

    All clips are brought to one level, which the page states. Raises DarkrackError for audio that is empty, not mono
    or not finite, for a rate that MP3 has not, and where the file cannot be written.
    """
    levels = [_check(clip, where) for where, clip in _clips(sections)]
    sounding = [(peak, loudest) for peak, loudest in levels if loudest > SILENT_DBFS]
    level_dbfs = min([LEVEL_DBFS, *(PEAK_DBFS - (peak - loudest) for peak, loudest in sounding)])
    text = PAGE
    for mark, content in (
        ("TITLE", html.escape(title)),
        ("LEVEL", f"{level_dbfs:.1f}"),
        ("BLIND", BLIND if any(section.blind for section in sections) else ""),
        ("SECTIONS", "\n".join(_section(section, level_dbfs) for section in sections)),
    ):
        text = text.replace(f"<!-- {mark} -->", content)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _clips(sections: Sequence[Section]) -> Iterator[tuple[str, Clip]]:
    for section in sections:
        for row in section.rows:
            for clip in row.clips:
                yield f"{section.title}: {row.label}: {clip.label}", clip


def _check(clip: Clip, where: str) -> tuple[float, float]:
    """Peak and loudest 400 ms in dBFS."""
    if clip.audio.ndim != 1 or not len(clip.audio):
        raise DarkrackError(where, "mono audio (samples,)", f"an array {clip.audio.shape}")
    if not np.isfinite(clip.audio).all():
        raise DarkrackError(where, "finite samples", "NaN or infinity")
    return _dbfs(float(np.abs(clip.audio).max())), _loudest_dbfs(clip)


def _loudest_dbfs(clip: Clip) -> float:
    window = min(round(LOUDEST_S * clip.sample_rate_hz), len(clip.audio))
    energy = np.concatenate([[0.0], np.cumsum(clip.audio.astype(np.float64) ** 2)])
    return _dbfs(float(np.sqrt(max((energy[window:] - energy[:-window]).max() / window, 0))))


def _dbfs(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-10)))


def _section(section: Section, level_dbfs: float) -> str:
    rows = "\n".join(
        f'<div class="row" role="group" aria-label="{html.escape(row.label)}"><h3>{html.escape(row.label)}</h3>'
        f'<div class="clips">{"".join(_button(row, clip, level_dbfs) for clip in row.clips)}</div></div>'
        for row in section.rows
    )
    kind = ' class="blind"' if section.blind else ""
    return f"<section{kind}><h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>{rows}</section>"


def _button(row: Row, clip: Clip, level_dbfs: float) -> str:
    seconds = len(clip.audio) / clip.sample_rate_hz
    label = html.escape(clip.label)
    return (
        f'<div class="clip" style="--s: {seconds:.3f}"><button type="button" aria-pressed="false" '
        f'data-label="{label}" aria-label="Play {label}" title="{seconds:.1f} s" '
        f'data-sound="data:audio/mpeg;base64,{_base64(_mp3(row, clip, level_dbfs))}">'
        f'<span class="sight"><img alt="" src="data:image/png;base64,{_base64(_picture(clip))}"><i></i></span>'
        f"<b>{label}</b></button></div>"
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _mp3(row: Row, clip: Clip, level_dbfs: float) -> bytes:
    import soundfile

    loudest_dbfs = _loudest_dbfs(clip)
    gain = 10 ** ((level_dbfs - loudest_dbfs) / 20) if loudest_dbfs > SILENT_DBFS else 0.0
    to_the_end = np.arange(len(clip.audio))[::-1]
    fade = np.minimum(to_the_end / (FADE_S * clip.sample_rate_hz), 1)
    encoded = io.BytesIO()
    try:
        soundfile.write(
            encoded,
            clip.audio * fade * gain,
            clip.sample_rate_hz,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="VARIABLE",
            compression_level=MP3_QUALITY,
        )
    except (soundfile.LibsndfileError, ValueError) as error:
        raise DarkrackError(
            f"{row.label}: {clip.label}",
            "a rate that MP3 has, and a libsndfile that writes it (1.1 or later)",
            f"{clip.sample_rate_hz} Hz: {error}",
            "resample it to 48000 Hz",
        ) from error
    return encoded.getvalue()


def _picture(clip: Clip) -> bytes:
    """A small spectrogram as PNG, dark where it is loud: logarithmic in frequency, 60 Hz to 16 kHz."""
    from PIL import Image

    window = 4096
    half = np.pad(clip.audio.astype(np.float64), window // 2)
    starts = np.linspace(0, len(half) - window, COLUMNS).astype(int)
    frames = half[starts[:, None] + np.arange(window)] * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, 2 * window, axis=1)) ** 2
    edges_hz = np.geomspace(60, 16_000, BANDS + 1)
    bins = (edges_hz * 2 * window / clip.sample_rate_hz).astype(int)
    power = np.pad(power, ((0, 0), (0, max(bins[-1] + 1 - power.shape[1], 0))))  # a low rate has no treble
    bands = np.stack([power[:, low : high + 1].max(axis=1) for low, high in itertools.pairwise(bins)])
    level_db = 10 * np.log10(np.maximum(bands / max(bands.max(), 1e-20), 1e-12))
    shades = np.round(np.clip(1 + level_db / RANGE_DB, 0, 1) * 15).astype(np.uint8)[::-1]
    image = Image.frombytes("P", (COLUMNS, BANDS), shades.tobytes())
    image.putpalette([grey for n in range(16) for grey in [255 - 17 * n] * 3])
    encoded = io.BytesIO()
    image.save(encoded, "PNG", bits=4, optimize=True)
    return encoded.getvalue()


BLIND = """<p class="blindly"><label><input type="checkbox" id="blind"> Hide which is which</label>
<output id="score" aria-live="polite"></output></p>"""

# What it may load is written at its head, and that is nothing but what is in it.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title><!-- TITLE --></title>
<style>
:root { color-scheme: light dark; --ink: #1c1b22; --paper: #fff; --faint: #66646e; --line: #d5d3db; --lit: #b3470a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e7ef; --paper: #16151a; --faint: #a5a2b0; --line: #3b3944; --lit: #ffb066; }
  img { filter: invert(1); }
}
html { scroll-padding-top: 3rem; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2rem 0 0; } section > p { margin: 0 0 .5rem; }
p { color: var(--faint); max-width: 45rem; }
.row { border-top: 1px solid var(--line); padding: .5rem 0; }
.row h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .3rem; }
.clips { display: flex; flex-wrap: wrap; gap: .4rem; }
.clip { width: calc(3.7rem + max(var(--s) - 1, 0) * 4rem); min-width: min-content; max-width: 100%; }
button { width: 100%; padding: 0; font: inherit; color: inherit; background: none; text-align: left; cursor: pointer;
  border: 1px solid var(--line); border-radius: .3rem; overflow: hidden; }
button b { display: block; padding: .1rem .3rem; font-size: .8rem; font-weight: 400; overflow-wrap: break-word; }
button:focus-visible { outline: 3px solid var(--lit); outline-offset: 1px; }
button[aria-pressed=true] { border-color: var(--lit); box-shadow: 0 0 0 1px var(--lit); }
button[aria-pressed=true] b { color: var(--lit); }
.sight { position: relative; display: block; height: 3rem; }
img { display: block; width: 100%; height: 100%; }
i { position: absolute; inset: 0 auto 0 0; width: 0; border-right: 2px solid var(--lit); visibility: hidden; }
button[aria-pressed=true] i { visibility: visible; animation: across calc(var(--s) * 1s) linear forwards; }
@keyframes across { to { width: 100%; } }
.hidden img { visibility: hidden; }
select { width: 100%; font-size: .8rem; }
.blindly { position: sticky; top: 0; z-index: 1; padding: .5rem 0; background: var(--paper); }
output { margin-left: 1rem; }
@media (min-width: 40rem) {
  .row { display: grid; grid-template-columns: 13rem 1fr; gap: 1rem; }
  .clip { width: calc(5.5rem + max(var(--s) - 1, 0) * 5.5rem); }
}
</style>
</head>
<body>
<h1><!-- TITLE --></h1>
<p>Click a picture to hear it, click again to stop. The pictures are spectrograms, low notes at the bottom. Every clip
is at the same level: its loudest 400 ms have an RMS of <!-- LEVEL --> dBFS.</p>
<!-- BLIND -->
<!-- SECTIONS -->
<script type="module">
const player = new Audio();
let playing = null;

function stop() {
  player.pause();
  playing?.setAttribute("aria-pressed", "false");
  playing = null;
}

function play(button) {
  stop();
  playing = button;
  button.setAttribute("aria-pressed", "true");
  player.src = button.dataset.sound;
  player.play().catch(() => { if (playing === button) stop(); });
}

player.addEventListener("ended", stop);
document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button) button === playing ? stop() : play(button);
});
document.addEventListener("keydown", event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const clip = event.target.closest("button")?.parentElement;
  if (event.key === "Escape") stop();
  if (step && clip) (step < 0 ? clip.previousElementSibling : clip.nextElementSibling)?.firstElementChild.focus();
});

// Blind: clips of a row in any order, each with a list of what it may be. All of them guessed, the row shows itself.
const blind = document.querySelector("#blind"), score = document.querySelector("#score");
let right = 0, guessed = 0, rows = 0;

function call(button, text) {
  button.querySelector("b").textContent = text;
  button.setAttribute("aria-label", "Play " + text);
}

function cover(row) {
  row.inOrder = [...row.children];
  const clips = [...row.inOrder], labels = clips.map(clip => clip.firstElementChild.dataset.label);
  row.classList.add("hidden");
  for (let n = clips.length; n > 1; ) {
    const other = Math.floor(Math.random() * n--);
    [clips[n], clips[other]] = [clips[other], clips[n]];
  }
  clips.forEach((clip, n) => {
    const letter = String.fromCharCode(65 + n), choice = document.createElement("select");
    call(clip.firstElementChild, letter);
    choice.setAttribute("aria-label", letter + " is");
    choice.append(new Option("?", ""), ...labels.map(label => new Option(label)));
    choice.addEventListener("change", () => count(row));
    clip.append(choice);
    row.append(clip);
  });
}

function uncover(row) {
  row.classList.remove("hidden");
  for (const clip of row.children) {
    clip.querySelector("select")?.remove();
    call(clip.firstElementChild, clip.firstElementChild.dataset.label);
  }
}

function count(row) {
  const guesses = [...row.children].map(clip => [clip.firstElementChild, clip.querySelector("select").value]);
  if (guesses.some(([, guess]) => !guess)) return;
  uncover(row);
  for (const [button, guess] of guesses) {
    const hit = guess === button.dataset.label;
    call(button, button.dataset.label + (hit ? " ✓" : " ✗"));
    right += hit;
  }
  guessed += guesses.length;
  rows += 1;
  score.textContent = `${right} of ${guessed} right; by chance about ${rows}`;
}

blind?.addEventListener("change", () => {
  stop();
  right = guessed = rows = 0;
  score.textContent = blind.checked ? "Listen, then say which is which." : "";
  for (const row of document.querySelectorAll(".blind .clips")) {
    if (blind.checked) cover(row);
    else { uncover(row); row.append(...row.inOrder); }
  }
});
</script>
</body>
</html>
"""
