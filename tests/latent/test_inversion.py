"""Inversion: faces that the generator can draw are found again, each by itself."""

import pytest
import torch
from torch import Tensor

from expraug.latent.generator import LatentEncoder, StyleGenerator
from expraug.latent.inversion import Refining, differences, invert, refine

SIZE, WIDTH = 16, 8


@pytest.fixture(scope="module")
def generator() -> StyleGenerator:
    torch.manual_seed(0)
    made = StyleGenerator(SIZE, [16, 16, 8], WIDTH).eval().requires_grad_(False)
    made.fit_mapping(torch.randn(512, made.layers, WIDTH))
    return made


@pytest.fixture(scope="module")
def encoder(generator: StyleGenerator) -> LatentEncoder:
    torch.manual_seed(1)
    return LatentEncoder(SIZE, generator.layers, WIDTH, (8, 8)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def faces(generator: StyleGenerator) -> Tensor:
    torch.manual_seed(2)
    return generator.synthesis(generator.mapping(torch.randn(3, WIDTH)))


def mean_of(generator: StyleGenerator) -> Tensor:
    return generator.mean.expand(generator.layers, WIDTH)


def test_without_steps_it_is_the_encoder_or_the_mean(
    generator: StyleGenerator, encoder: LatentEncoder, faces: Tensor
) -> None:
    mean = mean_of(generator)
    found = invert(faces, generator.synthesis, mean, encoder)
    assert torch.equal(found, torch.cat([encoder(f[None]) for f in faces]))
    assert torch.equal(invert(faces, generator.synthesis, mean), mean.expand(3, -1, -1))
    assert invert(faces[:0], generator.synthesis, mean, encoder).shape == (0, 5, WIDTH)


def test_steps_bring_the_drawn_face_nearer(generator: StyleGenerator, faces: Tensor) -> None:
    mean, gaps = mean_of(generator), []
    for steps in (0, 30, 200):
        latents = invert(
            faces, generator.synthesis, mean, refining=Refining(steps, rate=0.02, start=0)
        )
        gaps.append(differences(generator.synthesis(latents), faces))
    assert (gaps[1] < gaps[0]).all()
    assert (gaps[2] < 0.35 * gaps[0]).all()


def test_the_pull_holds_codes_where_they_start_or_draws_them_to_the_mean(
    generator: StyleGenerator, faces: Tensor
) -> None:
    start = mean_of(generator) + 0.5 * torch.randn(
        3, 5, WIDTH, generator=torch.Generator().manual_seed(0)
    )

    def gone(to: Tensor, **pull: float) -> float:
        refining = Refining(60, rate=0.05, **({"start": 0.0} | pull))
        latents = refine(generator.synthesis, faces, start, mean_of(generator), refining)
        return float((latents - to).square().mean())

    assert gone(start, start=100) < 0.05 * gone(start)
    assert gone(mean_of(generator), mean=100) < 0.1 * gone(mean_of(generator))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_the_caller_wants_no_gradients_and_repeats_to_the_bit(
    generator: StyleGenerator, encoder: LatentEncoder, faces: Tensor, mode: type
) -> None:
    mean, refining = mean_of(generator), Refining(4)
    expected = invert(faces, generator.synthesis, mean, encoder, refining)
    with mode():
        found = invert(faces.clone(), generator.synthesis, mean, encoder, refining)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not torch.equal(found, invert(faces, generator.synthesis, mean, encoder))


@pytest.mark.parametrize("steps", [0, 3])
def test_a_face_is_inverted_as_if_it_were_alone(
    generator: StyleGenerator, encoder: LatentEncoder, faces: Tensor, steps: int
) -> None:
    def found(some: Tensor) -> Tensor:
        return invert(some, generator.synthesis, mean_of(generator), encoder, Refining(steps))

    together = found(faces)
    for i in range(3):
        assert torch.equal(found(faces[i : i + 1])[0], together[i])


def test_refining_several_faces_at_once_mixes_none(
    generator: StyleGenerator, faces: Tensor
) -> None:
    start, mean = mean_of(generator).expand(3, -1, -1), mean_of(generator)
    together = refine(generator.synthesis, faces, start, mean, Refining(5))
    for i in range(3):
        alone = refine(generator.synthesis, faces[i : i + 1], start[:1], mean, Refining(5))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-2, atol=2e-3)


def test_differences() -> None:
    one, other = torch.full((2, 1, 8, 8), 0.5), torch.full((2, 1, 8, 8), 0.25)
    torch.testing.assert_close(differences(one, other), torch.tensor([0.25, 0.25]))
    edge = other.clone()
    edge[1, :, :, 4:] = 0.75
    assert differences(edge, other, gradient=0)[1] == pytest.approx(0.25)
    assert differences(edge, other)[1] > 0.25
    assert differences(edge, other)[0] == 0
