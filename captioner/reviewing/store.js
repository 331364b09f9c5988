// The photos and their captions as the server last told them, saving with versions, and undo.

export const photos = new Map(); // by id, in the order of the folder
export const drafts = new Map(); // captions that are typed but not saved, by id
export const facts = {}; // folder, outputs, model, notices
const done = [], undone = []; // steps; each a list of {id, before, after}
const listeners = new Set();
let waiting = Promise.resolve(); // one save after the other

export const onChange = (listener) => listeners.add(listener);
const tell = (ids) => listeners.forEach((listener) => listener(ids));
const part = ({ captions, state }) => ({ captions, state });
const same = (a, b) => a.state === b.state && a.captions.join("\n") === b.captions.join("\n");
export const text = (photo) => photo.captions.join("\n");
export const lines = (value) => value.split("\n").map((line) => line.trim().replace(/\s+/g, " ")).filter(Boolean);
export const canUndo = () => done.length > 0;
export const canRedo = () => undone.length > 0;

export class Refused extends Error {}
export class Conflict extends Refused {
  constructor(message, theirs) { super(message); this.theirs = theirs; }
}

async function request(path, values) {
  let response, body;
  try {
    response = await fetch(path, values && {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values),
    });
    body = await response.json();
  } catch {
    throw new Refused("the server does not answer; is `captioner review` still running?");
  }
  if (response.status === 412) throw new Conflict(body.error, body.photos);
  if (!response.ok) throw new Refused(body.error);
  return body;
}

export async function load() {
  const { photos: list, ...rest } = await request("api/photos");
  Object.assign(facts, rest);
  photos.clear();
  for (const photo of list) photos.set(photo.id, photo);
}

export const ask = (path, values) => request(`api/${path}`, values);

function put(list) {
  for (const photo of list) photos.set(photo.id, photo);
  tell(list.map((photo) => photo.id));
}

// Save changes ({id, captions, state}) as one step to undo; all of them or none.
// `settle` is asked about photos that somebody else changed: resolves to true to save ours over theirs.
export function save(changes, settle) {
  const run = waiting.then(() => attempt(changes, settle));
  waiting = run.catch(() => {});
  return run;
}

async function attempt(changes, settle, steps = done) {
  let wanted = changes.filter(({ id, ...after }) => photos.has(id) && !same(photos.get(id), after));
  while (wanted.length) {
    const before = new Map(wanted.map(({ id }) => [id, part(photos.get(id))]));
    const sent = wanted.map((change) => ({ ...change, version: photos.get(change.id).version }));
    try {
      const { photos: list } = await request("api/changes", { changes: sent });
      for (const photo of list) if (text(photo) === lines(drafts.get(photo.id) ?? "").join("\n")) drafts.delete(photo.id);
      put(list);
      steps.push(list.map((photo) => ({ id: photo.id, before: before.get(photo.id), after: part(photo) })));
      if (steps === done) undone.length = 0;
      tell([]);
      return list.length;
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
      const mine = new Map(wanted.map((change) => [change.id, change]));
      const over = await settle(error.theirs.map((theirs) => ({ theirs, mine: mine.get(theirs.id) })));
      if (!over) error.theirs.forEach(({ id }) => drafts.delete(id));
      put(error.theirs);
      const changed = new Set(error.theirs.map(({ id }) => id));
      if (over) continue;
      wanted = wanted.filter(({ id }) => !changed.has(id));
    }
  }
  return 0;
}

async function back(from, to, which, settle) {
  const step = from.pop();
  if (!step) return null;
  const other = which === "before" ? "after" : "before";
  // What somebody else changed since stays as it is.
  const items = step.filter((item) => same(photos.get(item.id), item[other]));
  const moved = [];
  try {
    await attempt(items.map((item) => ({ id: item.id, ...item[which] })), settle, moved);
  } catch (error) {
    from.push(step);
    throw error;
  }
  if (items.length) to.push(items);
  tell([]);
  return { ids: items.map(({ id }) => id), kept: step.length - items.length };
}

const queued = (work) => { const run = waiting.then(work); waiting = run.catch(() => {}); return run; };
export const undo = (settle) => queued(() => back(done, undone, "before", settle));
export const redo = (settle) => queued(() => back(undone, done, "after", settle));

// The order and the filters.
const doubt = (photo) => photo.captions.length === 0 ? 3 : photo.confidence === null ? (photo.doubtful ? 0 : 2) : photo.confidence;
const orders = {
  doubtful: (a, b) => doubt(a) - doubt(b),
  name: () => 0,
  longest: (a, b) => text(b).length - text(a).length,
};
const filters = {
  "": () => true,
  unreviewed: (photo) => !photo.state,
  doubtful: (photo) => photo.doubtful && !photo.state,
  missing: (photo) => photo.captions.length === 0,
};

export function chosen(order, filter, words) {
  const wanted = filters[filter] ?? ((photo) => photo.state === filter);
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...photos.values()].filter((photo) => {
    const all = `${photo.name} ${text(photo)}`.toLowerCase();
    return wanted(photo) && parts.every((word) => all.includes(word));
  });
  return found.sort(orders[order]).map((photo) => photo.id);
}
