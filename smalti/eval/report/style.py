"""The style sheet of a report: system fonts, two color schemes, one column on a phone."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d1c1a; --soft: #6b6862; --line: #e4e0d8;
  --ours: #14638f; --theirs: #b4690e; --ours-band: #14638f26; --theirs-band: #b4690e26;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161513; --card: #1f1e1b; --ink: #eceae4; --soft: #a09b91; --line: #35332e;
    --ours: #6cb8e6; --theirs: #e6a95c; --ours-band: #6cb8e62e; --theirs-band: #e6a95c2e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header, footer { max-width: 1160px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 56px; }
h1, h2 { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif; font-weight: 600; }
h1 { font-size: 44px; line-height: 1.1; margin: 0 0 12px; letter-spacing: -.01em; }
h2 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; }
h3 { font-size: 15px; margin: 30px 0 8px; font-weight: 600; }
p { margin: 0 0 14px; }
.lead { max-width: 74ch; color: var(--soft); margin-bottom: 22px; }
header .lead { font-size: 18px; }
section { padding: 36px 0 10px; border-top: 1px solid var(--line); margin-top: 36px; }
.numbers { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 30px 0 0; padding: 0; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 13px 16px 12px; }
.numbers dt { color: var(--soft); font-size: 13px; line-height: 1.4; }
.numbers dd { margin: 0; font-size: 25px; font-weight: 600; line-height: 1.3; }
.numbers dd small { display: block; font-size: 13px; font-weight: 400; color: var(--soft); line-height: 1.4; }
figure { margin: 0; min-width: 0; }
img { display: block; width: 100%; height: auto; border-radius: 6px; }
figcaption { margin-top: 5px; font-size: 11.5px; line-height: 1.35; color: var(--soft); }
figcaption span { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
figcaption span:last-child { color: var(--ink); font-weight: 600; }
.strip {
  display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 8px; padding: 14px 0;
  border-top: 1px solid var(--line);
}
h3 + .strip { border-top: 0; }
.strip .source img { outline: 2px solid var(--ink); outline-offset: 1px; }
.strip .thumb figcaption span:last-child { color: var(--theirs); }
.mosaics {
  display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 10px; margin: 6px 0 28px;
}
.mosaics svg { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--line); }
.grid { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 22px 26px; }
.sheet { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 5px; }
.grid h3 { margin: 0 0 6px; }
.row {
  display: grid; grid-template-columns: minmax(0, 210px) minmax(0, 1fr); gap: 18px; align-items: center;
  padding: 12px 0; border-top: 1px solid var(--line);
}
.row p { margin: 0; font-weight: 600; line-height: 1.35; }
.row p small { display: block; color: var(--soft); font-weight: 400; font-size: 13px; }
.row .sheet { grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 8px; }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px; margin-bottom: 26px; }
.plots svg {
  display: block;
  width: 100%;
  height: auto;
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 10px;
}
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--soft); }
svg .title { fill: var(--ink); font-weight: 600; font-size: 13.5px; }
svg .axis { stroke: var(--line); stroke-width: 1; }
svg .ours { stroke: var(--ours); } svg .theirs { stroke: var(--theirs); }
svg polyline { fill: none; stroke-width: 2; }
svg circle.ours { fill: var(--ours); stroke: none; } svg circle.theirs { fill: var(--theirs); stroke: none; }
svg polygon.ours { fill: var(--ours-band); stroke: none; }
svg polygon.theirs { fill: var(--theirs-band); stroke: none; }
svg text.ours { fill: var(--ours); stroke: none; font-weight: 600; }
svg text.theirs { fill: var(--theirs); stroke: none; font-weight: 600; }
.plot h3 { margin: 0 0 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 0 0 6px; font-size: 12.5px; color: var(--soft); }
.legend i {
  display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 5px; background: currentColor;
}
.c0 { --series: var(--ours); } .c1 { --series: var(--theirs); } .c2 { --series: #3f8a52; } .c3 { --series: #a3457e; }
.c4 { --series: #7a6bb0; } .c5 { --series: #8a8378; }
.legend span i { color: var(--series); }
svg polyline[class^="c"] { stroke: var(--series); }
svg circle[class^="c"] { fill: var(--series); stroke: none; }
svg polygon[class^="c"] { fill: var(--series); fill-opacity: .13; stroke: none; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 14px; margin-bottom: 24px; }
.charts img { image-rendering: pixelated; background: var(--card); }
.scroll { overflow-x: auto; margin-bottom: 18px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
caption { text-align: left; color: var(--soft); font-size: 13px; padding: 0 0 8px; }
th { font-weight: 600; font-size: 12.5px; color: var(--soft); vertical-align: bottom; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th.t, td.t { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
.facts {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 5px 20px; font-size: 14px; margin: 0 0 20px;
}
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
details summary { cursor: pointer; font-weight: 600; font-size: 15px; margin-bottom: 10px; }
footer { padding-top: 28px; padding-bottom: 60px; color: var(--soft); font-size: 13px; }
@media (max-width: 900px) {
  .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .plots { grid-template-columns: minmax(0, 1fr); }
  .numbers { grid-template-columns: repeat(2, 1fr); }
}
@media (max-width: 640px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 32px; }
  h1 { font-size: 34px; }
  section { margin-top: 26px; padding-top: 28px; }
  .strip, .mosaics { grid-template-columns: repeat(var(--narrow), minmax(0, 1fr)); }
  .strip { gap: 10px 6px; }
  .row { grid-template-columns: minmax(0, 1fr); gap: 8px; }
  .row .sheet { grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 6px; }
  .grid { gap: 20px 16px; }
  .grid .sheet { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .numbers dd { font-size: 21px; }
  figcaption { font-size: 10.5px; }
  .facts { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .facts dd { margin-bottom: 8px; }
  .numbers { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
}
@media print { body { background: #fff; } section { break-inside: avoid-page; } }
"""
