"""A T5 small enough for a test: random weights and a tokenizer of a few words, in a folder."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

WORDS = ("a", "red", "apple", "blue", "dog", "on", "the", "table", ",", ".")


def save_tiny_t5(folder: Path, *, width: int = 8, seed: int = 0) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files; the end sign is token 1, as in T5."""
    torch.manual_seed(seed)
    words = ("<pad>", "</s>", "<unk>", *WORDS, *(f"word{i}" for i in range(300)))
    vocabulary = {word: i for i, word in enumerate(words)}
    sizes = {"d_model": width, "d_kv": 4, "num_heads": 2, "d_ff": 16, "num_layers": 2}
    model = T5EncoderModel(T5Config(vocab_size=len(words), feed_forward_proj="gated-gelu", **sizes))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])  # type: ignore[assignment]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    fast.save_pretrained(folder)
    return folder
