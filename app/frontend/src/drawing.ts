// What both ways of drawing understand: panels, and how things look in them.
import type { Picture } from "./plane";
import type { Range, SceneVolume, Vec3 } from "./scene";

export type RayMode = "mip" | "masks" | "volume";

export interface SegmentLook { label: number; colour: [number, number, number]; opacity: number; isOutline: boolean }
export interface MapLook { finding: string; url: string; threshold: number; opacity: number; colours: string; low: number; high: number }

export interface Look {
  window: Range;
  isInverted: boolean;
  isSmooth: boolean;
  segments: SegmentLook[]; // visible ones
  map: MapLook | null;
}

export interface DrawnPanel {
  x: number; // upper left corner in the canvas, device pixels
  y: number;
  width: number;
  height: number;
  volume: SceneVolume;
  picture: Picture; // of the panel's pixels
  look: Look;
  ray: { mode: RayMode; forward: Vec3 } | null; // null: a plane
  key: string; // equal while nothing in it changes
}

export interface Box { low: Vec3; size: Vec3 }

export interface Drawing {
  readonly canvas: HTMLCanvasElement;
  readonly is3d: boolean;
  readonly isWaiting: boolean; // for pictures that were asked for
  /** Draws what has changed; false while a part is still to come (the caller asks again). */
  draw(panels: DrawnPanel[], ratio: number): boolean;
  /** Makes a coarse 3D picture sharp, a strip at a time; true while there is more to do. */
  refine(): boolean;
  resize(width: number, height: number): void;
  labelsChanged(volume: SceneVolume, box: Box | null): void;
  forget(): void; // all pictures are drawn again
  release(): void;
}
