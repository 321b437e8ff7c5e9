import numpy as np
import pytest

from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.pose import head_poses
from expraug.networks.face_mesh import load_face_landmarker


def turned(axis, degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.eye(3)
    a, b = [i for i in range(3) if i != axis]
    rotation[[a, b], [a, b]] = cos
    rotation[a, b], rotation[b, a] = (sin, -sin) if axis == 1 else (-sin, sin)
    return rotation


@pytest.mark.parametrize(
    ("axis", "sign", "place"), [(1, 1, 0), (0, 1, 1), (2, 1, 2)], ids=["yaw", "pitch", "roll"]
)
@pytest.mark.parametrize("degrees", [-30, 0, 20])
def test_a_turned_mesh_seen_from_afar(axis, sign, place, degrees):
    nets = load_face_landmarker()
    canonical, weights = nets.canonical.double().numpy(), nets.weights.double().numpy()
    seen = canonical @ turned(axis, degrees).T
    pixels = np.stack([500 + 9 * seen[:, 0], 500 - 9 * seen[:, 1], -9 * seen[:, 2]], 1)
    mesh = np.concatenate([pixels, np.zeros((10, 3))])[None]
    (pose,) = head_poses(mesh, np.array([[1000, 1000]]), canonical, weights)
    expected = np.zeros(3)
    expected[place] = sign * degrees
    assert pose == pytest.approx(expected, abs=2)


def test_mirrored_and_tilted_faces(neutral_images):
    image = neutral_images[0]
    straight, mirrored = (f.pose for f in LandmarkDetector()([image, image[:, ::-1].copy()]))
    assert mirrored[0] == pytest.approx(-straight[0], abs=3)
    assert mirrored[2] == pytest.approx(-straight[2], abs=3)
