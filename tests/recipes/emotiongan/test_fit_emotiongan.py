"""The recipe that fits `emotiongan`: from a generator's folder to weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import save_file
from small_faces import CONFIGURATION, SHOWN, SIZE
from typer.testing import CliRunner

from expraug import Expression, create_synthesizer
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from recipes.emotiongan import fit
from recipes.emotiongan.fit import CONFIG, Setting, load_generator
from recipes.face_measures import light_of
from recipes.labelled_faces import gather, sources_of
from recipes.pairs.moves import likely, moves_of_pairs
from recipes.training.options import load_settings

sys.path.insert(0, str(Path(__file__).parents[2] / "latent"))


def test_the_recipe_fits_directions_that_leave_alone_what_they_should(
    fitted: Callable[..., tuple[Path, str]],
) -> None:
    folder, printed = fitted("--set", "identity=2", "--set", "reach=1000", "--set", "verified=0")
    for line in ("identity: 2 read-outs stay", "pose: 3 read-outs", "light: 2 read-outs"):
        assert line in printed
    assert "no more to gain" in printed
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    assert model.expressions == tuple(SHOWN)
    assert torch.isin(model.steps, torch.tensor([0.75, 1.5, 2.25, 3.0])).all()
    # the linear model sees what it was asked to: one unit, one more in log odds
    directions, logits = (t.flatten(1).double() for t in (model.directions, model.logits))
    change = logits @ directions.T
    for own in range(3):
        others = torch.cat([change[:own, own], change[own + 1 :, own]])
        torch.testing.assert_close(
            change[own, own] - others, torch.ones(2).double(), rtol=0, atol=1e-3
        )
    assert model.mean.abs().sum() > 0
    free, _ = fitted("--set", "identity=0", "--set", "pose=false", "--set", "light=false")
    other = create_synthesizer(str(free))
    assert isinstance(other, EmotionGANSynthesizer)
    assert torch.equal(other.logits, model.logits)
    assert other.directions.norm() < model.directions.norm(), "what stays costs a longer move"


def test_the_same_command_gives_the_same_weights(fitted: Callable[..., tuple[Path, str]]) -> None:
    first, second = (create_synthesizer(str(fitted()[0])) for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_edit_strengths_end_where_identity_does(fitted: Callable[..., tuple[Path, str]]) -> None:
    folder, printed = fitted("--set", "reach=1000", "--set", "margin=0.5")  # cosine 1 at least
    assert "identity" in printed
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    torch.testing.assert_close(model.steps, torch.full((3,), 0.75))  # the first of the grid
    folder, printed = fitted("--set", "reach=0", "--set", "verified=0")
    assert "reached" in printed


def test_edit_strengths_of_to(fitted: Callable[..., tuple[Path, str]]) -> None:
    folder, _ = fitted("--set", "manipulation=to")
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    assert model.manipulation == "to"
    assert model.levels.abs().min() > 0


def test_another_generator_by_its_name(fitted: Callable[..., tuple[Path, str]]) -> None:
    options = ("--set", "refining_steps=2", "--set", "pose=false")
    folder, _ = fitted(*options, "--identity", "none", source="user_generators:blobs")
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    assert model.image_size == 24
    assert model.encoder is None
    assert model.refining.steps == 2
    assert model.directions.abs().sum() > 0


def test_weights_that_do_not_fit_are_refused(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGURATION))
    save_file({"generator.first": torch.zeros(1, 16, 4, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(SystemExit, match="do not fit its config"):
        load_generator(str(tmp_path), ["happy"], Setting(), torch.device("cpu"))
    model = load_generator(str(generator), ["happy"], Setting(), torch.device("cpu"))
    assert model.generator.image_size == SIZE


def test_sources_are_neutral_and_of_named_people(sets: dict[str, Path], tmp_path: Path) -> None:
    names = [str(sets["nameless"]), str(sets["named"])]
    data = gather(tmp_path, names, 1, SIZE)
    assert data.faces.shape == (len(data.labels), 1, SIZE, SIZE)
    for target in SHOWN:
        at = sources_of(data, target, 0, 7)
        assert 0 < len(at) <= 7
        assert data.named[at].all()
        neutral = data.labels[at] == int(Expression.NEUTRAL)
        assert not neutral.any() if target == Expression.NEUTRAL else neutral.all()
    other = gather(tmp_path, names, 0, SIZE)
    alike = (data.faces.flatten(1)[:, None] == other.faces.flatten(1)).all(2)
    assert not alike.any(), "the splits share no face"


def test_the_settings_file_says_only_what_there_is() -> None:
    setting = load_settings(Setting, CONFIG, ["identity=3"])
    assert setting.identity == 3
    with pytest.raises(ValueError, match="no option 'identities'"):
        load_settings(Setting, CONFIG, ["identities=3"])


def test_light_is_that_of_either_half() -> None:
    faces = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.uint8)
    faces[1, ..., SIZE // 2 :] = 255
    torch.testing.assert_close(light_of(faces), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def test_pairs_say_which_moves_are_likely(
    fitted: Callable[..., tuple[Path, str]], pairs_file: Path
) -> None:
    (alone, _), (folder, printed) = (
        fitted("--set", "pose=false", "--set", "light=false", *more)
        for more in ((), ("--pairs", str(pairs_file)))
    )
    assert "18 pairs say which moves are likely" in printed
    directions = []
    for name in (alone, folder):
        model = create_synthesizer(str(name))
        assert isinstance(model, EmotionGANSynthesizer)
        directions.append(model.directions.flatten(1).double())
    back, happy, sad = moves_of_pairs(model, pairs_file, folder, torch.tensor([0, 1, 1, 2]))
    assert [len(m) for m in (back, happy, sad)] == [9, 9, 0]  # contempt is not made by this one
    assert {tuple(m) for m in back.tolist()} <= {tuple(m) for m in (-happy).tolist()}
    covariance = likely(happy)
    assert torch.allclose(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > 0
    # one unit asks the same of both, and what is likely in pairs comes with it
    change = [model.logits.flatten(1).double() @ d.T for d in directions]
    for own in range(3):
        odds = [float(c[own, own] - c[:, own].sum() / 3) for c in change]
        assert odds[0] == pytest.approx(odds[1], rel=1e-3)
    unlikely = [(d * torch.linalg.solve(covariance, d.T).T).sum(1) for d in directions]
    assert (unlikely[1] < unlikely[0]).all()


def test_matched_pairs_give_each_expression_a_direction_of_its_own(
    fitted: Callable[..., tuple[Path, str]], pairs_file: Path
) -> None:
    options = ("--set", "model=pairs", "--set", "pose=false", "--pairs", str(pairs_file))
    folder, _ = fitted(*options, shown=SHOWN[:2])
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    assert model.binomial
    _, happy = moves_of_pairs(model, pairs_file, folder, torch.tensor([0, 1]))
    logits, directions = (t.flatten(1).double() for t in (model.logits, model.directions))
    # of a person's two faces the model knows the smile, and the direction leads there
    assert (happy @ logits[1] > 0).all()
    torch.testing.assert_close(
        (logits * directions).sum(1), torch.ones(2).double(), rtol=1e-3, atol=0
    )


def test_expressions_without_pairs_are_named(
    fitted: Callable[..., tuple[Path, str]], pairs_file: Path
) -> None:
    with pytest.raises(AssertionError, match="no pairs of sad"):
        fitted("--set", "model=pairs", "--set", "pose=false", "--pairs", str(pairs_file))


def test_matched_pairs_need_pairs(generator: Path, classifier: Path, sets: dict[str, Path]) -> None:
    app = typer.Typer()
    app.command()(fit.main)
    command = [
        generator,
        sets["nameless"],
        "--half",
        0,
        "--classifier",
        classifier,
        "--identity",
        "none",
    ]
    command += ["--out", generator / "out", "--set", "model=pairs", "--work", generator]
    done = CliRunner().invoke(app, [*map(str, command), "--device", "cpu"])
    assert "needs --pairs" in str(done.exception)
