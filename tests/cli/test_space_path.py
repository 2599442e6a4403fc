"""How far a reader follows `dynnas space FILE`: through few files, each of which hands it on to the next.

A file is *entered* where one of its functions runs, and *passed through* where one of its functions calls one
of another file. A file that is entered and not passed through only answers what it was asked (a rule, a gene,
the table of registered classes): a reader of the path sees its name and goes on. Counted is the way to the
first table; what runs only while a module is imported does not count.

Behind that table the command counts the multiply-adds of some networks, for which it builds them: then the
files of the operators are entered that the space file names, which no order of files can spare a reader.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_PASSED_THROUGH = 12

FOLLOW = """
import gc, json, sys
from pathlib import Path
import dynnas
from dynnas.cli.app import main
from dynnas.language.parser import load_space

load_space(sys.argv[1])  # all imports are done, and registered classes are found

PACKAGE = str(Path(dynnas.__file__).parent) + "/"
entered, handed_on = {}, {}

class Printed(BaseException):
    pass

def is_import(code):
    return code.co_name == "<module>" or not code.co_flags & 2  # a module's, or a class's body

def follow(frame, event, argument):
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(PACKAGE) or is_import(code):
        return
    caller, above = None, frame.f_back
    while above:
        if above.f_code.co_filename.startswith(PACKAGE):
            if is_import(above.f_code):
                return
            caller = caller or above.f_code.co_filename
        above = above.f_back
    name = code.co_filename.removeprefix(PACKAGE)
    entered.setdefault(name, []).append(code.co_qualname)
    if caller and caller != code.co_filename:
        handed_on.setdefault(caller.removeprefix(PACKAGE), []).append(name)
    if code.co_qualname == "print_table":
        raise Printed

gc.disable()  # what is closed by it is closed at any place
sys.setprofile(follow)
try:
    main(["space", sys.argv[1]])
except Printed:
    sys.setprofile(None)
    print(json.dumps([{name: sorted(set(of)) for name, of in each.items()} for each in (entered, handed_on)]))
"""


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("file", "most_entered"),
    [
        pytest.param("mobile.yaml", 25, marks=pytest.mark.slow),
        ("exits.yaml", 26),
    ],  # a section `exits` has a reader of its own, and is checked by what the head answers
)
def test_a_space_file_passes_through_few_files_before_its_table(file: str, most_entered: int) -> None:
    command = [sys.executable, "-c", FOLLOW, str(ROOT / "spaces" / file)]
    entered, handed_on = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    assert next(iter(entered)) == "cli/app.py"
    assert "print_table" in entered["cli/printing.py"]
    assert len(handed_on) <= MAX_PASSED_THROUGH, json.dumps(handed_on, indent=1)
    assert len(entered) <= most_entered, json.dumps(entered, indent=1)
