"""How far a synthesizer goes, on real faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from expraug import Expression, create_synthesizer
from expraug.evaluate.landmarks import Landmarks
from expraug.synthesizers.decoupled import DecoupledSynthesizer
from recipes.latent import edit_strength
from recipes.latent.edit_strength import Instrument, Limits, calibrate, choose, make, marks_of
from recipes.real_faces import LFW, Faces, extract

NAN = float("nan")


def tried(*rows: tuple[float, float, float]) -> list[dict[str, float]]:
    return [
        {"share": n + 1.0, "score": s, "exaggerated": e, "verified": v}
        for n, (s, e, v) in enumerate(rows)
    ]


def test_the_weakest_of_the_best_within_the_limits() -> None:
    limits = Limits(exaggerated=0.1, verified=0.95)
    rows = tried((0.3, 0, 1), (0.79, 0, 1), (0.8, 0, 1), (0.9, 0.2, 1), (0.95, 0, 0.9))
    assert choose(rows, limits)["share"] == 2, "hardly worse, and weaker"
    assert choose(tried((0.3, 0, NAN), (0.8, 0.1, NAN)), limits)["share"] == 2, "no encoder"
    assert choose(tried((0.3, 0.2, 1), (0.8, 0.3, 1)), limits)["share"] == 1, "none is within"


@pytest.fixture(scope="module")
def real(face_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """The sample faces, as a training set holds them."""
    return extract(LFW, face_sets / "lfw_expressions/train.parquet", tmp_path_factory.mktemp("w"))


class SampleInstrument(Instrument):
    """The embedded classifiers, with sample faces in place of validation people."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        self.classifiers = [
            edit_strength.create_fer_classifier(name) for name in edit_strength.EMBEDDED_CLASSIFIERS
        ]
        everyone = Landmarks(np.empty((0, 468, 2)), [])
        self.real = {e: edit_strength.RealClass([0.8, 0.8], everyone) for e in Expression}

    def sources(self, target: Expression, count: int) -> Faces:
        neutral = self.faces.expression == int(Expression.NEUTRAL)
        fits = ~neutral if target == Expression.NEUTRAL else neutral
        return self.faces.take(np.flatnonzero(fits)[:count])

    def range_of(self, target: Expression):  # type: ignore[no-untyped-def]
        return lambda seen: np.zeros(len(seen))


def test_strengths_are_multiplied_by_what_is_seen(real: Faces) -> None:
    model = create_synthesizer("decoupled")
    assert isinstance(model, DecoupledSynthesizer)
    model.expressions = (Expression.HAPPY, Expression.SURPRISE)
    strength = torch.ones(2)
    instrument = SampleInstrument(real)
    weak = make(model, instrument.sources(Expression.HAPPY, 3), Expression.HAPPY, 0.02)
    full = make(model, instrument.sources(Expression.HAPPY, 3), Expression.HAPPY, 1.0)
    source = instrument.sources(Expression.HAPPY, 3).tensor()
    assert (weak - source).abs().mean() < 0.3 * (full - source).abs().mean()
    recall = [instrument.recall(f, Expression.HAPPY) for f in (source, full)]
    assert recall[1][0] > recall[0][0]
    assert len(marks_of(full, ["a", "b", "c"])) == 3
    lines = calibrate(model, strength, instrument, None, Limits(1.5, 2), 3)
    assert [line[""] for line in lines] == ["happy", "surprise"]
    assert all(float(s) in (0.75, 1.5) for s in strength)
