"""The data card of an expanded set: README.md, as the Hugging Face hub reads it."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

from huggingface_hub import DatasetCardData
from PIL.Image import Image

from expraug.expand.contact_sheet import contact_sheet
from expraug.expand.indices import folder_features, shard_features, shard_info
from expraug.expand.layout import CARD, CLASSES, INFO, MANIFEST, SHEET
from expraug.expand.options import ExpandOptions
from expraug.expand.report import Report
from expraug.expand.work import Work
from expraug.faces.image_file import DIGITAL_SOURCE_TYPE, replacing
from expraug.pipeline import ExpressionAugmenter

FACES_SHOWN, FACES_TRIED = 6, 60

_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def write_card(work: Work, report: Report, augmenter: ExpressionAugmenter) -> None:
    """Write what describes an expanded set, into it: its card, a contact sheet if a face can be
    shown, and what readers need to know of its classes.

    Args:
        work: the expansion.
        report: what is there.
        augmenter: draws the contact sheet; as that of `work`, on a device that is there.
    """
    options = work.options
    sheet, _ = contact_sheet(
        work.source,
        work.plan,
        augmenter,
        FACES_SHOWN,
        max_pixels=options.max_pixels,
        tries=FACES_TRIED,
    )
    files = {}
    if sheet is not None:
        files[SHEET] = _page(sheet)
    if options.write == "folder":
        files[CLASSES] = "".join(f"{name}\n" for name in work.plan.classes).encode()
    elif options.write == "webdataset":
        files[INFO] = shard_info(work.parts.tally())
    header = _header(work, report)
    files[CARD] = f"---\n{header}\n---\n\n{_body(work, report, sheet is not None)}".encode()
    for name, data in files.items():
        with replacing(work.parts.folder / name, work.parts.staging) as partial:
            partial.write_bytes(data)


def _page(sheet: Image) -> bytes:
    picture = BytesIO()
    sheet.save(picture, "JPEG", quality=90)
    data = base64.b64encode(picture.getvalue()).decode()
    title = "Some faces, and what was made of them"
    image = f'<img alt="{title}" src="data:image/jpeg;base64,{data}">'
    return f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n{image}\n'.encode()


def _header(work: Work, report: Report) -> str:
    count = report.originals.total() + report.synthetic.total()
    size = next((word for limit, word in _SIZES.items() if count < limit), "1M<n<10M")
    return DatasetCardData(
        pretty_name="Facial expressions, expanded by synthesis",
        license=work.options.license or "unknown",
        annotations_creators=["machine-generated"],
        source_datasets=["extended"],
        size_categories=[size],
        task_categories=["image-classification"],
        tags=["facial-expression-recognition", "synthetic", "expraug"],
        **_data_files(work, report),
    ).to_yaml()


def _data_files(work: Work, report: Report) -> dict[str, Any]:
    """Return which files hold the faces, and what their classes are: `datasets` would number the
    classes that it finds in its own way."""

    def config(name: str, path: str, **more: Any) -> dict[str, Any]:
        files = [{"split": "train", "path": path}]
        return {"config_name": name, "data_files": files, "default": name == "default", **more}

    classes = work.plan.classes
    if work.options.write == "folder":
        return {"configs": [config("default", "*/**", features=folder_features(classes))]}
    if work.options.write == "parquet":
        return {"configs": [config("default", "data/faces-*.parquet")]}
    configs = [config("default", "data/*.tar")]
    if report.originals.total():
        configs += [config(kind, f"data/{kind}-*.tar") for kind in ("synthetic", "original")]
    features = shard_features(classes, work.parts.tally().formats)
    names = [c["config_name"] for c in configs]
    return {
        "configs": configs,
        "dataset_info": [{"config_name": name, "features": features} for name in names],
    }


def _body(work: Work, report: Report, with_sheet: bool) -> str:
    augmenter, license = work.augmenter, work.options.license
    lines = [
        "# Facial expressions, expanded by synthesis",
        "",
        "Real faces were given other expressions by [expraug](https://pypi.org/project/expraug/): "
        "**the synthetic images show expressions that the people in them did not make.**",
        "",
    ]
    if with_sheet:
        lines += [f"[Some faces, and what was made of them]({SHEET}).", ""]
    lines += ["## Classes", "", *_counts(work, report), ""]
    lines += [line for note in report.notes for line in (f"Note: {note}", "")]
    lines += [
        "## How it was made",
        "",
        f"- Synthesizer: `{augmenter.synthesizer.name}` "
        f"(`{augmenter.fingerprint.synthesizer}`), intensities "
        f"{', '.join(f'{percent / 100:.2f}' for percent in work.plan.percents)}, variants of each: "
        f"{work.plan.variants}, seed {work.plan.seed}.",
        f"- Limits: {_limits(work.options)}.",
        f"- Gate: {report.gate}.",
        f"- Landmarks checked: {'yes' if work.options.check_landmarks else 'no'}.",
        f"- Whole pipeline: `{augmenter.fingerprint}`.",
        "",
    ]
    if report.skipped:
        lines += ["Not made, by reason:", "", "| reason | number |", "|---|---:|"]
        lines += [f"| `{reason}` | {n:,} |" for reason, n in sorted(report.skipped.items())]
        lines += [""]
    lines += [
        f"[`{MANIFEST}`]({MANIFEST}), a parquet file, holds one row for each synthetic face and "
        "for each source that was skipped: the source and its sha256, synthesizer, target, "
        "intensity, variant, gate scores, or the reason. Each synthetic image says so itself, in "
        f"its XMP metadata: IPTC digital source type `{DIGITAL_SOURCE_TYPE}`. Please leave it in.",
        "",
        "Split by person, never by image: a synthetic face belongs where its source is.",
        "",
        "## Licence and consent",
        "",
        f"Licence of the source set: {license or 'not stated; ask those who own it'}. It covers "
        "these images too, as works derived from the originals, and it may not allow that they "
        "are made, used or passed on: check before you do.",
        "",
        "The people shown agreed, at best, to the originals. They did not agree to expressions "
        "put on their faces. Do not use these images to say or suggest what anyone felt, to "
        "identify anyone, or to deceive; and take images out when a person asks for it.",
    ]
    return "\n".join(lines) + "\n"


def _counts(work: Work, report: Report) -> list[str]:
    lines = ["| class | source set | originals here | synthetic | in this set |"]
    lines += ["|---|---:|---:|---:|---:|"]
    rows = []
    for name in work.plan.classes:
        before, copied = report.sources[name], report.originals[name]
        made = report.synthetic[name]
        rows.append((before, copied, made, copied + made))
        if before or made:
            lines.append(f"| {_cell(name)} | " + " | ".join(f"{n:,}" for n in rows[-1]) + " |")
    totals = map(sum, zip(*rows, strict=True))
    return [*lines, "| **all** | " + " | ".join(f"{n:,}" for n in totals) + " |"]


def _cell(name: str) -> str:
    return name.replace("|", "\\|").replace("<", "&lt;")


def _limits(options: ExpandOptions) -> str:
    told = ["balanced classes"] if options.balance else []
    for name in ("per_class", "max_per_source"):
        if (value := getattr(options, name)) is not None:
            told.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(told) or "none"
