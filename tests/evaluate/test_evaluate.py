from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from expraug import create_synthesizer
from expraug.cli import app
from expraug.datasets import FaceItem
from expraug.errors import NoFaceError, UnsupportedExpressionError
from expraug.evaluate import Bootstrap, Evaluation, evaluate
from expraug.evaluate.agreement import measure_agreement, real_faces
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.gan_train import measure_gan_train
from expraug.evaluate.identity import different_pairs, same_pairs
from expraug.evaluate.road import reach
from expraug.evaluate.synthesis import Maker, other_sources, sources_for
from expraug.expressions import Expression
from expraug.faces.detect import CROP_POINTS

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


class BrightnessJudge:
    """Sees a smile in whatever is bright."""

    name = "brightness"
    expressions = (NEUTRAL, HAPPY)

    def probabilities(self, faces: Tensor) -> Tensor:
        smile = faces.mean((1, 2, 3))
        return torch.stack([1 - smile, smile], dim=1)

    def features(self, faces: Tensor) -> Tensor:
        return faces.mean((2, 3))


class Brighten(torch.nn.Module):
    """Adds light in the middle of the face."""

    image_size = 32
    expressions = (HAPPY,)

    def supports(self, source: Expression | None, target: Expression) -> bool:
        return source is not HAPPY and target is HAPPY

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        return (faces + 0.9 * intensity.view(-1, 1, 1, 1)).clamp(0, 1)


def plain_set(levels: list[float], labels: list[Expression], name: str = "set") -> FaceSet:
    """Uniform faces of different people."""
    faces = torch.tensor(levels).mul(255).byte().view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    people = [f"{name}{i}" for i in range(len(levels))]
    items = [FaceItem(p, "", p, b"") for p in people]
    return FaceSet(name, faces, torch.tensor([int(e) for e in labels]), people, items)


def test_agreement_of_a_known_judge_and_synthesizer() -> None:
    data = plain_set([0.1, 0.2, 0.3, 0.4] + [0.9] * 8 + [0.1] * 2, [NEUTRAL] * 4 + [HAPPY] * 10)
    model = Brighten()
    indices, sources = sources_for(data, model, HAPPY)  # type: ignore[arg-type]
    assert (indices.tolist(), sources) == ([0, 1, 2, 3], "neutral")
    maker = Maker(model)  # type: ignore[arg-type]
    made = maker(data.faces[indices], HAPPY)
    found, _ = measure_agreement(
        *(BrightnessJudge(), maker, data, None, HAPPY, indices, sources, made),
        Bootstrap(data.people),
    )
    assert found.real.value == pytest.approx(0.8)
    seen = BrightnessJudge().probabilities(made.float() / 255)[:, 1] > 0.5
    assert found.recall.value == pytest.approx(float(seen.float().mean()))
    assert found.ratio.value == pytest.approx(found.recall.value / 0.8)
    assert found.rises
    assert found.curve[0] == pytest.approx(0.25, abs=0.01)


def test_reference_stands_in_for_rare_classes_only() -> None:
    data = plain_set([0.1] * 12 + [0.9] * 3, [NEUTRAL] * 12 + [HAPPY] * 3)
    reference = plain_set([0.9] * 12, [HAPPY] * 12, "reference")
    assert real_faces(data, reference, HAPPY) is reference
    assert real_faces(data, reference, NEUTRAL) is data
    assert real_faces(data, None, HAPPY) is data


def test_other_sources_leave_out_what_was_used() -> None:
    data = plain_set([0.1, 0.1, 0.2], [NEUTRAL, Expression.SAD, HAPPY])
    indices, shown = other_sources(data, Brighten(), HAPPY)  # type: ignore[arg-type]
    assert (indices.tolist(), shown) == ([1], "sad")


def test_pairs_of_people() -> None:
    people = ["a", "a", "b", "c", "a"]
    assert same_pairs(people) == [(0, 1), (0, 4), (1, 4)]
    pairs = {tuple(pair) for pair in different_pairs(people).tolist()}
    assert pairs == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)}
    assert len(same_pairs(["a"] * 100)) == 20


def test_use_tells_classes_that_differ_and_needs_enough_faces() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = [NEUTRAL, HAPPY] * 60
    data = plain_set([0.5] * 120, labels)
    faces = torch.randint(90, 160, (120, 3, 32, 32), generator=generator)
    faces[1::2, :, 16:] += 60  # a smile, so to speak
    data.faces = faces.byte()
    made = {e: (data.of(e), data.faces[data.of(e)]) for e in (NEUTRAL, HAPPY)}
    found = measure_gan_train(data, None, made, Bootstrap(data.people), steps=60)
    for figure in (found.gan_train, found.gan_test, found.real):
        assert figure.value > 0.95
    few = plain_set([0.5] * 10, [NEUTRAL, HAPPY] * 5)
    made = {e: (few.of(e), few.faces[few.of(e)]) for e in (NEUTRAL, HAPPY)}
    with pytest.raises(TooFewFacesError, match="there are 0"):
        measure_gan_train(few, None, made, Bootstrap(few.people))


def test_reach_covers_the_face_and_no_more() -> None:
    inside = reach((200, 200), (CROP_POINTS * 100 + 50).astype(np.float32), 128)
    assert inside[100, 100]
    assert not inside[:30].any()
    assert not inside[:, 175:].any()


def test_pixel_on_the_bundled_faces(evaluation: Evaluation) -> None:
    assert evaluation.people == 10
    assert evaluation.faces == {"neutral": 10, "happy": 10}
    happy = evaluation.agreement["happy"]
    assert happy.recall.n == 10
    assert happy.rises
    assert happy.curve[-1] > happy.curve[0]
    assert evaluation.untouched is not None
    assert evaluation.untouched.share == 1
    assert evaluation.untouched.pixels > 100_000
    assert evaluation.paired["happy"].psnr_gain.value > 0
    assert evaluation.frechet["happy"].made.value < evaluation.frechet["happy"].sources.value
    assert evaluation.identity is not None
    assert evaluation.identity.verified_all.n == 80
    assert evaluation.identity.different_pairs == 180
    assert evaluation.speed is not None
    assert evaluation.speed.parameters == 262_144
    assert "20 synthetic" in evaluation.skipped["use"]


def test_json_comes_back(evaluation: Evaluation, tmp_path: Path) -> None:
    text = evaluation.to_json(tmp_path / "figures.json")
    assert (tmp_path / "figures.json").read_text(encoding="utf-8") == text
    figures = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert figures == evaluation.to_dict()
    assert figures["agreement"]["happy"]["ratio"]["value"] == pytest.approx(
        evaluation.agreement["happy"].ratio.value
    )
    assert "examples" not in figures


def test_html_stands_alone_and_shows_faces(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="([^"]*)"', page)
    # 10 people with a source and two targets or one, and 5 + 5 extremes of each target
    assert len(pictures) >= 10 + 2 * 2 * 2 * 5
    assert all(p.startswith("data:image/jpeg;base64,") for p in pictures)
    assert "http" not in page
    for line in ("agreement ratio", "happy: best", "happy: worst", "Fréchet"):
        assert line in page


def test_what_cannot_be_done_is_said(faces: Path, smile: str) -> None:
    with pytest.raises(UnsupportedExpressionError, match="cannot make fear"):
        evaluate(smile, faces, targets=[Expression.FEAR])
    with pytest.raises(ValueError, match="split"):
        evaluate("pixel", faces, split="exam")
    with pytest.raises(NoFaceError, match="no face of split"):
        evaluate("pixel", faces, faces=NothingThere())


class NothingThere:
    fingerprint, constant = "nothing", False

    def __call__(self, images: list[np.ndarray]) -> list[None]:
        return [None for _ in images]


def test_command(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRAUG_DLIB_DESCRIPTOR", raising=False)
    arguments = ["evaluate", "--synthesizer", "pixel", "--data", str(faces), "--limit", "3"]
    arguments += ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    arguments += ["--identity", f"dlib:{tmp_path}"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, (result.output, result.exception)
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["faces"] == {"neutral": 3, "happy": 3}
    assert "not the dlib descriptor" in figures["skipped"]["identity"]
    assert figures["synthesizer"] == create_synthesizer("pixel").fingerprint
    assert (tmp_path / "a.html").is_file()
    for word in ("agreement ratio", "SSIM", "untouched", "faces/s", "not measured"):
        assert word in result.stdout
