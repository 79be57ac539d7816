"""The bundled model's card says what is in the bundled file and in the folder that made it."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import pytest

from server.search import minilm

MODELS = Path(__file__).parents[2] / "models"
MODEL = MODELS / "tiny-assistant.gguf"
CARD = MODELS / "README.md"
TRAINING = MODELS / "training" / "README.md"
MARKERS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
]


def stated(name: str, document: Path = CARD) -> str:
    """The value of a row of a document's table of facts."""
    text = document.read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(name)} \| `?([^|`]+?)`? \|$", text, re.MULTILINE)
    assert found, f"{document} has no row {name!r}"
    return found[1]


@pytest.fixture(scope="module")
def model() -> Iterator[llama_cpp.llama_model_p]:
    """The bundled file, loaded."""
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    loaded = llama_cpp.llama_model_load_from_file(str(MODEL).encode(), parameters)
    yield loaded
    llama_cpp.llama_model_free(loaded)


def tokens_of(model: llama_cpp.llama_model_p, text: str) -> list[int]:
    """The text as tokens, markers included."""
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    room = (llama_cpp.llama_token * 16)()
    raw = text.encode()
    count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), room, 16, False, True)
    return list(room[:count])


def test_the_file_is_the_one_the_card_describes() -> None:
    """Hash and size are the card's, and the file is small enough to travel with the code."""
    data = MODEL.read_bytes()
    assert hashlib.sha256(data).hexdigest() == stated("SHA-256")
    assert f"{len(data):,} bytes" == stated("size")
    assert len(data) < 8 * 1024 * 1024


def test_the_embedding_model_is_the_one_the_card_describes() -> None:
    """What is taken and what is made of it are pinned by the card's hashes."""
    assert minilm.MINILM.weights.digest == stated("weights taken, SHA-256")
    assert minilm.MINILM.made == stated("made, SHA-256")


def test_the_shape_is_the_one_the_card_describes(model: llama_cpp.llama_model_p) -> None:
    """Context length and number of parameters are the card's."""
    assert f"{llama_cpp.llama_model_n_ctx_train(model):,} tokens" == stated("context")
    assert f"{llama_cpp.llama_model_n_params(model):,}" == stated("parameters")


@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_is_one_control_token(model: llama_cpp.llama_model_p, marker: str) -> None:
    """No text of a user can be tokenized to a marker unless special tokens are asked for."""
    (token,) = tokens_of(model, marker)
    assert llama_cpp.llama_vocab_is_control(llama_cpp.llama_model_get_vocab(model), token)


def test_a_turn_ends_with_its_marker(model: llama_cpp.llama_model_p) -> None:
    """Generation stops at the end of a turn, and nothing is put before a prompt."""
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    assert tokens_of(model, "<|im_end|>") == [llama_cpp.llama_vocab_eos(vocabulary)]
    assert not llama_cpp.llama_vocab_get_add_bos(vocabulary)


def test_the_template_in_the_file_is_the_one_in_the_folder(
    model: llama_cpp.llama_model_p,
) -> None:
    """The server renders prompts as training did."""
    template = llama_cpp.llama_model_chat_template(model, None)
    assert template.decode() == (MODELS / "tiny-assistant.jinja").read_text(encoding="utf-8")


def test_the_training_documents_are_the_ones_that_are_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The generator, which needs neither torch nor a tokenizer, makes the same text anywhere."""
    monkeypatch.syspath_prepend(MODELS / "training")
    from corpus import digest

    assert digest(seed=1, count=500) == stated("documents, SHA-256", TRAINING)
