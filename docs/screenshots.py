"""Make the pictures of the README from a hub that runs the demonstration.

Run: python manage.py up --demo --port 8123, then
python docs/screenshots.py http://127.0.0.1:8123 PASSWORD [chromium].
Shapes: writes docs/applications.png and docs/application.png, 1440 by 900.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
SHOTS = {
    "applications": ("/applications", ""),
    "application": ("/applications/argocd/nginx", ".node:has-text('Deployment')"),
}


def main(url: str, password: str, browser: str) -> None:
    """Sign in, open each page, keep what it looks like."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{url}/login")
        page.fill("input[name=login]", "admin")
        page.fill("input[name=password]", password)
        page.click("form:has(input[name=password]) button[type=submit]")
        page.wait_for_url(lambda address: "/login" not in address)
        for name, (path, click) in SHOTS.items():
            page.goto(url + path)
            page.wait_for_selector("[data-state=live]")
            if click:
                page.click(click)
                page.wait_for_selector("#panel .facts2")
            page.screenshot(path=str(FOLDER / f"{name}.png"))
        chromium.close()


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        sys.argv[3] if len(sys.argv) > 3 else shutil.which("chromium") or "chromium",
    )
