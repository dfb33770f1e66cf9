"use strict";
const EVERY = 2000, LIMIT = 8000, SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

// -- small helpers: words from outside go in as text, never as mark-up ---------------------------

function put(id, text) { const node = $(id); if (node.textContent !== text) node.textContent = text; }
function show(id, on) { $(id).hidden = !on; }
function make(name, kind, text) {
  const node = document.createElement(name);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = text;
  return node;
}
function draw(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  return node;
}
function value(id, number, unit) {
  const node = $(id);
  node.replaceChildren(number, ...(unit && number !== "–" ? [" ", make("span", "unit", unit)] : []));
}
function digits(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  return number.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}
function words(line) {  // `code` between backticks
  const parts = line.split("`");
  const node = make("p");
  parts.forEach((part, index) => { if (part) node.append(index % 2 ? make("code", "", part) : part); });
  return node;
}
function bytes(number) {
  return number >= 2 ** 30 ? `${+(number / 2 ** 30).toFixed(1)} GiB` : `${Math.round(number / 2 ** 20)} MiB`;
}

// -- plots ---------------------------------------------------------------------------------------

const WIDE = 560, HIGH = 210, LEFT = 48, RIGHT = 10, TOP = 10, LOW = 26;

function top_of(values) {
  const most = Math.max(0, ...values.filter((each) => each !== null));
  if (most <= 0) return 1;
  const step = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((each) => each * step).find((each) => each >= most * 1.02) || most * 1.1;
}
function plot(id, label, points, unit, lines, seconds) {
  const end = points.length ? points[points.length - 1].at : 0;
  const minutes = Math.min(3, Math.max(1, Math.ceil(points.length ? (end - points[0].at) / 60 : 1)));
  const top = top_of(lines.flatMap((line) => points.map(line.of)));
  // In device pixels nothing is smaller on a phone: the drawing has the width that it is shown at.
  const wide = Math.max(280, Math.round($(id).clientWidth) || WIDE);
  const x = (at) => LEFT + (wide - LEFT - RIGHT) * (1 - (end - at) / (60 * minutes));
  const y = (number) => TOP + (HIGH - TOP - LOW) * (1 - number / top);
  const picture = draw("svg", { viewBox: `0 0 ${wide} ${HIGH}`, role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    const height = y(top * share);
    picture.append(draw("line", { class: "rule", x1: LEFT, x2: wide - RIGHT, y1: height, y2: height }));
    picture.append(draw("text", { x: LEFT - 6, y: height + 4, "text-anchor": "end" }, String(+(top * share).toPrecision(3))));
  }
  picture.append(draw("text", { x: LEFT, y: HIGH - 6 }, `${minutes} min ago`));
  picture.append(draw("text", { x: wide - RIGHT, y: HIGH - 6, "text-anchor": "end" }, `now · ${unit}`));
  for (const line of lines) {
    const runs = [[]];
    for (const point of points) {
      const number = line.of(point);
      if (number === null) runs.push([]); else runs[runs.length - 1].push([x(point.at), y(number)]);
    }
    for (const run of runs.filter((each) => each.length)) {
      const path = run.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ");
      if (line.area) {
        const base = y(0);
        picture.append(draw("polygon", { class: "area", points: `${run[0][0]},${base} ${path} ${run[run.length - 1][0]},${base}` }));
      }
      if (run.length === 1) picture.append(draw("circle", { class: line.kind.replace("l", "d"), cx: run[0][0], cy: run[0][1], r: 2.5 }));
      else picture.append(draw("polyline", { class: line.kind, points: path }));
    }
  }
  if (seconds) {
    const width = Math.max(2, (wide - LEFT - RIGHT) * seconds / (60 * minutes) - 1);
    for (const point of points) {
      if (!point.failed) continue;
      const height = Math.min(HIGH - TOP - LOW, Math.max(3, y(0) - y(point.failed / seconds)));
      picture.append(draw("rect", { class: "fail", x: x(point.at) - width, y: y(0) - height, width, height }));
    }
  }
  $(id).replaceChildren(picture);
}
function sparkline(machine) {
  const wide = 240, high = 34, top = Math.max(machine.cores, ...machine.history);
  const picture = draw("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `cores of ${machine.name} over the last minutes` });
  picture.append(draw("line", { class: "rule", x1: 0, x2: wide, y1: high - 1, y2: high - 1 }));
  const step = wide / 89, first = wide - (machine.history.length - 1) * step;
  const path = machine.history.map((each, index) => `${(first + index * step).toFixed(1)},${(high - 2 - (high - 5) * each / top).toFixed(1)}`);
  if (path.length > 1) picture.append(draw("polyline", { class: "l1", points: path.join(" ") }));
  return picture;
}

// -- parts of the page ---------------------------------------------------------------------------

function bar(share) {
  const node = make("div", share > 0.9 ? "bar hot" : "bar");
  const fill = make("i");
  fill.style.width = `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`;
  node.append(fill);
  return node;
}
function machine(each) {
  const node = make("div", "panel machine");
  const head = make("div", "top");
  head.append(make("b", "", each.name), make("span", `state ${each.state}`, each.state));
  node.append(head, make("div", "quiet small", each.host ? `${each.tier} · on ${each.host}` : each.tier));
  if (each.used !== null) {
    const row = make("div", "row");
    row.append(make("span", "", "cores"), make("span", "", `${each.used.toFixed(2)} of ${+each.cores.toFixed(2)}`));
    node.append(row, bar(each.used / each.cores));
  }
  if (each.memory !== null) {
    const row = make("div", "row");
    row.append(make("span", "", "memory"), make("span", "", `${bytes(each.memory)} of ${bytes(each.memory_limit)}`));
    node.append(row, bar(each.memory / each.memory_limit));
  }
  if (each.problem) node.append(make("p", "quiet small", each.problem));
  if (each.history.length > 1) node.append(sparkline(each));
  return node;
}
function quantities(of) {
  const parts = [];
  const number = (each) => String(+each.toPrecision(4));
  if (of.delay_ms !== undefined && of.delay_ms !== null) parts.push(`${number(of.delay_ms)}${of.jitter_ms ? ` ± ${number(of.jitter_ms)}` : ""} ms`);
  if (of.rate_mbit) parts.push(`${number(of.rate_mbit)} Mbit/s`);
  if (of.loss_percent) parts.push(`${number(of.loss_percent)} % lost`);
  return parts.join(", ");
}
function link(each) {
  const row = make("tr");
  const said = each.ok === null ? "" : each.ok ? "holds" : "out of tolerance";
  row.append(
    make("td", "link", `${each.source} → ${each.destination}`),
    make("td", "asked", quantities(each.asked) || "nothing"),
    make("td", "measured", quantities(each.measured) || "not yet"),
    make("td", `verdict-cell ${each.ok === false ? "off" : "holds"}`, said),
  );
  return row;
}
function under_way(seen) {
  const run = seen.run;
  if (run && seen.stage === "running" && run.load) return `Repetition ${run.repetition} of ${run.repetitions}: ${run.load}`;
  const step = seen.steps[seen.steps.length - 1];
  if (step) return `${step.phase}: ${step.name}, since ${Math.max(0, seen.at - step.since).toFixed(0)} s`;
  return { nothing: "Nothing is up.", up: "Up; no run yet.", changing: "Being changed.", running: "Running.", ended: run ? `The run has ended: ${run.status}.` : "" }[seen.stage];
}
function requests(seen) {
  const told = seen.requests;
  show("requests", told !== null);
  if (told === null) return;
  const noun = seen.run ? seen.run.noun : "request";
  const failed = told.lost + told.timeout + told.error;
  put("answered-name", `${noun}s answered`);
  value("answered", String(told.answered), told.expected === null ? "" : `of ${told.expected}`);
  put("answered-detail", told.warmup === null ? "with the warm-up" : `and ${told.warmup} of the warm-up`);
  put("rate-detail", `over the last ${told.rate_seconds} s`);
  for (const id of ["median-detail", "p95-detail"]) put(id, `over the last ${told.latency_seconds} s`);
  value("rate", told.per_second === null ? "–" : digits(told.per_second), "/s");
  value("median", digits(told.median_ms), "ms");
  value("p95", digits(told.p95_ms), "ms");
  value("failed", String(failed), "");
  put("failed-detail", `${told.lost} lost, ${told.timeout} too late, ${told.error} errors`);
  $("loss-card").classList.toggle("bad", failed > 0);
  value("waiting", told.waiting === null ? "–" : String(told.waiting), "");
  plot("latency-plot", "latency over the last three minutes", seen.timeline, "ms", [
    { kind: "l1", of: (point) => point.median_ms }, { kind: "l2", of: (point) => point.p95_ms },
  ], 0);
  plot("rate-plot", "answers per second over the last three minutes", seen.timeline, "per second", [
    { kind: "l1", of: (point) => point.per_second, area: true },
  ], seen.point_seconds);
}
function render(seen) {
  const run = seen.run;
  put("name", seen.deployment || "continuum watch");
  document.title = `${seen.deployment || "continuum"}${run ? `: ${run.status}` : ""} – watch`;
  show("status", run !== null);
  if (run) { put("status", run.status); $("status").className = `pill ${run.status}`; }
  put("facts", [seen.provider && `provider ${seen.provider}`, run && run.name].filter(Boolean).join(" · "));
  put("now", under_way(seen));
  const share = run && seen.stage === "running" ? run.fraction : null;
  show("progress", share !== null);
  if (share !== null) {
    $("progress").setAttribute("aria-valuenow", Math.round(share * 100));
    $("progress").firstElementChild.style.width = `${(share * 100).toFixed(1)}%`;
  }
  const notes = [...(run ? run.reasons : []), ...seen.notes, ...(seen.made_up ? ["The machines are made up, and so is every figure."] : [])];
  show("notes", notes.length > 0);
  $("notes").replaceChildren(...notes.map((each) => make("p", "", each)));
  show("advice", seen.advice.length > 0);
  $("advice").replaceChildren(...seen.advice.map(words));
  requests(seen);
  show("machines-part", seen.machines.length > 0);
  $("machines").replaceChildren(...seen.machines.map(machine));
  show("links-part", seen.links.length > 0);
  $("links").replaceChildren(...seen.links.map(link));
  const from = { samples: "Figures from the endpoints' own samples.", prometheus: "Figures from Prometheus.", none: "" }[seen.source];
  put("source", `${from} Seen at ${new Date(seen.at * 1000).toLocaleTimeString()}.`);
}

// -- asking again and again: a page that is opened later, or whose server comes back, goes on -----

let seen = null;
async function look() {
  const stop = new AbortController();
  const limit = setTimeout(() => stop.abort(), LIMIT);
  try {
    const answer = await fetch("snapshot.json", { cache: "no-store", signal: stop.signal });
    if (answer.status === 403) throw new Error("token");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    seen = await answer.json();
    show("cut", false);
    document.body.dataset.drawn = "yes";
  } catch (error) {
    put("cut", error.message === "token"
      ? "continuum watch asks for its token: open the whole address that the terminal shows."
      : "continuum watch does not answer; what is shown is old. Trying again …");
    show("cut", true);
  } finally { clearTimeout(limit); }
  if (seen) render(seen);
  setTimeout(look, EVERY);
}
window.addEventListener("resize", () => { if (seen) render(seen); });
look();
