"""The appearance that expressions lack, on the embedded bank and the sample faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
from transfer_faces import neutral_people

from expraug import Expression, create_synthesizer
from expraug.networks.classifiers import create_fer_classifier
from expraug.networks.fer_classifier import FERNet
from expraug.synthesizers import TransferSynthesizer
from recipes.real_faces import Faces
from recipes.transfer import appearance
from recipes.transfer.appearance import compose, learn_shares, with_darker_throats

SAD, HAPPY = int(Expression.SAD), int(Expression.HAPPY)


@pytest.fixture(scope="module")
def model() -> TransferSynthesizer:
    embedded = create_synthesizer("transfer")
    assert isinstance(embedded, TransferSynthesizer)
    return embedded


@pytest.fixture(scope="module")
def sources(neutral_images: list[np.ndarray]) -> Faces:
    return neutral_people(neutral_images[:5])


def test_composed_faces_are_those_that_are_synthesized(
    model: TransferSynthesizer, sources: Faces
) -> None:
    target = torch.full((len(sources),), int(Expression.SURPRISE))
    variant = torch.arange(len(sources))
    made = compose(model, sources, target, variant)
    grey, added = made.render(model, torch.zeros_like(made.skin))
    known = dict(zip(("landmarks", "blendshapes", "pose"), appearance.inputs(sources), strict=True))
    whole = torch.ones(len(sources))
    true = model(sources.tensor(), target, whole, variant=variant, **known)
    small = appearance.resized(appearance.luminance(true), appearance.SIDE)
    assert (grey - small).abs().mean() < 0.006
    assert (grey - small).abs().max() < 0.2
    assert not added.any()


def test_what_makes_faces_look_like_real_ones_is_learned(
    model: TransferSynthesizer, sources: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differences that point from a face to another expression are taken where that is wanted."""
    monkeypatch.setattr(appearance, "STRENGTH", {Expression.SAD: 1.0})
    monkeypatch.setattr(appearance, "BATCH", 8)
    net = create_fer_classifier("image")
    assert isinstance(net, FERNet)
    made = compose(model, sources, torch.full((len(sources),), SAD), torch.arange(len(sources)))
    apart = torch.zeros(8, 8, made.skin.shape[1])
    apart[SAD, HAPPY] = -model.skin_correction[SAD]  # this takes sadness away
    apart[SAD, 0] = model.skin_correction[SAD]
    wanted = torch.eye(8)
    shares = learn_shares(model, made, apart, [net.requires_grad_(False)], [wanted], steps=12)
    assert shares[SAD, 0] > shares[SAD, HAPPY]
    others = [e for e in range(8) if e != SAD]
    assert not shares[others].any(), "what nobody asked for is not learned"


def test_throats_are_darker_and_smiles_keep_their_teeth(model: TransferSynthesizer) -> None:
    before = model.interior.clone()
    paler = model.interior + 0.4
    model.interior.copy_(paler)
    try:
        darker = with_darker_throats(model)
    finally:
        model.interior.copy_(before)
    smiles = model.shows == HAPPY
    wide = model.gaps.mean(1) > 0.3
    assert torch.equal(darker.interior[smiles], paler[smiles])
    assert (darker.interior <= paler + 1e-6).all()
    assert (paler - darker.interior)[wide & ~smiles][:, 2:4, 3:9].mean() > 0.1
