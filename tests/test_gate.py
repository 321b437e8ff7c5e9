import copy
import json
import pickle

import numpy as np
import pytest
import torch

from expraug import Expression, IdentityGate
from expraug.errors import InvalidWeightsError, MissingWeightsError
from expraug.faces import MTCNNDetector, align, similarity
from expraug.gate import AllGates, ExpressionGate, thresholds_of_real
from expraug.networks.identity import (
    DLIB_VARIABLE,
    DlibDescriptor,
    FacenetEncoder,
    create_identity_encoder,
    identity_encoder_class,
)


class MeanColour:
    """A tiny encoder: faces are alike as their mean colours are."""

    name = "mean-colour"
    threshold = 0.9

    def __call__(self, faces):
        return torch.nn.functional.normalize(faces.mean(dim=(2, 3)))


def test_scores_and_rejection():
    gate = IdentityGate(MeanColour())
    red, blue = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    red[:, 0], blue[:, 2] = 1, 1
    sources, made = torch.cat([red, red]), torch.cat([red, blue])
    scores = gate.score(sources, made, torch.zeros(2, dtype=torch.long))["identity"].tolist()
    assert scores == [1, 0]
    assert [gate.rejection({"identity": s}) for s in scores] == ["", "identity_lost"]
    assert IdentityGate(MeanColour(), threshold=-1).rejection({"identity": 0}) == ""
    assert gate.fingerprint == "identity-mean-colour"


def test_encoders_by_name(monkeypatch, tmp_path):
    monkeypatch.delenv(DLIB_VARIABLE, raising=False)
    assert identity_encoder_class() is FacenetEncoder
    assert identity_encoder_class("dlib:somewhere") is DlibDescriptor
    with pytest.raises(ValueError, match="no identity encoder"):
        create_identity_encoder("dlib")
    with pytest.raises(MissingWeightsError, match=r"expected face_recognition_model\.bin"):
        create_identity_encoder(f"dlib:{tmp_path}")
    monkeypatch.setenv(DLIB_VARIABLE, str(tmp_path))
    assert identity_encoder_class() is DlibDescriptor
    assert IdentityGate().fingerprint == "identity-dlib-resnet"  # without loading anything


@pytest.mark.parametrize(
    ("manifest", "packed"),
    [
        ("", b""),
        ("{}", b""),
        ('[{"weights": 3}]', b""),
        ('[{"weights": [{"name": "fc", "shape": ["wide"]}]}]', b""),
        ('[{"weights": [{"name": "fc", "shape": [256, 128]}]}]', b"short"),
        ('[{"weights": [{"name": "fc", "shape": [1e30]}]}]', b"short"),
        ('[{"weights": [{"name": "fc", "shape": [1]}]}]', b"\0\0\0\0"),
    ],
)
def test_a_damaged_descriptor_is_told(tmp_path, manifest, packed):
    (tmp_path / "face_recognition_model-weights_manifest.json").write_text(manifest)
    (tmp_path / "face_recognition_model.bin").write_bytes(packed)
    with pytest.raises(InvalidWeightsError, match=str(tmp_path)):
        create_identity_encoder(f"dlib:{tmp_path}")


def test_a_descriptor_of_other_values_is_told(shared, tmp_path):
    for file in (shared / "models").glob("face_recognition_model*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = tmp_path / "face_recognition_model-weights_manifest.json"
    whole = json.loads(manifest.read_text())
    for change, told in (({"scale": 1e400}, "not finite"), ({"shape": [7]}, "dlib descriptor")):
        weights = copy.deepcopy(whole)
        entry = weights[0]["weights"][-1]
        entry.update({k: v for k, v in change.items() if k == "shape"})
        if "scale" in change:
            entry["quantization"]["scale"] = change["scale"]
        manifest.write_text(json.dumps(weights))
        with pytest.raises(InvalidWeightsError, match=told):
            create_identity_encoder(f"dlib:{tmp_path}")


def test_facenet_without_network_says_what_to_do(monkeypatch, tmp_path):
    import facenet_pytorch.models.inception_resnet_v1 as facenet

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(facenet, "download_url_to_file", no_network)
    with pytest.raises(MissingWeightsError, match=f"no route to host.*{DLIB_VARIABLE}"):
        FacenetEncoder()


def test_dlib_tells_people_apart(shared, neutral_images, happy_images):
    encoder = create_identity_encoder(f"dlib:{shared / 'models'}")
    detector = MTCNNDetector()

    def embed(images):
        detected = detector(images)
        matrices = similarity(np.stack([x.points for x in detected]).astype(np.float64))
        faces = [
            align(torch.from_numpy(i).permute(2, 0, 1)[None].float() / 255, m[None], 128)
            for i, m in zip(images, matrices, strict=True)
        ]
        return encoder(torch.cat(faces))

    cosines = embed(neutral_images) @ embed(happy_images).T
    same = cosines.diagonal()
    different = cosines[~torch.eye(len(cosines), dtype=torch.bool)]
    assert same.min() > different.quantile(0.95)
    assert same.min() > encoder.threshold


def test_a_gate_by_name_pickles_without_its_weights(shared):
    gate = IdentityGate(f"dlib:{shared / 'models'}")
    _ = gate.encoder
    packed = pickle.dumps(gate)
    assert len(packed) < 2000
    assert pickle.loads(packed).encoder.threshold == gate.threshold


class Brightness:
    """A tiny classifier: the brighter a face, the happier."""

    name = "brightness"
    expressions = (Expression.NEUTRAL, Expression.HAPPY)

    def probabilities(self, faces):
        happy = faces.mean(dim=(1, 2, 3))
        return torch.stack([1 - happy, happy], 1)


def _of_brightness(*levels):
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def _rejections(gate, faces, made, target):
    scores = gate.score(faces, made, torch.tensor([int(t) for t in target]))
    rows = [{name: float(s[i]) for name, s in scores.items()} for i in range(len(made))]
    return [gate.rejection(row) for row in rows]


def test_expression_gate_passes_what_its_classifier_sees():
    sources, made = _of_brightness(0.5, 0.5, 0.5), _of_brightness(0.9, 0.3, 0.3)
    happy, neutral, fear = Expression.HAPPY, Expression.NEUTRAL, Expression.FEAR
    asked = (happy, happy, neutral)
    assert _rejections(ExpressionGate(Brightness()), sources, made, asked) == [
        *("", "expression_not_seen", "")
    ]
    by_class = ExpressionGate(Brightness(), {happy: 0.2, neutral: 0.8})
    assert _rejections(by_class, sources, made, asked) == ["", "", "expression_not_seen"]
    # what the classifier does not know it cannot reject
    assert _rejections(ExpressionGate(Brightness()), sources, made, (fear,) * 3) == [""] * 3
    scores = by_class.score(sources, made, torch.tensor([1, 1, 0]))
    assert torch.allclose(scores["p_happy"], torch.tensor([0.9, 0.3, 0.3]))
    assert torch.allclose(scores["expression"], torch.tensor([0.9, 0.3, 0.7]))


class Blind(Brightness):
    """Gives every face the same answer, so that NaN leaves no trace in it."""

    threshold = -1.0

    def probabilities(self, faces):
        return torch.tensor([[0.1, 0.9]]).expand(len(faces), -1)

    def __call__(self, faces):
        return torch.ones(len(faces), 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "gate",
    [
        IdentityGate(MeanColour(), threshold=-2),
        IdentityGate(Blind()),
        ExpressionGate(Brightness(), threshold=0),
        ExpressionGate(Blind()),
        AllGates([IdentityGate(Blind()), ExpressionGate(Blind())]),
    ],
)
def test_what_is_not_finite_never_passes(gate, value):
    made = _of_brightness(0.9, 0.9).clone()
    made[0, 1, 2, 3] = value
    for target in (Expression.HAPPY, Expression.FEAR):  # fear is unknown to the classifiers
        rejections = _rejections(gate, _of_brightness(0.9, 0.9), made, [target] * 2)
        assert rejections == ["not_finite", ""]


def test_thresholds_of_real_reject_the_share_asked_for():
    happy = torch.linspace(0, 1, 101)
    probabilities = torch.stack([1 - happy, happy], 1)
    labels = torch.full((101,), int(Expression.HAPPY))
    found = thresholds_of_real(probabilities, labels, Brightness.expressions, 0.3)
    assert found.keys() == {Expression.HAPPY}  # nothing is known of the others
    assert found[Expression.HAPPY] == pytest.approx(0.3)


def test_all_gates_must_pass():
    gate = AllGates([IdentityGate(MeanColour()), ExpressionGate(Brightness())])
    sources = _of_brightness(0.5, 0.5)
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0] = 1
    made = torch.cat([_of_brightness(0.9), red])
    assert _rejections(gate, sources, made, [Expression.HAPPY] * 2) == ["", "identity_lost"]
    assert gate.fingerprint == "identity-mean-colour+expression-brightness"
