"""The Optuna dashboard of a study in a real browser: units, notes, drawings, files, and nothing written."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.chromium import DESKTOP, browser, requested

from dynnas.study.study import Study


@pytest.fixture(scope="module")
def address(study: Study) -> Iterator[str]:
    command = [sys.executable, "-m", "dynnas", "dashboard", str(study.folder.path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            server.terminate()


def read(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}{path}", timeout=60) as reply:
        return json.loads(reply.read())


def stored_notes_and_files(study: Study) -> int:
    question = "select count(*) from study_system_attributes where key like 'dashboard:%'"
    with closing(sqlite3.connect(study.folder.trials)) as database:
        return database.execute(question).fetchone()[0]


def test_every_trial_has_a_note_a_drawing_and_its_architecture(address: str, study: Study) -> None:
    stored = stored_notes_and_files(study)
    detail = read(address, "api/studies/1")
    assert detail["objective_names"] == ["accuracy [share]", "latency_ms [ms]"]
    assert [trial["number"] for trial in detail["trials"]] == list(range(len(detail["trials"])))
    known = {candidate.trial: candidate for candidate in study.candidates}
    for trial in detail["trials"]:
        candidate = known[trial["number"]]
        assert f"accuracy {100 * candidate.metrics['accuracy']:.2f}%" in trial["note"]["body"]
        drawing, architecture = trial["artifacts"]
        assert (drawing["filename"], drawing["mimetype"]) == ("network.svg", "image/svg+xml")
        path = f"artifacts/1/{trial['trial_id']}/{architecture['artifact_id']}"
        assert read(address, path) == json.loads(candidate.architecture.to_json())
    assert stored_notes_and_files(study) == stored == 0


def test_a_note_of_the_reader_takes_the_place_of_ours(address: str) -> None:
    trial = read(address, "api/studies/1")["trials"][0]
    body = json.dumps({"version": trial["note"]["version"] + 1, "body": "the one to ship"}).encode()
    path = f"{address}api/studies/1/{trial['trial_id']}/note"
    asked = urllib.request.Request(path, body, {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.urlopen(asked, timeout=60) as reply:
        assert reply.status == 204
    first, second, *_ = read(address, "api/studies/1")["trials"]
    assert first["note"]["body"] == "the one to ship"
    assert "accuracy" in second["note"]["body"]


def test_the_browser_shows_them_and_asks_nobody_else(address: str, tmp_path: Path, study: Study) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    with browser(tmp_path, DESKTOP) as driver:
        wait = WebDriverWait(driver, 60)
        driver.get(f"{address}dashboard/studies/1")
        wait.until(lambda page: "latency_ms [ms]" in page.find_element("tag name", "body").text)
        number = max(member.trial for member in study.front)  # the note of trial 0 was rewritten
        driver.get(f"{address}dashboard/studies/1/trials?numbers={number}")
        wait.until(lambda page: page.find_elements("css selector", "img[src*=artifacts]"))
        width = "return document.querySelector('img[src*=artifacts]').naturalWidth"
        wait.until(lambda page: page.execute_script(width) == 320)
        wait.until(lambda page: "MACs" in page.find_element("tag name", "body").text)  # notes come late
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        outside = [url for url in requested(driver) if not url.startswith((address, "data:", "blob:"))]
        assert outside == []
