"""The Optuna dashboard of one study, served on this machine only."""

from __future__ import annotations

from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dynnas.errors import StudyError, require

HOST = "127.0.0.1"


def serve(storage: str, port: int) -> None:
    """Serve the dashboard of an SQLAlchemy URL until interrupted, and print its address once it answers.

    Raises:
        StudyError: the port cannot be had.
        MissingExtraError: optuna-dashboard is not installed.
    """
    application = require("optuna_dashboard", "dashboard").wsgi(storage)
    try:
        server = make_server(HOST, port, application, server_class=_Server, handler_class=_QuietHandler)
    except OSError as error:
        raise StudyError(f"port {port} cannot be had ({error.strerror}); give another --port") from error
    with server:
        print(f"http://{HOST}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests of one page at a time."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""
