"""The recipe that makes pairs, and the fit that learns from them, on the sample faces."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expraug import Expression, create_synthesizer
from recipes.pixel.fit import fit_made, synthesizer


@pytest.fixture
def people(faces, tmp_path):
    rows = [(path, path.parent.name, path.stem) for path in sorted(faces.glob("*/*.jpg"))[:16]]
    file = tmp_path / "people.parquet"
    table = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path, _, _ in rows],
        "expression": [expression for _, expression, _ in rows],
        "identity": [who for _, _, who in rows],
    }
    pq.write_table(pa.table(table), file)
    return file


def test_pairs_are_gated_and_pixel_learns_from_them(run_recipe, people, tmp_path):
    made = tmp_path / "made.parquet"
    out = run_recipe(
        "pairs.make_pairs", people, "--out", made, "--identity", "dlib",
        "--split", "test", "--variants", "2",
    )  # fmt: skip
    assert "6 neutral faces" in out
    rows = pq.read_table(made).to_pylist()
    neutral = [row for row in rows if row["expression"] == "neutral"]
    assert len(neutral) == 6
    for row in rows:
        if row["expression"] == "neutral":
            continue
        assert row["identity"] == neutral[row["source"]]["identity"]
        assert row["score_identity"] > 0.9
        assert row["variant"] in (0, 1)
    assert {"happy", "surprise"} <= {row["expression"] for row in rows}

    # everyone in the samples is a test person, of whom the fit takes no real photograph
    synthesizer(fit_made(made, 64, 0.4, 1.5), 64).save_pretrained(tmp_path / "pixel")
    pixel = create_synthesizer(str(tmp_path / "pixel"))
    assert Expression.SURPRISE in pixel.expressions
    assert pixel.image_size == 64
    assert pixel.bias.abs().max() > 0.02
