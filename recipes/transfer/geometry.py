"""How a face's shape and light follow its scores: two ridge regressions over all lending faces.

Both explain a face by its blendshape scores, its label, its pose and, as a nuisance that is thrown
away, the set it comes from and who it shows: the first principal components of the identity
descriptor. What stays with the scores is then the expression, not the kind of person who shows it.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.real_faces import FER2013, LONDON, Faces
from recipes.transfer.mesh import (
    CHEEK,
    EYE_LEFT,
    EYE_RIGHT,
    HIGH,
    LOW,
    MIRRORED_SCORES,
    OVAL,
    SCORE,
    STABLE,
    TEXTURE,
    flip,
    mirror_index,
    stabilise,
    vertices,
)

COMPONENTS = 24
"""Principal components of the identity descriptor."""
CLASSES = 8
LARGEST_ANGLE = 45
"""Beyond it, in degrees, MediaPipe's far half of a face is a guess."""
SHAPE_PENALTIES = (1e-5, 3e-3, 1e-3, 1e-4)
"""Of the scores, classes, scores times pose, and nuisances: large where a term could take what
belongs to the scores."""
LIGHT_PENALTIES = (2e-4, 2e-3, 1e-4)
"""Of the scores, classes and nuisances."""
FER_WEIGHTS = (0.4, 0.6)
"""Weight of a FER2013 face in the regressions of shape and light: it has 48 pixels a side, so its
landmarks are less exact."""
LOCAL = 11.0
"""Light is relative to its mean over this many texels (standard deviation): furrows and folds, not
where the lamp is."""
FLOOR = 0.06
"""Added to luminance before the logarithm, so that dark pixels do not rule it."""
NEUTRAL_YAW = 25
"""Degrees up to which a face counts as frontal."""


def identity_components(descriptors: np.ndarray) -> np.ndarray:
    """Return the (N, 24) standardised principal components of identity descriptors."""
    centred = descriptors - descriptors.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2]
    components: np.ndarray = centred @ directions[:COMPONENTS].T
    scaled: np.ndarray = components / components.std(0)
    return scaled


def design(
    scores: np.ndarray,
    expression: np.ndarray,
    pose: np.ndarray,
    origin: np.ndarray,
    components: np.ndarray,
) -> tuple[np.ndarray, list[slice]]:
    """Return the regressors and where scores, classes, scores × pose and nuisances are.

    Neutral is the class without a column.
    """
    yaw, pitch = pose[:, :1] / 30, pose[:, 1:2] / 30
    one = np.ones((len(scores), 1))
    blocks = [
        scores,
        np.eye(CLASSES)[expression][:, 1:],
        np.concatenate([scores * yaw, scores * pitch], 1),
        np.concatenate(
            [one, yaw, pitch, yaw**2, pitch**2, yaw * pitch, np.eye(3)[origin][:, 1:], components],
            1,
        ),
    ]
    ends = np.cumsum([b.shape[1] for b in blocks])
    columns = [slice(int(e) - b.shape[1], int(e)) for e, b in zip(ends, blocks, strict=True)]
    return np.concatenate(blocks, 1), columns


def ridge(x: np.ndarray, y: np.ndarray, penalty: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted ridge regression of (N, K) y on (N, M) x, penalty (M,) a face."""
    weighted = x * weight[:, None]
    return np.linalg.solve(weighted.T @ x + np.diag(penalty) * len(x), weighted.T @ y)


def penalties(columns: list[slice], each: tuple[float, ...]) -> np.ndarray:
    """Return a penalty for each regressor; all but none for the constant, the first nuisance."""
    values = [np.full(p.stop - p.start, e) for p, e in zip(columns, each, strict=True)]
    values[-1][0] = 1e-9
    return np.concatenate(values)


def clipped_pose(faces: Faces) -> np.ndarray:
    return np.clip(faces.pose.astype(np.float64), -LARGEST_ANGLE, LARGEST_ANGLE)


def fit_shape(faces: Faces, components: np.ndarray) -> dict[str, np.ndarray]:
    """Fit the displacement of landmarks, on every face and its mirror image.

    Args:
        faces: the lending faces.
        components: (N, 24) from `identity_components`.

    Returns:
        "basis", "basis_yaw" and "basis_pitch" (52, 956); "mirror" (478,); "stable" (16, 2), the
        frame of `stabilise`; "mean" (478, 2), the resting face; "reference" (478, 2), the same
        with open mouth and eyes, on which texture is laid out; "neutral" (52,), mean scores.
    """
    mesh = faces.mesh[..., :2].astype(np.float64)
    photograph = faces.origin != FER2013
    frontal = (np.abs(faces.pose[:, 0]) < 4) & (faces.expression == 0) & photograph
    mirror = mirror_index(mesh[frontal].mean(0))
    if (mirror[mirror] == np.arange(len(mirror))).mean() < 0.99:
        raise ValueError("the mean frontal face is not symmetric: too few frontal neutral faces")
    stable = stabilise(mesh)[1]
    other = [STABLE.index(int(mirror[k])) for k in STABLE]
    stable = (stable + flip(stable[other])) / 2
    still, _ = stabilise(mesh, stable)

    scores, pose = faces.scores.astype(np.float64), clipped_pose(faces)
    expression, origin = np.tile(faces.expression, 2), np.tile(faces.origin, 2)
    x, columns = design(
        np.concatenate([scores, scores[:, MIRRORED_SCORES]]),
        expression,
        np.concatenate([pose, pose * [-1, 1, -1]]),
        origin,
        np.tile(components, (2, 1)),
    )
    y = np.concatenate([still, flip(still[:, mirror])]).reshape(len(x), -1)
    weight = np.where(origin == FER2013, FER_WEIGHTS[0], 1.0)
    solved = ridge(x, y, penalties(columns, SHAPE_PENALTIES), weight)
    basis = solved[columns[0]]
    with_pose = solved[columns[2]]

    resting = (faces.expression == 0) & photograph & (faces.origin != LONDON)
    neutral = scores[resting].mean(0)
    mean = still[frontal].mean(0)
    mean = (mean + flip(mean[mirror])) / 2
    opened = neutral.copy()
    opened[SCORE["jawOpen"]], opened[SCORE["mouthClose"]] = 0.55, 0
    opened[[SCORE["eyeBlinkLeft"], SCORE["eyeBlinkRight"]]] = 0
    opened[[SCORE["eyeWideLeft"], SCORE["eyeWideRight"]]] = 0.3
    return {
        "basis": basis,
        "basis_yaw": with_pose[: len(basis)],
        "basis_pitch": with_pose[len(basis) :],
        "mirror": mirror,
        "stable": stable,
        "mean": mean,
        "reference": mean + ((opened - neutral) @ basis).reshape(mean.shape),
        "neutral": neutral,
    }


def resting_scores(faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Return the median scores of frontal neutral LFW faces, and how far most are from it.

    Within that spread a source's scores are its own face, not an expression to be taken away.
    """
    of_lfw = (faces.origin != FER2013) & (faces.origin != LONDON)
    chosen = of_lfw & (faces.expression == 0) & (np.abs(faces.pose[:, 0]) < NEUTRAL_YAW)
    scores = faces.scores[chosen]
    rest = np.median(scores, 0)
    return rest, np.maximum(np.quantile(np.abs(scores - rest), 0.8, 0), 0.02)


def shape_residuals(
    faces: Faces, components: np.ndarray, stable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what scores do not explain: (8, 956) of each class, and (N, 956) of each face."""
    still, _ = stabilise(faces.mesh[..., :2].astype(np.float64), stable)
    pose, scores = clipped_pose(faces), faces.scores.astype(np.float64)
    x, columns = design(scores, faces.expression, pose, faces.origin, components)
    y = still.reshape(len(x), -1)
    weight = np.where(faces.origin == FER2013, FER_WEIGHTS[0], 1.0)
    solved = ridge(x, y, penalties(columns, SHAPE_PENALTIES), weight)
    of_class = np.concatenate([np.zeros((1, y.shape[1])), solved[columns[1]]])
    return of_class, (y - x @ solved).astype(np.float32)


def blur(maps: Tensor, deviation: float) -> Tensor:
    """Blur (B, 1, H, W) maps with a Gaussian; outside is 0."""
    radius = int(3 * deviation)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * deviation**2))
    kernel = kernel / kernel.sum()
    across = F.conv2d(maps, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return F.conv2d(across, kernel.view(1, 1, -1, 1), padding=(radius, 0))


def texture_masks(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the face in the texture frame: hard, and soft at its rim and halved over the eyes."""

    def pixels(part: tuple[int, ...]) -> np.ndarray:  # in sixteenths, as `shift=4` reads them
        points = (reference[list(part)] - LOW) / (HIGH - LOW) * TEXTURE * 16
        return np.round(points).astype(np.int32)

    hard = np.zeros((TEXTURE, TEXTURE), np.uint8)
    cv2.fillPoly(hard, [pixels(OVAL)], 1, shift=4)
    depth = cv2.distanceTransform(hard, cv2.DIST_L2, 5) / TEXTURE * (HIGH - LOW)
    soft = np.clip(depth / 0.07, 0, 1)
    soft = soft * soft * (3 - 2 * soft)
    eyes = np.zeros((TEXTURE, TEXTURE), np.uint8)
    for part in (EYE_LEFT, EYE_RIGHT):
        cv2.fillPoly(eyes, [pixels(part)], 1, shift=4)
    return hard, soft * (1 - 0.5 * cv2.GaussianBlur(eyes.astype(np.float32), (0, 0), 1.0))


def sample_points(mesh: np.ndarray, index: np.ndarray, weights: np.ndarray) -> Tensor:
    """Return where (N, 478, 2) meshes have their samples: (N, S, 2)."""
    corners = torch.from_numpy(vertices(mesh.astype(np.float64))).float()[:, index.reshape(-1)]
    corners = corners.reshape(len(mesh), -1, 3, 2)
    return (corners * torch.from_numpy(weights).float()[None, :, :, None]).sum(2)


def read_light(crops: Tensor, points: Tensor) -> Tensor:
    """Return the (N, S) luminance in [0, 1] of (N, 1, 128, 128) uint8 crops at canonical points."""
    grid = points[:, None] * 2 - 1
    return F.grid_sample(crops.float() / 255, grid, padding_mode="reflection", align_corners=False)[
        :, 0, 0
    ]


def skin_level(crops: Tensor, mesh: np.ndarray) -> Tensor:
    """Return the (N,) mean luminance of the cheeks."""
    return read_light(crops, torch.from_numpy(mesh[:, list(CHEEK)]).float()).mean(1)


def local_light(
    faces: Faces, reference: np.ndarray, index: np.ndarray, weights: np.ndarray, texel: np.ndarray
) -> tuple[Tensor, np.ndarray]:
    """Return the faces' log luminance less its local mean: (N, K) float16, and the (K,) texels."""
    within = texture_masks(reference)[0].reshape(-1)[texel] > 0
    place = torch.from_numpy(texel[within])

    def spread(values: Tensor) -> Tensor:
        maps = torch.zeros(len(values), 1, TEXTURE * TEXTURE)
        maps[:, 0, place] = values
        return blur(maps.reshape(-1, 1, TEXTURE, TEXTURE), LOCAL).reshape(len(values), -1)[:, place]

    covered = spread(torch.ones(1, len(place))) + 1e-6
    crops, parts = faces.grey(), []
    for start in range(0, len(faces), 400):
        some = slice(start, start + 400)
        points = sample_points(faces.mesh[some, :, :2], index[within], weights[within])
        light = torch.log(read_light(crops[some], points).half().float() + FLOOR)
        parts.append((light - spread(light) / covered).half())
    return torch.cat(parts), texel[within]


def fit_light(
    faces: Faces, components: np.ndarray, light: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit local light as `fit_shape` fits shape, without scores × pose.

    Returns:
        (52, K) for each score, (8, K) for each class, and the (N, K) float16 residuals.
    """
    scores, pose = faces.scores.astype(np.float64), clipped_pose(faces)
    x, columns = design(scores, faces.expression, pose, faces.origin, components)
    x = np.concatenate([x[:, columns[0]], x[:, columns[1]], x[:, columns[3]]], 1)
    ends = [columns[0].stop, columns[1].stop, x.shape[1]]
    columns = [slice(0, ends[0]), slice(*ends[:2]), slice(*ends[1:])]
    weight = np.where(faces.origin == FER2013, FER_WEIGHTS[1], 1.0)
    weighted = x * weight[:, None]
    inner = weighted.T @ x + np.diag(penalties(columns, LIGHT_PENALTIES)) * len(x)
    outer = np.zeros((x.shape[1], light.shape[1]))
    steps = [slice(s, s + 2000) for s in range(0, len(x), 2000)]
    for s in steps:
        outer += weighted[s].T @ light[s].float().numpy()
    solved = np.linalg.inv(inner) @ outer
    of_class = np.concatenate([np.zeros((1, light.shape[1])), solved[columns[1]]])
    rest = [(light[s].float().numpy() - x[s] @ solved).astype(np.float16) for s in steps]
    return solved[columns[0]], of_class, np.concatenate(rest)
