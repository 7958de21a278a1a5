"""The model in transformers: saving, generate(), pipelines."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
import torch
from helpers import error, event_times, randomise, state_error
from small_model import SIZES, SMALL
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    TextIteratorStreamer,
    Trainer,
    TrainingArguments,
    pipeline,
)

from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.nn.events import Events
from liquidlm.nn.state import LiquidCache, fresh_time
from liquidlm.text.tokenizer import LEDTokenizerWrapper

NEW = 8


def tiny(**options):
    """Four layers, of which the second has a memory; random parameters, float64; nothing ends a text."""
    torch.manual_seed(0)
    options = {"eos_token_id": None} | SIZES | SMALL | options
    return randomise(LiquidTextGenerationModel(LiquidConfig(**options))).double().eval()


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def expected(model):
    """What the model writes greedily after `tokens()`."""
    return by_hand(model, tokens())


def tokens(batch=2, length=10, seed=0):
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


def greedy(model, ids, mask=None, **options):
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(ids, attention_mask=mask, **({"max_new_tokens": NEW, "do_sample": False} | options))


@torch.no_grad()
def by_hand(model, ids, new=NEW, timestamps=None):
    """Greedy, the whole text read again for every token."""
    for _ in range(new):
        ids = torch.cat([ids, model(ids, timestamps=timestamps).logits[:, -1:].argmax(-1)], 1)
        if timestamps is not None:
            timestamps = torch.cat([timestamps, timestamps[:, -1:] + model.config.time_scale], 1)
    return ids


# ---- saving and loading


def test_saved_and_loaded_gives_the_same_logits(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors", ".py"}
    loaded = LiquidTextGenerationModel.from_pretrained(tmp_path, dtype=torch.float64)
    assert not loaded.training and error(loaded(tokens()).logits, model(tokens()).logits) < 1e-14
    flow, other = loaded.embedding.flow, model.embedding.flow
    assert sum(p.numel() for p in flow.parameters()) == sum(
        p.numel() for p in other.parameters()
    )  # still shared


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_of_low_precision(tmp_path, dtype):
    wide = tiny().float()
    wide.save_pretrained(tmp_path)
    low = LiquidTextGenerationModel.from_pretrained(tmp_path, dtype=dtype)
    output, exact = low(tokens()), wide(tokens()).logits
    assert output.logits.dtype == dtype and output.state.states()[1].memory.dtype == torch.float32
    assert (output.logits.float() - exact).std() < 0.1 * exact.std()
    state = low(tokens()[:, :4]).state
    later = low(tokens()[:, 4:], past_key_values=state).logits.float()
    assert (later - exact[:, 4:]).std() < 0.1 * exact.std()
    assert greedy(low, tokens()).shape == (2, 10 + NEW)


def test_auto_classes_where_nobody_imported_the_package(reader, tokenizer, tmp_path):
    """By the stub that the folder has: with trust_remote_code=True, and the classes are the package's own."""
    reader.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    script = """
import sys
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline
folder, again = sys.argv[1:]
trusted = {"trust_remote_code": True}
tokenizer = AutoTokenizer.from_pretrained(folder, **trusted)
config = AutoConfig.from_pretrained(folder, **trusted)
model = AutoModelForCausalLM.from_pretrained(folder, **trusted)
import liquidlm
assert type(config) is liquidlm.LiquidConfig and type(model) is liquidlm.LiquidTextGenerationModel
model.save_pretrained(again)
write = pipeline("text-generation", model=again, tokenizer=tokenizer, dtype="float64", **trusted)
print(write("A text", max_new_tokens=8, do_sample=False)[0]["generated_text"].encode())
"""
    command = [sys.executable, "-c", script, str(tmp_path / "model"), str(tmp_path / "again")]
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    write = pipeline("text-generation", model=reader, tokenizer=tokenizer)
    expected = write("A text", max_new_tokens=8, do_sample=False)[0]["generated_text"]
    assert done.stdout.strip() == str(expected.encode())
    names = {path.name for path in (tmp_path / "model").glob("*.py")}
    assert names == {path.name for path in (tmp_path / "again").glob("*.py")} == {"modeling_liquidlm.py"}


def test_a_folder_is_the_packages_own_without_trust(model, tmp_path, monkeypatch):
    """After `import liquidlm` nobody is asked, and what the folder says of code is not run."""
    model.save_pretrained(tmp_path)
    (tmp_path / "modeling_liquidlm.py").write_text("raise SystemExit")
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked for trust_remote_code"))
    for options in ({}, {"trust_remote_code": True}):
        assert type(AutoConfig.from_pretrained(tmp_path, **options)) is LiquidConfig
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, **options)
        assert type(loaded) is LiquidTextGenerationModel
        assert error(loaded(tokens()).logits, model(tokens()).logits) < 1e-12
    assert LiquidTextGenerationModel._auto_class is None and LiquidConfig._auto_class is None


# ---- what the model returns


def test_logits_to_keep(model):
    ids = tokens()
    logits = model(ids).logits
    assert error(model(ids, logits_to_keep=3).logits, logits[:, -3:]) < 1e-12
    assert error(model(ids, logits_to_keep=torch.tensor([1, 4])).logits, logits[:, [1, 4]]) < 1e-12


def test_hidden_states_and_tuples(model):
    output = model(tokens(), output_hidden_states=True)
    assert len(output.hidden_states) == 5 and model(tokens()).hidden_states is None
    assert error(model.output_proj(output.hidden_states[-1]), output.logits) < 1e-12
    events = Events.build(None, fresh_time(2, model.device), length=40)
    past = model.ngrams.no_past(2, model.device)
    embedded = model.embedding(tokens())[0] + model.ngrams(tokens(), events, past)[0]
    assert error(output.hidden_states[0], embedded) < 1e-12
    assert torch.equal(model(tokens(), return_dict=False)[0], output.logits)
    assert model(tokens(), use_cache=False).past_key_values is None


# ---- generate()


def test_greedy_with_and_without_cache_and_by_hand(model, expected):
    assert len(expected[:, 10:].unique()) > 5  # not one token again and again
    assert torch.equal(greedy(model, tokens()), expected)
    assert torch.equal(greedy(model, tokens(), use_cache=False), expected)


@pytest.mark.parametrize("cache", ["LiquidCache", "DynamicCache", "static"])
def test_any_cache_will_do(model, expected, cache):
    given = {
        "LiquidCache": {"past_key_values": model.new_state()},
        "DynamicCache": {"past_key_values": DynamicCache(config=model.config)},
        "static": {"cache_implementation": "static"},
    }[cache]
    assert torch.equal(greedy(model, tokens(), **given), expected)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_prefill_in_chunks(model, expected, chunk):
    assert torch.equal(greedy(model, tokens(), prefill_chunk_size=chunk), expected)


@pytest.mark.parametrize(
    "options", [{}, {"prefill_chunk_size": 3}, {"use_cache": False}, {"num_beams": 2}], ids=str
)
def test_a_left_padded_batch_is_each_row_alone(model, options):
    rows = [tokens(1, length, seed=length) for length in (4, 10, 1)]
    mask = torch.tensor([[0] * (10 - row.shape[1]) + [1] * row.shape[1] for row in rows])
    ids = torch.full((3, 10), 1).masked_scatter(mask.bool(), torch.cat(rows, 1)[0])
    together = greedy(model, ids, mask, **options)
    for row, written in zip(rows, together, strict=True):
        assert torch.equal(greedy(model, row, **options)[0, row.shape[1] :], written[10:])


def test_sampling_is_seeded(model):
    def sample(seed, **options):
        torch.manual_seed(seed)
        return greedy(model, tokens(), do_sample=True, **options)

    assert torch.equal(sample(1), sample(1)) and torch.equal(sample(1), sample(1, use_cache=False))
    assert not torch.equal(sample(1), sample(2))
    several = sample(3, num_return_sequences=3)
    assert several.shape == (6, 18) and torch.equal(several[:, :10], tokens().repeat_interleave(3, 0))
    assert torch.equal(several, sample(3, num_return_sequences=3, use_cache=False))


def test_beams_with_and_without_cache(model):
    ids = tokens()
    beams = greedy(model, ids, num_beams=3, num_return_sequences=2)
    assert torch.equal(beams, greedy(model, ids, num_beams=3, num_return_sequences=2, use_cache=False))

    def likelihood(texts):
        log_p = model(texts).logits[:, 9:-1].log_softmax(-1)
        return log_p.gather(2, texts[:, 10:, None]).sum((1, 2))

    assert (likelihood(beams[::2]) >= likelihood(greedy(model, ids)) - 1e-9).all()


def test_going_on_from_a_state_is_one_long_text(model):
    first = greedy(model, tokens(), return_dict_in_generate=True)
    assert isinstance(first.past_key_values, LiquidCache) and first.past_key_values.get_seq_length() == 17
    both = greedy(model, first.sequences, past_key_values=first.past_key_values)
    assert torch.equal(both, by_hand(model, tokens(), 2 * NEW))


def test_a_conversation(model):
    """A second prompt after the first answer, from the state; and again in chunks."""
    for options in ({}, {"prefill_chunk_size": 2}):
        first = greedy(model, tokens(), return_dict_in_generate=True)
        prompt = torch.cat([first.sequences, tokens(2, 5, seed=9)], 1)
        answer = greedy(model, prompt, past_key_values=first.past_key_values, **options)
        assert torch.equal(answer, by_hand(model, prompt))


def test_two_conversations_do_not_disturb_one_another(model):
    texts = [tokens(1, 6, seed=1), tokens(1, 9, seed=2)]
    expected = [by_hand(model, text, 9) for text in texts]
    states = [model.new_state(), model.new_state()]
    for _ in range(3):
        for i in (0, 1):
            texts[i] = greedy(model, texts[i], past_key_values=states[i], max_new_tokens=3)
    assert all(torch.equal(text, whole) for text, whole in zip(texts, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.int32], ids=str)
def test_times_go_through_generate_and_on_by_time_scale(dtype):
    """Whole seconds, which every type holds; of today but for float32, which would round them."""
    model = tiny(time_scale=2.5)
    begin = 0.0 if dtype == torch.float32 else 1_790_000_000.0
    times = (begin + (3 * event_times(2, 10)).round()).to(dtype)
    expected = by_hand(model, tokens(), timestamps=times.double())
    assert not torch.equal(expected, by_hand(model, tokens()))
    for options in ({}, {"prefill_chunk_size": 3}, {"use_cache": False}):
        assert torch.equal(greedy(model, tokens(), timestamps=times, **options), expected), options


def test_times_with_beams_and_t_span(model):
    ids, times = tokens(), event_times(2, 10)
    options = {"timestamps": times, "t_span": torch.linspace(0, 3, 5), "num_beams": 3}
    beams = greedy(model, ids, **options)
    assert torch.equal(beams, greedy(model, ids, use_cache=False, **options))
    assert not torch.equal(beams, greedy(model, ids, **(options | {"t_span": None})))


@torch.no_grad()
def test_rows_of_a_state_go_on_wherever_they_are(model):
    ids, more = tokens(3), tokens(3, 4, seed=1)
    expected = model(torch.cat([ids, more], 1)).logits[:, 10:]
    state = model(ids).state
    state.reorder_cache(torch.tensor([2, 0, 0]))
    assert error(model(more[[2, 0, 0]], past_key_values=state).logits, expected[[2, 0, 0]]) < 1e-12
    state = model(ids).state
    state.batch_repeat_interleave(2)
    state.batch_select_indices(torch.tensor([1, 4]))
    assert error(model(more[[0, 2]], past_key_values=state).logits, expected[[0, 2]]) < 1e-12


def test_the_state_is_a_state_of_the_model(model, tmp_path):
    state = greedy(model, tokens(), return_dict_in_generate=True).past_key_values
    state.save(tmp_path / "state")
    loaded, _ = LiquidCache.load(tmp_path / "state", 4)
    assert max(state_error(a, b) for a, b in zip(loaded.states(), state.states(), strict=True)) == 0


# ---- pipeline, streamer, Trainer


@pytest.fixture(scope="module")
def tokenizer():
    return LEDTokenizerWrapper.bytes().backend


@pytest.fixture(scope="module")
def reader(tokenizer):
    """A model of bytes."""
    return tiny(vocab_size=len(tokenizer))


def test_streamer(reader, tokenizer):
    inputs = tokenizer("A text", return_tensors="pt")
    whole = greedy(reader, inputs["input_ids"])[0, inputs["input_ids"].shape[1] :]
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=20)
    options = {"max_new_tokens": NEW, "do_sample": False, "streamer": streamer}
    writing = Thread(target=reader.generate, kwargs={**inputs, **options})
    writing.start()
    assert "".join(streamer) == tokenizer.decode(whole)
    writing.join()


def test_pipeline(reader, tokenizer):
    write = pipeline("text-generation", model=reader, tokenizer=tokenizer)
    texts = ["A text", "another, longer text"]
    done = write(texts, batch_size=2, max_new_tokens=NEW, do_sample=False, return_full_text=False)
    for text, (answer,) in zip(texts, done, strict=True):
        inputs = tokenizer(text, return_tensors="pt")["input_ids"]
        written = greedy(reader, inputs)[0, inputs.shape[1] :]
        assert answer["generated_text"] == tokenizer.decode(written, skip_special_tokens=True)


def collate(texts):
    ids = torch.stack(texts)
    return {"input_ids": ids, "labels": ids}


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="Trainer needs accelerate")
def test_trainer_saves_and_resumes(tmp_path):
    def trainer(steps):
        options = {
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            "logging_steps": 1,
            "save_steps": 2,
        }
        arguments = TrainingArguments(tmp_path, max_steps=steps, per_device_train_batch_size=2, **options)
        return Trainer(tiny().float(), arguments, data_collator=collate, train_dataset=list(tokens(12)))

    once, resumed = trainer(4), trainer(4)
    once.train()
    checkpoint = tmp_path / "checkpoint-2"
    assert (checkpoint / "model.safetensors").is_file()
    resumed.train(resume_from_checkpoint=str(checkpoint))
    losses = [entry["loss"] for entry in once.state.log_history if "loss" in entry]
    assert len(losses) == 4 and all(0 < loss < 100 for loss in losses)
    ids = tokens()
    assert error(resumed.model(ids).logits, once.model(ids).logits) < 1e-5
    assert error(once.model(ids).logits, tiny().float()(ids).logits) > 1e-4


def test_the_vocabulary_can_grow():
    model, ids = tiny(), tokens()
    before = model(ids).logits
    model.resize_token_embeddings(70, mean_resizing=False)
    grown = model(torch.cat([ids, torch.full((2, 1), 69)], 1)).logits
    assert grown.shape == (2, 11, 70) and error(grown[:, :10, :64], before) < 1e-12
    assert model.config.vocab_size == 70
