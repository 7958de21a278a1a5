/** How to call the server from elsewhere: its base URL, and the current request as a command. */
import { $, copy } from "./dom.js";
import { card, key } from "./server.js";
import { sampling, writesTimes } from "./settings.js";

const base = () => new URL("v1", location.origin + location.pathname).href;
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function command() {
  const after = writesTimes() && $("after").value ? { after: Number($("after").value) } : {};
  const times = writesTimes() ? { timestamps: true, ...after } : {};
  const state = $("from").value ? { state: $("from").value } : {};
  const request = { model: card?.id, prompt: $("prompt").value, ...sampling(), ...state, ...times };
  const headers = ["-H 'Content-Type: application/json'", ...(key ? ['-H "Authorization: Bearer $LIQUIDLM_API_KEY"'] : [])];
  return [`curl ${quoted(`${base()}/completions`)}`, ...headers, `-d ${quoted(JSON.stringify(request))}`].join(" \\\n  ");
}

function refreshApi() {
  if (!$("api").open) return;
  $("base").textContent = base();
  $("curl").textContent = command();
}

$("api").addEventListener("toggle", refreshApi);
$("ask").addEventListener("input", refreshApi);
$("copy_base").onclick = () => copy(base(), $("copy_base"));
$("copy_curl").onclick = () => copy(command(), $("copy_curl"));
