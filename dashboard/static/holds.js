// The desk of held letters: keys, and how many are chosen. Everything works without it by mouse and Tab.
"use strict";

(() => {
  const form = document.querySelector(".holds-form");
  if (!form) return;
  const rows = [...form.querySelectorAll("#holds > li")];
  const boxes = () => [...form.querySelectorAll("input[name=id]")];
  const all = form.querySelector("[data-all]");
  const chosen = form.querySelector("[data-chosen]");
  const buttons = [...form.querySelectorAll("button[name=act]")];
  let at = -1;

  const count = () => {
    const number = boxes().filter((box) => box.checked).length;
    if (chosen) chosen.textContent = number ? `${chosen.dataset.some} ${number}` : chosen.dataset.none;
    for (const button of buttons) button.disabled = number === 0;
    if (all) {
      all.checked = number > 0 && number === boxes().length;
      all.indeterminate = number > 0 && number < boxes().length;
    }
    for (const row of rows) row.classList.toggle("chosen", Boolean(row.querySelector("input[name=id]:checked")));
  };
  const go = (to) => {
    at = Math.max(0, Math.min(rows.length - 1, to));
    rows[at].querySelector("input[name=id], a").focus();
    rows[at].scrollIntoView({ block: "nearest" });
  };
  const toggle = (box) => { if (box) { box.checked = !box.checked; count(); } };

  form.addEventListener("change", (event) => {
    if (event.target === all) for (const box of boxes()) box.checked = all.checked;
    count();
  });
  form.addEventListener("focusin", (event) => {
    const row = event.target.closest("#holds > li");
    if (row) at = rows.indexOf(row);
  });
  // By the place of the key, so that an Arabic keyboard has the same keys.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea, summary")) return;
    switch (event.code) {
      case "KeyJ": case "ArrowDown": go(at + 1); break;
      case "KeyK": case "ArrowUp": go(at - 1); break;
      case "KeyX": toggle(rows[at] && rows[at].querySelector("input[name=id]")); break;
      case "KeyA": if (all) { all.checked = !all.checked; for (const box of boxes()) box.checked = all.checked; count(); } break;
      case "KeyR": if (buttons[0] && !buttons[0].disabled) buttons[0].click(); break;
      case "KeyF": if (buttons[1] && !buttons[1].disabled) buttons[1].click(); break;
      case "Enter": if (event.target.matches("input[name=id]")) { rows[at].querySelector("a.subject").click(); break; } return;
      default: return;
    }
    event.preventDefault();
  });
  count();
})();
