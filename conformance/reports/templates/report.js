"use strict";
// Shows a case's evidence when it is opened, and filters the list. Text goes into the page as text only:
// nothing here builds HTML from strings, because file names on a share may be anything.
(() => {
  const $ = (id) => document.getElementById(id);
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

  // ---- the evidence: one compressed element per family, an array of results

  const families = new Map();
  function resultsOf(family) {
    if (!families.has(family)) {
      const packed = document.querySelector(`script[data-family="${CSS.escape(family)}"]`).textContent;
      families.set(family, decompressed(packed));
    }
    return families.get(family);
  }
  async function decompressed(packed) {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }
  async function resultOf(details) {
    return (await resultsOf(details.dataset.family))[details.dataset.n];
  }

  // ---- one case

  async function render(details) {
    const body = details.querySelector(".body");
    if (body.dataset.rendered) return;
    body.dataset.rendered = "yes";
    try {
      show(body, await resultOf(details));
    } catch (error) {
      body.append(el("p", null, `The evidence cannot be shown (${error}); record.json beside this page holds the same.`));
    }
  }
  function show(body, result) {
    const { known, seconds, guest_seconds: guest } = result;
    const mounted = result.mount_shown || result.mount;
    body.append(facts([
      ["requires", result.requirement], ["source", result.source], ["severity", result.severity],
      ["function", result.title], ["why", result.reason],
      ["known", known && el("span", null, known.reason, " ", known.link ? link(known.link) : null)],
      ["mounted", mounted && el("code", null, mounted)],
      ["took", `${rounded(seconds)} s` + (guest ? `, of which the guest executed calls ${rounded(guest)} s` : "") + `, worker ${result.worker}`],
      ["covers", covers(result)], ["decided by", body.dataset.decided],
    ]));
    if (result.findings.length) {
      body.append(el("h4", null, "Findings"), el("ul", { class: "plain" }, ...result.findings.map((f) =>
        el("li", null, el("code", null, f.code), " ", f.text,
          f.known ? el("span", { class: "quiet" }, ` known: ${f.known.reason} (${f.known.component})`) : null))));
    }
    if (result.calls.length || result.comparisons.length) {
      body.append(el("h4", null, "Calls, and what was compared after them"), calls(result));
    }
    if (result.messages.length) body.append(el("h4", null, "9P messages that crossed"), ...messages(result));
    for (const { source, text } of result.log_excerpts) {
      body.append(el("h4", null, "Log: " + source), el("pre", null, text));
    }
    if (result.details) body.append(el("h4", null, "Details"), el("pre", null, result.details));
  }
  function rounded(seconds) {
    return Math.round(seconds * 1e4) / 1e4;
  }

  function covers({ covers: names, covers_ok: ok }) {
    if (!names.length) return null;
    const said = ok === null ? ["", " (this target gives no trace)"] : ok ? ["ok", " crossed"] : ["bad", " did not all cross"];
    return el("span", null, names.join(", "), el("span", { class: said[0] }, said[1]));
  }

  function calls(result) {
    const head = ["#", "process", "call", "inside", "outside", "control", "µs"];
    const rows = [];
    const after = new Map();
    for (const comparison of result.comparisons) {
      if (!after.has(comparison.after_call)) after.set(comparison.after_call, []);
      after.get(comparison.after_call).push(comparison);
    }
    // One stat stands open, so that both sides are seen side by side: the first that differs, else the first.
    const stats = result.comparisons.filter((c) => c.kind === "stat" || c.kind === "statx");
    const shown = stats.find((c) => !c.ok) || stats[0];
    const looks = (index) => {
      const found = after.get(index);
      after.delete(index);
      if (!found) return;
      rows.push(el("tr", { class: "looks" }, el("td"), el("td", { colspan: 6 }, ...found.map((c) => look(c, c === shown)))));
    };
    looks(0);
    result.calls.forEach((call, at) => {
      const value = (name) => {
        const mine = call.vantage === name || (name === "inside" && !["inside", "outside", "control"].includes(call.vantage));
        if (mine) return el("td", { class: call.errno ? "errno" : "" }, call.result);
        if (name !== "control" || call.control_result === null) return el("td");
        return el("td", { class: call.control_result !== call.result ? "odd" : "" }, call.control_result);
      };
      const micros = Math.round(call.seconds * 1e6);
      rows.push(el("tr", null,
        el("td", { class: "n" }, String(at + 1)), el("td", { class: "who" }, call.process),
        el("td", null, `${call.op}(${call.args.join(", ")})`,
          call.messages.length ? el("div", { class: "quiet" }, call.messages.join(", ")) : null),
        value("inside"), value("outside"), value("control"), el("td", { class: "us" }, micros ? micros.toLocaleString("en") : "")));
      looks(at + 1);
    });
    for (const index of [...after.keys()]) looks(index);
    return el("table", { class: "calls" },
      el("thead", null, el("tr", null, ...head.map((h) => el("th", { scope: "col", class: h === "#" ? "n" : h === "µs" ? "us" : "" }, h)))),
      el("tbody", null, ...rows));
  }

  function look({ kind, path, ok, fields }, open) {
    const tolerated = fields.filter((f) => f.tolerated !== null).length;
    const summary = el("summary", null, `compared ${kind} of `, el("code", null, path), ": ",
      el("b", null, ok ? "agrees" : "differs"),
      ` (${fields.length} ${fields.length === 1 ? "field" : "fields"}${tolerated ? `, ${tolerated} tolerated` : ""})`);
    const details = el("details", { class: ok ? "look" : "look wrong" }, summary);
    const fill = () => {
      if (details.querySelector("table")) return;
      const rows = fields.map((f) => {
        const judged = f.tolerated !== null ? `tolerated: ${f.tolerated}` : f.equal ? "equal" : "differs";
        return el("tr", { class: judged === "differs" ? "wrong" : "" },
          el("th", { scope: "row" }, f.name), value(f.name, f.inside), value(f.name, f.outside),
          el("td", { class: "judged" }, f.rule), el("td", { class: "judged" }, judged));
      });
      details.append(el("table", { class: "fields" },
        el("thead", null, el("tr", null, ...["field", "inside", "outside", "rule", "judged"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", null, ...rows)));
    };
    details.addEventListener("toggle", fill);
    if (!ok || open) { details.open = true; fill(); }
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

  function messages(result) {
    const runs = [];
    for (const message of result.messages) {
      const last = runs[runs.length - 1];
      if (last && last[0] === message) last[1] += 1;
      else runs.push([message, 1]);
    }
    const crossed = Object.entries(result.message_counts).sort(([a], [b]) => (a < b ? -1 : 1));
    const total = crossed.reduce((sum, [, n]) => sum + n, 0);
    const kept = result.messages.length;
    const left = total > kept ? ` (the first ${kept} of ${total} in order)` : "";
    return [
      crossed.length ? el("p", { class: "quiet" }, crossed.map(([name, n]) => `${name} ${n}`).join(", ") + left) : null,
      el("div", { class: "msgs" }, ...runs.flatMap(([message, times]) => [
        el("span", { class: message.includes("->") ? "errno" : "" }, message + (times > 1 ? ` ×${times}` : "")), " "])),
    ].filter(Boolean);
  }

  // ---- the matrix of requests: a family opens into its cases

  const requests = [...document.querySelectorAll(".matrix thead span")].map((head) => head.textContent);
  async function unfold(body, wanted) {
    const button = body.querySelector(".fold");
    if ((button.getAttribute("aria-expanded") === "true") === wanted) return;
    button.setAttribute("aria-expanded", String(wanted));
    if (wanted && body.rows.length === 1) {
      const results = await resultsOf(body.dataset.family);
      const own = cases.filter((c) => c.dataset.family === body.dataset.family);
      if (body.rows.length === 1) body.append(...own.map((c) => crossing(c.id, results[c.dataset.n])));
    }
    [...body.rows].slice(1).forEach((row) => { row.hidden = button.getAttribute("aria-expanded") !== "true"; });
  }
  function crossing(anchor, { id, mount, covers: names, covers_ok: ok, message_counts: counts }) {
    const cells = requests.map((name) => {
      const needed = names.includes(name), times = counts[name] || 0;
      const missing = needed && !times && ok !== null;
      if (!times && !missing) return el("td", null, el("span", { class: "nil" }, "·"));
      return el("td", { class: needed ? missing ? "needed absent" : "needed" : "" }, String(times));
    });
    const several = document.getElementById("mount");
    return el("tr", { class: "one" }, el("th", { scope: "row" }, el("a", { href: `#${anchor}` }, id),
      several && mount ? el("span", { class: "mount" }, ` ${mount}`) : null), ...cells);
  }
  const bodies = [...document.querySelectorAll(".matrix tbody")];
  bodies.forEach((body) => body.querySelector(".fold").addEventListener("click", (event) =>
    unfold(body, event.target.getAttribute("aria-expanded") !== "true")));
  if (bodies.length) {
    $("unfold").addEventListener("click", () => {
      const wanted = bodies.some((body) => body.querySelector(".fold").getAttribute("aria-expanded") !== "true");
      $("unfold").textContent = wanted ? "close every family" : "open every family";
      bodies.forEach((body) => unfold(body, wanted));
    });
  }

  // ---- the filter

  const words = $("words"), deep = $("deep"), family = $("family"), mount = $("mount");
  const verdicts = [...document.querySelectorAll("input[name=verdict]")];
  const texts = new Map(), evidence = new Map();
  function kept(map, details, make) {
    if (!map.has(details)) map.set(details, make().toLowerCase());
    return map.get(details);
  }
  async function haystacks() {
    const ofSummary = (c) => kept(texts, c, () => c.querySelector("summary").textContent);
    if (!deep.checked) return ofSummary;
    const results = new Map(await Promise.all(cases.map(async (c) => [c, await resultOf(c)])));
    return (c) => ofSummary(c) + kept(evidence, c, () => JSON.stringify(results.get(c)));
  }
  let applied = 0;
  async function apply() {
    const turn = ++applied;
    const sought = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const haystack = sought.length ? await haystacks() : null;
    if (turn !== applied) return;
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
  async function arrive() {
    const name = decodeURIComponent(location.hash.slice(1));
    if (!name) return;
    // as reports write it: "ID[parameters] on MOUNT"; the id alone stands for the first of its mounts or parameters
    const plain = (part) => part.replace(/[^A-Za-z0-9_.-]+/g, "_").replace(/^_+|_+$/g, "");
    const spelt = name.split(" on ").map(plain).join("~");
    const sought = document.getElementById(name) || document.getElementById(spelt)
      || ["~", "_"].map((end) => cases.find((c) => c.id.startsWith(spelt + end))).find((c) => c);
    if (!sought || !sought.classList.contains("case")) return;
    if (sought.hidden) choose("", "");
    await render(sought);
    sought.open = true;
    sought.scrollIntoView();
  }
  // What stays at the top while the list goes by is as high as its rows need.
  const measure = () => document.documentElement.style.setProperty("--bar", `${$("filter").offsetHeight}px`);
  addEventListener("resize", measure);
  measure();
  addEventListener("hashchange", arrive);
  apply();
  arrive();
})();
