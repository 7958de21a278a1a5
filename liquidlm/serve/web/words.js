/** The language of the page: words and numbers. */
import { browser } from "./storage.js";

const TABLES = JSON.parse(document.getElementById("words").textContent);
const OWN_NAMES = { en: "English", es: "Español" };
const wished = new URLSearchParams(location.search).get("lang");
if (Object.hasOwn(TABLES, wished)) browser.set("language", wished);

export const language = [wished, browser.get("language"), ...navigator.languages.map((one) => one.slice(0, 2)), "en"]
  .find((one) => Object.hasOwn(TABLES, one));
export const whole = new Intl.NumberFormat(language).format;
export const rough = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 }).format;
export const hundredths = new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format;
export const percent = new Intl.NumberFormat(language, { style: "percent", maximumSignificantDigits: 2 }).format;
export const moment = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "short" }).format;

/** The words of a key. Values take the place of {names}; the key with ".one" is for a `count` of 1. */
export function words(key, values = {}) {
  const table = TABLES[language], text = (values.count === 1 && table[`${key}.one`]) || table[key];
  return text.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? whole(values[name]) : values[name]));
}

/** Fill in the words of the page, and offer the other language. */
export function translate() {
  document.documentElement.lang = language;
  for (const one of document.querySelectorAll("[data-word]")) one.textContent = words(one.dataset.word);
  for (const one of document.querySelectorAll("[data-label]")) one.ariaLabel = words(one.dataset.label);
  for (const one of document.querySelectorAll("[data-hint]")) one.title = words(one.dataset.hint);
  const link = document.getElementById("language"), other = language === "en" ? "es" : "en";
  Object.assign(link, { href: `?lang=${other}`, hreflang: other, lang: other, textContent: OWN_NAMES[other] });
}
