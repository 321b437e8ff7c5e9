"""The generator of faces and the encoder of their latents."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from expraug.faces.composite import face_mask, hide_background
from expraug.latent.generator import LatentEncoder, StyleGenerator

CHANNELS, WIDTH = (16, 16, 8, 8), 12
seeds = st.integers(0, 2**31)


@pytest.fixture
def generator() -> StyleGenerator:
    torch.manual_seed(0)
    return StyleGenerator(32, CHANNELS, WIDTH).requires_grad_(False)


def latents(generator: StyleGenerator, count: int = 2, seed: int = 1) -> Tensor:
    """Codes that differ from layer to layer."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator.layers, generator.width, generator=source)


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(1, 3), st.floats(0, 1))
def test_shapes_at_each_size(seed: int, stages: int, count: int, fade: float) -> None:
    torch.manual_seed(seed)
    largest = 4 << (stages - 1)
    made = StyleGenerator(largest, CHANNELS[:stages], WIDTH)
    assert made.layers == 2 * stages - 1
    assert made.sides == [4, 8, 16, 32][:stages]
    found = made.mapping(torch.randn(count, WIDTH))
    assert found.shape == (count, made.layers, WIDTH)
    for side in made.sides:
        faces = made.synthesis(found, side, fade)
        assert (faces.shape, faces.dtype) == ((count, 1, side, side), torch.float32)
    assert torch.equal(made.synthesis(found), made.synthesis(found, largest, 1.0))


def test_a_fresh_generator_draws_faces_near_grey_that_differ(generator: StyleGenerator) -> None:
    faces = generator.synthesis(0.5 * latents(generator, 8))
    assert abs(float(faces.mean()) - 0.5) < 0.2
    assert (faces - 0.5).abs().max() < 1
    assert faces.std(0).mean() > 1e-3


def test_not_faded_in_is_the_smaller_image_enlarged(generator: StyleGenerator) -> None:
    given_latents = latents(generator)
    for small in (4, 8, 16):
        image = generator.synthesis(given_latents, small)
        enlarged = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
        start, half, full = (generator.synthesis(given_latents, 2 * small, f) for f in (0, 0.5, 1))
        assert torch.allclose(start, enlarged, atol=1e-6)
        assert torch.allclose(half, (start + full) / 2, atol=1e-6)
        assert not torch.allclose(full, start, atol=1e-3)


def test_the_code_of_a_layer_changes_what_comes_after_it_alone(generator: StyleGenerator) -> None:
    before = latents(generator)
    for layer in range(generator.layers):
        after = before.clone()
        after[:, layer] = latents(generator, seed=2)[:, layer]
        first = (layer + 1) // 2  # number of the side at which the layer works
        for number, side in enumerate(generator.sides):
            one, two = (generator.synthesis(c, side) for c in (before, after))
            assert torch.equal(one, two) == (number < first), (layer, side)


def test_codes_of_one_face_are_all_its_own(generator: StyleGenerator) -> None:
    several = latents(generator, 3)
    together = generator.synthesis(several)
    alone = torch.cat([generator.synthesis(c[None]) for c in several])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(together, generator.synthesis(several)), "a latent is one face"


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(3, 40))
def test_draws_are_spread_as_the_codes_they_were_fitted_to(seed: int, count: int) -> None:
    torch.manual_seed(seed)
    made = StyleGenerator(8, (8, 8), width=60)
    shape = (count, made.layers, made.width)
    wide = torch.randn(shape) @ torch.randn(60, 60) + torch.randn(shape[1:])
    made.fit_mapping(wide)
    assert torch.allclose(made.mean, wide.mean(0), atol=1e-4)
    assert torch.equal(made.mapping(torch.zeros(1, 60))[0], made.mean)
    flat = (wide - wide.mean(0)).flatten(1)
    expected = flat.T @ flat / (count - 1)
    found = made.factor.T @ made.factor  # the covariance of draws
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))
    kept = {"mean", "factor"}
    assert kept <= set(made.state_dict())


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    net = StyleGenerator(8, (8, 8), width=4).double()
    names, weights = zip(*net.named_parameters(), strict=True)
    given_latents = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, given_latents: Tensor) -> Tensor:
            return self.net.synthesis(given_latents, 8, 0.7)

    whole = Whole()
    assert torch.autograd.gradcheck(
        lambda c, *w: functional_call(
            whole, {f"net.{n}": v for n, v in zip(names, w, strict=True)}, (c,)
        ),
        (given_latents, *weights),
        fast_mode=True,
    )


def test_the_gradient_reaches_every_parameter_and_code() -> None:
    torch.manual_seed(0)
    net = StyleGenerator(32, CHANNELS, WIDTH)
    given_latents = latents(net).requires_grad_()
    (net.synthesis(given_latents) * torch.randn(2, 1, 32, 32)).sum().backward()
    assert given_latents.grad is not None
    assert given_latents.grad.any(2).all()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


@pytest.mark.parametrize(
    ("size", "channels"), [(64, (16, 8)), (8, (12, 8)), (4, ()), (24, (8, 8, 8))]
)
def test_channels_that_do_not_fit_are_refused(size: int, channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="channel counts, all multiples of 8") as error:
        StyleGenerator(size, channels)
    assert str(list(channels)) in str(error.value)


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from([16, 32, 64]), st.integers(1, 7), st.integers(1, 3))
def test_the_encoder_finds_a_code_for_each_layer(
    seed: int, size: int, layers: int, count: int
) -> None:
    torch.manual_seed(seed)
    encoder = LatentEncoder(size, layers, WIDTH, channels=(8, 8, 16, 16))
    faces = torch.rand(count, 1, size, size)
    found = encoder(faces)
    assert (found.shape, found.dtype) == ((count, layers, WIDTH), torch.float32)
    assert found.isfinite().all()
    assert encoder.double()(faces.double()).dtype == torch.float64


def test_gradients_of_the_encoder_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    encoder = LatentEncoder(16, 2, 3, channels=(8, 8)).double()
    faces = torch.rand(2, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*encoder.named_parameters(), strict=True)
    assert torch.autograd.gradcheck(
        lambda x, *w: functional_call(encoder, dict(zip(names, w, strict=True)), (x,)),
        (faces, *weights),
        fast_mode=True,
    )


def test_codes_can_be_found_again(generator: StyleGenerator) -> None:
    torch.manual_seed(0)
    wanted = torch.randn(24, 1, WIDTH).expand(-1, generator.layers, -1)
    faces = generator.synthesis(wanted).clamp(0, 1)
    encoder = LatentEncoder(32, generator.layers, WIDTH, channels=(8, 16, 16))
    optimizer = torch.optim.Adam(encoder.parameters(), 3e-3)
    for _ in range(60):
        loss = F.mse_loss(encoder(faces), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * wanted.var(), "nearer than their mean"


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([16, 32, 48]))
def test_what_the_mask_hides_turns_grey(seed: int, size: int) -> None:
    torch.manual_seed(seed)
    faces, mask = torch.rand(2, 1, size, size), face_mask(size)
    hidden = hide_background(faces)
    assert hidden.shape == faces.shape
    assert (hidden[:, mask == 0] == 0.5).all()
    assert torch.allclose(hidden[:, mask == 1], faces[:, mask == 1], atol=1e-6)
    assert ((hidden - 0.5).abs() <= (faces - 0.5).abs() + 1e-6).all()
    # what lies under the mask alone counts
    other = torch.where(mask > 0, faces, torch.rand_like(faces))
    assert torch.equal(hide_background(other), hidden)
