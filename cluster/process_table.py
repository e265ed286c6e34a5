"""The processes of this machine, as they are now."""

from collections.abc import Iterator

import psutil


def processes() -> Iterator[psutil.Process]:
    """A handle to each process, made now.

    psutil keeps handles from one listing to the next. Process ids come round again (after 32,768
    on many machines): a kept handle then stands for a process that has ended, is shown with what
    belongs to the new one, and refuses to signal it.
    """
    psutil.process_iter.cache_clear()
    return psutil.process_iter()
