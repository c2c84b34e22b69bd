"""The routes that draw on the server, for browsers without WebGL2."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.serving.slice_drawing import draw_slice, value_at
from app.serving.slice_query import SliceQuery
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from app.serving.gateway import Gateway, SliceStack

__all__ = ["slice_endpoints"]

Endpoint: TypeAlias = "Callable[[Request], Awaitable[Response]]"

_NO_STORE = {"Cache-Control": "no-store"}
_SAMPLE = 1 << 20


def _png(gateway: Gateway, stack: SliceStack, query: SliceQuery) -> Response:
    labels = gateway.volume(stack.labels, "labels") if stack.labels is not None else None
    layer, source = query.map_layer(), stack.maps.get(query.cam.finding) if query.cam else None
    picture = draw_slice(
        gateway.volume(stack.image, "image"),
        query.view(),
        labels=labels,
        segments=query.layers(),
        cam=(gateway.volume(source, "map"), layer) if source is not None and layer else None,
    )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(buffer.getvalue(), media_type="image/png", headers=headers)


def _info(gateway: Gateway, stack: SliceStack, _: Request) -> Response:
    """Grid and usual window: what the browser would learn from the file itself."""
    volume = gateway.volume(stack.image, "image")
    values = volume.array.reshape(-1)
    sample = values[:: max(1, values.size // _SAMPLE)]
    low, high = (float(value) for value in np.percentile(sample, (1, 99)))
    facts: dict[str, Any] = {
        "shape": list(volume.geometry.shape),
        "affine_lps": volume.geometry.affine_lps.ravel().tolist(),
        "percentiles": [low, high],
    }
    return JSONResponse(facts, headers=_NO_STORE)


def _value(gateway: Gateway, stack: SliceStack, request: Request) -> Response:
    try:
        x, y, z = (float(request.query_params[axis]) for axis in "xyz")
    except (KeyError, ValueError):
        return PlainTextResponse("Expected x, y and z in mm.", status_code=400)
    if not np.isfinite((x, y, z)).all():
        return PlainTextResponse("Expected finite x, y and z.", status_code=400)
    image = value_at(gateway.volume(stack.image, "image"), (x, y, z))
    label = None
    if stack.labels is not None:
        label = value_at(gateway.volume(stack.labels, "labels"), (x, y, z))
    return JSONResponse({"value": image, "label": int(label or 0)}, headers=_NO_STORE)


def _slice(gateway: Gateway, stack: SliceStack, request: Request) -> Response:
    try:
        query = SliceQuery.model_validate_json(request.query_params.get("q", ""))
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or "q" for e in error.errors())
        return PlainTextResponse(f"Not a plane to draw: {fields}.", status_code=400)
    return _png(gateway, stack, query)


def slice_endpoints(gateway: Gateway) -> tuple[Endpoint, Endpoint, Endpoint]:
    """The picture, the facts of the grid, and the value at a point."""

    def endpoint(answer: Callable[[Gateway, SliceStack, Request], Response]) -> Endpoint:
        async def handle(request: Request) -> Response:
            stack = gateway.slices.redeem(request.path_params["token"])
            if stack is None:
                text = "This address belongs to no open page. Reload the page."
                return PlainTextResponse(text, status_code=403, headers=_NO_STORE)
            try:
                return await run_in_threadpool(answer, gateway, stack, request)
            except MedmtlError as error:
                return PlainTextResponse(str(error), status_code=422, headers=_NO_STORE)

        return handle

    return endpoint(_slice), endpoint(_info), endpoint(_value)
