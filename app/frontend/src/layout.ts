// Which panels a layout has, and where.
import type { PlaneName } from "./plane";
import type { State } from "./state";

export interface Cell { x: number; y: number; width: number; height: number; volume: string; plane: PlaneName | "3d" }

export const MOST_SIDE_BY_SIDE = 6;
const GAP = 2;

function divide(count: number, width: number, height: number): { columns: number; rows: number } {
  const columns = width >= height ? Math.ceil(Math.sqrt(count)) : Math.max(1, Math.floor(Math.sqrt(count)));
  return { columns, rows: Math.ceil(count / columns) };
}

function tile(shown: { volume: string; plane: Cell["plane"] }[], width: number, height: number): Cell[] {
  const { columns, rows } = divide(shown.length, width, height);
  const [w, h] = [Math.floor((width - GAP * (columns - 1)) / columns), Math.floor((height - GAP * (rows - 1)) / rows)];
  return shown.map((what, i) => ({ x: (i % columns) * (w + GAP), y: Math.floor(i / columns) * (h + GAP), width: w, height: h, ...what }));
}

/** Cells in device pixels. */
export function cells(state: State, width: number, height: number): Cell[] {
  const front = state.front;
  switch (state.layout) {
    case "mpr":
      return tile((["axial", "sagittal", "coronal", "3d"] as const).map((plane) => ({ volume: front, plane })), width, height);
    case "side_by_side":
      return tile(sideBySide(state).map((volume) => ({ volume, plane: state.plane ?? "axial" as const })), width, height);
    default:
      return tile([{ volume: front, plane: state.layout }], width, height);
  }
}

/** The volumes of a comparison, the one in front among them. */
export function sideBySide(state: State): string[] {
  const ids = state.scene.volumes.map((v) => v.id).slice(0, MOST_SIDE_BY_SIDE);
  return ids.includes(state.front) ? ids : [...ids.slice(0, -1), state.front];
}
