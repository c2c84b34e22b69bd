// Colour scales of matplotlib at 17 places (CC0): even in lightness, safe for colour-blind readers.

const ANCHORS: Record<string, string> = {
  inferno: "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4",
  viridis: "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725",
  cividis: "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838",
};

export const SCALES = Object.keys(ANCHORS);

export function rgb(hex: string): [number, number, number] {
  const value = parseInt(hex.replace("#", ""), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

export function scaleTable(name: string): Uint8Array {
  const anchors = (ANCHORS[name] ?? ANCHORS.inferno).split(" ").map(rgb);
  const out = new Uint8Array(256 * 4);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (anchors.length - 1);
    const at = Math.min(Math.floor(place), anchors.length - 2);
    for (let c = 0; c < 3; c++) out[4 * i + c] = anchors[at][c] + (place - at) * (anchors[at + 1][c] - anchors[at][c]);
    out[4 * i + 3] = 255;
  }
  return out;
}
