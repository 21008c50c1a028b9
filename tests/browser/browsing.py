"""What the browser tests share beside their fixtures."""

import re
import shutil

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# The widgets' stylesheet asks for icon fonts in two places where there can be none; the theme's own
# icons are shown.
MISSING_FONT = re.compile(r"/@jupyter-widgets/(html-manager/dist/)?[0-9a-f]{20}\.(woff2?|ttf)$")
# Text smaller than 11 px as displayed.
SMALL = """root => [...root.querySelectorAll('*')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .filter(e => e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 11)
    .map(e => e.outerHTML.slice(0, 80))"""
# Text with less than 4.5:1 on the page's ground; boxes of the drawing itself do not count.
FAINT = """root => {
    const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = c => {
        paint.fillStyle = c;
        paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = c => rgb(c).map(v => v / 255)
        .map(v => v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const painted = e => getComputedStyle(e).backgroundColor;
    const ground = e => painted(e) !== 'rgba(0, 0, 0, 0)' ? painted(e) : ground(e.parentElement);
    return [...root.querySelectorAll('*')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .filter(e => e.checkVisibility({visibilityProperty: true}))
        .filter(e => {
            const drawn = e.closest('svg'), style = getComputedStyle(e);
            return ratio(light(drawn ? style.fill : style.color), light(ground(e))) < 4.5;
        }).map(e => `${e.textContent.slice(0, 30)}`);
}"""
