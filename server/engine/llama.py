"""The one file that knows llama_cpp: a model, its vocabulary and one context, over the C API.

The binding has no types to speak of, so its module is `Any` here, and nowhere else. Its pointers
never leave this file.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import sys
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import llama_cpp
import llama_cpp.llama_cpp
import numpy as np
from llguidance import LLTokenizer

from server.engine.backend import Logits, Outcome, State
from server.engine.batch import Batch, Part
from server.engine.gguf import NotGGUF, parts_of, read_gguf, sample_of
from server.engine.machine import available_memory, computes_on_gpu, physical_cores
from server.engine.pairs import PairForm
from server.engine.protocol import ModelInfo
from server.engine.settings import EngineSettings
from server.engine.sizing import LARGEST_DEFAULT_CONTEXT, demand
from server.engine.vectors import Vector
from server.engine.vocabulary import Special, SpecialKind, divide_words

_c: Any = llama_cpp.llama_cpp

# The binding's own makes a pointer object for every row.
_logits_address = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(
    ("llama_get_logits_ith", _c._lib)
)

# Bytes that one thread reads about as fast as several, which wait for each other at each layer.
_FEW_WEIGHTS = 16 << 20

_SPLIT_MODES = {
    "none": _c.LLAMA_SPLIT_MODE_NONE,
    "layer": _c.LLAMA_SPLIT_MODE_LAYER,
    "row": _c.LLAMA_SPLIT_MODE_ROW,
    "tensor": _c.LLAMA_SPLIT_MODE_TENSOR,
}
_CACHE_TYPES = {
    "f32": _c.GGML_TYPE_F32,
    "f16": _c.GGML_TYPE_F16,
    "bf16": 30,  # the binding has no name for it
    "q8_0": _c.GGML_TYPE_Q8_0,
    "q5_1": _c.GGML_TYPE_Q5_1,
    "q5_0": _c.GGML_TYPE_Q5_0,
    "q4_1": _c.GGML_TYPE_Q4_1,
    "q4_0": _c.GGML_TYPE_Q4_0,
    "iq4_nl": _c.GGML_TYPE_IQ4_NL,
}
_GPU, _INTEGRATED_GPU = 1, 2  # the binding has no names for kinds of devices
_WIDE_TYPES = {"f32", "f16", "bf16"}
_RANKED_BY_SHARES = {"qwen3", "qwen3vl"}  # of yes and no, where others have one logit
_ERROR_LEVEL = 4
# How it ends its lines about a step that was interrupted.
_ABORTED = ("failed with error 1", "compute status: 1", "ret = 2")
_PIECE_BYTES = 256
# More of them would wait for each other.
_MOST_SAMPLING_THREADS = 4


class ModelRefused(Exception):
    """The file cannot be served; the message is a sentence for the user."""


class DecodeFailed(Exception):
    """llama.cpp gave up on a batch; its context is not to be trusted any more."""


class ErrorLog:
    """llama.cpp's error lines: to stderr, and the last few kept to explain a refusal.

    llama.cpp has one log for the process, and the newest of these is it, for as long as the process
    lives: C code calls it without asking whether anyone still holds it here.
    """

    _installed: ClassVar[Any] = None

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=8)
        callback = _c.llama_log_callback(self._receive)
        _c.llama_log_set(callback, None)
        ErrorLog._installed = callback

    def _receive(self, level: int, text: bytes, _: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == _ERROR_LEVEL and not line.endswith(_ABORTED):
            self.lines.append(line)
            sys.stderr.write(line + "\n")

    @property
    def cause(self) -> str:
        """The first error that was logged: later ones only say that something failed before."""
        return (
            self.lines[0].partition(": ")[2] or self.lines[0] if self.lines else "no reason given"
        )


class Model:
    """A loaded GGUF file. Freed when the process ends."""

    def __init__(self, path: str, settings: EngineSettings, log: ErrorLog) -> None:
        _c.llama_backend_init()
        parameters = _c.llama_model_default_params()
        parameters.n_gpu_layers = settings.gpu_layers
        parameters.split_mode = _SPLIT_MODES[settings.split_mode]
        parameters.main_gpu = settings.main_gpu
        shares = _shares(settings)  # kept alive: C reads it while it loads
        parameters.tensor_split = shares
        self.path = path
        self.settings = settings
        self.log = log
        self.pointer = _c.llama_model_load_from_file(path.encode(), parameters)
        if not self.pointer:
            raise ModelRefused(f"llama.cpp cannot load {path}: {log.cause}.")
        if _c.llama_model_has_encoder(self.pointer) or _c.llama_model_is_diffusion(self.pointer):
            raise ModelRefused(f"{path} is not a model that writes text from left to right.")
        self.vocabulary = ModelVocabulary(self.pointer)
        try:
            file = read_gguf(Path(path))
            self.demand = demand(file, settings)  # as its parent has it
        except NotGGUF as problem:
            raise ModelRefused(str(problem)) from None
        self.architecture = file.architecture
        self._adapters = [self._adapter(path) for path in settings.lora]

    def adapt(self, context: Any) -> None:
        """Apply the LoRA adapters to a context of this model, in all its sequences."""
        if self._adapters:
            count, scales = len(self._adapters), self.settings.lora.values()
            adapters = (_c.llama_adapter_lora_p_ctypes * count)(*self._adapters)
            scale = (ctypes.c_float * count)(*scales)
            if _c.llama_set_adapters_lora(context, adapters, count, scale) != 0:
                raise ModelRefused(f"The LoRA adapters of {self.path} cannot be applied.")

    def _adapter(self, path: str) -> Any:
        adapter = _c.llama_adapter_lora_init(self.pointer, path.encode())
        if not adapter:
            raise ModelRefused(
                f"llama.cpp cannot apply the LoRA adapter {path} to {self.path}: {self.log.cause}."
            )
        return adapter

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors of texts, or ranks them, and writes none."""
        return self.demand.embeds

    @property
    def pair_form(self) -> PairForm:
        """As llama.cpp's server has it, but for the end, which BERT was trained with."""
        template = _c.llama_model_chat_template(self.pointer, b"rerank")
        words = self.vocabulary
        separator = [] if words.separator is None else [words.separator]
        end = [words.eos] if words.eos is not None else separator
        between = [*(end if words.adds_eos else []), *(separator if words.adds_separator else [])]
        return PairForm(
            template.decode("utf-8", "replace") if template else None,
            between,
            end if words.adds_eos else between,
        )

    @property
    def trained_context(self) -> int:
        return int(_c.llama_model_n_ctx_train(self.pointer))

    @property
    def rolls_back(self) -> bool:
        """Recurrent states have no middle, and a sliding window has forgotten it."""
        fading = _c.llama_model_is_recurrent(self.pointer) or _c.llama_model_is_hybrid(self.pointer)
        return not fading and _c.llama_model_n_swa(self.pointer) == 0

    def describe(self, name: str, description: str, context: int) -> ModelInfo:
        template = _c.llama_model_chat_template(self.pointer, None)
        vocabulary = self.vocabulary
        return ModelInfo(
            name=name,
            description=description,
            path=self.path,
            size=sum(part.stat().st_size for part in parts_of(Path(self.path))),
            parameters=_c.llama_model_n_params(self.pointer),
            context=context,
            vocabulary=vocabulary.size,
            chat_template=template.decode("utf-8", "replace") if template else None,
            bos=vocabulary.name_of(vocabulary.bos),
            eos=vocabulary.name_of(vocabulary.eos),
            turn_ends=vocabulary.turn_ends,
            markers=vocabulary.markers,
            tags=vocabulary.tags,
            fingerprint=_fingerprint(Path(self.path), self.settings),
        )


class ModelVocabulary:
    """Text to ids and back. llama.cpp allows this from any thread, beside a running decode."""

    def __init__(self, model: Any) -> None:
        self._pointer = _c.llama_model_get_vocab(model)
        self._pieces: dict[int, bytes] = {}
        self.size = int(_c.llama_vocab_n_tokens(self._pointer))
        self._turn_ends = frozenset(
            token for token in range(self.size) if _c.llama_vocab_is_eog(self._pointer, token)
        )
        if _c.llama_vocab_type(self._pointer) == _c.LLAMA_VOCAB_TYPE_NONE:
            raise ModelRefused("The model has no vocabulary, so it cannot read or write text.")

    @property
    def bos(self) -> int | None:
        return _token(_c.llama_vocab_bos(self._pointer))

    @property
    def eos(self) -> int | None:
        return _token(_c.llama_vocab_eos(self._pointer))

    @property
    def separator(self) -> int | None:
        return _token(_c.llama_vocab_sep(self._pointer))

    def ends_text(self, token: int) -> bool:
        """Whether it stands behind a text: no text turns into it."""
        return token in (self.eos, self.separator)

    @property
    def turn_ends(self) -> list[str]:
        return sorted(name for token in self._turn_ends if (name := self.name_of(token)))

    @property
    def adds_bos(self) -> bool:
        return bool(_c.llama_vocab_get_add_bos(self._pointer))

    @property
    def adds_eos(self) -> bool:
        return bool(_c.llama_vocab_get_add_eos(self._pointer))

    @property
    def adds_separator(self) -> bool:
        return bool(_c.llama_vocab_get_add_sep(self._pointer))

    @property
    def markers(self) -> dict[str, int]:
        """The ids of the tokens that text must not turn into, by how they are spelled."""
        return {special.text: special.id for special in self.specials() if special.is_marker}

    @property
    def tags(self) -> dict[str, int]:
        """The ids of the tokens that are never text, by how they are spelled."""
        return {special.text: special.id for special in self.specials() if special.is_tag}

    def for_grammars(self) -> LLTokenizer:
        """Takes a second. Any end of a turn ends what a grammar describes.

        llguidance takes a token that begins with 0xff for one that is no text. Its own adapter goes
        through a part of the binding that is deprecated.
        """
        pieces = [self._piece(token) for token in range(self.size)]
        for token in self.tags.values():
            pieces[token] = b"\xff" + pieces[token]
        maker: Any = LLTokenizer
        tokenizer: LLTokenizer = maker.from_llamacpp(
            tokens=pieces,
            vocab_ptr=self._pointer,
            tokenize_fptr=ctypes.cast(_c._lib.llama_tokenize, ctypes.c_void_p).value,
            eos_token=sorted(self._turn_ends),
            slices=None,
        )
        return tokenizer

    def specials(self) -> list[Special]:
        return self._specials

    @cached_property
    def _specials(self) -> list[Special]:
        """Found by asking for every token, which takes a while with a large vocabulary."""
        return [special for token in range(self.size) if (special := self._special(token))]

    def tokenize(self, text: str, *, special: bool = False, around: bool = False) -> list[int]:
        """As llama.cpp does it: with `special`, markers in `text` count.

        With `around`, a start and an end token are added if the model wants them. A word without
        end is read in parts, each with such tokens: the stack that it needs grows with it.
        """
        parts = divide_words(text)
        return [id for part in parts for id in self._tokenize(part, special, around)]

    def _tokenize(self, text: str, special: bool, around: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        size = len(data) + 2
        for _ in range(2):  # a vocabulary that normalises finds more at times, and says how much
            ids = (_c.llama_token * size)()
            count = _c.llama_tokenize(self._pointer, data, len(data), ids, size, around, special)
            if count >= 0:
                return list(ids[:count])
            size = -count
        raise ValueError(f"llama.cpp cannot tokenize a text of {len(data)} bytes")

    def ends_turn(self, token: int) -> bool:
        return token in self._turn_ends

    def text(self, token: int) -> bytes:
        """The bytes of a generated token: markers as they are spelled, ends of a turn as none."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = b"" if self.ends_turn(token) else self._piece(token)
        return piece

    def name_of(self, token: int | None) -> str:
        return "" if token is None else self._piece(token).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        size = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = _c.llama_token_to_piece(self._pointer, token, buffer, size, 0, True)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def _special(self, token: int) -> Special | None:
        attributes = _c.llama_vocab_get_attr(self._pointer, token)
        kind = _kind(attributes)
        if kind is None:
            return None
        return Special(
            id=token,
            text=_c.llama_vocab_get_text(self._pointer, token).decode("utf-8", "replace"),
            kind=kind,
            strips_left=bool(attributes & _c.LLAMA_TOKEN_ATTR_LSTRIP),
            strips_right=bool(attributes & _c.LLAMA_TOKEN_ATTR_RSTRIP),
        )


class LlamaBackend:
    """One context of a model: implements Backend. Owned by the thread that decodes."""

    def __init__(self, model: Model, settings: EngineSettings) -> None:
        self._model = model
        self.slots = self._spare = settings.slots  # one more, to save a part of a slot from
        self.rolls_back = model.rolls_back
        # A processor's attention to a row of a long prompt looks at what rows beside it look at.
        self.mixes = on_gpu = computes_on_gpu()
        self.takes_all_cores = not on_gpu and _threads(settings) >= physical_cores()
        # The others are for whoever reads what was said.
        cores = physical_cores() if on_gpu else _threads(settings)
        self.sampling_threads = max(1, min(cores // 2, _MOST_SAMPLING_THREADS))
        self.vocabulary = model.vocabulary.size
        self.ends_turn = model.vocabulary.ends_turn
        self.text = model.vocabulary.text
        wanted = settings.context or min(model.trained_context, LARGEST_DEFAULT_CONTEXT)
        self._context = self._create(wanted, settings)
        model.adapt(self._context)
        self._memory = _c.llama_get_memory(self._context)
        self.cells = int(_c.llama_n_ctx(self._context))
        self.context = min(wanted, self.cells)
        self._abort = _Abort(self._context)
        self._logits: dict[tuple[int, int], Logits] = {}  # by address and number of rows
        self._viewed: Batch | None = None
        self._view: Any = None

    def decode(self, batch: Batch) -> Outcome:
        if batch is not self._viewed:
            self._viewed, self._view = batch, _view(batch)
        self._view.n_tokens = batch.size
        self._model.log.lines.clear()  # what it says next is about this step
        code = _c.llama_decode(self._context, self._view)
        if code == 0:
            _c.llama_synchronize(self._context)  # a GPU was only told what to compute
            return Outcome.DONE
        if code == 1:
            return Outcome.FULL
        if code == 2:
            return Outcome.ABORTED
        raise DecodeFailed(f"llama_decode returned {code}: {self._model.log.cause}")

    def logits(self, rows: Sequence[int]) -> Logits:
        """llama.cpp has them one behind the other, in the order of the batch."""
        first, last = self._logits_address(rows[0]), self._logits_address(rows[-1])
        view = self._logits.get((first, len(rows)))
        if view is None:
            shape = len(rows), self.vocabulary
            values: Any = (ctypes.c_float * (shape[0] * shape[1])).from_address(first)
            view = self._logits[first, len(rows)] = np.ndarray(shape, np.float32, buffer=values)
        if last != first + (len(rows) - 1) * view.strides[0]:
            raise DecodeFailed(f"the logits of rows {rows} are apart")
        return view

    def _logits_address(self, row: int) -> int:
        address: int | None = _logits_address(self._context, row)
        if not address:
            raise DecodeFailed(f"no logits in row {row}")
        return address

    def cut(self, slot: int, length: int) -> None:
        if not _c.llama_memory_seq_rm(self._memory, slot, length or -1, -1):
            raise DecodeFailed(f"slot {slot} could not be cut to {length} tokens")

    def copy(self, source: int, target: int, length: int) -> None:
        _c.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def save(self, slot: int, length: int, most: int) -> State | None:
        if length == self._length(slot):
            return self._state(slot, most)
        self.copy(slot, self._spare, length)
        state = self._state(self._spare, most)
        self.cut(self._spare, 0)
        return state

    def load(self, slot: int, state: State) -> bool:
        if _c.llama_state_seq_set_data(self._context, _bytes(state), len(state), slot):
            return True
        self.cut(slot, 0)
        return False

    def interrupt(self) -> None:
        self._abort.set()

    def resume(self) -> None:
        self._abort.clear()

    def _state(self, slot: int, most: int) -> State | None:
        size = _c.llama_state_seq_get_size(self._context, slot)
        if size > most:
            return None
        state = np.empty(size, np.uint8)
        written = _c.llama_state_seq_get_data(self._context, _bytes(state), len(state), slot)
        return state[:written]

    def _length(self, slot: int) -> int:
        return int(_c.llama_memory_seq_pos_max(self._memory, slot)) + 1

    def close(self) -> None:
        _c.llama_free(self._context)
        _c.llama_model_free(self._model.pointer)

    def _create(self, context: int, settings: EngineSettings) -> Any:
        free = available_memory()
        cells = settings.kv_cells or self._model.demand.affordable_cells(context, free)
        self._require_memory(cells, free)
        pointer = _c.llama_init_from_model(self._model.pointer, self._parameters(cells, settings))
        while not pointer and settings.kv_cells is None and cells > context:
            cells = max(context, cells // 2)
            pointer = _c.llama_init_from_model(
                self._model.pointer, self._parameters(cells, settings)
            )
        if not pointer:
            raise ModelRefused(
                f"There is no memory for a context of {cells} tokens of {self._model.path}: "
                f"{self._model.log.cause}. Set a smaller context or fewer kv_cells."
            )
        if not _c.llama_get_causal_attn(pointer):
            raise ModelRefused(f"{self._model.path} is an embedding model; it cannot write text.")
        return pointer

    def _require_memory(self, cells: int, free: int) -> None:
        """Before llama.cpp takes it: a machine that runs out kills whom it likes."""
        needed = cells * self._model.demand.takes.cell
        if not _c.llama_supports_gpu_offload() and needed > free:
            raise ModelRefused(
                f"A context of {cells} tokens of {self._model.path} takes {needed >> 20} MiB of "
                f"memory; {free >> 20} MiB are free. Set a smaller context or fewer kv_cells."
            )

    def _parameters(self, cells: int, settings: EngineSettings) -> Any:
        parameters = _c.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_batch = parameters.n_ubatch = max(settings.batch, self.slots)
        parameters.n_seq_max = parameters.n_outputs_max = self.slots + 1
        parameters.n_threads = _threads_for_one(settings, self._model)
        parameters.n_threads_batch = _threads(settings)
        parameters.kv_unified = True
        # llama.cpp reuses what has left a window either way: a full cache could not be cut, too.
        parameters.swa_full = False
        parameters.type_k, parameters.type_v = _cache_types(settings)
        parameters.flash_attn_type = (
            _c.LLAMA_FLASH_ATTN_TYPE_AUTO  # off only where the device has no kernel for it
            if settings.flash_attention
            else _c.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        parameters.no_perf = True
        return parameters


class LlamaEmbedder:
    """A context that reads texts: implements EmbeddingBackend. Owned by the thread that computes.

    A batch is one step, since a text that is not read causally cannot be read in parts. What a
    model that ranks makes of a pair is a vector of one number, 0..1.
    """

    def __init__(self, model: Model, settings: EngineSettings) -> None:
        self._model = model
        self.slots = settings.slots
        self.context = model.demand.context
        self.batch = settings.batch
        self.vocabulary = model.vocabulary.size
        self.ranks = model.demand.ranks
        self.size = 1 if self.ranks else int(_c.llama_model_n_embd_out(model.pointer))
        self._batch = Batch(max(settings.batch, self.slots, self.context))
        self._view = _view(self._batch)
        self._context = self._create(settings)
        model.adapt(self._context)
        self._memory = _c.llama_get_memory(self._context)

    def tokenize(self, text: str, cut: bool) -> list[int]:
        """With the tokens that the model wants around a text. Any thread may call it.

        With `cut`, no more of the text than the model reads at once.
        """
        ids = self._model.vocabulary.tokenize(text, around=True)
        if not cut or len(ids) <= self.context:
            return ids
        end = ids[-1:] if self._model.vocabulary.ends_text(ids[-1]) else []
        return ids[: self.context - len(end)] + end

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        self._batch.fill(Part(slot, 0, text, True) for slot, text in enumerate(texts))
        self._batch.outputs[: self._batch.size] = True  # a vector is made of all its tokens
        self._view.n_tokens = self._batch.size
        if self._memory:
            _c.llama_memory_clear(self._memory, True)
        if code := _c.llama_decode(self._context, self._view):
            raise DecodeFailed(f"llama_decode returned {code}: {self._model.log.cause}")
        return [self._vector(slot) for slot in range(len(texts))]

    def _vector(self, slot: int) -> Vector:
        pointer = _c.llama_get_embeddings_seq(self._context, slot)
        if not pointer:
            raise DecodeFailed(f"no vector for slot {slot}")
        if self.ranks:
            return np.array([self._score(float(pointer[0]))], np.float32)
        return np.ctypeslib.as_array(pointer, (self.size,)).copy()

    def _score(self, output: float) -> float:
        """0..1: what llama.cpp gives is that already, for some, and for others a logit."""
        is_share = self._model.architecture in _RANKED_BY_SHARES
        return output if is_share else (1 + math.tanh(output / 2)) / 2

    def _create(self, settings: EngineSettings) -> Any:
        parameters = _c.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = len(self._batch.tokens)
        parameters.n_seq_max = self.slots
        parameters.n_threads = parameters.n_threads_batch = _threads(settings)
        parameters.kv_unified = parameters.embeddings = parameters.no_perf = True
        parameters.type_k, parameters.type_v = _cache_types(settings)
        if not settings.flash_attention:
            parameters.flash_attn_type = _c.LLAMA_FLASH_ATTN_TYPE_DISABLED
        pointer = _c.llama_init_from_model(self._model.pointer, parameters)
        if pointer and _c.llama_pooling_type(pointer) == _c.LLAMA_POOLING_TYPE_NONE:
            _c.llama_free(pointer)
            parameters.pooling_type = _c.LLAMA_POOLING_TYPE_MEAN
            pointer = _c.llama_init_from_model(self._model.pointer, parameters)
        if not pointer:
            raise ModelRefused(
                f"A context of {parameters.n_ctx} tokens of {self._model.path} cannot be made: "
                f"{self._model.log.cause}."
            )
        return pointer


class _Abort:
    """A flag that llama.cpp polls at every node of its graph, from its own threads.

    The callback is libc's strlen on two bytes, 0 for "go on" and 1 for "abort": a Python function
    would take the interpreter's lock hundreds of times a token.
    """

    def __init__(self, context: Any) -> None:
        self._flag = ctypes.create_string_buffer(2)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, _c.ggml_abort_callback)
        self._callback = strlen  # kept alive: C holds it
        _c.llama_set_abort_callback(context, strlen, ctypes.cast(self._flag, ctypes.c_void_p))

    def set(self) -> None:
        self._flag[0] = b"\x01"

    def clear(self) -> None:
        self._flag[0] = b"\x00"


def gpu_memory() -> tuple[int, bool]:
    """Free bytes of the GPUs that llama.cpp takes, and whether they are the machine's own."""
    ggml = _c._lib
    ggml.ggml_backend_dev_get.restype = ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    devices = [
        ctypes.c_void_p(ggml.ggml_backend_dev_get(ctypes.c_size_t(number)))
        for number in range(ggml.ggml_backend_dev_count())
    ]
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    found = []
    for device in devices:
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append((ggml.ggml_backend_dev_type(device), free.value))
    return memory_of_gpus(found)


def memory_of_gpus(devices: Sequence[tuple[int, int]]) -> tuple[int, bool]:
    """The same, of all devices' kinds and free bytes.

    An integrated GPU is taken only where there is no other, and may be there for several drivers.
    """
    own = [free for kind, free in devices if kind == _GPU]
    shared = [free for kind, free in devices if kind == _INTEGRATED_GPU]
    return (max(shared), True) if shared and not own else (sum(own), False)


def _threads(settings: EngineSettings) -> int:
    return settings.threads or physical_cores()


def _threads_for_one(settings: EngineSettings, model: Model) -> int:
    """For a step of one token; the other cores are left to whoever reads what is said."""
    if settings.threads is None and _c.llama_model_size(model.pointer) <= _FEW_WEIGHTS:
        return 1
    return _threads(settings)


def _shares(settings: EngineSettings) -> Any:
    """How much of the model each GPU gets; None leaves it to llama.cpp."""
    most = _c.llama_max_devices()
    if len(settings.tensor_split) > most:
        raise ModelRefused(f"tensor_split has more than {most} shares, one for each GPU.")
    return (ctypes.c_float * most)(*settings.tensor_split) if settings.tensor_split else None


def _cache_types(settings: EngineSettings) -> tuple[int, int]:
    keys, values = settings.cache_type_k, settings.cache_type_v
    if not settings.flash_attention and values not in _WIDE_TYPES:
        raise ModelRefused(f"cache_type_v = {values!r} needs flash_attention.")
    return _CACHE_TYPES[keys], _CACHE_TYPES[values]


def _view(batch: Batch) -> Any:
    """The batch as llama.cpp's struct, over the same memory."""
    view = _c.llama_batch()
    view.token = _pointer(batch.tokens, ctypes.c_int32)
    view.pos = _pointer(batch.positions, ctypes.c_int32)
    view.n_seq_id = _pointer(batch.slot_counts, ctypes.c_int32)
    view.seq_id = _pointer(batch.slot_addresses, ctypes.POINTER(ctypes.c_int32))
    view.logits = _pointer(batch.outputs, ctypes.c_int8)
    return view


def _bytes(state: State) -> Any:
    return _pointer(state, ctypes.c_uint8)


def _pointer(array: Any, kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _token(token: int) -> int | None:
    return token if token >= 0 else None


def _kind(attributes: int) -> SpecialKind | None:
    if attributes & (_c.LLAMA_TOKEN_ATTR_CONTROL | _c.LLAMA_TOKEN_ATTR_UNKNOWN):
        return "control" if attributes & _c.LLAMA_TOKEN_ATTR_CONTROL else "unknown"
    return "user_defined" if attributes & _c.LLAMA_TOKEN_ATTR_USER_DEFINED else None


def _fingerprint(path: Path, settings: EngineSettings) -> str:
    """What a saved state depends on: the files, how they are computed, and who reads it again."""
    digest = hashlib.sha256()
    for file in (*parts_of(path), *map(Path, settings.lora)):
        digest.update(sample_of(file))
    loaded = (
        llama_cpp.__version__,
        settings.flash_attention,
        settings.cache_type_k,
        settings.cache_type_v,
        list(settings.lora.values()),
    )
    digest.update(repr(loaded).encode())
    return digest.hexdigest()[:32]
