"""Independent work on several threads, each of them single-threaded inside: torch's own threads make many small operations slower."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def on_threads(run: Callable[[Item], object], items: Iterable[Item], device: torch.device | str = "cpu") -> None:
    """Call ``run`` on every item, on as many threads as torch has on a CPU, else one after another. Raises what it raises.

    >>> found = []
    >>> on_threads(found.append, [1, 2, 3])
    >>> sorted(found)
    [1, 2, 3]
    """
    every = list(items)
    threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    if min(threads, len(every)) <= 1:
        for item in every:
            run(item)
        return
    gradients = torch.is_grad_enabled()  # each thread has its own answer

    def alone(item: Item) -> None:
        torch.set_num_threads(1)  # of this worker: OpenMP counts threads for each caller
        with torch.set_grad_enabled(gradients):
            run(item)

    try:
        with ThreadPoolExecutor(min(threads, len(every))) as pool:
            list(pool.map(alone, every))
    finally:
        torch.set_num_threads(threads)  # torch also notes the number for callers to come
