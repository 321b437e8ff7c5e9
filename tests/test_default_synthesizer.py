"""What "auto" stands for."""

import pickle
import warnings

import pytest

from expraug import ExpressionAugmenter, create_synthesizer


def test_transfer_where_its_landmarks_can_be_had(landmarker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert create_synthesizer().name == "transfer"
        assert ExpressionAugmenter().synthesizer.name == "transfer"


def test_unet_cgan_otherwise_and_says_what_is_missing():
    for create in (create_synthesizer, lambda: ExpressionAugmenter().synthesizer):
        with pytest.warns(UserWarning, match=r"no-landmarks\.task.*EXPRAUG_LANDMARKER") as told:
            assert create().name == "unet_cgan"
        assert [w.filename for w in told] == [__file__], "one warning, at the caller's line"


def test_workers_take_the_same(landmarker, monkeypatch):
    pickled = pickle.dumps(ExpressionAugmenter())
    monkeypatch.setenv("EXPRAUG_LANDMARKER", "gone.task")
    assert pickle.loads(pickled).synthesizer.name == "transfer"
