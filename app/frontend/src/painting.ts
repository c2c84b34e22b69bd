// The brush: a disc in the shown plane, one slice thick; strokes can be undone.
import type { Box } from "./drawing";
import { apply, dot, length, scale, sub } from "./math";
import { stepAlong } from "./plane";
import type { SceneVolume, Vec3 } from "./scene";
import type { LabelData, Study } from "./study";

interface Stroke { labels: LabelData; volume: SceneVolume; before: Map<number, number> }

const MOST_UNDO = 50;

export class Painting {
  private strokes: Stroke[] = [];
  private stroke: Stroke | null = null;
  /** What each touched voxel was when the mask arrived, or was last saved. */
  private readonly original = new Map<LabelData, Map<number, number>>();

  constructor(private readonly study: Study, private readonly changed: (volume: SceneVolume, box: Box) => void) {}

  begin(volume: SceneVolume): boolean {
    const labels = this.study.labelsOf(volume) ?? this.study.startLabels(volume);
    this.stroke = labels ? { labels, volume, before: new Map() } : null;
    return labels !== undefined;
  }

  /** Paints from one point to the next, in steps of half a radius, so that a quick hand leaves no gaps. */
  line(from: Vec3, to: Vec3, normal: Vec3, label: number, radius: number): void {
    const way = sub(to, from);
    const steps = Math.max(1, Math.ceil(length(way) / Math.max(radius / 2, 0.25)));
    for (let i = 1; i <= steps; i++) {
      const share = i / steps;
      this.disc([from[0] + share * way[0], from[1] + share * way[1], from[2] + share * way[2]], normal, label, radius);
    }
  }

  disc(point: Vec3, normal: Vec3, label: number, radius: number): void {
    const { stroke } = this;
    if (!stroke) return;
    const { grid, voxels } = stroke.labels;
    const half = stepAlong(grid, normal) / 2 + 1e-3;
    const box = this.reach(stroke.labels, point, Math.max(radius, half));
    for (let k = box.low[2]; k < box.low[2] + box.size[2]; k++)
      for (let j = box.low[1]; j < box.low[1] + box.size[1]; j++)
        for (let i = box.low[0]; i < box.low[0] + box.size[0]; i++) {
          const away = sub(apply(grid.affine, [i, j, k]), point);
          const across = dot(away, normal);
          const aside = length(sub(away, scale(normal, across)));
          if (Math.abs(across) > half || aside > Math.max(radius, 1e-3)) continue;
          const at = i + grid.dims[0] * (j + grid.dims[1] * k);
          if (voxels[at] === label) continue;
          if (!stroke.before.has(at)) stroke.before.set(at, voxels[at]);
          voxels[at] = label;
        }
    if (box.size.every((size) => size > 0)) this.changed(stroke.volume, box);
  }

  private reach({ grid }: LabelData, point: Vec3, radius: number): Box {
    const index = apply(grid.inverse, point);
    const rows = [0, 1, 2].map((row) => length(grid.inverse.slice(4 * row, 4 * row + 3) as Vec3) * radius);
    const low = index.map((value, axis) => Math.max(0, Math.floor(value - rows[axis]))) as Vec3;
    const size = index.map((value, axis) => Math.max(0, Math.min(grid.dims[axis] - 1, Math.ceil(value + rows[axis])) - low[axis] + 1)) as Vec3;
    return { low, size };
  }

  end(): void {
    if (this.stroke?.before.size) {
      const { labels, before } = this.stroke;
      const known = this.original.get(labels) ?? new Map<number, number>();
      for (const [at, value] of before) if (!known.has(at)) known.set(at, value);
      this.original.set(labels, known);
      this.strokes = [...this.strokes, this.stroke].slice(-MOST_UNDO);
      labels.version++;
    }
    this.stroke = null;
  }

  undo(): void {
    const stroke = this.strokes.pop();
    if (!stroke) return;
    for (const [at, value] of stroke.before) stroke.labels.voxels[at] = value;
    stroke.labels.version++;
    this.changed(stroke.volume, { low: [0, 0, 0], size: [...stroke.labels.grid.dims] as Vec3 });
  }

  get canUndo(): boolean {
    return this.strokes.length > 0;
  }

  private changes(labels: LabelData | undefined): number {
    const touched = labels ? this.original.get(labels) ?? [] : [];
    return [...touched].filter(([at, value]) => labels!.voxels[at] !== value).length;
  }

  /** Those of these volumes on which something painted has not been saved. */
  unsaved(volumes: SceneVolume[]): SceneVolume[] {
    return volumes.filter((volume) => {
      const labels = this.study.labelsOf(volume);
      return this.changes(labels) > 0 || (labels && this.stroke?.labels === labels);
    });
  }

  /** Sends the mask as gzipped voxels, i fastest, on the grid it came on; what is painted meanwhile stays unsaved. */
  async save(volume: SceneVolume): Promise<number> {
    const labels = this.study.labelsOf(volume);
    if (!labels || !volume.save_url) throw new Error("This mask cannot be saved here.");
    const { voxels } = labels;
    const changed = this.changes(labels);
    const sent = [...(this.original.get(labels)?.keys() ?? [])].map((at): [number, number] => [at, voxels[at]]);
    const stream = new Blob([voxels as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new CompressionStream("gzip"));
    const url = new URL(volume.save_url, document.baseURI);
    url.searchParams.set("dtype", voxels instanceof Uint16Array ? "uint16" : "uint8");
    url.searchParams.set("base", volume.labels_url ?? "");
    const response = await fetch(url, { method: "POST", body: await new Response(stream).blob() });
    if (!response.ok) throw new Error((await response.text()).slice(0, 300));
    for (const [at, value] of sent) this.original.get(labels)?.set(at, value);
    return changed;
  }

  /** Whether anything painted has not been saved. */
  get isUnsaved(): boolean {
    return [...this.original.keys()].some((labels) => this.changes(labels) > 0);
  }

  /** Forgets what was painted on any other mask than those of these volumes; true where that was not saved. */
  keepOnly(volumes: SceneVolume[]): boolean {
    const kept = new Set(volumes.map((volume) => this.study.labelsOf(volume)));
    this.strokes = this.strokes.filter(({ labels }) => kept.has(labels));
    if (this.stroke && !kept.has(this.stroke.labels)) this.stroke = null;
    const gone = [...this.original.keys()].filter((labels) => !kept.has(labels));
    const isLost = gone.some((labels) => this.changes(labels) > 0);
    for (const labels of gone) this.original.delete(labels);
    return isLost;
  }
}
