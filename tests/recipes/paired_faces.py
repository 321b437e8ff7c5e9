"""Who is trained on, what sees faces, and how the recipes that learn from them are run."""

import csv
from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
import typer
from torch import Tensor, nn
from typer.testing import CliRunner

from expraug.datasets import person_split


def train_person(number: int) -> str:
    """The name of a person who is trained on."""
    names = (f"person {i}" for i in range(1000))
    return [name for name in names if person_split(name) == "train"][number]


class CoarsePicture(nn.Module):
    """A stand-in for an identity encoder whose weights need no download."""

    def forward(self, faces: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(faces, 8).flatten(1)
        return F.normalize(coarse - coarse.mean(dim=1, keepdim=True))


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
