#include "report/page.h"

namespace molt::report {

const std::string_view kStyle = R"css(
:root {
  --paper: #fbfaf6; --card: #ffffff; --ink: #1d2126; --soft: #59616b; --line: #e0dcd2; --accent: #0b5fa5;
  --s0: #0072b2; --s1: #d55e00; --s2: #00835f; --s3: #b0498a; --s4: #a87400; --s5: #3f7fb5; --s6: #6b5b4b;
  --text: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  --book: Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype", Georgia, "DejaVu Serif", serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --card: #1c2025; --ink: #e4e6e8; --soft: #9ba5b0; --line: #31373e; --accent: #7cc0ff;
    --s0: #56b4e9; --s1: #ff8f4e; --s2: #35cf9f; --s3: #eba3cf; --s4: #f0b93a; --s5: #a3c4ff; --s6: #cbb9a6;
  }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 3rem); max-width: 76rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.55 var(--text); overflow-wrap: break-word;
}
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h1 { margin: 0; font-size: clamp(1.7rem, 5vw, 2.5rem); letter-spacing: -0.02em; }
h2 { margin: 3.5rem 0 0.5rem; padding-top: 1.25rem; border-top: 1px solid var(--line); font-size: 1.45rem; }
h3 { margin: 2rem 0 0.5rem; font-size: 1.05rem; }
h3 small, figcaption { color: var(--soft); font-size: 0.875rem; font-weight: 400; }
p { margin: 0.5rem 0; max-width: 46rem; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.kind { margin: 0 0 0.25rem; color: var(--accent); font-size: 0.875rem; font-weight: 600; letter-spacing: 0.04em; }
.lead { color: var(--soft); font-size: 1.1rem; }
.note, .meaning { color: var(--soft); font-size: 0.9375rem; }
.meaning { margin: 0; padding: 0; list-style: none; max-width: 46rem; }
.meaning b { color: var(--ink); font-weight: 600; }
.warning { padding: 0.75rem 1rem; border-left: 4px solid var(--s1); background: var(--card); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 1.5rem 0 0; padding: 0; list-style: none; }

.facts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); gap: 0.9rem 1.5rem;
  margin: 1.5rem 0 0; padding: 1.1rem 1.25rem; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card);
}
.facts dt { color: var(--soft); font-size: 0.8125rem; }
.facts dd { margin: 0; font-size: 0.9375rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  .facts { gap: 0.35rem; }
  .facts div { display: grid; grid-template-columns: 7rem 1fr; }
}

.scroll {
  position: relative; margin: 0.75rem 0 1.25rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card);
}
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.5rem 0.8rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th, thead td { border-bottom: 1px solid var(--line); color: var(--soft); font-weight: 500; font-size: 0.8125rem; }
tbody th { position: sticky; left: 0; background: var(--card); font-weight: 500; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
@media (max-width: 40rem) {
  tbody th { min-width: 8.5rem; white-space: normal; }
  th, td { padding: 0.45rem 0.6rem; }
}

.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1.25rem; }
.plot {
  margin: 0; padding: 0.9rem 0.9rem 0.5rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card);
}
.plot figcaption { min-height: 2.7em; line-height: 1.35; }
.plot figcaption b { display: block; color: var(--ink); font-size: 0.9375rem; font-weight: 600; }
.plot svg { display: block; width: 100%; height: auto; max-width: 34rem; }
svg text { fill: var(--soft); font: 12px var(--text); font-variant-numeric: tabular-nums; }
svg line, svg .dense { stroke: var(--line); stroke-width: 1; }
svg line.tick { stroke: none; }
svg .dense { stroke: var(--ink); stroke-width: 1.5; }
svg line.guide { stroke: var(--soft); stroke-width: 1.25; stroke-dasharray: 2 4; stroke-linecap: round; }
svg g path { fill: var(--c); stroke: var(--card); stroke-width: 1; }
svg g path.joins { fill: none; stroke: var(--c); stroke-width: 1.75; opacity: 0.6; }
svg g path.error { fill: none; stroke: var(--c); stroke-width: 1.5; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.25rem; margin: 0.75rem 0; padding: 0; list-style: none;
  font-size: 0.9rem; }
.legend svg { width: 0.95rem; height: 0.95rem; margin-right: 0.4rem; vertical-align: -0.12rem; }

.texts { margin-top: 1rem; display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: 1.25rem; }
.texts figure { margin: 0; padding: 0.9rem 1.1rem; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); }
.texts .truth { border-color: var(--accent); }
.texts blockquote { margin: 0.35rem 0 0; font: 1.0625rem/1.6 var(--book); white-space: pre-wrap; }

.maps { display: flex; flex-wrap: wrap; gap: 0.5rem; margin-top: 1rem; }
.maps > input { position: absolute; opacity: 0; pointer-events: none; }
.maps > label {
  order: 1; padding: 0.35rem 0.8rem; border: 1px solid var(--line); border-radius: 99px; background: var(--card);
  font-size: 0.9rem; cursor: pointer; overflow-wrap: anywhere;
}
.maps > input:checked + label { border-color: var(--accent); background: var(--accent); color: var(--paper); }
.maps > input:focus-visible + label { outline: 2px solid var(--accent); outline-offset: 2px; }
.map { display: none; order: 2; flex: 0 0 100%; min-width: 0; }
input:checked + label + .map { display: block; }

.blocks { margin: 1rem 0; max-width: 46rem; }
.blocks div { display: flex; gap: clamp(1px, 0.4vw, 4px); margin-top: 0.5rem; }
.blocks span { flex: 1 1 0; min-width: 0; text-align: center; }
.blocks b:first-child {
  display: flex; flex-direction: column; height: 5.5rem; border-bottom: 1px solid var(--soft);
  background:
    linear-gradient(var(--soft), var(--soft)) bottom / 100% var(--f) no-repeat,
    repeating-linear-gradient(135deg, var(--soft) 0 1px, transparent 1px 4px) bottom /
      100% min(100%, calc(var(--f) + var(--w))) no-repeat,
    linear-gradient(var(--line), var(--line)) bottom / 100% 100% no-repeat;
}
.blocks b + b { display: block; height: 0.8rem; margin-top: 3px; border-radius: 2px; background: var(--bg); }
.blocks b.none { height: 3px; opacity: 0.45; margin-bottom: calc(0.8rem - 3px); }
.blocks small { display: block; height: 1.1rem; color: var(--soft); font-size: 0.6875rem; white-space: nowrap; }

.keys { display: flex; flex-wrap: wrap; gap: 0.3rem 1.5rem; margin: 0.75rem 0; padding: 0; list-style: none;
  font-size: 0.9rem; }
.keys i { font-family: var(--book); font-size: 1rem; }
.passage {
  max-width: 52rem; padding: clamp(0.9rem, 3vw, 1.75rem); border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); font: 1.0625rem/1.95 var(--book);
}
.passage p { max-width: none; margin: 0; white-space: pre-wrap; }
.passage .gap { margin: 1rem 0; color: var(--soft); font: italic 0.9rem var(--text); text-align: center; }
.passage i {
  padding: 0.12em 0; border-radius: 2px; background: var(--bg, transparent); color: var(--fg, inherit);
  font-style: normal; box-decoration-break: clone; -webkit-box-decoration-break: clone;
}
.passage i:not([class*="l"]):hover { background: var(--line); }
.passage i.z { font-family: var(--text); font-size: 0.8em; opacity: 0.85; }
.passage s { opacity: 0.55; text-decoration: none; font-size: 0.8em; }
i.p, i.m, i.b, i.w { font-style: normal; text-decoration-thickness: 1.5px; text-decoration-skip-ink: none; }
i.p { text-decoration-line: line-through; }
i.m { text-decoration-line: underline; text-decoration-style: double; text-underline-offset: 2px; }
i.b { text-decoration-line: underline; text-decoration-style: dashed; text-underline-offset: 3px; }
i.w { text-decoration-line: underline; text-decoration-style: dotted; text-underline-offset: 3px; }
.passage i.here, .passage i.into, .passage i.from { position: relative; z-index: 1; outline: 2px solid var(--ink); }
.passage i.here { outline-style: solid; outline-offset: 1px; }
.passage i.into { outline-color: var(--s1); outline-width: 3px; outline-offset: 1px; }
.passage i.from { outline-color: var(--s1); outline-style: dashed; outline-offset: 1px; }
.status {
  position: sticky; bottom: 0; max-width: 52rem; min-height: 3.2em; margin: 0; padding: 0.6rem 0.9rem;
  border: 1px solid var(--line); border-radius: 10px 10px 0 0; background: var(--card); font-size: 0.9rem;
  box-shadow: 0 -6px 18px rgb(0 0 0 / 8%);
}
.status[hidden] { display: none; }
.status b { font-family: var(--book); }

@media print { .status { display: none; } .scroll { overflow: visible; } }
)css";

}  // namespace molt::report
