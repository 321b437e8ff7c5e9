"""The local engine: decodes ahead in threads, synthesizes in batches, encodes in threads."""

from __future__ import annotations

import hashlib
import io
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash
from PIL import Image

from expraug.augmenter import Draw, ExpressionAugmenter, Outcome
from expraug.datasets.source import FaceItem, FaceSource
from expraug.errors import ExpraugError, UnreadableImageError
from expraug.expand.manifest import Row
from expraug.expand.naming import safe_name, synthetic_name
from expraug.expand.plan import Job, Plan
from expraug.expand.writing import ImageFormat, copy_file, encode, provenance, write_file
from expraug.faces.image import MAX_PIXELS
from expraug.faces.locate import Location, Locator

BATCH_BYTES = 128 << 20
"""Pixels, sources and synthetics, that a batch holds at most, unless one source alone has more."""

_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "MPO": ".jpg"}


@dataclass(frozen=True)
class Decoded:
    """A job with its source's pixels; `reason` says why there are none, or nothing is drawn."""

    job: Job
    image: np.ndarray | None
    digest: str | None
    reason: str
    message: str


def decode(job: Job, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Read a job's source. Whatever is wrong with the file becomes a reason."""
    file, image, digest = job.item.file, None, None
    reason, message = job.reason, job.message
    try:
        if isinstance(file, Path) and not file.is_file():  # a pipe would block, a link may dangle
            raise UnreadableImageError(f"{file}: not a file")
        digest = _sha256(file)
        image = job.item.read(max_pixels=max_pixels)
    except ExpraugError as error:
        reason, message = error.reason, str(error)
    except Exception as error:  # whatever a decoder, or a decoder's plug-in, raises on damage
        reason, message = UnreadableImageError.reason, f"{file!s:.200}: {error!r}"
    if isinstance(file, Path):  # manifests travel; paths of this machine stay here
        message = message.replace(str(file), job.item.origin)
    return Decoded(job, image, digest, reason, message)


def _sha256(file: Path | bytes) -> str:
    if isinstance(file, bytes):
        return hashlib.sha256(file).hexdigest()
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class RecallingLocator:
    """Remembers where the faces of the images at hand are, so that each is looked for once.

    Args:
        locator: looks for the faces.
    """

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self.fingerprint, self.constant = locator.fingerprint, locator.constant
        self.landmarks = getattr(locator, "landmarks", False)
        self._known: dict[int, tuple[np.ndarray, Location | None]] = {}

    def forget(self) -> None:
        """Let go of the images at hand."""
        self._known.clear()

    def __call__(self, images: Sequence[np.ndarray]) -> list[Location | None]:
        new = [
            image for image in {id(i): i for i in images}.values() if id(image) not in self._known
        ]
        for image, location in zip(new, self.locator(new) if new else [], strict=True):
            self._known[id(image)] = (
                image,
                location,
            )  # the image too, so that its id stays its own
        return [self._known[id(image)][1] for image in images]


@dataclass(frozen=True)
class _Result:
    """Where a source's face is and an outcome for each of its draws, or why there are none."""

    location: Location | None = None
    outcomes: Sequence[Outcome] = ()
    reason: str = ""
    message: str = ""


class LocalEngine:
    """Carries a plan out in this process, in the order of the source set.

    Memory is bounded: about two batches and a few images for each thread are held at a time.

    Args:
        plan: what to make.
        augmenter: makes it; if it detects faces, on a `RecallingLocator`.
        folder: the expanded set.
        image_format: of the synthetic faces.
        with_originals: copy readable sources too, under their class.
        max_pixels: larger sources are skipped.
        num_workers: threads that decode, and as many that encode.

    Attributes:
        sources, originals: sources that were worked on, and copied along, by class folder.
    """

    def __init__(
        self,
        plan: Plan,
        augmenter: ExpressionAugmenter,
        folder: Path,
        *,
        image_format: ImageFormat = "png",
        with_originals: bool = False,
        max_pixels: int = MAX_PIXELS,
        num_workers: int = 4,
    ) -> None:
        self.plan = plan
        self.augmenter = augmenter
        self.folder = folder
        self.image_format: ImageFormat = image_format
        self.with_originals = with_originals
        self.max_pixels = max_pixels
        self.num_workers = max(1, num_workers)
        self.sources: Counter[str] = Counter()
        self.originals: Counter[str] = Counter()
        self._name = augmenter.synthesizer.name
        self._fingerprint = augmenter.synthesizer.fingerprint
        self._taken: set[int] = set()
        self._pending: deque[tuple[Row | None, Future[str] | None]] = deque()

    def run(
        self,
        source: FaceSource,
        emit: Callable[[Row], None],
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Expand a source set.

        Args:
            source: the set.
            emit: called with each row once its file is there; also with those of files that are
                there when an exception or Ctrl-C ends the run.
            advance: called with a number of sources that were worked on.

        Raises:
            ExpraugError: nothing can be made at all, as without weights.
            OSError: the folder cannot be written to.
        """
        readers = ThreadPoolExecutor(self.num_workers, "expraug-decode")
        writers = ThreadPoolExecutor(self.num_workers, "expraug-encode")
        try:
            for batch in self._batches(self._decoded(source, readers)):
                before = len(self._pending)
                self._work(batch, writers)
                self._settle(before, emit)
                advance(len(batch))
            self._settle(len(self._pending), emit)
        finally:
            for pool in (readers, writers):
                pool.shutdown(wait=True, cancel_futures=True)
            self._rescue(emit)

    def _decoded(self, source: FaceSource, readers: ThreadPoolExecutor) -> Iterator[Decoded]:
        ahead: deque[Future[Decoded]] = deque()
        for index in range(len(source)):
            job = self.plan.job(source[index])
            ahead.append(readers.submit(decode, job, self.max_pixels))
            if len(ahead) > 2 * self.num_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _batches(self, decoded: Iterator[Decoded]) -> Iterator[list[Decoded]]:
        batch: list[Decoded] = []
        faces = size = 0
        for item in decoded:
            batch.append(item)
            if item.image is not None:
                faces += len(item.job.draws)
                size += item.image.nbytes * (1 + len(item.job.draws))
            if faces >= self.augmenter.batch_size or size >= BATCH_BYTES or len(batch) >= 1024:
                yield batch
                batch, faces, size = [], 0, 0
        if batch:
            yield batch

    def _work(self, batch: list[Decoded], writers: ThreadPoolExecutor) -> None:
        """Synthesize a batch and queue its rows, in order, with the files that they wait for."""
        able = [i for i, d in enumerate(batch) if d.image is not None and d.job.draws]
        made = self._synthesize([batch[i] for i in able]) if able else []
        results = dict(zip(able, made, strict=True))
        for i, decoded in enumerate(batch):
            item = decoded.job.item
            folder = safe_name(item.class_name)
            self.sources[folder] += 1
            if self.with_originals and decoded.image is not None:
                path = self.folder / self._claim(_original_name(item))
                self.originals[folder] += 1
                copied = writers.submit(_copy, item, path)
                self._pending.append((None, copied))
            if i in results:
                self._queue(decoded, results[i], writers)
            else:
                self._pending.append((self._row(decoded), None))

    def _queue(self, decoded: Decoded, result: _Result, writers: ThreadPoolExecutor) -> None:
        faces = result.location.faces if result.location else None
        if result.reason:
            row = replace(self._row(decoded), reason=result.reason, message=result.message)
            self._pending.append((replace(row, faces=faces or 0), None))
            return
        for draw, outcome in zip(decoded.job.draws, result.outcomes, strict=True):
            row = replace(
                self._row(decoded),
                target=str(draw.target),
                intensity=draw.level / 100,
                variant=draw.variant,
                reason=outcome.reason,
                message=_MESSAGES.get(outcome.reason, ""),
                faces=faces,
                score_identity=outcome.scores.get("identity"),
            )
            if outcome.target is None:
                self._pending.append((row, None))
                continue
            stem = decoded.job.item.stem
            name = synthetic_name(stem, self._name, draw.level, draw.variant, self.image_format)
            file = self._claim(f"{self.plan.folders[draw.target]}/{name}")
            row = replace(row, file=file, status="cached" if outcome.cached else "made")
            xmp = provenance(self._fingerprint, str(draw.target), draw.level / 100, stem)
            path = self.folder / file
            saved = writers.submit(_save, outcome.image, path, self.image_format, xmp)
            self._pending.append((row, saved))

    def _row(self, decoded: Decoded) -> Row:
        item, image = decoded.job.item, decoded.image
        return Row(
            file=None,
            source=item.origin,
            source_class=item.class_name,
            identity=item.identity,
            source_digest=decoded.digest,
            synthesizer=self._name,
            fingerprint=self._fingerprint,
            target=None,
            intensity=None,
            variant=None,
            seed=self.plan.seed,
            status="skipped",
            reason=decoded.reason,
            message=decoded.message,
            width=None if image is None else image.shape[1],
            height=None if image is None else image.shape[0],
        )

    def _synthesize(self, batch: Sequence[Decoded]) -> list[_Result]:
        """Return a result for each source; a source that brings the models down fails alone."""
        try:
            return self._synthesize_all(batch)
        except ExpraugError:  # would happen to every face
            raise
        except Exception as error:  # out of memory, or one face that a model cannot take
            if len(batch) == 1:
                return [_Result(reason="failed", message=f"{error!r:.500}")]
            results = [result for one in batch for result in self._synthesize([one])]
            if all(result.reason == "failed" for result in results):
                raise  # not the fault of one face: going on would hide it in the manifest
            return results

    def _synthesize_all(self, batch: Sequence[Decoded]) -> list[_Result]:
        if isinstance(self.augmenter.locator, RecallingLocator):
            self.augmenter.locator.forget()
        sources = [d.image for d in batch if d.image is not None]
        locations = self.augmenter.locate(sources)
        images: list[np.ndarray] = []
        draws: list[Draw | None] = []
        for image, location, decoded in zip(sources, locations, batch, strict=True):
            if location is not None:
                images += [image] * len(decoded.job.draws)
                draws += decoded.job.draws
        outcomes = iter(self.augmenter(images, draws))
        return [
            _Result(reason="no_face", message="the detector found no face")
            if location is None
            else _Result(location, [next(outcomes) for _ in decoded.job.draws])
            for location, decoded in zip(locations, batch, strict=True)
        ]

    def _claim(self, file: str) -> str:
        """Return a file name that this run has not used: a set may hold synthetics of its own."""
        path, number = Path(file), 1
        while True:
            key = xxhash.xxh64_intdigest(file.encode())
            if key not in self._taken:
                self._taken.add(key)
                return file
            number += 1
            file = path.with_name(f"{path.stem}-{number}{path.suffix}").as_posix()

    def _settle(self, count: int, emit: Callable[[Row], None]) -> None:
        """Wait for the files of the oldest rows in the queue and pass these rows on."""
        for _ in range(count):
            row, file = self._pending[0]
            failure = file.result() if file else ""
            self._pending.popleft()
            if row is not None:
                emit(_failed(row, failure) if failure else row)

    def _rescue(self, emit: Callable[[Row], None]) -> None:
        """Pass on the rows whose files are there, when a run ends early."""
        while self._pending:
            row, file = self._pending.popleft()
            with suppress(Exception):
                if row is not None and (file is None or (file.done() and not file.cancelled())):
                    failure = file.result() if file else ""
                    emit(_failed(row, failure) if failure else row)


_MESSAGES: dict[str, str] = {
    "identity_lost": "the gate found that it no longer shows the same person",
}


def _failed(row: Row, failure: str) -> Row:
    return replace(row, file=None, status="skipped", reason="not_encodable", message=failure)


def _save(image: np.ndarray, path: Path, image_format: ImageFormat, xmp: str) -> str:
    """Write a synthetic face; return "" or why the format cannot hold it."""
    try:
        data = encode(image, image_format, xmp)
    except (ValueError, OSError) as error:
        return f"{image_format} cannot hold {image.shape[1]}x{image.shape[0]} pixels: {error}"
    write_file(path, data)
    return ""


def _copy(item: FaceItem, path: Path) -> str:
    copy_file(item.content(), path)
    return ""


def _original_name(item: FaceItem) -> str:
    """Return where a source is copied to: under its class, by its own name where it is a file."""
    if item.box is not None:
        return f"{safe_name(item.class_name)}/{safe_name(item.stem)}.png"
    if isinstance(item.file, Path):
        *folders, name = Path(item.origin).parts
        stem, suffix = Path(name).stem, Path(name).suffix
        if folders[:1] != [item.class_name]:  # a set whose folders are no classes
            folders, stem = [item.class_name], item.stem
        return "/".join([*map(safe_name, folders), safe_name(stem) + suffix])
    with Image.open(io.BytesIO(item.file)) as image:
        kind = image.format or "PNG"
    suffix = _SUFFIXES.get(kind, f".{kind.lower()}")
    return f"{safe_name(item.class_name)}/{safe_name(item.stem)}{suffix}"
