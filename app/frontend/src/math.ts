// Three-vectors and row-major 4x4 affines; points are LPS millimetres.
import type { Vec3 } from "./scene";

export type Affine = number[];

export const add = (a: Vec3, b: Vec3): Vec3 => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const sub = (a: Vec3, b: Vec3): Vec3 => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a: Vec3, s: number): Vec3 => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a: Vec3, b: Vec3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const length = (a: Vec3): number => Math.hypot(...a);
export const unit = (a: Vec3): Vec3 => scale(a, 1 / (length(a) || 1));
export const cross = (a: Vec3, b: Vec3): Vec3 => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

export function apply(m: Affine, p: Vec3): Vec3 {
  return [
    m[0] * p[0] + m[1] * p[1] + m[2] * p[2] + m[3],
    m[4] * p[0] + m[5] * p[1] + m[6] * p[2] + m[7],
    m[8] * p[0] + m[9] * p[1] + m[10] * p[2] + m[11],
  ];
}

export const column = (m: Affine, axis: number): Vec3 => [m[axis], m[4 + axis], m[8 + axis]];

export function invert(m: Affine): Affine {
  const [x, y, z] = [column(m, 0), column(m, 1), column(m, 2)];
  const rows = [cross(y, z), cross(z, x), cross(x, y)];
  const determinant = dot(x, rows[0]);
  const t: Vec3 = [m[3], m[7], m[11]];
  const out = rows.flatMap((row) => {
    const r = scale(row, 1 / determinant);
    return [...r, -dot(r, t)];
  });
  return [...out, 0, 0, 0, 1];
}

/** For uniformMatrix4fv, which wants columns. */
export function columnMajor(m: Affine): Float32Array {
  return new Float32Array([0, 1, 2, 3].flatMap((c) => [0, 1, 2, 3].map((r) => m[4 * r + c])));
}
