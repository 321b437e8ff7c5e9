"""Any generator can take the place of ours: by its name, NVIDIA's by an adapter."""

import sys
from pathlib import Path

import pytest
import torch

from expraug.errors import MissingDependencyError
from expraug.faces.composite import luminance
from expraug.latent.generator import StyleGenerator
from expraug.latent.loading import create_generator
from expraug.latent.stylegan import StyleGANFaces

sys.path.insert(0, str(Path(__file__).parent))
from user_generators import LAYERS, SIZE, WIDTH, Blobs, FakeStyleGAN


def test_ours_by_its_arguments() -> None:
    made = create_generator({"image_size": 16, "channels": [16, 8, 8], "width": 12})
    assert isinstance(made, StyleGenerator)
    assert (made.image_size, made.layers, made.width) == (16, 5, 12)


def test_anybodys_by_name() -> None:
    made = create_generator("user_generators:blobs")
    assert isinstance(made, Blobs)


@pytest.mark.parametrize("name", ["user_generators:none", "no_such_module:f", "user_generators"])
def test_what_is_not_there_is_named(name: str) -> None:
    with pytest.raises(MissingDependencyError, match=f"no generator '{name}'.*on PYTHONPATH"):
        create_generator(name)


def test_what_is_no_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="returned a object without layers, width, image_size"):
        create_generator("user_generators:nothing")


@pytest.mark.parametrize("conditions", [0, 5])
def test_stylegan_faces_are_grey_in_range_and_always_the_same(conditions: int) -> None:
    torch.manual_seed(0)
    network = FakeStyleGAN(conditions)
    faces = StyleGANFaces(network, image_size=32)
    assert (faces.layers, faces.width, faces.image_size) == (LAYERS, WIDTH, 32)
    latents = faces.mapping(torch.randn(2, WIDTH))
    assert latents.shape == (2, LAYERS, WIDTH)
    grey = faces.synthesis(latents)
    colour = network.synthesis(latents, noise_mode="const", force_fp32=True)
    torch.testing.assert_close(grey, luminance((colour + 1) / 2))
    assert torch.equal(grey, faces.synthesis(latents))
    assert grey.dtype == torch.float32
    assert 0 <= grey.min() < grey.max() <= 1


def test_stylegan_faces_have_the_size_that_is_asked_for_and_a_gradient() -> None:
    torch.manual_seed(0)
    large, small = (StyleGANFaces(FakeStyleGAN(), image_size=size) for size in (32, SIZE))
    small.load_state_dict(large.state_dict())
    latents = large.mapping(torch.randn(2, WIDTH)).requires_grad_()
    grey = small.synthesis(latents)
    assert grey.shape == (2, 1, SIZE, SIZE)
    assert abs(float(grey.detach().mean() - large.synthesis(latents).detach().mean())) < 0.01
    grey.square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_a_network_without_nvidias_attributes_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear has no whole number 'num_ws'"):
        StyleGANFaces(torch.nn.Linear(2, 2))
