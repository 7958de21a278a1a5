// One event of the liquid neuron, for LANES units at a time:
//
//     λ = leak + f,   x = −λ·pace·duration,   q = eˣ − 1,   decay = 1 + q  (0 where a document starts)
//     h = decay·h_before − q·(f/λ)·A,         f = softplus(synapse)
#pragma once

#include "lanes.h"

struct Relaxation {
  Vec f, slope, rate, share, q;  // slope: df/dsynapse; share: f/λ
};

INLINE Relaxation relaxation(Vec synapse, Vec leak, Vec pace, float duration) {
  Vec e = exp(-abs(synapse));
  Vec f = softplus(synapse, e), rate = f + leak;
  return {f, sigmoid(synapse, e), rate, f / rate, expm1(-rate * pace * duration)};
}

// h after the event; `held` is h before it, 0 where a document starts.
INLINE Vec relaxed(const Relaxation& x, Vec potential, Vec held) {
  return (x.q + 1.0f) * held - x.q * x.share * potential;
}

// What the gradient of h after the event gives to each input; `held` is that of h before it.
struct RelaxationGrads {
  Vec synapse, potential, held, leak, pace, duration;
};

INLINE RelaxationGrads gradients(const Relaxation& x, Vec potential, Vec pace, float duration, Vec held,
                                 Vec adjoint) {
  Vec by_x = adjoint * (held - x.share * potential) * (x.q + 1.0f);
  // Nothing passes an infinite gap, and 0·∞ is not 0.
  Vec by_xt = x.q == -1.0f ? Vec{} : by_x * duration;
  Vec by_share = -adjoint * x.q * potential / x.rate;  // over λ
  Vec by_rate = -by_xt * pace - by_share * x.share;
  return {(by_rate + by_share) * x.slope, -adjoint * x.q * x.share, (x.q + 1.0f) * adjoint,
          by_rate,                        -by_xt * x.rate,          -by_x * x.rate * pace};
}
