import pickle

import pytest
import torch

from expraug import Expression, ExpressionAugmenter, IdentityGate, SynthesisRequest
from expraug.faces import align_image, create_detector
from expraug.faces.composite import face_mask
from expraug.gate import AllGates, ExpressionGate, create_gate, thresholds_of_real


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


@pytest.fixture(scope="module")
def aligned_faces(neutral_images, happy_images):
    """The sample faces, neutral and smiling, aligned: two of (10, 3, 128, 128)."""
    detector = create_detector("detect")

    def align(images):
        found = zip(images, detector(images), strict=True)
        return torch.stack([align_image(image, face.points, 128) / 255 for image, face in found])

    return align(neutral_images), align(happy_images)


def _verdicts(gate, faces, made):
    scores = gate.score(faces, made, torch.zeros(len(made), dtype=torch.long))["identity"]
    return scores, [gate.rejection({"identity": float(score)}) for score in scores]


def test_a_mild_edit_passes_and_another_persons_face_does_not(aligned_faces):
    gate = IdentityGate()
    neutral, happy = aligned_faces
    mild = (neutral * 0.9 + 0.02).clamp(0, 1)
    scores, verdicts = _verdicts(gate, neutral, mild)
    assert verdicts == [""] * 10
    assert scores.min() > 0.97
    assert _verdicts(gate, neutral, happy)[1] == [""] * 10
    assert _verdicts(gate, neutral, neutral.roll(1, 0))[1] == ["identity_lost"] * 10


def test_a_face_exchanged_within_its_outline_is_refused(neutral_images):
    detector = create_detector("detect")
    faces = detector(neutral_images)
    target, other = neutral_images[0], neutral_images[1]
    # the other person's face, in the first one's place and size, under a soft mask
    here, there = (align_image(i, f.points, 128) / 255 for i, f in
                   zip((target, other), faces, strict=False))  # fmt: skip
    mask = face_mask(128)[0]
    exchanged = here * (1 - mask) + there * mask
    gate = IdentityGate()
    assert _verdicts(gate, here[None], exchanged[None])[1] == ["identity_lost"]
    assert _verdicts(gate, here[None], here[None])[1] == [""]


def test_the_pipeline_gates_by_identity_without_a_download(neutral_images, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    request = SynthesisRequest(Expression.HAPPY)
    augmenter = ExpressionAugmenter("transfer", alignment="detect", gate="identity")
    (outcome,) = augmenter(neutral_images[:1], [request])
    assert outcome.target is Expression.HAPPY
    assert outcome.scores["identity"] > IdentityGate().threshold
    gate = IdentityGate(threshold=0.9999)
    strict = ExpressionAugmenter("transfer", alignment="detect", gate=gate)
    (refused,) = strict(neutral_images[:1], [request])
    assert refused.reason == "identity_lost"


def test_natural_asks_what_nine_of_ten_real_faces_show(happy_images):
    gate = create_gate("natural")
    identity, expression = gate.gates
    assert isinstance(identity, IdentityGate)
    assert isinstance(expression, ExpressionGate)
    assert set(expression.thresholds) == set(Expression)
    assert 0.3 < expression.thresholds[Expression.HAPPY] < 0.9
    found = create_detector("crop")(happy_images[:4])
    after = (
        torch.stack(
            [align_image(i, f.points, 128) for i, f in zip(happy_images[:4], found, strict=True)]
        )
        / 255
    )
    happy = torch.full((4,), int(Expression.HAPPY))
    shown = gate.score(after, after, happy)
    reasons = [gate.rejection({k: float(v[i]) for k, v in shown.items()}) for i in range(4)]
    assert reasons.count("") >= 3
    angry = torch.full((4,), int(Expression.ANGRY))
    wrong = gate.score(after, after, angry)
    reasons = [gate.rejection({k: float(v[i]) for k, v in wrong.items()}) for i in range(4)]
    assert reasons.count("expression_not_seen") >= 3


def test_gates_by_name():
    assert create_gate(None) is None
    own = IdentityGate()
    assert create_gate(own) is own
    assert isinstance(create_gate("identity"), IdentityGate)
    with pytest.raises(ValueError, match="'natural'"):
        create_gate("strict")


def test_a_gate_by_name_pickles_without_its_weights():
    gate = IdentityGate("dlib")
    _ = gate.encoder
    packed = pickle.dumps(gate)
    assert len(packed) < 2000
    assert pickle.loads(packed).encoder.threshold == gate.threshold
    assert gate.fingerprint == IdentityGate().fingerprint == "identity-dlib-resnet"


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
