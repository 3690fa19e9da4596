"""Every tensor that the library makes names its device, and its dtype where torch has a default."""

import ast
from pathlib import Path

from torch.utils._device import _device_constructors

import bruno

SOURCE = Path(bruno.__file__).parent
FACTORIES = {function.__name__ for function in _device_constructors()}
# Whole numbers whatever the default dtype is.
WHOLE = {"arange", "randint", "randperm", "tril_indices", "triu_indices"}
LAYERS = {"Linear", "Conv2d"}


def unnamed(code: str) -> list[str]:
    """Return the calls that leave a device or dtype to torch's global default."""
    found = []
    for call in ast.walk(ast.parse(code)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        owner, name = ast.unparse(call.func.value), call.func.attr
        if not (owner == "torch" and name in FACTORIES) and not (owner == "nn" and name in LAYERS):
            continue
        given = {keyword.arg for keyword in call.keywords}
        if None not in given and not given >= (
            {"device"} if name in WHOLE else {"device", "dtype"}
        ):
            found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


def test_the_search_finds_what_it_is_for():
    assert (
        len(unnamed("torch.zeros(3, dtype=torch.float32); nn.Linear(2, 3); torch.arange(3)")) == 3
    )
    named = "torch.zeros(3, dtype=x.dtype, device=x.device); nn.Linear(2, 3, **FACTORY_KWARGS)"
    assert unnamed(named + "; torch.arange(3, device='cpu'); torch.cat([x, x])") == []


def test_every_factory_names_device_and_dtype():
    files = [file for file in SOURCE.rglob("*.py") if "estimators" not in file.parts]
    found = {str(file): unnamed(file.read_text(encoding="utf-8")) for file in files}
    assert {file: calls for file, calls in found.items() if calls} == {}
