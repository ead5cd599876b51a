/* Makes every explorer that precedes this script move: one function scope, no ids, no globals, safe to run twice. */
(function () {
  "use strict";
  function setUp(form) {
    form.dataset.ready = "yes";
    var data = JSON.parse(form.querySelector("script.frames").textContent);
    var image = form.querySelector("img");
    var controls = Array.prototype.slice.call(form.querySelectorAll("[data-axis]"));
    data.images[data.still] = image.getAttribute("src");

    function position(control) {
      var chosen = control.querySelector("input:checked") || control.querySelector("input");
      return Number(chosen.value);
    }
    function update() {
      var cell = 0;
      controls.forEach(function (control, axis) {
        var index = position(control);
        var range = control.querySelector("input[type=range]");
        cell = cell * data.labels[axis].length + index;
        if (range) {
          range.setAttribute("aria-valuetext", data.labels[axis][index]);
          range.style.setProperty("--filled", (100 * index) / Math.max(1, Number(range.max)) + "%");
          control.querySelector("output").textContent = data.labels[axis][index];
        }
      });
      image.src = data.images[data.frame[cell]];
      image.alt = data.alt[cell];
      form.dataset.cell = String(cell);
    }
    form.addEventListener("input", update);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.querySelector(".controls").hidden = false;
    form.reset();
    update();
  }
  document.querySelectorAll(".learndyn-explorer form:not([data-ready])").forEach(setUp);
})();
