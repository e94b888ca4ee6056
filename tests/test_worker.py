"""The worker: frames for who waits longest, on slots that nobody hears, whatever became of the one before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import tiny_files, tiny_manifest

from device import bundle as bundles
from device.bundle import Bundle
from device.control import Control, Layout
from device.engine import (
    EPOCH,
    MUTE,
    READY,
    SAMPLE_RATE_HZ,
    SETTINGS,
    SETTINGS_EPOCH,
    SHELF,
    SLOTS,
    Desk,
    N,
    advance,
    counted,
    hand_over,
    make,
    memory_size,
    wish,
)
from device.errors import DarkrackError
from device.hands import GLIDE_SEMITONES
from device.partials import nominal_hz
from device.patch import Patch
from device.recording import clicks, level, pitch_cents
from device.timbre import latent_word
from device.voices import SAMPLES, fill
from device.worker import (
    EXPECTED,
    LATE_S,
    REFRESH_HZ,
    SAMPLES_SEMITONES,
    SHELF_HZ,
    SHELF_SEMITONES,
    Setup,
    Worker,
)

RATE_HZ = SAMPLE_RATE_HZ
BLOCK = 128
LIMIT_HZ = 16_000.0
STEADY = Patch(attributes={"Wind noise, breath": 0.0, "Plucked string instrument": 0.0}, release_s=0.1)
PLACES = 17  # MIDI 36 to 84, every three semitones


class Stage:
    """A desk with a real worker and real hands, on a clock of its own."""

    def __init__(self, bundle: Bundle, patch: Patch = STEADY, voices: int = 8) -> None:
        names = tuple(attribute.name for attribute in bundle.manifest.attributes)
        self.setup = Setup(1, bundle.path, patch)
        self.layout = Layout(1, patch, names, bundle.manifest.pitch_range_midi)
        self.desk: Desk = make(np.zeros(memory_size(voices), np.uint8), voices)
        self.samples = RATE_HZ
        self.worker = Worker(self.desk, self.setup)
        self.hands = Control(self.desk, self.layout)

    @property
    def now_ns(self) -> int:
        return self.samples * 1_000_000_000 // RATE_HZ

    @property
    def now_s(self) -> float:
        return self.now_ns * 1e-9

    def count(self, name: str) -> int:
        return counted(self.desk)[name]

    def step(self) -> bool:
        return self.worker.step(self.now_s)

    def settle(self) -> None:
        """Let the worker do all there is to do."""
        while self.step():
            pass

    def wait(self, seconds: float) -> None:
        """Let time pass for the worker, with nobody playing."""
        self.samples += round(seconds * RATE_HZ)

    def on(self, key: int, pitch_midi: float | None = None, velocity: float = 0.8) -> None:
        self.hands.at_ns = self.now_ns
        self.hands.note_on(key, float(key) if pitch_midi is None else pitch_midi, velocity)

    def off(self, key: int) -> None:
        self.hands.at_ns = self.now_ns
        self.hands.note_off(key)

    def block(self) -> np.ndarray:
        out = np.zeros((BLOCK, 2), np.float32)
        advance(self.desk, out, self.now_ns)
        self.samples += BLOCK
        return out

    def play(self, seconds: float, steps: int = 4, turn: Callable[[float], None] | None = None) -> np.ndarray:
        """Blocks, and so many steps of the worker before each; ``turn`` is called with the time before them."""
        pieces = []
        for _ in range(round(seconds * RATE_HZ / BLOCK)):
            if turn is not None:
                turn(self.now_s)
            for _ in range(steps):
                if not self.step():
                    break
            pieces.append(self.block())
        return np.concatenate(pieces)

    def slot_of(self, voice: int) -> int:
        return int(self.desk.state.voice[voice]["slot"])

    def cells_of(self, voice: int) -> np.ndarray:
        """A copy of the table that a voice was last offered."""
        slot = (int(self.desk.offer[voice]) & 255) - 1
        return np.asarray(self.desk.state.cells[slot]).copy()

    def shaking(self) -> Callable[[float], None]:
        """A hand that never lets a knob stand still."""
        return lambda now_s: self.hands.set_attribute("Trumpet", 0.5 + 0.4 * np.sin(20 * now_s))


@pytest.fixture
def stage(tiny_bundle: Bundle) -> Stage:
    made = Stage(tiny_bundle)
    made.settle()
    return made


# The shelf.


def test_the_shelf_holds_the_trained_range_before_anybody_is_told_that_it_is_ready(
    tiny_bundle: Bundle,
) -> None:
    stage = Stage(tiny_bundle)
    desk = stage.desk
    for made in range(PLACES):
        assert not stage.worker.ready
        assert not desk.version[READY]
        assert np.count_nonzero(desk.shelf) == made
        assert stage.step()
    assert stage.worker.ready
    assert desk.version[READY] == 1
    assert not stage.step(), "all is done"
    slots = desk.shelf[:PLACES] - 1
    assert len(set(slots)) == PLACES
    wanted = [nominal_hz(36 + SHELF_SEMITONES * place) for place in range(PLACES)]
    np.testing.assert_allclose(desk.state.table["f0_hz"][slots], wanted)
    assert stage.count("generated") == PLACES
    assert desk.version[EPOCH] == 1


def test_a_step_leaves_the_time_as_a_sign_of_life(stage: Stage) -> None:
    stage.wait(1.0)
    stage.step()
    assert stage.count("worker_beat_ns") == pytest.approx(stage.now_ns, abs=1000)


def test_an_expected_pitch_gets_a_table_of_its_own(stage: Stage) -> None:
    stage.wait(1.0)
    stage.hands.expect((61.3,))
    assert stage.step()
    slot = int(stage.desk.shelf[SHELF - EXPECTED]) - 1
    assert stage.desk.state.table[slot]["f0_hz"] == pytest.approx(nominal_hz(61.3))
    assert not stage.step()
    stage.wait(1.0)
    stage.hands.expect((61.31,))
    assert not stage.step(), "a cent is the same pitch"
    stage.on(1, 61.3)
    stage.block()
    assert stage.slot_of(0) == slot


def test_an_expected_pitch_is_not_forgotten_because_no_slot_was_free(stage: Stage) -> None:
    stage.hands.expect((50.5,))
    stage.settle()
    for note in range(1, SLOTS):  # the callback stands still, so every note takes a slot for good
        wish(stage.desk, 0, note, 60.0, 0.8, 1, 0, 1, stage.now_ns)
        stage.step()
    assert stage.count("slots_short") > 0
    stage.wait(1.0)
    stage.hands.expect((61.3,))
    assert not stage.step()
    stage.block()
    stage.block()
    stage.settle()
    slot = int(stage.desk.shelf[SHELF - EXPECTED]) - 1
    assert stage.desk.state.table[slot]["f0_hz"] == pytest.approx(nominal_hz(61.3))


# Priority.


def test_a_new_note_comes_before_sounding_ones_then_likely_ones_then_the_shelf(stage: Stage) -> None:
    stage.on(60)
    stage.settle()
    stage.block()
    stage.wait(1.0)
    stage.hands.set_attribute("Trumpet", 0.9)
    stage.hands.expect((50.5,))
    stage.on(64)
    before = stage.desk.offer.copy()
    shelf = stage.desk.shelf.copy()

    assert stage.step()
    assert (stage.desk.offer != before).tolist()[:2] == [False, True]
    assert stage.count("refreshed") == 0
    assert stage.step()
    assert (stage.desk.offer != before).tolist()[:2] == [True, True]
    assert stage.count("refreshed") == 1
    assert (stage.desk.shelf == shelf).all()
    assert stage.step()
    assert np.flatnonzero(stage.desk.shelf != shelf).tolist() == [SHELF - EXPECTED]
    for made in range(PLACES):
        assert np.count_nonzero(stage.desk.shelf[:PLACES] != shelf[:PLACES]) == made
        assert stage.step()
    assert not stage.step()


def test_knobs_that_never_rest_do_not_starve_the_shelf(stage: Stage) -> None:
    stage.on(60)
    stage.settle()
    stage.block()
    shelf = stage.desk.shelf.copy()
    for number in range(400):  # a step for every refresh that falls due: there is never time to spare
        stage.wait(1 / REFRESH_HZ)
        stage.hands.set_attribute("Trumpet", 0.2 + 0.001 * number)
        assert stage.step()
        stage.block()
    assert (stage.desk.shelf[:PLACES] != shelf[:PLACES]).all()
    assert stage.count("refreshed") > 300


def test_a_shelf_that_is_always_out_of_date_is_renewed_ten_times_a_second(stage: Stage) -> None:
    stage.wait(1.0)
    before = stage.count("generated")
    stage.play(1.0, turn=stage.shaking())
    renewed = (stage.count("generated") - before) / PLACES
    assert SHELF_HZ - 2 <= renewed <= SHELF_HZ + 1


# Lateness.


@pytest.mark.parametrize(("waits_s", "late"), [(0.0, 0), (LATE_S - 0.005, 0), (LATE_S + 0.005, 1)])
def test_a_wish_that_waited_too_long_is_late(stage: Stage, waits_s: float, late: int) -> None:
    stage.on(60)
    stage.wait(waits_s)
    stage.step()
    assert stage.count("late_frames") == late
    assert stage.count("latest_frames_ns") == pytest.approx(waits_s * 1e9, abs=1e5)


# Frames of a note's own.


def test_a_note_begins_from_the_shelf_and_goes_over_to_its_exact_frames(stage: Stage) -> None:
    stage.on(1, 61.4)
    pieces = [stage.block()]
    assert (stage.count("from_shelf"), stage.count("from_offer")) == (1, 0)
    near_hz = stage.desk.state.table[stage.slot_of(0)]["f0_hz"]
    assert near_hz == pytest.approx(nominal_hz(60.0))
    pieces.append(stage.play(0.5))
    assert stage.count("morphs") == 1
    assert stage.desk.state.table[stage.slot_of(0)]["f0_hz"] == pytest.approx(nominal_hz(61.4))
    held = stage.play(1.0)
    assert abs(pitch_cents(held, RATE_HZ, nominal_hz(61.4))) < 2
    stage.off(1)
    pieces += [held, stage.play(0.5)]
    assert clicks(np.concatenate(pieces), RATE_HZ, LIMIT_HZ) == []


def test_exact_frames_sound_as_if_the_note_had_begun_with_them(tiny_bundle: Bundle) -> None:
    sounds = []
    for at_once in (True, False):
        stage = Stage(tiny_bundle)
        stage.settle()
        stage.on(1, 61.4)
        if not at_once:
            stage.block()
        stage.play(0.5)
        sounds.append(stage.play(1.0))
        assert stage.count("from_offer") == at_once
    spectra = [20 * np.log10(np.abs(np.fft.rfft(one[:, 0] * np.hanning(len(one)))) + 1e-3) for one in sounds]
    strong = spectra[0] > spectra[0].max() - 40
    assert np.abs(spectra[0] - spectra[1])[strong].max() < 1


def test_a_note_bent_away_from_its_frames_gets_new_ones(stage: Stage) -> None:
    stage.on(60)
    stage.play(0.2)
    for semitones, frames_midi in ((0.9 * GLIDE_SEMITONES, 60.0), (5.0, 65.0)):
        stage.hands.at_ns = stage.now_ns
        stage.hands.bend(semitones)
        stage.play(0.2)
        slot = stage.slot_of(0)
        assert stage.desk.state.table[slot]["f0_hz"] == pytest.approx(nominal_hz(frames_midi))
    assert abs(pitch_cents(stage.play(1.0), RATE_HZ, nominal_hz(65))) < 2


def test_both_halves_of_a_unison_have_frames_of_their_own(tiny_bundle: Bundle) -> None:
    stage = Stage(tiny_bundle, dataclasses.replace(STEADY, unison=True))
    stage.settle()
    stage.on(60)
    stage.settle()
    assert np.abs(stage.cells_of(0) - stage.cells_of(1)).max() > 1e-3


def test_a_knob_reaches_sounding_notes(stage: Stage) -> None:
    stage.hands.set_attribute("Trumpet", 0.0)
    stage.on(60)
    stage.play(0.2)
    dull = stage.cells_of(0)
    stage.hands.set_attribute("Trumpet", 1.0)
    stage.play(0.2)
    bright = stage.cells_of(0)
    rows = 80
    assert bright[100 * rows + 10] > 2 * dull[100 * rows + 10], "partial 11 in frame 100"
    assert stage.count("refreshed") == 1
    stage.play(0.2)
    assert stage.count("refreshed") == 1, "a knob that rests costs nothing"


def test_a_sounding_note_is_refreshed_fifty_times_a_second_at_most(stage: Stage) -> None:
    stage.on(60)
    stage.play(0.1)
    before = stage.count("refreshed")
    audio = stage.play(1.0, turn=stage.shaking())
    refreshed = stage.count("refreshed") - before
    assert 0.8 * REFRESH_HZ <= refreshed <= REFRESH_HZ + 1
    assert stage.count("morphs") == pytest.approx(refreshed, abs=3)
    stage.off(60)
    audio = np.concatenate([audio, stage.play(0.5)])
    assert not [at for at in clicks(audio, RATE_HZ, LIMIT_HZ) if at > 0.01], "but where the cut begins"


def test_a_note_that_is_over_is_not_refreshed(stage: Stage) -> None:
    stage.on(60)
    stage.play(0.1)
    stage.off(60)
    stage.play(0.5)
    assert not stage.desk.state.voice["active"].any()
    before = stage.count("refreshed")
    stage.play(0.5, turn=stage.shaking())
    assert stage.count("refreshed") == before


def test_a_wish_for_a_note_that_is_over_is_not_served(stage: Stage) -> None:
    stage.on(60)
    stage.block()
    stage.hands.at_ns = stage.now_ns
    stage.hands.silence()
    stage.block()
    stage.step()
    assert not stage.desk.offer.any()


# Faults.


def test_a_network_that_says_nan_mutes_that_note_and_no_other(stage: Stage) -> None:
    stage.on(60)
    pieces = [stage.play(0.3)]
    stage.worker.plant_nan(1)
    stage.on(64)
    stage.step()
    assert int(stage.desk.offer[1]) & 255 == MUTE
    pieces.append(stage.play(0.3))
    assert stage.desk.state.voice["active"].tolist()[:2] == [True, False]
    assert (stage.count("network_faults"), stage.count("muted")) == (1, 1)
    assert abs(pitch_cents(stage.play(1.0), RATE_HZ, nominal_hz(60))) < 2
    stage.on(67)  # in the place of the muted one
    pieces = [stage.play(0.3)]
    assert stage.desk.state.voice["active"].tolist()[:2] == [True, True]
    stage.off(60)
    stage.off(67)
    pieces.append(stage.play(0.5))
    assert np.isfinite(np.concatenate(pieces)).all()


def test_a_sounding_note_that_turns_nan_is_muted_without_a_click(stage: Stage) -> None:
    stage.on(60)
    pieces = [stage.play(0.3)]
    stage.worker.plant_nan(1)
    stage.hands.set_attribute("Trumpet", 1.0)
    pieces.append(stage.play(0.5))
    assert not stage.desk.state.voice["active"].any()
    assert stage.count("muted") == 1
    assert clicks(np.concatenate(pieces), RATE_HZ, LIMIT_HZ) == []


def test_a_shelf_that_turns_nan_keeps_what_it_had(stage: Stage) -> None:
    shelf = stage.desk.shelf.copy()
    stage.wait(1.0)
    stage.worker.plant_nan(PLACES)
    stage.hands.set_attribute("Trumpet", 1.0)
    stage.settle()
    assert stage.count("network_faults") == PLACES
    assert (stage.desk.shelf == shelf).all()
    stage.on(60)
    assert level(stage.play(0.2)).rms_dbfs > -50


def in_use(desk: Desk) -> set[int]:
    """Slots that the callback may be reading, or may be about to."""
    slots = {int(voice["slot"]) for voice in desk.state.voice if voice["active"]}
    slots |= {(int(word) & 255) - 1 for word in desk.offer if word and int(word) & 255 != MUTE}
    return slots | {int(word) - 1 for word in desk.shelf if word}


def untouched(desk: Desk, work: Callable[[], object]) -> bool:
    """Whether ``work`` leaves alone what is in use when it begins."""
    slots = sorted(in_use(desk))
    cells, tables = desk.state.cells[slots].copy(), desk.state.table[slots].copy()
    work()
    return bool((cells == desk.state.cells[slots]).all() and (tables == desk.state.table[slots]).all())


def test_workers_that_are_killed_at_any_moment_are_replaced_without_a_click_and_write_to_nothing_heard(
    stage: Stage,
) -> None:
    turn = stage.shaking()
    rng = np.random.default_rng(3)
    pieces = []
    for key in (48, 55, 60, 64, 71):
        stage.on(key)
    for block in range(300):
        turn(stage.now_s)
        if rng.random() < 0.02:
            stage.worker = Worker(stage.desk, stage.setup)  # of the last one nothing is left but the desk
        if block % 60 == 30:
            stage.on(72 + block // 60)
        for _ in range(4):
            assert untouched(stage.desk, stage.step)
        pieces.append(stage.block())
    starts = stage.count("worker_starts")
    assert starts > 4
    assert stage.count("without_table") == stage.count("muted") == stage.count("not_finite") == 0
    stage.hands.finish()
    pieces.append(stage.play(0.5))
    assert clicks(np.concatenate(pieces), RATE_HZ, LIMIT_HZ) == []
    # The planted fault: had it written where a voice reads, it would have been seen.
    stage.on(60)
    stage.play(0.1)
    stance = stage.worker._timbre.stance
    note, f0_hz = stage.worker._maker.note(stance.z[0], stance.vector, 50, 1, 0)
    slot = stage.slot_of(0)
    assert not untouched(
        stage.desk, lambda: fill(stage.desk.state, slot, note, f0_hz, stage.worker._maker.grid)
    )


def test_a_new_worker_writes_nothing_before_two_blocks_have_passed(stage: Stage) -> None:
    stage.on(60)
    stage.play(0.1)
    stage.worker = Worker(stage.desk, stage.setup)
    before = stage.count("generated")
    for _ in range(2):
        assert not stage.step()
        assert stage.count("generated") == before
        stage.block()
    assert stage.count("slots_short") > 0
    assert stage.step()
    assert stage.count("generated") == before + 1


def test_a_callback_that_stands_still_does_not_get_its_slots_overwritten(stage: Stage) -> None:
    stage.on(60)
    stage.play(0.1)
    turn = stage.shaking()
    for _ in range(400):  # and every one of them would take a slot
        stage.wait(1 / REFRESH_HZ)
        turn(stage.now_s)
        assert untouched(stage.desk, stage.step)
    assert stage.count("slots_short") > 0
    stage.block()
    stage.block()
    stage.wait(1 / REFRESH_HZ)
    turn(stage.now_s)
    assert stage.step()


# Another bundle, another setup.


@pytest.fixture(scope="session")
def narrow_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same network with an octave of pitches and another preset first."""
    manifest = tiny_manifest()
    manifest["pitch_range_midi"] = [54, 66]
    manifest["presets"].reverse()
    path = tmp_path_factory.mktemp("narrow") / "narrow.rack"
    return bundles.write(path, manifest, tiny_files(tiny_bundle.model()))


def test_another_bundle_renews_the_shelf_and_keeps_what_sounds(stage: Stage, narrow_bundle: Bundle) -> None:
    stage.on(60)
    pieces = [stage.play(0.3)]
    offer, slot = int(stage.desk.offer[0]), stage.slot_of(0)
    stage.worker.set_up(Setup(2, narrow_bundle.path, Patch()))
    assert stage.desk.version[EPOCH] == 2
    assert np.count_nonzero(stage.desk.shelf) == 5, "the old ones stay until there are new ones"
    pieces.append(stage.play(0.5))
    assert (int(stage.desk.offer[0]), stage.slot_of(0)) == (offer, slot)
    assert stage.desk.state.voice[0]["active"]
    hz = stage.desk.state.table["f0_hz"][stage.desk.shelf[:5] - 1]
    np.testing.assert_allclose(hz, [nominal_hz(midi) for midi in (54, 57, 60, 63, 66)])
    # A note of the new one, whose presets decay.
    layout = dataclasses.replace(stage.layout, epoch=2, pitch_range_midi=(54.0, 66.0))
    stage.hands.at_ns = stage.now_ns
    stage.hands.set_up(layout)
    stage.on(66)
    pieces.append(stage.play(0.3))
    assert stage.count("without_table") == 0
    assert stage.desk.state.decay[stage.slot_of(1)].min() < 0
    stage.hands.finish()
    pieces.append(stage.play(1.0))
    assert clicks(np.concatenate(pieces), RATE_HZ, LIMIT_HZ) == []


def test_a_bundle_that_cannot_be_read_changes_nothing(stage: Stage, tmp_path: Path) -> None:
    broken = tmp_path / "broken.rack"
    broken.write_bytes(b"PK")
    with pytest.raises(DarkrackError):
        stage.worker.set_up(Setup(2, broken, STEADY))
    with pytest.raises(DarkrackError, match="did you mean 'Reed'"):
        stage.worker.set_up(Setup(2, stage.setup.bundle, Patch(preset="Reeds")))
    assert stage.desk.version[EPOCH] == 1
    assert stage.worker.ready
    stage.on(60)
    stage.play(0.1)
    assert stage.count("from_offer") == 1


def test_wishes_and_settings_of_another_setup_are_passed_over(stage: Stage) -> None:
    desk = stage.desk
    wish(desk, 0, 5, 60.0, 0.8, 1, 0, 0, stage.now_ns)
    stage.wait(1.0)
    assert not stage.step()
    assert not desk.offer.any()
    desk.settings[0] = 1.0
    desk.version[SETTINGS_EPOCH] = 2
    hand_over(desk.version, SETTINGS, int(desk.version[SETTINGS]) + 1)
    assert not stage.step(), "no frame has changed"
    desk.version[SETTINGS_EPOCH] = 1
    assert stage.step()
    wish(desk, 0, 5, 60.0, 0.8, 1, 0, 1, stage.now_ns)
    assert stage.step()
    assert desk.offer[0] >> 8 == 5


def test_samples_play_from_a_shelf_of_their_own_and_are_left_alone_by_knobs(
    tiny_samples_bundle: Bundle,
) -> None:
    stage = Stage(tiny_samples_bundle, Patch(release_s=0.1))
    stage.settle()
    low, high = tiny_samples_bundle.manifest.pitch_range_midi
    slots = stage.desk.shelf[stage.desk.shelf > 0] - 1
    assert len(slots) == min(SHELF - EXPECTED, int((high - low) // SAMPLES_SEMITONES) + 1)
    assert (stage.desk.state.table["kind"][slots] == SAMPLES).all()
    stage.on(60)
    stage.play(0.2)
    assert stage.count("from_offer") == 1
    before = stage.count("refreshed")
    names = stage.layout.attributes
    held = stage.play(1.0, turn=lambda now_s: stage.hands.set_attribute(names[0], now_s % 1))
    assert stage.count("refreshed") == before == 0
    assert abs(pitch_cents(held, RATE_HZ, nominal_hz(60))) < 10


def test_a_bundle_of_samples_follows_one_of_partials_while_a_note_sounds(
    stage: Stage, tiny_samples_bundle: Bundle
) -> None:
    stage.on(60)
    pieces = [stage.play(0.3)]
    stage.worker.set_up(Setup(2, tiny_samples_bundle.path, Patch()))
    names = tuple(one.name for one in tiny_samples_bundle.manifest.attributes)
    held = stage.play(0.3)
    assert abs(level(held).rms_dbfs - level(pieces[0][4800:]).rms_dbfs) < 1, "as it was"
    stage.hands.at_ns = stage.now_ns
    stage.hands.set_up(Layout(2, STEADY, names, tiny_samples_bundle.manifest.pitch_range_midi))
    for key in (48, 64):
        stage.on(key)
    pieces += [held, stage.play(0.5)]
    kinds = [
        int(stage.desk.state.table[voice["slot"]]["kind"])
        for voice in stage.desk.state.voice
        if voice["active"]
    ]
    assert kinds == [SAMPLES, SAMPLES]
    assert stage.count("without_table") == 0
    stage.hands.finish()
    pieces.append(stage.play(0.5))
    assert clicks(np.concatenate(pieces), RATE_HZ, LIMIT_HZ) == []


def test_generation_is_counted(stage: Stage) -> None:
    stage.on(60)
    before = stage.count("generation_ns")
    stage.step()
    assert stage.count("generated") == PLACES + 1
    assert stage.desk.counts[N["generation_ns"]] > before


def test_labels_latent_and_carry_reach_the_worker_and_go_back(stage: Stage) -> None:
    timbre = stage.worker._timbre
    size, before = timbre.size, timbre.stance
    base = np.full(len(stage.layout.attributes), 0.5, np.float32)
    z, shift = np.ones(size, np.float32), np.full(size, 0.25, np.float32)
    with stage.hands.at_once():
        stage.hands.stand(base, z, shift)
        stage.hands.set_attribute("Trumpet", 0.9, carry=True)
        version = int(stage.desk.version[SETTINGS])
        stage.settle()
        assert timbre.stance is before, "all of it or nothing"
    assert int(stage.desk.version[SETTINGS]) == version + 1
    stage.wait(1.0)
    stage.settle()
    carried = timbre.stance
    np.testing.assert_allclose(carried.z[0], 1.25)
    own = carried.latent(latent_word(5, twin=False))
    np.testing.assert_allclose(own - shift, latent_of_specimen(5, size), atol=1e-6)
    stage.hands.set_attribute("Trumpet", 0.9, carry=False)
    stage.wait(1.0)
    stage.settle()
    assert not np.array_equal(timbre.stance.vector, carried.vector), "the others are let go of"
    stage.hands.unset_attributes()
    stage.hands.stand(None, None, None)
    stage.wait(1.0)
    stage.settle()
    np.testing.assert_array_equal(timbre.stance.vector, before.vector)
    np.testing.assert_array_equal(timbre.stance.z, before.z)


def latent_of_specimen(specimen: int, size: int) -> np.ndarray:
    return np.random.default_rng([specimen, 0]).standard_normal(size).astype(np.float32)
