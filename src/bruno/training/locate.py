"""The saved model that a command is about."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bruno.compatibility import current_experiment, current_figures
from bruno.data import DataConfig
from bruno.data.context import ContextFeature, features_of_model
from bruno.errors import CheckpointError, UserError, renamed_argument
from bruno.model import Bruno
from bruno.paths import user_path
from bruno.pretrained import WEIGHTS_DIRECTORY, locate, read_config
from bruno.training.run_directory import MODEL_DIRECTORY

# Samples named right, beyond chance, over real images named right from which on a model draws.
_DRAWS = 1 / 3
_RUNS = Path("runs")


@dataclass(frozen=True)
class LocatedModel:
    """A saved model and where it is.

    Attributes:
        path: Directory of the weights.
        config: Its configuration.
        directory: Where its evaluations go: the run's directory, or runs/ for a model that came
            with the package.
    """

    path: Path
    config: dict[str, Any]
    directory: Path

    def load(self) -> Bruno:
        """Return the model itself."""
        return Bruno.from_pretrained(self.path)

    @property
    def name(self) -> str:
        """Name of a model that came with the package, the same everywhere; else its path."""
        is_shipped = self.path.parent == WEIGHTS_DIRECTORY
        return self.path.name if is_shipped else str(self.path)

    @property
    def experiment(self) -> dict[str, Any]:
        """The experiment the model was trained with; empty if it is not known."""
        return current_experiment(self._metadata("experiment"))

    @property
    def card(self) -> dict[str, Any]:
        """How a model that comes with the package was made and measured; empty for others."""
        card: dict[str, Any] = current_figures(self._metadata("card"))
        return card

    @property
    def dataset_name(self) -> str:
        """Name of the data set the model was trained on; empty where it is not recorded."""
        return str(self.experiment.get("data", {}).get("name", ""))

    @property
    def context_features(self) -> tuple[ContextFeature, ...]:
        """Context features of a conditional model; none where they are not recorded."""
        return features_of_model(self.config)

    def check_draws(self) -> None:
        """Raise if the card says that samples of the model are not recognised.

        Raises:
            UserError: If exact samples given five examples were named as their class, beyond
                chance, less than a third as often as real images.
        """
        for row in self.card.get("figures", {}).get("generation", []):
            if (row["given"], row["latent_scale"]) != (5, 1.0):
                continue
            judged, real, chance = row["judged"]["mean"], row["real"]["mean"], 100 / row["way"]
            if judged - chance < _DRAWS * (real - chance):
                raise UserError(
                    f"pretrained: {self.path.name} does not draw what it is given: a judge named "
                    f"{judged:.0f} % of its samples as their class (chance is {chance:.0f} %, real "
                    f"images {real:.0f} %); --force draws all the same"
                )

    def _metadata(self, name: str) -> dict[str, Any]:
        metadata = self.config.get("metadata")
        value = metadata.get(name) if isinstance(metadata, dict) else None
        return value if isinstance(value, dict) else {}

    def data_config(self, overrides: dict[str, Any]) -> DataConfig:
        """Return the data the model was trained on, with the given fields replaced."""
        try:
            trained_on = DataConfig(**self.experiment.get("data", {}))
        except TypeError as error:
            raise CheckpointError(
                f"{self.path}: describes data that this version cannot load: {error}"
            ) from None
        if "name" in overrides and overrides["name"] != trained_on.name:
            trained_on = DataConfig()
        return dataclasses.replace(trained_on, **overrides)


def locate_model(run: str | None, pretrained: str | None) -> LocatedModel:
    """Return the model of a run, a pretrained model, or of the newest run.

    Args:
        run: Directory of a run or of a saved model.
        pretrained: Name of a model that comes with the package.

    Raises:
        UserError: If both are named, or neither is and there is no run.
    """
    if run and pretrained:
        raise UserError("run: name a run or a pretrained model, not both")
    if pretrained:
        with renamed_argument("name_or_path", "pretrained"):
            path = locate(pretrained)
        return LocatedModel(path, read_config(path), _RUNS / path.name)
    if not run:
        found = [*_RUNS.glob(f"*/{MODEL_DIRECTORY}/config.json")]
        if not found:
            raise UserError(
                "run: no trained model in runs/; name one with --run or --pretrained, or train "
                "one with bruno train"
            )
        run = str(max(found, key=lambda path: path.stat().st_mtime).parent.parent)
    directory = user_path(run, "run")
    nested = directory / MODEL_DIRECTORY
    with renamed_argument("name_or_path", "run"):
        path = locate(nested if nested.is_dir() else directory)
    return LocatedModel(path, read_config(path), directory)
