"""Work is shared out whole, whatever the number of threads."""

import threading

import numpy as np
import pytest
import torch

from cosmeans.backends.cpu import threads


@pytest.fixture
def of_torch():
    """Set torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 200, 1000])
def test_every_index_is_worked_on_once(workers, size, of_torch):
    of_torch(workers)
    done = np.zeros(size, np.int64)

    def work(out, start, stop):
        out[start:stop] += 1
        return stop - start

    assert sum(threads.spread(work, done, size=size, smallest=20)) == size
    assert (done == 1).all()
    assert sorted(threads.each(lambda item: 2 * item, range(size))) == list(range(0, 2 * size, 2))
    assert torch.get_num_threads() == workers


def test_a_thread_works_in_memory_of_its_own():
    ours = threads.scratch(10)
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(threads.scratch(10)))
    thread.start()
    thread.join()

    assert not np.shares_memory(ours, theirs[0])
    assert np.shares_memory(ours, threads.scratch(5))
    assert threads.scratch(10_000).size >= 10_000
