// Planes through a volume, in the radiological convention: the patient's right is on the left.
import { add, column, cross, dot, length, scale, sub, unit } from "./math";
import type { Vec3 } from "./scene";
import { corners, type Grid } from "./volume";

export type PlaneName = "axial" | "coronal" | "sagittal";
export interface Basis { right: Vec3; down: Vec3; normal: Vec3 }

/** Left, posterior and superior along the grid's own axes, made orthogonal where it is sheared.
 *  The grid is regular: its axes run closest to right, anterior and superior. */
function patientAxes(grid: Grid): { left: Vec3; posterior: Vec3; superior: Vec3 } {
  const i = unit(column(grid.affine, 0));
  const j0 = column(grid.affine, 1);
  const j = unit(sub(j0, scale(i, dot(i, j0))));
  const k = cross(i, j);
  const isRightHanded = dot(k, column(grid.affine, 2)) > 0;
  return { left: scale(i, -1), posterior: scale(j, -1), superior: isRightHanded ? k : scale(k, -1) };
}

export function basisOf(grid: Grid, plane: PlaneName): Basis {
  const { left, posterior, superior } = patientAxes(grid);
  const inferior = scale(superior, -1);
  switch (plane) {
    case "axial": return { right: left, down: posterior, normal: superior };
    case "coronal": return { right: left, down: inferior, normal: scale(posterior, -1) };
    case "sagittal": return { right: posterior, down: inferior, normal: left };
  }
}

/** The plane the images were taken in: across the thickest axis, axial where none is thicker. */
export function acquired(grid: Grid): PlaneName {
  const steps = [0, 1, 2].map((axis) => length(column(grid.affine, axis)));
  const thick = steps.findIndex((mm, axis) => steps.every((other, at) => at === axis || mm >= 1.5 * other));
  return thick === 0 ? "sagittal" : thick === 1 ? "coronal" : "axial";
}

const LETTERS: [string, string][] = [["L", "R"], ["P", "A"], ["S", "I"]];

/** Where a direction points, the nearest first: "L", or "LA" where it is oblique (PS3.3 C.7.6.1.1.1). */
export function letters(direction: Vec3): string {
  return [0, 1, 2]
    .filter((axis) => Math.abs(direction[axis]) > 0.26) // 15 degrees
    .sort((a, b) => Math.abs(direction[b]) - Math.abs(direction[a]))
    .map((axis) => LETTERS[axis][direction[axis] > 0 ? 0 : 1])
    .join("");
}

/** Millimetres that the volume spans along a direction. */
export function extent(grid: Grid, direction: Vec3): number {
  const along = corners(grid).map((corner) => dot(corner, direction));
  return Math.max(...along) - Math.min(...along);
}

/** Distance between neighbouring slices along a direction: one voxel of the axis closest to it. */
export function stepAlong(grid: Grid, direction: Vec3): number {
  const shares = [0, 1, 2].map((axis) => Math.abs(dot(unit(column(grid.affine, axis)), direction)));
  const axis = shares.indexOf(Math.max(...shares));
  return Math.abs(dot(column(grid.affine, axis), direction));
}

/** A panel's picture: a pixel (x, y), from its upper left corner, lies at origin + x right + y down. */
export interface Picture {
  origin: Vec3; // centre of the upper left pixel
  right: Vec3; // mm per pixel
  down: Vec3;
  width: number; // pixels
  height: number;
}

export function pictureOf(basis: Basis, crosshair: Vec3, focus: Vec3, mmPerPx: number, width: number, height: number): Picture {
  const middle = add(focus, scale(basis.normal, dot(sub(crosshair, focus), basis.normal)));
  const right = scale(basis.right, mmPerPx);
  const down = scale(basis.down, mmPerPx);
  const origin = sub(sub(middle, scale(right, (width - 1) / 2)), scale(down, (height - 1) / 2));
  return { origin, right, down, width, height };
}

export const toPoint = (p: Picture, x: number, y: number): Vec3 => add(p.origin, add(scale(p.right, x), scale(p.down, y)));

export function toPixel(p: Picture, point: Vec3): [number, number] {
  const from = sub(point, p.origin);
  return [dot(from, p.right) / dot(p.right, p.right), dot(from, p.down) / dot(p.down, p.down)];
}
