"""llama.cpp computes what transformers' Llama does: the benchmark times the same model."""

import pytest
import torch


def test_the_logits_are_those_of_transformers():
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed: the extra `llama`")
    pytest.importorskip("gguf", reason="gguf is not installed: the extra `llama`")
    from benchmarks import llama_cpp
    from benchmarks.peers import CausalLM, build

    torch.manual_seed(0)
    peer = build("llama", 261, 64)
    assert isinstance(peer, CausalLM)
    assert set(llama_cpp.check(peer.model.eval())) == set(llama_cpp.TYPES)
