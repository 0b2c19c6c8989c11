// Live pages: the server sends a part of the page again when it changed, and only what differs is
// put in. Pages are whole without this file. No dependency, no inline script, nothing evaluated.
"use strict";

(() => {
  const root = document.querySelector("[data-live]");
  const state = document.querySelector("[data-live-state]");

  const tell = (key) => {
    if (!state) return;
    const label = state.querySelector("[data-on]");
    state.hidden = false;
    state.className = `live-state ${key}`;
    label.textContent = label.dataset[key];
    const again = state.querySelector("[data-again]");
    if (again) again.hidden = key !== "over";
  };

  const ids = (node) => node.nodeType === 1 && (node.id || node.querySelector("[id]"));
  const mark = (node) => { if (node.nodeType === 1 && node.matches("li, .row, section")) node.classList.add("fresh"); };

  // Make `old` say what `fresh` says; elements with an id keep their identity, their focus and scroll.
  const morph = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (![...fresh.children].some(ids) && ![...old.children].some(ids)) {
      old.replaceChildren(...fresh.childNodes);
      if (old.matches("li, .row")) mark(old);
      return;
    }
    const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    const plain = [...old.children].filter((child) => !child.id);
    const wanted = [...fresh.childNodes].map((child) => {
      if (child.nodeType !== 1) return child;
      const twin = child.id ? known.get(child.id) : plain.find((other) => other.tagName === child.tagName);
      if (!twin) { mark(child); return child; }
      if (!child.id) plain.splice(plain.indexOf(twin), 1);
      morph(twin, child);
      return twin;
    });
    wanted.forEach((child, index) => {
      if (old.childNodes[index] !== child) old.insertBefore(child, old.childNodes[index] || null);
    });
    while (old.childNodes.length > wanted.length) old.lastChild.remove();
  };

  const show = (html) => {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    for (const details of parsed.querySelectorAll("details[id]")) {
      const shown = document.getElementById(details.id);
      if (shown) details.open = shown.open;
    }
    for (const marked of root.querySelectorAll(".fresh")) marked.classList.remove("fresh");
    const holder = root.cloneNode(false);
    holder.append(...parsed.body.childNodes);
    morph(root, holder);
  };

  // Only a page that is looked at listens: a browser has six connections to a server, and a clerk more tabs.
  let source = null, later = 0, over = false;
  const rest = () => { clearTimeout(later); if (source) source.close(); source = null; };
  const watch = () => {
    rest();
    if (document.hidden || over) return;
    const address = new URL(root.dataset.live, location.href);
    address.searchParams.set("version", root.dataset.version);
    const mine = source = new EventSource(address);
    mine.addEventListener("open", () => tell("on"));
    mine.addEventListener("part", (event) => {
      const { html, version } = JSON.parse(event.data);
      show(html);
      root.dataset.version = version;
    });
    mine.addEventListener("over", () => { over = true; rest(); tell("over"); });
    mine.addEventListener("error", () => {
      if (mine !== source) return;
      tell("off");
      // A refused stream is not tried again by the browser: look again after a while.
      if (mine.readyState === EventSource.CLOSED) later = setTimeout(watch, 15000);
    });
  };

  if (root && root.dataset.live && window.EventSource) {
    watch();
    document.addEventListener("visibilitychange", watch);
    addEventListener("pagehide", rest);
    addEventListener("pageshow", (event) => { if (event.persisted) watch(); });
  }

  // What is folded because it is long is on paper all the same.
  let unfolded = [];
  addEventListener("beforeprint", () => { unfolded = [...document.querySelectorAll("details.fold:not([open])")]; for (const one of unfolded) one.open = true; });
  addEventListener("afterprint", () => { for (const one of unfolded) one.open = false; unfolded = []; });

  // Parts that are asked for again until they say that they are done.
  const poll = (holder) => {
    if (holder.dataset.polling) return;
    holder.dataset.polling = "yes";
    const again = async () => {
      if (!holder.isConnected || holder.querySelector("[data-done]")) return;
      try {
        const answer = await fetch(holder.dataset.poll, { credentials: "same-origin" });
        if (answer.redirected || answer.status === 404 || answer.status === 403) return;
        if (answer.ok) holder.replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
      } catch { /* out of reach: look again */ }
      setTimeout(again, 1000);
    };
    setTimeout(again, 400);
  };
  const polls = () => { for (const holder of document.querySelectorAll("[data-poll]")) poll(holder); };
  document.addEventListener("wasl:part", polls);
  polls();

  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
    const typing = event.target.closest("input, select, textarea");
    const box = document.getElementById("q");
    if (event.key === "/" && !typing && box) { event.preventDefault(); box.focus(); box.select(); }
  });
})();
