"""What other tools call the options here, and which of their options do not exist here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from .checks import flag

PAGE = "docs/habits.md says what there is instead"

# Other tools' names of options, and the options' names here.
KNOWN = {
    **dict.fromkeys(("learning_rate", "base_lr"), "lr"),
    **dict.fromkeys(("wd", "decay"), "weight_decay"),
    **dict.fromkeys(("smoothing", "label_smooth"), "label_smoothing"),
    **dict.fromkeys(("amp", "amp_dtype", "fp16", "bf16", "dtype"), "precision"),
    **dict.fromkeys(("b", "bs", "batch", "validation_batch_size"), "batch_size"),
    **dict.fromkeys(("model", "arch", "student"), "target"),
    **dict.fromkeys(("teacher", "pretrained_model"), "source"),
    **dict.fromkeys(("pretrained", "pretrained_path", "initial_checkpoint"), "source_weights"),
    **dict.fromkeys(("dataset", "train_dir", "train_data"), "data"),
    **dict.fromkeys(("val_split", "validation_split"), "val_fraction"),
    **dict.fromkeys(("img_size", "input_size", "size", "resolution"), "image_size"),
    **dict.fromkeys(("output", "output_dir", "save_dir", "experiment"), "run_dir"),
    **dict.fromkeys(("j", "num_workers"), "workers"),
    **dict.fromkeys(("aa", "auto_augment", "augmentation"), "augment"),
    **dict.fromkeys(("crop_pct", "scale"), "crop_share"),
    **dict.fromkeys(("early_stopping", "early_stop"), "patience"),
    **dict.fromkeys(("log_wandb", "wandb", "tensorboard", "logger"), "log"),
    **dict.fromkeys(("alpha", "lambda", "kd_weight"), "beta"),
    **dict.fromkeys(("tau", "t"), "temperature"),
    "class_weight": "class_weights",
    "num_epochs": "epochs",
    "warmup": "warmup_epochs",
    "random_seed": "seed",
    "shots": "per_class",
}
# Other tools' options that have no counterpart.
ABSENT = {
    *("opt", "optimizer", "optim", "sched", "scheduler", "lr_scheduler"),
    *("warmup_steps", "warmup_lr", "mixup", "cutmix"),
    *("mixup_prob", "model_ema", "ema", "clip_grad", "max_grad_norm", "gradient_clip_val"),
    *("freeze", "freeze_layers", "k_fold", "folds", "loss", "mean"),
    *("std", "device", "gpu", "drop_path", "drop", "grad_accum_steps"),
    *("compile", "reprob", "color_jitter", "hflip", "layer_decay"),
}


def of_unknown(name: str, known: Iterable[str]) -> str:
    """What to say of an option that a command does not have.

    Args:
      name: as given, with hyphens or underscores.
      known: the names of the command's options, with underscores.

    Returns:
      A question or a hint; an empty text if there is none.
    """
    plain, known = name.strip("-").replace("-", "_").lower(), set(known)
    if KNOWN.get(plain) in known:
        return f"did you mean {flag(KNOWN[plain])}?"
    if plain in ABSENT:
        return f"there is no such option; {PAGE}"
    near = difflib.get_close_matches(plain, known, 1)
    return f"did you mean {flag(near[0])}?" if near else ""


def of_message(message: str, known: Iterable[str]) -> str:
    """The same for the first unknown option in a parser's message."""
    found = re.match(r"Unrecognized options?: (--?[\w-]+)", message)
    return of_unknown(found[1], known) if found else ""
