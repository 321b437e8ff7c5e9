"""One thread for each operation, several operations side by side."""

import threading

import pytest
import torch

from expraug.threads import map_threads, single_threaded


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_the_number_comes_back_also_after_an_error_and_nested():
    with single_threaded() as threads:
        assert threads == 3
        assert torch.get_num_threads() == 1
        with single_threaded() as inner:
            assert inner == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyError), single_threaded():
        raise KeyError
    assert torch.get_num_threads() == 3


def test_workers_are_single_threaded_and_leave_nothing_behind():
    met = threading.Barrier(2, timeout=10)  # so that both workers take part

    def see(item):
        met.wait()
        with single_threaded() as inner:
            return item, torch.get_num_threads(), inner, threading.get_ident()

    with single_threaded() as threads:
        found = map_threads(see, [0, 1], threads)
    assert [f[:3] for f in found] == [(0, 1, 1), (1, 1, 1)]
    assert len({f[3] for f in found}) == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


def test_a_python_thread_that_starts_meanwhile_gets_the_former_number():
    entered, leave = threading.Event(), threading.Event()
    after = []

    def other():
        with single_threaded():
            entered.set()
            leave.wait(10)
        after.append(torch.get_num_threads())

    with single_threaded():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
    assert torch.get_num_threads() == 3
    leave.set()
    thread.join()
    assert after == [3]


def test_an_error_in_a_worker_is_raised():
    def fail(item):
        raise ValueError(f"item {item}")

    with single_threaded() as threads, pytest.raises(ValueError, match="item 0"):
        map_threads(fail, [0, 1], threads)
