"""Synthetics that are, and that are not, to be told from real faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from expraug import Expression
from expraug.evaluate import Bootstrap, detectability
from expraug.evaluate.detectability import Mixture, area, cross_fitted
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.regions import REGIONS
from expraug.faces.image import read_image
from expraug.synthesizer import Synthesizer

NEUTRAL, HAPPY, SAD = Expression.NEUTRAL, Expression.HAPPY, Expression.SAD
PEOPLE = 200


class BlurMouth(Synthesizer):
    """Blurs the mouth, and leaves all else as it is."""

    name = "blur-mouth"
    image_size = 64
    expressions = (HAPPY,)

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        top, left, bottom, right = (round(share * 64) for share in REGIONS["mouth"])
        soft = gaussian_blur(faces, [13, 13], [3.0, 3.0])
        made = faces.clone()
        change = (soft - faces) * intensity.view(-1, 1, 1, 1)
        made[..., top + 2 : bottom - 2, left:right] += change[..., top + 2 : bottom - 2, left:right]
        return made


@pytest.fixture(scope="module")
def real(shared: Path, crops: Callable) -> FaceSet:
    """Neutral faces of FER2013, every second one labelled as if it were happy: the label tells
    nothing of them."""
    table = pq.read_table(shared / "data" / "fer2013" / "validation.parquet")
    shown = table["expression"].to_pylist()
    rows = [i for i, word in enumerate(shown) if word == "neutral"][:PEOPLE]
    images = [read_image(table["image"][i].as_py()["bytes"]) for i in rows]
    return crops(images, [NEUTRAL, HAPPY] * (PEOPLE // 2), [f"p{i}" for i in rows])


def as_synthetic(data: FaceSet, faces: Tensor) -> Mixture:
    """Every second of the faces labelled happy as synthetic, the others as real."""
    at = data.of(HAPPY)
    return Mixture(
        faces[at],
        np.arange(len(at)) % 2 == 1,
        np.zeros(len(at), int),
        np.full(len(at), int(HAPPY)),
        data.who(at),
    )


def test_real_faces_are_not_told_from_other_real_faces(real: FaceSet) -> None:
    faces = as_synthetic(real, real.faces)
    for region in ("mouth", "brows"):
        scores = cross_fitted(faces, region, 50, 1)
        found = area(faces, scores, Bootstrap(faces.people))
        assert 0.3 < found.value < 0.7
        assert found.low < 0.55
        assert found.n == 50


def test_a_blurred_mouth_is_seen_on_the_mouth_alone(real: FaceSet, in_context: Callable) -> None:
    context = in_context(real, BlurMouth())
    assert detectability.faces_to_make(context) == 100, "happy faces cannot be made happy"
    found = detectability.measure(context, steps=50, seeds=1)
    mouth, brows = found.regions["mouth"], found.regions["brows"]
    assert mouth.auc.value > 0.85
    assert mouth.targets["happy"].value == pytest.approx(mouth.auc.value)
    assert 0.35 < brows.auc.value < 0.65
    for region in found.regions.values():
        assert region.control is not None
        assert 0.35 < region.control.value < 0.65, "the pipeline by itself leaves no trace"
    assert "intensity 0.01" in found.control
    assert found.elsewhere == []


def test_one_half_of_few_people_is_too_little_to_learn_from(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    context = in_context(plain([0.1, 0.9] * 6, [NEUTRAL, HAPPY] * 6), brighten())
    with pytest.raises(TooFewFacesError, match="there are 3"):
        detectability.measure(context)


def mixture(synthetic: Sequence[int], sets: Sequence[int], shown: Sequence[Expression]) -> Mixture:
    count = len(sets)
    return Mixture(
        torch.zeros(count, 3, 8, 8).byte(),
        np.array(synthetic, bool),
        np.array(sets),
        np.array([int(e) for e in shown]),
        [f"p{i}" for i in range(count)],
    )


def test_neither_the_set_nor_the_class_gives_a_face_away() -> None:
    # in set 0 three real smiles and one synthetic; in set 1 only synthetic ones, and a real sad one
    faces = mixture([0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1], [HAPPY] * 6 + [SAD])
    every = np.ones(7, bool)
    assert faces.weights(every) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 0, 0, 0])
    one_half = every & (np.arange(7) != 3)
    assert not faces.weights(one_half).any()


def test_synthetics_are_compared_with_their_class_in_their_set_and_half() -> None:
    # 20 real smiles and 20 real sad faces of set 0, 20 of set 1; synthetics of set 0
    real = [HAPPY] * 20 + [SAD] * 20 + [HAPPY] * 20
    faces = mixture(
        [0] * 60 + [1, 1], [0] * 40 + [1] * 20 + [0, 0], [*real, HAPPY, Expression.FEAR]
    )
    against = faces.opponents()
    smile, fear = against[60], against[61]
    assert smile.sum() == fear.sum() == pytest.approx(1)
    assert set(np.flatnonzero(smile)) == set(np.flatnonzero(faces.fold[:20] == faces.fold[60]))
    assert set(np.flatnonzero(fear)) == set(np.flatnonzero(faces.fold[:40] == faces.fold[61]))
    assert not against[:60].any()


def test_area_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    faces = mixture([0, 1] * 40, [0] * 80, [HAPPY] * 80)
    score = rng.normal(size=80) + faces.synthetic
    expected = []
    for half in (0, 1):
        here = faces.fold == half
        value = metrics.roc_auc_score(faces.synthetic[here], score[here])
        expected += [value] * int(faces.synthetic[here].sum())
    bootstrap = Bootstrap(faces.people)
    assert area(faces, [score], bootstrap).value == pytest.approx(np.mean(expected))
    same = replace(faces)
    assert area(same, [np.zeros(80)], bootstrap).value == 0.5, "ties count half"


def test_a_face_is_judged_by_itself() -> None:
    net = detectability._net().eval()
    x = torch.rand(8, 3, 40, 64)
    with torch.inference_mode():
        assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-5)
