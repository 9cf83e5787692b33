/* What every script of the page needs: its data, elements, and what the scores mean.
   Every name goes in as text, never as markup. */
"use strict";

const CHOSEN = 1, SUSPECT = 2, ADDED = 4, REMOVED = 8;
const readJson = (id) => JSON.parse(document.getElementById(id).textContent);
const page = readJson("data");
const cards = page.cards;
const pictures = readJson("thumbnails");
const byId = (id) => document.getElementById(id);
const CHOSEN_AS = page.is_sample ? "shown" : "chosen";
const coarse = matchMedia("(pointer: coarse)").matches; // a finger: no keys to speak of

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function shorten(x) {
  if (x === null || x === undefined) return "–";
  return Number.isInteger(x) ? String(x) : String(Number(x.toPrecision(4)));
}

/* What a score says, for whoever rests on its name. */
function explain(made, name) {
  if (page.meanings[name]) made.title = `${name}: ${page.meanings[name]}`;
  return made;
}

function isTyping(target) {
  return /^(SELECT|TEXTAREA)$/.test(target.tagName) ||
    (target.tagName === "INPUT" && target.type !== "checkbox");
}
