"""Labels in every form that data sets have, and none that cannot be right."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import ImageFolder

from expraug import Expression, LabelScheme
from expraug.errors import AmbiguousLabelError, LabelError
from expraug.labels import (
    LABEL_KEYS,
    agreed_scheme,
    class_names,
    dataset_scheme,
    join_sample,
    labels_of,
    read_label,
    split_sample,
    write_label,
)

SCHEMES = [
    LabelScheme.named("fer2013"),
    LabelScheme.named("raf-db", first_index=1),
    LabelScheme.from_mapping({"happy": "happy", "bored": None, "blank": "neutral"}),
    LabelScheme.from_classes(["happy", "neutral"]),
]
schemes = st.sampled_from(SCHEMES)


def one_hot(scheme, index):
    return [int(i == index) for i in scheme.classes]


FORMS = {
    "int": lambda scheme, index: index,
    "int64": lambda scheme, index: np.int64(index),
    "uint8": lambda scheme, index: np.uint8(index),
    "array": lambda scheme, index: np.array(index, np.int32),
    "tensor": lambda scheme, index: torch.tensor(index),
    "name": lambda scheme, index: scheme.classes[index],
    "list": one_hot,
    "tuple": lambda scheme, index: tuple(map(float, one_hot(scheme, index))),
    "float array": lambda scheme, index: np.array(one_hot(scheme, index), np.float32),
    "bool tensor": lambda scheme, index: torch.tensor(one_hot(scheme, index)).bool(),
    "bfloat16": lambda scheme, index: torch.tensor(one_hot(scheme, index)).bfloat16(),
    "tensors": lambda scheme, index: list(torch.tensor(one_hot(scheme, index))),
}


@st.composite
def labels(draw):
    """A scheme, a label in some form, what it shows, another expression, and the form."""
    scheme = draw(schemes)
    index = draw(st.sampled_from(sorted(scheme.classes)))
    there = sorted(e for e in scheme.expressions.values() if e is not None)
    form = draw(st.sampled_from(sorted(FORMS)))
    label = FORMS[form](scheme, index)
    return scheme, label, scheme.expressions[index], draw(st.sampled_from(there)), form


@given(labels())
def test_every_form_is_read_and_written_back(case):
    scheme, label, shown, target, form = case
    assert read_label(label, scheme) == shown
    written = write_label(label, scheme, target)
    assert type(written) is type(label)
    assert getattr(written, "dtype", None) == getattr(label, "dtype", None)
    assert getattr(written, "shape", None) == getattr(label, "shape", None)
    assert read_label(written, scheme) == target
    expected = FORMS[form](scheme, scheme.index(target))
    assert np.array_equal(np.asarray(_plain(written)), np.asarray(_plain(expected)))


def _plain(label):
    return label.float() if isinstance(label, torch.Tensor) else label


@given(schemes, st.data())
def test_a_soft_label_counts_as_its_majority(scheme, data):
    shares = data.draw(hnp.arrays(np.float64, len(scheme), elements=st.floats(0.001, 1)))
    shares /= shares.sum()
    assume(abs(shares.max() - 0.5) > 1e-6)  # half, but for rounding
    for form in (shares, torch.from_numpy(shares), shares.tolist()):
        if shares.max() > 0.5:
            index = sorted(scheme.classes)[int(shares.argmax())]
            assert read_label(form, scheme) == scheme.expressions[index]
        else:
            with pytest.raises(AmbiguousLabelError):
                read_label(form, scheme)


numbers = st.one_of(st.integers(-3, 300), st.floats(width=32), st.booleans())
anything = st.one_of(
    numbers,
    st.none(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(numbers, max_size=8),
    st.tuples(numbers, numbers),
    st.dictionaries(st.text(max_size=3), numbers, max_size=2),
    st.tuples(
        hnp.arrays(
            np.int64,
            hnp.array_shapes(min_dims=0, max_dims=2, max_side=7),
            elements=st.integers(0, 1),
        ),
        st.sampled_from([np.float32, np.int64, np.bool_, np.complex64, object, "U3"]),
    ).map(lambda pair: pair[0].astype(pair[1])),
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=7)).map(torch.from_numpy),
)


@given(anything, schemes)
def test_whatever_is_read_was_a_label(label, scheme):
    """No other error than LabelError; and what is read is an index, a name, or sums to one."""
    try:
        shown = read_label(label, scheme)
    except LabelError:
        return
    assert shown in scheme.expressions.values()
    if isinstance(label, str):
        assert label in scheme.classes.values()
    elif isinstance(label, (list, tuple)) or getattr(label, "ndim", 0) == 1:
        assert len(label) == len(scheme)
        assert sum(float(share) for share in label) == pytest.approx(1, abs=0.011)
    else:
        assert not isinstance(label, (bool, float))
        assert int(label) in scheme.classes


@pytest.mark.parametrize(
    "wrong",
    [4.7, 4.0, True, None, [4, 4], [4], [], ["0", "0", "0", "0", "1", "0", "0"], b"happy",
     np.bool_(True), np.float32(4), torch.tensor(4.0), torch.tensor(True), torch.tensor([4]),
     torch.zeros(1, 7), [0, 0, 0, 0, 2, 0, -1], [float("nan")] * 7, 7, -1, "bored",
     [0, 0, [1], 0, 0, 0, 0], np.array([0, 0, 0, 0, 1, 0, 0], complex)],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_right_is_refused(wrong):
    with pytest.raises(LabelError):
        read_label(wrong, SCHEMES[0])


def test_a_list_that_is_one_hot_is_one():
    """It was read as many indices once, and each 4 of it was changed."""
    label = [0, 0, 0, 0, 1, 0, 0]
    assert read_label(label, SCHEMES[0]) is Expression.SAD
    assert write_label(label, SCHEMES[0], Expression.HAPPY) == [0, 0, 0, 1, 0, 0, 0]


def test_an_expression_is_no_class_index():
    fer = SCHEMES[0]
    assert read_label(Expression.HAPPY, fer) is Expression.HAPPY
    assert write_label(Expression.HAPPY, fer, Expression.SAD) is Expression.SAD
    with pytest.raises(LabelError, match="no class for contempt"):
        read_label(Expression.CONTEMPT, fer)


# -- samples

Row = namedtuple("Row", "image label extra")


@pytest.mark.parametrize("key", LABEL_KEYS)
def test_samples_apart_and_together(key):
    for sample in ({"img": 1, key: 2, "extra": 3}, (1, 2, 3), [1, 2, 3], Row(1, 2, 3)):
        assert split_sample(sample) == (1, 2)
        joined = join_sample(sample, 8, 9)
        assert type(joined) is type(sample)
        assert split_sample(joined) == (8, 9)
        assert (list(joined.values()) if isinstance(joined, dict) else list(joined))[-1] == 3


@pytest.mark.parametrize("sample", [1, "face.jpg", (1,), {"image": 1}, {"label": 1}, {}])
def test_what_is_no_sample(sample):
    with pytest.raises(LabelError):
        split_sample(sample)


# -- a data set


def test_the_scheme_is_the_sets_own(faces):
    folder = ImageFolder(str(faces))
    scheme = dataset_scheme(folder)
    assert scheme.classes == {0: "happy", 1: "neutral"}
    joined = ConcatDataset([Subset(folder, [3, 1]), folder])
    assert dataset_scheme(joined) == scheme
    assert labels_of(Subset(folder, [19, 0])) == [1, 0]
    with pytest.raises(LabelError, match=r"at index 0 the scheme has 'neutral' .* 'happy'"):
        dataset_scheme(folder, ["neutral", "happy"])
    with pytest.raises(LabelError, match="at index 0 the scheme has 'angry'"):
        dataset_scheme(folder, "fer2013")


def test_agreed_scheme():
    fer, affect = SCHEMES[0], LabelScheme.named("affectnet-7")
    assert agreed_scheme(fer) is fer
    with pytest.raises(LabelError, match=r"'affectnet-7' contradicts .* at index 0"):
        agreed_scheme(fer, affect)
    other = LabelScheme.from_classes(
        [*list(fer.classes.values())[:4], "surprise", "sad", "neutral"]
    )
    with pytest.raises(LabelError, match="at index 4"):
        agreed_scheme(fer, other)


def test_a_target_transform_moves_the_classes(faces):
    def folder(convert):
        return ImageFolder(str(faces), target_transform=convert)

    assert class_names(folder(lambda index: 1 - index)) == ["neutral", "happy"]
    assert class_names(folder(lambda index: torch.eye(2)[index])) == ["happy", "neutral"]
    assert class_names(folder(lambda index: 0)) is None, "merged classes"
    assert class_names(folder(lambda index: str(index))) is None
    with pytest.raises(LabelError, match="does not tell what its labels mean"):
        dataset_scheme(folder(lambda index: index + 1))


def test_classes_that_do_not_count_from_0_tell_nothing():
    counted_from_1 = SimpleNamespace(class_to_idx={"happy": 1, "neutral": 2})
    assert class_names(counted_from_1) is None


def test_a_target_transform_moves_the_classes_of_a_scheme():
    """The scheme that a published set brings counts as the set itself does, not as its samples."""
    fer = LabelScheme.named("fer2013")

    def numbered(convert):
        return SimpleNamespace(scheme=fer, classes=list(fer.classes.values()),
                               target_transform=convert)  # fmt: skip

    assert dataset_scheme(numbered(None)) is fer
    assert dataset_scheme(numbered(lambda index: fer.classes[index])) == fer
    reversed_ = dataset_scheme(numbered(lambda index: 6 - index), [*fer.classes.values()][::-1])
    assert reversed_.expressions == {6 - i: shown for i, shown in fer.expressions.items()}
    assert list(reversed_.classes) == list(range(7))
    assert dataset_scheme(Subset(numbered(lambda index: index + 1), [0])).classes[7] == "neutral"
    hot = dataset_scheme(numbered(lambda index: torch.eye(7)[6 - index]))
    assert hot == reversed_
    with pytest.raises(LabelError, match="at index 0"):
        dataset_scheme(numbered(lambda index: 6 - index), "fer2013")
    with pytest.raises(LabelError, match="does not tell what its labels mean"):
        dataset_scheme(numbered(lambda index: min(index, 1)))  # merged classes
