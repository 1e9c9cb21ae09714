"use strict";
// The browser of samples. What a model wrote only ever becomes text: nothing here makes HTML of a string.
(() => {
  const PER_PAGE = 20;
  const data = JSON.parse(document.getElementById("rows").textContent);
  const at = Object.fromEntries(data.columns.map((name, i) => [name, i]));
  const form = document.getElementById("filters");
  const list = document.getElementById("list"), count = document.getElementById("count");
  const previous = document.getElementById("previous"), next = document.getElementById("next");
  const pageLabel = document.getElementById("page");
  let found = data.rows, page = 0;

  function element(tag, name, ...children) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...children);
    return made;
  }

  // Control characters get their pictures, and characters that turn the direction of writing their numbers.
  const visible = (text) => text
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (c) => (c === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))))
    .replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase()}⟩`);
  const words = (name) => name.replaceAll("_", " ");

  function options(field, values, label) {
    const select = form.elements[field];
    for (const [value, n] of values) {
      const option = element("option", "", `${label(value)} (${n.toLocaleString("en")})`);
      option.value = value;
      select.append(option);
    }
    select.parentElement.hidden = values.length < 2;
  }

  function tally(column) {
    const counts = new Map();
    for (const row of data.rows) if (row[at[column]] !== "") counts.set(String(row[at[column]]), (counts.get(String(row[at[column]])) ?? 0) + 1);
    return [...counts];
  }

  options("scope", tally("scope"), (i) => data.scopes[i]);
  options("outcome", tally("outcome"), words);
  options("fate", tally("fate"), (fate) => (fate === "kept" ? "kept as an example" : `dropped: ${words(fate)}`));
  document.getElementById("problem-ids").append(...Object.keys(data.problems).map((id) => {
    const option = document.createElement("option");
    option.value = id;
    return option;
  }));

  function matches(row, wanted) {
    if (wanted.scope !== "" && String(row[at.scope]) !== wanted.scope) return false;
    if (wanted.outcome !== "" && row[at.outcome] !== wanted.outcome) return false;
    if (wanted.fate !== "" && row[at.fate] !== wanted.fate) return false;
    const id = row[at.problem];
    if (wanted.problem !== "") {
      if (Object.hasOwn(data.problems, wanted.problem) ? id !== wanted.problem
        : !`${id}\n${data.problems[id]?.[0] ?? ""}`.toLowerCase().includes(wanted.problem.toLowerCase())) return false;
    }
    if (wanted.text !== "") {
      const text = `${row[at.id]}\n${row[at.completion]}\n${row[at.answer]}\n${row[at.detail]}`;
      if (!text.toLowerCase().includes(wanted.text.toLowerCase())) return false;
    }
    return true;
  }

  function text(label, content, kind) {
    const pre = element("pre", kind, visible(content));
    pre.dir = "auto";
    pre.tabIndex = 0; // a long text scrolls, by keyboard too
    pre.setAttribute("aria-label", label);
    return pre;
  }

  function sample(row) {
    const right = row[at.outcome] === "correct";
    const head = element("p", "head", element("b", right ? "good" : "bad", right ? "✓ right" : `✗ ${words(row[at.outcome])}`));
    const facts = [`${row[at.tokens]} tokens`, row[at.cut_off] ? "cut off at the limit" : "", row[at.origin] === "policy" ? "" : words(row[at.origin]),
      row[at.fate] === "kept" ? "kept as an example" : row[at.fate] && right ? `dropped: ${words(row[at.fate])}` : ""];
    head.append(element("span", "quiet", ` · ${facts.filter(Boolean).join(" · ")} · read `, element("code", "", visible(row[at.answer]) || "–"),
      " · ", element("code", "id", row[at.id])));
    const made = element("section", "sample", head, text("Completion", row[at.completion], "completion"));
    if (row[at.detail]) made.append(element("p", "quiet", visible(row[at.detail])));
    made.setAttribute("aria-label", `Sample ${row[at.id]}`);
    return made;
  }

  // The samples of one problem from one place share a card, so that its prompt stands there once.
  function card(rows) {
    const id = rows[0][at.problem];
    const [prompt, reference, ood] = data.problems[id] ?? ["(the run has no such problem)", "", ""];
    const only = element("button", "link", id);
    only.type = "button";
    only.title = "Only this problem";
    only.addEventListener("click", () => {
      form.elements.problem.value = id;
      filter();
      form.scrollIntoView({ block: "nearest" });
      form.elements.problem.focus({ preventScroll: true });
    });
    const where = [data.scopes[rows[0][at.scope]], ood].filter(Boolean).join(" · ");
    const made = element("article", "card", element("h3", "", where, " · ", only), text("Prompt", prompt, "prompt"),
      element("p", "quiet", "reference ", element("code", "", visible(reference) || "–")), ...rows.map(sample));
    made.setAttribute("aria-label", `Problem ${id}, ${where}`);
    return made;
  }

  function cards(rows) {
    const groups = [];
    for (const row of rows) {
      const last = groups[groups.length - 1];
      if (last && last[0][at.problem] === row[at.problem] && last[0][at.scope] === row[at.scope]) last.push(row);
      else groups.push([row]);
    }
    return groups.map(card);
  }

  function show() {
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...cards(found.slice(page * PER_PAGE, (page + 1) * PER_PAGE)));
    count.textContent = `${found.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} samples in this page`;
    pageLabel.textContent = `${page + 1} of ${pages}`;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
  }

  function filter() {
    const wanted = Object.fromEntries(["scope", "outcome", "fate", "problem", "text"].map((name) => [name, form.elements[name].value.trim()]));
    found = data.rows.filter((row) => matches(row, wanted));
    page = 0;
    show();
  }

  function turn(by) {
    page += by;
    show();
    count.scrollIntoView({ block: "start" });
  }

  let waiting = 0;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    filter();
  });
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  show();
})();
