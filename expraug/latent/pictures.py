"""What a sum of pictures, moved into place, can draw of a face: an active appearance model.

As Cootes et al. (2001): the landmarks of faces vary along a few principal components, which say how
a mean shape moves; seen in that mean shape, faces are a mean and principal components of their
pixels. Here both are dense: a component of shape is a flow, and the pictures are a pyramid, at each
resolution the components of what those below leave (as Burt & Adelson 1983). All of it is fitted in
closed form, so a generator that begins with it begins with faces that are sharp and can move.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.errors import MissingDependencyError
from expraug.faces.landmarks import LANDMARKS
from expraug.faces.paste import face_mask

FLOW = 32
"""Side of the flows."""
_STIFFNESS = 1e-3  # of the thin plate between landmarks
_FAINT = 1e-6  # components of less variance are left out
_NOISE = 0.03  # shares of the widest way that landmarks move, below which they only tremble
_UNUSUAL = 6  # times the median squared difference of a shape: misplaced landmarks, mostly
_FARTHEST = 3.5  # standard deviations of a component
_ROUNDS, _DAMPING = 8, 0.5  # of finding what moves onto a pixel; an open mouth stretches it thrice


class Pictures(nn.Module):
    """Pictures and flows that codes add up.

    Args:
        sides: of the pictures, in pixels, each twice the one before.
        layers: of each side, which layers' codes add up pictures of it; the last code moves them.
        width: length of a code.
    """

    rest: Tensor
    """(V, 2), landmarks of the mean shape."""
    flow: Tensor
    """(W, 2, FLOW, FLOW), from the mean shape to where its parts are, as `grid_sample` has it."""

    def __init__(self, sides: Sequence[int], layers: Sequence[Sequence[int]], width: int) -> None:
        super().__init__()
        self.sides, self.layers, self.width = tuple(sides), tuple(map(tuple, layers)), width
        self.register_buffer("rest", torch.zeros(LANDMARKS, 2))
        self.register_buffer("flow", torch.zeros(width, 2, FLOW, FLOW))
        for number, side in enumerate(sides):
            self.register_buffer(f"middle{number}", torch.zeros(side * side))
            for layer in layers[number]:
                self.register_buffer(f"layer{layer}", torch.zeros(width, side * side))

    @torch.no_grad()
    def fit(self, faces: Tensor, landmarks: Tensor) -> Tensor:
        """Fit flows and pictures to real faces.

        Args:
            faces: (N, 1, S, S) float in [0, 1].
            landmarks: (N, 478, 2) float, (x, y) as fractions of the frame.

        Returns:
            (N, W) codes of their shapes, each dimension of variance 1, or 0 throughout.

        Raises:
            MissingDependencyError: SciPy is not installed.
        """
        mean = landmarks.median(0).values
        self.rest.copy_(mean)
        moves = moves_of(landmarks, mean)
        size = moves.square().sum(1)
        usual = moves[size < _UNUSUAL * size.median()]
        rank = min(self.width // 2, *usual.shape)
        _, values, axes = torch.pca_lowrank(usual, rank, center=False, niter=4)
        spread = values / len(usual) ** 0.5
        there = spread > _FAINT**0.5 * spread[0]
        spread, axes = spread[there], axes[:, there]
        modes = (spread[:, None] * axes.T).view(-1, *mean.shape)
        self.flow.zero_()
        self.flow[: len(modes)] = dense(mean, modes)
        shapes = faces.new_zeros(len(faces), self.width)
        shapes[:, : len(modes)] = (moves @ axes / spread).clamp(-_FARTHEST, _FARTHEST)
        still = torch.cat(
            [
                self.bring(2 * f - 1, z)
                for f, z in zip(faces.split(512), shapes.split(512), strict=True)
            ]
        )
        image = still.new_zeros(len(faces), 1, 1, 1)
        codes = faces.new_zeros(len(faces), max(map(max, self.layers)) + 1, self.width)
        for number in range(len(self.sides)):
            rest = self._rest(still, image, number)
            self.get_buffer(f"middle{number}").copy_(rest.mean(0))
            layers = self.layers[number]
            rank = min(len(layers) * self.width, *rest.shape)
            _, values, axes = torch.pca_lowrank(rest - rest.mean(0), rank, False, niter=4)
            found = (values / len(faces) ** 0.5)[:, None] * axes.T
            for layer, part in zip(layers, found.split(self.width), strict=False):
                self.get_buffer(f"layer{layer}").zero_()[: len(part)] = part
            codes = self._read(rest, number, codes)
            image = self._onto(image, number, codes)
        return shapes

    def shapes(self, landmarks: Tensor) -> Tensor:
        """Return the (N, W) codes of the shapes that (N, V, 2) landmarks have."""
        place = (2 * self.rest - 1).expand(self.width, 1, -1, -1)
        at = F.grid_sample(self.flow, place, padding_mode="border", align_corners=False)
        ways = at[:, :, 0].transpose(1, 2).flatten(1) / 2  # (W, 2 V)
        return moves_of(landmarks, self.rest) @ torch.linalg.pinv(ways, rtol=_NOISE)

    def paint(self, codes: Tensor, number: int) -> Tensor:
        """Return the pictures of the side of this number that (B, L, W) codes add up: (B, 1, s, s)
        float, about in [-1, 1], over that of the side below, enlarged."""
        image = self.get_buffer(f"middle{number}").expand(len(codes), -1)
        for layer in self.layers[number]:
            image = torch.addmm(image, codes[:, layer], self.get_buffer(f"layer{layer}"))
        return image.view(-1, 1, self.sides[number], self.sides[number])

    def read(self, faces: Tensor, shapes: Tensor) -> Tensor:
        """Return the (B, L, W) codes that paint (B, 1, S, S) faces of these (B, W) shapes best.

        The last code, that of the shape, is 0.
        """
        still = self.bring(2 * faces - 1, shapes)
        image = faces.new_zeros(len(faces), 1, 1, 1)
        codes = faces.new_zeros(len(faces), max(map(max, self.layers)) + 2, self.width)
        for number in range(len(self.sides)):
            codes = self._read(self._rest(still, image, number), number, codes)
            image = self._onto(image, number, codes)
        return codes

    def bring(self, faces: Tensor, shapes: Tensor) -> Tensor:
        """Bring (B, 1, S, S) faces of (B, W) shapes, 0 beside them, into the mean shape."""
        moved = self._moves(shapes)
        return _sample(faces, _grid(faces) + _resized(moved, faces.shape[-1]), "zeros")

    def move(self, faces: Tensor, shapes: Tensor) -> Tensor:
        """Move (B, 1, s, s) faces in the mean shape, 0 beside them, into (B, W) shapes."""
        moved, grid = self._moves(shapes), _grid(faces)
        back = torch.zeros_like(grid)
        for _ in range(_ROUNDS):
            back = back - _DAMPING * (back + _sample(moved, grid + back))
        return _sample(faces, grid + back, "zeros")

    def flow_in_face(self) -> Tensor:
        """Return the flows as they are in the face, (W, 2, FLOW, FLOW): to measure how far they go,
        since beside it they go anywhere."""
        return self.flow * face_mask(FLOW).to(self.flow)

    def _moves(self, shapes: Tensor) -> Tensor:
        return (shapes @ self.flow.flatten(1)).view(-1, 2, FLOW, FLOW)

    def _rest(self, still: Tensor, image: Tensor, number: int) -> Tensor:
        small = F.interpolate(still, (self.sides[number],) * 2, mode="area")
        return (small - enlarge(image) if number else small).flatten(1)

    def _read(self, rest: Tensor, number: int, codes: Tensor) -> Tensor:
        rest = rest - self.get_buffer(f"middle{number}")
        found = list(codes.unbind(1))
        for layer in self.layers[number]:
            pictures = self.get_buffer(f"layer{layer}")
            power = pictures.square().sum(1)
            found[layer] = rest @ pictures.T / power.clamp(min=_FAINT) * (power > _FAINT)
        return torch.stack(found, 1)

    def _onto(self, image: Tensor, number: int, codes: Tensor) -> Tensor:
        painted = self.paint(codes, number)
        return painted + enlarge(image) if number else painted


def moves_of(landmarks: Tensor, mean: Tensor) -> Tensor:
    """Return how (N, V, 2) landmarks differ from a mean shape, (V, 2): (N, 2 V).

    Where a face lies in its frame, and how large, is left to the pictures: each difference is that
    from the mean shape as an affine map lays it over the face, and mapped back.
    """
    base = torch.cat([mean, torch.ones(len(mean), 1)], 1)
    maps = torch.linalg.pinv(base) @ landmarks  # (N, 3, 2)
    moves = (landmarks - base @ maps) @ torch.linalg.inv(maps[:, :2])
    return moves.flatten(1)


def dense(points: Tensor, moves: Tensor) -> Tensor:
    """Return flows between points, as smooth as a thin plate (Bookstein 1989).

    Args:
        points: (V, 2) float, (x, y) as fractions of the frame.
        moves: (K, V, 2) float, of the points.

    Returns:
        (K, 2, FLOW, FLOW) float, in units of `grid_sample`: the frame is 2 wide.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """
    try:
        from scipy.interpolate import RBFInterpolator
    except ImportError as error:
        raise MissingDependencyError(
            "fitting flows needs SciPy: pip install 'expraug[train]'"
        ) from error
    values = moves.permute(1, 0, 2).flatten(1).numpy()
    plate = RBFInterpolator(points.numpy(), values, smoothing=_STIFFNESS)
    middle = (np.arange(FLOW) + 0.5) / FLOW
    y, x = np.meshgrid(middle, middle, indexing="ij")
    found = plate(np.stack([x.ravel(), y.ravel()], 1))
    flow = torch.from_numpy(2 * found).float().view(FLOW, FLOW, len(moves), 2)
    return flow.permute(2, 3, 0, 1).contiguous()


def enlarge(x: Tensor) -> Tensor:
    """Return (B, C, s, s) images twice as large."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _grid(faces: Tensor) -> Tensor:
    side = faces.shape[-1]
    middle = (torch.arange(side, device=faces.device, dtype=faces.dtype) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack([x, y])[None]


def _resized(flow: Tensor, side: int) -> Tensor:
    return F.interpolate(flow, (side, side), mode="bilinear", align_corners=False)


def _sample(images: Tensor, place: Tensor, padding: str = "border") -> Tensor:
    """Return what (B, C, s, s) images show at (B, 2, t, t) places."""
    grid = place.expand(len(images), -1, -1, -1).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
