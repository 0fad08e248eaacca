"""How pages look, in light and in dark."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --card: #f5f7f9; --ink: #1b1f24; --quiet: #545c66; --rule: #cfd6dd;
  --accent: #0b5cad; --good: #14692f; --bad: #ab1f16; --total: #62707d; --mark: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2126; --ink: #e7eaed; --quiet: #a6afb8; --rule: #3b434b;
    --accent: #6cb2ff; --good: #5bd070; --bad: #ff8a80; --total: #8b98a5; --mark: #0e1114;
  }
}
* { box-sizing: border-box; }
html { background: var(--page); color: var(--ink); -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 74rem;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 {
  font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--rule);
}
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 46rem; margin: .5rem 0; }
.quiet, caption, figcaption { color: var(--quiet); }
.quiet, figcaption { font-size: .9rem; }
a { color: var(--accent); }
nav { font-size: .95rem; margin: .8rem 0 0; }
nav a { margin-right: 1rem; display: inline-block; }
.glance {
  background: var(--card); border-left: 4px solid var(--accent); border-radius: 4px;
  padding: 1rem 1.25rem; margin: 1.5rem 0; list-style: none; max-width: 56rem; font-size: 1.05rem;
}
.glance li { margin: .35rem 0; }
.glance li:first-child { font-weight: 600; }
code, .recipe { font: .9em ui-monospace, "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; }
.letter {
  display: inline-block; min-width: 1.5em; padding: 0 .35em; border-radius: 1em; text-align: center;
  font-weight: 700; font-size: .85em; background: var(--accent); color: var(--mark);
}
.scroll { overflow-x: auto; margin: .8rem 0 1.4rem; }
.scroll:focus-visible, a:focus-visible, summary:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px;
}
table { border-collapse: collapse; font-size: .92rem; min-width: 28rem; }
caption { text-align: left; padding-bottom: .35rem; font-size: .9rem; }
th, td {
  text-align: left; padding: .38rem .9rem .38rem 0; vertical-align: top;
  border-bottom: 1px solid var(--rule); overflow-wrap: break-word;
}
thead th { color: var(--quiet); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 500; min-width: 9rem; max-width: 30rem; overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.range { color: var(--quiet); font-size: .88em; }
.good { color: var(--good); } .bad { color: var(--bad); }
figure { margin: 0; min-width: 0; }
.figures {
  display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr));
}
svg { display: block; width: 100%; min-width: 25rem; height: auto; font-size: 13px; }
svg text { fill: var(--ink); } svg .quiet { fill: var(--quiet); font-size: 12px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .exact, svg .source { stroke: var(--quiet); stroke-dasharray: 5 4; stroke-width: 1.2; }
svg .front { stroke: var(--accent); stroke-width: 2; fill: none; opacity: .65; }
svg .whisker { stroke: var(--accent); stroke-width: 1.4; }
svg .dot { fill: var(--accent); stroke: var(--page); stroke-width: 1.5; }
svg .behind { fill: var(--total); }
svg .name { font-weight: 700; }
.waterfall { width: 100%; min-width: 42rem; }
.waterfall th { max-width: 18rem; }
.waterfall td:nth-child(2) { width: 42%; }
.track { display: block; position: relative; height: 1.15rem; min-width: 12rem; }
.bar { position: absolute; top: .1rem; bottom: .1rem; min-width: 2px; border-radius: 2px; }
.bar.total { background: var(--total); } .bar.loss { background: var(--bad); }
.bar.gain { background: var(--good); }
details { margin: .6rem 0 1.2rem; } summary { cursor: pointer; color: var(--accent); }
article { background: var(--card); border-radius: 6px; padding: .8rem 1.1rem; margin: .9rem 0; }
article h4 { margin: .1rem 0 .3rem; font-size: 1rem; }
article table { width: 100%; } article .scroll { margin-bottom: .3rem; }
dt { font-weight: 600; margin-top: .7rem; } dd { margin: .1rem 0 0; max-width: 46rem; }
@media print {
  body { max-width: none; } .scroll { overflow: visible; } article { break-inside: avoid; }
}
"""
