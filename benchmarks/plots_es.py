"""The labels of the plots in Spanish, for docs/images/NAME-es.png."""

import re

from matplotlib.figure import Figure
from matplotlib.text import Text

LABELS = {
    # quality
    "training time (minutes, 2 cores)": "tiempo de entrenamiento (minutos, 2 núcleos)",
    "training tokens (millions)": "tokens de entrenamiento (millones)",
    "loss on a validation sample (bits per byte)": "pérdida, muestra de validación (bits por byte)",
    "after 10 minutes, on the test text": "tras 10 minutos, con el texto de prueba",
    "English novels, bytes: loss during training": "Novelas inglesas, bytes: pérdida al entrenar",
    "Spanish novels, bytes: loss during training": "Novelas españolas, bytes: pérdida al entrenar",
    "WikiText-2, bytes: loss during training": "WikiText-2, bytes: pérdida al entrenar",
    "TinyStories, BPE of 4,000: loss during training": "TinyStories, BPE de 4.000: pérdida al entrenar",
    "tinyshakespeare, bytes: loss during training": "tinyshakespeare, bytes: pérdida al entrenar",
    # speed
    "length of a row (tokens)": "longitud de una fila (tokens)",
    "speed (tokens per second)": "velocidad (tokens por segundo)",
    "liquidlm in torch": "liquidlm en torch",
    "products of liquidlm alone": "solo los productos de liquidlm",
    "context (tokens)": "contexto (tokens)",
    "1 text at a time": "1 texto a la vez",
    "in torch": "en torch",
    "in onnxruntime": "en onnxruntime",
    "growing cache": "caché que crece",
    "fixed cache": "caché fija",
    "weights and state at the machine's bandwidth": "pesos y estado al ancho de banda de la máquina",
    "time per token (ms)": "tiempo por token (ms)",
    "liquidlm: time of a token after a long context": "liquidlm: tiempo de un token tras un contexto largo",
    "texts at a time": "textos a la vez",
    "speed of all together (tokens per second)": "velocidad de todos juntos (tokens por segundo)",
    "Llama in llama.cpp": "Llama en llama.cpp",
    "requests so far": "peticiones hasta el momento",
    "memory of the server (MB)": "memoria del servidor (MB)",
    "liquidlm serve, the bundled model": "liquidlm serve, el modelo incluido",
    "time (seconds)": "tiempo (segundos)",
    "one training step of liquidlm": "un paso de entrenamiento de liquidlm",
    "whole step": "paso completo",
    "embedding, flow, ODE": "embedding, flujo, EDO",
    "matrix products, gradient": "productos de matrices, gradiente",
    "matrix products, optimiser": "productos de matrices, optimizador",
    # memory
    "position in the novel (bytes)": "posición en la novela (bytes)",
    "loss (bits per byte)": "pérdida (bits por byte)",
    "held-out English novels": "novelas inglesas no vistas al entrenar",
    "held-out Spanish novels": "novelas españolas no vistas al entrenar",
    "rare words met before": "palabras raras ya leídas",
    "English novels": "novelas inglesas",
    "Spanish novels": "novelas españolas",
    "first more than 8,192 bytes ago": "la primera vez hace más de 8.192 bytes",
    "last more than 8,192 bytes ago": "la última vez hace más de 8.192 bytes",
    "state carried": "el estado se conserva",
    "length (tokens; dotted: longest in training)": "longitud (tokens; puntos: la mayor al entrenar)",
    "right answers (%)": "aciertos (%)",
    "associative recall": "recuerdo asociativo",
    "copying": "copia",
    "letters backwards": "letras al revés",
    "one stack": "una pila",
    "64 stacks": "64 pilas",
    "arithmetic modulo 5": "aritmética módulo 5",
    "arithmetic with brackets": "aritmética con paréntesis",
    "parity": "paridad",
    "permutations of 3 (S₃)": "permutaciones de 3 (S₃)",
    "permutations of 5 (S₅)": "permutaciones de 5 (S₅)",
    # time
    "real times": "horas reales",
    "20 % noise": "20 % de ruido",
    "half of the\nutterances": "la mitad de las\nintervenciones",
    "gaps shuffled": "intervalos barajados",
    "gaps all equal": "intervalos iguales",
    "loss of the gap (nats)": "pérdida del intervalo (nats)",
    "when the next utterance comes, held-out missions": "cuándo llega la intervención siguiente",
    "log-normal renewal": "renovación log-normal",
    # anomalies
    "all": "todas",
    "rare message": "mensaje raro",
    "impossible fields": "campos imposibles",
    "wrong order": "orden erróneo",
    "strange value": "valor extraño",
    "burst": "ráfaga",
    "early heartbeat": "latido adelantado",
    "missing heartbeat": "latido que falta",
    "area under the ROC curve (1: perfect, 0.5: chance)": "área bajo la curva ROC (1: perfecto, 0,5: azar)",
    "planted anomalies in the log of a service": "anomalías añadidas al registro de un servicio",
    "bits alone": "solo los bits",
    "2-grams": "2-gramas",
    "3-grams": "3-gramas",
    "best F1 (1: perfect)": "mejor F1 (1: perfecto)",
    "new event ids (Drain3)": "ids de evento nuevos (Drain3)",
    "events moved": "eventos movidos",
    "counts with idf": "recuentos con idf",
    "unusual sessions of HDFS": "sesiones inusuales de HDFS",
    "with times per kind of line": "con tiempos por tipo de línea",
    "learned online": "aprende mientras lee",
    "second half": "segunda mitad",
}
"""Label ▶ the same in Spanish."""
PATTERNS = (
    (r"training, vocabulary of (\S+)", r"entrenamiento, vocabulario de \1"),
    (r"(\d+) texts at a time", r"\1 textos a la vez"),
    (r"reset every (\S+)", r"se borra cada \1"),
    (r"windows of (\S+)", r"ventanas de \1"),
    (r"(\S+|gated delta net) with counts", r"\1 con recuentos"),
    (r"(\S+|gated delta net) with counts of the text so far", r"\1 con recuentos del texto leído"),
)
"""Labels with a number in them."""


def spanish(label: str) -> str:
    """The label in Spanish; a name, such as that of a model, stays as it is.

    >>> spanish("Llama, windows of 1,024"), spanish("liquidlm, state carried"), spanish("16,384")
    ('Llama, ventanas de 1.024', 'liquidlm, el estado se conserva', '16.384')
    >>> spanish("liquidlm with counts of the text so far, state carried"), spanish("0.95")
    ('liquidlm con recuentos del texto leído, el estado se conserva', '0,95')
    """
    if label in LABELS:
        return LABELS[label]
    if re.fullmatch(r"[−-]?\d+\.\d+", label):
        return label.replace(".", ",")
    for pattern, in_spanish in PATTERNS:
        if re.fullmatch(pattern, label):
            return re.sub(r"(?<=\d),(?=\d{3})", ".", re.sub(pattern, in_spanish, label))
    if ", " in label:
        return ", ".join(map(spanish, label.split(", ")))
    return re.sub(r"(?<=\d),(?=\d{3})", ".", label)


def translate(figure: Figure) -> None:
    """Put every label of the figure into Spanish."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if any(spanish(label) != label for label in labels):
                low, high = sorted(axis.get_view_interval())
                pairs = zip(axis.get_ticklocs(), labels, strict=True)
                seen = {place: spanish(label) for place, label in pairs if low <= place <= high}
                axis.set_ticks(list(seen), list(seen.values()))
    for text in figure.findobj(Text):
        text.set_text(spanish(text.get_text()))
