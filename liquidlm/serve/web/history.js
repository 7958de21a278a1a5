/** The texts that this browser keeps. Each step is kept, so that it can be undone. */
import { $, element, keepHere, say, warnUnkept } from "./dom.js";
import { keepSettings } from "./settings.js";
import { show, shown, textOf } from "./sheet.js";
import { browser } from "./storage.js";
import { moment, words } from "./words.js";

const MOST_TEXTS = 50, ROOM = 2_000_000; // texts, and characters of JSON: browsers give a site about 5 million

/** The newest first. They are read each time: another tab may have written. */
function texts() {
  const kept = browser.get("history");
  return Array.isArray(kept) ? kept : [];
}

const find = (id) => texts().find((entry) => entry.id === id);

/** As many texts as there is room for. The chances of old texts are left out first. */
function fitting(entries) {
  let room = ROOM;
  return entries.slice(0, MOST_TEXTS).flatMap((entry) => {
    for (const kept of [entry, { ...entry, chances: [] }]) {
      const size = JSON.stringify(kept).length;
      if (size > room) continue;
      room -= size;
      return [kept];
    }
    return [];
  });
}

/** Keep a text, as the newest. */
export function remember(entry) {
  const kept = fitting([entry, ...texts().filter(({ id }) => id !== entry.id)]);
  if (keepHere("history", kept) && kept[0]?.id !== entry.id) warnUnkept();
  list();
}

/** The step before the shown one; undefined if there is none, or none is kept. */
export const before = () => shown?.before && find(shown.before);

/** Show the text as it was before the last step. The prompt follows if it was not changed since. */
export function undo() {
  const was = before(), follows = $("prompt").value === shown.prompt;
  if (follows) setPrompt(was.prompt);
  open(was);
}

function setPrompt(prompt) {
  $("prompt").value = prompt;
  keepSettings();
}

function open(entry) {
  say("");
  browser.set("shown", entry.id);
  show(entry);
}

/** Show a kept text, with its prompt. A prompt that was not written yet is kept too. */
function choose(entry) {
  const draft = $("prompt").value;
  const known = [words("prompt.first"), ...texts().map(({ prompt }) => prompt)];
  if (draft.trim() && !known.includes(draft)) {
    remember({ id: `draft ${Date.now()}`, at: Date.now(), prompt: draft, given: "", written: "" });
  }
  setPrompt(entry.prompt);
  if (textOf(entry)) open(entry);
}

function list() {
  const entries = texts();
  $("no_texts").hidden = entries.length > 0;
  $("clear").hidden = !entries.length;
  $("texts").replaceChildren(...entries.map((entry) => {
    const text = (textOf(entry) || entry.prompt).slice(0, 200), when = moment(entry.at);
    const line = textOf(entry) ? words("history.one", { when, seed: String(entry.seed), text }) : words("history.draft", { when, text });
    const button = element("button", line, { type: "button", onclick: () => choose(entry) });
    if (entry.id === shown?.id) button.ariaCurrent = "true";
    const item = element("li", "");
    item.append(button);
    return item;
  }));
}

/** The text that was shown last. */
export function recallText() {
  const last = find(browser.get("shown"));
  if (last) show(last);
  list();
}

/** The shown text is the newest of the history. */
export function keepShown() {
  browser.set("shown", shown.id);
  remember(shown);
}

$("clear").onclick = () => {
  if (!confirm(words("history.sure"))) return;
  browser.set("history", null);
  if (shown) show({ ...shown, before: null });
  list();
};
$("text").addEventListener("change", list);
