/** The text that is shown: the prompt, which is folded if it is long, and what the model wrote. */
import { $, element } from "./dom.js";
import { words } from "./words.js";

const LONG = 600, TAIL = 300; // characters of a prompt: folded above, and what is then seen of it

/**
 * The shown text; null for none. `given` is the prompt and `written` what follows it; the last step began at
 * `start` in `written`. Places in the text are counted from the beginning of `given`.
 */
export let shown = null;
let cut = 0; // characters of the prompt that are folded away
let sentence = null; // the last, unfinished sentence, hidden from screen readers: they announce whole sentences

export const textOf = (entry) => entry.given + entry.written;

/** Show a text, and tell the other parts of the page. */
export function show(entry) {
  lay(entry);
  changed();
}

/** Show a text that is not complete yet. */
export function lay(entry) {
  shown = entry;
  $("result").hidden = !entry;
  sentence = null;
  $("written").ariaLive = "off"; // what is shown again is not read out again
  $("written").replaceChildren(...(entry?.written ? [entry.written] : []));
  fold(true);
}

/** Tell the other parts of the page that the shown text is another one, or complete. */
export const changed = () => $("text").dispatchEvent(new Event("change"));

/** Fold the prompt to its end if it is long, or unfold it. */
function fold(folded) {
  const given = shown?.given ?? "", isLong = given.length > LONG;
  const tail = given.slice(-TAIL), word = tail.search(/\s/);
  cut = isLong && folded ? given.length - TAIL + word + 1 : 0; // whole words, if there are any
  $("given").textContent = given.slice(cut);
  $("unfold").hidden = !isLong;
  $("unfold").textContent = words(cut ? "unfold" : "fold", { count: given.length });
  $("unfold").ariaExpanded = String(!cut);
}

/** The prompt as the server reads it. */
export function give(text) {
  shown.given = text;
  fold(true);
}

/** Add text as it is written. */
export function append(text) {
  shown.written += text;
  $("written").ariaLive = "polite";
  if (!sentence) {
    sentence = element("span", "", { ariaHidden: "true" });
    $("written").append(sentence);
  }
  sentence.textContent += text;
  if (/[.!?…\n]["'”’)]*\s*$/.test(text) || sentence.textContent.length > 300) finishSentence();
}

export function finishSentence() {
  if (sentence) sentence.ariaHidden = null;
  sentence = null;
}

/** Nodes of the shown text, each with the place of its first character. */
function* nodes() {
  const walker = document.createTreeWalker($("text"), NodeFilter.SHOW_TEXT);
  for (let at = cut; walker.nextNode(); at += walker.currentNode.length) yield [walker.currentNode, at];
}

function range(start, end) {
  const found = new Range();
  for (const [node, at] of nodes()) {
    const inside = (place) => Math.max(0, Math.min(node.length, place - at));
    if (at <= Math.max(start, cut)) found.setStart(node, inside(start));
    if (at < end || at === cut) found.setEnd(node, inside(end));
  }
  return found;
}

/** Light up a part of the text; returns where it is on the screen. */
export function light(start, end) {
  const lit = range(start, end);
  if (globalThis.Highlight) CSS.highlights.set("lit", new Highlight(lit));
  return [...lit.getClientRects()].at(-1);
}

/** The place of the character at a point of the screen; null for none. */
export function placeAt(x, y) {
  const caret = document.caretPositionFromPoint?.(x, y) ?? document.caretRangeFromPoint?.(x, y);
  const node = caret?.offsetNode ?? caret?.startContainer, offset = caret?.offset ?? caret?.startOffset;
  const at = [...nodes()].find(([one]) => one === node)?.[1];
  if (at === undefined) return null;
  for (const place of [at + offset, at + offset - 1]) { // the caret is before or after the character
    if (place < at || place >= at + node.length) continue;
    const boxes = [...range(place, place + 1).getClientRects()];
    if (boxes.some((box) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom)) return place;
  }
  return null;
}

$("unfold").onclick = () => fold($("unfold").ariaExpanded === "true");
