/* The charts, by plotly, each drawn when it is about to come into view.
   plotly reads some markup in labels, so names are escaped for it. */
"use strict";

const N_CONCEPTS = 15, N_CLASSES = 40, LONGEST = 26;

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
    dragmode: false,
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

function balance(place) {
  const part = page.balance[Number(place.dataset.part)];
  const total = (counts) => counts.reduce((sum, count) => sum + count, 0);
  const one = (name, tint, symbol, count, share) =>
    ({ name, colour: tint, symbol, count, share, n: total(count) });
  const series = [one("before", "grey-dot", "circle", part.before, part.share_before)];
  if (part.other) {
    series.push(one("other selection", "labelled", "diamond", part.other, part.share_other));
  }
  series.push(one("chosen", "accent", "circle", part.after, part.share_after));
  let rows = part.name.map((_, i) => i);
  if (rows.length > N_CLASSES) { // those that change most
    const change = (i) => Math.abs(part.share_after[i] - part.share_before[i]);
    rows = rows.sort((a, b) => change(b) - change(a)).slice(0, N_CLASSES);
    rows.sort((a, b) => a - b);
  }
  return shares(rows, part.name, series);
}

function dots(name, tint, size, points, extra) {
  return {
    type: "scatter", mode: "markers", name, x: points.x, y: points.y, hoverinfo: "skip",
    marker: { color: colour(tint), size, line: { width: 0 } }, ...extra,
  };
}

function cardsWhere(test) {
  const { x, y, card } = page.map.cards;
  const kept = card.flatMap((c, k) => (test(cards.flags[c]) ? [k] : []));
  return {
    x: kept.map((k) => x[k]), y: kept.map((k) => y[k]), card: kept.map((k) => card[k]),
  };
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

function poolMap() {
  const named = (points) => ({
    customdata: points.card, text: points.card.map(describeCard), hoverinfo: "text",
  });
  const chosen = cardsWhere((flags) => flags & CHOSEN && !(flags & SUSPECT));
  const suspects = cardsWhere((flags) => flags & SUSPECT);
  const removed = cardsWhere((flags) => flags & REMOVED && !(flags & SUSPECT));
  const many = chosen.x.length > 2000;
  const traces = [dots("pool", "grey-dot", 4, page.map.pool, { opacity: 0.7 })];
  const add = (name, tint, size, points, symbol) => {
    if (!points.x.length) return;
    const extra = points.card ? named(points) : {};
    traces.push(dots(name, tint, size, points, extra));
    traces[traces.length - 1].marker.symbol = symbol;
  };
  add("labelled before", "labelled", 5, page.map.labelled, "diamond");
  add("removed", "text", 6, removed, "x-thin-open");
  add("chosen", "accent", many ? 4 : 7, chosen, "circle");
  add("suspect", "warn", suspects.x.length > 100 ? 6 : 9, suspects, "x");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const bare = { showgrid: false, showline: false, showticklabels: false, fixedrange: coarse };
  const layout = look({
    height: Math.min(620, Math.max(360, Math.round(innerHeight * 0.7))),
    margin: { l: 6, r: 6, t: 30, b: 6 }, dragmode: coarse ? false : "zoom", hovermode: "closest",
    xaxis: bare, yaxis: { ...bare, scaleanchor: "x" },
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

const charts = { over, under, balance, map: poolMap, curves };
const drawn = new Map();

function drawChart(place) {
  const [traces, layout] = charts[place.dataset.chart](place);
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  Plotly.react(place, traces, layout, config);
  if (!drawn.has(place) && place.dataset.chart === "map") {
    place.on("plotly_click", ({ points }) => {
      if (points[0].customdata !== undefined) openCard(points[0].customdata);
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

addEventListener("DOMContentLoaded", watchCharts);
