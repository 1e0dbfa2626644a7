"""The kernels as plain Python, which shows every line to the coverage, and their edge cases."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

import c2s
from c2s.sentences import jit, kernels, parse_kernels, sort_kernels
from c2s.sentences.matrix import Rows
from c2s.sentences.symbols import Words
from c2s.sentences.transform import _Ranker


@pytest.fixture
def interpreted(monkeypatch):
    """Replace all kernels by the Python functions they were compiled from."""

    def switch() -> None:
        for module in (kernels, parse_kernels, sort_kernels):
            for name, value in list(vars(module).items()):
                if hasattr(value, "py_func"):
                    monkeypatch.setattr(module, name, value.py_func)

    return switch


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tie_break", ["gene", "random"])
@pytest.mark.parametrize(("n_levels", "top_k"), [(1, None), (3, 20), (None, None), (40, 9)])
def test_compiled_and_interpreted_transform_agree(make_cells, interpreted, n_levels, top_k, tie_break, dtype):
    adata = make_cells(6, 150, n_levels=n_levels, dtype=dtype, density=0.7)
    options = {"top_k": top_k, "tie_break": tie_break}
    compiled = c2s.to_cell_sentences(adata, **options)
    interpreted()
    plain = c2s.to_cell_sentences(adata, **options)
    assert plain.table.equals(compiled.table)
    assert plain.vocabulary.equals(compiled.vocabulary)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_compiled_and_interpreted_parsing_and_fit_agree(make_cells, interpreted):
    adata = make_cells(40, n_levels=None)
    texts = [
        *c2s.to_cell_sentences(adata).table["cell_sentence"].to_pylist()[:3],
        "A0 ,, Q1 X9-0 X9-0  é",
        "",
        None,
    ]
    compiled = c2s.parse_sentences(texts, list(adata.var_names)), c2s.RankExpressionModel.fit(adata)
    interpreted()
    plain = c2s.parse_sentences(texts, list(adata.var_names)), c2s.RankExpressionModel.fit(adata)
    assert plain[0].report() == compiled[0].report()
    np.testing.assert_array_equal(plain[0].indices, compiled[0].indices)
    assert plain[1] == compiled[1]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("run", ["compiled", "interpreted"])
def test_a_bucket_of_unequal_values_too_large_for_insertion_is_sorted(run, wide, interpreted):
    if run == "interpreted":
        interpreted()
    # One huge value stretches the buckets, so that hundreds of different values share one.
    values = np.concatenate([np.linspace(1, 1 + 1e-5, 400), [3e38]]).astype(np.float64 if wide else np.float32)
    names = [f"g{i:03d}" for i in range(401)]
    rows = Rows(0, np.array([0, 401]), np.arange(401, dtype=np.int32), values)
    found = _Ranker(Words(pa.array(names)), None)(rows).sentences[0].as_py().split()
    expected = [names[j] for j in np.lexsort((np.arange(401), -values))]
    assert found == expected


@pytest.mark.parametrize("run", ["compiled", "interpreted"])
def test_heap_sort(run):
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 3, 10, 100):
        keys = rng.integers(0, 5, n + 2).astype(np.uint64)
        ties = rng.permutation(n + 2).astype(np.uint64)
        expected = sorted(zip(keys[1 : n + 1].tolist(), ties[1 : n + 1].tolist(), strict=True))
        edges = keys[0], keys[-1]
        sort = sort_kernels.sort_pairs if run == "compiled" else sort_kernels.sort_pairs.py_func
        sort(keys, ties, 1, n + 1)
        assert list(zip(keys[1 : n + 1].tolist(), ties[1 : n + 1].tolist(), strict=True)) == expected
        assert (keys[0], keys[-1]) == edges


@pytest.mark.parametrize("power", range(64))
def test_position_of_a_bit(power):
    assert sort_kernels.bit_position(np.uint64(1 << power)) == power


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (np.nan, kernels.NOT_A_NUMBER),
        (-np.nan, kernels.NOT_A_NUMBER),
        (np.inf, kernels.INFINITE),
        (-np.inf, kernels.INFINITE),
        (-1e-38, kernels.NEGATIVE),
        (-0.0, kernels.FINE),
        (0.0, kernels.FINE),
        (1e-45, kernels.FINE),
    ],
)
@pytest.mark.parametrize("run", ["compiled", "interpreted"])
@pytest.mark.parametrize("wide", [False, True])
def test_what_a_value_may_be(value, status, wide, run, interpreted):
    if run == "interpreted":
        interpreted()
    dtype, unsigned = (np.float64, np.uint64) if wide else (np.float32, np.uint32)
    infinity, sign = (0x7FF << 52, 1 << 63) if wide else (0x7F8 << 20, 1 << 31)
    data = np.array([1.0, 2.0, value], dtype)
    none = np.zeros(0, np.uint64)
    order, kept, cells = np.empty(3, np.int32), np.empty(2, np.int32), np.zeros(3, np.int32)
    found = kernels.rank_rows(
        np.array([0, 1, 3]),
        np.array([0, 1, 2], np.int32),
        data.view(unsigned),
        unsigned(infinity),
        unsigned(sign),
        np.arange(3, dtype=np.int32),
        np.ones(3, np.uint16),
        none,
        none,
        3,
        order,
        kept,
        cells,
    )
    assert found[0] == status
    if status == kernels.FINE:
        assert kept.tolist() == [1, 2 if value > 0 else 1]
        assert cells.tolist() == [1, 1, int(value > 0)]
    else:
        assert found[1] == 1  # the row


@pytest.mark.parametrize("run", ["compiled", "interpreted"])
def test_symbols_of_every_length_are_written(make_cells, run, interpreted):
    if run == "interpreted":
        interpreted()
    names = ["Q" * n for n in range(1, 40)]
    adata = make_cells(3, len(names), density=1.0, n_levels=1)
    adata.var_names = names
    assert c2s.to_cell_sentences(adata).table["cell_sentence"].to_pylist() == [" ".join(names)] * 3


@pytest.mark.parametrize("run", ["compiled", "interpreted"])
def test_column_indices_out_of_range_are_refused_not_read(make_cells, run, interpreted):
    if run == "interpreted":
        interpreted()
    for bad in ([0, 1, 7], [-1, 1, 2], [0, 9, 1]):
        matrix = sp.csr_matrix((np.ones(3, np.float32) * 0.5, np.array([0, 1, 2]), np.array([0, 3])), shape=(1, 3))
        adata = make_cells(1, 3)
        adata.X = matrix
        adata.X.indices[:] = bad
        with pytest.raises(c2s.errors.MatrixError, match="out of range"):
            c2s.to_cell_sentences(adata)


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    import numba

    real, seen = numba.njit, []

    def njit(**options):
        seen.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", njit)
    double = jit.kernel(lambda x: x * 2)
    assert double(21) == 42
    assert [bool(o.get("cache")) for o in seen] == [True, False]
    assert all(o["nogil"] for o in seen), "several threads run it at once"


def test_the_stream_of_threads_keeps_order_and_stays_short(monkeypatch):
    taken: list[int] = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    results = []
    for result in jit.in_threads(lambda x: x * x, items(), threads=2):
        results.append(result)
        assert len(taken) - len(results) <= 4
        assert len(taken) >= min(50, len(results) + 3)  # or the threads would run dry
    assert results == [i * i for i in range(50)]


def test_threads_are_as_many_as_stated_or_as_there_are_processors_up_to_sixteen(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)
    for stated, expected in (("7", 7), ("1", 1), ("40", 40), ("0", 5), ("-3", 5), ("no", 5), ("", 5)):
        monkeypatch.setenv("C2S_THREADS", stated)
        assert jit.n_threads() == expected
    monkeypatch.delenv("C2S_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert jit.n_threads() == 16
    monkeypatch.delattr(os, "sched_getaffinity")
    for processors, expected in ((3, 3), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        assert jit.n_threads() == expected


def test_one_thread_is_no_thread(monkeypatch):
    import threading

    here = threading.get_ident()
    assert set(jit.in_threads(lambda _: threading.get_ident(), range(3), threads=1)) == {here}
    assert here not in set(jit.in_threads(lambda _: threading.get_ident(), range(3), threads=2))
    monkeypatch.setenv("C2S_THREADS", "1")
    assert set(jit.in_threads(lambda _: threading.get_ident(), range(3))) == {here}


def test_an_error_in_a_thread_arrives_and_what_waits_is_given_up():
    done: list[int] = []

    def work(i: int) -> int:
        if i == 1:
            raise ValueError("one")
        done.append(i)
        return i

    stream = jit.in_threads(work, range(100), threads=2)
    with pytest.raises(ValueError, match="one"):
        list(stream)
    assert len(done) < 10


@pytest.mark.parametrize("run", ["compiled", "interpreted"])
def test_sentences_of_the_shortest_words_fit_what_is_set_aside_for_them(run, interpreted):
    if run == "interpreted":
        interpreted()
    letters = list("ABCDEFGHIJ")
    parsed = c2s.parse_sentences([" ".join(letters), "A", "", "J I"], letters)
    assert parsed.indices.tolist() == [*range(10), 0, 9, 8]
    assert parsed.indptr.tolist() == [0, 10, 11, 11, 13]
