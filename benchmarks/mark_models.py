"""Models of marked events, told by one thing: how likely the next mark and gap are.

Ours; a GRU over marks and gaps that ends in the same distributions (as RMTPP, Du et al. 2016); and two point
processes of easy-tpp, the neural Hawkes process (Mei & Eisner 2017) and the transformer Hawkes process (Zuo
et al. 2020), whose intensities are integrated by the trapezoid rule.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.nn.time_head import GapDistribution, TimeHead
from liquidlm.training.optim import Optimisers, liquid_optimisers

MARKS, COMPONENTS = 22, 8


class Batch(NamedTuple):
    """Events of users; times in days."""

    marks: Int[Tensor, "b t"]
    times: Float64[Tensor, "b t"]
    real: Bool[Tensor, "b t"]

    @property
    def days(self) -> Float[Tensor, "b t_minus_1"]:
        """The gap before each event but the first; 0 where there is none."""
        return self.times.diff(dim=1).masked_fill(~self.real[:, 1:], 0.0).float()


class MarkModel(nn.Module, ABC):
    """A model of users' next events. `scale`: a typical gap in days."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    @abstractmethod
    def log_likelihood(self, batch: Batch) -> Float[Tensor, ""]:
        """Σ ln p of every event but the first, given those before; densities per day."""

    @abstractmethod
    def predict(self, batch: Batch) -> tuple[Int[Tensor, "b t_minus_1"], Float[Tensor, "b t_minus_1"]]:
        """Of every event but the first the likeliest mark, and the median of the gap in days."""

    def optimisers(self, lr: float) -> Optimisers:
        return Optimisers([(torch.optim.AdamW(self.parameters(), lr), lr)])


class MixtureModel(MarkModel):
    """p(mark | past) p(gap | past, mark), the gap's a mixture of log-normals."""

    @abstractmethod
    def features(self, batch: Batch) -> tuple[Float[Tensor, "b t_minus_1 m"], Float[Tensor, "b t_minus_1 h"]]:
        """After every event but the last: ln p of the next mark, and what the gap is made of."""

    @abstractmethod
    def gap(self, features: Tensor, marks: Tensor) -> GapDistribution:
        """Before these next marks, in units of `scale`."""

    def log_likelihood(self, batch: Batch) -> Float[Tensor, ""]:
        log_marks, h = self.features(batch)
        mark = log_marks.gather(-1, batch.marks[:, 1:, None])[..., 0]
        days = batch.days
        gap = self.gap(h, batch.marks[:, 1:]).log_prob(days / self.scale) - (days > 0) * math.log(self.scale)
        return ((mark + gap) * batch.real[:, 1:]).sum()

    def predict(self, batch: Batch) -> tuple[Int[Tensor, "b t_minus_1"], Float[Tensor, "b t_minus_1"]]:
        log_marks, h = self.features(batch)
        likeliest = log_marks.argmax(-1)
        return likeliest, self.gap(h, likeliest).quantile(0.5) * self.scale


class Ours(MixtureModel):
    def __init__(self, scale: float):
        super().__init__(scale)
        sizes: dict[str, Any] = {"hidden_size": 60, "embedding_dim": 16, "latent_dim": 8}
        config = LiquidConfig(
            vocab_size=MARKS,
            num_hidden_layers=2,
            intermediate_size=96,
            ngram_rows=0,
            time_components=COMPONENTS,
            time_scale=scale,
            dropout_rate=0.1,
            flow_loss_weight=0.0,
            **sizes,
        )
        self.model = LiquidTextGenerationModel(config)

    def optimisers(self, lr: float) -> Optimisers:
        return liquid_optimisers(self.model, lr)

    def features(self, batch: Batch) -> tuple[Float[Tensor, "b t_minus_1 m"], Float[Tensor, "b t_minus_1 h"]]:
        output: Any = self.model(batch.marks, batch.real.long(), timestamps=batch.times)
        return output.logits[:, :-1].log_softmax(-1), output.features[:, :-1]

    def gap(self, features: Tensor, marks: Tensor) -> GapDistribution:
        return self.model.next_gap(features, marks)


class GRU(MixtureModel):
    def __init__(self, scale: float, width: int = 176):
        super().__init__(scale)
        self.embedding = nn.Embedding(MARKS, 32)
        self.gru = nn.GRU(33, width, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(width, MARKS)
        self.time_head = TimeHead(width, MARKS, COMPONENTS)

    def features(self, batch: Batch) -> tuple[Float[Tensor, "b t_minus_1 m"], Float[Tensor, "b t_minus_1 h"]]:
        gaps = F.pad(batch.times.diff(dim=1).clamp(min=0), (1, 0)).float() / self.scale
        x = torch.cat([self.embedding(batch.marks), gaps.log1p()[..., None]], -1)
        h = self.dropout(self.gru(x)[0][:, :-1])
        return self.output(h).log_softmax(-1), h

    def gap(self, features: Tensor, marks: Tensor) -> GapDistribution:
        return self.time_head(features, marks)


class Hawkes(MarkModel):
    """A process of easy-tpp: intensities λₘ(t) of every mark since the last event, ln p = ln λₘ(Δ) − Λ(Δ)."""

    kind: str
    sizes: dict[str, Any]
    points, judged_points, predicted_points = 20, 200, 100
    """Of the integral up to the event that came, in training and in judging; and of the gaps predicted."""

    def __init__(self, scale: float):
        from easy_tpp import model as processes
        from easy_tpp.config_factory import ModelConfig

        super().__init__(scale)
        config = ModelConfig(
            model_id=self.kind,
            num_event_types=MARKS,
            num_event_types_pad=MARKS + 1,
            event_pad_index=MARKS,
            use_mc_samples=False,
            **self.sizes,
        )
        self.process = getattr(processes, self.kind)(config)

    def _given(self, batch: Batch) -> dict[str, Tensor]:
        """What easy-tpp is given: gaps in units of `scale`, padding as a mark of its own."""
        real, length = batch.real, batch.real.shape[1]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        return {
            "time_seqs": ((batch.times - batch.times[:, :1]) / self.scale * real).float(),
            "time_delta_seqs": F.pad(batch.days, (1, 0)) / self.scale,
            "type_seqs": batch.marks.masked_fill(~real, MARKS),
            "seq_non_pad_mask": real,
            "attention_mask": later | ~real[:, None, :],
        }

    def log_likelihood(self, batch: Batch) -> Float[Tensor, ""]:
        points = self.points if self.training else self.judged_points
        self.process.loss_integral_num_sample_per_step = points
        loss, _ = self.process.loglike_loss(**self._given(batch))
        return -loss - batch.real[:, 1:].sum() * math.log(self.scale)

    def predict(self, batch: Batch) -> tuple[Int[Tensor, "b t_minus_1"], Float[Tensor, "b t_minus_1"]]:
        """By intensities at gaps up to a thousand typical ones: p(m) = ∫ λₘ e^{−Λ}, and where Λ is ln 2."""
        given = self._given(batch)
        gaps = F.pad(torch.logspace(-4, 3, self.predicted_points - 1), (1, 0))
        before = {name: given[name][:, :-1] for name in ("time_seqs", "time_delta_seqs", "type_seqs")}
        intensity = self.process.compute_intensities_at_sample_times(
            **before,
            sample_dtimes=gaps.expand(*before["type_seqs"].shape, -1),
            attention_mask=given["attention_mask"][:, :-1, :-1],
        )
        steps = 0.5 * (intensity[:, :, 1:] + intensity[:, :, :-1]) * gaps.diff()[:, None]
        total = F.pad(steps.sum(-1).cumsum(-1), (1, 0))  # Λ
        survival = (-0.5 * (total[..., 1:] + total[..., :-1])).exp()
        marks = (steps * survival[..., None]).sum(2).argmax(-1)
        at = (total < math.log(2)).sum(-1).clamp(1, len(gaps) - 1)
        low, high = (total.gather(-1, i[..., None])[..., 0] for i in (at - 1, at))
        share = ((math.log(2) - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        return marks, (gaps[at - 1] + share * (gaps[at] - gaps[at - 1])) * self.scale


class NeuralHawkes(Hawkes):
    kind, sizes = "NHP", {"hidden_size": 96}


class TransformerHawkes(Hawkes):
    kind = "THP"
    sizes: dict[str, Any] = {  # noqa: RUF012
        "hidden_size": 96,
        "time_emb_size": 96,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.1,
        "use_ln": True,
    }
