"""Docstrings of public functions and methods name every argument and what is returned."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "bruno"
SECTIONS = ("Args", "Returns", "Yields", "Raises", "Example", "Attributes")


def public_functions(tree):
    """Yield the public functions of a module and the public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from ((f"{node.name}.{name}", f) for name, f in public_functions(node))
        elif is_route(node):
            continue  # its docstring and arguments are the OpenAPI description
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node


def is_route(node):
    """Whether this is a function that answers requests over HTTP."""
    decorators = getattr(node, "decorator_list", ())
    return any(ast.unparse(one).startswith("router.") for one in decorators)


def arguments_of(function):
    """Return the names of the arguments a caller gives; an underscore marks unused ones."""
    signature = function.args
    named = [*signature.posonlyargs, *signature.args, signature.vararg]
    names = [
        argument.arg for argument in [*named, *signature.kwonlyargs, signature.kwarg] if argument
    ]
    return [name for name in names if name not in {"self", "cls"} and not name.startswith("_")]


def section(docstring, name):
    """Return the lines of a section of a docstring, or nothing."""
    others = "|".join(SECTIONS)
    found = re.search(
        rf"^{name}:\n(.*?)(?=^(?:{others}):$|\Z)", docstring, re.DOTALL | re.MULTILINE
    )
    return found[1] if found else ""


def what_is_missing(function):
    """Return what the docstring of a function should say and does not."""
    arguments = arguments_of(function)
    if len(arguments) < 2:
        return []
    docstring = ast.get_docstring(function) or ""
    documented = re.findall(r"^    \*{0,2}(\w+):", section(docstring, "Args"), re.MULTILINE)
    missing = [f"argument {name}" for name in arguments if name not in documented]
    missing += [f"no argument {name}" for name in documented if name not in arguments]
    returns = ast.unparse(function.returns) if function.returns else "None"
    says_return = docstring.startswith(("Return ", "Yield "))
    if returns != "None" and not says_return and not section(docstring, "Returns"):
        missing.append("Returns")
    return missing


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.name)
def test_public_functions_say_what_they_take_and_return(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    missing = {name: what_is_missing(function) for name, function in public_functions(tree)}
    assert not {name: found for name, found in missing.items() if found}


def test_the_check_finds_what_is_missing():
    text = '''
def f(a, b, *, c=0) -> int:
    """Make something.

    Args:
        a: First.
        d: There is none.

    Raises:
        ValueError: Never.
    """
'''
    (function,) = ast.parse(text).body
    assert what_is_missing(function) == ["argument b", "argument c", "no argument d", "Returns"]
