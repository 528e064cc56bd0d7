"""Experiments with the library: data, training, commands; see `experiments.train` to begin with."""

import os

# XLA's CPU back end hands sums and products to YNNPACK from jaxlib 0.10.2 on, and then gives wrong
# ones, others each time (jax issue 39103; on jaxlib 0.12.0.1 meta-gradients still were garbage). An
# empty list of what is handed over turns that off. XLA reads it when devices are first asked for.
YNNPACK = "--xla_cpu_experimental_ynn_fusion_type"
if YNNPACK not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {YNNPACK}=".strip()
