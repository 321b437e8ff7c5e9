"""`expraug cache`: look after a cache of synthetic faces."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expraug.cli.console import print_table, reported, size_of
from expraug.expand.options import parse_bytes

if TYPE_CHECKING:
    from expraug.cache import SynthesisCache

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look after a cache of synthetic faces."
)

CacheFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the cache.")]


class Store(str, Enum):
    lmdb = "lmdb"
    directory = "directory"


@app.command("create")
def cache_create(
    folder: CacheFolder,
    store: Annotated[
        Store,
        typer.Option(help="lmdb for local disks; directory for network file systems."),
    ] = Store.lmdb,
) -> None:
    """Make an empty cache."""
    with reported():
        from expraug.cache import CacheFormatError, SynthesisCache, find_store

        if (found := find_store(folder)) is not None:
            raise CacheFormatError(f"{folder} holds a cache already, in store {found!r}")
        SynthesisCache(folder, store.value).info()
        typer.echo(f"{folder}: an empty cache, in store {store.value!r}")


@app.command("info")
def cache_info(folder: CacheFolder) -> None:
    """Show what a cache holds."""
    with reported():
        info = _open_cache(folder, readonly=True).info()
        rows = [
            (f.name or f"unknown ({prefix})", f"{f.entries:,}", size_of(f.bytes))
            for prefix, f in info.fingerprints.items()
        ]
        rows.append(("all", f"{info.entries:,}", size_of(info.bytes)))
        print_table(("made by", "entries", "values"), rows)
        typer.echo(f"{size_of(info.file_bytes)} on disk; format {info.format}, {info.engine}")


@app.command("verify")
def cache_verify(
    folder: CacheFolder,
    repair: Annotated[bool, typer.Option("--repair", help="Delete damaged entries.")] = False,
) -> None:
    """Check every entry; the exit code is 1 if damage is left."""
    with reported():
        report = _open_cache(folder, readonly=not repair).verify(repair=repair)
        row = (f"{report.good:,}", f"{report.damaged:,}", f"{report.deleted:,}")
        print_table(("intact", "damaged", "deleted"), [row])
        if report.damaged > report.deleted:
            raise typer.Exit(1)


@app.command("prune")
def cache_prune(
    folder: CacheFolder,
    max_bytes: Annotated[
        str | None, typer.Option(help="Delete the oldest entries down to this, as 500M or 2G.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Delete all entries made by this, as `info` shows it.")
    ] = None,
) -> None:
    """Delete entries."""
    with reported():
        if max_bytes is None and fingerprint is None:
            raise ValueError("say what to delete: --max-bytes, --fingerprint, or both")
        limit = None if max_bytes is None else parse_bytes(max_bytes)
        cache = _open_cache(folder)
        typer.echo(f"{cache.prune(max_bytes=limit, fingerprint=fingerprint):,} entries deleted")


def _open_cache(folder: Path, *, readonly: bool = False) -> SynthesisCache:
    from expraug.cache import CacheFormatError, SynthesisCache, find_store

    if find_store(folder) is None:  # opening it would make one
        raise CacheFormatError(f"{folder} is no cache; `expraug cache create` makes one")
    return SynthesisCache(folder, readonly=readonly)
