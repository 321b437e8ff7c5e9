from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from expraug import Expression
from expraug.errors import MissingWeightsError
from expraug.evaluate import identity
from expraug.evaluate.identity import different_pairs, same_pairs

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


def test_pairs_of_people() -> None:
    people = ["a", "a", "b", "c", "a"]
    assert same_pairs(people) == [(0, 1), (0, 4), (1, 4)]
    pairs = {tuple(pair) for pair in different_pairs(people).tolist()}
    assert pairs == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)}
    assert len(same_pairs(["a"] * 100)) == 20


def test_cosines_of_what_was_made(crops: Callable, in_context: Callable, brighten: type) -> None:
    rng = np.random.default_rng(0)
    dark = [rng.integers(0, 120, (32, 32, 3)).astype(np.uint8) for _ in range(4)]
    light = [image + 100 for image in dark[:2]]
    data = crops(dark + light, [NEUTRAL] * 6, list("abcdab"))
    context = in_context(data, brighten())
    found = identity.measure(context)
    assert context.synthetics(HAPPY).made.tolist() == [True] * 4 + [False] * 2
    assert found.verified["happy"].n == 4, "what was not made is nobody's face"
    own = identity.embed(context.encoder, context.synthetics(HAPPY).made_faces)
    real = identity.embed(context.encoder, data.faces[:4])
    expected = torch.nn.functional.cosine_similarity(own, real)
    assert found.cosine["happy"].value == pytest.approx(float(expected.mean()))
    assert found.threshold_from == "encoder"
    assert found.real_verified is not None
    assert found.real_verified.n == 2


def test_without_an_encoder_the_reason_is_told(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    lacking = MissingWeightsError("nowhere: not the dlib descriptor")
    context = in_context(plain([0.1] * 3, [NEUTRAL] * 3), brighten(), identity=lacking)
    with pytest.raises(MissingWeightsError, match="not the dlib descriptor"):
        identity.measure(context)
