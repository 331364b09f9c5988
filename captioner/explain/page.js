// Highlights the attention of the hovered or focused word. A click keeps a word, Escape releases it.
"use strict";
const { veils, aims } = JSON.parse(document.getElementById("data").textContent);
const words = [...document.querySelectorAll("button[data-word]")];
const veil = document.getElementById("veil"), aim = document.getElementById("aim");
const said = document.getElementById("said"), hint = said.textContent;
let kept = null, shown = null;  // indices of the clicked word and of the highlighted word

function show(i) {
  shown = i;
  const read = document.querySelector("input[name=read]:checked");
  veil.hidden = i === null;
  aim.hidden = i === null || !aims.length || (read && read.value === "global_maps");
  words.forEach((word, n) => {
    word.classList.toggle("on", n === i);
    word.setAttribute("aria-pressed", String(n === kept));
  });
  if (i === null) { said.textContent = hint; return }
  veil.src = veils[read ? read.value : "maps"][i];
  if (aims.length) {
    const a = aims[i];
    Object.assign(aim.style, { left: 100 * a.x + "%", top: 100 * a.y + "%",
                               width: 200 * a.rx + "%", height: 200 * a.ry + "%" });
  }
  said.textContent = words[i].firstChild.data + ": " + document.getElementById("said" + i).textContent;
}

words.forEach((word, i) => {
  word.addEventListener("pointerenter", event => { if (event.pointerType === "mouse") show(i) });
  word.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") show(kept) });
  word.addEventListener("focus", () => show(i));
  word.addEventListener("blur", () => show(kept));
  word.addEventListener("click", () => { kept = kept === i ? null : i; show(kept === null ? i : kept) });
});
document.querySelectorAll("input[name=read]").forEach(input =>
  input.addEventListener("change", () => {
    if (shown === null) kept = 0;
    show(shown === null ? 0 : shown);
  }));
document.addEventListener("keydown", event => {
  if (event.key === "Escape") { kept = null; show(null) }
});
