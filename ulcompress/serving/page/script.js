"use strict";
const at = (id) => document.getElementById(id);
const make = (tag, text = "", attributes = {}) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.textContent = text;
  return node;
};
const facts = new Map();
let limits = null, file = null, running = null, links = [];

const isCompressed = () => file !== null && file.name.toLowerCase().endsWith(".ulc");
const fail = (text) => { at("error").textContent = text; at("error").hidden = !text; };

function choose(chosen) {
  file = chosen;
  fail("");
  at("chosen").textContent = file.name;
  at("chosen-size").textContent = `${file.size.toLocaleString("en")} bytes`;
  allow();
}
function allow() {
  if (limits === null) return;
  const { rates, captions, divisible } = facts.get(at("codec").value);
  at("coding").disabled = isCompressed();
  at("rate").disabled = rates === 1 || at("max_bytes").value !== "";
  at("max_bytes").disabled = !divisible;
  at("caption").disabled = !captions;
  at("caption").placeholder = captions ? "none" : "this codec sends none";
  at("run").textContent = isCompressed() ? "Restore" : "Compress and restore";
  at("run").disabled = file === null || running !== null;
}
function offerRates() {
  const { rates } = facts.get(at("codec").value);
  at("rate").replaceChildren(...Array.from({ length: rates }, (_, index) => {
    const rate = index + 1, note = rates === 1 ? "" : rate === 1 ? ", the lowest" : rate === rates ? ", the highest" : "";
    return make("option", `${rate}${note}`, { value: rate, selected: rate === rates });
  }));
  allow();
}

// A job: one request, whose answer is lines of JSON.
async function* lines(response) {
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let parts = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const text = decoder.decode(value, { stream: true });
    parts.push(text);
    if (!text.includes("\n")) continue;
    const whole = parts.join("").split("\n");
    parts = [whole.pop()];
    for (const line of whole) yield JSON.parse(line);
  }
  if (parts.join("")) yield JSON.parse(parts.join("")); // of a refused request
}
function request() {
  const names = isCompressed() ? ["steps", "seed"] : ["codec", "rate", "max_bytes", "caption", "steps", "seed"];
  const given = names.filter((name) => !at(name).disabled && at(name).value !== "");
  return `/${isCompressed() ? "restore" : "compress"}?${new URLSearchParams(given.map((name) => [name, at(name).value]))}`;
}
async function run() {
  if (file.size > limits.bytes) return fail(`the file has more than ${limits.megabytes} MiB; make it smaller, or allow more (--max-megabytes)`);
  running = new AbortController();
  fail("");
  show({ doing: "sending" });
  allow();
  const sent = file;
  let ended = false, arrived = null;
  try {
    const response = await fetch(request(), { method: "POST", body: sent, signal: running.signal });
    for await (const { progress, result, error } of lines(response)) {
      if (progress) show(progress);
      ended = Boolean(result || error);
      if (error) fail(error);
      if (result) arrived = result;
    }
    if (!ended) fail("the server has ended before the job was done");
  } catch (error) {
    fail(error.name === "AbortError" ? "cancelled" : `no answer from the server (${error.message}); is it still running?`);
  }
  running = null;
  if (arrived) draw(arrived, sent.name);
  show(null);
  allow();
}
function show(progress) {
  at("bar").hidden = at("cancel").hidden = progress === null;
  const { doing = "", step = null, steps = null } = progress ?? {};
  at("doing").textContent = step === null ? doing : `${doing}, step ${step}${steps ? ` of ${steps}` : ""}`;
  if (step !== null && steps) Object.assign(at("bar"), { max: steps, value: Math.min(step, steps) });
  else at("bar").removeAttribute("value");
}

// The result.
const blobOf = (text, type) => new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type });
const link = (text, type) => { links.push(URL.createObjectURL(blobOf(text, type))); return links.at(-1); };
function draw(result, from) {
  links.forEach(URL.revokeObjectURL);
  links = [];
  const name = from.replace(/\.[^.]*$/, "");
  const restored = link(result.restored, "image/png");
  at("restored").src = restored;
  for (const id of ["original", "line", "border", "left"]) at(id).hidden = result.original === null;
  if (result.original !== null) at("original").src = link(result.original, "image/png");
  Object.assign(at("save-file"), { href: link(result.file, "application/octet-stream"), download: `${name}.ulc` });
  Object.assign(at("save-image"), { href: restored, download: `${name}_restored.png` });
  const digits = (value, count, unit = "") => (value === null ? null : `${value.toFixed(count)}${unit}`);
  const numbers = {
    codec: result.codec, image: `${result.width} × ${result.height}`,
    bytes: result.bytes.toLocaleString("en"), "bits per pixel": digits(result.bpp, 4),
    PSNR: digits(result.psnr, 2, " dB"), compressed: digits(result.encode_seconds, 2, " s"), restored: digits(result.decode_seconds, 2, " s"),
  };
  result.remarks.forEach((remark, index) => { numbers[index ? "" : "note"] = remark; });
  const shown = Object.entries(numbers).filter(([, value]) => value !== null);
  at("numbers").replaceChildren(...shown.flatMap(([term, value]) => [make("dt", term), make("dd", value)]));
  at("streams").replaceChildren(...Object.entries(result.streams).flatMap(([stream, count]) => {
    const cell = make("dd", "");
    cell.append(make("span", count.toFixed(1)), make("progress", "", { max: result.bytes, value: count }));
    return [make("dt", stream), cell];
  }));
  at("result").hidden = false;
}

at("form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
at("cancel").addEventListener("click", () => running?.abort());
at("file").addEventListener("change", () => { if (at("file").files.length) choose(at("file").files[0]); });
at("codec").addEventListener("change", offerRates);
at("max_bytes").addEventListener("input", allow);
at("border").addEventListener("input", () => at("stage").style.setProperty("--border", `${at("border").value}%`));
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
});
fetch("/codecs").then((response) => response.json()).then((offered) => {
  limits = offered.limits;
  at("steps").max = limits.steps;
  at("place").textContent = offered.loopback ? "Nothing leaves this machine." : "Nothing is kept.";
  for (const codec of offered.codecs) {
    facts.set(codec.name, codec);
    at("codec").append(make("option", codec.name, { value: codec.name }));
  }
  offerRates();
}).catch((error) => fail(`the server does not say which codecs there are (${error.message}); load the page again`));
