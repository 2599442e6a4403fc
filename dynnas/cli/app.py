"""The `dynnas` command: `main`, and its handling of errors.

Neither this module nor that of the commands imports anything heavy before a command runs, so that
`dynnas --help` answers at once.
"""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from dynnas.cli import commands, converting, measuring, shelving, shipping, starting
from dynnas.errors import DynnasError
from dynnas.threads import wait_passively

WRONG, INTERRUPTED = 2, 130

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere in a command, shows the traceback of an error.",
)
for command in (
    starting.demo,
    starting.init,
    starting.spaces,
    commands.search,
    commands.space,
    converting.elastic,
    commands.schema,
    commands.front,
    commands.report,
    measuring.tune,
    measuring.calibrate,
    measuring.measure,
    shelving.shelf,
    shipping.audit,
    shipping.train,
    shipping.compress,
    shipping.cascade,
    measuring.latency,
    measuring.budget,
    commands.export,
    commands.dashboard,
    measuring.serve,
):
    app.command()(command)


@app.callback()
def _dynnas(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Neural architecture search over dynamic design spaces, ranked by accuracy and measured latency."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 when done, 2 after one message on standard error, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    wait_passively()
    words = _with_addresses([word for word in words if word != "--debug"])
    try:
        with _interruptible():
            status = app(words, prog_name="dynnas", standalone_mode=False)
    except (DynnasError, OSError, typer.TyperException) as error:
        if debug:
            raise
        print(f"dynnas: {_message(error)}", file=sys.stderr)
        status = WRONG
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    if status == INTERRUPTED:
        eval("0")  # `python -m` would end as killed if an interrupt left code that was given as a string
        print(f"\ndynnas: interrupted{_how_to_continue(words)}", file=sys.stderr)
    sys.exit(status or 0)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a block as a KeyboardInterrupt, wherever it meets it.

    A class that Python is making answers with an error of its own if its attributes are interrupted.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    except (DynnasError, OSError):
        raise
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _with_addresses(words: Sequence[str]) -> list[str]:
    """Return the arguments, with the default address after a bare `--ray`: typer knows no optional values."""
    bare = [
        word == "--ray" and (not following or following.startswith("-"))
        for word, following in zip(words, (*words[1:], ""), strict=False)
    ]
    return ["--ray=local" if alone else word for word, alone in zip(words, bare, strict=True)]


def _message(error: Exception) -> str:
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')}; see dynnas --help, or dynnas COMMAND --help"
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    return str(error)


def _how_to_continue(words: Sequence[str]) -> str:
    """Return the command that continues an interrupted one; empty for commands that start again."""
    if not {"demo", "search", "audit", "measure", "shelf", "train", "compress", "cascade"} & set(words[:1]):
        return ""
    again = [word for word in words if word not in ("--fresh", "--yes")]
    return f"; nothing finished is lost, the same command continues: {shlex.join(['dynnas', *again])}"
