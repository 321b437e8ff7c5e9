"""Thin plates pass through what they are given, and are flat where nothing bends them."""

import torch

from expraug.latent.thin_plate import thin_plate

POINTS = torch.rand(2, 12, 2, generator=torch.Generator().manual_seed(0))


def test_it_passes_through_its_points() -> None:
    values = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(1))
    there = torch.stack([thin_plate(POINTS, values, own)[n] for n, own in enumerate(POINTS)])
    torch.testing.assert_close(there, values, atol=1e-4, rtol=0)


def test_a_plane_stays_a_plane_however_stiff() -> None:
    plane = POINTS @ torch.tensor([[1.0, -2.0], [0.5, 3.0]]) + 0.7
    places = torch.rand(20, 2, generator=torch.Generator().manual_seed(2)) * 3 - 1
    wanted = places @ torch.tensor([[1.0, -2.0], [0.5, 3.0]]) + 0.7
    for stiffness in (0.0, 1.0):
        found = thin_plate(POINTS, plane, places, stiffness)
        torch.testing.assert_close(found, wanted.expand(2, -1, -1), atol=1e-4, rtol=0)


def test_a_stiff_one_bends_less() -> None:
    values = torch.randn(1, 12, 1, generator=torch.Generator().manual_seed(3))
    places = POINTS[0]
    missed = [
        float((thin_plate(POINTS[:1], values, places, s)[0] - values[0]).abs().mean())
        for s in (0.0, 1e-2, 1e2)
    ]
    assert missed[0] < 1e-4 < missed[1] < missed[2]


def test_each_is_as_if_it_were_alone() -> None:
    values = torch.randn(2, 12, 2, generator=torch.Generator().manual_seed(4))
    places = torch.rand(50, 2)
    together = thin_plate(POINTS, values, places)
    for n in range(2):
        alone = thin_plate(POINTS[n : n + 1], values[n : n + 1], places)
        assert torch.equal(alone[0], together[n])
