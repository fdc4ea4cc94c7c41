"""Independent work on several threads, in each of which torch uses one thread: its own threads slow down many small operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def on_threads(run: Callable[[Item], object], items: Iterable[Item], device: torch.device | str = "cpu") -> None:
    """Call ``run`` on every item: on a CPU with as many threads as torch has, else one after another. Raises what ``run`` raises.

    >>> results = []
    >>> on_threads(results.append, [1, 2, 3])
    >>> sorted(results)
    [1, 2, 3]
    """
    work = list(items)
    threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    if min(threads, len(work)) <= 1:
        for item in work:
            run(item)
        return
    gradients = torch.is_grad_enabled()  # a setting of each thread

    def alone(item: Item) -> None:
        torch.set_num_threads(1)  # for this worker only: OpenMP has a number for each calling thread
        with torch.set_grad_enabled(gradients):
            run(item)

    try:
        with ThreadPoolExecutor(min(threads, len(work))) as pool:
            list(pool.map(alone, work))
    finally:
        torch.set_num_threads(threads)  # torch would use a worker's number for new threads
