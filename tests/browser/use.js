(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  for (let i = 0; i < 100 && !document.documentElement.dataset.ready; i++) await pause(20);
  const inked = (canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let n = 0;
    for (let i = 3; i < pixels.length; i += 4) n += pixels[i] > 0;
    return n;
  };
  const look = () => [...document.querySelectorAll("canvas")].map(inked);
  const before = look();
  let clicks = 0;
  for (const button of document.querySelectorAll(".controls button")) { button.click(); clicks++; await pause(5); }
  for (const select of document.querySelectorAll("select"))
    for (const option of select.options) {
      select.value = option.value;
      select.dispatchEvent(new Event("change"));
      clicks++;
      await pause(5);
    }
  for (const button of document.querySelectorAll(".arms button")) button.click();
  // Saving files: what a click would write, caught before it is.
  const files = [];
  window.Blob = class { constructor(parts) { this.lines = parts.join("").trim().split("\r\n"); } };
  URL.createObjectURL = (blob) => {
    const fields = blob.lines.map((line) => line.replaceAll(/"[^"]*"/g, "").split(",").length);
    files.push({ lines: fields.length, even: fields.every((n) => n === fields[0]) });
    return "#";
  };
  HTMLAnchorElement.prototype.click = function () { files.at(-1).name = this.download; };
  for (const button of document.querySelectorAll(".files button")) button.click();
  let tips = 0;
  for (const over of document.querySelectorAll(".u-over")) {
    const box = over.getBoundingClientRect();
    for (let x = 2; x < box.width; x += 9) for (let y = 2; y < box.height; y += 9) {
      const at = { clientX: box.left + x, clientY: box.top + y, bubbles: true };
      over.dispatchEvent(new PointerEvent("pointermove", at));
      if (y < 12) over.dispatchEvent(new MouseEvent("mousemove", at));
      tips += !document.getElementById("tip").hidden;
    }
  }
  await pause(50);
  dispatchEvent(new Event("beforeprint")); await pause(20);
  dispatchEvent(new Event("afterprint")); await pause(50);
  const result = { ready: document.documentElement.dataset.ready, seen, before, after: look(), clicks, tips, files,
    readout: document.getElementById("accuracy-readout").innerText.length,
    wide: document.documentElement.scrollWidth - innerWidth,
    requests: performance.getEntriesByType("resource").map((e) => e.name) };
  const node = document.createElement("pre");
  node.id = "observed";
  node.textContent = JSON.stringify(result);
  document.body.append(node);
})().catch((e) => { document.body.append(Object.assign(document.createElement("pre"), { id: "observed", textContent: JSON.stringify({ failed: String(e) }) })); });
