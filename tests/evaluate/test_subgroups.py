"""Figures of single kinds of faces."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from expraug import Expression
from expraug.errors import ExpraugError
from expraug.evaluate import Evaluation, evaluate, subgroups
from expraug.evaluate.subgroups import read_subgroups
from expraug.networks.identity import IdentityEncoder


def test_kinds_of_the_samples(evaluation: Evaluation) -> None:
    groups = evaluation.results["subgroups"].groups
    assert set(groups) == {"colour", "yaw 0° to 10°"}  # people who look into the camera
    colour, recall = (
        groups["colour"],
        next(iter(evaluation.results["classifier_recall"].classifiers.values())).targets,
    )
    identity = evaluation.results["identity"].encoders["dlib-resnet"]
    # of every target the classifier knows, whether or not real faces show it
    assert colour.sources == 20
    assert colour.recall.n == 4 * 10
    assert recall["happy"].synthetic.n == 10
    assert colour.verified.n == 4 * 10
    every = [e.value for e in identity.verified.values()]
    assert colour.verified.value == pytest.approx(np.mean(every))


def test_the_table_tells_them(evaluation: Evaluation) -> None:
    lines = {(line.measure, line.expression): line for line in evaluation.lines()}
    assert lines["images used", ""].value == "1.000"
    groups = evaluation.results["subgroups"].groups
    assert lines["recall, synthetic, subgroup", "colour"].n == str(groups["colour"].sources)


def test_what_is_not_made_is_not_seen(
    plain: Callable, in_context: Callable, brighten: type
) -> None:
    data = plain([0.1] * 3 + [0.9] * 3, [Expression.NEUTRAL] * 6)
    found = subgroups.measure(in_context(data, brighten())).groups
    assert set(found) == {"grey", "at most 64 px"}
    assert found["grey"].recall.value == 0.5
    assert found["grey"].verified.n == 3


def test_named_kinds(faces: Path, encoder: IdentityEncoder, tmp_path: Path) -> None:
    names = sorted(f"neutral/{p.name}" for p in (faces / "neutral").iterdir())
    file = tmp_path / "kinds.csv"
    lines = [f"{name},first" for name in names[:6]] + [f"{name},few" for name in names[6:8]]
    file.write_text("image,subgroup\n" + "\n".join(lines) + "\n")
    found = evaluate("pixel", faces, identity=encoder, subgroups=file, measures=["subgroups"])
    groups = found.results["subgroups"].groups
    assert groups["first"].sources == 6
    assert "few" not in groups  # too few to say anything


@pytest.mark.parametrize("text", [None, "a,b\n1,2\n"])
def test_a_bad_list_is_an_error_that_names_it(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "kinds.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ExpraugError, match=r"kinds\.csv"):
        read_subgroups(file)
