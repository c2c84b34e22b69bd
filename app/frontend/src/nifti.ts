// A gzipped NIfTI-1 file as the gateway serves it: little endian, single file, one volume.
// https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
import type { Affine } from "./math";

export type Voxels = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array;

export interface Nifti {
  dims: [number, number, number];
  affine: Affine; // voxel index -> LPS mm
  voxels: Voxels;
}

const TYPES: Record<number, new (buffer: ArrayBuffer, offset: number, length: number) => Voxels> = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 256: Int8Array, 512: Uint16Array, 768: Uint32Array,
};

async function inflate(response: Response): Promise<ArrayBuffer> {
  const stream = response.body!.pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  // The header tells the size: one allocation instead of a copy of all chunks at the end.
  let head = new Uint8Array(0);
  let whole: Uint8Array | null = null;
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!whole) {
      const joined = new Uint8Array(head.length + value.length);
      joined.set(head);
      joined.set(value, head.length);
      head = joined;
      if (head.length < 352) continue;
      whole = new Uint8Array(352 + byteCount(new DataView(head.buffer)));
      whole.set(head.subarray(0, whole.length));
      at = head.length;
    } else {
      whole.set(value, at);
      at += value.length;
    }
  }
  if (!whole || at !== whole.length) throw new Error("The image arrived incomplete. Reload the page.");
  return whole.buffer as ArrayBuffer;
}

function byteCount(header: DataView): number {
  if (header.getInt32(0, true) !== 348) throw new Error("The server sent something that is no NIfTI file.");
  const [x, y, z] = [42, 44, 46].map((at) => header.getInt16(at, true));
  return (x * y * z * header.getInt16(72, true)) / 8;
}

export function parse(buffer: ArrayBuffer): Nifti {
  const header = new DataView(buffer);
  const dims = [42, 44, 46].map((at) => header.getInt16(at, true)) as [number, number, number];
  const type = TYPES[header.getInt16(70, true)];
  if (!type) throw new Error(`Voxel type ${header.getInt16(70, true)} cannot be shown.`);
  const row = (at: number) => [0, 4, 8, 12].map((step) => header.getFloat32(at + step, true));
  // The file is RAS; x and y change sign for LPS.
  const affine = [...row(280).map((v) => -v), ...row(296).map((v) => -v), ...row(312), 0, 0, 0, 1];
  return { dims, affine, voxels: new type(buffer, 352, dims[0] * dims[1] * dims[2]) };
}

export async function fetchNifti(url: string, signal: AbortSignal): Promise<Nifti> {
  const response = await fetch(new URL(url, document.baseURI), { signal });
  if (!response.ok) throw new Error((await response.text()).slice(0, 300) || `The server answered ${response.status}.`);
  return parse(await inflate(response));
}
