// Keyboard shortcuts: one table for what they do and for the list on "?".
import type { Layout } from "./scene";
import type { Tool } from "./state";
import type { Viewer } from "./viewer";

interface Shortcut { keys: string[]; shown: string; does: string; run: (viewer: Viewer) => void }

const layout = (to: Layout) => (viewer: Viewer) => viewer.setLayout(to);
const page = (action: "next_case" | "previous_case") => (viewer: Viewer) => viewer.send({ kind: "key", action });

function tool(to: Tool) {
  return (viewer: Viewer): void => {
    if ((to === "brush" || to === "eraser") && !viewer.state.frontVolume.save_url) return viewer.tell("This mask cannot be painted on here.");
    viewer.state.tool = to;
    viewer.draft = null;
    viewer.refreshControls();
    viewer.redraw();
  };
}

function toggle(field: "isInverted" | "isSmooth" | "showMasks" | "showMap" | "isPlaying" | "isLinked") {
  return (viewer: Viewer): void => {
    viewer.state[field] = !viewer.state[field];
    viewer.show();
  };
}

function slices(by: number) {
  return (viewer: Viewer): void => {
    const shown = viewer.active ?? viewer.shown.find((s) => !s.panel.ray);
    if (shown) viewer.scroll(shown, by);
  };
}

function preset(number: number) {
  return (viewer: Viewer): void => {
    const found = viewer.state.frontVolume.presets[number];
    if (!found) return;
    viewer.setWindow([found.low, found.high]);
    viewer.settled();
  };
}

export const SHORTCUTS: Shortcut[] = [
  { keys: ["1"], shown: "1", does: "axial", run: layout("axial") },
  { keys: ["2"], shown: "2", does: "coronal", run: layout("coronal") },
  { keys: ["3"], shown: "3", does: "sagittal", run: layout("sagittal") },
  { keys: ["4"], shown: "4", does: "three planes and 3D", run: layout("mpr") },
  { keys: ["5"], shown: "5", does: "3D", run: layout("3d") },
  { keys: ["6"], shown: "6", does: "volumes side by side", run: layout("side_by_side") },
  { keys: ["ArrowUp"], shown: "↑", does: "next slice", run: slices(1) },
  { keys: ["ArrowDown"], shown: "↓", does: "previous slice", run: slices(-1) },
  { keys: ["c"], shown: "C", does: "crosshair", run: tool("crosshair") },
  { keys: ["w"], shown: "W", does: "window and level (or right button)", run: tool("window") },
  { keys: ["v"], shown: "V", does: "move (or middle button, or shift)", run: tool("pan") },
  { keys: ["z"], shown: "Z", does: "zoom (or ctrl and wheel)", run: tool("zoom") },
  { keys: ["d"], shown: "D", does: "distance", run: tool("distance") },
  { keys: ["a"], shown: "A", does: "angle", run: tool("angle") },
  { keys: ["b"], shown: "B", does: "brush", run: tool("brush") },
  { keys: ["e"], shown: "E", does: "eraser", run: tool("eraser") },
  { keys: ["ctrl+z", "meta+z"], shown: "Ctrl Z", does: "undo painting", run: (viewer) => viewer.undo() },
  { keys: ["Delete"], shown: "Del", does: "remove measurements", run: (viewer) => viewer.clearMeasurements() },
  { keys: ["i"], shown: "I", does: "invert", run: toggle("isInverted") },
  { keys: ["s"], shown: "S", does: "smooth on and off", run: toggle("isSmooth") },
  { keys: ["h"], shown: "H", does: "hide or show masks", run: toggle("showMasks") },
  { keys: ["m"], shown: "M", does: "hide or show the map", run: toggle("showMap") },
  { keys: ["l"], shown: "L", does: "link volumes", run: toggle("isLinked") },
  { keys: [" "], shown: "Space", does: "play a cine", run: toggle("isPlaying") },
  { keys: ["r"], shown: "R", does: "reset the view", run: (viewer) => viewer.reset() },
  ...[0, 1, 2, 3, 4].map((n) => ({ keys: [`shift+Digit${n + 1}`], shown: n ? "" : "Shift 1–5", does: n ? "" : "window presets", run: preset(n) })),
  { keys: ["n", "PageDown"], shown: "N", does: "next case", run: page("next_case") },
  { keys: ["p", "PageUp"], shown: "P", does: "previous case", run: page("previous_case") },
  { keys: ["f"], shown: "F", does: "next finding", run: (viewer) => viewer.stepFinding(1) },
  { keys: ["shift+KeyF"], shown: "Shift F", does: "previous finding", run: (viewer) => viewer.stepFinding(-1) },
  { keys: ["?", "Escape"], shown: "?", does: "this list", run: (viewer) => viewer.toggleHelp() },
];

/** Keys that lead to another case, those of the page among them. */
const LEAVING = ["n", "PageDown", "p", "PageUp", "shift+KeyS"];

/** A reader who types a comment means letters, not tools. */
function isTyping(event: KeyboardEvent): boolean {
  const target = event.composedPath()[0];
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !/^(button|checkbox|color|radio|range)$/.test(target.type);
  return target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName);
}

function name(event: KeyboardEvent): string {
  if (event.ctrlKey) return `ctrl+${event.key.toLowerCase()}`;
  if (event.metaKey) return `meta+${event.key.toLowerCase()}`;
  if (event.shiftKey && /^(Digit|Key)/.test(event.code)) return `shift+${event.code}`;
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

export function handleKey(viewer: Viewer, event: KeyboardEvent): void {
  if (event.altKey || isTyping(event) || !viewer.host.isConnected || document.querySelector('[role="dialog"]')) return;
  const wanted = name(event);
  const isOpen = viewer.stage.querySelector(".help") !== null;
  if (wanted === "Escape" && !isOpen) return;
  // Arrows, space and delete belong to the page unless the viewer has the focus or the mouse.
  const isOurs = viewer.active !== null || viewer.host.contains(viewer.host.getRootNode() instanceof ShadowRoot ? (viewer.host.getRootNode() as ShadowRoot).activeElement : document.activeElement);
  if (/^(Arrow|Page| $|Delete)/.test(wanted) && !isOurs) return;
  // With ctrl or meta, a letter is the browser's: printing is no way to the previous case.
  const names = event.ctrlKey || event.metaKey ? [wanted] : [wanted, event.key];
  const found = SHORTCUTS.find((s) => s.keys.some((key) => names.includes(key)));
  const mayGo = !names.some((key) => LEAVING.includes(key)) || viewer.mayLeave();
  if (!found && mayGo) return;
  event.preventDefault();
  event.stopPropagation(); // Streamlit has shortcuts of its own
  if (mayGo) found?.run(viewer);
}
