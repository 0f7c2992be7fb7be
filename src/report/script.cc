#include "report/page.h"

namespace molt::report {

// Details of a token under the pointer, touched, or reached with the arrow keys. All that it says stands in the page.
const std::string_view kScript = R"js(
"use strict";
for (const map of document.querySelectorAll(".map")) {
  const tokens = [...map.querySelectorAll(".passage i")];
  const status = map.querySelector(".status");
  const byPosition = new Map();
  for (const part of map.querySelectorAll(".passage p[data-first]")) {
    [...part.children].forEach((token, i) => {
      token.position = Number(part.dataset.first) + i;
      byPosition.set(token.position, token);
    });
  }
  const targets = token => [...new Set([token.dataset.h, token.dataset.r].filter(p => p !== undefined).map(Number))];
  const sources = new Map();
  for (const token of tokens) {
    for (const into of targets(token)) {
      if (!sources.has(into)) sources.set(into, []);
      sources.get(into).push(token.position);
    }
  }

  const list = positions => positions.slice(0, 8).map(p => {
    const token = byPosition.get(p);
    return p + (token ? " “" + token.textContent.trim() + "”" : "");
  }).join(", ") + (positions.length > 8 ? " and " + (positions.length - 8) + " more" : "");

  const words = token => {
    const into = targets(token), from = sources.get(token.position) || [];
    return (token.title || token.position + ": ran every block") + "." +
      (into.length ? " Took it in: " + list(into) + "." : "") +
      (from.length ? " Took in " + list(from) + "." : "");
  };

  let marked = [], focus = tokens[0];
  const mark = (token, kind) => { if (token) { token.classList.add(kind); marked.push([token, kind]); } };
  const show = token => {
    for (const [old, kind] of marked) old.classList.remove(kind);
    marked = [];
    mark(token, "here");
    targets(token).forEach(p => mark(byPosition.get(p), "into"));
    (sources.get(token.position) || []).forEach(p => mark(byPosition.get(p), "from"));
    const name = document.createElement("b");
    name.textContent = "“" + token.textContent.trim() + "” ";
    status.replaceChildren(name, words(token));
  };
  const reach = token => {
    focus.tabIndex = -1;
    focus = token;
    focus.tabIndex = 0;
    focus.focus();
  };

  // The token nearest to `from` on the line above (-1) or below (1).
  const beside = (from, direction) => {
    const line = token => token.getClientRects()[0];
    const here = line(from);
    let best = from, top = null;
    for (let i = tokens.indexOf(from) + direction; i >= 0 && i < tokens.length; i += direction) {
      const box = line(tokens[i]);
      if (!box || Math.abs(box.top - here.top) < here.height / 2) continue;
      if (top === null) top = box.top;
      if (Math.abs(box.top - top) > here.height / 2) break;
      if (best === from || Math.abs(box.left - here.left) < Math.abs(line(best).left - here.left)) best = tokens[i];
    }
    return best;
  };

  const passage = map.querySelector(".passage");
  passage.addEventListener("pointerover", event => {
    const token = event.target.closest("i");
    if (token) show(token);
  });
  passage.addEventListener("click", event => {
    const token = event.target.closest("i");
    if (token) reach(token);
  });
  passage.addEventListener("focusin", event => {
    const token = event.target.closest("i");
    if (token) show(token);
  });
  passage.addEventListener("keydown", event => {
    const at = tokens.indexOf(focus);
    const to = {
      ArrowLeft: () => tokens[at - 1], ArrowRight: () => tokens[at + 1],
      ArrowUp: () => beside(focus, -1), ArrowDown: () => beside(focus, 1),
      Home: () => tokens[0], End: () => tokens[tokens.length - 1],
    }[event.key];
    if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const token = to();
    if (token) reach(token);
  });
  if (tokens.length) focus.tabIndex = 0;
  status.textContent = "Point at a token, or move through the passage with the arrow keys, to see what became of it.";
  status.hidden = false;
}
)js";

}  // namespace molt::report
