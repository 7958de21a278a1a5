/** How the model writes: the settings, which survive a reload, with the prompt. */
import { $, keepHere } from "./dom.js";
import { card } from "./server.js";
import { browser } from "./storage.js";
import { hundredths, words } from "./words.js";

const SAMPLING = ["temperature", "top_p", "repetition_penalty", "top_k", "max_tokens", "seed"];
const VALUES = [...SAMPLING, "after"];

/** The settings of sampling that are given, as the server's API takes them. */
export function sampling() {
  return Object.fromEntries(SAMPLING.filter((name) => $(name).value).map((name) => [name, Number($(name).value)]));
}

/** Whether lines get times: with a state they cannot. */
export const writesTimes = () => Boolean(card?.says_when && $("timestamps").checked && !$("from").value);

/** Show what belongs to the values, in the summary too. */
function refresh() {
  for (const value of document.querySelectorAll("#settings .value")) {
    value.textContent = hundredths(Number(value.parentElement.control.value));
  }
  $("timestamps").disabled = Boolean($("from").value);
  $("after").disabled = !writesTimes();
  const { temperature, top_p, max_tokens = 0 } = sampling();
  $("set").textContent = `${words("temperature")} ${hundredths(temperature)}, ${words("top_p")} ${hundredths(top_p)}, ${words("tokens", { count: max_tokens })}`;
}

export function keepSettings() {
  refresh();
  const values = Object.fromEntries(VALUES.map((name) => [name, $(name).value]));
  keepHere("settings", { ...values, timestamps: $("timestamps").checked, prompt: $("prompt").value, from: $("from").value });
}

/** The settings as they were, and the prompt. */
export function recallSettings() {
  const kept = browser.get("settings") ?? {};
  for (const name of VALUES) $(name).value = kept[name] ?? $(name).defaultValue;
  $("timestamps").checked = kept.timestamps ?? false;
  $("prompt").value = kept.prompt ?? words("prompt.first");
  $("settings").open = browser.get("settings.open") ?? matchMedia("(min-width: 48rem)").matches;
  refresh();
  return kept.from ?? "";
}

/** Whether the settings are valid. A browser can show what is wrong only where it can be seen. */
export function valid() {
  if (!$("ask").checkValidity()) $("settings").open = true;
  return $("ask").reportValidity();
}

$("ask").addEventListener("input", keepSettings);
$("settings").addEventListener("toggle", () => browser.set("settings.open", $("settings").open));
$("defaults").onclick = () => {
  for (const name of VALUES) $(name).value = $(name).defaultValue;
  $("timestamps").checked = false;
  keepSettings();
};
