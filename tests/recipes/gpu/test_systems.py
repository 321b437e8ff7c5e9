"""What a lent card is given to train, tried on a CPU."""

import time
from pathlib import Path

import pytest
import torch
from paired_faces import log

from expraug import create_synthesizer
from recipes.fevgan import learn as of_fevgan
from recipes.gpu import systems
from recipes.pairs.made import Pairs
from recipes.unet_cgan import data as of_unet_cgan


@pytest.fixture
def packed(
    face_sets: Path, work: Path, pairs_folder: Path, classifier_folder: Path, tmp_path: Path
) -> Path:
    nets = [classifier_folder, classifier_folder]
    systems.pack(face_sets, pairs_folder, nets, tmp_path / "pack", work, 12)
    return tmp_path / "pack"


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_a_system_is_trained_in_the_time_it_has(
    name: str, packed: Path, pairs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_fevgan, "HELD_OUT", 2)
    monkeypatch.setattr(of_unet_cgan, "HELD_OUT", 3)
    monkeypatch.setattr(systems, "LAST_REPORT", 0.0)
    unpacked, out = tmp_path / "unpacked", tmp_path / "out"
    systems.unpack(packed, unpacked)
    assert len(Pairs.load(unpacked)) == len(Pairs.load(pairs_folder))
    systems.train(name, packed, unpacked, out, 0.01, time.monotonic(), "cpu", tiny=True)
    assert {f.name for f in (out / name).iterdir()} >= {"model.safetensors", "config.json"}
    (line,) = log(out / name)
    assert int(line["step"]) >= 1
    assert float(line["shortfall"]) > 0
    made, known = (create_synthesizer(w) for w in (str(out / name), name))
    assert made.expressions == known.expressions
    assert made.fingerprint != known.fingerprint
    # it goes on from what is known: a step or two change little
    ours, theirs = (dict(model.named_parameters()) for model in (made, known))
    assert set(ours) == set(theirs)
    assert all(torch.allclose(value, theirs[key], atol=0.05) for key, value in ours.items())


def test_few_pairs_for_a_try(packed: Path, tmp_path: Path) -> None:
    systems.unpack(packed, tmp_path / "few", limit=5)
    few = Pairs.load(tmp_path / "few")
    assert len(few) == len(few.flow) == len(few.lips) == 5
    assert few.faces(few.source * 0).shape[1:] == (1, 128, 128)
