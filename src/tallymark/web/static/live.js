// Keeps the part of the page with data-live="SECONDS" up to date: fetches the page again and puts its part in the place.
// It ends when the part that comes has no data-live any more. Without this script the page is as fresh as its last load.
"use strict";
(() => {
  async function fresh(part) {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return null;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return page.getElementById(part.id);
  }

  async function follow(part) {
    const next = await fresh(part).catch(() => null);
    if (next) {
      part.replaceWith(next);
      part = next;
    }
    watch(part);
  }

  function watch(part) {
    if (part.dataset.live) setTimeout(follow, 1000 * Number(part.dataset.live), part);
  }

  document.querySelectorAll("[data-live]").forEach(watch);
})();
