/** Requests to the server, with its key. */
import { $, element, say } from "./dom.js";
import { browser, tab } from "./storage.js";
import { words } from "./words.js";

export let card = null; // describes the model that writes new texts, once the server has answered
let cards = []; // of all models
export let key = tab.get("key") ?? browser.get("key") ?? "";

/** What the server, or the way to it, says instead of an answer; `status` is 0 without an answer. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Send this key from now on. Only a user's wish keeps it longer than the tab; "" forgets it. */
export function useKey(given, keepIt = false) {
  key = given;
  tab.set("key", key || null);
  browser.set("key", keepIt ? key : null);
}

/** Ask for the key instead of showing the page. The first time, nothing is wrong yet. */
function lock() {
  $("unlock").hidden = false;
  $("desk").hidden = true;
  say(key ? words("key.wrong") : "", true, $("key_said"));
  $("key").focus();
}

/** The server's response. */
export async function call(path, { body, method = body ? "POST" : "GET", signal } = {}) {
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  const how = body ? { body: JSON.stringify(body) } : {};
  const answer = await fetch(path, { ...how, method, headers, signal }).catch((error) => {
    throw signal?.aborted ? error : new Refused(words("said.unreachable"), 0);
  });
  if (answer.ok) return answer;
  if (answer.status === 401) lock();
  const refusal = await answer.json().catch(() => null);
  const message = `${refusal?.error?.message ?? answer.statusText} (${answer.status})`;
  throw new Refused(words("said.server", { message }), answer.status);
}

/** The events of a stream, in groups as they arrive. The page is updated once per group. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("cut");
    const came = (rest + value).split("\n\n");
    rest = came.pop();
    const data = came.map((event) => event.slice("data: ".length));
    const ends = data.at(-1) === "[DONE]";
    yield data.slice(0, ends ? -1 : undefined).map((json) => JSON.parse(json));
    if (ends) return;
  }
}

/** Describes the model of a text; another one if that is no longer served. */
export const cardOf = ({ model }) => cards.find(({ id }) => id === model) ?? card ?? cards[0];

/** Fetch the descriptions of the models, and show the one that was chosen last. */
export async function meet() {
  cards = (await (await call("v1/models")).json()).data;
  card = cardOf({ model: browser.get("model") });
  $("choice").hidden = cards.length < 2;
  $("model").replaceChildren(...cards.map(({ id }) => element("option", id, { value: id })));
  $("model").value = card.id;
  $("unlock").hidden = true;
  $("desk").hidden = false;
  $("name").textContent = card.id;
  document.title = `${card.id} – liquidlm`;
  $("facts").textContent = words("facts", card);
  $("state").textContent = words("bytes", { count: card.state_bytes });
  $("times").hidden = !card.says_when;
  $("forget").hidden = !key;
}
