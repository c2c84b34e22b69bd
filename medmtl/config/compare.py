"""`[compare]`: what `medmtl compare` trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, model_validator

from medmtl.config.section import Section

__all__ = ["ArmConfig", "CompareConfig"]


class ArmConfig(Section):
    """One way to train in a comparison.

    Attributes:
        name: Also of its folder.
        set: What differs from the rest of the file, as `key=value` each; see `--set`.
        label_fractions: Those of the comparison in which it takes part; empty for all.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    set: tuple[str, ...] = ()
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()


class CompareConfig(Section):
    """What `medmtl compare` trains; `medmtl train` takes no notice of it.

    Attributes:
        arms: Trained on the same cases for the same number of steps.
        subject: The arm that the others are compared with.
        folds: Held out in turn, for every manifest; empty keeps the validation cases of `data`.
        label_fractions: Shares of the training cases, for the data-efficiency curve.
    """

    arms: tuple[ArmConfig, ...] = Field(
        default=(
            ArmConfig(name="joint"),
            ArmConfig(name="segmentation", set=('tasks=["segmentation"]',)),
            ArmConfig(name="diagnosis", set=('tasks=["diagnosis"]',)),
        ),
        min_length=2,
    )
    subject: str = "joint"
    folds: tuple[NonNegativeInt, ...] = ()
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(1.0,), min_length=1
    )

    @model_validator(mode="after")
    def _names(self) -> CompareConfig:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms need different names; found {names}")
        if self.subject not in names:
            raise ValueError(f"subject {self.subject!r} is none of the arms {names}")
        for arm in self.arms:
            if unknown := set(arm.label_fractions) - set(self.label_fractions):
                raise ValueError(
                    f"arm {arm.name}: label_fractions of the comparison lack {sorted(unknown)}"
                )
            if arm.name == self.subject and arm.label_fractions:
                raise ValueError(f"arm {arm.name}: the subject takes part in all label_fractions")
        return self
