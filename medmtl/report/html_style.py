"""How a report looks: light or dark as the reader's system is set, and light on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5c646e; --paper: #fff;
  --raised: #f5f6f8; --line: #d9dde3; --accent: #0b5cad; --warn: #fff3d6; --warn-line: #d99a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a2abb7; --paper: #14171b;
  --raised: #1d2127; --line: #353b44; --accent: #7db7f5; --warn: #3a2f12; --warn-line: #d99a00; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .3rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 62rem; }
a { color: var(--accent); }
.soft { color: var(--soft); font-size: .9rem; }
nav { display: flex; flex-wrap: wrap; font-size: .9rem; margin: .8rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; }
.notice { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .6rem .9rem;
  margin: .8rem 0; }
.note { background: var(--raised); border-left: 4px solid var(--line); padding: .6rem .9rem;
  margin: .8rem 0; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tile { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .9rem; min-width: 10rem; }
.tile b { display: block; font-size: 1.35rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; }
caption { text-align: left; color: var(--soft); padding: .2rem 0; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td .ci { color: var(--soft); font-size: .92em; }
.bad { color: #b3261e; font-weight: 600; }
@media (prefers-color-scheme: dark) { .bad { color: #ff8a80; } }
.figures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
figure { margin: .4rem 0; max-width: 100%; }
figure svg text { fill: currentColor; }
figure svg, figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .87rem; max-width: 34rem; }
.thumbnail { width: 22rem; max-width: 100%; border-radius: .3rem; display: block; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --raised: #fff;
    --line: #bbb; --accent: #000; --warn: #fff; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  body { font-size: 10pt; }
  .bad { color: #a00; }
  .scroll { overflow: visible; }
  tr, figure, .tile, .notice { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
