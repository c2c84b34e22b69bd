// The list of shortcuts, on "?".
import { SHORTCUTS } from "./keys";

export function help(): HTMLElement {
  const box = document.createElement("div");
  box.className = "help";
  box.setAttribute("role", "note");
  const list = document.createElement("dl");
  for (const { shown, does } of SHORTCUTS.filter((s) => s.shown)) {
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
