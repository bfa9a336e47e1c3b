"""How the site is built: `uv run --extra docs sphinx-build -W -c docs . docs/_build`.

The root of the repository is the source, so that one relative link serves the site, a
code host and an editor, and the notebooks and the changelog are pages as they stand.
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]
os.environ["JAX_PLATFORMS"] = "cpu"  # modules are imported for their docstrings

project = "ppo_jax"
author = "the authors of ppo_jax"
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "notebooks/*.ipynb",
]
exclude_patterns = [".*", "*.egg-info", "build", "dist", "logs", "docs/_build"]
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "site_extension",
]

html_theme = "furo"
html_title = "ppo_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = html_show_sphinx = html_copy_source = False
html_math_renderer = "mathml"  # of site_extension: no script, no network

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are shown as they were saved
toc_object_entries_show_parents = "hide"

smartquotes_action = "D"  # dashes; quotes stay as they are typed
highlight_language = "none"  # a formula in a docstring
default_role = "py:obj"  # `name` is a link where the reference has the name
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 70
napoleon_custom_sections = [("Fields", "params_style")]  # see site_extension
