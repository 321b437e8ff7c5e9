"""Exemplars from a user's own faces."""

import numpy as np
import pytest
import torch

from expraug import Expression, create_synthesizer
from expraug.errors import NoFaceError
from expraug.faces import LandmarkDetector, align_image

NEUTRAL, HAPPY, FEAR = Expression.NEUTRAL, Expression.HAPPY, Expression.FEAR
SMILE = slice(44, 46)  # mouthSmileLeft, mouthSmileRight


@pytest.fixture(scope="module")
def embedded():
    return create_synthesizer("transfer")


@pytest.fixture
def labelled(neutral_images, happy_images):
    return [(i, "neutral") for i in neutral_images[:5]] + [(i, "happy") for i in happy_images[:5]]


def test_the_sets_own_smiles_become_the_happy_rows(embedded, labelled):
    fitted = embedded.fit_exemplars(labelled, ["neutral", "happy"], rows=3, alignment="detect")
    counts = fitted.config["rows"]
    assert counts["happy"] == 3
    assert counts["fear"] == embedded.config["rows"]["fear"]
    scores = [location.blendshapes for location in LandmarkDetector()([i for i, _ in labelled])]
    real = torch.tensor(np.stack(scores))[5:]
    for row in fitted.scores[fitted.shows == HAPPY]:
        assert (real - row).abs().amax(1).min() < 1e-6  # of one real face, whole
    kept = fitted.shows == FEAR
    for name in ("scores", "texture", "mouth"):
        same = getattr(embedded, name)[embedded.shows == FEAR]
        assert torch.equal(getattr(fitted, name)[kept], same)


def test_it_makes_others_smile_and_leaves_the_embedded_one_alone(
    embedded, labelled, neutral_images
):
    before = embedded.fingerprint
    fitted = embedded.fit_exemplars(labelled, ["neutral", "happy"], alignment="detect")
    assert embedded.fingerprint == before != fitted.fingerprint
    (location,) = LandmarkDetector()([neutral_images[9]])
    face = align_image(neutral_images[9], location.points, 128)[None] / 255
    made = fitted(face, torch.tensor([int(HAPPY)]), torch.ones(1))
    smiles = [
        LandmarkDetector("crop")([(f[0].permute(1, 2, 0) * 255).byte().numpy()])[0].blendshapes
        for f in (face, made)
    ]
    assert (smiles[1][SMILE] > smiles[0][SMILE] + 0.2).all()


def test_it_saves_and_loads(embedded, labelled, tmp_path):
    fitted = embedded.fit_exemplars(labelled, ["neutral", "happy"], alignment="detect")
    fitted.save_pretrained(tmp_path)
    loaded = create_synthesizer(str(tmp_path))
    assert loaded.config == fitted.config
    assert torch.allclose(loaded.scores, fitted.scores, atol=1e-3)


def test_a_damaged_sample_lends_nothing(embedded, labelled):
    class Damaged:
        def __len__(self):
            return len(labelled) + 1

        def __getitem__(self, index):
            if index == len(labelled):
                raise OSError("truncated")
            return labelled[index]

    whole = embedded.fit_exemplars(labelled, ["neutral", "happy"], alignment="detect")
    damaged = embedded.fit_exemplars(Damaged(), ["neutral", "happy"], alignment="detect")
    assert whole.fingerprint == damaged.fingerprint


def test_no_face_is_an_error_that_says_what_to_do(embedded):
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    with pytest.raises(NoFaceError, match="alignment='detect'"):
        embedded.fit_exemplars([(grey, "happy")], ["neutral", "happy"])


def test_rows_must_be_positive(embedded):
    with pytest.raises(ValueError, match="rows"):
        embedded.fit_exemplars([], ["neutral", "happy"], rows=0)
