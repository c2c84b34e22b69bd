// The viewer's own controls: layouts, tools, window, and the panel of layers.
import { icon } from "./icons";
import { LayersPanel } from "./layers_panel";
import type { Layout } from "./scene";
import type { Tool } from "./state";
import type { Viewer } from "./viewer";

const LAYOUTS: [Layout, string, string][] = [
  ["axial", "Ax", "Axial (1)"], ["coronal", "Cor", "Coronal (2)"], ["sagittal", "Sag", "Sagittal (3)"],
  ["mpr", "MPR", "Three planes and 3D (4)"], ["3d", "3D", "3D (5)"], ["side_by_side", "Split", "Volumes side by side (6)"],
];
const TOOLS: [Tool, string][] = [
  ["crosshair", "Crosshair (C)"], ["window", "Window and level (W, or right button)"], ["pan", "Move (V, or middle button)"],
  ["zoom", "Zoom (Z, or ctrl and wheel)"], ["distance", "Distance (D)"], ["angle", "Angle (A): three clicks"],
  ["brush", "Brush (B)"], ["eraser", "Eraser (E)"],
];

export function button(content: string | Node, title: string, run: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.title = title;
  made.setAttribute("aria-label", title);
  made.append(content);
  made.addEventListener("click", run);
  return made;
}

export class Toolbar {
  readonly bar = document.createElement("div");
  readonly layers: HTMLElement;
  private readonly panel: LayersPanel;
  private readonly layouts = new Map<Layout, HTMLButtonElement>();
  private readonly tools = new Map<Tool, HTMLButtonElement>();
  private readonly toggles: [HTMLButtonElement, () => boolean, (() => boolean)?][] = [];
  private readonly presets = document.createElement("select");
  private readonly volumes = document.createElement("select");
  private readonly rays = document.createElement("select");
  private readonly undo: HTMLButtonElement;
  private readonly save: HTMLButtonElement;
  private readonly radius = document.createElement("input");
  private readonly labels = document.createElement("select");
  private readonly paint = document.createElement("div");
  private readonly clear: HTMLButtonElement;

  constructor(private readonly viewer: Viewer) {
    this.bar.className = "bar";
    this.bar.setAttribute("role", "toolbar");
    this.panel = new LayersPanel(viewer);
    this.layers = this.panel.box;
    this.undo = button(icon("undo"), "Undo painting (Ctrl Z)", () => viewer.undo());
    this.save = button("Save mask", "Save the painted mask", () => void viewer.save());
    this.clear = button(icon("clear"), "Remove measurements (Del)", () => viewer.clearMeasurements());
    this.build();
  }

  private group(...parts: Node[]): HTMLElement {
    const group = document.createElement("div");
    group.className = "group";
    group.append(...parts);
    this.bar.append(group);
    return group;
  }

  private build(): void {
    const { viewer } = this;
    for (const [layout, word, title] of LAYOUTS) this.layouts.set(layout, button(word, title, () => viewer.setLayout(layout)));
    this.group(...this.layouts.values());
    for (const [tool, title] of TOOLS) this.tools.set(tool, button(icon(tool), title, () => this.choose(tool)));
    this.group(...this.tools.values(), this.clear);
    this.select(this.presets, "Window", () => this.takePreset());
    this.select(this.volumes, "Volume in front", () => viewer.setFront(this.volumes.value));
    this.select(this.rays, "3D", () => { viewer.state.rayMode = this.rays.value as typeof viewer.state.rayMode; viewer.redraw(); });
    for (const [value, word] of [["masks", "3D: masks"], ["mip", "3D: MIP"], ["volume", "3D: volume"]]) this.rays.append(new Option(word, value));
    this.group(this.presets, this.volumes, this.rays);
    this.group(
      this.toggle("invert", "Invert (I)", "isInverted"), this.toggle("smooth", "Smooth (S)", "isSmooth"),
      this.toggle("link", "Link volumes in patient space (L)", "isLinked", () => viewer.state.scene.volumes.length > 1),
      this.toggle("play", "Play (space)", "isPlaying", () => viewer.state.phases.length > 1),
      button(icon("reset"), "Reset the view (R)", () => viewer.reset()),
    );
    this.buildPaint();
    const layers = button(icon("layers"), "Masks and map", () => this.panel.toggle());
    this.toggles.push([layers, () => this.panel.isOpen]);
    this.group(layers, button(icon("camera"), "Save a picture", () => viewer.screenshot()), button("?", "Shortcuts (?)", () => viewer.toggleHelp()));
  }

  private buildPaint(): void {
    const { viewer } = this;
    this.select(this.labels, "What the brush paints", () => { viewer.state.brush.label = Number(this.labels.value); });
    Object.assign(this.radius, { type: "range", min: "0.5", max: "30", step: "0.5", title: "Radius of the brush in mm" });
    this.radius.setAttribute("aria-label", "Radius of the brush in mm");
    this.radius.addEventListener("input", () => { viewer.state.brush.radius_mm = Number(this.radius.value); viewer.tell(`Brush: ${this.radius.value} mm`); });
    this.paint.className = "group";
    this.paint.append(this.labels, this.radius, this.undo, this.save);
    this.bar.append(this.paint);
  }

  private select(box: HTMLSelectElement, title: string, run: () => void): void {
    box.title = title;
    box.setAttribute("aria-label", title);
    box.addEventListener("change", () => { run(); box.blur(); });
  }

  private toggle(name: string, title: string, field: "isInverted" | "isSmooth" | "isLinked" | "isPlaying", isUseful?: () => boolean): HTMLButtonElement {
    const { viewer } = this;
    const made = button(icon(name), title, () => { viewer.state[field] = !viewer.state[field]; viewer.show(); });
    this.toggles.push([made, () => viewer.state[field], isUseful]);
    return made;
  }

  private choose(tool: Tool): void {
    this.viewer.state.tool = tool;
    this.viewer.draft = null;
    this.update();
    this.viewer.redraw();
  }

  private takePreset(): void {
    const { viewer } = this;
    const volume = viewer.state.frontVolume;
    const image = viewer.study.image(volume);
    const [kind, value] = this.presets.value.split(":");
    if (kind === "preset") { const { low, high } = volume.presets[Number(value)]; viewer.setWindow([low, high]); }
    else if (kind === "percent" && image) viewer.setWindow(image.percentiles(Number(value), 100 - Number(value)));
    viewer.settled();
  }

  update(): void {
    const { state, drawing, painting } = this.viewer;
    for (const [layout, made] of this.layouts) made.setAttribute("aria-pressed", String(state.layout === layout));
    this.layouts.get("side_by_side")!.hidden = state.scene.volumes.length < 2;
    this.layouts.get("3d")!.disabled = !drawing.is3d;
    const canPaint = drawing.is3d && state.frontVolume.save_url !== null && state.segments.length > 0;
    for (const [tool, made] of this.tools) {
      made.setAttribute("aria-pressed", String(state.tool === tool));
      made.hidden = (tool === "brush" || tool === "eraser") && !canPaint;
    }
    for (const [made, isOn, isUseful] of this.toggles) {
      made.setAttribute("aria-pressed", String(isOn()));
      made.hidden = isUseful ? !isUseful() : false;
    }
    this.clear.hidden = state.measurements.length === 0;
    this.rays.hidden = !drawing.is3d || (state.layout !== "mpr" && state.layout !== "3d");
    this.rays.value = state.rayMode;
    this.paint.hidden = !canPaint || (state.tool !== "brush" && state.tool !== "eraser" && !painting.canUndo);
    this.undo.disabled = !painting.canUndo;
    this.radius.value = String(state.brush.radius_mm);
    this.fillPresets();
    this.fill(this.volumes, state.scene.volumes.map((v) => [v.id, v.title || v.id]), state.front);
    this.volumes.hidden = state.scene.volumes.length < 2;
    this.fill(this.labels, state.segments.map((s) => [String(s.label), s.name.replaceAll("_", " ")]), String(state.brush.label));
    this.panel.update();
  }

  private fillPresets(): void {
    const { state } = this.viewer;
    const volume = state.frontVolume;
    const [low, high] = this.viewer.windowOf(volume);
    const options: [string, string][] = [["", "Window"], ...volume.presets.map((p, i): [string, string] => [`preset:${i}`, p.name])];
    if (volume.modality !== "CT") options.push(["percent:1", "1–99 %"], ["percent:5", "5–95 %"], ["percent:0", "full range"]);
    const at = volume.presets.findIndex((p) => p.low === low && p.high === high);
    this.fill(this.presets, options, at >= 0 ? `preset:${at}` : "");
  }

  private fill(box: HTMLSelectElement, options: [string, string][], chosen: string): void {
    const key = JSON.stringify(options);
    if (box.dataset.key !== key) {
      box.replaceChildren(...options.map(([value, word]) => new Option(word, value)));
      box.dataset.key = key;
    }
    box.value = chosen;
  }
}
