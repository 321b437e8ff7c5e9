"""Make pairs: what each expression does to real faces, as `transfer` has it.

    python -m recipes.pairs.make_pairs DATA --out work/pairs

Faces of training people, of whatever expression, are given others, each by an exemplar of its own,
at full intensity. A classifier then looks at the faces that this makes: kept is what it takes for
the target with at least `--least` probability, or finds at least that much likelier than in the
source, which is fair to expressions that it seldom sees. Where it does not, other exemplars get
their turn. DATA and `--work` are as `recipes.real_faces` takes them; `recipes.pairs.made` reads
what is written.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.warp import resized
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.transfer import TransferSynthesizer
from recipes.pairs.made import FLOW_SIDE, LIGHTENING_SIDE, Pairs
from recipes.real_faces import FER2013, FILES, LFW, LONDON, Faces, concatenate, extract

NEUTRAL = int(Expression.NEUTRAL)
LARGEST_ANGLE = 30
"""In degrees of yaw and pitch of a source."""
MOSTLY = 0.6
"""Share of the annotators who agree on what a source of FER2013 shows."""
SHARE_NEUTRAL = 0.6
"""Of the sources: what people mostly start from."""
TRIES = {Expression.FEAR: 6, Expression.DISGUST: 5, Expression.CONTEMPT: 5, Expression.SAD: 3}
"""Exemplars that a face is lent, at most, until one convinces; two of the others."""
BATCH = 32
KINDS = {
    "flow": np.float16,
    "lightening": np.float16,
    "lips": np.float32,
    "moved_lips": np.float32,
    "interior": np.float16,
}
"""How exactly maps are kept."""


def sources(data: Path, work: Path, count: int, seed: int) -> Faces:
    """Return so many faces of training people, most of them neutral, the others evenly mixed."""
    parts = [extract(origin, data / FILES[origin][0], work) for origin in (LONDON, LFW, FER2013)]
    for faces in parts:
        faces.expression = np.where(faces.origin == FER2013, faces.majority, faces.expression)
    faces = concatenate(parts)
    share = faces.votes[np.arange(len(faces)), np.maximum(faces.expression, 0)]
    frontal = (np.abs(faces.pose[:, :2]) < LARGEST_ANGLE).all(1)
    clear = (faces.expression >= 0) & (share >= MOSTLY)
    usable = np.flatnonzero(frontal & clear & (faces.split == "train"))
    random = np.random.default_rng(seed)
    label = faces.expression[usable]
    weight = np.bincount(label, minlength=len(Expression))[label] ** -0.6
    weight[label == NEUTRAL] = 1.0
    for which, part in ((label == NEUTRAL, SHARE_NEUTRAL), (label != NEUTRAL, 1 - SHARE_NEUTRAL)):
        weight[which] *= part / weight[which].sum()
    few = min(count, len(usable))
    return faces.take(random.choice(usable, few, replace=False, p=weight / weight.sum()))


def photographed_again(faces: Faces) -> np.ndarray:
    """Return, for each face, the place of the same person's face with another expression; -1 for
    none."""
    found = np.full(len(faces), -1)
    for person in set(faces.person[faces.origin == LONDON]):
        rows = np.flatnonzero(faces.person == person)
        for row in rows:
            others = rows[faces.expression[rows] != faces.expression[row]]
            if len(others):
                found[row] = others[0]
    return found


def requests(shown: np.ndarray, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return faces and targets: of every face so many expressions that it does not show."""
    random = np.random.default_rng(seed)
    targets = [
        random.permutation([int(e) for e in Expression if int(e) != s])[:each] for s in shown
    ]
    return np.repeat(np.arange(len(shown)), each), np.concatenate(targets)


@torch.inference_mode()
def made_of(
    model: TransferSynthesizer,
    classifier: FERNet,
    faces: Faces,
    targets: np.ndarray,
    variants: np.ndarray,
) -> tuple[ExpressionMaps, Tensor, Tensor]:
    """Return what expressions do to faces, small enough to keep, and the probability of the target
    before and after."""
    target = torch.from_numpy(targets)
    given = faces.tensor()
    points = [torch.from_numpy(v) for v in (faces.mesh[..., :2], faces.scores, faces.pose)]
    row, flip = model.choose(target, points[2], torch.from_numpy(variants), points[0])
    parts = model.maps(given, torch.ones(len(given)), row, flip, *points)
    maps = ExpressionMaps(
        torch.cat([resized(part.flow, FLOW_SIDE) for part in parts]),
        torch.cat([resized(part.lightening, LIGHTENING_SIDE) for part in parts]),
        torch.cat([part.lips for part in parts]),
        torch.cat([part.moved_lips for part in parts]),
        torch.cat([part.interior for part in parts]),
    )
    shown = maps.applied(given).render(given)
    column = torch.tensor([classifier.expressions.index(Expression(int(t))) for t in targets])
    before, after = (
        classifier.probabilities(f).gather(1, column[:, None])[:, 0] for f in (given, shown)
    )
    return maps, before, after


def make(
    model: TransferSynthesizer, classifier: FERNet, faces: Faces, each: int, least: float, seed: int
) -> Pairs:
    """Return the pairs of faces, each given so many expressions."""
    source, target = requests(faces.expression, each, seed)
    random = np.random.default_rng(seed)
    waiting = random.permutation(len(source))
    kept: list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]] = []
    counts: Counter[tuple[int, str]] = Counter()
    tries = np.array([TRIES.get(e, 2) for e in Expression])
    for attempt in range(int(tries.max())):
        failed = []
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            variants = random.integers(0, model.variants, len(batch))
            some = faces.take(source[batch])
            maps, before, after = made_of(model, classifier, some, target[batch], variants)
            good = (torch.maximum(after, after - before) >= least).numpy()
            rows = np.flatnonzero(good)
            few = {n: getattr(maps, n)[rows].numpy().astype(kind) for n, kind in KINDS.items()}
            kept.append((source[batch[good]], target[batch[good]], few, after[rows].numpy()))
            failed.append(batch[~good])
            counts.update((int(t), "made") for t in target[batch[good]])
            if start // BATCH % 50 == 0:
                print(f"attempt {attempt + 1}: {start} of {len(waiting)}", flush=True)
        waiting = np.concatenate(failed) if failed else waiting[:0]
        last = tries[target[waiting]] <= attempt + 1
        counts.update((int(t), "not convincing") for t in target[waiting[last]])
        waiting = waiting[~last]
        if not len(waiting):
            break
    for e in Expression:
        told = {why: n for (t, why), n in counts.items() if t == int(e)}
        print(f"{e}: " + ", ".join(f"{n} {why}" for why, n in told.items()), flush=True)
    names = [name or f"?{row}" for row, name in enumerate(faces.person)]
    _, person = np.unique(names, return_inverse=True)
    return Pairs(
        face=faces.grey().numpy(),
        mesh=faces.mesh[..., :2],
        shown=faces.expression.astype(np.int64),
        person=person.astype(np.int64),
        photographed=photographed_again(faces),
        source=np.concatenate([k[0] for k in kept]),
        target=np.concatenate([k[1] for k in kept]),
        probability=np.concatenate([k[3] for k in kept]),
        **{name: np.concatenate([k[2][name] for k in kept]) for name in KINDS},
    )


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("work/pairs"),
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    teacher: Annotated[str, typer.Option(help="'transfer', or a folder of its kind.")] = "transfer",
    classifier: Annotated[Path | None, typer.Option(help="Folder; else the embedded one.")] = None,
    count: Annotated[int, typer.Option(help="Faces.")] = 8000,
    each: Annotated[int, typer.Option(help="Expressions that each is given.")] = 3,
    least: Annotated[float, typer.Option(help="Probability of the target.")] = 0.3,
    seed: int = 0,
) -> None:
    model = Synthesizer.from_pretrained(teacher)
    if not isinstance(model, TransferSynthesizer):
        raise SystemExit(f"{teacher} is no `transfer`, which alone lends what it is asked for")
    net = load_fer_classifier(classifier)
    pairs = make(model.eval(), net.eval(), sources(data, work, count, seed), each, least, seed)
    pairs.save(out)
    print(f"{out}: {len(pairs)} pairs of {len(pairs.face)} faces")


if __name__ == "__main__":
    typer.run(main)
