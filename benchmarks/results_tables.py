"""Write the tables of the README and the documentation from the files of docs/results.

    python benchmarks/results_tables.py [--check]

A table stands between two comments, of which the first names its kind and what it is about:

    <!-- table models omniglot BRUNO -->
    <!-- /table -->

Kinds are the keys of ``KINDS`` below. Whatever is between the comments is replaced; ``--check``
changes nothing and fails if something would change.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bruno.compatibility import current_figures
from bruno.pretrained import locate as locate_weights
from bruno.pretrained import names, read_config
from comparison import markdown
from estimator_tables import averages, compared, on_all_rows, open_set, ranks

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_TABLE = re.compile(r"(<!-- table ([^\n]*?) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
_EPISODES = ((5, 1), (5, 5), (20, 1), (20, 5))


def evaluation(name: str) -> dict[str, Any]:
    """Return the evaluation of a model, with the current names of figures."""
    figures: dict[str, Any] = current_figures(json.loads((RESULTS / f"{name}.json").read_text()))
    return figures


def measured_apart(kind: str, name: str) -> dict[str, Any]:
    """Return an evaluation of a model by one protocol that has a file of its own, or nothing."""
    file = RESULTS / f"{kind}-{name}.json"
    return evaluation(file.stem) if file.exists() else {}


def published() -> dict[str, Any]:
    """Return the published figures by system."""
    quoted: dict[str, Any] = json.loads((RESULTS / "published.json").read_text())
    return quoted


def card(name: str) -> dict[str, Any]:
    """Return the card of a shipped model."""
    metadata = read_config(locate_weights(name)).get("metadata", {})
    found: dict[str, Any] = current_figures(metadata.get("card", {}))
    return found


def pm(figure: dict[str, Any] | None, digits: int = 1, unit: str = "") -> str:
    """Return a mean with its interval, or nothing."""
    if not figure or figure["mean"] is None:
        return ""
    if figure["half_width"] is None:
        return f"{figure['mean']:.{digits}f}{unit}"
    return f"{figure['mean']:.{digits}f} ± {figure['half_width']:.{digits}f}{unit}"


def accuracy(figures: dict[str, Any], way: int, shot: int, digits: int = 2) -> str:
    """Return the few-shot accuracy of an evaluation or a card."""
    for row in figures.get("few_shot") or []:
        if (row["way"], row["shot"]) == (way, shot) and not row.get("contaminants"):
            return pm(row["accuracy"], digits)
    return ""


def judged(figures: dict[str, Any], given: int = 5, latent_scale: float = 1.0) -> str:
    """Return the share of samples that the judge names as their class."""
    for row in figures.get("generation") or []:
        if (row["given"], row["latent_scale"]) == (given, latent_scale):
            return pm(row["judged"])
    return ""


def models(*columns: str) -> str:
    """Return accuracy, likelihood and cost of models on Omniglot, beside published figures."""
    quoted = published()
    described = [
        _quoted(quoted[name]) if name in quoted else _described(name, evaluation(name))
        for name in columns
    ]
    header = ("", *(f"{name}, published" if name in quoted else name for name in columns))
    rows = [[name, *(one.get(name, "") for one in described)] for name in _ROWS]
    return markdown(header, [row for row in rows if any(row[1:])])


_ACCURACIES = tuple(f"{way}-way {shot}-shot, %" for way, shot in _EPISODES)
_ROWS = (
    *_ACCURACIES,
    "20-way 1-shot within an alphabet, %",
    "nats per image, sets of 20",
    "bits/dim",
    "nats gained by conditioning on 19 images",
    "exact samples given 5 examples, judged right, %",
    "training images, M",
    "training operations, FLOP",
)


def _described(name: str, measured: dict[str, Any]) -> dict[str, str]:
    """Return the rows of a model."""
    cells = [accuracy(measured, way, shot) for way, shot in _EPISODES]
    within = measured_apart("within-alphabet", name).get("within_alphabet", {})
    cells.append(pm(within.get("accuracy"), 2))
    figures = measured["likelihood"]
    cells += [pm(figures["nll"]), f"{figures['bits_per_dim']['mean']:.3f}"]
    cells.append(pm(figures["conditioning_gain"]))
    cells.append(judged(measured_apart("generation", name) or measured))
    cost = {one["name"]: one for one in json.loads((RESULTS / "cost.json").read_text())["ours"]}
    log = (RESULTS / f"{name}.jsonl").read_text().splitlines()
    images = cost[name]["images"] if name in cost else json.loads(log[-1])["images"]
    cells += [f"{images / 1e6:.2f}", f"{cost[name]['flop']:.1e}" if name in cost else ""]
    return dict(zip(_ROWS, cells, strict=True))


def _quoted(paper: dict[str, Any]) -> dict[str, str]:
    """Return the rows of a system whose figures were published."""
    cells = {f"{name}, %": f"{value}" for name, value in paper["few_shot"].items()}
    if "nll" in paper:
        nll = paper["nll"]
        cells |= {_ROWS[5]: f"{nll}", _ROWS[6]: f"{nll / (784 * math.log(2)):.3f}"}
    if "images" in paper:
        cells |= {_ROWS[9]: f"{paper['images'] / 1e6:.0f}", _ROWS[10]: f"{paper['flop']:.1e}"}
    return cells


def generation(*columns: str) -> str:
    """Return how often the judge names samples of models as their class."""
    rows = []
    for name in columns:
        measured = (measured_apart("generation", name) or evaluation(name))["generation"]
        opinion = measured_apart("generation", f"{name}-second").get("generation", [])
        for given in (1, 5, 10):
            ours, others = _by_scale(measured, given), _by_scale(opinion, given)
            if not ours:
                continue
            exact = ours[0]
            cells = [f"{name}, {exact['dataset']}", f"{given}", f"{100 / exact['way']:.0f}"]
            cells += [" / ".join(pm(row["judged"]) for row in ours), pm(exact["real"])]
            cells.append(f"{exact['variance']['mean']:.2f}")
            rows.append([*cells, " / ".join(pm(row["judged"]) for row in others)])
    header = ("model, data", "given", "chance, %", "judged right, exact / latent scale 0.5, %")
    further = ("real images, %", "variance over that of data", "second opinion, %")
    return markdown((*header, *further), rows)


def _by_scale(measured: Sequence[dict[str, Any]], given: int) -> list[dict[str, Any]]:
    """Return the figures of exact samples, then of those at latent scale 0.5."""
    found = {row["latent_scale"]: row for row in measured if row["given"] == given}
    return [found[scale] for scale in (1.0, 0.5) if scale in found]


def shipped(form: str = "full") -> str:
    """Return all shipped models with the figures of their cards; ``short`` for the README."""
    header = ["model", "tested on", "5-way 1-shot", "20-way 1-shot", "20-way 5-shot"]
    header += ["nats per image (bits/dim)", "samples judged right"]
    header += [] if form == "short" else ["flow", "trained for"]
    rows = []
    for name in names():
        about = card(name)
        figures = about.get("figures", {})
        bits = figures.get("bits_per_dim", {}).get("mean")
        chance = [f" (chance {100 / row['way']:.0f})" for row in figures.get("generation") or []]
        row = [f"`{name}`", str(figures.get("dataset", "")).removesuffix("/test")]
        row += [
            f"{value} %" if (value := accuracy(figures, *episode, digits=1)) else ""
            for episode in ((5, 1), (20, 1), (20, 5))
        ]
        row.append(pm(figures.get("nll"), 0) + (f" ({bits:.3f})" if bits else ""))
        share = judged(figures)
        row.append(f"{share} %{chance[0]}" if share else "")
        if form != "short":
            seconds, machine = about.get("training seconds"), about.get("training machine")
            trained = f"{seconds / 60:.0f} minutes" if seconds else ""
            trained += f", {machine}" if machine else ""
            row += [str(read_config(locate_weights(name))["flow"]["preset"]), trained]
        rows.append(row)
    return markdown(header, rows)


def seen_by_recipe(*columns: str) -> str:
    """Return likelihoods on data sets other than Omniglot, beside the published ones."""
    paper = published()["BRUNO"]
    rows = []
    for name in columns:
        figures = evaluation(name)["likelihood"]
        last = json.loads((RESULTS / f"{name}.jsonl").read_text().splitlines()[-1])
        theirs = paper.get(f"nll on {name}")
        rows.append(
            [
                f"{name}, {figures['dataset']}",
                f"{pm(figures['nll'])} ({figures['bits_per_dim']['mean']:.3f})",
                f"{theirs}" if theirs else "",
                f"{last['images'] / 1e6:.2f} M images, {last['seconds'] / 60:.0f} minutes",
            ]
        )
    header = ("recipe, data", "nats per image (bits/dim)", "BRUNO, published", "training")
    return markdown(header, rows)


def few_shot(name: str) -> str:
    """Return the accuracies and the likelihood of one model in one row."""
    measured = evaluation(name)
    figures = measured["likelihood"]
    row = [f"{accuracy(measured, way, shot)} %" for way, shot in _EPISODES]
    row.append(f"{pm(figures['nll'])} ({figures['bits_per_dim']['mean']:.3f} bits/dim)")
    header = [f"{way}-way {shot}-shot" for way, shot in _EPISODES]
    return markdown([*header, f"nats per image, sets of {figures['set_size']}"], [row])


def views(name: str) -> str:
    """Return the likelihood of new views of a conditional model."""
    rows = []
    for row in evaluation(name)["views"]["rows"]:
        first = row["given"] == 0
        rows.append(
            [
                f"{row['given']}",
                f"{pm(row['nll'])} ({row['bits_per_dim']['mean']:.3f})",
                "" if first else pm(row["conditioning_gain"]),
                "" if row["given"] < 2 else pm(row["step"]),
                pm(row.get("unconditional_nll")),
            ]
        )
    header = ("views seen", "nats per view (bits/dim)", "gained, object by object")
    return markdown((*header, "of these by the last step", "unconditional model"), rows)


def pictures(name: str, figure: str) -> str:
    """Return errors (``rmse``, ``ssim``) of pictures of new views."""
    measured = evaluation(name)["views"]["rows"]
    kinds = {"mean": "mean of samples", "sample": "one sample"}
    columns = list(measured[-1]["pictures"])
    digits = 3 if figure == "rmse" else 2
    rows = [
        [
            f"{row['given']}",
            *(pm(row["pictures"].get(column, {}).get(figure), digits) for column in columns),
        ]
        for row in measured
    ]
    return markdown(("views seen", *(kinds.get(name, name) for name in columns)), rows)


def pose(*columns: str) -> str:
    """Return errors of estimated poses."""
    measured = {name: {row["given"]: row for row in evaluation(name)["pose"]} for name in columns}
    header = ["views seen"]
    for name in columns:
        header += [f"{name}: median error, degrees", "at most 20°, %"]
    rows = []
    for given in measured[columns[0]]:
        cells = [f"{given}"]
        for name in columns:
            one = measured[name][given]
            cells += [pm(one["median"], 0), pm(one["near"], 0)]
        rows.append(cells)
    return markdown(header, rows)


def processes() -> str:
    """Return the comparison of processes over seeds: mean and standard deviation."""
    lines = (RESULTS / "processes.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    about = {"process", "seed", "steps", "date", "machine", "torch"}
    rows = []
    for name in [key for key in runs[0] if key not in about]:
        by_seed: dict[str, dict[int, float]] = {"gaussian": {}, "student_t": {}}
        for run in runs:
            by_seed[run["process"]][run["seed"]] = run[name]
        gaussian, student = by_seed["gaussian"], by_seed["student_t"]
        columns = [*map(list, (gaussian.values(), student.values()))]
        columns.append([student[seed] - gaussian[seed] for seed in gaussian])
        digits = 3 if max(map(abs, columns[0])) < 1.5 else 2
        title = name.replace(" strangers", " contaminants").replace("area under curve", "AUROC")
        cells = [
            f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
            for values in columns
        ]
        rows.append([title, *cells])
    return markdown(("", "Gaussian", "Student-t", "difference"), rows)


def anomalies(*columns: str) -> str:
    """Return how well planted elements of streams are found, beside other methods."""
    rows = []
    for name in columns:
        measured = evaluation(f"anomalies-{name}")
        result = measured["anomalies"]
        rule = {kind: 100 * rate["mean"] for kind, rate in result["quartile_rule"].items()}
        model = measured["model"].removeprefix("runs/").removesuffix("/model")
        about = (
            f"`{model}` on {result['dataset']}, {result['streams']} streams of {result['length']}"
        )
        for method in result["methods"]:
            figures = (method["auroc"], method["late_auroc"], method["average_precision"])
            rows.append([about, method["method"], *(pm(figure, 3) for figure in figures)])
            about = ""
        alarms = f"finds {rule['recall']:.0f} %, false alarms {rule['false_alarm_rate']:.1f} %"
        rows.append(["", "alarm below Q1 - 1.5 IQR", "", alarms, ""])
    header = ("model, data", "scores of", "AUROC", "AUROC of late elements", "average precision")
    return markdown(header, rows)


def beside_lda() -> str:
    """Return what fits, and updates and predictions of one row, cost beside LDA."""
    measured = json.loads((RESULTS / "estimators-beside-lda.json").read_text())
    (fits,) = (value for name, value in measured.items() if name.startswith("seconds to fit"))
    (rows,) = (value for name, value in measured.items() if name.startswith("microseconds"))
    shown = []
    for name in dict.fromkeys((*rows, *fits)):
        fit = f"{fits[name]['median']:.2f}" if name in fits else ""
        of_rows = [rows.get(name, {}).get(kind) for kind in ("predict", "update")]
        both = rows.get(name, {}).get("update, then predict")
        cells = [
            f"{one['median']:.0f} ({one['low']:.0f} to {one['high']:.0f})" if one else ""
            for one in (*of_rows, both)
        ]
        shown.append([name, fit, *cells])
    header = ("", "fit, s", "predict one row, µs", "update, µs", "update, then predict, µs")
    return markdown(header, shown)


KINDS: dict[str, Callable[..., str]] = {
    "anomalies": anomalies,
    "beside-lda": beside_lda,
    "estimators": compared,
    "few-shot": few_shot,
    "generation": generation,
    "models": models,
    "open-set": open_set,
    "pictures": pictures,
    "pose": pose,
    "processes": processes,
    "recipes": seen_by_recipe,
    "shipped": shipped,
    "tables-all-rows": on_all_rows,
    "tables-averages": averages,
    "tables-ranks": ranks,
    "views": views,
}


def with_tables(text: str) -> str:
    """Return a page with its tables made anew.

    A name of several words is written with ``_`` for each space.
    """

    def table(found: re.Match[str]) -> str:
        kind, *about = found[2].split()
        made = KINDS[kind](*(word.replace("_", " ") for word in about))
        return found[1] + made + found[4]

    return _TABLE.sub(table, text)


def rewrite(*, check: bool = False) -> list[str]:
    """Make the tables of all pages anew and return the pages that change.

    Args:
        check: Write nothing.
    """
    changed = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = with_tables(old)
        if new != old:
            changed.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(new, encoding="utf-8")
    return changed


def main() -> None:
    """Rewrite the tables, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a table is not current")
    check = parser.parse_args().check
    changed = rewrite(check=check)
    if check and changed:
        raise SystemExit(f"{', '.join(changed)}: run python benchmarks/results_tables.py")
    print(f"rewritten: {', '.join(changed) or 'nothing'}")


if __name__ == "__main__":
    main()
