"""No tensor stays behind on the CPU: the nets and the compositing on a card that is only pretended.

`FakeTensorMode` follows shapes and devices without a card, and refuses to mix devices; it also
refuses to tell a value, so that nothing waits for a card where nothing should.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from expraug import create_synthesizer, list_synthesizers
from expraug.faces import composite
from expraug.faces.composite import masked, paste_regions
from expraug.networks import mouth_painter
from expraug.networks.face_mesh import load_face_landmarker
from expraug.networks.landmark_classifier import load_landmark_classifier
from expraug.networks.mouth_painter import load_mouth_painter
from expraug.synthesizer import Synthesizer
from expraug.synthesizers import expression_maps, latent_maps
from expraug.synthesizers.transfer import reading

COUNT = 3
_KEPT = (
    composite.face_mask,
    composite.moving_face_mask,
    composite.flow_mask,
    mouth_painter._nearness,
    reading._blurring,
)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything made inside is pretended, the mouth painter's weights too."""
    painter = load_mouth_painter()
    for kept in _KEPT:
        kept.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=False):
        moved(painter)
        monkeypatch.setattr(expression_maps, "mouth_painter", lambda device: painter)
        # the one look at values that every synthesizer takes: whether it knows the targets
        monkeypatch.setattr(Synthesizer, "check_targets", lambda self, target: None)
        yield
    for kept in _KEPT:
        kept.cache_clear()


def moved(model: nn.Module) -> nn.Module:
    """Put a network on the pretended card."""
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = nn.Parameter(there(parameter), requires_grad=False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = there(buffer)
    return model


def there(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


def asked(model: Synthesizer, side: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    faces = torch.empty(COUNT, 3, side, side, device="cuda")
    numbers = torch.empty(COUNT, dtype=torch.long, device="cuda")
    inputs: dict[str, Tensor] = {}
    if model.needs_landmarks:
        sizes = {"landmarks": (478, 2), "blendshapes": (52,), "pose": (3,)}
        inputs = {k: torch.empty(COUNT, *size, device="cuda") for k, size in sizes.items()}
    if model.variants > 1:
        inputs["variant"] = numbers
    return faces, numbers, torch.empty(COUNT, device="cuda"), inputs


def embedded(name: str, monkeypatch: pytest.MonkeyPatch) -> Synthesizer:
    """Return a synthesizer whose landmarks that spread over the face are known already."""
    model = create_synthesizer(name)
    generator: Any = getattr(getattr(model, "net", model), "generator", None)
    if generator is not None and latent_maps.pictures_of(generator) is not None:
        far = latent_maps._spread(generator.pictures).tolist()
        spread = lambda pictures: torch.tensor(far, device=pictures.rest.device)  # noqa: E731
        monkeypatch.setattr(latent_maps, "_spread", spread)
    return model


@pytest.mark.parametrize("name", list_synthesizers(pretrained=True))
def test_synthesizers_stay_where_the_faces_are(
    name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    model = embedded(name, monkeypatch)
    request.getfixturevalue("pretended")
    moved(model)
    for side in (128, 256) if model.size_agnostic else (model.image_size,):
        faces, target, intensity, inputs = asked(model, side)
        made = model.synthesize(faces, target, intensity, **inputs)
        assert made.render(faces).device.type == "cuda"
        assert masked(made).render(faces).device.type == "cuda"
        assert all(which.device.type == "cuda" for which in made.refused.values())
        regions = torch.empty(COUNT, 3, 200, 210, dtype=torch.uint8, device="cuda")
        matrices = np.tile(np.array([[120.0, 3, 20], [-3, 120.0, 25]]), (COUNT, 1, 1))
        inside = torch.empty(COUNT, 2, device="cuda")
        pasted = paste_regions(regions, made, matrices, np.zeros((COUNT, 2)), inside)
        assert (pasted.device.type, pasted.shape) == ("cuda", regions.shape)


def test_nets_of_detector_and_gate(request: pytest.FixtureRequest) -> None:
    nets, classifier = load_face_landmarker(), load_landmark_classifier()
    request.getfixturevalue("pretended")
    for model in (nets, classifier):
        moved(model)
    boxes, logits = nets.detector(torch.empty(COUNT, 3, 128, 128, device="cuda"))
    points, sure = nets.mesh(torch.empty(COUNT, 3, 256, 256, device="cuda"))
    scores = nets.blendshapes(points[..., :2])
    told = classifier.logits(points[..., :2], scores), classifier.reach(points[..., :2], scores)
    assert {t.device.type for t in (boxes, logits, points, sure, scores, *told)} == {"cuda"}


def test_a_tensor_left_behind_is_noticed(pretended: None) -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.empty(3, device="cuda") + torch.empty(3)
