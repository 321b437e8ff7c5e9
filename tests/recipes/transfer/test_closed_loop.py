"""The correction of exemplars, on the sample faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
from transfer_faces import read

from expraug import Expression, create_synthesizer
from expraug.synthesizers import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import bank_of, with_bank
from recipes.real_faces import FER2013, LFW, Faces
from recipes.transfer import closed_loop
from recipes.transfer.closed_loop import (
    Shown,
    by_least_squares,
    close_loop,
    targets,
)

NEUTRAL, HAPPY, CONTEMPT = Expression.NEUTRAL, Expression.HAPPY, Expression.CONTEMPT


@pytest.fixture(scope="module")
def model() -> TransferSynthesizer:
    """The embedded synthesizer with four exemplars of an expression, of whom none smiles."""
    embedded = create_synthesizer("transfer")
    assert isinstance(embedded, TransferSynthesizer)
    own = bank_of(embedded)
    some = [(own.expression == int(e)).nonzero()[:4, 0] for e in embedded.expressions]
    bank = own.take(torch.cat(some))
    smiles = (bank.expression == int(HAPPY))[:, None]
    bank.shape, bank.skin = bank.shape * ~smiles, bank.skin * ~smiles
    bank.gaps = bank.gaps * ~smiles
    model = with_bank(embedded, bank)
    model.shape_correction.zero_()
    model.skin_correction.zero_()
    return model


@pytest.fixture(scope="module")
def faces(neutral_images: list[np.ndarray], happy_images: list[np.ndarray]) -> Faces:
    """Neutral and smiling faces without names, and neutral ones of people who borrow."""
    parts = []
    for images, shown, origin in (
        (neutral_images, NEUTRAL, FER2013),
        (happy_images, HAPPY, FER2013),
        (neutral_images[:6], NEUTRAL, LFW),
    ):
        pictures, known = read(images)
        count = len(pictures)
        parts.append(
            {
                "crop": (pictures * 255).round().to(torch.uint8).numpy(),
                "mesh": known["landmarks"].numpy(),
                "scores": known["blendshapes"].numpy(),
                "pose": known["pose"].numpy(),
                "expression": np.full(count, int(shown)),
                "votes": np.eye(8, dtype=np.float32)[np.full(count, int(shown))],
                "origin": np.full(count, origin),
                "row": np.arange(count),
                "person": np.array([str(i) for i in range(count)]),
                "split": np.full(count, "train"),
                "duplicate": np.zeros(count, bool),
                "half": np.zeros(count, int),
            }
        )
    return Faces(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def test_smiles_that_show_nothing_become_smiles(
    model: TransferSynthesizer,
    faces: Faces,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(closed_loop, "BORROWERS", 6)
    monkeypatch.setattr(closed_loop, "ROUNDS", 3)
    before = model.shape_correction.clone()
    closed = close_loop(model, faces)
    missing = [float(line.split()[-2]) for line in capsys.readouterr().out.splitlines()]
    assert missing[0] > 0.8, "exemplars that show nothing lend nothing"
    assert missing[2] < 0.5 * missing[0]
    assert torch.equal(model.shape_correction, before), "the model given stays as it was"
    assert closed.shape_gain[int(HAPPY)] == closed.skin_gain[int(HAPPY)] == 1
    changed = (closed.shape_correction != before).any(1)
    assert changed.nonzero()[:, 0].tolist() == [int(HAPPY)], "no other faces"


def test_targets_lie_beyond_what_an_expression_is_taken_for() -> None:
    shown = {e: Shown(torch.eye(8)[int(e)], torch.eye(8)[int(e)]) for e in Expression}
    wanted = targets(shown)
    assert set(wanted) == set(Expression) - {NEUTRAL, CONTEMPT}
    rest = torch.eye(8)[int(NEUTRAL)]
    assert torch.equal(wanted[HAPPY].landmarks, torch.eye(8)[int(HAPPY)] - rest)
    for e, parts in closed_loop.FURTHER.items():
        for other, of_landmarks, of_skin in parts:
            if other is not NEUTRAL:
                assert float(wanted[e].landmarks[int(other)]) == pytest.approx(-of_landmarks)
                assert float(wanted[e].skin[int(other)]) == pytest.approx(-of_skin)


def test_displacements_along_the_axes_of_shape_are_found_again(
    model: TransferSynthesizer,
) -> None:
    shape = torch.randn(3, model.reader.shape_axes.shape[0], generator=torch.manual_seed(0))
    found = (shape @ model.reader.shape_axes) @ by_least_squares(model.reader)
    assert (found - shape)[:, :8].abs().max() < 0.1
