"""The recipes that fit and measure `pixel`, run as a user runs them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expraug import Expression, create_synthesizer


@pytest.fixture(scope="module")
def pairs(faces, tmp_path_factory):
    """A parquet file of the sample faces, with who they are."""
    rows = [(path, path.parent.name, path.stem) for path in sorted(faces.glob("*/*.jpg"))]
    file = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    table = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path, _, _ in rows],
        "expression": [expression for _, expression, _ in rows],
        "identity": [who for _, _, who in rows],
    }
    pq.write_table(pa.table(table), file)
    return file


def test_evaluate_pairs(run_recipe, pairs, tmp_path):
    out = run_recipe("pairs.evaluate", "--pairs", pairs, "--sheet", tmp_path / "sheet.png")
    assert "neutral -> happy, 10 people" in out
    assert "SSIM" in out
    assert "PSNR" in out
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_fit_pixel_uses_training_people_only(run_recipe, pairs, tmp_path):
    # the samples are all in the test split: none may be used, and nothing is written of nobody
    with pytest.raises(AssertionError, match="no one to fit on"):
        run_recipe("pixel.fit", "--pairs", pairs, "--out", tmp_path / "pixel")
    assert not (tmp_path / "pixel").exists()


def test_the_embedded_pixel_is_better_than_copying_on_people_it_never_saw(run_recipe, shared):
    london = shared / "data" / "london_faces" / "train.parquet"
    out = run_recipe("pairs.evaluate", "--pairs", london, "--split", "test")
    rows = {line.split("│")[1].strip(): line.split("│")[2:] for line in out.splitlines()
            if line.startswith("│")}  # fmt: skip
    assert "18 people" in out
    for name in ("SSIM", "PSNR dB"):
        assert float(rows[name][2].split()[0]) > 0, "the gain over copying"
    assert rows["share above it"][0].strip() == "100.0%"


def test_the_embedded_pixel_is_the_recipes(run_recipe, shared, tmp_path):
    london = shared / "data" / "london_faces" / "train.parquet"
    run_recipe("pixel.fit", "--pairs", london, "--out", tmp_path)
    again, embedded = create_synthesizer(str(tmp_path)), create_synthesizer("pixel")
    # the six others come from made pairs
    assert again.expressions == (Expression.NEUTRAL, Expression.HAPPY)
    assert embedded.expressions == tuple(Expression)
    rows = embedded.row[[int(e) for e in again.expressions]]
    assert again.sources == {e: embedded.sources[e] for e in again.expressions}
    assert (again.weight - embedded.weight[rows]).abs().max() < 2e-3
    assert (again.bias - embedded.bias[rows]).abs().max() < 2e-3
