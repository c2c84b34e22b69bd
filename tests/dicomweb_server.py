"""A small HTTP server with planned answers, for what a good archive does not do: fail."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["Answer", "Server", "serve"]


@dataclass(frozen=True)
class Answer:
    """Sent for one request; `claimed_bytes` above the body's length breaks the answer off."""

    status: int = 200
    body: bytes = b"[]"
    headers: dict[str, str] = field(default_factory=dict)
    claimed_bytes: int | None = None


@dataclass
class Server:
    """What was planned (the last answer is repeated) and what was asked."""

    answers: list[Answer]
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serve(
    *answers: Answer,
    certificate: tuple[Path, Path] | None = None,
    clients_of: Path | None = None,
) -> Iterator[Server]:
    """Run a server on loopback; `certificate` (PEM, key) makes it speak TLS.

    With `clients_of` (PEM) only to clients that this authority vouches for.
    """
    plan = Server(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            plan.asked.append((self.path, self.headers.get("Authorization", "")))
            answer = plan.next()
            self.send_response(answer.status)
            length = answer.claimed_bytes or len(answer.body)
            headers = {"Content-Type": "application/dicom+json", **answer.headers}
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        if clients_of is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients_of)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    plan.url = f"http{'s' if certificate else ''}://localhost:{server.server_port}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield plan
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
