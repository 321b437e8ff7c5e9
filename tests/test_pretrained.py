"""Folders of weights, whole and damaged, and the hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from expraug import Synthesizer, create_synthesizer
from expraug.errors import ExpraugError, InvalidWeightsError, MissingWeightsError
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.pretrained import CONFIG_FILE, EMBEDDED, WEIGHTS_FILE, find_weights, save_weights

REPOSITORY = Path(__file__).parents[1]
COMMIT = "0123456789abcdef" * 2 + "01234567"

Damage = Callable[[Path], None]


def copy(name: str, folder: Path) -> Path:
    """Copy embedded weights."""
    folder.mkdir()
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        (folder / file).write_bytes((EMBEDDED / name / file).read_bytes())
    return folder


def described(**changes: Any) -> Damage:
    """Change what the description says; None takes a key away."""

    def damage(folder: Path) -> None:
        found = json.loads((folder / CONFIG_FILE).read_text()) | changes
        kept = {key: value for key, value in found.items() if value is not None}
        (folder / CONFIG_FILE).write_text(json.dumps(kept))

    return damage


def configured(**changes: Any) -> Damage:
    """Change the configuration; None takes a key away."""

    def damage(folder: Path) -> None:
        found = json.loads((folder / CONFIG_FILE).read_text())
        config = found["config"] | changes
        found["config"] = {key: value for key, value in config.items() if value is not None}
        (folder / CONFIG_FILE).write_text(json.dumps(found))

    return damage


def text(content: str | bytes) -> Damage:
    """Put something else in the description's place."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / CONFIG_FILE).write_bytes(raw) and None


def signed(folder: Path, content: bytes | None = None) -> None:
    """Write weights, and their digest into the description: damage that a digest cannot tell."""
    file = folder / WEIGHTS_FILE
    if content is not None:
        file.write_bytes(content)
    described(weights_sha256=hashlib.sha256(file.read_bytes()).hexdigest())(folder)


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS_FILE)
        change(state)
        save_file(state, folder / WEIGHTS_FILE)
        signed(folder)

    return damage


def _set(key: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    return tensors(lambda state: state.update({key: value(state[key]).contiguous()}))


def _truncated(folder: Path, *, sign: bool) -> None:
    file = folder / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:-1000])
    if sign:
        signed(folder)


def _folder_in_place(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    (folder / WEIGHTS_FILE).mkdir()


def _first_infinite(tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(-1)[0] = torch.inf
    return tensor


DAMAGED: dict[str, tuple[str, Damage, str]] = {
    # of the description
    "empty": ("pixel", text(""), "cannot be read as JSON"),
    "no JSON": ("pixel", text("{image_size: 128"), "cannot be read as JSON"),
    "no text": ("pixel", text(b"\xff\xfe\x00{"), "cannot be read as JSON"),
    "NaN": ("pixel", text('{"version": NaN}'), "NaN is not JSON"),
    "nested": ("pixel", text("[" * 60_000), "cannot be read as JSON"),
    "huge": ("pixel", text(" " * (1 << 20) + "{}"), "longer than 65536 bytes"),
    "a list": ("pixel", text("[1, 2]"), "is not a JSON object"),
    "key missing": ("pixel", described(version=None), "missing a required argument: 'version'"),
    "key unknown": ("pixel", described(license="MIT"), "unexpected keyword argument 'license'"),
    "version a number": ("pixel", described(version=1), "version = 1, which is no str"),
    "config a list": ("pixel", described(config=[1]), r"config = \[1\]"),
    "another kind": ("fer_classifier", lambda _: None, "'fer_classifier', not a 'synthesizer'"),
    "name unknown": ("pixel", described(name="gone"), "no synthesizer 'gone'; there .*decoupled"),
    # of the configuration
    "argument unknown": ("pixel", configured(colour=True), "unexpected keyword argument 'colour'"),
    "argument missing": ("pixel", configured(sources=None), "required argument: 'sources'"),
    "petabytes": ("pixel", configured(map_side=10_000_000), r"\(8, 1, 10000000, 10000000\)"),
    "more than 64 bits": ("pixel", configured(map_side=10**30), "does not fit"),
    "trillions of weights": ("unet_cgan", configured(image_size=16 * 10**6), r"asks for \(160, 2"),
    "negative": ("unet_cgan", configured(image_size=-128), "must be 1 to 4096"),
    "size a text": ("unet_cgan", configured(image_size="128"), "image_size = '128'"),
    "size true": ("unet_cgan", configured(image_size=True), "image_size = True"),
    "size a fraction": ("unet_cgan", configured(width=40.0), "width = 40.0"),
    "an expression unknown": ("unet_cgan", configured(expressions=["bored"]), "LabelError"),
    "flag a text": ("emotiongan", configured(plain="no"), "plain = 'no'"),
    "option unknown": ("emotiongan", configured(manipulation="at"), "manipulation = 'at'"),
    "endless": ("emotiongan", configured(refining={"steps": 10**12}), "steps"),
    "a function that exits": ("emotiongan", configured(generator="sys:exit"), "SystemExit"),
    "no generator": ("emotiongan", configured(generator="os:getcwd"), "no FaceGenerator"),
    "nested argument": ("emotiongan", configured(generator={"side": 64}), "'side'"),
    "nested type": ("emotiongan", configured(encoder={"channels": "abcd"}), "does not fit"),
    "rows without end": ("transfer", configured(rows={"happy": 10**11}), "rows"),
    "no rows": ("transfer", configured(rows={}), "rows"),
    # of the weights
    "wrong digest": ("pixel", described(weights_sha256="0" * 64), "sha256"),
    "truncated": ("decoupled", partial(_truncated, sign=False), "sha256"),
    "truncated, signed": ("decoupled", partial(_truncated, sign=True), "no safetensors file"),
    "a pickle": ("pixel", partial(signed, content=b"\x80\x04N."), "no safetensors file"),
    "weights empty": ("pixel", partial(signed, content=b""), "no safetensors file"),
    "weights a folder": ("pixel", _folder_in_place, "cannot be read"),
    "another shape": ("pixel", _set("bias", lambda t: t[:, :, :64]), r"bias has the shape"),
    "tensor missing": ("fevgan", tensors(lambda s: s.pop("net.head.weight")), "net.head.weight"),
    "tensor extra": ("pixel", tensors(lambda s: s.update(x=torch.zeros(1))), r"too many \['x'\]"),
    "integers": ("unet_cgan", _set("generator.stem.weight", lambda t: t.int()), "torch.int32"),
    "floats for indices": ("transfer", _set("triangles", lambda t: t.half()), "torch.float16"),
    "all NaN": ("unet_cgan", _set("generator.stem.weight", lambda t: t * torch.nan), "not finite"),
    "one infinite": ("decoupled", _set("net.parts.bias", _first_infinite), "not finite"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_folders_are_named_and_refused(case: str, tmp_path: Path) -> None:
    name, damage, told = DAMAGED[case]
    folder = copy(name, tmp_path / "weights")
    damage(folder)
    with pytest.raises(InvalidWeightsError, match=told) as caught:
        Synthesizer.from_pretrained(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("case", [c for c, (name, *_) in DAMAGED.items() if name == "pixel"])
def test_damaged_classifiers_as_well(case: str, tmp_path: Path) -> None:
    """One loader: what is wrong with a synthesizer's folder is wrong with a classifier's."""
    _, damage, _ = DAMAGED[case]
    folder = copy("fer_classifier", tmp_path / "weights")
    if case in ("petabytes", "more than 64 bits"):
        damage = configured(width=10**7 if case == "petabytes" else 10**30)
    elif case == "argument missing":
        damage = configured(expressions=None)
    elif case == "another shape":
        damage = _set("head.1.bias", lambda t: t[:3])
    elif case == "name unknown":
        pytest.skip("there is but one class of FER classifier")
    damage(folder)
    with pytest.raises(InvalidWeightsError) as caught:
        load_fer_classifier(folder)
    assert str(folder) in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    folder = copy("pixel", tmp_path / "weights")
    (folder / WEIGHTS_FILE).unlink()
    for load in (Synthesizer.from_pretrained, create_synthesizer):
        with pytest.raises(MissingWeightsError, match=rf"no {WEIGHTS_FILE} in .*weights") as caught:
            load(str(folder))
        assert not isinstance(caught.value, InvalidWeightsError)
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(MissingWeightsError, match=r"no weights at .*embedded are .*'pixel'"):
        load_fer_classifier(folder)
    for name in ("", "x" * 5000, "a\0b", "..", "owner/name/more"):
        with pytest.raises(MissingWeightsError):
            create_synthesizer(name)


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    net = FERNet(["neutral", "happy"], width=8)
    save = partial(save_weights, net, tmp_path / "out", kind="x", name="x", version="1", config={})
    net.head[1].bias.data[0] = 1e6
    with pytest.raises(InvalidWeightsError, match=r"head\.1\.bias is not finite in fp16"):
        save()
    save(float32=["head.1.bias"])
    assert load_file(tmp_path / "out" / WEIGHTS_FILE)["head.1.bias"][0] == 1e6
    net.head[1].bias.data[0] = torch.nan
    with pytest.raises(InvalidWeightsError, match="Did training diverge"):
        save(float32=["head.1.bias"])


def test_a_folder_with_an_at_sign(tmp_path: Path) -> None:
    folder = copy("pixel", tmp_path / "mine@home")
    assert create_synthesizer(str(folder)).fingerprint == create_synthesizer("pixel").fingerprint


# the hub


class _Hub(BaseHTTPRequestHandler):
    """Answers for one repository at one commit, as the Hugging Face hub does."""

    asked: list[str]
    folder: Path

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        start = f"/owner/name/resolve/{COMMIT}/"
        file = self.folder / self.path.removeprefix(start)
        there = self.path.startswith(start) and file.is_file()
        content = file.read_bytes() if there else b"no such file"
        self.send_response(200 if there else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that has `pixel` as owner/name: its address, and what it was asked."""
    asked: list[str] = []
    folder = copy("pixel", tmp_path / "hub")
    handler = type("Handler", (_Hub,), {"asked": asked, "folder": folder})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def load_from_hub(
    home: Path, endpoint: str, revision: str = COMMIT, **variables: str
) -> subprocess.CompletedProcess[str]:
    code = (
        "import time\n"
        "import huggingface_hub.file_download, expraug.synthesizers\n"  # not what is timed
        "from expraug import create_synthesizer\n"
        "from expraug.errors import MissingWeightsError\n"
        "start = time.monotonic()\n"
        "try:\n"
        f"    print(create_synthesizer('owner/name@{revision}').fingerprint)\n"
        "except MissingWeightsError as error:\n"
        "    print(type(error).__name__, error)\n"
        "print(time.monotonic() - start)\n"
    )
    environment = os.environ | variables
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    run = [sys.executable, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, env=environment, check=True)


def test_hub_weights_are_fetched_once(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    wanted = create_synthesizer("pixel").fingerprint
    first = load_from_hub(tmp_path / "home", endpoint)
    assert first.stdout.split()[0] == wanted, first.stdout
    assert any(WEIGHTS_FILE in line for line in asked)
    asked.clear()
    for variables in ({}, {"HF_HUB_OFFLINE": "1"}):
        again = load_from_hub(tmp_path / "home", endpoint, **variables)
        assert again.stdout.split()[0] == wanted, again.stdout
    assert not asked, "a pinned commit that is here already needs no hub"


def test_hub_without_the_commit(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, _ = hub
    told = load_from_hub(tmp_path / "home", endpoint, revision="f" * 40)
    assert told.stdout.startswith("MissingWeightsError could not fetch owner/name@ffff")
    assert not told.stderr


@pytest.mark.parametrize("variables", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_unreachable_hub_fails_fast_and_quietly(tmp_path: Path, variables: dict[str, str]) -> None:
    start = time.monotonic()
    told = load_from_hub(tmp_path, "http://127.0.0.1:9", **variables)  # the port of "discard"
    message, seconds = told.stdout.strip().rsplit("\n", 1)
    assert message.startswith("MissingWeightsError could not fetch owner/name@")
    assert "download the folder elsewhere" in message
    assert float(seconds) < 3
    assert time.monotonic() - start < 120  # with the imports of a new process
    assert not told.stderr


def test_hub_weights_need_a_pinned_commit() -> None:
    for revision in (None, "main", "0" * 39, "G" * 40):
        with pytest.raises(MissingWeightsError, match="pinned commit") as caught:
            find_weights("owner/name", revision)
        assert isinstance(caught.value, ExpraugError)


@pytest.mark.parametrize("name", ["pixel", "unet_cgan", "transfer"])
def test_loading_leaves_the_random_state_alone(name):
    before = torch.get_rng_state()
    create_synthesizer(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_embedded_weights_stay_small() -> None:
    sizes = [file.stat().st_size for file in EMBEDDED.glob(f"*/{WEIGHTS_FILE}")]
    assert len(sizes) >= 10
    assert max(sizes) <= 16e6
    assert sum(sizes) <= 60e6
