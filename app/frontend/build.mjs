// npm ci && npm run build: writes ../components/assets/volume_viewer.js, which is committed.
import { build } from "esbuild";

await build({
  entryPoints: ["src/index.ts"],
  outfile: "../components/assets/volume_viewer.js",
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  loader: { ".css": "text", ".glsl": "text" },
  banner: { js: "/* medmtl volume viewer, Apache-2.0; source: app/frontend/src */" },
  legalComments: "eof",
});
