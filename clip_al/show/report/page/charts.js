/* The charts, by plotly, each drawn when it is about to come into view.
   plotly reads some markup in labels, so names are escaped for it. */
"use strict";

const N_CONCEPTS = 15, N_CLASSES = 40, LONGEST = 26;
const PAPER_WIDTH = 680;
const printed = { isOn: false, theme: undefined };
const PALETTE = [
  "#0f8b8d", "#e07a3f", "#7a5aa8", "#4f9d4a", "#c9485b", "#3f7fd0", "#b08a1e", "#d671b5",
  "#6b7f2a", "#8a5a3c", "#2aa6d6", "#8f8fd6",
];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function label(text) {
  const letters = Array.from(text.replace(/\s+/g, " "));
  const short = letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("")}…` : text;
  return markup(short);
}

function markup(text) {
  const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;" };
  return text.replace(/[&<>$]/g, (sign) => signs[sign]);
}

function look(extra) {
  const axis = {
    gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), automargin: true,
    fixedrange: true,
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("text"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 10, r: 14, t: 30, b: 44 },
    hoverlabel: {
      bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: colour("text") },
    },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal" },
    dragmode: false, ...(printed.isOn ? { width: PAPER_WIDTH } : {}),
    ...extra,
    xaxis: { ...axis, ...extra.xaxis },
    yaxis: { ...axis, ...extra.yaxis },
  };
}

/* Around all shares, and wide enough that small differences look small. */
function rangeOf(rows, series) {
  const all = series.flatMap((one) => rows.map((i) => one.share[i]));
  const low = Math.min(...all), high = Math.max(...all), middle = (low + high) / 2;
  const half = 1.06 * Math.max((high - low) / 2, 0.15 * high);
  return [Math.max(-0.02 * high, middle - half), middle + half];
}

/* One row a name: a dot for each share, joined by a line. */
function shares(rows, names, series) {
  const places = rows.map((_, k) => rows.length - 1 - k);
  const traces = [];
  const [from, to] = [series[0], series[series.length - 1]];
  traces.push({
    type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false,
    x: rows.flatMap((i) => [from.share[i], to.share[i], null]),
    y: places.flatMap((y) => [y, y, null]),
    line: { color: colour("line"), width: 2 },
  });
  for (const one of series) {
    traces.push({
      type: "scatter", mode: "markers", name: one.name, y: places,
      x: rows.map((i) => one.share[i]),
      marker: { color: colour(one.colour), size: 9, symbol: one.symbol },
      text: rows.map((i) => `${markup(names[i])}<br>${one.name}: ${one.count[i]} of ${one.n}`),
      hovertemplate: "%{text} (%{x:.1%})<extra></extra>",
    });
  }
  const layout = look({
    height: 74 + 22 * Math.max(rows.length, 3),
    xaxis: { tickformat: ".2~%", range: rangeOf(rows, series) },
    yaxis: {
      tickmode: "array", tickvals: places, ticktext: rows.map((i) => label(names[i])),
      range: [-0.7, rows.length - 0.3], showgrid: false,
    },
  });
  return [traces, layout];
}

function seriesOf(coverage) {
  const kinds = [
    ["pool", "grey-dot", "circle"], ["labelled", "labelled", "diamond"],
    ["chosen", "accent", "circle"],
  ];
  return kinds.filter(([name]) => name in coverage.sets).map(([name, tint, symbol]) => {
    const { n, count } = coverage.sets[name];
    return { name, colour: tint, symbol, n, count, share: count.map((c) => c / n) };
  });
}

function over() {
  const coverage = page.coverage;
  const rows = coverage.names.flatMap((_, i) => (coverage.excess[i] > 0 ? [i] : []));
  return shares(rows.slice(0, N_CONCEPTS), coverage.names, seriesOf(coverage));
}

function under() {
  const coverage = page.coverage;
  const rows = coverage.names.flatMap((_, i) => (coverage.excess[i] < 0 ? [i] : []));
  return shares(rows.slice(-N_CONCEPTS).reverse(), coverage.names, seriesOf(coverage));
}

function frequent() {
  const rows = page.coverage.names.map((_, i) => i).slice(0, 2 * N_CONCEPTS);
  return shares(rows, page.coverage.names, seriesOf(page.coverage));
}

function balance(place) {
  const part = page.balance[Number(place.dataset.part)];
  const total = (counts) => counts.reduce((sum, count) => sum + count, 0);
  const one = (name, tint, symbol, count, share) =>
    ({ name, colour: tint, symbol, count, share, n: total(count) });
  const series = [one("before", "grey-dot", "circle", part.before, part.share_before)];
  if (part.other) {
    series.push(one("other selection", "labelled", "diamond", part.other, part.share_other));
  }
  if (part.after) series.push(one("chosen", "accent", "circle", part.after, part.share_after));
  else series[0].name = "all images";
  let rows = part.name.map((_, i) => i);
  if (rows.length > N_CLASSES) { // those that change most
    const change = (i) =>
      (part.after ? Math.abs(part.share_after[i] - part.share_before[i]) : part.share_before[i]);
    rows = rows.sort((a, b) => change(b) - change(a)).slice(0, N_CLASSES);
    rows.sort((a, b) => a - b);
  }
  return shares(rows, part.name, series);
}

function describeCard(c) {
  const lines = [markup(cards.id[c])];
  if ("class" in cards) {
    const likelier = cards.flags[c] & SUSPECT && "likelier" in cards
      ? ` → ${markup(className(c, "likelier"))}` : "";
    lines.push(markup(className(c, "class")) + likelier);
  }
  lines.push(...cards.concepts[c].slice(0, 3).map((i) => markup(page.concepts[i])));
  return lines.join("<br>");
}

/* Every point of the map: where it is, its card or null, and what it is coloured by. */
function mapPoints() {
  const all = [];
  const add = (points, kind) => points.x.forEach((x, k) => {
    all.push({ x, y: points.y[k], k, kind, points, card: points.card ? points.card[k] : null });
  });
  add(page.map.pool, "pool");
  add(page.map.labelled, "labelled");
  add(page.map.cards, "cards");
  return all;
}

function ofPoint(point, column) {
  if (column === "cluster") return point.points.cluster[point.k];
  const from = point.card === null ? point.points : cards;
  const values = column.startsWith("score ") ? from.scores[column.slice(6)] : from[column];
  return values ? values[point.card ?? point.k] : undefined;
}

function kindOf(point) {
  if (point.card === null) return point.kind;
  const flags = cards.flags[point.card];
  return flags & SUSPECT ? "suspect" : flags & REMOVED ? "removed" : "chosen";
}

function dots(name, points, marker) {
  const hover = points.map(({ card }) => (card === null ? "" : describeCard(card)));
  return {
    type: "scatter", mode: "markers", name: label(name),
    x: points.map((point) => point.x), y: points.map((point) => point.y),
    customdata: points.map((point) => point.card),
    text: hover, hoverinfo: "text",
    marker: { line: { width: 0 }, ...marker },
  };
}

function colouredByChoice(points) {
  const few = points.filter((point) => kindOf(point) === "suspect").length <= 100;
  const many = points.filter((point) => kindOf(point) === "chosen").length > 2000;
  const kinds = [
    ["pool", "pool", { color: colour("grey-dot"), size: 4, opacity: 0.7 }],
    ["labelled", "labelled before", { color: colour("labelled"), size: 5, symbol: "diamond" }],
    ["removed", "removed", { color: colour("text"), size: 6, symbol: "x-thin-open" }],
    ["chosen", CHOSEN_AS, { color: colour("accent"), size: many ? 4 : 7 }],
    ["suspect", "suspect", { color: colour("warn"), size: few ? 9 : 6, symbol: "x" }],
  ];
  return kinds.flatMap(([kind, name, marker]) => {
    const those = points.filter((point) => kindOf(point) === kind);
    return those.length || kind === "pool" ? [dots(name, those, marker)] : [];
  });
}

/* The most frequent kinds have a colour, the others share grey. */
function colouredByKind(points, column, names) {
  const count = new Map();
  const codes = points.map((point) => ofPoint(point, column));
  codes.forEach((code) => count.set(code, (count.get(code) ?? 0) + 1));
  const first = [...count.keys()].filter((code) => code !== undefined)
    .sort((a, b) => count.get(b) - count.get(a) || a - b).slice(0, PALETTE.length);
  const rest = points.filter((_, k) => !first.includes(codes[k]));
  const traces = rest.length
    ? [dots("others", rest, { color: colour("grey-dot"), size: 4, opacity: 0.7 })] : [];
  first.sort((a, b) => a - b).forEach((code, k) => {
    const marker = { color: PALETTE[k], size: 6, symbol: k % 2 ? "diamond" : "circle" };
    traces.push(dots(names[code], points.filter((_, p) => codes[p] === code), marker));
  });
  return traces;
}

function colouredByScore(points, column) {
  const known = points.filter((point) => ofPoint(point, column) != null);
  const rest = points.filter((point) => ofPoint(point, column) == null);
  const marker = {
    color: known.map((point) => ofPoint(point, column)), size: 6, colorscale: "Viridis",
    colorbar: { thickness: 12, len: 0.6, outlinewidth: 0 }, showscale: true,
  };
  return [
    ...(rest.length
      ? [dots("without it", rest, { color: colour("grey-dot"), size: 4, opacity: 0.7 })] : []),
    dots(column.slice("score ".length), known, marker),
  ];
}

function colouredByConcept(points) {
  const wanted = matchingConcepts(value("map-concept")) ?? new Set();
  const shows = (point) => (ofPoint(point, "concepts") ?? []).some((c) => wanted.has(c));
  const grey = { color: colour("grey-dot"), size: 4, opacity: 0.7 };
  return [
    dots("does not show it", points.filter((point) => !shows(point)), grey),
    dots("shows it", points.filter(shows), { color: colour("accent"), size: 7 }),
  ];
}

function clusterNames() {
  return page.map.clusters.map(({ name }, k) => name || `cluster ${k + 1}`);
}

function fillColours() {
  const choices = [option(page.is_sample ? "what is shown" : "what was chosen", "choice")];
  if (page.map.clusters.length > 1) choices.push(option("cluster", "cluster"));
  if (page.classes.length) choices.push(option("class", "class"));
  if (page.groups.length) choices.push(option("group", "group"));
  if (page.concepts.length) choices.push(option("concept", "concept"));
  for (const name of Object.keys(cards.scores)) choices.push(option(name, `score ${name}`));
  byId("colour-by").append(...choices);
  if (page.is_sample && page.map.clusters.length > 1) byId("colour-by").value = "cluster";
  byId("map-colours").addEventListener("submit", (event) => event.preventDefault());
  byId("map-colours").addEventListener("input", () => {
    if (byId("map-concept")) byId("map-concept-label").hidden = value("colour-by") !== "concept";
    drawChart(document.querySelector("[data-chart=map]"));
  });
}

function tracesOfMap(points, by) {
  if (by === "choice") return colouredByChoice(points);
  if (by === "concept") return colouredByConcept(points);
  if (by.startsWith("score ")) return colouredByScore(points, by);
  const names = { cluster: clusterNames(), class: page.classes, group: page.groups }[by];
  return colouredByKind(points, by, names);
}

function poolMap() {
  const by = value("colour-by");
  const traces = tracesOfMap(mapPoints(), by);
  const names = clusterNames();
  const annotations = by !== "cluster" ? [] : page.map.clusters.map(({ x, y }, k) => ({
    x, y, text: label(names[k]), showarrow: false, bgcolor: colour("surface"), opacity: 0.9,
    font: { size: 12, color: colour("text") }, borderpad: 2,
  }));
  const bare = { showgrid: false, showline: false, showticklabels: false, fixedrange: coarse };
  const layout = look({
    height: Math.min(620, Math.max(360, Math.round(innerHeight * 0.7))), annotations,
    margin: { l: 6, r: 6, t: 30, b: 6 }, dragmode: coarse ? false : "zoom", hovermode: "closest",
    showlegend: true, xaxis: bare, yaxis: { ...bare, scaleanchor: "x" },
  });
  return [traces, layout];
}

function curves() {
  const tints = ["accent", "grey-dot", "warn", "labelled", "text"];
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const traces = page.curves.map((curve, k) => ({
    type: "scatter", mode: "lines+markers", name: label(curve.name || "accuracy"),
    x: curve.labels, y: curve.accuracy, text: curve.labels.map(() => markup(curve.name)),
    line: {
      color: colour(tints[k % tints.length]), width: 2,
      dash: dashes[Math.floor(k / tints.length) % dashes.length],
    },
    hovertemplate: "%{text}<br>%{x} labels: %{y:.4g}<extra></extra>",
  }));
  const layout = look({
    height: 380, showlegend: page.curves.length > 1, margin: { l: 60, r: 14, t: 30, b: 50 },
    xaxis: { title: { text: "labels" } }, yaxis: { title: { text: "accuracy" } },
  });
  return [traces, layout];
}

const charts = { over, under, frequent, balance, map: poolMap, curves };
const drawn = new Map();

function drawChart(place) {
  const [traces, layout] = charts[place.dataset.chart](place);
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  Plotly.react(place, traces, layout, config);
  if (!drawn.has(place) && place.dataset.chart === "map") {
    place.on("plotly_click", ({ points }) => {
      if (points[0].customdata != null) openCard(points[0].customdata);
    });
  }
  drawn.set(place, true);
}

function watchCharts() {
  const places = document.querySelectorAll(".chart");
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !drawn.has(target)) drawChart(target);
    }
  }, { rootMargin: "300px" });
  places.forEach((place) => observer.observe(place));
  const redraw = () => drawn.forEach((_, place) => drawChart(place));
  document.addEventListener("colours", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

/* Charts that were never in view are drawn too, and all of them in light colours. */
function print(isOn) {
  const root = document.documentElement;
  printed.isOn = isOn;
  if (isOn) printed.theme = root.dataset.theme;
  if (isOn) root.dataset.theme = "light";
  else if (printed.theme === undefined) delete root.dataset.theme;
  else root.dataset.theme = printed.theme;
  document.querySelectorAll(".chart").forEach((place) => {
    if (isOn || drawn.has(place)) drawChart(place);
  });
  printCards(isOn);
}

addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
addEventListener("DOMContentLoaded", () => {
  if (page.map) fillColours();
  watchCharts();
});
