"""The recipes of `fevgan`: clips, the small encoder of identity, and the training."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from paired_faces import NUMBERS, CoarsePicture, call, ends_alike, log, train_person
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from expraug import Expression, create_synthesizer
from expraug.networks.embedder import FaceEmbedder
from expraug.networks.onset import onset
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.embedder import train as embedder_recipe
from recipes.fevgan import train
from recipes.fevgan.train import CATEGORIES, Setting, main
from recipes.pairs.clips import Clips, DrawClips, read_clips, resample
from recipes.pairs.make_clips import LEVELS, strip
from recipes.pairs.make_pairs import SCHEMA, row
from recipes.training.options import load_settings

REPOSITORY = Path(__file__).parents[3]
TINY = (
    "{size: 32, frames: 8, channels: [32, 16, 16, 8], noise: 4, steps: 4, batch: 3, "
    "report_every: 2, options: {amp: false, frames: 2, identity_every: 2}}\n"
)


@pytest.fixture(scope="module")
def clips_file(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make_clips` writes, of 8 people, the first twice, who fade to a real smile."""
    file = tmp_path_factory.mktemp("clips") / "clips.parquet"
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for source, path in enumerate(sorted((faces / "neutral").iterdir())[:9]):
            known: dict[str, Any] = {"identity": train_person(source % 8), "source": source}
            neutral, happy = (
                pil_to_tensor(Image.open(p).convert("RGB").resize((64, 64))).float() / 255
                for p in (path, faces / "happy" / path.name)
            )
            share = torch.linspace(0, 1, LEVELS + 1).view(-1, 1, 1, 1)
            rows = [
                row(strip(torch.lerp(neutral[None], end, share), 64), expression=name, **known)
                for name, end in (("happy", happy), ("contempt", neutral * 0.8))
            ]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return file


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    """What `recipes.embedder.train` writes."""
    torch.manual_seed(3)
    folder = tmp_path / "embedder"
    FaceEmbedder().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_settings_are_read_with_changes_on_top(name: str) -> None:
    file = REPOSITORY / "recipes" / "fevgan" / f"{name}.yaml"
    usual = load_settings(Setting, file, [])
    setting = load_settings(Setting, file, ["encoders=spatial", "options.video=0"])
    assert setting.encoders == "spatial" != usual.encoders
    assert setting.options.video == 0 != usual.options.video
    with torch.device("meta"):  # the net that it describes exists
        FEVGANSynthesizer(["happy"], usual.size, usual.frames, usual.channels, usual.noise)


def test_clips_rise_along_a_curve() -> None:
    levels = torch.arange(9.0).view(1, 9, 1, 1).expand(2, 9, 4, 4)
    curve = torch.tensor([[0.0, 0.5, 0.55, 1.0], [0.0, 0.01, 0.99, 1.0]])
    clip = resample(levels, curve)
    assert clip.shape == (2, 4, 1, 4, 4)
    assert torch.allclose(clip[:, :, 0, 2, 1], 8 * curve)


def test_batches_of_clips(clips_file: Path) -> None:
    data = read_clips([clips_file, clips_file], 32, CATEGORIES)
    assert data.levels.shape == (36, 9, 32, 32)
    assert len(data.group.unique()) == 18, "two files share no group"
    assert set(data.person.tolist()) == set(NUMBERS)
    draw = DrawClips(data, frames=8, noise=4, count=6)
    torch.manual_seed(0)
    batch = draw()
    assert batch.clip.shape == (6, 8, 1, 32, 32)
    assert torch.equal(batch.source, batch.clip[:, 0])
    assert (batch.other != torch.arange(6)).all()
    # noise means speed, and a clip is mirrored, relit and blurred as one: contempt here is 0.8 of
    # the neutral face, which a power of it keeps a multiple of the first frame
    contempt = torch.tensor([CATEGORIES[c] == Expression.CONTEMPT for c in batch.category])
    far = batch.clip.mean((2, 3, 4)) / batch.source.mean((1, 2, 3))[:, None]
    curve = onset(batch.z, 8)
    assert 0 < int(contempt.sum()) < 6
    for ratio, gone in zip(far[contempt], curve[contempt], strict=True):
        gamma = torch.log(ratio[-1]) / np.log(0.8)
        assert torch.allclose(ratio, (1 - 0.2 * gone) ** gamma, atol=0.01)
    shown = torch.cat([draw().category for _ in range(50)])
    assert abs(float((shown == int(batch.category[contempt][0])).float().mean()) - 0.5) < 0.12


def test_one_persons_clips_can_be_drawn() -> None:
    zeros = torch.zeros(2, dtype=torch.long)
    data = Clips(torch.zeros(2, 9, 32, 32, dtype=torch.uint8), zeros, zeros, zeros)
    assert DrawClips(data, 8, 4, 3)().clip.shape == (3, 8, 1, 32, 32)


def test_the_training_stops_goes_on_and_ends_where_an_unbroken_run_does(
    clips_file: Path,
    classifier_folder: Path,
    embedder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained_on: list[Clips] = []

    def drawing(clips: Clips, *settings: Any) -> DrawClips:
        trained_on.append(clips)
        return DrawClips(clips, *settings)

    monkeypatch.setattr(train, "create_identity_encoder", lambda name: CoarsePicture())
    monkeypatch.setattr(train, "HELD_OUT", 2)
    monkeypatch.setattr(train, "DrawClips", drawing)
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)

    def run(name: str, *arguments: object) -> str:
        folders = ["--out", tmp_path / name / "weights", "--work", tmp_path / name]
        nets = ["--classifier", classifier_folder, "--embedder", embedder, "--identity", "any"]
        return call(main, clips_file, "--config", config, *nets, *folders, *arguments)

    assert "12 clips, 4 held out\nfrom step 0\n" in run("whole")
    for step in range(2):
        assert f"from step {step}\n" in run("broken", "--minutes", "1e-9")
    assert "from step 2\n" in run("broken")
    for seen in trained_on:  # not the first person's other group either
        assert set(seen.person.tolist()) == set(NUMBERS[2:])
    whole, broken = (log(tmp_path / name) for name in ("whole", "broken"))
    assert [x["step"] for x in broken] == ["1", "2", "4"]
    assert ends_alike(whole[-1], broken[-1])
    assert 0 <= float(whole[-1]["agreement"]) <= 1
    assert -1 <= float(whole[-1]["worst cosine"]) <= 1
    assert float(whole[-1]["l1 of copying"]) > 0.005
    assert float(whole[-1]["cosine"]) > 0.9
    with Image.open(tmp_path / "broken" / "step-000004.png") as sheet:
        assert sheet.size == (8 * 33 + 1, 4 * 33 + 1)  # two people, two expressions, 8 frames

    ends = [create_synthesizer(str(tmp_path / name / "weights")) for name in ("whole", "broken")]
    assert isinstance(ends[0], FEVGANSynthesizer)
    assert ends[0].expressions == CATEGORIES
    assert ends[0].fingerprint == ends[1].fingerprint
    for name, value in load_file(embedder / "model.safetensors").items():
        kept = ends[0].net.identity.state_dict()[name]
        assert torch.equal(kept, value.half().float()), name


def test_all_people_held_out_are_told(
    clips_file: Path, classifier_folder: Path, embedder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    with pytest.raises(ValueError, match=r"9 neutral faces in .*, of which 32"):
        main(
            [clips_file], config, tmp_path / "out", embedder, classifier_folder, work=tmp_path / "w"
        )


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


def test_strips_are_read_as_they_were_written(tmp_path: Path) -> None:
    frames = (torch.rand(9, 1, 64, 64) * 255).round() / 255
    file = tmp_path / "clips.parquet"
    about = {"expression": "sad", "identity": "A", "source": 3}
    rows = [row(strip(frames.expand(-1, 3, -1, -1), 64), **about)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file)
    data = read_clips([file], 64, CATEGORIES)
    away = data.levels[0] - 255 * frames[:, 0]
    assert away.abs().max() < 1.01  # PNG takes whole numbers
    rows = [row(frames[0].expand(3, -1, -1), **about)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file)
    with pytest.raises(ValueError, match="64x64 is no strip"):
        read_clips([file], 64, CATEGORIES)
