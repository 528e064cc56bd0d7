"""The documentation site: `make docs` builds it, and stops at anything that is broken."""

import importlib.metadata

project = "l2t_jax"
author = "the l2t_jax developers"
project_copyright = author
release = importlib.metadata.version("l2t_jax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"l2t_jax {release}"
exclude_patterns = ["_build"]

# Every name in backticks of a docstring has to be one that is documented; other projects' names
# are taken as they are, so that a build needs no network.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(jax|flax|optax|collections)(\..*)?")]

# Shapes stand in the docstrings, line by line.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# The notebook is run by the tests; the site shows what came out of it when it was last saved.
nb_execution_mode = "off"
