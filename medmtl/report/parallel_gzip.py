"""One gzip stream whose blocks are compressed in threads, as pigz does it.

Each block is deflated by itself and ends on a byte (a sync flush), so that the blocks laid end to
end are one ordinary stream of one member, which any reader of gzip takes (RFC 1951, RFC 1952). What
is written depends on the blocks, not on the number of threads. ISA-L does the work: it has code of
its own for each kind of processor, so compressed bytes may differ between machines.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from isal import isal_zlib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

__all__ = ["write_gzip"]

_LEVEL = 2  # the size of zlib's fastest level in a fraction of its time; 3 is the smallest
# Magic, deflate, no flags, no time, "fastest", unknown system: equal content makes equal files.
_HEADER = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x04\xff"
_LAST_BLOCK = b"\x03\x00"  # empty, and marked as the last one
_THREADS = 4
_PIECE_BYTES = 2**20


def write_gzip(stream: BinaryIO, blocks: Iterable[bytes | memoryview]) -> None:
    """Compress blocks of bytes, a few of them at a time, into one stream.

    Args:
        stream: Where to write.
        blocks: In their order; made one by one while earlier ones are compressed.

    Raises:
        OSError: If the stream cannot be written.
    """
    threads = min(_THREADS, os.cpu_count() or 1)
    checksum, size = 0, 0
    stream.write(_HEADER)
    with ThreadPoolExecutor(threads, thread_name_prefix="medmtl-gzip") as pool:
        pending: deque[Future[bytes]] = deque()
        for piece in _pieces(blocks):
            pending.append(pool.submit(_deflate, piece))
            checksum, size = isal_zlib.crc32(piece, checksum), size + len(piece)
            if len(pending) > threads:
                stream.write(pending.popleft().result())
        while pending:
            stream.write(pending.popleft().result())
    stream.write(_LAST_BLOCK + struct.pack("<II", checksum, size % 2**32))


def _pieces(blocks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Parts large enough not to miss the part before, small enough to hold several of them."""
    for block in blocks:
        for start in range(0, len(block), _PIECE_BYTES):
            yield block[start : start + _PIECE_BYTES]
        del block  # not kept while the next one is made


def _deflate(piece: bytes | memoryview) -> bytes:
    packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return packer.compress(piece) + packer.flush(isal_zlib.Z_SYNC_FLUSH)
