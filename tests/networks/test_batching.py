"""Which faces of a batch are computed together."""

import pytest
import torch

from expraug.networks.batching import independently


def test_one_by_one_on_the_cpu_and_together_elsewhere() -> None:
    faces, rows = torch.rand(3, 2), torch.arange(3)
    parts = list(independently(faces, rows))
    assert [len(face) for face, _ in parts] == [1, 1, 1]
    assert torch.equal(torch.cat([row for _, row in parts]), rows)
    (whole,) = independently(faces.to("meta"), rows.to("meta"))
    assert [len(part) for part in whole] == [3, 3]


def test_an_empty_batch_is_one_part() -> None:
    for device in ("cpu", "meta"):
        ((part,),) = independently(torch.empty(0, 4, device=device))
        assert part.shape == (0, 4)


def test_a_batch_has_one_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(independently(torch.rand(3), torch.rand(2)))
