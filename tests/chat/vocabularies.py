"""Vocabularies of real model families, with markers added that the file at hand does not have."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import llama_cpp as c

from server.engine.llama import ModelVocabulary

CONTROL, USER_DEFINED = 3, 4  # of GGUF's kinds of tokens
HEADER = 24  # magic, version, and the counts of tensors and values
STRING, ARRAY = 8, 9  # of GGUF's types of values; the others are numbers
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def with_markers(source: Path, target: Path, markers: Collection[str], kind: int) -> Path:
    """The vocabulary in `source`, a file without tensors, in which all markers are of this kind.

    Its lists are as long as hundreds of thousands of strings, so they are copied as they lie.
    """
    data = source.read_bytes()
    values = {key: data[start:end] for key, start, end in _values(data)}
    tokens = values["tokenizer.ggml.tokens"]
    kinds = bytearray(values["tokenizer.ggml.token_type"])
    places = {token: place for place, token in enumerate(_strings(tokens))}
    added = [marker.encode() for marker in markers if marker.encode() not in places]
    for marker in markers:
        if (place := places.get(marker.encode())) is not None:
            struct.pack_into("<i", kinds, 16 + 4 * place, kind)
    spelled = b"".join(struct.pack("<Q", len(text)) + text for text in added)
    values["tokenizer.ggml.tokens"] = _longer(tokens, len(added), spelled)
    marked = struct.pack("<i", kind) * len(added)
    values["tokenizer.ggml.token_type"] = _longer(bytes(kinds), len(added), marked)
    if (scores := values.get("tokenizer.ggml.scores")) is not None:
        values["tokenizer.ggml.scores"] = _longer(scores, len(added), bytes(4 * len(added)))
    for key in values:
        if key.endswith(".vocab_size"):
            values[key] = struct.pack("<II", 4, len(places) + len(added))
    body = b"".join(
        struct.pack("<Q", len(key.encode())) + key.encode() + value for key, value in values.items()
    )
    target.write_bytes(data[:HEADER] + body)
    return target


def _values(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Each key, and where its type and value lie."""
    place = HEADER
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        (length,) = struct.unpack_from("<Q", data, place)
        start = place + 8 + length
        key = data[place + 8 : start].decode()
        place = _end(data, start + 4, struct.unpack_from("<I", data, start)[0])
        yield key, start, place


def _end(data: bytes, place: int, kind: int) -> int:
    if kind == STRING:
        return place + 8 + int(struct.unpack_from("<Q", data, place)[0])
    if kind != ARRAY:
        return place + SIZES[kind]
    inner, count = struct.unpack_from("<IQ", data, place)
    place += 12
    if inner != STRING:
        return place + SIZES[inner] * int(count)
    for _ in range(count):
        place += 8 + struct.unpack_from("<Q", data, place)[0]
    return place


def _strings(array: bytes) -> Iterator[bytes]:
    place = 16
    while place < len(array):
        (length,) = struct.unpack_from("<Q", array, place)
        yield array[place + 8 : place + 8 + length]
        place += 8 + length


def _longer(array: bytes, count: int, more: bytes) -> bytes:
    kind, inner, before = struct.unpack_from("<IIQ", array)
    return struct.pack("<IIQ", kind, inner, before + count) + array[16:] + more


def load_vocabulary(path: Path) -> ModelVocabulary:
    """The vocabulary alone. It lives as long as the process."""
    c.llama_backend_init()
    parameters = c.llama_model_default_params()
    parameters.vocab_only = True
    model = c.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, f"llama.cpp cannot load {path}"
    return ModelVocabulary(model)
