"""The Face Landmarker's nets against the originals, and their weights."""

import zipfile

import numpy as np
import pytest
import torch

from expraug.networks.face_mesh import SUBSET, load_face_landmarker


@pytest.fixture(scope="module")
def nets():
    return load_face_landmarker()


@pytest.fixture(scope="module")
def original(shared, tmp_path_factory):
    """Run one of the TensorFlow Lite graphs on an input: outputs by name."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    folder = tmp_path_factory.mktemp("graphs")
    with zipfile.ZipFile(shared / "models" / "face_landmarker.task") as file:
        file.extractall(folder)

    def run(name, values):
        graph = litert.Interpreter(str(folder / f"{name}.tflite"))
        graph.allocate_tensors()
        graph.set_tensor(graph.get_input_details()[0]["index"], values)
        graph.invoke()
        return {d["name"]: graph.get_tensor(d["index"]) for d in graph.get_output_details()}

    return run


@torch.inference_mode()
def test_detector(nets, original):
    image = np.random.default_rng(0).random((1, 128, 128, 3), np.float32) * 2 - 1
    expected = original("face_detector", image)
    boxes, logits = nets.detector(torch.from_numpy(image).permute(0, 3, 1, 2))
    assert boxes.numpy() == pytest.approx(expected["regressors"], abs=2e-3)
    assert logits.numpy() == pytest.approx(expected["classificators"][..., 0], abs=2e-3)


@torch.inference_mode()
def test_mesh(nets, original, neutral_images):
    crop = neutral_images[0][None].astype(np.float32) / 255
    expected = original("face_landmarks_detector", crop)
    points, presence = nets.mesh(torch.from_numpy(crop).permute(0, 3, 1, 2))
    assert points[0].numpy() == pytest.approx(expected["Identity"].reshape(478, 3), abs=0.05)
    assert presence.item() == pytest.approx(expected["Identity_1"].item(), abs=0.01)


@torch.inference_mode()
def test_blendshapes(nets, original):
    points = np.random.default_rng(1).random((1, 478, 2), np.float32) * 200
    (expected,) = original("face_blendshapes", points[:, list(SUBSET)]).values()
    assert nets.blendshapes(torch.from_numpy(points))[0].numpy() == pytest.approx(
        expected, abs=1e-4
    )


def test_conversion_gives_the_embedded_weights(nets, shared):
    pytest.importorskip("tflite")
    from recipes.landmarker.convert import convert

    made = convert(shared / "models" / "face_landmarker.task").state_dict()
    for name, tensor in nets.state_dict().items():
        assert torch.equal(made[name], tensor), name


def test_saved_and_loaded(nets, tmp_path):
    nets.save_pretrained(tmp_path)
    again = load_face_landmarker(tmp_path)
    for name, tensor in nets.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
