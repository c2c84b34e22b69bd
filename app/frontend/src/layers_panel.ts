// Masks and map: what is visible, in which colour, how opaque.
import { SCALES } from "./colours";
import type { ActivationMap, Segment } from "./scene";
import type { Viewer } from "./viewer";

function slider(title: string, value: number, change: (value: number) => void): HTMLInputElement {
  const made = document.createElement("input");
  Object.assign(made, { type: "range", min: "0", max: "1", step: "0.05", value: String(value), title });
  made.setAttribute("aria-label", title);
  made.addEventListener("input", () => change(Number(made.value)));
  return made;
}

function check(title: string, value: boolean, change: (value: boolean) => void): HTMLInputElement {
  const made = document.createElement("input");
  Object.assign(made, { type: "checkbox", checked: value, title });
  made.setAttribute("aria-label", title);
  made.addEventListener("change", () => change(made.checked));
  return made;
}

export class LayersPanel {
  readonly box = document.createElement("div");
  private key = "";

  constructor(private readonly viewer: Viewer) {
    this.box.className = "layers";
    this.box.hidden = true;
  }

  get isOpen(): boolean {
    return !this.box.hidden;
  }

  toggle(): void {
    this.box.hidden = !this.box.hidden;
    this.viewer.refreshControls();
  }

  /** Built again only where something else than the moved control has changed. */
  update(): void {
    const { segments, activation, finding, showMasks, showMap } = this.viewer.state;
    const key = JSON.stringify([segments, activation, finding, showMasks, showMap]);
    if (this.box.hidden || key === this.key || this.box.contains((this.box.getRootNode() as ShadowRoot | Document).activeElement)) return;
    this.key = key;
    this.box.replaceChildren(this.masks(segments), ...(activation ? [this.map(activation)] : []));
  }

  private masks(segments: Segment[]): HTMLElement {
    const { state } = this.viewer;
    const part = document.createElement("section");
    part.append(this.heading("Masks", state.showMasks, (on) => { state.showMasks = on; }));
    for (const segment of segments) part.append(this.row(segment));
    if (segments.length) {
      const all = document.createElement("div");
      all.className = "row";
      const change = (to: Partial<Segment>) => { state.segments = state.segments.map((s) => ({ ...s, ...to })); this.rebuild(); };
      const fill = document.createElement("button");
      const outline = document.createElement("button");
      [fill.textContent, outline.textContent] = ["all filled", "all outlines"];
      fill.addEventListener("click", () => change({ is_outline: false }));
      outline.addEventListener("click", () => change({ is_outline: true }));
      all.append(fill, outline);
      part.append(all);
    }
    return part;
  }

  private rebuild(): void {
    this.key = "";
    (this.box.getRootNode() as ShadowRoot | Document).activeElement instanceof HTMLElement
      && ((this.box.getRootNode() as ShadowRoot | Document).activeElement as HTMLElement).blur();
    this.update();
    this.viewer.redraw();
  }

  private heading(words: string, isOn: boolean, change: (on: boolean) => void): HTMLElement {
    const line = document.createElement("label");
    line.className = "heading";
    line.append(check(`Show ${words.toLowerCase()}`, isOn, (on) => { change(on); this.viewer.redraw(); }), words);
    return line;
  }

  private row(segment: Segment): HTMLElement {
    const { state } = this.viewer;
    const change = (to: Partial<Segment>) => {
      state.segments = state.segments.map((s) => (s.label === segment.label ? { ...s, ...to } : s));
      this.viewer.redraw();
    };
    const row = document.createElement("div");
    row.className = "row";
    row.dataset.label = String(segment.label);
    const name = segment.name.replaceAll("_", " ");
    const colour = document.createElement("input");
    Object.assign(colour, { type: "color", value: segment.colour, title: `Colour of ${name}` });
    colour.addEventListener("input", () => change({ colour: colour.value }));
    const words = document.createElement("span");
    words.textContent = name;
    words.title = name;
    const outline = check(`Outline of ${name}`, segment.is_outline, (is_outline) => change({ is_outline }));
    outline.className = "outline";
    row.append(
      check(`Show ${name}`, segment.is_visible, (is_visible) => change({ is_visible })), colour, words,
      slider(`Opacity of ${name}`, segment.opacity, (opacity) => change({ opacity })), outline,
    );
    return row;
  }

  private map(activation: ActivationMap): HTMLElement {
    const { state } = this.viewer;
    const change = (to: Partial<ActivationMap>) => { state.activation = { ...state.activation!, ...to }; this.viewer.redraw(); };
    const part = document.createElement("section");
    part.append(this.heading(`Map: ${state.chosen!.title}`, state.showMap, (on) => { state.showMap = on; }));
    const line = (words: string, control: HTMLElement) => {
      const row = document.createElement("label");
      row.className = "row";
      const text = document.createElement("span");
      text.textContent = words;
      row.append(text, control);
      part.append(row);
    };
    line("Opacity", slider("Opacity of the map", activation.opacity, (opacity) => change({ opacity })));
    line("Threshold", slider("Threshold of the map, share of its largest value", activation.threshold, (threshold) => change({ threshold })));
    const scales = document.createElement("select");
    scales.append(...SCALES.map((name) => new Option(name, name)));
    scales.value = activation.colours;
    scales.setAttribute("aria-label", "Colours of the map");
    scales.addEventListener("change", () => change({ colours: scales.value }));
    line("Colours", scales);
    const caution = document.createElement("p");
    caution.textContent = "A map shows what the network attended to. It is no proof of a location.";
    part.append(caution);
    return part;
  }
}
