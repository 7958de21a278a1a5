/** The picture of the time constants: a column for each token, a row for each layer. */
import { $, element, say, visible } from "./dom.js";
import { Refused, call, card, cardOf } from "./server.js";
import { light, shown, textOf } from "./sheet.js";
import { rough, words } from "./words.js";

const MOST_BYTES = 4000; // bytes, so at most this many tokens: the server takes 4,095
// One colour for each power of ten, from 1 to 100,000 typical gaps: the same for every text.
const RAMP = [[250, 232, 180], [190, 219, 152], [104, 184, 166], [38, 130, 171], [56, 72, 148], [44, 22, 78]];
const LINE_TIME = /^(\[-?[\d:. -]+\] )/gm; // a time, which the model does not read as text
let looking = null; // aborts the request for an earlier text
let seen = null; // {card, tokens, layers, quartiles, starts, token, layer}: the picture, and the selected cell

/** The colour of a time constant. */
function colour(constant) {
  const place = Math.max(0, Math.min(RAMP.length - 1, Math.log10(constant / seen.card.time_scale)));
  const i = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[i].map((from, c) => Math.round(from + (RAMP[i + 1][c] - from) * (place - i)));
}

const unit = () => words(seen.card.says_when ? "unit.s" : "unit.tokens");
const block = (name) => name.replace("block", words("block"));

/** The end of a text without the times of its lines: its characters, with their places in the text. */
function readable({ given, written, timed }) {
  const text = given + written, begin = Math.max(0, text.length - 10 * MOST_BYTES), found = [];
  let at = begin, bytes = 0;
  for (const [i, part] of text.slice(begin).split(timed ? LINE_TIME : undefined).entries()) {
    for (const character of part) {
      if (i % 2 === 0) found.push([character, at]);
      at += character.length;
    }
  }
  const size = (code) => 1 + (code > 0x7f) + (code > 0x7ff) + (code > 0xffff);
  const first = found.findLastIndex(([character]) => (bytes += size(character.codePointAt(0))) > MOST_BYTES) + 1;
  return { characters: found.slice(first), cut: first > 0 || begin > 0 };
}

/** There is no picture while a text is written: it would slow the writing that is being measured. */
export function hidePicture() {
  looking?.abort();
  $("picture").hidden = true;
  seen = null;
}

/** Fetch and draw the time constants of the shown text. */
export async function look() {
  hidePicture();
  const { signal } = (looking = new AbortController()), entry = shown;
  if (!entry || !card || !textOf(entry)) return;
  const { characters, cut } = readable(entry);
  const model = cardOf(entry).id, body = { model, text: characters.map(([character]) => character).join("") };
  try {
    const found = await (await call("liquid/time_constants", { body, signal })).json();
    if (signal.aborted) return;
    const starts = found.offsets.map((offset) => characters[offset][1]);
    draw(found, [...starts, textOf(entry).length], cardOf(entry));
    caption(cut, entry);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refused)) throw error;
    say(`${$("said").textContent} ${words("said.no_picture")} ${error.message}`, true);
  }
}

function caption(cut, { state }) {
  const notes = [["picture.cut", cut], ["picture.state", state], ["picture.gap", seen.card.says_when]];
  $("caption").textContent = ["picture.caption", ...notes.filter(([, holds]) => holds).map(([key]) => key)].map((key) => words(key)).join(" ");
}

function draw({ tokens, layers, time_constants: quartiles }, starts, model) {
  const medians = quartiles.map((row) => row.map(([, median]) => median)), all = medians.flat();
  seen = { card: model, tokens, layers: layers.map(block), quartiles, starts, token: tokens.length - 1, layer: 0 };
  const canvas = document.querySelector("canvas"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [tokens.length, layers.length];
  const pixels = context.createImageData(tokens.length, layers.length);
  all.forEach((value, i) => pixels.data.set([...colour(value), 255], 4 * i));
  context.putImageData(pixels, 0, 0);
  $("cells").style.minWidth = `${tokens.length * 4}px`;
  $("cells").style.height = `${layers.length * Math.max(8, Math.min(24, 300 / layers.length))}px`;
  $("layers").replaceChildren(...seen.layers.map((name) => element("li", name)));
  const [low, high] = [Math.min, Math.max].map((most) => rough(all.reduce((a, b) => most(a, b))));
  $("cells").ariaLabel = words("picture.label", { tokens: tokens.length, layers: layers.length, low, high, unit: unit() });
  legend();
  table(medians);
  $("picture").hidden = false;
  move(seen.token, seen.layer, false);
}

function legend() {
  const ticks = RAMP.map((_, i) => rough(10 ** i * seen.card.time_scale)), last = ticks.length - 1;
  $("ramp").style.background = `linear-gradient(to right, ${RAMP.map((rgb) => `rgb(${rgb})`)})`;
  $("ticks").replaceChildren(...ticks.map((text, i) => element("span", `${i === 0 ? "≤ " : i === last ? "≥ " : ""}${text}`)));
  $("unit").textContent = unit();
}

/** The picture in words: for each layer the tokens with the shortest, the middle and the longest median. */
function table(medians) {
  const row = (head, rest, texts) => {
    const found = document.createElement("tr");
    found.append(...texts.map((text, i) => element(i ? rest : head, text)));
    return found;
  };
  const extremes = medians.map((values) => {
    const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
    return [order[0], order[order.length >> 1], order.at(-1)].map((i) => `${rough(values[i])}  ${visible(seen.tokens[i])}`);
  });
  const head = [words("picture.medians", { unit: unit() }), ...["shortest", "middle", "longest"].map((key) => words(`picture.${key}`))];
  $("table").replaceChildren(row("th", "th", head), ...seen.layers.map((name, i) => row("th", "td", [name, ...extremes[i]])));
}

/** Select a cell of the picture, show its values, and light up its word in the text. */
function move(token, layer, lights = true) {
  const { tokens, layers, quartiles, starts } = seen;
  token = seen.token = Math.max(0, Math.min(tokens.length - 1, token));
  layer = seen.layer = Math.max(0, Math.min(layers.length - 1, layer));
  const part = (i, all) => `${(100 * i) / all}%`;
  for (const mark of [$("column"), $("cell")]) {
    [mark.style.left, mark.style.width] = [part(token, tokens.length), part(1, tokens.length)];
  }
  [$("cell").style.top, $("cell").style.height] = [part(layer, layers.length), part(1, layers.length)];
  const [text, figures] = $("readout").children, [low, median, high] = quartiles[layer][token].map((x) => rough(x));
  const near = (from, to) => tokens.slice(Math.max(0, from), to).join("");
  const here = tokens[token].trim() ? tokens[token] : visible(tokens[token]);
  text.replaceChildren(near(token - 8, token), element("mark", here), near(token + 1, token + 9));
  const place = { layer: layers[layer], token: token + 1, tokens: tokens.length };
  figures.textContent = words("picture.cell", { ...place, median, low, high, unit: unit() });
  if (lights) light(starts[token], starts.find((start) => start > starts[token]) ?? starts.at(-1));
}

/** Select the column of the token at a place of the text, and bring it into view. */
export function reach(place) {
  if (!seen || place < seen.starts[0]) return;
  move(seen.starts.findLastIndex((start, i) => start <= place && i < seen.tokens.length), seen.layer);
  const { left, right } = $("column").getBoundingClientRect(), box = $("scroll").getBoundingClientRect();
  if (left < box.left || right > box.right) $("scroll").scrollLeft += left - (box.left + box.right) / 2;
}

$("cells").onpointermove = $("cells").onpointerdown = (event) => {
  const box = $("cells").getBoundingClientRect(), at = (part, size, count) => Math.floor((part / size) * count);
  move(at(event.clientX - box.x, box.width, seen.tokens.length), at(event.clientY - box.y, box.height, seen.layers.length));
};
$("cells").onfocus = () => move(seen.token, seen.layer);
$("cells").onkeydown = (event) => {
  const { token, layer, tokens } = seen;
  const to = {
    ArrowLeft: [token - 1, layer], ArrowRight: [token + 1, layer], ArrowUp: [token, layer - 1], ArrowDown: [token, layer + 1],
    Home: [0, layer], End: [tokens.length - 1, layer],
  }[event.key];
  if (!to) return;
  event.preventDefault();
  move(...to);
  $("cell").scrollIntoView({ block: "nearest", inline: "nearest" });
};
$("text").addEventListener("change", look);
