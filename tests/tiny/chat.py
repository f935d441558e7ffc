"""A tokenizer.json of a few words with the special tokens of Ming's chat; ids fit the tiny Ming."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

SPECIAL = {"<role>": 0, "</role>": 1, "</image>": 18, "<imagePatch>": 19, "<image>": 20}
WORDS = ("HUMAN", "ASSISTANT", "a", "red", "apple", "blue", "dog", "[UNK]")


def save_tiny_chat(folder: Path) -> Path:
    """Writes tokenizer.json into the folder, and returns the folder."""
    vocabulary = SPECIAL | {word: 2 + i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.add_special_tokens(list(SPECIAL))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
