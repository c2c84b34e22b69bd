// What Python sends: the fields of app/components/scene.py, under the same names.

export type Vec3 = [number, number, number];
export type Layout = "axial" | "coronal" | "sagittal" | "mpr" | "3d" | "side_by_side";
export type Range = [number, number];

export interface WindowPreset { name: string; low: number; high: number }

export interface SceneVolume {
  id: string;
  title: string;
  image_url: string;
  labels_url: string | null;
  save_url: string | null;
  slices_url: string | null;
  modality: string;
  unit: string;
  presets: WindowPreset[];
  window: Range | null;
  time_index: number | null;
}

export interface Segment {
  label: number;
  name: string;
  colour: string;
  is_visible: boolean;
  opacity: number;
  is_outline: boolean;
}

export interface ActivationMap {
  finding: string;
  urls: Record<string, string>;
  threshold: number;
  opacity: number;
  colours: string;
  low: number;
  high: number;
}

export interface Brush { label: number; radius_mm: number }

export interface Scene {
  case_id: string;
  volumes: SceneVolume[];
  volume: string;
  segments: Segment[];
  activation: ActivationMap | null;
  layout: Layout;
  crosshair_lps: Vec3 | null;
  window: Range | null;
  is_inverted: boolean;
  is_smooth: boolean;
  is_linked: boolean;
  is_cine_playing: boolean;
  cine_fps: number;
  brush: Brush | null;
  has_toolbar: boolean;
  theme: "page" | "dark" | "light";
}

export type ViewerEvent =
  | { kind: "crosshair"; point_lps: Vec3; volume: string; layout: Layout; window: Range }
  | { kind: "mask_saved"; volume: string; voxels_changed: number }
  | { kind: "measured"; kind_of: "distance" | "angle"; value: number; volume: string; points_lps: Vec3[] }
  | { kind: "screenshot"; volume: string }
  | { kind: "key"; action: string };
