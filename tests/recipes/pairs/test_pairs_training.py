"""What synthesizers that learn from pairs are trained on and watched by."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from paired_faces import NUMBERS, train_person
from torch import Tensor

from expraug import Expression
from expraug.datasets import person_split
from expraug.networks.fer_classifier import FERNet, see
from recipes.pairs import watching
from recipes.pairs.data import (
    Draw,
    Faces,
    cached,
    concatenate,
    describe,
    embed,
    photographs,
    read_pairs,
    single_faces,
)
from recipes.pairs.watching import expression_net

CPU, SIZE, CATEGORIES = torch.device("cpu"), 32, tuple(Expression)
NEUTRAL, HAPPY, SAD, CONTEMPT = (int(e) for e in CATEGORIES[:3] + CATEGORIES[-1:])
PAIRS, UNPAIRED = 6, 3
seeds = st.integers(0, 2**31)

# (category, group, person, photograph): the first person has two groups, the third was photographed
# twice, the last has nothing to be paired with
ROWS = [
    *[(NEUTRAL, 0, 0, True), (HAPPY, 0, 0, False), (SAD, 0, 0, False)],
    *[(NEUTRAL, 1, 0, True), (6, 1, 0, False)],
    *[(NEUTRAL, 2, 1, True), (HAPPY, 2, 1, False), (CONTEMPT, 2, 1, False), (4, 2, 1, False)],
    *[(NEUTRAL, 3, 2, True), (HAPPY, 3, 2, True)],
    (NEUTRAL, 4, 3, True),
]


def numbered(count: int, size: int) -> Tensor:
    """Faces that show their number in four stripes, whatever light, blur and mirrors do."""
    bits = torch.arange(count)[:, None] >> torch.arange(4) & 1
    rows = bits.repeat_interleave(size // 4, 1).to(torch.uint8) * 255
    return rows[:, None, :, None].expand(-1, 1, -1, size).contiguous()


def numbers(faces: Tensor) -> Tensor:
    """Read `numbered` faces."""
    middle = faces.shape[-1] // 8 + torch.arange(4) * faces.shape[-1] // 4
    bits = faces[:, 0, middle].mean(2) > 0.5
    return (bits.long() << torch.arange(4)).sum(1)


def in_pairs(rows: list[tuple[int, int, int, bool]] = ROWS) -> Faces:
    category, group, person, photograph = (torch.tensor(c) for c in zip(*rows, strict=True))
    pixels = numbered(len(rows), SIZE)
    return Faces(pixels, category, group, person, photograph, torch.eye(16)[group])


def single() -> Faces:
    """Six faces at twice the side; the last has no embedding, so it is a source of none."""
    order = torch.arange(6)
    embedding = torch.eye(16)[order + 8] * (order < 5)[:, None]
    real = torch.ones(6, dtype=torch.bool)
    category = torch.tensor([NEUTRAL, HAPPY, HAPPY, SAD, SAD, SAD])
    return Faces(numbered(6, 2 * SIZE), category, order, order, real, embedding)


def draw(faces: Faces | None = None, pairs: int = PAIRS, share: float = 0.3) -> Draw:
    return Draw(faces or in_pairs(), single(), SIZE, len(CATEGORIES), pairs, UNPAIRED, share)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_source_and_target_are_one_person_in_one_group(seed: int) -> None:
    torch.manual_seed(seed)
    faces, batch = in_pairs(), draw()()
    source, target = numbers(batch.source[:PAIRS]), numbers(batch.target)
    assert torch.equal(faces.group[source], faces.group[target])
    assert (source != target).all()
    assert torch.equal(batch.category[:PAIRS], faces.category[target])
    assert torch.equal(batch.embedding[:PAIRS], faces.embedding[source])
    assert (faces.group[source] != 4).all(), "who has one face alone has no target"
    assert batch.source.shape == (PAIRS + UNPAIRED, 1, SIZE, SIZE)
    assert batch.target.shape == (PAIRS, 1, SIZE, SIZE)
    for pixels in (batch.source, batch.target, batch.real):
        assert pixels.dtype == torch.float32
        assert 0 <= pixels.min() < pixels.max() <= 1


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_other_is_somebody_else(seed: int) -> None:
    torch.manual_seed(seed)
    faces, batch = in_pairs(), draw()()
    source, other = numbers(batch.source), batch.other
    person = torch.cat([faces.person[source[:PAIRS]], -1 - source[PAIRS:]])
    if person[:PAIRS].unique().numel() > 1:
        assert (person[other] != person).all()
    assert (other[:PAIRS] < PAIRS).all(), "they have a target too"
    assert (person[PAIRS:] != person[other[PAIRS:]]).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_single_faces_are_asked_for_another_expression(seed: int) -> None:
    torch.manual_seed(seed)
    batch, singles = draw()(), single()
    alone = numbers(batch.source[PAIRS:])
    assert (alone < 5).all()
    assert torch.equal(batch.embedding[PAIRS:], singles.embedding[alone])
    assert (batch.category[PAIRS:] != singles.category[alone]).all()
    assert batch.category.max() < len(CATEGORIES)
    assert torch.equal(batch.real_category, singles.category[numbers(batch.real)])


def test_shares_of_what_is_drawn() -> None:
    torch.manual_seed(0)
    faces = in_pairs()
    both = draw(pairs=2000, share=1.0)()
    assert (faces.group[numbers(both.target)] == 3).all()
    none = draw(pairs=2000, share=0.0)()
    source = numbers(none.source[:2000])
    assert (faces.group[source] != 3).all()
    for group in (0, 1, 2):  # the photograph is the source of half, however many others there are
        among = faces.photograph[source[faces.group[source] == group]]
        assert abs(float(among.float().mean()) - 0.5) < 0.08
    some = draw(pairs=2000, share=0.25)()
    assert abs(float((faces.group[numbers(some.source[:2000])] == 3).float().mean()) - 0.25) < 0.05
    # of the real faces, expressions are shown equally often
    counts = torch.bincount(some.real_category, minlength=3) / len(some.real_category)
    assert (counts - 1 / 3).abs().max() < 0.05


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_source_and_target_vary_alike(seed: int) -> None:
    torch.manual_seed(seed)
    faces = in_pairs()
    noise = (torch.rand(1, 1, SIZE, SIZE) * 255).to(torch.uint8)
    faces.pixels = noise.expand(len(faces), -1, -1, -1)
    batch = draw(faces)()
    assert torch.equal(batch.source[:PAIRS], batch.target)
    assert (batch.source[1:PAIRS] != batch.source[0]).flatten(1).any(1).all(), "each pair its own"


@pytest.mark.parametrize("group", [[0], [0, 1]])
def test_one_person_alone_can_be_drawn(group: list[int]) -> None:
    torch.manual_seed(0)
    batch = draw(in_pairs([r for r in ROWS if r[1] in group]))()
    assert (batch.other[:PAIRS] < PAIRS).all()
    assert len(batch.target) == PAIRS


def test_what_is_cached_is_made_again_when_it_was_made_of_other_things(tmp_path: Path) -> None:
    file, made = tmp_path / "faces.safetensors", []

    def make() -> Faces:
        made.append(1)
        faces = in_pairs()
        faces.person = faces.person + 10 * len(made)
        return faces

    first = cached(file, make, describe("A.parquet", 128))
    again = cached(file, make, describe("A.parquet", 128))
    assert len(made) == 1
    for name, values in vars(first).items():
        assert torch.equal(values, getattr(again, name)), name
    assert cached(file, make, describe("A.parquet", 64)).person.max() == 23
    assert cached(file, make, describe("A.parquet", 64)).person.max() == 23
    assert len(made) == 2
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_parts_share_people_but_no_group() -> None:
    one, two = in_pairs(), in_pairs()
    faces = concatenate([one, two])
    assert len(faces) == 2 * len(ROWS)
    first, second = faces.group.split(len(ROWS))
    assert torch.equal(first, one.group)
    assert not set(first.tolist()) & set(second.tolist())
    assert torch.equal(second - second.min(), first)
    assert torch.equal(faces.person, torch.cat([one.person, two.person]))


def test_a_group_has_the_embedding_of_its_first_photograph() -> None:
    def encoder(faces: Tensor) -> Tensor:
        assert faces.shape[1:] == (3, SIZE, SIZE)
        return F.one_hot(numbers(faces), 16).float()

    order = torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(0))
    faces = embed(in_pairs().take(order), encoder, CPU)
    for row_number, found in zip(order.tolist(), faces.embedding, strict=True):
        group = ROWS[row_number][1]
        shown = [n for n in order.tolist() if ROWS[n][1] == group and ROWS[n][3]]
        assert found.argmax() == shown[0]


@pytest.mark.parametrize("size", [32, 64])
def test_pairs_are_read(pairs_file: Path, size: int) -> None:
    faces = read_pairs(pairs_file, size, CATEGORIES)
    assert faces.pixels.shape == (27, 1, size, size)
    assert faces.pixels.dtype == torch.uint8
    assert faces.category.tolist() == [NEUTRAL, HAPPY, CONTEMPT] * 9
    assert faces.group.tolist() == [n for n in range(9) for _ in range(3)]
    assert faces.person.tolist() == [NUMBERS[n % 8] for n in range(9) for _ in range(3)]
    assert faces.photograph.tolist() == [True, False, False] * 9
    light = faces.pixels.float().mean((1, 2, 3))
    assert torch.allclose(light[2::3], 0.8 * light[::3], atol=1)


def test_photographed_people_are_training_people(faces: Path, tmp_path: Path) -> None:
    names = sorted(p.name for p in (faces / "neutral").iterdir())[:3]
    who = [train_person(0), train_person(1), "london_008"]
    assert person_split(who[2]) == "test"
    rows = [
        (w, e, faces / e / n) for w, n in zip(who, names, strict=True) for e in ("neutral", "happy")
    ]
    table = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for _, _, path in rows],
        "expression": [e for _, e, _ in rows],
        "identity": [w for w, _, _ in rows],
    }
    pq.write_table(pa.table(table), tmp_path / "people.parquet")
    found = photographs(tmp_path / "people.parquet", SIZE, CATEGORIES)
    assert found.pixels.shape == (4, 1, SIZE, SIZE)
    assert found.pixels.float().mean() > 30, "faces in 0 to 255"
    assert sorted(zip(found.group.tolist(), found.category.tolist(), strict=True)) == [
        (g, c) for g in (0, 1) for c in (NEUTRAL, HAPPY)
    ]
    assert found.person.tolist() == [NUMBERS[g] for g in found.group.tolist()]
    assert found.photograph.all()


def test_single_faces_are_each_a_group_and_kept(faces: Path, tmp_path: Path) -> None:
    found = single_faces(tmp_path, [str(faces)], None)
    assert found.pixels.shape == (20, 1, 64, 64)
    assert torch.bincount(found.category).tolist() == [10, 10]
    assert found.group.unique().numel() == 20
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    assert torch.equal(single_faces(tmp_path, [str(faces)], None).pixels, found.pixels)
    assert kept.stat().st_mtime_ns == written


def test_logits_of_expressions_that_the_judge_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    classifier = FERNet(["happy", "neutral"], width=8).eval()
    faces = torch.rand(3, 1, 96, 96, requires_grad=True)
    found = expression_net(classifier, CATEGORIES)(faces)
    assert found.shape == (3, 8)
    assert found.isfinite().any(0).tolist() == [True, True, *[False] * 6]
    assert (found[:, 2:] == -torch.inf).all()
    F.cross_entropy(found, torch.tensor([0, 1, 0])).backward()
    assert faces.grad is not None
    assert faces.grad.isfinite().all()
    assert faces.grad.flatten(1).any(1).all()
    monkeypatch.setattr(watching, "vary", see)
    plain = expression_net(classifier, CATEGORIES)(faces)
    small = F.interpolate(faces, (64, 64), mode="bilinear", antialias=True)
    assert torch.allclose(plain[:, :2], classifier(see(small)).flip(1), atol=1e-5)
