"""The README's code runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

from l2t_jax.models import cifar_resnet


def test_the_readmes_code_runs():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    images = jnp.zeros((2, 32, 32, 3), jnp.float32)
    names = {
        "images": images,
        "labels": jnp.array([1, 2]),
        "source_variables": jax.jit(cifar_resnet(32, 200).init)(jax.random.key(1), images),
    }
    # Traced only: compiling these networks takes half a minute.
    names["traced"] = lambda step: lambda *arguments: jax.eval_shape(step, *arguments)
    exec(code.replace("jax.jit(", "traced("), names)
    assert names["info"].pair_weights.shape == (15,)
