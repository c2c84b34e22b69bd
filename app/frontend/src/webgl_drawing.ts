// Drawing with WebGL2: volumes as 3D textures, planes and rays in shaders, one context for all panels.
import copyFragment from "./copy.frag.glsl";
import panelVertex from "./panel.vert.glsl";
import rayFragment from "./ray.frag.glsl";
import sliceFragment from "./slice.frag.glsl";
import { scaleTable } from "./colours";
import type { Box, DrawnPanel, Drawing, Look } from "./drawing";
import { Program, formats, table2d, texture3d, type Gl } from "./gl";
import { HalfPacker, halfDivisor } from "./half";
import { columnMajor, scale } from "./math";
import type { SceneVolume } from "./scene";
import type { LabelData, MapData, Study } from "./study";
import { VolumeData } from "./volume";

const LOOK_WIDTH = 4096; // labels that can have a colour
const RAY_BUDGET_MS = 120;
const STRIP_BUDGET_MS = 40;
const RAY_STEPS = 192;
const SMALLEST_RAY_PX = 96;
const SHARP_PX = 560; // of the longer side, where the device is too slow for every pixel
const MODES = { mip: 0, masks: 1, volume: 2 } as const;

export class WebGlDrawing implements Drawing {
  readonly canvas = document.createElement("canvas");
  readonly is3d = true;
  readonly isWaiting = false;
  private readonly gl: Gl;
  private readonly slices: Program;
  private readonly rays: Program;
  private readonly copy: Program;
  private readonly images = new Map<VolumeData, { texture: WebGLTexture; divisor: number }>();
  private readonly labels = new Map<LabelData, WebGLTexture>();
  private readonly maps = new Map<MapData, WebGLTexture>();
  private readonly scales = new Map<string, WebGLTexture>();
  private readonly smooth: WebGLSampler;
  private readonly blocky: WebGLSampler;
  private readonly empty: { label: WebGLTexture; map: WebGLTexture };
  private readonly target: { frame: WebGLFramebuffer; texture: WebGLTexture };
  private look: { texture: WebGLTexture; key: string } | null = null;
  private drawn = new Map<string, string>();
  private rayScale = 0.35;
  private rayKey = "";
  private coarse: { panel: DrawnPanel; row: number; strip: number } | null = null;

  /** Throws where the browser has no WebGL2. */
  constructor(private readonly study: Study) {
    const gl = this.canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("no WebGL2");
    this.gl = gl;
    this.slices = new Program(gl, panelVertex, sliceFragment);
    this.rays = new Program(gl, panelVertex, rayFragment);
    this.copy = new Program(gl, panelVertex, copyFragment);
    this.smooth = this.sampler(gl.LINEAR);
    this.blocky = this.sampler(gl.NEAREST);
    const kinds = formats(gl);
    this.empty = {
      label: texture3d(gl, [1, 1, 1], kinds.label8, () => new Uint8Array(1)),
      map: texture3d(gl, [1, 1, 1], kinds.byte, () => new Uint8Array(1)),
    };
    this.target = { frame: gl.createFramebuffer()!, texture: gl.createTexture()! };
  }

  private sampler(filter: number): WebGLSampler {
    const { gl } = this;
    const sampler = gl.createSampler()!;
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.samplerParameteri(sampler, name, filter);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) gl.samplerParameteri(sampler, name, gl.CLAMP_TO_EDGE);
    return sampler;
  }

  resize(width: number, height: number): void {
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.forget();
  }

  forget(): void {
    this.drawn.clear();
    this.rayKey = "";
  }

  draw(panels: DrawnPanel[], ratio: number): boolean {
    const { gl } = this;
    const places = panels.map((p) => `${p.x},${p.y},${p.width},${p.height}`);
    if ([...this.drawn.keys()].some((place) => !places.includes(place))) {
      this.drawn.clear();
      this.coarse = null;
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      gl.disable(gl.SCISSOR_TEST);
      gl.clearColor(0, 0, 0, 1);
      gl.clear(gl.COLOR_BUFFER_BIT);
    }
    gl.enable(gl.SCISSOR_TEST);
    const changed = panels.filter((panel, i) => this.drawn.get(places[i]) !== panel.key);
    const flat = changed.filter((panel) => !panel.ray);
    for (const panel of flat) this.drawSlice(panel, ratio);
    // Planes first: the 3D picture is drawn in a frame of its own.
    const solid = changed.filter((panel) => panel.ray);
    if (solid.length) this.coarse = null;
    if (flat.length === 0) for (const panel of solid) this.drawRays(panel);
    for (const panel of flat.length === 0 ? changed : flat)
      this.drawn.set(`${panel.x},${panel.y},${panel.width},${panel.height}`, panel.key);
    return flat.length === 0 || solid.length === 0;
  }

  private drawSlice(panel: DrawnPanel, ratio: number): void {
    const { gl } = this;
    if (!this.place(panel)) return;
    const { map } = panel.look;
    const activation = map ? this.study.maps.done.get(map.url) : undefined;
    this.bind(4, gl.TEXTURE_3D, activation ? this.mapTexture(activation) : this.empty.map);
    this.bind(5, gl.TEXTURE_2D, this.scale(map?.colours ?? "inferno"));
    this.slices.draw({
      ...this.shared(panel),
      uPanel: [panel.x, this.canvas.height - panel.y - panel.height],
      uHeight: panel.height,
      uLineWidth: 1.5 * ratio,
      uMap: 4,
      uHasMap: activation !== undefined,
      uMapIndex: columnMajor(activation?.grid.inverse ?? [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
      uMapSize: activation?.grid.dims ?? [1, 1, 1],
      uMapLook: map ? [Math.max(map.threshold, 1 / 255), map.opacity, map.low, 1 / Math.max(map.high - map.low, 1e-6)] : [1, 0, 0, 1],
      uMapColours: 5,
    });
  }

  /** Sets viewport and scissor; false (and black) where the image is not there yet. */
  private place(panel: DrawnPanel): boolean {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    const bottom = this.canvas.height - panel.y - panel.height;
    gl.viewport(panel.x, bottom, panel.width, panel.height);
    gl.scissor(panel.x, bottom, panel.width, panel.height);
    if (this.study.image(panel.volume) instanceof VolumeData) return true;
    gl.clear(gl.COLOR_BUFFER_BIT);
    return false;
  }

  private shared(panel: DrawnPanel) {
    const { gl } = this;
    const image = this.study.image(panel.volume) as VolumeData;
    const labels = this.study.labelsOf(panel.volume);
    const { texture, divisor } = this.imageTexture(image);
    const { look, picture } = panel;
    this.bind(1, gl.TEXTURE_3D, texture);
    gl.bindSampler(1, look.isSmooth || panel.ray ? this.smooth : this.blocky);
    this.bind(2, gl.TEXTURE_3D, labels ? this.labelTexture(labels) : this.empty.label);
    this.bind(3, gl.TEXTURE_2D, this.lookTable(look));
    const [low, high] = look.window;
    return {
      uOrigin: picture.origin, uRight: picture.right, uDown: picture.down,
      uImage: 1,
      uImageIndex: columnMajor(image.grid.inverse),
      uImageSize: image.grid.dims,
      uWindow: [low / divisor, divisor / Math.max(high - low, 1e-6)],
      uIsInverted: look.isInverted,
      uLabels: 2,
      uHasLabels: labels !== undefined,
      uLook: 3,
    };
  }

  /** Into a small picture first, as large as the last one's time allows, stretched over the panel. */
  private drawRays(panel: DrawnPanel): void {
    if (!this.place(panel)) return;
    const share = Math.min(1, Math.max(this.rayScale, SMALLEST_RAY_PX / Math.max(panel.width, panel.height)));
    const [width, height] = [Math.ceil(panel.width * share), Math.ceil(panel.height * share)];
    if (this.rayKey !== panel.key) {
      this.aim(width, height);
      const took = this.castRays(panel, width, height);
      this.rayScale = Math.min(1, Math.max(0.1, Math.min(share * Math.sqrt(RAY_BUDGET_MS / took), share * 1.5)));
      this.rayKey = panel.key;
      if (share < 1) this.coarse = { panel, row: 0, strip: Math.max(4, Math.floor((STRIP_BUDGET_MS / took) * height * share)) };
      this.place(panel);
    }
    this.showRays(panel);
  }

  /** Into the current target; gives back the milliseconds it took. */
  private castRays(panel: DrawnPanel, width: number, height: number): number {
    const { gl } = this;
    const began = performance.now();
    const { picture, ray } = panel;
    const { grid } = this.study.image(panel.volume) as VolumeData;
    this.rays.draw({
      ...this.shared(panel),
      uOrigin: picture.origin,
      uRight: scale(picture.right, panel.width / width),
      uDown: scale(picture.down, panel.height / height),
      uSize: [width, height],
      uForward: ray!.forward,
      uMode: MODES[ray!.mode],
      uSteps: Math.min(RAY_STEPS, Math.ceil(2 * Math.max(...grid.dims))),
    });
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits until it is drawn
    return Math.max(1, performance.now() - began);
  }

  /** The coarse picture stays until all strips of the sharp one are there. */
  refine(): boolean {
    const { gl, coarse } = this;
    if (!coarse) return false;
    const { panel } = coarse;
    const share = Math.min(1, SHARP_PX / Math.max(panel.width, panel.height));
    const [width, height] = [Math.ceil(panel.width * share), Math.ceil(panel.height * share)];
    if (coarse.row === 0) this.aim(width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target.frame);
    gl.viewport(0, 0, width, height);
    gl.scissor(0, coarse.row, width, coarse.strip);
    const took = this.castRays(panel, width, height);
    coarse.row += coarse.strip;
    coarse.strip = Math.max(4, Math.min(coarse.strip * 2, Math.floor((coarse.strip * STRIP_BUDGET_MS) / took)));
    if (coarse.row < height) return true;
    this.coarse = null;
    this.place(panel);
    this.showRays(panel);
    return false;
  }

  private showRays(panel: DrawnPanel): void {
    this.bind(0, this.gl.TEXTURE_2D, this.target.texture);
    this.copy.draw({ uPicture: 0, uPanel: [panel.x, this.canvas.height - panel.y - panel.height], uPanelSize: [panel.width, panel.height] });
  }

  private aim(width: number, height: number): void {
    const { gl, target } = this;
    this.bind(0, gl.TEXTURE_2D, target.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.LINEAR);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, target.texture, 0);
    gl.viewport(0, 0, width, height);
    gl.scissor(0, 0, width, height);
  }

  private bind(unit: number, target: number, texture: WebGLTexture): void {
    this.gl.activeTexture(this.gl.TEXTURE0 + unit);
    this.gl.bindTexture(target, texture);
  }

  private imageTexture(image: VolumeData) {
    const known = this.images.get(image);
    if (known) return known;
    const divisor = halfDivisor(...image.range);
    const packer = new HalfPacker(image.voxels, divisor);
    const texture = texture3d(this.gl, image.grid.dims, formats(this.gl).half, (start, count) => packer.pack(start, count));
    const made = { texture, divisor };
    this.images.set(image, made);
    return made;
  }

  private labelTexture(labels: LabelData): WebGLTexture {
    const known = this.labels.get(labels);
    if (known) return known;
    const format = formats(this.gl)[labels.voxels instanceof Uint8Array ? "label8" : "label16"];
    const texture = texture3d(this.gl, labels.grid.dims, format, (start, count) => labels.voxels.subarray(start, start + count));
    this.labels.set(labels, texture);
    return texture;
  }

  private mapTexture(map: MapData): WebGLTexture {
    const known = this.maps.get(map);
    if (known) return known;
    const texture = texture3d(this.gl, map.grid.dims, formats(this.gl).byte, (start, count) => map.voxels.subarray(start, start + count));
    this.maps.set(map, texture);
    return texture;
  }

  private scale(name: string): WebGLTexture {
    const known = this.scales.get(name);
    if (known) return known;
    const texture = table2d(this.gl, 256, 1, scaleTable(name));
    this.scales.set(name, texture);
    return texture;
  }

  private lookTable({ segments }: Look): WebGLTexture {
    const key = JSON.stringify(segments);
    if (this.look?.key === key) return this.look.texture;
    const rgba = new Uint8Array(LOOK_WIDTH * 2 * 4);
    for (const { label, colour, opacity, isOutline } of segments.filter((s) => s.label < LOOK_WIDTH)) {
      rgba.set([...colour, Math.round(opacity * 255)], 4 * label);
      rgba[4 * (LOOK_WIDTH + label)] = isOutline ? 255 : 0;
    }
    this.look = { texture: table2d(this.gl, LOOK_WIDTH, 2, rgba, this.look?.texture), key };
    return this.look.texture;
  }

  labelsChanged(volume: SceneVolume, box: Box | null): void {
    const labels = this.study.labelsOf(volume);
    const texture = labels ? this.labels.get(labels) : undefined;
    if (labels && texture && box) this.upload(labels, texture, box);
    this.forget();
  }

  private upload(labels: LabelData, texture: WebGLTexture, { low, size }: Box): void {
    const { gl } = this;
    const [width, height] = labels.grid.dims;
    const part = labels.voxels instanceof Uint8Array ? new Uint8Array(size[0] * size[1] * size[2]) : new Uint16Array(size[0] * size[1] * size[2]);
    for (let k = 0, at = 0; k < size[2]; k++)
      for (let j = 0; j < size[1]; j++, at += size[0]) {
        const start = low[0] + width * (low[1] + j + height * (low[2] + k));
        part.set(labels.voxels.subarray(start, start + size[0]), at);
      }
    this.bind(0, gl.TEXTURE_3D, texture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const format = formats(gl)[labels.voxels instanceof Uint8Array ? "label8" : "label16"];
    gl.texSubImage3D(gl.TEXTURE_3D, 0, ...low, ...size, format.format, format.type, part);
  }

  /** Frees the textures of what the study has dropped. */
  prune(): void {
    this.coarse = null;
    const kept = new Set<object>([...this.study.images.done.values(), ...this.study.labels.done.values(), ...this.study.maps.done.values()]);
    for (const [image, { texture }] of this.images) if (!kept.has(image)) { this.gl.deleteTexture(texture); this.images.delete(image); }
    for (const known of [this.labels, this.maps] as Map<object, WebGLTexture>[])
      for (const [data, texture] of known) if (!kept.has(data)) { this.gl.deleteTexture(texture); known.delete(data); }
  }

  release(): void {
    for (const { texture } of this.images.values()) this.gl.deleteTexture(texture);
    for (const texture of [...this.labels.values(), ...this.maps.values()]) this.gl.deleteTexture(texture);
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
    this.canvas.width = this.canvas.height = 0;
  }
}
