"""The review page does what it says in a real browser, from disk, without network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expraug.datasets.exclusions import read_exclusions
from expraug.expand import SCHEMA, Report
from expraug.review import review

Open = Callable[[Path], Any]


@pytest.fixture
def page(expanded: Report, opened: Open) -> Any:
    review(expanded.folder, source=expanded.folder.parent / "set")
    return opened(expanded.folder / "review.html")


def faces(page: Any) -> int:
    return int(page.locator("article").count())


def all_pictures_show(page: Any) -> bool:
    """Scroll to every picture, since none is loaded before, and say whether each shows something.

    What the page's own policy forbids to scripts, as `wait_for_function` uses it, is not asked for.
    """
    pictures = page.locator("img").all()
    for picture in pictures[:: max(1, len(pictures) // 12)] + pictures[-1:]:
        picture.scroll_into_view_if_needed()
    missing = "[...document.images].filter((i) => !i.naturalWidth).length"
    return bool(waited(lambda: page.evaluate(missing) == 0))


def waited(true: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_each_face_stands_beside_its_source(page: Any, expanded: Report) -> None:
    total = expanded.made + expanded.skipped.total()
    assert faces(page) == total == 12
    assert all_pictures_show(page)
    assert page.evaluate("document.images.length") == total + expanded.made
    first = page.locator("article").first
    source, made = (picture.get_attribute("src") for picture in first.locator("img").all())
    assert source.startswith("../set/happy/london_")
    assert made.startswith("neutral/london_")


def test_filters(page: Any, expanded: Report) -> None:
    page.select_option("#target", "happy")
    assert faces(page) == expanded.synthetic["happy"]
    page.select_option("#target", "")
    scores = sorted(r["score_identity"] for r in made_rows(expanded.folder))
    page.fill("#most", f"{scores[3] + 0.0005:.3f}")
    assert faces(page) == sum(round(s, 3) <= round(scores[3] + 0.0005, 3) for s in scores)
    page.fill("#most", "")
    page.select_option("#order", "lowest")
    told = page.locator("article").first.inner_text()
    assert f"score {scores[0]:.2f}" in told
    page.fill("#name", "nobody of this name")
    assert faces(page) == 0


def made_rows(folder: Path) -> list[dict[str, Any]]:
    return [r for r in pq.read_table(folder / "manifest.pq").to_pylist() if r["file"]]


def test_keys_decide_and_the_list_is_exported(page: Any, expanded: Report, tmp_path: Path) -> None:
    rows = made_rows(expanded.folder)
    decisions = iter(("r", "a", "R", "u"))
    for row in pq.read_table(expanded.folder / "manifest.pq").to_pylist():
        # of what was not made there is nothing to decide
        key = next(decisions, None) if row["file"] else "ArrowRight"
        if key is None:
            break
        page.keyboard.press(key)
    for key in ("ArrowLeft", "ArrowRight", "x"):
        page.keyboard.press(key)
    # the first is rejected, the second accepted, the third rejected, the fourth left undecided
    assert "1 accepted · 2 rejected" in page.inner_text("#status")
    with page.expect_download() as download:
        page.click("#export")
    path = tmp_path / "rejected.jsonl"
    download.value.save_as(path)
    found = read_exclusions(path, rows[0]["fingerprint"])
    pairs = {(source, str(r.target), r.intensity) for source in found for r in found[source]}
    rejected = [rows[0], rows[2]]
    assert pairs == {(r["source"], r["target"], r["intensity"]) for r in rejected}
    page.reload()  # what was decided is still there
    assert "1 accepted · 2 rejected" in page.inner_text("#status")
    page.select_option("#decided", "rejected")
    assert faces(page) == 2
    page.evaluate("localStorage.clear()")
    page.reload()
    assert "0 rejected" in page.inner_text("#status")
    page.set_input_files("#load", path)
    assert waited(lambda: "2 rejected" in page.inner_text("#status"))


@pytest.mark.parametrize("write", ["webdataset", "parquet"])
def test_pictures_in_shards_are_in_the_page(
    write: Any, expanded: Report, opened: Open, tmp_path: Path
) -> None:
    from expraug.expand import expand

    source = expanded.folder.parent / "set"
    report = expand(source, tmp_path / "out", write=write, with_originals=True)
    count = review(tmp_path / "out", tmp_path / "elsewhere" / "page.html")
    page = opened(tmp_path / "elsewhere" / "page.html")
    assert faces(page) == count == report.made + report.skipped.total()
    assert all_pictures_show(page)
    assert page.evaluate("document.images.length") == count + report.made
    assert page.evaluate("[...document.images].every((i) => i.src.startsWith('data:'))")


def test_ten_thousand_faces(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "happy").mkdir()
    rows = []
    for i in range(10_000):
        file = f"happy/{i:05d}.png"
        Image.new("L", (48, 48), i % 256).save(tmp_path / file, compress_level=0)
        row = dict.fromkeys(SCHEMA.names)
        row |= {"file": file, "source": f"neutral/{i}.png", "source_class": "neutral"}
        row |= {"synthesizer": "transfer", "fingerprint": "transfer-1", "target": "happy"}
        row |= {"intensity": 1.0, "variant": 0, "seed": 0, "status": "made", "reason": ""}
        rows.append(row | {"message": "", "score_identity": i / 10_000})
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "manifest.pq")
    assert review(tmp_path) == 10_000
    began = time.perf_counter()
    page = opened(tmp_path / "review.html")
    assert "10000 of 10000 faces · page 1 of 167" in page.inner_text("#status")
    assert faces(page) == 60  # no more are in the page at a time
    page.keyboard.press("End")
    assert "page 167 of 167" in page.inner_text("#status")
    assert all_pictures_show(page)
    for key in ("ArrowUp", "r", "Home", "r", "n", "a"):
        page.keyboard.press(key)
    assert "page 2 of 167 · 1 accepted · 2 rejected" in page.inner_text("#status")
    assert time.perf_counter() - began < 60  # on an idle machine 2
    assert (tmp_path / "review.html").stat().st_size < 5e6


HOSTILE = [
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    '"><svg onload="document.title=1">',
    "javascript:document.title='owned'",
    "a\u2028b' \" & é 表情",
]


def test_names_are_text(tmp_path: Path, opened: Open) -> None:
    rows = []
    for name in HOSTILE:
        row = dict.fromkeys(SCHEMA.names, name)
        row |= {"intensity": 1.0, "variant": 0, "seed": 0, "faces": 1, "score_identity": 0.5}
        rows.append(row | {"width": 1, "height": 1, "status": "skipped"})
    folder = tmp_path / "<b>set & co"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "manifest.pq")
    review(folder)
    page = opened(folder / "review.html")
    page.wait_for_timeout(200)
    assert page.title() == "<b>set & co: review"
    assert page.locator("h1").inner_text() == "<b>set & co"
    assert faces(page) == len(HOSTILE)
    for name in HOSTILE:
        card = page.locator("article", has_text=name.replace("\u2028", " ")).first
        assert name.split("\u2028")[0] in card.inner_text()
    assert page.evaluate("document.querySelectorAll('main script, main svg, main b b').length") == 0
