"""Synthetic faces for an evaluation, as they are after paste-back, and which to make of which."""

from __future__ import annotations

import torch
from torch import Tensor

from expraug.evaluate.face_set import FaceSet
from expraug.expressions import Expression
from expraug.faces import face_mask
from expraug.synthesizer import Synthesizer


class Maker:
    """Makes synthetic faces of aligned ones, in batches.

    Args:
        synthesizer: makes them; it is moved to `device`.
        device: where it runs.
        batch_size: faces a pass.
    """

    def __init__(
        self, synthesizer: Synthesizer, device: str | torch.device = "cpu", batch_size: int = 32
    ) -> None:
        self.synthesizer = synthesizer.to(device).eval()
        self.device, self.batch_size = torch.device(device), batch_size
        self._mask = face_mask(synthesizer.image_size).to(device)

    @torch.inference_mode()
    def __call__(self, faces: Tensor, target: Expression, intensity: float = 1.0) -> Tensor:
        """Return (N, 3, S, S) uint8 synthetics of as many sources: what paste-back lets through."""
        made = [torch.empty(0, *faces.shape[1:], dtype=torch.uint8)]
        for part in faces.split(self.batch_size):
            source = part.to(self.device).float() / 255
            wanted = torch.full((len(part),), int(target), device=self.device)
            amount = torch.full((len(part),), intensity, device=self.device)
            change = self.synthesizer(source, wanted, amount) - source
            seen = (source + change * self._mask).clamp(0, 1)
            made.append((seen * 255).round().to(torch.uint8).cpu())
        return torch.cat(made)


def sources_for(data: FaceSet, synthesizer: Synthesizer, target: Expression) -> tuple[Tensor, str]:
    """Return the indices of the faces to make a target of, and what they show.

    Neutral faces where they can be turned into it, as an expression that the source still shows
    could pass for the target; else those of every expression that can be turned into it.
    """
    accepted = [e for e in Expression if synthesizer.supports(e, target)]
    if Expression.NEUTRAL in accepted and len(data.of(Expression.NEUTRAL)):
        return data.of(Expression.NEUTRAL), str(Expression.NEUTRAL)
    return _of_any(data, accepted)


def other_sources(
    data: FaceSet, synthesizer: Synthesizer, target: Expression
) -> tuple[Tensor, str]:
    """Return the accepted faces that `sources_for` leaves out, in the same form."""
    first = sources_for(data, synthesizer, target)[1].split(", ")
    accepted = [e for e in Expression if synthesizer.supports(e, target) and str(e) not in first]
    return _of_any(data, accepted)


def _of_any(data: FaceSet, expressions: list[Expression]) -> tuple[Tensor, str]:
    there = [e for e in expressions if len(data.of(e))]
    if not there:
        return torch.empty(0, dtype=torch.long), ""
    return torch.cat([data.of(e) for e in there]), ", ".join(map(str, there))
