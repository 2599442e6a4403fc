"""The comparison of dynamic networks with static ones, on a study that takes seconds."""

import json
import sys
from pathlib import Path

import pytest
from support.scripts import load_script

from dynnas.study.study import Study

SCRIPT = Path(__file__).parents[2] / "studies" / "imagenette" / "results.py"


def test_networks_of_a_study_are_compared(
    small_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parents[1])
    script = load_script(SCRIPT)
    words = [str(SCRIPT), str(small_study.folder.path), "--seconds", "0.02", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    (tmp_path / "results.json").write_text('{"another": []}')
    script.main()
    found = json.loads((tmp_path / "results.json").read_text())
    assert found.pop("another") == []
    (entries,) = found.values()
    tested = {member.key: member.metrics["test_accuracy"] for member in small_study.front}
    known = [each for each in entries if each["key"] in tested]
    assert known
    for each in known:
        assert each["test_accuracy"] == pytest.approx(tested[each["key"]], abs=0.01)
    assert [each["ms"] for each in entries] == sorted(each["ms"] for each in entries)
    dynamic = [each for each in entries if each["kind"] == "dynamic"]
    assert dynamic
    for each in dynamic:
        assert sum(each["exits"]) == pytest.approx(1)
        assert each["saved_macs"] == pytest.approx(1 - each["macs"] / each["whole"]["macs"])
        assert each["saved_ms"] == pytest.approx(1 - each["ms"] / each["whole"]["ms"])
        if rival := each.get("at_equal_time"):
            assert rival["ms"] <= each["ms"]
            assert rival["difference"] == pytest.approx(each["test_accuracy"] - rival["test_accuracy"])
    assert capsys.readouterr().out.count("\n| ") == len(entries) + 2  # the heads and a line
