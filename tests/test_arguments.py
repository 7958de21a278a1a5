"""What a part cannot be built with: one error that names it, at once."""

import pytest
import torch
from torch import nn

from liquidlm import (
    AdaptiveLiquidNeuron,
    AsyncLiquidCell,
    ImprovedLiquidTimeCell,
    LiquidConfig,
    LiquidError,
    LiquidNeuron,
    LiquidTextGenerationModel,
    NonlinearMixer,
    OptimizedFlowDimensionalityReduction,
    OptimizedLiquidEmbeddingMFR,
    SharedAffineCouplingLayer,
    TimeMixer,
    generate_timestamps,
)
from liquidlm.nn.arguments import check_integers, check_positive, check_rate
from liquidlm.runtime.precision import check_float64
from tests import warm

BUILT = {
    "neuron": (LiquidNeuron, {"hidden_size": 8, "input_size": 4}),
    "adaptive neuron": (AdaptiveLiquidNeuron, {"hidden_size": 8, "context_size": 8}),
    "time cell": (ImprovedLiquidTimeCell, {"hidden_size": 8, "context_size": 8}),
    "time mixer": (TimeMixer, {"hidden_size": 8, "conv_width": 4, "time_scale": 1.0}),
    "nonlinear mixer": (NonlinearMixer, {"hidden_size": 8, "conv_width": 4, "time_scale": 1.0}),
    "async cell": (AsyncLiquidCell, {"hidden_size": 8, "num_heads": 2, "num_writes": 1, "chunk_size": 8}),
    "coupling": (SharedAffineCouplingLayer, {"input_dim": 8, "hidden_dim": 8}),
    "reduction": (
        OptimizedFlowDimensionalityReduction,
        {"original_dim": 8, "latent_dim": 4, "hidden_dim": 8, "num_flows": 2},
    ),
    "embedding": (
        OptimizedLiquidEmbeddingMFR,
        {"vocab_size": 9, "embedding_dim": 8, "latent_dim": 4, "hidden_size": 8},
    ),
    "times": (generate_timestamps, {"batch_size": 2, "seq_length": 3, "rate": 1.0}),
}


@pytest.mark.parametrize("bad", [0, -3])
@pytest.mark.parametrize(("part", "name"), [(part, size) for part in BUILT for size in BUILT[part][1]])
def test_a_size_that_cannot_be_is_named(part, name, bad):
    build, sizes = BUILT[part]
    build(**sizes)
    with pytest.raises(LiquidError, match=f"{name} must be"):
        build(**{**sizes, name: type(sizes[name])(bad)})


@pytest.mark.parametrize("bad", [True, "8", 8.0, None, nn.Linear(1, 1)])
def test_what_is_no_whole_number_is_no_size(bad):
    with pytest.raises(LiquidError, match="width must be a whole number of at least 1, not "):
        check_integers(hidden=8, width=bad)


@pytest.mark.parametrize("bad", [True, "0.1", None, -0.1, 1, float("nan")])
def test_what_is_no_share_is_no_rate(bad):
    with pytest.raises(LiquidError, match=r"dropout_rate must be a number in \[0, 1\), not "):
        check_rate(dropout_rate=bad)


@pytest.mark.parametrize("bad", [False, "1", None, 0, -1.0, float("inf"), float("nan")])
def test_what_is_not_positive_is_no_scale(bad):
    with pytest.raises(LiquidError, match="time_scale must be a finite number greater than 0, not "):
        check_positive(time_scale=bad)


MISTAKES = """
import liquidlm
for mistake in (
    lambda: liquidlm.ODEFunc(32),
    lambda: liquidlm.LiquidNeuron("8"),
    lambda: liquidlm.TimeMixer(8, dropout_rate="much"),
    lambda: liquidlm.AsyncLiquidCell(8, num_heads=2.0),
    lambda: liquidlm.LiquidTextGenerationModel(vocab_size=8.5),
):
    try:
        mistake()
    except liquidlm.LiquidError as error:
        print(error)
"""


def test_types_without_a_type_checker():
    """As users meet them: the tests' own process checks annotations."""
    ran = warm.run(program=MISTAKES)
    assert [line.split(" must be ")[0] for line in ran.stdout.splitlines()] == [
        *("layer_norm", "hidden_size", "dropout_rate", "num_heads", "vocab_size")
    ], ran.stderr


# ---- misspelt


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"hidden_dim": 64}, "hidden_size"),
        ({"num_layers": 3}, "num_hidden_layers"),
        ({"vocabsize": 9}, "vocab_size"),
    ],
)
@pytest.mark.parametrize("build", [LiquidConfig, LiquidTextGenerationModel])
def test_a_misspelt_size_is_told_from_what_was_meant(build, given, meant):
    with pytest.raises(
        LiquidError, match=f"{next(iter(given))} is not a field of LiquidConfig .*{meant}.*there are"
    ):
        build(**given)


@pytest.mark.parametrize("name", ["hidden_size", "num_layers"])
def test_options_beside_a_config_are_refused(name):
    with pytest.raises(LiquidError, match=f"{name}.* and a config cannot be given together"):
        LiquidTextGenerationModel(LiquidConfig(vocab_size=9), **{name: 8})


def test_a_config_of_another_version_is_read_and_what_a_caller_adds_is_checked(tmp_path):
    LiquidConfig(vocab_size=40, architectures=["LiquidTextGenerationModel"]).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(
        file.read_text(encoding="utf-8").replace("{", '{"of_the_future": 3,', 1), encoding="utf-8"
    )
    assert LiquidConfig.from_pretrained(tmp_path, num_hidden_layers=2).num_hidden_layers == 2
    read = LiquidConfig.from_pretrained(tmp_path)
    assert (read.vocab_size, read.of_the_future) == (40, 3) and "AutoConfig" in read.auto_map
    _, others = LiquidConfig.from_pretrained(tmp_path, num_layers=3, return_unused_kwargs=True)
    assert others == {"num_layers": 3}  # which the model is then given, and refuses


# ---- solvers and devices


@pytest.mark.parametrize("call", ["forward", "scan", "embedding", "config"])
def test_an_unknown_solver_is_refused_at_once(call):
    cell, e = ImprovedLiquidTimeCell(4), torch.zeros(1, 2, 4)
    calls = {
        "forward": lambda: cell(e[:, 0], e[:, 0], torch.tensor([0.0, 1.0]), solver="rk5"),
        "scan": lambda: cell.scan(e, torch.ones(1, 2), e[:, 0], solver="rk5"),
        "embedding": lambda: OptimizedLiquidEmbeddingMFR(9, 8, 4, 8, method="rk5"),
        "config": lambda: LiquidConfig(ode_method="rk5"),
    }
    with pytest.raises(LiquidError, match=r"'rk5': choose one of .*rk4"):
        calls[call]()


def test_a_device_without_float64_is_refused():
    check_float64(torch.device("cpu"))
    with pytest.raises(LiquidError, match="has no float64, and times are kept in float64: use the CPU"):
        check_float64(torch.device("mps"))
