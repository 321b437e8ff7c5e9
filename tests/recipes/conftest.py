"""Recipes, to be imported and to be run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

if TYPE_CHECKING:
    from recipes.strength.instrument import Instrument

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))


@pytest.fixture(scope="session")
def run_recipe() -> Callable[..., str]:
    """Run a recipe by its module's name, with arguments, and return what it printed."""

    def run(module: str, *arguments: object) -> str:
        # in this process: another one would spend more time on importing torch than on its work
        program = typer.Typer()
        program.command()(import_module(f"recipes.{module}").main)
        done = CliRunner().invoke(program, list(map(str, arguments)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@pytest.fixture(scope="session")
def face_sets(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets that classifiers learn from, as `recipes.real_faces` takes them, small."""
    from face_sets import write_sets

    return write_sets(faces, tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="session")
def smiling_sets(face_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets with LFW's faces, some of which smile, for London's: these have open mouths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recipes.real_faces import FILES, LFW, LONDON

    root = tmp_path_factory.mktemp("smiling sets")
    for files in FILES.values():
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((face_sets / name).read_bytes())
    rows = pq.read_table(face_sets / FILES[LFW][0]).to_pylist()
    pq.write_table(pa.Table.from_pylist(rows[5:15]), root / FILES[LONDON][0])
    return root


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier of the seven expressions of FER2013 that has learned nothing."""
    from expraug import Expression
    from expraug.networks.fer_classifier import FERNet

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    FERNet([str(e) for e in Expression][:7], width=8).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is found of the faces, once for all."""
    return tmp_path_factory.mktemp("real_faces")


@pytest.fixture(scope="session")
def instrument(face_sets: Path, work: Path) -> Instrument:
    """The embedded classifiers, and sample faces in place of validation people."""
    from expraug import Expression
    from recipes.real_faces import FER2013, FILES, LFW, extract
    from recipes.strength.instrument import Instrument

    real = extract(LFW, face_sets / FILES[LFW][0], work)
    others = real.take(np.arange(len(real)))
    others.origin = np.full(len(others), FER2013)
    made = Instrument.__new__(Instrument)
    made.begin(real, others)
    for expression in Expression:  # there are samples of a few classes only
        if not (real.expression == int(expression)).any():
            made._real[expression] = made.real(Expression.HAPPY)
    return made


@pytest.fixture(scope="session")
def pairs_folder(face_sets: Path, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make_pairs` writes of the sample faces, whatever a classifier thinks of it."""
    from recipes.pairs import make_pairs

    folder = tmp_path_factory.mktemp("pairs")
    make_pairs.main(face_sets, folder, work, count=16, each=4, least=-1.0)
    return folder
