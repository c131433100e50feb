// What a person does with the drawing: clicks, keys, wheel, dragging, and the controls above it.
import { around, need } from "../app/dom.js";

/** @typedef {import("../tree.js").Tree} Tree */

const DRAG_PIXELS = 6;

/**
 * Connects a drawing with its controls.
 * @param {Tree} tree
 */
export function listen(tree) {
  listenToClicks(tree);
  listenToView(tree);
  listenToControls(tree);
  document.body.addEventListener("object-changed", () => {
    if (document.contains(tree.box)) tree.follow();
  });
}

/** @param {Tree} tree */
function listenToClicks(tree) {
  const { canvas } = tree;
  const wasDragged = drag(canvas);
  canvas.addEventListener("click", (event) => {
    if (wasDragged()) return;
    const key = keyAt(event, "[data-key]");
    if (key === undefined) return;
    if (around(event, "[data-toggle]")) tree.toggle(key);
    else {
      tree.focus = key;
      tree.show(key);
    }
  });
  // A screen reader goes where it likes.
  canvas.addEventListener("focusin", (event) => {
    const key = keyAt(event, "[role=treeitem]");
    if (key === undefined || key === tree.focus) return;
    tree.focus = key;
    tree.paint();
  });
  canvas.addEventListener("keydown", (event) => {
    if (around(event, "[role=treeitem]")) tree.key(event);
  });
}

/**
 * @param {Event} event
 * @param {string} query
 */
function keyAt(event, query) {
  /** @type {HTMLElement | null} */
  const found = around(event, query);
  return found?.dataset.key;
}

/** @param {Tree} tree */
function listenToView(tree) {
  const { canvas } = tree;
  let due = 0;
  const paintSoon = () => {
    if (due) return;
    due = requestAnimationFrame(() => {
      due = 0;
      tree.paint();
    });
  };
  canvas.addEventListener("scroll", paintSoon, { passive: true });
  new ResizeObserver(paintSoon).observe(canvas);
  const zoom = (/** @type {WheelEvent} */ event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { left, top } = canvas.getBoundingClientRect();
    const by = event.deltaY < 0 ? 1.15 : 1 / 1.15;
    tree.scale(tree.zoom * by, event.clientX - left, event.clientY - top);
  };
  canvas.addEventListener("wheel", zoom, { passive: false });
}

/**
 * Lets the mouse drag the canvas; returns whether a click is the end of a drag.
 * @param {HTMLElement} canvas
 */
function drag(canvas) {
  let dragged = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || event.pointerType !== "mouse") return;
    const { scrollLeft, scrollTop } = canvas;
    const move = (/** @type {PointerEvent} */ now) => {
      const dx = now.clientX - event.clientX;
      const dy = now.clientY - event.clientY;
      if (Math.abs(dx) + Math.abs(dy) <= DRAG_PIXELS) return;
      dragged = true;
      canvas.classList.add("is-dragged");
      canvas.scrollTo(scrollLeft - dx, scrollTop - dy);
    };
    const end = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", end);
      canvas.classList.remove("is-dragged");
      setTimeout(() => {
        dragged = false;
      }, 0);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end);
  });
  return () => {
    const was = dragged;
    dragged = false;
    return was;
  };
}

/** @param {Tree} tree */
function listenToControls(tree) {
  const { box } = tree;
  box.addEventListener("click", (event) => {
    /** @type {HTMLElement | null} */
    const mode = around(event, "[data-tree-mode]");
    /** @type {HTMLElement | null} */
    const scale = around(event, "[data-tree-scale]");
    if (mode) tree.turn(mode.dataset.treeMode ?? "tree");
    else if (scale?.dataset.treeScale === "fit") tree.fit();
    else if (scale) tree.scale(tree.zoom * Number(scale.dataset.treeScale));
    else if (around(event, "[data-tree-group]")) groupByKind(tree);
  });
  box.addEventListener("input", (event) => {
    const input = /** @type {HTMLInputElement} */ (event.target);
    if (!input.matches("[data-tree-filter]")) return;
    tree.filter = input.value;
    tree.fade();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !around(event, "[data-tree-filter], [data-tree-kind]")) return;
    event.preventDefault();
    tree.next();
  });
  box.addEventListener("change", (event) => {
    const input = /** @type {HTMLSelectElement} */ (event.target);
    if (input.matches("[data-tree-kind]")) {
      tree.kind = input.value;
      tree.fade();
    }
    if (input.matches("[data-tree-pods]")) tree.draw();
  });
}

/** @param {Tree} tree */
function groupByKind(tree) {
  tree.group = !tree.group;
  tree.opened.clear();
  need("[data-tree-group]", tree.box).setAttribute("aria-pressed", String(tree.group));
  tree.draw();
}
