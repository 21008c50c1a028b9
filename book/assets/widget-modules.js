// Widgets of other packages are looked for on a public server, unless require.js knows better.
require.config({ paths: { anywidget: (document.documentElement.dataset.content_root || "") + "_static/anywidget" } });
