"""The peer in the benchmark of `unet_cgan` is the published net, and the figures are right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from recipes.benchmarks import unet_cgan as benchmark


def test_the_peer_is_of_the_published_size() -> None:
    stargan = benchmark.StarGANGenerator().eval()
    assert benchmark.parameters(stargan) == 8_439_936
    assert benchmark.parameters(benchmark.StarGANGenerator(5)) == 8_439_936 - 3 * 49 * 64
    faces = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        made, other = (stargan(faces, torch.tensor([label])) for label in (2, 3))
    assert made.shape == faces.shape
    assert -1 <= made.min() < made.max() <= 1
    assert not torch.equal(made, other)


def test_work_and_interval_by_hand() -> None:
    layer, faces = nn.Conv2d(3, 10, 3, padding=1, bias=False), torch.rand(4, 3, 20, 20)
    assert benchmark.gflop(lambda: layer(faces), 4) == pytest.approx(2 * 27 * 10 * 400 / 1e9)
    mean, low, high = benchmark.geometric(np.array([2.0, 4.0, 8.0]))
    assert mean == pytest.approx(4)
    # the t quantile of two degrees of freedom is 4.3027
    half = 4.3027 * np.log(2) / np.sqrt(3)
    assert (low, high) == pytest.approx((4 * np.exp(-half), 4 * np.exp(half)), rel=1e-4)


def test_the_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    names = ["neutral", "happy"]
    net = benchmark.create_synthesizer(
        "unet_cgan", pretrained=False, expressions=names, image_size=32, width=8
    )
    net.save_pretrained(tmp_path / "weights")
    app = typer.Typer()
    app.command()(benchmark.main)
    options = ["--weights", str(tmp_path / "weights"), "--batch", "2", "--repeats", "2"]
    options += ["--least", "0", "--json", str(tmp_path / "figures.json")]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert "8,439,936" in done.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["size"] == 32
    assert [row["precision"] for row in figures["rows"]] == ["float32", "bfloat16"]
    for row in figures["rows"]:
        assert row["low"] <= row["ratio"] <= row["high"]
        assert 0 < row["gflop"] < row["stargan_gflop"]
