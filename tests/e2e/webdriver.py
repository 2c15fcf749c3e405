# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Headless Chromium by the W3C WebDriver protocol: JSON over HTTP to chromedriver, nothing else."""

import json
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

DRIVER = "/usr/bin/chromedriver"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--window-size=1000,800"]
WAIT_S = 20.0


class Browser:
    """One Chromium with a fresh profile."""

    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="tidewire-chromium-",
                                                   ignore_cleanup_errors=True)
        self.driver = subprocess.Popen([DRIVER, "--port=0"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            self.base = f"http://127.0.0.1:{self._port()}"
            self.session = None
            self._start()
        except Exception:
            self.quit()
            raise

    def _port(self):
        for line in self.driver.stdout:
            found = re.search(r"successfully on port (\d+)", line)
            if found:
                return int(found.group(1))
        raise RuntimeError("chromedriver did not start")

    def _start(self):
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={self.profile.name}"]}
        wanted = {"browserName": "chrome", "acceptInsecureCerts": True, "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = answer["sessionId"]
        self.first = self.call("GET", "/window")

    def call(self, method, path, body=None):
        prefix = f"/session/{self.session}" if path != "/session" else ""
        data = json.dumps(body or {}).encode() if method == "POST" else None
        req = urllib.request.Request(self.base + prefix + path, data, method=method,
                                     headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(req, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            value = json.load(e)["value"]
            raise RuntimeError(f"{value['error']}: {value['message']}") from None

    def open(self, url):
        """A new tab."""
        handle = self.call("POST", "/window/new", {"type": "tab"})["handle"]
        tab = Tab(self, handle)
        tab.go(url)
        return tab

    def console(self):
        """The lines on the console since the last call."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def close_tabs(self):
        for handle in self.call("GET", "/window/handles"):
            if handle != self.first:
                self.call("POST", "/window", {"handle": handle})
                self.call("DELETE", "/window")
        self.call("POST", "/window", {"handle": self.first})

    def quit(self):
        if getattr(self, "session", None):
            try:
                self.call("DELETE", "")
            except (OSError, RuntimeError):
                pass  # it has gone already
        self.driver.terminate()
        self.driver.wait(20)
        self.driver.stdout.close()
        self.profile.cleanup()


class Tab:
    """A tab of the browser. Each call makes it the current one."""

    def __init__(self, browser, handle):
        self.browser = browser
        self.handle = handle

    def _call(self, method, path, body=None):
        self.browser.call("POST", "/window", {"handle": self.handle})
        return self.browser.call(method, path, body)

    def go(self, url):
        self._call("POST", "/url", {"url": url})

    def close(self):
        self._call("DELETE", "/window")

    def run(self, script, *args):
        return self._call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def run_async(self, script, *args):
        """The script calls its last argument with the result."""
        return self._call("POST", "/execute/async", {"script": script, "args": list(args)})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector):
        return self.run("return Array.from(document.querySelectorAll(arguments[0]),"
                        " (e) => e.textContent)", selector)

    def _element(self, selector):
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def click(self, selector):
        self._call("POST", f"/element/{self._element(selector)}/click")

    def type(self, selector, text):
        """Keys into a field that is emptied first; "\\n" is the enter key."""
        element = self._element(selector)
        self._call("POST", f"/element/{element}/clear")
        self._call("POST", f"/element/{element}/value", {"text": text.replace("\n", "\ue007")})

    def wait(self, what, check, timeout=WAIT_S):
        """Until check(self) is true; `what` is for the message."""
        deadline = time.monotonic() + timeout
        while not (value := check(self)):
            if time.monotonic() > deadline:
                state = self.run("return document.body.innerText")
                raise AssertionError(f"{what}: not within {timeout} s. The page:\n{state}")
            time.sleep(0.05)
        return value
