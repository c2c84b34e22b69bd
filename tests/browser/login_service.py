"""A small OpenID Connect provider (OpenID Connect Core 1.0, code flow) that signs real tokens.

Who logs in is who was named last: there is no form to fill.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

CLIENT_ID, CLIENT_SECRET = "medmtl", "a-secret-of-the-test"
_LIFE_S = 300


@dataclass
class LoginService:
    """The provider.

    Attributes:
        address: Its issuer address.
        claims: Of whoever logs in next; "sub" names the person.
        key: What it signs with; another key than the published one makes forged tokens.
    """

    address: str
    claims: dict[str, Any]
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))
    published: RSAKey | None = None
    _nonces: dict[str, str] = field(default_factory=dict)

    def app(self) -> Starlette:
        """Its endpoints."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._configuration),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _configuration(self, _: Request) -> JSONResponse:
        return JSONResponse(
            {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/token",
                "jwks_uri": f"{self.address}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def _authorize(self, request: Request) -> RedirectResponse:
        asked = request.query_params
        assert asked["client_id"] == CLIENT_ID
        code = secrets.token_urlsafe()
        self._nonces[code] = asked.get("nonce", "")
        answer = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}")

    async def _token(self, request: Request) -> JSONResponse:
        form = await request.form()
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        is_known = request.headers.get("authorization") == f"Basic {expected}"
        nonce = self._nonces.pop(str(form["code"]), None)
        if not is_known or nonce is None:
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        now = int(time.time())
        claims = {"iss": self.address, "aud": CLIENT_ID, "iat": now, "exp": now + _LIFE_S,
                  "nonce": nonce, **self.claims}  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        return JSONResponse(
            {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "id_token": token,
             "expires_in": _LIFE_S}
        )  # fmt: skip

    async def _keys(self, _: Request) -> JSONResponse:
        key = self.published or self.key
        return JSONResponse({"keys": [key.as_dict(private=False, use="sig", alg="RS256")]})


@contextmanager
def login_service(port: int, claims: dict[str, Any]) -> Iterator[LoginService]:
    """The provider, listening."""
    service = LoginService(f"http://127.0.0.1:{port}", claims)
    config = uvicorn.Config(service.app(), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield service
    finally:
        server.should_exit = True
        thread.join(20)
