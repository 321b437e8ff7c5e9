"""What a lent card is given to train, tried on a CPU."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from paired_faces import log

from expraug import create_synthesizer
from expraug.networks.mouth_painter import load_mouth_painter
from recipes.gpu import systems
from recipes.gpu.mouths import pack_mouths, packed_mouths, unpack_mouths
from recipes.mouth_painter import learn as mouth_painter
from recipes.pairs.made import Pairs


def named(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_each_is_trained_in_the_time_it_has(
    name: str, pack: Path, pairs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "LAST_REPORT", 0.0)
    unpacked, out = tmp_path / "unpacked", tmp_path / "out"
    systems.unpack(pack / "systems", unpacked)
    assert len(Pairs.load(unpacked)) == len(Pairs.load(pairs_folder))
    systems.train(name, pack / "systems", unpacked, out, 0.01, time.monotonic(), "cpu", tiny=True)
    assert {f.name for f in (out / name).iterdir()} >= {*systems.WEIGHTS, "log.csv"}
    (line,) = log(out / name)
    assert int(line["step"]) >= 1
    assert float(line["l1" if name == "mouth_painter" else "shortfall"]) > 0
    if name == "mouth_painter":
        ours, theirs = named(load_mouth_painter(out / name)), named(load_mouth_painter())
    else:
        made, known = (create_synthesizer(w) for w in (str(out / name), name))
        assert made.expressions == known.expressions
        assert made.fingerprint != known.fingerprint
        ours, theirs = named(made), named(known)
    # it goes on from what is known: a step or two change little
    assert set(ours) == set(theirs)
    assert all(torch.allclose(value, theirs[key], atol=0.05) for key, value in ours.items())
    assert any(not torch.equal(value, theirs[key]) for key, value in ours.items())


def test_few_pairs_for_a_try(pack: Path, tmp_path: Path) -> None:
    systems.unpack(pack / "systems", tmp_path / "few", limit=5)
    few = Pairs.load(tmp_path / "few")
    assert len(few) == len(few.flow) == len(few.lips) == 5
    assert few.faces(few.source * 0).shape[1:] == (1, 128, 128)


def test_mouths_come_as_they_were_sent(pack: Path, smiling_sets: Path, tmp_path: Path) -> None:
    every = unpack_mouths(packed_mouths(smiling_sets, tmp_path, 10_000))
    few = unpack_mouths(packed_mouths(smiling_sets, tmp_path, 7))
    train = mouth_painter.taught(few)
    assert len(train) == 7 < len(mouth_painter.taught(every))
    assert len(few) - 7 == len(mouth_painter.held_out(every)) > 0
    again = unpack_mouths(pack_mouths([every]))
    assert (again.upper - every.upper).abs().max() < 1 / 256
    assert torch.equal(again.person, every.person)
    assert torch.allclose(again.gap, every.gap, atol=0.02)
    off = (again.pixels.float() - every.pixels.float()).abs()
    assert off.mean() < 4, "WebP of WebP"
    with np.load(_unpacked(pack, tmp_path) / systems.MOUTHS) as kept:
        assert len(kept["origin"]) == len(every), "there are less than 30"


def _unpacked(pack: Path, folder: Path) -> Path:
    systems.unpack(pack / "systems", folder / "unpacked", 5)
    return folder / "unpacked"


def test_what_is_trained_can_be_chosen(smiling_sets: Path, pack: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    systems.pack(smiling_sets, out=tmp_path / "pack", real_work=real, train=["mouth_painter"])
    assert {f.name for f in (tmp_path / "pack").iterdir()} == {systems.PACK, systems.SETTINGS}
    with pytest.raises(typer.BadParameter, match="need --pairs"):
        systems.pack(smiling_sets, out=tmp_path / "pack", real_work=real, train=["fevgan"])
    with pytest.raises(typer.BadParameter, match=r"no fevgan here; there is mouth_painter"):
        systems.run(tmp_path / "pack", tmp_path, train=["fevgan"], device="cpu")


def test_an_archive_is_written_after_each_report(tmp_path: Path) -> None:
    made, out = tmp_path / "made" / "fevgan", tmp_path / "out"
    made.mkdir(parents=True)
    for name in (*systems.WEIGHTS, "step-000002.png", "step-000010.png", "state.pt"):
        (made / name).write_text("first")
    systems.keep(made.parent, out)
    assert not list(out.iterdir()), "nothing is reported yet"
    for text in ("one line", "another line"):
        (made / "log.csv").write_text(text)
        systems.keep(made.parent, out)
        with zipfile.ZipFile(out / "fevgan.zip") as kept:
            assert set(kept.namelist()) == {*systems.WEIGHTS, "log.csv", "step-000010.png"}
            assert kept.read("log.csv").decode() == text
        time.sleep(0.02)
