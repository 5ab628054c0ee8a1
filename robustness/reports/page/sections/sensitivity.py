"""What probes measured of both arms: one sentence, then the numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.reports.page.cells import PageTable
from robustness.reports.page.pagetables import checks_table, predictions_table, probes_table, sensitivity_pairs_table
from robustness.reports.page.panels import (
    Panel,
    Panels,
    draw_depth,
    draw_distribution,
    draw_panel,
    limit_of,
    note_left_out,
)
from robustness.reports.page.predictions import draw_predictions
from robustness.reports.page.probe_panels import find_telling, name_panels
from robustness.reports.page.radii import draw_radii, radii_of_pair, say_radii
from robustness.reports.page.strips import Strips
from robustness.reports.summaries.arms import Arms, arms_of_pair, arms_of_run
from robustness.reports.summaries.sensitivity import say_sensitivity
from robustness.reports.tables.columns import Table
from robustness.reports.visible import visible
from robustness.runs.storage.record import PairRecord, RunRecord


@dataclass(frozen=True, slots=True)
class SensitivitySection:
    """All that probes measured."""

    arms: Arms
    sentences: tuple[str, ...]
    disagreements: tuple[str, ...]
    compared: PageTable
    distributions: tuple[Panels, ...]
    radii: tuple[Panels, ...]
    layers: tuple[Panels, ...]
    probes: PageTable
    checks: PageTable
    predicted: tuple[Strips, ...]
    predictions: PageTable

    def __bool__(self) -> bool:
        return bool(self.compared.rows or self.probes.rows or self.distributions)


def describe_sensitivity(
    tables: dict[Table, pd.DataFrame],
    shown: tuple[PairRecord, ...],
    disagreements: tuple[str, ...],
    record: RunRecord,
) -> SensitivitySection:
    """Returns the section; figures are of the pairs `shown`."""
    probed, layers = tables[Table.SENSITIVITY_EXAMPLES], tables[Table.LAYERS]
    compared = tables[Table.SENSITIVITY_PAIRS]
    by_pair = list(enumerate(shown))
    return SensitivitySection(
        arms=arms_of_run(record.pairs, record),
        sentences=tuple(say_sensitivity(compared, record)),
        disagreements=disagreements,
        compared=sensitivity_pairs_table(compared, record),
        distributions=_filled([_distributions(probed, pair, number, len(shown), record) for number, pair in by_pair]),
        radii=_filled([_radii(probed, pair, number, record) for number, pair in by_pair]),
        layers=_filled([_layers(layers, pair, number, len(shown), record) for number, pair in by_pair]),
        probes=probes_table(tables[Table.SENSITIVITY]),
        checks=checks_table(tables[Table.SENSITIVITY]),
        predicted=_predicted(tables[Table.PREDICTIONS], shown),
        predictions=predictions_table(tables[Table.PREDICTIONS]),
    )


def _filled(found: list[Panels]) -> tuple[Panels, ...]:
    return tuple(panels for panels in found if panels.panels)


def _roles(pair: PairRecord) -> dict[str, str]:
    return {pair.reference: "full", pair.candidate: "peft"}


def _distributions(probed: pd.DataFrame, pair: PairRecord, number: int, n_pairs: int, record: RunRecord) -> Panels:
    mine = probed[probed["checkpoint"].isin(_roles(pair)) & np.isfinite(probed["value"].astype(float))]
    mine = name_panels(find_telling(mine)) if len(mine) else mine
    groups = list(mine.groupby(["testset", "probe", "quantity"], sort=False, dropna=False))
    limit, names = limit_of(n_pairs), arms_of_pair(pair, record).shorts
    panels = []
    for place, ((testset, probe, quantity), part) in enumerate(groups[:limit]):
        values = {
            role: np.sort(part.loc[part["checkpoint"] == checkpoint, "value"].to_numpy(dtype=float))
            for checkpoint, role in _roles(pair).items()
        }
        words = str(probe) if pd.isna(quantity) else _name(str(probe), str(quantity))
        title = visible(f"{words}, {testset}" if mine["testset"].nunique() > 1 else words)
        figure = draw_panel(draw_distribution(values, names), f"probe{number}x{place}", f"{title}, both arms")
        panels.append(Panel(title, figure))
    return Panels(pair.name, tuple(panels), note_left_out(len(groups), limit, "sensitivity_examples.csv"))


def _name(probe: str, quantity: str) -> str:
    """A number by its probe, which is named once."""
    return quantity if quantity.startswith(probe) else f"{probe}: {quantity}"


def _radii(probed: pd.DataFrame, pair: PairRecord, number: int, record: RunRecord) -> Panels:
    arms, panels, said = arms_of_pair(pair, record), [], []
    for place, (testset, rows) in enumerate(radii_of_pair(probed, _roles(pair))):
        label = f"From certified radius to the distance of an attack, {visible(testset)}"
        draw, height = draw_radii(rows, arms)
        panels.append(Panel(visible(testset), draw_panel(draw, f"radii{number}x{place}", label, height)))
        said.append(f"{visible(testset)}: {say_radii(rows, arms)}")
    return Panels(pair.name, tuple(panels), " ".join(said))


def _layers(layers: pd.DataFrame, pair: PairRecord, number: int, n_pairs: int, record: RunRecord) -> Panels:
    mine = layers[layers["checkpoint"].isin(_roles(pair)) & layers["layer"].notna() & layers["value"].notna()]
    mine = name_panels(mine) if len(mine) else mine
    mine = mine[mine.groupby("quantity", sort=False)["layer"].transform("nunique") > 1]  # one layer is no course
    groups, limit = list(mine.groupby("quantity", sort=False)), limit_of(n_pairs)
    names = arms_of_pair(pair, record).shorts
    panels = tuple(
        Panel(
            visible(str(quantity)),
            draw_panel(draw_depth(part, _roles(pair), names), f"layer{number}x{place}", f"{quantity} by layer"),
        )
        for place, (quantity, part) in enumerate(groups[:limit])
    )
    return Panels(pair.name, panels, note_left_out(len(groups), limit, "layers.csv"))


def _predicted(predictions: pd.DataFrame, shown: tuple[PairRecord, ...]) -> tuple[Strips, ...]:
    """Of the first pair that has numbers and attacks."""
    known = predictions[predictions["rank_correlation"].notna()]
    for pair in shown:
        mine = known[known["checkpoint"].isin(_roles(pair))]
        if len(mine):
            return (draw_predictions(mine, _roles(pair), pair.name),)
    return ()
