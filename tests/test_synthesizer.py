import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from expraug import Expression, create_synthesizer, list_synthesizers, register_synthesizer
from expraug.errors import MissingWeightsError, UnsupportedExpressionError
from expraug.synthesizer import CONFIG_FILE, WEIGHTS_FILE, Synthesizer

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(params=list_synthesizers(pretrained=True))
def synthesizer(request):
    model = create_synthesizer(request.param)
    if model.needs_landmarks:
        request.getfixturevalue("landmarker")
    return model


def batch(synthesizer, n=3, times=1):
    size = synthesizer.image_size * times
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(n, 3, size, size, generator=generator)
    target = torch.tensor([int(synthesizer.expressions[i % len(synthesizer.expressions)])
                           for i in range(n)])  # fmt: skip
    return faces, target


@pytest.mark.parametrize("times", [1, 2])
def test_contract(synthesizer, times):
    if times > 1 and not synthesizer.size_agnostic:
        pytest.skip("works at its own size only")
    faces, target = batch(synthesizer, times=times)
    made = synthesizer(faces, target, torch.ones(len(faces)))
    assert made.shape == faces.shape
    assert made.dtype == faces.dtype
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(synthesizer(faces, target, torch.zeros(len(faces))), faces)
    alone = synthesizer(faces[1:2], target[1:2], torch.ones(1))
    assert torch.equal(alone[0], made[1]), "a face must not depend on its batch"
    assert torch.equal(synthesizer(faces[:0], target[:0], torch.ones(0)), faces[:0])


def test_clip_starts_at_the_source(synthesizer):
    faces, target = batch(synthesizer, 2)
    clip = synthesizer.clip(faces, target, frames=4)
    assert clip.shape == (2, 4, *faces.shape[1:])
    assert torch.equal(clip[:, 0], faces)
    assert torch.equal(clip[:, -1], synthesizer(faces, target, torch.ones(2)))


def test_unknown_target_lists_what_there_is(smile):
    pixel = create_synthesizer(smile)
    faces, _ = batch(pixel, 1)
    with pytest.raises(UnsupportedExpressionError, match="cannot make sad; it can make happy"):
        pixel(faces, torch.tensor([int(Expression.SAD)]), torch.ones(1))


def test_save_and_load(synthesizer, tmp_path):
    synthesizer.save_pretrained(tmp_path)
    again = Synthesizer.from_pretrained(tmp_path)
    assert again.fingerprint == synthesizer.fingerprint
    assert create_synthesizer(str(tmp_path)).fingerprint == synthesizer.fingerprint
    assert not any(p.requires_grad for p in again.parameters())


def test_fingerprint_follows_weights_and_config(synthesizer):
    before = synthesizer.fingerprint
    tensor = next(t for t in synthesizer.state_dict().values() if t.is_floating_point())
    tensor.view(-1)[0] += 1
    assert synthesizer.fingerprint != before


def test_damaged_weights_are_refused(tmp_path):
    create_synthesizer("pixel").save_pretrained(tmp_path)
    file = tmp_path / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(MissingWeightsError, match="sha256"):
        Synthesizer.from_pretrained(tmp_path)


def test_missing_weights_say_what_there_is(monkeypatch):
    with pytest.raises(MissingWeightsError, match=r"embedded are .*pixel"):
        create_synthesizer("nothing-here")
    with pytest.raises(MissingWeightsError, match="pinned commit"):
        create_synthesizer("owner/name@main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match="could not fetch"):
        create_synthesizer("owner/name@" + "0" * 40)


def test_hub_download_uses_the_pinned_revision(monkeypatch, tmp_path):
    create_synthesizer("pixel").save_pretrained(tmp_path)
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    made = create_synthesizer("owner/name@" + "a" * 40)
    assert made.fingerprint == create_synthesizer("pixel").fingerprint
    assert asked["repository"] == "owner/name"
    assert asked["revision"] == "a" * 40
    assert asked["allow_patterns"] == [CONFIG_FILE, WEIGHTS_FILE]


def test_registry():
    with pytest.raises(ValueError, match="taken"):

        @register_synthesizer("pixel")
        class Other(Synthesizer):
            pass

    with pytest.raises(TypeError, match="fix the configuration"):
        create_synthesizer("pixel", image_size=64)
    fresh = create_synthesizer("pixel", pretrained=False, sources={"sad": ["neutral"]})
    assert fresh.expressions == (Expression.SAD,)


def test_entry_points_register(tmp_path):
    """A package that names its module in the entry-point group is found."""
    (tmp_path / "plugin.py").write_text(
        "from expraug import Synthesizer, register_synthesizer\n"
        "@register_synthesizer('from-plugin')\nclass Plugin(Synthesizer):\n    pass\n"
    )
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[expraug.synthesizers]\nplugin = plugin\n")
    code = "import expraug; assert 'from-plugin' in expraug.list_synthesizers()"
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})


def test_embedded_weights_have_model_cards():
    for name in list_synthesizers(pretrained=True):
        folder = REPOSITORY / "expraug" / "weights" / name
        card = (folder / "README.md").read_text()
        digest = json.loads((folder / CONFIG_FILE).read_text())["weights_sha256"]
        for word in ("Data", "People left out", "Command", "Licence", digest[:12]):
            assert word in card, f"{name}'s model card has no {word!r}"
        assert (folder / WEIGHTS_FILE).stat().st_size <= 16 * 2**20
