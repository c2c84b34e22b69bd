// Mouse, pen and wheel over the pictures.
import { add, dot, length, scale, sub } from "./math";
import type { Shown } from "./overlay";
import { toPoint } from "./plane";
import type { Range, Vec3 } from "./scene";
import type { Tool } from "./state";
import type { Viewer } from "./viewer";

type Action = Tool | "turn";
interface Drag { action: Action; shown: Shown; x: number; y: number; window: Range; last: Vec3 }

const SMALLEST_MM = 0.5; // a shorter distance is a click

export class Pointer {
  private drag: Drag | null = null;
  private wheel = 0;
  private asked: AbortController | null = null;

  constructor(private readonly viewer: Viewer) {
    const { canvas } = viewer.overlay;
    canvas.addEventListener("pointerdown", this.down);
    canvas.addEventListener("pointermove", this.move);
    canvas.addEventListener("pointerup", this.up);
    canvas.addEventListener("pointercancel", this.up);
    canvas.addEventListener("pointerleave", this.leave);
    canvas.addEventListener("wheel", this.turnWheel, { passive: false });
    canvas.addEventListener("dblclick", this.enlarge);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Device pixels of the stage. */
  private place(event: MouseEvent): { x: number; y: number } {
    const box = this.viewer.stage.getBoundingClientRect();
    const ratio = this.viewer.overlay.canvas.width / Math.max(box.width, 1);
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  }

  private under(event: MouseEvent): Shown | null {
    const { x, y } = this.place(event);
    return this.viewer.shown.find(({ panel: p }) => x >= p.x && y >= p.y && x < p.x + p.width && y < p.y + p.height) ?? null;
  }

  private pointAt(shown: Shown, event: MouseEvent): Vec3 {
    const { x, y } = this.place(event);
    return toPoint(shown.panel.picture, x - shown.panel.x - 0.5, y - shown.panel.y - 0.5);
  }

  private actionOf(event: PointerEvent, shown: Shown): Action {
    if (event.button === 1 || event.shiftKey) return "pan";
    if (event.button === 2) return "window";
    if (event.ctrlKey) return "zoom";
    return shown.panel.ray ? "turn" : this.viewer.state.tool;
  }

  private readonly down = (event: PointerEvent): void => {
    const { viewer } = this;
    const shown = this.under(event);
    viewer.host.focus({ preventScroll: true });
    if (!shown) return;
    event.preventDefault();
    viewer.overlay.canvas.setPointerCapture(event.pointerId);
    viewer.active = shown;
    const action = this.actionOf(event, shown);
    const point = this.pointAt(shown, event);
    const { volume } = shown.panel;
    this.drag = { action, shown, ...this.place(event), window: viewer.windowOf(volume), last: point };
    if (action === "crosshair") viewer.moveCrosshair(point, volume);
    if (action === "distance") viewer.draft = { kind: "distance", points: [point, point], volume: volume.id };
    if (action === "angle") this.clickAngle(shown, point);
    if (action === "brush" || action === "eraser") this.startPainting(shown, point);
    viewer.redraw();
  };

  private startPainting(shown: Shown, point: Vec3): void {
    const { painting, state } = this.viewer;
    if (!shown.panel.volume.save_url || !painting.begin(shown.panel.volume)) {
      this.viewer.tell("This mask cannot be painted on here.");
      this.drag = null;
      return;
    }
    painting.disc(point, shown.normal, state.tool === "eraser" ? 0 : state.brush.label, state.brush.radius_mm);
  }

  /** Three clicks: an end, the corner, the other end. */
  private clickAngle(shown: Shown, point: Vec3): void {
    const { viewer } = this;
    const draft = viewer.draft?.kind === "angle" && viewer.draft.volume === shown.panel.volume.id ? viewer.draft : null;
    const fixed = draft ? [...draft.points.slice(0, -1), point] : [point];
    if (fixed.length === 3) {
      viewer.draft = null;
      viewer.addMeasurement({ kind: "angle", points: fixed, volume: shown.panel.volume.id });
    } else viewer.draft = { kind: "angle", points: [...fixed, point], volume: shown.panel.volume.id };
  }

  private readonly move = (event: PointerEvent): void => {
    const { viewer, drag } = this;
    if (!drag) return this.hover(event);
    const { shown } = drag;
    const now = this.place(event);
    const [dx, dy] = [now.x - drag.x, now.y - drag.y];
    const point = this.pointAt(shown, event);
    const { volume, picture } = shown.panel;
    switch (drag.action) {
      case "crosshair": viewer.moveCrosshair(point, volume); break;
      case "window": this.dragWindow(drag, dx, dy); break;
      case "zoom": this.zoom(Math.exp(-(now.y - drag.y) / 200)); Object.assign(drag, now); break;
      case "pan": {
        const by = add(scale(picture.right, dx), scale(picture.down, dy));
        this.pan(shown, by);
        Object.assign(drag, now);
        break;
      }
      case "turn": {
        const { turn } = viewer.state;
        turn.azimuth -= dx * 0.008;
        turn.elevation = Math.max(-1.5, Math.min(1.5, turn.elevation + dy * 0.008));
        Object.assign(drag, now);
        break;
      }
      case "distance": if (viewer.draft) viewer.draft.points[1] = point; break;
      case "brush":
      case "eraser": {
        const { state, painting } = viewer;
        painting.line(drag.last, point, shown.normal, drag.action === "eraser" ? 0 : state.brush.label, state.brush.radius_mm);
        drag.last = point;
        viewer.brushAt = { at: point, shown };
        break;
      }
    }
    this.say(shown, point);
    viewer.redraw();
  };

  private pan(shown: Shown, by: Vec3): void {
    const { viewer } = this;
    const { volume, picture } = shown.panel;
    const middle = toPoint(picture, (picture.width - 1) / 2, (picture.height - 1) / 2);
    const focus = viewer.state.focuses.get(volume.id) ?? middle;
    viewer.state.moveFocus(sub(focus, by), volume.id);
    viewer.redraw();
  }

  /** Right widens, up brightens: as the older workstations do. */
  private dragWindow(drag: Drag, dx: number, dy: number): void {
    const { viewer } = this;
    const { volume } = drag.shown.panel;
    const [low, high] = drag.window;
    const spread = viewer.study.image(volume)?.percentiles(1, 99) ?? [low, high];
    const pixel = Math.max(spread[1] - spread[0], high - low) / 500;
    const width = Math.max(pixel, high - low + dx * pixel);
    const centre = (low + high) / 2 + dy * pixel;
    viewer.setWindow([centre - width / 2, centre + width / 2], volume);
  }

  zoom(factor: number): void {
    const { viewer } = this;
    viewer.state.zoom = Math.min(40, Math.max(0.3, viewer.state.zoom * factor));
    viewer.redraw();
  }

  private readonly up = (event: PointerEvent): void => {
    const { viewer, drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.action === "brush" || drag.action === "eraser") {
      viewer.painting.end();
      viewer.refreshControls();
    }
    if (event.type === "pointercancel") return;
    if (drag.action === "distance" && viewer.draft) {
      const { draft } = viewer;
      viewer.draft = null;
      if (length(sub(draft.points[0], draft.points[1])) >= SMALLEST_MM) viewer.addMeasurement(draft);
    }
    if (drag.action === "crosshair" || drag.action === "window") viewer.settled();
    viewer.redraw();
  };

  private hover(event: PointerEvent): void {
    const { viewer } = this;
    const shown = this.under(event);
    if (!shown) return;
    const isOther = viewer.active?.panel.x !== shown.panel.x || viewer.active.panel.y !== shown.panel.y;
    viewer.active = shown;
    const point = this.pointAt(shown, event);
    const isPainting = viewer.state.tool === "brush" || viewer.state.tool === "eraser";
    viewer.brushAt = isPainting && !shown.panel.ray ? { at: point, shown } : null;
    viewer.overlay.canvas.style.cursor = shown.panel.ray ? "grab" : CURSORS[viewer.state.tool];
    const isAngle = viewer.draft?.kind === "angle";
    if (isAngle) viewer.draft!.points[viewer.draft!.points.length - 1] = point;
    this.say(shown, point);
    if (isOther || isPainting || isAngle) viewer.redraw();
  }

  /** Place, intensity and structure under the cursor. */
  private say(shown: Shown, point: Vec3): void {
    const { viewer } = this;
    const { volume } = shown.panel;
    if (shown.panel.ray) return viewer.tell("Drag to turn");
    const value = viewer.study.image(volume)?.valueAt(point) ?? null;
    const label = viewer.study.labelAt(volume, point);
    if (!viewer.drawing.is3d) void this.askValue(shown, point);
    else viewer.tell(this.sentence(shown, point, value, label));
  }

  private sentence(shown: Shown, point: Vec3, value: number | null, label: number): string {
    const { volume } = shown.panel;
    const [x, y, z] = point;
    const place = [[x, "L", "R"], [y, "P", "A"], [z, "S", "I"]]
      .map(([mm, plus, minus]) => `${(mm as number) >= 0 ? plus : minus} ${Math.abs(mm as number).toFixed(0)}`).join("  ");
    const words = [`${place} mm`];
    if (value !== null) words.push(`${Number.isInteger(value) ? value : value.toPrecision(4)} ${volume.unit || ""}`.trim());
    const name = this.viewer.state.segments.find((s) => s.label === label)?.name;
    if (label > 0) words.push((name ?? `label ${label}`).replaceAll("_", " "));
    return words.join("   ·   ");
  }

  /** Without WebGL2 the voxels are on the server. */
  private async askValue(shown: Shown, point: Vec3): Promise<void> {
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    const url = new URL(`${shown.panel.volume.slices_url}/value`, document.baseURI);
    ["x", "y", "z"].forEach((axis, i) => url.searchParams.set(axis, point[i].toFixed(3)));
    try {
      const { value, label } = (await (await fetch(url, { signal: asked.signal })).json()) as { value: number | null; label: number };
      this.viewer.tell(this.sentence(shown, point, value, label));
    } catch {
      // a newer question took its place, or the page is closing
    }
  }

  private readonly leave = (): void => {
    const { viewer } = this;
    if (this.drag) return;
    viewer.active = viewer.brushAt = null;
    viewer.tell("");
    viewer.redraw();
  };

  private readonly turnWheel = (event: WheelEvent): void => {
    const shown = this.under(event);
    if (!shown) return;
    event.preventDefault();
    if (event.ctrlKey || shown.panel.ray) return this.zoom(Math.exp(-event.deltaY / 500));
    // A mouse gives 100 or 120 a notch, a touch pad many small steps.
    this.wheel += event.deltaMode === 1 ? event.deltaY * 33 : event.deltaY;
    const slices = Math.trunc(this.wheel / 60);
    if (slices === 0) return;
    this.wheel = 0;
    this.viewer.scroll(shown, Math.sign(slices) * Math.min(5, Math.abs(slices) > 2 ? Math.abs(slices) - 1 : 1) * towardsFeet(shown));
  };

  private readonly enlarge = (event: MouseEvent): void => {
    const { viewer } = this;
    const shown = this.under(event);
    if (!shown) return;
    const isAlone = viewer.shown.length === 1;
    viewer.setLayout(isAlone ? "mpr" : shown.plane);
  };

  release(): void {
    this.asked?.abort();
  }
}

/** The wheel towards the reader goes to the feet, the front or the left, as in a stack of films. */
function towardsFeet(shown: Shown): number {
  return dot(shown.normal, [0, 0, 1]) > 0.5 ? -1 : 1;
}

const CURSORS: Record<Tool, string> = {
  crosshair: "crosshair", window: "ns-resize", pan: "grab", zoom: "zoom-in", distance: "crosshair", angle: "crosshair", brush: "none", eraser: "none",
};
