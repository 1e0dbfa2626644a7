"""What the core itself registers, through the same door as a stranger's plugin."""

from __future__ import annotations

from c2s.hookspecs import Register, hookimpl


@hookimpl
def c2s_register_metrics(register: Register) -> None:
    """Register the metrics of labelling tasks."""
    register("accuracy", "c2s.metrics:accuracy_metric", summary="share of cells given the right label")
    register("macro_f1", "c2s.metrics:macro_f1_metric", summary="F1 of each label, averaged over labels")
    register(
        "exact_match", "c2s.metrics:exact_match_metric", summary="share of answers that are the truth verbatim"
    )
    register("overlap", "c2s.metrics:overlap_metric", summary="share of the true genes that were predicted")
    register(
        "bert_score",
        "c2s.metrics:bert_score_metric",
        summary="F1 of BERTScore, the likeness of texts to an encoder",
    )
    register("biobert_score", "c2s.metrics:biobert_score_metric", summary="BERTScore with BioBERT")
    register(
        "kendall_tau",
        "c2s.metrics:kendall_tau_metric",
        summary="Kendall's tau of predicted gene ranks, absent genes sharing the last (section 4.6.9)",
    )
    register(
        "kendall_tau_b", "c2s.metrics:kendall_tau_b_metric", summary="Kendall's tau-b of predicted gene ranks"
    )
    register("spearman", "c2s.metrics:spearman_metric", summary="Spearman's rho of predicted gene ranks")


@hookimpl
def c2s_register_rewards(register: Register) -> None:
    """Register rewards that any task with a true answer can use."""
    register("exact_match", "c2s.training.rewards:EXACT_MATCH", summary="1 for the true answer, else 0")
    register("overlap", "c2s.training.rewards:OVERLAP", summary="share of the true genes that were named")
    register("gene_f1", "c2s.training.rewards:GENE_F1", summary="F1 of the genes named; repeats count as wrong")


@hookimpl
def c2s_register_embedders(register: Register) -> None:
    """Register the embedders; those of other projects load what the user has of them."""
    register("c2s", "c2s.embedders.sentences:C2S", summary="mean hidden state of a language model (section 4.6.3)")
    register("hvg", "c2s.embedders.expression:HVG", summary="expression of variable genes")
    register("pca", "c2s.embedders.expression:PCA", summary="principal components of variable genes")
    register("scvi", "c2s.embedders.scvi:SCVI", summary="latent space of scVI, trained on counts (extra)")
    register("scgpt", "c2s.embedders.scgpt:SCGPT", summary="scGPT, from a checkpoint that you have")
    register("geneformer", "c2s.embedders.geneformer:GENEFORMER", summary="Geneformer, from a checkpoint you have")


@hookimpl
def c2s_register_chapters(register: Register) -> None:
    """Register the chapters of the book."""
    register(
        "how-to-read", "c2s.chapters.shipped:HOW_TO_READ", summary="what the chapters are and how to run them"
    )
    register(
        "cells-as-sentences",
        "c2s.chapters.shipped:CELLS_AS_SENTENCES",
        summary="section 4.2: cells become sentences, and expression again",
    )
    register(
        "corpus-and-prompts",
        "c2s.chapters.shipped:CORPUS_AND_PROMPTS",
        summary="section 4.1 and table 1: twelve kinds of prompt, the corpus, and what splits leak",
    )
    register(
        "laptop-to-cluster",
        "c2s.chapters.shipped:LAPTOP_TO_CLUSTER",
        summary="section 4.1: one process, several, a cluster, and what fifty million cells would cost",
    )
    register(
        "models-and-training",
        "c2s.chapters.shipped:MODELS_AND_TRAINING",
        summary="sections 4.3 and 4.5.1: models, what is learned, adapters, and what changes nothing",
    )
    register("grpo", "c2s.chapters.shipped:GRPO", summary="section 4.5.2: rewards, the loss by hand, its traps")
    register(
        "scaling", "c2s.chapters.shipped:SCALING", summary="sections 2.3 and 4.4: sizes, ways and samples seen"
    )
    register("limits", "c2s.chapters.shipped:LIMITS", summary="section 7.1: the order of genes, and invented ones")
    register(
        "write-your-own-task",
        "c2s.chapters.shipped:WRITE_YOUR_OWN_TASK",
        summary="a plugin of your own, from nothing to its tests",
    )


@hookimpl
def c2s_register_datasets(register: Register) -> None:
    """Register the manifests that hold cells; `c2s data list` says which are here."""
    for name, summary in (
        ("pbmc68k_reduced", "700 blood cells, comes with scanpy"),
        ("pbmc_zheng_facs", "3,874 blood cells sorted by FACS"),
        ("pbmc3k", "2,638 blood cells of one donor"),
        ("liver_he2020", "2,839 liver cells of one donor"),
        ("breast_wu2021", "1,564 cells of a breast tumour"),
        ("tcell_wu2020", "200 T cells of 14 patients, 5 tissues"),
        ("kang_ifnb", "1,975 blood cells with and without interferon beta"),
        ("kang_control", "12,261 blood cells of 8 donors"),
        ("kang_2018", "24,673 blood cells with and without interferon beta"),
        ("gbm_panobinostat", "5,000 glioblastoma cells with and without a drug"),
        ("jurkat_datlinger", "7,500 Jurkat cells, CRISPR guides x stimulation"),
        ("l1000_a375", "371 wells of L1000 level 3"),
        ("dong_2023", "9,209 immune cells under cytokines"),
        ("immune_conde2022", "immune cells of 16 tissues"),
        ("lung_kim2024", "lung organoids"),
        ("retina_zuo2024", "developing retina"),
        ("squidpy_seqfish", "mouse embryo with positions"),
        ("squidpy_merfish", "mouse hypothalamus with positions"),
        ("squidpy_imc", "breast cancer proteins with positions"),
        ("simulated_atlas", "simulated donors, tissues, cell types"),
        ("simulated_spatial", "simulated tissue with niches"),
        ("simulated_cytokines", "simulated cytokine responses"),
        ("simulated_drug_screen", "simulated drug screen in two contexts"),
    ):
        register(name, f"c2s.data.datasets:{name}", summary=summary)
