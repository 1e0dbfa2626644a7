"""The count model: exact draws, a fit that recovers what was drawn, and counts that match the real set's."""

from __future__ import annotations

import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

import c2s
from c2s.data.simulate import CountModel, draw as draw_module, fit_counts, nb_kernels, shipped_counts
from c2s.data.simulate.draw import cell_uniforms, choose, draw_counts
from c2s.data.simulate.programs import kinds, programs, switched_genes
from c2s.data.simulate.refit import main
from c2s.errors import ConfigError, GeneError, InputFileError, MatrixError, ObsError


class TestDraws:
    @pytest.mark.parametrize("mean, dispersion", [(0.02, 3.0), (0.7, 0.0), (1.5, 0.4), (30.0, 0.1), (450.0, 0.02)])
    def test_counts_are_negative_binomial(self, mean, dispersion):
        n = 20_000
        drawn = draw_counts(
            np.array([[0.5, 0.5]]),
            np.zeros(n, dtype=np.int64),
            np.full(n, 2 * mean),
            np.full(2, dispersion),
            seed=1,
            name="test",
        ).toarray()
        law = stats.nbinom(1 / dispersion, 1 / (1 + mean * dispersion)) if dispersion else stats.poisson(mean)
        for gene in drawn.T:
            # Bins of equal probability, as far as whole numbers allow.
            edges = np.unique(law.ppf(np.linspace(0, 1, 12)[1:-1]))
            seen = np.histogram(gene, [-1, *(edges + 0.5), np.inf])[0]
            expected = np.diff([0, *law.cdf(edges), 1]) * n
            keep = expected > 5
            statistic = ((seen - expected) ** 2 / np.maximum(expected, 1e-9))[keep].sum()
            assert stats.chi2.sf(statistic, keep.sum() - 1 or 1) > 1e-4
        assert abs(np.corrcoef(drawn.T)[0, 1]) < 5 / np.sqrt(n)

    def test_the_compiled_kernel_does_what_it_says_in_python(self, monkeypatch):
        def draw():
            return draw_counts(
                np.array([[0.001, 0.02, 0.3, 0.0, 0.679]]),
                np.zeros(6, np.int64),
                np.array([1.0, 10, 100, 700, 50, 5]),
                np.array([3.0, 0.0, 0.2, 1.0, 0.05]),
                seed=4,
                name="test",
            )

        compiled = draw()
        for name in ("mixed", "uniform", "negative_binomial", "draw_rows"):
            monkeypatch.setattr(nb_kernels, name, getattr(nb_kernels, name).py_func)
        monkeypatch.setattr(draw_module, "draw_rows", nb_kernels.draw_rows)
        with np.errstate(over="ignore"):
            assert (draw() != compiled).nnz == 0

    def test_nothing_is_drawn_where_nothing_is_expected(self):
        drawn = draw_counts(
            np.array([[0.0, 1.0]]), np.zeros(9, np.int64), np.full(9, 5.0), np.ones(2), seed=0, name="test"
        )
        assert drawn[:, 0].nnz == 0 and drawn[:, 1].nnz > 0
        none = draw_counts(np.ones((1, 3)), np.zeros(0, np.int64), np.zeros(0), np.ones(3), seed=0, name="test")
        assert none.shape == (0, 3)

    def test_uniforms_are_uniform_and_counted(self):
        u = cell_uniforms(0, 50_000, "what", 0)
        assert stats.kstest(u, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 5 / np.sqrt(len(u))
        np.testing.assert_array_equal(cell_uniforms(700, 20, "what", 0), u[700:720])
        assert not np.array_equal(cell_uniforms(0, 5, "what", 1), u[:5])

    def test_categories_have_their_shares(self):
        chosen = choose(cell_uniforms(0, 40_000, "kind"), np.array([3, 0, 1]))
        assert np.bincount(chosen, minlength=3)[1] == 0
        assert np.mean(chosen == 0) == pytest.approx(0.75, abs=0.02)


@pytest.fixture(scope="module")
def known():
    """A model of 300 genes with a known trend."""
    rng = np.random.default_rng(0)
    means = np.geomspace(0.03, 30, 300)
    trend = 0.1 + 0.05 / means
    return CountModel(
        genes=tuple(f"GENE{i}" for i in range(300)),
        fractions=means / means.sum(),
        dispersions=trend * rng.lognormal(0, 0.3, 300),
        trend=(0.1, 0.05),
        trend_scatter=0.3,
        library_quantiles=np.quantile(rng.lognormal(np.log(means.sum()), 0.4, 5000), np.linspace(0, 1, 101)),
    )


@pytest.fixture(scope="module")
def fitted(known):
    return fit_counts(known.sample(1500, seed=1))


class TestFit:
    def test_it_recovers_what_was_drawn(self, known, fitted):
        order = [known.genes.index(g) for g in fitted.genes]
        np.testing.assert_allclose(fitted.fractions, known.fractions[order], rtol=0.35)
        high = known.fractions[order] * known.mean_library > 1
        error = np.log(fitted.dispersions / known.dispersions[order])
        assert abs(np.median(error)) < 0.1
        assert np.quantile(np.abs(error[high]), 0.9) < 0.35
        at = np.array([0.1, 1, 10])
        np.testing.assert_allclose(fitted.dispersion_at(at), known.dispersion_at(at), rtol=0.25)
        assert fitted.trend_scatter == pytest.approx(0.3, rel=0.4)

    def test_library_sizes_are_those_of_the_cells(self, known, fitted):
        drawn = np.asarray(known.sample(1500, seed=1).X.sum(axis=1)).ravel()
        np.testing.assert_allclose(fitted.library_quantiles, np.quantile(drawn, np.linspace(0, 1, 101)))
        assert fitted.mean_library == pytest.approx(drawn.mean(), rel=0.02)

    def test_differences_between_groups_are_no_dispersion_within_them(self, known):
        one = known.sample(400, seed=1)
        other = replace(known, fractions=known.fractions[::-1].copy()).sample(400, seed=2)
        both = ad.concat({"a": one, "b": other}, label="group", index_unique="-")
        middle = slice(100, 200)
        within, pooled = fit_counts(both, group="group"), fit_counts(both)
        typical = np.median(known.dispersions[middle])
        assert np.median(within.dispersions[middle]) == pytest.approx(typical, rel=0.5)
        assert np.median(pooled.dispersions) > 3 * np.median(within.dispersions)
        assert within.source["groups"] == 2

    def test_a_layer_and_fewer_genes(self, known):
        adata = known.sample(200, seed=0)
        adata.layers["counts"], adata.X = adata.X.copy(), adata.X * np.float32(0.5)
        model = fit_counts(adata, layer="counts", top_genes=40, also=["GENE0", "NOT THERE"])
        assert len(model.genes) == 41 and "GENE0" in model.genes
        assert model.fractions.sum() == pytest.approx(1)

    def test_what_cannot_be_fitted_is_refused(self, known):
        adata = known.sample(60, seed=0)
        logs = adata.copy()
        logs.X.data = np.log1p(logs.X.data * 0.3)
        with pytest.raises(MatrixError, match="raw counts, and these are"):
            fit_counts(logs)
        with pytest.raises(MatrixError, match="too few to fit"):
            fit_counts(adata[:5].copy())
        with pytest.raises(ObsError, match="no column 'type'"):
            fit_counts(adata, group="type")
        broken = known.sample(500, seed=0)
        broken.X.data[broken.X.indptr[300]] = 0.5  # in a cell that is not looked at to recognise the matrix
        with pytest.raises(MatrixError, match="some values are not whole numbers"):
            fit_counts(broken)
        twice = adata.copy()
        twice.var_names = ["GENE0", *twice.var_names[:-1]]
        with pytest.raises(GeneError, match="'GENE0' is there more than once"):
            fit_counts(twice)

    def test_cells_without_counts_are_left_out(self, known):
        adata = known.sample(100, seed=0)
        adata.X = sp.vstack([sp.csr_matrix((3, 300), dtype=np.float32), adata.X[3:]], format="csr")
        assert fit_counts(adata).source["n_cells"] == 97


class TestFile:
    def test_it_survives_json(self, fitted, tmp_path):
        fitted.save(tmp_path / "m.json")
        again = CountModel.load(tmp_path / "m.json")
        assert again.genes == fitted.genes and again.source == fitted.source
        np.testing.assert_allclose(again.dispersions, fitted.dispersions, rtol=1e-5)
        assert again.to_json() == fitted.to_json() or again.trend == pytest.approx(fitted.trend, rel=1e-5)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', '{"format": 1, "genes": ["A"]}'])
    def test_other_files_are_refused(self, tmp_path, text):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(InputFileError, match=r"m\.json is") as caught:
            CountModel.load(tmp_path / "m.json")
        assert "fit_counts" in caught.value.fix
        with pytest.raises(InputFileError, match="no count model"):
            CountModel.load(tmp_path / "gone.json")

    def test_all_impossible_numbers_are_named_at_once(self, fitted, tmp_path):
        values = json.loads(fitted.to_json())
        values["fractions"][0] = -1
        values["dispersions"] = values["dispersions"][:-1]
        values["library_quantiles"] = [5, 4]
        values["genes"][1] = values["genes"][0]
        values["trend"] = [0.1, -1]
        (tmp_path / "m.json").write_text(json.dumps(values))
        with pytest.raises(ConfigError) as caught:
            CountModel.load(tmp_path / "m.json")
        assert len(caught.value.problems) == 5


class TestShipped:
    def test_it_says_where_it_comes_from_and_holds_no_cells(self):
        model = shipped_counts()
        assert {"name", "title", "citation", "licence", "made_by", "n_cells"} <= set(model.source)
        assert "CC BY 4.0" in model.source["licence"]
        assert model.fractions.sum() == pytest.approx(1, rel=1e-4)
        assert 500 < model.mean_library < 5000 and len(model.genes) > 2000

    def test_every_gene_that_can_be_switched_can_be_simulated(self):
        model = shipped_counts().with_genes(switched_genes())
        assert set(switched_genes()) <= set(model.genes)
        assert model.with_genes(["ACTB"]) is model
        assert len(set(model.genes)) == len(model.genes)

    def test_programs_name_only_what_there_is(self):
        data = programs()
        types = set(data["cell_types"])
        for shares in (*data["tissues"].values(), *data["niches"].values()):
            assert set(shares) <= types and min(shares.values()) > 0
        for signal in data["interactions"]:
            assert {*signal["senders"], *signal["receivers"]} <= types
        assert set(data["tissue_effects"]) == set(data["tissues"])
        assert set(data["kinetics"]) == set(data["responses"])
        for entry in kinds(types):
            assert len(set(entry.own)) == len(entry.own) >= 6

    @pytest.mark.mirror
    def test_it_is_what_the_fit_gives(self, mirror, tmp_path, monkeypatch):
        monkeypatch.setattr("sys.argv", ["refit", str(tmp_path / "again.json")])
        main()
        again, shipped = CountModel.load(tmp_path / "again.json"), shipped_counts()
        assert again.genes == shipped.genes and dict(again.source) == dict(shipped.source)
        np.testing.assert_allclose(again.fractions, shipped.fractions, rtol=1e-4)
        np.testing.assert_allclose(again.dispersions, shipped.dispersions, rtol=1e-2)
        np.testing.assert_allclose(again.library_quantiles, shipped.library_quantiles, rtol=1e-4)
        assert again.trend == pytest.approx(shipped.trend, rel=1e-2)


@pytest.fixture(scope="module")
def sorted_blood(mirror):
    """The 1,500 highest genes of 3,874 sorted blood cells, and a model of each of its ten populations."""
    from c2s.data.store import store

    adata = c2s.read_cells(store().path("pbmc_zheng_facs"), normalise="never")
    top = np.sort(np.argsort(-np.asarray(adata.X.sum(axis=0)).ravel())[:1500])
    adata = adata[:, top].copy()
    kinds_of = adata.obs["cell_type"]
    models = {kind: fit_counts(adata[kinds_of == kind]) for kind in kinds_of.cat.categories}
    real = sp.vstack([adata[kinds_of == kind].X for kind in models], format="csr").astype(np.float64)
    return real, adata, models


def simulate_like(adata, models, *, dispersed):
    """Counts of simulated cells, as many of each population as there are real ones."""
    parts = []
    for number, (kind, model) in enumerate(models.items()):
        used = model if dispersed else replace(model, dispersions=np.zeros(len(model.genes)))
        drawn = used.sample(int((adata.obs["cell_type"] == kind).sum()), seed=number)
        columns = adata.var_names.get_indexer(drawn.var_names)[drawn.X.indices]
        parts.append(sp.csr_matrix((drawn.X.data, columns, drawn.X.indptr), shape=(drawn.n_obs, adata.n_vars)))
    return sp.vstack(parts, format="csr").astype(np.float64)


def log_variance(counts):
    """Log of each gene's variance, and the variance of that estimate."""
    centred = counts.toarray() - np.asarray(counts.mean(axis=0))
    squares = centred**2
    variance = squares.mean(axis=0)
    return np.log(variance), (np.mean(squares**2, axis=0) / variance**2 - 1) / len(centred)


def misfits(real, simulated):
    """Share of the genes whose zeros, and whose variance, differ by more than three standard errors."""
    n = real.shape[0]
    zeros = [1 - m.getnnz(axis=0) / n for m in (real, simulated)]
    shared = np.clip((zeros[0] + zeros[1]) / 2, 1 / n, 1 - 1 / n)
    by_zeros = np.abs(zeros[0] - zeros[1]) / np.sqrt(2 * shared * (1 - shared) / n)
    (one, error), (other, other_error) = log_variance(real), log_variance(simulated)
    by_variance = np.abs(one - other) / np.sqrt(error + other_error)
    return np.mean(by_zeros > 3), np.mean(by_variance > 3)


@pytest.mark.mirror
class TestAgainstRealCells:
    # By chance alone 0.3% of the genes differ by three standard errors; a wrong law makes it many times that.
    LIMIT = 0.015

    def test_zeros_and_variance_match_gene_by_gene(self, sorted_blood):
        real, adata, models = sorted_blood
        by_zeros, by_variance = misfits(real, simulate_like(adata, models, dispersed=True))
        assert by_zeros < self.LIMIT and by_variance < self.LIMIT

    def test_poisson_counts_do_not_match(self, sorted_blood):
        real, adata, models = sorted_blood
        by_zeros, by_variance = misfits(real, simulate_like(adata, models, dispersed=False))
        assert by_zeros > 3 * self.LIMIT and by_variance > 3 * self.LIMIT

    def test_the_variance_follows_the_mean_as_in_real_cells(self, sorted_blood):
        real, adata, models = sorted_blood
        simulated = simulate_like(adata, models, dispersed=True)
        means = np.asarray(real.mean(axis=0)).ravel()
        (one, error), (other, other_error) = log_variance(real), log_variance(simulated)
        for low, high in ((0, 0.3), (0.3, 1), (1, 3), (3, 10), (10, np.inf)):
            inside = (means >= low) & (means < high)
            # Estimates from one set of cells hang together, so that their mean is no surer than a typical one.
            tolerance = 2 * np.median(np.sqrt(error + other_error)[inside])
            assert inside.sum() > 20 and abs(np.median((other - one)[inside])) < tolerance

    def test_library_sizes_and_genes_per_cell_match(self, sorted_blood):
        real, adata, models = sorted_blood
        simulated = simulate_like(adata, models, dispersed=True)
        totals = [np.asarray(m.sum(axis=1)).ravel() for m in (real, simulated)]
        assert stats.ks_2samp(*totals).pvalue > 0.01
        genes = [np.quantile(m.getnnz(axis=1), [0.1, 0.25, 0.5, 0.75, 0.9]) for m in (real, simulated)]
        np.testing.assert_allclose(genes[1], genes[0], rtol=0.05)

    def test_markers_are_higher_in_the_sorted_cells_they_are_markers_of(self, mirror):
        adata = c2s.load_dataset("pbmc_zheng_facs", strict=True)
        pairs = {"B cell": "CD19+ B", "natural killer cell": "CD56+ NK", "classical monocyte": "CD14+ Monocyte"}
        for name, label in pairs.items():
            own = [g for g in kinds([name])[0].own if g in adata.var_names]
            inside = (adata.obs["cell_type"] == label).to_numpy()
            x = adata[:, own].X.toarray()
            assert len(own) >= 6 and np.mean(x[inside].mean(axis=0) > x[~inside].mean(axis=0)) > 0.9
