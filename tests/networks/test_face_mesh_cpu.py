"""The nets laid out for a CPU against the modules that they were made from."""

import numpy as np
import pytest
import torch

from expraug.networks.face_mesh import FaceLandmarkNets, load_face_landmarker
from expraug.networks.face_mesh_cpu import NetsOnCPU


@pytest.fixture(scope="module")
def nets() -> FaceLandmarkNets:
    return load_face_landmarker()


@pytest.fixture(scope="module")
def on_cpu(nets: FaceLandmarkNets) -> NetsOnCPU:
    return NetsOnCPU(nets)


@torch.inference_mode()
def test_they_say_what_the_modules_say(
    nets: FaceLandmarkNets, on_cpu: NetsOnCPU, neutral_images: list[np.ndarray]
) -> None:
    for image in neutral_images[:4]:
        crop = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        points, presence = nets.mesh(crop)
        other, sure = on_cpu.mesh(crop)
        assert other.shape == points.shape
        assert (other - points).abs().max() < 2e-3, "pixels of 256"
        assert sure.shape == presence.shape
        assert (sure - presence).abs().max() < 1e-3
        small = torch.nn.functional.avg_pool2d(crop, 2) * 2 - 1
        for one, two in zip(nets.detector(small), on_cpu.detector(small), strict=True):
            assert one.shape == two.shape
            assert (one - two).abs().max() < 1e-3


def test_inputs_stay_and_so_do_weights(nets: FaceLandmarkNets, on_cpu: NetsOnCPU) -> None:
    crop = torch.rand(1, 3, 256, 256)
    given = crop.clone()
    first = on_cpu.mesh(crop)[0]
    on_cpu.detector(crop[..., ::2, ::2])
    assert torch.equal(crop, given)
    assert torch.equal(on_cpu.mesh(crop)[0], first), "what is added to in place is its own"
    assert not torch.equal(on_cpu.mesh(crop.flip(3))[0], first)
