/** Writing: what a button asks the server for, and what is shown while the answer arrives. */
import { chancesOf } from "./chances.js";
import { $, say } from "./dom.js";
import { before, keepShown } from "./history.js";
import { hidePicture } from "./picture.js";
import { Refused, call, card, cardOf, events, meet } from "./server.js";
import { sampling, valid, writesTimes } from "./settings.js";
import { append, changed, finishSentence, give, lay, shown, textOf } from "./sheet.js";
import { rough, words } from "./words.js";

const LIKELIEST = 5; // tokens whose chances are shown
let writing = null; // aborts the current completion
let run = null; // the current completion, once the server was asked

/** Enable and disable the buttons. The focus leaves a button that is disabled. */
function settle() {
  const held = document.activeElement;
  $("stop").disabled = !writing;
  $("write").disabled = Boolean(writing);
  $("continue").disabled = Boolean(writing) || !shown?.written;
  $("copy").disabled = !shown;
  $("undo").disabled = Boolean(writing) || !before();
  $("retry").disabled = Boolean(writing) || !shown;
  $("texts").inert = $("clear").disabled = Boolean(writing); // another text would get what is being written
  document.body.classList.toggle("writing", Boolean(writing));
  $("used").textContent = shown?.seed ?? "–";
  if (!writing) $("tokens").textContent = shown ? words("tokens", { count: shown.tokens }) : "–";
  if (held?.disabled) (writing ? $("stop") : $("write")).focus();
}

/** The text that a step begins with: "write" the prompt, "continue" the text, "retry" the last step. */
function beginning(step) {
  const fresh = { id: `${Date.now()} ${Math.random()}`, at: Date.now(), before: shown?.id ?? null, tokens: 0 };
  if (step === "write") {
    const how = { model: card.id, timed: writesTimes(), after: $("after").value, state: $("from").value || null };
    return { ...fresh, ...how, prompt: $("prompt").value, given: "", written: "", chances: [], start: 0 };
  }
  const start = step === "continue" ? shown.written.length : shown.start;
  const chances = shown.chances.filter(([place]) => place < start);
  return { ...shown, ...fresh, start, written: shown.written.slice(0, start), chances };
}

/** One completion: its request, its text, and its figures. */
class Run {
  #tokens = 0;
  #first = null; // when the first tokens came, and how many
  #end = "";
  #characters = 0; // that this request has written, as the server counts them: not in UTF-16 units
  #begun = false;

  constructor(step) {
    const random = crypto.getRandomValues(new Uint32Array(1))[0]; // so that the text can be had again
    this.entry = beginning(step);
    const { timed, state, start, prompt, after } = this.entry;
    const seed = step === "retry" ? shown.seed : sampling().seed ?? random, goesOn = step === "continue" || start > 0;
    this.entry.seed = seed;
    // The echo is the prompt as the server reads it: every line begins with a time.
    this.echo = timed && !goesOn;
    if (!this.echo && !goesOn) this.entry.given = prompt;
    const times = { timestamps: timed, echo: this.echo, ...(this.echo && after ? { after: Number(after) } : {}) };
    this.request = {
      ...sampling(), seed, model: cardOf(this.entry).id, prompt: goesOn ? textOf(this.entry) : prompt,
      stream: true, stream_options: { include_usage: true, continuous_usage_stats: true },
      ...(state && { state }), ...(timed ? times : { logprobs: LIKELIEST }),
    };
    this.sent = performance.now();
  }

  /** Show a group of events that arrived together. */
  take(group) {
    const now = performance.now();
    if (!this.#begun) this.#begin();
    const follow = endIsSeen();
    for (const { choices, usage, error } of group) {
      if (error) throw new Refused(words("said.server", { message: error.message }), 500);
      if (usage) this.#count(usage);
      for (const choice of choices) this.#add(choice);
    }
    this.#pace(now);
    if (follow && !endIsSeen()) $("written").scrollIntoView({ block: "end" });
  }

  /** The text before is no longer needed: the history has it. */
  #begin() {
    this.#begun = true;
    lay(this.entry);
    hidePicture();
    $("step_by").hidden = true;
    for (const id of ["tokens", "pace", "first", "read"]) $(id).textContent = "–";
    $("used").textContent = this.entry.seed;
    say(words("said.writing"));
    $("written").scrollIntoView({ block: "nearest" });
  }

  #add({ text, finish_reason, logprobs }) {
    this.#end ||= finish_reason;
    if (this.echo) {
      this.echo = false;
      return give(text);
    }
    if (logprobs) this.entry.chances.push(...chancesOf({ text, logprobs }, this.entry.written.length, this.#characters));
    this.#characters += [...text].length;
    append(text);
  }

  #count({ prompt_tokens: count, completion_tokens, prompt_tokens_details: { cached_tokens: cached } }) {
    this.#tokens = this.entry.tokens = completion_tokens;
    $("read").textContent = words("tokens.cached", { count, cached });
  }

  #pace(now) {
    const tokens = this.#tokens;
    if (!tokens) return;
    this.#first ??= { now, tokens };
    $("tokens").textContent = words("tokens", { count: tokens });
    $("first").textContent = words("milliseconds", { count: Math.round(this.#first.now - this.sent) });
    if (tokens > this.#first.tokens) {
      $("pace").textContent = words("pace", { pace: rough((1000 * (tokens - this.#first.tokens)) / (now - this.#first.now)) });
    }
  }

  /** How it ended, in words. */
  ending() {
    if (this.#end === "stop") return words("said.ended");
    return words(this.#tokens < this.request.max_tokens ? "said.early" : "said.length");
  }

  /** Keep what was written, however it ended. */
  keep() {
    finishSentence();
    if (this.#begun) keepShown();
  }
}

const endIsSeen = () => $("written").getBoundingClientRect().bottom <= innerHeight;

/** Take a step: "write", "continue" or "retry". */
export async function write(step) {
  if (writing || !valid()) return;
  const { signal } = (writing = new AbortController());
  settle();
  say(words("said.reading"));
  try {
    if (!card) await meet();
    run = new Run(step);
    const answer = await call("v1/completions", { body: run.request, signal });
    for await (const group of events(answer.body)) run.take(group);
    say(run.ending());
  } catch (error) {
    if (signal.aborted) say(words("said.stopped"));
    else if (error instanceof Refused) say(error.message, true);
    else say(words("said.lost"), true);
  }
  writing = null;
  run?.keep();
  run = null;
  changed();
}

export const stop = () => writing?.abort();

$("text").addEventListener("change", settle);
addEventListener("pagehide", () => run?.keep());
