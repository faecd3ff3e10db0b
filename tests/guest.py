"""A guest in a real browser: clicks a star, writes a private word, follows a link to a map. What is clicked is what the browser has
drawn at that place; no script runs, neither the page's nor ours. The map's own page is not loaded: where the browser wanted to go is looked at.

Usage: guest.py LINK STARS COMMENT MAP_NAME MAP_URL (with an empty COMMENT nothing is written)."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time

TIMEOUT_S = 30
AGENT = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36"


class Browser:
    """Chromium, driven by its pipe: each message is JSON with a zero byte behind it."""

    def __init__(self, folder):
        ours_read, theirs_write = os.pipe()
        theirs_read, ours_write = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe --window-size=390,844"
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec chromium {flags} --user-data-dir="$0" --user-agent="$1" about:blank 3<&{theirs_read} 4>&{theirs_write}', folder, AGENT],
            pass_fds=(theirs_read, theirs_write), stderr=subprocess.DEVNULL,
        )
        os.close(theirs_read)
        os.close(theirs_write)
        self.to, self.out, self.buffer, self.number, self.events, self.session = ours_write, ours_read, b"", 0, [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("DOM.enable")
        self.ask("Emulation.setScriptExecutionDisabled", value=True)

    def message(self, until):
        while b"\0" not in self.buffer:
            if time.monotonic() > until:
                raise SystemExit("the browser does not answer")
            os.set_blocking(self.out, False)
            try:
                piece = os.read(self.out, 1 << 16)
                if not piece:
                    raise SystemExit("the browser is gone")
                self.buffer += piece
            except BlockingIOError:
                time.sleep(0.01)
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + TIMEOUT_S
        while True:
            answer = self.message(until)
            if answer.get("id") != self.number:
                self.events.append(answer)
            elif "error" in answer:
                raise SystemExit(f"{method}: {answer['error']}")
            else:
                return answer["result"]

    def wait(self, method):
        """The parameters of the next event of this name, those that came while something was asked included."""
        until = time.monotonic() + TIMEOUT_S
        while True:
            for place, event in enumerate(self.events):
                if event.get("method") == method:
                    return self.events.pop(place)["params"]
            self.events.append(self.message(until))

    def open(self, url):
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def find(self, selector):
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        return self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]

    def text(self, selector):
        html = self.ask("DOM.getOuterHTML", nodeId=self.find(selector))["outerHTML"]
        return html.split(">", 1)[1].rsplit("<", 1)[0]

    def click(self, selector):
        node = self.find(selector)
        if node == 0:
            raise SystemExit(f"nothing to click: {selector}")
        self.ask("DOM.scrollIntoViewIfNeeded", nodeId=node)
        corners = self.ask("DOM.getContentQuads", nodeId=node)["quads"][0]
        at = {"x": sum(corners[0::2]) / 4, "y": sum(corners[1::2]) / 4}
        self.events.clear()
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)


def main():
    link, stars, comment, map_name, map_url = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(folder)
        try:
            browser.open(link)
            browser.click(f'button[name="stars"][value="{stars}"]')
            browser.wait("Page.loadEventFired")
            given = browser.ask("DOM.getAttributes", nodeId=browser.find(".given"))["attributes"]
            assert given[given.index("aria-label") + 1].startswith(f"{stars} "), given
            if comment:
                browser.click("textarea")
                browser.ask("Input.insertText", text=comment)
                before = browser.text("h1")
                browser.click("form.comment button")
                browser.wait("Page.loadEventFired")
                assert browser.text("h1") != before and browser.find("textarea") == 0, browser.text("main")
            browser.ask("Fetch.enable", patterns=[{"urlPattern": "https://*"}])
            browser.click(f'a.map[href$="/go/{map_name}"]')
            wanted = browser.wait("Fetch.requestPaused")
            assert wanted["request"]["url"] == map_url, wanted["request"]["url"]
            assert "Referer" not in wanted["request"]["headers"], wanted["request"]["headers"]
            page = base64.b64encode(b"<h1>a map</h1>").decode()
            headers = [{"name": "content-type", "value": "text/html"}]
            browser.ask("Fetch.fulfillRequest", requestId=wanted["requestId"], responseCode=200, responseHeaders=headers, body=page)
            browser.wait("Page.loadEventFired")
            assert browser.text("h1") == "a map"
        finally:
            browser.process.kill()
            browser.process.wait()


main()
