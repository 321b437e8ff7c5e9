"""How `decoupled` learns to imitate an inversion, before anything is drawn."""

from __future__ import annotations

import pytest
import torch

from expraug.latent.generator import StyleGenerator
from expraug.synthesizers.decoupled import DecoupledNet
from recipes.decoupled.data import Draw, RealFaces
from recipes.decoupled.trainer import Teaching, energy, teach_latents
from recipes.latent.latents import latents_of
from recipes.pairs.moves import Moves

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


def draw(net: DecoupledNet) -> Draw:
    """Four pairs of two people, and six real faces, of which the generator says the latents."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand(14, 1, 6, 6, generator=random)
    faces = (torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear") * 255).byte()
    landmarks = torch.rand(14, 478, 2, generator=random)
    latents = latents_of(net.generator, faces, landmarks)
    source, made, real = faces.split([4, 4, 6])
    of, person = torch.arange(4), torch.tensor([0, 0, 1, 1])
    target = torch.tensor([1, 2, 1, 2])
    moves = Moves(
        source,
        latents[:4],
        made,
        latents[4:8],
        landmarks[:4],
        of,
        torch.zeros(4, dtype=torch.long),
        person,
        target,
        torch.zeros(8, 6, 12),
    )
    others = RealFaces(real, latents[8:], torch.arange(6) % 3, torch.ones(6))
    return Draw(moves, others, torch.eye(4), 3)


def test_batches_are_of_pairs_and_somebody_else(net: DecoupledNet) -> None:
    drawing = draw(net)
    torch.manual_seed(0)
    for _ in range(5):
        batch = drawing()
        faces = drawing.faces()[batch.rows].float() / 255
        assert batch.source.shape == (3, 1, SIZE, SIZE)
        moves, of = drawing.moves, batch.rows[:3]
        assert torch.equal(batch.source_latents, moves.latents[of])
        assert torch.equal(batch.target_latents, moves.wanted[batch.rows[3:6] - 4])
        assert torch.equal(moves.of[batch.rows[3:6] - 4], of)
        assert torch.equal(batch.embedding, torch.eye(4)[of])
        person = moves.person[of]
        assert (person[batch.other] != person).all() or len(person.unique()) == 1
        # lit otherwise, source and target alike, but the same faces
        for seen, kept in zip(torch.cat([batch.source, batch.target]), faces, strict=False):
            both = torch.stack([seen.flatten(), kept.flatten()])
            assert torch.corrcoef(both)[0, 1] > 0.5
    with pytest.raises(ValueError, match="somebody else"):
        Draw(drawing.moves, drawing.real, None, 1)


@pytest.mark.parametrize(("decoupling", "frozen"), [(True, True), (False, True), (True, False)])
def test_the_net_comes_to_find_what_landmarks_and_pictures_say(
    net: DecoupledNet, decoupling: bool, frozen: bool
) -> None:
    lines: list[dict[str, float]] = []
    kept = {k: v.clone() for k, v in net.state_dict().items()}
    teaching = Teaching(steps=200, lr=3e-3, decoupling=decoupling, frozen=frozen)
    torch.manual_seed(0)
    teach_latents(net, draw(net), teaching, CPU, lines.append)
    first, last = lines
    names = {"own", "pair", "change", "contrast"} if decoupling else {"own"}
    names -= {"contrast"} if frozen else set()
    assert set(first) == {"step"} | names
    assert [line["step"] for line in lines] == [100, 200]
    assert all(last[name] < first[name] for name in names)
    now = net.state_dict()
    still = ("generator.", "resnet.", "parts.") if frozen else ("generator.",)
    assert all(torch.equal(v, now[k]) for k, v in kept.items() if k.startswith(still))
    assert frozen or not torch.equal(kept["parts.weight"], now["parts.weight"])


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
