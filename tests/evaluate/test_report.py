"""How an evaluation is told: on terminals of any width, and what was not measured."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from expraug.evaluate import Evaluation, Line, Result

WHY = "no real face shows it; give a reference set (--reference)"


class Told(Result):
    def lines(self) -> list[Line]:
        value = "-2.045 [-2.783, -1.240]"
        beside = "mean beyond real faces, in their deviations; distance 2.10"
        return [Line("log odds, landmark_classifier", "different people", value, beside, "25")]


@pytest.fixture
def found() -> Evaluation:
    skipped = {f"recall, {name}, {e}": WHY for name in ("a", "b") for e in ("sad", "fear")}
    return Evaluation(
        synthesizer="pixel-2-d0d0ddb27f61c20e-2b216f8a076ad6fa",
        data="faces",
        reference="",
        split="all",
        detector="mesh",
        people=3,
        faces={"neutral": 3},
        lost={},
        size=128,
        version="0",
        results={"told": Told()},
        skipped={"identity": "stopped", **skipped, "frechet": "stopped"},
    )


def printed(evaluation: Evaluation, width: int) -> list[str]:
    out = io.StringIO()
    Console(width=width, file=out).print(evaluation.table(width))
    return out.getvalue().splitlines()


def test_one_line_per_reason(found: Evaluation) -> None:
    told = [line.beside for line in found.lines() if line.measure == "not measured"]
    assert told == [
        "identity, frechet: stopped",
        f"recall, a, sad, fear; recall, b, sad, fear: {WHY}",
    ]


@pytest.mark.parametrize("width", [60, 80, 99, 100, 160])
def test_no_word_of_a_figure_is_cut(found: Evaluation, width: int) -> None:
    lines = printed(found, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for word in ("-2.045", "[-2.783,", "-1.240]", "different", "deviations;", "--reference"):
        assert word in text
    assert ("beside" in text) == (width >= 100)
    assert len(lines) < 40, "a column of few letters makes the table long"
