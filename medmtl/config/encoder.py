"""`[encoder]`: a network that was trained before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveInt

from medmtl.config.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EncoderConfig"]


class EncoderConfig(Section):
    """A network that was trained before, as the shared encoder; see docs/train.md.

    Attributes:
        source: `from` in the file: a bundle's folder or name. Backbone, segments and preprocessing
            are its own.
        training: "frozen" trains the head alone, on features kept on disk; "partial" also the
            coarsest levels of the encoder, the decoder and what fits; "full" everything.
        unfreeze: Encoder levels of "partial", counted from the coarsest.
        layer_decay: Factor of the learning rate from each encoder level to the next finer one; the
            decoder learns like the coarsest level, the head at the full rate.
        max_dice_loss: A run whose masks lose more than this Dice on the validation cases, in any
            segment, is refused.
        distil_weight: Of the loss that keeps the masks like those of the source, for volumes
            and segments without labels.
        patches: Of every volume that the masks learn from in a step, while an imported network
            learns on; None is 2, or 8 where a patch is one slice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(alias="from")
    training: Literal["frozen", "partial", "full"] = "frozen"
    unfreeze: PositiveInt = 1
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    max_dice_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    distil_weight: NonNegativeFloat = 1.0
    patches: PositiveInt | None = None

    def patches_of(self, patch_kji: Sequence[int]) -> int:
        """Patches of a volume in a step."""
        return self.patches or (8 if 1 in patch_kji else 2)
