// What is shown now: the scene from Python, and over it what the reader has done by hand.
import type { MapLook, RayMode, SegmentLook } from "./drawing";
import { rgb } from "./colours";
import type { PlaneName } from "./plane";
import type { ActivationMap, Layout, Place, Range, Scene, SceneFinding, SceneVolume, Segment, Vec3 } from "./scene";

export type Tool = "crosshair" | "window" | "pan" | "zoom" | "distance" | "angle" | "brush" | "eraser";
export interface Measurement { kind: "distance" | "angle"; points: Vec3[]; volume: string }

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

export class State {
  scene: Scene;
  layout: Layout = "mpr";
  plane: PlaneName | null = null; // of side_by_side; null until the image tells how it was taken
  front = "";
  windows = new Map<string, Range>();
  crosshairs = new Map<string, Vec3>();
  focuses = new Map<string, Vec3>();
  zoom = 1;
  isInverted = false;
  isSmooth = true;
  isLinked = true;
  isPlaying = false;
  segments: Segment[] = [];
  finding = "";
  activation: ActivationMap | null = null; // of the chosen finding, as the reader made it look
  /** The chosen finding has a place that the reader was not brought to yet. */
  isUnplaced = false;
  /** Chosen by hand, oldest first: what Python says of them later is no news. */
  byHand: string[] = [];
  /** Chosen by a key of ours, and not yet by Python. */
  unconfirmed: string | null = null;
  showMasks = true;
  showMap = true;
  tool: Tool = "crosshair";
  brush = { label: 1, radius_mm: 5 };
  rayMode: RayMode = "masks";
  turn = { azimuth: 0.5, elevation: 0.25 };
  measurements: Measurement[] = [];
  /** What was sent to Python: when a page gives it back, it is not news. */
  readonly sent: Partial<Record<"crosshair" | "window" | "layout", string[]>> = {};

  constructor(scene: Scene) {
    this.scene = scene;
    this.reset(scene);
  }

  private reset(scene: Scene): void {
    Object.assign(this, {
      windows: new Map(), crosshairs: new Map(), focuses: new Map(), measurements: [], zoom: 1,
      layout: scene.layout, isInverted: scene.is_inverted, isSmooth: scene.is_smooth,
      isLinked: scene.is_linked, isPlaying: scene.is_cine_playing, segments: scene.segments,
      activation: null, showMasks: true, showMap: true, plane: null, unconfirmed: null, byHand: [],
    });
    this.chooseFinding(scene.finding);
    if (scene.crosshair_lps) this.isUnplaced = false; // a link leads to its own point
    this.front = scene.volume || scene.volumes[0].id;
    if (this.layout === "axial" || this.layout === "coronal" || this.layout === "sagittal") this.plane = this.layout;
    if (scene.brush) this.setBrush(scene);
    else if (this.tool === "brush" || this.tool === "eraser") this.tool = "crosshair";
    if (scene.window) this.windows.set(this.front, scene.window);
    if (scene.crosshair_lps) this.goTo(scene.crosshair_lps);
  }

  /** Takes over what differs from the scene before; true where another case begins. */
  apply(scene: Scene): boolean {
    const before = this.scene;
    this.scene = scene;
    if (scene.case_id !== before.case_id) {
      this.reset(scene);
      return true;
    }
    if (scene.volume !== before.volume && scene.volume) this.front = scene.volume;
    if (!scene.volumes.some((v) => v.id === this.front)) this.front = scene.volumes[0].id;
    this.takeFinding(scene.finding, before.finding);
    if (!same(findingOf(scene, this.finding), findingOf(before, this.finding))) this.takeMap();
    if (scene.layout !== before.layout && this.isNews("layout", scene.layout)) this.setLayout(scene.layout);
    if (!same(scene.crosshair_lps, before.crosshair_lps) && scene.crosshair_lps && this.isNews("crosshair", scene.crosshair_lps)) this.goTo(scene.crosshair_lps);
    if (!same(scene.window, before.window) && scene.window && this.isNews("window", scene.window)) this.windows.set(this.front, scene.window);
    if (scene.is_inverted !== before.is_inverted) this.isInverted = scene.is_inverted;
    if (scene.is_smooth !== before.is_smooth) this.isSmooth = scene.is_smooth;
    if (scene.is_linked !== before.is_linked) this.isLinked = scene.is_linked;
    if (scene.is_cine_playing !== before.is_cine_playing) this.isPlaying = scene.is_cine_playing;
    this.takeSegments(scene.segments, before.segments);
    if (!same(scene.brush, before.brush)) this.setBrush(scene);
    return false;
  }

  private isNews(kind: "crosshair" | "window" | "layout", value: unknown): boolean {
    return !this.sent[kind]?.includes(JSON.stringify(value));
  }

  remember(kind: "crosshair" | "window" | "layout", value: unknown): void {
    this.sent[kind] = [JSON.stringify(value), ...(this.sent[kind] ?? [])].slice(0, 8);
  }

  private setBrush(scene: Scene): void {
    if (!scene.brush) {
      if (this.tool === "brush" || this.tool === "eraser") this.tool = "crosshair";
      return;
    }
    this.tool = scene.brush.label === 0 ? "eraser" : "brush";
    this.brush = { label: scene.brush.label || this.brush.label, radius_mm: scene.brush.radius_mm };
  }

  private takeSegments(now: Segment[], before: Segment[]): void {
    if (same(now, before)) return;
    const old = new Map(before.map((s) => [s.label, s]));
    const mine = new Map(this.segments.map((s) => [s.label, s]));
    // A segment that Python left as it was keeps what the reader made of it.
    this.segments = now.map((s) => (same(s, old.get(s.label)) ? mine.get(s.label) ?? s : s));
  }

  private takeFinding(now: string, before: string): void {
    if (now === before) {
      if (now === this.finding) this.byHand = [];
      return;
    }
    const place = this.byHand.indexOf(now);
    this.byHand = this.byHand.slice(place + 1);
    if (this.unconfirmed === now || place < 0) this.unconfirmed = null;
    if (place >= 0) return;
    this.byHand = [];
    if (now !== this.finding) this.chooseFinding(now);
  }

  get chosen(): SceneFinding | undefined {
    return findingOf(this.scene, this.finding);
  }

  chooseFinding(name: string): void {
    this.finding = name;
    this.isUnplaced = Boolean(this.chosen?.place_url);
    this.takeMap();
  }

  /** The map of the chosen finding, looking as the reader made the one before look. */
  private takeMap(): void {
    const now = this.chosen?.activation ?? null;
    const { threshold, opacity, colours } = this.activation ?? now ?? {};
    this.activation = now && { ...now, threshold: threshold!, opacity: opacity!, colours: colours! };
  }

  setLayout(layout: Layout): void {
    this.layout = layout;
    if (layout === "axial" || layout === "coronal" || layout === "sagittal") this.plane = layout;
  }

  volume(id: string): SceneVolume {
    return this.scene.volumes.find((v) => v.id === id) ?? this.scene.volumes[0];
  }

  get frontVolume(): SceneVolume {
    return this.volume(this.front);
  }

  get phases(): SceneVolume[] {
    return this.scene.volumes.filter((v) => v.time_index !== null).sort((a, b) => a.time_index! - b.time_index!);
  }

  /** The reader looks at this point, in every volume where they are linked. */
  moveCrosshair(point: Vec3, volume: string): void {
    const ids = this.isLinked ? this.scene.volumes.map((v) => v.id) : [volume];
    for (const id of ids) this.crosshairs.set(id, point);
  }

  moveFocus(point: Vec3, volume: string): void {
    const ids = this.isLinked ? this.scene.volumes.map((v) => v.id) : [volume];
    for (const id of ids) this.focuses.set(id, point);
  }

  /** From Python, or to the chosen finding: the crosshair goes there. */
  goTo(point: Vec3): void {
    this.isUnplaced = false;
    for (const { id } of this.scene.volumes) {
      this.crosshairs.set(id, point);
      if (this.zoom > 1 || this.focuses.size) this.focuses.set(id, point); // or it might be out of sight
    }
  }

  segmentLooks(): SegmentLook[] {
    if (!this.showMasks) return [];
    return this.segments
      .filter((s) => s.is_visible && s.opacity > 0)
      .map((s) => ({ label: s.label, colour: rgb(s.colour), opacity: s.opacity, isOutline: s.is_outline }));
  }

  mapLook(volume: string, place: Place | undefined): MapLook | null {
    const a = this.activation;
    const url = a?.urls[volume];
    if (!a || !url || !this.showMap || a.opacity === 0) return null;
    const high = Math.max(place?.highest ?? 1, 0.01);
    return { finding: this.chosen!.title, url, threshold: a.threshold * high, opacity: a.opacity, colours: a.colours, low: 0, high };
  }
}

function findingOf(scene: Scene, name: string): SceneFinding | undefined {
  return scene.findings.find((finding) => finding.name === name);
}
