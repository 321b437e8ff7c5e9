"""The rows of the bank: for each expression, clusters of real faces that show it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from expraug.expressions import Expression
from recipes.real_faces import FER2013, LONDON, Faces
from recipes.transfer.bank import Bank, full_maps, insert, skeleton
from recipes.transfer.geometry import (
    FLOOR,
    NEUTRAL_YAW,
    clipped_pose,
    fit_light,
    fit_shape,
    local_light,
    read_light,
    resting_scores,
    sample_points,
    shape_residuals,
    skin_level,
    texture_masks,
)
from recipes.transfer.mesh import (
    MIRRORED_SCORES,
    MOUTH_SHAPE,
    MOVES,
    SCORE,
    TEXTURE,
    face_samples,
    mouth_samples,
    opening,
    stabilise,
)
from recipes.transfer.mouths import crispness, fill

NEUTRAL, HAPPY, CONTEMPT = Expression.NEUTRAL, Expression.HAPPY, Expression.CONTEMPT
CLUSTERS = (3, 8, 8, 8, 8, 6, 8)
"""Clusters of each expression: few for neutral, which is one, and for the rare disgust."""
SMALLEST, LARGEST = 8, 60
"""Faces in a cluster: fewer are no type; of more, the most convincing make the mean."""
BELIEVED = 0.6
"""Share of an expression's faces, the most convincing, that are clustered: labels are noisy."""
FIRST_GAIN = 1.3
"""Gain of every expression before polishing: a mean of many faces is weaker than each of them."""
LONDON_GAIN = 1.3
"""Of the mean posed smile: at 0.8 photographs are met best, but classifiers hardly see a smile."""
CONTEMPT_RECIPE = {
    **{"mouthSmile": 0.45, "mouthDimple": 0.35, "mouthPress": 0.45, "mouth": 0.25},
    **{"eyeSquint": 0.2, "browOuterUp": 0.1},
}
CONTEMPT_OTHER_SIDE = {"browDown": 0.15, "mouthPress": 0.15}
"""Contempt has too few faces to be learned: after Ekman, one mouth corner tightened and raised."""


def build(
    faces: Faces, components: np.ndarray, probabilities: np.ndarray
) -> tuple[Bank, dict[str, np.ndarray]]:
    """Fit geometry, light and rows.

    Args:
        faces: the lending faces.
        components: (N, 24) identity components.
        probabilities: (N, 7) by the tuning classifier.

    Returns:
        The bank, with empty mouths, and what `geometry.fit_shape` found.
    """
    shape = fit_shape(faces, components)
    bank = skeleton(shape, *resting_scores(faces))
    index, weights, texel = face_samples(shape["reference"], TEXTURE)
    light, place = local_light(faces, shape["reference"], index, weights, texel)
    by_score, light_of_class, light_left = fit_light(faces, components, light)
    shape_of_class, shape_left = shape_residuals(faces, components, shape["stable"])
    bank["appearance"] = full_maps(by_score, place)
    bank["mask"] = torch.from_numpy(texture_masks(shape["reference"])[1]).float()

    scores, neutral = common_scores(faces, shape["neutral"]), shape["neutral"]
    scale = MOVES / (faces.scores.astype(np.float64).std(0) + 0.05)
    pose, rows = clipped_pose(faces), []
    for e in range(len(CLUSTERS)):
        of_class = clusters(faces, e, scores, neutral, scale, probabilities[:, e])
        of_class.sort(key=lambda m: -probabilities[m, e].mean())
        for order, members in enumerate(of_class):
            share = probabilities[members, e] / probabilities[members, e].sum()
            trust = len(members) / (len(members) + 10)
            rows.append(
                {
                    "expression": e,
                    "scores": share @ scores[members],
                    "shape": shape_of_class[e] + trust * (share @ shape_left[members]),
                    "texture": light_of_class[e]
                    + trust * (share @ light_left[members].astype(np.float32)),
                    "pose": share @ pose[members, :2],
                    "rank": 0.15 * order,
                }
            )
    for order, sides in enumerate((("Left", "Right"), ("Right", "Left"))):
        prescribed = neutral.copy()
        for side, recipe in zip(sides, (CONTEMPT_RECIPE, CONTEMPT_OTHER_SIDE), strict=True):
            for name, value in recipe.items():
                prescribed[SCORE[name + side]] += value
        empty = {"shape": np.zeros(956), "texture": np.zeros(len(place)), "pose": np.zeros(2)}
        rows.append(
            {"expression": int(CONTEMPT), "scores": prescribed, "rank": 0.15 * order, **empty}
        )
    bank["expression"] = torch.tensor([r["expression"] for r in rows])
    for name in ("scores", "shape", "pose", "rank"):
        bank[name] = torch.from_numpy(np.stack([r[name] for r in rows])).float()
    bank["shape"] = bank["shape"].reshape(len(rows), -1, 2)
    bank["texture"] = full_maps(np.stack([r["texture"] for r in rows]), place)
    bank["mouth"] = torch.zeros(len(rows), *MOUTH_SHAPE)
    bank["gain"] = torch.full((len(Expression),), FIRST_GAIN)
    return bank, shape


def common_scores(faces: Faces, neutral: np.ndarray) -> np.ndarray:
    """Return the scores with FER2013's moved, so that its neutral mean is that of LFW.

    At 48 pixels MediaPipe's scores have a bias.
    """
    scores, small = faces.scores.astype(np.float64), faces.origin == FER2013
    shift = scores[small & (faces.expression == NEUTRAL)].mean(0) - neutral
    moved: np.ndarray = np.clip(scores - shift * small[:, None], 0, 1)
    return moved


def clusters(
    faces: Faces,
    expression: int,
    scores: np.ndarray,
    neutral: np.ndarray,
    scale: np.ndarray,
    probability: np.ndarray,
) -> list[np.ndarray]:
    """Return the members of each cluster of an expression, the most convincing ones."""
    from sklearn.cluster import KMeans

    pool = (faces.expression == expression) & (np.abs(faces.pose[:, 0]) < NEUTRAL_YAW)
    if expression not in (NEUTRAL, HAPPY):
        pool &= faces.origin != LONDON  # which has only these two
    believed = pool & (probability >= np.quantile(probability[pool], 1 - BELIEVED))
    chosen = np.flatnonzero(believed)
    count = max(1, min(CLUSTERS[expression], len(chosen) // 3))
    found = KMeans(count, n_init=4, random_state=expression).fit((scores[chosen] - neutral) * scale)
    members = [chosen[found.labels_ == k] for k in range(count)]
    members = [m for m in members if len(m) >= SMALLEST] or [max(members, key=len)]
    return [m[np.argsort(-probability[m])][:LARGEST] for m in members]


def symmetric(bank: Bank, mirror: np.ndarray) -> Bank:
    """Return the bank with all rows but contempt's made symmetric."""
    both = bank["expression"] != CONTEMPT
    scores = (bank["scores"] + bank["scores"][:, MIRRORED_SCORES]) / 2
    for name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        scores[:, SCORE[name]] = 0.02
    shape = bank["shape"]
    even = (shape + shape[:, torch.from_numpy(mirror)] * torch.tensor([-1.0, 1.0])) / 2
    return bank | {
        "scores": torch.where(both[:, None], scores, bank["scores"]),
        "shape": torch.where(both[:, None, None], even, shape),
        "texture": (bank["texture"] + bank["texture"].flip(-1)) / 2,
    }


def smiling_pairs(faces: Faces) -> tuple[Faces, Faces]:
    """Return the train people of London, neutral and smiling."""
    people: dict[str, dict[int, int]] = {}
    for i in np.flatnonzero((faces.origin == LONDON) & (faces.split == "train")):
        people.setdefault(str(faces.person[i]), {})[int(faces.expression[i])] = int(i)
    both = [p for p in people.values() if NEUTRAL in p and HAPPY in p]
    # in the order of the smiling photographs, so that draws from them can be repeated
    both.sort(key=lambda p: p[HAPPY])
    neutral, happy = (faces.take(np.array([p[e] for p in both])) for e in (NEUTRAL, HAPPY))
    return neutral, happy


def add_london(bank: Bank, shape: dict[str, np.ndarray], london: Faces) -> Bank:
    """Return the bank with the mean change from neutral to posed smile as the first happy row."""
    before, after = smiling_pairs(london)
    index, weights, texel = face_samples(shape["reference"], TEXTURE)

    def log_light(faces: Faces) -> Tensor:
        points = sample_points(faces.mesh[..., :2], index, weights)
        return torch.log(read_light(faces.grey(), points) + FLOOR)

    texture = full_maps(
        (log_light(after) - log_light(before)).median(0).values[None].numpy(), texel
    )
    change = torch.from_numpy((after.scores - before.scores).mean(0)) * bank["moves"]
    change = (change + change[MIRRORED_SCORES]) / 2
    texture = (texture + texture.flip(-1))[0] / 2
    texture = texture - (change @ bank["appearance"].flatten(1)).view_as(texture)

    still = [stabilise(f.mesh[..., :2].astype(float), shape["stable"])[0] for f in (before, after)]
    moved = (still[1] - still[0]).reshape(len(after), -1).mean(0)
    explained = ((after.scores - before.scores) * MOVES).mean(0) @ shape["basis"]
    left = torch.from_numpy(moved - explained).float().view(-1, 2)
    left = (left + left[torch.from_numpy(shape["mirror"])] * torch.tensor([-1.0, 1.0])) / 2

    happy, neutral = (torch.from_numpy(f.scores.mean(0)) for f in (after, before))
    scores = (happy + happy[MIRRORED_SCORES]) / 2
    row = {
        "expression": torch.tensor(int(HAPPY)),
        "scores": LONDON_GAIN * (scores - neutral) + bank["rest"],
        "shape": LONDON_GAIN * left,
        "texture": LONDON_GAIN * texture * (bank["mask"] > 0),
        "mouth": london_mouth(after, shape["reference"], happy, bank["moves"]),
        "pose": torch.zeros(2),
        "rank": torch.tensor(-2.0),
    }
    return insert(bank, row)


def london_mouth(faces: Faces, reference: np.ndarray, happy: Tensor, moves: Tensor) -> Tensor:
    """Return the interior of a smile: half the median of open ones, half the most usual one."""
    index, weights, _, place = mouth_samples(reference)
    points = sample_points(faces.mesh[..., :2], index, weights)
    light = (
        read_light(faces.grey(), points) / skin_level(faces.grey(), faces.mesh[..., :2])[:, None]
    )
    mouths = fill(light, place)
    gap = torch.from_numpy(opening(faces.mesh[..., :2])).float()
    sharp = crispness(mouths)
    unusual = ((torch.from_numpy(faces.scores) - happy) * moves).square().sum(1)
    unusual = unusual + 10 * (gap - 0.045).abs() - 0.5 * sharp / sharp.median()
    return 0.5 * mouths[gap > gap.median()].median(0).values + 0.5 * mouths[unusual.argmin()]
