"""The Ray engine: actors on a cluster, or on this machine, that each carry chunks out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from expraug.errors import ExpraugError, MissingDependencyError
from expraug.expand.local import LocalEngine
from expraug.expand.processes import WorkerDiedError
from expraug.expand.work import Work

MAX_BLOCKS = 4096
"""Tasks that Ray Data makes of the chunks at most."""
MAX_ATTEMPTS = 6
"""How often a chunk is begun before the expansion fails: its actor may die of bad luck."""


class RayEngine:
    """Carries chunks out in a pool of Ray Data actors; chunk numbers travel, images do not.

    Ray Data hands an actor a task when it has room for one, so the memory of each actor is that of
    a `LocalEngine`, whatever the size of the set. The task of an actor that dies is done again by
    another: what it had finished stays, what it had begun gets the same bytes. A chunk that brings
    its actor down again and again ends the expansion. Source set and
    destination must be on storage that every node sees under the same path.

    Args:
        work: what to do. With an augmenter on CUDA each actor gets a GPU, else `num_workers` CPUs.
        actors: how many at most; None: as many as the cluster has room for.
        address: of the cluster, as `ray.init` takes it; None: that of `RAY_ADDRESS`, or else Ray
            is started on this machine, without a dashboard. A Ray that is connected already is used
            as it is.

    Raises:
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, work: Work, actors: int | None = None, address: str | None = None) -> None:
        self.work, self.actors, self.address = work, actors, address
        self._ray = _import_ray()

    def run(
        self, chunks: Sequence[int], advance: Callable[[int], None] = lambda count: None
    ) -> None:
        """Expand chunks of the source set, as `LocalEngine.run` does."""
        if not chunks:
            return
        ray = self._ray
        with self._connected():
            tasks = ray.data.from_items(
                [{"chunk": chunk} for chunk in chunks],
                override_num_blocks=min(len(chunks), MAX_BLOCKS),
            )
            most = len(chunks) if self.actors is None else min(self.actors, len(chunks))
            done = tasks.map_batches(
                Actor,
                batch_size=1,
                fn_constructor_args=[ray.put(self.work)],
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
                num_cpus=max(1, self.work.num_workers),
                num_gpus=int(self.work.augmenter.device.type == "cuda"),
            )
            try:
                for row in done.iter_rows():
                    advance(int(row["sources"]))
            except ray.exceptions.RayError as error:
                raise _cause(error) from error

    @contextmanager
    def _connected(self) -> Iterator[None]:
        ray = self._ray
        ours = not ray.is_initialized()
        if ours:
            ray.init(
                self.address,
                include_dashboard=False,  # of a Ray that this starts; one that is up has its own
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
            logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = ray.data.DataContext.get_current()
        wanted = {"enable_progress_bars": False, "raise_original_map_exception": True}
        before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
        try:
            for name in before:
                setattr(context, name, wanted[name])
            yield
        finally:
            for name, value in before.items():
                setattr(context, name, value)
            if ours:
                ray.shutdown()


class Actor:
    """Carries out the chunks that Ray Data hands it.

    Args:
        work: reference to the `Work`.
    """

    def __init__(self, work: Any) -> None:
        self.work: Work = _import_ray().get(work)
        self.engine = LocalEngine(self.work)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        chunks = batch["chunk"].tolist()
        for chunk in chunks:
            if not self.work.parts.is_done(chunk):
                self._count_attempt(chunk)
                self.engine.run([chunk])
        return {"sources": np.array([len(self.work.indices(chunk)) for chunk in chunks])}

    def _count_attempt(self, chunk: int) -> None:
        attempts = self.work.parts.attempt(chunk)
        if attempts > MAX_ATTEMPTS:
            indices = self.work.indices(chunk)
            raise WorkerDiedError(
                f"sources {indices[0]} to {indices[-1]} of the set have brought down the worker "
                f"{MAX_ATTEMPTS} times, perhaps for want of memory; what is done is kept. Take out "
                f"the image that does it, or make batch_size smaller, and run the same again"
            )


def _import_ray() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            "the engine 'ray' needs Ray Data: pip install 'expraug[ray]'"
        ) from error
    return ray


def _cause(error: Any) -> BaseException:
    """Return the failure of ours, or of the file system, that Ray reports wrapped."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, (ExpraugError, OSError)) else error
