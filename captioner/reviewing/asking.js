// Suggestions of the model, and where it looked for each word.
import { $, el, percent, say } from "./elements.js";
import * as store from "./store.js";
import * as single from "./single.js";

export function clear() {
  for (const name of ["suggestions", "words"]) $(name).replaceChildren();
  $("where").textContent = "";
  $("veil").hidden = true;
}

async function answered(path, values, use) {
  const id = single.shown();
  say("The model is thinking; the first time it is loaded, which takes a while.");
  try {
    const answer = await store.ask(path, { id, ...values });
    if (single.shown() === id) use(answer);
  } catch (error) {
    say(error.message);
  }
}

export function suggest() {
  if (!store.facts.model) { say("This review was started without a model."); return; }
  answered("suggestions", { prefix: $("prefix").value, forbid: $("forbid").value }, ({ suggestions }) => {
    $("suggestions").replaceChildren(...suggestions.map(({ text, confidence }) => el("li", {}, el("button", {
      type: "button", onclick: () => use(text),
    }, `${text} (${percent(confidence)})`))));
    $("suggestions").querySelector("button")?.focus();
    say(`${suggestions.length} suggestions; choose one to put it into the caption.`);
  });
}

function use(text) {
  const field = $("caption");
  field.value = [text, ...store.lines(field.value).slice(1)].join("\n");
  field.dispatchEvent(new Event("input"));
  field.focus();
  say("In the caption; accept to save it.");
}

export function look() {
  if (!store.facts.model) { say("This review was started without a model."); return; }
  const captions = store.lines($("caption").value).slice(0, 1);
  if (!captions.length) { say("There is no caption to explain."); return; }
  answered("words", { captions }, ({ words }) => {
    $("words").replaceChildren(...words.map((word) => {
      const told = `${word.word}: looked ${word.where}; probability ${percent(word.probability)}`;
      const button = el("button", { type: "button", "aria-pressed": "false" }, word.word);
      const show = () => {
        $("words").querySelectorAll("button").forEach((other) => {
          other.setAttribute("aria-pressed", String(other === button));
          other.classList.toggle("on", other === button);
        });
        Object.assign($("veil"), { src: word.veil, hidden: false });
        $("where").textContent = told;
      };
      for (const kind of ["focus", "click", "pointerenter"]) button.addEventListener(kind, show);
      return el("li", {}, button);
    }));
    $("words").querySelector("button")?.focus();
    say("Move over the words, or through them with the tab key.");
  });
}

$("ask").addEventListener("submit", (event) => { event.preventDefault(); suggest(); });
$("look").addEventListener("click", look);
