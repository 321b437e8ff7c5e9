"""The recipe of `unet_cgan`, run as a user runs it."""

from pathlib import Path

import pytest
from paired_faces import NUMBERS, call, ends_alike, log, watch_training
from PIL import Image

from expraug import Expression, create_synthesizer
from recipes.training.options import load_settings
from recipes.unet_cgan.train import Setting, main

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_settings_are_read_with_changes_on_top(name: str) -> None:
    file = REPOSITORY / "recipes" / "unet_cgan" / f"{name}.yaml"
    usual = load_settings(Setting, file, [])
    setting = load_settings(
        Setting, file, ["width=8", "options.triplet=0", "options.other_identity=false"]
    )
    assert setting.width == 8 != usual.width
    assert setting.steps == usual.steps
    assert setting.options.triplet == 0 != usual.options.triplet
    assert setting.options.other_identity is False
    assert setting.options.lr == usual.options.lr


def test_the_recipe_stops_goes_on_and_ends_where_an_unbroken_run_does(
    pairs_file: Path,
    classifier_folder: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained_on = watch_training(monkeypatch)
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "{size: 32, width: 8, steps: 4, pairs: 4, unpaired: 2, singles: 8, report_every: 2}\n"
    )

    def run(name: str, *arguments: object) -> str:
        folders = ["--out", tmp_path / name / "weights", "--work", tmp_path / name]
        changes = ["--set", "options.amp=false", "--set", "options.identity_every=2"]
        sources = [pairs_file, faces, "--config", config, "--classifier", classifier_folder]
        return call(main, *sources, *folders, *changes, *arguments)

    assert "27 faces in pairs, 20 single\nfrom step 0\n" in run("whole")
    for step in range(2):  # so little time that each run takes one step
        out = run("broken", "--minutes", "1e-9")
        assert f"from step {step}\n" in out
        assert "the same command goes on" in out
    assert "from step 2\n" in run("broken")

    for seen in trained_on:  # not the first person's other group either
        assert set(seen.person.tolist()) == set(NUMBERS[2:])
    whole, broken = (log(tmp_path / name) for name in ("whole", "broken"))
    assert [x["step"] for x in whole] == ["2", "4"]
    assert [x["step"] for x in broken] == ["1", "2", "4"]
    assert broken[1]["triplet"] == ""  # there was none in the second step
    assert ends_alike(whole[-1], broken[-1])
    assert 0 <= float(whole[-1]["agreement"]) <= 1
    assert float(whole[-1]["cosine"]) > 0.9  # hardly anything has changed yet
    assert float(whole[-1]["l1 to target"]) > 0
    for name in ("step-000001.png", "step-000002.png", "step-000004.png"):
        with Image.open(tmp_path / "broken" / name) as sheet:
            assert sheet.size == (9 * 33 + 1, 2 * 33 + 1)  # two people: source, eight expressions

    ends = [create_synthesizer(str(tmp_path / name / "weights")) for name in ("whole", "broken")]
    assert ends[0].expressions == tuple(Expression)
    assert ends[0].image_size == 32
    assert ends[0].fingerprint == ends[1].fingerprint
    assert "from step 4\n" in run("whole")  # nothing is left to do
    assert len(log(tmp_path / "whole")) == 2
