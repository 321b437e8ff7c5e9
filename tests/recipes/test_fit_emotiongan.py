"""The recipes that fit and classifier `emotiongan`: from a generator's folder to figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from expraug import Expression, create_synthesizer
from expraug.datasets import person_split
from expraug.faces.composite import hide_background
from expraug.latent.generator import LatentEncoder, StyleGenerator
from expraug.networks.fer_classifier import FERNet
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from recipes.emotiongan.fit import CONFIG, Setting, load_generator
from recipes.face_measures import light_of
from recipes.labelled_faces import gather, sources_of
from recipes.latent.evaluate import never_falls, write_sheet
from recipes.pairs.moves import likely, moves_of_pairs
from recipes.training.options import fill, read_yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "latent"))

SIZE = 32
SHOWN = [Expression.NEUTRAL, Expression.HAPPY, Expression.SAD]
CONFIGURATION = {
    "image_size": SIZE,
    "channels": [16, 16, 8, 8],
    "width": 12,
    "encoder_channels": [8, 8, 8],
}


class CoarsePicture(nn.Module):
    """A stand-in for an identity encoder whose weights need no download."""

    name, threshold = "coarse-picture", 0.5

    def forward(self, faces: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(faces, 8).flatten(1)
        return F.normalize(coarse - coarse.mean(dim=1, keepdim=True))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train_generator.py` writes."""
    torch.manual_seed(0)
    made = StyleGenerator(SIZE, [16, 16, 8, 8], 12)
    made.fit_mapping(torch.randn(256, made.layers, 12))
    nets = {"generator": made, "encoder": LatentEncoder(SIZE, made.layers, 12, (8, 8, 8))}
    folder = tmp_path_factory.mktemp("generator")
    state = {f"{n}.{k}": t.contiguous() for n, m in nets.items() for k, t in m.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIGURATION))
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    FERNet([str(e) for e in Expression][:7], width=8).eval().save_pretrained(folder)
    return folder


def names_in(split: str, count: int) -> list[str]:
    """Return people of a split, every second of whom belongs to the classifier's half."""
    from recipes.splits import half_of_person

    people = [n for n in (f"person {i}" for i in range(3000)) if person_split(n) == split]
    if split != "train":
        return people[:count]
    splits = [[n for n in people if half_of_person(n) == half] for half in (0, 1)]
    return [n for pair in zip(*splits, strict=False) for n in pair][:count]


@pytest.fixture(scope="module")
def sets(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A set that names its people, and one that does not; and one of people held out."""
    folder = tmp_path_factory.mktemp("sets")
    pictures = sorted(faces.glob("*/*.jpg"))

    def write(name: str, people: list[str] | None, repeat: int, first: int) -> Path:
        rows = []
        for number, path in enumerate(pictures * repeat):
            shade = Image.open(path).convert("L").resize((64, 64))
            shade = shade.point(lambda v, n=first + number: min(255, int(v * (0.6 + 0.004 * n))))
            out = folder / f"{name}-{number}.png"
            shade.save(out)
            label = SHOWN[number % 3] if people is None else SHOWN[number % 2]
            rows.append((out, str(label), people and people[number // 2 % len(people)]))
        table = {
            "image": [{"bytes": p.read_bytes(), "path": p.name} for p, _, _ in rows],
            "expression": [label for _, label, _ in rows],
        }
        if people is not None:
            table["identity"] = [who for _, _, who in rows]
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
        return folder / f"{name}.parquet"

    return {
        "nameless": write("nameless", None, 3, 0),
        "named": write("named", names_in("train", 20), 2, 60),
        "held": write("held", names_in("test", 8), 1, 100),
    }


@pytest.fixture(scope="module")
def fitted(
    generator: Path,
    classifier: Path,
    sets: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, str]]:
    """Fit with options and return the folder and what was printed."""
    app = typer.Typer()
    app.command()(fit_emotiongan.main)
    work = tmp_path_factory.mktemp("work")

    def run(*arguments: str, source: str | None = None) -> tuple[Path, str]:
        out = tmp_path_factory.mktemp("emotiongan")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit_emotiongan, "create_identity_encoder", lambda name: CoarsePicture())
            patch.setattr(fit_emotiongan, "EXPRESSIONS", tuple(SHOWN))
            patch.setattr(
                fit_emotiongan,
                "pose_of",
                lambda grey: (
                    grey.float()
                    .flatten(1)[:, [200, 500, 530]]
                    .masked_fill(grey[:, 0, :1, 5] > 200, torch.nan)
                ),
            )
            command = [source or generator, sets["nameless"], sets["named"], "--half", 0]
            command += ["--classifier", classifier, "--work", work, "--out", out, "--device", "cpu"]
            command += ["--set", "sources=5", "--set", "grid=4", "--set", "longest=3"]
            command += ["--set", "model=labels"]
            done = CliRunner().invoke(app, [*map(str, command), *arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return out, done.output

    return run


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
    assert other.directions.norm() < model.directions.norm(), "what stays costs a longer way"


def test_the_same_command_gives_the_same_weights(fitted: Callable[..., tuple[Path, str]]) -> None:
    first, second = (create_synthesizer(str(fitted()[0])) for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_lengths_end_where_identity_does(fitted: Callable[..., tuple[Path, str]]) -> None:
    folder, printed = fitted("--set", "reach=1000", "--set", "margin=0.5")  # cosine 1 at least
    assert "identity" in printed
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    torch.testing.assert_close(model.steps, torch.full((3,), 0.75))  # the first of the grid
    folder, printed = fitted("--set", "reach=0", "--set", "verified=0")
    assert "reached" in printed


def test_lengths_of_to(fitted: Callable[..., tuple[Path, str]]) -> None:
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
    setting = fill(Setting, read_yaml(CONFIG, ["identity=3"]), "here")
    assert setting.identity == 3
    with pytest.raises(ValueError, match="no option 'identities'"):
        fill(Setting, read_yaml(CONFIG, ["identities=3"]), "here")


def test_light_is_that_of_either_half() -> None:
    faces = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.uint8)
    faces[1, ..., SIZE // 2 :] = 255
    torch.testing.assert_close(light_of(faces), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def test_a_curve_may_fall_by_the_tolerance_and_no_more() -> None:
    curves = np.array([[0.1, 0.1, 0.9], [0.2, 0.09, 0.5], [0.3, 0.3, 0.6]])
    assert never_falls(curves, 0.02).tolist() == [True, True, False]
    assert never_falls(curves, 0.0).tolist() == [True, False, False]


def test_a_sheet_has_a_row_a_face(tmp_path: Path) -> None:
    columns = [torch.full((3, 3, 16, 16), v) for v in (0.0, 1.0)]
    write_sheet(columns, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 97 + 1, 3 * 97 + 1)
        assert sheet.getpixel((50, 250)) == (0, 0, 0)
        assert sheet.getpixel((150, 50)) == (255, 255, 255)


def test_the_evaluation_of_codes(
    fitted: Callable[..., tuple[Path, str]],
    classifier: Path,
    sets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = fitted()
    monkeypatch.setattr(evaluate_latent, "create_identity_encoder", lambda name: CoarsePicture())
    monkeypatch.setattr(
        evaluate_latent, "pose_of", lambda grey: grey.float().flatten(1)[:, 500:503]
    )
    crop = evaluate_latent.create_detector("crop")
    monkeypatch.setattr(evaluate_latent, "create_detector", lambda mode: crop)
    app = typer.Typer()
    app.command()(evaluate_latent.main)
    out, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    command = [
        folder,
        "--data",
        sets["held"],
        "--classifier",
        classifier,
        "--limit",
        12,
        "--steps",
        3,
    ]
    done = CliRunner().invoke(app, [*map(str, command), "--json", str(out), "--sheet", str(sheet)])
    assert done.exit_code == 0, (done.output, done.exception)
    (result,) = json.loads(out.read_text()).values()
    figures = result["figures"]
    names = {str(e) for e in SHOWN}
    for row in figures["intensity"].values():
        assert set(row) == names
        assert all(0 <= e["low"] <= e["value"] <= e["high"] <= 1 for e in row.values())
    moved = figures["disentanglement"]
    assert set(moved) == {
        *("cosine to the source", "verified", "yaw", "pitch", "roll"),
        *("light, left", "light, right"),
    }
    assert result["spread"]["light, left"] > 0
    whole = figures["reconstruction"]
    assert set(whole["SSIM"]) == {"0 steps", "3 steps"}
    assert whole["SSIM"]["3 steps"]["value"] > whole["SSIM"]["0 steps"]["value"]
    assert whole["Fréchet distance"]["0 steps"]["value"] > 0
    plain = figures["change added, and drawn"]
    assert set(plain) == {
        f"{what}, {how}" for what in ("recognised", "verified") for how in ("added", "drawn")
    }
    for part in ("", "-intensities"):
        with Image.open(tmp_path / f"sheet-emotiongan{part}.png") as picture:
            assert picture.size[0] > 97 * 4
    only = [*map(str, command), "--only-reconstruction", "--json", str(out)]
    done = CliRunner().invoke(app, only)
    assert done.exit_code == 0, (done.output, done.exception)
    (again,) = json.loads(out.read_text()).values()
    assert again["figures"] == {"reconstruction": whole}


def test_what_has_no_codes_is_not_evaluated(
    smile: str, sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_latent, "create_identity_encoder", lambda name: CoarsePicture())
    with pytest.raises(SystemExit, match="no synthesizer with latents"):
        evaluate_latent.main([smile], [sets["held"]])


def test_the_drawn_face_is_the_inversion_and_the_unclamped_change(
    fitted: Callable[..., tuple[Path, str]],
) -> None:
    folder, _ = fitted("--set", "longest=0.01")
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    plain = EmotionGANSynthesizer(**(model.config | {"plain": True})).eval()
    plain.load_state_dict(model.state_dict())
    grey = torch.rand(3, 1, SIZE, SIZE) * 0.2 + 0.4
    faces, target = grey.expand(-1, 3, -1, -1), torch.tensor([1, 2, 0])
    with torch.no_grad():
        change = model(faces, target, torch.ones(3)) - faces
        missed = evaluate_latent.reconstruct(model, grey, 0) - hide_background(grey)
        expected = plain(faces, target, torch.ones(3))
    inside = ((faces + change) % 1 > 0) & (expected % 1 > 0)
    assert inside.float().mean() > 0.2
    torch.testing.assert_close((faces + change + missed)[inside], expected[inside])


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "SHOWN", SHOWN[:2])
        folder, _ = fitted(*options)
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
    app.command()(fit_emotiongan.main)
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
