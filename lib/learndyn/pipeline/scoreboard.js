/* Folds and filters the claims of the scoreboard. Without it the form is hidden and every claim is shown. */
(function () {
  "use strict";
  function all(selector, within) {
    return Array.prototype.slice.call((within || document).querySelectorAll(selector));
  }
  var form = document.querySelector(".claims-filter");
  var folds = all(".claims-fold");
  var total = all(".claims-fold tbody tr").length;
  // chapters and their notebooks; not the section of the whole page, which holds the form
  var sections = all("section section").filter(function (section) { return section.querySelector(".claims-fold"); });

  function filter() {
    var verdict = form.elements.verdict.value, chapter = form.elements.chapter.value, shown = 0;
    folds.forEach(function (fold) {
      var rows = all("tbody tr", fold);
      var matching = rows.filter(function (row) {
        row.hidden = Boolean((verdict && !row.querySelector("." + verdict)) || (chapter && chapter !== fold.dataset.chapter));
        return !row.hidden;
      }).length;
      fold.querySelector("summary span").textContent = matching < rows.length ? " (" + matching + " shown)" : "";
      shown += matching;
    });
    sections.forEach(function (section) { section.hidden = !section.querySelector("tbody tr:not([hidden])"); });
    form.querySelector("output").textContent = shown + " of " + total + " claims shown";
  }

  function unfold() {
    var open = form.elements.unfold.checked || Boolean(form.elements.verdict.value);
    folds.forEach(function (fold) { fold.open = open; });
  }

  function update(event) {
    filter();
    if (event.target.name !== "chapter") unfold(); // another chapter leaves the folds as the reader set them
  }

  /* Shows what the address leads to: a claim or a notebook's claims, though folded or filtered out. */
  function reveal() {
    var target = document.querySelector("section section :target, section section:target");
    if (!target) return;
    if (target.closest("[hidden]")) {
      form.reset();
      filter();
      unfold();
    }
    var inside = all(".claims-fold", target.closest("section"));
    if (inside.length === 1) inside[0].open = true;
    target.scrollIntoView();
  }

  form.addEventListener("change", update);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  window.addEventListener("load", reveal);
  window.addEventListener("hashchange", reveal);
  document.addEventListener("click", function (event) { // the same address again is no change of it
    var link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) setTimeout(reveal);
  });
  form.hidden = false;
  filter();
  unfold();
})();
