"""A model card of a finished run: what was trained on what, how, and how well.

Its headings are those of the Hugging Face hub's template. What only the owner knows is left to be
filled in, in the template's words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..options.methods import METHODS
from ..runs import layout
from ..runs.finished import Run
from ..runs.trained_network import Trained
from . import run_identity, table
from .card_texts import CITATION, GET_STARTED, METADATA, OWNER, PAPER, WRONG_SUMS

PARTS = ("train", "validation", "test")
# They have places of their own in the card, or say nothing about the network.
ELSEWHERE = {"method", "network", "target", "source", "source_weights", *run_identity.DATA}


def text(run: Run, trained: Trained) -> str:
    """The card, in Markdown with its metadata in YAML.

    Args:
      run: the run.
      trained: the network that it has trained.
    """
    parts = [METADATA, *details(run, trained), *uses(run), *training(run, trained)]
    return "\n\n".join([*parts, *evaluation(run), *machines(run, trained)]) + "\n"


def details(run: Run, trained: Trained) -> Iterator[str]:
    """Title and "Model Details"."""
    size, sources = shape(trained), [name for name, _ in source_networks(run)]
    helped = f" with the help of {' and '.join(sources)}" if sources else ""
    yield f"# Model Card for {run.folder.resolve().name}"
    yield (
        f"{trained.network} classifies images of {size} pixels into {len(trained.classes)} "
        f"classes. It was trained on {run_identity.data_name(run.config)}{helped}."
    )
    yield "## Model Details\n\n### Model Description"
    yield f"Classes: {', '.join(trained.classes)}."
    lines = [f"**Developed by:** {OWNER}", f"**Model type:** image classifier, {trained.network}"]
    lines.append(f"**License:** {OWNER}")
    if run.config.get("method") in ("finetune", "probe"):
        lines.append(f"**Finetuned from model [optional]:** {sources[0]}")
    yield bullets(lines)
    if uses_paper(run):
        yield f"### Model Sources [optional]\n\n- **Paper [optional]:** {PAPER}"


def uses(run: Run) -> Iterator[str]:
    """From "Uses" to how to begin."""
    yield f"## Uses\n\n### Direct Use\n\n{OWNER}"
    yield f"### Downstream Use [optional]\n\n{OWNER}"
    yield f"### Out-of-Scope Use\n\n{OWNER}"
    yield "## Bias, Risks, and Limitations"
    limits = ["It names one of its classes for every image, also for an image of none of them."]
    limits += [f"The run warned: {warning}." for warning in run.warnings]
    yield bullets([*limits, OWNER])
    yield f"### Recommendations\n\n{OWNER}"
    yield "## How to Get Started with the Model"
    yield f"`pip install jax flatbuffers pillow`, then:\n\n```python\n{GET_STARTED}\n```"
    yield WRONG_SUMS


def training(run: Run, trained: Trained) -> Iterator[str]:
    """ "Training Details"."""
    config, result = run.config, run.result
    yield "## Training Details\n\n### Training Data"
    data = run_identity.data_name(config)
    facts = [
        f"Data set: {data}, with {config.get('division', 'an unknown division')}",
        f"Size of the images: {shape(trained)} pixels",
    ]
    if config.get("per_class") is not None:
        facts.append(f"Training images taken of each class: {config['per_class']}")
    if "data_sha256" in config:
        facts.append(f"SHA-256 of the data, as the run recorded it: `{config['data_sha256']}`")
    yield bullets(facts)
    yield counts(result, trained.classes)
    yield "### Training Procedure"
    yield how(run)
    yield "This command repeats the run on the same files:\n\n" + (
        f"```console\n{run_identity.command(run)}\n```"
    )
    yield "#### Preprocessing [optional]"
    # A run from before it was recorded has what was asked for.
    augmented = result.get(layout.AUGMENTATION, f"`--augment {config.get('augment', 'auto')}`")
    yield (
        "Of an image file the square in the centre is cut out, with "
        f"{trained.crop_share:g} of the shorter side, and scaled. The program divides pixels by "
        f"255 and normalises each channel. Augmentation in training: {augmented}."
    )
    yield "#### Training Hyperparameters"
    given = chosen(run)
    words = [f"`{name.replace('_', '-')}`: {value}" for name, value in given.items()]
    regime = f"**Training regime:** {config.get('precision', 'float32')}"
    yield bullets([regime, *words]) + "\n\nAll other options have the defaults of l2t_jax."
    yield "#### Speeds, Sizes, Times [optional]"
    yield bullets(
        [
            f"Finished: {run.finished.isoformat()}",
            f"Seconds to train, validate and test: {result['seconds']:.0f}",
            f"Epochs: {len(run.epochs)}; the weights are those of epoch {result['best_epoch']}",
        ]
    )


def evaluation(run: Run) -> Iterator[str]:
    """ "Evaluation"."""
    images = run.result["images"]
    chosen = "strength of its penalty" if run.config.get("method") == "probe" else "epoch"
    yield "## Evaluation\n\n### Testing Data, Factors & Metrics\n\n#### Testing Data"
    yield (
        f"{images['test']} images of {run_identity.data_name(run.config)} that were not trained "
        f"on. The {chosen} was chosen on {images['validation']} other images."
    )
    yield "#### Metrics\n\nAccuracy: the share of images whose most probable class is right."
    yield "### Results"
    rows = [
        [name, str(images[key]), f"{100 * run.result[f'{short}_accuracy']:.2f}"]
        for name, key, short in (
            (f"validation, by which the {chosen} was chosen", "validation", "val"),
            ("test", "test", "test"),
        )
    ]
    yield table.grid(["images", "number", "accuracy, %"], rows).strip()
    if run.confusion is None:
        yield "The run did not record the accuracy of each class. `l2t evaluate RUN` prints it."
        return
    classes, matrix = run.confusion
    totals, right = matrix.sum(axis=1), matrix.diagonal()
    yield "Test accuracy of each class:"
    yield table.grid(
        ["class", "right", "of", "accuracy, %"],
        [
            [name, str(right[c]), str(totals[c]), f"{100 * right[c] / totals[c]:.1f}"]
            for c, name in enumerate(classes)
            if totals[c]
        ],
    ).strip()


def machines(run: Run, trained: Trained) -> Iterator[str]:
    """From the hardware to the end."""
    devices = run.result["devices"]
    device = f"{devices['number']} × {devices['kind']}, CPU cores: {devices['cpu_cores']}"
    yield "## Environmental Impact"
    yield bullets(
        [
            f"**Hardware Type:** {device}",
            f"**Hours used:** {run.result['seconds'] / 3600:.2f}",
            f"**Carbon Emitted:** {OWNER}",
        ]
    )
    yield "## Technical Specifications [optional]\n\n### Model Architecture and Objective"
    yield f"{trained.network}; cross-entropy of the classes and what the method adds."
    yield f"### Compute Infrastructure\n\n#### Hardware\n\n{device}"
    versions = [f"{name} {version}" for name, version in run.result["versions"].items()]
    yield f"#### Software\n\n{', '.join(versions)}"
    if uses_paper(run):
        yield f"## Citation [optional]\n\n**BibTeX:**\n\n```bibtex\n{CITATION}\n```"
    yield f"## Model Card Authors [optional]\n\n{OWNER}\n\n## Model Card Contact\n\n{OWNER}"


def how(run: Run) -> str:
    """The method in words, and its source networks."""
    if "method" not in run.config:
        return "Pretraining: the task's loss alone, from random weights."
    method = run.config["method"]
    lines = [f"Method `{method}`: {METHODS[method].help}."]
    lines += [f"Source network {name}: {file}" for name, file in source_networks(run)]
    if run.config.get("matched_pairs"):
        pairs = ", ".join(f"{m}-{n}" for m, n in run.config["matched_pairs"])
        lines.append(f"Pairs of source and target layers, counted from 0: {pairs}")
    return bullets(lines)


def source_networks(run: Run) -> list[tuple[str, str]]:
    """Each source network, with its file of weights and that file's digest."""
    files = run.config.get("source_weights") or []
    digests = run.config.get("source_sha256") or [None] * len(files)
    names = run.config.get("source") or []
    return [
        (name, f"`{Path(file).name}`" + (f", SHA-256 `{digest}`" if digest else ""))
        for name, file, digest in zip(names, files, digests, strict=bool(files))
    ]


def counts(result: dict[str, Any], classes: tuple[str, ...]) -> str:
    """How many images each part has: of each class, if the run recorded it."""
    total = ["all", *(str(result["images"][part]) for part in PARTS)]
    of_classes = result.get(layout.PER_CLASS, {})
    rows = [
        [name, *(str(of_classes[part][i]) for part in PARTS)]
        for i, name in enumerate(classes)
        if of_classes
    ]
    return table.grid(["class", "training", "validation", "test"], [*rows, total]).strip()


def chosen(run: Run) -> dict[str, Any]:
    """The options that are not the defaults, without those that the card has elsewhere."""
    default = run_identity.defaults(run)
    return {
        name: run_identity.text(value)
        for name, value in run_identity.options(run).items()
        if name not in ELSEWHERE | run_identity.PLACES and value != default[name]
    }


def shape(trained: Trained) -> str:
    """Height and width of the images."""
    return "×".join(map(str, trained.image_shape[:2]))


def uses_paper(run: Run) -> bool:
    """Whether the run's method is the paper's."""
    return run.config.get("method", "").startswith("l2t")


def bullets(lines: list[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)
