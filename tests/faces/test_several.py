"""Photographs of several people."""

from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image

import expraug
from expraug.cache import SynthesisCache
from expraug.errors import NoFaceError, RejectedError
from expraug.faces import CropDetector, KnownFaceDetector, LandmarkDetector, MTCNNDetector
from expraug.faces.several import apart, lies_in, parts_of
from expraug.pipeline.memo import MemoizedDetector

CENTRES = (128, 496, 328)
"""Where the faces of `group` are, in x, the largest first."""


@pytest.fixture(scope="module")
def group(neutral_images):
    """Three people, the largest on the left, the smallest between the others."""
    picture = np.full((256, 600, 3), 200, np.uint8)
    picture[:, :256] = neutral_images[0]
    picture[60:188, 264:392] = neutral_images[1][::2, ::2]
    picture[40:232, 400:592] = np.array(Image.fromarray(neutral_images[2]).resize((192, 192)))
    return picture


@pytest.fixture(scope="module")
def crowd(neutral_images, happy_images):
    """Twenty small faces in a large photograph, and where they are."""
    page = Image.new("RGB", (1200, 900), (150, 140, 130))
    centres = []
    for k, image in enumerate([*neutral_images, *happy_images]):
        x, y = 90 + k % 8 * 146, 180 + k // 8 * 300
        page.paste(Image.fromarray(image).resize((120, 120)), (x - 60, y - 60))
        centres.append((x, y))
    return np.array(page), np.array(centres)


@pytest.mark.parametrize("detector", [LandmarkDetector(), MTCNNDetector()])
def test_all_faces_the_largest_first(detector, group, neutral_images):
    nothing = np.full((200, 300), 128, np.uint8)
    images = [group, nothing, neutral_images[0]]
    several, none, one = expraug.detect_faces(images, alignment=detector)
    assert [round(face.points[:, 0].mean()) for face in several] == pytest.approx(CENTRES, abs=8)
    assert [face.faces for face in several] == [3, 3, 3]
    assert none == []
    assert len(one) == 1
    for faces, largest in zip((several, none, one), detector(images), strict=True):
        if largest is None:
            assert faces == []
        else:
            assert np.array_equal(faces[0].pack(), largest.pack())


def test_small_faces_of_a_crowd(crowd):
    picture, centres = crowd
    (faces,) = expraug.detect_faces([picture])
    assert len(faces) == len(centres)
    middles = np.array([face.points.mean(0) for face in faces])
    distance = np.linalg.norm(middles[:, None] - centres, axis=2)
    assert sorted(distance.argmin(1)) == list(range(len(centres))), "each is found, and once"
    assert distance.min(1).max() < 20
    (largest,) = LandmarkDetector()([picture])
    assert np.array_equal(largest.pack(), faces[0].pack()), "small, and found all the same"


def test_images_are_a_list_in_any_form(faces, neutral_images):
    path = sorted((faces / "neutral").iterdir())[0]
    forms = [path, str(path), Image.open(path), neutral_images[0]]
    found = expraug.detect_faces(forms)
    assert [len(each) for each in found] == [1] * 4
    assert len({each[0].pack().tobytes() for each in found}) == 1
    for one in (path, str(path), forms[2], neutral_images[0]):
        with pytest.raises(TypeError, match=r"detect_faces\(\[image\]\)"):
            expraug.detect_faces(one)


def test_a_detector_of_one_face_gives_it_as_the_only_one(group):
    ((face,),) = expraug.detect_faces([group], alignment=CropDetector())
    assert np.array_equal(face.points, CropDetector()([group])[0].points)
    assert len(MemoizedDetector(LandmarkDetector()).detect_all([group])[0]) == 3


def changed_columns(before, after):
    """Return the first and last column that differ."""
    columns = (before != after).any(2).any(0).nonzero()[0]
    return columns[0], columns[-1]


def test_a_chosen_face_and_no_other_is_changed(group):
    widths = (128, 96, 64)  # half of each picture in the group
    for number, (centre, half) in enumerate(zip(CENTRES, widths, strict=True)):
        made = expraug.augment(group, "neutral", "happy", alignment="detect", face=number)
        first, last = changed_columns(group, made)
        assert centre - half <= first < centre < last < centre + half


def test_all_faces_are_what_each_is_by_itself(group):
    def smile(image, face):
        return expraug.augment(image, "neutral", "happy", alignment="detect", face=face)

    together = smile(group, "all")
    expected = group.copy()
    for number in range(3):
        alone = smile(group, number)
        expected = np.where(alone != group, alone, expected)
    assert np.array_equal(together, expected)


def test_the_largest_is_changed_by_default_and_that_is_told(group, neutral_images):
    with pytest.warns(UserWarning, match=r"holds 3 faces: the largest is.*others.*face='all'"):
        made = expraug.augment(group, "neutral", "happy", alignment="detect")
    largest = expraug.augment(group, "neutral", "happy", alignment="detect", face=0)
    assert np.array_equal(made, largest)
    augmenter = expraug.ExpressionAugmenter(alignment="detect")
    (outcome,) = augmenter([group], [expraug.SynthesisRequest("happy")])
    assert np.array_equal(made, outcome.image), "the same face and bytes as in bulk work"


def test_faces_that_are_refused_stay_and_are_named(group, monkeypatch):
    synthesizer, calls = expraug.create_synthesizer("transfer"), count()
    make = synthesizer.synthesize

    def all_but_the_second(faces, *args, **more):
        made = make(faces, *args, **more)
        return made.kept(torch.zeros(len(faces), dtype=torch.bool)) if next(calls) == 1 else made

    monkeypatch.setattr(synthesizer, "synthesize", all_but_the_second)
    with pytest.warns(UserWarning, match=r"of 3 faces these were not made happy: 1 \(unchanged\)"):
        made = expraug.augment(
            group, "neutral", "happy", alignment="detect", face="all", synthesizer=synthesizer
        )
    first, last = changed_columns(group, made)
    assert first < CENTRES[0] < CENTRES[2] < last < 400

    def nothing(faces, *args, **more):
        return make(faces, *args, **more).kept(torch.zeros(len(faces), dtype=torch.bool))

    monkeypatch.setattr(synthesizer, "synthesize", nothing)
    with pytest.raises(RejectedError, match="unchanged"):
        expraug.augment(
            group, "neutral", "happy", alignment="detect", face="all", synthesizer=synthesizer
        )


def test_no_such_face(group):
    with pytest.raises(NoFaceError, match="no face 3: the image holds 3"):
        expraug.augment(group, "neutral", "happy", alignment="detect", face=3)
    for wrong in (-1, "both", 1.5, True):
        with pytest.raises(ValueError, match="face must be"):
            expraug.augment(group, "neutral", "happy", alignment="detect", face=wrong)


def test_a_known_face_has_a_fingerprint_and_entries_of_its_own(group, tmp_path):
    (faces,) = expraug.detect_faces([group])
    made = []
    for face in (*faces[:2], faces[0]):
        augmenter = expraug.ExpressionAugmenter(
            alignment=KnownFaceDetector(face), cache=SynthesisCache(tmp_path)
        )
        made += augmenter([group], [expraug.SynthesisRequest("happy")])
    assert [outcome.cached for outcome in made] == [False, False, True]
    assert changed_columns(group, made[1].image)[0] > 400
    assert np.array_equal(made[0].image, made[2].image)


def test_parts_hold_every_small_face_whole():
    parts = parts_of(900, 1201)
    assert (max(p.right for p in parts), max(p.bottom for p in parts)) == (1201, 900)
    rng = np.random.default_rng(0)
    for _ in range(200):
        corner = rng.random(2) * (1201 - 300, 900 - 225)
        mesh = np.stack([corner, corner + np.array([299, 224])])
        assert any(lies_in(mesh, part, 900, 1201) for part in parts if inside(mesh, part))


def inside(mesh, part):
    return (mesh >= part[:2]).all() and (mesh <= part[2:]).all()


def test_meshes_on_a_larger_one_are_the_same_face():
    square = np.array([[0.0, 0], [10, 10]])
    found = apart([square * 0.9, square, square + 8, square * 0.5 + 30])
    assert [mesh.tolist() for mesh in found] == [
        square.tolist(),
        (square + 8).tolist(),
        (square * 0.5 + 30).tolist(),
    ]
    assert apart([square * 1.2], known=[square]) == []
