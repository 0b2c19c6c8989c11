// The register desk: keys, and how many letters are chosen. Everything works without it by mouse and Tab.
"use strict";

(() => {
  const form = document.querySelector(".register-form");
  if (!form) return;
  const rows = [...form.querySelectorAll("#register > li")];
  const boxes = [...form.querySelectorAll("input[name=id]")];
  const all = form.querySelector("[data-all]");
  const chosen = form.querySelector("[data-chosen]");
  const buttons = [...form.querySelectorAll("button[name=act]")];
  let at = -1;

  const count = () => {
    const number = boxes.filter((box) => box.checked).length;
    if (chosen) chosen.textContent = number ? `${chosen.dataset.some} ${number}` : chosen.dataset.none;
    for (const button of buttons) button.disabled = number === 0;
    if (all) {
      all.checked = number > 0 && number === boxes.length;
      all.indeterminate = number > 0 && number < boxes.length;
    }
    for (const row of rows) row.classList.toggle("chosen", Boolean(row.querySelector("input[name=id]:checked")));
  };
  const set = (value) => { for (const box of boxes) box.checked = value; count(); };
  const go = (to) => {
    at = Math.max(0, Math.min(rows.length - 1, to));
    rows[at].querySelector("input[name=id], a.subject").focus();
    rows[at].scrollIntoView({ block: "nearest" });
  };

  form.addEventListener("change", (event) => (event.target === all ? set(all.checked) : count()));
  form.addEventListener("focusin", (event) => {
    const row = event.target.closest("#register > li");
    if (row) at = rows.indexOf(row);
  });
  // By the place of the key, so that an Arabic keyboard has the same keys.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea, summary")) return;
    const button = buttons.find((one) => one.dataset.key === event.code);
    if (button) {
      if (!button.disabled) button.click();
    } else if (event.code === "KeyJ" || event.code === "ArrowDown") go(at + 1);
    else if (event.code === "KeyK" || event.code === "ArrowUp") go(at - 1);
    else if (event.code === "KeyX") {
      const box = rows[at] && rows[at].querySelector("input[name=id]");
      if (box) { box.checked = !box.checked; count(); }
    } else if (event.code === "KeyA" && all) set(!boxes.every((box) => box.checked));
    else if (event.code === "Enter" && event.target.matches("input[name=id]")) rows[at].querySelector("a.subject").click();
    else return;
    event.preventDefault();
  });
  count();
})();
