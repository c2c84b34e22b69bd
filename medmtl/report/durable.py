"""Files of results reach the disk whole: see medmtl.core.durable."""

from __future__ import annotations

from medmtl.core.durable import durable_file, replace_file, sync_folder

__all__ = ["durable_file", "replace_file", "sync_folder"]
