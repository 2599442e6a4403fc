"""Packed pictures are brought to a size once."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from support.scripts import load_script

STUDIES = Path(__file__).parents[2] / "studies"


def jpeg(value, side=32):
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(file, "JPEG")
    return np.frombuffer(file.getvalue(), np.uint8)


def test_packed_pictures_are_shrunk_once(tmp_path):
    shrunk = load_script(STUDIES / "pictures.py").shrunk
    parts = {}
    for part, values in {"train": (10, 200, 90), "test": (60,)}.items():
        files = [jpeg(value) for value in values]
        parts |= {
            f"{part}_jpeg": np.concatenate(files),
            f"{part}_offsets": np.cumsum([0, *map(len, files)]),
            f"{part}_labels": np.arange(len(values)) % 2,
        }
    np.savez(tmp_path / "two.npz", **parts, classes=np.array(["dog", "cat"]))
    made = shrunk(str(tmp_path / "two.npz"), 8, tmp_path / "local")
    with np.load(made) as found:
        assert found["train_images"].shape == (3, 3, 8, 8)
        np.testing.assert_allclose(found["train_images"].mean((1, 2, 3)), [10, 200, 90], atol=2)
        assert found["train_labels"].tolist() == ["dog", "cat", "dog"]
        assert found["test_labels"].tolist() == ["dog"]
    before = Path(made).stat().st_mtime_ns
    assert shrunk(str(tmp_path / "two.npz"), 8, tmp_path / "local") == made
    assert Path(made).stat().st_mtime_ns == before
    assert shrunk("digits", 8, tmp_path) == "digits"
