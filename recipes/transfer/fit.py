"""Fit `transfer` from three sets of real faces.

    python -m recipes.transfer.fit DATA --work work/real_faces --out work/transfer

1. What a face shows beyond the person's own rest, in shape and in skin (`deviation.py`).
2. The mesh that faces are drawn with.
3. The exemplars: candidates, as `fit_exemplars` chooses them, and of these those that come across
   (`convincing.py`), without what only they should show (`left_out.py`), corrected until synthetic
   faces show what real ones do (`closed_loop.py`).
4. The usual smile, which comes first.

What is embedded has been through `recipes.transfer.appearance` as well.

Of LFW and London only training people (`expraug.datasets.person_split`) are used, of FER2013 only
training images, with the label that most annotators gave. It needs scipy and opencv; five minutes
on a core once `recipes.real_faces` has found the faces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer

from expraug.expressions import Expression
from expraug.synthesizers.transfer import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import (
    LendingFaces,
    bank_of,
    is_frontal,
    read_lending,
    with_bank,
    with_exemplars,
)
from recipes.real_faces import FER2013, FILES, LFW, LONDON, Faces, concatenate, extract
from recipes.transfer.closed_loop import close_loop
from recipes.transfer.convincing import MOST_CANDIDATES, believed, convincing
from recipes.transfer.deviation import (
    LEVEL_AXES,
    SHAPE_AXES,
    SKIN_AXES,
    assign,
    inputs,
    learn,
    pieces,
)
from recipes.transfer.left_out import with_clear_contempt, with_dark_throats
from recipes.transfer.mesh import (
    EYE_LEFT,
    EYE_RIGHT,
    HIGH,
    LIDS,
    LOW,
    LOWER_IN,
    OVAL,
    TEXTURE,
    UPPER_IN,
    drawn_mesh,
    lip_followers,
)

LARGEST_ANGLE = 35
"""In degrees of yaw and pitch: deviations are learned from no face that is turned further."""
AGREED = {Expression.DISGUST: 0.45, Expression.CONTEMPT: 0.45}
MOSTLY = 0.6
"""Share of the votes that an exemplar of FER2013 has; of the rarest expressions fewer."""
CANDIDATES = 1000
"""Faces of a class among which exemplars are chosen."""
SHAPE_GAIN = (1.0, 0.95, 1.5, 0.8, 1.5, 1.3, 1.1, 1.4)
SKIN_GAIN = (1.0, 1.1, 1.7, 1.0, 1.8, 1.8, 1.4, 1.7)
"""While candidates are tried. A regression tells less than there is, the less the fewer examples it
had; chosen by how often both embedded classifiers see the expression on LFW's validation people."""
SKIN_OF_SHAPE_PENALTY = 50.0
HANDS_ARE_RARE = tuple(e for e in Expression if e not in (Expression.SAD, Expression.FEAR))
"""Which expressions say what skin goes with a shape: of fear's photographs every third has a hand
before the mouth."""
MOST_UNEXPLAINED = 0.75
"""Share of their faces, in either half, whose skin says no more beyond the shape than is lent."""
BRIGHTEST_SKIN, BRIGHTEST_EYE, DARKEST = 0.26, 0.45, 0.5
"""Limits of the change of log luminance: skin does not shine, the white of an eye may appear."""
RIM = 0.07
"""Width of the rim on which the change of skin fades, as a fraction of the frame's side."""


NEUTRAL, HAPPY = int(Expression.NEUTRAL), int(Expression.HAPPY)
LEAST_PARTED = 0.06
"""Gap between lips, as a share of the width of the mouth, from which its inside is seen."""
FIRST = -1.0
"""Oddness of an exemplar that comes before those that are turned as the face is."""


def lending_faces(data: Path, work: Path) -> Faces:
    """Return the training people's faces, not turned far, with the majority's label."""
    parts = []
    for origin in (LONDON, LFW, FER2013):
        faces = extract(origin, data / FILES[origin][0], work)
        label = np.where(faces.origin == FER2013, faces.majority, faces.expression)
        frontal = (np.abs(faces.pose[:, :2]) < LARGEST_ANGLE).all(1)
        faces.expression = label
        parts.append(faces.take(np.flatnonzero(frontal & (faces.split == "train") & (label >= 0))))
    return concatenate(parts)


def masks(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the change of skin counts, and how bright it may get: (112, 112) each."""

    def drawn(*parts: tuple[int, ...]) -> np.ndarray:
        area = np.zeros((TEXTURE, TEXTURE), np.uint8)
        for part in parts:  # in sixteenths of a pixel, as `shift=4` reads them
            points = (reference[list(part)] - LOW) / (HIGH - LOW) * TEXTURE * 16
            cv2.fillPoly(area, [np.round(points).astype(np.int32)], 1, shift=4)
        return area

    depth = cv2.distanceTransform(drawn(OVAL), cv2.DIST_L2, 5) / TEXTURE * (HIGH - LOW)
    soft = np.clip(depth / RIM, 0, 1)
    wide = cv2.dilate(drawn(EYE_LEFT, EYE_RIGHT), np.ones((3, 3))).astype(np.float32)
    eyes = cv2.GaussianBlur(wide, (0, 0), 1.0)
    brightest = BRIGHTEST_SKIN + (BRIGHTEST_EYE - BRIGHTEST_SKIN) * eyes
    return soft * soft * (3 - 2 * soft), brightest


def without_exemplars(faces: Faces) -> TransferSynthesizer:
    """Return a synthesizer that reads deviations and draws, with one empty row per expression."""
    reader, known = learn(faces)
    reference = known["reference"]
    mesh = drawn_mesh(reference)
    model = TransferSynthesizer(
        {str(e): 1 for e in Expression},
        triangles=len(mesh["triangles"]),
        samples=len(mesh["sample_triangle"]),
        texels=len(reader.texel),
        axes=(SHAPE_AXES, SKIN_AXES, LEVEL_AXES),
        texture_size=TEXTURE,
    )
    model.reader.load_state_dict(reader.state_dict())
    mask, brightest = masks(reference)
    for name, value in {
        "mirrored_shape": known["mirrored_shape"],
        "mirrored_skin": known["mirrored_skin"],
        "shape_gain": np.array(SHAPE_GAIN),
        "skin_gain": np.array(SKIN_GAIN),
        "mask": mask,
        "brightest": brightest,
        "darkest": np.array([DARKEST]),
        "reference": reference,
        "followers": lip_followers(reference),
        **mesh,
        "upper_lip": np.array(UPPER_IN),
        "lower_lip": np.array(LOWER_IN),
        "lids": np.array(LIDS),
    }.items():
        assign(model, name, value)
    return model.eval().requires_grad_(False)


def lending(model: TransferSynthesizer, faces: Faces) -> LendingFaces:
    """Return what the faces lend on which enough annotators agree."""
    agreed = np.array([AGREED.get(e, MOSTLY) for e in Expression])[faces.expression]
    share = faces.votes[np.arange(len(faces)), faces.expression]
    usable = np.flatnonzero((share >= agreed) & is_frontal(faces.pose))
    usable = np.random.default_rng(0).permutation(usable)
    label = faces.expression[usable]
    few = [usable[label == e][:CANDIDATES] for e in Expression]
    chosen = np.concatenate(few)
    parts = []
    for piece in pieces(len(chosen)):
        some = faces.take(chosen[piece])
        shown = torch.from_numpy(some.expression).long()
        parts.append(read_lending(model, some.tensor(), shown, *inputs(some)))
    return LendingFaces.joined(parts)


def learn_expected_skin(model: TransferSynthesizer, faces: LendingFaces) -> None:
    """Learn what skin goes with a shape, all expressions alike, and how much more faces have."""
    known = torch.tensor([int(e) for e in HANDS_ARE_RARE])
    bare = faces.take(torch.isin(faces.expression, known))
    x = torch.cat([torch.ones(len(bare), 1), bare.shape], 1).double()
    weight = 1 / torch.bincount(bare.expression, minlength=len(Expression))[bare.expression]
    weighted = (x * (weight / weight.mean())[:, None]).T
    penalty = SKIN_OF_SHAPE_PENALTY * torch.eye(x.shape[1], dtype=x.dtype)
    found = torch.linalg.solve(weighted @ x + penalty, weighted @ bare.skin.double())
    assign(model, "skin_of_shape", found.numpy())
    left = model.unexplained(bare.shape, bare.skin)
    assign(model, "most_unexplained", left.quantile(MOST_UNEXPLAINED, dim=0).numpy())


def with_usual_smile(model: TransferSynthesizer, faces: Faces) -> TransferSynthesizer:
    """Return a synthesizer whose first smile, of faces that look ahead, is the usual one.

    It is the mean of London's training people, who were photographed neutral and smiling. Smiles of
    single people come after it: what users look at first is nobody's in particular.
    """
    london = faces.take(np.flatnonzero(faces.origin == LONDON))
    both = np.intersect1d(*(london.person[london.expression == e] for e in (NEUTRAL, HAPPY)))
    london = london.take(np.flatnonzero(np.isin(london.person, both)))
    shown = torch.from_numpy(london.expression).long()
    read = read_lending(model, london.tensor(), shown, *inputs(london))
    rest, smile = (read.take(shown == e) for e in (NEUTRAL, HAPPY))
    parted = smile.gaps.mean(1) > LEAST_PARTED
    usual = LendingFaces(
        expression=torch.tensor([HAPPY]),
        shape=smile.shape.mean(0, keepdim=True) - rest.shape.mean(0),
        skin=smile.skin.mean(0, keepdim=True) - rest.skin.mean(0),
        pose=torch.zeros(1, 2),
        interior=smile.interior[parted].mean(0, keepdim=True),
        gaps=smile.gaps.mean(0, keepdim=True),
    )
    # as it is, whatever is corrected in others
    usual.shape = usual.shape / model.shape_gain[HAPPY] - model.shape_correction[HAPPY]
    usual.skin = usual.skin / model.skin_gain[HAPPY] - model.skin_correction[HAPPY]
    own = bank_of(model)
    parts = [own.take(own.expression == int(e)) for e in model.expressions]
    place = model.expressions.index(Expression.HAPPY)
    parts[place] = LendingFaces.joined([usual, parts[place]])
    model = with_bank(model, LendingFaces.joined(parts))
    model.oddness[(model.shows == HAPPY).nonzero()[0]] = FIRST
    return model


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    work: Annotated[Path, typer.Option(help="Faces that were found.")] = Path("work/real_faces"),
    out: Annotated[Path, typer.Option(help="Folder for weights and config.")] = Path(
        "work/transfer"
    ),
) -> None:
    faces = lending_faces(data, work)
    print(f"{len(faces)} faces", flush=True)
    model = without_exemplars(faces)
    lent = lending(model, faces)
    learn_expected_skin(model, lent)
    model = with_exemplars(model, lent, MOST_CANDIDATES)
    bank = convincing(model, believed(model, faces))
    model = with_clear_contempt(with_bank(model, with_dark_throats(bank)))
    model = with_usual_smile(close_loop(model, faces), faces)
    model.save_pretrained(out)
    print(f"{out}: {model.config['rows']}", flush=True)


if __name__ == "__main__":
    typer.run(main)
