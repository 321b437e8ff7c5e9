"""How the evaluation of latents measures a fitted `emotiongan`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from small_faces import SHOWN, SIZE, CoarsePicture
from typer.testing import CliRunner

from expraug import create_synthesizer
from expraug.evaluate import evaluation
from expraug.faces import CropDetector
from expraug.faces.composite import hide_background
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from recipes.latent import evaluate as evaluate_latent
from recipes.latent.evaluate import never_falls, write_sheet


def test_a_curve_may_fall_by_the_tolerance_and_no_more() -> None:
    curves = np.array([[0.1, 0.1, 0.9], [0.2, 0.09, 0.5], [0.3, 0.3, 0.6]])
    assert never_falls(curves, 0.02).tolist() == [True, True, False]
    assert never_falls(curves, 0.0).tolist() == [True, False, False]


def test_a_sheet_has_a_row_a_face(tmp_path: Path) -> None:
    columns = [torch.full((3, 3, 16, 16), v) for v in (0.0, 1.0)]
    write_sheet(columns, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 97 + 1, 3 * 97 + 1)
        assert sheet.getpixel((50, 250)) == (0, 0, 0)
        assert sheet.getpixel((150, 50)) == (255, 255, 255)


def test_the_evaluation_of_latents(
    fitted: Callable[..., tuple[Path, str]],
    classifier: Path,
    sets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = fitted()
    monkeypatch.setattr(evaluation, "create_identity_encoder", lambda *_, **__: CoarsePicture())
    monkeypatch.setattr(
        evaluate_latent, "pose_of", lambda grey: grey.float().flatten(1)[:, 500:503]
    )
    monkeypatch.setattr(evaluation, "create_detector", lambda *_, **__: CropDetector())
    app = typer.Typer()
    app.command()(evaluate_latent.main)
    out, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    command = [
        folder,
        "--data",
        sets["held"],
        "--classifier",
        classifier,
        "--limit",
        12,
        "--steps",
        3,
    ]
    done = CliRunner().invoke(app, [*map(str, command), "--json", str(out), "--sheet", str(sheet)])
    assert done.exit_code == 0, (done.output, done.exception)
    (result,) = json.loads(out.read_text()).values()
    figures = result["figures"]
    names = {str(e) for e in SHOWN}
    for row in figures["intensity"].values():
        assert set(row) == names
        assert all(0 <= e["low"] <= e["value"] <= e["high"] <= 1 for e in row.values())
    moved = figures["disentanglement"]
    assert set(moved) == {
        *("cosine to the source", "verified", "yaw", "pitch", "roll"),
        *("light, left", "light, right"),
    }
    assert result["spread"]["light, left"] > 0
    whole = figures["reconstruction"]
    assert set(whole["SSIM"]) == {"0 steps", "3 steps"}
    assert whole["SSIM"]["3 steps"]["value"] > whole["SSIM"]["0 steps"]["value"]
    assert whole["Fréchet distance"]["0 steps"]["value"] > 0
    plain = figures["change added, and drawn"]
    assert set(plain) == {
        f"{what}, {how}" for what in ("recognised", "verified") for how in ("added", "drawn")
    }
    for part in ("", "-intensities"):
        with Image.open(tmp_path / f"sheet-emotiongan{part}.png") as picture:
            assert picture.size[0] > 97 * 4
    only = [*map(str, command), "--only-reconstruction", "--json", str(out)]
    done = CliRunner().invoke(app, only)
    assert done.exit_code == 0, (done.output, done.exception)
    (again,) = json.loads(out.read_text()).values()
    assert again["figures"] == {"reconstruction": whole}


def test_what_has_no_latents_is_not_evaluated(smile: str, sets: dict[str, Path]) -> None:
    with pytest.raises(SystemExit, match="no synthesizer with latents"):
        evaluate_latent.main([smile], [sets["held"]])


def test_the_drawn_face_is_the_inversion_and_the_unclamped_change(
    fitted: Callable[..., tuple[Path, str]],
) -> None:
    folder, _ = fitted("--set", "largest=0.01")
    model = create_synthesizer(str(folder))
    assert isinstance(model, EmotionGANSynthesizer)
    plain = EmotionGANSynthesizer(**(model.config | {"plain": True})).eval()
    plain.load_state_dict(model.state_dict())
    grey = torch.rand(3, 1, SIZE, SIZE) * 0.2 + 0.4
    faces, target = grey.expand(-1, 3, -1, -1), torch.tensor([1, 2, 0])
    with torch.no_grad():
        change = model(faces, target, torch.ones(3)) - faces
        missed = evaluate_latent.reconstruct(model, grey, 0) - hide_background(grey)
        expected = plain(faces, target, torch.ones(3))
    inside = ((faces + change) % 1 > 0) & (expected % 1 > 0)
    assert inside.float().mean() > 0.2
    torch.testing.assert_close((faces + change + missed)[inside], expected[inside])
