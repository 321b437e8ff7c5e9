"""The recipe that compares with real photographs, run as a user runs it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


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


def test_the_embedded_pixel_is_closer_than_copying_on_people_it_never_saw(run_recipe, shared):
    london = shared / "data" / "london_faces" / "train.parquet"
    # these people smile half as much as those whom most of it was learned from; PSNR cannot tell it
    # from copying
    out = run_recipe(
        "pairs.evaluate", "--pairs", london, "--split", "validation", "--intensity", 0.5
    )
    rows = {line.split("│")[1].strip(): line.split("│")[2:] for line in out.splitlines()
            if line.startswith("│")}  # fmt: skip
    assert "6 people" in out
    assert float(rows["SSIM"][2].split()[0]) > 0, "the gain over copying"
    assert float(rows["landmarks, px"][2].split()[0]) < 0
    assert rows["share above it"][0].strip() == "100.0%"
