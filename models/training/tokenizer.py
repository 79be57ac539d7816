"""Trains the vocabulary and reads it back.

A byte-level BPE whose merges are learned on runs of letters alone, never across a space, a digit
or a punctuation mark: a word has the same tokens after a space, within quotes and at the start
of a line, so that copying it is copying its tokens. Every marker of the template is one special
token.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from corpus import sample
from places import folder_option, vocabulary_of
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PADDING, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MARKERS = [
    PADDING,
    TURN_START,
    TURN_END,
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
]
# As JSON writes them within strings: without tokens of their own they would stick to words.
ESCAPES = ["\\n", '\\"']
LETTER_RUNS = r"\p{L}+|  +|\n+|."
# llama.cpp's pre-tokenizer "qwen2": what splits text when the model runs.
QWEN2 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splitting_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, to_bytes])


def texts(seed: int, count: int) -> Iterator[str]:
    for number in range(count):
        text = sample(seed, number)
        for marker in (*MARKERS, *ESCAPES):
            text = text.replace(marker, "\n")
        yield text


def learn(seed: int, size: int, count: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitting_by(LETTER_RUNS)
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(MARKERS) - len(ESCAPES),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        max_token_length=10,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(seed, count), trainer)
    return finished(tokenizer)


def of_merges(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """One whose words were learned already; ids behind the last word are not given here."""
    return finished(Tokenizer(models.BPE(vocabulary, merges)))


def finished(tokenizer: Tokenizer) -> Tokenizer:
    """As the network reads: split as llama.cpp does, with the escapes and the markers."""
    tokenizer.pre_tokenizer = splitting_by(QWEN2)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(e, special=False, normalized=False) for e in ESCAPES])
    tokenizer.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in MARKERS])
    return tokenizer


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    folder_option(parser)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--documents", type=int, default=24_000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = vocabulary_of(options.folder)
    tokenizer = learn(options.seed, options.size, options.documents)
    tokenizer.save(str(path))
    print(f"{path}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
