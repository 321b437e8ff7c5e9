"""What "auto" stands for: the best synthesizer, everywhere, without a network."""

import pickle

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer


def test_auto_is_transfer(neutral_images):
    assert create_synthesizer().name == "transfer"
    augmenter = ExpressionAugmenter()
    assert augmenter.synthesizer.name == "transfer"
    (outcome,) = augmenter(neutral_images[:1], [SynthesisRequest(Expression.HAPPY)])
    assert outcome.target is Expression.HAPPY


def test_workers_take_the_same():
    assert pickle.loads(pickle.dumps(ExpressionAugmenter())).synthesizer.name == "transfer"
