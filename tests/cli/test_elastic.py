"""`dynnas elastic`: a checkpoint and its class become a space file that every command takes."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from support.trained import TinyResNet, trained

from dynnas.language.parser import load_space
from dynnas.space.moves import largest

MODEL = "support.trained:TinyResNet"
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    torch.save({"state_dict": trained("resnet").state_dict()}, tmp_path / "tiny.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_space_file_is_read_in_another_process(folder, dynnas: Callable) -> None:
    out = dynnas("elastic", "tiny.pt", "--model", MODEL, "--input", "3x16x16", "--exclude", "stage2").out
    assert "TinyResNet: " in out
    assert "stage2.0.conv1.0: is excluded" in out
    assert "module: tiny_elastic.py" in out
    space = load_space("tiny.yaml")
    assert torch.equal(space.build(largest(space))(IMAGES), trained("resnet")(IMAGES))
    code = (
        "from dynnas.language.parser import load_space; space = load_space('tiny.yaml'); "
        "print(space.digest, space.name, len(space.genes))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.split() == [space.digest, "tiny", str(len(space.genes))]


def test_safetensors_and_another_head(folder, dynnas: Callable) -> None:
    from safetensors.torch import save_file

    save_file(trained("resnet").state_dict(), "tiny.safetensors")
    options = (
        "--model",
        MODEL,
        "--input",
        "3x16x16",
        "--classes",
        "7",
        "--resolution",
        "8",
        "--out",
        "a.yaml",
    )
    dynnas("elastic", "tiny.safetensors", *options)
    space = load_space("a.yaml")
    assert space.build(largest(space))(IMAGES).shape == (2, 7)
    assert space.gene("input.resolution").values == (8, 16)


def test_sizes_that_are_no_squares(folder, dynnas: Callable) -> None:
    words = ["elastic", "tiny.pt", "--model", MODEL, "--input", "3x16x24", "--resolution"]
    dynnas(*words, "12x20", "--resolution", "8")
    assert load_space("tiny.yaml").gene("input.resolution").values == (8, (12, 20), (16, 24))
    assert "--resolution is '12 x 20'; allowed is HEIGHTxWIDTH" in dynnas(*words, "12 x 20").err


def test_arguments_of_the_model(folder, dynnas: Callable) -> None:
    torch.save(TinyResNet(classes=3).state_dict(), "three.pt")
    dynnas("elastic", "three.pt", "--model", MODEL, "--argument", "classes=3", "--input", "3x16x16")
    assert load_space("three.yaml").model.outputs == 3
    words = ["elastic", "three.pt", "--model", MODEL, "--input", "3x16x16", "--overwrite", "--argument"]
    assert "--argument is 'classes'; allowed is NAME=VALUE" in dynnas(*words, "classes").err
    assert "TinyResNet with kinds raised TypeError" in dynnas(*words, "kinds=3").err


def test_gates_exits_and_kernels_from_the_command_line(folder, dynnas: Callable) -> None:
    words = ["--gate", "0.5", "--exit", "stage1", "--op", "condconv", "--plain-depth"]
    dynnas("elastic", "tiny.pt", "--model", MODEL, "--input", "3x16x16", *words)
    space = load_space("tiny.yaml")
    assert space.gene("stage1.0.gate").values == ("skip 0.5", "none")
    assert space.gene("exits.at").values == ("stage1", "none")
    assert space.gene("exits.threshold").condition == (("exits.at", ("stage1",)),)
    assert space.gene("stem.0.op").values == ("condconv", "static")
    assert torch.equal(space.build(largest(space))(IMAGES), trained("resnet")(IMAGES))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exit", "stage3"], "elastic: exits names 'stage3', which TinyResNet does not have"),
        (["--input", "224"], "--input is '224'; allowed is CHANNELSxHEIGHTxWIDTH"),
        (["--model", "support.trained:Nothing"], "'support.trained:Nothing' cannot be imported"),
        (["--model", "support.trained:conv"], "raised TypeError"),
        (["--model", "builtins:dict"], "gives dict; needed is a torch.nn.Module"),
        (
            ["--model", "support.trained:TinyViT"],
            "tiny.pt: is no checkpoint of TinyViT, which has 44 tensors: it lacks 44 (token,",
        ),
        (["--input", "1x16x16"], "the forward pass failed on inputs of (1, 1, 16, 16)"),
    ],
)
def test_what_is_wrong_is_one_message(folder, dynnas: Callable, words, message) -> None:
    given = {"--model": MODEL, "--input": "3x16x16"} | dict([words])
    ran = dynnas("elastic", "tiny.pt", *(word for pair in given.items() for word in pair))
    assert ran.status == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_files_that_are_there_stay(folder, dynnas: Callable) -> None:
    words = ("elastic", "tiny.pt", "--model", MODEL, "--input", "3x16x16")
    dynnas(*words)
    assert "tiny.yaml is there already" in dynnas(*words).err
    assert "space:  tiny.yaml" in dynnas(*words, "--overwrite").out
