"""The recipe of the mouth painter, on the sample faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from paired_faces import call, log

from expraug.faces.composite import luminance
from expraug.faces.mouth import HEIGHT, WIDTH
from expraug.networks.mouth_painter import (
    MouthPainter,
    interior_of,
    light_level,
    load_mouth_painter,
    matte_of,
    sharpness,
    surroundings,
)
from recipes.mouth_painter.colour import fit_colour
from recipes.mouth_painter.compare import WAYS, Exemplars, replaced
from recipes.mouth_painter.data import (
    OPENED_FROM,
    VERSIONS,
    Mouths,
    london_mouths,
    open_mouths,
    opened,
)
from recipes.mouth_painter.drawing import Draw, drawing_weights, nearest, sharpened, varied
from recipes.mouth_painter.learn import Setting
from recipes.mouth_painter.train import main
from recipes.mouth_painter.trainer import Options, Trainer, paint
from recipes.real_faces import FER2013, LFW, LONDON
from recipes.training.options import load_settings

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mouth painter")


@pytest.fixture(scope="module")
def mouths(smiling_sets: Path, work: Path) -> Mouths:
    return open_mouths(smiling_sets, work / "faces", work / "mouths")[0]


@pytest.fixture(scope="module")
def london(smiling_sets: Path, work: Path, mouths: Mouths) -> tuple[Mouths, Mouths]:
    return london_mouths(smiling_sets, work / "mouths", "open"), london_mouths(
        smiling_sets, work / "mouths", "shut"
    )


def test_open_mouths_of_all_sets(mouths: Mouths, london: tuple[Mouths, Mouths]) -> None:
    assert set(mouths.origin.tolist()) == {LONDON, LFW, FER2013}
    assert mouths.pixels.shape[1:] == (1, HEIGHT, WIDTH)
    assert float(mouths.gap.min()) >= 3 / 160 * 96 / 0.48 * 0.8  # seen smaller if hardly at all
    held = mouths.take((mouths.origin == LFW) & (mouths.split != 0))
    assert 0 < len(held) < int((mouths.origin == LFW).sum())
    is_open, shut = london
    assert is_open.pixels.shape[1] == 3
    for found in london:
        for split, versions in ((0, VERSIONS), (1, 1)):
            of_split = found.person[found.split == split]
            assert set(torch.bincount(of_split).tolist()) - {0} <= {versions}
    assert float(is_open.gap.mean()) > float(shut.gap.mean()) + 4


def test_mirror_image_of_a_mouth(mouths: Mouths) -> None:
    twice = mouths.mirrored().mirrored()
    torch.testing.assert_close(twice.upper, mouths.upper)
    assert torch.equal(twice.pixels, mouths.pixels)
    codes = [interior_of(m.pixels.float() / 255, m.window()) for m in (mouths, mouths.mirrored())]
    torch.testing.assert_close(codes[1].flip(2), codes[0], atol=0.02, rtol=0)


def test_shut_mouths_are_drawn_apart(mouths: Mouths, london: tuple[Mouths, Mouths]) -> None:
    shut = london[1].grey()
    drop = OPENED_FROM * torch.linspace(-1, 1, 11).square().neg().add(1)
    lower = mouths.lower + torch.stack([torch.zeros(11), drop], 1)  # none of them screams
    lent = replace(mouths, lower=lower, gap=mouths.gap + OPENED_FROM)
    apart = opened(shut, lent)
    assert len(apart) == len(shut)
    assert float(apart.gap.min()) > OPENED_FROM
    before, after = (m.pixels.float() / 255 for m in (shut, apart))
    assert float((before - after).abs().mean()) > 0.01
    # lips have come with the outline: at its edge there is what was at the line between them
    assert float((before.mean((1, 2, 3)) - after.mean((1, 2, 3))).abs().max()) < 0.12


def test_draw_gives_own_codes_and_those_of_like_mouths(mouths: Mouths) -> None:
    torch.manual_seed(0)
    draw = Draw(mouths, 64, others=0.5)
    batch = draw()
    assert batch.grey.shape == (64, 1, HEIGHT, WIDTH)
    assert 10 < int(batch.own.sum()) < 54
    read = interior_of(batch.grey, batch.window)
    unlike = (read - batch.code).abs().mean((1, 2))
    assert float(unlike[batch.own].mean()) < float(unlike[~batch.own].mean())
    assert bool((batch.sharpness != LFW).any())
    weights = drawing_weights(mouths)
    london = weights[mouths.origin == LONDON].sum() / weights.sum()
    assert float(london) == pytest.approx(0.2, abs=0.01)
    near = nearest(mouths, mouths, 3)
    assert float((near[:, 0] == torch.arange(len(mouths))).float().mean()) > 0.5  # some are twins
    assert varied(batch.code).shape == batch.code.shape


def test_sharpened_mouths_count_as_sharp(mouths: Mouths) -> None:
    lfw = mouths.take(mouths.origin == LFW)
    grey, seen = lfw.pixels.float() / 255, surroundings(lfw.window().outline())
    assert bool((sharpness(sharpened(grey), seen) >= sharpness(grey, seen)).all())


def test_colour_of_teeth_comes_from_photographs(london: tuple[Mouths, Mouths]) -> None:
    taught = london[0]
    colour = fit_colour(taught)
    assert colour.shape == (4, 3, 3)
    painter = MouthPainter(8).eval()
    rgb, outline = taught.pixels.float() / 255, taught.window().outline()
    grey = luminance(rgb)
    exact = grey / light_level(grey, surroundings(outline)) - 1  # a painter that knows it all
    errors = []
    for value in (painter.colour.clone(), colour):
        painter.colour.copy_(value)
        wrong = (painter.tint(exact, rgb, outline) - rgb).abs() * matte_of(outline)
        errors.append(float(wrong.sum()))
    assert errors[1] < 0.8 * errors[0]


def test_trainer_learns(mouths: Mouths) -> None:
    torch.manual_seed(0)
    draw = Draw(mouths, 6, others=0.4)
    trainer = Trainer(MouthPainter(8), Options(amp=False, lr=3e-3), 30, torch.device("cpu"))
    batch = draw()
    batch.own[:] = True
    first = trainer.step(batch)
    assert set(first) == {"l1", "edges", "features", "real", "discriminator"}
    for _ in range(25):
        last = trainer.step(batch)
    assert last["l1"] < 0.9 * first["l1"]
    batch.own[:3] = False
    assert "code" in trainer.step(batch)
    with torch.no_grad():
        painted = paint(trainer.painter, batch)
    outside = painted.outline.depth < 0
    assert torch.equal(painted.made[outside], painted.real[outside])


def test_ways_of_filling_a_mouth_differ_inside_alone(
    mouths: Mouths, london: tuple[Mouths, Mouths]
) -> None:
    is_open = london[0]
    exemplars = Exemplars(mouths)
    cut, window = is_open.pixels.float() / 255, is_open.window()
    lent = exemplars.lend(is_open)
    assert lent[0].shape[1:] == (6, 12)
    painter = load_mouth_painter()
    made = [replaced(way, painter, cut, window, lent) for way in WAYS]
    outside = (window.outline().depth < 0).expand_as(cut)
    for one in made:
        assert torch.equal(one[outside], cut[outside])
        assert not torch.equal(one, cut)
    own, drawn = (float((made[place] - cut).abs().mean()) for place in (0, -1))
    assert own < 0.5 * drawn


def test_settings_are_read() -> None:
    file = REPOSITORY / "recipes" / "mouth_painter" / "cpu.yaml"
    setting = load_settings(Setting, file, ["options.real=0"])
    assert setting.options.real == 0
    assert setting.steps > 1000


def test_the_recipe_stops_goes_on_and_ends_where_an_unbroken_run_does(
    smiling_sets: Path, work: Path, mouths: Mouths, tmp_path: Path
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("{width: 8, steps: 4, batch: 4, report_every: 2}\n")

    def run(name: str, *arguments: str) -> str:
        folder = tmp_path / name
        if not folder.is_dir():
            folder.mkdir()
            (folder / "mouths").symlink_to(work / "mouths")
        fixed = [smiling_sets, "--config", config, "--out", folder / "weights", "--work", folder]
        fixed += ["--faces", work / "faces", "--set", "options.amp=false"]
        return call(main, *fixed, *arguments)

    assert "from step 0\n" in run("whole")
    assert "the same command goes on" in run("broken", "--minutes", "1e-9")
    assert "from step 1\n" in run("broken")
    logs = [log(tmp_path / name) for name in ("whole", "broken")]
    assert [line["step"] for line in logs[0]] == ["2", "4"]
    assert logs[0][-1]["l1 to real"] == logs[1][-1]["l1 to real"]
    ends = [load_mouth_painter(tmp_path / name / "weights") for name in ("whole", "broken")]
    for one, other in zip(*(end.state_dict().values() for end in ends), strict=True):
        assert torch.equal(one, other)
    assert (tmp_path / "whole" / "step-000004.png").is_file()
