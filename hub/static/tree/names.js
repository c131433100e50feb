// Names that fit their box: the middle goes, as the end tells the pods of one owner apart.

/** @type {CanvasRenderingContext2D | null | undefined} */
let measure;
/** @type {Map<string, string>} */
const known = new Map();
const MAX_KNOWN = 20_000;

/**
 * Returns the width of a text.
 * @param {string} text
 * @param {string} font as in CSS
 */
function widthOf(text, font) {
  measure ??= document.createElement("canvas").getContext("2d");
  if (!measure) return text.length * 8;
  measure.font = font;
  return measure.measureText(text).width;
}

/**
 * Returns the end of a name that stays: its last parts, at least six characters.
 * @param {string} name
 */
export function endOf(name) {
  for (let at = name.length - 6; at > name.length - 13 && at > 0; at--)
    if (name[at] === "-") return name.slice(at);
  return name.slice(-6);
}

/**
 * Returns a name shortened in its middle to a width, such as `storefront-web-d3d…-x7k2p`.
 * @param {string} name
 * @param {number} width in pixels
 * @param {string} font as in CSS
 */
export function fitted(name, width, font) {
  const key = `${width} ${font} ${name}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const result = shortened(name, width, font);
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(key, result);
  return result;
}

/**
 * @param {string} name
 * @param {number} width
 * @param {string} font
 */
function shortened(name, width, font) {
  if (widthOf(name, font) <= width) return name;
  const end = endOf(name);
  let [fits, fails] = [0, name.length - end.length];
  while (fails - fits > 1) {
    const half = (fits + fails) >> 1;
    if (widthOf(`${name.slice(0, half)}…${end}`, font) <= width) fits = half;
    else fails = half;
  }
  return `${name.slice(0, fits)}…${end}`;
}
