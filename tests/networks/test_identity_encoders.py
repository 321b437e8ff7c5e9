"""Identity encoders: the embedded dlib descriptor on real faces, FaceNet where it is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.errors import InvalidWeightsError, MissingDependencyError, MissingWeightsError
from expraug.faces import align_image, create_detector
from expraug.networks.identity import (
    DlibDescriptor,
    FacenetEncoder,
    create_identity_encoder,
    identity_encoder_class,
    load_dlib_descriptor,
)
from expraug.pretrained import EMBEDDED


@pytest.fixture(scope="module")
def descriptor() -> DlibDescriptor:
    return load_dlib_descriptor()


def aligned(images: list[np.ndarray]) -> Tensor:
    found = zip(images, create_detector("detect")(images), strict=True)
    return torch.stack([align_image(i, face.points, 128) / 255 for i, face in found if face])


@pytest.fixture(scope="module")
def neutral(neutral_images: list[np.ndarray]) -> Tensor:
    return aligned(neutral_images)


@pytest.fixture(scope="module")
def happy(happy_images: list[np.ndarray]) -> Tensor:
    return aligned(happy_images)


def test_people_are_told_apart(descriptor: DlibDescriptor, neutral: Tensor, happy: Tensor) -> None:
    first, second = descriptor(neutral), descriptor(happy)
    assert first.shape == (10, 128)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(10))
    cosines = first @ second.T
    same, different = cosines.diagonal(), cosines[~torch.eye(10, dtype=torch.bool)]
    assert same.min() > descriptor.threshold
    assert same.min() > different.quantile(0.95)
    assert (different > descriptor.threshold).float().mean() < 0.05


def test_the_same_bytes_in_batches_of_any_size(descriptor: DlibDescriptor, neutral: Tensor) -> None:
    with torch.inference_mode():
        together = descriptor(neutral)
        assert torch.equal(torch.cat([descriptor(face[None]) for face in neutral]), together)
        assert torch.equal(torch.cat([descriptor(part) for part in neutral.split(3)]), together)
        assert descriptor(neutral[:0]).shape == (0, 128)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_sees_what_the_cpu_sees(neutral: Tensor) -> None:
    descriptor = load_dlib_descriptor()
    with torch.inference_mode():
        expected = descriptor(neutral)
        found = descriptor.to("cuda")(neutral.to("cuda"))
    assert found.device.type == "cuda"
    assert (found.cpu() * expected).sum(1).min() > 0.9999


def test_gradients_lead_to_the_other_person(descriptor: DlibDescriptor, neutral: Tensor) -> None:
    with torch.inference_mode():  # what is kept from here must not stand in the way of gradients
        other = descriptor(neutral[1:2])
    other = other.clone()
    face = neutral[:1].clone().requires_grad_()
    before = (descriptor(face) * other).sum()
    before.backward()
    assert face.grad is not None
    moved = face.detach() + 0.02 * face.grad / face.grad.abs().max()
    assert (descriptor(moved) * other).sum() > before
    assert not list(descriptor.parameters())


def test_weights_are_integers_on_disk_and_come_back(
    descriptor: DlibDescriptor, neutral: Tensor, tmp_path: Path
) -> None:
    file = EMBEDDED / "dlib_descriptor" / "model.safetensors"
    stored = load_file(file)
    integers = [t for t in stored.values() if t.dtype == torch.uint8]
    assert sum(t.numel() for t in integers) > 5_000_000
    assert file.stat().st_size < 7_000_000
    descriptor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == file.read_bytes()
    assert torch.equal(load_dlib_descriptor(tmp_path)(neutral[:2]), descriptor(neutral[:2]))


def test_the_model_card_names_these_weights_and_their_threshold() -> None:
    card = (EMBEDDED / "dlib_descriptor" / "README.md").read_text()
    digest = json.loads((EMBEDDED / "dlib_descriptor" / "config.json").read_text())
    assert digest["weights_sha256"][:12] in card
    assert f"{DlibDescriptor.threshold:.3f}" in card
    for words in ("MIT License", "Vincent Mühler", "Vladimir Mandic", "WITHOUT WARRANTY"):
        assert words in card


def test_damaged_weights_are_told(tmp_path: Path, descriptor: DlibDescriptor) -> None:
    with pytest.raises(MissingWeightsError, match=str(tmp_path)):
        load_dlib_descriptor(tmp_path)
    descriptor.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    state["projection.scale"] = torch.tensor(torch.inf)
    save_file(state, file)
    with pytest.raises(InvalidWeightsError, match="sha256"):
        load_dlib_descriptor(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["weights_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidWeightsError, match=r"projection\.scale has values .* not finite"):
        load_dlib_descriptor(tmp_path)


def test_encoders_by_name() -> None:
    assert identity_encoder_class() is identity_encoder_class("dlib") is DlibDescriptor
    assert identity_encoder_class("facenet") is FacenetEncoder
    assert isinstance(create_identity_encoder(), DlibDescriptor)
    for name in ("passport", "", "dlib:folder"):
        with pytest.raises(ValueError, match=r"no identity encoder .* there are dlib, facenet"):
            create_identity_encoder(name)


def test_facenet_without_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facenet = pytest.importorskip("facenet_pytorch.models.inception_resnet_v1")

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(facenet, "download_url_to_file", no_network)
    told = rf"no route to host.*vggface2\.pt.*{tmp_path}.*'dlib'"
    with pytest.raises(MissingWeightsError, match=told):
        create_identity_encoder("facenet")
    with pytest.raises(MissingWeightsError, match=rf"are not in {tmp_path}.*by name"):
        create_identity_encoder("facenet", download=False)


def test_facenet_reads_the_weights_that_lie_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, neutral: Tensor
) -> None:
    facenet = pytest.importorskip("facenet_pytorch.models.inception_resnet_v1")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    untrained = facenet.InceptionResnetV1(classify=True, num_classes=8631)
    torch.save(untrained.state_dict(), folder / "20180402-114759-vggface2.pt")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    encoder = create_identity_encoder("facenet", download=False)
    found = encoder(neutral[:3])
    assert found.shape == (3, 512)
    assert torch.equal(torch.cat([encoder(face[None]) for face in neutral[:3]]), found)


def test_facenet_without_its_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "facenet_pytorch.models", None)
    monkeypatch.setitem(
        __import__("sys").modules, "facenet_pytorch.models.inception_resnet_v1", None
    )
    with pytest.raises(MissingDependencyError, match=r"expraug\[detect\].*'dlib'"):
        create_identity_encoder("facenet")
