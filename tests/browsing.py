"""What tests of pages do with a browser."""

import time


def show(browser, page):
    """Open a page and wait until its rows are unpacked."""
    browser.get(page.as_uri())
    for _ in range(100):
        if browser.execute_script("return document.documentElement.dataset.ready"):
            return
        time.sleep(0.05)
    raise AssertionError("the rows of the page were not unpacked")


def emulate(browser, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
