"""COCO: a JSON file with the boxes of all pictures of a split.

Folders are read as COCO has them (`annotations/instances_train2017.json` beside `train2017/`), and with a
file `_annotations.coco.json` in the folder of each split.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.data.boxes.annotated import Annotated, Picture
from dynnas.data.sources.names import split_of
from dynnas.errors import DataError

_IN_FOLDERS = "_annotations.coco.json"


def recognises(path: Path) -> bool:
    """Return whether a folder has such files in one of the two ways."""
    return path.is_dir() and next(_files(path), None) is not None


def read(folder: Path) -> Annotated:
    """Read the data set in `folder`; crowds are left out.

    Raises:
        DataError: a file is damaged, has other classes than the training one, or names a picture that is not
            there.
    """
    splits: dict[str, list[Picture]] = {}
    names: tuple[str, ...] = ()
    crowds = empty = strays = 0
    found = sorted(_files(folder), key=lambda one: one[0] != "train")
    files: dict[str, Path] = {}
    for part, path, _ in found:
        if files.setdefault(part, path) != path:
            raise DataError(f"{files[part]} and {path} are both of the {part} split; keep one of them")
    for part, path, images in found:
        content = _load(path)
        kinds = {each["id"]: str(each["name"]) for each in content["categories"]}
        used = {each["category_id"] for each in content["annotations"]}
        if nameless := sorted(used - set(kinds)):
            raise DataError(
                f"{path}: annotations are of category {nameless[0]}, and its categories are "
                f"{', '.join(map(str, sorted(kinds)))}; add it to them"
            )
        if not names:
            names = tuple(kinds[number] for number in sorted(kinds) if number in used)
        if unknown := sorted(kinds[number] for number in used if kinds[number] not in names):
            raise DataError(
                f"{path}: no training picture has {', '.join(unknown)}; the classes are {', '.join(names)}"
            )
        splits[part] = _pictures(path, content, images, kinds, names)
        known = {each["id"] for each in content["images"]}
        strays += sum(each["image_id"] not in known for each in content["annotations"])
        crowds += sum(bool(each.get("iscrowd")) for each in content["annotations"])
        empty += sum(
            not each.get("iscrowd") and min(each["bbox"][2:]) <= 0 for each in content["annotations"]
        )
    if "train" not in splits:
        raise DataError(f"{folder}: no annotations of training pictures; name the file instances_train*.json")
    if "search" in splits and "test" not in splits:
        splits["test"] = splits.pop("search")
    told = [
        f"{crowds} crowds" if crowds else "",
        f"{empty} boxes without an area" if empty else "",
        f"{strays} boxes of pictures that are not listed" if strays else "",
    ]
    left_out = " and ".join(filter(None, told))
    return Annotated(folder.resolve().name, str(folder), names, splits, left_out)


def _files(folder: Path) -> Iterator[tuple[str, Path, tuple[Path, ...]]]:
    """Yield split, annotations, and the folders in which its pictures may lie."""
    for path in sorted((folder / "annotations").glob("*.json")):
        found = re.fullmatch(r"(?:instances_)?([a-z]+)(\d*)", path.stem)
        part = split_of(found[1]) if found else None
        if found and part:
            own = found[1] + found[2]
            places = (folder / own, folder / "images" / own, folder / "images", folder)
            yield part, path, places
    for path in sorted(folder.glob(f"*/{_IN_FOLDERS}")):
        if part := split_of(path.parent.name):
            yield part, path, (path.parent,)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("images", "annotations", "categories") if key not in content]
        bare = [each.get("id") for each in content.get("annotations", ()) if len(each.get("bbox", ())) != 4]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); fetch or export it again") from error
    if missing:
        raise DataError(f"{path}: it has no {', '.join(missing)}; needed are annotations of COCO")
    if bare:
        raise DataError(
            f"{path}: {len(bare)} annotations have no bbox of x, y, width and height, as number {bare[0]}; "
            "export boxes (those of captions and of keypoints alone are not read)"
        )
    return content


def _pictures(
    path: Path,
    content: Mapping[str, Any],
    places: tuple[Path, ...],
    kinds: Mapping[int, str],
    names: tuple[str, ...],
) -> list[Picture]:
    rows = defaultdict(list)
    for each in content["annotations"]:
        x, y, width, height = map(float, each["bbox"])
        if not each.get("iscrowd") and width > 0 and height > 0:
            kind = names.index(kinds[each["category_id"]])
            rows[each["image_id"]].append((kind, x, y, x + width, y + height))
    made = []
    for each in content["images"]:
        file = next(
            (place / each["file_name"] for place in places if (place / each["file_name"]).exists()), None
        )
        if file is None:
            raise DataError(
                f"{path}: it names {each['file_name']!r}, which is in none of {', '.join(map(str, places))}; "
                "put the pictures there"
            )
        size = int(each.get("width") or 0), int(each.get("height") or 0)
        made.append(Picture(file, np.array(rows[each["id"]], np.float64).reshape(-1, 5), size))
    return made
