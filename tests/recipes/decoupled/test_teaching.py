"""How `decoupled` learns to imitate an inversion, before anything is drawn."""

from __future__ import annotations

import pytest
import torch

from expraug.faces.composite import hide_background
from expraug.latent.generator import LatentEncoder, StyleGenerator, edit, encode
from expraug.synthesizers.decoupled import DecoupledNet, DecoupledSynthesizer
from recipes.decoupled.trainer import Teaching, energy, teach_latents
from recipes.training.batch import Batch

SIZE, WIDTH, CHANNELS = 32, 12, (16, 16, 16, 8)
CPU = torch.device("cpu")


@pytest.fixture
def net() -> DecoupledNet:
    """Its generator's pictures are stripes, and its flows shift all that is drawn."""
    torch.manual_seed(0)
    made = DecoupledNet(3, SIZE, CHANNELS, WIDTH, 4, identity=16, expression=4, painted=True)
    pictures = made.generator.pictures
    assert pictures is not None
    for side, layers in zip(pictures.sides, pictures.layers, strict=True):
        for layer in layers:
            pictures.get_buffer(f"layer{layer}")[:3] = 0.1 * torch.randn(3, side * side)
    pictures.flow[0, 0] = 0.05
    pictures.flow[1, 1] = 0.05
    return made


def batch() -> Batch:
    """Two pairs and two others, always the same."""
    random = torch.Generator().manual_seed(1)
    source, target, real = (torch.rand(n, 1, SIZE, SIZE, generator=random) for n in (4, 2, 4))
    category = torch.tensor([1, 2, 1, 2])
    known = torch.ones(4, dtype=torch.bool)
    other = torch.tensor([1, 0, 3, 2])
    return Batch(source, category, target, torch.eye(4), other, real, category, known)


@pytest.mark.parametrize("decoupling", [True, False])
def test_the_net_comes_to_find_what_the_encoder_finds(net: DecoupledNet, decoupling: bool) -> None:
    encoder = LatentEncoder(SIZE, 1, WIDTH, (8, 8, 8))
    lines: list[dict[str, float]] = []
    drawing = {k: v.clone() for k, v in net.generator.state_dict().items()}
    teaching = Teaching(steps=200, lr=3e-3, decoupling=decoupling)
    teach_latents(net, encoder, batch, teaching, CPU, lines.append)
    first, last = lines
    names = {"own", "pair", "change", "contrast"} if decoupling else {"own"}
    assert set(first) == {"step"} | names
    assert [line["step"] for line in lines] == [100, 200]
    assert all(last[name] < first[name] for name in names)
    assert last["own"] < 0.5, "of the variance"
    kept = net.generator.state_dict()
    assert all(torch.equal(v, kept[k]) for k, v in drawing.items())


def test_energy_is_what_a_code_changes_in_the_picture(net: DecoupledNet) -> None:
    pictures = net.generator.pictures
    assert pictures is not None
    latents = torch.zeros(1, net.generator.layers, WIDTH)
    latents[0, -2, 1] = 1
    last = len(pictures.sides) - 1
    change = pictures.paint(latents, last) - pictures.paint(0 * latents, last)
    assert float(energy(net.generator)[-2, 1]) == pytest.approx(float(change.square().mean()))
    assert not energy(net.generator)[:-1, 3:].any()


def test_only_a_painted_generator_can_be_imitated() -> None:
    with pytest.raises(ValueError, match="painted"):
        energy(StyleGenerator(SIZE, CHANNELS, WIDTH))


def test_changes_start_from_what_the_generators_own_inversion_reads_off_the_face() -> None:
    torch.manual_seed(0)
    model = DecoupledSynthesizer(
        ["neutral", "happy"], SIZE, CHANNELS, WIDTH, 4, 16, 4, painted=True
    ).eval()
    pictures, shapes = model.net.generator.pictures, model.net.shapes
    assert pictures is not None
    assert shapes is not None
    assert not any(w.requires_grad for w in shapes.parameters())
    pictures.get_buffer("layer6")[:8] = 0.1 * torch.randn(8, SIZE * SIZE)
    grey = torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        latents = model.invert(grey)
        read = model.net.read(grey, latents)
        hidden = hide_background(grey)
        assert torch.equal(read, encode(model.net.generator, shapes, hidden))
    assert read[:, 6, :8].any()
    assert not torch.allclose(read, latents)
    drawing = model.net.generator
    changed, made = (model.change(grey, latents, latents + move) for move in (0, 0.1))
    assert torch.equal(changed, grey)
    assert torch.equal(made, edit(drawing, grey, read, read + (latents + 0.1 - latents)))
