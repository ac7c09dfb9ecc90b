"""A worker process lives as long as its parent, and Ctrl-C is for the parent alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Called once in a worker: from then on it ignores Ctrl-C and ends when its parent is gone.

    A parent that is killed cannot end its workers: idle ones would wait for ever, others go on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
