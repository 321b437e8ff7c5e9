"""The short recipe: trains, writes a table, and goes on where it was broken off."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import timm
import torch
from datasets import Dataset
from datasets import Image as ImageColumn
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from recipes.fer import loop
from recipes.fer.loop import RESULTS, STATE
from recipes.fer.train import main
from recipes.fer.unpack import main as unpack

CONFIG = Path(__file__).parents[3] / "recipes" / "fer" / "train.yaml"


@pytest.fixture(scope="module")
def folder(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four neutral and four smiling faces to train on, and as many to test."""
    root = tmp_path_factory.mktemp("short")
    for part, paths in (("train", slice(0, 4)), ("test", slice(4, 8))):
        for name in ("neutral", "happy"):
            (root / part / name).mkdir(parents=True)
            for path in sorted((faces / name).iterdir())[paths]:
                Image.open(path).resize((96, 96)).save(root / part / name / f"{path.stem}.png")
    return root


def run(folder: Path, out: Path, *more: str) -> list[dict[str, str]]:
    options = ("model=resnet10t", "pretrained=false", "size=32", "epochs=3", "batch=4", "extra=2")
    given = (f"faces={folder}", "rare=[happy]", f"cache={folder / 'cache'}", f"out={out}")
    main(CONFIG, [*options, *given, *more])
    with (out / RESULTS).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_that_was_killed_ends_as_one_that_was_not(folder, tmp_path, monkeypatch):
    whole = run(folder, tmp_path / "whole")
    assert [row["epoch"] for row in whole] == ["0", "1", "2"]
    metrics = ("accuracy", "balanced_accuracy", "recall_happy", "ap_neutral")
    assert {f"test_{name}" for name in metrics} < set(whole[0])

    measured, tests = loop.measured, []

    def broken(*given: object) -> dict[str, float]:
        tests.append(given)
        if len(tests) == 3:
            raise KeyboardInterrupt
        return measured(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("recipes.fer.train.measured", broken)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "killed")
    assert len((tmp_path / "killed" / RESULTS).read_text().splitlines()) == 3
    assert run(folder, tmp_path / "killed") == whole
    assert len(tests) == 4, "only the last epoch was trained again"
    nets = [
        torch.load(tmp_path / name / STATE, weights_only=True)["net"]
        for name in ("whole", "killed")
    ]
    for name, value in nets[0].items():
        assert torch.equal(value, nets[1][name]), name


def test_weights_from_a_file(folder, tmp_path, monkeypatch):
    """As timm's hub has them: of other classes and for colours."""
    file, begun = tmp_path / "weights.safetensors", []
    weights = timm.create_model("resnet10t", num_classes=5).state_dict()
    save_file(weights, file)
    measured = loop.measured

    def first(net: nn.Module, own: loop.Settings) -> dict[str, float]:
        begun.append(net.state_dict()["conv1.0.weight"].clone())
        return measured(net, own)

    monkeypatch.setattr("recipes.fer.train.measured", first)
    options = ("extra=0", "epochs=1", "lr=0", "pretrained=true", f"weights={file}")
    rows = run(folder, tmp_path, *options, "tests=[test,train]")
    assert torch.equal(begun[0], weights["conv1.0.weight"])
    assert {"test_accuracy", "train_accuracy"} < set(rows[0])


def test_a_file_becomes_folders(tmp_path):
    rows = [(Image.new("L", (48, 48), i), name) for i, name in enumerate(("happy", None, "sad"))]
    columns = {"image": [i for i, _ in rows], "expression": [n for _, n in rows]}
    faces = Dataset.from_dict(columns | {"duplicate_of": [None, None, 7]})
    faces.cast_column("image", ImageColumn()).to_parquet(tmp_path / "faces.parquet")
    for unique in (False, True):
        unpack(tmp_path / "faces.parquet", tmp_path / str(unique), unique=unique)
    found = [
        sorted(path.relative_to(made).as_posix() for path in made.glob("*/*"))
        for made in (tmp_path / "False", tmp_path / "True")
    ]
    assert found == [["happy/000000.png", "sad/000002.png"], ["happy/000000.png"]]
    assert Image.open(tmp_path / "False" / "sad" / "000002.png").getpixel((9, 9)) == 2


def test_real_faces_alone_and_other_settings(folder, tmp_path):
    rows = run(folder, tmp_path, "extra=0", "epochs=1")
    assert len(rows) == 1
    with pytest.raises(ValueError, match="another extra"):
        run(folder, tmp_path, "extra=1", "epochs=1")
    with pytest.raises(ValueError, match="no option 'extras'"):
        run(folder, tmp_path, "extras=1")
