"""A page in Debian's Chromium: what it says, what it asks of the network, what it complains about."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
LOGS = ("browser", "performance")
PROGRAMS = ("chromium", "chromedriver")


class Browser:
    """One window; `open` starts anew."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, *, dark: bool = False, width: int = 1280, height: int = 1000) -> None:
        """Show the file, and check that this takes no request and no complaint."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for log in LOGS:
            self.driver.get_log(log)  # what came before is none of the page's
        self.driver.get(page.as_uri())
        self.assert_quiet(page)

    def assert_quiet(self, page: Path) -> None:
        """Since it was opened, nothing but the file itself was asked for, and the console is empty."""
        asked = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [entry["params"]["request"]["url"] for entry in asked if entry["method"] == "Network.requestWillBeSent"]
        elsewhere = [url for url in urls if url != page.as_uri() and not url.startswith(("about:", "data:", "blob:"))]
        assert elsewhere == []
        assert [entry["message"] for entry in self.driver.get_log("browser")] == []

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def one(self, css: str) -> WebElement:
        """The element."""
        return self.driver.find_element("css selector", css)

    def all(self, css: str) -> list[WebElement]:
        """The elements."""
        return self.driver.find_elements("css selector", css)

    def text(self, css: str) -> str:
        """The element's text, shown or not."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", css))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a new profile in `folder`; where there is none, the test is skipped (or fails, if CI says so)."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        reason = f"{' and '.join(missing)} not found; install Debian's packages chromium and chromium-driver"
        if os.environ.get("ANCHORFLOW_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", dict.fromkeys(LOGS, "ALL"))
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def choose(browser: Browser, css: str, option: int) -> None:
    """As a reader does, whatever the option is called."""
    chosen = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
    browser.run(chosen, browser.one(css), option)
