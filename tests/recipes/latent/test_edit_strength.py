"""How far a synthesizer goes, on faces and nets whose answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from paired_faces import call
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.synthesizers.decoupled import DecoupledSynthesizer
from recipes.labelled_faces import LabelledFaces
from recipes.latent.calibrate_edit_strength import main
from recipes.latent.edit_strength import Limits, choose


class BrightIsHappy:
    """A classifier that sees happiness in light."""

    expressions = (Expression.NEUTRAL, Expression.HAPPY)

    def probabilities(self, faces: Tensor) -> Tensor:
        happy = faces.mean((1, 2, 3))
        return torch.stack([1 - happy, happy], 1)


class DarkIsSomebody(nn.Module):
    """An encoder to whom faces from half of the light on are somebody else."""

    threshold = 0.5

    def forward(self, faces: Tensor) -> Tensor:
        light = (faces.mean((1, 2, 3)) > 0.5).float()
        return torch.stack([1 - light, light], 1)


def lit(light: float, count: int = 4) -> Tensor:
    return torch.full((count, 1, 8, 8), light)


@pytest.fixture
def held() -> LabelledFaces:
    """Happy faces of light 0.6, and black neutral ones."""
    faces = torch.cat([lit(0.6), lit(0.0)]).mul(255).to(torch.uint8)
    labels = torch.tensor([int(Expression.HAPPY)] * 4 + [int(Expression.NEUTRAL)] * 4)
    return LabelledFaces(faces, labels, torch.ones(8, dtype=torch.bool))


@pytest.mark.parametrize(
    ("encoder", "reach", "strength", "ended"),
    [
        (None, 1.0, 0.6, "reached"),
        (None, 0.5, 0.3, "reached"),
        (None, 2.0, 1.0, "no more to gain"),
        (DarkIsSomebody(), 1.0, 0.5, "identity"),
    ],
)
def test_it_goes_until_it_is_seen_or_somebody_else(
    held: LabelledFaces, encoder: nn.Module | None, reach: float, strength: float, ended: str
) -> None:
    limits = Limits(reach * 0.999, 1.0, 10, 0.9, 0.01)
    found, figures = choose(
        lit,
        lit(0.0),
        Expression.HAPPY,
        held,
        BrightIsHappy(),  # type: ignore[arg-type]
        encoder,  # type: ignore[arg-type]
        limits,
    )
    assert found == pytest.approx(strength)
    assert figures["ended by"] == ended


def test_the_recipe_writes_edit_strengths_that_forward_goes(
    faces: Path, classifier_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    names = [str(e) for e in Expression]
    model = DecoupledSynthesizer(names, 32, (16, 16, 8, 8), 8, 4, 16, 4).eval()
    folder, work = tmp_path / "weights", tmp_path / "work"
    model.save_pretrained(folder)
    options = ["--half", 1, "--classifier", classifier_folder, "--identity", "none"]
    call(main, folder, faces, *options, "--largest", 2, "--grid", 4, "--work", work)

    fitted = DecoupledSynthesizer.from_pretrained(folder)
    assert isinstance(fitted, DecoupledSynthesizer)
    known = fitted.edit_strength[:-1]  # the classifier does not know contempt
    assert set(known.tolist()) <= {0.5, 1.0, 1.5, 2.0}
    assert float(fitted.edit_strength[-1]) == pytest.approx(float(known.mean()))
    assert fitted.fingerprint != model.fingerprint

    source = torch.rand(1, 3, 32, 32)
    target = torch.tensor([int(Expression.HAPPY)])
    far = float(fitted.edit_strength[int(Expression.HAPPY)])
    made = fitted(source, target, torch.ones(1))
    fitted.edit_strength.fill_(1)
    assert torch.equal(made, fitted(source, target, torch.full((1,), far)))
