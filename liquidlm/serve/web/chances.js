/** The tokens that the model wrote, one by one: how likely each was, and what else was likely there. */
import { $, element, visible } from "./dom.js";
import { reach } from "./picture.js";
import { light, placeAt, shown } from "./sheet.js";
import { percent, words } from "./words.js";

/** For each written token: [its place in what was written, the token, ln p, the likeliest [token, ln p] there]. */
const drawn = () => shown?.chances ?? [];
const chance = (logprob) => percent(Math.exp(logprob));

/** The tokens of a part of a stream: `before` is its place in what was written, `offset` the server's count. */
export function* chancesOf({ text, logprobs }, before, offset) {
  const characters = [...text];
  for (const [i, token] of logprobs.tokens.entries()) {
    const place = before + characters.slice(0, logprobs.text_offset[i] - offset).join("").length;
    const likeliest = Object.entries(logprobs.top_logprobs[i]).map(([one, value]) => [one, rounded(value)]);
    yield [place, token, rounded(logprobs.token_logprobs[i]), likeliest.sort((a, b) => b[1] - a[1])];
  }
}

/** A token for screen readers: they leave out the sign of a space. */
const spoken = (token) => (token.trim() ? `“${token.trim()}”` : visible(token));
const rounded = (value) => Math.round(value * 1e4) / 1e4; // they are kept in the browser

/** Show the chances at a written token, below it or above it. */
function point(i) {
  const [place, token, logprob, likeliest] = drawn()[i], start = shown.given.length + place;
  const end = drawn().find(([other]) => other > place)?.[0] ?? shown.written.length;
  reach(start);
  const box = light(start, shown.given.length + end);
  const isDrawn = ([one, value]) => one === token && value === logprob; // parts of characters may look alike
  const all = likeliest.some(isDrawn) ? likeliest : [...likeliest, [token, logprob]];
  document.querySelector("#chances table").replaceChildren(...all.map((pair) => {
    const row = element("tr", "", { className: isDrawn(pair) ? "drawn" : "" });
    row.append(element("th", visible(pair[0])), element("td", chance(pair[1])));
    return row;
  }));
  const others = likeliest.map(([one, value]) => words("token.chance", { token: spoken(one), chance: chance(value) })).join(", ");
  $("step").value = i;
  $("step").ariaValueText = words("token.text", { token: spoken(token), chance: chance(logprob), others });
  if (box) put(box);
}

/** Put the chances below a box or above it, not over the slider; if the box is out of sight, by the slider. */
function put(box) {
  const tip = $("chances"), sheet = $("sheet").getBoundingClientRect(), bar = document.querySelector(".bar");
  tip.hidden = false;
  const floor = getComputedStyle(bar).position === "fixed" ? bar.getBoundingClientRect().top : innerHeight;
  const isSeen = box.bottom > 0 && box.top < floor;
  if (!isSeen) box = new DOMRect(sheet.left, sheet.bottom);
  const below = isSeen && (box.bottom + tip.offsetHeight <= Math.min(floor, sheet.bottom) || box.top < tip.offsetHeight);
  tip.style.top = `${(below ? box.bottom : box.top - tip.offsetHeight) - sheet.top}px`;
  tip.style.left = `${Math.max(0, Math.min(box.left - sheet.left, sheet.width - tip.offsetWidth))}px`;
}

export const hideChances = () => { $("chances").hidden = true; };

/** Light up the token at a point of the screen. */
function pointAt({ clientX, clientY }) {
  const place = placeAt(clientX, clientY);
  if (place === null) return;
  const i = drawn().findLastIndex(([start]) => start <= place - shown.given.length);
  if (i >= 0) return point(i);
  hideChances();
  reach(place);
}

$("text").onpointermove = (event) => { if (!event.buttons) pointAt(event); }; // a button selects text
$("text").onclick = pointAt;
$("sheet").onpointerleave = (event) => { if (event.pointerType === "mouse") hideChances(); };
document.addEventListener("pointerdown", (event) => { if (!$("sheet").contains(event.target)) hideChances(); });
$("step").oninput = $("step").onfocus = () => point(Number($("step").value));
$("step").onblur = hideChances;
$("text").addEventListener("change", () => {
  hideChances();
  $("step_by").hidden = !drawn().length;
  $("step").value = $("step").max = Math.max(0, drawn().length - 1); // the last, as in the picture
});
