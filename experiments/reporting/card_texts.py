"""The texts of a model card that are the same for every run."""

# The license is the owner's to choose.
METADATA = """
---
tags:
- jax
- l2t_jax
- image-classification
- transfer-learning
pipeline_tag: image-classification
metrics:
- accuracy
---
""".strip()
OWNER = "[More Information Needed]"
PAPER = "https://arxiv.org/abs/1905.05901"
CITATION = """
@inproceedings{jang2019learning,
  title     = {Learning What and Where to Transfer},
  author    = {Jang, Yunhun and Lee, Hankook and Hwang, Sung Ju and Shin, Jinwoo},
  booktitle = {International Conference on Machine Learning},
  year      = {2019}
}
""".strip()
# `l2t_jax` does this itself when it is imported, which the lines below do not.
WRONG_SUMS = (
    "jaxlib 0.10.2 computes some sums wrong on a CPU. With that version, run `export "
    "XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=` first. Other versions do not know the flag."
)
# The serving page has the same lines; a test runs them.
GET_STARTED = """
import json
from pathlib import Path

import jax
import numpy as np
from jax import export
from PIL import Image, ImageOps

folder = Path(".")
model = json.loads((folder / "model.json").read_text())
program = jax.jit(export.deserialize((folder / "program.jax").read_bytes()).call)
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
image = ImageOps.fit(photo, model["image_shape"][1::-1], bleed=(1 - model["crop_share"]) / 2)
probabilities = np.asarray(program(np.asarray(image)[None]))[0]
print(model["classes"][probabilities.argmax()], probabilities.max())
""".strip()
