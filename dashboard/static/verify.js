// A file is hashed here and never leaves the device: only SHA-256 digests of the whole, of the text and of the
// parts are sent (LEDGER.md 3 and 6). The number and code are read from the letter's own Wasl-Verify field. The
// page works by number and code without this file. No dependency, nothing evaluated.
"use strict";

(() => {
  const form = document.querySelector("[data-verify]");
  if (!form) return;
  const chooser = form.querySelector("[data-file]");
  const place = form.querySelector("[data-drop]");
  const busy = form.querySelector("[data-busy]");
  const answer = document.getElementById("answer");
  const fields = form.elements;

  const MOST = 300; // digests of a kind in one question
  const LARGE = 4 << 20; // octets: of a larger file fewer forms are tried
  const AUTHORS = new Set(["from", "to", "cc", "subject", "date", "message-id", "mime-version", "content-type"]);
  const TRACE = new Set(("received return-path delivered-to envelope-to delivery-date bcc received-spf authentication-results " +
    "authentication-results-original old-authentication-results dkim-signature domainkey-signature received-dkim status " +
    "lines content-length").split(" "));
  const MESSAGES = new Set(["message/rfc822", "message/global", "message/news"]);
  const FILES = 10; // checked at once
  const DEEPEST = 200; // braces within braces of an evidence.json
  const LF = 10, CR = 13;

  const digest = async (octets) =>
    [...new Uint8Array(await crypto.subtle.digest("SHA-256", octets))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const latin = (octets) => {
    let text = "";
    for (let at = 0; at < octets.length; at += 8192) text += String.fromCharCode(...octets.subarray(at, at + 8192));
    return text;
  };
  const octetsOf = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0));
  const joined = (pieces) => {
    const out = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) { out.set(piece, at); at += piece.length; }
    return out;
  };
  const withCrlf = (octets) => {
    let bare = 0;
    for (let at = 0; at < octets.length; at++) if (octets[at] === LF && octets[at - 1] !== CR) bare++;
    if (!bare) return octets;
    const out = new Uint8Array(octets.length + bare);
    let to = 0;
    for (let at = 0; at < octets.length; at++) {
      if (octets[at] === LF && octets[at - 1] !== CR) out[to++] = CR;
      out[to++] = octets[at];
    }
    return out;
  };

  // The header at `start`: its fields with where they begin, and where the body begins.
  const header = (octets, start, end) => {
    if (octets[start] === LF) return { fields: [], body: start + 1 };
    if (octets[start] === CR && octets[start + 1] === LF) return { fields: [], body: start + 2 };
    let stop = end, body = end;
    for (let at = start; at < end; at++) {
      if (octets[at] !== LF) continue;
      const skip = octets[at + 1] === CR && octets[at + 2] === LF ? 3 : octets[at + 1] === LF ? 2 : 0;
      if (skip && at + skip <= end) { stop = at + 1; body = at + skip; break; }
    }
    if (stop - start > 1 << 20) return { fields: [], body };
    const text = latin(octets.subarray(start, stop));
    const found = [];
    const shape = /^([!-9;-~]+)[ \t]*:((?:[^\n]*\n(?=[ \t]))*[^\n]*(?:\n|$))/gm;
    for (let one; found.length < 2000 && (one = shape.exec(text)); ) {
      found.push({ name: one[1].toLowerCase(), at: start + one.index, end: start + one.index + one[0].length, raw: one[2], value: one[2].replace(/[\r\n]/g, "").trim() });
      if (!one[0].length) shape.lastIndex++;
    }
    return { fields: found, body };
  };
  const value = (found, name) => (found.find((one) => one.name === name) || { value: "" }).value;
  const parameters = (text) => {
    const out = {};
    for (const [, name, given] of text.matchAll(/;\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)/gs)) {
      const key = name.toLowerCase().replace(/\*.*/, "");
      let told = given.trim();
      if (told.startsWith('"')) told = told.slice(1, -1).replace(/\\(.)/g, "$1");
      if (!(key in out)) out[key] = told;
    }
    return out;
  };

  // The name of a part for the reader: RFC 2231 with its pieces, or the encoded words (RFC 2047) that many write.
  const decoded = (octets, label) => { try { return new TextDecoder(label || "utf-8").decode(octets); } catch { return latin(octets); } };
  const unquoted = (text, mark) => octetsOf(text.replace(mark === "%" ? /%([0-9a-f]{2})/gi : /=([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16))));
  const plain = (name) => name.slice(0, 200).replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
  const nameIn = (text, key) => {
    const pieces = [];
    for (const [, name, given] of text.matchAll(/;\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)/gs)) {
      const found = name.toLowerCase().match(/^([^*]+)(?:\*(\d+))?(\*)?$/);
      if (!found || found[1] !== key) continue;
      const told = given.trim();
      pieces.push({ at: Number(found[2] || 0), coded: Boolean(found[3]), text: told.startsWith('"') ? told.slice(1, -1).replace(/\\(.)/g, "$1") : told });
    }
    if (!pieces.length) return "";
    pieces.sort((a, b) => a.at - b.at);
    if (!pieces.some((one) => one.coded)) {
      const whole = pieces.map((one) => one.text).join("").replace(/\?=\s+=\?/g, "?==?");
      return whole.replace(/=\?([^?*]+)(?:\*[^?]*)?\?([bq])\?([^?]*)\?=/gi, (_, label, how, words) =>
        decoded(how.toLowerCase() === "b" ? fromBase64(octetsOf(words)) : unquoted(words.replace(/_/g, " "), "="), label));
    }
    const [, label, rest] = pieces[0].text.match(/^([^']*)'[^']*'(.*)$/s) || [null, "utf-8", pieces[0].text];
    return decoded(joined(pieces.map((one, n) => { const words = n ? one.text : rest; return one.coded ? unquoted(words, "%") : octetsOf(words); })), label);
  };

  const BASE64 = new Int8Array(256).fill(-1);
  [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].forEach((c, n) => { BASE64[c.charCodeAt(0)] = n; });
  const fromBase64 = (octets) => {
    const out = new Uint8Array(Math.ceil(octets.length * 3 / 4) + 3);
    let bits = 0, held = 0, to = 0;
    for (const octet of octets) {
      const six = BASE64[octet];
      if (six < 0) continue;
      bits = (bits << 6 | six) & 0xffffff;
      held += 6;
      if (held >= 8) { held -= 8; out[to++] = bits >> held & 255; }
    }
    return out.subarray(0, to);
  };
  const hexDigit = (octet) => (octet >= 48 && octet <= 57 ? octet - 48 : octet >= 65 && octet <= 70 ? octet - 55 : octet >= 97 && octet <= 102 ? octet - 87 : -1);
  const fromQuoted = (octets) => {
    const out = new Uint8Array(octets.length);
    let to = 0;
    for (let at = 0; at < octets.length; at++) {
      if (octets[at] !== 61) { out[to++] = octets[at]; continue; }
      if (octets[at + 1] === LF) { at += 1; continue; }
      if (octets[at + 1] === CR) { while (at + 1 < octets.length && octets[at] !== LF) at++; continue; }
      const high = hexDigit(octets[at + 1]), low = hexDigit(octets[at + 2]);
      if (high >= 0 && low >= 0) { out[to++] = high << 4 | low; at += 2; } else out[to++] = 61;
    }
    return out.subarray(0, to);
  };

  // The parts of a multipart: where each begins and ends.
  const divided = (octets, start, end, boundary) => {
    const mark = octetsOf(`--${boundary.trimEnd()}`);
    const kids = [];
    let begin = -1;
    for (let at = start - 1; at + 1 < end && kids.length < 1000; ) {
      if (mark.every((octet, i) => octets[at + 1 + i] === octet)) {
        let to = at + 1 + mark.length;
        const last = octets[to] === 45 && octets[to + 1] === 45;
        if (last) to += 2;
        while (octets[to] === 32 || octets[to] === 9) to++;
        while (octets[to] === CR) to++;
        if (to >= end || octets[to] === LF) {
          if (begin >= 0) {
            let stop = Math.max(at, begin);
            while (stop > begin && octets[stop - 1] === CR) stop--;
            kids.push([begin, stop]);
          }
          if (last) return kids;
          begin = to + 1;
        }
      }
      at = octets.indexOf(LF, at + 1);
      if (at < 0) break;
    }
    if (begin >= 0 && begin <= end) kids.push([begin, end]);
    return kids;
  };

  const leaves = (octets) => {
    const found = [];
    const stack = [[0, octets.length, 0, false, "text/plain"]];
    while (stack.length && found.length < 1000) {
      const [start, end, depth, within, fallback] = stack.pop();
      const head = header(octets, start, end);
      const body = Math.min(head.body, end);
      const given = value(head.fields, "content-type");
      const params = parameters(given);
      const kind = given.split(";")[0].trim().toLowerCase() || fallback;
      const encoding = value(head.fields, "content-transfer-encoding").toLowerCase();
      if (kind.startsWith("multipart/") && depth < 50 && (params.boundary || "").trim()) {
        const inner = kind === "multipart/digest" ? "message/rfc822" : "text/plain";
        const kids = divided(octets, body, end, params.boundary).map(([from, to]) => [from, to, depth + 1, within, inner]);
        if (kids.length) { stack.push(...kids.reverse()); continue; }
      }
      const placed = value(head.fields, "content-disposition");
      const name = nameIn(placed, "filename") || nameIn(given, "name");
      const attached = placed.split(";")[0].trim().toLowerCase() === "attachment";
      const raw = octets.subarray(body, end);
      const content = encoding === "base64" ? fromBase64(raw) : encoding === "quoted-printable" ? fromQuoted(raw) : raw;
      found.push({ name: name || kind, kind, charset: params.charset || "", content, text: kind.startsWith("text/") && !attached && !name && !within });
      if (MESSAGES.has(kind) && depth && depth < 50 && ["", "7bit", "8bit", "binary"].includes(encoding)) stack.push([body, end, depth + 1, true, "text/plain"]);
    }
    return found;
  };
  const textOf = (found) => found.find((one) => one.text && one.kind === "text/plain") || found.find((one) => one.text);
  const textDigests = async (leaf) => {
    const out = [];
    for (const label of new Set([leaf.charset.toLowerCase() || "utf-8", "utf-8", "windows-1256", "windows-1252"])) {
      let text;
      try { text = new TextDecoder(label, { fatal: true, ignoreBOM: true }).decode(leaf.content); } catch { continue; }
      const bare = text.replace(/\r\n?/g, "\n").split("\n").map((line) => line.replace(/[ \t]+$/, "")).join("\n").replace(/[ \t\n\r\v\f]+$/, "");
      out.push(await digest(new TextEncoder().encode(bare)));
    }
    return out;
  };

  // What a receipt's evidence.json opens (LEDGER.md 5): of each record the commitment that the ledger must hold.
  // The file is in canonical form, so a record is taken as it stands and never written anew.
  const commitments = async (content) => {
    const out = [], text = latin(content), mark = '"opening":{"record":{';
    for (let at = text.indexOf(mark); at >= 0 && out.length < MOST; at = text.indexOf(mark, at + 1)) {
      const start = at + mark.length - 1;
      let depth = 0, quoted = false, end = start;
      for (; end < text.length && depth <= DEEPEST; end++) {
        const c = text[end];
        if (quoted) { if (c === "\\") end++; else if (c === '"') quoted = false; continue; }
        if (c === '"') quoted = true;
        else if (c === "{") depth++;
        else if (c === "}" && --depth === 0) break;
      }
      const salt = (text.slice(end + 1, end + 530).match(/^,"salt":"((?:[0-9a-f]{2}){16,255})"/) || [])[1];
      if (!salt) continue;
      const octets = Uint8Array.from(salt.match(/../g), (pair) => parseInt(pair, 16));
      out.push(await digest(joined([new Uint8Array([octets.length]), octets, content.subarray(start, end + 1)])));
    }
    return out;
  };
  const isJson = (content) => content.find((octet) => octet > 32) === 123 || content.find((octet) => octet > 32) === 91; // { [

  // The octets that a letter out of a mailbox may have been when it was accepted (LEDGER.md 6).
  const forms = function* (octets, number) {
    const whole = withCrlf(octets);
    const ended = whole.length && whole[whole.length - 1] !== LF ? joined([whole, new Uint8Array([CR, LF])]) : whole;
    const tag = number ? `[${number}]` : "";
    for (const form of new Set([octets, whole, ended])) {
      const { fields: found, body } = header(form, 0, form.length);
      let starts = [0];
      for (const one of found) { starts.push(one.at); if (AUTHORS.has(one.name)) break; }
      const ours = found.filter((one) => one.name.startsWith("wasl-") || one.name === "disposition-notification-to").map((one) => one.end);
      if (form.length > LARGE) starts = [0, ...ours.slice(-3)];
      else starts.push(...ours);
      const subject = found.find((one) => one.name === "subject");
      const mark = tag && subject ? latin(form.subarray(subject.at, body)).indexOf(tag) : -1;
      for (const start of new Set(starts)) {
        yield form.subarray(start);
        if (mark < 0 || subject.at < start) continue;
        const at = subject.at + mark, stop = at + tag.length;
        for (const [before, after] of [[0, " "], [0, "\r\n "], [1, " "], [1, ""], [0, ""]]) {
          if (latin(form.subarray(stop, stop + after.length)) === after) yield joined([form.subarray(start, at - before), form.subarray(stop + after.length)]);
        }
      }
    }
  };
  // The digest of the author's own fields and the body, by which a letter is found without its number.
  const ownDigests = async (octets, number) => {
    const form = withCrlf(octets);
    const { fields: found, body } = header(form, 0, form.length);
    let stop = form.length;
    while (stop > body && (form[stop - 1] === CR || form[stop - 1] === LF)) stop--;
    const kept = found.filter((one) => !TRACE.has(one.name) && !/^(x-|arc-|wasl-)/.test(one.name));
    const out = [];
    for (const wish of [true, false]) for (const tagged of number ? [false, true] : [true]) {
      const lines = kept.filter((one) => wish || one.name !== "disposition-notification-to").map((one) => {
        let words = one.raw.split(/[ \t\r\n\v\f]+/).filter(Boolean).join(" ");
        if (!tagged && one.name === "subject") words = words.replace(`[${number}] `, "");
        return `${one.name}:${words}\n`;
      });
      out.push(await digest(joined([octetsOf(`${lines.join("")}\n`), form.subarray(body, stop)])));
    }
    return out;
  };

  // What the page itself wrote into the form is no wish of the reader's: the next file says its own.
  const filled = { number: "", code: "" };
  const asked = (name, own) => {
    const typed = fields[name].value.trim();
    if (typed && typed !== filled[name]) return typed;
    fields[name].value = filled[name] = own;
    return own;
  };

  const read = async (file) => {
    const octets = new Uint8Array(await file.arrayBuffer());
    const found = header(octets, 0, Math.min(octets.length, 1 << 20)).fields;
    const message = found.some((one) => AUTHORS.has(one.name));
    if (!message) {
      const own = [await digest(octets)], evidence = isJson(octets) ? await commitments(octets) : [];
      return { kind: evidence.length ? "receipt" : "document", number: fields.number.value.trim(), code: fields.code.value.trim(), whole: own, own: [], text: [], parts: own, evidence, names: [file.name] };
    }
    let there = "";
    try { there = new URL(value(found, "wasl-verify")).searchParams.get("code") || ""; } catch { /* no such field */ }
    const bears = value(found, "wasl-letter") || there;
    const number = bears ? asked("number", value(found, "wasl-letter")) : fields.number.value.trim();
    const code = bears ? asked("code", there) : fields.code.value.trim();
    const whole = [], parts = [], names = [], evidence = [];
    let text = [];
    for (const form of forms(octets, number)) {
      if (whole.length >= MOST) break;
      whole.push(await digest(form));
    }
    const all = leaves(withCrlf(octets));
    const main = textOf(all);
    for (const leaf of all) {
      if (leaf === main) { text = await textDigests(leaf); continue; }
      if (parts.length >= MOST) break;
      if (leaf.name === "evidence.json" && isJson(leaf.content)) evidence.push(...await commitments(leaf.content));
      parts.push(await digest(leaf.content));
      names.push(leaf.name);
    }
    const report = value(found, "content-type").split(";")[0].trim().toLowerCase() === "multipart/report";
    const kind = value(found, "wasl-receipt") || evidence.length ? "receipt" : report ? "report" : "letter";
    return { kind, number, code, whole: [...new Set(whole)], own: await ownDigests(octets, number), text, parts, evidence: evidence.slice(0, MOST), names };
  };

  // The answer to one file, as the nodes of a part of the page.
  const ask = async (file) => {
    const { names, ...told } = await read(file);
    const reply = await fetch(form.dataset.verify, { method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(told) });
    if (!reply.ok && reply.status !== 429) throw new Error(String(reply.status));
    const parsed = new DOMParser().parseFromString(await reply.text(), "text/html");
    for (const slot of parsed.querySelectorAll("[data-part]")) slot.textContent = plain(names[Number(slot.dataset.part)] || "") || slot.textContent;
    return [...parsed.body.childNodes];
  };

  const check = async (files) => {
    if (!window.isSecureContext || !crypto.subtle) { busy.textContent = busy.dataset.insecure; return; }
    busy.textContent = busy.dataset.text;
    try {
      const out = [];
      for (const file of [...files].slice(0, FILES)) {
        if (files.length > 1) {
          const name = document.createElement("h2"), words = document.createElement("bdi");
          words.textContent = plain(file.name);
          name.append(words);
          out.push(name);
        }
        out.push(...await ask(file));
      }
      answer.replaceChildren(...out);
      busy.textContent = "";
      answer.scrollIntoView({ block: "nearest" });
    } catch {
      busy.textContent = busy.dataset.broken;
    }
  };

  place.hidden = false;
  chooser.addEventListener("change", () => { if (chooser.files.length) check(chooser.files); });
  form.addEventListener("submit", (event) => {
    if (!chooser.files.length) return;
    event.preventDefault();
    check(chooser.files);
  });
  for (const name of ["dragover", "dragenter"]) place.addEventListener(name, (event) => { event.preventDefault(); place.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) place.addEventListener(name, () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    chooser.files = event.dataTransfer.files;
    check(event.dataTransfer.files);
  });
})();
