// The theme's Font Awesome replaces <i> by <svg>, and the widgets' Play button then fails on its missing <i>: nest it instead.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };
// The widgets still call MathJax 2; the pages have MathJax 3.
document.addEventListener("DOMContentLoaded", function () {
  var M = window.MathJax;
  if (M && !M.Hub) M.Hub = { Queue: function (a) { if (a && a[0] === "Typeset" && M.typesetPromise) M.typesetPromise([a[2]]); } };
});
