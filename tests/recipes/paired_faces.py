"""Faces in pairs, what sees them, and how the recipes that learn from them are run."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch.nn.functional as F
import typer
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor
from typer.testing import CliRunner

from expraug.datasets import person_split
from recipes.pairs import training
from recipes.pairs.data import Draw, Faces, person_number
from recipes.pairs.make_pairs import SCHEMA, row


def train_person(number: int) -> str:
    """The name of a person who is trained on."""
    names = (f"person {i}" for i in range(1000))
    return [name for name in names if person_split(name) == "train"][number]


NUMBERS = [person_number(train_person(n)) for n in range(8)]


def write_pairs(faces: Path, file: Path) -> None:
    """Write what `make_pairs` does, with smiles that are real: 8 people, the first twice."""
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for source, path in enumerate(sorted((faces / "neutral").iterdir())[:9]):
            known: dict[str, Any] = {"identity": train_person(source % 8), "source": source}
            made = known | {"variant": 0, "score_identity": 0.95, "score_expression": 0.5}
            neutral, happy = (
                pil_to_tensor(Image.open(p).convert("RGB").resize((64, 64))).float() / 255
                for p in (path, faces / "happy" / path.name)
            )
            rows = [
                row(neutral, expression="neutral", **known),
                row(happy, expression="happy", **made),
                row(neutral * 0.8, expression="contempt", **made),
            ]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


class CoarsePicture(nn.Module):
    """A stand-in for an identity encoder whose weights need no download."""

    def forward(self, faces: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(faces, 8).flatten(1)
        return F.normalize(coarse - coarse.mean(dim=1, keepdim=True))


def watch_training(monkeypatch: pytest.MonkeyPatch) -> list[Faces]:
    """Hold two groups out and need no download; return where the faces of each run will stand."""
    trained_on: list[Faces] = []

    def drawing(faces: Faces, *settings: Any) -> Draw:
        trained_on.append(faces)
        return Draw(faces, *settings)

    monkeypatch.setattr(training, "create_identity_encoder", lambda name: CoarsePicture())
    monkeypatch.setattr(training, "HELD_OUT", 2)
    monkeypatch.setattr(training, "Draw", drawing)
    return trained_on


def call(main: Callable[..., None], *arguments: object) -> str:
    """Call a recipe in this process, as the command line does, and return what it printed."""
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def log(work: Path) -> list[dict[str, str]]:
    """The lines of a run's log."""
    with (work / "log.csv").open() as file:
        return list(csv.DictReader(file))


def ends_alike(one: dict[str, str], two: dict[str, str]) -> bool:
    """Whether two lines of logs have the same figures, but for the time taken."""
    return {k: v for k, v in one.items() if k != "seconds"} == {
        k: v for k, v in two.items() if k != "seconds"
    }
