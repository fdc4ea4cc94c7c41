"""transformers without its progress bars and advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off the progress bars of transformers and of the Hub's client and all messages but errors; restore both afterwards.

    >>> from transformers.utils import logging
    >>> before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    >>> with quiet():
    ...     logging.get_verbosity() == logging.ERROR, logging.is_progress_bar_enabled()
    (True, False)
    >>> (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    True
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    level, bars, hub_bars = logging.get_verbosity(), logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()  # also those of the Hub's client
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        (enable_progress_bars if hub_bars else disable_progress_bars)()
