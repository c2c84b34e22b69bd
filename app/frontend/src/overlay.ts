// What lies over the pictures: letters, scale bar, crosshair, measurements, colour bar, words.
import { scaleTable } from "./colours";
import type { DrawnPanel } from "./drawing";
import { dot, length, scale, sub, unit } from "./math";
import { letters, stepAlong, toPixel, type PlaneName } from "./plane";
import type { Vec3 } from "./scene";
import type { Measurement, State } from "./state";
import type { Grid } from "./volume";

export interface Shown {
  panel: DrawnPanel;
  plane: PlaneName | "3d";
  grid: Grid | undefined;
  normal: Vec3;
  slice: { number: number; count: number };
}

const INK = "#f4f4f4";
const CROSS = "#56b4e9";
const MEASURE = "#f0e442";
const ACTIVE = "#e69f00";

export function angleAt(points: Vec3[]): number {
  const [a, b] = [unit(sub(points[0], points[1])), unit(sub(points[2], points[1]))];
  return (Math.acos(Math.min(1, Math.max(-1, dot(a, b)))) * 180) / Math.PI;
}

export function valueOf(m: Measurement): number {
  return m.kind === "distance" ? length(sub(m.points[0], m.points[1])) : angleAt(m.points);
}

export class Overlay {
  readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d")!;
  private ratio = 1;

  draw(all: Shown[], state: State, ratio: number, active: Shown | null, draft: Measurement | null, brush: { at: Vec3; shown: Shown } | null): void {
    const { context, canvas } = this;
    this.ratio = ratio;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    for (const shown of all) {
      const { x, y, width, height } = shown.panel;
      context.save();
      context.beginPath();
      context.rect(x, y, width, height);
      context.clip();
      context.translate(x, y);
      this.letters(shown);
      this.corners(shown, state);
      if (!shown.panel.ray && shown.grid) {
        this.scaleBar(shown);
        this.crosshair(shown, state);
        for (const m of [...state.measurements, ...(draft ? [draft] : [])]) this.measurement(shown, m);
        if (brush?.shown === shown) this.brush(shown, brush.at, state);
      }
      context.restore();
    }
    this.colourBar(all);
    if (active && all.length > 1) this.frame(active);
  }

  private text(words: string, x: number, y: number, align: CanvasTextAlign, colour = INK): void {
    const { context } = this;
    context.textAlign = align;
    context.lineWidth = 3 * this.ratio;
    context.strokeStyle = "rgba(0, 0, 0, 0.85)";
    context.lineJoin = "round";
    context.strokeText(words, x, y);
    context.fillStyle = colour;
    context.fillText(words, x, y);
  }

  private letters({ panel }: Shown): void {
    const { context, ratio } = this;
    const { width, height, picture } = panel;
    const [right, down] = [unit(picture.right), unit(picture.down)];
    context.save();
    context.font = `600 ${14 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    this.text(letters(right), width - 6 * ratio, height / 2, "right");
    this.text(letters(scale(right, -1)), 6 * ratio, height / 2, "left");
    this.text(letters(scale(down, -1)), width / 2, 12 * ratio, "center");
    this.text(letters(down), width / 2, height - 12 * ratio, "center");
    context.restore();
  }

  private corners(shown: Shown, state: State): void {
    const { ratio } = this;
    const { panel, plane, slice } = shown;
    const [low, high] = panel.look.window;
    const line = 16 * ratio;
    const title = panel.volume.title ? `${panel.volume.title} · ` : "";
    const isOblique = plane !== "3d" && letters(shown.normal).length > 1;
    this.text(`${title}${plane === "3d" ? `3D ${state.rayMode === "mip" ? "MIP" : state.rayMode}` : plane}${isOblique ? ", oblique" : ""}`, 8 * ratio, line, "left");
    if (plane === "3d") return;
    this.text(`${slice.number} / ${slice.count}`, panel.width - 8 * ratio, line, "right");
    const round = (value: number) => (Math.abs(high - low) < 10 ? value.toPrecision(3) : value.toFixed(0));
    const unitName = panel.volume.unit ? ` ${panel.volume.unit}` : "";
    this.text(`C ${round((low + high) / 2)} W ${round(high - low)}${unitName}`, panel.width - 8 * ratio, panel.height - 8 * ratio, "right");
  }

  /** A round length that takes about a quarter of the panel. */
  private scaleBar({ panel }: Shown): void {
    const { context, ratio } = this;
    const mmPerPx = length(panel.picture.right);
    const wanted = (panel.width / 4) * mmPerPx;
    const power = 10 ** Math.floor(Math.log10(wanted));
    const mm = [5, 2, 1].map((step) => step * power).find((value) => value <= wanted) ?? power;
    const px = mm / mmPerPx;
    const [x, y] = [10 * ratio, panel.height - 12 * ratio];
    for (const [style, thickness] of [["rgba(0,0,0,0.8)", 4], [INK, 1.5]] as const) {
      context.strokeStyle = style;
      context.lineWidth = thickness * ratio;
      context.beginPath();
      context.moveTo(x, y - 4 * ratio); context.lineTo(x, y); context.lineTo(x + px, y); context.lineTo(x + px, y - 4 * ratio);
      context.stroke();
    }
    this.text(mm >= 10 ? `${mm / 10} cm` : `${mm} mm`, x + px / 2, y - 7 * ratio, "center");
  }

  private crosshair({ panel }: Shown, state: State): void {
    const { context, ratio } = this;
    const point = state.crosshairs.get(panel.volume.id);
    if (!point) return;
    const [x, y] = toPixel(panel.picture, point);
    const gap = 12 * ratio; // what is looked at stays free
    context.strokeStyle = CROSS;
    context.globalAlpha = 0.75;
    context.lineWidth = ratio;
    context.beginPath();
    for (const [from, to] of [[0, x - gap], [x + gap, panel.width]]) { context.moveTo(from, y + 0.5); context.lineTo(to, y + 0.5); }
    for (const [from, to] of [[0, y - gap], [y + gap, panel.height]]) { context.moveTo(x + 0.5, from); context.lineTo(x + 0.5, to); }
    context.stroke();
    context.globalAlpha = 1;
  }

  private measurement(shown: Shown, m: Measurement): void {
    const { context, ratio } = this;
    const { panel, normal, grid } = shown;
    if (m.volume !== panel.volume.id || m.points.length < 2) return;
    const step = grid ? stepAlong(grid, normal) : 1;
    const onPlane = (point: Vec3) => Math.abs(dot(sub(point, panel.picture.origin), normal)) <= step / 2 + 1e-3;
    if (!m.points.every(onPlane)) return;
    const pixels = m.points.map((point) => toPixel(panel.picture, point));
    for (const [style, thickness] of [["rgba(0,0,0,0.7)", 4], [MEASURE, 1.8]] as const) {
      context.strokeStyle = style;
      context.lineWidth = thickness * ratio;
      context.beginPath();
      pixels.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
    }
    context.fillStyle = MEASURE;
    for (const [x, y] of pixels) { context.beginPath(); context.arc(x, y, 3 * ratio, 0, 7); context.fill(); }
    if (m.kind === "angle" && pixels.length < 3) return;
    const [x, y] = pixels[1];
    this.text(m.kind === "distance" ? `${valueOf(m).toFixed(1)} mm` : `${valueOf(m).toFixed(1)}°`, x + 8 * ratio, y - 8 * ratio, "left", MEASURE);
  }

  private brush({ panel }: Shown, at: Vec3, state: State): void {
    const { context, ratio } = this;
    const [x, y] = toPixel(panel.picture, at);
    context.strokeStyle = state.tool === "eraser" ? INK : state.segments.find((s) => s.label === state.brush.label)?.colour ?? INK;
    context.lineWidth = 1.5 * ratio;
    context.beginPath();
    context.arc(x, y, state.brush.radius_mm / length(panel.picture.right), 0, 7);
    context.stroke();
  }

  private colourBar(all: Shown[]): void {
    const shown = all.find((s) => !s.panel.ray && s.panel.look.map);
    const map = shown?.panel.look.map;
    if (!shown || !map) return;
    const { context, ratio } = this;
    const below = 50 * ratio; // the number of the slice and the finding's name; then, half way, a letter
    const [width, height] = [10 * ratio, Math.max(20 * ratio, Math.min(110 * ratio, shown.panel.height / 2 - below - 22 * ratio))];
    const x = shown.panel.x + shown.panel.width - width - 34 * ratio;
    const y = shown.panel.y + below;
    const table = scaleTable(map.colours);
    for (let row = 0; row < height; row++) {
      const share = 1 - row / height;
      const value = map.low + share * (map.high - map.low);
      const at = 4 * Math.round(share * 255);
      context.fillStyle = value >= map.threshold ? `rgb(${table[at]},${table[at + 1]},${table[at + 2]})` : "rgba(60,60,60,0.8)";
      context.fillRect(x, y + row, width, 1.5);
    }
    context.strokeStyle = "rgba(255,255,255,0.6)";
    context.lineWidth = ratio;
    context.strokeRect(x, y, width, height);
    context.textBaseline = "middle";
    this.text(map.high.toFixed(1), x + width + 4 * ratio, y, "left");
    this.text(map.low.toFixed(1), x + width + 4 * ratio, y + height, "left");
    const mark = y + height * (1 - (map.threshold - map.low) / Math.max(map.high - map.low, 1e-6));
    if (mark > y + 10 * ratio && mark < y + height - 10 * ratio) this.text(map.threshold.toFixed(2), x + width + 4 * ratio, mark, "left");
    context.textBaseline = "alphabetic";
    this.text(map.finding.replaceAll("_", " "), x + width + 24 * ratio, y - 12 * ratio, "right");
  }

  private frame({ panel }: Shown): void {
    this.context.strokeStyle = ACTIVE;
    this.context.lineWidth = this.ratio;
    this.context.strokeRect(panel.x + 0.5, panel.y + 0.5, panel.width - 1, panel.height - 1);
  }
}
