"""Every family at tiny size with random weights, one file per family: what the contract tests run over.

A file names its tokenizers in `TOKENIZERS` (name -> function that builds one), their training objectives in `OBJECTIVES`
(name -> function of the tokenizer that wraps it), its generators in `GENERATORS` (name -> function that gives a
`Generators`), and the published key lists of both in `KEY_LISTS` (registry name -> file in tests/goldens/keys).
"""
