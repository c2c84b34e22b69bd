// Drawing without WebGL2: the server draws the planes, this shows them.
import type { Box, DrawnPanel, Drawing } from "./drawing";
import type { SceneVolume } from "./scene";

export class ServerDrawing implements Drawing {
  readonly canvas = document.createElement("canvas");
  readonly is3d = false;
  private readonly context = this.canvas.getContext("2d")!;
  private readonly wanted = new Map<string, string>(); // by place in the canvas
  private readonly abort = new AbortController();

  private waiting = 0;

  /** `arrived` is called after each picture, also one that nobody wants any more. */
  constructor(private readonly failed: (message: string) => void, private readonly arrived: () => void) {}

  get isWaiting(): boolean {
    return this.waiting > 0;
  }

  resize(width: number, height: number): void {
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.forget();
  }

  forget(): void {
    this.wanted.clear();
  }

  draw(panels: DrawnPanel[]): boolean {
    const places = new Set(panels.map((p) => `${p.x},${p.y},${p.width},${p.height}`));
    if ([...this.wanted.keys()].some((place) => !places.has(place))) {
      this.wanted.clear();
      this.context.fillStyle = "black";
      this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    }
    for (const panel of panels) {
      const place = `${panel.x},${panel.y},${panel.width},${panel.height}`;
      if (this.wanted.get(place) === panel.key) continue;
      this.wanted.set(place, panel.key);
      if (panel.ray || !panel.volume.slices_url) this.sayNo(panel);
      else void this.show(panel, place);
    }
    return true;
  }

  refine(): boolean {
    return false;
  }

  private sayNo(panel: DrawnPanel): void {
    const { context } = this;
    context.fillStyle = "black";
    context.fillRect(panel.x, panel.y, panel.width, panel.height);
    context.fillStyle = "#aaa";
    context.font = "13px sans-serif";
    context.textAlign = "center";
    context.fillText("3D needs a browser with WebGL2", panel.x + panel.width / 2, panel.y + panel.height / 2);
  }

  private async show(panel: DrawnPanel, place: string): Promise<void> {
    const { picture, look } = panel;
    const query = {
      origin_lps: picture.origin, right_mm: picture.right, down_mm: picture.down,
      width: panel.width, height: panel.height, window: look.window,
      is_inverted: look.isInverted, is_smooth: look.isSmooth,
      segments: look.segments.map((s) => ({ label: s.label, colour: s.colour, opacity: s.opacity, is_outline: s.isOutline })),
      cam: look.map && {
        finding: look.map.finding, threshold: look.map.threshold, opacity: look.map.opacity,
        colours: look.map.colours, low: look.map.low, high: look.map.high,
      },
    };
    const url = new URL(panel.volume.slices_url!, document.baseURI);
    url.searchParams.set("q", JSON.stringify(query));
    this.waiting++;
    try {
      const response = await fetch(url, { signal: this.abort.signal });
      if (!response.ok) throw new Error((await response.text()).slice(0, 300));
      const bitmap = await createImageBitmap(await response.blob());
      // A reader who scrolls on has asked for something newer meanwhile.
      if (this.wanted.get(place) === panel.key) this.context.drawImage(bitmap, panel.x, panel.y);
      bitmap.close();
    } catch (error) {
      if (!this.abort.signal.aborted) this.failed((error as Error).message);
    } finally {
      this.waiting--;
      this.arrived();
    }
  }

  labelsChanged(_volume: SceneVolume, _box: Box | null): void {
    this.forget();
  }

  release(): void {
    this.abort.abort();
    this.canvas.width = this.canvas.height = 0;
  }
}
