"""What is trimmed on the `stft` grid: DarkGAN's generator, taught by itself, its discriminator and its notes."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prune import snr_db, some_channels
from test_trim import interrupt_at
from torch import Tensor, nn
from training import GROWING, TWO_STAGE, train_run, write_recipe, write_set

import darkrack
from compress import trim
from compress.export import export
from compress.prune import OUT, count_macs, parts_of, structure_of, take, weight_of
from compress.subjects import GrowingSubject
from device.generator import Asked
from device.generator import Generator as Player
from device.generator import snr_db as db
from train import growing, stages
from train.darkgan import Generator
from train.recipe import CONCATENATED, FILM, GrowingRecipe, read_recipe
from train.runs import open_run
from train.voice import open_voice

WIDE = "channels = [24, 16, 16]"
GROWN = GROWING.replace("channels = [8, 8, 4]", WIDE)
STAGED = TWO_STAGE.replace("channels = [8, 8, 4]", WIDE)


def told_by_film(text: str) -> str:
    return text.replace("attributes = true", f'attributes = true\nconditioning = "{FILM}"')


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return train_run(tmp_path_factory.mktemp("grown"), data, GROWN)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """In two stages, and told by FiLM."""
    return train_run(tmp_path_factory.mktemp("staged"), data, told_by_film(STAGED))


def words(run: Path, data: Path, out: Path, *more: str) -> list[str]:
    short = [
        "--to",
        "60%",
        "25%",
        "--steps",
        "2",
        "--last-steps",
        "3",
        "--batch",
        "4",
        "--round-share",
        "0.6",
    ]
    learn = [] if "--learn" in more else ["--learn", "outputs", "critic"]
    return ["trim", str(run), "--data", str(data), "--out", str(out), *short, *learn, *more]


def network(run: Path) -> Generator:
    made = open_run(run).generator
    assert isinstance(made, Generator)
    return made


def asked(notes: int = 1) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(1)
    pitch = torch.randint(48, 73, (notes, 1), generator=random).float()
    return torch.randn(notes, 4, generator=random), torch.rand(notes, 3, generator=random), pitch


def silent(network: Generator, channels: dict[str, np.ndarray]) -> Generator:
    """A copy that makes nothing in these channels: weights, biases, gains and offsets of what makes them are 0."""
    quiet = copy.deepcopy(network)
    parts = parts_of(quiet)
    for group in structure_of(quiet, asked(), ["to_planes.2"]).groups:
        for part in group.side(OUT):
            gone = torch.from_numpy(part.index[channels[group.name]].ravel())
            made = parts[part.layer]
            with torch.no_grad():
                weight_of(made).reshape(part.index.size, -1)[gone] = 0
                if isinstance(made, nn.Linear | nn.Conv2d) and made.bias is not None:
                    made.bias[gone] = 0
    return quiet


# ---- the network ----


@pytest.fixture(scope="module", params=[FILM, CONCATENATED])
def playing(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Generator:
    text = told_by_film(GROWN) if request.param == FILM else GROWN
    recipe, _ = read_recipe(write_recipe(tmp_path_factory.mktemp("recipe"), text))
    assert isinstance(recipe, GrowingRecipe)
    torch.manual_seed(0)
    made = Generator(recipe.generator, 3, recipe.pitch_range_midi)
    for parameter in made.parameters():  # zeros hide what is wired wrong
        nn.init.normal_(parameter)
    return made.finished(torch.tensor([-6.0, 0.1]), torch.tensor([4.0, 1.5]))


def test_groups_are_what_each_layer_makes(playing: Generator) -> None:
    structure = structure_of(playing, asked(), ["to_planes.2"])
    pairs = itertools.product(range(3), ("first", "second"))
    assert list(structure.widths()) == ["first", *(f"blocks.{n}.{layer}" for n, layer in pairs)]
    assert list(structure.widths().values()) == [24, 24, 24, 16, 16, 16, 16]
    shapes = {(part.layer, part.side): part.index.shape for group in structure.groups for part in group.parts}
    assert shapes["first", "out"] == (24, 16 * 2)
    assert shapes["first_bias", "out"] == (24, 1)  # which no layer has
    assert shapes.get(("film.1.0", "out")) == ((16, 2) if playing.film else None)
    assert structure.cost(structure.widths()) == count_macs(playing, asked())
    parameters = sum(parameter.numel() for parameter in playing.parameters())
    assert structure.cost(structure.widths(), "weights") == parameters


@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_removed_is_silenced_through_every_pixel_norm(playing: Generator, data: st.DataObject) -> None:
    structure = structure_of(playing, asked(), ["to_planes.2"])
    channels = some_channels(data, structure)
    trimmed = copy.deepcopy(playing)
    after = take(trimmed, asked(), structure, channels)
    with torch.no_grad():
        wanted = silent(playing, channels)(*asked(2))
        assert snr_db(wanted, trimmed(*asked(2))) > 80
        if sum(len(gone) for gone in channels.values()) > 20:
            assert snr_db(playing(*asked(2)), wanted) < 60, "silence is heard"
            for module in trimmed.modules():  # a mean over what is left would be another network
                if hasattr(module, "channels"):
                    module.channels = module.channels // 2
            assert snr_db(wanted, trimmed(*asked(2))) < 40
    left = {name: width - len(channels[name]) for name, width in structure.widths().items()}
    assert after.widths() == left
    assert after.cost(left, "weights") == sum(parameter.numel() for parameter in trimmed.parameters())
    assert after.cost(left) == count_macs(trimmed, asked())
    found = trimmed.widths()
    assert (found.first, *itertools.chain(*found.channels)) == tuple(left.values())


# ---- runs ----


@pytest.mark.parametrize("kind", ["grown", "staged"])
def test_trimmed_runs_meet_their_budgets_and_are_runs(
    request: pytest.FixtureRequest, data: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Path = request.getfixturevalue(kind)
    out, floor = tmp_path / "out", ["--floor", "2"]
    assert darkrack.main(words(run, data, out, "--learn", "outputs", "features", "critic", *floor)) == 0
    whole = count_macs(network(run), asked())
    for label in ("60", "25"):
        assert count_macs(network(out / label), asked()) <= float(label) / 100 * whole
    rounds = json.loads((out / trim.ROUNDS).read_text())["rounds"]
    assert [one["budget"] for one in rounds if one["budget"]] == ["60", "25"]
    assert min(rounds[-1]["widths"].values()) < 8, "a last block goes channel by channel"
    opened, parent = open_run(out / "25"), open_run(run)
    assert opened.facts["trimmed"]["learned_from"] == ["outputs", "features", "critic"]
    assert {n: len(k) for n, k in opened.facts["trimmed"]["kept"].items()} == rounds[-1]["widths"]
    assert np.array_equal(opened.latents, parent.latents)
    assert (opened.encoder is None) == (kind == "grown")
    kept = torch.tensor(opened.facts["trimmed"]["kept"]["blocks.2.second"])
    assert isinstance(parent.generator, Generator)
    own, taken = network(out / "25").to_planes[2].weight, parent.generator.to_planes[2].weight[:, kept]  # type: ignore[index]
    assert float((own - taken).norm() / taken.norm()) < 0.5  # type: ignore[operator,union-attr]
    assert not torch.equal(own, taken)  # type: ignore[arg-type]

    capsys.readouterr()
    recipe = ["train", str(out / "25" / "recipe.toml"), "--data", str(data), "--run", str(out / "25")]
    assert darkrack.main(recipe) == 1
    assert "expected a run that was trained, got a trimmed one" in capsys.readouterr().err
    again = words(out / "60", data, tmp_path / "again", "--learn", "outputs", "--to", "60%")
    assert darkrack.main(again) == 0
    assert darkrack.main([*again[:4], "--out", str(tmp_path / "no"), "--learn", "critic"]) == 1
    assert "expected a run with a trained critic" in capsys.readouterr().err


def test_a_trimmed_run_is_exported_and_heard(grown: Path, data: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "out", ["--criterion", "magnitude", "--to", "25%"]
    assert darkrack.main(words(grown, data, out, *more)) == 0
    made = export(out / "25", tmp_path / "small.rack", None, ())
    assert made.manifest.macs == count_macs(network(out / "25"), asked())
    assert made.manifest.default_variant == "float16"
    assert "Trimmed" in made.card
    voice, preset = open_voice(out / "25"), made.manifest.presets[0]
    z, labels = (np.array(one, np.float32) for one in (preset.z, preset.attributes))
    heard = voice.note(Asked(z, labels, 60.0, 0.7, 0))
    assert heard.shape == (2, 256, 32)
    assert db(heard, Player(made).note(z, labels, 60.0, 0.7, 0)) > 40


@pytest.mark.parametrize(("kind", "learn"), [("grown", "outputs"), ("staged", "task")])
def test_going_on_after_ctrl_c_is_exact(  # noqa: PLR0917
    request: pytest.FixtureRequest,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    learn: str,
) -> None:
    """Bit by bit, the discriminator and its optimiser too."""
    run: Path = request.getfixturevalue(kind)
    more = ["--learn", learn, "critic", "--criterion", "taylor"]
    assert darkrack.main(words(run, data, tmp_path / "whole", *more)) == 0
    interrupt_at(monkeypatch, 2, 4, 7)
    again = words(run, data, tmp_path / "parts", *more)
    assert [darkrack.main(again) for _ in range(4)] == [130, 130, 130, 0]
    one, other = (
        torch.load(tmp_path / folder / trim.STATE, weights_only=True) for folder in ("whole", "parts")
    )
    assert set(one["opponents"]) == {"critic", "rival"}
    for part in ("network", "opponents"):
        assert flat(one[part]).keys() == flat(other[part]).keys()
        for name, value in flat(one[part]).items():
            assert torch.equal(value, flat(other[part])[name]), name
    before = stages.load_checkpoint(run)["discriminator"]
    assert not torch.equal(one["opponents"]["critic"]["out.weight"], before["out.weight"]), "it went on"


def flat(content: object, name: str = "") -> dict[str, Tensor]:
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return {key: value for n, one in items for key, value in flat(one, f"{name}.{n}").items()}
    return {name: torch.as_tensor(content)} if isinstance(content, Tensor | int | float) else {}


@pytest.mark.parametrize("kind", ["grown", "staged"])
def test_lessons_repeat_and_the_parent_differs_from_itself_in_nothing(
    request: pytest.FixtureRequest, data: Path, kind: str
) -> None:
    subject = GrowingSubject(request.getfixturevalue(kind), data, ("outputs", "critic"))
    before = torch.get_rng_state()
    one, again, other = subject.lesson(3, 8), subject.lesson(3, 8), subject.lesson(-3, 8)
    for mine, theirs in zip(one.inputs, again.inputs, strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(one.inputs[0], other.inputs[0])
    made = subject.network(*one.inputs)
    assert one.losses["outputs"](made, made) == 0
    assert one.losses["outputs"](made + 0.1, made) > 0
    assert ("task" in one.losses) == (kind == "staged")
    rival = copy.deepcopy(subject.opponents()["critic"].state_dict())
    score = one.losses["critic"](made, made)
    one.after(made, 0.0)
    assert one.losses["critic"](made, made) == score, "it rests where the student does"
    one.after(made, 1.0)
    assert any(
        not torch.equal(value, rival[key])
        for key, value in subject.opponents()["critic"].state_dict().items()
    )
    assert one.losses["critic"](made, made) != score
    assert torch.equal(torch.get_rng_state(), before), "nothing else is drawn from"


def test_lessons_ask_for_what_players_ask_for(grown: Path, data: Path) -> None:
    """Whole pitches anywhere beside those of notes; where D listens, labels and pitches belong together."""
    alone, judged = (GrowingSubject(grown, data, learn) for learn in (("outputs",), ("outputs", "critic")))
    assert not alone.opponents()
    pitches = {"notes": set(), "asked": set(), "judged": set()}  # type: dict[str, set[float]]
    for step in range(12):
        for subject, name in ((alone, "asked"), (judged, "judged")):
            pitch = subject.lesson(step, 8).inputs[2][:, 0].tolist()
            pitches["notes"] |= set(pitch[:4])
            pitches[name] |= set(pitch[4:])
    assert pitches["judged"] <= pitches["notes"] == {48.0, 54.0, 60.0, 66.0, 72.0}
    assert len(pitches["asked"]) > 10
    assert all(pitch == round(pitch) and 48 <= pitch <= 72 for pitch in pitches["asked"])


def test_what_the_critic_says_is_of_its_own_units(grown: Path, data: Path) -> None:
    """The verdict on a note that the run made is that of training: planes go back to mean 0 and spread 1 first."""
    subject = GrowingSubject(grown, data, ("critic",))
    content = stages.load_checkpoint(grown)
    recipe, _ = read_recipe(grown / "recipe.toml")
    assert isinstance(recipe, GrowingRecipe)
    trained = Generator(recipe.generator, 3, recipe.pitch_range_midi)
    trained.load_state_dict(content["average"])
    critic = subject.opponents()["critic"]
    z, attributes, pitch = (lesson := subject.lesson(1, 4)).inputs
    with torch.no_grad():
        judged = critic(trained(z, attributes, pitch))
        wanted, _ = growing.adversarial_loss(judged, pitch, attributes, recipe)
        told = lesson.losses["critic"](subject.network(z, attributes, pitch), None)
    assert 10 * told.item() == pytest.approx(wanted.item(), rel=1e-3)


def test_early_and_fresh_weights(grown: Path, data: Path, tmp_path: Path) -> None:
    assert stages.load_checkpoint(grown)["step"] == 12
    content = torch.load(grown / stages.EARLY, weights_only=True)
    assert content["step"] == 4, "the first scale alone has learned"
    subject = GrowingSubject(grown, data, ("outputs",))
    early = subject.early()
    assert isinstance(early, Generator)
    assert torch.allclose(
        early.blocks[2].first.weight,  # type: ignore[union-attr,arg-type]
        content["generator"]["blocks.2.first.weight"] * np.sqrt(2 / (16 * 9)),
    )
    with torch.no_grad():
        assert early(*asked(2)).shape == (2, 2, 256, 32)
    still = ["--learning-rate", "1e-9", "--criterion", "magnitude", "--learn", "outputs"]
    for how, source in (("early", early), ("go-on", subject.network)):
        out = tmp_path / how
        assert darkrack.main(words(grown, data, out, *still, "--survivors", how)) == 0
        kept = torch.tensor(open_run(out / "25").facts["trimmed"]["kept"]["blocks.2.second"])
        left, whole = network(out / "25").to_planes[2].weight, source.to_planes[2].weight  # type: ignore[union-attr]
        torch.testing.assert_close(left, whole[:, kept], rtol=1e-4, atol=1e-5)
    assert darkrack.main(words(grown, data, tmp_path / "fresh", *still, "--survivors", "fresh")) == 0
    # Initialised for the width that it has, not for the parent's, and in the grid's units.
    narrow = network(tmp_path / "fresh" / "60")
    layer = narrow.blocks[1].second  # type: ignore[union-attr]
    assert isinstance(layer, nn.Conv2d)
    assert float(layer.weight.detach().std()) == pytest.approx(np.sqrt(2 / (9 * layer.in_channels)), rel=0.1)
    assert torch.allclose(narrow.to_planes[2].bias, stages.load_checkpoint(grown)["mean"])  # type: ignore[union-attr,arg-type]


def test_milliseconds_are_of_what_plays(grown: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import compress.quantize

    asked_for: list[str] = []
    original = compress.quantize.quantized
    monkeypatch.setattr(
        compress.quantize,
        "quantized",
        lambda model, variant: asked_for.append(variant) or original(model, variant),
    )
    subject = GrowingSubject(grown, data, ("outputs",))
    assert 0 < subject.measure_ms(subject.network) < 1000
    assert asked_for == ["float16"]


def test_what_cannot_be_done_says_so(
    grown: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(run: Path, *more: str, notes: Path = data) -> str:
        assert darkrack.main(words(run, notes, tmp_path / "out", *more)) == 1
        return capsys.readouterr().err

    refused = told(grown, "--learn", "task")
    assert "expected a run with an encoder" in refused
    assert "hint: --learn outputs\n" in refused
    assert "--learn ear: expected a run on the partials grid" in told(grown, "--learn", "ear")
    (tmp_path / "others").mkdir()
    assert "the notes that the run was trained on" in told(
        grown, notes=write_set(tmp_path / "others" / "set", 25)
    )
    young = train_run(tmp_path, data, GROWN, "--until", "6")
    assert "grown to its last scale, got scale 2 of 3, 100% of it" in told(young)
    encoded = train_run(tmp_path / "others", data, STAGED, "--until", "6")
    assert "expected a run with a trained critic" in told(encoded)
    out = tmp_path / "trimmed"
    assert darkrack.main(words(grown, data, out, "--to", "60%")) == 0
    assert "--criterion taylor" in told(out / "60", "--learn", "outputs", "--criterion", "taylor")
    assert "the run's early weights" in told(out / "60", "--learn", "outputs", "--survivors", "early")
