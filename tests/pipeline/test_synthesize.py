"""From located faces to patches."""

import numpy as np
import torch
from PIL import Image

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.synthesizers import FEVGANSynthesizer, TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import bank_of, with_bank

SURPRISE = SynthesisRequest(Expression.SURPRISE)


def enlarged(image, side):
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def one_exemplar():
    """Return a synthesizer that lends everyone the same face's expression, whatever the pose."""
    transfer = create_synthesizer("transfer")
    own = bank_of(transfer)
    first = [int((own.expression == int(e)).nonzero()[0, 0]) for e in transfer.expressions]
    bank = own.take(torch.tensor(first))
    bank.pose.zero_()
    return with_bank(transfer, bank)


def test_a_detailed_face_is_made_at_twice_the_size(neutral_images, monkeypatch):
    image = enlarged(neutral_images[0], 512)
    sizes = []
    synthesize = TransferSynthesizer.synthesize

    def spying(self, faces, *args, **kwargs):
        sizes.append(faces.shape[-1])
        return synthesize(self, faces, *args, **kwargs)

    monkeypatch.setattr(TransferSynthesizer, "synthesize", spying)
    augmenter = ExpressionAugmenter(one_exemplar(), alignment="detect")
    large, small = augmenter([image, enlarged(image, 144)], [SURPRISE, SURPRISE])
    assert sorted(sizes) == [128, 256]
    # the same face, whichever size it was made at
    difference = np.abs(large.image.astype(int) - enlarged(small.image, 512).astype(int))
    assert difference.mean() < 4
    monkeypatch.setattr(TransferSynthesizer, "size_agnostic", False)
    (coarse,) = augmenter([image], [SURPRISE])
    assert sizes[-1] == 128
    assert not np.array_equal(coarse.image, large.image)


def test_pixel_works_at_its_own_size_only(neutral_images):
    image = enlarged(neutral_images[0], 512)
    (made,) = ExpressionAugmenter("pixel", alignment="detect")(
        [image], [SynthesisRequest(Expression.HAPPY)]
    )
    assert made.target is Expression.HAPPY


def test_small_synthesizers_are_given_four_times_the_size(neutral_images, monkeypatch):
    sizes = []
    synthesize = FEVGANSynthesizer.synthesize

    def spying(self, faces, *args, **inputs):
        sizes.append(faces.shape[-1])
        return synthesize(self, faces, *args, **inputs)

    monkeypatch.setattr(FEVGANSynthesizer, "synthesize", spying)
    augmenter = ExpressionAugmenter("fevgan", alignment="detect")
    for side in (1024, 256, 144, 96):
        augmenter([enlarged(neutral_images[0], side)], [SURPRISE])
    assert sizes == [256, 256, 128, 64]
