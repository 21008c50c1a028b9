// The theme's Font Awesome replaces <i> by <svg>, which the widgets' Play button then cannot change:
// only those of the page itself, which are there before any widget.
window.FontAwesomeConfig = { observeMutations: false };
// The widgets still call MathJax 2; the pages have MathJax 3.
document.addEventListener("DOMContentLoaded", function () {
  var M = window.MathJax;
  if (M && !M.Hub) M.Hub = { Queue: function (a) { if (a && a[0] === "Typeset" && M.typesetPromise) M.typesetPromise([a[2]]); } };
});
// A widget's pictures are drawn without alt text: they take that of the first frame.
document.addEventListener("DOMContentLoaded", function () {
  document.querySelectorAll(".first-frame").forEach(function (still) {
    var cell = still.closest(".cell_output");
    new MutationObserver(function () {
      cell.querySelectorAll(".jupyter-widgets img").forEach(function (image) { image.alt = still.alt; });
    }).observe(cell, { childList: true, subtree: true });
  });
});
