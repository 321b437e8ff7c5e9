"""Figures of single kinds of faces."""

from pathlib import Path

import numpy as np
import pytest

from expraug.errors import ExpraugError
from expraug.evaluate import Evaluation, evaluate
from expraug.evaluate.subgroups import read_subgroups
from expraug.networks.identity import IdentityEncoder


def test_kinds_of_the_samples(evaluation: Evaluation) -> None:
    assert set(evaluation.subgroups) == {"colour"}  # no yaw without landmarks, none small or grey
    colour, happy = evaluation.subgroups["colour"], evaluation.agreement["happy"]
    neutral = evaluation.agreement["neutral"]
    assert colour.sources == len(happy.seen) + len(neutral.seen)
    assert colour.recall.value == pytest.approx(np.mean(happy.seen + neutral.seen))
    assert evaluation.identity is not None
    assert colour.verified is not None
    assert colour.verified.value == pytest.approx(evaluation.identity.verified_all.value)


def test_the_table_tells_them(evaluation: Evaluation) -> None:
    lines = {(line.measure, line.expression): line for line in evaluation.lines()}
    assert lines["processed", ""].value == "1.000"
    assert lines["seen as the target", "colour"].n == str(evaluation.subgroups["colour"].sources)


def test_named_kinds(faces: Path, encoder: IdentityEncoder, tmp_path: Path) -> None:
    names = sorted(f"neutral/{p.name}" for p in (faces / "neutral").iterdir())
    file = tmp_path / "kinds.csv"
    lines = [f"{name},first" for name in names[:6]] + [f"{name},few" for name in names[6:8]]
    file.write_text("image,subgroup\n" + "\n".join(lines) + "\n")
    found = evaluate("pixel", faces, identity=encoder, subgroups=file)
    assert found.subgroups["first"].sources == 6
    assert "few" not in found.subgroups  # too few to say anything


@pytest.mark.parametrize("text", [None, "a,b\n1,2\n"])
def test_a_bad_list_is_an_error_that_names_it(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "kinds.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ExpraugError, match=r"kinds\.csv"):
        read_subgroups(file)
