// Find and replace in all captions that are shown, with a preview.
import { $, el, say } from "./elements.js";
import * as store from "./store.js";
import * as grid from "./grid.js";

const MOST = 200; // changes in the preview
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
let commit = async () => 0;

export const onCommit = (listener) => { commit = listener; };

export function open() {
  preview();
  $("replace").showModal();
  $("find").focus();
}

function pattern() {
  const find = $("find").value;
  if (!find) return null;
  const edge = (side, inside) => $("whole").checked && /[\p{L}\p{N}]/u.test(inside) ? side : "";
  const before = edge("(?<![\\p{L}\\p{N}])", find[0]), after = edge("(?![\\p{L}\\p{N}])", find.at(-1));
  return new RegExp(before + escaped(find) + after, $("case").checked ? "gu" : "giu");
}

// A replaced caption that was accepted is an edited one; all others keep their state.
export function changes() {
  const found = pattern(), put = $("put").value;
  if (!found) return [];
  return grid.shown().map((id) => store.photos.get(id)).filter((photo) => !photo.problem).map((photo) => {
    const captions = photo.captions.map((caption) => caption.replace(found, () => put)).flatMap(store.lines);
    return { id: photo.id, captions, state: photo.state === "accepted" ? "edited" : photo.state };
  }).filter(({ id, captions }) => captions.length && captions.join("\n") !== store.text(store.photos.get(id)));
}

function preview() {
  const found = changes(), all = $("find").value ? `${found.length} captions change` : "";
  $("replace-count").textContent = found.length > MOST ? `${all}; the first ${MOST}:` : all;
  $("replace-go").disabled = found.length === 0;
  $("replace-list").replaceChildren(...found.slice(0, MOST).map(({ id, captions }) => el("li", {},
    el("del", {}, store.text(store.photos.get(id))), " ", el("ins", {}, captions.join("\n")))));
}

for (const name of ["find", "put", "whole", "case"]) $(name).addEventListener("input", preview);
$("replace-form").addEventListener("submit", (event) => { event.preventDefault(); $("replace-go").click(); });
$("replace-close").addEventListener("click", () => $("replace").close());
$("replace-go").addEventListener("click", async () => {
  const found = changes();
  $("replace").close();
  const count = await commit(found);
  if (count) say(`Replaced in ${count} captions; undo takes all of them back.`);
});
