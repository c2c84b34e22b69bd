"""A C-STORE receiver (Storage SCP, PS3.4 B): what is sent lies in a folder, whole and once.

Bytes are kept as they were sent, in any transfer syntax, and are on the disk before the sender is
told so. Folder and file names are hashes; a study is one folder.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pydicom
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from medmtl.core.errors import ConfigError
from medmtl.pacs.image_files import image_path, short_hash, whole_file

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from pynetdicom.association import Association
    from pynetdicom.events import Event

    from medmtl.pacs.dimse_address import DimseListener

__all__ = ["Receiver"]

logger = logging.getLogger(__name__)

_ASSOCIATIONS = 8
_TIMEOUT_S = 60.0
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_STORED, _NO_ROOM, _NOT_UNDERSTOOD, _OTHER_INSTANCE = 0x0000, 0xA700, 0xC000, 0xA900
_ASIDE = ".arriving"  # the drop folder leaves names with a dot out


@dataclass(frozen=True, eq=False)
class Receiver:
    """Writes into one folder.

    Attributes:
        listener: Whom it answers to.
        folder: Gets `<study>/<series>/<instance>.dcm`.
        tls: To speak TLS with; None for plain DIMSE.
    """

    listener: DimseListener
    folder: Path
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Receive in the background while the block runs; gives the port.

        Raises:
            ConfigError: If the address cannot be listened on.
            OSError: If the folder cannot be written.
        """
        aside = self.folder / _ASIDE
        aside.mkdir(parents=True, exist_ok=True)
        for part in aside.iterdir():  # what a kill left; its sender was never told that it is here
            part.unlink()
        try:
            server = self._entity().start_server(
                (self.listener.host, self.listener.port),
                block=False,
                ssl_context=self.tls,
                evt_handlers=[
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_PDU_RECV, _Measure(self.listener.max_bytes).add),
                    (evt.EVT_REJECTED, _say_rejected),
                ],
            )
        except OSError:
            raise ConfigError(
                "the address to listen on: it is in use, or not one of this machine, or its port "
                "is for administrators only (below 1024)."
            ) from None
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()

    def _entity(self) -> AE:
        entity = AE(ae_title=self.listener.title)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        entity.add_supported_context(Verification)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self.listener.callers)
        entity.maximum_associations = _ASSOCIATIONS
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        return entity

    def _store(self, event: Event) -> int:
        """Handle a C-STORE request; the answer is a status of PS3.4 B.2.3."""
        content = event.encoded_dataset()
        try:
            header = pydicom.dcmread(
                BytesIO(content), specific_tags=list(_UIDS), stop_before_pixels=True
            )
            study, series, uid = (str(header[keyword].value) for keyword in _UIDS)
        except Exception:  # noqa: BLE001 - a stranger's bytes; what pydicom says may quote them
            logger.warning("an instance was refused: its header cannot be read")
            return _NOT_UNDERSTOOD
        if not (study and series and uid) or uid != str(event.request.AffectedSOPInstanceUID):
            logger.warning("instance %s was refused: its UIDs are absent or contradict",
                           short_hash(uid))  # fmt: skip
            return _OTHER_INSTANCE
        path = image_path(self.folder, study_uid=study, series_uid=series, sop_uid=uid)
        try:
            self._keep(path, content)
        except OSError as error:
            logger.error("instance %s could not be written: %s", path.stem, error.strerror)  # noqa: TRY400 - a traceback names paths
            return _NO_ROOM
        return _STORED

    def _keep(self, path: Path, content: bytes) -> None:
        """The same bytes again change nothing; other bytes are a correction and replace."""
        if path.is_file() and path.read_bytes() == content:
            return
        with whole_file(path, aside=self.folder / _ASIDE) as stream:
            stream.write(content)


@dataclass(eq=False)
class _Measure:
    """Cuts an association off whose instance is larger than allowed, before it fills the memory."""

    limit: int
    _bytes: WeakKeyDictionary[Association, int] = field(default_factory=WeakKeyDictionary)

    def add(self, event: Event) -> None:
        values = getattr(event.pdu, "presentation_data_value_items", ())
        added = sum(value.item_length for value in values)
        before = self._bytes.get(event.assoc, 0)
        is_last = any(value.presentation_data_value[0] & 2 for value in values)  # PS3.8 E.2
        self._bytes[event.assoc] = 0 if is_last else before + added
        if before <= self.limit < before + added:  # once
            logger.warning("an instance was cut off: it is larger than max_mb allows")
            # In the thread that reads from this association, abort would wait for itself.
            Thread(target=event.assoc.abort, daemon=True).start()


def _say_rejected(event: Event) -> None:
    asked = event.assoc.requestor.primitive
    logger.warning("%s called %s and was rejected: check both AE titles (%d may call at a time)",
                   asked.calling_ae_title, asked.called_ae_title, _ASSOCIATIONS)  # fmt: skip
