import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from expraug.faces.align import TEMPLATE, align, invert, sample, similarity


@given(st.floats(20, 400), st.floats(-3, 3), st.floats(-50, 300), st.floats(-50, 300))
def test_similarity_recovers_a_known_frame(side, angle, left, top):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = TEMPLATE @ (side * turn).T + [left, top]
    (matrix,) = similarity(points[None] - 0.5)
    assert np.allclose(matrix[:, :2], side * turn, atol=1e-6 * side)
    assert np.allclose(matrix[:, 2], [left, top], atol=1e-6 * (1 + abs(left) + abs(top)))
    inverse = invert(matrix[None])[0]
    assert np.allclose(inverse[:, :2] @ matrix[:, :2], np.eye(2), atol=1e-9)


def test_identity_sampling_returns_the_image():
    image = torch.rand(2, 3, 24, 24)
    whole = torch.tensor([[24.0, 0, 0], [0, 24, 0]]).expand(2, 2, 3)
    assert torch.allclose(sample(image, whole, (24, 24)), image, atol=1e-5)
    halved = torch.nn.functional.avg_pool2d(image, 2)
    assert torch.allclose(sample(image, whole, (12, 12), per_pixel=2), halved, atol=1e-5)


def test_a_face_is_aligned_the_same_whatever_the_batch(neutral_images):
    images = torch.stack([torch.from_numpy(i).permute(2, 0, 1).float() for i in neutral_images])
    matrices = similarity(np.repeat((TEMPLATE * 200 + 20)[None], len(images), axis=0))
    together = align(images, matrices, 128)
    for i in (0, 7):
        alone = align(images[i : i + 1], matrices[i : i + 1], 128)
        assert torch.equal(alone[0], together[i])
