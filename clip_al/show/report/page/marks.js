/* Marks: a class for an image, or what is thought of its label. The browser keeps them, under the
   fingerprint of the selection; they are saved as a CSV file that clip-al reads. */
"use strict";

const UNCLEAR = "unclear", AS_CLASS = "class:";
const N_KEYS = 9;
const marking = page.marking;
const marks = {
  kept: new Map(),   // position of the image -> "right", "wrong", "unclear" or "class:NAME"
  before: new Map(), // the same, of labels that there were
  undo: [], saved: true, isStored: true, choices: [],
};

function markOf(i) {
  return marks.kept.get(cards.index[i]) ?? marks.before.get(cards.index[i]) ?? null;
}

function nameOf(mark) {
  return mark.startsWith(AS_CLASS) ? mark.slice(AS_CLASS.length) : mark;
}

/* What can be said of an image: { mark, key, text }; "likelier" is the class that is likelier. */
function listChoices() {
  const unclear = { mark: UNCLEAR, key: "u", text: UNCLEAR };
  const classes = marking.classes.slice(0, N_KEYS)
    .map((name, code) => ({ mark: AS_CLASS + name, key: String(code + 1), text: name }));
  if (marking.kind === "labels") return [...classes, unclear];
  const words = ["right", "wrong"].map((word) => ({ mark: word, key: word[0], text: word }));
  if ("likelier" in cards) words.push({ mark: "likelier", key: "l", text: "likelier class" });
  return [...words, unclear, ...classes];
}

function resolved(i, mark) {
  if (mark !== "likelier") return mark;
  return cards.likelier[i] === cards.class[i] ? null : AS_CLASS + className(i, "likelier");
}

/* Giving marks, and taking them back */

function put(given) {
  for (const [i, mark] of given) {
    if (mark === null) marks.kept.delete(cards.index[i]);
    else marks.kept.set(cards.index[i], mark);
  }
  marks.saved = false;
  store();
  for (const [i] of given) redrawCard(i);
  tellMarked();
}

/* One mark is one step back, whether it is for one image or for a stack. */
function giveMark(top, asked) {
  const given = markedWith(top).map((i) => [i, asked === null ? null : resolved(i, asked)])
    .filter(([, mark]) => mark !== null || asked === null); // or no class is likelier
  if (!given.length) return false;
  marks.undo.push(given.map(([i]) => [i, marks.kept.get(cards.index[i]) ?? null]));
  put(given);
  return true;
}

function undoMark() {
  if (!marks.undo.length) return;
  const previous = marks.undo.pop(), [i] = previous[0];
  put(previous);
  const place = gallery.found.indexOf(stacks.frontOf.get(i) ?? i);
  if (byId("detail").open) openCard(i);
  else if (place >= 0) goTo(place);
}

/* Mark the image that is open, or the one that was last walked to, and move on. */
function markHere(asked) {
  const inDetail = byId("detail").open;
  const i = inDetail ? opened : gallery.found[gallery.active];
  if (i === undefined || !giveMark(i, asked)) return;
  if (inDetail) {
    if (!step(1)) openCard(i);
    byId("detail").focus();
  } else {
    goTo(gallery.active + 1);
  }
}

function onMarkKey(event) {
  if (!marking || isTyping(event.target) || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "z") undoMark();
  else if (event.ctrlKey || event.metaKey) return;
  else if (key === "c" && byId("other-class")) focusOther();
  else if (key === "a" && byId("whole")) byId("whole").click();
  else if (key === "delete") markHere(null);
  else {
    const choice = marks.choices.find((one) => one.key === key);
    if (!choice) return;
    markHere(choice.mark);
  }
  event.preventDefault();
}

/* Keeping */

function store() {
  try {
    localStorage.setItem(`clip_al ${marking.key}`, JSON.stringify([...marks.kept]));
    marks.isStored = true;
  } catch (problem) {
    marks.isStored = false;
    byId("not-kept").textContent =
      `This browser does not keep marks (${problem.name}): save them before you close the page.`;
  }
  byId("not-kept").hidden = marks.isStored;
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(`clip_al ${marking.key}`) || "[]");
    marks.kept = new Map(kept.filter((entry) => Array.isArray(entry) && isMark(entry[1])));
  } catch (problem) {
    if (!(problem instanceof SyntaxError)) marks.isStored = false;
  }
}

function isMark(mark) {
  return typeof mark === "string" &&
    (mark.startsWith(AS_CLASS) || ["right", "wrong", UNCLEAR].includes(mark));
}

/* Saving: bytes, as names of files need not be Unicode; such a byte is a lone surrogate here. */

function cell(text) {
  return /[",;|\t\r\n]|^\s|\s$/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function csv(rows) {
  return rows.map((row) => row.map((value) => cell(String(value))).join(",") + "\n").join("");
}

function bytes(text) {
  const parts = text.split(/(?<![\ud800-\udbff])([\udc80-\udcff])/);
  return parts.map((part, k) => (k % 2 ? new Uint8Array([part.charCodeAt(0) & 0xff]) : part));
}

function labelRows() {
  const names = marking.has_ids ? cards.id : cards.index;
  const { before } = marking, rows = new Map();
  before.index.forEach((at, k) => {
    rows.set(at, [marking.has_ids ? before.id[k] : at, marking.classes[before.class[k]]]);
  });
  cards.index.forEach((at, i) => {
    const mark = marks.kept.get(at);
    if (mark) rows.set(at, [names[i], mark === UNCLEAR ? "" : nameOf(mark)]);
  });
  return [[marking.has_ids ? "id" : "index", "label"], ...rows.values()];
}

/* Suspects that nobody has decided on are in the file too, with nothing in the last column. */
function decisionRows() {
  const rows = [["index", "id", "given", "likelier", "score", "decision"]];
  const score = cards.scores.label_score || cards.scores.sas;
  const asDecision = new Map(marking.classes.map((name, k) => [name, marking.as_decision[k]]));
  cards.index.forEach((at, i) => {
    const mark = marks.kept.get(at);
    if (!mark && !(cards.flags[i] & SUSPECT)) return;
    const said = !mark ? "" : mark.startsWith(AS_CLASS)
      ? asDecision.get(nameOf(mark)) ?? mark : marking.words[mark];
    rows.push([
      at, marking.has_ids ? cards.id[i] : "", className(i, "class"),
      "likelier" in cards ? className(i, "likelier") : "", score ? score[i] ?? "" : "", said,
    ]);
  });
  return rows;
}

function saveMarks() {
  const name = `${marking.kind}.csv`;
  const rows = marking.kind === "labels" ? labelRows() : decisionRows();
  const link = element("a");
  link.href = URL.createObjectURL(new Blob(bytes(csv(rows)), { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  marks.saved = true;
  byId("what-next").hidden = false;
}

/* What is seen of it */

function badgeOf(i) {
  const mark = markOf(i);
  if (mark === null) return null;
  const signs = { right: "✓ right", wrong: "✗ wrong", unclear: "? unclear" };
  const badge = element("span", `mark ${mark.startsWith(AS_CLASS) ? "as-class" : mark}`,
    signs[mark] ?? nameOf(mark));
  badge.title = marks.kept.has(cards.index[i]) ? "marked here" : "labelled before";
  return badge;
}

/* Where labels are doubted, the suspects are what is to be looked at. */
function tellMarked() {
  const flag = cards.flags.some((flags) => flags & SUSPECT) ? SUSPECT : 0;
  const count = new Map();
  let [n, of, others] = [0, 0, 0];
  for (let i = 0; i < cards.index.length; i += 1) {
    const mark = markOf(i), isAsked = !flag || cards.flags[i] & flag;
    if (isAsked) of += 1;
    if (mark === null) continue;
    if (isAsked) n += 1;
    else others += 1;
    count.set(mark, (count.get(mark) ?? 0) + 1);
  }
  const unseen = unseenWithoutMark();
  const [done, all, rest] = [n, of, others].map((number) => number.toLocaleString("en"));
  byId("marked").textContent = `${done} of ${all} ${flag ? "suspects" : "images"} marked` +
    (others ? `, and ${rest} others` : "") +
    (unseen ? `; ${unseen.toLocaleString("en")} without a mark are beneath others` : "");
  byId("progress").max = of;
  byId("progress").value = n;
  byId("undo").disabled = !marks.undo.length;
  byId("save").disabled = !marks.kept.size;
  for (const place of document.querySelectorAll("[data-mark]")) {
    place.querySelector(".count").textContent = count.get(place.dataset.mark) ?? "";
  }
}

function markButtons() {
  return marks.choices.map(({ mark, key, text }) => {
    const button = element("button", "choice");
    button.type = "button";
    button.dataset.mark = mark;
    button.append(element("kbd", "", key), element("span", "choice-name", text),
      element("span", "count"));
    button.title = `${text}: key ${key}`;
    button.addEventListener("click", () => markHere(mark));
    return button;
  });
}

/* More classes than keys: a field that completes names. */

function focusOther() {
  const field = byId(byId("detail").open ? "other-class-detail" : "other-class");
  field.focus();
  field.select();
}

function onOtherClass(event) {
  const field = event.target;
  const wanted = field.value.trim();
  const known = marking.classes.find((name) => name === wanted) ??
    marking.classes.find((name) => name.toLowerCase() === wanted.toLowerCase());
  if (known === undefined) {
    if (event.type === "keydown" && wanted) {
      field.setCustomValidity("No class is called so.");
      field.reportValidity();
    }
    return;
  }
  field.value = "";
  field.blur();
  markHere(AS_CLASS + known);
}

function markFilter(choice) {
  if (choice === "") return () => true;
  if (choice === "none") return (i) => markOf(i) === null;
  if (choice === "any") return (i) => markOf(i) !== null;
  return (i) => markOf(i) === choice;
}

function startMarking() {
  if (!marking) return;
  const { before } = marking;
  before.index.forEach((at, k) => marks.before.set(at, AS_CLASS + marking.classes[before.class[k]]));
  marks.choices = listChoices();
  recall();
  store();
  for (const id of ["choices", "choices-detail"]) byId(id).append(...markButtons());
  if (byId("other-class")) {
    byId("class-names").append(...marking.classes.map((name) => option("", name)));
    for (const id of ["other-class", "other-class-detail"]) {
      byId(id).addEventListener("change", onOtherClass); // one of the list was clicked
      byId(id).addEventListener("keydown", (event) => {
        if (event.key === "Enter") onOtherClass(event);
      });
      byId(id).addEventListener("input", (event) => event.target.setCustomValidity(""));
    }
  }
  byId("undo").addEventListener("click", undoMark);
  byId("save").addEventListener("click", saveMarks);
  document.addEventListener("keydown", onMarkKey);
  addEventListener("storage", (event) => { // another window with this report
    if (event.key !== `clip_al ${marking.key}`) return;
    recall();
    clear();
    draw();
    tellMarked();
  });
  addEventListener("beforeunload", (event) => {
    if (!marks.isStored && !marks.saved) event.preventDefault();
  });
  tellMarked();
}
