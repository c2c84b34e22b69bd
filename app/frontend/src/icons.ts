// Line drawings of 20 x 20, in the colour of the text.

const PATHS: Record<string, string> = {
  crosshair: "M10 2v6M10 12v6M2 10h6M12 10h6",
  window: "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14M10 3v14M12 5h2M12 8h4M12 11h4M12 14h3",
  pan: "M10 2v16M2 10h16M10 2l-2 2.5M10 2l2 2.5M10 18l-2-2.5M10 18l2-2.5M2 10l2.5-2M2 10l2.5 2M18 10l-2.5-2M18 10l-2.5 2",
  zoom: "M8.5 3a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M12.5 12.5L17 17M6.5 8.5h4M8.5 6.5v4",
  distance: "M3 14L14 3l3 3L6 17zM6 11l1.5 1.5M8.5 8.5L10 10M11 6l1.5 1.5",
  angle: "M3 16h14M3 16L13 4M9 16a6 6 0 0 0-2.2-4.6",
  brush: "M17 3c-3 1-7 5-8.500 7.500l1.500 1.500C12.500 10.500 16 6 17 3M7.500 11.500c-2 0-3 1.500-3 3c0 1-.5 1.500-1.500 2c3 .8 6-.5 6-3.500",
  eraser: "M8 16l-4.500-4.500L11 4l5.500 5.500L10 16zM7 8l5.500 5.500M10 16h7",
  invert: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  smooth: "M2 13c3 0 3-6 5.500-6s2.500 6 5 6s2.500-6 5.500-6",
  link: "M8 12l4-4M7 9l-2.500 2.500a2.800 2.800 0 0 0 4 4L11 13M13 11l2.500-2.500a2.800 2.800 0 0 0-4-4L9 7",
  play: "M6 4l10 6l-10 6z",
  reset: "M4 10a6 6 0 1 0 2-4.500M6 2v4h4",
  layers: "M10 3l7 4l-7 4l-7-4zM3 10l7 4l7-4M3 13l7 4l7-4",
  camera: "M3 6h3l1.500-2h5L14 6h3v10H3zM10 8.500a2.500 2.500 0 1 0 0 5a2.500 2.500 0 1 0 0-5",
  undo: "M7 4L3 8l4 4M3 8h8a5 5 0 0 1 0 9H8",
  clear: "M5 5l10 10M15 5L5 15",
};

export function icon(name: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
