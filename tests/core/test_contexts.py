"""Contexts hold cells of one group, each once, whatever the row order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from c2s.contexts import draw_contexts
from c2s.errors import ConfigError, ObsError


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"donor_id": rng.choice(["d1", "d2"], size=n), "tissue": rng.choice(["lung", "liver"], size=n)},
        index=[f"c{i}" for i in range(n)],
    )


@given(n=st.integers(40, 120), seed=st.integers(0, 20), low=st.integers(2, 5), extra=st.integers(0, 10))
def test_cells_of_a_context_share_donor_and_tissue_and_are_used_once(n, seed, low, extra):
    obs = table(n, seed)
    contexts = draw_contexts(obs, within=("donor_id", "tissue"), n_cells=(low, low + extra), seed=seed)
    used = [cell for context in contexts for cell in context.cell_ids]
    assert len(used) == len(set(used))
    assert len({context.context_id for context in contexts}) == len(contexts)
    for context in contexts:
        cells = obs.loc[list(context.cell_ids)]
        assert low <= len(cells) <= low + extra
        assert context.group == {"donor_id": cells.donor_id.iloc[0], "tissue": cells.tissue.iloc[0]}
        assert cells.donor_id.nunique() == cells.tissue.nunique() == 1
    # Fewer cells than the minimum stay behind in each group.
    assert n - len(used) < low * obs.groupby(["donor_id", "tissue"]).ngroups


def test_row_order_changes_nothing_and_the_seed_does():
    obs = table(100)
    first = draw_contexts(obs, within=("donor_id",), n_cells=(5, 8))
    assert first == draw_contexts(obs.sample(frac=1, random_state=1), within=("donor_id",), n_cells=(5, 8))
    assert first != draw_contexts(obs, within=("donor_id",), n_cells=(5, 8), seed=1)
    assert len({len(context.cell_ids) for context in first}) > 1


def test_without_groups_all_cells_are_one():
    contexts = draw_contexts(table(20), within=(), n_cells=(20, 20))
    assert [len(c.cell_ids) for c in contexts] == [20]
    assert contexts[0].group == {}


def test_bad_input_is_named():
    obs = table(8)
    with pytest.raises(ConfigError, match="3 to 2"):
        draw_contexts(obs, within=(), n_cells=(3, 2))
    with pytest.raises(ConfigError, match="0 to 2"):
        draw_contexts(obs, within=(), n_cells=(0, 2))
    with pytest.raises(ObsError, match="no column 'organ'"):
        draw_contexts(obs, within=("organ",))
    with pytest.raises(ObsError, match=r"has 20 cells; the largest has 8.*lower n_cells to \(8, 8\)"):
        draw_contexts(obs, within=(), n_cells=(20, 30))
    obs.loc["c3", "tissue"] = None
    with pytest.raises(ObsError, match="first 'c3'"):
        draw_contexts(obs, within=("tissue",))
