"""``python -m suites.dashboard.site``: asv's page, with the files that it would load from the network beside it."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NPM = ("package.json", "package-lock.json", ".npmrc")
VENDOR = "vendor"
# By what asv's page calls the file: where it is among npm's packages.
PLACES = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
FONTS = "bootstrap/dist/fonts"  # of its style sheet
_LOADED = re.compile(r'(<(?:script|link)\b[^>]*?\b(?:src|href)=")(https?://[^"]*/([^"/]+))("[^>]*>)')
_ONLY_FOR_NETWORK = re.compile(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"')


class SiteError(Exception):
    """The page cannot be made."""


def local_page(page: str) -> tuple[str, list[str]]:
    """The page with every file that it loads beside it, and the names of these files."""
    used: list[str] = []

    def local(found: re.Match[str]) -> str:
        before, address, name, after = found.groups()
        if name not in PLACES:
            raise SiteError(f"asv's page loads {address}, which no package here has: expected asv 0.6.6. Add it.")
        used.append(name)
        return before + f"{VENDOR}/{PLACES[name]}" + _ONLY_FOR_NETWORK.sub("", after)

    changed = _LOADED.sub(local, page)
    if not used:
        raise SiteError("asv's page loads nothing from the network: expected asv 0.6.6, whose page does.")
    return changed, used


def packages(folder: Path) -> Path:
    """npm's packages at their locked versions, installed once."""
    npm = shutil.which("npm")
    if npm is None:
        raise SiteError("expected npm, which brings the scripts of asv's page, got none. Install Node.js 18 or newer.")
    lock = (HERE / "package-lock.json").read_bytes()
    stamp = folder / "node_modules/.installed"
    if not (stamp.exists() and stamp.read_bytes() == lock):
        folder.mkdir(parents=True, exist_ok=True)
        for name in NPM:
            shutil.copyfile(HERE / name, folder / name)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(command, cwd=folder, check=False).returncode:  # noqa: S603 our own command
            raise SiteError("npm could not install the scripts of asv's page: see above.")
        stamp.write_bytes(lock)
    return folder / "node_modules"


def vendor(html: Path, modules: Path) -> int:
    """Put the files of the page at ``html`` beside it; how many there are."""
    page = html / "index.html"
    changed, used = local_page(page.read_text("utf-8"))
    for name in used:
        target = html / VENDOR / PLACES[name]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(modules / PLACES[name], target)
    shutil.copytree(modules / FONTS, html / VENDOR / FONTS, dirs_exist_ok=True)
    page.write_text(changed, "utf-8")
    return len(used)


def main() -> str | None:
    parser = argparse.ArgumentParser(prog="python -m suites.dashboard.site", description=__doc__)
    parser.add_argument("html", type=Path, help="the folder that asv publish has written")
    parser.add_argument("--npm", type=Path, default=Path(".asv/npm"), help="where npm's packages go (%(default)s)")
    options = parser.parse_args()
    if not (options.html / "index.html").exists():
        return f"expected a page of asv publish in {options.html}, got none"
    try:
        count = vendor(options.html, packages(options.npm))
    except SiteError as error:
        return str(error)
    print(f"{count} files of the page are local now; view it: python -m http.server --directory {options.html}")  # noqa: T201
    return None


if __name__ == "__main__":
    sys.exit(main())
