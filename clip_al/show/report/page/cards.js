/* The cards: filtered, sorted, walked through by key, and only those in view are in the page. */
"use strict";

const NOTHING_FITS = "nothing in the vocabulary fits";
const GAP = 10, SPARE_ROWS = 2, NARROWEST = 148, N_PRINTED = 60;

const gallery = {
  sorted: [], found: [], active: 0, columns: 1, rowHeight: 1, width: 1, made: new Map(),
  lowerIds: cards.id.map((id) => id.toLowerCase()),
  lowerConcepts: page.concepts.map((name) => name.toLowerCase()),
};

/* What is asked for */

function matchingConcepts(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const exact = gallery.lowerConcepts.indexOf(wanted);
  if (exact >= 0) return new Set([exact]);
  const found = gallery.lowerConcepts.flatMap((name, i) => (name.includes(wanted) ? [i] : []));
  return new Set(found);
}

/* Of one search: part of an id, of a concept or of a class. */
function matching(typed) {
  const text = typed.trim().toLowerCase();
  if (!text) return () => true;
  const within = (names) =>
    new Set(names.flatMap((name, code) => (name.toLowerCase().includes(text) ? [code] : [])));
  const concepts = within(page.concepts), classes = within(page.classes);
  return (i) => gallery.lowerIds[i].includes(text) ||
    cards.concepts[i].some((c) => concepts.has(c)) ||
    ("class" in cards && classes.has(cards.class[i]));
}

function value(id) {
  const field = byId(id);
  return field ? field.value : "";
}

function filterCards() {
  const shown = Number(value("show")), kind = value("class"), group = value("group");
  const concepts = matchingConcepts(value("concept"));
  const isWanted = matching(value("search")), isMarkedSo = markFilter(value("mark"));
  const lists = byId("added") && byId("added").checked ? cards.added : cards.concepts;
  const onlyAdded = lists === cards.added && !concepts;
  const keep = (i) =>
    (!shown || cards.flags[i] & shown) &&
    (kind === "" || cards.class[i] === Number(kind)) &&
    (group === "" || cards.group[i] === Number(group)) &&
    (!onlyAdded || lists[i].length > 0) &&
    (!concepts || lists[i].some((c) => concepts.has(c))) &&
    isWanted(i) && isMarkedSo(i);
  return cards.index.map((_, i) => i).filter(keep);
}

function sortKeys() {
  const by = value("sort");
  if (by === "rank" || by === "turn") return cards.rank;
  if (by === "index") return cards.index;
  if (by === "id") return cards.id;
  return cards.scores[by.slice("score ".length)];
}

/* The clusters of the cards, where nothing was chosen and so nothing has a rank. */
function clusterOfCards() {
  if (!page.is_sample || !page.map || page.map.clusters.length < 2) return null;
  const codes = [];
  page.map.cards.card.forEach((i, k) => { codes[i] = page.map.cards.cluster[k]; });
  return codes;
}

/* The best of each class, then the second of each, and so on; else of each cluster. Cards come
   by rank. */
function turns(found) {
  const kinds = cards.class ?? gallery.clusters;
  const count = new Map(), turn = [];
  for (const i of found) {
    const kind = kinds[i];
    turn[i] = count.get(kind) ?? 0;
    count.set(kind, turn[i] + 1);
  }
  return turn;
}

function sortCards(found) {
  const keys = value("sort") === "turn" ? turns(found) : sortKeys();
  return sortBy(found, keys, value("order") === "down" ? -1 : 1);
}

function sortBy(found, keys, sign) {
  const compare = (a, b) => {
    const x = keys[a], y = keys[b];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return (x < y ? -sign : x > y ? sign : 0) || a - b;
  };
  return found.sort(compare);
}

function update() {
  gallery.sorted = sortCards(filterCards());
  gallery.found = stacked(gallery.sorted);
  gallery.active = 0;
  byId("scroller").scrollTop = 0;
  tellFound();
  if (marking) tellMarked();
  clear();
  layOut();
}

function tellFound() {
  const n = gallery.sorted.length, all = cards.index.length;
  const rest = gallery.isPrinted && gallery.found.length > N_PRINTED ? `; the first ${N_PRINTED} on paper` : "";
  byId("found").textContent =
    `${n.toLocaleString("en")} of ${all.toLocaleString("en")} cards${tellStacks()}${rest}`;
  byId("nothing").hidden = n > 0;
}

/* Cards in view */

function clear() {
  for (const card of gallery.made.values()) card.remove();
  gallery.made.clear();
}

function layOut() {
  const room = byId("scroller").clientWidth - 20;
  const most = Math.max(2, Math.floor((room + GAP) / (NARROWEST + GAP)));
  gallery.columns = Math.min(most, 8);
  gallery.width = Math.floor((room - GAP * (gallery.columns - 1)) / gallery.columns);
  const lines = 1 + ("class" in cards) + 2 * (page.concepts.length > 0);
  gallery.words = Math.round(lines * 17.6 + 14);
  gallery.height = gallery.words + (pictures.length ? gallery.width : 0);
  gallery.rowHeight = gallery.height + GAP;
  const rows = Math.ceil(gallery.found.length / gallery.columns);
  byId("grid").style.height = `${Math.max(0, rows * gallery.rowHeight - GAP)}px`;
  clear();
  draw();
}

function draw() {
  const scroller = byId("scroller");
  const first = Math.max(0, Math.floor(scroller.scrollTop / gallery.rowHeight) - SPARE_ROWS);
  const inView = Math.ceil(scroller.clientHeight / gallery.rowHeight) + 2 * SPARE_ROWS;
  const start = gallery.isPrinted ? 0 : first * gallery.columns;
  const many = gallery.isPrinted ? N_PRINTED : inView * gallery.columns;
  const stop = Math.min(gallery.found.length, start + many);
  for (const [place, card] of gallery.made) {
    // The card with the focus stays, or the focus would be lost.
    if ((place < start || place >= stop) && card !== document.activeElement) {
      card.remove();
      gallery.made.delete(place);
    }
  }
  for (let place = start; place < stop; place += 1) {
    if (!gallery.made.has(place)) addCard(place);
  }
}

function addCard(place) {
  const i = gallery.found[place];
  const suspect = (cards.flags[i] & SUSPECT) > 0;
  const card = element("div", suspect ? "card suspect" : "card");
  const row = Math.floor(place / gallery.columns), column = place % gallery.columns;
  card.style.width = `${gallery.width}px`;
  card.style.height = `${gallery.height}px`;
  card.style.transform =
    `translate(${column * (gallery.width + GAP)}px, ${row * gallery.rowHeight}px)`;
  card.tabIndex = place === gallery.active ? 0 : -1;
  card.setAttribute("role", "option");
  card.setAttribute("aria-selected", "false");
  card.setAttribute("aria-posinset", String(place + 1));
  card.setAttribute("aria-setsize", String(gallery.found.length));
  card.dataset.place = String(place);
  card.dataset.index = String(cards.index[i]);
  if (pictures.length) card.append(picture(i));
  card.append(words(i));
  showBadge(card, i);
  gallery.made.set(place, card);
  byId("grid").append(card);
}

function showBadge(card, i) {
  card.querySelector(".mark")?.remove();
  const badge = marking ? badgeOf(i) : null;
  if (badge) card.append(badge);
  showStack(card, i);
}

function redrawCard(i) {
  const seen = stacks.frontOf.get(i) ?? i;
  for (const [place, card] of gallery.made) {
    if (gallery.found[place] === seen) showBadge(card, seen);
  }
}

function picture(i) {
  const frame = element("div", "picture");
  if (!pictures[i]) {
    frame.append(element("span", "none-to-see", "could not be read"));
    return frame;
  }
  const image = element("img");
  image.alt = "";
  image.decoding = "async";
  image.addEventListener("load", () => {
    if (Math.max(image.naturalWidth, image.naturalHeight) <= 40) image.className = "tiny";
  });
  image.src = `data:image/webp;base64,${pictures[i]}`;
  frame.append(image);
  return frame;
}

function className(i, column) {
  return page.classes[cards[column][i]];
}

function words(i) {
  const box = element("div", "words");
  box.style.height = `${gallery.words}px`;
  if ("class" in cards) {
    const line = element("div", "line");
    const label = element("span");
    label.append(element("span", "given", className(i, "class")));
    if (cards.flags[i] & SUSPECT && "likelier" in cards) {
      label.append(" → ", element("span", "likelier", className(i, "likelier")));
    }
    label.title = label.textContent;
    line.append(label, element("span", "end", mark(i)));
    box.append(line);
  }
  const line = element("div", "line");
  const name = element("span", "name"), cut = cards.id[i].lastIndexOf("/") + 1;
  if (cut) name.append(element("span", "folder", cards.id[i].slice(0, cut)));
  name.append(element("span", "file", cards.id[i].slice(cut)));
  name.title = pathOf(i);
  const by = value("sort"), keys = sortKeys();
  const sorted = by.startsWith("score ") ? shorten(keys[i]) : "class" in cards ? "" : mark(i);
  line.append(name, explain(element("span", "end", sorted), by.slice("score ".length)));
  box.append(line);
  if (page.concepts.length) box.append(concepts(i));
  return box;
}

function pathOf(i) {
  return (cards.path && cards.path[i]) || cards.id[i];
}

function mark(i) {
  return cards.rank[i] === null ? "" : `#${cards.rank[i]}`;
}

function concepts(i) {
  const box = element("div", "shows");
  const added = new Set(cards.added[i]);
  if (!cards.concepts[i].length) box.append(NOTHING_FITS);
  const ordered = [...cards.added[i], ...cards.concepts[i].filter((c) => !added.has(c))];
  ordered.forEach((c, k) => {
    if (k) box.append(", ");
    box.append(added.has(c) ? element("span", "new", page.concepts[c]) : page.concepts[c]);
  });
  return box;
}

/* On paper: the first cards, in the order asked for; charts.js draws the charts. */
function printCards(isPrinted) {
  gallery.isPrinted = isPrinted;
  tellFound();
  clear();
  draw();
}

/* Keys */

/* One card alone is reached by Tab: the one that was last walked to. */
function activate(place) {
  const previous = gallery.made.get(gallery.active);
  if (previous) previous.tabIndex = -1;
  gallery.active = Math.max(0, Math.min(gallery.found.length - 1, place));
}

function goTo(place) {
  if (!gallery.found.length) return;
  activate(place);
  const scroller = byId("scroller");
  const top = Math.floor(gallery.active / gallery.columns) * gallery.rowHeight;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  const bottom = top + gallery.height + 20 - scroller.clientHeight;
  if (bottom > scroller.scrollTop) scroller.scrollTop = bottom;
  draw();
  const card = gallery.made.get(gallery.active);
  card.tabIndex = 0;
  card.focus({ preventScroll: true });
  draw(); // now that the focus has moved, the card that had it may go
}

function stepOf(key) {
  const pageful = gallery.columns *
    Math.max(1, Math.floor(byId("scroller").clientHeight / gallery.rowHeight));
  const steps = {
    ArrowRight: 1, ArrowLeft: -1, ArrowDown: gallery.columns, ArrowUp: -gallery.columns,
    PageDown: pageful, PageUp: -pageful, Home: -Infinity, End: Infinity,
  };
  return steps[key];
}

function onGridKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = stepOf(event.key);
  if (step !== undefined) goTo(gallery.active + step);
  else if (event.key === "Enter" || event.key === " ") openCard(gallery.found[gallery.active]);
  else return;
  event.preventDefault();
}

function onPageKey(event) {
  if (event.key === "/" && !isTyping(event.target) && !byId("detail").open) {
    event.preventDefault();
    byId("search").focus();
    byId("search").select();
  }
}

/* One image */

let opened = null;
let isReturning = false; // to the card in the gallery, where the image was reached from there

function openCard(i) {
  opened = i;
  const place = gallery.found.indexOf(i);
  isReturning = place >= 0 && place === gallery.active;
  byId("detail-title").textContent = cards.id[i];
  const frame = byId("detail-picture");
  frame.hidden = !pictures.length;
  frame.replaceChildren(...(pictures.length ? [...picture(i).childNodes] : []));
  byId("detail-text").replaceChildren(...details(i));
  const [at, of] = [place + 1, gallery.found.length].map((count) => count.toLocaleString("en"));
  byId("detail-place").textContent = place < 0 ? "" : `${at} of ${of}`;
  byId("detail-previous").disabled = place <= 0;
  byId("detail-next").disabled = place < 0 || place + 1 >= gallery.found.length;
  if (!byId("detail").open) byId("detail").showModal();
}

function details(i) {
  const badges = element("div", "badges");
  const flags = [[CHOSEN, CHOSEN_AS, "good"], [SUSPECT, "suspect label", "warn"],
    [ADDED, "added", "good"], [REMOVED, "removed", "warn"]];
  for (const [flag, text, kind] of flags) {
    if (cards.flags[i] & flag) badges.append(element("span", `badge ${kind}`, text));
  }
  if (marking && badgeOf(i)) badges.append(badgeOf(i));
  const parts = [badges, facts(i)];
  if (cards.concepts[i].length) {
    const chips = element("div", "chips");
    for (const c of cards.concepts[i]) {
      const chip = element("button", cards.added[i].includes(c) ? "new" : "", page.concepts[c]);
      chip.type = "button";
      chip.addEventListener("click", () => showConcept(page.concepts[c]));
      chips.append(chip);
    }
    const title = cards.added[i].length ? "Concepts; those it added are coloured" : "Concepts";
    parts.push(element("h3", "", title), chips);
  } else if (page.concepts.length) {
    parts.push(element("h3", "", "Concepts"), element("p", "", NOTHING_FITS));
  }
  return parts;
}

function facts(i) {
  const list = element("dl");
  const add = (name, text) =>
    list.append(explain(element("dt", "", name), name), element("dd", "", text));
  if (cards.rank[i] !== null) add("rank", String(cards.rank[i]));
  add("position", String(cards.index[i]));
  if (pathOf(i) !== cards.id[i]) add("path", pathOf(i));
  if (stacks.members.has(i)) add("near-copies in its stack", String(stacks.members.get(i).length));
  if ("class" in cards) add("class given", className(i, "class"));
  if ("likelier" in cards) add("likeliest class", className(i, "likelier"));
  if ("group" in cards) add("group", page.groups[cards.group[i]]);
  for (const [name, values] of Object.entries(cards.scores)) {
    if (values[i] !== null) add(name, shorten(values[i]));
  }
  return list;
}

/* Open the card beside the open one; return whether there is one. */
function step(by) {
  const from = gallery.found.indexOf(opened), place = from + by;
  if (from < 0 || place < 0 || place >= gallery.found.length) return false;
  activate(place);
  openCard(gallery.found[place]);
  return true;
}

function showConcept(name) {
  byId("detail").close();
  byId("concept").value = name;
  if (byId("added")) byId("added").checked = false;
  byId("show").value = "0";
  update();
  byId("images").scrollIntoView();
  goTo(0);
}

function showClass(code, group) {
  byId(group ? "group" : "class").value = String(code);
  update();
  byId("images").scrollIntoView();
}

/* Worst first. */
function showSuspects(event) {
  event.preventDefault(); // or the link would take the focus from the card
  byId("filters").reset();
  byId("show").value = String(SUSPECT);
  const by = ["label_score", "sas"].find((name) => name in cards.scores);
  if (by) byId("sort").value = `score ${by}`;
  byId("order").value = "up";
  update();
  byId("images").scrollIntoView();
  goTo(0);
}

/* Setting up */

function option(text, code) {
  const made = element("option", "", text);
  made.value = String(code);
  return made;
}

function fillLists() {
  const kinds = [[CHOSEN, CHOSEN_AS], [SUSPECT, "suspects"], [ADDED, "added"], [REMOVED, "removed"]];
  const there = kinds.filter(([flag]) => cards.flags.some((flags) => flags & flag));
  const options = there.map(([flag, text]) => option(text, flag));
  byId("show").append(...options, option("all", 0));
  byId("show-label").classList.toggle("none", there.length < 2);
  const occurring = (codes, names) => names.flatMap((name, code) =>
    (codes.has(code) ? [option(name, code)] : []));
  if (byId("class")) {
    byId("class").append(option("all", ""), ...occurring(new Set(cards.class), page.classes));
  }
  if (byId("group")) {
    byId("group").append(option("all", ""), ...occurring(new Set(cards.group), page.groups));
  }
  if (byId("mark")) {
    const words = marks.choices.filter(({ mark }) => !mark.startsWith(AS_CLASS))
      .flatMap(({ mark, text }) => (mark === "likelier" ? [] : [option(text, mark)]));
    byId("mark").append(option("all", ""), option("not marked", "none"), option("marked", "any"),
      ...words, ...marking.classes.map((name) => option(name, AS_CLASS + name)));
  }
  if (byId("concept-names")) {
    byId("concept-names").append(...page.concepts.map((name) => option("", name)));
  }
  gallery.clusters = clusterOfCards();
  const kind = "class" in cards ? "class" : gallery.clusters ? "cluster" : null;
  if (kind) byId("sort").append(option(`each ${kind} in turn`, "turn"));
  if (!page.is_sample) byId("sort").append(option("rank", "rank"));
  byId("sort").append(option("position", "index"), option("id", "id"));
  const scores = Object.keys(cards.scores)
    .map((name) => explain(option(name, `score ${name}`), name));
  byId("sort").append(...scores);
}

function setTheme(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  byId("theme").textContent = `colours: ${choice}`;
  document.dispatchEvent(new CustomEvent("colours"));
}

function nextTheme() {
  const choices = ["auto", "light", "dark"];
  const now = document.documentElement.dataset.theme || "auto";
  setTheme(choices[(choices.indexOf(now) + 1) % 3]);
}

function listen() {
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", (event) => {
    if (event.target.id === "sort") {
      byId("order").value = event.target.value.startsWith("score ") ? "down" : "up";
    }
    update();
  });
  for (const link of document.querySelectorAll('[data-show="suspects"]')) {
    link.addEventListener("click", showSuspects);
  }
  for (const id of ["start-over", "show-all"]) {
    byId(id).addEventListener("click", () => {
      byId("filters").reset();
      if (id === "show-all") byId("show").value = "0";
      update();
    });
  }
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown") goTo(0);
  });
  byId("scroller").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  byId("grid").addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (!card) return;
    goTo(Number(card.dataset.place));
    if (event.target.closest(".stack-count")) toggleStack(gallery.found[gallery.active]);
    else openCard(gallery.found[gallery.active]);
  });
  byId("grid").addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (!card) return;
    activate(Number(card.dataset.place));
    card.tabIndex = 0;
  });
  byId("grid").addEventListener("keydown", onGridKey);
  document.addEventListener("keydown", onPageKey);
  document.addEventListener("keydown", onStackKey);
  byId("detail-close").addEventListener("click", () => byId("detail").close());
  byId("detail-previous").addEventListener("click", () => step(-1));
  byId("detail-next").addEventListener("click", () => step(1));
  byId("detail").addEventListener("keydown", (event) => {
    if (isTyping(event.target)) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  byId("detail").addEventListener("click", (event) => {
    if (event.target === byId("detail")) byId("detail").close(); // the backdrop
  });
  byId("detail").addEventListener("close", () => {
    if (isReturning) goTo(gallery.found.indexOf(opened));
  });
  byId("theme").addEventListener("click", nextTheme);
  new ResizeObserver(layOut).observe(byId("scroller"));
}

startMarking();
fillLists();
listen();
setTheme("auto");
update();
