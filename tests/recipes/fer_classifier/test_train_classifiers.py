"""Both families learn from the same faces, and go on where they were stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.landmark_classifier import load_landmark_classifier

SMALL = ("--per-epoch", 32, "--batch-size", 16, "--width", 8)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faces")


def test_image_net_goes_on_where_it_was_stopped(
    face_sets: Path,
    found: Path,
    tmp_path: Path,
    run_recipe: Callable[..., str],
) -> None:
    def train(name: str, epochs: int) -> str:
        folders = ("--out", tmp_path / f"{name}-weights", "--work", tmp_path / name)
        arguments = (face_sets, *folders, "--faces", found, "--epochs", epochs, *SMALL)
        return run_recipe("fer_classifier.train", *arguments)

    assert "'happy'" in train("whole", 2)
    one = train("stopped", 2)
    state = torch.load(tmp_path / "stopped" / "state.pt", weights_only=True)
    assert state["epoch"] == 2
    assert "epoch 1" in one
    assert "epoch" not in train("stopped", 2), "nothing is left to do"
    nets = [load_fer_classifier(tmp_path / f"{name}-weights") for name in ("whole", "stopped")]
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert len(nets[0].expressions) == 8


def test_landmark_net_learns_a_smile_and_is_reported(
    face_sets: Path,
    found: Path,
    tmp_path: Path,
    run_recipe: Callable[..., str],
) -> None:
    arguments = ("--out", tmp_path, "--faces", found, "--components", 6, "--width", 16)
    printed = run_recipe(
        "landmark_classifier.train", face_sets, *arguments, "--epochs", 60, "--rate", 0.02
    )
    losses = [float(line.split()[-1]) for line in printed.splitlines() if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    net = load_landmark_classifier(tmp_path)
    assert len(net.expressions) == 8
    told = run_recipe("fer_classifier.report", face_sets, "--faces", found)
    assert "| without near-duplicates | image | landmarks |" in told
    assert "of 10" in told or "of 9" in told
    assert "image, landmarks: with each other" in told
