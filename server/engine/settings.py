"""How one model is loaded and decoded. None means: chosen from the file and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an operator may set. Sizes in tokens, times in seconds."""

    slots: int = 16  # sequences that decode together
    context: int | None = None  # tokens one sequence may have
    kv_cells: int | None = None  # tokens that all sequences have together
    threads: int | None = None
    batch: int = 512  # tokens in one decode step
    prefill_chunk_busy: int = 64  # fewest prompt tokens in a step beside live streams
    idle_cells: int = 0  # tokens of idle threads that stay in the context beside live ones
    cache_ram_bytes: int | None = None  # snapshots in memory
    cache_disk_bytes: int = 4 << 30  # snapshots in files
    gpu_layers: int = -1  # -1 is all of them
    split_mode: str = "layer"  # how several GPUs share a model: none, layer, row, tensor
    tensor_split: Sequence[float] = ()  # the GPUs' shares; none given: by their free memory
    main_gpu: int = 0  # the GPU that has what is not split
    cache_type_k: str = "f16"  # of the keys in the cache
    cache_type_v: str = "f16"
    flash_attention: bool = True
    spin: int = 1000  # how long OpenMP threads spin at a barrier before they sleep
    load_timeout: float = 300.0
    hang_timeout: float = 60.0
    lora: Mapping[str, float] = field(default_factory=dict)  # adapter files and their scales
