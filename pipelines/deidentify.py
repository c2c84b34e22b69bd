"""De-identification by choice, as the programs offer it: `--deidentify KEYFILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medmtl.core.pseudonym import Pseudonyms
    from medmtl.core.study import Listing

DeidentifyOption = Annotated[
    Path | None,
    typer.Option(
        "--deidentify",
        metavar="KEYFILE",
        help="Write pseudonyms in place of names, UIDs and dates. The TOML file holds secret = "
        "'at least 32 characters' and, if need be, dates = 'remove' (else they are shifted).",
        show_default=False,
    ),
]


def pseudonyms_of(path: Path | None, out: Path | None = None) -> Pseudonyms | None:
    """Read the key file, and keep results of different secrets, or of none, in different folders.

    Args:
        path: The key file, or None for results as they come.
        out: The result folder; None where nothing is written into one.

    Raises:
        ConfigError: If the file cannot be used, or the folder holds other results.
    """
    from medmtl.core.pseudonym import read_pseudonyms

    pseudonyms = None if path is None else read_pseudonyms(path)
    if out is not None:
        _claim(out, pseudonyms)
    return pseudonyms


def _claim(out: Path, pseudonyms: Pseudonyms | None) -> None:
    from medmtl.core.errors import ConfigError
    from medmtl.inference.case_store import DEIDENTIFIED, output_errors

    mark = out / DEIDENTIFIED
    wanted = None if pseudonyms is None else pseudonyms.fingerprint
    with output_errors("The output folder"):
        found = mark.read_text(encoding="ascii") if mark.is_file() else None
        is_new = not out.exists() or not any(out.iterdir())
        if found == wanted or (is_new and wanted is None):
            return
        if wanted is None or not is_new:
            state = "not de-identified" if found is None else "de-identified with another key file"
            message = (
                "the output folder holds results that are de-identified; give the same "
                "--deidentify, or another folder."
                if wanted is None
                else f"the output folder holds results that are {state}. Choose an empty folder."
            )
            raise ConfigError(message)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(wanted, encoding="ascii")


def outside_of(out: Path, images: Path | None, pseudonyms: Pseudonyms | None) -> None:
    """Images come with the patient's name, so they are not kept among de-identified results.

    Raises:
        ConfigError: If they would be.
    """
    from medmtl.core.errors import ConfigError

    if pseudonyms is None:
        return
    if images is None or images.resolve().is_relative_to(out.resolve()):
        message = (
            "--deidentify: images of an archive are kept as they came. Name a folder for them "
            "outside of the output folder, with --images."
        )
        raise ConfigError(message)


def as_wanted(listing: Listing, pseudonyms: Pseudonyms | None) -> Listing:
    """The listing, under pseudonyms where they are asked for."""
    if pseudonyms is None:
        return listing
    from medmtl.data.deidentify import deidentified

    return deidentified(listing, pseudonyms)
