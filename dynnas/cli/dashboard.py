"""The Optuna dashboard of one study, served on this machine only."""

from __future__ import annotations

from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dynnas.errors import StudyError, require
from dynnas.report.illustration import files_of, note_of, objective_labels
from dynnas.study.dashboard import DashboardStorage, MadeFiles
from dynnas.study.study import Study

HOST = "127.0.0.1"


def serve(study: Study, port: int) -> None:
    """Serve the dashboard of a study until interrupted, and print its address once it answers.

    Every trial has a note, its network as a drawing and its architecture as a file, also while the search
    runs; they are made when they are looked at.

    Raises:
        StudyError: the port cannot be had, or there are no trials yet.
        MissingExtraError: optuna-dashboard is not installed.
    """
    dashboard = require("optuna_dashboard", "dashboard")
    try:
        storage = DashboardStorage(study, objective_labels(study), note_of(study), files_of(study))
    except KeyError as error:
        raise StudyError(f"{study.name}: there are no trials yet; they begin after the training") from error
    application = dashboard.wsgi(storage, MadeFiles(storage))
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
