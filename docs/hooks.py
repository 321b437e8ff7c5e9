"""What `mkdocs build` adds to the pages: start page, model cards, reference, pictures.

Pages that stand elsewhere in the repository (README, changelog, model cards) are taken from there,
with their links led to the site; the reference is one page per room of the library, each class
under the picture that `docs/pictures.py` draws of it.
"""

from __future__ import annotations

import importlib.util
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
REPOSITORY = DOCS.parent
WEIGHTS = REPOSITORY / "expraug" / "weights"
PICTURES = DOCS / "pictures"

TAKEN = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": ".github/CONTRIBUTING.md",
}
"""Pages of the site that are files of the repository."""

REFERENCE: dict[str, tuple[str, list[str]]] = {
    "one-image": ("One image, one video", ["augment", "augment_video", "detect_faces"]),
    "transforms": (
        "Transforms",
        [
            "transforms.torchvision.RandomExpression",
            "transforms.albumentations.RandomExpression",
            "transforms.video.RandomExpressionClip",
        ],
    ),
    "datasets": (
        "Data sets",
        [
            "JointTransform",
            "ExpressionAugmentedDataset",
            "BalancedExpressionSampler",
            "ExpressionMap",
            "datasets.timm.ExpressionMixDataset",
            "open_dataset",
            "list_datasets",
        ],
    ),
    "augmenter": (
        "The augmenter",
        ["ExpressionAugmenter", "SynthesisRequest", "Outcome", "SynthesisCache"],
    ),
    "policies-and-gates": (
        "Policies and gates",
        ["Uniform", "Balance", "Matrix", "IdentityGate", "ExpressionGate", "AllGates"],
    ),
    "expressions": ("Expressions and labels", ["Expression", "LabelScheme"]),
    "synthesizers": (
        "Synthesizers",
        [
            "Synthesizer",
            "SynthesizedFaces",
            "create_synthesizer",
            "list_synthesizers",
            "register_synthesizer",
        ],
    ),
    "expand": ("Files, offline", ["expand.expand", "expand.preview", "expand.ExpandOptions"]),
    "review": ("Review", ["show", "review.review"]),
    "evaluate": ("Evaluation", ["evaluate.evaluate"]),
    "errors": ("Errors", ["errors"]),
}
"""Title and members of each page of the reference."""

OPTIONS: dict[str, dict[str, object]] = {
    # its other methods and bases are what albumentations calls and asks for
    "transforms.albumentations.RandomExpression": {"members": False, "show_bases": False},
}
"""What mkdocstrings is told of single members."""


def on_pre_build(config: MkDocsConfig) -> None:
    """Draw the pictures that are not there yet."""
    spec = importlib.util.spec_from_file_location("expraug_pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    pictures = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = pictures
    spec.loader.exec_module(pictures)
    pictures.draw(PICTURES)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the made pages into the navigation."""
    made = {"model-cards/": _cards(), "reference/": _reference()}
    for entry in config.nav or []:
        for title, target in entry.items():
            if isinstance(target, str) and target in made:
                entry[title] = [{name: path} for path, (name, _) in made[target].items()]
    named = str(config.nav)
    for page in sorted(DOCS.glob("*.md")):  # a new one is shown before it has a place
        if f"'{page.name}'" not in named:
            assert config.nav is not None
            config.nav.append(page.name)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file of `docs/` holds, and the pictures that they show."""
    pages = {path: _taken(REPOSITORY / source) for path, source in TAKEN.items()}
    pages |= {path: text for path, (_, text) in (_cards() | _reference()).items()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    for image in sorted((REPOSITORY / "examples").glob("*.*")):
        if image.suffix in (".jpg", ".png", ".webp", ".mp4"):
            files.append(File.generated(config, f"examples/{image.name}", abs_src_path=str(image)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the repository to where the site has them, or to GitHub."""
    source = _origin(page.file.src_uri)
    if page.file.src_uri.startswith("reference/"):
        return markdown
    return re.sub(
        r"(\]\(|src=\")(?!#|\w+:)([^)\s\"]+)",
        lambda m: m[1] + _link(m[2], source, page.file.src_uri, str(config.repo_url).rstrip("/")),
        markdown,
    )


def on_page_content(html: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Put each picture of the reference under the heading of what it shows.

    Links of notebooks are led to pages here, since they come as HTML that mkdocs does not read.
    """
    if page.file.src_uri.endswith(".ipynb"):
        return re.sub(r'href="(?!\w+:)([^"#]+)\.md', r'href="../\1/', html)
    return re.sub(
        r"(<p><img[^>]*></p>)\s*(<div class=\"doc doc-object.*?</h2>)",
        r"\2\n\1",
        html,
        flags=re.DOTALL,
    )


def _origin(page: str) -> str:
    """Return the path in the repository of the file that a page was taken from."""
    if page in TAKEN:
        return TAKEN[page]
    if page.startswith("model-cards/"):
        return f"expraug/weights/{Path(page).stem}/README.md"
    return f"docs/{page}"


def _link(target: str, source: str, page: str, repository: str) -> str:
    path, _, anchor = target.partition("#")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    card = re.fullmatch(r"expraug/weights/(\w+)/README\.md", wanted)
    if card:
        there = f"model-cards/{card[1]}.md"
    elif wanted in TAKEN.values():
        there = next(made for made, taken in TAKEN.items() if taken == wanted)
    elif wanted.startswith("docs/"):
        there = wanted.removeprefix("docs/")
    elif wanted.startswith("examples/") and Path(wanted).suffix in (".jpg", ".png", ".webp"):
        there = wanted
    elif (REPOSITORY / wanted).exists():
        kind = "tree" if (REPOSITORY / wanted).is_dir() else "blob"
        return f"{repository}/{kind}/main/{wanted}"
    else:
        return target  # mkdocs tells of it
    return posixpath.relpath(there, posixpath.dirname(page) or ".") + (anchor and f"#{anchor}")


def _taken(file: Path) -> str:
    return file.read_text()


def _cards() -> dict[str, tuple[str, str]]:
    """Return the title and text of each model card, by the path of its page."""
    found = {}
    for card in sorted(WEIGHTS.glob("*/README.md")):
        found[f"model-cards/{card.parent.name}.md"] = (card.parent.name, card.read_text())
    return found


def _reference() -> dict[str, tuple[str, str]]:
    """Return the title and text of each page of the reference, by its path."""
    made = {}
    for page, (title, members) in REFERENCE.items():
        parts = [f"# {title}\n"]
        for member in members:
            picture = PICTURES / f"{member}.png"
            if picture.is_file():
                parts.append(f"![{member}](../pictures/{picture.name})\n")
            # two classes of one name are told apart by where they are imported from
            options = {"heading": member, "toc_label": member} | OPTIONS.get(member, {})
            parts.append(f"::: expraug.{member}\n    options: {json.dumps(options)}\n")
        made[f"reference/{page}.md"] = (title, "\n".join(parts))
    made["reference/command-line.md"] = ("Command line", _command_line())
    return made


def _command_line() -> str:
    """Return the help of every command, as it prints itself."""
    from expraug.cli import app

    command = typer.main.get_command(app)
    parts = ["# Command line\n"]

    def add(command: Any, name: str) -> None:
        context = command.make_context(
            name, [], resilient_parsing=True, max_content_width=100, terminal_width=100
        )
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
        for inner in getattr(command, "commands", {}).values():
            add(inner, f"{name} {inner.name}")

    add(command, "expraug")
    return "\n".join(parts)
