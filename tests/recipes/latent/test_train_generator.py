"""The recipe of the generator of faces, run as a user runs it."""

from pathlib import Path

import pytest
import torch
from paired_faces import call, ends_alike, log
from PIL import Image
from safetensors.torch import load_file

from expraug.latent.generator import LatentEncoder, StyleGenerator, encode
from recipes.latent.train_generator import (
    Setting,
    landmarks_of,
    main,
    read_nets,
    real_faces,
)
from recipes.training.options import load_settings

REPOSITORY = Path(__file__).parents[3]
TINY = (
    "{size: 32, channels: [16, 16, 8, 8], width: 8, encoder_channels: [8, 8, 8], steps: 4, "
    "batch: 4, painted: false, report_every: 2, options: {growing: 0.5}}\n"
)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_settings_are_read_with_changes_on_top(name: str) -> None:
    file = REPOSITORY / "recipes" / "latent" / f"{name}.yaml"
    usual = load_settings(Setting, file, [])
    setting = load_settings(Setting, file, ["batch=3", "options.expression=0", "channels=[8, 16]"])
    assert setting.batch == 3 != usual.batch
    assert setting.channels == (8, 16)
    assert setting.options.expression == 0 != usual.options.expression
    assert (setting.steps, setting.options.lr) == (usual.steps, usual.options.lr)
    # the nets that it describes exist
    with torch.device("meta"):
        generator = StyleGenerator(usual.size, usual.channels, usual.width)
        encoder = LatentEncoder(usual.size, generator.layers, usual.width, usual.encoder_channels)
        found = encoder(torch.rand(2, 1, usual.size, usual.size))
    assert found.shape == (2, generator.layers, usual.width)
    with pytest.raises(ValueError, match="no option 'colour'"):
        load_settings(Setting, file, ["colour=1"])


def test_real_faces_are_mixed_the_same_way_each_time(faces: Path, tmp_path: Path) -> None:
    one, two = (real_faces(tmp_path, [str(faces)] * 2, None, 32) for _ in range(2))
    assert (one.shape, one.dtype) == ((40, 1, 32, 32), torch.uint8)
    assert torch.equal(one, two)
    assert one.flatten(1).unique(dim=0).shape[0] == 20
    assert not torch.equal(one[:20], one[20:])


def test_the_recipe_stops_goes_on_and_ends_where_an_unbroken_run_does(
    classifier_folder: Path, faces: Path, tmp_path: Path
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)

    def run(name: str, *arguments: object) -> str:
        folders = ["--out", tmp_path / name / "weights", "--work", tmp_path / name]
        sources = [faces, faces, "--config", config, "--classifier", classifier_folder]
        return call(main, *sources, *folders, "--set", "options.amp=false", *arguments)

    assert "8 faces\nfrom step 0\n" in run("whole")  # of 40, the rest of which are held out
    for step in range(3):  # so little time that each run takes one step
        out = run("broken", "--minutes", "1e-9")
        assert f"from step {step}\n" in out
        assert "the same command goes on" in out
    assert "from step 3\n" in run("broken")

    whole, broken = (log(tmp_path / name) for name in ("whole", "broken"))
    assert [x["step"] for x in whole] == ["2", "4"]
    assert [x["step"] for x in broken] == ["1", "2", "3", "4"]
    assert whole[0]["latent"] == "", "that loss begins at full size"
    assert float(whole[1]["latent"]) > 0
    assert float(whole[1]["expression"]) >= 0
    assert whole[1]["held l1"] == broken[3]["held l1"] != whole[0]["held l1"]
    for name in ("step-000001.png", "step-000004.png"):
        with Image.open(tmp_path / "broken" / name) as sheet:
            assert sheet.size == (16 * 33 + 1, 6 * 33 + 1)  # 2 · 16 faces, drawn again, and draws

    one, two = (
        load_file(tmp_path / n / "weights" / "model.safetensors") for n in ("whole", "broken")
    )
    assert set(one) == set(two)
    assert all(torch.equal(v, two[k]) for k, v in one.items())
    assert "from step 4\n" in run("whole")  # nothing is left to do
    assert ends_alike(log(tmp_path / "whole")[-1], whole[-1])
    assert len(log(tmp_path / "whole")) == 2

    generator, _ = read_nets(tmp_path / "whole" / "weights")
    assert (generator.image_size, generator.channels, generator.width) == (32, (16, 16, 8, 8), 8)
    assert generator.mean.any(), "the mean latent is kept"
    kept = {f"generator.{k}": v for k, v in generator.state_dict().items()}
    assert all(torch.equal(v, one[k]) for k, v in kept.items())
    encoder = LatentEncoder(32, generator.layers, 8, (8, 8, 8))
    encoder.load_state_dict(
        {k.removeprefix("encoder."): v for k, v in one.items() if k.startswith("encoder.")}
    )


def test_too_few_faces_are_told(faces: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    with pytest.raises(ValueError, match=r"20 faces in .*, of which 32 are held out"):
        main([str(faces)], config, tmp_path / "weights", work=tmp_path / "work", device="cpu")


def test_a_painted_generator_begins_with_what_landmarks_say(faces: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY.replace("painted: false", "painted: true, shape_steps: 3"))
    work = tmp_path / "work"
    out = call(main, faces, faces, "--config", config, "--out", tmp_path / "out", "--work", work)
    assert "shapes are off by" in out
    generator, encoder = read_nets(tmp_path / "out")
    assert generator.pictures is not None
    assert generator.pictures.flow.any()
    assert encoder.layers == 1
    points = landmarks_of(work, [str(faces)] * 2, None, 32)
    seen = points.isfinite().all(2).all(1)
    assert seen.float().mean() > 0.5
    assert 0.4 < float(points[seen].mean()) < 0.6
    latents = encode(generator, encoder, torch.rand(2, 1, 32, 32))
    assert latents.shape == (2, generator.layers, 8)
    again = call(main, faces, faces, "--config", config, "--out", tmp_path / "out", "--work", work)
    assert "shapes are off by" not in again  # it goes on from its state
