"""The recipes of `unet_cgan`, run as a user runs them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from paired_faces import CoarsePicture, call, ends_alike, log
from PIL import Image

from expraug import Expression, create_synthesizer
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from recipes.pairs.made import Pairs, mirrored
from recipes.strength.instrument import Instrument
from recipes.training.options import load_settings
from recipes.unet_cgan import choose_codes, train
from recipes.unet_cgan.codes import Codes, described
from recipes.unet_cgan.data import CodedPairs, Draw, Singles, within_the_frame
from recipes.unet_cgan.learn import Setting
from recipes.unet_cgan.train import main

REPOSITORY = Path(__file__).parents[3]
NEUTRAL = int(Expression.NEUTRAL)


@pytest.fixture
def coded(pairs_folder: Path) -> CodedPairs:
    """The pairs, of which a third of the people are held out."""
    return CodedPairs(Pairs.load(pairs_folder), 4)


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


def test_codes_tell_alike_expressions_from_others_and_not_what_was_undone() -> None:
    torch.manual_seed(0)
    happy, sad = int(Expression.HAPPY), int(Expression.SAD)
    shown = torch.tensor([NEUTRAL, happy]).repeat(200)
    target = torch.tensor([sad, int(Expression.FEAR)]).repeat_interleave(2).repeat(100)
    way = torch.randn(400)
    plain = torch.outer(way, torch.tensor([3.0, 0, 0, 0, 0]))
    plain[target == sad] += torch.tensor([0.0, 5, 0, 0, 0])
    smile = torch.tensor([0.0, 0, 7, 0, 0])
    from_happy = plain - smile * (shown == happy)[:, None]
    codes = Codes.fitted(from_happy, shown, target, 2)
    found = codes(from_happy, shown)
    # the same movement, and the same with a smile undone, have about the same code
    told = codes(plain, torch.full((400,), NEUTRAL))
    assert (found - told).abs().mean() < 0.25
    assert torch.corrcoef(torch.stack([*found.T, way]))[2, :2].square().sum() > 0.9
    assert found.abs().max() <= 3
    again = Codes.fitted(from_happy, shown, target, 2)
    assert torch.equal(again.components, codes.components)


def test_batches_hold_pairs_of_those_who_are_not_held_out(
    coded: CodedPairs, face_sets: Path, work: Path
) -> None:
    singles = Singles.read(face_sets, work, 12, 0)
    assert len(singles.category) == 12
    pairs = coded.pairs
    draw = Draw(coded, singles, 8, 3, torch.device("cpu"))
    trained = set(np.flatnonzero(coded.trained.numpy()).tolist())
    assert 0 < len(trained) < len(pairs)
    for seed in range(4):
        torch.manual_seed(seed)
        batch = draw()
        assert batch.source.shape == (11, 1, 128, 128)
        assert batch.real.shape == (11, 1, 48, 48)
        assert batch.code.shape == (11, 4)
        assert len(batch.wanted) == 8
        for number in range(8):
            plain = within_the_frame(pairs.maps(np.arange(len(pairs))))
            sides = [plain.flow, plain.flow.flip(3) * torch.tensor([-1.0, 1]).view(2, 1, 1)]
            same = [(s == batch.wanted.flow[number]).flatten(1).all(1).nonzero() for s in sides]
            (row,) = {int(r) for found in same for r in found}
            assert row in trained
            assert batch.category[number] == pairs.target[row]
            other = batch.other[number]
            assert other != number or len({*pairs.person}) == 1
        # of those alone, the code is that of a pair of the same target
        for code, asked in zip(batch.code[8:], batch.category[8:], strict=True):
            rows = coded.target == asked
            assert (coded.code[:, rows] == code).all(2).any()


def test_a_mirrored_face_moves_as_its_mirror_image(coded: CodedPairs) -> None:
    maps = within_the_frame(coded.pairs.maps(np.arange(4)))
    assert maps.flow.shape == (4, 2, 64, 64)
    (sideways, upwards), (turned, same) = (
        part.unflatten(1, (-1, 16, 16))[:, :2].unbind(1)
        for part in (described(maps)[:, :512], described(mirrored(maps))[:, :512])
    )
    assert torch.allclose(turned, -sideways.flip(2), atol=1e-4)
    assert torch.allclose(same, upwards.flip(2), atol=1e-4)


def test_brows_lids_and_lips_count_most(coded: CodedPairs) -> None:
    weight = coded.importance()
    assert weight.mean() == pytest.approx(1, abs=1e-5)
    assert torch.equal(weight, weight.flip(2))
    lips = weight[0, 44:48, 28:36].mean()
    assert lips > 3 * weight[0, :8].mean()


def test_the_recipes_stop_go_on_and_choose_codes(
    face_sets: Path,
    work: Path,
    pairs_folder: Path,
    classifier_folder: Path,
    instrument: Instrument,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "create_identity_encoder", lambda name: CoarsePicture())
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "{size: 128, width: 8, variants: 2, code: 4, steps: 4, pairs: 4, unpaired: 2, singles: 8, "
        "report_every: 2, options: {amp: false, alone: 0.25, identity_every: 2}}\n"
    )

    def run(name: str, *arguments: object) -> str:
        folders = ["--out", tmp_path / name / "weights", "--work", tmp_path / name]
        sources = [face_sets, "--pairs", pairs_folder, "--real-faces", work]
        nets = ["--config", config, "--classifier", classifier_folder]
        return call(main, *sources, *nets, *folders, *arguments)

    assert "8 single faces\nfrom step 0\n" in run("whole")
    for step in range(2):  # so little time that each run takes one step
        out = run("broken", "--minutes", "1e-9")
        assert f"from step {step}\n" in out
        assert "the same command goes on" in out
    assert "from step 2\n" in run("broken")
    whole, broken = (log(tmp_path / name) for name in ("whole", "broken"))
    assert [x["step"] for x in whole] == ["2", "4"]
    assert [x["step"] for x in broken] == ["1", "2", "4"]
    assert broken[0]["l1"] == ""  # maps come first, alone
    assert float(broken[1]["l1"]) > 0
    assert ends_alike(whole[-1], broken[-1])
    assert 0 <= float(whole[-1]["happy"]) <= 1
    assert float(whole[-1]["flow off"]) > 0
    for name in ("step-000001.png", "step-000002.png", "step-000004.png"):
        with Image.open(tmp_path / "broken" / name) as sheet:
            assert sheet.width == 9 * 129 + 1  # the source, eight expressions

    ends = [create_synthesizer(str(tmp_path / name / "weights")) for name in ("whole", "broken")]
    assert ends[0].expressions == tuple(Expression)
    assert ends[0].variants == 2
    assert ends[0].fingerprint == ends[1].fingerprint
    assert "from step 4\n" in run("whole")  # nothing is left to do

    folder = tmp_path / "whole" / "weights"
    monkeypatch.setattr(choose_codes, "Instrument", lambda data, work: instrument)
    choose_codes.main(folder, face_sets, pairs_folder, count=1, out=tmp_path / "chosen")
    chosen = create_synthesizer(str(tmp_path / "chosen"))
    assert isinstance(chosen, UNetCGANSynthesizer)
    coded = CodedPairs(Pairs.load(pairs_folder), 4)
    for number in range(8):
        for code in chosen.codes[number]:
            known = coded.code[0, coded.lent & (coded.target == number)]
            if number == NEUTRAL and len(known):
                known = known.mean(0, keepdim=True)
            assert not len(known) or torch.cdist(code[None], known).min() < 0.01
