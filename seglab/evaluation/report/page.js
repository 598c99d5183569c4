"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const shown = (value, digits) => (value === null ? "\u2013" : value.toFixed(digits));
  document.documentElement.classList.add("js");

  // The slider: between two stops the next layer comes in from the left.
  const place = (card, position) => {
    const layers = all(".layer", card);
    const from = Math.min(Math.floor(position), layers.length - 1);
    const part = position - from;
    layers.forEach((layer, at) => {
      const under = at === 0 && layer.dataset.layer === "photo";
      const here = at === from || (at === from + 1 && part > 0);
      layer.style.visibility = under || here ? "visible" : "hidden";
      if (under) return;
      layer.style.clipPath = at === from ? `inset(0 0 0 ${100 * part}%)` : `inset(0 ${100 * (1 - part)}% 0 0)`;
    });
    const edge = card.querySelector(".edge");
    edge.hidden = part === 0;
    edge.style.left = `${100 * part}%`;
    const [left, right] = all(".tag", card);
    left.textContent = part > 0 ? layers[from + 1].dataset.layer : "";
    right.textContent = layers[from].dataset.layer;
    const slider = card.querySelector("input");
    slider.value = position;
    slider.setAttribute("aria-valuetext", [...new Set([right.textContent, left.textContent])].filter(Boolean).join(", "));
    all("button", card).forEach((button, at) => button.setAttribute("aria-pressed", String(part === 0 && at === from)));
  };

  const drag = (card, stage, slider) => {
    let start = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      start = { x: event.clientX, position: Number(slider.value), moved: false };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const way = event.clientX - start.x;
      start.moved ||= Math.abs(way) > 4;
      const position = start.position + way / stage.clientWidth;
      if (start.moved) place(card, Math.min(Math.max(position, 0), Number(slider.max)));
    });
    stage.addEventListener("pointerup", () => {
      if (start !== null && !start.moved) place(card, (Math.floor(start.position) + 1) % (Number(slider.max) + 1));
      start = null;
    });
    stage.addEventListener("pointercancel", () => { start = null; });
  };

  const cards = all(".card");
  const pictured = cards.filter((card) => card.querySelector(".layer"));
  pictured.forEach((card) => {
    const slider = card.querySelector("input");
    slider.addEventListener("input", () => place(card, Number(slider.value)));
    all("button", card).forEach((button) => button.addEventListener("click", () => place(card, Number(button.dataset.to))));
    drag(card, card.querySelector(".stage"), slider);
    place(card, Number(slider.value));
  });
  all("[data-every]").forEach((button) => button.addEventListener("click", () => pictured.forEach((card) => {
    const at = all(".layer", card).findIndex((layer) => layer.dataset.layer === button.dataset.every);
    if (at >= 0) place(card, at);
  })));
  const opacity = byId("opacity");
  opacity.addEventListener("input", () => document.documentElement.style.setProperty("--opacity", opacity.value / 100));

  // Filter and sort. Of a class that is chosen the score is that class's IoU.
  const [show, having, sort] = ["show", "with", "sort"].map(byId);
  const board = document.querySelector(".cards");
  const scoreOf = (card) => {
    const [, miou, iou] = facts.images[card.dataset.at];
    return having.value === "" ? miou : iou[Number(having.value)];
  };
  const orders = {
    listed: (a, b) => a.dataset.at - b.dataset.at,
    low: (a, b) => scoreOf(a) - scoreOf(b) || orders.listed(a, b),
    high: (a, b) => scoreOf(b) - scoreOf(a) || orders.listed(a, b),
    name: (a, b) => a.querySelector("h3").textContent.localeCompare(b.querySelector("h3").textContent),
  };
  const arrange = () => {
    let number = 0;
    [...cards].sort(orders[sort.value]).forEach((card) => {
      const fits = (show.value === "" || facts.images[card.dataset.at][0] === Number(show.value)) && scoreOf(card) !== null;
      card.hidden = !fits;
      number += fits;
      const name = having.selectedOptions[0].textContent;
      card.querySelector(".asked").textContent = having.value === "" || !fits ? "" : ` \u00b7 ${name} ${shown(scoreOf(card), 3)}`;
      board.append(card);
    });
    document.querySelector(".tally").textContent = `${number} of ${cards.length} pictures`;
    document.querySelector(".empty").hidden = number > 0;
  };
  [show, having, sort].forEach((control) => control.addEventListener("change", arrange));
  arrange();

  // On paper nothing can be unfolded.
  addEventListener("beforeprint", () => all("#configuration details").forEach((details) => { details.open = true; }));

  // The histogram of another score.
  const { left, right, top, bottom, of } = facts.histogram;
  const spread = byId("spread-of");
  spread.addEventListener("change", () => {
    const [counts, undefinedOf, mean, median] = of[Number(spread.value)];
    const most = Math.max(1, ...counts);
    all(".bin").forEach((bin, at) => {
      const height = ((bottom - top) * counts[at]) / most;
      bin.setAttribute("y", bottom - height);
      bin.setAttribute("height", height);
    });
    all("#spread .count").forEach((cell, at) => { cell.textContent = counts[at]; });
    document.querySelector(".most").textContent = most;
    const line = document.querySelector(".median");
    line.setAttribute("visibility", median === null ? "hidden" : "visible");
    ["x1", "x2"].forEach((end) => line.setAttribute(end, left + (right - left) * (median ?? 0)));
    const number = counts.reduce((sum, count) => sum + count, 0);
    const rest = undefinedOf ? `; ${undefinedOf} without it` : "";
    byId("spread-words").textContent =
      `${number} image${number === 1 ? "" : "s"}: median ${shown(median, 4)}, mean ${shown(mean, 4)}${rest}`;
  });
})();
