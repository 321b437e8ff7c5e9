"""What a sum of pictures, moved into place, can draw of a face: an active appearance model.

As Cootes et al. (2001): the landmarks of faces vary along a few principal components, which say how
a shape at rest moves; seen in that shape, faces are a mean and principal components of their
pixels. Here both are dense: a component of shape is a flow, and the pictures are a pyramid, at each
resolution the components of what those below leave (as Burt & Adelson 1983). How faces differ says
little of what lids and brows do, which is small; so finer components of shape, by which landmarks
alone move, are those of what expressions do (`fit_moves`). At rest the mouth is
open: what is inside one has a place there, and closes to a line. What is inside a closed one
nobody sees, so it is taken to be the usual. All of it is fitted in closed form, so a generator that
begins with it begins with faces that are sharp and can move.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.errors import MissingDependencyError
from expraug.faces.composite import face_mask
from expraug.faces.warp import enlarge, pixel_grid, resized, sample
from expraug.networks.face_mesh import LANDMARKS

FLOW = 32
"""Side of the flows."""
_STIFFNESS = 1e-3  # of the thin plate between landmarks
_FAINT = 1e-6  # components of less variance are left out
_NOISE = 0.03  # shares of the widest move of landmarks, below which they only tremble
_UNUSUAL = 6  # times the median squared difference of a shape: misplaced landmarks, mostly
_FARTHEST = 3.5  # standard deviations of a component
_ROUNDS, _DAMPING = 24, 0.5  # of finding what moves onto a pixel
INNER_LIPS = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415]  # landmarks along the upper one, …
INNER_LIPS += [308, 324, 318, 402, 317, 14, 87, 178, 88, 95]  # … and back along the lower one
_UPPER_LIP, _LOWER_LIP = 13, 14
_SHUT = 0.2  # of the gap at rest, below which lips only seem to part
_DARK = 0.25  # share of open mouths that are darker than what a closed one is taken to hide
_SORTED = 1 << 24  # numbers that torch.quantile takes
_EDGE = 0.02  # of the mouth, how soft it is, in units of `pixel_grid`
_OPEN = 0.9  # share of faces whose mouths are less open than those that it is open like at rest


class Pictures(nn.Module):
    """Pictures and flows that latents add up.

    Args:
        sides: of the pictures, in pixels, each twice the one before.
        layers: of each side, which layers' latents add up pictures of it; the last one moves them.
        width: length of a latent.
    """

    rest: Tensor
    """(V, 2), landmarks at rest."""
    flow: Tensor
    """(W, 2, FLOW, FLOW), from rest to where the parts are, as `grid_sample` has it."""

    marks: Tensor
    """(W, V, 2), how each number of a shape moves the landmarks, in fractions of the frame."""

    inside: Tensor
    """(1, 1, S, S), in [-1, 1], what is usual in an open mouth at rest but for the teeth."""

    def __init__(self, sides: Sequence[int], layers: Sequence[Sequence[int]], width: int) -> None:
        super().__init__()
        self.sides, self.layers, self.width = tuple(sides), tuple(map(tuple, layers)), width
        self.register_buffer("rest", torch.zeros(LANDMARKS, 2))
        self.register_buffer("flow", torch.zeros(width, 2, FLOW, FLOW))
        self.register_buffer("marks", torch.zeros(width, LANDMARKS, 2))
        self.register_buffer("inside", torch.zeros(1, 1, sides[-1], sides[-1]))
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
            (N, W) latents of their shapes, each dimension of mean square 1, or 0 throughout.

        Raises:
            MissingDependencyError: SciPy is not installed.
        """
        mean = at_rest(landmarks)
        self.rest.copy_(mean)
        moves = (landmarks - mean).flatten(1)
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
        self.marks.zero_()
        self.marks[: len(modes)] = modes
        shapes = faces.new_zeros(len(faces), self.width)
        shapes[:, : len(modes)] = (moves @ axes / spread).clamp(-_FARTHEST, _FARTHEST)
        still = [
            self.bring(2 * part - 1, shape)
            for part, shape in zip(faces.split(512), shapes.split(512), strict=True)
        ]
        self.inside.copy_(usual_inside(torch.cat(still), self.openness(shapes)))
        still = [self._filled(s, z) for s, z in zip(still, shapes.split(512), strict=True)]
        self._read(torch.cat(still), fit=True)
        return shapes

    @torch.no_grad()
    def fit_moves(self, moves: Tensor) -> Tensor:
        """Let the numbers of a shape that do nothing yet stand for what expressions do and the
        others cannot say.

        Args:
            moves: (N, V, 2) float, of landmarks, in fractions of the frame.

        Returns:
            The share of the moves, squared, that no number stands for: before, and now, (2,).
        """
        free = ~self.coarse
        self.marks[free] = 0
        flat = moves.flatten(1)
        left = flat - (flat @ self.solver()) @ self.marks.flatten(1)
        rank = min(int(free.sum()), *left.shape)
        _, values, axes = torch.pca_lowrank(left, rank, center=False, niter=4)
        modes = (values / len(left) ** 0.5)[:, None] * axes.T
        self.marks[free.nonzero()[:rank, 0]] = modes.view(-1, *self.rest.shape)
        now = flat - (flat @ self.solver()) @ self.marks.flatten(1)
        return torch.stack([left.square().sum(), now.square().sum()]) / flat.square().sum()

    @property
    def coarse(self) -> Tensor:
        """(W,) bool, which numbers of a shape move pictures."""
        return self.flow.flatten(1).any(1)

    def shapes(self, landmarks: Tensor, solver: Tensor | None = None) -> Tensor:
        """Return the (N, W) latents of the shapes that (N, V, 2) landmarks have.

        Args:
            solver: what `solver` returns, for whoever asks often.
        """
        solver = self.solver() if solver is None else solver
        return (landmarks - self.rest).flatten(1) @ solver

    def solver(self) -> Tensor:
        """Return what turns moves of landmarks from rest into latents, (2 V, W)."""
        moves, coarse = self.marks.flatten(1).cpu(), self.coarse.cpu()
        # on the CPU, where so small a decomposition is quicker, and the same for all devices; fine
        # moves are at right angles to all others, and small: none of them is noise
        solver = torch.zeros_like(moves)
        for some, noise in ((coarse[:, None], _NOISE), (~coarse[:, None], _FAINT)):
            solver += torch.linalg.pinv(moves * some, rtol=noise).T * some
        return solver.T.contiguous().to(self.marks.device)

    def paint(self, latents: Tensor, number: int) -> Tensor:
        """Return the pictures of the side of this number that (B, L, W) latents add up:
        (B, 1, s, s) float, about in [-1, 1], over that of the side below, enlarged."""
        image = self.get_buffer(f"middle{number}").expand(len(latents), -1)
        for layer in self.layers[number]:
            image = torch.addmm(image, latents[:, layer], self.get_buffer(f"layer{layer}"))
        return image.view(-1, 1, self.sides[number], self.sides[number])

    def read(self, faces: Tensor, shapes: Tensor) -> Tensor:
        """Return the (B, L, W) latents that paint (B, 1, S, S) faces of these (B, W) shapes best.

        The last latent, that of the shape, is 0.
        """
        still = self._filled(self.bring(2 * faces - 1, shapes), shapes)
        latents = self._read(still)
        return torch.cat([latents, torch.zeros_like(latents[:, :1])], 1)

    def bring(self, faces: Tensor, shapes: Tensor) -> Tensor:
        """Bring (B, C, S, S) faces of (B, W) shapes, 0 beside them, to rest."""
        moved, side = self._moves(shapes), faces.shape[-1]
        return sample(faces, pixel_grid(side, faces) + resized(moved, side), "zeros")

    def move(self, faces: Tensor, shapes: Tensor) -> Tensor:
        """Move (B, C, s, s) faces at rest, 0 beside them, into (B, W) shapes."""
        side = faces.shape[-1]
        back = self._back(self._moves(shapes), side)
        return sample(faces, pixel_grid(side, faces) + back, "zeros")

    def displacement(self, before: Tensor, after: Tensor) -> Tensor:
        """Return how landmarks move between (B, W) shapes, (B, V, 2), in fractions of the frame."""
        return ((after - before) @ self.marks.flatten(1)).view(-1, *self.rest.shape)

    def mouth(self, side: int) -> Tensor:
        """Return what lies in the mouth at rest, (1, 1, side, side) in [0, 1], with a soft edge."""
        ring = 2 * self.rest[INNER_LIPS] - 1
        along = F.normalize(ring.roll(-1, 0) - ring, dim=1)
        away = pixel_grid(side, ring)[0].flatten(1).T[:, None] - ring
        # how far on the inner side of each edge: the ring turns clockwise on the screen
        inside = along[:, 0] * away[..., 1] - along[:, 1] * away[..., 0]
        return (inside.amin(1) / _EDGE + 0.5).clamp(0, 1).view(1, 1, side, side)

    def openness(self, shapes: Tensor) -> Tensor:
        """Return how open the mouth is in (B, W) shapes, (B,): 0 if it is closed, 1 as at rest."""
        lips = self.rest[[_UPPER_LIP, _LOWER_LIP]]
        height = lips[:, 1] + moves_at(self._moves(shapes), lips)[:, :, 1]
        usual = (lips[1, 1] - lips[0, 1]).clamp(min=_EDGE)
        return ((height.diff(dim=1)[:, 0] / usual - _SHUT) / (1 - _SHUT)).clamp(min=0)

    def opened(self, before: Tensor, after: Tensor) -> Tensor:
        """Return which part of the mouth is open in (B, W) shapes and was not in those before, (B,)
        in [0, 1]."""
        first, last = self.openness(before), self.openness(after)
        return (last - first).clamp(min=0) / last.clamp(min=_EDGE)

    def flow_in_face(self) -> Tensor:
        """Return the flows as they are in the face, (W, 2, FLOW, FLOW): to measure how far they go,
        since beside it they go anywhere."""
        return self.flow * face_mask(FLOW).to(self.flow)

    def _moves(self, shapes: Tensor) -> Tensor:
        return (shapes @ self.flow.flatten(1)).view(-1, 2, FLOW, FLOW)

    def _back(self, moved: Tensor, side: int) -> Tensor:
        """Return from a pixel to what (B, 2, FLOW, FLOW) flows move onto it, (B, 2, s, s)."""
        grid = pixel_grid(side, moved)
        back = torch.zeros_like(grid)
        for _ in range(_ROUNDS):
            back = back - _DAMPING * (back + sample(moved, grid + back))
        return back

    def _filled(self, still: Tensor, shapes: Tensor) -> Tensor:
        """Return faces at rest with the usual in the mouth, as far as their shapes close it."""
        closed = (1 - self.openness(shapes)).clamp(min=0).view(-1, 1, 1, 1)
        return torch.lerp(still, self.inside, self.mouth(still.shape[-1]) * closed)

    def _read(self, still: Tensor, fit: bool = False) -> Tensor:
        """Return the (N, L - 1, W) latents of faces at rest; the pictures may be fitted first."""
        image = still.new_zeros(len(still), 1, 1, 1)
        latents = list(still.new_zeros(max(map(max, self.layers)) + 1, len(still), self.width))
        for number, side in enumerate(self.sides):
            below = enlarge(image) if number else 0
            rest = (resized(still, side) - below).flatten(1)
            if fit:
                self._fit_side(rest, number)
            rest = rest - self.get_buffer(f"middle{number}")
            for layer in self.layers[number]:
                pictures = self.get_buffer(f"layer{layer}")
                power = pictures.square().sum(1)
                latents[layer] = rest @ pictures.T / power.clamp(min=_FAINT) * (power > _FAINT)
            image = self.paint(torch.stack(latents, 1), number) + below
        return torch.stack(latents, 1)

    def _fit_side(self, rest: Tensor, number: int) -> None:
        """Fit the pictures of a side to the (N, side * side) pixels that those below leave."""
        self.get_buffer(f"middle{number}").copy_(rest.mean(0))
        layers = self.layers[number]
        rank = min(len(layers) * self.width, *rest.shape)
        _, values, axes = torch.pca_lowrank(rest - rest.mean(0), rank, False, niter=4)
        found = (values / len(rest) ** 0.5)[:, None] * axes.T
        for layer, part in zip(layers, found.split(self.width), strict=False):
            self.get_buffer(f"layer{layer}").zero_()[: len(part)] = part


def moves_at(flows: Tensor, points: Tensor) -> Tensor:
    """Return how (B, 2, FLOW, FLOW) flows move (V, 2) points, fractions of the frame: (B, V, 2)."""
    place = (2 * points - 1).T[None, :, :, None]
    return sample(flows, place)[..., 0].transpose(1, 2) / 2


def usual_inside(still: Tensor, openness: Tensor) -> Tensor:
    """Return what is in open mouths but for the teeth, (1, S, S), of (N, 1, S, S) faces at rest."""
    wide = openness >= 1
    seen = still[wide] if wide.any() else still
    return seen[: _SORTED // seen[0].numel()].quantile(_DARK, 0)


def at_rest(landmarks: Tensor) -> Tensor:
    """Return the landmarks, (V, 2), of a usual face with an open mouth, of those of many faces."""
    gap = landmarks[:, _LOWER_LIP, 1] - landmarks[:, _UPPER_LIP, 1]
    widest = gap.topk(max(1, round((1 - _OPEN) * len(gap)))).indices
    return landmarks[widest].median(0).values


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
