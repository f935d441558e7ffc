"""A CLIP text tower at tiny size, in a folder."""

import json
from pathlib import Path

import torch

LETTERS = "!abcdefghijklmnopqrstuvwxyz."


def save_tiny_clip(folder: Path) -> Path:
    """Random weights: 5 places, 12 features, and a tokenizer that spells."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    symbols = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=5,
        bos_token_id=vocab["<|startoftext|>"],
        eos_token_id=vocab["<|endoftext|>"],
    )
    CLIPTextModel(config).save_pretrained(folder)
    return folder
