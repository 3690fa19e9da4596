"""Formulas as MathML, which browsers show by themselves: no script and no network is needed."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

# Browsers set no space around the names of functions: "D log a" would be "Dloga".
_SPACE = '<mspace width="0.17em"/>'
_FUNCTION = r"<mi>[a-z]{2,}</mi>\s*<mo>&ApplyFunction;</mo>"
_BEFORE = re.compile(rf"(</m[in]>\s*)(?={_FUNCTION})")
_AFTER = re.compile(rf"({_FUNCTION})(?!\s*<mo[^>]*>\()")


def _mathml(node: nodes.Element, *, block: bool) -> str:
    code = node.astext().replace("\\dots", "\\ldots")  # docutils knows the latter only
    try:
        lines = block and "\\\\" in code and "\\begin" not in code  # lines of its own, no cases
        source = f"\\begin{{aligned}}{code.strip()}\\end{{aligned}}" if lines else code
        formula: str = tex2mathml(source, as_block=block)
    except MathError as error:
        raise ExtensionError(f"the formula {code!r} cannot be shown: {error}") from None
    return _AFTER.sub(rf"\1{_SPACE}", _BEFORE.sub(rf"\1{_SPACE}", formula))


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula inside of a text."""
    self.body.append(_mathml(node, block=False))
    raise nodes.SkipNode


def displayed(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    self.body.append(f'<div class="math-block">{_mathml(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
