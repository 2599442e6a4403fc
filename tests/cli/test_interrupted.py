"""Ctrl-C at any moment: one message and status 130, also where Python itself makes something else of it."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import signal

from dynnas.cli.app import app, main


class Pressing:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGINT)


@app.command()
def plain():
    signal.raise_signal(signal.SIGINT)


@app.command()
def string():
    exec("signal.raise_signal(signal.SIGINT)", globals())


@app.command()
def attribute():
    class Made:
        pressing = Pressing()


main()
"""


@pytest.mark.parametrize("place", ["plain", "string", "attribute"])
def test_ctrl_c_ends_with_one_message_and_status_130(place: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "program", place]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 130, ran.stderr
    assert ran.stderr == "\ndynnas: interrupted\n"
