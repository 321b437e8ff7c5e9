"""What `transfer` brings in each setting, from the rows that are kept."""

from pathlib import Path

import pytest

from recipes.fer.fold_tensors import POOLED, VALIDATION
from recipes.fer.print_tables import collect, gains, interval, percent
from recipes.fer.results import read_results
from recipes.fer.summary import best_with, main

FILE = Path(__file__).parents[3] / "recipes" / "fer" / "tables_frozen.csv"


def runs(value: float, seeds: int = 2) -> dict[int, dict[str, float]]:
    return {seed: {"accuracy": value, "mean_ap": 0.5} for seed in range(seeds)}


def test_the_condition_is_chosen_on_the_validation_cut():
    chosen = {
        "transfer 6/64": runs(0.6),
        "transfer 12/64": runs(0.7),
        "none": runs(0.8),
        "fevgan 6/64, neutral": runs(0.9),
        "transfer 24/64, neutral": runs(0.9, seeds=1),
    }
    assert best_with(chosen) == "transfer 12/64"
    with pytest.raises(ValueError, match="no condition with transfer"):
        best_with({"none": runs(0.8)})


def test_gains_are_over_real_faces_alone_and_over_more_draws(capsys):
    main([FILE])
    lines = capsys.readouterr().out.splitlines()
    rows = read_results(FILE)
    ((key, validation),) = [
        (k, v) for k, v in collect(rows, VALIDATION).items() if k[0] == "ferplus_20"
    ]
    condition, tested = best_with(validation), collect(rows, POOLED)[key]
    found = [
        percent(interval(gains(tested, condition, control, "balanced_accuracy")), "+")
        for control in ("none", "more draws 6/64")
    ]
    (line,) = [line for line in lines if line.startswith("| ferplus_20 |")]
    assert line.split(" | ")[2:5:2] == [condition, "; ".join(found)]
    assert sum(line.startswith("| lfw -> fer+ |") for line in lines) == 1
