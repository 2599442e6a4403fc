"""Files of compressed networks: Huffman codes for shared weights, and no zeros of sparse ones.

After a mark: the length of the header (uint32, little endian), the header (JSON, deflated), then the tensors
in its order. A coded tensor is its centroids (float32), the lengths of their codes (uint8), and the codes; a
sparse one a bit for each value, whether it is kept, and those values (float32); any other its values.
"""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynnas.compression.huffman import code_lengths, decode, encode
from dynnas.errors import TrainingError
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.networks.network import Network

MARK = b"dynnas coded 1\n"


def write_coded(
    network: Network, path: Path, indices: Mapping[str, np.ndarray], sparse: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Write `network`.

    Args:
        network: in eval mode; of one's own class the tensors alone are written.
        path: of the file.
        indices: of tensors that have one value for each cluster, by name: which one each value is of.
        sparse: names of tensors that are mostly zeros.

    Returns:
        How many bytes the tensors of `indices` take as float32, as indices of whole bits, and as codes with
        their tables.
    """
    tensors, parts = [], []
    sizes = {"float_bytes": 0, "index_bytes": 0, "coded_bytes": 0}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # counts steps of training
        values = tensor.detach().cpu().numpy().astype(np.float32)
        entry: dict[str, Any] = {"name": name, "shape": values.shape}
        if name in sparse:
            kept = values.ravel() != 0
            tensors.append({**entry, "kept": int(kept.sum())})
            parts += [np.packbits(kept).tobytes(), values.ravel()[kept].tobytes()]
            continue
        if name not in indices:
            tensors.append(entry)
            parts.append(values.tobytes())
            continue
        index, flat = indices[name], values.ravel()
        clusters = int(index.max()) + 1
        centroids = np.zeros(clusters, dtype=np.float32)
        centroids[index] = flat
        lengths = code_lengths(np.bincount(index, minlength=clusters))
        codes = encode(index, lengths)
        tensors.append({**entry, "clusters": clusters, "bytes": len(codes)})
        coded = centroids.tobytes() + lengths.tobytes() + codes
        parts.append(coded)
        sizes["float_bytes"] += values.nbytes
        sizes["index_bytes"] += centroids.nbytes + -(-flat.size * max(1, (clusters - 1).bit_length()) // 8)
        sizes["coded_bytes"] += len(coded)
    config = config_to_dict(network.config) if isinstance(network, Network) else None
    header = zlib.compress(json.dumps({"config": config, "tensors": tensors}).encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join([MARK, struct.pack("<I", len(header)), header, *parts]))
    return sizes


def read_coded(path: Path, like: Network | None = None) -> Network:
    """Return the network that `write_coded` wrote, in eval mode.

    Args:
        path: of the file.
        like: a network of the same shapes, a copy of it gets the tensors. The file of a network of one's own
            class does not say what it is.

    Raises:
        TrainingError: the file is damaged.
    """
    content = path.read_bytes()
    try:
        if not content.startswith(MARK):
            raise ValueError("it does not begin as such a file does")
        start = len(MARK) + 4
        (length,) = struct.unpack("<I", content[len(MARK) : start])
        header = json.loads(zlib.decompress(content[start : start + length]))
        network = copy.deepcopy(like) if like else Network(config_from_dict(header["config"]))
        state, at = network.state_dict(), start + length
        for entry in header["tensors"]:
            values, at = _read_tensor(content, at, entry)
            state[entry["name"]].copy_(torch.from_numpy(values.reshape(entry["shape"])))
        if at != len(content):
            raise ValueError(f"{len(content) - at} bytes are left over")
    except (ValueError, KeyError, TypeError, RuntimeError, struct.error, zlib.error) as error:
        raise TrainingError(f"{path}: no readable coded network ({error}); compress it again") from error
    return network.eval()


def _read_tensor(content: bytes, at: int, entry: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """Return the tensor that begins at byte `at`, and where the next one does."""
    size = int(np.prod(entry["shape"], dtype=np.int64))
    if (count := entry.get("kept")) is not None:
        middle = at + -(-size // 8)
        kept = np.unpackbits(np.frombuffer(content[at:middle], dtype=np.uint8), count=size).astype(bool)
        values = np.zeros(size, dtype=np.float32)
        values[kept] = np.frombuffer(content[middle : middle + 4 * count], dtype=np.float32)
        return values, middle + 4 * count
    clusters = entry.get("clusters")
    if clusters is None:
        end = at + 4 * size
        return np.frombuffer(content[at:end], dtype=np.float32).copy(), end
    centroids = np.frombuffer(content[at : at + 4 * clusters], dtype=np.float32)
    at += 4 * clusters
    lengths = np.frombuffer(content[at : at + clusters], dtype=np.uint8)
    at += clusters
    end = at + entry["bytes"]
    return centroids[decode(content[at:end], lengths, size)], end
