"""Three models as transformers' common tests take them: default, nonlinear and tied, with a time head."""

from typing import Any, ClassVar
from unittest import TestCase

import torch

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.model.pretrained import LiquidModel

from .source import PACKAGE, install

install()
common: Any = __import__(f"{PACKAGE}.test_modeling_common", fromlist=["ModelTesterMixin"])
configuration: Any = __import__(f"{PACKAGE}.test_configuration_common", fromlist=["ConfigTester"])
training: Any = __import__(f"{PACKAGE}.test_training_mixin", fromlist=["TrainingTesterMixin"])


class Tester:
    """Sizes and inputs, by the names that the tests ask for."""

    batch_size, seq_length = 5, 7
    vocab_size, hidden_size, num_hidden_layers = 99, 32, 2
    is_training = True
    causal_lm_class = LiquidTextGenerationModel

    def __init__(self, options: dict[str, Any]):
        self.options = options

    def get_config(self) -> LiquidConfig:
        sizes: dict[str, Any] = {"vocab_size": self.vocab_size, "embedding_dim": 32, "latent_dim": 16}
        sizes |= {"hidden_size": self.hidden_size, "num_hidden_layers": self.num_hidden_layers}
        sizes |= {"pad_token_id": 0, "bos_token_id": 1}  # they train on texts that begin with 1
        sizes |= {"flow_hidden_dim": 16, "num_flows": 2, "num_heads": 2, "ngram_rows": 50, "chunk_size": 8}
        return LiquidConfig(**(sizes | self.options))

    def prepare_config_and_inputs_for_common(self) -> tuple[LiquidConfig, dict[str, torch.Tensor]]:
        ids = torch.randint(3, self.vocab_size, (self.batch_size, self.seq_length))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids).tril()}
        if self.options.get("time_components"):
            inputs["timestamps"] = torch.rand(ids.shape, dtype=torch.float64).cumsum(1)
        return self.get_config(), inputs


class Common(common.ModelTesterMixin, common.GenerationTesterMixin, training.TrainingTesterMixin):
    """Every common test of a model that writes text."""

    options: ClassVar[dict[str, Any]] = {}
    all_model_classes = (LiquidModel, LiquidTextGenerationModel)
    has_attentions = False
    test_can_init_all_missing_weights_before_2023 = True  # it looks for the year in a copyright line
    model_tester: Any = None

    def setUp(self):
        torch.manual_seed(0)
        self.model_tester = Tester(self.options)

    def _prepare_config_and_inputs_for_retain_grad_hidden_states_attentions(self):
        """Without padding, which the model moves to one side: of it only copies come back."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        return config, inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])}

    def test_config(self):
        configuration.ConfigTester(self, config_class=LiquidConfig).run_common_tests()


class TestDefault(Common, TestCase):
    pass


class TestTied(Common, TestCase):
    options: ClassVar = {"mixer_types": ["nonlinear", "memory"], "tie_word_embeddings": True}


class TestTimed(Common, TestCase):
    options: ClassVar = {"time_components": 2}
