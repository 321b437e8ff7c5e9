"""What a net takes faces for that it has not seen."""

from __future__ import annotations

import re

import numpy as np
import torch

from expraug.expressions import Expression
from expraug.pipeline import ExpressionAugmenter
from recipes.fer.folds import SETTINGS
from recipes.fer.seen_as import made, main, row


def test_faces_are_made_and_those_refused_left_out(packed):
    faces = packed.pack.train.pixels[:3].copy()
    faces[1] = 0  # no face
    found = made(ExpressionAugmenter("transfer"), faces, Expression.HAPPY, np.random.default_rng(0))
    assert found.dtype == np.uint8
    assert found.shape[1:] == faces.shape[1:]
    assert 0 < len(found) < 3
    assert not any(np.array_equal(face, found[0]) for face in faces)


def test_a_row_says_how_often_and_what_else():
    said = torch.eye(8)[[4, 4, 0, 3]]
    line = row(Expression.FEAR, "real", said, 4, SETTINGS["ferplus"].classes)
    start = r"\| fear \| real \| 4 \| 0.50 \| 0.50 \[0.15, 0.85\] \| "
    assert re.match(start + "(neutral 0.25, surprise|surprise 0.25, neutral)", line)


def test_each_class_is_asked_for_three_ways(packed, capsys):
    main(packed.folder, "ferplus", "transfer", 3, 2, 0.5)
    lines = capsys.readouterr().out.splitlines()[2:]
    ways = {(line.split(" | ")[0], line.split(" | ")[1]) for line in lines}
    assert ("| happy", "real") in ways
    assert ("| happy", "made of neutral") in ways
    assert not any("| neutral |" in line[:12] for line in lines)
