"""Weights and plug-ins that somebody else has made: refused by name, and nothing of them is run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from expraug import create_synthesizer
from expraug.errors import ExpraugError, InvalidWeightsError
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.pretrained import CONFIG_FILE, EMBEDDED, WEIGHTS_FILE
from expraug.synthesizer import Synthesizer


class Payload:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of embedded weights; the working folder is where a payload would leave its mark."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Path(shutil.copytree(EMBEDDED / "pixel", tmp_path / "weights"))


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """What asks for more than 4 GB beyond what is in use fails."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def signed(folder: Path, data: bytes) -> None:
    """Put weights in place, with the digest that the description needs."""
    (folder / WEIGHTS_FILE).write_bytes(data)
    description = json.loads((folder / CONFIG_FILE).read_text())
    description["weights_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / CONFIG_FILE).write_text(json.dumps(description))


def with_header(header: Any, data: bytes = b"\0" * 64) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


ATTACKS: dict[str, bytes] = {
    "pickle": pickle.dumps(Payload()),
    "torch pickle": b"",  # below
    "header longer than the file": struct.pack("<Q", 1 << 62) + b"{}",
    "header of 2^64": b"\xff" * 64,
    "header is no JSON": with_header(b"{" * 4000),
    "deep header": with_header(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "petabytes": with_header({"bias": tensor("F32", [1 << 40, 1 << 10], 0, 64)}),
    "sides that overflow": with_header({"bias": tensor("F32", [1 << 32, 1 << 32], 0, 64)}),
    "negative side": with_header({"bias": tensor("F32", [-1, 16], 0, 64)}),
    "beyond the end": with_header({"bias": tensor("F32", [16], 0, 1 << 40)}),
    "overlap": with_header({"a": tensor("F32", [16], 0, 64), "b": tensor("F32", [16], 0, 64)}),
    "a hole": with_header({"bias": tensor("F32", [8], 32, 64)}),
    "unknown type": with_header({"bias": tensor("EVIL", [16], 0, 64)}),
    "many tensors": with_header({f"t{i}": tensor("F32", [0], 0, 0) for i in range(50_000)}, b""),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_safetensors(attack: str, folder: Path) -> None:
    data = ATTACKS[attack]
    if attack == "torch pickle":
        torch.save({"bias": Payload()}, folder / "x")
        data = (folder / "x").read_bytes()
    signed(folder, data)
    began = time.perf_counter()
    with pytest.raises(InvalidWeightsError, match=WEIGHTS_FILE):
        Synthesizer.from_pretrained(folder)
    assert time.perf_counter() - began < 20
    assert not any((folder.parent / "here").iterdir())


def numbers(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda t: torch.full_like(t, value)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("bias", lambda t: t.bool()),
        ("bias", lambda t: t.long()),
        ("bias", lambda t: t.to(torch.int16)),
        ("bias", lambda t: t[..., :1]),
        ("bias", lambda t: t[None]),
        ("weight", numbers(float("nan"))),
        ("weight", numbers(float("inf"))),
    ],
)
def test_other_types_and_shapes(
    key: str, change: Callable[[torch.Tensor], torch.Tensor], folder: Path
) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    save_file(state | {key: change(state[key]).contiguous()}, folder / WEIGHTS_FILE)
    signed(folder, (folder / WEIGHTS_FILE).read_bytes())
    with pytest.raises(InvalidWeightsError, match=key):
        Synthesizer.from_pretrained(folder)


@pytest.mark.parametrize("name", ["../pixel", "//pixel", "pixel\0", ".", ""])
def test_names_that_are_paths(name: str) -> None:
    with pytest.raises((ExpraugError, ValueError)):
        create_synthesizer(name)


def test_files_that_never_end(folder: Path) -> None:
    (folder / CONFIG_FILE).unlink()
    (folder / CONFIG_FILE).symlink_to("/dev/zero")
    with pytest.raises(ExpraugError):
        Synthesizer.from_pretrained(folder)
    with pytest.raises(ExpraugError):
        load_fer_classifier(folder)


PLUGINS = {
    "raises": "raise RuntimeError('broken')",
    "exits": "import sys; sys.exit(3)",
    "recurses": "def f(): return f()\nf()",
    "takes a name": "from expraug import register_synthesizer\n"
    "from expraug.synthesizers.pixel import PixelSynthesizer\n"
    "@register_synthesizer('transfer')\nclass Mine(PixelSynthesizer): pass",
    "is no Python": "class",
}


def test_the_command_line_outlives_every_plugin(tmp_path: Path) -> None:
    for number, (name, code) in enumerate(PLUGINS.items()):
        (tmp_path / f"plugin{number}.py").write_text(code + "\n")
        info = tmp_path / f"plugin{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin{number}\nVersion: 1\n")
        entry = f"[expraug.synthesizers]\n{name.replace(' ', '-')} = plugin{number}\n"
        (info / "entry_points.txt").write_text(entry)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "expraug", "list", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
    )
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["synthesizers"]}
    assert found["transfer"]["variants"] == create_synthesizer("transfer").variants
    for number in range(len(PLUGINS)):
        assert f"package plugin{number} cannot be imported" in done.stderr
