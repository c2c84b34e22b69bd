"""Which answer of a model a reader saw; see `medmtl.core.answer_key`."""

from medmtl.core.answer_key import answer_key

__all__ = ["answer_key"]
