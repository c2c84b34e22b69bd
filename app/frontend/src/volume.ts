// A volume in memory: values under the cursor, usual window, corners.
import { apply, invert, type Affine } from "./math";
import type { Nifti, Voxels } from "./nifti";
import type { Range, Vec3 } from "./scene";

const SAMPLE = 200_000;

export interface Grid { dims: Vec3; affine: Affine; inverse: Affine }

export function gridOf(dims: Vec3, affine: Affine): Grid {
  return { dims, affine, inverse: invert(affine) };
}

export function corners(grid: Grid): Vec3[] {
  const ends = grid.dims.map((size) => [-0.5, size - 0.5]);
  return ends[0].flatMap((i) => ends[1].flatMap((j) => ends[2].map((k) => apply(grid.affine, [i, j, k]))));
}

export const centre = (grid: Grid): Vec3 => apply(grid.affine, grid.dims.map((size) => (size - 1) / 2) as Vec3);

/** Offset of the voxel that holds a point, -1 outside. */
export function offsetAt(grid: Grid, point: Vec3): number {
  const index = apply(grid.inverse, point).map(Math.round);
  if (index.some((value, axis) => value < 0 || value >= grid.dims[axis])) return -1;
  return index[0] + grid.dims[0] * (index[1] + grid.dims[1] * index[2]);
}

export function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.round(share * (sorted.length - 1))];
}

/** What is known of an image; without WebGL2 the voxels stay on the server. */
export interface ShownImage {
  readonly grid: Grid;
  readonly range: Range;
  percentiles(low: number, high: number): Range;
  valueAt(point: Vec3): number | null;
}

export class RemoteImage implements ShownImage {
  constructor(readonly grid: Grid, readonly range: Range) {}
  percentiles(): Range { return this.range; }
  valueAt(): null { return null; }
}

export class VolumeData implements ShownImage {
  readonly grid: Grid;
  readonly voxels: Voxels;
  readonly range: Range;
  private readonly sorted: Float32Array;

  constructor(nifti: Nifti) {
    this.grid = gridOf(nifti.dims, nifti.affine);
    this.voxels = nifti.voxels;
    const step = Math.max(1, Math.floor(nifti.voxels.length / SAMPLE));
    this.sorted = new Float32Array(Math.ceil(nifti.voxels.length / step));
    let [low, high] = [Infinity, -Infinity];
    for (let i = 0, at = 0; at < nifti.voxels.length; i++, at += step) this.sorted[i] = nifti.voxels[at];
    const { voxels } = nifti;
    for (let i = 0; i < voxels.length; i++) { // for-of takes four times as long
      const value = voxels[i];
      if (value < low) low = value;
      if (value > high) high = value;
    }
    this.sorted.sort();
    this.range = [low, high];
  }

  percentiles(low: number, high: number): Range {
    const [a, b] = [percentile(this.sorted, low / 100), percentile(this.sorted, high / 100)];
    return a < b ? [a, b] : [this.range[0], Math.max(this.range[1], this.range[0] + 1)];
  }

  valueAt(point: Vec3): number | null {
    const offset = offsetAt(this.grid, point);
    return offset < 0 ? null : this.voxels[offset];
  }
}
