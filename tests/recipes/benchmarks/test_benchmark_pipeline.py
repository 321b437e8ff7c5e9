"""The benchmark of the pipeline's steps."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from recipes.benchmarks import pipeline as benchmark
from recipes.benchmarks.pipeline import LITERT, MEDIAPIPE, OURS, Key, Row
from recipes.benchmarks.pipeline_steps import Synthesis, find_faces, landmark_steps


@pytest.fixture
def processors():
    yield
    benchmark.hold_to(0)
    torch.set_num_threads(1)


def test_it_runs_beside_its_peers(
    faces: Path, shared: Path, tmp_path: Path, processors: None
) -> None:
    pytest.importorskip("mediapipe")
    pytest.importorskip("ai_edge_litert")
    app = typer.Typer()
    app.command()(benchmark.main)
    options = [str(faces), "--number", "3", "--repeats", "2", "--threads", "1"]
    options += ["--synthesizer", "pixel", "--csv", str(tmp_path / "out.csv")]
    options += ["--task", str(shared / "models" / "face_landmarker.task")]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert f"torch {torch.__version__.partition('+')[0]}" in done.output
    assert "faces: 3 faces, 256 x 256 px, 2 repeats" in done.output
    with (tmp_path / "out.csv").open() as file:
        lines = list(csv.DictReader(file))
    found = {(line["step"], line["by"]): float(line["median"]) for line in lines}
    assert min(found.values()) > 0
    for step in ("detect", "mesh", "blendshapes", "align", "composite", "check", "encode: PNG"):
        assert f"| {step} |" in done.output
        assert (step, OURS) in found
    for step in ("net: detector", "net: mesh", "net: blendshapes"):
        assert (step, LITERT) in found
    assert ("landmarks, whole", MEDIAPIPE) in found
    # a whole takes longer than its parts
    whole, parts = found["end to end: transfer", OURS], ("mesh", "check", "synthesize: transfer")
    assert whole < min(found[part, OURS] for part in parts)


@torch.inference_mode()
def test_steps_do_what_the_pipeline_does(neutral_images: list[np.ndarray]) -> None:
    nothing = np.full((200, 300), 128, np.uint8)
    faces = find_faces([neutral_images[0], nothing, *neutral_images[1:3]], torch.device("cpu"))
    assert len(faces) == 3, "what holds no face is left out"
    nets = landmark_steps(faces)
    for step in nets.values():
        step.work(range(3))
    made = Synthesis(faces, "transfer")
    for i in range(3):
        size = made.framed[i].size
        assert made.synthetic[i].shape == made.aligned[i].shape == (3, size, size)
        assert (made.synthetic[i] - made.aligned[i]).abs().max() > 0.1
    for step in (made.align, made.synthesize, made.composite, made.check):
        step([0, 2])


def test_figures_by_hand() -> None:
    ticks = iter(range(100))
    runs = {Key("one", OURS, 1): lambda: None, Key("one", LITERT, 1): lambda: next(ticks)}
    ours, peer = benchmark.measure(runs, 6, 3, lambda: next(ticks))
    assert (ours.rates, peer.rates) == ([6.0] * 3, [3.0] * 3)
    row = Row(ours.key, [1.0, 2.0, 3.0, 4.0, 500.0])
    assert row.quartiles() == (3.0, 2.0, 4.0)
    table = benchmark.markdown([row, Row(peer.key, [2.0] * 5), Row(Key("two", OURS, 1), [99.0])])
    assert table.splitlines()[0] == "| faces per second | 1 core | peer | ratio |"
    assert table.splitlines()[2:] == [
        "| one | 3 [2, 4] | 2 [2, 2], LiteRT | 1.50 |",
        "| two | 99 [99, 99] |  |  |",
    ]
