"""What importing the experiments sets before JAX starts."""

import os
import subprocess
import sys

import jaxlib
import pytest
from conftest import ROOT

from experiments.system import environment

FLAG = environment.EMITTERS


@pytest.mark.parametrize(
    ("version", "flags", "after"),
    [
        ("0.10.1", None, None),
        ("0.11.0", "--some_flag=1", "--some_flag=1"),
        ("0.10.2", None, f"{FLAG}=false"),
        ("0.10.2", "--some_flag=1", f"--some_flag=1 {FLAG}=false"),
        ("0.10.2", f"{FLAG}=true", f"{FLAG}=true"),
    ],
)
def test_loops_are_divided_where_that_was_measured(version, flags, after):
    variables = {} if flags is None else {"XLA_FLAGS": flags}
    environment.divide_loops(version, variables)
    assert variables.get("XLA_FLAGS") == after


@pytest.mark.skipif(
    jaxlib.__version__ not in environment.MEASURED, reason="this jaxlib was not measured"
)
def test_jax_starts_with_what_the_import_sets():
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    program = "import os, experiments, jax, l2t_jax; jax.devices(); print(os.environ['XLA_FLAGS'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{FLAG}=false" in done.stdout.split()
