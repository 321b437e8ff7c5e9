"""A card's steps, tried on the CPU at tiny size; what they need; and where their results go."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from expraug.networks.mouth_painter import load_mouth_painter
from recipes.benchmarks.stargan import StarGANSize
from recipes.fer.results import read_results
from recipes.gpu.pack import MOST, REPOSITORY, STEPS, WITHOUT, not_needed, pack, size_of, tracked
from recipes.gpu.unpack import BEGIN, END, speed_table, unpack

pytestmark = pytest.mark.timeout(900)
"""All steps in one fixture: a minute on a machine that does nothing else."""


TRAINED = ("mouth_painter",)
"""`test_systems` trains each."""


def run(
    out: Path, *steps: str, pack: Path, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    settings = {
        "DEVICE": "cpu",
        "TINY": "1",
        "OUT": str(out),
        "PYTHON": python,
        "TRAIN": " ".join(TRAINED),
    }
    command = [str(REPOSITORY / "recipes" / "gpu" / "run.sh"), *steps]
    environment = os.environ | settings | {"PACK": str(pack)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def results(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all steps leave, with one in between that there is not."""
    out = tmp_path_factory.mktemp("out")
    steps = ["tests", "nonsense", "throughput", "systems", "tables"]
    done = run(out, *steps, pack=pack)
    told = done.stdout.splitlines()
    log = (out / "log.txt").read_text()
    assert [line.partition(":")[0] for line in told] == steps, log
    for step, line in zip(steps, told, strict=True):
        assert ("no such step" if step == "nonsense" else "done") in line, log
    assert done.returncode == 1
    assert (out / "summary.txt").read_text().splitlines() == told
    assert len(list(out.iterdir())) <= 8, "no more files are brought back"
    return out


def test_a_step_that_fails_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    done = run(tmp_path, "tables", "nonsense", pack=tmp_path, python="false")
    first, second = done.stdout.splitlines()
    assert first.startswith("tables: failed (1)")
    assert second.startswith("nonsense")


def test_results_are_put_where_they_belong(results: Path, tmp_path: Path) -> None:
    for folder in ("docs", "recipes/fer"):
        (tmp_path / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "results.md"
    page.write_text("# Results\n")
    for _ in range(2):  # a second time nothing comes twice
        told = unpack(results, tmp_path / "weights", tmp_path)
    text = page.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert "| end to end | pixel |" in text
    assert (tmp_path / "docs" / "throughput.csv").is_file()
    assert (tmp_path / "recipes" / "fer" / "tables.csv").is_file()
    trained = {folder.name for folder in (tmp_path / "weights").iterdir()}
    assert trained == set(TRAINED)
    for name in trained:
        assert sum(f"{name} in " in line and "compare" in line for line in told) == 1
        assert len(list((tmp_path / "weights" / name).glob("step-*.png"))) == 1
    load_mouth_painter(tmp_path / "weights" / "mouth_painter")


def test_nets_are_trained_on_synthetics_and_without(results: Path) -> None:
    rows = read_results(results / "tables.csv")
    assert {row["condition"] for row in rows} >= {"tuning", "none", "transfer 6/64"}


def test_figures_of_speed(results: Path) -> None:
    with (results / "throughput.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["note"] for row in rows} == {"ok"}
    steps = {row["step"] for row in rows if row["by"] in ("pixel", "expraug")}
    assert steps >= {"end to end", "synthesize", "align", "composite", "check"}
    whole, part = (
        next(float(r["per_second"]) for r in rows if r["step"] == step and r["by"] == "pixel")
        for step in ("end to end", "align")
    )
    assert 0 < whole < part
    assert all(float(r["copy_share"]) > 0 for r in rows if r["by"] == "pixel")
    with pytest.raises(ValueError, match="no figures"):
        speed_table([])


def test_a_generator_of_the_size_of_stargan() -> None:
    net = StarGANSize()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(8.4e6, rel=0.02)
    assert net(torch.rand(1, 3, 32, 32), torch.eye(8)[:1]).shape == (1, 3, 32, 32)


def test_what_travels_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs the repository itself, not a copy without its history")
    pack(["tests", "throughput"], tmp_path, {}, wheels=False)
    left = (tmp_path / WITHOUT).read_text().split()
    assert "examples/failures.png" in left
    assert not [name for name in left if name.startswith(("expraug/", "tests/", "recipes/"))]
    names = tracked()
    kept = [REPOSITORY / name for name in set(names) - set(left)]
    assert size_of(kept) < MOST - (2 << 20), "and the wheels"
    assert "in all" in capsys.readouterr().out
    of_tables = not_needed(names, ["tables"])
    assert "expraug/weights/transfer/model.safetensors" in of_tables
    assert size_of([REPOSITORY / name for name in set(names) - set(of_tables)]) < 12 << 20


def test_unknown_steps_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"painting.*there are tests"):
        pack(["painting"], tmp_path, {})
    assert list(STEPS) == ["tests", "throughput", "systems", "tables"]
