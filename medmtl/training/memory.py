"""Running out of memory, said with what to lower."""

from __future__ import annotations

import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import torch

from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OutOfMemoryError", "memory_errors", "peak_memory_mib"]

_CPU_TEXTS = ("can't allocate memory", "not enough memory")
"""What torch's allocator of the CPU says, in a plain RuntimeError."""
_WORKER_TEXT = "DataLoader worker (pid"
"""How torch begins to say that a process beside this one was killed, in a plain RuntimeError.

An error that such a process raised is "Caught ... in DataLoader worker process 0".
"""
_ADVICE = (
    "Lower trainer.batch_size (and raise trainer.accumulate), take smaller patches or fewer "
    'filters (network.backbone), or set trainer.precision = "bfloat16".'
)


class OutOfMemoryError(MedmtlError):
    """The memory of the device does not suffice; the last checkpoint is kept."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn the ways in which torch and Python run out of memory into one error.

    Raises:
        OutOfMemoryError: With what to lower.
    """
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        where = "GPU" if isinstance(error, torch.cuda.OutOfMemoryError) else "machine"
        raise OutOfMemoryError(f"Out of memory on the {where}. {_ADVICE}") from error
    except RuntimeError as error:
        if any(text in str(error) for text in _CPU_TEXTS):
            raise OutOfMemoryError(f"Out of memory on the machine. {_ADVICE}") from error
        if str(error).startswith(_WORKER_TEXT):
            raise OutOfMemoryError(
                "A process that makes batches was killed, as a rule because the machine is out of "
                f"memory. Lower trainer.workers. {_ADVICE}"
            ) from error
        raise


def peak_memory_mib(device: torch.device) -> float:
    """Most memory used so far: of the GPU, else of this process."""
    if device.type == "cuda":
        return round(int(torch.cuda.max_memory_allocated(device)) / 2**20, 1)
    if platform.system() == "Windows":
        return round(int(psutil.Process().memory_info().peak_wset) / 2**20, 1)
    import resource  # POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if platform.system() == "Darwin" else 2**10), 1)
