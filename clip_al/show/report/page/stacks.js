/* Stacks: cards of near-copies are one card with a count, which opens. What is labelled otherwise,
   or a suspect, is never beneath what is not. */
"use strict";

const stacks = {
  members: new Map(), // first card of a stack -> its cards, among those that are found
  frontOf: new Map(), // card that is beneath another -> that other
  opened: new Set(),  // keys of the stacks that lie open
};

function stackKey(i) {
  if (!cards.stack || cards.stack[i] === null || !byId("stacked").checked) return null;
  return [cards.stack[i], "class" in cards ? cards.class[i] : "", cards.flags[i] & SUSPECT].join();
}

/* Of cards in their order: those that are seen. An open stack lies together, where its first is. */
function stacked(found) {
  stacks.members.clear();
  stacks.frontOf.clear();
  if (!cards.stack) return found;
  const keys = found.map(stackKey), together = new Map();
  found.forEach((i, k) => {
    if (keys[k] === null) return;
    if (together.has(keys[k])) together.get(keys[k]).push(i);
    else together.set(keys[k], [i]);
  });
  return found.flatMap((i, k) => {
    const all = together.get(keys[k]);
    if (!all || all.length === 1) return [i];
    if (all[0] !== i) return [];
    stacks.members.set(i, all);
    if (stacks.opened.has(keys[k])) return all;
    for (const other of all.slice(1)) stacks.frontOf.set(other, i);
    return [i];
  });
}

function isClosed(i) {
  return stacks.members.has(i) && !stacks.opened.has(stackKey(i));
}

/* Open the stack of a card, or close it. */
function toggleStack(i) {
  const front = [...stacks.members.keys()].find((one) => stacks.members.get(one).includes(i));
  if (front === undefined) return;
  const key = stackKey(front);
  if (!stacks.opened.delete(key)) stacks.opened.add(key);
  gallery.found = stacked(gallery.sorted);
  tellFound();
  if (marking) tellMarked();
  layOut();
  goTo(gallery.found.indexOf(front));
}

function tellStacks() {
  const n = stacks.members.size;
  if (!n) return "";
  return `; near-copies in ${n.toLocaleString("en")} stack${n > 1 ? "s" : ""}`;
}

/* What a mark for this card is for: the card, or all of a closed stack, if that is asked for. */
function markedWith(i) {
  return byId("whole")?.checked && isClosed(i) ? stacks.members.get(i) : [i];
}

/* Cards without a mark that nobody sees, as they are beneath others. */
function unseenWithoutMark() {
  return [...stacks.frontOf.keys()].filter((i) => markOf(i) === null).length;
}

function stackButton(i) {
  const all = stacks.members.get(i);
  const n = all.length.toLocaleString("en");
  const done = marking ? all.filter((one) => markOf(one) !== null).length : 0;
  const some = done && done < all.length ? `, ${done.toLocaleString("en")} marked` : "";
  const button = element("button", "stack-count", `${n} alike${isClosed(i) ? some : ""}`);
  button.type = "button";
  button.tabIndex = -1; // the key o is for the card that has the focus
  button.setAttribute("aria-label", `${n} near-copies${some}: ${isClosed(i) ? "open" : "close"}`);
  button.title = `${n} near-copies, cosine at least ${page.stack_from}: ` +
    `${isClosed(i) ? "open" : "close"}${coarse ? "" : " with the key o"}`;
  return button;
}

/* A card on top of a closed stack, or one of an open one. */
function showStack(card, i) {
  card.querySelector(".stack-count")?.remove();
  const isTop = stacks.members.has(i), key = stackKey(i);
  card.classList.toggle("stack", isTop && isClosed(i));
  card.classList.toggle("of-stack", key !== null && stacks.opened.has(key));
  if (isTop) card.append(stackButton(i));
}

function onStackKey(event) {
  if (event.key !== "o" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target) || byId("detail").open) return;
  toggleStack(gallery.found[gallery.active]);
}
