"""The recipe of `decoupled`, run as a user runs it."""

import json
from pathlib import Path

import pytest
import torch
from paired_faces import NUMBERS, call, ends_alike, log, watch_training
from PIL import Image
from safetensors.torch import save_file

from expraug import Expression, create_synthesizer
from expraug.latent.generator import LatentEncoder, StyleGenerator
from expraug.synthesizers.decoupled import DecoupledSynthesizer
from recipes.decoupled.train import Setting, main
from recipes.training.options import load_settings

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_settings_are_read_with_changes_on_top(name: str) -> None:
    file = REPOSITORY / "recipes" / "decoupled" / f"{name}.yaml"
    usual = load_settings(Setting, file, [])
    setting = load_settings(Setting, file, ["identity=8", "options.feedback=0"])
    assert setting.identity == 8 != usual.identity
    assert setting.options.feedback == 0 != usual.options.feedback
    assert (setting.steps, setting.options.lr) == (usual.steps, usual.options.lr)


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    """What `recipes.latent.train_generator` writes."""
    torch.manual_seed(3)
    net, folder = StyleGenerator(32, (16, 16, 8, 8), 8), tmp_path / "generator"
    net.fit_mapping(torch.randn(64, net.layers, 8))
    folder.mkdir()
    nets = {"generator": net, "encoder": LatentEncoder(32, net.layers, 8, (8, 8))}
    state = {f"{n}.{k}": v for n, m in nets.items() for k, v in m.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    shape = {"image_size": 32, "channels": net.channels, "width": 8, "encoder_channels": [8, 8]}
    (folder / "config.json").write_text(json.dumps(shape))
    return folder


def test_the_recipe_stops_goes_on_and_ends_where_an_unbroken_run_does(
    pairs_file: Path,
    classifier_folder: Path,
    generator: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained_on = watch_training(monkeypatch)
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "{size: 32, resnet_width: 4, identity: 16, expression: 4, steps: 4, pairs: 4, unpaired: 2, "
        "singles: 8, report_every: 2, options: {amp: false, identity_every: 2}}\n"
    )

    def run(name: str, *arguments: object) -> str:
        folders = ["--out", tmp_path / name / "weights", "--work", tmp_path / name]
        nets = ["--classifier", classifier_folder, "--generator", generator]
        return call(main, pairs_file, faces, "--config", config, *nets, *folders, *arguments)

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
    assert broken[1]["identity"] == ""  # there was none in the second step
    assert ends_alike(whole[-1], broken[-1])
    assert 0 <= float(whole[-1]["agreement"]) <= 1
    assert float(whole[-1]["cosine"]) > 0.9  # hardly anything has changed yet
    for name in ("step-000001.png", "step-000002.png", "step-000004.png"):
        with Image.open(tmp_path / "broken" / name) as sheet:
            assert sheet.size == (9 * 33 + 1, 2 * 33 + 1)  # two people: source, eight expressions

    ends = [create_synthesizer(str(tmp_path / name / "weights")) for name in ("whole", "broken")]
    assert isinstance(ends[0], DecoupledSynthesizer)
    assert ends[0].expressions == tuple(Expression)
    assert ends[0].fingerprint == ends[1].fingerprint
    # what is kept is the average, in evaluation mode, and it began with the generator
    state = torch.load(tmp_path / "whole" / "state.pt", weights_only=True)
    for name, value in ends[0].net.state_dict().items():
        kept = state["average"][f"net.{name}"]
        assert torch.equal(value, kept.half().float() if kept.is_floating_point() else kept), name
    assert not ends[0].training


def test_training_begins_with_the_generator(
    pairs_file: Path,
    classifier_folder: Path,
    generator: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from recipes.latent.train_generator import read_nets

    watch_training(monkeypatch)
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "{size: 32, resnet_width: 4, identity: 16, expression: 4, steps: 1, pairs: 4, unpaired: 2, "
        "singles: 8, options: {amp: false, lr: 0.0}}\n"
    )
    folders = ["--out", tmp_path / "weights", "--work", tmp_path / "work"]
    nets = ["--classifier", classifier_folder, "--generator", generator]
    call(main, pairs_file, faces, "--config", config, *nets, *folders)
    made = create_synthesizer(str(tmp_path / "weights"))
    assert isinstance(made, DecoupledSynthesizer)
    given = read_nets(generator)[0].state_dict()
    del given["factor"]  # of random draws
    for name, value in given.items():
        assert torch.allclose(made.net.generator.state_dict()[name], value, atol=2e-3), name
