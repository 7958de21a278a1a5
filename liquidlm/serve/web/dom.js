/** What every part of the page does with its elements. */
import { browser } from "./storage.js";
import { words } from "./words.js";

export const $ = (id) => document.getElementById(id);

/** An element with text, never markup: the text of a model is not trusted. */
export const element = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });

/** Tell the user a line. */
export function say(line, wrong = false, where = $("said")) {
  where.textContent = line;
  where.classList.toggle("wrong", wrong);
}

/** Keep a value in the browser. The user is told if there is no room for it; returns whether there is. */
export function keepHere(name, value) {
  const kept = browser.set(name, value);
  if (!kept) warnUnkept();
  return kept;
}

/** Tell the user, once, that not everything is kept. */
export function warnUnkept() {
  if ($("unkept").hidden) $("history").open = true;
  $("unkept").hidden = false;
}

/** A token as visible text: spaces and control characters get signs; part of a character is �. */
export const visible = (token) => token.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥")
  .replace(/[\0-\x1f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0)));

/** Copy a text. The button that was pressed says so for a moment. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // there is none without TLS, except on this machine
    const area = element("textarea", "", { value: text, className: "away" });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    button.focus();
    if (!copied) return say(words("said.not_copied"), true);
  }
  button.textContent = words("said.copied");
  setTimeout(() => { button.textContent = words(button.dataset.word); }, 2000);
}
