"""The recipes of `fevgan`: clips, the small encoder of identity, and the training."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from paired_faces import call, ends_alike, log
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from expraug import Expression, create_synthesizer
from expraug.faces.synthesized import canonical_part
from expraug.faces.warp import pixel_grid, sample
from expraug.networks.embedder import FaceEmbedder
from expraug.networks.onset import RHYTHM, rhythm
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from expraug.synthesizers.fevgan.net import LipFinder
from recipes.embedder import train as embedder_recipe
from recipes.fevgan import learn as learning
from recipes.fevgan import lips as lips_recipe
from recipes.fevgan.choose_codes import spread_codes
from recipes.fevgan.clips import (
    Codes,
    DrawClips,
    Ways,
    held_out,
    neutral_rows,
    real_faces,
    risen,
    seen_frames,
)
from recipes.fevgan.learn import CATEGORIES, Setting
from recipes.fevgan.train import main
from recipes.pairs.data import HARD
from recipes.pairs.made import Pairs
from recipes.training.options import load_settings

REPOSITORY = Path(__file__).parents[3]
TINY = (
    "{size: 32, frames: 8, channels: [32, 16, 16, 8], noise: 6, variants: 2, steps: 4, batch: 3, "
    "report_every: 2, options: {amp: false, alone: 0.5}}\n"
)


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    """What `recipes.embedder.train` writes."""
    torch.manual_seed(3)
    folder = tmp_path / "embedder"
    FaceEmbedder().save_pretrained(folder)
    return folder


@pytest.fixture
def lips(face_sets: Path, work: Path, tmp_path: Path) -> Path:
    """What `recipes.fevgan.lips` writes."""
    file = tmp_path / "lips.safetensors"
    lips_recipe.main(face_sets, file, work, steps=3)
    return file


def categories_of(pairs: Pairs, rows: np.ndarray) -> Tensor:
    return torch.tensor([CATEGORIES.index(Expression(int(t))) for t in pairs.target[rows]])


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_settings_are_read_with_changes_on_top(name: str) -> None:
    file = REPOSITORY / "recipes" / "fevgan" / f"{name}.yaml"
    usual = load_settings(Setting, file, [])
    setting = load_settings(Setting, file, ["encoders=spatial", "options.video=0"])
    assert setting.encoders == "spatial" != usual.encoders
    assert setting.options.video == 0 != usual.options.video
    with torch.device("meta"):  # the net that it describes exists
        FEVGANSynthesizer(["happy"], usual.size, usual.frames, usual.channels, usual.noise)


def test_maps_rise_brows_and_mouth_each_in_its_time() -> None:
    z = torch.tensor([[0.0, 0.0, 2.0]])
    upper, lower = rhythm(z, 8)
    clip = risen(torch.ones(1, 2, 64, 64), upper, lower)
    assert clip.shape == (1, 8, 2, 64, 64)
    for frame in range(8):
        assert torch.allclose(clip[0, frame, 0, 10], upper[0, frame].expand(64))
        assert torch.allclose(clip[0, frame, 1, 60], lower[0, frame].expand(64))
    assert (upper >= lower).all()
    assert (upper > lower + 0.05).any()


def test_half_of_the_frames_are_seen_and_always_the_last() -> None:
    torch.manual_seed(0)
    shown = seen_frames(16, 40)
    assert shown.shape == (40, 8)
    assert (shown[:, -1] == 15).all()
    assert (shown.diff(dim=1) > 0).all()
    assert set(shown.flatten().tolist()) == set(range(1, 16))


def test_a_face_that_is_aligned_otherwise_moves_alike(pairs_folder: Path) -> None:
    pairs = Pairs.load(pairs_folder)
    rows = np.arange(4)
    faces, maps = pairs.faces(rows), pairs.maps(rows)
    torch.manual_seed(0)
    ways = Ways.drawn(4)
    other = ways.maps(maps, 128)

    def warped(images: Tensor, flow: Tensor) -> Tensor:
        return sample(images, pixel_grid(128, images) + 2 * flow)

    still = Ways(torch.eye(2).expand(4, -1, -1), torch.zeros(4, 2)).maps(maps, 128)
    first, then = ways.faces(warped(faces, still.flow)), warped(ways.faces(faces), other.flow)
    inside = slice(24, 104)
    away = (first - then)[..., inside, inside].abs().mean()
    moved = (ways.faces(faces) - then)[..., inside, inside].abs().mean()
    assert away < 0.35 * moved
    # the lips go along: a spot on a corner of the mouth is found where the lips say
    spots = torch.zeros(4, 1, 128, 128)
    for spot, (x, y) in zip(spots, maps.lips[:, 0, 0], strict=True):
        spot[0, int(y * 128), int(x * 128)] = 1
    found = ways.faces(F.avg_pool2d(spots, 5, 1, 2)).flatten(1).argmax(1)
    place = torch.stack([found % 128, found // 128], 1)
    assert (place - 128 * other.lips[:, 0, 0]).abs().max() < 4


def test_codes_tell_examples_of_an_expression_apart(pairs_folder: Path) -> None:
    pairs = Pairs.load(pairs_folder)
    rows = neutral_rows(pairs, CATEGORIES)
    assert (pairs.shown[pairs.source[rows]] == int(Expression.NEUTRAL)).all()
    assert int(Expression.NEUTRAL) not in pairs.target[rows]
    maps, category = pairs.maps(rows), categories_of(pairs, rows)
    codes = Codes(maps, category, 4)
    found = codes(maps, category)
    assert found.shape == (len(rows), 4)
    for number in category.unique():
        own = found[category == number]
        assert own.mean(0).abs().max() < 0.3
    # what the code leaves out is less than what it says
    looks = codes._looks(maps)
    away = looks - codes.mean[category]
    left = away - away @ codes.axes @ codes.axes.T
    assert left.square().sum() < 0.5 * away.square().sum()
    # what was held out tells nothing
    half = torch.arange(len(rows)) % 2 == 0
    mended = ExpressionMaps(
        torch.where(half.view(-1, 1, 1, 1), maps.flow, torch.randn_like(maps.flow)),
        maps.lightening, maps.lips, maps.moved_lips, maps.interior,
    )  # fmt: skip
    assert torch.equal(Codes(maps, category, 4, half).axes, Codes(mended, category, 4, half).axes)
    drawn = torch.randn(60, 4)
    bank = spread_codes(drawn, 5, 0)
    assert bank.shape == (5, 4)
    assert torch.cdist(bank, bank).add(9 * torch.eye(5)).min() > 0.5
    assert (torch.cdist(bank, drawn).amin(1) < 5e-3).all(), "they are examples'"


def test_batches_of_clips(pairs_folder: Path, face_sets: Path, work: Path) -> None:
    pairs = Pairs.load(pairs_folder)
    rows = neutral_rows(pairs, CATEGORIES)
    category = categories_of(pairs, rows)
    codes = Codes(pairs.maps(rows), category, 4)
    real = real_faces(face_sets, work, CATEGORIES)
    assert [len(r) > 0 for r in real] == [c == Expression.HAPPY for c in CATEGORIES]
    draw = DrawClips(pairs, rows, CATEGORIES, codes, real, 32, 8, 7, 6, torch.device("cpu"))
    torch.manual_seed(0)
    batch = draw()
    assert batch.source.shape == (6, 1, 32, 32)
    assert batch.z.shape == (6, 7)
    assert batch.flow.shape == (6, 4, 2, 32, 32)
    assert batch.lightening.shape == (6, 4, 1, 32, 32)
    assert batch.moved_lips.shape == (6, 4, 2, 11, 2)
    assert batch.real.shape == (6, 1, 64, 64)
    # noise means speed: below the eyes, frames are shares of the last
    _, lower = rhythm(batch.z, 8)
    for clip, curve, shown in zip(batch.flow, lower, batch.shown, strict=True):
        below = clip[:, :, 24:]
        share = (below * below[-1]).flatten(1).sum(1) / below[-1].square().sum()
        assert torch.allclose(share, curve[shown], atol=1e-4)
    there = category.unique()
    drawn = torch.cat([draw().category for _ in range(60)])
    shares = torch.stack([(drawn == c).float().mean() for c in there])
    wanted = torch.tensor([HARD.get(CATEGORIES[int(c)], 1.0) for c in there])
    # all expressions equally often, but for the hard ones
    assert (shares - wanted / wanted.sum()).abs().max() < 0.08


def test_the_training_stops_goes_on_and_ends_where_an_unbroken_run_does(
    pairs_folder: Path,
    face_sets: Path,
    work: Path,
    classifier_folder: Path,
    embedder: Path,
    lips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained_on: list[np.ndarray] = []
    real_draw = learning.DrawClips

    def drawing(pairs: Pairs, rows: np.ndarray, *settings: object) -> DrawClips:
        trained_on.append(pairs.person[pairs.source[rows]])
        return real_draw(pairs, rows, *settings)  # type: ignore[arg-type]

    monkeypatch.setattr(learning, "HELD_OUT", 2)
    monkeypatch.setattr(learning, "DrawClips", drawing)
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)

    def run(name: str, *arguments: object) -> str:
        folders = ["--out", tmp_path / name / "weights", "--work", tmp_path / name]
        nets = ["--classifier", classifier_folder, "--classifier", classifier_folder]
        sets = ["--data", face_sets, "--faces", work, "--embedder", embedder, "--lips", lips]
        return call(main, pairs_folder, "--config", config, *nets, *sets, *folders, *arguments)

    assert "from step 0\n" in run("whole")
    for step in range(2):
        assert f"from step {step}\n" in run("broken", "--minutes", "1e-9")
    assert "from step 2\n" in run("broken")
    pairs = Pairs.load(pairs_folder)
    everyone = np.unique(pairs.person[pairs.source[neutral_rows(pairs, CATEGORIES)]])
    for seen in trained_on:
        assert set(seen) == set(everyone[2:])
    whole, broken = (log(tmp_path / name) for name in ("whole", "broken"))
    assert [x["step"] for x in broken] == ["1", "2", "4"]
    assert ends_alike(whole[-1], broken[-1])
    assert 0 <= float(whole[-1]["agreement"]) <= 1
    assert float(whole[-1]["flow, share of error"]) == pytest.approx(1, abs=0.3), "all yet to learn"
    assert float(whole[-1]["lips before, pixels"]) < 4
    with Image.open(tmp_path / "broken" / "step-000004.png") as sheet:
        assert sheet.width == 8 * 129 + 1

    ends = [create_synthesizer(str(tmp_path / name / "weights")) for name in ("whole", "broken")]
    assert isinstance(ends[0], FEVGANSynthesizer)
    assert ends[0].expressions == CATEGORIES
    assert ends[0].fingerprint == ends[1].fingerprint
    assert ends[0].codes.shape == (len(CATEGORIES), 2, 6 - RHYTHM)
    assert ends[0].codes.any()
    frozen = ((ends[0].net.identity, embedder / "model.safetensors"), (ends[0].net.mouth, lips))
    for net, file in frozen:
        for name, value in load_file(file).items():
            assert torch.equal(net.state_dict()[name], value.half().float()), name


def test_people_are_held_out_of_few_too(pairs_folder: Path) -> None:
    pairs = Pairs.load(pairs_folder)
    rows = neutral_rows(pairs, CATEGORIES)
    person = pairs.person[pairs.source[rows]]
    held = person[held_out(pairs, rows, 24)]
    assert len(np.unique(held)) == len(np.unique(person)) // 3
    assert held_out(pairs, rows, 1).sum() < len(held)
    pairs.person = pairs.person * 0
    with pytest.raises(ValueError, match=r"show 1 people .* too few to hold some out"):
        held_out(pairs, rows, 24)


def test_a_flow_of_the_frame_alone() -> None:
    flow = torch.zeros(1, 2, 96, 96)
    flow[..., 16:80, 16:80] = 1
    assert (canonical_part(flow) == 1).all()
    assert canonical_part(flow).shape[-1] == 64


class Teacher(nn.Module):
    """A stand-in for a large encoder: a coarse picture, 128 numbers long or more."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.mix = torch.randn(64, length, generator=torch.Generator().manual_seed(0))

    def forward(self, faces: Tensor) -> Tensor:
        coarse = nn.functional.adaptive_avg_pool2d(faces[:, :1], 8).flatten(1)
        return nn.functional.normalize((coarse - coarse.mean(1, keepdim=True)) @ self.mix)


@pytest.mark.parametrize("length", [128, 512])
def test_the_embedder_is_taught_and_goes_on(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(embedder_recipe, "create_identity_encoder", lambda name: Teacher(length))
    monkeypatch.setattr(embedder_recipe, "SIZE", 64)

    def run(name: str, *arguments: object) -> str:
        folders = ["--out", tmp_path / name / "weights", "--work", tmp_path / name]
        sizes = ["--steps", 4, "--batch", 4, "--report-every", 2, "--faces", 15]
        return call(embedder_recipe.main, faces, *folders, *sizes, *arguments)

    assert "15 faces, 1 of them held out\nfrom step 0\n" in run("whole")
    assert "from step 0\n" in run("broken", "--minutes", "1e-9")
    assert "from step 1\n" in run("broken")
    assert ends_alike(log(tmp_path / "whole")[-1], log(tmp_path / "broken")[-1])
    one, two = (
        load_file(tmp_path / n / "weights" / "model.safetensors") for n in ("whole", "broken")
    )
    assert all(torch.equal(v, two[k]) for k, v in one.items())
    FaceEmbedder().load_state_dict(one)


def test_people_are_told_apart() -> None:
    who = torch.tensor([0, 0, 1, 1])
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0], [-0.8, -0.6]])
    assert embedder_recipe.area_under_roc(vectors, who) == 1
    assert embedder_recipe.area_under_roc(vectors[[0, 2, 1, 3]], who) < 0.5


def test_lips_are_learned(face_sets: Path, work: Path) -> None:
    pixels, lips = lips_recipe.faces_and_lips(face_sets, work, "train")
    assert pixels.shape[1:] == (1, 128, 128)
    assert lips.shape[1:] == (2, 11, 2)
    torch.manual_seed(0)
    seen, wanted = lips_recipe.drawn(pixels, lips)
    assert seen.shape[1:] == (1, 64, 64)
    # a mirrored face has its corners in the same order, and a spot of the face stays on its lip
    assert (wanted[:, 0, 0, 0] < wanted[:, 0, -1, 0]).all()
    assert (wanted - lips).abs().max() < 0.12
    assert (wanted - lips).abs().mean() > 0.005
    net = LipFinder()
    net.last.weight.data.mul_(0.1)
    net.last.bias.data.copy_(lips.mean(0).flatten())
    before = lips_recipe.error(net, pixels, lips)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (net(seen) - wanted).abs().mean().backward()
        optimizer.step()
    away = 64 * float((net(seen) - wanted).abs().mean())
    assert away < 0.6 * before
