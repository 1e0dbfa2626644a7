"""Simulated cytokines and drug screen: what is planted comes back out of the counts."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from c2s.data.simulate import cytokines, drug_screen, truth_of
from c2s.data.simulate.programs import switched_genes
from c2s.data.simulate.screen_cells import ISOLATED, PRESENT, VEHICLE
from c2s.errors import ConfigError


def log_ratio(treated, control, genes):
    """Log ratio of the counts of each gene per count of genes that nothing switches, and its standard error."""
    still = ~treated.var_names.isin(switched_genes())
    values, variances = [], []
    for adata in (treated, control):
        columns = adata.var_names.get_indexer(list(genes))
        x = np.asarray(adata.X[:, columns].todense(), dtype=np.float64)
        totals = np.asarray(adata.X[:, still].sum(axis=1), dtype=np.float64).ravel()
        share = x.sum(axis=0) / totals.sum()
        # Delta method for a ratio of sums over cells.
        residual = x - share * totals[:, None]
        variances.append((residual**2).sum(axis=0) / np.maximum(x.sum(axis=0), 1) ** 2)
        values.append(np.log(np.maximum(x.sum(axis=0), 0.5) / totals.sum()))
    return values[0] - values[1], np.sqrt(variances[0] + variances[1])


@pytest.fixture(scope="module")
def stimulated(few_genes):
    return cytokines(
        model=few_genes,
        cell_types=["classical monocyte", "B cell"],
        cells_per_condition=120,
        durations=[6, 48],
        donor_sd=0.0,
        seed=1,
    )


def condition(adata, kind, stimulation, hours):
    obs = adata.obs
    return adata[(obs["cell_type"] == kind) & (obs["perturbation"] == stimulation) & (obs["duration_h"] == hours)]


class TestCytokines:
    def test_every_condition_has_its_cells_and_every_donor(self, stimulated):
        adata, truth = stimulated
        stimulations = {"control", *truth.options["cytokines"], *truth.synergy}
        sizes = adata.obs.groupby(["cell_type", "perturbation", "duration_h"], observed=True).size()
        assert len(sizes) == 2 * len(stimulations) * 2 and (sizes == 120).all()
        donors = adata.obs.groupby(["cell_type", "perturbation", "duration_h"], observed=True)[
            "donor_id"
        ].nunique()
        assert (donors == 4).all()

    def test_planted_effects_are_recovered_within_sampling_error(self, stimulated):
        adata, truth = stimulated
        scores = []
        for kind in truth.effects:
            for stimulation in truth.effects[kind]:
                for hours in (6.0, 48.0):
                    planted = truth.effect(kind, stimulation, hours)
                    estimate, error = log_ratio(
                        condition(adata, kind, stimulation, hours),
                        condition(adata, kind, "control", hours),
                        planted,
                    )
                    seen = error < 0.4  # genes with a handful of counts have no normal error
                    scores.append(((estimate - list(planted.values())) / np.maximum(error, 1e-3))[seen])
        scores = np.concatenate(scores)
        assert len(scores) > 500
        assert abs(np.median(scores)) < 0.3
        assert np.mean(np.abs(scores) < 3) > 0.97

    def test_genes_that_do_not_respond_do_not_move(self, stimulated):
        adata, truth = stimulated
        responding = set(truth.effect("B cell", "TNF", 6.0))
        others = [g for g in adata.var_names if g not in responding]
        estimate, error = log_ratio(
            condition(adata, "B cell", "TNF", 6.0), condition(adata, "B cell", "control", 6.0), others
        )
        seen = error < 0.3
        assert seen.sum() > 50 and np.mean(np.abs(estimate / error)[seen] < 3.5) > 0.97

    @pytest.mark.parametrize("pair", ["IFN-gamma+TNF", "IFN-beta+IL-6", "IFN-beta+TNF"])
    def test_synergy_is_recovered(self, stimulated, pair):
        adata, truth = stimulated
        parts, kind, hours = pair.split("+"), "classical monocyte", 6.0
        planted = truth.effect(kind, pair, hours)
        genes = list(planted)
        control = condition(adata, kind, "control", hours)
        together, error = log_ratio(condition(adata, kind, pair, hours), control, genes)
        alone = [log_ratio(condition(adata, kind, part, hours), control, genes) for part in parts]
        total, spread = sum(a for a, _ in alone), np.sqrt(sum(e**2 for _, e in alone) + error**2)
        seen = spread < 0.5
        slope = (together * total)[seen].sum() / (total**2)[seen].sum()
        slope_error = np.sqrt(((total * spread)[seen] ** 2).sum()) / (total**2)[seen].sum()
        assert slope - 1 == pytest.approx(truth.synergy[pair], abs=4 * slope_error + 0.08)
        if truth.synergy[pair]:
            assert np.sign(slope - 1) == np.sign(truth.synergy[pair])

    def test_cell_types_and_durations_differ_as_planted(self, stimulated):
        _, truth = stimulated
        assert "CXCL10" in truth.effect("classical monocyte", "IFN-beta", 6.0)
        assert "CXCL10" not in truth.effect("B cell", "IFN-beta", 6.0)
        early, late = truth.effect("B cell", "TNF", 6.0), truth.effect("B cell", "TNF", 48.0)
        assert all(early[g] > 2 * late[g] > 0 for g in early)  # NF-kB targets fade
        slow = [truth.effect("B cell", "IFN-gamma", h)["GBP1"] for h in (6.0, 48.0)]
        assert slow[0] < slow[1]
        assert truth.effect("B cell", "control", 6.0) == {}

    def test_no_strength_no_effect(self, few_genes):
        """Without strength it does not matter what a cell was given: cell i is the same cell, count by count."""

        def under(cytokine, strength):
            options = {"cytokines": [cytokine], "synergy": {}, "cell_types": ["B cell"], "durations": [6]}
            return cytokines(model=few_genes, cells_per_condition=40, strength=strength, seed=3, **options)

        counts, planted = {}, {}
        for strength in (0.0, 1.0):
            for cytokine in ("IFN-beta", "TNF"):
                adata, truth = under(cytokine, strength)
                assert set(adata.obs["perturbation"]) == {"control", cytokine}
                counts[cytokine, strength] = adata.X
                planted[cytokine, strength] = set(truth.effect("B cell", cytokine, 6.0).values())
        assert planted["IFN-beta", 0.0] == planted["TNF", 0.0] == {0.0}
        assert (counts["IFN-beta", 0.0] != counts["TNF", 0.0]).nnz == 0
        # The same comparison sees an effect where there is one, and only in the cells that were given something.
        assert max(planted["IFN-beta", 1.0]) > 0.5
        differs = np.diff((counts["IFN-beta", 1.0] != counts["TNF", 1.0]).tocsr().indptr) > 0
        assert not differs[:40].any() and differs[40:].mean() > 0.9

    def test_the_truth_survives_a_file(self, stimulated, tmp_path):
        adata, truth = stimulated
        adata[:50].copy().write_h5ad(tmp_path / "cells.h5ad")
        assert truth_of(ad.read_h5ad(tmp_path / "cells.h5ad")) == truth

    def test_bad_options_are_named_together(self):
        with pytest.raises(ConfigError) as caught:
            cytokines(cytokines=["IFN-omega"], synergy={"TNF": 0.1}, durations=[6, 6], cell_types=[], strength=-1)
        text = str(caught.value)
        for words in (
            "'IFN-omega'",
            "'TNF' is not a combination",
            "each once",
            "strength",
            "one cell type or more",
        ):
            assert words in text
        with pytest.raises(ConfigError, match="no cytokine 'IL-99'; there are IFN-beta"):
            cytokines(synergy={"TNF+IL-99": 0})


@pytest.fixture(scope="module")
def screened(few_genes):
    return drug_screen(model=few_genes, cells_per_condition=60, vehicle_cells=600, n_inert=4, seed=2)


def scores(adata, truth, dose):
    """Mean log ratio of the antigen presentation genes against the vehicle, per drug, in both contexts."""
    genes = list(truth.antigen_presentation)
    found = {}
    for context in (PRESENT, ISOLATED):
        inside = adata[adata.obs["context"] == context]
        vehicle = inside[inside.obs["perturbation"] == VEHICLE]
        for drug in truth.drugs:
            treated = inside[(inside.obs["perturbation"] == drug) & (inside.obs["dose_nm"] == dose)]
            estimate, error = log_ratio(treated, vehicle, genes)
            weight = 1 / np.maximum(error, 0.02) ** 2
            found[drug, context] = (estimate * weight).sum() / weight.sum(), 1 / np.sqrt(weight.sum())
    return found


class TestScreen:
    def test_kinds_are_told_apart_by_the_difference_between_contexts(self, screened):
        adata, truth = screened
        found = scores(adata, truth, 1000.0)
        present = {drug: found[drug, PRESENT][0] for drug in truth.drugs}
        split = {drug: found[drug, PRESENT][0] - found[drug, ISOLATED][0] for drug in truth.drugs}
        amplifiers, activators = truth.of_kind("amplifier"), truth.of_kind("activator")
        decoys = (*truth.of_kind("inert"), *truth.of_kind("toxic"))
        assert len(amplifiers) == 1 and len(activators) == 3 and len(decoys) == 8
        assert max(split, key=split.get) in amplifiers
        assert min(split[a] for a in amplifiers) > 3 * max(abs(split[d]) for d in (*activators, *decoys))
        assert min(present[d] for d in (*amplifiers, *activators)) > 3 * max(abs(present[d]) for d in decoys)

    def test_effects_have_the_planted_size(self, screened):
        adata, truth = screened
        for dose in (10.0, 1000.0):
            found = scores(adata, truth, dose)
            for drug in truth.drugs:
                levels = np.mean([truth.response(drug, dose, d) for d in truth.interferon_level if d != "line01"])
                assert found[drug, PRESENT][0] == pytest.approx(levels, abs=5 * found[drug, PRESENT][1] + 0.08)
                alone = truth.response(drug, dose, "line01")
                assert found[drug, ISOLATED][0] == pytest.approx(alone, abs=5 * found[drug, ISOLATED][1] + 0.08)

    def test_the_amplifier_needs_interferon_and_more_dose_does_more(self, screened):
        adata, truth = screened
        amplifier, activator = truth.of_kind("amplifier")[0], truth.of_kind("activator")[0]
        assert truth.effect(amplifier, 1000.0, "line01") == {}
        assert truth.effect(activator, 1000.0, "line01") == truth.effect(activator, 1000.0, "donor01")
        levels = truth.interferon_level
        ratio = truth.response(amplifier, 100.0, "donor01") / truth.response(amplifier, 100.0, "donor02")
        assert ratio == pytest.approx(levels["donor01"] / levels["donor02"])
        about = truth.drugs[activator]
        assert truth.response(activator, about["ec50_nm"], "line01") == pytest.approx(about["emax"] / 2)
        by_dose = [scores(adata, truth, dose)[activator, ISOLATED][0] for dose in (10.0, 100.0, 1000.0)]
        assert by_dose == sorted(by_dose)

    def test_toxic_drugs_raise_stress_only(self, screened):
        adata, truth = screened
        inside = adata[adata.obs["context"] == ISOLATED]
        vehicle = inside[inside.obs["perturbation"] == VEHICLE]
        for drug in truth.of_kind("toxic"):
            assert truth.response(drug, 1000.0, "donor01") == 0
            treated = inside[(inside.obs["perturbation"] == drug) & (inside.obs["dose_nm"] == 1000)]
            estimate, error = log_ratio(treated, vehicle, list(truth.stress))
            assert (estimate / error**2).sum() / np.sqrt((1 / error**2).sum()) > 5

    def test_interferon_is_seen_where_it_is(self, screened):
        adata, truth = screened
        untreated = adata[(adata.obs["perturbation"] == VEHICLE) & (adata.obs["cell_type"] == "malignant cell")]
        there = untreated.obs["context"] == PRESENT
        estimate, error = log_ratio(untreated[there], untreated[~there], list(truth.interferon))
        seen = error < 0.3
        assert np.median(estimate[seen]) > 0.5 and (estimate[seen] > 0).mean() > 0.9

    def test_names_do_not_tell_the_kind_and_seeds_change_who_is_what(self):
        roles = [
            tuple(
                d["kind"] for d in drug_screen(cells_per_condition=1, vehicle_cells=1, seed=s).truth.drugs.values()
            )
            for s in (0, 1)
        ]
        assert sorted(roles[0]) == sorted(roles[1]) and roles[0] != roles[1]

    def test_a_screen_without_amplifier_or_dose_range(self):
        _, truth = drug_screen(n_amplifiers=0, doses=[50], cells_per_condition=2)
        assert truth.of_kind("amplifier") == ()
        assert all(50 / 3 <= d["ec50_nm"] <= 50 for d in truth.drugs.values())

    def test_bad_options_are_named_together(self):
        with pytest.raises(ConfigError) as caught:
            drug_screen(n_inert=-1, doses=[], cell_types=["osteocyte"], potency=2)
        text = str(caught.value)
        for words in ("n_inert", "one dose or more", "'osteocyte'", "unknown option 'potency'"):
            assert words in text
        with pytest.raises(ConfigError, match=r"doses\.0.*got 0"):
            drug_screen(doses=[0])
