"""jaxlib 0.10.2 computes wrong sums with YNNPACK; importing the library turns it off."""

import os
import subprocess
import sys
from pathlib import Path

import jaxlib
import pytest

import l2t_jax
from l2t_jax import _ynnpack

FAULTY = jaxlib.__version__ in _ynnpack.FAULTY
SUMS = """
import numpy as np
rng = np.random.default_rng(0)
points, matrix = rng.standard_normal((40_000, 3)), rng.standard_normal((3, 3))
norms = jax.jit(lambda points: jnp.sum(jnp.square(matrix @ points.T), axis=0))
with jax.enable_x64(True):
    wrong = np.abs(norms(points) - np.square(points @ matrix.T).sum(1)) > 1e-9
print(wrong.sum())
"""


def wrong_sums(imports: str, **environment: str) -> tuple[int, str]:
    """How many of 40,000 sums are wrong in a fresh process, and what it warns of."""
    rest = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    path = {"PYTHONPATH": str(Path(l2t_jax.__file__).parents[1]), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", imports + SUMS],
        env=rest | path | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout), done.stderr


def test_sums_are_right_after_the_import():
    assert wrong_sums("import jax, jax.numpy as jnp, l2t_jax") == (0, "")


@pytest.mark.skipif(not FAULTY, reason="this jaxlib is right without the flag")
def test_this_jaxlib_is_wrong_without_the_flag():
    assert wrong_sums("import jax, jax.numpy as jnp")[0] > 1000


@pytest.mark.skipif(not FAULTY, reason="this jaxlib is right without the flag")
def test_warns_where_jax_has_started():
    count, said = wrong_sums("import jax, jax.numpy as jnp; jax.devices(); import l2t_jax")
    assert count > 1000
    assert "jaxlib 0.10.2" in said
    assert _ynnpack.FLAG in said


@pytest.mark.skipif(not FAULTY, reason="this jaxlib is right without the flag")
def test_the_users_own_choice_stays():
    given = f"{_ynnpack.FLAG}=individual_dot,dot,reduce"
    imports = "import os, jax, jax.numpy as jnp, l2t_jax; assert os.environ['XLA_FLAGS'] == GIVEN"
    assert wrong_sums(f"GIVEN = {given!r}; {imports}", XLA_FLAGS=given)[1] == ""


@pytest.mark.parametrize(
    ("version", "flags", "after"),
    [
        ("0.10.1", None, None),
        ("0.11.0", "--some_flag=1", "--some_flag=1"),
        ("0.10.2", f"{_ynnpack.FLAG}=dot", f"{_ynnpack.FLAG}=dot"),
        ("0.10.2", None, f"{_ynnpack.FLAG}="),
        ("0.10.2", "--some_flag=1", f"--some_flag=1 {_ynnpack.FLAG}="),
    ],
)
def test_flags_by_version(monkeypatch, version, flags, after):
    monkeypatch.setattr(_ynnpack.xla_bridge, "backends_are_initialized", lambda: False)
    environment = {} if flags is None else {"XLA_FLAGS": flags}
    _ynnpack.turn_off(version, environment)
    assert environment.get("XLA_FLAGS") == after
