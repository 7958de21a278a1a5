/** States that the server keeps by name: keep one, begin after it, fork it, delete it. */
import { $, element, say } from "./dom.js";
import { Refused, call, card, cardOf } from "./server.js";
import { keepSettings } from "./settings.js";
import { shown, textOf } from "./sheet.js";
import { whole, words } from "./words.js";

const PATH = "liquid/states";
const tell = (line, wrong = false) => say(line, wrong, $("states_said"));
const ofModel = () => new URLSearchParams({ model: card.id });
let names = [];

/** Do something with states, and show them as they are then. */
async function change(what) {
  try {
    const line = await what();
    await listStates($("from").value);
    if (line) tell(line);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell(error.message, true);
  }
}

/** Keep a state of this name; returns what is to be said. */
async function keep(name, what) {
  const body = { name, model: card.id, ...what };
  try {
    const { tokens } = await (await call(PATH, { body })).json();
    return words("said.kept", { name, count: tokens });
  } catch (error) {
    if (error.status !== 409 || !names.includes(name) || !confirm(words("states.replace", { name }))) throw error;
    return keep(name, { ...what, replace: true });
  }
}

/** The name of a fork: the one in the field, or the next free number after the name. */
function forkName(name) {
  const given = $("new_name").value;
  if (given && $("new_name").validity.valid) return given;
  const stem = name.replace(/-\d+$/, "").slice(0, 90);
  for (let i = 2; ; i += 1) if (!names.includes(`${stem}-${i}`)) return `${stem}-${i}`;
}

/** Fetch the states, list them, and offer them to begin after; `chosen` is the name to choose. */
export async function listStates(chosen) {
  const { data } = await (await call(`${PATH}?${ofModel()}`)).json();
  names = data.map(({ name }) => name);
  $("no_states").hidden = names.length > 0;
  $("kept").replaceChildren(...data.map(item));
  $("after_state").hidden = !names.length;
  const none = element("option", words("from.nothing"), { value: "" });
  $("from").replaceChildren(none, ...names.map((name) => element("option", name, { value: name })));
  $("from").value = names.includes(chosen) ? chosen : "";
  keepSettings();
}

function item({ name, tokens, bytes }) {
  const button = (word, onclick) => {
    return element("button", words(word), { type: "button", ariaLabel: `${words(word)}: ${name}`, onclick });
  };
  const found = element("li", "");
  found.append(
    element("span", words("states.one", { name, tokens: whole(tokens), bytes: whole(bytes) })),
    button("states.begin", () => {
      $("from").value = name;
      keepSettings();
      $("prompt").focus();
    }),
    button("states.fork", () => change(() => keep(forkName(name), { state: name }))),
    button("states.delete", () => {
      if (!confirm(words("states.sure", { name }))) return;
      change(async () => {
        await call(`${PATH}/${encodeURIComponent(name)}?${ofModel()}`, { method: "DELETE" });
        return words("said.deleted", { name });
      });
    }),
  );
  return found;
}

$("keep").onsubmit = (event) => {
  event.preventDefault();
  const ofText = event.submitter === $("keep_text");
  const what = ofText ? { model: cardOf(shown).id, prompt: textOf(shown), state: shown.state } : { prompt: $("prompt").value, state: $("from").value };
  change(() => keep($("new_name").value, { ...what, state: what.state || null }));
};
// The model reads the times of lines as times, a state reads them as text.
$("text").addEventListener("change", () => { $("keep_text").disabled = !shown || shown.timed || !textOf(shown); });
$("states").addEventListener("toggle", () => { if ($("states").open) change(() => ""); });
