"""Draw the figures of the page "The idea": `python docs/figures/draw.py`.

Each figure is computed by the package's own modules and written beside this file as SVG. The colours are
readable on a light and on a dark page. NAME.svg has English labels, NAME-es.svg the same in Spanish.
"""

import re
import sys
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from torchdiffeq import odeint

from liquidlm import LiquidNeuron
from liquidlm.inference.saving import load_model
from liquidlm.ops import delta_memory

FOLDER = Path(__file__).parent
GREY = "#808080"
COLOURS = ("#2a9d8f", "#e07a3f", "#6c7fd8", "#c05299")
STYLE = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY),
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": GREY,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # letters as letters: small files
    "svg.hashsalt": "liquidlm",  # the same figure gives the same file
}

SPANISH = {
    '" dog" after the flow': "« dog» tras el flujo",
    "8 of its 256 values in the ODE": "8 de sus 256 valores en la EDO",
    "A memory that leaks 5 % per unit of time": "Una memoria que pierde un 5 % por unidad de tiempo",
    "6 layers of width 256, float32": "6 capas de anchura 256, float32",
    "Four units between seven events": "Cuatro unidades entre siete eventos",
    "Way back from z, all tokens": "De vuelta desde z, todos los tokens",
    "What a gap leaves of a state": "Lo que un intervalo deja de un estado",
    "bytes": "bytes",
    "coordinate": "coordenada",
    "distance": "distancia",
    "e(t)": "e(t)",
    "gap": "intervalo",
    "key A ▶ value 1": "clave A ▶ valor 1",
    "key A ▶ value 3": "clave A ▶ valor 3",
    "key B ▶ value 2": "clave B ▶ valor 2",
    "keys and values of a transformer": "claves y valores de un transformer",
    "r: not kept": "r: no se guarda",
    "read": "lectura",
    "share": "proporción",
    "state (scaled)": "estado (a escala)",
    "state of a liquid model": "estado de un modelo líquido",
    "t (not the time of the text)": "t (no es el tiempo del texto)",
    "time": "tiempo",
    "time constant": "constante de tiempo",
    "to the nearest other row": "a la otra fila más próxima",
    "to the token's own row": "a la fila del propio token",
    "tokens": "tokens",
    "tokens read": "tokens leídos",
    "value": "valor",
    "z: kept": "z: se guarda",
}
"""Labels of the figures ▶ the same in Spanish."""
NUMBER = re.compile(r"[\d.,−]+")


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels side by side."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def draw_token() -> Figure:
    """The embedding stage of the bundled model: flow, ODE, and how much of a token is in z."""
    model, tokenizer = load_model("stories")
    stage = model.embedding
    (dog,) = tokenizer.encode(" dog").tolist()
    with torch.no_grad():
        rows = stage.embedding.weight
        z, residual, _ = stage.flow.split(rows)
        times = torch.linspace(0, 1, 40)
        path = odeint(stage.ode, stage.w_e(z[dog]), times, method="rk4")
        distances = torch.cdist(stage.flow.inverse(z), rows)
        own = distances.diagonal().clone()
        nearest = distances.fill_diagonal_(float("inf")).amin(1)

    figure, (flow, ode, back) = panels(3)
    mean = stage.flow.residual_mean.detach()
    flow.plot(torch.cat((z[dog], residual[dog] - mean)), lw=0.8)
    flow.axvline(len(z[dog]), color=GREY, lw=0.8, ls="--")
    flow.set(title='" dog" after the flow', xlabel="coordinate", ylabel="value")
    flow.text(0.25, 0.98, "z: kept", transform=flow.transAxes, ha="center", va="top")
    flow.text(0.75, 0.98, "r: not kept", transform=flow.transAxes, ha="center", va="top")
    ode.plot(times, path[:, ::32], lw=1.2)
    ode.set(title="8 of its 256 values in the ODE", xlabel="t (not the time of the text)", ylabel="e(t)")
    bins = torch.linspace(0, 30, 31).tolist()
    back.hist(own.tolist(), bins, histtype="stepfilled", label="to the token's own row", alpha=0.8)
    back.hist(nearest.tolist(), bins, histtype="stepfilled", label="to the nearest other row", alpha=0.8)
    back.set(title="Way back from z, all tokens", xlabel="distance", ylabel="tokens")
    back.set_ylim(top=1.3 * back.get_ylim()[1])  # room for the legend
    back.legend(fontsize=8, loc="upper right")
    return figure


def draw_gap() -> Figure:
    """A liquid neuron between events, and how much of a state is left after a gap."""
    torch.manual_seed(3)
    neuron = LiquidNeuron(hidden_size=4, input_size=2)
    events = torch.tensor([0.0, 1.0, 1.5, 2.0, 9.0, 10.0, 30.0])
    inputs = 2 * torch.randn(len(events), 2)
    times, states, h = [], [], torch.zeros(4)
    with torch.no_grad():
        for start, end, e in zip(events, [*events[1:], torch.tensor(40.0)], inputs, strict=True):
            within = torch.linspace(0, float(end - start), 40)
            part = neuron.step(h.expand(40, 4), e.expand(40, 2), within)
            times.append(start + within)
            states.append(part)
            h = part[-1]
        constants = 1 / neuron.conductances(inputs[0])[0]

    figure, (relaxing, left) = panels(2)
    for event in events:
        relaxing.axvline(float(event), color=GREY, lw=0.6, alpha=0.6)
    relaxing.plot(torch.cat(times), torch.cat(states) / torch.cat(states).abs().amax(0), lw=1.5)
    relaxing.set(title="Four units between seven events", xlabel="time", ylabel="state (scaled)")
    gaps = torch.logspace(-2, 6, 200)
    for constant in constants.tolist():
        line = left.plot(gaps, torch.exp(-gaps / constant), lw=1.5, label=f"{constant:,.1f}")
        twice = gaps[::20]  # two halves of a gap give the same as the whole
        left.plot(twice, torch.exp(-twice / 2 / constant) ** 2, "o", ms=3, color=line[0].get_color())
    left.set(title="What a gap leaves of a state", xlabel="gap", ylabel="share", xscale="log")
    left.legend(title="time constant", fontsize=8)
    return figure


def draw_state() -> Figure:
    """What a matrix memory holds over time, and its size beside a transformer's cache."""
    exact = torch.float64  # float32 differs in the last digits from one machine to the next
    one = torch.eye(4, dtype=exact)
    keys, values = one[:2], one[:3]
    grid = torch.linspace(0, 20, 401, dtype=exact)
    writes = {0: (0, 0), 60: (1, 1), 160: (0, 2)}  # place in the grid ▶ (key, value)
    k, v, write = (torch.zeros(401, *size, dtype=exact) for size in ((4,), (4,), ()))
    for place, (key, value) in writes.items():
        k[place], v[place], write[place] = keys[key], values[value], 1.0
    decay = torch.full((401,), -0.05 * float(grid[1]), dtype=exact)
    heads = [(0, 0, "key A ▶ value 1"), (1, 1, "key B ▶ value 2"), (0, 2, "key A ▶ value 3")]
    q = torch.stack([keys[key] for key, _, _ in heads]).expand(1, 401, 3, 4)
    same = [x[None, :, None].expand(1, 401, 3, *x.shape[1:]) for x in (k, v, decay, write)]
    read, _ = delta_memory(q, *same, torch.zeros(1, 3, 4, 4, dtype=exact))

    figure, (memory, size) = panels(2)
    for place in writes:
        memory.axvline(float(grid[place]), color=GREY, lw=0.6, alpha=0.6)
    for head, (_, value, name) in enumerate(heads):
        memory.plot(grid, read[0, :, head] @ values[value], lw=1.5, label=name)
    memory.set(title="A memory that leaks 5 % per unit of time", xlabel="time", ylabel="read")
    memory.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.05))
    model, _ = load_model("stories")
    bytes_of_state = model.new_state()
    with torch.no_grad():
        model(torch.tensor([[0]]), past_key_values=bytes_of_state, use_cache=True)
    tokens = torch.logspace(0, 6, 50, dtype=exact)
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    size.plot(tokens, torch.full_like(tokens, bytes_of_state.nbytes), lw=1.5, label="state of a liquid model")
    size.plot(tokens, tokens * layers * width * 2 * 4, lw=1.5, label="keys and values of a transformer")
    size.set(title="6 layers of width 256, float32", xlabel="tokens read", ylabel="bytes")
    size.set(xscale="log", yscale="log")
    size.legend(fontsize=8)
    return figure


def translate(figure: Figure) -> None:
    """Put a drawn figure's labels into Spanish; numbers swap point and comma.

    Raises:
        KeyError: a label has no translation.
    """
    swap = str.maketrans(",.", ".,")
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if axis.get_scale() == "linear":
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            seen = {place: label.get_text().translate(swap) for place, label in ticks if low <= place <= high}
            axis.set_ticks(list(seen), list(seen.values()))
    labels = {
        label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()
    }
    for text in figure.findobj(Text):
        words = text.get_text()
        if text in labels:
            continue
        if NUMBER.fullmatch(words):
            text.set_text(words.translate(swap))
        elif words and not words.startswith("$"):  # $: a power of ten on an axis
            text.set_text(SPANISH[words])


FIGURES = {"token": draw_token, "gap": draw_gap, "state": draw_state}


def main(folder: Path = FOLDER) -> None:
    """Draw every figure into a folder."""
    with mpl.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = draw()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            translate(figure)
            figure.savefig(folder / f"{name}-es.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
