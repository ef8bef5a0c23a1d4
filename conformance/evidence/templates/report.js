"use strict";
// Shows a case's evidence when it is opened, and filters the list. Text goes into the page as text only:
// nothing here builds HTML from strings, because file names on a share may be anything.
(() => {
  const $ = (id) => document.getElementById(id);
  const shared = JSON.parse($("shared").textContent);
  const cases = [...document.querySelectorAll(".case")];

  // ---- making elements

  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== undefined && value !== "") made.setAttribute(name, value);
    }
    for (const child of children) {
      if (child !== null && child !== undefined) made.append(visible(child));
    }
    return made;
  }
  // Control and direction characters are spelled out, as in the rest of the page.
  function visible(child) {
    if (typeof child !== "string") return child;
    return child.replace(/[^\P{C}\n\t]|[\u2028\u2029]/gu, (c) => {
      const code = c.codePointAt(0).toString(16);
      return code.length < 3 ? "\\x" + code.padStart(2, "0") : "\\u" + code.padStart(4, "0");
    });
  }
  function facts(pairs) {
    return el("dl", { class: "facts" }, ...pairs.filter(([, value]) => value).map(([name, value]) =>
      el("div", null, el("dt", null, name), el("dd", null, value))));
  }
  function link(address) {
    if (!/^https?:\/\//.test(address)) return address;
    return el("a", { href: address, rel: "noreferrer" }, address);
  }

  // ---- one case

  function render(details) {
    const body = details.querySelector(".body");
    if (body.firstChild) return;
    const data = JSON.parse(details.querySelector("script").textContent);
    const s = data.s;
    const [seconds, guest] = data.e || [0, 0];
    body.append(facts([
      ["requires", data.r], ["source", data.o], ["severity", data.v], ["function", data.t], ["why", data.y],
      ["known", data.k && el("span", null, data.k[0], " ", data.k[1] ? link(data.k[1]) : null)],
      ["mounted", data.m && el("code", null, data.m)],
      ["took", `${seconds} s` + (guest ? `, of which the guest executed calls ${guest} s` : "") + `, worker ${data.w || "main"}`],
      ["covers", covers(data)], ["decided by", data.b],
    ]));
    if (data.q) {
      body.append(el("h4", null, "Findings"), el("ul", { class: "plain" }, ...data.q.map(([code, text, known]) =>
        el("li", null, el("code", null, code), " ", text, known ? el("span", { class: "quiet" }, " known: " + known) : null))));
    }
    if (data.c.length || data.f.length) {
      body.append(el("h4", null, "Calls, and what was compared after them"), calls(data, s));
    }
    if (data.g) body.append(el("h4", null, "9P messages that crossed"), ...messages(data, s));
    for (const [source, text] of data.l || []) {
      body.append(el("h4", null, "Log: " + source), el("pre", null, text));
    }
    if (data.d) body.append(el("h4", null, "Details"), el("pre", null, data.d));
  }

  function covers(data) {
    if (!data.n || !data.n[0].length) return null;
    const [names, ok] = data.n;
    const said = ok === null ? ["", " (this target gives no trace)"] : ok ? ["ok", " crossed"] : ["bad", " did not all cross"];
    return el("span", null, names.join(", "), el("span", { class: said[0] }, said[1]));
  }

  function calls(data, s) {
    const control = data.c.some((c) => c[7] >= 0);
    const head = ["#", "process", "call", "inside", "outside", "control", "µs"];
    const rows = [];
    const after = new Map();
    for (const comparison of data.f) {
      if (!after.has(comparison[0])) after.set(comparison[0], []);
      after.get(comparison[0]).push(comparison);
    }
    const looks = (index) => {
      const found = after.get(index);
      after.delete(index);
      if (!found) return;
      const cell = el("td", { colspan: 6 }, ...found.map((c) => look(c, s)));
      rows.push(el("tr", { class: "looks" }, el("td"), cell));
    };
    looks(0);
    data.c.forEach(([vantage, process, op, args, result, failed, micros, onControl, crossed], at) => {
      const where = s[vantage];
      const value = (name) => {
        const mine = where === name || (name === "inside" && !["inside", "outside", "control"].includes(where));
        if (mine) return el("td", { class: failed ? "errno" : "" }, s[result]);
        if (name !== "control" || onControl < 0) return el("td");
        return el("td", { class: onControl !== result ? "odd" : "" }, s[onControl]);
      };
      rows.push(el("tr", null,
        el("td", { class: "n" }, String(at + 1)), el("td", { class: "who" }, s[process]),
        el("td", null, `${s[op]}(${args.map((a) => s[a]).join(", ")})`,
          crossed ? el("div", { class: "quiet" }, crossed.map((m) => s[m]).join(", ")) : null),
        value("inside"), value("outside"), value("control"), el("td", { class: "us" }, micros ? micros.toLocaleString("en") : "")));
      looks(at + 1);
    });
    for (const index of [...after.keys()]) looks(index);
    return el("table", { class: "calls" },
      el("thead", null, el("tr", null, ...head.map((h) => el("th", { scope: "col", class: h === "#" ? "n" : h === "µs" ? "us" : "" }, h)))),
      el("tbody", null, ...rows));
  }

  function look([, kind, path, ok, shape, inside, odd], s) {
    const fields = shared.shapes[shape];
    const tolerated = Object.values(odd || {}).filter(([, , reason]) => reason >= 0).length;
    const summary = el("summary", null, `compared ${s[kind]} of `, el("code", null, s[path]), ": ",
      el("b", null, ok ? "agrees" : "differs"),
      ` (${fields.length} ${fields.length === 1 ? "field" : "fields"}${tolerated ? `, ${tolerated} tolerated` : ""})`);
    const details = el("details", { class: ok ? "look" : "look wrong" }, summary);
    const fill = () => {
      if (details.querySelector("table")) return;
      const rows = fields.map(([name, rule], i) => {
        const [outside, equal, reason] = (odd && odd[i]) || [inside[i], 1, -1];
        const judged = reason >= 0 ? `tolerated: ${shared.reasons[reason]}` : equal ? "equal" : "differs";
        return el("tr", { class: judged === "differs" ? "wrong" : "" },
          el("th", { scope: "row" }, name), value(name, s[inside[i]]), value(name, s[outside]),
          el("td", { class: "judged" }, rule), el("td", { class: "judged" }, judged));
      });
      details.append(el("table", { class: "fields" },
        el("thead", null, el("tr", null, ...["field", "inside", "outside", "rule", "judged"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", null, ...rows)));
    };
    details.addEventListener("toggle", fill);
    if (!ok) { details.open = true; fill(); }
    return details;
  }

  // A value as it was seen, and as people read it: modes as ls shows them, times as dates.
  function value(name, text) {
    let human = "";
    if (/(^|_)mode$/.test(name) && /^\d+$/.test(text)) human = mode(Number(text));
    if (/time_ns$/.test(name) && /^-?\d{12,}$/.test(text)) human = time(BigInt(text));
    return el("td", null, text, human ? el("br") : null, human ? el("small", null, human) : null);
  }
  function mode(bits) {
    const type = { 1: "p", 2: "c", 4: "d", 6: "b", 8: "-", 10: "l", 12: "s" }[(bits >> 12) & 15] || "?";
    const letters = [..."rwxrwxrwx"].map((c, i) => ((bits >> (8 - i)) & 1 ? c : "-"));
    [[0o4000, 2, "s"], [0o2000, 5, "s"], [0o1000, 8, "t"]].forEach(([bit, at, letter]) => {
      if (bits & bit) letters[at] = letters[at] === "x" ? letter : letter.toUpperCase();
    });
    return `0${bits.toString(8)} ${type}${letters.join("")}`;
  }
  function time(ns) {
    const billion = 1000000000n;
    let rest = ns % billion;
    if (rest < 0n) rest += billion;
    const date = new Date(Number((ns - rest) / billion) * 1000);
    if (isNaN(date)) return "";
    return date.toISOString().slice(0, 19).replace("T", " ") + "." + String(rest).padStart(9, "0");
  }

  function messages(data, s) {
    const runs = [];
    for (const number of data.g) {
      const last = runs[runs.length - 1];
      if (last && last[0] === number) last[1] += 1;
      else runs.push([number, 1]);
    }
    const counts = Object.entries(data.h || {}).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, n]) => `${name} ${n}`);
    const total = Object.values(data.h || {}).reduce((a, b) => a + b, 0);
    const left = total > data.g.length ? ` (the first ${data.g.length} of ${total} in order)` : "";
    return [
      counts.length ? el("p", { class: "quiet" }, counts.join(", ") + left) : null,
      el("div", { class: "msgs" }, ...runs.flatMap(([number, times]) => [
        el("span", { class: s[number].includes("->") ? "errno" : "" }, s[number] + (times > 1 ? ` ×${times}` : "")), " "])),
    ].filter(Boolean);
  }

  // ---- the filter

  const words = $("words"), deep = $("deep"), family = $("family"), mount = $("mount");
  const verdicts = [...document.querySelectorAll("input[name=verdict]")];
  const haystacks = new Map();
  function haystack(details) {
    const key = deep.checked ? "deep" : "text";
    if (!haystacks.has(details)) haystacks.set(details, {});
    const kept = haystacks.get(details);
    if (!(key in kept)) {
      const text = details.querySelector("summary").textContent;
      kept[key] = (deep.checked ? text + details.querySelector("script").textContent : text).toLowerCase();
    }
    return kept[key];
  }
  function apply() {
    const sought = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = verdicts.filter((v) => v.checked).map((v) => v.value);
    let shown = 0;
    for (const details of cases) {
      const d = details.dataset;
      const fits = (!chosen.length || chosen.includes(d.verdict)) && (!family.value || d.family === family.value) &&
        (!mount || !mount.value || d.mount === mount.value) && sought.every((w) => haystack(details).includes(w));
      details.hidden = !fits;
      shown += fits;
    }
    $("shown").textContent = shown === cases.length ? `${shown} shown` : `${shown} of ${cases.length} shown`;
    $("none").hidden = shown > 0 || !cases.length;
    $("open").disabled = !shown || shown > 200;
    $("open").title = shown > 200 ? "narrow the list down to 200 first" : "";
  }
  function choose(familyWanted, verdictWanted) {
    words.value = "";
    family.value = familyWanted || "";
    if (mount) mount.value = "";
    verdicts.forEach((v) => { v.checked = v.value === verdictWanted; });
    apply();
  }
  let waiting = 0;
  words.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 120); });
  $("filter").addEventListener("change", apply);
  $("filter").addEventListener("submit", (e) => { e.preventDefault(); apply(); });
  $("reset").addEventListener("click", () => choose("", ""));
  $("open").addEventListener("click", () => cases.forEach((c) => { if (!c.hidden) { render(c); c.open = true; } }));
  $("close").addEventListener("click", () => cases.forEach((c) => { c.open = false; }));
  document.querySelectorAll(".families a").forEach((a) =>
    a.addEventListener("click", () => choose(a.dataset.family, a.dataset.verdict)));

  // ---- opening

  cases.forEach((c) => c.addEventListener("toggle", () => { if (c.open) render(c); }));
  function arrive() {
    const sought = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!sought || !sought.classList.contains("case")) return;
    if (sought.hidden) choose("", "");
    render(sought);
    sought.open = true;
    sought.scrollIntoView();
  }
  addEventListener("hashchange", arrive);
  apply();
  arrive();
})();
