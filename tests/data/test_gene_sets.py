"""Gene sets: what is read from GMT, what is refused, and the table that tasks take as they take cells."""

from __future__ import annotations

import gzip
import hashlib
import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, strategies as st

import c2s
from c2s.data import GeneSets, matrix_kind, read_cells, read_gmt
from c2s.data.gene_set_names import readable_name
from c2s.errors import C2SWarning, ConfigError, DatasetError, InputFileError, OutputError


def sets(**genes: str) -> GeneSets:
    return GeneSets(tuple(genes), ("",) * len(genes), tuple(tuple(g.split()) for g in genes.values()), "a test")


def gmt(folder, text, name="sets.gmt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


symbols = st.lists(st.sampled_from([f"G{i}" for i in range(30)]), min_size=1, max_size=12, unique=True)
collections = st.dictionaries(st.sampled_from([f"SET_{i}" for i in range(40)]), symbols, min_size=1, max_size=12)


def collection(genes: dict[str, list[str]]) -> GeneSets:
    return GeneSets(
        tuple(genes), tuple(f"about {n}" for n in genes), tuple(tuple(g) for g in genes.values()), "x.gmt"
    )


@given(collections)
def test_what_is_written_is_read_again(tmp_path_factory, genes):
    original = collection(genes)
    path = tmp_path_factory.mktemp("gmt") / "x.gmt"
    original.write_gmt(path)
    assert read_gmt(path) == original
    with pytest.raises(OutputError, match="exists already"):
        original.write_gmt(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_blank_lines_trailing_tabs_and_a_byte_order_mark_do_not_matter(tmp_path, end):
    text = end.join(["A\thttp://a\tG1\tG2\t\t", "", "B C\t\tG3", ""])
    found = read_gmt(gmt(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert found.names == ("A", "B C")
    assert found.descriptions == ("http://a", "")
    assert found["A"] == ("G1", "G2")
    assert (found.source, len(found)) == ("sets.gmt", 2)


def test_the_checksum_of_the_file_stays_with_the_sets(tmp_path):
    content = gzip.compress(b"A\t\tG1\tG2\nB\t\tG3\n")
    path = gmt(tmp_path, content, "sets.gmt.gz")
    sum_of_file = hashlib.sha256(content).hexdigest()
    found = read_gmt(path)
    for one in (found, found.select(["B"]), found.restricted_to(["G1", "G3"])):
        assert one.sha256 == one.to_anndata().uns["c2s"]["sha256"] == sum_of_file
    told = read_cells(path).uns["c2s"]
    assert (told["sha256"], told["unit"], told["source"]) == (sum_of_file, "gene set", "sets.gmt.gz")
    assert "sha256" not in sets(A="G1").to_anndata().uns["c2s"]


def test_a_compressed_file_is_read(tmp_path):
    path = gmt(tmp_path, gzip.compress(b"A\t\tG1\n"), "sets.gmt.gz")
    assert read_gmt(path)["A"] == ("G1",)
    with pytest.raises(InputFileError, match="cannot be read"):
        read_gmt(gmt(tmp_path, gzip.compress(b"A\t\tG1\n" * 99)[:20], "cut.gmt.gz"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A\tx\tG1\nB G1 G2\n", r"line 2 has no tab"),
        ("\tx\tG1\n", r"line 1 has no name"),
        ("A\tx\tG1\tG 2\n", r"line 1 has the gene 'G 2', with a space"),
        ("A\tx\tG1\nB\tx\tG2\nA\tx\tG3\n", r"lines 1 and 3 give different genes to 'A'"),
        ("A\n\tx\tG\nB\tx\tG 1\n", r"line 1 has no tab; line 2 has no name; line 3 has the gene"),
        ("A\n" * 7, r"line 5 has no tab and 2 more"),
        (b"A\tx\tG1\nB\tx\tG\xe9\n", r"not UTF-8: byte 0xe9 in line 2.*iconv"),
        ("", r"holds no gene set"),
    ],
)
def test_broken_files_are_refused_with_the_line(tmp_path, text, says):
    with pytest.raises(InputFileError, match=says):
        read_gmt(gmt(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputFileError, match=r"no GMT file .*absent\.gmt"):
        read_gmt(tmp_path / "absent.gmt")


@pytest.mark.parametrize(
    ("text", "says", "genes"),
    [
        ("A\tx\tG1\nE\tx\nF\tx\t\t\n", r"2 sets without genes were left out, first 'E'", ("G1",)),
        ("A\tx\tG1\tG2\nA\ty\tG2\tG1\n", r"1 sets that are there twice were left out, first 'A'", ("G1", "G2")),
        ("A\tx\tG1\tG2\tG1\tG1\n", r"2 genes repeated within a set", ("G1", "G2")),
    ],
)
def test_what_is_left_out_is_counted(tmp_path, text, says, genes):
    with pytest.warns(C2SWarning, match=says):
        found = read_gmt(gmt(tmp_path, text))
    assert found.names == ("A",)
    assert found["A"] == genes


def test_a_sound_file_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_gmt(gmt(tmp_path, "A\tx\tG1\nB\tx\tG1\tG2\n"))


def test_selecting_and_looking_up_name_what_is_not_there():
    some = sets(ALPHA="G1 G2", BETA="G3")
    assert some.select(["BETA", "ALPHA"]).genes == (("G3",), ("G1", "G2"))
    assert "ALPHA" in some
    assert "GAMMA" not in some
    for ask in (lambda: some["ALPHB"], lambda: some.select(["ALPHB"]), lambda: some.human_name("ALPHB")):
        with pytest.raises(DatasetError, match=r"'ALPHB'\. Fix: did you mean ALPHA"):
            ask()


def test_restricting_keeps_order_and_counts_what_is_lost():
    some = sets(A="G3 G1 G2", B="G4", C="G1 G4")
    with pytest.warns(C2SWarning, match=r"1 of 3 gene sets have fewer than 1 of the genes given, first 'B'"):
        kept = some.restricted_to(["G1", "G3"])
    assert kept.names == ("A", "C")
    assert kept["A"] == ("G3", "G1")
    with pytest.raises(DatasetError, match="none of the 3 gene sets has 2 of the 1 genes"):
        some.restricted_to(["G9"], min_genes=2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HALLMARK_INTERFERON_ALPHA_RESPONSE", "interferon alpha response"),
        ("REACTOME_CLASS_I_MHC_MEDIATED", "class i mhc mediated"),
        ("KEGG_P53_SIGNALING_PATHWAY", "p53 signaling pathway"),
        ("2-oxoglutarate metabolic process (GO:0006103)", "2-oxoglutarate metabolic process"),
        ("My Own set_name", "My Own set name"),
        ("STAT3 targets", "STAT3 targets"),
        ("HALLMARK_", "hallmark"),
        ("TP53", "TP53"),
    ],
)
def test_names_in_words(name, words):
    assert readable_name(name) == words
    assert sets(**{name: "G1"}).human_name(name) == words


def test_a_collection_checks_itself():
    with pytest.raises(DatasetError, match="two sets have one name"):
        GeneSets(("A", "A"), ("", ""), (("G1",), ("G2",)))
    with pytest.raises(DatasetError, match="'A' has no gene"):
        GeneSets(("A",), ("",), ((),))
    with pytest.raises(DatasetError, match="2 names, 1 descriptions"):
        GeneSets(("A", "B"), ("",), (("G1",), ("G2",)))


@given(collections)
def test_jaccard_is_the_share_of_the_union_in_common(genes):
    some = collection(genes)
    index = some.jaccard().toarray()
    for i, one in enumerate(some.genes):
        for j, other in enumerate(some.genes):
            assert index[i, j] == pytest.approx(len({*one} & {*other}) / len({*one} | {*other}), abs=1e-12)


@given(collections, st.sampled_from([0.2, 0.4, 0.5, 1.0]))
def test_near_copies_are_in_one_group_and_groups_are_chains_of_them(genes, threshold):
    some = collection(genes)
    group = dict(zip(some.names, some.overlap_groups(threshold), strict=True))
    near = {
        frozenset((a, b))
        for a, b in combinations(some.names, 2)
        if len({*some[a]} & {*some[b]}) / len({*some[a]} | {*some[b]}) >= threshold
    }
    for a, b in map(tuple, near):
        assert group[a] == group[b]
    # Reach by search, independently of how groups are made.
    for name in some.names:
        reached, waiting = {name}, [name]
        while waiting:
            here = waiting.pop()
            found = {other for pair in near if here in pair for other in pair} - reached
            reached |= found
            waiting += sorted(found)
        assert {other for other in some.names if group[other] == group[name]} == reached
        assert group[name] == min(reached)


def test_sets_with_one_readable_name_are_near_copies_whatever_they_hold():
    some = sets(KEGG_APOPTOSIS="G1", REACTOME_APOPTOSIS="G2", OTHER="G3")
    assert some.overlap_groups() == ["KEGG_APOPTOSIS", "KEGG_APOPTOSIS", "OTHER"]
    for threshold in (0, 1.1):
        with pytest.raises(ConfigError, match="not in"):
            some.overlap_groups(threshold)
    with pytest.raises(ConfigError, match="the threshold is 0, not in"):
        some.to_anndata(near_copy=0)


@given(collections)
def test_the_sentence_of_a_set_is_its_genes_in_order(genes):
    some = collection(genes)
    sentences = some.to_sentences()
    assert sentences.table["cell_id"].to_pylist() == list(some.names)
    assert sentences.table["cell_sentence"].to_pylist() == [" ".join(g) for g in some.genes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", C2SWarning)  # a collection of one gene has no two
        shortened = some.to_sentences(top_k=2).table["cell_sentence"].to_pylist()
    assert shortened == [" ".join(g[:2]) for g in some.genes]


def test_a_large_set_keeps_its_order_in_single_precision():
    genes = [f"G{i}" for i in np.random.default_rng(0).permutation(5000)]
    some = GeneSets(("A",), ("",), (tuple(genes),))
    assert some.to_sentences().table["cell_sentence"].to_pylist() == [" ".join(genes)]


def test_a_gmt_file_is_read_wherever_cells_are(tmp_path):
    path = gmt(tmp_path, "HALLMARK_A\thttp://a\tG3\tG1\nHALLMARK_B_C\t\tG2\n")
    for adata in (read_cells(path), c2s.load_dataset(path, label="gene_set_name")):
        assert matrix_kind(adata).name == "log1p"
        assert adata.obs_names.tolist() == ["HALLMARK_A", "HALLMARK_B_C"]
        assert adata.obs["gene_set_name"].tolist() == ["a", "b c"]
        assert adata.obs["overlap_group"].tolist() == ["HALLMARK_A", "HALLMARK_B_C"]
        assert c2s.to_cell_sentences(adata).table["cell_sentence"].to_pylist() == ["G3 G1", "G2"]
    path = tmp_path / "sets.h5ad"
    adata.write_h5ad(path)
    assert c2s.to_cell_sentences(read_cells(path)).table["cell_sentence"].to_pylist() == ["G3 G1", "G2"]
    with pytest.raises(ConfigError, match=r"layer='counts' is for cells\. Fix: leave it out \(--layer\)"):
        read_cells(gmt(tmp_path, "A\t\tG1\n"), layer="counts")


def test_the_table_is_plain():
    table = sets(HALLMARK_A_B="G1 G2").to_table()
    assert table.to_pylist() == [
        {"name": "HALLMARK_A_B", "human_name": "a b", "description": "", "genes": ["G1", "G2"], "n_genes": 2}
    ]


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("file", "n", "probe"),
    [
        ("h.all.v7.5.1.symbols.gmt", 50, "HALLMARK_APOPTOSIS"),
        ("c2.cp.v7.5.1.symbols.gmt", 2982, "KEGG_APOPTOSIS"),
        ("enrichr.GO_Biological_Process_2021.gmt", 6036, "zymogen activation (GO:0031638)"),
    ],
)
def test_the_published_collections_are_read_whole(mirror, file, n, probe):
    path = mirror / "genesets" / file
    found = read_gmt(path)
    assert len(found) == n
    lines = path.read_text().splitlines()
    line = next(text.split("\t") for text in lines if text.startswith(probe + "\t"))
    assert found[probe] == tuple(gene for gene in line[2:] if gene)
    assert sum(map(len, found.genes)) == sum(len([g for g in text.split("\t")[2:] if g]) for text in lines)
