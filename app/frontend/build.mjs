// npm ci && npm run build: writes ../components/assets/volume_viewer.js, which is committed.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

// A test compares it: a source that changed and was not built again is noticed without Node.
const digest = createHash("sha256");
for (const name of readdirSync("src").sort()) digest.update(readFileSync(`src/${name}`));
const source = digest.digest("hex").slice(0, 16);

await build({
  entryPoints: ["src/index.ts"],
  outfile: "../components/assets/volume_viewer.js",
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  loader: { ".css": "text", ".glsl": "text" },
  banner: { js: `/* medmtl volume viewer, Apache-2.0; source: app/frontend/src ${source} */` },
  legalComments: "eof",
});
