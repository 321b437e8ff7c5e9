"""The conversion of face-api's file of the dlib descriptor."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from expraug.errors import InvalidWeightsError, MissingWeightsError
from expraug.networks.identity import load_dlib_descriptor
from recipes.identity.convert import convert, stored_tensors

NAME = "face_recognition_model"
MANIFEST = f"{NAME}-weights_manifest.json"


def test_conversion_gives_the_embedded_weights(shared: Path) -> None:
    made = convert(shared / "models" / f"{NAME}.bin")
    embedded = load_dlib_descriptor()
    assert made.state_dict().keys() == embedded.state_dict().keys()
    for name, tensor in embedded.state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor), name
    faces = torch.rand(2, 3, 64, 64)
    assert torch.equal(made(faces), embedded(faces))


def test_every_value_is_the_files(shared: Path) -> None:
    """Read the file once more, in the plainest way."""
    packed = (shared / "models" / f"{NAME}.bin").read_bytes()
    tensors = dict(stored_tensors(load_dlib_descriptor()))
    start = 0
    for entry in json.loads((shared / "models" / MANIFEST).read_text())[0]["weights"]:
        told = entry.get("quantization")
        kind = np.dtype(np.uint8 if told else np.float32)
        count = int(np.prod(entry["shape"]))
        raw = np.frombuffer(packed[start : start + count * kind.itemsize], kind)
        start += count * kind.itemsize
        values = raw.reshape(entry["shape"]).astype(np.float64)
        values = values * told["scale"] + told["min"] if told else values
        values = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values
        found = tensors.pop(entry["name"]).floats().numpy()
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6 * abs(values).max())
    assert not tensors
    assert start == len(packed)


@pytest.mark.parametrize(
    ("manifest", "packed"),
    [
        ("", b""),
        ("{}", b""),
        ('[{"weights": 3}]', b""),
        ('[{"weights": []}]', b""),
        ('[{"weights": [{"name": "fc", "shape": ["wide"]}]}]', b""),
        ('[{"weights": [{"name": "fc", "shape": [256, 128]}]}]', b"short"),
        ('[{"weights": [{"name": "fc", "shape": [1e30]}]}]', b"short"),
        ('[{"weights": [{"name": "fc", "shape": [1]}]}]', bytes(4)),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, manifest: str, packed: bytes) -> None:
    file = tmp_path / f"{NAME}.bin"
    with pytest.raises(MissingWeightsError, match="is not there"):
        convert(file)
    file.write_bytes(packed)
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(InvalidWeightsError, match=str(tmp_path)):
        convert(file)


def test_a_file_of_other_shapes_or_too_long_is_told(shared: Path, tmp_path: Path) -> None:
    packed = (shared / "models" / f"{NAME}.bin").read_bytes()
    whole = json.loads((shared / "models" / MANIFEST).read_text())
    other = copy.deepcopy(whole)
    other[0]["weights"][-1]["shape"] = [128, 256]
    file = tmp_path / f"{NAME}.bin"
    for manifest, content, told in ((other, packed, "fc is"), (whole, packed + b"?", "1 bytes")):
        file.write_bytes(content)
        (tmp_path / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(InvalidWeightsError, match=told):
            convert(file)
