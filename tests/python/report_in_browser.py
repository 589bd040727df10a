"""Reports of every kind, made by the programs and opened in headless Chromium.

    report_in_browser.py BIN_DIRECTORY [CHROMIUM]

For each page, light and dark, on a desktop and on a phone 360 pixels wide: no error or warning on the console, no
request to anywhere, every plot drawn with its text inside, every picture decoded, nothing wider than the screen.
Exit code 77 where there is no Chromium.
"""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
DEADLINE_SECONDS = 240  # of one answer; busy machines are slow

TINY = """
run: {seed: 3, device: cpu, threads: 1}
policy: {cameras: [front], state_keys: [eef_height, gripper_opening], small: {image_size: 32, width: 16, layers: 1, heads: 2,
         channels: 4}}
environment: {type: tabletop, tabletop: {image_size: 32}}
deploy:
  demonstrations: {episodes: 6}
  collect: {take_overs: 2, episodes: 8, animations: 1}
  intervention: {scripted: {patience_steps: 12, ignore: [stuck, grasped air, passed by]}}
eval: {trials: 4, parallel: 4, threads: 1}
data:
  labels: {undesirable_reasons: [wrong object, off course, out of patience]}
  filter: {min_motion: 0}
  augmentation: {enabled: false}
objective: {type: apo, sft_weight: 0.2}
optimizer: {learning_rate: 1.0e-3}
train: {batch_size: 8, max_steps: 70}
refine:
  rounds: 1
  animations: 0
  promotion_tolerance: 1
  base: {train: {batch_size: 8, max_steps: 6}}
"""

METHODS = ("refine.comparison={episodes: 3, against: [base, behaviour cloning of the human corrections alone], methods: ["
           "{name: behaviour cloning of the human corrections alone, objective: {type: sft},"
           " pools: {desirable: 0.5, intervention: 0.5, undesirable: 0}},"
           "{name: apo <b>&amp;</b>, objective: {type: apo}}]}")

# What is wrong with the page, as a list of texts; runs in the page.
FAULTS = """
async () => {
  const faults = [], name = e => (e.closest('figure')?.querySelector('figcaption')?.textContent ?? '') + ' <' + e.tagName + '>';
  for (const details of document.querySelectorAll('details')) details.open = true;
  for (const image of document.images) {
    try { await image.decode(); } catch (error) { faults.push('picture not decoded: ' + image.alt); }
    if (!(image.naturalWidth > 0)) faults.push('picture without size: ' + image.alt);
    if (!image.alt) faults.push('picture without words');
  }
  const charts = [...document.querySelectorAll('svg.chart')];
  for (const svg of charts) {
    const marks = [...svg.querySelectorAll('polyline, polygon, rect, circle, path')];
    if (!marks.some(mark => { const box = mark.getBBox(); return box.width > 0 || box.height > 0; }))
      faults.push('nothing drawn in ' + name(svg));
    if (/NaN|Infinity|undefined/.test(svg.outerHTML)) faults.push('no number in ' + name(svg));
    const frame = svg.getBoundingClientRect();
    if (!(frame.width > 0 && frame.height > 0)) faults.push('no room for ' + name(svg));
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        faults.push('cut off in ' + name(svg) + ': ' + text.textContent);
      if (box.height < 10) faults.push('too small in ' + name(svg) + ': ' + text.textContent + ' ' + box.height);
    }
    // names along one axis do not touch
    const axis = [...svg.querySelectorAll('text[text-anchor=middle]:not(.name):not(.value)')].map(t => t.getBoundingClientRect());
    for (let i = 1; i < axis.length; ++i)
      if (Math.abs(axis[i].top - axis[i - 1].top) < 2 && axis[i].left < axis[i - 1].right && axis[i].left >= axis[i - 1].left)
        faults.push('names of an axis touch in ' + name(svg));
  }
  const wide = document.documentElement.scrollWidth, screen = document.documentElement.clientWidth;
  if (wide > screen) {
    faults.push('the page is ' + wide + ' wide on a screen of ' + screen);
    for (const e of document.body.querySelectorAll('*'))
      if (e.getBoundingClientRect().right > screen + 1 && !e.closest('.scroll, pre, svg')) faults.push('  too wide: ' + name(e) + ' ' + e.className);
  }
  const style = getComputedStyle(document.body);
  return JSON.stringify({faults, charts: charts.length, pictures: document.images.length, width: innerWidth,
                         text: document.body.innerText.length, color: style.color, background: style.backgroundColor});
}
"""


class Browser:
    """Chromium, spoken to over two pipes (DevTools protocol, one JSON text after another with a zero byte between)."""

    def __init__(self, chromium, directory):
        to_browser, self.commands = os.pipe()
        self.answers, from_browser = os.pipe()

        def wire():  # Chromium reads from 3 and writes to 4
            os.dup2(os.dup(to_browser), 103)
            os.dup2(os.dup(from_browser), 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self.process = subprocess.Popen(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-extensions",
             f"--user-data-dir={directory}", "--remote-debugging-pipe", "about:blank"],
            close_fds=False, preexec_fn=wire, stdout=subprocess.DEVNULL, stderr=open(f"{directory}.log", "wb"))
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.number, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    session = None

    def message(self):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            more = os.read(self.answers, 1 << 20)
            assert more, "Chromium ended"
            self.buffer += more
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def open(self, url, width, height, mobile, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())
        result = self.call("Runtime.evaluate", expression=f"({FAULTS})()", awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return json.loads(result["result"]["value"])

    def complaints(self, url):
        """What the page said on the console, and what it asked for elsewhere."""
        found = []
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append("exception: " + json.dumps(parameters["exceptionDetails"])[:300])
            if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append("console: " + json.dumps(parameters["args"])[:300])
            if method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append("log: " + parameters["entry"]["text"])
            if method == "Network.requestWillBeSent":
                asked = parameters["request"]["url"]
                if asked != url and not asked.startswith("data:"):
                    found.append("request: " + asked)
        return found

    def screenshot(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(picture))

    def close(self):
        self.session = None
        try:
            self.call("Browser.close")
        except (AssertionError, OSError):
            pass
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def brightness(color):
    return sum(float(part) for part in color[color.index("(") + 1:-1].split(",")[:3]) / (3 * 255)


def check(browser, name, page, least_charts, least_pictures, screenshots=None):
    faults = []
    url = page.as_uri()
    for scheme in ("light", "dark"):
        for width, mobile in ((1280, False), (360, True)):
            found = browser.open(url, width, 800, mobile, scheme)
            where = f"{name}, {scheme}, {width} wide: "
            faults += [where + fault for fault in found["faults"] + browser.complaints(url)]
            for what, least in (("charts", least_charts), ("pictures", least_pictures)):
                if found[what] < least:
                    faults.append(f"{where}expected at least {least} {what}, found {found[what]}")
            if found["width"] != width:
                faults.append(f"{where}the window is {found['width']} wide")
            text, background = brightness(found["color"]), brightness(found["background"])
            if (text < background) != (scheme == "light") or abs(text - background) < 0.6:
                faults.append(f"{where}text {found['color']} on {found['background']}")
            if screenshots:
                browser.screenshot(f"{screenshots}/{name}-{scheme}-{width}.png")
    return faults


def run(program, *arguments):
    process = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True,
                             env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, f"{program} {arguments}: {process.returncode}\n{process.stderr}"


def make_reports(programs, directory):
    """A loop with animations, the training of its round, and a comparison."""
    config = directory / "tiny.yaml"
    config.write_text(TINY)
    loop, comparison = directory / "loop", directory / "comparison"
    run(programs / "apo-refine", "--config", config, "--set", f"run.dir={loop}")
    # policies of a few updates solve nothing: an animation of a correction stands for all three
    animations = sorted(loop.glob("round-1/*-correction-*.webp"))
    assert animations, "the collector drew no correction"
    summary = json.loads((loop / "summary.json").read_text())
    summary["animations"] = [
        {"kind": "solved", "chosen": "the first 2", "title": title, "caption": f"seed {seed}: success after 20 steps",
         "path": str(animations[0].relative_to(loop))}
        for seed in (1, 2) for title in ("the base policy fails", "a person takes over (orange frame)",
                                         "the refined policy succeeds")]
    summary["animations"] += [
        {"kind": "failed", "chosen": "the first 1", "title": title, "caption": "seed 3: timeout after 40 steps",
         "path": str(animations[0].relative_to(loop))} for title in ("the base policy fails", "the refined policy fails")]
    (loop / "summary.json").write_text(json.dumps(summary))
    run(programs / "apo-data", "report", loop)
    run(programs / "apo-refine", "--config", config, "--set", f"run.dir={comparison}", "--set", METHODS,
        "--set", "train.max_steps=6")
    return {"training": (loop / "round-1" / "training" / "report.html", 14, 8),
            "loop": (loop / "report.html", 20, 6 + 2 + 8),
            "comparison": (comparison / "report.html", 10, 8)}


def main():
    programs = pathlib.Path(sys.argv[1])
    chromium = shutil.which(sys.argv[2]) if len(sys.argv) > 2 else None
    for name in ("chromium", "chromium-browser", "google-chrome"):
        chromium = chromium or shutil.which(name)
    if not chromium:
        print("skipped: no Chromium here (scripts/setup.sh --browser installs it)")
        return SKIPPED
    screenshots = os.environ.get("APO_SCREENSHOTS")  # a directory: what was seen is kept there
    with tempfile.TemporaryDirectory() as temporary:
        reports = make_reports(programs, pathlib.Path(temporary))
        browser = Browser(chromium, f"{temporary}/profile")
        try:
            faults = [fault for name, (page, charts, pictures) in reports.items()
                      for fault in check(browser, name, page, charts, pictures, screenshots)]
            if faults:
                print("\n".join(faults))
                return 1
            blank = pathlib.Path(temporary) / "bad.html"  # the checks can fail
            blank.write_text("<meta name='viewport' content='width=device-width, initial-scale=1'><body style='width:500px;color:#777;background:#888'><figure><svg class='chart'></svg></figure>"
                             "<img src='data:image/webp;base64,AAAA'><script>console.warn('x'); fetch('http://127.0.0.1:9/')"
                             ".catch(() => 0)</script>")
            bad = "\n".join(check(browser, "bad", blank, 1, 1))
            for expected in ("not decoded", "nothing drawn", "wide on a screen", "console", "request: http://127", "text rgb"):
                assert expected in bad, f"{expected!r} not found in a bad page:\n{bad}"
        finally:
            browser.close()
    print(f"{len(reports)} reports, light and dark, wide and narrow: all in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
