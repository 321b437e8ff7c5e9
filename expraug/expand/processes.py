"""Several processes on one machine, each a local engine with a share of the chunks."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for

import torch

from expraug.errors import ExpraugError
from expraug.expand.local import LocalEngine
from expraug.expand.work import Work


class WorkerDiedError(ExpraugError, RuntimeError):
    """A worker process was killed, or ran out of memory."""

    reason = "worker_died"


class ProcessEngine:
    """Carries chunks out in processes that are spawned, so that CUDA works in them.

    Args:
        work: what to do.
        processes: how many.
    """

    def __init__(self, work: Work, processes: int) -> None:
        self.work, self.processes = work, processes

    def run(
        self, chunks: Sequence[int], advance: Callable[[int], None] = lambda count: None
    ) -> None:
        """Expand chunks of the source set, as `LocalEngine.run` does.

        Raises:
            WorkerDiedError: a worker was killed; what is done is kept.
        """
        shares = [share for i in range(self.processes) if (share := chunks[i :: self.processes])]
        threads = max(1, (os.cpu_count() or 1) // self.processes)
        size = {chunk: len(self.work.indices(chunk)) for chunk in chunks}
        pool = ProcessPoolExecutor(
            self.processes,
            multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(threads,),
        )
        with pool:
            waiting = {pool.submit(_run, self.work, share) for share in shares}
            try:
                while waiting:
                    ended, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                    done = size.keys() & self.work.parts.done()
                    advance(sum(size.pop(chunk) for chunk in done))
                    for future in ended:
                        future.result()
            except BaseException as error:
                for process in list((pool._processes or {}).values()):
                    process.terminate()  # the others would finish their whole share first
                if isinstance(error, BrokenProcessPool):
                    raise WorkerDiedError(
                        "a worker process was killed, perhaps for want of memory; what is done is "
                        "kept: run the same again to go on"
                    ) from error
                raise


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker must not outlive a parent that was killed
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def _run(work: Work, chunks: Sequence[int]) -> None:
    LocalEngine(work).run(chunks)
