"""Writes a checkpoint as a GGUF of the llama architecture, in Q8_0 with the norms in F32.

The chat template goes into the file, and beside it for people to read.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import tokenizer as vocabulary
import torch
from corpus.render import TEMPLATE_TEXT
from network import Shape
from places import checkpoint_of, folder_option, vocabulary_of
from tokenizers import Tokenizer

MODEL = Path(__file__).parents[1] / "tiny-assistant.gguf"
# Clients sample at temperature 1 unless they say otherwise, where a network this small still
# slips now and then. A larger last norm makes its temperature 1 what would be 1 / SHARPNESS; the
# best guess stays the same.
SHARPNESS = 4.0


def describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("Tiny Assistant")
    writer.add_description(
        "A demonstration model trained from scratch on synthetic conversations: it greets, "
        "remembers, follows simple instructions, calls functions, answers from files and writes "
        "small programs, and knows nearly nothing."
    )
    writer.add_license("Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(shape.vocabulary)


def kind_of(token: str) -> gguf.TokenType:
    if token in vocabulary.MARKERS:
        return gguf.TokenType.CONTROL
    return gguf.TokenType.USER_DEFINED if token in vocabulary.ESCAPES else gguf.TokenType.NORMAL


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    tokens = [tokenizer.id_to_token(token) for token in range(tokenizer.get_vocab_size())]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kind_of(token) for token in tokens])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    padding = tokenizer.token_to_id(vocabulary.PADDING)
    writer.add_bos_token_id(padding)
    writer.add_pad_token_id(padding)
    writer.add_eos_token_id(tokenizer.token_to_id(vocabulary.TURN_END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE_TEXT)


def add_weights(writer: gguf.GGUFWriter, weights: dict[str, torch.Tensor]) -> None:
    """The network's names are GGUF's; there is no output matrix, so llama.cpp ties it."""
    for name, weight in weights.items():
        values = weight.float().numpy()
        if name == "output_norm.weight":
            values = values * np.float32(SHARPNESS)
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def shape_of(model: Path) -> Shape:
    """Of a file that was written here."""
    reader = gguf.GGUFReader(model)
    size = len(reader.get_field("tokenizer.ggml.tokens").data)
    lengths = ("embedding_length", "block_count", "attention.head_count", "feed_forward_length")
    keys = (*lengths, "context_length")
    return Shape(size, *(reader.get_field(f"llama.{key}").contents() for key in keys))


def tokenizer_of(model: Path) -> Tokenizer:
    """Of a file that was written here: the corpus may have changed since it was learned."""
    reader = gguf.GGUFReader(model)
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    added = {*vocabulary.ESCAPES, *vocabulary.MARKERS}
    words = {token: number for number, token in enumerate(tokens) if token not in added}
    return vocabulary.of_merges(words, [tuple(merge.split(" ")) for merge in merges])


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    """What was written, as the network names it, to train on with."""
    weights = {}
    for tensor in gguf.GGUFReader(model).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        weights[tensor.name] = torch.from_numpy(values)
    weights["output_norm.weight"] /= SHARPNESS
    return weights


def mean(
    weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Of two networks, one of which was trained on from the other: between what was won and what
    was lost (Wortsman et al. 2022). The share is of the first.
    """
    return {name: others[name].lerp(weight, share) for name, weight in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    folder_option(parser)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--with", dest="other", type=Path, help="a GGUF, for the mean of both")
    parser.add_argument("--share", type=float, default=0.5, help="of the checkpoint in that mean")
    options = parser.parse_args()
    state = torch.load(checkpoint_of(options.folder), weights_only=True, map_location="cpu")
    weights = state["weights"]
    if options.other:
        weights = mean(weights, weights_of(options.other), options.share)
    writer = gguf.GGUFWriter(options.model, "llama")
    describe(writer, Shape(**state["shape"]))
    add_vocabulary(writer, vocabulary.load(vocabulary_of(options.folder)))
    add_weights(writer, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    options.model.with_suffix(".jinja").write_text(TEMPLATE_TEXT, encoding="utf-8")
    step, seconds, tokens = state["progress"]
    count = sum(weight.numel() for weight in weights.values())
    print(f"{options.model}: {options.model.stat().st_size} bytes, {count} parameters")
    print(f"step {step}, {tokens} tokens, {seconds:.0f} s of training")


if __name__ == "__main__":
    main()
