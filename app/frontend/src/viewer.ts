// One viewer on the page: takes scenes, draws them, gives events back.
import { cells, MOST_SIDE_BY_SIDE, sideBySide, type Cell } from "./layout";
import type { DrawnPanel, Drawing, MapLook } from "./drawing";
import { help } from "./help";
import { handleKey } from "./keys";
import { add, cross, dot, scale, sub } from "./math";
import { Overlay, valueOf, type Shown } from "./overlay";
import { Painting } from "./painting";
import { acquired, basisOf, extent, pictureOf, stepAlong, type Basis } from "./plane";
import { Pointer } from "./pointer";
import type { Layout, Place, Range, Scene, SceneFinding, SceneVolume, Vec3, ViewerEvent } from "./scene";
import { ServerDrawing } from "./server_drawing";
import { State, type Measurement } from "./state";
import { Study } from "./study";
import style from "./style.css";
import { Toolbar } from "./toolbar";
import { centre, type ShownImage } from "./volume";
import { WebGlDrawing } from "./webgl_drawing";

const SETTLED_MS = 500; // a wheel has no pointer-up
const REFINE_AFTER_MS = 400;
const BETWEEN_STRIPS_MS = 25; // for everything else on the page

export class Viewer {
  readonly host = document.createElement("div");
  readonly stage = document.createElement("div");
  readonly overlay = new Overlay();
  readonly state: State;
  readonly study: Study;
  readonly painting: Painting;
  readonly drawing: Drawing;
  shown: Shown[] = [];
  active: Shown | null = null;
  draft: Measurement | null = null;
  brushAt: { at: Vec3; shown: Shown } | null = null;
  private readonly status = document.createElement("div");
  private readonly words = document.createElement("span");
  private readonly notice = document.createElement("div");
  private readonly toolbar: Toolbar;
  private readonly pointer: Pointer;
  private readonly sizes: ResizeObserver;
  private readonly onLeave = (event: BeforeUnloadEvent) => {
    if (this.painting.isUnsaved) event.preventDefault();
  };
  /** A button of the page that chooses a finding: the picture does not wait for Python. */
  private readonly onClick = ({ target }: MouseEvent) => {
    const pressed = target instanceof Element ? target.closest("button") : null;
    const found = pressed && this.state.scene.findings.find((f) => f.control && pressed.closest(`.${f.control}`));
    if (found) this.chooseFinding(found.name);
  };
  private readonly onKey = (event: KeyboardEvent) => handleKey(this, event);
  private asked = 0;
  private settle = 0;
  private cine = 0;
  private refining = 0;
  private loads = 0;
  private ahead: SceneFinding[] | null = null;
  private isGone = false;
  private frames = 0;
  private readonly lastMaps = new Map<string, MapLook>();

  constructor(scene: Scene, readonly send: (event: ViewerEvent) => void) {
    this.state = new State(scene);
    const webgl = this.tryWebGl();
    this.study = webgl?.study ?? new Study(true);
    this.drawing = webgl?.drawing ?? new ServerDrawing((message) => this.fail(message), () => this.busy());
    this.painting = new Painting(this.study, (volume, box) => {
      this.drawing.labelsChanged(volume, box);
      this.redraw();
    });
    this.host.className = "medmtl-viewer";
    this.host.tabIndex = 0;
    this.host.dataset.renderer = this.drawing.is3d ? "webgl2" : "server";
    const sheet = document.createElement("style");
    sheet.textContent = style;
    this.toolbar = new Toolbar(this);
    this.stage.className = "stage";
    this.status.className = "status";
    this.notice.className = "notice";
    this.words.className = "words";
    const convention = document.createElement("span");
    convention.className = "convention";
    convention.textContent = "Radiological view: the patient's right is on the left";
    this.status.append(this.words, convention);
    this.drawing.canvas.className = "picture";
    this.overlay.canvas.className = "overlay";
    this.stage.append(this.drawing.canvas, this.overlay.canvas, this.notice);
    this.host.append(sheet, this.toolbar.bar, this.stage, this.status);
    this.stage.append(this.toolbar.layers);
    this.pointer = new Pointer(this);
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.stage);
    document.addEventListener("keydown", this.onKey, true);
    document.addEventListener("click", this.onClick, true);
    window.addEventListener("beforeunload", this.onLeave);
    this.drawing.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      if (!this.isGone) this.fail("The browser took the graphics device away. Reload the page.");
    });
  }

  /** Once it is in the page, and knows its size and colours. */
  mount(parent: Node): void {
    parent.appendChild(this.host);
    this.show();
  }

  private tryWebGl(): { study: Study; drawing: Drawing } | null {
    const study = new Study(false);
    try {
      return { study, drawing: new WebGlDrawing(study) };
    } catch {
      return null;
    }
  }

  apply(sent: Scene): void {
    const scene = this.withPainted(sent);
    const isNewCase = this.state.apply(scene);
    this.study.keepOnly(scene.volumes, scene.findings);
    const isLost = this.painting.keepOnly(scene.volumes);
    if (isNewCase) {
      this.draft = this.brushAt = null;
      this.lastMaps.clear();
      this.say("");
      this.tell("");
    }
    const kept = scene.volumes.find(({ labels_url }, i) => labels_url !== sent.volumes[i].labels_url);
    if (kept) this.tell(`Another mask of ${kept.title} is stored or chosen. What you painted stays until you save or undo it.`);
    if (isLost) this.tell("What was painted on the masks before has not been saved.");
    if (this.drawing instanceof WebGlDrawing) this.drawing.prune();
    this.show();
  }

  /** A mask with unsaved strokes stays, whichever Python has for its volume by now. */
  private withPainted(scene: Scene): Scene {
    const painted = this.painting.unsaved(this.state.scene.volumes);
    const volumes = scene.volumes.map((volume) => {
      const mine = painted.find(({ save_url }) => save_url === volume.save_url);
      return mine ? { ...volume, labels_url: mine.labels_url } : volume;
    });
    return { ...scene, volumes };
  }

  /** After anything has changed: words, controls, data, pictures. */
  show(): void {
    const { scene } = this.state;
    this.host.dataset.theme = scene.theme === "page" ? this.themeOfPage() : scene.theme;
    this.toolbar.bar.hidden = !scene.has_toolbar;
    this.toolbar.update();
    this.play();
    void this.fetchShown();
    this.redraw();
  }

  /** Streamlit tells a component its colours as CSS properties. */
  private themeOfPage(): "dark" | "light" {
    const probe = document.createElement("canvas").getContext("2d")!;
    const ground = getComputedStyle(this.host).getPropertyValue("--st-background-color").trim();
    if (!ground) return "dark";
    probe.fillStyle = ground;
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 128 ? "light" : "dark";
  }

  private wanted(): SceneVolume[] {
    const { state } = this;
    if (state.isPlaying && state.phases.length > 1) return [state.frontVolume, ...state.phases];
    return state.layout === "side_by_side" ? sideBySide(state).map((id) => state.volume(id)) : [state.frontVolume];
  }

  private async fetchShown(): Promise<void> {
    const volumes = this.wanted().filter((v) => !this.study.isLoaded(v));
    const { chosen } = this.state;
    if (!volumes.length && (!chosen || this.study.isFindingLoaded(chosen, this.wanted()))) return this.place();
    this.loads++;
    this.busy();
    if (volumes.length) this.say("Loading…", true);
    try {
      await Promise.all([this.fetchVolumes(volumes), this.fetchFinding(chosen)]);
      if (this.isGone) return;
      if (this.loads === 1) this.say("");
      void this.fetchAhead();
    } catch (error) {
      if (!this.isGone) this.fail((error as Error).message);
    } finally {
      this.loads--;
      this.toolbar.update();
      this.redraw();
    }
  }

  private async fetchVolumes(volumes: SceneVolume[]): Promise<void> {
    for (const volume of volumes) {
      await this.study.load(volume);
      if (this.isGone) return;
      if (volume.id === this.state.front) this.state.plane ??= acquired(this.study.image(volume)!.grid);
      this.place();
      this.redraw();
    }
  }

  private async fetchFinding(finding: SceneFinding | undefined): Promise<void> {
    if (!finding) return;
    await this.study.loadFinding(finding, this.wanted());
    this.place();
    this.redraw();
  }

  /** The maps and places of the other findings, one after the other: switching waits for nobody. */
  private async fetchAhead(): Promise<void> {
    const { scene } = this.state;
    if (this.ahead === scene.findings) return;
    this.ahead = scene.findings;
    this.host.dataset.ahead = "";
    for (const finding of scene.findings) {
      if (this.isGone || this.state.scene.case_id !== scene.case_id) return;
      await this.study.loadFinding(finding, scene.volumes).catch(() => undefined); // said once it is chosen
    }
    if (this.ahead === scene.findings) this.host.dataset.ahead = "loaded";
  }

  /** The crosshair goes to the chosen finding once its place is known. */
  private place(): void {
    const { state } = this;
    const place = this.placeOfChosen();
    if (!state.isUnplaced || !place || !this.study.image(state.frontVolume)) return;
    state.isUnplaced = false;
    if (!place.point_lps) return;
    state.goTo(place.point_lps);
    this.settleSoon();
    this.redraw();
  }

  private placeOfChosen(): Place | undefined {
    return this.study.places.done.get(this.state.chosen?.place_url ?? "");
  }

  say(words: string, isWaiting = false): void {
    this.notice.textContent = words;
    this.notice.hidden = words === "";
    this.notice.classList.toggle("waiting", isWaiting);
  }

  private fail(words: string): void {
    this.host.dataset.error = words;
    this.say(words);
  }

  tell(words: string): void {
    this.words.textContent = words;
  }

  // ---- geometry of what is shown -------------------------------------------------------------

  /** Linked volumes show the plane of the one in front, others their own. */
  private basis(volume: SceneVolume, plane: Exclude<Cell["plane"], "3d">): Basis | null {
    const reference = this.state.isLinked ? this.state.frontVolume : volume;
    const image = this.study.image(reference) ?? this.study.image(volume);
    return image ? basisOf(image.grid, plane) : null;
  }

  windowOf(volume: SceneVolume): Range {
    return this.state.windows.get(volume.id) ?? volume.window ?? this.study.image(volume)?.percentiles(1, 99) ?? [0, 1];
  }

  crosshairOf(volume: SceneVolume): Vec3 {
    const known = this.state.crosshairs.get(volume.id);
    if (known) return known;
    const image = this.study.image(volume);
    if (!image) return [0, 0, 0];
    const middle = centre(image.grid);
    this.state.moveCrosshair(middle, volume.id);
    return middle;
  }

  private focusOf(volume: SceneVolume, image: ShownImage): Vec3 {
    return this.state.focuses.get(volume.id) ?? centre(image.grid);
  }

  mmPerPixel(image: ShownImage, basis: Basis, width: number, height: number): number {
    return Math.max(extent(image.grid, basis.right) / width, extent(image.grid, basis.down) / height) * 1.04 / this.state.zoom;
  }

  private shownIn(cell: Cell): Shown | null {
    const { state } = this;
    const volume = state.volume(cell.volume);
    const image = this.study.image(volume);
    const look = {
      window: this.windowOf(volume), isInverted: state.isInverted, isSmooth: state.isSmooth,
      segments: state.segmentLooks(), map: cell.plane === "3d" ? null : this.mapOf(volume.id),
    };
    const basis = !image ? null : cell.plane === "3d" ? this.turned(image) : this.basis(volume, cell.plane);
    if (!image || !basis) return null;
    const middle = centre(image.grid);
    const isRay = cell.plane === "3d";
    const scaleMm = isRay ? this.wholeIn(image, cell) : this.mmPerPixel(this.study.image(state.isLinked ? state.frontVolume : volume) ?? image, basis, cell.width, cell.height);
    const picture = pictureOf(basis, isRay ? middle : this.crosshairOf(volume), isRay ? middle : this.focusOf(volume, image), scaleMm, cell.width, cell.height);
    const labels = this.study.labelsOf(volume);
    const map = look.map ? this.study.maps.done.has(look.map.url) : false;
    const key = JSON.stringify([volume.image_url, picture, look, isRay && state.rayMode, labels?.version, labels !== undefined, map]);
    const panel: DrawnPanel = {
      ...cell, volume, picture, look, key, ray: isRay ? { mode: state.rayMode, forward: basis.normal } : null,
    };
    return { panel, plane: cell.plane, grid: image.grid, normal: basis.normal, slice: this.sliceOf(image, basis, this.crosshairOf(volume)) };
  }

  /** The map of the finding before stays until the new one is there: one drawing instead of two. */
  private mapOf(volume: string): MapLook | null {
    const wanted = this.state.mapLook(volume, this.placeOfChosen());
    const isHere = wanted !== null && this.isMapHere(wanted);
    if (isHere) this.lastMaps.set(volume, wanted);
    return wanted === null || isHere ? wanted : this.lastMaps.get(volume) ?? null;
  }

  private isMapHere({ url }: MapLook): boolean {
    const { chosen } = this.state;
    const isPlaced = !chosen?.place_url || this.study.places.done.has(chosen.place_url);
    return isPlaced && (!this.drawing.is3d || this.study.maps.done.has(url));
  }

  private sliceOf(image: ShownImage, basis: Basis, crosshair: Vec3): Shown["slice"] {
    const step = stepAlong(image.grid, basis.normal);
    const count = Math.max(1, Math.round(extent(image.grid, basis.normal) / step));
    const from = dot(sub(crosshair, centre(image.grid)), basis.normal) / step + (count + 1) / 2;
    return { number: Math.min(count, Math.max(1, Math.round(from))), count };
  }

  /** Seen from the front, turned by the reader; forward leads away from the eye. */
  private turned(image: ShownImage): Basis {
    const { right, down } = basisOf(image.grid, "coronal");
    const front = cross(right, down);
    const { azimuth, elevation } = this.state.turn;
    const sideways = add(scale(right, Math.cos(azimuth)), scale(front, -Math.sin(azimuth)));
    const ahead = add(scale(front, Math.cos(azimuth)), scale(right, Math.sin(azimuth)));
    const below = add(scale(down, Math.cos(elevation)), scale(ahead, -Math.sin(elevation)));
    const forward = add(scale(ahead, Math.cos(elevation)), scale(down, Math.sin(elevation)));
    return { right: sideways, down: below, normal: forward };
  }

  private wholeIn(image: ShownImage, cell: Cell): number {
    const size = image.grid.dims.map((n, axis) => n * Math.hypot(image.grid.affine[axis], image.grid.affine[4 + axis], image.grid.affine[8 + axis]));
    return (Math.hypot(...size) * 0.72) / Math.min(cell.width, cell.height) / Math.min(this.state.zoom, 4);
  }

  // ---- drawing -------------------------------------------------------------------------------

  redraw(): void {
    if (this.asked || this.isGone) return;
    this.busy();
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.frame();
    });
  }

  private frame(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(this.stage.clientWidth * ratio), Math.round(this.stage.clientHeight * ratio)];
    if (!width || !height) return;
    this.drawing.resize(width, height);
    if (this.overlay.canvas.width !== width || this.overlay.canvas.height !== height) Object.assign(this.overlay.canvas, { width, height });
    this.shown = cells(this.state, width, height).map((cell) => this.shownIn(cell)).filter((s) => s !== null);
    if (this.active) this.active = this.shown.find((s) => s.panel.x === this.active!.panel.x && s.panel.y === this.active!.panel.y) ?? null;
    if (this.brushAt) this.brushAt = this.active ? { ...this.brushAt, shown: this.active } : null;
    try {
      const isComplete = this.drawing.draw(this.shown.map((s) => s.panel), ratio);
      this.overlay.draw(this.shown, this.state, ratio, this.active, this.draft, this.brushAt);
      this.frames++;
      if (!isComplete) this.redraw();
      else this.refineSoon();
    } catch (error) {
      this.fail((error as Error).message);
    }
    this.busy();
  }

  private refineSoon(): void {
    clearTimeout(this.refining);
    this.refining = window.setTimeout(() => this.refine(), REFINE_AFTER_MS);
  }

  /** One strip a frame, so that the reader is never made to wait; any change begins anew. */
  private refine(): void {
    if (this.isGone || this.asked) return;
    if (this.drawing.refine()) this.refining = window.setTimeout(() => this.refine(), BETWEEN_STRIPS_MS);
    else this.host.dataset.sharp = String(this.frames);
  }

  /** For tests and measurements: whether anything is still to come. */
  private busy(): void {
    const isLoading = this.loads > 0;
    this.host.dataset.busy = String(isLoading || this.asked !== 0 || this.drawing.isWaiting);
    this.host.dataset.frames = String(this.frames);
    this.host.dataset.front = this.state.front;
    const map = this.state.mapLook(this.state.front, this.placeOfChosen());
    this.host.dataset.map = map && this.isMapHere(map) ? map.finding : "";
  }

  private play(): void {
    const { phases } = this.state;
    const isOn = this.state.isPlaying && phases.length > 1;
    if (isOn === (this.cine !== 0)) return;
    if (!isOn) {
      clearInterval(this.cine);
      this.cine = 0;
      return;
    }
    this.cine = window.setInterval(() => {
      if (this.asked) return; // a slow device plays slower and leaves no phase out
      const ready = this.state.phases.filter((v) => this.study.image(v));
      if (ready.length < 2) return;
      const at = ready.findIndex((v) => v.id === this.state.front);
      this.state.front = ready[(at + 1) % ready.length].id;
      this.redraw();
    }, 1000 / Math.min(60, Math.max(1, this.state.scene.cine_fps)));
  }

  // ---- what the reader does ------------------------------------------------------------------

  setLayout(layout: Layout): void {
    this.state.setLayout(layout);
    if (layout === "side_by_side" && this.state.scene.volumes.length > MOST_SIDE_BY_SIDE)
      this.tell(`${MOST_SIDE_BY_SIDE} of ${this.state.scene.volumes.length} volumes are shown side by side.`);
    this.show();
    this.settled();
  }

  chooseFinding(name: string): void {
    if (name === this.state.finding) return;
    this.state.byHand.push(name);
    this.state.chooseFinding(name);
    this.show();
  }

  /** By a key of ours: Python is told with where that leads. */
  stepFinding(by: number): void {
    const names = this.state.scene.findings.map((finding) => finding.name);
    if (!names.length) return;
    const at = names.indexOf(this.state.finding);
    const name = names[at < 0 ? 0 : (at + by + names.length) % names.length];
    this.chooseFinding(name);
    this.state.unconfirmed = name;
    this.settled();
  }

  setFront(id: string): void {
    const window = this.state.windows.get(this.state.front);
    const before = this.state.frontVolume;
    this.state.front = id;
    // Phases of one series share their window.
    if (window && before.time_index !== null && this.state.frontVolume.time_index !== null) this.state.windows.set(id, window);
    this.show();
  }

  setWindow(range: Range, volume = this.state.frontVolume): void {
    const isPhase = volume.time_index !== null;
    const all = isPhase ? this.state.phases : [volume];
    for (const { id } of all) this.state.windows.set(id, range);
    this.redraw();
    this.toolbar.update();
  }

  moveCrosshair(point: Vec3, volume: SceneVolume): void {
    this.state.moveCrosshair(this.within(point, volume), volume.id);
    this.state.isUnplaced = false; // the reader has gone elsewhere
    this.redraw();
  }

  /** The point itself, or the nearest one inside the image. */
  private within(point: Vec3, volume: SceneVolume): Vec3 {
    const image = this.study.image(volume);
    if (!image) return point;
    const { affine, inverse, dims } = image.grid;
    const times = (m: number[], p: Vec3): Vec3 => [0, 1, 2].map((r) => m[4 * r] * p[0] + m[4 * r + 1] * p[1] + m[4 * r + 2] * p[2] + m[4 * r + 3]) as Vec3;
    const index = times(inverse, point).map((value, axis) => Math.min(dims[axis] - 1, Math.max(0, value))) as Vec3;
    return times(affine, index);
  }

  /** To the next slice of a panel: onto the centre of its voxels. */
  scroll(shown: Shown, slices: number): void {
    const { volume } = shown.panel;
    const image = this.study.image(volume);
    if (!image || shown.panel.ray) return;
    const { number, count } = shown.slice;
    const target = Math.min(count, Math.max(1, number + slices));
    const step = stepAlong(image.grid, shown.normal);
    const crosshair = this.crosshairOf(volume);
    const now = dot(sub(crosshair, centre(image.grid)), shown.normal);
    const wanted = (target - (count + 1) / 2) * step;
    this.moveCrosshair(add(crosshair, scale(shown.normal, wanted - now)), volume);
    this.settleSoon();
  }

  reset(): void {
    const { state } = this;
    state.windows.clear();
    state.focuses.clear();
    state.crosshairs.clear();
    Object.assign(state, { zoom: 1, isInverted: false, isSmooth: true, turn: { azimuth: 0.5, elevation: 0.25 } });
    if (state.scene.window) state.windows.set(state.front, state.scene.window);
    this.show();
    this.settled();
  }

  settleSoon(): void {
    clearTimeout(this.settle);
    this.settle = window.setTimeout(() => this.settled(), SETTLED_MS);
  }

  /** Tells Python where the reader is: on pointer-up, never while something moves. */
  settled(): void {
    clearTimeout(this.settle);
    const volume = this.state.frontVolume;
    if (!this.study.image(volume)) return;
    const [point_lps, window, layout] = [this.crosshairOf(volume), this.windowOf(volume), this.state.layout];
    this.state.remember("crosshair", point_lps);
    this.state.remember("window", window);
    this.state.remember("layout", layout);
    this.send({ kind: "crosshair", point_lps, volume: volume.id, layout, window, finding: this.state.unconfirmed });
  }

  addMeasurement(measurement: Measurement): void {
    this.state.measurements.push(measurement);
    this.send({ kind: "measured", kind_of: measurement.kind, value: valueOf(measurement), volume: measurement.volume, points_lps: measurement.points });
    this.redraw();
    this.toolbar.update();
  }

  clearMeasurements(): void {
    this.state.measurements = [];
    this.draft = null;
    this.redraw();
    this.toolbar.update();
  }

  /** Every mask with unsaved strokes, be its volume in front or not. */
  async save(): Promise<void> {
    const volumes = this.painting.unsaved(this.state.scene.volumes);
    if (!volumes.length) return this.tell("Nothing has been painted that is not saved.");
    this.tell("Saving…");
    try {
      for (const volume of volumes) {
        const voxels_changed = await this.painting.save(volume);
        this.tell(`Mask of ${volume.title} saved: ${voxels_changed} voxels changed.`);
        this.send({ kind: "mask_saved", volume: volume.id, voxels_changed });
      }
    } catch (error) {
      this.tell((error as Error).message);
    }
    this.toolbar.update();
  }

  /** Whether the reader goes on to another case, though that forgets what is not saved. */
  mayLeave(): boolean {
    return !this.painting.isUnsaved || window.confirm("What you painted is not saved, and is lost with the next case. Go on?");
  }

  undo(): void {
    this.painting.undo();
    this.toolbar.update();
  }

  /** The pictures with what lies over them, offered as a file. */
  screenshot(): void {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.drawing.canvas.width, this.drawing.canvas.height];
    const context = canvas.getContext("2d")!;
    context.drawImage(this.drawing.canvas, 0, 0);
    context.drawImage(this.overlay.canvas, 0, 0);
    canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob!);
      link.download = `${this.state.scene.case_id}_${this.state.layout}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      this.send({ kind: "screenshot", volume: this.state.front });
    }, "image/png");
  }

  toggleHelp(): void {
    const open = this.stage.querySelector(".help");
    if (open) open.remove();
    else this.stage.append(help(this.state.scene.page_keys));
  }

  refreshControls(): void {
    this.toolbar.update();
  }

  release(): void {
    this.isGone = true;
    clearTimeout(this.settle);
    clearInterval(this.cine);
    clearTimeout(this.refining);
    cancelAnimationFrame(this.asked);
    document.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("click", this.onClick, true);
    window.removeEventListener("beforeunload", this.onLeave);
    this.sizes.disconnect();
    this.pointer.release();
    this.study.stop();
    this.drawing.release();
    this.host.remove();
  }
}
