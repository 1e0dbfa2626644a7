"""The templates: what a model is asked, in our own words (table 1 of the paper gives input and output)."""

from __future__ import annotations

from c2s import PromptTemplate

ENUMERATION = (
    PromptTemplate("gene-set-enumeration/plain", "Gene set : {gene_set_name} . Its genes :", "{genes}"),
    PromptTemplate(
        "gene-set-enumeration/request",
        "List the genes that belong to the gene set {gene_set_name} . Its genes :",
        "{genes}",
    ),
    PromptTemplate(
        "gene-set-enumeration/question",
        "Which genes make up {gene_set_name} ? Its genes :",
        "{genes}",
    ),
)

NAMING = (
    PromptTemplate("gene-set-naming/plain", "Genes : {cell_sentence} . Name of the gene set :", "{gene_set_name}"),
    PromptTemplate(
        "gene-set-naming/counted",
        "These {n_genes} genes belong together : {cell_sentence} . Name of the gene set :",
        "{gene_set_name}",
    ),
    PromptTemplate(
        "gene-set-naming/question",
        "What do these genes have in common ? {cell_sentence} . Name of the gene set :",
        "{gene_set_name}",
    ),
)
