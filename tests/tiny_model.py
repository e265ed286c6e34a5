"""A model that is quickly loaded: random weights, which say nonsense, always the same."""

from pathlib import Path

from serve.profile import ModelProfile, load_profile

SHIPPED = load_profile("smollm2-135m")


def make_tiny(tokenizer: Path, folder: Path, *, context: int = 512) -> None:
    """Weights of a Llama with four heads, and a tokenizer that is real."""
    import torch  # noqa: PLC0415  # seconds, which other modules need not pay
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    words = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)


def tiny_profile(name: str, **changes: object) -> ModelProfile:
    """How it is served, on the CPU."""
    tiny = {
        "name": name,
        "served_name": "tiny",
        "max_model_len": 256,
        "engine_kwargs": {"enforce_eager": True, "max_num_seqs": 4},
    }
    return SHIPPED.model_copy(update={**tiny, **changes})
