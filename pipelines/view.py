"""`medmtl view`: the viewer in a browser, over results or over images not yet analysed."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import COULD_NOT_START
from .model_source import TrackingUriOption, bundle_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCAL = ("127.0.0.1", "localhost", "::1")
_FIRST_PORT = 8501
_START_S = 60.0
_END_S = 5.0
# `app` is a package of its own: it must be found under that name wherever it was installed.
_RUN = "import sys; sys.path.insert(0, sys.argv.pop()); import app.main"
_PATH = re.compile(r"[\w-]+(?:/[\w-]+)*", re.ASCII)
_AUTH_KEYS = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")


def view(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="[FOLDER]",
            help="Results of `medmtl predict`, a folder of several, or DICOM not yet analysed.",
        ),
    ] = Path(),
    port: Annotated[
        int | None,
        typer.Option(help="Else 8501, or the next free one.", show_default=False, min=1, max=65535),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine, --auth is needed.")
    ] = "127.0.0.1",
    base_url_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Path before all addresses, for a reverse proxy: viewer for https://HOST/viewer.",
            show_default=False,
        ),
    ] = "",
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Where the images lie, if not where they were analysed; repeatable.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Results of studies analysed from the viewer; else FOLDER-results.",
            show_default=False,
        ),
    ] = None,
    reviews: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of the reviews; else reviews.sqlite beside the results.",
            show_default=False,
        ),
    ] = None,
    auth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file with the OpenID Connect login, table [auth].",
            show_default=False,
        ),
    ] = None,
    reviewer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Name under reviews where nobody logs in; else that of the account.",
            show_default=False,
        ),
    ] = "",
    blind: Annotated[
        bool, typer.Option("--blind", help="Everybody reads blind; nobody can switch it off.")
    ] = False,
    dates: Annotated[bool, typer.Option("--dates", help="Show study dates.")] = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Open the viewer and print its address; it runs until Ctrl-C."""
    from medmtl.tracking.mlflow_store import LOCAL_STORE

    _check_folders(folder, images or [])
    login = _login(auth)
    if host not in _LOCAL and login is None:
        message = (
            f"--host {host}: the viewer would be open to everybody who reaches this machine. Give "
            "an OpenID Connect login with --auth FILE (docs/viewer.md), or leave --host out."
        )
        raise _config_error(message)
    root = folder.resolve()
    settings: dict[str, Any] = {
        "folder": str(root),
        "results": str((out or root.with_name(f"{root.name}-results")).resolve()),
        "reviews": reviews,
        "images": [str(place.resolve()) for place in images or ()],
        "reviewer": reviewer.strip() or getpass.getuser(),
        "host": host,
        "base_url_path": _base_url_path(base_url_path),
        "auth": None if auth is None else str(auth.resolve()),
        "roles_claim": (login or {}).get("roles_claim", "roles"),
        "shows_dates": dates,
        "is_blind": blind,
        "tracking_uri": tracking_uri,
        "tracking_store": str(LOCAL_STORE.resolve()),
        "model_cache": str(bundle_cache()),
    }
    for chosen in _free_ports(host, port):
        if _serve(settings | {"port": chosen}):
            return
        if port is not None or _is_free(host, chosen):  # not for want of the port
            break
    sys.stderr.write("medmtl: the viewer did not start; see the messages above.\n")
    raise typer.Exit(COULD_NOT_START)


def _config_error(message: str) -> Exception:
    from medmtl.core.errors import ConfigError

    return ConfigError(message)


def _check_folders(folder: Path, images: list[Path]) -> None:
    for place in (folder, *images):
        if not place.is_dir():
            message = (
                f"Folder {place.name!r}: found none, expected results or images. Give an existing "
                "folder."
            )
            raise _config_error(message)


def _base_url_path(asked: str) -> str:
    """Without slashes at its ends.

    Raises:
        ConfigError: If it is no plain path.
    """
    path = asked.strip("/")
    if path and not _PATH.fullmatch(path):
        message = (
            f"--base-url-path {asked!r}: expected letters, digits, - and _, with / between, such "
            "as radiology/viewer."
        )
        raise _config_error(message)
    return path


def _login(auth: Path | None) -> dict[str, Any] | None:
    """The table [auth] of the file.

    Raises:
        ConfigError: Naming what is missing; values are secret and not shown.
    """
    if auth is None:
        return None
    try:
        table = tomllib.loads(auth.read_text(encoding="utf-8"))["auth"]
        missing = [key for key in _AUTH_KEYS if not table.get(key)]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        message = (
            f"--auth {auth.name}: cannot be read ({type(error).__name__}), expected TOML with a "
            f"table [auth] that holds {', '.join(_AUTH_KEYS)}."
        )
        raise _config_error(message) from error
    if missing:
        raise _config_error(f"--auth {auth.name}: table [auth] lacks {', '.join(missing)}.")
    return dict(table)


def _free_ports(host: str, wanted: int | None) -> Iterator[int]:
    """The wanted port, or those that are free now: another viewer may be faster with one.

    Raises:
        ConfigError: If the wanted one is taken, or none is free.
    """
    ports = range(_FIRST_PORT, _FIRST_PORT + 50) if wanted is None else (wanted,)
    yield from (port for port in ports if _is_free(host, port))
    asked = f"port {wanted}" if wanted is not None else "a port from 8501 on"
    raise _config_error(f"--port: {asked} cannot be opened on {host}. Give another one.")


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port), family=_family(host)):
            return True
    except OSError:
        return False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not opened
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _command() -> list[str]:
    from importlib.resources import files

    package = Path(str(files("medmtl")))
    installed = package / "_viewer"
    root = installed if installed.is_dir() else package.parent
    return [sys.executable, "-c", _RUN, str(root)]


def _serve(settings: dict[str, Any]) -> bool:
    """Run the server until it is ended; False if it did not come up."""
    host, port = settings["host"], settings["port"]
    # Passed on, not read: the settings hold the password of a review database, and a command line
    # is seen by everybody on the machine.
    environment = {**os.environ, "MEDMTL_VIEW": json.dumps(settings)}  # noqa: TID251
    with subprocess.Popen(_command(), env=environment, stdout=subprocess.DEVNULL) as server:  # noqa: S603 - our own command
        # Or the server would outlive us; a shell starts programs in the background deaf to Ctrl-C.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ended)
        try:
            if not _comes_up(server, port):
                return False
            address = f"http://{_shown(host)}:{port}/{settings['base_url_path']}".rstrip("/")
            typer.echo(f"Viewer: {address}  (Ctrl-C ends it)")
            server.wait()
        except KeyboardInterrupt:
            typer.echo("Viewer closed.")
        finally:
            _end(server)
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    """An open page must not keep the server from ending, and its analyses end with it."""
    import psutil

    jobs: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        jobs = psutil.Process(server.pid).children(recursive=True)
    server.terminate()
    try:
        server.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        server.kill()
    for job in jobs:
        with suppress(psutil.NoSuchProcess):
            job.terminate()


def _ended(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _comes_up(server: subprocess.Popen[bytes], port: int) -> bool:
    """Whether this very process, and no other viewer, listens on the port within a minute."""
    import psutil

    until_s = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < until_s:
        with suppress(psutil.NoSuchProcess):
            open_ports = psutil.Process(server.pid).net_connections(kind="tcp")
            if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port
                   for one in open_ports):  # fmt: skip
                return True
        time.sleep(0.1)
    return False
