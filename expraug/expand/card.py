"""The data card of an expanded set: README.md, as the Hugging Face hub reads it."""

from __future__ import annotations

from io import BytesIO

from huggingface_hub import DatasetCardData

from expraug.expand.contact_sheet import contact_sheet
from expraug.expand.manifest import MANIFEST
from expraug.expand.report import Report
from expraug.expand.work import Work
from expraug.faces.image_file import DIGITAL_SOURCE_TYPE, replacing
from expraug.pipeline import ExpressionAugmenter

CARD, SHEET = "README.md", "contact_sheet.jpg"
FACES_SHOWN, FACES_TRIED = 6, 60

_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def write_card(
    work: Work, report: Report, augmenter: ExpressionAugmenter, license: str | None
) -> None:
    """Write `README.md`, and `contact_sheet.jpg` if a face can be shown, into the expanded set.

    Args:
        work: the expansion.
        report: what is there.
        augmenter: draws the contact sheet; as that of `work`, on a device that is there.
        license: of the source set, as the hub spells it; None: unknown.
    """
    folder, staging = work.parts.folder, work.parts.staging
    sheet, _ = contact_sheet(
        work.source,
        work.plan,
        augmenter,
        FACES_SHOWN,
        max_pixels=work.max_pixels,
        tries=FACES_TRIED,
    )
    if sheet is not None:
        picture = BytesIO()
        sheet.save(picture, "JPEG", quality=90)
        with replacing(folder / SHEET, staging) as partial:
            partial.write_bytes(picture.getvalue())
    text = f"---\n{_header(work, report, license)}\n---\n\n" + _body(
        work, report, license, with_sheet=sheet is not None
    )
    with replacing(folder / CARD, staging) as partial:
        partial.write_bytes(text.encode())


def _header(work: Work, report: Report, license: str | None) -> str:
    count = report.originals.total() + report.synthetic.total()
    size = next((word for limit, word in _SIZES.items() if count < limit), "1M<n<10M")
    return DatasetCardData(
        pretty_name="Facial expressions, expanded by synthesis",
        license=license or "unknown",
        annotations_creators=["machine-generated"],
        source_datasets=["extended"],
        size_categories=[size],
        task_categories=["image-classification"],
        tags=["facial-expression-recognition", "synthetic", "expraug"],
        configs=_configs(work, report),
    ).to_yaml()


def _configs(work: Work, report: Report) -> list[dict[str, object]]:
    """Return which files hold the faces: without it `datasets` would read the manifest as well."""

    def config(name: str, path: str, default: bool = True) -> dict[str, object]:
        files = [{"split": "train", "path": path}]
        return {"config_name": name, "data_files": files, "default": default}

    if work.write == "folder":
        return [config("default", "*/**")]
    if work.write == "parquet":
        return [config("default", "data/faces-*.parquet")]
    counts = {"synthetic": report.synthetic, "original": report.originals}
    return [
        config(kind, f"data/{kind}-*.tar", default=kind == "synthetic")
        for kind, there in counts.items()
        if there.total()
    ]


def _body(work: Work, report: Report, license: str | None, *, with_sheet: bool) -> str:
    augmenter, settings = work.augmenter, work.parts.settings
    lines = [
        "# Facial expressions, expanded by synthesis",
        "",
        "Real faces were given other expressions by [expraug](https://pypi.org/project/expraug/): "
        "**the synthetic images show expressions that the people in them did not make.**",
        "",
    ]
    if with_sheet:
        lines += [f"![Some faces, and what was made of them]({SHEET})", ""]
    lines += ["## Classes", "", *_counts(work, report), ""]
    lines += [
        "## How it was made",
        "",
        f"- Synthesizer: `{augmenter.synthesizer.name}` "
        f"(`{augmenter.synthesizer.fingerprint}`), intensities "
        f"{', '.join(f'{level / 100:.2f}' for level in work.plan.levels)}, variants of each: "
        f"{work.plan.variants}, seed {work.plan.seed}.",
        f"- Limits: {_limits(settings['quota'])}.",
        f"- Gate: {report.gate}.",
        f"- Whole road: `{augmenter.fingerprint}`.",
        "",
    ]
    if report.skipped:
        lines += ["Not made, by reason:", "", "| reason | number |", "|---|---:|"]
        lines += [f"| `{reason}` | {n:,} |" for reason, n in sorted(report.skipped.items())]
        lines += [""]
    lines += [
        f"[`{MANIFEST}`]({MANIFEST}) holds one row for each synthetic face and for each source "
        "that was skipped: the source and its sha256, synthesizer, target, intensity, variant, "
        "gate scores, or the reason. Each synthetic image says so itself, in its XMP metadata: "
        f"IPTC digital source type `{DIGITAL_SOURCE_TYPE}`. Please leave it in.",
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


def _limits(quota: dict[str, int | bool | None]) -> str:
    told = [f"{name.replace('_', ' ')} {value}" for name, value in quota.items() if value]
    return ", ".join("balanced classes" if t == "balance True" else t for t in told) or "none"
