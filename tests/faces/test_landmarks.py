import hashlib
import io
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from expraug.errors import MissingDependencyError, MissingWeightsError
from expraug.faces import LandmarkDetector, MTCNNDetector, create_detector
from expraug.faces import landmarks as module
from expraug.faces.detect import DetectedFace
from expraug.faces.landmarks import find_model, five_points, pose_angles


def crop(image, size=48):
    """A grey face crop as FER2013 has them."""
    picture = Image.fromarray(image).convert("L").crop((40, 40, 216, 216))
    return np.array(picture.resize((size, size), Image.Resampling.BICUBIC))


def test_landmarks_of_every_sample_face(neutral_images, landmarker):
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


def test_smiles_score_as_smiles(neutral_images, happy_images, landmarker):
    smile = slice(44, 46)  # mouthSmileLeft, mouthSmileRight
    locate = LandmarkDetector()
    neutral, happy = (
        [f.blendshapes[smile].mean() for f in locate(images[:4])]
        for images in (neutral_images, happy_images)
    )
    assert max(neutral) < min(happy)


def test_small_grey_crops(neutral_images, landmarker):
    crops = [crop(image) for image in neutral_images]
    full = LandmarkDetector()(neutral_images)
    for mode in ("crop", "detect"):
        for small, large in zip(LandmarkDetector(mode)(crops), full, strict=True):
            expected = (large.mesh + 0.5 - 40) * 48 / 176 - 0.5
            assert np.abs(small.mesh - expected).mean() < 0.6


def test_large_photographs_and_the_largest_of_several_faces(neutral_images, landmarker):
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


def test_same_image_same_landmarks_also_after_pickling(neutral_images, landmarker):
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


def test_pose_angles():
    yaw = np.radians(30)
    turned = np.eye(4)
    turned[:3, :3] = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    assert pose_angles(2 * turned) == pytest.approx([30, 0, 0], abs=1e-4)


def test_create_locator():
    assert create_detector("crop", landmarks=True).mode == "crop"
    assert create_detector("detect", landmarks=True).fingerprint.endswith("detect")
    assert not create_detector("crop").landmarks
    with pytest.raises(ValueError, match="mode"):
        LandmarkDetector("photo")


def test_wrong_and_missing_model_files(tmp_path, monkeypatch):
    file = tmp_path / "face_landmarker.task"
    with pytest.raises(MissingWeightsError, match="EXPRAUG_LANDMARKER"):
        find_model(file)
    file.write_bytes(b"damaged")
    with pytest.raises(MissingWeightsError, match="sha256"):
        find_model(file)
    monkeypatch.setenv("EXPRAUG_LANDMARKER", str(file))
    with pytest.raises(MissingWeightsError, match="sha256"):
        find_model()


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("EXPRAUG_LANDMARKER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "expraug"


def test_downloads_once_and_checks(cache_folder, monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(b"model")

    monkeypatch.setattr(module.urllib.request, "urlopen", urlopen)
    with pytest.raises(MissingWeightsError, match="another sha256"):
        find_model()
    assert not cache_folder.exists()
    monkeypatch.setattr(module, "MODEL_SHA256", hashlib.sha256(b"model").hexdigest())
    assert find_model() == find_model() == cache_folder / "face_landmarker.task"
    assert [p.name for p in cache_folder.iterdir()] == ["face_landmarker.task"]
    assert asked == [module.MODEL_URL] * 2


def test_no_network_says_what_to_do(cache_folder, monkeypatch):
    def urlopen(url, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr(module.urllib.request, "urlopen", urlopen)
    with pytest.raises(MissingWeightsError, match=r"no route.*EXPRAUG_LANDMARKER"):
        find_model()


def test_without_mediapipe(neutral_images, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(MissingDependencyError, match=r"expraug\[landmarks\]"):
        LandmarkDetector()(neutral_images[:1])
