"""The recipe on the bundled faces, and on sequences laid out as CK+ is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expraug.datasets import person_split


@pytest.fixture(scope="module")
def sequences(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people of the test split, fading from neutral to happy in five frames."""
    root = tmp_path_factory.mktemp("ckplus")
    people = [p for p in (f"S{i:03d}" for i in range(999)) if person_split(p) == "test"][:2]
    pairs = zip(*(sorted((faces / name).iterdir()) for name in ("neutral", "happy")), strict=True)
    for person, (first, last) in zip(people, pairs, strict=False):
        start, end = (np.asarray(Image.open(path)).astype(float) for path in (first, last))
        folder = root / "cohn-kanade-images" / person / "001"
        folder.mkdir(parents=True)
        for k, share in enumerate((0, 0.1, 0.5, 0.9, 1)):
            image = (start + share * (end - start)).round().astype(np.uint8)
            Image.fromarray(image).save(folder / f"{person}_001_{k + 1:08d}.png")
        emotion = root / "Emotion" / person / "001"
        emotion.mkdir(parents=True)
        (emotion / f"{person}_001_00000005_emotion.txt").write_text("   5.0000000e+00\n")
    return root


def test_the_recipe(run_recipe, faces: Path, sequences: Path, tmp_path: Path):
    out = tmp_path / "clips.json"
    arguments = ["pixel", "--data", faces, "--identity", "dlib", "--limit", 2]
    arguments += ["--frames", 5, "--sequences", f"ck+:{sequences}", "--json", out]
    printed = run_recipe("fevgan.evaluate_clips", *arguments)
    for words in ("pixel, clip", "pixel, cross-fade", "2 sequences of ck+", "apex recall"):
        assert words in " ".join(printed.split())
    found = json.loads(out.read_text())
    assert found["people"] == 2
    assert found["onset"] == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.02)
    ways = found["ways"]
    assert set(ways) == {"pixel, clip", "pixel, cross-fade"}
    own, faded = (ways[way]["figures"] for way in ways)
    for family in ("fer_classifier", "landmark_classifier"):
        apex = f"apex recall, {family}"
        assert own[apex] == faded[apex], "they end alike"
        assert own[f"apex recall, synthetic/real, {family}"]["happy"]["n"] == 2
        assert f"recall at half of the time, {family}" in own
    assert {"all", "happy"} <= set(own["ACD-I"])


def test_without_sequences_the_output_says_so() -> None:
    from expraug.faces import CropDetector
    from recipes.fevgan.evaluate_clips import real_onset

    curve, told = real_onset(None, CropDetector(), 5)
    assert curve == pytest.approx([0, 0.1464, 0.5, 0.8536, 1], abs=1e-3)
    assert "raised cosine" in told
    with pytest.raises(ValueError, match="no data set"):
        real_onset("nowhere:/tmp", CropDetector(), 5)
