import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import InterpolationMode, resize

from expraug.faces import LandmarkDetector, MTCNNDetector, create_detector
from expraug.faces.align import align_image, invert, similarity
from expraug.faces.detect import DetectedFace
from expraug.faces.landmarks import _resized, five_points, read_aligned


def crop(image, size=48):
    """A grey face crop as FER2013 has them."""
    picture = Image.fromarray(image).convert("L").crop((40, 40, 216, 216))
    return np.array(picture.resize((size, size), Image.Resampling.BICUBIC))


def test_landmarks_of_every_sample_face(neutral_images):
    pytest.importorskip("facenet_pytorch")
    for found, other in zip(
        LandmarkDetector()(neutral_images), MTCNNDetector()(neutral_images), strict=True
    ):
        assert found.faces == 1
        assert np.abs(found.points - other.points).max() < 8
        assert np.array_equal(found.points, five_points(found.mesh))
        assert (found.mesh.shape, found.blendshapes.shape, found.pose.shape) == (
            (478, 2),
            (52,),
            (3,),
        )
        assert {a.dtype for a in (found.points, found.mesh, found.blendshapes, found.pose)} == {
            np.dtype(np.float32)
        }
        assert 0 <= found.blendshapes.min() < found.blendshapes.max() <= 1
        assert np.abs(found.pose).max() < 12  # people who look into the camera


def test_smiles_score_as_smiles(neutral_images, happy_images):
    smile = slice(44, 46)  # mouthSmileLeft, mouthSmileRight
    detect = LandmarkDetector()
    neutral, happy = (
        [f.blendshapes[smile].mean() for f in detect(images[:4])]
        for images in (neutral_images, happy_images)
    )
    assert max(neutral) < min(happy)


def test_small_grey_crops(neutral_images):
    crops = [crop(image) for image in neutral_images]
    full = LandmarkDetector()(neutral_images)
    for mode in ("crop", "detect"):
        for small, large in zip(LandmarkDetector(mode)(crops), full, strict=True):
            expected = (large.mesh + 0.5 - 40) * 48 / 176 - 0.5
            assert np.abs(small.mesh - expected).mean() < 0.6


def test_large_photographs_and_the_largest_of_several_faces(neutral_images):
    both = np.full((256, 420, 3), 200, np.uint8)
    both[64:192, :128] = neutral_images[1][::2, ::2]
    both[:, 164:] = neutral_images[0]
    large = np.array(Image.fromarray(both).resize((1680, 1024), Image.Resampling.BICUBIC))
    nothing = np.full((200, 300), 128, np.uint8)
    several, scaled, none = LandmarkDetector()([both, large, nothing])
    (alone,) = LandmarkDetector()(neutral_images[:1])
    assert several.faces == scaled.faces == 2
    assert np.abs(several.points - alone.points - (164, 0)).max() < 4
    assert np.abs(scaled.points / 4 - several.points).max() < 3
    assert none is None


@pytest.mark.parametrize("size", [[100, 90], [300, 401]])
def test_pictures_are_resized_as_torchvision_does(neutral_images, size):
    picture = torch.from_numpy(neutral_images[0]).permute(2, 0, 1)[None]  # channels last
    for given in (picture, picture.contiguous(), picture[:, :1]):
        wanted = resize(given, size, InterpolationMode.BICUBIC, antialias=True)
        assert torch.equal(_resized(given, size), wanted)


def test_same_image_same_landmarks_also_after_pickling(neutral_images):
    detector = LandmarkDetector("crop")
    first = detector(neutral_images[:2])
    again = pickle.loads(pickle.dumps(detector))(neutral_images[1::-1])
    for one, other in zip(first, reversed(again), strict=True):
        assert np.array_equal(one.pack(), other.pack())


def test_pack_and_unpack():
    rng = np.random.default_rng(0)
    full = DetectedFace(
        *(rng.random(s, np.float32) if s else 3 for s in ((5, 2), 0, (478, 2), 52, 3))
    )
    again = DetectedFace.unpack(full.pack(), 3)
    assert full.pack().shape == (511, 2)
    for name in ("points", "mesh", "blendshapes", "pose"):
        assert np.array_equal(getattr(again, name), getattr(full, name))
    five = DetectedFace(full.points, 2)
    assert DetectedFace.unpack(five.pack(), 2).mesh is None


def test_create_detector():
    assert create_detector("crop").mode == "crop"
    assert create_detector("detect").fingerprint.endswith("detect")
    assert create_detector("crop").landmarks, "a tilted crop is aligned by what is seen in it"
    with pytest.raises(ValueError, match="mode"):
        LandmarkDetector("photo")


def test_batches_and_other_images_change_nothing(neutral_images):
    detector = LandmarkDetector()
    alone = [detector([image])[0] for image in neutral_images[:3]]
    nothing = np.full((200, 300), 128, np.uint8)
    together = detector([neutral_images[0], nothing, *neutral_images[1:3]])
    assert together.pop(1) is None
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.pack(), other.pack())


def test_reading_aligned_faces_agrees_with_looking_for_them(neutral_images, happy_images):
    images = [*neutral_images[:3], *happy_images[:3]]
    found = LandmarkDetector()(images)
    aligned = torch.stack(
        [align_image(i, f.points, 256) / 255 for i, f in zip(images, found, strict=True)]
    )
    points, scores, sure = read_aligned(aligned)
    assert (sure > 0.9).all()
    for k, face in enumerate(found):
        inverse = invert(similarity(face.points[None].astype(float)))[0]
        expected = (face.mesh + 0.5) @ inverse[:, :2].T + inverse[:, 2]
        assert np.abs(points[k].numpy() - expected).mean() < 0.01
        assert np.abs(scores[k].numpy() - face.blendshapes).mean() < 0.03
    assert (read_aligned(torch.full((1, 3, 256, 256), 0.5))[2] < 0.3).all()
