"""The README's code runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp


def test_the_readmes_code_runs(checkpoint):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = code.replace('"tinyimagenet200_resnet32.pth.tar"', repr(str(checkpoint)))
    # Traced only: compiling these networks takes half a minute.
    code = code.replace("jax.jit(", "traced(")
    names = {
        "images": jnp.zeros((2, 32, 32, 3), jnp.float32),
        "labels": jnp.array([1, 2]),
        "traced": lambda step: lambda *arguments: jax.eval_shape(step, *arguments),
    }
    exec(code, names)
    assert names["info"].pair_weights.shape == (15,)
