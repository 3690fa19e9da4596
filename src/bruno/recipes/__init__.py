"""Experiments that come with the package, as YAML files."""

from pathlib import Path

from bruno.compatibility import current_experiment
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


def readable_recipe(file: Path) -> str:
    """Return a recipe as the command reads it: its path, or its text with current field names.

    Args:
        file: The recipe; ``config.yaml`` of a run of an earlier version may have older names.

    Returns:
        The path where all names are current or the file is no recipe; else YAML.
    """
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return str(file)  # the parser reports the mistake
    current = current_experiment(content) if isinstance(content, dict) else content
    return str(file) if current == content else str(yaml.safe_dump(current, sort_keys=False))
