// Numbers to IEEE 754 half precision, which every WebGL2 device filters in 3D.
import type { Voxels } from "./nifti";

const HALF_MAX = 65504;

function toHalf(value: number, float: Float32Array, bits: Uint32Array): number {
  float[0] = value;
  const b = bits[0];
  const sign = (b >>> 16) & 0x8000;
  const exponent = ((b >>> 23) & 0xff) - 112;
  const mantissa = b & 0x7fffff;
  if (exponent <= 0) {
    if (exponent < -10) return sign;
    const shifted = (mantissa | 0x800000) >>> (1 - exponent);
    return sign | ((shifted + 0x1000) >>> 13);
  }
  if (exponent >= 31) return sign | 0x7bff;
  return sign | (((exponent << 10) | (mantissa >>> 13)) + ((mantissa >>> 12) & 1));
}

/** The power of two that brings the largest value into range; whole numbers stay as exact as can be. */
export function halfDivisor(low: number, high: number): number {
  const largest = Math.max(Math.abs(low), Math.abs(high));
  return largest > HALF_MAX ? 2 ** Math.ceil(Math.log2(largest / HALF_MAX)) : 1;
}

export class HalfPacker {
  private readonly table: Uint16Array | null = null;
  private readonly float = new Float32Array(1);
  private readonly bits = new Uint32Array(this.float.buffer);

  constructor(private readonly voxels: Voxels, private readonly divisor: number) {
    if (voxels.BYTES_PER_ELEMENT <= 2) {
      // 65,536 conversions instead of one per voxel; the index is the bit pattern.
      const patterns = new Uint16Array(65536).map((_, i) => i);
      const values = voxels instanceof Int16Array || voxels instanceof Int8Array ? new Int16Array(patterns.buffer) : patterns;
      this.table = new Uint16Array(65536);
      for (let i = 0; i < 65536; i++) this.table[i] = toHalf(values[i] / divisor, this.float, this.bits);
    }
  }

  pack(start: number, count: number): Uint16Array {
    const out = new Uint16Array(count);
    const { voxels, table } = this;
    if (table) for (let i = 0; i < count; i++) out[i] = table[voxels[start + i] & 0xffff];
    else for (let i = 0; i < count; i++) out[i] = toHalf(voxels[start + i] / this.divisor, this.float, this.bits);
    return out;
  }
}
