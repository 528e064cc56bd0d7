"""Weights by name on the Hub: from a server on this machine, from the cache, and what is told."""

import json
import os
import re
import subprocess
import sys

import hub_server
import jax
import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT, quick_compiler
from hub_server import COMMITS
from huggingface_hub import constants
from messages import says
from pages import DOCS

from experiments import __main__ as l2t
from experiments.networks import weight_files, zoo
from experiments.options import config_file
from experiments.options.train_options import Config

FIRST, SECOND = (safetensors.numpy.save({"w": np.full(2, n, "f4")}) for n in range(2))


def become(monkeypatch, address):
    """What HF_ENDPOINT does when the library is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "".join(template[1:]))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server that is the Hub, with an empty cache."""
    with hub_server.serving() as hub:
        become(monkeypatch, hub.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def unreachable(monkeypatch):
    """Makes the Hub a port on which nothing listens."""

    def leave() -> None:
        with hub_server.serving() as closed:
            address = closed.address
        become(monkeypatch, address)

    return leave


def test_the_commit_of_a_branch_is_downloaded_once_and_stays_without_the_hub(
    hub, unreachable, monkeypatch, capsys
):
    hub.add("org/net", {"sub/model.safetensors": FIRST, "README.md": b"#"})
    found = weight_files.find("hf:org/net")
    assert found.file.read_bytes() == FIRST
    assert found.name == f"hf:org/net@{COMMITS[0]}:sub/model.safetensors"
    hub.requests.clear()
    # One commit's file cannot change, so nothing is asked.
    assert weight_files.find(found.name) == found
    assert hub.requests == []
    # The branch moves.
    there = hub.repositories["org/net"]
    there.commits[COMMITS[1]] = {"sub/model.safetensors": SECOND}
    there.refs["main"] = COMMITS[1]
    moved = weight_files.find("hf:org/net")
    assert moved.file.read_bytes() == SECOND
    assert moved.name == found.name.replace(*COMMITS)
    assert weight_files.find(f"hf:org/net@{COMMITS[0]}") == found
    capsys.readouterr()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weight_files.find("hf:org/net") == moved
    assert says(capsys.readouterr().err, f"HF_HUB_OFFLINE … {moved.name} is taken from its cache")
    assert weight_files.find(f"hf:org/net@{COMMITS[0]}:sub/model.safetensors") == found
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    unreachable()
    assert weight_files.find("hf:org/net@main:sub/model.safetensors") == moved
    assert "ConnectError" in capsys.readouterr().err


def test_a_token_opens_a_gated_repository(hub, monkeypatch):
    hub.add("org/gated", {"model.safetensors": FIRST}, gated=True)
    with pytest.raises(ValueError, match="got a gated one"):
        weight_files.find("hf:org/gated")
    monkeypatch.setenv("HF_TOKEN", "a-token")
    assert weight_files.find("hf:org/gated").file.read_bytes() == FIRST


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hf:org/none", "hf:org/none must be a repository on the Hub (got none, or a private one)"),
        ("hf:org/net@v9", "hf:org/net@v9 … (got no v9 in org/net)"),
        ("hf:org/net:c.safetensors", "got no such file … a.safetensors, b.safetensors"),
        ("hf:org/net", "(got 2: a.safetensors, b.safetensors); add :FILE, as in hf:org/net:a.safe"),
        ("hf:org/old", "hf:org/old must have a .safetensors file (got none)"),
        ("hf:org/pickle", "hf:org/pickle must be a safetensors file (got one that begins with"),
        ("hf:org/net:a.safetensors", "must have at most 4 GiB (got a.safetensors with 5.0 GiB)"),
        ("hf:org/n--et", "hf:org/n--et must be a name that the Hub allows (got "),
    ],
)
def test_what_the_hub_does_not_have_is_told(name, text, hub, tmp_path):
    hub.add("org/net", {"a.safetensors": FIRST, "b.safetensors": FIRST})
    hub.add("org/old", {"pytorch_model.bin": b"\x80"})
    hub.add("org/pickle", {"model.safetensors": b"\x80\x02}q\x00.    "})
    hub.sizes["a.safetensors"] = 5 * 1024**3
    with pytest.raises(ValueError, match="must") as raised:
        weight_files.find(name)
    assert says(str(raised.value), text)
    assert "\n" not in str(raised.value)
    if "pickle" not in name:
        assert not list((tmp_path).rglob("*.safetensors"))


def test_without_an_answer_and_without_a_cache_this_is_told(hub, unreachable, monkeypatch):
    hub.add("org/net", {"model.safetensors": FIRST})
    hub.status = 503
    with pytest.raises(ConnectionError, match=r"503.*its cache does not have hf:org/net either"):
        weight_files.find("hf:org/net")
    unreachable()
    with pytest.raises(ConnectionError, match=r"ConnectError.*cache does not have hf:org/net "):
        weight_files.find("hf:org/net")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE.*cache does not have hf:org/net "):
        weight_files.find("hf:org/net")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hf:net", "--weights must be a file or hf:ORG/NAME[@REVISION][:FILE] (got hf:net)"),
        ("hf:org/net:model.bin", "--weights must be a .safetensors file of the Hub (got hf:org"),
        ("net.pth", "--weights … net.pth: no such file"),
    ],
)
def test_a_bad_name_is_told_before_the_hub_is_asked(name, text):
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        weight_files.check("--weights", name)
    assert says(str(raised.value), text)


def test_the_missing_library_is_told_with_what_installs_it(monkeypatch):
    weight_files.check("--weights", "hf:org/net")
    monkeypatch.setattr(weight_files, "is_installed", lambda module: module != "huggingface_hub")
    with pytest.raises(
        ValueError, match=r'not installed; install it: pip install "l2t_jax\[hub\]"'
    ):
        weight_files.check("--weights", "hf:org/net")


DIGITS = ["--data", "digits", "--image-size", "8", "--target", "resnet8", "--batch-size", "40",
          "--epochs", "2", "--per-class", "10", "--method", "fm", "--source",
          "resnet8"]  # fmt: skip


@pytest.mark.slow
@quick_compiler()
def test_a_run_keeps_to_the_commit_that_it_began_with(hub, resnet8_weights, interrupt, tmp_path):
    """Its branch moves to a file that does not fit, while the run is interrupted."""
    hub.add("org/net", {"model.safetensors": resnet8_weights.read_bytes()})
    folder, words = tmp_path / "run", ["train", *DIGITS, "--source-weights", "hf:org/net"]
    interrupt(2)
    assert l2t.main([*words, "--run-dir", str(folder)]) == 143
    there = hub.repositories["org/net"]
    there.commits[COMMITS[1]] = {"model.safetensors": SECOND}
    there.refs["main"] = COMMITS[1]
    interrupt(0)
    used = f"hf:org/net@{COMMITS[0]}:model.safetensors"
    # As its config.json has it, and as it was typed.
    again = ["train", "--config", str(folder / "config.json"), "--run-dir", str(folder)]
    interrupt(2)
    assert l2t.main(again) == 143
    interrupt(0)
    assert l2t.main([*words, "--run-dir", str(folder)]) == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["source_weights"] == ["hf:org/net"]
    assert config["source_weights_used"] == [used]
    hub.requests.clear()
    assert l2t.main(again) == 0  # finished
    assert hub.requests == []
    assert f"--source-weights {used}".split()[1] in config_file.words(
        folder / "config.json", Config
    )
    # The same as with the file itself.
    other = tmp_path / "other"
    of_file = [*DIGITS, "--source-weights", str(resnet8_weights), "--run-dir", str(other)]
    assert l2t.main(["train", *of_file]) == 0
    name = "target.safetensors"
    assert (other / name).read_bytes() == (folder / name).read_bytes()
    assert "source_weights_used" not in json.loads((other / "config.json").read_text())
    # A new run takes the new commit, which is no network: nothing is written.
    assert l2t.main([*words, "--run-dir", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def test_the_environment_says_where_the_hub_is(hub, tmp_path):
    """In a process of its own, with the Hub and then without."""
    hub.add("org/net", {"model.safetensors": FIRST})
    code = "from experiments.networks import weight_files as w; print(w.find('hf:org/net').name)"
    known = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | known | more,
            check=True,
        )
        assert done.stdout == f"hf:org/net@{COMMITS[0]}:model.safetensors\n"
        assert ("is taken from its cache" in done.stderr) == bool(more)


@pytest.mark.slow
@quick_compiler()
def test_weights_are_evaluated_by_their_name(hub, resnet8_weights, capsys):
    hub.add("org/net", {"model.safetensors": resnet8_weights.read_bytes()})
    words = ["evaluate", "--network", "resnet8", "--data", "digits", "--image-size", "8"]
    printed = []
    for name in (f"hf:org/net@{COMMITS[0]}", str(resnet8_weights)):
        assert l2t.main([*words, "--weights", name]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "of 1797 right" in printed[0]


def test_a_comparison_looks_names_up_before_its_first_run(hub, tmp_path, capsys):
    out = tmp_path / "all"
    words = ["compare", "--methods", "scratch", "fm", "--per-class", "10", "--out", str(out)]
    words += ["--", "--data", "digits", "--image-size", "8", "--source", "resnet8"]
    assert l2t.main([*words, "--source-weights", "hf:org/none"]) == 2
    assert "hf:org/none must be a repository on the Hub" in capsys.readouterr().err
    assert not out.exists()


def of_resnet(depth, in_channels=64):
    """Names and shapes of torchvision's ResNet, from its definition."""
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    grown = 4 if depth == 50 else 1
    shapes = {}

    def convolution(name, *shape):
        shapes[f"{name}.weight"] = shape

    def norm(name, width):
        shapes.update(
            {
                f"{name}.{leaf}": (width,)
                for leaf in ("weight", "bias", "running_mean", "running_var")
            }
        )
        shapes[f"{name}.num_batches_tracked"] = ()

    convolution("conv1", 64, 3, 7, 7)
    norm("bn1", 64)
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            name, wide = f"layer{stage + 1}.{block}", width * grown
            sizes = [(width, in_channels, 1), (width, width, 3), (wide, width, 1)]
            if grown == 1:
                sizes = [(width, in_channels, 3), (width, width, 3)]
            for number, (out, into, side) in enumerate(sizes, 1):
                convolution(f"{name}.conv{number}", out, into, side, side)
                norm(f"{name}.bn{number}", out)
            if in_channels != wide:
                convolution(f"{name}.downsample.0", wide, in_channels, 1, 1)
                norm(f"{name}.downsample.1", wide)
            in_channels = wide
    shapes["fc.weight"], shapes["fc.bias"] = (1000, in_channels), (1000,)
    return shapes


def as_hugging_face(shapes):
    """The same tensors under the names of Hugging Face's ResNet."""
    renamed = {}
    for name, shape in shapes.items():
        *module, part, leaf = name.split(".")
        kind = "convolution" if part.startswith("conv") or part == "0" else "normalization"
        if not module:
            base = "classifier.1" if part == "fc" else f"resnet.embedder.embedder.{kind}"
        else:
            base = f"resnet.encoder.stages.{int(module[0][-1]) - 1}.layers.{module[1]}."
            shortcut = "downsample" in module
            base += f"shortcut.{kind}" if shortcut else f"layer.{int(part[-1]) - 1}.{kind}"
        renamed[f"{base}.{leaf}"] = shape
    return renamed


def of_deit_tiny():
    """Names and shapes of timm's DeiT-Ti, from its definition."""
    width, shapes = 192, {"cls_token": (1, 1, 192), "pos_embed": (1, 197, 192)}

    def affine(name, out, *into):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, *into), (out,)

    affine("patch_embed.proj", width, 3, 16, 16)
    for block in range(12):
        for name, out, into in (
            *(("norm1", width, ()), ("attn.qkv", 3 * width, (width,))),
            *(("attn.proj", width, (width,)), ("norm2", width, ())),
            *(("mlp.fc1", 4 * width, (width,)), ("mlp.fc2", width, (4 * width,))),
        ):
            affine(f"blocks.{block}.{name}", out, *into)
    affine("norm", width)
    affine("head", 1000, width)
    return shapes


MADE_UP = {
    "timm/resnet18.a1_in1k": of_resnet(18),
    "timm/resnet34.tv_in1k": of_resnet(34),
    "timm/resnet50.tv_in1k": of_resnet(50),
    "microsoft/resnet-18": as_hugging_face(of_resnet(18)),
    "microsoft/resnet-50": as_hugging_face(of_resnet(50)),
    "timm/deit_tiny_patch16_224.fb_in1k": of_deit_tiny(),
}
LINES = re.findall(r"`(--source \S+ --source-weights hf:\S+)`", (DOCS / "networks.md").read_text())


def test_every_repository_of_the_page_has_a_made_up_one():
    assert [line.split("hf:")[1] for line in LINES] == list(MADE_UP)


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_the_repositories_of_the_page_have_names_that_are_read(line, hub):
    """Those of a made-up file: the tensors' names and shapes, from the networks' definitions."""
    _, network, _, name = line.split()
    shapes = MADE_UP[name.removeprefix("hf:")]
    tensors = {
        key: np.zeros(shape, "i8" if key.endswith("tracked") else "f2")
        for key, shape in shapes.items()
    }
    hub.add(name.removeprefix("hf:"), {"model.safetensors": safetensors.numpy.save(tensors)})
    _, variables = zoo.load(network, weight_files.find(name).file, (224, 224, 3))
    count = sum(leaf.size for leaf in jax.tree.leaves((variables.params, variables.model_state)))
    assert count == sum(map(np.size, tensors.values())) - sum("tracked" in key for key in tensors)
