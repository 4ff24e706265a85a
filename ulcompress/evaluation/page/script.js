"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const make = (tag, attributes = {}, text = null) => {
  const node = tag === "svg" || at.svg.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  return node;
};
at.svg = new Set(["g", "path", "line", "circle", "text", "title"]);
const metrics = data.metrics.filter((metric) => metric.missing === null);
const metricOf = Object.fromEntries(metrics.map((metric) => [metric.name, metric]));
const curves = [...new Set(data.contestants.map((contestant) => contestant.curve))];
const colour = (curve) => (curves.includes(curve) ? `var(--c${curves.indexOf(curve) % 8})` : "var(--soft)");
const tintOf = (point) => (point.published ? "var(--soft)" : colour(point.curve));
const short = (value) => {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  return value.toFixed(size < 1 ? 4 : size < 1000 ? 2 : 0);
};
const numbers = {
  bpp: { label: "bits per pixel", better: "lower", format: (value) => value.toFixed(4) },
  bytes: { label: "bytes", better: "lower", format: (value) => value.toFixed(0) },
  encode_seconds: { label: "encode (s)", better: "lower", format: (value) => value.toFixed(2) },
  decode_seconds: { label: "decode (s)", better: "lower", format: (value) => value.toFixed(2) },
  working_memory: { label: "working memory (MiB)", better: "lower", format: (value) => (value / 2 ** 20).toFixed(0) },
};
for (const metric of metrics) numbers[metric.name] = { label: metric.label, better: metric.better, format: short };
const show = (name, value) => (value === null || value === undefined ? "" : numbers[name].format(value));
const valueOf = (row, name) => (name in row ? row[name] : name in row.metrics ? (row.metrics[name]?.value ?? null) : null);
const option = (select, value, text) => select.append(make("option", { value }, text));

// What was compared, and how.
{
  const codecs = data.contestants.filter((contestant) => contestant.kind === "codec").map((contestant) => contestant.name);
  at("title").textContent = codecs.join(", ");
  const many = `${data.summary[0].images} image${data.summary[0].images === 1 ? "" : "s"}`;
  at("lead").textContent = `${many}${data.dataset ? ` of ${data.dataset}` : ""}, bytes of files on the disk; ${data.created.slice(0, 10)}, ${data.machine.device}.`;
  const list = make("dl");
  const say = (term, text) => list.append(make("dt", {}, term), make("dd", {}, text));
  say("Command", data.command);
  for (const metric of data.metrics) {
    const hashes = Object.entries(metric.files).map(([file, hash]) => `${file} ${hash.slice(0, 12)}…`).join(", ");
    say(metric.label, metric.missing === null ? `${metric.protocol}${hashes ? `. Weights: ${hashes}` : ""}` : `missing: ${metric.missing}`);
  }
  say("Versions", Object.entries(data.versions).map((pair) => pair.join(" ")).join(", "));
  const { cpu, cores, device, processes, threads, batch } = data.machine;
  say("Machine", `${cpu}, ${cores} cores; codecs on ${device}; processes: ${processes}, threads of torch in each: ${threads}, images in a batch: ${batch}`);
  for (const failed of data.failed) say(`Failed on every image: ${failed.name}`, failed.error);
  for (const failure of data.failures) say(`Left out: ${failure.image} through ${failure.contestant}`, failure.error);
  at("protocols").append(list);
  at("failed").hidden = !data.failed.length;
  at("failed").textContent = `Failed on every image: ${data.failed.map((failed) => failed.name).join(", ")}.`;
}

// Curves.
const chart = { hidden: new Set(), height: 440, left: 64, right: 20, top: 16, bottom: 52 };
const PUBLISHED = "published points";
const REACH = 3; // how far, as a factor of our rates, published points are of interest
const series = new Map(); // of published points, those of one system and source
for (const point of data.published) {
  const key = JSON.stringify([point.system, point.source]);
  if (!series.has(key)) series.set(key, []);
  series.get(key).push(point);
}
const pointsOf = (x, y) => {
  const own = data.summary.map((row, index) => ({
    curve: data.contestants[index].curve, series: `ours ${data.contestants[index].curve}`, name: row.contestant, x: valueOf(row, x), y: valueOf(row, y), bpp: row.bpp,
    low: row.metrics[y]?.low ?? null, high: row.metrics[y]?.high ?? null, published: false,
  }));
  const others = [...series].flatMap(([key, known]) => {
    const at = (metric) => new Map(known.filter((p) => p.metric === metric).map((p) => [p.bpp, p]));
    const ys = at(y), xs = at(x);
    return [...ys.values()].map((p) => ({
      curve: p.system, series: key, name: p.system, x: x === "bpp" ? p.bpp : (xs.get(p.bpp)?.value ?? null), y: p.value, bpp: p.bpp,
      low: null, high: null, published: true, source: `${p.source} (${p.protocol})`,
    }));
  });
  const rates = own.map((point) => point.bpp);
  const near = ({ bpp }) => bpp >= Math.min(...rates) / REACH && bpp <= Math.max(...rates) * REACH;
  return [...own, ...others.filter(near)].filter((point) => point.x !== null && point.y !== null);
};
const ticks = (low, high, log) => {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const lead of [1, 2, 5]) found.push(lead * 10 ** power);
    return found.filter((value) => value >= low && value <= high);
  }
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((lead) => lead * power).find((value) => value >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) found.push(value);
  return found;
};
const scale = (values, log, from, to) => {
  let low = Math.min(...values), high = Math.max(...values);
  const map = log ? Math.log : (value) => value;
  const margin = 0.06 * (map(high) - map(low)) || (log ? 0.2 : Math.abs(high) * 0.05 || 1);
  const back = log ? Math.exp : (value) => value;
  [low, high] = [back(map(low) - margin), back(map(high) + margin)];
  const place = (value) => from + ((map(value) - map(low)) / (map(high) - map(low))) * (to - from);
  return { place, low, high };
};
const tell = (text, x, y) => {
  const tip = at("tip");
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${Math.max(8, y - box.height - 14)}px`;
};
const hush = () => { at("tip").hidden = true; };
function draw() {
  if (!metrics.length) { at("chart").textContent = "nothing to show: no metric was measured"; return; }
  const x = at("x-axis").value, y = at("y-axis").value, log = x === "bpp" && at("log").checked;
  at("log").disabled = x !== "bpp";
  const { height, left, right, top, bottom } = chart, width = Math.max(300, at("chart").clientWidth);
  const all = pointsOf(x, y);
  const points = all.filter((point) => !chart.hidden.has(point.published ? PUBLISHED : point.curve));
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${numbers[y].label} over ${numbers[x].label}` });
  at("chart").replaceChildren(svg);
  legend([...new Set(all.map((point) => (point.published ? PUBLISHED : point.curve)))]);
  if (!points.length) { svg.append(make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to show")); return; }
  const across = scale(points.map((point) => point.x), log, left, width - right);
  const up = scale(points.flatMap((point) => [point.y, ...(point.low === null ? [] : [point.low, point.high])]), false, height - bottom, top);
  const every = width < 600 ? 2 : 1;
  for (const value of ticks(across.low, across.high, log).filter((_, index) => index % every === 0)) {
    const place = across.place(value);
    svg.append(make("line", { class: "grid", x1: place, x2: place, y1: top, y2: height - bottom }));
    svg.append(make("text", { x: place, y: height - bottom + 20, "text-anchor": "middle" }, String(+value.toPrecision(6))));
  }
  for (const value of ticks(up.low, up.high, false)) {
    const place = up.place(value);
    svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: place, y2: place }));
    svg.append(make("text", { x: left - 10, y: place + 4, "text-anchor": "end" }, String(+value.toPrecision(6))));
  }
  const better = { higher: "higher is better", lower: "lower is better" };
  svg.append(make("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, `${numbers[x].label}, ${better[numbers[x].better]}`));
  svg.append(make("text", { x: 16, y: (top + height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 16 ${(top + height - bottom) / 2})` }, `${numbers[y].label}, ${better[numbers[y].better]}`));
  for (const key of new Set(points.map((point) => point.series))) {
    const own = points.filter((point) => point.series === key).sort((a, b) => a.bpp - b.bpp);
    const { published } = own[0], tint = tintOf(own[0]);
    const path = own.map((point, index) => `${index ? "L" : "M"}${across.place(point.x).toFixed(1)} ${up.place(point.y).toFixed(1)}`).join("");
    svg.append(make("path", { class: "curve", d: path, fill: "none", stroke: tint, "stroke-width": published ? 1 : 2, "stroke-dasharray": published ? "3 4" : "none" }));
    own.forEach((point) => mark(svg, point, across.place(point.x), up, x, y));
  }
}
function mark(svg, point, px, up, x, y) {
  const py = up.place(point.y);
  const interval = point.low === null ? "" : `, ${show(y, point.low)} to ${show(y, point.high)}`;
  const lines = [point.name, `${numbers[y].label}: ${show(y, point.y)}${interval}`, `${numbers[x].label}: ${show(x, point.x)}`];
  if (x !== "bpp") lines.push(`${point.bpp.toFixed(4)} bpp`);
  if (point.source) lines.push(point.source);
  const group = make("g", { class: "point", tabindex: 0, role: "img", "aria-label": lines.join(", ") });
  if (point.low !== null) group.append(make("line", { x1: px, x2: px, y1: up.place(point.low), y2: up.place(point.high), stroke: tintOf(point), "stroke-width": 1.5, opacity: 0.6 }));
  group.append(make("circle", { cx: px, cy: py, r: 14, fill: "transparent" }));
  group.append(make("circle", { cx: px, cy: py, r: point.published ? 4 : 5.5, fill: point.published ? "var(--paper)" : tintOf(point), stroke: point.published ? tintOf(point) : "var(--paper)", "stroke-width": 1.5 }));
  const here = () => { const box = group.lastChild.getBoundingClientRect(); tell(lines.join("\n"), box.x + box.width / 2, box.y); };
  group.addEventListener("pointerenter", here);
  group.addEventListener("pointerleave", hush);
  group.addEventListener("focus", here);
  group.addEventListener("blur", hush);
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...svg.querySelectorAll(".point")];
    all[(all.indexOf(group) + step + all.length) % all.length].focus();
  });
  svg.append(group);
}
function legend(names) {
  const focused = document.activeElement?.dataset?.curve;
  at("legend").replaceChildren(...names.map((name) => {
    const button = make("button", { type: "button", "aria-pressed": String(!chart.hidden.has(name)), "data-curve": name }, "");
    button.append(make("i", { style: `background: ${colour(name)}` }), name);
    button.addEventListener("click", () => { if (!chart.hidden.delete(name)) chart.hidden.add(name); draw(); });
    const item = make("li");
    item.append(button);
    return item;
  }));
  [...at("legend").querySelectorAll("button")].find((button) => button.dataset.curve === focused)?.focus();
}
for (const name of metrics.map((metric) => metric.name)) option(at("y-axis"), name, numbers[name].label);
for (const name of ["bpp", ...metrics.map((metric) => metric.name), "encode_seconds", "decode_seconds"]) option(at("x-axis"), name, numbers[name].label);
for (const id of ["x-axis", "y-axis", "log"]) at(id).addEventListener("change", draw);
{
  let width = 0;
  new ResizeObserver(() => { if (at("chart").clientWidth !== width) { width = at("chart").clientWidth; draw(); } }).observe(at("chart"));
}

// Images.
const resultOf = new Map(data.results.map((result) => [`${result.contestant}\n${result.image}`, result]));
const view = { image: 0, left: "", right: "", zoom: "fit", border: 50 };
const ORIGINAL = ""; // no contestant is named so
const labelOf = (name) => (name === ORIGINAL ? "original" : name);
const first = data.contestants[0];
view.left = first.name;
view.right = (data.contestants.find((contestant) => contestant.matched_to === first.name) ?? data.contestants[1] ?? { name: ORIGINAL }).name;
data.images.forEach((image, index) => option(at("image"), index, image.name));
for (const side of ["left", "right"]) {
  option(at(side), ORIGINAL, labelOf(ORIGINAL));
  for (const contestant of data.contestants) option(at(side), contestant.name, contestant.name);
}
const pathOf = (image, name) => (name === ORIGINAL ? image.original : (resultOf.get(`${name}\n${image.name}`)?.restored ?? null));
const captionOf = (image, name) => {
  if (name === ORIGINAL) return `original\n${image.width} × ${image.height}${image.caption ? `\n“${image.caption}”` : ""}`;
  const result = resultOf.get(`${name}\n${image.name}`);
  if (!result) return `${name}\nnot coded`;
  const how = result.quality === null ? "" : `, quality ${result.quality}${result.factor > 1 ? ` at 1/${result.factor} size` : ""}${result.fits ? "" : ", over budget"}`;
  const values = metrics.filter((metric) => result.metrics[metric.name] !== null && metric.name in result.metrics);
  return `${name}${how}\n${result.bytes} bytes, ${result.bpp.toFixed(4)} bpp\n${values.map((metric) => `${metric.label} ${short(result.metrics[metric.name])}`).join(", ")}`;
};
const encode = (path) => (path.startsWith("data:") ? path : path.split("/").map(encodeURIComponent).join("/"));
function look() {
  const image = data.images[view.image];
  for (const side of ["left", "right"]) {
    const path = pathOf(image, view[side]), node = at(`${side}-image`);
    at(side).value = view[side];
    if (path === null) node.removeAttribute("src");
    else if (node.getAttribute("src") !== encode(path)) node.src = encode(path);
    node.alt = `${image.name}, ${labelOf(view[side])}`;
    node.hidden = path === null;
    at(`${side}-caption`).textContent = captionOf(image, view[side]);
  }
  const known = pathOf(image, view.left) !== null && pathOf(image, view.right) !== null;
  at("no-image").hidden = known;
  at("canvas").hidden = !known;
  at("handle").hidden = !known;
  at("image").value = view.image;
  at("zoom").value = view.zoom;
  const zoomed = view.zoom !== "fit";
  at("stage").classList.toggle("zoomed", zoomed);
  at("stage").classList.toggle("pixelated", zoomed && Number(view.zoom) * devicePixelRatio > 1);
  at("canvas").style.width = zoomed ? `${image.width * Number(view.zoom)}px` : "100%";
  at("right-image").style.aspectRatio = `${image.width} / ${image.height}`;
  at("canvas").style.maxWidth = zoomed ? "none" : `calc(78vh * ${image.width} / ${image.height})`;
  at("canvas").style.margin = zoomed ? "0" : "0 auto";
  border(view.border);
  remember();
}
function border(percent) {
  view.border = Math.max(0, Math.min(100, percent));
  const stage = at("stage"), canvas = at("canvas"), width = Math.min(stage.clientWidth, canvas.clientWidth);
  const start = view.zoom === "fit" ? canvas.offsetLeft : 0;
  const x = start + (width * view.border) / 100;
  const inside = x + stage.scrollLeft - canvas.offsetLeft;
  at("left-image").style.clipPath = `inset(0 ${Math.max(0, canvas.clientWidth - inside)}px 0 0)`;
  at("handle").style.left = `${x + stage.scrollLeft}px`;
  at("handle").style.top = `${stage.scrollTop}px`; // so that its knob is in view
  at("handle").style.height = `${Math.max(Math.min(canvas.clientHeight, stage.clientHeight), 1)}px`;
  stage.setAttribute("aria-valuenow", Math.round(view.border));
  stage.setAttribute("aria-valuetext", `${Math.round(view.border)} % of ${labelOf(view.left)}`);
}
function remember() {
  const parts = { image: data.images[view.image].name, left: view.left, right: view.right, zoom: view.zoom };
  history.replaceState(null, "", `#${new URLSearchParams(parts)}`);
}
function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const index = data.images.findIndex((image) => image.name === parts.get("image"));
  if (index >= 0) view.image = index;
  const names = new Set([ORIGINAL, ...data.contestants.map((contestant) => contestant.name)]);
  for (const side of ["left", "right"]) if (names.has(parts.get(side))) view[side] = parts.get(side);
  if (["fit", "1", "2", "4"].includes(parts.get("zoom"))) view.zoom = parts.get("zoom");
}
const turn = (step) => { view.image = (view.image + step + data.images.length) % data.images.length; look(); };
at("previous").addEventListener("click", () => turn(-1));
at("next").addEventListener("click", () => turn(1));
at("image").addEventListener("change", (event) => { view.image = Number(event.target.value); look(); });
for (const side of ["left", "right", "zoom"]) at(side).addEventListener("change", (event) => { view[side] = event.target.value; look(); });
{
  const stage = at("stage");
  const follow = (event) => {
    const box = stage.getBoundingClientRect(), start = view.zoom === "fit" ? at("canvas").offsetLeft : 0;
    border((100 * (event.clientX - box.left - start)) / Math.min(stage.clientWidth, at("canvas").clientWidth));
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || at("canvas").hidden) return;
    if (view.zoom !== "fit" && event.target !== at("handle")) return; // elsewhere a finger moves the image
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) follow(event); });
  stage.addEventListener("scroll", () => border(view.border));
  const PAN = 60; // pixels a key
  let held = null;
  stage.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -2, ArrowRight: 2, PageDown: -20, PageUp: 20, Home: -100, End: 100 };
    const pans = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.shiftKey && event.key in pans) stage.scrollBy(...pans[event.key].map((step) => step * PAN));
    else if (event.key in steps) border(view.border + steps[event.key]);
    else if (event.key === " ") { held ??= view.border; border(held > 50 ? 0 : 100); }
    else return;
    event.preventDefault();
  });
  stage.addEventListener("keyup", (event) => { if (event.key === " " && held !== null) { border(held); held = null; } });
  stage.addEventListener("blur", () => { if (held !== null) { border(held); held = null; } });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select")) return;
    if (event.key === "[") turn(-1);
    if (event.key === "]") turn(1);
  });
  new ResizeObserver(() => border(view.border)).observe(at("canvas"));
}

// All images, made when they are first asked for.
{
  const names = [ORIGINAL, ...data.contestants.map((contestant) => contestant.name)];
  const choose = (index, name) => {
    view.image = index;
    view.left = name;
    if (name !== ORIGINAL || view.right === ORIGINAL) view.right = name === ORIGINAL ? first.name : ORIGINAL;
    look();
    at("viewer").scrollIntoView({ behavior: "smooth" });
  };
  const tile = (image, index, name) => {
    const button = make("button", { type: "button", class: "tile" });
    const { width, height } = image;
    button.append(make("img", { src: encode(pathOf(image, name)), alt: `${image.name}, ${labelOf(name)}`, width, height, loading: "lazy" }));
    button.append(make("span", {}, captionOf(image, name)));
    button.addEventListener("click", () => choose(index, name));
    return button;
  };
  const sheet = (image, index) => {
    const article = make("article"), tiles = make("div", { class: "tiles" });
    tiles.append(...names.filter((name) => pathOf(image, name) !== null).map((name) => tile(image, index, name)));
    article.append(make("h3", {}, image.name), tiles);
    return article;
  };
  at("gallery-section").hidden = !data.images.some((image) => image.original !== null);
  at("gallery").addEventListener("toggle", () => { at("sheets").append(...data.images.map(sheet)); }, { once: true });
  if (data.embedded) {
    at("gallery").open = true;
    at("embedded").textContent = ` The images within this page are WebP of quality ${data.embedded.quality}, at most ${data.embedded.width} pixels across; all numbers are of the files themselves.`;
  }
}

// Tables.
function table(node, columns, rows, ready = () => {}) {
  const state = { column: null, up: true };
  const head = make("tr"), body = make("tbody");
  const fill = () => {
    const order = [...rows()];
    if (state.column !== null) {
      const { value } = columns[state.column], sign = state.up ? 1 : -1;
      order.sort((a, b) => {
        const [p, q] = [value(a), value(b)];
        if (p === null || q === null) return (p === null) - (q === null);
        return sign * (typeof p === "string" ? p.localeCompare(q, undefined, { numeric: true }) : p - q);
      });
    }
    body.replaceChildren(...order.map((row) => {
      const line = make("tr");
      for (const column of columns) {
        const cell = make("td", { class: [column.text && "text", column.best?.(row) && "best"].filter(Boolean).join(" ") });
        cell.append(column.cell ? column.cell(row) : column.show(row));
        line.append(cell);
      }
      return line;
    }));
    ready(order.length);
  };
  columns.forEach((column, index) => {
    const cell = make("th", { scope: "col", "aria-sort": "none", class: column.text ? "text" : "" });
    const button = make("button", { type: "button" }, column.label);
    button.addEventListener("click", () => {
      state.up = state.column === index ? !state.up : true;
      state.column = index;
      for (const other of head.children) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", state.up ? "ascending" : "descending");
      fill();
    });
    cell.append(button);
    head.append(cell);
  });
  const top = make("thead");
  top.append(head);
  node.append(top, body);
  fill();
  return fill;
}
const shownNumbers = ["bytes", "bpp", ...metrics.map((metric) => metric.name), "encode_seconds", "decode_seconds", "working_memory"];
const bestOf = (name) => {
  const values = data.summary.map((row) => valueOf(row, name)).filter((value) => value !== null);
  return numbers[name].better === "higher" ? Math.max(...values) : Math.min(...values);
};
table(at("summary"), [
  { label: "codec", text: true, value: (row) => row.contestant, show: (row) => row.contestant },
  ...shownNumbers.map((name) => ({
    label: numbers[name].label, value: (row) => valueOf(row, name),
    show: (row) => `${show(name, valueOf(row, name))}${name === "bytes" && row.over_budget ? ` (${row.over_budget} over budget)` : ""}`,
    best: (row) => name in metricOf && data.summary.length > 1 && valueOf(row, name) === bestOf(name),
  })),
], () => data.summary);
const differences = data.comparisons.filter((row) => row.difference !== null);
if (differences.length) {
  at("differences-section").hidden = false;
  at("differences-hint").textContent = `The value of each codec minus that of the reference, ${differences[0].reference}, in the unit of the metric. The 95 % interval is of that difference over images: where it does not contain zero, other images of the same kind are unlikely to change the sign. A metric of a whole set has no interval. Bits: how many more than the reference the codec takes.`;
  const digits = (row) => { const size = Math.max(...[row.difference, row.low, row.high].map(Math.abs)); return size < 1 ? 4 : size < 1000 ? 2 : 0; };
  const sign = (row, end) => `${row[end] > 0 ? "+" : ""}${row[end].toFixed(digits(row))}`;
  const good = (row) => (row.low === null || row.kind === "other rate" ? false : metricOf[row.metric].better === "higher" ? row.low > 0 : row.high < 0);
  table(at("differences"), [
    { label: "codec", text: true, value: (row) => row.name, show: (row) => row.name },
    { label: "metric", text: true, value: (row) => metricOf[row.metric].label, show: (row) => metricOf[row.metric].label },
    { label: "difference", value: (row) => row.difference, show: (row) => sign(row, "difference"), best: good },
    { label: "95 % interval", value: (row) => row.low, show: (row) => (row.low === null ? "no interval" : `${sign(row, "low")} to ${sign(row, "high")}`) },
    { label: "better on", value: (row) => row.wins, show: (row) => (row.wins === null ? "" : `${row.wins} of ${row.images}`) },
    { label: "bits", value: (row) => row.rate_percent, show: (row) => `${row.rate_percent > 0 ? "+" : ""}${row.rate_percent.toFixed(1)} %` },
    { label: "compared", text: true, value: (row) => row.kind, show: (row) => row.kind },
  ], () => differences);
  for (const kind of new Set(differences.map((row) => row.kind))) at("kinds").append(make("dt", {}, kind), make("dd", {}, data.kinds[kind]));
}
const deltas = data.bjontegaard.filter((row) => row.rate_percent !== null);
const refused = new Map();
for (const row of data.bjontegaard.filter((row) => row.rate_percent === null)) {
  const reason = `${row.curve} against ${row.reference}: ${row.refused}`;
  refused.set(reason, [...(refused.get(reason) ?? []), row]);
}
if (data.bjontegaard.length) {
  at("deltas-section").hidden = false;
  at("deltas").parentElement.hidden = !deltas.length;
  at("refusals").replaceChildren(...[...refused].map(([reason, rows]) => make("li", {}, `${reason} (${rows.map((row) => row.metric).join(", ")})`)));
  at("refusals").parentElement.hidden = !refused.size;
  at("refusals").parentElement.open = !deltas.length;
  const percent = (value) => `${value > 0 ? "+" : ""}${value.toFixed(1)} %`;
  table(at("deltas"), [
    ...["curve", "reference", "metric"].map((key) => ({ label: key, text: true, value: (row) => row[key], show: (row) => row[key] })),
    { label: "rate", value: (row) => row.rate_percent, show: (row) => (row.rate_percent === null ? "" : percent(row.rate_percent)) },
    { label: "interval", value: (row) => row.low, show: (row) => (row.low === null ? "" : `${percent(row.low)} to ${percent(row.high)}`) },
  ], () => deltas);
}
{
  const imageIndex = new Map(data.images.map((image, index) => [image.name, index]));
  const pairs = metrics.filter((metric) => metric.scope === "image").map((metric) => metric.name);
  const valueIn = (row, name) => row[name] ?? row.metrics[name] ?? null;
  const words = () => at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = () => {
    const parts = words();
    return data.results.filter((row) => parts.every((part) => `${row.image} ${row.contestant}`.toLowerCase().includes(part))).slice(0, 600);
  };
  const open = (row) => {
    const button = make("button", { type: "button", class: "open" }, row.image);
    button.addEventListener("click", () => {
      view.image = imageIndex.get(row.image);
      view.left = row.contestant;
      if (view.right === view.left) view.right = ORIGINAL;
      look();
      at("viewer").scrollIntoView({ behavior: "smooth" });
    });
    return button;
  };
  const fill = table(at("rows"), [
    { label: "image", text: true, value: (row) => row.image, cell: open },
    { label: "codec", text: true, value: (row) => row.contestant, show: (row) => row.contestant },
    { label: "quality", value: (row) => row.quality, show: (row) => (row.quality === null ? "" : `${row.quality}${row.factor > 1 ? ` at 1/${row.factor}` : ""}${row.fits ? "" : ", over budget"}`) },
    ...["bytes", "bpp", ...pairs, "encode_seconds", "decode_seconds"].map((name) => ({
      label: numbers[name].label, value: (row) => valueIn(row, name), show: (row) => show(name, valueIn(row, name)),
    })),
  ], wanted, (count) => { at("count").textContent = count < 600 ? `${count} of ${data.results.length}` : `the first 600 of ${data.results.length}; name what you look for`; });
  at("filter").addEventListener("input", fill);
}
recall();
addEventListener("hashchange", () => { recall(); look(); });
look();
