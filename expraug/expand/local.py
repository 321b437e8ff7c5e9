"""The local engine: decodes ahead in threads, synthesizes in batches, encodes in threads."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import torch
from PIL import Image

from expraug.datasets.source import FaceItem
from expraug.errors import ExpraugError, NoFaceError
from expraug.expand.decoding import Decoded, decode
from expraug.expand.manifest import Row, Tally
from expraug.expand.naming import safe_name, synthetic_name
from expraug.expand.options import ImageFormat
from expraug.expand.plan import EXCLUDED, NOT_CHOSEN, REJECTED
from expraug.expand.work import Work
from expraug.expand.writers import Face, Writer, create_writer
from expraug.faces.detect import DetectedFace
from expraug.faces.image_file import encode, provenance
from expraug.pipeline import Outcome, SynthesisRequest
from expraug.pipeline.memo import MemoizedDetector

BATCH_BYTES = 128 << 20
"""Pixels, sources and synthetics, that a batch holds at most, unless one source alone has more."""

_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "MPO": ".jpg"}
_MESSAGES = {
    "identity_lost": "the gate found that it no longer shows the same person",
    "expression_not_seen": "the gate did not see the target in it",
    "exaggerated": "its landmarks go further than those of real faces",
    "landmarks_disagree": "its landmarks still show what those of the source did",
    "turned_away": "the face is turned or nods by more than 35 degrees: half is out of sight",
    "eyes_shut": "the eyes are shut, and the expression would open them",
    "not_finite": "the synthesizer made numbers that are not finite",
    "out_of_range": "the synthesizer made values far outside the range of pixels",
    "unchanged": "the synthesizer left the image as it was",
}


@dataclass(frozen=True)
class _Result:
    """Where a source's face is and an outcome for each of its requests, or why there are none."""

    face: DetectedFace | None = None
    outcomes: Sequence[Outcome] = ()
    reason: str = ""
    message: str = ""


@dataclass
class _Chunk:
    """A chunk that is being worked on."""

    number: int
    size: int
    writer: Writer
    rows: list[Row] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class _Pending:
    """A row, or the copy of an original, that waits for its file; or the end of a chunk."""

    chunk: _Chunk
    row: Row | None = None
    face: Future[Face | str] | Future[Face] | None = None


class LocalEngine:
    """Carries chunks out in this process, one after the other.

    Memory is bounded: about two batches and a few images for each thread are held at a time.

    Args:
        work: what to do.
    """

    def __init__(self, work: Work) -> None:
        self.work, self.plan, self.augmenter = work, work.plan, work.augmenter
        self._name = work.augmenter.synthesizer.name
        self._fingerprint = work.augmenter.fingerprint.synthesizer
        self._writes_shards = work.options.write == "webdataset"
        self._label = {name: i for i, name in enumerate(work.plan.classes)}
        self._pending: deque[_Pending] = deque()
        self._begun: dict[int, _Chunk] = {}

    def run(
        self, chunks: Iterable[int], advance: Callable[[int], None] = lambda count: None
    ) -> None:
        """Expand chunks of the source set.

        Args:
            chunks: their numbers.
            advance: called with the number of sources of each chunk that is done.

        Raises:
            ExpraugError: nothing can be made at all, as without weights.
            OSError: the folder cannot be written to.
        """
        threads = max(1, self.work.num_workers)
        readers = ThreadPoolExecutor(threads, "expraug-decode")
        writers = ThreadPoolExecutor(threads, "expraug-encode")
        cache = self.augmenter.cache
        try:
            filling = nullcontext() if cache is None else cache.filling()
            with filling, _spare_cores(threads):
                for chunk, batch, last in self._batches(self._decoded(chunks, readers)):
                    before = len(self._pending)
                    self._work(chunk, batch, writers)
                    if last:
                        self._pending.append(_Pending(chunk))
                    self._settle(before, advance)
            self._settle(len(self._pending), advance)
        finally:
            for pool in (readers, writers):
                pool.shutdown(wait=True, cancel_futures=True)
            for unfinished in self._begun.values():
                unfinished.writer.abort()
            self._begun.clear()
            self._pending.clear()

    def _begin(self, number: int) -> _Chunk:
        parts, classes = self.work.parts, self.plan.classes
        writer = create_writer(
            self.work.options.write, parts.folder, parts.staging, number, classes
        )
        self._begun[number] = _Chunk(number, len(self.work.indices(number)), writer)
        return self._begun[number]

    def _decoded(
        self, chunks: Iterable[int], readers: ThreadPoolExecutor
    ) -> Iterator[tuple[_Chunk, Decoded, bool]]:
        ahead: deque[tuple[_Chunk, Future[Decoded], bool]] = deque()
        for number in chunks:
            chunk, indices = self._begin(number), self.work.indices(number)
            for index in indices:
                ahead.append((chunk, self._read(index, readers), index == indices[-1]))
                if len(ahead) > 2 * self.work.num_workers:
                    chunk_of, decoded, last = ahead.popleft()
                    yield chunk_of, decoded.result(), last
        for chunk_of, decoded, last in ahead:
            yield chunk_of, decoded.result(), last

    def _read(self, index: int, readers: ThreadPoolExecutor) -> Future[Decoded]:
        job, options = self.plan.job(self.work.source[index], index), self.work.options
        if job.reason in (NOT_CHOSEN, EXCLUDED) and not options.with_originals:
            # nothing needs its pixels
            unread: Future[Decoded] = Future()
            unread.set_result(Decoded(job, None, None, job.reason, job.message))
            return unread
        return readers.submit(decode, job, options.max_pixels, options.max_bytes)

    def _batches(
        self, decoded: Iterator[tuple[_Chunk, Decoded, bool]]
    ) -> Iterator[tuple[_Chunk, list[Decoded], bool]]:
        """Yield batches of one chunk each, and whether they are its last."""
        batch: list[Decoded] = []
        faces = size = 0
        for chunk, item, last in decoded:
            batch.append(item)
            if item.image is not None:
                faces += len(item.job.requests)
                size += item.image.nbytes * (1 + len(item.job.requests))
            full = faces >= self.augmenter.batch_size or size >= BATCH_BYTES or len(batch) >= 1024
            if full or last:
                yield chunk, batch, last
                batch, faces, size = [], 0, 0

    def _work(self, chunk: _Chunk, batch: list[Decoded], writers: ThreadPoolExecutor) -> None:
        """Synthesize a batch and queue its rows, in order, with the files that they wait for."""
        able = [i for i, d in enumerate(batch) if d.image is not None and d.job.requests]
        made = self._synthesize([batch[i] for i in able]) if able else []
        results = dict(zip(able, made, strict=True))
        for i, decoded in enumerate(batch):
            item = decoded.job.item
            folder = safe_name(item.class_name)
            chunk.tally.sources[folder] += 1
            if self.work.options.with_originals and decoded.image is not None:
                chunk.tally.originals[folder] += 1
                name = _original(self.plan.original(item), item)
                face = Face(name, self._label[folder], item.content(), item, None)
                self._pending.append(
                    _Pending(chunk, None, writers.submit(chunk.writer.stage, face))
                )
            if i in results:
                self._queue(chunk, decoded, results[i], writers)
            elif decoded.reason != EXCLUDED:
                self._pending.append(_Pending(chunk, self._row(decoded)))
            for request in decoded.job.excluded:
                row = self._asked(decoded, request, EXCLUDED, REJECTED)
                self._pending.append(_Pending(chunk, row))

    def _queue(
        self, chunk: _Chunk, decoded: Decoded, result: _Result, writers: ThreadPoolExecutor
    ) -> None:
        faces = result.face.faces if result.face else None
        item = decoded.job.item
        if faces is not None and faces > 1:
            chunk.tally.several[safe_name(item.class_name)] += 1
        if result.reason:
            row = replace(self._row(decoded), reason=result.reason, message=result.message)
            self._pending.append(_Pending(chunk, replace(row, faces=faces or 0)))
            return
        for request, outcome in zip(decoded.job.requests, result.outcomes, strict=True):
            told = outcome.reason, _MESSAGES.get(outcome.reason, "")
            row = replace(
                self._asked(decoded, request, *told),
                faces=faces,
                score_identity=outcome.scores.get("identity"),
            )
            if outcome.target is None:
                self._pending.append(_Pending(chunk, row))
                continue
            row = replace(row, status="cached" if outcome.cached else "made")
            folder, kind = self.plan.folders[request.target], self.work.options.image_format
            name = synthetic_name(item.stem, self._name, request.percent, request.variant, kind)
            face = Face(f"{folder}/{name}", self._label[folder], b"", item, row)
            xmp = provenance(self._fingerprint, str(request.target), request.intensity, item.stem)
            saved = writers.submit(_save, chunk.writer, face, outcome, kind, xmp)
            self._pending.append(_Pending(chunk, row, saved))

    def _asked(self, decoded: Decoded, request: SynthesisRequest, reason: str, why: str) -> Row:
        return replace(
            self._row(decoded),
            target=str(request.target),
            intensity=request.intensity,
            variant=request.variant,
            reason=reason,
            message=why,
        )

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
        if isinstance(self.augmenter.detector, MemoizedDetector):
            self.augmenter.detector.forget()
        sources = [d.image for d in batch if d.image is not None]
        faces = self.augmenter.detect(sources)
        images, requests = [], list[SynthesisRequest]()
        for image, face, decoded in zip(sources, faces, batch, strict=True):
            if face is not None:
                images += [image] * len(decoded.job.requests)
                requests += decoded.job.requests
        outcomes = iter(self.augmenter(images, requests, on_miss="synthesize"))
        return [
            _Result(reason=NoFaceError.reason, message="the detector found no face")
            if face is None
            else _Result(face, [next(outcomes) for _ in decoded.job.requests])
            for face, decoded in zip(faces, batch, strict=True)
        ]

    def _settle(self, count: int, advance: Callable[[int], None]) -> None:
        """Wait for the files of the oldest rows in the queue; commit chunks that are whole."""
        for _ in range(count):
            pending = self._pending[0]
            chunk, row = pending.chunk, pending.row
            face = pending.face.result() if pending.face else None
            file = chunk.writer.append(face) if isinstance(face, Face) else None
            if file is not None and self._writes_shards:
                shard, _, name = file.rpartition("/")
                chunk.tally.shards[shard] += 1
                chunk.tally.formats[name.rpartition(".")[2]] += 1
            self._pending.popleft()
            if row is not None:
                failed = _failed(row, face) if isinstance(face, str) else row
                chunk.rows.append(replace(failed, file=file) if file else failed)
            elif pending.face is None:
                chunk.writer.close()
                self.work.parts.commit(chunk.number, chunk.rows, chunk.tally)
                del self._begun[chunk.number]
                advance(chunk.size)


def _failed(row: Row, failure: str) -> Row:
    return replace(row, status="skipped", reason="not_encodable", message=failure)


def _save(
    writer: Writer, face: Face, outcome: Outcome, image_format: ImageFormat, xmp: str
) -> Face | str:
    """Stage a synthetic face, or return why the format cannot hold it."""
    try:
        data = encode(outcome.image, image_format, xmp)
    except (ValueError, OSError) as error:
        height, width = outcome.image.shape[:2]
        return f"{image_format} cannot hold {width}x{height} pixels: {error}"
    return writer.stage(replace(face, data=data))


@contextmanager
def _spare_cores(busy: int) -> Iterator[None]:
    """Let torch use only the cores that decoding and encoding leave, one at least.

    Where both want all cores they wait for each other, and faces cost a third more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, max(1, (os.cpu_count() or 1) - busy)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _original(path: str, item: FaceItem) -> str:
    """Return the path of a copy, with the suffix that an image without a file name needs."""
    suffix = PurePosixPath(path).suffix
    known = suffix.lower() in Image.registered_extensions()
    if known and item.box is None:
        return path
    content = item.content()  # of a box, a PNG
    with Image.open(content if isinstance(content, Path) else io.BytesIO(content)) as image:
        kind = image.format or "PNG"
    stem = path.removesuffix(suffix) if known else path
    return stem + _SUFFIXES.get(kind, f".{kind.lower()}")
