"""What is in a run's folder: the names of its files, and what they say."""

from __future__ import annotations

# Options and what they came to; the epochs, a line each; the result, written last.
CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"
# Only while the run is not finished.
CHECKPOINTS, LOCK = "checkpoints", ".lock"
# Weights of the best epoch, by what was trained.
TARGET, SOURCE = "target.safetensors", "source.safetensors"
# Of a run that learns weights of pairs and channels: their means, and the pictures.
CHANNEL_WEIGHTS = "channel_weights.npz"
LAMBDA, MATCHING = "lambda.png", "matching.png"

# What every reader may count on.
IN_CONFIG = ("seed", "data", "per_class", "epochs")
# Of the train command alone; the pretrain command has the network's name.
IN_TRAIN_CONFIG = ("method", "division", "matched_pairs", "source_layers")
IN_EPOCH = ("train", "val_accuracy")
IN_RESULT = {
    **dict.fromkeys(("best_epoch", "test_accuracy", "val_accuracy", "finished", "seconds"), ()),
    "images": ("train", "validation", "test", "classes"),
    "devices": ("kind", "number", "processes", "cpu_cores"),
    "versions": (),
}
# In the result: what was trained, as `trained_network` describes it.
TRAINED = "trained"
