// What has been loaded for a scene: volumes, masks and maps, on the CPU; changed only by the brush.
import { fetchNifti, type Voxels } from "./nifti";
import type { Place, Range, SceneFinding, SceneVolume, Vec3 } from "./scene";
import { RemoteImage, VolumeData, gridOf, offsetAt, type Grid, type ShownImage } from "./volume";

export interface LabelData { grid: Grid; voxels: Uint8Array | Uint16Array; version: number }
export interface MapData { grid: Grid; voxels: Uint8Array }

function asLabels(voxels: Voxels): Uint8Array | Uint16Array {
  return voxels instanceof Uint8Array || voxels instanceof Uint16Array ? voxels : Uint16Array.from(voxels);
}

/** Values by address; each is fetched once. */
class Loads<T> {
  readonly done = new Map<string, T>();
  private readonly pending = new Map<string, Promise<T>>();
  constructor(private readonly load: (url: string) => Promise<T>) {}

  get(url: string): Promise<T> {
    const known = this.pending.get(url);
    if (known) return known;
    const promise = this.load(url).then((value) => (this.done.set(url, value), value));
    promise.catch(() => this.pending.delete(url)); // asked again next time
    this.pending.set(url, promise);
    return promise;
  }

  drop(keep: Set<string>): void {
    for (const url of [...this.pending.keys(), ...this.done.keys()])
      if (!keep.has(url)) {
        this.pending.delete(url);
        this.done.delete(url);
      }
  }
}

export class Study {
  private readonly abort = new AbortController();
  readonly images = new Loads<ShownImage>(async (url) =>
    this.isRemote ? this.facts(url) : new VolumeData(await fetchNifti(url, this.abort.signal)));
  readonly labels = new Loads<LabelData>(async (url) => {
    const { dims, affine, voxels } = await fetchNifti(url, this.abort.signal);
    return { grid: gridOf(dims, affine), voxels: asLabels(voxels), version: 0 };
  });
  readonly maps = new Loads<MapData>(async (url) => {
    const { dims, affine, voxels } = await fetchNifti(url, this.abort.signal);
    return { grid: gridOf(dims, affine), voxels: voxels as Uint8Array };
  });

  readonly places = new Loads<Place>(async (url) => (await this.ask(url)) as Place);

  /** Remote: the server draws, and only the facts of the grid come here. */
  constructor(private readonly isRemote: boolean) {}

  private async facts(url: string): Promise<ShownImage> {
    const facts = (await this.ask(`${url}/info`)) as { shape: Vec3; affine_lps: number[]; percentiles: Range };
    return new RemoteImage(gridOf(facts.shape, facts.affine_lps), facts.percentiles);
  }

  private async ask(url: string): Promise<unknown> {
    const response = await fetch(new URL(url, document.baseURI), { signal: this.abort.signal });
    if (!response.ok) throw new Error((await response.text()).slice(0, 300));
    return response.json();
  }

  imageUrl(volume: SceneVolume): string {
    return this.isRemote ? volume.slices_url ?? "" : volume.image_url;
  }

  /** Fetches what a volume needs to be shown. */
  async load(volume: SceneVolume): Promise<void> {
    const parts: Promise<unknown>[] = [this.images.get(this.imageUrl(volume))];
    if (!this.isRemote && volume.labels_url) parts.push(this.labels.get(volume.labels_url));
    await Promise.all(parts);
    const [image, labels] = [this.image(volume), this.labelsOf(volume)];
    if (image && labels && image.grid.dims.some((size, axis) => size !== labels.grid.dims[axis]))
      throw new Error(`The mask of ${volume.title} lies on another grid than its image. Analyse the case again.`);
  }

  isLoaded(volume: SceneVolume): boolean {
    if (!this.images.done.has(this.imageUrl(volume))) return false;
    return this.isRemote || !volume.labels_url || this.labels.done.has(volume.labels_url);
  }

  private mapUrls(finding: SceneFinding, volumes: SceneVolume[]): string[] {
    if (this.isRemote) return [];
    return volumes.flatMap((v) => finding.activation?.urls[v.id] ?? []);
  }

  /** Fetches where a finding is looked at, and its maps of these volumes: a few kilobytes. */
  async loadFinding(finding: SceneFinding, volumes: SceneVolume[]): Promise<void> {
    const maps: Promise<unknown>[] = this.mapUrls(finding, volumes).map((url) => this.maps.get(url));
    await Promise.all(finding.place_url ? [this.places.get(finding.place_url), ...maps] : maps);
  }

  isFindingLoaded(finding: SceneFinding, volumes: SceneVolume[]): boolean {
    return (!finding.place_url || this.places.done.has(finding.place_url)) && this.mapUrls(finding, volumes).every((url) => this.maps.done.has(url));
  }

  /** Maps are small: those of a case stay until another case begins. */
  keepOnly(volumes: SceneVolume[], findings: SceneFinding[]): void {
    this.images.drop(new Set(volumes.map((v) => this.imageUrl(v))));
    this.labels.drop(new Set(volumes.flatMap((v) => [v.labels_url ?? "", `new:${v.image_url}`])));
    this.maps.drop(new Set(findings.flatMap((f) => Object.values(f.activation?.urls ?? {}))));
    this.places.drop(new Set(findings.flatMap((f) => f.place_url ?? [])));
  }

  image(volume: SceneVolume): ShownImage | undefined {
    return this.images.done.get(this.imageUrl(volume));
  }

  /** The mask of a volume; without one, an empty one once somebody paints. */
  labelsOf(volume: SceneVolume): LabelData | undefined {
    return this.labels.done.get(volume.labels_url ?? `new:${volume.image_url}`);
  }

  startLabels(volume: SceneVolume): LabelData | undefined {
    const [known, image] = [this.labelsOf(volume), this.image(volume)];
    if (known || !(image instanceof VolumeData) || volume.labels_url) return known;
    const empty = { grid: image.grid, voxels: new Uint8Array(image.voxels.length), version: 0 };
    this.labels.done.set(`new:${volume.image_url}`, empty);
    return empty;
  }

  labelAt(volume: SceneVolume, point: Vec3): number {
    const labels = this.labelsOf(volume);
    const offset = labels ? offsetAt(labels.grid, point) : -1;
    return offset < 0 ? 0 : labels!.voxels[offset];
  }

  stop(): void {
    this.abort.abort();
  }
}
