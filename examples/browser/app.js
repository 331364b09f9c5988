// The page: photos dropped, chosen or pasted become cards, and a worker writes their captions.

const $ = (id) => document.getElementById(id);
const photos = new Map(); // by number, in the order of their arrival
let number = 0, worker;

/** Start the service worker, which keeps the files of this page for later visits without a network. */
async function keepFiles() {
  if (!navigator.serviceWorker) return; // no https
  try {
    await navigator.serviceWorker.register("service-worker.js");
    if (navigator.serviceWorker.controller) return;
    const controlled = new Promise((done) =>
      navigator.serviceWorker.addEventListener("controllerchange", done, { once: true }),
    );
    await Promise.race([controlled, new Promise((done) => setTimeout(done, 3000))]);
  } catch (error) {
    console.warn("this visit keeps no files for later ones:", error);
  }
}

function say(text) {
  $("status").textContent = text;
}

function summary() {
  const all = [...photos.values()], done = all.filter((photo) => photo.state !== "waiting");
  const failed = done.filter((photo) => photo.state === "failed").length;
  if (!all.length) return "";
  const counted = done.length < all.length ? `${done.length} of ${all.length} photos captioned` : "";
  const whole = all.length === 1 ? `Caption: ${all[0].text}` : `All ${all.length} photos captioned`;
  return (counted || (failed === all.length ? "No photo could be read" : whole)) + (failed && failed < all.length ? `, ${failed} could not be read` : "");
}

function add(files) {
  for (const file of files) {
    const id = ++number, card = $("card").content.firstElementChild.cloneNode(true);
    const image = card.querySelector("img"), caption = card.querySelector(".caption"), copy = card.querySelector(".copy");
    image.src = URL.createObjectURL(file);
    image.alt = `Photo ${file.name}, not captioned yet`;
    caption.textContent = "Waiting";
    caption.classList.add("waiting");
    card.querySelector(".name").textContent = file.name;
    copy.addEventListener("click", () => copied(copy, photos.get(id).text));
    photos.set(id, { name: file.name, state: "waiting", text: "", card });
    $("photos").append(card);
    worker.postMessage({ id, file });
  }
  if (files.length) say(summary());
  $("actions").hidden = !photos.size;
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed to copy";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

function answered({ kind, id, text }) {
  const photo = photos.get(id);
  if (!photo) return; // removed meanwhile
  const caption = photo.card.querySelector(".caption"), image = photo.card.querySelector("img");
  Object.assign(photo, { state: kind, text: kind === "caption" ? text : "" });
  caption.textContent = kind === "caption" ? text : `This file cannot be captioned (${text}); try another one.`;
  caption.classList.remove("waiting");
  caption.classList.toggle("failed", kind === "failed");
  image.alt = kind === "caption" ? text : "";
  image.hidden = kind === "failed";
  const copy = photo.card.querySelector(".copy");
  copy.hidden = kind !== "caption";
  copy.setAttribute("aria-label", `Copy the caption of ${photo.name}`);
  say(summary());
}

function rows() {
  return [...photos.values()].filter((photo) => photo.state === "caption").map(({ name, text }) => ({ image: name, caption: text }));
}

function save(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// A table must not run a name or caption as a formula.
const field = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
export const csvOf = (table) => ["image,caption", ...table.map((row) => `${field(row.image)},${field(row.caption)}`)].join("\r\n") + "\r\n";

$("csv").addEventListener("click", () => save("captions.csv", "text/csv", csvOf(rows())));
$("json").addEventListener("click", () => save("captions.json", "application/json", JSON.stringify(rows(), null, 2) + "\n"));
$("clear").addEventListener("click", () => {
  for (const { card } of photos.values()) {
    URL.revokeObjectURL(card.querySelector("img").src);
    card.remove();
  }
  photos.clear();
  $("actions").hidden = true;
  say("");
  $("files").focus();
});
$("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = ""; // the same file may be chosen again
});
addEventListener("paste", (event) => add([...(event.clipboardData?.files ?? [])]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  add([...event.dataTransfer.files]);
});

function told({ data }) {
  if (data.kind === "progress") {
    $("bar").value = data.total ? data.loaded / data.total : 0;
    $("loaded").textContent = `Loading the model: ${(data.loaded / 1e6).toFixed(0)} of ${(data.total / 1e6).toFixed(0)} MB`;
  } else if (data.kind === "ready") {
    $("loading").hidden = true;
    document.documentElement.dataset.model = "ready";
    document.documentElement.dataset.threads = data.threads;
    if (!photos.size) say("The model is ready.");
  } else if (data.kind === "broken") {
    $("loading").hidden = true;
    document.documentElement.dataset.model = "broken";
    say(`The model cannot be loaded (${data.text}); load the page again with a network.`);
  } else {
    answered(data);
  }
}

document.documentElement.dataset.ready = "yes";
const waiting = []; // photos that came before the worker
worker = { postMessage: (message) => waiting.push(message) };
await keepFiles();
const thread = new Worker("worker.js", { type: "module" });
thread.addEventListener("message", told);
thread.addEventListener("error", (event) => told({ data: { kind: "broken", text: event.message || "the worker failed" } }));
worker = thread;
for (const message of waiting) thread.postMessage(message);
