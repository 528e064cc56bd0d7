"""The model card: the hub's headings, the run's figures, and a command that repeats it."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import finished_run
import jax
import pages
import pytest
import yaml
from conftest import quick_compiler

from experiments import pretrain
from experiments.options.run_options import PLACES, RunOptions
from experiments.options.train_options import Config
from experiments.reporting import card_texts, model_card, run_identity
from experiments.runs import finished, layout, trained_network
from l2t_jax import _ynnpack

pytestmark = pytest.mark.slow

# Those of the hub's template, in its order.
TEMPLATE = [
    "## Model Details", "### Model Description", "### Model Sources [optional]", "## Uses",
    "### Direct Use", "### Downstream Use [optional]", "### Out-of-Scope Use",
    "## Bias, Risks, and Limitations", "### Recommendations",
    "## How to Get Started with the Model", "## Training Details", "### Training Data",
    "### Training Procedure", "#### Preprocessing [optional]", "#### Training Hyperparameters",
    "#### Speeds, Sizes, Times [optional]", "## Evaluation",
    "### Testing Data, Factors & Metrics", "#### Testing Data", "#### Factors", "#### Metrics",
    "### Results", "#### Summary", "## Model Examination [optional]", "## Environmental Impact",
    "## Technical Specifications [optional]", "### Model Architecture and Objective",
    "### Compute Infrastructure", "#### Hardware", "#### Software", "## Citation [optional]",
    "## Glossary [optional]", "## More Information [optional]",
    "## Model Card Authors [optional]", "## Model Card Contact",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return finished_run.photos(tmp_path_factory.mktemp("data") / "our photos")


def run_of(kind: str, photos: Path, folder: Path) -> RunOptions:
    """A finished run; its options."""
    common = {"data": str(photos), "image_size": 8, "batch_size": 10, "run_dir": folder, "seed": 3}
    more: dict = {}
    if kind == "pretrain":
        options = pretrain.Options(network="resnet8", lr=0.05, epochs=2, **common)
        names = "resnet8", layout.SOURCE
    else:
        # A probe has one epoch, whatever the options say.
        options = Config(
            method=kind, source=("resnet8",), source_weights=("our source.pth",),
            target="resnet8", epochs=1 if kind == "probe" else 2, pairs="0-0", beta=2.0, **common,
        )  # fmt: skip
        names = "resnet8", layout.TARGET
        more = {"matched_pairs": [[0, 0]], "source_layers": [], "source_sha256": ["c0ffee"]}
    with quick_compiler(), jax.enable_x64(False):
        finished_run.make(options, *names, **more)
    return options


@pytest.mark.parametrize("kind", ["l2t-ww", "probe", "pretrain"])
def test_a_card_tells_what_the_run_was(kind, photos, tmp_path):
    options = run_of(kind, photos, tmp_path / "run")
    card = model_card.text(finished.read(tmp_path / "run"), trained_network.read(tmp_path / "run"))
    _, front, text = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["metrics"] == ["accuracy"]
    assert "license" not in metadata
    title, *headings = re.findall(r"(?m)^#+ .*$", text)
    assert title == "# Model Card for run"
    assert headings == [heading for heading in TEMPLATE if heading in headings]
    # Figures; of each class two test images, one to validate on, and the rest.
    for name in finished_run.CLASSES:
        assert f"| {name} | 7 | 1 | 2 |" in text
    assert "| all | 21 | 3 | 6 |" in text
    chosen = "strength of its penalty" if kind == "probe" else "epoch"
    assert f"| validation, by which the {chosen} was chosen | 3 | 50.00 |" in text
    augmented = "none" if kind == "probe" else "crop-flip"
    assert f"Augmentation in training: {augmented}." in text
    assert "| test | 6 | 66.67 |" in text
    assert "| beetle | 0 | 2 | 0.0 |\n| moth | 2 | 2 | 100.0 |" in text
    assert "only 6 test images" in text
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert all(f"{name} {version}" in text for name, version in result["versions"].items())
    if kind != "pretrain":
        assert "Source network resnet8: `our source.pth`, SHA-256 `c0ffee`" in text
        assert ("`beta`: 2" in text) == (kind == "l2t-ww")
    assert ("jang2019learning" in text) == (kind == "l2t-ww")
    # Nothing but what only the owner knows is left open.
    assert text.count("None") == text.count("np.asarray(image)[None]") == 1
    assert card_texts.OWNER in text.split("### Direct Use")[1][:40]
    # The command, parsed by the command's own parser, is the run.
    (line,) = re.findall(r"```console\n(.*)\n```", text)
    parsed = dataclasses.asdict(pages.parsed(shlex.split(line)))
    given = dataclasses.asdict(options)
    unused = {"target", "epochs", "batch_size", "pairs", "beta"} if kind == "probe" else set()
    kept = given.keys() - PLACES - unused
    assert {name: parsed[name] for name in kept} == {name: given[name] for name in kept}


def test_a_run_from_before_classes_were_counted_has_a_card_too(photos, tmp_path):
    run_of("pretrain", photos, tmp_path / "run")
    path = tmp_path / "run/result.json"
    result = json.loads(path.read_text())
    assert result.pop(layout.PER_CLASS)["test"] == [2, 2, 2]
    path.write_text(json.dumps(result))
    (tmp_path / "run" / layout.CONFUSION).unlink()
    card = model_card.text(finished.read(tmp_path / "run"), trained_network.read(tmp_path / "run"))
    assert "| all | 21 | 3 | 6 |" in card
    assert "| moth |" not in card


def test_it_knows_the_options_of_l2t_pretrain():
    known = {field.name: field.default for field in dataclasses.fields(pretrain.Options)}
    common = {field.name for field in dataclasses.fields(RunOptions)}
    assert {name: known[name] for name in known.keys() - common} == run_identity.PRETRAINING
    assert known["lr"] == RunOptions.lr


def test_the_serving_page_has_the_cards_lines():
    (page,) = pages.python(pages.DOCS / "serving.md")
    page = page.replace("runs/probe-photos-0/export", ".")
    assert f"{_ynnpack.FLAG}=`" in card_texts.WRONG_SUMS
    assert all(version in card_texts.WRONG_SUMS for version in _ynnpack.FAULTY)
    assert page.strip() == card_texts.GET_STARTED.replace("photo.jpg", "new_photos/1.jpg")
