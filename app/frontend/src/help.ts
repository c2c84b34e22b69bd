// The list of shortcuts, on "?".
import { SHORTCUTS } from "./keys";

/** Ours, then those that the page answers. */
export function help(pageKeys: [string, string][]): HTMLElement {
  const box = document.createElement("div");
  box.className = "help";
  box.setAttribute("role", "note");
  const list = document.createElement("dl");
  const ours = SHORTCUTS.filter((s) => s.shown).map(({ shown, does }): [string, string] => [shown, does]);
  for (const [shown, does] of [...ours.slice(0, -1), ...pageKeys, ...ours.slice(-1)]) {
    const [key, what] = [document.createElement("dt"), document.createElement("dd")];
    key.textContent = shown;
    what.textContent = does;
    const row = document.createElement("div");
    row.append(key, what);
    list.append(row);
  }
  const note = document.createElement("p");
  note.textContent = "Radiological convention: the patient's right is on the left of the picture. Wheel: slices. Double click: one plane or all.";
  box.append(list, note);
  box.addEventListener("click", () => box.remove());
  return box;
}
