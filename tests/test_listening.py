"""The listening page: what is in the file, and what a real browser makes of it."""

from __future__ import annotations

import base64
import html.parser
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from device.errors import DarkrackError
from train import listening
from train.listening import Clip, Row, Section

RATE_HZ = 48_000
TAGS_OUTSIDE = {"src", "href", "srcset", "action", "poster", "data-sound"}


def tone(pitch_hz: float, seconds: float, level: float = 0.3, rate_hz: int = RATE_HZ) -> Any:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    partials = sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 8))
    return (level * partials * np.exp(-t)).astype(np.float32)


def sections() -> list[Section]:
    beside = [
        Row(
            f"Note {n} <b> & co",
            [
                Clip("real", tone(220 + n, 1.0, 0.02), RATE_HZ),
                Clip("resynthesis", tone(330, 1.0, 0.9), RATE_HZ),
                Clip("First", tone(440, 0.3, rate_hz=16_000), 16_000),
            ],
        )
        for n in range(3)
    ]
    sweep = [Row("Organ", [Clip(f"{n / 4:g}", tone(110 * (n + 1), 1.0), RATE_HZ) for n in range(5)])]
    walk = [Row("Celesta", [Clip("walk", tone(500, 2.8, rate_hz=44_100), 44_100)])]
    return [
        Section("Real beside generated", "Notes that no voice was trained on.", beside, blind=True),
        Section("Knobs", "One knob from 0 to 1.", sweep),
        Section("Walks", "z goes from one draw to another.", walk),
    ]


class Attributes(html.parser.HTMLParser):
    """Every attribute of every tag, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]

    def of(self, name: str) -> list[str]:
        return [value for _, one, value in self.found if one == name]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("listening") / "listen.html"
    listening.page(path, "First <and> others", sections())
    return path


def decoded(uri: str) -> tuple[npt.NDArray[np.float64], int]:
    kind, _, content = uri.partition(",")
    assert kind == "data:audio/mpeg;base64"
    return soundfile.read(io.BytesIO(base64.b64decode(content)))


def loudest_dbfs(audio: npt.NDArray[np.float64], rate_hz: int) -> float:
    window = min(round(0.4 * rate_hz), len(audio))
    energy = np.cumsum([0.0, *audio**2])
    return float(10 * np.log10((energy[window:] - energy[:-window]).max() / window))


# ---- the file ----


def test_everything_is_in_the_file(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    attributes = Attributes(text)
    outside = [(tag, name, value[:40]) for tag, name, value in attributes.found if name in TAGS_OUTSIDE]
    assert len(outside) > 2 * 15
    assert [one for one in outside if not one[2].startswith("data:")] == []
    assert "url(" not in text
    assert "import " not in text.split("<script")[1]
    assert "First &lt;and&gt; others" in text
    assert "Note 0 <b>" not in text


def test_clips_are_what_was_given_at_one_level(written: Path) -> None:
    sounds = Attributes(written.read_text(encoding="utf-8")).of("data-sound")
    clips = [clip for section in sections() for row in section.rows for clip in row.clips]
    assert len(sounds) == len(clips)
    for uri, clip in zip(sounds, clips, strict=True):
        audio, rate_hz = decoded(uri)
        assert rate_hz == clip.sample_rate_hz
        assert len(audio) / rate_hz == pytest.approx(len(clip.audio) / rate_hz, abs=0.1)
        assert loudest_dbfs(audio, rate_hz) == pytest.approx(listening.LEVEL_DBFS, abs=0.3)
        assert np.abs(audio[-5:]).max() < 0.02
        same = np.corrcoef(audio[: len(clip.audio) // 2], clip.audio[: len(clip.audio) // 2])[0, 1]
        assert same > 0.99


def test_a_clip_with_peaks_takes_all_of_them_down(tmp_path: Path) -> None:
    click = np.zeros(RATE_HZ, np.float32)
    click[1000:1040] = 0.5 * np.hanning(40)
    rows = [Row("one", [Clip("click", click, RATE_HZ), Clip("tone", tone(220, 1.0), RATE_HZ)])]
    listening.page(tmp_path / "x.html", "x", [Section("s", "t", rows)])
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    (a, _), (b, _) = map(decoded, Attributes(text).of("data-sound"))
    assert max(np.abs(a).max(), np.abs(b).max()) < 1
    assert loudest_dbfs(a, RATE_HZ) == pytest.approx(loudest_dbfs(b, RATE_HZ), abs=0.5)
    assert loudest_dbfs(b, RATE_HZ) < listening.LEVEL_DBFS - 3
    stated = re.search(r"RMS of (\S+) dBFS", text)
    assert stated
    assert float(stated.group(1)) == pytest.approx(loudest_dbfs(b, RATE_HZ), abs=0.3)


def test_silence_stays_silent(tmp_path: Path) -> None:
    rows = [Row("one", [Clip("none", np.zeros(RATE_HZ, np.float32), RATE_HZ)])]
    listening.page(tmp_path / "x.html", "x", [Section("s", "t", rows)])
    audio, _ = decoded(Attributes((tmp_path / "x.html").read_text()).of("data-sound")[0])
    assert np.abs(audio).max() < 1e-3


@pytest.mark.parametrize(
    ("audio", "rate_hz", "message"),
    [
        (np.zeros((9, 2), np.float32), RATE_HZ, "mono audio"),
        (np.zeros(0, np.float32), RATE_HZ, "mono audio"),
        (np.array([0.1, np.nan], np.float32), RATE_HZ, "got NaN"),
        (np.ones(900, np.float32), 12_345, "a rate that MP3 has"),
    ],
)
def test_what_no_browser_could_play_is_refused_by_name(
    tmp_path: Path, audio: Any, rate_hz: int, message: str
) -> None:
    rows = [Row("Note 60", [Clip("real", audio, rate_hz)])]
    with pytest.raises(DarkrackError, match=f"Note 60: real.*{message}"):
        listening.page(tmp_path / "x.html", "x", [Section("Beside", "t", rows)])
    assert not (tmp_path / "x.html").exists()


@settings(max_examples=20)
@given(st.integers(1, 60_000), st.sampled_from([8000, 16_000, 44_100, 48_000]), st.integers(0, 2**32 - 1))
def test_any_clip_has_a_picture(samples: int, rate_hz: int, seed: int) -> None:
    audio = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    image = Image.open(io.BytesIO(listening._picture(Clip("x", audio, rate_hz))))
    assert image.size == (listening.COLUMNS, listening.BANDS)


def test_the_picture_shows_the_tone_where_it_is() -> None:
    t = np.arange(RATE_HZ) / RATE_HZ
    audio = (np.sin(2 * np.pi * 1000 * t) * (t > 0.5)).astype(np.float32)
    picture = np.asarray(Image.open(io.BytesIO(listening._picture(Clip("x", audio, RATE_HZ)))).convert("L"))
    row = listening.BANDS - 1 - int(listening.BANDS * np.log(1000 / 60) / np.log(16_000 / 60))
    assert picture[row, 3 * listening.COLUMNS // 4] < 20  # dark: loud
    assert picture[row, listening.COLUMNS // 4] > 235
    assert picture[row - 8, 3 * listening.COLUMNS // 4] > 100


# ---- a browser ----

DECODE = """async () => {
  const context = new OfflineAudioContext(1, 1, 48000), found = [];
  for (const button of document.querySelectorAll("button")) {
    const bytes = Uint8Array.from(atob(button.dataset.sound.split(",")[1]), one => one.charCodeAt(0));
    const whole = await context.decodeAudioData(bytes.buffer);
    const element = new Audio(button.dataset.sound);
    await new Promise((good, bad) => { element.onloadedmetadata = good; element.onerror = bad; });
    found.push([whole.duration, element.duration, Math.max(...whole.getChannelData(0).slice(0, 9000))]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        # Root has no sandbox; without a sound card playing takes place all the same.
        launched = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Page]:
    """The page from a file; whatever leaves it or goes wrong in it fails the test."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    requests: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.add_init_script(
        "window.Audio = class extends Audio { constructor(...a) { super(...a); window.heard ??= this; } }"
    )
    page.goto(written.as_uri())
    yield page
    assert wrong == []
    assert [url for url in requests if not url.startswith("data:")] == [written.as_uri()]
    page.close()


def pressed(page: Page) -> list[str]:
    labels: list[str] = page.eval_on_selector_all(
        "button[aria-pressed=true]", "found => found.map(one => one.dataset.label)"
    )
    return labels


def until(page: Page, holds: str) -> None:
    """Wait for it; Playwright's own wait_for_function is what the page's policy forbids."""
    for _ in range(500):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never came true: {holds}")


@pytest.mark.program("chromium")
def test_every_clip_decodes_in_a_browser(opened: Page) -> None:
    clips = [clip for section in sections() for row in section.rows for clip in row.clips]
    found = opened.evaluate(DECODE)
    assert len(found) == len(clips)
    for (whole_s, element_s, peak), clip in zip(found, clips, strict=True):
        seconds = len(clip.audio) / clip.sample_rate_hz
        assert whole_s == pytest.approx(seconds, abs=0.1)
        assert element_s == pytest.approx(seconds, abs=0.1)
        assert 0.05 < peak < 1


@pytest.mark.program("chromium")
def test_a_click_plays_another_stops_and_one_plays_at_a_time(opened: Page) -> None:
    walk, first = opened.get_by_label("Play walk"), opened.get_by_label("Play real").first
    walk.click()
    assert pressed(opened) == ["walk"]
    until(opened, "!heard.paused && heard.currentTime > 0.1")
    walk.click()
    assert pressed(opened) == []
    assert opened.evaluate("heard.paused")
    walk.click()
    first.click()
    assert pressed(opened) == ["real"]
    until(opened, "heard.ended")  # by itself
    assert pressed(opened) == []


@pytest.mark.program("chromium")
def test_keys_do_what_a_mouse_does(opened: Page) -> None:
    opened.get_by_label("Play 0.25").focus()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("Enter")
    assert pressed(opened) == ["0.5"]
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("Space")
    assert pressed(opened) == ["0.25"]
    opened.keyboard.press("Escape")
    assert pressed(opened) == []
    names = opened.eval_on_selector_all(
        "button, input, select", "all => all.map(one => one.ariaLabel || one.labels[0].innerText)"
    )
    assert all(names)


@pytest.mark.program("chromium")
def test_what_is_hidden_can_be_guessed_and_is_counted(opened: Page) -> None:
    rows = opened.locator(".blind .clips")
    before = rows.first.inner_text()
    opened.get_by_label("Hide which is which").check()
    assert rows.first.locator("b").all_inner_texts() == ["A", "B", "C"]
    assert not rows.first.locator("img").first.is_visible()
    assert opened.locator("section:not(.blind) select").count() == 0
    assert opened.locator("[aria-label*=real]").count() == 0

    def guess(row: Any, *, rightly: bool) -> None:
        labels = row.locator("button").evaluate_all("all => all.map(one => one.dataset.label)")
        said = labels if rightly else [*labels[1:], labels[0]]
        for n, label in enumerate(said):
            row.locator(f"select[aria-label^={'ABC'[n]}]").select_option(label)

    guess(rows.nth(0), rightly=True)
    assert opened.locator("#score").inner_text() == "3 of 3 right; by chance about 1"
    assert sorted(rows.nth(0).locator("b").all_inner_texts()) == ["First ✓", "real ✓", "resynthesis ✓"]
    guess(rows.nth(1), rightly=False)
    assert opened.locator("#score").inner_text() == "3 of 6 right; by chance about 2"
    opened.get_by_label("Hide which is which").uncheck()
    assert rows.first.inner_text() == before
    assert opened.locator("select").count() == 0


@pytest.mark.program("chromium")
def test_hidden_clips_come_in_any_order(opened: Page) -> None:
    orders = set()
    for _ in range(12):
        opened.get_by_label("Hide which is which").check()
        orders.add(
            tuple(
                opened.locator(".blind .clips")
                .first.locator("button")
                .evaluate_all("all => all.map(one => one.dataset.label)")
            )
        )
        opened.get_by_label("Hide which is which").uncheck()
    assert len(orders) > 2  # all twelve in one or two of six orders: 3e-5


@pytest.mark.program("chromium")
@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_hangs_over_the_side(opened: Page, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [one.bounding_box() for one in opened.locator("button").all()]
    assert min(box["height"] for box in boxes if box) >= 44  # what a thumb hits
    assert min(box["width"] for box in boxes if box) >= 44


@pytest.mark.program("chromium")
def test_the_page_itself_forbids_what_leaves_it(browser: Any, written: Path) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(written.as_uri())
    page.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/x.png' }))")
    page.evaluate("fetch('http://127.0.0.1:9/x').catch(() => {})")
    page.wait_for_timeout(200)
    for directive in ("img-src", "default-src"):
        assert any(f'Content Security Policy directive: "{directive}' in line for line in refused), refused
    page.close()
