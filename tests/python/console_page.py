"""The console in headless Chromium, against console_fake_server.py: what the hands do and what the server hears.

    console_page.py [CHROMIUM]

Exit code 77 where there is no Chromium. With APO_SCREENSHOTS=DIR it keeps pictures of what it saw.
"""

import base64
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

from console_fake_server import KEYS, FakeServer
from report_in_browser import SKIPPED, Browser

WAIT_SECONDS = 60  # busy machines are slow
CONTRACT = [
    "console",
    "camera-front",
    "camera-wrist",
    "instruction",
    "policy-action",
    "human-action",
    "confidence",
    "since-last-step",
    "take-over",
    "hand-back",
    "pause",
    "success",
    "failure",
    "reset",
    "pool-desirable",
    "pool-intervention",
    "pool-undesirable",
    "episode-list",
    "replay",
    "refine",
]

# What is wrong with how the page looks, as a list of texts; runs in the page.
LOOKS = """
() => {
  const faults = [];
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) {
    faults.push('wider than the screen');
    for (const node of document.body.querySelectorAll('*'))
      if (node.getBoundingClientRect().right > document.documentElement.clientWidth + 1) faults.push('  ' + node.tagName + '.' + node.className);
  }
  const pad = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = color => { pad.clearRect(0, 0, 1, 1); pad.fillStyle = color; pad.fillRect(0, 0, 1, 1); return [...pad.getImageData(0, 0, 1, 1).data]; };
  const light = color => color.slice(0, 3).map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
      .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => { for (let at = node; at; at = at.parentElement) { const color = rgba(getComputedStyle(at).backgroundColor); if (color[3] > 250) return color; }
                           return [255, 255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let least = 99;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, box = node.getBoundingClientRect(), text = walker.currentNode.textContent.trim();
    if (!text || !box.width || !box.height || node.closest('.unseen, script, dialog:not([open]), .skip') || getComputedStyle(node).visibility === 'hidden') continue;
    const a = light(rgba(getComputedStyle(node).color)), b = light(ground(node)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    least = Math.min(least, ratio);
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${text}`);
    if (parseFloat(getComputedStyle(node).fontSize) < 10) faults.push('small: ' + text);
    if (node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0 && getComputedStyle(node).textOverflow !== 'ellipsis') faults.push('cut off: ' + text);
  }
  for (const button of document.querySelectorAll('button, input[type=range]')) {
    const box = button.getBoundingClientRect();
    if (box.width && (box.width < 24 || box.height < 24)) faults.push(`small target: ${button.textContent || button.id} ${box.width} x ${box.height}`);
    if (box.width && !(button.textContent.trim() || button.labels?.length || button.ariaLabel)) faults.push('without a name: ' + button.outerHTML);
  }
  return {faults, least};
}
"""


class Page:
    """A person's window. `say` evaluates in it; keys, mouse and touch come as from hardware."""

    def __init__(self, chromium, directory, url, width=1280, height=800):
        self.browser = Browser(chromium, directory)
        self.violations = []
        self.browser.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.violations = []; document.addEventListener('securitypolicyviolation', event => violations.push("
            "event.violatedDirective + ' ' + event.blockedURI));",
        )
        self.look(width, height, "light")
        self.url = url
        self.browser.call("Page.navigate", url=url)

    def look(self, width, height, scheme, motion="no-preference", mobile=False):
        self.browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        self.browser.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": motion},
            ],
        )

    def say(self, expression):
        result = self.browser.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression, what=None, seconds=WAIT_SECONDS):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.say(
                f"(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"
            ):  # a page that still loads has little
                return
            time.sleep(0.02)
        raise AssertionError(
            f"not within {seconds} s: {what or expression}; the page: {self.say('JSON.stringify(document.body.dataset)')}"
        )

    def data(self, testid, name):
        return self.say(f"document.querySelector('[data-testid={testid}]').dataset.{name}")

    def until(self, testid, name, value, seconds=WAIT_SECONDS):
        self.wait(
            f"document.querySelector('[data-testid={testid}]')?.dataset.{name} === {json.dumps(value)}",
            f"{testid} {name} {value}",
            seconds,
        )

    def key(self, code, down, **more):
        text = {"Space": " ", "Enter": "\r"}.get(code, code[-1].lower() if code.startswith(("Key", "Digit")) else "")
        self.browser.call(
            "Input.dispatchKeyEvent",
            type="keyDown" if down else "keyUp",
            code=code,
            key=text if text.strip() or code == "Space" else code,
            **({"text": text} if down and text else {}),
            **(
                {"windowsVirtualKeyCode": {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "ArrowRight": 39}[code]}
                if code in ("Tab", "Enter", "Escape", "Space", "ArrowRight")
                else {}
            ),
            **more,
        )

    def press(self, code, **more):
        self.key(code, True, **more)
        self.key(code, False, **more)

    def middle(self, selector):
        box = self.say(
            f"(node => {{ node.scrollIntoView({{block: 'nearest'}}); const box = node.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        return box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]

    def mouse(self, kind, x, y):
        self.browser.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button="left",
            buttons=0 if kind == "mouseReleased" else 1,
            clickCount=1,
        )

    def click(self, selector):
        x, y, _, _ = self.middle(selector)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def touch(self, kind, points):
        self.browser.call(
            "Input.dispatchTouchEvent",
            type=kind,
            touchPoints=[{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)],
        )

    def hide(self):
        """Another tab in front of this one."""
        self.own = self.browser.call("Target.getTargetInfo")["targetInfo"]["targetId"]
        self.front = self.browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.browser.call("Target.activateTarget", targetId=self.front)

    def unhide(self):
        self.browser.call("Target.activateTarget", targetId=self.own)
        self.browser.call("Target.closeTarget", targetId=self.front)

    def complaints(self):
        """What the page said on its console, what its policy refused, what it asked for elsewhere."""
        found = [f"refused by the policy: {violation}" for violation in self.say("window.violations")]
        for event in self.browser.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append("exception: " + json.dumps(parameters["exceptionDetails"])[:500])
            if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append("console: " + json.dumps(parameters["args"])[:300])
            if method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append("log: " + parameters["entry"]["text"])
            if method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(
                ("http://127.0.0.1:", "blob:")
            ):
                found.append("request: " + parameters["request"]["url"])
        self.browser.events.clear()
        return found

    def screenshot(self, name):
        if directory := os.environ.get("APO_SCREENSHOTS"):
            pathlib.Path(directory, name + ".png").write_bytes(
                base64.b64decode(self.browser.call("Page.captureScreenshot")["data"])
            )


def changes(inputs):
    """Inputs without those that say the same as the one before."""
    return [action for i, action in enumerate(inputs) if i == 0 or action != inputs[i - 1]]


def vector(gripper=None, **parts):
    names = ["x", "y", "z", "roll", "pitch", "yaw"]
    return [parts.get(name, 0) for name in names] + [gripper]


class Hearing:
    """What the server heard since this was made."""

    def __init__(self, server):
        self.server, self.begin, self.step = server, len(server.received), len(server.executed)

    def messages(self, *kinds):
        return [message for _, _, message in self.server.received[self.begin :] if message["type"] in kinds]

    def inputs(self):
        return [message["action"] for message in self.messages("input")]

    def steps(self):
        return self.server.executed[self.step :]

    def wait(self, condition, what):
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert (
                time.monotonic() < end
            ), f"{what}; heard: {[m for m in self.messages('take_over', 'input', 'visible', 'pause')][-12:]}"
            time.sleep(0.01)

    def expect(self, *actions):
        """The inputs so far say these, one after another, and nothing else."""
        self.wait(lambda: changes(self.inputs())[-1:] == [actions[-1]], f"no input {actions[-1]}")
        found = changes(self.inputs())
        assert found == list(actions), f"inputs were\n{found}, expected\n{list(actions)}"

    def no_more_inputs(self, seconds=0.4):
        time.sleep(0.1)
        before = len(self.inputs())
        time.sleep(seconds)
        assert len(self.inputs()) == before, f"still inputs: {self.inputs()[before:]}"


def take_over(page, server):
    hearing = Hearing(server)
    page.press(KEYS["take_over"])
    page.until("console", "holder", "me")
    hearing.wait(lambda: hearing.inputs(), "no input after the take-over")
    return hearing


def hand_back(page):
    page.press(KEYS["hand_back"])
    page.until("console", "holder", "nobody")


def quiet_server(**options):
    """One with patience: a busy machine starves a browser for seconds."""
    server = FakeServer(hz=5.0, bare=True, **options)
    server.patience = 60.0
    return server


# ---- the tests, in one window one after another


def shows_what_the_contract_says(page, server):
    page.until("console", "connection", "open")
    page.until("console", "mode", "policy")
    for testid in CONTRACT:
        assert page.say(f"document.querySelectorAll('[data-testid={testid}]').length") == 1, testid
    contract = json.loads(page.say("document.getElementById('console-contract').textContent"))
    assert contract["version"] == 1 and contract["action_size"] == 7 and contract["keys"] == KEYS
    page.wait("Number(document.querySelector('[data-testid=camera-front]').dataset.frame) >= 3")
    assert page.data("console", "episode") == "demo_0" and page.data("console", "episodeState") == "running"
    assert page.data("console", "holder") == "nobody" and page.data("console", "outcome") == ""
    step = int(page.data("console", "step"))
    page.wait(f"Number(document.body.dataset.step) > {step}")
    assert len(json.loads(page.data("policy-action", "value"))) == 7
    assert json.loads(page.data("human-action", "value")) is None
    assert 0 < float(page.data("confidence", "value")) < 1
    page.wait("parseFloat(document.querySelector('[data-testid=since-last-step]').dataset.value) >= 0")
    assert int(page.data("pool-desirable", "value")) > 0 and page.data("pool-undesirable", "value") == "0"
    assert page.say("document.querySelector('[data-testid=instruction]').value") == server.instruction
    assert page.say("document.querySelector('[data-testid=instruction]').readOnly")
    # what a pad does is said as one sees it, beside the axis
    edges = "[...document.querySelectorAll('%s .edge')].map(edge => edge.className.split(' ')[1] + ' ' + edge.textContent)"
    assert page.say(edges % "[data-testid=pad-1-0]") == ["top awayx+W", "bottom towardx−S", "left lefty+A", "right righty−D"]
    assert page.say(edges % "[data-testid=lever-2]") == ["top upz+E", "bottom downz−Q"]
    assert page.say("document.querySelector('[data-testid=pad-1-0]').ariaLabel") == "Pad: left and right, toward and away"


def shows_fresh_pictures(page, server):
    """The wall-clock time from the picture to the screen, as the page's attributes tell it."""
    for _ in range(3):
        ages = sorted(page.say("""new Promise(done => {
          const ages = [], canvas = document.querySelector('[data-testid=camera-front]');
          new MutationObserver(() => { ages.push(Date.now() - Number(canvas.dataset.capturedMs)); if (ages.length >= 40) done(ages); })
              .observe(canvas, {attributeFilter: ['data-frame']});
        })"""))
        print(f"pictures: median {ages[len(ages) // 2]:.0f} ms, 95 % within {ages[int(0.95 * len(ages))]:.0f} ms")
        if ages[len(ages) // 2] < 1000:  # busy machines are slow, but no backlog grows
            break
    else:
        raise AssertionError("pictures are old")
    assert page.say(
        "(canvas => [...canvas.getContext('2d').getImageData(0, 0, 20, 20).data].some(part => part > 100 && part < 255))"
        "(document.querySelector('[data-testid=camera-front]'))"
    ), "nothing drawn"


def takes_over_and_holds_still(page, server):
    page.key(KEYS["+0"], True)  # held from before: does not count
    page.key(KEYS["+0"], True, autoRepeat=True)
    time.sleep(0.2)
    before = len(server.sources)
    hearing = take_over(page, server)
    page.key(KEYS["+0"], True, autoRepeat=True)
    time.sleep(0.4)
    hearing.expect(vector())
    page.key(KEYS["+0"], False)
    hearing.expect(vector())
    still = [action for _, source, action in hearing.steps() if source == "h"]
    assert still and all(action[:6] == [0] * 6 and action[6] == -1 for action in still), still
    page.until("console", "mode", "human")
    page.wait("document.getElementById('why').textContent.includes('first input')")
    begin, end = server.windows[-1]
    assert end >= before and end - begin == min(10, end)
    page.wait(
        f"document.getElementById('preview-text').textContent.includes('{begin}–{end - 1}')",
        "the window of the take-over is told",
    )
    assert page.data("pool-undesirable", "value") == str(end - begin)


def sends_exactly_what_keys_do(page, server):
    hearing = Hearing(server)
    page.key(KEYS["+0"], True)
    hearing.expect(vector(x=0.5))
    page.key(KEYS["+0"], True, autoRepeat=True)
    page.key(KEYS["-1"], True)
    page.key(KEYS["+5"], True)
    hearing.expect(vector(x=0.5), vector(x=0.5, y=-0.5), vector(x=0.5, y=-0.5, yaw=0.5))
    page.until("human-action", "value", json.dumps(vector(x=0.5, y=-0.5, yaw=0.5)[:6] + [-1], separators=(",", ":")))
    page.screenshot("human")
    page.key(KEYS["-0"], True)  # both ways: still
    page.key(KEYS["+0"], False)
    page.key(KEYS["-0"], False)
    page.key(KEYS["-1"], False)
    page.key(KEYS["+5"], False)
    hearing.expect(
        vector(x=0.5),
        vector(x=0.5, y=-0.5),
        vector(x=0.5, y=-0.5, yaw=0.5),
        vector(y=-0.5, yaw=0.5),
        vector(x=-0.5, y=-0.5, yaw=0.5),
        vector(y=-0.5, yaw=0.5),
        vector(yaw=0.5),
        vector(),
    )
    sequence = [message["seq"] for message in hearing.messages("input")]
    assert sequence == list(range(sequence[0], sequence[0] + len(sequence))), "numbers of inputs"
    # at the control rate while nothing changes
    hearing = Hearing(server)
    time.sleep(1.0)
    assert 1 <= len(hearing.inputs()) <= server.hz + 3, f"{len(hearing.inputs())} inputs in a second at {server.hz} Hz"


def scales_speed_and_moves_the_gripper(page, server):
    hearing = Hearing(server)
    page.press(KEYS["faster"])
    page.press(KEYS["faster"])
    page.key(KEYS["+2"], True)
    hearing.expect(vector(), vector(z=0.7))
    page.press(KEYS["slower"])
    page.press(KEYS["slower"])
    page.press(KEYS["slower"])
    page.press(KEYS["gripper"])
    hearing.expect(vector(), vector(z=0.7), vector(z=0.6), vector(z=0.5), vector(z=0.4), vector(1, z=0.4))
    page.press(KEYS["gripper"])
    page.key(KEYS["+2"], False)
    page.press(KEYS["faster"])
    hearing.wait(lambda: hearing.inputs()[-1] == vector(-1), "the gripper opens again")
    page.until("gripper", "value", "open")
    assert page.data("console", "holder") == "me"  # the gripper's key pressed no button


def stops_when_looked_away_from(page, server):
    for gone, back in (
        (lambda: page.say("dispatchEvent(new Event('blur'))"), lambda: page.say("dispatchEvent(new Event('focus'))")),
        (page.hide, page.unhide),
    ):
        page.key(KEYS["+0"], True)
        page.wait("JSON.parse(document.querySelector('[data-testid=human-action]').dataset.value)?.[0] === 0.5")
        hearing = Hearing(server)
        gone()
        hearing.wait(lambda: hearing.messages("visible"), "not told that nobody looks")
        assert hearing.inputs()[-1][:6] == [0] * 6 and hearing.messages("visible") == [
            {"type": "visible", "visible": False}
        ]
        hearing.no_more_inputs()
        assert all(action[:6] == [0] * 6 for _, _, action in hearing.steps()[1:]), hearing.steps()
        hearing = Hearing(server)
        back()
        hearing.wait(
            lambda: hearing.messages("visible") and len(hearing.inputs()) > 2, "not told that somebody looks again"
        )
        assert all(action[:6] == [0] * 6 for action in hearing.inputs()), "a key from before moves the arm"
        page.key(KEYS["+0"], False)
        page.key(KEYS["+0"], True)
        hearing.wait(lambda: hearing.inputs()[-1][0] == 0.5, "pressed anew it moves")
        page.key(KEYS["+0"], False)


def stops_for_dialogs_menus_and_modifiers(page, server):
    page.key(KEYS["+0"], True)
    hearing = Hearing(server)
    page.say("document.getElementById('help-open').click()")
    hearing.wait(lambda: hearing.inputs() and hearing.inputs()[-1][0] == 0, "the dialog stops")
    page.press(KEYS["hand_back"])
    page.screenshot("help")
    page.press("Escape")
    page.wait("!document.querySelector('dialog[open]')")
    assert page.data("console", "holder") == "me"
    page.key(KEYS["+0"], False)
    page.key(KEYS["+0"], True)
    hearing = Hearing(server)
    page.say("dispatchEvent(new MouseEvent('contextmenu', {bubbles: true, cancelable: true}))")
    hearing.wait(lambda: hearing.inputs() and hearing.inputs()[-1][0] == 0, "the menu stops")
    page.key(KEYS["+0"], False)
    page.key(KEYS["+0"], True)
    hearing = Hearing(server)
    page.press("KeyC", modifiers=2)
    hearing.wait(lambda: hearing.inputs() and hearing.inputs()[-1][0] == 0, "Ctrl stops")
    page.key(KEYS["+0"], False)
    # text is text
    hearing = Hearing(server)
    page.say("document.querySelector('[data-testid=instruction]').focus()")
    for code in (KEYS["+0"], KEYS["hand_back"], KEYS["gripper"]):
        page.press(code)
    time.sleep(0.3)
    assert changes(hearing.inputs()) == [vector(-1)] and page.data("console", "holder") == "me", hearing.inputs()
    page.press("Escape")


def obeys_pads(page, server):
    x, y, width, height = page.middle("[data-testid=pad-1-0]")  # y is to the left on its keys, x ahead
    hearing = Hearing(server)
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", x - width * 0.49, y - height * 0.49)
    hearing.wait(
        lambda: changes([vector(-1)] + hearing.inputs()) == [vector(-1), vector(-1, x=0.5, y=0.5)],
        "the pad moves, both numbers at once",
    )
    page.mouse("mouseReleased", x, y)
    hearing.wait(lambda: hearing.inputs()[-1] == vector(-1), "let go it stops")
    first, second = page.middle("[data-testid=pad-1-0]"), page.middle("[data-testid=lever-5]")
    at = [(first[0] + first[2] * 0.49, first[1]), (second[0], second[1] - second[3] * 0.49)]
    hearing = Hearing(server)
    page.touch("touchStart", at)  # two thumbs
    hearing.wait(lambda: hearing.inputs() and hearing.inputs()[-1] == vector(-1, y=-0.5, yaw=0.5), "two thumbs")
    page.say("dispatchEvent(new Event('blur'))")
    hearing.wait(lambda: hearing.inputs()[-1] == vector(-1), "looked away from, it stops")
    page.say("dispatchEvent(new Event('focus'))")
    page.touch("touchMove", [(px - 2, py) for px, py in at])  # the same fingers do not count any more
    time.sleep(0.3)
    assert hearing.inputs()[-1] == vector(-1), hearing.inputs()[-1]
    page.touch("touchEnd", [])


def obeys_a_gamepad(page, server):
    hand_back(page)
    page.say(
        """window.pad = {connected: true, id: 'Test pad (standard)', axes: [0, -1, 0, 0], buttons: Array.from({length: 17}, () => ({pressed: false, value: 0}))};
      navigator.getGamepads = () => [window.pad];
      window.push = (index, down) => { pad.buttons[index] = {pressed: down, value: Number(down)}; };
      dispatchEvent(new Event('gamepadconnected'));"""
    )
    page.until("console", "device", "gamepad")
    hearing = Hearing(server)
    page.say("push(3, true)")
    page.until("console", "holder", "me")
    page.say("push(3, false)")
    time.sleep(0.3)
    assert changes(hearing.inputs()) == [
        vector()
    ], f"a stick that did not rest moves the arm: {changes(hearing.inputs())}"
    page.say("pad.axes = [0, 0, 0, 0]")
    time.sleep(0.15)
    page.say("pad.axes = [1, -1, 0, 0]; push(7, true)")
    hearing.wait(lambda: hearing.inputs()[-1] == vector(x=0.5, y=-0.5, z=0.5), "stick and trigger")
    page.say("pad.axes = [0.05, 0, 1, 1]; push(7, false); push(4, true)")
    hearing.wait(
        lambda: hearing.inputs()[-1] == vector(roll=0.5, pitch=-0.5, yaw=-0.5), "the other stick and a shoulder"
    )
    page.say("pad.axes = [0, 0, 0, 0]; push(4, false); push(0, true)")
    hearing.wait(lambda: hearing.inputs()[-1] == vector(1), "the gripper")
    page.say("push(0, false); push(12, true)")
    time.sleep(0.1)
    page.say("push(12, false); push(13, true)")
    time.sleep(0.1)
    page.say("push(13, false); pad.axes = [1, 0, 0, 0]")
    hearing.wait(lambda: hearing.inputs()[-1] == vector(1, y=-0.5), "moves again")
    page.say("window.pad = null")
    hearing.wait(lambda: hearing.inputs()[-1] == vector(1), "pulled out, it stops")
    page.until("console", "device", "keyboard")


def pauses_and_hands_back(page, server):
    page.key(KEYS["+0"], True)
    page.press(KEYS["pause"])
    page.until("console", "mode", "paused")
    hearing = Hearing(server)
    hearing.no_more_inputs()
    assert not hearing.steps()
    page.screenshot("paused")
    page.press(KEYS["pause"])
    page.until("console", "mode", "human")
    time.sleep(0.3)
    assert all(action[:6] == [0] * 6 for action in hearing.inputs()), "what was held before the pause moves the arm"
    page.key(KEYS["+0"], False)
    hand_back(page)
    hearing = Hearing(server)
    page.press(KEYS["+0"])
    hearing.no_more_inputs()
    page.until("console", "mode", "policy")
    assert {source for _, source, _ in hearing.steps()} == {"p"}


def marks_episodes(page, server):
    assert page.say("document.querySelectorAll('[data-testid=episode-row]').length") == 0
    hearing = take_over(page, server)
    page.press(KEYS["success"])
    page.until("console", "episodeState", "finished")
    assert (
        page.data("console", "outcome") == "success"
        and page.data("console", "success") == "1"
        and page.data("console", "holder") == "nobody"
    )
    page.wait("document.querySelectorAll('[data-testid=episode-row]').length === 1")
    assert page.data("episode-row", "episode") == "demo_0" and page.data("episode-row", "success") == "1"
    # the instruction, between episodes
    page.say(
        "document.querySelector('[data-testid=instruction]').focus(); document.querySelector('[data-testid=instruction]').select()"
    )
    page.browser.call("Input.insertText", text="put the cube <b>down</b>")
    page.press("Enter")
    page.wait("document.querySelector('[data-testid=instruction]').dataset.value === 'put the cube <b>down</b>'")
    hearing.wait(lambda: server.instruction == "put the cube <b>down</b>", "no instruction")  # shown before it is sent
    server.asked = True
    page.until("console", "episode", "demo_1")
    page.until("console", "episodeState", "running")
    page.press(KEYS["failure"])
    page.until("console", "episodeState", "finished")
    page.wait(
        "[...document.querySelectorAll('[data-testid=episode-row]')].map(row => row.dataset.episode + row.dataset.success).join() === 'demo_10,demo_01'"
    )
    server.asked = True
    page.until("console", "episode", "demo_2")
    page.until("console", "episodeState", "running")
    page.press(KEYS["reset"])
    page.wait("document.querySelector('[data-testid=episode-row]').dataset.episode === 'demo_2'")
    page.until("console", "outcome", "reset")
    server.asked = True
    page.until("console", "episode", "demo_3")


def replays(page, server):
    page.click("[data-episode=demo_0][data-testid=episode-row]")
    page.until("replay", "episode", "demo_0")
    sources = server.episodes[0]["sources"]
    assert json.loads(page.data("replay", "sources")) == [{"p": 1, "h": 2}[letter] for letter in sources]
    page.wait("Number(document.querySelector('[data-testid=replay-camera-front]')?.dataset.frame) >= 1")
    step = sources.index("h") + 2
    page.say(
        f"(slider => {{ slider.value = {step}; slider.dispatchEvent(new Event('input')); }})(document.getElementById('replay-step'))"
    )
    page.until("replay", "step", str(step))
    page.wait("document.getElementById('replay-text').textContent.startsWith('human, intervention')")
    page.say("document.getElementById('replay-step').focus()")
    page.press("ArrowRight")
    page.until("replay", "step", str(step + 1))
    page.click("#replay-play")
    page.until("replay", "step", str(step + 4))
    page.screenshot("replay")
    page.click("#replay-close")
    page.until("replay", "episode", "")


def refines(page, server):
    page.click("[data-testid=refine]")
    page.until("refine-state", "value", "running")
    page.wait("document.querySelectorAll('.curve polyline').length === 4")
    page.until("refine-state", "value", "done")
    assert "NaN" not in page.say("document.getElementById('curves').innerHTML")
    assert page.say("document.querySelectorAll('.curve polyline')[0].points.length") == 60


def reached_by_keyboard_alone(page, server):
    page.say("document.activeElement.blur(); scrollTo(0, 0)")
    page.browser.call("Page.reload")
    page.wait("document.body?.dataset.connection === 'open' && document.body.dataset.mode === 'policy'")
    stops = []
    for _ in range(60):
        page.press("Tab")
        stop = page.say(
            """(() => { const node = document.activeElement, box = node.getBoundingClientRect(), style = getComputedStyle(node);
          return [node.dataset.testid || node.id || node.className || node.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
                  box.bottom > 0 && box.top < innerHeight && box.width > 0]; })()"""
        )
        if stop[0] == "console":
            break
        assert stop[1] and stop[2], f"focus is not seen on {stop}"
        stops.append(stop[0])
    for testid in (
        "take-over",
        "hand-back",
        "pause",
        "success",
        "failure",
        "reset",
        "gripper",
        "speed",
        "episode-row",
        "refine",
    ):
        assert testid in stops, f"{testid} is not reached: {stops}"
    while page.say("document.activeElement.dataset.testid") != "take-over":
        page.press("Tab")
    page.screenshot("focus")
    page.press("Enter")
    page.until("console", "holder", "me")
    hearing = Hearing(server)
    page.press("Space")  # the gripper, not the button that was pressed before
    hearing.wait(lambda: hearing.inputs() and hearing.inputs()[-1] == vector(1), "the gripper")
    while page.say("document.activeElement.dataset.testid") != "hand-back":
        page.press("Tab")
    hearing = Hearing(server)
    page.press("Space")  # a button in focus is pressed by it
    page.until("console", "holder", "nobody")
    assert changes(hearing.inputs()) in ([], [vector(1)])
    page.say("document.getElementById('shortcuts').click()")
    page.press(KEYS["take_over"])
    time.sleep(0.3)
    assert page.data("console", "holder") == "nobody", "keys are off"
    page.say("document.getElementById('shortcuts').click()")


def looks_right_everywhere(page, server):
    take_over(page, server)
    for name, width, height, mobile in (
        ("laptop", 1280, 800, False),
        ("tablet", 820, 1180, True),
        ("tablet-wide", 1180, 820, True),
        ("phone", 360, 780, True),
    ):
        for scheme in ("light", "dark"):
            page.look(width, height, scheme, motion="reduce", mobile=mobile)
            time.sleep(0.2)
            found = page.say(f"({LOOKS})()")
            assert not found["faults"], f"{name}, {scheme}: " + "\n".join(found["faults"])
            page.screenshot(f"{name}-{scheme}")
    assert page.say("getComputedStyle(document.getElementById('banner')).transitionDuration") == "0s"
    page.look(1280, 800, "light")
    hand_back(page)


def a_second_person_asks_first(page, server, other):
    take_over(page, server)
    other.until("console", "holder", "other")
    hearing = Hearing(server)
    other.click("[data-testid=take-over]")
    other.wait("document.getElementById('seize').open")
    other.screenshot("second")
    assert not hearing.messages("take_over")
    other.press("Enter")  # what is offered first: leave it
    other.wait("!document.getElementById('seize').open")
    other.press(KEYS["hand_back"])
    other.press(KEYS["success"])
    other.press(KEYS["+0"])
    time.sleep(0.3)
    assert page.data("console", "holder") == "me" and page.data("console", "episodeState") == "running"
    assert {viewer for _, viewer, message in server.received[hearing.begin :] if message["type"] == "input"} == {
        server.holder
    }
    assert not hearing.messages("take_over", "hand_back", "success")
    # a page that has not heard yet is told, and asks
    other.say("dispatchEvent(new Event('focus'))")
    server.loop.call_soon_threadsafe(
        lambda: server.tell(
            list(server.viewers.values())[-1],
            {"type": "notice", "level": "warn", "code": "held", "text": "someone else holds the arm"},
        )
    )
    other.wait("document.getElementById('seize').open")
    other.click("[data-testid=seize]")
    other.until("console", "holder", "me")
    page.until("console", "holder", "other")
    page.wait("document.querySelector('[data-testid=notice][data-level=warn]') !== null")
    assert hearing.messages("take_over") == [{"type": "take_over", "force": True}]
    page.press(KEYS["pause"])  # anybody may stop it
    other.until("console", "mode", "paused")
    other.press(KEYS["pause"])
    other.until("console", "mode", "human")
    hand_back(other)


def survives_the_server(page, server):
    take_over(page, server)
    page.key(KEYS["+0"], True)
    server.stop()
    page.until("console", "connection", "closed")
    page.until("console", "holder", "nobody")
    page.wait("document.querySelector('[data-testid=notice][data-level=error]') !== null")
    assert page.say("document.querySelector('[data-testid=take-over]').getAttribute('aria-disabled')") == "true"
    page.press(KEYS["hand_back"])
    page.screenshot("vanished")
    time.sleep(1.0)
    hearing = Hearing(server)
    server.start()
    page.until("console", "connection", "open")
    page.until("console", "mode", "policy")
    hearing.no_more_inputs()  # the key is down still
    page.key(KEYS["+0"], False)
    take_over(page, server)
    server.silent = True  # a cable pulled: open, but nothing comes
    page.until("console", "connection", "closed", 8)
    server.silent = False
    page.until("console", "connection", "open")
    page.until("console", "holder", "nobody")


def asks_for_the_token(chromium, directory):
    server = quiet_server(token="right one").start()
    page = Page(chromium, directory, server.url)
    try:
        for given in ("wrong", "right one"):
            page.wait("document.getElementById('token').open")
            page.browser.call("Input.insertText", text=given)
            page.press("Enter")
            page.wait("!document.getElementById('token').open")
        page.until("console", "connection", "open")
        page.browser.call("Page.reload")
        page.until("console", "connection", "open")  # kept for this window
        page.say("sessionStorage.clear()")
        page.browser.call("Page.navigate", url="about:blank")
        page.browser.call("Page.navigate", url=server.url + "#token=right%20one")
        page.until("console", "connection", "open")
        assert "token" not in page.say("location.href")
    finally:
        page.browser.close()
        server.stop()


def takes_other_arms(chromium, directory):
    """Of fewer and more numbers, without a gripper, without names, with nothing but watching allowed."""
    two = {
        **{key: code for key, code in KEYS.items() if key[0] not in "+-"},
        "+0": "ArrowUp",
        "-0": "ArrowDown",
        "+1": "ArrowRight",
        "-1": "ArrowLeft",
    }
    server = quiet_server().start()
    server.refinement["curves"] = {
        "loss": [[1, None], [2, 0.5]],
        "one point": [[1, 0.25]],
        "flat": [[1, 1], [2, 1]],
        "none": [],
    }
    page = Page(chromium, directory, "about:blank")
    try:
        for change, pads in (
            ({"action_size": 4, "gripper": 3, "action_names": ["x", "y", "z", "gripper"], "cameras": []}, 2),
            ({"action_size": 14, "gripper": 6, "action_names": [f"joint_{i}_of_the_arm" for i in range(14)]}, 9),
            (
                {
                    "action_size": 2,
                    "gripper": None,
                    "action_names": None,
                    "keys": two,
                    "gripper_open": None,
                    "can": {"reset": False, "refine": False, "instruction": False, "replay": False},
                },
                1,
            ),
        ):
            server.changes = change
            for width in (1280, 820, 360):
                page.look(width, 800, "light", motion="reduce")
                page.browser.call("Page.navigate", url=server.url)
                page.until("console", "mode", "policy")
                page.until("console", "connection", "open")
                page.wait("document.querySelector('[data-testid=camera-front]')?.dataset.frame > 0")
                assert page.say("document.querySelectorAll('.pad').length") == pads
                found = page.say(f"({LOOKS})()")
                assert not found["faults"], f"{change}, {width} wide: " + "\n".join(found["faults"])
        page.screenshot("two")
        page.press(KEYS["take_over"])
        page.until("console", "holder", "me")
        hearing = Hearing(server)
        page.key("ArrowRight", True)
        page.key("ArrowUp", True)
        hearing.wait(lambda: hearing.inputs() and hearing.inputs()[-1] == [0.5, 0.5], "two numbers")
        page.press(KEYS["gripper"])
        page.press(KEYS["reset"])
        assert page.data("console", "episode") == "demo_0" and hearing.inputs()[-1] == [0.5, 0.5]
        complaints = page.complaints()
        assert not complaints, "\n".join(complaints)
    finally:
        page.browser.close()
        server.stop()


def leaves_marks_to_a_simulation(chromium, directory):
    """Marks that do not count are shown, with the reason; where nobody else can tell how it ended, the page asks."""
    server = quiet_server().start()
    server.changes = {"can": {"reset": True, "refine": True, "instruction": False, "replay": True, "mark": False}}
    page = Page(chromium, directory, server.url)
    try:
        page.until("console", "mode", "policy")
        hint = "The simulation says itself how an episode ends."
        for mark in ("success", "failure"):
            assert page.say(f"document.querySelector('[data-testid={mark}]').getAttribute('aria-disabled')") == "true"
            page.press(KEYS[mark])
            page.wait(f"[...document.querySelectorAll('[data-testid=notice]')].some(line => line.textContent.includes('{hint}'))")
        assert page.say("document.getElementById('mark-hint').innerText") == hint
        assert page.data("console", "episodeState") == "running", "a mark that does not count ended the episode"
        server.changes, server.asks = {}, True
        page.browser.call("Page.navigate", url=server.url)
        page.wait("document.getElementById('who').textContent === 'How did it end?'", "it is not asked how the episode ended")
        assert page.say("document.querySelector('[data-testid=take-over]').getAttribute('aria-disabled')") == "true"
        page.press(KEYS["failure"])
        page.until("console", "success", "0")
        complaints = page.complaints()
        assert not complaints, "\n".join(complaints)
    finally:
        page.browser.close()
        server.stop()


def main():
    chromium = shutil.which(sys.argv[1]) if len(sys.argv) > 1 else None
    for name in ("chromium", "chromium-browser", "google-chrome"):
        chromium = chromium or shutil.which(name)
    if not chromium:
        print("skipped: no Chromium here (scripts/setup.sh --browser installs it)")
        return SKIPPED
    with tempfile.TemporaryDirectory() as temporary:
        server = quiet_server().start()
        page = other = None
        try:
            page = Page(chromium, f"{temporary}/first", server.url)
            for test in (
                shows_what_the_contract_says,
                shows_fresh_pictures,
                takes_over_and_holds_still,
                sends_exactly_what_keys_do,
                scales_speed_and_moves_the_gripper,
                stops_when_looked_away_from,
                stops_for_dialogs_menus_and_modifiers,
                obeys_pads,
                obeys_a_gamepad,
                pauses_and_hands_back,
                marks_episodes,
                replays,
                refines,
                reached_by_keyboard_alone,
                looks_right_everywhere,
            ):
                test(page, server)
                complaints = page.complaints()
                assert not complaints, f"{test.__name__}: " + "\n".join(complaints)
                print("passed:", test.__name__)
            other = Page(chromium, f"{temporary}/second", server.url)
            a_second_person_asks_first(page, server, other)
            complaints = page.complaints() + other.complaints()
            assert not complaints, "\n".join(complaints)
            print("passed:", a_second_person_asks_first.__name__)
            survives_the_server(page, server)
            complaints = [
                line for line in page.complaints() if "ERR_CONNECTION" not in line and "WebSocket" not in line
            ]
            assert not complaints, "\n".join(complaints)
            print("passed:", survives_the_server.__name__)
        finally:
            for one in (page, other):
                if one:
                    one.browser.close()
            server.stop()
        asks_for_the_token(chromium, f"{temporary}/token")
        print("passed:", asks_for_the_token.__name__)
        takes_other_arms(chromium, f"{temporary}/arms")
        print("passed:", takes_other_arms.__name__)
        leaves_marks_to_a_simulation(chromium, f"{temporary}/marks")
        print("passed:", leaves_marks_to_a_simulation.__name__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
