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
  urls: Record<string, string>;
  threshold: number; // share of the largest value
  opacity: number;
  colours: string;
}

export interface SceneFinding {
  name: string;
  title: string;
  control: string;
  place_url: string | null;
  activation: ActivationMap | null;
}

/** What a `place_url` answers. */
export interface Place { point_lps: Vec3 | null; highest: number }

export interface Brush { label: number; radius_mm: number }

export interface Scene {
  case_id: string;
  volumes: SceneVolume[];
  volume: string;
  segments: Segment[];
  findings: SceneFinding[];
  finding: string;
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
  page_keys: [string, string][];
}

export type ViewerEvent =
  | { kind: "crosshair"; point_lps: Vec3; volume: string; layout: Layout; window: Range; finding: string | null }
  | { kind: "mask_saved"; volume: string; voxels_changed: number }
  | { kind: "measured"; kind_of: "distance" | "angle"; value: number; volume: string; points_lps: Vec3[] }
  | { kind: "screenshot"; volume: string }
  | { kind: "key"; action: "next_case" | "previous_case" };
