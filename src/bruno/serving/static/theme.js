// Before the first paint, so that the page does not flash: the theme that was chosen last time.
"use strict";
(() => {
  const chosen = localStorage.getItem("bruno-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
})();
