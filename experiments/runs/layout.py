"""The files in a run's folder: their names, and their keys."""

from __future__ import annotations

# The options and what follows from them; a line for each epoch; the result, written last.
CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"
# These are there only while the run is not finished.
CHECKPOINTS, LOCK = "checkpoints", ".lock"
# Likewise: what the run trains, as `trained_network` describes it.
TRAINS = "trains.json"
# The files of each part, of a run on images in files.
IMAGES = "images.csv"
# The run's id at Weights & Biases.
WANDB_ID = "wandb_id.txt"
# What the test images of each class are taken for.
CONFUSION = "confusion.csv"
# Weights of the best epoch: of a target, or of a source.
TARGET, SOURCE = "target.safetensors", "source.safetensors"
# If the run learns weights of pairs and channels: their means, and the pictures.
CHANNEL_WEIGHTS = "channel_weights.npz"
LAMBDA, MATCHING = "lambda.png", "matching.png"

# The keys that must be there.
IN_CONFIG = ("seed", "data", "per_class", "epochs")
# These are from l2t train only; l2t pretrain writes the network's name instead.
IN_TRAIN_CONFIG = ("method", "division", "matched_pairs", "source_layers")
IN_EPOCH = ("train", "val_accuracy")
IN_RESULT = {
    **dict.fromkeys(("best_epoch", "test_accuracy", "val_accuracy", "finished", "seconds"), ()),
    "images": ("train", "validation", "test", "classes"),
    "devices": ("kind", "number", "processes", "cpu_cores"),
    "versions": (),
}
# The key of the result with the number of images of each class, by part.
PER_CLASS = "images_per_class"
# The key of the result that says how training images were augmented.
AUGMENTATION = "augmentation"
# The key of the result with the trained network, as `trained_network` describes it.
TRAINED = "trained"
