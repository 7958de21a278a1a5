/** The page begins here: keys, buttons, and what was kept. */
import { hideChances } from "./chances.js";
import { $, copy, say } from "./dom.js";
import { recallText, undo } from "./history.js";
import { look } from "./picture.js";
import { Refused, meet, useKey } from "./server.js";
import { recallSettings } from "./settings.js";
import { shown, textOf } from "./sheet.js";
import { listStates } from "./states.js";
import { browser } from "./storage.js";
import { translate, words } from "./words.js";
import { stop, write } from "./writing.js";

/** Meet the server, and show what needs it. */
async function begin(from) {
  try {
    await meet();
    say("");
    look();
    await listStates(from);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status !== 401) say(error.message, true);
  }
}

$("ask").onsubmit = (event) => { event.preventDefault(); write("write"); };
$("continue").onclick = () => write("continue");
$("retry").onclick = () => write("retry");
$("stop").onclick = stop;
$("undo").onclick = undo;
$("copy").onclick = () => copy(textOf(shown), $("copy"));
$("unlock").onsubmit = async (event) => {
  event.preventDefault();
  useKey($("key").value, $("keep_key").checked);
  $("key").value = "";
  await begin(from);
  if ($("unlock").hidden) $("prompt").focus();
};
$("model").onchange = () => {
  browser.set("model", $("model").value);
  begin("");
};
$("forget").onclick = () => {
  useKey("");
  location.reload();
};
document.onkeydown = (event) => {
  if (event.key === "Escape") {
    stop();
    hideChances();
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    write("write");
  }
};

translate();
const from = recallSettings();
recallText();
begin(from);
