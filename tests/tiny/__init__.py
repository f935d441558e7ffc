"""Every family at tiny size with random weights, one file per family: what the contract tests run over.

A file names its models in `TOKENIZERS` and `GENERATORS` (name -> function that builds one) and its training objectives
in `OBJECTIVES` (name -> function of the tokenizer that wraps it).
"""
