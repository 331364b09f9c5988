// One photo with its caption in a text field.
import { $, percent, say } from "./elements.js";
import * as store from "./store.js";
import * as asking from "./asking.js";

let id = null;
export const shown = () => id;

export function show(next) {
  id = next;
  asking.clear();
  const photo = store.photos.get(id);
  $("gone").hidden = true;
  $("figure").hidden = false;
  $("picture").src = `photo/${id}`;
  fill();
  say(`${photo.name}: ${store.text(photo) || "no caption"}`);
}

export function hide() { id = null; }

export function fill() {
  const photo = store.photos.get(id);
  if (!photo) return;
  const draft = store.drafts.get(id);
  $("single-name").textContent = photo.name;
  $("picture").alt = store.text(photo) || "a photo without caption";
  const sure = photo.confidence === null ? "" : `; confidence ${percent(photo.confidence)}`;
  $("facts").textContent = photo.problem || (photo.state || "unreviewed") + sure + (draft === undefined ? "" : "; not saved yet");
  $("caption").value = draft ?? store.text(photo);
  $("caption").readOnly = Boolean(photo.problem);
  for (const name of ["accept", "reject", "clear"]) $(name).disabled = Boolean(photo.problem);
}

// The change that a decision makes, with what is typed.
export function decided(state) {
  const photo = store.photos.get(id), typed = store.lines($("caption").value);
  const changed = typed.join("\n") !== store.text(photo);
  if (state === "accepted") return { id, captions: typed, state: changed || photo.state === "edited" ? "edited" : "accepted" };
  return { id, captions: photo.captions, state };
}

$("caption").addEventListener("input", () => {
  const value = $("caption").value;
  if (value === store.text(store.photos.get(id))) store.drafts.delete(id);
  else store.drafts.set(id, value);
});
$("picture").addEventListener("load", () => {
  const { naturalWidth, naturalHeight } = $("picture");
  $("figure").style.setProperty("--ratio", naturalWidth / naturalHeight);
});
$("picture").addEventListener("error", () => {
  if (!id) return;
  $("figure").hidden = true;
  $("gone").hidden = false;
  $("gone").textContent = "This photo cannot be shown: it is damaged, or a link out of the folder.";
});
