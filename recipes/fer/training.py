"""Training several small nets at once, all on the device: one CUDA graph with a stream for each.

A small net keeps a large GPU waiting for launches. So everything random is drawn ahead, a step of
all nets is recorded once and replayed; where that fails, and on a CPU, the same steps run one by
one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.fer.augment import NUMBERS, augment, view
from recipes.fer.conditions import Condition, Phase
from recipes.fer.nets import Net, build, split_norms
from recipes.training.precision import bfloat16

_WARM_UP = 3
"""Steps that run one by one before one is recorded."""


@dataclass(frozen=True)
class Recipe:
    """How a net is trained.

    Args:
        net: what is trained.
        steps, batch: optimiser steps, and real faces in each; the same for every condition.
        lr, weight_decay: of AdamW; one cycle, with cosine decay.
        smoothing: of the labels.
        balance: a class of n real faces is drawn in proportion to n to this power.
        mixup: parameter of the beta distribution that faces of a batch are mixed by (Zhang et al.
            2018); 0 for none.
        cutmix: whether a rectangle is pasted instead (Yun et al. 2019).
        ema: decay of the moving average of the weights, which is what is tested.
    """

    net: Net = field(default_factory=Net)
    steps: int = 3600
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    balance: float = 1.0
    mixup: float = 0.0
    cutmix: bool = False
    ema: float = 0.998


@dataclass(frozen=True)
class Samples:
    """What is trained on, on the device: real faces first, then synthetic ones.

    Args:
        pixels: (N, 48, 48) uint8.
        labels: (N,) long.
        real: (R,) long, rows that are drawn as real faces.
        pools: (P,) long for each condition's extra: rows that are drawn as such.
        classes: number of them.
        sources: (N,) long, the label of the face that a sample was made of; its own for a real one.
    """

    pixels: Tensor
    labels: Tensor
    real: Tensor
    pools: dict[str, Tensor]
    classes: int
    sources: Tensor


@dataclass(frozen=True)
class Run:
    """One net to train."""

    recipe: Recipe
    condition: Condition
    pool: str
    seed: int


class _Trainee:
    """A net in training: what was drawn for it, and the step that it takes."""

    def __init__(self, run: Run, samples: Samples, device: torch.device, half: bool = True) -> None:
        self.run, self.samples, self.device, self.half = run, samples, device, half
        recipe, condition = run.recipe, run.condition
        model = build(recipe.net, samples.classes, run.seed, condition.split_norm)
        self.model = model.to(device).train()
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.lr = torch.tensor(recipe.lr, device=device)
        cuda = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            self.lr,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=cuda,
        )
        steps = torch.arange(recipe.steps)
        warm = ((steps + 1) / max(1, recipe.steps // 20)).clamp(max=1)
        self.lrs = (recipe.lr * warm * (1 + (torch.pi * steps / recipe.steps).cos()) / 2).to(device)
        # the average of few steps is as short
        self.follow = (1 - ((1 + steps) / (10 + steps)).clamp(max=recipe.ema)).to(device)
        self.pairs = list(zip(self._floats(self.average), self._floats(self.model), strict=True))
        off, on = recipe.smoothing / samples.classes, 1 - recipe.smoothing
        self.targets = torch.eye(samples.classes, device=device) * on + off
        self.stream = torch.cuda.Stream() if cuda else None
        self.real_draws = torch.Generator().manual_seed(2 * run.seed)
        self.extra_draws = torch.Generator().manual_seed(2 * run.seed + 1)

    @staticmethod
    def _floats(model: nn.Module) -> list[Tensor]:
        return [t for t in model.state_dict().values() if t.is_floating_point()]

    def begin(self, first: int, phase: Phase, steps: int) -> None:
        """Draw all that a phase takes."""
        recipe, condition = self.run.recipe, self.run.condition
        self.real_count = round(recipe.batch * phase.real)
        self.extra_count = round(recipe.batch * phase.extra)
        balance = recipe.balance if condition.balance is None else condition.balance
        rows = self._rows(self.samples.real, balance, steps, self.real_count)
        numbers = torch.rand(steps, self.real_count, NUMBERS, generator=self.real_draws)
        if self.extra_count:
            # every class as often as the others
            pool = self.samples.pools[self.run.pool]
            rows = torch.cat([rows, self._rows(pool, 0.0, steps, self.extra_count, True)], 1)
            shape = (steps, self.extra_count, NUMBERS)
            numbers = torch.cat([numbers, torch.rand(shape, generator=self.extra_draws)], 1)
        count = self.real_count + self.extra_count
        self.rows, self.numbers = rows.to(self.device), numbers.to(self.device)
        ones = torch.ones(count, device=self.device)
        is_extra = torch.arange(count, device=self.device) >= self.real_count
        self.strength = torch.where(is_extra, condition.strength, ones)
        self.weight = torch.where(is_extra, condition.weight, ones)
        self.soft = torch.where(is_extra, condition.soft, 0 * ones)[:, None]
        self.at = torch.zeros(1, dtype=torch.long, device=self.device)
        self.first = first
        if recipe.mixup:
            draws = self.real_draws
            self.partners = torch.rand(steps, count, generator=draws).argsort(1).to(self.device)
            seed = int(torch.randint(2**31, (1,), generator=draws))
            share = np.random.default_rng(seed).beta(recipe.mixup, recipe.mixup, steps)
            larger = torch.from_numpy(np.maximum(share, 1 - share)).float()
            self.shares = larger.to(self.device)
            self.corners = torch.rand(steps, 2, generator=draws).to(self.device)
        split_norms(self.model, self.real_count)

    def _rows(
        self, pool: Tensor, balance: float, steps: int, batch: int, extra: bool = False
    ) -> Tensor:
        labels = self.samples.labels[pool].cpu()
        counts = torch.bincount(labels, minlength=self.samples.classes).double()
        weight = (counts.clamp(min=1) ** (balance - 1))[labels]
        draws = self.extra_draws if extra else self.real_draws
        found = torch.multinomial(weight, steps * batch, replacement=True, generator=draws)
        return pool.cpu()[found].view(steps, batch)

    def step(self) -> None:
        """Take a step; nothing in it asks the device for a value."""
        recipe, at = self.run.recipe, self.at
        rows, numbers = self.rows.index_select(0, at)[0], self.numbers.index_select(0, at)[0]
        faces = self.samples.pixels.index_select(0, rows)
        x = augment(faces, numbers, recipe.net.size, self.strength)
        y, source = (
            self.targets.index_select(0, labels.index_select(0, rows))
            for labels in (self.samples.labels, self.samples.sources)
        )
        y = y.lerp(source, self.soft)
        if recipe.mixup:
            x, y = self._mixed(x, y)
        x = x.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        with bfloat16(self.device, self.half, cache_enabled=False):
            logits = self.model(x)
        losses = F.cross_entropy(logits.float(), y, reduction="none")
        torch.autograd.backward((losses * self.weight).sum() / self.weight.sum())
        self.lr.copy_(self.lrs.index_select(0, at + self.first)[0])
        self.optimizer.step()
        with torch.no_grad():
            follow = self.follow.index_select(0, at + self.first)[0]
            kept, new = ([pair[i] for pair in self.pairs] for i in (0, 1))
            change = torch._foreach_sub(new, kept)
            torch._foreach_mul_(change, follow)
            torch._foreach_add_(kept, change)
            at.add_(1)

    def _mixed(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        partner = self.partners.index_select(0, self.at)[0]
        share = self.shares.index_select(0, self.at)[0]
        other, other_y = x.index_select(0, partner), y.index_select(0, partner)
        if self.run.recipe.cutmix:
            side = (1 - share).sqrt()
            axis = torch.linspace(0, 1, x.shape[-1], device=x.device)
            corner = self.corners.index_select(0, self.at)[0] * (1 - side)
            inside = [(axis >= c) & (axis < c + side) for c in corner]
            return torch.where(inside[0][:, None] & inside[1], other, x), y.lerp(other_y, 1 - share)
        return x.lerp(other, 1 - share), y.lerp(other_y, 1 - share)


def train_together(
    runs: Sequence[Run],
    samples: Samples,
    device: torch.device,
    graph: bool = True,
    half: bool | None = None,
) -> list[nn.Module]:
    """Train nets side by side, and return the moving average of each, ready to test.

    The same run gives the same draws beside any others.

    Args:
        runs: with the same number of steps and the same phases.
        samples: of all of them.
        device: where all of it is.
        graph: whether a step is recorded as a CUDA graph; no effect on a CPU.
        half: whether nets compute in bfloat16; None: on a GPU.

    Raises:
        ValueError: the runs do not have the same steps and phases.
    """
    if len({(run.recipe.steps, run.condition.phases) for run in runs}) != 1:
        raise ValueError("runs that are trained together must have the same steps and phases")
    half = device.type == "cuda" if half is None else half
    trainees = [_Trainee(run, samples, device, half) for run in runs]
    phases, total = runs[0].condition.phases, runs[0].recipe.steps
    first, done = 0, 0.0
    for phase in phases:
        done += phase.share
        steps = round(done * total) - first
        for trainee in trainees:
            trainee.begin(first, phase, steps)
        _run_phase(trainees, steps, device, graph)
        first += steps
    return [trainee.average.eval() for trainee in trainees]


def _run_phase(trainees: Sequence[_Trainee], steps: int, device: torch.device, graph: bool) -> None:
    recorded: list[torch.cuda.CUDAGraph] = []
    for step in range(steps):
        if graph and device.type == "cuda" and step == _WARM_UP:
            recorded = _record(trainees)
        for one in recorded:
            one.replay()
        if not recorded:
            _step_all(trainees)
    if device.type == "cuda":
        torch.cuda.synchronize()


def _step_all(trainees: Sequence[_Trainee]) -> None:
    """Take a step of each, on its own stream where there is one."""
    for trainee in trainees:
        stream = trainee.stream
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            trainee.step()
    for trainee in trainees:
        if trainee.stream is not None:
            torch.cuda.current_stream().wait_stream(trainee.stream)


def _record(trainees: Sequence[_Trainee]) -> list[torch.cuda.CUDAGraph]:
    """Return a step of all as one graph; where that fails, as one for each; else none."""
    for groups in ([trainees], [[trainee] for trainee in trainees]):
        torch.cuda.synchronize()
        try:
            recorded = []
            for group in groups:
                recorded.append(torch.cuda.CUDAGraph())
                with torch.cuda.graph(recorded[-1]):
                    _step_all(group)
            return recorded
        except RuntimeError as error:
            print(f"steps of {len(groups[0])} nets cannot be recorded: {error}", flush=True)
    return []


@torch.inference_mode()
def predict(
    model: nn.Module,
    pixels: Tensor,
    size: int,
    flip: bool,
    batch: int = 1024,
    half: bool | None = None,
) -> Tensor:
    """Return (N, E) float probabilities of (N, 48, 48) uint8 faces, on the CPU.

    Args:
        model: of `train_together`.
        pixels: on the model's device.
        size: side of its input.
        flip: whether the mirror image is asked too, and both are averaged.
        batch: faces at once.
        half: as `train_together` takes it.
    """
    found = []
    for part in pixels.split(batch):
        x = view(part, size).contiguous(memory_format=torch.channels_last)
        with bfloat16(part.device, part.device.type == "cuda" if half is None else half):
            seen = [model(face) for face in ((x, x.flip(3)) if flip else (x,))]
        found.append(torch.stack([s.float().softmax(1) for s in seen]).mean(0).cpu())
    return torch.cat(found)
