"""Runs: one condition with one seed, from the real faces to its rows in the results."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import xxhash

from expraug.networks.class_index import class_index
from expraug.synthesizer import create_synthesizer
from recipes.fer.augment import extra_samples
from recipes.fer.conditions import CONDITIONS, Condition, parse_arm
from recipes.fer.data import FaceTable, read_faces
from recipes.fer.drawing import Mixing, Samples
from recipes.fer.fold import Fold, cut
from recipes.fer.gating import Judged, judged_synthetics, passed
from recipes.fer.metrics import measure
from recipes.fer.results import append, done
from recipes.fer.setting import Setting
from recipes.fer.synthetics import SyntheticTable
from recipes.fer.training import predict, train


def read_fold(
    setting: Setting,
    training: str,
    validation: str | None,
    tests: Sequence[str],
    work: Path,
    scheme: str | None = None,
    landmarks: bool = True,
    workers: int = 1,
) -> Fold:
    """Read the sets, each PATH or PATH@detect, tests also NAME=PATH, and cut the fold."""

    def read(text: str) -> FaceTable:
        path, _, mode = text.partition("@")
        return read_faces(path, work, mode or "crop", scheme, landmarks, workers=workers)

    def named(text: str) -> tuple[str, str]:
        name, equals, path = text.partition("=")
        return (name, path) if equals else ("test", text)

    found = {name: read(path) for name, path in map(named, tests)}
    return cut(read(training), read(validation) if validation else None, found, setting.cut)


class Runner:
    """Runs conditions of one setting and appends what came of them to a CSV.

    Args:
        setting, fold: what is asked.
        work: folder for synthetics, gates and checkpoints.
        out: the CSV.
        device: where all of it runs.
        only_validation: test on the validation faces alone: for choosing.
    """

    def __init__(
        self,
        setting: Setting,
        fold: Fold,
        work: Path,
        out: Path,
        device: torch.device,
        only_validation: bool = False,
    ) -> None:
        self.setting, self.fold, self.work, self.out = setting, fold, work, out
        self.device, self.only_validation = device, only_validation
        table, labels = fold.labels(fold.train)
        self.real = Samples(table.pixels, F.one_hot(labels, len(fold.classes)).float()).to(device)
        self._labels = labels
        self._judged: dict[str, Judged] = {}

    def classified(self, synthesizer: str) -> Judged:
        """Return the candidates of a synthesizer with their gate scores, made at first use."""
        if synthesizer not in self._judged:
            s = self.setting
            self._judged[synthesizer] = judged_synthetics(
                self.fold,
                replace(s.plan, synthesizer=synthesizer),
                s.gate,
                s.recipe,
                CONDITIONS[s.gate.condition],
                self.work,
                self.device,
            )
        return self._judged[synthesizer]

    def run(self, name: str, seed: int) -> None:
        """Train one condition with one seed and append its rows, unless they are there."""
        condition, synthesizer = parse_arm(name, self.setting.condition)
        digest = self._digest(name)
        if (self.setting.name, name, str(seed), digest) in done(self.out):
            return
        extra, extra_class = self._extra(condition, synthesizer)
        start = time.perf_counter()
        model = train(
            self.setting.recipe,
            condition,
            self.real,
            extra,
            extra_class,
            self.setting.mixing,
            seed,
            self.device,
            self.work / f"run-{digest}-{seed}.safetensors",
        )
        seconds = time.perf_counter() - start
        tests = {"validation": self.fold.validation}
        if not self.only_validation:
            tests |= self.fold.tests
        rows = []
        for test, table in tests.items():
            faces, labels = self.fold.labels(table)
            found = predict(model, faces.pixels, self.setting.recipe, self.device)
            rows.append(
                {
                    "setting": self.setting.name,
                    "condition": name,
                    "seed": seed,
                    "test_set": test,
                    "train_faces": len(self.real.pixels),
                    "dropped": self.fold.dropped,
                    "extra": 0 if extra is None else len(extra.pixels),
                    "extra_by_class": self._by_class(extra_class),
                    "seconds": f"{seconds:.1f}",
                    "options": self._options(condition, synthesizer),
                    "digest": digest,
                }
                | {k: f"{v:.4f}" for k, v in measure(found, labels, self.fold.classes).items()}
            )
        append(self.out, rows)
        last = rows[-1]
        print(
            f"{self.setting.name} {name} seed {seed}: accuracy {last['accuracy']}, balanced "
            f"{last['balanced_accuracy']} on {last['test_set']}, validation {rows[0]['accuracy']} "
            f"{rows[0]['balanced_accuracy']} ({seconds:.0f} s, {last['extra']} extra)",
            flush=True,
        )

    def _extra(
        self, condition: Condition, synthesizer: str
    ) -> tuple[Samples | None, torch.Tensor | None]:
        if not condition.extra:
            return None, None
        classified = self.classified(synthesizer or self.setting.plan.synthesizer)
        keep = select(
            classified.made,
            passed(classified, self.fold, self.setting.gate),
            self.setting.mixing,
            len(self.real.pixels),
        )
        made = classified.made.take(keep)
        target = class_index(self.fold.classes)[made.target]
        hard = F.one_hot(target, len(self.fold.classes)).float()
        if synthesizer:
            soft = self.setting.mixing.soft
            labels = (1 - soft) * hard + soft * classified.probabilities[keep]
            return Samples(made.pixels, labels).to(self.device), target
        # as many altered copies of real faces of each class as there are synthetics of it
        generator = torch.Generator().manual_seed(self.setting.plan.seed)
        rows = torch.empty(len(target), dtype=torch.long)
        for label in torch.unique(target):
            own, asked = (self._labels == label).nonzero().flatten(), target == label
            rows[asked] = own[torch.randint(len(own), (int(asked.sum()),), generator=generator)]
        pixels = extra_samples(condition.extra, self.real.pixels[rows], self.setting.plan.seed)
        return Samples(pixels, hard).to(self.device), target

    def _by_class(self, extra_class: torch.Tensor | None) -> str:
        if extra_class is None:
            return ""
        counts = torch.bincount(extra_class, minlength=len(self.fold.classes)).tolist()
        return " ".join(f"{c}:{n}" for c, n in zip(self.fold.classes, counts, strict=True))

    def _options(self, condition: Condition, synthesizer: str) -> str:
        """Return what the result hangs on, as JSON."""
        s = self.setting
        parts = {"cut": s.cut, "recipe": s.recipe, "condition": condition}
        if condition.extra:
            parts |= {"plan": s.plan, "gate": s.gate, "mixing": s.mixing}
        found = {key: asdict(part) for key, part in parts.items()}  # type: ignore[call-overload]
        if synthesizer:
            found["synthesizer"] = create_synthesizer(synthesizer.partition(":")[0]).fingerprint
        return json.dumps(found, sort_keys=True)

    def _digest(self, name: str) -> str:
        content = (
            self._options(*parse_arm(name, self.setting.condition)).encode()
            + self.fold.train.digests.numpy().tobytes()
        )
        return xxhash.xxh3_64_hexdigest(content)


def select(made: SyntheticTable, keep: torch.Tensor, mixing: Mixing, real: int) -> torch.Tensor:
    """Return which synthetics are mixed in, (M,) bool.

    Args:
        made: the candidates.
        keep: (M,) bool, what the gate passed.
        mixing: whose `intensities`, `variants` and `ratio` limit them further.
        real: number of real faces.
    """
    keep = keep.clone()
    if mixing.intensities:
        wanted = torch.tensor(mixing.intensities)
        keep &= (made.intensity[:, None] - wanted).abs().min(1).values < 0.005
    if mixing.variants:
        keep &= made.variant < mixing.variants
    there = keep.nonzero().flatten()
    most = round(mixing.ratio * real)
    if mixing.ratio and most < len(there):
        order = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        keep[there[order[most:]]] = False
    return keep
