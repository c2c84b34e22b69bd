"""Starlette routes beside Streamlit's own. A token answers 403 once its session has ended.

Volumes go out as `application/gzip`: Streamlit's middleware would compress an `octet-stream` again
at every request (17 s for 157 MB).
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from app.serving.assets import ASSETS, asset_path
from app.serving.regular import from_regular, regular_geometry
from app.serving.slice_routes import slice_endpoints
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray
    from starlette.requests import Request

    from app.serving.gateway import Gateway, MaskTarget
    from app.serving.sources import VolumeSource
    from medmtl.core.geometry import Geometry

__all__ = ["viewer_routes"]

logger = logging.getLogger(__name__)

_PRIVATE = {
    "Cache-Control": "private, max-age=86400, immutable",
    "X-Content-Type-Options": "nosniff",
}
_GONE = "This address belongs to no open page. Reload the page."
_OVERHEAD = 1 << 16
"""What gzip may add to a mask that does not compress."""


def viewer_routes(gateway: Gateway, *, base_url_path: str = "") -> list[Route]:
    """All routes of the viewer.

    Args:
        gateway: What was registered.
        base_url_path: Streamlit's `server.baseUrlPath`; Streamlit prefixes its own routes only.
    """
    base = f"/{base_url_path.strip('/')}" if base_url_path.strip("/") else ""
    draw, describe, value = slice_endpoints(gateway)
    table: tuple[tuple[str, Callable[[Request], Awaitable[Response]], str], ...] = (
        ("volume/{token}.nii.gz", _volume(gateway), "GET"),
        ("place/{token}", _place(gateway), "GET"),
        ("mask/{token}", _mask(gateway), "POST"),
        ("slice/{token}", draw, "GET"),
        ("slice/{token}/info", describe, "GET"),
        ("slice/{token}/value", value, "GET"),
        ("asset/{name}", _asset, "GET"),
    )
    return [
        Route(f"{base}/worklist", _to_first_page(f"{base}/")),
        *(Route(f"{base}/medmtl/{path}", to, methods=[how]) for path, to, how in table),
    ]


def _to_first_page(address: str) -> Callable[[Request], Awaitable[Response]]:
    """The worklist has no path of its own; Streamlit says "Page not found" to who types it."""

    async def first_page(_: Request) -> Response:
        return RedirectResponse(address)

    return first_page


def _forbidden() -> Response:
    return PlainTextResponse(_GONE, status_code=403, headers={"Cache-Control": "no-store"})


def _failed(error: MedmtlError) -> Response:
    """What went wrong, in the words of the library: they name no patient."""
    return PlainTextResponse(str(error), status_code=422, headers={"Cache-Control": "no-store"})


def _volume(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    async def volume(request: Request) -> Response:
        served = gateway.files.redeem(request.path_params["token"])
        if served is None:
            return _forbidden()
        try:
            path = await run_in_threadpool(gateway.file, served)
        except MedmtlError as error:
            return _failed(error)
        return FileResponse(path, media_type="application/gzip", headers=_PRIVATE)

    return volume


def _place(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    async def place(request: Request) -> Response:
        find = gateway.places.redeem(request.path_params["token"])
        if find is None:
            return _forbidden()
        try:
            found = await run_in_threadpool(find)
        except MedmtlError as error:
            return _failed(error)
        return JSONResponse(asdict(found), headers=_PRIVATE)

    return place


def _mask(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    async def mask(request: Request) -> Response:
        target = gateway.masks.redeem(request.path_params["token"])
        if target is None:
            return _forbidden()
        try:
            geometry = await run_in_threadpool(gateway.geometry, target.image)
        except MedmtlError as error:
            return _failed(error)
        dtype = np.dtype("<u2" if request.query_params.get("dtype") == "uint16" else "u1")
        size = int(np.prod(geometry.shape)) * dtype.itemsize
        packed = await _body(request, limit=size + _OVERHEAD)
        values = _unpacked(packed, size) if packed is not None else None
        if values is None:
            shape = "x".join(str(side) for side in geometry.shape)
            text = f"The mask was not saved: expected the gzipped voxels of a {shape} volume."
            return PlainTextResponse(text, status_code=400)
        base = gateway.labels(request.query_params.get("base", ""))
        return await run_in_threadpool(_save, target, geometry, np.frombuffer(values, dtype), base)

    return mask


async def _body(request: Request, *, limit: int) -> bytes | None:
    """The body, None where it is larger than any mask of this volume can be."""
    parts: list[bytes] = []
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > limit:
            return None
        parts.append(part)
    return b"".join(parts)


def _unpacked(packed: bytes, size: int) -> bytes | None:
    """Exactly `size` bytes, never more in memory; None where the data are others."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        values = inflater.decompress(packed, size + 1)
    except zlib.error:
        return None
    return values if len(values) == size and inflater.eof else None


def _save(
    target: MaskTarget, geometry: Geometry, values: NDArray[Any], base: VolumeSource | None
) -> Response:
    edited = values.reshape(regular_geometry(geometry).shape, order="F")
    native = values.dtype.newbyteorder("=")
    label_map = np.ascontiguousarray(from_regular(edited, geometry), dtype=native)
    try:
        target.save(label_map, geometry, base)
    except (MedmtlError, OSError) as error:
        logger.warning("an edited mask was not saved: %s", type(error).__name__)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return PlainTextResponse(f"The mask was not saved: {reason}", status_code=507)
    return JSONResponse({"voxels": int(np.count_nonzero(label_map))})


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        return PlainTextResponse("Not found.", status_code=404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(asset_path(name), media_type=ASSETS[name], headers=headers)
