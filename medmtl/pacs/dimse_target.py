"""Results to an archive over DIMSE: C-STORE, and C-FIND to ask what is there (PS3.4 B and C)."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from medmtl.pacs.errors import PacsError, PacsUnreachableError
from medmtl.pacs.image_files import short_hash
from medmtl.pacs.retry import PassingError, Retry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from medmtl.pacs.dimse_address import DimsePeer

__all__ = ["DimseTarget"]

_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_PENDING = (0xFF00, 0xFF01)
_TRANSIENT = 2  # PS3.8 9.3.4: result of a rejection
_TITLES = {3: "ours (?calling=AET)", 7: "its own (the AET before @)"}  # PS3.8 table 9-21


@dataclass(frozen=True)
class DimseTarget:
    """An archive as an application entity; each question is an association of its own.

    Attributes:
        peer: Where it is and the titles to use.
        tls: To speak TLS with; None for plain DIMSE.
        retry: How often an association or an upload is tried.
        timeout_s: Without any answer.
    """

    peer: DimsePeer
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    retry: Retry = field(default_factory=Retry)
    timeout_s: float = 60.0

    def stored(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """The instance UIDs the archive says it has of a series; none where it does not tell.

        Not every archive answers C-FIND, and not to everyone. An instance is then sent again, and
        an archive that has its UID has it once all the same.

        Raises:
            PacsUnreachableError: If the archive is down or lets us not in.
        """
        what = f"The query of series {short_hash(series_uid)}"
        return self.retry.call(what, lambda: self._find(what, study_uid, series_uid))

    def store(self, instance: Dataset) -> None:
        """Send an instance; returns when the archive says that it took it.

        Raises:
            PacsError: If it does not take it.
        """
        what = f"The upload of instance {short_hash(str(instance.SOPInstanceUID))}"
        self.retry.call(what, lambda: self._store(what, instance))

    def _find(self, what: str, study_uid: str, series_uid: str) -> frozenset[str]:
        model = StudyRootQueryRetrieveInformationModelFind
        contexts = [build_context(model), build_context(Verification)]
        with self._association(what, contexts) as association:
            if not _is_accepted(association, model):
                return frozenset()
            found = set()
            for status, identifier in association.send_c_find(_keys(study_uid, series_uid), model):
                code = _code(status)
                if code in _PENDING and identifier is not None:
                    found.add(str(identifier.get("SOPInstanceUID", "")))
                elif code != 0:  # an error, or it broke off: it does not tell us
                    return frozenset()
            return frozenset(found)

    def _store(self, what: str, instance: Dataset) -> None:
        syntax = instance.file_meta.TransferSyntaxUID
        offered = dict.fromkeys((syntax, *_PLAIN))
        contexts = [build_context(instance.SOPClassUID, one) for one in offered]
        with self._association(what, contexts) as association:
            accepted = {cx.transfer_syntax[0] for cx in association.accepted_contexts}
            if syntax.is_encapsulated and syntax not in accepted:
                instance = deepcopy(instance)
                instance.decompress(generate_instance_uid=False)
            _check_stored(what, _code(association.send_c_store(instance)))

    @contextmanager
    def _association(self, what: str, contexts: list[PresentationContext]) -> Iterator[Association]:
        """Raises PassingError or PacsError in place of an association that does not come about."""
        entity = AE(ae_title=self.peer.calling)
        entity.connection_timeout = entity.acse_timeout = self.timeout_s
        entity.dimse_timeout = entity.network_timeout = self.timeout_s
        association = entity.associate(
            self.peer.host,
            self.peer.port,
            contexts=contexts,
            ae_title=self.peer.called,
            tls_args=None if self.tls is None else (self.tls, self.peer.host),
        )
        try:
            if not association.is_established:
                raise _not_associated(what, association, is_tls=self.tls is not None)
            yield association
        finally:
            if association.is_established:
                association.release()


def _keys(study_uid: str, series_uid: str) -> Dataset:
    """Of a query for the instances of one series (PS3.4 C.6.2.1)."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "IMAGE"
    keys.StudyInstanceUID, keys.SeriesInstanceUID = study_uid, series_uid
    keys.SOPInstanceUID = ""
    return keys


def _is_accepted(association: Association, model: str) -> bool:
    return any(context.abstract_syntax == model for context in association.accepted_contexts)


def _code(status: Dataset) -> int | None:
    """None where the archive fell silent or broke off."""
    return int(status.Status) if "Status" in status else None


def _check_stored(what: str, code: int | None) -> None:
    """By the statuses of PS3.4 B.2.3 and PS3.7 C.

    Raises:
        PassingError: Where another try may do.
        PacsError: Where not.
    """
    if code is None:
        raise PassingError(
            PacsUnreachableError(f"{what} failed: the archive did not answer or broke off.")
        )
    if code in {0x0000, 0x0001, 0x0107, 0x0116} or code >> 12 == 0xB:  # stored, maybe with a remark
        return
    error = PacsError(f"{what} failed: the archive answers status {code:04X}.")
    if code >> 8 == 0xA7 or code == 0x0110:  # out of resources, processing failure
        raise PassingError(error)
    raise error


def _not_associated(what: str, association: Association, *, is_tls: bool) -> Exception:
    answer: Any = association.acceptor.primitive
    if association.rejected_contexts:  # an answer, and nothing of what was offered in it
        return PacsError(f"{what} failed: the archive takes no objects of this class.")
    if association.is_rejected and answer is not None:
        title = _TITLES.get(answer.diagnostic) if answer.result_source == 1 else None
        hint = f"Check the AE title: {title}" if title else "It says no reason that helps"
        error = PacsUnreachableError(f"{what} failed: the archive refuses to talk to us. {hint}.")
        return PassingError(error) if answer.result == _TRANSIENT else error
    hint = (
        "Check the address, that it runs and speaks TLS, and the certificates: --ca-file, "
        "--certificate."
        if is_tls
        else "Check the address and that it runs."
    )
    return PassingError(
        PacsUnreachableError(f"{what} failed: the archive cannot be reached. {hint}")
    )
