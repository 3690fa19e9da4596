"""Experiments that come with the package, as YAML files."""

from pathlib import Path

from bruno.errors import UserError
from bruno.paths import user_path

_DIRECTORY = Path(__file__).parent


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes."""
    return tuple(sorted(path.stem for path in _DIRECTORY.glob("*.yaml")))


def recipe_path(name_or_path: str) -> Path:
    """Return the file of a recipe given its name or its path.

    Raises:
        UserError: If there is no such recipe; the message lists the known names.
    """
    path = user_path(name_or_path, "config")
    if path.is_file():
        return path
    # ``recipes/NAME.yaml`` is found also where the repository is not the working directory.
    if path.parent in (Path(), Path("recipes")):
        built_in = _DIRECTORY / f"{path.name.removesuffix('.yaml')}.yaml"
        if built_in.is_file():
            return built_in
    raise UserError(
        f"config: expected a YAML file or one of the recipes {', '.join(recipe_names())}, got "
        f"{name_or_path!r}"
    )
