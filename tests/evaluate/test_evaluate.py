"""`evaluate` as a whole, its report, and the command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from expraug import create_synthesizer
from expraug.cli import app
from expraug.errors import (
    MissingDependencyError,
    MissingWeightsError,
    NoFaceError,
    UnsupportedExpressionError,
)
from expraug.evaluate import Evaluation, evaluate
from expraug.evaluate.classifier_recall import OneClassifier
from expraug.expressions import Expression
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.pretrained import EMBEDDED


def of_image_net(evaluation: Evaluation) -> OneClassifier:
    found: OneClassifier = evaluation.results["classifier_recall"].classifiers[
        load_fer_classifier().name
    ]
    return found


def test_pixel_on_the_bundled_faces(evaluation: Evaluation) -> None:
    assert evaluation.people == 10
    assert evaluation.faces == {"neutral": 10, "happy": 10}
    assert evaluation.size == 128
    assert not evaluation.stopped
    found = evaluation.results
    happy = of_image_net(evaluation).targets["happy"]
    assert happy.synthetic.n == 10
    assert happy.rises
    assert happy.curve[-1] > happy.curve[0]
    assert found["untouched"].share == 1
    assert found["untouched"].pixels > 100_000
    assert found["reconstruction"].targets["happy"].psnr_gain.value > 0
    distance = found["frechet"].targets["happy"]
    assert distance.synthetic.value < distance.sources.value
    assert list(found["identity"].encoders) == ["dlib-resnet"]
    identity = found["identity"].encoders["dlib-resnet"]
    assert identity.verified_all.n == 40
    assert identity.different_pairs == 180
    assert identity.same[0] > identity.different[3], "people differ more than a smile does"
    assert "FaceNet" in evaluation.skipped["identity by facenet"]
    weights = load_file(EMBEDDED / "pixel" / "model.safetensors")
    assert found["throughput"].parameters == sum(part.numel() for part in weights.values())
    assert found["failures"].failed["happy"] == {}
    assert "needs 10 faces to learn from" in evaluation.skipped["gan_train"]
    assert "needs 20 synthetic" in evaluation.skipped["detectability"]
    assert 0 < found["reconstruction"].targets["happy"].landmark_error.value < 0.1
    assert found["ceiling"].targets["happy"].kept.value > 0


def test_json_comes_back(evaluation: Evaluation, tmp_path: Path) -> None:
    text = evaluation.to_json(tmp_path / "figures.json")
    assert (tmp_path / "figures.json").read_text(encoding="utf-8") == text
    figures = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert figures == evaluation.to_dict()
    recall = figures["measures"]["classifier_recall"]["classifiers"][load_fer_classifier().name]
    recall = recall["targets"]["happy"]
    own = of_image_net(evaluation).targets["happy"]
    assert recall["ratio"]["value"] == pytest.approx(own.ratio.value)
    assert "examples" not in figures["measures"]


def test_html_stands_alone_and_shows_faces(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.to_html(tmp_path / "new" / "report.html")
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])
    assert len(data["rows"]) == 40, "ten neutral faces of three targets, ten happy of one"
    pictures = [row[7] for row in data["rows"]] + [source[2] for source in data["sources"]]
    assert len(pictures) == 40 + 20
    assert all(p.startswith("data:image/jpeg;base64,") for p in pictures)
    assert not re.search(r"(src|href)=\W?http", page)
    assert "log odds, landmark_classifier" in data["scores"]
    for line in ("recall ratio, fer_classifier", "<svg", "Fréchet", "<summary>Figures</summary>"):
        assert line in page


def test_the_page_in_a_browser(
    evaluation: Evaluation, opened: Callable[[Path], Any], tmp_path: Path
) -> None:
    evaluation.to_html(tmp_path / "report.html")
    page = opened(tmp_path / "report.html")
    assert page.locator("#above table").count() == 1
    assert page.evaluate("scrollY") == 0, "the figures come first"
    assert page.locator("#export, #import, #decided:visible").count() == 0
    page.select_option("#target", "happy")
    assert page.locator("article").count() == 10
    page.select_option("#figure", label="log odds, landmark_classifier")
    page.select_option("#order", "lowest")
    told = [
        float(re.findall(r"score (-?[\d.]+)", card.inner_text())[0])
        for card in page.locator("article").all()
    ]
    assert told == sorted(told)
    assert told[0] < told[-1]
    page.fill("#least", f"{told[4] + 0.006:.3f}")
    assert page.locator("article").count() == sum(t > told[4] + 0.006 for t in told)
    for picture in page.locator("article img").all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("(i) => i.decode().then(() => i.naturalWidth)") == 112


def test_what_cannot_be_done_is_said(faces: Path, smile: str) -> None:
    with pytest.raises(UnsupportedExpressionError, match="cannot make fear"):
        evaluate(smile, faces, targets=[Expression.FEAR])
    with pytest.raises(ValueError, match="split"):
        evaluate("pixel", faces, split="exam")
    with pytest.raises(ValueError, match="no measure 'beauty'"):
        evaluate("pixel", faces, measures=["beauty"])
    with pytest.raises(ValueError, match="no identity encoder"):
        evaluate("pixel", faces, identity="passport")
    with pytest.raises(NoFaceError, match=r"20 images: no_face\. .*alignment='crop'"):
        evaluate("pixel", faces, alignment=NothingThere())


@pytest.mark.parametrize("error", [MissingDependencyError, MissingWeightsError])
def test_what_a_detector_lacks_is_named_and_not_blamed_on_the_images(
    faces: Path, error: type[Exception]
) -> None:
    with pytest.raises(error, match="pip install"):
        evaluate("pixel", faces, alignment=NothingThere(error("pip install it")))


class NothingThere:
    fingerprint, constant, landmarks = "nothing", False, True

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __call__(self, images: list[np.ndarray]) -> list[None]:
        if self.error:
            raise self.error
        return [None for _ in images]


def test_stopped_in_the_middle_it_returns_what_there_is(faces: Path, tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int) -> None:
        if step.startswith("making neutral, intensity 0.5"):
            raise KeyboardInterrupt

    targets = [Expression.HAPPY, Expression.NEUTRAL]
    names = ["classifier_recall", "frechet", "examples"]
    found = evaluate("pixel", faces, targets=targets, measures=names, progress=stop)
    assert found.stopped
    assert list(of_image_net(found).targets) == ["happy"]
    assert "stopped" in found.skipped["frechet"]
    assert json.loads(found.to_json())["stopped"]
    found.to_html(tmp_path / "partial.html")
    page = (tmp_path / "partial.html").read_text()
    assert "stopped" in page
    # what was made by then
    shown = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])["rows"]
    assert {row[2] for row in shown} == {"happy"}
    assert len(shown) == 10
    assert all(row[7] for row in shown)


def test_command(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    arguments = ["evaluate", "--synthesizer", "pixel", "--data", str(faces), "--limit", "3"]
    arguments += ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, (result.output, result.exception)
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["faces"] == {"neutral": 3, "happy": 3}
    assert list(figures["measures"]["identity"]["encoders"]) == ["dlib-resnet"]
    assert "facenet" in figures["skipped"]["identity by facenet"]
    assert figures["synthesizer"] == create_synthesizer("pixel").fingerprint
    assert (tmp_path / "a.html").is_file()
    for word in ("recall ratio, fer_classifier", "SSIM", "untouched", "images/s", "not measured"):
        assert word in result.stdout
