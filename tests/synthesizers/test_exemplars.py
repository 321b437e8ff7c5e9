"""Exemplars from a user's own faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transfer_faces import CORNERS, read

from expraug import Expression, create_synthesizer
from expraug.errors import NoFaceError
from expraug.faces import LandmarkDetector
from expraug.faces.read import read_face
from expraug.synthesizers import TransferSynthesizer

NEUTRAL, HAPPY, FEAR = Expression.NEUTRAL, Expression.HAPPY, Expression.FEAR
SCHEME = ["neutral", "happy"]
ROWS = ("shape", "skin", "interior", "pose", "gaps")
Labelled = list[tuple[np.ndarray, str]]


@pytest.fixture(scope="module")
def embedded() -> TransferSynthesizer:
    model = create_synthesizer("transfer")
    assert isinstance(model, TransferSynthesizer)
    return model


@pytest.fixture(scope="module")
def labelled(neutral_images: list[np.ndarray], happy_images: list[np.ndarray]) -> Labelled:
    neutral = [(image, "neutral") for image in neutral_images[:5]]
    return neutral + [(image, "happy") for image in happy_images[:5]]


@pytest.fixture(scope="module")
def fitted(embedded: TransferSynthesizer, labelled: Labelled) -> TransferSynthesizer:
    return embedded.fit_exemplars(labelled, SCHEME, alignment="detect")


def rows_of(synthesizer: TransferSynthesizer, expression: Expression, name: str) -> torch.Tensor:
    found: torch.Tensor = getattr(synthesizer, name)[synthesizer.shows == int(expression)]
    return found


def test_all_usable_faces_become_exemplars(
    embedded: TransferSynthesizer,
    fitted: TransferSynthesizer,
    happy_images: list[np.ndarray],
) -> None:
    assert fitted.config["rows"] == embedded.config["rows"] | {"neutral": 5, "happy": 5}
    _, known = read(happy_images)
    real = embedded.lip_gaps(known["landmarks"])
    nearest = torch.cdist(rows_of(fitted, HAPPY, "gaps"), real).min(1)
    # each row is one of the given people's, and none is of those that were kept back
    assert nearest.values.max() < 1e-5
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3, 4]


def test_rows_limit_them(embedded: TransferSynthesizer, labelled: Labelled) -> None:
    few = embedded.fit_exemplars(labelled, SCHEME, rows=3, alignment="detect")
    assert few.config["rows"]["happy"] == 3
    assert few.variants == 6, "three faces and their mirror images"


def test_expressions_that_nobody_shows_keep_the_embedded_exemplars(
    embedded: TransferSynthesizer, fitted: TransferSynthesizer
) -> None:
    for name in ROWS:
        for e in embedded.expressions:
            same = torch.equal(rows_of(fitted, e, name), rows_of(embedded, e, name))
            assert same == (e not in (NEUTRAL, HAPPY))


def test_it_makes_others_smile_and_leaves_the_embedded_one_alone(
    embedded: TransferSynthesizer,
    fitted: TransferSynthesizer,
    neutral_images: list[np.ndarray],
) -> None:
    fresh = create_synthesizer("transfer")
    assert embedded.fingerprint == fresh.fingerprint != fitted.fingerprint
    faces, known = read([neutral_images[i] for i in (6, 8, 9)])
    asked = (torch.full((3,), int(HAPPY)), torch.ones(3))
    made = fitted(faces, *asked, **known)
    rise = (read_face(faces).landmarks - read_face(made).landmarks)[:, list(CORNERS), 1]
    assert (rise.mean(1) * 256 > 2).all()
    assert not torch.equal(made, embedded(faces, *asked, **known))


def test_it_saves_and_loads(fitted: TransferSynthesizer, tmp_path: Any) -> None:
    fitted.save_pretrained(tmp_path)
    loaded = create_synthesizer(str(tmp_path))
    assert loaded.config == fitted.config
    assert torch.equal(loaded.shows, fitted.shows)
    for name in ROWS:
        kept, whole = getattr(loaded, name), getattr(fitted, name)
        assert torch.allclose(kept, whole, rtol=2e-3, atol=2e-3)


class Damaged:
    """Samples, one that cannot be read, and one without a face."""

    def __init__(self, samples: Labelled) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples) + 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        if index == len(self.samples):
            raise OSError("truncated")
        nobody = (np.full((64, 64, 3), 128, np.uint8), "happy")
        return [*self.samples, nobody, nobody][index]


def test_a_damaged_sample_lends_nothing(
    embedded: TransferSynthesizer, labelled: Labelled, fitted: TransferSynthesizer
) -> None:
    damaged = embedded.fit_exemplars(Damaged(labelled), SCHEME, alignment="detect")
    assert fitted.fingerprint == damaged.fingerprint


def test_faces_that_are_turned_away_lend_nothing(
    embedded: TransferSynthesizer,
    labelled: Labelled,
    fitted: TransferSynthesizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch, turned = LandmarkDetector._batch, labelled[-1][0]

    def away(self: LandmarkDetector, images: Any, most: Any) -> Any:
        found = batch(self, images, most)
        for image, face in zip(images, found, strict=True):
            if np.array_equal(np.asarray(image), turned):
                face[0].pose[0] = 50
        return found

    monkeypatch.setattr(LandmarkDetector, "_batch", away)
    fewer = embedded.fit_exemplars(labelled, SCHEME, alignment="detect")
    assert fewer.config["rows"]["happy"] == fitted.config["rows"]["happy"] - 1


def test_no_face_is_an_error_that_says_what_to_do(embedded: TransferSynthesizer) -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    with pytest.raises(NoFaceError, match="alignment='detect'"):
        embedded.fit_exemplars([(grey, "happy")], SCHEME)


def test_rows_must_be_positive(embedded: TransferSynthesizer) -> None:
    with pytest.raises(ValueError, match="rows"):
        embedded.fit_exemplars([], SCHEME, rows=0)
