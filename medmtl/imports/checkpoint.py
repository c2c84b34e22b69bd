"""Weights out of a pickled checkpoint without executing anything in it.

`torch.load(weights_only=True)` builds tensors and plain containers, and refuses every other name. A
checkpoint of nnU-Net holds numpy scalars in its log besides; these few names are answered by inert
stand-ins, so that not even numpy's own functions run.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import torch

from medmtl.core.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ALLOWED", "read_checkpoint"]

_DTYPES = "Bool Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float16 Float32 Float64"
ALLOWED = (
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",  # as numpy 1 wrote it
    "numpy.dtype",
    *(f"numpy.dtypes.{name}DType" for name in _DTYPES.split()),
)
"""All that a checkpoint may name beyond tensors and plain containers."""

_NAMED = re.compile(r"GLOBAL ([\w.]+)|[Uu]nsupported class ([\w.]+)")
_NO_PICKLE_OF_TORCH = "Unsupported operand"
"""What `torch` says of a byte that its own pickles never hold, such as the first one of a page."""
_DAMAGES = (
    *(OSError, RuntimeError, EOFError, BadZipFile, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, struct.error, OverflowError),
)
"""What reading a file that is no checkpoint ends with, besides an `UnpicklingError`."""


class _Inert:
    """Stands for a number of the log, which nobody reads."""

    def __new__(cls, *_arguments: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        """Keep nothing."""


def _stand_in(name: str) -> type[_Inert]:
    """A class that `torch` knows by the name in the checkpoint."""
    module, _, last = name.rpartition(".")
    return type(last, (_Inert,), {"__module__": module})


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    _stand_in(name) for name in ALLOWED
]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary of a checkpoint, on the CPU.

    Raises:
        BundleError: If the file is missing, cut short, or needs a name that is not allowed.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
            # A pickle of another protocol is read or refused; torch's advice is to report it.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError) as error:
        raise BundleError(
            f"Checkpoint {where}: found no file that can be read ({error.strerror}), expected a "
            "checkpoint of torch. Copy it again."
        ) from error
    except pickle.UnpicklingError as error:
        reason = str(error)
        is_damaged = _NO_PICKLE_OF_TORCH in reason
        raise _damaged(where, error) if is_damaged else _refused(where, reason) from error
    except _DAMAGES as error:
        raise _damaged(where, error) from error
    if not isinstance(content, dict):
        raise BundleError(
            f"Checkpoint {where}: found {type(content).__name__}, expected a dictionary. Give the "
            "file that the training wrote."
        )
    return content


def _damaged(where: str, error: Exception) -> BundleError:
    return BundleError(
        f"Checkpoint {where}: found a damaged or shortened file, or one that torch did not write "
        f"({type(error).__name__}), expected a checkpoint of torch. Copy it again."
    )


def _refused(where: str, reason: str) -> BundleError:
    match = _NAMED.search(reason)
    if match is None:
        found = "something that is no tensor, number, text or container"
    else:
        found = f"the name {match[1] or match[2]}"
    return BundleError(
        f"Checkpoint {where}: found {found}, which would be executed on loading; expected only "
        f"tensors, plain values and {', '.join(ALLOWED[:3])}. It is not loaded. If you trust its "
        "author, load it with the program that wrote it, delete that entry and save it again; of "
        "nnU-Net's entries keep trainer_name, init_args and network_weights."
    )
