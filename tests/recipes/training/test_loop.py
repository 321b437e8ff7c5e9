"""The loop of every training: its log, and when it stops."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from paired_faces import log
from torch import nn

from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.loop import RunOptions, append_line, run


class Towards(AdversarialTrainer):
    """A number that moves towards random draws."""

    def __init__(self, steps: int) -> None:
        torch.manual_seed(0)
        nets = nn.Linear(1, 1), nn.Linear(1, 1)
        options = Optimization(lr=0.1, discriminator_lr=0.1, ema=0.9, amp=False)
        super().__init__(*nets, options, steps, torch.device("cpu"))

    def step(self) -> dict[str, float]:
        draw = torch.randn(4, 1)
        loss = (self.discriminators(draw) - 1).square().mean()
        self.update_discriminators(loss)
        loss = (self.made(draw) - draw * draw).square().mean()
        self.update_generator(loss)
        found = {"seen": float(draw.mean())}
        return found | ({"late loss": 2.0} if self.step_count > 3 else {})


Reported = list[int]


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., tuple[Towards, Reported]]:
    """Run, in a work folder, all of six steps or a part of them."""

    def run_it(work: str, every: int = 2, minutes: float = 0) -> tuple[Towards, Reported]:
        trainer, reported = Towards(6), []

        def report(done: int) -> dict[str, float]:
            reported.append(done)
            torch.randn(3)  # what a report draws must not change the training
            return {"figure": 10.0 * done}

        (tmp_path / work).mkdir(exist_ok=True)
        run(
            trainer,
            trainer.step,
            report,
            RunOptions(tmp_path / "out", tmp_path / work, trainer.device, minutes),
            steps=6,
            every=every,
            seed=1,
        )
        return trainer, reported

    return run_it


def weight(trainer: Towards) -> float:
    return float(trainer.made.weight.detach())


def test_reports_come_so_often_and_at_the_end(
    go: Callable[..., tuple[Towards, Reported]], tmp_path: Path
) -> None:
    trainer, reported = go("whole", every=4)
    assert reported == [4, 6]
    assert trainer.step_count == 6
    lines = log(tmp_path / "whole")
    assert [x["step"] for x in lines] == ["4", "6"]
    assert [x["figure"] for x in lines] == ["40.0", "60.0"]
    assert not list((tmp_path / "whole").glob("*.part"))
    assert go("whole")[1] == [], "nothing is left to do"


def test_losses_are_means_since_the_last_report(
    go: Callable[..., tuple[Towards, Reported]], tmp_path: Path
) -> None:
    go("by one", every=1)
    go("by three", every=3)
    one, three = (
        list(csv.DictReader((tmp_path / work / "log.csv").open()))
        for work in ("by one", "by three")
    )
    for number, line in enumerate(three):
        seen = [float(x["seen"]) for x in one[3 * number : 3 * number + 3]]
        assert float(line["seen"]) == pytest.approx(sum(seen) / 3, abs=2e-5)
    assert [x["late loss"] for x in one] == ["", "", "", "2.0", "2.0", "2.0"]
    assert [x["late loss"] for x in three] == ["", "2.0"]


def test_a_run_that_stops_goes_on_with_the_draws_it_would_have_had(
    go: Callable[..., tuple[Towards, Reported]], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = go("whole")
    capsys.readouterr()
    for step in range(5):
        _, reported = go("broken", minutes=1e-9)
        assert reported == [step + 1]
        out = capsys.readouterr().out
        assert f"from step {step}\n" in out
        assert "stopped after 1e-09 minutes; the same command goes on" in out
    broken, _ = go("broken", minutes=1e-9)
    assert "goes on" not in capsys.readouterr().out, "it is done"
    assert broken.step_count == 6
    assert weight(whole) == weight(broken) != weight(Towards(6))


def test_figures_stand_in_their_columns_whatever_their_order(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    append_line(file, {"step": 1, "triplet": 0.5, "pair": 2})
    append_line(file, {"step": 2, "pair": 3, "triplet": 0.25})
    append_line(file, {"step": 3, "pair": 4})
    lines = list(csv.DictReader(file.open()))
    assert [(x["step"], x["triplet"], x["pair"]) for x in lines] == [
        *[("1", "0.5", "2"), ("2", "0.25", "3"), ("3", "", "4")]
    ]
    append_line(file, {"step": 4, "latent": 0.1, "pair": 5})  # there from this step on
    lines = list(csv.DictReader(file.open()))
    assert [x["latent"] for x in lines] == ["", "", "", "0.1"]
    assert [x["pair"] for x in lines] == ["2", "3", "4", "5"]
    assert [p.name for p in tmp_path.iterdir()] == [file.name]
