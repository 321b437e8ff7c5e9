import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import expraug
from expraug import Expression, LabelScheme
from expraug.errors import LabelError

PUBLISHED = (
    *("fer2013", "fer+", "raf-db", "affectnet-7", "affectnet-8", "expw", "ck+"),
    *("kdef", "jaffe", "rafd", "oulu-casia", "mug"),
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schemes_map_both_ways(name):
    scheme = LabelScheme.named(name)
    assert len(scheme) in (7, 8)
    for index in scheme.classes:
        expression = scheme.expression(index)
        assert scheme.index(expression) == index
        assert scheme.expression(scheme.class_name(expression)) == expression


def test_published_orders():
    assert str(LabelScheme.named("fer2013").expression(0)) == "angry"
    assert str(LabelScheme.named("fer2013").expression(6)) == "neutral"
    assert LabelScheme.named("affectnet-8").expression(7) is Expression.CONTEMPT
    assert LabelScheme.named("raf-db", first_index=1).expression(7) is Expression.NEUTRAL
    assert LabelScheme.named("FERplus").class_name(Expression.SURPRISE) == "surprise"
    assert LabelScheme.named("FERplus").expression(2) is Expression.SURPRISE
    assert LabelScheme.named("oulu_casia").classes[1] == "Anger"
    assert LabelScheme.named("kdef").expression("AF") is Expression.FEAR
    with pytest.raises(LabelError, match="no label scheme"):
        LabelScheme.named("imagenet")


@given(st.permutations([str(e) for e in Expression]))
def test_class_names_in_any_order(names):
    scheme = LabelScheme.from_classes(names)
    assert [scheme.class_name(scheme.expression(i)) for i in range(8)] == names


def test_a_class_without_expression_is_named():
    with pytest.raises(LabelError, match=r"'bored' \(index 1\) has no expression"):
        LabelScheme.from_classes(["happy", "bored"])
    scheme = LabelScheme.from_mapping({"joy": "happy", "bored": None})
    assert scheme.expression(1) is None
    assert scheme.expression("joy") is Expression.HAPPY
    assert Expression.SAD not in scheme
    with pytest.raises(LabelError, match="no class for sad; it has happy"):
        scheme.index(Expression.SAD)


def test_errors_name_what_there_is():
    with pytest.raises(LabelError, match="label 9 is outside label scheme 'fer2013'"):
        LabelScheme.named("fer2013").expression(9)
    with pytest.raises(LabelError, match="both mean happy"):
        LabelScheme.from_classes(["happy", "joy"])
    for wrong in (8, -1, 4.7, 1.0, True, None, [1], "bored"):
        with pytest.raises(LabelError):
            Expression.parse(wrong)
    assert Expression.parse(np.int64(1)) is Expression.HAPPY


def test_resolve_takes_every_form():
    for form in ("fer2013", ["sad", "happy"], {"x": "sad", "y": None}, LabelScheme.named("ck+")):
        assert isinstance(LabelScheme.resolve(form), LabelScheme)
    assert LabelScheme.resolve({"a": Expression.SAD}).expression("a") is Expression.SAD
    assert LabelScheme.resolve(np.array(["sad", "joy"])).expression(1) is Expression.HAPPY
    for wrong in (7, None, 0.5):
        with pytest.raises(LabelError, match="no label scheme"):
            LabelScheme.resolve(wrong)


@pytest.mark.parametrize("wrong", [4.7, True, None, [4], "4", -1])
def test_what_is_no_class_is_no_label(wrong):
    with pytest.raises(LabelError, match="is outside label scheme"):
        LabelScheme.named("fer2013").expression(wrong)


def test_integers_of_any_library_are_labels():
    torch = pytest.importorskip("torch")
    for label in (4, np.int64(4), np.uint8(4), torch.tensor(4)):
        assert LabelScheme.named("fer2013").expression(label) is Expression.SAD


def test_expressions_need_no_torch():
    code = (  # the package itself imports torch; its module of expressions must not
        "import sys, types\n"
        "sys.modules['torch'] = None\n"
        "package = types.ModuleType('expraug')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "sys.modules['expraug'] = package\n"
        "from expraug.expressions import Expression\n"
    )
    folder = Path(expraug.__file__).parent
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
