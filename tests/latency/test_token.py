"""The secret: made once for its owner alone, and found again."""

import pytest

from dynnas.errors import TargetError
from dynnas.latency.remote.token import find_token, make_token, token_path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DYNNAS_TOKEN", raising=False)


def test_a_new_token_is_its_owners_alone_and_found_again():
    assert find_token() is None
    token, path = make_token()
    assert path == token_path()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(token) >= 32
    assert find_token() == token
    with pytest.raises(FileExistsError, match="File exists"):
        make_token()


def test_a_file_comes_before_the_variable_and_that_before_the_usual_file(tmp_path, monkeypatch):
    usual, _ = make_token()
    assert find_token() == usual
    monkeypatch.setenv("DYNNAS_TOKEN", "a token in a variable")
    assert find_token() == b"a token in a variable"
    other, path = make_token(tmp_path / "other" / "token")
    assert find_token(path) == other


def test_what_others_can_read_and_what_is_short_is_refused(tmp_path, monkeypatch):
    _, path = make_token()
    path.chmod(0o640)
    with pytest.raises(TargetError, match="other users may read this token; close it with chmod 600"):
        find_token()
    monkeypatch.setenv("DYNNAS_TOKEN", "short")
    with pytest.raises(TargetError, match=r"\$DYNNAS_TOKEN: a token has at least 16 characters, this one 5"):
        find_token()
