// The editor of policy files: line numbers, faults as one types, keys, a trial beside the text.
// The page works without it: saving checks, trying opens a page of its own.
"use strict";

(() => {
  const form = document.querySelector("form.editor");
  if (!form) return;
  const area = form.querySelector("textarea");
  const gutter = form.querySelector("[data-gutter]");
  const findings = form.querySelector("[data-findings]");
  const trial = document.querySelector("[data-trial]");
  const saved = area.value;
  let faulty = new Set((findings.dataset.lines || "").split(" ").filter(Boolean).map(Number));
  let leaving = false;
  let drawn = "";

  // Line numbers: one text for each line, marked where a fault stands.
  const draw = () => {
    const count = area.value.split("\n").length;
    const key = `${count}|${[...faulty].join(",")}`;
    if (key === drawn) return;
    drawn = key;
    const numbers = document.createDocumentFragment();
    for (let line = 1; line <= count; line += 1) {
      const mark = document.createElement("span");
      mark.textContent = line;
      if (faulty.has(line)) mark.className = "fault-line";
      numbers.append(mark);
    }
    gutter.replaceChildren(numbers);
  };
  const follow = () => { gutter.scrollTop = area.scrollTop; };

  const lineHeight = () => parseFloat(getComputedStyle(area).lineHeight);
  const jump = (line, column) => {
    const lines = area.value.split("\n");
    const at = Math.min(line, lines.length) - 1;
    const start = lines.slice(0, at).reduce((sum, text) => sum + text.length + 1, 0);
    const from = column ? start + Math.min(column - 1, lines[at].length) : start;
    area.focus();
    area.setSelectionRange(from, start + lines[at].length);
    area.scrollTop = Math.max(0, at * lineHeight() - area.clientHeight / 3);
    follow();
  };

  const send = (address, body, type) => fetch(address, {
    method: "POST", credentials: "same-origin", headers: type ? { "Content-Type": type } : {}, body,
  });

  // Validation: after a pause in typing, one question at a time, the last answer counts.
  let timer = 0;
  let asked = 0;
  let told = saved;
  let pause = 400; // longer where a check takes long: a folder of a thousand rules is work for the gateway
  const check = async () => {
    const text = area.value;
    if (text === told) return;
    const turn = (asked += 1);
    findings.dataset.state = "waiting";
    const began = performance.now();
    try {
      const answer = await send(form.dataset.check, JSON.stringify({ name: form.dataset.name, text }), "application/json");
      if (turn !== asked) return;
      if (!answer.ok) throw new Error(answer.status);
      const found = await answer.json();
      told = text;
      pause = Math.min(5000, Math.max(400, 3 * (performance.now() - began)));
      findings.replaceChildren(...new DOMParser().parseFromString(found.html, "text/html").body.childNodes);
      findings.dataset.state = found.good ? "good" : "bad";
      faulty = new Set(found.lines);
      draw();
    } catch {
      if (turn !== asked) return;
      const text_ = document.createElement("p");
      text_.className = "soft";
      text_.textContent = findings.dataset.failed;
      findings.replaceChildren(text_);
      findings.dataset.state = "";
    }
  };
  area.addEventListener("input", () => {
    draw();
    clearTimeout(timer);
    timer = setTimeout(check, pause);
  });
  area.addEventListener("scroll", follow, { passive: true });
  findings.addEventListener("click", (event) => {
    const link = event.target.closest("a.jump");
    if (!link) return;
    event.preventDefault();
    jump(Number(link.dataset.line), Number(link.dataset.column));
  });

  // Put text in so that undo knows of it.
  const put = (start, end, text) => {
    area.setSelectionRange(start, end);
    if (!document.execCommand("insertText", false, text)) area.setRangeText(text, start, end, "end");
  };
  const indent = (back) => {
    const from = area.value.lastIndexOf("\n", area.selectionStart - 1) + 1;
    const to = Math.max(area.selectionEnd, from);
    const block = area.value.slice(from, to);
    const moved = back ? block.replace(/^ {1,2}/gm, "") : block.replace(/^/gm, "  ");
    if (moved === block) return;
    put(from, to, moved);
    area.setSelectionRange(from, from + moved.length);
  };
  area.addEventListener("keydown", (event) => {
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key === "s") { event.preventDefault(); form.requestSubmit(form.querySelector("[value=save]")); }
    else if (control && event.key === "Enter") { event.preventDefault(); form.requestSubmit(form.querySelector("[data-tries]")); }
    else if (control && event.key === "]") { event.preventDefault(); indent(false); }
    else if (control && event.key === "[") { event.preventDefault(); indent(true); }
    else if (event.key === "Enter" && !control && !event.shiftKey) {
      const from = area.value.lastIndexOf("\n", area.selectionStart - 1) + 1;
      const lead = area.value.slice(from, area.selectionStart).match(/^ */)[0];
      if (!lead) return;
      event.preventDefault();
      put(area.selectionStart, area.selectionEnd, `\n${lead}`);
    }
  });

  // The trial runs beside the text, so that nothing typed is lost.
  form.addEventListener("submit", async (event) => {
    if (!event.submitter || !event.submitter.matches("[data-tries]")) { leaving = true; return; }
    event.preventDefault();
    clearTimeout(timer);
    check();
    const fields = new FormData(form);
    fields.set("since", event.submitter.value);
    event.submitter.disabled = true;
    try {
      const answer = await send(form.dataset.try, fields);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const part = page.querySelector("[data-poll], .error, .fault, [data-trial-fault]");
      if (part) trial.replaceChildren(part);
      document.dispatchEvent(new Event("wasl:part"));
      trial.scrollIntoView({ block: "nearest", behavior: "smooth" });
    } finally {
      event.submitter.disabled = false;
    }
  });

  addEventListener("beforeunload", (event) => {
    if (!leaving && area.value !== saved) event.preventDefault();
  });

  draw();
  if (Number(form.dataset.line)) jump(Number(form.dataset.line), 0);
})();
