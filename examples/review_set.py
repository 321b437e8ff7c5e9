"""Look at an expanded set in a browser, reject faces, and expand without them."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from expraug.expand import expand
from expraug.review import review

FACES = Path(__file__).parent / "faces"

with TemporaryDirectory() as folder:
    out, rejected = Path(folder) / "out", Path(folder) / "rejected.jsonl"
    report = expand(FACES, out, per_class=4)
    print("faces to look at:", review(out, source=FACES), "in", (out / "review.html").name)

    # the page exports such a list of what was rejected in it; here, the lowest score of the gate
    made = [row for row in pq.read_table(report.manifest).to_pylist() if row["file"]]
    worst = min(made, key=lambda row: row["score_identity"])
    face = {name: worst[name] for name in ("source", "target", "intensity", "variant")}
    rejected.write_text(json.dumps(face | {"synthesizer": worst["fingerprint"]}) + "\n")

    report = expand(FACES, out, per_class=4, exclude=rejected, overwrite=True)
    print("made:", report.made, "left out:", report.skipped["excluded"])
