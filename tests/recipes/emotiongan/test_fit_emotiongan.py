"""The recipe that fits `emotiongan`: directions that leave alone what they should."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from expraug.latent.generator import LatentEncoder, StyleGenerator
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from recipes.emotiongan.fit import CONFIG, Setting, fit, load_generator, named
from recipes.latent.latents import at_side, latents_of_faces
from recipes.pairs.moves import Moves
from recipes.real_faces import Faces, training_faces
from recipes.training.options import load_settings

sys.path.insert(0, str(Path(__file__).parents[2] / "latent"))
SIZE, CPU = 32, torch.device("cpu")
SHOWN = ("neutral", "happy", "sad")
CONFIGURATION = {
    "image_size": SIZE,
    "channels": [16, 16, 8, 8],
    "width": 12,
    "painted": False,
    "encoder_channels": [8, 8, 8],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `recipes.latent.train_generator` writes."""
    torch.manual_seed(0)
    made = StyleGenerator(SIZE, [16, 16, 8, 8], 12)
    nets = {"generator": made, "encoder": LatentEncoder(SIZE, made.layers, 12, (8, 8, 8))}
    out = tmp_path_factory.mktemp("generator")
    state = {f"{n}.{k}": t.contiguous() for n, m in nets.items() for k, t in m.state_dict().items()}
    save_file(state, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(CONFIGURATION))
    return out


@pytest.fixture(scope="module")
def data(face_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return training_faces(face_sets, tmp_path_factory.mktemp("real"), None)


def pairs(model: EmotionGANSynthesizer) -> Moves:
    """Sixty pairs: each expression moves latents its own way, neutral back from a smile."""
    torch.manual_seed(1)
    count, shape = 60, (model.generator.layers, model.generator.width)
    latents = torch.randn(count, *shape)
    target = torch.tensor([1, 2, 0]).repeat(count // 3)
    ways = torch.zeros(3, *shape)
    ways[0, 1, 0], ways[1, 0, 1], ways[2, 2, 2] = -2.0, 2.0, 2.0
    interior = torch.arange(8.0).view(8, 1, 1).expand(8, 6, 12)
    blank = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.uint8)
    shown = torch.where(target == 0, 1, 0)
    wanted = latents + ways[target] + 0.2 * torch.randn(count, *shape)
    order = torch.arange(count)
    return Moves(
        blank, latents, blank, wanted, torch.zeros(count, 478, 2), order, shown, order, target,
        interior,
    )  # fmt: skip


def fitted(folder: Path, data: Faces, embeddings: Tensor | None, **changes: object):  # type: ignore[no-untyped-def]
    setting = Setting(**({"expressions": SHOWN} | changes))  # type: ignore[arg-type]
    model = load_generator(str(folder), setting, CPU)
    torch.manual_seed(0)
    latents = torch.randn(len(data), model.generator.layers, model.generator.width)
    fit(model, data, latents, setting, embeddings, pairs(model))
    return model


def test_directions_are_those_of_pairs_and_keep_identity(folder: Path, data: Faces) -> None:
    torch.manual_seed(2)
    embeddings = torch.randn(len(named(data)), 5)
    model = fitted(folder, data, None, pose=False, light=False)
    gain = (model.directions * model.logits).sum((1, 2))
    torch.testing.assert_close(gain, torch.ones(3), atol=1e-3, rtol=0)
    usual = model.steps[:, None, None] * model.directions
    for row, (layer, number) in enumerate(((1, 0), (0, 1), (2, 2))):
        place = int(usual[row].abs().argmax())
        assert place == layer * model.generator.width + number
    assert usual[0, 1, 0] < -1 < 1 < usual[1, 0, 1]
    assert torch.equal(model.interiors[:, 0, 0], torch.tensor([0.0, 1.0, 2.0]))
    kept = fitted(folder, data, embeddings, identity=2)
    gain = (kept.directions * kept.logits).sum((1, 2))
    torch.testing.assert_close(gain, torch.ones(3), atol=1e-3, rtol=0)
    assert not torch.allclose(kept.directions, model.directions)


def test_labels_will_do_instead_of_pairs(folder: Path, data: Faces) -> None:
    data.votes[:, 2] = 0
    data.votes[::3] = 0
    data.votes[::3, 2] = 1
    model = fitted(folder, data, None, model="labels")
    assert not model.binomial
    assert model.directions.abs().sum() > 0
    lacking = Setting(expressions=("fear",))
    other = load_generator(str(folder), lacking, CPU)
    latents = torch.randn(len(data), other.generator.layers, other.generator.width)
    matched = pairs(other)
    with pytest.raises(SystemExit, match="no pairs of fear"):
        fit(other, data, latents, lacking, None, matched)


def test_latents_of_real_faces_are_kept(folder: Path, data: Faces, tmp_path: Path) -> None:
    model = load_generator(str(folder), Setting(expressions=SHOWN), CPU)
    assert model.encoder is not None
    found = latents_of_faces(model.generator, data, tmp_path, model.invert)
    grey = at_side(data, SIZE).float() / 255
    torch.testing.assert_close(found, model.invert(grey))
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    assert torch.equal(latents_of_faces(model.generator, data, tmp_path, model.invert), found)
    assert file.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="give an inversion"):
        latents_of_faces(model.generator, data, tmp_path / "other")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGURATION))
    save_file({"generator.first": torch.zeros(1, 16, 4, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(SystemExit, match="do not fit its config"):
        load_generator(str(tmp_path), Setting(), CPU)
    with pytest.raises(SystemExit, match="'labels' or 'pairs', not 'faces'"):
        load_generator(str(tmp_path), Setting(model="faces"), CPU)


def test_another_generator_by_its_name() -> None:
    model = load_generator("user_generators:blobs", Setting(refining_steps=2), CPU)
    assert model.image_size == 24
    assert model.encoder is None
    assert model.refining.steps == 2
    assert model.mean.abs().sum() > 0


def test_settings_are_read() -> None:
    setting = load_settings(Setting, CONFIG, ["limits.exaggerated=0.1", "identity=2"])
    assert (setting.limits.exaggerated, setting.identity) == (0.1, 2)
    assert setting.limits.brightest == 1.5
    assert "contempt" in setting.expressions
