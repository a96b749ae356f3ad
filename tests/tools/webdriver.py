"""A headless Chromium by plain WebDriver calls (https://www.w3.org/TR/webdriver2/): Debian's chromium and chromium-driver."""

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

from cases import Failure, Skip

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
HOME, LEFT, RIGHT = "\ue011", "\ue012", "\ue014"  # keys


class Browser:
    """As a context: at its end the browser and its driver are gone."""

    def __init__(self):
        programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
        for name, path in programs.items():
            if path is None:
                raise Skip(f"no {name} here; Debian's packages chromium and chromium-driver have it")
        self.profile = os.path.abspath("chromium-profile")
        self.driver = subprocess.Popen([programs["chromedriver"], "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.session = None
        for line in self.driver.stdout:
            if port := re.search(r"started successfully on port (\d+)", line):
                self.url = f"http://127.0.0.1:{port[1]}"
                break
        else:
            raise Failure("chromedriver does not start")
        options = {"binary": programs["chromium"], "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                                            "--hide-scrollbars", f"--user-data-dir={self.profile}"]}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = made["sessionId"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            if self.session:
                self.call("DELETE", f"/session/{self.session}")
        finally:
            self.driver.terminate()
            self.driver.wait(20)

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method, headers={"Content-Type": "application/json"},
                                         data=json.dumps(body).encode() if body is not None else None)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise Failure(f"{method} {path}: {error.read().decode()[:500]}") from error

    def post(self, path, **body):
        return self.call("POST", f"/session/{self.session}{path}", body)

    def open(self, file, width, height=900, dark=False):
        devtools = "/goog/cdp/execute"
        self.post(devtools, cmd="Emulation.setDeviceMetricsOverride",
                  params={"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
        self.post(devtools, cmd="Emulation.setEmulatedMedia",
                  params={"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                                       {"name": "prefers-reduced-motion", "value": "reduce"}]})  # scrolling jumps
        self.post("/url", url="file://" + os.path.abspath(file))

    def script(self, text, *arguments):
        return self.post("/execute/sync", script=text, args=list(arguments))

    def elements(self, css):
        return [found[ELEMENT] for found in self.post("/elements", using="css selector", value=css)]

    def click(self, element):
        self.post(f"/element/{element}/click")

    def keys(self, element, text):
        self.post(f"/element/{element}/value", text=text)

    def errors(self):
        """What the console has of errors since the last call."""
        return [entry["message"] for entry in self.post("/se/log", type="browser") if entry["level"] == "SEVERE"]
