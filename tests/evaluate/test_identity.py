from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from expraug import Expression
from expraug.errors import MissingWeightsError
from expraug.evaluate import evaluate, identity
from expraug.evaluate.identity import different_pairs, same_pairs
from expraug.networks.identity import IdentityEncoder

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
    found = identity.measure(context).encoders["coarse-picture"]
    assert context.synthetics(HAPPY).made.tolist() == [True] * 4 + [False] * 2
    assert found.verified["happy"].n == 4, "what was not made is nobody's face"
    own = identity.embed(context.encoder, context.synthetics(HAPPY).made_faces)
    real = identity.embed(context.encoder, data.faces[:4])
    expected = torch.nn.functional.cosine_similarity(own, real)
    assert found.cosine["happy"].value == pytest.approx(float(expected.mean()))
    assert found.threshold_from == "encoder"
    assert found.real_verified is not None
    assert found.real_verified.n == 2


class MeanColour:
    """Sees nothing of a face but its colour."""

    name = "mean-colour"
    threshold = 0.5

    def __call__(self, faces: Tensor) -> Tensor:
        return torch.nn.functional.normalize(faces.mean((2, 3)) + 1e-3)


def test_every_encoder_is_reported(
    plain: Callable, in_context: Callable, brighten: type, encoder: IdentityEncoder
) -> None:
    data = plain([0.1, 0.2, 0.3, 0.2], [NEUTRAL] * 4)
    context = in_context(data, brighten(), further_identity=(MeanColour(),))
    found = identity.measure(context)
    assert list(found.encoders) == ["coarse-picture", "mean-colour"]
    grey = found.encoders["mean-colour"]
    assert grey.verified_all.value == 1, "grey stays grey"
    assert found.encoders["coarse-picture"].verified_all.value == 0, "no pattern to know"
    lines = found.lines()
    for name, each in found.encoders.items():
        own = {line.expression: line for line in lines if line.measure.endswith(f"on, {name}")}
        assert own["all"].value == str(each.verified_all)
        assert own["threshold"].value == f"{each.threshold:.3f}"
    figures = json.loads(json.dumps(found.to_dict()))["encoders"]
    assert figures["mean-colour"]["verified_all"]["n"] == 4
    assert found.caption() == "identity coarse-picture and mean-colour"


def test_an_encoder_that_cannot_be_had_is_listed(
    faces: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facenet = pytest.importorskip("facenet_pytorch.models.inception_resnet_v1")

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(facenet, "download_url_to_file", no_network)
    settings: dict[str, Any] = {"measures": ["identity"], "targets": [HAPPY], "limit": 2}
    both = evaluate("pixel", faces, identity=("dlib", "facenet"), **settings)
    assert list(both.results["identity"].encoders) == ["dlib-resnet"]
    assert "no route to host" in both.skipped["identity by facenet"]
    alone = evaluate("pixel", faces, identity="facenet", **settings)
    assert "no route to host" in alone.skipped["identity"]
    for none in ((), ("dlib", "dlib")):
        with pytest.raises(ValueError, match="one encoder or several different ones"):
            evaluate("pixel", faces, identity=none, **settings)


def test_without_an_encoder_the_reason_is_told(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    lacking = MissingWeightsError("nowhere: not the dlib descriptor")
    context = in_context(plain([0.1] * 3, [NEUTRAL] * 3), brighten(), identity=lacking)
    with pytest.raises(MissingWeightsError, match="not the dlib descriptor"):
        identity.measure(context)
