"""Configuration of the documentation site: Sphinx, MyST Markdown and executed notebooks.

``make docs`` builds it without a network and treats every warning as an error.
"""

import importlib.util
import logging
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from bruno.lazy import _EXTRAS
from bruno.version import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "bruno"
author = "The bruno authors"
copyright = "2026, the bruno authors"  # noqa: A001 - the name is Sphinx's
release = version = __version__

extensions = [
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}  # generated pages are of the first

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"bruno {release}"
html_static_path = ["_static"]
html_css_files = ["bruno.css"]
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "image/svg+xml", 0)]

autosummary_generate = True
# Else packages with __all__, such as flows, would have no pages of their modules.
autosummary_ignore_module_all = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"ignore-module-all": True}
# Packages of extras that are not installed here; the modules that use them are documented anyway.
autodoc_mock_imports = [name for name in _EXTRAS if importlib.util.find_spec(name) is None]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A package of furo's makes the root logger write messages of every level to the terminal.
for _name in ("alembic", "traitlets"):
    logging.getLogger(_name).setLevel(logging.WARNING)
# Kernels of the notebooks keep no history, and do not warn that they listen on the loopback.
_profile = Path(tempfile.mkdtemp()) / "profile_default"
_profile.mkdir()
(_profile / "ipython_kernel_config.py").write_text(
    "c.IPKernelApp.log_level = 'ERROR'\nc.HistoryManager.enabled = False\n"
)
os.environ["IPYTHONDIR"] = str(_profile.parent)


for _page in (HERE / "api").glob("*.rst"):  # pages of modules that have moved since the last build
    _module = HERE.parent / "src" / _page.stem.replace(".", "/")
    if not (_module.is_dir() or _module.with_name(f"{_module.name}.py").exists()):
        _page.unlink()


def _adapt(_: Sphinx, page: str, source: list[str]) -> None:
    """Complete the navigation, and link to the pages made of files above docs/.

    A page appears in the navigation as soon as its file is there, among the guides if the front
    page does not name it elsewhere.
    """
    source[0] = re.sub(
        r"\]\(\.\./((?:\.\./)*)(CONTRIBUTING|CHANGELOG)\.md",
        lambda found: f"]({found[1]}{found[2].lower()}.md",
        source[0],
    )
    source[0] = source[0].replace(" ± ", "\u00a0±\u00a0")  # no line break inside an interval
    if page == "index":
        pages = {file.stem for file in HERE.glob("*.md")} - {"index"}
        lines = source[0].split("\n")
        first = lines.index("evaluation") + 1
        lines[first:first] = sorted(pages - {*lines})
        names = re.compile(r"[a-z-]+")  # entries of the navigation are such lines
        source[0] = "\n".join(line for line in lines if not names.fullmatch(line) or line in pages)


def _skip(_: Sphinx, kind: str, name: str, *__: object) -> bool | None:
    """Leave out the methods for metadata routing that scikit-learn adds to every estimator."""
    routing = kind == "class" and re.fullmatch(r"set_\w+_request|get_metadata_routing", name)
    return True if routing else None


def _fold(_: Sphinx, __: str, ___: str, context: dict[str, Any], ____: object) -> None:
    """Let the navigation of a page show its own branch alone, and not all modules.

    The theme asks for all of it on every page, which takes longer than the page itself.
    """
    whole = context["toctree"]
    context["toctree"] = lambda **options: whole(**options | {"collapse": True})


def setup(app: Sphinx) -> None:
    """Register what the configuration changes."""
    app.connect("html-page-context", _fold, priority=400)  # before that of the theme
    app.connect("source-read", _adapt)
    app.connect("autodoc-skip-member", _skip)
